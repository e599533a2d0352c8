// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What a responder sends: acknowledges, NAKs, READ and atomic responses, all in
 * the order of PSNs; answers to duplicates; congestion notifications
 * [IBTA 9.7.5.1, A17.9.3].
 */
#include "roce_qp.h"

#define CNP_INTERVAL_NS (50 * ROCE_US)

static bool is_fatal(u8 syndrome)
{
	return roce_syn_is_nak(syndrome) && syndrome != ROCE_NAK_PSN_SEQUENCE;
}

/*
 * One acknowledge waits at a time; a later one says all an earlier one does.
 * Only the NAK that ends the connection stays.
 */
void roce_resp_ack(struct roce_qp *qp, u8 syndrome, u32 psn)
{
	struct roce_responder *r = &qp->resp;

	if (r->ack_due && is_fatal(r->ack_syndrome))
		return;
	r->ack_due = true;
	r->ack_syndrome = syndrome;
	r->ack_psn = psn;
	roce_kick_resp(qp);
}

void roce_resp_again(struct roce_qp *qp)
{
	if (qp->resp.fatal)
		roce_resp_ack(qp, qp->resp.fatal, qp->resp.fatal_psn);
}

/* ---- the queue of READ and atomic responses ---- */

static struct roce_resp *entry(struct roce_responder *r, u32 i)
{
	return &r->q[(r->q_head + i) % ROCE_RESP_QUEUE];
}

/* A zeroed place in front of whatever starts after @psn, or NULL when all are taken. */
struct roce_resp *roce_resp_queue(struct roce_qp *qp, u32 psn)
{
	struct roce_responder *r = &qp->resp;
	u32 i = r->q_n;

	if (r->q_n == ROCE_RESP_QUEUE)
		return NULL;
	for (; i && roce_psn_diff(entry(r, i - 1)->start, psn) > 0; i--)
		*entry(r, i) = *entry(r, i - 1);
	r->q_n++;
	memset(entry(r, i), 0, sizeof(struct roce_resp));
	return entry(r, i);
}

static void pop(struct roce_responder *r)
{
	if (!entry(r, 0)->again)
		r->q_new--;
	r->q_head++;
	r->q_n--;
}

/* ---- duplicates ---- */

/* Of a READ that still waits or is being answered: from there again. */
static bool rewind(struct roce_responder *r, u32 psn)
{
	u32 i;

	for (i = 0; i < r->q_n; i++) {
		struct roce_resp *e = entry(r, i);

		if (roce_psn_diff(psn, e->start) < 0 || roce_psn_diff(psn, e->end) >= 0)
			continue;
		if (roce_psn_diff(e->cur, psn) > 0)
			e->cur = psn;
		return true;
	}
	return false;
}

/*
 * A READ is executed again, from any of its PSNs on [IBTA 9.7.5]. A key that died
 * since gets a NAK, but the duplicate may as well be a late one, so nothing else
 * comes of it.
 */
static void again_read(struct roce_qp *qp, const struct roce_pkt *h)
{
	struct roce_responder *r = &qp->resp;
	u32 end;
	struct roce_resp *e;

	if (h->dma_len > RACKWIRE_ROCE_MAX_MESSAGE)
		return;
	end = roce_psn_add(h->psn, roce_npkts(qp, h->dma_len));
	if (roce_psn_diff(end, r->epsn) > 0 || rewind(r, h->psn))
		return;
	if (!roce_read_allowed(qp, h->rkey, h->va, h->dma_len)) {
		if (!r->ack_due)
			roce_resp_ack(qp, ROCE_NAK_REMOTE_ACCESS, h->psn);
		return;
	}
	e = roce_resp_queue(qp, h->psn);
	if (!e) {
		qp->d->stats.rx_dropped++;
		return;
	}
	e->start = e->cur = h->psn;
	e->end = end;
	e->msn = r->msn;
	e->rkey = h->rkey;
	e->va = h->va;
	e->len = h->dma_len;
	e->epoch = qp->d->mr_epoch;
	e->again = true;
}

