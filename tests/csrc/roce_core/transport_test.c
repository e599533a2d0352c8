// SPDX-License-Identifier: BSD-2-Clause
/* The transport, packet by packet: what is done with requests, and what goes over the wire for it. */
#include "transport_pair.h"

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

/* ---- loss ---- */

static enum verdict lossy(struct pair *p, struct wire_pkt *pkt)
{
	u64 r = pair_dice(p) % 100;

	(void)pkt;
	return r < 4 ? DROP : r < 8 ? TWICE : PASS;
}

/* SENDs, WRITEs, READs and additions, all at once, over a wire that loses and doubles. */
static void loss__is_repaired(void)
{
	static struct pair p;
	u32 round, i, n;
	u64 sum;

	for (round = 0; round < 60; round++) {
		pair_defaults(&p);
		p.cfg.window = 4096 << round % 5;
		p.cfg.ack_every = 1 + round % 7;
		p.link[0].max_rd_atomic = p.link[1].max_dest_rd_atomic = 1 + round % 4;
		p.link[0].retry_count = 7;
		p.link[0].ack_timeout = 17;
		p.count = round;
		p.filter = lossy;
		pair_open(&p);
		pair_fill(&p, 0, 0, 200000, round);
		pair_fill(&p, 1, 500000, 100000, round + 1000);
		for (i = 0, n = 0, sum = 0; i < 10; i++) {
			struct rackwire_roce_send_wr add = pair_wr(RACKWIRE_ROCE_WR_ATOMIC_FETCH_AND_ADD, n + 3);
			u32 len = 1 + (u32)(pair_dice(&p) % 10000);

			pair_recv(&p, 1, i, i * 10000, 10000);
			CHECK(!pair_send(&p, 0, pair_wr(RACKWIRE_ROCE_WR_SEND, n++), i * 10000, len, 0));
			CHECK(!pair_send(&p, 0, pair_wr(RACKWIRE_ROCE_WR_RDMA_WRITE, n++), 100000 + i * 10000, 10000,
					 100000 + i * 10000));
			CHECK(!pair_send(&p, 0, pair_wr(RACKWIRE_ROCE_WR_RDMA_READ, n++), 500000 + i * 10000, 10000,
					 500000 + i * 10000));
			add.compare_add = i + 1;
			CHECK(!pair_send(&p, 0, add, 700000 + i * 8, 8, 700000));
			n++;
		}
		pair_run(&p, 60000000000ull);
		CHECK(p.side[0].nsend == n && p.side[1].nrecv == 10 && !p.side[0].qp_errors && !p.side[1].qp_errors);
		for (i = 0; i < p.side[0].nsend; i++)
			CHECK(OK(p.side[0].send[i], i));
		for (i = 0; i < p.side[1].nrecv; i++) {
			CHECK(OK(p.side[1].recv[i], i));
			CHECK(pair_same(&p, i * 10000, i * 10000, p.side[1].recv[i].byte_len));
		}
		CHECK(pair_same(&p, 100000, 100000, 100000));
		CHECK(pair_same(&p, 500000, 500000, 100000));
		for (i = 0; i < 10; i++) {
			CHECK(*(u64 *)(p.side[0].buf + 700000 + i * 8) == sum);
			sum += i + 1;
		}
		CHECK(*(u64 *)(p.side[1].buf + 700000) == sum);
		pair_close(&p);
	}
}

static enum verdict lose_all(struct pair *p, struct wire_pkt *pkt)
{
	(void)p;
	(void)pkt;
	return DROP;
}

static void silence__ends_in_retry_error(void)
{
	struct pair p;
	u64 before;
	u32 i;

	pair_defaults(&p);
	p.filter = lose_all;
	p.link[0].retry_count = 3;
	pair_open(&p);
	before = p.now;
	for (i = 0; i < 5; i++)
		CHECK(!pair_send(&p, 0, pair_wr(RACKWIRE_ROCE_WR_SEND, i), 0, 10, 0));
	pair_run(&p, 4 * roce_timeout_ns(14) - 1);
	CHECK(p.side[0].nsend == 0 && roce_qp_state(p.side[0].qp) == RACKWIRE_ROCE_QP_RTS);
	pair_run(&p, 1);
	CHECK(p.side[0].nsend == 5 && p.side[0].send[0].status == RACKWIRE_ROCE_WC_RETRY_EXC_ERR);
	for (i = 1; i < 5; i++)
		CHECK(p.side[0].send[i].status == RACKWIRE_ROCE_WC_WR_FLUSH_ERR && p.side[0].send[i].wr_id == i);
	CHECK(p.side[0].qp_errors == 1 && p.side[0].error == -ETIMEDOUT);
	CHECK(p.now == before + 4 * roce_timeout_ns(14));
	pair_close(&p);
}

