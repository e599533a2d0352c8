// SPDX-License-Identifier: BSD-2-Clause
/* Nonblocking sockets, readiness, descriptors, and threads that share an engine. */
#include <sys/epoll.h>

#include "pair.h"

static int wait_fd(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, timeout_ms);
}

/* As an event loop does it: ask, and wait for the descriptor only when there is nothing. */
static int wait_for(struct rackwire_dcpim_socket *s, int events)
{
	int fd = rackwire_dcpim_fd(s), bits, i;

	for (i = 0; i < 1000; i++) {
		bits = rackwire_dcpim_poll(s, events);
		if (bits)
			return bits;
		if (wait_fd(fd, 10000) != 1)
			return -1;
	}
	return -2;
}

static void nonblocking__connect_accept_send_recv(void)
{
	struct rackwire_dcpim_socket *near, *far;
	char data[8];
	int64_t error;

	TAP_CHECK(!rackwire_dcpim_setopt(pair.listener, RACKWIRE_DCPIM_NONBLOCK, 1));
	TAP_CHECK(rackwire_dcpim_accept(pair.listener, &far, NULL, NULL, 0) == -EAGAIN);
	TAP_CHECK(!rackwire_dcpim_socket(pair.client, RACKWIRE_DCPIM_STREAM, &near));
	TAP_CHECK(!rackwire_dcpim_setopt(near, RACKWIRE_DCPIM_NONBLOCK, 1));
	TAP_CHECK(rackwire_dcpim_connect(near, (struct sockaddr *)&pair.addr, pair.length) == -EINPROGRESS);
	TAP_CHECK(wait_for(near, POLLOUT) == POLLOUT);
	TAP_CHECK(!rackwire_dcpim_getopt(near, RACKWIRE_DCPIM_ERROR, &error) && !error);
	TAP_CHECK(wait_for(pair.listener, POLLIN) == POLLIN);
	TAP_CHECK(!rackwire_dcpim_accept(pair.listener, &far, NULL, NULL, 0));
	TAP_CHECK(rackwire_dcpim_poll(near, POLLIN) == 0);
	TAP_CHECK(rackwire_dcpim_recv(near, data, 8, 0) == -EAGAIN);
	TAP_CHECK(rackwire_dcpim_send(far, "ping", 4, 0) == 4);
	TAP_CHECK(wait_for(near, POLLIN) == POLLIN);
	TAP_CHECK(rackwire_dcpim_recv(near, data, 8, 0) == 4);
	TAP_CHECK(!rackwire_dcpim_shutdown(far, SHUT_WR));
	TAP_CHECK(wait_for(near, POLLIN | POLLRDHUP) == (POLLIN | POLLRDHUP));
	TAP_CHECK(rackwire_dcpim_recv(near, data, 8, 0) == 0);
	TAP_CHECK(!rackwire_dcpim_shutdown(near, SHUT_WR));
	TAP_CHECK(rackwire_dcpim_poll(near, 0) == POLLHUP);
	rackwire_dcpim_close(near);
	rackwire_dcpim_close(far);
}
EACH_ENGINE(nonblocking__connect_accept_send_recv)

static void nonblocking__refused_connect_is_an_error_bit(void)
{
	struct rackwire_dcpim_socket *near;
	struct sockaddr_storage addr = pair.addr;
	int64_t error;
	int bits;

	((struct sockaddr_in *)&addr)->sin_port = htons(9);
	TAP_CHECK(!rackwire_dcpim_socket(pair.client, RACKWIRE_DCPIM_STREAM, &near));
	TAP_CHECK(!rackwire_dcpim_setopt(near, RACKWIRE_DCPIM_NONBLOCK, 1));
	TAP_CHECK(rackwire_dcpim_connect(near, (struct sockaddr *)&addr, pair.length) == -EINPROGRESS);
	bits = wait_for(near, POLLOUT);
	TAP_CHECK(bits & POLLERR && bits & POLLOUT);
	TAP_CHECK(!rackwire_dcpim_getopt(near, RACKWIRE_DCPIM_ERROR, &error) && error == ECONNREFUSED);
	TAP_CHECK(!(rackwire_dcpim_poll(near, POLLOUT) & POLLERR));
	rackwire_dcpim_close(near);
}
EACH_ENGINE(nonblocking__refused_connect_is_an_error_bit)

