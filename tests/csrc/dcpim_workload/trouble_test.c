// SPDX-License-Identifier: BSD-2-Clause
/* Runs that cannot go well: each ends by itself, with an error that says why. */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "tap.h"

#define COUNT(b, t, name) bench_count(b, RACKWIRE_DCPIM_WORK_##t, RACKWIRE_DCPIM_WORK_##name)
#define MS 1000000ull

/* ---- nobody there ---- */

static bool refused(uint32_t kind, uint32_t transport, uint32_t flags)
{
	struct bench c, s;
	uint16_t port = bench_server(&s, 0);
	int result;

	/* A port that was free a moment ago. */
	bench_server_end(&s);
	bench_init(&c, kind, transport);
	c.config.flags = flags;
	c.config.connections = 2;
	result = bench_run(&c, port);
	printf("# %s\n", c.error);
	bench_close(&c);
	return result == -ECONNREFUSED && strstr(c.error, "nothing listens at 127.0.0.1 port ");
}

static void run__without_a_listener_is_refused(void)
{
	TAP_CHECK(refused(RACKWIRE_DCPIM_WORK_PING, DCPIM, 0));
	TAP_CHECK(refused(RACKWIRE_DCPIM_WORK_PING, DCPIM, RACKWIRE_DCPIM_WORK_SHORT));
	TAP_CHECK(refused(RACKWIRE_DCPIM_WORK_PING, TCP, 0));
	TAP_CHECK(refused(RACKWIRE_DCPIM_WORK_PING, UDP, 0));
	TAP_CHECK(refused(RACKWIRE_DCPIM_WORK_STREAM, DCPIM | TCP, RACKWIRE_DCPIM_WORK_REVERSE));
	TAP_CHECK(refused(RACKWIRE_DCPIM_WORK_MESSAGE, DCPIM, 0));
}

/* A server of streams only has no place for messages, and the other way round. */
static void run__of_the_kind_not_served_is_refused(void)
{
	struct bench s, c;
	int streams, messages;
	uint16_t port;

	port = bench_server(&s, RACKWIRE_DCPIM_WORK_STREAMS_ONLY);
	bench_init(&c, RACKWIRE_DCPIM_WORK_MESSAGE, DCPIM);
	messages = bench_run(&c, port);
	bench_close(&c);
	bench_server_end(&s);
	port = bench_server(&s, RACKWIRE_DCPIM_WORK_MESSAGES_ONLY);
	bench_init(&c, RACKWIRE_DCPIM_WORK_STREAM, DCPIM);
	streams = bench_run(&c, port);
	bench_close(&c);
	bench_server_end(&s);
	TAP_CHECK(messages == -ECONNREFUSED && streams == -ECONNREFUSED);
}

/* ---- a peer that dies ---- */

/* A server in a process of its own, which can be killed. Return: its port. */
static uint16_t server_process(pid_t *pid)
{
	uint16_t port = 0;
	int fds[2];

	if (pipe(fds))
		return 0;
	*pid = fork();
	if (!*pid) {
		struct bench s;

		port = bench_server(&s, 0);
		if (write(fds[1], &port, sizeof(port)) == sizeof(port))
			bench_join(&s);
		_exit(0);
	}
	close(fds[1]);
	if (read(fds[0], &port, sizeof(port)) != sizeof(port))
		port = 0;
	close(fds[0]);
	return port;
}

static void wait_for(const struct bench *c, uint32_t transport, uint32_t counter, uint64_t value)
{
	int i;

	for (i = 0; i < 20000 && bench_count(c, transport, counter) < value; i++)
		usleep(1000);
}

