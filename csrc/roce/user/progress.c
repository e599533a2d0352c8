// SPDX-License-Identifier: BSD-2-Clause
/*
 * Who moves the packets. An application thread that polls or waits does it
 * itself, so that no other thread is on the way of a packet; the device's own
 * thread takes over when none has done so for RACKWIRE_ROCE_IDLE_NS, or when a
 * completion queue is armed, since who arms is about to sleep elsewhere.
 *
 * The thread is parked without a timer only while an application thread sleeps
 * in the driver's seat and for long, which is left with a glance at the parking lot. Otherwise
 * it looks every RACKWIRE_ROCE_IDLE_NS, or sleeps on the socket as the driver.
 */
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "dev.h"

#define ARMED_NS 10000000ULL	/* who armed lately will arm again */
#define SLEEP_NS 300000000ULL	/* longest sleep: a deadline that is farther need not be told to a sleeper */
#define LOCK_SPINS 64

static inline void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#else
	__asm__ volatile("" ::: "memory");
#endif
}

void roce_lock(struct rackwire_roce_dev *dev)
{
	int i;

	for (i = 0; i < LOCK_SPINS; i++) {
		if (!pthread_mutex_trylock(&dev->lock))
			return;
		relax();
	}
	/* Mutexes are not fair: a spinning driver is to let go for longer than a moment. */
	__atomic_add_fetch(&dev->lock_waiters, 1, __ATOMIC_RELAXED);
	pthread_mutex_lock(&dev->lock);
	__atomic_sub_fetch(&dev->lock_waiters, 1, __ATOMIC_RELAXED);
}

void roce_unlock(struct rackwire_roce_dev *dev)
{
	pthread_mutex_unlock(&dev->lock);
	if (__atomic_load_n(&dev->lock_waiters, __ATOMIC_RELAXED))
		sched_yield();
}

