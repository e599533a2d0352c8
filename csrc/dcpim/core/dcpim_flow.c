/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Connections: opening, listening, packets of a connection, acknowledging,
 * closing. Both kinds, streams and messages, share this life.
 */
#include "dcpim_priv.h"

#define EPHEMERAL_FIRST 32768u
#define EPHEMERAL_COUNT 32768u
#define ACK_BYTES 65536 /* acknowledge at the latest after so many bytes */

static struct dcpim_flow **bucket(struct dcpim_host *h, const struct dcpim_path *path, u16 sport, u16 dport)
{
	u64 w[4];

	memcpy(w, path->addr, 16);
	w[2] = (u64)path->scope << 16 | path->port;
	w[3] = (u64)sport << 16 | dport;
	return &h->flow_hash[dcpim_siphash(h->hash_key, w, 4) & h->flow_mask];
}

struct dcpim_flow *dcpim_flow_find(struct dcpim_host *h, const struct dcpim_path *path, u16 sport, u16 dport)
{
	struct dcpim_flow *f;

	for (f = *bucket(h, path, sport, dport); f; f = f->hash_next)
		if (f->sport == sport && f->dport == dport && f->path.port == path->port &&
		    f->path.scope == path->scope && !memcmp(f->path.addr, path->addr, sizeof(path->addr)))
			return f;
	return NULL;
}

static void unhash(struct dcpim_flow *f)
{
	struct dcpim_flow **b = bucket(f->host, &f->path, f->sport, f->dport);

	while (*b && *b != f)
		b = &(*b)->hash_next;
	if (*b)
		*b = f->hash_next;
}

static struct dcpim_flow *flow_new(struct dcpim_host *h, u64 now, enum dcpim_kind kind, const struct dcpim_path *path,
				   u16 sport, u16 dport, u16 key_port)
{
	struct dcpim_flow *f, **b;
	struct dcpim_peer *p;

	f = dcpim_alloc(h, DCPIM_SLAB_FLOW, sizeof(*f));
	if (!f && !dcpim_list_empty(&h->timewait)) {
		dcpim_flow_free(dcpim_container(h->timewait.next, struct dcpim_flow, all_node));
		f = dcpim_alloc(h, DCPIM_SLAB_FLOW, sizeof(*f));
	}
	if (!f)
		return NULL;
	p = dcpim_peer_get(h, now, path, key_port);
	if (!p) {
		dcpim_free(h, DCPIM_SLAB_FLOW, f, sizeof(*f));
		return NULL;
	}
	f->host = h;
	f->path = *path;
	f->sport = sport;
	f->dport = dport;
	f->kind = (u8)kind;
	f->ltag = (u32)dcpim_rand64(&h->rand) | 1;
	f->opened_at = now;
	f->ack_due = DCPIM_NEVER;
	f->sndbuf = h->cfg.sndbuf;
	f->rcvbuf = h->cfg.rcvbuf;
	dcpim_list_init(&f->ev_node);
	dcpim_timer_init(&f->timer, TIMER_FLOW);
	dcpim_timer_init(&f->ack_timer, TIMER_ACK);
	dcpim_ctl_init(&f->ctl, CTL_FLOW);
	if (kind == DCPIM_STREAM) {
		dcpim_send_init(&f->u.s.send, f, 0);
		dcpim_recv_init(&f->u.s.recv, f, 0);
		f->u.s.recv.wnd_told = f->rcvbuf;
	} else {
		dcpim_msgs_init(f);
	}
	dcpim_peer_attach(p, f);
	dcpim_list_add_tail(&h->flows, &f->all_node);
	b = bucket(h, path, sport, dport);
	f->hash_next = *b;
	*b = f;
	return f;
}

static void leave_backlog(struct dcpim_flow *f)
{
	if (f->flags & FLOW_BACKLOG)
		f->listener->pending--;
	f->flags &= (u16)~FLOW_BACKLOG;
	f->listener = NULL;
}

static void stop(struct dcpim_flow *f)
{
	struct dcpim_host *h = f->host;

	if (f->kind == DCPIM_STREAM) {
		dcpim_send_stop(&f->u.s.send);
		dcpim_recv_stop(&f->u.s.recv);
	} else {
		dcpim_msgs_stop(f);
	}
	dcpim_timer_stop(h, &f->timer);
	dcpim_timer_stop(h, &f->ack_timer);
	f->ack_due = DCPIM_NEVER;
}

