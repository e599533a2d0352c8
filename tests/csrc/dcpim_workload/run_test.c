// SPDX-License-Identifier: BSD-2-Clause
/* Every workload over every transport against a server in the same process. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>

#include "bench.h"
#include "tap.h"

#define COUNT(b, t, name) bench_count(b, RACKWIRE_DCPIM_WORK_##t, RACKWIRE_DCPIM_WORK_##name)

/*
 * Run a client to its end against a fresh server. What is checked here must hold
 * for every workload that ends in good order.
 */
static bool runs(struct bench *server, struct bench *client, uint32_t server_flags)
{
	uint16_t port = bench_server(server, server_flags);
	uint32_t t;
	int result;

	if (!port)
		return false;
	result = bench_run(client, port);
	if (result) {
		printf("# client: %d %s\n", result, client->error);
		bench_close(client);
		bench_server_end(server);
		return false;
	}
	rackwire_dcpim_work_stop(server->work);
	result = bench_join(server);
	for (t = 0; t < RACKWIRE_DCPIM_WORK_TRANSPORTS && !result; t++) {
		const uint64_t on = client->config.transports >> t & 1;
		uint64_t connections = on * (client->config.connections ? client->config.connections : 1);

		if (bench_count(client, t, RACKWIRE_DCPIM_WORK_OPENED) != connections ||
		    bench_count(client, t, RACKWIRE_DCPIM_WORK_PEER_REPORTS) != connections ||
		    bench_count(client, t, RACKWIRE_DCPIM_WORK_OPEN) || bench_count(server, t, RACKWIRE_DCPIM_WORK_OPEN) ||
		    bench_count(client, t, RACKWIRE_DCPIM_WORK_FAILED) ||
		    bench_count(client, t, RACKWIRE_DCPIM_WORK_CORRUPT_BYTES) ||
		    bench_count(client, t, RACKWIRE_DCPIM_WORK_PEER_CORRUPT_BYTES) ||
		    bench_count(client, t, RACKWIRE_DCPIM_WORK_PEER_REQUESTS) !=
			    bench_count(server, t, RACKWIRE_DCPIM_WORK_REQUESTS) ||
		    (on && !bench_count(client, t, RACKWIRE_DCPIM_WORK_PEER_CPU_NS)))
			result = -(int)t - 1;
	}
	if (result)
		printf("# the accounts do not agree: %d\n", result);
	return !result;
}

static void end(struct bench *server, struct bench *client)
{
	bench_close(client);
	bench_close(server);
}

/* ---- ping ---- */

static bool ping(uint32_t transports, uint32_t flags, uint32_t length, uint32_t iodepth, uint32_t connections)
{
	struct bench s, c;
	uint64_t count = 200, all, t;
	bool good;

	bench_init(&c, RACKWIRE_DCPIM_WORK_PING, transports);
	c.config.flags = flags;
	c.config.length = length;
	c.config.iodepth = iodepth;
	c.config.connections = connections;
	c.config.count = count;
	c.config.warmup_count = 10;
	c.config.timeout_ns = 20000000000;
	c.config.slice_ns = 3000000;
	good = runs(&s, &c, 0);
	for (t = 0; t < RACKWIRE_DCPIM_WORK_TRANSPORTS && good; t++) {
		uint64_t size = t == RACKWIRE_DCPIM_WORK_UDP && length < 24 ? 24 : length;

		if (!(transports >> t & 1))
			continue;
		all = (count + 10) * connections;
		good = bench_recorded(&c, t) == count * connections &&
		       bench_count(&c, t, RACKWIRE_DCPIM_WORK_COMPLETED) == count * connections &&
		       bench_count(&c, t, RACKWIRE_DCPIM_WORK_WARMUP) == 10 * connections &&
		       bench_count(&c, t, RACKWIRE_DCPIM_WORK_REQUESTS) == all &&
		       bench_count(&c, t, RACKWIRE_DCPIM_WORK_TX_BYTES) == all * size &&
		       bench_count(&c, t, RACKWIRE_DCPIM_WORK_RX_BYTES) == all * size &&
		       !bench_count(&c, t, RACKWIRE_DCPIM_WORK_LOST) &&
		       bench_count(&c, t, RACKWIRE_DCPIM_WORK_PEER_REQUESTS) == all &&
		       bench_count(&c, t, RACKWIRE_DCPIM_WORK_VERIFIED_BYTES) ==
			       (flags & RACKWIRE_DCPIM_WORK_NO_VALIDATE ? 0 : all * size);
		if (!good)
			printf("# transport %u: %lu recorded, %lu verified\n", (unsigned int)t,
			       bench_recorded(&c, t), bench_count(&c, t, RACKWIRE_DCPIM_WORK_VERIFIED_BYTES));
	}
	end(&s, &c);
	return good;
}

