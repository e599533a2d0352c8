// SPDX-License-Identifier: BSD-2-Clause
/* The handshake of NBD: fixed newstyle [NBD "Newstyle negotiation"]. */
#include <string.h>

#include "block_nbd.h"

#define NBD_MAGIC 0x4e42444d41474943ull	  /* "NBDMAGIC" */
#define OPTION_MAGIC 0x49484156454f5054ull /* "IHAVEOPT" */
#define REPLY_MAGIC 0x3e889045565a9ull
#define FIXED_NEWSTYLE 0x1 /* of both sides */
#define NO_ZEROES 0x2
#define MAX_NAME 4096
#define TX_ROOM 2048 /* more than the answer to any option takes */
#define OPTION_LEN 16

enum { EXPORT_NAME = 1, ABORT = 2, LIST = 3, INFO = 6, GO = 7, STRUCTURED_REPLY = 8, LIST_META = 9, SET_META = 10 };
enum { REP_ACK = 1, REP_SERVER = 2, REP_INFO = 3 };
#define REP_ERROR 0x80000000u
enum {
	ERR_UNSUP = REP_ERROR + 1, ERR_POLICY = REP_ERROR + 2, ERR_INVALID = REP_ERROR + 3,
	ERR_UNKNOWN = REP_ERROR + 6, ERR_TOO_BIG = REP_ERROR + 9,
};
enum { INFO_EXPORT = 0, INFO_NAME = 1, INFO_BLOCK_SIZE = 3 };
enum {
	HAS_FLAGS = 0x1, READ_ONLY = 0x2, SEND_FLUSH = 0x4, SEND_FUA = 0x8, SEND_TRIM = 0x20, SEND_WRITE_ZEROES = 0x40,
	SEND_DF = 0x80, CAN_MULTI_CONN = 0x100, SEND_FAST_ZERO = 0x800,
};

uint64_t nbd_get(const uint8_t *p, uint32_t bytes)
{
	uint64_t v = 0;

	while (bytes--)
		v = v << 8 | *p++;
	return v;
}

void nbd_put(uint8_t *p, uint64_t value, uint32_t bytes)
{
	while (bytes--) {
		p[bytes] = (uint8_t)value;
		value >>= 8;
	}
}

static void say(struct nbd_client *c, uint64_t value, uint32_t bytes)
{
	nbd_put(c->tx + c->tx_have, value, bytes);
	c->tx_have += bytes;
}

static void say_bytes(struct nbd_client *c, const void *data, uint32_t length)
{
	memcpy(c->tx + c->tx_have, data, length);
	c->tx_have += length;
}

static void reply(struct nbd_client *c, uint32_t type, uint32_t length)
{
	say(c, REPLY_MAGIC, 8);
	say(c, c->option, 4);
	say(c, type, 4);
	say(c, length, 4);
}

static void refuse(struct nbd_client *c, uint32_t error, const char *why)
{
	uint32_t length = (uint32_t)strlen(why);

	nbd_count(c->nbd, RACKWIRE_KRPING_BLOCK_REFUSED, error != ERR_UNSUP);
	reply(c, error, length);
	say_bytes(c, why, length);
}

/* ---- exports ---- */

/* Return: index, or -1. The empty name is the export of that name, or the only one. */
static int find(const struct rackwire_krping_nbd *n, const uint8_t *name, uint32_t length)
{
	uint32_t i;

	for (i = 0; i < n->nexports && length < BLOCK_NAME; i++)
		if (strlen(n->exports[i].about.name) == length && !memcmp(n->exports[i].about.name, name, length))
			return (int)i;
	return !length && n->nexports == 1 ? 0 : -1;
}

static uint16_t transmission_flags(const struct nbd_client *c, const struct nbd_export *e)
{
	bool read_only = e->about.flags & BLOCK_ABOUT_READ_ONLY || c->nbd->config.flags & RACKWIRE_KRPING_NBD_READ_ONLY;

	return (uint16_t)(HAS_FLAGS | SEND_FLUSH | SEND_FUA | CAN_MULTI_CONN | (c->structured ? SEND_DF : 0) |
			  (read_only ? READ_ONLY : SEND_TRIM | SEND_WRITE_ZEROES | SEND_FAST_ZERO));
}

