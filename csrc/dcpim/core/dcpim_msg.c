/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Messages: transfers with a size and an id, independent of each other. Short
 * ones go at once [paper, section 3.1]; longer ones are announced and matched.
 * The receiver acknowledges them by id, and gives credit in bytes for more, so
 * that what an application does not read cannot pile up.
 */
#include "dcpim_priv.h"

#define ACK_MESSAGES 64

/* Both directions share a slab, and a slab has one size. */
union msg_cell {
	struct dcpim_txmsg tx;
	struct dcpim_rxmsg_state rx;
};

static u64 cost(u32 size)
{
	return (u64)size + DCPIM_MSG_OVERHEAD;
}

/* A flow's ids are consecutive; its place to start from is random, so peers cannot aim. */
static u32 place(const struct dcpim_flow *f, u64 id)
{
	return 2 * ((u32)(f->u.m.hash_base + id) & f->host->msg_mask);
}

static struct dcpim_txmsg *tx_find(struct dcpim_flow *f, u64 id)
{
	struct dcpim_txmsg *m;

	for (m = f->host->msg_hash[place(f, id)]; m; m = m->hash_next)
		if (m->send.msg_id == id && m->send.flow == f)
			return m;
	return NULL;
}

static struct dcpim_rxmsg_state *rx_find(struct dcpim_flow *f, u64 id)
{
	struct dcpim_rxmsg_state *m;

	for (m = f->host->msg_hash[place(f, id) + 1]; m; m = m->hash_next)
		if (m->recv.msg_id == id && m->recv.flow == f)
			return m;
	return NULL;
}

static void tx_unhash(struct dcpim_txmsg *m)
{
	void **b = &m->send.flow->host->msg_hash[place(m->send.flow, m->send.msg_id)];
	struct dcpim_txmsg *i = *b;

	if (i == m) {
		*b = m->hash_next;
		return;
	}
	for (; i; i = i->hash_next)
		if (i->hash_next == m)
			i->hash_next = m->hash_next;
}

static void rx_unhash(struct dcpim_rxmsg_state *m)
{
	void **b = &m->recv.flow->host->msg_hash[place(m->recv.flow, m->recv.msg_id) + 1];
	struct dcpim_rxmsg_state *i = *b;

	if (i == m) {
		*b = m->hash_next;
		return;
	}
	for (; i; i = i->hash_next)
		if (i->hash_next == m)
			i->hash_next = m->hash_next;
}

void dcpim_msgs_init(struct dcpim_flow *f)
{
	struct dcpim_msgs *m = &f->u.m;

	dcpim_list_init(&m->tx);
	dcpim_list_init(&m->acked);
	dcpim_list_init(&m->rx);
	dcpim_list_init(&m->done);
	dcpim_list_init(&m->rx_ids);
	m->hash_base = (u32)dcpim_rand64(&f->host->rand);
	m->next_id = m->tx_cum = m->rx_cum = 1;
	m->rx_credit = m->rx_credit_told = f->rcvbuf;
	m->rx_final = DCPIM_UNKNOWN;
}

static void tx_free(struct dcpim_txmsg *m)
{
	struct dcpim_host *h = m->send.flow->host;

	dcpim_send_fini(&m->send);
	dcpim_list_del(&m->node);
	dcpim_free(h, DCPIM_SLAB_MSG, m, sizeof(union msg_cell));
}

static void rx_free(struct dcpim_rxmsg_state *m)
{
	struct dcpim_host *h = m->recv.flow->host;

	dcpim_recv_fini(&m->recv);
	dcpim_list_del(&m->node);
	dcpim_free(h, DCPIM_SLAB_MSG, m, sizeof(union msg_cell));
}

static struct dcpim_txmsg *tx_of(struct dcpim_list *l)
{
	return dcpim_container(l, struct dcpim_txmsg, node);
}

static struct dcpim_rxmsg_state *rx_of(struct dcpim_list *l)
{
	return dcpim_container(l, struct dcpim_rxmsg_state, node);
}

/* The flow is over: nothing is sent or completed any more; what is complete can be read. */
void dcpim_msgs_stop(struct dcpim_flow *f)
{
	struct dcpim_msgs *m = &f->u.m;

	while (!dcpim_list_empty(&m->tx)) {
		tx_unhash(tx_of(m->tx.next));
		tx_free(tx_of(m->tx.next));
	}
	while (!dcpim_list_empty(&m->rx)) {
		rx_unhash(rx_of(m->rx.next));
		rx_free(rx_of(m->rx.next));
	}
	while (!dcpim_list_empty(&m->rx_ids))
		dcpim_span_free(f->host, dcpim_container(m->rx_ids.next, struct dcpim_span, node));
	m->rx_nids = 0;
}

