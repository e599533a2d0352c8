// SPDX-License-Identifier: BSD-2-Clause
/*
 * The NBD server between a client and an exporter that both do what the input says.
 * With a lawful exporter and a client that writes whole requests, the client is not
 * hung up on and every request has one reply. In any case nothing faults, the exporter
 * is only asked what it may do, and all memory comes back.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../csrc/krping_block/fake_rdma.h"
#include "krping/block_nbd.h"

#define LENGTH (3u << 20)
#define ANSWERS 64
#define TX (1u << 20)
#define REQUESTS 512

static struct rackwire_krping_nbd *nbd;
static const uint8_t *input, *input_end;
static uint8_t store[LENGTH], tx[TX];
static bool lawful, raw, hello_done, hung_up, named, left;
static int peer;
static uint32_t tx_at, tx_have, asked, idles;
static struct {
	uint8_t message[BLOCK_REQUEST_LEN + BLOCK_MAX_EAGER];
	uint32_t length;
} answers[ANSWERS]; /* requests at the exporter */
static uint32_t nanswers;

#define REQUIRE(condition)		\
	do {				\
		if (!(condition))	\
			abort();	\
	} while (0)

static uint64_t take(uint32_t bytes)
{
	uint64_t v = 0;

	while (bytes--)
		v = v << 8 | (input < input_end ? *input++ : 0);
	return v;
}

/* ---- the exporter ---- */

static void welcome(const struct rackwire_roce_conn_param *param)
{
	struct block_welcome w = { .version = BLOCK_VERSION, .depth = 16, .exports = 1, .eager = 4096,
				   .max_length = 65536 };
	uint8_t bytes[BLOCK_WELCOME_LEN];
	struct block_hello hello;

	REQUIRE(block_hello_decode(param->private_data, param->private_data_len, &hello));
	block_welcome_encode(bytes, &w);
	fake_event(RACKWIRE_ROCE_CM_ESTABLISHED, 0, bytes, sizeof(bytes));
}

static void on_send(const uint8_t *message, uint32_t length)
{
	struct block_request r;

	REQUIRE(block_request_decode(message, length, &r) && r.tag < 16 && nanswers < ANSWERS);
	if (r.op != BLOCK_ABOUT && r.op != BLOCK_FLUSH)
		REQUIRE(r.length && r.offset <= LENGTH && r.length <= LENGTH - r.offset);
	if (r.op == BLOCK_READ)
		REQUIRE(fake_reach(r.addr, r.rkey, r.length, RACKWIRE_ROCE_REMOTE_WRITE));
	if (r.op == BLOCK_WRITE && !(r.flags & BLOCK_EAGER))
		REQUIRE(fake_reach(r.addr, r.rkey, r.length, RACKWIRE_ROCE_REMOTE_READ));
	memcpy(answers[nanswers].message, message, length);
	answers[nanswers++].length = length;
}

static void on_write(uint64_t addr, uint32_t rkey, const uint8_t *data, uint32_t length, bool imm, uint32_t tag)
{
	(void)addr, (void)rkey, (void)data, (void)length, (void)imm, (void)tag;
	abort();
}

static void on_read(uint64_t addr, uint32_t rkey, uint8_t *data, uint32_t length)
{
	(void)addr, (void)rkey, (void)data, (void)length;
	abort();
}

static void answer(uint32_t which, bool honest)
{
	uint8_t out[BLOCK_ABOUT_LEN] = { 0 };
	struct block_reply reply = { 0 };
	struct block_request r;
	uint8_t *data;

	REQUIRE(block_request_decode(answers[which].message, answers[which].length, &r));
	reply.tag = r.tag;
	if (!honest) {
		if (take(1) & 1)
			reply.tag = (uint32_t)take(1);
		reply.status = (uint32_t)take(1);
	}
	data = fake_reach(r.addr, r.rkey, r.length, 0);
	switch (r.op) {
	case BLOCK_ABOUT: {
		struct block_about about = { .length = LENGTH, .block = 4096, .flags = BLOCK_ABOUT_PERSISTENT };

		block_about_encode(out, reply.tag, &about);
		fake_deliver(out, BLOCK_ABOUT_LEN);
		goto gone;
	}
	case BLOCK_READ:
		if (reply.status)
			break;
		memcpy(data, store + r.offset, r.length);
		fake_deliver_imm(reply.tag, honest ? r.length : (uint32_t)take(2));
		goto gone;
	case BLOCK_WRITE:
		if (r.flags & BLOCK_EAGER)
			data = answers[which].message + BLOCK_REQUEST_LEN;
		memcpy(store + r.offset, data, r.length);
		break;
	case BLOCK_TRIM:
	case BLOCK_ZERO:
		memset(store + r.offset, 0, r.length);
		break;
	}
	block_reply_encode(out, &reply);
	fake_deliver(out, honest ? BLOCK_REPLY_LEN : (uint32_t)take(1) % sizeof(out));
gone:
	answers[which] = answers[--nanswers];
}

