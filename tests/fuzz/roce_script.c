/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libFuzzer target: the input is a script of application calls, packets and
 * accidents on two RoCEv2 devices in virtual time (tests/csrc/roce_core). At
 * every step the properties of vdone.c, vspace.c and vcheck.c must hold, those of
 * content unless the script forged packets; at the end everything is closed and
 * nothing may be left. roce_script_seeds.ts writes such scripts by name.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../csrc/roce_core/vapp.h"

#define MAX_STEPS 8000
#define MAX_CONNS 6
#define KEPT 16
#define ARENA (96u << 10)

enum op {
	OP_CONNECT,	/* from, how, PSN */
	OP_RUN,		/* log2 of ns */
	OP_POST,	/* side, opcode, how many */
	OP_REPLAY,	/* which: a packet seen before, as it was */
	OP_MUTATE,	/* which, n, n times (place16, byte) */
	OP_CRAFT,	/* to, which QPN, opcode, syndrome, PSN delta, length */
	OP_LINK,	/* to, loss, duplication, reordering: in 1/256 */
	OP_DOWN,	/* to, down */
	OP_KILL,	/* device */
	OP_BOOT,	/* device */
	OP_NOMEM,	/* device, after, how many */
	OP_CUT,		/* side, what */
	OP_UNREACHABLE, /* device, error */
	OP_LATE,	/* side, log2 of ns: receives come so late */
	OPS
};

struct input {
	const u8 *at, *end;
};

static struct vnet net;
static struct vapp app;
static struct vpkt *kept[KEPT];
static u32 nkept;

static u8 byte(struct input *in)
{
	return in->at < in->end ? *in->at++ : 0;
}

static u16 word(struct input *in)
{
	u8 high = byte(in);

	return (u16)(high << 8 | byte(in));
}

static bool sent(struct vhost *h, const struct vpkt *pkt, const struct roce_txpkt *tx)
{
	struct vpkt *copy = malloc(sizeof(*copy) + pkt->len);

	if (!copy)
		abort();
	if (!net.forged)
		vcheck_packet(h, pkt, tx);
	memcpy(copy, pkt, sizeof(*copy) + pkt->len);
	free(kept[nkept % KEPT]);
	kept[nkept++ % KEPT] = copy;
	return true;
}

static struct vside *pick(struct input *in)
{
	u8 which = byte(in);

	return app.nconns ? &app.conns[(which >> 1) % app.nconns]->side[which & 1] : NULL;
}

static void op_connect(struct input *in)
{
	u8 from = byte(in) & 1, how = byte(in), psn = byte(in);
	struct vconn *c;

	if (app.nconns == MAX_CONNS)
		return;
	c = vapp_add(&net, from, !from, net.now);
	c->direct = how & 1;
	c->psn[0] = (0xfffff0u + psn) & 0xffffff;
	c->psn[1] = psn;
	c->answer = how & 2 ? (enum vanswer)(how >> 6) : VANSWER_ACCEPT;
	c->answer_delay = how & 4 ? 100 * USEC : 0;
	c->mra = how & 8;
	c->may = ~0ull;
	c->may_not_connect = true;
	c->keep_open = true;
	for (u32 i = 0; i < 2; i++) {
		struct vplan *p = &c->side[i].plan;

		p->max_len = how & 16 ? 2500 : 300;
		p->max_region = p->max_len / 2;
		p->send_depth = p->recv_depth = how & 32 ? 2 : 8;
		p->early = true;
		for (u32 k = 0; k < RACKWIRE_ROCE_WR_OPCODES; k++)
			p->weight[k] = 1;
		c->param[i].retry_count = how & 32 ? 1 : 7;
	}
	vnet_run(&net, net.now);
}

static void op_mutate(struct input *in)
{
	u8 which = byte(in), n = byte(in) & 7;
	struct vpkt *pkt = kept[which % KEPT];
	u8 bytes[ROCE_PACKET_MAX + 64];

	if (!pkt || pkt->len > sizeof(bytes))
		return;
	memcpy(bytes, pkt->data, pkt->len);
	while (n--) {
		u16 at = word(in);

		bytes[at % pkt->len] = byte(in);
	}
	net.forged = true;
	vnet_inject(&net, pkt->src, pkt->dst, bytes, pkt->len - ROCE_ICRC_LEN);
}

static void op_craft(struct input *in)
{
	static const u8 payload[4096];
	u8 bytes[ROCE_HDR_MAX + sizeof(payload)];
	struct vside *s = pick(in);
	struct roce_pkt p = { .pkey = ROCE_PKEY_DEFAULT, .opcode = byte(in) };
	u32 len, hdr;

	p.syndrome = byte(in);
	p.psn = (u32)(int8_t)byte(in);
	len = byte(in) * 16u;
	if (!s || !s->qp || !roce_op(p.opcode))
		return;
	p.dest_qpn = roce_qp_num(s->qp);
	/* An answer to what it has sent, or the next of its peer's requests. */
	p.psn = (p.psn + (roce_is_response(p.opcode) ? s->sent_psn : vside_peer(s)->sent_psn + 1)) & 0xffffff;
	p.ackreq = true;
	p.msn = s->nops;
	p.rkey = s->target[0].key;
	p.va = s->target[0].ext ? (uintptr_t)vext_ptr(s->target[0].ext) : 0;
	p.dma_len = len;
	if (!(roce_op(p.opcode) & ROCE_OP_PAYLOAD))
		len = 0;
	p.pad = roce_pad(len);
	hdr = roce_encode(bytes, &p);
	memcpy(bytes + hdr, payload, len + p.pad);
	net.forged = true;
	vnet_inject(&net, vside_peer(s)->host->index, s->host->index, bytes, hdr + len + p.pad);
}

