/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The sending half of a transfer. What may be sent is decided by the receiver
 * (tokens, flow control), except for short transfers, which go at once [paper,
 * section 3.1], and what the receiver asks to have again.
 *
 * A stream has no size that could be called short. Each burst that follows
 * silence is treated as a transfer of its own: up to the short threshold goes
 * unscheduled; once more than that is waiting, or more than sndbuf holds, the
 * stream is long and keeps to tokens until everything is acknowledged. So that a
 * stream of small writes which never falls silent cannot go unscheduled for
 * ever, an allowance limits it, which refills at a small share of the link.
 */
#include "dcpim_priv.h"

#define MAX_BACKOFF 10
#define BLACKHOLE_BACKOFF 4 /* then large packets are suspected (as RFC 8899 section 4.3) */

void dcpim_send_init(struct dcpim_send *s, struct dcpim_flow *f, u64 msg_id)
{
	s->flow = f;
	s->msg_id = msg_id;
	dcpim_list_init(&s->segs);
	dcpim_list_init(&s->lost);
	dcpim_list_init(&s->ready);
	dcpim_timer_init(&s->timer, TIMER_SEND);
}

struct dcpim_ctl *dcpim_send_ctl(struct dcpim_send *s)
{
	return s->msg_id ? &dcpim_container(s, struct dcpim_txmsg, send)->ctl : &s->flow->ctl;
}

static void clear_lost(struct dcpim_send *s)
{
	while (!dcpim_list_empty(&s->lost))
		dcpim_span_free(s->flow->host, dcpim_container(s->lost.next, struct dcpim_span, node));
	s->nlost = 0;
}

static void set_wants(struct dcpim_send *s, bool wants)
{
	if (s->wants == wants || !s->flow->peer)
		return;
	s->wants = wants;
	s->flow->peer->tx_wants += wants ? 1 : -1;
}

void dcpim_send_stop(struct dcpim_send *s)
{
	clear_lost(s);
	set_wants(s, false);
	dcpim_list_del(&s->ready);
	dcpim_ctl_clear(dcpim_send_ctl(s), s->msg_id ? 0xffff : CTL_DEMAND);
	dcpim_timer_stop(s->flow->host, &s->timer);
}

void dcpim_send_fini(struct dcpim_send *s)
{
	dcpim_send_stop(s);
	while (!dcpim_list_empty(&s->segs))
		dcpim_seg_free(s->flow->host, dcpim_container(s->segs.next, struct dcpim_seg, node));
	s->cursor = NULL;
}

u64 dcpim_flow_unsched(const struct dcpim_flow *f)
{
	u64 n = f->host->short_threshold;

	return f->peer_unsched ? dcpim_min(n, f->peer_unsched) : n;
}

static u64 first_part(const struct dcpim_flow *f)
{
	const struct dcpim_cfg *cfg = &f->host->cfg;
	u64 n = cfg->first_part_mode == DCPIM_FIRST_UNSCHEDULED ? cfg->first_part_bytes : 0;

	return f->peer_unsched ? dcpim_min(n, f->peer_unsched) : n;
}

void dcpim_flow_rtt(struct dcpim_flow *f, u64 rtt)
{
	u64 err;

	f->rto_shift = 0;
	rtt = dcpim_min(dcpim_min(rtt, f->host->cfg.rto_max_ns), 1u << 31);
	/* RFC 6298 section 2 */
	if (!f->srtt) {
		f->srtt = (u32)dcpim_max(rtt, 1);
		f->rttvar = (u32)(rtt / 2);
		return;
	}
	err = rtt > f->srtt ? rtt - f->srtt : f->srtt - rtt;
	f->rttvar = (u32)((3ull * f->rttvar + err) / 4);
	f->srtt = (u32)dcpim_max((7ull * f->srtt + rtt) / 8, 1);
}

