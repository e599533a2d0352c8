/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The host: memory under caps, timers, the control queue, and the two pulls
 * (packets and events) that a driver lives on.
 */
#include "dcpim_priv.h"

#define REPLY_BURST 64
#define REPLY_PER_SEC 1000 /* resets to strangers */

void *dcpim_alloc(struct dcpim_host *h, enum dcpim_slab slab, size_t size)
{
	u64 cap = DCPIM_NEVER;
	void *p;

	if (slab == DCPIM_SLAB_FLOW)
		cap = h->cfg.max_flows;
	else if (slab == DCPIM_SLAB_PEER)
		cap = h->cfg.max_peers;
	else if (slab == DCPIM_SLAB_MSG)
		cap = h->cfg.max_msgs;
	else if (slab == DCPIM_SLAB_SEG || slab == DCPIM_SLAB_SPAN)
		cap = h->cfg.max_segs;
	if (h->count[slab] >= cap)
		return NULL;
	p = h->ops->alloc(h->ctx, slab, size);
	if (p)
		h->count[slab]++;
	return p;
}

void dcpim_free(struct dcpim_host *h, enum dcpim_slab slab, void *p, size_t size)
{
	h->count[slab]--;
	h->ops->free(h->ctx, slab, p, size);
}

struct dcpim_seg *dcpim_seg_new(struct dcpim_host *h, u64 off, const struct dcpim_buf *buf)
{
	struct dcpim_seg *s = dcpim_alloc(h, DCPIM_SLAB_SEG, sizeof(*s));

	if (s) {
		dcpim_list_init(&s->node);
		s->off = off;
		s->buf = *buf;
	}
	return s;
}

/* Gives the payload back, too. */
void dcpim_seg_free(struct dcpim_host *h, struct dcpim_seg *s)
{
	dcpim_list_del(&s->node);
	h->ops->put(h->ctx, &s->buf);
	dcpim_free(h, DCPIM_SLAB_SEG, s, sizeof(*s));
}

struct dcpim_span *dcpim_span_new(struct dcpim_host *h, u64 start, u64 end)
{
	struct dcpim_span *s = dcpim_alloc(h, DCPIM_SLAB_SPAN, sizeof(*s));

	if (s) {
		dcpim_list_init(&s->node);
		dcpim_list_init(&s->segs);
		s->start = start;
		s->end = end;
	}
	return s;
}

void dcpim_span_free(struct dcpim_host *h, struct dcpim_span *s)
{
	while (!dcpim_list_empty(&s->segs))
		dcpim_seg_free(h, dcpim_container(s->segs.next, struct dcpim_seg, node));
	dcpim_list_del(&s->node);
	dcpim_free(h, DCPIM_SLAB_SPAN, s, sizeof(*s));
}

static struct dcpim_heap *heap_of(struct dcpim_host *h, const struct dcpim_timer *t)
{
	return t->kind <= TIMER_LAST_LENIENT ? &h->lenient : &h->timers;
}

void dcpim_timer_stop(struct dcpim_host *h, struct dcpim_timer *t)
{
	dcpim_heap_remove(heap_of(h, t), &t->node);
}

void dcpim_timer_set(struct dcpim_host *h, struct dcpim_timer *t, u64 when)
{
	struct dcpim_heap *heap = heap_of(h, t);

	if (dcpim_timer_on(t)) {
		if (t->node.key == when)
			return;
		dcpim_heap_remove(heap, &t->node);
	}
	if (when != DCPIM_NEVER)
		dcpim_heap_insert(heap, &t->node, when);
}

void dcpim_ctl_init(struct dcpim_ctl *c, u8 owner)
{
	dcpim_list_init(&c->node);
	c->bits = 0;
	c->owner = owner;
}

void dcpim_ctl_set(struct dcpim_host *h, struct dcpim_ctl *c, u16 bits)
{
	c->bits |= bits;
	if (dcpim_list_empty(&c->node))
		dcpim_list_add_tail(&h->ctl, &c->node);
}

