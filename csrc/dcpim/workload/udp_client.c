// SPDX-License-Identifier: BSD-2-Clause
/* A client's sessions over kernel UDP: plain datagrams, nothing is sent again. */
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "work.h"

#define BATCH 32
#define IPV4_AND_UDP 28
#define IPV6_AND_UDP 48

/* Datagrams of a stream are as long as the path carries whole. */
static void fit_path(struct work_conn *c)
{
	bool six = c->lane->work->address.ss_family == AF_INET6;
	socklen_t length = sizeof(int);
	int mtu = 0;

	if (getsockopt(c->fd, six ? IPPROTO_IPV6 : IPPROTO_IP, six ? IPV6_MTU : IP_MTU, &mtu, &length))
		mtu = 1500;
	mtu -= six ? IPV6_AND_UDP : IPV4_AND_UDP;
	c->length = (u32)dcpim_min(c->length, dcpim_min((u64)mtu, RACKWIRE_DCPIM_WORK_MAX_DATAGRAM));
	c->length = (u32)dcpim_max(c->length, SERVICE_DATAGRAM_LEN);
}

static int udp_connect(struct work_conn *c, u64 now)
{
	struct rackwire_dcpim_work *w = c->lane->work;
	int err = work_socket_open(c, SOCK_DGRAM), size = 4 << 20;
	struct sockaddr_storage to;
	socklen_t length;

	(void)now;
	if (err)
		return err;
	setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	work_sockaddr(&w->address, work_transport_port(w, RACKWIRE_DCPIM_WORK_UDP), &to, &length);
	if (connect(c->fd, (struct sockaddr *)&to, length) < 0)
		return -errno;
	if (w->config.kind == RACKWIRE_DCPIM_WORK_STREAM)
		fit_path(c);
	return 0;
}

static void send_error(struct work_conn *c, u64 now, int error)
{
	if (error == EAGAIN || error == ENOBUFS)
		c->blocked = error == EAGAIN;
	else if (error == EMSGSIZE)
		work_fail(c->lane->work, -EMSGSIZE, "a datagram of %u bytes does not fit the path", c->length);
	else if (error != EINTR)
		work_client_broken(c, now, -error);
}

static u16 flags_of(const struct work_conn *c)
{
	return c->pattern ? SERVICE_CHECK : 0;
}

static void fill(const struct work_conn *c, u8 *out, u8 type, u64 number)
{
	struct service_datagram head = { type, flags_of(c), c->seed, number };
	u32 rest = c->length - SERVICE_DATAGRAM_LEN;

	service_datagram_put(out, &head);
	if (c->pattern)
		work_pattern_fill(c->seed, work_message_pos(number, c->length, SERVICE_DATAGRAM_LEN),
				  out + SERVICE_DATAGRAM_LEN, rest);
}