void dcpim_msgs_fini(struct dcpim_flow *f)
{
	struct dcpim_msgs *m = &f->u.m;

	dcpim_msgs_stop(f);
	while (!dcpim_list_empty(&m->acked))
		tx_free(tx_of(m->acked.next));
	while (!dcpim_list_empty(&m->done))
		rx_free(rx_of(m->done.next));
}

/* Sending */

static int want_credit(struct dcpim_flow *f, u64 now)
{
	f->flags |= FLOW_WANT_WRITE | FLOW_WANT_CREDIT;
	if (!dcpim_timer_on(&f->timer)) {
		f->backoff = 0;
		f->due_since = 0;
		dcpim_timer_set(f->host, &f->timer, dcpim_after(now, dcpim_flow_rto(f)));
	}
	return -EAGAIN;
}

int dcpim_send_msg(struct dcpim_flow *f, u64 now, const struct dcpim_buf *bufs, u32 nbufs, u32 flags, void *user,
		   u64 *msg_id)
{
	struct dcpim_msgs *m = &f->u.m;
	struct dcpim_host *h = f->host;
	struct dcpim_txmsg *t;
	u64 size = 0;
	u32 i;

	if (f->kind != DCPIM_MESSAGE)
		return -EINVAL;
	if (f->error)
		return f->error;
	if (f->flags & FLOW_FIN_QUEUED)
		return -EPIPE;
	for (i = 0; i < nbufs; i++) {
		if (!bufs[i].len)
			return -EINVAL;
		size += bufs[i].len;
	}
	if (size > h->cfg.max_msg || (f->rtag && size > f->peer_max_msg))
		return -EMSGSIZE;
	if (!f->rtag || m->next_id - m->tx_cum >= DCPIM_MSG_WINDOW ||
	    (f->tx_queued && f->tx_queued + cost((u32)size) > f->sndbuf)) {
		f->flags |= FLOW_WANT_WRITE;
		return -EAGAIN;
	}
	if (m->tx_charged + cost((u32)size) > m->tx_credit)
		return want_credit(f, now);
	if (!dcpim_tx_room(h, DCPIM_SLAB_MSG, h->cfg.max_msgs)) {
		if (!f->tx_queued)
			return -ENOMEM;
		f->flags |= FLOW_WANT_WRITE;
		return -EAGAIN;
	}
	t = dcpim_alloc(h, DCPIM_SLAB_MSG, sizeof(union msg_cell));
	if (!t)
		return -ENOMEM;
	dcpim_list_init(&t->node);
	dcpim_ctl_init(&t->ctl, CTL_TXMSG);
	dcpim_send_init(&t->send, f, m->next_id);
	for (i = 0; i < nbufs; i++) {
		if (dcpim_send_append(&t->send, &bufs[i]))
			continue;
		/* The buffers are still the caller's. */
		while (!dcpim_list_empty(&t->send.segs)) {
			struct dcpim_seg *seg = dcpim_container(t->send.segs.next, struct dcpim_seg, node);

			dcpim_list_del(&seg->node);
			dcpim_free(h, DCPIM_SLAB_SEG, seg, sizeof(*seg));
		}
		dcpim_free(h, DCPIM_SLAB_MSG, t, sizeof(union msg_cell));
		return -ENOMEM;
	}
	t->size = (u32)size;
	t->user = user;
	t->quiet = flags & DCPIM_MSG_QUIET;
	t->send.zero = !size;
	i = place(f, m->next_id);
	t->hash_next = h->msg_hash[i];
	h->msg_hash[i] = t;
	dcpim_list_add_tail(&m->tx, &t->node);
	m->tx_charged += cost(t->size);
	f->tx_queued += cost(t->size);
	h->stats.msgs_tx++;
	if (msg_id)
		*msg_id = m->next_id;
	m->next_id++;
	dcpim_send_grown(&t->send, now, 0);
	if (t->send.is_long)
		dcpim_ctl_set(h, &t->ctl, CTL_DEMAND);
	return 0;
}

