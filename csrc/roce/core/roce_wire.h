/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * RoCEv2 packets: the base transport header and the extended headers after it.
 * Sources: InfiniBand Architecture Specification volume 1 (IBTA) chapter 9 and
 * its annex A17 (RoCEv2). Field by field in docs/krping-wire.md.
 *
 * A packet here is what UDP carries without the four bytes of ICRC at its end:
 * BTH, extended headers, payload, 0 to 3 bytes of pad.
 */
#ifndef ROCE_WIRE_H
#define ROCE_WIRE_H

#include "roce_types.h"

#define ROCE_UDP_PORT 4791 /* the destination port */
#define ROCE_PKEY_DEFAULT 0xffff
#define ROCE_QP_CM 1 /* the general services interface, where CM messages go */
#define ROCE_QKEY_CM 0x80010000u /* what QP 1 answers to, on every device */

#define ROCE_BTH_LEN 12
#define ROCE_RETH_LEN 16
#define ROCE_ATOMICETH_LEN 28
#define ROCE_AETH_LEN 4
#define ROCE_ATOMICACKETH_LEN 8
#define ROCE_IMMDT_LEN 4
#define ROCE_IETH_LEN 4
#define ROCE_DETH_LEN 8
#define ROCE_CNP_LEN 16 /* reserved bytes after the BTH of a congestion notification */
#define ROCE_ICRC_LEN 4

#define ROCE_HDR_MAX (ROCE_BTH_LEN + ROCE_ATOMICETH_LEN)
#define ROCE_MTU_MIN 256
#define ROCE_MTU_MAX 4096
/* Longest UDP payload of a packet: no opcode with a payload has more than BTH, RETH and ImmDt. */
#define ROCE_PACKET_MAX (ROCE_BTH_LEN + ROCE_RETH_LEN + ROCE_IMMDT_LEN + ROCE_MTU_MAX + ROCE_ICRC_LEN)

/*
 * A UD receive queue puts 40 bytes before the payload. With IPv4 the last 20
 * of them are the IP header (annex A17).
 */
#define ROCE_GRH_LEN 40

/* IBTA table 38; the CNP of annex A17. */
enum roce_opcode {
	ROCE_SEND_FIRST = 0x00,
	ROCE_SEND_MIDDLE = 0x01,
	ROCE_SEND_LAST = 0x02,
	ROCE_SEND_LAST_IMM = 0x03,
	ROCE_SEND_ONLY = 0x04,
	ROCE_SEND_ONLY_IMM = 0x05,
	ROCE_WRITE_FIRST = 0x06,
	ROCE_WRITE_MIDDLE = 0x07,
	ROCE_WRITE_LAST = 0x08,
	ROCE_WRITE_LAST_IMM = 0x09,
	ROCE_WRITE_ONLY = 0x0a,
	ROCE_WRITE_ONLY_IMM = 0x0b,
	ROCE_READ_REQUEST = 0x0c,
	ROCE_READ_RESP_FIRST = 0x0d,
	ROCE_READ_RESP_MIDDLE = 0x0e,
	ROCE_READ_RESP_LAST = 0x0f,
	ROCE_READ_RESP_ONLY = 0x10,
	ROCE_ACK = 0x11,
	ROCE_ATOMIC_ACK = 0x12,
	ROCE_COMPARE_SWAP = 0x13,
	ROCE_FETCH_ADD = 0x14,
	ROCE_SEND_LAST_INV = 0x16,
	ROCE_SEND_ONLY_INV = 0x17,
	ROCE_UD_SEND_ONLY = 0x64,
	ROCE_UD_SEND_ONLY_IMM = 0x65,
	ROCE_CNP = 0x81,
};

/* What an opcode is and carries, from roce_op(). An opcode that is not known has no bit. */
#define ROCE_OP_RC 0x00001u
#define ROCE_OP_UD 0x00002u
#define ROCE_OP_CNP 0x00004u
#define ROCE_OP_SEND 0x00008u
#define ROCE_OP_WRITE 0x00010u
#define ROCE_OP_READ_REQUEST 0x00020u
#define ROCE_OP_READ_RESP 0x00040u
#define ROCE_OP_ACK 0x00080u    /* acknowledge, atomic acknowledge */
#define ROCE_OP_ATOMIC 0x00100u /* compare and swap, fetch and add: the requests */
#define ROCE_OP_FIRST 0x00200u  /* begins a message; FIRST and LAST together: "only" */
#define ROCE_OP_MIDDLE 0x00400u
#define ROCE_OP_LAST 0x00800u /* ends a message */
#define ROCE_OP_PAYLOAD 0x01000u /* may have payload; others have none */
#define ROCE_OP_RETH 0x02000u
#define ROCE_OP_ATOMICETH 0x04000u
#define ROCE_OP_AETH 0x08000u
#define ROCE_OP_ATOMICACKETH 0x10000u
#define ROCE_OP_IMM 0x20000u
#define ROCE_OP_IETH 0x40000u
#define ROCE_OP_DETH 0x80000u

