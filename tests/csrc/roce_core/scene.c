/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdlib.h>

#include "scene.h"

struct vnet net;
struct sdev devs[VNET_MAX_HOSTS];
u32 scene_drop[VNET_MAX_HOSTS][256];
bool (*scene_watch)(struct vhost *h, const struct vpkt *pkt);
struct roce_pkt scene_last[VNET_MAX_HOSTS][256];
u32 scene_count[VNET_MAX_HOSTS][256];
bool scene_cm;
static bool staged;

static bool sent(struct vhost *h, const struct vpkt *pkt, const struct roce_txpkt *tx)
{
	struct roce_pkt p;

	(void)tx;
	if (roce_decode(&p, pkt->data, pkt->len - ROCE_ICRC_LEN)) {
		vnet_fail(&net, "device %u sends what cannot be decoded", h->index);
		return false;
	}
	scene_last[h->index][p.opcode] = p;
	scene_count[h->index][p.opcode]++;
	if (scene_watch && !scene_watch(h, pkt))
		return false;
	if (scene_drop[h->index][p.opcode]) {
		scene_drop[h->index][p.opcode]--;
		return false;
	}
	return true;
}

static void event(struct vhost *h, const struct roce_event *ev)
{
	struct sdev *d = &devs[h->index];

	switch (ev->kind) {
	case ROCE_EV_CQ:
		d->cq_events++;
		break;
	case ROCE_EV_QP:
		d->qp_errors++;
		d->qp_error = ev->error;
		break;
	case ROCE_EV_CM:
		d->cm_events[ev->cm & 7]++;
		d->last_cm = *ev;
		if (ev->cm == RACKWIRE_ROCE_CM_CONNECT_REQUEST && scene_cm && d->nrequests < 256)
			d->requests[d->nrequests++] = ev->id;
		break;
	}
}

struct vhost_cfg scene_cfg(void)
{
	struct vhost_cfg cfg;

	vnet_default_cfg(&cfg, 10 * GBIT, 1024);
	return cfg;
}

/* Kept from run to run: a fuzzer starts many. */
static void fill(u8 *mem, u64 seed, u32 which)
{
	static u8 kept[VNET_MAX_HOSTS][SCENE_MEM];
	static u64 seeds[VNET_MAX_HOSTS];

	if (seeds[which] != seed)
		vpattern_fill(seed, 0, kept[which], SCENE_MEM);
	seeds[which] = seed;
	memcpy(mem, kept[which], SCENE_MEM);
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
	memset(scene_count, 0, sizeof(scene_count));
	scene_watch = NULL;
	scene_cm = false;
	vnet_init(&net, seed);
	net.ops.sent = sent;
	net.ops.event = event;
	for (u32 i = 0; i < hosts; i++) {
		struct vhost_cfg mine = *cfg;
		struct sdev *d = &devs[i];

		mine.clock_offset_ns += (s64)vrange(&net.rng, 0, SEC);
		memset(d, 0, sizeof(*d));
		fill(d->mem, seed + i, i);
		d->h = vnet_add(&net, &mine, 5 * USEC);
		if (roce_pd_create(d->h->core, &d->pd) || roce_cq_create(d->h->core, 4096, d, &d->cq) ||
		    roce_mr_register(d->pd, d->mem, SCENE_MEM, SCENE_ALL, d, &d->mr))
			vnet_fail(&net, "the objects of device %u cannot be made", i);
		else
			d->key = roce_mr_key(d->mr);
	}
}

void scene_end(void)
{
	if (!staged)
		return;
	staged = false;
	vnet_fini(&net);
}

struct roce_qp_link scene_link(void)
{
	return (struct roce_qp_link){ .sq_psn = 100, .rq_psn = 200, .mtu = 1024, .max_rd_atomic = 4, .max_dest_rd_atomic = 4,
				      .retry_count = 7, .rnr_retry_count = 7, .min_rnr_timer = 1, .ack_timeout = 8 };
}

