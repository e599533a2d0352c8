/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bench.h: servers and clients of krping in one process, over the soft engine on
 * loopback, each on a thread of its own, and what their statistics say.
 */
#ifndef RACKWIRE_TESTS_KRPING_BENCH_H
#define RACKWIRE_TESTS_KRPING_BENCH_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "rackwire_krping.h"
#include "shared_stats.h"

struct bench {
	struct rackwire_krping_config config;
	struct rackwire_krping_work *work;
	void *stats;
	char error[RACKWIRE_KRPING_ERROR_LEN];
	pthread_t thread;
	int result;
};

#define COUNT(b, name) bench_count(b, RACKWIRE_KRPING_##name)

/* The configuration of a client or server at 127.0.0.1. */
void bench_init(struct bench *b, uint32_t kind);
/* Return: as rackwire_krping_open(). */
int bench_open(struct bench *b);
/* Run on a thread of its own. */
void bench_start(struct bench *b);
/* Wait for the end of the run. Return: its result. */
int bench_join(struct bench *b);
void bench_close(struct bench *b);

/* Open and start a server that has been initialised. Return: its port; 0: no. */
uint16_t bench_serve(struct bench *b);
/* A server with all defaults but its flags. */
uint16_t bench_server(struct bench *b, uint32_t flags);
/* Stop it, wait. Return: its result. Figures can be read until bench_close(). */
int bench_stop(struct bench *b);

/* Open, run to the end. Return: the result; close when the figures are read. */
int bench_run(struct bench *b, uint16_t port);

uint64_t bench_count(const struct bench *b, uint32_t counter);
/* Values in the histogram. */
uint64_t bench_recorded(const struct bench *b);
/* Wait until a counter has reached a value. Return: false when it takes many seconds. */
bool bench_until(const struct bench *b, uint32_t counter, uint64_t value);

#endif
