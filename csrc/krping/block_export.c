// SPDX-License-Identifier: BSD-2-Clause
/* The exporter: opening, running, closing. */
#include "block_export.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "address.h"

#define BACKLOG 64
#define DEFAULT_THREADS 4
#define DEFAULT_DEPTH 64
#define DEFAULT_MEMORY (256ull << 20)
#define MAX_MEMORY (64ull << 30)
#define LOOK_EVERY 64 /* rounds of the loop between looks at events and the time, while it spins */
#define KNOWN_FLAGS (RACKWIRE_KRPING_ECN | RACKWIRE_KRPING_POLL | RACKWIRE_KRPING_NO_OFFLOAD)

size_t rackwire_krping_block_stats_length(void)
{
	return rackwire_stats_length(1, RACKWIRE_KRPING_BLOCK_COUNTERS, RACKWIRE_KRPING_BLOCK_HISTOGRAMS);
}

/* ---- the loop ---- */

static void complete(struct rackwire_krping_exporter *x, const struct rackwire_roce_wc *wc)
{
	struct export_link *l = link_of(x, wc->wr_id);

	if (!l)
		return;
	if (wc->status) {
		/* Flushed after a goodbye, whose event is on its way, or lost. */
		if (l->state == LINK_READY && wc->status != RACKWIRE_ROCE_WC_WR_FLUSH_ERR)
			export_count(x, RACKWIRE_KRPING_BLOCK_LINK_LOSSES, 1);
		link_kill(l);
		return;
	}
	/* Its first message may come before the event that says it is there. */
	if (l->state == LINK_ACCEPTED) {
		l->state = LINK_READY;
		export_count(x, RACKWIRE_KRPING_BLOCK_CLIENTS, 1);
	}
	request_complete(l, wc);
}

static int poll_completions(struct rackwire_krping_exporter *x)
{
	struct rackwire_roce_wc wc[EXPORT_BATCH];
	struct export_link *l;
	uint64_t now = 0;
	int n, i;

	n = x->ops->poll_cq(x->cq, wc, EXPORT_BATCH);
	for (i = 0; i < n; i++)
		complete(x, &wc[i]);
	for (i = 0; i < n; i++) {
		l = link_of(x, wc[i].wr_id);
		if (!l)
			continue;
		if (l->nwr)
			link_post(l);
		if (!now)
			now = rackwire_now_ns();
		l->heard_at = now;
	}
	if (n > 0)
		request_feed(x);
	return n;
}

static void collect(struct rackwire_krping_exporter *x)
{
	struct block_job *job = block_pool_collect(x->pool), *next;

	for (; job; job = next) {
		struct export_request *q = job->owner;

		next = job->next;
		request_finished(q);
		if (!next || ((struct export_request *)next->owner)->link != q->link)
			link_post(q->link);
	}
}

static void take_events(struct rackwire_krping_exporter *x)
{
	struct rdma_event event;

	while (x->ops->cm_next(x->dev, &event) == 1) {
		if (event.kind == RACKWIRE_ROCE_CM_CONNECT_REQUEST)
			link_request(x, &event);
		else
			link_event(x, &event);
	}
}

static void tick(struct rackwire_krping_exporter *x, uint64_t now)
{
	struct timespec cpu;
	uint64_t under_way = 0;
	uint32_t i;

	x->next_tick = now + EXPORT_TICK_NS;
	for (i = 0; i < EXPORT_LINKS; i++) {
		if (!x->links[i])
			continue;
		under_way += x->links[i]->under_way;
		link_tick(x->links[i], now);
	}
	rackwire_stats_set(&x->stats, RACKWIRE_KRPING_BLOCK_UNDER_WAY, under_way);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	rackwire_stats_set(&x->stats, RACKWIRE_KRPING_BLOCK_CPU_NS,
			   (uint64_t)cpu.tv_sec * RACKWIRE_NS_PER_S + (uint64_t)cpu.tv_nsec);
}