u64 dcpim_flow_rto(const struct dcpim_flow *f)
{
	const struct dcpim_cfg *cfg = &f->host->cfg;
	u64 rto = f->srtt ? f->srtt + 4ull * f->rttvar : 3 * cfg->data_rtt_ns;

	rto = dcpim_max(rto, cfg->rto_min_ns) + cfg->ack_delay_ns;
	/* Until a sample shows that the path is as quick as believed (RFC 6298 section 5.7). */
	return dcpim_min(rto << f->rto_shift, cfg->rto_max_ns);
}

void dcpim_flow_timed_out(struct dcpim_flow *f, u64 now)
{
	/* Messages sent together time out together: that is one sign of a slow path, not many. */
	if (now < f->doubt_until || f->rto_shift >= MAX_BACKOFF)
		return;
	f->rto_shift++;
	f->doubt_until = dcpim_after(now, dcpim_flow_rto(f));
}

static u64 backed_off(const struct dcpim_send *s)
{
	return dcpim_min(dcpim_flow_rto(s->flow) << s->backoff, s->flow->host->cfg.rto_max_ns);
}

static struct dcpim_stream *stream_of(struct dcpim_send *s)
{
	return &s->flow->u.s;
}

static void refill(struct dcpim_send *s, u64 now)
{
	struct dcpim_stream *st = stream_of(s);
	struct dcpim_host *h = s->flow->host;
	u64 dt = dcpim_min(now - st->bucket_at, 1u << 27), add;

	add = (h->rate_q20 * h->cfg.unsched_refill_milli / 1000 * dt) >> 20;
	if (add) {
		st->bucket = dcpim_min(st->bucket + add, dcpim_flow_unsched(s->flow));
		st->bucket_at = now;
	}
}

/* How far may be sent now. */
static u64 edge(const struct dcpim_send *s)
{
	u64 unsched, e;

	if (s->is_long)
		unsched = s->first_edge;
	else if (s->msg_id)
		unsched = s->end;
	else
		unsched = s->nxt + s->flow->u.s.bucket;
	e = dcpim_min(dcpim_max(s->token, unsched), s->end);
	return s->msg_id ? e : dcpim_min(e, s->wnd);
}

static bool unfinished(const struct dcpim_send *s)
{
	return s->msg_id ? !s->done : s->una < s->end;
}

bool dcpim_send_append(struct dcpim_send *s, const struct dcpim_buf *buf)
{
	struct dcpim_host *h = s->flow->host;
	struct dcpim_seg *seg;

	if (!dcpim_list_empty(&s->segs)) {
		seg = dcpim_container(s->segs.prev, struct dcpim_seg, node);
		/* Small writes that a driver gathers in one chunk stay one segment. */
		if (buf->ptr && seg->buf.cookie == buf->cookie && seg->buf.ptr + seg->buf.len == buf->ptr &&
		    seg->buf.len < 1u << 30) {
			seg->buf.len += buf->len;
			s->end += buf->len;
			h->ops->put(h->ctx, buf);
			return true;
		}
	}
	if (!dcpim_tx_room(h, DCPIM_SLAB_SEG, h->cfg.max_segs))
		return false;
	seg = dcpim_seg_new(h, s->end, buf);
	if (!seg)
		return false;
	dcpim_list_add_tail(&s->segs, &seg->node);
	s->end += buf->len;
	return true;
}

void dcpim_send_is_long(struct dcpim_send *s)
{
	if (s->is_long)
		return;
	s->is_long = true;
	s->first_edge += first_part(s->flow);
}

/* An application that fills sndbuf has a long transfer, also when a moment finds all of it acknowledged. */
static bool goes_on(struct dcpim_send *s, u64 now)
{
	u64 pause = dcpim_max(s->flow->srtt, s->flow->host->cfg.data_rtt_ns);

	return !s->msg_id && s->is_long && stream_of(s)->blocked_at && now - stream_of(s)->blocked_at < pause;
}

