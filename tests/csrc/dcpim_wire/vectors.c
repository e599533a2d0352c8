// SPDX-License-Identifier: BSD-2-Clause
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "vectors.h"

#define FILE_NAME "tests/csrc/dcpim_wire/data/vectors.txt"

enum shape { ANY, DATA, DATA_MSG, TOKEN, TOKEN_MSG, SYN, MATCH, FIN, DEMAND, NOTE_MSG, FIN_MSG, BARE };

struct field {
	enum shape shape;
	const char *name;
	size_t at, size;
};

#define FIELD(shape, name, member) \
	{ shape, name, offsetof(struct dcpim_pkt, member), sizeof(((struct dcpim_pkt *)0)->member) }

static const struct field fields[] = {
	FIELD(ANY, "sport", sport),
	FIELD(ANY, "dport", dport),
	FIELD(ANY, "tag", tag),
	FIELD(ANY, "flags", flags),
	FIELD(DATA, "offset", u.data.offset),
	FIELD(DATA, "ahead", u.data.ahead),
	FIELD(DATA, "ack", u.data.ack),
	FIELD(DATA_MSG, "offset", u.data_msg.offset),
	FIELD(DATA_MSG, "msg_id", u.data_msg.msg_id),
	FIELD(DATA_MSG, "size", u.data_msg.size),
	FIELD(DATA_MSG, "ack", u.data_msg.ack),
	FIELD(TOKEN, "rcv_nxt", u.token.rcv_nxt),
	FIELD(TOKEN, "token_nxt", u.token.token_nxt),
	FIELD(TOKEN, "wnd_edge", u.token.wnd_edge),
	FIELD(TOKEN, "rtx_end", u.token.rtx_end),
	FIELD(TOKEN_MSG, "msg_id", u.token_msg.msg_id),
	FIELD(TOKEN_MSG, "rcv_nxt", u.token_msg.rcv_nxt),
	FIELD(TOKEN_MSG, "token_nxt", u.token_msg.token_nxt),
	FIELD(TOKEN_MSG, "rtx_end", u.token_msg.rtx_end),
	FIELD(SYN, "flow_tag", u.syn.flow_tag),
	FIELD(SYN, "host_tag", u.syn.host_tag),
	FIELD(SYN, "host_port", u.syn.host_port),
	FIELD(SYN, "max_packet", u.syn.max_packet),
	FIELD(SYN, "wnd", u.syn.wnd),
	FIELD(SYN, "unsched", u.syn.unsched),
	FIELD(SYN, "max_msg", u.syn.max_msg),
	FIELD(MATCH, "epoch", u.match.epoch),
	FIELD(MATCH, "round", u.match.round),
	FIELD(MATCH, "channels", u.match.channels),
	FIELD(MATCH, "remaining", u.match.remaining),
	FIELD(MATCH, "start_in", u.match.start_in),
	FIELD(MATCH, "phase", u.match.phase),
	FIELD(MATCH, "epoch_len", u.match.epoch_len),
	FIELD(FIN, "final_offset", u.fin.final_offset),
	FIELD(DEMAND, "end", u.demand.end),
	FIELD(DEMAND, "sent", u.demand.sent),
	FIELD(NOTE_MSG, "msg_id", u.note_msg.msg_id),
	FIELD(NOTE_MSG, "size", u.note_msg.size),
	FIELD(NOTE_MSG, "sent", u.note_msg.sent),
	FIELD(FIN_MSG, "cum", u.fin_msg.cum),
	FIELD(FIN_MSG, "credit", u.fin_msg.credit),
};

#define NFIELDS (sizeof(fields) / sizeof(fields[0]))

static enum shape shape_of(u8 type)
{
	switch (type) {
	case DCPIM_DATA: return DATA;
	case DCPIM_DATA_MSG: return DATA_MSG;
	case DCPIM_TOKEN:
	case DCPIM_ACK: return TOKEN;
	case DCPIM_TOKEN_MSG: return TOKEN_MSG;
	case DCPIM_NOTIFICATION_LONG:
	case DCPIM_NOTIFICATION_SHORT:
	case DCPIM_SYN_ACK: return SYN;
	case DCPIM_RTS:
	case DCPIM_GRANT:
	case DCPIM_ACCEPT:
	case DCPIM_REVOKE: return MATCH;
	case DCPIM_FIN: return FIN;
	case DCPIM_DEMAND: return DEMAND;
	case DCPIM_NOTIFICATION_MSG: return NOTE_MSG;
	case DCPIM_FIN_MSG: return FIN_MSG;
	}
	return BARE;
}

static u64 get(const struct dcpim_pkt *p, const struct field *f)
{
	const void *at = (const char *)p + f->at;

	switch (f->size) {
	case 1: return *(const u8 *)at;
	case 2: return *(const u16 *)at;
	case 4: return *(const u32 *)at;
	}
	return *(const u64 *)at;
}

