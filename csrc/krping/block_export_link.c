// SPDX-License-Identifier: BSD-2-Clause
/* Links: connections of NBD servers. */
#include "block_export.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define RNR_TIMER 8 /* 0.16 ms [IBTA 9.7.5.2.8] */
#define ACK_TIMEOUT 16 /* 0.27 s */

static uint32_t cq_needs(const struct export_link *l)
{
	return 2 * l->slots + 8;
}

struct export_link *link_of(struct rackwire_krping_exporter *x, uint64_t wr_id)
{
	uint32_t index = wr_id >> 24 & 0xff;
	struct export_link *l = index < EXPORT_LINKS ? x->links[index] : NULL;

	/* A completion may outlive its connection. */
	return l && l->gen == (uint32_t)(wr_id >> 32) && l->state != LINK_OVER ? l : NULL;
}

/* ---- making and ending ---- */

static struct export_link *link_new(struct rackwire_krping_exporter *x)
{
	struct export_link *l;
	uint32_t i = 0;

	while (i < EXPORT_LINKS && x->links[i])
		i++;
	l = i < EXPORT_LINKS ? calloc(1, sizeof(*l)) : NULL;
	if (!l)
		return NULL;
	l->exporter = x;
	l->index = i;
	l->gen = ++x->gen;
	x->links[i] = l;
	x->nlinks++;
	return l;
}

static void link_free(struct export_link *l)
{
	struct rackwire_krping_exporter *x = l->exporter;
	uint32_t i;

	for (i = 0; l->requests && i < l->slots; i++)
		request_release(&l->requests[i]);
	if (l->mr)
		x->ops->mr_deregister(l->mr);
	if (l->memory)
		munmap(l->memory, l->memory_bytes);
	free(l->requests);
	x->links[l->index] = NULL;
	x->nlinks--;
	free(l);
}

static void forget_hungry(struct export_link *l)
{
	struct rackwire_krping_exporter *x = l->exporter;
	struct export_request **at = &x->hungry;

	while (*at) {
		if ((*at)->link == l)
			*at = (*at)->next;
		else
			at = &(*at)->next;
	}
	x->hungry_last = at;
}

void link_kill(struct export_link *l)
{
	struct rackwire_krping_exporter *x = l->exporter;

	if (l->state == LINK_OVER)
		return;
	if (l->state == LINK_READY)
		rackwire_stats_set(&x->stats, RACKWIRE_KRPING_BLOCK_CLIENTS,
				   x->stats.counters[RACKWIRE_KRPING_BLOCK_CLIENTS] - 1);
	l->nwr = 0;
	forget_hungry(l);
	if (l->qp) {
		x->ops->disconnect(l->id);
		x->ops->qp_destroy(l->qp);
		x->cq_used -= cq_needs(l);
	} else if (l->state == LINK_HELD) {
		x->ops->reject(l->id, NULL, 0);
	}
	x->ops->id_destroy(l->id);
	l->qp = NULL;
	l->id = NULL;
	l->state = LINK_OVER;
	x->dead = true;
}

/* ---- messages ---- */

int link_receive(struct export_link *l, uint32_t first, uint32_t n)
{
	struct rackwire_roce_recv_wr wr[EXPORT_BATCH];
	struct rackwire_roce_sge sge[EXPORT_BATCH];
	uint32_t lkey = l->exporter->ops->lkey(l->mr), i, k;
	int err = 0;

	for (i = 0; i < n && !err; i += k) {
		for (k = 0; k < EXPORT_BATCH && i + k < n; k++) {
			struct export_request *q = &l->requests[first + i + k];

			sge[k] = (struct rackwire_roce_sge){ (uintptr_t)q->message, l->message_bytes, lkey };
			wr[k] = (struct rackwire_roce_recv_wr){ .wr_id = link_wr_id(l, LINK_TAG_RECV, q->index),
								.sg_list = &sge[k], .num_sge = 1 };
		}
		err = l->exporter->ops->post_recv(l->qp, wr, k, NULL);
	}
	return err;
}

