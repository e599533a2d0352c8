// SPDX-License-Identifier: BSD-2-Clause
/* Opening and closing an engine; what its configuration means. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "clock.h"
#include "shard.h"

#define LINGER_LOOK_NS 5000000ULL
#define DEFAULT_RATE 100000000000ULL
#define US 1000ULL
#define MS 1000000ULL

static int fail(char *error, size_t length, int err, const char *format, ...)
{
	va_list args;

	if (error && length) {
		va_start(args, format);
		vsnprintf(error, length, format, args);
		va_end(args);
	}
	return err;
}

#define DEFAULT(field, value)				\
	do {						\
		if (!c->field)				\
			c->field = (value);		\
	} while (0)

/*
 * Round trips of user space: a packet that wakes a sleeping thread at either
 * end takes tens of microseconds, so a matching round as short as the paper's
 * would end before its answers are there.
 */
static void fill_defaults(struct rackwire_dcpim_config *c)
{
	u64 speed;

	DEFAULT(kind, RACKWIRE_DCPIM_UDP);
	DEFAULT(threads, 1);
	if (!c->rate_bps) {
		speed = dcpim_route_speed(&c->local, &c->towards);
		c->rate_bps = speed ? speed : DEFAULT_RATE;
	}
	DEFAULT(ctrl_rtt_ns, 100 * US);
	DEFAULT(data_rtt_ns, 200 * US);
	DEFAULT(alpha_milli, 1000);
	DEFAULT(beta_milli, 1300);
	DEFAULT(rounds, 4);
	DEFAULT(channels, 4);
	DEFAULT(rcvbuf, 4 << 20);
	DEFAULT(sndbuf, 4 << 20);
	DEFAULT(max_msg, 2 << 20);
	DEFAULT(socket_rcvbuf, 16 << 20);
	DEFAULT(socket_sndbuf, 16 << 20);
	DEFAULT(max_flows, 65536);
	DEFAULT(max_peers, 16384);
	DEFAULT(max_msgs, 65536);
	DEFAULT(max_segs, 1 << 20);
	DEFAULT(rto_min_ns, 5 * MS);
	DEFAULT(rto_max_ns, 500 * MS);
	DEFAULT(ack_delay_ns, 500 * US);
	DEFAULT(connect_timeout_ns, 5000 * MS);
	DEFAULT(dead_after_ns, 15000 * MS);
	DEFAULT(keepalive_ns, 30000 * MS);
	DEFAULT(timer_gran_ns, 20 * US);
}

/*
 * What may be on its way to us must fit the kernel's receive buffer, which
 * counts the memory of its packet structures too: about 1 KiB more than each
 * packet, and packets of many sizes come.
 */
static u64 usable_rcvbuf(const struct rackwire_dcpim_engine *e)
{
	u64 mtu = e->config.mtu ? e->config.mtu : 1500;

	return e->rcvbuf * mtu / (mtu + 1024) * 3 / 4;
}

