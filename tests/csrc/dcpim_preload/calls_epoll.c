// SPDX-License-Identifier: BSD-2-Clause
/* epoll on sets of dcPIM sockets and ordinary descriptors. */
#include <sys/epoll.h>

#include "calls.h"

static int control(int ep, int op, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event ev = { .events = events, .data.u64 = data };

	return epoll_ctl(ep, op, fd, &ev);
}

/* One event at most. Return: its bits, 0: none within @timeout. */
static uint32_t event(int ep, int timeout, uint64_t data)
{
	struct epoll_event ev;
	int n = epoll_wait(ep, &ev, 1, timeout);

	if (n != 1)
		return n ? 0x80000000 : 0;
	return ev.data.u64 == data ? ev.events : 0x40000000;
}

#define LONG 10000 /* ms; nothing here should come close */

static void epoll__level_triggered(void)
{
	int fds[2], ep = epoll_create1(0);
	char byte;

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	TAP_CHECK(!control(ep, EPOLL_CTL_ADD, fds[0], EPOLLIN, 0xfeedfacecafebeefull));
	TAP_CHECK(event(ep, 0, 0) == 0 && event(ep, 20, 0) == 0);
	TAP_CHECK(write(fds[1], "ab", 2) == 2);
	TAP_CHECK(event(ep, LONG, 0xfeedfacecafebeefull) == EPOLLIN);
	TAP_CHECK(event(ep, 0, 0xfeedfacecafebeefull) == EPOLLIN);
	TAP_CHECK(recv(fds[0], &byte, 1, MSG_WAITALL) == 1);
	TAP_CHECK(event(ep, LONG, 0xfeedfacecafebeefull) == EPOLLIN);
	TAP_CHECK(recv(fds[0], &byte, 1, MSG_WAITALL) == 1);
	TAP_CHECK(event(ep, 20, 0) == 0);
	close(ep);
	close_pair(fds);
}

static void epoll__edge_triggered(void)
{
	int fds[2], ep = epoll_create1(EPOLL_CLOEXEC), i;
	char byte;

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	set_nonblocking(fds[0], 1);
	TAP_CHECK(!control(ep, EPOLL_CTL_ADD, fds[0], EPOLLIN | EPOLLOUT | EPOLLET, 7));
	TAP_CHECK(event(ep, LONG, 7) == EPOLLOUT);
	TAP_CHECK(event(ep, 20, 7) == 0);
	for (i = 0; i < 50; i++) {
		TAP_CHECK(write(fds[1], "ab", 2) == 2);
		TAP_CHECK(event(ep, LONG, 7) == (EPOLLIN | EPOLLOUT));
		TAP_CHECK(event(ep, 0, 7) == 0);
		TAP_CHECK(read(fds[0], &byte, 1) == 1);
		TAP_CHECK(event(ep, 0, 7) == 0);
		TAP_CHECK(read(fds[0], &byte, 1) == 1 && FAILS((int)read(fds[0], &byte, 1), EAGAIN));
	}
	close(ep);
	close_pair(fds);
}

static void epoll__edge_of_more_data_without_eagain(void)
{
	int fds[2], ep = epoll_create1(0), i;
	char got[8];

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	TAP_CHECK(!control(ep, EPOLL_CTL_ADD, fds[0], EPOLLIN | EPOLLET, 1));
	for (i = 0; i < 50; i++) {
		TAP_CHECK(write(fds[1], "abc", 3) == 3);
		TAP_CHECK(event(ep, LONG, 1) == EPOLLIN);
		/* A short read says as much as EAGAIN would. */
		TAP_CHECK(recv(fds[0], got, 8, 0) == 3);
	}
	close(ep);
	close_pair(fds);
}

static void epoll__edge_of_room_to_send(void)
{
	static char data[1 << 18];
	int fds[2], ep = epoll_create1(0), rounds;
	char *got = malloc(1 << 20);
	size_t sent, received;
	ssize_t n;

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	set_nonblocking(fds[0], 1);
	TAP_CHECK(!control(ep, EPOLL_CTL_ADD, fds[0], EPOLLOUT | EPOLLET, 3));
	for (rounds = 0; rounds < 3; rounds++) {
		TAP_CHECK(event(ep, LONG, 3) == EPOLLOUT);
		sent = received = 0;
		while ((n = write(fds[0], data, sizeof(data))) > 0)
			sent += (size_t)n;
		TAP_CHECK(n == -1 && errno == EAGAIN);
		while (received < sent) {
			n = read(fds[1], got, 1 << 20);
			TAP_CHECK(n > 0);
			received += (size_t)n;
		}
	}
	TAP_CHECK(event(ep, LONG, 3) == EPOLLOUT);
	free(got);
	close(ep);
	close_pair(fds);
}

