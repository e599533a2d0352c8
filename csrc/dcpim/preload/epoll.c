// SPDX-License-Identifier: BSD-2-Clause
/*
 * epoll on mixed sets. The kernel's epoll instance holds the ordinary
 * descriptors as the program gave them, and for each dcPIM socket the engine's
 * descriptor of it, which says "ask rackwire_dcpim_poll()". The data of the
 * latter is the address of a struct item, in memory of which no program can
 * hold a pointer, so that the kernel's answers can be told apart.
 *
 * As in the kernel, items that may be ready are on a list of their set, and one
 * that is reported level-triggered stays on it until it is found not ready.
 */
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "clock.h"
#include "dcpim/preload/preload.h"

#define MAX_ITEMS (1u << 18)
#define MAX_DRIVEN 16 /* sockets the engine looks at itself while it waits; more go by their descriptors */
#define READ_BITS (EPOLLIN | EPOLLRDNORM | EPOLLRDBAND)
#define WRITE_BITS (EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND)
#define POLL_BITS (READ_BITS | WRITE_BITS | EPOLLPRI | EPOLLRDHUP)
#define ALWAYS (EPOLLERR | EPOLLHUP)

struct epoll_item {
	struct epoll_set *set;
	struct dsock *dsock; /* NULL: the set's own descriptor */
	struct epoll_item *next, **link;	     /* in the set */
	struct epoll_item *next_same, **link_same;   /* of the socket */
	struct epoll_item *next_ready, *prev_ready;  /* circular, NULL: not on the list */
	uint64_t data;
	uint32_t events;
	uint32_t told;	/* edge-triggered: what was reported and has not changed since */
	uint32_t send_refused, recv_refused; /* of the socket, when it was last looked at */
	int fd;		/* as the program knows it */
	int wake_fd;	/* in the kernel's set */
	bool own_wake_fd, edge, off;
};

struct epoll_set {
	struct handle handle;
	struct epoll_item *items;
	struct epoll_item *ready, *kick; /* @ready: the first of the circle */
	int kick_fd;
	uint32_t waiters;
	bool kicked, watched;
	bool sockets_first; /* whose turn it is when there is not room for all */
};

_Static_assert(sizeof(struct epoll_set) <= 256, "a handle must hold a set");

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct epoll_item *pool, *free_items;
static uint32_t pool_used;

/* ---- items ---- */

static struct epoll_item *item_new(struct epoll_set *set)
{
	struct epoll_item *it;

	if (!pool) {
		pool = mmap(NULL, MAX_ITEMS * sizeof(*pool), PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (pool == MAP_FAILED) {
			pool = NULL;
			return NULL;
		}
	}
	it = free_items;
	if (it)
		free_items = it->next;
	else if (pool_used < MAX_ITEMS)
		it = &pool[pool_used++];
	else
		return NULL;
	*it = (struct epoll_item){ .set = set, .fd = -1, .wake_fd = -1 };
	return it;
}

static void item_free(struct epoll_item *it)
{
	*it = (struct epoll_item){ .next = free_items };
	free_items = it;
}

/* The item an answer of the kernel means, or NULL: the data is the program's. */
static struct epoll_item *item_of(uint64_t data)
{
	uint64_t first = (uint64_t)(uintptr_t)pool;

