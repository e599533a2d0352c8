/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Packets of one connection: whose they are, what they change, and writing its control packets. */
#include "dcpim_priv.h"

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
	if (dcpim_flow_all_received(f))
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
	if (dcpim_flow_over(f))
		return;
	/* A peer that had everything and is gone has not refused anything. */
	if (dcpim_flow_delivered(f)) {
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
	dcpim_flow_take_syn(f, p);
	if (!f->backoff)
		dcpim_flow_rtt(f, now - f->due_since);
	dcpim_flow_opened(f, now, DCPIM_EV_CONNECTED | DCPIM_EV_WRITABLE);
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
		dcpim_flow_opened(f, now, DCPIM_EV_ACCEPT);
	}
	if (f->state == DCPIM_TIMEWAIT) {
		if (p->type == DCPIM_FIN)
			dcpim_ctl_set(h, &f->ctl, CTL_FIN_ACK);
		return;
	}
	switch (p->type) {
	case DCPIM_DATA:
		dcpim_rx_data(f, now, rx, p, payload);
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
		dcpim_recv_demand(&f->u.s.recv, now, p->u.demand.end, p->flags & DCPIM_F_MORE);
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
	case CTL_CREDIT:
		if (!f->rtag)
			return false;
		h->stats.ack_tx++;
		dcpim_flow_acked(f);
		if (f->kind == DCPIM_MESSAGE) {
			p->type = DCPIM_FIN_MSG;
			if (bit == CTL_CREDIT)
				p->flags |= DCPIM_F_PROBE;
			p->u.fin_msg.cum = f->u.m.rx_cum;
			p->u.fin_msg.credit = f->u.m.rx_credit;
			f->u.m.rx_credit_told = f->u.m.rx_credit;
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
		/* It acknowledges everything; an ACK after it may find the peer gone. */
		dcpim_timer_stop(h, &f->ack_timer);
		dcpim_ctl_clear(&f->ctl, CTL_ACK);
		p->type = DCPIM_FIN_ACK;
		return true;
	}
	return false;
}
