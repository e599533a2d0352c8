// SPDX-License-Identifier: BSD-2-Clause
#include "address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int rackwire_address_parse(const char *text, size_t size, struct sockaddr_storage *out)
{
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)out;
	struct sockaddr_in *four = (struct sockaddr_in *)out;
	char bare[INET6_ADDRSTRLEN + IF_NAMESIZE + 1], *zone;

	memset(out, 0, sizeof(*out));
	if (strnlen(text, size) >= sizeof(bare) || strnlen(text, size) == size)
		return -EINVAL;
	if (!text[0])
		return 0;
	strcpy(bare, text);
	zone = strchr(bare, '%');
	if (zone)
		*zone++ = 0;
	if (!zone && inet_pton(AF_INET, bare, &four->sin_addr) == 1) {
		out->ss_family = AF_INET;
		return 0;
	}
	if (inet_pton(AF_INET6, bare, &six->sin6_addr) != 1)
		return -EINVAL;
	out->ss_family = AF_INET6;
	if (!zone)
		return 0;
	six->sin6_scope_id = if_nametoindex(zone);
	if (!six->sin6_scope_id)
		six->sin6_scope_id = (uint32_t)strtoul(zone, NULL, 10);
	return six->sin6_scope_id ? 0 : -ENODEV;
}

void rackwire_address_set_port(struct sockaddr_storage *addr, uint16_t port)
{
	((struct sockaddr_in *)addr)->sin_port = htons(port); /* at the same place with IPv6 */
}

void rackwire_address_text(const struct sockaddr_storage *addr, char *out, size_t length)
{
	const struct sockaddr_in6 *six = (const void *)addr;
	const struct sockaddr_in *four = (const void *)addr;
	char text[INET6_ADDRSTRLEN] = "", zone[IF_NAMESIZE] = "";
	bool mapped = addr->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&six->sin6_addr);

	if (addr->ss_family != AF_INET6 || mapped) {
		inet_ntop(AF_INET, mapped ? (const void *)&six->sin6_addr.s6_addr[12] : &four->sin_addr, text,
			  sizeof(text));
		snprintf(out, length, "%s:%u", text, ntohs(four->sin_port));
		return;
	}
	inet_ntop(AF_INET6, &six->sin6_addr, text, sizeof(text));
	if (six->sin6_scope_id && if_indextoname(six->sin6_scope_id, zone))
		snprintf(out, length, "[%s%%%s]:%u", text, zone, ntohs(six->sin6_port));
	else
		snprintf(out, length, "[%s]:%u", text, ntohs(six->sin6_port));
}
