// SPDX-License-Identifier: BSD-2-Clause
/*
 * A ping as rping and the original krping do it: the client says where its
 * contents are, the server READs them and gives the go-ahead; the client says
 * where it wants them, the server WRITEs them and gives the go-ahead.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ping_data.h"
#include "work.h"

#define PING_SENDS 16
#define PING_RECVS 2
#define UNSEEN 0xa5 /* what a WRITE that did not happen leaves behind */

static const uint8_t nothing[WIRE_ADV_LEN]; /* what a go-ahead says */

enum client_step { CLIENT_IDLE, CLIENT_READ, CLIENT_WRITE };
enum server_step { SERVER_FIRST, SERVER_READING, SERVER_SECOND };

static void ping_depth(const struct krping_conn *c, uint32_t *sends, uint32_t *recvs)
{
	(void)c;
	*sends = PING_SENDS;
	*recvs = PING_RECVS;
}

/* Every message of the protocol has 16 bytes and no immediate. */
static int message_check(struct krping_conn *c, const struct rackwire_roce_wc *wc)
{
	char text[128];

	if (wc->byte_len == WIRE_ADV_LEN && !(wc->flags & RACKWIRE_ROCE_WC_WITH_IMM))
		return conn_post_recvs(c, wc->wr_id & 0xff, 1);
	return conn_fail(c, -EPROTO, "%s does not speak krping: a message of %u bytes", conn_peer(c, text, sizeof(text)),
			 wc->byte_len);
}

/* ---- client ---- */

static int client_prepare(struct krping_conn *c)
{
	/* A key that the server is to invalidate must be of the kind that can be. */
	bool fresh = c->flags & (RACKWIRE_KRPING_REG | RACKWIRE_KRPING_SERVER_INV);
	int err;

	err = conn_buffer(c, &c->a, c->length, RACKWIRE_ROCE_REMOTE_READ, fresh);
	return err ? err : conn_buffer(c, &c->b, c->length, RACKWIRE_ROCE_REMOTE_WRITE, fresh);
}

static void advertise(struct krping_conn *c, struct conn_buffer *b)
{
	struct rackwire_roce_send_wr wr[3];
	struct rackwire_roce_sge sge;
	struct wire_adv adv;
	uint8_t bytes[WIRE_ADV_LEN];
	int n = 0;

	/* Without mem_mode reg, only after the server has invalidated it. */
	if (c->flags & RACKWIRE_KRPING_REG || !b->bound)
		n = conn_buffer_renew(c, b, wr);
	if (n < 0) {
		conn_fail(c, n, "no new key for the memory: %s", strerror(-n));
		return;
	}
	adv.addr = (uintptr_t)b->data;
	adv.rkey = b->key;
	adv.size = c->length;
	wire_adv_encode(bytes, &adv);
	conn_message(c, &wr[n], &sge, bytes, 0, 0);
	conn_post(c, wr, (uint32_t)n + 1);
}

static void ping_start(struct krping_conn *c, uint64_t now)
{
	if (!client_may_start(c, now)) {
		c->waiting_since = 0;
		conn_leave(c, now);
		return;
	}
	c->to_start--;
	if (c->work->config.interval_ns)
		c->next_at = (c->next_at == WORK_NEVER ? now : c->next_at) + c->work->config.interval_ns;
	ping_data_fill(c->a.data, c->length, c->number);
	if (c->flags & RACKWIRE_KRPING_VALIDATE)
		memset(c->b.data, UNSEEN, c->length);
	c->step = CLIENT_READ;
	c->began = c->waiting_since = rackwire_now_ns();
	advertise(c, &c->a);
}

static void client_check(struct krping_conn *c)
{
	uint64_t wrong = ping_data_differ(c->a.data, c->b.data, c->length);

	c->verified += c->length - wrong;
	c->corrupt += wrong;
	work_count(c->work, RACKWIRE_KRPING_VERIFIED_BYTES, c->length - wrong);
	work_count(c->work, RACKWIRE_KRPING_CORRUPT_BYTES, wrong);
	c->work->corrupt |= wrong != 0;
}

static void ping_done(struct krping_conn *c)
{
	uint64_t now = rackwire_now_ns();

	c->step = CLIENT_IDLE;
	c->waiting_since = 0;
	if (c->flags & RACKWIRE_KRPING_VALIDATE)
		client_check(c);
	if (c->flags & RACKWIRE_KRPING_VERBOSE)
		account_line(c->work, "ping data", c->b.data, c->length);
	c->number++;
	c->pings++;
	client_operation(c, c->began, now, 2ull * c->length, 1);
	if (c->state != CONN_READY)
		return;
	if (c->work->config.interval_ns && now < c->next_at && client_may_start(c, now)) {
		if (c->next_at < c->work->next_due)
			c->work->next_due = c->next_at;
		return;
	}
	ping_start(c, now);
}

