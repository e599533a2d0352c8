// SPDX-License-Identifier: BSD-2-Clause
/* Addresses, routes and what the kernel knows about them. */
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "proc_io.h"
#include "shard.h"

#define ROUTE_TTL_NS 1000000000ULL

static const u8 v4_prefix[12] = { [10] = 0xff, [11] = 0xff };

bool dcpim_addr_is_v4(const u8 addr[16])
{
	return !memcmp(addr, v4_prefix, sizeof(v4_prefix));
}

bool dcpim_addr_is_any(const u8 addr[16])
{
	static const u8 zero[16];

	if (dcpim_addr_is_v4(addr))
		return !memcmp(addr + 12, zero, 4);
	return !memcmp(addr, zero, 16);
}

void dcpim_addr_from(const void *sa, u8 addr[16], u16 *port, u32 *scope)
{
	if (((const struct sockaddr *)sa)->sa_family == AF_INET) {
		const struct sockaddr_in *in = sa;

		memcpy(addr, v4_prefix, sizeof(v4_prefix));
		memcpy(addr + 12, &in->sin_addr, 4);
		*port = ntohs(in->sin_port);
		*scope = 0;
	} else {
		const struct sockaddr_in6 *in6 = sa;

		memcpy(addr, &in6->sin6_addr, 16);
		*port = ntohs(in6->sin6_port);
		*scope = IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr) ? in6->sin6_scope_id : 0;
	}
}

socklen_t dcpim_addr_to(const u8 addr[16], u16 port, u32 scope, int family, struct sockaddr_in6 *out)
{
	struct sockaddr_in *in = (struct sockaddr_in *)out;

	memset(out, 0, sizeof(*out));
	if (family == AF_INET) {
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		memcpy(&in->sin_addr, addr + 12, 4);
		return sizeof(*in);
	}
	out->sin6_family = AF_INET6;
	out->sin6_port = htons(port);
	memcpy(&out->sin6_addr, addr, 16);
	out->sin6_scope_id = scope;
	return sizeof(*out);
}

int dcpim_addr_check(const struct sockaddr *addr, socklen_t length, struct sockaddr_storage *out)
{
	if (!addr || length < sizeof(addr->sa_family) || length > sizeof(*out))
		return -EINVAL;
	if (addr->sa_family != AF_INET && addr->sa_family != AF_INET6)
		return -EAFNOSUPPORT;
	if (length < (addr->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)))
		return -EINVAL;
	memset(out, 0, sizeof(*out));
	memcpy(out, addr, length);
	return 0;
}

socklen_t dcpim_path_sockaddr(const struct dcpim_path *path, u16 port, struct sockaddr_storage *out)
{
	memset(out, 0, sizeof(*out));
	return dcpim_addr_to(path->addr, port, path->scope, dcpim_addr_is_v4(path->addr) ? AF_INET : AF_INET6,
			     (struct sockaddr_in6 *)out);
}

/* A connected UDP socket sends nothing, but knows the route. */
static int probe(const u8 from[16], const u8 addr[16], u32 scope, u8 source[16], u32 *mtu)
{
	int family = dcpim_addr_is_v4(addr) ? AF_INET : AF_INET6;
	struct sockaddr_storage name = { 0 };
	struct sockaddr_in6 sa;
	socklen_t len;
	int fd, value = 0, err = 0;
	u16 port;
	u32 ignored;

	fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (from) {
		len = dcpim_addr_to(from, 0, 0, family, &sa);
		if (bind(fd, (struct sockaddr *)&sa, len) < 0)
			err = -errno;
	}
	len = dcpim_addr_to(addr, 9, scope, family, &sa);
	if (!err && connect(fd, (struct sockaddr *)&sa, len) < 0)
		err = -errno;
	len = sizeof(name);
	if (!err && getsockname(fd, (struct sockaddr *)&name, &len) < 0)
		err = -errno;
	if (!err) {
		dcpim_addr_from(&name, source, &port, &ignored);
		len = sizeof(value);
		if (getsockopt(fd, family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6,
			       family == AF_INET ? IP_MTU : IPV6_MTU, &value, &len) < 0)
			value = 0;
		*mtu = value > 0 ? (u32)value : 0;
	}
	close(fd);
	return err;
}

