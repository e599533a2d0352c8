// SPDX-License-Identifier: BSD-2-Clause
/*
 * impair: joins two Ethernet interfaces and treats what passes badly.
 *
 *   impair [--seed N] [--delay-us N] [--reorder-ppm N] [--reorder-us N]
 *          [--duplicate-ppm N] [--drop-ppm N] [--corrupt-ppm N] IFACE IFACE
 *
 * Every frame is held for the delay; a reordered one for up to reorder-us more,
 * so that later ones overtake it; a duplicate follows up to reorder-us after the
 * first. Corruption flips one bit behind the first 20 bytes of the IP header.
 * Only IP is impaired, never ARP. Offloads must be off at both far ends: a frame
 * that is longer than the MTU, or has no checksum yet, would not pass as it is.
 *
 * Prints "ready" when it forwards, and on SIGTERM or SIGINT what it did, as JSON.
 * The same seed gives the same decisions for the same sequence of frames.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MILLION 1000000u
#define FRAME_MAX 65536
#define HELD_MAX (64u << 20)
#define BATCH 64
#define IP_START 14
#define HARM_START (IP_START + 20)

struct held {
	uint64_t due;
	uint64_t order;
	int out; /* index of the interface it leaves by */
	uint32_t length;
	uint8_t frame[];
};

static struct {
	uint64_t forwarded, dropped, duplicated, reordered, corrupted, refused;
} counts;

static struct {
	uint64_t seed, delay_us, reorder_ppm, reorder_us, duplicate_ppm, drop_ppm, corrupt_ppm;
} want = { .seed = 1, .reorder_us = 1000 };

static struct held **heap;
static size_t heap_count, heap_room;
static uint64_t held_bytes, next_order, random_state;
static volatile sig_atomic_t stop;

static void on_signal(int number)
{
	(void)number;
	stop = 1;
}

static void die(const char *what)
{
	fprintf(stderr, "impair: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* splitmix64 */
static uint64_t random_u64(void)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static int chance(uint64_t ppm)
{
	return random_u64() % MILLION < ppm;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int before(const struct held *a, const struct held *b)
{
	return a->due != b->due ? a->due < b->due : a->order < b->order;
}

static void heap_push(struct held *held)
{
	size_t i = heap_count++;

	if (heap_count > heap_room) {
		heap_room = heap_room ? 2 * heap_room : 1024;
		heap = realloc(heap, heap_room * sizeof(*heap));
		if (!heap)
			die("memory");
	}
	for (; i > 0 && before(held, heap[(i - 1) / 2]); i = (i - 1) / 2)
		heap[i] = heap[(i - 1) / 2];
	heap[i] = held;
}

static struct held *heap_pop(void)
{
	struct held *top = heap[0], *last = heap[--heap_count];
	size_t i = 0, child;

	for (; (child = 2 * i + 1) < heap_count; i = child) {
		if (child + 1 < heap_count && before(heap[child + 1], heap[child]))
			child++;
		if (before(last, heap[child]))
			break;
		heap[i] = heap[child];
	}
	heap[i] = last;
	return top;
}

static void hold(const uint8_t *frame, uint32_t length, int out, uint64_t due)
{
	struct held *held;

	if (held_bytes + length > HELD_MAX) {
		counts.refused++;
		return;
	}
	held = malloc(sizeof(*held) + length);
	if (!held)
		die("memory");
	held->due = due;
	held->order = next_order++;
	held->out = out;
	held->length = length;
	memcpy(held->frame, frame, length);
	held_bytes += length;
	heap_push(held);
}

static void take(uint8_t *frame, uint32_t length, int out, uint64_t now)
{
	uint16_t protocol = (uint16_t)(frame[12] << 8 | frame[13]);
	uint64_t due = now + want.delay_us * 1000;

	if (protocol != ETH_P_IP && protocol != ETH_P_IPV6) {
		hold(frame, length, out, due);
		return;
	}
	if (chance(want.drop_ppm)) {
		counts.dropped++;
		return;
	}
	if (chance(want.duplicate_ppm)) {
		counts.duplicated++;
		hold(frame, length, out, due + random_u64() % (want.reorder_us * 1000 + 1));
	}
	if (chance(want.corrupt_ppm) && length > HARM_START) {
		counts.corrupted++;
		frame[HARM_START + random_u64() % (length - HARM_START)] ^= (uint8_t)(1u << random_u64() % 8);
	}
	if (chance(want.reorder_ppm)) {
		counts.reordered++;
		due += 1 + random_u64() % (want.reorder_us * 1000 + 1);
	}
	hold(frame, length, out, due);
}

static void release(const int *sockets, uint64_t now)
{
	while (heap_count > 0 && heap[0]->due <= now) {
		struct held *held = heap_pop();

		/* A full queue or a link that is down loses the frame, as on a real wire. */
		if (send(sockets[held->out], held->frame, held->length, MSG_DONTWAIT) < 0)
			counts.refused++;
		else
			counts.forwarded++;
		held_bytes -= held->length;
		free(held);
	}
}

static int open_interface(const char *name)
{
	struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	struct packet_mreq all = { .mr_type = PACKET_MR_PROMISC };
	int one = 1, size = 32 << 20;
	int fd = socket(AF_PACKET, SOCK_RAW, 0);

	if (fd < 0)
		die("packet socket");
	address.sll_ifindex = all.mr_ifindex = (int)if_nametoindex(name);
	if (address.sll_ifindex == 0)
		die(name);
	if (setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)) < 0)
		die("PACKET_IGNORE_OUTGOING");
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof(all)) < 0)
		die(name);
	return fd;
}

