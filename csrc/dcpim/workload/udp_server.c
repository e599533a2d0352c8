// SPDX-License-Identifier: BSD-2-Clause
/*
 * The baseline server over kernel UDP: one thread that sleeps in recvmmsg(), or
 * spins on it. A ping is answered at once. Of datagrams that only arrive it
 * keeps an account for each client session, of the latest 64.
 */
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "work.h"

#define BATCH 32
#define SESSIONS 64
#define DATAGRAM 65536u
#define SESSION_IDLE_NS 10000000000ull

struct session {
	struct sockaddr_storage peer;
	struct work_conn conn;
	u64 last;
};

struct work_udp_server {
	struct rackwire_dcpim_work *work;
	struct work_lane lane;
	int fd;
	bool running;
	pthread_t thread;
	struct session sessions[SESSIONS];
	u32 latest;
	struct mmsghdr msgs[BATCH];
	struct iovec iov[BATCH];
	struct sockaddr_storage from[BATCH];
	u8 *memory;
};

static bool same_peer(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	const struct sockaddr_in6 *x = (const void *)a, *y = (const void *)b;

	if (a->ss_family == AF_INET)
		return b->ss_family == AF_INET && !memcmp(a, b, offsetof(struct sockaddr_in, sin_zero));
	return b->ss_family == a->ss_family && x->sin6_port == y->sin6_port && x->sin6_scope_id == y->sin6_scope_id &&
	       !memcmp(&x->sin6_addr, &y->sin6_addr, 16);
}

static bool is_session(const struct session *s, u64 id, const struct sockaddr_storage *peer)
{
	return s->last && s->conn.seed == id && same_peer(&s->peer, peer);
}

static struct session *session_find(struct work_udp_server *u, u64 id, const struct sockaddr_storage *peer)
{
	u32 i;

	if (is_session(&u->sessions[u->latest], id, peer))
		return &u->sessions[u->latest];
	for (i = 0; i < SESSIONS; i++) {
		if (is_session(&u->sessions[i], id, peer)) {
			u->latest = i;
			return &u->sessions[i];
		}
	}
	return NULL;
}

static void session_end(struct session *s)
{
	if (s->last)
		work_conn_ended(&s->conn, 0, 0, 0);
	s->last = 0;
}

static struct session *session_new(struct work_udp_server *u, u64 id, u8 type, const struct sockaddr_storage *peer)
{
	struct session *s = &u->sessions[0];
	u32 i;

	for (i = 1; i < SESSIONS && s->last; i++)
		if (u->sessions[i].last < s->last)
			s = &u->sessions[i];
	session_end(s);
	memset(s, 0, sizeof(*s));
	s->peer = *peer;
	s->conn.lane = &u->lane;
	s->conn.fd = -1;
	s->conn.message = true;
	s->conn.seed = id;
	s->conn.service = type == SERVICE_PING ? RACKWIRE_DCPIM_WORK_SERVICE_ECHO : RACKWIRE_DCPIM_WORK_SERVICE_SINK;
	s->last = rackwire_now_ns();
	u->latest = (u32)(s - u->sessions);
	work_conn_opened(&s->conn, peer);
	return s;
}

static void received(struct work_udp_server *u, struct session *s, const struct service_datagram *head, const u8 *data,
		     u32 len)
{
	struct work_conn *c = &s->conn;
	u64 corrupt = c->corrupt;

	c->check = (head->flags & SERVICE_CHECK) && head->type == SERVICE_DATA;
	c->check = c->check || (u->work->config.flags & RACKWIRE_DCPIM_WORK_VALIDATE && head->flags & SERVICE_CHECK);
	work_check(c, work_message_pos(head->number, len, SERVICE_DATAGRAM_LEN), data + SERVICE_DATAGRAM_LEN,
		   len - SERVICE_DATAGRAM_LEN, head->number);
	if (len > SERVICE_DATAGRAM_LEN)
		work_check_number(c, corrupt, SERVICE_DATAGRAM_LEN);
	c->rx_pos += len;
	c->requests++;
	work_count(&u->lane, RACKWIRE_DCPIM_WORK_RX_BYTES, len);
	work_count(&u->lane, RACKWIRE_DCPIM_WORK_REQUESTS, 1);
}

static void answer(struct work_udp_server *u, struct work_conn *c, const u8 *data, u32 len,
		   const struct sockaddr_storage *to, socklen_t to_len)
{
	if (sendto(u->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT, (const struct sockaddr *)to, to_len) < 0)
		return;
	if (c)
		c->tx_pos += len;
	work_count(&u->lane, RACKWIRE_DCPIM_WORK_TX_BYTES, len);
}

static void take(struct work_udp_server *u, u8 *data, u32 len, const struct sockaddr_storage *from, socklen_t from_len,
		 u64 now)
{
	struct service_datagram head;
	struct service_report report = { 0 };
	struct session *s;

	/* Answers are not answered: two servers cannot be set on each other. */
	if (service_datagram_get(data, len, &head) || head.type == SERVICE_PONG || head.type == SERVICE_REPORT ||
	    (head.type == SERVICE_ASK && len < SERVICE_ASK_LEN))
		return;
	s = session_find(u, head.session, from);
	if (!s && head.type != SERVICE_ASK)
		s = session_new(u, head.session, head.type, from);
	if (s)
		s->last = now;
	if (head.type == SERVICE_ASK) {
		head = (struct service_datagram){ SERVICE_REPORT, 0, head.session, 0 };
		if (s)
			work_report_fill(&s->conn, &report);
		service_datagram_put(data, &head);
		service_report_put(data + SERVICE_DATAGRAM_LEN, &report);
		answer(u, s ? &s->conn : NULL, data, SERVICE_ASK_LEN, from, from_len);
		return;
	}
	if (head.type == SERVICE_PING) {
		data[5] = SERVICE_PONG;
		answer(u, &s->conn, data, len, from, from_len);
	}
	received(u, s, &head, data, len);
}

