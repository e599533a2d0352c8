// SPDX-License-Identifier: BSD-2-Clause
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNTERS_LENGTH ((RACKWIRE_KRPING_COUNTERS * 8 + 63) / 64 * 64)

void bench_init(struct bench *b, uint32_t kind)
{
	memset(b, 0, sizeof(*b));
	b->config.size = sizeof(b->config);
	b->config.engine = RACKWIRE_KRPING_SOFT;
	b->config.kind = kind;
	/* Other programs of this machine may keep the processors from both ends for a while. */
	b->config.ack_timeout = 17;
	strcpy(b->config.address, "127.0.0.1");
}

int bench_open(struct bench *b)
{
	size_t length = rackwire_krping_stats_length();
	int err;

	b->stats = calloc(1, length);
	err = rackwire_krping_open(&b->config, b->stats, length, &b->work, b->error, sizeof(b->error));
	if (err) {
		free(b->stats);
		b->stats = NULL;
	}
	return err;
}

static void *run(void *arg)
{
	struct bench *b = arg;

	b->result = rackwire_krping_run(b->work, b->error, sizeof(b->error));
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
	rackwire_krping_close(b->work);
	free(b->stats);
	b->work = NULL;
	b->stats = NULL;
}

uint16_t bench_serve(struct bench *b)
{
	uint16_t port;

	if (bench_open(b)) {
		printf("# server: %s\n", b->error);
		return 0;
	}
	port = rackwire_krping_port(b->work);
	bench_start(b);
	return port;
}

uint16_t bench_server(struct bench *b, uint32_t flags)
{
	bench_init(b, RACKWIRE_KRPING_SERVER);
	b->config.flags = flags;
	return bench_serve(b);
}

int bench_stop(struct bench *b)
{
	rackwire_krping_stop(b->work);
	return bench_join(b);
}

int bench_run(struct bench *b, uint16_t port)
{
	int err;

	b->config.port = port;
	err = bench_open(b);
	if (!err)
		err = rackwire_krping_run(b->work, b->error, sizeof(b->error));
	if (err)
		printf("# client: %d %s\n", err, b->error);
	return err;
}

/* Where the block begins: as csrc/common/shared_stats.h lays it out. */
static const char *block(const struct bench *b)
{
	return (const char *)(((uintptr_t)b->stats + 63) & ~(uintptr_t)63);
}

uint64_t bench_count(const struct bench *b, uint32_t counter)
{
	return __atomic_load_n((const uint64_t *)(const void *)(block(b) + 64) + counter, __ATOMIC_RELAXED);
}

uint64_t bench_recorded(const struct bench *b)
{
	const struct rackwire_histogram *h = (const void *)(block(b) + 64 + COUNTERS_LENGTH);
	uint64_t sum = 0;
	uint32_t i;

	for (i = 0; i < RACKWIRE_HISTOGRAM_BUCKETS; i++)
		sum += __atomic_load_n(&h->buckets[i], __ATOMIC_RELAXED);
	return sum;
}

bool bench_until(const struct bench *b, uint32_t counter, uint64_t value)
{
	int i;

	for (i = 0; i < 30000 && bench_count(b, counter) < value; i++)
		usleep(1000);
	return bench_count(b, counter) >= value;
}
