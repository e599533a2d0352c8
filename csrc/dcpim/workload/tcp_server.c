// SPDX-License-Identifier: BSD-2-Clause
/*
 * The baseline server over kernel TCP: a thread for each connection that sleeps
 * in recv(), or spins on it as the engine's threads do. Nothing a plain program
 * does is faster for one connection, and that is what dcPIM is compared with.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <unistd.h>

#include "work.h"

#define MAX_CONNECTIONS 1024
#define BACKLOG 1024
#define BUFFER (256u << 10)

struct tcp_conn {
	struct dcpim_list node; /* server->conns */
	struct work_tcp_server *server;
	struct work_conn conn;
	struct work_lane lane;
	pthread_t thread;
	u32 number;
	bool ended; /* its thread can be joined */
	u8 *buffer;
};

struct work_tcp_server {
	struct rackwire_dcpim_work *work;
	int fd;
	bool running;
	pthread_t thread;
	pthread_mutex_t lock; /* of conns */
	struct dcpim_list conns;
	u32 nconns; /* atomic */
	u32 started;
};

/* As recv(2), waiting as configured. */
static ssize_t receive(struct tcp_conn *t, u8 *out, size_t len)
{
	const struct rackwire_dcpim_config *e = &t->server->work->engine_config;
	u64 from = 0;
	ssize_t n;

	while (e->wakeup == RACKWIRE_DCPIM_BUSY_POLL) {
		n = recv(t->conn.fd, out, len, MSG_DONTWAIT);
		if (n >= 0 || (errno != EAGAIN && errno != EINTR))
			return n;
		if (!from)
			from = rackwire_now_ns();
		if ((e->spin_ns && rackwire_now_ns() - from > e->spin_ns) || work_stopping(t->server->work))
			break;
	}
	do {
		n = recv(t->conn.fd, out, len, 0);
	} while (n < 0 && errno == EINTR);
	return n;
}

static int receive_all(struct tcp_conn *t, u8 *out, size_t len)
{
	while (len) {
		ssize_t n = receive(t, out, len);

		if (n <= 0)
			return n ? -errno : -ECONNRESET;
		out += n;
		len -= (size_t)n;
	}
	return 0;
}

