// SPDX-License-Identifier: BSD-2-Clause
/* Options, names and figures of sockets. */
#include "socket.h"

#define MIN_BUFFER 4096
#define MAX_BUFFER (1 << 30)

static bool fixed_kind(const struct rackwire_dcpim_socket *sock)
{
	return sock->state != RACKWIRE_DCPIM_STATE_NEW && sock->state != RACKWIRE_DCPIM_STATE_BOUND;
}

static int set_priority(struct rackwire_dcpim_socket *sock, s64 value)
{
	u8 kind = value == 7 ? RACKWIRE_DCPIM_MESSAGE : RACKWIRE_DCPIM_STREAM;

	if (value < 0 || value > 7)
		return -EINVAL;
	if (kind != sock->kind && fixed_kind(sock))
		return -EISCONN;
	sock->kind = kind;
	sock->priority = (u8)value;
	return 0;
}

static int set_buffer(struct rackwire_dcpim_socket *sock, bool snd, s64 value)
{
	if (value < MIN_BUFFER || value > MAX_BUFFER)
		return -EINVAL;
	if (snd)
		sock->sndbuf = (u32)value;
	else
		sock->rcvbuf = (u32)value;
	return sock->flow ? dcpim_flow_set_buffers(sock->flow, snd ? (u32)value : 0, snd ? 0 : (u32)value) : 0;
}

static int set_locked(struct rackwire_dcpim_socket *sock, int option, s64 value)
{
	switch (option) {
	case RACKWIRE_DCPIM_PRIORITY:
		return set_priority(sock, value);
	case RACKWIRE_DCPIM_SNDBUF:
	case RACKWIRE_DCPIM_RCVBUF:
		return set_buffer(sock, option == RACKWIRE_DCPIM_SNDBUF, value);
	case RACKWIRE_DCPIM_SNDTIMEO:
	case RACKWIRE_DCPIM_RCVTIMEO:
		if (value < 0)
			return -EINVAL;
		*(option == RACKWIRE_DCPIM_SNDTIMEO ? &sock->sndtimeo : &sock->rcvtimeo) = (u64)value;
		return 0;
	case RACKWIRE_DCPIM_NONBLOCK:
		sock->nonblock = value != 0;
		return 0;
	case RACKWIRE_DCPIM_REUSEADDR:
		sock->reuseaddr = value != 0;
		return 0;
	case RACKWIRE_DCPIM_LINGER:
		if (value < -1)
			return -EINVAL;
		sock->linger = value;
		return 0;
	case RACKWIRE_DCPIM_ENCAP_PORT:
		if (value < 0 || value > 65535 || (value && sock->shard->engine->raw))
			return -EINVAL;
		if (fixed_kind(sock))
			return -EISCONN;
		sock->encap_port = (u16)value;
		return 0;
	case RACKWIRE_DCPIM_ACCEPT_KINDS:
		if (value < 1 || value > 3)
			return -EINVAL;
		if (fixed_kind(sock))
			return -EISCONN;
		sock->accept_kinds = (u8)value;
		return 0;
	default:
		return -ENOPROTOOPT;
	}
}

int rackwire_dcpim_setopt(struct rackwire_dcpim_socket *sock, int option, int64_t value)
{
	struct dcpim_shard *s = dcpim_socket_lock(sock);
	int err = set_locked(sock, option, value);

	dcpim_shard_flush(s);
	dcpim_shard_unlock(s);
	return err;
}

static s64 readable_bytes(const struct rackwire_dcpim_socket *sock, const struct dcpim_flow_info *info)
{
	struct dcpim_rxmsg msg;
	struct dcpim_buf buf;

	if (!sock->flow)
		return 0;
	if (sock->kind == RACKWIRE_DCPIM_STREAM)
		return (s64)info->rx_queued;
	return dcpim_msg_peek(sock->flow, &msg, &buf, 0, 1) >= 0 ? msg.size : 0;
}

