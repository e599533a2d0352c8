// SPDX-License-Identifier: BSD-2-Clause
/*
 * Latencies, one operation at a time:
 *   wlat  WRITE ping-pong, each end watching the last byte of its memory count up
 *   rlat  READ
 *   slat  SEND ping-pong
 *   alat  fetch-and-add or compare-and-swap on a word of the connection's own
 */
#include <errno.h>
#include <string.h>

#include "work.h"

#define LAT_SENDS 64
#define LAT_RECVS 4
#define LAT_PROBES 2

static void lat_depth(const struct krping_conn *c, uint32_t *sends, uint32_t *recvs)
{
	(void)c;
	*sends = LAT_SENDS;
	*recvs = LAT_RECVS;
}

static uint8_t *last_byte(const struct conn_buffer *b, uint32_t length)
{
	return b->data + length - 1;
}

static void lat_post(struct krping_conn *c)
{
	struct rackwire_roce_sge sge;
	struct rackwire_roce_send_wr wr;

	if (c->under_way + LAT_PROBES >= c->sends) { /* acknowledgements are late; when one has come */
		c->owed = true;
		return;
	}
	sge.addr = (uintptr_t)c->a.data;
	sge.length = c->length;
	sge.lkey = c->work->ops->lkey(c->a.mr);
	wr.wr_id = conn_wr_id(c, TAG_DATA, 0);
	wr.sg_list = &sge;
	wr.num_sge = 1;
	wr.flags = RACKWIRE_ROCE_SEND_SIGNALED;
	wr.remote_addr = c->remote.addr;
	wr.rkey = c->remote.rkey;
	switch (c->kind) {
	case RACKWIRE_KRPING_WLAT:
		*last_byte(&c->a, c->length) = (uint8_t)(c->turn + !c->server);
		wr.opcode = RACKWIRE_ROCE_WR_RDMA_WRITE;
		break;
	case RACKWIRE_KRPING_RLAT:
		wr.opcode = RACKWIRE_ROCE_WR_RDMA_READ;
		break;
	case RACKWIRE_KRPING_SLAT:
		wr.opcode = RACKWIRE_ROCE_WR_SEND;
		break;
	default:
		wr.opcode = c->op == RACKWIRE_KRPING_OP_CSWAP ? RACKWIRE_ROCE_WR_ATOMIC_CMP_AND_SWP :
								RACKWIRE_ROCE_WR_ATOMIC_FETCH_AND_ADD;
		wr.compare_add = c->op == RACKWIRE_KRPING_OP_CSWAP ? c->turn : 1;
		wr.swap = c->turn + 1;
	}
	if (c->length <= RACKWIRE_ROCE_MAX_INLINE && wr.opcode <= RACKWIRE_ROCE_WR_RDMA_WRITE)
		wr.flags |= RACKWIRE_ROCE_SEND_INLINE;
	c->under_way++;
	conn_post(c, &wr, 1);
}

static void lat_start(struct krping_conn *c, uint64_t now)
{
	if (!client_may_start(c, now)) {
		c->waiting_since = 0;
		conn_leave(c, now);
		return;
	}
	c->to_start--;
	c->began = c->waiting_since = now;
	lat_post(c);
}

/* One there and back, or one there. */
static void lat_done(struct krping_conn *c, uint32_t share)
{
	uint64_t now = rackwire_now_ns();

	c->number++;
	client_operation(c, c->began, now, c->length, share);
	if (c->state == CONN_READY)
		lat_start(c, now);
}

static bool lat_spin(struct krping_conn *c)
{
	uint8_t expected = (uint8_t)(c->turn + 1);

	if (c->kind != RACKWIRE_KRPING_WLAT || c->state != CONN_READY || !c->b.data ||
	    __atomic_load_n(last_byte(&c->b, c->length), __ATOMIC_ACQUIRE) != expected)
		return false;
	if (!c->server && !c->work->started)
		return false;
	c->turn++;
	if (c->server) {
		c->pings++;
		lat_post(c);
	} else {
		lat_done(c, 2);
	}
	return true;
}

static void atomic_check(struct krping_conn *c)
{
	uint64_t was;

	memcpy(&was, c->a.data, sizeof(was));
	if (c->flags & RACKWIRE_KRPING_VALIDATE) {
		bool wrong = was != c->turn;

		c->verified += wrong ? 0 : 8;
		c->corrupt += wrong ? 8 : 0;
		work_count(c->work, wrong ? RACKWIRE_KRPING_CORRUPT_BYTES : RACKWIRE_KRPING_VERIFIED_BYTES, 8);
		c->work->corrupt |= wrong;
	}
	c->turn++;
}

static void lat_completed(struct krping_conn *c)
{
	c->under_way--;
	switch (c->kind) {
	case RACKWIRE_KRPING_WLAT:
		conn_count(c, RACKWIRE_KRPING_WRITE_BYTES, c->length);
		conn_count(c, RACKWIRE_KRPING_WRITE_MSGS, 1);
		break;
	case RACKWIRE_KRPING_SLAT:
		conn_count(c, RACKWIRE_KRPING_SEND_BYTES, c->length);
		conn_count(c, RACKWIRE_KRPING_SEND_MSGS, 1);
		break;
	case RACKWIRE_KRPING_RLAT:
		conn_count(c, RACKWIRE_KRPING_READ_BYTES, c->length);
		conn_count(c, RACKWIRE_KRPING_READ_MSGS, 1);
		lat_done(c, 1);
		return;
	case RACKWIRE_KRPING_ALAT:
		work_count(c->work, RACKWIRE_KRPING_ATOMIC_MSGS, 1);
		atomic_check(c);
		lat_done(c, 1);
		return;
	}
	if (c->owed) {
		c->owed = false;
		lat_post(c);
	}
}

static void lat_complete(struct krping_conn *c, const struct rackwire_roce_wc *wc)
{
	char text[128];

	switch (wc->wr_id >> 8 & 0xff) {
	case TAG_DATA:
		lat_completed(c);
		break;
	case TAG_RECV:
		if (bench_set_up(c, wc))
			break;
		if (c->kind != RACKWIRE_KRPING_SLAT || wc->byte_len != c->length) {
			conn_fail(c, -EPROTO, "%s sent %u bytes that nothing asked for",
				  conn_peer(c, text, sizeof(text)), wc->byte_len);
			break;
		}
		if (conn_post_recvs(c, wc->wr_id & 0xff, 1))
			break;
		c->pings++;
		if (c->server)
			lat_post(c);
		else
			lat_done(c, 2);
		break;
	}
}

static void lat_finish(struct krping_conn *c, uint64_t now)
{
	/* Between two operations this is never called: the next one starts where the last one ends. */
	if (!c->waiting_since)
		conn_leave(c, now);
}

const struct conn_ops bench_lat_ops = {
	.depth = lat_depth,
	.prepare = bench_prepare,
	.established = bench_established,
	.start = lat_start,
	.complete = lat_complete,
	.spin = lat_spin,
	.finish = lat_finish,
};
