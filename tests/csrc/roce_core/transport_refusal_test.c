// SPDX-License-Identifier: BSD-2-Clause
/* What the transport refuses, which keys it honours, and what strangers and forgers get. */
#include "transport_pair.h"

/* ---- refusal ---- */

static void key__must_be_right(void)
{
	struct pair p;
	struct rackwire_roce_send_wr wr = pair_wr(RACKWIRE_ROCE_WR_RDMA_WRITE, 2);
	struct rackwire_roce_dev_stats stats;
	u32 i;

	pair_defaults(&p);
	pair_open(&p);
	pair_recv(&p, 1, 50, 0, 100);
	CHECK(!pair_send(&p, 0, pair_wr(RACKWIRE_ROCE_WR_RDMA_WRITE, 1), 0, 100, 0));
	wr.rkey = roce_mr_key(p.side[1].mr) ^ 1;
	CHECK(!pair_send(&p, 0, wr, 0, 100, 0));
	CHECK(!pair_send(&p, 0, pair_wr(RACKWIRE_ROCE_WR_RDMA_WRITE, 3), 0, 100, 0));
	pair_settle(&p);
	CHECK(p.side[0].nsend == 3 && OK(p.side[0].send[0], 1));
	CHECK(p.side[0].send[1].status == RACKWIRE_ROCE_WC_REM_ACCESS_ERR);
	CHECK(p.side[0].send[2].status == RACKWIRE_ROCE_WC_WR_FLUSH_ERR);
	CHECK(p.side[1].nrecv == 1 && p.side[1].recv[0].status == RACKWIRE_ROCE_WC_WR_FLUSH_ERR);
	roce_dev_stats(p.side[1].dev, &stats);
	CHECK(stats.rx_refused == 1);
	for (i = 0; i < 2; i++)
		CHECK(roce_qp_state(p.side[i].qp) == RACKWIRE_ROCE_QP_ERR && p.side[i].error == -EACCES);
	pair_close(&p);
}

/* One byte too far at either end, and lengths that wrap around. */
static void bounds__hold(void)
{
	static const struct { s64 off; u32 len; } bad[] = {
		{ -1, 1 }, { -1, 2 }, { BUFFER, 1 }, { BUFFER - 10, 11 }, { 0, BUFFER + 1 }, { 0, 0x80000000u },
		{ -0x7fffffff, 0x80000000u },
	};
	struct pair p;
	u32 i;

	for (i = 0; i < 3 * sizeof(bad) / sizeof(bad[0]); i++) {
		struct roce_pkt h = { .opcode = ROCE_READ_REQUEST, .ackreq = true };
		u8 payload[1024] = { 0 };
		u32 len = 0;

		pair_defaults(&p);
		pair_open(&p);
		h.psn = p.link[0].sq_psn;
		h.rkey = roce_mr_key(p.side[1].mr);
		h.va = (u64)(uintptr_t)p.side[1].buf + (u64)bad[i / 3].off;
		h.dma_len = bad[i / 3].len;
		if (i % 3 == 1) {
			len = h.dma_len > 1024 ? 1024 : h.dma_len;
			h.opcode = h.dma_len > 1024 ? ROCE_WRITE_FIRST : ROCE_WRITE_ONLY;
		} else if (i % 3 == 2) {
			h.opcode = ROCE_FETCH_ADD;
			h.va = (h.va | 7) + 1 + (bad[i / 3].off < 0 ? (u64)-16 : BUFFER);
		}
		pair_inject(&p, 1, &h, payload, len);
		CHECK(p.side[1].error == -EACCES);
		pair_close(&p);
	}
}

/* Each right of a region, and of the queue pair, opens one door. */
static void rights__are_all_needed(void)
{
	static const struct { u32 opcode, right; } ops[] = {
		{ RACKWIRE_ROCE_WR_RDMA_WRITE, RACKWIRE_ROCE_REMOTE_WRITE },
		{ RACKWIRE_ROCE_WR_RDMA_READ, RACKWIRE_ROCE_REMOTE_READ },
		{ RACKWIRE_ROCE_WR_ATOMIC_FETCH_AND_ADD, RACKWIRE_ROCE_REMOTE_ATOMIC },
	};
	const u32 all = RACKWIRE_ROCE_REMOTE_WRITE | RACKWIRE_ROCE_REMOTE_READ | RACKWIRE_ROCE_REMOTE_ATOMIC;
	struct pair p;
	u32 i, how, key;

	for (i = 0; i < 3; i++)
		for (how = 0; how < 4; how++) { /* both have it, both have no other, the region lacks it, the queue pair does */
			u32 mr = how == 1 ? ops[i].right : how == 2 ? all & ~ops[i].right : all;

			pair_defaults(&p);
			p.attr.access = how == 1 ? ops[i].right : how == 3 ? all & ~ops[i].right : all;
			pair_open(&p);
			CHECK(!roce_mr_reregister(p.side[1].mr, mr | RACKWIRE_ROCE_LOCAL_WRITE, &key));
			CHECK(!pair_send(&p, 0, pair_wr(ops[i].opcode, 1), 0, 8, 0));
			pair_settle(&p);
			CHECK(p.side[0].nsend == 1);
			CHECK(p.side[0].send[0].status ==
			      (how < 2 ? RACKWIRE_ROCE_WC_SUCCESS : RACKWIRE_ROCE_WC_REM_ACCESS_ERR));
			pair_close(&p);
		}
}