static void ping__over_dcpim_streams(void)
{
	TAP_CHECK(ping(DCPIM, 0, 64, 1, 1));
}

static void ping__over_dcpim_messages(void)
{
	TAP_CHECK(ping(DCPIM, RACKWIRE_DCPIM_WORK_SHORT, 64, 1, 1));
}

static void ping__over_tcp(void)
{
	TAP_CHECK(ping(TCP, 0, 64, 1, 1));
}

static void ping__over_udp(void)
{
	TAP_CHECK(ping(UDP, 0, 64, 1, 1));
}

static void ping__all_in_turns(void)
{
	TAP_CHECK(ping(DCPIM | TCP | UDP, 0, 100, 1, 1));
}

static void ping__messages_all_in_turns(void)
{
	TAP_CHECK(ping(DCPIM | TCP | UDP, RACKWIRE_DCPIM_WORK_SHORT, 1000, 4, 3));
}

static void ping__many_connections_and_requests(void)
{
	TAP_CHECK(ping(DCPIM | TCP, 0, 3000, 16, 5));
}

static void ping__larger_than_a_buffer(void)
{
	TAP_CHECK(ping(DCPIM | TCP, 0, 200001, 2, 1));
	TAP_CHECK(ping(DCPIM, RACKWIRE_DCPIM_WORK_SHORT, 200001, 2, 1));
}

static void ping__without_validation(void)
{
	TAP_CHECK(ping(DCPIM | TCP | UDP, RACKWIRE_DCPIM_WORK_NO_VALIDATE, 64, 3, 1));
	TAP_CHECK(ping(DCPIM, RACKWIRE_DCPIM_WORK_NO_VALIDATE | RACKWIRE_DCPIM_WORK_SHORT, 100000, 3, 1));
}

static void ping__of_one_byte(void)
{
	TAP_CHECK(ping(DCPIM | TCP, 0, 1, 4, 1));
}

static void ping__of_one_byte_messages_told_apart_by_number(void)
{
	struct bench s, c;
	bool good;

	bench_init(&c, RACKWIRE_DCPIM_WORK_PING, DCPIM);
	c.config.flags = RACKWIRE_DCPIM_WORK_SHORT;
	c.config.length = 1;
	c.config.iodepth = 256;
	c.config.count = 1000;
	good = runs(&s, &c, 0) && COUNT(&c, DCPIM, COMPLETED) == 1000;
	end(&s, &c);
	TAP_CHECK(good);
	c.config.iodepth = 257;
	TAP_CHECK(bench_open(&c) == -EINVAL);
}

/* A server that validates checks also what the client did not ask it to. */
static void ping__at_a_server_that_validates(void)
{
	struct bench s, c;
	bool good;

	bench_init(&c, RACKWIRE_DCPIM_WORK_PING, DCPIM | TCP);
	c.config.flags = RACKWIRE_DCPIM_WORK_NO_VALIDATE;
	c.config.length = 5000;
	c.config.count = 50;
	good = runs(&s, &c, RACKWIRE_DCPIM_WORK_VALIDATE) && COUNT(&s, DCPIM, VERIFIED_BYTES) == 50 * 5000 &&
	       COUNT(&s, TCP, VERIFIED_BYTES) == 50 * 5000;
	end(&s, &c);
	TAP_CHECK(good);
}