int dcpim_route_find(struct dcpim_shard *s, const u8 addr[16], u32 scope, const struct dcpim_route **out)
{
	u64 now = rackwire_now_ns();
	struct dcpim_route *r;
	int i, err;

	for (i = 0; i < DCPIM_ROUTES; i++) {
		r = &s->routes[i];
		if (r->until > now && r->scope == scope && !memcmp(r->addr, addr, 16)) {
			*out = r;
			return 0;
		}
	}
	r = &s->routes[s->next_route++ % DCPIM_ROUTES];
	r->until = 0;
	err = probe(NULL, addr, scope, r->source, &r->mtu);
	if (err)
		return err;
	memcpy(r->addr, addr, 16);
	r->scope = scope;
	r->until = now + ROUTE_TTL_NS;
	*out = r;
	return 0;
}

void dcpim_route_forget(struct dcpim_shard *s, const u8 addr[16])
{
	int i;

	for (i = 0; i < DCPIM_ROUTES; i++)
		if (!memcmp(s->routes[i].addr, addr, 16))
			s->routes[i].until = 0;
}

u32 dcpim_packet_for_mtu(const struct rackwire_dcpim_engine *e, const u8 addr[16], u32 mtu)
{
	u32 overhead = (dcpim_addr_is_v4(addr) ? 20 : 40) + (e->raw ? 0 : 8);

	if (!mtu || (e->config.mtu && e->config.mtu < mtu))
		mtu = e->config.mtu ? e->config.mtu : DCPIM_MAX_PACKET;
	if (mtu < DCPIM_MIN_PACKET + overhead)
		return DCPIM_MIN_PACKET;
	return (u32)dcpim_min(mtu - overhead, DCPIM_MAX_PACKET);
}

/* Bits per second of a network interface with hardware behind it. */
static u64 interface_speed(const char *name)
{
	char path[64 + IF_NAMESIZE], text[32] = "";
	struct stat st;
	long mbit;

	snprintf(path, sizeof(path), "/sys/class/net/%s/device", name);
	if (stat(path, &st) < 0)
		return 0;
	snprintf(path, sizeof(path), "/sys/class/net/%s/speed", name);
	if (rackwire_proc_read(path, text, sizeof(text) - 1) <= 0)
		return 0;
	mbit = strtol(text, NULL, 10);
	return mbit > 0 ? (u64)mbit * 1000000 : 0;
}

u64 dcpim_route_speed(const struct sockaddr_storage *local, const struct sockaddr_storage *towards)
{
	u8 from[16], to[16], source[16], addr[16];
	bool bound = local->ss_family != 0;
	struct ifaddrs *all, *i;
	u64 speed = 0;
	u32 scope, mtu;
	u16 port;

	if (bound) {
		dcpim_addr_from(local, from, &port, &scope);
		bound = !dcpim_addr_is_any(from);
		memcpy(source, from, 16);
	}
	if (towards->ss_family) {
		dcpim_addr_from(towards, to, &port, &scope);
		if (probe(bound && dcpim_addr_is_v4(from) == dcpim_addr_is_v4(to) ? from : NULL, to, scope,
			  source, &mtu) < 0)
			return 0;
	} else if (!bound) {
		return 0;
	}
	if (getifaddrs(&all) < 0)
		return 0;
	for (i = all; i; i = i->ifa_next) {
		if (!i->ifa_addr || (i->ifa_addr->sa_family != AF_INET && i->ifa_addr->sa_family != AF_INET6))
			continue;
		dcpim_addr_from(i->ifa_addr, addr, &port, &scope);
		if (memcmp(addr, source, 16))
			continue;
		speed = interface_speed(i->ifa_name);
		break;
	}
	freeifaddrs(all);
	return speed;
}
