/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The receiving half of a transfer: order, gaps, and asking again for what is
 * missing. Recovery is the receiver's [paper]: it lists what it has, the sender
 * resends the holes.
 */
#include "dcpim_priv.h"

#define MAX_BACKOFF 10

void dcpim_recv_init(struct dcpim_recv *r, struct dcpim_flow *f, u64 msg_id)
{
	r->flow = f;
	r->msg_id = msg_id;
	r->final = DCPIM_UNKNOWN;
	dcpim_list_init(&r->segs);
	dcpim_list_init(&r->spans);
	dcpim_heap_node_init(&r->heap);
	dcpim_timer_init(&r->timer, TIMER_RECV);
}

struct dcpim_ctl *dcpim_recv_ctl(struct dcpim_recv *r)
{
	return r->msg_id ? &dcpim_container(r, struct dcpim_rxmsg_state, recv)->ctl : &r->flow->ctl;
}

void dcpim_recv_stop(struct dcpim_recv *r)
{
	struct dcpim_flow *f = r->flow;
	struct dcpim_host *h = f->host;

	if (f->peer) {
		f->peer->tok_out -= r->out;
		h->tok_out -= r->out;
		f->peer->want -= r->want;
		f->peer->more -= r->more_counted;
		dcpim_heap_remove(&f->peer->wanting, &r->heap);
		if (!f->peer->want)
			dcpim_list_del(&f->peer->want_node);
	}
	r->out = r->want = 0;
	r->more_counted = false;
	while (!dcpim_list_empty(&r->spans))
		dcpim_span_free(h, dcpim_container(r->spans.next, struct dcpim_span, node));
	r->nspans = 0;
	dcpim_ctl_clear(dcpim_recv_ctl(r), r->msg_id ? 0xffff : CTL_TOKEN);
	dcpim_timer_stop(h, &r->timer);
}

void dcpim_recv_fini(struct dcpim_recv *r)
{
	dcpim_recv_stop(r);
	while (!dcpim_list_empty(&r->segs))
		dcpim_seg_free(r->flow->host, dcpim_container(r->segs.next, struct dcpim_seg, node));
}

u64 dcpim_recv_limit(const struct dcpim_recv *r)
{
	return r->msg_id ? r->final : r->read + r->flow->rcvbuf;
}

