/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libFuzzer target: packets of any kind into two connected devices in virtual
 * time (tests/csrc/roce_core), with requests of all sorts under way. Nothing may
 * fault or leak, no byte outside of what was opened may change, and memory stays
 * what it is. roce_script_seeds.ts writes inputs by name.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../csrc/roce_core/scene.h"

#define MAX_STEPS 4000
#define WINDOW 4096u /* one region that the peer may use, of each device */
#define WINDOW_LEN 8192u
#define RECV 20000u
#define RECV_LEN 1500u
#define RECVS 8
#define LOCAL 40000u
#define LOCAL_LEN 8000u

enum op {
	OP_RAW,	  /* to, length16, bytes */
	OP_AIMED, /* to, fix, PSN delta, offset16, length16, bytes: with queue pair, PSN, key and address put right */
	OP_RUN,	  /* log2 of ns */
	OP_DOWN,  /* to, down */
	OP_POST,  /* from, opcode, length16 */
	OP_RECV,  /* of */
	OP_KILL_KEY, /* of */
	OPS
};

enum fix {
	FIX_QPN = 1,
	FIX_PSN = 2,
	FIX_KEY = 4,
	FIX_ANSWER = 8, /* PSN relative to what the device has sent, instead of what it expects */
	FIX_PAD = 16,
};

struct input {
	const u8 *at, *end;
};

static struct sqp ends[2];
static struct roce_mr *windows[2];
static u32 keys[2];
static u8 before[2][SCENE_MEM];
static u32 expected[2], sent_psn[2]; /* next PSN each expects, last one it has used */

static u8 byte(struct input *in)
{
	return in->at < in->end ? *in->at++ : 0;
}

static u16 word(struct input *in)
{
	u8 high = byte(in);

	return (u16)(high << 8 | byte(in));
}

static bool watch(struct vhost *h, const struct vpkt *pkt)
{
	u32 psn = roce_get24(pkt->data + 9);

	if (roce_is_request(pkt->data[0])) {
		sent_psn[h->index] = psn;
		expected[!h->index] = roce_psn_add(psn, 1);
	}
	return true;
}

static void post(u32 who, u8 opcode, u16 len)
{
	static const u8 opcodes[] = { RACKWIRE_ROCE_WR_SEND, RACKWIRE_ROCE_WR_SEND_WITH_IMM, RACKWIRE_ROCE_WR_RDMA_WRITE,
				      RACKWIRE_ROCE_WR_RDMA_WRITE_WITH_IMM, RACKWIRE_ROCE_WR_RDMA_READ,
				      RACKWIRE_ROCE_WR_ATOMIC_CMP_AND_SWP, RACKWIRE_ROCE_WR_ATOMIC_FETCH_AND_ADD,
				      RACKWIRE_ROCE_WR_SEND_WITH_INV };
	struct sop op = { .opcode = opcodes[opcode % sizeof(opcodes)], .local = LOCAL, .len = len % RECV_LEN,
			  .remote = scene_addr(&devs[!who], WINDOW), .rkey = keys[!who], .ex = keys[!who] };

	if (op.opcode == RACKWIRE_ROCE_WR_ATOMIC_CMP_AND_SWP || op.opcode == RACKWIRE_ROCE_WR_ATOMIC_FETCH_AND_ADD)
		op.len = 8;
	if (op.opcode == RACKWIRE_ROCE_WR_RDMA_READ || op.opcode == RACKWIRE_ROCE_WR_RDMA_WRITE)
		op.len = len % LOCAL_LEN;
	scene_post(&ends[who], 1, op);
}

static void aimed(struct input *in)
{
	u32 to = byte(in) & 1, fix = byte(in);
	int8_t delta = (int8_t)byte(in);
	u16 offset = word(in), len = (u16)roce_min(word(in), (u64)(in->end - in->at));
	u8 bytes[2000] = { 0 };
	u32 ops, at = ROCE_BTH_LEN;

	len = (u16)roce_min(len, sizeof(bytes));
	memcpy(bytes, in->at, len);
	in->at += len;
	if (len < ROCE_BTH_LEN)
		return;
	ops = roce_op(bytes[0]);
	bytes[1] &= 0xf0;
	roce_put16(bytes + 2, ROCE_PKEY_DEFAULT);
	if (fix & FIX_QPN)
		roce_put24(bytes + 5, ends[to].num);
	if (fix & FIX_PSN)
		roce_put24(bytes + 9, roce_psn_add(fix & FIX_ANSWER ? sent_psn[to] : expected[to], (u32)delta));
	if (fix & FIX_KEY && ops & (ROCE_OP_RETH | ROCE_OP_ATOMICETH) && len >= at + 16) {
		roce_put64(bytes + at, scene_addr(&devs[to], WINDOW) + offset);
		roce_put32(bytes + at + 8, keys[to]);
	}
	if (fix & FIX_PAD && len >= roce_hdr_len(bytes[0])) {
		u32 payload = len - roce_hdr_len(bytes[0]);

		len = (u16)(len - payload % 4);
		bytes[1] &= 0xcf;
	}
	vnet_inject_now(&net, !to, to, bytes, len);
	vhost_touch(devs[to].h);
}

