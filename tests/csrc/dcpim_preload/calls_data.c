// SPDX-License-Identifier: BSD-2-Clause
/* Bytes and messages, errors, signals, time-outs. */
#include <limits.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/time.h>
#include <sys/uio.h>

#include "calls.h"

static void stream__readv_and_writev(void)
{
	char a[3], b[5], c[2];
	struct iovec out[] = { { "abc", 3 }, { NULL, 0 }, { "defghij", 7 } };
	struct iovec in[] = { { a, 3 }, { b, 5 }, { c, 2 } };
	/* Out of the compiler's sight, which would refuse them. */
	volatile int below = -1, above = IOV_MAX + 1;
	char *volatile nowhere = NULL;
	int fds[2];

	TAP_CHECK(!make_pair(SOCK_STREAM, 0, fds));
	TAP_CHECK(writev(fds[0], out, 3) == 10);
	TAP_CHECK(ready(fds[1], POLLIN) == POLLIN);
	TAP_CHECK(readv(fds[1], in, 3) == 10);
	TAP_CHECK(!memcmp(a, "abc", 3) && !memcmp(b, "defgh", 5) && !memcmp(c, "ij", 2));
	TAP_CHECK(FAILS((int)writev(fds[0], out, below), EINVAL));
	TAP_CHECK(FAILS((int)readv(fds[1], in, above), EINVAL));
	TAP_CHECK(read(fds[1], a, 0) == 0);
	TAP_CHECK(FAILS((int)write(fds[0], nowhere, 5), EFAULT));
	close_pair(fds);
}

static void stream__flags_of_recv(void)
{
	int fds[2];
	char got[8];

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	TAP_CHECK(FAILS((int)recv(fds[1], got, 8, MSG_DONTWAIT), EAGAIN));
	TAP_CHECK(send(fds[0], "123", 3, 0) == 3);
	TAP_CHECK(recv(fds[1], got, 2, MSG_PEEK) == 2);
	TAP_CHECK(recv(fds[1], got, 8, MSG_PEEK) == 3 && !memcmp(got, "123", 3));
	TAP_CHECK(send(fds[0], "45", 2, 0) == 2);
	TAP_CHECK(recv(fds[1], got, 5, MSG_WAITALL) == 5 && !memcmp(got, "12345", 5));
	TAP_CHECK(FAILS((int)send(fds[0], "x", 1, MSG_OOB), EOPNOTSUPP));
	close_pair(fds);
}

static void stream__waitall_ends_with_the_stream(void)
{
	int fds[2];
	char got[8];

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	TAP_CHECK(send(fds[0], "123", 3, 0) == 3 && !shutdown(fds[0], SHUT_WR));
	TAP_CHECK(recv(fds[1], got, 8, MSG_WAITALL) == 3);
	TAP_CHECK(recv(fds[1], got, 8, MSG_WAITALL) == 0);
	close_pair(fds);
}

static void stream__half_close(void)
{
	int fds[2];
	char got[8];

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	TAP_CHECK(write(fds[0], "last", 4) == 4);
	TAP_CHECK(!shutdown(fds[0], SHUT_WR));
	TAP_CHECK(FAILS((int)send(fds[0], "x", 1, MSG_NOSIGNAL), EPIPE));
	TAP_CHECK(recv(fds[1], got, 8, MSG_WAITALL) == 4);
	TAP_CHECK(read(fds[1], got, 8) == 0);
	TAP_CHECK(write(fds[1], "more", 4) == 4);
	TAP_CHECK(recv(fds[0], got, 4, MSG_WAITALL) == 4 && !memcmp(got, "more", 4));
	TAP_CHECK(!close(fds[1]));
	TAP_CHECK(read(fds[0], got, 8) == 0);
	close(fds[0]);
}

static void stream__unconnected(void)
{
	int fd = socket(PF_INET, SOCK_DGRAM, DCPIM);
	char byte = 0;

	TAP_CHECK(FAILS((int)read(fd, &byte, 1), ENOTCONN));
	TAP_CHECK(FAILS((int)send(fd, &byte, 1, MSG_NOSIGNAL), ENOTCONN));
	TAP_CHECK(FAILS(shutdown(fd, SHUT_WR), ENOTCONN));
	close(fd);
}

static void stream__sigpipe(void)
{
	int fds[2];

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	TAP_CHECK(!shutdown(fds[0], SHUT_WR));
	count_signal(SIGPIPE, 0);
	TAP_CHECK(FAILS((int)send(fds[0], "x", 1, MSG_NOSIGNAL), EPIPE) && signals == 0);
	TAP_CHECK(FAILS((int)write(fds[0], "x", 1), EPIPE) && signals == 1);
	signal(SIGPIPE, SIG_DFL);
	close_pair(fds);
}

