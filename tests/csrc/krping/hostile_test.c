// SPDX-License-Identifier: BSD-2-Clause
/*
 * Peers that do not keep to the protocol. Each costs its own connection and
 * nothing else: a well-behaved client pings the server all the while.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "krping/ping_data.h"
#include "krping/wire.h"
#include "raw.h"
#include "tap.h"

#define GUARD 0x77

/* ---- clients ---- */

struct scene {
	struct bench server, good;
	struct raw raw;
	uint16_t port;
};

static bool scene_open(struct scene *s)
{
	s->port = bench_server(&s->server, 0);
	bench_init(&s->good, RACKWIRE_KRPING_PING);
	s->good.config.port = s->port;
	s->good.config.flags = RACKWIRE_KRPING_VALIDATE;
	s->good.config.length = 1000;
	if (bench_open(&s->good))
		return false;
	bench_start(&s->good);
	return bench_until(&s->good, RACKWIRE_KRPING_COMPLETED, 5) && !raw_open(&s->raw);
}

/* The server has counted @failed and still serves. */
static bool scene_close(struct scene *s, uint64_t failed)
{
	uint64_t before = COUNT(&s->good, COMPLETED);
	bool good = bench_until(&s->good, RACKWIRE_KRPING_COMPLETED, before + 20) &&
		    bench_until(&s->server, RACKWIRE_KRPING_FAILED, failed);

	raw_close(&s->raw);
	good &= !bench_stop(&s->good) && !COUNT(&s->good, CORRUPT_BYTES);
	good &= !bench_stop(&s->server) && COUNT(&s->server, FAILED) == failed;
	if (!good)
		printf("# good client: %s; %llu failed, not %llu\n", s->good.error,
		       (unsigned long long)COUNT(&s->server, FAILED), (unsigned long long)failed);
	bench_close(&s->good);
	bench_close(&s->server);
	return good;
}

/* A client that has connected as rping does and sends one message; the server must hang up. */
static bool hangs_up(const void *message, uint32_t length)
{
	struct scene s;
	bool gone;

	if (!scene_open(&s) || raw_connect(&s.raw, s.port, NULL, 0))
		return false;
	raw_send(&s.raw, message, length);
	gone = raw_disconnected(&s.raw);
	return scene_close(&s, 1) && gone;
}

static bool hangs_up_on(uint64_t addr, uint32_t rkey, uint32_t size)
{
	struct wire_adv adv = { .addr = addr, .rkey = rkey, .size = size };
	uint8_t bytes[WIRE_ADV_LEN];

	wire_adv_encode(bytes, &adv);
	return hangs_up(bytes, sizeof(bytes));
}

static void server__hangs_up_on_bad_advertisements(void)
{
	TAP_CHECK(hangs_up_on(0x1000, 0x1234, 0xffffffff));
	TAP_CHECK(hangs_up_on(0x1000, 0x1234, RACKWIRE_KRPING_MAX_SIZE + 1));
	TAP_CHECK(hangs_up_on(0x1000, 0x1234, 0));
	TAP_CHECK(hangs_up_on(0x1000, 0x1234, 64)); /* no such key */
	TAP_CHECK(hangs_up_on(UINT64_MAX - 3, 0, 64));
}

static void server__hangs_up_on_other_messages(void)
{
	static const uint8_t zeros[300];

	TAP_CHECK(hangs_up(zeros, 0));
	TAP_CHECK(hangs_up(zeros, 15));
	TAP_CHECK(hangs_up(zeros, 17)); /* more than a receive holds */
	TAP_CHECK(hangs_up(zeros, 300));
}

/* Memory that ends before the advertised size: READ as far as it goes is refused by the region. */
static void server__reads_nothing_beyond_a_region(void)
{
	struct scene s;
	uint32_t key;

	TAP_CHECK(scene_open(&s) && !raw_connect(&s.raw, s.port, NULL, 0));
	key = rackwire_roce_mr_key(s.raw.mr);
	raw_advertise(&s.raw, (uintptr_t)s.raw.memory, key, RAW_MEMORY + 1);
	TAP_CHECK(raw_disconnected(&s.raw));
	TAP_CHECK(scene_close(&s, 1));
}

