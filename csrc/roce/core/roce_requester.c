// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The requester of a reliable connection [IBTA 9.4, 9.7.3, 9.7.5.1]: what goes
 * out of the send queue. What comes back is in roce_completer.c.
 *
 * A READ goes out as several READ requests, none for more than the congestion
 * window allows: its responses are the only flow in the protocol that nothing
 * else would bound.
 */
#include "roce_qp.h"

void roce_req_connect(struct roce_qp *qp)
{
	struct roce_requester *r = &qp->req;
	u32 window = qp->d->cfg.window >> qp->mtu_shift;

	r->una = r->nxt = r->max = qp->link.sq_psn;
	r->cwnd_max = window < 2 ? 2 : window;
	r->cwnd = r->ssthresh = r->cwnd_max;
	r->rto_at = ROCE_NEVER;
}

static bool is_read(const struct roce_wqe *wqe)
{
	return wqe->opcode == RACKWIRE_ROCE_WR_RDMA_READ || wqe->opcode == RACKWIRE_ROCE_WR_RDMA_READ_WITH_INV;
}

static bool is_local(const struct roce_wqe *wqe)
{
	return wqe->opcode >= RACKWIRE_ROCE_WR_LOCAL_INV;
}

static u32 inflight(const struct roce_requester *r)
{
	return (r->nxt - r->una) & ROCE_PSN_MASK;
}

/*
 * A local request runs when its turn comes. What takes a key away waits until
 * nothing before it can be sent again [IBTA 10.6.5].
 * Return: false when it has to wait.
 */
static bool run_local(struct roce_qp *qp, struct roce_wqe *wqe)
{
	struct roce_requester *r = &qp->req;
	bool takes = wqe->opcode == RACKWIRE_ROCE_WR_LOCAL_INV || wqe->ex.reg.mr->valid;
	int err;

	if ((takes && r->cur != r->head) || (wqe->flags & RACKWIRE_ROCE_SEND_FENCE && r->rd_wqes))
		return false;
	if (wqe->opcode == RACKWIRE_ROCE_WR_LOCAL_INV) {
		err = roce_mr_invalidate(qp->pd, wqe->ex.rkey, false);
	} else {
		err = roce_mr_bind(wqe->ex.reg.mr, qp->pd, wqe->ex.reg.key, wqe->ex.reg.access);
		roce_mr_put(wqe->ex.reg.mr);
		wqe->ex.reg.mr = NULL;
	}
	wqe->started = true;
	if (err)
		wqe->status = RACKWIRE_ROCE_WC_MW_BIND_ERR;
	return true;
}

/* Local elements are checked when a request starts and whenever a key has died since. */
bool roce_wqe_allowed(struct roce_qp *qp, struct roce_wqe *wqe, u32 index)
{
	u32 access = is_read(wqe) || wqe->opcode >= RACKWIRE_ROCE_WR_ATOMIC_CMP_AND_SWP ?
			     RACKWIRE_ROCE_LOCAL_WRITE : 0;

	if (wqe->epoch == qp->d->mr_epoch)
		return true;
	if (!roce_sges_allowed(qp->pd, roce_wqe_sge(qp, index), wqe->num_sge, access))
		return false;
	wqe->epoch = qp->d->mr_epoch;
	return true;
}

/* Return: false when it has to wait for what is before it. */
static bool start(struct roce_qp *qp, struct roce_wqe *wqe)
{
	struct roce_requester *r = &qp->req;

	if (wqe->flags & RACKWIRE_ROCE_SEND_FENCE && r->rd_wqes)
		return false;
	wqe->started = true;
	wqe->first = r->nxt;
	wqe->npkts = roce_npkts(qp, wqe->length);
	if (!roce_wqe_reads(wqe))
		return true;
	if (!qp->link.max_rd_atomic)
		wqe->status = RACKWIRE_ROCE_WC_LOC_QP_OP_ERR;
	else
		r->rd_wqes++;
	return true;
}

/*
 * The request at nxt, started, allowed to run and with something to send; or
 * NULL. A request that must fail stops everything behind it and fails once it
 * is the oldest.
 */
static struct roce_wqe *current_wqe(struct roce_qp *qp, u64 now)
{
	struct roce_requester *r = &qp->req;

	while (r->cur != r->tail) {
		struct roce_wqe *wqe = &r->wqe[r->cur & r->mask];

		if (is_local(wqe)) {
			if (!wqe->started && !run_local(qp, wqe))
				return NULL;
		} else if (!wqe->started && !start(qp, wqe)) {
			return NULL;
		} else if (!wqe->status && !roce_wqe_allowed(qp, wqe, r->cur)) {
			wqe->status = RACKWIRE_ROCE_WC_LOC_PROT_ERR;
		}
		if (wqe->status) {
			if (r->cur == r->head)
				roce_req_fail(qp, now, wqe->status, -EFAULT);
			return NULL;
		}
		if (!is_local(wqe))
			return wqe;
		r->cur++;
		roce_req_advance(qp, now, r->una);
		if (qp->state != RACKWIRE_ROCE_QP_RTS)
			return NULL;
	}
	return NULL;
}

