// SPDX-License-Identifier: BSD-2-Clause
/* Opening, running and closing a workload. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "address.h"
#include "work.h"

#define LISTEN_BACKLOG 1024
#define ANY_PORT_TRIES 16

static int refuse(char *error, size_t length, int result, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static int refuse(char *error, size_t length, int result, const char *format, ...)
{
	va_list args;

	if (error && length) {
		va_start(args, format);
		vsnprintf(error, length, format, args);
		va_end(args);
	}
	return result;
}

/* ---- helpers of the other files ---- */

void work_fail(struct rackwire_dcpim_work *w, int error, const char *format, ...)
{
	va_list args;

	pthread_mutex_lock(&w->lock);
	if (!w->error) {
		va_start(args, format);
		vsnprintf(w->error_text, sizeof(w->error_text), format, args);
		va_end(args);
		w->error = error;
	}
	pthread_mutex_unlock(&w->lock);
	rackwire_dcpim_work_stop(w);
}

u16 work_transport_port(const struct rackwire_dcpim_work *w, u32 transport)
{
	bool above = transport == RACKWIRE_DCPIM_WORK_UDP && w->engine_config.kind != RACKWIRE_DCPIM_RAW;

	return (u16)(w->config.port + above);
}

const char *work_peer(const struct rackwire_dcpim_work *w, u32 transport, char *text, size_t length)
{
	static const char *const names[] = { "dcPIM", "TCP", "UDP" };

	snprintf(text, length, "%s port %u (%s)", w->config.address, work_transport_port(w, transport),
		 names[transport]);
	return text;
}

