// SPDX-License-Identifier: BSD-2-Clause
/*
 * An ordinary client and server of nothing but libc calls, over protocol 254.
 *
 *	peer serve MODE CONNECTIONS	echo; says "listening PORT" first
 *	peer sink			count one connection's bytes; says "received N" at its end
 *	peer ask HOST PORT MODE BYTES	send a stream, check every byte that comes back
 *	peer tell HOST PORT MODE COUNT	the same with COUNT messages of many sizes
 *	peer leave HOST PORT BYTES	send, then exit() at once; a thread is still reading
 *
 * MODE: block, poll, epoll, edge or select. A mode of the client may end in
 * "+service": it then speaks the application protocol of `rackwire dcpim server`.
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define DCPIM 254
#define MESSAGES 7 /* SO_PRIORITY of message sockets */
#define BUFFER (256 << 10)
#define MAX_CONNECTIONS 256

enum mode { BLOCK, POLL, EPOLL, EDGE, SELECT };

static enum mode parse_mode(const char *text, bool *service)
{
	static const char *const names[] = { "block", "poll", "epoll", "edge", "select" };
	size_t length = strcspn(text, "+");
	int i;

	*service = text[length] == '+';
	for (i = 0; i < 5; i++)
		if (strlen(names[i]) == length && !strncmp(names[i], text, length))
			return (enum mode)i;
	errx(2, "no such mode: %s", text);
}

static int new_socket(int family)
{
	int fd = socket(family, SOCK_DGRAM, DCPIM);

	if (fd < 0)
		err(1, "socket");
	return fd;
}

static void nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK))
		err(1, "fcntl");
}

static bool later(ssize_t n)
{
	return n < 0 && (errno == EAGAIN || errno == EINTR);
}

/* ---- waiting: one interface to three calls ---- */

struct waiting {
	enum mode mode;
	int ep;
	struct pollfd fds[MAX_CONNECTIONS]; /* what is waited for, and what was found */
	int count;
};

static uint32_t epoll_events(const struct waiting *w, int events)
{
	if (w->mode == EDGE)
		return EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
	return (uint32_t)(events & POLLIN ? EPOLLIN : 0) | (uint32_t)(events & POLLOUT ? EPOLLOUT : 0);
}

static void waiting_add(struct waiting *w, int fd, int events)
{
	struct epoll_event ev = { .events = epoll_events(w, events), .data.fd = fd };

	if (w->count == MAX_CONNECTIONS)
		errx(1, "too many connections");
	w->fds[w->count++] = (struct pollfd){ .fd = fd, .events = (short)events };
	if ((w->mode == EPOLL || w->mode == EDGE) && epoll_ctl(w->ep, EPOLL_CTL_ADD, fd, &ev))
		err(1, "epoll_ctl");
}

static void waiting_open(struct waiting *w, enum mode mode)
{
	*w = (struct waiting){ .mode = mode };
	w->ep = epoll_create1(EPOLL_CLOEXEC);
}

static void waiting_change(struct waiting *w, int i, int events)
{
	struct epoll_event ev = { .events = epoll_events(w, events), .data.fd = w->fds[i].fd };

	if (w->fds[i].events == events)
		return;
	w->fds[i].events = (short)events;
	if (w->mode == EPOLL && epoll_ctl(w->ep, EPOLL_CTL_MOD, w->fds[i].fd, &ev))
		err(1, "epoll_ctl");
}

static void waiting_remove(struct waiting *w, int i)
{
	close(w->fds[i].fd);
	w->fds[i] = w->fds[--w->count];
}