static enum verdict lose_first_atomic_ack(struct pair *p, struct wire_pkt *pkt)
{
	return pkt->h.opcode == ROCE_ATOMIC_ACK && !p->count++ ? DROP : PASS;
}

static void atomic__executes_once(void)
{
	struct pair p;
	struct rackwire_roce_send_wr wr = pair_wr(RACKWIRE_ROCE_WR_ATOMIC_FETCH_AND_ADD, 1);
	struct rackwire_roce_qp_stats stats;

	pair_defaults(&p);
	p.filter = lose_first_atomic_ack;
	pair_open(&p);
	wr.compare_add = 5;
	CHECK(!pair_send(&p, 0, wr, 0, 8, 0));
	pair_run(&p, 1000000000);
	CHECK(p.side[0].nsend == 1 && OK(p.side[0].send[0], 1));
	CHECK(*(u64 *)p.side[1].buf == 5 && *(u64 *)p.side[0].buf == 0);
	roce_qp_stats(p.side[1].qp, &stats);
	CHECK(stats.duplicates_rx == 1 && p.count == 2);
	pair_close(&p);
}

static enum verdict lose_third_response(struct pair *p, struct wire_pkt *pkt)
{
	if (pkt->h.opcode == ROCE_READ_REQUEST && p->count > 3) /* from what is missing on */
		CHECK(pkt->h.va >= (u64)(uintptr_t)p->side[1].buf + 2048);
	return roce_op(pkt->h.opcode) & ROCE_OP_READ_RESP && ++p->count == 3 ? DROP : PASS;
}

static void read__is_repeated_in_part(void)
{
	struct pair p;

	pair_defaults(&p);
	p.filter = lose_third_response;
	pair_open(&p);
	pair_fill(&p, 1, 0, 10000, 1);
	CHECK(!pair_send(&p, 0, pair_wr(RACKWIRE_ROCE_WR_RDMA_READ, 1), 0, 10000, 0));
	pair_settle(&p); /* without a timeout */
	CHECK(p.side[0].nsend == 1 && OK(p.side[0].send[0], 1) && pair_same(&p, 0, 0, 10000));
	pair_close(&p);
}

static enum verdict lose_third_request(struct pair *p, struct wire_pkt *pkt)
{
	return pkt->from == 0 && ++p->count == 3 ? DROP : PASS;
}

static void gap__draws_one_nak(void)
{
	struct pair p;
	struct rackwire_roce_qp_stats stats;

	pair_defaults(&p);
	p.filter = lose_third_request;
	pair_open(&p);
	pair_fill(&p, 0, 0, 20000, 1);
	CHECK(!pair_send(&p, 0, pair_wr(RACKWIRE_ROCE_WR_RDMA_WRITE, 1), 0, 20000, 0));
	pair_settle(&p);
	CHECK(p.side[0].nsend == 1 && OK(p.side[0].send[0], 1) && pair_same(&p, 0, 0, 20000));
	roce_qp_stats(p.side[1].qp, &stats);
	CHECK(stats.seq_nak_tx == 1);
	roce_qp_stats(p.side[0].qp, &stats);
	CHECK(stats.seq_nak_rx == 1 && stats.timeouts == 0 && stats.rtx_packets == 18);
	pair_close(&p);
}

static enum verdict room_for_eight(struct pair *p, struct wire_pkt *pkt)
{
	return pkt->h.opcode != ROCE_ACK && p->batch >= 8 ? DROP : PASS;
}

/* A receive buffer far smaller than the window: the sender finds its size out without falling silent. */
static void overflow__is_no_collapse(void)
{
	static const u32 opcodes[] = { RACKWIRE_ROCE_WR_RDMA_WRITE, RACKWIRE_ROCE_WR_RDMA_READ };
	struct rackwire_roce_qp_stats stats;
	struct pair p;
	u32 i;

	for (i = 0; i < 2; i++) {
		pair_defaults(&p);
		p.filter = room_for_eight;
		pair_open(&p);
		pair_fill(&p, i, 0, BUFFER, 1);
		CHECK(!pair_send(&p, 0, pair_wr(opcodes[i], 1), 0, BUFFER, 0));
		pair_settle(&p);
		CHECK(p.side[0].nsend == 1 && OK(p.side[0].send[0], 1) && pair_same(&p, 0, 0, BUFFER));
		roce_qp_stats(p.side[0].qp, &stats);
		CHECK(stats.timeouts == 0 && stats.rtx_packets < BUFFER / 1024 / 2);
		pair_close(&p);
	}
}

/* ---- receiver not ready ---- */

