// SPDX-License-Identifier: BSD-2-Clause
/* From socket addresses to ports, listeners and connections of the core. */
#include <stdlib.h>
#include <unistd.h>

#include "shard.h"

#define ANY_PORT_TRIES 16

static u16 port_of(const struct sockaddr_storage *addr)
{
	return ntohs(((const struct sockaddr_in *)addr)->sin_port);
}

static void set_port(struct sockaddr_storage *addr, u16 port)
{
	((struct sockaddr_in *)addr)->sin_port = htons(port); /* at the same place with IPv6 */
}

/* A raw socket binds nothing; ask a UDP one whether the address is ours. */
static int check_address(const struct sockaddr_storage *addr)
{
	struct sockaddr_storage probe = *addr;
	int fd, err = 0;

	fd = socket(addr->ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	set_port(&probe, 0);
	if (bind(fd, (struct sockaddr *)&probe,
		 addr->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)) < 0)
		err = -errno;
	close(fd);
	return err;
}

static int bind_raw(struct dcpim_shard *s, struct sockaddr_storage *addr, struct dcpim_port **out, u32 *local)
{
	u16 port = port_of(addr);
	int err = check_address(addr);

	if (!err)
		err = dcpim_raw_port_take(s->engine, &port);
	if (err)
		return err;
	err = dcpim_port_open(s, addr, false, false, out, local);
	if (err)
		dcpim_raw_port_give(s->engine, port);
	else
		set_port(addr, port);
	return err;
}

int dcpim_bind(struct dcpim_shard *s, struct sockaddr_storage *addr, struct dcpim_port **out, u32 *local)
{
	const struct rackwire_dcpim_engine *e = s->engine;
	bool many = e->nshards > 1;
	int tries = 0, err;
	u16 port;

	if (e->raw)
		return bind_raw(s, addr, out, local);
	if (e->config.encap_port && !port_of(addr))
		return -EINVAL; /* the kernel chooses UDP ports only */
	do {
		err = dcpim_port_open(s, addr, true, many, out, local);
		if (err)
			return err;
		if (!many || (*out)->lock_fd >= 0)
			break;
		port = (*out)->udp_port;
		(*out)->lock_fd = dcpim_name_lock("udp", port);
		if ((*out)->lock_fd >= 0)
			break;
		err = (*out)->lock_fd;
		(*out)->lock_fd = -1;
		dcpim_port_put(s, *out);
		*out = NULL;
		dcpim_ports_reap(s, false);
	} while (!port_of(addr) && err == -EADDRINUSE && ++tries < ANY_PORT_TRIES);
	if (!err && !e->config.encap_port)
		set_port(addr, (*out)->udp_port);
	return err;
}

/* ---- listening ---- */

void dcpim_engine_unlisten(struct dcpim_engine_listener *l)
{
	struct rackwire_dcpim_engine *e = l->engine;
	u32 i;

	for (i = 0; i < e->nshards; i++) {
		struct dcpim_shard *s = e->shards[i];

		dcpim_shard_lock(s);
		if (l->at[i].listener)
			dcpim_unlisten(s->host, l->at[i].listener, s->now);
		if (l->at[i].port) {
			dcpim_shard_flush(s);
			dcpim_port_put(s, l->at[i].port);
			dcpim_ports_reap(s, false);
		}
		dcpim_shard_unlock(s);
	}
	if (l->raw_taken)
		dcpim_raw_port_give(e, l->port);
	dcpim_list_del(&l->node);
	free(l);
}

static int listen_on(struct dcpim_engine_listener *l, u32 i, struct sockaddr_storage *addr, bool first, u32 kinds,
		     u32 backlog, void *user)
{
	struct dcpim_shard *s = l->engine->shards[i];
	struct dcpim_port *port = l->at[i].port;
	u8 bytes[16];
	u32 scope, local = 0;
	u16 ignored;
	int err = 0;

	if (!port && first) {
		err = dcpim_bind(s, addr, &port, &local);
		l->raw_taken = !err && l->engine->raw;
	} else if (!port) {
		err = dcpim_port_open(s, addr, true, true, &port, &local);
	} else if (l->engine->raw) {
		dcpim_addr_from(addr, bytes, &ignored, &scope);
		local = dcpim_local_find(s, port, bytes);
	} else {
		local = dcpim_local_index(s, port->slot);
	}
	if (err)
		return err;
	l->at[i].port = port;
	l->port = port_of(addr);
	dcpim_addr_from(addr, bytes, &ignored, &scope);
	return dcpim_listen(s->host, l->port, kinds, backlog, dcpim_addr_is_any(bytes) ? ~0u : local, user,
			    &l->at[i].listener);
}

