/* SPDX-License-Identifier: BSD-2-Clause */
/* address.h: IPv4 and IPv6 addresses as text. Nothing here asks a name server. */
#ifndef RACKWIRE_COMMON_ADDRESS_H
#define RACKWIRE_COMMON_ADDRESS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/*
 * A numeric address ("192.0.2.1", "fe80::1%eth0") of at most @size bytes with its terminating zero.
 * Empty text gives the family AF_UNSPEC. The port is 0.
 * Return: 0; -EINVAL; -ENODEV (no such zone).
 */
int rackwire_address_parse(const char *text, size_t size, struct sockaddr_storage *out);

void rackwire_address_set_port(struct sockaddr_storage *addr, uint16_t port);

/* "192.0.2.1:4000", "[2001:db8::1]:4000"; v4-mapped addresses as IPv4. Cut off where @length is too short. */
void rackwire_address_text(const struct sockaddr_storage *addr, char *out, size_t length);

#endif
