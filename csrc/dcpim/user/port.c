// SPDX-License-Identifier: BSD-2-Clause
/* The kernel's sockets under the engine, and the addresses of ours they speak from. */
#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "clock.h"
#include "shard.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

/* ---- local addresses ---- */

static int local_add(struct dcpim_shard *s, struct dcpim_port *port, const u8 addr[16], bool any, u32 *slot)
{
	struct dcpim_local *l;

	if (s->free_local) {
		*slot = s->free_local;
		s->free_local = s->locals[*slot].next;
	} else {
		if (s->nlocals >= DCPIM_MAX_LOCALS)
			return -ENFILE;
		if (s->nlocals == s->locals_size) {
			u32 size = s->locals_size ? s->locals_size * 2 : 16;

			l = realloc(s->locals, size * sizeof(*l));
			if (!l)
				return -ENOMEM;
			memset(l + s->locals_size, 0, (size - s->locals_size) * sizeof(*l));
			s->locals = l;
			s->locals_size = size;
		}
		if (!s->nlocals)
			s->nlocals = 1; /* slot 0 ends chains */
		*slot = s->nlocals++;
	}
	l = &s->locals[*slot];
	l->port = port;
	l->any = any;
	memcpy(l->addr, addr, 16);
	l->next = 0;
	port->nlocals++;
	return 0;
}

struct dcpim_local *dcpim_local_get(struct dcpim_shard *s, u32 local)
{
	u32 slot = DCPIM_LOCAL_SLOT(local);

	if (slot >= s->nlocals || !s->locals[slot].port || s->locals[slot].generation != local >> 16)
		return NULL;
	return &s->locals[slot];
}

#define LOCALS_PER_PORT 64

u32 dcpim_local_find(struct dcpim_shard *s, struct dcpim_port *port, const u8 addr[16])
{
	u32 slot, added;

	for (slot = port->slot; slot; slot = s->locals[slot].next)
		if (!memcmp(s->locals[slot].addr, addr, 16))
			return dcpim_local_index(s, slot);
	/* All of 127/8 is ours: whoever sends to each of it gets answers, but not a slot each. */
	if (port->nlocals >= LOCALS_PER_PORT || local_add(s, port, addr, false, &added) < 0)
		return dcpim_local_index(s, port->slot);
	s->locals[added].next = s->locals[port->slot].next;
	s->locals[port->slot].next = added;
	return dcpim_local_index(s, added);
}

static void locals_drop(struct dcpim_shard *s, struct dcpim_port *port)
{
	u32 slot = port->slot, next;

	for (; slot; slot = next) {
		next = s->locals[slot].next;
		s->locals[slot].port = NULL;
		s->locals[slot].generation++;
		s->locals[slot].next = s->free_local;
		s->free_local = slot;
	}
}

/* ---- opening ---- */

static void set_buffers(const struct rackwire_dcpim_engine *e, int fd)
{
	int rcv = (int)e->config.socket_rcvbuf, snd = (int)e->config.socket_sndbuf;

	/* The kernel doubles the value; without privilege it cuts it to net.core.*mem_max. */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &rcv, sizeof(rcv)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcv, sizeof(rcv));
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &snd, sizeof(snd)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &snd, sizeof(snd));
}

int dcpim_port_rcvbuf(const struct rackwire_dcpim_engine *e)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), value = 0;
	socklen_t len = sizeof(value);

	if (fd < 0)
		return -errno;
	set_buffers(e, fd);
	getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &value, &len);
	close(fd);
	return value;
}

static void set_common(const struct rackwire_dcpim_engine *e, int fd, int family, bool pktinfo)
{
	int on = 1, pmtu = IP_PMTUDISC_DO;

	set_buffers(e, fd);
	/* The IPv4 ones matter on an IPv6 socket that carries IPv4 too. */
	setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &pmtu, sizeof(pmtu));
	setsockopt(fd, IPPROTO_IP, IP_RECVERR, &on, sizeof(on));
	if (family == AF_INET6) {
		pmtu = IPV6_PMTUDISC_DO;
		setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &pmtu, sizeof(pmtu));
		setsockopt(fd, IPPROTO_IPV6, IPV6_RECVERR, &on, sizeof(on));
		if (pktinfo)
			setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on));
	} else if (pktinfo) {
		setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on));
	}
}