static void order__of_first_middle_last(void)
{
	static const u8 bad[] = { ROCE_SEND_MIDDLE, ROCE_SEND_LAST, ROCE_SEND_LAST_IMM, ROCE_SEND_LAST_INV,
				  ROCE_WRITE_MIDDLE, ROCE_WRITE_LAST, ROCE_WRITE_LAST_IMM };
	struct pair p;
	u8 payload[1024] = { 0 };
	u32 i;

	for (i = 0; i < sizeof(bad); i++) {
		struct roce_pkt h = { .opcode = bad[i] };

		pair_defaults(&p);
		pair_open(&p);
		pair_recv(&p, 1, 1, 0, 4096);
		h.psn = p.link[0].sq_psn;
		pair_inject(&p, 1, &h, payload, 1024);
		CHECK(p.side[1].error == -EPROTO);
		pair_close(&p);
	}
	/* A READ in the middle of a message. */
	pair_defaults(&p);
	pair_open(&p);
	pair_recv(&p, 1, 1, 0, 4096);
	{
		struct roce_pkt h = { .opcode = ROCE_SEND_FIRST };

		h.psn = p.link[0].sq_psn;
		pair_inject(&p, 1, &h, payload, 1024);
		CHECK(!p.side[1].error);
		h.opcode = ROCE_READ_REQUEST;
		h.psn++;
		pair_inject(&p, 1, &h, NULL, 0);
		CHECK(p.side[1].error == -EPROTO && p.side[1].recv[0].status == RACKWIRE_ROCE_WC_REM_INV_REQ_ERR);
	}
	pair_close(&p);
}

static void send__longer_than_its_receive(void)
{
	struct pair p;

	pair_defaults(&p);
	pair_open(&p);
	pair_recv(&p, 1, 1, 0, 2000);
	CHECK(!pair_send(&p, 0, pair_wr(RACKWIRE_ROCE_WR_SEND, 1), 0, 2001, 0));
	pair_settle(&p);
	CHECK(p.side[0].send[0].status == RACKWIRE_ROCE_WC_REM_INV_REQ_ERR);
	CHECK(p.side[1].recv[0].status == RACKWIRE_ROCE_WC_LOC_LEN_ERR);
	CHECK(p.side[1].buf[2000] == 0);
	pair_close(&p);
}

static void reads__beyond_what_was_agreed(void)
{
	struct pair p;
	struct roce_pkt h = { .opcode = ROCE_READ_REQUEST, .dma_len = 1 };
	u32 i;

	pair_defaults(&p);
	pair_open(&p);
	h.psn = p.link[0].sq_psn;
	h.rkey = roce_mr_key(p.side[1].mr);
	h.va = (u64)(uintptr_t)p.side[1].buf;
	for (i = 0; i < 5; i++) {
		CHECK(!p.side[1].error);
		pair_inject(&p, 1, &h, NULL, 0);
		h.psn = roce_psn_add(h.psn, 1);
	}
	CHECK(p.side[1].error == -EPROTO);
	pair_close(&p);
}

/* ---- keys ---- */