/* An atomic is told again, never done again. */
static void again_atomic(struct roce_qp *qp, const struct roce_pkt *h)
{
	struct roce_responder *r = &qp->resp;
	const struct roce_atomic_done *done = NULL;
	struct roce_resp *e;
	u32 i;

	/* The latest first: PSNs come round. */
	for (i = 1; i <= ROCE_ATOMICS_KEPT && !done; i++) {
		done = &r->done[(r->done_next - i) % ROCE_ATOMICS_KEPT];
		if (!done->valid || done->psn != h->psn)
			done = NULL;
	}
	if (!done || rewind(r, h->psn))
		return;
	e = roce_resp_queue(qp, h->psn);
	if (!e) {
		qp->d->stats.rx_dropped++;
		return;
	}
	e->start = e->cur = h->psn;
	e->end = roce_psn_add(h->psn, 1);
	e->msn = r->msn;
	e->orig = done->orig;
	e->atomic = e->again = true;
}

/*
 * As much as can be said: all that was executed, unless a READ or atomic lies
 * between, which an acknowledge beyond it would have the requester ask for again.
 */
static void again_ack(struct roce_qp *qp, u32 psn)
{
	struct roce_responder *r = &qp->resp;
	u32 last = roce_psn_add(r->epsn, ROCE_PSN_MASK);

	if (r->any_rd && roce_psn_diff(r->last_rd, psn) > 0)
		last = psn;
	if (r->ack_due && (!roce_syn_is_ack(r->ack_syndrome) || roce_psn_diff(r->ack_psn, last) >= 0))
		return;
	roce_resp_ack(qp, ROCE_SYN_ACK | ROCE_ACK_NO_CREDITS, last);
}

void roce_resp_duplicate(struct roce_qp *qp, const struct roce_pkt *h)
{
	u32 op = roce_op(h->opcode);

	qp->stats.duplicates_rx++;
	/* The requester went back, so what it sends from here on may be lost anew. */
	if (qp->resp.nak_sent && !qp->resp.ack_due)
		qp->resp.nak_sent = false;
	if (op & ROCE_OP_READ_REQUEST)
		again_read(qp, h);
	else if (op & ROCE_OP_ATOMIC)
		again_atomic(qp, h);
	else
		again_ack(qp, h->psn);
	roce_kick_resp(qp);
}

/* ---- congestion ---- */

void roce_resp_ce(struct roce_qp *qp, u64 now)
{
	struct roce_responder *r = &qp->resp;

	qp->stats.ecn_rx++;
	if (r->cnp_at && now - r->cnp_at < CNP_INTERVAL_NS)
		return;
	r->cnp_at = now;
	r->cnp_due = true;
	roce_kick_resp(qp);
}

/* ---- packets ---- */

static void build_cnp(struct roce_qp *qp, struct roce_txpkt *pkt)
{
	struct roce_pkt h;

	qp->resp.cnp_due = false;
	qp->stats.cnp_tx++;
	roce_tx_begin(qp, &h, ROCE_CNP, 0);
	h.becn = true;
	pkt->nfrags = 0;
	pkt->payload_len = 0;
	roce_tx_finish(qp, pkt, &h, false);
}

static void build_ack(struct roce_qp *qp, struct roce_txpkt *pkt)
{
	struct roce_responder *r = &qp->resp;
	struct roce_pkt h;

	r->ack_due = false;
	if (roce_syn_is_ack(r->ack_syndrome))
		qp->stats.acks_tx++;
	else if (roce_syn_is_rnr(r->ack_syndrome))
		qp->stats.rnr_nak_tx++;
	else if (r->ack_syndrome == ROCE_NAK_PSN_SEQUENCE)
		qp->stats.seq_nak_tx++;
	else
		qp->stats.error_nak_tx++;
	roce_tx_begin(qp, &h, ROCE_ACK, r->ack_psn);
	h.syndrome = r->ack_syndrome;
	h.msn = r->msn;
	pkt->nfrags = 0;
	pkt->payload_len = 0;
	roce_tx_finish(qp, pkt, &h, false);
}

void roce_resp_last_word(struct roce_qp *qp)
{
	struct roce_dev *d = qp->d;
	struct roce_word *w = &d->words[d->words_tail % ROCE_WORDS];
	struct roce_responder *r = &qp->resp;
	u8 hdr[ROCE_HDR_MAX];
	struct roce_txpkt pkt = { .hdr = hdr };

	if (!r->ack_due || (r->q_n && !is_fatal(r->ack_syndrome)) || d->words_tail - d->words_head == ROCE_WORDS)
		return;
	build_ack(qp, &pkt);
	memcpy(w->hdr, hdr, sizeof(w->hdr));
	w->len = pkt.hdr_len;
	w->path = qp->link.path;
	d->words_tail++;
}