static int udp_send_request(struct work_conn *c, u64 now, struct work_request *r)
{
	u8 *out = c->lane->scratch;

	(void)now;
	fill(c, out, SERVICE_PING, r->number);
	if (send(c->fd, out, c->length, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return 0;
	return errno == EINTR || errno == ENOBUFS ? -EAGAIN : -errno;
}

void work_udp_ask(struct work_conn *c, u64 now)
{
	struct service_datagram head = { SERVICE_ASK, 0, c->seed, 0 };
	u8 out[SERVICE_ASK_LEN] = { 0 };

	if (!c->asking)
		c->asked = 0;
	c->asking = true;
	c->asked++;
	c->ask_at = now;
	service_datagram_put(out, &head);
	if (send(c->fd, out, sizeof(out), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		send_error(c, now, errno);
}

static void take_report(struct work_conn *c, u64 now, const struct service_report *r)
{
	struct work_lane *l = c->lane;
	u64 sent = c->requests - c->slice_requests, bytes, requests;

	if (!c->asking)
		return;
	c->asking = false;
	bytes = r->bytes - dcpim_min(c->peer_bytes, r->bytes);
	requests = r->requests - dcpim_min(c->peer_requests, r->requests);
	c->peer_bytes = r->bytes;
	c->peer_requests = r->requests;
	if (c->state == WORK_HELLO) {
		c->state = WORK_READY;
		work_lane_check(l, now);
	} else if (c->state == WORK_LEAVING) {
		c->reported = true;
		work_report_take(c, r);
		work_client_eof(c, now);
	} else if (work_udp_one_way(c) && l->work->record) {
		work_count(l, RACKWIRE_DCPIM_WORK_MEASURED_BYTES, bytes);
		work_count(l, RACKWIRE_DCPIM_WORK_MEASURED_REQUESTS, requests);
		work_count(l, RACKWIRE_DCPIM_WORK_LOST, sent - dcpim_min(sent, requests));
	}
}

static void take_pong(struct work_conn *c, const struct service_datagram *head, const u8 *data, u32 len)
{
	struct work_lane *l = c->lane;
	struct work_request *r = c->slots ? work_request_find(c, head->number, 8) : NULL;
	u64 corrupt = c->corrupt;

	if (!c->slots || len != c->length)
		return;
	c->rx_pos += len;
	work_count(l, RACKWIRE_DCPIM_WORK_RX_BYTES, len);
	work_check(c, work_message_pos(head->number, len, SERVICE_DATAGRAM_LEN), data + SERVICE_DATAGRAM_LEN,
		   len - SERVICE_DATAGRAM_LEN, head->number);
	if (r)
		work_check_number(c, corrupt, SERVICE_DATAGRAM_LEN);
	if (r)
		work_request_done(c, r);
	else
		work_count(l, RACKWIRE_DCPIM_WORK_LATE, 1);
}

void work_udp_readable(struct work_conn *c, u64 now, int flags)
{
	u8 *data = c->lane->scratch;
	ssize_t n = recv(c->fd, data, WORK_CHUNK, flags);
	struct service_datagram head;
	struct service_report report;

	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			work_client_broken(c, now, -errno);
		return;
	}
	/* Anything else is not for us. */
	if (service_datagram_get(data, (size_t)n, &head) || head.session != c->seed)
		return;
	if (head.type == SERVICE_PONG)
		take_pong(c, &head, data, (u32)n);
	else if (head.type == SERVICE_REPORT &&
		 !service_report_get(data + SERVICE_DATAGRAM_LEN, (size_t)n - SERVICE_DATAGRAM_LEN, &report))
		take_report(c, now, &report);
}

/* How many datagrams may go now. */
static u32 allowance(struct work_conn *c, u64 now)
{
	struct rackwire_dcpim_work *w = c->lane->work;
	u64 left = c->left;

	if (left != DCPIM_NEVER && w->config.kind == RACKWIRE_DCPIM_WORK_STREAM)
		left = (left + c->length - 1) / c->length;
	left = dcpim_min(left, dcpim_min(BATCH, WORK_CHUNK / c->length));
	if (!w->config.interval_ns)
		return (u32)left;
	if (now < c->next_at) {
		c->lane->deadline = dcpim_min(c->lane->deadline, c->next_at);
		return 0;
	}
	c->next_at = dcpim_max(c->next_at + w->config.interval_ns, now);
	return left ? 1 : 0;
}

void work_udp_flood(struct work_conn *c, u64 now)
{
	struct work_lane *l = c->lane;
	struct rackwire_dcpim_work *w = l->work;
	struct mmsghdr msgs[BATCH];
	struct iovec iov[BATCH];
	u32 i, n = c->blocked ? 0 : allowance(c, now);
	u64 bytes, cost;
	int sent;

	if (!n)
		return;
	for (i = 0; i < n; i++) {
		fill(c, l->scratch + i * c->length, SERVICE_DATA, c->requests + i);
		iov[i] = (struct iovec){ l->scratch + i * c->length, c->length };
		msgs[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &iov[i], .msg_iovlen = 1 } };
	}
	sent = sendmmsg(c->fd, msgs, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent < 0) {
		send_error(c, now, errno);
		return;
	}
	bytes = (u64)sent * c->length;
	cost = w->config.kind == RACKWIRE_DCPIM_WORK_STREAM ? bytes : (u64)sent;
	c->requests += (u32)sent;
	c->tx_pos += bytes;
	if (c->left != DCPIM_NEVER)
		c->left -= dcpim_min(c->left, cost);
	work_count(l, RACKWIRE_DCPIM_WORK_REQUESTS, (u64)sent);
	work_count(l, RACKWIRE_DCPIM_WORK_TX_BYTES, bytes);
}

static u64 udp_unacked(struct work_conn *c)
{
	(void)c;
	return 0;
}

static void udp_path(struct work_conn *c, u64 *rtx, u32 *srtt_us)
{
	(void)c;
	*rtx = 0;
	*srtt_us = 0;
}

const struct work_ops work_udp_ops = {
	.connect = udp_connect,
	.send_request = udp_send_request,
	.shutdown = work_udp_ask, /* there is nothing to end but the account to ask for */
	.unacked = udp_unacked,
	.close = work_socket_close,
	.path = udp_path,
};
