/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * raw.h: an end of a connection made by hand on rackwire_roce.h, which can send
 * what krping never would. Everything waits for at most ten seconds.
 */
#ifndef RACKWIRE_TESTS_KRPING_RAW_H
#define RACKWIRE_TESTS_KRPING_RAW_H

#include <stdbool.h>
#include <stdint.h>

#include "rackwire_roce.h"

#define RAW_MEMORY 8192

struct raw {
	struct rackwire_roce_dev *dev;
	struct rackwire_roce_pd *pd;
	struct rackwire_roce_cq *cq;
	struct rackwire_roce_mr *mr;
	struct rackwire_roce_qp *qp;
	struct rackwire_roce_cm_id *id, *listener;
	uint16_t port;
	uint8_t memory[RAW_MEMORY]; /* registered, all access */
	struct rackwire_roce_cm_event event; /* the latest */
};

int raw_open(struct raw *r);
void raw_close(struct raw *r);
/* Connect to krping's server at 127.0.0.1. Return: 0; -ECONNREFUSED with the REJ in r->event. */
int raw_connect(struct raw *r, uint16_t port, const void *private_data, uint32_t length);
int raw_listen(struct raw *r);
/* Wait for a client of krping and let it in. */
int raw_accept(struct raw *r, const void *private_data, uint32_t length);
/* SEND @length bytes, wait for the completion. Return: its status, or -ETIMEDOUT. */
int raw_send(struct raw *r, const void *data, uint32_t length);
/* Advertise memory. Return: as raw_send(). */
int raw_advertise(struct raw *r, uint64_t addr, uint32_t rkey, uint32_t size);
/* Wait for a message, of which at most @room bytes are copied. Return: its length; -EPIPE (flushed); -ETIMEDOUT. */
int raw_recv(struct raw *r, void *data, uint32_t room);
/* Wait until the peer has disconnected. */
bool raw_disconnected(struct raw *r);

#endif