static void rnr__waits_for_a_receive(void)
{
	struct pair p;
	struct rackwire_roce_qp_stats stats;

	pair_defaults(&p);
	pair_open(&p);
	pair_fill(&p, 0, 0, 3000, 1);
	CHECK(!pair_send(&p, 0, pair_wr(RACKWIRE_ROCE_WR_SEND, 1), 0, 3000, 0));
	pair_run(&p, 3 * roce_rnr_ns(12));
	CHECK(p.side[0].nsend == 0);
	pair_recv(&p, 1, 2, 0, 4096);
	pair_run(&p, roce_rnr_ns(12));
	CHECK(p.side[0].nsend == 1 && OK(p.side[0].send[0], 1) && pair_same(&p, 0, 0, 3000));
	roce_qp_stats(p.side[0].qp, &stats);
	CHECK(stats.rnr_nak_rx == 4 && stats.seq_nak_rx == 0);
	pair_close(&p);
}

static void rnr__ends_after_its_retries(void)
{
	struct pair p;

	pair_defaults(&p);
	p.link[0].rnr_retry_count = 2;
	pair_open(&p);
	CHECK(!pair_send(&p, 0, pair_wr(RACKWIRE_ROCE_WR_SEND, 1), 0, 10, 0));
	pair_run(&p, 2 * roce_rnr_ns(12) - 1);
	CHECK(p.side[0].nsend == 0);
	pair_run(&p, 1);
	CHECK(p.side[0].nsend == 1 && p.side[0].send[0].status == RACKWIRE_ROCE_WC_RNR_RETRY_EXC_ERR);
	pair_close(&p);
}

/* ---- order ---- */

static bool write_seen;

static enum verdict watch_fence(struct pair *p, struct wire_pkt *pkt)
{
	(void)p;
	if (pkt->h.opcode == ROCE_WRITE_ONLY)
		write_seen = true;
	if (pkt->h.opcode == ROCE_READ_RESP_LAST)
		CHECK(!write_seen);
	return PASS;
}

static void fence__waits_for_the_read(void)
{
	struct pair p;
	struct rackwire_roce_send_wr wr = pair_wr(RACKWIRE_ROCE_WR_RDMA_WRITE, 2);

	write_seen = false;
	pair_defaults(&p);
	p.filter = watch_fence;
	pair_open(&p);
	wr.flags |= RACKWIRE_ROCE_SEND_FENCE;
	CHECK(!pair_send(&p, 0, pair_wr(RACKWIRE_ROCE_WR_RDMA_READ, 1), 0, 20000, 0));
	CHECK(!pair_send(&p, 0, wr, 100, 10, 0));
	pair_settle(&p);
	CHECK(p.side[0].nsend == 2 && write_seen);
	pair_close(&p);
}

static void inline__copies_at_once(void)
{
	struct pair p;
	struct rackwire_roce_send_wr wr = pair_wr(RACKWIRE_ROCE_WR_RDMA_WRITE, 1);

	pair_defaults(&p);
	pair_open(&p);
	wr.flags |= RACKWIRE_ROCE_SEND_INLINE;
	p.side[0].buf[0] = 1;
	CHECK(!pair_send(&p, 0, wr, 0, 256, 0));
	p.side[0].buf[0] = 2;
	CHECK(pair_send(&p, 0, wr, 0, 257, 0) == -EMSGSIZE);
	wr.opcode = RACKWIRE_ROCE_WR_RDMA_READ;
	CHECK(pair_send(&p, 0, wr, 0, 1, 0) == -EINVAL);
	pair_settle(&p);
	CHECK(p.side[0].nsend == 1 && p.side[1].buf[0] == 1);
	pair_close(&p);
}

/* ---- completion queues ---- */

static void cq__overflows(void)
{
	struct pair p;
	struct rackwire_roce_wc wc[8];
	struct roce_event ev;
	u32 i;

	pair_defaults(&p);
	p.cq_entries = 3;
	pair_open(&p);
	for (i = 0; i < 4; i++)
		CHECK(!pair_send(&p, 0, pair_wr(RACKWIRE_ROCE_WR_RDMA_WRITE, i), 0, 10, 0));
	p.filter = NULL;
	{ /* nobody polls the CQ meanwhile */
		u8 hdr[ROCE_HDR_MAX], data[2048];
		struct roce_txpkt tx = { .hdr = hdr };

		for (i = 0; i < 12; i++) {
			struct roce_rxpkt rx = { .data = data };
			u32 from = i / 4 % 2, f;

			if (!roce_poll_tx(p.side[from].dev, p.now, &tx))
				continue;
			memcpy(data, hdr, tx.hdr_len);
			rx.len = tx.hdr_len;
			for (f = 0; f < tx.nfrags; f++) {
				memcpy(data + rx.len, tx.frags[f].ptr, tx.frags[f].len);
				rx.len += tx.frags[f].len;
			}
			memset(data + rx.len, 0, tx.pad);
			rx.len += tx.pad;
			rx.path = p.link[!from].path;
			roce_rx(p.side[!from].dev, p.now, &rx);
		}
	}
	CHECK(roce_poll_event(p.side[0].dev, &ev) && ev.kind == ROCE_EV_QP && ev.error == -EOVERFLOW);
	CHECK(roce_poll_cq(p.side[0].scq, wc, 8) == 3);
	CHECK(roce_poll_cq(p.side[0].scq, wc, 8) == -EOVERFLOW);
	pair_close(&p);
}

