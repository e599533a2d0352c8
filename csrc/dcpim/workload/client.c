// SPDX-License-Identifier: BSD-2-Clause
/* A client's phases and turns, the same for every transport. */
#include <stdio.h>
#include <stdlib.h>

#include "work.h"

#define GOLDEN 0x9e3779b97f4a7c15ull
#define CREDIT_STEP (1ull << 20)
#define CONNECT_SLACK_NS 2000000000ull
#define CONNECT_DEFAULT_NS 5000000000ull
#define ASK_AGAIN_NS 20000000ull
#define ASK_TRIES 100

static bool one_way(const struct work_conn *c)
{
	return !c->slots;
}

/* ---- life of the connections ---- */

static const struct work_ops *const all_ops[] = { &work_dcpim_ops, &work_tcp_ops, &work_udp_ops };

static struct work_lane *lane_for(struct rackwire_dcpim_work *w, u32 transport)
{
	struct sockaddr_storage to;
	socklen_t ignored;

	if (transport != RACKWIRE_DCPIM_WORK_DCPIM)
		return &w->lanes[w->nshards + transport - RACKWIRE_DCPIM_WORK_TCP];
	work_sockaddr(&w->address, w->config.port, &to, &ignored);
	return dcpim_shard_user(dcpim_engine_shard_for(w->engine, &to));
}

static int conn_make(struct rackwire_dcpim_work *w, u32 transport, u32 index)
{
	const struct rackwire_dcpim_work_config *config = &w->config;
	struct work_conn *c = calloc(1, sizeof(*c));
	struct work_lane *l;

	if (!c)
		return -ENOMEM;
	l = lane_for(w, transport);
	c->lane = l;
	c->fd = -1;
	c->index = index;
	dcpim_list_add_tail(&l->conns, &c->node);
	l->nconns++;
	c->pattern = !(config->flags & RACKWIRE_DCPIM_WORK_NO_VALIDATE);
	c->seed = config->seed + GOLDEN * (index + 1);
	c->length = config->length;
	c->to_count = config->count ? config->count : DCPIM_NEVER;
	c->message = transport == RACKWIRE_DCPIM_WORK_UDP ||
		     (transport == RACKWIRE_DCPIM_WORK_DCPIM && (config->kind == RACKWIRE_DCPIM_WORK_MESSAGE ||
								 config->flags & RACKWIRE_DCPIM_WORK_SHORT));
	c->service = config->kind == RACKWIRE_DCPIM_WORK_PING	       ? RACKWIRE_DCPIM_WORK_SERVICE_ECHO
		     : config->flags & RACKWIRE_DCPIM_WORK_REVERSE ? RACKWIRE_DCPIM_WORK_SERVICE_SOURCE
								   : RACKWIRE_DCPIM_WORK_SERVICE_SINK;
	c->check = c->pattern && c->service != RACKWIRE_DCPIM_WORK_SERVICE_SINK;
	if (transport == RACKWIRE_DCPIM_WORK_UDP && config->kind != RACKWIRE_DCPIM_WORK_STREAM)
		c->length = (u32)dcpim_max(c->length, SERVICE_DATAGRAM_LEN);
	if (config->kind == RACKWIRE_DCPIM_WORK_STREAM || work_udp_one_way(c))
		return 0;
	return work_requests_init(c, config->iodepth);
}

int work_client_open(struct rackwire_dcpim_work *w)
{
	u32 t, i;

	for (i = 0; i < w->nshards + 2; i++) {
		w->lanes[i].ops = all_ops[w->lanes[i].transport];
		w->lanes[i].scratch = malloc(WORK_CHUNK);
		if (!w->lanes[i].scratch)
			return -ENOMEM;
	}
	for (t = 0; t < RACKWIRE_DCPIM_WORK_TRANSPORTS; t++) {
		for (i = 0; work_serves(w, t) && i < w->config.connections; i++) {
			int err = conn_make(w, t, i);

			if (err)
				return err;
		}
	}
	return 0;
}

