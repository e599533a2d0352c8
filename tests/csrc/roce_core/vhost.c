/* SPDX-License-Identifier: BSD-2-Clause */
/* One device of the virtual network: the driver of a core, as an engine would be, and its memory under watch. */
#include <stdio.h>
#include <stdlib.h>

#include "vnet_internal.h"

#define CLOCK_BASE (1ull << 50)
#define TICKS_AT_ONE_TIME 64
#define MAD_LEN 256

static const char *const slab_names[ROCE_SLABS] = { "DEV", "TABLE", "PD", "MR", "CQ", "QP", "RING", "CM" };

/* ---- clocks and addresses ---- */

static u64 clock_at(const struct vhost *h, u64 at)
{
	s64 drift = (s64)((__int128)at * h->cfg.clock_ppm / 1000000);

	return CLOCK_BASE + at + (u64)h->cfg.clock_offset_ns + (u64)drift;
}

u64 vhost_clock(const struct vhost *h)
{
	return clock_at(h, h->net->now);
}

/* The first virtual time at which the device's clock shows @local or later. */
static u64 time_of(const struct vhost *h, u64 local)
{
	__int128 x = (__int128)local - CLOCK_BASE - h->cfg.clock_offset_ns;
	u64 at;

	if (local == ROCE_NEVER || x > (__int128)1 << 62)
		return ROCE_NEVER;
	x = x * 1000000 / (1000000 + h->cfg.clock_ppm);
	at = x > 2 ? (u64)x - 2 : 0;
	while (clock_at(h, at) < local)
		at++;
	return at;
}

void vnet_addr(const struct vnet *net, u32 index, u8 addr[16])
{
	memset(addr, 0, 16);
	if (net->v6) {
		addr[0] = 0xfd;
	} else {
		addr[10] = addr[11] = 0xff;
		addr[12] = 10;
	}
	roce_put16(addr + 14, (u16)(index + 1));
}

u32 vnet_index(const struct vnet *net, const u8 addr[16])
{
	u32 index = roce_get16(addr + 14) - 1u;
	u8 same[16];

	vnet_addr(net, index, same);
	return memcmp(same, addr, 16) ? ~0u : index;
}

struct roce_path vnet_path(const struct vnet *net, u32 local, u32 peer)
{
	struct roce_path path = { 0 };

	vnet_addr(net, local, path.local);
	vnet_addr(net, peer, path.peer);
	return path;
}

/* ---- what the core asks of its driver ---- */

static bool varies(enum roce_slab slab)
{
	return slab == ROCE_SLAB_TABLE || slab == ROCE_SLAB_RING;
}

static void *op_alloc(void *ctx, enum roce_slab slab, size_t size)
{
	struct vhost *h = ctx;
	struct vmem *m = &h->mem;
	u64 number = m->allocs++;
	void *ptr;

	if (m->fail_count && number >= m->fail_from && number - m->fail_from < m->fail_count)
		return NULL;
	if (vchance(&m->fail_rng, m->fail_ppm))
		return NULL;
	if (!varies(slab)) {
		if (m->size[slab] && m->size[slab] != size)
			vnet_fail(h->net, "slab %s changed its size", slab_names[slab]);
		m->size[slab] = size;
	}
	ptr = calloc(1, size);
	if (!ptr)
		abort();
	m->count[slab]++;
	m->bytes[slab] += size;
	m->total += size;
	m->peak = roce_max(m->peak, m->total);
	return ptr;
}

static void op_free(void *ctx, enum roce_slab slab, void *ptr, size_t size)
{
	struct vhost *h = ctx;
	struct vmem *m = &h->mem;

	if (!m->count[slab] || m->bytes[slab] < size || (!varies(slab) && m->size[slab] != size))
		vnet_fail(h->net, "slab %s: a free does not match what was allocated", slab_names[slab]);
	m->count[slab]--;
	m->bytes[slab] -= size;
	m->total -= size;
	memset(ptr, 0xdd, size); /* ASan reports here when there is less than that */
	free(ptr);
}

static const struct roce_ops host_ops = {
	.alloc = op_alloc,
	.free = op_free,
};

