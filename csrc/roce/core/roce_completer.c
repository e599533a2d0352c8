// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The requester of a reliable connection, second half: what comes back from the
 * responder, or does not [IBTA 9.7.5, 9.7.6, 9.9.2].
 *
 * Besides the connection's ACK timeout, which alone counts towards its retries,
 * silence is met by earlier repetition of little after a measured round trip
 * time (as RFC 6298 computes it): to the responder these are duplicates. Where
 * peers are processes that do not always run, silence is often nothing but
 * that, and what it changed is taken back (in the spirit of RFC 3522, Eifel).
 */
#include "roce_qp.h"

#define MIN_RTO_NS (20 * ROCE_MS) /* a slice or two of a scheduler */
#define FIRST_RTO_NS (100 * ROCE_MS)
#define MAX_BACKOFF 16
#define LEAST_CWND 2

/* ---- timing and congestion ---- */

static u64 rto(const struct roce_qp *qp)
{
	const struct roce_requester *r = &qp->req;
	u64 t = r->srtt ? r->srtt + 4 * r->rttvar : FIRST_RTO_NS;

	if (!qp->link.retry_count)
		return qp->ack_timeout;
	return roce_min(roce_max(t, MIN_RTO_NS) << r->backoff, qp->ack_timeout);
}

void roce_req_arm(struct roce_qp *qp, u64 now)
{
	struct roce_requester *r = &qp->req;

	r->rto_at = roce_min(roce_after(now, rto(qp)), roce_after(r->stall_from, qp->ack_timeout));
	if (r->rto_at <= now)
		r->rto_at = now + 1;
	roce_qp_wake_at(qp, r->rto_at);
}

static void sample(struct roce_requester *r, u64 now)
{
	u64 rtt = now - r->sample_at, apart;

	r->sampling = false;
	if (!rtt)
		rtt = 1;
	if (!r->srtt) {
		r->srtt = rtt;
		r->rttvar = rtt / 2;
		return;
	}
	apart = rtt > r->srtt ? rtt - r->srtt : r->srtt - rtt;
	r->rttvar += apart / 4 - r->rttvar / 4;
	r->srtt += rtt / 8 - r->srtt / 8;
}

static void grow(struct roce_requester *r, u32 acked)
{
	if (r->cwnd >= r->cwnd_max)
		return;
	if (r->cwnd < r->ssthresh) {
		r->cwnd += acked;
	} else {
		r->grow += acked;
		if (r->grow >= r->cwnd) {
			r->grow = 0;
			r->cwnd += 1 + r->cwnd / 32;
		}
	}
	if (r->cwnd > r->cwnd_max)
		r->cwnd = r->cwnd_max;
}

/*
 * Up to half of the window, once per window. It begins with next to nothing, for
 * the queue that overflowed is still full of what the responder will not take.
 */
static void lost(struct roce_requester *r)
{
	if (((r->max - r->una) & ROCE_PSN_MASK) <= LEAST_CWND)
		return;
	if (!r->cut) {
		r->cut = true;
		r->cut_end = r->max;
		r->ssthresh = r->cwnd / 2 < LEAST_CWND ? LEAST_CWND : r->cwnd / 2;
	}
	r->cwnd = LEAST_CWND;
	r->grow = 0;
}

/* ---- completion ---- */

static void complete(struct roce_qp *qp, struct roce_wqe *wqe)
{
	u32 status = RACKWIRE_ROCE_WC_SUCCESS;

	if (roce_wqe_reads(wqe))
		qp->req.rd_wqes--;
	if (wqe->opcode == RACKWIRE_ROCE_WR_RDMA_READ_WITH_INV &&
	    roce_mr_invalidate(qp->pd, wqe->ex.rkey, false))
		status = RACKWIRE_ROCE_WC_MW_BIND_ERR;
	wqe->status = (u8)status;
	if (!status)
		roce_complete_send(qp, wqe, status);
}

/*
 * After a timeout, an acknowledge of what was not even sent again: nothing was
 * lost, so go on where the timeout found us.
 */
static void undo(struct roce_requester *r)
{
	r->cwnd = r->undo_cwnd;
	r->ssthresh = r->undo_ssthresh;
	r->cut = false;
	r->nxt = r->max;
	r->cur = r->undo_cur;
	r->rd_out = r->rd_n;
}