void dcpim_send_grown(struct dcpim_send *s, u64 now, u64 before)
{
	struct dcpim_flow *f = s->flow;
	u64 cap = dcpim_flow_unsched(f);

	if (s->una == before)
		s->progress_at = now;
	if (s->una == before && !goes_on(s, now)) {
		s->first_edge = before;
		s->is_long = false;
		if (!s->msg_id) {
			stream_of(s)->bucket = cap;
			stream_of(s)->bucket_at = now;
		}
	}
	if (s->end - s->una > cap)
		dcpim_send_is_long(s);
	dcpim_send_update(s, now);
}

void dcpim_send_update(struct dcpim_send *s, u64 now)
{
	struct dcpim_flow *f = s->flow;
	struct dcpim_host *h = f->host;
	struct dcpim_list *queue;
	bool ready;
	u64 e;

	if (!f->rtag || f->error || !f->peer) {
		dcpim_list_del(&s->ready);
		return;
	}
	if (!unfinished(s)) {
		set_wants(s, false);
		dcpim_list_del(&s->ready);
		dcpim_timer_stop(h, &s->timer);
		s->backoff = 0;
		s->probe_since = 0;
		return;
	}
	if (!s->msg_id && !s->is_long)
		refill(s, now);
	if (!s->msg_id)
		dcpim_flow_try_fin(f, now);
	e = edge(s);
	ready = s->nxt < e || s->nlost || s->zero;
	set_wants(s, e < s->end);
	if (ready) {
		queue = s->nxt < s->token || s->nlost ? &h->tx_sched : &h->tx_unsched;
		if (dcpim_list_empty(&s->ready))
			dcpim_list_add_tail(queue, &s->ready);
	} else {
		dcpim_list_del(&s->ready);
		/* The receiver believes that it has heard of everything: tell it. */
		if (e < s->end && s->told <= s->nxt)
			dcpim_ctl_set(h, dcpim_send_ctl(s), CTL_DEMAND);
	}
	if (!dcpim_timer_on(&s->timer))
		dcpim_timer_set(h, &s->timer, dcpim_after(now, backed_off(s)));
}

static void trim_lost(struct dcpim_send *s)
{
	while (!dcpim_list_empty(&s->lost)) {
		struct dcpim_span *l = dcpim_container(s->lost.next, struct dcpim_span, node);

		if (l->end > s->una) {
			l->start = dcpim_max(l->start, s->una);
			return;
		}
		s->nlost--;
		dcpim_span_free(s->flow->host, l);
	}
}

void dcpim_send_ack(struct dcpim_send *s, u64 now, u64 rcv_nxt)
{
	struct dcpim_flow *f = s->flow;

	if (rcv_nxt <= s->una || rcv_nxt > s->nxt)
		return;
	if (!s->msg_id) {
		f->tx_queued -= rcv_nxt - s->una;
	}
	s->una = rcv_nxt;
	s->progress_at = now;
	s->backoff = 0;
	s->probe_since = 0;
	if (s->sample_at && s->una >= s->sample_off) {
		if (!s->rtx_since)
			dcpim_flow_rtt(f, now - s->sample_at);
		s->sample_at = 0;
	}
	while (!dcpim_list_empty(&s->segs)) {
		struct dcpim_seg *seg = dcpim_container(s->segs.next, struct dcpim_seg, node);

		if (seg->off + seg->buf.len > s->una)
			break;
		if (s->cursor == seg)
			s->cursor = NULL;
		dcpim_seg_free(f->host, seg);
	}
	trim_lost(s);
	if (!s->msg_id)
		dcpim_flow_writable(f);
	dcpim_send_update(s, now);
}

