// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the benchmarks have in common: each end has memory `a` of its own and
 * memory `b` for the other, and says where `b` is, the client first.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "work.h"

enum bench_step { BENCH_ADVERTISE, BENCH_RUN };

/* What the peer does with our `b`. */
uint32_t bench_access(const struct krping_conn *c)
{
	bool served = c->server || c->kind == RACKWIRE_KRPING_WLAT || c->flags & RACKWIRE_KRPING_DUPLEX;

	if (!served || bench_receives_data(c))
		return 0;
	switch (c->kind) {
	case RACKWIRE_KRPING_WLAT:
		return RACKWIRE_ROCE_REMOTE_WRITE;
	case RACKWIRE_KRPING_RLAT:
		return RACKWIRE_ROCE_REMOTE_READ;
	case RACKWIRE_KRPING_ALAT:
		return RACKWIRE_ROCE_REMOTE_ATOMIC;
	}
	switch (c->op) {
	case RACKWIRE_KRPING_OP_READ:
		return RACKWIRE_ROCE_REMOTE_READ;
	case RACKWIRE_KRPING_OP_FADD:
	case RACKWIRE_KRPING_OP_CSWAP:
		return RACKWIRE_ROCE_REMOTE_ATOMIC;
	default:
		return RACKWIRE_ROCE_REMOTE_WRITE;
	}
}

int bench_prepare(struct krping_conn *c)
{
	/* Where SENDs arrive, the 16 bytes of setting up do too. */
	uint32_t room = c->length < WIRE_ADV_LEN ? WIRE_ADV_LEN : c->length;
	int err;

	err = conn_buffer(c, &c->a, c->length, 0, false);
	if (!err)
		err = conn_buffer(c, &c->b, room, bench_access(c), false);
	if (!err && c->kind == RACKWIRE_KRPING_BW) {
		c->times = calloc(c->txdepth, sizeof(*c->times));
		err = c->times ? 0 : -ENOMEM;
	}
	return err;
}

static void advertise(struct krping_conn *c)
{
	struct wire_adv adv = { .addr = (uintptr_t)c->b.data, .rkey = c->b.key, .size = c->length };
	struct rackwire_roce_send_wr wr;
	uint8_t bytes[WIRE_ADV_LEN];
	struct rackwire_roce_sge sge;

	wire_adv_encode(bytes, &adv);
	conn_message(c, &wr, &sge, bytes, 0, 0);
	conn_post(c, &wr, 1);
}

void bench_established(struct krping_conn *c)
{
	if (c->server)
		return;
	c->waiting_since = rackwire_now_ns();
	advertise(c);
}

uint8_t *bench_recv_data(struct krping_conn *c, const struct rackwire_roce_wc *wc)
{
	return bench_receives_data(c) ? c->b.data : conn_recv_slot(c, wc->wr_id & 0xff);
}

bool bench_set_up(struct krping_conn *c, const struct rackwire_roce_wc *wc)
{
	struct rackwire_krping_work *w = c->work;
	char text[128];

	if (c->step == BENCH_RUN)
		return false;
	wire_adv_decode(bench_recv_data(c, wc), &c->remote);
	if (wc->byte_len != WIRE_ADV_LEN || c->remote.size != c->length) {
		conn_fail(c, -EPROTO, "%s sets up the benchmark in a way that makes no sense",
			  conn_peer(c, text, sizeof(text)));
		return true;
	}
	/* Here alone, and in the peer's answer, `b` holds a message: data follow when both have been read. */
	memset(c->b.data, 0, WIRE_ADV_LEN < c->b.capacity ? WIRE_ADV_LEN : c->b.capacity);
	if (conn_post_recvs(c, wc->wr_id & 0xff, 1))
		return true;
	c->step = BENCH_RUN;
	c->memory_watched = c->kind == RACKWIRE_KRPING_WLAT;
	w->memories += c->memory_watched;
	if (!c->server) {
		client_armed(c, rackwire_now_ns());
		return true;
	}
	advertise(c);
	if (c->kind == RACKWIRE_KRPING_WLAT || c->flags & RACKWIRE_KRPING_POLL) {
		c->watched = true;
		w->watched++;
		w->spin_until = rackwire_now_ns() + WORK_SPIN_NS;
	}
	return true;
}
