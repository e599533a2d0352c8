// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * dcPIM wire format: encoding, checked decoding, checksums. The layout and the
 * rules are in docs/dcpim-wire.md.
 */
#include "dcpim_wire.h"

#define TCP_ACK 0x10 /* byte 13 is where TCP keeps its flags: a plain segment */
#define CHECK_AT 16
#define CRC_AT 20
#define FLAGS_AT 24

/* Header length without blocks, by type; 0: no such type. */
static const u8 fixed_len[64] = {
	[DCPIM_DATA] = DCPIM_DATA_LEN,
	[DCPIM_TOKEN] = DCPIM_TOKEN_LEN,
	[DCPIM_TOKEN_MSG] = DCPIM_TOKEN_MSG_LEN,
	[DCPIM_NOTIFICATION_LONG] = DCPIM_SYN_LEN,
	[DCPIM_NOTIFICATION_SHORT] = DCPIM_SYN_LEN,
	[DCPIM_ACK] = DCPIM_TOKEN_LEN,
	[DCPIM_RTS] = DCPIM_MATCH_LEN,
	[DCPIM_GRANT] = DCPIM_MATCH_LEN,
	[DCPIM_ACCEPT] = DCPIM_MATCH_LEN,
	[DCPIM_FIN] = DCPIM_FIN_LEN,
	[DCPIM_SYN_ACK] = DCPIM_SYN_LEN,
	[DCPIM_FIN_ACK] = DCPIM_BARE_LEN,
	[DCPIM_NOTIFICATION_MSG] = DCPIM_NOTIFICATION_MSG_LEN,
	[DCPIM_DATA_MSG] = DCPIM_DATA_MSG_LEN,
	[DCPIM_FIN_MSG] = DCPIM_FIN_MSG_LEN,
	[DCPIM_RESET] = DCPIM_BARE_LEN,
	[DCPIM_REVOKE] = DCPIM_MATCH_LEN,
	[DCPIM_KEEPALIVE] = DCPIM_BARE_LEN,
	[DCPIM_KEEPALIVE_ACK] = DCPIM_BARE_LEN,
	[DCPIM_DEMAND] = DCPIM_DEMAND_LEN,
};

static inline u32 fixed_len_of(u8 type)
{
	return type < sizeof(fixed_len) ? fixed_len[type] : 0;
}

static inline bool has_blocks(u8 type)
{
	return type == DCPIM_TOKEN || type == DCPIM_ACK || type == DCPIM_TOKEN_MSG || type == DCPIM_FIN_MSG;
}

static inline bool has_payload(u8 type)
{
	return type == DCPIM_DATA || type == DCPIM_DATA_MSG;
}

u32 dcpim_header_len(u8 type, u32 nblocks)
{
	u32 len = fixed_len_of(type);

	if (!len || nblocks > (has_blocks(type) ? DCPIM_MAX_BLOCKS : 0))
		return 0;
	return len + 8 * nblocks;
}

const char *dcpim_type_name(u8 type)
{
	switch (type) {
	case DCPIM_DATA: return "DATA";
	case DCPIM_TOKEN: return "TOKEN";
	case DCPIM_TOKEN_MSG: return "TOKEN_MSG";
	case DCPIM_NOTIFICATION_LONG: return "NOTIFICATION_LONG";
	case DCPIM_NOTIFICATION_SHORT: return "NOTIFICATION_SHORT";
	case DCPIM_ACK: return "ACK";
	case DCPIM_RTS: return "RTS";
	case DCPIM_GRANT: return "GRANT";
	case DCPIM_ACCEPT: return "ACCEPT";
	case DCPIM_FIN: return "FIN";
	case DCPIM_SYN_ACK: return "SYN_ACK";
	case DCPIM_FIN_ACK: return "FIN_ACK";
	case DCPIM_NOTIFICATION_MSG: return "NOTIFICATION_MSG";
	case DCPIM_DATA_MSG: return "DATA_MSG";
	case DCPIM_FIN_MSG: return "FIN_MSG";
	case DCPIM_RESET: return "RESET";
	case DCPIM_REVOKE: return "REVOKE";
	case DCPIM_KEEPALIVE: return "KEEPALIVE";
	case DCPIM_KEEPALIVE_ACK: return "KEEPALIVE_ACK";
	case DCPIM_DEMAND: return "DEMAND";
	}
	return "?";
}

