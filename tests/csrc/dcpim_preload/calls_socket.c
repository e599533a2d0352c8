// SPDX-License-Identifier: BSD-2-Clause
/* Descriptors, names, options, connecting and accepting. */
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>

#include "calls.h"

static int option(int fd, int name)
{
	int value = -1;
	socklen_t length = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, name, &value, &length) ? -1 : value;
}

static int set_option(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value));
}

static void socket__is_an_ordinary_descriptor(void)
{
	int probe = open("/dev/null", O_RDONLY), fd, flags;
	struct stat st;

	close(probe);
	fd = socket(PF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, DCPIM);
	TAP_CHECK(fd >= 0);
	flags = fcntl(fd, F_GETFL);
	TAP_CHECK(flags & O_NONBLOCK);
	TAP_CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
	TAP_CHECK(!fstat(fd, &st) && S_ISSOCK(st.st_mode));
	TAP_CHECK(FAILS((int)lseek(fd, 0, SEEK_SET), ESPIPE));
	TAP_CHECK(!close(fd));
	TAP_CHECK(FAILS(close(fd), EBADF));
	TAP_CHECK(FAILS((int)read(fd, &st, 1), EBADF));
}

static void socket__number_goes_to_the_next_file(void)
{
	int fd = socket(PF_INET, SOCK_DGRAM, DCPIM), file;
	char byte = 1;

	close(fd);
	file = open("/dev/zero", O_RDONLY);
	TAP_CHECK(file == fd);
	TAP_CHECK(read(file, &byte, 1) == 1 && byte == 0);
	close(file);
}

static void socket__takes_the_families_and_types_of_sockets(void)
{
	int domains[] = { PF_INET, PF_INET6 }, types[] = { SOCK_DGRAM, SOCK_STREAM }, i, fd;

	for (i = 0; i < 4; i++) {
		fd = socket(domains[i / 2], types[i % 2], DCPIM);
		TAP_CHECK(fd >= 0);
		TAP_CHECK(option(fd, SO_DOMAIN) == domains[i / 2]);
		TAP_CHECK(option(fd, SO_TYPE) == types[i % 2]);
		TAP_CHECK(option(fd, SO_PROTOCOL) == DCPIM);
		close(fd);
	}
	TAP_CHECK(FAILS(socket(PF_INET, SOCK_DGRAM | 0x10, DCPIM), EINVAL));
}

static void socket__leaves_raw_sockets_to_the_kernel(void)
{
	int fd = socket(AF_INET, SOCK_RAW, DCPIM);

	if (fd < 0) {
		TAP_CHECK(errno == EPERM);
		return;
	}
	TAP_CHECK(option(fd, SO_TYPE) == SOCK_RAW);
	TAP_CHECK(FAILS(listen(fd, 1), EOPNOTSUPP));
	close(fd);
}

static void socket__leaves_other_protocols_to_the_kernel(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) }, from;
	int a = socket(AF_INET, SOCK_DGRAM, 0), b = socket(AF_INET, SOCK_DGRAM, 0);
	socklen_t length = sizeof(at);
	char got[8];

	TAP_CHECK(option(a, SO_PROTOCOL) == IPPROTO_UDP);
	TAP_CHECK(!bind(a, (struct sockaddr *)&at, sizeof(at)) && !getsockname(a, (struct sockaddr *)&at, &length));
	TAP_CHECK(sendto(b, "udp", 3, 0, (struct sockaddr *)&at, sizeof(at)) == 3);
	length = sizeof(from);
	TAP_CHECK(recvfrom(a, got, sizeof(got), 0, (struct sockaddr *)&from, &length) == 3 && !memcmp(got, "udp", 3));
	TAP_CHECK(length == sizeof(from) && from.sin_family == AF_INET);
	close(a);
	close(b);
}

static void options__say_and_keep(void)
{
	int fd = socket(PF_INET, SOCK_DGRAM, DCPIM), i;
	struct linger l = { 1, 3 };
	socklen_t length;

	TAP_CHECK(option(fd, SO_ERROR) == 0 && option(fd, SO_ACCEPTCONN) == 0);
	for (i = 0; i <= 7; i++)
		TAP_CHECK(!set_option(fd, SOL_SOCKET, SO_PRIORITY, i) && option(fd, SO_PRIORITY) == i);
	TAP_CHECK(FAILS(set_option(fd, SOL_SOCKET, SO_PRIORITY, 8), EPERM));
	TAP_CHECK(!set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1) && option(fd, SO_REUSEADDR) == 1);
	TAP_CHECK(!set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1) && option(fd, SO_KEEPALIVE) == 1);
	TAP_CHECK(!set_option(fd, SOL_SOCKET, SO_SNDBUF, 200000) && option(fd, SO_SNDBUF) >= 200000);
	TAP_CHECK(!set_option(fd, SOL_SOCKET, SO_RCVBUF, 1) && option(fd, SO_RCVBUF) > 1);
	TAP_CHECK(!setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
	memset(&l, 0, sizeof(l));
	length = sizeof(l);
	TAP_CHECK(!getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &length) && l.l_onoff == 1 && l.l_linger == 3);
	TAP_CHECK(FAILS(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &i, 1), EINVAL));
	TAP_CHECK(FAILS(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, NULL, 4), EFAULT));
	l.l_linger = 0;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	close(fd);
}

