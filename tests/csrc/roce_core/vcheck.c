/* SPDX-License-Identifier: BSD-2-Clause */
/* What must hold at any time, and what remains when all is over. */
#include "vapp.h"

void vcheck_memory(struct vnet *net)
{
	struct vapp *app = vapp_of(net);

	if (net->forged)
		return;
	for (u32 i = 0; i < 2 * app->nconns; i++) {
		struct vside *s = &app->conns[i / 2]->side[i & 1];

		for (u32 t = 0; t < VTARGETS; t++)
			if (s->target[t].cell)
				vcell_check(s->target[t].cell, 0);
	}
	for (u32 i = 0; i < net->nhosts; i++)
		if (app->hosts[i].space.mem)
			vspace_check(&app->hosts[i].space);
}

static void check_conn(struct vnet *net, const struct vconn *c)
{
	bool clean = c->answer == VANSWER_ACCEPT && !c->may && !c->on_purpose && !c->may_not_connect;

	for (u32 i = 0; i < 2; i++) {
		const struct vside *s = &c->side[i], *peer = &c->side[!i];

		if (!clean && c->answer == VANSWER_ACCEPT && !peer->died && s->acked_msgs > peer->next_msg)
			vnet_fail(net, "connection %u end %u: %u messages completed, %u were received", c->index, i, s->acked_msgs,
				  peer->next_msg);
		if (!clean)
			continue;
		if (s->established != 1 || s->disconnected != 1 || s->refused || s->unreachable)
			vnet_fail(net, "connection %u end %u: established %u times, disconnected %u times", c->index, i,
				  s->established, s->disconnected);
		if (s->planned < s->plan.ops || s->acked_msgs > peer->next_msg || s->nmsgs != peer->next_msg)
			vnet_fail(net, "connection %u end %u: %u of %u requests posted, %u of %u messages received", c->index, i,
				  s->planned, s->plan.ops, peer->next_msg, s->nmsgs);
		if (s->status && s->status != RACKWIRE_ROCE_WC_WR_FLUSH_ERR)
			vnet_fail(net, "connection %u end %u: status %u", c->index, i, s->status);
		for (u32 k = 0; k < s->nops; k++)
			if (!s->ops[k]->retired)
				vnet_fail(net, "connection %u end %u: request %u never completed", c->index, i, k);
	}
	for (u32 i = 0; i < 2; i++) {
		const struct vside *s = &c->side[i];

		/* The one that posted it knows what was wrong with it. */
		if (s->plan.bad_at < s->nops && s->ops[s->plan.bad_at]->bad && !c->may &&
		    s->status != s->ops[s->plan.bad_at]->expect)
			vnet_fail(net, "connection %u end %u: a request that must fail with %u ended with %u", c->index, i,
				  s->ops[s->plan.bad_at]->expect, s->status);
	}
	if (c->answer != VANSWER_ACCEPT && !c->may_not_connect && c->side[0].refused != 1)
		vnet_fail(net, "connection %u was not refused", c->index);
}

void vcheck_ends(struct vnet *net)
{
	struct vapp *app = vapp_of(net);

	for (u32 i = 0; i < app->nconns; i++)
		check_conn(net, app->conns[i]);
	vcheck_memory(net);
}

void vcheck_nothing_left(struct vhost *h)
{
	struct roce_info info;

	if (!h->core || h->net->failed)
		return;
	roce_dev_info(h->core, &info);
	if (info.qps || info.mrs || info.pds || info.cqs || info.cm_ids || info.half_open || info.timewait || info.listeners)
		vnet_fail(h->net,
			  "device %u, all gone: %u queue pairs, %u regions, %u domains, %u CQs, %u ids, %u half open, %u in timewait, %u listeners",
			  h->index, info.qps, info.mrs, info.pds, info.cqs, info.cm_ids, info.half_open, info.timewait,
			  info.listeners);
	if (h->mem.count[ROCE_SLAB_QP] || h->mem.count[ROCE_SLAB_MR] || h->mem.count[ROCE_SLAB_PD] ||
	    h->mem.count[ROCE_SLAB_CQ] || h->mem.count[ROCE_SLAB_RING])
		vnet_fail(h->net, "device %u, all gone: %llu queue pairs, %llu regions, %llu rings allocated", h->index,
			  (unsigned long long)h->mem.count[ROCE_SLAB_QP], (unsigned long long)h->mem.count[ROCE_SLAB_MR],
			  (unsigned long long)h->mem.count[ROCE_SLAB_RING]);
}

