/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdlib.h>

#include "scene.h"

struct vnet net;
struct vapp app;
u32 scene_drop[256];
static bool staged;
bool (*scene_watch)(struct vhost *h, const struct vpkt *pkt, const struct dcpim_pkt *p);

static bool sent(struct vhost *h, const struct vpkt *pkt, const struct dcpim_pkt *p)
{
	if (scene_watch && !scene_watch(h, pkt, p))
		return false;
	if (scene_drop[p->type]) {
		scene_drop[p->type]--;
		return false;
	}
	return true;
}

struct vhost_cfg scene_cfg(void)
{
	struct vhost_cfg cfg;

	vnet_default_cfg(&cfg, 10 * GBIT, 5 * USEC, 1472);
	cfg.dcpim.rcvbuf = 4u << 20;
	cfg.dcpim.sndbuf = 4u << 20;
	return cfg;
}

void scene_start(u64 seed, u32 hosts, const struct vhost_cfg *cfg)
{
	static bool registered;

	/* A check that failed leaves its scene standing. */
	scene_end();
	if (!registered)
		atexit(scene_end);
	registered = staged = true;
	memset(scene_drop, 0, sizeof(scene_drop));
	scene_watch = NULL;
	vnet_init(&net, seed);
	vapp_init(&app, &net);
	net.ops.sent = sent;
	for (u32 i = 0; i < hosts; i++) {
		struct vhost_cfg mine = *cfg;

		mine.clock_offset_ns += (s64)vrange(&net.rng, 0, SEC);
		vapp_listen(vnet_add(&net, &mine, 5 * USEC), 80);
	}
}

struct vconn *scene_stream(u32 from, u32 to, u64 bytes, u64 at)
{
	struct vconn *c = vapp_add(&net, DCPIM_STREAM, from, to, 80, at);

	c->side[0].plan.total = bytes;
	c->side[0].plan.chunk_min = c->side[0].plan.chunk_max = 65536;
	c->side[0].plan.end = c->side[1].plan.end = VEND_KEEP;
	return c;
}

struct vconn *scene_msgs(u32 from, u32 to, u32 count, u32 size, u64 at)
{
	struct vconn *c = vapp_add(&net, DCPIM_MESSAGE, from, to, 80, at);

	c->side[0].plan.msgs = count;
	c->side[0].plan.msg_min = c->side[0].plan.msg_max = size;
	c->side[0].plan.end = c->side[1].plan.end = VEND_KEEP;
	return c;
}

u64 scene_run(u64 ns)
{
	u64 since = net.now;

	vnet_run(&net, since + ns);
	return net.now - since;
}

u64 scene_run_until_delivered(u64 ns)
{
	u64 since = net.now;

	if (!vnet_run_until(&net, since + ns, vapp_delivered) && !net.failed)
		vnet_fail(&net, "not all was delivered within %llu ns", (unsigned long long)ns);
	return net.now - since;
}

void scene_end(void)
{
	if (!staged)
		return;
	staged = false;
	vnet_fini(&net);
	vapp_fini(&app);
}

struct dcpim_stats scene_stats(u32 host)
{
	struct dcpim_stats stats;

	dcpim_stats_get(net.hosts[host].core, &stats);
	return stats;
}

struct dcpim_info scene_info(u32 host)
{
	struct dcpim_info info;

	dcpim_info_get(net.hosts[host].core, vhost_clock(&net.hosts[host]), &info);
	return info;
}

struct dcpim_flow_info scene_flow(const struct vside *s)
{
	struct dcpim_flow_info info = { 0 };

	if (s->flow)
		dcpim_flow_info(s->flow, &info);
	return info;
}