static int get_locked(struct rackwire_dcpim_socket *sock, int option, int64_t *value)
{
	const struct rackwire_dcpim_config *config = &sock->shard->engine->config;
	struct dcpim_flow_info info = { .max_msg = config->max_msg };

	if (sock->flow)
		dcpim_flow_info(sock->flow, &info);
	switch (option) {
	case RACKWIRE_DCPIM_PRIORITY:
		*value = sock->priority;
		return 0;
	case RACKWIRE_DCPIM_SNDBUF:
		*value = sock->sndbuf ? sock->sndbuf : config->sndbuf;
		return 0;
	case RACKWIRE_DCPIM_RCVBUF:
		*value = sock->rcvbuf ? sock->rcvbuf : config->rcvbuf;
		return 0;
	case RACKWIRE_DCPIM_SNDTIMEO:
		*value = (s64)sock->sndtimeo;
		return 0;
	case RACKWIRE_DCPIM_RCVTIMEO:
		*value = (s64)sock->rcvtimeo;
		return 0;
	case RACKWIRE_DCPIM_NONBLOCK:
		*value = sock->nonblock;
		return 0;
	case RACKWIRE_DCPIM_REUSEADDR:
		*value = sock->reuseaddr;
		return 0;
	case RACKWIRE_DCPIM_LINGER:
		*value = sock->linger;
		return 0;
	case RACKWIRE_DCPIM_ENCAP_PORT:
		*value = sock->encap_port;
		return 0;
	case RACKWIRE_DCPIM_ACCEPT_KINDS:
		*value = sock->accept_kinds ? sock->accept_kinds : 1 << sock->kind;
		return 0;
	case RACKWIRE_DCPIM_ERROR:
		*value = -sock->error;
		sock->error = 0;
		return 0;
	case RACKWIRE_DCPIM_KIND:
		*value = sock->kind;
		return 0;
	case RACKWIRE_DCPIM_ACCEPTING:
		*value = sock->state == RACKWIRE_DCPIM_STATE_LISTENING;
		return 0;
	case RACKWIRE_DCPIM_MAX_MSG:
		*value = info.max_msg;
		return 0;
	case RACKWIRE_DCPIM_READABLE_BYTES:
		*value = readable_bytes(sock, &info);
		return 0;
	case RACKWIRE_DCPIM_UNACKED_BYTES:
		*value = (s64)(info.tx_queued + sock->corked);
		return 0;
	default:
		return -ENOPROTOOPT;
	}
}

int rackwire_dcpim_getopt(struct rackwire_dcpim_socket *sock, int option, int64_t *value)
{
	struct dcpim_shard *s;
	int err;

	if (!value)
		return -EINVAL;
	s = dcpim_socket_lock(sock);
	err = get_locked(sock, option, value);
	dcpim_shard_unlock(s);
	return err;
}

/* ---- names ---- */

static int give_name(const u8 addr[16], u16 port, u32 scope, int family, struct sockaddr *out, socklen_t *length)
{
	struct sockaddr_in6 name;
	socklen_t have;

	if (!out || !length)
		return -EINVAL;
	have = dcpim_addr_to(addr, port, scope, family, &name);
	memcpy(out, &name, dcpim_min(have, *length));
	*length = have;
	return 0;
}

int rackwire_dcpim_getsockname(struct rackwire_dcpim_socket *sock, struct sockaddr *addr, socklen_t *length)
{
	struct dcpim_shard *s = dcpim_socket_lock(sock);
	int err = give_name(sock->laddr, sock->lport, 0, sock->family, addr, length);

	dcpim_shard_unlock(s);
	return err;
}

int rackwire_dcpim_getpeername(struct rackwire_dcpim_socket *sock, struct sockaddr *addr, socklen_t *length)
{
	struct dcpim_shard *s = dcpim_socket_lock(sock);
	int err = -ENOTCONN;

	/* A connection that broke before it was accepted still has a name to accept by. */
	if (sock->pport && (sock->state == RACKWIRE_DCPIM_STATE_CONNECTED ||
			    (sock->state == RACKWIRE_DCPIM_STATE_FAILED && sock->error)))
		err = give_name(sock->paddr, sock->pport, sock->scope, sock->family, addr, length);
	dcpim_shard_unlock(s);
	return err;
}

int rackwire_dcpim_socket_info(struct rackwire_dcpim_socket *sock, struct rackwire_dcpim_socket_info *out)
{
	struct dcpim_flow_info info = { 0 };
	struct dcpim_shard *s;

	if (!out || out->size != sizeof(*out))
		return -EINVAL;
	s = dcpim_socket_lock(sock);
	if (sock->flow)
		dcpim_flow_info(sock->flow, &info);
	*out = (struct rackwire_dcpim_socket_info){
		.size = sizeof(*out),
		.state = sock->state,
		.kind = sock->kind,
		.error = sock->error,
		.srtt_us = info.srtt_us,
		.max_packet = info.path.max_packet,
		.thread = s->index,
		.max_msg = info.max_msg,
		.tx_queued = info.tx_queued + sock->corked,
		.rx_queued = info.rx_queued,
		.bytes_tx = info.bytes_tx,
		.bytes_rx = info.bytes_rx,
		.rtx_bytes = info.rtx_bytes,
	};
	dcpim_shard_unlock(s);
	return 0;
}
