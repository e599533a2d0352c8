// SPDX-License-Identifier: BSD-2-Clause
/*
 * Bandwidth: txdepth requests are kept under way; with duplex the server does the
 * same until the client says that it has done, and then reports how much it was.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "work.h"

#define BW_EXTRA 4 /* messages and a probe beside txdepth */

static bool moves(const struct krping_conn *c)
{
	return !c->server || c->flags & RACKWIRE_KRPING_DUPLEX;
}

static void bw_depth(const struct krping_conn *c, uint32_t *sends, uint32_t *recvs)
{
	bool receives = bench_receives_data(c) && (c->server || c->flags & RACKWIRE_KRPING_DUPLEX);

	*sends = (moves(c) ? c->txdepth : 0) + BW_EXTRA;
	*recvs = (receives ? c->txdepth : 0) + BW_EXTRA;
}

static uint32_t opcode_of(uint32_t op)
{
	static const uint32_t opcodes[] = {
		[RACKWIRE_KRPING_OP_WRITE] = RACKWIRE_ROCE_WR_RDMA_WRITE,
		[RACKWIRE_KRPING_OP_READ] = RACKWIRE_ROCE_WR_RDMA_READ,
		[RACKWIRE_KRPING_OP_SEND] = RACKWIRE_ROCE_WR_SEND,
		[RACKWIRE_KRPING_OP_FADD] = RACKWIRE_ROCE_WR_ATOMIC_FETCH_AND_ADD,
		[RACKWIRE_KRPING_OP_CSWAP] = RACKWIRE_ROCE_WR_ATOMIC_CMP_AND_SWP,
	};

	return opcodes[op];
}

static bool may_post(struct krping_conn *c, uint64_t now)
{
	if (c->under_way >= c->txdepth || c->bye)
		return false;
	if (c->server)
		return true;
	if (!client_may_start(c, now))
		return false;
	c->to_start--;
	return true;
}

static void post_batch(struct krping_conn *c, uint64_t now)
{
	struct rackwire_roce_sge sge = {
		.addr = (uintptr_t)c->a.data,
		.length = c->length,
		.lkey = c->work->ops->lkey(c->a.mr),
	};
	struct rackwire_roce_send_wr wr[WORK_BATCH];
	uint32_t opcode = opcode_of(c->op), n;

	do {
		for (n = 0; n < WORK_BATCH && may_post(c, now); n++) {
			wr[n] = (struct rackwire_roce_send_wr){
				.wr_id = conn_wr_id(c, TAG_DATA, 0),
				.sg_list = &sge,
				.num_sge = 1,
				.opcode = opcode,
				.flags = RACKWIRE_ROCE_SEND_SIGNALED,
				.remote_addr = c->remote.addr,
				.rkey = c->remote.rkey,
				.compare_add = 1,
				.swap = 1,
			};
			if (c->length <= RACKWIRE_ROCE_MAX_INLINE && opcode <= RACKWIRE_ROCE_WR_RDMA_WRITE)
				wr[n].flags |= RACKWIRE_ROCE_SEND_INLINE;
			c->times[(c->head + c->under_way++) % c->txdepth] = now;
		}
		if (n && conn_post(c, wr, n))
			return;
	} while (n == WORK_BATCH);
}

static void control(struct krping_conn *c, uint32_t imm, const struct wire_report *report)
{
	struct rackwire_roce_send_wr wr;
	uint8_t bytes[WIRE_ADV_LEN];
	struct rackwire_roce_sge sge;

	wire_report_encode(bytes, report);
	conn_message(c, &wr, &sge, bytes, imm, 0);
	conn_post(c, &wr, 1);
}

static void bw_pump(struct krping_conn *c, uint64_t now)
{
	if (c->state != CONN_READY)
		return;
	if (c->recv_due) {
		uint32_t n = c->recv_due;

		c->recv_due = 0;
		if (conn_post_recvs(c, 0, n))
			return;
	}
	if (c->server ? c->going : c->armed)
		post_batch(c, now);
	if (c->under_way || c->reporting || c->state != CONN_READY)
		return;
	if (c->server && c->bye) {
		struct wire_report report = { .bytes = c->moved_bytes, .operations = c->moved_ops };

		c->reporting = true;
		control(c, WIRE_IMM_REPORT, &report);
	} else if (!c->server && c->work->started && !client_may_start(c, now)) {
		struct wire_report none = { 0, 0 };

		c->reporting = true;
		control(c, WIRE_IMM_BYE, &none);
	}
}