struct rackwire_roce_send_wr *link_wr(struct export_link *l, enum link_tag tag, uint32_t index, const void *data,
				      uint32_t length, uint32_t lkey)
{
	struct rackwire_roce_send_wr *wr;

	if (l->nwr == EXPORT_BATCH)
		link_post(l);
	wr = &l->wr[l->nwr];
	l->sge[l->nwr] = (struct rackwire_roce_sge){ (uintptr_t)data, length, lkey };
	*wr = (struct rackwire_roce_send_wr){ .wr_id = link_wr_id(l, tag, index), .sg_list = &l->sge[l->nwr],
					      .num_sge = length ? 1 : 0, .flags = RACKWIRE_ROCE_SEND_SIGNALED };
	l->nwr++;
	return wr;
}

void link_post(struct export_link *l)
{
	uint32_t n = l->nwr;

	l->nwr = 0;
	/* There is room for all that a link may have under way, so it fails only where the link has. */
	if (n && l->state != LINK_OVER && l->exporter->ops->post_send(l->qp, l->wr, n, NULL))
		link_kill(l);
}

/* ---- being connected to ---- */

static uint32_t min32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static void refuse(struct rackwire_krping_exporter *x, struct rdma_id *id, uint8_t status)
{
	struct block_welcome welcome = { .version = BLOCK_VERSION, .status = status };
	uint8_t bytes[BLOCK_WELCOME_LEN];

	block_welcome_encode(bytes, &welcome);
	x->ops->reject(id, bytes, sizeof(bytes));
	x->ops->id_destroy(id);
	export_count(x, RACKWIRE_KRPING_BLOCK_REFUSED, 1);
}

static int link_memory(struct export_link *l)
{
	struct rackwire_krping_exporter *x = l->exporter;
	uint32_t stride, i;
	void *memory;

	l->message_bytes = BLOCK_REQUEST_LEN + l->eager;
	stride = (l->message_bytes + BLOCK_ABOUT_LEN + 63) & ~63u;
	l->requests = calloc(l->slots, sizeof(*l->requests));
	l->memory_bytes = (uint64_t)stride * l->slots;
	memory = mmap(NULL, l->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory != MAP_FAILED)
		l->memory = memory;
	if (!l->requests || !l->memory)
		return -ENOMEM;
	for (i = 0; i < l->slots; i++) {
		struct export_request *q = &l->requests[i];

		q->link = l;
		q->index = i;
		q->message = l->memory + (uint64_t)i * stride;
		q->answer = q->message + ((l->message_bytes + 7) & ~7u);
	}
	return x->ops->mr_register(x->dev, l->memory, l->memory_bytes, RACKWIRE_ROCE_LOCAL_WRITE, &l->mr);
}

static int link_accept(struct export_link *l)
{
	struct rackwire_krping_exporter *x = l->exporter;
	struct block_welcome welcome = { .version = BLOCK_VERSION, .depth = (uint16_t)l->depth,
					 .exports = (uint16_t)x->nstores, .eager = l->eager,
					 .max_length = EXPORT_CHUNK };
	uint8_t bytes[BLOCK_WELCOME_LEN];
	struct rackwire_roce_qp_attr attr = { .max_send_wr = l->slots + 4, .max_recv_wr = l->slots, .max_sge = 1,
					      .access = 0 };
	struct rackwire_roce_conn_param param = {
		.private_data = bytes, .private_data_len = sizeof(bytes),
		.responder_resources = l->responder_resources, .initiator_depth = l->initiator_depth,
		.retry_count = 7, .rnr_retry_count = 7, .min_rnr_timer = RNR_TIMER, .ack_timeout = ACK_TIMEOUT,
	};
	int err;

	err = link_memory(l);
	if (!err)
		err = x->ops->qp_create(x->dev, l->id, x->cq, x->cq, &attr, l, &l->qp);
	if (err)
		return err;
	x->cq_used += cq_needs(l);
	err = link_receive(l, 0, l->slots);
	if (err)
		return err;
	block_welcome_encode(bytes, &welcome);
	l->state = LINK_ACCEPTED;
	return x->ops->accept(l->id, l->qp, &param, l);
}

/* Does another link of this client still have something under way? */
static bool predecessor(struct export_link *l, bool kill)
{
	struct rackwire_krping_exporter *x = l->exporter;
	bool found = false;
	uint32_t i;

	for (i = 0; i < EXPORT_LINKS; i++) {
		struct export_link *other = x->links[i];

		if (!other || other == l || memcmp(other->client, l->client, BLOCK_ID))
			continue;
		if (kill)
			link_kill(other);
		found |= other->jobs > 0;
	}
	return found;
}

