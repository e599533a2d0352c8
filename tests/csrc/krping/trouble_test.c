// SPDX-License-Identifier: BSD-2-Clause
/* Runs that cannot go well: each ends by itself, with an error that says why. */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "tap.h"

#define MS 1000000ull

static const uint32_t kinds[] = { RACKWIRE_KRPING_PING, RACKWIRE_KRPING_WLAT, RACKWIRE_KRPING_RLAT,
				  RACKWIRE_KRPING_SLAT, RACKWIRE_KRPING_ALAT, RACKWIRE_KRPING_BW };
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* ---- what is asked for ---- */

static bool refused(int error, const char *words, void (*change)(struct rackwire_krping_config *c))
{
	struct bench b;
	int result;

	bench_init(&b, RACKWIRE_KRPING_PING);
	b.config.port = 9000;
	change(&b.config);
	result = bench_open(&b);
	if (result != error || !strstr(b.error, words))
		printf("# %d %s, not %d %s\n", result, b.error, error, words);
	bench_close(&b);
	return result == error && strstr(b.error, words);
}

static void other_size(struct rackwire_krping_config *c) { c->size--; }
static void no_kind(struct rackwire_krping_config *c) { c->kind = 8; }
static void no_engine(struct rackwire_krping_config *c) { c->engine = 4; }
static void kernel_engine(struct rackwire_krping_config *c) { c->engine = RACKWIRE_KRPING_KERNEL; }
static void no_address(struct rackwire_krping_config *c) { c->address[0] = 0; }
static void a_name(struct rackwire_krping_config *c) { strcpy(c->address, "localhost"); }
static void endless_address(struct rackwire_krping_config *c) { memset(c->address, '1', sizeof(c->address)); }
static void two_families(struct rackwire_krping_config *c) { strcpy(c->local, "::1"); }
static void not_ours(struct rackwire_krping_config *c) { strcpy(c->local, "192.0.2.7"); }
static void no_port(struct rackwire_krping_config *c) { c->port = 0; }
static void too_long(struct rackwire_krping_config *c) { c->length = RACKWIRE_KRPING_MAX_SIZE + 1; }
static void unknown_flag(struct rackwire_krping_config *c) { c->flags = 0x1000; }
static void duplex_ping(struct rackwire_krping_config *c) { c->flags = RACKWIRE_KRPING_DUPLEX; }
static void classic_read_inv(struct rackwire_krping_config *c) { c->flags = RACKWIRE_KRPING_CLASSIC | RACKWIRE_KRPING_READ_INV; }
static void deep_ping(struct rackwire_krping_config *c) { c->txdepth = 2; }
static void too_deep(struct rackwire_krping_config *c) { c->kind = RACKWIRE_KRPING_BW; c->txdepth = RACKWIRE_KRPING_MAX_TXDEPTH + 1; }
static void too_many(struct rackwire_krping_config *c) { c->connections = RACKWIRE_KRPING_MAX_CLIENTS + 1; }
static void odd_mtu(struct rackwire_krping_config *c) { c->mtu = 1500; }
static void long_atomic(struct rackwire_krping_config *c) { c->kind = RACKWIRE_KRPING_ALAT; c->length = 16; }
static void odd_op(struct rackwire_krping_config *c) { c->op = RACKWIRE_KRPING_OP_READ; }
static void many_retries(struct rackwire_krping_config *c) { c->retry_count = 9; }
static void validating_server(struct rackwire_krping_config *c) { c->kind = RACKWIRE_KRPING_SERVER; c->flags = RACKWIRE_KRPING_VALIDATE; }

