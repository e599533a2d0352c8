// SPDX-License-Identifier: BSD-2-Clause
/* Which descriptors are dcPIM sockets: the table, and the calls that change descriptors. */
#include <fcntl.h>
#include <linux/close_range.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "dcpim/preload/preload.h"

_Static_assert(sizeof(struct dsock) <= HANDLE_SIZE, "a handle must hold a socket");

#define EXIT_WAIT_MS 100 /* for calls of other threads to come back */
#define LIVE 0x80000000u /* in refs: what is behind the handle is not closed yet */

struct handle *table[TABLE_SIZE];
uint32_t table_dsocks;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct handle *free_handles;
static struct handle gone; /* behind descriptors that were closed at exit */
static int highest = -1;
static pid_t owner; /* of the table; a child made by vfork() shares our memory but not our descriptors */

/* ---- handles ---- */

struct handle *handle_new(enum handle_type type)
{
	struct handle *h;

	pthread_mutex_lock(&lock);
	h = free_handles;
	if (h)
		free_handles = h->next_free;
	pthread_mutex_unlock(&lock);
	if (!h && !(h = calloc(1, HANDLE_SIZE)))
		return NULL;
	/* refs stays 0 until the rest is in place: another thread may be looking. */
	memset((char *)h + sizeof(h->refs), 0, HANDLE_SIZE - sizeof(h->refs));
	h->type = type;
	__atomic_store_n(&h->refs, LIVE | 1, __ATOMIC_RELEASE);
	return h;
}

