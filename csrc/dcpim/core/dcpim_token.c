/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tokens [paper, section 3.3]: a receiver paces each sender at the rate of the
 * channels matched with it, smallest remaining transfer first, with at most a
 * window outstanding.
 */
#include "dcpim_priv.h"

#define LOSS_MIN_PACKETS 4ull

static u64 unreceived(const struct dcpim_recv *r)
{
	u64 base = dcpim_max(r->nxt, r->sched_from), out;
	struct dcpim_list *l;

	if (r->token <= base)
		return 0;
	out = r->token - base;
	for (l = r->spans.next; l != &r->spans; l = l->next) {
		const struct dcpim_span *s = dcpim_container(l, struct dcpim_span, node);
		u64 from = dcpim_max(s->start, base), to = dcpim_min(s->end, r->token);

		if (from < to)
			out -= to - from;
	}
	return out;
}

static u64 grant_start(const struct dcpim_recv *r)
{
	/* With nothing outstanding, tokens go on where data ends, not in a hole: those are repaired. */
	return dcpim_max(r->token, r->out ? r->nxt : r->edge);
}

/* Bring the peer's and the host's sums up to date with this transfer. */
void dcpim_recv_account(struct dcpim_recv *r)
{
	struct dcpim_flow *f = r->flow;
	struct dcpim_peer *p = f->peer;
	struct dcpim_host *h = f->host;
	u64 out, want = 0, upto;

	if (!p)
		return;
	out = f->error ? 0 : unreceived(r);
	p->tok_out += out - r->out;
	h->tok_out += out - r->out;
	r->out = out;
	upto = dcpim_min(r->known, dcpim_recv_limit(r));
	if (!f->error && upto > grant_start(r))
		want = upto - grant_start(r);
	p->more -= r->more_counted;
	r->more_counted = r->more && want;
	p->more += r->more_counted;
	if (want == r->want && (!want || dcpim_heap_queued(&r->heap)))
		return;
	p->want += want - r->want;
	r->want = want;
	dcpim_heap_remove(&p->wanting, &r->heap);
	if (want) {
		/* Streams have no size: beyond a BDP they are equals and take turns. */
		u64 rest = f->kind == DCPIM_STREAM ? dcpim_min(want, h->bdp) : want;

		dcpim_heap_insert(&p->wanting, &r->heap, (u64)dcpim_sat32(rest) << 32 | h->served++);
	}
}

static void grant_tokens(struct dcpim_host *h, u64 now, struct dcpim_recv *r, u64 bytes)
{
	struct dcpim_peer *p = r->flow->peer;
	u64 start = grant_start(r);

	if (!r->out)
		r->sched_from = start;
	r->token = start + bytes;
	if (!r->sample_at) {
		r->sample_at = now;
		r->sample_off = r->token;
	}
	h->stats.token_bytes_tx += bytes;
	dcpim_recv_account(r);
	dcpim_ctl_set(h, dcpim_recv_ctl(r), CTL_TOKEN);
	dcpim_recv_arm(r, now);
	dcpim_trace(h, now, DCPIM_TRACE_TOKEN, p, bytes, p->tok_out);
}

static u64 budget(const struct dcpim_host *h)
{
	if (!h->cfg.rx_budget)
		return DCPIM_NEVER;
	return h->cfg.rx_budget > h->tok_out ? h->cfg.rx_budget - h->tok_out : 0;
}

/*
 * Tokens are paced at the rate configured, and a path may be far slower. What is
 * lost then is most of what was sent, and asking for it again at once would lose
 * it again. When more than half as much is asked again as arrived in a round
 * trip, the window falls to what arrived, and grows by half with each window that
 * arrives. Losses that are few change nothing.
 */
static void trip(struct dcpim_peer *p, u64 now, u64 length)
{
	u64 elapsed = now - p->trip_at;

	if (elapsed < length)
		return;
	p->last_trip_bytes = elapsed < 2 * length ? p->trip_bytes : p->trip_bytes * length / elapsed;
	p->trip_bytes = p->trip_asked = 0;
	p->trip_at = now;
}

static u64 trip_length(const struct dcpim_flow *f)
{
	return dcpim_max(f->srtt, f->host->cfg.data_rtt_ns);
}

void dcpim_loss_arrived(struct dcpim_host *h, u64 now, struct dcpim_flow *f, u64 bytes)
{
	struct dcpim_peer *p = f->peer;

	trip(p, now, trip_length(f));
	p->trip_bytes += bytes;
	if (!p->loss_window)
		return;
	p->loss_window += bytes / 2;
	if (p->loss_window >= h->window)
		p->loss_window = 0;
}

