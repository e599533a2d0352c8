// SPDX-License-Identifier: BSD-2-Clause
/* Packets from strangers: nonsense, wrong and forged ones. They are counted, and disturb nobody. */
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>

#include "pair.h"
#include "roce/core/roce_icrc.h"

#ifndef UDP_NO_CHECK6_TX
#define UDP_NO_CHECK6_TX 101
#endif
#define STRANGER "127.0.0.3"
#define VICTIM "127.0.0.1"
#define ACK_LEN (ROCE_BTH_LEN + ROCE_AETH_LEN)

static struct rackwire_roce_dev_stats stats_of(struct rackwire_roce_dev *dev)
{
	struct rackwire_roce_dev_stats stats = { 0 };

	rackwire_roce_dev_stats(dev, &stats);
	return stats;
}

static struct sockaddr_in at(const char *address)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(test_udp_port()) };

	inet_pton(AF_INET, address, &in.sin_addr);
	return in;
}

/* An acknowledgement for queue pair @qpn, complete. Return: its length. */
static size_t make_ack_from(uint8_t *packet, const char *from, uint16_t sport, uint32_t qpn, uint16_t id)
{
	const struct roce_pkt pkt = { .opcode = ROCE_ACK, .pkey = ROCE_PKEY_DEFAULT, .dest_qpn = qpn, .psn = 1 };
	uint8_t src[16] = { [10] = 0xff, 0xff }, dst[16] = { [10] = 0xff, 0xff };
	struct roce_flow flow;

	inet_pton(AF_INET, from, src + 12);
	inet_pton(AF_INET, VICTIM, dst + 12);
	roce_flow_init(&flow, src, dst, sport, test_udp_port(), ROCE_IP_DF);
	roce_encode(packet, &pkt);
	roce_icrc_put(packet + ACK_LEN, roce_icrc(&flow, roce_crc32, id, packet, ACK_LEN));
	return ACK_LEN + ROCE_ICRC_LEN;
}

static size_t make_ack(uint8_t *packet, const char *from, uint32_t qpn, uint16_t id)
{
	return make_ack_from(packet, from, test_udp_port(), qpn, id);
}

/* Sends with an IPv4 header of our own making. */
static bool send_raw_from(int fd, const char *from, uint16_t sport, const uint8_t *packet, size_t length, uint16_t id)
{
	struct {
		struct iphdr ip;
		struct udphdr udp;
		uint8_t data[64];
	} __attribute__((packed)) out = {
		.ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP, .id = htons(id), .frag_off = htons(ROCE_IP_DF) },
		.udp = { .source = htons(sport), .dest = htons(test_udp_port()), .len = htons((uint16_t)(8 + length)) },
	};
	struct sockaddr_in to = at(VICTIM);

	memcpy(out.data, packet, length);
	out.ip.saddr = at(from).sin_addr.s_addr;
	out.ip.daddr = to.sin_addr.s_addr;
	return sendto(fd, &out, 28 + length, 0, (struct sockaddr *)&to, sizeof(to)) == (ssize_t)(28 + length);
}

static bool send_raw(int fd, const char *from, const uint8_t *packet, size_t length, uint16_t id)
{
	return send_raw_from(fd, from, test_udp_port(), packet, length, id);
}

static bool works(struct end *a, struct end *b)
{
	struct rackwire_roce_wc wc;

	fill(a->memory, 5000, 3);
	return !end_post(a, RACKWIRE_ROCE_WR_RDMA_WRITE, 0, 5000, addr_of(b, 0), rackwire_roce_mr_key(b->mr), 1) &&
	       !end_complete(a, &wc) && filled(b->memory, 5000, 3);
}

