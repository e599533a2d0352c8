// SPDX-License-Identifier: BSD-2-Clause
#include "pair.h"

struct pair pair;

void pair_config(uint32_t kind, int family)
{
	memset(&pair, 0, sizeof(pair));
	pair.family = family;
	pair.config.size = sizeof(pair.config);
	pair.config.kind = kind;
	pair.config.connect_timeout_ns = 3000 * MS;
	pair.config.timewait_ns = 20 * MS; /* so that tests see it end */
}

int pair_open(void)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&pair.addr;
	struct sockaddr_in *in = (struct sockaddr_in *)&pair.addr;
	int err;

	pair.addr.ss_family = (sa_family_t)pair.family;
	pair.length = pair.family == AF_INET ? sizeof(*in) : sizeof(*in6);
	if (pair.family == AF_INET)
		in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		in6->sin6_addr = in6addr_loopback;
	err = rackwire_dcpim_engine_open(&pair.config, &pair.server, NULL, 0);
	if (err)
		return err;
	err = rackwire_dcpim_engine_open(&pair.config, &pair.client, NULL, 0);
	if (!err)
		err = rackwire_dcpim_socket(pair.server, RACKWIRE_DCPIM_STREAM, &pair.listener);
	if (!err)
		err = rackwire_dcpim_setopt(pair.listener, RACKWIRE_DCPIM_ACCEPT_KINDS, 3);
	if (!err)
		err = rackwire_dcpim_bind(pair.listener, (struct sockaddr *)&pair.addr, pair.length);
	if (!err)
		err = rackwire_dcpim_listen(pair.listener, 1024);
	if (!err)
		err = rackwire_dcpim_getsockname(pair.listener, (struct sockaddr *)&pair.addr, &pair.length);
	return err;
}

void pair_close(void)
{
	rackwire_dcpim_close(pair.listener);
	rackwire_dcpim_engine_close(pair.client, 100 * MS);
	rackwire_dcpim_engine_close(pair.server, 100 * MS);
}

int pair_connect(uint32_t kind, struct rackwire_dcpim_socket **near, struct rackwire_dcpim_socket **far)
{
	int err = rackwire_dcpim_socket(pair.client, kind, near);

	if (!err)
		err = rackwire_dcpim_connect(*near, (struct sockaddr *)&pair.addr, pair.length);
	if (!err)
		err = rackwire_dcpim_accept(pair.listener, far, NULL, NULL, 0);
	return err;
}

static uint8_t pattern(uint64_t offset)
{
	return (uint8_t)((offset >> 8 ^ offset) * 167 + (offset >> 16));
}

void fill_pattern(uint8_t *to, size_t length, uint64_t offset)
{
	size_t i;

	for (i = 0; i < length; i++)
		to[i] = pattern(offset + i);
}

bool is_pattern(const uint8_t *from, size_t length, uint64_t offset)
{
	size_t i;

	for (i = 0; i < length; i++)
		if (from[i] != pattern(offset + i))
			return false;
	return true;
}
