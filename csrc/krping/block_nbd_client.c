// SPDX-License-Identifier: BSD-2-Clause
/* Sockets of NBD clients: what is read goes to the handshake or to requests, replies go out in batches. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "block_nbd.h"

#define READS_PER_TURN 16
#define IOVS 64
#define NBD_EVENTS (EPOLLIN | EPOLLRDHUP | EPOLLET)

/* ---- memory ---- */

static void hunger(struct nbd_client *c, bool hungry)
{
	if (c->hungry == hungry)
		return;
	c->hungry = hungry;
	if (hungry)
		c->nbd->hungry++;
	else
		c->nbd->hungry--;
}

uint8_t *nbd_chunk_get(struct nbd_client *c)
{
	struct rackwire_krping_nbd *n = c->nbd;
	bool own = c->held < n->share;

	if (!own && n->spare_used == n->spare) {
		hunger(c, true);
		return NULL;
	}
	n->spare_used += !own;
	c->held++;
	return block_slab_get(&n->slab);
}

void nbd_chunk_put(struct nbd_client *c, uint8_t *chunk)
{
	struct rackwire_krping_nbd *n = c->nbd;

	block_slab_put(&n->slab, chunk);
	c->held--;
	if (c->held >= n->share)
		n->spare_used--;
	n->fed |= n->hungry > 0;
}

/* ---- life ---- */

void nbd_client_ready(struct nbd_client *c)
{
	struct rackwire_krping_nbd *n = c->nbd;

	if (c->ready)
		return;
	c->ready = true;
	c->next_ready = NULL;
	*n->ready_last = c;
	n->ready_last = &c->next_ready;
}

/*
 * A socket becomes writable, and a Unix one says so, whenever the client takes something out of it: nobody is to be
 * woken by that but who has more to send.
 */
void nbd_client_writable(struct nbd_client *c, bool writable)
{
	struct epoll_event event = { .events = NBD_EVENTS | (writable ? 0 : EPOLLOUT), .data.ptr = c };

	if (c->writable == writable)
		return;
	c->writable = writable;
	epoll_ctl(c->nbd->epoll, EPOLL_CTL_MOD, c->fd, &event);
}

