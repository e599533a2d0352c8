// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The responder of a reliable connection [IBTA 9.4, 9.7.4, 9.9.3]: executes
 * requests in the order of their PSNs, exactly once. What it answers with is in
 * roce_response.c.
 *
 * Where the specification leaves room or peers differ:
 * - A SEND longer than its receive is refused as an invalid request; the receive
 *   completes with a length error.
 * - An invalid key in a SEND with invalidate is refused as a remote access error
 *   and the receive completes with an access error. (Linux rdma_rxe acknowledges
 *   such a SEND.) A key may be invalidated by whom it grants remote access.
 * - Duplicates are acknowledged whether they ask for it or not.
 */
#include "roce_qp.h"

void roce_resp_connect(struct roce_qp *qp)
{
	qp->resp.epsn = qp->link.rq_psn;
}

/* ---- receives ---- */

static struct roce_rwqe *receive(struct roce_qp *qp)
{
	struct roce_responder *r = &qp->resp;

	return r->head != r->tail ? &r->wqe[r->head & r->mask] : NULL;
}

static struct rackwire_roce_sge *receive_sge(struct roce_qp *qp)
{
	struct roce_responder *r = &qp->resp;

	return r->sge + (size_t)(r->head & r->mask) * qp->max_sge;
}

static void receive_done(struct roce_qp *qp, struct rackwire_roce_wc *wc, bool solicited)
{
	struct roce_responder *r = &qp->resp;

	wc->wr_id = r->wqe[r->head & r->mask].wr_id;
	wc->qp_num = qp->num;
	wc->qp_context = qp->user;
	r->head++;
	r->recv_taken = false;
	roce_complete_recv(qp, wc, solicited);
}

void roce_resp_flush(struct roce_qp *qp)
{
	while (receive(qp)) {
		struct rackwire_roce_wc wc = { .status = RACKWIRE_ROCE_WC_WR_FLUSH_ERR, .opcode = RACKWIRE_ROCE_WC_RECV };

		receive_done(qp, &wc, false);
	}
}

/* ---- refusal ---- */

static int error_of(u8 syndrome)
{
	if (syndrome == ROCE_NAK_REMOTE_ACCESS)
		return -EACCES;
	return syndrome == ROCE_NAK_INVALID_REQUEST ? -EPROTO : -EREMOTEIO;
}

/* For good: the NAK, then the error state. @recv_status: of the receive under way, if there is one. */
static void refuse(struct roce_qp *qp, u64 now, u8 syndrome, u32 recv_status)
{
	struct roce_responder *r = &qp->resp;

	r->fatal = syndrome;
	r->fatal_psn = r->epsn;
	roce_resp_ack(qp, syndrome, r->epsn);
	if (!r->q_n)
		roce_resp_last_word(qp);
	qp->d->stats.rx_refused++;
	if (r->recv_taken) {
		struct rackwire_roce_wc wc = { .status = recv_status, .opcode = RACKWIRE_ROCE_WC_RECV };

		receive_done(qp, &wc, false);
	}
	roce_qp_fail(qp, now, error_of(syndrome));
}

static void refuse_request(struct roce_qp *qp, u64 now)
{
	refuse(qp, now, ROCE_NAK_INVALID_REQUEST, RACKWIRE_ROCE_WC_REM_INV_REQ_ERR);
}

static void refuse_access(struct roce_qp *qp, u64 now)
{
	refuse(qp, now, ROCE_NAK_REMOTE_ACCESS, RACKWIRE_ROCE_WC_LOC_ACCESS_ERR);
}

/* Nothing that follows is answered until this PSN comes again. */
static void not_ready(struct roce_qp *qp)
{
	roce_resp_ack(qp, ROCE_SYN_RNR_NAK | qp->link.min_rnr_timer, qp->resp.epsn);
	qp->resp.nak_sent = true;
}

/* ---- execution ---- */

static void accepted(struct roce_qp *qp, const struct roce_pkt *h)
{
	struct roce_responder *r = &qp->resp;

	r->nak_sent = false;
	r->epsn = roce_psn_add(r->epsn, 1);
	if (roce_ends(h->opcode))
		r->msn = (r->msn + 1) & ROCE_PSN_MASK;
	/* A NAK that still waits is out of date. */
	if (h->ackreq || r->ack_due)
		roce_resp_ack(qp, ROCE_SYN_ACK | ROCE_ACK_NO_CREDITS, h->psn);
}

