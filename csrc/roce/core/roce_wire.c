// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* RoCEv2 headers: encoding and checked decoding. The layout is in docs/krping-wire.md. */
#include "roce_wire.h"

#define BTH_SE 0x80
#define BTH_MIGREQ 0x40
#define BTH_FECN 0x80
#define BTH_BECN 0x40
#define BTH_ACKREQ 0x80

#define RC ROCE_OP_RC
#define FIRST ROCE_OP_FIRST
#define MIDDLE ROCE_OP_MIDDLE
#define LAST ROCE_OP_LAST
#define ONLY (ROCE_OP_FIRST | ROCE_OP_LAST)
#define SEND (RC | ROCE_OP_SEND | ROCE_OP_PAYLOAD)
#define WRITE (RC | ROCE_OP_WRITE | ROCE_OP_PAYLOAD)
#define READ_RESP (RC | ROCE_OP_READ_RESP | ROCE_OP_PAYLOAD)
#define ATOMIC (RC | ROCE_OP_ATOMIC | ROCE_OP_ATOMICETH | ONLY)
#define UD_SEND (ROCE_OP_UD | ROCE_OP_SEND | ROCE_OP_DETH | ROCE_OP_PAYLOAD | ONLY)

const u32 roce_op_table[256] = {
	[ROCE_SEND_FIRST] = SEND | FIRST,
	[ROCE_SEND_MIDDLE] = SEND | MIDDLE,
	[ROCE_SEND_LAST] = SEND | LAST,
	[ROCE_SEND_LAST_IMM] = SEND | LAST | ROCE_OP_IMM,
	[ROCE_SEND_ONLY] = SEND | ONLY,
	[ROCE_SEND_ONLY_IMM] = SEND | ONLY | ROCE_OP_IMM,
	[ROCE_WRITE_FIRST] = WRITE | FIRST | ROCE_OP_RETH,
	[ROCE_WRITE_MIDDLE] = WRITE | MIDDLE,
	[ROCE_WRITE_LAST] = WRITE | LAST,
	[ROCE_WRITE_LAST_IMM] = WRITE | LAST | ROCE_OP_IMM,
	[ROCE_WRITE_ONLY] = WRITE | ONLY | ROCE_OP_RETH,
	[ROCE_WRITE_ONLY_IMM] = WRITE | ONLY | ROCE_OP_RETH | ROCE_OP_IMM,
	[ROCE_READ_REQUEST] = RC | ROCE_OP_READ_REQUEST | ROCE_OP_RETH | ONLY,
	[ROCE_READ_RESP_FIRST] = READ_RESP | FIRST | ROCE_OP_AETH,
	[ROCE_READ_RESP_MIDDLE] = READ_RESP | MIDDLE,
	[ROCE_READ_RESP_LAST] = READ_RESP | LAST | ROCE_OP_AETH,
	[ROCE_READ_RESP_ONLY] = READ_RESP | ONLY | ROCE_OP_AETH,
	[ROCE_ACK] = RC | ROCE_OP_ACK | ROCE_OP_AETH | ONLY,
	[ROCE_ATOMIC_ACK] = RC | ROCE_OP_ACK | ROCE_OP_AETH | ROCE_OP_ATOMICACKETH | ONLY,
	[ROCE_COMPARE_SWAP] = ATOMIC,
	[ROCE_FETCH_ADD] = ATOMIC,
	[ROCE_SEND_LAST_INV] = SEND | LAST | ROCE_OP_IETH,
	[ROCE_SEND_ONLY_INV] = SEND | ONLY | ROCE_OP_IETH,
	[ROCE_UD_SEND_ONLY] = UD_SEND,
	[ROCE_UD_SEND_ONLY_IMM] = UD_SEND | ROCE_OP_IMM,
	[ROCE_CNP] = ROCE_OP_CNP | ONLY,
};