void dcpim_ctl_clear(struct dcpim_ctl *c, u16 bits)
{
	c->bits &= (u16)~bits;
	if (!c->bits)
		dcpim_list_del(&c->node);
}

void dcpim_event(struct dcpim_flow *f, u32 mask)
{
	if ((f->flags & FLOW_APP_CLOSED) || !(f->flags & FLOW_ANNOUNCED))
		return;
	f->ev_mask |= mask;
	if (dcpim_list_empty(&f->ev_node))
		dcpim_list_add_tail(&f->host->events, &f->ev_node);
}

void dcpim_trace(struct dcpim_host *h, u64 now, u32 what, const struct dcpim_peer *peer, u64 a, u64 b)
{
	if (h->ops->trace)
		h->ops->trace(h->ctx, now, what, peer ? &peer->path : NULL, a, b);
}

static u32 table_size(u64 cap)
{
	u32 n = 16;

	while (n < cap && n < 65536)
		n *= 2;
	return n;
}

static void *table_new(struct dcpim_host *h, u32 n)
{
	return dcpim_alloc(h, DCPIM_SLAB_TABLE, n * sizeof(void *));
}

struct dcpim_host *dcpim_host_create(const struct dcpim_cfg *cfg, const struct dcpim_ops *ops, void *ctx,
				     const u64 seed[2], u64 now)
{
	struct dcpim_host *h;
	u32 i;

	if (dcpim_cfg_check(cfg, NULL))
		return NULL;
	h = ops->alloc(ctx, DCPIM_SLAB_HOST, sizeof(*h));
	if (!h)
		return NULL;
	h->cfg = *cfg;
	h->ops = ops;
	h->ctx = ctx;
	h->count[DCPIM_SLAB_HOST] = 1;
	dcpim_rand_init(&h->rand, seed);
	for (i = 0; i < 2; i++)
		h->hash_key[i] = dcpim_rand64(&h->rand);
	h->bdp = dcpim_cfg_bdp(cfg);
	h->round_ns = dcpim_cfg_round_ns(cfg);
	h->epoch_ns = dcpim_cfg_epoch_ns(cfg);
	h->rate_q20 = dcpim_max((cfg->rate_bps / 8) * 1048576 / 1000000000, 1);
	h->window = cfg->window ? cfg->window : h->bdp;
	h->window = dcpim_max(h->window, 2ull * cfg->max_packet);
	h->chan_window = h->window / cfg->channels;
	h->chan_rate = dcpim_max(h->rate_q20 / cfg->channels, 1);
	h->payload_max = cfg->max_packet - DCPIM_DATA_LEN;
	h->chan_bytes = dcpim_max(h->rate_q20 * (h->epoch_ns / cfg->channels) >> 20, 1);
	h->short_threshold = cfg->short_threshold ? cfg->short_threshold : h->bdp;
	/*
	 * Large enough to fill one segmentation-offload packet, small enough
	 * that several batches fit the window of a single channel.
	 */
	i = cfg->token_batch ? cfg->token_batch :
			       (u32)dcpim_min(65536, h->window / cfg->channels / 4);
	h->batch = (u32)dcpim_max(i / h->payload_max, 1) * h->payload_max;
	dcpim_list_init(&h->flows);
	dcpim_list_init(&h->timewait);
	dcpim_list_init(&h->peers);
	dcpim_list_init(&h->listeners);
	dcpim_list_init(&h->events);
	dcpim_list_init(&h->ctl);
	dcpim_list_init(&h->tx_unsched);
	dcpim_list_init(&h->tx_sched);
	dcpim_list_init(&h->want_peers);
	dcpim_list_init(&h->grant_peers);
	dcpim_list_init(&h->rts_peers);
	dcpim_list_init(&h->promise_peers);
	dcpim_timer_init(&h->recv_timer, TIMER_MATCH_RECV);
	dcpim_timer_init(&h->send_timer, TIMER_MATCH_SEND);
	h->reply_at = now;
	h->reply_tokens = REPLY_BURST;
	h->counted_epoch = h->spare_epoch = DCPIM_NEVER;
	h->flow_mask = table_size(cfg->max_flows) - 1;
	h->peer_mask = table_size(cfg->max_peers) - 1;
	h->msg_mask = table_size(cfg->max_msgs) - 1;
	h->flow_hash = table_new(h, h->flow_mask + 1);
	h->peer_hash = table_new(h, h->peer_mask + 1);
	h->msg_hash = table_new(h, 2 * (h->msg_mask + 1));
	dcpim_match_sync(h, now);
	if (!h->flow_hash || !h->peer_hash || !h->msg_hash) {
		dcpim_host_destroy(h);
		return NULL;
	}
	return h;
}

