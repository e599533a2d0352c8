// SPDX-License-Identifier: BSD-2-Clause
/* The server's connections over dcPIM. */
#include <stdlib.h>

#include "work.h"

#define PEEK 16
#define PIECES_ON_STACK 64

/* ---- life ---- */

/* Closing with something unread would be a reset, and what was sent last be lost. */
static void read_away(struct work_conn *c, u64 now)
{
	struct dcpim_flow_info info;
	struct dcpim_rxmsg msg;
	struct dcpim_buf first;

	if (c->message) {
		while (dcpim_msg_peek(c->flow, &msg, &first, 0, 1) >= 0)
			dcpim_msg_consume(c->flow, now);
		return;
	}
	dcpim_flow_info(c->flow, &info);
	dcpim_consume(c->flow, now, info.rx_queued);
}

/* What made no sense ends in good order, so that the answer that says so arrives. */
static void conn_close(struct work_conn *c, u64 now, int error)
{
	struct work_lane *l = c->lane;
	struct rackwire_dcpim_work *w = l->work;
	u32 srtt;
	u64 rtx;

	work_flow_path(c, &rtx, &srtt);
	work_conn_ended(c, error, rtx, srtt);
	if (error == -EPROTO)
		read_away(c, now);
	dcpim_close(c->flow, now, error && error != -EPROTO);
	dcpim_list_del(&c->node);
	l->nconns--;
	__atomic_sub_fetch(&w->served, 1, __ATOMIC_RELAXED);
	free(c);
}

static bool conn_accept(struct work_lane *l, struct dcpim_flow *flow, u64 now)
{
	struct rackwire_dcpim_work *w = l->work;
	struct work_conn *c = calloc(1, sizeof(*c));
	struct sockaddr_storage peer;
	struct dcpim_flow_info info;

	dcpim_accepted(flow);
	if (!c || l->done || __atomic_load_n(&w->served, __ATOMIC_RELAXED) >= WORK_MAX_SERVED) {
		free(c);
		dcpim_close(flow, now, true);
		return false;
	}
	__atomic_add_fetch(&w->served, 1, __ATOMIC_RELAXED);
	dcpim_flow_info(flow, &info);
	c->lane = l;
	c->flow = flow;
	c->fd = -1;
	c->state = WORK_HELLO;
	c->message = info.kind == DCPIM_MESSAGE;
	dcpim_list_add_tail(&l->conns, &c->node);
	if (!l->nconns++) {
		l->tick_at = now + WORK_TICK_NS;
		dcpim_shard_set_deadline(l->shard, l->tick_at);
	}
	dcpim_flow_set_user(flow, c);
	dcpim_path_sockaddr(&info.path, info.dport, &peer);
	work_conn_opened(c, &peer);
	return true;
}

/* ---- hello and account ---- */

/* Return: 0, or an error that ends the connection. */
static int take_hello(struct work_conn *c, u64 now, const u8 *data, u32 len)
{
	bool insist = c->lane->work->config.flags & RACKWIRE_DCPIM_WORK_VALIDATE;
	struct service_welcome welcome = { .status = SERVICE_OK, .flags = 0 };
	struct service_hello hello;
	u8 bytes[SERVICE_WELCOME_LEN];
	int err;

	if (service_hello_get(data, len, &hello) ||
	    (c->message && (hello.service == RACKWIRE_DCPIM_WORK_SERVICE_SOURCE || len != SERVICE_HELLO_LEN)))
		welcome.status = SERVICE_BAD;
	if (welcome.status == SERVICE_OK) {
		c->service = hello.service;
		c->seed = hello.seed;
		c->length = hello.length;
		c->pattern = hello.flags & SERVICE_PATTERN;
		/* Only a sink has to: what is echoed is checked where it comes back to. */
		c->check = insist || (hello.flags & SERVICE_CHECK && c->service == RACKWIRE_DCPIM_WORK_SERVICE_SINK);
		if (insist)
			welcome.flags = SERVICE_CHECK;
		work_conn_refresh(c, c->rtx_seen, 0);
	}
	service_welcome_put(bytes, &welcome);
	err = work_flow_send_head(c, now, bytes, sizeof(bytes));
	c->state = WORK_READY;
	c->head_len = 0;
	if (!err && welcome.status != SERVICE_OK)
		return -EPROTO;
	return err;
}

/* The client has ended, and everything is done. Return: 1 when the account is sent, else as above. */
static int say_goodbye(struct work_conn *c, u64 now)
{
	struct service_report report;
	u8 bytes[SERVICE_REPORT_LEN];
	int err;

	work_report_fill(c, &report);
	service_report_put(bytes, &report);
	err = work_flow_send_head(c, now, bytes, sizeof(bytes));
	if (err)
		return err == -EAGAIN ? 0 : err;
	dcpim_shutdown(c->flow, now);
	return 1;
}

