// SPDX-License-Identifier: BSD-2-Clause
/* What a run's configuration may say. */
#include <errno.h>

#include "address.h"
#include "config.h"

#define SERVER_FLAGS (RACKWIRE_KRPING_VERBOSE | RACKWIRE_KRPING_SERVER_INV | RACKWIRE_KRPING_READ_INV | \
		      RACKWIRE_KRPING_LOCAL_DMA_LKEY | RACKWIRE_KRPING_REG | RACKWIRE_KRPING_POLL | \
		      RACKWIRE_KRPING_ECN | RACKWIRE_KRPING_NO_OFFLOAD | RACKWIRE_KRPING_ONCE)
#define PING_FLAGS (RACKWIRE_KRPING_VALIDATE | RACKWIRE_KRPING_VERBOSE | RACKWIRE_KRPING_SERVER_INV | \
		    RACKWIRE_KRPING_READ_INV | RACKWIRE_KRPING_LOCAL_DMA_LKEY | RACKWIRE_KRPING_REG | \
		    RACKWIRE_KRPING_CLASSIC)
#define CLIENT_FLAGS (RACKWIRE_KRPING_POLL | RACKWIRE_KRPING_ECN | RACKWIRE_KRPING_NO_OFFLOAD)

static bool atomic(const struct rackwire_krping_config *c)
{
	return c->op == RACKWIRE_KRPING_OP_FADD || c->op == RACKWIRE_KRPING_OP_CSWAP;
}

static void set_defaults(struct rackwire_krping_config *c)
{
	bool server = c->kind == RACKWIRE_KRPING_SERVER;

	if (c->kind == RACKWIRE_KRPING_ALAT && !c->op)
		c->op = RACKWIRE_KRPING_OP_FADD;
	if (!c->length)
		c->length = server ? RACKWIRE_KRPING_MAX_SIZE : atomic(c) ? 8 : 64;
	if (!c->timeout_ns)
		c->timeout_ns = 5 * RACKWIRE_NS_PER_S;
	if (!c->txdepth)
		c->txdepth = c->kind == RACKWIRE_KRPING_BW ? 64 : 1;
	if (!c->connections)
		c->connections = 1;
	if (!c->memory)
		c->memory = 4ull << 30;
	if (!c->retry_count)
		c->retry_count = 8;
	if (!c->rnr_retry_count)
		c->rnr_retry_count = 8;
	if (!c->ack_timeout)
		c->ack_timeout = 14;
}

static int check_client(const struct rackwire_krping_work *w, char *error, size_t length)
{
	const struct rackwire_krping_config *c = &w->config;
	uint32_t known = CLIENT_FLAGS;

	if (c->kind == RACKWIRE_KRPING_PING)
		known |= PING_FLAGS;
	if (c->kind == RACKWIRE_KRPING_ALAT)
		known |= RACKWIRE_KRPING_VALIDATE;
	if (c->kind == RACKWIRE_KRPING_BW)
		known |= RACKWIRE_KRPING_DUPLEX;
	if (c->flags & ~known)
		return config_refuse(error, length, -EINVAL, "flags 0x%x make no sense with kind %u", c->flags & ~known,
				     c->kind);
	if (c->flags & RACKWIRE_KRPING_CLASSIC &&
	    c->flags & (RACKWIRE_KRPING_READ_INV | RACKWIRE_KRPING_LOCAL_DMA_LKEY))
		return config_refuse(error, length, -EINVAL,
				     "read_inv and local_dma_lkey are the server's; a classic client cannot ask for them");
	if (!w->address.ss_family)
		return config_refuse(error, length, -EINVAL, "there is no address to connect to");
	if (w->local.ss_family && w->local.ss_family != w->address.ss_family)
		return config_refuse(error, length, -EINVAL,
				     "the source %.63s and the peer %.63s are not of one address family", c->local,
				     c->address);
	if (!c->port)
		return config_refuse(error, length, -EINVAL, "port 0 cannot be connected to");
	if (c->op > RACKWIRE_KRPING_OP_CSWAP || (c->kind == RACKWIRE_KRPING_ALAT && !atomic(c)) ||
	    (c->kind != RACKWIRE_KRPING_ALAT && c->kind != RACKWIRE_KRPING_BW && c->op))
		return config_refuse(error, length, -EINVAL, "operation %u makes no sense with kind %u", c->op, c->kind);
	if (atomic(c) && c->length != 8)
		return config_refuse(error, length, -EINVAL, "an atomic operation is of 8 bytes, not %u", c->length);
	if (c->kind != RACKWIRE_KRPING_BW && c->txdepth != 1)
		return config_refuse(error, length, -EINVAL, "txdepth is for bandwidth");
	if (c->txdepth > RACKWIRE_KRPING_MAX_TXDEPTH)
		return config_refuse(error, length, -EINVAL, "a txdepth of %u is more than %d", c->txdepth,
				     RACKWIRE_KRPING_MAX_TXDEPTH);
	if (c->connections > RACKWIRE_KRPING_MAX_CLIENTS)
		return config_refuse(error, length, -EINVAL, "%u connections are more than %d", c->connections,
				     RACKWIRE_KRPING_MAX_CLIENTS);
	if (c->interval_ns && c->kind != RACKWIRE_KRPING_PING)
		return config_refuse(error, length, -EINVAL, "an interval is for pings");
	if (c->count > UINT64_MAX / 2 || c->warmup_count > UINT64_MAX / 2)
		return config_refuse(error, length, -EINVAL, "nobody counts so far");
	return 0;
}

int config_check(struct rackwire_krping_work *w, char *error, size_t length)
{
	struct rackwire_krping_config *c = &w->config;

	if (c->kind < RACKWIRE_KRPING_SERVER || c->kind > RACKWIRE_KRPING_BW)
		return config_refuse(error, length, -EINVAL, "kind %u is none of a run", c->kind);
	if (rackwire_address_parse(c->address, sizeof(c->address), &w->address))
		return config_refuse(error, length, -EINVAL, "%.63s is not an address of this machine's networks",
				     c->address);
	if (rackwire_address_parse(c->local, sizeof(c->local), &w->local))
		return config_refuse(error, length, -EINVAL, "%.63s is not an address of this machine's networks",
				     c->local);
	set_defaults(c);
	if (c->length > RACKWIRE_KRPING_MAX_SIZE)
		return config_refuse(error, length, -EINVAL, "a size of %u is more than %u", c->length,
				     RACKWIRE_KRPING_MAX_SIZE);
	if (c->retry_count > 8 || c->rnr_retry_count > 8)
		return config_refuse(error, length, -EINVAL, "retry counts are 0 to 7");
	if (c->ack_timeout > 31)
		return config_refuse(error, length, -EINVAL, "the acknowledgement timeout's code is 1 to 31");
	if (c->mtu && (c->mtu < 256 || c->mtu > 4096 || (c->mtu & (c->mtu - 1))))
		return config_refuse(error, length, -EINVAL, "an MTU is 256, 512, 1024, 2048 or 4096, not %u", c->mtu);
	if (c->kind != RACKWIRE_KRPING_SERVER)
		return check_client(w, error, length);
	if (c->flags & ~(uint32_t)SERVER_FLAGS)
		return config_refuse(error, length, -EINVAL, "flags 0x%x make no sense for a server",
				     c->flags & ~(uint32_t)SERVER_FLAGS);
	return 0;
}