void work_client_close(struct rackwire_dcpim_work *w)
{
	u32 i;

	for (i = 0; i < w->nshards + 2; i++) {
		struct work_lane *l = &w->lanes[i];

		while (!dcpim_list_empty(&l->conns)) {
			struct work_conn *c = dcpim_container(l->conns.next, struct work_conn, node);

			dcpim_list_del(&c->node);
			if (c->fd >= 0)
				work_socket_close(c, 0, true);
			work_requests_fini(c);
			free(c);
		}
		free(l->scratch);
	}
}

static void conn_over(struct work_conn *c, u64 now, int error)
{
	u64 rtx = c->rtx_seen;
	u32 srtt = 0;

	if (c->flow || c->fd >= 0) {
		c->lane->ops->path(c, &rtx, &srtt);
		c->lane->ops->close(c, now, error != 0);
	}
	work_conn_ended(c, error, rtx, srtt);
	c->state = WORK_OVER;
}

/* ---- events of a connection ---- */

void work_client_connected(struct work_conn *c, u64 now, const struct sockaddr_storage *peer)
{
	struct service_hello hello = {
		.service = c->service,
		.flags = c->pattern ? SERVICE_PATTERN | SERVICE_CHECK : 0,
		.seed = c->seed,
		.length = c->length,
	};
	u8 bytes[SERVICE_HELLO_LEN];
	int err;

	work_conn_opened(c, peer);
	c->state = WORK_HELLO;
	if (c->lane->transport == RACKWIRE_DCPIM_WORK_UDP) {
		work_udp_ask(c, now);
		return;
	}
	service_hello_put(bytes, &hello);
	err = c->lane->ops->send_head(c, now, bytes, sizeof(bytes));
	if (err)
		work_client_broken(c, now, err);
}

static void protocol_error(struct work_conn *c)
{
	struct work_lane *l = c->lane;
	char peer[128];

	work_fail(l->work, -EPROTO, "what answers at %s is no rackwire server",
		  work_peer(l->work, l->transport, peer, sizeof(peer)));
}

static void take_welcome(struct work_conn *c, u64 now, const u8 *data, u32 len)
{
	struct work_lane *l = c->lane;
	struct service_welcome welcome;
	char peer[128];

	if (service_welcome_get(data, len, &welcome)) {
		protocol_error(c);
		return;
	}
	if (welcome.status != SERVICE_OK) {
		work_fail(l->work, -EPROTO, "%s %s", work_peer(l->work, l->transport, peer, sizeof(peer)),
			  welcome.status == SERVICE_FULL ? "takes no more connections" :
							   "does not offer this service");
		return;
	}
	/* A server that insists on checking needs contents it can check. */
	if (welcome.flags & SERVICE_CHECK)
		c->pattern = true;
	c->state = WORK_READY;
	work_lane_check(l, now);
}

static void take_report(struct work_conn *c, const u8 *data, u32 len)
{
	struct service_report report;

	if (c->reported || service_report_get(data, len, &report)) {
		protocol_error(c);
		return;
	}
	c->reported = true;
	work_report_take(c, &report);
}

void work_client_head(struct work_conn *c, u64 now, const u8 *data, u32 len)
{
	if (c->state == WORK_HELLO)
		take_welcome(c, now, data, len);
	else if (c->state == WORK_LEAVING)
		take_report(c, data, len);
	else
		protocol_error(c);
}

/* Part of something of fixed length. Return: bytes used; all of it is there when head_len is @want. */
static u32 gather(struct work_conn *c, const u8 *data, u32 len, u32 want)
{
	u32 n = (u32)dcpim_min(len, want - c->head_len);

	memcpy(c->head + c->head_len, data, n);
	c->head_len += n;
	return n;
}

static void contents(struct work_conn *c, const u8 *data, u32 len)
{
	work_check(c, c->rx_pos, data, len, c->rx_pos);
	c->rx_pos += len;
	work_count(c->lane, RACKWIRE_DCPIM_WORK_RX_BYTES, len);
	if (c->slots)
		work_requests_received(c);
}