static void bw_start(struct krping_conn *c, uint64_t now)
{
	struct wire_report none = { 0, 0 };

	c->waiting_since = now;
	if (c->flags & RACKWIRE_KRPING_DUPLEX)
		control(c, WIRE_IMM_GO, &none);
	bw_pump(c, now);
}

static void bw_count(struct krping_conn *c)
{
	c->moved_bytes += c->length;
	c->moved_ops++;
	switch (c->op) {
	case RACKWIRE_KRPING_OP_WRITE:
		conn_count(c, RACKWIRE_KRPING_WRITE_BYTES, c->length);
		conn_count(c, RACKWIRE_KRPING_WRITE_MSGS, 1);
		break;
	case RACKWIRE_KRPING_OP_READ:
		conn_count(c, RACKWIRE_KRPING_READ_BYTES, c->length);
		conn_count(c, RACKWIRE_KRPING_READ_MSGS, 1);
		break;
	case RACKWIRE_KRPING_OP_SEND:
		conn_count(c, RACKWIRE_KRPING_SEND_BYTES, c->length);
		conn_count(c, RACKWIRE_KRPING_SEND_MSGS, 1);
		break;
	default:
		work_count(c->work, RACKWIRE_KRPING_ATOMIC_MSGS, 1);
	}
}

/* Requests of a queue pair complete in order. */
static void bw_completed(struct krping_conn *c)
{
	uint64_t began = c->times[c->head % c->txdepth], now;

	c->head = (c->head + 1) % c->txdepth;
	c->under_way--;
	bw_count(c);
	if (!c->server) {
		now = rackwire_now_ns();
		c->number++;
		c->waiting_since = now;
		client_operation(c, began, now, c->length, 1);
	}
	if (c->state == CONN_READY)
		conn_pump_later(c);
}

static void bw_control(struct krping_conn *c, const struct rackwire_roce_wc *wc)
{
	struct wire_report report;
	char text[128];

	if (c->server && wc->ex == WIRE_IMM_GO && c->flags & RACKWIRE_KRPING_DUPLEX) {
		c->going = true;
		c->recv_due++;
		conn_pump_later(c);
		return;
	}
	if (c->server && wc->ex == WIRE_IMM_BYE && wc->byte_len == WIRE_ADV_LEN) {
		c->bye = true;
		conn_pump_later(c);
		return;
	}
	if (!c->server && wc->ex == WIRE_IMM_REPORT && wc->byte_len == WIRE_ADV_LEN && c->reporting) {
		wire_report_decode(bench_recv_data(c, wc), &report);
		if (c->flags & RACKWIRE_KRPING_DUPLEX)
			work_count(c->work, RACKWIRE_KRPING_PEER_BYTES, report.bytes);
		c->waiting_since = 0;
		conn_leave(c, rackwire_now_ns());
		return;
	}
	conn_fail(c, -EPROTO, "%s sent a message that makes no sense", conn_peer(c, text, sizeof(text)));
}

static void bw_complete(struct krping_conn *c, const struct rackwire_roce_wc *wc)
{
	char text[128];

	switch (wc->wr_id >> 8 & 0xff) {
	case TAG_DATA:
		bw_completed(c);
		break;
	case TAG_RECV:
		if (bench_set_up(c, wc))
			break;
		if (wc->flags & RACKWIRE_ROCE_WC_WITH_IMM) {
			bw_control(c, wc);
			break;
		}
		if (c->op != RACKWIRE_KRPING_OP_SEND || wc->byte_len != c->length) {
			conn_fail(c, -EPROTO, "%s sent %u bytes that nothing asked for",
				  conn_peer(c, text, sizeof(text)), wc->byte_len);
			break;
		}
		c->recv_due++;
		conn_pump_later(c);
		break;
	}
}

static void bw_finish(struct krping_conn *c, uint64_t now)
{
	bw_pump(c, now);
}

const struct conn_ops bench_bw_ops = {
	.depth = bw_depth,
	.prepare = bench_prepare,
	.established = bench_established,
	.start = bw_start,
	.complete = bw_complete,
	.pump = bw_pump,
	.finish = bw_finish,
};
