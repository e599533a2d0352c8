// SPDX-License-Identifier: BSD-2-Clause
/* The life of a socket: bind, listen, connect, accept, close. */
#include <stdlib.h>
#include <unistd.h>

#include "clock.h"
#include "socket.h"

#define MAX_BACKLOG 65535

struct dcpim_shard *dcpim_socket_lock(struct rackwire_dcpim_socket *sock)
{
	struct dcpim_shard *s;

	for (;;) {
		s = __atomic_load_n(&sock->shard, __ATOMIC_ACQUIRE);
		dcpim_shard_lock(s);
		if (s == __atomic_load_n(&sock->shard, __ATOMIC_RELAXED))
			break;
		dcpim_shard_unlock(s);
	}
	s->now = rackwire_now_ns();
	return s;
}

static struct rackwire_dcpim_socket *socket_new(struct dcpim_shard *s, u32 kind)
{
	struct rackwire_dcpim_socket *sock = calloc(1, sizeof(*sock));

	if (!sock)
		return NULL;
	sock->shard = s;
	sock->kind = (u8)kind;
	sock->priority = kind == RACKWIRE_DCPIM_MESSAGE ? 7 : 0;
	sock->linger = -1;
	sock->event_fd = -1;
	sock->family = AF_INET;
	dcpim_list_init(&sock->node);
	dcpim_list_init(&sock->waiters);
	s->nsockets++;
	return sock;
}

/* Everything the socket holds, but for the flow. With the lock held. */
static void socket_release(struct rackwire_dcpim_socket *sock)
{
	struct dcpim_shard *s = sock->shard;

	dcpim_list_del(&sock->node);
	if (__atomic_exchange_n(&sock->counted, 0, __ATOMIC_RELAXED))
		__atomic_sub_fetch(&s->armed, 1, __ATOMIC_RELAXED);
	if (sock->chunk) {
		sock->chunk->owner = NULL;
		dcpim_mem_put(&s->pool, sock->chunk);
		sock->chunk = NULL;
	}
	if (sock->port)
		dcpim_port_put(s, sock->port);
	sock->port = NULL;
	if (sock->raw_taken)
		dcpim_raw_port_give(s->engine, sock->lport);
	sock->raw_taken = false;
	if (sock->event_fd >= 0)
		close(sock->event_fd);
	sock->event_fd = -1;
}

void dcpim_socket_unref(struct rackwire_dcpim_socket *sock)
{
	sock->refs--;
	if (!sock->closed || sock->refs)
		return;
	sock->shard->nsockets--;
	free(sock);
}

int dcpim_socket_wait(struct rackwire_dcpim_socket *sock, bool (*ready)(void *), u64 deadline)
{
	int err;

	sock->refs++;
	err = dcpim_shard_wait(sock->shard, &sock->waiters, ready, sock, deadline, NULL, 0);
	if (sock->closed)
		err = -EBADF;
	dcpim_socket_unref(sock);
	return err;
}