/* ---- what the client hears ---- */

enum { GREETING, OPTIONS, REPLIES };
static struct {
	uint32_t type, length;
	bool replied;
} requests[REQUESTS];
static uint8_t heard[32];
static uint32_t phase, have, skip;

static bool transmitting(uint32_t option, uint32_t type)
{
	return option == 7 && type == 1;
}

static void final_reply(uint64_t cookie)
{
	REQUIRE(cookie < asked && !requests[cookie].replied);
	requests[cookie].replied = true;
}

/* Return: bytes that the message in @heard has in front of what is to be skipped; 0: more are needed. */
static uint32_t hear(void)
{
	uint64_t magic = have >= 8 ? nbd_get(heard, 8) : 0, cookie;

	if (phase == GREETING) {
		phase = have < 18 ? GREETING : OPTIONS;
		return have < 18 ? 0 : 18;
	}
	if (phase == OPTIONS && have >= 8 && magic != 0x3e889045565a9ull) { /* EXPORT_NAME's answer */
		REQUIRE(magic == LENGTH && named);
		phase = have < 10 ? OPTIONS : REPLIES;
		return have < 10 ? 0 : 10;
	}
	if (phase == OPTIONS) {
		if (have < 20)
			return 0;
		skip = (uint32_t)nbd_get(heard + 16, 4);
		if (transmitting((uint32_t)nbd_get(heard + 8, 4), (uint32_t)nbd_get(heard + 12, 4)))
			phase = REPLIES;
		return 20;
	}
	if (have < 16)
		return 0;
	cookie = nbd_get(heard + 8, 8);
	if (magic >> 32 == 0x67446698) {
		final_reply(cookie);
		skip = !requests[cookie].type && !(uint32_t)magic ? requests[cookie].length : 0;
		return 16;
	}
	REQUIRE(magic >> 32 == 0x668e33ef && have <= 20);
	if (have < 20)
		return 0;
	REQUIRE(cookie < asked && !requests[cookie].type && !requests[cookie].replied);
	if (magic >> 16 & 1)
		final_reply(cookie);
	skip = (uint32_t)nbd_get(heard + 16, 4);
	REQUIRE(skip <= requests[cookie].length + 8);
	return 20;
}

static void client_read(uint32_t most)
{
	static uint8_t buffer[65536];
	ssize_t n = recv(peer, buffer, most && most < sizeof(buffer) ? most : sizeof(buffer), MSG_DONTWAIT), i;

	hung_up |= n == 0;
	for (i = 0; i < n && !raw && lawful;) {
		if (skip) {
			uint32_t some = skip < n - i ? skip : (uint32_t)(n - i);

			skip -= some;
			i += some;
			continue;
		}
		heard[have++] = buffer[i++];
		if (hear())
			have = 0;
	}
	if (n > 0)
		idles = 0;
}

/* ---- the client ---- */

static void put(uint64_t value, uint32_t bytes)
{
	REQUIRE(tx_have + bytes <= TX);
	nbd_put(tx + tx_have, value, bytes);
	tx_have += bytes;
}

static void say_hello(void)
{
	uint8_t kind = (uint8_t)take(1);

	put(3, 4);
	if (kind & 1) {
		put(0x49484156454f5054ull, 8), put(8, 4), put(0, 4);
	}
	if (kind & 2) {
		put(0x49484156454f5054ull, 8), put(3, 4), put(0, 4);
	}
	named = kind & 4;
	if (named) { /* export_name */
		put(0x49484156454f5054ull, 8), put(1, 4), put(0, 4);
	} else {
		put(0x49484156454f5054ull, 8), put(7, 4), put(8, 4);
		put(0, 4), put(1, 2), put(3, 2);
	}
}