static void op_cut(struct vside *s, u8 what)
{
	if (!s || s->died || s->state == V_GONE || (!s->id && !s->qp))
		return;
	s->conn->closing = true;
	switch (what % 5) {
	case 0:
		if (s->qp)
			roce_qp_error(s->qp, vhost_clock(s->host));
		break;
	case 1:
		if (s->id && s->state != V_IDLE)
			roce_cm_disconnect(s->id, vhost_clock(s->host));
		break;
	case 2:
		vside_destroy(s);
		break;
	case 3:
		vside_kill_qp(s);
		break;
	case 4:
		if (s->target[0].mr) {
			roce_mr_deregister(s->target[0].mr);
			s->target[0].mr = NULL;
			vcell_freeze(s->target[0].cell);
		}
		break;
	}
	vhost_touch(s->host);
}

static void op_post(struct input *in)
{
	struct vside *s = pick(in);
	u8 opcode = byte(in), n = byte(in) & 15;

	if (!s)
		return;
	for (u32 i = 0; i < RACKWIRE_ROCE_WR_OPCODES; i++)
		s->plan.weight[i] = opcode & 0x80 || i == opcode % RACKWIRE_ROCE_WR_OPCODES;
	s->plan.ops = s->planned + n;
	if (s->qp)
		vside_run(s);
	vhost_touch(s->host);
}

static void run_op(struct input *in)
{
	u8 op = byte(in) % OPS, a;
	struct vside *s;
	struct vlink *l;
	struct vhost *h;

	switch (op) {
	case OP_CONNECT:
		op_connect(in);
		break;
	case OP_RUN:
		vnet_run(&net, net.now + (1ull << byte(in) % 28));
		break;
	case OP_POST:
		op_post(in);
		break;
	case OP_REPLAY:
		a = byte(in) % KEPT;
		if (kept[a])
			vnet_inject(&net, kept[a]->src, kept[a]->dst, kept[a]->data, kept[a]->len - ROCE_ICRC_LEN);
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
		vnet_kill(&net.hosts[byte(in) & 1]);
		break;
	case OP_BOOT:
		h = &net.hosts[byte(in) & 1];
		if (!h->core && vnet_boot(h))
			vapp_setup(h, 0);
		break;
	case OP_NOMEM:
		h = &net.hosts[byte(in) & 1];
		h->mem.fail_from = h->mem.allocs + byte(in);
		h->mem.fail_count = byte(in);
		break;
	case OP_CUT:
		s = pick(in);
		op_cut(s, byte(in));
		break;
	case OP_UNREACHABLE:
		h = &net.hosts[byte(in) & 1];
		a = byte(in);
		if (h->core) {
			struct roce_path path = vnet_path(&net, h->index, !h->index);

			roce_unreachable(h->core, vhost_clock(h), &path, a & 1 ? -ECONNREFUSED : -EHOSTUNREACH);
			vhost_touch(h);
		}
		break;
	case OP_LATE:
		s = pick(in);
		a = byte(in);
		if (s)
			s->plan.recv_gap_ns = 1ull << a % 24;
		break;
	}
}

static void begin(struct input *in)
{
	u8 how = byte(in);
	struct vhost_cfg cfg;

	vnet_init(&net, 1 + how);
	net.v6 = how & 1;
	vapp_init(&app, &net, 256);
	app.allow_nomem = true;
	net.ops.sent = sent;
	vnet_default_cfg(&cfg, 10 * GBIT, how & 2 ? 256 : 1024);
	cfg.roce.max_qps = cfg.roce.max_cm_ids = 8;
	cfg.roce.max_half_open = 4;
	cfg.roce.cm_timeout_ns = MSEC;
	cfg.roce.cm_retries = 3;
	cfg.roce.timewait_ns = MSEC;
	cfg.roce.rate_bps = how & 4 ? cfg.rate_bps : 0;
	cfg.roce.window = how & 8 ? 2048 : 65536;
	cfg.roce.ack_every = 1 + (how >> 4 & 1);
	cfg.roce.keepalive_ns = how & 32 ? 5 * MSEC : 0;
	cfg.timer_slop_ns = how & 64 ? 3 * USEC : 0;
	for (u32 i = 0; i < 2; i++) {
		cfg.clock_offset_ns = (s64)i * 123456789;
		cfg.clock_ppm = i ? 200 : -200;
		vapp_setup(vnet_add(&net, &cfg, 5 * USEC), ARENA);
		app.hosts[i].armed = how & 128;
	}
}

static void finish(void)
{
	for (u32 i = 0; i < 2; i++) {
		net.links[i][!i].down = false;
		net.links[i][!i].loss_ppm = 0;
		net.hosts[i].mem.fail_count = 0;
	}
	vnet_run(&net, net.now + 100 * MSEC);
	vcheck_memory(&net);
	for (u32 i = 0; i < 2 * app.nconns && !net.failed; i++)
		if (!app.conns[i / 2]->side[i & 1].died)
			vside_destroy(&app.conns[i / 2]->side[i & 1]);
	for (u32 i = 0; i < 2 && !net.failed; i++)
		if (net.hosts[i].core)
			vapp_teardown(&net.hosts[i]);
	vnet_run(&net, net.now + 200 * SEC);
	for (u32 i = 0; i < 2; i++)
		vcheck_nothing_left(&net.hosts[i]);
	if (!net.failed)
		vcheck_silent(&net, SEC);
	if (!net.failed)
		vcheck_memory(&net);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct input in = { data, data + size };

	nkept = 0;
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