static void run_op(struct input *in)
{
	u8 op = byte(in) % OPS, a, b;
	u64 until;
	u16 n;

	switch (op) {
	case OP_RAW:
		a = byte(in) & 1;
		n = (u16)roce_min(word(in), (u64)(in->end - in->at));
		vnet_inject_now(&net, !a, a, in->at, n);
		vhost_touch(devs[a].h);
		in->at += n;
		break;
	case OP_AIMED:
		aimed(in);
		break;
	case OP_RUN:
		until = net.now + (1ull << byte(in) % 26);
		while (net.steps < MAX_STEPS && vnet_step(&net, until))
			;
		break;
	case OP_DOWN:
		a = byte(in) & 1;
		net.links[!a][a].down = byte(in) & 1;
		break;
	case OP_POST:
		a = byte(in) & 1;
		b = byte(in);
		post(a, b, word(in));
		break;
	case OP_RECV:
		a = byte(in) & 1;
		scene_recv(&ends[a], 2, RECV + (byte(in) % RECVS) * 2000u, RECV_LEN);
		break;
	case OP_KILL_KEY:
		a = byte(in) & 1;
		if (windows[a])
			roce_mr_deregister(windows[a]);
		windows[a] = NULL;
		break;
	}
}

static void check(u32 i, u32 from, u32 to)
{
	if (memcmp(devs[i].mem + from, before[i] + from, to - from))
		vnet_fail(&net, "device %u: bytes between %u and %u were changed that nobody may write", i, from, to);
}

static void begin(struct input *in)
{
	u8 how = byte(in);
	struct roce_qp_link link = scene_link();
	struct vhost_cfg cfg = scene_cfg();

	cfg.roce.mtu = link.mtu = 256u << (how & 3);
	cfg.roce.rate_bps = how & 4 ? cfg.rate_bps : 0;
	cfg.roce.window = how & 8 ? 2 * cfg.roce.mtu : 65536;
	cfg.roce.ack_every = 1;
	cfg.roce.keepalive_ns = how & 16 ? 20 * MSEC : 0;
	cfg.roce.timewait_ns = USEC;
	link.retry_count = how & 32 ? 7 : 1;
	link.rnr_retry_count = how & 64 ? 7 : 1;
	link.sq_psn = how & 128 ? 0xfffffe : 100;
	scene_start(1, 2, &cfg);
	scene_watch = watch;
	scene_connect(&ends[0], 0, &ends[1], 1, NULL, &link);
	expected[1] = link.sq_psn;
	expected[0] = link.rq_psn;
	for (u32 i = 0; i < 2; i++) {
		memcpy(before[i], devs[i].mem, SCENE_MEM);
		sent_psn[i] = roce_psn_add(expected[!i], (u32)-1);
		windows[i] = NULL;
		if (roce_mr_register(devs[i].pd, devs[i].mem + WINDOW, WINDOW_LEN, SCENE_ALL, NULL, &windows[i]))
			abort();
		keys[i] = roce_mr_key(windows[i]);
		for (u32 k = 0; k < 2; k++)
			scene_recv(&ends[i], 2, RECV + k * 2000u, RECV_LEN);
	}
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct input in = { data, data + size };
	struct rackwire_roce_wc wc;
	u64 memory[2];

	begin(&in);
	for (u32 i = 0; i < 2; i++)
		memory[i] = devs[i].h->mem.total;
	while (in.at < in.end && !net.failed && net.steps < MAX_STEPS)
		run_op(&in);
	net.links[0][1].down = net.links[1][0].down = false;
	/* Who waits for a receiver that is never ready does so for ever: not here. */
	for (u32 i = 0; i < MAX_STEPS / 4 && vnet_step(&net, net.now + SEC); i++)
		;
	for (u32 i = 0; i < 2 && !net.failed; i++) {
		while (roce_poll_cq(devs[i].cq, &wc, 1) == 1)
			if (wc.qp_context != &ends[i])
				vnet_fail(&net, "a completion of nobody's");
		check(i, 0, WINDOW);
		check(i, WINDOW + WINDOW_LEN, RECV);
		for (u32 k = 0; k < RECVS; k++)
			check(i, RECV + k * 2000 + RECV_LEN, RECV + (k + 1) * 2000);
		check(i, RECV + RECVS * 2000, LOCAL);
		check(i, LOCAL + LOCAL_LEN, SCENE_MEM);
		roce_qp_destroy(ends[i].qp, vhost_clock(devs[i].h));
		if (windows[i])
			roce_mr_deregister(windows[i]);
		if (devs[i].h->mem.total > memory[i])
			vnet_fail(&net, "device %u: packets took memory", i);
		roce_mr_deregister(devs[i].mr);
		if (roce_cq_destroy(devs[i].cq) || roce_pd_destroy(devs[i].pd))
			vnet_fail(&net, "device %u: something is still in use", i);
	}
	scene_end();
	if (net.failed) {
		fprintf(stderr, "%s\n", net.why);
		abort();
	}
	return 0;
}