/* The go-ahead may have taken the key of the buffer just used. */
static int key_check(struct krping_conn *c, const struct rackwire_roce_wc *wc)
{
	struct conn_buffer *b = c->step == CLIENT_READ ? &c->a : &c->b;
	char text[128];

	if (wc->flags & RACKWIRE_ROCE_WC_WITH_INV && wc->ex == b->key) {
		b->bound = false;
		b->fresh = true; /* whether asked to or not, this server takes keys */
		return 0;
	}
	if (c->flags & RACKWIRE_KRPING_SERVER_INV && !c->classic)
		return conn_fail(c, -EPROTO, "%s did not invalidate the key, which it had promised",
				 conn_peer(c, text, sizeof(text)));
	return 0;
}

static void client_complete(struct krping_conn *c, const struct rackwire_roce_wc *wc)
{
	char text[128];

	if ((wc->wr_id >> 8 & 0xff) != TAG_RECV || message_check(c, wc))
		return;
	if (c->step != CLIENT_IDLE && key_check(c, wc))
		return;
	switch (c->step) {
	case CLIENT_READ:
		c->step = CLIENT_WRITE;
		advertise(c, &c->b);
		break;
	case CLIENT_WRITE:
		ping_done(c);
		break;
	default:
		conn_fail(c, -EPROTO, "%s sent a go-ahead that nothing asked for", conn_peer(c, text, sizeof(text)));
	}
}

static void client_ready(struct krping_conn *c)
{
	client_armed(c, rackwire_now_ns());
}

static void ping_due(struct krping_conn *c, uint64_t now)
{
	if (c->step == CLIENT_IDLE)
		ping_start(c, now);
}

const struct conn_ops ping_client_ops = {
	.depth = ping_depth,
	.prepare = client_prepare,
	.established = client_ready,
	.start = ping_start,
	.complete = client_complete,
	.due = ping_due,
	.finish = ping_due, /* what is under way ends first */
};

/* ---- server ---- */

static int server_buffer(struct krping_conn *c, uint32_t size)
{
	return conn_buffer(c, &c->a, size, 0, c->flags & (RACKWIRE_KRPING_REG | RACKWIRE_KRPING_READ_INV));
}

/* An rping's size is known when its first advertisement comes; who has said it hears at once that it is too much. */
static int server_prepare(struct krping_conn *c)
{
	return c->classic ? 0 : server_buffer(c, c->length);
}

static void server_established(struct krping_conn *c)
{
	(void)c;
}

/* A buffer for @size bytes: the one there is, or a larger one. */
static int server_room(struct krping_conn *c, uint32_t size)
{
	char text[128];
	int err;

	if (size <= c->a.capacity)
		return 0;
	err = server_buffer(c, size);
	return err ? conn_fail(c, err, "no memory for %u bytes of %s: %s", size, conn_peer(c, text, sizeof(text)),
			       strerror(-err)) : 0;
}

static void server_read(struct krping_conn *c)
{
	struct rackwire_roce_send_wr wr[4];
	struct rackwire_roce_sge sge;
	struct rackwire_roce_send_wr *read;
	int n;

	if (server_room(c, c->remote.size))
		return;
	n = conn_buffer_renew(c, &c->a, wr);
	if (n < 0) {
		conn_fail(c, n, "no new key for the memory: %s", strerror(-n));
		return;
	}
	sge.addr = (uintptr_t)c->a.data;
	sge.length = c->remote.size;
	sge.lkey = conn_lkey(c, &c->a);
	read = &wr[n++];
	*read = (struct rackwire_roce_send_wr){
		.wr_id = conn_wr_id(c, TAG_READ, 0),
		.sg_list = &sge,
		.num_sge = 1,
		.opcode = RACKWIRE_ROCE_WR_RDMA_READ,
		.flags = RACKWIRE_ROCE_SEND_SIGNALED,
		.remote_addr = c->remote.addr,
		.rkey = c->remote.rkey,
	};
	if (c->flags & RACKWIRE_KRPING_READ_INV) {
		read->opcode = RACKWIRE_ROCE_WR_RDMA_READ_WITH_INV;
		read->ex.rkey = c->a.key;
		c->a.bound = false;
	} else if (c->a.bound) {
		wr[n++] = (struct rackwire_roce_send_wr){
			.wr_id = conn_wr_id(c, TAG_KEY, 0),
			.opcode = RACKWIRE_ROCE_WR_LOCAL_INV,
			.flags = RACKWIRE_ROCE_SEND_FENCE,
			.ex.rkey = c->a.key,
		};
		c->a.bound = false;
	}
	c->read_len = c->remote.size;
	c->step = SERVER_READING;
	conn_post(c, wr, (uint32_t)n);
}

static uint32_t go_ahead_key(const struct krping_conn *c)
{
	return c->flags & RACKWIRE_KRPING_SERVER_INV ? c->remote.rkey : 0;
}