void work_client_bytes(struct work_conn *c, u64 now, const u8 *data, u32 len)
{
	struct rackwire_dcpim_work *w = c->lane->work;
	u32 n;

	for (; len && !w->error && c->state != WORK_OVER; data += n, len -= n) {
		if (c->state != WORK_HELLO && c->rx_pos < c->rx_expected) {
			n = (u32)dcpim_min(len, c->rx_expected - c->rx_pos);
			contents(c, data, n);
			continue;
		}
		if (c->state != WORK_HELLO && (c->state != WORK_LEAVING || c->reported)) {
			protocol_error(c);
			return;
		}
		n = gather(c, data, len, c->state == WORK_HELLO ? SERVICE_WELCOME_LEN : SERVICE_REPORT_LEN);
		if (c->head_len < (c->state == WORK_HELLO ? SERVICE_WELCOME_LEN : SERVICE_REPORT_LEN))
			return;
		c->head_len = 0;
		work_client_head(c, now, c->head, c->state == WORK_HELLO ? SERVICE_WELCOME_LEN : SERVICE_REPORT_LEN);
	}
}

void work_client_eof(struct work_conn *c, u64 now)
{
	struct work_lane *l = c->lane;
	char peer[128];

	if (c->state == WORK_OVER)
		return;
	if (c->state != WORK_LEAVING) {
		conn_over(c, now, -ECONNRESET);
		work_fail(l->work, -ECONNRESET, "%s closed the connection in the middle",
			  work_peer(l->work, l->transport, peer, sizeof(peer)));
		return;
	}
	conn_over(c, now, 0);
	work_lane_check(l, now);
}

void work_client_broken(struct work_conn *c, u64 now, int error)
{
	struct work_lane *l = c->lane;
	bool connecting = c->state < WORK_HELLO, late = c->reported;
	char peer[128];

	if (c->state == WORK_OVER)
		return;
	conn_over(c, now, late ? 0 : error);
	work_peer(l->work, l->transport, peer, sizeof(peer));
	if (late)
		work_lane_check(l, now);
	else if (error == -ECONNREFUSED)
		work_fail(l->work, error, "nothing listens at %s", peer);
	else if (error == -ETIMEDOUT)
		work_fail(l->work, error, connecting ? "no answer from %s" : "%s has fallen silent", peer);
	else if (error == -ECONNRESET || error == -EPIPE)
		work_fail(l->work, -ECONNRESET, "%s broke the connection off", peer);
	else
		work_fail(l->work, error, "%s: %s", peer, strerror(-error));
}

/* ---- sending ---- */

/* Let a source send more. */
static void give_credit(struct work_conn *c, u64 now)
{
	u64 limit = c->left == DCPIM_NEVER ? DCPIM_NEVER : c->slice_from + c->left;
	u64 to = dcpim_min(c->rx_pos + WORK_CREDIT, limit);
	u8 bytes[SERVICE_CREDIT_LEN];

	if (c->lane->over || to <= c->rx_expected || (to - c->rx_expected < CREDIT_STEP && to != limit))
		return;
	dcpim_put64(bytes, to);
	if (!c->lane->ops->send_head(c, now, bytes, sizeof(bytes)))
		c->rx_expected = to;
}

static void start_requests(struct work_conn *c, u64 now)
{
	struct work_lane *l = c->lane;
	const struct rackwire_dcpim_work_config *config = &l->work->config;

	while (!l->over && c->left && c->nbusy < config->iodepth && c->nfree && !c->blocked) {
		struct work_request *r;
		int err = 0;

		if (config->interval_ns) {
			now = rackwire_now_ns();
			if (now < c->next_at) {
				l->deadline = dcpim_min(l->deadline, c->next_at);
				break;
			}
			c->next_at = dcpim_max(c->next_at + config->interval_ns, now);
		}
		r = work_request_start(c);
		if (c->message)
			err = l->ops->send_request(c, now, r);
		else
			c->rx_expected = c->tx_end += c->length;
		if (err) {
			work_request_cancel(c, r);
			if (err == -EAGAIN)
				c->blocked = true;
			else
				work_client_broken(c, now, err);
			break;
		}
		c->requests++;
		if (c->left != DCPIM_NEVER)
			c->left--;
		work_count(l, RACKWIRE_DCPIM_WORK_REQUESTS, 1);
		if (c->message) {
			c->tx_pos += c->length;
			work_count(l, RACKWIRE_DCPIM_WORK_TX_BYTES, c->length);
		}
	}
}