extern const u32 roce_op_table[256];

/** roce_op() - the ROCE_OP_ bits of an opcode, 0 for one that is not known. */
static inline u32 roce_op(u8 opcode)
{
	return roce_op_table[opcode];
}

static inline bool roce_is_first(u8 opcode)
{
	return (roce_op(opcode) & (ROCE_OP_FIRST | ROCE_OP_LAST)) == ROCE_OP_FIRST;
}

static inline bool roce_is_middle(u8 opcode)
{
	return roce_op(opcode) & ROCE_OP_MIDDLE;
}

static inline bool roce_is_last(u8 opcode)
{
	return (roce_op(opcode) & (ROCE_OP_FIRST | ROCE_OP_LAST)) == ROCE_OP_LAST;
}

static inline bool roce_is_only(u8 opcode)
{
	return (roce_op(opcode) & (ROCE_OP_FIRST | ROCE_OP_LAST)) == (ROCE_OP_FIRST | ROCE_OP_LAST);
}

/** roce_begins() - first or only packet of a message, roce_ends() - last or only. */
static inline bool roce_begins(u8 opcode)
{
	return roce_op(opcode) & ROCE_OP_FIRST;
}

static inline bool roce_ends(u8 opcode)
{
	return roce_op(opcode) & ROCE_OP_LAST;
}

/** roce_is_request() - to the responder of a reliable connection. */
static inline bool roce_is_request(u8 opcode)
{
	return roce_op(opcode) & ROCE_OP_RC &&
	       roce_op(opcode) & (ROCE_OP_SEND | ROCE_OP_WRITE | ROCE_OP_READ_REQUEST | ROCE_OP_ATOMIC);
}

/** roce_is_response() - to the requester of a reliable connection. */
static inline bool roce_is_response(u8 opcode)
{
	return roce_op(opcode) & (ROCE_OP_READ_RESP | ROCE_OP_ACK);
}

/**
 * struct roce_pkt - one packet, decoded. Fields of extended headers that the
 * opcode does not have are zero after roce_decode() and ignored by roce_encode().
 */
struct roce_pkt {
	/* BTH */
	u8 opcode;
	bool se;     /* solicited event */
	bool migreq; /* migration state; rxe leaves it clear, other peers may set it */
	u8 pad;	     /* bytes after the payload, 0..3 */
	bool fecn;   /* congestion was seen on the way here ... */
	bool becn;   /* ... and is reported back (CNP) */
	bool ackreq;
	u16 pkey;
	u32 dest_qpn; /* 24 bits */
	u32 psn;      /* 24 bits */
	/* RETH; AtomicETH has the first two as well */
	u64 va;
	u32 rkey;
	u32 dma_len;
	/* AtomicETH */
	u64 swap_add;
	u64 compare;
	/* AETH */
	u8 syndrome;
	u32 msn; /* 24 bits */
	/* AtomicAckETH */
	u64 orig;
	/* ImmDt, a big-endian word on the wire */
	u32 imm;
	/* IETH */
	u32 inv_rkey;
	/* DETH */
	u32 qkey;
	u32 src_qpn; /* 24 bits */

	/* Set by roce_decode(); roce_encode() does not look at them. */
	u32 hdr_len;	 /* the payload begins here */
	u32 payload_len; /* without pad */
};

/**
 * roce_decode() - check a packet's headers and take them apart. Total: any
 * input gives a result or an error and never reads beyond @len.
 * @out: filled in on success
 * @p:   BTH, extended headers, payload and pad; the ICRC already taken off and checked
 * @len: bytes at @p
 *
 * Reserved bits are ignored (IBTA 9.2). What depends on the queue pair - P_Key,
 * path MTU, order of first, middle and last - is left to the transport.
 *
 * Return: 0; -EMSGSIZE when @len does not hold the headers; -EPROTONOSUPPORT for
 * a transport version other than 0 or an unknown opcode; -EBADMSG when @len is no
 * multiple of 4, the pad exceeds the payload, or payload follows an opcode without.
 */
int roce_decode(struct roce_pkt *out, const u8 *p, u32 len);

