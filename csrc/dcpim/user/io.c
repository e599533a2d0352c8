// SPDX-License-Identifier: BSD-2-Clause
/* Sending and receiving through sockets. */
#include <limits.h>
#include <stdlib.h>

#include "socket.h"

#define SEND_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE)
#define RECV_FLAGS (MSG_DONTWAIT | MSG_PEEK | MSG_WAITALL | MSG_TRUNC | MSG_NOSIGNAL)
#define MAX_IOV 1024

#define CHUNK_SMALL 2016 /* of the 2 KiB class */
#define CHUNK_QUEUED 16384
#define FLUSH_BYTES (256 << 10) /* queued by one call before the packets are sent */
#define PIECES 32

/* A position in the caller's memory. */
struct cursor {
	const struct iovec *iov;
	int count;
	size_t offset;
	size_t left;
};

static int cursor_init(struct cursor *c, const struct iovec *iov, int count)
{
	int i;

	if (count < 0 || count > MAX_IOV || (count && !iov))
		return -EINVAL;
	*c = (struct cursor){ .iov = iov, .count = count };
	for (i = 0; i < count; i++) {
		if (iov[i].iov_len > SSIZE_MAX - c->left)
			return -EINVAL;
		c->left += iov[i].iov_len;
	}
	return 0;
}

static u8 *cursor_piece(struct cursor *c, size_t want, size_t *got)
{
	while (c->count && c->offset == c->iov->iov_len) {
		c->iov++;
		c->count--;
		c->offset = 0;
	}
	*got = dcpim_min(want, c->iov->iov_len - c->offset);
	c->offset += *got;
	c->left -= *got;
	return (u8 *)c->iov->iov_base + c->offset - *got;
}

static void cursor_read(struct cursor *c, u8 *to, size_t n)
{
	size_t got;

	while (n) {
		const u8 *from = cursor_piece(c, n, &got);

		memcpy(to, from, got);
		to += got;
		n -= got;
	}
}

static void cursor_write(struct cursor *c, const u8 *from, size_t n)
{
	size_t got;

	while (n) {
		u8 *to = cursor_piece(c, n, &got);

		memcpy(to, from, got);
		from += got;
		n -= got;
	}
}

/* The error of a connection is told once. */
static int take_error(struct rackwire_dcpim_socket *sock)
{
	int err = sock->error;

	sock->error = 0;
	return err;
}

/* ---- sending ---- */

static bool connected_or_not(void *arg)
{
	struct rackwire_dcpim_socket *sock = arg;

	return sock->closed || sock->state != RACKWIRE_DCPIM_STATE_CONNECTING;
}

static bool send_ready(void *arg)
{
	struct rackwire_dcpim_socket *sock = arg;

	return sock->closed || !sock->flow || sock->wr_shut || !sock->wr_blocked;
}

/* May this socket send, as far as its state goes? */
static int send_state(struct rackwire_dcpim_socket *sock)
{
	if (sock->error)
		return take_error(sock);
	if (sock->state == RACKWIRE_DCPIM_STATE_FAILED || sock->wr_shut)
		return -EPIPE;
	if (sock->state != RACKWIRE_DCPIM_STATE_CONNECTED && sock->state != RACKWIRE_DCPIM_STATE_CONNECTING)
		return -ENOTCONN;
	return 0;
}

int dcpim_socket_uncork(struct rackwire_dcpim_socket *sock)
{
	struct dcpim_mem *mem = sock->chunk;
	struct dcpim_buf buf;
	int r;

	if (!sock->corked || !sock->flow)
		return 0;
	buf = (struct dcpim_buf){ mem->data + mem->used - sock->corked, sock->corked, mem };
	dcpim_mem_ref(mem);
	r = dcpim_send(sock->flow, sock->shard->now, &buf);
	if (r < 0) {
		mem->refs--;
		return r;
	}
	sock->corked = 0;
	if (mem->used == mem->size) {
		mem->owner = NULL;
		sock->chunk = NULL;
		dcpim_mem_put(&sock->shard->pool, mem);
	}
	return 0;
}

static int chunk_new(struct rackwire_dcpim_socket *sock, size_t left)
{
	struct dcpim_flow_info info;
	u32 size;

	if (left >= CHUNK_QUEUED) {
		size = (u32)dcpim_min(left, DCPIM_MEM_MAX_POOLED);
	} else {
		/* While earlier bytes wait, more small writes will: give them room to lie together. */
		dcpim_flow_info(sock->flow, &info);
		size = info.tx_queued || left > CHUNK_SMALL ? CHUNK_QUEUED : CHUNK_SMALL;
	}
	sock->chunk = dcpim_mem_alloc(&sock->shard->pool, size);
	if (!sock->chunk)
		return -ENOMEM;
	sock->chunk->owner = &sock->chunk;
	return 0;
}

