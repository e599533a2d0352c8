/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Streams: the application's calls, and DATA coming in. */
#include "dcpim_priv.h"

/* Acknowledge at the latest after so many bytes and packets of this size. */
#define ACK_BYTES 65536
#define ACK_PACKETS 3

void dcpim_rx_data(struct dcpim_flow *f, u64 now, const struct dcpim_rxpkt *rx, const struct dcpim_pkt *p,
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
	dcpim_recv_demand(r, now, p->u.data.offset + p->u.data.ahead, p->flags & DCPIM_F_MORE);
	if (r->nxt != before) {
		dcpim_event(f, DCPIM_EV_READABLE);
		f->unacked += (u32)(r->nxt - before);
		if (f->unacked >= dcpim_max(ACK_BYTES, ACK_PACKETS * buf.len))
			dcpim_flow_ack_now(f);
		else
			dcpim_flow_ack_later(f, now);
	}
	if (f->peer->want)
		dcpim_tokens_issue(f->host, now, f->peer);
}

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
		f->u.s.blocked_at = now;
		dcpim_send_is_long(s);
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