void vcheck_silent(struct vnet *net, u64 ns)
{
	u64 since = net->now;

	if (!vnet_run(net, net->now + ns))
		return;
	for (u32 i = 0; i < net->nhosts; i++) {
		struct vhost *h = &net->hosts[i];

		if (!h->core)
			continue;
		if (h->last_tx > since)
			vnet_fail(net, "device %u sends %llu ns after all was done", i, (unsigned long long)(h->last_tx - since));
		if (roce_next_deadline(h->core) != ROCE_NEVER)
			vnet_fail(net, "device %u wants to wake up though all is done", i);
	}
}

static bool within(const struct vext *e, const u8 *ptr, u32 len)
{
	return e && ptr >= vext_ptr(e) && ptr + len <= vext_ptr(e) + e->len;
}

static bool readable_by_peer(const struct vside *s, const u8 *ptr, u32 len)
{
	if (!s->qp)
		return false;
	for (u32 i = 0; i < VTARGETS; i++)
		if (s->target[i].mr && s->target[i].state != VKEY_DEAD && within(s->target[i].ext, ptr, len))
			return true;
	return s->no_write.mr && within(s->no_write.ext, ptr, len);
}

static bool being_sent(const struct vside *s, const u8 *ptr, u32 len)
{
	for (u32 i = s->head; i < s->nops; i++)
		for (u32 k = 0; k < s->ops[i]->nsge; k++)
			if (within(s->ops[i]->ext[k], ptr, len))
				return true;
	return false;
}

/* Nothing is acknowledged that was not sent; messages are cut into full packets. */
static void check_order(struct vhost *h, const struct vpkt *pkt, const struct roce_txpkt *tx)
{
	struct vapp *app = vapp_of(h->net);
	u32 qpn = roce_get24(pkt->data + 5), psn = roce_get24(pkt->data + 9);
	u8 opcode = pkt->data[0];
	bool response = opcode >= 0x0d && opcode <= 0x12, full = opcode == 0x00 || opcode == 0x01 || opcode == 0x06 ||
								 opcode == 0x07 || opcode == 0x0d || opcode == 0x0e;

	if (opcode > 0x17)
		return;
	for (u32 i = 0; i < 2 * app->nconns; i++) {
		struct vside *s = &app->conns[i / 2]->side[i & 1], *peer = vside_peer(s);
		u32 last = psn;

		if (s->host != h || !s->qp || !peer->qp || peer->host->index != pkt->dst || roce_qp_num(peer->qp) != qpn)
			continue;
		if (full ? tx->payload_len != s->conn->chunk : tx->payload_len > s->conn->chunk)
			vnet_fail(h->net, "connection %u end %u: a packet of opcode %02x with %u bytes, path MTU %u", i / 2, i & 1,
				  opcode, tx->payload_len, s->conn->chunk);
		if (response) {
			if (!peer->sent_any || roce_psn_cmp(psn, peer->sent_psn) > 0)
				vnet_fail(h->net, "connection %u end %u: answers PSN %06x, nothing behind %06x was sent", i / 2, i & 1,
					  psn, peer->sent_psn);
			return;
		}
		if (opcode == 0x0c)
			last = psn + (u32)roce_max(1, (roce_get32(pkt->data + 24) + s->conn->chunk - 1) / s->conn->chunk) - 1;
		last &= 0xffffff;
		if (s->sent_any && roce_psn_diff(psn, s->sent_psn) > 1)
			vnet_fail(h->net, "connection %u end %u: PSN %06x after %06x", i / 2, i & 1, psn, s->sent_psn);
		if (!s->sent_any || roce_psn_cmp(last, s->sent_psn) > 0)
			s->sent_psn = last;
		s->sent_any = true;
		return;
	}
}

void vcheck_packet(struct vhost *h, const struct vpkt *pkt, const struct roce_txpkt *tx)
{
	struct vapp *app = vapp_of(h->net);
	const struct vspace *sp = &vapp_host(h)->space;
	u8 opcode = pkt->data[0];
	bool response = opcode >= 0x0d && opcode <= 0x10;

	check_order(h, pkt, tx);
	for (u32 f = 0; f < tx->nfrags; f++) {
		const u8 *ptr = tx->frags[f].ptr;
		u32 len = tx->frags[f].len;
		bool ok = false;

		if (!len || ptr < sp->mem || ptr >= sp->mem + sp->size)
			continue; /* memory of the core's: inline data */
		for (u32 i = 0; i < 2 * app->nconns && !ok; i++) {
			struct vside *s = &app->conns[i / 2]->side[i & 1];

			if (s->host != h || s->died)
				continue;
			ok = response ? readable_by_peer(s, ptr, len) : being_sent(s, ptr, len);
		}
		if (!ok)
			vnet_fail(h->net, "device %u: a packet of opcode %02x takes its payload from memory that is none of its business",
				  h->index, opcode);
	}
}