static void say_request(void)
{
	uint8_t kind = (uint8_t)take(1);
	uint32_t type = kind % 8, length = (uint32_t)take(kind & 0x40 ? 3 : 2), i;

	if (kind & 0x80)
		length = (length << 4) % (LENGTH + 9);
	if (type == 1 && length > TX / 2)
		length %= 65536;
	if (tx_have + 28 + (type == 1 ? length : 0) > TX || asked == REQUESTS)
		return;
	put(0x25609513, 4);
	put(kind & 0x20 ? take(2) : kind & 0x10 ? 1 : 0, 2);
	put(type, 2);
	requests[asked].type = type;
	requests[asked].length = length;
	requests[asked].replied = type == 2 || left; /* nothing is promised after a goodbye */
	left |= type == 2;
	put(asked++, 8);
	put(kind & 8 ? take(8) : take(3) % LENGTH, 8);
	put(length, 4);
	for (i = 0; type == 1 && i < length; i++)
		tx[tx_have++] = (uint8_t)(i ^ asked);
}

static void client_write(void)
{
	uint32_t some = tx_have - tx_at;
	ssize_t n;

	if (some > 1 && take(1) & 1)
		some = 1 + (uint32_t)take(2) % some;
	n = send(peer, tx + tx_at, some, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n > 0)
		tx_at += (uint32_t)n;
	if (tx_at == tx_have)
		tx_at = tx_have = 0;
}

static void idle(void)
{
	uint32_t i;

	if (nbd->link.state != NBD_LINK_READY || !nbd->ran) {
		if (nanswers)
			answer(0, true);
		else
			rackwire_krping_nbd_stop(nbd);
		return;
	}
	if (input == input_end) {
		/* To the end, as it should go. */
		client_read(0);
		if (nanswers)
			answer(0, true);
		else if (tx_have && !hung_up)
			client_write();
		else if (++idles > 200 || hung_up)
			rackwire_krping_nbd_stop(nbd);
		return;
	}
	switch (take(1) % 12) {
	case 0:
		if (raw) {
			uint32_t n = (uint32_t)take(1);

			for (i = 0; i < n && tx_have < TX; i++)
				tx[tx_have++] = (uint8_t)take(1);
		}
		break;
	case 1:
		if (!lawful && nanswers)
			answer((uint32_t)take(1) % nanswers, false);
		break;
	case 2:
		if (!lawful && !(take(1) & 7))
			fake_event(RACKWIRE_ROCE_CM_DISCONNECTED, 0, NULL, 0);
		break;
	case 3:
		client_read(1 + (uint32_t)take(2));
		break;
	case 4:
		client_read(0);
		break;
	case 5:
	case 6:
		if (nanswers)
			answer((uint32_t)take(1) % nanswers, true);
		break;
	case 7:
		client_write();
		break;
	default:
		if (!hello_done && !raw)
			say_hello();
		else
			say_request();
		hello_done = true;
		client_write();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rackwire_krping_nbd_config config = { .size = sizeof(config), .engine = RACKWIRE_KRPING_SOFT,
						     .peer = "127.0.0.1", .port = 1, .depth = 16, .max_clients = 4,
						     .memory = 1 << 20, .tcp_address = "127.0.0.1" };
	static uint8_t *stats;
	struct nbd_client *c;
	char error[256];
	uint32_t i;
	int fds[2];

	if (size < 2)
		return 0;
	if (!stats)
		stats = malloc(rackwire_krping_block_stats_length());
	fake_reset();
	fake.idle = idle;
	fake.connect = welcome;
	fake.send = on_send;
	fake.write = on_write;
	fake.read = on_read;
	lawful = data[0] & 1;
	raw = data[0] & 2;
	config.on_loss = data[0] >> 2 & 1;
	input = data + 1;
	input_end = data + size;
	hello_done = hung_up = false;
	named = left = false;
	tx_at = tx_have = asked = nanswers = idles = phase = have = skip = 0;
	{
		/* Known before it is opened, for idle(). */
		static struct rackwire_krping_nbd none;

		nbd = &none;
	}
	/* What the server asks first is answered as it should be. */
	REQUIRE(!rackwire_krping_nbd_open(&config, stats, rackwire_krping_block_stats_length(), &nbd, error, sizeof(error)));
	REQUIRE(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds));
	peer = fds[1];
	REQUIRE(!nbd_client_open(nbd, fds[0]));
	rackwire_krping_nbd_run(nbd, error, sizeof(error));
	if (lawful && !raw) {
		REQUIRE(!hung_up || left);
		for (i = 0; i < asked && !tx_have; i++)
			REQUIRE(requests[i].replied);
	}
	close(peer);
	for (c = nbd->clients; c; c = c->next)
		nbd_client_close(c);
	nbd_link_abandon(nbd);
	REQUIRE(!nbd->under_way && nbd->slab.nfree == nbd->slab.count && !nbd->spare_used);
	rackwire_krping_nbd_close(nbd);
	return 0;
}