/*
 * The RFC 1071 sum in the machine's own byte order: section 2(B) there, the
 * sum's bytes come out right wherever it is stored the way it was loaded.
 * Headers are whole 32-bit words; the crc word is left out, so that a CRC can be
 * filled in afterwards.
 */
static inline u64 load32(const u8 *p)
{
	u32 v;

	__builtin_memcpy(&v, p, sizeof(v));
	return v;
}

static inline u16 load16(const u8 *p)
{
	u16 v;

	__builtin_memcpy(&v, p, sizeof(v));
	return v;
}

static inline u16 header_sum(const u8 *hdr, u32 hdr_len)
{
	u64 sum = load32(hdr) + load32(hdr + 4) + load32(hdr + 8) + load32(hdr + 12) + load32(hdr + 16) +
		  load32(hdr + FLAGS_AT);
	u32 i;

	for (i = DCPIM_COMMON_LEN; i < hdr_len; i += 4)
		sum += load32(hdr + i);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	return (u16)(sum + (sum >> 16));
}

/* The check field must be zero. */
static inline void store_check(u8 *hdr, u32 hdr_len)
{
	u16 check = (u16)~header_sum(hdr, hdr_len);

	__builtin_memcpy(hdr + CHECK_AT, &check, sizeof(check));
}

/*
 * The common header is written in whole words, which the header sum then reads
 * straight from the store buffer.
 */
static inline void store_word(u8 *p, u32 v)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	v = __builtin_bswap32(v);
#endif
	__builtin_memcpy(p, &v, sizeof(v));
}

/* Data offset in words (blocks not counted), TCP's flags, type, version. */
static inline u32 word12(u32 fixed, u8 type)
{
	return fixed << 26 | TCP_ACK << 16 | (u32)type << 8 | DCPIM_VERSION;
}

static void put_blocks(u8 *at, const struct dcpim_pkt *p)
{
	u32 i;

	for (i = 0; i < p->nblocks; i++) {
		dcpim_put32(at + 8 * i, p->blocks[i].start);
		dcpim_put32(at + 8 * i + 4, p->blocks[i].end);
	}
}

