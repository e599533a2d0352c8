// SPDX-License-Identifier: BSD-2-Clause
/* Runs that go well: every kind, option and size. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "bench.h"
#include "clock.h"
#include "tap.h"

#define MS 1000000ull

/* ---- pings ---- */

/* One client, one server; the figures of both must agree. */
static bool ping(uint32_t length, uint64_t count, uint32_t client_flags, uint32_t server_flags, const char *local)
{
	struct bench s, c;
	uint64_t bytes = length * count;
	uint16_t port;
	bool good;

	port = bench_server(&s, server_flags);
	if (!port)
		return false;
	bench_init(&c, RACKWIRE_KRPING_PING);
	c.config.length = length;
	c.config.count = count;
	c.config.flags = RACKWIRE_KRPING_VALIDATE | client_flags;
	strcpy(c.config.local, local);
	good = !bench_run(&c, port);
	good &= !bench_stop(&s);
	good = good && COUNT(&c, COMPLETED) == count && bench_recorded(&c) == count &&
	       COUNT(&c, VERIFIED_BYTES) == bytes && !COUNT(&c, CORRUPT_BYTES) && !COUNT(&c, FAILED) &&
	       !COUNT(&c, OPEN) && COUNT(&c, MEASURED_BYTES) == 2 * bytes;
	good = good && COUNT(&c, SEND_MSGS) == 2 * count && COUNT(&c, SEND_BYTES) == 32 * count &&
	       COUNT(&c, RECV_MSGS) == 2 * count && COUNT(&c, RECV_BYTES) == 32 * count;
	good = good && COUNT(&s, READ_MSGS) == count && COUNT(&s, READ_BYTES) == bytes &&
	       COUNT(&s, RECV_MSGS) == 2 * count && COUNT(&s, OPENED) == 1 && !COUNT(&s, OPEN) && !COUNT(&s, FAILED);
	/* The last of the server's requests may still wait for acknowledgement when the client leaves. */
	good = good && COUNT(&s, WRITE_MSGS) + 1 >= count && COUNT(&s, SEND_MSGS) + 1 >= 2 * count;
	if (!good)
		printf("# length %u, client 0x%x, server 0x%x: %s\n", length, client_flags, server_flags, c.error);
	bench_close(&c);
	bench_close(&s);
	return good;
}

static void ping__of_every_size_comes_back(void)
{
	static const uint32_t sizes[] = { 1, 2, 13, 14, 15, 64, 100, 1023, 1024, 4096, 4097, 65536, 131072, 1048579, 4194304 };
	size_t i;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		TAP_CHECK(ping(sizes[i], 5, 0, 0, ""));
}

static void ping__of_a_gibibyte(void)
{
	if (!getenv("RACKWIRE_TEST_LONG"))
		TAP_SKIP("only with RACKWIRE_TEST_LONG: it needs 3 GiB of memory");
	TAP_CHECK(ping(RACKWIRE_KRPING_MAX_SIZE, 1, 0, 0, ""));
}

static void ping__with_every_combination_of_options(void)
{
	static const uint32_t options[] = { RACKWIRE_KRPING_SERVER_INV, RACKWIRE_KRPING_READ_INV,
					    RACKWIRE_KRPING_LOCAL_DMA_LKEY, RACKWIRE_KRPING_REG };
	uint32_t set, i, flags;

	for (set = 0; set < 16; set++) {
		flags = 0;
		for (i = 0; i < 4; i++)
			flags |= set & 1u << i ? options[i] : 0;
		TAP_CHECK(ping(3000, 20, flags, 0, ""));
	}
	TAP_CHECK(ping(3000, 20, RACKWIRE_KRPING_POLL, RACKWIRE_KRPING_POLL, ""));
	TAP_CHECK(ping(3000, 20, RACKWIRE_KRPING_ECN | RACKWIRE_KRPING_NO_OFFLOAD, 0, ""));
}

