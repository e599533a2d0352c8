/* SPDX-License-Identifier: BSD-2-Clause */
/* What becomes of requests, held against what was posted. */
#include <stdio.h>
#include <stdlib.h>

#include "vapp.h"

#define POLL_MAX 5

static bool flush_in_order(const struct vside *s)
{
	return s->conn->closing || s->conn->on_purpose || s->conn->may & (1ull << RACKWIRE_ROCE_WC_WR_FLUSH_ERR);
}

static void kill_key(struct vregion *region, u32 key)
{
	region->state = VKEY_DEAD;
	region->dead[region->ndead++ % 4] = key;
	if (region->ndead > 4)
		region->ndead = 4;
}

static void invalidated(struct vside *s, struct vregion *region, u32 key)
{
	if (region->mr && !s->died && !s->host->net->forged && roce_mr_valid(region->mr))
		vnet_fail(s->host->net, "connection %u end %u: key %x is valid after its invalidation", s->conn->index, s->who,
			  key);
	kill_key(region, key);
}

/* ---- send queue ---- */

static void source_intact(struct vop *op)
{
	for (u32 i = 0; i < op->nsge; i++)
		if (!vext_untouched(op->ext[i], 0) && !op->side->host->net->forged)
			vnet_fail(op->side->host->net, "connection %u end %u: the source of request %u was changed",
				  op->side->conn->index, op->side->who, op->index);
	vop_release(op, true);
}

/* WRITEs from this number on cannot be seen by a READ: one was posted behind a fence. */
static u32 read_limit(const struct vop *op, u32 target)
{
	const struct vside *s = op->side;

	for (u32 i = op->index + 1; i < s->nops; i++)
		if (s->ops[i]->flags & RACKWIRE_ROCE_SEND_FENCE)
			return s->ops[i]->marks[target];
	return op->target->cell->nops;
}

static void read_done(struct vop *op)
{
	struct vside *s = op->side;
	struct vnet *net = s->host->net;
	u8 *data = malloc(op->len ? op->len : 1);
	u32 at = 0;

	if (!data)
		abort();
	if (op->opcode == RACKWIRE_ROCE_WR_RDMA_READ_WITH_INV) {
		memcpy(data, vext_ptr(s->sink.ext), op->len);
		if (!vext_untouched(s->sink.ext, op->len) && !net->forged)
			vnet_fail(net, "connection %u end %u: a READ of %u bytes wrote more", s->conn->index, s->who, op->len);
		vext_close(s->sink.ext);
		invalidated(s, &s->sink, op->inv_key);
	}
	for (u32 i = 0; i < op->nsge; i++) {
		memcpy(data + at, vext_ptr(op->ext[i]), op->ext[i]->len);
		at += op->ext[i]->len;
	}
	if (!net->forged &&
	    !vcell_readable(op->target->cell, data, op->len, op->number, read_limit(op, (u32)(op->target - vside_peer(s)->target))))
		vnet_fail(net, "connection %u end %u: READ %u of %u bytes got what was never there then", s->conn->index,
			  s->who, op->index, op->len);
	free(data);
	vop_release(op, true);
	vapp_of(net)->reads++;
}

static void atomic_done(struct vop *op)
{
	struct vside *s = op->side, *peer = vside_peer(s);
	struct vnet *net = s->host->net;
	struct vhostapp *far = vapp_host(peer->host);
	u64 old;

	memcpy(&old, vext_ptr(op->ext[0]), 8);
	vop_release(op, true);
	vapp_of(net)->atomics++;
	if (!op->counter) {
		peer->cas_open--;
		if (old != op->expect_old && !net->forged)
			vnet_fail(net, "connection %u end %u: compare-and-swap %u found %llx, not %llx", s->conn->index, s->who,
				  op->index, (unsigned long long)old, (unsigned long long)op->expect_old);
		return;
	}
	if (op->far_life != peer->host->life || net->forged)
		return; /* that counter died, or may say anything */
	old -= far->counter_base;
	far->adds_done++;
	if (old >= far->adds_posted || far->olds[old / 8] & (1u << (old & 7)) || old + 1 <= s->last_count) {
		vnet_fail(net, "connection %u end %u: fetch-and-add %u of %u found %llu, the one before it %llu%s",
			  s->conn->index, s->who, op->index, far->adds_posted, (unsigned long long)old,
			  (unsigned long long)s->last_count,
			  old < far->adds_posted && far->olds[old / 8] & (1u << (old & 7)) ? ", as another did" : "");
		return;
	}
	s->last_count = old + 1;
	far->olds[old / 8] |= (u8)(1u << (old & 7));
}

