// SPDX-License-Identifier: BSD-2-Clause
/*
 * Sending: packets from the core, grouped so that the kernel segments a row of
 * equal ones (GSO) and one system call takes many groups.
 *
 * The core's packets refer to its memory until something else is asked of it, so
 * what the kernel says about a peer is told to the core after the batch.
 */
#include <netinet/udp.h>
#include <sys/uio.h>

#include "shard.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

#define TX_ROUNDS 4	/* batches before receiving gets its turn */
#define SEND_TRIES 4	/* each may report one ICMP error that waited on the socket */
#define DEFERRED 8
#define COPY_SMALL 128	/* payload that goes into the header's memory */

struct deferred {
	u32 n;
	struct {
		struct dcpim_path path;
		int error;
	} at[DEFERRED];
	struct dcpim_port *errors; /* a port with ICMP errors waiting */
};

static bool same_path(const struct dcpim_path *a, const struct dcpim_path *b)
{
	return a->port == b->port && a->local == b->local && a->scope == b->scope && !memcmp(a->addr, b->addr, 16);
}

static void put_control(struct dcpim_tx_group *g, int level, int type, const void *data, u32 len)
{
	struct cmsghdr *c = (struct cmsghdr *)(g->control + g->control_len);

	memset(c, 0, CMSG_SPACE(len));
	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(c), data, len);
	g->control_len += CMSG_SPACE(len);
}

static struct dcpim_tx_group *group_new(struct dcpim_shard *s, const struct dcpim_txpkt *pkt)
{
	struct dcpim_local *local = dcpim_local_get(s, pkt->path->local);
	struct dcpim_tx_group *g = &s->tx.groups[s->tx.ngroups];
	struct dcpim_port *port;

