// SPDX-License-Identifier: BSD-2-Clause
/* A request, from its message to its answer. */
#include "block_export.h"

#include <errno.h>
#include <string.h>

static struct block_store *store_of(const struct export_request *q)
{
	return q->link->exporter->stores[q->r.export];
}

void request_release(struct export_request *q)
{
	if (q->chunk)
		block_slab_put(&q->link->exporter->slab, q->chunk);
	q->chunk = NULL;
}

/* ---- answers ---- */

static void count(const struct export_request *q, uint32_t status)
{
	static const uint8_t counters[] = {
		[BLOCK_READ] = RACKWIRE_KRPING_BLOCK_READS, [BLOCK_WRITE] = RACKWIRE_KRPING_BLOCK_WRITES,
		[BLOCK_FLUSH] = RACKWIRE_KRPING_BLOCK_FLUSHES, [BLOCK_TRIM] = RACKWIRE_KRPING_BLOCK_TRIMS,
		[BLOCK_ZERO] = RACKWIRE_KRPING_BLOCK_ZEROES,
	};
	struct rackwire_krping_exporter *x = q->link->exporter;

	if (q->r.op == BLOCK_ABOUT)
		return;
	export_count(x, counters[q->r.op], 1);
	if (status)
		export_count(x, RACKWIRE_KRPING_BLOCK_ERRORS, 1);
	else if (q->r.op == BLOCK_READ)
		export_count(x, RACKWIRE_KRPING_BLOCK_READ_BYTES, q->r.length);
	else if (q->r.op == BLOCK_WRITE)
		export_count(x, RACKWIRE_KRPING_BLOCK_WRITE_BYTES, q->r.length);
}

static void send_answer(struct export_request *q, uint32_t length)
{
	struct export_link *l = q->link;

	link_wr(l, LINK_TAG_ANSWER, q->index, q->answer, length, l->exporter->ops->lkey(l->mr))->opcode =
		RACKWIRE_ROCE_WR_SEND;
}

static void answer(struct export_request *q, uint32_t status)
{
	struct export_link *l = q->link;
	struct rackwire_roce_send_wr *wr;

	if (l->state != LINK_READY)
		return;
	count(q, status);
	if (status || q->r.op != BLOCK_READ) {
		block_reply_encode(q->answer, &(struct block_reply){ .tag = q->r.tag, .status = status });
		send_answer(q, BLOCK_REPLY_LEN);
		return;
	}
	/* The data and the news of it in one message. */
	wr = link_wr(l, LINK_TAG_ANSWER, q->index, q->data, q->r.length, q->lkey);
	wr->opcode = RACKWIRE_ROCE_WR_RDMA_WRITE_WITH_IMM;
	wr->ex.imm = q->r.tag;
	wr->remote_addr = q->r.addr;
	wr->rkey = q->r.rkey;
}

/* ---- doing it ---- */

static void perform(struct export_request *q)
{
	struct block_store *store = store_of(q);
	int status = block_store_try(store, q->r.op, q->r.flags, q->r.offset, q->r.length, q->data);

	if (status != -EAGAIN) {
		answer(q, (uint32_t)status);
		return;
	}
	q->job = (struct block_job){ .store = store, .owner = q, .op = q->r.op, .flags = q->r.flags,
				     .length = q->r.length, .offset = q->r.offset, .data = q->data };
	q->link->jobs++;
	block_pool_submit(q->link->exporter->pool, &q->job);
}

void request_finished(struct export_request *q)
{
	struct export_link *l = q->link;

	l->jobs--;
	if (l->state == LINK_OVER)
		l->exporter->dead = true;
	else
		answer(q, q->job.status);
}

/* There is memory for the data. */
static void transfer(struct export_request *q)
{
	struct rackwire_roce_send_wr *wr;

	if (q->r.op == BLOCK_READ) {
		if (store_of(q)->memory && !q->chunk)
			answer(q, BLOCK_OK); /* out of the store itself */
		else
			perform(q);
		return;
	}
	wr = link_wr(q->link, LINK_TAG_READ, q->index, q->data, q->r.length, q->lkey);
	wr->opcode = RACKWIRE_ROCE_WR_RDMA_READ;
	wr->remote_addr = q->r.addr;
	wr->rkey = q->r.rkey;
}