void dcpim_flow_free(struct dcpim_flow *f)
{
	struct dcpim_host *h = f->host;

	stop(f);
	if (f->kind == DCPIM_STREAM) {
		dcpim_send_fini(&f->u.s.send);
		dcpim_recv_fini(&f->u.s.recv);
	} else {
		dcpim_msgs_fini(f);
	}
	leave_backlog(f);
	dcpim_ctl_clear(&f->ctl, 0xffff);
	dcpim_list_del(&f->ev_node);
	dcpim_list_del(&f->all_node);
	if (f->state == DCPIM_TIMEWAIT)
		h->ntimewait--;
	unhash(f);
	dcpim_peer_detach(f);
	h->stats.flows_closed++;
	dcpim_free(h, DCPIM_SLAB_FLOW, f, sizeof(*f));
}

void dcpim_flow_abort(struct dcpim_flow *f)
{
	dcpim_flow_reset(f);
	dcpim_flow_free(f);
}

void dcpim_flow_fail(struct dcpim_flow *f, u64 now, int error)
{
	struct dcpim_host *h = f->host;

	(void)now;
	if (f->error)
		return;
	if (error == -ECONNREFUSED)
		h->stats.flows_refused++;
	else if (error == -ETIMEDOUT)
		h->stats.flows_dead++;
	else
		h->stats.flows_reset++;
	f->error = error;
	stop(f);
	if ((f->flags & FLOW_APP_CLOSED) || !(f->flags & FLOW_ANNOUNCED)) {
		dcpim_flow_free(f);
		return;
	}
	dcpim_ctl_clear(&f->ctl, 0xffff);
	unhash(f);
	dcpim_peer_detach(f);
	f->state = DCPIM_FAILED;
	dcpim_event(f, DCPIM_EV_ERROR);
}

/* Opening */

int dcpim_listen(struct dcpim_host *h, u16 port, u32 kinds, u32 backlog, u32 local, void *user,
		 struct dcpim_listener **out)
{
	struct dcpim_listener *l;
	struct dcpim_list *n;

