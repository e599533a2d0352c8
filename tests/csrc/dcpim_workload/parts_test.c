// SPDX-License-Identifier: BSD-2-Clause
/* The pattern and the headers, without any network. */
#include <stdlib.h>

#include "dcpim/workload/pattern.h"
#include "dcpim/workload/service.h"
#include "tap.h"

#define LENGTH 200000

/* The pattern once more, byte by byte, as pattern.h words it. */
static u64 splitmix64(u64 x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static u8 byte_at(u64 seed, u64 pos)
{
	u64 i = pos / 8, word = splitmix64(i % 4096) + splitmix64(seed + 0x9e3779b97f4a7c15ull * (i / 4096));

	return (u8)(word >> (8 * (pos % 8)));
}

static void pattern_fill__is_what_the_header_says(void)
{
	static const u64 starts[] = { 0, 1, 7, 8, 32760, 32767, 32768, 1ull << 40, (1ull << 62) - 3 };
	u8 *out = malloc(LENGTH);
	u32 i, wrong = 0;
	u64 j;

	for (i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
		work_pattern_fill(i * 77, starts[i], out, LENGTH - i);
		for (j = 0; j < LENGTH - i; j++)
			wrong += out[j] != byte_at(i * 77, starts[i] + j);
	}
	free(out);
	TAP_CHECK(!wrong);
}

static void pattern_fill__in_any_pieces_is_the_same(void)
{
	u8 *whole = malloc(LENGTH), *pieces = malloc(LENGTH);
	u64 at = 0, n, random = 5;
	int same;

	work_pattern_fill(9, 1234567, whole, LENGTH);
	for (; at < LENGTH; at += n) {
		random = splitmix64(random);
		n = dcpim_min(random % (random & 1 ? 40 : 40000), LENGTH - at);
		work_pattern_fill(9, 1234567 + at, pieces + at, n);
	}
	same = !memcmp(whole, pieces, LENGTH);
	free(whole);
	free(pieces);
	TAP_CHECK(same);
}

static void pattern_check__finds_every_single_wrong_byte(void)
{
	u8 *data = malloc(70000);
	size_t first = 0, i;
	u32 missed = 0;

	work_pattern_fill(3, 5, data, 70000);
	TAP_CHECK(!work_pattern_check(3, 5, data, 70000, &first));
	for (i = 0; i < 70000; i += i < 100 || i > 69900 ? 1 : 97) {
		data[i] ^= 1u << (i % 8);
		missed += work_pattern_check(3, 5, data, 70000, &first) != 1 || first != i;
		data[i] ^= 1u << (i % 8);
	}
	free(data);
	TAP_CHECK(!missed);
}

static void pattern_check__counts_wrong_bytes(void)
{
	size_t first = 0;
	u8 data[4096];

	work_pattern_fill(3, 100, data, sizeof(data));
	data[17] ^= 0x80;
	data[1000] ^= 1;
	data[4095] ^= 1;
	TAP_CHECK(work_pattern_check(3, 100, data, sizeof(data), &first) == 3 && first == 17);
}

/* A transport's mistakes: what comes twice, is left out, or is another connection's. */
static void pattern_check__refuses_what_belongs_elsewhere(void)
{
	static const u64 shifts[] = { 1, 4, 8, 1448, 32760, 32768, 65536, 1 << 20, 1ull << 32 };
	u8 data[4096];
	size_t first;
	u32 i;

	for (i = 0; i < sizeof(shifts) / sizeof(shifts[0]); i++) {
		work_pattern_fill(3, 100 + shifts[i], data, sizeof(data));
		TAP_CHECK(work_pattern_check(3, 100, data, sizeof(data), &first) > 4000);
	}
	work_pattern_fill(4, 100, data, sizeof(data));
	TAP_CHECK(work_pattern_check(3, 100, data, sizeof(data), &first) > 4000);
}

static void hello__survives_the_wire(void)
{
	struct service_hello in = { RACKWIRE_DCPIM_WORK_SERVICE_SINK, SERVICE_PATTERN | SERVICE_CHECK, 0x0102030405060708, 77 };
	u8 bytes[SERVICE_HELLO_LEN];
	struct service_hello out;

	service_hello_put(bytes, &in);
	TAP_CHECK(!memcmp(bytes, "RWSH\1\2\0\3\1\2\3\4\5\6\7\10\0\0\0\115\0\0\0\0\0\0\0\0\0\0\0\0", 32));
	TAP_CHECK(!service_hello_get(bytes, sizeof(bytes), &out));
	TAP_CHECK(out.service == in.service && out.flags == in.flags && out.seed == in.seed && out.length == in.length);
}

static void hello_get__refuses_every_other_byte(void)
{
	struct service_hello in = { RACKWIRE_DCPIM_WORK_SERVICE_SINK, 0, 0, 64 }, out;
	u8 bytes[SERVICE_HELLO_LEN];
	u32 i, v, accepted = 0;

	service_hello_put(bytes, &in);
	for (i = 0; i < SERVICE_HELLO_LEN; i++) {
		u8 good = bytes[i];

		for (v = 0; v < 256; v++) {
			bytes[i] = (u8)v;
			if (v == good || service_hello_get(bytes, sizeof(bytes), &out))
				continue;
			/* The seed may be anything, the length 1 byte to 64 MiB, the service one of three. */
			accepted += !((i >= 8 && i < 16) || (out.length && out.length <= 64 << 20 && i >= 16 && i < 20) ||
				      (i == 5 && v >= 1 && v <= 3) || (i == 7 && (v == 1 || v == 3)));
		}
		bytes[i] = good;
	}
	TAP_CHECK(!accepted);
	for (i = 0; i < SERVICE_HELLO_LEN; i++)
		TAP_CHECK(service_hello_get(bytes, i, &out) == -EPROTO);
	service_hello_put(bytes, &(struct service_hello){ 1, 0, 0, 0 });
	TAP_CHECK(service_hello_get(bytes, sizeof(bytes), &out) == -EPROTO);
	service_hello_put(bytes, &(struct service_hello){ 1, 0, 0, (64 << 20) + 1 });
	TAP_CHECK(service_hello_get(bytes, sizeof(bytes), &out) == -EPROTO);
}

static void report__survives_the_wire(void)
{
	struct service_report in = { 1, 2, 3, 4, 5, 6, 7, 8 }, out;
	u8 bytes[SERVICE_REPORT_LEN];

	service_report_put(bytes, &in);
	TAP_CHECK(!service_report_get(bytes, sizeof(bytes), &out) && !memcmp(&in, &out, sizeof(in)));
	TAP_CHECK(service_report_get(bytes, sizeof(bytes) - 1, &out) == -EPROTO);
	in.cpu_from = 9;
	service_report_put(bytes, &in);
	TAP_CHECK(service_report_get(bytes, sizeof(bytes), &out) == -EPROTO);
}

static void welcome_and_datagram__survive_the_wire(void)
{
	struct service_welcome w = { SERVICE_FULL, SERVICE_CHECK }, w2;
	struct service_datagram d = { SERVICE_PONG, SERVICE_CHECK, 11, 12 }, d2;
	u8 bytes[SERVICE_WELCOME_LEN];

	service_welcome_put(bytes, &w);
	TAP_CHECK(!service_welcome_get(bytes, sizeof(bytes), &w2) && w2.status == w.status && w2.flags == w.flags);
	bytes[5] = 3;
	TAP_CHECK(service_welcome_get(bytes, sizeof(bytes), &w2) == -EPROTO);
	service_datagram_put(bytes, &d);
	TAP_CHECK(!service_datagram_get(bytes, SERVICE_DATAGRAM_LEN, &d2) && d2.type == d.type && d2.flags == d.flags);
	TAP_CHECK(d2.session == 11 && d2.number == 12);
	TAP_CHECK(service_datagram_get(bytes, SERVICE_DATAGRAM_LEN - 1, &d2) == -EPROTO);
	bytes[5] = 0;
	TAP_CHECK(service_datagram_get(bytes, SERVICE_DATAGRAM_LEN, &d2) == -EPROTO);
	bytes[5] = 6;
	TAP_CHECK(service_datagram_get(bytes, SERVICE_DATAGRAM_LEN, &d2) == -EPROTO);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(pattern_fill__is_what_the_header_says),
		TAP_TEST(pattern_fill__in_any_pieces_is_the_same),
		TAP_TEST(pattern_check__finds_every_single_wrong_byte),
		TAP_TEST(pattern_check__counts_wrong_bytes),
		TAP_TEST(pattern_check__refuses_what_belongs_elsewhere),
		TAP_TEST(hello__survives_the_wire),
		TAP_TEST(hello_get__refuses_every_other_byte),
		TAP_TEST(report__survives_the_wire),
		TAP_TEST(welcome_and_datagram__survive_the_wire),
	};

	work_pattern_init();
	return TAP_RUN(tests, argc, argv);
}