void dcpim_msg_send_done(struct dcpim_send *s, u64 now)
{
	struct dcpim_txmsg *t = dcpim_container(s, struct dcpim_txmsg, send);
	struct dcpim_flow *f = s->flow;

	if (s->sample_at && !s->rtx_since)
		dcpim_flow_rtt(f, now - s->sample_at);
	s->done = true;
	f->tx_queued -= cost(t->size);
	f->u.m.bytes_tx += t->size;
	f->host->stats.msgs_acked++;
	tx_unhash(t);
	if (t->quiet) {
		tx_free(t);
		return;
	}
	dcpim_send_fini(s);
	dcpim_list_del(&t->node);
	dcpim_list_add_tail(&f->u.m.acked, &t->node);
	dcpim_event(f, DCPIM_EV_MSG_ACKED);
}

static void tx_advance(struct dcpim_flow *f)
{
	struct dcpim_msgs *m = &f->u.m;

	m->tx_cum = dcpim_list_empty(&m->tx) ? m->next_id : tx_of(m->tx.next)->send.msg_id;
}

void dcpim_msg_ack(struct dcpim_flow *f, u64 now, u64 cum)
{
	struct dcpim_msgs *m = &f->u.m;

	if (cum <= m->tx_cum || cum > m->next_id)
		return;
	while (!dcpim_list_empty(&m->tx) && tx_of(m->tx.next)->send.msg_id < cum)
		dcpim_msg_send_done(&tx_of(m->tx.next)->send, now);
	tx_advance(f);
	dcpim_flow_writable(f);
}

int dcpim_msg_acked(struct dcpim_flow *f, void **user, u64 *msg_id)
{
	struct dcpim_txmsg *t;

	if (f->kind != DCPIM_MESSAGE || dcpim_list_empty(&f->u.m.acked))
		return 0;
	t = tx_of(f->u.m.acked.next);
	if (user)
		*user = t->user;
	if (msg_id)
		*msg_id = t->send.msg_id;
	tx_free(t);
	return 1;
}

static void rx_fin_msg(struct dcpim_flow *f, u64 now, const struct dcpim_pkt *p)
{
	struct dcpim_msgs *m = &f->u.m;
	u64 cum = p->u.fin_msg.cum, id;
	bool credited;
	u32 i;

	f->host->stats.ack_rx++;
	dcpim_flow_believe(f, cum <= m->next_id);
	if (cum > m->next_id)
		return;
	dcpim_msg_ack(f, now, cum);
	for (i = 0; i < p->nblocks; i++) {
		u64 end = dcpim_min(cum + p->blocks[i].end, m->next_id);

		for (id = dcpim_max(cum + p->blocks[i].start, m->tx_cum); id < end; id++) {
			struct dcpim_txmsg *t = tx_find(f, id);

			if (t)
				dcpim_msg_send_done(&t->send, now);
		}
	}
	tx_advance(f);
	credited = p->u.fin_msg.credit > m->tx_credit;
	m->tx_credit = dcpim_max(m->tx_credit, p->u.fin_msg.credit);
	if (credited && (f->flags & FLOW_WANT_CREDIT) && !(f->flags & FLOW_FIN_SENT))
		dcpim_timer_stop(f->host, &f->timer);
	if (!(f->flags & FLOW_WANT_CREDIT) || credited)
		dcpim_flow_writable(f);
	if (p->flags & DCPIM_F_PROBE)
		dcpim_flow_ack_now(f);
}

/* Receiving */

static bool id_done(const struct dcpim_msgs *m, u64 id)
{
	struct dcpim_list *l;

	if (id < m->rx_cum)
		return true;
	for (l = m->rx_ids.next; l != &m->rx_ids; l = l->next) {
		const struct dcpim_span *s = dcpim_container(l, struct dcpim_span, node);

		if (id < s->start)
			return false;
		if (id < s->end)
			return true;
	}
	return false;
}