static void server__hangs_up_on_a_client_that_does_not_wait(void)
{
	struct wire_adv adv;
	uint8_t bytes[WIRE_ADV_LEN];
	struct scene s;

	TAP_CHECK(scene_open(&s) && !raw_connect(&s.raw, s.port, NULL, 0));
	adv.addr = (uintptr_t)s.raw.memory;
	adv.rkey = rackwire_roce_mr_key(s.raw.mr);
	adv.size = 4096;
	wire_adv_encode(bytes, &adv);
	/* Advertisements without end: whatever they hit upon, the server is well. */
	while (!raw_send(&s.raw, bytes, sizeof(bytes)))
		;
	TAP_CHECK(raw_disconnected(&s.raw));
	TAP_CHECK(scene_close(&s, 1));
}

/* One ping of 64 bytes by hand. Return: bytes the server wrote, or -1. */
static int written(struct scene *s, const uint8_t contents[64], uint32_t offered, const void *wish, uint32_t wish_len)
{
	uint8_t *from = s->raw.memory, *to = s->raw.memory + 1024, message[64];
	uint32_t key;
	int i;

	if (!s->raw.qp && raw_connect(&s->raw, s->port, wish, wish_len))
		return -1;
	key = rackwire_roce_mr_key(s->raw.mr);
	memcpy(from, contents, 64);
	memset(to, GUARD, 1024);
	if (raw_advertise(&s->raw, (uintptr_t)from, key, 64) || raw_recv(&s->raw, message, 64) != WIRE_ADV_LEN)
		return -1;
	if (raw_advertise(&s->raw, (uintptr_t)to, key, offered) || raw_recv(&s->raw, message, 64) != WIRE_ADV_LEN)
		return -1;
	for (i = 1024; i > 0 && to[i - 1] == GUARD; i--)
		;
	return memcmp(from, to, (size_t)i) ? -1 : i;
}

/* The original took the length of the string that it had READ, wherever it ended. */
static void server__writes_a_string_within_all_bounds(void)
{
	uint8_t contents[64];
	struct scene s;

	TAP_CHECK(scene_open(&s));
	ping_data_fill(contents, 64, 0);
	TAP_CHECK(written(&s, contents, 64, NULL, 0) == 64);
	TAP_CHECK(written(&s, contents, 1000, NULL, 0) == 64);
	TAP_CHECK(written(&s, contents, 20, NULL, 0) == 20);
	contents[5] = 0;
	TAP_CHECK(written(&s, contents, 64, NULL, 0) == 6);
	memset(contents, 'x', 64); /* a string without end */
	TAP_CHECK(written(&s, contents, 64, NULL, 0) == 64);
	TAP_CHECK(written(&s, contents, 1000, NULL, 0) == 64);
	TAP_CHECK(scene_close(&s, 0));
}

static void server__writes_what_one_of_ours_asks_for(void)
{
	struct wire_wish wish = { .version = WIRE_VERSION, .kind = RACKWIRE_KRPING_PING, .flags = WIRE_EXPLICIT,
				  .size = 64, .txdepth = 1 };
	uint8_t contents[64], bytes[WIRE_WISH_LEN];
	struct scene s;

	wire_wish_encode(bytes, &wish);
	memset(contents, 0, sizeof(contents));
	contents[63] = 1;
	TAP_CHECK(scene_open(&s));
	TAP_CHECK(written(&s, contents, 64, bytes, sizeof(bytes)) == 64);
	/* But never more than there is. */
	TAP_CHECK(written(&s, contents, 65, bytes, sizeof(bytes)) == -1);
	TAP_CHECK(raw_disconnected(&s.raw));
	TAP_CHECK(scene_close(&s, 1));
}

static bool refuses(struct scene *s, const struct wire_wish *wish, uint8_t status)
{
	uint8_t bytes[WIRE_WISH_LEN];
	struct wire_grant grant;

	wire_wish_encode(bytes, wish);
	if (raw_connect(&s->raw, s->port, bytes, sizeof(bytes)) != -ECONNREFUSED ||
	    s->raw.event.kind != RACKWIRE_ROCE_CM_REJECTED)
		return false;
	return wire_grant_decode(s->raw.event.private_data, s->raw.event.private_data_len, &grant) &&
	       grant.status == status;
}

