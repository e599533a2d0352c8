// SPDX-License-Identifier: BSD-2-Clause
/* Opening, running and closing; the loop that everything happens in. */
#include "work.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "address.h"
#include "config.h"
#include "control_socket.h"

#define LOOK_EVERY 64 /* rounds of the loop between looks at events and the time, while it spins */

int work_fail(struct rackwire_krping_work *w, int error, const char *format, ...)
{
	va_list args;

	w->done = true;
	if (w->error)
		return w->error;
	va_start(args, format);
	vsnprintf(w->error_text, sizeof(w->error_text), format, args);
	va_end(args);
	w->error = error;
	return error;
}

const char *work_target(const struct rackwire_krping_work *w, char *text, size_t length)
{
	snprintf(text, length, "%s port %u", w->config.address, w->config.port);
	return text;
}

const struct conn_ops *conn_ops_of(uint32_t kind, bool server)
{
	switch (kind) {
	case RACKWIRE_KRPING_PING:
		return server ? &ping_server_ops : &ping_client_ops;
	case RACKWIRE_KRPING_BW:
		return &bench_bw_ops;
	default:
		return &bench_lat_ops;
	}
}

/* ---- the loop ---- */

static struct krping_conn *conn_of(struct rackwire_krping_work *w, uint64_t wr_id)
{
	uint32_t index = wr_id >> 16 & 0xffff;
	struct krping_conn *c = index < w->max ? w->conns[index] : NULL;

	/* A completion may outlive its connection. */
	return c && c->gen == (uint32_t)(wr_id >> 32) ? c : NULL;
}

static uint32_t poll_completions(struct rackwire_krping_work *w)
{
	struct rackwire_roce_wc wc[WORK_BATCH];
	struct krping_conn *c;
	int n, i;

	n = w->ops->poll_cq(w->cq, wc, WORK_BATCH);
	if (n < 0) {
		work_fail(w, n, "the completion queue broke: %s", strerror(-n));
		return 0;
	}
	for (i = 0; i < n; i++) {
		c = conn_of(w, wc[i].wr_id);
		if (c)
			conn_complete(c, &wc[i]);
	}
	return (uint32_t)n;
}

static void pump(struct rackwire_krping_work *w)
{
	uint64_t now = rackwire_now_ns();
	struct krping_conn *c;

	while ((c = w->pumps)) {
		w->pumps = c->next_pump;
		c->pump_due = false;
		c->ops->pump(c, now);
	}
}

static void take_events(struct rackwire_krping_work *w)
{
	struct rdma_event event;

	while (!w->done && w->ops->cm_next(w->dev, &event) == 1) {
		/* What completed before the event may say why it came. */
		while (poll_completions(w) == WORK_BATCH)
			;
		if (event.listener)
			server_event(w, &event);
		else if (event.context && event.context != w)
			conn_event(event.context, &event);
	}
}

static void bury(struct rackwire_krping_work *w)
{
	uint32_t i;

	/* Completions found on the way to an event may have queued what that event ended. */
	pump(w);
	w->dead = false;
	for (i = 0; i < w->top; i++) {
		struct krping_conn *c = w->conns[i];

		if (!c || c->state != CONN_OVER)
			continue;
		if (w->server && w->config.flags & RACKWIRE_KRPING_ONCE && c->opened_at)
			w->done = true;
		conn_free(c);
	}
	if (!w->server && !w->top)
		w->done = true;
}

static bool look_at_memory(struct rackwire_krping_work *w)
{
	bool found = false;
	uint32_t i;

	for (i = 0; i < w->top; i++)
		if (w->conns[i] && w->conns[i]->ops->spin)
			found |= w->conns[i]->ops->spin(w->conns[i]);
	return found;
}