static void succeeded(struct vop *op)
{
	struct vside *s = op->side;
	struct vnet *net = s->host->net;

	if (op->bad && !net->forged)
		vnet_fail(net, "connection %u end %u: request %u that must fail with %u succeeds", s->conn->index, s->who,
			  op->index, op->expect);
	if (op->bad)
		return;
	vapp_of(net)->bytes += op->len;
	if (op->msg != ~0u)
		s->acked_msgs = op->msg + 1;
	switch (op->opcode) {
	case RACKWIRE_ROCE_WR_SEND:
	case RACKWIRE_ROCE_WR_SEND_WITH_IMM:
	case RACKWIRE_ROCE_WR_SEND_WITH_INV:
		source_intact(op);
		break;
	case RACKWIRE_ROCE_WR_RDMA_WRITE:
	case RACKWIRE_ROCE_WR_RDMA_WRITE_WITH_IMM:
		source_intact(op);
		vcell_check(op->target->cell, op->number + 1);
		break;
	case RACKWIRE_ROCE_WR_RDMA_READ:
	case RACKWIRE_ROCE_WR_RDMA_READ_WITH_INV:
		read_done(op);
		break;
	case RACKWIRE_ROCE_WR_ATOMIC_CMP_AND_SWP:
	case RACKWIRE_ROCE_WR_ATOMIC_FETCH_AND_ADD:
		atomic_done(op);
		break;
	case RACKWIRE_ROCE_WR_LOCAL_INV:
		invalidated(s, op->target, op->inv_key);
		break;
	case RACKWIRE_ROCE_WR_REG_MR:
		op->target->key = op->new_key;
		op->target->state = VKEY_LIVE;
		if (!net->forged && (!roce_mr_valid(op->target->mr) || roce_mr_key(op->target->mr) != op->new_key))
			vnet_fail(net, "connection %u end %u: REG_MR completed without effect", s->conn->index, s->who);
		break;
	}
}

static bool remote_user(const struct vop *op)
{
	return op->target && op->opcode != RACKWIRE_ROCE_WR_LOCAL_INV && op->opcode != RACKWIRE_ROCE_WR_REG_MR;
}

static void retire(struct vop *op, u32 status)
{
	struct vside *s = op->side;

	op->retired = true;
	if (status == RACKWIRE_ROCE_WC_SUCCESS)
		succeeded(op);
	if (op->opcode == RACKWIRE_ROCE_WR_RDMA_READ_WITH_INV && s->sink.ext->open)
		vext_close(s->sink.ext);
	if (remote_user(op))
		op->target->users--;
	vop_release(op, false);
	s->head = op->index + 1;
}

/* Whether a request or a receive of @s may end so. */
static void check_status(struct vside *s, u32 status, const struct vop *op)
{
	struct vnet *net = s->host->net;
	bool may = s->conn->may & (1ull << status);
	u32 before = op ? s->status : s->recv_status;

	if (net->forged)
		return;
	if (before) {
		if (status != RACKWIRE_ROCE_WC_WR_FLUSH_ERR && !may)
			vnet_fail(net, "connection %u end %u: status %u after the queue has failed with %u", s->conn->index, s->who,
				  status, before);
		return;
	}
	if (op && op->bad && status == op->expect)
		return;
	if (status == RACKWIRE_ROCE_WC_WR_FLUSH_ERR && flush_in_order(s))
		return;
	if (!may)
		vnet_fail(net, "connection %u end %u: %s %u (opcode %u) ends with status %u", s->conn->index, s->who,
			  op ? "request" : "receive", op ? op->index : s->recv_head, op ? op->opcode : 0, status);
}

static u32 wc_opcode(u32 opcode)
{
	switch (opcode) {
	case RACKWIRE_ROCE_WR_RDMA_WRITE:
	case RACKWIRE_ROCE_WR_RDMA_WRITE_WITH_IMM:
		return RACKWIRE_ROCE_WC_RDMA_WRITE;
	case RACKWIRE_ROCE_WR_RDMA_READ:
	case RACKWIRE_ROCE_WR_RDMA_READ_WITH_INV:
		return RACKWIRE_ROCE_WC_RDMA_READ;
	case RACKWIRE_ROCE_WR_ATOMIC_CMP_AND_SWP:
		return RACKWIRE_ROCE_WC_COMP_SWAP;
	case RACKWIRE_ROCE_WR_ATOMIC_FETCH_AND_ADD:
		return RACKWIRE_ROCE_WC_FETCH_ADD;
	case RACKWIRE_ROCE_WR_LOCAL_INV:
		return RACKWIRE_ROCE_WC_LOCAL_INV;
	case RACKWIRE_ROCE_WR_REG_MR:
		return RACKWIRE_ROCE_WC_REG_MR;
	default:
		return RACKWIRE_ROCE_WC_SEND;
	}
}