/* A client that says nothing of itself gets what the server was told to do, as with the original. */
static void ping__of_a_classic_client(void)
{
	const uint32_t classic = RACKWIRE_KRPING_CLASSIC;

	TAP_CHECK(ping(64, 20, classic, 0, ""));
	TAP_CHECK(ping(10000, 20, classic, 0, ""));
	TAP_CHECK(ping(10000, 20, classic | RACKWIRE_KRPING_SERVER_INV, RACKWIRE_KRPING_SERVER_INV, ""));
	TAP_CHECK(ping(10000, 20, classic | RACKWIRE_KRPING_REG,
		       RACKWIRE_KRPING_READ_INV | RACKWIRE_KRPING_LOCAL_DMA_LKEY, ""));
	TAP_CHECK(ping(10000, 20, classic | RACKWIRE_KRPING_REG | RACKWIRE_KRPING_SERVER_INV,
		       RACKWIRE_KRPING_REG | RACKWIRE_KRPING_SERVER_INV, ""));
	/* The client has not been told that its key is taken. It takes a new one. */
	TAP_CHECK(ping(10000, 20, classic, RACKWIRE_KRPING_SERVER_INV, ""));
	TAP_CHECK(ping(10000, 20, classic | RACKWIRE_KRPING_REG, RACKWIRE_KRPING_SERVER_INV, ""));
}

static void ping__from_another_address(void)
{
	TAP_CHECK(ping(5000, 20, 0, 0, "127.0.0.2"));
}

static void ping__keeps_lines_when_asked(void)
{
	char text[8192], expected[80];
	struct bench s, c;
	uint64_t lost = 1;
	uint16_t port = bench_server(&s, RACKWIRE_KRPING_VERBOSE);

	bench_init(&c, RACKWIRE_KRPING_PING);
	c.config.count = 3;
	c.config.flags = RACKWIRE_KRPING_VERBOSE;
	TAP_CHECK(!bench_run(&c, port) && !bench_stop(&s));
	text[rackwire_krping_lines(c.work, text, sizeof(text), &lost)] = 0;
	TAP_CHECK(!lost && !strncmp(text, "ping data: rdma-ping-0: ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqr\n"
					  "ping data: rdma-ping-1: BCD", 102));
	TAP_CHECK(!rackwire_krping_lines(c.work, text, sizeof(text), &lost));
	/* Whole lines only, the rest later. */
	text[rackwire_krping_lines(s.work, text, 100, &lost)] = 0;
	snprintf(expected, sizeof(expected), "server ping data: rdma-ping-0: ABC");
	TAP_CHECK(!strncmp(text, expected, strlen(expected)) && strchr(text, '\n') == text + strlen(text) - 1);
	text[rackwire_krping_lines(s.work, text, sizeof(text), &lost)] = 0;
	TAP_CHECK(!strncmp(text, "server ping data: rdma-ping-1: BCD", 34) && strstr(text, "\nserver ping data: rdma-ping-2: "));
	bench_close(&c);
	bench_close(&s);
}

static void ping__ends_by_count_duration_and_warm_up(void)
{
	struct bench s, c;
	uint16_t port = bench_server(&s, 0);
	uint64_t begin = rackwire_now_ns();

	bench_init(&c, RACKWIRE_KRPING_PING);
	c.config.warmup_count = 7;
	c.config.count = 11;
	c.config.interval_ns = 2 * MS;
	c.config.connections = 3;
	TAP_CHECK(!bench_run(&c, port));
	TAP_CHECK(COUNT(&c, COMPLETED) == 33 && COUNT(&c, WARMUP) == 21 && bench_recorded(&c) == 33);
	/* None begins before its turn; one that is late makes the measured ones come closer together. */
	TAP_CHECK(rackwire_now_ns() - begin >= 17 * 2 * MS);
	bench_close(&c);

	bench_init(&c, RACKWIRE_KRPING_PING);
	c.config.duration_ns = 50 * MS;
	TAP_CHECK(!bench_run(&c, port));
	TAP_CHECK(COUNT(&c, COMPLETED) > 0 && COUNT(&c, MEASURED_NS) > 0 && COUNT(&c, CPU_NS) > 0);
	bench_close(&c);
	bench_stop(&s);
	bench_close(&s);
}