static void build_atomic(struct roce_qp *qp, struct roce_resp *e, struct roce_txpkt *pkt)
{
	struct roce_pkt h;

	roce_tx_begin(qp, &h, ROCE_ATOMIC_ACK, e->start);
	h.syndrome = ROCE_SYN_ACK | ROCE_ACK_NO_CREDITS;
	h.msn = e->msn;
	h.orig = e->orig;
	pkt->nfrags = 0;
	pkt->payload_len = 0;
	pop(&qp->resp);
	roce_tx_finish(qp, pkt, &h, false);
}

static void build_data(struct roce_qp *qp, u64 now, struct roce_resp *e, struct roce_txpkt *pkt)
{
	u32 off = ((e->cur - e->start) & ROCE_PSN_MASK) << qp->mtu_shift;
	bool first = e->cur == e->start, last = roce_psn_add(e->cur, 1) == e->end;
	u32 len = last ? e->len - off : qp->mtu;
	struct roce_pkt h;

	roce_tx_begin(qp, &h, ROCE_READ_RESP_MIDDLE, e->cur);
	if (last)
		h.opcode = first ? ROCE_READ_RESP_ONLY : ROCE_READ_RESP_LAST;
	else if (first)
		h.opcode = ROCE_READ_RESP_FIRST;
	h.syndrome = ROCE_SYN_ACK | ROCE_ACK_NO_CREDITS;
	h.msn = e->msn;
	pkt->payload_len = len;
	pkt->nfrags = len ? 1 : 0;
	pkt->frags[0].ptr = (const u8 *)(uintptr_t)(e->va + off);
	pkt->frags[0].len = len;
	e->cur = roce_psn_add(e->cur, 1);
	if (last)
		pop(&qp->resp);
	roce_tx_finish(qp, pkt, &h, true);
	roce_rate_sent(qp, now, len);
}

/* Its key died while it waited: a NAK in its place; all behind it goes with the connection. */
static void read_failed(struct roce_qp *qp, u64 now, struct roce_resp *e)
{
	struct roce_responder *r = &qp->resp;
	u32 psn = e->cur;
	bool again = e->again;

	qp->d->stats.rx_refused++;
	if (again) {
		pop(r);
		if (!r->ack_due)
			roce_resp_ack(qp, ROCE_NAK_REMOTE_ACCESS, psn);
		return;
	}
	r->q_n = r->q_new = 0;
	r->ack_due = false;
	r->fatal = ROCE_NAK_REMOTE_ACCESS;
	r->fatal_psn = psn;
	roce_resp_ack(qp, r->fatal, psn);
	roce_qp_fail(qp, now, -EACCES);
}

/* Return: 1 with a packet, 0 when nothing can be sent now. *stream: more of its kind may follow. */
int roce_resp_build(struct roce_qp *qp, u64 now, struct roce_txpkt *pkt, bool *stream)
{
	struct roce_responder *r = &qp->resp;
	struct roce_resp *e;

	if (r->cnp_due) {
		build_cnp(qp, pkt);
		return 1;
	}
	while (r->q_n) {
		e = entry(r, 0);
		if (r->ack_due && roce_psn_diff(r->ack_psn, e->cur) < 0) {
			build_ack(qp, pkt);
			return 1;
		}
		if (e->atomic) {
			build_atomic(qp, e, pkt);
			return 1;
		}
		if (e->epoch != qp->d->mr_epoch) {
			u32 off = ((e->cur - e->start) & ROCE_PSN_MASK) << qp->mtu_shift;

			if (!roce_read_allowed(qp, e->rkey, e->va + off, e->len - off)) {
				read_failed(qp, now, e);
				continue;
			}
			e->epoch = qp->d->mr_epoch;
		}
		if (!roce_rate_ready(qp, now))
			return 0;
		*stream = true;
		build_data(qp, now, e, pkt);
		return 1;
	}
	if (!r->ack_due)
		return 0;
	build_ack(qp, pkt);
	return 1;
}
