/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * wire.h: what krping's ends send each other: the 16-byte messages that rping and
 * the original krping know, and the private data by which two of ours tell each
 * other more. docs/krping-wire.md describes both.
 */
#ifndef RACKWIRE_KRPING_WIRE_H
#define RACKWIRE_KRPING_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#define WIRE_ADV_LEN 16
#define WIRE_WISH_LEN 24
#define WIRE_GRANT_LEN 20

/* Immediate data that sets our messages apart from a benchmark's own SENDs. */
#define WIRE_IMM_GO 0x676f0000u     /* DUPLEX: the client starts, the server may; 16 bytes of no meaning */
#define WIRE_IMM_BYE 0x62796500u    /* a client has done all it wanted; likewise */
#define WIRE_IMM_REPORT 0x72657000u /* the server's answer: struct wire_report */

/* Memory that the peer may READ or WRITE; big-endian in this order on the wire. */
struct wire_adv {
	uint64_t addr;
	uint32_t rkey;
	uint32_t size;
};

struct wire_report {
	uint64_t bytes;	     /* that the server moved of its own accord */
	uint64_t operations; /* likewise */
};

/* wire_wish.flags, wire_grant.flags */
#define WIRE_EXPLICIT 0x1 /* the server WRITEs as many bytes as the second advertisement says */
#define WIRE_SERVER_INV 0x2
#define WIRE_READ_INV 0x4
#define WIRE_LOCAL_DMA_LKEY 0x8
#define WIRE_REG 0x10
#define WIRE_DUPLEX 0x20
#define WIRE_POLL 0x40
#define WIRE_FLAGS 0x7f

enum wire_status {
	WIRE_GRANTED = 0,
	WIRE_NONSENSE = 1,    /* a value out of range, or another version */
	WIRE_UNSUPPORTED = 2, /* flags: those that the server's engine cannot do */
	WIRE_TOO_LONG = 3,    /* size: the most it serves */
	WIRE_NO_MEMORY = 4,   /* its budget for all clients is used up */
	WIRE_FULL = 5,	      /* too many clients */
};

/* A client's private data in the connection request. */
struct wire_wish {
	uint8_t version; /* WIRE_VERSION */
	uint8_t kind, op; /* enum rackwire_krping_kind, enum rackwire_krping_op */
	uint32_t flags;
	uint32_t size;
	uint32_t txdepth;
};
#define WIRE_VERSION 1

/* The server's, in its reply or its refusal. */
struct wire_grant {
	uint8_t version;
	uint8_t status; /* enum wire_status */
	uint32_t flags;
	uint32_t size;
	uint32_t txdepth; /* SENDs it takes at a time */
};

/* enum flags of rackwire_krping.h (RACKWIRE_KRPING_SERVER_INV ...) as WIRE_*, and back. */
uint32_t wire_flags(uint32_t flags);
uint32_t wire_flags_back(uint32_t wire);

void wire_adv_encode(uint8_t out[WIRE_ADV_LEN], const struct wire_adv *adv);
void wire_adv_decode(const uint8_t in[WIRE_ADV_LEN], struct wire_adv *adv);
void wire_report_encode(uint8_t out[WIRE_ADV_LEN], const struct wire_report *report);
void wire_report_decode(const uint8_t in[WIRE_ADV_LEN], struct wire_report *report);
void wire_wish_encode(uint8_t out[WIRE_WISH_LEN], const struct wire_wish *wish);
/* Return: false where the private data is not ours, so that the peer is an rping or a krping. */
bool wire_wish_decode(const uint8_t *in, uint32_t length, struct wire_wish *wish);
/* Does every field make sense? */
bool wire_wish_valid(const struct wire_wish *wish);
void wire_grant_encode(uint8_t out[WIRE_GRANT_LEN], const struct wire_grant *grant);
bool wire_grant_decode(const uint8_t *in, uint32_t length, struct wire_grant *grant);

#endif