static void look_at_time(struct rackwire_krping_work *w, uint64_t now)
{
	struct krping_conn *c;
	uint32_t i;

	if (now >= w->next_due) {
		w->next_due = WORK_NEVER;
		for (i = 0; i < w->top && !w->done; i++) {
			c = w->conns[i];
			if (!c || c->next_at == WORK_NEVER || c->state != CONN_READY)
				continue;
			if (now >= c->next_at)
				c->ops->due(c, now);
			if (c->next_at > now && c->next_at < w->next_due)
				w->next_due = c->next_at;
		}
	}
	if (now < w->next_tick && !work_stopping(w))
		return;
	w->next_tick = now + WORK_TICK_NS;
	for (i = 0; i < w->top && !w->done; i++)
		if (w->conns[i])
			conn_tick(w->conns[i], now);
	if (w->server)
		w->done |= work_stopping(w);
	else
		client_tick(w, now);
}

/* Does somebody watch memory, or want us to poll? */
static bool spinning(const struct rackwire_krping_work *w, uint64_t now)
{
	if (w->config.flags & RACKWIRE_KRPING_POLL || w->config.spin_ns == UINT64_MAX)
		return w->server || w->started;
	if (!w->server)
		return w->started && w->config.kind == RACKWIRE_KRPING_WLAT;
	return w->watched && now < w->spin_until;
}

static uint64_t patience(const struct rackwire_krping_work *w, uint64_t now)
{
	uint64_t until = w->next_due;

	if (w->top && w->next_tick < until)
		until = w->next_tick;
	if (w->memories && now + WORK_LOOK_NS < until)
		until = now + WORK_LOOK_NS;
	if (w->end_at && w->end_at > now && w->end_at < until)
		until = w->end_at;
	return until == WORK_NEVER ? WORK_NEVER : until > now ? until - now : 0;
}

static void loop(struct rackwire_krping_work *w)
{
	uint64_t now = rackwire_now_ns();
	uint32_t rounds = 0, n;
	bool spin;
	int found;

	while (!w->done) {
		spin = spinning(w, now);
		found = 0;
		if (!spin) {
			found = w->ops->wait(w->dev, w->cq, patience(w, now));
			if (found < 0 && found != -ECANCELED) {
				work_fail(w, found, "waiting for the network: %s", strerror(-found));
				break;
			}
		}
		n = poll_completions(w);
		if (w->memories)
			n += look_at_memory(w);
		if (w->pumps)
			pump(w);
		if (n && w->watched)
			rounds += LOOK_EVERY / 8; /* they want to be spun for a while longer */
		if (!spin || ++rounds >= LOOK_EVERY || work_stopping(w)) {
			rounds = 0;
			now = rackwire_now_ns();
			if (n && w->watched)
				w->spin_until = now + WORK_SPIN_NS;
			if (spin || found < 0 || found & RDMA_WAIT_CM)
				take_events(w);
			look_at_time(w, now);
		}
		if (w->dead)
			bury(w);
	}
}

/* ---- opening and closing ---- */

uint32_t rackwire_krping_abi_version(void)
{
	return RACKWIRE_KRPING_ABI_VERSION;
}

size_t rackwire_krping_stats_length(void)
{
	return rackwire_stats_length(1, RACKWIRE_KRPING_COUNTERS, 1);
}

int rackwire_krping_probe(uint32_t engine, char *error, size_t length)
{
	const struct rdma_provider *ops = rdma_provider_of(engine);

	if (error && length)
		error[0] = 0;
	if (engine == RACKWIRE_KRPING_KERNEL)
		return config_refuse(error, length, -ENODEV, "rackwire's krping module is not loaded");
	return ops ? ops->probe(error, length) : config_refuse(error, length, -EINVAL, "there is no engine %u", engine);
}

/* Name what could not be had, where the engine did not. */
static int open_failed(const struct rackwire_krping_work *w, int err, char *error, size_t length)
{
	const char *address = w->server ? w->config.address : w->config.local;

	if (!error || !length || (error[0] && strcmp(error, strerror(-err))))
		return err;
	return config_refuse(error, length, err, "%s: %s", address[0] ? address : w->ops->name, strerror(-err));
}