void work_client_pump(struct work_conn *c, u64 now)
{
	struct work_lane *l = c->lane;

	if (l->work->phase != WORK_SLICE || c->state != WORK_READY || l->done)
		return;
	if (c->slots)
		start_requests(c, now);
	else if (c->service == RACKWIRE_DCPIM_WORK_SERVICE_SOURCE)
		give_credit(c, now);
	if (!c->message && c->tx_pos < c->tx_end && !c->blocked && c->state == WORK_READY)
		l->ops->push(c, now);
}

/* ---- turns ---- */

/* It may start nothing more in this turn. */
static bool conn_spent(const struct work_conn *c)
{
	if (c->slots)
		return !c->left;
	if (c->left == DCPIM_NEVER)
		return false;
	if (work_udp_one_way(c))
		return !c->left;
	return (c->service == RACKWIRE_DCPIM_WORK_SERVICE_SOURCE ? c->rx_pos : c->tx_pos) >= c->slice_from + c->left;
}

/* Nothing of it is under way any more. */
static bool conn_idle(struct work_conn *c)
{
	if (c->state != WORK_READY)
		return true;
	if (c->slots)
		return c->nbusy == c->nlost;
	if (work_udp_one_way(c))
		return !c->asking;
	if (c->service == RACKWIRE_DCPIM_WORK_SERVICE_SOURCE)
		return c->rx_pos == c->rx_expected;
	return c->tx_pos == c->tx_end && !c->lane->ops->unacked(c);
}

static void lane_over(struct work_lane *l, u64 now)
{
	struct dcpim_list *i;

	l->over = true;
	l->deadline = dcpim_min(l->deadline, now + WORK_DRAIN_POLL_NS);
	for (i = l->conns.next; i != &l->conns; i = i->next) {
		struct work_conn *c = dcpim_container(i, struct work_conn, node);

		if (c->state != WORK_READY)
			continue;
		if (work_udp_one_way(c))
			work_udp_ask(c, now);
		else if (one_way(c))
			c->tx_end = c->tx_pos;
	}
}

static void slice_begin(struct work_lane *l, u64 now)
{
	struct rackwire_dcpim_work *w = l->work;
	struct dcpim_list *i;

	l->slice_end = dcpim_after(now, w->slice_ns);
	for (i = l->conns.next; i != &l->conns; i = i->next) {
		struct work_conn *c = dcpim_container(i, struct work_conn, node);
		bool source = c->service == RACKWIRE_DCPIM_WORK_SERVICE_SOURCE;

		c->next_at = c->waiting_since = now;
		c->lost_in_row = 0;
		c->slice_from = source ? c->rx_pos : c->tx_pos;
		c->slice_requests = c->requests;
		if (one_way(c) && !source)
			c->tx_end = c->left == DCPIM_NEVER ? DCPIM_NEVER : c->tx_pos + c->left;
	}
	for (i = l->conns.next; i != &l->conns; i = i->next)
		work_client_pump(dcpim_container(i, struct work_conn, node), now);
}

static void bye_begin(struct work_lane *l, u64 now)
{
	struct rackwire_dcpim_work *w = l->work;
	struct dcpim_list *i;

	l->give_up_at = now + (work_stopping(w) ? WORK_STOP_BYE_NS : WORK_BYE_NS);
	for (i = l->conns.next; i != &l->conns; i = i->next) {
		struct work_conn *c = dcpim_container(i, struct work_conn, node);

		if (c->state == WORK_OVER)
			continue;
		if (w->error || c->state != WORK_READY) {
			conn_over(c, now, c->state == WORK_READY ? -ECANCELED : 0);
			continue;
		}
		c->state = WORK_LEAVING;
		c->head_len = 0;
		l->ops->shutdown(c, now);
	}
}

