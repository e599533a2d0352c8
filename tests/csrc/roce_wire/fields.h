/* SPDX-License-Identifier: BSD-2-Clause */
/* Packets and CM messages as lists of fields, named as in docs/krping-wire.md. */
#ifndef ROCE_WIRE_FIELDS_H
#define ROCE_WIRE_FIELDS_H

#include "helpers.h"
#include "roce/core/roce_mad.h"
#include "roce/core/roce_wire.h"

struct field {
	const char *name;
	u16 offset; /* in the struct */
	u8 size;    /* of the member in bytes; above 8: an array */
	u8 width;   /* bits on the wire */
	u32 op;	    /* in a packet: the ROCE_OP_ bits of which its opcode has one, 0: every packet has it */
};

struct fields {
	const struct field *list;
	u32 count;
};

/** packet_fields() - all fields of struct roce_pkt but the opcode and what decoding adds. */
struct fields packet_fields(void);

/** cm_fields() - the fields of the part of struct roce_cm.u that @type names, as offsets from the union. */
struct fields cm_fields(u16 type);

/** cma_fields() - those of struct roce_cma but the version of IP. */
struct fields cma_fields(void);

bool field_is_of(const struct field *f, u8 opcode);

/** field_get() - value of a field of at most 64 bits; @base: the struct. */
u64 field_get(const struct field *f, const void *base);
void field_set(const struct field *f, void *base, u64 value);

/** fields_fill() - some value in every field, often one at an end of its range; others stay. @opcode: of a packet. */
void fields_fill(struct random *r, struct fields fields, void *base, u8 opcode);

/** fields_difference() - name of the first field that differs, or NULL. */
const char *fields_difference(struct fields fields, const void *a, const void *b);

/** some_opcode() - one of those that roce_op() knows. */
u8 some_opcode(struct random *r);

/**
 * some_packet() - a packet with some payload, which may be empty.
 * @pkt:   its fields, for ROCE_PACKET_MAX bytes at @bytes
 * Return: bytes from BTH to pad; the pad is not zero, which is nobody's business.
 */
u32 some_packet(struct random *r, u8 opcode, struct roce_pkt *pkt, u8 *bytes);

/** some_message() - a CM message; @priv: ROCE_MAD_LEN bytes it may point into. */
void some_message(struct random *r, u16 type, struct roce_cm *cm, u8 *priv);

/** message_difference() - name of the first field that differs, private data included, or NULL. */
const char *message_difference(const struct roce_cm *a, const struct roce_cm *b);

#endif