static bool survives_death(uint32_t kind, uint32_t transport, uint32_t flags, uint32_t counter)
{
	struct bench c;
	bool good = false;
	uint32_t t = transport == DCPIM ? RACKWIRE_DCPIM_WORK_DCPIM :
		     transport == TCP	? RACKWIRE_DCPIM_WORK_TCP :
					  RACKWIRE_DCPIM_WORK_UDP;
	pid_t pid;
	uint16_t port = server_process(&pid);
	int result;

	bench_init(&c, kind, transport);
	c.engine.dead_after_ns = 500 * MS;
	c.config.flags = flags;
	c.config.port = port;
	c.config.timeout_ns = 100 * MS;
	if (port && !bench_open(&c)) {
		bench_start(&c);
		wait_for(&c, t, counter, 1000);
		good = bench_count(&c, t, counter) >= 1000;
		kill(pid, SIGKILL);
		result = bench_join(&c);
		printf("# %d %s\n", result, c.error);
		good = good && (result == -ECONNRESET || result == -ETIMEDOUT || result == -ECONNREFUSED);
		good = good && strstr(c.error, "127.0.0.1 port ") && !bench_count(&c, t, RACKWIRE_DCPIM_WORK_OPEN);
		bench_close(&c);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return good;
}

static void ping__ends_when_the_server_is_killed(void)
{
	TAP_CHECK(survives_death(RACKWIRE_DCPIM_WORK_PING, DCPIM, 0, RACKWIRE_DCPIM_WORK_COMPLETED));
	TAP_CHECK(survives_death(RACKWIRE_DCPIM_WORK_PING, DCPIM, RACKWIRE_DCPIM_WORK_SHORT, RACKWIRE_DCPIM_WORK_COMPLETED));
	TAP_CHECK(survives_death(RACKWIRE_DCPIM_WORK_PING, TCP, 0, RACKWIRE_DCPIM_WORK_COMPLETED));
	TAP_CHECK(survives_death(RACKWIRE_DCPIM_WORK_PING, UDP, 0, RACKWIRE_DCPIM_WORK_COMPLETED));
}

static void stream__ends_when_the_server_is_killed(void)
{
	TAP_CHECK(survives_death(RACKWIRE_DCPIM_WORK_STREAM, DCPIM, 0, RACKWIRE_DCPIM_WORK_TX_BYTES));
	TAP_CHECK(survives_death(RACKWIRE_DCPIM_WORK_STREAM, TCP, 0, RACKWIRE_DCPIM_WORK_TX_BYTES));
	TAP_CHECK(survives_death(RACKWIRE_DCPIM_WORK_STREAM, UDP, 0, RACKWIRE_DCPIM_WORK_TX_BYTES));
}

static void stream__from_the_server_ends_when_that_is_killed(void)
{
	TAP_CHECK(survives_death(RACKWIRE_DCPIM_WORK_STREAM, DCPIM, RACKWIRE_DCPIM_WORK_REVERSE,
				 RACKWIRE_DCPIM_WORK_RX_BYTES));
	TAP_CHECK(survives_death(RACKWIRE_DCPIM_WORK_STREAM, TCP, RACKWIRE_DCPIM_WORK_REVERSE,
				 RACKWIRE_DCPIM_WORK_RX_BYTES));
}

static void message__ends_when_the_server_is_killed(void)
{
	TAP_CHECK(survives_death(RACKWIRE_DCPIM_WORK_MESSAGE, DCPIM, 0, RACKWIRE_DCPIM_WORK_COMPLETED));
}

/* A client that vanishes leaves the server as it was. */
static void server__outlives_a_client_that_is_killed(void)
{
	struct bench s, c;
	int fds[2], i;
	uint16_t port;
	bool good;
	pid_t pid;

	/* The client is forked before the server's threads are there. */

	TAP_CHECK(!pipe(fds));
	pid = fork();
	if (!pid) {
		if (read(fds[0], &port, sizeof(port)) == sizeof(port)) {
			bench_init(&c, RACKWIRE_DCPIM_WORK_STREAM, DCPIM | TCP);
			c.config.slice_ns = 20 * MS;
			bench_run(&c, port);
		}
		_exit(0);
	}
	bench_init(&s, RACKWIRE_DCPIM_WORK_SERVER, DCPIM | TCP | UDP);
	s.engine.dead_after_ns = 300 * MS;
	s.engine.keepalive_ns = 100 * MS;
	good = !bench_open(&s);
	if (good) {
		port = rackwire_dcpim_work_port(s.work, RACKWIRE_DCPIM_WORK_DCPIM);
		bench_start(&s);
		good = write(fds[1], &port, sizeof(port)) == sizeof(port);
		wait_for(&s, RACKWIRE_DCPIM_WORK_DCPIM, RACKWIRE_DCPIM_WORK_RX_BYTES, 1000000);
		wait_for(&s, RACKWIRE_DCPIM_WORK_TCP, RACKWIRE_DCPIM_WORK_RX_BYTES, 1000000);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		for (i = 0; i < 20000 && (COUNT(&s, DCPIM, OPEN) || COUNT(&s, TCP, OPEN)); i++)
			usleep(1000);
		good = good && COUNT(&s, DCPIM, FAILED) == 1 && !COUNT(&s, DCPIM, OPEN) && !COUNT(&s, TCP, OPEN);
		bench_init(&c, RACKWIRE_DCPIM_WORK_PING, DCPIM | TCP);
		c.config.count = 10;
		good = good && !bench_run(&c, port);
		bench_close(&c);
		good = !bench_server_end(&s) && good;
	}
	close(fds[0]);
	close(fds[1]);
	TAP_CHECK(good);
}

/* ---- ends that are asked for ---- */

static bool stops(uint32_t kind, uint32_t transports, uint32_t flags)
{
	struct bench s, c;
	uint16_t port = bench_server(&s, 0);
	bool good = false;

	bench_init(&c, kind, transports);
	c.config.flags = flags;
	c.config.port = port;
	c.config.slice_ns = 10 * MS;
	if (!bench_open(&c)) {
		bench_start(&c);
		usleep(60000);
		rackwire_dcpim_work_stop(c.work);
		good = !bench_join(&c);
		if (!good)
			printf("# %s\n", c.error);
	}
	/* Stopped in good order: the server had its chance to give its account. */
	if (transports & DCPIM)
		good = good && COUNT(&c, DCPIM, PEER_REPORTS) == 1 && !COUNT(&s, DCPIM, FAILED);
	if (transports & TCP)
		good = good && COUNT(&c, TCP, PEER_REPORTS) == 1 && !COUNT(&s, TCP, FAILED);
	bench_close(&c);
	return !bench_server_end(&s) && good;
}

static void stop__ends_a_client_in_good_order(void)
{
	TAP_CHECK(stops(RACKWIRE_DCPIM_WORK_PING, DCPIM | TCP | UDP, 0));
	TAP_CHECK(stops(RACKWIRE_DCPIM_WORK_PING, DCPIM, RACKWIRE_DCPIM_WORK_SHORT));
	TAP_CHECK(stops(RACKWIRE_DCPIM_WORK_STREAM, DCPIM | TCP, 0));
	TAP_CHECK(stops(RACKWIRE_DCPIM_WORK_STREAM, TCP, RACKWIRE_DCPIM_WORK_REVERSE));
	TAP_CHECK(stops(RACKWIRE_DCPIM_WORK_STREAM, DCPIM, RACKWIRE_DCPIM_WORK_REVERSE));
	TAP_CHECK(stops(RACKWIRE_DCPIM_WORK_MESSAGE, DCPIM, 0));
}

static void stop__before_the_run_makes_it_short(void)
{
	struct bench s, c;

	bench_init(&s, RACKWIRE_DCPIM_WORK_SERVER, DCPIM | TCP | UDP);
	TAP_CHECK(!bench_open(&s));
	rackwire_dcpim_work_stop(s.work);
	bench_init(&c, RACKWIRE_DCPIM_WORK_PING, DCPIM | TCP | UDP);
	c.config.port = rackwire_dcpim_work_port(s.work, RACKWIRE_DCPIM_WORK_DCPIM);
	TAP_CHECK(!bench_open(&c));
	rackwire_dcpim_work_stop(c.work);
	bench_start(&s);
	bench_start(&c);
	TAP_CHECK(!bench_join(&s) && !bench_join(&c));
	TAP_CHECK(rackwire_dcpim_work_run(s.work, s.error, sizeof(s.error)) == -EALREADY);
	bench_close(&c);
	bench_close(&s);
}

static void stop__of_the_server_breaks_its_clients_off(void)
{
	struct bench s, c;
	uint16_t port = bench_server(&s, 0);
	int result;

	bench_init(&c, RACKWIRE_DCPIM_WORK_PING, DCPIM);
	c.config.port = port;
	TAP_CHECK(!bench_open(&c));
	bench_start(&c);
	wait_for(&c, RACKWIRE_DCPIM_WORK_DCPIM, RACKWIRE_DCPIM_WORK_COMPLETED, 100);
	result = bench_server_end(&s);
	TAP_CHECK(!result);
	result = bench_join(&c);
	bench_close(&c);
	TAP_CHECK(result == -ECONNRESET);
}

static void close__without_a_run_frees_everything(void)
{
	struct bench s, c;

	bench_init(&s, RACKWIRE_DCPIM_WORK_SERVER, DCPIM | TCP | UDP);
	TAP_CHECK(!bench_open(&s));
	bench_init(&c, RACKWIRE_DCPIM_WORK_PING, DCPIM | TCP | UDP);
	c.config.port = 1;
	c.config.connections = 100;
	c.config.iodepth = 100;
	TAP_CHECK(!bench_open(&c));
	bench_close(&c);
	bench_close(&s);
}

/* ---- what is refused before anything happens ---- */

static bool refuses(struct bench *b, int error, const char *words)
{
	int result = bench_open(b);
	bool good = result == error && strstr(b->error, words);

	if (!good)
		printf("# %d: %s\n", result, b->error);
	if (!result)
		bench_close(b);
	return good;
}

static void open__refuses_two_servers_on_one_port(void)
{
	static const uint32_t each[] = { DCPIM, TCP, UDP };
	static const char *const names[] = { "dcPIM port ", "TCP port ", "UDP port " };
	struct bench s, again;
	uint16_t port = bench_server(&s, 0);
	bool good = true;
	int i;

	for (i = 0; i < 3; i++) {
		bench_init(&again, RACKWIRE_DCPIM_WORK_SERVER, each[i]);
		again.config.port = port;
		good = refuses(&again, -EADDRINUSE, names[i]) && good;
	}
	bench_server_end(&s);
	TAP_CHECK(good);
}

static void open__refuses_bad_values(void)
{
	struct bench b;

#define REFUSES(kind, transports, change, error, words)					\
	do {										\
		bench_init(&b, RACKWIRE_DCPIM_WORK_##kind, transports);			\
		b.config.port = 4000;							\
		change;									\
		TAP_CHECK(refuses(&b, error, words));					\
	} while (0)
	REFUSES(PING, DCPIM, b.config.size--, -EINVAL, "version");
	REFUSES(PING, DCPIM, b.engine.size--, -EINVAL, "version");
	REFUSES(PING, DCPIM, b.config.kind = 0, -EINVAL, "kind 0");
	REFUSES(PING, DCPIM, b.config.kind = 5, -EINVAL, "kind 5");
	REFUSES(PING, 8, (void)0, -EINVAL, "transports 0x8");
	REFUSES(PING, DCPIM, b.config.flags = 0x40, -EINVAL, "flags 0x40");
	REFUSES(PING, DCPIM, b.config.port = 0, -EINVAL, "port 0");
	REFUSES(PING, UDP, b.config.port = 65535, -EINVAL, "65535");
	REFUSES(PING, DCPIM, strcpy(b.config.address, "localhost"), -EINVAL, "localhost");
	REFUSES(PING, DCPIM, strcpy(b.config.address, "fe80::1%nosuchif"), -EINVAL, "nosuchif");
	REFUSES(PING, DCPIM, memset(b.config.address, '1', sizeof(b.config.address)), -EINVAL, "1111");
	REFUSES(PING, DCPIM, b.config.address[0] = 0, -EINVAL, "no address");
	REFUSES(PING, DCPIM, strcpy(b.config.local, "::1"), -EINVAL, "family");
	REFUSES(PING, DCPIM, b.config.connections = 1025, -EINVAL, "1025");
	REFUSES(PING, DCPIM, b.config.iodepth = 4097, -EINVAL, "4097");
	REFUSES(PING, DCPIM, b.config.length = (64 << 20) + 1, -EMSGSIZE, "length");
	REFUSES(PING, UDP, b.config.length = 65508, -EMSGSIZE, "datagram");
	REFUSES(PING, DCPIM, (b.config.sport = 65535, b.config.connections = 2), -EINVAL, "65535");
	REFUSES(MESSAGE, TCP, (void)0, -EOPNOTSUPP, "TCP");
	REFUSES(STREAM, UDP, b.config.flags = RACKWIRE_DCPIM_WORK_REVERSE, -EOPNOTSUPP, "revers");
	REFUSES(PING, DCPIM, b.engine.alpha_milli = 1, -EINVAL, "alpha");
	REFUSES(SERVER, DCPIM, strcpy(b.config.address, "192.0.2.1"), -EADDRNOTAVAIL, "address");
#undef REFUSES
}

static void open__refuses_statistics_that_are_too_small(void)
{
	struct bench b;
	void *stats = calloc(1, 1000);
	int result;

	bench_init(&b, RACKWIRE_DCPIM_WORK_PING, DCPIM);
	b.config.port = 4000;
	result = rackwire_dcpim_work_open(&b.engine, &b.config, stats, 1000, &b.work, b.error, sizeof(b.error));
	free(stats);
	TAP_CHECK(result == -ENOSPC);
}

static void message__over_the_peers_limit_is_refused(void)
{
	struct bench s, c;
	uint16_t port = bench_server(&s, 0);
	int result;

	bench_init(&c, RACKWIRE_DCPIM_WORK_MESSAGE, DCPIM);
	c.config.length = 40 << 20;
	result = bench_run(&c, port);
	printf("# %s\n", c.error);
	bench_close(&c);
	bench_server_end(&s);
	TAP_CHECK(result == -EMSGSIZE && strstr(c.error, "hold at most"));
}

static void ping__from_a_chosen_port(void)
{
	struct rackwire_dcpim_work_connection rows[4];
	struct bench s, c;
	uint16_t port = bench_server(&s, 0);
	char want[32];
	bool good;

	bench_init(&c, RACKWIRE_DCPIM_WORK_PING, DCPIM);
	c.config.count = 3;
	c.config.sport = (uint16_t)(20000 + getpid() % 10000);
	snprintf(want, sizeof(want), "127.0.0.1:%u", c.config.sport);
	good = !bench_run(&c, port) && rackwire_dcpim_work_connections(s.work, rows, 4) == 1 &&
	       !strcmp(rows[0].peer, want);
	if (!good)
		printf("# %s\n", c.error);
	bench_close(&c);
	bench_server_end(&s);
	TAP_CHECK(good);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(run__without_a_listener_is_refused),
		TAP_TEST(run__of_the_kind_not_served_is_refused),
		TAP_TEST(ping__ends_when_the_server_is_killed),
		TAP_TEST(stream__ends_when_the_server_is_killed),
		TAP_TEST(stream__from_the_server_ends_when_that_is_killed),
		TAP_TEST(message__ends_when_the_server_is_killed),
		TAP_TEST(server__outlives_a_client_that_is_killed),
		TAP_TEST(stop__ends_a_client_in_good_order),
		TAP_TEST(stop__before_the_run_makes_it_short),
		TAP_TEST(stop__of_the_server_breaks_its_clients_off),
		TAP_TEST(close__without_a_run_frees_everything),
		TAP_TEST(open__refuses_two_servers_on_one_port),
		TAP_TEST(open__refuses_bad_values),
		TAP_TEST(open__refuses_statistics_that_are_too_small),
		TAP_TEST(message__over_the_peers_limit_is_refused),
		TAP_TEST(ping__from_a_chosen_port),
	};

	return TAP_RUN(tests, argc, argv);
}