static void let_in(struct export_link *l)
{
	if (link_accept(l))
		link_kill(l);
}

void link_request(struct rackwire_krping_exporter *x, const struct rdma_event *event)
{
	struct block_hello hello;
	struct export_link *l;
	uint32_t most;

	if (!block_hello_decode(event->private_data, event->private_data_len, &hello) ||
	    hello.version != BLOCK_VERSION || !hello.depth) {
		refuse(x, event->id, BLOCK_BAD_HELLO);
		return;
	}
	l = link_new(x);
	if (!l) {
		refuse(x, event->id, BLOCK_FULL);
		return;
	}
	l->id = event->id;
	l->depth = min32(hello.depth, x->config.depth);
	l->slots = 2 * l->depth;
	l->eager = min32(min32(hello.eager, BLOCK_MAX_EAGER), EXPORT_LINK_BYTES / l->slots) & ~7u;
	most = min32(x->info.max_rd_atomic, RACKWIRE_ROCE_MAX_RD_ATOMIC);
	l->responder_resources = (uint8_t)min32(event->responder_resources, most);
	l->initiator_depth = (uint8_t)min32(event->initiator_depth, most);
	memcpy(l->client, hello.client, BLOCK_ID);
	l->deadline = rackwire_now_ns() + EXPORT_ACCEPT_NS;
	if (x->cq_used + cq_needs(l) > x->cq_size) {
		refuse(x, event->id, BLOCK_FULL);
		link_free(l);
		return;
	}
	/*
	 * A client that comes again has given its former link up. What that link has begun
	 * must be over before the client may go on, or an old write might overtake a new one.
	 */
	if (predecessor(l, true))
		x->held = true;
	else
		let_in(l);
}

static struct export_link *link_of_id(struct rackwire_krping_exporter *x, const struct rdma_id *id)
{
	uint32_t i;

	for (i = 0; i < EXPORT_LINKS; i++)
		if (x->links[i] && x->links[i]->id == id)
			return x->links[i];
	return NULL;
}

void link_event(struct rackwire_krping_exporter *x, const struct rdma_event *event)
{
	struct export_link *l = link_of_id(x, event->id);

	if (!l)
		return;
	switch (event->kind) {
	case RACKWIRE_ROCE_CM_ESTABLISHED:
		if (l->state != LINK_ACCEPTED)
			break;
		l->state = LINK_READY;
		l->heard_at = rackwire_now_ns();
		export_count(x, RACKWIRE_KRPING_BLOCK_CLIENTS, 1);
		break;
	case RACKWIRE_ROCE_CM_REJECTED:
	case RACKWIRE_ROCE_CM_UNREACHABLE:
	case RACKWIRE_ROCE_CM_DISCONNECTED:
		if (l->state == LINK_READY && event->error)
			export_count(x, RACKWIRE_KRPING_BLOCK_LINK_LOSSES, 1);
		link_kill(l);
		break;
	}
}

void link_bury(struct rackwire_krping_exporter *x)
{
	bool held = x->held;
	uint32_t i;

	x->dead = x->held = false;
	for (i = 0; i < EXPORT_LINKS; i++)
		if (x->links[i] && x->links[i]->state == LINK_OVER && !x->links[i]->jobs)
			link_free(x->links[i]);
	for (i = 0; i < EXPORT_LINKS && held; i++) {
		struct export_link *l = x->links[i];

		if (!l || l->state != LINK_HELD)
			continue;
		if (predecessor(l, false))
			x->held = true;
		else
			let_in(l);
	}
	request_feed(x);
}

void link_tick(struct export_link *l, uint64_t now)
{
	bool late = l->state != LINK_READY && now > l->deadline;
	/* An NBD server that has nothing to ask asks whether we are there. */
	bool silent = l->state == LINK_READY && !l->under_way && now > l->heard_at + EXPORT_SILENCE_NS;

	if (late || silent) {
		if (silent)
			export_count(l->exporter, RACKWIRE_KRPING_BLOCK_LINK_LOSSES, 1);
		link_kill(l);
	}
}