static void stream__reset_by_close_with_unread_data(void)
{
	int fds[2];
	char got[8];

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	TAP_CHECK(write(fds[0], "unread", 6) == 6);
	TAP_CHECK(ready(fds[1], POLLIN) == POLLIN);
	close(fds[1]);
	TAP_CHECK(FAILS((int)read(fds[0], got, 8), ECONNRESET));
	TAP_CHECK(FAILS((int)send(fds[0], "x", 1, MSG_NOSIGNAL), EPIPE));
	close(fds[0]);
}

static void messages__keep_their_bounds(void)
{
	struct iovec parts[] = { { "one ", 4 }, { "message", 7 } };
	struct msghdr out = { .msg_iov = parts, .msg_iovlen = 2 }, in = { 0 };
	struct sockaddr_in name;
	struct iovec room;
	int fds[2], bytes;
	char got[32];

	TAP_CHECK(!make_pair(SOCK_DGRAM, 7, fds));
	TAP_CHECK(sendmsg(fds[0], &out, 0) == 11 && send(fds[0], "second", 6, 0) == 6 && !send(fds[0], "", 0, 0));
	room = (struct iovec){ got, sizeof(got) };
	in = (struct msghdr){ .msg_iov = &room, .msg_iovlen = 1, .msg_name = &name, .msg_namelen = sizeof(name) };
	TAP_CHECK(ready(fds[1], POLLIN) == POLLIN);
	TAP_CHECK(!ioctl(fds[1], FIONREAD, &bytes) && bytes == 11);
	TAP_CHECK(recvmsg(fds[1], &in, 0) == 11 && !memcmp(got, "one message", 11));
	TAP_CHECK(!(in.msg_flags & MSG_TRUNC) && in.msg_namelen == sizeof(name) && name.sin_family == AF_INET);
	room.iov_len = 3;
	TAP_CHECK(recvmsg(fds[1], &in, 0) == 3 && in.msg_flags & MSG_TRUNC && !memcmp(got, "sec", 3));
	TAP_CHECK(recv(fds[1], got, 8, 0) == 0);
	TAP_CHECK(send(fds[0], "12345", 5, 0) == 5 && recv(fds[1], got, 2, MSG_TRUNC) == 5);
	TAP_CHECK(send(fds[1], "back", 4, 0) == 4 && recv(fds[0], got, 8, 0) == 4);
	close_pair(fds);
}

static void messages__over_the_limit(void)
{
	size_t length = 64u << 20;
	char *data = calloc(1, length);
	int fds[2];

	TAP_CHECK(!make_pair(SOCK_DGRAM, 7, fds));
	TAP_CHECK(FAILS((int)write(fds[0], data, length), EMSGSIZE));
	free(data);
	close_pair(fds);
}

static void messages__many_in_one_call(void)
{
	struct iovec iov[4] = { { "a", 1 }, { "bb", 2 }, { "ccc", 3 }, { "dddd", 4 } };
	struct mmsghdr m[4] = { 0 };
	char got[4][8];
	int fds[2], i, n, total = 0;

	TAP_CHECK(!make_pair(SOCK_DGRAM, 7, fds));
	for (i = 0; i < 4; i++)
		m[i].msg_hdr = (struct msghdr){ .msg_iov = &iov[i], .msg_iovlen = 1 };
	TAP_CHECK(sendmmsg(fds[0], m, 4, 0) == 4 && m[3].msg_len == 4);
	for (i = 0; i < 4; i++)
		iov[i] = (struct iovec){ got[i], 8 };
	while (total < 4) {
		n = recvmmsg(fds[1], m + total, (unsigned int)(4 - total), MSG_WAITFORONE, NULL);
		TAP_CHECK(n > 0);
		total += n;
	}
	for (i = 0; i < 4; i++)
		TAP_CHECK(m[i].msg_len == (unsigned int)i + 1 && got[i][0] == "abcd"[i]);
	TAP_CHECK(FAILS(recvmmsg(fds[1], m, 1, MSG_DONTWAIT, NULL), EAGAIN));
	close_pair(fds);
}