int dcpim_listen_all(struct rackwire_dcpim_engine *e, const struct sockaddr_storage *addr, u32 kinds, u32 backlog,
		     void *user, u32 bound_shard, struct dcpim_port *bound, struct dcpim_engine_listener **out)
{
	struct dcpim_engine_listener *l = calloc(1, sizeof(*l) + e->nshards * sizeof(l->at[0]));
	struct sockaddr_storage at = *addr;
	u32 i, n;
	int err;

	if (!l)
		return -ENOMEM;
	l->engine = e;
	dcpim_list_init(&l->node);
	l->at[bound_shard].port = bound;
	for (n = 0; n < e->nshards; n++) {
		i = (bound_shard + n) % e->nshards;
		dcpim_shard_lock(e->shards[i]);
		err = listen_on(l, i, &at, !n, kinds, backlog, user);
		dcpim_shard_unlock(e->shards[i]);
		if (err) {
			if (bound)
				l->at[bound_shard].port = NULL; /* stays the caller's */
			dcpim_engine_unlisten(l);
			return err;
		}
	}
	*out = l;
	return 0;
}

int dcpim_engine_listen(struct rackwire_dcpim_engine *e, const struct sockaddr_storage *addr, u32 kinds, u32 backlog,
			void *user, struct dcpim_engine_listener **out)
{
	int err = dcpim_listen_all(e, addr, kinds, backlog, user, 0, NULL, out);

	if (!err)
		dcpim_list_add_tail(&e->listeners, &(*out)->node);
	return err;
}

u16 dcpim_engine_listen_port(const struct dcpim_engine_listener *l)
{
	return l->port;
}

/* ---- connecting ---- */

/* As TCP does: connecting to "any" means to this machine. */
static void any_to_loopback(u8 addr[16])
{
	if (!dcpim_addr_is_any(addr))
		return;
	if (dcpim_addr_is_v4(addr))
		addr[12] = 127;
	addr[15] = 1;
}

int dcpim_connect_to(struct dcpim_shard *s, enum dcpim_kind kind, struct dcpim_connect_from *from,
		     const struct sockaddr_storage *to, u16 outer, void *user, u8 source[16], struct dcpim_flow **out)
{
	struct rackwire_dcpim_engine *e = s->engine;
	struct dcpim_port *port = from->port;
	const struct dcpim_route *route;
	struct dcpim_path path = { 0 };
	bool choose = e->raw && !from->sport;
	int err, tries = 0;
	u16 dport;

	dcpim_addr_from(to, path.addr, &dport, &path.scope);
	if (!dport)
		return -EADDRNOTAVAIL;
	any_to_loopback(path.addr);
	if (e->raw && dcpim_raw_shard(e, path.addr) != s->index)
		return -EXDEV;
	err = dcpim_route_find(s, path.addr, path.scope, &route);
	if (err)
		return err;
	if (!port) {
		err = dcpim_port_shared(s, path.addr, &port);
		if (err)
			return err;
		path.local = dcpim_local_index(s, port->slot);
	} else {
		path.local = from->local;
	}
	if (port->family == AF_INET && !dcpim_addr_is_v4(path.addr))
		return -EAFNOSUPPORT;
	memcpy(source, route->source, 16);
	path.max_packet = (u16)dcpim_packet_for_mtu(e, path.addr, route->mtu);
	if (!e->raw)
		path.port = outer ? outer : e->config.encap_port ? e->config.encap_port : dport;
	do {
		if (choose) {
			from->sport = 0;
			err = dcpim_raw_port_take(e, &from->sport);
			if (err)
				return err;
		}
		err = dcpim_connect(s->host, s->now, kind, &path, from->sport, dport, user, out);
		if (err && choose)
			dcpim_raw_port_give(e, from->sport);
	} while (choose && err == -EADDRINUSE && ++tries < ANY_PORT_TRIES);
	return err;
}

struct dcpim_shard *dcpim_engine_shard_for(struct rackwire_dcpim_engine *e, const struct sockaddr_storage *to)
{
	u8 addr[16];
	u16 port;
	u32 scope;

	if (!e->raw)
		return e->shards[__atomic_fetch_add(&e->next_shard, 1, __ATOMIC_RELAXED) % e->nshards];
	dcpim_addr_from(to, addr, &port, &scope);
	any_to_loopback(addr);
	return e->shards[dcpim_raw_shard(e, addr)];
}

int dcpim_shard_connect(struct dcpim_shard *s, enum dcpim_kind kind, const struct sockaddr_storage *from,
			const struct sockaddr_storage *to, void *user, struct dcpim_flow **out)
{
	struct dcpim_connect_from source = { 0 };
	struct sockaddr_storage local;
	u8 ours[16];
	int err;

	if (from && from->ss_family) {
		local = *from;
		err = dcpim_bind(s, &local, &source.port, &source.local);
		if (err)
			return err;
		source.sport = port_of(&local);
	}
	err = dcpim_connect_to(s, kind, &source, to, 0, user, ours, out);
	if (err && source.port) {
		dcpim_port_put(s, source.port);
		if (s->engine->raw)
			dcpim_raw_port_give(s->engine, source.sport);
	}
	return err;
}