void work_sockaddr(const struct sockaddr_storage *addr, u16 port, struct sockaddr_storage *out, socklen_t *length)
{
	*out = *addr;
	((struct sockaddr_in *)out)->sin_port = htons(port); /* at the same place with IPv6 */
	*length = addr->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

void work_pin(const struct rackwire_dcpim_work *w, u32 index)
{
	const struct rackwire_dcpim_config *e = &w->engine_config;
	cpu_set_t set;

	if (!e->cpu_count)
		return;
	CPU_ZERO(&set);
	CPU_SET(e->cpus[index % e->cpu_count], &set);
	pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

int work_thread(pthread_t *thread, void *(*main)(void *), void *arg)
{
	sigset_t all, old;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(thread, NULL, main, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -err;
}

/* ---- opening ---- */

static void set_defaults(struct rackwire_dcpim_work *w)
{
	struct rackwire_dcpim_work_config *c = &w->config;
	struct rackwire_dcpim_config *e = &w->engine_config;

	if (!c->transports)
		c->transports = 1u << RACKWIRE_DCPIM_WORK_DCPIM;
	if (!c->connections)
		c->connections = 1;
	if (!c->iodepth)
		c->iodepth = 1;
	if (!c->length)
		c->length = c->kind == RACKWIRE_DCPIM_WORK_STREAM ? WORK_CHUNK : 64;
	if (!c->timeout_ns)
		c->timeout_ns = RACKWIRE_NS_PER_S;
	if (!c->slice_ns)
		c->slice_ns = 200000000;
	if (!c->seed && getrandom(&c->seed, sizeof(c->seed), GRND_NONBLOCK) != sizeof(c->seed))
		c->seed = rackwire_now_ns();
	if (!e->kind)
		e->kind = RACKWIRE_DCPIM_UDP;
	if (!e->threads)
		e->threads = 1;
	if (work_busy_poll(w) && !e->spin_ns && (c->transports & (c->transports - 1)))
		e->spin_ns = WORK_SPIN_NS;
	if (!e->local.ss_family)
		e->local = c->kind == RACKWIRE_DCPIM_WORK_SERVER ? w->address : w->local;
	if (!e->towards.ss_family && c->kind != RACKWIRE_DCPIM_WORK_SERVER)
		e->towards = w->address;
}

static int check_client(const struct rackwire_dcpim_work *w, char *error, size_t length)
{
	const struct rackwire_dcpim_work_config *c = &w->config;
	bool requests = c->kind != RACKWIRE_DCPIM_WORK_STREAM;

	if (!w->address.ss_family)
		return refuse(error, length, -EINVAL, "there is no address to connect to");
	if (w->local.ss_family && w->local.ss_family != w->address.ss_family)
		return refuse(error, length, -EINVAL, "the source %s and the peer %s are not of one address family",
			      c->local, c->address);
	if (!c->port)
		return refuse(error, length, -EINVAL, "port 0 cannot be connected to");
	if (c->connections > RACKWIRE_DCPIM_WORK_MAX_CONNECTIONS)
		return refuse(error, length, -EINVAL, "%u connections are more than %d", c->connections,
			      RACKWIRE_DCPIM_WORK_MAX_CONNECTIONS);
	if (c->sport && c->sport + c->connections > 65536)
		return refuse(error, length, -EINVAL, "%u source ports from %u go beyond 65535", c->connections,
			      c->sport);
	if (c->iodepth > RACKWIRE_DCPIM_WORK_MAX_IODEPTH)
		return refuse(error, length, -EINVAL, "an iodepth of %u is more than %d", c->iodepth,
			      RACKWIRE_DCPIM_WORK_MAX_IODEPTH);
	if (c->length > RACKWIRE_DCPIM_WORK_MAX_LENGTH)
		return refuse(error, length, -EMSGSIZE, "a length of %u is more than %u", c->length,
			      RACKWIRE_DCPIM_WORK_MAX_LENGTH);
	if (requests && c->length < 4 && c->iodepth > 1u << (8 * c->length))
		return refuse(error, length, -EINVAL, "messages of %u bytes cannot tell %u requests apart", c->length,
			      c->iodepth);
	if (c->kind == RACKWIRE_DCPIM_WORK_MESSAGE && work_serves(w, RACKWIRE_DCPIM_WORK_TCP))
		return refuse(error, length, -EOPNOTSUPP, "TCP has no messages; use ping or stream to compare with it");
	if ((c->flags & RACKWIRE_DCPIM_WORK_REVERSE) &&
	    (c->kind != RACKWIRE_DCPIM_WORK_STREAM || work_serves(w, RACKWIRE_DCPIM_WORK_UDP)))
		return refuse(error, length, -EOPNOTSUPP, "only a stream over dcPIM or TCP can be reversed");
	if (requests && work_serves(w, RACKWIRE_DCPIM_WORK_UDP) && c->length > RACKWIRE_DCPIM_WORK_MAX_DATAGRAM)
		return refuse(error, length, -EMSGSIZE, "a UDP datagram holds at most %d bytes",
			      RACKWIRE_DCPIM_WORK_MAX_DATAGRAM);
	return 0;
}

static int check_config(struct rackwire_dcpim_work *w, char *error, size_t length)
{
	const struct rackwire_dcpim_work_config *c = &w->config;
	const u32 known = RACKWIRE_DCPIM_WORK_NO_VALIDATE | RACKWIRE_DCPIM_WORK_VALIDATE | RACKWIRE_DCPIM_WORK_SHORT |
			  RACKWIRE_DCPIM_WORK_REVERSE | RACKWIRE_DCPIM_WORK_MESSAGES_ONLY |
			  RACKWIRE_DCPIM_WORK_STREAMS_ONLY;
	const u32 one_kind = RACKWIRE_DCPIM_WORK_MESSAGES_ONLY | RACKWIRE_DCPIM_WORK_STREAMS_ONLY;

	if (c->kind < RACKWIRE_DCPIM_WORK_SERVER || c->kind > RACKWIRE_DCPIM_WORK_MESSAGE)
		return refuse(error, length, -EINVAL, "kind %u is none of a workload", c->kind);
	if (c->transports >> RACKWIRE_DCPIM_WORK_TRANSPORTS)
		return refuse(error, length, -EINVAL, "transports 0x%x are not known", c->transports);
	if (c->flags & ~known || (c->flags & one_kind) == one_kind)
		return refuse(error, length, -EINVAL, "flags 0x%x make no sense", c->flags);
	if (rackwire_address_parse(c->address, sizeof(c->address), &w->address))
		return refuse(error, length, -EINVAL, "%.63s is not an address of this machine's networks", c->address);
	if (rackwire_address_parse(c->local, sizeof(c->local), &w->local))
		return refuse(error, length, -EINVAL, "%.63s is not an address of this machine's networks", c->local);
	set_defaults(w);
	if (work_serves(w, RACKWIRE_DCPIM_WORK_UDP) && c->port == 65535 && w->engine_config.kind != RACKWIRE_DCPIM_RAW)
		return refuse(error, length, -EINVAL, "there is no port above 65535 for plain UDP");
	return c->kind == RACKWIRE_DCPIM_WORK_SERVER ? 0 : check_client(w, error, length);
}

size_t rackwire_dcpim_work_stats_length(uint32_t threads)
{
	return rackwire_stats_length(threads + 1, WORK_NCOUNTERS, RACKWIRE_DCPIM_WORK_TRANSPORTS);
}

static int make_lanes(struct rackwire_dcpim_work *w, void *stats, size_t stats_length, char *error, size_t length)
{
	u32 i, n = dcpim_engine_shards(w->engine);

	w->nshards = n;
	w->lanes = calloc(n + 2, sizeof(*w->lanes));
	w->blocks = calloc(n + 1, sizeof(*w->blocks));
	if (!w->lanes || !w->blocks)
		return -ENOMEM;
	for (i = 0; i < n + 2; i++) {
		struct work_lane *l = &w->lanes[i];

		l->work = w;
		l->stats = &w->blocks[dcpim_min(i, n)];
		l->transport = i < n ? RACKWIRE_DCPIM_WORK_DCPIM : RACKWIRE_DCPIM_WORK_TCP + i - n;
		l->shard = i < n ? dcpim_engine_shard(w->engine, i) : NULL;
		l->deadline = DCPIM_NEVER;
		dcpim_list_init(&l->conns);
		if (l->shard)
			dcpim_shard_set_user(l->shard, l);
	}
	for (i = 0; i <= n; i++) {
		int err = rackwire_stats_init(&w->blocks[i], stats, stats_length, i, WORK_NCOUNTERS,
					      RACKWIRE_DCPIM_WORK_TRANSPORTS);

		if (err)
			return refuse(error, length, err, "the statistics need %zu bytes",
				      rackwire_dcpim_work_stats_length(n));
	}
	return 0;
}

/* Listen to one port number with everything; *port 0: dcPIM's choice. */
static int listen_all(struct rackwire_dcpim_work *w, u16 *port, char *error, size_t length)
{
	struct dcpim_engine_listener *listener = NULL;
	u32 flags = w->config.flags, kinds = 0;
	struct sockaddr_storage at;
	socklen_t ignored;
	int err = 0;
	u16 udp;

	if (!(flags & RACKWIRE_DCPIM_WORK_MESSAGES_ONLY))
		kinds |= 1u << DCPIM_STREAM;
	if (!(flags & RACKWIRE_DCPIM_WORK_STREAMS_ONLY))
		kinds |= 1u << DCPIM_MESSAGE;
	if (work_serves(w, RACKWIRE_DCPIM_WORK_DCPIM)) {
		work_sockaddr(&w->address, *port, &at, &ignored);
		err = dcpim_engine_listen(w->engine, &at, kinds, LISTEN_BACKLOG, NULL, &listener);
		if (err)
			return refuse(error, length, err, "dcPIM port %u: %s", *port, strerror(-err));
		w->ports[RACKWIRE_DCPIM_WORK_DCPIM] = *port = dcpim_engine_listen_port(listener);
	}
	if (work_serves(w, RACKWIRE_DCPIM_WORK_TCP)) {
		err = work_tcp_server_open(w, *port);
		if (err)
			refuse(error, length, err, "TCP port %u: %s", *port, strerror(-err));
		else
			*port = w->ports[RACKWIRE_DCPIM_WORK_TCP];
	}
	if (!err && work_serves(w, RACKWIRE_DCPIM_WORK_UDP)) {
		udp = *port && w->engine_config.kind != RACKWIRE_DCPIM_RAW ? (u16)(*port + 1) : *port;
		err = *port == 65535 && udp != *port ? -EADDRINUSE : work_udp_server_open(w, udp);
		if (err)
			refuse(error, length, err, "UDP port %u: %s", udp, strerror(-err));
	}
	if (err) {
		work_tcp_server_close(w);
		work_udp_server_close(w);
		if (listener)
			dcpim_engine_unlisten(listener);
	}
	return err;
}

static int server_open(struct rackwire_dcpim_work *w, char *error, size_t length)
{
	int tries = 0, err;
	u16 port;

	do {
		port = w->config.port;
		err = listen_all(w, &port, error, length);
		/* The port chosen for dcPIM may be another program's TCP port. */
	} while (err == -EADDRINUSE && !w->config.port && ++tries < ANY_PORT_TRIES);
	if (err)
		return err;
	w->config.port = port;
	return 0;
}

int rackwire_dcpim_work_open(const struct rackwire_dcpim_config *engine,
			     const struct rackwire_dcpim_work_config *config, void *stats, size_t stats_length,
			     struct rackwire_dcpim_work **out, char *error, size_t length)
{
	struct rackwire_dcpim_work *w;
	bool server;
	int err;

	if (error && length)
		error[0] = 0;
	if (!engine || engine->size != sizeof(*engine) || !config || config->size != sizeof(*config) || !out)
		return refuse(error, length, -EINVAL, "the configuration is not of this version");
	w = calloc(1, sizeof(*w));
	if (!w)
		return refuse(error, length, -ENOMEM, "out of memory");
	w->config = *config;
	w->engine_config = *engine;
	w->wake_fd = -1;
	pthread_mutex_init(&w->lock, NULL);
	pthread_mutex_init(&w->baseline_lock, NULL);
	work_pattern_init();
	server = config->kind == RACKWIRE_DCPIM_WORK_SERVER;
	err = check_config(w, error, length);
	if (!err) {
		/* Where to listen: everywhere, with IPv4 in IPv6 where there is IPv6. */
		if (server && !w->address.ss_family)
			w->address.ss_family = access("/proc/net/if_inet6", F_OK) ? AF_INET : AF_INET6;
		err = dcpim_engine_open(&w->engine_config, server ? &work_dcpim_server_app : &work_dcpim_client_app, w,
					&w->engine, error, length);
	}
	if (!err) {
		w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		err = w->wake_fd < 0 ? -errno : make_lanes(w, stats, stats_length, error, length);
	}
	if (!err)
		err = server ? server_open(w, error, length) : work_client_open(w);
	if (err) {
		if (error && length && !error[0])
			refuse(error, length, err, "%s", strerror(-err));
		rackwire_dcpim_work_close(w);
		return err;
	}
	*out = w;
	return 0;
}

/* ---- running ---- */

static int server_run(struct rackwire_dcpim_work *w)
{
	int err;

	err = work_tcp_server_start(w);
	if (!err)
		err = work_udp_server_start(w);
	if (!err)
		err = dcpim_engine_run(w->engine, &w->run_stop);
	if (err)
		work_fail(w, err, "cannot start a thread: %s", strerror(-err));
	work_tcp_server_stop(w);
	work_udp_server_stop(w);
	return w->error;
}

int rackwire_dcpim_work_run(struct rackwire_dcpim_work *w, char *error, size_t length)
{
	int err;

	if (error && length)
		error[0] = 0;
	if (w->ran)
		return refuse(error, length, -EALREADY, "a workload runs once");
	w->ran = true;
	err = w->config.kind == RACKWIRE_DCPIM_WORK_SERVER ? server_run(w) : work_client_run(w);
	if (err)
		return refuse(error, length, err, "%s", w->error_text);
	if (w->corrupt && w->config.kind != RACKWIRE_DCPIM_WORK_SERVER)
		return refuse(error, length, -EBADMSG, "contents arrived wrong");
	return 0;
}

void rackwire_dcpim_work_stop(struct rackwire_dcpim_work *w)
{
	u64 one = 1;

	__atomic_store_n(&w->stop, 1, __ATOMIC_SEQ_CST);
	while (write(w->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	dcpim_engine_wake(w->engine);
}

void rackwire_dcpim_work_close(struct rackwire_dcpim_work *w)
{
	if (!w)
		return;
	work_tcp_server_close(w);
	work_udp_server_close(w);
	if (w->lanes && w->config.kind != RACKWIRE_DCPIM_WORK_SERVER)
		work_client_close(w);
	if (w->engine)
		rackwire_dcpim_engine_close(w->engine, 0);
	if (w->wake_fd >= 0)
		close(w->wake_fd);
	free(w->lanes);
	free(w->blocks);
	pthread_mutex_destroy(&w->lock);
	pthread_mutex_destroy(&w->baseline_lock);
	free(w);
}

/* ---- looking ---- */

uint16_t rackwire_dcpim_work_port(const struct rackwire_dcpim_work *w, uint32_t transport)
{
	return transport < RACKWIRE_DCPIM_WORK_TRANSPORTS ? w->ports[transport] : 0;
}

static int by_id(const void *a, const void *b)
{
	const struct work_row *const *x = a, *const *y = b;

	return (*x)->row.id < (*y)->row.id ? -1 : (*x)->row.id > (*y)->row.id;
}

uint32_t rackwire_dcpim_work_connections(struct rackwire_dcpim_work *w, struct rackwire_dcpim_work_connection *rows,
					 uint32_t max)
{
	const struct work_row *order[RACKWIRE_DCPIM_WORK_ROWS];
	u64 now = rackwire_now_ns();
	u32 i, n = 0;

	pthread_mutex_lock(&w->lock);
	for (i = 0; i < RACKWIRE_DCPIM_WORK_ROWS; i++)
		if (w->rows[i].row.id)
			order[n++] = &w->rows[i];
	qsort(order, n, sizeof(order[0]), by_id);
	n = (u32)dcpim_min(n, max);
	for (i = 0; i < n; i++) {
		rows[i] = order[i]->row;
		rows[i].age_ns = (order[i]->ended_at ? order[i]->ended_at : now) - order[i]->opened_at;
	}
	pthread_mutex_unlock(&w->lock);
	return n;
}

struct rackwire_dcpim_engine *rackwire_dcpim_work_engine(struct rackwire_dcpim_work *w)
{
	return w->engine;
}