static void options__unknown_are_refused(void)
{
	int fd = socket(PF_INET6, SOCK_DGRAM, DCPIM), value;
	socklen_t length = sizeof(value);

	TAP_CHECK(FAILS(set_option(fd, SOL_SOCKET, SO_TIMESTAMP, 1), ENOPROTOOPT));
	TAP_CHECK(FAILS(set_option(fd, SOL_SOCKET, 9999, 1), ENOPROTOOPT));
	TAP_CHECK(FAILS(set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1), ENOPROTOOPT));
	TAP_CHECK(FAILS(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &length), ENOPROTOOPT));
	TAP_CHECK(FAILS(getsockopt(fd, SOL_SOCKET, 9999, &value, &length), ENOPROTOOPT));
	TAP_CHECK(FAILS(set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1), ENOPROTOOPT));
	TAP_CHECK(!set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0));
	close(fd);
}

static void options__timeouts(void)
{
	int fd = socket(PF_INET, SOCK_DGRAM, DCPIM);
	struct timeval tv = { 2, 500000 }, got;
	socklen_t length = sizeof(got);

	TAP_CHECK(!setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	TAP_CHECK(!getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &got, &length));
	TAP_CHECK(length == sizeof(got) && got.tv_sec == 2 && got.tv_usec == 500000);
	tv.tv_usec = 1000000;
	TAP_CHECK(FAILS(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)), EDOM));
	TAP_CHECK(FAILS(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, 4), EINVAL));
	close(fd);
}