static void moved(struct roce_qp *qp, u64 now, u32 psn)
{
	struct roce_requester *r = &qp->req;

	if (r->undo && roce_psn_diff(psn, r->nxt) > 0)
		undo(r);
	r->undo = false;
	grow(r, (psn - r->una) & ROCE_PSN_MASK);
	r->una = psn;
	/* Here, for half of all PSNs later this one would seem to be ahead again. */
	if (r->cut && roce_psn_diff(psn, r->cut_end) >= 0)
		r->cut = false;
	r->backed = false;
	r->retries = r->rnr_tries = r->backoff = 0;
	r->rnr_wait = false;
	r->stall_from = now;
	if (r->sampling && roce_psn_diff(psn, r->sample_psn) > 0)
		sample(r, now);
	while (r->rd_n && roce_psn_diff(psn, r->rd_end[r->rd_head % ROCE_RD_RING]) >= 0) {
		r->rd_head++;
		r->rd_n--;
		if (r->rd_out)
			r->rd_out--;
	}
	if (psn == r->max)
		r->rto_at = ROCE_NEVER;
	else
		roce_req_arm(qp, now);
}

/*
 * Everything before @psn is acknowledged, READs and atomics in it answered.
 * Completes what that completes, and local requests whose turn has come.
 */
void roce_req_advance(struct roce_qp *qp, u64 now, u32 psn)
{
	struct roce_requester *r = &qp->req;

	if (psn != r->una)
		moved(qp, now, psn);
	while (r->head != r->tail) {
		struct roce_wqe *wqe = &r->wqe[r->head & r->mask];

		if (!wqe->started || wqe->status ||
		    (wqe->npkts && roce_psn_diff(psn, roce_psn_add(wqe->first, wqe->npkts)) < 0))
			break;
		complete(qp, wqe);
		if (wqe->status) {
			roce_req_fail(qp, now, wqe->status, -EFAULT);
			return;
		}
		r->head++;
	}
	if ((s32)(r->cur - r->head) < 0)
		r->cur = r->head;
	if (roce_psn_diff(r->nxt, psn) < 0) {
		r->nxt = psn;
		r->cur = r->head;
		r->rd_out = 0;
	}
	roce_kick_req(qp);
}

/* The oldest request fails, and the queue pair with it. */
void roce_req_fail(struct roce_qp *qp, u64 now, u32 status, int error)
{
	struct roce_requester *r = &qp->req;
	struct roce_wqe *wqe = &r->wqe[r->head & r->mask];

	if (r->head != r->tail) {
		if (wqe->opcode == RACKWIRE_ROCE_WR_REG_MR && wqe->ex.reg.mr)
			roce_mr_put(wqe->ex.reg.mr);
		roce_complete_send(qp, wqe, status);
		r->head++;
	}
	roce_qp_fail(qp, now, error);
}

void roce_req_flush(struct roce_qp *qp, bool tell)
{
	struct roce_requester *r = &qp->req;

	for (; r->head != r->tail; r->head++) {
		struct roce_wqe *wqe = &r->wqe[r->head & r->mask];

		if (wqe->opcode == RACKWIRE_ROCE_WR_REG_MR && wqe->ex.reg.mr)
			roce_mr_put(wqe->ex.reg.mr);
		if (tell)
			roce_complete_send(qp, wqe, RACKWIRE_ROCE_WC_WR_FLUSH_ERR);
	}
	r->cur = r->head;
}

/* ---- loss ---- */

static void rewind(struct roce_qp *qp)
{
	struct roce_requester *r = &qp->req;

	r->nxt = r->una;
	r->cur = r->head;
	r->rd_out = 0;
	r->sampling = false;
	r->since_ackreq = 0;
	r->backed = true;
	r->backed_at = r->una;
	lost(r);
	roce_kick_req(qp);
}

static bool retry(struct roce_qp *qp, u64 now)
{
	if (++qp->req.retries <= qp->link.retry_count)
		return true;
	roce_req_fail(qp, now, RACKWIRE_ROCE_WC_RETRY_EXC_ERR, -ETIMEDOUT);
	return false;
}