static void set(struct dcpim_pkt *p, const struct field *f, u64 value)
{
	void *at = (char *)p + f->at;

	switch (f->size) {
	case 1: *(u8 *)at = (u8)value; break;
	case 2: *(u16 *)at = (u16)value; break;
	case 4: *(u32 *)at = (u32)value; break;
	case 8: *(u64 *)at = value; break;
	}
}

bool pkt_set(struct dcpim_pkt *p, const char *name, u64 value)
{
	for (u32 i = 0; i < NFIELDS; i++) {
		if ((fields[i].shape == ANY || fields[i].shape == shape_of(p->type)) &&
		    !strcmp(fields[i].name, name)) {
			set(p, &fields[i], value);
			return get(p, &fields[i]) == value;
		}
	}
	return false;
}

const char *pkt_difference(const struct dcpim_pkt *a, const struct dcpim_pkt *b)
{
	if (a->type != b->type)
		return "type";
	for (u32 i = 0; i < NFIELDS; i++)
		if ((fields[i].shape == ANY || fields[i].shape == shape_of(a->type)) &&
		    get(a, &fields[i]) != get(b, &fields[i]))
			return fields[i].name;
	if (a->nblocks != b->nblocks)
		return "nblocks";
	for (u32 i = 0; i < a->nblocks; i++)
		if (a->blocks[i].start != b->blocks[i].start || a->blocks[i].end != b->blocks[i].end)
			return "blocks";
	return NULL;
}

static _Noreturn void fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fprintf(stderr, FILE_NAME ": ");
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	exit(1);
}

static u32 unhex(const char *text, u8 *out, u32 room)
{
	u32 n = 0;
	unsigned int byte;

	for (; text[0] && text[1]; text += 2, n++) {
		if (n == room || sscanf(text, "%2x", &byte) != 1)
			fail("bad or too much hex: %s", text);
		out[n] = (u8)byte;
	}
	return n;
}

static void take_type(struct vector *v, const char *name)
{
	for (u32 type = 0; type < 256; type++)
		if (!strcmp(dcpim_type_name((u8)type), name))
			v->pkt.type = (u8)type;
	if (!v->pkt.type)
		fail("no type is called %s", name);
}

static void take_line(struct vector *v, const char *key, const char *a, const char *b)
{
	u8 payload[VECTOR_PAYLOAD];

	if (!strcmp(key, "hex")) {
		v->len += unhex(a, v->bytes + v->len, VECTOR_BYTES - v->len);
	} else if (v->forged) {
		if (!strcmp(key, "error"))
			v->error = !strcmp(a, "EPROTONOSUPPORT") ? -EPROTONOSUPPORT : 0;
	} else if (!strcmp(key, "type")) {
		take_type(v, a);
	} else if (!strcmp(key, "crc")) {
		v->crc = true;
		v->pkt.flags |= DCPIM_F_CRC;
	} else if (!strcmp(key, "payload")) {
		v->payload_len = unhex(a, payload, sizeof(payload));
	} else if (!strcmp(key, "block")) {
		v->pkt.blocks[v->pkt.nblocks].start = (u32)strtoul(a, NULL, 0);
		v->pkt.blocks[v->pkt.nblocks++].end = (u32)strtoul(b, NULL, 0);
	} else if (!strcmp(key, "blocks")) {
		v->pkt.nblocks = (u8)strtoul(a, NULL, 0);
		for (u32 i = 0; i < v->pkt.nblocks; i++)
			v->pkt.blocks[i] = (struct dcpim_block){ 1000 * i + 1, 1000 * i + 500 };
	} else if (!pkt_set(&v->pkt, key, strtoull(a, NULL, 0))) {
		fail("%s: no field %s, or its value is too large", v->name, key);
	}
}

const struct vector *vectors_read(u32 *count)
{
	static struct vector *list;
	static u32 n;
	char line[512];
	FILE *file;

	*count = n;
	if (list)
		return list;
	file = fopen(FILE_NAME, "r");
	if (!file)
		fail("cannot be opened; run this from the top of the checkout");
	while (fgets(line, sizeof(line), file)) {
		char key[32] = "", a[200] = "", b[32] = "";

		if (line[0] == '#' || sscanf(line, "%31s %199s %31s", key, a, b) < 1)
			continue;
		if (line[0] == ' ') {
			take_line(&list[n - 1], key, a, b);
			continue;
		}
		list = realloc(list, (n + 1) * sizeof(*list));
		if (!list)
			fail("out of memory");
		memset(&list[n], 0, sizeof(*list));
		snprintf(list[n].name, sizeof(list[n].name), "%s", a);
		list[n].forged = !strcmp(key, "forged");
		list[n++].error = -EBADMSG;
	}
	fclose(file);
	*count = n;
	return list;
}
