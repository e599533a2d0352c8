// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * CRC-32, the invariant CRC, and solving for the IPv4 identification.
 *
 * A CRC is a remainder of polynomials over GF(2), modulo
 * x^32+x^26+x^23+x^22+x^16+x^12+x^11+x^10+x^8+x^7+x^5+x^4+x^2+x+1. Bits are
 * reflected: a word's top bit is the coefficient of x^0.
 */
#include "roce_icrc.h"

#define POLYNOMIAL 0xedb88320u
#define ONE 0x80000000u

/*
 * crc_table[k][n] is what byte n becomes when k more zero bytes follow. Being
 * linear in n, a row is spelled out by its values at 1, 2, 4 .. 128.
 */
#define SUM(n, b0, b1, b2, b3, b4, b5, b6, b7)                                                    \
	(((n) & 1 ? b0 : 0u) ^ ((n) & 2 ? b1 : 0u) ^ ((n) & 4 ? b2 : 0u) ^ ((n) & 8 ? b3 : 0u) ^    \
	 ((n) & 16 ? b4 : 0u) ^ ((n) & 32 ? b5 : 0u) ^ ((n) & 64 ? b6 : 0u) ^ ((n) & 128 ? b7 : 0u))
#define R0(n) SUM(n, 0x77073096, 0xee0e612c, 0x076dc419, 0x0edb8832, 0x1db71064, 0x3b6e20c8, 0x76dc4190, 0xedb88320)
#define R1(n) SUM(n, 0x191b3141, 0x32366282, 0x646cc504, 0xc8d98a08, 0x4ac21251, 0x958424a2, 0xf0794f05, 0x3b83984b)
#define R2(n) SUM(n, 0x01c26a37, 0x0384d46e, 0x0709a8dc, 0x0e1351b8, 0x1c26a370, 0x384d46e0, 0x709a8dc0, 0xe1351b80)
#define R3(n) SUM(n, 0xb8bc6765, 0xaa09c88b, 0x8f629757, 0xc5b428ef, 0x5019579f, 0xa032af3e, 0x9b14583d, 0xed59b63b)
#define R4(n) SUM(n, 0x3d6029b0, 0x7ac05360, 0xf580a6c0, 0x30704bc1, 0x60e09782, 0xc1c12f04, 0x58f35849, 0xb1e6b092)
#define R5(n) SUM(n, 0xcb5cd3a5, 0x4dc8a10b, 0x9b914216, 0xec53826d, 0x03d6029b, 0x07ac0536, 0x0f580a6c, 0x1eb014d8)
#define R6(n) SUM(n, 0xa6770bb4, 0x979f1129, 0xf44f2413, 0x33ef4e67, 0x67de9cce, 0xcfbd399c, 0x440b7579, 0x8816eaf2)
#define R7(n) SUM(n, 0xccaa009e, 0x4225077d, 0x844a0efa, 0xd3e51bb5, 0x7cbb312b, 0xf9766256, 0x299dc2ed, 0x533b85da)
#define FOUR(r, n) r(n), r((n) + 1), r((n) + 2), r((n) + 3)
#define SIXTEEN(r, n) FOUR(r, n), FOUR(r, (n) + 4), FOUR(r, (n) + 8), FOUR(r, (n) + 12)
#define SIXTY_FOUR(r, n) SIXTEEN(r, n), SIXTEEN(r, (n) + 16), SIXTEEN(r, (n) + 32), SIXTEEN(r, (n) + 48)
#define ROW(r) { SIXTY_FOUR(r, 0), SIXTY_FOUR(r, 64), SIXTY_FOUR(r, 128), SIXTY_FOUR(r, 192) }

static const u32 crc_table[8][256] = {
	ROW(R0), ROW(R1), ROW(R2), ROW(R3), ROW(R4), ROW(R5), ROW(R6), ROW(R7),
};

