// SPDX-License-Identifier: BSD-2-Clause
/*
 * Receiving: datagrams (or what GRO joined) in, packets with a right ICRC to the
 * core, or to the process of ours they belong to.
 */
#include <netinet/udp.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "clock.h"
#include "dev.h"

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define RX_ROUNDS 4	/* system calls before packets of ours get their turn */
#define BULK 8192	/* a datagram of this size is worth a call of its own */
#define BURST_NS 1500	/* small ones that come this soon after each other have company */
#define PACKET_MIN (ROCE_BTH_LEN + ROCE_ICRC_LEN)

/*
 * What a sender does with the IPv4 identification, which the ICRC covers and a
 * UDP socket does not show. Solving for it costs 16 of the ICRC's 32 bits; they
 * come back when only what the sender is known to do is believed.
 */
enum roce_id_style {
	STYLE_UNKNOWN,
	STYLE_SMALL,   /* 0, or counting up from 0 within a segmented burst: sockets such as ours */
	STYLE_COUNTER, /* one counter, which others may use too: the kernel's rdma_rxe, adapters */
};

#define SMALL_IDS 128	/* segments in a burst, at most */
#define COUNTER_STEP 4096
#define SURE 16		/* packets that establish a style */
#define CHANGED 8	/* packets against it that end it: the sender, or a NAT before it, is another */
#define QUIET_NS 1000000000ULL /* a counter may be anywhere: Linux moves it on by up to one for each tick of silence */

int roce_rx_init(struct rackwire_roce_dev *dev)
{
	u32 i;

	dev->rx.memory = mmap(NULL, ROCE_RX_BATCH * ROCE_RX_BUFFER, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (dev->rx.memory == MAP_FAILED) {
		dev->rx.memory = NULL;
		return -ENOMEM;
	}
	for (i = 0; i < ROCE_RX_BATCH; i++) {
		struct msghdr *msg = &dev->rx.msgs[i].msg_hdr;

		dev->rx.iov[i] = (struct iovec){ dev->rx.memory + i * ROCE_RX_BUFFER, ROCE_RX_BUFFER };
		msg->msg_name = &dev->rx.from[i];
		msg->msg_iov = &dev->rx.iov[i];
		msg->msg_iovlen = 1;
		msg->msg_control = dev->rx.control[i];
	}
	return 0;
}

void roce_rx_fini(struct rackwire_roce_dev *dev)
{
	if (dev->rx.memory)
		munmap(dev->rx.memory, ROCE_RX_BATCH * ROCE_RX_BUFFER);
}

/* What the control messages of one datagram say. */
struct rx_meta {
	u32 segment; /* bytes per packet in a GRO'd datagram; 0: it is one packet */
	u8 ecn;
	bool have_to;
	u8 to[16];
};

static void parse_control(struct msghdr *msg, struct rx_meta *meta)
{
	struct cmsghdr *c;
	int value;

	for (c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
			memcpy(&value, CMSG_DATA(c), sizeof(value));
			meta->segment = value > 0 ? (u32)value : 0;
		} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) {
			meta->ecn = *CMSG_DATA(c) & 3;
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
			memcpy(&value, CMSG_DATA(c), sizeof(value));
			meta->ecn = (u8)(value & 3);
		} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			struct sockaddr_in in = { .sin_family = AF_INET };
			struct in_pktinfo info;
			u32 scope;
			u16 port;

			memcpy(&info, CMSG_DATA(c), sizeof(info));
			in.sin_addr = info.ipi_addr;
			roce_addr_from(&in, meta->to, &port, &scope);
			meta->have_to = true;
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			struct in6_pktinfo info;

			memcpy(&info, CMSG_DATA(c), sizeof(info));
			memcpy(meta->to, &info.ipi6_addr, 16);
			meta->have_to = true;
		}
	}
}

static struct roce_rx_peer *find_peer(struct rackwire_roce_dev *dev, const struct roce_path *path, u16 sport)
{
	u64 hash = roce_get64(path->peer + 8) ^ roce_get64(path->local + 8) * 31 ^ (u64)sport << 20;
	struct roce_rx_peer *p;

