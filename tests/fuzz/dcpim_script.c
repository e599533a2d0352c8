/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libFuzzer target: the input is a script of application calls, packets and
 * accidents on two hosts in virtual time (tests/csrc/dcpim_core). At every step
 * the bounds of vcheck.c must hold; content must be right unless the script
 * forged packets; at the end everything is closed and nothing may be left.
 * dcpim_script_seeds.ts writes such scripts by name.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../csrc/dcpim_core/vapp.h"

#define MAX_STEPS 6000
#define MAX_CONNS 12
#define KEPT 16

enum op {
	OP_CONNECT,	/* host, kind, port, bytes16 */
	OP_RUN,		/* log2 of ns */
	OP_WRITE,	/* side, bytes16: so much more to send */
	OP_SHUTDOWN,	/* side */
	OP_CLOSE,	/* side, abort */
	OP_RAW,		/* to, length16, bytes */
	OP_REPLAY,	/* which: a packet seen before, as it was */
	OP_MUTATE,	/* which, fix, n, n times (place16, byte) */
	OP_CRAFT,	/* to, type, tag, blocks, fields */
	OP_LINK,	/* to, loss, duplication, reordering: in 1/256 */
	OP_DOWN,	/* to, down */
	OP_KILL,	/* host */
	OP_BOOT,	/* host */
	OP_MTU,		/* to, size in units of 8 */
	OP_UNREACHABLE, /* host, and which error */
	OP_NOMEM,	/* host, after, how many */
	OP_LISTEN,	/* host, port, backlog; or take it away again */
	OP_BUFFERS,	/* side, sndbuf16, rcvbuf16 */
	OP_STALL,	/* side, log2 of ns */
	OPS
};

struct input {
	const u8 *at, *end;
};

static struct vnet net;
static struct vapp app;
static struct vpkt *kept[KEPT];
static u32 nkept;
static struct dcpim_pkt last[2][256]; /* to each host, by type */
static struct dcpim_listener *extra[2];

static u8 byte(struct input *in)
{
	return in->at < in->end ? *in->at++ : 0;
}

static u16 word(struct input *in)
{
	u8 high = byte(in);

	return (u16)(high << 8 | byte(in));
}

/* A number of any size, often one at a limit. */
static u64 number(struct input *in)
{
	static const u64 limits[] = { 0, 1, 27, 28, 1432, 1472, 65507, 0x7fffffff, 0x80000000, 0xffffffff,
				      1ull << 32, (1ull << 62) - 1, 1ull << 62, ~0ull };
	u8 how = byte(in);
	u64 v = 0;

	if (how < 64)
		return how;
	if (how < 128)
		return word(in);
	if (how < 192)
		return limits[how % (sizeof(limits) / sizeof(limits[0]))];
	for (u32 i = 0; i < (how < 224 ? 4 : 8); i++)
		v = v << 8 | byte(in);
	return v;
}

static bool sent(struct vhost *h, const struct vpkt *pkt, const struct dcpim_pkt *p)
{
	struct vpkt *copy = malloc(sizeof(*copy) + pkt->len);

	(void)h;
	if (!copy)
		abort();
	memcpy(copy, pkt, sizeof(*copy) + pkt->len);
	free(kept[nkept % KEPT]);
	kept[nkept++ % KEPT] = copy;
	last[pkt->dst & 1][p->type] = *p;
	return true;
}

static struct vside *pick(struct input *in)
{
	u8 which = byte(in);

	if (!app.nconns)
		return NULL;
	return &app.conns[(which >> 1) % app.nconns]->side[which & 1];
}

static void fix_sum(u8 *pkt, u32 len)
{
	u32 sum = 0;

	for (u32 i = 0; i + 1 < len; i += 2)
		if (i != 16 && i != 20 && i != 22)
			sum += dcpim_get16(pkt + i);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	dcpim_put16(pkt + 16, (u16)~sum);
}

static void op_connect(struct input *in)
{
	u8 host = byte(in) & 1, kind = byte(in) & 1, port = byte(in);
	u16 bytes = word(in);
	struct vconn *c;

	if (app.nconns == MAX_CONNS)
		return;
	c = vapp_add(&net, kind ? DCPIM_MESSAGE : DCPIM_STREAM, host, !host, (u16)(80 + port % 3), net.now);
	c->expect_broken = true;
	for (u32 i = 0; i < 2; i++) {
		struct vplan *p = &c->side[i].plan;

		p->total = kind ? 0 : bytes >> (4 * i);
		p->chunk_min = p->chunk_max = 100 + bytes % 5000;
		p->msgs = kind ? bytes % 7 : 0;
		p->msg_max = dcpim_min(bytes, net.hosts[0].cfg.dcpim.max_msg);
		p->end = VEND_KEEP;
	}
	vnet_run(&net, net.now);
}