static int loop(struct rackwire_krping_exporter *x, char *error, size_t length)
{
	bool spin = x->config.flags & RACKWIRE_KRPING_POLL;
	uint64_t now = rackwire_now_ns();
	uint32_t rounds = 0;
	int found, n;

	while (!__atomic_load_n(&x->stop, __ATOMIC_RELAXED)) {
		found = 0;
		if (!spin) {
			found = x->ops->wait(x->dev, x->cq,
					     !x->nlinks ? UINT64_MAX : x->next_tick > now ? x->next_tick - now : 0);
			if (found < 0 && found != -ECANCELED)
				return config_refuse(error, length, found, "waiting for the network: %s",
						     strerror(-found));
		}
		do {
			n = poll_completions(x);
			if (n < 0)
				return config_refuse(error, length, n, "the completion queue broke: %s", strerror(-n));
			collect(x);
		} while (n == EXPORT_BATCH);
		if (x->dead)
			link_bury(x);
		if (spin && ++rounds < LOOK_EVERY)
			continue;
		rounds = 0;
		if (spin && !n)
			sched_yield(); /* the peer may want this CPU */
		if (spin || found < 0 || found & RDMA_WAIT_CM)
			take_events(x);
		now = rackwire_now_ns();
		if (now >= x->next_tick)
			tick(x, now);
	}
	return 0;
}

/* ---- opening and closing ---- */

static int check(struct rackwire_krping_exporter *x, const struct rackwire_krping_export *exports,
		 struct sockaddr_storage *address, char *error, size_t length)
{
	struct rackwire_krping_export_config *c = &x->config;
	uint32_t i, k;

	if (rackwire_address_parse(c->address, sizeof(c->address), address))
		return config_refuse(error, length, -EINVAL, "%.63s is not an address of this machine's networks",
				     c->address);
	if (!c->exports_count || c->exports_count > RACKWIRE_KRPING_EXPORTS)
		return config_refuse(error, length, -EINVAL, "there are 1 to %d exports, not %u",
				     RACKWIRE_KRPING_EXPORTS, c->exports_count);
	if (c->flags & ~(uint32_t)KNOWN_FLAGS)
		return config_refuse(error, length, -EINVAL, "flags 0x%x make no sense for an exporter",
				     c->flags & ~(uint32_t)KNOWN_FLAGS);
	for (i = 0; i < c->exports_count; i++)
		for (k = 0; k < i; k++)
			if (!strncmp(exports[i].name, exports[k].name, BLOCK_NAME))
				return config_refuse(error, length, -EINVAL, "two exports have the name \"%.31s\"",
						     exports[i].name);
	if (!c->threads)
		c->threads = DEFAULT_THREADS;
	if (!c->depth)
		c->depth = DEFAULT_DEPTH;
	if (!c->memory)
		c->memory = DEFAULT_MEMORY;
	if (c->threads > 64 || c->depth > BLOCK_MAX_DEPTH || c->memory < 8 * EXPORT_CHUNK || c->memory > MAX_MEMORY)
		return config_refuse(error, length, -EINVAL,
				     "threads are 1 to 64, depth is 1 to %d, memory 1 MiB to 64 GiB", BLOCK_MAX_DEPTH);
	return 0;
}

static void pool_done(void *context)
{
	struct rackwire_krping_exporter *x = context;

	x->ops->wake(x->dev);
}

static int open_engine(struct rackwire_krping_exporter *x, const struct sockaddr_storage *address, char *error,
		       size_t length)
{
	const struct rackwire_krping_export_config *c = &x->config;
	struct sockaddr_storage at = *address;
	struct rdma_open open = {
		.local = *address,
		.mtu = c->mtu,
		.cpu = -1,
		.flags = (c->flags & RACKWIRE_KRPING_ECN ? RDMA_OPEN_ECN : 0) |
			 (c->flags & RACKWIRE_KRPING_NO_OFFLOAD ? RDMA_OPEN_NO_OFFLOAD : 0),
	};
	int err;

	err = x->ops->open(&open, &x->dev, error, length);
	if (err)
		return error && length && error[0] ? err : config_refuse(error, length, err, "%s", strerror(-err));
	x->ops->info(x->dev, &x->info);
	x->cq_size = x->info.max_cqe < EXPORT_CQ ? x->info.max_cqe : EXPORT_CQ;
	err = x->ops->cq_create(x->dev, x->cq_size, &x->cq);
	if (!err)
		err = block_slab_open(&x->slab, x->ops, x->dev, EXPORT_CHUNK, (uint32_t)(c->memory / EXPORT_CHUNK), 0);
	if (!err)
		err = block_pool_open(c->threads, pool_done, x, &x->pool);
	if (err)
		return config_refuse(error, length, err, "no resources of %s: %s", x->info.name, strerror(-err));
	if (!at.ss_family)
		at.ss_family = AF_INET6;
	rackwire_address_set_port(&at, c->port);
	err = x->ops->listen(x->dev, (struct sockaddr *)&at, BACKLOG, x, &x->listener, &x->port);
	return err ? config_refuse(error, length, err, "port %u: %s", c->port, strerror(-err)) : 0;
}

