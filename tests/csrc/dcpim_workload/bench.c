// SPDX-License-Identifier: BSD-2-Clause
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNTERS (RACKWIRE_DCPIM_WORK_TRANSPORTS * RACKWIRE_DCPIM_WORK_COUNTERS)

void bench_init(struct bench *b, uint32_t kind, uint32_t transports)
{
	memset(b, 0, sizeof(*b));
	b->engine.size = sizeof(b->engine);
	b->engine.kind = RACKWIRE_DCPIM_UDP;
	b->engine.threads = 1;
	b->engine.flags = RACKWIRE_DCPIM_NO_CONTROL;
	b->config.size = sizeof(b->config);
	b->config.kind = kind;
	b->config.transports = transports;
	strcpy(b->config.address, "127.0.0.1");
}

int bench_open(struct bench *b)
{
	size_t length = rackwire_dcpim_work_stats_length(b->engine.threads);
	int err;

	b->stats = calloc(1, length);
	err = rackwire_dcpim_work_open(&b->engine, &b->config, b->stats, length, &b->work, b->error, sizeof(b->error));
	if (err) {
		free(b->stats);
		b->stats = NULL;
	}
	return err;
}

static void *run(void *arg)
{
	struct bench *b = arg;

	b->result = rackwire_dcpim_work_run(b->work, b->error, sizeof(b->error));
	return NULL;
}

void bench_start(struct bench *b)
{
	pthread_create(&b->thread, NULL, run, b);
}

int bench_join(struct bench *b)
{
	pthread_join(b->thread, NULL);
	return b->result;
}

void bench_close(struct bench *b)
{
	if (!b->stats)
		return;
	rackwire_dcpim_work_close(b->work);
	free(b->stats);
	b->work = NULL;
	b->stats = NULL;
}

uint16_t bench_server(struct bench *b, uint32_t flags)
{
	uint16_t port;

	bench_init(b, RACKWIRE_DCPIM_WORK_SERVER, DCPIM | TCP | UDP);
	b->config.flags = flags;
	if (bench_open(b)) {
		printf("# server: %s\n", b->error);
		return 0;
	}
	port = rackwire_dcpim_work_port(b->work, RACKWIRE_DCPIM_WORK_DCPIM);
	bench_start(b);
	return port;
}

int bench_server_end(struct bench *b)
{
	int result;

	rackwire_dcpim_work_stop(b->work);
	result = bench_join(b);
	bench_close(b);
	return result;
}

int bench_run(struct bench *b, uint16_t port)
{
	int err;

	b->config.port = port;
	err = bench_open(b);
	if (err)
		return err;
	return rackwire_dcpim_work_run(b->work, b->error, sizeof(b->error));
}

/* Where block @block begins: as csrc/common/shared_stats.h lays it out. */
static const uint64_t *block(const struct bench *b, uint32_t index)
{
	size_t counters = (COUNTERS * 8 + 63) / 64 * 64;
	size_t one = 64 + counters + RACKWIRE_DCPIM_WORK_TRANSPORTS * sizeof(struct rackwire_histogram);

	return (const uint64_t *)((((uintptr_t)b->stats + 63) & ~(uintptr_t)63) + index * one);
}

uint64_t bench_count(const struct bench *b, uint32_t transport, uint32_t counter)
{
	uint64_t sum = 0;
	uint32_t i;

	for (i = 0; i <= b->engine.threads; i++)
		sum += __atomic_load_n(block(b, i) + 8 + transport * RACKWIRE_DCPIM_WORK_COUNTERS + counter,
				       __ATOMIC_RELAXED);
	return sum;
}

uint64_t bench_recorded(const struct bench *b, uint32_t transport)
{
	uint64_t sum = 0;
	uint32_t i, j;

	for (i = 0; i <= b->engine.threads; i++) {
		const struct rackwire_histogram *h =
			(const void *)((const char *)block(b, i) + 64 + (COUNTERS * 8 + 63) / 64 * 64);

		for (j = 0; j < RACKWIRE_HISTOGRAM_BUCKETS; j++)
			sum += h[transport].buckets[j];
	}
	return sum;
}