static void free_flows(struct dcpim_list *l)
{
	while (!dcpim_list_empty(l))
		dcpim_flow_free(dcpim_container(l->next, struct dcpim_flow, all_node));
}

void dcpim_host_destroy(struct dcpim_host *h)
{
	const struct dcpim_ops *ops = h->ops;
	void *ctx = h->ctx;

	free_flows(&h->flows);
	free_flows(&h->timewait);
	while (!dcpim_list_empty(&h->listeners)) {
		struct dcpim_listener *l = dcpim_container(h->listeners.next, struct dcpim_listener, node);

		dcpim_list_del(&l->node);
		dcpim_free(h, DCPIM_SLAB_LISTENER, l, sizeof(*l));
	}
	if (h->flow_hash)
		dcpim_free(h, DCPIM_SLAB_TABLE, h->flow_hash, (h->flow_mask + 1) * sizeof(void *));
	if (h->peer_hash)
		dcpim_free(h, DCPIM_SLAB_TABLE, h->peer_hash, (h->peer_mask + 1) * sizeof(void *));
	if (h->msg_hash)
		dcpim_free(h, DCPIM_SLAB_TABLE, h->msg_hash, 2 * (h->msg_mask + 1) * sizeof(void *));
	ops->free(ctx, DCPIM_SLAB_HOST, h, sizeof(*h));
}

const struct dcpim_cfg *dcpim_host_cfg(const struct dcpim_host *h)
{
	return &h->cfg;
}

static void run_timer(struct dcpim_host *h, u64 now, struct dcpim_timer *t)
{
	switch (t->kind) {
	case TIMER_FLOW:
		dcpim_flow_timer(dcpim_container(t, struct dcpim_flow, timer), now);
		break;
	case TIMER_ACK:
		dcpim_flow_ack_timer(dcpim_container(t, struct dcpim_flow, ack_timer), now);
		break;
	case TIMER_SEND:
		dcpim_send_timer(dcpim_container(t, struct dcpim_send, timer), now);
		break;
	case TIMER_RECV:
		dcpim_recv_timer(dcpim_container(t, struct dcpim_recv, timer), now);
		break;
	case TIMER_TOKEN:
		dcpim_tokens_issue(h, now, dcpim_container(t, struct dcpim_peer, tok_timer));
		break;
	case TIMER_PEER:
		dcpim_peer_timer(h, now, dcpim_container(t, struct dcpim_peer, timer));
		break;
	case TIMER_MATCH_RECV:
		dcpim_match_recv_tick(h, now);
		break;
	case TIMER_MATCH_SEND:
		dcpim_match_send_tick(h, now);
		break;
	}
}

static u64 first(const struct dcpim_heap *heap)
{
	return heap->root ? heap->root->key : DCPIM_NEVER;
}

void dcpim_tick(struct dcpim_host *h, u64 now)
{
	while (dcpim_next_deadline(h) <= now) {
		struct dcpim_heap *heap = first(&h->lenient) < first(&h->timers) ? &h->lenient : &h->timers;
		struct dcpim_heap_node *n = heap->root;

		dcpim_heap_remove(heap, n);
		run_timer(h, now, dcpim_container(n, struct dcpim_timer, node));
	}
}