static void epoll__oneshot(void)
{
	int fds[2], ep = epoll_create1(0);

	TAP_CHECK(!make_pair(SOCK_DGRAM, 7, fds));
	TAP_CHECK(!control(ep, EPOLL_CTL_ADD, fds[0], EPOLLIN | EPOLLONESHOT, 9));
	TAP_CHECK(write(fds[1], "a", 1) == 1);
	TAP_CHECK(event(ep, LONG, 9) == EPOLLIN && event(ep, 20, 9) == 0);
	TAP_CHECK(!shutdown(fds[1], SHUT_WR) && event(ep, 20, 9) == 0);
	TAP_CHECK(!control(ep, EPOLL_CTL_MOD, fds[0], EPOLLIN | EPOLLONESHOT, 10));
	TAP_CHECK(event(ep, LONG, 10) == EPOLLIN && event(ep, 0, 10) == 0);
	close(ep);
	close_pair(fds);
}

static void epoll__mixed_set(void)
{
	struct epoll_event evs[4];
	int fds[2], pipes[2], ep = epoll_create(1), i, n, seen;

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds) && !pipe(pipes));
	TAP_CHECK(!control(ep, EPOLL_CTL_ADD, pipes[0], EPOLLIN, 100));
	TAP_CHECK(!control(ep, EPOLL_CTL_ADD, fds[0], EPOLLIN, 200));
	TAP_CHECK(!control(ep, EPOLL_CTL_ADD, pipes[1], EPOLLOUT, 300));
	TAP_CHECK(epoll_wait(ep, evs, 4, -1) == 1 && evs[0].data.u64 == 300 && evs[0].events == EPOLLOUT);
	TAP_CHECK(write(pipes[1], "p", 1) == 1 && write(fds[1], "d", 1) == 1);
	for (i = seen = 0; i < 100000 && seen != 7; i++) {
		n = epoll_wait(ep, evs, 4, -1);
		TAP_CHECK(n > 0);
		for (seen = 0; n--;)
			seen |= evs[n].data.u64 == 100 ? 1 : evs[n].data.u64 == 200 ? 2 : 4;
	}
	TAP_CHECK(seen == 7);
	/* With room for one, each gets its turn. */
	for (i = seen = 0; i < 1000 && seen != 7; i++) {
		TAP_CHECK(epoll_wait(ep, evs, 1, -1) == 1);
		seen |= evs[0].data.u64 == 100 ? 1 : evs[0].data.u64 == 200 ? 2 : 4;
	}
	TAP_CHECK(seen == 7);
	close(pipes[0]);
	close(pipes[1]);
	close(ep);
	close_pair(fds);
}

static void epoll__errors(void)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int fds[2], ep = epoll_create1(0);

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	TAP_CHECK(FAILS(control(ep, EPOLL_CTL_MOD, fds[0], EPOLLIN, 0), ENOENT));
	TAP_CHECK(FAILS(control(ep, EPOLL_CTL_DEL, fds[0], EPOLLIN, 0), ENOENT));
	TAP_CHECK(!control(ep, EPOLL_CTL_ADD, fds[0], EPOLLIN, 0));
	TAP_CHECK(FAILS(control(ep, EPOLL_CTL_ADD, fds[0], EPOLLIN, 0), EEXIST));
	TAP_CHECK(FAILS(control(fds[1], EPOLL_CTL_ADD, fds[0], EPOLLIN, 0), EINVAL));
	TAP_CHECK(FAILS(control(0, EPOLL_CTL_ADD, fds[0], EPOLLIN, 0), EINVAL));
	TAP_CHECK(FAILS(control(9999, EPOLL_CTL_ADD, fds[0], EPOLLIN, 0), EBADF));
	TAP_CHECK(FAILS(epoll_ctl(ep, 77, fds[0], &ev), EINVAL));
	TAP_CHECK(FAILS(epoll_ctl(ep, EPOLL_CTL_MOD, fds[0], NULL), EFAULT));
	TAP_CHECK(FAILS(epoll_wait(ep, &ev, 0, 0), EINVAL));
	TAP_CHECK(!epoll_ctl(ep, EPOLL_CTL_DEL, fds[0], NULL));
	TAP_CHECK(write(fds[1], "a", 1) == 1 && ready(fds[0], POLLIN) == POLLIN);
	TAP_CHECK(event(ep, 0, 0) == 0);
	close(ep);
	close_pair(fds);
}

