// SPDX-License-Identifier: BSD-2-Clause
#include "block_wire.h"

#include <string.h>

#define MAGIC 0x5257626bu /* "RWbk" */

static uint8_t *put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
	return p + 2;
}

static uint8_t *put32(uint8_t *p, uint32_t v)
{
	return put16(put16(p, (uint16_t)(v >> 16)), (uint16_t)v);
}

static uint8_t *put64(uint8_t *p, uint64_t v)
{
	return put32(put32(p, (uint32_t)(v >> 32)), (uint32_t)v);
}

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static uint64_t get64(const uint8_t *p)
{
	return (uint64_t)get32(p) << 32 | get32(p + 4);
}

void block_hello_encode(uint8_t out[BLOCK_HELLO_LEN], const struct block_hello *hello)
{
	put32(out, MAGIC);
	out[4] = hello->version;
	out[5] = 0;
	put16(out + 6, hello->depth);
	put32(out + 8, hello->eager);
	memcpy(out + 12, hello->client, BLOCK_ID);
}

bool block_hello_decode(const uint8_t *in, uint32_t length, struct block_hello *hello)
{
	/* The connection manager pads with zeroes. */
	if (length < BLOCK_HELLO_LEN || get32(in) != MAGIC)
		return false;
	hello->version = in[4];
	hello->depth = get16(in + 6);
	hello->eager = get32(in + 8);
	memcpy(hello->client, in + 12, BLOCK_ID);
	return true;
}

void block_welcome_encode(uint8_t out[BLOCK_WELCOME_LEN], const struct block_welcome *welcome)
{
	put32(out, MAGIC);
	out[4] = welcome->version;
	out[5] = welcome->status;
	put16(out + 6, welcome->depth);
	put16(out + 8, welcome->exports);
	put16(out + 10, 0);
	put32(out + 12, welcome->eager);
	put32(out + 16, welcome->max_length);
}

bool block_welcome_decode(const uint8_t *in, uint32_t length, struct block_welcome *welcome)
{
	if (length < BLOCK_WELCOME_LEN || get32(in) != MAGIC)
		return false;
	welcome->version = in[4];
	welcome->status = in[5];
	welcome->depth = get16(in + 6);
	welcome->exports = get16(in + 8);
	welcome->eager = get32(in + 12);
	welcome->max_length = get32(in + 16);
	return true;
}

void block_request_encode(uint8_t out[BLOCK_REQUEST_LEN], const struct block_request *request)
{
	out[0] = request->op;
	out[1] = request->flags;
	put16(out + 2, request->export);
	put32(out + 4, request->tag);
	put64(out + 8, request->offset);
	put32(out + 16, request->length);
	put32(out + 20, request->rkey);
	put64(out + 24, request->addr);
	put64(out + 32, 0);
}

static uint8_t flags_of(uint8_t op)
{
	switch (op) {
	case BLOCK_WRITE:
		return BLOCK_FUA | BLOCK_EAGER;
	case BLOCK_TRIM:
		return BLOCK_FUA;
	case BLOCK_ZERO:
		return BLOCK_FUA | BLOCK_NO_HOLE | BLOCK_FAST;
	default:
		return 0;
	}
}

bool block_request_decode(const uint8_t *in, uint32_t length, struct block_request *request)
{
	uint32_t eager;

	if (length < BLOCK_REQUEST_LEN)
		return false;
	request->op = in[0];
	request->flags = in[1];
	request->export = get16(in + 2);
	request->tag = get32(in + 4);
	request->offset = get64(in + 8);
	request->length = get32(in + 16);
	request->rkey = get32(in + 20);
	request->addr = get64(in + 24);
	if (request->op < BLOCK_READ || request->op > BLOCK_ABOUT || request->flags & ~flags_of(request->op))
		return false;
	if (request->tag >= BLOCK_MAX_DEPTH)
		return false;
	eager = request->flags & BLOCK_EAGER ? request->length : 0;
	return length - BLOCK_REQUEST_LEN == eager;
}

void block_reply_encode(uint8_t out[BLOCK_REPLY_LEN], const struct block_reply *reply)
{
	put32(out, reply->tag);
	put32(out + 4, reply->status);
	put64(out + 8, 0);
}

bool block_reply_decode(const uint8_t *in, uint32_t length, struct block_reply *reply)
{
	if (length != BLOCK_REPLY_LEN && length != BLOCK_ABOUT_LEN)
		return false;
	reply->tag = get32(in);
	reply->status = get32(in + 4);
	return true;
}

void block_about_encode(uint8_t out[BLOCK_ABOUT_LEN], uint32_t tag, const struct block_about *about)
{
	block_reply_encode(out, &(struct block_reply){ .tag = tag });
	put64(out + 16, about->length);
	put32(out + 24, about->flags);
	put32(out + 28, about->block);
	memcpy(out + 32, about->name, BLOCK_NAME);
	memcpy(out + 64, about->backing, BLOCK_ID);
	memcpy(out + 80, about->boot, BLOCK_ID);
}

bool block_about_decode(const uint8_t *in, uint32_t length, struct block_about *about)
{
	if (length != BLOCK_ABOUT_LEN || get32(in + 4) != BLOCK_OK)
		return false;
	about->length = get64(in + 16);
	about->flags = get32(in + 24);
	about->block = get32(in + 28);
	memcpy(about->name, in + 32, BLOCK_NAME);
	memcpy(about->backing, in + 64, BLOCK_ID);
	memcpy(about->boot, in + 80, BLOCK_ID);
	return about->length <= INT64_MAX && !about->name[BLOCK_NAME - 1];
}
