// SPDX-License-Identifier: BSD-2-Clause
/* Readiness: one socket now, one socket by a descriptor, many while waiting. */
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"
#include "socket.h"

static bool has_data(struct rackwire_dcpim_socket *sock)
{
	struct dcpim_rxmsg msg;
	struct dcpim_buf buf;

	if (sock->kind == RACKWIRE_DCPIM_MESSAGE)
		return dcpim_msg_peek(sock->flow, &msg, &buf, 0, 1) >= 0;
	return dcpim_recv_peek(sock->flow, &buf, 1) > 0;
}

static bool has_connection(struct dcpim_accepts *a)
{
	bool any;

	pthread_mutex_lock(&a->lock);
	any = !dcpim_list_empty(&a->queue);
	pthread_mutex_unlock(&a->lock);
	return any;
}

int dcpim_socket_readiness(struct rackwire_dcpim_socket *sock)
{
	int bits = 0;

	switch (sock->state) {
	case RACKWIRE_DCPIM_STATE_LISTENING:
		return sock->accepts && has_connection(sock->accepts) ? POLLIN | POLLRDNORM : 0;
	case RACKWIRE_DCPIM_STATE_CONNECTING:
		return 0;
	case RACKWIRE_DCPIM_STATE_CONNECTED:
		if (sock->eof || sock->rd_shut)
			bits |= POLLIN | POLLRDNORM | POLLRDHUP;
		else if (has_data(sock))
			bits |= POLLIN | POLLRDNORM;
		if (!sock->wr_blocked || sock->wr_shut)
			bits |= POLLOUT | POLLWRNORM;
		if (sock->eof && sock->wr_shut)
			bits |= POLLHUP;
		return bits;
	case RACKWIRE_DCPIM_STATE_FAILED:
		bits = POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM | POLLRDHUP | POLLHUP;
		return sock->error ? bits | POLLERR : bits;
	default: /* as TCP says of a socket that was never connected */
		return POLLOUT | POLLWRNORM | POLLHUP;
	}
}

int rackwire_dcpim_poll(struct rackwire_dcpim_socket *sock, int events)
{
	struct dcpim_shard *s = dcpim_socket_lock(sock);
	int bits;
	u64 value;

	bits = dcpim_socket_readiness(sock) & (events | POLLERR | POLLHUP);
	if (sock->event_fd >= 0) {
		/* Whoever says "nothing" is going to wait for the descriptor: look once more, and have it watched. */
		if (!bits) {
			dcpim_shard_try(s);
			bits = dcpim_socket_readiness(sock) & (events | POLLERR | POLLHUP);
		}
		while (read(sock->event_fd, &value, sizeof(value)) < 0 && errno == EINTR)
			;
		if (!bits && !__atomic_exchange_n(&sock->counted, 1, __ATOMIC_RELAXED)) {
			__atomic_add_fetch(&s->armed, 1, __ATOMIC_RELAXED);
			dcpim_shard_summon_thread(s);
		}
		__atomic_store_n(&sock->armed, 1, __ATOMIC_RELEASE);
		/* A connection may have come on another shard meanwhile. */
		if (!bits && sock->accepts && has_connection(sock->accepts))
			dcpim_socket_notify(sock);
	}
	dcpim_shard_unlock(s);
	return bits;
}

int rackwire_dcpim_fd(struct rackwire_dcpim_socket *sock)
{
	struct dcpim_shard *s = dcpim_socket_lock(sock);
	int fd = sock->event_fd;

	if (fd < 0) {
		fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
		if (fd < 0)
			fd = -errno;
		else
			sock->event_fd = fd;
	}
	dcpim_shard_unlock(s);
	return fd;
}

/* ---- many ---- */

struct many {
	struct rackwire_dcpim_pollfd *fds;
	u32 count;
};

static bool any_ready(void *arg)
{
	const struct many *m = arg;
	u32 i;

	for (i = 0; i < m->count; i++) {
		struct rackwire_dcpim_socket *sock = m->fds[i].socket;

		if (!sock)
			continue;
		if (sock->closed || dcpim_socket_readiness(sock) & (m->fds[i].events | POLLERR | POLLHUP))
			return true;
	}
	return false;
}

/* The one shard all sockets are on, NULL if there are several or none. */
static struct dcpim_shard *common_shard(const struct rackwire_dcpim_pollfd *fds, u32 count)
{
	struct dcpim_shard *s = NULL, *t;
	u32 i;

	for (i = 0; i < count; i++) {
		if (!fds[i].socket)
			continue;
		t = __atomic_load_n(&fds[i].socket->shard, __ATOMIC_ACQUIRE);
		/* A listener of several shards hears of connections from all of them. */
		if ((s && t != s) || (fds[i].socket->accepts && t->engine->nshards > 1))
			return NULL;
		s = t;
	}
	return s;
}

static u32 collect_sockets(struct rackwire_dcpim_pollfd *fds, u32 count, u32 *nplain)
{
	u32 i, n = 0;

	*nplain = 0;
	for (i = 0; i < count; i++) {
		int bits = 0;

		fds[i].revents = 0;
		if (!fds[i].socket) {
			*nplain += fds[i].fd >= 0;
			continue;
		}
		struct dcpim_shard *s = dcpim_socket_lock(fds[i].socket);

		bits = dcpim_socket_readiness(fds[i].socket) & (fds[i].events | POLLERR | POLLHUP);
		dcpim_shard_unlock(s);
		fds[i].revents = (int16_t)bits;
		n += bits != 0;
	}
	return n;
}