u32 dcpim_encode(const struct dcpim_pkt *p, u32 payload_len, u8 *buf)
{
	u32 fixed = fixed_len_of(p->type);
	bool blocks = has_blocks(p->type);
	u32 len = fixed + (blocks ? 8 * p->nblocks : 0);
	u32 seq = 0;

	if (!fixed || p->nblocks > DCPIM_MAX_BLOCKS || payload_len > DCPIM_MAX_PACKET - len)
		return 0;

	switch (p->type) {
	case DCPIM_DATA:
		seq = (u32)p->u.data.offset;
		dcpim_put32(buf + 28, (u32)(p->u.data.offset >> 32));
		dcpim_put32(buf + 32, p->u.data.ahead);
		dcpim_put32(buf + 36, p->u.data.ack);
		break;
	case DCPIM_DATA_MSG:
		seq = p->u.data_msg.offset;
		dcpim_put64(buf + 28, p->u.data_msg.msg_id);
		dcpim_put32(buf + 36, p->u.data_msg.size);
		dcpim_put32(buf + 40, p->u.data_msg.ack);
		break;
	case DCPIM_TOKEN:
	case DCPIM_ACK:
		dcpim_put64(buf + 28, p->u.token.rcv_nxt);
		dcpim_put64(buf + 36, p->u.token.token_nxt);
		dcpim_put64(buf + 44, p->u.token.wnd_edge);
		dcpim_put32(buf + 52, p->u.token.rtx_end);
		break;
	case DCPIM_TOKEN_MSG:
		dcpim_put64(buf + 28, p->u.token_msg.msg_id);
		dcpim_put32(buf + 36, p->u.token_msg.rcv_nxt);
		dcpim_put32(buf + 40, p->u.token_msg.token_nxt);
		dcpim_put32(buf + 44, p->u.token_msg.rtx_end);
		break;
	case DCPIM_NOTIFICATION_LONG:
	case DCPIM_NOTIFICATION_SHORT:
	case DCPIM_SYN_ACK:
		dcpim_put32(buf + 28, p->u.syn.flow_tag);
		dcpim_put32(buf + 32, p->u.syn.host_tag);
		dcpim_put32(buf + 36, (u32)p->u.syn.host_port << 16 | p->u.syn.max_packet);
		dcpim_put32(buf + 40, p->u.syn.wnd);
		dcpim_put32(buf + 44, p->u.syn.unsched);
		dcpim_put32(buf + 48, p->u.syn.max_msg);
		break;
	case DCPIM_RTS:
	case DCPIM_GRANT:
	case DCPIM_ACCEPT:
	case DCPIM_REVOKE:
		dcpim_put64(buf + 28, p->u.match.epoch);
		dcpim_put32(buf + 36, (u32)p->u.match.round << 24 | (u32)p->u.match.channels << 16);
		dcpim_put32(buf + 40, p->u.match.remaining);
		dcpim_put32(buf + 44, p->u.match.start_in);
		dcpim_put32(buf + 48, p->u.match.phase);
		dcpim_put32(buf + 52, p->u.match.epoch_len);
		break;
	case DCPIM_FIN:
		dcpim_put64(buf + 28, p->u.fin.final_offset);
		break;
	case DCPIM_DEMAND:
		dcpim_put64(buf + 28, p->u.demand.end);
		dcpim_put64(buf + 36, p->u.demand.sent);
		break;
	case DCPIM_NOTIFICATION_MSG:
		dcpim_put64(buf + 28, p->u.note_msg.msg_id);
		dcpim_put32(buf + 36, p->u.note_msg.size);
		dcpim_put32(buf + 40, p->u.note_msg.sent);
		break;
	case DCPIM_FIN_MSG:
		dcpim_put64(buf + 28, p->u.fin_msg.cum);
		dcpim_put64(buf + 36, p->u.fin_msg.credit);
		break;
	}
	if (blocks)
		put_blocks(buf + fixed, p);

	store_word(buf, (u32)p->sport << 16 | p->dport);
	store_word(buf + 4, seq);
	store_word(buf + 8, p->tag);
	store_word(buf + 12, word12(fixed, p->type));
	store_word(buf + 16, len + payload_len); /* check: 0 so far */
	store_word(buf + CRC_AT, 0);
	store_word(buf + FLAGS_AT,
		   (u32)(p->flags & ~DCPIM_F_CRC) << 24 | (blocks ? (u32)p->nblocks << 16 : 0));
	store_check(buf, len);
	return len;
}

/* Ascending, disjoint, none empty, none reaching beyond @limit. */
static bool get_blocks(const u8 *at, u32 n, u32 limit, struct dcpim_block *blocks)
{
	u32 edge = 0, i;

	for (i = 0; i < n; i++) {
		u32 start = dcpim_get32(at + 8 * i);
		u32 end = dcpim_get32(at + 8 * i + 4);

		if (start < edge || end <= start)
			return false;
		blocks[i].start = start;
		blocks[i].end = end;
		edge = end;
	}
	return edge <= limit;
}

static inline bool is_offset(u64 v)
{
	return v < DCPIM_OFFSET_LIMIT;
}

static inline bool is_msg_id(u64 v)
{
	return v && is_offset(v);
}

