// SPDX-License-Identifier: BSD-2-Clause
/*
 * What becomes of requests when the exporter is lost, by what comes back: an exporter
 * played by hand answers, hangs up with a request under way, and appears again.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fake_rdma.h"
#include "krping/block_nbd.h"
#include "tap.h"

#define LENGTH (1u << 20)
#define NO_REPLY 0xffffffffu

static const struct scenario {
	bool replay, flushed, rebooted, other;
	uint32_t under_way, later; /* errors of the request at the loss, and of one after it */
} scenarios[] = {
	/* The same file on the same run of the machine: all that was answered is there. */
	{ .replay = true },
	{ .replay = false, .under_way = BLOCK_EIO },
	/* The machine was restarted: what was not flushed is gone. */
	{ .replay = true, .rebooted = true, .under_way = BLOCK_EIO, .later = BLOCK_EIO },
	{ .replay = false, .rebooted = true, .under_way = BLOCK_EIO, .later = BLOCK_EIO },
	{ .replay = true, .rebooted = true, .flushed = true },
	{ .replay = false, .rebooted = true, .flushed = true, .under_way = BLOCK_EIO },
	/* Other data under the same name. */
	{ .replay = true, .other = true, .flushed = true, .under_way = BLOCK_EIO, .later = BLOCK_EIO },
	{ .replay = false, .other = true, .flushed = true, .under_way = BLOCK_EIO, .later = BLOCK_EIO },
};

static const struct scenario *now;
static struct rackwire_krping_nbd *nbd;
static int peer;
static uint32_t connects, step, replies[3];
static bool holding;
static uint8_t requests[8][BLOCK_REQUEST_LEN + BLOCK_MAX_EAGER];
static uint32_t lengths[8], nrequests, seen[8], nseen;

static void welcome(const struct rackwire_roce_conn_param *param)
{
	struct block_welcome w = { .version = BLOCK_VERSION, .depth = 8, .exports = 1, .max_length = 65536 };
	uint8_t bytes[BLOCK_WELCOME_LEN];

	(void)param;
	connects++;
	nrequests = 0;
	holding = false;
	block_welcome_encode(bytes, &w);
	fake_event(RACKWIRE_ROCE_CM_ESTABLISHED, 0, bytes, sizeof(bytes));
}

static void on_send(const uint8_t *message, uint32_t length)
{
	memcpy(requests[nrequests], message, length);
	lengths[nrequests++] = length;
}

static void never(uint64_t addr, uint32_t rkey, const uint8_t *data, uint32_t length, bool imm, uint32_t tag)
{
	(void)addr, (void)rkey, (void)data, (void)length, (void)imm, (void)tag;
	abort();
}

static void answer(void)
{
	struct block_about about = { .length = LENGTH, .block = 4096, .flags = BLOCK_ABOUT_PERSISTENT,
				     .backing = "file", .boot = "first" };
	uint8_t out[BLOCK_ABOUT_LEN];
	struct block_request r;

	if (!block_request_decode(requests[0], lengths[0], &r))
		abort();
	memmove(requests[0], requests[1], sizeof(requests) - sizeof(requests[0]));
	memmove(lengths, lengths + 1, sizeof(lengths) - sizeof(lengths[0]));
	nrequests--;
	if (r.op == BLOCK_ABOUT) {
		if (connects > 1 && now->rebooted)
			memcpy(about.boot, "second", 6);
		if (connects > 1 && now->other)
			memcpy(about.backing, "else", 4);
		block_about_encode(out, r.tag, &about);
		fake_deliver(out, BLOCK_ABOUT_LEN);
		return;
	}
	if (nseen < 8)
		seen[nseen++] = (uint32_t)(r.offset / 4096);
	block_reply_encode(out, &(struct block_reply){ .tag = r.tag });
	fake_deliver(out, BLOCK_REPLY_LEN);
}

