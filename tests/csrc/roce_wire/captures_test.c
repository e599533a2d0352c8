// SPDX-License-Identifier: BSD-2-Clause
/* The codec, the ICRC and the solver against packets that Linux and a second implementation sent. */
#include <stdio.h>

#include "captures.h"
#include "helpers.h"
#include "roce/core/roce_mad.h"
#include "tap.h"

static struct random seed;

/* A check that names the packet it failed for. */
#define CHECK_OF(c, condition)                                                       \
	do {                                                                         \
		if (!(condition)) {                                                  \
			printf("# packet %u: line %d: %s\n", (c)->number, __LINE__, #condition); \
			TAP_CHECK(!"see the line above");                            \
		}                                                                    \
	} while (0)

static const char *const captures[] = { CAPTURE_HOST, CAPTURE_RPING };

#define FOR_EACH_PACKET(c)                                                                     \
	for (u32 file_ = 0, count_; file_ < 2; file_++)                                        \
		for (const struct captured *all_ = captures_read(captures[file_], &count_), *c = all_; \
		     c < all_ + count_; c++)

static struct roce_flow flow_of(const struct captured *c)
{
	struct roce_flow f;

	roce_flow_init(&f, c->saddr, c->daddr, c->sport, c->dport, c->ip_frag);
	return f;
}

static void decode__takes_every_captured_packet(void)
{
	/* As tshark counts them. */
	static const struct {
		u8 opcode;
		u32 host, rping;
	} wanted[] = {
		{ ROCE_SEND_ONLY, 761, 664 },	     { ROCE_WRITE_FIRST, 90, 0 },    { ROCE_WRITE_MIDDLE, 150, 0 },
		{ ROCE_WRITE_LAST, 90, 0 },	     { ROCE_WRITE_ONLY, 100, 166 },  { ROCE_READ_REQUEST, 191, 166 },
		{ ROCE_READ_RESP_FIRST, 91, 0 },     { ROCE_READ_RESP_MIDDLE, 153, 0 }, { ROCE_READ_RESP_LAST, 91, 0 },
		{ ROCE_READ_RESP_ONLY, 100, 166 }, { ROCE_ACK, 951, 830 },	      { ROCE_UD_SEND_ONLY, 32, 8 },
	};
	u32 seen[2][256] = { { 0 } };

	FOR_EACH_PACKET(c) {
		u8 *copy = copy_of(c->p, c->len - ROCE_ICRC_LEN);
		struct roce_pkt pkt;
		int err = roce_decode(&pkt, copy, c->len - ROCE_ICRC_LEN);

		free_copy(copy);
		CHECK_OF(c, err == 0);
		CHECK_OF(c, pkt.hdr_len + pkt.payload_len + pkt.pad + ROCE_ICRC_LEN == c->len);
		CHECK_OF(c, pkt.pkey == ROCE_PKEY_DEFAULT);
		seen[file_][pkt.opcode]++;
	}
	for (u32 i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		TAP_CHECK(seen[0][wanted[i].opcode] == wanted[i].host);
		TAP_CHECK(seen[1][wanted[i].opcode] == wanted[i].rping);
		seen[0][wanted[i].opcode] = seen[1][wanted[i].opcode] = 0;
	}
	for (u32 opcode = 0; opcode < 256; opcode++)
		TAP_CHECK(seen[0][opcode] + seen[1][opcode] == 0);
}

static void icrc__is_that_of_every_captured_packet(void)
{
	FOR_EACH_PACKET(c) {
		struct roce_flow f = flow_of(c);
		u32 len = c->len - ROCE_ICRC_LEN;
		u32 crc, at = ROCE_BTH_LEN;

		CHECK_OF(c, roce_icrc(&f, roce_crc32, c->ip_id, c->p, len) == roce_icrc_get(c->p + len));
		CHECK_OF(c, roce_icrc(&f, roce_crc32_fast(), c->ip_id, c->p, len) == roce_icrc_get(c->p + len));
		/* In pieces. */
		crc = roce_icrc_begin(&f, roce_crc32_fast(), c->ip_id, c->p, len);
		while (at < len) {
			u32 piece = 1 + below(&seed, len - at);

			crc = roce_crc32_fast()(crc, c->p + at, piece);
			at += piece;
		}
		CHECK_OF(c, crc == roce_icrc_get(c->p + len));
	}
}

static void solve__finds_every_captured_identification(void)
{
	struct roce_solve_cache cache = { { 0 }, { 0 } };
	u32 nonzero = 0;

	FOR_EACH_PACKET(c) {
		struct roce_flow f = flow_of(c);
		u16 guesses[] = { 0, (u16)(c->ip_id - 1), c->ip_id, (u16)rnd(&seed) };

		for (u32 i = 0; i < 4; i++) {
			u16 id = guesses[i];

			CHECK_OF(c, roce_icrc_check(&f, roce_crc32_fast(), &cache, c->p, c->len, &id) == 0);
			CHECK_OF(c, id == c->ip_id);
		}
		nonzero += c->ip_id != 0;
	}
	/* The kernel counts its identifications up, so guessing 0 would not do. */
	TAP_CHECK(nonzero > 2000);
}

static void check_management(const struct captured *c, const u8 *mad, u32 len, u8 *again)
{
	u8 priv[ROCE_CM_REQ_PRIV], cma_bytes[ROCE_CMA_LEN];
	struct roce_cm cm;
	struct roce_cma cma;

	CHECK_OF(c, roce_cm_decode(&cm, mad, len) == 0);
	if (cm.type == ROCE_CM_REQ) {
		CHECK_OF(c, roce_service_port(cm.u.req.service_id) > 0);
		CHECK_OF(c, cm.u.req.pkey == ROCE_PKEY_DEFAULT && cm.u.req.transport_type == ROCE_CM_RC);
		CHECK_OF(c, roce_mtu_bytes(cm.u.req.mtu) == 1024);
		CHECK_OF(c, !memcmp(cm.u.req.primary.local_gid, c->saddr, 16));
		CHECK_OF(c, !memcmp(cm.u.req.primary.remote_gid, c->daddr, 16));
		CHECK_OF(c, cm.priv_len == sizeof(priv));
		CHECK_OF(c, roce_cma_decode(&cma, cm.priv, cm.priv_len) == 0);
		CHECK_OF(c, cma.ip_version == 4 && !memcmp(cma.src, c->saddr, 16) && !memcmp(cma.dst, c->daddr, 16));
		memcpy(priv, cm.priv, sizeof(priv));
		roce_cma_encode(cma_bytes, &cma);
		memcpy(priv, cma_bytes, sizeof(cma_bytes));
		cm.priv = priv;
	}
	CHECK_OF(c, roce_cm_encode(again, &cm) == 0);
}

static void encode__reproduces_every_captured_packet(void)
{
	FOR_EACH_PACKET(c) {
		struct roce_flow f = flow_of(c);
		u8 again[ROCE_PACKET_MAX];
		struct roce_pkt pkt;
		u32 len;

		memset(again, 0xa5, sizeof(again));
		CHECK_OF(c, roce_decode(&pkt, c->p, c->len - ROCE_ICRC_LEN) == 0);
		len = roce_encode(again, &pkt);
		CHECK_OF(c, len == pkt.hdr_len);
		if (pkt.dest_qpn == ROCE_QP_CM) {
			CHECK_OF(c, pkt.opcode == ROCE_UD_SEND_ONLY && pkt.qkey == ROCE_QKEY_CM &&
					    pkt.src_qpn == ROCE_QP_CM);
			check_management(c, c->p + len, pkt.payload_len, again + len);
			if (tap_failed)
				return;
		} else {
			memcpy(again + len, c->p + len, pkt.payload_len);
		}
		len += pkt.payload_len;
		memset(again + len, 0, pkt.pad);
		len += pkt.pad;
		roce_icrc_put(again + len, roce_icrc(&f, roce_crc32_fast(), c->ip_id, again, len));
		CHECK_OF(c, len + ROCE_ICRC_LEN == c->len);
		CHECK_OF(c, !memcmp(again, c->p, c->len));
	}
}

/* A copy of the packet with @flips random bits the other way round, never those of the byte the ICRC leaves out. */
static u8 *damaged(const struct captured *c, u32 flips)
{
	u8 *copy = copy_of(c->p, c->len);
	u32 bit;

	while (flips--) {
		do
			bit = below(&seed, c->len * 8);
		while (bit / 8 == 4);
		copy[bit / 8] ^= (u8)(1 << bit % 8);
	}
	return copy;
}

static void icrc__refuses_every_damaged_packet(void)
{
	FOR_EACH_PACKET(c) {
		struct roce_flow f = flow_of(c);
		u32 len = c->len - ROCE_ICRC_LEN;
		u32 flips = 1 + below(&seed, 3); /* a CRC-32 finds any three of so few bits */
		u8 *copy = damaged(c, flips);
		bool same = !memcmp(copy, c->p, c->len);
		bool good = roce_icrc(&f, roce_crc32_fast(), c->ip_id, copy, len) == roce_icrc_get(copy + len);

		free_copy(copy);
		CHECK_OF(c, good == same);
	}
}

static void check__refuses_damaged_packets_when_the_identification_is_hidden(void)
{
	struct roce_solve_cache cache = { { 0 }, { 0 } };
	u32 tried = 0, accepted = 0;

	for (u32 round = 0; round < 20; round++) {
		FOR_EACH_PACKET(c) {
			struct roce_flow f = flow_of(c);
			u8 *copy = damaged(c, 1 + below(&seed, 40));
			u16 id = 0;

			if (memcmp(copy, c->p, c->len)) {
				tried++;
				accepted += !roce_icrc_check(&f, roce_crc32_fast(), &cache, copy, c->len, &id);
			}
			free_copy(copy);
		}
	}
	/* One in 65536 is what 16 bits of check let through: about 1.5 here, and 15 never. */
	printf("# %u of %u damaged packets accepted\n", accepted, tried);
	TAP_CHECK(tried > 90000 && accepted < 15);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(decode__takes_every_captured_packet),
		TAP_TEST(icrc__is_that_of_every_captured_packet),
		TAP_TEST(solve__finds_every_captured_identification),
		TAP_TEST(encode__reproduces_every_captured_packet),
		TAP_TEST(icrc__refuses_every_damaged_packet),
		TAP_TEST(check__refuses_damaged_packets_when_the_identification_is_hidden),
	};

	seed.state = seed_of_run();
	return TAP_RUN(tests, argc, argv);
}