static void wait_select(struct waiting *w)
{
	fd_set in, out;
	int i, top = 0;

	FD_ZERO(&in);
	FD_ZERO(&out);
	for (i = 0; i < w->count; i++) {
		if (w->fds[i].events & POLLIN)
			FD_SET(w->fds[i].fd, &in);
		if (w->fds[i].events & POLLOUT)
			FD_SET(w->fds[i].fd, &out);
		top = w->fds[i].fd >= top ? w->fds[i].fd + 1 : top;
	}
	if (select(top, &in, &out, NULL, NULL) < 1)
		err(1, "select");
	for (i = 0; i < w->count; i++)
		w->fds[i].revents = (short)((FD_ISSET(w->fds[i].fd, &in) ? POLLIN : 0) |
					    (FD_ISSET(w->fds[i].fd, &out) ? POLLOUT : 0));
}

static void wait_epoll(struct waiting *w)
{
	struct epoll_event evs[4];
	int n = epoll_wait(w->ep, evs, 4, -1), i, k;

	if (n < 1)
		err(1, "epoll_wait");
	for (i = 0; i < w->count; i++) {
		w->fds[i].revents = 0;
		for (k = 0; k < n; k++)
			if (evs[k].data.fd == w->fds[i].fd)
				w->fds[i].revents = (short)(evs[k].events & (EPOLLIN | EPOLLOUT | EPOLLHUP | EPOLLERR));
	}
}

static void wait_any(struct waiting *w)
{
	if (w->mode == SELECT)
		wait_select(w);
	else if (w->mode != POLL)
		wait_epoll(w);
	else if (poll(w->fds, (nfds_t)w->count, -1) < 1)
		err(1, "poll");
}

/* ---- server ---- */

struct connection {
	char *data;
	size_t from, to;
	bool ended;
};

static bool is_message(int fd)
{
	int value = 0;
	socklen_t length = sizeof(value);

	if (getsockopt(fd, SOL_SOCKET, SO_PRIORITY, &value, &length))
		err(1, "getsockopt");
	return value == MESSAGES;
}

static int listen_anywhere(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	socklen_t length = sizeof(at);
	int fd = new_socket(PF_INET), on = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) || bind(fd, (struct sockaddr *)&at, sizeof(at)) ||
	    listen(fd, 64) || getsockname(fd, (struct sockaddr *)&at, &length))
		err(1, "listen");
	printf("listening %d\n", ntohs(at.sin_port));
	fflush(stdout);
	return fd;
}

/* Echo as far as it goes. Return: what to wait for, 0: it is over. */
static int echo_some(int fd, struct connection *c)
{
	ssize_t n;

	for (;;) {
		while (c->from < c->to) {
			n = write(fd, c->data + c->from, c->to - c->from);
			if (later(n))
				return POLLOUT;
			if (n < 0)
				err(1, "write");
			c->from += (size_t)n;
		}
		if (c->ended)
			return 0;
		n = read(fd, c->data, BUFFER);
		if (later(n))
			return POLLIN;
		if (n < 0)
			err(1, "read");
		c->from = 0;
		c->to = (size_t)n;
		c->ended = n == 0;
	}
}

static void *echo_thread(void *arg)
{
	struct connection c = { .data = malloc(BUFFER) };
	int fd = (int)(intptr_t)arg;

	echo_some(fd, &c);
	close(fd);
	free(c.data);
	return NULL;
}

static void serve_threads(int listener, int connections)
{
	pthread_t threads[MAX_CONNECTIONS];
	int i, fd;

	for (i = 0; i < connections; i++) {
		fd = accept(listener, NULL, NULL);
		if (fd < 0)
			err(1, "accept");
		pthread_create(&threads[i], NULL, echo_thread, (void *)(intptr_t)fd);
	}
	for (i = 0; i < connections; i++)
		pthread_join(threads[i], NULL);
}

static int accept_all(struct waiting *w, struct connection *cs, int listener)
{
	int fd, n = 0;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		cs[w->count] = (struct connection){ .data = malloc(BUFFER) };
		waiting_add(w, fd, POLLIN);
		n++;
	}
	if (errno != EAGAIN)
		err(1, "accept4");
	return n;
}