static void server__refuses_wishes_that_make_no_sense(void)
{
	static const struct wire_wish good = { .version = WIRE_VERSION, .kind = RACKWIRE_KRPING_BW, .size = 64, .txdepth = 64 };
	struct wire_wish w;
	struct scene s;

	TAP_CHECK(scene_open(&s));
	w = good, w.version = 9;
	TAP_CHECK(refuses(&s, &w, WIRE_NONSENSE));
	w = good, w.kind = 77;
	TAP_CHECK(refuses(&s, &w, WIRE_NONSENSE));
	w = good, w.size = 0xffffffff;
	TAP_CHECK(refuses(&s, &w, WIRE_NONSENSE));
	w = good, w.txdepth = 0xffffffff;
	TAP_CHECK(refuses(&s, &w, WIRE_NONSENSE));
	w = good, w.op = RACKWIRE_KRPING_OP_SEND, w.size = RACKWIRE_KRPING_MAX_SIZE;
	TAP_CHECK(!refuses(&s, &w, WIRE_NONSENSE)); /* it may, and is given the memory */
	TAP_CHECK(scene_close(&s, 0));
}

/* A benchmark in which the client says the wrong things. */
static bool benchmark_hangs_up(uint8_t kind, uint8_t op, uint32_t size, uint32_t advertised, uint32_t then)
{
	struct wire_wish wish = { .version = WIRE_VERSION, .kind = kind, .op = op, .size = size, .txdepth = 4 };
	uint8_t bytes[WIRE_WISH_LEN], zeros[256] = { 0 };
	struct scene s;
	bool gone;

	wire_wish_encode(bytes, &wish);
	if (!scene_open(&s) || raw_connect(&s.raw, s.port, bytes, sizeof(bytes)))
		return false;
	raw_advertise(&s.raw, 0x1000, 0x999, advertised);
	if (then)
		raw_send(&s.raw, zeros, then);
	gone = raw_disconnected(&s.raw);
	return scene_close(&s, 1) && gone;
}

static void server__hangs_up_in_benchmarks_too(void)
{
	TAP_CHECK(benchmark_hangs_up(RACKWIRE_KRPING_WLAT, 0, 64, 65, 0));
	TAP_CHECK(benchmark_hangs_up(RACKWIRE_KRPING_RLAT, 0, 64, 64, 16));
	TAP_CHECK(benchmark_hangs_up(RACKWIRE_KRPING_SLAT, 0, 64, 64, 63));
	TAP_CHECK(benchmark_hangs_up(RACKWIRE_KRPING_BW, RACKWIRE_KRPING_OP_SEND, 64, 64, 65));
	TAP_CHECK(benchmark_hangs_up(RACKWIRE_KRPING_BW, RACKWIRE_KRPING_OP_WRITE, 64, 64, 16));
}

/* The key of the ping-pong's memory is good, that of the client's is not: the server's WRITE fails. */
static void server__hangs_up_when_its_write_fails(void)
{
	struct wire_wish wish = { .version = WIRE_VERSION, .kind = RACKWIRE_KRPING_WLAT, .size = 8, .txdepth = 1 };
	uint8_t bytes[WIRE_WISH_LEN], message[WIRE_ADV_LEN];
	struct wire_adv adv;
	struct scene s;

	wire_wish_encode(bytes, &wish);
	TAP_CHECK(scene_open(&s) && !raw_connect(&s.raw, s.port, bytes, sizeof(bytes)));
	TAP_CHECK(!raw_advertise(&s.raw, (uintptr_t)s.raw.memory, 0xbad, 8));
	TAP_CHECK(raw_recv(&s.raw, message, sizeof(message)) == WIRE_ADV_LEN);
	wire_adv_decode(message, &adv);
	s.raw.memory[7] = 1;
	{
		struct rackwire_roce_sge sge = { (uintptr_t)s.raw.memory, 8, rackwire_roce_mr_key(s.raw.mr) };
		struct rackwire_roce_send_wr wr = { .wr_id = 1, .sg_list = &sge, .num_sge = 1,
						    .opcode = RACKWIRE_ROCE_WR_RDMA_WRITE,
						    .remote_addr = adv.addr, .rkey = adv.rkey };

		TAP_CHECK(!rackwire_roce_post_send(s.raw.qp, &wr, 1, NULL));
	}
	TAP_CHECK(raw_disconnected(&s.raw));
	TAP_CHECK(scene_close(&s, 1));
}

