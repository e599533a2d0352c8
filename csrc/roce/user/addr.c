// SPDX-License-Identifier: BSD-2-Clause
/* Addresses, and what the kernel says about the way to one. */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "dev.h"

/* Between the IP header and the payload: UDP, BTH, RETH, immediate, and the ICRC behind. */
#define HEADERS (8 + ROCE_BTH_LEN + ROCE_RETH_LEN + ROCE_IMMDT_LEN + ROCE_ICRC_LEN)

static const u8 v4_prefix[12] = { [10] = 0xff, [11] = 0xff };

bool roce_addr_is_v4(const u8 addr[16])
{
	return !memcmp(addr, v4_prefix, sizeof(v4_prefix));
}

bool roce_addr_is_any(const u8 addr[16])
{
	static const u8 zero[16];

	return !memcmp(addr + 12, zero, 4) && (roce_addr_is_v4(addr) || !memcmp(addr, zero, 16));
}

bool roce_addr_is_link_local(const u8 addr[16])
{
	return addr[0] == 0xfe && (addr[1] & 0xc0) == 0x80;
}

void roce_addr_from(const void *sockaddr, u8 addr[16], u16 *port, u32 *scope)
{
	*scope = 0;
	if (((const struct sockaddr *)sockaddr)->sa_family == AF_INET) {
		const struct sockaddr_in *in = sockaddr;

		memcpy(addr, v4_prefix, sizeof(v4_prefix));
		memcpy(addr + 12, &in->sin_addr, 4);
		*port = ntohs(in->sin_port);
	} else {
		const struct sockaddr_in6 *in6 = sockaddr;

		memcpy(addr, &in6->sin6_addr, 16);
		*port = ntohs(in6->sin6_port);
		if (roce_addr_is_link_local(addr))
			*scope = in6->sin6_scope_id;
	}
}

socklen_t roce_addr_to(const u8 addr[16], u16 port, u32 scope, int family, void *out)
{
	struct sockaddr_in6 *in6 = out;
	struct sockaddr_in *in = out;

	if (family == AF_INET) {
		*in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port) };
		memcpy(&in->sin_addr, addr + 12, 4);
		return sizeof(*in);
	}
	*in6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_scope_id = scope };
	memcpy(&in6->sin6_addr, addr, 16);
	return sizeof(*in6);
}

int roce_addr_parse(const char *text, u8 addr[16], u32 *scope)
{
	char plain[64];
	const char *zone = strchr(text, '%');
	size_t n = zone ? (size_t)(zone - text) : strlen(text);

	*scope = 0;
	if (n >= sizeof(plain))
		return -EINVAL;
	memcpy(plain, text, n);
	plain[n] = 0;
	memcpy(addr, v4_prefix, sizeof(v4_prefix));
	if (!zone && inet_pton(AF_INET, plain, addr + 12) == 1)
		return 0;
	if (inet_pton(AF_INET6, plain, addr) != 1)
		return -EINVAL;
	if (zone) {
		*scope = if_nametoindex(zone + 1);
		for (n = 1; !*scope && zone[n] >= '0' && zone[n] <= '9' && n < 8; n++)
			if (!zone[n + 1])
				*scope = (u32)strtoul(zone + 1, NULL, 10);
	}
	return zone && !*scope ? -EINVAL : 0;
}

void roce_addr_text(const u8 addr[16], u32 scope, char *text, size_t size)
{
	char plain[INET6_ADDRSTRLEN], zone[IF_NAMESIZE];

	if (roce_addr_is_v4(addr))
		inet_ntop(AF_INET, addr + 12, plain, sizeof(plain));
	else
		inet_ntop(AF_INET6, addr, plain, sizeof(plain));
	if (scope && if_indextoname(scope, zone))
		snprintf(text, size, "%s%%%s", plain, zone);
	else
		snprintf(text, size, "%s", plain);
}

/* A connected UDP socket sends nothing, but knows the route. */
int roce_route(const u8 from[16], const u8 peer[16], u32 scope, u8 source[16], u32 *mtu)
{
	int family = roce_addr_is_v4(peer) ? AF_INET : AF_INET6, fd, value = 0, err = 0;
	struct sockaddr_in6 name;
	socklen_t len;
	u16 port;
	u32 ignored;

	fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (from) {
		len = roce_addr_to(from, 0, scope, family, &name);
		if (bind(fd, (struct sockaddr *)&name, len) < 0)
			err = -errno;
	}
	len = roce_addr_to(peer, ROCE_UDP_PORT, scope, family, &name);
	if (!err && connect(fd, (struct sockaddr *)&name, len) < 0)
		err = -errno;
	len = sizeof(name);
	if (!err && getsockname(fd, (struct sockaddr *)&name, &len) < 0)
		err = -errno;
	if (!err) {
		roce_addr_from(&name, source, &port, &ignored);
		len = sizeof(value);
		if (getsockopt(fd, family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6, family == AF_INET ? IP_MTU : IPV6_MTU,
			       &value, &len) < 0)
			value = 0;
		*mtu = value > 0 ? (u32)value : 0;
	}
	close(fd);
	return err;
}

/* Addresses such as 127.0.0.2 are on no interface's list, but have a route. */
u32 roce_interface_mtu(const u8 addr[16], u32 scope)
{
	struct ifaddrs *all, *i;
	struct ifreq request;
	u8 found[16];
	u32 mtu = 0, zone;
	u16 port;
	int fd;

	if (getifaddrs(&all) < 0)
		all = NULL;
	for (i = all; i && !mtu; i = i->ifa_next) {
		if (!i->ifa_addr || (i->ifa_addr->sa_family != AF_INET && i->ifa_addr->sa_family != AF_INET6))
			continue;
		roce_addr_from(i->ifa_addr, found, &port, &zone);
		if (memcmp(found, addr, 16) || zone != scope)
			continue;
		memset(&request, 0, sizeof(request));
		snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", i->ifa_name);
		fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (fd < 0)
			continue;
		if (!ioctl(fd, SIOCGIFMTU, &request))
			mtu = (u32)request.ifr_mtu;
		close(fd);
	}
	if (all)
		freeifaddrs(all);
	if (!mtu && roce_route(addr, addr, scope, found, &mtu))
		mtu = 0;
	return mtu;
}

u32 roce_payload_for(const u8 addr[16], u32 mtu)
{
	u32 headers = (roce_addr_is_v4(addr) ? 20 : 40) + HEADERS;

	return mtu > headers ? roce_mtu_bytes(roce_mtu_code(mtu - headers)) : 0;
}
