// SPDX-License-Identifier: BSD-2-Clause
/* Receiving: datagrams (or what GRO joined) in, packets to the core. */
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>
#include <time.h>
#include <linux/errqueue.h>

#include "clock.h"
#include "shard.h"

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define RX_ROUNDS 4	/* system calls before packets of ours get their turn */
#define BULK 1024	/* a datagram of this size has company */
#define BURST_NS 4000	/* so have datagrams that come this soon after each other */
#define ERRORS_AT_ONCE 16

/*
 * A received buffer is kept as it is when what arrived in it is at least this
 * much, so that kept memory is at most four times what it holds.
 */
#define HOLD_BY_REFERENCE (DCPIM_MEM_MAX_POOLED / 4)

static void *op_alloc(void *ctx, enum dcpim_slab slab, size_t size)
{
	return dcpim_slab_alloc(&((struct dcpim_shard *)ctx)->pool, slab, size);
}

static void op_free(void *ctx, enum dcpim_slab slab, void *ptr, size_t size)
{
	dcpim_slab_free(&((struct dcpim_shard *)ctx)->pool, slab, ptr, size);
}

static int op_hold(void *ctx, const struct dcpim_buf *in, struct dcpim_buf *out)
{
	struct dcpim_shard *s = ctx;
	struct dcpim_mem *mem;

	if (s->rx.datagram >= HOLD_BY_REFERENCE) {
		mem = in->cookie;
		dcpim_mem_ref(mem);
		*out = *in;
		s->counters.hold_ref_bytes += in->len;
		return 0;
	}
	mem = dcpim_mem_alloc(&s->pool, in->len);
	if (!mem)
		return -ENOMEM;
	memcpy(mem->data, in->ptr, in->len);
	*out = (struct dcpim_buf){ mem->data, in->len, mem };
	s->counters.hold_copy_bytes += in->len;
	return 0;
}

static void op_put(void *ctx, const struct dcpim_buf *buf)
{
	if (buf->cookie)
		dcpim_mem_put(&((struct dcpim_shard *)ctx)->pool, buf->cookie);
}

const struct dcpim_ops dcpim_user_ops = {
	.alloc = op_alloc,
	.free = op_free,
	.hold = op_hold,
	.put = op_put,
	.crc32c = dcpim_crc32c_fast,
};

int dcpim_rx_init(struct dcpim_shard *s)
{
	int i;

	for (i = 0; i < DCPIM_RX_BATCH; i++) {
		s->rx.mem[i] = dcpim_mem_alloc(&s->pool, DCPIM_MEM_MAX_POOLED);
		if (!s->rx.mem[i])
			return -ENOMEM;
		s->rx.iov[i].iov_base = s->rx.mem[i]->data;
		s->rx.iov[i].iov_len = DCPIM_MEM_MAX_POOLED;
	}
	return 0;
}

void dcpim_rx_fini(struct dcpim_shard *s)
{
	int i;

	for (i = 0; i < DCPIM_RX_BATCH; i++)
		if (s->rx.mem[i])
			dcpim_mem_put(&s->pool, s->rx.mem[i]);
}

/* What the control messages of one datagram say. */
struct rx_meta {
	u32 segment; /* bytes per packet in a GRO'd datagram; 0: it is one packet */
	bool have_to;
	u8 to[16];
};

static void parse_control(struct msghdr *msg, struct rx_meta *meta)
{
	struct cmsghdr *c;

	for (c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
			int value;

			memcpy(&value, CMSG_DATA(c), sizeof(value));
			meta->segment = value > 0 ? (u32)value : 0;
		} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo info;
			struct sockaddr_storage ss = { .ss_family = AF_INET };
			u32 scope;
			u16 port;

			memcpy(&info, CMSG_DATA(c), sizeof(info));
			((struct sockaddr_in *)&ss)->sin_addr = info.ipi_addr;
			dcpim_addr_from(&ss, meta->to, &port, &scope);
			meta->have_to = true;
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			struct in6_pktinfo info;

			memcpy(&info, CMSG_DATA(c), sizeof(info));
			memcpy(meta->to, &info.ipi6_addr, 16);
			meta->have_to = true;
		}
	}
}

/* The IPv4 header that a raw socket delivers. Return: its length, 0 if it is not right. */
static u32 ipv4_header(const u8 *data, u32 *length)
{
	u32 header, total;

	if (*length < 20 || data[0] >> 4 != 4)
		return 0;
	header = (data[0] & 0xfu) * 4;
	total = dcpim_get16(data + 2);
	if (header < 20 || header > *length || total < header)
		return 0;
	if (total < *length)
		*length = total;
	return header;
}