static void timeout__of_receiving_and_sending(void)
{
	struct timeval tv = { 0, 30000 };
	size_t length = 64u << 20;
	char *data = calloc(1, length);
	int fds[2];
	ssize_t n;

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	TAP_CHECK(!setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	TAP_CHECK(FAILS((int)read(fds[0], data, 1), EAGAIN));
	TAP_CHECK(!setsockopt(fds[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)));
	n = write(fds[0], data, length);
	TAP_CHECK(n > 0 && n < (ssize_t)length);
	while (n > 0)
		n = write(fds[0], data, length);
	TAP_CHECK(n == -1 && errno == EAGAIN);
	free(data);
	close_pair(fds);
}

static void nonblocking__send_takes_what_fits(void)
{
	static char data[1 << 20];
	char *got = malloc(1 << 20);
	size_t sent = 0, received = 0;
	int fds[2];
	ssize_t n;

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	set_nonblocking(fds[0], 1);
	while ((n = write(fds[0], data, sizeof(data))) > 0)
		sent += (size_t)n;
	TAP_CHECK(n == -1 && errno == EAGAIN && sent > 0);
	while (received < sent) {
		n = read(fds[1], got, 1 << 20);
		TAP_CHECK(n > 0);
		received += (size_t)n;
	}
	TAP_CHECK(received == sent && ready(fds[0], POLLOUT) == POLLOUT);
	free(got);
	close_pair(fds);
}

/* ---- signals ---- */

static volatile sig_atomic_t call_over;

static void *interrupt_later(void *arg)
{
	struct timespec pause = { .tv_nsec = 20000000 };
	pthread_t target = *(pthread_t *)arg;
	int i;

	/* A signal counts only while the call sleeps; keep sending. */
	for (i = 0; i < 400 && !call_over; i++) {
		nanosleep(&pause, NULL);
		pthread_kill(target, SIGUSR1);
	}
	return NULL;
}

static void eintr__without_sa_restart(void)
{
	pthread_t self = pthread_self(), other;
	struct sockaddr_in at;
	int fds[2], listener, saved;
	char byte;

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	count_signal(SIGUSR1, 0);
	call_over = 0;
	pthread_create(&other, NULL, interrupt_later, &self);
	saved = (int)read(fds[0], &byte, 1) == -1 ? errno : 0;
	call_over = 1;
	pthread_join(other, NULL);
	TAP_CHECK(saved == EINTR);
	listener = listening(SOCK_DGRAM, &at);
	call_over = 0;
	pthread_create(&other, NULL, interrupt_later, &self);
	saved = accept(listener, NULL, NULL) == -1 ? errno : 0;
	call_over = 1;
	pthread_join(other, NULL);
	TAP_CHECK(saved == EINTR);
	close(listener);
	close_pair(fds);
	signal(SIGUSR1, SIG_DFL);
}

struct later {
	pthread_t target;
	int fd;
};

static void *interrupt_then_send(void *arg)
{
	struct timespec pause = { .tv_nsec = 20000000 };
	struct later *later = arg;
	int i;

	for (i = 0; i < 10; i++) {
		nanosleep(&pause, NULL);
		pthread_kill(later->target, SIGUSR1);
	}
	return (void *)(intptr_t)write(later->fd, "z", 1);
}

static void eintr__with_sa_restart_goes_on(void)
{
	struct later later = { .target = pthread_self() };
	pthread_t other;
	int fds[2];
	ssize_t n;
	char byte = 0;

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	later.fd = fds[1];
	count_signal(SIGUSR1, SA_RESTART);
	pthread_create(&other, NULL, interrupt_then_send, &later);
	n = read(fds[0], &byte, 1);
	pthread_join(other, NULL);
	signal(SIGUSR1, SIG_DFL);
	TAP_CHECK(n == 1 && byte == 'z' && signals > 0);
	close_pair(fds);
}

/* ---- other ways in ---- */

static void stdio__reads_and_writes(void)
{
	FILE *a, *b;
	char line[32];
	int fds[2];

	TAP_CHECK(!make_pair(SOCK_STREAM, 0, fds));
	a = fdopen(fds[0], "w");
	b = fdopen(fds[1], "r");
	TAP_CHECK(a && b && fileno(a) == fds[0]);
	TAP_CHECK(fprintf(a, "line %d\n", 1) == 7 && !fflush(a));
	TAP_CHECK(fgets(line, sizeof(line), b) && !strcmp(line, "line 1\n"));
	TAP_CHECK(!fclose(a) && !is_open(fds[0]));
	TAP_CHECK(!fgets(line, sizeof(line), b) && feof(b));
	TAP_CHECK(!fclose(b));
}

static void sendfile__is_left_to_the_program(void)
{
	int fds[2], file = open("/proc/self/exe", O_RDONLY);
	off_t at = 0;

	TAP_CHECK(!make_pair(SOCK_STREAM, 0, fds));
	TAP_CHECK(FAILS((int)sendfile(fds[0], file, &at, 10), EINVAL) && at == 0);
	close(file);
	close_pair(fds);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(stream__readv_and_writev),
		TAP_TEST(stream__flags_of_recv),
		TAP_TEST(stream__waitall_ends_with_the_stream),
		TAP_TEST(stream__half_close),
		TAP_TEST(stream__unconnected),
		TAP_TEST(stream__sigpipe),
		TAP_TEST(stream__reset_by_close_with_unread_data),
		TAP_TEST(messages__keep_their_bounds),
		TAP_TEST(messages__over_the_limit),
		TAP_TEST(messages__many_in_one_call),
		TAP_TEST(timeout__of_receiving_and_sending),
		TAP_TEST(nonblocking__send_takes_what_fits),
		TAP_TEST(eintr__without_sa_restart),
		TAP_TEST(eintr__with_sa_restart_goes_on),
		TAP_TEST(stdio__reads_and_writes),
		TAP_TEST(sendfile__is_left_to_the_program),
	};
	return TAP_RUN(tests, argc, argv);
}