static void go_ahead(struct krping_conn *c)
{
	struct rackwire_roce_send_wr wr;
	struct rackwire_roce_sge sge;

	conn_message(c, &wr, &sge, nothing, 0, go_ahead_key(c));
	conn_post(c, &wr, 1);
}

static void server_has_read(struct krping_conn *c)
{
	conn_count(c, RACKWIRE_KRPING_READ_BYTES, c->read_len);
	conn_count(c, RACKWIRE_KRPING_READ_MSGS, 1);
	if (c->flags & RACKWIRE_KRPING_VERBOSE)
		account_line(c->work, "server ping data", c->a.data, c->read_len);
	c->step = SERVER_SECOND;
	go_ahead(c);
}

/*
 * How much to WRITE: between two of ours what the client asks for, which must be
 * there. Others expect the string and its zero, which never reaches beyond what
 * was read or beyond what the client offers.
 */
static int server_write_length(struct krping_conn *c, uint32_t *length)
{
	uint32_t offered = c->remote.size, string;
	char text[128];

	if (c->exact) {
		*length = offered;
		return offered <= c->read_len ? 0 :
		       conn_fail(c, -EPROTO, "%s wants %u bytes back of %u", conn_peer(c, text, sizeof(text)), offered,
				 c->read_len);
	}
	string = ping_data_string(c->a.data, c->read_len);
	*length = string < offered ? string : offered;
	return 0;
}

static void server_write(struct krping_conn *c)
{
	struct rackwire_roce_send_wr wr[4];
	struct rackwire_roce_sge data, message;
	uint32_t length;
	int n = 0;

	if (server_write_length(c, &length))
		return;
	if (!(c->flags & RACKWIRE_KRPING_LOCAL_DMA_LKEY))
		n = conn_buffer_renew(c, &c->a, wr);
	if (n < 0) {
		conn_fail(c, n, "no new key for the memory: %s", strerror(-n));
		return;
	}
	data.addr = (uintptr_t)c->a.data;
	data.length = length;
	data.lkey = c->flags & RACKWIRE_KRPING_LOCAL_DMA_LKEY ? RACKWIRE_ROCE_LOCAL_DMA_LKEY : conn_lkey(c, &c->a);
	wr[n++] = (struct rackwire_roce_send_wr){
		.wr_id = conn_wr_id(c, TAG_WRITE, 0),
		.sg_list = &data,
		.num_sge = 1,
		.opcode = RACKWIRE_ROCE_WR_RDMA_WRITE,
		.flags = RACKWIRE_ROCE_SEND_SIGNALED,
		.remote_addr = c->remote.addr,
		.rkey = c->remote.rkey,
	};
	/*
	 * The SEND arrives after the WRITE has been placed: requests of a queue pair keep their order. But a key
	 * may be taken away only when what used it has been acknowledged.
	 */
	if (!c->a.fresh)
		conn_message(c, &wr[n++], &message, nothing, 0, go_ahead_key(c));
	c->write_len = length;
	c->under_way++;
	c->step = SERVER_FIRST;
	c->pings++;
	conn_post(c, wr, (uint32_t)n);
}

static void server_written(struct krping_conn *c)
{
	conn_count(c, RACKWIRE_KRPING_WRITE_BYTES, c->write_len);
	conn_count(c, RACKWIRE_KRPING_WRITE_MSGS, 1);
	c->under_way--;
	if (c->a.fresh)
		go_ahead(c);
	if (!c->owed)
		return;
	c->owed = false;
	server_read(c);
}

static void server_advertised(struct krping_conn *c, const struct rackwire_roce_wc *wc)
{
	char text[128];

	wire_adv_decode(conn_recv_slot(c, wc->wr_id & 0xff), &c->remote);
	if (message_check(c, wc))
		return;
	if (!c->remote.size || c->remote.size > c->work->config.length) {
		conn_fail(c, c->remote.size ? -EMSGSIZE : -EPROTO, "%s offers %u bytes", conn_peer(c, text, sizeof(text)),
			  c->remote.size);
		return;
	}
	switch (c->step) {
	case SERVER_FIRST:
		c->length = c->remote.size;
		c->owed = c->under_way && c->length > c->a.capacity; /* memory in use is not given back */
		if (!c->owed)
			server_read(c);
		break;
	case SERVER_SECOND:
		server_write(c);
		break;
	default:
		conn_fail(c, -EPROTO, "%s did not wait for the go-ahead", conn_peer(c, text, sizeof(text)));
	}
}

static void server_complete(struct krping_conn *c, const struct rackwire_roce_wc *wc)
{
	switch (wc->wr_id >> 8 & 0xff) {
	case TAG_RECV:
		server_advertised(c, wc);
		break;
	case TAG_READ:
		server_has_read(c);
		break;
	case TAG_WRITE:
		server_written(c);
		break;
	}
}

const struct conn_ops ping_server_ops = {
	.depth = ping_depth,
	.prepare = server_prepare,
	.established = server_established,
	.complete = server_complete,
};