static void nonblocking__send_fills_up_and_becomes_writable(void)
{
	struct rackwire_dcpim_socket *near, *far;
	uint8_t *data = malloc(100000);
	size_t sent = 0, got = 0;
	ssize_t n;

	TAP_CHECK(!pair_connect(RACKWIRE_DCPIM_STREAM, &near, &far));
	TAP_CHECK(!rackwire_dcpim_setopt(near, RACKWIRE_DCPIM_NONBLOCK, 1));
	for (;;) {
		fill_pattern(data, 100000, sent);
		n = rackwire_dcpim_send(near, data, 100000, 0);
		if (n < 0)
			break;
		sent += (size_t)n;
		TAP_CHECK(sent < 64 << 20);
	}
	TAP_CHECK(n == -EAGAIN);
	TAP_CHECK(!(rackwire_dcpim_poll(near, POLLOUT) & POLLOUT));
	while (got < sent) {
		n = rackwire_dcpim_recv(far, data, 100000, 0);
		TAP_CHECK(n > 0 && is_pattern(data, (size_t)n, got));
		got += (size_t)n;
	}
	TAP_CHECK(wait_for(near, POLLOUT) == POLLOUT);
	free(data);
	rackwire_dcpim_close(near);
	rackwire_dcpim_close(far);
}
EACH_ENGINE(nonblocking__send_fills_up_and_becomes_writable)

static void fd__works_with_edge_triggered_epoll(void)
{
	struct rackwire_dcpim_socket *near, *far;
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	int ep = epoll_create1(0), i;
	char data[8];

	TAP_CHECK(!pair_connect(RACKWIRE_DCPIM_STREAM, &near, &far));
	TAP_CHECK(!epoll_ctl(ep, EPOLL_CTL_ADD, rackwire_dcpim_fd(near), &ev));
	for (i = 0; i < 50; i++) {
		while (!rackwire_dcpim_poll(near, POLLIN)) {
			if (!i || rackwire_dcpim_poll(far, POLLOUT))
				TAP_CHECK(rackwire_dcpim_send(far, "x", 1, 0) == 1);
			TAP_CHECK(epoll_wait(ep, &ev, 1, 10000) == 1);
		}
		while (rackwire_dcpim_recv(near, data, 8, MSG_DONTWAIT) > 0)
			;
	}
	close(ep);
	rackwire_dcpim_close(near);
	rackwire_dcpim_close(far);
}
EACH_ENGINE(fd__works_with_edge_triggered_epoll)

static void *echo(void *arg)
{
	struct rackwire_dcpim_socket *s = arg;
	char data[4096];
	ssize_t n;

	while ((n = rackwire_dcpim_recv(s, data, sizeof(data), 0)) > 0)
		if (rackwire_dcpim_send(s, data, (size_t)n, 0) != n)
			break;
	return NULL;
}

static void poll_many__sockets_and_descriptors(void)
{
	struct rackwire_dcpim_socket *near[2], *far[2];
	struct rackwire_dcpim_pollfd fds[4];
	int pipes[2], i;
	char data;

	TAP_CHECK(!pipe(pipes));
	for (i = 0; i < 2; i++) {
		TAP_CHECK(!pair_connect(RACKWIRE_DCPIM_STREAM, &near[i], &far[i]));
		fds[i] = (struct rackwire_dcpim_pollfd){ .socket = near[i], .events = POLLIN };
	}
	fds[2] = (struct rackwire_dcpim_pollfd){ .fd = pipes[0], .events = POLLIN };
	fds[3] = (struct rackwire_dcpim_pollfd){ .fd = -1, .events = POLLIN };
	TAP_CHECK(rackwire_dcpim_poll_many(fds, 4, 0) == 0);
	TAP_CHECK(rackwire_dcpim_poll_many(fds, 4, 20 * MS) == 0);
	TAP_CHECK(rackwire_dcpim_send(far[1], "x", 1, 0) == 1);
	TAP_CHECK(rackwire_dcpim_poll_many(fds, 4, -1) == 1);
	TAP_CHECK(!fds[0].revents && fds[1].revents == POLLIN && !fds[2].revents && !fds[3].revents);
	TAP_CHECK(rackwire_dcpim_recv(near[1], &data, 1, 0) == 1);
	TAP_CHECK(write(pipes[1], "y", 1) == 1);
	TAP_CHECK(rackwire_dcpim_poll_many(fds, 4, -1) == 1);
	TAP_CHECK(fds[2].revents == POLLIN && !fds[0].revents && !fds[1].revents);
	close(pipes[0]);
	close(pipes[1]);
	for (i = 0; i < 2; i++) {
		rackwire_dcpim_close(near[i]);
		rackwire_dcpim_close(far[i]);
	}
}
EACH_ENGINE(poll_many__sockets_and_descriptors)

