/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Matching [paper, section 3.2]. Time is cut into epochs. While the data phase
 * of one epoch runs, receivers and senders match channels for the next one in r
 * rounds: RTS from receivers with demand, GRANT from senders with channels
 * free, ACCEPT from receivers. Channels that stayed idle can be matched for the
 * data phase under way ("prompt").
 *
 * No common clock is assumed. A host counts epochs of its own; a receiver's
 * requests name its epoch and how far off that epoch is, and a sender books
 * them on its own nearest one. Hosts also drift towards a common phase: on
 * hearing a peer that is ahead by less than half an epoch they skip forward.
 *
 * GRANT, ACCEPT and REVOKE carry totals for an epoch, not differences, so that
 * duplicates and reordering change nothing.
 */
#include "dcpim_priv.h"

#define JUMP_EPOCHS 8	/* skip forward at most once in this many epochs */
#define JUMP_PACKETS 8	/* and, but for the first time, when so many packets in a row say so */
#define SILENT_EPOCHS 64 /* then requests to a peer not heard of back off */

static u64 vnow(const struct dcpim_host *h, u64 now)
{
	return now + h->phase_off;
}

void dcpim_match_sync(struct dcpim_host *h, u64 now)
{
	u64 v = vnow(h, now);

	if (v < h->epoch_start || v - h->epoch_start < h->epoch_ns)
		return;
	h->epoch = v / h->epoch_ns;
	h->epoch_start = h->epoch * h->epoch_ns;
	dcpim_trace(h, now, DCPIM_TRACE_EPOCH, NULL, h->epoch, 0);
}

/* Only for the epoch under way and the next one: the two share the array. */
static struct dcpim_slot *slot(struct dcpim_slot *s, u64 epoch)
{
	s += epoch & 1;
	if (s->epoch != epoch) {
		s->epoch = epoch;
		s->used = 0;
	}
	return s;
}

static bool live(const struct dcpim_host *h, u64 epoch)
{
	return epoch == h->epoch || epoch == h->epoch + 1;
}

static u32 idle(struct dcpim_host *h, struct dcpim_slot *s, u64 epoch)
{
	u32 used = slot(s, epoch)->used;

	return used < h->cfg.channels ? h->cfg.channels - used : 0;
}

u32 dcpim_match_channels(struct dcpim_host *h, struct dcpim_peer *p)
{
	return slot(p->match, h->epoch)->used;
}

u32 dcpim_match_idle(struct dcpim_host *h)
{
	return idle(h, h->rx_slot, h->epoch);
}

void dcpim_match_used(struct dcpim_host *h, struct dcpim_info *info)
{
	info->rx_matched_cur = slot(h->rx_slot, h->epoch)->used;
	info->rx_matched_next = slot(h->rx_slot, h->epoch + 1)->used;
	info->tx_matched_cur = slot(h->tx_slot, h->epoch)->used;
	info->tx_matched_next = slot(h->tx_slot, h->epoch + 1)->used;
}

/* Channels that a peer's data could fill for an epoch. */
static u32 channels_for(struct dcpim_host *h, const struct dcpim_peer *p)
{
	if (p->more)
		return h->cfg.channels;
	return (u32)dcpim_min((p->want + h->chan_bytes - 1) / h->chan_bytes, h->cfg.channels);
}

/* Next boundary of a grid that starts anew with every epoch, `off` into it. */
static u64 next_boundary(const struct dcpim_host *h, u64 now, u64 off)
{
	u64 v = vnow(h, now), in = v - h->epoch_start, n;

	if (v < h->epoch_start)
		return h->epoch_start + off - h->phase_off;
	n = in < off ? 0 : (in - off) / h->round_ns + 1;
	if (n >= h->cfg.rounds || off + n * h->round_ns >= h->epoch_ns)
		return h->epoch_start + h->epoch_ns + off - h->phase_off;
	return h->epoch_start + off + n * h->round_ns - h->phase_off;
}

static void arm_recv(struct dcpim_host *h, u64 now)
{
	if (!dcpim_timer_on(&h->recv_timer))
		dcpim_timer_set(h, &h->recv_timer, next_boundary(h, now, 0));
}