static void op_write(struct input *in)
{
	struct vside *s = pick(in);
	u16 bytes = word(in);

	/* Messages are drawn when the connection starts; only streams grow. */
	if (!s || !s->flow || s->shut || s->conn->kind != DCPIM_STREAM)
		return;
	s->plan.total += bytes;
	vapp_poke(s);
}

static void op_mutate(struct input *in)
{
	u8 which = byte(in), fix = byte(in), n = byte(in) & 7;
	struct vpkt *pkt = kept[which % KEPT];
	u8 bytes[10000];

	if (!pkt || pkt->len > sizeof(bytes))
		return;
	memcpy(bytes, pkt->data, pkt->len);
	while (n--) {
		u16 at = word(in);
		u8 value = byte(in);

		bytes[at % pkt->len] = value;
	}
	if (fix & 1) {
		struct dcpim_pkt p;
		u32 len = (u32)dcpim_min(dcpim_header_len(bytes[14], bytes[25]), pkt->len);

		fix_sum(bytes, len ? len : pkt->len);
		if (!dcpim_decode(bytes, pkt->len, pkt->len, &p) && p.flags & DCPIM_F_CRC) {
			u32 crc = dcpim_seal_start(bytes, p.hdr_len);

			dcpim_seal(bytes, p.hdr_len, dcpim_crc32c(crc, bytes + p.hdr_len, pkt->len - p.hdr_len));
		}
	}
	app.forged = true;
	vnet_inject(&net, pkt->src, pkt->dst, bytes, pkt->len);
}

static void op_craft(struct input *in)
{
	static const u8 payload[3000];
	u8 to = byte(in) & 1, tag_from;
	struct dcpim_pkt p = { .type = (u8)(0x20 + byte(in) % 0x17) };
	u64 f[7];
	u32 at = 0, len = 0;

	tag_from = byte(in);
	p.nblocks = byte(in) % (DCPIM_MAX_BLOCKS + 1);
	if (!dcpim_header_len(p.type, 0))
		return;
	if (tag_from < 0x80) {
		const struct dcpim_pkt *like = &last[to][0x20 + tag_from % 0x17];

		p.sport = like->sport;
		p.dport = like->dport;
		p.tag = like->tag;
	}
	p.flags = byte(in) & (u8)~DCPIM_F_CRC;
	for (u32 i = 0; i < 7; i++)
		f[i] = number(in);
	switch (p.type) {
	case DCPIM_DATA:
		p.u.data.offset = f[0];
		p.u.data.ahead = (u32)f[1];
		p.u.data.ack = (u32)f[2];
		len = 1 + f[3] % sizeof(payload);
		break;
	case DCPIM_DATA_MSG:
		p.u.data_msg.msg_id = f[0];
		p.u.data_msg.offset = (u32)f[1];
		p.u.data_msg.size = (u32)f[2];
		p.u.data_msg.ack = (u32)f[4];
		len = f[3] % sizeof(payload);
		break;
	case DCPIM_TOKEN:
	case DCPIM_ACK:
		p.u.token.rcv_nxt = f[0];
		p.u.token.token_nxt = f[1];
		p.u.token.wnd_edge = f[2];
		p.u.token.rtx_end = (u32)f[3];
		break;
	case DCPIM_TOKEN_MSG:
		p.u.token_msg.msg_id = f[0];
		p.u.token_msg.rcv_nxt = (u32)f[1];
		p.u.token_msg.token_nxt = (u32)f[2];
		p.u.token_msg.rtx_end = (u32)f[3];
		break;
	case DCPIM_NOTIFICATION_LONG:
	case DCPIM_NOTIFICATION_SHORT:
		p.tag = 0;
		/* fall through */
	case DCPIM_SYN_ACK:
		p.u.syn.flow_tag = (u32)f[0];
		p.u.syn.host_tag = (u32)f[1];
		p.u.syn.host_port = (u16)f[2];
		p.u.syn.max_packet = (u16)f[3];
		p.u.syn.wnd = (u32)f[4];
		p.u.syn.unsched = (u32)f[5];
		p.u.syn.max_msg = (u32)f[6];
		break;
	case DCPIM_RTS:
	case DCPIM_GRANT:
	case DCPIM_ACCEPT:
	case DCPIM_REVOKE:
		p.u.match.epoch = f[0];
		p.u.match.round = (u8)f[1];
		p.u.match.channels = (u8)f[2];
		p.u.match.remaining = (u32)f[3];
		p.u.match.start_in = (u32)f[4];
		p.u.match.phase = (u32)f[5];
		p.u.match.epoch_len = (u32)f[6];
		break;
	case DCPIM_FIN:
		p.u.fin.final_offset = f[0];
		break;
	case DCPIM_DEMAND:
		p.u.demand.end = f[0];
		p.u.demand.sent = f[1];
		break;
	case DCPIM_NOTIFICATION_MSG:
		p.u.note_msg.msg_id = f[0];
		p.u.note_msg.size = (u32)f[1];
		p.u.note_msg.sent = (u32)f[2];
		break;
	case DCPIM_FIN_MSG:
		p.u.fin_msg.cum = f[0];
		p.u.fin_msg.credit = f[1];
		break;
	}
	for (u32 i = 0; i < p.nblocks; i++) {
		p.blocks[i].start = at + (u32)(number(in) & 0xffffff) + 1;
		p.blocks[i].end = at = p.blocks[i].start + (u32)(number(in) & 0xffffff) + 1;
	}
	app.forged = true;
	vnet_inject_pkt(&net, !to, to, &p, payload, len);
}

