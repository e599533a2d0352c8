/* SPDX-License-Identifier: BSD-2-Clause */
/* One host of the virtual network: the driver of a core, as an engine would be, and its memory under watch. */
#include <stdio.h>
#include <stdlib.h>

#include "vnet_internal.h"

#define CLOCK_BASE (1ull << 50)
#define TICKS_AT_ONE_TIME 64

u16 vnet_port = 4790;

static const char *const slab_names[DCPIM_SLABS] = { "HOST", "TABLE", "LISTENER", "PEER",
						     "FLOW", "MSG",   "SEG",	  "SPAN" };

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

/* The first virtual time at which the host's clock shows @local or later. */
static u64 time_of(const struct vhost *h, u64 local)
{
	__int128 x = (__int128)local - CLOCK_BASE - h->cfg.clock_offset_ns;
	u64 at;

	if (local == DCPIM_NEVER || x > (__int128)1 << 62)
		return DCPIM_NEVER;
	x = x * 1000000 / (1000000 + h->cfg.clock_ppm);
	at = x > 2 ? (u64)x - 2 : 0;
	while (clock_at(h, at) < local)
		at++;
	return at;
}

struct dcpim_path vnet_path(u32 index)
{
	struct dcpim_path path = { .port = vnet_port };

	path.addr[10] = path.addr[11] = 0xff;
	path.addr[12] = 10;
	dcpim_put16(path.addr + 14, (u16)(index + 1));
	return path;
}

u32 vnet_index(const struct dcpim_path *path)
{
	struct dcpim_path same = vnet_path(dcpim_get16(path->addr + 14) - 1u);

	if (memcmp(same.addr, path->addr, 16) || path->port != vnet_port)
		return ~0u;
	return dcpim_get16(path->addr + 14) - 1u;
}

/* ---- what the core asks of its driver ---- */

static void *op_alloc(void *ctx, enum dcpim_slab slab, size_t size)
{
	struct vhost *h = ctx;
	struct vmem *m = &h->mem;
	u64 number = m->allocs++;
	void *ptr;

	if (m->fail_count && number >= m->fail_from && number - m->fail_from < m->fail_count)
		return NULL;
	if (vchance(&m->fail_rng, m->fail_ppm))
		return NULL;
	if (slab != DCPIM_SLAB_TABLE) {
		if (m->size[slab] && m->size[slab] != size)
			vnet_fail(h->net, "slab %s changed its size", slab_names[slab]);
		m->size[slab] = size;
	}
	ptr = calloc(1, size);
	if (!ptr)
		abort();
	m->count[slab]++;
	m->bytes[slab] += size;
	return ptr;
}

static void op_free(void *ctx, enum dcpim_slab slab, void *ptr, size_t size)
{
	struct vhost *h = ctx;
	struct vmem *m = &h->mem;

	if (!m->count[slab] || m->bytes[slab] < size || (slab != DCPIM_SLAB_TABLE && m->size[slab] != size))
		vnet_fail(h->net, "slab %s: a free does not match what was allocated", slab_names[slab]);
	m->freed[slab]++;
	m->count[slab]--;
	m->bytes[slab] -= size;
	memset(ptr, 0xdd, size);
	free(ptr);
}

static int op_hold(void *ctx, const struct dcpim_buf *in, struct dcpim_buf *out)
{
	struct vhost *h = ctx;
	struct vpkt *pkt = in->cookie;
	struct vhold *hold;
	u64 number = h->mem.allocs++;

	if (in->ptr < pkt->data || in->len == 0 || in->ptr + in->len > pkt->data + pkt->len) {
		vnet_fail(h->net, "hold of bytes outside of the packet");
		return -ENOMEM;
	}
	if (h->mem.fail_count && number >= h->mem.fail_from && number - h->mem.fail_from < h->mem.fail_count)
		return -ENOMEM;
	if (vchance(&h->mem.fail_rng, h->mem.fail_ppm))
		return -ENOMEM;
	if (h->cfg.copy_on_hold) {
		hold = vhold_new(h, in->len);
		memcpy(hold->bytes, in->ptr, in->len);
	} else {
		hold = vhold_new(h, 0);
		hold->pkt = pkt;
		hold->ptr = in->ptr;
		hold->len = in->len;
		pkt->refs++;
	}
	hold->rx = true;
	h->mem.held_rx_bytes += in->len;
	*out = vhold_buf(hold);
	return 0;
}