/* More messages than the server takes at a time, and the goodbye right behind them. */
static void server__outlives_a_client_that_leaves_amid_its_messages(void)
{
	const struct wire_wish wish = { .version = WIRE_VERSION, .kind = RACKWIRE_KRPING_BW, .op = RACKWIRE_KRPING_OP_SEND,
					.size = WIRE_ADV_LEN, .txdepth = 64 };
	struct rackwire_roce_send_wr wr[40];
	struct rackwire_roce_wc wc[40];
	struct rackwire_roce_sge sge;
	uint8_t bytes[WIRE_WISH_LEN];
	struct scene s;
	uint32_t i;
	int run;

	TAP_CHECK(scene_open(&s));
	wire_wish_encode(bytes, &wish);
	sge.addr = (uintptr_t)s.raw.memory;
	sge.length = WIRE_ADV_LEN;
	sge.lkey = rackwire_roce_mr_key(s.raw.mr);
	for (i = 0; i < 40; i++)
		wr[i] = (struct rackwire_roce_send_wr){ .sg_list = &sge, .num_sge = 1, .opcode = RACKWIRE_ROCE_WR_SEND };
	for (run = 0; run < 1500; run++) {
		TAP_CHECK(!raw_connect(&s.raw, s.port, bytes, sizeof(bytes)));
		TAP_CHECK(!raw_advertise(&s.raw, (uintptr_t)s.raw.memory, sge.lkey, WIRE_ADV_LEN));
		TAP_CHECK(raw_recv(&s.raw, s.raw.memory, WIRE_ADV_LEN) == WIRE_ADV_LEN);
		TAP_CHECK(!rackwire_roce_post_send(s.raw.qp, wr, 40, NULL));
		TAP_CHECK(!rackwire_roce_disconnect(s.raw.id));
		TAP_CHECK(raw_disconnected(&s.raw));
		while (rackwire_roce_poll_cq(s.raw.cq, wc, 40) > 0)
			;
	}
	TAP_CHECK(scene_close(&s, 0));
}

/* ---- servers ---- */

struct victim {
	struct bench client;
	struct raw raw;
};

static bool victim_open(struct victim *v, uint32_t kind, const void *private_data, uint32_t length)
{
	if (raw_open(&v->raw) || raw_listen(&v->raw))
		return false;
	bench_init(&v->client, kind);
	v->client.config.port = v->raw.port;
	v->client.config.count = 10;
	if (bench_open(&v->client))
		return false;
	bench_start(&v->client);
	return !raw_accept(&v->raw, private_data, length);
}

static bool victim_close(struct victim *v, int error, const char *words)
{
	bool good = bench_join(&v->client) == error && strstr(v->client.error, words);

	if (!good)
		printf("# %d %s, not %d %s\n", v->client.result, v->client.error, error, words);
	bench_close(&v->client);
	raw_close(&v->raw);
	return good;
}

static void client__wants_more_than_pings_of_ours_only(void)
{
	struct victim v;

	TAP_CHECK(victim_open(&v, RACKWIRE_KRPING_WLAT, NULL, 0));
	TAP_CHECK(victim_close(&v, -EPROTO, "is no rackwire server"));
}

static void client__rejects_answers_of_another_length(void)
{
	struct victim v;
	uint8_t message[64] = { 0 };

	TAP_CHECK(victim_open(&v, RACKWIRE_KRPING_PING, NULL, 0));
	TAP_CHECK(raw_recv(&v.raw, message, sizeof(message)) == WIRE_ADV_LEN);
	raw_send(&v.raw, message, 15);
	TAP_CHECK(victim_close(&v, -EPROTO, "does not speak krping"));
	TAP_CHECK(victim_open(&v, RACKWIRE_KRPING_PING, NULL, 0));
	TAP_CHECK(raw_recv(&v.raw, message, sizeof(message)) == WIRE_ADV_LEN);
	raw_send(&v.raw, message, 64);
	TAP_CHECK(victim_close(&v, -EPROTO, "local length error"));
}