static int send_all(struct tcp_conn *t, const u8 *data, size_t len)
{
	while (len) {
		ssize_t n = send(t->conn.fd, data, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

static int hello(struct tcp_conn *t)
{
	bool insist = t->server->work->config.flags & RACKWIRE_DCPIM_WORK_VALIDATE;
	struct timeval patience = { .tv_sec = WORK_HELLO_NS / RACKWIRE_NS_PER_S }, none = { 0 };
	struct service_welcome welcome = { SERVICE_OK, insist ? SERVICE_CHECK : 0 };
	struct work_conn *c = &t->conn;
	u8 bytes[SERVICE_HELLO_LEN];
	struct service_hello h;
	int err;

	setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	err = receive_all(t, bytes, sizeof(bytes));
	if (err)
		return err == -EAGAIN ? -ETIMEDOUT : err;
	setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
	if (service_hello_get(bytes, sizeof(bytes), &h))
		welcome = (struct service_welcome){ SERVICE_BAD, 0 };
	else if (__atomic_load_n(&t->server->nconns, __ATOMIC_RELAXED) > MAX_CONNECTIONS)
		welcome = (struct service_welcome){ SERVICE_FULL, 0 };
	service_welcome_put(bytes, &welcome);
	err = send_all(t, bytes, SERVICE_WELCOME_LEN);
	if (err || welcome.status != SERVICE_OK)
		return err ? err : -EPROTO;
	c->service = h.service;
	c->seed = h.seed;
	c->length = h.length;
	c->pattern = h.flags & SERVICE_PATTERN;
	c->check = insist || (h.flags & SERVICE_CHECK && c->service == RACKWIRE_DCPIM_WORK_SERVICE_SINK);
	c->state = WORK_READY;
	work_conn_refresh(c, 0, 0);
	return 0;
}

static void refresh(struct tcp_conn *t, u64 now)
{
	if (now < t->lane.tick_at)
		return;
	t->lane.tick_at = now + WORK_TICK_NS;
	work_count_cpu(&t->lane);
	work_conn_refresh(&t->conn, 0, 0);
}

/* Echo and sink. Return: 0 at the end of the stream, or -errno. */
static int take_in(struct tcp_conn *t)
{
	struct work_conn *c = &t->conn;
	bool echo = c->service == RACKWIRE_DCPIM_WORK_SERVICE_ECHO;

	for (;;) {
		ssize_t n = receive(t, t->buffer, BUFFER);
		u64 whole;
		int err;

		if (n <= 0)
			return n ? -errno : 0;
		if (echo) {
			err = send_all(t, t->buffer, (size_t)n);
			if (err)
				return err;
			c->tx_pos += (u64)n;
			work_count(&t->lane, RACKWIRE_DCPIM_WORK_TX_BYTES, (u64)n);
		}
		work_check(c, c->rx_pos, t->buffer, (u32)n, c->rx_pos);
		c->rx_pos += (u64)n;
		whole = echo ? c->rx_pos / c->length : 0;
		work_count(&t->lane, RACKWIRE_DCPIM_WORK_RX_BYTES, (u64)n);
		work_count(&t->lane, RACKWIRE_DCPIM_WORK_REQUESTS, whole - c->requests);
		c->requests = whole;
		refresh(t, rackwire_now_ns());
	}
}

/* Return: 1 with another credit, 0 at the end of them, -EAGAIN, -errno. */
static int take_credit(struct tcp_conn *t, bool wait)
{
	struct work_conn *c = &t->conn;
	u64 credit;
	ssize_t n;

	n = wait ? receive(t, c->head + c->head_len, SERVICE_CREDIT_LEN - c->head_len) :
		   recv(c->fd, c->head + c->head_len, SERVICE_CREDIT_LEN - c->head_len, MSG_DONTWAIT);
	if (n <= 0)
		return n ? -errno : 0;
	c->head_len += (u32)n;
	if (c->head_len < SERVICE_CREDIT_LEN)
		return 1;
	c->head_len = 0;
	credit = dcpim_get64(c->head);
	if (credit < c->tx_end || credit >> 62)
		return -EPROTO;
	c->tx_end = credit;
	return 1;
}

static int give_out(struct tcp_conn *t)
{
	struct work_conn *c = &t->conn;
	u32 chunk = (u32)dcpim_min(c->length, WORK_CHUNK);
	bool more = true;
	int err;

	while (more || c->tx_pos < c->tx_end) {
		u32 len = (u32)dcpim_min(c->tx_end - c->tx_pos, chunk);

		if (more) {
			err = take_credit(t, !len);
			if (err < 0 && err != -EAGAIN && err != -EINTR)
				return err;
			more = err;
		}
		if (!len)
			continue;
		if (c->pattern)
			work_pattern_fill(c->seed, c->tx_pos, t->buffer, len);
		err = send_all(t, c->pattern ? t->buffer : work_blank, len);
		if (err)
			return err;
		c->tx_pos += len;
		work_count(&t->lane, RACKWIRE_DCPIM_WORK_TX_BYTES, len);
		refresh(t, rackwire_now_ns());
	}
	return 0;
}

static int goodbye(struct tcp_conn *t)
{
	struct service_report report;
	u8 bytes[SERVICE_REPORT_LEN];

	work_report_fill(&t->conn, &report);
	service_report_put(bytes, &report);
	return send_all(t, bytes, sizeof(bytes));
}

static void *conn_thread(void *arg)
{
	struct tcp_conn *t = arg;
	struct work_tcp_server *s = t->server;
	struct sockaddr_storage peer = { 0 };
	socklen_t length = sizeof(peer);
	int err = -ENOMEM;

	prctl(PR_SET_NAME, "dcpim-tcp");
	getpeername(t->conn.fd, (struct sockaddr *)&peer, &length);
	work_pin(s->work, t->number);
	work_conn_opened(&t->conn, &peer);
	t->buffer = malloc(BUFFER);
	if (t->buffer)
		err = hello(t);
	if (!err)
		err = t->conn.service == RACKWIRE_DCPIM_WORK_SERVICE_SOURCE ? give_out(t) : take_in(t);
	if (!err)
		err = goodbye(t);
	work_count_cpu(&t->lane);
	work_conn_ended(&t->conn, err, 0, 0);
	free(t->buffer);
	shutdown(t->conn.fd, SHUT_RDWR);
	__atomic_sub_fetch(&s->nconns, 1, __ATOMIC_RELAXED);
	pthread_mutex_lock(&s->lock);
	t->ended = true;
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* Join threads that have ended; @all: wait for the others. */
static void reap(struct work_tcp_server *s, bool all)
{
	struct dcpim_list *i, *next;

	pthread_mutex_lock(&s->lock);
	for (i = s->conns.next; i != &s->conns; i = next) {
		struct tcp_conn *t = dcpim_container(i, struct tcp_conn, node);

		next = i->next;
		if (!all && !t->ended)
			continue;
		dcpim_list_del(i);
		shutdown(t->conn.fd, SHUT_RDWR);
		pthread_mutex_unlock(&s->lock);
		pthread_join(t->thread, NULL);
		close(t->conn.fd);
		free(t);
		pthread_mutex_lock(&s->lock);
		if (all)
			next = s->conns.next;
	}
	pthread_mutex_unlock(&s->lock);
}

static void conn_start(struct work_tcp_server *s, int fd)
{
	struct tcp_conn *t = calloc(1, sizeof(*t));
	struct rackwire_dcpim_work *w = s->work;
	int one = 1;

	if (!t) {
		close(fd);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	t->server = s;
	t->number = s->started++;
	t->lane.work = w;
	t->lane.transport = RACKWIRE_DCPIM_WORK_TCP;
	t->lane.stats = &w->blocks[w->nshards];
	t->lane.lock = &w->baseline_lock;
	t->conn.lane = &t->lane;
	t->conn.fd = fd;
	t->conn.state = WORK_HELLO;
	__atomic_add_fetch(&s->nconns, 1, __ATOMIC_RELAXED);
	pthread_mutex_lock(&s->lock);
	dcpim_list_add_tail(&s->conns, &t->node);
	if (work_thread(&t->thread, conn_thread, t)) {
		dcpim_list_del(&t->node);
		__atomic_sub_fetch(&s->nconns, 1, __ATOMIC_RELAXED);
		close(fd);
		free(t);
	}
	pthread_mutex_unlock(&s->lock);
}

static void *accept_thread(void *arg)
{
	struct work_tcp_server *s = arg;

	prctl(PR_SET_NAME, "dcpim-tcp");
	while (!work_stopping(s->work)) {
		int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC);

		reap(s, false);
		if (fd >= 0 && __atomic_load_n(&s->nconns, __ATOMIC_RELAXED) < 2 * MAX_CONNECTIONS) {
			conn_start(s, fd);
			continue;
		}
		if (fd >= 0)
			close(fd);
		else if (errno == EINVAL) /* shut down */
			break;
		/* Out of descriptors: leave those waiting a while. */
		usleep(10000);
	}
	return NULL;
}

int work_tcp_server_open(struct rackwire_dcpim_work *w, u16 port)
{
	struct work_tcp_server *s = calloc(1, sizeof(*s));
	struct sockaddr_storage at;
	socklen_t length;
	int one = 1, off = 0;

	if (!s)
		return -ENOMEM;
	w->tcp_server = s;
	s->work = w;
	dcpim_list_init(&s->conns);
	pthread_mutex_init(&s->lock, NULL);
	s->fd = socket(w->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s->fd < 0)
		return -errno;
	setsockopt(s->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (w->address.ss_family == AF_INET6)
		setsockopt(s->fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	work_sockaddr(&w->address, port, &at, &length);
	if (bind(s->fd, (struct sockaddr *)&at, length) < 0 || listen(s->fd, BACKLOG) < 0 ||
	    getsockname(s->fd, (struct sockaddr *)&at, &length) < 0)
		return -errno;
	w->ports[RACKWIRE_DCPIM_WORK_TCP] = ntohs(((struct sockaddr_in *)&at)->sin_port);
	return 0;
}

int work_tcp_server_start(struct rackwire_dcpim_work *w)
{
	struct work_tcp_server *s = w->tcp_server;
	int err;

	if (!s)
		return 0;
	err = work_thread(&s->thread, accept_thread, s);
	s->running = !err;
	return err;
}

void work_tcp_server_stop(struct rackwire_dcpim_work *w)
{
	struct work_tcp_server *s = w->tcp_server;

	if (!s || !s->running)
		return;
	shutdown(s->fd, SHUT_RDWR);
	pthread_join(s->thread, NULL);
	s->running = false;
	reap(s, true);
}

void work_tcp_server_close(struct rackwire_dcpim_work *w)
{
	struct work_tcp_server *s = w->tcp_server;

	if (!s)
		return;
	work_tcp_server_stop(w);
	if (s->fd >= 0)
		close(s->fd);
	pthread_mutex_destroy(&s->lock);
	free(s);
	w->tcp_server = NULL;
	w->ports[RACKWIRE_DCPIM_WORK_TCP] = 0;
}