const char *roce_opcode_name(u8 opcode)
{
	switch (opcode) {
	case ROCE_SEND_FIRST: return "SEND_FIRST";
	case ROCE_SEND_MIDDLE: return "SEND_MIDDLE";
	case ROCE_SEND_LAST: return "SEND_LAST";
	case ROCE_SEND_LAST_IMM: return "SEND_LAST_IMM";
	case ROCE_SEND_ONLY: return "SEND_ONLY";
	case ROCE_SEND_ONLY_IMM: return "SEND_ONLY_IMM";
	case ROCE_WRITE_FIRST: return "WRITE_FIRST";
	case ROCE_WRITE_MIDDLE: return "WRITE_MIDDLE";
	case ROCE_WRITE_LAST: return "WRITE_LAST";
	case ROCE_WRITE_LAST_IMM: return "WRITE_LAST_IMM";
	case ROCE_WRITE_ONLY: return "WRITE_ONLY";
	case ROCE_WRITE_ONLY_IMM: return "WRITE_ONLY_IMM";
	case ROCE_READ_REQUEST: return "READ_REQUEST";
	case ROCE_READ_RESP_FIRST: return "READ_RESP_FIRST";
	case ROCE_READ_RESP_MIDDLE: return "READ_RESP_MIDDLE";
	case ROCE_READ_RESP_LAST: return "READ_RESP_LAST";
	case ROCE_READ_RESP_ONLY: return "READ_RESP_ONLY";
	case ROCE_ACK: return "ACK";
	case ROCE_ATOMIC_ACK: return "ATOMIC_ACK";
	case ROCE_COMPARE_SWAP: return "COMPARE_SWAP";
	case ROCE_FETCH_ADD: return "FETCH_ADD";
	case ROCE_SEND_LAST_INV: return "SEND_LAST_INV";
	case ROCE_SEND_ONLY_INV: return "SEND_ONLY_INV";
	case ROCE_UD_SEND_ONLY: return "UD_SEND_ONLY";
	case ROCE_UD_SEND_ONLY_IMM: return "UD_SEND_ONLY_IMM";
	case ROCE_CNP: return "CNP";
	}
	return "?";
}

static inline u32 hdr_len_of(u32 op)
{
	u32 len = ROCE_BTH_LEN;

	if (op & ROCE_OP_RETH)
		len += ROCE_RETH_LEN;
	if (op & ROCE_OP_ATOMICETH)
		len += ROCE_ATOMICETH_LEN;
	if (op & ROCE_OP_AETH)
		len += ROCE_AETH_LEN;
	if (op & ROCE_OP_ATOMICACKETH)
		len += ROCE_ATOMICACKETH_LEN;
	if (op & ROCE_OP_DETH)
		len += ROCE_DETH_LEN;
	if (op & ROCE_OP_IMM)
		len += ROCE_IMMDT_LEN;
	if (op & ROCE_OP_IETH)
		len += ROCE_IETH_LEN;
	if (op & ROCE_OP_CNP)
		len += ROCE_CNP_LEN;
	return len;
}

u32 roce_hdr_len(u8 opcode)
{
	u32 op = roce_op(opcode);

	return op ? hdr_len_of(op) : 0;
}

static inline void get_bth(struct roce_pkt *out, const u8 *p)
{
	out->opcode = p[0];
	out->se = p[1] & BTH_SE;
	out->migreq = p[1] & BTH_MIGREQ;
	out->pad = (p[1] >> 4) & 3;
	out->pkey = roce_get16(p + 2);
	out->fecn = p[4] & BTH_FECN;
	out->becn = p[4] & BTH_BECN;
	out->dest_qpn = roce_get24(p + 5);
	out->ackreq = p[8] & BTH_ACKREQ;
	out->psn = roce_get24(p + 9);
}

/* In the order in which they follow the BTH; no opcode has two that exclude each other. */
static inline void get_extended(struct roce_pkt *out, const u8 *p, u32 op)
{
	p += ROCE_BTH_LEN;
	if (op & ROCE_OP_DETH) {
		out->qkey = roce_get32(p);
		out->src_qpn = roce_get24(p + 5);
		p += ROCE_DETH_LEN;
	}
	if (op & ROCE_OP_RETH) {
		out->va = roce_get64(p);
		out->rkey = roce_get32(p + 8);
		out->dma_len = roce_get32(p + 12);
		p += ROCE_RETH_LEN;
	}
	if (op & ROCE_OP_ATOMICETH) {
		out->va = roce_get64(p);
		out->rkey = roce_get32(p + 8);
		out->swap_add = roce_get64(p + 12);
		out->compare = roce_get64(p + 20);
	}
	if (op & ROCE_OP_AETH) {
		out->syndrome = p[0];
		out->msn = roce_get24(p + 1);
		p += ROCE_AETH_LEN;
	}
	if (op & ROCE_OP_ATOMICACKETH)
		out->orig = roce_get64(p);
	if (op & ROCE_OP_IMM)
		out->imm = roce_get32(p);
	if (op & ROCE_OP_IETH)
		out->inv_rkey = roce_get32(p);
}