static void names__of_unbound_bound_and_connected_sockets(void)
{
	struct sockaddr_in at, name;
	int fd = socket(PF_INET, SOCK_DGRAM, DCPIM), listener, child;
	socklen_t length = sizeof(name);

	TAP_CHECK(!getsockname(fd, (struct sockaddr *)&name, &length));
	TAP_CHECK(length == sizeof(name) && name.sin_family == AF_INET && name.sin_port == 0);
	TAP_CHECK(FAILS(getpeername(fd, (struct sockaddr *)&name, &length), ENOTCONN));
	listener = listening(SOCK_DGRAM, &at);
	TAP_CHECK(listener >= 0 && at.sin_port && at.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
	TAP_CHECK(!connect(fd, (struct sockaddr *)&at, sizeof(at)));
	TAP_CHECK(!getpeername(fd, (struct sockaddr *)&name, &length) && name.sin_port == at.sin_port);
	TAP_CHECK(!getsockname(fd, (struct sockaddr *)&at, &length) && at.sin_port);
	length = sizeof(name);
	child = accept(listener, (struct sockaddr *)&name, &length);
	TAP_CHECK(child >= 0 && length == sizeof(name));
	TAP_CHECK(name.sin_port == at.sin_port && name.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
	length = 4;
	TAP_CHECK(!getpeername(child, (struct sockaddr *)&name, &length) && length == sizeof(name));
	TAP_CHECK(FAILS(getpeername(child, (struct sockaddr *)&name, NULL), EFAULT));
	close(child);
	close(listener);
	close(fd);
}

static void names__of_an_ipv4_peer_on_an_ipv6_socket(void)
{
	struct sockaddr_in6 at = { .sin6_family = AF_INET6 }, name;
	int listener = socket(PF_INET6, SOCK_DGRAM, DCPIM), fd = socket(PF_INET, SOCK_DGRAM, DCPIM), child;
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof(at);

	if (bind(listener, (struct sockaddr *)&at, sizeof(at)) && errno == EAFNOSUPPORT)
		TAP_SKIP("no IPv6");
	TAP_CHECK(!listen(listener, 1) && !getsockname(listener, (struct sockaddr *)&at, &length));
	TAP_CHECK(at.sin6_family == AF_INET6 && at.sin6_port);
	to.sin_port = at.sin6_port;
	TAP_CHECK(!connect(fd, (struct sockaddr *)&to, sizeof(to)));
	length = sizeof(name);
	child = accept(listener, (struct sockaddr *)&name, &length);
	TAP_CHECK(child >= 0 && length == sizeof(name) && name.sin6_family == AF_INET6);
	TAP_CHECK(IN6_IS_ADDR_V4MAPPED(&name.sin6_addr) && name.sin6_addr.s6_addr[12] == 127);
	close(child);
	close(fd);
	close(listener);
}

static void bind__errors(void)
{
	struct sockaddr_in at, other;
	int listener = listening(SOCK_DGRAM, &at), fd = socket(PF_INET, SOCK_DGRAM, DCPIM);

	TAP_CHECK(FAILS(bind(fd, (struct sockaddr *)&at, sizeof(at)), EADDRINUSE));
	TAP_CHECK(FAILS(bind(fd, (struct sockaddr *)&at, 4), EINVAL));
	other = at;
	other.sin_family = AF_UNIX;
	TAP_CHECK(FAILS(bind(fd, (struct sockaddr *)&other, sizeof(other)), EAFNOSUPPORT));
	other = at;
	other.sin_port = 0;
	inet_pton(AF_INET, "192.0.2.77", &other.sin_addr);
	TAP_CHECK(FAILS(bind(fd, (struct sockaddr *)&other, sizeof(other)), EADDRNOTAVAIL));
	other.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	TAP_CHECK(!bind(fd, (struct sockaddr *)&other, sizeof(other)));
	TAP_CHECK(FAILS(bind(fd, (struct sockaddr *)&other, sizeof(other)), EINVAL));
	close(fd);
	close(listener);
}

static void listen__without_bind_takes_a_port(void)
{
	int listener = socket(PF_INET, SOCK_DGRAM, DCPIM), fd = socket(PF_INET, SOCK_DGRAM, DCPIM);
	struct sockaddr_in at;
	socklen_t length = sizeof(at);

	TAP_CHECK(!listen(listener, 1) && !listen(listener, 2));
	TAP_CHECK(option(listener, SO_ACCEPTCONN) == 1);
	TAP_CHECK(!getsockname(listener, (struct sockaddr *)&at, &length) && at.sin_family == AF_INET && at.sin_port);
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	TAP_CHECK(!connect(fd, (struct sockaddr *)&at, sizeof(at)));
	TAP_CHECK(FAILS(connect(listener, (struct sockaddr *)&at, sizeof(at)), EISCONN));
	TAP_CHECK(FAILS((int)read(listener, &at, 1), ENOTCONN));
	close(fd);
	close(listener);
}

static void listen__on_a_datagram_socket_takes_both_kinds(void)
{
	struct sockaddr_in at;
	int listener = listening(SOCK_DGRAM, &at), seven = 7, fds[2], child[2], i;
	char got[32];

	for (i = 0; i < 2; i++) {
		fds[i] = socket(PF_INET, SOCK_DGRAM, DCPIM);
		if (i)
			TAP_CHECK(!setsockopt(fds[i], SOL_SOCKET, SO_PRIORITY, &seven, sizeof(seven)));
		TAP_CHECK(!connect(fds[i], (struct sockaddr *)&at, sizeof(at)));
		child[i] = accept(listener, NULL, NULL);
		TAP_CHECK(child[i] >= 0);
		TAP_CHECK(option(child[i], SO_PRIORITY) == (i ? 7 : 0));
		TAP_CHECK(write(fds[i], "abc", 3) == 3 && write(fds[i], "def", 3) == 3);
	}
	TAP_CHECK(recv(child[0], got, 6, MSG_WAITALL) == 6 && !memcmp(got, "abcdef", 6));
	TAP_CHECK(recv(child[1], got, sizeof(got), 0) == 3 && !memcmp(got, "abc", 3));
	TAP_CHECK(recv(child[1], got, sizeof(got), 0) == 3 && !memcmp(got, "def", 3));
	close_pair(fds);
	close_pair(child);
	close(listener);
}

static void connect__refused(void)
{
	struct sockaddr_in at;
	int fd = listening(SOCK_DGRAM, &at);

	close(fd);
	fd = socket(PF_INET, SOCK_DGRAM, DCPIM);
	TAP_CHECK(FAILS(connect(fd, (struct sockaddr *)&at, sizeof(at)), ECONNREFUSED));
	TAP_CHECK(option(fd, SO_ERROR) == 0);
	at.sin_family = AF_INET6;
	TAP_CHECK(FAILS(connect(fd, (struct sockaddr *)&at, sizeof(at)), EAFNOSUPPORT));
	TAP_CHECK(FAILS(connect(fd, (struct sockaddr *)&at, 2), EINVAL));
	close(fd);
}

static void connect__nonblocking(void)
{
	struct sockaddr_in at;
	int listener = listening(SOCK_DGRAM, &at), fd = socket(PF_INET, SOCK_DGRAM | SOCK_NONBLOCK, DCPIM), r;

	r = connect(fd, (struct sockaddr *)&at, sizeof(at));
	TAP_CHECK(r == 0 || errno == EINPROGRESS);
	TAP_CHECK(ready(fd, POLLOUT) == POLLOUT);
	TAP_CHECK(option(fd, SO_ERROR) == 0);
	if (r)
		TAP_CHECK(!connect(fd, (struct sockaddr *)&at, sizeof(at)));
	TAP_CHECK(FAILS(connect(fd, (struct sockaddr *)&at, sizeof(at)), EISCONN));
	TAP_CHECK(write(fd, "x", 1) == 1);
	close(fd);
	close(listener);
}

static void connect__nonblocking_refused(void)
{
	struct sockaddr_in at;
	int fd = listening(SOCK_DGRAM, &at), r;

	close(fd);
	fd = socket(PF_INET, SOCK_DGRAM | SOCK_NONBLOCK, DCPIM);
	r = connect(fd, (struct sockaddr *)&at, sizeof(at));
	TAP_CHECK(r == -1 && (errno == EINPROGRESS || errno == ECONNREFUSED));
	if (errno == EINPROGRESS) {
		TAP_CHECK(ready(fd, POLLOUT) & POLLERR);
		TAP_CHECK(option(fd, SO_ERROR) == ECONNREFUSED);
		TAP_CHECK(option(fd, SO_ERROR) == 0);
	}
	close(fd);
}

static void accept__flags_and_errors(void)
{
	struct sockaddr_in at;
	int listener = listening(SOCK_DGRAM, &at), fd = socket(PF_INET, SOCK_DGRAM, DCPIM), child;
	struct timeval tv = { 0, 50000 };

	TAP_CHECK(FAILS(accept(fd, NULL, NULL), EINVAL));
	set_nonblocking(listener, 1);
	TAP_CHECK(FAILS(accept(listener, NULL, NULL), EAGAIN));
	TAP_CHECK(FAILS(accept4(listener, NULL, NULL, 1), EINVAL));
	set_nonblocking(listener, 0);
	TAP_CHECK(!setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	TAP_CHECK(FAILS(accept(listener, NULL, NULL), EAGAIN));
	TAP_CHECK(!connect(fd, (struct sockaddr *)&at, sizeof(at)));
	TAP_CHECK(ready(listener, POLLIN) == POLLIN);
	child = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	TAP_CHECK(child >= 0);
	TAP_CHECK(fcntl(child, F_GETFD) == FD_CLOEXEC && fcntl(child, F_GETFL) & O_NONBLOCK);
	TAP_CHECK(FAILS((int)read(child, &at, 1), EAGAIN));
	close(child);
	close(fd);
	close(listener);
}

static void accept__without_a_descriptor_left_keeps_the_connection(void)
{
	struct sockaddr_in at;
	int listener = listening(SOCK_DGRAM, &at), fd = socket(PF_INET, SOCK_DGRAM, DCPIM), child, probe;
	struct rlimit limit, low;

	TAP_CHECK(!connect(fd, (struct sockaddr *)&at, sizeof(at)));
	TAP_CHECK(ready(listener, POLLIN) == POLLIN);
	probe = open("/dev/null", O_RDONLY);
	close(probe);
	getrlimit(RLIMIT_NOFILE, &limit);
	low = limit;
	low.rlim_cur = (rlim_t)probe;
	setrlimit(RLIMIT_NOFILE, &low);
	child = accept(listener, NULL, NULL);
	low.rlim_cur = (rlim_t)errno;
	setrlimit(RLIMIT_NOFILE, &limit);
	TAP_CHECK(child == -1 && low.rlim_cur == EMFILE);
	child = accept(listener, NULL, NULL);
	TAP_CHECK(child >= 0 && write(fd, "y", 1) == 1 && read(child, &at, 1) == 1);
	close(child);
	close(fd);
	close(listener);
}

static void dup__keeps_the_connection_until_the_last_copy(void)
{
	int fds[2], copy, third;
	char got[4];

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	copy = dup(fds[0]);
	third = fcntl(fds[0], F_DUPFD_CLOEXEC, 100);
	TAP_CHECK(copy >= 0 && third >= 100 && fcntl(third, F_GETFD) == FD_CLOEXEC);
	TAP_CHECK(!close(fds[0]));
	TAP_CHECK(write(copy, "a", 1) == 1 && read(fds[1], got, 4) == 1);
	set_nonblocking(copy, 1);
	TAP_CHECK(fcntl(third, F_GETFL) & O_NONBLOCK);
	TAP_CHECK(FAILS((int)read(third, got, 1), EAGAIN));
	TAP_CHECK(!close(copy));
	TAP_CHECK(write(third, "b", 1) == 1 && read(fds[1], got, 4) == 1);
	TAP_CHECK(!close(third));
	TAP_CHECK(read(fds[1], got, 4) == 0);
	close(fds[1]);
}

static void dup2__over_files_and_sockets(void)
{
	int fds[2], file = open("/dev/zero", O_RDWR), number;
	char byte = 1;

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	number = dup(file);
	TAP_CHECK(dup2(fds[0], number) == number);
	TAP_CHECK(write(number, "a", 1) == 1 && read(fds[1], &byte, 1) == 1 && byte == 'a');
	TAP_CHECK(dup2(fds[0], fds[0]) == fds[0]);
	TAP_CHECK(FAILS(dup2(9999, fds[0]), EBADF));
	TAP_CHECK(write(fds[0], "b", 1) == 1 && read(fds[1], &byte, 1) == 1 && byte == 'b');
	TAP_CHECK(dup3(file, number, O_CLOEXEC) == number && fcntl(number, F_GETFD) == FD_CLOEXEC);
	TAP_CHECK(read(number, &byte, 1) == 1 && byte == 0);
	TAP_CHECK(write(fds[0], "c", 1) == 1 && read(fds[1], &byte, 1) == 1 && byte == 'c');
	TAP_CHECK(dup2(file, fds[0]) == fds[0]);
	TAP_CHECK(read(fds[1], &byte, 1) == 0);
	close(file);
	close(number);
	close_pair(fds);
}

static void close_range__closes_sockets_in_it(void)
{
	int fds[2], high;
	char byte;

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	high = fcntl(fds[0], F_DUPFD, 500);
	close(fds[0]);
	TAP_CHECK(!close_range(500, 600, 0));
	TAP_CHECK(!is_open(high));
	TAP_CHECK(read(fds[1], &byte, 1) == 0);
	close(fds[1]);
}

static void ioctl__nonblocking_and_bytes(void)
{
	int fds[2], on = 1, off = 0, bytes = -1;
	char got[8];

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	TAP_CHECK(!ioctl(fds[1], FIONREAD, &bytes) && bytes == 0);
	TAP_CHECK(write(fds[0], "12345", 5) == 5 && ready(fds[1], POLLIN) == POLLIN);
	TAP_CHECK(!ioctl(fds[1], FIONREAD, &bytes) && bytes == 5);
	TAP_CHECK(!ioctl(fds[1], FIONBIO, &on) && fcntl(fds[1], F_GETFL) & O_NONBLOCK);
	TAP_CHECK(read(fds[1], got, 8) == 5);
	TAP_CHECK(FAILS((int)read(fds[1], got, 8), EAGAIN));
	TAP_CHECK(!ioctl(fds[1], FIONBIO, &off) && !(fcntl(fds[1], F_GETFL) & O_NONBLOCK));
	close_pair(fds);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(socket__is_an_ordinary_descriptor),
		TAP_TEST(socket__number_goes_to_the_next_file),
		TAP_TEST(socket__takes_the_families_and_types_of_sockets),
		TAP_TEST(socket__leaves_raw_sockets_to_the_kernel),
		TAP_TEST(socket__leaves_other_protocols_to_the_kernel),
		TAP_TEST(options__say_and_keep),
		TAP_TEST(options__unknown_are_refused),
		TAP_TEST(options__timeouts),
		TAP_TEST(names__of_unbound_bound_and_connected_sockets),
		TAP_TEST(names__of_an_ipv4_peer_on_an_ipv6_socket),
		TAP_TEST(bind__errors),
		TAP_TEST(listen__without_bind_takes_a_port),
		TAP_TEST(listen__on_a_datagram_socket_takes_both_kinds),
		TAP_TEST(connect__refused),
		TAP_TEST(connect__nonblocking),
		TAP_TEST(connect__nonblocking_refused),
		TAP_TEST(accept__flags_and_errors),
		TAP_TEST(accept__without_a_descriptor_left_keeps_the_connection),
		TAP_TEST(dup__keeps_the_connection_until_the_last_copy),
		TAP_TEST(dup2__over_files_and_sockets),
		TAP_TEST(close_range__closes_sockets_in_it),
		TAP_TEST(ioctl__nonblocking_and_bytes),
	};
	return TAP_RUN(tests, argc, argv);
}