static void fill_cfg(struct rackwire_dcpim_engine *e)
{
	static const u8 v4[16] = { [10] = 0xff, [11] = 0xff };
	struct rackwire_dcpim_config *c = &e->config;
	struct dcpim_cfg *cfg = &e->cfg;

	dcpim_cfg_default(cfg);
	if (!c->rx_budget)
		c->rx_budget = dcpim_max(usable_rcvbuf(e), 65536);
	if (!c->unsched_accept)
		c->unsched_accept = dcpim_sat32(dcpim_max(usable_rcvbuf(e) / 4, 65536));
	cfg->rate_bps = c->rate_bps / c->threads;
	cfg->ctrl_rtt_ns = c->ctrl_rtt_ns;
	cfg->data_rtt_ns = c->data_rtt_ns;
	cfg->alpha_milli = c->alpha_milli;
	cfg->beta_milli = c->beta_milli;
	cfg->rounds = c->rounds;
	cfg->channels = c->channels;
	cfg->max_packet = dcpim_packet_for_mtu(e, v4, c->mtu);
	cfg->short_threshold = c->short_threshold;
	cfg->window = c->window;
	cfg->token_batch = c->token_batch;
	cfg->first_part_mode = c->first_part;
	if (c->first_part_bytes)
		cfg->first_part_bytes = c->first_part_bytes;
	if (c->unsched_refill_milli)
		cfg->unsched_refill_milli = c->unsched_refill_milli;
	cfg->unsched_accept = c->unsched_accept;
	cfg->rx_budget = c->rx_budget;
	cfg->rcvbuf = c->rcvbuf;
	cfg->sndbuf = c->sndbuf;
	cfg->max_msg = c->max_msg;
	cfg->rto_min_ns = c->rto_min_ns;
	cfg->rto_max_ns = c->rto_max_ns;
	cfg->ack_delay_ns = c->ack_delay_ns;
	cfg->connect_timeout_ns = c->connect_timeout_ns;
	cfg->dead_after_ns = c->dead_after_ns;
	cfg->keepalive_ns = c->keepalive_ns == UINT64_MAX ? 0 : c->keepalive_ns;
	if (c->timewait_ns)
		cfg->timewait_ns = c->timewait_ns;
	else
		c->timewait_ns = cfg->timewait_ns;
	cfg->timer_gran_ns = c->timer_gran_ns;
	cfg->max_flows = c->max_flows;
	cfg->max_peers = c->max_peers;
	cfg->max_msgs = c->max_msgs;
	cfg->max_segs = c->max_segs;
	cfg->host_port = e->raw ? dcpim_raw_host_port(e) : 0;
	cfg->flags = e->raw || c->flags & RACKWIRE_DCPIM_CRC ? DCPIM_CFG_CRC : 0;
}

static int check_config(const struct rackwire_dcpim_config *c, char *error, size_t length)
{
	u32 i;

	if (!c || c->size != sizeof(*c))
		return fail(error, length, -EINVAL, "config.size is not that of this library");
	if (c->kind > RACKWIRE_DCPIM_RAW)
		return fail(error, length, -EINVAL, "kind is out of range");
	if (c->threads > RACKWIRE_DCPIM_MAX_THREADS)
		return fail(error, length, -EINVAL, "threads is over %d", RACKWIRE_DCPIM_MAX_THREADS);
	if (c->wakeup > RACKWIRE_DCPIM_BUSY_POLL)
		return fail(error, length, -EINVAL, "wakeup is out of range");
	if (c->flags & ~(u32)(RACKWIRE_DCPIM_NO_OFFLOAD | RACKWIRE_DCPIM_CRC | RACKWIRE_DCPIM_NO_CONTROL))
		return fail(error, length, -EINVAL, "flags has unknown bits");
	if (c->cpu_count > RACKWIRE_DCPIM_MAX_THREADS)
		return fail(error, length, -EINVAL, "cpu_count is over %d", RACKWIRE_DCPIM_MAX_THREADS);
	for (i = 0; i < c->cpu_count; i++)
		if (c->cpus[i] >= CPU_SETSIZE || c->cpus[i] >= sysconf(_SC_NPROCESSORS_CONF))
			return fail(error, length, -EINVAL, "there is no CPU %u", c->cpus[i]);
	for (i = 0; i < 2; i++) {
		int family = (i ? &c->towards : &c->local)->ss_family;

		if (family && family != AF_INET && family != AF_INET6)
			return fail(error, length, -EINVAL, "%s is neither IPv4 nor IPv6", i ? "towards" : "local");
	}
	if (c->mtu && (c->mtu < 576 || c->mtu > 65536))
		return fail(error, length, -EINVAL, "mtu is not 576 to 65536");
	if (c->encap_port && c->kind == RACKWIRE_DCPIM_RAW)
		return fail(error, length, -EINVAL, "encap_port is of the UDP engine only");
	return 0;
}

static int check_local(const struct sockaddr_storage *local)
{
	struct sockaddr_storage addr = *local;
	int fd, err = 0;

	if (!local->ss_family)
		return 0;
	fd = socket(local->ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	((struct sockaddr_in *)&addr)->sin_port = 0;
	if (bind(fd, (struct sockaddr *)&addr,
		 addr.ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)) < 0)
		err = -errno;
	close(fd);
	return err;
}