static bool id_record(struct dcpim_flow *f, u64 id)
{
	struct dcpim_msgs *m = &f->u.m;
	struct dcpim_list *l = m->rx_ids.next;
	struct dcpim_span *s, *next;

	if (id == m->rx_cum) {
		m->rx_cum++;
		if (l != &m->rx_ids) {
			s = dcpim_container(l, struct dcpim_span, node);
			if (s->start == m->rx_cum) {
				m->rx_cum = s->end;
				m->rx_nids--;
				dcpim_span_free(f->host, s);
			}
		}
		return true;
	}
	while (l != &m->rx_ids && dcpim_container(l, struct dcpim_span, node)->end < id)
		l = l->next;
	s = l == &m->rx_ids ? NULL : dcpim_container(l, struct dcpim_span, node);
	if (s && s->end == id) {
		s->end++;
		if (l->next != &m->rx_ids) {
			next = dcpim_container(l->next, struct dcpim_span, node);
			if (next->start == s->end) {
				s->end = next->end;
				m->rx_nids--;
				dcpim_span_free(f->host, next);
			}
		}
		return true;
	}
	if (s && s->start == id + 1) {
		s->start = id;
		return true;
	}
	next = dcpim_span_new(f->host, id, id + 1);
	if (!next)
		return false;
	dcpim_list_add_tail(l, &next->node);
	m->rx_nids++;
	return true;
}

u32 dcpim_msg_blocks(const struct dcpim_flow *f, struct dcpim_block *b, u32 max)
{
	const struct dcpim_msgs *m = &f->u.m;
	struct dcpim_list *l;
	u32 n = 0;

	for (l = m->rx_ids.next; l != &m->rx_ids && n < max; l = l->next, n++) {
		const struct dcpim_span *s = dcpim_container(l, struct dcpim_span, node);

		b[n].start = (u32)(s->start - m->rx_cum);
		b[n].end = (u32)(s->end - m->rx_cum);
	}
	return n;
}

static struct dcpim_rxmsg_state *rx_new(struct dcpim_flow *f, u64 id, u32 size)
{
	struct dcpim_msgs *m = &f->u.m;
	struct dcpim_host *h = f->host;
	struct dcpim_rxmsg_state *r;
	u32 i;

	if (id >= m->rx_cum + DCPIM_MSG_WINDOW || id >= m->rx_final || size > h->cfg.max_msg ||
	    m->rx_charged + cost(size) > m->rx_credit)
		return NULL;
	r = dcpim_alloc(h, DCPIM_SLAB_MSG, sizeof(union msg_cell));
	if (!r)
		return NULL;
	dcpim_ctl_init(&r->ctl, CTL_RXMSG);
	dcpim_recv_init(&r->recv, f, id);
	r->recv.final = size;
	r->size = size;
	dcpim_list_init(&r->node);
	dcpim_list_add_tail(&m->rx, &r->node);
	i = place(f, id) + 1;
	r->hash_next = h->msg_hash[i];
	h->msg_hash[i] = r;
	m->rx_charged += cost(size);
	return r;
}

void dcpim_msg_recv_done(struct dcpim_recv *r, u64 now)
{
	struct dcpim_rxmsg_state *s = dcpim_container(r, struct dcpim_rxmsg_state, recv);
	struct dcpim_flow *f = r->flow;
	struct dcpim_msgs *m = &f->u.m;
	struct dcpim_list *l;

	rx_unhash(s);
	if (!id_record(f, r->msg_id)) {
		/* Not recorded, not received: the sender will offer it again. */
		m->rx_charged -= cost(s->size);
		rx_free(s);
		return;
	}
	dcpim_recv_stop(r);
	for (l = r->segs.next; l != &r->segs; l = l->next)
		s->npieces++;
	dcpim_list_del(&s->node);
	dcpim_list_add_tail(&m->done, &s->node);
	f->host->stats.msgs_rx++;
	dcpim_event(f, DCPIM_EV_READABLE);
	if (++f->unacked >= ACK_MESSAGES)
		dcpim_flow_ack_now(f);
	else
		dcpim_flow_ack_later(f, now);
	dcpim_flow_progress(f, now);
}

static void rx_data_msg(struct dcpim_flow *f, u64 now, const struct dcpim_rxpkt *rx, const struct dcpim_pkt *p,
			const u8 *payload)
{
	struct dcpim_buf buf = { payload, (u32)p->len - p->hdr_len, rx->cookie };
	struct dcpim_msgs *m = &f->u.m;
	struct dcpim_host *h = f->host;
	struct dcpim_rxmsg_state *r;
	s32 acked = (s32)(p->u.data_msg.ack - (u32)m->tx_cum);

	if (acked > 0)
		dcpim_msg_ack(f, now, m->tx_cum + (u32)acked);
	if (id_done(m, p->u.data_msg.msg_id)) {
		h->stats.rx_duplicate += buf.len;
		dcpim_flow_ack_now(f);
		return;
	}
	if (f->flags & FLOW_APP_CLOSED) {
		dcpim_flow_abort(f);
		return;
	}
	r = rx_find(f, p->u.data_msg.msg_id);
	if (!r)
		r = rx_new(f, p->u.data_msg.msg_id, p->u.data_msg.size);
	if (!r || r->size != p->u.data_msg.size) {
		h->stats.rx_dropped++;
		return;
	}
	if (buf.len && dcpim_recv_data(&r->recv, now, p->u.data_msg.offset, &buf))
		return;
	if (r->recv.nxt == r->size)
		dcpim_msg_recv_done(&r->recv, now);
	if (f->peer->want)
		dcpim_tokens_issue(h, now, f->peer);
}

