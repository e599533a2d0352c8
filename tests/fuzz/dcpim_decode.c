// SPDX-License-Identifier: BSD-2-Clause
/*
 * Any bytes into dcpim_decode(): it reads only what it was given, what it lets
 * through keeps the document's promises, and encoding that gives the bytes back.
 */
#include <stdlib.h>

#include "dcpim/core/dcpim_wire.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static void expect(bool holds)
{
	if (!holds)
		abort();
}

static void check_promises(const struct dcpim_pkt *p, u32 total)
{
	u32 edge = 0;

	expect(p->len == total && p->hdr_len >= DCPIM_COMMON_LEN && p->hdr_len <= total);
	expect(p->nblocks <= DCPIM_MAX_BLOCKS && p->hdr_len == dcpim_header_len(p->type, p->nblocks));
	expect(dcpim_type_name(p->type)[0] != '?');
	for (u32 i = 0; i < p->nblocks; i++) {
		expect(p->blocks[i].start >= edge && p->blocks[i].end > p->blocks[i].start);
		edge = p->blocks[i].end;
	}
}

static void check_same_bytes(const struct dcpim_pkt *p, const u8 *bytes)
{
	u8 again[DCPIM_HDR_MAX];

	expect(dcpim_encode(p, p->len - p->hdr_len, again) == p->hdr_len);
	if (p->flags & DCPIM_F_CRC) {
		dcpim_seal_start(again, p->hdr_len);
		dcpim_seal(again, p->hdr_len, dcpim_crc_of(bytes));
	}
	expect(!memcmp(again, bytes, p->hdr_len));
}

/* Decode an exact copy of the first @avail bytes, so that one read too far is seen. */
static int decode(const u8 *bytes, u32 avail, u32 total, struct dcpim_pkt *p)
{
	u8 *copy = malloc(avail + 1);
	int err;

	expect(copy != NULL);
	memcpy(copy + 1, bytes, avail);
	memset(p, 0xa5, sizeof(*p));
	err = dcpim_decode(copy + 1, avail, total, p);
	free(copy);
	expect(err == 0 || err == -EBADMSG || err == -EPROTONOSUPPORT || err == -EMSGSIZE);
	return err;
}

static void try(const u8 *bytes, u32 size)
{
	static struct dcpim_pkt p, part;
	u32 avail = size ? bytes[size - 1] % (size + 1) : 0;
	int err = decode(bytes, size, size, &p);

	expect(err != -EMSGSIZE);
	if (!err) {
		check_promises(&p, size);
		check_same_bytes(&p, bytes);
		expect(decode(bytes, p.hdr_len, size, &part) == 0);
		expect(decode(bytes, p.hdr_len - 1, size, &part) == -EMSGSIZE);
		dcpim_crc32c(dcpim_crc_header(bytes, p.hdr_len), bytes + p.hdr_len, size - p.hdr_len);
	}
	part.len = 0;
	if (!decode(bytes, avail, size, &part))
		expect(!err && part.len == p.len && part.type == p.type);
}

static u16 header_check(const u8 *hdr, u32 len)
{
	u32 sum = 0;

	for (u32 i = 0; i + 1 < len; i += 2) {
		sum += i == 16 || i == 20 || i == 22 ? 0 : dcpim_get16(hdr + i);
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return (u16)~sum;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	u8 fixed[DCPIM_MAX_PACKET];
	u32 hdr_len;

	if (size > sizeof(fixed))
		return -1;
	try(data, (u32)size);
	if (size < DCPIM_COMMON_LEN)
		return 0;

	/* The same with length and checksum right, or nothing would ever get past them. */
	memcpy(fixed, data, size);
	dcpim_put16(fixed + 18, (u16)size);
	hdr_len = dcpim_header_len(fixed[14], fixed[25]);
	if (hdr_len && hdr_len <= size)
		dcpim_put16(fixed + 16, header_check(fixed, hdr_len));
	try(fixed, (u32)size);
	return 0;
}