/* The order of first, middle and last, and how much each may carry [IBTA 9.7.4.1.2, 9.7.4.1.6]. */
static bool in_order(const struct roce_qp *qp, const struct roce_pkt *h, u32 op)
{
	u8 in = qp->resp.in, is = op & ROCE_OP_SEND ? ROCE_IN_SEND : ROCE_IN_WRITE;

	if (op & ROCE_OP_FIRST ? in != ROCE_IN_NONE : in != is)
		return false;
	if (!(op & ROCE_OP_LAST))
		return h->payload_len == qp->mtu;
	return h->payload_len <= qp->mtu && (op & ROCE_OP_FIRST || h->payload_len);
}

/* Takes the receive for what begins here. */
static struct roce_rwqe *take_receive(struct roce_qp *qp)
{
	struct roce_rwqe *wqe = receive(qp);

	if (wqe)
		qp->resp.recv_taken = true;
	else
		not_ready(qp);
	return wqe;
}

static void finish_receive(struct roce_qp *qp, const struct roce_pkt *h, u32 op, u32 opcode, u32 bytes)
{
	struct rackwire_roce_wc wc = { .opcode = opcode, .byte_len = bytes };

	if (op & ROCE_OP_IMM) {
		wc.flags = RACKWIRE_ROCE_WC_WITH_IMM;
		wc.ex = h->imm;
	} else if (op & ROCE_OP_IETH) {
		wc.flags = RACKWIRE_ROCE_WC_WITH_INV;
		wc.ex = h->inv_rkey;
	}
	receive_done(qp, &wc, h->se);
}

static void rx_send(struct roce_qp *qp, u64 now, const struct roce_pkt *h, u32 op, const u8 *payload)
{
	struct roce_responder *r = &qp->resp;
	struct roce_rwqe *wqe = receive(qp);

	if (op & ROCE_OP_FIRST) {
		wqe = take_receive(qp);
		if (!wqe)
			return;
		r->off = 0;
	}
	if (h->payload_len > wqe->length - r->off) {
		refuse(qp, now, ROCE_NAK_INVALID_REQUEST, RACKWIRE_ROCE_WC_LOC_LEN_ERR);
		return;
	}
	if (wqe->epoch != qp->d->mr_epoch) {
		if (!roce_sges_allowed(qp->pd, receive_sge(qp), wqe->num_sge, RACKWIRE_ROCE_LOCAL_WRITE)) {
			refuse(qp, now, ROCE_NAK_REMOTE_OPERATION, RACKWIRE_ROCE_WC_LOC_PROT_ERR);
			return;
		}
		wqe->epoch = qp->d->mr_epoch;
	}
	roce_scatter(receive_sge(qp), wqe->num_sge, r->off, payload, h->payload_len);
	if (op & ROCE_OP_IETH && roce_mr_invalidate(qp->pd, h->inv_rkey, true)) {
		refuse_access(qp, now);
		return;
	}
	r->off += h->payload_len;
	r->in = op & ROCE_OP_LAST ? ROCE_IN_NONE : ROCE_IN_SEND;
	if (op & ROCE_OP_LAST)
		finish_receive(qp, h, op, RACKWIRE_ROCE_WC_RECV, r->off);
	accepted(qp, h);
}

/* A message's room at its start, and again whenever a key has died since. */
static bool write_allowed(struct roce_qp *qp)
{
	struct roce_responder *r = &qp->resp;

	if (!(qp->access & RACKWIRE_ROCE_REMOTE_WRITE))
		return false;
	if (!r->left || r->epoch == qp->d->mr_epoch)
		return true;
	if (!roce_mr_allows(qp->pd, r->rkey, r->va, r->left, RACKWIRE_ROCE_REMOTE_WRITE))
		return false;
	r->epoch = qp->d->mr_epoch;
	return true;
}

static void rx_write(struct roce_qp *qp, u64 now, const struct roce_pkt *h, u32 op, const u8 *payload)
{
	struct roce_responder *r = &qp->resp;

	if (op & ROCE_OP_FIRST) {
		r->va = h->va;
		r->rkey = h->rkey;
		r->len = r->left = h->dma_len;
		r->epoch = 0;
	}
	if (r->len > RACKWIRE_ROCE_MAX_MESSAGE || h->payload_len > r->left ||
	    !(op & ROCE_OP_LAST) == (h->payload_len == r->left)) {
		refuse_request(qp, now);
		return;
	}
	if (!write_allowed(qp)) {
		refuse_access(qp, now);
		return;
	}
	if (op & ROCE_OP_IMM && !take_receive(qp))
		return;
	if (h->payload_len)
		memcpy((void *)(uintptr_t)r->va, payload, h->payload_len);
	r->va += h->payload_len;
	r->left -= h->payload_len;
	r->in = op & ROCE_OP_LAST ? ROCE_IN_NONE : ROCE_IN_WRITE;
	if (op & ROCE_OP_IMM)
		finish_receive(qp, h, op, RACKWIRE_ROCE_WC_RECV_RDMA_WITH_IMM, r->len);
	accepted(qp, h);
}