/* ---- benchmarks ---- */

static bool benchmark(uint16_t port, uint32_t kind, uint32_t op, uint32_t length, uint64_t count, uint32_t flags)
{
	struct bench c;
	bool good;

	bench_init(&c, kind);
	c.config.op = (uint8_t)op;
	c.config.length = length;
	c.config.count = count;
	c.config.flags = flags;
	good = !bench_run(&c, port) && COUNT(&c, COMPLETED) == count && bench_recorded(&c) == count &&
	       COUNT(&c, MEASURED_BYTES) == count * length && !COUNT(&c, FAILED) && COUNT(&c, MEASURED_NS);
	if (flags & RACKWIRE_KRPING_DUPLEX)
		good = good && COUNT(&c, PEER_BYTES) % length == 0;
	if (!good)
		printf("# kind %u, op %u, length %u, flags 0x%x: %s\n", kind, op, length, flags, c.error);
	bench_close(&c);
	return good;
}

static void latencies__of_every_kind_and_size(void)
{
	static const uint32_t kinds[] = { RACKWIRE_KRPING_WLAT, RACKWIRE_KRPING_RLAT, RACKWIRE_KRPING_SLAT };
	static const uint32_t sizes[] = { 1, 16, 64, 256, 257, 5000, 65536 };
	struct bench s;
	uint16_t port = bench_server(&s, 0);
	size_t i, k;

	for (k = 0; k < 3; k++) {
		for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
			TAP_CHECK(benchmark(port, kinds[k], 0, sizes[i], 300, i % 2 ? RACKWIRE_KRPING_POLL : 0));
	}
	TAP_CHECK(benchmark(port, RACKWIRE_KRPING_ALAT, RACKWIRE_KRPING_OP_FADD, 8, 300, RACKWIRE_KRPING_VALIDATE));
	TAP_CHECK(benchmark(port, RACKWIRE_KRPING_ALAT, RACKWIRE_KRPING_OP_CSWAP, 8, 300, RACKWIRE_KRPING_VALIDATE));
	TAP_CHECK(!bench_stop(&s) && !COUNT(&s, FAILED) && COUNT(&s, OPENED) == 23 && !COUNT(&s, OPEN));
	bench_close(&s);
}

static void bandwidth__of_every_operation(void)
{
	static const uint32_t sizes[] = { 1, 16, 4096, 65536, 300000 };
	struct bench s;
	uint16_t port = bench_server(&s, 0);
	uint32_t op, i, duplex;

	for (duplex = 0; duplex < 2; duplex++) {
		uint32_t flags = duplex ? RACKWIRE_KRPING_DUPLEX : 0;

		for (op = RACKWIRE_KRPING_OP_WRITE; op <= RACKWIRE_KRPING_OP_SEND; op++) {
			for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
				TAP_CHECK(benchmark(port, RACKWIRE_KRPING_BW, op, sizes[i], 200,
						    flags | (i % 2 ? RACKWIRE_KRPING_POLL : 0)));
		}
		TAP_CHECK(benchmark(port, RACKWIRE_KRPING_BW, RACKWIRE_KRPING_OP_FADD, 8, 500, flags));
		TAP_CHECK(benchmark(port, RACKWIRE_KRPING_BW, RACKWIRE_KRPING_OP_CSWAP, 8, 500, flags));
	}
	TAP_CHECK(!bench_stop(&s) && !COUNT(&s, FAILED) && !COUNT(&s, OPEN));
	bench_close(&s);
}

/* A short run may be over before the server has begun; these are not. */
static void bandwidth__goes_both_ways(void)
{
	struct bench s, c;
	uint16_t port = bench_server(&s, 0);
	uint32_t op;

	for (op = RACKWIRE_KRPING_OP_WRITE; op <= RACKWIRE_KRPING_OP_SEND; op++) {
		bench_init(&c, RACKWIRE_KRPING_BW);
		c.config.op = (uint8_t)op;
		c.config.length = 65536;
		c.config.duration_ns = 300 * MS;
		c.config.connections = 2;
		c.config.flags = RACKWIRE_KRPING_DUPLEX;
		TAP_CHECK(!bench_run(&c, port) && COUNT(&c, COMPLETED) > 0 && COUNT(&c, PEER_BYTES) > 0);
		bench_close(&c);
	}
	TAP_CHECK(!bench_stop(&s) && !COUNT(&s, FAILED));
	bench_close(&s);
}