static void serve_events(enum mode mode, int listener, int connections)
{
	static struct connection cs[MAX_CONNECTIONS];
	static struct waiting w;
	int i, events, taken = 0;

	nonblocking(listener);
	waiting_open(&w, mode);
	waiting_add(&w, listener, POLLIN);
	while (taken < connections || w.count > 1) {
		wait_any(&w);
		for (i = w.count - 1; i > 0; i--) {
			if (!w.fds[i].revents)
				continue;
			events = echo_some(w.fds[i].fd, &cs[i]);
			if (events) {
				waiting_change(&w, i, events);
				continue;
			}
			free(cs[i].data);
			cs[i] = cs[w.count - 1];
			waiting_remove(&w, i);
		}
		if (w.fds[0].revents)
			taken += accept_all(&w, cs, listener);
	}
	close(w.ep);
}

static int serve(enum mode mode, int connections)
{
	int listener = listen_anywhere();

	if (mode == BLOCK)
		serve_threads(listener, connections);
	else
		serve_events(mode, listener, connections);
	close(listener);
	return 0;
}

static int sink(void)
{
	int listener = listen_anywhere(), fd = accept(listener, NULL, NULL);
	char *data = malloc(BUFFER);
	uint64_t total = 0;
	ssize_t n;

	while ((n = recv(fd, data, BUFFER, 0)) > 0)
		total += (uint64_t)n;
	if (n < 0)
		err(1, "recv");
	printf("received %llu\n", (unsigned long long)total);
	close(fd);
	close(listener);
	free(data);
	return 0;
}

/* ---- client ---- */

static int connect_to(const char *host, const char *port, bool messages, enum mode mode)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_DGRAM }, *found;
	struct pollfd p = { .events = POLLOUT };
	int fd, error = 0, priority = MESSAGES;
	socklen_t length = sizeof(error);

	if (getaddrinfo(host, port, &hints, &found))
		errx(2, "no such address");
	fd = new_socket(found->ai_family);
	if (messages && setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &priority, sizeof(priority)))
		err(1, "setsockopt");
	if (mode != BLOCK)
		nonblocking(fd);
	if (connect(fd, found->ai_addr, found->ai_addrlen)) {
		if (errno != EINPROGRESS)
			err(1, "connect");
		p.fd = fd;
		if (poll(&p, 1, -1) != 1 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length))
			err(1, "poll");
		errno = error;
		if (error)
			err(1, "connect");
	}
	freeaddrinfo(found);
	if (is_message(fd) != messages)
		errx(1, "wrong kind of socket");
	return fd;
}

/* Byte @at of the stream; not periodic in any power of two. */
static char pattern(uint64_t at)
{
	uint64_t x = (at / 8 + 1) * 0x9e3779b97f4a7c15ull;

	return (char)(x >> (8 * (at % 8)));
}

static void fill(char *data, size_t length, uint64_t at)
{
	size_t i;

	for (i = 0; i < length; i++)
		data[i] = pattern(at + i);
}

static void check(const char *data, size_t length, uint64_t at)
{
	size_t i;

	for (i = 0; i < length; i++)
		if (data[i] != pattern(at + i))
			errx(1, "byte %llu is wrong", (unsigned long long)(at + i));
}

struct exchange {
	int fd;
	uint64_t total, sent, received;
	char *out, *in;
	bool ended;
};

/* In two pieces, so that the vector calls are used. Return: bytes, or -1. */
static ssize_t send_next(struct exchange *x)
{
	size_t length = x->total - x->sent < BUFFER ? x->total - x->sent : BUFFER;
	struct iovec iov[2] = { { x->out, length / 3 }, { x->out + length / 3, length - length / 3 } };

	fill(x->out, length, x->sent);
	return writev(x->fd, iov, 2);
}

static ssize_t recv_next(struct exchange *x)
{
	size_t room = x->total - x->received < BUFFER ? x->total - x->received : BUFFER;
	struct iovec iov[2] = { { x->in, room / 5 }, { x->in + room / 5, room - room / 5 } };
	ssize_t n = readv(x->fd, iov, 2);

	if (n > 0)
		check(x->in, (size_t)n, x->received);
	return n;
}