static void request(uint32_t type, uint32_t cookie, uint32_t length)
{
	static uint8_t bytes[NBD_REQUEST_LEN + 4096];

	nbd_put(bytes, 0x25609513, 4);
	nbd_put(bytes + 4, 0, 2);
	nbd_put(bytes + 6, type, 2);
	nbd_put(bytes + 8, cookie, 8);
	nbd_put(bytes + 16, cookie * 4096, 8);
	nbd_put(bytes + 24, length, 4);
	if (send(peer, bytes, NBD_REQUEST_LEN + length, 0) < 0)
		abort();
}

static bool heard(void)
{
	uint8_t bytes[16];

	if (recv(peer, bytes, sizeof(bytes), MSG_DONTWAIT) != sizeof(bytes))
		return false;
	replies[nbd_get(bytes + 8, 8)] = (uint32_t)nbd_get(bytes + 4, 4);
	return true;
}

static void idle(void)
{
	uint8_t greeting[18 + 20 + 12 + 20]; /* and the answer to GO */

	if (nrequests && !holding) {
		answer();
		return;
	}
	switch (step) {
	case 0:
		if (recv(peer, greeting, sizeof(greeting), MSG_PEEK) < (ssize_t)sizeof(greeting))
			return;
		if (recv(peer, greeting, sizeof(greeting), 0) != sizeof(greeting))
			abort();
		request(1, 0, 4096);
		step++;
		return;
	case 1: /* written; perhaps flushed */
		if (!heard())
			return;
		step++;
		if (now->flushed)
			request(3, 2, 0);
		else
			step++;
		return;
	case 2:
		if (heard())
			step++;
		return;
	case 3: /* one under way at the loss */
		replies[2] = NO_REPLY;
		holding = true;
		request(1, 1, 4096);
		step++;
		return;
	case 4:
		if (!nrequests)
			return;
		fake_event(RACKWIRE_ROCE_CM_DISCONNECTED, -ETIMEDOUT, NULL, 0);
		step++;
		return;
	case 5:
		if (connects < 2 || !heard())
			return;
		request(1, 2, 4096);
		step++;
		return;
	default:
		if (heard())
			rackwire_krping_nbd_stop(nbd);
	}
}

static void loss__loses_nothing_that_was_answered(void)
{
	static const uint8_t hello[] = "\0\0\0\3IHAVEOPT\0\0\0\7\0\0\0\6\0\0\0\0\0";
	uint8_t *stats = malloc(rackwire_krping_block_stats_length());
	char error[256];
	uint32_t i, k;
	int fds[2], err;

	for (i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
		struct rackwire_krping_nbd_config config = {
			.size = sizeof(config), .engine = RACKWIRE_KRPING_SOFT, .peer = "127.0.0.1", .port = 1,
			.max_clients = 1, .tcp_address = "127.0.0.1", .on_loss = scenarios[i].replay,
		};

		now = &scenarios[i];
		fake_reset();
		fake.connect = welcome;
		fake.send = on_send;
		fake.write = never;
		fake.idle = idle;
		connects = step = nrequests = nseen = 0;
		for (k = 0; k < 3; k++)
			replies[k] = NO_REPLY;
		step = 99; /* answers only */
		err = rackwire_krping_nbd_open(&config, stats, rackwire_krping_block_stats_length(), &nbd, error,
					       sizeof(error));
		TAP_CHECK(!err);
		step = 0;
		TAP_CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds));
		peer = fds[1];
		TAP_CHECK(!nbd_client_open(nbd, fds[0]));
		TAP_CHECK(send(peer, hello, sizeof(hello), 0) == sizeof(hello));
		TAP_CHECK(!rackwire_krping_nbd_run(nbd, error, sizeof(error)));
		close(peer);
		rackwire_krping_nbd_close(nbd);
		TAP_CHECK(replies[0] == 0);
		TAP_CHECK(replies[1] == now->under_way);
		TAP_CHECK(replies[2] == now->later);
		/* What failed has not been done behind the client's back. */
		for (k = 0; k < nseen && now->under_way; k++)
			TAP_CHECK(seen[k] != 1);
	}
	free(stats);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(loss__loses_nothing_that_was_answered),
	};
	return TAP_RUN(tests, argc, argv);
}