static void lane_begin(struct work_lane *l, u64 now)
{
	struct rackwire_dcpim_work *w = l->work;
	struct dcpim_list *i;
	int err;

	l->begun = true;
	l->began_at = now;
	l->tick_at = now + WORK_TICK_NS;
	l->cpu_began = rackwire_thread_cpu_ns();
	l->give_up_at = DCPIM_NEVER;
	if (w->phase == WORK_SLICE) {
		slice_begin(l, now);
	} else if (w->phase == WORK_BYE) {
		bye_begin(l, now);
	} else {
		l->give_up_at = now + CONNECT_SLACK_NS +
				(w->engine_config.connect_timeout_ns ? w->engine_config.connect_timeout_ns :
								       CONNECT_DEFAULT_NS);
		for (i = l->conns.next; i != &l->conns && !w->error; i = i->next) {
			struct work_conn *c = dcpim_container(i, struct work_conn, node);

			err = l->ops->connect(c, now);
			if (err)
				work_client_broken(c, now, err);
			else if (c->state == WORK_NEW)
				c->state = WORK_CONNECTING;
		}
	}
}

/* What a turn has brought. */
static void slice_account(struct work_lane *l)
{
	struct rackwire_dcpim_work *w = l->work;
	u64 elapsed = rackwire_now_ns() - l->began_at, bytes = 0;
	struct dcpim_list *i;

	for (i = l->conns.next; i != &l->conns; i = i->next) {
		struct work_conn *c = dcpim_container(i, struct work_conn, node);
		u64 done = c->service == RACKWIRE_DCPIM_WORK_SERVICE_SOURCE ? c->rx_pos : c->tx_pos;

		if (one_way(c) && c->left != DCPIM_NEVER && !c->message)
			c->left -= dcpim_min(c->left, done - c->slice_from);
		if (one_way(c) && !c->message && c->state != WORK_OVER) {
			u64 unacked = c->service == RACKWIRE_DCPIM_WORK_SERVICE_SINK ? l->ops->unacked(c) : 0;

			bytes += done - c->slice_from - dcpim_min(unacked, done - c->slice_from);
		}
		if (w->record)
			c->to_count = c->left;
	}
	if (!w->record)
		return;
	work_count(l, RACKWIRE_DCPIM_WORK_MEASURED_BYTES, bytes);
	work_count(l, RACKWIRE_DCPIM_WORK_CPU_NS, rackwire_thread_cpu_ns() - l->cpu_began);
	if (l == w->lanes || l->transport != RACKWIRE_DCPIM_WORK_DCPIM) {
		work_count(l, RACKWIRE_DCPIM_WORK_MEASURED_NS, elapsed);
		w->measured_ns[l->transport] += elapsed;
	}
}

static void lane_finish(struct work_lane *l)
{
	struct rackwire_dcpim_work *w = l->work;
	struct dcpim_list *i;

	if (l->done)
		return;
	l->done = true;
	if (w->phase == WORK_SLICE)
		slice_account(l);
	if (w->phase == WORK_BYE) {
		for (i = l->conns.next; i != &l->conns; i = i->next) {
			struct work_conn *c = dcpim_container(i, struct work_conn, node);

			if (c->state != WORK_OVER)
				conn_over(c, rackwire_now_ns(), -ETIMEDOUT);
		}
	}
	if (!l->shard)
		return;
	if (__atomic_add_fetch(&w->lanes_done, 1, __ATOMIC_ACQ_REL) == w->nshards) {
		__atomic_store_n(&w->run_stop, 1, __ATOMIC_RELEASE);
		dcpim_engine_wake(w->engine);
	}
}