u64 dcpim_next_deadline(const struct dcpim_host *h)
{
	return dcpim_min(first(&h->timers), first(&h->lenient));
}

u64 dcpim_next_precise(const struct dcpim_host *h)
{
	return first(&h->timers);
}

static bool crc_ok(struct dcpim_host *h, const struct dcpim_rxpkt *rx, const struct dcpim_pkt *p,
		   const u8 *payload)
{
	u32 crc;

	if (!(p->flags & DCPIM_F_CRC))
		return !(h->cfg.flags & DCPIM_CFG_CRC);
	crc = dcpim_crc_header(rx->hdr, p->hdr_len);
	if (p->len > p->hdr_len)
		crc = (h->ops->crc32c ? h->ops->crc32c : dcpim_crc32c)(crc, payload, p->len - p->hdr_len);
	return crc == dcpim_crc_of(rx->hdr);
}

void dcpim_rx(struct dcpim_host *h, u64 now, const struct dcpim_rxpkt *rx)
{
	struct dcpim_pkt p;
	const u8 *payload;

	h->stats.rx_packets++;
	h->stats.rx_bytes += rx->total;
	if (dcpim_decode(rx->hdr, rx->hdr_avail, rx->total, &p)) {
		h->stats.rx_bad++;
		return;
	}
	payload = rx->payload ? rx->payload : rx->hdr + p.hdr_len;
	if (!rx->payload && rx->hdr_avail < p.len) {
		h->stats.rx_bad++;
		return;
	}
	if (!crc_ok(h, rx, &p, payload)) {
		h->stats.rx_bad++;
		return;
	}
	dcpim_match_sync(h, now);
	switch (p.type) {
	case DCPIM_NOTIFICATION_LONG:
	case DCPIM_NOTIFICATION_SHORT:
		dcpim_rx_open(h, now, rx, &p);
		break;
	case DCPIM_RTS:
	case DCPIM_GRANT:
	case DCPIM_ACCEPT:
	case DCPIM_REVOKE:
	case DCPIM_KEEPALIVE:
	case DCPIM_KEEPALIVE_ACK:
		dcpim_rx_host(h, now, rx, &p);
		break;
	case DCPIM_RESET:
		if (p.flags & DCPIM_F_HOST) {
			dcpim_rx_host(h, now, rx, &p);
			break;
		}
		/* fall through */
	default:
		dcpim_rx_flow(h, now, rx, &p, payload);
	}
}

static void stateless_push(struct dcpim_host *h, const struct dcpim_path *path, u16 sport, u16 dport, u32 tag,
			   u8 flags)
{
	struct dcpim_stateless *s;

	if (h->nstateless == DCPIM_STATELESS)
		return;
	s = &h->stateless[(h->stateless_head + h->nstateless++) % DCPIM_STATELESS];
	s->path = *path;
	s->sport = sport;
	s->dport = dport;
	s->tag = tag;
	s->type = DCPIM_RESET;
	s->flags = flags;
}

/*
 * Tell the sender of a packet that belongs to nothing here. The tag proves to
 * it that the answer comes from whoever receives its packets (as RFC 9260
 * section 8.4 does); never longer than what it answers, and rate-limited.
 */
void dcpim_reply_reset(struct dcpim_host *h, u64 now, const struct dcpim_rxpkt *rx, const struct dcpim_pkt *p)
{
	bool open = p->type == DCPIM_NOTIFICATION_LONG || p->type == DCPIM_NOTIFICATION_SHORT;
	u64 refill = (now - h->reply_at) / (1000000000 / REPLY_PER_SEC);
	u8 flags = 0;

	if (p->type == DCPIM_RESET)
		return;
	if (refill) {
		h->reply_tokens = (u32)dcpim_min(h->reply_tokens + refill, REPLY_BURST);
		h->reply_at = now;
	}
	if (!h->reply_tokens)
		return;
	h->reply_tokens--;
	if (!open)
		flags |= DCPIM_F_REFLECTED;
	if (p->type >= DCPIM_RTS && p->type <= DCPIM_ACCEPT)
		flags |= DCPIM_F_HOST;
	if (p->type == DCPIM_REVOKE || p->type == DCPIM_KEEPALIVE || p->type == DCPIM_KEEPALIVE_ACK)
		flags |= DCPIM_F_HOST;
	stateless_push(h, &rx->path, p->dport, p->sport, open ? p->u.syn.flow_tag : p->tag, flags);
}

