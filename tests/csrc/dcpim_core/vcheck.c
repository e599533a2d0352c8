/* SPDX-License-Identifier: BSD-2-Clause */
/* Bounds that hold at every step, and what remains when all is over. */
#include "vapp.h"

static void check_flows(struct vhost *h)
{
	struct dcpim_flow *f = NULL;

	while ((f = dcpim_flow_next(h->core, f))) {
		struct dcpim_flow_info info;

		dcpim_flow_info(f, &info);
		if (info.kind == DCPIM_STREAM && info.rx_queued > h->cfg.dcpim.rcvbuf)
			vnet_fail(h->net, "host %u: %llu bytes in a receive queue of %u", h->index,
				  (unsigned long long)info.rx_queued, h->cfg.dcpim.rcvbuf);
	}
}

void vcheck_bounds(struct vhost *h)
{
	const struct dcpim_cfg *cfg = &h->cfg.dcpim;
	struct vnet *net = h->net;
	struct dcpim_info info;
	u64 flows;

	dcpim_info_get(h->core, vhost_clock(h), &info);
	if (info.rx_matched_cur > cfg->channels || info.rx_matched_next > cfg->channels)
		vnet_fail(net, "host %u: %u and %u channels matched as receiver, k is %u", h->index, info.rx_matched_cur,
			  info.rx_matched_next, cfg->channels);
	if (info.tx_matched_cur > cfg->channels || info.tx_matched_next > cfg->channels)
		vnet_fail(net, "host %u: %u and %u channels matched as sender, k is %u", h->index, info.tx_matched_cur,
			  info.tx_matched_next, cfg->channels);
	if (info.tokens_outstanding_max_peer > info.window)
		vnet_fail(net, "host %u: tokens for %llu bytes at one peer, the window is %llu", h->index,
			  (unsigned long long)info.tokens_outstanding_max_peer, (unsigned long long)info.window);
	if (cfg->rx_budget && info.tokens_outstanding > cfg->rx_budget)
		vnet_fail(net, "host %u: tokens for %llu bytes, the budget is %llu", h->index,
			  (unsigned long long)info.tokens_outstanding, (unsigned long long)cfg->rx_budget);
	if (info.flows > cfg->max_flows || info.peers > cfg->max_peers || info.msgs > cfg->max_msgs ||
	    info.segs > cfg->max_segs)
		vnet_fail(net, "host %u: over a cap: %u flows, %u peers, %u messages, %u segments", h->index, info.flows,
			  info.peers, info.msgs, info.segs);
	/* A packet read in part is still held whole. */
	flows = info.flows;
	if (h->mem.held_rx_bytes > flows * (cfg->rcvbuf + cfg->max_packet))
		vnet_fail(net, "host %u: %llu received bytes held by %llu flows of %u", h->index,
			  (unsigned long long)h->mem.held_rx_bytes, (unsigned long long)flows, cfg->rcvbuf);
	if (info.flows <= 8)
		check_flows(h);
}

void vcheck_nothing_left(struct vhost *h, bool peers_too)
{
	struct vnet *net = h->net;
	const struct vmem *m = &h->mem;
	struct dcpim_info info;

	if (!h->core || net->failed)
		return;
	dcpim_info_get(h->core, vhost_clock(h), &info);
	if (info.flows || info.msgs || info.segs || info.spans || info.timewait || info.tokens_outstanding)
		vnet_fail(net, "host %u, all closed: %u flows, %u messages, %u segments, %u spans, %u in time-wait, %llu tokens",
			  h->index, info.flows, info.msgs, info.segs, info.spans, info.timewait,
			  (unsigned long long)info.tokens_outstanding);
	if (m->count[DCPIM_SLAB_FLOW] || m->count[DCPIM_SLAB_MSG] || m->count[DCPIM_SLAB_SEG] || m->count[DCPIM_SLAB_SPAN])
		vnet_fail(net, "host %u, all closed: %llu flows, %llu messages, %llu segments, %llu spans allocated", h->index,
			  (unsigned long long)m->count[DCPIM_SLAB_FLOW], (unsigned long long)m->count[DCPIM_SLAB_MSG],
			  (unsigned long long)m->count[DCPIM_SLAB_SEG], (unsigned long long)m->count[DCPIM_SLAB_SPAN]);
	if (m->holds)
		vnet_fail(net, "host %u, all closed: %llu buffers held", h->index, (unsigned long long)m->holds);
	if (peers_too && (m->count[DCPIM_SLAB_PEER] || info.peers))
		vnet_fail(net, "host %u, all closed: %u peers", h->index, info.peers);
}

void vcheck_silent(struct vnet *net, u64 ns)
{
	u64 since = net->now, until = net->now + ns;

	if (!vnet_run(net, until))
		return;
	for (u32 i = 0; i < net->nhosts; i++) {
		struct vhost *h = &net->hosts[i];

		if (!h->core)
			continue;
		if (h->last_tx > since)
			vnet_fail(net, "host %u sends %llu ns after all was done", i, (unsigned long long)(h->last_tx - since));
		if (!h->cfg.dcpim.keepalive_ns && dcpim_next_deadline(h->core) != DCPIM_NEVER)
			vnet_fail(net, "host %u wants to wake up though all is done", i);
	}
}