/* The part that belongs to the type. Header length and checksum have been verified. */
static bool get_body(const u8 *buf, u32 seq, u32 payload, struct dcpim_pkt *p)
{
	u32 n = p->nblocks;

	switch (p->type) {
	case DCPIM_DATA:
		p->u.data.offset = (u64)dcpim_get32(buf + 28) << 32 | seq;
		p->u.data.ahead = dcpim_get32(buf + 32);
		p->u.data.ack = dcpim_get32(buf + 36);
		return payload && is_offset(p->u.data.offset) && is_offset(p->u.data.offset + payload);
	case DCPIM_DATA_MSG:
		p->u.data_msg.msg_id = dcpim_get64(buf + 28);
		p->u.data_msg.offset = seq;
		p->u.data_msg.size = dcpim_get32(buf + 36);
		p->u.data_msg.ack = dcpim_get32(buf + 40);
		return is_msg_id(p->u.data_msg.msg_id) && (payload || !p->u.data_msg.size) &&
		       (u64)seq + payload <= p->u.data_msg.size;
	}
	if (seq)
		return false;

	switch (p->type) {
	case DCPIM_TOKEN:
	case DCPIM_ACK:
		p->u.token.rcv_nxt = dcpim_get64(buf + 28);
		p->u.token.token_nxt = dcpim_get64(buf + 36);
		p->u.token.wnd_edge = dcpim_get64(buf + 44);
		p->u.token.rtx_end = dcpim_get32(buf + 52);
		/* Below 2^62, no 32-bit distance from rcv_nxt wraps. */
		return is_offset(p->u.token.rcv_nxt) && is_offset(p->u.token.token_nxt) &&
		       is_offset(p->u.token.wnd_edge) &&
		       get_blocks(buf + DCPIM_TOKEN_LEN, n, 0xffffffff, p->blocks);
	case DCPIM_TOKEN_MSG:
		p->u.token_msg.msg_id = dcpim_get64(buf + 28);
		p->u.token_msg.rcv_nxt = dcpim_get32(buf + 36);
		p->u.token_msg.token_nxt = dcpim_get32(buf + 40);
		p->u.token_msg.rtx_end = dcpim_get32(buf + 44);
		return is_msg_id(p->u.token_msg.msg_id) &&
		       p->u.token_msg.rtx_end <= 0xffffffff - p->u.token_msg.rcv_nxt &&
		       get_blocks(buf + DCPIM_TOKEN_MSG_LEN, n, 0xffffffff - p->u.token_msg.rcv_nxt, p->blocks);
	case DCPIM_NOTIFICATION_LONG:
	case DCPIM_NOTIFICATION_SHORT:
	case DCPIM_SYN_ACK:
		p->u.syn.flow_tag = dcpim_get32(buf + 28);
		p->u.syn.host_tag = dcpim_get32(buf + 32);
		p->u.syn.host_port = dcpim_get16(buf + 36);
		p->u.syn.max_packet = dcpim_get16(buf + 38);
		p->u.syn.wnd = dcpim_get32(buf + 40);
		p->u.syn.unsched = dcpim_get32(buf + 44);
		p->u.syn.max_msg = dcpim_get32(buf + 48);
		return p->u.syn.flow_tag && p->u.syn.host_tag && p->u.syn.max_packet >= DCPIM_MIN_PACKET &&
		       p->u.syn.max_packet <= DCPIM_MAX_PACKET;
	case DCPIM_RTS:
	case DCPIM_GRANT:
	case DCPIM_ACCEPT:
	case DCPIM_REVOKE:
		p->u.match.epoch = dcpim_get64(buf + 28);
		p->u.match.round = buf[36];
		p->u.match.channels = buf[37];
		p->u.match.remaining = dcpim_get32(buf + 40);
		p->u.match.start_in = dcpim_get32(buf + 44);
		p->u.match.phase = dcpim_get32(buf + 48);
		p->u.match.epoch_len = dcpim_get32(buf + 52);
		return !dcpim_get16(buf + 38) && p->u.match.channels <= DCPIM_WIRE_CHANNELS &&
		       p->u.match.epoch_len >= DCPIM_EPOCH_MIN_NS && p->u.match.epoch_len <= DCPIM_EPOCH_MAX_NS &&
		       p->u.match.start_in <= 2 * (u64)p->u.match.epoch_len &&
		       p->u.match.phase <= 2 * (u64)p->u.match.epoch_len;
	case DCPIM_FIN:
		p->u.fin.final_offset = dcpim_get64(buf + 28);
		return is_offset(p->u.fin.final_offset);
	case DCPIM_DEMAND:
		p->u.demand.end = dcpim_get64(buf + 28);
		p->u.demand.sent = dcpim_get64(buf + 36);
		return is_offset(p->u.demand.end) && p->u.demand.sent <= p->u.demand.end;
	case DCPIM_NOTIFICATION_MSG:
		p->u.note_msg.msg_id = dcpim_get64(buf + 28);
		p->u.note_msg.size = dcpim_get32(buf + 36);
		p->u.note_msg.sent = dcpim_get32(buf + 40);
		return is_msg_id(p->u.note_msg.msg_id) && p->u.note_msg.sent <= p->u.note_msg.size;
	case DCPIM_FIN_MSG:
		p->u.fin_msg.cum = dcpim_get64(buf + 28);
		p->u.fin_msg.credit = dcpim_get64(buf + 36);
		return is_offset(p->u.fin_msg.cum) && is_offset(p->u.fin_msg.credit) &&
		       get_blocks(buf + DCPIM_FIN_MSG_LEN, n, 0xffffffff, p->blocks);
	}
	return true;
}