/**
 * roce_encode() - write the headers of a packet; payload, pad and ICRC are the caller's.
 * @hdr: at least ROCE_HDR_MAX bytes
 * @pkt: fields; bits beyond a field's width are dropped, reserved bits are written as zero
 *
 * Return: header length in bytes; 0 for an unknown opcode.
 */
u32 roce_encode(u8 *hdr, const struct roce_pkt *pkt);

/** roce_hdr_len() - bytes of BTH and extended headers (and of a CNP's reserve), 0 for an unknown opcode. */
u32 roce_hdr_len(u8 opcode);

/** roce_opcode_name() - the opcode's name in the documentation, or "?". */
const char *roce_opcode_name(u8 opcode);

/** roce_pad() - bytes of pad after a payload of @len bytes. */
static inline u8 roce_pad(u32 len)
{
	return (u8)(-len & 3);
}

/* ---- packet sequence numbers: 24 bits, IBTA 9.7.1 ---- */

#define ROCE_PSN_MASK 0xffffffu

static inline u32 roce_psn_add(u32 psn, u32 n)
{
	return (psn + n) & ROCE_PSN_MASK;
}

/** roce_psn_diff() - @a minus @b around the circle, -2^23 .. 2^23 - 1. */
static inline s32 roce_psn_diff(u32 a, u32 b)
{
	return (s32)((a - b) << 8) >> 8;
}

/** roce_psn_cmp() - below zero if @a comes before @b, zero if equal, above if after. */
static inline int roce_psn_cmp(u32 a, u32 b)
{
	return roce_psn_diff(a, b);
}

/* ---- AETH syndromes, IBTA 9.7.5 ---- */

#define ROCE_SYN_ACK 0x00     /* low 5 bits: credit code */
#define ROCE_SYN_RNR_NAK 0x20 /* low 5 bits: timer code */
#define ROCE_SYN_NAK 0x60     /* low 5 bits: which */
#define ROCE_SYN_VALUE 0x1f

#define ROCE_ACK_NO_CREDITS 0x1f /* acknowledge without credits: the receiver does not do end-to-end flow control */
#define ROCE_NAK_PSN_SEQUENCE 0x60
#define ROCE_NAK_INVALID_REQUEST 0x61
#define ROCE_NAK_REMOTE_ACCESS 0x62
#define ROCE_NAK_REMOTE_OPERATION 0x63

static inline bool roce_syn_is_ack(u8 syndrome)
{
	return (syndrome & 0xe0) == ROCE_SYN_ACK;
}

static inline bool roce_syn_is_rnr(u8 syndrome)
{
	return (syndrome & 0xe0) == ROCE_SYN_RNR_NAK;
}

static inline bool roce_syn_is_nak(u8 syndrome)
{
	return (syndrome & 0xe0) == ROCE_SYN_NAK;
}

/** roce_syn_name() - the syndrome in words, for logs; "?" for a reserved one. */
const char *roce_syn_name(u8 syndrome);

#define ROCE_CREDITS_UNLIMITED (~0u)

/**
 * roce_credits() - receives the responder has posted beyond the acknowledged
 * message, from an ACK syndrome's low 5 bits (IBTA 9.7.7.2); ROCE_CREDITS_UNLIMITED
 * for code 31, which carries none.
 */
u32 roce_credits(u8 code);

/** roce_credit_code() - the largest credit code (0..30) that promises no more than @credits receives. */
u8 roce_credit_code(u32 credits);

/** roce_rnr_ns() - nanoseconds an RNR NAK with this timer code (0..31, table 45) asks to wait. */
u64 roce_rnr_ns(u8 code);

/** roce_rnr_code() - the code of the shortest RNR timer that is not below @ns; 0, the longest, for more than that. */
u8 roce_rnr_code(u64 ns);

/** roce_timeout_ns() - 4.096 us times 2^code: local ACK timeouts (where 0 means none at all) and CM timeouts. */
static inline u64 roce_timeout_ns(u8 code)
{
	return (u64)4096 << (code & 31);
}

/** roce_mtu_bytes() - path MTU of a code as CM messages carry it (1: 256 .. 5: 4096), 0 for other codes. */
static inline u32 roce_mtu_bytes(u8 code)
{
	return code >= 1 && code <= 5 ? 128u << code : 0;
}

/** roce_mtu_code() - code of the largest path MTU that is not above @bytes, 0 below 256. */
static inline u8 roce_mtu_code(u32 bytes)
{
	u8 code = 5;

	while (code && roce_mtu_bytes(code) > bytes)
		code--;
	return code;
}

#endif
