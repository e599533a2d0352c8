/* SPDX-License-Identifier: BSD-2-Clause */
#include "vsniff.h"

void vsniff_init(struct vsniff *s)
{
	memset(s, 0, sizeof(*s));
}

static struct vsniff_flow *flow_of(struct vsniff *s, u32 from, u32 to, u16 sport, u16 dport)
{
	struct vsniff_flow *f;

	for (u32 i = 0; i < s->nflows; i++) {
		f = &s->flows[i];
		if (f->from == from && f->to == to && f->sport == sport && f->dport == dport)
			return f;
	}
	if (s->nflows == VSNIFF_FLOWS)
		return NULL;
	f = &s->flows[s->nflows++];
	*f = (struct vsniff_flow){ from, to, sport, dport, 0, 0 };
	return f;
}

void vsniff_sent(struct vsniff *s, struct vhost *h, const struct vpkt *pkt, const struct dcpim_pkt *p)
{
	u32 total = 0, at;
	struct vsniff_flow *f;

	if (p->type == DCPIM_DATA) {
		u64 end = p->u.data.offset + (pkt->len - p->hdr_len);

		f = flow_of(s, h->index, pkt->dst, p->sport, p->dport);
		if (f && end > f->edge)
			vnet_fail(h->net, "host %u sends up to %llu, the window ends at %llu", h->index,
				  (unsigned long long)end, (unsigned long long)f->edge);
	}
	if (p->type != DCPIM_ACCEPT)
		return;
	/* With the last connection to a peer go the channels matched with it. */
	if (s->peers_freed[h->index] != h->mem.freed[DCPIM_SLAB_PEER]) {
		s->peers_freed[h->index] = h->mem.freed[DCPIM_SLAB_PEER];
		memset(s->accepted[h->index], 0, sizeof(s->accepted[h->index]));
	}
	at = p->u.match.epoch & 1;
	s->accepted[h->index][pkt->dst].epoch[at] = p->u.match.epoch;
	s->accepted[h->index][pkt->dst].channels[at] = p->u.match.channels;
	for (u32 i = 0; i < VNET_MAX_HOSTS; i++)
		if (s->accepted[h->index][i].epoch[at] == p->u.match.epoch)
			total += s->accepted[h->index][i].channels[at];
	if (total > h->cfg.dcpim.channels)
		vnet_fail(h->net, "host %u accepts %u channels for epoch %llu, k is %u", h->index, total,
			  (unsigned long long)p->u.match.epoch, h->cfg.dcpim.channels);
}

void vsniff_delivered(struct vsniff *s, struct vhost *h, const struct vpkt *pkt, const struct dcpim_pkt *p)
{
	struct vsniff_flow *f;
	u32 at;

	if (pkt->corrupt)
		return;
	switch (p->type) {
	case DCPIM_NOTIFICATION_LONG:
	case DCPIM_NOTIFICATION_SHORT:
	case DCPIM_SYN_ACK:
		f = flow_of(s, h->index, pkt->src, p->dport, p->sport);
		if (f && f->tag != p->u.syn.flow_tag) {
			f->tag = p->u.syn.flow_tag;
			f->edge = 0;
		}
		if (f)
			f->edge = dcpim_max(f->edge, p->u.syn.wnd);
		break;
	case DCPIM_TOKEN:
	case DCPIM_ACK:
		f = flow_of(s, h->index, pkt->src, p->dport, p->sport);
		if (f)
			f->edge = dcpim_max(f->edge, p->u.token.wnd_edge);
		break;
	case DCPIM_REVOKE:
		at = p->u.match.epoch & 1;
		if (s->accepted[h->index][pkt->src].epoch[at] == p->u.match.epoch &&
		    s->accepted[h->index][pkt->src].channels[at] > p->u.match.channels)
			s->accepted[h->index][pkt->src].channels[at] = p->u.match.channels;
		break;
	}
}