static void engine_free(struct rackwire_dcpim_engine *e)
{
	u32 i;

	for (i = 0; i < e->nshards; i++)
		if (e->shards[i])
			dcpim_shard_destroy(e->shards[i]);
	dcpim_raw_ports_close(e);
	free(e->shards);
	free(e);
}

static int engine_build(struct rackwire_dcpim_engine *e, char *error, size_t length)
{
	const char *field = "";
	u32 i;
	int err;

	err = check_local(&e->config.local);
	if (err)
		return fail(error, length, err, "local address: %s", strerror(-err));
	err = dcpim_port_rcvbuf(e);
	if (err < 0)
		return fail(error, length, err, "UDP socket: %s", strerror(-err));
	e->rcvbuf = (u64)err;
	if (e->raw) {
		err = dcpim_raw_ports_open(e);
		if (err)
			return fail(error, length, err, "no free dcPIM ports: %s", strerror(-err));
	}
	fill_cfg(e);
	if (dcpim_cfg_check(&e->cfg, &field))
		return fail(error, length, -EINVAL, "%s is out of range", field);
	e->shards = calloc(e->config.threads, sizeof(*e->shards));
	if (!e->shards)
		return -ENOMEM;
	e->nshards = e->config.threads;
	for (i = 0; i < e->nshards; i++) {
		err = dcpim_shard_create(e, i, &e->shards[i]);
		if (err == -EPERM || err == -EACCES)
			return fail(error, length, -EPERM,
				    "IP protocol %d needs CAP_NET_RAW (root); the UDP engine needs no privilege",
				    DCPIM_IPPROTO);
		if (err)
			return fail(error, length, err, "thread %u: %s", i, strerror(-err));
	}
	return 0;
}

int dcpim_engine_open(const struct rackwire_dcpim_config *config, const struct dcpim_app_ops *ops, void *app,
		      struct rackwire_dcpim_engine **out, char *error, size_t length)
{
	struct rackwire_dcpim_engine *e;
	int err;

	if (error && length)
		error[0] = 0;
	err = check_config(config, error, length);
	if (err)
		return err;
	e = calloc(1, sizeof(*e));
	if (!e)
		return fail(error, length, -ENOMEM, "out of memory");
	e->config = *config;
	fill_defaults(&e->config);
	e->raw = e->config.kind == RACKWIRE_DCPIM_RAW;
	e->ops = ops;
	e->app = app;
	e->is_app = true;
	e->opened_at = rackwire_now_ns();
	dcpim_list_init(&e->listeners);
	err = engine_build(e, error, length);
	if (err) {
		if (error && length && !error[0])
			fail(error, length, err, "%s", strerror(-err));
		engine_free(e);
		return err;
	}
	dcpim_control_start(e); /* without it the engine works as well */
	*out = e;
	return 0;
}

int rackwire_dcpim_engine_open(const struct rackwire_dcpim_config *config, struct rackwire_dcpim_engine **out,
			       char *error, size_t length)
{
	struct rackwire_dcpim_engine *e;
	u32 i;
	int err;

	if (!out)
		return -EINVAL;
	err = dcpim_engine_open(config, &dcpim_socket_ops, NULL, &e, error, length);
	if (err)
		return err;
	e->is_app = false;
	for (i = 0; i < e->nshards; i++) {
		err = dcpim_shard_start(e->shards[i]);
		if (err) {
			fail(error, length, err, "thread %u: %s", i, strerror(-err));
			rackwire_dcpim_engine_close(e, 0);
			return err;
		}
	}
	*out = e;
	return 0;
}

static bool drained(void *arg)
{
	return !dcpim_undelivered(((struct dcpim_shard *)arg)->host);
}

