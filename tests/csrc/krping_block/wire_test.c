// SPDX-License-Identifier: BSD-2-Clause
/* The block device's messages, against the bytes that docs/krping-wire.md tells of. */
#include <stdlib.h>

#include "krping/block_wire.h"
#include "tap.h"

static void request__is_as_described(void)
{
	static const uint8_t bytes[BLOCK_REQUEST_LEN] = {
		2, 1, 0, 3, 0, 0, 0, 9, 0, 0, 1, 2, 3, 4, 5, 6, 0, 1, 0, 0, 0xde, 0xad, 0xbe, 0xef,
		0x7f, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
	};
	struct block_request r = { .op = BLOCK_WRITE, .flags = BLOCK_FUA, .export = 3, .tag = 9,
				   .offset = 0x10203040506, .length = 65536, .rkey = 0xdeadbeef,
				   .addr = 0x7f11223344556677 };
	uint8_t out[BLOCK_REQUEST_LEN];
	struct block_request back = { 0 };

	block_request_encode(out, &r);
	TAP_CHECK(!memcmp(out, bytes, sizeof(bytes)));
	TAP_CHECK(block_request_decode(bytes, sizeof(bytes), &back));
	TAP_CHECK(back.op == r.op && back.flags == r.flags && back.export == r.export && back.tag == r.tag &&
		  back.offset == r.offset && back.length == r.length && back.rkey == r.rkey && back.addr == r.addr);
}

static void request__refuses_nonsense(void)
{
	uint8_t bytes[BLOCK_REQUEST_LEN + 8] = { BLOCK_READ };
	struct block_request r;
	uint32_t length, op, flag;

	for (length = 0; length < sizeof(bytes); length++)
		TAP_CHECK(block_request_decode(bytes, length, &r) == (length == BLOCK_REQUEST_LEN));
	for (op = 0; op < 256; op++) {
		bytes[0] = (uint8_t)op;
		TAP_CHECK(block_request_decode(bytes, BLOCK_REQUEST_LEN, &r) == (op >= 1 && op <= 6));
		for (flag = 1; flag < 256 && op <= 6; flag <<= 1) {
			uint32_t known = op == BLOCK_WRITE ? 3 : op == BLOCK_TRIM ? 1 : op == BLOCK_ZERO ? 13 : 0;

			bytes[1] = (uint8_t)flag;
			TAP_CHECK(block_request_decode(bytes, BLOCK_REQUEST_LEN, &r) == (op >= 1 && (flag & known)));
			bytes[1] = 0;
		}
	}
	/* As much data as it says. */
	bytes[0] = BLOCK_WRITE;
	bytes[1] = BLOCK_EAGER;
	bytes[19] = 8;
	TAP_CHECK(block_request_decode(bytes, BLOCK_REQUEST_LEN + 8, &r));
	TAP_CHECK(!block_request_decode(bytes, BLOCK_REQUEST_LEN + 7, &r));
	bytes[16] = 0xff;
	TAP_CHECK(!block_request_decode(bytes, BLOCK_REQUEST_LEN + 8, &r));
	bytes[1] = 0;
	bytes[6] = 4; /* a tag of 1024 */
	TAP_CHECK(!block_request_decode(bytes, BLOCK_REQUEST_LEN, &r));
}

static void hello__and_welcome_survive(void)
{
	struct block_hello hello = { .version = 1, .depth = 64, .eager = 8192, .client = "0123456789abcde" }, h;
	struct block_welcome welcome = { .version = 1, .status = 2, .depth = 16, .exports = 3, .eager = 40,
					 .max_length = 1 << 17 }, w;
	uint8_t bytes[56] = { 0 };

	block_hello_encode(bytes, &hello);
	TAP_CHECK(!memcmp(bytes, "RWbk\1\0\0\x40\0\0\x20\0" "0123456789abcde", 28));
	TAP_CHECK(block_hello_decode(bytes, 56, &h) && !block_hello_decode(bytes, 27, &h));
	TAP_CHECK(h.version == 1 && h.depth == 64 && h.eager == 8192 && !memcmp(h.client, hello.client, BLOCK_ID));
	bytes[0]++;
	TAP_CHECK(!block_hello_decode(bytes, 56, &h));
	block_welcome_encode(bytes, &welcome);
	TAP_CHECK(!memcmp(bytes, "RWbk\1\2\0\x10\0\3\0\0\0\0\0\x28\0\2\0", 20));
	TAP_CHECK(block_welcome_decode(bytes, 20, &w) && !block_welcome_decode(bytes, 19, &w));
	TAP_CHECK(w.status == 2 && w.depth == 16 && w.exports == 3 && w.eager == 40 && w.max_length == 1 << 17);
}

static void about__refuses_what_is_no_export(void)
{
	struct block_about about = { .length = 5, .flags = 3, .block = 4096, .name = "disk" }, a;
	uint8_t bytes[BLOCK_ABOUT_LEN];
	struct block_reply reply;

	block_about_encode(bytes, 7, &about);
	TAP_CHECK(block_about_decode(bytes, sizeof(bytes), &a) && !memcmp(&a, &about, sizeof(a)));
	TAP_CHECK(block_reply_decode(bytes, sizeof(bytes), &reply) && reply.tag == 7 && !reply.status);
	TAP_CHECK(!block_about_decode(bytes, sizeof(bytes) - 1, &a));
	bytes[63] = 'x'; /* a name without end */
	TAP_CHECK(!block_about_decode(bytes, sizeof(bytes), &a));
	bytes[63] = 0;
	bytes[16] = 0x80; /* longer than any file */
	TAP_CHECK(!block_about_decode(bytes, sizeof(bytes), &a));
	bytes[16] = 0;
	bytes[7] = BLOCK_EINVAL;
	TAP_CHECK(!block_about_decode(bytes, sizeof(bytes), &a));
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(request__is_as_described),
		TAP_TEST(request__refuses_nonsense),
		TAP_TEST(hello__and_welcome_survive),
		TAP_TEST(about__refuses_what_is_no_export),
	};
	return TAP_RUN(tests, argc, argv);
}