static void bandwidth__with_depths(void)
{
	static const uint32_t depths[] = { 1, 2, 3, 500, RACKWIRE_KRPING_MAX_TXDEPTH };
	struct bench s, c;
	uint16_t port = bench_server(&s, 0);
	size_t i;

	for (i = 0; i < sizeof(depths) / sizeof(depths[0]); i++) {
		bench_init(&c, RACKWIRE_KRPING_BW);
		c.config.op = i % 2 ? RACKWIRE_KRPING_OP_SEND : RACKWIRE_KRPING_OP_WRITE;
		c.config.txdepth = depths[i];
		c.config.count = 1000;
		c.config.warmup_count = 100;
		TAP_CHECK(!bench_run(&c, port) && COUNT(&c, COMPLETED) == 1000 && COUNT(&c, WARMUP) == 100);
		bench_close(&c);
	}
	bench_stop(&s);
	bench_close(&s);
}

/* ---- many ---- */

static void server__serves_all_kinds_at_once(void)
{
	enum { CLIENTS = 12 };
	struct bench s, c[CLIENTS];
	uint16_t port = bench_server(&s, 0);
	int i;

	for (i = 0; i < CLIENTS; i++) {
		bench_init(&c[i], RACKWIRE_KRPING_PING + (uint32_t)i % 6);
		c[i].config.port = port;
		c[i].config.connections = 5;
		c[i].config.count = 50;
		TAP_CHECK(!bench_open(&c[i]));
	}
	for (i = 0; i < CLIENTS; i++)
		bench_start(&c[i]);
	for (i = 0; i < CLIENTS; i++) {
		int result = bench_join(&c[i]);

		if (result)
			printf("# kind %u: %s\n", c[i].config.kind, c[i].error);
		TAP_CHECK(!result && COUNT(&c[i], COMPLETED) == 250);
		bench_close(&c[i]);
	}
	TAP_CHECK(!bench_stop(&s) && COUNT(&s, OPENED) == CLIENTS * 5 && !COUNT(&s, FAILED));
	bench_close(&s);
}

static void server__serves_hundreds(void)
{
	uint32_t clients = getenv("RACKWIRE_TEST_LONG") ? 4000 : 500;
	struct bench s, c;
	uint16_t port = bench_server(&s, 0);

	bench_init(&c, RACKWIRE_KRPING_PING);
	c.config.connections = clients;
	c.config.count = 3;
	c.config.length = 1000;
	c.config.timeout_ns = 60000 * MS;
	c.config.ack_timeout = 19;
	c.config.flags = RACKWIRE_KRPING_VALIDATE;
	TAP_CHECK(!bench_run(&c, port));
	TAP_CHECK(COUNT(&c, COMPLETED) == 3 * clients && COUNT(&c, VERIFIED_BYTES) == 3000 * clients);
	bench_close(&c);
	TAP_CHECK(!bench_stop(&s) && COUNT(&s, OPENED) == clients && !COUNT(&s, FAILED));
	bench_close(&s);
}

static void server__ends_after_one_with_once(void)
{
	struct bench s, c;
	uint16_t port = bench_server(&s, RACKWIRE_KRPING_ONCE);

	bench_init(&c, RACKWIRE_KRPING_PING);
	c.config.count = 2;
	TAP_CHECK(!bench_run(&c, port));
	TAP_CHECK(!bench_join(&s) && COUNT(&s, OPENED) == 1);
	bench_close(&c);
	bench_close(&s);
}

/* ---- what is shown ---- */

