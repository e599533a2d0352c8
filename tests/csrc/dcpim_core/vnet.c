/* SPDX-License-Identifier: BSD-2-Clause */
/* Time, links and the switch of the virtual network; vhost.c has the hosts. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "vnet_internal.h"

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

static u64 pattern_word(u64 seed, u64 index)
{
	struct vrng r = { seed + index * 0xd1342543de82ef95ull };

	return vrand(&r);
}

void vpattern_fill(u64 seed, u64 offset, u8 *out, u32 len)
{
	u32 done = 0;

	while (done < len) {
		u64 at = offset + done, word = pattern_word(seed, at >> 3);
		u32 skip = (u32)(at & 7), n = 8 - skip;

		if (n > len - done)
			n = len - done;
		memcpy(out + done, (u8 *)&word + skip, n);
		done += n;
	}
}

bool vpattern_check(u64 seed, u64 offset, const u8 *data, u32 len)
{
	u32 done = 0;

	while (done < len) {
		u64 at = offset + done, word = pattern_word(seed, at >> 3);
		u32 skip = (u32)(at & 7), n = 8 - skip;

		if (n > len - done)
			n = len - done;
		if (memcmp(data + done, (u8 *)&word + skip, n))
			return false;
		done += n;
	}
	return true;
}

u64 vnet_env_seed(u64 fallback, bool *given)
{
	const char *text = getenv("RACKWIRE_SEED");

	if (given)
		*given = text && *text;
	return text && *text ? strtoull(text, NULL, 0) : fallback;
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

void vnet_default_cfg(struct vhost_cfg *cfg, u64 rate_bps, u64 one_way_ns, u32 max_packet)
{
	struct dcpim_cfg *d = &cfg->dcpim;
	u64 packet_ns = (u64)max_packet * 8 * SEC / rate_bps;

	memset(cfg, 0, sizeof(*cfg));
	dcpim_cfg_default(d);
	d->rate_bps = rate_bps;
	d->max_packet = max_packet;
	d->ctrl_rtt_ns = dcpim_max(2 * one_way_ns + 4 * packet_ns, USEC);
	d->data_rtt_ns = dcpim_max(2 * one_way_ns + 8 * packet_ns, USEC);
	d->rto_min_ns = 4 * d->data_rtt_ns;
	d->rto_max_ns = 64 * d->data_rtt_ns;
	d->ack_delay_ns = d->data_rtt_ns / 2;
	d->dead_after_ns = 40 * d->rto_max_ns;
	d->connect_timeout_ns = 40 * d->rto_max_ns;
	d->keepalive_ns = 0;
	d->timewait_ns = 2 * d->rto_max_ns;
	d->timer_gran_ns = 1;
	d->max_flows = 64;
	d->max_peers = 16;
	d->max_msgs = 1024;
	d->max_segs = 65536;
	cfg->rate_bps = rate_bps;
	cfg->nic_queue = 2 * max_packet;
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
	pkt->from = vnet_path(src);
	pkt->len = len;
	return pkt;
}

void vpkt_put(struct vpkt *pkt)
{
	if (!--pkt->refs)
		free(pkt);
}

static struct vpkt *damaged(struct vnet *net, struct vpkt *pkt)
{
	u32 len = pkt->len;
	struct vpkt *copy;

	if (vchance(&net->rng, 100000)) /* now and then it arrives cut off */
		len = (u32)vrange(&net->rng, 1, pkt->len);
	copy = vpkt_new(pkt->src, pkt->dst, len);
	memcpy(copy->data, pkt->data, len);
	if (vchance(&net->rng, 300000)) {
		u32 from = (u32)vrange(&net->rng, 0, len - 1);
		u32 n = (u32)vrange(&net->rng, 1, dcpim_min(len - from, 40));

		for (u32 i = 0; i < n; i++)
			copy->data[from + i] = (u8)vrand(&net->rng);
	} else {
		for (u32 n = (u32)vrange(&net->rng, 1, 3); n; n--)
			copy->data[vrange(&net->rng, 0, len - 1)] ^= (u8)(1u << (vrand(&net->rng) & 7));
	}
	copy->corrupt = len != pkt->len || memcmp(copy->data, pkt->data, len);
	vpkt_put(pkt);
	return copy;
}

static u64 wire_ns(u32 len, u64 rate_bps)
{
	return ((u64)len * 8 * SEC + rate_bps - 1) / rate_bps;
}

static void mtu_report(struct vnet *net, void *arg, u64 tag)
{
	struct vhost *h = arg;
	struct dcpim_path to = vnet_path((u32)(tag >> 32));

	(void)net;
	if (!h->core)
		return;
	dcpim_path_mtu(h->core, &to, (u32)tag);
	vhost_touch(h);
}