static void splice(struct dcpim_list *to, struct dcpim_list *from)
{
	if (dcpim_list_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	dcpim_list_init(from);
}

static void span_drop(struct dcpim_recv *r, struct dcpim_span *s)
{
	r->nspans--;
	dcpim_span_free(r->flow->host, s);
}

/* Store [start, end), which nothing stored overlaps, between its neighbouring spans. */
static int add_piece(struct dcpim_recv *r, struct dcpim_span *prev, struct dcpim_span *next, u64 start, u64 end,
		     const struct dcpim_buf *piece)
{
	struct dcpim_host *h = r->flow->host;
	struct dcpim_span *span;
	struct dcpim_buf kept;
	struct dcpim_seg *seg;
	bool alone = start != r->nxt && !(prev && prev->end == start) && !(next && next->start == end);

	if (alone && r->nspans >= DCPIM_MAX_SPANS)
		return -ENOBUFS;
	if (h->ops->hold(h->ctx, piece, &kept))
		return -ENOMEM;
	seg = dcpim_seg_new(h, start, &kept);
	if (!seg) {
		h->ops->put(h->ctx, &kept);
		return -ENOMEM;
	}
	if (start == r->nxt) {
		dcpim_list_add_tail(&r->segs, &seg->node);
		r->nxt = end;
		if (next && next->start == end) {
			splice(&r->segs, &next->segs);
			r->nxt = next->end;
			span_drop(r, next);
		}
		return 0;
	}
	if (prev && prev->end == start) {
		dcpim_list_add_tail(&prev->segs, &seg->node);
		prev->end = end;
		if (next && next->start == end) {
			splice(&prev->segs, &next->segs);
			prev->end = next->end;
			span_drop(r, next);
		}
	} else if (next && next->start == end) {
		dcpim_list_add_head(&next->segs, &seg->node);
		next->start = start;
	} else {
		span = dcpim_span_new(h, start, end);
		if (!span) {
			dcpim_seg_free(h, seg);
			return -ENOMEM;
		}
		dcpim_list_add_tail(&span->segs, &seg->node);
		dcpim_list_add_tail(next ? &next->node : &r->spans, &span->node);
		r->nspans++;
	}
	return 0;
}

static struct dcpim_span *span_at(struct dcpim_recv *r, struct dcpim_list *l)
{
	return l == &r->spans ? NULL : dcpim_container(l, struct dcpim_span, node);
}

int dcpim_recv_data(struct dcpim_recv *r, u64 now, u64 off, const struct dcpim_buf *payload)
{
	struct dcpim_flow *f = r->flow;
	struct dcpim_host *h = f->host;
	u64 end = off + payload->len, pos, before = r->nxt, fresh = 0;
	bool had_gap = r->nspans;
	struct dcpim_list *l = r->spans.next;
	int err = 0;

	if (end > r->final || end > dcpim_recv_limit(r)) {
		h->stats.rx_dropped++;
		return -ENOBUFS;
	}
	pos = dcpim_max(off, r->nxt);
	while (pos < end) {
		struct dcpim_span *s;
		struct dcpim_buf piece;
		u64 stop;

		while ((s = span_at(r, l)) && s->end <= pos)
			l = l->next;
		if (s && s->start <= pos) {
			pos = s->end;
			continue;
		}
		stop = s ? dcpim_min(end, s->start) : end;
		piece.ptr = payload->ptr ? payload->ptr + (pos - off) : NULL;
		piece.len = (u32)(stop - pos);
		piece.cookie = payload->cookie;
		err = add_piece(r, span_at(r, l->prev), s, pos, stop, &piece);
		if (err)
			break;
		fresh += stop - pos;
		/* Filling up to a stored span took in that span, too. */
		pos = dcpim_max(stop, r->nxt);
		l = r->spans.next;
	}
	if (err)
		h->stats.rx_dropped++;
	else if (fresh < payload->len)
		h->stats.rx_duplicate += payload->len - fresh;
	if (fresh) {
		h->stats.data_bytes_rx += fresh;
		dcpim_loss_arrived(h, now, f, fresh);
		r->edge = dcpim_max(r->edge, pos);
	}
	r->known = dcpim_max(r->known, r->edge);
	if (r->nxt != before) {
		r->backoff = 0;
		r->probe_since = 0;
		if (r->msg_id)
			f->u.m.bytes_rx += r->nxt - before;
	}
	/* The first sending of the last byte granted, unless that was asked for again. */
	if (r->sample_at && r->edge >= r->sample_off) {
		dcpim_flow_rtt(f, now - r->sample_at);
		r->sample_at = 0;
	}
	dcpim_recv_account(r);
	if (!had_gap && r->nspans) {
		u64 at = dcpim_after(now, dcpim_max(h->cfg.data_rtt_ns, f->srtt));

		r->timer_nxt = r->nxt;
		if (!dcpim_timer_on(&r->timer) || r->timer.node.key > at)
			dcpim_timer_set(h, &r->timer, at);
	}
	dcpim_recv_arm(r, now);
	if (!fresh && !err) {
		/* The sender may be repeating itself for want of an answer. */
		dcpim_flow_ack_now(f);
	}
	return err;
}

static bool incomplete(const struct dcpim_recv *r)
{
	return r->nspans || r->out || r->known > r->nxt || (r->msg_id && r->nxt < r->final);
}

void dcpim_recv_arm(struct dcpim_recv *r, u64 now)
{
	struct dcpim_flow *f = r->flow;

	if (!incomplete(r)) {
		dcpim_timer_stop(f->host, &r->timer);
		r->probe_since = 0;
		return;
	}
	if (!dcpim_timer_on(&r->timer)) {
		r->timer_nxt = r->nxt;
		dcpim_timer_set(f->host, &r->timer, dcpim_after(now, dcpim_flow_rto(f)));
	}
}

static u64 missing(struct dcpim_recv *r, u64 upto)
{
	u64 n = upto - r->nxt;
	struct dcpim_list *l;

	for (l = r->spans.next; l != &r->spans; l = l->next) {
		struct dcpim_span *s = span_at(r, l);

		if (s->start < upto)
			n -= dcpim_min(s->end, upto) - s->start;
	}
	return n;
}

static void ask_again(struct dcpim_recv *r, u64 now, u64 upto)
{
	struct dcpim_flow *f = r->flow;
	struct dcpim_host *h = f->host;
	u64 window = f->peer->loss_window ? f->peer->loss_window : h->window;

	/* At most a window at a time. */
	upto = dcpim_min(upto, r->nxt + dcpim_max(window, h->payload_max));
	r->rtx_end = dcpim_max(r->rtx_end, upto);
	if (upto >= r->sample_off)
		r->sample_at = 0;
	dcpim_loss_asked(h, now, f, missing(r, upto));
	dcpim_ctl_set(h, dcpim_recv_ctl(r), CTL_TOKEN);
	dcpim_trace(h, now, DCPIM_TRACE_RTX, f->peer, upto - r->nxt, r->nspans);
}

void dcpim_recv_timer(struct dcpim_recv *r, u64 now)
{
	struct dcpim_flow *f = r->flow;
	struct dcpim_host *h = f->host;
	struct dcpim_peer *p = f->peer;
	u64 upto, rto = dcpim_flow_rto(f);

	if (!p || f->error || !incomplete(r))
		return;
	if (r->timer_nxt != r->nxt) {
		r->timer_nxt = r->nxt;
		r->backoff = 0;
		dcpim_timer_set(h, &r->timer,
				dcpim_after(now, r->nspans ? dcpim_max(h->cfg.data_rtt_ns, f->srtt) : rto));
		return;
	}
	if (!r->probe_since || p->heard >= r->probe_since) {
		r->probe_since = now;
	} else if (now - r->probe_since >= h->cfg.dead_after_ns) {
		dcpim_flow_fail(f, now, -ETIMEDOUT);
		return;
	}
	upto = r->nspans ? r->edge : 0;
	/* The tail may still be on its way when a gap shows; later it is lost. */
	if (!r->nspans || r->backoff) {
		if (r->out) {
			upto = dcpim_max(upto, r->token);
			if (!r->backoff)
				dcpim_flow_timed_out(f, now);
		}
		if (r->msg_id && r->known < r->final)
			upto = r->final;
	}
	if (upto > r->nxt)
		ask_again(r, now, upto);
	if (!r->out && r->want)
		dcpim_tokens_starved(h, now, r);
	if (r->backoff < MAX_BACKOFF)
		r->backoff++;
	dcpim_timer_set(h, &r->timer, dcpim_after(now, dcpim_min(rto << (r->backoff - 1), h->cfg.rto_max_ns)));
}

void dcpim_recv_demand(struct dcpim_recv *r, u64 now, u64 known, bool more)
{
	struct dcpim_host *h = r->flow->host;
	bool fresh;

	known = dcpim_min(known, r->final);
	r->more = more;
	if (known <= r->known)
		return;
	fresh = r->known <= r->nxt;
	r->known = known;
	if (fresh)
		r->spare_used = false;
	dcpim_recv_account(r);
	if (fresh && r->want)
		dcpim_tokens_spare(h, now, r);
	if (r->flow->peer && r->want)
		dcpim_tokens_issue(h, now, r->flow->peer);
	if (r->flow->peer)
		dcpim_match_want(h, now, r->flow->peer);
	dcpim_recv_arm(r, now);
}

/* The sender's timer ran out: answer, and ask for what it has sent and we lack. */
void dcpim_recv_probe(struct dcpim_recv *r, u64 now, u64 sent)
{
	struct dcpim_flow *f = r->flow;

	sent = dcpim_min(sent, r->final);
	if (sent > r->nxt && (!r->rtx_asked_at || now - r->rtx_asked_at >= dcpim_max(f->srtt, f->host->cfg.data_rtt_ns)))
		ask_again(r, now, sent);
	else
		dcpim_ctl_set(f->host, dcpim_recv_ctl(r), CTL_TOKEN);
}

/* What is held above nxt, for the sender to leave out. */
static u32 fill_blocks(struct dcpim_recv *r, struct dcpim_block *b, u32 max)
{
	struct dcpim_list *l;
	u32 n = 0;

	for (l = r->spans.next; l != &r->spans; l = l->next) {
		struct dcpim_span *s = span_at(r, l);

		if (s->start >= r->rtx_end)
			break;
		if (n == max) {
			/* No room to tell of more: ask only up to here. */
			r->rtx_end = s->start;
			break;
		}
		b[n].start = dcpim_sat32(s->start - r->nxt);
		b[n].end = dcpim_sat32(s->end - r->nxt);
		n++;
	}
	return n;
}

bool dcpim_recv_fill(struct dcpim_recv *r, u64 now, struct dcpim_pkt *p)
{
	struct dcpim_flow *f = r->flow;
	struct dcpim_host *h = f->host;
	u32 fixed = r->msg_id ? DCPIM_TOKEN_MSG_LEN : DCPIM_TOKEN_LEN, rtx = 0;

	if (!f->rtag)
		return false;
	if (r->rtx_end > r->nxt) {
		u32 room = (dcpim_flow_packet(f) - fixed) / 8;

		p->nblocks = (u8)fill_blocks(r, p->blocks, (u32)dcpim_min(room, DCPIM_MAX_BLOCKS));
		rtx = dcpim_sat32(r->rtx_end - r->nxt);
		r->rtx_asked_at = now;
	}
	r->rtx_end = 0;
	h->stats.token_tx++;
	if (r->msg_id) {
		p->type = DCPIM_TOKEN_MSG;
		p->u.token_msg.msg_id = r->msg_id;
		p->u.token_msg.rcv_nxt = (u32)r->nxt;
		p->u.token_msg.token_nxt = (u32)r->token;
		p->u.token_msg.rtx_end = rtx;
		return true;
	}
	p->type = DCPIM_TOKEN;
	p->u.token.rcv_nxt = r->nxt;
	p->u.token.token_nxt = r->token;
	p->u.token.wnd_edge = dcpim_recv_limit(r);
	p->u.token.rtx_end = rtx;
	r->wnd_told = dcpim_recv_limit(r);
	dcpim_flow_acked(f);
	return true;
}