static void take_datagram(struct dcpim_shard *s, struct dcpim_port *port, u32 i)
{
	struct msghdr *msg = &s->rx.msgs[i].msg_hdr;
	u32 length = s->rx.msgs[i].msg_len, offset = 0, segment;
	struct rx_meta meta = { 0 };
	struct dcpim_rxpkt pkt = { .cookie = s->rx.mem[i] };
	const u8 *data = s->rx.mem[i]->data;

	if (msg->msg_flags & MSG_TRUNC) {
		s->counters.rx_truncated++;
		return;
	}
	if (msg->msg_controllen)
		parse_control(msg, &meta);
	dcpim_addr_from(&s->rx.from[i], pkt.path.addr, &pkt.path.port, &pkt.path.scope);
	if (s->engine->raw) {
		pkt.path.port = 0;
		if (port->family == AF_INET) {
			offset = ipv4_header(data, &length);
			if (!offset) {
				s->counters.rx_truncated++;
				return;
			}
		}
		if (length - offset < 4 ||
		    !dcpim_raw_port_wanted(s->engine, dcpim_get16(data + offset + 2), s->now)) {
			s->counters.rx_foreign++;
			return;
		}
	}
	pkt.path.local = meta.have_to && port->pktinfo ? dcpim_local_find(s, port, meta.to) :
							 dcpim_local_index(s, port->slot);
	segment = meta.segment ? meta.segment : length - offset;
	if (length == 1)
		return; /* from dcpim_port_unblock(), or as good as */
	s->rx.datagram = length;
	while (offset < length) {
		pkt.hdr = data + offset;
		pkt.total = (u32)dcpim_min(segment, length - offset);
		pkt.hdr_avail = pkt.total;
		dcpim_rx(s->host, s->now, &pkt);
		offset += pkt.total;
	}
}

/* Buffers that the core has kept are replaced. Return: false without memory. */
static bool refresh(struct dcpim_shard *s, u32 i)
{
	struct dcpim_mem *mem = s->rx.mem[i];

	if (mem->refs == 1)
		return true;
	mem = dcpim_mem_alloc(&s->pool, DCPIM_MEM_MAX_POOLED);
	if (!mem)
		return false;
	dcpim_mem_put(&s->pool, s->rx.mem[i]);
	s->rx.mem[i] = mem;
	s->rx.iov[i].iov_base = mem->data;
	return true;
}

static u32 prepare(struct dcpim_shard *s, struct dcpim_port *port, u32 room)
{
	bool control = port->gro || port->pktinfo;
	u32 i;

	for (i = 0; i < room && refresh(s, i); i++) {
		struct msghdr *msg = &s->rx.msgs[i].msg_hdr;

		msg->msg_name = &s->rx.from[i];
		msg->msg_namelen = sizeof(s->rx.from[i]);
		msg->msg_iov = &s->rx.iov[i];
		msg->msg_iovlen = 1;
		msg->msg_control = control ? s->rx.control[i] : NULL;
		msg->msg_controllen = control ? DCPIM_CMSG_SPACE : 0;
		msg->msg_flags = 0;
	}
	return i;
}

static int receive_some(struct dcpim_shard *s, struct dcpim_port *port, u32 room)
{
	ssize_t n;

	s->counters.rx_calls++;
	if (room > 1)
		return recvmmsg(port->fd, s->rx.msgs, room, MSG_DONTWAIT, NULL);
	n = recvmsg(port->fd, &s->rx.msgs[0].msg_hdr, MSG_DONTWAIT);
	if (n < 0)
		return -1;
	s->rx.msgs[0].msg_len = (u32)n;
	return 1;
}

/*
 * A lone small datagram is what a request or an answer looks like: take it with
 * the cheaper call, and do not ask for a second one. Datagrams that come close
 * together are taken in batches.
 */
u32 dcpim_port_receive(struct dcpim_shard *s, struct dcpim_port *port)
{
	u32 taken = 0, room;
	int round, n, i;

	for (round = 0; round < RX_ROUNDS; round++) {
		room = prepare(s, port, port->rx_burst ? DCPIM_RX_BATCH : 1);
		if (!room)
			break;
		n = receive_some(s, port, room);
		if (n < 0) {
			if (errno == EAGAIN || errno == EBADF || errno == ENOTSOCK)
				break;
			/* An ICMP error waits, and is reported once as the socket's own. */
			dcpim_port_errors(s, port);
			continue;
		}
		s->now = rackwire_now_ns();
		for (i = 0; i < n; i++)
			take_datagram(s, port, (u32)i);
		s->counters.rx_datagrams += (u32)n;
		taken += (u32)n;
		port->rx_burst = n > 1 || s->rx.msgs[0].msg_len >= BULK || s->now < port->rx_at + BURST_NS;
		port->rx_at = s->now;
		if ((u32)n < room || !port->rx_burst)
			break;
	}
	return taken;
}