static void send_done(struct vop *op, const struct rackwire_roce_wc *wc)
{
	struct vside *s = op->side;
	struct vnet *net = s->host->net;

	if (op->index < s->head) {
		vnet_fail(net, "connection %u end %u: request %u completes after request %u", s->conn->index, s->who, op->index,
			  s->head - 1);
		return;
	}
	while (s->head < op->index) {
		struct vop *before = s->ops[s->head];

		/* Successful ones that nobody wants to hear of. */
		if (s->status || s->plan.signal_all || before->flags & RACKWIRE_ROCE_SEND_SIGNALED) {
			vnet_fail(net, "connection %u end %u: request %u completes before request %u", s->conn->index, s->who,
				  op->index, s->head);
			return;
		}
		retire(before, RACKWIRE_ROCE_WC_SUCCESS);
	}
	if (wc->status == RACKWIRE_ROCE_WC_SUCCESS) {
		if (s->status)
			vnet_fail(net, "connection %u end %u: request %u succeeds after the queue has failed", s->conn->index,
				  s->who, op->index);
		if (!(op->flags & RACKWIRE_ROCE_SEND_SIGNALED) && !s->plan.signal_all)
			vnet_fail(net, "connection %u end %u: request %u completes unasked", s->conn->index, s->who, op->index);
		if (wc->opcode != wc_opcode(op->opcode))
			vnet_fail(net, "connection %u end %u: request of opcode %u completes as %u", s->conn->index, s->who,
				  op->opcode, wc->opcode);
		if (wc->opcode == RACKWIRE_ROCE_WC_RDMA_READ && wc->byte_len != op->len)
			vnet_fail(net, "connection %u end %u: a READ of %u bytes says %u", s->conn->index, s->who, op->len,
				  wc->byte_len);
	} else {
		check_status(s, wc->status, op);
		if (!s->status)
			s->status = wc->status;
	}
	retire(op, wc->status);
}

/* ---- receive queue ---- */

static void check_content(struct vside *s, const struct vrecv *recv, const struct vop *msg)
{
	u32 len = msg->opcode == RACKWIRE_ROCE_WR_RDMA_WRITE_WITH_IMM ? 0 : msg->len, at = 0;
	u8 *want = malloc(len ? len : 1);

	if (!want)
		abort();
	vpattern_fill(msg->seed, 0, want, len);
	for (u32 i = 0; i < recv->nsge; i++) {
		u32 n = (u32)roce_min(recv->ext[i]->len, len - at);

		if (memcmp(vext_ptr(recv->ext[i]), want + at, n))
			vnet_fail(s->host->net, "connection %u end %u: message %u of %u bytes arrives with wrong content",
				  s->conn->index, s->who, s->next_msg, len);
		if (!vext_untouched(recv->ext[i], n))
			vnet_fail(s->host->net, "connection %u end %u: message %u of %u bytes wrote more", s->conn->index, s->who,
				  s->next_msg, len);
		at += n;
	}
	if (at < len)
		vnet_fail(s->host->net, "connection %u end %u: message %u of %u bytes in a receive for %u", s->conn->index,
			  s->who, s->next_msg, len, at);
	free(want);
}

static void received(struct vside *s, const struct vrecv *recv, const struct rackwire_roce_wc *wc)
{
	struct vside *peer = vside_peer(s);
	struct vnet *net = s->host->net;
	struct vop *msg;
	u32 opcode, flags, ex;

	if (s->recv_status)
		vnet_fail(net, "connection %u end %u: a receive succeeds after the queue has failed", s->conn->index,
			  s->who);
	if (net->forged)
		return;
	if (s->next_msg >= peer->nmsgs || peer->msgs[s->next_msg]->bad) {
		vnet_fail(net, "connection %u end %u: message %u was never sent", s->conn->index, s->who, s->next_msg);
		return;
	}
	msg = peer->msgs[s->next_msg];
	opcode = msg->opcode == RACKWIRE_ROCE_WR_RDMA_WRITE_WITH_IMM ? RACKWIRE_ROCE_WC_RECV_RDMA_WITH_IMM :
								       RACKWIRE_ROCE_WC_RECV;
	flags = msg->opcode == RACKWIRE_ROCE_WR_SEND_WITH_INV ? RACKWIRE_ROCE_WC_WITH_INV :
		msg->opcode == RACKWIRE_ROCE_WR_SEND	      ? 0 :
								RACKWIRE_ROCE_WC_WITH_IMM;
	ex = flags == RACKWIRE_ROCE_WC_WITH_INV ? msg->inv_key : flags ? msg->imm : wc->ex;
	if (wc->opcode != opcode || wc->byte_len != msg->len || wc->flags != flags || wc->ex != ex) {
		vnet_fail(net, "connection %u end %u: message %u: opcode %u, not %u; %u bytes, not %u; flags %u, not %u; %x, not %x",
			  s->conn->index, s->who, s->next_msg, wc->opcode, opcode, wc->byte_len, msg->len, wc->flags, flags,
			  wc->ex, ex);
		return;
	}
	check_content(s, recv, msg);
	for (u32 i = 0; i < VTARGETS; i++)
		vcell_check(s->target[i].cell, msg->marks[i]);
	if (flags == RACKWIRE_ROCE_WC_WITH_INV)
		invalidated(s, &s->target[VDYN], msg->inv_key);
	s->next_msg++;
}

