// SPDX-License-Identifier: BSD-2-Clause
/* A client's connections over kernel TCP. */
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "work.h"

static int tcp_connect(struct work_conn *c, u64 now)
{
	struct rackwire_dcpim_work *w = c->lane->work;
	int err = work_socket_open(c, SOCK_STREAM), one = 1;
	struct sockaddr_storage to;
	socklen_t length;

	(void)now;
	if (err)
		return err;
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	work_sockaddr(&w->address, work_transport_port(w, RACKWIRE_DCPIM_WORK_TCP), &to, &length);
	/* Also when it has succeeded already, which happens on this machine, poll says so. */
	if (connect(c->fd, (struct sockaddr *)&to, length) < 0 && errno != EINPROGRESS)
		return -errno;
	return 0;
}

static void tcp_push(struct work_conn *c, u64 now)
{
	struct work_lane *l = c->lane;
	u32 chunk = (u32)dcpim_min(c->length, WORK_CHUNK);

	while (c->tx_pos < c->tx_end) {
		u32 len = (u32)dcpim_min(c->tx_end - c->tx_pos, chunk);
		ssize_t n;

		/* What was not taken is made again: it follows from its place in the stream. */
		if (c->pattern)
			work_pattern_fill(c->seed, c->tx_pos, l->scratch, len);
		n = send(c->fd, c->pattern ? l->scratch : work_blank, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			if (errno == EAGAIN)
				c->blocked = true;
			else
				work_client_broken(c, now, -errno);
			return;
		}
		c->tx_pos += (u64)n;
		work_count(l, RACKWIRE_DCPIM_WORK_TX_BYTES, (u64)n);
		/* A thread that does nothing but send looks at the clock now and then. */
		if (c->tx_end == DCPIM_NEVER && rackwire_now_ns() >= l->deadline)
			return;
	}
}

static int tcp_send_head(struct work_conn *c, u64 now, const u8 *data, u32 len)
{
	ssize_t n = send(c->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	(void)now;
	if (n < 0)
		return -errno;
	return (u32)n == len ? 0 : -ENOBUFS;
}

static void tcp_shutdown(struct work_conn *c, u64 now)
{
	(void)now;
	shutdown(c->fd, SHUT_WR);
}

static u64 tcp_unacked(struct work_conn *c)
{
	int bytes = 0;

	ioctl(c->fd, SIOCOUTQ, &bytes);
	return bytes > 0 ? (u64)bytes : 0;
}

static void tcp_path(struct work_conn *c, u64 *rtx, u32 *srtt_us)
{
	struct tcp_info info = { 0 };
	socklen_t length = sizeof(info);

	if (getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &length))
		return;
	*srtt_us = info.tcpi_rtt;
	if (length >= offsetof(struct tcp_info, tcpi_bytes_retrans) + sizeof(info.tcpi_bytes_retrans))
		*rtx = info.tcpi_bytes_retrans;
}

const struct work_ops work_tcp_ops = {
	.connect = tcp_connect,
	.push = tcp_push,
	.send_head = tcp_send_head,
	.shutdown = tcp_shutdown,
	.unacked = tcp_unacked,
	.close = work_socket_close,
	.path = tcp_path,
};

void work_tcp_readable(struct work_conn *c, u64 now, int flags)
{
	u8 *data = c->lane->scratch;
	ssize_t n = recv(c->fd, data, WORK_CHUNK, flags);

	if (n > 0)
		work_client_bytes(c, now, data, (u32)n);
	else if (!n)
		work_client_eof(c, now);
	else if (errno != EAGAIN && errno != EINTR)
		work_client_broken(c, now, -errno);
}