static void key__dies_with_send_inv(void)
{
	struct pair p;
	struct rackwire_roce_send_wr wr = pair_wr(RACKWIRE_ROCE_WR_SEND_WITH_INV, 1);
	u32 old, key;

	pair_defaults(&p);
	pair_open(&p);
	pair_recv(&p, 1, 1, 0, 16);
	old = wr.ex.rkey = roce_mr_key(p.side[1].mr);
	CHECK(!pair_send(&p, 0, wr, 0, 0, 0));
	pair_settle(&p);
	CHECK(OK(p.side[0].send[0], 1) && OK(p.side[1].recv[0], 1));
	CHECK(p.side[1].recv[0].flags == RACKWIRE_ROCE_WC_WITH_INV && p.side[1].recv[0].ex == old);
	CHECK(!roce_mr_valid(p.side[1].mr));

	/* The region comes back under a new key; the old one stays dead. */
	CHECK(!roce_mr_next_key(p.side[1].mr, &key) && key != old);
	wr = pair_wr(RACKWIRE_ROCE_WR_REG_MR, 2);
	wr.ex.reg.mr = p.side[1].mr;
	wr.ex.reg.key = key;
	wr.ex.reg.access = RACKWIRE_ROCE_LOCAL_WRITE | RACKWIRE_ROCE_REMOTE_WRITE;
	CHECK(!roce_post_send(p.side[1].qp, p.now, &wr, 1, NULL));
	pair_settle(&p);
	CHECK(p.side[1].nsend == 1 && OK(p.side[1].send[0], 2) && roce_mr_valid(p.side[1].mr));
	CHECK(roce_mr_key(p.side[1].mr) == key);
	p.side[0].buf[0] = 7;
	CHECK(!pair_send(&p, 0, pair_wr(RACKWIRE_ROCE_WR_RDMA_WRITE, 3), 0, 1, 9));
	pair_settle(&p);
	CHECK(OK(p.side[0].send[1], 3) && p.side[1].buf[9] == 7);
	wr = pair_wr(RACKWIRE_ROCE_WR_RDMA_WRITE, 4);
	wr.rkey = old;
	CHECK(!pair_send(&p, 0, wr, 0, 1, 10));
	pair_settle(&p);
	CHECK(p.side[0].send[2].status == RACKWIRE_ROCE_WC_REM_ACCESS_ERR && p.side[1].buf[10] == 0);
	pair_close(&p);
}

static void send_inv__of_a_wrong_key(void)
{
	struct pair p;
	struct rackwire_roce_send_wr wr = pair_wr(RACKWIRE_ROCE_WR_SEND_WITH_INV, 1);

	pair_defaults(&p);
	pair_open(&p);
	pair_recv(&p, 1, 1, 0, 16);
	wr.ex.rkey = roce_mr_key(p.side[1].mr) + 1;
	CHECK(!pair_send(&p, 0, wr, 0, 5, 0));
	pair_settle(&p);
	CHECK(p.side[0].send[0].status == RACKWIRE_ROCE_WC_REM_ACCESS_ERR);
	CHECK(p.side[1].recv[0].status == RACKWIRE_ROCE_WC_LOC_ACCESS_ERR && roce_mr_valid(p.side[1].mr));
	pair_close(&p);
}

static enum verdict lose_third_request(struct pair *p, struct wire_pkt *pkt)
{
	return pkt->from == 0 && ++p->count == 3 ? DROP : PASS;
}

static void local_inv__waits_for_what_is_under_way(void)
{
	struct pair p;
	struct rackwire_roce_send_wr wr = pair_wr(RACKWIRE_ROCE_WR_LOCAL_INV, 2);

	pair_defaults(&p);
	p.filter = lose_third_request;
	pair_open(&p);
	pair_fill(&p, 0, 0, 20000, 1);
	wr.ex.rkey = roce_mr_key(p.side[0].mr);
	CHECK(!pair_send(&p, 0, pair_wr(RACKWIRE_ROCE_WR_RDMA_WRITE, 1), 0, 20000, 0));
	CHECK(!roce_post_send(p.side[0].qp, p.now, &wr, 1, NULL));
	CHECK(!pair_send(&p, 0, pair_wr(RACKWIRE_ROCE_WR_RDMA_WRITE, 3), 0, 10, 0));
	pair_settle(&p);
	CHECK(p.side[0].nsend == 3 && OK(p.side[0].send[0], 1) && OK(p.side[0].send[1], 2));
	CHECK(pair_same(&p, 0, 0, 20000));
	CHECK(p.side[0].send[2].status == RACKWIRE_ROCE_WC_LOC_PROT_ERR);
	pair_close(&p);
}

static enum verdict read_under_way(struct pair *p, struct wire_pkt *pkt)
{
	if (roce_op(pkt->h.opcode) & ROCE_OP_READ_RESP && ++p->count == 3)
		roce_mr_deregister(p->side[1].mr);
	return PASS;
}

static void read__stops_when_its_region_goes(void)
{
	struct pair p;

	pair_defaults(&p);
	p.filter = read_under_way;
	pair_open(&p);
	CHECK(!pair_send(&p, 0, pair_wr(RACKWIRE_ROCE_WR_RDMA_READ, 1), 0, 100000, 0));
	pair_settle(&p);
	CHECK(p.side[0].nsend == 1 && p.side[0].send[0].status == RACKWIRE_ROCE_WC_REM_ACCESS_ERR && p.count == 3);
	pair_close(&p);
}