int dcpim_decode(const u8 *buf, u32 avail, u32 total, struct dcpim_pkt *p)
{
	u32 len;

	if (total < DCPIM_COMMON_LEN)
		return -EBADMSG;
	if (avail < DCPIM_COMMON_LEN)
		return -EMSGSIZE;
	if (buf[15] != DCPIM_VERSION)
		return -EPROTONOSUPPORT;

	p->type = buf[14];
	p->flags = buf[FLAGS_AT];
	p->nblocks = buf[25];
	p->len = dcpim_get16(buf + 18);
	p->tag = dcpim_get32(buf + 8);
	len = dcpim_header_len(p->type, p->nblocks);
	if (!len || dcpim_get32(buf + 12) != word12(fixed_len_of(p->type), p->type) || p->len != total ||
	    total > DCPIM_MAX_PACKET || len > total || (len != total && !has_payload(p->type)))
		return -EBADMSG;
	if (avail < len)
		return -EMSGSIZE;
	/* 0xffff is the other spelling of a check of 0; no encoder writes it, as no header sums up to 0. */
	if (header_sum(buf, len) != 0xffff || load16(buf + CHECK_AT) == 0xffff)
		return -EBADMSG;
	if (p->flags & ~DCPIM_F_KNOWN || dcpim_get16(buf + 26) ||
	    (p->flags & DCPIM_F_REFLECTED && p->type != DCPIM_RESET))
		return -EBADMSG;
	if (!(p->flags & DCPIM_F_CRC) && load32(buf + CRC_AT))
		return -EBADMSG;
	if (!p->tag && p->type != DCPIM_NOTIFICATION_LONG && p->type != DCPIM_NOTIFICATION_SHORT)
		return -EBADMSG;

	p->sport = dcpim_get16(buf);
	p->dport = dcpim_get16(buf + 2);
	p->hdr_len = (u16)len;
	return get_body(buf, dcpim_get32(buf + 4), total - len, p) ? 0 : -EBADMSG;
}

/*
 * CRC32C, eight bytes at a time. CRC_B(j) is the remainder that a set bit leaves
 * once j further bits have gone by; a table entry is the sum (xor) over the bits
 * of its index, so the compiler makes the tables from the polynomial alone.
 */
#define CRC_STEP(c) ((c) >> 1 ^ ((c) & 1u) * 0x82f63b78u)
#define CRC_CHAIN(s, prev)                                                                        \
	CRC_##s##_0 = CRC_STEP(prev), CRC_##s##_1 = CRC_STEP(CRC_##s##_0),                        \
	CRC_##s##_2 = CRC_STEP(CRC_##s##_1), CRC_##s##_3 = CRC_STEP(CRC_##s##_2),                 \
	CRC_##s##_4 = CRC_STEP(CRC_##s##_3), CRC_##s##_5 = CRC_STEP(CRC_##s##_4),                 \
	CRC_##s##_6 = CRC_STEP(CRC_##s##_5), CRC_##s##_7 = CRC_STEP(CRC_##s##_6)