/* READs and atomics take a place among the responses; a peer that asks for more than was agreed is wrong. */
static struct roce_resp *new_response(struct roce_qp *qp, u64 now)
{
	struct roce_resp *e;

	if (qp->resp.in != ROCE_IN_NONE || qp->resp.q_new >= qp->link.max_dest_rd_atomic) {
		refuse_request(qp, now);
		return NULL;
	}
	e = roce_resp_queue(qp, qp->resp.epsn);
	if (!e)
		qp->d->stats.rx_dropped++;
	return e;
}

static void answered(struct roce_qp *qp, struct roce_resp *e, u32 npsn)
{
	struct roce_responder *r = &qp->resp;

	r->msn = (r->msn + 1) & ROCE_PSN_MASK;
	r->epsn = roce_psn_add(r->epsn, npsn);
	r->nak_sent = false;
	if (!roce_syn_is_ack(r->ack_syndrome))
		r->ack_due = false; /* the response says more */
	r->q_new++;
	r->any_rd = true;
	r->last_rd = roce_psn_add(r->epsn, ROCE_PSN_MASK);
	e->start = e->cur = roce_psn_add(r->epsn, -npsn);
	e->end = r->epsn;
	e->msn = r->msn;
	roce_kick_resp(qp);
}

bool roce_read_allowed(const struct roce_qp *qp, u32 rkey, u64 va, u32 len)
{
	return qp->access & RACKWIRE_ROCE_REMOTE_READ &&
	       (!len || roce_mr_allows(qp->pd, rkey, va, len, RACKWIRE_ROCE_REMOTE_READ));
}

static void rx_read(struct roce_qp *qp, u64 now, const struct roce_pkt *h)
{
	struct roce_resp *e;

	if (h->dma_len > RACKWIRE_ROCE_MAX_MESSAGE) {
		refuse_request(qp, now);
		return;
	}
	if (!roce_read_allowed(qp, h->rkey, h->va, h->dma_len)) {
		refuse_access(qp, now);
		return;
	}
	e = new_response(qp, now);
	if (!e)
		return;
	e->rkey = h->rkey;
	e->va = h->va;
	e->len = h->dma_len;
	e->epoch = qp->d->mr_epoch;
	answered(qp, e, roce_npkts(qp, h->dma_len));
}

static void rx_atomic(struct roce_qp *qp, u64 now, const struct roce_pkt *h)
{
	struct roce_responder *r = &qp->resp;
	struct roce_atomic_done *done;
	struct roce_resp *e;
	u64 *word = (u64 *)(uintptr_t)h->va, was;

	if (h->va & 7) {
		refuse_request(qp, now);
		return;
	}
	if (!(qp->access & RACKWIRE_ROCE_REMOTE_ATOMIC) ||
	    !roce_mr_allows(qp->pd, h->rkey, h->va, 8, RACKWIRE_ROCE_REMOTE_ATOMIC)) {
		refuse_access(qp, now);
		return;
	}
	e = new_response(qp, now);
	if (!e)
		return;
	if (h->opcode == ROCE_FETCH_ADD) {
		was = __atomic_fetch_add(word, h->swap_add, __ATOMIC_SEQ_CST);
	} else {
		was = h->compare; /* what was found instead, if it differs */
		__atomic_compare_exchange_n(word, &was, h->swap_add, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	}
	done = &r->done[r->done_next++ % ROCE_ATOMICS_KEPT];
	done->valid = true;
	done->psn = h->psn;
	done->orig = was;
	e->atomic = true;
	e->orig = was;
	answered(qp, e, 1);
}

void roce_resp_rx(struct roce_qp *qp, u64 now, const struct roce_pkt *h, const u8 *payload)
{
	struct roce_responder *r = &qp->resp;
	u32 op = roce_op(h->opcode);
	s32 ahead = roce_psn_diff(h->psn, r->epsn);

	if (ahead < 0) {
		roce_resp_duplicate(qp, h);
	} else if (ahead > 0) {
		if (!r->nak_sent)
			roce_resp_ack(qp, ROCE_NAK_PSN_SEQUENCE, r->epsn);
		r->nak_sent = true;
	} else if (op & ROCE_OP_READ_REQUEST) {
		rx_read(qp, now, h);
	} else if (op & ROCE_OP_ATOMIC) {
		rx_atomic(qp, now, h);
	} else if (!in_order(qp, h, op)) {
		refuse_request(qp, now);
	} else if (op & ROCE_OP_SEND) {
		rx_send(qp, now, h, op, payload);
	} else {
		rx_write(qp, now, h, op, payload);
	}
}
