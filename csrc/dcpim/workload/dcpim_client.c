// SPDX-License-Identifier: BSD-2-Clause
/* A client's connections over dcPIM. */
#include <alloca.h>
#include <netinet/in.h>

#include "work.h"

#define PEEK 16

/* ---- what client.c asks for ---- */

static int flow_connect(struct work_conn *c, u64 now)
{
	struct work_lane *l = c->lane;
	struct rackwire_dcpim_work *w = l->work;
	struct sockaddr_storage to, from;
	socklen_t ignored;
	bool bound = w->config.sport || w->local.ss_family;

	(void)now;
	work_sockaddr(&w->address, w->config.port, &to, &ignored);
	if (bound) {
		from = w->local;
		if (!from.ss_family)
			from.ss_family = to.ss_family;
		work_sockaddr(&from, w->config.sport ? (u16)(w->config.sport + c->index) : 0, &from, &ignored);
	}
	return dcpim_shard_connect(l->shard, c->message ? DCPIM_MESSAGE : DCPIM_STREAM, bound ? &from : NULL, &to, c,
				   &c->flow);
}

static void flow_push(struct work_conn *c, u64 now)
{
	int err = work_flow_push(c, now);

	if (err == -EAGAIN)
		c->blocked = true;
	else if (err)
		work_client_broken(c, now, err);
}

/*
 * A message in pieces that the engine keeps a stock of. Of a message that nobody
 * checks or answers, the same bytes over and over.
 */
static int message_build(const struct work_conn *c, const struct work_request *r, struct dcpim_buf *bufs, u32 *count)
{
	bool blank = !c->pattern && c->service != RACKWIRE_DCPIM_WORK_SERVICE_ECHO;
	u32 off, len;

	for (off = 0; off < c->length; off += len) {
		struct dcpim_buf *b = &bufs[*count];

		len = (u32)dcpim_min(c->length - off, WORK_CHUNK);
		*b = (struct dcpim_buf){ work_blank, len, NULL };
		if (!blank && (off == 0 || c->pattern)) {
			if (dcpim_shard_buf(c->lane->shard, len, b))
				return -ENOMEM;
			work_message_fill(c, r->number, off, (u8 *)b->ptr, len);
		}
		(*count)++;
	}
	return 0;
}

static int flow_send_request(struct work_conn *c, u64 now, struct work_request *r)
{
	struct dcpim_buf *bufs = alloca((c->length / WORK_CHUNK + 1) * sizeof(*bufs));
	bool echo = c->service == RACKWIRE_DCPIM_WORK_SERVICE_ECHO;
	struct work_lane *l = c->lane;
	struct dcpim_flow_info info;
	char peer[128];
	u32 n = 0;
	int err;

	bufs[0] = (struct dcpim_buf){ 0 };
	err = message_build(c, r, bufs, &n);
	if (!err)
		err = dcpim_send_msg(c->flow, now, bufs, n, echo ? DCPIM_MSG_QUIET : 0, r, NULL);
	while (err && n)
		dcpim_shard_buf_put(l->shard, &bufs[--n]);
	if (err == -EMSGSIZE) {
		dcpim_flow_info(c->flow, &info);
		work_fail(l->work, err, "messages to %s hold at most %u bytes",
			  work_peer(l->work, l->transport, peer, sizeof(peer)), info.max_msg);
		return -EAGAIN;
	}
	return err;
}

static void flow_shutdown(struct work_conn *c, u64 now)
{
	dcpim_shutdown(c->flow, now);
}

static u64 flow_unacked(struct work_conn *c)
{
	struct dcpim_flow_info info;

	if (!c->flow)
		return 0;
	dcpim_flow_info(c->flow, &info);
	return info.tx_queued;
}

static void flow_close(struct work_conn *c, u64 now, bool abort)
{
	dcpim_close(c->flow, now, abort);
	c->flow = NULL;
}

const struct work_ops work_dcpim_ops = {
	.connect = flow_connect,
	.push = flow_push,
	.send_head = work_flow_send_head,
	.send_request = flow_send_request,
	.shutdown = flow_shutdown,
	.unacked = flow_unacked,
	.close = flow_close,
	.path = work_flow_path,
};

/* ---- what the engine tells ---- */

