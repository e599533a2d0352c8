/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The invariant CRC at the end of every RoCEv2 packet (IBTA 7.8.1 and annex A17):
 * CRC-32 over the IP and UDP headers with the fields that routers change taken as
 * all ones, and over the packet. docs/krping-wire.md says what is covered.
 *
 * The IPv4 identification is covered, and a UDP socket does not show it to its
 * reader. Since a CRC is linear, the 16 bits can be solved for from the CRC that
 * came with the packet; 16 of its 32 bits of protection remain.
 */
#ifndef ROCE_ICRC_H
#define ROCE_ICRC_H

#include "roce_wire.h"

/**
 * roce_crc32() - the CRC-32 of zlib, Ethernet and ICRC (IEEE 802.3 3.2.9), portable.
 * @crc: 0, or the CRC of the bytes before (chainable)
 */
u32 roce_crc32(u32 crc, const void *data, size_t len);

/* A function that does what roce_crc32() does, faster. */
typedef u32 (*roce_crc32_fn)(u32 crc, const void *data, size_t len);

#ifndef __KERNEL__
/** roce_crc32_fast() - the fastest such function this processor has; in csrc/roce/user. Any thread. */
roce_crc32_fn roce_crc32_fast(void);
#endif

/**
 * roce_crc32_shift() - what a difference between two messages' CRCs becomes when
 * the same @bytes bytes follow in both. As many multiplications as @bytes has bits set.
 */
u32 roce_crc32_shift(u32 diff, u32 bytes);

#define ROCE_IP_DF 0x4000 /* in struct roce_flow.ip_frag */

/**
 * struct roce_flow - IP and UDP headers of a flow as the ICRC sees them: prepared
 * once by roce_flow_init() and not changed by use.
 */
struct roce_flow {
	u8 bytes[8 + 40 + 8]; /* eight bytes of ones, IP header, UDP header */
	u8 len;		      /* of them used: 36 or 56 */
	bool v4;
};

/**
 * roce_flow_init() - prepare a flow.
 * @saddr, @daddr: the packets' source and destination, 16 bytes each; both IPv4 as ::ffff:a.b.c.d or both IPv6
 * @sport, @dport: UDP ports
 * @ip_frag:       IPv4's flags and fragment offset, ROCE_IP_DF as RoCE peers send it; ignored for IPv6
 */
void roce_flow_init(struct roce_flow *f, const u8 *saddr, const u8 *daddr, u16 sport, u16 dport, u16 ip_frag);

/**
 * roce_icrc_begin() - the running CRC through the IP, UDP and base transport headers.
 * @f:     the flow
 * @crc32: roce_crc32() or a faster one
 * @ip_id: IPv4 identification; ignored for IPv6
 * @bth:   ROCE_BTH_LEN bytes
 * @len:   bytes of the whole packet from BTH to pad, without ICRC
 *
 * Go on with @crc32 over what follows the BTH, in as many pieces as it comes in;
 * the result goes through roce_icrc_put(). Return: the running CRC.
 */
u32 roce_icrc_begin(const struct roce_flow *f, roce_crc32_fn crc32, u16 ip_id, const u8 *bth, u32 len);

/** roce_icrc() - the ICRC of a contiguous packet @p of @len bytes, BTH to pad, at least ROCE_BTH_LEN. */
u32 roce_icrc(const struct roce_flow *f, roce_crc32_fn crc32, u16 ip_id, const u8 *p, u32 len);

/** roce_icrc_put(), roce_icrc_get() - the four bytes after the pad; least significant first, unlike all else. */
static inline void roce_icrc_put(u8 *p, u32 icrc)
{
	p[0] = (u8)icrc;
	p[1] = (u8)(icrc >> 8);
	p[2] = (u8)(icrc >> 16);
	p[3] = (u8)(icrc >> 24);
}

static inline u32 roce_icrc_get(const u8 *p)
{
	return p[0] | (u32)p[1] << 8 | (u32)p[2] << 16 | (u32)p[3] << 24;
}

/*
 * Factors for packet lengths met lately, so that solving costs one
 * multiplication. Zeroed by its owner before use; one thread at a time.
 */
#define ROCE_SOLVE_SLOTS 16
struct roce_solve_cache {
	u32 len[ROCE_SOLVE_SLOTS];
	u32 factor[ROCE_SOLVE_SLOTS];
};

/**
 * roce_icrc_solve_id() - find the IPv4 identification under which a packet's ICRC is right.
 * @cache: zeroed at first
 * @diff:  computed ICRC xor received ICRC
 * @len:   bytes of the packet from BTH to pad, as for roce_icrc_begin()
 * @id:    in: the identification the ICRC was computed with; out: the one that makes it right
 *
 * Return: 0; -EBADMSG, @id untouched, when no identification does.
 */
int roce_icrc_solve_id(struct roce_solve_cache *cache, u32 diff, u32 len, u16 *id);

/**
 * roce_icrc_check() - check a contiguous packet from a socket that hides the identification.
 * @f:     the flow
 * @crc32: roce_crc32() or a faster one
 * @cache: zeroed at first; not used for IPv6
 * @p:     the UDP payload, ICRC included
 * @len:   its bytes
 * @id:    IPv4, in: the identification to try first (0, or the last one plus 1);
 *         out: the packet's. Untouched for IPv6.
 *
 * Return: 0; -EMSGSIZE when too short for BTH and ICRC; -EBADMSG when the ICRC is wrong.
 */
int roce_icrc_check(const struct roce_flow *f, roce_crc32_fn crc32, struct roce_solve_cache *cache, const u8 *p,
		    u32 len, u16 *id);

#endif
