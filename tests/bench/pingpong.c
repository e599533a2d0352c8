// SPDX-License-Identifier: BSD-2-Clause
/*
 * pingpong: round trips over the kernel's UDP or TCP with nothing in between.
 *
 *   pingpong udp|tcp server ADDRESS PORT [--busy] [--cpu N] [--length BYTES]
 *   pingpong udp|tcp client ADDRESS PORT [--busy] [--cpu N] [--length BYTES]
 *            [--milliseconds N] [--warmup MS]
 *
 * --busy asks the socket again and again instead of sleeping in the kernel. Both
 * ends must be given the same length. One client at a time; the server ends with
 * SIGTERM. The client prints exact percentiles as JSON; a UDP answer that does
 * not come within a second is lost.
 */
#include "common.h"

#define RTT_MAX (16u << 20)

static struct {
	int tcp, client, busy;
	long cpu;
	size_t length;
	uint64_t milliseconds, warmup;
} want = { .cpu = -1, .length = 64, .milliseconds = 3000, .warmup = 500 };

static int receive(int fd, char *data, size_t length)
{
	uint64_t limit = now_ns() + SECOND;
	size_t have = 0;

	while (have < length && !bench_stop) {
		ssize_t n = recv(fd, data + have, length - have, want.busy ? MSG_DONTWAIT : 0);

		if (n > 0) {
			have += (size_t)n;
			if (!want.tcp)
				return 1;
		} else if (n == 0) {
			return 0;
		} else if (errno != EAGAIN && errno != EINTR) {
			die("recv");
		} else if (want.client && (!want.busy || now_ns() > limit)) {
			return 0;
		}
	}
	return have == length;
}

static void transmit(int fd, const char *data, size_t length)
{
	/* Nothing fills a queue here: there is one message under way. */
	if (send(fd, data, length, MSG_NOSIGNAL) != (ssize_t)length && !bench_stop)
		die("send");
}

static void serve_udp(int fd, char *data)
{
	while (!bench_stop) {
		struct sockaddr_storage peer;
		socklen_t peer_length = sizeof(peer);
		ssize_t n = recvfrom(fd, data, DATAGRAM_MAX, want.busy ? MSG_DONTWAIT : 0, (struct sockaddr *)&peer,
				     &peer_length);

		if (n >= 0)
			sendto(fd, data, (size_t)n, 0, (struct sockaddr *)&peer, peer_length);
		else if (errno != EAGAIN && errno != EINTR)
			die("recvfrom");
	}
}

static void serve_tcp(int fd, char *data)
{
	int one = 1;

	while (!bench_stop) {
		int connection = accept(fd, NULL, NULL);

		if (connection < 0 && errno == EINTR)
			continue;
		if (connection < 0)
			die("accept");
		setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		while (receive(connection, data, want.length))
			transmit(connection, data, want.length);
		close(connection);
	}
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static double percentile(const uint32_t *sorted, size_t count, unsigned permille)
{
	size_t rank = (count * permille + 999) / 1000;

	return sorted[rank > 0 ? rank - 1 : 0] / 1000.0;
}

static void measure(int fd, char *data)
{
	uint32_t *rtt = malloc(RTT_MAX * sizeof(*rtt));
	uint64_t begin = now_ns(), from = begin + want.warmup * MILLISECOND, end = from + want.milliseconds * MILLISECOND;
	uint64_t sent_at = begin, lost = 0, sequence = 0;
	size_t count = 0;

	if (!rtt)
		die("memory");
	while (sent_at < end && !bench_stop && count < RTT_MAX) {
		uint64_t got = 0, done;

		sequence++;
		memcpy(data, &sequence, sizeof(sequence));
		sent_at = now_ns();
		transmit(fd, data, want.length);
		/* A late answer to an earlier request is not the answer to this one. */
		do {
			if (!receive(fd, data, want.length))
				break;
			memcpy(&got, data, sizeof(got));
		} while (got != sequence && !want.tcp);
		done = now_ns();
		if (got != sequence)
			lost++;
		else if (sent_at >= from)
			rtt[count++] = done - sent_at < UINT32_MAX ? (uint32_t)(done - sent_at) : UINT32_MAX;
	}
	if (count == 0) {
		fprintf(stderr, "pingpong: no answers\n");
		exit(1);
	}
	qsort(rtt, count, sizeof(*rtt), compare);
	printf("{\"count\":%zu,\"lost\":%llu,\"p50_us\":%.3f,\"p90_us\":%.3f,\"p99_us\":%.3f,\"p99_9_us\":%.3f,"
	       "\"max_us\":%.3f}\n",
	       count, (unsigned long long)lost, percentile(rtt, count, 500), percentile(rtt, count, 900),
	       percentile(rtt, count, 990), percentile(rtt, count, 999), rtt[count - 1] / 1000.0);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "busy", 0, NULL, 'b' },    { "cpu", 1, NULL, 'c' },	 { "length", 1, NULL, 'l' },
		{ "milliseconds", 1, NULL, 'm' }, { "warmup", 1, NULL, 'w' }, { 0 },
	};
	static char data[DATAGRAM_MAX];
	struct timeval second = { .tv_sec = 1 };
	struct sockaddr_storage address;
	socklen_t length;
	int letter, fd, one = 1;

	while ((letter = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (letter == 'b')
			want.busy = 1;
		else if (letter == 'c')
			want.cpu = (long)number(optarg);
		else if (letter == 'l')
			want.length = number(optarg);
		else if (letter == 'm')
			want.milliseconds = number(optarg);
		else if (letter == 'w')
			want.warmup = number(optarg);
		else
			return 2;
	}
	if (argc - optind != 4 || want.length < sizeof(uint64_t) || want.length > DATAGRAM_MAX) {
		fprintf(stderr, "usage: pingpong udp|tcp server|client ADDRESS PORT [options]; length from 8 to 65507\n");
		return 2;
	}
	want.tcp = !strcmp(argv[optind], "tcp");
	want.client = !strcmp(argv[optind + 1], "client");
	length = parse_address(argv[optind + 2], argv[optind + 3], &address);
	bench_catch_signals();
	if (want.cpu >= 0)
		pin(want.cpu);
	fd = socket(address.ss_family, want.tcp ? SOCK_STREAM : SOCK_DGRAM, 0);
	if (fd < 0)
		die("socket");
	if (want.client) {
		if (connect(fd, (struct sockaddr *)&address, length) < 0)
			die("connect");
		if (want.tcp)
			setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof(second));
		measure(fd, data);
		return 0;
	}
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&address, length) < 0 || (want.tcp && listen(fd, 8) < 0))
		die("bind");
	puts("listening");
	fflush(stdout);
	if (want.tcp)
		serve_tcp(fd, data);
	else
		serve_udp(fd, data);
	return 0;
}