static inline u32 load_le32(const u8 *p)
{
	u32 v;

	__builtin_memcpy(&v, p, sizeof(v));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	v = __builtin_bswap32(v);
#endif
	return v;
}

u32 roce_crc32(u32 crc, const void *data, size_t len)
{
	const u8 *p = data;

	crc = ~crc;
	for (; len >= 8; len -= 8, p += 8) {
		u32 low = crc ^ load_le32(p);
		u32 high = load_le32(p + 4);

		crc = crc_table[7][low & 0xff] ^ crc_table[6][low >> 8 & 0xff] ^ crc_table[5][low >> 16 & 0xff] ^
		      crc_table[4][low >> 24] ^ crc_table[3][high & 0xff] ^ crc_table[2][high >> 8 & 0xff] ^
		      crc_table[1][high >> 16 & 0xff] ^ crc_table[0][high >> 24];
	}
	while (len--)
		crc = crc >> 8 ^ crc_table[0][(crc ^ *p++) & 0xff];
	return ~crc;
}

static u32 multiply(u32 a, u32 b)
{
	u32 product = 0;
	int i;

	for (i = 0; i < 32; i++) {
		product ^= b & -(a >> 31);
		a <<= 1;
		b = b >> 1 ^ (POLYNOMIAL & -(b & 1));
	}
	return product;
}

/* x to the 8 * 2^k, and its inverse: what 2^k bytes that follow multiply a remainder by. */
static const u32 forward[32] = {
	0x00800000, 0x00008000, 0xedb88320, 0xb1e6b092, 0xa06a2517, 0xed627dae, 0x88d14467, 0xd7bbfe6a,
	0xec447f11, 0x8e7ea170, 0x6427800e, 0x4d47bae0, 0x09fe548f, 0x83852d0f, 0x30362f1a, 0x7b5a9cc3,
	0x31fec169, 0x9fec022a, 0x6c8dedc4, 0x15d6874d, 0x5fde7a4e, 0xbad90e37, 0x2e4e5eef, 0x4eaba214,
	0xa8a472c0, 0x429a969e, 0x148d302a, 0xc40ba6d0, 0xc4e22c3c, 0x40000000, 0x20000000, 0x08000000,
};
static const u32 backward[32] = {
	0x6567cb95, 0xd7125358, 0x5b358fd3, 0x2e9bb40b, 0x12a59a49, 0x8df9403d, 0x5139de12, 0xba340226,
	0x29c45641, 0x12fbc105, 0xecd30c55, 0x3755ebd8, 0x24ee460c, 0x23783fcf, 0x479933fc, 0xa39442a5,
	0x9ea0056d, 0xf42608f6, 0x20cacf04, 0x2a0cf83d, 0xeffd8645, 0x2a39a67d, 0x640ebd82, 0x9dfd8792,
	0x277402ab, 0xad31bc4f, 0x31536354, 0x5ea35fca, 0x52b55e39, 0xdb710641, 0x6d930ac3, 0x6d3d2d4d,
};

static u32 power(const u32 *powers, u32 exponent)
{
	u32 factor = ONE;

	for (; exponent; exponent >>= 1, powers++)
		if (exponent & 1)
			factor = multiply(factor, *powers);
	return factor;
}

u32 roce_crc32_shift(u32 diff, u32 bytes)
{
	return multiply(diff, power(forward, bytes));
}

/* Where the masked headers lie in struct roce_flow.bytes. */
#define IP_AT 8
#define IPV4_LEN 20
#define IPV6_LEN 40
#define IPV4_LENGTH_AT (IP_AT + 2)
#define IPV4_ID_AT (IP_AT + 4)
#define IPV6_LENGTH_AT (IP_AT + 4)
#define UDP_LEN 8
#define PROTO_UDP 17

static bool is_v4(const u8 *addr)
{
	static const u8 mapped[12] = { [10] = 0xff, [11] = 0xff };

	return !memcmp(addr, mapped, sizeof(mapped));
}

