/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Connections: opening, listening, acknowledging, closing. Both kinds, streams
 * and messages, share this life. Their packets are taken apart in dcpim_conn.c.
 */
#include "dcpim_priv.h"

#define EPHEMERAL_FIRST 32768u
#define EPHEMERAL_COUNT 32768u

static struct dcpim_flow **bucket(struct dcpim_host *h, const struct dcpim_path *path, u16 sport, u16 dport)
{
	u64 w[4];

	memcpy(w, path->addr, 16);
	w[2] = (u64)path->scope << 16 | path->port;
	w[3] = (u64)sport << 16 | dport;
	return &h->flow_hash[dcpim_siphash(h->hash_key, w, 4) & h->flow_mask];
}

static bool is_at(const struct dcpim_flow *f, const struct dcpim_path *path, u16 sport, u16 dport)
{
	return f->sport == sport && f->dport == dport && f->path.port == path->port &&
	       f->path.scope == path->scope && !memcmp(f->path.addr, path->addr, sizeof(path->addr));
}

struct dcpim_flow *dcpim_flow_find(struct dcpim_host *h, const struct dcpim_path *path, u16 sport, u16 dport)
{
	struct dcpim_flow *f = h->last_flow;

	if (f && is_at(f, path, sport, dport))
		return f;
	for (f = *bucket(h, path, sport, dport); f; f = f->hash_next) {
		if (is_at(f, path, sport, dport)) {
			h->last_flow = f;
			return f;
		}
	}
	return NULL;
}

static void unhash(struct dcpim_flow *f)
{
	struct dcpim_flow **b = bucket(f->host, &f->path, f->sport, f->dport);

	if (f->host->last_flow == f)
		f->host->last_flow = NULL;
	while (*b && *b != f)
		b = &(*b)->hash_next;
	if (*b)
		*b = f->hash_next;
}

/* @syn: the packet that opens it, or NULL when this host does. */
static struct dcpim_flow *flow_new(struct dcpim_host *h, u64 now, enum dcpim_kind kind, const struct dcpim_path *path,
				   u16 sport, u16 dport, const struct dcpim_pkt *syn)
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
	p = syn ? dcpim_peer_from(h, now, path, syn->u.syn.host_tag, syn->u.syn.host_port) :
		  dcpim_peer_to(h, now, path, dport);
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
	f->due_since = now;
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
	f = flow_new(h, now, kind, to, sport, dport, NULL);
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

void dcpim_flow_take_syn(struct dcpim_flow *f, const struct dcpim_pkt *p)
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
	f = flow_new(h, now, kind, &rx->path, p->dport, p->sport, p);
	if (!f) {
		h->stats.rx_dropped++;
		return;
	}
	f->state = DCPIM_HALF_OPEN;
	f->flags = FLOW_BACKLOG;
	f->listener = l;
	l->pending++;
	dcpim_flow_take_syn(f, p);
	dcpim_ctl_set(h, &f->ctl, CTL_SYN_ACK);
	dcpim_timer_set(h, &f->timer, dcpim_after(now, dcpim_flow_rto(f)));
}

void dcpim_flow_opened(struct dcpim_flow *f, u64 now, u32 event)
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
	if (!dcpim_timer_on(&f->ack_timer))
		dcpim_timer_set(f->host, &f->ack_timer, dcpim_after(now, f->host->cfg.ack_delay_ns));
}

void dcpim_flow_acked(struct dcpim_flow *f)
{
	const struct dcpim_msgs *m = &f->u.m;
	u64 untold;

	f->unacked = 0;
	dcpim_timer_stop(f->host, &f->ack_timer);
	/* Payload packets do not tell the window or the credit; keep the ACK that was to. */
	if (f->kind == DCPIM_STREAM)
		untold = dcpim_recv_limit(&f->u.s.recv) - f->u.s.recv.wnd_told;
	else
		untold = m->rx_credit - m->rx_credit_told;
	if (untold < f->rcvbuf / 4)
		dcpim_ctl_clear(&f->ctl, CTL_ACK);
}

void dcpim_flow_ack_timer(struct dcpim_flow *f, u64 now)
{
	(void)now;
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

bool dcpim_flow_all_received(const struct dcpim_flow *f)
{
	if (!(f->flags & FLOW_PEER_FIN))
		return false;
	return f->kind == DCPIM_STREAM ? f->u.s.recv.nxt == f->u.s.recv.final : f->u.m.rx_cum == f->u.m.rx_final;
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
	if (dcpim_flow_all_received(f)) {
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

bool dcpim_flow_all_acked(const struct dcpim_flow *f)
{
	return f->kind == DCPIM_STREAM ? f->u.s.send.una == f->u.s.send.end : dcpim_list_empty(&f->u.m.tx);
}

bool dcpim_flow_delivered(const struct dcpim_flow *f)
{
	return (f->flags & FLOW_APP_CLOSED) && (f->flags & FLOW_FIN_SENT) && dcpim_flow_all_acked(f);
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
	if (opening && now - f->due_since >= h->cfg.connect_timeout_ns) {
		dcpim_flow_fail(f, now, -ETIMEDOUT);
		return;
	}
	if (opening) {
		bit = f->state == DCPIM_CONNECTING ? CTL_SYN : CTL_SYN_ACK;
	} else if ((f->flags & (FLOW_FIN_SENT | FLOW_FIN_ACKED)) == FLOW_FIN_SENT) {
		bit = CTL_FIN;
	} else if (f->flags & FLOW_WANT_CREDIT) {
		bit = CTL_CREDIT;
	} else {
		/* All delivered, closed here, and the peer never finishes. */
		if ((f->flags & FLOW_APP_CLOSED) && (f->flags & FLOW_DRAINED))
			dcpim_flow_abort(f);
		return;
	}
	if (!opening) {
		/* That the peer lives is no excuse for a FIN after data it has acknowledged. */
		bool excused = dcpim_flow_answered(f, f->due_since) && !(bit == CTL_FIN && dcpim_flow_all_acked(f));

		if (!f->due_since || excused) {
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
	info->bytes_tx = f->kind == DCPIM_STREAM ? f->u.s.send.una : f->u.m.bytes_tx;
	info->bytes_rx = f->kind == DCPIM_STREAM ? f->u.s.recv.nxt : f->u.m.bytes_rx;
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

bool dcpim_sent(struct dcpim_host *h, const struct dcpim_path *to, const u8 *packet, u32 length)
{
	const struct dcpim_flow *f;

	if (length < 12)
		return false;
	f = dcpim_flow_find(h, to, dcpim_get16(packet), dcpim_get16(packet + 2));
	return f && dcpim_get32(packet + 8) == f->rtag;
}

bool dcpim_undelivered(const struct dcpim_host *h)
{
	const struct dcpim_list *l;

	for (l = h->flows.next; l != &h->flows; l = l->next) {
		const struct dcpim_flow *f = dcpim_container(l, struct dcpim_flow, all_node);

		if ((f->flags & FLOW_APP_CLOSED) && !(f->flags & FLOW_DRAINED))
			return true;
	}
	return false;
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