/* Queue stream bytes until the core refuses. Return: 0, -EAGAIN or an error. */
static int send_bytes(struct rackwire_dcpim_socket *sock, struct cursor *c, bool more)
{
	u32 payload = DCPIM_MAX_PACKET, n, unflushed = 0;
	struct dcpim_flow_info info;
	int err;

	if (more) {
		dcpim_flow_info(sock->flow, &info);
		payload = info.path.max_packet ? info.path.max_packet : sock->shard->engine->cfg.max_packet;
		payload -= DCPIM_DATA_LEN;
	}
	while (c->left) {
		struct cursor before = *c;

		if (!sock->chunk && (err = chunk_new(sock, c->left)))
			return err;
		n = (u32)dcpim_min(c->left, sock->chunk->size - sock->chunk->used);
		cursor_read(c, sock->chunk->data + sock->chunk->used, n);
		sock->chunk->used += n;
		sock->corked += n;
		if (more && !c->left && sock->corked < payload && sock->chunk->used < sock->chunk->size)
			return 0;
		err = dcpim_socket_uncork(sock);
		if (err) {
			*c = before;
			sock->chunk->used -= n;
			sock->corked -= n;
			return err;
		}
		unflushed += n;
		if (unflushed >= FLUSH_BYTES && c->left) {
			dcpim_shard_flush(sock->shard);
			unflushed = 0;
			if (!sock->flow)
				return sock->error ? take_error(sock) : -EPIPE;
		}
	}
	return 0;
}

/* Wait for room. Return: 0, or why the call must end; -EBADF: the socket is gone. */
static int send_wait(struct rackwire_dcpim_socket *sock, bool wait, u64 deadline, bool (*ready)(void *))
{
	dcpim_shard_flush(sock->shard);
	if (ready(sock))
		return 0;
	return wait ? dcpim_socket_wait(sock, ready, deadline) : -EAGAIN;
}

static ssize_t send_stream(struct rackwire_dcpim_socket *sock, struct cursor *c, int flags)
{
	bool wait = !sock->nonblock && !(flags & MSG_DONTWAIT);
	u64 deadline = dcpim_deadline(sock->shard->now, sock->sndtimeo);
	size_t total = c->left;
	int err;

	for (;;) {
		err = send_state(sock);
		if (!err && sock->state == RACKWIRE_DCPIM_STATE_CONNECTING) {
			err = send_wait(sock, wait, deadline, connected_or_not);
			if (!err)
				continue;
		}
		/* When the last refusal still stands, do not copy in vain. */
		if (!err)
			err = sock->wr_blocked ? -EAGAIN : send_bytes(sock, c, flags & MSG_MORE);
		if (err != -EAGAIN || sock->state != RACKWIRE_DCPIM_STATE_CONNECTED)
			break;
		sock->wr_blocked = true;
		if (!wait && c->left < total)
			break;
		err = send_wait(sock, wait, deadline, send_ready);
		if (err)
			break;
	}
	if (err == -EBADF)
		return err;
	return c->left < total ? (ssize_t)(total - c->left) : err;
}

/* A message in one piece of memory. Large ones were copied before the lock was taken. */
static int message_copy(struct rackwire_dcpim_socket *sock, struct cursor *c, struct dcpim_mem **large,
			struct dcpim_buf *buf)
{
	struct dcpim_mem *mem = *large;
	u32 length = (u32)c->left;

	if (mem) {
		dcpim_mem_adopt(&sock->shard->pool, mem);
		*large = NULL;
		c->left = 0;
	} else {
		mem = dcpim_mem_alloc(&sock->shard->pool, length);
		if (!mem)
			return -ENOMEM;
		cursor_read(c, mem->data, length);
	}
	*buf = (struct dcpim_buf){ mem->data, length, mem };
	return 0;
}