void roce_flow_init(struct roce_flow *f, const u8 *saddr, const u8 *daddr, u16 sport, u16 dport, u16 ip_frag)
{
	u8 *ip = f->bytes + IP_AT;
	u8 *udp;

	memset(f->bytes, 0xff, sizeof(f->bytes));
	f->v4 = is_v4(saddr) && is_v4(daddr);
	if (f->v4) {
		ip[0] = 0x45;
		roce_put16(ip + 6, ip_frag);
		ip[9] = PROTO_UDP;
		memcpy(ip + 12, saddr + 12, 4);
		memcpy(ip + 16, daddr + 12, 4);
		udp = ip + IPV4_LEN;
	} else {
		ip[0] = 0x6f;
		ip[6] = PROTO_UDP;
		memcpy(ip + 8, saddr, 16);
		memcpy(ip + 24, daddr, 16);
		udp = ip + IPV6_LEN;
	}
	roce_put16(udp, sport);
	roce_put16(udp + 2, dport);
	f->len = (u8)(udp + UDP_LEN - f->bytes);
}

u32 roce_icrc_begin(const struct roce_flow *f, roce_crc32_fn crc32, u16 ip_id, const u8 *bth, u32 len)
{
	u8 bytes[sizeof(f->bytes) + ROCE_BTH_LEN];
	u16 udp_len = (u16)(UDP_LEN + len + ROCE_ICRC_LEN);

	memcpy(bytes, f->bytes, sizeof(f->bytes));
	if (f->v4) {
		roce_put16(bytes + IPV4_LENGTH_AT, (u16)(IPV4_LEN + udp_len));
		roce_put16(bytes + IPV4_ID_AT, ip_id);
	} else {
		roce_put16(bytes + IPV6_LENGTH_AT, udp_len);
	}
	roce_put16(bytes + f->len - 4, udp_len);
	memcpy(bytes + f->len, bth, ROCE_BTH_LEN);
	bytes[f->len + 4] = 0xff;
	return crc32(0, bytes, f->len + ROCE_BTH_LEN);
}

u32 roce_icrc(const struct roce_flow *f, roce_crc32_fn crc32, u16 ip_id, const u8 *p, u32 len)
{
	u32 crc = roce_icrc_begin(f, crc32, ip_id, p, len);

	return crc32(crc, p + ROCE_BTH_LEN, len - ROCE_BTH_LEN);
}

/* The identification and all after it, up to the ICRC. */
static u32 bytes_from_id(u32 len)
{
	return IPV4_LEN - 4 + UDP_LEN + len;
}

int roce_icrc_solve_id(struct roce_solve_cache *cache, u32 diff, u32 len, u16 *id)
{
	u32 slot = len / 4 % ROCE_SOLVE_SLOTS;
	u32 word;

	if (cache->len[slot] != len) {
		cache->len[slot] = len;
		cache->factor[slot] = power(backward, bytes_from_id(len));
	}
	/*
	 * The remainder of the difference before anything followed it: its first
	 * byte in the low bits, and nothing beyond its second if only the
	 * identification differs.
	 */
	word = multiply(diff, cache->factor[slot]);
	if (word >> 16)
		return -EBADMSG;
	*id ^= (u16)(word << 8 | word >> 8);
	return 0;
}

int roce_icrc_check(const struct roce_flow *f, roce_crc32_fn crc32, struct roce_solve_cache *cache, const u8 *p,
		    u32 len, u16 *id)
{
	u32 diff;

	if (len < ROCE_BTH_LEN + ROCE_ICRC_LEN)
		return -EMSGSIZE;
	len -= ROCE_ICRC_LEN;
	diff = roce_icrc(f, crc32, f->v4 ? *id : 0, p, len) ^ roce_icrc_get(p + len);
	if (!diff)
		return 0;
	return f->v4 ? roce_icrc_solve_id(cache, diff, len, id) : -EBADMSG;
}