	if (!local)
		return NULL;
	port = local->port;
	if (port->family == AF_INET && !dcpim_addr_is_v4(pkt->path->addr))
		return NULL;
	g->port = port;
	g->path = *pkt->path;
	g->first = s->tx.npackets;
	g->count = 0;
	g->bytes = 0;
	g->segment = pkt->hdr_len + pkt->payload_len;
	g->closed = !port->gso;
	g->to_len = dcpim_addr_to(pkt->path->addr, pkt->path->port, pkt->path->scope, port->family, &g->to);
	g->control_len = 0;
	if (!local->any && port->family == AF_INET) {
		struct in_pktinfo info = { 0 };

		memcpy(&info.ipi_spec_dst, local->addr + 12, 4);
		put_control(g, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
	} else if (!local->any) {
		struct in6_pktinfo info = { .ipi6_ifindex = pkt->path->scope };

		memcpy(&info.ipi6_addr, local->addr, 16);
		put_control(g, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
	}
	s->tx.ngroups++;
	return g;
}

static struct dcpim_tx_group *group_for(struct dcpim_shard *s, const struct dcpim_txpkt *pkt)
{
	u32 bytes = pkt->hdr_len + pkt->payload_len;
	struct dcpim_tx_group *g;

	if (s->tx.ngroups) {
		g = &s->tx.groups[s->tx.ngroups - 1];
		if (!g->closed && bytes <= g->segment && g->count < DCPIM_GSO_SEGMENTS &&
		    g->bytes + bytes <= DCPIM_GSO_BYTES && same_path(&g->path, pkt->path))
			return g;
	}
	return group_new(s, pkt);
}

static void add_packet(struct dcpim_shard *s, const struct dcpim_txpkt *pkt)
{
	struct dcpim_tx_group *g = group_for(s, pkt);
	u32 bytes = pkt->hdr_len + pkt->payload_len, i;
	struct dcpim_tx *tx = &s->tx;

	if (!g) {
		s->counters.tx_errors++;
		return;
	}
	tx->iov[tx->niov++] = (struct iovec){ pkt->hdr, pkt->hdr_len };
	tx->nheader += pkt->hdr_len;
	for (i = 0; i < pkt->nfrags; i++) {
		struct iovec *last = &tx->iov[tx->niov - 1];

		if (pkt->payload_len <= COPY_SMALL) {
			/* The kernel takes one short piece of memory faster than two. */
			memcpy((u8 *)last->iov_base + last->iov_len, pkt->frags[i].ptr, pkt->frags[i].len);
			last->iov_len += pkt->frags[i].len;
			tx->nheader += pkt->frags[i].len;
		} else if ((u8 *)last->iov_base + last->iov_len == pkt->frags[i].ptr)
			last->iov_len += pkt->frags[i].len;
		else
			tx->iov[tx->niov++] = (struct iovec){ (void *)pkt->frags[i].ptr, pkt->frags[i].len };
	}
	tx->npackets++;
	tx->packet_iov[tx->npackets] = tx->niov;
	g->count++;
	g->bytes += bytes;
	if (bytes < g->segment)
		g->closed = true;
}

/* Fill a batch from the core. Return: false when the core has nothing more. */
static bool collect(struct dcpim_shard *s)
{
	struct dcpim_tx *tx = &s->tx;
	struct dcpim_txpkt pkt;

	tx->ngroups = tx->npackets = tx->niov = tx->nheader = 0;
	tx->packet_iov[0] = 0;
	while (tx->ngroups < DCPIM_TX_GROUPS && tx->npackets < DCPIM_TX_PACKETS &&
	       tx->niov + 1 + DCPIM_TX_FRAGS <= DCPIM_TX_IOVS && tx->nheader + DCPIM_HDR_MAX + COPY_SMALL <= sizeof(tx->headers)) {
		pkt.hdr = tx->headers + tx->nheader;
		if (!dcpim_poll_tx(s->host, s->now, &pkt))
			return false;
		add_packet(s, &pkt);
	}
	return true;
}

static void group_message(struct dcpim_tx_group *g, struct iovec *iov, u32 niov, bool gso, struct mmsghdr *out)
{
	u32 control_len = g->control_len;

	if (gso) {
		u16 segment = (u16)g->segment;

		put_control(g, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof(segment));
	}
	out->msg_hdr = (struct msghdr){
		.msg_name = &g->to, .msg_namelen = g->to_len, .msg_iov = iov, .msg_iovlen = niov,
		.msg_control = g->control_len ? g->control : NULL, .msg_controllen = g->control_len,
	};
	g->control_len = control_len;
}

static void defer(struct deferred *d, const struct dcpim_tx_group *g, int error)
{
	if (error == EMSGSIZE)
		d->errors = g->port;
	if (d->n < DEFERRED) {
		d->at[d->n].path = g->path;
		d->at[d->n++].error = error;
	}
}

/* Errors that may be an older packet's: the socket reports them once, to whoever calls next. */
static bool stale(int error)
{
	return error == ECONNREFUSED || error == EHOSTUNREACH || error == ENETUNREACH || error == EPROTO ||
	       error == ENOPROTOOPT || error == EACCES || error == ENETDOWN || error == EHOSTDOWN;
}

/* The cheapest call that will do. */
static int send_one(int fd, const struct msghdr *msg)
{
	ssize_t n;

	if (msg->msg_iovlen == 1 && !msg->msg_controllen)
		n = sendto(fd, msg->msg_iov->iov_base, msg->msg_iov->iov_len, MSG_DONTWAIT | MSG_NOSIGNAL,
			   msg->msg_name, msg->msg_namelen);
	else
		n = sendmsg(fd, msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	return n < 0 ? -1 : 1;
}

/*
 * sendmmsg() until @n messages of one socket are sent.
 * Return: messages sent; *error says why not all, 0 if all.
 */
static u32 send_some(struct dcpim_shard *s, struct dcpim_port *port, struct mmsghdr *msgs, u32 n,
		     struct deferred *d, int *error)
{
	u32 done = 0;
	int tries = 0, r;

	*error = 0;
	while (done < n) {
		s->counters.tx_calls++;
		if (n - done == 1)
			r = send_one(port->fd, &msgs[done].msg_hdr);
		else
			r = sendmmsg(port->fd, msgs + done, n - done, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (r > 0) {
			done += (u32)r;
			s->counters.tx_datagrams += (u32)r;
			tries = 0;
			continue;
		}
		*error = errno;
		if (stale(*error))
			d->errors = port;
		if (*error == EINTR || (stale(*error) && ++tries < SEND_TRIES)) {
			*error = 0;
			continue;
		}
		break;
	}
	return done;
}

/* Keep a copy of packets that the kernel had no room for. */
static void hold_back(struct dcpim_shard *s, const struct dcpim_tx_group *g, u32 from)
{
	u32 first = s->tx.packet_iov[g->first + from], end = s->tx.packet_iov[g->first + g->count], i;
	struct dcpim_tx_held *h;
	struct dcpim_mem *mem;
	u32 bytes = 0;

	for (i = first; i < end; i++)
		bytes += (u32)s->tx.iov[i].iov_len;
	mem = dcpim_mem_alloc(&s->pool, (u32)sizeof(*h) + bytes);
	if (!mem) {
		s->counters.tx_errors++;
		return;
	}
	h = (struct dcpim_tx_held *)mem->data;
	h->mem = mem;
	h->group = *g;
	h->group.count = g->count - from;
	h->group.bytes = bytes;
	mem->used = sizeof(*h);
	for (i = first; i < end; i++) {
		memcpy(mem->data + mem->used, s->tx.iov[i].iov_base, s->tx.iov[i].iov_len);
		mem->used += (u32)s->tx.iov[i].iov_len;
	}
	dcpim_list_add_tail(&s->held, &h->node);
	s->nheld++;
	s->counters.tx_blocked++;
}

/* The packets of a group one by one, where segmentation was refused. Return: false when the socket is full. */
static bool send_singly(struct dcpim_shard *s, struct dcpim_tx_group *g, struct deferred *d, bool *clean)
{
	u32 i = 0, j, first;
	int error;

	*clean = true;
	while (i < g->count) {
		for (j = i; j < g->count; j++) {
			first = s->tx.packet_iov[g->first + j];
			group_message(g, &s->tx.iov[first], s->tx.packet_iov[g->first + j + 1] - first, false,
				      &s->tx.msgs[j - i]);
		}
		i += send_some(s, g->port, s->tx.msgs, g->count - i, d, &error);
		if (!error)
			break;
		if (error == EAGAIN) {
			hold_back(s, g, i);
			return false;
		}
		*clean = false;
		s->counters.tx_errors++;
		defer(d, g, error);
		i++;
	}
	return true;
}

/* Send groups @from.. that share a socket. Return: how many are dealt with; *full when the socket is. */
static u32 send_groups(struct dcpim_shard *s, u32 from, struct deferred *d, bool *full)
{
	struct dcpim_tx *tx = &s->tx;
	struct dcpim_port *port = tx->groups[from].port;
	u32 n = 0, done, first;
	bool clean;
	int error;

	while (from + n < tx->ngroups && tx->groups[from + n].port == port) {
		struct dcpim_tx_group *g = &tx->groups[from + n];

		first = tx->packet_iov[g->first];
		group_message(g, &tx->iov[first], tx->packet_iov[g->first + g->count] - first, g->count > 1,
			      &tx->msgs[n]);
		n++;
	}
	done = send_some(s, port, tx->msgs, n, d, &error);
	if (!error)
		return done;
	if (error == EAGAIN) {
		*full = true;
		return done;
	}
	if (tx->groups[from + done].count > 1) {
		if (!send_singly(s, &tx->groups[from + done], d, &clean))
			*full = true;
		else if (clean)
			port->gso = false; /* this device cannot segment UDP */
		return done + 1;
	}
	s->counters.tx_errors++;
	/* ENOBUFS is a full queue on the way out: a lost packet, as any other. */
	if (error != ENOBUFS && error != ENOMEM)
		defer(d, &tx->groups[from + done], error);
	return done + 1;
}

static void tell_core(struct dcpim_shard *s, struct deferred *d)
{
	const struct dcpim_route *route;
	u32 i;

	for (i = 0; i < d->n; i++) {
		const struct dcpim_path *path = &d->at[i].path;

		if (d->at[i].error == EMSGSIZE) {
			dcpim_route_forget(s, path->addr);
			if (!dcpim_route_find(s, path->addr, path->scope, &route) && route->mtu)
				dcpim_path_mtu(s->host, path,
					       dcpim_packet_for_mtu(s->engine, path->addr, route->mtu));
		} else if (d->at[i].error != ECONNREFUSED) {
			dcpim_unreachable(s->host, s->now, path, -EHOSTUNREACH);
		} /* else ICMP said so, perhaps of another peer: see the error queue */
	}
	if (d->errors)
		dcpim_port_errors(s, d->errors);
}

/* Return: true when all of it has gone. */
static bool send_held(struct dcpim_shard *s, struct deferred *d)
{
	struct mmsghdr msg;
	struct iovec iov;
	int error;

	while (s->nheld) {
		struct dcpim_tx_held *h = dcpim_container(s->held.next, struct dcpim_tx_held, node);
		struct dcpim_tx_group *g = &h->group;

		iov = (struct iovec){ h->mem->data + sizeof(*h), g->bytes };
		group_message(g, &iov, 1, g->count > 1, &msg);
		send_some(s, g->port, &msg, 1, d, &error);
		if (error == EAGAIN)
			return false;
		if (error)
			s->counters.tx_errors++;
		dcpim_list_del(&h->node);
		s->nheld--;
		dcpim_mem_put(&s->pool, h->mem);
	}
	return true;
}

bool dcpim_shard_transmit(struct dcpim_shard *s)
{
	bool more = true, full = false;
	struct deferred d;
	int round;
	u32 i;

	d.n = 0;
	d.errors = NULL;
	if (s->nheld && !send_held(s, &d))
		return false;
	for (round = 0; more && round < TX_ROUNDS; round++) {
		more = collect(s);
		for (i = 0; i < s->tx.ngroups && !full;)
			i += send_groups(s, i, &d, &full);
		for (; i < s->tx.ngroups; i++)
			hold_back(s, &s->tx.groups[i], 0);
		if (d.n || d.errors) {
			tell_core(s, &d);
			d.n = 0;
			d.errors = NULL;
			more = true;
		}
		if (full)
			return false;
	}
	return more;
}

void dcpim_tx_forget(struct dcpim_shard *s, const struct dcpim_port *port)
{
	struct dcpim_list *l, *next;

	for (l = s->held.next; l != &s->held; l = next) {
		struct dcpim_tx_held *h = dcpim_container(l, struct dcpim_tx_held, node);

		next = l->next;
		if (port && h->group.port != port)
			continue;
		dcpim_list_del(&h->node);
		s->nheld--;
		dcpim_mem_put(&s->pool, h->mem);
	}
}
