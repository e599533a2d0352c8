// SPDX-License-Identifier: BSD-2-Clause
/*
 * roce_perf: the user-space RoCEv2 library over the network, with nothing in between.
 *
 *   roce_perf server ADDRESS PORT [--wait] [--cpu N]
 *   roce_perf client ADDRESS PORT lat|bw|rate|read [--wait] [--cpu N] [--length BYTES]
 *        [--depth N] [--milliseconds N] [--local ADDRESS] [--no-gso] [--mtu N]
 *        [--buffer BYTES] [--window BYTES]
 *
 * lat: WRITE ping-pong, each end looking at the last byte of its memory; prints
 * half round trips. bw, rate: WRITEs of a length, so many at a time; read:
 * READs. --wait sleeps for completions (lat: WRITE with immediate) instead of
 * polling. One client at a time; the server ends with SIGTERM.
 */
#include "common.h"
#include "rackwire_roce.h"

#define BUFFER (8u << 20)
#define RTT_MAX (16u << 20)
#define DEPTH_MAX 1024

static struct {
	int wait, no_gso;
	long cpu;
	size_t length;
	uint32_t depth, mtu, buffer, window;
	uint64_t milliseconds;
	const char *local;
} want = { .cpu = -1, .length = 8, .depth = 64, .milliseconds = 3000, .local = "" };

/* What the two ends tell each other when they connect. */
struct hello {
	uint64_t addr;
	uint32_t rkey, wait;
	uint64_t length;
	char mode;
};

static struct rackwire_roce_dev *dev;
static struct rackwire_roce_pd *pd;
static struct rackwire_roce_cq *cq;
static struct rackwire_roce_mr *mr;
static struct rackwire_roce_qp *qp;
static struct rackwire_roce_cm_id *id;
static unsigned char *buffer;
static struct hello mine, theirs;

static void check(int result, const char *what)
{
	if (result >= 0)
		return;
	errno = -result;
	die(what);
}

static void open_device(const char *local)
{
	struct rackwire_roce_config config = {
		.size = sizeof(config), .mtu = want.mtu, .rcvbuf = want.buffer, .window = want.window,
	};
	char error[RACKWIRE_ROCE_ERROR_LEN];

	snprintf(config.local, sizeof(config.local), "%s", local);
	config.flags = want.no_gso ? RACKWIRE_ROCE_NO_GSO : 0;
	if (rackwire_roce_open(&config, &dev, error, sizeof(error)) < 0) {
		fprintf(stderr, "roce_perf: %s\n", error);
		exit(1);
	}
	buffer = aligned_alloc(4096, 2 * BUFFER);
	if (!buffer)
		die("memory");
	memset(buffer, 0, 2 * BUFFER);
	check(rackwire_roce_pd_create(dev, &pd), "protection domain");
	check(rackwire_roce_mr_register(pd, buffer, 2 * BUFFER,
					RACKWIRE_ROCE_LOCAL_WRITE | RACKWIRE_ROCE_REMOTE_WRITE | RACKWIRE_ROCE_REMOTE_READ, &mr),
	      "memory region");
	check(rackwire_roce_cq_create(dev, 4 * DEPTH_MAX, NULL, &cq), "completion queue");
}

static void make_qp(void)
{
	struct rackwire_roce_qp_attr attr = {
		.max_send_wr = DEPTH_MAX, .max_recv_wr = DEPTH_MAX,
		.access = RACKWIRE_ROCE_REMOTE_WRITE | RACKWIRE_ROCE_REMOTE_READ,
	};

	check(rackwire_roce_qp_create(pd, cq, cq, &attr, NULL, &qp), "queue pair");
}

static void post_receive(void)
{
	struct rackwire_roce_recv_wr wr = { 0 };

	check(rackwire_roce_post_recv(qp, &wr, 1, NULL), "receive");
}

/* One work request from the lower half of the memory to the upper half of the peer's. */
static void post(uint32_t opcode, size_t length, uint32_t flags)
{
	struct rackwire_roce_sge sge = { (uintptr_t)buffer, (uint32_t)length, rackwire_roce_mr_key(mr) };
	struct rackwire_roce_send_wr wr = {
		.sg_list = &sge, .num_sge = 1, .opcode = opcode, .flags = flags,
		.remote_addr = theirs.addr + BUFFER, .rkey = theirs.rkey,
	};

	check(rackwire_roce_post_send(qp, &wr, 1, NULL), "post");
}

static int take(struct rackwire_roce_wc *wc, uint32_t max)
{
	int n = rackwire_roce_poll_cq(cq, wc, max), i;

	while (n == 0 && want.wait && !bench_stop) {
		if (rackwire_roce_cq_wait(cq, 100 * MILLISECOND) < 0)
			return 0;
		n = rackwire_roce_poll_cq(cq, wc, max);
	}
	check(n, "poll");
	for (i = 0; i < n; i++)
		if (wc[i].status) {
			if (wc[i].status != RACKWIRE_ROCE_WC_WR_FLUSH_ERR)
				fprintf(stderr, "roce_perf: completion with status %u\n", wc[i].status);
			return -1;
		}
	return n;
}