static void op_listen(struct input *in)
{
	u8 host = byte(in) & 1, port = byte(in) % 3, backlog = byte(in);
	struct vhost *h = &net.hosts[host];

	if (!h->core)
		return;
	if (extra[host]) {
		dcpim_unlisten(h->core, extra[host], vhost_clock(h));
		extra[host] = NULL;
	} else if (dcpim_listen(h->core, (u16)(80 + port), 1 + backlog % 3, 1 + backlog / 3u, ~0u, NULL, &extra[host])) {
		extra[host] = NULL;
	}
	vhost_touch(h);
}

static void run_op(struct input *in)
{
	u8 op = byte(in) % OPS, a;
	struct vside *s;
	struct vlink *l;
	struct vhost *h;
	u16 n;

	switch (op) {
	case OP_CONNECT:
		op_connect(in);
		break;
	case OP_RUN:
		vnet_run(&net, net.now + (1ull << byte(in) % 28));
		break;
	case OP_WRITE:
		op_write(in);
		break;
	case OP_SHUTDOWN:
		s = pick(in);
		if (s && s->flow) {
			s->plan.end = VEND_SHUTDOWN;
			vapp_poke(s);
		}
		break;
	case OP_CLOSE:
		s = pick(in);
		a = byte(in);
		if (s)
			vside_close(s, a & 1);
		break;
	case OP_RAW:
		a = byte(in) & 1;
		n = word(in);
		n = (u16)dcpim_min(n, (u64)(in->end - in->at));
		app.forged = true;
		vnet_inject(&net, !a, a, in->at, n);
		in->at += n;
		break;
	case OP_REPLAY:
		a = byte(in) % KEPT;
		if (kept[a])
			vnet_inject(&net, kept[a]->src, kept[a]->dst, kept[a]->data, kept[a]->len);
		break;
	case OP_MUTATE:
		op_mutate(in);
		break;
	case OP_CRAFT:
		op_craft(in);
		break;
	case OP_LINK:
		a = byte(in) & 1;
		l = &net.links[!a][a];
		l->loss_ppm = byte(in) * 3900u;
		l->dup_ppm = byte(in) * 3900u;
		l->reorder_ppm = byte(in) * 3900u;
		l->reorder_ns = 30 * USEC;
		break;
	case OP_DOWN:
		a = byte(in) & 1;
		net.links[!a][a].down = byte(in) & 1;
		break;
	case OP_KILL:
		a = byte(in) & 1;
		extra[a] = NULL;
		vnet_kill(&net.hosts[a]);
		break;
	case OP_BOOT:
		h = &net.hosts[byte(in) & 1];
		if (!h->core && vnet_boot(h))
			vapp_listen(h, 80);
		break;
	case OP_MTU:
		a = byte(in) & 1;
		net.links[!a][a].mtu = (u32)dcpim_max(byte(in) * 8u, DCPIM_MIN_PACKET);
		break;
	case OP_UNREACHABLE:
		n = byte(in);
		a = n & 1;
		if (net.hosts[a].core) {
			struct dcpim_path to = vnet_path(!a);

			dcpim_unreachable(net.hosts[a].core, vhost_clock(&net.hosts[a]), &to,
					  n & 2 ? -ECONNREFUSED : -EHOSTUNREACH);
			vhost_touch(&net.hosts[a]);
		}
		break;
	case OP_NOMEM:
		h = &net.hosts[byte(in) & 1];
		h->mem.fail_from = h->mem.allocs + byte(in);
		h->mem.fail_count = byte(in);
		break;
	case OP_LISTEN:
		op_listen(in);
		break;
	case OP_BUFFERS:
		s = pick(in);
		n = word(in);
		a = byte(in);
		if (s && s->flow)
			dcpim_flow_set_buffers(s->flow, n, dcpim_min(a * 256u, s->host->cfg.dcpim.rcvbuf));
		break;
	case OP_STALL:
		s = pick(in);
		a = byte(in);
		if (s)
			s->read_from = net.now + (1ull << a % 30);
		break;
	}
}