static void rx_note_msg(struct dcpim_flow *f, u64 now, const struct dcpim_pkt *p)
{
	struct dcpim_msgs *m = &f->u.m;
	struct dcpim_rxmsg_state *r;
	bool known;

	f->host->stats.demand_rx++;
	if (id_done(m, p->u.note_msg.msg_id)) {
		dcpim_flow_ack_now(f);
		return;
	}
	if (f->flags & FLOW_APP_CLOSED) {
		dcpim_flow_abort(f);
		return;
	}
	r = rx_find(f, p->u.note_msg.msg_id);
	known = r;
	if (!r)
		r = rx_new(f, p->u.note_msg.msg_id, p->u.note_msg.size);
	if (!r || r->size != p->u.note_msg.size) {
		f->host->stats.rx_dropped++;
		/* The sender waits for an answer, if only about credit. */
		dcpim_flow_ack_now(f);
		return;
	}
	if (!r->size) {
		dcpim_msg_recv_done(&r->recv, now);
		return;
	}
	if (p->u.note_msg.sent < r->size)
		dcpim_recv_demand(&r->recv, now, r->size, false);
	if (known || p->u.note_msg.sent)
		dcpim_recv_probe(&r->recv, now, p->u.note_msg.sent);
}

void dcpim_rx_msg(struct dcpim_flow *f, u64 now, const struct dcpim_rxpkt *rx, const struct dcpim_pkt *p,
		  const u8 *payload)
{
	struct dcpim_txmsg *t;

	switch (p->type) {
	case DCPIM_DATA_MSG:
		rx_data_msg(f, now, rx, p, payload);
		break;
	case DCPIM_NOTIFICATION_MSG:
		rx_note_msg(f, now, p);
		break;
	case DCPIM_TOKEN_MSG:
		f->host->stats.token_rx++;
		t = tx_find(f, p->u.token_msg.msg_id);
		if (t)
			dcpim_send_token(&t->send, now, p->u.token_msg.rcv_nxt, p->u.token_msg.token_nxt,
					 p->u.token_msg.rtx_end, p->blocks, p->nblocks);
		break;
	case DCPIM_FIN_MSG:
		rx_fin_msg(f, now, p);
		break;
	}
}

/* The application's side */

int dcpim_msg_peek(struct dcpim_flow *f, struct dcpim_rxmsg *msg, struct dcpim_buf *out, u32 first, u32 max)
{
	struct dcpim_rxmsg_state *r;
	struct dcpim_list *l;
	u32 n = 0, i = 0;

	if (f->kind != DCPIM_MESSAGE)
		return -EINVAL;
	if (dcpim_list_empty(&f->u.m.done))
		return -EAGAIN;
	r = rx_of(f->u.m.done.next);
	msg->id = r->recv.msg_id;
	msg->size = r->size;
	msg->nbufs = r->npieces;
	for (l = r->recv.segs.next; l != &r->recv.segs && n < max; l = l->next)
		if (i++ >= first)
			out[n++] = dcpim_container(l, struct dcpim_seg, node)->buf;
	return (int)n;
}

void dcpim_msg_consume(struct dcpim_flow *f, u64 now)
{
	struct dcpim_msgs *m = &f->u.m;
	struct dcpim_rxmsg_state *r;

	(void)now;
	if (f->kind != DCPIM_MESSAGE || dcpim_list_empty(&m->done))
		return;
	r = rx_of(m->done.next);
	m->rx_credit += cost(r->size);
	rx_free(r);
	/* After the peer's FIN nobody needs credit, and the peer may be gone. */
	if (!f->error && m->rx_final == DCPIM_UNKNOWN && m->rx_credit - m->rx_credit_told >= f->rcvbuf / 4)
		dcpim_flow_ack_now(f);
}