/* Frags of @len bytes from byte @off of the request's list on. */
static void gather(const struct roce_qp *qp, const struct roce_wqe *wqe, u32 index, u32 off, u32 len,
		   struct roce_txpkt *pkt)
{
	const struct rackwire_roce_sge *sge = roce_wqe_sge(qp, index);
	u32 i, part;

	pkt->nfrags = 0;
	pkt->payload_len = len;
	for (i = 0; i < wqe->num_sge && len; i++) {
		if (off >= sge[i].length) {
			off -= sge[i].length;
			continue;
		}
		part = sge[i].length - off;
		if (part > len)
			part = len;
		pkt->frags[pkt->nfrags].ptr = (const u8 *)(uintptr_t)sge[i].addr + off;
		pkt->frags[pkt->nfrags++].len = part;
		len -= part;
		off = 0;
	}
}

static u8 send_opcode(const struct roce_wqe *wqe, bool first, bool last)
{
	bool write = wqe->opcode == RACKWIRE_ROCE_WR_RDMA_WRITE ||
		     wqe->opcode == RACKWIRE_ROCE_WR_RDMA_WRITE_WITH_IMM;

	if (!last)
		return (write ? ROCE_WRITE_FIRST : ROCE_SEND_FIRST) + !first;
	switch (wqe->opcode) {
	case RACKWIRE_ROCE_WR_SEND_WITH_IMM:
		return first ? ROCE_SEND_ONLY_IMM : ROCE_SEND_LAST_IMM;
	case RACKWIRE_ROCE_WR_SEND_WITH_INV:
		return first ? ROCE_SEND_ONLY_INV : ROCE_SEND_LAST_INV;
	case RACKWIRE_ROCE_WR_RDMA_WRITE:
		return first ? ROCE_WRITE_ONLY : ROCE_WRITE_LAST;
	case RACKWIRE_ROCE_WR_RDMA_WRITE_WITH_IMM:
		return first ? ROCE_WRITE_ONLY_IMM : ROCE_WRITE_LAST_IMM;
	}
	return first ? ROCE_SEND_ONLY : ROCE_SEND_LAST;
}

static void sent(struct roce_qp *qp, u64 now, u32 npsn, bool asks)
{
	struct roce_requester *r = &qp->req;
	bool again = roce_psn_diff(r->nxt, r->max) < 0;

	if (again) {
		qp->stats.rtx_packets++;
	} else if (asks && !r->sampling) {
		r->sampling = true;
		r->sample_psn = r->nxt;
		r->sample_at = now;
	}
	r->nxt = roce_psn_add(r->nxt, npsn);
	if (roce_psn_diff(r->nxt, r->max) > 0)
		r->max = r->nxt;
	r->since_ackreq = asks ? 0 : r->since_ackreq + 1;
	if (r->rto_at == ROCE_NEVER) {
		r->stall_from = now;
		roce_req_arm(qp, now);
	}
}

/*
 * The end of a message or of the window asks for an acknowledge; so does each
 * quarter of the window, lest all that was lost be the end of it and nothing
 * tell of the gap.
 */
static bool ask(const struct roce_qp *qp, u32 flying, bool last)
{
	const struct roce_requester *r = &qp->req;

	return last || flying + 1 >= r->cwnd || r->since_ackreq + 1 >= qp->d->cfg.ack_every ||
	       4 * (r->since_ackreq + 1) >= r->cwnd;
}

static int build_message(struct roce_qp *qp, u64 now, struct roce_wqe *wqe, struct roce_txpkt *pkt)
{
	struct roce_requester *r = &qp->req;
	u32 index = (r->nxt - wqe->first) & ROCE_PSN_MASK, off = index << qp->mtu_shift, flying = inflight(r);
	bool first = !index, last = index + 1 == wqe->npkts, asks;
	u32 len = last ? wqe->length - off : qp->mtu;
	struct roce_pkt h;

	if (flying >= r->cwnd || !roce_rate_ready(qp, now))
		return 0;
	roce_tx_begin(qp, &h, send_opcode(wqe, first, last), r->nxt);
	asks = ask(qp, flying, last);
	h.ackreq = asks;
	h.se = last && wqe->flags & RACKWIRE_ROCE_SEND_SOLICITED;
	h.va = wqe->remote_addr;
	h.rkey = wqe->rkey;
	h.dma_len = wqe->length;
	h.imm = wqe->ex.imm;
	h.inv_rkey = wqe->ex.rkey;
	gather(qp, wqe, r->cur, off, len, pkt);
	roce_tx_finish(qp, pkt, &h, true);
	roce_rate_sent(qp, now, len);
	sent(qp, now, 1, asks);
	if (last)
		r->cur++;
	return 1;
}

