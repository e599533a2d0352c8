// SPDX-License-Identifier: BSD-2-Clause
/*
 * An engine with nothing inside: threads that write statistics as fast as they
 * can, and events.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "event_pipe.h"
#include "shared_stats.h"

#define THREADS 2

static struct rackwire_stats blocks[THREADS];
static pthread_t threads[THREADS];
static struct rackwire_event_pipe events = { -1, -1 };
static int stopping;

uint32_t rackwire_fixture_abi_version(void);
int rackwire_fixture_start(void *memory, size_t length);
int rackwire_fixture_stop(uint64_t *totals);
int rackwire_fixture_events(uint32_t count);
int rackwire_fixture_fail(char *message, size_t length);

uint32_t rackwire_fixture_abi_version(void)
{
	return 7;
}

/* Counters 0 and 1 always agree between begin and end. */
static void *writer(void *arg)
{
	struct rackwire_stats *stats = arg;
	uint64_t value = 1;

	while (!__atomic_load_n(&stopping, __ATOMIC_RELAXED)) {
		int pause;

		rackwire_stats_begin(stats);
		rackwire_stats_add(stats, 0, 1);
		rackwire_stats_add(stats, 1, 1);
		rackwire_stats_end(stats);
		value = value * 6364136223846793005ULL + 1442695040888963407ULL;
		rackwire_histogram_record(stats->histograms, value >> 40);
		for (pause = 0; pause < 200; pause++)
			__asm__ volatile("");
	}
	return NULL;
}

int rackwire_fixture_start(void *memory, size_t length)
{
	uint32_t i;
	int err;

	stopping = 0;
	for (i = 0; i < THREADS; i++) {
		err = rackwire_stats_init(&blocks[i], memory, length, i, 2, 1);
		if (err)
			return err;
	}
	for (i = 0; i < THREADS; i++) {
		err = pthread_create(&threads[i], NULL, writer, &blocks[i]);
		if (err)
			return -err;
	}
	return 0;
}

/* totals: what was counted, then the sum, minimum and maximum of the values. */
int rackwire_fixture_stop(uint64_t *totals)
{
	uint32_t i;

	__atomic_store_n(&stopping, 1, __ATOMIC_RELAXED);
	totals[0] = 0;
	totals[1] = 0;
	totals[2] = UINT64_MAX;
	totals[3] = 0;
	for (i = 0; i < THREADS; i++) {
		struct rackwire_histogram *histogram = blocks[i].histograms;

		pthread_join(threads[i], NULL);
		totals[0] += blocks[i].counters[0];
		totals[1] += histogram->sum;
		if (histogram->min < totals[2])
			totals[2] = histogram->min;
		if (histogram->max > totals[3])
			totals[3] = histogram->max;
	}
	return 0;
}

static void *sender(void *arg)
{
	uint32_t count = *(uint32_t *)arg, i;

	for (i = 0; i < count; i++)
		while (rackwire_event_pipe_send(&events, 5, i, 10ULL * i) ==
		       -EAGAIN)
			;
	/* The read end must outlive the reader's opening of it. */
	close(events.write_fd);
	events.write_fd = -1;
	return NULL;
}

/* Sends so many events from a thread and closes the pipe; returns the fd. */
int rackwire_fixture_events(uint32_t count)
{
	static uint32_t wanted;
	pthread_t thread;
	int err;

	err = rackwire_event_pipe_open(&events);
	if (err)
		return err;
	wanted = count;
	err = pthread_create(&thread, NULL, sender, &wanted);
	if (err)
		return -err;
	pthread_detach(thread);
	return events.read_fd;
}

int rackwire_fixture_fail(char *message, size_t length)
{
	snprintf(message, length, "port 4000 is taken");
	return -EADDRINUSE;
}