static ssize_t send_message(struct rackwire_dcpim_socket *sock, struct cursor *c, int flags, struct dcpim_mem **large)
{
	bool wait = !sock->nonblock && !(flags & MSG_DONTWAIT);
	struct dcpim_shard *s = sock->shard;
	u64 deadline = dcpim_deadline(s->now, sock->sndtimeo);
	size_t length = c->left;
	struct dcpim_buf buf = { 0 };
	int err;

	if (length > s->engine->cfg.max_msg)
		return -EMSGSIZE;
	for (;;) {
		err = send_state(sock);
		if (!err && sock->state == RACKWIRE_DCPIM_STATE_CONNECTING) {
			err = send_wait(sock, wait, deadline, connected_or_not);
			if (!err)
				continue;
			break;
		}
		if (!err && sock->wr_blocked)
			err = -EAGAIN;
		if (!err && !buf.cookie)
			err = message_copy(sock, c, large, &buf);
		if (!err)
			err = dcpim_send_msg(sock->flow, s->now, &buf, length ? 1 : 0, DCPIM_MSG_QUIET, NULL, NULL);
		if (!err && length)
			buf.cookie = NULL; /* the core's now */
		if (err != -EAGAIN)
			break;
		sock->wr_blocked = true;
		err = send_wait(sock, wait, deadline, send_ready);
		if (err)
			break;
	}
	if (buf.cookie)
		dcpim_mem_put(&s->pool, buf.cookie);
	return err ? err : (ssize_t)length;
}

ssize_t rackwire_dcpim_sendv(struct rackwire_dcpim_socket *sock, const struct iovec *iov, int count, int flags)
{
	struct dcpim_mem *large = NULL;
	struct dcpim_shard *s;
	struct cursor c;
	ssize_t r;
	int err;

	if (flags & ~SEND_FLAGS)
		return -EOPNOTSUPP;
	err = cursor_init(&c, iov, count);
	if (err)
		return err;
	if (sock->kind == RACKWIRE_DCPIM_MESSAGE && c.left > DCPIM_MEM_MAX_POOLED) {
		struct cursor copy = c;

		if (c.left > 1u << 30)
			return -EMSGSIZE;
		large = dcpim_mem_alloc_large((u32)c.left);
		if (!large)
			return -ENOMEM;
		cursor_read(&copy, large->data, c.left);
	}
	s = dcpim_socket_lock(sock);
	if (sock->kind == RACKWIRE_DCPIM_MESSAGE)
		r = send_message(sock, &c, flags, &large);
	else
		r = send_stream(sock, &c, flags);
	dcpim_shard_flush(s);
	dcpim_shard_unlock(s);
	free(large);
	return r;
}

ssize_t rackwire_dcpim_send(struct rackwire_dcpim_socket *sock, const void *data, size_t length, int flags)
{
	struct iovec iov = { (void *)data, length };

	return rackwire_dcpim_sendv(sock, &iov, 1, flags);
}

/* ---- receiving ---- */

static bool recv_ready(void *arg)
{
	struct rackwire_dcpim_socket *sock = arg;
	struct dcpim_rxmsg msg;
	struct dcpim_buf buf;

	if (sock->closed || !sock->flow || sock->eof || sock->rd_shut)
		return true;
	if (sock->state == RACKWIRE_DCPIM_STATE_CONNECTING)
		return false;
	if (sock->kind == RACKWIRE_DCPIM_MESSAGE)
		return dcpim_msg_peek(sock->flow, &msg, &buf, 0, 1) >= 0;
	return dcpim_recv_peek(sock->flow, &buf, 1) > 0;
}

/* Copy what is there; with MSG_PEEK only as much as PIECES buffers hold. */
static size_t recv_bytes(struct rackwire_dcpim_socket *sock, struct cursor *c, bool peek)
{
	struct dcpim_buf buf[PIECES];
	size_t total = 0;
	u32 n, i;

	while (c->left && sock->flow && (n = dcpim_recv_peek(sock->flow, buf, PIECES))) {
		size_t bytes = 0;

		for (i = 0; i < n && c->left; i++) {
			size_t take = dcpim_min(buf[i].len, c->left);

			cursor_write(c, buf[i].ptr, take);
			bytes += take;
		}
		total += bytes;
		if (peek)
			break;
		dcpim_consume(sock->flow, sock->shard->now, bytes);
	}
	return total;
}

