// SPDX-License-Identifier: BSD-2-Clause
/* Waiting for epoll sets with dcPIM sockets in them. */
#include <time.h>

#include "clock.h"
#include "dcpim/preload/epoll_set.h"

/*
 * Make the kernel's answers the program's, and add what is ready here.
 * @n: the kernel's; @collect_too: the sockets' turn is after them
 * Return: how many there are.
 */
static int translate(struct epoll_set *set, struct epoll_event *events, int n, int most, bool collect_too)
{
	int i, kept = 0;

	for (i = 0; i < n; i++) {
		struct epoll_item *it = epoll_item_of(events[i].data.u64);

		if (!it) {
			events[kept++] = events[i];
			continue;
		}
		/* It may have been removed, and used again, since the kernel spoke. */
		if (it->set == set && it->dsock && !it->off) {
			it->edge = true;
			epoll_ready_add(it);
		}
	}
	return collect_too ? kept + epoll_collect(set, events + kept, most - kept) : kept;
}

struct driven {
	struct rackwire_dcpim_pollfd fds[MAX_DRIVEN + 1];
	struct epoll_item *items[MAX_DRIVEN + 1];
	struct dsock *dsocks[MAX_DRIVEN + 1];
	uint32_t count;
};

/*
 * May the engine watch this item itself? Not when only an edge says anything:
 * errors are reported whether asked for or not, and what is unread still counts
 * as ready. Those come by their descriptors.
 */
static bool may_drive(struct epoll_item *it)
{
	uint32_t standing = READ_BITS | ALWAYS_BITS;

	it->told = epoll_still_told(it);
	if (it->told & standing)
		it->told &= ~standing | epoll_ready_now(it->dsock, it->told & READ_BITS);
	return !(it->told & standing);
}

/* Sockets for the engine to watch beside the kernel's set. With the lock held. */
static void driven_open(struct epoll_set *set, struct driven *v)
{
	struct epoll_item *it;

	v->fds[0] = (struct rackwire_dcpim_pollfd){ .fd = set->epfd, .events = POLLIN };
	v->count = 1;
	for (it = set->items; it && v->count <= MAX_DRIVEN; it = it->next) {
		if (it->off)
			continue;
		if (!may_drive(it)) {
			/* Whether there is more since it was told is not known yet: better twice than never. */
			it->edge = it->edge || !set->armed;
			epoll_set_arm(set);
			continue;
		}
		if (!handle_ref(&it->dsock->handle))
			continue;
		v->fds[v->count] = (struct rackwire_dcpim_pollfd){
			.socket = it->dsock->sock, .fd = -1, .events = (int16_t)(it->events & POLL_BITS & ~it->told),
		};
		v->items[v->count] = it;
		v->dsocks[v->count++] = it->dsock;
	}
}

/* In an armed set the engine may have cleared the descriptors of all of them, so all are looked at. */
static void driven_close(struct epoll_set *set, struct driven *v, bool changed)
{
	uint32_t i;

	pthread_mutex_lock(&epoll_lock);
	for (i = 1; changed && i < v->count; i++)
		if ((set->armed || v->fds[i].revents) && v->items[i]->set == set && v->items[i]->dsock == v->dsocks[i] &&
		    !v->items[i]->off)
			epoll_ready_add(v->items[i]);
	set->waiters--;
	pthread_mutex_unlock(&epoll_lock);
	for (i = 1; i < v->count; i++)
		dsock_put(v->dsocks[i]);
}

/* Return: 0: look again, -EAGAIN: the time is up, or an error. *kernel: the kernel's set has something. */
static int wait_for_change(struct epoll_set *set, uint64_t deadline, bool *kernel)
{
	struct driven v;
	int n;

	pthread_mutex_lock(&epoll_lock);
	driven_open(set, &v);
	set->waiters++;
	/* It may have been armed just now. */
	n = set->ready != NULL;
	pthread_mutex_unlock(&epoll_lock);
	if (!n)
		n = rackwire_dcpim_poll_many(v.fds, v.count, time_left(deadline));
	driven_close(set, &v, n != 0);
	*kernel = v.fds[0].revents != 0;
	return n > 0 ? 0 : n ? n : -EAGAIN;
}

/* With a signal mask, which the kernel changes and waits in one step. */
static int wait_masked(struct epoll_set *set, struct epoll_event *events, int most, uint64_t deadline,
		       const sigset_t *mask)
{
	int64_t left = time_left(deadline);
	int n, ms = left < 0 || left > INT32_MAX * 1000000ll ? -1 : (int)((left + 999999) / 1000000);

	pthread_mutex_lock(&epoll_lock);
	epoll_set_arm(set);
	if (set->ready)
		ms = 0;
	set->waiters++;
	pthread_mutex_unlock(&epoll_lock);
	n = REAL(epoll_pwait)(set->epfd, events, most, ms, mask);
	if (n < 0)
		n = -errno;
	pthread_mutex_lock(&epoll_lock);
	set->waiters--;
	if (n >= 0)
		n = translate(set, events, n, most, true);
	pthread_mutex_unlock(&epoll_lock);
	return n;
}

/* What is there now. Whose turn it is comes first; with @kernel false, sockets alone. */
static int gather(struct epoll_set *set, struct epoll_event *events, int most, bool kernel)
{
	int first = 0, n = 0;

	pthread_mutex_lock(&epoll_lock);
	set->sockets_first = !set->sockets_first;
	if (set->sockets_first || !kernel)
		first = epoll_collect(set, events, most);
	pthread_mutex_unlock(&epoll_lock);
	if (!kernel)
		return first;
	if (first < most)
		n = REAL(epoll_wait)(set->epfd, events + first, most - first, 0);
	if (n < 0)
		return first ? first : -errno;
	pthread_mutex_lock(&epoll_lock);
	n = translate(set, events + first, n, most - first, !first);
	pthread_mutex_unlock(&epoll_lock);
	return first + n;
}

static int set_wait(struct epoll_set *set, struct epoll_event *events, int most, uint64_t deadline,
		    const sigset_t *mask)
{
	bool kernel = true;
	int n, err;

	if (mask) {
		do {
			n = wait_masked(set, events, most, deadline, mask);
		} while (!n && time_left(deadline));
		return n;
	}
	if (!time_left(deadline))
		return gather(set, events, most, true);
	/* Those reported before and not used up need no wait. */
	if (__atomic_load_n(&set->ready, __ATOMIC_RELAXED)) {
		n = gather(set, events, most, true);
		if (n)
			return n;
	}
	do {
		err = wait_for_change(set, deadline, &kernel);
		if (err && err != -EAGAIN)
			return err;
		n = gather(set, events, most, kernel);
	} while (!n && err != -EAGAIN);
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

static int epoll_result(struct epoll_set *set, struct epoll_event *events, int most, uint64_t deadline,
			const sigset_t *mask)
{
	int n = most <= 0 ? -EINVAL : !events ? -EFAULT : set_wait(set, events, most, deadline, mask);

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
	return epoll_result(set, events, most, deadline_of_ms(timeout), NULL);
}

EXPORT int epoll_pwait(int epfd, struct epoll_event *events, int most, int timeout, const sigset_t *mask)
{
	struct epoll_set *set;

	if (likely(!table_peek(epfd)) || !(set = watching(epfd)))
		return REAL(epoll_pwait)(epfd, events, most, timeout, mask);
	return epoll_result(set, events, most, deadline_of_ms(timeout), mask);
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
	return epoll_result(set, events, most, deadline, mask);
}
