// SPDX-License-Identifier: BSD-2-Clause
/* poll and select on sets of dcPIM sockets and ordinary descriptors. */
#include <sys/select.h>

#include "calls.h"

static void poll__mixed_set(void)
{
	struct pollfd p[4];
	int fds[2], pipes[2], n, i;

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds) && !pipe(pipes));
	p[0] = (struct pollfd){ .fd = fds[0], .events = POLLIN };
	p[1] = (struct pollfd){ .fd = pipes[0], .events = POLLIN };
	p[2] = (struct pollfd){ .fd = -1, .events = POLLIN };
	p[3] = (struct pollfd){ .fd = fds[1], .events = POLLIN | POLLOUT };
	TAP_CHECK(poll(p, 3, 0) == 0 && poll(p, 3, 20) == 0);
	TAP_CHECK(poll(p, 4, -1) == 1 && p[3].revents == POLLOUT);
	TAP_CHECK(write(pipes[1], "p", 1) == 1);
	TAP_CHECK(poll(p, 3, -1) == 1 && p[1].revents == POLLIN && !p[0].revents && !p[2].revents);
	TAP_CHECK(write(fds[1], "d", 1) == 1);
	for (i = n = 0; i < 10000 && n != 2; i++)
		n = poll(p, 3, -1);
	TAP_CHECK(n == 2 && p[0].revents == POLLIN && p[1].revents == POLLIN);
	close(pipes[0]);
	close(pipes[1]);
	close_pair(fds);
}

static void poll__closed_and_hung_up(void)
{
	struct pollfd p[2];
	int fds[2];

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	p[0] = (struct pollfd){ .fd = fds[0], .events = POLLIN | POLLRDHUP };
	p[1] = (struct pollfd){ .fd = 9999, .events = POLLIN };
	TAP_CHECK(poll(p, 2, -1) == 1 && p[1].revents == POLLNVAL);
	TAP_CHECK(!shutdown(fds[1], SHUT_WR));
	TAP_CHECK(poll(p, 1, 10000) == 1 && p[0].revents == (POLLIN | POLLRDHUP));
	TAP_CHECK(!shutdown(fds[0], SHUT_WR));
	TAP_CHECK(poll(p, 1, 10000) == 1 && p[0].revents & POLLHUP);
	close_pair(fds);
	TAP_CHECK(poll(p, 1, 0) == 1 && p[0].revents == POLLNVAL);
}

static void poll__many_sockets(void)
{
	struct pollfd p[80];
	int fds[40][2], i;
	char byte;

	for (i = 0; i < 40; i++) {
		TAP_CHECK(!make_pair(SOCK_DGRAM, i % 2 ? 7 : 0, fds[i]));
		p[2 * i] = (struct pollfd){ .fd = fds[i][0], .events = POLLIN };
		p[2 * i + 1] = (struct pollfd){ .fd = fds[i][1], .events = POLLIN };
	}
	for (i = 0; i < 40; i++) {
		TAP_CHECK(write(fds[i][0], "m", 1) == 1);
		TAP_CHECK(poll(p, 80, 10000) == 1 && p[2 * i + 1].revents == POLLIN);
		TAP_CHECK(read(fds[i][1], &byte, 1) == 1);
	}
	for (i = 0; i < 40; i++)
		close_pair(fds[i]);
}

static void select__mixed_set(void)
{
	int fds[2], pipes[2], top;
	struct timeval tv = { 0, 20000 };
	fd_set in, out;

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds) && !pipe(pipes));
	top = (fds[0] > pipes[0] ? fds[0] : pipes[0]) + 1;
	FD_ZERO(&in);
	FD_SET(fds[0], &in);
	FD_SET(pipes[0], &in);
	TAP_CHECK(select(top, &in, NULL, NULL, &tv) == 0 && !FD_ISSET(fds[0], &in) && !FD_ISSET(pipes[0], &in));
	TAP_CHECK(tv.tv_sec == 0 && tv.tv_usec == 0);
	TAP_CHECK(write(fds[1], "d", 1) == 1);
	FD_SET(fds[0], &in);
	FD_SET(pipes[0], &in);
	FD_ZERO(&out);
	TAP_CHECK(select(top, &in, &out, NULL, NULL) == 1 && FD_ISSET(fds[0], &in) && !FD_ISSET(pipes[0], &in));
	FD_SET(fds[0], &out);
	TAP_CHECK(select(top, &in, &out, NULL, NULL) == 2 && FD_ISSET(fds[0], &out));
	FD_SET(700, &in);
	TAP_CHECK(FAILS(select(701, &in, NULL, NULL, NULL), EBADF));
	close(pipes[0]);
	close(pipes[1]);
	close_pair(fds);
}