static void hostile__nonsense(void)
{
	struct sockaddr_in from = at(STRANGER), to = at(VICTIM);
	uint8_t junk[9000];
	struct end a, b;
	uint64_t sent = 0;
	int fd, i;

	TAP_CHECK(!end_open(&a, VICTIM, 0) && !end_open(&b, "127.0.0.2", 0) && !pair_connect(&b, &a, VICTIM));
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	TAP_CHECK(!bind(fd, (struct sockaddr *)&from, sizeof(from)));
	for (i = 0; i < 2000; i++) {
		size_t length = (size_t)i * 7 % sizeof(junk);

		fill(junk, sizeof(junk), (uint32_t)i);
		if (i % 3 == 0)
			length = make_ack(junk, STRANGER, 0x123456, 0) - (i & 1);
		if (i % 3 == 0)
			junk[ACK_LEN - 1] ^= 1;
		if (sendto(fd, junk, length, 0, (struct sockaddr *)&to, sizeof(to)) == (ssize_t)length)
			sent++;
		if (i % 100 == 0)
			TAP_CHECK(works(&b, &a));
	}
	EVENTUALLY(stats_of(a.dev).rx_bad_icrc + stats_of(a.dev).rx_malformed >= sent - 10);
	TAP_CHECK(works(&b, &a) && works(&a, &b));
	close(fd);
	end_close(&a);
	end_close(&b);
}

/* The ICRC covers the IPv4 identification, which the socket hides. */
static void hostile__identifications(void)
{
	struct rackwire_roce_dev *dev;
	uint8_t packet[64];
	uint16_t id;
	size_t length;
	int raw, i;

	raw = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
	if (raw < 0)
		TAP_SKIP("raw sockets need CAP_NET_RAW");
	TAP_CHECK(!dev_open(VICTIM, 0, &dev));
	/* A sender with a counter, as rdma_rxe is: solved for, then expected. */
	for (i = 0; i < 100; i++) {
		length = make_ack(packet, STRANGER, 0x123456, (uint16_t)(40000 + 3 * i));
		TAP_CHECK(send_raw(raw, STRANGER, packet, length, (uint16_t)(40000 + 3 * i)));
	}
	EVENTUALLY(stats_of(dev).rx_unknown_qp == 100);
	/* The counter is that of its address: another port moves it on. */
	for (i = 1, id = 40300; i <= 11; i++) {
		const uint16_t sport = (uint16_t)(test_udp_port() + (i < 11));

		id += 4000;
		length = make_ack_from(packet, STRANGER, sport, 0x123456, id);
		TAP_CHECK(send_raw_from(raw, STRANGER, sport, packet, length, id));
	}
	EVENTUALLY(stats_of(dev).rx_unknown_qp == 111);
	TAP_CHECK(!stats_of(dev).rx_bad_icrc);
	/* After a pause the counter is elsewhere. */
	usleep(1100000);
	for (i = 0; i < 20; i++) {
		length = make_ack(packet, STRANGER, 0x123456, (uint16_t)(60000 + i));
		TAP_CHECK(send_raw(raw, STRANGER, packet, length, (uint16_t)(60000 + i)));
	}
	EVENTUALLY(stats_of(dev).rx_unknown_qp == 131);
	TAP_CHECK(!stats_of(dev).rx_bad_icrc);
	/* Damage that another identification would explain is damage, in a sender known this well ... */
	length = make_ack(packet, STRANGER, 0x123456, 100);
	for (i = 0; i < 5; i++)
		TAP_CHECK(send_raw(raw, STRANGER, packet, length, 100));
	EVENTUALLY(stats_of(dev).rx_bad_icrc == 5);
	/* ... unless it goes on: then the sender has changed. */
	for (i = 0; i < 10; i++)
		TAP_CHECK(send_raw(raw, STRANGER, packet, length, 100));
	EVENTUALLY(stats_of(dev).rx_unknown_qp > 131);
	rackwire_roce_close(dev);

	TAP_CHECK(!dev_open(VICTIM, RACKWIRE_ROCE_STRICT_ID, &dev));
	for (i = 0; i < 100; i++) {
		length = make_ack(packet, STRANGER, 0x123456, (uint16_t)(i % 2 ? 7 : 40000));
		TAP_CHECK(send_raw(raw, STRANGER, packet, length, (uint16_t)(i % 2 ? 7 : 40000)));
	}
	EVENTUALLY(stats_of(dev).rx_unknown_qp == 50 && stats_of(dev).rx_bad_icrc == 50);
	rackwire_roce_close(dev);
	close(raw);
}