static void ping__with_an_interval_for_a_duration(void)
{
	struct bench s, c;
	bool good;

	bench_init(&c, RACKWIRE_DCPIM_WORK_PING, DCPIM | TCP | UDP);
	c.config.interval_ns = 2000000;
	c.config.duration_ns = 100000000;
	c.config.warmup_ns = 10000000;
	c.config.slice_ns = 20000000;
	good = runs(&s, &c, 0);
	/* An interval is a least distance, so so many are the most there can be in a turn of 20 ms. */
	good = good && COUNT(&c, DCPIM, COMPLETED) > 0 && COUNT(&c, DCPIM, COMPLETED) <= 5 * 11 &&
	       COUNT(&c, TCP, COMPLETED) > 0 && COUNT(&c, UDP, COMPLETED) > 0;
	good = good && COUNT(&c, DCPIM, MEASURED_NS) >= 100000000 && COUNT(&c, TCP, MEASURED_NS) >= 100000000;
	end(&s, &c);
	TAP_CHECK(good);
}

static void ping__spinning(void)
{
	struct bench s, c;
	bool good = false;

	bench_init(&s, RACKWIRE_DCPIM_WORK_SERVER, DCPIM | TCP | UDP);
	s.engine.wakeup = RACKWIRE_DCPIM_BUSY_POLL;
	bench_init(&c, RACKWIRE_DCPIM_WORK_PING, DCPIM | TCP | UDP);
	c.engine.wakeup = RACKWIRE_DCPIM_BUSY_POLL;
	c.config.count = 200;
	c.config.slice_ns = 5000000;
	c.config.timeout_ns = 20000000000;
	if (!bench_open(&s)) {
		bench_start(&s);
		good = !bench_run(&c, rackwire_dcpim_work_port(s.work, RACKWIRE_DCPIM_WORK_DCPIM)) &&
		       COUNT(&c, DCPIM, COMPLETED) == 200 && COUNT(&c, TCP, COMPLETED) == 200 &&
		       COUNT(&c, UDP, COMPLETED) == 200;
		bench_close(&c);
		good = !bench_server_end(&s) && good;
	}
	TAP_CHECK(good);
}

static void ping__with_several_engine_threads(void)
{
	struct bench s, c;
	bool good = false;

	bench_init(&s, RACKWIRE_DCPIM_WORK_SERVER, DCPIM);
	s.engine.threads = 2;
	bench_init(&c, RACKWIRE_DCPIM_WORK_PING, DCPIM);
	c.engine.threads = 3;
	c.config.connections = 7;
	c.config.count = 100;
	if (!bench_open(&s)) {
		bench_start(&s);
		good = !bench_run(&c, rackwire_dcpim_work_port(s.work, RACKWIRE_DCPIM_WORK_DCPIM)) &&
		       COUNT(&c, DCPIM, COMPLETED) == 700 && bench_recorded(&c, RACKWIRE_DCPIM_WORK_DCPIM) == 700;
		bench_close(&c);
		good = !bench_server_end(&s) && good;
	}
	TAP_CHECK(good);
}

/* ---- streams ---- */

static bool stream(uint32_t transports, uint32_t flags, uint32_t connections, uint32_t length, uint64_t bytes)
{
	struct bench s, c;
	bool reverse = flags & RACKWIRE_DCPIM_WORK_REVERSE, checked = !(flags & RACKWIRE_DCPIM_WORK_NO_VALIDATE), good;
	uint64_t all = bytes * connections, t;

	bench_init(&c, RACKWIRE_DCPIM_WORK_STREAM, transports);
	c.config.flags = flags;
	c.config.connections = connections;
	c.config.length = length;
	c.config.count = bytes;
	c.config.slice_ns = 5000000;
	good = runs(&s, &c, 0);
	for (t = 0; t < RACKWIRE_DCPIM_WORK_UDP && good; t++) {
		if (!(transports >> t & 1))
			continue;
		good = bench_count(&c, t, reverse ? RACKWIRE_DCPIM_WORK_RX_BYTES : RACKWIRE_DCPIM_WORK_TX_BYTES) == all &&
		       bench_count(&c, t, RACKWIRE_DCPIM_WORK_MEASURED_BYTES) == all &&
		       bench_count(&c, t, RACKWIRE_DCPIM_WORK_PEER_BYTES) == all &&
		       bench_count(&c, t, RACKWIRE_DCPIM_WORK_MEASURED_NS) > 0 &&
		       bench_count(&c, t, reverse ? RACKWIRE_DCPIM_WORK_VERIFIED_BYTES :
						    RACKWIRE_DCPIM_WORK_PEER_VERIFIED_BYTES) == (checked ? all : 0);
		if (!good)
			printf("# transport %u: %lu tx, %lu rx, %lu measured, %lu at the peer\n", (unsigned int)t,
			       bench_count(&c, t, RACKWIRE_DCPIM_WORK_TX_BYTES),
			       bench_count(&c, t, RACKWIRE_DCPIM_WORK_RX_BYTES),
			       bench_count(&c, t, RACKWIRE_DCPIM_WORK_MEASURED_BYTES),
			       bench_count(&c, t, RACKWIRE_DCPIM_WORK_PEER_BYTES));
	}
	end(&s, &c);
	return good;
}