void dcpim_send_token(struct dcpim_send *s, u64 now, u64 rcv_nxt, u64 token_nxt, u64 rtx_end,
		      const struct dcpim_block *blocks, u32 nblocks)
{
	u64 pos, top;
	u32 i;

	dcpim_flow_believe(s->flow, rcv_nxt <= s->nxt);
	if (rcv_nxt > s->nxt)
		return;
	dcpim_send_ack(s, now, rcv_nxt);
	token_nxt = dcpim_min(token_nxt, s->end);
	if (token_nxt > s->token) {
		s->token = token_nxt;
		s->progress_at = now;
		s->backoff = 0;
	}
	top = dcpim_min(rcv_nxt + rtx_end, s->nxt);
	pos = dcpim_max(rcv_nxt, s->una);
	if (rtx_end && pos < top) {
		clear_lost(s);
		s->rtx_since = true;
		for (i = 0; i <= nblocks && pos < top && s->nlost < DCPIM_MAX_SPANS; i++) {
			u64 stop = i < nblocks ? dcpim_min(rcv_nxt + blocks[i].start, top) : top;

			if (stop > pos) {
				struct dcpim_span *gap = dcpim_span_new(s->flow->host, pos, stop);

				if (!gap)
					break;
				dcpim_list_add_tail(&s->lost, &gap->node);
				s->nlost++;
			}
			if (i < nblocks)
				pos = dcpim_max(pos, rcv_nxt + blocks[i].end);
		}
	}
	dcpim_send_update(s, now);
}

void dcpim_send_timer(struct dcpim_send *s, u64 now)
{
	struct dcpim_flow *f = s->flow;
	struct dcpim_host *h = f->host;
	struct dcpim_peer *p = f->peer;
	u64 due;

	if (!unfinished(s) || f->error || !p)
		return;
	due = dcpim_after(s->progress_at, backed_off(s));
	if (due > now) {
		dcpim_timer_set(h, &s->timer, due);
		return;
	}
	if (!s->probe_since || dcpim_flow_answered(f, s->probe_since)) {
		s->probe_since = now;
	} else if (now - s->probe_since >= h->cfg.dead_after_ns) {
		dcpim_flow_fail(f, now, -ETIMEDOUT);
		return;
	}
	if (s->backoff >= BLACKHOLE_BACKOFF && s->nxt > s->una && p->heard + h->cfg.rto_max_ns > now) {
		u32 n = dcpim_flow_packet(f) / 2;

		p->max_packet = (u32)dcpim_max(n, DCPIM_MIN_PACKET);
	}
	if (!s->backoff)
		dcpim_flow_timed_out(f, now);
	if (s->backoff < MAX_BACKOFF)
		s->backoff++;
	s->rtx_since = true;
	h->stats.probe_timeouts++;
	dcpim_ctl_set(h, dcpim_send_ctl(s), CTL_DEMAND);
	dcpim_timer_set(h, &s->timer, dcpim_after(now, backed_off(s)));
}

/* Without it the receiver takes what fits sndbuf for all there is, and asks for fewer channels. */
static u8 more_flag(const struct dcpim_send *s)
{
	return s->is_long && s->flow->flags & FLOW_WANT_WRITE ? DCPIM_F_MORE : 0;
}

bool dcpim_send_fill(struct dcpim_send *s, struct dcpim_pkt *p)
{
	if (!s->flow->rtag || !unfinished(s))
		return false;
	s->flow->host->stats.demand_tx++;
	s->told = dcpim_max(s->told, s->end);
	if (s->msg_id) {
		p->type = DCPIM_NOTIFICATION_MSG;
		p->u.note_msg.msg_id = s->msg_id;
		p->u.note_msg.size = (u32)s->end;
		p->u.note_msg.sent = (u32)s->nxt;
	} else {
		p->type = DCPIM_DEMAND;
		p->flags |= more_flag(s);
		p->u.demand.end = s->end;
		p->u.demand.sent = s->nxt;
	}
	return true;
}

