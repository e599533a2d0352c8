// SPDX-License-Identifier: BSD-2-Clause
/*
 * Sending: packets from the core, grouped so that the kernel segments a row of
 * equal ones (GSO) and one system call takes many groups.
 *
 * The ICRC covers the IPv4 identification. A socket that is not connected and
 * forbids fragmentation sends 0, and segmentation counts up from there, so packet
 * i of a group has identification i.
 *
 * The core's packets refer to its memory until something else is asked of it, so
 * what the kernel says about a peer is told to the core after the batch.
 */
#include <netinet/udp.h>
#include <stdlib.h>

#include "dev.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

#define TX_ROUNDS 8	/* batches before receiving gets its turn */
#define SEND_TRIES 4	/* each may report one ICMP error that waited on the socket */
#define ACK_BYTES (ROCE_BTH_LEN + ROCE_AETH_LEN + ROCE_ICRC_LEN)

/* What is to be told to the core after a batch. */
struct deferred {
	int error;
	struct roce_path path;
};

int roce_tx_init(struct rackwire_roce_dev *dev)
{
	dev->tx.held_memory = malloc(ROCE_TX_GROUPS * (size_t)ROCE_GSO_BYTES);
	return dev->tx.held_memory ? 0 : -ENOMEM;
}

void roce_tx_fini(struct rackwire_roce_dev *dev)
{
	free(dev->tx.held_memory);
}

u64 roce_packet_mark(const u8 *bth, u32 len)
{
	const u32 tid = ROCE_BTH_LEN + ROCE_DETH_LEN + 8;
	u64 mark = roce_get64(bth + 4);

	/* A management datagram's PSN is no secret; its transaction id is. */
	if (roce_get24(bth + 5) == ROCE_QP_CM && len >= tid + 8)
		mark ^= roce_get64(bth + tid);
	return mark;
}

bool roce_mark_is_ours(const struct rackwire_roce_dev *dev, u64 mark)
{
	u32 i;

	for (i = 0; i < ROCE_TX_SENT; i++)
		if (dev->tx.sent[i] == mark)
			return mark != 0;
	return false;
}

static bool same_path(const struct roce_path *a, const struct roce_path *b)
{
	return a->tos == b->tos && a->scope == b->scope && !memcmp(a->peer, b->peer, 16) &&
	       !memcmp(a->local, b->local, 16);
}

static void put_control(struct roce_tx_group *g, int level, int type, const void *data, u32 len)
{
	struct cmsghdr *c = (struct cmsghdr *)(g->control + g->control_len);

	memset(c, 0, CMSG_SPACE(len));
	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(c), data, len);
	g->control_len += CMSG_SPACE(len);
}