static void read_stream(struct work_conn *c, u64 now)
{
	struct dcpim_buf bufs[PEEK];
	u64 bytes;
	u32 i, n;

	while (c->flow && (n = dcpim_recv_peek(c->flow, bufs, PEEK))) {
		for (i = 0, bytes = 0; i < n; bytes += bufs[i++].len)
			work_client_bytes(c, now, bufs[i].ptr, bufs[i].len);
		if (c->flow)
			dcpim_consume(c->flow, now, bytes);
	}
}

/* An answer of ours, or something that is not. */
static void take_answer(struct work_conn *c, const struct dcpim_rxmsg *msg, const u8 *head)
{
	u64 number = work_message_number(head, msg->size);
	struct work_request *r = work_request_find(c, number, msg->size);

	c->rx_pos += msg->size;
	work_count(c->lane, RACKWIRE_DCPIM_WORK_RX_BYTES, msg->size);
	if (r && msg->size == c->length) {
		work_request_done(c, r);
		return;
	}
	/* An answer twice, of another length, or to nothing. */
	if (!c->corrupt)
		c->corrupt_at = number;
	c->corrupt += msg->size;
	work_count(c->lane, RACKWIRE_DCPIM_WORK_CORRUPT_BYTES, msg->size);
	__atomic_store_n(&c->lane->work->corrupt, true, __ATOMIC_RELAXED);
}

static void read_messages(struct work_conn *c, u64 now)
{
	u8 head[SERVICE_REPORT_LEN];
	struct dcpim_rxmsg msg;
	struct dcpim_buf first;

	while (c->flow && dcpim_msg_peek(c->flow, &msg, &first, 0, 1) >= 0) {
		bool is_answer = c->service == RACKWIRE_DCPIM_WORK_SERVICE_ECHO && c->state != WORK_HELLO;
		struct service_report report;

		work_message_take(c, &msg, head);
		if (is_answer && c->state == WORK_LEAVING && msg.size == SERVICE_REPORT_LEN)
			is_answer = service_report_get(head, msg.size, &report);
		if (is_answer)
			take_answer(c, &msg, head);
		else
			work_client_head(c, now, head, (u32)dcpim_min(msg.size, sizeof(head)));
		if (c->flow)
			dcpim_msg_consume(c->flow, now);
	}
}

static void take_acks(struct work_conn *c)
{
	void *user;

	while (c->flow && dcpim_msg_acked(c->flow, &user, NULL))
		if (user)
			work_request_done(c, user);
}

static void on_event(void *app, struct dcpim_shard *shard, const struct dcpim_event *ev, u64 now)
{
	struct work_lane *l = dcpim_shard_user(shard);
	struct work_conn *c = ev->flow ? dcpim_flow_user(ev->flow) : NULL;
	u64 before = l->deadline;

	(void)app;
	if (!c || !c->flow)
		return;
	if (ev->mask & DCPIM_EV_CONNECTED) {
		struct dcpim_flow_info info;
		struct sockaddr_storage peer;

		dcpim_flow_info(c->flow, &info);
		dcpim_path_sockaddr(&info.path, info.dport, &peer);
		work_client_connected(c, now, &peer);
	}
	if (c->flow && ev->mask & (DCPIM_EV_READABLE | DCPIM_EV_EOF | DCPIM_EV_ERROR)) {
		if (c->message)
			read_messages(c, now);
		else
			read_stream(c, now);
	}
	if (c->flow && ev->mask & DCPIM_EV_MSG_ACKED)
		take_acks(c);
	if (c->flow && ev->mask & DCPIM_EV_ERROR)
		work_client_broken(c, now, ev->error);
	else if (c->flow && ev->mask & DCPIM_EV_EOF)
		work_client_eof(c, now);
	if (ev->mask & DCPIM_EV_WRITABLE)
		c->blocked = false;
	if (c->flow) {
		work_client_pump(c, now);
		/* Only the last of what a turn may do can end it. */
		if (l->over || !c->left || !c->slots)
			work_lane_check(l, now);
	}
	if (l->deadline < before)
		dcpim_shard_set_deadline(shard, l->deadline);
}

static void on_timer(void *app, struct dcpim_shard *shard, u64 now)
{
	struct work_lane *l = dcpim_shard_user(shard);

	(void)app;
	work_lane_timer(l, now);
	dcpim_shard_set_deadline(shard, l->deadline);
}

const struct dcpim_app_ops work_dcpim_client_app = { on_event, on_timer };
