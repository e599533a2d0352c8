// SPDX-License-Identifier: BSD-2-Clause
/*
 * An exporter whose peer says whatever the input has it say. What must hold: nothing
 * outside the stores is touched, what is answered with success has happened, every
 * request has one answer, and all memory comes back.
 */
#include <stdlib.h>
#include <string.h>

#include "krping/block_wire.h"
#include "rackwire_krping_block.h"
#include "../csrc/krping_block/fake_rdma.h"

#define LENGTH (300 * 1024u) /* of the store */
#define DEPTH 8
#define REMOTE (256 * 1024u)

static struct rackwire_krping_exporter *exporter;
static const uint8_t *input, *input_end;
static uint8_t model[LENGTH], remote[REMOTE];
static struct block_request asked[DEPTH];
static bool waiting[DEPTH];
static bool lawful; /* the peer has kept to the rules on this connection, so that it must be answered */

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

static bool inside(const struct block_request *r)
{
	return r->offset <= LENGTH && r->length <= LENGTH - r->offset;
}

/* The one request under way has been done. */
static void done(uint32_t tag, uint32_t status)
{
	struct block_request *r;

	if (!lawful)
		return;
	REQUIRE(tag < DEPTH && waiting[tag]);
	r = &asked[tag];
	waiting[tag] = false;
	if (status)
		return;
	REQUIRE(!r->export || r->export == 1);
	if (r->op == BLOCK_READ || r->op == BLOCK_WRITE || r->op == BLOCK_TRIM || r->op == BLOCK_ZERO)
		REQUIRE(r->length && inside(r));
	REQUIRE(r->export == 0 || r->op == BLOCK_READ || r->op == BLOCK_FLUSH || r->op == BLOCK_ABOUT);
	if (r->op == BLOCK_WRITE)
		memcpy(model + r->offset, remote + (uint32_t)r->addr, r->length);
	if (r->op == BLOCK_TRIM || r->op == BLOCK_ZERO)
		memset(model + r->offset, 0, r->length);
}

static void on_send(const uint8_t *message, uint32_t length)
{
	struct block_reply reply;
	struct block_about about;

	REQUIRE(block_reply_decode(message, length, &reply));
	if (length == BLOCK_ABOUT_LEN)
		REQUIRE(block_about_decode(message, length, &about) && about.length == LENGTH);
	done(reply.tag, reply.status);
}

static void on_write(uint64_t addr, uint32_t rkey, const uint8_t *data, uint32_t length, bool imm, uint32_t tag)
{
	REQUIRE(imm);
	if (lawful) {
		REQUIRE(tag < DEPTH && waiting[tag] && asked[tag].op == BLOCK_READ);
		REQUIRE(addr == asked[tag].addr && rkey == asked[tag].rkey && length == asked[tag].length);
		REQUIRE(asked[tag].export == 1 || !memcmp(data, model + asked[tag].offset, length));
	}
	done(tag, BLOCK_OK);
}

static void on_read(uint64_t addr, uint32_t rkey, uint8_t *data, uint32_t length)
{
	(void)rkey;
	memcpy(data, remote + (addr % REMOTE > REMOTE - length ? 0 : addr % REMOTE), length);
}

static void ask(void)
{
	static uint8_t message[BLOCK_REQUEST_LEN + BLOCK_MAX_EAGER];
	uint8_t kind = (uint8_t)take(1);
	struct block_request r = { .op = (uint8_t)(kind % 7), .flags = (uint8_t)take(1), .tag = kind >> 4 & (DEPTH - 1) };
	uint32_t length = BLOCK_REQUEST_LEN, i;

	r.export = (uint16_t)(take(1) % 3);
	r.offset = kind & 8 ? take(8) : take(3) % LENGTH;
	r.length = kind & 0x80 ? (uint32_t)take(4) : (uint32_t)take(2) % (LENGTH / 4);
	if (waiting[r.tag])
		return;
	r.rkey = 7;
	r.addr = take(2);
	if (r.length > REMOTE - (uint32_t)r.addr)
		r.addr = 0;
	if (r.op != BLOCK_WRITE)
		r.flags &= (uint8_t)~BLOCK_EAGER;
	if (r.flags & BLOCK_EAGER) {
		r.length %= BLOCK_MAX_EAGER + 1;
		for (i = 0; i < r.length; i++)
			message[BLOCK_REQUEST_LEN + i] = remote[(uint32_t)r.addr + i];
		length += r.length;
	}
	block_request_encode(message, &r);
	asked[r.tag] = r;
	waiting[r.tag] = true;
	/* It may hang up at that, but not answer it wrongly. */
	if (!block_request_decode(message, length, &r))
		lawful = false;
	fake_deliver(message, length);
}

static void idle(void)
{
	uint8_t bytes[256];
	uint32_t n, i;
	struct block_hello hello = { .version = BLOCK_VERSION, .depth = DEPTH, .eager = BLOCK_MAX_EAGER };

	if (input == input_end) {
		rackwire_krping_export_stop(exporter);
		return;
	}
	if (!fake.connected) {
		memset(waiting, 0, sizeof(waiting));
		lawful = true;
		if (take(1) % 4) {
			block_hello_encode(bytes, &hello);
			fake_request(bytes, BLOCK_HELLO_LEN);
		} else {
			n = (uint32_t)take(1);
			for (i = 0; i < n; i++)
				bytes[i] = (uint8_t)take(1);
			fake_request(bytes, n);
		}
		return;
	}
	switch (take(1) % 16) {
	case 0: /* nonsense */
		lawful = false;
		n = (uint32_t)take(1) % 200;
		for (i = 0; i < n; i++)
			bytes[i] = (uint8_t)take(1);
		fake_deliver(bytes, n);
		break;
	case 1:
		lawful = false;
		fake_failure(RACKWIRE_ROCE_WC_RETRY_EXC_ERR);
		break;
	case 2:
		lawful = false;
		fake_event(RACKWIRE_ROCE_CM_DISCONNECTED, 0, NULL, 0);
		break;
	case 3:
		fake_event(RACKWIRE_ROCE_CM_ESTABLISHED, 0, NULL, 0);
		break;
	default:
		ask();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rackwire_krping_export exports[2] = {
		{ .name = "a", .length = LENGTH },
		{ .name = "b", .length = LENGTH, .flags = RACKWIRE_KRPING_EXPORT_READ_ONLY },
	};
	struct rackwire_krping_export_config config = { .size = sizeof(config), .engine = RACKWIRE_KRPING_SOFT,
							.exports_count = 2, .threads = 1, .depth = DEPTH,
							.memory = 1 << 20 };
	static uint8_t *stats;
	char error[256];
	uint32_t i;

	if (!size)
		return 0;
	if (!stats)
		stats = malloc(rackwire_krping_block_stats_length());
	fake_reset();
	fake.local_dma = data[0] & 1;
	fake.idle = idle;
	fake.send = on_send;
	fake.write = on_write;
	fake.read = on_read;
	input = data + 1;
	input_end = data + size;
	memset(model, 0, sizeof(model));
	memset(waiting, 0, sizeof(waiting));
	for (i = 0; i < REMOTE; i++)
		remote[i] = (uint8_t)(i * 7 + (i >> 8));
	REQUIRE(!rackwire_krping_export_open(&config, exports, stats, rackwire_krping_block_stats_length(), &exporter,
					     error, sizeof(error)));
	REQUIRE(!rackwire_krping_export_run(exporter, error, sizeof(error)));
	for (i = 0; lawful && fake.connected && i < DEPTH; i++)
		REQUIRE(!waiting[i]);
	rackwire_krping_export_close(exporter);
	return 0;
}