static void op_put(void *ctx, const struct dcpim_buf *buf)
{
	struct vhost *h = ctx;
	struct vhold *hold = buf->cookie;

	/* A second put of the same buffer is a use after free, which ASan reports here. */
	if (hold->host != h)
		vnet_fail(h->net, "put of another host's buffer");
	if (buf->ptr < hold->ptr || buf->ptr + buf->len > hold->ptr + hold->len)
		vnet_fail(h->net, "put of bytes outside of the buffer");
	vhold_drop(hold);
}

static void op_trace(void *ctx, u64 now, u32 what, const struct dcpim_path *peer, u64 a, u64 b)
{
	struct vhost *h = ctx;

	(void)now;
	if (h->net->ops.trace)
		h->net->ops.trace(h, what, peer, a, b);
}

static const struct dcpim_ops host_ops = {
	.alloc = op_alloc,
	.free = op_free,
	.hold = op_hold,
	.put = op_put,
	.trace = op_trace,
};

struct vhold *vhold_new(struct vhost *h, u32 len)
{
	struct vhold *hold = malloc(sizeof(*hold) + len);

	if (!hold)
		abort();
	memset(hold, 0, sizeof(*hold));
	hold->host = h;
	hold->ptr = hold->bytes;
	hold->len = len;
	h->mem.holds++;
	return hold;
}

void vhold_drop(struct vhold *hold)
{
	struct vhost *h = hold->host;

	h->mem.holds--;
	if (hold->rx)
		h->mem.held_rx_bytes -= hold->len;
	if (hold->pkt)
		vpkt_put(hold->pkt);
	free(hold);
}

struct dcpim_buf vhold_buf(struct vhold *hold)
{
	return (struct dcpim_buf){ .ptr = hold->ptr, .len = hold->len, .cookie = hold };
}

/* ---- life ---- */

bool vnet_boot(struct vhost *h)
{
	u64 seed[2] = { vrand(&h->net->rng), vrand(&h->net->rng) };
	const char *field = "?";

	h->life++;
	memset(&h->mem.count, 0, sizeof(h->mem.count));
	if (dcpim_cfg_check(&h->cfg.dcpim, &field)) {
		vnet_fail(h->net, "the configuration of host %u is refused: %s", h->index, field);
		return false;
	}
	h->core = dcpim_host_create(&h->cfg.dcpim, &host_ops, h, seed, vhost_clock(h));
	if (!h->core) {
		if (!h->mem.fail_count && !h->mem.fail_ppm)
			vnet_fail(h->net, "host %u cannot be created", h->index);
		return false;
	}
	vhost_touch(h);
	return true;
}

void vnet_kill(struct vhost *h)
{
	if (h->core) {
		if (h->net->ops.dying)
			h->net->ops.dying(h);
		dcpim_host_destroy(h->core);
	}
	h->core = NULL;
	h->dirty = false;
	h->wake = DCPIM_NEVER;
	for (u32 i = 0; i < DCPIM_SLABS; i++)
		if (h->mem.count[i] || h->mem.bytes[i])
			vnet_fail(h->net, "host %u destroyed, %llu of slab %s left", h->index,
				  (unsigned long long)h->mem.count[i], slab_names[i]);
	if (h->mem.holds)
		vnet_fail(h->net, "host %u destroyed, %llu buffers still held", h->index,
			  (unsigned long long)h->mem.holds);
}

/* ---- packets in ---- */

