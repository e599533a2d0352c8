/* SPDX-License-Identifier: BSD-2-Clause */
/* Time, links and the switch of the virtual network; vhost.c has the devices. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "vnet_internal.h"

#define FRAME_OVERHEAD 42 /* Ethernet, IPv4 and UDP headers */

u64 vrand(struct vrng *r)
{
	u64 z = (r->state += 0x9e3779b97f4a7c15ull); /* splitmix64 */

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

u64 vrange(struct vrng *r, u64 lo, u64 hi)
{
	return lo + (u64)(((unsigned __int128)vrand(r) * (hi - lo + 1)) >> 64);
}

u64 vrange_log(struct vrng *r, u64 lo, u64 hi)
{
	u32 lo_bits = 63 - (u32)__builtin_clzll(lo), hi_bits = 63 - (u32)__builtin_clzll(hi);
	u32 bits = (u32)vrange(r, lo_bits, hi_bits);
	u64 v = (1ull << bits) | (vrand(r) & ((1ull << bits) - 1));

	return v < lo ? lo : v > hi ? hi : v;
}

bool vchance(struct vrng *r, u32 ppm)
{
	return ppm && vrand(r) % 1000000 < ppm;
}

void vpattern_fill(u64 seed, u64 offset, u8 *out, u32 len)
{
	u32 done = 0;

	while (done < len) {
		u64 at = offset + done;
		struct vrng r = { seed + (at >> 3) * 0xd1342543de82ef95ull };
		u64 word = vrand(&r);
		u32 skip = (u32)(at & 7), n = 8 - skip;

		if (n > len - done)
			n = len - done;
		memcpy(out + done, (u8 *)&word + skip, n);
		done += n;
	}
}

u64 vnet_env(const char *name, u64 fallback)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 0) : fallback;
}

u64 vnet_env_seed(u64 fallback, bool *given)
{
	const char *text = getenv("RACKWIRE_SEED");

	if (given)
		*given = text && *text;
	return vnet_env("RACKWIRE_SEED", fallback);
}

void vnet_fail(struct vnet *net, const char *format, ...)
{
	va_list args;
	int n;

	if (net->failed)
		return;
	net->failed = true;
	n = snprintf(net->why, sizeof(net->why), "seed 0x%llx at %llu ns: ", (unsigned long long)net->seed,
		     (unsigned long long)net->now);
	va_start(args, format);
	vsnprintf(net->why + n, sizeof(net->why) - (size_t)n, format, args);
	va_end(args);
}

void vnet_default_cfg(struct vhost_cfg *cfg, u64 rate_bps, u32 mtu)
{
	struct roce_cfg *r = &cfg->roce;

	memset(cfg, 0, sizeof(*cfg));
	roce_cfg_default(r);
	r->mtu = mtu;
	r->max_qps = 32;
	r->max_mrs = 128;
	r->max_pds = 4;
	r->max_cqs = 8;
	r->max_cm_ids = 64;
	r->max_half_open = 32;
	r->cm_timeout_ns = 10 * MSEC;
	r->cm_retries = 15;
	r->timewait_ns = 50 * MSEC;
	r->keepalive_ns = 0;
	r->rate_bps = 0;
	cfg->rate_bps = rate_bps;
	cfg->nic_queue = 2 * (mtu + 100);
	cfg->port_queue = 1u << 30;
}

/* ---- the heap of things to come ---- */

static bool before(const struct ventry *a, const struct ventry *b)
{
	return a->at < b->at || (a->at == b->at && a->order < b->order);
}