/* ---- streams ---- */

/* Bytes of the hello, or of a credit. Return: bytes used or -errno. */
static int stream_head(struct work_conn *c, u64 now, const u8 *data, u32 len)
{
	u32 want = c->state == WORK_HELLO ? SERVICE_HELLO_LEN : SERVICE_CREDIT_LEN;
	u32 n = (u32)dcpim_min(len, want - c->head_len);
	u64 credit;
	int err;

	memcpy(c->head + c->head_len, data, n);
	c->head_len += n;
	if (c->head_len < want)
		return (int)n;
	if (c->state == WORK_HELLO) {
		err = take_hello(c, now, c->head, want);
		return err ? err : (int)n;
	}
	c->head_len = 0;
	credit = dcpim_get64(c->head);
	if (credit < c->tx_end || credit >> 62)
		return -EPROTO;
	c->tx_end = credit;
	return (int)n;
}

static void count_received(struct work_conn *c, u32 len)
{
	struct work_lane *l = c->lane;
	u64 whole;

	c->rx_pos += len;
	work_count(l, RACKWIRE_DCPIM_WORK_RX_BYTES, len);
	if (c->message)
		whole = c->requests + 1;
	else if (c->service == RACKWIRE_DCPIM_WORK_SERVICE_ECHO)
		whole = c->rx_pos / c->length;
	else
		return;
	work_count(l, RACKWIRE_DCPIM_WORK_REQUESTS, whole - c->requests);
	c->requests = whole;
}

/* Send a received piece back without a copy. Return: 0, -EAGAIN, -errno. */
static int echo_piece(struct work_conn *c, u64 now, const struct dcpim_buf *piece)
{
	struct work_lane *l = c->lane;
	int n;

	dcpim_shard_buf_ref(l->shard, piece);
	n = dcpim_send(c->flow, now, piece);
	if (n <= 0) {
		dcpim_shard_buf_put(l->shard, piece);
		return n;
	}
	c->tx_pos += (u32)n;
	work_count(l, RACKWIRE_DCPIM_WORK_TX_BYTES, (u32)n);
	return 0;
}

/* One received piece. Return: bytes done with; less than all when nothing more can be sent; -errno. */
static int stream_piece(struct work_conn *c, u64 now, const struct dcpim_buf *piece)
{
	struct dcpim_buf rest = *piece;
	int n = 0;

	while (rest.len && (c->state == WORK_HELLO || c->service == RACKWIRE_DCPIM_WORK_SERVICE_SOURCE)) {
		n = stream_head(c, now, rest.ptr, rest.len);
		if (n < 0)
			return n;
		rest.ptr += n;
		rest.len -= (u32)n;
	}
	if (!rest.len)
		return (int)piece->len;
	if (c->service == RACKWIRE_DCPIM_WORK_SERVICE_ECHO) {
		n = echo_piece(c, now, &rest);
		if (n == -EAGAIN)
			return (int)(piece->len - rest.len);
		if (n)
			return n;
	}
	work_check(c, c->rx_pos, rest.ptr, rest.len, c->rx_pos);
	count_received(c, rest.len);
	return (int)piece->len;
}

/* Return: 1 when it has ended in good order, 0 when it goes on, -errno. */
static int stream_progress(struct work_conn *c, u64 now)
{
	struct dcpim_buf bufs[PEEK];
	bool stuck = false;
	u64 used;
	u32 i, n;
	int err = 0;

	while (!stuck && (n = dcpim_recv_peek(c->flow, bufs, PEEK))) {
		for (i = 0, used = 0; i < n && !stuck; i++) {
			err = stream_piece(c, now, &bufs[i]);
			if (err < 0)
				return err;
			used += (u32)err;
			stuck = (u32)err < bufs[i].len;
		}
		dcpim_consume(c->flow, now, used);
	}
	if (c->service == RACKWIRE_DCPIM_WORK_SERVICE_SOURCE) {
		err = work_flow_push(c, now);
		if (err && err != -EAGAIN)
			return err;
		stuck = c->tx_pos < c->tx_end;
	}
	if (!c->eof || stuck)
		return 0;
	return c->state == WORK_READY ? say_goodbye(c, now) : -EPROTO;
}

/* ---- messages ---- */

