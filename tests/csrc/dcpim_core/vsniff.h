/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An observer on the wire, who believes no host's own counters: nothing is sent
 * beyond the window its receiver announced, and no receiver accepts more than k
 * channels for one epoch.
 */
#ifndef VSNIFF_H
#define VSNIFF_H

#include "vnet.h"

#define VSNIFF_FLOWS 128

struct vsniff_flow {
	u32 from, to; /* of the data; ~0: unused */
	u16 sport, dport;
	u32 tag;      /* of the connection, as its receiver chose it */
	u64 edge;
};

struct vsniff {
	struct vsniff_flow flows[VSNIFF_FLOWS];
	u32 nflows;
	struct {
		u64 epoch[2];
		u32 channels[2];
	} accepted[VNET_MAX_HOSTS][VNET_MAX_HOSTS]; /* [receiver][sender] */
	u64 peers_freed[VNET_MAX_HOSTS];
};

void vsniff_init(struct vsniff *s);
void vsniff_sent(struct vsniff *s, struct vhost *h, const struct vpkt *pkt, const struct dcpim_pkt *p);
void vsniff_delivered(struct vsniff *s, struct vhost *h, const struct vpkt *pkt, const struct dcpim_pkt *p);
#endif
