/* SPDX-License-Identifier: BSD-2-Clause */
/* A small stage for tests of single behaviours: a network, its applications, and what was seen on the wire. */
#ifndef SCENE_H
#define SCENE_H

#include "tap.h"
#include "vapp.h"

#define GBIT 1000000000ull

extern struct vnet net;
extern struct vapp app;

/* Packets whose type is counted here are dropped that many more times, whoever sends them. */
extern u32 scene_drop[256];
/* Looks at each packet before it is sent; false: drop it. NULL: none. */
extern bool (*scene_watch)(struct vhost *h, const struct vpkt *pkt, const struct dcpim_pkt *p);

/* 10 Gb/s, 5 us each way, packets of 1472 bytes. */
struct vhost_cfg scene_cfg(void);
/* @hosts alike, which all listen on port 80. */
void scene_start(u64 seed, u32 hosts, const struct vhost_cfg *cfg);
/* A stream of @bytes from host @from to host @to, opened at @at and left open. */
struct vconn *scene_stream(u32 from, u32 to, u64 bytes, u64 at);
struct vconn *scene_msgs(u32 from, u32 to, u32 count, u32 size, u64 at);
/* Runs @ns more, or until the applications are done; returns virtual ns passed. */
u64 scene_run(u64 ns);
u64 scene_run_until_delivered(u64 ns);
/* Destroys all; what failed is left in net.why. */
void scene_end(void);
struct dcpim_stats scene_stats(u32 host);
struct dcpim_info scene_info(u32 host);
struct dcpim_flow_info scene_flow(const struct vside *s);

/* Ends the test with the network's own reason when something went wrong there. */
#define SCENE_OK()                                    \
	do {                                          \
		if (net.failed) {                     \
			tap_failed = net.why;         \
			tap_failed_line = __LINE__;   \
			return;                       \
		}                                     \
	} while (0)

#define SCENE_END()           \
	do {                  \
		scene_end();  \
		SCENE_OK();   \
	} while (0)

#endif
