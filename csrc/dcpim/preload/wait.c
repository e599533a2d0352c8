// SPDX-License-Identifier: BSD-2-Clause
/* Waiting for one socket, and poll and select on mixed sets. */
#include <signal.h>
#include <stdlib.h>

#include "clock.h"
#include "dcpim/preload/preload.h"

#define ON_STACK 32
/*
 * A wait by descriptors looks again this often: another thread that waits on
 * the same socket in the same way may have taken its signal.
 */
#define LOOK_AGAIN_NS 20000000

uint64_t deadline_after(uint64_t timeout_ns)
{
	uint64_t now;

	if (!timeout_ns || timeout_ns == FOREVER)
		return FOREVER;
	now = rackwire_now_ns();
	return timeout_ns < FOREVER - now ? now + timeout_ns : FOREVER;
}

int64_t time_left(uint64_t deadline)
{
	uint64_t now;

	if (deadline == FOREVER)
		return -1;
	now = rackwire_now_ns();
	return deadline > now ? (int64_t)(deadline - now) : 0;
}

/*
 * After a signal handler ran, the kernel starts a call again if SA_RESTART was
 * set. Which handler ran is not known here: start again if all say so. Those
 * for crashes, which many programs have, do not interrupt a wait.
 */
static bool handlers_restart(void)
{
	static const char crashes[NSIG] = {
		[SIGSEGV] = 1, [SIGBUS] = 1, [SIGFPE] = 1, [SIGILL] = 1, [SIGTRAP] = 1, [SIGSYS] = 1, [SIGABRT] = 1,
	};
	struct sigaction action;
	int sig;

	for (sig = 1; sig < NSIG; sig++)
		if (!crashes[sig] && !sigaction(sig, NULL, &action) && action.sa_handler != SIG_DFL &&
		    action.sa_handler != SIG_IGN && !(action.sa_flags & SA_RESTART))
			return false;
	return true;
}

int dsock_wait(struct dsock *d, int events, uint64_t deadline, bool restart)
{
	struct rackwire_dcpim_pollfd p = { .socket = d->sock, .fd = -1, .events = (int16_t)events };
	int n;

	do {
		n = rackwire_dcpim_poll_many(&p, 1, time_left(deadline));
	} while (n == -EINTR && restart && handlers_restart());
	return n > 0 ? 0 : n ? n : -EAGAIN;
}

/* ---- sets ---- */

struct set {
	struct pollfd *fds;
	nfds_t count;
	struct dsock **dsocks; /* NULL where a descriptor is an ordinary one */
	struct dsock *few[ON_STACK];
};

static bool set_has_dsocks(struct pollfd *fds, nfds_t count)
{
	nfds_t i;

	for (i = 0; i < count; i++) {
		struct handle *h = table_peek(fds[i].fd);

		if (!h)
			continue;
		if (h->type == HANDLE_DSOCK)
			return true;
		epoll_watched(fds[i].fd);
	}
	return false;
}

static int set_open(struct set *s, struct pollfd *fds, nfds_t count)
{
	nfds_t i;

	s->fds = fds;
	s->count = count;
	s->dsocks = count <= ON_STACK ? s->few : malloc(count * sizeof(*s->dsocks));
	if (!s->dsocks)
		return -ENOMEM;
	for (i = 0; i < count; i++) {
		s->dsocks[i] = table_peek(fds[i].fd) ? dsock_get(fds[i].fd) : NULL;
		if (!s->dsocks[i] && table_peek(fds[i].fd))
			epoll_watched(fds[i].fd);
	}
	return 0;
}

static void set_close(struct set *s)
{
	nfds_t i;

	for (i = 0; i < s->count; i++)
		if (s->dsocks[i])
			dsock_put(s->dsocks[i]);
	if (s->dsocks != s->few)
		free(s->dsocks);
}

/* The engine waits, and moves packets while it does. */
static int wait_in_engine(struct set *s, uint64_t deadline)
{
	struct rackwire_dcpim_pollfd few[ON_STACK], *many = few;
	nfds_t i;
	int n;

	if (s->count > ON_STACK) {
		many = malloc(s->count * sizeof(*many));
		if (!many)
			return -ENOMEM;
	}
	for (i = 0; i < s->count; i++)
		many[i] = (struct rackwire_dcpim_pollfd){
			.socket = s->dsocks[i] ? s->dsocks[i]->sock : NULL,
			.fd = s->fds[i].fd,
			.events = s->fds[i].events,
		};
	n = rackwire_dcpim_poll_many(many, (uint32_t)s->count, time_left(deadline));
	for (i = 0; n >= 0 && i < s->count; i++)
		s->fds[i].revents = many[i].revents;
	if (many != few)
		free(many);
	return n;
}