/* ---- life ---- */

bool vnet_boot(struct vhost *h)
{
	u64 seed[2] = { vrand(&h->net->rng), vrand(&h->net->rng) };
	const char *field = "?";

	h->life++;
	h->tx_packets = h->tx_bytes = h->rx_packets = 0;
	if (roce_cfg_check(&h->cfg.roce, &field)) {
		vnet_fail(h->net, "the configuration of device %u is refused: %s", h->index, field);
		return false;
	}
	h->core = roce_dev_create(&h->cfg.roce, &host_ops, h, seed, vhost_clock(h));
	if (!h->core) {
		if (!h->mem.fail_count && !h->mem.fail_ppm)
			vnet_fail(h->net, "device %u cannot be created", h->index);
		return false;
	}
	vhost_touch(h);
	return true;
}

/* What the core says of its packets is what the wire saw. */
static void audit(struct vhost *h)
{
	struct rackwire_roce_dev_stats stats;

	roce_dev_stats(h->core, &stats);
	if (stats.tx_packets != h->tx_packets || stats.tx_bytes != h->tx_bytes || stats.rx_packets != h->rx_packets)
		vnet_fail(h->net, "device %u counts %llu packets of %llu bytes out and %llu in, the wire %llu, %llu and %llu",
			  h->index, (unsigned long long)stats.tx_packets, (unsigned long long)stats.tx_bytes,
			  (unsigned long long)stats.rx_packets, (unsigned long long)h->tx_packets,
			  (unsigned long long)h->tx_bytes, (unsigned long long)h->rx_packets);
}

void vnet_kill(struct vhost *h)
{
	if (h->core) {
		audit(h);
		if (h->net->ops.dying)
			h->net->ops.dying(h);
		roce_dev_destroy(h->core);
	}
	h->core = NULL;
	h->dirty = false;
	h->wake = ROCE_NEVER;
	for (u32 i = 0; i < ROCE_SLABS; i++)
		if (h->mem.count[i] || h->mem.bytes[i])
			vnet_fail(h->net, "device %u destroyed, %llu of slab %s left", h->index,
				  (unsigned long long)h->mem.count[i], slab_names[i]);
}

/* ---- packets in ---- */

static void narrate(struct vhost *h, const char *what, const struct vpkt *pkt)
{
	struct roce_pkt p;

	printf("# %12llu %s %u->%u len %u ", (unsigned long long)h->net->now, what, pkt->src, pkt->dst, pkt->len);
	if (pkt->len < ROCE_ICRC_LEN || roce_decode(&p, pkt->data, pkt->len - ROCE_ICRC_LEN)) {
		printf("undecodable\n");
		return;
	}
	printf("%s qp %x psn %06x%s%s", roce_opcode_name(p.opcode), p.dest_qpn, p.psn, p.ackreq ? " ackreq" : "",
	       pkt->ecn == 3 ? " marked" : "");
	if (roce_op(p.opcode) & (ROCE_OP_RETH | ROCE_OP_ATOMICETH))
		printf(" va %llx key %x len %u", (unsigned long long)p.va, p.rkey, p.dma_len);
	if (roce_op(p.opcode) & ROCE_OP_AETH)
		printf(" %s (%02x) msn %u", roce_syn_name(p.syndrome), p.syndrome, p.msn);
	if (p.dest_qpn == ROCE_QP_CM && p.payload_len >= 18)
		printf(" MAD attribute %x tid %llx", roce_get16(pkt->data + p.hdr_len + 16),
		       (unsigned long long)roce_get64(pkt->data + p.hdr_len + 8));
	printf(" payload %u\n", p.payload_len);
}

static bool icrc_right(const struct vnet *net, const struct vpkt *pkt)
{
	u32 len = pkt->len - ROCE_ICRC_LEN;

	if (pkt->len < ROCE_BTH_LEN + ROCE_ICRC_LEN)
		return false;
	return roce_icrc_get(pkt->data + len) ==
	       roce_icrc(&net->flows[pkt->src][pkt->dst], roce_crc32_fast(), pkt->ip_id, pkt->data, len);
}