/* The kernel's rdma_rxe leaves the UDP checksum out over IPv6, too, where it is mandatory but for such protocols. */
static void hostile__no_udp_checksum(void)
{
	const struct roce_pkt pkt = { .opcode = ROCE_ACK, .pkey = ROCE_PKEY_DEFAULT, .dest_qpn = 0x123456, .psn = 1 };
	struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	static const char *const places[] = { "::1", "" };
	struct rackwire_roce_dev *dev;
	struct sockaddr_in6 from;
	struct roce_flow flow;
	uint8_t packet[64];
	int fd, on = 1;
	size_t i;

	for (i = 0; i < 2; i++) {
		TAP_CHECK(!dev_open(places[i], 0, &dev));
		fd = socket(AF_INET6, SOCK_DGRAM, 0);
		TAP_CHECK(!setsockopt(fd, IPPROTO_UDP, UDP_NO_CHECK6_TX, &on, sizeof(on)));
		to.sin6_port = 0;
		TAP_CHECK(!bind(fd, (struct sockaddr *)&to, sizeof(to)));
		TAP_CHECK(!getsockname(fd, (struct sockaddr *)&from, &(socklen_t){ sizeof(from) }));
		roce_flow_init(&flow, from.sin6_addr.s6_addr, to.sin6_addr.s6_addr, ntohs(from.sin6_port), test_udp_port(), 0);
		roce_encode(packet, &pkt);
		roce_icrc_put(packet + ACK_LEN, roce_icrc(&flow, roce_crc32, 0, packet, ACK_LEN));
		to.sin6_port = htons(test_udp_port());
		TAP_CHECK(sendto(fd, packet, ACK_LEN + ROCE_ICRC_LEN, 0, (struct sockaddr *)&to, sizeof(to)) > 0);
		EVENTUALLY(stats_of(dev).rx_unknown_qp == 1);
		close(fd);
		rackwire_roce_close(dev);
	}
}

/* Whoever gets another's packet hands it on once, and who is handed one keeps it. */
static void hostile__no_loops(void)
{
	struct rackwire_roce_dev *wide, *specific;
	struct rackwire_roce_pd *pd;
	struct rackwire_roce_cq *cq;
	struct rackwire_roce_qp *qp;
	struct sockaddr_in from = at(STRANGER), to = at(VICTIM);
	uint8_t packet[64];
	uint64_t unknown;
	uint32_t qpn;
	size_t length;
	int fd, pmtu = IP_PMTUDISC_DO, i;

	TAP_CHECK(!dev_open("", 0, &wide) && !dev_open(VICTIM, 0, &specific));
	TAP_CHECK(!rackwire_roce_pd_create(wide, &pd) && !rackwire_roce_cq_create(wide, 4, NULL, &cq));
	TAP_CHECK(!rackwire_roce_qp_create(pd, cq, cq, &(struct rackwire_roce_qp_attr){ 0 }, NULL, &qp));
	qpn = rackwire_roce_qp_num(qp);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &pmtu, sizeof(pmtu));
	from.sin_port = htons(test_udp_port() + 1);
	TAP_CHECK(!bind(fd, (struct sockaddr *)&from, sizeof(from)));
	length = make_ack_from(packet, STRANGER, test_udp_port() + 1, qpn, 0);
	for (i = 0; i < 50; i++) {
		TAP_CHECK(sendto(fd, packet, length, 0, (struct sockaddr *)&to, sizeof(to)) == (ssize_t)length);
		/* One at a time: a unix socket holds few, and the rest would be lost like any packet. */
		EVENTUALLY(stats_of(wide).rx_unknown_qp == (uint64_t)i + 1);
	}
	TAP_CHECK(stats_of(specific).forwarded == 50 && !stats_of(wide).forwarded);
	/* A slot that nobody has: whoever gets it keeps it. */
	length = make_ack_from(packet, STRANGER, test_udp_port() + 1, 0xf00001, 0);
	unknown = stats_of(specific).rx_unknown_qp;
	TAP_CHECK(sendto(fd, packet, length, 0, (struct sockaddr *)&to, sizeof(to)) == (ssize_t)length);
	EVENTUALLY(stats_of(specific).rx_unknown_qp == unknown + 1);
	TAP_CHECK(stats_of(specific).forwarded == 50);
	close(fd);
	rackwire_roce_close(specific);
	rackwire_roce_close(wide);
}