static void open__refuses_what_makes_no_sense(void)
{
	TAP_CHECK(refused(-EINVAL, "another version", other_size));
	TAP_CHECK(refused(-EINVAL, "kind 8", no_kind));
	TAP_CHECK(refused(-EINVAL, "engine 4", no_engine));
	TAP_CHECK(refused(-ENODEV, "module", kernel_engine));
	TAP_CHECK(refused(-EINVAL, "no address", no_address));
	TAP_CHECK(refused(-EINVAL, "localhost is not an address", a_name));
	TAP_CHECK(refused(-EINVAL, "is not an address", endless_address));
	TAP_CHECK(refused(-EINVAL, "one address family", two_families));
	TAP_CHECK(refused(-EADDRNOTAVAIL, "192.0.2.7: Cannot assign", not_ours));
	TAP_CHECK(refused(-EINVAL, "port 0", no_port));
	TAP_CHECK(refused(-EINVAL, "size of 1073741825", too_long));
	TAP_CHECK(refused(-EINVAL, "flags 0x1000", unknown_flag));
	TAP_CHECK(refused(-EINVAL, "flags 0x80", duplex_ping));
	TAP_CHECK(refused(-EINVAL, "classic", classic_read_inv));
	TAP_CHECK(refused(-EINVAL, "txdepth", deep_ping));
	TAP_CHECK(refused(-EINVAL, "txdepth of 8193", too_deep));
	TAP_CHECK(refused(-EINVAL, "4097 connections", too_many));
	TAP_CHECK(refused(-EINVAL, "1500", odd_mtu));
	TAP_CHECK(refused(-EINVAL, "8 bytes, not 16", long_atomic));
	TAP_CHECK(refused(-EINVAL, "operation 1", odd_op));
	TAP_CHECK(refused(-EINVAL, "retry counts", many_retries));
	TAP_CHECK(refused(-EINVAL, "flags 0x1", validating_server));
}

static void open__of_a_port_in_use_is_refused(void)
{
	struct bench s, again;
	uint16_t port = bench_server(&s, 0);

	bench_init(&again, RACKWIRE_KRPING_SERVER);
	again.config.port = port;
	TAP_CHECK(bench_open(&again) == -EADDRINUSE);
	TAP_CHECK(strstr(again.error, "in use"));
	bench_stop(&s);
	bench_close(&s);
	TAP_CHECK(!bench_open(&again));
	bench_close(&again);
}

static void run__happens_once(void)
{
	struct bench s;

	TAP_CHECK(bench_server(&s, 0));
	TAP_CHECK(!bench_stop(&s));
	TAP_CHECK(rackwire_krping_run(s.work, s.error, sizeof(s.error)) == -EALREADY);
	bench_close(&s);
}

/* ---- nobody there ---- */

static void run__without_a_listener_is_refused(void)
{
	struct bench s, c;
	uint16_t port;
	size_t i;

	/* A port that was free a moment ago, with a device behind the address. */
	port = bench_server(&s, 0);
	bench_stop(&s);
	bench_close(&s);
	for (i = 0; i < KINDS; i++) {
		bench_init(&c, kinds[i]);
		c.config.connections = 2;
		TAP_CHECK(bench_run(&c, port) == -ECONNREFUSED);
		TAP_CHECK(strstr(c.error, "nothing listens at 127.0.0.1 port "));
		bench_close(&c);
	}
}

/* A socket that has the address and says nothing. */
static int mute(const char *address)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(4791) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	inet_pton(AF_INET, address, &sin.sin_addr);
	if (bind(fd, (struct sockaddr *)&sin, sizeof(sin))) {
		close(fd);
		return -1;
	}
	return fd;
}

static void run__without_an_answer_times_out(void)
{
	struct bench c;
	int fd = mute("127.0.0.93");

	if (fd < 0)
		TAP_SKIP("another program has UDP port 4791 of every address");
	bench_init(&c, RACKWIRE_KRPING_PING);
	strcpy(c.config.address, "127.0.0.93");
	strcpy(c.config.local, "127.0.0.1");
	c.config.timeout_ns = 300 * MS;
	TAP_CHECK(bench_run(&c, 9000) == -ETIMEDOUT && strstr(c.error, "127.0.0.93 port 9000"));
	bench_close(&c);
	close(fd);
}

static void run__to_an_address_without_rdma_fails(void)
{
	struct bench c;
	int result;

	bench_init(&c, RACKWIRE_KRPING_PING);
	strcpy(c.config.address, "127.0.0.94");
	strcpy(c.config.local, "127.0.0.1");
	c.config.timeout_ns = 2000 * MS;
	result = bench_run(&c, 9000);
	TAP_CHECK(result == -ECONNREFUSED || result == -ETIMEDOUT);
	bench_close(&c);
}

/* ---- the server's limits ---- */