/* A server that gives the go-ahead without having done anything: the contents are wrong. */
static void client__finds_contents_that_did_not_come(void)
{
	uint8_t message[64] = { 0 };
	struct victim v;
	int i;

	TAP_CHECK(!raw_open(&v.raw) && !raw_listen(&v.raw));
	bench_init(&v.client, RACKWIRE_KRPING_PING);
	v.client.config.port = v.raw.port;
	v.client.config.count = 2;
	v.client.config.flags = RACKWIRE_KRPING_VALIDATE;
	TAP_CHECK(!bench_open(&v.client));
	bench_start(&v.client);
	TAP_CHECK(!raw_accept(&v.raw, NULL, 0));
	for (i = 0; i < 4; i++) {
		TAP_CHECK(raw_recv(&v.raw, message, sizeof(message)) == WIRE_ADV_LEN);
		TAP_CHECK(!raw_send(&v.raw, message, WIRE_ADV_LEN));
	}
	TAP_CHECK(bench_until(&v.client, RACKWIRE_KRPING_CORRUPT_BYTES, 128));
	TAP_CHECK(victim_close(&v, -EBADMSG, "contents came back wrong"));
}

static void client__says_that_the_server_hung_up(void)
{
	uint8_t message[64];
	struct victim v;

	TAP_CHECK(victim_open(&v, RACKWIRE_KRPING_PING, NULL, 0));
	TAP_CHECK(raw_recv(&v.raw, message, sizeof(message)) == WIRE_ADV_LEN);
	rackwire_roce_disconnect(v.raw.id);
	TAP_CHECK(victim_close(&v, -ECONNRESET, "closed the connection after 0 pings"));
}

static void client__of_a_server_that_grants_and_sets_up_nonsense(void)
{
	struct wire_grant grant = { .version = WIRE_VERSION, .status = WIRE_GRANTED };
	uint8_t bytes[WIRE_GRANT_LEN], message[64];
	struct victim v;

	wire_grant_encode(bytes, &grant);
	TAP_CHECK(victim_open(&v, RACKWIRE_KRPING_RLAT, bytes, sizeof(bytes)));
	TAP_CHECK(raw_recv(&v.raw, message, sizeof(message)) == WIRE_ADV_LEN);
	raw_advertise(&v.raw, 0x1000, 1, 63);
	TAP_CHECK(victim_close(&v, -EPROTO, "makes no sense"));
	TAP_CHECK(victim_open(&v, RACKWIRE_KRPING_RLAT, bytes, sizeof(bytes)));
	TAP_CHECK(raw_recv(&v.raw, message, sizeof(message)) == WIRE_ADV_LEN);
	raw_advertise(&v.raw, 0x1000, 1, 64);
	TAP_CHECK(victim_close(&v, -EREMOTEIO, "remote access error (status 10)"));
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(server__hangs_up_on_bad_advertisements),
		TAP_TEST(server__hangs_up_on_other_messages),
		TAP_TEST(server__reads_nothing_beyond_a_region),
		TAP_TEST(server__hangs_up_on_a_client_that_does_not_wait),
		TAP_TEST(server__writes_a_string_within_all_bounds),
		TAP_TEST(server__writes_what_one_of_ours_asks_for),
		TAP_TEST(server__refuses_wishes_that_make_no_sense),
		TAP_TEST(server__hangs_up_in_benchmarks_too),
		TAP_TEST(server__hangs_up_when_its_write_fails),
		TAP_TEST(server__outlives_a_client_that_leaves_amid_its_messages),
		TAP_TEST(client__wants_more_than_pings_of_ours_only),
		TAP_TEST(client__rejects_answers_of_another_length),
		TAP_TEST(client__finds_contents_that_did_not_come),
		TAP_TEST(client__says_that_the_server_hung_up),
		TAP_TEST(client__of_a_server_that_grants_and_sets_up_nonsense),
	};

	return TAP_RUN(tests, argc, argv);
}