static void arm_send(struct dcpim_host *h, u64 now)
{
	if (!dcpim_timer_on(&h->send_timer))
		dcpim_timer_set(h, &h->send_timer, next_boundary(h, now, h->round_ns / 2));
}

static void drift(struct dcpim_host *h, u64 now, const struct dcpim_pkt *pkt)
{
	u64 in = vnow(h, now) - h->epoch_start, ahead;

	if (pkt->u.match.epoch_len != h->epoch_ns || pkt->u.match.phase >= h->epoch_ns || in >= h->epoch_ns)
		return;
	/* The phase is stale by the packet's flight, so nobody is ever pushed past the leader. */
	ahead = (pkt->u.match.phase + h->epoch_ns - in) % h->epoch_ns;
	if (!ahead || ahead >= h->epoch_ns / 2) {
		h->times_ahead = 0;
		return;
	}
	/* A packet that was held up for long looks as if it came from ahead. */
	h->least_ahead = h->times_ahead ? dcpim_min(h->least_ahead, ahead) : ahead;
	if (++h->times_ahead < JUMP_PACKETS && h->stats.phase_jumps)
		return;
	ahead = h->least_ahead;
	h->times_ahead = 0;
	if (h->stats.phase_jumps && h->epoch - h->phase_jump_epoch < JUMP_EPOCHS)
		return;
	h->phase_off += ahead;
	h->stats.phase_jumps++;
	dcpim_match_sync(h, now);
	h->phase_jump_epoch = h->epoch;
	if (dcpim_timer_on(&h->recv_timer))
		dcpim_timer_set(h, &h->recv_timer, next_boundary(h, now, 0));
	if (dcpim_timer_on(&h->send_timer))
		dcpim_timer_set(h, &h->send_timer, next_boundary(h, now, h->round_ns / 2));
}

/*
 * Up to @max peers of a list in the order they are served: by what remains in
 * the first round, at random later [paper]. Takes them off the list; whatever
 * else was on it is dropped, it will be asked for again.
 */
static u32 draw(struct dcpim_host *h, struct dcpim_list *list, bool requests, bool smallest,
		struct dcpim_peer **out, u32 max)
{
	struct dcpim_list *l, *best;
	u32 n = 0, len = 0, i;

	for (l = list->next; l != list; l = l->next)
		len++;
	for (; n < max && len; len--) {
		best = list->next;
		if (smallest) {
			u32 least = ~0u;

			for (l = list->next; l != list; l = l->next) {
				u32 rest = requests ? dcpim_container(l, struct dcpim_peer, rts_node)->req_remaining :
						      dcpim_container(l, struct dcpim_peer, grant_node)->grant_remaining;

				if (rest < least) {
					least = rest;
					best = l;
				}
			}
		} else {
			for (i = dcpim_rand_below(&h->rand, len); i; i--)
				best = best->next;
		}
		dcpim_list_del(best);
		out[n++] = requests ? dcpim_container(best, struct dcpim_peer, rts_node) :
				      dcpim_container(best, struct dcpim_peer, grant_node);
	}
	while (!dcpim_list_empty(list))
		dcpim_list_del(list->next);
	return n;
}

static void count_matched(struct dcpim_host *h, u64 *counter, u32 channels, bool prompt)
{
	*counter += channels;
	if (prompt)
		h->stats.prompt_matched += channels;
	if (h->counted_epoch != h->epoch) {
		h->counted_epoch = h->epoch;
		h->stats.epochs++;
	}
}

/* Receiver */

static void accept_channels(struct dcpim_host *h, struct dcpim_peer *p, u64 epoch, u32 n, bool prompt)
{
	slot(p->match, epoch)->used += n;
	slot(h->rx_slot, epoch)->used += n;
	p->accept_epoch[prompt] = epoch;
	dcpim_ctl_set(h, &p->ctl, prompt ? CTL_ACCEPT_PROMPT : CTL_ACCEPT);
	count_matched(h, &h->stats.channels_matched_rx, n, prompt);
}

