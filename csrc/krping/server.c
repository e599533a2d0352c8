// SPDX-License-Identifier: BSD-2-Clause
/*
 * The server's side of connections: who is let in, and with what. Each client
 * has objects of its own, so that none disturbs another.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "address.h"
#include "work.h"

#define BACKLOG 1024

uint32_t server_unsupported(const struct rackwire_krping_work *w, uint32_t flags)
{
	uint32_t can = w->info.features, cannot = 0;

	if (!(can & RDMA_CAN_SEND_INV))
		cannot |= flags & RACKWIRE_KRPING_SERVER_INV;
	if (!(can & RDMA_CAN_READ_INV))
		cannot |= flags & RACKWIRE_KRPING_READ_INV;
	if (!(can & RDMA_CAN_LOCAL_DMA_LKEY))
		cannot |= flags & RACKWIRE_KRPING_LOCAL_DMA_LKEY;
	return cannot;
}

int server_open(struct rackwire_krping_work *w, char *error, size_t length)
{
	struct sockaddr_storage at = w->address;
	int err;

	if (!at.ss_family)
		at.ss_family = AF_INET6;
	rackwire_address_set_port(&at, w->config.port);
	err = w->ops->listen(w->dev, (struct sockaddr *)&at, BACKLOG, w, &w->listener, &w->port);
	if (err && length)
		snprintf(error, length, "port %u: %s", w->config.port, strerror(-err));
	return err;
}

/* ---- a request ---- */

static void refuse(struct rackwire_krping_work *w, struct rdma_id *id, bool classic, const struct wire_grant *grant)
{
	uint8_t bytes[WIRE_GRANT_LEN];

	wire_grant_encode(bytes, grant);
	w->ops->reject(id, classic ? NULL : bytes, classic ? 0 : sizeof(bytes));
	w->ops->id_destroy(id);
	work_count(w, RACKWIRE_KRPING_REFUSED, 1);
}

static uint8_t judge(const struct rackwire_krping_work *w, const struct wire_wish *wish, struct wire_grant *grant)
{
	bool atomic = wish->op >= RACKWIRE_KRPING_OP_FADD;

	if (!wire_wish_valid(wish))
		return WIRE_NONSENSE;
	grant->flags = wire_flags(server_unsupported(w, wire_flags_back(wish->flags)));
	if (grant->flags || (atomic && !(w->info.features & RDMA_CAN_ATOMICS)))
		return WIRE_UNSUPPORTED;
	grant->size = w->config.length;
	if (wish->size > w->config.length)
		return WIRE_TOO_LONG;
	grant->flags = wish->flags;
	grant->txdepth = wish->txdepth;
	return WIRE_GRANTED;
}

static uint8_t min8(uint32_t a, uint32_t b)
{
	return (uint8_t)(a < b ? a : b);
}

static int take_in(struct rackwire_krping_work *w, struct krping_conn *c, const struct rdma_event *event,
		   const struct wire_grant *grant)
{
	const struct rackwire_krping_config *config = &w->config;
	uint8_t bytes[WIRE_GRANT_LEN];
	struct rackwire_roce_conn_param param = {
		.responder_resources = min8(event->responder_resources, w->info.max_rd_atomic),
		.initiator_depth = min8(event->initiator_depth, w->info.max_rd_atomic),
		.retry_count = (uint8_t)(config->retry_count - 1),
		.rnr_retry_count = (uint8_t)(config->rnr_retry_count - 1),
		.min_rnr_timer = WORK_RNR_TIMER,
		.ack_timeout = (uint8_t)config->ack_timeout,
		.tos = config->tos,
	};
	int err;

	if (!c->classic) {
		wire_grant_encode(bytes, grant);
		param.private_data = bytes;
		param.private_data_len = sizeof(bytes);
	}
	err = conn_queue_pair(c);
	return err ? err : w->ops->accept(c->id, c->qp, &param, c);
}

static void request(struct rackwire_krping_work *w, const struct rdma_event *event)
{
	struct wire_grant grant = { .version = WIRE_VERSION };
	struct wire_wish wish = { .kind = RACKWIRE_KRPING_PING };
	bool classic = !wire_wish_decode(event->private_data, event->private_data_len, &wish);
	struct krping_conn *c;
	int err;

	if (!classic)
		grant.status = judge(w, &wish, &grant);
	c = grant.status ? NULL : conn_new(w, wish.kind);
	if (!c) {
		if (!grant.status)
			grant.status = WIRE_FULL;
		refuse(w, event->id, classic, &grant);
		return;
	}
	c->id = event->id;
	c->peer = event->peer;
	c->classic = classic;
	c->exact = wish.flags & WIRE_EXPLICIT;
	c->op = wish.op;
	c->length = wish.size;
	c->txdepth = wish.txdepth;
	c->flags = (classic ? w->config.flags : wire_flags_back(wish.flags)) |
		   (w->config.flags & RACKWIRE_KRPING_VERBOSE);
	c->deadline = rackwire_now_ns() + w->config.timeout_ns;
	err = take_in(w, c, event, &grant);
	if (!err)
		return;
	grant.status = err == -ENOMEM ? WIRE_NO_MEMORY : WIRE_FULL;
	c->id = NULL;
	conn_free(c);
	refuse(w, event->id, classic, &grant);
}

void server_event(struct rackwire_krping_work *w, const struct rdma_event *event)
{
	if (event->kind == RACKWIRE_ROCE_CM_CONNECT_REQUEST)
		request(w, event);
}
