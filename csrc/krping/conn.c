// SPDX-License-Identifier: BSD-2-Clause
/* A connection: its memory and queue pair, what it posts, how it ends. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "address.h"
#include "work.h"

/* ---- memory ---- */

static int buffer_register(struct krping_conn *c, struct conn_buffer *b)
{
	struct rackwire_krping_work *w = c->work;
	uint32_t access = RACKWIRE_ROCE_LOCAL_WRITE | b->access;
	int err;

	err = w->ops->mr_register(w->dev, b->data, b->capacity, access, &b->mr);
	if (err)
		return err;
	b->key = w->ops->rkey(b->mr);
	b->bound = false;
	return 0;
}

int conn_buffer(struct krping_conn *c, struct conn_buffer *b, uint64_t length, uint32_t access, bool fresh)
{
	struct rackwire_krping_work *w = c->work;
	int err;

	conn_buffer_free(c, b);
	if (w->server && length > w->config.memory - w->memory)
		return -ENOMEM;
	b->data = calloc(1, length);
	if (!b->data)
		return -ENOMEM;
	b->capacity = length;
	b->access = access;
	b->fresh = fresh;
	w->memory += length;
	err = buffer_register(c, b);
	if (err)
		conn_buffer_free(c, b);
	return err;
}

void conn_buffer_free(struct krping_conn *c, struct conn_buffer *b)
{
	struct rackwire_krping_work *w = c->work;

	if (b->mr)
		w->ops->mr_deregister(b->mr);
	w->memory -= b->capacity;
	free(b->data);
	memset(b, 0, sizeof(*b));
}

/* A work request can renew what the peer sees; and what we use, with fast registration. */
static bool renewed_by_request(const struct krping_conn *c, const struct conn_buffer *b)
{
	return c->work->info.features & (b->access ? RDMA_CAN_REG_MR : RDMA_REG_MR_LKEY);
}

int conn_buffer_renew(struct krping_conn *c, struct conn_buffer *b, struct rackwire_roce_send_wr *wr)
{
	const struct rdma_provider *ops = c->work->ops;
	int n = 0, err;
	uint32_t key;

	if (!b->fresh)
		return 0;
	if (!renewed_by_request(c, b)) {
		/* In user space libibverbs has no fast registration. */
		ops->mr_deregister(b->mr);
		b->mr = NULL;
		return buffer_register(c, b);
	}
	err = ops->mr_next_key(b->mr, &key);
	if (err)
		return err;
	memset(wr, 0, 2 * sizeof(*wr));
	if (b->bound) {
		wr[n].opcode = RACKWIRE_ROCE_WR_LOCAL_INV;
		wr[n].wr_id = conn_wr_id(c, TAG_KEY, 0);
		wr[n++].ex.rkey = b->key;
	}
	wr[n].opcode = RACKWIRE_ROCE_WR_REG_MR;
	wr[n].wr_id = conn_wr_id(c, TAG_KEY, 0);
	wr[n].ex.reg.mr = ops->mr_handle(b->mr);
	wr[n].ex.reg.key = key;
	wr[n++].ex.reg.access = RACKWIRE_ROCE_LOCAL_WRITE | b->access;
	b->key = key;
	b->bound = true;
	return n;
}

uint32_t conn_lkey(struct krping_conn *c, const struct conn_buffer *b)
{
	if (b->bound && c->work->info.features & RDMA_REG_MR_LKEY)
		return b->key;
	return c->work->ops->lkey(b->mr);
}

/* ---- life ---- */

struct krping_conn *conn_new(struct rackwire_krping_work *w, uint32_t kind)
{
	struct krping_conn *c;

	if (!w->nfree)
		return NULL;
	c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->work = w;
	c->index = w->free_slots[--w->nfree];
	c->gen = ++w->gen;
	c->server = w->server;
	c->kind = (uint8_t)kind;
	c->ops = conn_ops_of(kind, w->server);
	c->ctl = w->ctl + (size_t)c->index * CTL_BYTES;
	c->deadline = c->next_at = WORK_NEVER;
	c->heard_at = rackwire_now_ns();
	w->conns[c->index] = c;
	if (c->index >= w->top)
		w->top = c->index + 1;
	return c;
}