static void *send_thread(void *arg)
{
	struct exchange *x = arg;
	ssize_t n;

	while (x->sent < x->total) {
		n = send_next(x);
		if (n < 0)
			err(1, "writev");
		x->sent += (uint64_t)n;
	}
	if (shutdown(x->fd, SHUT_WR))
		err(1, "shutdown");
	return NULL;
}

static void ask_blocking(struct exchange *x)
{
	pthread_t sender;
	ssize_t n;

	pthread_create(&sender, NULL, send_thread, x);
	while (x->received < x->total && (n = recv_next(x)) > 0)
		x->received += (uint64_t)n;
	pthread_join(sender, NULL);
}

static void ask_events(struct exchange *x, enum mode mode)
{
	static struct waiting w;
	bool in, out;
	ssize_t n;

	waiting_open(&w, mode);
	waiting_add(&w, x->fd, POLLIN | POLLOUT);
	while (x->received < x->total) {
		wait_any(&w);
		in = out = true;
		while (out && x->sent < x->total) {
			n = send_next(x);
			out = !later(n);
			if (out && n < 0)
				err(1, "writev");
			x->sent += out ? (uint64_t)n : 0;
			if (x->sent == x->total) {
				waiting_change(&w, 0, POLLIN);
				if (shutdown(x->fd, SHUT_WR))
					err(1, "shutdown");
			}
		}
		while (in && x->received < x->total) {
			n = recv_next(x);
			in = !later(n);
			if (in && n <= 0)
				err(1, "readv");
			x->received += in ? (uint64_t)n : 0;
		}
	}
	close(w.ep);
}

/* The rest is short and slow enough for blocking calls. */
static void blocking(int fd)
{
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK))
		err(1, "fcntl");
}

/* docs/dcpim-service.md: echo, please, of requests of @length bytes. */
#define HELLO 32
#define WELCOME 32
#define REPORT 72

static void greet(int fd, uint32_t length)
{
	unsigned char hello[HELLO] = { 'R', 'W', 'S', 'H', 1, 1 }, welcome[WELCOME];
	uint32_t word = htonl(length);

	memcpy(hello + 16, &word, 4);
	blocking(fd);
	if (send(fd, hello, sizeof(hello), 0) != HELLO)
		err(1, "send");
	if (recv(fd, welcome, sizeof(welcome), MSG_WAITALL) != WELCOME)
		err(1, "recv");
	if (memcmp(welcome, "RWSW", 4) || welcome[4] != 1 || welcome[5] != 0)
		errx(1, "not welcome");
}

static void check_report(int fd, uint64_t bytes)
{
	unsigned char report[REPORT];
	uint64_t got = 0;
	int i;

	if (recv(fd, report, sizeof(report), MSG_WAITALL) != REPORT || memcmp(report, "RWSR", 4))
		errx(1, "no report");
	for (i = 8; i < 16; i++)
		got = got << 8 | report[i];
	if (got != bytes)
		errx(1, "the server counted %llu bytes", (unsigned long long)got);
}

static void end(int fd)
{
	char byte;

	if (recv(fd, &byte, 1, 0) != 0)
		errx(1, "no end of stream");
	if (close(fd))
		err(1, "close");
	puts("ok");
}

static int ask(const char *host, const char *port, const char *how, uint64_t bytes)
{
	struct exchange x = { .total = bytes, .out = malloc(BUFFER), .in = malloc(BUFFER) };
	bool service;
	enum mode mode = parse_mode(how, &service);

	x.fd = connect_to(host, port, false, mode);
	if (service) {
		greet(x.fd, 4096);
		if (mode != BLOCK)
			nonblocking(x.fd);
	}
	if (mode == BLOCK)
		ask_blocking(&x);
	else
		ask_events(&x, mode);
	if (x.received != x.total)
		errx(1, "%llu bytes came back", (unsigned long long)x.received);
	blocking(x.fd);
	if (service)
		check_report(x.fd, bytes);
	end(x.fd);
	free(x.out);
	free(x.in);
	return 0;
}