static int port_add(struct dcpim_shard *s, struct dcpim_port *port, u32 *local)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = port };
	u8 addr[16];
	u16 ignored;
	u32 scope;
	int err;

	dcpim_addr_from(&port->addr, addr, &ignored, &scope);
	port->wildcard = dcpim_addr_is_any(addr);
	err = local_add(s, port, addr, true, &port->slot);
	if (err)
		return err;
	if (epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, port->fd, &ev) < 0) {
		err = -errno;
		locals_drop(s, port);
		return err;
	}
	dcpim_list_add_tail(&s->ports, &port->node);
	s->nports++;
	dcpim_shard_kick(s); /* the driver sleeps on the others */
	*local = dcpim_local_index(s, port->slot);
	return 0;
}

static int udp_socket(struct dcpim_shard *s, const struct sockaddr_storage *addr, bool reuseport,
		      struct dcpim_port *port)
{
	const struct rackwire_dcpim_engine *e = s->engine;
	socklen_t len = addr->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)addr;
	const struct timeval patience = { .tv_usec = DCPIM_BLOCK_NS / 1000 };
	int fd, on = 1, only;
	u8 bytes[16];
	u16 chosen;
	u32 scope;

	dcpim_addr_from(addr, bytes, &port->udp_port, &scope);
	port->pktinfo = port->pktinfo && dcpim_addr_is_any(bytes);
	fd = socket(addr->ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	port->fd = fd;
	port->family = addr->ss_family;
	if (addr->ss_family == AF_INET6) {
		only = !IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr) || port->shared;
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only));
	}
	/*
	 * A port of the kernel's choice is chosen before: with SO_REUSEPORT it may choose one that
	 * another such socket of this user has, and packets would go to either.
	 */
	chosen = port->udp_port;
	if (reuseport && chosen && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0)
		return -errno;
	set_common(e, fd, port->family, port->pktinfo);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (!(e->config.flags & RACKWIRE_DCPIM_NO_OFFLOAD)) {
		port->gso = true;
		port->gro = !setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof(on));
	}
	if (bind(fd, (const struct sockaddr *)addr, len) < 0)
		return -errno;
	if (reuseport && !chosen && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0)
		return -errno;
	len = sizeof(port->addr);
	if (getsockname(fd, (struct sockaddr *)&port->addr, &len) < 0)
		return -errno;
	dcpim_addr_from(&port->addr, bytes, &port->udp_port, &scope);
	return 0;
}

static void port_free(struct dcpim_port *port)
{
	if (port->fd >= 0)
		close(port->fd);
	if (port->lock_fd >= 0)
		close(port->lock_fd);
	free(port);
}

static u32 port_drops(const struct dcpim_port *port)
{
	u32 mem[SK_MEMINFO_VARS];
	socklen_t len = sizeof(mem);

	if (getsockopt(port->fd, SOL_SOCKET, SO_MEMINFO, mem, &len) < 0 || len < sizeof(mem))
		return 0;
	return mem[SK_MEMINFO_DROPS];
}

/* Nothing finds the port after this. */
static void port_unlink(struct dcpim_shard *s, struct dcpim_port *port)
{
	dcpim_list_del(&port->node);
	epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, port->fd, NULL);
	s->nports--;
	if (!port->refs && !port->shared)
		s->nidle--;
	s->counters.rx_socket_drops += port_drops(port);
	dcpim_tx_forget(s, port);
	locals_drop(s, port);
}

/* An unreferenced port is still open while old connections drain; the same address may take it up again. */
static struct dcpim_port *find_port(struct dcpim_shard *s, const struct sockaddr_storage *addr, bool idle)
{
	struct dcpim_list *l;
	u8 want[16], have[16];
	u16 port_want, port_have;
	u32 scope;

	dcpim_addr_from(addr, want, &port_want, &scope);
	for (l = s->ports.next; l != &s->ports; l = l->next) {
		struct dcpim_port *port = dcpim_container(l, struct dcpim_port, node);

		if (idle && (port->refs || port->shared))
			continue;
		dcpim_addr_from(&port->addr, have, &port_have, &scope);
		if (port->addr.ss_family == addr->ss_family && port_have == port_want && !memcmp(have, want, 16))
			return port;
	}
	return NULL;
}