static void begin(struct input *in)
{
	u8 how = byte(in), more = byte(in);
	struct vhost_cfg cfg;

	vnet_init(&net, 1 + how);
	vapp_init(&app, &net);
	app.allow_nomem = true;
	net.ops.sent = sent;
	vnet_default_cfg(&cfg, 1000000000ull << (how & 3), 5 * USEC, more & 1 ? 1472 : 300);
	/* Impatient, so that scripts are short. */
	cfg.dcpim.rto_max_ns = 4 * cfg.dcpim.rto_min_ns;
	cfg.dcpim.dead_after_ns = cfg.dcpim.connect_timeout_ns = dcpim_max(10 * cfg.dcpim.rto_max_ns, MSEC);
	cfg.dcpim.timewait_ns = 2 * cfg.dcpim.rto_max_ns;
	cfg.dcpim.flags = more & 2 ? DCPIM_CFG_CRC : 0;
	cfg.dcpim.first_part_mode = (how >> 2) % 3;
	cfg.dcpim.first_part_bytes = (u32)dcpim_cfg_bdp(&cfg.dcpim);
	cfg.dcpim.channels = 1 + (how >> 4 & 3);
	cfg.dcpim.rounds = 1 + (how >> 6);
	cfg.dcpim.short_threshold = more & 4 ? 1 : 0;
	cfg.dcpim.rcvbuf = more & 8 ? 4096 : 60000;
	cfg.dcpim.sndbuf = more & 8 ? 4096 : 60000;
	cfg.dcpim.max_msg = more & 8 ? 3000 : 30000;
	cfg.dcpim.keepalive_ns = more & 16 ? 5 * MSEC : 0;
	cfg.dcpim.rx_budget = more & 32 ? 4000 : 0;
	cfg.dcpim.max_flows = cfg.dcpim.max_peers = 8;
	cfg.dcpim.max_msgs = more & 64 ? 8 : 256;
	/* Not less: pieces of messages of which none can become complete may fill a small cap for good. */
	cfg.dcpim.max_segs = 1u << 20;
	cfg.timer_slop_ns = more & 128 ? 3 * USEC : 0;
	for (u32 i = 0; i < 2; i++) {
		cfg.clock_offset_ns = (s64)i * 123456789;
		cfg.clock_ppm = i ? 200 : -200;
		cfg.split_rx = i;
		cfg.copy_on_hold = !i;
		vapp_listen(vnet_add(&net, &cfg, 5 * USEC), 80);
	}
}

static void finish(void)
{
	const struct dcpim_cfg *cfg = &net.hosts[0].cfg.dcpim;

	for (u32 i = 0; i < 2; i++) {
		net.links[i][!i].down = false;
		net.links[i][!i].loss_ppm = 0;
		net.hosts[i].mem.fail_count = 0;
	}
	vapp_close_all(&net, false);
	/* What was being opened is open by then, or never will be. */
	vnet_run(&net, net.now + 2 * cfg->connect_timeout_ns);
	vapp_close_all(&net, false);
	vnet_run(&net, net.now + 6 * cfg->dead_after_ns + 4 * cfg->keepalive_ns + cfg->timewait_ns);
	for (u32 i = 0; i < 2; i++)
		vcheck_nothing_left(&net.hosts[i], true);
	if (!net.failed)
		vcheck_silent(&net, SEC);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct input in = { data, data + size };

	nkept = 0;
	memset(last, 0, sizeof(last));
	memset(extra, 0, sizeof(extra));
	begin(&in);
	while (in.at < in.end && !net.failed && net.steps < MAX_STEPS)
		run_op(&in);
	if (!net.failed)
		finish();
	vnet_fini(&net);
	vapp_fini(&app);
	for (u32 i = 0; i < KEPT; i++) {
		free(kept[i]);
		kept[i] = NULL;
	}
	if (net.failed) {
		fprintf(stderr, "%s\n", net.why);
		abort();
	}
	return 0;
}