int roce_decode(struct roce_pkt *out, const u8 *p, u32 len)
{
	u32 op, hdr_len, rest;

	if (len < ROCE_BTH_LEN)
		return -EMSGSIZE;
	op = roce_op(p[0]);
	if (!op || p[1] & 0x0f)
		return -EPROTONOSUPPORT;
	hdr_len = hdr_len_of(op);
	if (len < hdr_len)
		return -EMSGSIZE;
	rest = len - hdr_len;

	memset(out, 0, sizeof(*out));
	get_bth(out, p);
	if (len & 3 || out->pad > rest || (rest && !(op & ROCE_OP_PAYLOAD)))
		return -EBADMSG;
	get_extended(out, p, op);
	out->hdr_len = hdr_len;
	out->payload_len = rest - out->pad;
	return 0;
}

u32 roce_encode(u8 *hdr, const struct roce_pkt *pkt)
{
	u32 op = roce_op(pkt->opcode);
	u8 *p = hdr;

	if (!op)
		return 0;
	p[0] = pkt->opcode;
	p[1] = (u8)((pkt->se ? BTH_SE : 0) | (pkt->migreq ? BTH_MIGREQ : 0) | (pkt->pad & 3) << 4);
	roce_put16(p + 2, pkt->pkey);
	p[4] = (u8)((pkt->fecn ? BTH_FECN : 0) | (pkt->becn ? BTH_BECN : 0));
	roce_put24(p + 5, pkt->dest_qpn);
	p[8] = pkt->ackreq ? BTH_ACKREQ : 0;
	roce_put24(p + 9, pkt->psn);
	p += ROCE_BTH_LEN;

	if (op & ROCE_OP_DETH) {
		roce_put32(p, pkt->qkey);
		p[4] = 0;
		roce_put24(p + 5, pkt->src_qpn);
		p += ROCE_DETH_LEN;
	}
	if (op & ROCE_OP_RETH) {
		roce_put64(p, pkt->va);
		roce_put32(p + 8, pkt->rkey);
		roce_put32(p + 12, pkt->dma_len);
		p += ROCE_RETH_LEN;
	}
	if (op & ROCE_OP_ATOMICETH) {
		roce_put64(p, pkt->va);
		roce_put32(p + 8, pkt->rkey);
		roce_put64(p + 12, pkt->swap_add);
		roce_put64(p + 20, pkt->compare);
		p += ROCE_ATOMICETH_LEN;
	}
	if (op & ROCE_OP_AETH) {
		p[0] = pkt->syndrome;
		roce_put24(p + 1, pkt->msn);
		p += ROCE_AETH_LEN;
	}
	if (op & ROCE_OP_ATOMICACKETH) {
		roce_put64(p, pkt->orig);
		p += ROCE_ATOMICACKETH_LEN;
	}
	if (op & ROCE_OP_IMM) {
		roce_put32(p, pkt->imm);
		p += ROCE_IMMDT_LEN;
	}
	if (op & ROCE_OP_IETH) {
		roce_put32(p, pkt->inv_rkey);
		p += ROCE_IETH_LEN;
	}
	if (op & ROCE_OP_CNP) {
		memset(p, 0, ROCE_CNP_LEN);
		p += ROCE_CNP_LEN;
	}
	return (u32)(p - hdr);
}

const char *roce_syn_name(u8 syndrome)
{
	if (roce_syn_is_ack(syndrome))
		return "acknowledge";
	if (roce_syn_is_rnr(syndrome))
		return "receiver not ready";
	switch (syndrome) {
	case ROCE_NAK_PSN_SEQUENCE: return "PSN sequence error";
	case ROCE_NAK_INVALID_REQUEST: return "invalid request";
	case ROCE_NAK_REMOTE_ACCESS: return "remote access error";
	case ROCE_NAK_REMOTE_OPERATION: return "remote operational error";
	}
	return "?";
}

/* Two steps to each doubling from 2 on. */
u32 roce_credits(u8 code)
{
	code &= ROCE_SYN_VALUE;
	if (code == ROCE_ACK_NO_CREDITS)
		return ROCE_CREDITS_UNLIMITED;
	if (code < 2)
		return code;
	return (code & 1 ? 3u : 2u) << (code / 2 - 1);
}

u8 roce_credit_code(u32 credits)
{
	u8 code = ROCE_ACK_NO_CREDITS - 1;

	while (roce_credits(code) > credits)
		code--;
	return code;
}

/* Tens of microseconds: the same two steps to each doubling, and code 0 beyond the longest. */
u64 roce_rnr_ns(u8 code)
{
	u64 tens;

	code &= ROCE_SYN_VALUE;
	if (code == 0)
		tens = 65536;
	else if (code == 1)
		tens = 1;
	else
		tens = (u64)(code & 1 ? 3 : 2) << (code / 2 - 1);
	return tens * 10000;
}

u8 roce_rnr_code(u64 ns)
{
	u8 code = 1;

	while (code && roce_rnr_ns(code) < ns)
		code = (code + 1) & ROCE_SYN_VALUE;
	return code;
}