/* Takes over @pkt, which has left its sender's queue and is on the wire until @departs. */
void vnet_launch(struct vnet *net, struct vpkt *pkt, u64 departs)
{
	struct vlink *l = &net->links[pkt->src][pkt->dst];
	struct vhost *src = &net->hosts[pkt->src];

	if (l->mtu && pkt->len > l->mtu) {
		vnet_at(net, departs + l->delay_ns, mtu_report, src, (u64)pkt->dst << 32 | l->mtu);
		src->link_drops++;
		vpkt_put(pkt);
		return;
	}
	if (l->down || vchance(&net->rng, l->loss_ppm)) {
		src->link_drops++;
		vpkt_put(pkt);
		return;
	}
	if (vchance(&net->rng, l->corrupt_ppm)) {
		pkt = damaged(net, pkt);
		src->corrupted++;
	}
	if (vchance(&net->rng, l->dup_ppm)) {
		pkt->refs++;
		vnet_push(net, (struct ventry){ .at = departs + l->delay_ns / 2 + vrange(&net->rng, 0, l->reorder_ns),
						.kind = V_PORT, .p = pkt });
	}
	vnet_push(net, (struct ventry){ .at = departs + l->delay_ns / 2, .kind = V_PORT, .p = pkt });
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
		vpkt_put(pkt);
		return;
	}
	if (queued > dst->port_peak)
		dst->port_peak = queued;
	dst->port_free = dcpim_max(dst->port_free, net->now) + wire_ns(pkt->len, dst->cfg.rate_bps);
	if (vchance(&net->rng, l->reorder_ppm))
		extra = vrange(&net->rng, 0, l->reorder_ns);
	vnet_push(net, (struct ventry){ .at = dst->port_free + (l->delay_ns - l->delay_ns / 2) + extra,
					.kind = V_DELIVER, .p = pkt });
}

/* ---- running ---- */

void vnet_at(struct vnet *net, u64 at, void (*fn)(struct vnet *net, void *arg, u64 tag), void *arg, u64 tag)
{
	vnet_push(net, (struct ventry){ .at = dcpim_max(at, net->now), .kind = V_CALL, .p = arg, .fn = fn, .tag = tag });
}

static void run_entry(struct vnet *net, struct ventry *e)
{
	switch (e->kind) {
	case V_PORT:
		at_port(net, e->p);
		break;
	case V_DELIVER:
		vhost_deliver(&net->hosts[((struct vpkt *)e->p)->dst], e->p);
		break;
	case V_NIC: {
		struct vhost *h = e->p;

		if (h->nic_wake == e->at) {
			h->nic_wake = DCPIM_NEVER;
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
	u64 at = net->heap_len ? net->heap[0].at : DCPIM_NEVER;

	for (u32 i = 0; i < net->nhosts; i++) {
		const struct vhost *h = &net->hosts[i];

		if (h->core)
			at = dcpim_min(at, h->dirty ? net->now : h->wake);
	}
	return at;
}

bool vnet_step(struct vnet *net, u64 until)
{
	u64 at = next_time(net);

	if (net->failed || at > until || at == DCPIM_NEVER)
		return false;
	net->now = dcpim_max(net->now, at);
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
		net->now = dcpim_max(net->now, until);
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
	h->nic_wake = DCPIM_NEVER;
	h->wake = DCPIM_NEVER;
	for (u32 i = 0; i < net->nhosts; i++) {
		net->links[i][index].delay_ns = delay_ns;
		net->links[index][i].delay_ns = delay_ns;
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
	for (u32 i = 0; i < net->nhosts; i++)
		vnet_kill(&net->hosts[i]);
	while (net->heap_len) {
		struct ventry e = pop(net);

		if (e.kind == V_PORT || e.kind == V_DELIVER)
			vpkt_put(e.p);
	}
	free(net->heap);
	net->heap = NULL;
	net->heap_cap = 0;
}

void vnet_inject(struct vnet *net, u32 from, u32 to, const void *data, u32 len)
{
	struct vpkt *pkt = vpkt_new(from, to, len);

	memcpy(pkt->data, data, len);
	vnet_push(net, (struct ventry){ .at = net->now, .kind = V_DELIVER, .p = pkt });
}

void vnet_inject_pkt(struct vnet *net, u32 from, u32 to, const struct dcpim_pkt *p, const void *payload,
		     u32 payload_len)
{
	u8 hdr[DCPIM_HDR_MAX];
	u32 hdr_len = dcpim_encode(p, payload_len, hdr);
	struct vpkt *pkt = vpkt_new(from, to, hdr_len + payload_len);

	if (net->hosts[to].cfg.dcpim.flags & DCPIM_CFG_CRC) {
		u32 crc = dcpim_seal_start(hdr, hdr_len);

		dcpim_seal(hdr, hdr_len, dcpim_crc32c(crc, payload, payload_len));
	}
	memcpy(pkt->data, hdr, hdr_len);
	if (payload_len)
		memcpy(pkt->data + hdr_len, payload, payload_len);
	vnet_push(net, (struct ventry){ .at = net->now, .kind = V_DELIVER, .p = pkt });
}
