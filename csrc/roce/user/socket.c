// SPDX-License-Identifier: BSD-2-Clause
/* The kernel's socket under a device: opening it, its errors, and what it puts into IPv4 headers. */
#include <linux/filter.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include <linux/errqueue.h>

#include "dev.h"

#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef UDP_NO_CHECK6_RX
#define UDP_NO_CHECK6_RX 102
#endif

#define ERRORS_AT_ONCE 16
#define PROBE_BYTES 24
#define PROBE_MS 200

int roce_fail(char *error, size_t length, int err, const char *format, ...)
{
	va_list args;

	if (error && length) {
		va_start(args, format);
		vsnprintf(error, length, format, args);
		va_end(args);
	}
	return err;
}

static void set(int fd, int level, int option, int value)
{
	setsockopt(fd, level, option, &value, sizeof(value));
}

/* What decides about the headers of what is sent. The IPv4 ones matter on an IPv6 socket that carries IPv4 too. */
static void set_headers(const struct rackwire_roce_dev *dev, int fd)
{
	/* Without fragments the identification is 0. */
	set(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO);
	set(fd, IPPROTO_IP, IP_TOS, dev->tos);
	if (dev->family == AF_INET6) {
		set(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO);
		set(fd, IPPROTO_IPV6, IPV6_TCLASS, dev->tos);
	}
}

static void set_receiving(const struct rackwire_roce_dev *dev, int fd)
{
	set(fd, IPPROTO_IP, IP_RECVERR, 1);
	set(fd, IPPROTO_IP, IP_RECVTOS, 1);
	if (dev->wildcard)
		set(fd, IPPROTO_IP, IP_PKTINFO, 1);
	if (dev->family == AF_INET)
		return;
	set(fd, IPPROTO_IPV6, IPV6_V6ONLY, !dev->wildcard);
	set(fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
	/* The ICRC protects more than the UDP checksum, which the kernel's rdma_rxe leaves 0 over IPv6 as well. */
	set(fd, IPPROTO_UDP, UDP_NO_CHECK6_RX, 1);
	set(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
	if (dev->wildcard)
		set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
}

static void set_buffers(struct rackwire_roce_dev *dev)
{
	int want = (int)dev->config.rcvbuf, have = 0;
	socklen_t len = sizeof(have);

	/* The kernel doubles the value; without privilege it cuts it to net.core.rmem_max. */
	if (setsockopt(dev->fd, SOL_SOCKET, SO_RCVBUFFORCE, &want, sizeof(want)) < 0)
		set(dev->fd, SOL_SOCKET, SO_RCVBUF, want);
	if (setsockopt(dev->fd, SOL_SOCKET, SO_SNDBUFFORCE, &want, sizeof(want)) < 0)
		set(dev->fd, SOL_SOCKET, SO_SNDBUF, want);
	getsockopt(dev->fd, SOL_SOCKET, SO_RCVBUF, &have, &len);
	dev->rcvbuf = (u32)have;
}

int roce_socket_open(struct rackwire_roce_dev *dev, bool reuseport, char *error, size_t length)
{
	struct sockaddr_in6 name;
	socklen_t len;
	int err, on = 1;

	dev->fd = socket(dev->family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (dev->fd < 0)
		return roce_fail(error, length, -errno, "UDP socket: %s", strerror(errno));
	if (reuseport)
		set(dev->fd, SOL_SOCKET, SO_REUSEPORT, 1);
	set_headers(dev, dev->fd);
	set_receiving(dev, dev->fd);
	set_buffers(dev);
	if (!(dev->config.flags & RACKWIRE_ROCE_NO_GSO)) {
		dev->gso = true;
		dev->gro = !setsockopt(dev->fd, IPPROTO_UDP, UDP_GRO, &on, sizeof(on));
	}
	len = roce_addr_to(dev->local, dev->config.udp_port, dev->scope, dev->family, &name);
	if (bind(dev->fd, (struct sockaddr *)&name, len) == 0)
		return 0;
	err = -errno;
	if (err == -EADDRINUSE)
		return roce_fail(error, length, err,
				 "UDP port %u is taken by another user's process, or by the kernel's rdma_rxe",
				 dev->config.udp_port);
	return roce_fail(error, length, err, "bind %s: %s", dev->config.local[0] ? dev->config.local : "UDP socket",
			 strerror(-err));
}

/* ---- ICMP ---- */

static void one_error(struct rackwire_roce_dev *dev, const struct roce_path *path, const struct sock_extended_err *ee,
		      const u8 *quoted, u32 length)
{
	int error = ee->ee_errno == ECONNREFUSED ? -ECONNREFUSED : -EHOSTUNREACH;
	u64 mark;

	/* A packet that has become too large for its path is lost like any other. */
	if ((ee->ee_origin != SO_EE_ORIGIN_ICMP && ee->ee_origin != SO_EE_ORIGIN_ICMP6) || ee->ee_errno == EMSGSIZE ||
	    length < ROCE_BTH_LEN)
		return;
	/* Anyone can send ICMP; only who saw one of our packets can quote it. */
	mark = roce_packet_mark(quoted, length);
	if (roce_mark_is_ours(dev, mark))
		roce_unreachable(dev->core, dev->now, path, error);
	else
		roce_share_unreachable(dev, path, error, mark);
}

void roce_socket_errors(struct rackwire_roce_dev *dev)
{
	u8 data[512], control[512] __attribute__((aligned(8)));
	struct sockaddr_in6 from;
	struct iovec iov = { data, sizeof(data) };
	struct cmsghdr *c;
	u16 port;
	int i;

	dev->icmp = false;
	for (i = 0; i < ERRORS_AT_ONCE; i++) {
		struct msghdr msg = {
			.msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &iov, .msg_iovlen = 1,
			.msg_control = control, .msg_controllen = sizeof(control),
		};
		ssize_t n = recvmsg(dev->fd, &msg, MSG_ERRQUEUE | MSG_DONTWAIT);
		struct roce_path path = { 0 };

		if (n < 0)
			break;
		if (!msg.msg_namelen)
			continue;
		roce_addr_from(&from, path.peer, &port, &path.scope);
		memcpy(path.local, dev->local, 16);
		for (c = CMSG_FIRSTHDR(&msg); c && dev->wildcard; c = CMSG_NXTHDR(&msg, c))
			if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
				memset(path.local, 0, 10);
				memset(path.local + 10, 0xff, 2);
				memcpy(path.local + 12, CMSG_DATA(c) + offsetof(struct in_pktinfo, ipi_addr), 4);
			} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
				memcpy(path.local, CMSG_DATA(c) + offsetof(struct in6_pktinfo, ipi6_addr), 16);
			}
		for (c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
			struct sock_extended_err ee;

			if ((c->cmsg_level != IPPROTO_IP || c->cmsg_type != IP_RECVERR) &&
			    (c->cmsg_level != IPPROTO_IPV6 || c->cmsg_type != IPV6_RECVERR))
				continue;
			memcpy(&ee, CMSG_DATA(c), sizeof(ee));
			one_error(dev, &path, &ee, data, (u32)n);
		}
	}
}

/* ---- IPv4 identification ---- */

/* A socket that sees the IP header of the one datagram to @port; lesser privilege sees none. */
static int raw_socket(u16 port)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0),
		BPF_STMT(BPF_LD | BPF_H | BPF_IND, 2),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, port, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0xffff),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog prog = { .len = sizeof(code) / sizeof(code[0]), .filter = code };
	int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_UDP);

	if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Does the header say what the ICRC of ours assumes? -EAGAIN: it has not come. */
