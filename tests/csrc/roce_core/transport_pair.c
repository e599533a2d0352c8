// SPDX-License-Identifier: BSD-2-Clause
#include "transport_pair.h"

#include <stdio.h>
#include <stdlib.h>

static u32 failures;

void pair_fail(const char *file, int line, const char *what)
{
	if (failures++ < 5)
		printf("# %s:%d: %s\n", file, line, what);
}

static void *test_alloc(void *ctx, enum roce_slab slab, size_t size)
{
	struct pair *p = ctx;

	(void)slab;
	p->allocated += size;
	return calloc(1, size);
}

static void test_free(void *ctx, enum roce_slab slab, void *ptr, size_t size)
{
	struct pair *p = ctx;

	(void)slab;
	p->allocated -= size;
	free(ptr);
}

static void address(u8 out[16], u32 side)
{
	memset(out, 0, 16);
	out[10] = out[11] = 0xff;
	out[12] = 10;
	out[15] = (u8)(side + 1);
}

void pair_defaults(struct pair *p)
{
	u32 i;

	memset(p, 0, sizeof(*p));
	p->now = 1000000;
	roce_cfg_default(&p->cfg);
	p->cfg.mtu = 1024;
	p->cfg.max_qps = 16;
	p->cfg.max_mrs = 64;
	p->cfg.keepalive_ns = 0;
	p->cq_entries = WC_MAX;
	p->attr.max_send_wr = 64;
	p->attr.max_recv_wr = 64;
	p->attr.max_sge = 4;
	p->attr.access = RACKWIRE_ROCE_REMOTE_WRITE | RACKWIRE_ROCE_REMOTE_READ | RACKWIRE_ROCE_REMOTE_ATOMIC;
	for (i = 0; i < 2; i++) {
		struct roce_qp_link *l = &p->link[i];

		address(l->path.local, i);
		address(l->path.peer, !i);
		l->sq_psn = i ? 0x000123 : 0xfffff0; /* one side wraps around early */
		l->mtu = 1024;
		l->max_rd_atomic = l->max_dest_rd_atomic = 4;
		l->retry_count = l->rnr_retry_count = 7;
		l->min_rnr_timer = 12; /* 640 us */
		l->ack_timeout = 14;   /* 67 ms */
	}
}

void pair_open(struct pair *p)
{
	static const struct roce_ops ops = { test_alloc, test_free };
	const u32 access = RACKWIRE_ROCE_LOCAL_WRITE | RACKWIRE_ROCE_REMOTE_WRITE | RACKWIRE_ROCE_REMOTE_READ |
			   RACKWIRE_ROCE_REMOTE_ATOMIC;
	u32 i;

	for (i = 0; i < 2; i++) {
		struct side *s = &p->side[i];
		u64 seed[2] = { 1 + i, 77 };

		s->dev = roce_dev_create(&p->cfg, &ops, p, seed, p->now);
		CHECK(s->dev);
		s->buf = aligned_alloc(64, BUFFER);
		memset(s->buf, 0, BUFFER);
		CHECK(!roce_pd_create(s->dev, &s->pd));
		CHECK(!roce_cq_create(s->dev, p->cq_entries, NULL, &s->scq));
		CHECK(!roce_cq_create(s->dev, p->cq_entries, NULL, &s->rcq));
		CHECK(!roce_mr_register(s->pd, s->buf, BUFFER, access, NULL, &s->mr));
		CHECK(!roce_qp_create(s->pd, s->scq, s->rcq, &p->attr, s, &s->qp));
	}
	for (i = 0; i < 2; i++) {
		p->link[i].dest_qpn = roce_qp_num(p->side[!i].qp);
		p->link[i].rq_psn = p->link[!i].sq_psn;
		CHECK(!roce_qp_connect(p->side[i].qp, p->now, &p->link[i]));
	}
}

void pair_close(struct pair *p)
{
	u32 i;

	for (i = 0; i < 2; i++) {
		roce_dev_destroy(p->side[i].dev);
		free(p->side[i].buf);
	}
	CHECK(p->allocated == 0);
}

static void collect(struct pair *p, u32 i)
{
	struct side *s = &p->side[i];
	struct roce_event ev;
	int n;

	while (roce_poll_event(s->dev, &ev)) {
		if (ev.kind == ROCE_EV_CQ)
			s->cq_events++;
		if (ev.kind == ROCE_EV_QP) {
			s->qp_errors++;
			s->error = ev.error;
		}
	}
	n = roce_poll_cq(s->scq, s->send + s->nsend, WC_MAX - s->nsend);
	s->nsend += n > 0 ? (u32)n : 0;
	n = roce_poll_cq(s->rcq, s->recv + s->nrecv, WC_MAX - s->nrecv);
	s->nrecv += n > 0 ? (u32)n : 0;
}

static void deliver(struct pair *p, const struct wire_pkt *pkt)
{
	struct roce_rxpkt rx = { .data = pkt->data, .len = pkt->len, .ecn = pkt->ecn };

	rx.path = p->link[!pkt->from].path;
	roce_rx(p->side[!pkt->from].dev, p->now, &rx);
	p->packets++;
}