/* The responder misses una, by its word or by what it left out. Heard again, it is no news. */
static void go_back(struct roce_qp *qp, u64 now)
{
	struct roce_requester *r = &qp->req;

	if (r->rnr_wait || (r->backed && r->backed_at == r->una))
		return;
	r->undo = false;
	if (retry(qp, now))
		rewind(qp);
}

/* Of timeouts in a row the first one knows how it was before; only if nxt was not on its way to max already. */
static void keep_for_undo(struct roce_requester *r)
{
	if (r->undo)
		return;
	r->undo = r->nxt == r->max;
	r->undo_cur = r->cur;
	r->undo_cwnd = r->cwnd;
	r->undo_ssthresh = r->ssthresh;
}

void roce_req_timer(struct roce_qp *qp, u64 now)
{
	struct roce_requester *r = &qp->req;

	if (qp->state != RACKWIRE_ROCE_QP_RTS)
		return;
	if (r->rnr_wait) {
		if (now >= r->rnr_at) {
			r->rnr_wait = false;
			roce_kick_req(qp);
		}
		return;
	}
	if (now < r->rto_at)
		return;
	qp->stats.timeouts++;
	if (now >= roce_after(r->stall_from, qp->ack_timeout)) {
		if (!retry(qp, now))
			return;
		r->stall_from = now;
	}
	if (r->backoff < MAX_BACKOFF)
		r->backoff++;
	keep_for_undo(r);
	rewind(qp);
	roce_req_arm(qp, now);
}

u64 roce_req_deadline(const struct roce_qp *qp)
{
	return qp->req.rnr_wait ? qp->req.rnr_at : qp->req.rto_at;
}

/* ---- responses ---- */

/*
 * All before @psn is acknowledged by implication. A READ or atomic among it
 * that was not answered was lost on the way back [IBTA 9.7.5.1.1, implied NAK].
 * Return: false then, with una at what is missing.
 */
static bool acknowledge(struct roce_qp *qp, u64 now, u32 psn)
{
	struct roce_requester *r = &qp->req;
	u32 start = r->rd_start[r->rd_head % ROCE_RD_RING];

	if (!r->rd_n || roce_psn_diff(psn, start) <= 0) {
		roce_req_advance(qp, now, psn);
		return true;
	}
	if (roce_psn_diff(start, r->una) > 0)
		roce_req_advance(qp, now, start);
	return false;
}

static void rx_rnr(struct roce_qp *qp, u64 now, const struct roce_pkt *h)
{
	struct roce_requester *r = &qp->req;

	qp->stats.rnr_nak_rx++;
	if (r->rnr_wait && h->psn == r->una)
		return;
	if (!acknowledge(qp, now, h->psn)) {
		go_back(qp, now);
		return;
	}
	if (qp->state != RACKWIRE_ROCE_QP_RTS)
		return;
	if (qp->link.rnr_retry_count != 7 && ++r->rnr_tries > qp->link.rnr_retry_count) {
		roce_req_fail(qp, now, RACKWIRE_ROCE_WC_RNR_RETRY_EXC_ERR, -EBUSY);
		return;
	}
	r->nxt = r->una;
	r->cur = r->head;
	r->rd_out = 0;
	r->sampling = r->undo = false;
	r->rnr_wait = true;
	r->rnr_at = now + roce_rnr_ns(h->syndrome & ROCE_SYN_VALUE);
	r->rto_at = ROCE_NEVER;
	roce_qp_wake_at(qp, r->rnr_at);
}

/* The request of @psn was refused for good; those before it that stay unanswered go unexecuted or unknown. */
static void refused(struct roce_qp *qp, u64 now, u32 psn, u32 status, int error)
{
	struct roce_requester *r = &qp->req;

	if (!acknowledge(qp, now, psn))
		while (r->head != r->tail) {
			struct roce_wqe *wqe = &r->wqe[r->head & r->mask];

			if (!wqe->started || (wqe->npkts &&
			    roce_psn_diff(psn, roce_psn_add(wqe->first, wqe->npkts)) < 0))
				break;
			roce_complete_send(qp, wqe, RACKWIRE_ROCE_WC_WR_FLUSH_ERR);
			r->head++;
		}
	if (qp->state == RACKWIRE_ROCE_QP_RTS)
		roce_req_fail(qp, now, status, error);
}