static void parse(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seed", 1, NULL, 's' },	   { "delay-us", 1, NULL, 'd' },      { "reorder-ppm", 1, NULL, 'r' },
		{ "reorder-us", 1, NULL, 'R' },	   { "duplicate-ppm", 1, NULL, 'D' }, { "drop-ppm", 1, NULL, 'L' },
		{ "corrupt-ppm", 1, NULL, 'C' },   { 0 },
	};
	int letter;

	while ((letter = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		uint64_t *to = letter == 's'   ? &want.seed
			       : letter == 'd' ? &want.delay_us
			       : letter == 'r' ? &want.reorder_ppm
			       : letter == 'R' ? &want.reorder_us
			       : letter == 'D' ? &want.duplicate_ppm
			       : letter == 'L' ? &want.drop_ppm
			       : letter == 'C' ? &want.corrupt_ppm
					       : NULL;
		char *end;

		if (!to)
			exit(2);
		*to = strtoull(optarg, &end, 10);
		if (*end || end == optarg) {
			fprintf(stderr, "impair: not a number: %s\n", optarg);
			exit(2);
		}
	}
	if (argc - optind != 2) {
		fprintf(stderr, "usage: impair [options] IFACE IFACE\n");
		exit(2);
	}
}

int main(int argc, char **argv)
{
	static uint8_t frame[FRAME_MAX];
	struct sigaction action = { .sa_handler = on_signal };
	struct pollfd polled[2];
	int sockets[2], i, n;

	parse(argc, argv);
	random_state = want.seed;
	prctl(PR_SET_TIMERSLACK, 1);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	for (i = 0; i < 2; i++) {
		sockets[i] = open_interface(argv[optind + i]);
		polled[i] = (struct pollfd){ .fd = sockets[i], .events = POLLIN };
	}
	puts("ready");
	fflush(stdout);

	while (!stop) {
		uint64_t now = now_ns();
		struct timespec wait = { 0 };

		if (heap_count > 0 && heap[0]->due > now) {
			wait.tv_sec = (time_t)((heap[0]->due - now) / 1000000000u);
			wait.tv_nsec = (long)((heap[0]->due - now) % 1000000000u);
		}
		if (ppoll(polled, 2, heap_count > 0 ? &wait : NULL, NULL) < 0 && errno != EINTR)
			die("ppoll");
		now = now_ns();
		for (i = 0; i < 2; i++) {
			for (n = 0; n < BATCH; n++) {
				ssize_t length = recv(sockets[i], frame, sizeof(frame), MSG_DONTWAIT);

				if (length < IP_START)
					break;
				take(frame, (uint32_t)length, !i, now);
			}
		}
		release(sockets, now);
	}
	printf("{\"forwarded\":%llu,\"dropped\":%llu,\"duplicated\":%llu,\"reordered\":%llu,\"corrupted\":%llu,"
	       "\"refused\":%llu}\n",
	       (unsigned long long)counts.forwarded, (unsigned long long)counts.dropped,
	       (unsigned long long)counts.duplicated, (unsigned long long)counts.reordered,
	       (unsigned long long)counts.corrupted, (unsigned long long)counts.refused);
	return 0;
}