/*
 * Wait in the receiving call itself, which saves the one that polls. A timer is
 * armed on the socket for the time that DCPIM_BLOCK_NS promises, and one byte
 * from ourselves ends it early.
 */
bool dcpim_port_block(struct dcpim_shard *s, struct dcpim_port *port, struct msghdr *msg)
{
	if (!prepare(s, port, 1))
		return false;
	*msg = s->rx.msgs[0].msg_hdr;
	return true;
}

void dcpim_port_unblock(const struct dcpim_port *port)
{
	struct sockaddr_storage to = port->addr;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&to;
	struct sockaddr_in *in = (struct sockaddr_in *)&to;

	if (to.ss_family == AF_INET && in->sin_addr.s_addr == htonl(INADDR_ANY))
		in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (to.ss_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr))
		in6->sin6_addr = in6addr_loopback;
	sendto(port->fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&to,
	       to.ss_family == AF_INET ? sizeof(*in) : sizeof(*in6));
}

u32 dcpim_port_blocked(struct dcpim_shard *s, struct dcpim_port *port, const struct msghdr *msg, ssize_t n)
{
	s->counters.rx_calls++;
	if (n < 0) {
		if (n != -EAGAIN && n != -EINTR)
			dcpim_port_errors(s, port);
		return 0;
	}
	s->rx.msgs[0].msg_hdr = *msg;
	s->rx.msgs[0].msg_len = (u32)n;
	take_datagram(s, port, 0);
	s->counters.rx_datagrams++;
	port->rx_burst = n >= BULK;
	port->rx_at = s->now;
	return 1 + (port->rx_burst ? dcpim_port_receive(s, port) : 0);
}

/* ---- ICMP ---- */

static void one_error(struct dcpim_shard *s, const struct dcpim_path *to, const struct sock_extended_err *ee,
		      const u8 *quoted, u32 length)
{
	s->counters.icmp_errors++;
	if (ee->ee_errno == EMSGSIZE) {
		/* From this host's own routing table, or from a router on the way. */
		if (ee->ee_origin != SO_EE_ORIGIN_LOCAL && !dcpim_sent(s->host, to, quoted, length))
			return;
		dcpim_route_forget(s, to->addr);
		if (ee->ee_info)
			dcpim_path_mtu(s->host, to, dcpim_packet_for_mtu(s->engine, to->addr, ee->ee_info));
		return;
	}
	if (ee->ee_origin != SO_EE_ORIGIN_ICMP && ee->ee_origin != SO_EE_ORIGIN_ICMP6)
		return;
	if (!dcpim_sent(s->host, to, quoted, length))
		return;
	switch (ee->ee_errno) {
	case ECONNREFUSED:
	case ENOPROTOOPT: /* protocol unreachable: nobody has dcPIM there */
	case EPROTO:
		dcpim_unreachable(s->host, s->now, to, -ECONNREFUSED);
		break;
	default:
		dcpim_unreachable(s->host, s->now, to, -EHOSTUNREACH);
	}
}

void dcpim_port_errors(struct dcpim_shard *s, struct dcpim_port *port)
{
	u8 data[512], control[512] __attribute__((aligned(8)));
	struct sockaddr_in6 from;
	struct iovec iov = { data, sizeof(data) };
	struct cmsghdr *c;
	int i;

	for (i = 0; i < ERRORS_AT_ONCE; i++) {
		struct msghdr msg = {
			.msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &iov, .msg_iovlen = 1,
			.msg_control = control, .msg_controllen = sizeof(control),
		};
		struct dcpim_path to = { .local = dcpim_local_index(s, port->slot) };
		ssize_t n = recvmsg(port->fd, &msg, MSG_ERRQUEUE | MSG_DONTWAIT);

		if (n < 0)
			break;
		if (!msg.msg_namelen)
			continue;
		dcpim_addr_from(&from, to.addr, &to.port, &to.scope);
		if (s->engine->raw)
			to.port = 0;
		for (c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
			struct sock_extended_err ee;

			if ((c->cmsg_level != IPPROTO_IP || c->cmsg_type != IP_RECVERR) &&
			    (c->cmsg_level != IPPROTO_IPV6 || c->cmsg_type != IPV6_RECVERR))
				continue;
			memcpy(&ee, CMSG_DATA(c), sizeof(ee));
			one_error(s, &to, &ee, data, (u32)n);
		}
	}
}