static void narrate(struct vhost *h, const char *what, const struct vpkt *pkt, const struct dcpim_pkt *p, int decoded)
{
	printf("# %12llu %s %u->%u len %u ", (unsigned long long)h->net->now, what, pkt->src, pkt->dst, pkt->len);
	if (decoded) {
		printf("undecodable\n");
		return;
	}
	printf("%s %u>%u tag %08x flags %x", dcpim_type_name(p->type), p->sport, p->dport, p->tag, p->flags);
	switch (p->type) {
	case DCPIM_DATA:
		printf(" off %llu ahead %u", (unsigned long long)p->u.data.offset, p->u.data.ahead);
		break;
	case DCPIM_TOKEN:
	case DCPIM_ACK:
		printf(" rcv_nxt %llu token %llu wnd %llu rtx %u sacks %u", (unsigned long long)p->u.token.rcv_nxt,
		       (unsigned long long)p->u.token.token_nxt, (unsigned long long)p->u.token.wnd_edge,
		       p->u.token.rtx_end, p->nblocks);
		break;
	case DCPIM_DATA_MSG:
		printf(" msg %llu off %u size %u", (unsigned long long)p->u.data_msg.msg_id, p->u.data_msg.offset,
		       p->u.data_msg.size);
		break;
	case DCPIM_TOKEN_MSG:
		printf(" msg %llu rcv_nxt %u token %u rtx %u sacks %u", (unsigned long long)p->u.token_msg.msg_id,
		       p->u.token_msg.rcv_nxt, p->u.token_msg.token_nxt, p->u.token_msg.rtx_end, p->nblocks);
		break;
	case DCPIM_RTS:
	case DCPIM_GRANT:
	case DCPIM_ACCEPT:
	case DCPIM_REVOKE:
		printf(" epoch %llu round %u channels %u remaining %u", (unsigned long long)p->u.match.epoch,
		       p->u.match.round, p->u.match.channels, p->u.match.remaining);
		break;
	case DCPIM_DEMAND:
		printf(" end %llu sent %llu", (unsigned long long)p->u.demand.end, (unsigned long long)p->u.demand.sent);
		break;
	case DCPIM_FIN:
		printf(" final %llu", (unsigned long long)p->u.fin.final_offset);
		break;
	case DCPIM_FIN_MSG:
		printf(" cum %llu credit %llu ranges %u", (unsigned long long)p->u.fin_msg.cum,
		       (unsigned long long)p->u.fin_msg.credit, p->nblocks);
		break;
	case DCPIM_NOTIFICATION_MSG:
		printf(" msg %llu size %u sent %u", (unsigned long long)p->u.note_msg.msg_id, p->u.note_msg.size,
		       p->u.note_msg.sent);
		break;
	}
	printf("\n");
}

void vhost_deliver(struct vhost *h, struct vpkt *pkt)
{
	struct dcpim_rxpkt rx = { .hdr = pkt->data, .hdr_avail = pkt->len, .total = pkt->len, .cookie = pkt, .path = pkt->from };
	struct vpkt *head = NULL, *body = NULL;
	struct dcpim_pkt p;
	int decoded = dcpim_decode(pkt->data, pkt->len, pkt->len, &p);

	if (h->core && h->net->verbose)
		narrate(h, "got ", pkt, &p, decoded);
	if (!h->core || (h->net->ops.delivering && !h->net->ops.delivering(h, pkt, &p, decoded))) {
		vpkt_put(pkt);
		return;
	}
	if (h->cfg.split_rx && !decoded && p.hdr_len < pkt->len) {
		head = vpkt_new(pkt->src, pkt->dst, p.hdr_len);
		body = vpkt_new(pkt->src, pkt->dst, pkt->len - p.hdr_len);
		memcpy(head->data, pkt->data, p.hdr_len);
		memcpy(body->data, pkt->data + p.hdr_len, pkt->len - p.hdr_len);
		rx.hdr = head->data;
		rx.hdr_avail = p.hdr_len;
		rx.payload = body->data;
		rx.cookie = body;
	}
	dcpim_rx(h->core, vhost_clock(h), &rx);
	h->dirty = true;
	if (head) {
		vpkt_put(head);
		vpkt_put(body);
	}
	vpkt_put(pkt);
}

/* ---- packets out ---- */

/* Everything a core sends decodes, and holds no byte that encoding the decoded fields would not write. */
static bool well_formed(struct vhost *h, const struct dcpim_txpkt *tx, const struct vpkt *pkt, struct dcpim_pkt *p)
{
	bool crc = h->cfg.dcpim.flags & DCPIM_CFG_CRC;
	int err = dcpim_decode(pkt->data, pkt->len, pkt->len, p);
	u8 again[DCPIM_HDR_MAX];
	u32 len;

	if (err) {
		for (u32 i = 0; h->net->verbose && i < tx->hdr_len; i++)
			printf("%s%02x%s", i ? "" : "# ", pkt->data[i], i + 1 < tx->hdr_len ? "" : "\n");
		vnet_fail(h->net, "host %u sends a packet of type 0x%x that decodes as %d", h->index, tx->type, err);
		return false;
	}
	if (p->type != tx->type || p->hdr_len != tx->hdr_len || p->len != pkt->len || tx->priority > 7) {
		vnet_fail(h->net, "host %u: the packet and its description differ", h->index);
		return false;
	}
	if (crc != !!(p->flags & DCPIM_F_CRC)) {
		vnet_fail(h->net, "host %u sends %s with%s CRC", h->index, dcpim_type_name(p->type), crc ? "out" : "");
		return false;
	}
	if (crc) {
		u32 sum = dcpim_crc_header(pkt->data, p->hdr_len);

		if (dcpim_crc32c(sum, pkt->data + p->hdr_len, pkt->len - p->hdr_len) != dcpim_crc_of(pkt->data)) {
			vnet_fail(h->net, "host %u sends %s with a wrong CRC", h->index, dcpim_type_name(p->type));
			return false;
		}
		return true;
	}
	memset(again, 0x5a, sizeof(again));
	len = dcpim_encode(p, pkt->len - p->hdr_len, again);
	if (len != p->hdr_len || memcmp(again, pkt->data, len)) {
		vnet_fail(h->net, "host %u: %s does not survive decoding and encoding", h->index, dcpim_type_name(p->type));
		return false;
	}
	return true;
}