void work_lane_check(struct work_lane *l, u64 now)
{
	struct rackwire_dcpim_work *w = l->work;
	struct dcpim_list *i;
	bool all = true;

	if (!l->begun || l->done)
		return;
	if (w->phase == WORK_SLICE && !l->over) {
		for (i = l->conns.next; i != &l->conns && all; i = i->next)
			all = conn_spent(dcpim_container(i, struct work_conn, node));
		if (!all)
			return;
		lane_over(l, now);
	}
	for (i = l->conns.next; i != &l->conns && all; i = i->next) {
		struct work_conn *c = dcpim_container(i, struct work_conn, node);

		if (w->phase == WORK_CONNECT)
			all = c->state >= WORK_READY;
		else if (w->phase == WORK_BYE)
			all = c->state == WORK_OVER;
		else
			all = conn_idle(c);
	}
	if (all)
		lane_finish(l);
}

static void ask_again(struct work_conn *c, u64 now)
{
	if (!c->asking || now < c->ask_at + ASK_AGAIN_NS)
		return;
	if (c->asked < ASK_TRIES)
		work_udp_ask(c, now);
	else
		work_client_broken(c, now, -ETIMEDOUT);
}

static void tick(struct work_lane *l)
{
	struct dcpim_list *i;

	for (i = l->conns.next; i != &l->conns; i = i->next) {
		struct work_conn *c = dcpim_container(i, struct work_conn, node);
		u64 rtx = c->rtx_seen;
		u32 srtt = 0;

		if (!c->flow && c->fd < 0)
			continue;
		if (!c->row)
			continue;
		l->ops->path(c, &rtx, &srtt);
		work_conn_refresh(c, rtx, srtt);
	}
}

static u64 slice_timer(struct work_lane *l, u64 now)
{
	struct rackwire_dcpim_work *w = l->work;
	u64 next = l->slice_end;
	struct dcpim_list *i;

	if (work_stopping(w)) {
		l->give_up_at = dcpim_min(l->give_up_at, now + WORK_STOP_DRAIN_NS);
		next = dcpim_min(next, l->give_up_at);
	}
	if (!l->over && (now >= l->slice_end || work_stopping(w)))
		lane_over(l, now);
	if (l->over)
		next = now + WORK_DRAIN_POLL_NS;
	else if (w->config.kind != RACKWIRE_DCPIM_WORK_STREAM)
		next = dcpim_min(next, now + w->config.timeout_ns / 4);
	for (i = l->conns.next; i != &l->conns; i = i->next) {
		struct work_conn *c = dcpim_container(i, struct work_conn, node);

		if (c->state != WORK_READY)
			continue;
		if (c->slots)
			next = dcpim_min(next, work_requests_expire(c, now));
		if (work_udp_one_way(c))
			ask_again(c, now);
		work_client_pump(c, now);
	}
	return next;
}

void work_lane_timer(struct work_lane *l, u64 now)
{
	struct rackwire_dcpim_work *w = l->work;
	u64 next = DCPIM_NEVER;
	struct dcpim_list *i;
	char peer[128];

	l->deadline = DCPIM_NEVER;
	if (l->done)
		return;
	if (!l->begun)
		lane_begin(l, now);
	if (now >= l->tick_at) {
		tick(l);
		l->tick_at = now + WORK_TICK_NS;
	}
	if (w->phase == WORK_SLICE) {
		next = slice_timer(l, now);
	} else if (w->phase == WORK_CONNECT) {
		if (now >= l->give_up_at)
			work_fail(w, -ETIMEDOUT, "no answer from %s",
				  work_peer(w, l->transport, peer, sizeof(peer)));
		next = now + ASK_AGAIN_NS;
	} else {
		next = now + ASK_AGAIN_NS;
	}
	if (w->phase != WORK_SLICE && l->transport == RACKWIRE_DCPIM_WORK_UDP)
		for (i = l->conns.next; i != &l->conns; i = i->next)
			ask_again(dcpim_container(i, struct work_conn, node), now);
	work_lane_check(l, now);
	/* Once something has failed, or the time for it is up, no more is waited for. */
	if (now >= l->give_up_at || (w->error && w->phase != WORK_BYE) ||
	    (work_stopping(w) && w->phase == WORK_CONNECT))
		lane_finish(l);
	l->deadline = l->done ? DCPIM_NEVER : dcpim_min(l->deadline, dcpim_min(next, l->tick_at));
}

/* ---- the run ---- */

