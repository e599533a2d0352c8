// SPDX-License-Identifier: BSD-2-Clause
/*
 * A client's thread with kernel sockets: it waits as the engine's threads do, by
 * sleeping or by spinning. With one connection that has nothing to do but wait
 * for an answer it sleeps in recv() itself, the cheapest way the kernel has.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <unistd.h>

#include "work.h"

#define RECV_NAP_NS 50000000 /* a sleep in recv() ends after so long, to look whether to stop */

int work_socket_open(struct work_conn *c, int type)
{
	struct rackwire_dcpim_work *w = c->lane->work;
	struct sockaddr_storage from;
	socklen_t length;
	int one = 1;

	c->fd = socket(w->address.ss_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->fd < 0)
		return -errno;
	if (!w->local.ss_family && !w->config.sport)
		return 0;
	from = w->local;
	if (!from.ss_family)
		from.ss_family = w->address.ss_family;
	if (type == SOCK_STREAM)
		setsockopt(c->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	/* dcPIM in UDP has the source ports themselves. */
	work_sockaddr(&from, type == SOCK_STREAM && w->config.sport ? (u16)(w->config.sport + c->index) : 0, &from,
		      &length);
	return bind(c->fd, (struct sockaddr *)&from, length) < 0 ? -errno : 0;
}

void work_socket_close(struct work_conn *c, u64 now, bool abort)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };

	(void)now;
	if (abort)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(c->fd);
	c->fd = -1;
}

/* A nonblocking connect has ended, one way or the other. */
static void connect_ended(struct work_conn *c, u64 now)
{
	struct timeval nap = { .tv_usec = RECV_NAP_NS / 1000 };
	struct sockaddr_storage peer;
	socklen_t length = sizeof(int);
	int error = 0;

	getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
	if (error) {
		work_client_broken(c, now, -error);
		return;
	}
	/* From here on each call says whether it may sleep. */
	fcntl(c->fd, F_SETFL, fcntl(c->fd, F_GETFL) & ~O_NONBLOCK);
	setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &nap, sizeof(nap));
	work_sockaddr(&c->lane->work->address, work_transport_port(c->lane->work, c->lane->transport), &peer, &length);
	work_client_connected(c, now, &peer);
}

static void readable(struct work_conn *c, u64 now, int flags)
{
	if (c->lane->transport == RACKWIRE_DCPIM_WORK_TCP)
		work_tcp_readable(c, now, flags);
	else
		work_udp_readable(c, now, flags);
}

static void serve(struct work_conn *c, u64 now, int events)
{
	if (c->state == WORK_CONNECTING) {
		if (events & (POLLOUT | POLLERR | POLLHUP))
			connect_ended(c, now);
		return;
	}
	if (events & POLLOUT)
		c->blocked = false;
	if (events & (POLLIN | POLLERR | POLLHUP))
		readable(c, now, MSG_DONTWAIT);
	if (c->fd >= 0)
		work_client_pump(c, now);
}

/* The one connection, when it has nothing to do but wait for an answer. */
static struct work_conn *only_waits(struct work_lane *l)
{
	struct work_conn *c = dcpim_container(l->conns.next, struct work_conn, node);
	struct rackwire_dcpim_work *w = l->work;

	if (l->nconns != 1 || w->phase != WORK_SLICE || l->over || w->config.interval_ns || c->state != WORK_READY ||
	    c->blocked || work_udp_one_way(c))
		return NULL;
	return c->nbusy || c->service == RACKWIRE_DCPIM_WORK_SERVICE_SOURCE ? c : NULL;
}

/* Sleep until something comes, or until the lane's deadline. */
static void wait_and_serve(struct work_lane *l, struct pollfd *fds)
{
	struct rackwire_dcpim_work *w = l->work;
	u64 now = rackwire_now_ns(), wait = l->deadline > now ? l->deadline - now : 0;
	struct timespec ts = { (time_t)dcpim_min(wait / RACKWIRE_NS_PER_S, 3600), (long)(wait % RACKWIRE_NS_PER_S) };
	bool flood = false;
	struct dcpim_list *i, *next;
	u32 n = 0;

	for (i = l->conns.next; i != &l->conns; i = i->next) {
		struct work_conn *c = dcpim_container(i, struct work_conn, node);

		fds[n] = (struct pollfd){ .fd = c->fd, .events = POLLIN };
		if (c->state == WORK_CONNECTING)
			fds[n].events = POLLOUT;
		else if (c->blocked)
			fds[n].events |= POLLOUT;
		flood = flood || (work_udp_one_way(c) && !l->over && w->phase == WORK_SLICE && c->left &&
				  !w->config.interval_ns);
		n++;
	}
	/* Once it is known that the run is to end, that is no news any more. */
	fds[n] = (struct pollfd){ .fd = work_stopping(w) ? -1 : w->wake_fd, .events = POLLIN };
	if (flood || work_busy_poll(w))
		ts = (struct timespec){ 0, 0 };
	if (ppoll(fds, n + 1, &ts, NULL) <= 0)
		return;
	now = rackwire_now_ns();
	if (fds[n].revents)
		l->deadline = 0;
	for (i = l->conns.next, n = 0; i != &l->conns; i = next, n++) {
		struct work_conn *c = dcpim_container(i, struct work_conn, node);

		next = i->next;
		if (fds[n].revents && c->fd >= 0)
			serve(c, now, fds[n].revents);
	}
}

static void flood(struct work_lane *l, u64 now)
{
	struct dcpim_list *i;

	for (i = l->conns.next; i != &l->conns; i = i->next) {
		struct work_conn *c = dcpim_container(i, struct work_conn, node);

		if (work_udp_one_way(c) && c->state == WORK_READY)
			work_udp_flood(c, now);
	}
}

void *work_socket_client_thread(void *arg)
{
	struct work_lane *l = arg;
	struct rackwire_dcpim_work *w = l->work;
	struct pollfd *fds = calloc(l->nconns + 1, sizeof(*fds));
	bool busy = work_busy_poll(w);
	struct work_conn *c;

	prctl(PR_SET_NAME, "dcpim-base");
	prctl(PR_SET_TIMERSLACK, 1UL);
	work_pin(w, 0);
	if (!fds) {
		work_fail(w, -ENOMEM, "out of memory");
		return NULL;
	}
	while (!l->done) {
		u64 now = rackwire_now_ns();

		if (now >= l->deadline || work_stopping(w))
			work_lane_timer(l, now);
		if (l->done)
			break;
		c = only_waits(l);
		if (c) {
			readable(c, now, busy ? MSG_DONTWAIT : 0);
			if (c->fd >= 0)
				work_client_pump(c, rackwire_now_ns());
		} else {
			wait_and_serve(l, fds);
			if (w->phase == WORK_SLICE && !l->over)
				flood(l, now);
		}
		if (l->over || w->phase != WORK_SLICE || !c || !c->left)
			work_lane_check(l, rackwire_now_ns());
	}
	free(fds);
	return NULL;
}