/* One look at every socket. Return: how many are ready. */
static int look(struct set *s)
{
	int ready = 0;
	nfds_t i;

	for (i = 0; i < s->count; i++)
		if (s->dsocks[i]) {
			s->fds[i].revents = (short)dsock_poll(s->dsocks[i], s->fds[i].events);
			ready += s->fds[i].revents != 0;
		}
	return ready;
}

/* The kernel waits, with a signal mask of the caller's, for the sockets' own descriptors. */
static int wait_in_kernel(struct set *s, uint64_t deadline, const sigset_t *mask)
{
	struct pollfd *all = malloc((s->count + 1) * sizeof(*all));
	int n, ready, plain = 0;
	struct timespec ts;
	nfds_t i;

	if (!all)
		return -ENOMEM;
	for (i = 0; i < s->count; i++) {
		all[i] = (struct pollfd){ .fd = s->fds[i].fd, .events = s->fds[i].events };
		if (s->dsocks[i])
			all[i] = (struct pollfd){ .fd = rackwire_dcpim_fd(s->dsocks[i]->sock), .events = POLLIN };
	}
	do {
		int64_t left = time_left(deadline);

		ready = look(s);
		if (left < 0 || left > LOOK_AGAIN_NS)
			left = LOOK_AGAIN_NS;
		if (ready)
			left = 0;
		ts = (struct timespec){ .tv_nsec = (long)left };
		n = REAL(ppoll)(all, s->count, &ts, mask);
		if (n < 0) {
			n = -errno;
			break;
		}
		for (i = 0, plain = 0; i < s->count; i++)
			if (!s->dsocks[i]) {
				s->fds[i].revents = all[i].revents;
				plain += all[i].revents != 0;
			}
		n = look(s) + plain;
	} while (!n && time_left(deadline));
	free(all);
	return n;
}

static int wait_for_set(struct pollfd *fds, nfds_t count, uint64_t deadline, const sigset_t *mask)
{
	struct set s;
	int n = set_open(&s, fds, count);

	if (n)
		return n;
	n = mask ? wait_in_kernel(&s, deadline, mask) : wait_in_engine(&s, deadline);
	set_close(&s);
	engine_check_exit();
	return n;
}

static uint64_t deadline_of(const struct timespec *ts)
{
	uint64_t ns;

	if (!ts)
		return FOREVER;
	if ((uint64_t)ts->tv_sec >= FOREVER / RACKWIRE_NS_PER_S / 2)
		return FOREVER;
	ns = (uint64_t)ts->tv_sec * RACKWIRE_NS_PER_S + (uint64_t)ts->tv_nsec;
	return ns ? deadline_after(ns) : 0;
}

static bool time_is_valid(const struct timespec *ts)
{
	return !ts || (ts->tv_sec >= 0 && ts->tv_nsec >= 0 && ts->tv_nsec < (long)RACKWIRE_NS_PER_S);
}

/* ---- poll ---- */

EXPORT int poll(struct pollfd *fds, nfds_t count, int timeout)
{
	struct timespec ts = { timeout / 1000, timeout % 1000 * 1000000l };

	if (likely(!table_used()) || !set_has_dsocks(fds, count))
		return REAL(poll)(fds, count, timeout);
	return (int)result(wait_for_set(fds, count, deadline_of(timeout < 0 ? NULL : &ts), NULL));
}

EXPORT int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
	if (likely(!table_used()) || !set_has_dsocks(fds, count))
		return REAL(ppoll)(fds, count, timeout, mask);
	if (!time_is_valid(timeout))
		return (int)result(-EINVAL);
	return (int)result(wait_for_set(fds, count, deadline_of(timeout), mask));
}

/* ---- select ---- */

static bool in_set(const fd_set *set, int fd)
{
	return set && FD_ISSET(fd, set);
}