static struct dcpim_port *port_new(bool pktinfo)
{
	struct dcpim_port *port = calloc(1, sizeof(*port));

	if (port) {
		port->fd = port->lock_fd = -1;
		port->pktinfo = pktinfo;
		dcpim_list_init(&port->node);
	}
	return port;
}

/* Raw: one pair of sockets carries all ports; an address is an entry of its own. */
static int raw_port(struct dcpim_shard *s, const struct sockaddr_storage *ss, struct dcpim_port **out, u32 *local)
{
	struct dcpim_port *port;
	u8 addr[16];
	u32 scope;
	u16 ignored;

	dcpim_addr_from(ss, addr, &ignored, &scope);
	port = ss->ss_family == AF_INET ? s->shared : s->shared6;
	if (!port)
		return -EAFNOSUPPORT;
	port->refs++;
	*out = port;
	*local = dcpim_addr_is_any(addr) ? dcpim_local_index(s, port->slot) : dcpim_local_find(s, port, addr);
	return 0;
}

int dcpim_port_open(struct dcpim_shard *s, const struct sockaddr_storage *addr, bool pktinfo, bool reuseport,
		    struct dcpim_port **out, u32 *local)
{
	struct rackwire_dcpim_engine *e = s->engine;
	struct sockaddr_storage at = *addr;
	struct dcpim_port *port;
	int err;

	if (e->raw)
		return raw_port(s, addr, out, local);
	if (e->config.encap_port) {
		((struct sockaddr_in *)&at)->sin_port = htons(e->config.encap_port);
		port = find_port(s, &at, false);
	} else {
		port = s->nidle ? find_port(s, &at, true) : NULL;
	}
	if (port) {
		if (!port->refs++ && !port->shared)
			s->nidle--;
		*out = port;
		*local = dcpim_local_index(s, port->slot);
		return 0;
	}
	port = port_new(pktinfo);
	if (!port)
		return -ENOMEM;
	err = udp_socket(s, &at, reuseport, port);
	if (!err)
		err = port_add(s, port, local);
	if (err) {
		port_free(port);
		return err;
	}
	port->refs = 1;
	*out = port;
	return 0;
}

void dcpim_port_put(struct dcpim_shard *s, struct dcpim_port *port)
{
	if (--port->refs || port->shared)
		return;
	port->idle_since = s->now;
	s->nidle++;
	s->reap_at = s->now;
}

/*
 * A connection that was closed may still be sending through its port, and the
 * core does not say when the last packet has gone; but an empty host sends
 * nothing, and nothing outlives dead_after.
 */
void dcpim_ports_reap(struct dcpim_shard *s, bool all)
{
	u64 patience = s->engine->cfg.dead_after_ns + s->engine->cfg.timewait_ns;
	struct dcpim_list *l, *next, gone;
	struct dcpim_info info;

	dcpim_list_init(&gone);
	if (s->nidle && !all) {
		dcpim_info_get(s->host, s->now, &info);
		all = !info.flows && !info.timewait;
	}
	for (l = s->ports.next; s->nidle && l != &s->ports; l = next) {
		struct dcpim_port *port = dcpim_container(l, struct dcpim_port, node);

		next = l->next;
		if (!port->refs && !port->shared && (all || s->now >= port->idle_since + patience)) {
			port_unlink(s, port);
			dcpim_list_add_tail(&gone, &port->node);
		}
	}
	s->reap_at = s->nidle ? s->now + 100000000 : DCPIM_NEVER;
	if (!dcpim_list_empty(&gone))
		dcpim_shard_awaken(s);
	while (!dcpim_list_empty(&gone)) {
		struct dcpim_port *port = dcpim_container(gone.next, struct dcpim_port, node);

		dcpim_list_del(&port->node);
		port_free(port);
	}
}

void dcpim_ports_close(struct dcpim_shard *s)
{
	while (!dcpim_list_empty(&s->ports)) {
		struct dcpim_port *port = dcpim_container(s->ports.next, struct dcpim_port, node);

		port_unlink(s, port);
		port_free(port);
	}
}