static void epoll__hang_up(void)
{
	int fds[2], ep = epoll_create1(0);

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	TAP_CHECK(!control(ep, EPOLL_CTL_ADD, fds[0], EPOLLRDHUP | EPOLLET, 1));
	TAP_CHECK(event(ep, 0, 1) == 0);
	TAP_CHECK(!shutdown(fds[1], SHUT_WR));
	TAP_CHECK(event(ep, LONG, 1) == EPOLLRDHUP);
	TAP_CHECK(!shutdown(fds[0], SHUT_WR));
	TAP_CHECK(event(ep, LONG, 1) == (EPOLLRDHUP | EPOLLHUP));
	TAP_CHECK(event(ep, 0, 1) == 0);
	close(ep);
	close_pair(fds);
}

static void epoll__refused_connection(void)
{
	struct sockaddr_in at;
	int fd = listening(SOCK_DGRAM, &at), ep = epoll_create1(0), error = 0;
	socklen_t length = sizeof(error);

	close(fd);
	fd = socket(PF_INET, SOCK_DGRAM | SOCK_NONBLOCK, DCPIM);
	if (!connect(fd, (struct sockaddr *)&at, sizeof(at)) || errno != EINPROGRESS)
		TAP_SKIP("refused at once");
	TAP_CHECK(!control(ep, EPOLL_CTL_ADD, fd, EPOLLOUT | EPOLLET, 5));
	TAP_CHECK(event(ep, LONG, 5) == (EPOLLOUT | EPOLLERR | EPOLLHUP));
	TAP_CHECK(!getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) && error == ECONNREFUSED);
	close(ep);
	close(fd);
}

static void epoll__forgets_closed_sockets(void)
{
	int fds[2], ep = epoll_create1(0), copy;

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	TAP_CHECK(!control(ep, EPOLL_CTL_ADD, fds[0], EPOLLOUT, 1));
	copy = dup(fds[0]);
	TAP_CHECK(!control(ep, EPOLL_CTL_ADD, copy, EPOLLOUT, 2));
	TAP_CHECK(!epoll_ctl(ep, EPOLL_CTL_DEL, fds[0], NULL));
	close(fds[0]);
	TAP_CHECK(event(ep, LONG, 2) == EPOLLOUT);
	close(copy);
	TAP_CHECK(event(ep, 0, 0) == 0);
	close(fds[1]);
	/* The number, and all it meant, is free again. */
	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	TAP_CHECK(!control(ep, EPOLL_CTL_ADD, fds[0], EPOLLOUT, 3) && event(ep, LONG, 3) == EPOLLOUT);
	close_pair(fds);
	close(ep);
}

static void epoll__one_socket_in_two_sets(void)
{
	int fds[2], a = epoll_create1(0), b = epoll_create1(0), i;
	char byte;

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	TAP_CHECK(!control(a, EPOLL_CTL_ADD, fds[0], EPOLLIN, 1) && !control(b, EPOLL_CTL_ADD, fds[0], EPOLLIN | EPOLLET, 2));
	for (i = 0; i < 20; i++) {
		TAP_CHECK(write(fds[1], "a", 1) == 1);
		TAP_CHECK(event(i % 2 ? a : b, LONG, i % 2 ? 1 : 2) == EPOLLIN);
		TAP_CHECK(event(i % 2 ? b : a, LONG, i % 2 ? 2 : 1) == EPOLLIN);
		TAP_CHECK(read(fds[0], &byte, 1) == 1);
		TAP_CHECK(event(a, 0, 0) == 0 && event(b, 0, 0) == 0);
	}
	close(a);
	close(b);
	close_pair(fds);
}