void dcpim_flow_reset(struct dcpim_flow *f)
{
	if (f->rtag)
		stateless_push(f->host, &f->path, f->sport, f->dport, f->rtag, 0);
}

static void finish(struct dcpim_host *h, struct dcpim_txpkt *tx, const struct dcpim_pkt *p)
{
	u32 i, crc;

	tx->hdr_len = dcpim_encode(p, tx->payload_len, tx->hdr);
	tx->type = p->type;
	if (h->cfg.flags & DCPIM_CFG_CRC) {
		crc = dcpim_seal_start(tx->hdr, tx->hdr_len);
		for (i = 0; i < tx->nfrags; i++)
			crc = (h->ops->crc32c ? h->ops->crc32c : dcpim_crc32c)(crc, tx->frags[i].ptr,
									      tx->frags[i].len);
		dcpim_seal(tx->hdr, tx->hdr_len, crc);
	}
	h->stats.tx_packets++;
	h->stats.tx_bytes += tx->hdr_len + tx->payload_len;
}

static bool emit_ctl(struct dcpim_host *h, u64 now, struct dcpim_ctl *c, u16 bit, struct dcpim_txpkt *tx)
{
	struct dcpim_send *s = NULL;
	struct dcpim_recv *r = NULL;
	struct dcpim_flow *f = NULL;
	struct dcpim_peer *peer;
	struct dcpim_pkt p;

	p.flags = 0;
	p.nblocks = 0;
	switch (c->owner) {
	case CTL_PEER:
		peer = dcpim_container(c, struct dcpim_peer, ctl);
		p.sport = h->cfg.host_port;
		p.dport = peer->host_port;
		p.tag = peer->rtag;
		if (!peer->rtag || !dcpim_match_fill(h, now, peer, bit, &p))
			return false;
		tx->path = &peer->path;
		break;
	case CTL_FLOW:
		f = dcpim_container(c, struct dcpim_flow, ctl);
		if (bit == CTL_DEMAND)
			s = &f->u.s.send;
		else if (bit == CTL_TOKEN)
			r = &f->u.s.recv;
		break;
	case CTL_TXMSG:
		s = &dcpim_container(c, struct dcpim_txmsg, ctl)->send;
		f = s->flow;
		break;
	case CTL_RXMSG:
		r = &dcpim_container(c, struct dcpim_rxmsg_state, ctl)->recv;
		f = r->flow;
		break;
	}
	if (f) {
		p.sport = f->sport;
		p.dport = f->dport;
		p.tag = f->rtag;
		if (s ? !dcpim_send_fill(s, &p) : r ? !dcpim_recv_fill(r, now, &p) : !dcpim_flow_fill(f, now, bit, &p))
			return false;
		tx->path = &f->path;
	}
	tx->priority = 0;
	tx->payload_len = 0;
	tx->nfrags = 0;
	finish(h, tx, &p);
	return true;
}

static void emit_stateless(struct dcpim_host *h, struct dcpim_txpkt *tx)
{
	struct dcpim_stateless *s = &h->stateless[h->stateless_head];
	struct dcpim_pkt p;

	h->stateless_head = (h->stateless_head + 1) % DCPIM_STATELESS;
	h->nstateless--;
	h->stats.reset_tx++;
	p.sport = s->sport;
	p.dport = s->dport;
	p.tag = s->tag;
	p.type = s->type;
	p.flags = s->flags;
	p.nblocks = 0;
	tx->path = &s->path;
	tx->priority = 0;
	tx->payload_len = 0;
	tx->nfrags = 0;
	finish(h, tx, &p);
}

