// SPDX-License-Identifier: BSD-2-Clause
/*
 * Any bytes into roce_decode() and roce_icrc_check(): they read only what they
 * were given, what decoding lets through keeps its promises, and encoding that and
 * decoding again gives the same.
 */
#include <stdlib.h>

#include "roce/core/roce_icrc.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static void expect(bool holds)
{
	if (!holds)
		abort();
}

static bool same(const struct roce_pkt *a, const struct roce_pkt *b)
{
	return a->opcode == b->opcode && a->se == b->se && a->migreq == b->migreq && a->pad == b->pad &&
	       a->fecn == b->fecn && a->becn == b->becn && a->ackreq == b->ackreq && a->pkey == b->pkey &&
	       a->dest_qpn == b->dest_qpn && a->psn == b->psn && a->va == b->va && a->rkey == b->rkey &&
	       a->dma_len == b->dma_len && a->swap_add == b->swap_add && a->compare == b->compare &&
	       a->syndrome == b->syndrome && a->msn == b->msn && a->orig == b->orig && a->imm == b->imm &&
	       a->inv_rkey == b->inv_rkey && a->qkey == b->qkey && a->src_qpn == b->src_qpn &&
	       a->hdr_len == b->hdr_len && a->payload_len == b->payload_len;
}

/* Bits the decoder does not look at. */
static void clear_reserved(u8 *p, u8 opcode)
{
	p[4] &= 0xc0;
	p[8] &= 0x80;
	if (roce_op(opcode) & ROCE_OP_DETH)
		p[16] = 0;
	if (roce_op(opcode) & ROCE_OP_CNP)
		memset(p + ROCE_BTH_LEN, 0, ROCE_CNP_LEN);
}

static void try_decode(u8 *p, u32 len)
{
	struct roce_pkt pkt, again;
	u8 hdr[ROCE_HDR_MAX];
	int err;

	memset(&pkt, 0xa5, sizeof(pkt));
	err = roce_decode(&pkt, p, len);
	expect(err == 0 || err == -EMSGSIZE || err == -EPROTONOSUPPORT || err == -EBADMSG);
	if (err)
		return;
	expect(pkt.hdr_len == roce_hdr_len(pkt.opcode) && pkt.hdr_len <= ROCE_HDR_MAX);
	expect(pkt.pad < 4 && len % 4 == 0 && pkt.hdr_len + pkt.payload_len + pkt.pad == len);
	expect(pkt.payload_len == 0 || roce_op(pkt.opcode) & ROCE_OP_PAYLOAD);
	expect((pkt.dest_qpn | pkt.psn | pkt.msn | pkt.src_qpn) <= 0xffffff);

	clear_reserved(p, pkt.opcode);
	expect(roce_encode(hdr, &pkt) == pkt.hdr_len);
	expect(!memcmp(hdr, p, pkt.hdr_len));
	expect(roce_decode(&again, p, len) == 0 && same(&pkt, &again));
	expect(roce_decode(&again, p, pkt.hdr_len - 4) == -EMSGSIZE);
}

/* The right ICRC is accepted, and whatever is accepted has the right one. */
static void try_icrc(u8 *p, u32 len, bool v4)
{
	static const u8 addr[2][16] = { { [10] = 0xff, 0xff, 192, 0, 2, 1 }, { 0x20, 0x01, [15] = 2 } };
	struct roce_solve_cache cache = { { 0 }, { 0 } };
	struct roce_flow f;
	u16 id = 0, made = len > 4 ? roce_get16(p + len - 4) : 0;
	int err;

	roce_flow_init(&f, addr[!v4], addr[!v4], 1, ROCE_UDP_PORT, ROCE_IP_DF);
	err = roce_icrc_check(&f, roce_crc32, &cache, p, len, &id);
	expect((err == -EMSGSIZE) == (len < ROCE_BTH_LEN + ROCE_ICRC_LEN));
	if (err == -EMSGSIZE)
		return;
	expect(err || roce_icrc(&f, roce_crc32, id, p, len - 4) == roce_icrc_get(p + len - 4));

	roce_icrc_put(p + len - 4, roce_icrc(&f, roce_crc32, made, p, len - 4));
	expect(roce_icrc_check(&f, roce_crc32, &cache, p, len, &id) == 0 && (!v4 || id == made));
	p[len - 5] ^= 0x10;
	expect(roce_icrc(&f, roce_crc32, made, p, len - 4) != roce_icrc_get(p + len - 4));
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	u8 *copy;

	if (size > ROCE_PACKET_MAX)
		return -1;
	/* An exact copy, so that one read too far is seen. */
	copy = malloc(size + 1);
	expect(copy != NULL);
	for (u32 way = 0; way < 3; way++) {
		if (size)
			memcpy(copy + 1, data, size);
		if (way == 0)
			try_decode(copy + 1, (u32)size);
		else
			try_icrc(copy + 1, (u32)size, way == 1);
	}
	free(copy);
	return 0;
}