/* PSNs of @left that the next READ request may ask for; 0: none now. */
static u32 read_room(const struct roce_qp *qp, u32 left)
{
	const struct roce_requester *r = &qp->req;
	u32 flying = inflight(r);
	u32 most = qp->link.max_rd_atomic > 1 ? (r->cwnd + 1) / 2 : r->cwnd;
	u32 least = (r->cwnd + 3) / 4, room;

	if (flying >= r->cwnd)
		return 0;
	room = r->cwnd - flying;
	if (room > most)
		room = most;
	if (room > left)
		room = left;
	return room >= least || room == left ? room : 0;
}

/* The READ request in @slot, about to be sent again, becomes two: the first ends at @end. */
static void split_read(struct roce_requester *r, u32 slot, u32 end)
{
	u32 i;

	for (i = r->rd_head + r->rd_n++; i % ROCE_RD_RING != slot; i--) {
		r->rd_start[i % ROCE_RD_RING] = r->rd_start[(i - 1) % ROCE_RD_RING];
		r->rd_end[i % ROCE_RD_RING] = r->rd_end[(i - 1) % ROCE_RD_RING];
	}
	r->rd_end[slot] = end;
	r->rd_start[(slot + 1) % ROCE_RD_RING] = end;
}

/*
 * One READ request or atomic. What is sent again is all or part of what was
 * asked for at first, since responders know that much of a READ.
 */
static int build_read(struct roce_qp *qp, u64 now, struct roce_wqe *wqe, struct roce_txpkt *pkt)
{
	struct roce_requester *r = &qp->req;
	u32 index = (r->nxt - wqe->first) & ROCE_PSN_MASK, off = index << qp->mtu_shift;
	u32 slot = (r->rd_head + r->rd_out) % ROCE_RD_RING, left, npsn;
	bool again = r->rd_out < r->rd_n;
	struct roce_pkt h;

	if (r->rd_out >= qp->link.max_rd_atomic)
		return 0;
	left = again ? (r->rd_end[slot] - r->nxt) & ROCE_PSN_MASK : wqe->npkts - index;
	npsn = read_room(qp, left);
	if (!npsn)
		return 0;
	if (!again) {
		r->rd_start[slot] = r->nxt;
		r->rd_end[slot] = roce_psn_add(r->nxt, npsn);
		r->rd_n++;
	} else if (npsn < left && r->rd_n < ROCE_RD_RING) {
		split_read(r, slot, roce_psn_add(r->nxt, npsn));
	} else {
		npsn = left;
	}
	r->rd_out++;
	roce_tx_begin(qp, &h, ROCE_READ_REQUEST, r->nxt);
	h.va = wqe->remote_addr;
	h.rkey = wqe->rkey;
	if (is_read(wqe)) {
		h.va += off;
		h.dma_len = index + npsn == wqe->npkts ? wqe->length - off : npsn << qp->mtu_shift;
	} else if (wqe->opcode == RACKWIRE_ROCE_WR_ATOMIC_CMP_AND_SWP) {
		h.opcode = ROCE_COMPARE_SWAP;
		h.compare = wqe->compare_add;
		h.swap_add = wqe->swap;
	} else {
		h.opcode = ROCE_FETCH_ADD;
		h.swap_add = wqe->compare_add;
	}
	h.ackreq = true;
	pkt->nfrags = 0;
	pkt->payload_len = 0;
	roce_tx_finish(qp, pkt, &h, true);
	sent(qp, now, npsn, true);
	if (index + npsn == wqe->npkts)
		r->cur++;
	return 1;
}

/*
 * An idle connection asks for an acknowledgement by repeating the last PSN,
 * which the responder takes for a duplicate: it answers and executes nothing.
 */
static int build_probe(struct roce_qp *qp, struct roce_txpkt *pkt)
{
	struct roce_pkt h;

	qp->req.probe = false;
	roce_tx_begin(qp, &h, ROCE_WRITE_ONLY, roce_psn_add(qp->req.una, ROCE_PSN_MASK));
	h.ackreq = true;
	pkt->nfrags = 0;
	pkt->payload_len = 0;
	roce_tx_finish(qp, pkt, &h, true);
	return 1;
}

int roce_req_build(struct roce_qp *qp, u64 now, struct roce_txpkt *pkt)
{
	struct roce_requester *r = &qp->req;
	struct roce_wqe *wqe;

	if (qp->state != RACKWIRE_ROCE_QP_RTS || r->rnr_wait)
		return 0;
	wqe = current_wqe(qp, now);
	if (wqe) {
		r->probe = false;
		return roce_wqe_reads(wqe) ? build_read(qp, now, wqe, pkt) : build_message(qp, now, wqe, pkt);
	}
	return r->probe && r->una == r->max ? build_probe(qp, pkt) : 0;
}