void roce_poke(int fd)
{
	u64 one = 1;

	while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void unpoke(int fd)
{
	u64 value;

	while (read(fd, &value, sizeof(value)) < 0 && errno == EINTR)
		;
}

static bool thread_wanted(const struct rackwire_roce_dev *dev, u64 now)
{
	return now >= dev->app_at + RACKWIRE_ROCE_IDLE_NS || now < dev->armed_at + ARMED_NS;
}

void roce_thread_call(struct rackwire_roce_dev *dev)
{
	if (dev->thread_running && !dev->thread_sleeps)
		pthread_cond_signal(&dev->thread_cond);
}

/* ---- driving ---- */

void roce_events(struct rackwire_roce_dev *dev)
{
	struct roce_event ev;
	struct roce_list *l;

	while (roce_poll_event(dev->core, &ev)) {
		struct rackwire_roce_cq *cq;

		if (ev.kind == ROCE_EV_CM)
			roce_cm_event(dev, &ev);
		if (ev.kind != ROCE_EV_CQ)
			continue;
		cq = roce_cq_user(ev.cq);
		if (cq->armed) {
			cq->armed = 0;
			if (cq->fd >= 0)
				roce_poke(cq->fd);
		}
		if (!cq->waited)
			continue;
		if (dev->app_sleeps)
			roce_poke(dev->app_fd); /* it may be that one's */
		for (l = dev->waiters.next; l != &dev->waiters; l = l->next)
			if (roce_container(l, struct roce_waiter, node)->cq == cq)
				pthread_cond_signal(&roce_container(l, struct roce_waiter, node)->cond);
	}
}

/* Who sleeps on the socket does not know of what has been left to send since, or of an earlier deadline. */
static void tell_sleepers(struct rackwire_roce_dev *dev)
{
	u64 deadline;

	if (!dev->app_sleeps && !dev->thread_sleeps)
		return;
	deadline = dev->tx_full || dev->tx_pending ? 0 : roce_next_deadline(dev->core);
	if (dev->app_sleeps && deadline < dev->app_until) {
		dev->app_until = 0;
		roce_poke(dev->app_fd);
	} else if (dev->thread_sleeps && !dev->app_sleeps && deadline < dev->thread_until) {
		dev->thread_until = 0;
		roce_poke(dev->thread_fd);
	}
}

void roce_settle(struct rackwire_roce_dev *dev)
{
	roce_events(dev);
	if (dev->tx_pending)
		roce_socket_send(dev);
	roce_events(dev);
	tell_sleepers(dev);
}

void roce_leave_pending(struct rackwire_roce_dev *dev)
{
	if (dev->app_sleeps && dev->tx_pending)
		roce_settle(dev);
	else
		tell_sleepers(dev);
}

u32 roce_drive(struct rackwire_roce_dev *dev)
{
	u32 n;

	dev->now = rackwire_now_ns();
	if (roce_next_deadline(dev->core) <= dev->now) {
		roce_tick(dev->core, dev->now);
		dev->tx_pending = true;
	}
	if (dev->tx_pending || dev->tx_full)
		roce_socket_send(dev);
	n = roce_socket_receive(dev);
	if (roce_share_waiting(dev))
		n += roce_share_receive(dev);
	if (n)
		dev->tx_pending = true;
	/*
	 * Answers wait for what the application may want to send in the same datagram; should
	 * it leave instead, the thread sends them.
	 */
	if (n && !dev->thread_running)
		roce_socket_send(dev);
	roce_events(dev);
	return n;
}

/*
 * Sleep on the socket without the lock until a packet, a poke of @fd, a deadline
 * of the core's, @until, or *@also (-1: none) is readable, which becomes -1 then.
 * Return: whether there may be something to receive.
 */
static bool sleep_on_socket(struct rackwire_roce_dev *dev, int fd, u64 *sleep_until, u64 until, int *also)
{
	struct pollfd fds[4] = {
		{ .fd = dev->fd, .events = (short)(dev->tx_full ? POLLIN | POLLOUT : POLLIN) },
		{ .fd = fd, .events = POLLIN },
		{ .fd = dev->share.slot ? dev->share.fd : -1, .events = POLLIN },
		{ .fd = *also, .events = POLLIN },
	};
	u64 deadline = roce_min(until, roce_next_deadline(dev->core)), now = rackwire_now_ns();
	struct timespec ts;

	deadline = roce_min(deadline, now + SLEEP_NS);
	if (dev->tx_pending && !dev->tx_full)
		return true;
	if (deadline <= now)
		return true;
	*sleep_until = deadline;
	pthread_mutex_unlock(&dev->lock);
	deadline -= now;
	ts = (struct timespec){ (time_t)(deadline / RACKWIRE_NS_PER_S), (long)(deadline % RACKWIRE_NS_PER_S) };
	if (ppoll(fds, 4, &ts, NULL) < 0)
		fds[0].revents = fds[1].revents = fds[2].revents = fds[3].revents = 0;
	if (fds[1].revents)
		unpoke(fd);
	if (fds[3].revents)
		*also = -1;
	roce_lock(dev);
	if (fds[0].revents & POLLERR)
		dev->icmp = true;
	if (fds[2].revents)
		dev->share.look = true;
	return fds[0].revents || fds[2].revents;
}

/* ---- waiting ---- */

static int ready(struct rackwire_roce_dev *dev, struct rackwire_roce_cq *cq, bool cm)
{
	int found = cm && dev->nevents ? RACKWIRE_ROCE_WAIT_CM : 0;

	/* Arming tells; the event that may follow is for nobody, or for waiters. */
	if (cq && roce_cq_arm(cq->core, false))
		found |= RACKWIRE_ROCE_WAIT_CQ;
	return found;
}

static bool take_wake(struct rackwire_roce_dev *dev)
{
	return __atomic_load_n(&dev->wake, __ATOMIC_RELAXED) && __atomic_exchange_n(&dev->wake, 0, __ATOMIC_ACQUIRE);
}

static void wait_behind(struct rackwire_roce_dev *dev, struct rackwire_roce_cq *cq, bool cm, u64 until)
{
	struct roce_waiter w = { .cq = cq, .cm = cm };
	struct timespec ts = { (time_t)(until / RACKWIRE_NS_PER_S), (long)(until % RACKWIRE_NS_PER_S) };
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&w.cond, &attr);
	pthread_condattr_destroy(&attr);
	roce_list_add_tail(&dev->waiters, &w.node);
	if (until == ROCE_NEVER)
		pthread_cond_wait(&w.cond, &dev->lock);
	else
		pthread_cond_timedwait(&w.cond, &dev->lock, &ts);
	roce_list_del(&w.node);
	pthread_cond_destroy(&w.cond);
}

/* The driver's seat is free: for who waits behind, or for the thread. */
static void leave_seat(struct rackwire_roce_dev *dev)
{
	dev->app_at = rackwire_now_ns();
	roce_leave_pending(dev);
	if (dev->app_sleeps)
		return;
	if (!roce_list_empty(&dev->waiters))
		pthread_cond_signal(&roce_container(dev->waiters.next, struct roce_waiter, node)->cond);
	else if (dev->thread_parked)
		roce_thread_call(dev);
}