static int open_engine(struct rackwire_krping_work *w, char *error, size_t length)
{
	const struct rackwire_krping_config *c = &w->config;
	struct rdma_open open = {
		.local = w->server ? w->address : w->local,
		.mtu = c->mtu,
		.spin_ns = c->flags & RACKWIRE_KRPING_POLL ? UINT64_MAX : c->spin_ns,
		.seed = c->seed,
		.cpu = -1,
		.flags = (c->flags & RACKWIRE_KRPING_ECN ? RDMA_OPEN_ECN : 0) |
			 (c->flags & RACKWIRE_KRPING_NO_OFFLOAD ? RDMA_OPEN_NO_OFFLOAD : 0),
	};
	uint32_t per_conn, lacking;
	int err;

	if (!w->server)
		open.towards = w->address;
	err = w->ops->open(&open, &w->dev, error, length);
	if (err)
		return open_failed(w, err, error, length);
	w->ops->info(w->dev, &w->info);
	lacking = w->server ? server_unsupported(w, c->flags) : 0;
	if (!(w->info.features & RDMA_CAN_REG_MR))
		lacking |= w->server ? 0 : c->flags & RACKWIRE_KRPING_SERVER_INV;
	if (lacking)
		return config_refuse(error, length, -EOPNOTSUPP, "%s cannot do %s", w->info.name,
				     lacking & RACKWIRE_KRPING_READ_INV ? "read_inv" :
				     lacking & RACKWIRE_KRPING_LOCAL_DMA_LKEY ? "local_dma_lkey" : "server_inv");
	if ((c->op >= RACKWIRE_KRPING_OP_FADD) && !(w->info.features & RDMA_CAN_ATOMICS))
		return config_refuse(error, length, -EOPNOTSUPP, "%s cannot do atomics", w->info.name);
	per_conn = 2 * c->txdepth + 80;
	w->cq_size = w->server ? WORK_SERVER_CQ : per_conn * c->connections;
	if (w->cq_size > w->info.max_cqe) {
		if (!w->server)
			return config_refuse(error, length, -EINVAL,
					     "%u connections of txdepth %u need %u completion queue entries, %s has %u",
					     c->connections, c->txdepth, w->cq_size, w->info.name, w->info.max_cqe);
		w->cq_size = w->info.max_cqe;
	}
	err = w->ops->cq_create(w->dev, w->cq_size, &w->cq);
	if (!err)
		err = w->ops->mr_register(w->dev, w->ctl, (size_t)w->max * CTL_BYTES, RACKWIRE_ROCE_LOCAL_WRITE,
					  &w->ctl_mr);
	return err ? config_refuse(error, length, err, "no resources of %s: %s", w->info.name, strerror(-err)) : 0;
}

static int make_tables(struct rackwire_krping_work *w)
{
	uint32_t i;

	w->max = w->server ? RACKWIRE_KRPING_MAX_CLIENTS : w->config.connections;
	w->conns = calloc(w->max, sizeof(*w->conns));
	w->free_slots = calloc(w->max, sizeof(*w->free_slots));
	w->ctl = calloc(w->max, CTL_BYTES);
	if (!w->conns || !w->free_slots || !w->ctl)
		return -ENOMEM;
	for (i = 0; i < w->max; i++)
		w->free_slots[w->nfree++] = w->max - 1 - i;
	return 0;
}

int rackwire_krping_open(const struct rackwire_krping_config *config, void *stats, size_t stats_length,
			 struct rackwire_krping_work **out, char *error, size_t length)
{
	struct rackwire_krping_work *w;
	int err;