static void connections__show_the_eight_counters(void)
{
	struct rackwire_krping_connection rows[RACKWIRE_KRPING_ROWS];
	struct bench s, c;
	uint16_t port = bench_server(&s, 0);
	uint32_t n, i;

	for (i = 0; i < 70; i++) { /* more than there are rows */
		bench_init(&c, RACKWIRE_KRPING_PING);
		c.config.count = 4;
		c.config.length = 100;
		c.config.flags = i == 69 ? RACKWIRE_KRPING_CLASSIC : 0;
		TAP_CHECK(!bench_run(&c, port));
		bench_close(&c);
	}
	bench_stop(&s);
	n = rackwire_krping_connections(s.work, rows, RACKWIRE_KRPING_ROWS);
	TAP_CHECK(n == RACKWIRE_KRPING_ROWS && rows[0].id == 7 && rows[n - 1].id == 70);
	TAP_CHECK(rows[n - 1].classic && !rows[n - 2].classic && rows[n - 1].kind == RACKWIRE_KRPING_PING);
	TAP_CHECK(rows[n - 1].state == 2 && !rows[n - 1].error && rows[n - 1].pings == 4 && rows[n - 1].length == 100);
	TAP_CHECK(!strncmp(rows[n - 1].peer, "127.0.0.1:", 10) && rows[n - 1].qp_num > 1);
	TAP_CHECK(rows[n - 1].counters[RACKWIRE_KRPING_RECV_MSGS] == 8 &&
		  rows[n - 1].counters[RACKWIRE_KRPING_RECV_BYTES] == 128 &&
		  rows[n - 1].counters[RACKWIRE_KRPING_READ_BYTES] == 400);
	TAP_CHECK(rackwire_krping_connections(s.work, rows, 3) == 3);
	bench_close(&s);
}

static void control__answers_with_the_connections(void)
{
	char directory[] = "/tmp/krping-test-XXXXXX", path[108], text[8192];
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct bench s, c;
	uint16_t port = bench_server(&s, 0);
	size_t got = 0;
	ssize_t n;
	int fd;

	TAP_CHECK(mkdtemp(directory));
	TAP_CHECK(!rackwire_krping_control(s.work, directory, path, sizeof(path)) && strstr(path, "/krping-"));
	bench_init(&c, RACKWIRE_KRPING_PING);
	c.config.count = 3;
	TAP_CHECK(!bench_run(&c, port));
	bench_close(&c);
	TAP_CHECK(bench_until(&s, RACKWIRE_KRPING_OPENED, 1));
	strcpy(sun.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	TAP_CHECK(!connect(fd, (struct sockaddr *)&sun, sizeof(sun)) && write(fd, "stat\n", 5) == 5);
	while ((n = read(fd, text + got, sizeof(text) - 1 - got)) > 0)
		got += (size_t)n;
	text[got] = 0;
	close(fd);
	TAP_CHECK(strstr(text, "\"schema\": \"rackwire.krping.stat/1\"") && strstr(text, "\"read_bytes\": 192"));
	TAP_CHECK(strstr(text, "\"test\": \"ping\"") && strstr(text, "\"opened\": 1"));
	bench_stop(&s);
	bench_close(&s);
	TAP_CHECK(access(path, F_OK) < 0 && !rmdir(directory));
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(ping__of_every_size_comes_back),
		TAP_TEST(ping__of_a_gibibyte),
		TAP_TEST(ping__with_every_combination_of_options),
		TAP_TEST(ping__of_a_classic_client),
		TAP_TEST(ping__from_another_address),
		TAP_TEST(ping__keeps_lines_when_asked),
		TAP_TEST(ping__ends_by_count_duration_and_warm_up),
		TAP_TEST(latencies__of_every_kind_and_size),
		TAP_TEST(bandwidth__of_every_operation),
		TAP_TEST(bandwidth__goes_both_ways),
		TAP_TEST(bandwidth__with_depths),
		TAP_TEST(server__serves_all_kinds_at_once),
		TAP_TEST(server__serves_hundreds),
		TAP_TEST(server__ends_after_one_with_once),
		TAP_TEST(connections__show_the_eight_counters),
		TAP_TEST(control__answers_with_the_connections),
	};

	return TAP_RUN(tests, argc, argv);
}
