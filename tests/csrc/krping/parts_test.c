// SPDX-License-Identifier: BSD-2-Clause
/* Messages, private data and the contents of pings. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "krping/ping_data.h"
#include "krping/wire.h"
#include "rackwire_krping.h"
#include "tap.h"

static void adv__has_rpings_layout(void)
{
	/* The first SEND of an rping client on rdma_rxe, as captured. */
	static const uint8_t bytes[WIRE_ADV_LEN] = { 0x00, 0x00, 0x56, 0x3f, 0xa5, 0x12, 0x73, 0x70,
						     0x00, 0x00, 0x05, 0xae, 0x00, 0x00, 0x00, 0x40 };
	uint8_t out[WIRE_ADV_LEN];
	struct wire_adv adv;

	wire_adv_decode(bytes, &adv);
	TAP_CHECK(adv.addr == 0x563fa5127370ull && adv.rkey == 0x5ae && adv.size == 64);
	wire_adv_encode(out, &adv);
	TAP_CHECK(!memcmp(out, bytes, sizeof(bytes)));
}

static void wish__comes_back_as_it_was(void)
{
	struct wire_wish wish = { .version = WIRE_VERSION, .kind = RACKWIRE_KRPING_BW, .op = RACKWIRE_KRPING_OP_SEND,
				  .flags = WIRE_DUPLEX | WIRE_POLL, .size = 65536, .txdepth = 64 }, back;
	uint8_t bytes[WIRE_WISH_LEN];

	wire_wish_encode(bytes, &wish);
	TAP_CHECK(wire_wish_decode(bytes, sizeof(bytes), &back));
	TAP_CHECK(back.version == wish.version && back.kind == wish.kind && back.op == wish.op &&
		  back.flags == wish.flags && back.size == wish.size && back.txdepth == wish.txdepth);
	TAP_CHECK(wire_wish_valid(&back));
	TAP_CHECK(!wire_wish_decode(bytes, sizeof(bytes) - 1, &back));
	bytes[0] ^= 1;
	TAP_CHECK(!wire_wish_decode(bytes, sizeof(bytes), &back));
}

static void wish__that_makes_no_sense_is_invalid(void)
{
	static const struct wire_wish good = { .version = WIRE_VERSION, .kind = RACKWIRE_KRPING_PING,
					       .flags = WIRE_EXPLICIT | WIRE_REG, .size = 64, .txdepth = 1 };
	struct wire_wish w;

#define WRONG(change) (w = good, change, !wire_wish_valid(&w))
	TAP_CHECK(wire_wish_valid(&good));
	TAP_CHECK(WRONG(w.version = 2));
	TAP_CHECK(WRONG(w.kind = RACKWIRE_KRPING_SERVER));
	TAP_CHECK(WRONG(w.kind = RACKWIRE_KRPING_BW + 1));
	TAP_CHECK(WRONG(w.op = RACKWIRE_KRPING_OP_READ));
	TAP_CHECK(WRONG(w.op = 200));
	TAP_CHECK(WRONG(w.flags = WIRE_FLAGS + 1));
	TAP_CHECK(WRONG(w.flags = WIRE_DUPLEX));
	TAP_CHECK(WRONG(w.size = 0));
	TAP_CHECK(WRONG(w.size = RACKWIRE_KRPING_MAX_SIZE + 1));
	TAP_CHECK(WRONG(w.txdepth = 0));
	TAP_CHECK(WRONG(w.txdepth = RACKWIRE_KRPING_MAX_TXDEPTH + 1));
	TAP_CHECK(WRONG(w.kind = RACKWIRE_KRPING_RLAT)); /* with a ping's flags */
	TAP_CHECK(WRONG((w.kind = RACKWIRE_KRPING_ALAT, w.flags = 0, w.size = 8)));
	TAP_CHECK(WRONG((w.kind = RACKWIRE_KRPING_ALAT, w.flags = 0, w.op = RACKWIRE_KRPING_OP_FADD)));
}

static void grant__comes_back_as_it_was(void)
{
	struct wire_grant grant = { .version = WIRE_VERSION, .status = WIRE_TOO_LONG, .size = 4096, .txdepth = 7 }, back;
	uint8_t bytes[WIRE_GRANT_LEN];

	wire_grant_encode(bytes, &grant);
	TAP_CHECK(wire_grant_decode(bytes, sizeof(bytes), &back) && back.version == grant.version &&
		  back.status == grant.status && back.flags == grant.flags && back.size == grant.size &&
		  back.txdepth == grant.txdepth);
	TAP_CHECK(!wire_grant_decode(bytes, sizeof(bytes) - 1, &back));
}

/* rping's own way, a character at a time. */
static void fill_slowly(uint8_t *out, int size, int ping)
{
	int start = 65, i, c;

	for (i = 0; i < ping; i++)
		if (++start > 122)
			start = 65;
	i = snprintf((char *)out, (size_t)size, "rdma-ping-%d: ", ping);
	for (c = start; i < size; i++) {
		out[i] = (uint8_t)c;
		if (++c > 122)
			c = 65;
	}
	out[size - 1] = 0;
}

static void ping_data__is_what_rping_sends(void)
{
	static const int sizes[] = { 1, 2, 10, 13, 14, 15, 64, 100, 3711, 3712, 3713, 3725, 20000 };
	static const int pings[] = { 0, 1, 9, 57, 58, 59, 115, 116, 1000 };
	uint8_t fast[20001], slow[20001];
	size_t i, k;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (k = 0; k < sizeof(pings) / sizeof(pings[0]); k++) {
			memset(fast, 0x5a, sizeof(fast));
			memset(slow, 0x5a, sizeof(slow));
			ping_data_fill(fast, (uint32_t)sizes[i], (uint64_t)pings[k]);
			fill_slowly(slow, sizes[i], pings[k]);
			TAP_CHECK(!memcmp(fast, slow, sizeof(fast)));
		}
	}
}

static void ping_data_string__never_looks_beyond(void)
{
	uint8_t *exact = malloc(64); /* the sanitizer watches its end */

	memset(exact, 'x', 64);
	TAP_CHECK(ping_data_string(exact, 64) == 64);
	exact[5] = 0;
	TAP_CHECK(ping_data_string(exact, 64) == 6 && ping_data_string(exact, 5) == 5);
	TAP_CHECK(ping_data_string(exact, 0) == 0);
	free(exact);
}

static void ping_data_differ__counts_bytes(void)
{
	uint8_t a[100], b[100];

	memset(a, 1, sizeof(a));
	memset(b, 1, sizeof(b));
	TAP_CHECK(ping_data_differ(a, b, 100) == 0);
	b[3] = b[99] = 2;
	TAP_CHECK(ping_data_differ(a, b, 100) == 2 && ping_data_differ(a, b, 99) == 1);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(adv__has_rpings_layout),
		TAP_TEST(wish__comes_back_as_it_was),
		TAP_TEST(wish__that_makes_no_sense_is_invalid),
		TAP_TEST(grant__comes_back_as_it_was),
		TAP_TEST(ping_data__is_what_rping_sends),
		TAP_TEST(ping_data_string__never_looks_beyond),
		TAP_TEST(ping_data_differ__counts_bytes),
	};

	return TAP_RUN(tests, argc, argv);
}