	if (error && length)
		error[0] = 0;
	if (!config || config->size != sizeof(*config) || !out)
		return config_refuse(error, length, -EINVAL, "the configuration is of another version");
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	pthread_mutex_init(&w->lock, NULL);
	w->config = *config;
	w->server = config->kind == RACKWIRE_KRPING_SERVER;
	w->next_due = WORK_NEVER;
	w->opened_at = rackwire_now_ns();
	w->ops = rdma_provider_of(config->engine);
	if (!w->ops)
		err = rackwire_krping_probe(config->engine, error, length);
	else
		err = config_check(w, error, length);
	if (!err) {
		err = rackwire_stats_init(&w->stats, stats, stats_length, 0, RACKWIRE_KRPING_COUNTERS, 1);
		if (err)
			config_refuse(error, length, err, "the statistics need %zu bytes",
				      rackwire_krping_stats_length());
	}
	if (!err)
		err = make_tables(w);
	if (!err)
		err = open_engine(w, error, length);
	if (!err && w->server)
		err = server_open(w, error, length);
	if (err) {
		if (error && length && !error[0])
			config_refuse(error, length, err, "%s", strerror(-err));
		rackwire_krping_close(w);
		return err;
	}
	*out = w;
	return 0;
}

static void pin(const struct rackwire_krping_work *w)
{
	cpu_set_t set;

	if (w->config.cpu <= 0 || w->config.cpu > CPU_SETSIZE)
		return;
	CPU_ZERO(&set);
	CPU_SET(w->config.cpu - 1, &set);
	pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

static void free_connections(struct rackwire_krping_work *w)
{
	while (w->top)
		conn_free(w->conns[w->top - 1]);
}

int rackwire_krping_run(struct rackwire_krping_work *w, char *error, size_t length)
{
	cpu_set_t before;
	bool pinned;

	if (error && length)
		error[0] = 0;
	if (w->ran)
		return config_refuse(error, length, -EALREADY, "a run happens once");
	w->ran = true;
	pinned = !pthread_getaffinity_np(pthread_self(), sizeof(before), &before);
	pin(w);
	w->next_tick = rackwire_now_ns() + WORK_TICK_NS;
	if (w->server || !client_start(w))
		loop(w);
	if (!w->server)
		client_end(w);
	free_connections(w);
	if (pinned)
		pthread_setaffinity_np(pthread_self(), sizeof(before), &before);
	if (w->error)
		return config_refuse(error, length, w->error, "%s", w->error_text);
	return w->corrupt ? config_refuse(error, length, -EBADMSG, "contents came back wrong") : 0;
}

void rackwire_krping_stop(struct rackwire_krping_work *w)
{
	__atomic_store_n(&w->stop, 1, __ATOMIC_SEQ_CST);
	w->ops->wake(w->dev);
}

void rackwire_krping_close(struct rackwire_krping_work *w)
{
	if (!w)
		return;
	rackwire_control_close(w->control);
	free_connections(w);
	if (w->listener)
		w->ops->id_destroy(w->listener);
	if (w->ctl_mr)
		w->ops->mr_deregister(w->ctl_mr);
	if (w->cq)
		w->ops->cq_destroy(w->cq);
	if (w->dev)
		w->ops->close(w->dev);
	free(w->ctl);
	free(w->conns);
	free(w->free_slots);
	free(w->lines);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

/* ---- looking ---- */

uint16_t rackwire_krping_port(const struct rackwire_krping_work *w)
{
	return w->server ? w->port : w->config.port;
}

void rackwire_krping_device(const struct rackwire_krping_work *w, char *name, size_t length)
{
	if (length)
		snprintf(name, length, "%s", w->info.name);
}

uint32_t rackwire_krping_mtu(const struct rackwire_krping_work *w)
{
	return w->info.mtu;
}

static ssize_t control_answer(void *work, char **out)
{
	return account_json(work, out);
}

int rackwire_krping_control(struct rackwire_krping_work *w, const char *directory, char *path, size_t length)
{
	int err = 0;

	if (path && length)
		path[0] = 0;
	if (!w->control)
		err = rackwire_control_open("krping", directory, control_answer, w, &w->control);
	if (!err && path && length)
		snprintf(path, length, "%s", rackwire_control_path(w->control));
	return err;
}