int conn_queue_pair(struct krping_conn *c)
{
	struct rackwire_krping_work *w = c->work;
	struct rackwire_roce_qp_attr attr = {
		.max_sge = 1,
		.access = RACKWIRE_ROCE_LOCAL_WRITE | RACKWIRE_ROCE_REMOTE_WRITE | RACKWIRE_ROCE_REMOTE_READ |
			  RACKWIRE_ROCE_REMOTE_ATOMIC,
	};
	uint32_t sends, recvs;
	int err;

	c->ops->depth(c, &sends, &recvs);
	if (sends + recvs > w->cq_size - w->cq_used)
		return -EMFILE;
	attr.max_send_wr = sends;
	attr.max_recv_wr = recvs;
	err = w->ops->qp_create(w->dev, c->id, w->cq, w->cq, &attr, c, &c->qp);
	if (err)
		return err;
	c->sends = sends;
	c->recvs = recvs;
	w->cq_used += sends + recvs;
	err = c->ops->prepare(c);
	return err ? err : conn_post_recvs(c, 0, recvs);
}

void conn_established(struct krping_conn *c)
{
	if (c->state != CONN_CONNECTING)
		return;
	c->state = CONN_READY;
	c->connected = true;
	c->deadline = WORK_NEVER;
	c->heard_at = rackwire_now_ns();
	account_open(c);
	c->ops->established(c);
}

int conn_fail(struct krping_conn *c, int error, const char *format, ...)
{
	struct rackwire_krping_work *w = c->work;
	char text[RACKWIRE_KRPING_ERROR_LEN];
	va_list args;

	if (c->state == CONN_OVER)
		return error;
	c->error = error;
	conn_over(c);
	if (w->server)
		return error;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return work_fail(w, error, "%s", text);
}

void conn_leave(struct krping_conn *c, uint64_t now)
{
	if (c->state == CONN_CONNECTING || c->flushed) {
		conn_over(c);
		return;
	}
	if (c->state != CONN_READY)
		return;
	c->state = CONN_LEAVING;
	c->deadline = now + WORK_LEAVE_NS;
	if (c->work->ops->disconnect(c->id))
		conn_over(c);
}

void conn_over(struct krping_conn *c)
{
	c->state = CONN_OVER;
	c->work->dead = true;
}

void conn_free(struct krping_conn *c)
{
	struct rackwire_krping_work *w = c->work;

	account_close(c);
	w->watched -= c->watched;
	w->memories -= c->memory_watched;
	if (c->armed)
		w->armed--;
	if (c->connected)
		w->ops->disconnect(c->id);
	/* A memory window holds the queue pair that it is bound to. */
	conn_buffer_free(c, &c->a);
	conn_buffer_free(c, &c->b);
	if (c->qp)
		w->ops->qp_destroy(c->qp);
	if (c->id)
		w->ops->id_destroy(c->id);
	free(c->times);
	w->cq_used -= c->sends + c->recvs;
	w->conns[c->index] = NULL;
	w->free_slots[w->nfree++] = c->index;
	while (w->top && !w->conns[w->top - 1])
		w->top--;
	free(c);
}

const char *conn_peer(const struct krping_conn *c, char *text, size_t length)
{
	if (!c->server)
		return work_target(c->work, text, length);
	rackwire_address_text(&c->peer, text, length);
	return text;
}

/* ---- requests ---- */

int conn_post(struct krping_conn *c, const struct rackwire_roce_send_wr *wr, uint32_t n)
{
	uint32_t done;
	int err;

	err = c->work->ops->post_send(c->qp, wr, n, &done);
	return err ? conn_fail(c, err, "a request could not be posted: %s", strerror(-err)) : 0;
}

int conn_post_recvs(struct krping_conn *c, uint32_t first, uint32_t n)
{
	struct rackwire_roce_recv_wr wr[WORK_BATCH];
	struct rackwire_roce_sge sge[WORK_BATCH];
	struct rackwire_krping_work *w = c->work;
	bool data = bench_receives_data(c);
	uint32_t i, take, done;
	int err;

	for (; n; n -= take, first += take) {
		take = n < WORK_BATCH ? n : WORK_BATCH;
		for (i = 0; i < take; i++) {
			if (data) { /* all into one place: contents do not matter, setting up happens in turns */
				sge[i].addr = (uintptr_t)c->b.data;
				sge[i].length = (uint32_t)c->b.capacity;
				sge[i].lkey = w->ops->lkey(c->b.mr);
			} else {
				sge[i].addr = (uintptr_t)conn_recv_slot(c, (first + i) % CTL_SLOTS);
				sge[i].length = WIRE_ADV_LEN;
				sge[i].lkey = w->ops->lkey(w->ctl_mr);
			}
			wr[i].wr_id = conn_wr_id(c, TAG_RECV, (first + i) % CTL_SLOTS);
			wr[i].sg_list = &sge[i];
			wr[i].num_sge = 1;
		}
		err = w->ops->post_recv(c->qp, wr, take, &done);
		if (err)
			return conn_fail(c, err, "a receive could not be posted: %s", strerror(-err));
	}
	return 0;
}