static void transmission(struct nbd_client *c, int export)
{
	c->export = (uint16_t)export;
	c->phase = NBD_REQUEST;
	c->deadline = UINT64_MAX;
}

static void end(struct nbd_client *c)
{
	c->ending = true;
	c->rx_have = 0;
}

/* ---- options ---- */

static void export_name(struct nbd_client *c, const uint8_t *data, uint32_t length)
{
	int at = find(c->nbd, data, length);
	const struct nbd_export *e = at < 0 ? NULL : &c->nbd->exports[at];

	if (!e || e->gone) { /* this option cannot be refused in any other way */
		nbd_count(c->nbd, RACKWIRE_KRPING_BLOCK_REFUSED, 1);
		end(c);
		return;
	}
	say(c, e->about.length, 8);
	say(c, transmission_flags(c, e), 2);
	if (!c->no_zeroes) {
		memset(c->tx + c->tx_have, 0, 124);
		c->tx_have += 124;
	}
	transmission(c, at);
}

static void list(struct nbd_client *c, uint32_t length)
{
	uint32_t i, n;

	if (length) {
		refuse(c, ERR_INVALID, "LIST has no data");
		return;
	}
	for (i = 0; i < c->nbd->nexports; i++) {
		const char *name = c->nbd->exports[i].about.name;

		n = (uint32_t)strlen(name);
		reply(c, REP_SERVER, 4 + n);
		say(c, n, 4);
		say_bytes(c, name, n);
	}
	reply(c, REP_ACK, 0);
}

/* A name with its length in front. Return: its length, or UINT32_MAX. */
static uint32_t name_at(const uint8_t *data, uint32_t length)
{
	uint64_t n;

	if (length < 4)
		return UINT32_MAX;
	n = nbd_get(data, 4);
	return n <= length - 4 && n <= MAX_NAME ? (uint32_t)n : UINT32_MAX;
}

static const struct nbd_export *named(struct nbd_client *c, const uint8_t *name, uint32_t length, int *at)
{
	*at = find(c->nbd, name, length);
	if (*at < 0) {
		refuse(c, ERR_UNKNOWN, "there is no export of that name");
		return NULL;
	}
	if (c->nbd->exports[*at].gone) {
		refuse(c, ERR_POLICY, "the exporter came back without what had been written; start block serve anew");
		return NULL;
	}
	return &c->nbd->exports[*at];
}

static void info(struct nbd_client *c, const uint8_t *data, uint32_t length)
{
	uint32_t name = name_at(data, length), wanted, i;
	bool blocks = false, names = false;
	const struct nbd_export *e;
	int at;

	if (name == UINT32_MAX || length - 4 - name < 2) {
		refuse(c, ERR_INVALID, "the option is cut short");
		return;
	}
	wanted = (uint32_t)nbd_get(data + 4 + name, 2);
	if (length - 6 - name != 2 * wanted) {
		refuse(c, ERR_INVALID, "the option's length is wrong");
		return;
	}
	for (i = 0; i < wanted; i++) {
		uint64_t type = nbd_get(data + 6 + name + 2 * i, 2);

		blocks |= type == INFO_BLOCK_SIZE;
		names |= type == INFO_NAME;
	}
	e = named(c, data + 4, name, &at);
	if (!e)
		return;
	reply(c, REP_INFO, 12);
	say(c, INFO_EXPORT, 2);
	say(c, e->about.length, 8);
	say(c, transmission_flags(c, e), 2);
	if (names) {
		uint32_t n = (uint32_t)strlen(e->about.name);

		reply(c, REP_INFO, 2 + n);
		say(c, INFO_NAME, 2);
		say_bytes(c, e->about.name, n);
	}
	if (blocks) {
		reply(c, REP_INFO, 14);
		say(c, INFO_BLOCK_SIZE, 2);
		say(c, 1, 4);
		say(c, e->about.block, 4);
		say(c, NBD_MAX_REQUEST, 4);
	}
	reply(c, REP_ACK, 0);
	if (c->option == GO)
		transmission(c, at);
}

