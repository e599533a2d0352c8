// SPDX-License-Identifier: BSD-2-Clause
/*
 * messages: how many small UDP datagrams per second one socket takes from another.
 *
 *   messages receive ADDRESS PORT [--busy] [--cpu N] [--length BYTES] [--batch N] [--gso]
 *   messages send    ADDRESS PORT [--busy] [--cpu N] [--length BYTES] [--batch N] [--gso]
 *            [--milliseconds N] [--warmup MS]
 *
 * Batch 1 is a system call for each datagram (send, recv); above, sendmmsg and
 * recvmmsg, or with --gso one send that the kernel cuts up (UDP_SEGMENT) and one
 * receive of what it has put together (UDP_GRO). The sender never waits for the receiver, so datagrams are lost when
 * it is faster. Each prints its figures as JSON: the sender when its time is
 * over, the receiver at SIGTERM, its rate taken between its first and its last
 * datagram after the warm-up.
 */
#include "common.h"
#include <netinet/udp.h>

#define BATCH_MAX 256

static struct {
	int busy, gso;
	long cpu;
	size_t length, batch;
	uint64_t milliseconds, warmup;
} want = { .cpu = -1, .length = 64, .batch = 1, .milliseconds = 3000, .warmup = 500 };

static struct mmsghdr headers[BATCH_MAX];
static struct iovec vectors[BATCH_MAX];
static char *data;

static void prepare(void)
{
	/* With GRO the kernel may have put more together than the sender's batch. */
	data = calloc(1, want.gso ? DATAGRAM_MAX : want.batch * want.length);
	if (!data)
		die("memory");
	for (size_t i = 0; i < want.batch; i++) {
		vectors[i] = (struct iovec){ data + i * want.length, want.length };
		headers[i].msg_hdr = (struct msghdr){ .msg_iov = &vectors[i], .msg_iovlen = 1 };
	}
}

/* Datagrams moved by one call; 0: none now. */
static uint64_t move(int fd, int receiving)
{
	int flags = receiving && want.busy ? MSG_DONTWAIT : 0;
	ssize_t n;

	if (want.gso)
		n = receiving ? recv(fd, data, DATAGRAM_MAX, flags) : send(fd, data, want.batch * want.length, flags);
	else if (want.batch == 1)
		n = receiving ? recv(fd, data, want.length, flags) : send(fd, data, want.length, flags);
	else if (receiving)
		n = recvmmsg(fd, headers, (unsigned)want.batch, flags | MSG_WAITFORONE, NULL);
	else
		n = sendmmsg(fd, headers, (unsigned)want.batch, flags);
	if (n >= 0)
		return want.gso ? (uint64_t)n / want.length : want.batch == 1 ? 1 : (uint64_t)n;
	if (errno != EAGAIN && errno != EINTR && errno != ENOBUFS)
		die(receiving ? "receive" : "send");
	return 0;
}

static void report(uint64_t count, uint64_t ns)
{
	printf("{\"datagrams\":%llu,\"seconds\":%.6f,\"per_second\":%.1f}\n", (unsigned long long)count,
	       (double)ns / SECOND, ns > 0 ? (double)count * SECOND / (double)ns : 0.0);
}

static void send_all(int fd)
{
	uint64_t from = now_ns() + want.warmup * MILLISECOND, end = from + want.milliseconds * MILLISECOND, count = 0, now;

	while ((now = now_ns()) < end && !bench_stop) {
		uint64_t moved = move(fd, 0);

		if (now >= from)
			count += moved;
	}
	report(count, want.milliseconds * MILLISECOND);
}

static void receive_all(int fd)
{
	uint64_t first = 0, last = 0, count = 0, from = 0;

	while (!bench_stop) {
		uint64_t moved = move(fd, 1), now;

		if (moved == 0)
			continue;
		now = now_ns();
		if (from == 0)
			from = now + want.warmup * MILLISECOND;
		if (now < from)
			continue;
		if (first == 0)
			first = now;
		else
			count += moved;
		last = now;
	}
	report(count, last - first);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "busy", 0, NULL, 'b' },    { "cpu", 1, NULL, 'c' },	 { "length", 1, NULL, 'l' },
		{ "batch", 1, NULL, 'n' },   { "milliseconds", 1, NULL, 'm' }, { "warmup", 1, NULL, 'w' },
		{ "gso", 0, NULL, 'g' },     { 0 },
	};
	struct sockaddr_storage address;
	socklen_t length;
	int letter, fd, receiving, segment, size = 8 << 20;

	while ((letter = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (letter == 'b')
			want.busy = 1;
		else if (letter == 'g')
			want.gso = 1;
		else if (letter == 'c')
			want.cpu = (long)number(optarg);
		else if (letter == 'l')
			want.length = number(optarg);
		else if (letter == 'n')
			want.batch = number(optarg);
		else if (letter == 'm')
			want.milliseconds = number(optarg);
		else if (letter == 'w')
			want.warmup = number(optarg);
		else
			return 2;
	}
	if (argc - optind != 3 || want.length < 1 || want.length > DATAGRAM_MAX || want.batch < 1 ||
	    want.batch > BATCH_MAX || (want.gso && want.batch * want.length > DATAGRAM_MAX)) {
		fprintf(stderr, "usage: messages send|receive ADDRESS PORT [options]; batch from 1 to 256\n");
		return 2;
	}
	receiving = !strcmp(argv[optind], "receive");
	length = parse_address(argv[optind + 1], argv[optind + 2], &address);
	bench_catch_signals();
	if (want.cpu >= 0)
		pin(want.cpu);
	prepare();
	fd = socket(address.ss_family, SOCK_DGRAM, 0);
	if (fd < 0)
		die("socket");
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	segment = receiving ? 1 : (int)want.length;
	if (want.gso && setsockopt(fd, SOL_UDP, receiving ? UDP_GRO : UDP_SEGMENT, &segment, sizeof(segment)) < 0)
		die("segmentation offload");
	if (receiving) {
		if (bind(fd, (struct sockaddr *)&address, length) < 0)
			die("bind");
		puts("listening");
		fflush(stdout);
		receive_all(fd);
	} else {
		if (connect(fd, (struct sockaddr *)&address, length) < 0)
			die("connect");
		send_all(fd);
	}
	return 0;
}
