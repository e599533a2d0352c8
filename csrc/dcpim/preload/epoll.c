// SPDX-License-Identifier: BSD-2-Clause
/* epoll sets with dcPIM sockets in them: members, and which of them are ready. */
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "dcpim/preload/epoll_set.h"

#define MAX_ITEMS (1u << 18)

pthread_mutex_t epoll_lock = PTHREAD_MUTEX_INITIALIZER;
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

struct epoll_item *epoll_item_of(uint64_t data)
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

void epoll_ready_add(struct epoll_item *it)
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
		if (it == except || it->off || !(bits & (it->events | ALWAYS_BITS)))
			continue;
		it->edge = true;
		epoll_ready_add(it);
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

uint32_t epoll_ready_now(const struct dsock *d, uint32_t events)
{
	struct rackwire_dcpim_pollfd p = { .socket = d->sock, .events = (int16_t)events };

	return rackwire_dcpim_poll_many(&p, 1, 0) > 0 ? (uint32_t)(uint16_t)p.revents : 0;
}

/* What is ready of an item's interest; in an armed set, with the descriptor armed for the rest. */
static uint32_t item_bits(struct epoll_item *it)
{
	struct dsock *d = it->dsock;
	int r;

	if (!it->set->armed)
		return epoll_ready_now(d, it->events & POLL_BITS);
	/* Edges are for what comes later too: that the descriptor is watched is only sure after "nothing". */
	if (wants_edges(it))
		rackwire_dcpim_poll(d->sock, 0);
	r = rackwire_dcpim_poll(d->sock, (int)all_events(d));
	if (r < 0)
		return EPOLLERR;
	if (it->next_same || it->link_same != &d->items)
		spread(d, it, (uint32_t)r);
	return (uint32_t)r & (it->events | ALWAYS_BITS);
}

static int kernel_add(const struct epoll_set *set, int fd, struct epoll_item *it, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.u64 = (uint64_t)(uintptr_t)it };

	return REAL(epoll_ctl)(set->epfd, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

static bool in_kernel_set(const struct epoll_set *set, const struct dsock *d)
{
	const struct epoll_item *it;

	for (it = d->items; it; it = it->next_same)
		if (it->set == set && it->wake_fd >= 0 && !it->own_wake_fd)
			return true;
	return false;
}

/* Have the kernel wait for the socket's descriptor too. */
static int item_register(struct epoll_item *it)
{
	int fd = rackwire_dcpim_fd(it->dsock->sock), err;

	/* A copy of a descriptor that is in the set already: the kernel wants another one. */
	if (fd >= 0 && in_kernel_set(it->set, it->dsock)) {
		fd = REAL(fcntl)(fd, F_DUPFD_CLOEXEC, 0);
		it->own_wake_fd = fd >= 0;
	}
	if (fd < 0)
		return -ENOMEM;
	err = kernel_add(it->set, fd, it, EPOLLIN | EPOLLET);
	if (!err)
		it->wake_fd = fd;
	else if (it->own_wake_fd)
		REAL(close)(fd);
	return err;
}

/* All items are looked at once, which arms their descriptors. */
void epoll_set_arm(struct epoll_set *set)
{
	struct epoll_item *it;

	if (set->armed)
		return;
	set->armed = true;
	for (it = set->items; it; it = it->next) {
		/* Without descriptors left the engine still looks at as many as it does. */
		item_register(it);
		if (!it->off)
			epoll_ready_add(it);
	}
}

uint32_t epoll_still_told(const struct epoll_item *it)
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
	it->told = epoll_still_told(it) & bits;
	/* More to read is news even where some was left. */
	if (edge)
		it->told &= ~(uint32_t)READ_BITS;
	it->send_refused = sends;
	it->recv_refused = recvs;
	fresh = bits & ~it->told;
	it->told = bits;
	return fresh ? bits : 0;
}

int epoll_collect(struct epoll_set *set, struct epoll_event *events, int most)
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
				epoll_ready_add(it);
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
	pthread_mutex_lock(&epoll_lock);
	bits = rackwire_dcpim_poll(d->sock, events | (int)all_events(d));
	if (bits > 0)
		spread(d, NULL, (uint32_t)bits);
	pthread_mutex_unlock(&epoll_lock);
	return bits & (events | POLLERR | POLLHUP);
}

/* ---- membership ---- */

static void item_remove(struct epoll_item *it)
{
	ready_remove(it);
	it->set->count--;
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
	struct epoll_item *it;

	if (!__atomic_load_n(&d->items, __ATOMIC_ACQUIRE))
		return;
	/* Closing the engine's descriptor will take it out of the kernel's instances. */
	pthread_mutex_lock(&epoll_lock);
	while ((it = d->items)) {
		struct epoll_set *set = it->set;

		item_remove(it);
		/* Threads that wait hold references, and shall give them up. */
		kick(set);
	}
	pthread_mutex_unlock(&epoll_lock);
}