int dcpim_port_shared(struct dcpim_shard *s, const u8 addr[16], struct dcpim_port **out)
{
	const struct sockaddr_storage *configured = &s->engine->config.local;
	bool v4 = dcpim_addr_is_v4(addr);
	struct dcpim_port **slot = v4 ? &s->shared : &s->shared6, *port;
	struct sockaddr_storage any = { .ss_family = v4 ? AF_INET : AF_INET6 };
	u32 local;
	int err;

	if (*slot || s->engine->raw) {
		*out = *slot;
		return *slot ? 0 : -EAFNOSUPPORT;
	}
	if (configured->ss_family == any.ss_family) {
		any = *configured;
		((struct sockaddr_in *)&any)->sin_port = 0;
	}
	if (s->engine->config.encap_port && s->engine->nshards == 1) {
		((struct sockaddr_in *)&any)->sin_port = htons(s->engine->config.encap_port);
		port = find_port(s, &any, false);
		if (port) {
			port->refs++; /* kept for the life of the engine */
			*out = *slot = port;
			return 0;
		}
	}
	port = port_new(false);
	if (!port)
		return -ENOMEM;
	port->shared = true;
	err = udp_socket(s, &any, false, port);
	if (!err)
		err = port_add(s, port, &local);
	if (err) {
		port_free(port);
		return err;
	}
	port->refs = 1;
	*out = *slot = port;
	return 0;
}

/* ---- raw ---- */

/*
 * Every raw socket gets every packet of the protocol. Which shard serves a peer
 * follows from the peer's address, so that one filter in the kernel and
 * dcpim_raw_shard() here agree.
 */
static int raw_filter(struct dcpim_shard *s, int fd, bool v4)
{
	const u32 src = (u32)SKF_NET_OFF + (v4 ? 12 : 8);
	struct sock_filter code[16];
	struct sock_fprog prog = { .filter = code };
	u16 n = 0;
	int i;

	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, src);
	for (i = 1; !v4 && i < 4; i++) {
		code[n++] = (struct sock_filter)BPF_STMT(BPF_MISC | BPF_TAX, 0);
		code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, src + 4 * (u32)i);
		code[n++] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0);
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, s->engine->nshards);
	code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, s->index, 1, 0);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0xffffffff);
	prog.len = n;
	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) < 0 ? -errno : 0;
}

static int raw_socket(struct dcpim_shard *s, int family, struct dcpim_port **out)
{
	struct dcpim_port *port = port_new(true);
	u32 local;
	int err = 0;

	if (!port)
		return -ENOMEM;
	port->shared = true;
	port->family = family;
	port->addr.ss_family = (sa_family_t)family;
	port->fd = socket(family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, DCPIM_IPPROTO);
	if (port->fd < 0)
		err = -errno;
	if (!err) {
		set_common(s->engine, port->fd, family, true);
		if (s->engine->nshards > 1)
			err = raw_filter(s, port->fd, family == AF_INET);
	}
	if (!err)
		err = port_add(s, port, &local);
	if (err) {
		port_free(port);
		return err;
	}
	port->refs = 1;
	*out = port;
	return 0;
}

int dcpim_raw_open(struct dcpim_shard *s)
{
	int err = raw_socket(s, AF_INET, &s->shared);

	if (err)
		return err;
	err = raw_socket(s, AF_INET6, &s->shared6);
	return err == -EAFNOSUPPORT ? 0 : err;
}

u64 dcpim_ports_drops(struct dcpim_shard *s)
{
	u64 drops = s->counters.rx_socket_drops;
	struct dcpim_list *l;

	for (l = s->ports.next; l != &s->ports; l = l->next)
		drops += port_drops(dcpim_container(l, struct dcpim_port, node));
	return drops;
}

u32 dcpim_raw_shard(const struct rackwire_dcpim_engine *e, const u8 addr[16])
{
	u32 key = dcpim_get32(addr + 12);

	if (!dcpim_addr_is_v4(addr))
		key ^= dcpim_get32(addr) ^ dcpim_get32(addr + 4) ^ dcpim_get32(addr + 8);
	return key % e->nshards;
}