static bool select_has_dsocks(int count, const fd_set *in, const fd_set *out, const fd_set *bad)
{
	int fd;

	for (fd = 0; fd < count; fd++)
		if (table_peek(fd) && (in_set(in, fd) || in_set(out, fd) || in_set(bad, fd)))
			return true;
	return false;
}

static nfds_t select_to_poll(int count, const fd_set *in, const fd_set *out, const fd_set *bad, struct pollfd *fds)
{
	nfds_t n = 0;
	int fd;

	for (fd = 0; fd < count; fd++) {
		short events = (short)((in_set(in, fd) ? POLLIN : 0) | (in_set(out, fd) ? POLLOUT : 0) |
				       (in_set(bad, fd) ? POLLPRI : 0));

		if (events)
			fds[n++] = (struct pollfd){ .fd = fd, .events = events };
	}
	return n;
}

/* The bits Linux's select() takes for readable, writable, exceptional. */
#define SELECT_IN (POLLIN | POLLHUP | POLLERR)
#define SELECT_OUT (POLLOUT | POLLERR)
#define SELECT_BAD POLLPRI

static int keep(fd_set *set, int fd, bool ready)
{
	if (!in_set(set, fd))
		return 0;
	if (!ready)
		FD_CLR(fd, set);
	return ready;
}

static int select_common(int count, fd_set *in, fd_set *out, fd_set *bad, uint64_t deadline, const sigset_t *mask)
{
	struct pollfd fds[FD_SETSIZE];
	nfds_t n = select_to_poll(count, in, out, bad, fds), i;
	int r = wait_for_set(fds, n, deadline, mask);

	if (r < 0)
		return r;
	for (i = 0; i < n; i++)
		if (fds[i].revents & POLLNVAL)
			return -EBADF;
	for (i = 0, r = 0; i < n; i++) {
		r += keep(in, fds[i].fd, fds[i].revents & SELECT_IN);
		r += keep(out, fds[i].fd, fds[i].revents & SELECT_OUT);
		r += keep(bad, fds[i].fd, fds[i].revents & SELECT_BAD);
	}
	return r;
}

EXPORT int select(int count, fd_set *in, fd_set *out, fd_set *bad, struct timeval *timeout)
{
	uint64_t deadline = FOREVER;
	int64_t left;
	int r;

	if (likely(!table_used()) || count < 0 || count > FD_SETSIZE || !select_has_dsocks(count, in, out, bad))
		return REAL(select)(count, in, out, bad, timeout);
	if (timeout) {
		struct timespec ts = { timeout->tv_sec, timeout->tv_usec * 1000 };

		if (timeout->tv_sec < 0 || timeout->tv_usec < 0)
			return (int)result(-EINVAL);
		deadline = deadline_of(&ts);
	}
	r = select_common(count, in, out, bad, deadline, NULL);
	if (timeout && deadline != FOREVER) {
		left = time_left(deadline);
		timeout->tv_sec = (time_t)(left / (int64_t)RACKWIRE_NS_PER_S);
		timeout->tv_usec = (suseconds_t)(left % (int64_t)RACKWIRE_NS_PER_S / 1000);
	}
	return (int)result(r);
}

EXPORT int pselect(int count, fd_set *in, fd_set *out, fd_set *bad, const struct timespec *timeout,
		   const sigset_t *mask)
{
	if (likely(!table_used()) || count < 0 || count > FD_SETSIZE || !select_has_dsocks(count, in, out, bad))
		return REAL(pselect)(count, in, out, bad, timeout, mask);
	if (!time_is_valid(timeout))
		return (int)result(-EINVAL);
	return (int)result(select_common(count, in, out, bad, deadline_of(timeout), mask));
}

/* ---- the C library's other names ---- */

void __chk_fail(void) __attribute__((noreturn));

EXPORT int __poll(struct pollfd *fds, nfds_t count, int timeout)
{
	return poll(fds, count, timeout);
}

EXPORT int __select(int count, fd_set *in, fd_set *out, fd_set *bad, struct timeval *timeout)
{
	return select(count, in, out, bad, timeout);
}

EXPORT int __poll_chk(struct pollfd *fds, nfds_t count, int timeout, size_t size)
{
	if (size / sizeof(*fds) < count)
		__chk_fail();
	return poll(fds, count, timeout);
}

EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask,
		       size_t size)
{
	if (size / sizeof(*fds) < count)
		__chk_fail();
	return ppoll(fds, count, timeout, mask);
}