static void rx_nak(struct roce_qp *qp, u64 now, const struct roce_pkt *h)
{
	if (h->syndrome == ROCE_NAK_PSN_SEQUENCE) {
		qp->stats.seq_nak_rx++;
		acknowledge(qp, now, h->psn);
		if (qp->state == RACKWIRE_ROCE_QP_RTS)
			go_back(qp, now);
		return;
	}
	if (h->syndrome > ROCE_NAK_REMOTE_OPERATION)
		return; /* reserved */
	qp->stats.error_nak_rx++;
	if (h->syndrome == ROCE_NAK_INVALID_REQUEST)
		refused(qp, now, h->psn, RACKWIRE_ROCE_WC_REM_INV_REQ_ERR, -EPROTO);
	else if (h->syndrome == ROCE_NAK_REMOTE_ACCESS)
		refused(qp, now, h->psn, RACKWIRE_ROCE_WC_REM_ACCESS_ERR, -EACCES);
	else
		refused(qp, now, h->psn, RACKWIRE_ROCE_WC_REM_OP_ERR, -EREMOTEIO);
}

static void rx_ack(struct roce_qp *qp, u64 now, const struct roce_pkt *h)
{
	if (roce_syn_is_ack(h->syndrome)) {
		qp->stats.acks_rx++;
		if (!acknowledge(qp, now, roce_psn_add(h->psn, 1)))
			go_back(qp, now);
	} else if (roce_syn_is_rnr(h->syndrome)) {
		rx_rnr(qp, now, h);
	} else if (roce_syn_is_nak(h->syndrome)) {
		rx_nak(qp, now, h);
	}
}

/*
 * The READ or atomic that a response is the next answer to. What it skips is
 * acknowledged or has to be asked for again.
 */
static struct roce_wqe *answered(struct roce_qp *qp, u64 now, u32 psn)
{
	struct roce_requester *r = &qp->req;
	struct roce_wqe *wqe;

	if (psn != r->una && !acknowledge(qp, now, psn)) {
		go_back(qp, now);
		return NULL;
	}
	wqe = &r->wqe[r->head & r->mask];
	if (qp->state != RACKWIRE_ROCE_QP_RTS || r->head == r->tail || !wqe->started || !roce_wqe_reads(wqe) ||
	    roce_psn_diff(psn, wqe->first) < 0)
		return NULL;
	return wqe;
}

static void rx_data(struct roce_qp *qp, u64 now, const struct roce_pkt *h, const u8 *data, u32 len)
{
	struct roce_requester *r = &qp->req;
	struct roce_wqe *wqe = answered(qp, now, h->psn);
	bool atomic = h->opcode == ROCE_ATOMIC_ACK;
	u32 index, off, expected;

	if (!wqe)
		return;
	index = (h->psn - wqe->first) & ROCE_PSN_MASK;
	off = index << qp->mtu_shift;
	expected = index + 1 == wqe->npkts ? wqe->length - off : qp->mtu;
	if (len != expected || atomic != (wqe->opcode >= RACKWIRE_ROCE_WR_ATOMIC_CMP_AND_SWP)) {
		roce_req_fail(qp, now, RACKWIRE_ROCE_WC_BAD_RESP_ERR, -EPROTO);
		return;
	}
	if (!roce_wqe_allowed(qp, wqe, r->head)) {
		roce_req_fail(qp, now, RACKWIRE_ROCE_WC_LOC_PROT_ERR, -EFAULT);
		return;
	}
	roce_scatter(roce_wqe_sge(qp, r->head), wqe->num_sge, off, data, len);
	roce_req_advance(qp, now, roce_psn_add(h->psn, 1));
}

void roce_req_rx(struct roce_qp *qp, u64 now, const struct roce_pkt *h, const u8 *payload)
{
	struct roce_requester *r = &qp->req;

	/* Of a PSN that is not under way: a late duplicate, or the answer to a probe. */
	if (((h->psn - r->una) & ROCE_PSN_MASK) >= ((r->max - r->una) & ROCE_PSN_MASK))
		return;
	if (h->opcode == ROCE_ACK)
		rx_ack(qp, now, h);
	else if (h->opcode == ROCE_ATOMIC_ACK)
		rx_data(qp, now, h, (const u8 *)&h->orig, sizeof(h->orig));
	else
		rx_data(qp, now, h, payload, h->payload_len);
}