void conn_message(struct krping_conn *c, struct rackwire_roce_send_wr *wr, struct rackwire_roce_sge *sge,
		  const uint8_t bytes[WIRE_ADV_LEN], uint32_t imm, uint32_t inv_rkey)
{
	uint8_t *slot = c->ctl + (CTL_SLOTS + c->ctl_next++ % CTL_SLOTS) * WIRE_ADV_LEN;

	memcpy(slot, bytes, WIRE_ADV_LEN);
	sge->addr = (uintptr_t)slot;
	sge->length = WIRE_ADV_LEN;
	sge->lkey = c->work->ops->lkey(c->work->ctl_mr);
	memset(wr, 0, sizeof(*wr));
	wr->wr_id = conn_wr_id(c, TAG_SEND, 0);
	wr->sg_list = sge;
	wr->num_sge = 1;
	wr->flags = RACKWIRE_ROCE_SEND_SIGNALED | RACKWIRE_ROCE_SEND_INLINE;
	wr->opcode = RACKWIRE_ROCE_WR_SEND;
	if (imm) {
		wr->opcode = RACKWIRE_ROCE_WR_SEND_WITH_IMM;
		wr->ex.imm = imm;
	} else if (inv_rkey) {
		wr->opcode = RACKWIRE_ROCE_WR_SEND_WITH_INV;
		wr->ex.rkey = inv_rkey;
	}
}

void conn_pump_later(struct krping_conn *c)
{
	if (c->pump_due)
		return;
	c->pump_due = true;
	c->next_pump = c->work->pumps;
	c->work->pumps = c;
}

/* An RDMA WRITE of no bytes reaches no memory; its acknowledgement shows that the peer lives. */
static void probe(struct krping_conn *c)
{
	struct rackwire_roce_send_wr wr = {
		.wr_id = conn_wr_id(c, TAG_PROBE, 0),
		.opcode = RACKWIRE_ROCE_WR_RDMA_WRITE,
		.flags = RACKWIRE_ROCE_SEND_SIGNALED,
		.remote_addr = c->remote.addr,
		.rkey = c->remote.rkey,
	};

	c->probing = true;
	conn_post(c, &wr, 1);
}

/* ---- what happens ---- */

static int status_error(uint32_t status)
{
	switch (status) {
	case RACKWIRE_ROCE_WC_RETRY_EXC_ERR:
		return -ETIMEDOUT;
	case RACKWIRE_ROCE_WC_RNR_RETRY_EXC_ERR:
	case RACKWIRE_ROCE_WC_REM_INV_REQ_ERR:
	case RACKWIRE_ROCE_WC_REM_ACCESS_ERR:
	case RACKWIRE_ROCE_WC_REM_OP_ERR:
	case RACKWIRE_ROCE_WC_REM_ABORT_ERR:
		return -EREMOTEIO;
	case RACKWIRE_ROCE_WC_LOC_LEN_ERR: /* of a receive: the message is longer than any of krping */
		return -EPROTO;
	default:
		return -EIO;
	}
}

static void failed(struct krping_conn *c, const struct rackwire_roce_wc *wc)
{
	static const char *const tags[] = { "receiving", "SEND", "a request", "RDMA READ", "RDMA WRITE", "a key", "a probe" };
	uint32_t tag = wc->wr_id >> 8 & 0xff;
	int error = status_error(wc->status);
	char text[128];

	if (wc->status == RACKWIRE_ROCE_WC_WR_FLUSH_ERR) {
		/* A consequence; the reason is in another completion or an event, most often that the peer left. */
		if (!c->flushed && c->state == CONN_READY)
			c->deadline = rackwire_now_ns() + WORK_FLUSH_NS;
		c->flushed = true;
		return;
	}
	if (error == -ETIMEDOUT)
		conn_fail(c, error, "%s does not answer any more: %s (status %u)", conn_peer(c, text, sizeof(text)),
			  account_status(wc->status), wc->status);
	else
		conn_fail(c, error, "%s, %s: %s (status %u)", conn_peer(c, text, sizeof(text)),
			  tags[tag <= TAG_PROBE ? tag : TAG_DATA], account_status(wc->status), wc->status);
}