int rackwire_dcpim_engine_close(struct rackwire_dcpim_engine *e, uint64_t linger_ns)
{
	u64 until = dcpim_after(rackwire_now_ns(), linger_ns);
	struct dcpim_list queue;
	int result = 0;
	u32 i;

	dcpim_control_stop(e);
	while (!dcpim_list_empty(&e->listeners))
		dcpim_engine_unlisten(dcpim_container(e->listeners.next, struct dcpim_engine_listener, node));
	if (!e->is_app)
		for (i = 0; i < e->nshards; i++)
			dcpim_sockets_close_all(e->shards[i]);
	for (i = 0; i < e->nshards; i++) {
		struct dcpim_shard *s = e->shards[i];

		dcpim_list_init(&queue);
		dcpim_shard_lock(s);
		s->now = rackwire_now_ns();
		dcpim_shard_flush(s);
		/*
		 * Nothing wakes a waiter for a flow that no socket has any more: look now and then.
		 * By the clock, as a wait that comes too late does not move s->now.
		 */
		while (!drained(s) && rackwire_now_ns() < until)
			dcpim_shard_wait(s, &queue, drained, s, dcpim_min(until, rackwire_now_ns() + LINGER_LOOK_NS),
					 NULL, 0);
		if (!drained(s))
			result = -ETIMEDOUT;
		dcpim_shard_unlock(s);
	}
	__atomic_store_n(&e->stopping, true, __ATOMIC_RELAXED);
	for (i = 0; i < e->nshards; i++)
		dcpim_shard_stop(e->shards[i]);
	engine_free(e);
	return result;
}

/* ---- the app interface ---- */

int dcpim_engine_run(struct rackwire_dcpim_engine *e, const int *stop)
{
	u32 i, n;
	int err = 0;

	e->stop = stop;
	for (n = 0; n < e->nshards && !err; n++) {
		__atomic_store_n(&e->shards[n]->woken, 1, __ATOMIC_RELAXED);
		err = dcpim_shard_start(e->shards[n]);
	}
	if (err)
		__atomic_store_n(&e->stopping, true, __ATOMIC_RELAXED);
	for (i = 0; i < e->nshards; i++) {
		struct dcpim_shard *s = e->shards[i];

		if (!s->thread_running)
			continue;
		if (err)
			dcpim_shard_stop(s);
		else
			pthread_join(s->thread, NULL);
		s->thread_running = false;
	}
	__atomic_store_n(&e->stopping, false, __ATOMIC_RELAXED);
	e->stop = NULL;
	return err;
}

void dcpim_engine_wake(struct rackwire_dcpim_engine *e)
{
	u32 i;

	for (i = 0; i < e->nshards; i++)
		dcpim_shard_call(e->shards[i]);
}

u32 dcpim_engine_shards(const struct rackwire_dcpim_engine *e)
{
	return e->nshards;
}

struct dcpim_shard *dcpim_engine_shard(struct rackwire_dcpim_engine *e, u32 index)
{
	return index < e->nshards ? e->shards[index] : NULL;
}

u32 dcpim_shard_index(const struct dcpim_shard *s)
{
	return s->index;
}

struct dcpim_host *dcpim_shard_host(struct dcpim_shard *s)
{
	return s->host;
}

u64 dcpim_shard_now(const struct dcpim_shard *s)
{
	return s->now;
}

u64 dcpim_shard_clock(void)
{
	return rackwire_now_ns();
}

u64 dcpim_shard_cpu_ns(void)
{
	return rackwire_thread_cpu_ns();
}

void dcpim_shard_set_deadline(struct dcpim_shard *s, u64 when)
{
	s->app_deadline = when;
}

void dcpim_shard_set_user(struct dcpim_shard *s, void *user)
{
	s->user = user;
}

void *dcpim_shard_user(const struct dcpim_shard *s)
{
	return s->user;
}

int dcpim_shard_buf(struct dcpim_shard *s, u32 size, struct dcpim_buf *out)
{
	struct dcpim_mem *mem = dcpim_mem_alloc(&s->pool, size);

	if (!mem)
		return -ENOMEM;
	*out = (struct dcpim_buf){ mem->data, size, mem };
	return 0;
}

void dcpim_shard_buf_ref(struct dcpim_shard *s, const struct dcpim_buf *buf)
{
	(void)s;
	if (buf->cookie)
		dcpim_mem_ref(buf->cookie);
}

void dcpim_shard_buf_put(struct dcpim_shard *s, const struct dcpim_buf *buf)
{
	if (buf->cookie)
		dcpim_mem_put(&s->pool, buf->cookie);
}

uint32_t rackwire_dcpim_abi_version(void)
{
	return RACKWIRE_DCPIM_ABI_VERSION;
}