static void refresh(struct work_udp_server *u, u64 now)
{
	u32 i;

	if (now < u->lane.tick_at)
		return;
	u->lane.tick_at = now + WORK_TICK_NS;
	work_count_cpu(&u->lane);
	for (i = 0; i < SESSIONS; i++) {
		struct session *s = &u->sessions[i];

		if (!s->last)
			continue;
		if (now > s->last + SESSION_IDLE_NS)
			session_end(s);
		else
			work_conn_refresh(&s->conn, 0, 0);
	}
}

/* As recvmmsg(2), waiting for one datagram as configured. */
static int receive(struct work_udp_server *u)
{
	const struct rackwire_dcpim_config *e = &u->work->engine_config;
	u64 from = 0;
	int n;

	while (e->wakeup == RACKWIRE_DCPIM_BUSY_POLL) {
		n = recvmmsg(u->fd, u->msgs, BATCH, MSG_DONTWAIT, NULL);
		if (n > 0 || work_stopping(u->work))
			return n;
		if (!from)
			from = rackwire_now_ns();
		if (e->spin_ns && rackwire_now_ns() - from > e->spin_ns)
			break;
	}
	return recvmmsg(u->fd, u->msgs, BATCH, MSG_WAITFORONE, NULL);
}

static void *udp_thread(void *arg)
{
	struct work_udp_server *u = arg;
	int i, n;

	prctl(PR_SET_NAME, "dcpim-udp");
	work_pin(u->work, 0);
	while (!work_stopping(u->work)) {
		u64 now;

		for (i = 0; i < BATCH; i++)
			u->msgs[i].msg_hdr.msg_namelen = sizeof(u->from[i]);
		n = receive(u);
		if (work_stopping(u->work))
			break;
		now = rackwire_now_ns();
		for (i = 0; i < n; i++)
			take(u, u->memory + (u32)i * DATAGRAM, u->msgs[i].msg_len, &u->from[i],
			     u->msgs[i].msg_hdr.msg_namelen, now);
		refresh(u, now);
	}
	work_count_cpu(&u->lane);
	for (i = 0; i < SESSIONS; i++)
		session_end(&u->sessions[i]);
	return NULL;
}

int work_udp_server_open(struct rackwire_dcpim_work *w, u16 port)
{
	struct work_udp_server *u = calloc(1, sizeof(*u));
	int off = 0, size = 4 << 20, i;
	struct sockaddr_storage at;
	socklen_t length;

	if (!u)
		return -ENOMEM;
	w->udp_server = u;
	u->work = w;
	u->lane.work = w;
	u->lane.transport = RACKWIRE_DCPIM_WORK_UDP;
	u->lane.stats = &w->blocks[w->nshards];
	u->lane.lock = &w->baseline_lock;
	u->fd = socket(w->address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	u->memory = malloc(BATCH * DATAGRAM);
	if (u->fd < 0 || !u->memory)
		return u->fd < 0 ? -errno : -ENOMEM;
	for (i = 0; i < BATCH; i++) {
		u->iov[i] = (struct iovec){ u->memory + (u32)i * DATAGRAM, DATAGRAM };
		u->msgs[i].msg_hdr.msg_iov = &u->iov[i];
		u->msgs[i].msg_hdr.msg_iovlen = 1;
		u->msgs[i].msg_hdr.msg_name = &u->from[i];
	}
	setsockopt(u->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	setsockopt(u->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	if (w->address.ss_family == AF_INET6)
		setsockopt(u->fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	work_sockaddr(&w->address, port, &at, &length);
	if (bind(u->fd, (struct sockaddr *)&at, length) < 0 || getsockname(u->fd, (struct sockaddr *)&at, &length) < 0)
		return -errno;
	w->ports[RACKWIRE_DCPIM_WORK_UDP] = ntohs(((struct sockaddr_in *)&at)->sin_port);
	return 0;
}

int work_udp_server_start(struct rackwire_dcpim_work *w)
{
	struct work_udp_server *u = w->udp_server;
	int err;

	if (!u)
		return 0;
	err = work_thread(&u->thread, udp_thread, u);
	u->running = !err;
	return err;
}

void work_udp_server_stop(struct rackwire_dcpim_work *w)
{
	struct work_udp_server *u = w->udp_server;

	if (!u || !u->running)
		return;
	/* Of an unconnected socket it reports ENOTCONN, and wakes whoever sleeps in it. */
	shutdown(u->fd, SHUT_RDWR);
	pthread_join(u->thread, NULL);
	u->running = false;
}

void work_udp_server_close(struct rackwire_dcpim_work *w)
{
	struct work_udp_server *u = w->udp_server;

	if (!u)
		return;
	work_udp_server_stop(w);
	if (u->fd >= 0)
		close(u->fd);
	free(u->memory);
	free(u);
	w->udp_server = NULL;
	w->ports[RACKWIRE_DCPIM_WORK_UDP] = 0;
}