static void epoll__set_within_poll_and_epoll(void)
{
	int fds[2], inner = epoll_create1(0), outer = epoll_create1(0);
	struct pollfd p = { .fd = inner, .events = POLLIN };

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	TAP_CHECK(!control(inner, EPOLL_CTL_ADD, fds[0], EPOLLIN, 1));
	TAP_CHECK(event(inner, 0, 0) == 0);
	TAP_CHECK(!control(outer, EPOLL_CTL_ADD, inner, EPOLLIN, 2));
	TAP_CHECK(poll(&p, 1, 0) == 0 && event(outer, 0, 0) == 0);
	TAP_CHECK(write(fds[1], "a", 1) == 1);
	TAP_CHECK(poll(&p, 1, LONG) == 1 && event(outer, LONG, 2) == EPOLLIN);
	TAP_CHECK(event(inner, 0, 1) == EPOLLIN);
	/* Level-triggered and unread: still so. */
	TAP_CHECK(poll(&p, 1, 0) == 1 && event(outer, 0, 2) == EPOLLIN);
	close(inner);
	close(outer);
	close_pair(fds);
}

static void epoll__masks(void)
{
	struct timespec long_time = { .tv_sec = 10 };
	struct epoll_event ev;
	sigset_t block, none;
	int fds[2], ep = epoll_create1(0);

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds) && !control(ep, EPOLL_CTL_ADD, fds[0], EPOLLIN, 1));
	sigemptyset(&none);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	count_signal(SIGUSR1, 0);
	pthread_sigmask(SIG_BLOCK, &block, NULL);
	pthread_kill(pthread_self(), SIGUSR1);
	TAP_CHECK(FAILS(epoll_pwait(ep, &ev, 1, LONG, &none), EINTR) && signals == 1);
	pthread_kill(pthread_self(), SIGUSR1);
	TAP_CHECK(FAILS(epoll_pwait2(ep, &ev, 1, &long_time, &none), EINTR) && signals == 2);
	TAP_CHECK(write(fds[1], "a", 1) == 1 && epoll_pwait(ep, &ev, 1, LONG, &block) == 1 && ev.events == EPOLLIN);
	pthread_sigmask(SIG_UNBLOCK, &block, NULL);
	signal(SIGUSR1, SIG_DFL);
	close(ep);
	close_pair(fds);
}

struct waiter {
	int ep;
	uint32_t bits;
};

static void *wait_one(void *arg)
{
	struct waiter *w = arg;

	w->bits = event(w->ep, LONG, 1);
	return NULL;
}

static void epoll__socket_added_while_another_thread_waits(void)
{
	struct timespec pause = { .tv_nsec = 50000000 };
	struct waiter w = { .ep = epoll_create1(0) };
	int fds[2], others[2];
	pthread_t thread;

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds) && !make_pair(SOCK_DGRAM, 0, others));
	TAP_CHECK(!control(w.ep, EPOLL_CTL_ADD, others[0], EPOLLIN, 2));
	pthread_create(&thread, NULL, wait_one, &w);
	nanosleep(&pause, NULL);
	TAP_CHECK(!control(w.ep, EPOLL_CTL_ADD, fds[0], EPOLLOUT, 1));
	pthread_join(thread, NULL);
	TAP_CHECK(w.bits == EPOLLOUT);
	close(w.ep);
	close_pair(fds);
	close_pair(others);
}

/* As in the kernel, waiting keeps no socket open. */
static void epoll__socket_closed_while_another_thread_waits(void)
{
	struct timespec pause = { .tv_nsec = 50000000 };
	struct waiter w = { .ep = epoll_create1(0) };
	int fds[2], others[2];
	pthread_t thread;
	char byte;

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds) && !make_pair(SOCK_DGRAM, 0, others));
	TAP_CHECK(!control(w.ep, EPOLL_CTL_ADD, fds[0], EPOLLIN, 2) && !control(w.ep, EPOLL_CTL_ADD, others[0], EPOLLIN, 1));
	pthread_create(&thread, NULL, wait_one, &w);
	nanosleep(&pause, NULL);
	close(fds[0]);
	TAP_CHECK(read(fds[1], &byte, 1) == 0);
	TAP_CHECK(write(others[1], "a", 1) == 1);
	pthread_join(thread, NULL);
	TAP_CHECK(w.bits == EPOLLIN);
	close(w.ep);
	close(fds[1]);
	close_pair(others);
}