	hash *= 0x9e3779b97f4a7c15ULL;
	p = &dev->rx.peers[hash >> 56 & (ROCE_RX_PEERS - 1)];
	if (p->used && p->sport == sport && p->scope == path->scope && !memcmp(p->peer, path->peer, 16) &&
	    !memcmp(p->local, path->local, 16))
		return p;
	*p = (struct roce_rx_peer){ .used = true, .sport = sport, .scope = path->scope };
	memcpy(p->peer, path->peer, 16);
	memcpy(p->local, path->local, 16);
	roce_flow_init(&p->flow, path->peer, path->local, sport, dev->config.udp_port, ROCE_IP_DF);
	return p;
}

static struct roce_rx_ids *find_ids(struct rackwire_roce_dev *dev, const struct roce_rx_peer *peer)
{
	u64 hash = ((u64)roce_get32(peer->peer + 12) << 32 | roce_get32(peer->local + 12)) * 0x9e3779b97f4a7c15ULL;
	struct roce_rx_ids *p = &dev->rx.ids[hash >> 56 & (ROCE_RX_PEERS - 1)];

	if (memcmp(p->peer, peer->peer + 12, 4) || memcmp(p->local, peer->local + 12, 4)) {
		*p = (struct roce_rx_ids){ .style = STYLE_UNKNOWN };
		memcpy(p->peer, peer->peer + 12, 4);
		memcpy(p->local, peer->local + 12, 4);
	}
	return p;
}

/* Is this an identification that this sender would use? Learns from it. */
static bool plausible_id(const struct rackwire_roce_dev *dev, struct roce_rx_ids *p, u16 id)
{
	u16 step = (u16)(id - p->last_id);
	bool small = id < SMALL_IDS, counts = step && step < COUNTER_STEP;
	bool keeps = p->style == STYLE_SMALL ? small : p->style == STYLE_COUNTER ? counts : false;

	if (dev->config.flags & RACKWIRE_ROCE_STRICT_ID)
		return small;
	if (dev->now > p->at + QUIET_NS)
		p->sure = 0;
	if (keeps) {
		p->strange = 0;
		if (p->sure < SURE)
			p->sure++;
	} else if (p->sure == SURE && ++p->strange < CHANGED) {
		return false;
	} else {
		p->style = small ? STYLE_SMALL : STYLE_COUNTER;
		p->sure = p->strange = 0;
	}
	p->last_id = id;
	p->at = dev->now;
	return true;
}

static bool right_icrc(struct rackwire_roce_dev *dev, struct roce_rx_peer *p, const u8 *packet, u32 len, u16 *guess)
{
	u16 id = *guess;

	if (len < PACKET_MIN || len > ROCE_PACKET_MAX ||
	    roce_icrc_check(&p->flow, dev->crc32, &dev->rx.solve, packet, len, &id))
		return false;
	if (p->flow.v4 && !plausible_id(dev, find_ids(dev, p), id))
		return false;
	*guess = id;
	return true;
}

/* Consecutive packets of a datagram that are another process's. */
struct run {
	u32 slot, begin, end;
	bool hint;
};

static void run_end(struct rackwire_roce_dev *dev, struct run *run, const struct roce_rxpkt *pkt, u32 segment,
		    const u8 *data)
{
	if (run->end > run->begin)
		roce_share_forward(dev, run->slot, &pkt->path, pkt->ecn, segment, data + run->begin,
				   run->end - run->begin, run->hint);
	run->end = run->begin;
}

/* Payload that fits the way back to where a connection request comes from. */
static u16 path_mtu(struct roce_rx_peer *p)
{
	u8 source[16];
	u32 mtu;

	if (!p->mtu && !roce_route(NULL, p->peer, p->scope, source, &mtu))
		p->mtu = (u16)roce_payload_for(p->peer, mtu);
	return p->mtu;
}