void vhost_deliver(struct vhost *h, struct vpkt *pkt)
{
	struct vnet *net = h->net;
	struct roce_rxpkt rx = { .ecn = pkt->ecn, .path = vnet_path(net, pkt->dst, pkt->src) };
	u8 *exact;

	if (h->core && net->verbose)
		narrate(h, pkt->corrupt ? "BAD " : "got ", pkt);
	if (!h->core) {
		vpkt_put(pkt);
		return;
	}
	if (!pkt->forged && icrc_right(net, pkt) == pkt->corrupt)
		vnet_fail(net, "device %u: the ICRC of a%s packet is %s", h->index, pkt->corrupt ? " damaged" : "n intact",
			  pkt->corrupt ? "right" : "wrong");
	if (pkt->corrupt) {
		h->bad_icrc++;
		vpkt_put(pkt);
		return;
	}
	if (net->ops.delivering && !net->ops.delivering(h, pkt)) {
		vpkt_put(pkt);
		return;
	}
	/* Memory of just that size, gone right after: nobody reads beyond it or later. */
	rx.len = pkt->len - ROCE_ICRC_LEN;
	exact = malloc(rx.len ? rx.len : 1);
	if (!exact)
		abort();
	memcpy(exact, pkt->data, rx.len);
	rx.data = exact;
	h->rx_packets++;
	roce_rx(h->core, vhost_clock(h), &rx);
	h->dirty = true;
	free(exact);
	vpkt_put(pkt);
}

/* ---- packets out ---- */

static bool sane(struct vhost *h, const struct roce_txpkt *tx, u32 dst)
{
	u32 most = h->cfg.roce.mtu, frags = 0;

	for (u32 i = 0; i < tx->nfrags && i < ROCE_TX_FRAGS; i++)
		frags += tx->frags[i].len;
	if (tx->hdr_len >= ROCE_BTH_LEN && roce_get24(tx->hdr + 5) == ROCE_QP_CM)
		most = MAD_LEN;
	if (tx->hdr_len < ROCE_BTH_LEN || tx->hdr_len > ROCE_HDR_MAX || tx->nfrags > ROCE_TX_FRAGS ||
	    frags != tx->payload_len || tx->payload_len > most || tx->pad != (-tx->payload_len & 3) ||
	    (tx->ecn != 0 && tx->ecn != 2)) {
		vnet_fail(h->net, "device %u: a packet of %u + %u bytes, pad %u, in %u pieces of %u, ECN %u", h->index,
			  tx->hdr_len, tx->payload_len, tx->pad, tx->nfrags, frags, tx->ecn);
		return false;
	}
	if (vnet_index(h->net, tx->path->local) != h->index || dst == h->index) {
		vnet_fail(h->net, "device %u sends from or to the wrong address", h->index);
		return false;
	}
	return true;
}

static void mix(struct vnet *net, u64 v)
{
	struct vrng r = { net->hash ^ v };

	net->hash = vrand(&r);
}

static void transmit(struct vhost *h, const struct roce_txpkt *tx)
{
	struct vnet *net = h->net;
	u32 dst = vnet_index(net, tx->path->peer), at;
	struct vpkt *pkt;

	if (!sane(h, tx, dst))
		return;
	pkt = vpkt_new(h->index, dst, tx->hdr_len + tx->payload_len + tx->pad + ROCE_ICRC_LEN);
	pkt->ecn = tx->ecn;
	pkt->ip_id = net->v6 ? 0 : (u16)vrand(&net->rng);
	memcpy(pkt->data, tx->hdr, tx->hdr_len);
	at = tx->hdr_len;
	for (u32 i = 0; i < tx->nfrags; i++) {
		if (tx->frags[i].len)
			memcpy(pkt->data + at, tx->frags[i].ptr, tx->frags[i].len);
		at += tx->frags[i].len;
	}
	memset(pkt->data + at, 0, tx->pad + ROCE_ICRC_LEN);
	if (dst < net->nhosts)
		vnet_seal(net, pkt);
	h->tx_packets++;
	h->tx_bytes += pkt->len;
	h->last_tx = net->now;
	net->packets++;
	mix(net, net->now);
	mix(net, roce_crc32_fast()(0, pkt->data, pkt->len));
	h->nic_free = roce_max(h->nic_free, net->now) + (u64)pkt->len * 8 * SEC / h->cfg.rate_bps;
	if (net->verbose)
		narrate(h, "sent", pkt);
	if ((net->ops.sent && !net->ops.sent(h, pkt, tx)) || dst >= net->nhosts) {
		vpkt_put(pkt);
		return;
	}
	vnet_launch(net, pkt, h->nic_free);
}

