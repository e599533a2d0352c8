// SPDX-License-Identifier: BSD-2-Clause
/* dcPIM wire format: golden packets, forged packets, damage, round trips. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tap.h"
#include "vectors.h"

#define ROUND_TRIPS 200000

static u64 seed;

/* SplitMix64 */
static u64 rnd(void)
{
	u64 z = seed += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static u64 below(u64 n)
{
	return rnd() % n;
}

/* Often a small number or one near a power of two. */
static u64 odd_number(void)
{
	u64 v = rnd() >> below(64);

	return below(3) ? v : ((u64)1 << below(64)) - below(3);
}

/* An exact copy on the heap, so that reading one byte beyond it is seen. */
static u8 *copy_of(const u8 *bytes, u32 len)
{
	u8 *copy = malloc(len ? len : 1);

	if (!copy)
		abort();
	memcpy(copy, bytes, len);
	return len ? copy : copy + 1;
}

static void free_copy(u8 *copy, u32 len)
{
	free(len ? copy : copy - 1);
}

static int decode_copy(const u8 *bytes, u32 avail, u32 total, struct dcpim_pkt *p)
{
	u8 *copy = copy_of(bytes, avail);
	int err = dcpim_decode(copy, avail, total, p);

	free_copy(copy, avail);
	return err;
}

/* The header of @p, sealed over @payload if it has the flag. */
static u32 encode_sealed(const struct dcpim_pkt *p, const u8 *payload, u32 payload_len, u8 *buf)
{
	u32 len = dcpim_encode(p, payload_len, buf);

	if (p->flags & DCPIM_F_CRC)
		dcpim_seal(buf, len, dcpim_crc32c(dcpim_seal_start(buf, len), payload, payload_len));
	return len;
}

static bool crc_is_good(const u8 *bytes, u32 len, const struct dcpim_pkt *p)
{
	u32 crc = dcpim_crc_header(bytes, p->hdr_len);

	return dcpim_crc32c(crc, bytes + p->hdr_len, len - p->hdr_len) == dcpim_crc_of(bytes);
}

/* A check that names the packet it failed for. */
#define CHECK_OF(name, condition)                                              \
	do {                                                                   \
		if (!(condition)) {                                            \
			printf("# %s: line %d: %s\n", name, __LINE__, #condition); \
			TAP_CHECK(!"see the line above");                      \
		}                                                              \
	} while (0)

#define FOR_EACH_PACKET(v)                                                      \
	u32 count_;                                                             \
	const struct vector *all_ = vectors_read(&count_);                      \
	for (const struct vector *v = all_; v < all_ + count_; v++)             \
		if (!v->forged)

static void encode__gives_the_golden_bytes(void)
{
	FOR_EACH_PACKET(v) {
		u8 buf[DCPIM_HDR_MAX];
		u32 hdr_len = v->len - v->payload_len;

		CHECK_OF(v->name, encode_sealed(&v->pkt, v->bytes + hdr_len, v->payload_len, buf) == hdr_len);
		CHECK_OF(v->name, !memcmp(buf, v->bytes, hdr_len));
	}
}

static void decode__gives_the_golden_fields(void)
{
	FOR_EACH_PACKET(v) {
		struct dcpim_pkt p;
		const char *differs;

		memset(&p, 0xa5, sizeof(p));
		CHECK_OF(v->name, decode_copy(v->bytes, v->len, v->len, &p) == 0);
		differs = pkt_difference(&p, &v->pkt);
		if (differs)
			printf("# %s: %s\n", v->name, differs);
		TAP_CHECK(!differs);
		CHECK_OF(v->name, p.len == v->len && p.hdr_len == v->len - v->payload_len);
		CHECK_OF(v->name, !v->crc || crc_is_good(v->bytes, v->len, &p));
	}
}

static void decode__needs_only_the_header(void)
{
	FOR_EACH_PACKET(v) {
		struct dcpim_pkt p;

		CHECK_OF(v->name, decode_copy(v->bytes, v->len - v->payload_len, v->len, &p) == 0);
	}
}

static void decode__says_when_the_header_is_not_contiguous(void)
{
	FOR_EACH_PACKET(v) {
		struct dcpim_pkt p;

		for (u32 avail = 0; avail < v->len - v->payload_len; avail++)
			CHECK_OF(v->name, decode_copy(v->bytes, avail, v->len, &p) == -EMSGSIZE);
	}
}

static void decode__every_truncation_is_refused(void)
{
	FOR_EACH_PACKET(v) {
		struct dcpim_pkt p;

		for (u32 len = 0; len < v->len; len++)
			CHECK_OF(v->name, decode_copy(v->bytes, len, len, &p) == -EBADMSG);
	}
}

static void decode__every_extension_is_refused(void)
{
	FOR_EACH_PACKET(v) {
		struct dcpim_pkt p;
		u8 longer[VECTOR_BYTES + 1] = { 0 };

		memcpy(longer, v->bytes, v->len);
		CHECK_OF(v->name, dcpim_decode(longer, v->len + 1, v->len + 1, &p) == -EBADMSG);
		CHECK_OF(v->name, dcpim_decode(longer, v->len + 1, v->len + 65536, &p) == -EBADMSG);
		CHECK_OF(v->name, dcpim_decode(longer, v->len + 1, 0xffffffff, &p) == -EBADMSG);
	}
}

static void decode__every_flipped_header_bit_is_refused(void)
{
	FOR_EACH_PACKET(v) {
		u8 *bytes = copy_of(v->bytes, v->len);
		bool accepted = false;
		struct dcpim_pkt p;

		for (u32 bit = 0; bit < 8 * (v->len - v->payload_len); bit++) {
			bytes[bit / 8] ^= 1 << bit % 8;
			if (!dcpim_decode(bytes, v->len, v->len, &p) &&
			    (!v->crc || crc_is_good(bytes, v->len, &p)))
				accepted = true;
			bytes[bit / 8] ^= 1 << bit % 8;
		}
		free(bytes);
		CHECK_OF(v->name, !accepted);
	}
}

static void decode__with_crc_every_flipped_bit_is_refused(void)
{
	u32 sealed = 0;

	FOR_EACH_PACKET(v) {
		struct dcpim_pkt p = v->pkt;
		u32 hdr_len = v->len - v->payload_len;
		u8 bytes[VECTOR_BYTES];

		memcpy(bytes, v->bytes, v->len);
		p.flags |= DCPIM_F_CRC;
		encode_sealed(&p, bytes + hdr_len, v->payload_len, bytes);
		CHECK_OF(v->name, !dcpim_decode(bytes, v->len, v->len, &p) && crc_is_good(bytes, v->len, &p));
		for (u32 bit = 0; bit < 8 * v->len; bit++) {
			bytes[bit / 8] ^= 1 << bit % 8;
			CHECK_OF(v->name, dcpim_decode(bytes, v->len, v->len, &p) ||
						  !(p.flags & DCPIM_F_CRC) || !crc_is_good(bytes, v->len, &p));
			bytes[bit / 8] ^= 1 << bit % 8;
		}
		sealed++;
	}
	TAP_CHECK(sealed >= 20);
}

/* What was in the buffer and in the struct before must not reach the wire. */
static void encode__sends_no_uninitialised_byte(void)
{
	FOR_EACH_PACKET(v) {
		u8 zeros[DCPIM_HDR_MAX + 8], ones[DCPIM_HDR_MAX + 8];
		struct dcpim_pkt dirty, clean;
		u32 hdr_len;

		memset(zeros, 0, sizeof(zeros));
		memset(ones, 0xff, sizeof(ones));
		CHECK_OF(v->name, !dcpim_decode(v->bytes, v->len, v->len, memset(&clean, 0, sizeof(clean))));
		CHECK_OF(v->name, !dcpim_decode(v->bytes, v->len, v->len, memset(&dirty, 0xff, sizeof(dirty))));
		hdr_len = dcpim_encode(&clean, v->payload_len, zeros);
		CHECK_OF(v->name, hdr_len == dcpim_encode(&dirty, v->payload_len, ones));
		CHECK_OF(v->name, !memcmp(zeros, ones, hdr_len));
		for (u32 i = hdr_len; i < sizeof(zeros); i++)
			CHECK_OF(v->name, zeros[i] == 0 && ones[i] == 0xff);
	}
}

static void encode__refuses_what_does_not_fit(void)
{
	struct dcpim_pkt p = { .type = DCPIM_TOKEN, .tag = 1, .nblocks = DCPIM_MAX_BLOCKS + 1 };
	u8 buf[DCPIM_HDR_MAX];

	TAP_CHECK(dcpim_encode(&p, 0, buf) == 0);
	p.nblocks = 255;
	TAP_CHECK(dcpim_encode(&p, 0, buf) == 0);
	p.nblocks = 0;
	TAP_CHECK(dcpim_encode(&p, 0, buf) == DCPIM_TOKEN_LEN);
	p.type = 0x31;
	TAP_CHECK(dcpim_encode(&p, 0, buf) == 0);
	p.type = 0xff;
	TAP_CHECK(dcpim_encode(&p, 0, buf) == 0);
	p.type = DCPIM_DATA;
	TAP_CHECK(dcpim_encode(&p, DCPIM_MAX_PACKET - DCPIM_DATA_LEN, buf) == DCPIM_DATA_LEN);
	TAP_CHECK(dcpim_decode(buf, DCPIM_DATA_LEN, DCPIM_MAX_PACKET, &p) == 0);
	TAP_CHECK(dcpim_encode(&p, DCPIM_MAX_PACKET - DCPIM_DATA_LEN + 1, buf) == 0);
	TAP_CHECK(dcpim_encode(&p, 0xffffffff, buf) == 0);
}

static u16 check_by_bytes(const u8 *hdr, u32 len)
{
	u32 sum = 0;

	for (u32 i = 0; i + 1 < len; i += 2) {
		sum += i == 16 || i == 20 || i == 22 ? 0 : dcpim_get16(hdr + i);
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return (u16)~sum;
}

static void decode__max_packet_is_the_limit(void)
{
	struct dcpim_pkt p = { .type = DCPIM_DATA, .tag = 1 };
	u8 buf[DCPIM_HDR_MAX];

	TAP_CHECK(dcpim_encode(&p, 1000, buf) == DCPIM_DATA_LEN);
	dcpim_put16(buf + 18, DCPIM_MAX_PACKET + 1);
	dcpim_put16(buf + 16, check_by_bytes(buf, DCPIM_DATA_LEN));
	TAP_CHECK(dcpim_decode(buf, DCPIM_DATA_LEN, DCPIM_MAX_PACKET + 1, &p) == -EBADMSG);
	dcpim_put16(buf + 18, DCPIM_MAX_PACKET);
	dcpim_put16(buf + 16, check_by_bytes(buf, DCPIM_DATA_LEN));
	TAP_CHECK(dcpim_decode(buf, DCPIM_DATA_LEN, DCPIM_MAX_PACKET, &p) == 0);
}

static void header_len__knows_every_type(void)
{
	u32 types = 0;

	for (u32 type = 0; type < 256; type++) {
		u32 len = dcpim_header_len((u8)type, 0);
		bool blocks = type == DCPIM_TOKEN || type == DCPIM_ACK || type == DCPIM_TOKEN_MSG ||
			      type == DCPIM_FIN_MSG;

		types += len != 0;
		TAP_CHECK((len != 0) == (strcmp(dcpim_type_name((u8)type), "?") != 0));
		TAP_CHECK(dcpim_header_len((u8)type, 1) == (blocks ? len + 8 : 0));
		TAP_CHECK(dcpim_header_len((u8)type, DCPIM_MAX_BLOCKS + 1) == 0);
		TAP_CHECK(dcpim_header_len((u8)type, 0xffffffff) == 0);
		TAP_CHECK(dcpim_header_len((u8)type, DCPIM_MAX_BLOCKS) <= DCPIM_HDR_MAX);
	}
	TAP_CHECK(types == 20);
}

static u32 crc_bitwise(const u8 *p, size_t len)
{
	u32 crc = 0xffffffff;

	while (len--) {
		crc ^= *p++;
		for (int i = 0; i < 8; i++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
	}
	return ~crc;
}

static void crc32c__gives_the_values_of_rfc_3720(void)
{
	/* Appendix B.4, an iSCSI SCSI Read (10) command PDU */
	static const u8 pdu[48] = {
		0x01, 0xc0, [16] = 0x14, [22] = 0x04, [27] = 0x14, [31] = 0x18, 0x28, [40] = 0x02,
	};
	u8 zeros[32] = { 0 }, ones[32], up[32], down[32];

	for (int i = 0; i < 32; i++) {
		ones[i] = 0xff;
		up[i] = (u8)i;
		down[i] = (u8)(31 - i);
	}
	TAP_CHECK(dcpim_crc32c(0, zeros, 32) == 0x8a9136aa);
	TAP_CHECK(dcpim_crc32c(0, ones, 32) == 0x62a8ab43);
	TAP_CHECK(dcpim_crc32c(0, up, 32) == 0x46dd794e);
	TAP_CHECK(dcpim_crc32c(0, down, 32) == 0x113fdb5c);
	TAP_CHECK(dcpim_crc32c(0, pdu, 48) == 0xd9963a56);
	TAP_CHECK(dcpim_crc32c(0, "123456789", 9) == 0xe3069283);
	TAP_CHECK(dcpim_crc32c(0, "", 0) == 0);
}

static void crc32c__agrees_with_the_definition_at_every_length_and_alignment(void)
{
	u8 bytes[80];

	for (u32 i = 0; i < sizeof(bytes); i++)
		bytes[i] = (u8)rnd();
	for (u32 at = 0; at < 8; at++)
		for (u32 len = 0; at + len <= sizeof(bytes); len++)
			TAP_CHECK(dcpim_crc32c(0, bytes + at, len) == crc_bitwise(bytes + at, len));
}

static void crc32c__can_be_continued_anywhere(void)
{
	u8 bytes[64];
	u32 whole;

	for (u32 i = 0; i < sizeof(bytes); i++)
		bytes[i] = (u8)rnd();
	whole = dcpim_crc32c(0, bytes, sizeof(bytes));
	for (u32 cut = 0; cut <= sizeof(bytes); cut++)
		TAP_CHECK(dcpim_crc32c(dcpim_crc32c(0, bytes, cut), bytes + cut, sizeof(bytes) - cut) == whole);
}

static u8 any_type(void)
{
	u8 type;

	do {
		type = (u8)below(64);
	} while (!dcpim_header_len(type, 0));
	return type;
}

static void any_blocks(struct dcpim_pkt *p, u32 room)
{
	u32 n = (u32)below(DCPIM_MAX_BLOCKS + 1), edge = 0;

	if (!dcpim_header_len(p->type, 1))
		return;
	while (p->nblocks < n && edge < room) {
		struct dcpim_block *b = &p->blocks[p->nblocks++];

		b->start = edge + (u32)(odd_number() % (room - edge));
		b->end = edge = b->start + 1 + (u32)(odd_number() % (room - b->start));
	}
}

/* A valid packet with any values. */
static u32 any_packet(struct dcpim_pkt *p)
{
	const u64 limit = DCPIM_OFFSET_LIMIT;
	u32 room = 0xffffffff, payload = 0;

	memset(p, 0, sizeof(*p));
	p->type = any_type();
	p->sport = (u16)rnd();
	p->dport = (u16)rnd();
	p->tag = (u32)rnd() | 1;
	p->flags = (u8)below(DCPIM_F_KNOWN + 1);
	if (p->type != DCPIM_RESET)
		p->flags &= ~DCPIM_F_REFLECTED;
	switch (p->type) {
	case DCPIM_DATA:
		payload = 1 + (u32)below(9000);
		p->u.data.offset = odd_number() % (limit - payload);
		p->u.data.ahead = (u32)odd_number();
		p->u.data.ack = (u32)odd_number();
		break;
	case DCPIM_DATA_MSG:
		p->u.data_msg.msg_id = 1 + odd_number() % (limit - 1);
		p->u.data_msg.size = (u32)odd_number();
		p->u.data_msg.ack = (u32)odd_number();
		payload = (u32)dcpim_min(1 + below(9000), p->u.data_msg.size);
		p->u.data_msg.offset = (u32)(odd_number() % (p->u.data_msg.size - payload + 1ull));
		break;
	case DCPIM_TOKEN:
	case DCPIM_ACK:
		p->u.token.rcv_nxt = odd_number() % limit;
		p->u.token.token_nxt = odd_number() % limit;
		p->u.token.wnd_edge = odd_number() % limit;
		p->u.token.rtx_end = (u32)odd_number();
		break;
	case DCPIM_TOKEN_MSG:
		p->u.token_msg.msg_id = 1 + odd_number() % (limit - 1);
		p->u.token_msg.rcv_nxt = (u32)odd_number();
		p->u.token_msg.token_nxt = (u32)odd_number();
		room = 0xffffffff - p->u.token_msg.rcv_nxt;
		p->u.token_msg.rtx_end = (u32)(odd_number() % (room + 1ull));
		break;
	case DCPIM_NOTIFICATION_LONG:
	case DCPIM_NOTIFICATION_SHORT:
	case DCPIM_SYN_ACK:
		if (p->type != DCPIM_SYN_ACK && below(2))
			p->tag = 0;
		p->u.syn.flow_tag = (u32)rnd() | 1;
		p->u.syn.host_tag = (u32)rnd() | 1;
		p->u.syn.host_port = (u16)rnd();
		p->u.syn.max_packet = (u16)(DCPIM_MIN_PACKET + below(DCPIM_MAX_PACKET - DCPIM_MIN_PACKET + 1));
		p->u.syn.wnd = (u32)odd_number();
		p->u.syn.unsched = (u32)odd_number();
		p->u.syn.max_msg = (u32)odd_number();
		break;
	case DCPIM_RTS:
	case DCPIM_GRANT:
	case DCPIM_ACCEPT:
	case DCPIM_REVOKE:
		p->u.match.epoch = odd_number();
		p->u.match.round = (u8)rnd();
		p->u.match.channels = (u8)below(DCPIM_WIRE_CHANNELS + 1);
		p->u.match.remaining = (u32)odd_number();
		p->u.match.epoch_len =
			DCPIM_EPOCH_MIN_NS + (u32)below(DCPIM_EPOCH_MAX_NS - DCPIM_EPOCH_MIN_NS + 1);
		p->u.match.start_in = (u32)(odd_number() % (2ull * p->u.match.epoch_len + 1));
		p->u.match.phase = (u32)(odd_number() % (2ull * p->u.match.epoch_len + 1));
		break;
	case DCPIM_FIN:
		p->u.fin.final_offset = odd_number() % limit;
		break;
	case DCPIM_DEMAND:
		p->u.demand.end = odd_number() % limit;
		p->u.demand.sent = odd_number() % (p->u.demand.end + 1);
		break;
	case DCPIM_NOTIFICATION_MSG:
		p->u.note_msg.msg_id = 1 + odd_number() % (limit - 1);
		p->u.note_msg.size = (u32)odd_number();
		p->u.note_msg.sent = (u32)(odd_number() % (p->u.note_msg.size + 1ull));
		break;
	case DCPIM_FIN_MSG:
		p->u.fin_msg.cum = odd_number() % limit;
		p->u.fin_msg.credit = odd_number() % limit;
		break;
	}
	any_blocks(p, room);
	return payload;
}

static void decode__undoes_encode_for_any_fields(void)
{
	u8 payload[9001];

	for (u32 i = 0; i < sizeof(payload); i++)
		payload[i] = (u8)rnd();
	for (u32 i = 0; i < ROUND_TRIPS; i++) {
		u8 buf[DCPIM_HDR_MAX];
		struct dcpim_pkt sent, got;
		u32 payload_len = any_packet(&sent);
		u32 hdr_len = encode_sealed(&sent, payload, payload_len, buf);
		const char *differs;

		TAP_CHECK(hdr_len == dcpim_header_len(sent.type, sent.nblocks));
		CHECK_OF(dcpim_type_name(sent.type), !dcpim_decode(buf, hdr_len, hdr_len + payload_len, &got));
		differs = pkt_difference(&sent, &got);
		if (differs)
			printf("# %s: %s\n", dcpim_type_name(sent.type), differs);
		TAP_CHECK(!differs);
		TAP_CHECK(got.len == hdr_len + payload_len && got.hdr_len == hdr_len);
		if (sent.flags & DCPIM_F_CRC)
			TAP_CHECK(dcpim_crc32c(dcpim_crc_header(buf, hdr_len), payload, payload_len) ==
				  dcpim_crc_of(buf));
	}
}

/* Anything that decode lets through must have one spelling only, or be refused. */
static void encode__undoes_decode_for_damaged_packets(void)
{
	u32 accepted = 0, refused = 0;

	for (u32 i = 0; i < ROUND_TRIPS; i++) {
		u8 bytes[DCPIM_HDR_MAX], again[DCPIM_HDR_MAX];
		struct dcpim_pkt p;
		u32 payload_len = any_packet(&p);
		u32 hdr_len = dcpim_encode(&p, payload_len, bytes);

		for (u64 n = 1 + below(3); n; n--)
			bytes[below(hdr_len)] = (u8)odd_number();
		dcpim_put16(bytes + 16, check_by_bytes(bytes, hdr_len));
		if (decode_copy(bytes, hdr_len, hdr_len + payload_len, &p)) {
			refused++;
			continue;
		}
		accepted++;
		TAP_CHECK(dcpim_encode(&p, p.len - p.hdr_len, again) == p.hdr_len);
		if (p.flags & DCPIM_F_CRC) {
			dcpim_seal_start(again, p.hdr_len);
			dcpim_seal(again, p.hdr_len, dcpim_crc_of(bytes));
		}
		TAP_CHECK(!memcmp(again, bytes, p.hdr_len));
	}
	TAP_CHECK(accepted > ROUND_TRIPS / 50 && refused > ROUND_TRIPS / 50);
}

/* The forged packets' tests have their packets' names and take them in turn. */
static const struct vector **forged;
static u32 next_forged;

static void forged_packet(void)
{
	const struct vector *v = forged[next_forged++];
	struct dcpim_pkt p;

	TAP_CHECK(decode_copy(v->bytes, v->len, v->len, &p) == v->error);
}

int main(int argc, char **argv)
{
	static const struct tap_test fixed[] = {
		TAP_TEST(encode__gives_the_golden_bytes),
		TAP_TEST(decode__gives_the_golden_fields),
		TAP_TEST(decode__needs_only_the_header),
		TAP_TEST(decode__says_when_the_header_is_not_contiguous),
		TAP_TEST(decode__every_truncation_is_refused),
		TAP_TEST(decode__every_extension_is_refused),
		TAP_TEST(decode__every_flipped_header_bit_is_refused),
		TAP_TEST(decode__with_crc_every_flipped_bit_is_refused),
		TAP_TEST(encode__sends_no_uninitialised_byte),
		TAP_TEST(encode__refuses_what_does_not_fit),
		TAP_TEST(decode__max_packet_is_the_limit),
		TAP_TEST(header_len__knows_every_type),
		TAP_TEST(crc32c__gives_the_values_of_rfc_3720),
		TAP_TEST(crc32c__agrees_with_the_definition_at_every_length_and_alignment),
		TAP_TEST(crc32c__can_be_continued_anywhere),
		TAP_TEST(decode__undoes_encode_for_any_fields),
		TAP_TEST(encode__undoes_decode_for_damaged_packets),
	};
	const size_t nfixed = sizeof(fixed) / sizeof(fixed[0]);
	const char *wanted_seed = getenv("RACKWIRE_SEED");
	u32 count, nforged = 0;
	const struct vector *v = vectors_read(&count);
	struct tap_test *tests = calloc(nfixed + count, sizeof(*tests));
	size_t n = 0;

	forged = calloc(count, sizeof(*forged));
	if (!tests || !forged)
		return 1;
	seed = wanted_seed ? strtoull(wanted_seed, NULL, 0) : (u64)time(NULL) * 1000003;
	printf("# RACKWIRE_SEED=%llu\n", (unsigned long long)seed);
	for (size_t i = 0; i < nfixed; i++)
		if (tap_wanted(fixed[i].name, argc, argv))
			tests[n++] = fixed[i];
	for (u32 i = 0; i < count; i++) {
		if (!v[i].forged || !tap_wanted(v[i].name, argc, argv))
			continue;
		forged[nforged++] = &v[i];
		tests[n++] = (struct tap_test){ v[i].name, forged_packet };
	}
	count = (u32)tap_run(tests, n, 1, argv);
	free(forged);
	free(tests);
	return (int)count;
}