static void group_address(struct rackwire_roce_dev *dev, struct roce_tx_group *g)
{
	const struct roce_path *path = &g->path;
	bool v4 = roce_addr_is_v4(path->peer);
	int tos = (path->tos & 0xfc) | g->ecn;

	g->to_len = roce_addr_to(path->peer, dev->config.udp_port, path->scope, dev->family, &g->to);
	g->control_len = 0;
	if (dev->wildcard && v4) {
		struct in_pktinfo info = { 0 };

		memcpy(&info.ipi_spec_dst, path->local + 12, 4);
		put_control(g, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
	} else if (dev->wildcard) {
		struct in6_pktinfo info = { .ipi6_ifindex = path->scope };

		memcpy(&info.ipi6_addr, path->local, 16);
		put_control(g, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
	}
	if (tos != dev->tos)
		put_control(g, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TOS : IPV6_TCLASS, &tos, sizeof(tos));
}

static struct roce_tx_group *group_new(struct rackwire_roce_dev *dev, const struct roce_txpkt *pkt, u32 bytes)
{
	struct roce_tx_group *g = &dev->tx.groups[dev->tx.ngroups];
	const struct roce_path *path = pkt->path;

	if (dev->family == AF_INET && !roce_addr_is_v4(path->peer))
		return NULL;
	g->path = *path;
	g->ecn = pkt->ecn;
	g->slot = pkt->hdr[5];
	g->closed = !dev->gso;
	g->lone_ack = false;
	g->first_iov = dev->tx.niov;
	g->niov = 0;
	g->packets = 0;
	g->segment = bytes;
	g->bytes = 0;
	roce_flow_init(&g->flow, path->local, path->peer, dev->config.udp_port, dev->config.udp_port, ROCE_IP_DF);
	group_address(dev, g);
	dev->tx.ngroups++;
	return g;
}

/* Packets of one group go to one process, so that the other end may steer by the first one. */
static bool group_fits(const struct roce_tx_group *g, const struct roce_txpkt *pkt)
{
	return !g->closed && g->slot == pkt->hdr[5] && g->ecn == pkt->ecn && g->packets < ROCE_GSO_SEGMENTS &&
	       same_path(&g->path, pkt->path);
}

static void add_piece(struct roce_tx *tx, struct roce_tx_group *g, const u8 *ptr, u32 len)
{
	struct iovec *last = g->niov ? &tx->iov[tx->niov - 1] : NULL;

	if (last && (u8 *)last->iov_base + last->iov_len == ptr) {
		last->iov_len += len;
		return;
	}
	tx->iov[tx->niov++] = (struct iovec){ (void *)ptr, len };
	g->niov++;
}

/* So that an ICMP error that quotes the packet is believed. */
static void remember(struct roce_tx *tx, const u8 *packet, u32 len)
{
	tx->sent[tx->next_sent++ % ROCE_TX_SENT] = roce_packet_mark(packet, len);
}

static void put_icrc(struct rackwire_roce_dev *dev, const struct roce_tx_group *g, u32 id, u8 *packet, u32 len)
{
	roce_icrc_put(packet + len, roce_icrc(&g->flow, dev->crc32, (u16)id, packet, len));
}

/* Small packet: all of it in the staging memory, where its header is already. */
static void add_small(struct rackwire_roce_dev *dev, struct roce_tx_group *g, const struct roce_txpkt *pkt, u32 bytes)
{
	struct roce_tx *tx = &dev->tx;
	u8 *packet = pkt->hdr, *at = packet + pkt->hdr_len;
	u8 ack[ACK_BYTES];
	u32 i;

	for (i = 0; i < pkt->nfrags; i++) {
		memcpy(at, pkt->frags[i].ptr, pkt->frags[i].len);
		at += pkt->frags[i].len;
	}
	memset(at, 0, pkt->pad);
	remember(tx, packet, bytes);
	tx->nstaged += bytes;
	if (g->lone_ack && bytes > ACK_BYTES) {
		/* The ACK travels behind this packet, as behind a large one. */
		memcpy(ack, packet - ACK_BYTES, ACK_BYTES);
		memmove(packet - ACK_BYTES, packet, bytes - ROCE_ICRC_LEN);
		packet -= ACK_BYTES;
		memcpy(packet + bytes, ack, ACK_BYTES);
		put_icrc(dev, g, 0, packet, bytes - ROCE_ICRC_LEN);
		put_icrc(dev, g, 1, packet + bytes, ACK_BYTES - ROCE_ICRC_LEN);
		tx->iov[tx->niov - 1].iov_len += bytes;
		g->segment = bytes;
		g->closed = true;
		g->lone_ack = false;
		return;
	}
	put_icrc(dev, g, g->packets, packet, bytes - ROCE_ICRC_LEN);
	add_piece(tx, g, packet, bytes);
	g->lone_ack = !g->packets && packet[0] == ROCE_ACK && bytes == ACK_BYTES;
}

static void add_large(struct rackwire_roce_dev *dev, struct roce_tx_group *g, const struct roce_txpkt *pkt, u32 bytes)
{
	struct roce_tx *tx = &dev->tx;
	u8 *tail = pkt->hdr + pkt->hdr_len;
	u32 len = pkt->hdr_len + pkt->payload_len + pkt->pad, crc, i;
	bool swap = g->lone_ack;

	if (swap) {
		tx->niov = g->first_iov;
		g->niov = 0;
	}
	remember(tx, pkt->hdr, ROCE_BTH_LEN);
	crc = roce_icrc_begin(&g->flow, dev->crc32, swap ? 0 : (u16)g->packets, pkt->hdr, len);
	crc = dev->crc32(crc, pkt->hdr + ROCE_BTH_LEN, pkt->hdr_len - ROCE_BTH_LEN);
	add_piece(tx, g, pkt->hdr, pkt->hdr_len);
	for (i = 0; i < pkt->nfrags; i++) {
		crc = dev->crc32(crc, pkt->frags[i].ptr, pkt->frags[i].len);
		add_piece(tx, g, pkt->frags[i].ptr, pkt->frags[i].len);
	}
	memset(tail, 0, pkt->pad);
	if (pkt->pad)
		crc = dev->crc32(crc, tail, pkt->pad);
	roce_icrc_put(tail + pkt->pad, crc);
	tail += pkt->pad + ROCE_ICRC_LEN;
	tx->nstaged += pkt->hdr_len + pkt->pad + ROCE_ICRC_LEN;
	if (swap) {
		memcpy(tail, pkt->hdr - ACK_BYTES, ACK_BYTES);
		put_icrc(dev, g, 1, tail, ACK_BYTES - ROCE_ICRC_LEN);
		tx->nstaged += ACK_BYTES;
		tail += ACK_BYTES;
		g->segment = bytes;
		g->closed = true;
		g->lone_ack = false;
	}
	add_piece(tx, g, pkt->hdr + pkt->hdr_len, (u32)(tail - pkt->hdr) - pkt->hdr_len);
}

static void add_packet(struct rackwire_roce_dev *dev, const struct roce_txpkt *pkt)
{
	u32 bytes = pkt->hdr_len + pkt->payload_len + pkt->pad + ROCE_ICRC_LEN;
	bool small = pkt->payload_len <= ROCE_COPY_SMALL;
	struct roce_tx *tx = &dev->tx;
	struct roce_tx_group *g = tx->ngroups ? &tx->groups[tx->ngroups - 1] : NULL;

	if (!g || !group_fits(g, pkt) || g->bytes + bytes > ROCE_GSO_BYTES ||
	    (bytes > g->segment && !g->lone_ack))
		g = group_new(dev, pkt, bytes);
	if (!g)
		return;
	if (small)
		add_small(dev, g, pkt, bytes);
	else
		add_large(dev, g, pkt, bytes);
	g->packets++;
	g->bytes += bytes;
	if (bytes < g->segment)
		g->closed = true;
	tx->npackets++;
}

/* Fill a batch from the core. Return: false when the core has nothing more. */
static bool collect(struct rackwire_roce_dev *dev)
{
	struct roce_tx *tx = &dev->tx;
	struct roce_txpkt pkt;

	tx->ngroups = tx->npackets = tx->niov = tx->nstaged = 0;
	while (tx->ngroups < ROCE_TX_GROUPS && tx->npackets < ROCE_TX_PACKETS &&
	       tx->niov + 2 + ROCE_TX_FRAGS <= ROCE_TX_IOVS &&
	       tx->nstaged + ROCE_HDR_MAX + ROCE_COPY_SMALL + 8 <= sizeof(tx->staging)) {
		pkt.hdr = tx->staging + tx->nstaged;
		if (!roce_poll_tx(dev->core, dev->now, &pkt))
			return false;
		add_packet(dev, &pkt);
	}
	return true;
}

static void group_message(struct roce_tx_group *g, struct iovec *iov, u32 niov, bool gso, struct msghdr *out)
{
	u32 control_len = g->control_len;

	if (gso) {
		u16 segment = (u16)g->segment;

		put_control(g, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof(segment));
	}
	*out = (struct msghdr){
		.msg_name = &g->to, .msg_namelen = g->to_len, .msg_iov = iov, .msg_iovlen = niov,
		.msg_control = g->control_len ? g->control : NULL, .msg_controllen = g->control_len,
	};
	g->control_len = control_len;
}

/* Errors that may be an older packet's: the socket reports them once, to whoever calls next. */
static bool stale(int error)
{
	return error == ECONNREFUSED || error == EHOSTUNREACH || error == ENETUNREACH || error == EPROTO ||
	       error == ENOPROTOOPT || error == EACCES || error == ENETDOWN || error == EHOSTDOWN;
}

/* The cheapest call that will do. */
static ssize_t send_one(int fd, const struct msghdr *msg)
{
	if (msg->msg_iovlen == 1 && !msg->msg_controllen)
		return sendto(fd, msg->msg_iov->iov_base, msg->msg_iov->iov_len, MSG_DONTWAIT | MSG_NOSIGNAL,
			      msg->msg_name, msg->msg_namelen);
	return sendmsg(fd, msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Return: messages sent; *error says why not all, 0 if all. */
static u32 send_some(struct rackwire_roce_dev *dev, struct mmsghdr *msgs, u32 n, int *error)
{
	u32 done = 0;
	int tries = 0, r;

	*error = 0;
	while (done < n) {
		if (n - done == 1)
			r = send_one(dev->fd, &msgs[done].msg_hdr) < 0 ? -1 : 1;
		else
			r = sendmmsg(dev->fd, msgs + done, n - done, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (r > 0) {
			done += (u32)r;
			tries = 0;
			continue;
		}
		*error = errno;
		if (stale(*error))
			dev->icmp = true; /* looked at when what has arrived is read */
		if (*error == EINTR || (stale(*error) && ++tries < SEND_TRIES)) {
			*error = 0;
			continue;
		}
		break;
	}
	return done;
}

/* Bytes @offset.. of a group's packets, for one packet of it. Return: pieces. */
static u32 slice(const struct iovec *iov, u32 offset, u32 len, struct iovec *out)
{
	u32 n = 0;

	for (; len; iov++) {
		u32 take;

		if (offset >= iov->iov_len) {
			offset -= (u32)iov->iov_len;
			continue;
		}
		take = (u32)roce_min(len, iov->iov_len - offset);
		out[n++] = (struct iovec){ (u8 *)iov->iov_base + offset, take };
		offset = 0;
		len -= take;
	}
	return n;
}

/* A packet that goes alone has identification 0. Its header and its ICRC are in our own memory, unbroken. */
static void make_lone(struct rackwire_roce_dev *dev, const struct roce_tx_group *g, u32 id, const struct iovec *iov,
		      u32 niov, u32 len)
{
	u8 *bth = iov[0].iov_base, *icrc = (u8 *)iov[niov - 1].iov_base + iov[niov - 1].iov_len - ROCE_ICRC_LEN;
	u32 diff;

	if (!g->flow.v4)
		return;
	diff = roce_icrc_begin(&g->flow, dev->crc32, (u16)id, bth, len) ^
	       roce_icrc_begin(&g->flow, dev->crc32, 0, bth, len);
	roce_icrc_put(icrc, roce_icrc_get(icrc) ^ roce_crc32_shift(diff, len - ROCE_BTH_LEN));
}

/*
 * The packets of a group one by one, where segmentation was refused; some devices
 * cannot, and some routes are narrower than we thought. Return: errno of the last.
 */
static int send_singly(struct rackwire_roce_dev *dev, struct roce_tx_group *g, const struct iovec *iov)
{
	struct iovec pieces[ROCE_TX_FRAGS + 3];
	u32 offset = 0, i, n, len;
	struct mmsghdr msg;
	int error = 0;

	for (i = 0; i < g->packets; i++, offset += len) {
		len = (u32)roce_min(g->segment, g->bytes - offset);
		n = slice(iov, offset, len, pieces);
		if (i)
			make_lone(dev, g, i, pieces, n, len - ROCE_ICRC_LEN);
		group_message(g, pieces, n, false, &msg.msg_hdr);
		send_some(dev, &msg, 1, &error);
		if (error)
			return error; /* the rest is as good as lost */
	}
	return 0;
}

static void defer(struct deferred *d, const struct roce_tx_group *g, int error)
{
	/*
	 * ENOBUFS is a full queue on the way out: a lost packet, as any other. ECONNREFUSED is somebody's ICMP, of which
	 * the socket's errors tell more: whether it quotes a packet of ours, and to whom.
	 */
	if (error == ENOBUFS || error == ENOMEM || error == EMSGSIZE || error == EAGAIN || error == ECONNREFUSED)
		return;
	d->error = EHOSTUNREACH;
	d->path = g->path;
}

static void hold_back(struct rackwire_roce_dev *dev, u32 from)
{
	struct roce_tx *tx = &dev->tx;
	u32 i, j;

	tx->nheld = tx->next_held = 0;
	for (i = from; i < tx->ngroups; i++) {
		const struct roce_tx_group *g = &tx->groups[i];
		u8 *to = tx->held_memory + tx->nheld * (size_t)ROCE_GSO_BYTES;

		for (j = 0; j < g->niov; j++) {
			memcpy(to, tx->iov[g->first_iov + j].iov_base, tx->iov[g->first_iov + j].iov_len);
			to += tx->iov[g->first_iov + j].iov_len;
		}
		tx->held[tx->nheld++] = *g;
	}
	dev->stats.tx_blocked++;
	dev->tx_full = true;
}

/* Return: false while the socket is full. */
static bool send_held(struct rackwire_roce_dev *dev, struct deferred *d)
{
	struct roce_tx *tx = &dev->tx;
	struct mmsghdr msg;
	struct iovec iov;
	int error;

	for (; tx->next_held < tx->nheld; tx->next_held++) {
		struct roce_tx_group *g = &tx->held[tx->next_held];

		iov = (struct iovec){ tx->held_memory + tx->next_held * (size_t)ROCE_GSO_BYTES, g->bytes };
		group_message(g, &iov, 1, g->packets > 1, &msg.msg_hdr);
		send_some(dev, &msg, 1, &error);
		if (error == EAGAIN)
			return false;
		if (error && g->packets > 1)
			error = send_singly(dev, g, &iov);
		if (error)
			defer(d, g, error);
	}
	tx->nheld = tx->next_held = 0;
	dev->tx_full = false;
	return true;
}

static void send_batch(struct rackwire_roce_dev *dev, struct deferred *d)
{
	struct roce_tx *tx = &dev->tx;
	u32 i, at = 0;
	int error;

	for (i = 0; i < tx->ngroups; i++) {
		struct roce_tx_group *g = &tx->groups[i];

		group_message(g, &tx->iov[g->first_iov], g->niov, g->packets > 1, &tx->msgs[i].msg_hdr);
	}
	while (at < tx->ngroups) {
		struct roce_tx_group *g;

		at += send_some(dev, tx->msgs + at, tx->ngroups - at, &error);
		if (!error)
			return;
		if (error == EAGAIN) {
			hold_back(dev, at);
			return;
		}
		g = &tx->groups[at++];
		if (g->packets > 1) {
			/* EIO, EINVAL: this device cannot segment UDP, if the packets go through alone. */
			bool refused = error == EIO || error == EINVAL;

			error = send_singly(dev, g, &tx->iov[g->first_iov]);
			if (refused && !error)
				dev->gso = false;
		}
		if (error)
			defer(d, g, error);
	}
}

static void tell_core(struct rackwire_roce_dev *dev, struct deferred *d)
{
	if (d->error)
		roce_unreachable(dev->core, dev->now, &d->path, -d->error);
	d->error = 0;
}

void roce_socket_send(struct rackwire_roce_dev *dev)
{
	struct deferred d = { 0 };
	int round;

	dev->defer = dev->deferred = 0;
	if (dev->tx_full) {
		bool room = send_held(dev, &d);

		tell_core(dev, &d);
		if (!room)
			return;
	}
	for (round = 0; round < TX_ROUNDS; round++) {
		bool more = collect(dev);

		if (dev->tx.ngroups)
			send_batch(dev, &d);
		dev->tx_pending = more;
		if (d.error) {
			tell_core(dev, &d);
			dev->tx_pending = true;
		}
		if (dev->tx_full || !more)
			return;
	}
}