static void take_grants(struct dcpim_host *h, bool smallest)
{
	struct dcpim_peer *p[DCPIM_MAX_CHANNELS];
	u32 n = draw(h, &h->grant_peers, false, smallest, p, h->cfg.channels), i;
	bool more = true;

	/* One channel each, round and round. */
	while (more) {
		more = false;
		for (i = 0; i < n; i++) {
			u64 e = p[i]->grant_epoch;
			u32 have, need;

			if (!live(h, e))
				continue;
			have = slot(p[i]->match, e)->used;
			need = channels_for(h, p[i]);
			if (have >= p[i]->grant_channels || have >= need || !idle(h, h->rx_slot, e))
				continue;
			accept_channels(h, p[i], e, 1, false);
			more = true;
		}
	}
	for (i = 0; i < n; i++)
		p[i]->grant_epoch = DCPIM_NEVER;
}

static bool silent(struct dcpim_host *h, u64 now, struct dcpim_peer *p)
{
	u64 patience = dcpim_max(SILENT_EPOCHS * h->epoch_ns, 2 * h->cfg.rto_min_ns);

	if (now - p->heard < patience) {
		p->rts_silent = 0;
		return false;
	}
	if (now < p->rts_next)
		return true;
	p->rts_next = dcpim_after(now, dcpim_min(h->cfg.rto_min_ns << dcpim_min(p->rts_silent, 16), h->cfg.rto_max_ns));
	p->rts_silent++;
	return false;
}

static void prompt(struct dcpim_host *h, u64 now, struct dcpim_peer *p)
{
	u32 have = slot(p->match, h->epoch)->used, need = channels_for(h, p), free;
	u64 left = h->epoch_start + h->epoch_ns - vnow(h, now);

	free = idle(h, h->rx_slot, h->epoch);
	if (have >= need || !free || now < p->prompt_next || left > h->epoch_ns || left < h->cfg.ctrl_rtt_ns)
		return;
	p->prompt_next = dcpim_after(now, dcpim_max(h->round_ns, h->cfg.ctrl_rtt_ns));
	p->prompt_epoch = h->epoch;
	p->prompt_channels = (u8)(have + dcpim_min(need - have, free));
	dcpim_ctl_set(h, &p->ctl, CTL_RTS_PROMPT);
}

void dcpim_match_want(struct dcpim_host *h, u64 now, struct dcpim_peer *p)
{
	if (!p->want) {
		dcpim_list_del(&p->want_node);
		return;
	}
	if (dcpim_list_empty(&p->want_node))
		dcpim_list_add_tail(&h->want_peers, &p->want_node);
	arm_recv(h, now);
	if (now - p->heard < dcpim_max(SILENT_EPOCHS * h->epoch_ns, 2 * h->cfg.rto_min_ns))
		prompt(h, now, p);
}

void dcpim_match_recv_tick(struct dcpim_host *h, u64 now)
{
	struct dcpim_list *l, *next;
	u64 in, target;
	u32 round;

	dcpim_match_sync(h, now);
	in = vnow(h, now) - h->epoch_start;
	round = (u32)dcpim_min(in / h->round_ns, h->cfg.rounds);
	target = h->epoch + 1;
	take_grants(h, round == 1);
	for (l = h->want_peers.next; l != &h->want_peers; l = next) {
		struct dcpim_peer *p = dcpim_container(l, struct dcpim_peer, want_node);
		u32 have = slot(p->match, target)->used, need, free;

		next = l->next;
		dcpim_tokens_issue(h, now, p);
		need = channels_for(h, p);
		free = idle(h, h->rx_slot, target);
		if (!p->want || silent(h, now, p))
			continue;
		if (round < h->cfg.rounds && have < need && free) {
			p->rts_epoch = target;
			p->rts_round = (u8)round;
			p->rts_channels = (u8)(have + dcpim_min(need - have, free));
			dcpim_ctl_set(h, &p->ctl, CTL_RTS);
		}
		prompt(h, now, p);
	}
	if (!dcpim_list_empty(&h->want_peers) || !dcpim_list_empty(&h->grant_peers))
		arm_recv(h, now);
}