static int run_phase(struct rackwire_dcpim_work *w, u32 transport, enum work_phase phase)
{
	u32 first = transport == RACKWIRE_DCPIM_WORK_DCPIM ? 0 : w->nshards + transport - RACKWIRE_DCPIM_WORK_TCP;
	u32 i, n = transport == RACKWIRE_DCPIM_WORK_DCPIM ? w->nshards : 1;
	pthread_t thread;
	int err;

	w->phase = phase;
	w->run_stop = 0;
	w->lanes_done = 0;
	for (i = first; i < first + n; i++) {
		w->lanes[i].begun = w->lanes[i].done = w->lanes[i].over = false;
		w->lanes[i].deadline = 0;
	}
	if (transport == RACKWIRE_DCPIM_WORK_DCPIM) {
		err = dcpim_engine_run(w->engine, &w->run_stop);
	} else {
		err = work_thread(&thread, work_socket_client_thread, &w->lanes[first]);
		if (!err)
			pthread_join(thread, NULL);
	}
	if (err)
		work_fail(w, err, "cannot start a thread: %s", strerror(-err));
	return w->error;
}

/* Give every connection of a transport so much to do. Return: whether any has something. */
static bool allow(struct rackwire_dcpim_work *w, u32 transport, u64 left, bool counting)
{
	bool any = false;
	u32 i;

	for (i = 0; i < w->nshards + 2; i++) {
		struct work_lane *l = &w->lanes[i];
		struct dcpim_list *j;

		for (j = l->conns.next; j != &l->conns && l->transport == transport; j = j->next) {
			struct work_conn *c = dcpim_container(j, struct work_conn, node);

			c->left = counting ? c->to_count : left;
			any = any || c->left;
		}
	}
	return any;
}

static int warm_up(struct rackwire_dcpim_work *w, u64 count, u64 ns)
{
	u32 t;
	int err = 0;

	w->record = false;
	w->slice_ns = ns;
	for (t = 0; t < RACKWIRE_DCPIM_WORK_TRANSPORTS && !err && !work_stopping(w); t++) {
		if (!work_serves(w, t))
			continue;
		allow(w, t, count, false);
		err = run_phase(w, t, WORK_SLICE);
	}
	return err;
}

/* One turn of each transport that has something left to do. Return: whether there was one. */
static bool round_of_turns(struct rackwire_dcpim_work *w)
{
	const struct rackwire_dcpim_work_config *config = &w->config;
	bool several = config->transports & (config->transports - 1), any = false;
	u32 t;

	for (t = 0; t < RACKWIRE_DCPIM_WORK_TRANSPORTS && !work_stopping(w); t++) {
		u64 left = DCPIM_NEVER;

		if (!work_serves(w, t))
			continue;
		if (config->duration_ns)
			left = config->duration_ns - dcpim_min(config->duration_ns, w->measured_ns[t]);
		if (!left || !allow(w, t, 0, true))
			continue;
		w->slice_ns = several ? dcpim_min(config->slice_ns, left) : left;
		any = true;
		if (run_phase(w, t, WORK_SLICE))
			return false;
	}
	return any;
}

int work_client_run(struct rackwire_dcpim_work *w)
{
	const struct rackwire_dcpim_work_config *config = &w->config;
	int err = 0;
	u32 t;

	for (t = 0; t < RACKWIRE_DCPIM_WORK_TRANSPORTS && !err && !work_stopping(w); t++)
		if (work_serves(w, t))
			err = run_phase(w, t, WORK_CONNECT);
	if (!err && config->warmup_count && config->kind != RACKWIRE_DCPIM_WORK_STREAM)
		err = warm_up(w, config->warmup_count, DCPIM_NEVER);
	if (!err && config->warmup_ns)
		err = warm_up(w, DCPIM_NEVER, config->warmup_ns);
	w->record = true;
	while (!err && !work_stopping(w) && round_of_turns(w))
		;
	for (t = 0; t < RACKWIRE_DCPIM_WORK_TRANSPORTS; t++)
		if (work_serves(w, t))
			run_phase(w, t, WORK_BYE);
	return w->error;
}