static size_t message_length(int i)
{
	return i % 10 == 9 ? 100000 : (size_t)(i * 37 % 2000) + 1;
}

/* Several under way; each comes back whole and once. Order is not promised. */
static int tell(const char *host, const char *port, const char *how, int count)
{
	static struct waiting w;
	char *out = malloc(BUFFER), *in = malloc(BUFFER), *seen = calloc((size_t)count, 1);
	int sent = 0, received = 0, window = 8;
	uint64_t bytes = 0;
	bool service;
	enum mode mode = parse_mode(how, &service);
	int fd = connect_to(host, port, true, mode);

	if (service) {
		greet(fd, BUFFER);
		if (mode != BLOCK)
			nonblocking(fd);
	}
	waiting_open(&w, mode);
	if (mode != BLOCK)
		waiting_add(&w, fd, POLLIN);
	while (received < count) {
		uint32_t number;
		ssize_t n;

		while (sent < count && sent - received < window) {
			size_t length = message_length(sent) + sizeof(number);

			number = (uint32_t)sent;
			memcpy(out, &number, sizeof(number));
			fill(out + sizeof(number), length - sizeof(number), (uint64_t)sent << 20);
			n = write(fd, out, length);
			if (later(n))
				break;
			if (n != (ssize_t)length)
				err(1, "write");
			bytes += length;
			sent++;
		}
		n = recv(fd, in, BUFFER, 0);
		if (later(n)) {
			waiting_change(&w, 0, sent < count && sent - received < window ? POLLIN | POLLOUT : POLLIN);
			wait_any(&w);
			continue;
		}
		if (n < (ssize_t)sizeof(number))
			err(1, "recv");
		memcpy(&number, in, sizeof(number));
		if (number >= (uint32_t)count || seen[number]++)
			errx(1, "message %u came twice", number);
		if ((size_t)n != message_length((int)number) + sizeof(number))
			errx(1, "message %u has %zd bytes", number, n);
		check(in + sizeof(number), (size_t)n - sizeof(number), (uint64_t)number << 20);
		received++;
	}
	blocking(fd);
	if (shutdown(fd, SHUT_WR))
		err(1, "shutdown");
	if (service)
		check_report(fd, bytes);
	end(fd);
	close(w.ep);
	free(out);
	free(in);
	free(seen);
	return 0;
}

static void *read_for_ever(void *arg)
{
	char byte;

	if (read((int)(intptr_t)arg, &byte, 1) >= 0)
		errx(1, "a thread read something");
	err(1, "a thread was woken");
}

static int leave(const char *host, const char *port, size_t bytes)
{
	struct timespec pause = { .tv_nsec = 20000000 };
	int fd = connect_to(host, port, false, BLOCK);
	char *data = calloc(1, bytes);
	pthread_t reader;

	pthread_create(&reader, NULL, read_for_ever, (void *)(intptr_t)fd);
	nanosleep(&pause, NULL);
	if (write(fd, data, bytes) != (ssize_t)bytes)
		err(1, "write");
	free(data);
	exit(0);
}

int main(int argc, char **argv)
{
	bool service;

	if (argc == 4 && !strcmp(argv[1], "serve"))
		return serve(parse_mode(argv[2], &service), atoi(argv[3]));
	if (argc == 2 && !strcmp(argv[1], "sink"))
		return sink();
	if (argc == 6 && !strcmp(argv[1], "ask"))
		return ask(argv[2], argv[3], argv[4], strtoull(argv[5], NULL, 10));
	if (argc == 6 && !strcmp(argv[1], "tell"))
		return tell(argv[2], argv[3], argv[4], atoi(argv[5]));
	if (argc == 5 && !strcmp(argv[1], "leave"))
		return leave(argv[2], argv[3], strtoul(argv[4], NULL, 10));
	errx(2, "usage: peer serve|sink|ask|tell|leave ...");
}