static void rx_grant(struct dcpim_host *h, u64 now, struct dcpim_peer *p, const struct dcpim_pkt *pkt)
{
	u64 e = pkt->u.match.epoch;
	u32 have;

	h->stats.grant_rx++;
	if (!live(h, e))
		return;
	have = slot(p->match, e)->used;
	if (pkt->u.match.channels <= have || pkt->u.match.channels > h->cfg.channels)
		return;
	if (pkt->flags & DCPIM_F_PROMPT) {
		u32 need = channels_for(h, p);

		if (e != h->epoch || need <= have)
			return;
		have = (u32)dcpim_min(dcpim_min(pkt->u.match.channels, need) - have, idle(h, h->rx_slot, e));
		if (have)
			accept_channels(h, p, e, have, true);
		dcpim_tokens_issue(h, now, p);
		return;
	}
	p->grant_epoch = e;
	p->grant_channels = pkt->u.match.channels;
	p->grant_remaining = pkt->u.match.remaining;
	if (dcpim_list_empty(&p->grant_node))
		dcpim_list_add_tail(&h->grant_peers, &p->grant_node);
	arm_recv(h, now);
}

static void rx_revoke(struct dcpim_host *h, struct dcpim_peer *p, const struct dcpim_pkt *pkt)
{
	u64 e = pkt->u.match.epoch;
	struct dcpim_slot *s;

	h->stats.revoke_rx++;
	if (!live(h, e))
		return;
	s = slot(p->match, e);
	if (pkt->u.match.channels < s->used) {
		slot(h->rx_slot, e)->used -= s->used - pkt->u.match.channels;
		s->used = pkt->u.match.channels;
	}
}

/* Sender */

static struct dcpim_promise *promise_for(struct dcpim_peer *p, u64 mine, u64 theirs)
{
	struct dcpim_promise *pr = &p->promise[mine & 1];

	if (pr->mine != mine) {
		pr->mine = mine;
		pr->granted = pr->matched = 0;
	}
	pr->theirs = theirs;
	return pr;
}

static void grant(struct dcpim_host *h, u64 now, struct dcpim_peer *p, u64 mine, u64 theirs, u32 n, u8 round,
		  bool prompt)
{
	struct dcpim_promise *pr = promise_for(p, mine, theirs);

	pr->granted += n;
	pr->granted_at = now;
	slot(h->tx_slot, mine)->used += n;
	p->grant_tx_epoch[prompt] = theirs;
	p->grant_tx_round[prompt] = round;
	dcpim_ctl_set(h, &p->ctl, prompt ? CTL_GRANT_PROMPT : CTL_GRANT);
	if (dcpim_list_empty(&p->promise_node))
		dcpim_list_add_tail(&h->promise_peers, &p->promise_node);
	arm_send(h, now);
}

/* How many more channels a request still asks for, within what is free. */
static u32 grantable(struct dcpim_host *h, struct dcpim_peer *p, u64 mine, u64 theirs, u32 asked)
{
	struct dcpim_promise *pr = promise_for(p, mine, theirs);
	u32 have = pr->granted + pr->matched;

	return asked > have ? (u32)dcpim_min(asked - have, idle(h, h->tx_slot, mine)) : 0;
}

static void rx_rts(struct dcpim_host *h, u64 now, struct dcpim_peer *p, const struct dcpim_pkt *pkt)
{
	u64 v = vnow(h, now), mine;
	u32 n;

	h->stats.rts_rx++;
	if (!p->tx_wants)
		return;
	if (pkt->flags & DCPIM_F_PROMPT) {
		n = grantable(h, p, h->epoch, pkt->u.match.epoch, pkt->u.match.channels);
		if (n)
			grant(h, now, p, h->epoch, pkt->u.match.epoch, n, pkt->u.match.round, true);
		return;
	}
	mine = (v + pkt->u.match.start_in + h->epoch_ns / 2) / h->epoch_ns;
	mine = dcpim_min(dcpim_max(mine, h->epoch), h->epoch + 1);
	p->req_mine = mine;
	p->req_theirs = pkt->u.match.epoch;
	p->req_channels = pkt->u.match.channels;
	p->req_remaining = pkt->u.match.remaining;
	p->req_round = pkt->u.match.round;
	if (dcpim_list_empty(&p->rts_node))
		dcpim_list_add_tail(&h->rts_peers, &p->rts_node);
	arm_send(h, now);
}

static void release(struct dcpim_host *h, struct dcpim_promise *pr, u32 n)
{
	if (live(h, pr->mine))
		slot(h->tx_slot, pr->mine)->used -= n;
}