/* A turn of a transfer on the wire, so that segmentation offload finds its packets in a row. */
#define TX_TURN 65000

static bool emit_data(struct dcpim_host *h, u64 now, struct dcpim_list *queue, struct dcpim_txpkt *tx)
{
	struct dcpim_pkt p;

	while (!dcpim_list_empty(queue)) {
		struct dcpim_send *s = dcpim_container(queue->next, struct dcpim_send, ready);

		if (dcpim_send_emit(s, now, tx, &p)) {
			finish(h, tx, &p);
			h->tx_quantum += tx->hdr_len + tx->payload_len;
			dcpim_send_update(s, now);
			if (h->tx_quantum >= TX_TURN || queue->next != &s->ready) {
				h->tx_quantum = 0;
				if (queue->next == &s->ready) {
					dcpim_list_del(&s->ready);
					dcpim_list_add_tail(queue, &s->ready);
				}
			}
			return true;
		}
		dcpim_list_del(&s->ready);
	}
	return false;
}

int dcpim_poll_tx(struct dcpim_host *h, u64 now, struct dcpim_txpkt *tx)
{
	dcpim_match_sync(h, now);
	if (h->nstateless) {
		emit_stateless(h, tx);
		return 1;
	}
	while (!dcpim_list_empty(&h->ctl)) {
		struct dcpim_ctl *c = dcpim_container(h->ctl.next, struct dcpim_ctl, node);
		u16 bit = (u16)(c->bits & -c->bits);

		dcpim_ctl_clear(c, bit);
		if (emit_ctl(h, now, c, bit, tx))
			return 1;
	}
	if (emit_data(h, now, &h->tx_unsched, tx) || emit_data(h, now, &h->tx_sched, tx))
		return 1;
	return 0;
}

int dcpim_poll_event(struct dcpim_host *h, struct dcpim_event *ev)
{
	struct dcpim_flow *f;

	if (dcpim_list_empty(&h->events))
		return 0;
	f = dcpim_container(h->events.next, struct dcpim_flow, ev_node);
	dcpim_list_del(&f->ev_node);
	ev->mask = f->ev_mask;
	ev->error = f->error;
	ev->flow = f;
	ev->listener = f->ev_mask & DCPIM_EV_ACCEPT ? f->listener : NULL;
	f->ev_mask = 0;
	return 1;
}

void dcpim_stats_get(const struct dcpim_host *h, struct dcpim_stats *s)
{
	*s = h->stats;
}

void dcpim_info_get(struct dcpim_host *h, u64 now, struct dcpim_info *info)
{
	struct dcpim_list *l;

	dcpim_match_sync(h, now);
	memset(info, 0, sizeof(*info));
	info->epoch = h->epoch;
	info->round = (u32)dcpim_min((now + h->phase_off - h->epoch_start) / h->round_ns, h->cfg.rounds - 1);
	dcpim_match_used(h, info);
	info->tokens_outstanding = h->tok_out;
	info->window = h->window;
	for (l = h->peers.next; l != &h->peers; l = l->next)
		info->tokens_outstanding_max_peer =
			dcpim_max(info->tokens_outstanding_max_peer,
				  dcpim_container(l, struct dcpim_peer, node)->tok_out);
	for (l = h->listeners.next; l != &h->listeners; l = l->next)
		info->listeners++;
	info->peers = (u32)h->count[DCPIM_SLAB_PEER];
	info->flows = (u32)h->count[DCPIM_SLAB_FLOW];
	info->msgs = (u32)h->count[DCPIM_SLAB_MSG];
	info->segs = (u32)h->count[DCPIM_SLAB_SEG];
	info->spans = (u32)h->count[DCPIM_SLAB_SPAN];
	info->timewait = h->ntimewait;
}