static void strangers__are_ignored(void)
{
	struct pair p;
	struct roce_pkt h = { .opcode = ROCE_WRITE_ONLY, .dma_len = 4 };
	struct rackwire_roce_dev_stats stats;

	pair_defaults(&p);
	pair_open(&p);
	h.psn = p.link[0].sq_psn;
	h.rkey = roce_mr_key(p.side[1].mr);
	h.va = (u64)(uintptr_t)p.side[1].buf;
	p.link[1].path.peer[15]++;
	pair_inject(&p, 1, &h, (const u8 *)"evil", 4);
	p.link[1].path.peer[15]--;
	roce_dev_stats(p.side[1].dev, &stats);
	CHECK(stats.rx_unknown_qp == 1 && p.side[1].buf[0] == 0);
	pair_inject(&p, 1, &h, (const u8 *)"good", 4);
	CHECK(p.side[1].buf[0] == 'g');
	pair_close(&p);
}

/* Any header, with fields near those that matter, into queue pairs at work; ASan watches their memory. */
static void hostile__packets_do_no_harm(void)
{
	static const u8 opcodes[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 22, 23, 0x81 };
	static u8 payload[1024];
	static const u64 wrong[] = { 0, 0, 0, 0, 1, -1ull, BUFFER - 1, BUFFER, 1ull << 63 };
	struct rackwire_roce_dev_stats stats;
	struct pair p;
	u64 refused = 0;
	u32 round, i;

	for (round = 0; round < 400; round++) {
		pair_defaults(&p);
		p.count = round;
		p.cfg.window = 8192;
		pair_open(&p);
		for (i = 0; i < 4; i++) {
			pair_recv(&p, 0, i, i * 5000, 5000);
			CHECK(!pair_send(&p, 0, pair_wr(RACKWIRE_ROCE_WR_RDMA_WRITE, i), 0, 20000, 0));
			CHECK(!pair_send(&p, 0, pair_wr(RACKWIRE_ROCE_WR_RDMA_READ, i), 0, 20000, 0));
		}
		for (i = 0; i < 200; i++) {
			u8 hdr[ROCE_HDR_MAX];
			struct roce_txpkt tx = { .hdr = hdr };
			struct roce_pkt h = { .opcode = opcodes[pair_dice(&p) % sizeof(opcodes)] };
			u32 back = pair_dice(&p) % 4 ? 3 : 0;

			while (pair_dice(&p) % 3)
				roce_poll_tx(p.side[0].dev, p.now, &tx); /* and lost */
			h.psn = roce_psn_add(i % 2 ? p.link[0].sq_psn : p.link[1].sq_psn, (u32)(pair_dice(&p) % 40) - back);
			h.ackreq = pair_dice(&p) % 2;
			h.se = pair_dice(&p) % 2;
			h.va = (u64)(uintptr_t)p.side[0].buf + wrong[pair_dice(&p) % 9];
			h.rkey = h.inv_rkey = roce_mr_key(p.side[0].mr) + !(pair_dice(&p) % 8);
			h.dma_len = (u32)(pair_dice(&p) % 3 ? pair_dice(&p) % 3000 : pair_dice(&p));
			h.syndrome = (u8)(pair_dice(&p) % 2 ? 0x1f : pair_dice(&p));
			pair_inject(&p, 0, &h, payload, roce_op(h.opcode) & ROCE_OP_PAYLOAD ?
				    (pair_dice(&p) % 2 ? 1024 : (u32)(pair_dice(&p) % 1024)) : 0);
			if (pair_dice(&p) % 20 == 0) {
				p.now += pair_dice(&p) % 100000000;
				roce_tick(p.side[0].dev, p.now);
			}
		}
		roce_dev_stats(p.side[0].dev, &stats);
		refused += stats.rx_refused;
		pair_close(&p);
	}
	CHECK(refused > 100);
}

static const struct test tests[] = {
	{ "key__must_be_right", key__must_be_right },
	{ "bounds__hold", bounds__hold },
	{ "rights__are_all_needed", rights__are_all_needed },
	{ "order__of_first_middle_last", order__of_first_middle_last },
	{ "send__longer_than_its_receive", send__longer_than_its_receive },
	{ "reads__beyond_what_was_agreed", reads__beyond_what_was_agreed },
	{ "key__dies_with_send_inv", key__dies_with_send_inv },
	{ "send_inv__of_a_wrong_key", send_inv__of_a_wrong_key },
	{ "local_inv__waits_for_what_is_under_way", local_inv__waits_for_what_is_under_way },
	{ "read__stops_when_its_region_goes", read__stops_when_its_region_goes },
	{ "strangers__are_ignored", strangers__are_ignored },
	{ "hostile__packets_do_no_harm", hostile__packets_do_no_harm },
};

int main(void)
{
	return run_tests(tests, sizeof(tests) / sizeof(tests[0]));
}