void epoll_release(struct handle *h)
{
	struct epoll_set *set = (struct epoll_set *)h;

	pthread_mutex_lock(&epoll_lock);
	while (set->items)
		item_remove(set->items);
	if (set->kick)
		item_free(set->kick);
	pthread_mutex_unlock(&epoll_lock);
	if (set->kick_fd >= 0)
		REAL(close)(set->kick_fd);
	if (set->epfd >= 0)
		REAL(close)(set->epfd);
}

static struct epoll_set *set_find(int epfd)
{
	struct handle *h = table_get(epfd);

	if (!h || h->type == HANDLE_EPOLL)
		return (struct epoll_set *)h;
	handle_put(h);
	return NULL;
}

static int set_open(struct epoll_set *set, int epfd)
{
	set->epfd = REAL(fcntl)(epfd, F_DUPFD_CLOEXEC, 0);
	if (set->epfd < 0)
		return -errno;
	set->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (set->kick_fd < 0)
		return -errno;
	set->kick = item_new(set);
	if (!set->kick)
		return -ENOMEM;
	/* Here the kernel refuses what is no epoll descriptor. */
	return kernel_add(set, set->kick_fd, set->kick, EPOLLIN);
}

/* The set of an epoll descriptor, made when its first dcPIM socket is added. */
static int set_get(int epfd, struct epoll_set **out)
{
	struct epoll_set *set = set_find(epfd);
	int err = 0;

	*out = set;
	if (set)
		return 0;
	if ((unsigned int)epfd >= TABLE_SIZE)
		return -EBADF;
	if (table_peek(epfd))
		return -EINVAL;
	pthread_mutex_lock(&epoll_lock);
	*out = set_find(epfd);
	if (!*out) {
		set = (struct epoll_set *)handle_new(HANDLE_EPOLL);
		if (set)
			set->epfd = set->kick_fd = -1;
		err = set ? set_open(set, epfd) : -ENOMEM;
	}
	if (set && !err) {
		handle_ref(&set->handle);
		table_set(epfd, &set->handle);
		*out = set;
	}
	pthread_mutex_unlock(&epoll_lock);
	if (set && err)
		handle_put(&set->handle);
	return err;
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

/* What a new interest finds ready is reported, edge-triggered or not. */
static void item_set(struct epoll_item *it, const struct epoll_event *ev)
{
	it->events = ev->events;
	it->data = ev->data.u64;
	it->told = 0;
	it->off = false;
	it->edge = true;
	epoll_ready_add(it);
	kick(it->set);
}

static int item_add(struct epoll_set *set, struct dsock *d, int fd, const struct epoll_event *ev)
{
	struct epoll_item *it = item_new(set), *other;
	int err = 0;

	if (!it)
		return -ENOSPC;
	it->dsock = d;
	it->fd = fd;
	if (set->armed)
		err = item_register(it);
	if (err) {
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
	if (++set->count > MAX_DRIVEN)
		epoll_set_arm(set);
	for (other = it; it->next_same && other; other = other->next_same)
		epoll_set_arm(other->set);
	item_set(it, ev);
	return 0;
}

static int change(struct epoll_set *set, int op, struct dsock *d, int fd, const struct epoll_event *ev)
{
	struct epoll_item *it = find(set, d, fd);

	if (op == EPOLL_CTL_ADD)
		return it ? -EEXIST : item_add(set, d, fd, ev);
	if (!it)
		return -ENOENT;
	if (op == EPOLL_CTL_MOD) {
		if ((it->events | ev->events) & EPOLLEXCLUSIVE)
			return -EINVAL;
		item_set(it, ev);
		return 0;
	}
	if (it->wake_fd >= 0)
		REAL(epoll_ctl)(set->epfd, EPOLL_CTL_DEL, it->wake_fd, NULL);
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
	pthread_mutex_lock(&epoll_lock);
	err = change(set, op, d, fd, ev);
	pthread_mutex_unlock(&epoll_lock);
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

/* Take what is not ready off the list, so that only what is makes the set itself ready. */
static void settle(struct epoll_set *set)
{
	struct epoll_item *it = set->ready, *next, *last = it ? it->prev_ready : NULL;

	for (; it; it = it == last ? NULL : next) {
		next = it->next_ready;
		if (!item_bits(it))
			ready_remove(it);
	}
}

void epoll_watched(int fd)
{
	struct epoll_set *set = set_find(fd);

	if (!set)
		return;
	pthread_mutex_lock(&epoll_lock);
	set->watched = true;
	epoll_set_arm(set);
	settle(set);
	if (set->ready)
		kick(set);
	pthread_mutex_unlock(&epoll_lock);
	handle_put(&set->handle);
}

void epoll_atfork(int phase)
{
	if (phase == 0) {
		pthread_mutex_lock(&epoll_lock);
	} else if (phase == 1) {
		pthread_mutex_unlock(&epoll_lock);
	} else {
		pthread_mutex_init(&epoll_lock, NULL);
		free_items = NULL;
		pool_used = 0;
	}
}