static bool pump(struct vhost *h)
{
	struct vnet *net = h->net;
	u64 room_ns = (u64)h->cfg.nic_queue * 8 * SEC / h->cfg.rate_bps;
	bool any = false;

	while (!net->failed) {
		u8 hdr[ROCE_HDR_MAX];
		struct roce_txpkt tx = { .hdr = hdr };

		if (h->nic_free >= net->now + room_ns && h->nic_free > net->now) {
			if (h->nic_wake == ROCE_NEVER) {
				h->nic_wake = roce_max(h->nic_free - room_ns / 2, net->now + 1);
				vnet_push(net, (struct ventry){ .at = h->nic_wake, .kind = V_NIC, .p = h });
			}
			break;
		}
		memset(hdr, 0xa7, sizeof(hdr));
		if (!roce_poll_tx(h->core, vhost_clock(h), &tx))
			break;
		transmit(h, &tx);
		any = true;
	}
	return any;
}

/* ---- the driver's loop ---- */

void vhost_touch(struct vhost *h)
{
	h->dirty = true;
}

void vhost_tick(struct vhost *h)
{
	if (h->tick_at != h->net->now)
		h->ticks_at = 0;
	h->tick_at = h->net->now;
	if (++h->ticks_at > TICKS_AT_ONE_TIME)
		vnet_fail(h->net, "device %u: the core asks for one tick after another at the same time", h->index);
	roce_tick(h->core, vhost_clock(h));
	h->dirty = true;
}

static void check_caps(struct vhost *h)
{
	const struct roce_cfg *c = &h->cfg.roce;
	const u64 *count = h->mem.count;
	struct roce_info info;

	roce_dev_info(h->core, &info);

	if (count[ROCE_SLAB_QP] > c->max_qps || count[ROCE_SLAB_MR] > c->max_mrs || count[ROCE_SLAB_PD] > c->max_pds ||
	    count[ROCE_SLAB_CQ] > c->max_cqs || count[ROCE_SLAB_CM] > c->max_cm_ids ||
	    info.half_open > c->max_half_open)
		vnet_fail(h->net, "device %u allocates beyond its caps: %llu queue pairs, %llu regions, %u ids", h->index,
			  (unsigned long long)count[ROCE_SLAB_QP], (unsigned long long)count[ROCE_SLAB_MR], info.cm_ids);
}

void vhost_serve(struct vhost *h)
{
	struct vnet *net = h->net;
	struct roce_event ev;
	bool more = true;
	u32 rounds = 0;
	u64 deadline;

	while (more && h->core && !net->failed) {
		more = false;
		memset(&ev, 0, sizeof(ev));
		while (h->core && !net->failed && roce_poll_event(h->core, &ev)) {
			if (net->ops.event)
				net->ops.event(h, &ev);
			memset(&ev, 0, sizeof(ev));
			more = true;
		}
		if (h->core && net->ops.served && net->ops.served(h))
			more = true;
		if (h->core && pump(h))
			more = true;
		/* Somebody who polls all the time sees what was completed without a packet, too. */
		if (h->core && !more && net->ops.served && net->ops.served(h))
			more = true;
		if (++rounds > 100000)
			vnet_fail(net, "device %u: events and packets without end", h->index);
	}
	h->dirty = false;
	if (!h->core)
		return;
	check_caps(h);
	deadline = time_of(h, roce_next_deadline(h->core));
	h->wake = roce_max(deadline, net->now);
	if (deadline != ROCE_NEVER && h->cfg.timer_slop_ns)
		h->wake += vrange(&net->rng, 0, h->cfg.timer_slop_ns);
}