/* There are no metadata contexts here: the list of those wanted and known is empty. */
static void meta(struct nbd_client *c, const uint8_t *data, uint32_t length)
{
	uint32_t name = name_at(data, length), at, queries, n;
	int export;

	if (!c->structured) {
		refuse(c, ERR_INVALID, "structured replies come first");
		return;
	}
	if (name == UINT32_MAX || length - 4 - name < 4) {
		refuse(c, ERR_INVALID, "the option is cut short");
		return;
	}
	queries = (uint32_t)nbd_get(data + 4 + name, 4);
	for (at = 8 + name; queries && at < length; queries--) {
		n = name_at(data + at, length - at);
		if (n == UINT32_MAX)
			break;
		at += 4 + n;
	}
	if (queries || at != length) {
		refuse(c, ERR_INVALID, "the option's length is wrong");
		return;
	}
	if (named(c, data + 4, name, &export))
		reply(c, REP_ACK, 0);
}

static void option(struct nbd_client *c)
{
	const uint8_t *data = c->rx + c->rx_at;
	uint32_t length = c->option_length;

	c->phase = NBD_OPTION;
	switch (c->option) {
	case EXPORT_NAME:
		export_name(c, data, length);
		break;
	case ABORT:
		reply(c, REP_ACK, 0);
		end(c);
		return;
	case LIST:
		list(c, length);
		break;
	case INFO:
	case GO:
		info(c, data, length);
		break;
	case STRUCTURED_REPLY:
		if (length) {
			refuse(c, ERR_INVALID, "STRUCTURED_REPLY has no data");
			break;
		}
		c->structured = true;
		reply(c, REP_ACK, 0);
		break;
	case LIST_META:
	case SET_META:
		meta(c, data, length);
		break;
	default:
		refuse(c, ERR_UNSUP, "");
	}
	if (!c->ending)
		nbd_client_take(c, length);
}

static void header(struct nbd_client *c)
{
	const uint8_t *p = c->rx + c->rx_at;
	uint64_t magic = nbd_get(p, 8);

	c->option = (uint32_t)nbd_get(p + 8, 4);
	c->option_length = (uint32_t)nbd_get(p + 12, 4);
	nbd_client_take(c, OPTION_LEN);
	if (magic != OPTION_MAGIC || ++c->options > NBD_OPTIONS || (!c->fixed && c->option != EXPORT_NAME) ||
	    (c->option == EXPORT_NAME && c->option_length > MAX_NAME)) {
		nbd_count(c->nbd, RACKWIRE_KRPING_BLOCK_REFUSED, 1);
		end(c);
		return;
	}
	if (c->option_length <= NBD_RX) {
		c->phase = NBD_OPTION_DATA;
		return;
	}
	refuse(c, ERR_TOO_BIG, "");
	c->skip = c->option_length;
	c->phase = NBD_SKIP;
	c->after_skip = NBD_OPTION;
}

void nbd_hello_start(struct nbd_client *c)
{
	say(c, NBD_MAGIC, 8);
	say(c, OPTION_MAGIC, 8);
	say(c, FIXED_NEWSTYLE | NO_ZEROES, 2);
	c->phase = NBD_FLAGS;
}

bool nbd_hello(struct nbd_client *c)
{
	uint64_t flags;

	if (NBD_TX - c->tx_have < TX_ROOM)
		return false;
	switch (c->phase) {
	case NBD_FLAGS:
		if (c->rx_have < 4)
			return false;
		flags = nbd_get(c->rx + c->rx_at, 4);
		nbd_client_take(c, 4);
		c->fixed = flags & FIXED_NEWSTYLE;
		c->no_zeroes = flags & NO_ZEROES;
		c->phase = NBD_OPTION;
		if (flags & ~(uint64_t)(FIXED_NEWSTYLE | NO_ZEROES)) {
			nbd_count(c->nbd, RACKWIRE_KRPING_BLOCK_REFUSED, 1);
			end(c);
		}
		return true;
	case NBD_OPTION:
		if (c->rx_have < OPTION_LEN)
			return false;
		header(c);
		return true;
	default:
		if (c->rx_have < c->option_length)
			return false;
		option(c);
		return true;
	}
}