static void take_datagram(struct rackwire_roce_dev *dev, u32 index)
{
	struct msghdr *msg = &dev->rx.msgs[index].msg_hdr;
	u32 length = dev->rx.msgs[index].msg_len, offset, segment, len, slot;
	const u8 *data = dev->rx.iov[index].iov_base;
	struct rx_meta meta = { 0 };
	struct roce_rxpkt pkt = { 0 };
	const struct roce_rx_ids *ids;
	struct roce_rx_peer *peer;
	struct run run = { 0 };
	u16 sport, id;

	if (msg->msg_flags & MSG_TRUNC) {
		dev->stats.rx_malformed++;
		return;
	}
	if (msg->msg_controllen)
		parse_control(msg, &meta);
	roce_addr_from(msg->msg_name, pkt.path.peer, &sport, &pkt.path.scope);
	memcpy(pkt.path.local, meta.have_to && dev->wildcard ? meta.to : dev->local, 16);
	pkt.ecn = meta.ecn;
	segment = meta.segment ? meta.segment : length;
	peer = find_peer(dev, &pkt.path, sport);
	ids = find_ids(dev, peer);
	id = ids->style == STYLE_COUNTER ? (u16)(ids->last_id + 1) : 0;
	if (!length)
		dev->stats.rx_malformed++;
	for (offset = 0; offset < length; offset += len) {
		const u8 *packet = data + offset;

		len = (u32)roce_min(segment, length - offset);
		if (!right_icrc(dev, peer, packet, len, &id)) {
			run_end(dev, &run, &pkt, segment, data);
			dev->stats.rx_bad_icrc++;
			continue;
		}
		id++;
		slot = dev->share.slot ? roce_share_target(dev, packet, len - ROCE_ICRC_LEN, pkt.path.local) : 0;
		if (slot == dev->share.slot) {
			run_end(dev, &run, &pkt, segment, data);
			pkt.data = packet;
			pkt.len = len - ROCE_ICRC_LEN;
			if (dev->wildcard && roce_get24(packet + 5) == ROCE_QP_CM)
				pkt.path.mtu = path_mtu(peer);
			roce_rx(dev->core, dev->now, &pkt);
			continue;
		}
		if (slot != run.slot || run.end != offset)
			run_end(dev, &run, &pkt, segment, data);
		if (run.end == run.begin)
			run = (struct run){ slot, offset, offset, !offset };
		run.end = offset + len;
	}
	run_end(dev, &run, &pkt, segment, data);
}

static int receive_some(struct rackwire_roce_dev *dev, u32 room)
{
	struct roce_rx *rx = &dev->rx;
	ssize_t n;
	u32 i;

	for (i = 0; i < room; i++) {
		rx->msgs[i].msg_hdr.msg_namelen = sizeof(rx->from[i]);
		rx->msgs[i].msg_hdr.msg_controllen = ROCE_CMSG_SPACE;
	}
	if (room > 1)
		return recvmmsg(dev->fd, rx->msgs, room, MSG_DONTWAIT, NULL);
	n = recvmsg(dev->fd, &rx->msgs[0].msg_hdr, MSG_DONTWAIT);
	if (n < 0)
		return -1;
	rx->msgs[0].msg_len = (u32)n;
	return 1;
}

/*
 * A lone datagram is what a request or an answer looks like: take it with the
 * cheaper call, and do not ask for a second one. So are large ones, which stay in
 * the cache when they use one buffer. Small ones that come close together are
 * taken in batches.
 */
u32 roce_socket_receive(struct rackwire_roce_dev *dev)
{
	u32 taken = 0, room;
	int round, n, i;

	for (round = 0; round < RX_ROUNDS; round++) {
		room = dev->rx.burst ? ROCE_RX_BATCH : 1;
		n = receive_some(dev, room);
		if (n < 0) {
			dev->rx.burst = false;
			if (errno == EAGAIN && dev->icmp)
				roce_socket_errors(dev);
			if (errno == EAGAIN || errno == EBADF || errno == ENOTSOCK)
				break;
			/* An ICMP error is reported once as the socket's own; what the peer said before it died comes first. */
			dev->icmp = true;
			continue;
		}
		dev->now = rackwire_now_ns();
		for (i = 0; i < n; i++)
			take_datagram(dev, (u32)i);
		taken += (u32)n;
		dev->rx.burst = n > 1 || (dev->rx.msgs[0].msg_len < BULK && dev->now < dev->rx.at + BURST_NS);
		dev->rx.at = dev->now;
		if (!dev->icmp && ((u32)n < room || (dev->rx.msgs[0].msg_len < BULK && !dev->rx.burst)))
			break;
	}
	return taken;
}