enum {
	CRC_CHAIN(A, 1u),
	CRC_CHAIN(B, CRC_A_7),
	CRC_CHAIN(C, CRC_B_7),
	CRC_CHAIN(D, CRC_C_7),
	CRC_CHAIN(E, CRC_D_7),
	CRC_CHAIN(F, CRC_E_7),
	CRC_CHAIN(G, CRC_F_7),
	CRC_CHAIN(H, CRC_G_7),
};

#define CRC_BIT(n, bit, v) (((n) >> (bit) & 1u) * (v))
#define CRC_1(s, n)                                                                               \
	(CRC_BIT(n, 7, CRC_##s##_0) ^ CRC_BIT(n, 6, CRC_##s##_1) ^ CRC_BIT(n, 5, CRC_##s##_2) ^   \
	 CRC_BIT(n, 4, CRC_##s##_3) ^ CRC_BIT(n, 3, CRC_##s##_4) ^ CRC_BIT(n, 2, CRC_##s##_5) ^   \
	 CRC_BIT(n, 1, CRC_##s##_6) ^ CRC_BIT(n, 0, CRC_##s##_7))
#define CRC_4(s, n) CRC_1(s, n), CRC_1(s, (n) + 1), CRC_1(s, (n) + 2), CRC_1(s, (n) + 3)
#define CRC_16(s, n) CRC_4(s, n), CRC_4(s, (n) + 4), CRC_4(s, (n) + 8), CRC_4(s, (n) + 12)
#define CRC_64(s, n) CRC_16(s, n), CRC_16(s, (n) + 16), CRC_16(s, (n) + 32), CRC_16(s, (n) + 48)
#define CRC_256(s) { CRC_64(s, 0u), CRC_64(s, 64u), CRC_64(s, 128u), CRC_64(s, 192u) }

/* crc_table[i][b]: byte b followed by i zero bytes. */
static const u32 crc_table[8][256] = {
	CRC_256(A), CRC_256(B), CRC_256(C), CRC_256(D), CRC_256(E), CRC_256(F), CRC_256(G), CRC_256(H),
};

static inline u32 load_le32(const u8 *p)
{
	return p[0] | (u32)p[1] << 8 | (u32)p[2] << 16 | (u32)p[3] << 24;
}

u32 dcpim_crc32c(u32 crc, const void *data, size_t len)
{
	const u8 *p = data;

	crc = ~crc;
	for (; len >= 8; len -= 8, p += 8) {
		u32 a = crc ^ load_le32(p), b = load_le32(p + 4);

		crc = crc_table[7][a & 0xff] ^ crc_table[6][a >> 8 & 0xff] ^ crc_table[5][a >> 16 & 0xff] ^
		      crc_table[4][a >> 24] ^ crc_table[3][b & 0xff] ^ crc_table[2][b >> 8 & 0xff] ^
		      crc_table[1][b >> 16 & 0xff] ^ crc_table[0][b >> 24];
	}
	for (; len; len--, p++)
		crc = crc >> 8 ^ crc_table[0][(crc ^ *p) & 0xff];
	return ~crc;
}

u32 dcpim_crc_of(const u8 *hdr)
{
	return dcpim_get32(hdr + CRC_AT);
}

u32 dcpim_crc_header(const u8 *hdr, u32 hdr_len)
{
	static const u8 zero[4];
	u32 crc = dcpim_crc32c(0, hdr, CRC_AT);

	crc = dcpim_crc32c(crc, zero, sizeof(zero));
	return dcpim_crc32c(crc, hdr + FLAGS_AT, hdr_len - FLAGS_AT);
}

u32 dcpim_seal_start(u8 *hdr, u32 hdr_len)
{
	dcpim_put32(hdr + CRC_AT, 0);
	hdr[FLAGS_AT] |= DCPIM_F_CRC;
	dcpim_put16(hdr + CHECK_AT, 0);
	store_check(hdr, hdr_len);
	return dcpim_crc_header(hdr, hdr_len);
}

void dcpim_seal(u8 *hdr, u32 hdr_len, u32 crc)
{
	(void)hdr_len;
	dcpim_put32(hdr + CRC_AT, crc);
}