void vnet_push(struct vnet *net, struct ventry e)
{
	u32 i;

	if (net->heap_len == net->heap_cap) {
		net->heap_cap = net->heap_cap ? 2 * net->heap_cap : 256;
		net->heap = realloc(net->heap, net->heap_cap * sizeof(*net->heap));
		if (!net->heap)
			abort();
	}
	e.order = net->order++;
	i = net->heap_len++;
	while (i && before(&e, &net->heap[(i - 1) / 2])) {
		net->heap[i] = net->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	net->heap[i] = e;
}

static struct ventry pop(struct vnet *net)
{
	struct ventry top = net->heap[0], last = net->heap[--net->heap_len];
	u32 i = 0;

	for (;;) {
		u32 child = 2 * i + 1;

		if (child >= net->heap_len)
			break;
		if (child + 1 < net->heap_len && before(&net->heap[child + 1], &net->heap[child]))
			child++;
		if (!before(&net->heap[child], &last))
			break;
		net->heap[i] = net->heap[child];
		i = child;
	}
	if (net->heap_len)
		net->heap[i] = last;
	return top;
}

/* ---- packets ---- */

struct vpkt *vpkt_new(u32 src, u32 dst, u32 len)
{
	struct vpkt *pkt = malloc(sizeof(*pkt) + len);

	if (!pkt)
		abort();
	memset(pkt, 0, sizeof(*pkt));
	pkt->refs = 1;
	pkt->src = src;
	pkt->dst = dst;
	pkt->len = len;
	return pkt;
}

void vpkt_put(struct vpkt *pkt)
{
	if (!--pkt->refs)
		free(pkt);
}

static struct vpkt *copy_of(const struct vpkt *pkt, u32 len)
{
	struct vpkt *copy = vpkt_new(pkt->src, pkt->dst, len);

	copy->ecn = pkt->ecn;
	copy->ip_id = pkt->ip_id;
	copy->forged = pkt->forged;
	copy->corrupt = pkt->corrupt;
	memcpy(copy->data, pkt->data, len);
	return copy;
}

void vnet_seal(const struct vnet *net, struct vpkt *pkt)
{
	u32 len = pkt->len - ROCE_ICRC_LEN;

	roce_icrc_put(pkt->data + len,
		      roce_icrc(&net->flows[pkt->src][pkt->dst], roce_crc32_fast(), pkt->ip_id, pkt->data, len));
}

static struct vpkt *damaged(struct vnet *net, struct vpkt *pkt)
{
	u32 len = pkt->len;
	struct vpkt *copy;

	if (vchance(&net->rng, 100000)) /* now and then it arrives cut off */
		len = (u32)vrange(&net->rng, 1, pkt->len);
	copy = copy_of(pkt, len);
	if (vchance(&net->rng, 300000)) {
		u32 from = (u32)vrange(&net->rng, 0, len - 1);
		u32 n = (u32)vrange(&net->rng, 1, roce_min(len - from, 40));

		for (u32 i = 0; i < n; i++)
			copy->data[from + i] = (u8)vrand(&net->rng);
	} else {
		for (u32 n = (u32)vrange(&net->rng, 1, 3); n; n--)
			copy->data[vrange(&net->rng, 0, len - 1)] ^= (u8)(1u << (vrand(&net->rng) & 7));
	}
	/* Byte 4 of the BTH is not covered: routers may set its bits. */
	copy->data[4 % len] = pkt->data[4 % len];
	copy->corrupt = len != pkt->len || memcmp(copy->data, pkt->data, len);
	vpkt_put(pkt);
	return copy;
}

static u64 wire_ns(u32 len, u64 rate_bps)
{
	return ((u64)(len + FRAME_OVERHEAD) * 8 * SEC + rate_bps - 1) / rate_bps;
}

/* Takes over @pkt, which has left its sender's queue and is on the wire until @departs. */
void vnet_launch(struct vnet *net, struct vpkt *pkt, u64 departs)
{
	struct vlink *l = &net->links[pkt->src][pkt->dst];
	struct vhost *src = &net->hosts[pkt->src];

	net->launched++;
	if (l->down || vchance(&net->rng, l->loss_ppm)) {
		src->link_drops++;
		net->vanished++;
		vpkt_put(pkt);
		return;
	}
	if (vchance(&net->rng, l->corrupt_ppm)) {
		pkt = damaged(net, pkt);
		src->corrupted++;
	}
	if (vchance(&net->rng, l->dup_ppm)) {
		net->launched++;
		vnet_push(net, (struct ventry){ .at = departs + l->delay_ns / 2 + vrange(&net->rng, 0, l->reorder_ns),
						.kind = V_PORT, .p = copy_of(pkt, pkt->len) });
	}
	vnet_push(net, (struct ventry){ .at = departs + l->delay_ns / 2, .kind = V_PORT, .p = pkt });
}

/* As RED does on the instantaneous queue: the chance to be marked grows between the two limits. */
static bool marks(struct vnet *net, const struct vhost *dst, u64 queued)
{
	u32 low = dst->cfg.ecn_low, high = dst->cfg.ecn_high;

	if (!high || queued <= low)
		return false;
	return queued >= high || vchance(&net->rng, (u32)((queued - low) * 1000000 / (high - low)));
}

static void at_port(struct vnet *net, struct vpkt *pkt)
{
	struct vlink *l = &net->links[pkt->src][pkt->dst];
	struct vhost *dst = &net->hosts[pkt->dst];
	u64 waiting = dst->port_free > net->now ? dst->port_free - net->now : 0;
	u64 queued = (u64)((unsigned __int128)waiting * dst->cfg.rate_bps / (8 * SEC));
	u64 extra = 0;

	if (queued + pkt->len > dst->cfg.port_queue) {
		dst->port_drops++;
		net->vanished++;
		vpkt_put(pkt);
		return;
	}
	if ((pkt->ecn == 1 || pkt->ecn == 2) && marks(net, dst, queued)) {
		pkt->ecn = 3;
		dst->port_marks++;
	}
	dst->port_free = roce_max(dst->port_free, net->now) + wire_ns(pkt->len, dst->cfg.rate_bps);
	if (vchance(&net->rng, l->reorder_ppm))
		extra = vrange(&net->rng, 0, l->reorder_ns);
	vnet_push(net, (struct ventry){ .at = dst->port_free + (l->delay_ns - l->delay_ns / 2) + extra,
					.kind = V_DELIVER, .p = pkt });
}

static struct vpkt *forged(struct vnet *net, u32 from, u32 to, const void *data, u32 len)
{
	struct vpkt *pkt = vpkt_new(from, to, len + ROCE_ICRC_LEN);

	memcpy(pkt->data, data, len);
	pkt->forged = true;
	if (len >= ROCE_BTH_LEN)
		vnet_seal(net, pkt);
	net->launched++;
	return pkt;
}

void vnet_inject(struct vnet *net, u32 from, u32 to, const void *data, u32 len)
{
	vnet_push(net, (struct ventry){ .at = net->now, .kind = V_DELIVER, .p = forged(net, from, to, data, len) });
}

void vnet_inject_now(struct vnet *net, u32 from, u32 to, const void *data, u32 len)
{
	net->delivered++;
	vhost_deliver(&net->hosts[to], forged(net, from, to, data, len));
}

/* ---- running ---- */

void vnet_at(struct vnet *net, u64 at, void (*fn)(struct vnet *net, void *arg, u64 tag), void *arg, u64 tag)
{
	vnet_push(net, (struct ventry){ .at = roce_max(at, net->now), .kind = V_CALL, .p = arg, .fn = fn, .tag = tag });
}

static void run_entry(struct vnet *net, struct ventry *e)
{
	switch (e->kind) {
	case V_PORT:
		at_port(net, e->p);
		break;
	case V_DELIVER:
		net->delivered++;
		vhost_deliver(&net->hosts[((struct vpkt *)e->p)->dst], e->p);
		break;
	case V_NIC: {
		struct vhost *h = e->p;

		if (h->nic_wake == e->at) {
			h->nic_wake = ROCE_NEVER;
			h->dirty = true;
		}
		break;
	}
	case V_CALL:
		e->fn(net, e->p, e->tag);
		break;
	}
}

static u64 next_time(const struct vnet *net)
{
	u64 at = net->heap_len ? net->heap[0].at : ROCE_NEVER;

	for (u32 i = 0; i < net->nhosts; i++) {
		const struct vhost *h = &net->hosts[i];

		if (h->core)
			at = roce_min(at, h->dirty ? net->now : h->wake);
	}
	return at;
}

bool vnet_step(struct vnet *net, u64 until)
{
	u64 at = next_time(net);

	if (net->failed || at > until || at == ROCE_NEVER)
		return false;
	net->now = roce_max(net->now, at);
	net->steps++;
	while (net->heap_len && net->heap[0].at <= net->now) {
		struct ventry e = pop(net);

		run_entry(net, &e);
	}
	for (u32 i = 0; i < net->nhosts; i++) {
		struct vhost *h = &net->hosts[i];

		if (h->core && h->wake <= net->now)
			vhost_tick(h);
		if (h->core && h->dirty)
			vhost_serve(h);
	}
	return !net->failed;
}

bool vnet_run(struct vnet *net, u64 until)
{
	while (vnet_step(net, until))
		;
	if (!net->failed)
		net->now = roce_max(net->now, until);
	return !net->failed;
}

bool vnet_run_until(struct vnet *net, u64 until, bool (*done)(struct vnet *net))
{
	while (!done(net)) {
		if (!vnet_step(net, until))
			return false;
	}
	return !net->failed;
}

/* ---- building ---- */

void vnet_init(struct vnet *net, u64 seed)
{
	memset(net, 0, sizeof(*net));
	net->seed = seed;
	net->rng.state = seed;
	net->verbose = getenv("RACKWIRE_TRACE") != NULL;
}

struct vhost *vnet_add(struct vnet *net, const struct vhost_cfg *cfg, u64 delay_ns)
{
	u32 index = net->nhosts++;
	struct vhost *h = &net->hosts[index];

	h->net = net;
	h->index = index;
	h->cfg = *cfg;
	h->nic_wake = ROCE_NEVER;
	h->wake = ROCE_NEVER;
	for (u32 i = 0; i < net->nhosts; i++) {
		u8 a[16], b[16];

		net->links[i][index].delay_ns = delay_ns;
		net->links[index][i].delay_ns = delay_ns;
		vnet_addr(net, i, a);
		vnet_addr(net, index, b);
		roce_flow_init(&net->flows[i][index], a, b, (u16)(49152 + i), ROCE_UDP_PORT, ROCE_IP_DF);
		roce_flow_init(&net->flows[index][i], b, a, (u16)(49152 + index), ROCE_UDP_PORT, ROCE_IP_DF);
	}
	vnet_boot(h);
	return h;
}

void vnet_each_link(struct vnet *net, void (*fn)(struct vlink *l, void *arg), void *arg)
{
	for (u32 i = 0; i < net->nhosts; i++)
		for (u32 j = 0; j < net->nhosts; j++)
			if (i != j)
				fn(&net->links[i][j], arg);
}

void vnet_fini(struct vnet *net)
{
	u64 flying = 0;

	for (u32 i = 0; i < net->nhosts; i++)
		vnet_kill(&net->hosts[i]);
	while (net->heap_len) {
		struct ventry e = pop(net);

		if (e.kind == V_PORT || e.kind == V_DELIVER) {
			vpkt_put(e.p);
			flying++;
		}
	}
	free(net->heap);
	net->heap = NULL;
	net->heap_cap = 0;
	if (net->launched != net->delivered + net->vanished + flying)
		vnet_fail(net, "the network itself lost count: %llu sent, %llu delivered, %llu lost, %llu on the way",
			  (unsigned long long)net->launched, (unsigned long long)net->delivered,
			  (unsigned long long)net->vanished, (unsigned long long)flying);
}