static int echo_message(struct work_conn *c, u64 now, const struct dcpim_rxmsg *msg)
{
	struct dcpim_buf few[PIECES_ON_STACK], *bufs = few;
	struct work_lane *l = c->lane;
	struct dcpim_rxmsg same;
	int n, i, err = -ENOMEM;

	if (msg->nbufs > PIECES_ON_STACK)
		bufs = malloc(msg->nbufs * sizeof(*bufs));
	if (!bufs)
		return err;
	n = dcpim_msg_peek(c->flow, &same, bufs, 0, msg->nbufs);
	for (i = 0; i < n; i++)
		dcpim_shard_buf_ref(l->shard, &bufs[i]);
	err = dcpim_send_msg(c->flow, now, bufs, (u32)n, DCPIM_MSG_QUIET, NULL, NULL);
	for (i = 0; i < n && err; i++)
		dcpim_shard_buf_put(l->shard, &bufs[i]);
	if (bufs != few)
		free(bufs);
	if (err)
		return err;
	c->tx_pos += msg->size;
	work_count(l, RACKWIRE_DCPIM_WORK_TX_BYTES, msg->size);
	return 0;
}

static int message_progress(struct work_conn *c, u64 now)
{
	u8 head[SERVICE_REPORT_LEN];
	struct dcpim_rxmsg msg;
	struct dcpim_buf first;
	int err;

	while (dcpim_msg_peek(c->flow, &msg, &first, 0, 1) >= 0) {
		if (c->state == WORK_HELLO) {
			work_message_take(c, &msg, head);
			err = take_hello(c, now, head, (u32)dcpim_min(msg.size, sizeof(head)));
			if (err)
				return err;
			dcpim_msg_consume(c->flow, now);
			continue;
		}
		if (c->service == RACKWIRE_DCPIM_WORK_SERVICE_ECHO) {
			err = echo_message(c, now, &msg);
			if (err)
				return err == -EAGAIN ? 0 : err;
		}
		if (c->check)
			work_message_take(c, &msg, head);
		count_received(c, msg.size);
		dcpim_msg_consume(c->flow, now);
	}
	if (!c->eof)
		return 0;
	return c->state == WORK_READY ? say_goodbye(c, now) : -EPROTO;
}

/* ---- events ---- */

static void on_event(void *app, struct dcpim_shard *shard, const struct dcpim_event *ev, u64 now)
{
	struct work_lane *l = dcpim_shard_user(shard);
	struct work_conn *c;
	int done;

	(void)app;
	if (ev->mask & DCPIM_EV_ACCEPT && !conn_accept(l, ev->flow, now))
		return;
	c = dcpim_flow_user(ev->flow);
	if (!c)
		return;
	if (ev->mask & DCPIM_EV_ERROR) {
		conn_close(c, now, ev->error ? ev->error : -ECONNRESET);
		return;
	}
	c->eof = c->eof || ev->mask & DCPIM_EV_EOF;
	done = c->message ? message_progress(c, now) : stream_progress(c, now);
	if (done)
		conn_close(c, now, done < 0 ? done : 0);
}

static void tick(struct work_lane *l, u64 now)
{
	struct dcpim_list *i, *next;

	work_count_cpu(l);
	for (i = l->conns.next; i != &l->conns; i = next) {
		struct work_conn *c = dcpim_container(i, struct work_conn, node);
		u32 srtt;
		u64 rtx;

		next = i->next;
		if (c->state == WORK_HELLO && now > c->opened_at + WORK_HELLO_NS) {
			conn_close(c, now, -ETIMEDOUT);
			continue;
		}
		if (!c->row)
			continue;
		work_flow_path(c, &rtx, &srtt);
		work_conn_refresh(c, rtx, srtt);
	}
}

static void on_timer(void *app, struct dcpim_shard *shard, u64 now)
{
	struct work_lane *l = dcpim_shard_user(shard);
	struct rackwire_dcpim_work *w = app;

	if (work_stopping(w) && !l->done) {
		l->done = true;
		while (!dcpim_list_empty(&l->conns))
			conn_close(dcpim_container(l->conns.next, struct work_conn, node), now, -ECANCELED);
		work_count_cpu(l);
		if (__atomic_add_fetch(&w->lanes_done, 1, __ATOMIC_ACQ_REL) == w->nshards) {
			__atomic_store_n(&w->run_stop, 1, __ATOMIC_RELEASE);
			dcpim_engine_wake(w->engine);
		}
	}
	if (l->done || !l->nconns)
		return;
	if (now >= l->tick_at) {
		tick(l, now);
		l->tick_at = now + WORK_TICK_NS;
	}
	if (l->nconns)
		dcpim_shard_set_deadline(shard, l->tick_at);
}

const struct dcpim_app_ops work_dcpim_server_app = { on_event, on_timer };
