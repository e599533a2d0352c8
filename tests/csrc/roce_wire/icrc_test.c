// SPDX-License-Identifier: BSD-2-Clause
/* CRC-32, the invariant CRC and solving for the identification, against zlib, real NICs and the definition. */
#include <arpa/inet.h>
#include <stdio.h>

#include "helpers.h"
#include "roce/user/crc32.h"
#include "tap.h"

#define VECTORS "tests/csrc/roce_wire/data/icrc.txt"

static struct random seed;

/* One bit at a time, as IEEE 802.3 defines it. */
static u32 by_definition(u32 crc, const u8 *p, size_t len)
{
	crc = ~crc;
	for (; len--; p++)
		for (u32 bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ ((crc ^ *p >> bit) & 1 ? 0xedb88320 : 0);
	return ~crc;
}

static void crc32__gives_what_zlib_gives(void)
{
	/* python3: zlib.crc32(...) */
	static u8 pattern[5000];
	static const struct {
		const char *text;
		u32 crc;
	} known[] = {
		{ "", 0x00000000 },
		{ "a", 0xe8b7be43 },
		{ "123456789", 0xcbf43926 }, /* the check value of every CRC catalogue */
		{ "The quick brown fox jumps over the lazy dog", 0x414fa339 },
	};

	for (u32 i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		TAP_CHECK(roce_crc32(0, known[i].text, strlen(known[i].text)) == known[i].crc);
	for (u32 i = 0; i < sizeof(pattern); i++)
		pattern[i] = (u8)(i * 7 + i / 256);
	TAP_CHECK(roce_crc32(0, pattern, sizeof(pattern)) == 0xa4f08d8e);
}

static void check_against_definition(roce_crc32_fn crc32)
{
	static u8 bytes[4500];

	fill(&seed, bytes, sizeof(bytes));
	for (u32 len = 0; len < 1200; len++) {
		u32 start = (u32)rnd(&seed);
		u32 at = below(&seed, 64);
		u8 *copy = copy_of(bytes + at, len);
		u32 crc = crc32(start, copy, len);

		free_copy(copy);
		TAP_CHECK(crc == by_definition(start, bytes + at, len));
	}
	for (u32 round = 0; round < 300; round++) {
		u32 len = below(&seed, sizeof(bytes)), cut = below(&seed, len + 1);
		u32 whole = by_definition(0, bytes, len);

		TAP_CHECK(crc32(0, bytes, len) == whole);
		TAP_CHECK(crc32(crc32(0, bytes, cut), bytes + cut, len - cut) == whole);
	}
}

static void crc32__portable_follows_the_definition(void)
{
	check_against_definition(roce_crc32);
}

static void crc32__pclmul_follows_the_definition(void)
{
#if defined(__x86_64__)
	if (roce_has_pclmul()) {
		check_against_definition(roce_crc32_pclmul);
		return;
	}
#endif
	TAP_SKIP("this processor has no PCLMULQDQ");
}

static void crc32__vpclmul_follows_the_definition(void)
{
#if defined(__x86_64__)
	if (roce_has_vpclmul()) {
		check_against_definition(roce_crc32_vpclmul);
		return;
	}
#endif
	TAP_SKIP("this processor has no VPCLMULQDQ with AVX-512");
}

static void crc32__the_chosen_one_follows_the_definition(void)
{
	check_against_definition(roce_crc32_fast());
}

static void shift__is_what_bytes_that_follow_do_to_a_difference(void)
{
	static u8 bytes[70000];

	fill(&seed, bytes, sizeof(bytes));
	for (u32 round = 0; round < 300; round++) {
		u32 a = (u32)rnd(&seed), b = (u32)rnd(&seed);
		u32 n = below(&seed, 2) ? below(&seed, 64) : below(&seed, sizeof(bytes));
		u32 after = roce_crc32(a, bytes, n) ^ roce_crc32(b, bytes, n);

		TAP_CHECK(roce_crc32_shift(a ^ b, n) == after);
	}
}

struct vector {
	u8 saddr[16], daddr[16];
	u16 sport, dport, ip_id, ip_frag;
	u8 packet[5000]; /* ICRC included */
	u32 len;
};

static bool parse_addr(const char *text, u8 *addr)
{
	memset(addr, 0, 16);
	if (inet_pton(AF_INET, text, addr + 12) == 1) {
		addr[10] = addr[11] = 0xff;
		return true;
	}
	return inet_pton(AF_INET6, text, addr) == 1;
}

static u32 parse_hex(const char *text, u8 *bytes, u32 room)
{
	u32 len = 0;
	unsigned int byte;

	for (; len < room && sscanf(text, "%2x", &byte) == 1; text += 2)
		bytes[len++] = (u8)byte;
	return *text ? 0 : len;
}

/* The next vector of the file; false at its end. Fails the test on a line it does not understand. */
static bool read_vector(FILE *f, struct vector *v)
{
	static char line[12000], packet[10000];
	char source[64], destination[64], icrc[16];

	do {
		if (!fgets(line, sizeof(line), f))
			return false;
	} while (line[0] == '#');
	if (sscanf(line, "%63s %63s %hu %hu %hu %hu %9999s %15s", source, destination, &v->sport, &v->dport, &v->ip_id,
		   &v->ip_frag, packet, icrc) == 8 &&
	    parse_addr(source, v->saddr) && parse_addr(destination, v->daddr)) {
		v->len = parse_hex(packet, v->packet, sizeof(v->packet) - 4);
		if (v->len && parse_hex(icrc, v->packet + v->len, 4) == 4) {
			v->len += 4;
			return true;
		}
	}
	tap_failed = "a line of " VECTORS " makes no sense";
	tap_failed_line = __LINE__;
	return false;
}

static void check_vector(const struct vector *v)
{
	const roce_crc32_fn fns[] = { roce_crc32, roce_crc32_fast() };
	struct roce_solve_cache cache = { { 0 }, { 0 } };
	struct roce_flow f;

	roce_flow_init(&f, v->saddr, v->daddr, v->sport, v->dport, v->ip_frag);
	for (u32 i = 0; i < 2; i++) {
		u16 id = f.v4 ? 0x5555 : 0xaaaa;
		u8 *copy = copy_of(v->packet, v->len);

		TAP_CHECK(roce_icrc(&f, fns[i], v->ip_id, copy, v->len - 4) == roce_icrc_get(copy + v->len - 4));
		TAP_CHECK(roce_icrc_check(&f, fns[i], &cache, copy, v->len, &id) == 0);
		TAP_CHECK(id == (f.v4 ? v->ip_id : 0xaaaa));
		copy[4] ^= 0xff; /* not covered */
		TAP_CHECK(roce_icrc_check(&f, fns[i], &cache, copy, v->len, &id) == 0);
		copy[v->len - 5] ^= 1;
		TAP_CHECK(roce_icrc_check(&f, fns[i], &cache, copy, v->len, &id) == -EBADMSG);
		TAP_CHECK(id == (f.v4 ? v->ip_id : 0xaaaa));
		free_copy(copy);
	}
}

static void icrc__is_what_zlib_makes_of_the_masked_packet(void)
{
	static struct vector v;
	u32 v4 = 0, v6 = 0;
	FILE *f = fopen(VECTORS, "r");

	TAP_CHECK(f != NULL);
	while (read_vector(f, &v)) {
		check_vector(&v);
		if (tap_failed) {
			printf("# the vector of %u bytes from port %u\n", v.len, v.sport);
			break;
		}
		*(v.saddr[10] == 0xff && !v.saddr[0] ? &v4 : &v6) += 1;
	}
	fclose(f);
	if (tap_failed)
		return;
	TAP_CHECK(v4 >= 7 && v6 >= 6);
}

/* Packets of ConnectX adapters, as the tests of scapy's RoCE layer quote them, from the IP header to the ICRC. */
static void icrc__is_that_of_real_adapters(void)
{
	static const char *const packets[] = {
		/* A congestion notification of a ConnectX-4 Lx. */
		"45c2003c718c4000401191610a0011010a001201"
		"000012b700280000"
		"8100ffff4000011800000000"
		"00000000000000000000000000000000"
		"82fd002a",
		/* A SEND over an unreliable connection. */
		"450100400478400040110000c0a80007c0a80007"
		"c00012b7002c0000"
		"2460ffff000000d300cf1710"
		"4630818be28935d90e9a95505401be885e500000"
		"78f353f3",
	};

	for (u32 i = 0; i < sizeof(packets) / sizeof(packets[0]); i++) {
		u8 bytes[128], saddr[16] = { [10] = 0xff, [11] = 0xff }, daddr[16] = { [10] = 0xff, [11] = 0xff };
		u32 len = parse_hex(packets[i], bytes, sizeof(bytes));
		struct roce_solve_cache cache = { { 0 }, { 0 } };
		struct roce_flow f;
		u16 id = 0;

		TAP_CHECK(len == roce_get16(bytes + 2));
		memcpy(saddr + 12, bytes + 12, 4);
		memcpy(daddr + 12, bytes + 16, 4);
		roce_flow_init(&f, saddr, daddr, roce_get16(bytes + 20), roce_get16(bytes + 22), roce_get16(bytes + 6));
		len -= 28;
		TAP_CHECK(roce_icrc(&f, roce_crc32_fast(), roce_get16(bytes + 4), bytes + 28, len - 4) ==
			  roce_icrc_get(bytes + 28 + len - 4));
		TAP_CHECK(roce_icrc_check(&f, roce_crc32_fast(), &cache, bytes + 28, len, &id) == 0);
		TAP_CHECK(id == roce_get16(bytes + 4));
	}
}

static struct roce_flow some_flow(bool v4)
{
	u8 saddr[16], daddr[16];
	struct roce_flow f;

	fill(&seed, saddr, sizeof(saddr));
	fill(&seed, daddr, sizeof(daddr));
	saddr[0] = daddr[0] = 0x20;
	if (v4) {
		memset(saddr, 0, 10);
		memset(daddr, 0, 10);
		saddr[10] = saddr[11] = daddr[10] = daddr[11] = 0xff;
	}
	roce_flow_init(&f, saddr, daddr, (u16)rnd(&seed), ROCE_UDP_PORT, ROCE_IP_DF);
	return f;
}

static void solve__finds_each_of_the_65536_identifications(void)
{
	static const u32 lengths[] = { 12, 16, 68, 280, 1048, 4128, 65496 };
	static u8 packet[65500];
	struct roce_solve_cache cache = { { 0 }, { 0 } };

	fill(&seed, packet, sizeof(packet));
	for (u32 i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		struct roce_flow f = some_flow(true);
		u32 len = lengths[i], guessed = below(&seed, 65536);
		u32 crc = roce_icrc(&f, roce_crc32_fast(), (u16)guessed, packet, len);
		/* Changing the identification changes the ICRC by an amount that is linear in the change. */
		u32 by_bit[16];

		for (u32 bit = 0; bit < 16; bit++)
			by_bit[bit] = crc ^ roce_icrc(&f, roce_crc32_fast(), (u16)(guessed ^ 1 << bit), packet, len);
		for (u32 wanted = 0; wanted < 65536; wanted++) {
			u32 diff = 0;
			u16 id = (u16)guessed;

			for (u32 bit = 0; bit < 16; bit++)
				diff ^= (wanted ^ guessed) >> bit & 1 ? by_bit[bit] : 0;
			TAP_CHECK(roce_icrc_solve_id(&cache, diff, len, &id) == 0);
			TAP_CHECK(id == wanted);
		}
	}
}

static void solve__keeps_lengths_apart_that_share_a_slot(void)
{
	static u8 packet[65500];
	struct roce_solve_cache cache = { { 0 }, { 0 } };
	struct roce_flow f = some_flow(true);

	fill(&seed, packet, sizeof(packet));
	for (u32 round = 0; round < 3000; round++) {
		u32 len = 12 + 4 * below(&seed, 1000);
		u16 real = (u16)rnd(&seed), id = (u16)rnd(&seed);

		roce_icrc_put(packet + len, roce_icrc(&f, roce_crc32_fast(), real, packet, len));
		TAP_CHECK(roce_icrc_check(&f, roce_crc32_fast(), &cache, packet, len + 4, &id) == 0);
		TAP_CHECK(id == real);
	}
}

static void solve__accepts_one_difference_in_65536(void)
{
	struct roce_solve_cache cache = { { 0 }, { 0 } };
	u32 accepted = 0;

	for (u32 round = 0; round < 1 << 20; round++) {
		u16 id = 0;

		accepted += !roce_icrc_solve_id(&cache, (u32)rnd(&seed), 1048, &id);
	}
	/* 16 on average; below 1 or above 48 once in millions of seeds. */
	printf("# %u of %u\n", accepted, 1 << 20);
	TAP_CHECK(accepted >= 1 && accepted <= 48);
}

static void check__never_solves_with_ipv6(void)
{
	struct roce_solve_cache cache = { { 0 }, { 0 } };
	u8 packet[64];

	for (u32 round = 0; round < 20000; round++) {
		struct roce_flow f = some_flow(false);
		u16 id = 0x1234;

		fill(&seed, packet, sizeof(packet));
		TAP_CHECK(roce_icrc_check(&f, roce_crc32_fast(), &cache, packet, sizeof(packet), &id) == -EBADMSG);
		roce_icrc_put(packet + 60, roce_icrc(&f, roce_crc32_fast(), 0x4321, packet, 60));
		TAP_CHECK(roce_icrc_check(&f, roce_crc32_fast(), &cache, packet, sizeof(packet), &id) == 0);
		TAP_CHECK(id == 0x1234);
	}
}

static void check__refuses_what_is_too_short(void)
{
	struct roce_solve_cache cache = { { 0 }, { 0 } };
	struct roce_flow f = some_flow(true);
	u16 id = 0;

	for (u32 len = 0; len < ROCE_BTH_LEN + ROCE_ICRC_LEN; len++) {
		u8 *copy = copy_of((const u8 *)"sixteen bytes ..", len);

		TAP_CHECK(roce_icrc_check(&f, roce_crc32_fast(), &cache, copy, len, &id) == -EMSGSIZE);
		free_copy(copy);
	}
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(crc32__gives_what_zlib_gives),
		TAP_TEST(crc32__portable_follows_the_definition),
		TAP_TEST(crc32__pclmul_follows_the_definition),
		TAP_TEST(crc32__vpclmul_follows_the_definition),
		TAP_TEST(crc32__the_chosen_one_follows_the_definition),
		TAP_TEST(shift__is_what_bytes_that_follow_do_to_a_difference),
		TAP_TEST(icrc__is_what_zlib_makes_of_the_masked_packet),
		TAP_TEST(icrc__is_that_of_real_adapters),
		TAP_TEST(solve__finds_each_of_the_65536_identifications),
		TAP_TEST(solve__keeps_lengths_apart_that_share_a_slot),
		TAP_TEST(solve__accepts_one_difference_in_65536),
		TAP_TEST(check__never_solves_with_ipv6),
		TAP_TEST(check__refuses_what_is_too_short),
	};

	seed.state = seed_of_run();
	return TAP_RUN(tests, argc, argv);
}