/* While one thread drives the engine in a blocking call, another polls. */
static void poll_many__beside_a_thread_that_blocks(void)
{
	struct rackwire_dcpim_socket *near[2], *far[2];
	struct rackwire_dcpim_pollfd fd;
	pthread_t thread;
	char data;
	int i;

	for (i = 0; i < 2; i++)
		TAP_CHECK(!pair_connect(RACKWIRE_DCPIM_STREAM, &near[i], &far[i]));
	TAP_CHECK(!pthread_create(&thread, NULL, echo, near[0]));
	usleep(10000);
	fd = (struct rackwire_dcpim_pollfd){ .socket = near[1], .events = POLLIN };
	TAP_CHECK(rackwire_dcpim_poll_many(&fd, 1, 20 * MS) == 0);
	for (i = 0; i < 20; i++) {
		TAP_CHECK(rackwire_dcpim_send(far[1], "x", 1, 0) == 1);
		TAP_CHECK(rackwire_dcpim_poll_many(&fd, 1, -1) == 1 && fd.revents == POLLIN);
		TAP_CHECK(rackwire_dcpim_recv(near[1], &data, 1, 0) == 1);
	}
	TAP_CHECK(rackwire_dcpim_send(far[0], "z", 1, 0) == 1);
	TAP_CHECK(rackwire_dcpim_recv(far[0], &data, 1, 0) == 1 && data == 'z');
	rackwire_dcpim_close(far[0]);
	pthread_join(thread, NULL);
	rackwire_dcpim_close(near[0]);
	rackwire_dcpim_close(near[1]);
	rackwire_dcpim_close(far[1]);
}
EACH_ENGINE(poll_many__beside_a_thread_that_blocks)

#define THREADS 8
#define ROUNDS 300

struct player {
	struct rackwire_dcpim_socket *near, *far;
	pthread_t here, there;
	uint32_t seed;
	bool good;
};

static void *play(void *arg)
{
	struct player *p = arg;
	uint8_t out[3000], in[3000];
	uint32_t i;

	for (i = 0; i < ROUNDS; i++) {
		size_t n = 1 + (p->seed * 31 + i * 97) % sizeof(out);

		fill_pattern(out, n, p->seed + i);
		if (rackwire_dcpim_send(p->near, out, n, 0) != (ssize_t)n ||
		    rackwire_dcpim_recv(p->near, in, n, MSG_WAITALL) != (ssize_t)n || memcmp(in, out, n))
			return NULL;
	}
	p->good = !rackwire_dcpim_shutdown(p->near, SHUT_WR);
	return NULL;
}

static void threads__share_an_engine(void)
{
	static struct player players[THREADS];
	uint32_t i;

	for (i = 0; i < THREADS; i++) {
		players[i] = (struct player){ .seed = i };
		TAP_CHECK(!pair_connect(RACKWIRE_DCPIM_STREAM, &players[i].near, &players[i].far));
	}
	for (i = 0; i < THREADS; i++) {
		TAP_CHECK(!pthread_create(&players[i].there, NULL, echo, players[i].far));
		TAP_CHECK(!pthread_create(&players[i].here, NULL, play, &players[i]));
	}
	for (i = 0; i < THREADS; i++) {
		pthread_join(players[i].here, NULL);
		pthread_join(players[i].there, NULL);
		TAP_CHECK(players[i].good);
		rackwire_dcpim_close(players[i].near);
		rackwire_dcpim_close(players[i].far);
	}
}
EACH_ENGINE(threads__share_an_engine)

static void threads__share_an_engine_of_two_shards(void)
{
	pair_config(RACKWIRE_DCPIM_UDP, AF_INET);
	pair.config.threads = 2;
	TAP_CHECK(!pair_open());
	threads__share_an_engine();
	if (!tap_failed)
		pair_close();
}

/* Server and client in one engine: packets to oneself. */
static void engine__talks_to_itself(void)
{
	struct rackwire_dcpim_socket *near, *far;
	char data[8];

	TAP_CHECK(!rackwire_dcpim_socket(pair.server, RACKWIRE_DCPIM_STREAM, &near));
	TAP_CHECK(!rackwire_dcpim_connect(near, (struct sockaddr *)&pair.addr, pair.length));
	TAP_CHECK(!rackwire_dcpim_accept(pair.listener, &far, NULL, NULL, 0));
	TAP_CHECK(rackwire_dcpim_send(near, "self", 4, 0) == 4);
	TAP_CHECK(rackwire_dcpim_recv(far, data, 8, 0) == 4);
	TAP_CHECK(rackwire_dcpim_send(far, "too", 3, 0) == 3);
	TAP_CHECK(rackwire_dcpim_recv(near, data, 8, 0) == 3);
	rackwire_dcpim_close(near);
	rackwire_dcpim_close(far);
}
EACH_ENGINE(engine__talks_to_itself)

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		EACH_TEST(nonblocking__connect_accept_send_recv),
		EACH_TEST(nonblocking__refused_connect_is_an_error_bit),
		EACH_TEST(nonblocking__send_fills_up_and_becomes_writable),
		EACH_TEST(fd__works_with_edge_triggered_epoll),
		EACH_TEST(poll_many__sockets_and_descriptors),
		EACH_TEST(poll_many__beside_a_thread_that_blocks),
		EACH_TEST(threads__share_an_engine),
		TAP_TEST(threads__share_an_engine_of_two_shards),
		EACH_TEST(engine__talks_to_itself),
	};

	return TAP_RUN(tests, argc, argv);
}