static void recv_done(struct vrecv *recv, const struct rackwire_roce_wc *wc)
{
	struct vside *s = recv->side, *peer = vside_peer(s);
	struct vnet *net = s->host->net;

	if (s->recv_head >= s->nrecvs || s->recvs[s->recv_head] != recv) {
		vnet_fail(net, "connection %u end %u: a receive completes out of order", s->conn->index, s->who);
		return;
	}
	if (wc->status == RACKWIRE_ROCE_WC_SUCCESS) {
		received(s, recv, wc);
	} else {
		bool too_long = s->next_msg < peer->nmsgs && peer->msgs[s->next_msg]->bad;

		if (!(too_long && wc->status == RACKWIRE_ROCE_WC_LOC_LEN_ERR && !s->recv_status))
			check_status(s, wc->status, NULL);
		if (!s->recv_status)
			s->recv_status = wc->status;
	}
	vrecv_release(recv);
	s->recv_head++;
}

/* ---- completion queues ---- */

static void one(struct vhost *h, const struct rackwire_roce_wc *wc)
{
	struct vapp *app = vapp_of(h->net);
	u64 index = wc->wr_id - 0xabc000000000ull;
	struct vside *s;

	app->completions++;
	app->flushes += wc->status == RACKWIRE_ROCE_WC_WR_FLUSH_ERR;
	if (index >= app->nwrs) {
		vnet_fail(h->net, "device %u: a completion of what was never posted, id %llx", h->index,
			  (unsigned long long)wc->wr_id);
		return;
	}
	s = app->wrs[index].recv ? ((struct vrecv *)app->wrs[index].p)->side : ((struct vop *)app->wrs[index].p)->side;
	if (s->destroyed_qp && !s->qp) { /* it was in the CQ before */
		app->strays++;
		return;
	}
	if (app->wrs[index].done) {
		vnet_fail(h->net, "connection %u end %u: a %s completes twice", s->conn->index, s->who,
			  app->wrs[index].recv ? "receive" : "request");
		return;
	}
	app->wrs[index].done = true;
	if (h->net->verbose)
		printf("# %12llu connection %u end %u: %s %u status %u opcode %u\n", (unsigned long long)h->net->now, s->conn->index,
		       s->who, app->wrs[index].recv ? "receive" : "request",
		       app->wrs[index].recv ? s->recv_head : ((struct vop *)app->wrs[index].p)->index, wc->status, wc->opcode);
	if (s->host != h || wc->qp_context != s || wc->qp_num != roce_qp_num(s->qp)) {
		vnet_fail(h->net, "connection %u end %u: a completion names another queue pair", s->conn->index, s->who);
		return;
	}
	if (app->wrs[index].recv)
		recv_done(app->wrs[index].p, wc);
	else
		send_done(app->wrs[index].p, wc);
}

bool vdone_poll(struct vhost *h, struct roce_cq *cq)
{
	struct rackwire_roce_wc wc[POLL_MAX];
	bool any = false;

	while (!h->net->failed) {
		int n = roce_poll_cq(cq, wc, (u32)vrange(&h->net->rng, 1, POLL_MAX));

		if (n < 0)
			vnet_fail(h->net, "device %u: a completion queue with room for all overflows: %d", h->index, n);
		if (n <= 0)
			break;
		any = true;
		for (int i = 0; i < n && !h->net->failed; i++)
			one(h, &wc[i]);
	}
	return any;
}

void vdone_vanish(struct vside *s)
{
	while (s->head < s->nops)
		retire(s->ops[s->head], ~0u);
	while (s->recv_head < s->nrecvs)
		vrecv_release(s->recvs[s->recv_head++]);
	if (s->sink.ext && s->sink.ext->open)
		vext_close(s->sink.ext);
}
