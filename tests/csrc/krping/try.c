// SPDX-License-Identifier: BSD-2-Clause
/*
 * One run of krping from the command line, for guests and namespaces, where it
 * starts faster than the whole of rackwire:
 *
 *	krping_try ENGINE KIND address=A port=P length=N count=N flags=N op=N txdepth=N connections=N ...
 *
 * Says "ready PORT" and at the end one line of JSON. SIGINT and SIGTERM stop it.
 * The exit status is 0, or 1 with the error in the JSON, or 3 where the machine
 * lacks what the engine needs.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rackwire_krping.h"
#include "shared_stats.h"

static struct rackwire_krping_work *work;
static sigset_t signals;

static void *stopper(void *arg)
{
	int signal;

	(void)arg;
	sigwait(&signals, &signal);
	rackwire_krping_stop(work);
	return NULL;
}

static uint32_t index_of(const char *word, const char *const *words, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		if (!strcmp(words[i], word))
			return i + 1;
	fprintf(stderr, "what is %s?\n", word);
	exit(2);
}

static void set(struct rackwire_krping_config *c, const char *argument)
{
	const char *value = strchr(argument, '=');
	unsigned long long number;

	if (!value) {
		fprintf(stderr, "what is %s?\n", argument);
		exit(2);
	}
	value++;
	number = strtoull(value, NULL, 0);
#define IS(name) !strncmp(argument, name "=", strlen(name) + 1)
	if (IS("address"))
		snprintf(c->address, sizeof(c->address), "%s", value);
	else if (IS("local"))
		snprintf(c->local, sizeof(c->local), "%s", value);
	else if (IS("port"))
		c->port = (uint16_t)number;
	else if (IS("length"))
		c->length = (uint32_t)number;
	else if (IS("count"))
		c->count = number;
	else if (IS("warmup"))
		c->warmup_count = number;
	else if (IS("duration_ms"))
		c->duration_ns = number * 1000000;
	else if (IS("interval_ms"))
		c->interval_ns = number * 1000000;
	else if (IS("timeout_ms"))
		c->timeout_ns = number * 1000000;
	else if (IS("flags"))
		c->flags = (uint32_t)number;
	else if (IS("op"))
		c->op = (uint8_t)number;
	else if (IS("txdepth"))
		c->txdepth = (uint32_t)number;
	else if (IS("connections"))
		c->connections = (uint32_t)number;
	else if (IS("mtu"))
		c->mtu = (uint32_t)number;
	else if (IS("ack_timeout"))
		c->ack_timeout = (uint32_t)number;
	else if (IS("tos"))
		c->tos = (uint8_t)number;
	else
		set(c, "");
}

static uint64_t quantile(const struct rackwire_histogram *h, double q)
{
	uint64_t all = 0, sum = 0;
	uint32_t i;

	for (i = 0; i < RACKWIRE_HISTOGRAM_BUCKETS; i++)
		all += h->buckets[i];
	for (i = 0; i < RACKWIRE_HISTOGRAM_BUCKETS && all; i++) {
		sum += h->buckets[i];
		if ((double)sum >= q * (double)all)
			return rackwire_histogram_lower(i);
	}
	return 0;
}

static void report(const void *stats, int result, const char *error)
{
	static const char *const names[] = {
		"send_bytes", "send_msgs", "recv_bytes", "recv_msgs", "write_bytes", "write_msgs", "read_bytes",
		"read_msgs", "atomic_msgs", "opened", "open", "failed", "refused", "completed", "warmup",
		"verified_bytes", "corrupt_bytes", "measured_bytes", "measured_ns", "cpu_ns", "peer_bytes",
		"rtx_packets", "timeouts", "seq_naks", "rnr_naks",
	};
	const char *block = (const char *)(((uintptr_t)stats + 63) & ~(uintptr_t)63);
	const uint64_t *counters = (const uint64_t *)(const void *)(block + 64);
	const struct rackwire_histogram *h =
		(const void *)(block + 64 + (RACKWIRE_KRPING_COUNTERS * 8 + 63) / 64 * 64);
	uint32_t i;

	printf("{\"result\": %d, \"error\": \"%s\"", result, error);
	if (stats) {
		for (i = 0; i < RACKWIRE_KRPING_COUNTERS; i++)
			printf(", \"%s\": %llu", names[i], (unsigned long long)counters[i]);
		printf(", \"p50_ns\": %llu, \"p99_ns\": %llu", (unsigned long long)quantile(h, 0.5),
		       (unsigned long long)quantile(h, 0.99));
	}
	printf("}\n");
}

int main(int argc, char **argv)
{
	static const char *const engines[] = { "kernel", "verbs", "soft" };
	static const char *const kinds[] = { "server", "ping", "wlat", "rlat", "slat", "alat", "bw" };
	struct rackwire_krping_config config = { .size = sizeof(config) };
	size_t length = rackwire_krping_stats_length();
	void *stats = calloc(1, length);
	char error[RACKWIRE_KRPING_ERROR_LEN];
	pthread_t thread;
	int i, result;

	if (argc < 3) {
		fprintf(stderr, "usage: krping_try ENGINE KIND NAME=VALUE ...\n");
		return 2;
	}
	config.engine = index_of(argv[1], engines, 3);
	config.kind = index_of(argv[2], kinds, 7);
	for (i = 3; i < argc; i++)
		set(&config, argv[i]);
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	result = rackwire_krping_open(&config, stats, length, &work, error, sizeof(error));
	if (result) {
		report(NULL, result, error);
		return result == -ENODEV ? 3 : 1;
	}
	pthread_create(&thread, NULL, stopper, NULL);
	printf("ready %u\n", rackwire_krping_port(work));
	fflush(stdout);
	result = rackwire_krping_run(work, error, sizeof(error));
	report(stats, result, error);
	pthread_cancel(thread);
	pthread_join(thread, NULL);
	rackwire_krping_close(work);
	free(stats);
	return result != 0;
}