bool handle_ref(struct handle *h)
{
	uint32_t refs = __atomic_load_n(&h->refs, __ATOMIC_RELAXED);

	while (refs & ~LIVE)
		if (__atomic_compare_exchange_n(&h->refs, &refs, refs + 1, true, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			return true;
	return false;
}

void handle_put(struct handle *h)
{
	if (__atomic_sub_fetch(&h->refs, 1, __ATOMIC_ACQ_REL) != LIVE)
		return;
	if (h->type == HANDLE_DSOCK) {
		struct dsock *d = (struct dsock *)h;

		/* A call that had begun before the last descriptor was closed may have put it into a set. */
		epoll_forget_dsock(d);
		rackwire_dcpim_close(d->sock);
	} else {
		epoll_release(h);
	}
	__atomic_store_n(&h->refs, 0, __ATOMIC_RELEASE);
	pthread_mutex_lock(&lock);
	h->next_free = free_handles;
	free_handles = h;
	pthread_mutex_unlock(&lock);
}

struct handle *table_get(int fd)
{
	struct handle *h;

	if ((unsigned int)fd >= TABLE_SIZE)
		return NULL;
	for (;;) {
		h = __atomic_load_n(&table[fd], __ATOMIC_ACQUIRE);
		if (!h)
			return NULL;
		if (h == &gone) {
			engine_check_exit();
			return NULL;
		}
		if (!handle_ref(h))
			continue;
		if (h == __atomic_load_n(&table[fd], __ATOMIC_ACQUIRE))
			return h;
		handle_put(h);
	}
}

struct dsock *dsock_get(int fd)
{
	struct handle *h = table_get(fd);

	if (!h || h->type == HANDLE_DSOCK)
		return (struct dsock *)h;
	handle_put(h);
	return NULL;
}

/* ---- entries, with the lock held ---- */

static struct handle *exchange(int fd, struct handle *h)
{
	struct handle *old = __atomic_exchange_n(&table[fd], h, __ATOMIC_ACQ_REL);

	if (old && old->type == HANDLE_DSOCK)
		__atomic_sub_fetch(&table_dsocks, 1, __ATOMIC_RELAXED);
	if (h && h->type == HANDLE_DSOCK) {
		__atomic_add_fetch(&table_dsocks, 1, __ATOMIC_RELAXED);
		__atomic_add_fetch(&((struct dsock *)h)->fds, 1, __ATOMIC_RELAXED);
	}
	if (h && fd > highest)
		highest = fd;
	return old == &gone ? NULL : old;
}

/* What an entry held, without the lock. Being in an epoll set keeps no socket open. */
static void drop(struct handle *old)
{
	if (!old)
		return;
	if (old->type == HANDLE_DSOCK && !__atomic_sub_fetch(&((struct dsock *)old)->fds, 1, __ATOMIC_ACQ_REL))
		epoll_forget_dsock((struct dsock *)old);
	handle_put(old);
}

void table_set(int fd, struct handle *h)
{
	struct handle *old;

	pthread_mutex_lock(&lock);
	owner = getpid();
	/* There is an old one only if its descriptor was closed behind our back. */
	old = exchange(fd, h);
	pthread_mutex_unlock(&lock);
	drop(old);
}

static bool ours(void)
{
	return owner == getpid();
}

int dsock_number(int flags)
{
	int fd = REAL(socket)(AF_UNIX, SOCK_SEQPACKET | flags, 0);

	if (fd < TABLE_SIZE)
		return fd < 0 ? -errno : fd;
	REAL(close)(fd);
	return -EMFILE;
}

int dsock_install(int fd, struct rackwire_dcpim_socket *sock, int domain, int type, int flags,
		  const struct dsock *listener)
{
	struct dsock *d = (struct dsock *)handle_new(HANDLE_DSOCK);
	int64_t kind = RACKWIRE_DCPIM_STREAM;

	if (!d) {
		REAL(close)(fd);
		rackwire_dcpim_close(sock);
		return -ENOMEM;
	}
	rackwire_dcpim_setopt(sock, RACKWIRE_DCPIM_NONBLOCK, 1);
	rackwire_dcpim_getopt(sock, RACKWIRE_DCPIM_KIND, &kind);
	d->sock = sock;
	d->domain = domain;
	d->type = type;
	d->nonblock = flags & SOCK_NONBLOCK ? 1 : 0;
	if (listener) {
		d->rcvtimeo = listener->rcvtimeo;
		d->sndtimeo = listener->sndtimeo;
		d->keepalive = listener->keepalive;
		d->no_check = listener->no_check;
		d->priority = listener->priority == DCPIM_MESSAGE_PRIORITY ? 0 : listener->priority;
	}
	if (kind == RACKWIRE_DCPIM_MESSAGE)
		d->priority = DCPIM_MESSAGE_PRIORITY;
	table_set(fd, &d->handle);
	return 0;
}

/* ---- close ---- */

static int close_entry(int fd)
{
	struct handle *old;
	int r;

	if (!ours())
		return REAL(close)(fd);
	pthread_mutex_lock(&lock);
	old = exchange(fd, NULL);
	r = REAL(close)(fd);
	pthread_mutex_unlock(&lock);
	drop(old);
	return r;
}

EXPORT int close(int fd)
{
	if (likely(!table_peek(fd)))
		return REAL(close)(fd);
	return close_entry(fd);
}

static void close_entries(unsigned int first, unsigned int last)
{
	unsigned int fd;

	for (fd = first; fd <= last && (int)fd <= highest; fd++)
		if (table_peek((int)fd))
			close_entry((int)fd);
}

EXPORT int close_range(unsigned int first, unsigned int last, int flags)
{
	if (!(flags & ~CLOSE_RANGE_UNSHARE) && ours())
		close_entries(first, last);
	return REAL(close_range)(first, last, flags);
}

EXPORT void closefrom(int first)
{
	if (ours())
		close_entries(first < 0 ? 0 : (unsigned int)first, TABLE_SIZE);
	REAL(closefrom)(first);
}

/* ---- copies ---- */

static int adopt_copy(int fd, struct handle *h)
{
	if (fd >= 0 && fd < TABLE_SIZE && ours()) {
		table_set(fd, h);
		return fd;
	}
	handle_put(h);
	if (fd < TABLE_SIZE)
		return fd;
	REAL(close)(fd);
	errno = EMFILE;
	return -1;
}

EXPORT int dup(int fd)
{
	struct handle *h;

	if (likely(!table_peek(fd)) || !(h = table_get(fd)))
		return REAL(dup)(fd);
	return adopt_copy(REAL(dup)(fd), h);
}

int table_dupfd(int fd, int command, int least)
{
	struct handle *h = table_get(fd);
	int copy = REAL(fcntl)(fd, command, least);

	return h ? adopt_copy(copy, h) : copy;
}

static int copy_to(int fd, int to, int flags)
{
	return flags < 0 ? REAL(dup2)(fd, to) : REAL(dup3)(fd, to, flags);
}

static int dup_over(int fd, int to, int flags)
{
	struct handle *h, *old = NULL;
	int r;

	if ((!table_peek(fd) && !table_peek(to)) || fd == to || !ours())
		return copy_to(fd, to, flags);
	h = table_get(fd);
	if (h && to >= TABLE_SIZE) {
		handle_put(h);
		errno = EBADF;
		return -1;
	}
	pthread_mutex_lock(&lock);
	r = copy_to(fd, to, flags);
	if (r >= 0) {
		old = exchange(to, h);
		h = NULL;
	}
	pthread_mutex_unlock(&lock);
	if (h)
		handle_put(h);
	drop(old);
	return r;
}

EXPORT int dup2(int fd, int to)
{
	return dup_over(fd, to, -1);
}

EXPORT int dup3(int fd, int to, int flags)
{
	return dup_over(fd, to, flags);
}

/* ---- exit and fork ---- */

static bool still_used(struct handle **handles, uint32_t count)
{
	uint32_t i;

	for (i = 0; i < count; i++)
		if (__atomic_load_n(&handles[i]->refs, __ATOMIC_ACQUIRE))
			return true;
	return false;
}

bool table_close_all(void)
{
	struct handle **busy = calloc((size_t)highest + 2, sizeof(*busy));
	struct timespec ms = { .tv_nsec = 1000000 };
	uint32_t count = 0, i;
	bool done;
	int fd;

	for (fd = 0; fd <= highest; fd++) {
		struct handle *h;

		pthread_mutex_lock(&lock);
		h = exchange(fd, table[fd] && table[fd]->type == HANDLE_DSOCK ? &gone : NULL);
		pthread_mutex_unlock(&lock);
		if (!h)
			continue;
		if (busy)
			busy[count++] = h;
		drop(h);
	}
	/* Some may be in a call of another thread. Those that wait for data come back now. */
	for (i = 0; i < count; i++) {
		if (!handle_ref(busy[i]))
			continue;
		if (busy[i]->type == HANDLE_DSOCK)
			rackwire_dcpim_shutdown(((struct dsock *)busy[i])->sock, SHUT_RDWR);
		handle_put(busy[i]);
	}
	for (i = 0; i < EXIT_WAIT_MS && still_used(busy, count); i++)
		nanosleep(&ms, NULL);
	done = !still_used(busy, count);
	free(busy);
	return done;
}

static void before_fork(void)
{
	epoll_atfork(0);
	pthread_mutex_lock(&lock);
}

static void after_fork(void)
{
	pthread_mutex_unlock(&lock);
	epoll_atfork(1);
}

/* The child has the descriptors, but nothing is behind them: every use gives ENOTCONN. */
static void in_child(void)
{
	int fd;

	for (fd = 0; fd <= highest; fd++) {
		struct handle *h = table[fd];

		table[fd] = NULL;
		if (!h || !h->refs)
			continue;
		h->refs = 0;
		h->next_free = free_handles;
		free_handles = h;
	}
	highest = -1;
	table_dsocks = 0;
	pthread_mutex_init(&lock, NULL);
	epoll_atfork(2);
	engine_forget();
}

__attribute__((constructor)) static void table_init(void)
{
	pthread_atfork(before_fork, after_fork, in_child);
}

/* ---- the C library's other names ---- */

EXPORT int __close(int fd)
{
	return close(fd);
}

EXPORT int __dup2(int fd, int to)
{
	return dup2(fd, to);
}