/* A grant that no ACCEPT answered within a round is free again; a later ACCEPT may find it gone. */
static void release_stale(struct dcpim_host *h, u64 now)
{
	struct dcpim_list *l, *next;

	for (l = h->promise_peers.next; l != &h->promise_peers; l = next) {
		struct dcpim_peer *p = dcpim_container(l, struct dcpim_peer, promise_node);
		bool waiting = false;
		u32 i;

		next = l->next;
		for (i = 0; i < 2; i++) {
			struct dcpim_promise *pr = &p->promise[i];

			if (!pr->granted)
				continue;
			if (now - pr->granted_at >= h->round_ns || !live(h, pr->mine)) {
				release(h, pr, pr->granted);
				pr->granted = 0;
			} else {
				waiting = true;
			}
		}
		if (!waiting)
			dcpim_list_del(&p->promise_node);
	}
}

void dcpim_match_send_tick(struct dcpim_host *h, u64 now)
{
	struct dcpim_peer *p[DCPIM_MAX_CHANNELS];
	bool more = true;
	u32 n, i;

	dcpim_match_sync(h, now);
	release_stale(h, now);
	n = draw(h, &h->rts_peers, true, vnow(h, now) - h->epoch_start < h->round_ns, p, h->cfg.channels);
	while (more) {
		more = false;
		for (i = 0; i < n; i++) {
			if (!live(h, p[i]->req_mine) || !p[i]->tx_wants ||
			    !grantable(h, p[i], p[i]->req_mine, p[i]->req_theirs, p[i]->req_channels))
				continue;
			grant(h, now, p[i], p[i]->req_mine, p[i]->req_theirs, 1, p[i]->req_round, false);
			more = true;
		}
	}
	if (!dcpim_list_empty(&h->promise_peers))
		arm_send(h, now);
}

static void rx_accept(struct dcpim_host *h, struct dcpim_peer *p, const struct dcpim_pkt *pkt)
{
	u32 i, n, extra;

	h->stats.accept_rx++;
	for (i = 0; i < 2; i++) {
		struct dcpim_promise *pr = &p->promise[i];

		if (pr->theirs != pkt->u.match.epoch || !live(h, pr->mine))
			continue;
		if (pkt->u.match.channels <= pr->matched)
			return;
		n = pkt->u.match.channels - pr->matched;
		extra = n > pr->granted ? n - pr->granted : 0;
		n -= extra;
		pr->matched += n;
		pr->granted -= n;
		release(h, pr, pr->granted);
		pr->granted = 0;
		if (extra) {
			/* The grant had been taken back; give what can still be given. */
			u32 late = (u32)dcpim_min(extra, idle(h, h->tx_slot, pr->mine));

			n += late;
			pr->matched += late;
			slot(h->tx_slot, pr->mine)->used += late;
			if (late < extra) {
				p->revoke_epoch = pr->theirs;
				dcpim_ctl_set(h, &p->ctl, CTL_REVOKE);
			}
		}
		count_matched(h, &h->stats.channels_matched_tx, n, pkt->flags & DCPIM_F_PROMPT);
		return;
	}
}

void dcpim_match_rx(struct dcpim_host *h, u64 now, struct dcpim_peer *p, const struct dcpim_pkt *pkt)
{
	drift(h, now, pkt);
	switch (pkt->type) {
	case DCPIM_RTS:
		rx_rts(h, now, p, pkt);
		break;
	case DCPIM_GRANT:
		rx_grant(h, now, p, pkt);
		break;
	case DCPIM_ACCEPT:
		rx_accept(h, p, pkt);
		break;
	case DCPIM_REVOKE:
		rx_revoke(h, p, pkt);
		break;
	}
}

void dcpim_match_forget(struct dcpim_host *h, struct dcpim_peer *p)
{
	u32 i;

	for (i = 0; i < 2; i++) {
		if (live(h, p->match[i].epoch))
			slot(h->rx_slot, p->match[i].epoch)->used -= p->match[i].used;
		release(h, &p->promise[i], p->promise[i].granted + p->promise[i].matched);
	}
	dcpim_list_del(&p->want_node);
	dcpim_list_del(&p->grant_node);
	dcpim_list_del(&p->rts_node);
	dcpim_list_del(&p->promise_node);
}