static void stream__over_dcpim(void)
{
	TAP_CHECK(stream(DCPIM, 0, 1, 65536, 20000001));
}

static void stream__over_tcp(void)
{
	TAP_CHECK(stream(TCP, 0, 1, 65536, 20000001));
}

static void stream__both_in_turns_on_several_connections(void)
{
	TAP_CHECK(stream(DCPIM | TCP, 0, 3, 10000, 5000000));
}

static void stream__in_small_writes(void)
{
	TAP_CHECK(stream(DCPIM | TCP, 0, 1, 100, 300000));
}

static void stream__without_validation(void)
{
	TAP_CHECK(stream(DCPIM | TCP, RACKWIRE_DCPIM_WORK_NO_VALIDATE, 1, 65536, 20000000));
}

static void stream__from_the_server(void)
{
	TAP_CHECK(stream(DCPIM | TCP, RACKWIRE_DCPIM_WORK_REVERSE, 2, 65536, 20000001));
}

static void stream__from_the_server_without_validation(void)
{
	TAP_CHECK(stream(DCPIM | TCP, RACKWIRE_DCPIM_WORK_REVERSE | RACKWIRE_DCPIM_WORK_NO_VALIDATE, 1, 65536, 20000000));
}

static void stream__for_a_duration(void)
{
	struct bench s, c;
	bool good;

	bench_init(&c, RACKWIRE_DCPIM_WORK_STREAM, DCPIM | TCP | UDP);
	c.config.duration_ns = 60000000;
	c.config.warmup_ns = 10000000;
	c.config.slice_ns = 20000000;
	good = runs(&s, &c, 0) && COUNT(&c, DCPIM, MEASURED_BYTES) > 0 && COUNT(&c, TCP, MEASURED_BYTES) > 0 &&
	       COUNT(&c, UDP, MEASURED_BYTES) > 0;
	/* Nothing may be lost between turns; what the warm-up sent is in the account and not in the measure. */
	good = good && COUNT(&c, DCPIM, PEER_VERIFIED_BYTES) == COUNT(&c, DCPIM, TX_BYTES) &&
	       COUNT(&c, DCPIM, MEASURED_BYTES) < COUNT(&c, DCPIM, TX_BYTES) &&
	       COUNT(&c, TCP, PEER_VERIFIED_BYTES) == COUNT(&c, TCP, TX_BYTES);
	/* Plain UDP may lose some; none is counted twice. */
	good = good && COUNT(&c, UDP, PEER_BYTES) <= COUNT(&c, UDP, TX_BYTES) &&
	       COUNT(&c, UDP, LOST) <= COUNT(&c, UDP, REQUESTS) - COUNT(&c, UDP, MEASURED_REQUESTS);
	end(&s, &c);
	TAP_CHECK(good);
}

/* ---- messages ---- */