static void transmit(struct vhost *h, const struct dcpim_txpkt *tx)
{
	struct vnet *net = h->net;
	u32 len = tx->hdr_len, dst = vnet_index(tx->path);
	struct dcpim_pkt p;
	struct vpkt *pkt;

	for (u32 i = 0; i < tx->nfrags && i < DCPIM_TX_FRAGS; i++)
		len += tx->frags[i].len;
	if (tx->nfrags > DCPIM_TX_FRAGS || len != tx->hdr_len + tx->payload_len || tx->hdr_len > DCPIM_HDR_MAX ||
	    len > h->cfg.dcpim.max_packet) {
		vnet_fail(net, "host %u: a packet of %u + %u bytes in %u pieces", h->index, tx->hdr_len, tx->payload_len,
			  tx->nfrags);
		return;
	}
	pkt = vpkt_new(h->index, dst, len);
	memcpy(pkt->data, tx->hdr, tx->hdr_len);
	len = tx->hdr_len;
	for (u32 i = 0; i < tx->nfrags; i++) {
		memcpy(pkt->data + len, tx->frags[i].ptr, tx->frags[i].len);
		len += tx->frags[i].len;
	}
	if (!well_formed(h, tx, pkt, &p)) {
		vpkt_put(pkt);
		return;
	}
	h->tx_packets++;
	h->tx_bytes += len;
	if (p.type != DCPIM_KEEPALIVE && p.type != DCPIM_KEEPALIVE_ACK)
		h->last_tx = net->now;
	net->packets++;
	h->nic_free = dcpim_max(h->nic_free, net->now) + (u64)len * 8 * SEC / h->cfg.rate_bps;
	if (net->verbose)
		narrate(h, "sent", pkt, &p, 0);
	if (dst >= net->nhosts || (net->ops.sent && !net->ops.sent(h, pkt, &p))) {
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
		u8 hdr[DCPIM_HDR_MAX];
		struct dcpim_txpkt tx = { .hdr = hdr };

		if (h->nic_free >= net->now + room_ns && h->nic_free > net->now) {
			if (h->nic_wake == DCPIM_NEVER) {
				h->nic_wake = h->nic_free - room_ns / 2;
				vnet_push(net, (struct ventry){ .at = h->nic_wake, .kind = V_NIC, .p = h });
			}
			break;
		}
		memset(hdr, 0xa7, sizeof(hdr));
		if (!dcpim_poll_tx(h->core, vhost_clock(h), &tx))
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
		vnet_fail(h->net, "host %u: the core asks for one tick after another at the same time", h->index);
	dcpim_tick(h->core, vhost_clock(h));
	h->dirty = true;
}

void vhost_serve(struct vhost *h)
{
	struct vnet *net = h->net;
	struct dcpim_event ev;
	bool more = true;
	u32 rounds = 0;
	u64 deadline;

	while (more && !net->failed) {
		more = false;
		memset(&ev, 0, sizeof(ev));
		while (h->core && !net->failed && dcpim_poll_event(h->core, &ev)) {
			if (net->ops.event)
				net->ops.event(h, &ev);
			memset(&ev, 0, sizeof(ev));
			more = true;
		}
		if (h->core && pump(h))
			more = true;
		if (++rounds > 100000)
			vnet_fail(net, "host %u: events and packets without end", h->index);
	}
	h->dirty = false;
	if (!h->core)
		return;
	deadline = time_of(h, dcpim_next_deadline(h->core));
	h->wake = dcpim_max(deadline, net->now);
	if (deadline != DCPIM_NEVER && h->cfg.timer_slop_ns)
		h->wake += vrange(&net->rng, 0, h->cfg.timer_slop_ns);
	if (net->ops.served)
		net->ops.served(h);
}