void dcpim_loss_asked(struct dcpim_host *h, u64 now, struct dcpim_flow *f, u64 bytes)
{
	struct dcpim_peer *p = f->peer;
	u64 arrived;

	trip(p, now, trip_length(f));
	p->trip_asked += bytes;
	arrived = dcpim_max(p->trip_bytes, p->last_trip_bytes);
	if (p->trip_asked > arrived / 2 && p->trip_asked > LOSS_MIN_PACKETS * h->payload_max)
		p->loss_window = dcpim_max(arrived, LOSS_MIN_PACKETS * h->payload_max);
}

void dcpim_tokens_issue(struct dcpim_host *h, u64 now, struct dcpim_peer *p)
{
	u32 ch = dcpim_match_channels(h, p);
	u64 rate = h->chan_rate * ch, win, dt;

	if (!ch || !rate) {
		p->tok_at = 0;
		dcpim_timer_stop(h, &p->tok_timer);
		dcpim_match_want(h, now, p);
		return;
	}
	win = dcpim_max(h->chan_window * ch, h->payload_max);
	if (p->loss_window)
		win = dcpim_min(win, p->loss_window);
	/* The usual case while data streams in: most of the window is still under way. */
	if (p->tok_at && p->tok_out + dcpim_min(dcpim_min(h->batch, p->want), win) > win && !dcpim_list_empty(&p->want_node))
		return;
	if (!p->tok_at) {
		p->tok_credit = h->batch;
	} else {
		dt = dcpim_min(now - p->tok_at, 1u << 27);
		p->tok_credit = dcpim_min(p->tok_credit + (rate * dt >> 20), dcpim_max(win, h->batch));
	}
	p->tok_at = now;
	while (p->wanting.root) {
		struct dcpim_recv *r = dcpim_container(p->wanting.root, struct dcpim_recv, heap);
		u64 g = dcpim_min(dcpim_min(r->want, h->batch), win);
		u64 room = win > p->tok_out ? win - p->tok_out : 0;

		if (h->cfg.rx_budget)
			g = dcpim_min(g, h->cfg.rx_budget);
		if (dcpim_min(room, budget(h)) < g)
			break;
		if (p->tok_credit < g) {
			u64 wait = ((g - p->tok_credit) << 20) / rate + 1;

			dcpim_timer_set(h, &p->tok_timer, dcpim_after(now, dcpim_max(wait, h->cfg.timer_gran_ns)));
			break;
		}
		p->tok_credit -= g;
		grant_tokens(h, now, r, g);
	}
	dcpim_match_want(h, now, p);
}

/*
 * A long transfer has just become known and channels stand idle: let its first
 * part come at once instead of after a round of matching. Bounded by what the
 * idle channels carry in an epoch.
 */
void dcpim_tokens_spare(struct dcpim_host *h, u64 now, struct dcpim_recv *r)
{
	struct dcpim_peer *p = r->flow->peer;
	u32 free = dcpim_match_idle(h);
	u64 win = h->window * free / h->cfg.channels, bytes;

	if (h->cfg.first_part_mode != DCPIM_FIRST_SPARE || r->spare_used || !free || !p)
		return;
	if (h->spare_epoch != h->epoch) {
		h->spare_epoch = h->epoch;
		h->spare_used = 0;
	}
	bytes = dcpim_min(r->want, h->cfg.first_part_bytes);
	bytes = dcpim_min(bytes, win > p->tok_out ? win - p->tok_out : 0);
	bytes = dcpim_min(bytes, budget(h));
	bytes = dcpim_min(bytes, free * h->chan_bytes > h->spare_used ? free * h->chan_bytes - h->spare_used : 0);
	if (!bytes)
		return;
	r->spare_used = true;
	h->spare_used += bytes;
	grant_tokens(h, now, r, bytes);
}

/*
 * A whole timeout has passed and no match has come of what is wanted, be it that
 * its packets are lost, that others always win, or that answers take longer than
 * the epochs configured. So that no transfer starves, a little may come without
 * one: a packet, or a batch while no channel of this host is in use.
 */
void dcpim_tokens_starved(struct dcpim_host *h, u64 now, struct dcpim_recv *r)
{
	u64 out = r->flow->peer->tok_out, bytes;

	bytes = dcpim_match_idle(h) == h->cfg.channels ? h->batch : h->payload_max;
	bytes = dcpim_min(dcpim_min(bytes, r->want), h->window > out ? h->window - out : 0);
	bytes = dcpim_min(bytes, budget(h));
	if (bytes)
		grant_tokens(h, now, r, bytes);
}
