// SPDX-License-Identifier: BSD-2-Clause
#include "wire.h"

#include <endian.h>
#include <string.h>

#include "rackwire_krping.h"

static const uint8_t wish_magic[4] = { 'R', 'W', 'K', 'Q' };
static const uint8_t grant_magic[4] = { 'R', 'W', 'K', 'P' };

static const struct {
	uint32_t flag, wire;
} flag_table[] = {
	{ RACKWIRE_KRPING_SERVER_INV, WIRE_SERVER_INV },
	{ RACKWIRE_KRPING_READ_INV, WIRE_READ_INV },
	{ RACKWIRE_KRPING_LOCAL_DMA_LKEY, WIRE_LOCAL_DMA_LKEY },
	{ RACKWIRE_KRPING_REG, WIRE_REG },
	{ RACKWIRE_KRPING_DUPLEX, WIRE_DUPLEX },
	{ RACKWIRE_KRPING_POLL, WIRE_POLL },
};

uint32_t wire_flags(uint32_t flags)
{
	uint32_t wire = 0, i;

	for (i = 0; i < sizeof(flag_table) / sizeof(flag_table[0]); i++)
		if (flags & flag_table[i].flag)
			wire |= flag_table[i].wire;
	return wire;
}

uint32_t wire_flags_back(uint32_t wire)
{
	uint32_t flags = 0, i;

	for (i = 0; i < sizeof(flag_table) / sizeof(flag_table[0]); i++)
		if (wire & flag_table[i].wire)
			flags |= flag_table[i].flag;
	return flags;
}

static void put32(uint8_t *out, uint32_t value)
{
	value = htobe32(value);
	memcpy(out, &value, sizeof(value));
}

static void put64(uint8_t *out, uint64_t value)
{
	value = htobe64(value);
	memcpy(out, &value, sizeof(value));
}

static uint32_t get32(const uint8_t *in)
{
	uint32_t value;

	memcpy(&value, in, sizeof(value));
	return be32toh(value);
}

static uint64_t get64(const uint8_t *in)
{
	uint64_t value;

	memcpy(&value, in, sizeof(value));
	return be64toh(value);
}

void wire_adv_encode(uint8_t out[WIRE_ADV_LEN], const struct wire_adv *adv)
{
	put64(out, adv->addr);
	put32(out + 8, adv->rkey);
	put32(out + 12, adv->size);
}

void wire_adv_decode(const uint8_t in[WIRE_ADV_LEN], struct wire_adv *adv)
{
	adv->addr = get64(in);
	adv->rkey = get32(in + 8);
	adv->size = get32(in + 12);
}

void wire_report_encode(uint8_t out[WIRE_ADV_LEN], const struct wire_report *report)
{
	put64(out, report->bytes);
	put64(out + 8, report->operations);
}

void wire_report_decode(const uint8_t in[WIRE_ADV_LEN], struct wire_report *report)
{
	report->bytes = get64(in);
	report->operations = get64(in + 8);
}

void wire_wish_encode(uint8_t out[WIRE_WISH_LEN], const struct wire_wish *wish)
{
	memset(out, 0, WIRE_WISH_LEN);
	memcpy(out, wish_magic, sizeof(wish_magic));
	out[4] = wish->version;
	out[5] = wish->kind;
	out[6] = wish->op;
	put32(out + 8, wish->flags);
	put32(out + 12, wish->size);
	put32(out + 16, wish->txdepth);
}

bool wire_wish_decode(const uint8_t *in, uint32_t length, struct wire_wish *wish)
{
	if (length < WIRE_WISH_LEN || memcmp(in, wish_magic, sizeof(wish_magic)))
		return false;
	wish->version = in[4];
	wish->kind = in[5];
	wish->op = in[6];
	wish->flags = get32(in + 8);
	wish->size = get32(in + 12);
	wish->txdepth = get32(in + 16);
	return true;
}

bool wire_wish_valid(const struct wire_wish *wish)
{
	bool atomic = wish->op == RACKWIRE_KRPING_OP_FADD || wish->op == RACKWIRE_KRPING_OP_CSWAP;
	bool ping = wish->kind == RACKWIRE_KRPING_PING, bw = wish->kind == RACKWIRE_KRPING_BW;
	uint32_t ping_flags = WIRE_EXPLICIT | WIRE_SERVER_INV | WIRE_READ_INV | WIRE_LOCAL_DMA_LKEY | WIRE_REG;

	if (wish->version != WIRE_VERSION || wish->kind < RACKWIRE_KRPING_PING || wish->kind > RACKWIRE_KRPING_BW ||
	    wish->op > RACKWIRE_KRPING_OP_CSWAP || (wish->flags & ~(uint32_t)WIRE_FLAGS))
		return false;
	if (wish->size < RACKWIRE_KRPING_MIN_SIZE || wish->size > RACKWIRE_KRPING_MAX_SIZE)
		return false;
	if (!wish->txdepth || wish->txdepth > RACKWIRE_KRPING_MAX_TXDEPTH)
		return false;
	if ((wish->flags & ping_flags && !ping) || (wish->flags & WIRE_DUPLEX && !bw))
		return false;
	if (wish->kind == RACKWIRE_KRPING_ALAT && !atomic)
		return false;
	if (!bw && wish->kind != RACKWIRE_KRPING_ALAT && wish->op)
		return false;
	return !atomic || wish->size == 8;
}

void wire_grant_encode(uint8_t out[WIRE_GRANT_LEN], const struct wire_grant *grant)
{
	memset(out, 0, WIRE_GRANT_LEN);
	memcpy(out, grant_magic, sizeof(grant_magic));
	out[4] = grant->version;
	out[5] = grant->status;
	put32(out + 8, grant->flags);
	put32(out + 12, grant->size);
	put32(out + 16, grant->txdepth);
}

bool wire_grant_decode(const uint8_t *in, uint32_t length, struct wire_grant *grant)
{
	if (length < WIRE_GRANT_LEN || memcmp(in, grant_magic, sizeof(grant_magic)))
		return false;
	grant->version = in[4];
	grant->status = in[5];
	grant->flags = get32(in + 8);
	grant->size = get32(in + 12);
	grant->txdepth = get32(in + 16);
	return true;
}