static void carry(struct pair *p, u32 from, const struct roce_txpkt *tx)
{
	static struct wire_pkt pkt;
	enum verdict v = PASS;
	u32 i;

	memcpy(pkt.data, tx->hdr, tx->hdr_len);
	pkt.len = tx->hdr_len;
	for (i = 0; i < tx->nfrags; i++) {
		CHECK(tx->frags[i].len);
		memcpy(pkt.data + pkt.len, tx->frags[i].ptr, tx->frags[i].len);
		pkt.len += tx->frags[i].len;
	}
	CHECK(pkt.len == tx->hdr_len + tx->payload_len);
	memset(pkt.data + pkt.len, 0, tx->pad);
	pkt.len += tx->pad;
	pkt.ecn = tx->ecn;
	pkt.from = from;
	CHECK(!roce_decode(&pkt.h, pkt.data, pkt.len));
	if (p->filter)
		v = p->filter(p, &pkt);
	if (v != DROP)
		deliver(p, &pkt);
	if (v == TWICE)
		deliver(p, &pkt);
}

/* Each side sends up to a batch before the other has its turn, as drivers do. */
void pair_settle(struct pair *p)
{
	u8 hdr[ROCE_HDR_MAX];
	struct roce_txpkt tx;
	bool moved = true;
	u32 i, n;

	while (moved && !failures) {
		moved = false;
		for (i = 0; i < 2; i++) {
			for (n = 0; n < 32; n++) {
				tx.hdr = hdr;
				if (!roce_poll_tx(p->side[i].dev, p->now, &tx))
					break;
				p->batch = n;
				carry(p, i, &tx);
				moved = true;
			}
			collect(p, 0);
			collect(p, 1);
		}
	}
}

void pair_run(struct pair *p, u64 ns)
{
	u64 end = p->now + ns;

	pair_settle(p);
	while (!failures) {
		u64 next = roce_min(roce_next_deadline(p->side[0].dev), roce_next_deadline(p->side[1].dev));

		if (next > end)
			break;
		if (next > p->now)
			p->now = next;
		roce_tick(p->side[0].dev, p->now);
		roce_tick(p->side[1].dev, p->now);
		pair_settle(p);
	}
	p->now = end;
}

void pair_inject(struct pair *p, u32 to, struct roce_pkt *h, const u8 *payload, u32 len)
{
	struct wire_pkt pkt = { .from = !to };

	h->pkey = ROCE_PKEY_DEFAULT;
	h->dest_qpn = roce_qp_num(p->side[to].qp);
	h->pad = roce_pad(len);
	pkt.len = roce_encode(pkt.data, h);
	if (len)
		memcpy(pkt.data + pkt.len, payload, len);
	pkt.len += len + h->pad;
	deliver(p, &pkt);
	collect(p, to);
}

void pair_recv(struct pair *p, u32 side, u64 id, u32 off, u32 len)
{
	struct side *s = &p->side[side];
	struct rackwire_roce_sge sge = { (u64)(uintptr_t)(s->buf + off), len, roce_mr_key(s->mr) };
	struct rackwire_roce_recv_wr wr = { .wr_id = id, .sg_list = &sge, .num_sge = len ? 1 : 0 };

	CHECK(!roce_post_recv(s->qp, &wr, 1, NULL));
}

struct rackwire_roce_send_wr pair_wr(u32 opcode, u64 id)
{
	struct rackwire_roce_send_wr wr = { .opcode = opcode, .wr_id = id, .flags = RACKWIRE_ROCE_SEND_SIGNALED };

	return wr;
}

int pair_send(struct pair *p, u32 side, struct rackwire_roce_send_wr wr, u32 off, u32 len, u32 remote)
{
	struct side *s = &p->side[side];
	struct rackwire_roce_sge sge = { (u64)(uintptr_t)(s->buf + off), len, roce_mr_key(s->mr) };

	wr.sg_list = &sge;
	wr.num_sge = len ? 1 : 0;
	wr.remote_addr = (u64)(uintptr_t)(p->side[!side].buf + remote);
	if (!wr.rkey)
		wr.rkey = roce_mr_key(p->side[!side].mr);
	return roce_post_send(s->qp, p->now, &wr, 1, NULL);
}

void pair_fill(struct pair *p, u32 side, u32 off, u32 len, u64 seed)
{
	u32 i;

	for (i = 0; i < len; i++) {
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		p->side[side].buf[off + i] = (u8)(seed >> 56);
	}
}

bool pair_same(struct pair *p, u32 off0, u32 off1, u32 len)
{
	return !memcmp(p->side[0].buf + off0, p->side[1].buf + off1, len);
}

u64 pair_dice(struct pair *p)
{
	p->count = p->count * 6364136223846793005ull + 1442695040888963407ull;
	return p->count >> 33;
}

int run_tests(const struct test *tests, u32 n)
{
	u32 i, bad = 0;

	for (i = 0; i < n; i++) {
		failures = 0;
		tests[i].run();
		printf("%sok %u - %s\n", failures ? "not " : "", i + 1, tests[i].name);
		fflush(stdout);
		bad += !!failures;
	}
	printf("1..%u\n", n);
	return bad ? 1 : 0;
}