int rackwire_krping_export_open(const struct rackwire_krping_export_config *config,
				const struct rackwire_krping_export *exports, void *stats, size_t stats_length,
				struct rackwire_krping_exporter **out, char *error, size_t length)
{
	struct sockaddr_storage address = { 0 };
	struct rackwire_krping_exporter *x;
	int err;

	if (error && length)
		error[0] = 0;
	if (!config || config->size != sizeof(*config) || !exports || !out)
		return config_refuse(error, length, -EINVAL, "the configuration is of another version");
	x = calloc(1, sizeof(*x));
	if (!x)
		return -ENOMEM;
	x->config = *config;
	x->hungry_last = &x->hungry;
	x->ops = rdma_provider_of(config->engine);
	err = x->ops ? check(x, exports, &address, error, length) :
		       config_refuse(error, length, -EINVAL, "engine %u exports nothing", config->engine);
	if (!err) {
		err = rackwire_stats_init(&x->stats, stats, stats_length, 0, RACKWIRE_KRPING_BLOCK_COUNTERS,
					  RACKWIRE_KRPING_BLOCK_HISTOGRAMS);
		if (err)
			config_refuse(error, length, err, "the statistics need %zu bytes",
				      rackwire_krping_block_stats_length());
	}
	while (!err && x->nstores < config->exports_count) {
		err = block_store_open(&exports[x->nstores], &x->stores[x->nstores], error, length);
		x->nstores += !err;
	}
	if (!err)
		err = open_engine(x, &address, error, length);
	if (err) {
		if (error && length && !error[0])
			config_refuse(error, length, err, "%s", strerror(-err));
		rackwire_krping_export_close(x);
		return err;
	}
	*out = x;
	return 0;
}

static void kill_links(struct rackwire_krping_exporter *x)
{
	uint32_t i;

	for (i = 0; i < EXPORT_LINKS; i++)
		if (x->links[i])
			link_kill(x->links[i]);
}

int rackwire_krping_export_run(struct rackwire_krping_exporter *x, char *error, size_t length)
{
	int err;

	if (error && length)
		error[0] = 0;
	if (x->ran)
		return config_refuse(error, length, -EALREADY, "a run happens once");
	x->ran = true;
	err = loop(x, error, length);
	kill_links(x);
	tick(x, rackwire_now_ns());
	return err;
}

void rackwire_krping_export_stop(struct rackwire_krping_exporter *x)
{
	__atomic_store_n(&x->stop, 1, __ATOMIC_SEQ_CST);
	x->ops->wake(x->dev);
}

void rackwire_krping_export_close(struct rackwire_krping_exporter *x)
{
	uint32_t i;

	if (!x)
		return;
	kill_links(x);
	block_pool_close(x->pool);
	for (i = 0; i < EXPORT_LINKS; i++)
		if (x->links[i])
			x->links[i]->jobs = 0;
	x->held = false;
	x->hungry = NULL;
	link_bury(x);
	if (x->listener)
		x->ops->id_destroy(x->listener);
	block_slab_close(&x->slab);
	if (x->cq)
		x->ops->cq_destroy(x->cq);
	if (x->dev)
		x->ops->close(x->dev);
	for (i = 0; i < x->nstores; i++)
		block_store_close(x->stores[i]);
	free(x);
}

uint16_t rackwire_krping_export_port(const struct rackwire_krping_exporter *x)
{
	return x->port;
}

uint64_t rackwire_krping_export_length(const struct rackwire_krping_exporter *x, uint32_t index)
{
	return index < x->nstores ? x->stores[index]->about.length : 0;
}