	return pool && data >= first && data < first + pool_used * sizeof(*pool) ?
		       (struct epoll_item *)(uintptr_t)data :
		       NULL;
}

static bool wants_edges(const struct epoll_item *it)
{
	return it->events & EPOLLET;
}

/* ---- the list of what may be ready ---- */

static void ready_add(struct epoll_item *it)
{
	struct epoll_item *first = it->set->ready;

	if (it->next_ready)
		return;
	if (!first) {
		it->set->ready = it->next_ready = it->prev_ready = it;
		return;
	}
	it->next_ready = first;
	it->prev_ready = first->prev_ready;
	it->prev_ready->next_ready = it;
	first->prev_ready = it;
}

static void ready_remove(struct epoll_item *it)
{
	if (!it->next_ready)
		return;
	if (it->next_ready == it) {
		it->set->ready = NULL;
	} else {
		it->prev_ready->next_ready = it->next_ready;
		it->next_ready->prev_ready = it->prev_ready;
		if (it->set->ready == it)
			it->set->ready = it->next_ready;
	}
	it->next_ready = it->prev_ready = NULL;
}

/* Whoever waits in the kernel for this set must come and look at the list. */
static void kick(struct epoll_set *set)
{
	uint64_t one = 1;

	if (set->kicked || (!set->waiters && !set->watched))
		return;
	set->kicked = true;
	while (REAL(write)(set->kick_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void unkick(struct epoll_set *set)
{
	uint64_t value;

	if (!set->kicked)
		return;
	set->kicked = false;
	while (REAL(read)(set->kick_fd, &value, sizeof(value)) < 0 && errno == EINTR)
		;
}

/* ---- readiness ---- */

/* The socket's descriptor was cleared: other items of it have not seen what it said. */
static void spread(struct dsock *d, const struct epoll_item *except, uint32_t bits)
{
	struct epoll_item *it;

	for (it = d->items; it; it = it->next_same) {
		if (it == except || it->off || !(bits & (it->events | ALWAYS)))
			continue;
		it->edge = true;
		ready_add(it);
		kick(it->set);
	}
}

static uint32_t all_events(const struct dsock *d)
{
	const struct epoll_item *it;
	uint32_t events = 0;

	for (it = d->items; it; it = it->next_same)
		events |= it->events;
	return events & POLL_BITS;
}

/* What is ready of an item's interest, with the descriptor armed for the rest. */
static uint32_t item_bits(struct epoll_item *it)
{
	struct dsock *d = it->dsock;
	int r;

	/* Edges are for what comes later too: that the descriptor is watched is only sure after "nothing". */
	if (wants_edges(it))
		rackwire_dcpim_poll(d->sock, 0);
	r = rackwire_dcpim_poll(d->sock, (int)all_events(d));
	if (r < 0)
		return EPOLLERR;
	if (it->next_same || it->link_same != &d->items)
		spread(d, it, (uint32_t)r);
	return (uint32_t)r & (it->events | ALWAYS);
}

/* What needs no telling again. What was used up since is news when it comes back. */
static uint32_t still_told(const struct epoll_item *it)
{
	uint32_t told = it->told;

	if (__atomic_load_n(&it->dsock->send_refused, __ATOMIC_RELAXED) != it->send_refused)
		told &= ~(uint32_t)WRITE_BITS;
	if (__atomic_load_n(&it->dsock->recv_refused, __ATOMIC_RELAXED) != it->recv_refused)
		told &= ~(uint32_t)READ_BITS;
	return told;
}

/* Look at an item. Return: what to report, 0: nothing. */
static uint32_t item_look(struct epoll_item *it)
{
	struct dsock *d = it->dsock;
	uint32_t sends = __atomic_load_n(&d->send_refused, __ATOMIC_RELAXED);
	uint32_t recvs = __atomic_load_n(&d->recv_refused, __ATOMIC_RELAXED);
	bool edge = it->edge;
	uint32_t bits, fresh;

	it->edge = false;
	bits = item_bits(it);
	if (!wants_edges(it))
		return bits;
	it->told = still_told(it) & bits;
	/* More to read is news even where some was left. */
	if (edge)
		it->told &= ~(uint32_t)READ_BITS;
	it->send_refused = sends;
	it->recv_refused = recvs;
	fresh = bits & ~it->told;
	it->told = bits;
	return fresh ? bits : 0;
}

static int collect(struct epoll_set *set, struct epoll_event *events, int most)
{
	struct epoll_item *it, *last = set->ready ? set->ready->prev_ready : NULL;
	int n = 0;

	while (n < most && (it = set->ready)) {
		uint32_t bits = item_look(it);

		ready_remove(it);
		if (bits) {
			events[n].events = bits;
			events[n].data.u64 = it->data;
			n++;
			if (it->events & EPOLLONESHOT)
				it->off = true;
			else if (!wants_edges(it))
				ready_add(it);
		}
		if (it == last)
			break;
	}
	if (!set->ready || !set->watched)
		unkick(set);
	return n;
}

int dsock_poll(struct dsock *d, int events)
{
	int bits;

	if (!__atomic_load_n(&d->items, __ATOMIC_ACQUIRE))
		return rackwire_dcpim_poll(d->sock, events);
	pthread_mutex_lock(&lock);
	bits = rackwire_dcpim_poll(d->sock, events | (int)all_events(d));
	if (bits > 0)
		spread(d, NULL, (uint32_t)bits);
	pthread_mutex_unlock(&lock);
	return bits & (events | POLLERR | POLLHUP);
}

/* ---- membership ---- */

static void item_remove(struct epoll_item *it)
{
	ready_remove(it);
	*it->link = it->next;
	if (it->next)
		it->next->link = it->link;
	*it->link_same = it->next_same;
	if (it->next_same)
		it->next_same->link_same = it->link_same;
	if (it->own_wake_fd)
		REAL(close)(it->wake_fd);
	item_free(it);
}

void epoll_forget_dsock(struct dsock *d)
{
	if (!__atomic_load_n(&d->items, __ATOMIC_ACQUIRE))
		return;
	/* Closing the engine's descriptor takes it out of the kernel's sets. */
	pthread_mutex_lock(&lock);
	while (d->items)
		item_remove(d->items);
	pthread_mutex_unlock(&lock);
}

void epoll_release(struct handle *h)
{
	struct epoll_set *set = (struct epoll_set *)h;

	pthread_mutex_lock(&lock);
	while (set->items)
		item_remove(set->items);
	item_free(set->kick);
	pthread_mutex_unlock(&lock);
	REAL(close)(set->kick_fd);
}

static int kernel_add(int epfd, int fd, struct epoll_item *it, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.u64 = (uint64_t)(uintptr_t)it };

	return REAL(epoll_ctl)(epfd, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

/* The set of an epoll descriptor, made when its first dcPIM socket is added. */
static int set_get(int epfd, struct epoll_set **out)
{
	struct handle *h = table_get(epfd);
	struct epoll_set *set;
	int err;

	if (h && h->type == HANDLE_EPOLL) {
		*out = (struct epoll_set *)h;
		return 0;
	}
	if (h) {
		handle_put(h);
		return -EINVAL;
	}
	if ((unsigned int)epfd >= TABLE_SIZE)
		return -EBADF;
	set = (struct epoll_set *)handle_new(HANDLE_EPOLL);
	if (!set)
		return -ENOMEM;
	set->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err = set->kick_fd < 0 ? -errno : 0;
	pthread_mutex_lock(&lock);
	set->kick = item_new(set);
	pthread_mutex_unlock(&lock);
	if (!err && !set->kick)
		err = -ENOMEM;
	/* Here the kernel refuses what is no epoll descriptor. */
	if (!err)
		err = kernel_add(epfd, set->kick_fd, set->kick, EPOLLIN);
	if (err) {
		handle_put(&set->handle);
		return err;
	}
	handle_ref(&set->handle);
	table_set(epfd, &set->handle);
	*out = set;
	return 0;
}

static struct epoll_item *find(const struct epoll_set *set, const struct dsock *d, int fd)
{
	struct epoll_item *it;

	/* A socket is in few sets, a set has many sockets. */
	for (it = d->items; it; it = it->next_same)
		if (it->set == set && it->fd == fd)
			return it;
	return NULL;
}

static bool in_kernel_set(const struct epoll_set *set, const struct dsock *d)
{
	const struct epoll_item *it;

	for (it = d->items; it; it = it->next_same)
		if (it->set == set && !it->own_wake_fd)
			return true;
	return false;
}

/* What a new interest finds ready is reported, edge-triggered or not. */
static void item_set(struct epoll_item *it, const struct epoll_event *ev)
{
	it->events = ev->events;
	it->data = ev->data.u64;
	it->told = 0;
	it->off = false;
	it->edge = true;
	ready_add(it);
	kick(it->set);
}

static int item_add(struct epoll_set *set, int epfd, struct dsock *d, int fd, const struct epoll_event *ev)
{
	struct epoll_item *it = item_new(set);
	int err;

	if (!it)
		return -ENOSPC;
	it->dsock = d;
	it->fd = fd;
	it->wake_fd = rackwire_dcpim_fd(d->sock);
	/* A copy of a descriptor that is in the set already: the kernel wants another one. */
	if (it->wake_fd >= 0 && in_kernel_set(set, d)) {
		it->wake_fd = REAL(dup)(it->wake_fd);
		it->own_wake_fd = it->wake_fd >= 0;
	}
	err = it->wake_fd < 0 ? -ENOMEM : kernel_add(epfd, it->wake_fd, it, EPOLLIN | EPOLLET);
	if (err) {
		if (it->own_wake_fd)
			REAL(close)(it->wake_fd);
		item_free(it);
		return err;
	}
	it->next = set->items;
	it->link = &set->items;
	if (it->next)
		it->next->link = &it->next;
	set->items = it;
	it->next_same = d->items;
	it->link_same = &d->items;
	if (it->next_same)
		it->next_same->link_same = &it->next_same;
	__atomic_store_n(&d->items, it, __ATOMIC_RELEASE);
	item_set(it, ev);
	return 0;
}

static int change(struct epoll_set *set, int epfd, int op, struct dsock *d, int fd, const struct epoll_event *ev)
{
	struct epoll_item *it = find(set, d, fd);

	if (op == EPOLL_CTL_ADD)
		return it ? -EEXIST : item_add(set, epfd, d, fd, ev);
	if (!it)
		return -ENOENT;
	if (op == EPOLL_CTL_MOD) {
		if ((it->events | ev->events) & EPOLLEXCLUSIVE)
			return -EINVAL;
		item_set(it, ev);
		return 0;
	}
	REAL(epoll_ctl)(epfd, EPOLL_CTL_DEL, it->wake_fd, NULL);
	item_remove(it);
	return 0;
}

static int change_dsock(int epfd, int op, struct dsock *d, int fd, const struct epoll_event *ev)
{
	struct epoll_set *set;
	int err;

	if (op != EPOLL_CTL_ADD && op != EPOLL_CTL_MOD && op != EPOLL_CTL_DEL)
		return -EINVAL;
	if (op != EPOLL_CTL_DEL && !ev)
		return -EFAULT;
	err = set_get(epfd, &set);
	if (err)
		return err;
	pthread_mutex_lock(&lock);
	err = change(set, epfd, op, d, fd, ev);
	pthread_mutex_unlock(&lock);
	handle_put(&set->handle);
	return err;
}

EXPORT int epoll_ctl(int epfd, int op, int fd, struct epoll_event *ev)
{
	struct dsock *d;
	int err;

	if (likely(!table_peek(fd)))
		return REAL(epoll_ctl)(epfd, op, fd, ev);
	d = dsock_get(fd);
	if (!d) {
		epoll_watched(fd);
		return REAL(epoll_ctl)(epfd, op, fd, ev);
	}
	err = change_dsock(epfd, op, d, fd, ev);
	dsock_put(d);
	return (int)result(err);
}

void epoll_watched(int fd)
{
	struct handle *h = table_get(fd);

	if (h && h->type == HANDLE_EPOLL) {
		struct epoll_set *set = (struct epoll_set *)h;

		pthread_mutex_lock(&lock);
		set->watched = true;
		if (set->ready)
			kick(set);
		pthread_mutex_unlock(&lock);
	}
	if (h)
		handle_put(h);
}

/* ---- waiting ---- */

/*
 * Make the kernel's answers the program's, and add what is ready here.
 * @n: the kernel's; @collect_too: the sockets' turn is after them
 * Return: how many there are.
 */
static int translate(struct epoll_set *set, struct epoll_event *events, int n, int most, bool collect_too)
{
	int i, kept = 0;

	for (i = 0; i < n; i++) {
		struct epoll_item *it = item_of(events[i].data.u64);

		if (!it) {
			events[kept++] = events[i];
			continue;
		}
		/* It may have been removed, and used again, since the kernel spoke. */
		if (it->set == set && it->dsock && !it->off) {
			it->edge = true;
			ready_add(it);
		}
	}
	return collect_too ? kept + collect(set, events + kept, most - kept) : kept;
}

struct driven {
	struct rackwire_dcpim_pollfd fds[MAX_DRIVEN + 1];
	struct epoll_item *items[MAX_DRIVEN + 1];
	struct dsock *dsocks[MAX_DRIVEN + 1];
	uint32_t count;
};

/* Was all that an edge-triggered item told of read since? */
static bool was_read(const struct epoll_item *it)
{
	struct rackwire_dcpim_pollfd p = { .socket = it->dsock->sock, .events = (int16_t)(it->told & READ_BITS) };

	return rackwire_dcpim_poll_many(&p, 1, 0) == 0;
}

/*
 * May the engine watch this item itself? Not when only an edge says anything:
 * errors are reported whether asked for or not, and what is unread still counts
 * as ready. Those come by their descriptors.
 */
static bool may_drive(struct epoll_item *it)
{
	if (it->off || it->told & ALWAYS)
		return false;
	it->told = still_told(it);
	if (it->told & READ_BITS) {
		if (!was_read(it))
			return false;
		it->told &= ~(uint32_t)READ_BITS;
	}
	return true;
}

/* Sockets for the engine to watch beside the kernel's set. With the lock held. */
static void driven_open(struct epoll_set *set, int epfd, struct driven *v)
{
	struct epoll_item *it;

	v->fds[0] = (struct rackwire_dcpim_pollfd){ .fd = epfd, .events = POLLIN };
	v->count = 1;
	for (it = set->items; it && v->count <= MAX_DRIVEN; it = it->next) {
		if (!may_drive(it) || !handle_ref(&it->dsock->handle))
			continue;
		v->fds[v->count] = (struct rackwire_dcpim_pollfd){
			.socket = it->dsock->sock, .fd = -1, .events = (int16_t)(it->events & POLL_BITS & ~it->told),
		};
		v->items[v->count] = it;
		v->dsocks[v->count++] = it->dsock;
	}
}

/* The engine may have cleared the descriptors of all of them, so all are looked at. */
static void driven_close(struct epoll_set *set, struct driven *v, bool changed)
{
	uint32_t i;

	pthread_mutex_lock(&lock);
	for (i = 1; changed && i < v->count; i++)
		if (v->items[i]->set == set && v->items[i]->dsock == v->dsocks[i] && !v->items[i]->off)
			ready_add(v->items[i]);
	set->waiters--;
	pthread_mutex_unlock(&lock);
	for (i = 1; i < v->count; i++)
		dsock_put(v->dsocks[i]);
}

/* Return: 0: look again, -EAGAIN: the time is up, or an error. */
static int wait_for_change(struct epoll_set *set, int epfd, uint64_t deadline)
{
	struct driven v;
	int n;

	pthread_mutex_lock(&lock);
	if (set->ready) {
		pthread_mutex_unlock(&lock);
		return 0;
	}
	set->waiters++;
	driven_open(set, epfd, &v);
	pthread_mutex_unlock(&lock);
	n = rackwire_dcpim_poll_many(v.fds, v.count, time_left(deadline));
	driven_close(set, &v, n != 0);
	return n > 0 ? 0 : n ? n : -EAGAIN;
}

/* With a signal mask, which the kernel changes and waits in one step. */
static int wait_masked(struct epoll_set *set, int epfd, struct epoll_event *events, int most, uint64_t deadline,
		       const sigset_t *mask)
{
	int64_t left = time_left(deadline);
	int n, ms = left < 0 || left > INT32_MAX * 1000000ll ? -1 : (int)((left + 999999) / 1000000);

	pthread_mutex_lock(&lock);
	if (set->ready)
		ms = 0;
	set->waiters++;
	pthread_mutex_unlock(&lock);
	n = REAL(epoll_pwait)(epfd, events, most, ms, mask);
	if (n < 0)
		n = -errno;
	pthread_mutex_lock(&lock);
	set->waiters--;
	if (n >= 0)
		n = translate(set, events, n, most, true);
	pthread_mutex_unlock(&lock);
	return n;
}

static int gather(struct epoll_set *set, int epfd, struct epoll_event *events, int most)
{
	int first = 0, n = 0;

	pthread_mutex_lock(&lock);
	set->sockets_first = !set->sockets_first;
	if (set->sockets_first)
		first = collect(set, events, most);
	pthread_mutex_unlock(&lock);
	if (first < most)
		n = REAL(epoll_wait)(epfd, events + first, most - first, 0);
	if (n < 0)
		return first ? first : -errno;
	pthread_mutex_lock(&lock);
	n = translate(set, events + first, n, most - first, !first);
	pthread_mutex_unlock(&lock);
	return first + n;
}

static int set_wait(struct epoll_set *set, int epfd, struct epoll_event *events, int most, uint64_t deadline,
		    const sigset_t *mask)
{
	int n, err;

	if (!time_left(deadline))
		return gather(set, epfd, events, most);
	do {
		if (mask) {
			n = wait_masked(set, epfd, events, most, deadline, mask);
			continue;
		}
		err = wait_for_change(set, epfd, deadline);
		if (err && err != -EAGAIN)
			return err;
		n = gather(set, epfd, events, most);
	} while (!n && time_left(deadline));
	return n;
}

static struct epoll_set *watching(int epfd)
{
	struct handle *h = table_get(epfd);

	if (!h || h->type == HANDLE_EPOLL)
		return (struct epoll_set *)h;
	handle_put(h);
	return NULL;
}

static int epoll_result(struct epoll_set *set, int epfd, struct epoll_event *events, int most, uint64_t deadline,
			const sigset_t *mask)
{
	int n = most <= 0 ? -EINVAL : !events ? -EFAULT : set_wait(set, epfd, events, most, deadline, mask);

	handle_put(&set->handle);
	engine_check_exit();
	return (int)result(n);
}

static uint64_t deadline_of_ms(int timeout)
{
	if (timeout <= 0)
		return timeout ? FOREVER : 0;
	return deadline_after((uint64_t)timeout * 1000000);
}

EXPORT int epoll_wait(int epfd, struct epoll_event *events, int most, int timeout)
{
	struct epoll_set *set;

	if (likely(!table_peek(epfd)) || !(set = watching(epfd)))
		return REAL(epoll_wait)(epfd, events, most, timeout);
	return epoll_result(set, epfd, events, most, deadline_of_ms(timeout), NULL);
}

EXPORT int epoll_pwait(int epfd, struct epoll_event *events, int most, int timeout, const sigset_t *mask)
{
	struct epoll_set *set;

	if (likely(!table_peek(epfd)) || !(set = watching(epfd)))
		return REAL(epoll_pwait)(epfd, events, most, timeout, mask);
	return epoll_result(set, epfd, events, most, deadline_of_ms(timeout), mask);
}

EXPORT int epoll_pwait2(int epfd, struct epoll_event *events, int most, const struct timespec *timeout,
			const sigset_t *mask)
{
	uint64_t deadline = FOREVER;
	struct epoll_set *set;

	if (likely(!table_peek(epfd)) || !(set = watching(epfd)))
		return REAL(epoll_pwait2)(epfd, events, most, timeout, mask);
	if (timeout) {
		uint64_t ns = (uint64_t)timeout->tv_sec * RACKWIRE_NS_PER_S + (uint64_t)timeout->tv_nsec;

		deadline = ns ? deadline_after(ns) : 0;
	}
	return epoll_result(set, epfd, events, most, deadline, mask);
}

void epoll_atfork(int phase)
{
	if (phase == 0) {
		pthread_mutex_lock(&lock);
	} else if (phase == 1) {
		pthread_mutex_unlock(&lock);
	} else {
		pthread_mutex_init(&lock, NULL);
		free_items = NULL;
		pool_used = 0;
	}
}
