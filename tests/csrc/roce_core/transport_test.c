// SPDX-License-Identifier: BSD-2-Clause
/* The transport, packet by packet: what is done with requests, and what goes over the wire for it. */
#include "transport_pair.h"

#define OK(wc, id) ((wc).status == RACKWIRE_ROCE_WC_SUCCESS && (wc).wr_id == (id))

static void send__arrives(void)
{
	static const u32 sizes[] = { 0, 1, 3, 1023, 1024, 1025, 5000, 100000 };
	struct pair p;
	u32 i;

	pair_defaults(&p);
	pair_open(&p);
	for (i = 0; i < 8; i++) {
		pair_fill(&p, 0, 0, sizes[i], i);
		pair_recv(&p, 1, i, 0, sizes[i]);
		CHECK(!pair_send(&p, 0, pair_wr(RACKWIRE_ROCE_WR_SEND, 100 + i), 0, sizes[i], 0));
		pair_settle(&p);
		CHECK(p.side[0].nsend == i + 1 && OK(p.side[0].send[i], 100 + i));
		CHECK(p.side[1].nrecv == i + 1 && OK(p.side[1].recv[i], i));
		CHECK(p.side[1].recv[i].byte_len == sizes[i]);
		CHECK(pair_same(&p, 0, 0, sizes[i]));
	}
	pair_close(&p);
}

static void write__lands(void)
{
	struct pair p;
	struct rackwire_roce_send_wr wr = pair_wr(RACKWIRE_ROCE_WR_RDMA_WRITE_WITH_IMM, 7);

	pair_defaults(&p);
	pair_open(&p);
	pair_fill(&p, 0, 0, 300000, 5);
	CHECK(!pair_send(&p, 0, pair_wr(RACKWIRE_ROCE_WR_RDMA_WRITE, 6), 0, 300000, 1000));
	pair_settle(&p);
	CHECK(p.side[0].nsend == 1 && OK(p.side[0].send[0], 6));
	CHECK(pair_same(&p, 0, 1000, 300000) && p.side[1].buf[999] == 0 && p.side[1].buf[301000] == 0);

	pair_recv(&p, 1, 9, 0, 0);
	wr.ex.imm = 0xdeadbeef;
	CHECK(!pair_send(&p, 0, wr, 0, 2049, 400000));
	pair_settle(&p);
	CHECK(p.side[1].nrecv == 1 && OK(p.side[1].recv[0], 9) && p.side[1].recv[0].ex == 0xdeadbeef);
	CHECK(p.side[1].recv[0].byte_len == 2049 && p.side[1].recv[0].flags == RACKWIRE_ROCE_WC_WITH_IMM);
	CHECK(pair_same(&p, 0, 400000, 2049));
	pair_close(&p);
}

static void read__fetches(void)
{
	struct pair p;

	pair_defaults(&p);
	p.cfg.window = 16384; /* several READ requests */
	pair_open(&p);
	pair_fill(&p, 1, 500, 300001, 5);
	CHECK(!pair_send(&p, 0, pair_wr(RACKWIRE_ROCE_WR_RDMA_READ, 6), 100, 300001, 500));
	CHECK(!pair_send(&p, 0, pair_wr(RACKWIRE_ROCE_WR_RDMA_READ, 7), 0, 0, 500));
	CHECK(!pair_send(&p, 0, pair_wr(RACKWIRE_ROCE_WR_RDMA_READ, 8), 400000, 1, 501));
	pair_settle(&p);
	CHECK(p.side[0].nsend == 3 && OK(p.side[0].send[0], 6) && OK(p.side[0].send[1], 7) && OK(p.side[0].send[2], 8));
	CHECK(p.side[0].send[0].byte_len == 300001);
	CHECK(pair_same(&p, 100, 500, 300001));
	CHECK(p.side[0].buf[400000] == p.side[1].buf[501]);
	pair_close(&p);
}

static void atomics__execute(void)
{
	struct pair p;
	struct rackwire_roce_send_wr wr = pair_wr(RACKWIRE_ROCE_WR_ATOMIC_FETCH_AND_ADD, 1);
	u64 *word, *result;

	pair_defaults(&p);
	pair_open(&p);
	word = (u64 *)p.side[1].buf;
	result = (u64 *)p.side[0].buf;
	*word = 40;
	wr.compare_add = 2;
	CHECK(!pair_send(&p, 0, wr, 0, 8, 0));
	wr = pair_wr(RACKWIRE_ROCE_WR_ATOMIC_CMP_AND_SWP, 2);
	wr.compare_add = 42;
	wr.swap = 99;
	CHECK(!pair_send(&p, 0, wr, 8, 8, 0));
	CHECK(!pair_send(&p, 0, wr, 16, 8, 0));
	pair_settle(&p);
	CHECK(p.side[0].nsend == 3);
	CHECK(result[0] == 40 && result[1] == 42 && result[2] == 99 && *word == 99);
	CHECK(pair_send(&p, 0, wr, 16, 8, 4) == -EINVAL);
	pair_close(&p);
}

static const struct test tests[] = {
	{ "send__arrives", send__arrives },
	{ "write__lands", write__lands },
	{ "read__fetches", read__fetches },
	{ "atomics__execute", atomics__execute },
};

int main(void)
{
	return run_tests(tests, sizeof(tests) / sizeof(tests[0]));
}
