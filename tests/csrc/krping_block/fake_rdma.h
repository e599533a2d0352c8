/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fake_rdma.h: an RDMA provider without a network, whose only peer is played by the
 * program that uses it, one message at a time. Local memory of work requests must be
 * registered, and what a peer is said to reach must be too.
 */
#ifndef TESTS_FAKE_RDMA_H
#define TESTS_FAKE_RDMA_H

#include <stdbool.h>

#include "krping/provider.h"

struct fake_rdma {
	bool local_dma; /* RDMA_CAN_LOCAL_DMA_LKEY */
	/* Played by the program. */
	void (*idle)(void);	/* nothing is left to be done: cause something, or stop */
	void (*connect)(const struct rackwire_roce_conn_param *param);
	void (*send)(const uint8_t *message, uint32_t length);
	void (*write)(uint64_t addr, uint32_t rkey, const uint8_t *data, uint32_t length, bool imm, uint32_t tag);
	/* READ: fills @data. */
	void (*read)(uint64_t addr, uint32_t rkey, uint8_t *data, uint32_t length);
	/* What the program may look at. */
	bool connected; /* there is a queue pair and an id that was accepted or connected */
	uint32_t receives; /* posted */
	uint64_t accepted, rejected;
	uint32_t welcome_length;
	uint8_t welcome[224]; /* private data of the last accept() or reject() */
};

extern struct fake_rdma fake;

void fake_reset(void);
/* A message comes in. false: no receive was posted. */
bool fake_deliver(const void *message, uint32_t length);
bool fake_deliver_imm(uint32_t imm, uint32_t length);
/* Memory of the program under test as its peer reaches it; NULL: it may not. */
uint8_t *fake_reach(uint64_t addr, uint32_t rkey, uint32_t length, uint32_t access);
void fake_request(const void *private_data, uint32_t length); /* a connection request */
void fake_event(uint32_t kind, int error, const void *private_data, uint32_t length);
void fake_failure(uint32_t status); /* a completion with an error */

#endif