int nbd_client_open(struct rackwire_krping_nbd *n, int fd)
{
	struct epoll_event event = { .events = NBD_EVENTS };
	struct nbd_client *c = calloc(1, sizeof(*c));
	int one = 1;

	if (!c)
		return -ENOMEM;
	event.data.ptr = c;
	if (n->epoll >= 0 && epoll_ctl(n->epoll, EPOLL_CTL_ADD, fd, &event)) {
		free(c);
		return -errno;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* a Unix socket has no such thing */
	c->nbd = n;
	c->fd = fd;
	c->outs_last = &c->outs;
	c->later_last = &c->later;
	c->reads_last = &c->reads;
	c->readable = c->writable = true;
	c->deadline = rackwire_now_ns() + NBD_HANDSHAKE_NS;
	c->next = n->clients;
	c->link = &n->clients;
	if (c->next)
		c->next->link = &c->next;
	n->clients = c;
	n->nclients++;
	nbd_hello_start(c);
	nbd_client_ready(c);
	return 0;
}

void nbd_client_close(struct nbd_client *c)
{
	if (c->fd < 0)
		return;
	close(c->fd);
	c->fd = -1;
	hunger(c, false);
	nbd_request_forget(c);
	c->nbd->dead = true;
}

void nbd_client_tick(struct nbd_client *c, uint64_t now)
{
	if (now >= c->deadline)
		nbd_client_close(c);
}

/* ---- sending ---- */

static uint32_t gather(struct nbd_client *c, struct iovec *iov)
{
	uint32_t n = 0, skip = c->out_sent;
	struct nbd_out *out;

	if (c->tx_have)
		iov[n++] = (struct iovec){ c->tx + c->tx_at, c->tx_have - c->tx_at };
	for (out = c->outs; out && n + 2 <= IOVS; out = out->next) {
		if (skip < out->head_length)
			iov[n++] = (struct iovec){ out->head + skip, out->head_length - skip };
		skip = skip > out->head_length ? skip - out->head_length : 0;
		if (out->length)
			iov[n++] = (struct iovec){ out->data + skip, out->length - skip };
		skip = 0;
	}
	return n;
}

static void sent(struct nbd_client *c, size_t bytes)
{
	struct nbd_out *out;
	size_t left;

	left = c->tx_have - c->tx_at;
	if (left) {
		if (bytes < left) {
			c->tx_at += (uint32_t)bytes;
			return;
		}
		bytes -= left;
		c->tx_at = c->tx_have = 0;
	}
	while ((out = c->outs)) {
		left = out->head_length + out->length - c->out_sent;
		if (bytes < left) {
			c->out_sent += (uint32_t)bytes;
			return;
		}
		bytes -= left;
		c->out_sent = 0;
		c->outs = out->next;
		if (!c->outs)
			c->outs_last = &c->outs;
		nbd_out_sent(out);
	}
}

static void send_some(struct nbd_client *c)
{
	struct iovec iov[IOVS];
	struct msghdr msg = { .msg_iov = iov };
	ssize_t n;

	while (c->fd >= 0 && c->writable && (c->outs || c->tx_have)) {
		msg.msg_iovlen = gather(c, iov);
		n = sendmsg(c->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			nbd_client_writable(c, false);
		} else if (n < 0) {
			nbd_client_close(c);
		} else {
			sent(c, (size_t)n);
		}
	}
}

/* ---- reading ---- */

/* Is anything in the way of taking more from it? */
static bool blocked(struct nbd_client *c)
{
	return c->fd < 0 || c->ending || c->requests >= NBD_CLIENT_REQUESTS || (c->phase == NBD_REQUEST && c->reads) ||
	       (c->phase == NBD_PAYLOAD && !nbd_write_prepare(c));
}

static void skip(struct nbd_client *c, uint32_t bytes)
{
	c->skip -= bytes;
	if (c->skip)
		return;
	c->phase = c->after_skip;
	if (c->write)
		nbd_write_skipped(c);
}

static void fill(struct nbd_client *c, uint32_t bytes)
{
	c->filled += bytes;
	if (c->filled == c->filling->length)
		nbd_write_filled(c);
}

static uint32_t min32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* What is in rx, as far as that goes. */
static void parse(struct nbd_client *c)
{
	const uint8_t *at;
	uint32_t n;

	while (c->rx_have && !blocked(c)) {
		at = c->rx + c->rx_at;
		switch (c->phase) {
		case NBD_REQUEST:
			if (c->rx_have < NBD_REQUEST_LEN)
				return;
			nbd_request_begin(c, at);
			nbd_client_take(c, NBD_REQUEST_LEN);
			break;
		case NBD_PAYLOAD:
			n = min32(c->rx_have, c->filling->length - c->filled);
			memcpy(c->filling->chunk + c->filled, at, n);
			nbd_client_take(c, n);
			fill(c, n);
			break;
		case NBD_SKIP:
			n = c->rx_have < c->skip ? c->rx_have : (uint32_t)c->skip;
			nbd_client_take(c, n);
			skip(c, n);
			break;
		default:
			if (!nbd_hello(c))
				return;
		}
	}
	/* An option without data is complete without any byte more. */
	while (!c->rx_have && c->phase == NBD_OPTION_DATA && !c->option_length && !c->ending && nbd_hello(c))
		;
}

/* Payload goes where it is to stay, what may follow it into rx. */
static int receive(struct nbd_client *c)
{
	uint8_t *tail = c->rx + c->rx_at + c->rx_have;
	uint32_t payload = 0, wanted, count = 0;
	struct iovec iov[2];
	struct msghdr msg = { .msg_iov = iov };
	ssize_t n;

	if (c->rx_at && c->rx_at + c->rx_have > NBD_RX / 2) {
		memmove(c->rx, c->rx + c->rx_at, c->rx_have);
		c->rx_at = 0;
		tail = c->rx + c->rx_have;
	}
	if (c->phase == NBD_PAYLOAD && !c->rx_have) {
		payload = c->filling->length - c->filled;
		iov[count++] = (struct iovec){ c->filling->chunk + c->filled, payload };
	}
	wanted = NBD_RX - (uint32_t)(tail - c->rx);
	/* More of this write is for another chunk. */
	if (payload && c->write->begun + c->filling->length < c->write->length)
		wanted = 0;
	if (wanted)
		iov[count++] = (struct iovec){ tail, wanted };
	msg.msg_iovlen = count;
	do
		n = recvmsg(c->fd, &msg, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
		c->readable = false;
		return 0;
	}
	if (n <= 0)
		return -ECONNRESET;
	/* Less than there was room for: the socket is empty, and says so when it is not any more. */
	if ((uint32_t)n < payload + wanted)
		c->readable = false;
	if (payload) {
		uint32_t mine = (uint32_t)n < payload ? (uint32_t)n : payload;

		fill(c, mine);
		n -= mine;
	}
	c->rx_have += (uint32_t)n;
	return 1;
}

static void read_some(struct nbd_client *c)
{
	int turns = READS_PER_TURN;

	parse(c);
	while (c->readable && !blocked(c)) {
		if (!turns--) {
			nbd_client_ready(c); /* others first */
			return;
		}
		if (c->rx_have && c->rx_have == NBD_RX)
			return;
		if (receive(c) < 0) {
			nbd_client_close(c);
			return;
		}
		parse(c);
	}
}

void nbd_client_run(struct nbd_client *c)
{
	if (c->fd < 0)
		return;
	hunger(c, false);
	if (c->reads)
		nbd_request_advance(c);
	send_some(c);
	read_some(c);
	send_some(c);
	if (c->fd >= 0 && c->ending && !c->requests && !c->outs && !c->tx_have)
		nbd_client_close(c);
}