void dcpim_socket_notify(struct rackwire_dcpim_socket *sock)
{
	u64 one = 1;

	if (!dcpim_list_empty(&sock->waiters))
		dcpim_wake_queue(&sock->waiters);
	if (!__atomic_exchange_n(&sock->armed, 0, __ATOMIC_ACQ_REL))
		return;
	if (__atomic_exchange_n(&sock->counted, 0, __ATOMIC_RELAXED))
		__atomic_sub_fetch(&sock->shard->armed, 1, __ATOMIC_RELAXED);
	while (write(sock->event_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/* ---- events of the core ---- */

static void take_addresses(struct rackwire_dcpim_socket *sock, const struct dcpim_path *path, u16 lport, u16 pport)
{
	memcpy(sock->paddr, path->addr, 16);
	sock->scope = path->scope;
	sock->lport = lport;
	sock->pport = pport;
	sock->family = dcpim_addr_is_v4(path->addr) ? AF_INET : AF_INET6;
}

static struct rackwire_dcpim_socket *accepted(struct dcpim_shard *s, struct rackwire_dcpim_socket *listener,
					      struct dcpim_flow *flow)
{
	struct dcpim_accepts *a = listener->accepts;
	struct rackwire_dcpim_socket *sock;
	struct dcpim_flow_info info;
	struct dcpim_local *local;

	dcpim_flow_info(flow, &info);
	local = dcpim_local_get(s, info.path.local);
	sock = local ? socket_new(s, info.kind) : NULL;
	if (!sock) {
		dcpim_accepted(flow);
		dcpim_close(flow, s->now, true);
		return NULL;
	}
	sock->flow = flow;
	sock->state = RACKWIRE_DCPIM_STATE_CONNECTED;
	sock->port = local->port;
	sock->port->refs++;
	memcpy(sock->laddr, local->addr, 16);
	take_addresses(sock, &info.path, info.sport, info.dport);
	sock->sndbuf = listener->sndbuf;
	sock->rcvbuf = listener->rcvbuf;
	sock->sndtimeo = listener->sndtimeo;
	sock->rcvtimeo = listener->rcvtimeo;
	dcpim_flow_set_user(flow, sock);
	if (sock->sndbuf || sock->rcvbuf)
		dcpim_flow_set_buffers(flow, sock->sndbuf, sock->rcvbuf);
	pthread_mutex_lock(&a->lock);
	dcpim_list_add_tail(&a->queue, &sock->node);
	pthread_cond_signal(&a->cond);
	pthread_mutex_unlock(&a->lock);
	/* Threads wait on the list of a listener only where there is but one shard. */
	dcpim_socket_notify(listener);
	return sock;
}

static void failed(struct rackwire_dcpim_socket *sock, int error)
{
	struct dcpim_shard *s = sock->shard;

	dcpim_close(sock->flow, s->now, true);
	sock->flow = NULL;
	sock->state = RACKWIRE_DCPIM_STATE_FAILED;
	sock->error = error;
	sock->corked = 0;
}

static void drop_received(struct rackwire_dcpim_socket *sock)
{
	struct dcpim_rxmsg msg;
	struct dcpim_buf buf[16];
	u64 bytes;
	u32 n, i;

	while ((n = dcpim_recv_peek(sock->flow, buf, 16))) {
		for (bytes = i = 0; i < n; i++)
			bytes += buf[i].len;
		dcpim_consume(sock->flow, sock->shard->now, bytes);
	}
	while (sock->kind == RACKWIRE_DCPIM_MESSAGE && dcpim_msg_peek(sock->flow, &msg, buf, 0, 1) >= 0)
		dcpim_msg_consume(sock->flow, sock->shard->now);
}

static void on_event(void *app, struct dcpim_shard *s, const struct dcpim_event *ev, u64 now)
{
	struct rackwire_dcpim_socket *sock;

	(void)app;
	(void)now;
	sock = ev->mask & DCPIM_EV_ACCEPT ? accepted(s, dcpim_listener_user(ev->listener), ev->flow) :
					    dcpim_flow_user(ev->flow);
	if (!sock)
		return;
	if (ev->mask & DCPIM_EV_CONNECTED)
		sock->state = RACKWIRE_DCPIM_STATE_CONNECTED;
	if (ev->mask & DCPIM_EV_EOF)
		sock->eof = true;
	if (ev->mask & DCPIM_EV_WRITABLE)
		sock->wr_blocked = false;
	if (ev->mask & DCPIM_EV_DRAINED)
		sock->drained = true;
	if (ev->mask & DCPIM_EV_READABLE && sock->rd_shut)
		drop_received(sock);
	if (ev->mask & DCPIM_EV_ERROR)
		failed(sock, ev->error);
	dcpim_socket_notify(sock);
}

const struct dcpim_app_ops dcpim_socket_ops = { .on_event = on_event };

/* ---- making and binding ---- */

int rackwire_dcpim_socket(struct rackwire_dcpim_engine *e, uint32_t kind, struct rackwire_dcpim_socket **out)
{
	struct rackwire_dcpim_socket *sock;
	struct dcpim_shard *s;

	if (!e || e->is_app || kind > RACKWIRE_DCPIM_MESSAGE || !out)
		return -EINVAL;
	s = e->shards[__atomic_fetch_add(&e->next_shard, 1, __ATOMIC_RELAXED) % e->nshards];
	dcpim_shard_lock(s);
	sock = socket_new(s, kind);
	if (sock)
		dcpim_list_add_tail(&s->sockets, &sock->node);
	dcpim_shard_unlock(s);
	if (!sock)
		return -ENOMEM;
	*out = sock;
	return 0;
}

static int bind_locked(struct rackwire_dcpim_socket *sock, const struct sockaddr_storage *addr)
{
	struct sockaddr_storage at = *addr;
	u32 scope;
	int err;

	if (sock->state != RACKWIRE_DCPIM_STATE_NEW)
		return -EINVAL;
	err = dcpim_bind(sock->shard, &at, &sock->port, &sock->local);
	if (err)
		return err;
	dcpim_addr_from(&at, sock->laddr, &sock->lport, &scope);
	sock->family = at.ss_family;
	sock->raw_taken = sock->shard->engine->raw;
	sock->state = RACKWIRE_DCPIM_STATE_BOUND;
	return 0;
}

int rackwire_dcpim_bind(struct rackwire_dcpim_socket *sock, const struct sockaddr *addr, socklen_t length)
{
	struct sockaddr_storage at;
	struct dcpim_shard *s;
	int err;

	err = dcpim_addr_check(addr, length, &at);
	if (err)
		return err;
	s = dcpim_socket_lock(sock);
	err = bind_locked(sock, &at);
	dcpim_shard_flush(s);
	dcpim_shard_unlock(s);
	return err;
}

/* The address of a socket that has none: the engine's, else any, IPv6 included where there is IPv6. */
static int bind_any(struct rackwire_dcpim_socket *sock)
{
	struct sockaddr_storage any = sock->shard->engine->config.local;
	int err;

	((struct sockaddr_in *)&any)->sin_port = 0;
	if (any.ss_family)
		return bind_locked(sock, &any);
	any.ss_family = AF_INET6;
	err = bind_locked(sock, &any);
	if (err != -EAFNOSUPPORT)
		return err;
	any.ss_family = AF_INET;
	return bind_locked(sock, &any);
}

static struct dcpim_accepts *accepts_new(void)
{
	struct dcpim_accepts *a = calloc(1, sizeof(*a));
	pthread_condattr_t attr;

	if (!a)
		return NULL;
	pthread_mutex_init(&a->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&a->cond, &attr);
	pthread_condattr_destroy(&attr);
	dcpim_list_init(&a->queue);
	return a;
}

static void accepts_free(struct dcpim_accepts *a)
{
	pthread_cond_destroy(&a->cond);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

int rackwire_dcpim_listen(struct rackwire_dcpim_socket *sock, int backlog)
{
	struct dcpim_shard *s = dcpim_socket_lock(sock);
	struct sockaddr_storage at = { 0 };
	struct dcpim_engine_listener *l;
	u32 kinds, index = s->index;
	int err = 0;

	if (sock->state == RACKWIRE_DCPIM_STATE_LISTENING) {
		dcpim_shard_unlock(s);
		return 0;
	}
	if (sock->state == RACKWIRE_DCPIM_STATE_NEW)
		err = bind_any(sock);
	if (!err && sock->state != RACKWIRE_DCPIM_STATE_BOUND)
		err = -EINVAL;
	if (!err) {
		sock->accepts = accepts_new();
		err = sock->accepts ? 0 : -ENOMEM;
	}
	if (err) {
		dcpim_shard_unlock(s);
		return err;
	}
	dcpim_addr_to(sock->laddr, sock->lport, 0, sock->family, (struct sockaddr_in6 *)&at);
	kinds = sock->accept_kinds ? sock->accept_kinds : 1u << sock->kind;
	sock->state = RACKWIRE_DCPIM_STATE_LISTENING; /* nobody else begins to */
	dcpim_shard_unlock(s);
	backlog = backlog < 1 ? 1 : backlog > MAX_BACKLOG ? MAX_BACKLOG : backlog;
	err = dcpim_listen_all(s->engine, &at, kinds, (u32)backlog, sock, index, sock->port, &l);
	dcpim_shard_lock(s);
	if (err) {
		accepts_free(sock->accepts);
		sock->accepts = NULL;
		sock->state = RACKWIRE_DCPIM_STATE_BOUND;
	} else {
		sock->accepts->listener = l;
		sock->port = NULL; /* its reference is the listener's now */
	}
	dcpim_shard_unlock(s);
	return err;
}

/* ---- connecting ---- */

static bool connect_done(void *arg)
{
	struct rackwire_dcpim_socket *sock = arg;

	return sock->closed || sock->state != RACKWIRE_DCPIM_STATE_CONNECTING;
}

/* With raw IP a peer belongs to one shard; the socket follows before it is anything. */
static struct dcpim_shard *move_to_shard_for(struct rackwire_dcpim_socket *sock, const struct sockaddr_storage *to)
{
	struct dcpim_shard *s = dcpim_socket_lock(sock), *there;

	if (!s->engine->raw || s->engine->nshards == 1)
		return s;
	there = dcpim_engine_shard_for(s->engine, to);
	if (there == s || (sock->state != RACKWIRE_DCPIM_STATE_NEW && sock->state != RACKWIRE_DCPIM_STATE_BOUND) ||
	    sock->refs || sock->event_fd >= 0)
		return s;
	dcpim_list_del(&sock->node);
	s->nsockets--;
	if (sock->port)
		dcpim_port_put(s, sock->port);
	__atomic_store_n(&sock->shard, there, __ATOMIC_RELEASE);
	dcpim_shard_unlock(s);
	s = dcpim_socket_lock(sock);
	dcpim_list_add_tail(&s->sockets, &sock->node);
	s->nsockets++;
	if (sock->port) {
		sock->port = sock->family == AF_INET ? s->shared : s->shared6;
		sock->port->refs++;
		sock->local = dcpim_addr_is_any(sock->laddr) ? dcpim_local_index(s, sock->port->slot) :
							       dcpim_local_find(s, sock->port, sock->laddr);
	}
	return s;
}

static int connect_start(struct rackwire_dcpim_socket *sock, const struct sockaddr_storage *to)
{
	struct dcpim_connect_from from = { .port = sock->port, .local = sock->local };
	struct dcpim_shard *s = sock->shard;
	struct dcpim_flow_info info;
	u8 source[16];
	int err;

	switch (sock->state) {
	case RACKWIRE_DCPIM_STATE_CONNECTED:
	case RACKWIRE_DCPIM_STATE_LISTENING:
		return -EISCONN;
	case RACKWIRE_DCPIM_STATE_CONNECTING:
		return -EALREADY;
	case RACKWIRE_DCPIM_STATE_FAILED:
		sock->state = sock->port ? RACKWIRE_DCPIM_STATE_BOUND : RACKWIRE_DCPIM_STATE_NEW;
	}
	if (sock->state == RACKWIRE_DCPIM_STATE_NEW && sock->raw_taken) {
		dcpim_raw_port_give(s->engine, sock->lport);
		sock->raw_taken = false;
	}
	if (sock->state == RACKWIRE_DCPIM_STATE_BOUND)
		from.sport = sock->lport;
	sock->error = 0;
	sock->eof = sock->wr_blocked = sock->drained = sock->rd_shut = sock->wr_shut = false;
	err = dcpim_connect_to(s, sock->kind, &from, to, sock->encap_port, sock, source, &sock->flow);
	if (err)
		return err;
	dcpim_flow_info(sock->flow, &info);
	if (!sock->port || dcpim_addr_is_any(sock->laddr))
		memcpy(sock->laddr, source, 16);
	if (s->engine->raw)
		sock->raw_taken = true;
	take_addresses(sock, &info.path, info.sport, info.dport);
	if (sock->sndbuf || sock->rcvbuf)
		dcpim_flow_set_buffers(sock->flow, sock->sndbuf, sock->rcvbuf);
	sock->state = RACKWIRE_DCPIM_STATE_CONNECTING;
	return 0;
}

int rackwire_dcpim_connect(struct rackwire_dcpim_socket *sock, const struct sockaddr *addr, socklen_t length)
{
	struct sockaddr_storage to;
	struct dcpim_shard *s;
	int err;

	err = dcpim_addr_check(addr, length, &to);
	if (err)
		return err;
	s = move_to_shard_for(sock, &to);
	err = connect_start(sock, &to);
	dcpim_shard_flush(s);
	if (!err && sock->state == RACKWIRE_DCPIM_STATE_CONNECTING) {
		if (sock->nonblock)
			err = -EINPROGRESS;
		else
			err = dcpim_socket_wait(sock, connect_done, dcpim_deadline(s->now, sock->sndtimeo));
	}
	if (!err && sock->state == RACKWIRE_DCPIM_STATE_FAILED) {
		err = sock->error ? sock->error : -ECONNABORTED;
		sock->error = 0;
	}
	dcpim_shard_unlock(s);
	return err;
}

/* ---- accepting ---- */

static struct rackwire_dcpim_socket *accept_next(struct dcpim_accepts *a)
{
	struct rackwire_dcpim_socket *sock = NULL;

	pthread_mutex_lock(&a->lock);
	if (!dcpim_list_empty(&a->queue)) {
		sock = dcpim_container(a->queue.next, struct rackwire_dcpim_socket, node);
		dcpim_list_del(&sock->node);
	}
	pthread_mutex_unlock(&a->lock);
	return sock;
}

static bool accept_ready(void *arg)
{
	struct rackwire_dcpim_socket *sock = arg;
	bool ready;

	if (sock->closed)
		return true;
	pthread_mutex_lock(&sock->accepts->lock);
	ready = !dcpim_list_empty(&sock->accepts->queue);
	pthread_mutex_unlock(&sock->accepts->lock);
	return ready;
}

/* Several shards: their threads take turns to fill the queue, so this one just sleeps. */
static int accept_wait_many(struct rackwire_dcpim_socket *sock, u64 deadline)
{
	struct dcpim_accepts *a = sock->accepts;
	struct dcpim_shard *s = sock->shard;
	struct timespec ts;
	u64 until;
	int err = 0;

	sock->refs++;
	while (!err && !accept_ready(sock)) {
		if (rackwire_now_ns() >= deadline) {
			err = -EAGAIN;
			break;
		}
		/* A bounded sleep also sees the socket closed. */
		until = dcpim_min(deadline, rackwire_now_ns() + 100000000);
		ts.tv_sec = (time_t)(until / RACKWIRE_NS_PER_S);
		ts.tv_nsec = (long)(until % RACKWIRE_NS_PER_S);
		dcpim_shard_unlock(s);
		pthread_mutex_lock(&a->lock);
		if (dcpim_list_empty(&a->queue))
			pthread_cond_timedwait(&a->cond, &a->lock, &ts);
		pthread_mutex_unlock(&a->lock);
		dcpim_shard_lock(s);
	}
	if (sock->closed)
		err = -EBADF;
	if (sock->closed && sock->refs == 1) {
		accepts_free(a);
		sock->accepts = NULL;
	}
	dcpim_socket_unref(sock);
	return err;
}

int rackwire_dcpim_accept(struct rackwire_dcpim_socket *sock, struct rackwire_dcpim_socket **out,
			  struct sockaddr *addr, socklen_t *length, int flags)
{
	struct rackwire_dcpim_socket *child = NULL;
	struct dcpim_shard *s;
	u64 deadline;
	int err = 0;

	if (flags & ~MSG_DONTWAIT)
		return -EINVAL;
	s = dcpim_socket_lock(sock);
	deadline = dcpim_deadline(s->now, sock->rcvtimeo);
	if (!sock->accepts)
		err = -EINVAL;
	while (!err && !(child = accept_next(sock->accepts))) {
		if (sock->nonblock || flags & MSG_DONTWAIT)
			err = -EAGAIN;
		else if (s->engine->nshards > 1)
			err = accept_wait_many(sock, deadline);
		else
			err = dcpim_socket_wait(sock, accept_ready, deadline);
	}
	dcpim_shard_unlock(s);
	if (err)
		return err;
	s = dcpim_socket_lock(child);
	dcpim_list_add_tail(&s->sockets, &child->node);
	if (child->flow)
		dcpim_accepted(child->flow);
	dcpim_shard_unlock(s);
	if (addr && length)
		rackwire_dcpim_getpeername(child, addr, length);
	*out = child;
	return 0;
}

/* ---- closing ---- */

static bool close_done(void *arg)
{
	struct rackwire_dcpim_socket *sock = arg;

	return !sock->flow || sock->drained;
}

/* The socket is out of reach; with the lock held. */
static void close_locked(struct rackwire_dcpim_socket *sock, bool abort)
{
	struct dcpim_shard *s = sock->shard;

	if (sock->flow) {
		if (!abort)
			dcpim_socket_uncork(sock);
		dcpim_close(sock->flow, s->now, abort);
		sock->flow = NULL;
	}
	sock->closed = true;
	if (__atomic_load_n(&sock->armed, __ATOMIC_RELAXED) || !dcpim_list_empty(&sock->waiters))
		dcpim_socket_notify(sock);
	socket_release(sock);
	sock->refs++;
	dcpim_socket_unref(sock);
}

static void close_listener(struct rackwire_dcpim_socket *sock)
{
	struct dcpim_accepts *a = sock->accepts;
	struct rackwire_dcpim_socket *child;
	struct dcpim_shard *s;

	/* Those waiting to be accepted are reset, and so is what comes meanwhile, with the listener. */
	while ((child = accept_next(a))) {
		s = dcpim_socket_lock(child);
		if (child->flow)
			dcpim_accepted(child->flow);
		close_locked(child, true);
		dcpim_shard_flush(s);
		dcpim_shard_unlock(s);
	}
	dcpim_engine_unlisten(a->listener);
	while ((child = accept_next(a))) {
		s = dcpim_socket_lock(child);
		child->flow = NULL; /* went with the listener */
		close_locked(child, true);
		dcpim_shard_unlock(s);
	}
	pthread_mutex_lock(&a->lock);
	pthread_cond_broadcast(&a->cond);
	pthread_mutex_unlock(&a->lock);
}

int rackwire_dcpim_close(struct rackwire_dcpim_socket *sock)
{
	struct dcpim_shard *s = dcpim_socket_lock(sock);
	int err = 0;

	if (sock->accepts && sock->accepts->listener) {
		dcpim_shard_unlock(s);
		close_listener(sock);
		dcpim_shard_lock(s);
		if (!sock->refs || s->engine->nshards == 1) {
			accepts_free(sock->accepts);
			sock->accepts = NULL;
		}
	}
	if (sock->flow && sock->linger > 0) {
		dcpim_socket_uncork(sock);
		dcpim_shutdown(sock->flow, s->now);
		dcpim_shard_flush(s);
		sock->refs++;
		err = dcpim_shard_wait(s, &sock->waiters, close_done, sock, dcpim_after(s->now, (u64)sock->linger),
				       NULL, 0);
		sock->refs--;
	}
	close_locked(sock, sock->linger == 0);
	dcpim_shard_flush(s);
	dcpim_shard_unlock(s);
	return err;
}

void dcpim_sockets_close_all(struct dcpim_shard *s)
{
	for (;;) {
		struct rackwire_dcpim_socket *sock = NULL;

		dcpim_shard_lock(s);
		if (!dcpim_list_empty(&s->sockets))
			sock = dcpim_container(s->sockets.next, struct rackwire_dcpim_socket, node);
		if (sock)
			sock->linger = 0;
		dcpim_shard_unlock(s);
		if (!sock)
			return;
		rackwire_dcpim_close(sock);
	}
}