static bool message(uint32_t flags, uint32_t length, uint32_t iodepth, uint64_t count)
{
	struct bench s, c;
	bool good, checked = !(flags & RACKWIRE_DCPIM_WORK_NO_VALIDATE) && length > 8;

	bench_init(&c, RACKWIRE_DCPIM_WORK_MESSAGE, DCPIM);
	c.config.flags = flags;
	c.config.length = length;
	c.config.iodepth = iodepth;
	c.config.count = count;
	c.config.warmup_count = 5;
	c.config.connections = 2;
	good = runs(&s, &c, 0) && COUNT(&c, DCPIM, COMPLETED) == 2 * count &&
	       COUNT(&c, DCPIM, PEER_REQUESTS) == 2 * (count + 5) &&
	       COUNT(&c, DCPIM, PEER_BYTES) == 2 * (count + 5) * length &&
	       COUNT(&c, DCPIM, PEER_VERIFIED_BYTES) == (checked ? 2 * (count + 5) * length : 0) &&
	       bench_recorded(&c, RACKWIRE_DCPIM_WORK_DCPIM) == 2 * count;
	end(&s, &c);
	return good;
}

static void message__small_ones(void)
{
	TAP_CHECK(message(0, 64, 32, 5000));
}

static void message__one_at_a_time(void)
{
	TAP_CHECK(message(0, 64, 1, 200));
}

static void message__as_long_as_an_account(void)
{
	TAP_CHECK(message(0, 72, 8, 200));
}

static void message__as_long_as_a_number(void)
{
	TAP_CHECK(message(0, 8, 8, 200));
	TAP_CHECK(message(0, 9, 8, 200));
	TAP_CHECK(message(0, 3, 8, 200));
}

static void message__large_ones(void)
{
	TAP_CHECK(message(0, 1000003, 4, 20));
}

static void message__without_validation(void)
{
	TAP_CHECK(message(RACKWIRE_DCPIM_WORK_NO_VALIDATE, 64, 32, 2000));
	TAP_CHECK(message(RACKWIRE_DCPIM_WORK_NO_VALIDATE, 300000, 4, 20));
}

static void message__over_udp_is_counted_by_the_server(void)
{
	struct bench s, c;
	bool good;

	bench_init(&c, RACKWIRE_DCPIM_WORK_MESSAGE, DCPIM | UDP);
	c.config.length = 100;
	c.config.count = 500;
	c.config.iodepth = 16;
	good = runs(&s, &c, 0) && COUNT(&c, UDP, REQUESTS) == 500 &&
	       COUNT(&c, UDP, MEASURED_REQUESTS) + COUNT(&c, UDP, LOST) == 500 &&
	       COUNT(&c, UDP, PEER_VERIFIED_BYTES) == COUNT(&c, UDP, MEASURED_REQUESTS) * 100;
	end(&s, &c);
	TAP_CHECK(good);
}

/* ---- other ways there ---- */

/* A ping and a stream, one after the other, of an engine kind and address. Return: 0 or -errno of the server. */
static int both(uint32_t engine, uint32_t threads, const char *address, bool *good)
{
	struct bench s, c;
	uint16_t port;
	int err, kind;

	*good = false;
	bench_init(&s, RACKWIRE_DCPIM_WORK_SERVER, DCPIM | TCP | UDP);
	s.engine.kind = engine;
	s.engine.threads = threads;
	strcpy(s.config.address, address);
	err = bench_open(&s);
	if (err)
		return err;
	port = rackwire_dcpim_work_port(s.work, RACKWIRE_DCPIM_WORK_DCPIM);
	*good = rackwire_dcpim_work_port(s.work, RACKWIRE_DCPIM_WORK_UDP) == port + (engine == RACKWIRE_DCPIM_UDP);
	bench_start(&s);
	for (kind = RACKWIRE_DCPIM_WORK_PING; kind <= RACKWIRE_DCPIM_WORK_STREAM && *good; kind++) {
		bench_init(&c, (uint32_t)kind, DCPIM | TCP | UDP);
		c.engine.kind = engine;
		c.engine.threads = threads;
		strcpy(c.config.address, !strcmp(address, "") ? "127.0.0.1" : address);
		c.config.connections = 2;
		c.config.count = kind == RACKWIRE_DCPIM_WORK_PING ? 100 : 2000000;
		c.config.timeout_ns = 20000000000;
		*good = !bench_run(&c, port);
		if (!*good)
			printf("# %s\n", c.error);
		*good = *good && COUNT(&c, DCPIM, PEER_REPORTS) == 2 && !COUNT(&c, DCPIM, PEER_CORRUPT_BYTES) &&
			COUNT(&c, DCPIM, PEER_BYTES) == (kind == RACKWIRE_DCPIM_WORK_PING ? 2 * 100 * 64 : 4000000);
		bench_close(&c);
	}
	*good = !bench_server_end(&s) && *good;
	return 0;
}