	if (!port || !kinds || kinds > 3 || !backlog || backlog > 65535)
		return -EINVAL;
	for (n = h->listeners.next; n != &h->listeners; n = n->next) {
		l = dcpim_container(n, struct dcpim_listener, node);
		if (l->port == port && (l->local == local || l->local == ~0u || local == ~0u) && (l->kinds & kinds))
			return -EADDRINUSE;
	}
	l = dcpim_alloc(h, DCPIM_SLAB_LISTENER, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->host = h;
	l->user = user;
	l->kinds = kinds;
	l->backlog = backlog;
	l->local = local;
	l->port = port;
	dcpim_list_add_tail(&h->listeners, &l->node);
	*out = l;
	return 0;
}

void *dcpim_listener_user(const struct dcpim_listener *l)
{
	return l->user;
}

void dcpim_unlisten(struct dcpim_host *h, struct dcpim_listener *l, u64 now)
{
	struct dcpim_list *n, *next;

	(void)now;
	for (n = h->flows.next; n != &h->flows; n = next) {
		struct dcpim_flow *f = dcpim_container(n, struct dcpim_flow, all_node);

		next = n->next;
		if (f->listener == l)
			dcpim_flow_abort(f);
	}
	dcpim_list_del(&l->node);
	dcpim_free(h, DCPIM_SLAB_LISTENER, l, sizeof(*l));
}

void dcpim_accepted(struct dcpim_flow *f)
{
	leave_backlog(f);
}

static u16 pick_port(struct dcpim_host *h, const struct dcpim_path *to, u16 dport)
{
	u32 start = dcpim_rand_below(&h->rand, EPHEMERAL_COUNT), i;

	for (i = 0; i < EPHEMERAL_COUNT; i++) {
		u16 port = (u16)(EPHEMERAL_FIRST + (start + i) % EPHEMERAL_COUNT);

		if (!dcpim_flow_find(h, to, port, dport))
			return port;
	}
	return 0;
}

int dcpim_connect(struct dcpim_host *h, u64 now, enum dcpim_kind kind, const struct dcpim_path *to, u16 sport,
		  u16 dport, void *user, struct dcpim_flow **out)
{
	struct dcpim_flow *f;

	if (!dport || (kind != DCPIM_STREAM && kind != DCPIM_MESSAGE))
		return -EINVAL;
	if (h->count[DCPIM_SLAB_FLOW] >= h->cfg.max_flows && dcpim_list_empty(&h->timewait))
		return -ENFILE;
	if (!sport)
		sport = pick_port(h, to, dport);
	if (!sport)
		return -EADDRNOTAVAIL;
	f = dcpim_flow_find(h, to, sport, dport);
	if (f && f->state == DCPIM_TIMEWAIT)
		dcpim_flow_free(f);
	else if (f)
		return -EADDRINUSE;
	f = flow_new(h, now, kind, to, sport, dport, to->port ? to->port : dport);
	if (!f)
		return -ENOMEM;
	f->state = DCPIM_CONNECTING;
	f->flags = FLOW_ANNOUNCED;
	f->user = user;
	h->stats.flows_opened++;
	dcpim_ctl_set(h, &f->ctl, CTL_SYN);
	dcpim_timer_set(h, &f->timer, dcpim_after(now, dcpim_flow_rto(f)));
	*out = f;
	return 0;
}

static void take_syn(struct dcpim_flow *f, const struct dcpim_pkt *p)
{
	f->rtag = p->u.syn.flow_tag;
	f->host_tag = p->u.syn.host_tag;
	f->peer_host_port = p->u.syn.host_port;
	f->peer_max_packet = p->u.syn.max_packet;
	f->peer_unsched = p->u.syn.unsched;
	f->peer_max_msg = p->u.syn.max_msg;
	if (f->kind == DCPIM_STREAM)
		f->u.s.send.wnd = p->u.syn.wnd;
	else
		f->u.m.tx_credit = p->u.syn.wnd;
}

void dcpim_rx_open(struct dcpim_host *h, u64 now, const struct dcpim_rxpkt *rx, const struct dcpim_pkt *p)
{
	enum dcpim_kind kind = p->type == DCPIM_NOTIFICATION_LONG ? DCPIM_STREAM : DCPIM_MESSAGE;
	struct dcpim_flow *f = dcpim_flow_find(h, &rx->path, p->dport, p->sport);
	struct dcpim_listener *l = NULL;
	struct dcpim_list *n;

	if (f && f->rtag == p->u.syn.flow_tag) {
		if (f->state == DCPIM_HALF_OPEN || f->state == DCPIM_OPEN)
			dcpim_ctl_set(h, &f->ctl, CTL_SYN_ACK);
		return;
	}
	if (f && f->state == DCPIM_TIMEWAIT) {
		dcpim_flow_free(f);
		f = NULL;
	}
	if (f && f->rtag) {
		/*
		 * A stranger on a connection's ports, or its peer restarted. In the
		 * latter case this acknowledgement draws a reset that clears the way.
		 */
		h->stats.rx_bad_tag++;
		dcpim_flow_ack_now(f);
		return;
	}
	for (n = h->listeners.next; n != &h->listeners && !f; n = n->next) {
		l = dcpim_container(n, struct dcpim_listener, node);
		if (l->port == p->dport && (l->kinds & 1u << kind) &&
		    (l->local == ~0u || l->local == rx->path.local))
			break;
		l = NULL;
	}
	if (!l) {
		h->stats.flows_refused++;
		dcpim_reply_reset(h, now, rx, p);
		return;
	}
	if (l->pending >= l->backlog) {
		h->stats.rx_dropped++;
		return;
	}
	f = flow_new(h, now, kind, &rx->path, p->dport, p->sport,
		     rx->path.port ? rx->path.port : p->u.syn.host_port);
	if (!f) {
		h->stats.rx_dropped++;
		return;
	}
	f->state = DCPIM_HALF_OPEN;
	f->flags = FLOW_BACKLOG;
	f->listener = l;
	l->pending++;
	take_syn(f, p);
	dcpim_ctl_set(h, &f->ctl, CTL_SYN_ACK);
	dcpim_timer_set(h, &f->timer, dcpim_after(now, dcpim_flow_rto(f)));
}

static void opened(struct dcpim_flow *f, u64 now, u32 event)
{
	struct dcpim_host *h = f->host;

	f->state = f->flags & FLOW_APP_CLOSED ? DCPIM_CLOSING : DCPIM_OPEN;
	f->flags |= FLOW_CONFIRMED | FLOW_ANNOUNCED;
	f->backoff = 0;
	f->due_since = 0;
	dcpim_timer_stop(h, &f->timer);
	dcpim_peer_adopt(h, now, f);
	dcpim_event(f, event);
	if (f->kind == DCPIM_STREAM)
		dcpim_send_grown(&f->u.s.send, now, 0);
	dcpim_flow_try_fin(f, now);
}

/* Acknowledging */

void dcpim_flow_ack_now(struct dcpim_flow *f)
{
	dcpim_ctl_set(f->host, &f->ctl, CTL_ACK);
}

void dcpim_flow_ack_later(struct dcpim_flow *f, u64 now)
{
	if (!f->host->cfg.ack_delay_ns) {
		dcpim_flow_ack_now(f);
		return;
	}
	if (f->ack_due != DCPIM_NEVER)
		return;
	f->ack_due = dcpim_after(now, f->host->cfg.ack_delay_ns);
	dcpim_timer_set(f->host, &f->ack_timer, f->ack_due);
}

void dcpim_flow_acked(struct dcpim_flow *f)
{
	f->unacked = 0;
	if (f->ack_due != DCPIM_NEVER) {
		f->ack_due = DCPIM_NEVER;
		dcpim_timer_stop(f->host, &f->ack_timer);
	}
	/* DATA does not tell the window; keep the ACK that was to. */
	if (f->kind == DCPIM_STREAM && dcpim_recv_limit(&f->u.s.recv) - f->u.s.recv.wnd_told < f->rcvbuf / 4)
		dcpim_ctl_clear(&f->ctl, CTL_ACK);
}

void dcpim_flow_ack_timer(struct dcpim_flow *f, u64 now)
{
	(void)now;
	f->ack_due = DCPIM_NEVER;
	dcpim_flow_ack_now(f);
}

void dcpim_flow_writable(struct dcpim_flow *f)
{
	if (!(f->flags & FLOW_WANT_WRITE) || f->tx_queued > f->sndbuf / 2)
		return;
	f->flags &= (u16)~(FLOW_WANT_WRITE | FLOW_WANT_CREDIT);
	dcpim_event(f, DCPIM_EV_WRITABLE);
}

/* Closing */

static bool all_received(const struct dcpim_flow *f)
{
	if (!(f->flags & FLOW_PEER_FIN))
		return false;
	return f->kind == DCPIM_STREAM ? f->u.s.recv.nxt == f->u.s.recv.final : f->u.m.rx_cum == f->u.m.rx_final;
}

static bool all_acked(const struct dcpim_flow *f)
{
	return f->kind == DCPIM_STREAM ? f->u.s.send.una == f->u.s.send.end : dcpim_list_empty(&f->u.m.tx);
}

void dcpim_flow_try_fin(struct dcpim_flow *f, u64 now)
{
	if ((f->flags & (FLOW_FIN_QUEUED | FLOW_FIN_SENT)) != FLOW_FIN_QUEUED || !f->rtag)
		return;
	if (f->state != DCPIM_OPEN && f->state != DCPIM_CLOSING)
		return;
	if (f->kind == DCPIM_STREAM && f->u.s.send.nxt != f->u.s.send.end)
		return;
	f->flags |= FLOW_FIN_SENT;
	f->backoff = 0;
	f->due_since = 0;
	dcpim_ctl_set(f->host, &f->ctl, CTL_FIN);
	dcpim_timer_set(f->host, &f->timer, dcpim_after(now, dcpim_flow_rto(f)));
}

void dcpim_flow_progress(struct dcpim_flow *f, u64 now)
{
	struct dcpim_host *h = f->host;

	dcpim_flow_try_fin(f, now);
	if (all_received(f)) {
		if (!(f->flags & FLOW_EOF_RAISED)) {
			f->flags |= FLOW_EOF_RAISED;
			dcpim_ctl_set(h, &f->ctl, CTL_FIN_ACK);
			dcpim_event(f, DCPIM_EV_EOF);
		}
	}
	if ((f->flags & FLOW_FIN_ACKED) && !(f->flags & FLOW_DRAINED)) {
		f->flags |= FLOW_DRAINED;
		dcpim_event(f, DCPIM_EV_DRAINED);
		if (f->flags & FLOW_APP_CLOSED)
			dcpim_timer_set(h, &f->timer, dcpim_after(now, h->cfg.dead_after_ns));
	}
	if ((f->flags & (FLOW_APP_CLOSED | FLOW_FIN_ACKED | FLOW_EOF_RAISED)) !=
		    (FLOW_APP_CLOSED | FLOW_FIN_ACKED | FLOW_EOF_RAISED) ||
	    f->state == DCPIM_TIMEWAIT)
		return;
	/* Stay a while: the peer may not have got the FIN_ACK. */
	stop(f);
	f->state = DCPIM_TIMEWAIT;
	dcpim_list_del(&f->all_node);
	dcpim_list_add_tail(&h->timewait, &f->all_node);
	h->ntimewait++;
	dcpim_timer_set(h, &f->timer, dcpim_after(now, h->cfg.timewait_ns));
}

int dcpim_shutdown(struct dcpim_flow *f, u64 now)
{
	if (f->error)
		return f->error;
	f->flags |= FLOW_FIN_QUEUED;
	dcpim_flow_try_fin(f, now);
	return 0;
}

static bool unread(const struct dcpim_flow *f)
{
	if (f->kind == DCPIM_STREAM)
		return f->u.s.recv.read < f->u.s.recv.nxt || f->u.s.recv.nspans;
	return !dcpim_list_empty(&f->u.m.done) || !dcpim_list_empty(&f->u.m.rx);
}

void dcpim_close(struct dcpim_flow *f, u64 now, bool abort)
{
	f->flags |= FLOW_APP_CLOSED;
	f->ev_mask = 0;
	dcpim_list_del(&f->ev_node);
	leave_backlog(f);
	if (f->error) {
		dcpim_flow_free(f);
		return;
	}
	if (abort || unread(f) || (f->state == DCPIM_CONNECTING && !f->tx_queued)) {
		dcpim_flow_abort(f);
		return;
	}
	dcpim_shutdown(f, now);
	if (f->state == DCPIM_OPEN)
		f->state = DCPIM_CLOSING;
	if ((f->flags & FLOW_DRAINED) && !(f->flags & FLOW_EOF_RAISED))
		dcpim_timer_set(f->host, &f->timer, dcpim_after(now, f->host->cfg.dead_after_ns));
	dcpim_flow_progress(f, now);
}

void dcpim_flow_timer(struct dcpim_flow *f, u64 now)
{
	struct dcpim_host *h = f->host;
	bool opening = f->state == DCPIM_CONNECTING || f->state == DCPIM_HALF_OPEN;
	u16 bit;

	if (f->state == DCPIM_TIMEWAIT) {
		dcpim_flow_free(f);
		return;
	}
	if (opening && now - f->opened_at >= h->cfg.connect_timeout_ns) {
		dcpim_flow_fail(f, now, -ETIMEDOUT);
		return;
	}
	if (opening) {
		bit = f->state == DCPIM_CONNECTING ? CTL_SYN : CTL_SYN_ACK;
	} else if ((f->flags & (FLOW_FIN_SENT | FLOW_FIN_ACKED)) == FLOW_FIN_SENT) {
		bit = CTL_FIN;
	} else if (f->flags & FLOW_WANT_CREDIT) {
		bit = CTL_PROBE;
	} else {
		/* All delivered, closed here, and the peer never finishes. */
		if ((f->flags & FLOW_APP_CLOSED) && (f->flags & FLOW_DRAINED))
			dcpim_flow_abort(f);
		return;
	}
	if (!opening) {
		if (!f->due_since || f->peer->heard >= f->due_since) {
			f->due_since = now;
		} else if (now - f->due_since >= h->cfg.dead_after_ns) {
			dcpim_flow_fail(f, now, -ETIMEDOUT);
			return;
		}
	}
	if (f->backoff < 16)
		f->backoff++;
	dcpim_ctl_set(h, &f->ctl, bit);
	dcpim_timer_set(h, &f->timer,
			dcpim_after(now, dcpim_min(dcpim_flow_rto(f) << f->backoff, h->cfg.rto_max_ns)));
}

/* Packets of a connection */

static void rx_data(struct dcpim_flow *f, u64 now, const struct dcpim_rxpkt *rx, const struct dcpim_pkt *p,
		    const u8 *payload)
{
	struct dcpim_recv *r = &f->u.s.recv;
	struct dcpim_send *s = &f->u.s.send;
	struct dcpim_buf buf = { payload, (u32)p->len - p->hdr_len, rx->cookie };
	u64 before = r->nxt;
	s32 acked = (s32)(p->u.data.ack - (u32)s->una);

	if ((f->flags & FLOW_APP_CLOSED) && p->u.data.offset + buf.len > r->nxt) {
		dcpim_flow_abort(f);
		return;
	}
	if (acked > 0)
		dcpim_send_ack(s, now, s->una + (u32)acked);
	if (dcpim_recv_data(r, now, p->u.data.offset, &buf))
		return;
	dcpim_recv_demand(r, now, p->u.data.offset + p->u.data.ahead);
	if (r->nxt != before) {
		dcpim_event(f, DCPIM_EV_READABLE);
		f->unacked += (u32)(r->nxt - before);
		if (f->unacked >= ACK_BYTES)
			dcpim_flow_ack_now(f);
		else
			dcpim_flow_ack_later(f, now);
	}
	if (f->peer->want)
		dcpim_tokens_issue(f->host, now, f->peer);
}

static void rx_fin(struct dcpim_flow *f, u64 now, const struct dcpim_pkt *p)
{
	struct dcpim_host *h = f->host;
	u64 final = p->u.fin.final_offset;

	if (f->kind == DCPIM_STREAM) {
		struct dcpim_recv *r = &f->u.s.recv;

		if (final < r->edge || (r->final != DCPIM_UNKNOWN && r->final != final)) {
			h->stats.rx_bad++;
			return;
		}
		r->final = final;
		if (r->nxt < final) {
			if (f->flags & FLOW_APP_CLOSED) {
				dcpim_flow_abort(f);
				return;
			}
			r->known = dcpim_max(r->known, final);
			dcpim_recv_account(r);
			dcpim_recv_arm(r, now);
			/* FIN follows the last byte: whatever is missing was lost, or comes late. */
			dcpim_recv_probe(r, now, final);
		}
	} else {
		if (final < f->u.m.rx_cum || (f->u.m.rx_final != DCPIM_UNKNOWN && f->u.m.rx_final != final)) {
			h->stats.rx_bad++;
			return;
		}
		f->u.m.rx_final = final;
	}
	f->flags |= FLOW_PEER_FIN;
	if (all_received(f))
		dcpim_ctl_set(h, &f->ctl, CTL_FIN_ACK);
	else
		dcpim_flow_ack_now(f);
	dcpim_flow_progress(f, now);
}

static void rx_fin_ack(struct dcpim_flow *f, u64 now)
{
	if (!(f->flags & FLOW_FIN_SENT) || (f->flags & FLOW_FIN_ACKED))
		return;
	f->flags |= FLOW_FIN_ACKED;
	dcpim_timer_stop(f->host, &f->timer);
	if (f->kind == DCPIM_STREAM)
		dcpim_send_ack(&f->u.s.send, now, f->u.s.send.end);
	else
		dcpim_msg_ack(f, now, f->u.m.next_id);
	dcpim_flow_progress(f, now);
}

static void rx_reset(struct dcpim_flow *f, u64 now)
{
	/* A peer that had everything and is gone has not refused anything. */
	if ((f->flags & FLOW_FIN_SENT) && all_acked(f) && (f->flags & FLOW_APP_CLOSED)) {
		dcpim_flow_free(f);
		return;
	}
	dcpim_flow_fail(f, now, f->state == DCPIM_CONNECTING ? -ECONNREFUSED : -ECONNRESET);
}

static void rx_syn_ack(struct dcpim_flow *f, u64 now, const struct dcpim_pkt *p)
{
	if (f->state != DCPIM_CONNECTING) {
		dcpim_flow_ack_now(f);
		return;
	}
	take_syn(f, p);
	if (!f->backoff)
		dcpim_flow_rtt(f, now - f->opened_at);
	opened(f, now, DCPIM_EV_CONNECTED | DCPIM_EV_WRITABLE);
	dcpim_flow_ack_now(f);
}

static bool is_msg_type(u8 type)
{
	return type == DCPIM_DATA_MSG || type == DCPIM_NOTIFICATION_MSG || type == DCPIM_TOKEN_MSG ||
	       type == DCPIM_FIN_MSG;
}

static bool is_stream_type(u8 type)
{
	return type == DCPIM_DATA || type == DCPIM_TOKEN || type == DCPIM_ACK || type == DCPIM_DEMAND;
}

void dcpim_rx_flow(struct dcpim_host *h, u64 now, const struct dcpim_rxpkt *rx, const struct dcpim_pkt *p,
		   const u8 *payload)
{
	struct dcpim_flow *f = dcpim_flow_find(h, &rx->path, p->dport, p->sport);
	u32 expected = 0;

	if (f)
		expected = p->flags & DCPIM_F_REFLECTED ? f->rtag : f->ltag;
	if (!expected || p->tag != expected) {
		h->stats.rx_bad_tag++;
		dcpim_reply_reset(h, now, rx, p);
		return;
	}
	f->peer->heard = now;
	if (p->type == DCPIM_RESET) {
		rx_reset(f, now);
		return;
	}
	if (p->type == DCPIM_SYN_ACK) {
		rx_syn_ack(f, now, p);
		return;
	}
	if (f->state == DCPIM_CONNECTING || (f->kind == DCPIM_STREAM ? is_msg_type(p->type) : is_stream_type(p->type))) {
		if (!(f->kind == DCPIM_MESSAGE && p->type == DCPIM_ACK)) {
			h->stats.rx_bad++;
			return;
		}
	}
	if (f->state == DCPIM_HALF_OPEN) {
		h->stats.flows_accepted++;
		opened(f, now, DCPIM_EV_ACCEPT);
	}
	if (f->state == DCPIM_TIMEWAIT) {
		if (p->type == DCPIM_FIN)
			dcpim_ctl_set(h, &f->ctl, CTL_FIN_ACK);
		return;
	}
	switch (p->type) {
	case DCPIM_DATA:
		rx_data(f, now, rx, p, payload);
		break;
	case DCPIM_TOKEN:
	case DCPIM_ACK:
		if (p->type == DCPIM_TOKEN)
			h->stats.token_rx++;
		else
			h->stats.ack_rx++;
		if (f->kind == DCPIM_MESSAGE)
			break;
		f->u.s.send.wnd = dcpim_max(f->u.s.send.wnd, p->u.token.wnd_edge);
		dcpim_send_token(&f->u.s.send, now, p->u.token.rcv_nxt, p->u.token.token_nxt, p->u.token.rtx_end,
				 p->blocks, p->nblocks);
		break;
	case DCPIM_DEMAND:
		h->stats.demand_rx++;
		if ((f->flags & FLOW_APP_CLOSED) && p->u.demand.end > f->u.s.recv.nxt) {
			dcpim_flow_abort(f);
			break;
		}
		dcpim_recv_demand(&f->u.s.recv, now, p->u.demand.end);
		dcpim_recv_probe(&f->u.s.recv, now, p->u.demand.sent);
		break;
	case DCPIM_FIN:
		rx_fin(f, now, p);
		break;
	case DCPIM_FIN_ACK:
		rx_fin_ack(f, now);
		break;
	default:
		dcpim_rx_msg(f, now, rx, p, payload);
	}
}

bool dcpim_flow_fill(struct dcpim_flow *f, u64 now, u16 bit, struct dcpim_pkt *p)
{
	struct dcpim_host *h = f->host;
	struct dcpim_recv *r = &f->u.s.recv;

	(void)now;
	switch (bit) {
	case CTL_SYN:
	case CTL_SYN_ACK:
		if (bit == CTL_SYN_ACK) {
			p->type = DCPIM_SYN_ACK;
		} else {
			if (f->state != DCPIM_CONNECTING)
				return false;
			p->type = f->kind == DCPIM_STREAM ? DCPIM_NOTIFICATION_LONG : DCPIM_NOTIFICATION_SHORT;
			p->tag = 0;
		}
		p->u.syn.flow_tag = f->ltag;
		p->u.syn.host_tag = f->peer->ltag;
		p->u.syn.host_port = h->cfg.host_port;
		p->u.syn.max_packet = (u16)h->cfg.max_packet;
		p->u.syn.wnd = f->rcvbuf;
		p->u.syn.unsched = h->cfg.unsched_accept;
		p->u.syn.max_msg = (u32)dcpim_min(h->cfg.max_msg, f->rcvbuf - DCPIM_MSG_OVERHEAD);
		return true;
	case CTL_ACK:
	case CTL_PROBE:
		if (!f->rtag)
			return false;
		h->stats.ack_tx++;
		dcpim_flow_acked(f);
		if (f->kind == DCPIM_MESSAGE) {
			p->type = DCPIM_FIN_MSG;
			if (bit == CTL_PROBE)
				p->flags |= DCPIM_F_PROBE;
			p->u.fin_msg.cum = f->u.m.rx_cum;
			p->u.fin_msg.credit = f->u.m.rx_credit;
			f->u.m.rx_credit_told = f->u.m.rx_credit;
			f->u.m.unacked = 0;
			p->nblocks = (u8)dcpim_msg_blocks(
				f, p->blocks,
				(u32)dcpim_min((dcpim_flow_packet(f) - DCPIM_FIN_MSG_LEN) / 8, DCPIM_MAX_BLOCKS));
			dcpim_ctl_clear(&f->ctl, CTL_ACK);
			return true;
		}
		p->type = DCPIM_ACK;
		p->u.token.rcv_nxt = r->nxt;
		p->u.token.token_nxt = r->token;
		p->u.token.wnd_edge = dcpim_recv_limit(r);
		p->u.token.rtx_end = 0;
		r->wnd_told = dcpim_recv_limit(r);
		return true;
	case CTL_FIN:
		if (!f->rtag)
			return false;
		p->type = DCPIM_FIN;
		p->u.fin.final_offset = f->kind == DCPIM_STREAM ? f->u.s.send.end : f->u.m.next_id;
		return true;
	case CTL_FIN_ACK:
		p->type = DCPIM_FIN_ACK;
		return true;
	}
	return false;
}

/* The application's side of a stream */

int dcpim_send(struct dcpim_flow *f, u64 now, const struct dcpim_buf *buf)
{
	struct dcpim_send *s = &f->u.s.send;
	u64 before;

	if (f->kind != DCPIM_STREAM || !buf->len || buf->len > 1u << 30)
		return -EINVAL;
	if (f->error)
		return f->error;
	if (f->flags & FLOW_FIN_QUEUED)
		return -EPIPE;
	if (f->tx_queued >= f->sndbuf) {
		f->flags |= FLOW_WANT_WRITE;
		return -EAGAIN;
	}
	before = s->end;
	if (!dcpim_send_append(s, buf))
		return -ENOMEM;
	f->tx_queued += buf->len;
	dcpim_send_grown(s, now, before);
	return (int)buf->len;
}

u32 dcpim_recv_peek(struct dcpim_flow *f, struct dcpim_buf *out, u32 max)
{
	struct dcpim_recv *r = &f->u.s.recv;
	struct dcpim_list *l;
	u32 n = 0;

	if (f->kind != DCPIM_STREAM)
		return 0;
	for (l = r->segs.next; l != &r->segs && n < max; l = l->next) {
		struct dcpim_seg *seg = dcpim_container(l, struct dcpim_seg, node);
		u32 skip = r->read > seg->off ? (u32)(r->read - seg->off) : 0;

		out[n].ptr = seg->buf.ptr ? seg->buf.ptr + skip : NULL;
		out[n].len = seg->buf.len - skip;
		out[n].cookie = seg->buf.cookie;
		n++;
	}
	return n;
}

void dcpim_consume(struct dcpim_flow *f, u64 now, u64 bytes)
{
	struct dcpim_recv *r = &f->u.s.recv;

	if (f->kind != DCPIM_STREAM)
		return;
	r->read = dcpim_min(r->read + bytes, r->nxt);
	while (!dcpim_list_empty(&r->segs)) {
		struct dcpim_seg *seg = dcpim_container(r->segs.next, struct dcpim_seg, node);

		if (seg->off + seg->buf.len > r->read)
			break;
		dcpim_seg_free(f->host, seg);
	}
	if (f->error)
		return;
	dcpim_recv_account(r);
	if (f->peer->want)
		dcpim_tokens_issue(f->host, now, f->peer);
	if (dcpim_recv_limit(r) - r->wnd_told >= f->rcvbuf / 4 && f->rtag && r->nxt != r->final)
		dcpim_flow_ack_now(f);
}

/* Looking in */

void dcpim_flow_info(const struct dcpim_flow *f, struct dcpim_flow_info *info)
{
	const struct dcpim_list *l;

	memset(info, 0, sizeof(*info));
	info->state = f->state;
	info->kind = f->kind;
	info->sport = f->sport;
	info->dport = f->dport;
	info->path = f->path;
	info->error = f->error;
	info->srtt_us = dcpim_sat32(f->srtt / 1000);
	info->max_msg = (u32)dcpim_min(f->host->cfg.max_msg, f->peer_max_msg ? f->peer_max_msg : ~0u);
	info->tx_queued = f->tx_queued;
	info->bytes_tx = f->bytes_tx;
	info->bytes_rx = f->bytes_rx;
	info->rtx_bytes = f->rtx_bytes;
	if (f->kind == DCPIM_STREAM) {
		info->rx_queued = f->u.s.recv.nxt - f->u.s.recv.read;
		return;
	}
	for (l = f->u.m.done.next; l != &f->u.m.done; l = l->next)
		info->rx_queued += dcpim_container(l, struct dcpim_rxmsg_state, node)->size;
}

void *dcpim_flow_user(const struct dcpim_flow *f)
{
	return f->user;
}

void dcpim_flow_set_user(struct dcpim_flow *f, void *user)
{
	f->user = user;
}

int dcpim_flow_set_buffers(struct dcpim_flow *f, u32 sndbuf, u32 rcvbuf)
{
	if ((sndbuf && (sndbuf < 4096 || sndbuf > 1u << 30)) || (rcvbuf && (rcvbuf < 4096 || rcvbuf > 1u << 30)))
		return -EINVAL;
	if (sndbuf)
		f->sndbuf = sndbuf;
	if (rcvbuf > f->rcvbuf) {
		if (f->kind == DCPIM_MESSAGE)
			f->u.m.rx_credit += rcvbuf - f->rcvbuf;
		f->rcvbuf = rcvbuf;
	}
	return 0;
}

struct dcpim_flow *dcpim_flow_next(struct dcpim_host *h, struct dcpim_flow *f)
{
	struct dcpim_list *l = f ? f->all_node.next : h->flows.next;

	for (; l != &h->flows; l = l->next) {
		f = dcpim_container(l, struct dcpim_flow, all_node);
		if ((f->flags & FLOW_ANNOUNCED) && !(f->flags & FLOW_APP_CLOSED))
			return f;
	}
	return NULL;
}