/* Ordinary descriptors, in the order of the caller's. */
static struct pollfd *plain_fds(const struct rackwire_dcpim_pollfd *fds, u32 count, u32 nplain)
{
	struct pollfd *out = calloc(nplain ? nplain : 1, sizeof(*out));
	u32 i, n = 0;

	for (i = 0; out && i < count; i++)
		if (!fds[i].socket && fds[i].fd >= 0)
			out[n++] = (struct pollfd){ .fd = fds[i].fd, .events = fds[i].events };
	return out;
}

static u32 collect_plain(struct rackwire_dcpim_pollfd *fds, u32 count, const struct pollfd *plain)
{
	u32 i, n = 0, ready = 0;

	for (i = 0; i < count; i++)
		if (!fds[i].socket && fds[i].fd >= 0) {
			fds[i].revents = plain[n++].revents;
			ready += fds[i].revents != 0;
		}
	return ready;
}

/* While nobody else drives the shard: drive it. Return: 0, -EAGAIN, -EINTR, -EBUSY. */
static int wait_driving(struct dcpim_shard *s, struct rackwire_dcpim_pollfd *fds, u32 count, struct pollfd *plain,
			u32 nplain, u64 deadline)
{
	struct many m = { fds, count };
	u32 i;
	int err;

	dcpim_shard_lock(s);
	for (i = 0; i < count; i++)
		if (fds[i].socket)
			fds[i].socket->refs++;
	err = dcpim_shard_wait(s, NULL, any_ready, &m, deadline, plain, nplain);
	for (i = 0; i < count; i++) {
		bool closed = fds[i].socket && fds[i].socket->closed;

		if (fds[i].socket)
			dcpim_socket_unref(fds[i].socket);
		if (closed) {
			fds[i].socket = NULL;
			fds[i].fd = -1;
			fds[i].revents = POLLNVAL;
		}
	}
	dcpim_shard_unlock(s);
	return err;
}

/* Sockets of several shards, or another thread drives: by their descriptors. */
static int wait_by_fd(struct rackwire_dcpim_pollfd *fds, u32 count, u64 deadline, bool *timed_out)
{
	struct pollfd *all = calloc(count ? count : 1, sizeof(*all));
	struct timespec ts, *timeout = NULL;
	u32 i, ready = 0;
	int n;

	if (!all)
		return -ENOMEM;
	for (i = 0; i < count; i++) {
		all[i].fd = fds[i].fd;
		all[i].events = fds[i].events;
		if (!fds[i].socket)
			continue;
		all[i].fd = rackwire_dcpim_fd(fds[i].socket);
		all[i].events = POLLIN;
		if (all[i].fd < 0) {
			n = all[i].fd;
			free(all);
			return n;
		}
		ready += rackwire_dcpim_poll(fds[i].socket, fds[i].events) != 0;
	}
	if (deadline != DCPIM_NEVER || ready) {
		u64 now = rackwire_now_ns(), left = deadline > now && !ready ? deadline - now : 0;

		ts.tv_sec = (time_t)(left / RACKWIRE_NS_PER_S);
		ts.tv_nsec = (long)(left % RACKWIRE_NS_PER_S);
		timeout = &ts;
	}
	n = ppoll(all, count, timeout, NULL);
	if (n < 0)
		n = -errno;
	*timed_out = !n && !ready;
	for (i = 0, ready = 0; n > 0 && i < count; i++)
		if (!fds[i].socket) {
			fds[i].revents = all[i].revents;
			ready += fds[i].revents != 0;
		}
	free(all);
	return n < 0 ? n : (int)ready;
}

int rackwire_dcpim_poll_many(struct rackwire_dcpim_pollfd *fds, uint32_t count, int64_t timeout_ns)
{
	u64 deadline = timeout_ns < 0 ? DCPIM_NEVER : dcpim_after(rackwire_now_ns(), (u64)timeout_ns);
	struct dcpim_shard *s;
	bool timed_out = false;
	struct pollfd *plain;
	u32 nplain, ready, n;
	int err;

	if (count && !fds)
		return -EINVAL;
	for (;;) {
		ready = collect_sockets(fds, count, &nplain);
		plain = plain_fds(fds, count, nplain);
		if (!plain)
			return -ENOMEM;
		if (ready || !timeout_ns || timed_out) {
			poll(plain, nplain, 0);
			ready += collect_plain(fds, count, plain);
			free(plain);
			return (int)ready;
		}
		s = common_shard(fds, count);
		err = s ? wait_driving(s, fds, count, plain, nplain, deadline) : -EBUSY;
		n = collect_plain(fds, count, plain);
		free(plain);
		if (err == -EBUSY) {
			err = wait_by_fd(fds, count, deadline, &timed_out);
			n = err > 0 ? (u32)err : 0;
			err = err > 0 ? 0 : err;
		}
		if (err == -EAGAIN)
			timed_out = true;
		else if (err < 0)
			return err;
		if (n) {
			struct rackwire_dcpim_pollfd *f;
			u32 sockets = 0;

			for (f = fds; f < fds + count; f++)
				if (f->socket) {
					f->revents = (int16_t)rackwire_dcpim_poll(f->socket, f->events);
					sockets += f->revents != 0;
				}
			return (int)(n + sockets);
		}
	}
}