static void work__over_ip_protocol_254(void)
{
	bool good;
	int err = both(RACKWIRE_DCPIM_RAW, 1, "127.0.0.1", &good);

	if (err == -EPERM)
		TAP_SKIP("needs CAP_NET_RAW");
	TAP_CHECK(!err && good);
	TAP_CHECK(!both(RACKWIRE_DCPIM_RAW, 2, "127.0.0.1", &good) && good);
}

static void work__over_ipv6(void)
{
	bool good;
	int err = both(RACKWIRE_DCPIM_UDP, 1, "::1", &good);

	if (err == -EADDRNOTAVAIL || err == -EAFNOSUPPORT)
		TAP_SKIP("there is no IPv6");
	TAP_CHECK(!err && good);
}

static void work__at_a_server_that_listens_everywhere(void)
{
	bool good;

	TAP_CHECK(!both(RACKWIRE_DCPIM_UDP, 1, "", &good) && good);
}

/* ---- rows ---- */

static void connections__show_both_ends(void)
{
	struct rackwire_dcpim_work_connection rows[RACKWIRE_DCPIM_WORK_ROWS];
	struct bench s, c;
	uint32_t i, n = 0, streams = 0;
	uint64_t verified = 0;

	bench_init(&c, RACKWIRE_DCPIM_WORK_STREAM, DCPIM | TCP);
	c.config.count = 1000000;
	c.config.connections = 2;
	if (runs(&s, &c, 0)) {
		n = rackwire_dcpim_work_connections(s.work, rows, RACKWIRE_DCPIM_WORK_ROWS);
		for (i = 0; i < n; i++) {
			streams += rows[i].service == RACKWIRE_DCPIM_WORK_SERVICE_SINK && !rows[i].message &&
				   rows[i].state == RACKWIRE_DCPIM_WORK_ENDED && !rows[i].error &&
				   !strncmp(rows[i].peer, "127.0.0.1:", 10) && rows[i].id == i + 1;
			verified += rows[i].verified_bytes;
		}
	}
	end(&s, &c);
	TAP_CHECK(n == 4 && streams == 4 && verified == 4000000);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(ping__over_dcpim_streams),
		TAP_TEST(ping__over_dcpim_messages),
		TAP_TEST(ping__over_tcp),
		TAP_TEST(ping__over_udp),
		TAP_TEST(ping__all_in_turns),
		TAP_TEST(ping__messages_all_in_turns),
		TAP_TEST(ping__many_connections_and_requests),
		TAP_TEST(ping__larger_than_a_buffer),
		TAP_TEST(ping__without_validation),
		TAP_TEST(ping__of_one_byte),
		TAP_TEST(ping__of_one_byte_messages_told_apart_by_number),
		TAP_TEST(ping__at_a_server_that_validates),
		TAP_TEST(ping__with_an_interval_for_a_duration),
		TAP_TEST(ping__spinning),
		TAP_TEST(ping__with_several_engine_threads),
		TAP_TEST(stream__over_dcpim),
		TAP_TEST(stream__over_tcp),
		TAP_TEST(stream__both_in_turns_on_several_connections),
		TAP_TEST(stream__in_small_writes),
		TAP_TEST(stream__without_validation),
		TAP_TEST(stream__from_the_server),
		TAP_TEST(stream__from_the_server_without_validation),
		TAP_TEST(stream__for_a_duration),
		TAP_TEST(message__small_ones),
		TAP_TEST(message__one_at_a_time),
		TAP_TEST(message__as_long_as_an_account),
		TAP_TEST(message__as_long_as_a_number),
		TAP_TEST(message__large_ones),
		TAP_TEST(message__without_validation),
		TAP_TEST(message__over_udp_is_counted_by_the_server),
		TAP_TEST(work__over_ip_protocol_254),
		TAP_TEST(work__over_ipv6),
		TAP_TEST(work__at_a_server_that_listens_everywhere),
		TAP_TEST(connections__show_both_ends),
	};

	return TAP_RUN(tests, argc, argv);
}
