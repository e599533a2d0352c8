// SPDX-License-Identifier: BSD-2-Clause
/* RoCEv2 headers: layout, refusals, round trips, and the helpers around them. */
#include "fields.h"
#include "tap.h"

#define ROUND_TRIPS 200000

static struct random seed;

/* The order and length of headers behind each opcode, as IBTA table 38 has them. */
static const struct {
	u8 opcode;
	const char *name;
	u32 hdr_len;
	char place; /* first, middle, last, only */
	char kind;  /* request, response, datagram, notification */
	bool payload;
} opcodes[] = {
	{ 0x00, "SEND_FIRST", 12, 'f', 'q', true },
	{ 0x01, "SEND_MIDDLE", 12, 'm', 'q', true },
	{ 0x02, "SEND_LAST", 12, 'l', 'q', true },
	{ 0x03, "SEND_LAST_IMM", 16, 'l', 'q', true },
	{ 0x04, "SEND_ONLY", 12, 'o', 'q', true },
	{ 0x05, "SEND_ONLY_IMM", 16, 'o', 'q', true },
	{ 0x06, "WRITE_FIRST", 28, 'f', 'q', true },
	{ 0x07, "WRITE_MIDDLE", 12, 'm', 'q', true },
	{ 0x08, "WRITE_LAST", 12, 'l', 'q', true },
	{ 0x09, "WRITE_LAST_IMM", 16, 'l', 'q', true },
	{ 0x0a, "WRITE_ONLY", 28, 'o', 'q', true },
	{ 0x0b, "WRITE_ONLY_IMM", 32, 'o', 'q', true },
	{ 0x0c, "READ_REQUEST", 28, 'o', 'q', false },
	{ 0x0d, "READ_RESP_FIRST", 16, 'f', 'p', true },
	{ 0x0e, "READ_RESP_MIDDLE", 12, 'm', 'p', true },
	{ 0x0f, "READ_RESP_LAST", 16, 'l', 'p', true },
	{ 0x10, "READ_RESP_ONLY", 16, 'o', 'p', true },
	{ 0x11, "ACK", 16, 'o', 'p', false },
	{ 0x12, "ATOMIC_ACK", 24, 'o', 'p', false },
	{ 0x13, "COMPARE_SWAP", 40, 'o', 'q', false },
	{ 0x14, "FETCH_ADD", 40, 'o', 'q', false },
	{ 0x16, "SEND_LAST_INV", 16, 'l', 'q', true },
	{ 0x17, "SEND_ONLY_INV", 16, 'o', 'q', true },
	{ 0x64, "UD_SEND_ONLY", 20, 'o', 'd', true },
	{ 0x65, "UD_SEND_ONLY_IMM", 24, 'o', 'd', true },
	{ 0x81, "CNP", 28, 'o', 'n', false },
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int decode_copy(const u8 *bytes, u32 len, struct roce_pkt *pkt)
{
	u8 *copy = copy_of(bytes, len);
	int err;

	memset(pkt, 0xa5, sizeof(*pkt));
	err = roce_decode(pkt, copy, len);
	free_copy(copy);
	return err;
}

static void opcodes__are_those_of_the_specification(void)
{
	bool known[256] = { false };

	for (u32 i = 0; i < COUNT(opcodes); i++) {
		u8 opcode = opcodes[i].opcode;
		char place = opcodes[i].place;

		known[opcode] = true;
		TAP_CHECK(!strcmp(roce_opcode_name(opcode), opcodes[i].name));
		TAP_CHECK(roce_hdr_len(opcode) == opcodes[i].hdr_len && roce_hdr_len(opcode) <= ROCE_HDR_MAX);
		TAP_CHECK(roce_is_first(opcode) == (place == 'f'));
		TAP_CHECK(roce_is_middle(opcode) == (place == 'm'));
		TAP_CHECK(roce_is_last(opcode) == (place == 'l'));
		TAP_CHECK(roce_is_only(opcode) == (place == 'o'));
		TAP_CHECK(roce_begins(opcode) == (place == 'f' || place == 'o'));
		TAP_CHECK(roce_ends(opcode) == (place == 'l' || place == 'o'));
		TAP_CHECK(roce_is_request(opcode) == (opcodes[i].kind == 'q'));
		TAP_CHECK(roce_is_response(opcode) == (opcodes[i].kind == 'p'));
		TAP_CHECK(!(roce_op(opcode) & ROCE_OP_UD) == (opcodes[i].kind != 'd'));
		TAP_CHECK(!(roce_op(opcode) & ROCE_OP_CNP) == (opcodes[i].kind != 'n'));
		TAP_CHECK(!(roce_op(opcode) & ROCE_OP_PAYLOAD) == !opcodes[i].payload);
	}
	for (u32 opcode = 0; opcode < 256; opcode++) {
		struct roce_pkt pkt = { .opcode = (u8)opcode };
		u8 bytes[64] = { (u8)opcode };

		if (known[opcode])
			continue;
		TAP_CHECK(!roce_op((u8)opcode) && !roce_hdr_len((u8)opcode) && !roce_encode(bytes, &pkt));
		TAP_CHECK(!strcmp(roce_opcode_name((u8)opcode), "?"));
		TAP_CHECK(decode_copy(bytes, sizeof(bytes), &pkt) == -EPROTONOSUPPORT);
	}
}

static void encode__puts_every_field_where_it_belongs(void)
{
	static const struct {
		struct roce_pkt pkt;
		u32 len;
		const char *bytes;
	} cases[] = {
		{ { .opcode = 0x05, .se = true, .migreq = true, .pad = 3, .pkey = 0x1234, .fecn = true,
		    .dest_qpn = 0x56789a, .ackreq = true, .psn = 0xbcdef0, .imm = 0x11223344 },
		  16, "\x05\xf0\x12\x34\x80\x56\x78\x9a\x80\xbc\xde\xf0\x11\x22\x33\x44" },
		{ { .opcode = 0x0b, .pkey = 0xffff, .dest_qpn = 1, .psn = 2, .va = 0x0123456789abcdef, .rkey = 0xa1a2a3a4,
		    .dma_len = 0xb1b2b3b4, .imm = 0xc1c2c3c4 },
		  32, "\x0b\x00\xff\xff\x00\x00\x00\x01\x00\x00\x00\x02\x01\x23\x45\x67\x89\xab\xcd\xef"
		      "\xa1\xa2\xa3\xa4\xb1\xb2\xb3\xb4\xc1\xc2\xc3\xc4" },
		{ { .opcode = 0x12, .pkey = 0xffff, .dest_qpn = 3, .psn = 4, .syndrome = 0x1f, .msn = 0xd1d2d3,
		    .orig = 0x1020304050607080 },
		  24, "\x12\x00\xff\xff\x00\x00\x00\x03\x00\x00\x00\x04\x1f\xd1\xd2\xd3\x10\x20\x30\x40\x50\x60\x70\x80" },
		{ { .opcode = 0x13, .pkey = 0xffff, .dest_qpn = 5, .psn = 6, .va = 0x1111111122222222, .rkey = 0x33333333,
		    .swap_add = 0x4444444455555555, .compare = 0x6666666677777777 },
		  40, "\x13\x00\xff\xff\x00\x00\x00\x05\x00\x00\x00\x06\x11\x11\x11\x11\x22\x22\x22\x22\x33\x33\x33\x33"
		      "\x44\x44\x44\x44\x55\x55\x55\x55\x66\x66\x66\x66\x77\x77\x77\x77" },
		{ { .opcode = 0x17, .pkey = 0xffff, .dest_qpn = 7, .psn = 8, .inv_rkey = 0xe1e2e3e4 },
		  16, "\x17\x00\xff\xff\x00\x00\x00\x07\x00\x00\x00\x08\xe1\xe2\xe3\xe4" },
		{ { .opcode = 0x65, .pkey = 0xffff, .dest_qpn = 1, .psn = 9, .qkey = 0x80010000, .src_qpn = 0xf1f2f3,
		    .imm = 0x01020304 },
		  24, "\x65\x00\xff\xff\x00\x00\x00\x01\x00\x00\x00\x09\x80\x01\x00\x00\x00\xf1\xf2\xf3\x01\x02\x03\x04" },
		{ { .opcode = 0x81, .pkey = 0xffff, .becn = true, .dest_qpn = 0x118 },
		  28, "\x81\x00\xff\xff\x40\x00\x01\x18\x00\x00\x00\x00\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0" },
	};

	for (u32 i = 0; i < COUNT(cases); i++) {
		u8 bytes[ROCE_HDR_MAX];

		memset(bytes, 0xa5, sizeof(bytes));
		TAP_CHECK(roce_encode(bytes, &cases[i].pkt) == cases[i].len);
		TAP_CHECK(!memcmp(bytes, cases[i].bytes, cases[i].len));
		for (u32 at = cases[i].len; at < sizeof(bytes); at++)
			TAP_CHECK(bytes[at] == 0xa5);
	}
}

static void encode__drops_bits_that_do_not_fit(void)
{
	for (u32 i = 0; i < COUNT(opcodes); i++) {
		struct roce_pkt wide, narrow;
		u8 a[ROCE_HDR_MAX] = { 0 }, b[ROCE_HDR_MAX] = { 0 };
		struct fields fields = packet_fields();

		memset(&wide, 0xff, sizeof(wide));
		/* A bool holds no bits that do not fit. */
		wide.se = wide.migreq = wide.fecn = wide.becn = wide.ackreq = true;
		wide.opcode = opcodes[i].opcode;
		narrow = wide;
		for (const struct field *f = fields.list; f < fields.list + fields.count; f++)
			field_set(f, &narrow, field_get(f, &wide) & ~(u64)0 >> (64 - f->width));
		TAP_CHECK(roce_encode(a, &wide) == roce_encode(b, &narrow));
		TAP_CHECK(!memcmp(a, b, sizeof(a)));
		TAP_CHECK((a[1] & 0x0f) == 0); /* the version is not made of them */
	}
}

static void decode__gives_back_what_was_encoded(void)
{
	static u8 bytes[ROCE_PACKET_MAX];

	for (u32 round = 0; round < ROUND_TRIPS; round++) {
		u8 opcode = round < COUNT(opcodes) ? opcodes[round].opcode : some_opcode(&seed);
		struct roce_pkt pkt, again;
		u32 len = some_packet(&seed, opcode, &pkt, bytes);
		const char *differs;

		TAP_CHECK(decode_copy(bytes, len, &again) == 0);
		TAP_CHECK(again.opcode == opcode);
		differs = fields_difference(packet_fields(), &pkt, &again);
		if (differs)
			printf("# %s: %s\n", roce_opcode_name(opcode), differs);
		TAP_CHECK(!differs);
		TAP_CHECK(again.hdr_len == pkt.hdr_len && again.payload_len == pkt.payload_len);
	}
}

static void decode__ignores_reserved_bits(void)
{
	static u8 bytes[ROCE_PACKET_MAX];

	for (u32 round = 0; round < 10000; round++) {
		struct roce_pkt pkt, again;
		u8 opcode = some_opcode(&seed);
		u32 len = some_packet(&seed, opcode, &pkt, bytes);

		bytes[4] ^= rnd(&seed) & 0x3f;
		bytes[8] ^= rnd(&seed) & 0x7f;
		if (roce_op(opcode) & ROCE_OP_DETH)
			bytes[16] ^= (u8)rnd(&seed);
		if (opcode == ROCE_CNP)
			fill(&seed, bytes + ROCE_BTH_LEN, ROCE_CNP_LEN);
		TAP_CHECK(decode_copy(bytes, len, &again) == 0);
		TAP_CHECK(!fields_difference(packet_fields(), &pkt, &again));
	}
}

static void decode__refuses_every_length_that_cannot_be(void)
{
	u8 bytes[ROCE_HDR_MAX + 16] = { 0 };

	for (u32 i = 0; i < COUNT(opcodes); i++) {
		struct roce_pkt pkt;

		bytes[0] = opcodes[i].opcode;
		for (u32 len = 0; len < sizeof(bytes); len++)
			for (u32 pad = 0; pad < 4; pad++) {
				u32 rest = len - opcodes[i].hdr_len;
				int wanted = 0;

				bytes[1] = (u8)(pad << 4);
				if (len < opcodes[i].hdr_len)
					wanted = -EMSGSIZE;
				else if (len % 4 || pad > rest || (rest && !opcodes[i].payload))
					wanted = -EBADMSG;
				TAP_CHECK(decode_copy(bytes, len, &pkt) == wanted);
				TAP_CHECK(wanted || pkt.payload_len + pad == rest);
			}
	}
}

static void decode__refuses_other_versions(void)
{
	u8 bytes[ROCE_BTH_LEN] = { ROCE_SEND_ONLY };
	struct roce_pkt pkt;

	for (u32 version = 0; version < 16; version++) {
		bytes[1] = (u8)version;
		TAP_CHECK(decode_copy(bytes, sizeof(bytes), &pkt) == (version ? -EPROTONOSUPPORT : 0));
	}
}

static void psn__counts_around_the_circle(void)
{
	TAP_CHECK(roce_psn_add(0xffffff, 1) == 0 && roce_psn_add(5, 0xffffff) == 4);
	TAP_CHECK(roce_psn_diff(0, 0xffffff) == 1 && roce_psn_diff(0xffffff, 0) == -1);
	TAP_CHECK(roce_psn_diff(0x7fffff, 0) == 0x7fffff && roce_psn_diff(0x800000, 0) == -0x800000);
	TAP_CHECK(roce_psn_cmp(7, 7) == 0 && roce_psn_cmp(8, 7) > 0 && roce_psn_cmp(0xfffff0, 5) < 0);
	for (u32 round = 0; round < 100000; round++) {
		u32 a = (u32)rnd(&seed) & ROCE_PSN_MASK;
		s32 n = (s32)below(&seed, 0x1000000) - 0x800000;

		TAP_CHECK(roce_psn_diff(roce_psn_add(a, (u32)n), a) == n);
		TAP_CHECK(roce_psn_add(a, (u32)n) <= ROCE_PSN_MASK);
	}
}

static void rnr__follows_table_45(void)
{
	static const double milliseconds[32] = {
		655.36, 0.01, 0.02, 0.03, 0.04,  0.06,	0.08,  0.12,  0.16,  0.24,  0.32,
		0.48,	0.64, 0.96, 1.28, 1.92,  2.56,	3.84,  5.12,  7.68,  10.24, 15.36,
		20.48,	30.72, 40.96, 61.44, 81.92, 122.88, 163.84, 245.76, 327.68, 491.52,
	};

	for (u32 code = 0; code < 32; code++) {
		u64 ns = (u64)(milliseconds[code] * 1e6 + 0.5);

		TAP_CHECK(roce_rnr_ns((u8)code) == ns);
		TAP_CHECK(roce_rnr_ns((u8)(code | 0xe0)) == ns);
		TAP_CHECK(roce_rnr_code(ns) == code);
		TAP_CHECK(roce_rnr_ns(roce_rnr_code(ns - 1)) == ns);
	}
	TAP_CHECK(roce_rnr_code(0) == 1 && roce_rnr_code(655360001) == 0 && roce_rnr_code(~(u64)0) == 0);
}

static void credits__follow_the_table(void)
{
	static const u32 credits[31] = {
		0,   1,	  2,   3,   4,	 6,    8,    12,   16,	 24,   32,   48,    64,	   96,	  128,	 192,
		256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768,
	};

	for (u32 code = 0; code < 31; code++) {
		TAP_CHECK(roce_credits((u8)code) == credits[code]);
		TAP_CHECK(roce_credit_code(credits[code]) == code);
		TAP_CHECK(roce_credit_code(credits[code] + 1) >= code);
		TAP_CHECK(code == 0 || roce_credit_code(credits[code] - 1) == code - 1);
	}
	TAP_CHECK(roce_credits(31) == ROCE_CREDITS_UNLIMITED);
	TAP_CHECK(roce_credit_code(~0u) == 30);
}

static void syndromes__fall_into_kinds(void)
{
	for (u32 syndrome = 0; syndrome < 256; syndrome++) {
		bool top = syndrome & 0x80;
		u32 kind = syndrome >> 5 & 3;

		TAP_CHECK(roce_syn_is_ack((u8)syndrome) == (!top && kind == 0));
		TAP_CHECK(roce_syn_is_rnr((u8)syndrome) == (!top && kind == 1));
		TAP_CHECK(roce_syn_is_nak((u8)syndrome) == (!top && kind == 3));
		TAP_CHECK((roce_syn_name((u8)syndrome)[0] == '?') == (top || kind == 2 || syndrome >= 0x64));
	}
}

static void mtu_codes__stand_for_powers_of_two(void)
{
	TAP_CHECK(roce_mtu_bytes(0) == 0 && roce_mtu_bytes(1) == 256 && roce_mtu_bytes(2) == 512);
	TAP_CHECK(roce_mtu_bytes(3) == 1024 && roce_mtu_bytes(4) == 2048 && roce_mtu_bytes(5) == 4096);
	TAP_CHECK(roce_mtu_bytes(6) == 0 && roce_mtu_bytes(255) == 0);
	TAP_CHECK(roce_mtu_code(255) == 0 && roce_mtu_code(256) == 1 && roce_mtu_code(1500) == 3);
	TAP_CHECK(roce_mtu_code(4096) == 5 && roce_mtu_code(65535) == 5);
	TAP_CHECK(roce_timeout_ns(0) == 4096 && roce_timeout_ns(20) == 4294967296);
	TAP_CHECK(roce_pad(0) == 0 && roce_pad(1) == 3 && roce_pad(2) == 2 && roce_pad(7) == 1);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(opcodes__are_those_of_the_specification),
		TAP_TEST(encode__puts_every_field_where_it_belongs),
		TAP_TEST(encode__drops_bits_that_do_not_fit),
		TAP_TEST(decode__gives_back_what_was_encoded),
		TAP_TEST(decode__ignores_reserved_bits),
		TAP_TEST(decode__refuses_every_length_that_cannot_be),
		TAP_TEST(decode__refuses_other_versions),
		TAP_TEST(psn__counts_around_the_circle),
		TAP_TEST(rnr__follows_table_45),
		TAP_TEST(credits__follow_the_table),
		TAP_TEST(syndromes__fall_into_kinds),
		TAP_TEST(mtu_codes__stand_for_powers_of_two),
	};

	seed.state = seed_of_run();
	return TAP_RUN(tests, argc, argv);
}