#define CHURNS 60

struct churn {
	int ep, running;
};

/* Sockets come, have something to read, and go, in no step with the thread that waits. */
static void *churn(void *arg)
{
	struct timespec pause = { .tv_nsec = 200000 };
	struct churn *c = arg;
	int i, fds[2];

	for (i = 0; i < CHURNS; i++) {
		if (make_pair(SOCK_DGRAM, i % 2 ? 7 : 0, fds))
			continue;
		set_nonblocking(fds[0], 1);
		control(c->ep, EPOLL_CTL_ADD, fds[0], i % 3 ? EPOLLIN : EPOLLIN | EPOLLET, (uint64_t)fds[0]);
		if (write(fds[1], "c", 1) != 1 || i % 5 == 0)
			nanosleep(&pause, NULL);
		close_pair(fds);
	}
	__atomic_sub_fetch(&c->running, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void epoll__sockets_come_and_go_while_threads_wait(void)
{
	struct churn c = { .ep = epoll_create1(0), .running = 3 };
	struct epoll_event evs[4];
	pthread_t threads[3];
	int i, n, events = 0;

	for (i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, churn, &c);
	while (__atomic_load_n(&c.running, __ATOMIC_ACQUIRE)) {
		n = epoll_wait(c.ep, evs, 4, 10);
		TAP_CHECK(n >= 0);
		/* Their numbers may mean something else by now, so nothing is read. */
		for (i = 0; i < n; i++)
			TAP_CHECK(evs[i].events & EPOLLIN && evs[i].data.u64 < 1 << 20);
		events += n;
	}
	for (i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	TAP_CHECK(events > 0 && epoll_wait(c.ep, evs, 4, 0) == 0);
	close(c.ep);
}

#define MANY 80 /* more than a thread looks at itself */

static void epoll__many_sockets(void)
{
	struct epoll_event evs[8];
	int fds[MANY][2], ep = epoll_create1(0), i, n, edge;
	char byte;

	for (edge = 0; edge < 2; edge++) {
		for (i = 0; i < MANY; i++) {
			TAP_CHECK(!make_pair(SOCK_DGRAM, i % 3 ? 0 : 7, fds[i]));
			TAP_CHECK(!control(ep, EPOLL_CTL_ADD, fds[i][0], edge ? EPOLLIN | EPOLLET : EPOLLIN, (uint64_t)i));
		}
		for (i = 0; i < 3 * MANY; i++) {
			TAP_CHECK(write(fds[i * 7 % MANY][1], "a", 1) == 1);
			/* An edge may be told once too often, never too rarely: look for this one. */
			do {
				n = epoll_wait(ep, evs, 1, LONG);
				TAP_CHECK(n == 1 && evs[0].events == EPOLLIN);
			} while (edge && evs[0].data.u64 != (uint64_t)(i * 7 % MANY));
			TAP_CHECK(evs[0].data.u64 == (uint64_t)(i * 7 % MANY));
			TAP_CHECK(read(fds[i * 7 % MANY][0], &byte, 1) == 1);
		}
		for (i = 0; i < MANY; i++)
			close_pair(fds[i]);
	}
	TAP_CHECK(epoll_wait(ep, evs, 8, 0) == 0);
	close(ep);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(epoll__level_triggered),
		TAP_TEST(epoll__edge_triggered),
		TAP_TEST(epoll__edge_of_more_data_without_eagain),
		TAP_TEST(epoll__edge_of_room_to_send),
		TAP_TEST(epoll__oneshot),
		TAP_TEST(epoll__mixed_set),
		TAP_TEST(epoll__errors),
		TAP_TEST(epoll__hang_up),
		TAP_TEST(epoll__refused_connection),
		TAP_TEST(epoll__forgets_closed_sockets),
		TAP_TEST(epoll__one_socket_in_two_sets),
		TAP_TEST(epoll__set_within_poll_and_epoll),
		TAP_TEST(epoll__masks),
		TAP_TEST(epoll__socket_added_while_another_thread_waits),
		TAP_TEST(epoll__socket_closed_while_another_thread_waits),
		TAP_TEST(epoll__sockets_come_and_go_while_threads_wait),
		TAP_TEST(epoll__many_sockets),
	};
	return TAP_RUN(tests, argc, argv);
}
