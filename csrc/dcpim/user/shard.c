// SPDX-License-Identifier: BSD-2-Clause
/* The loop that moves a shard's packets, and who runs it when. */
#include <stdlib.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <unistd.h>

#include "clock.h"
#include "shard.h"

#define TRIM_NS 250000000ULL /* idle for so long, a shard gives back the memory it keeps at hand */
#define READY_AT_ONCE 64

/* ---- lock ---- */

void dcpim_shard_lock(struct dcpim_shard *s)
{
	if (!pthread_mutex_trylock(&s->lock))
		return;
	__atomic_add_fetch(&s->lock_waiters, 1, __ATOMIC_SEQ_CST);
	pthread_mutex_lock(&s->lock);
	__atomic_sub_fetch(&s->lock_waiters, 1, __ATOMIC_SEQ_CST);
}

void dcpim_shard_unlock(struct dcpim_shard *s)
{
	pthread_mutex_unlock(&s->lock);
}

/* A driver that does not sleep lets others in. */
static void let_others_in(struct dcpim_shard *s)
{
	if (!__atomic_load_n(&s->lock_waiters, __ATOMIC_RELAXED))
		return;
	dcpim_shard_unlock(s);
	while (__atomic_load_n(&s->lock_waiters, __ATOMIC_RELAXED))
		sched_yield();
	dcpim_shard_lock(s);
}