int roce_wait(struct rackwire_roce_dev *dev, struct rackwire_roce_cq *cq, bool cm, int fd, u64 timeout_ns)
{
	int also = fd;
	bool busy = dev->config.flags & RACKWIRE_ROCE_BUSY_POLL, look = true;
	u64 begin, until, spin;
	int r;

	roce_lock(dev);
	dev->now = begin = rackwire_now_ns();
	until = roce_after(begin, timeout_ns);
	spin = busy ? ROCE_NEVER : roce_after(begin, dev->config.spin_ns);
	if (cq)
		cq->waited++;
	for (;;) {
		r = ready(dev, cq, cm);
		if (r)
			break;
		r = -ECANCELED;
		if (take_wake(dev))
			break;
		r = 0;
		if (dev->now >= until && !look)
			break;
		if (dev->app_sleeps) {
			wait_behind(dev, cq, cm, until);
			dev->now = rackwire_now_ns();
			look = false;
			continue;
		}
		if (look || dev->now < spin) {
			look = roce_drive(dev);
			if (!look && dev->now < spin) {
				roce_unlock(dev);
				relax();
				roce_lock(dev);
			}
			continue;
		}
		if (dev->tx_pending && !dev->tx_full) {
			roce_socket_send(dev);
			roce_events(dev);
			continue;
		}
		dev->app_sleeps = true;
		look = sleep_on_socket(dev, dev->app_fd, &dev->app_until, until, &also);
		dev->app_sleeps = false;
		dev->now = rackwire_now_ns();
		look |= roce_next_deadline(dev->core) <= dev->now;
		if (also != fd) {
			if (look)
				roce_drive(dev);
			r = RACKWIRE_ROCE_WAIT_FD | ready(dev, cq, cm);
			break;
		}
	}
	if (cq)
		cq->waited--;
	leave_seat(dev);
	roce_unlock(dev);
	return r;
}

int rackwire_roce_wait(struct rackwire_roce_dev *dev, struct rackwire_roce_cq *cq, uint64_t timeout_ns)
{
	return roce_wait(dev, cq, true, -1, timeout_ns);
}

int rackwire_roce_wait_fd(struct rackwire_roce_dev *dev, struct rackwire_roce_cq *cq, int fd, uint64_t timeout_ns)
{
	return roce_wait(dev, cq, true, fd, timeout_ns);
}

void rackwire_roce_wake(struct rackwire_roce_dev *dev)
{
	__atomic_store_n(&dev->wake, 1, __ATOMIC_RELEASE);
	roce_lock(dev);
	if (dev->app_sleeps)
		roce_poke(dev->app_fd);
	roce_unlock(dev);
}

/* ---- the device's thread ---- */

static void nap(struct rackwire_roce_dev *dev, u64 until)
{
	struct timespec ts = { (time_t)(until / RACKWIRE_NS_PER_S), (long)(until % RACKWIRE_NS_PER_S) };

	pthread_cond_timedwait(&dev->thread_cond, &dev->lock, &ts);
}

static void *thread_main(void *arg)
{
	struct rackwire_roce_dev *dev = arg;
	int none = -1;
	u64 now, seen = 0;

	pthread_setname_np(pthread_self(), "roce");
	roce_lock(dev);
	while (!dev->stopping) {
		now = rackwire_now_ns();
		if (dev->app_sleeps && dev->app_at != seen) {
			seen = dev->app_at; /* who comes and goes would have to call us each time */
			nap(dev, now + RACKWIRE_ROCE_IDLE_NS);
		} else if (dev->app_sleeps) {
			dev->thread_parked = true;
			pthread_cond_wait(&dev->thread_cond, &dev->lock);
			dev->thread_parked = false;
		} else if (!thread_wanted(dev, now)) {
			nap(dev, dev->app_at + RACKWIRE_ROCE_IDLE_NS);
		} else if (roce_drive(dev) || (dev->tx_pending && !dev->tx_full)) {
			roce_unlock(dev); /* others want their turn */
			roce_lock(dev);
		} else {
			dev->thread_sleeps = true;
			sleep_on_socket(dev, dev->thread_fd, &dev->thread_until, ROCE_NEVER, &none);
			dev->thread_sleeps = false;
		}
	}
	roce_unlock(dev);
	return NULL;
}

int roce_thread_start(struct rackwire_roce_dev *dev)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int err;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 << 10);
	if (dev->config.cpu > 0) {
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET((size_t)dev->config.cpu - 1, &set);
		pthread_attr_setaffinity_np(&attr, sizeof(set), &set);
	}
	/* Signals are the application's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	dev->app_at = rackwire_now_ns();
	err = -pthread_create(&dev->thread, &attr, thread_main, dev);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	dev->thread_running = !err;
	return err;
}

void roce_thread_stop(struct rackwire_roce_dev *dev)
{
	if (!dev->thread_running)
		return;
	roce_lock(dev);
	dev->stopping = true;
	pthread_cond_signal(&dev->thread_cond);
	roce_poke(dev->thread_fd);
	roce_unlock(dev);
	pthread_join(dev->thread, NULL);
	dev->thread_running = false;
}
