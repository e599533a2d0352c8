// SPDX-License-Identifier: BSD-2-Clause
/* What is sent arrives: streams and messages, through both engines. */
#include "pair.h"

#define STREAM_BYTES (8 << 20)

struct sender {
	struct rackwire_dcpim_socket *socket;
	size_t total, piece;
	ssize_t result;
};

static void *send_pattern(void *arg)
{
	struct sender *s = arg;
	uint8_t *data = malloc(s->piece);
	size_t done, n;

	for (done = 0; done < s->total; done += n) {
		n = s->total - done < s->piece ? s->total - done : s->piece;
		fill_pattern(data, n, done);
		s->result = rackwire_dcpim_send(s->socket, data, n, 0);
		if (s->result != (ssize_t)n)
			break;
	}
	free(data);
	if (done == s->total)
		s->result = rackwire_dcpim_shutdown(s->socket, SHUT_WR);
	return NULL;
}

static bool receive_pattern(struct rackwire_dcpim_socket *socket, size_t total, size_t piece)
{
	uint8_t *data = malloc(piece);
	size_t done = 0;
	ssize_t n;
	bool good = true;

	while (good && (n = rackwire_dcpim_recv(socket, data, piece, 0)) > 0) {
		good = is_pattern(data, (size_t)n, done);
		done += (size_t)n;
	}
	free(data);
	return good && n == 0 && done == total;
}

static void transfer(size_t total, size_t send_piece, size_t recv_piece)
{
	struct rackwire_dcpim_socket *near, *far;
	struct sender up = { .total = total, .piece = send_piece }, down = up;
	pthread_t threads[2];

	TAP_CHECK(!pair_connect(RACKWIRE_DCPIM_STREAM, &near, &far));
	up.socket = near;
	down.socket = far;
	TAP_CHECK(!pthread_create(&threads[0], NULL, send_pattern, &up));
	TAP_CHECK(receive_pattern(far, total, recv_piece));
	pthread_join(threads[0], NULL);
	TAP_CHECK(!up.result);
	/* The other half is still open. */
	TAP_CHECK(!pthread_create(&threads[1], NULL, send_pattern, &down));
	TAP_CHECK(receive_pattern(near, total, recv_piece));
	pthread_join(threads[1], NULL);
	TAP_CHECK(!down.result);
	TAP_CHECK(!rackwire_dcpim_close(near));
	TAP_CHECK(!rackwire_dcpim_close(far));
}

static void stream__carries_bytes_both_ways_with_half_close(void)
{
	transfer(STREAM_BYTES, 100000, 70001);
}
EACH_ENGINE(stream__carries_bytes_both_ways_with_half_close)

static void stream__carries_small_writes(void)
{
	transfer(100000, 61, 4096);
}
EACH_ENGINE(stream__carries_small_writes)

static void stream__carries_one_large_write(void)
{
	transfer(STREAM_BYTES, STREAM_BYTES, 1 << 20);
}
EACH_ENGINE(stream__carries_one_large_write)

static void with_config(uint32_t kind, uint32_t mtu, uint32_t flags, uint32_t threads)
{
	pair_config(kind, AF_INET);
	pair.config.mtu = mtu;
	pair.config.flags = flags;
	pair.config.threads = threads;
	TAP_CHECK(!pair_open());
	transfer(2 << 20, 100000, 70001);
	if (!tap_failed)
		pair_close();
}

static void stream__segments_by_offload_at_mtu_1500(void)
{
	struct rackwire_dcpim_stats stats = { .size = sizeof(stats) };

	pair_config(RACKWIRE_DCPIM_UDP, AF_INET);
	pair.config.mtu = 1500;
	TAP_CHECK(!pair_open());
	transfer(2 << 20, 100000, 70001);
	TAP_CHECK(!rackwire_dcpim_engine_stats(pair.client, &stats));
	TAP_CHECK(stats.tx_datagrams < stats.tx_packets / 2);
	pair_close();
}

static void stream__works_without_offload(void)
{
	with_config(RACKWIRE_DCPIM_UDP, 1500, RACKWIRE_DCPIM_NO_OFFLOAD, 1);
}

static void stream__works_at_mtu_576(void)
{
	with_config(RACKWIRE_DCPIM_UDP, 576, 0, 1);
}

static void stream__works_with_checksums(void)
{
	with_config(RACKWIRE_DCPIM_UDP, 0, RACKWIRE_DCPIM_CRC, 1);
}

static void stream__works_with_three_threads(void)
{
	with_config(RACKWIRE_DCPIM_UDP, 0, 0, 3);
}