static void signal_fd(int fd)
{
	u64 one = 1;

	while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void drain_fd(int fd)
{
	u64 value;

	while (read(fd, &value, sizeof(value)) < 0 && errno == EINTR)
		;
}

/* ---- work ---- */

static u64 next_deadline(const struct dcpim_shard *s)
{
	u64 when = dcpim_min(dcpim_next_deadline(s->host), s->app_deadline);

	return dcpim_min(when, s->reap_at);
}

static void take_events(struct dcpim_shard *s)
{
	const struct rackwire_dcpim_engine *e = s->engine;
	struct dcpim_event ev;

	while (dcpim_poll_event(s->host, &ev))
		e->ops->on_event(e->app, s, &ev, s->now);
}

static void run_timers(struct dcpim_shard *s)
{
	const struct rackwire_dcpim_engine *e = s->engine;
	bool woken = __atomic_load_n(&s->woken, __ATOMIC_RELAXED) && __atomic_exchange_n(&s->woken, 0, __ATOMIC_ACQUIRE);

	if (s->now >= s->reap_at)
		dcpim_ports_reap(s, false);
	if (!woken && s->now < s->app_deadline)
		return;
	s->app_deadline = DCPIM_NEVER;
	if (e->ops->on_timer)
		e->ops->on_timer(e->app, s, s->now);
}

/* Everything that is due but receiving. Return: true when there is more to do at once. */
static bool work(struct dcpim_shard *s)
{
	dcpim_tick(s->host, s->now);
	take_events(s);
	run_timers(s);
	if (!dcpim_shard_transmit(s))
		return false;
	return !s->nheld;
}

void dcpim_shard_kick(struct dcpim_shard *s)
{
	if (!s->sleeping || !s->sleep_until)
		return;
	s->sleep_until = 0;
	if (s->sleep_port)
		dcpim_port_unblock(s->sleep_port);
	else
		signal_fd(s->driver == DCPIM_DRIVER_THREAD ? s->thread_fd : s->app_fd);
}

void dcpim_shard_awaken(struct dcpim_shard *s)
{
	u32 target = s->naps + s->sleepers;

	if (!s->sleeping)
		return;
	dcpim_shard_kick(s);
	while ((s32)(s->naps - target) < 0) {
		dcpim_shard_unlock(s);
		sched_yield();
		dcpim_shard_lock(s);
	}
}

void dcpim_shard_flush(struct dcpim_shard *s)
{
	u32 held = s->nheld;
	bool more;

	take_events(s);
	more = dcpim_shard_transmit(s);
	if (more)
		take_events(s);
	if (s->sleeping && (more || s->nheld > held || next_deadline(s) < s->sleep_until))
		dcpim_shard_kick(s);
}

/* ---- driving ---- */

static u32 receive_ready(struct dcpim_shard *s)
{
	struct epoll_event ready[READY_AT_ONCE];
	struct dcpim_list *l, *next;
	u32 taken = 0;
	int n, i;

	if (s->nports <= DCPIM_DIRECT_FDS) {
		for (l = s->ports.next; l != &s->ports; l = next) {
			next = l->next;
			taken += dcpim_port_receive(s, dcpim_container(l, struct dcpim_port, node));
		}
		return taken;
	}
	n = epoll_wait(s->epoll_fd, ready, READY_AT_ONCE, 0);
	for (i = 0; i < n; i++) {
		struct dcpim_port *port = ready[i].data.ptr;

		if (ready[i].events & EPOLLERR)
			dcpim_port_errors(s, port);
		taken += dcpim_port_receive(s, port);
	}
	return taken;
}

struct sleep_set {
	struct pollfd fds[2 + DCPIM_DIRECT_FDS];
	u32 ports[2 + DCPIM_DIRECT_FDS]; /* local index: a port may be closed while we sleep; 0: no port */
	u32 n;
};

static void sleep_set(struct dcpim_shard *s, int wake_fd, struct sleep_set *set)
{
	struct dcpim_list *l;

	set->fds[0] = (struct pollfd){ .fd = wake_fd, .events = POLLIN };
	set->n = 1;
	if (s->nheld) {
		struct dcpim_tx_held *h = dcpim_container(s->held.next, struct dcpim_tx_held, node);

		set->ports[set->n] = 0;
		set->fds[set->n++] = (struct pollfd){ .fd = h->group.port->fd, .events = POLLOUT };
	}
	if (s->nports > DCPIM_DIRECT_FDS) {
		set->ports[set->n] = 0;
		set->fds[set->n++] = (struct pollfd){ .fd = s->epoll_fd, .events = POLLIN };
		return;
	}
	for (l = s->ports.next; l != &s->ports; l = l->next) {
		struct dcpim_port *port = dcpim_container(l, struct dcpim_port, node);

		set->ports[set->n] = dcpim_local_index(s, port->slot);
		set->fds[set->n++] = (struct pollfd){ .fd = port->fd, .events = POLLIN };
	}
}

/*
 * Sleep without the lock until @until, a packet, a wake-up, or something in
 * @extra. Return: datagrams taken in; *extra_ready and *interrupted say the rest.
 */
static u32 sleep_and_receive(struct dcpim_shard *s, int wake_fd, u64 until, struct pollfd *extra, u32 nextra,
			     bool *extra_ready, bool *interrupted)
{
	enum dcpim_driver role = s->driver;
	struct pollfd *fds, more[16];
	struct dcpim_local *local;
	struct timespec ts;
	struct sleep_set set;
	u32 taken = 0, i;
	u64 now;
	int n;

	sleep_set(s, wake_fd, &set);
	fds = set.fds;
	if (nextra) {
		fds = set.n + nextra <= 16 ? more : malloc((set.n + nextra) * sizeof(*fds));
		if (!fds)
			return 0;
		memcpy(fds, set.fds, set.n * sizeof(*fds));
		memcpy(fds + set.n, extra, nextra * sizeof(*fds));
	}
	now = rackwire_now_ns();
	until = until > now ? until - now : 0;
	ts.tv_sec = (time_t)dcpim_min(until / RACKWIRE_NS_PER_S, 1000000);
	ts.tv_nsec = (long)(until % RACKWIRE_NS_PER_S);
	s->sleep_until = until ? now + until : 0;
	s->sleeping = true;
	s->counters.sleeps++;
	s->sleepers++;
	dcpim_shard_unlock(s);
	n = ppoll(fds, set.n + nextra, &ts, NULL);
	*interrupted = n < 0 && errno == EINTR;
	dcpim_shard_lock(s);
	s->sleepers--;
	s->naps++;
	/* An application thread may have taken over meanwhile. */
	if (s->driver == role)
		s->sleeping = false;
	s->now = rackwire_now_ns();
	if (n > 0) {
		s->counters.wakeups++;
		if (fds[0].revents)
			drain_fd(wake_fd);
		for (i = 1; i < set.n; i++) {
			if (!fds[i].revents || fds[i].events == POLLOUT || s->driver != role)
				continue;
			if (!set.ports[i]) {
				taken += receive_ready(s);
				continue;
			}
			local = dcpim_local_get(s, set.ports[i]);
			if (!local)
				continue;
			if (fds[i].revents & POLLERR)
				dcpim_port_errors(s, local->port);
			taken += dcpim_port_receive(s, local->port);
		}
		for (i = 0; i < nextra; i++) {
			extra[i].revents = fds[set.n + i].revents;
			*extra_ready = *extra_ready || extra[i].revents;
		}
	}
	if (fds != set.fds && fds != more)
		free(fds);
	return taken;
}

/*
 * Between request and answer nothing is due for a while and one kernel socket
 * is all there is to watch: sleep in the call that receives.
 */
static struct dcpim_port *only_port(struct dcpim_shard *s, u64 limit)
{
	u64 precise = dcpim_min(dcpim_min(dcpim_next_precise(s->host), s->app_deadline), limit);

	if ((s->driver != DCPIM_DRIVER_APP && !s->engine->is_app) || !s->brisk || s->nports != 1 || s->nheld ||
	    s->engine->raw || precise < s->now + DCPIM_BLOCK_NS)
		return NULL;
	return dcpim_container(s->ports.next, struct dcpim_port, node);
}

static u32 sleep_receiving(struct dcpim_shard *s, struct dcpim_port *port, struct msghdr *msg)
{
	u32 index = dcpim_local_index(s, port->slot), taken = 0;
	struct dcpim_local *local;
	u64 slept = s->now;
	int fd = port->fd;
	ssize_t n;

	s->sleep_port = port;
	s->sleep_until = s->now + DCPIM_BLOCK_NS;
	s->sleeping = true;
	s->counters.sleeps++;
	s->sleepers++;
	dcpim_shard_unlock(s);
	n = recvmsg(fd, msg, 0);
	if (n < 0)
		n = -errno;
	dcpim_shard_lock(s);
	s->sleepers--;
	s->naps++;
	s->sleeping = false;
	s->sleep_port = NULL;
	s->now = rackwire_now_ns();
	s->brisk = n > 0 && s->now - slept < DCPIM_BLOCK_NS / 2;
	local = dcpim_local_get(s, index);
	if (local)
		taken = dcpim_port_blocked(s, local->port, msg, n);
	s->counters.wakeups += taken != 0;
	return taken;
}

struct drive {
	int wake_fd;
	u64 limit;	/* do not sleep beyond */
	u64 idle_since; /* when work was last done, for spinning */
	bool more;	/* something is left to do at once */
	struct pollfd *extra;
	u32 nextra;
	bool extra_ready, interrupted;
};

/* One turn of the driver: wait for something, take it in, do what is due. */
static void drive_once(struct dcpim_shard *s, struct drive *d)
{
	const struct rackwire_dcpim_config *config = &s->engine->config;
	enum dcpim_driver role = s->driver;
	bool spin = config->wakeup == RACKWIRE_DCPIM_BUSY_POLL && !d->nextra;
	u64 trim_at = s->pool.kept ? dcpim_after(d->idle_since, TRIM_NS) : DCPIM_NEVER;
	u64 until = d->more ? 0 : dcpim_min(dcpim_min(next_deadline(s), d->limit), trim_at);
	struct dcpim_port *port;
	struct msghdr msg;
	u32 taken;

	if (spin && config->spin_ns && s->now > d->idle_since + config->spin_ns)
		spin = false;
	if (spin || (!until && !d->nextra)) {
		let_others_in(s);
		if (s->driver != role)
			return;
		s->now = rackwire_now_ns();
		taken = receive_ready(s);
		/* Nothing came and nothing is due: look again at once. */
		if (!taken && s->now < until && !s->nheld && !__atomic_load_n(&s->woken, __ATOMIC_RELAXED))
			return;
	} else if (until > s->now && !d->nextra && (port = only_port(s, d->limit)) && dcpim_port_block(s, port, &msg)) {
		taken = sleep_receiving(s, port, &msg);
	} else {
		u64 slept = s->now;

		taken = sleep_and_receive(s, d->wake_fd, until, d->extra, d->nextra, &d->extra_ready,
					  &d->interrupted);
		if (s->driver != role)
			return;
		s->brisk = taken && s->now - slept < DCPIM_BLOCK_NS / 2;
	}
	if (s->now >= trim_at && !taken && !d->more)
		dcpim_pool_trim(&s->pool);
	if (taken || d->more || s->now >= until)
		d->idle_since = s->now;
	d->more = work(s);
}

/* ---- application threads ---- */

void dcpim_wake_queue(struct dcpim_list *queue)
{
	struct dcpim_list *l;

	for (l = queue->next; l != queue; l = l->next) {
		struct dcpim_waiter *w = dcpim_container(l, struct dcpim_waiter, queue_node);

		w->called = true;
		pthread_cond_signal(&w->cond);
	}
}

static void cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

static void cond_wait_until(struct dcpim_shard *s, pthread_cond_t *cond, u64 when)
{
	struct timespec ts = {
		.tv_sec = (time_t)(when / RACKWIRE_NS_PER_S), .tv_nsec = (long)(when % RACKWIRE_NS_PER_S),
	};

	if (when == DCPIM_NEVER)
		pthread_cond_wait(cond, &s->lock);
	else
		pthread_cond_timedwait(cond, &s->lock, &ts);
}

/* The driver leaves: another application thread takes over, or in a while the shard's own. */
static void hand_over(struct dcpim_shard *s)
{
	s->driver = DCPIM_DRIVER_NONE;
	s->last_app = s->now;
	if (!dcpim_list_empty(&s->waiters)) {
		struct dcpim_waiter *w = dcpim_container(s->waiters.next, struct dcpim_waiter, shard_node);

		pthread_cond_signal(&w->cond);
	} else if (s->thread_parked || s->armed) {
		pthread_cond_signal(&s->thread_cond);
	}
}

static void wait_behind(struct dcpim_shard *s, struct dcpim_list *queue, u64 deadline)
{
	struct dcpim_waiter w = { .called = false };

	cond_init(&w.cond);
	dcpim_list_add_tail(queue, &w.queue_node);
	dcpim_list_add_tail(&s->waiters, &w.shard_node);
	while (!w.called && s->driver == DCPIM_DRIVER_APP) {
		cond_wait_until(s, &w.cond, deadline);
		if (deadline != DCPIM_NEVER && rackwire_now_ns() >= deadline)
			break;
	}
	dcpim_list_del(&w.queue_node);
	dcpim_list_del(&w.shard_node);
	pthread_cond_destroy(&w.cond);
	/* Called and leaving: were we also the one asked to take over, the next in line must be. */
	if (s->driver == DCPIM_DRIVER_NONE && !dcpim_list_empty(&s->waiters))
		pthread_cond_signal(&dcpim_container(s->waiters.next, struct dcpim_waiter, shard_node)->cond);
}

int dcpim_shard_wait(struct dcpim_shard *s, struct dcpim_list *queue, bool (*ready)(void *), void *arg,
		     u64 deadline, struct pollfd *extra, u32 nextra)
{
	while (!ready(arg)) {
		struct drive d = { .wake_fd = s->app_fd, .limit = deadline, .extra = extra, .nextra = nextra };

		if (deadline != DCPIM_NEVER && rackwire_now_ns() >= deadline)
			return -EAGAIN;
		if (s->driver == DCPIM_DRIVER_APP) {
			if (!queue)
				return -EBUSY;
			wait_behind(s, queue, deadline);
			continue;
		}
		if (s->driver == DCPIM_DRIVER_THREAD && s->sleeping)
			signal_fd(s->thread_fd);
		s->driver = DCPIM_DRIVER_APP;
		s->sleeping = false;
		d.idle_since = s->now;
		do {
			drive_once(s, &d);
		} while (!ready(arg) && s->now < deadline && !d.extra_ready && !(!queue && d.interrupted));
		hand_over(s);
		if (d.extra_ready)
			return 0;
		if (!queue && d.interrupted && !ready(arg))
			return -EINTR;
	}
	return 0;
}

void dcpim_shard_try(struct dcpim_shard *s)
{
	if (s->driver == DCPIM_DRIVER_APP)
		return;
	receive_ready(s);
	work(s);
	if (s->sleeping && next_deadline(s) < s->sleep_until)
		dcpim_shard_kick(s);
}

void dcpim_shard_summon_thread(struct dcpim_shard *s)
{
	if (s->driver == DCPIM_DRIVER_NONE)
		pthread_cond_signal(&s->thread_cond);
}

/* ---- the shard's own thread ---- */

static void standby(struct dcpim_shard *s)
{
	u64 now = rackwire_now_ns();

	if (s->driver == DCPIM_DRIVER_APP && now >= s->last_app + DCPIM_HANDBACK_NS) {
		s->thread_parked = true;
		pthread_cond_wait(&s->thread_cond, &s->lock);
		s->thread_parked = false;
	} else {
		cond_wait_until(s, &s->thread_cond,
				(s->driver == DCPIM_DRIVER_APP ? now : s->last_app) + DCPIM_HANDBACK_NS);
	}
}

static bool may_drive(const struct dcpim_shard *s)
{
	if (s->driver == DCPIM_DRIVER_NONE)
		return s->armed || !s->last_app || rackwire_now_ns() >= s->last_app + DCPIM_HANDBACK_NS;
	return s->driver == DCPIM_DRIVER_THREAD;
}

static bool stopping(const struct rackwire_dcpim_engine *e)
{
	return __atomic_load_n(&e->stopping, __ATOMIC_RELAXED) ||
	       (e->stop && __atomic_load_n(e->stop, __ATOMIC_RELAXED));
}

static void prepare_thread(const struct dcpim_shard *s)
{
	const struct rackwire_dcpim_config *config = &s->engine->config;
	char name[16];
	cpu_set_t set;

	snprintf(name, sizeof(name), "dcpim-%u", s->index);
	pthread_setname_np(pthread_self(), name);
	prctl(PR_SET_TIMERSLACK, 1UL);
	if (!config->cpu_count)
		return;
	CPU_ZERO(&set);
	CPU_SET(config->cpus[s->index % config->cpu_count], &set);
	pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

static void *shard_thread(void *arg)
{
	struct dcpim_shard *s = arg;
	struct drive d = { .wake_fd = s->thread_fd, .limit = DCPIM_NEVER };

	prepare_thread(s);
	dcpim_shard_lock(s);
	d.idle_since = s->now = rackwire_now_ns();
	d.more = true;
	while (!stopping(s->engine)) {
		if (!may_drive(s)) {
			standby(s);
			d.more = true;
			d.idle_since = rackwire_now_ns();
			continue;
		}
		s->driver = DCPIM_DRIVER_THREAD;
		drive_once(s, &d);
	}
	if (s->driver == DCPIM_DRIVER_THREAD) {
		s->driver = DCPIM_DRIVER_NONE;
		s->sleeping = false;
	}
	dcpim_shard_unlock(s);
	return NULL;
}

int dcpim_thread_create(pthread_t *thread, void *(*main)(void *), void *arg, size_t stack)
{
	sigset_t all, old;
	pthread_attr_t attr;
	int err;

	pthread_attr_init(&attr);
	if (stack)
		pthread_attr_setstacksize(&attr, stack);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(thread, &attr, main, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -err;
}

int dcpim_shard_start(struct dcpim_shard *s)
{
	int err = dcpim_thread_create(&s->thread, shard_thread, s, 0);

	s->thread_running = !err;
	return err;
}

void dcpim_shard_stop(struct dcpim_shard *s)
{
	if (!s->thread_running)
		return;
	dcpim_shard_lock(s);
	pthread_cond_signal(&s->thread_cond);
	dcpim_shard_unlock(s);
	signal_fd(s->thread_fd);
	pthread_join(s->thread, NULL);
	s->thread_running = false;
}

void dcpim_shard_call(struct dcpim_shard *s)
{
	__atomic_store_n(&s->woken, 1, __ATOMIC_RELEASE);
	signal_fd(s->thread_fd);
}

/* ---- life ---- */

int dcpim_shard_create(struct rackwire_dcpim_engine *e, u32 index, struct dcpim_shard **out)
{
	struct dcpim_shard *s = calloc(1, sizeof(*s));
	pthread_mutexattr_t attr;
	u64 seed[2];
	int err = -ENOMEM;

	if (!s)
		return -ENOMEM;
	s->engine = e;
	s->index = index;
	s->app_deadline = s->reap_at = DCPIM_NEVER;
	s->now = rackwire_now_ns();
	s->thread_fd = s->app_fd = s->epoll_fd = -1;
	dcpim_list_init(&s->waiters);
	dcpim_list_init(&s->ports);
	dcpim_list_init(&s->held);
	dcpim_list_init(&s->sockets);
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
	pthread_mutex_init(&s->lock, &attr);
	pthread_mutexattr_destroy(&attr);
	cond_init(&s->thread_cond);
	s->thread_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->app_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (s->thread_fd < 0 || s->app_fd < 0 || s->epoll_fd < 0 ||
	    getrandom(seed, sizeof(seed), 0) != sizeof(seed))
		err = -errno;
	else if (!dcpim_rx_init(s))
		err = 0;
	if (!err) {
		s->host = dcpim_host_create(&e->cfg, &dcpim_user_ops, s, seed, s->now);
		err = s->host ? 0 : -ENOMEM;
	}
	if (!err && e->raw)
		err = dcpim_raw_open(s);
	if (err) {
		dcpim_shard_destroy(s);
		return err;
	}
	*out = s;
	return 0;
}

void dcpim_shard_destroy(struct dcpim_shard *s)
{
	dcpim_tx_forget(s, NULL);
	if (s->host)
		dcpim_host_destroy(s->host);
	dcpim_rx_fini(s);
	dcpim_ports_close(s);
	if (s->thread_fd >= 0)
		close(s->thread_fd);
	if (s->app_fd >= 0)
		close(s->app_fd);
	if (s->epoll_fd >= 0)
		close(s->epoll_fd);
	dcpim_pool_trim(&s->pool);
	pthread_cond_destroy(&s->thread_cond);
	pthread_mutex_destroy(&s->lock);
	free(s->locals);
	free(s);
}
