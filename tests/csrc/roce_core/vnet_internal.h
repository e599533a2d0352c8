/* SPDX-License-Identifier: BSD-2-Clause */
/* Between vnet.c and vhost.c. */
#ifndef VNET_INTERNAL_H
#define VNET_INTERNAL_H

#include "vnet.h"

enum ventry_kind {
	V_PORT,	   /* a packet reaches the switch */
	V_DELIVER, /* a packet reaches its device */
	V_NIC,	   /* a device's wire has room again */
	V_CALL,
};

struct ventry {
	u64 at, order;
	enum ventry_kind kind;
	void *p;
	void (*fn)(struct vnet *net, void *arg, u64 tag);
	u64 tag;
};

void vnet_push(struct vnet *net, struct ventry e);
struct vpkt *vpkt_new(u32 src, u32 dst, u32 len);
void vpkt_put(struct vpkt *pkt);
void vnet_launch(struct vnet *net, struct vpkt *pkt, u64 departs);
/* Writes the ICRC over the last four bytes. */
void vnet_seal(const struct vnet *net, struct vpkt *pkt);

void vhost_deliver(struct vhost *h, struct vpkt *pkt);
void vhost_tick(struct vhost *h);
void vhost_serve(struct vhost *h);

#endif
