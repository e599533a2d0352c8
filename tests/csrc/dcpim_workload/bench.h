/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bench.h: a server and a client in one process, on loopback, each on threads of
 * its own, and what their statistics say.
 */
#ifndef RACKWIRE_TESTS_DCPIM_WORK_BENCH_H
#define RACKWIRE_TESTS_DCPIM_WORK_BENCH_H

#include <pthread.h>
#include <stdint.h>

#include "rackwire_dcpim_work.h"
#include "shared_stats.h"

#define DCPIM (1u << RACKWIRE_DCPIM_WORK_DCPIM)
#define TCP (1u << RACKWIRE_DCPIM_WORK_TCP)
#define UDP (1u << RACKWIRE_DCPIM_WORK_UDP)

struct bench {
	struct rackwire_dcpim_config engine;
	struct rackwire_dcpim_work_config config;
	struct rackwire_dcpim_work *work;
	void *stats;
	char error[RACKWIRE_DCPIM_WORK_ERROR_LEN];
	pthread_t thread;
	int result;
};

/* A configuration of one kind, towards or at 127.0.0.1. */
void bench_init(struct bench *b, uint32_t kind, uint32_t transports);
/* Return: as rackwire_dcpim_work_open(). */
int bench_open(struct bench *b);
/* Run on a thread of its own. */
void bench_start(struct bench *b);
/* Wait for the end of the run. Return: its result. */
int bench_join(struct bench *b);
void bench_close(struct bench *b);

/* A server with every transport at a port of the kernel's choice; then running. Return: its port, 0: no. */
uint16_t bench_server(struct bench *b, uint32_t flags);
/* Stop it, take it down. Return: its result. */
int bench_server_end(struct bench *b);

/* Open, run to the end. Return: the result; close when the figures are read. */
int bench_run(struct bench *b, uint16_t port);

/* Sum over all threads. */
uint64_t bench_count(const struct bench *b, uint32_t transport, uint32_t counter);
/* Values in the histogram of a transport. */
uint64_t bench_recorded(const struct bench *b, uint32_t transport);

#endif