static int look(int raw, const u8 *payload)
{
	u8 packet[128];
	struct iphdr ip;
	ssize_t n;

	while ((n = recv(raw, packet, sizeof(packet), MSG_DONTWAIT)) > 0) {
		if (n != (ssize_t)(sizeof(ip) + sizeof(struct udphdr) + PROBE_BYTES) ||
		    memcmp(packet + n - PROBE_BYTES, payload, PROBE_BYTES))
			continue;
		memcpy(&ip, packet, sizeof(ip));
		return ip.id || ip.frag_off != htons(ROCE_IP_DF) ? -EOPNOTSUPP : 1;
	}
	return -EAGAIN;
}

int roce_probe_id(struct rackwire_roce_dev *dev)
{
	static const u8 loopback[16] = { [10] = 0xff, 0xff, 127, 0, 0, 1 };
	const u8 *addr = dev->wildcard ? loopback : dev->local;
	struct sockaddr_in6 own;
	socklen_t len = sizeof(own);
	struct pollfd pfd;
	u8 payload[PROBE_BYTES], bytes[16];
	int raw = -1, fd, result = 0, i;
	u32 scope;
	u16 port;

	if (!roce_addr_is_v4(addr))
		return 0;
	for (i = 0; i < PROBE_BYTES; i++)
		payload[i] = (u8)(dev->config.seed >> i % 8 * 8 ^ (u64)i);
	fd = socket(dev->family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return 0;
	if (dev->family == AF_INET6)
		set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
	set_headers(dev, fd);
	i = (int)roce_addr_to(addr, 0, 0, dev->family, &own);
	if (bind(fd, (struct sockaddr *)&own, (socklen_t)i) < 0 || getsockname(fd, (struct sockaddr *)&own, &len) < 0)
		goto out;
	roce_addr_from(&own, bytes, &port, &scope);
	raw = raw_socket(port);
	if (raw < 0 || sendto(fd, payload, sizeof(payload), 0, (struct sockaddr *)&own, len) < 0)
		goto out;
	pfd = (struct pollfd){ .fd = raw, .events = POLLIN };
	while ((result = look(raw, payload)) == -EAGAIN && poll(&pfd, 1, PROBE_MS) > 0)
		;
	if (result == -EAGAIN)
		result = 0;
out:
	if (raw >= 0)
		close(raw);
	close(fd);
	return result;
}
