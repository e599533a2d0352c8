/* SPDX-License-Identifier: BSD-2-Clause */
/* pair.h: devices, queue pairs connected to each other, and work done over them. */
#ifndef ROCE_PAIR_H
#define ROCE_PAIR_H

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "rackwire_roce.h"
#include "tap.h"

#define MS 1000000ULL
#define SECOND 1000000000ULL
#define MEMORY (1u << 20)
#define CM_PORT 7471

/* One end: a device of its own or a shared one, and one queue pair. */
struct end {
	struct rackwire_roce_dev *dev;
	bool own_dev;
	struct rackwire_roce_pd *pd;
	struct rackwire_roce_cq *cq;
	struct rackwire_roce_qp *qp;
	struct rackwire_roce_mr *mr;
	struct rackwire_roce_cm_id *id;
	unsigned char *memory; /* MEMORY bytes */
};

/* A port that other tests on this machine do not use. */
uint16_t test_udp_port(void);
int dev_open(const char *local, uint32_t flags, struct rackwire_roce_dev **out);
/* Return: 0 or -errno, of the first thing that failed. */
int end_init(struct end *e, struct rackwire_roce_dev *dev);
int end_open(struct end *e, const char *local, uint32_t flags);
/* Everything but the device. */
void end_clear(struct end *e);
void end_close(struct end *e);

int end_listen(struct end *e, uint16_t port, struct rackwire_roce_cm_id **listener);
/* Start connecting; end_established() waits for the end of it. */
int end_connect(struct end *e, const char *address, uint16_t port);
/* Take the next connection request. */
int end_accept(struct end *e);
int end_established(struct end *e);
/* Both ends in this process: listen, connect, accept. */
int pair_connect(struct end *client, struct end *server, const char *address);

/* Post one request from @offset of our memory to @offset of @peer's. */
int end_post(struct end *e, uint32_t opcode, uint32_t offset, uint32_t length, uint64_t peer_addr, uint32_t peer_key,
	     uint64_t wr_id);
int end_post_recv(struct end *e, uint32_t offset, uint32_t length, uint64_t wr_id);
/* The next completion, within ten seconds. Return: its status, or -ETIMEDOUT. */
int end_complete(struct end *e, struct rackwire_roce_wc *wc);

void fill(unsigned char *to, size_t length, uint32_t seed);
bool filled(const unsigned char *from, size_t length, uint32_t seed);

static inline uint64_t addr_of(const struct end *e, uint32_t offset)
{
	return (uint64_t)(uintptr_t)(e->memory + offset);
}

#define EVENTUALLY(condition)                                      \
	do {                                                       \
		int tries_ = 0;                                    \
		while (!(condition) && tries_++ < 10000)           \
			usleep(1000);                              \
		TAP_CHECK(condition);                              \
	} while (0)

#endif