/* Until the peer has written @value; counts what completes meanwhile. */
static int await(unsigned char value, size_t length, uint32_t *pending)
{
	volatile unsigned char *last = buffer + BUFFER + length - 1;
	struct rackwire_roce_wc wc[16];
	int n, i;

	while (!bench_stop) {
		if (!want.wait && *last == value)
			return 1;
		n = take(wc, 16);
		if (n < 0)
			return 0;
		for (i = 0; i < n; i++) {
			if (wc[i].opcode == RACKWIRE_ROCE_WC_RDMA_WRITE) {
				(*pending)--;
			} else {
				post_receive();
				return 1;
			}
		}
	}
	return 0;
}

static void ping(unsigned char value, size_t length, uint32_t *pending)
{
	buffer[length - 1] = value;
	/* Every sixteenth is signalled: that is enough to free the send queue. */
	post(want.wait ? RACKWIRE_ROCE_WR_RDMA_WRITE_WITH_IMM : RACKWIRE_ROCE_WR_RDMA_WRITE, length,
	     value % 16 ? 0 : RACKWIRE_ROCE_SEND_SIGNALED);
	*pending += value % 16 == 0;
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void measure_latency(void)
{
	uint32_t *rtt = malloc(RTT_MAX * sizeof(*rtt)), pending = 0;
	uint64_t begin = now_ns(), end = begin + want.milliseconds * MILLISECOND, at = begin;
	size_t count = 0;

	if (!rtt)
		die("memory");
	while (at < end && count < RTT_MAX && !bench_stop) {
		unsigned char value = (unsigned char)(count + 1);

		ping(value, want.length, &pending);
		if (!await(value, want.length, &pending))
			break;
		rtt[count] = (uint32_t)(now_ns() - at);
		at += rtt[count++];
	}
	if (!count) {
		fprintf(stderr, "roce_perf: no answers\n");
		exit(1);
	}
	qsort(rtt, count, sizeof(*rtt), compare);
	printf("{\"count\":%zu,\"half_p50_us\":%.3f,\"half_p90_us\":%.3f,\"half_p99_us\":%.3f}\n", count,
	       rtt[count / 2] / 2000.0, rtt[count * 9 / 10] / 2000.0, rtt[count * 99 / 100] / 2000.0);
	free(rtt);
}

static void echo(size_t length)
{
	uint32_t pending = 0;
	unsigned char value = 1;

	while (await(value, length, &pending))
		ping(value++, length, &pending);
}

static void measure_stream(uint32_t opcode)
{
	uint64_t begin = now_ns(), end = begin + want.milliseconds * MILLISECOND, now = begin, done = 0;
	struct rackwire_roce_wc wc[64];
	struct rackwire_roce_dev_stats stats;
	struct rackwire_roce_qp_stats qps;
	uint32_t under_way = 0;
	int n;

	while ((now < end || under_way) && !bench_stop) {
		while (now < end && under_way < want.depth) {
			post(opcode, want.length, RACKWIRE_ROCE_SEND_SIGNALED);
			under_way++;
		}
		n = take(wc, 64);
		if (n < 0)
			exit(1);
		under_way -= (uint32_t)n;
		done += (uint64_t)n;
		now = now_ns();
	}
	rackwire_roce_dev_stats(dev, &stats);
	rackwire_roce_qp_stats(qp, &qps);
	printf("{\"messages\":%llu,\"mps\":%.0f,\"gbps\":%.3f,\"rtx\":%llu,\"timeouts\":%llu,\"seq_nak\":%llu,\"bad_icrc\":%llu,\"blocked\":%llu}\n",
	       (unsigned long long)done, done * 1e9 / (double)(now - begin),
	       done * 8.0 * (double)want.length / (double)(now - begin), (unsigned long long)qps.rtx_packets,
	       (unsigned long long)qps.timeouts, (unsigned long long)qps.seq_nak_rx,
	       (unsigned long long)stats.rx_bad_icrc, (unsigned long long)stats.tx_blocked);
}

static int next_event(struct rackwire_roce_cm_event *event, uint64_t timeout)
{
	int r = rackwire_roce_cm_wait(dev, event, timeout);

	check(r, "event");
	return r;
}

static void serve_one(const struct rackwire_roce_cm_event *request)
{
	struct rackwire_roce_conn_param param = {
		.private_data = &mine, .private_data_len = sizeof(mine), .retry_count = 7, .rnr_retry_count = 7,
		.responder_resources = 16, .initiator_depth = 16,
	};
	struct rackwire_roce_cm_event event;
	struct rackwire_roce_wc wc[16];
	int i;

	memcpy(&theirs, request->private_data, sizeof(theirs));
	id = request->id;
	want.wait = (int)theirs.wait;
	make_qp();
	memset(buffer, 0, 2 * BUFFER);
	for (i = 0; i < 32; i++)
		post_receive();
	mine = (struct hello){ .addr = (uintptr_t)buffer, .rkey = rackwire_roce_mr_key(mr) };
	check(rackwire_roce_accept(id, qp, &param, NULL), "accept");
	while (!bench_stop && next_event(&event, SECOND) >= 0 && event.kind != RACKWIRE_ROCE_CM_ESTABLISHED)
		;
	if (theirs.mode == 'l')
		echo(theirs.length);
	while (!bench_stop && take(wc, 16) >= 0)
		if (!want.wait && rackwire_roce_qp_state(qp) != RACKWIRE_ROCE_QP_RTS)
			break;
	rackwire_roce_qp_destroy(qp);
	rackwire_roce_cm_destroy(id);
	while (rackwire_roce_cm_next(dev, &event))
		;
	while (rackwire_roce_poll_cq(cq, wc, 16) > 0)
		;
}

static void serve(const char *address, uint16_t port)
{
	struct rackwire_roce_cm_id *listener;
	struct rackwire_roce_cm_event event;

	open_device(address);
	check(rackwire_roce_listen(dev, port, 0, NULL, &listener), "listen");
	puts("listening");
	fflush(stdout);
	while (!bench_stop)
		if (next_event(&event, 100 * MILLISECOND) && event.kind == RACKWIRE_ROCE_CM_CONNECT_REQUEST)
			serve_one(&event);
	rackwire_roce_close(dev);
}

static void run_client(const struct sockaddr_storage *target, char mode)
{
	struct rackwire_roce_conn_param param = {
		.private_data = &mine, .private_data_len = sizeof(mine), .retry_count = 7, .rnr_retry_count = 7,
		.responder_resources = 16, .initiator_depth = 16,
	};
	struct rackwire_roce_cm_event event;
	int i;

	open_device(want.local);
	make_qp();
	for (i = 0; i < 32; i++)
		post_receive();
	mine = (struct hello){ (uintptr_t)buffer, rackwire_roce_mr_key(mr), (uint32_t)want.wait, want.length, mode };
	check(rackwire_roce_connect(dev, qp, (const struct sockaddr *)target, &param, NULL, &id), "connect");
	if (!next_event(&event, 10 * SECOND) || event.kind != RACKWIRE_ROCE_CM_ESTABLISHED) {
		fprintf(stderr, "roce_perf: not connected (event %u, status %u, error %d)\n", event.kind, event.status, event.error);
		exit(1);
	}
	memcpy(&theirs, event.private_data, sizeof(theirs));
	if (mode == 'l')
		measure_latency();
	else
		measure_stream(mode == 'd' ? RACKWIRE_ROCE_WR_RDMA_READ : RACKWIRE_ROCE_WR_RDMA_WRITE);
	rackwire_roce_close(dev);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "wait", 0, NULL, 'w' }, { "cpu", 1, NULL, 'c' }, { "length", 1, NULL, 'l' }, { "depth", 1, NULL, 'd' },
		{ "milliseconds", 1, NULL, 'm' }, { "local", 1, NULL, 'a' }, { "no-gso", 0, NULL, 'g' },
		{ "mtu", 1, NULL, 'u' }, { "buffer", 1, NULL, 'b' }, { "window", 1, NULL, 'W' }, { 0 },
	};
	struct sockaddr_storage address;
	const char *mode;
	int letter;

	while ((letter = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (letter == 'w')
			want.wait = 1;
		else if (letter == 'c')
			want.cpu = (long)number(optarg);
		else if (letter == 'l')
			want.length = number(optarg);
		else if (letter == 'd')
			want.depth = (uint32_t)number(optarg);
		else if (letter == 'm')
			want.milliseconds = number(optarg);
		else if (letter == 'a')
			want.local = optarg;
		else if (letter == 'g')
			want.no_gso = 1;
		else if (letter == 'b')
			want.buffer = (uint32_t)number(optarg);
		else if (letter == 'W')
			want.window = (uint32_t)number(optarg);
		else if (letter == 'u')
			want.mtu = (uint32_t)number(optarg);
		else
			return 2;
	}
	argc -= optind;
	argv += optind;
	if (argc < 3 || want.length < 1 || want.length > BUFFER || !want.depth || want.depth > DEPTH_MAX ||
	    (!strcmp(argv[0], "client") && argc < 4)) {
		fprintf(stderr, "usage: roce_perf server|client ADDRESS PORT [lat|bw|rate|read] [options]\n");
		return 2;
	}
	parse_address(argv[1], argv[2], &address);
	bench_catch_signals();
	if (want.cpu >= 0)
		pin(want.cpu);
	if (!strcmp(argv[0], "server")) {
		serve(argv[1], (uint16_t)number(argv[2]));
		return 0;
	}
	mode = argv[3];
	run_client(&address, !strcmp(mode, "lat") ? 'l' : !strcmp(mode, "read") ? 'd' : 'b');
	return 0;
}
