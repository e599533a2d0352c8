/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * block_wire.h: what the NBD server and the exporter of a block device send each
 * other. docs/krping-wire.md describes it. Decoding checks every field that does not
 * depend on the export.
 */
#ifndef RACKWIRE_KRPING_BLOCK_WIRE_H
#define RACKWIRE_KRPING_BLOCK_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#define BLOCK_VERSION 1
#define BLOCK_HELLO_LEN 28
#define BLOCK_WELCOME_LEN 20
#define BLOCK_REQUEST_LEN 40
#define BLOCK_REPLY_LEN 16
#define BLOCK_ABOUT_LEN 96 /* a reply with what is known of an export */
#define BLOCK_NAME 32
#define BLOCK_ID 16

#define BLOCK_MAX_DEPTH 1024
#define BLOCK_MIN_LENGTH 65536u	 /* an exporter takes READ and WRITE of that much, or more */
#define BLOCK_MAX_ZERO (1u << 26) /* and TRIM and ZERO of that much */
#define BLOCK_MAX_EAGER 8192u

/* Private data of a connection request. */
struct block_hello {
	uint8_t version;
	uint16_t depth;	 /* requests the server would like to have under way */
	uint32_t eager;	 /* bytes of a write it would like to send along with the request */
	uint8_t client[BLOCK_ID]; /* random, the same for all connections of one NBD server */
};

enum block_welcome_status {
	BLOCK_WELCOME = 0,
	BLOCK_BAD_HELLO = 1,
	BLOCK_FULL = 2,
};

/* Private data of the reply or the refusal. */
struct block_welcome {
	uint8_t version, status; /* enum block_welcome_status */
	uint16_t depth, exports;
	uint32_t eager;	     /* <= what was asked for */
	uint32_t max_length; /* of a READ or WRITE */
};

enum block_op {
	BLOCK_READ = 1,
	BLOCK_WRITE = 2,
	BLOCK_FLUSH = 3,
	BLOCK_TRIM = 4,
	BLOCK_ZERO = 5,
	BLOCK_ABOUT = 6,
};

#define BLOCK_FUA 0x1	  /* WRITE, TRIM, ZERO: on stable storage before the reply */
#define BLOCK_EAGER 0x2	  /* WRITE: the data follows the request, addr and rkey mean nothing */
#define BLOCK_NO_HOLE 0x4 /* ZERO: keep the space */
#define BLOCK_FAST 0x8	  /* ZERO: only if it is faster than writing zeroes, else BLOCK_ENOTSUP */

struct block_request {
	uint8_t op, flags;
	uint16_t export;
	uint32_t tag; /* the server's; comes back with the reply. Below the depth */
	uint64_t offset;
	uint32_t length;
	uint32_t rkey;
	uint64_t addr;
};

/* The numbers are those of NBD's errors. */
enum block_status {
	BLOCK_OK = 0,
	BLOCK_EPERM = 1,
	BLOCK_EIO = 5,
	BLOCK_ENOMEM = 12,
	BLOCK_EINVAL = 22,
	BLOCK_ENOSPC = 28,
	BLOCK_EOVERFLOW = 75,
	BLOCK_ENOTSUP = 95,
};

struct block_reply {
	uint32_t tag, status;
};

#define BLOCK_ABOUT_READ_ONLY 0x1
#define BLOCK_ABOUT_PERSISTENT 0x2

struct block_about {
	uint64_t length;
	uint32_t flags;
	uint32_t block; /* best size of requests */
	char name[BLOCK_NAME];
	uint8_t backing[BLOCK_ID]; /* what holds the data; another one is other data */
	uint8_t boot[BLOCK_ID]; /* the machine's run, which unflushed data of a file does not outlive */
};

void block_hello_encode(uint8_t out[BLOCK_HELLO_LEN], const struct block_hello *hello);
/* Return: false where it is none of ours; another version is one. */
bool block_hello_decode(const uint8_t *in, uint32_t length, struct block_hello *hello);
void block_welcome_encode(uint8_t out[BLOCK_WELCOME_LEN], const struct block_welcome *welcome);
bool block_welcome_decode(const uint8_t *in, uint32_t length, struct block_welcome *welcome);

void block_request_encode(uint8_t out[BLOCK_REQUEST_LEN], const struct block_request *request);
/* @length: bytes received, eager data included. Return: false where no field can be believed. */
bool block_request_decode(const uint8_t *in, uint32_t length, struct block_request *request);
void block_reply_encode(uint8_t out[BLOCK_REPLY_LEN], const struct block_reply *reply);
bool block_reply_decode(const uint8_t *in, uint32_t length, struct block_reply *reply);
/* A whole message of BLOCK_ABOUT_LEN, the reply in front. */
void block_about_encode(uint8_t out[BLOCK_ABOUT_LEN], uint32_t tag, const struct block_about *about);
bool block_about_decode(const uint8_t *in, uint32_t length, struct block_about *about);

#endif
