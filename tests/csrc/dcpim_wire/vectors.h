/* SPDX-License-Identifier: BSD-2-Clause */
/* Reads data/vectors.txt, which describes its own format. */
#ifndef DCPIM_WIRE_VECTORS_H
#define DCPIM_WIRE_VECTORS_H

#include "dcpim/core/dcpim_wire.h"

#define VECTOR_BYTES 640
#define VECTOR_PAYLOAD 64

struct vector {
	char name[96];
	bool forged;
	struct dcpim_pkt pkt; /* of a valid packet; len and hdr_len are left zero */
	u32 payload_len;
	bool crc;
	int error; /* of a forged one */
	u8 bytes[VECTOR_BYTES];
	u32 len;
};

/**
 * vectors_read() - the vectors in the file's order, allocated once for the process.
 * Ends the process with a message when the file is missing or wrong.
 */
const struct vector *vectors_read(u32 *count);

/** pkt_set() - fill in a field by its name in the document. Return: false if the type has none of that name. */
bool pkt_set(struct dcpim_pkt *p, const char *name, u64 value);

/**
 * pkt_difference() - name of the first field in which two packets of the same
 * type differ, or NULL. Payload and lengths are not compared.
 */
const char *pkt_difference(const struct dcpim_pkt *a, const struct dcpim_pkt *b);

#endif