static void server__grants_no_more_than_it_has(void)
{
	struct bench s, c;
	uint16_t port;

	bench_init(&s, RACKWIRE_KRPING_SERVER);
	s.config.memory = 1 << 20;
	s.config.length = 1 << 20;
	port = bench_serve(&s);
	bench_init(&c, RACKWIRE_KRPING_RLAT);
	c.config.length = (1 << 20) + 1;
	TAP_CHECK(bench_run(&c, port) == -EMSGSIZE && strstr(c.error, "at most 1048576 bytes"));
	bench_close(&c);
	bench_init(&c, RACKWIRE_KRPING_RLAT);
	c.config.length = 1 << 20; /* twice that is needed */
	TAP_CHECK(bench_run(&c, port) == -ECONNREFUSED && strstr(c.error, "no memory"));
	bench_close(&c);
	/* A classic client's size is known only when it has connected. */
	bench_init(&c, RACKWIRE_KRPING_PING);
	c.config.flags = RACKWIRE_KRPING_CLASSIC;
	c.config.length = (1 << 20) + 1;
	TAP_CHECK(bench_run(&c, port) == -ECONNRESET);
	bench_close(&c);
	/* Memory comes back with the client that had it. */
	bench_init(&c, RACKWIRE_KRPING_RLAT);
	c.config.length = 1 << 19;
	c.config.count = 10;
	TAP_CHECK(!bench_run(&c, port));
	bench_close(&c);
	bench_init(&c, RACKWIRE_KRPING_PING);
	c.config.length = 1 << 20;
	c.config.count = 3;
	TAP_CHECK(!bench_run(&c, port));
	bench_close(&c);
	bench_stop(&s);
	TAP_CHECK(COUNT(&s, REFUSED) == 2 && COUNT(&s, FAILED) == 1);
	bench_close(&s);
}

/* ---- peers that go ---- */

static void client__of_a_server_that_stops_says_so(void)
{
	struct bench s, c;
	uint16_t port;
	size_t i;

	for (i = 0; i < KINDS; i++) {
		port = bench_server(&s, 0);
		bench_init(&c, kinds[i]);
		c.config.port = port;
		c.config.connections = 2;
		TAP_CHECK(!bench_open(&c));
		bench_start(&c);
		TAP_CHECK(bench_until(&c, RACKWIRE_KRPING_COMPLETED, 10));
		TAP_CHECK(!bench_stop(&s));
		bench_close(&s);
		TAP_CHECK(bench_join(&c) == -ECONNRESET || c.result == -ETIMEDOUT);
		TAP_CHECK(strstr(c.error, "127.0.0.1 port "));
		bench_close(&c);
	}
}

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
		if (write(fds[1], &port, sizeof(port)) != sizeof(port))
			_exit(1);
		bench_join(&s);
		_exit(0);
	}
	close(fds[1]);
	if (read(fds[0], &port, sizeof(port)) != sizeof(port))
		port = 0;
	close(fds[0]);
	return port;
}

static void client__of_a_server_that_is_killed_says_so(void)
{
	struct bench c;
	uint16_t port;
	pid_t pid;
	size_t i;

	for (i = 0; i < KINDS; i++) {
		port = server_process(&pid);
		TAP_CHECK(port);
		bench_init(&c, kinds[i]);
		c.config.port = port;
		c.config.length = kinds[i] == RACKWIRE_KRPING_ALAT ? 8 : 100000;
		c.config.ack_timeout = 14;
		TAP_CHECK(!bench_open(&c));
		bench_start(&c);
		TAP_CHECK(bench_until(&c, RACKWIRE_KRPING_COMPLETED, 10));
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		bench_join(&c);
		printf("# kind %u: %d %s\n", kinds[i], c.result, c.error);
		TAP_CHECK(c.result == -ETIMEDOUT || c.result == -ECONNRESET);
		bench_close(&c);
	}
}

/* Two clients in a process that is killed; a third one goes on, and the server forgets them. */
static void server__outlives_clients_that_are_killed(void)
{
	struct bench s, c;
	uint16_t port = bench_server(&s, 0);
	pid_t pid;
	int i;

	bench_init(&c, RACKWIRE_KRPING_PING);
	c.config.port = port;
	TAP_CHECK(!bench_open(&c));
	bench_start(&c);
	TAP_CHECK(bench_until(&c, RACKWIRE_KRPING_COMPLETED, 1));
	pid = fork();
	if (!pid) {
		char text[16], path[] = "/proc/self/exe";

		snprintf(text, sizeof(text), "%u", port);
		execl(path, path, "--client", text, NULL);
		_exit(1);
	}
	TAP_CHECK(bench_until(&s, RACKWIRE_KRPING_OPENED, 3));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	for (i = 0; i < 30000 && COUNT(&s, OPEN) > 1; i++)
		usleep(1000);
	TAP_CHECK(COUNT(&s, OPEN) == 1 && COUNT(&s, FAILED) == 2);
	i = (int)COUNT(&c, COMPLETED);
	TAP_CHECK(bench_until(&c, RACKWIRE_KRPING_COMPLETED, (uint64_t)i + 10));
	TAP_CHECK(!bench_stop(&c));
	bench_close(&c);
	bench_stop(&s);
	bench_close(&s);
}