static void stream__works_with_three_threads_raw(void)
{
	if (geteuid())
		TAP_SKIP("raw sockets need CAP_NET_RAW");
	with_config(RACKWIRE_DCPIM_RAW, 0, 0, 3);
}

static void stream__works_busy_polling(void)
{
	pair_config(RACKWIRE_DCPIM_UDP, AF_INET);
	pair.config.wakeup = RACKWIRE_DCPIM_BUSY_POLL;
	pair.config.spin_ns = 5 * MS; /* four spinning threads share what CPUs there are */
	TAP_CHECK(!pair_open());
	transfer(1 << 20, 100000, 70001);
	if (!tap_failed)
		pair_close();
}

static void stream__more_holds_back_and_then_sends(void)
{
	struct rackwire_dcpim_socket *near, *far;
	char data[16];

	TAP_CHECK(!pair_connect(RACKWIRE_DCPIM_STREAM, &near, &far));
	TAP_CHECK(rackwire_dcpim_send(near, "abc", 3, MSG_MORE) == 3);
	usleep(20000);
	TAP_CHECK(rackwire_dcpim_recv(far, data, sizeof(data), MSG_DONTWAIT) == -EAGAIN);
	TAP_CHECK(rackwire_dcpim_send(near, "de", 2, 0) == 2);
	TAP_CHECK(rackwire_dcpim_recv(far, data, 5, MSG_WAITALL) == 5);
	TAP_CHECK(!memcmp(data, "abcde", 5));
	TAP_CHECK(rackwire_dcpim_send(near, "f", 1, MSG_MORE) == 1);
	TAP_CHECK(!rackwire_dcpim_close(near));
	TAP_CHECK(rackwire_dcpim_recv(far, data, 5, 0) == 1 && data[0] == 'f');
	TAP_CHECK(!rackwire_dcpim_close(far));
}
EACH_ENGINE(stream__more_holds_back_and_then_sends)

static void stream__peek_leaves_the_bytes(void)
{
	struct rackwire_dcpim_socket *near, *far;
	char data[16];
	int64_t value;

	TAP_CHECK(!pair_connect(RACKWIRE_DCPIM_STREAM, &near, &far));
	TAP_CHECK(rackwire_dcpim_send(near, "hello", 5, 0) == 5);
	TAP_CHECK(rackwire_dcpim_recv(far, data, 3, MSG_PEEK) == 3);
	TAP_CHECK(!rackwire_dcpim_getopt(far, RACKWIRE_DCPIM_READABLE_BYTES, &value) && value == 5);
	TAP_CHECK(rackwire_dcpim_recv(far, data, sizeof(data), 0) == 5);
	TAP_CHECK(!memcmp(data, "hello", 5));
	rackwire_dcpim_close(near);
	rackwire_dcpim_close(far);
}
EACH_ENGINE(stream__peek_leaves_the_bytes)

static void message__keeps_boundaries(void)
{
	static const size_t sizes[] = { 1, 64, 1400, 1500, 65536, 65537, 1 << 20, 2 << 20, 2 };
	struct rackwire_dcpim_socket *near, *far;
	uint8_t *data = malloc(3 << 20);
	size_t i, j;

	TAP_CHECK(!pair_connect(RACKWIRE_DCPIM_MESSAGE, &near, &far));
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (j = 0; j < 2; j++) {
			fill_pattern(data, sizes[i], i);
			TAP_CHECK(rackwire_dcpim_send(j ? far : near, data, sizes[i], 0) == (ssize_t)sizes[i]);
			memset(data, 0, sizes[i]);
			TAP_CHECK(rackwire_dcpim_recv(j ? near : far, data, 3 << 20, 0) == (ssize_t)sizes[i]);
			TAP_CHECK(is_pattern(data, sizes[i], i));
		}
	}
	free(data);
	rackwire_dcpim_close(near);
	rackwire_dcpim_close(far);
}
EACH_ENGINE(message__keeps_boundaries)