static bool take_chunk(struct export_request *q)
{
	struct rackwire_krping_exporter *x = q->link->exporter;

	q->chunk = block_slab_get(&x->slab);
	if (!q->chunk)
		return false;
	q->data = q->chunk;
	q->lkey = x->slab.lkey;
	return true;
}

void request_feed(struct rackwire_krping_exporter *x)
{
	struct export_request *q;

	while ((q = x->hungry) && take_chunk(q)) {
		x->hungry = q->next;
		if (!x->hungry)
			x->hungry_last = &x->hungry;
		transfer(q);
		link_post(q->link);
	}
}

static void move(struct export_request *q)
{
	struct rackwire_krping_exporter *x = q->link->exporter;
	struct block_store *store = store_of(q);

	if (q->r.flags & BLOCK_EAGER) {
		q->data = q->message + BLOCK_REQUEST_LEN;
		perform(q);
		return;
	}
	/* Straight between the store and the peer, where any memory can be. */
	if (store->memory && x->info.features & RDMA_CAN_LOCAL_DMA_LKEY) {
		q->data = store->memory + q->r.offset;
		q->lkey = RACKWIRE_ROCE_LOCAL_DMA_LKEY;
		transfer(q);
		return;
	}
	if (!x->hungry && take_chunk(q)) {
		transfer(q);
		return;
	}
	q->next = NULL;
	*x->hungry_last = q;
	x->hungry_last = &q->next;
}

/* ---- what may be asked ---- */

static uint32_t judge(const struct export_request *q)
{
	const struct rackwire_krping_exporter *x = q->link->exporter;
	const struct block_request *r = &q->r;
	const struct block_about *about;

	if (r->export >= x->nstores)
		return BLOCK_EINVAL;
	about = &x->stores[r->export]->about;
	if (r->op == BLOCK_FLUSH || r->op == BLOCK_ABOUT)
		return BLOCK_OK;
	if (r->op != BLOCK_READ && about->flags & BLOCK_ABOUT_READ_ONLY)
		return BLOCK_EPERM;
	if (!r->length || r->length > (r->op <= BLOCK_WRITE ? EXPORT_CHUNK : BLOCK_MAX_ZERO))
		return BLOCK_EINVAL;
	if (r->offset > about->length || r->length > about->length - r->offset)
		return r->op == BLOCK_WRITE || r->op == BLOCK_ZERO ? BLOCK_ENOSPC : BLOCK_EINVAL;
	return BLOCK_OK;
}

static void start(struct export_request *q, uint32_t length)
{
	struct rackwire_krping_exporter *x = q->link->exporter;
	struct export_link *l = q->link;
	uint32_t status;

	if (!block_request_decode(q->message, length, &q->r) || q->r.tag >= l->depth) {
		export_count(x, RACKWIRE_KRPING_BLOCK_REFUSED, 1);
		link_kill(l);
		return;
	}
	l->under_way++;
	status = judge(q);
	if (status) {
		export_count(x, RACKWIRE_KRPING_BLOCK_REFUSED, 1);
		answer(q, status);
		return;
	}
	switch (q->r.op) {
	case BLOCK_READ:
	case BLOCK_WRITE:
		move(q);
		break;
	case BLOCK_ABOUT:
		block_about_encode(q->answer, q->r.tag, &store_of(q)->about);
		send_answer(q, BLOCK_ABOUT_LEN);
		break;
	default:
		perform(q);
	}
}

void request_complete(struct export_link *l, const struct rackwire_roce_wc *wc)
{
	struct export_request *q = &l->requests[wc->wr_id & 0xffff];

	switch ((enum link_tag)(wc->wr_id >> 16 & 0xff)) {
	case LINK_TAG_RECV:
		start(q, wc->byte_len);
		break;
	case LINK_TAG_READ:
		if (store_of(q)->memory && !q->chunk)
			answer(q, BLOCK_OK);
		else
			perform(q);
		break;
	case LINK_TAG_ANSWER:
		l->under_way--;
		request_release(q);
		if (link_receive(l, q->index, 1))
			link_kill(l);
		break;
	}
}