/* A signal that waits behind the mask must end the call, however it is timed. */
static void masks__are_changed_with_the_wait(void)
{
	struct timespec second = { .tv_sec = 10 };
	sigset_t block, none;
	struct pollfd p;
	fd_set in;
	int fds[2];

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	p = (struct pollfd){ .fd = fds[0], .events = POLLIN };
	sigemptyset(&none);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	count_signal(SIGUSR1, 0);
	pthread_sigmask(SIG_BLOCK, &block, NULL);
	pthread_kill(pthread_self(), SIGUSR1);
	TAP_CHECK(FAILS(ppoll(&p, 1, &second, &none), EINTR) && signals == 1);
	pthread_kill(pthread_self(), SIGUSR1);
	FD_ZERO(&in);
	FD_SET(fds[0], &in);
	TAP_CHECK(FAILS(pselect(fds[0] + 1, &in, NULL, NULL, &second, &none), EINTR) && signals == 2);
	TAP_CHECK(write(fds[1], "d", 1) == 1);
	TAP_CHECK(ppoll(&p, 1, &second, &block) == 1 && p.revents == POLLIN);
	TAP_CHECK(pselect(fds[0] + 1, &in, NULL, NULL, &second, &block) == 1 && FD_ISSET(fds[0], &in));
	TAP_CHECK(FAILS(ppoll(&p, 1, &(struct timespec){ .tv_nsec = -1 }, &none), EINVAL));
	pthread_sigmask(SIG_UNBLOCK, &block, NULL);
	signal(SIGUSR1, SIG_DFL);
	close_pair(fds);
}

static volatile sig_atomic_t call_over;

/* A signal counts only while the call sleeps; keep sending. */
static void *interrupt(void *arg)
{
	struct timespec pause = { .tv_nsec = 20000000 };
	int i;

	for (i = 0; i < 400 && !call_over; i++) {
		nanosleep(&pause, NULL);
		pthread_kill(*(pthread_t *)arg, SIGUSR1);
	}
	return NULL;
}

/* poll() is never started again, whatever SA_RESTART says. */
static void poll__is_interrupted(void)
{
	pthread_t self = pthread_self(), other;
	struct pollfd p = { .events = POLLIN };
	int fds[2], saved;

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	p.fd = fds[0];
	count_signal(SIGUSR1, SA_RESTART);
	pthread_create(&other, NULL, interrupt, &self);
	saved = poll(&p, 1, -1) == -1 ? errno : 0;
	call_over = 1;
	pthread_join(other, NULL);
	signal(SIGUSR1, SIG_DFL);
	TAP_CHECK(saved == EINTR);
	close_pair(fds);
}

/* ---- two threads, one socket, different interests ---- */

struct duplex {
	int fd;
	size_t total;
	int failed;
};

static void *write_all(void *arg)
{
	struct duplex *d = arg;
	static char data[65536];
	size_t done = 0;

	while (done < d->total) {
		ssize_t n = write(d->fd, data, sizeof(data) < d->total - done ? sizeof(data) : d->total - done);

		if (n <= 0) {
			d->failed = 1;
			break;
		}
		done += (size_t)n;
	}
	return NULL;
}

static void *read_all(void *arg)
{
	struct duplex *d = arg;
	char *data = malloc(65536);
	size_t done = 0;

	while (done < d->total) {
		ssize_t n = read(d->fd, data, 65536);

		if (n <= 0) {
			d->failed = 1;
			break;
		}
		done += (size_t)n;
	}
	free(data);
	return NULL;
}

static void threads__read_and_write_one_socket_at_once(void)
{
	struct duplex d[4];
	pthread_t threads[4];
	int fds[2], i;

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	for (i = 0; i < 4; i++) {
		d[i] = (struct duplex){ .fd = fds[i / 2], .total = 24u << 20 };
		pthread_create(&threads[i], NULL, i % 2 ? read_all : write_all, &d[i]);
	}
	for (i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	for (i = 0; i < 4; i++)
		TAP_CHECK(!d[i].failed);
	close_pair(fds);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(poll__mixed_set),
		TAP_TEST(poll__closed_and_hung_up),
		TAP_TEST(poll__many_sockets),
		TAP_TEST(select__mixed_set),
		TAP_TEST(masks__are_changed_with_the_wait),
		TAP_TEST(poll__is_interrupted),
		TAP_TEST(threads__read_and_write_one_socket_at_once),
	};
	return TAP_RUN(tests, argc, argv);
}