static const struct dcpim_promise *promise_of(const struct dcpim_host *h, const struct dcpim_peer *p, u64 theirs)
{
	u32 i;

	for (i = 0; i < 2; i++)
		if (p->promise[i].theirs == theirs && live(h, p->promise[i].mine))
			return &p->promise[i];
	return NULL;
}

bool dcpim_match_fill(struct dcpim_host *h, u64 now, struct dcpim_peer *p, u16 bit, struct dcpim_pkt *pkt)
{
	u64 in = vnow(h, now) - h->epoch_start;
	const struct dcpim_promise *pr;
	bool prompted = bit & (CTL_RTS_PROMPT | CTL_GRANT_PROMPT | CTL_ACCEPT_PROMPT);
	u32 what = 0;

	pkt->flags = DCPIM_F_HOST;
	if (bit == CTL_KEEPALIVE || bit == CTL_KEEPALIVE_ACK) {
		pkt->type = bit == CTL_KEEPALIVE ? DCPIM_KEEPALIVE : DCPIM_KEEPALIVE_ACK;
		return true;
	}
	if (prompted)
		pkt->flags |= DCPIM_F_PROMPT;
	in = dcpim_min(in, h->epoch_ns - 1);
	pkt->u.match.phase = (u32)in;
	pkt->u.match.epoch_len = (u32)h->epoch_ns;
	pkt->u.match.start_in = 0;
	pkt->u.match.round = 0;
	pkt->u.match.remaining = p->wanting.root ? (u32)(p->wanting.root->key >> 32) : 0;
	switch (bit) {
	case CTL_RTS:
		if (p->rts_epoch != h->epoch + 1 || !p->want)
			return false;
		pkt->type = DCPIM_RTS;
		pkt->u.match.epoch = p->rts_epoch;
		pkt->u.match.round = p->rts_round;
		pkt->u.match.channels = p->rts_channels;
		pkt->u.match.start_in = (u32)(h->epoch_ns - in);
		h->stats.rts_tx++;
		what = DCPIM_TRACE_RTS;
		break;
	case CTL_RTS_PROMPT:
		if (p->prompt_epoch != h->epoch || !p->want)
			return false;
		pkt->type = DCPIM_RTS;
		pkt->u.match.epoch = p->prompt_epoch;
		pkt->u.match.channels = p->prompt_channels;
		h->stats.rts_tx++;
		what = DCPIM_TRACE_RTS;
		break;
	case CTL_GRANT:
	case CTL_GRANT_PROMPT:
		pr = promise_of(h, p, p->grant_tx_epoch[prompted]);
		if (!pr)
			return false;
		pkt->type = DCPIM_GRANT;
		pkt->u.match.epoch = pr->theirs;
		pkt->u.match.round = p->grant_tx_round[prompted];
		pkt->u.match.channels = (u8)(pr->granted + pr->matched);
		pkt->u.match.remaining = p->req_remaining;
		h->stats.grant_tx++;
		what = DCPIM_TRACE_GRANT;
		break;
	case CTL_ACCEPT:
	case CTL_ACCEPT_PROMPT:
		if (!live(h, p->accept_epoch[prompted]))
			return false;
		pkt->type = DCPIM_ACCEPT;
		pkt->u.match.epoch = p->accept_epoch[prompted];
		pkt->u.match.channels = (u8)slot(p->match, p->accept_epoch[prompted])->used;
		h->stats.accept_tx++;
		what = DCPIM_TRACE_ACCEPT;
		break;
	case CTL_REVOKE:
		pr = promise_of(h, p, p->revoke_epoch);
		if (!pr)
			return false;
		pkt->type = DCPIM_REVOKE;
		pkt->u.match.epoch = pr->theirs;
		pkt->u.match.channels = (u8)pr->matched;
		h->stats.revoke_tx++;
		what = DCPIM_TRACE_REVOKE;
		break;
	default:
		return false;
	}
	dcpim_trace(h, now, what, p, pkt->u.match.epoch, (u64)pkt->u.match.channels << 8 | pkt->u.match.round);
	return true;
}