/* ---- stopping ---- */

static void stop__before_the_run_ends_it_at_once(void)
{
	struct bench s, c;
	uint16_t port = bench_server(&s, 0);

	bench_init(&c, RACKWIRE_KRPING_PING);
	c.config.port = port;
	TAP_CHECK(!bench_open(&c));
	rackwire_krping_stop(c.work);
	TAP_CHECK(!rackwire_krping_run(c.work, c.error, sizeof(c.error)) && !COUNT(&c, COMPLETED));
	bench_close(&c);
	bench_stop(&s);
	bench_close(&s);
	bench_init(&s, RACKWIRE_KRPING_SERVER);
	TAP_CHECK(!bench_open(&s));
	rackwire_krping_stop(s.work);
	TAP_CHECK(!rackwire_krping_run(s.work, s.error, sizeof(s.error)));
	bench_close(&s);
}

static void stop__while_connecting_ends_it(void)
{
	int fd = mute("127.0.0.95");
	struct bench c;

	if (fd < 0)
		TAP_SKIP("another program has UDP port 4791 of every address");
	bench_init(&c, RACKWIRE_KRPING_BW);
	strcpy(c.config.address, "127.0.0.95");
	strcpy(c.config.local, "127.0.0.1");
	c.config.port = 9000;
	c.config.timeout_ns = 3600000 * MS;
	TAP_CHECK(!bench_open(&c));
	bench_start(&c);
	usleep(50000);
	TAP_CHECK(!bench_stop(&c));
	bench_close(&c);
	close(fd);
}

static void stop__in_the_middle_is_clean(void)
{
	struct bench s, c;
	uint16_t port = bench_server(&s, 0);
	uint32_t round, clients = 0;
	size_t i;

	for (round = 0; round < 4; round++) {
		for (i = 0; i < KINDS; i++) {
			bench_init(&c, kinds[i]);
			c.config.port = port;
			c.config.connections = 1 + round;
			c.config.flags = round % 2 ? RACKWIRE_KRPING_POLL : 0;
			c.config.length = kinds[i] == RACKWIRE_KRPING_ALAT ? 8 : round == 3 ? 3000000 : 64;
			if (kinds[i] == RACKWIRE_KRPING_PING && round == 2)
				c.config.interval_ns = 3600000 * MS;
			TAP_CHECK(!bench_open(&c));
			bench_start(&c);
			TAP_CHECK(bench_until(&c, RACKWIRE_KRPING_COMPLETED, 1));
			TAP_CHECK(!bench_stop(&c));
			TAP_CHECK(!COUNT(&c, FAILED) && !COUNT(&c, OPEN));
			bench_close(&c);
			clients += 1 + round;
		}
	}
	bench_stop(&s);
	TAP_CHECK(COUNT(&s, OPENED) == clients && !COUNT(&s, FAILED));
	bench_close(&s);
}

/* The process that server__outlives_clients_that_are_killed() kills. */
static int pinging_client(const char *port)
{
	struct bench c;

	bench_init(&c, RACKWIRE_KRPING_PING);
	c.config.connections = 2;
	return bench_run(&c, (uint16_t)atoi(port));
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(open__refuses_what_makes_no_sense),
		TAP_TEST(open__of_a_port_in_use_is_refused),
		TAP_TEST(run__happens_once),
		TAP_TEST(run__without_a_listener_is_refused),
		TAP_TEST(run__without_an_answer_times_out),
		TAP_TEST(run__to_an_address_without_rdma_fails),
		TAP_TEST(server__grants_no_more_than_it_has),
		TAP_TEST(client__of_a_server_that_stops_says_so),
		TAP_TEST(client__of_a_server_that_is_killed_says_so),
		TAP_TEST(server__outlives_clients_that_are_killed),
		TAP_TEST(stop__before_the_run_ends_it_at_once),
		TAP_TEST(stop__while_connecting_ends_it),
		TAP_TEST(stop__in_the_middle_is_clean),
	};

	if (argc == 3 && !strcmp(argv[1], "--client"))
		return pinging_client(argv[2]);
	return TAP_RUN(tests, argc, argv);
}