/* Nobody has the port there: the kernel's ICMP says so at once. */
static void hostile__port_unreachable(void)
{
	struct rackwire_roce_cm_event event;
	struct end a;

	TAP_CHECK(!end_open(&a, VICTIM, 0));
	TAP_CHECK(!end_connect(&a, "127.0.0.9", CM_PORT));
	TAP_CHECK(rackwire_roce_cm_wait(a.dev, &event, 2 * SECOND) == 1);
	TAP_CHECK(event.kind == RACKWIRE_ROCE_CM_UNREACHABLE && event.error == -ECONNREFUSED);
	end_close(&a);
}

static uint16_t checksum(const void *data, size_t length)
{
	const uint16_t *words = data;
	uint32_t sum = 0;

	for (; length > 1; length -= 2)
		sum += *words++;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* Anyone can send ICMP, but not quote a packet of ours. */
static void hostile__forged_icmp(void)
{
	struct {
		struct icmphdr icmp;
		struct iphdr ip;
		struct udphdr udp;
		uint8_t data[64];
	} __attribute__((packed)) out = {
		.icmp = { .type = ICMP_DEST_UNREACH, .code = ICMP_PORT_UNREACH },
		.ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP, .tot_len = htons(92), .frag_off = htons(ROCE_IP_DF) },
		.udp = { .source = htons(test_udp_port()), .dest = htons(test_udp_port()), .len = htons(72) },
	};
	struct sockaddr_in to = at(VICTIM);
	struct end a, b;
	int raw, i;

	raw = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
	if (raw < 0)
		TAP_SKIP("raw sockets need CAP_NET_RAW");
	TAP_CHECK(!end_open(&a, VICTIM, 0) && !end_open(&b, "127.0.0.2", 0) && !pair_connect(&a, &b, "127.0.0.2"));
	TAP_CHECK(works(&a, &b));
	out.ip.saddr = to.sin_addr.s_addr;
	out.ip.daddr = at("127.0.0.2").sin_addr.s_addr;
	make_ack(out.data, VICTIM, rackwire_roce_qp_num(b.qp), 0);
	out.icmp.checksum = checksum(&out, sizeof(out));
	for (i = 0; i < 50; i++)
		TAP_CHECK(sendto(raw, &out, sizeof(out), 0, (struct sockaddr *)&to, sizeof(to)) == sizeof(out));
	TAP_CHECK(works(&a, &b) && works(&b, &a));
	TAP_CHECK(rackwire_roce_qp_state(a.qp) == RACKWIRE_ROCE_QP_RTS);
	close(raw);
	end_close(&a);
	end_close(&b);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(hostile__nonsense),
		TAP_TEST(hostile__identifications),
		TAP_TEST(hostile__no_udp_checksum),
		TAP_TEST(hostile__no_loops),
		TAP_TEST(hostile__port_unreachable),
		TAP_TEST(hostile__forged_icmp),
	};

	return TAP_RUN(tests, argc, argv);
}