static ssize_t recv_message(struct rackwire_dcpim_socket *sock, struct cursor *c, int flags, int *out_flags)
{
	struct dcpim_buf buf[PIECES];
	struct dcpim_rxmsg msg;
	u32 first = 0;
	size_t copied = 0;
	int n, i;

	n = dcpim_msg_peek(sock->flow, &msg, buf, 0, PIECES);
	if (n < 0)
		return n;
	while (n > 0 && c->left) {
		for (i = 0; i < n && c->left; i++) {
			size_t take = dcpim_min(buf[i].len, c->left);

			cursor_write(c, buf[i].ptr, take);
			copied += take;
		}
		first += (u32)n;
		if (first >= msg.nbufs)
			break;
		n = dcpim_msg_peek(sock->flow, &msg, buf, first, PIECES);
	}
	if (!(flags & MSG_PEEK))
		dcpim_msg_consume(sock->flow, sock->shard->now);
	*out_flags = MSG_EOR | (copied < msg.size ? MSG_TRUNC : 0);
	return (ssize_t)(flags & MSG_TRUNC ? msg.size : copied);
}

/* One attempt. Return: bytes, 0 at the end, -EAGAIN or an error. */
static ssize_t recv_now(struct rackwire_dcpim_socket *sock, struct cursor *c, int flags, int *out_flags)
{
	ssize_t n = -EAGAIN;

	if (sock->state == RACKWIRE_DCPIM_STATE_CONNECTING)
		return -EAGAIN;
	if (sock->flow && !sock->rd_shut) {
		if (sock->kind == RACKWIRE_DCPIM_MESSAGE)
			n = recv_message(sock, c, flags, out_flags);
		else if (!c->left)
			return 0;
		else
			n = (ssize_t)recv_bytes(sock, c, flags & MSG_PEEK);
		if (n > 0 || (n == 0 && *out_flags))
			return n;
	}
	if (sock->error)
		return take_error(sock);
	if (sock->state != RACKWIRE_DCPIM_STATE_CONNECTED && sock->state != RACKWIRE_DCPIM_STATE_FAILED)
		return -ENOTCONN;
	return sock->eof || sock->rd_shut || !sock->flow ? 0 : -EAGAIN;
}

ssize_t rackwire_dcpim_recvv(struct rackwire_dcpim_socket *sock, const struct iovec *iov, int count, int flags,
			     int *out_flags)
{
	struct dcpim_shard *s;
	int ignored, err;
	size_t total = 0;
	struct cursor c;
	u64 deadline;
	ssize_t r;
	bool wait;

	if (!out_flags)
		out_flags = &ignored;
	*out_flags = 0;
	if (flags & ~RECV_FLAGS)
		return -EOPNOTSUPP;
	err = cursor_init(&c, iov, count);
	if (err)
		return err;
	s = dcpim_socket_lock(sock);
	wait = !sock->nonblock && !(flags & MSG_DONTWAIT);
	deadline = dcpim_deadline(s->now, sock->rcvtimeo);
	for (;;) {
		r = recv_now(sock, &c, flags, out_flags);
		if (r > 0)
			total += (size_t)r;
		if (r > 0 && (flags & MSG_WAITALL) && !(flags & MSG_PEEK) && wait && c.left &&
		    sock->kind == RACKWIRE_DCPIM_STREAM)
			r = -EAGAIN;
		if (r != -EAGAIN)
			break;
		dcpim_shard_flush(s);
		if (!wait) {
			dcpim_shard_try(s);
			if (recv_ready(sock))
				continue;
			break;
		}
		err = dcpim_socket_wait(sock, recv_ready, deadline);
		if (err) {
			r = err;
			break;
		}
	}
	dcpim_shard_flush(s);
	dcpim_shard_unlock(s);
	return total && r != -EBADF ? (ssize_t)total : r;
}

ssize_t rackwire_dcpim_recv(struct rackwire_dcpim_socket *sock, void *data, size_t length, int flags)
{
	struct iovec iov = { data, length };

	return rackwire_dcpim_recvv(sock, &iov, 1, flags, NULL);
}

int rackwire_dcpim_shutdown(struct rackwire_dcpim_socket *sock, int how)
{
	struct dcpim_shard *s;
	int err = 0;

	if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR)
		return -EINVAL;
	s = dcpim_socket_lock(sock);
	if (sock->state != RACKWIRE_DCPIM_STATE_CONNECTED)
		err = -ENOTCONN;
	if (!err && how != SHUT_WR)
		sock->rd_shut = true;
	if (!err && how != SHUT_RD && !sock->wr_shut) {
		dcpim_socket_uncork(sock);
		sock->wr_shut = true;
		err = dcpim_shutdown(sock->flow, s->now);
	}
	if (!err)
		dcpim_socket_notify(sock);
	dcpim_shard_flush(s);
	dcpim_shard_unlock(s);
	return err;
}