static void message__peek_and_truncate(void)
{
	struct rackwire_dcpim_socket *near, *far;
	char data[16];
	struct iovec iov = { data, 4 };
	int flags;

	TAP_CHECK(!pair_connect(RACKWIRE_DCPIM_MESSAGE, &near, &far));
	TAP_CHECK(rackwire_dcpim_send(near, "first message", 13, 0) == 13);
	TAP_CHECK(rackwire_dcpim_send(near, "second", 6, 0) == 6);
	TAP_CHECK(rackwire_dcpim_recv(far, data, 5, MSG_PEEK | MSG_TRUNC) == 13);
	TAP_CHECK(rackwire_dcpim_recvv(far, &iov, 1, 0, &flags) == 4);
	TAP_CHECK(flags == (MSG_EOR | MSG_TRUNC));
	TAP_CHECK(rackwire_dcpim_recv(far, data, sizeof(data), 0) == 6);
	TAP_CHECK(!memcmp(data, "second", 6));
	TAP_CHECK(rackwire_dcpim_send(near, data, 0, 0) == 0);
	TAP_CHECK(rackwire_dcpim_recvv(far, &iov, 1, 0, &flags) == 0 && flags == MSG_EOR);
	TAP_CHECK(!rackwire_dcpim_shutdown(near, SHUT_WR));
	TAP_CHECK(rackwire_dcpim_recvv(far, &iov, 1, 0, &flags) == 0 && !flags);
	TAP_CHECK(rackwire_dcpim_send(near, "x", 1, 0) == -EPIPE);
	rackwire_dcpim_close(near);
	rackwire_dcpim_close(far);
}
EACH_ENGINE(message__peek_and_truncate)

static void message__over_the_limit_is_refused(void)
{
	struct rackwire_dcpim_socket *near, *far;
	uint8_t *data = malloc((2 << 20) + 1);
	int64_t limit;

	fill_pattern(data, (2 << 20) + 1, 0);
	TAP_CHECK(!pair_connect(RACKWIRE_DCPIM_MESSAGE, &near, &far));
	TAP_CHECK(!rackwire_dcpim_getopt(near, RACKWIRE_DCPIM_MAX_MSG, &limit) && limit == 2 << 20);
	TAP_CHECK(rackwire_dcpim_send(near, data, (2 << 20) + 1, 0) == -EMSGSIZE);
	free(data);
	rackwire_dcpim_close(near);
	rackwire_dcpim_close(far);
}
EACH_ENGINE(message__over_the_limit_is_refused)

#define PIPELINED 2000

static void *send_messages(void *arg)
{
	struct rackwire_dcpim_socket *socket = arg;
	uint8_t data[300];
	uint32_t i;

	for (i = 0; i < PIPELINED; i++) {
		fill_pattern(data, sizeof(data), i);
		memcpy(data, &i, sizeof(i));
		if (rackwire_dcpim_send(socket, data, sizeof(i) + i % 290, 0) < 0)
			break;
	}
	return NULL;
}

static void message__many_in_flight_each_arrives_once(void)
{
	static uint8_t seen[PIPELINED];
	struct rackwire_dcpim_socket *near, *far;
	uint8_t data[300];
	pthread_t thread;
	uint32_t i, n;

	memset(seen, 0, sizeof(seen));
	TAP_CHECK(!pair_connect(RACKWIRE_DCPIM_MESSAGE, &near, &far));
	TAP_CHECK(!pthread_create(&thread, NULL, send_messages, near));
	for (i = 0; i < PIPELINED; i++) {
		ssize_t r = rackwire_dcpim_recv(far, data, sizeof(data), 0);

		TAP_CHECK(r >= (ssize_t)sizeof(n));
		memcpy(&n, data, sizeof(n));
		TAP_CHECK(n < PIPELINED && !seen[n]);
		seen[n] = 1;
		TAP_CHECK((size_t)r == sizeof(n) + n % 290);
		TAP_CHECK(is_pattern(data + sizeof(n), (size_t)r - sizeof(n), n + sizeof(n)));
	}
	pthread_join(thread, NULL);
	rackwire_dcpim_close(near);
	rackwire_dcpim_close(far);
}
EACH_ENGINE(message__many_in_flight_each_arrives_once)

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		EACH_TEST(stream__carries_bytes_both_ways_with_half_close),
		EACH_TEST(stream__carries_small_writes),
		EACH_TEST(stream__carries_one_large_write),
		TAP_TEST(stream__segments_by_offload_at_mtu_1500),
		TAP_TEST(stream__works_without_offload),
		TAP_TEST(stream__works_at_mtu_576),
		TAP_TEST(stream__works_with_checksums),
		TAP_TEST(stream__works_with_three_threads),
		TAP_TEST(stream__works_with_three_threads_raw),
		TAP_TEST(stream__works_busy_polling),
		EACH_TEST(stream__more_holds_back_and_then_sends),
		EACH_TEST(stream__peek_leaves_the_bytes),
		EACH_TEST(message__keeps_boundaries),
		EACH_TEST(message__peek_and_truncate),
		EACH_TEST(message__over_the_limit_is_refused),
		EACH_TEST(message__many_in_flight_each_arrives_once),
	};

	return TAP_RUN(tests, argc, argv);
}