static void cq__tells_when_armed(void)
{
	struct pair p;
	struct rackwire_roce_send_wr wr = pair_wr(RACKWIRE_ROCE_WR_SEND, 1);
	u32 i;

	pair_defaults(&p);
	pair_open(&p);
	for (i = 0; i < 3; i++)
		pair_recv(&p, 1, i, 0, 16);
	CHECK(roce_cq_arm(p.side[1].rcq, true) == 0);
	CHECK(!pair_send(&p, 0, wr, 0, 10, 0));
	pair_settle(&p);
	CHECK(p.side[1].cq_events == 0);
	wr.flags |= RACKWIRE_ROCE_SEND_SOLICITED;
	CHECK(!pair_send(&p, 0, wr, 0, 10, 0));
	pair_settle(&p);
	CHECK(p.side[1].cq_events == 1);
	CHECK(!pair_send(&p, 0, wr, 0, 10, 0));
	pair_settle(&p);
	CHECK(p.side[1].cq_events == 1 && p.side[1].nrecv == 3);
	pair_close(&p);
}

/* ---- congestion, idleness ---- */

static enum verdict mark(struct pair *p, struct wire_pkt *pkt)
{
	(void)p;
	if (pkt->ecn)
		pkt->ecn = 3;
	return PASS;
}

static void marks__slow_the_sender_down(void)
{
	struct pair p;
	struct rackwire_roce_qp_stats stats;
	u64 start;

	pair_defaults(&p);
	p.cfg.rate_bps = 10000000000ull;
	p.filter = mark;
	pair_open(&p);
	start = p.now;
	CHECK(!pair_send(&p, 0, pair_wr(RACKWIRE_ROCE_WR_RDMA_WRITE, 1), 0, 1000000, 0));
	while (!p.side[0].nsend && p.now < start + 1000000000)
		pair_run(&p, 10000);
	CHECK(p.side[0].nsend == 1);
	CHECK(p.now - start > 1000000); /* 10 Gbit/s would take 800 us */
	roce_qp_stats(p.side[1].qp, &stats);
	CHECK(stats.cnp_tx > 3 && stats.cnp_tx <= 1 + (p.now - start) / 50000 && stats.ecn_rx > 900);
	roce_qp_stats(p.side[0].qp, &stats);
	CHECK(stats.cnp_rx > 3);
	pair_close(&p);
}

static void idle__peer_is_probed(void)
{
	struct pair p;
	struct rackwire_roce_qp_stats stats;

	pair_defaults(&p);
	p.cfg.keepalive_ns = 1000000000;
	pair_open(&p);
	CHECK(!pair_send(&p, 0, pair_wr(RACKWIRE_ROCE_WR_RDMA_WRITE, 1), 0, 10, 0));
	pair_run(&p, 10000000000ull);
	roce_qp_stats(p.side[1].qp, &stats);
	CHECK(stats.duplicates_rx >= 5 && !p.side[0].qp_errors);
	p.filter = lose_all;
	pair_run(&p, 3000000000ull);
	CHECK(p.side[0].error == -ETIMEDOUT && p.side[1].error == -ETIMEDOUT);
	pair_close(&p);
}

static const struct test tests[] = {
	{ "send__arrives", send__arrives },
	{ "write__lands", write__lands },
	{ "read__fetches", read__fetches },
	{ "atomics__execute", atomics__execute },
	{ "loss__is_repaired", loss__is_repaired },
	{ "silence__ends_in_retry_error", silence__ends_in_retry_error },
	{ "atomic__executes_once", atomic__executes_once },
	{ "read__is_repeated_in_part", read__is_repeated_in_part },
	{ "gap__draws_one_nak", gap__draws_one_nak },
	{ "overflow__is_no_collapse", overflow__is_no_collapse },
	{ "rnr__waits_for_a_receive", rnr__waits_for_a_receive },
	{ "rnr__ends_after_its_retries", rnr__ends_after_its_retries },
	{ "fence__waits_for_the_read", fence__waits_for_the_read },
	{ "inline__copies_at_once", inline__copies_at_once },
	{ "cq__overflows", cq__overflows },
	{ "cq__tells_when_armed", cq__tells_when_armed },
	{ "marks__slow_the_sender_down", marks__slow_the_sender_down },
	{ "idle__peer_is_probed", idle__peer_is_probed },
};

int main(void)
{
	return run_tests(tests, sizeof(tests) / sizeof(tests[0]));
}