void scene_connect(struct sqp *a, u32 from, struct sqp *b, u32 to, const struct rackwire_roce_qp_attr *attr,
		   const struct roce_qp_link *link)
{
	static const struct rackwire_roce_qp_attr usual = { .max_send_wr = 64, .max_recv_wr = 64, .max_sge = 2, .access = SCENE_ALL };
	struct roce_qp_link there = link ? *link : scene_link(), back;
	struct sqp *ends[2] = { a, b };

	for (u32 i = 0; i < 2; i++) {
		struct sdev *d = &devs[i ? to : from];

		ends[i]->dev = d;
		ends[i]->peer = i ? from : to;
		if (roce_qp_create(d->pd, d->cq, d->cq, attr ? attr : &usual, ends[i], &ends[i]->qp)) {
			vnet_fail(&net, "a queue pair cannot be made");
			return;
		}
		ends[i]->num = roce_qp_num(ends[i]->qp);
	}
	a->peer_num = b->num;
	b->peer_num = a->num;
	back = there;
	back.sq_psn = there.rq_psn;
	back.rq_psn = there.sq_psn;
	there.path = vnet_path(&net, from, to);
	there.dest_qpn = b->num;
	back.path = vnet_path(&net, to, from);
	back.dest_qpn = a->num;
	if (roce_qp_connect(a->qp, vhost_clock(a->dev->h), &there) || roce_qp_connect(b->qp, vhost_clock(b->dev->h), &back))
		vnet_fail(&net, "two queue pairs cannot be connected");
}

int scene_post(struct sqp *q, u64 wr_id, struct sop op)
{
	struct sdev *peer = &devs[q->peer];
	struct rackwire_roce_sge sge = { scene_addr(q->dev, op.local), op.len, op.lkey ? op.lkey : scene_key(q->dev) };
	struct rackwire_roce_send_wr wr = {
		.wr_id = wr_id,
		.sg_list = &sge,
		.num_sge = op.len ? 1 : 0,
		.opcode = op.opcode,
		.flags = op.flags | (op.quiet ? 0 : RACKWIRE_ROCE_SEND_SIGNALED),
		.remote_addr = op.remote ? op.remote : scene_addr(peer, op.local),
		.rkey = op.rkey ? op.rkey : scene_key(peer),
		.compare_add = op.compare_add,
		.swap = op.swap,
	};
	u32 done = 0;
	int r;

	wr.ex.rkey = op.ex;
	r = roce_post_send(q->qp, vhost_clock(q->dev->h), &wr, 1, &done);
	vhost_touch(q->dev->h);
	return r;
}

int scene_recv(struct sqp *q, u64 wr_id, u32 local, u32 len)
{
	struct rackwire_roce_sge sge = { scene_addr(q->dev, local), len, scene_key(q->dev) };
	struct rackwire_roce_recv_wr wr = { .wr_id = wr_id, .sg_list = &sge, .num_sge = 1 };
	u32 done = 0;
	int r = roce_post_recv(q->qp, &wr, 1, &done);

	vhost_touch(q->dev->h);
	return r;
}

u32 scene_wait(struct sdev *d, u64 ns, struct rackwire_roce_wc *wc)
{
	struct rackwire_roce_wc mine;
	u64 until = net.now + ns;

	do {
		if (roce_poll_cq(d->cq, wc ? wc : &mine, 1) == 1)
			return wc ? wc->status : mine.status;
	} while (vnet_step(&net, until));
	if (!net.failed)
		net.now = until;
	return ~0u;
}

u32 scene_do(struct sqp *q, struct sop op)
{
	struct rackwire_roce_wc wc;

	if (scene_post(q, 0x777, op))
		return ~0u;
	return scene_wait(q->dev, SEC, &wc) != ~0u && wc.wr_id == 0x777 ? wc.status : ~0u;
}

void scene_run(u64 ns)
{
	vnet_run(&net, net.now + ns);
}

struct rackwire_roce_qp_stats scene_qp_stats(const struct sqp *q)
{
	struct rackwire_roce_qp_stats stats;

	roce_qp_stats(q->qp, &stats);
	return stats;
}

struct rackwire_roce_dev_stats scene_stats(u32 host)
{
	struct rackwire_roce_dev_stats stats;

	roce_dev_stats(net.hosts[host].core, &stats);
	return stats;
}

struct roce_info scene_info(u32 host)
{
	struct roce_info info;

	roce_dev_info(net.hosts[host].core, &info);
	return info;
}

void scene_inject(u32 from, u32 to, const struct roce_pkt *p, const void *payload, u32 len)
{
	u8 bytes[ROCE_HDR_MAX + 5000];
	struct roce_pkt whole = *p;
	u32 hdr;

	whole.pad = roce_pad(len);
	if (!whole.pkey)
		whole.pkey = ROCE_PKEY_DEFAULT;
	hdr = roce_encode(bytes, &whole);
	if (len)
		memcpy(bytes + hdr, payload, len);
	memset(bytes + hdr + len, 0, whole.pad);
	vnet_inject_now(&net, from, to, bytes, hdr + len + whole.pad);
	vhost_touch(&net.hosts[to]);
}