/* Point at [off, off + len) in the segments; shortens it when it lies in too many. */
static u32 gather(struct dcpim_send *s, u64 off, u32 len, bool fresh, struct dcpim_txpkt *tx)
{
	struct dcpim_seg *seg = fresh ? s->cursor : NULL;
	u32 got = 0;

	if (!seg || seg->off > off)
		seg = dcpim_container(s->segs.next, struct dcpim_seg, node);
	while (&seg->node != &s->segs && seg->off + seg->buf.len <= off)
		seg = dcpim_container(seg->node.next, struct dcpim_seg, node);
	tx->nfrags = 0;
	while (got < len && tx->nfrags < DCPIM_TX_FRAGS && &seg->node != &s->segs) {
		struct dcpim_buf *b = &tx->frags[tx->nfrags++];
		u32 skip = (u32)(off + got - seg->off);

		b->ptr = seg->buf.ptr ? seg->buf.ptr + skip : NULL;
		b->len = (u32)dcpim_min(seg->buf.len - skip, len - got);
		b->cookie = seg->buf.cookie;
		got += b->len;
		if (fresh)
			s->cursor = seg;
		seg = dcpim_container(seg->node.next, struct dcpim_seg, node);
	}
	return got;
}

static u8 priority(const struct dcpim_send *s, bool unsched)
{
	u64 rest = (s->end - s->nxt) / dcpim_max(s->flow->host->bdp, 1);
	u8 n = 2;

	if (unsched)
		return 1;
	for (; rest && n < 7; rest /= 2)
		n++;
	return n;
}

bool dcpim_send_emit(struct dcpim_send *s, u64 now, struct dcpim_txpkt *tx, struct dcpim_pkt *p)
{
	struct dcpim_flow *f = s->flow;
	struct dcpim_host *h = f->host;
	u32 room = dcpim_flow_packet(f) - (s->msg_id ? DCPIM_DATA_MSG_LEN : DCPIM_DATA_LEN), len;
	bool unsched = false;
	u64 off, e = edge(s);

	tx->nfrags = 0;
	if (s->nlost) {
		struct dcpim_span *l = dcpim_container(s->lost.next, struct dcpim_span, node);

		off = l->start;
		len = gather(s, off, (u32)dcpim_min(room, l->end - off), false, tx);
		l->start += len;
		if (l->start >= l->end || !len) {
			s->nlost--;
			dcpim_span_free(h, l);
		}
		if (!len)
			return false;
		h->stats.rtx_bytes += len;
		h->stats.rtx_packets++;
		f->rtx_bytes += len;
	} else if (s->nxt < e) {
		off = s->nxt;
		len = gather(s, off, (u32)dcpim_min(room, e - off), true, tx);
		s->nxt += len;
		if (s->nxt > s->token) {
			u64 n = dcpim_min(s->nxt - s->token, len);

			unsched = true;
			h->stats.unsched_bytes += n;
			if (!s->msg_id && !s->is_long)
				stream_of(s)->bucket -= dcpim_min(n, stream_of(s)->bucket);
		}
		h->stats.data_bytes_tx += len;
		s->progress_at = now;
		if (!s->sample_at) {
			s->sample_at = now;
			s->sample_off = s->nxt;
			s->rtx_since = false;
		}
	} else if (s->zero) {
		off = len = 0;
		s->zero = false;
		unsched = true;
		s->progress_at = now;
	} else {
		return false;
	}
	p->sport = f->sport;
	p->dport = f->dport;
	p->tag = f->rtag;
	p->flags = 0;
	p->nblocks = 0;
	if (s->msg_id) {
		p->type = DCPIM_DATA_MSG;
		p->u.data_msg.msg_id = s->msg_id;
		p->u.data_msg.offset = (u32)off;
		p->u.data_msg.size = (u32)s->end;
		p->u.data_msg.ack = (u32)f->u.m.rx_cum;
		if (!f->u.m.rx_nids)
			dcpim_flow_acked(f);
	} else {
		/* Bytes that need no token are no demand. */
		p->type = DCPIM_DATA;
		p->flags = more_flag(s);
		p->u.data.offset = off;
		p->u.data.ahead = e < s->end ? dcpim_sat32(s->end - off) : len;
		p->u.data.ack = (u32)f->u.s.recv.nxt;
		s->told = dcpim_max(s->told, off + p->u.data.ahead);
		dcpim_flow_acked(f);
	}
	tx->payload_len = len;
	tx->priority = priority(s, unsched);
	tx->path = &f->path;
	return true;
}