void conn_complete(struct krping_conn *c, const struct rackwire_roce_wc *wc)
{
	uint32_t tag = wc->wr_id >> 8 & 0xff;

	if (c->state >= CONN_LEAVING)
		return;
	if (wc->status) {
		failed(c, wc);
		return;
	}
	/* A message may overtake the event that says the connection is there. */
	if (c->state == CONN_CONNECTING && c->server)
		conn_established(c);
	if (c->state != CONN_READY)
		return;
	c->heard_at = 0; /* now, as the next tick sees it */
	switch (tag) {
	case TAG_PROBE:
		c->probing = false;
		return;
	case TAG_KEY:
		return;
	case TAG_SEND:
		conn_count(c, RACKWIRE_KRPING_SEND_BYTES, WIRE_ADV_LEN);
		conn_count(c, RACKWIRE_KRPING_SEND_MSGS, 1);
		break;
	case TAG_RECV:
		conn_count(c, RACKWIRE_KRPING_RECV_BYTES, wc->byte_len);
		conn_count(c, RACKWIRE_KRPING_RECV_MSGS, 1);
		break;
	}
	c->ops->complete(c, wc);
}

static void gone(struct krping_conn *c, const struct rdma_event *event)
{
	char text[128];

	c->connected = c->state == CONN_READY && event->error == 0; /* the goodbye is answered */
	if (c->state == CONN_LEAVING || (c->server && !event->error)) {
		if (c->state != CONN_OVER)
			conn_over(c);
		return;
	}
	if (event->error == -ETIMEDOUT)
		conn_fail(c, -ETIMEDOUT, "%s does not answer any more", conn_peer(c, text, sizeof(text)));
	else
		conn_fail(c, -ECONNRESET, "%s closed the connection after %llu %s",
			  conn_peer(c, text, sizeof(text)), (unsigned long long)c->number,
			  c->kind == RACKWIRE_KRPING_PING ? "pings" : "operations");
}

void conn_event(struct krping_conn *c, const struct rdma_event *event)
{
	char text[128];

	switch (event->kind) {
	case RACKWIRE_ROCE_CM_ESTABLISHED:
		if (c->state == CONN_CONNECTING && (c->server || !client_established(c, event)))
			conn_established(c);
		break;
	case RACKWIRE_ROCE_CM_REJECTED:
		if (c->server)
			conn_fail(c, -ECONNREFUSED, "refused");
		else
			client_refused(c, event);
		break;
	case RACKWIRE_ROCE_CM_UNREACHABLE:
		if (event->error == -ECONNREFUSED)
			conn_fail(c, -ECONNREFUSED, "nothing listens at %s", conn_peer(c, text, sizeof(text)));
		else
			conn_fail(c, event->error ? event->error : -ETIMEDOUT, "%s cannot be reached: %s",
				  conn_peer(c, text, sizeof(text)), strerror(event->error ? -event->error : ETIMEDOUT));
		break;
	case RACKWIRE_ROCE_CM_DISCONNECTED:
		gone(c, event);
		break;
	}
}

static void overdue(struct krping_conn *c)
{
	char text[128];

	switch (c->state) {
	case CONN_CONNECTING:
		conn_fail(c, -ETIMEDOUT, "%s did not answer within %.1f s", conn_peer(c, text, sizeof(text)),
			  (double)c->work->config.timeout_ns / 1e9);
		break;
	case CONN_READY:
		conn_fail(c, -ECONNRESET, "the connection to %s broke", conn_peer(c, text, sizeof(text)));
		break;
	case CONN_LEAVING:
		conn_over(c);
		break;
	}
}

void conn_tick(struct krping_conn *c, uint64_t now)
{
	uint64_t patience = WORK_PATIENCE_NS + c->length * 1000ull;
	char text[128];

	if (now >= c->deadline)
		overdue(c);
	if (c->state != CONN_READY)
		return;
	if (!c->heard_at)
		c->heard_at = now;
	account_refresh(c);
	if (c->waiting_since && now > c->waiting_since + patience) {
		conn_fail(c, -ETIMEDOUT, "%s has not answered for %llu s", conn_peer(c, text, sizeof(text)),
			  (unsigned long long)(patience / RACKWIRE_NS_PER_S));
		return;
	}
	/* Others than ours might take a probe amiss. */
	if (!c->classic && !c->probing && !c->flushed &&
	    now > c->heard_at + (c->server ? WORK_PROBE_SERVER_NS : WORK_PROBE_CLIENT_NS))
		probe(c);
}
