// SPDX-License-Identifier: BSD-2-Clause
#include "captures.h"

#include <stdio.h>
#include <stdlib.h>

#define DIRECTORY "tests/csrc/roce_wire/data/"
#define FILE_HEADER 24
#define RECORD_HEADER 16
#define ETHERNET 14
#define IP 20
#define UDP 8

struct capture {
	const char *name;
	u32 count;
	struct captured *packets;
};

static void refuse(const char *name, u32 number, const char *why)
{
	fprintf(stderr, "%s%s: packet %u: %s\n", DIRECTORY, name, number, why);
	exit(1);
}

/* Little-endian, as both files are. */
static u32 word(const u8 *p)
{
	return p[0] | (u32)p[1] << 8 | (u32)p[2] << 16 | (u32)p[3] << 24;
}

static u8 *read_file(const char *name, u32 *len)
{
	char path[256];
	FILE *f;
	long size;
	u8 *bytes;

	snprintf(path, sizeof(path), "%s%s", DIRECTORY, name);
	f = fopen(path, "rb");
	if (!f || fseek(f, 0, SEEK_END) || (size = ftell(f)) < FILE_HEADER || fseek(f, 0, SEEK_SET))
		refuse(name, 0, "cannot be read (run from the top of the checkout)");
	bytes = malloc((size_t)size);
	if (!bytes || fread(bytes, 1, (size_t)size, f) != (size_t)size)
		refuse(name, 0, "cannot be read");
	fclose(f);
	*len = (u32)size;
	return bytes;
}

static void mapped(u8 *addr, const u8 *v4)
{
	memset(addr, 0, 16);
	addr[10] = addr[11] = 0xff;
	memcpy(addr + 12, v4, 4);
}

static void parse(const char *name, const u8 *frame, u32 len, struct captured *c)
{
	const u8 *ip = frame + ETHERNET;
	const u8 *udp = ip + IP;

	if (len < ETHERNET + IP + UDP || roce_get16(frame + 12) != 0x0800 || ip[0] != 0x45 || ip[9] != 17)
		refuse(name, c->number, "not UDP in IPv4 on Ethernet");
	if (roce_get16(ip + 2) != len - ETHERNET || roce_get16(udp + 4) != len - ETHERNET - IP)
		refuse(name, c->number, "not whole");
	c->ip_id = roce_get16(ip + 4);
	c->ip_frag = roce_get16(ip + 6);
	mapped(c->saddr, ip + 12);
	mapped(c->daddr, ip + 16);
	c->sport = roce_get16(udp);
	c->dport = roce_get16(udp + 2);
	if (c->dport != ROCE_UDP_PORT)
		refuse(name, c->number, "not RoCEv2");
	c->p = udp + UDP;
	c->len = len - ETHERNET - IP - UDP;
}

static void load(struct capture *c)
{
	u32 size, at;
	u8 *bytes = read_file(c->name, &size);
	u32 room = size / RECORD_HEADER;

	if (word(bytes) != 0xa1b2c3d4 || word(bytes + 20) != 1)
		refuse(c->name, 0, "not a capture of Ethernet frames");
	c->packets = calloc(room, sizeof(*c->packets));
	if (!c->packets)
		abort();
	for (at = FILE_HEADER; at + RECORD_HEADER <= size; c->count++) {
		struct captured *packet = &c->packets[c->count];
		u32 len = word(bytes + at + 8);

		packet->number = c->count + 1;
		at += RECORD_HEADER;
		if (len > size - at)
			refuse(c->name, packet->number, "not whole");
		parse(c->name, bytes + at, len, packet);
		at += len;
	}
}

const struct captured *captures_read(const char *name, u32 *count)
{
	static struct capture captures[] = { { CAPTURE_HOST, 0, NULL }, { CAPTURE_RPING, 0, NULL } };
	struct capture *c = &captures[strcmp(name, CAPTURE_HOST) != 0];

	if (!c->packets)
		load(c);
	*count = c->count;
	return c->packets;
}
