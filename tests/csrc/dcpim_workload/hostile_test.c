// SPDX-License-Identifier: BSD-2-Clause
/*
 * A server whose clients lie, and a client whose server does. The other side is
 * written here on plain sockets and on the dcPIM socket interface, from
 * docs/dcpim-service.md.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench.h"
#include "dcpim/workload/pattern.h"
#include "dcpim/workload/service.h"
#include "tap.h"

#define COUNT(b, t, name) bench_count(b, RACKWIRE_DCPIM_WORK_##t, RACKWIRE_DCPIM_WORK_##name)
#define SINK RACKWIRE_DCPIM_WORK_SERVICE_SINK
#define ECHO RACKWIRE_DCPIM_WORK_SERVICE_ECHO
#define SOURCE RACKWIRE_DCPIM_WORK_SERVICE_SOURCE
#define CHECKED (SERVICE_PATTERN | SERVICE_CHECK)

/* ---- one connection of either transport ---- */

static struct rackwire_dcpim_engine *engine;

struct wire {
	struct rackwire_dcpim_socket *socket; /* dcPIM */
	int fd;				      /* else TCP */
};

static struct sockaddr_in loopback(uint16_t port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port),
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static bool wire_open(struct wire *w, int kind, uint16_t port)
{
	struct sockaddr_in to = loopback(port);
	struct timeval patience = { .tv_sec = 20 };

	w->socket = NULL;
	w->fd = -1;
	if (kind < 0) {
		w->fd = socket(AF_INET, SOCK_STREAM, 0);
		setsockopt(w->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
		return !connect(w->fd, (struct sockaddr *)&to, sizeof(to));
	}
	if (rackwire_dcpim_socket(engine, (uint32_t)kind, &w->socket))
		return false;
	rackwire_dcpim_setopt(w->socket, RACKWIRE_DCPIM_RCVTIMEO, 20000000000);
	return !rackwire_dcpim_connect(w->socket, (struct sockaddr *)&to, sizeof(to));
}

static bool wire_send(struct wire *w, const void *data, size_t len)
{
	ssize_t n = w->socket ? rackwire_dcpim_send(w->socket, data, len, 0) : send(w->fd, data, len, MSG_NOSIGNAL);

	return n == (ssize_t)len;
}

static ssize_t wire_recv(struct wire *w, void *data, size_t len)
{
	return w->socket ? rackwire_dcpim_recv(w->socket, data, len, 0) : recv(w->fd, data, len, 0);
}

static bool wire_recv_all(struct wire *w, uint8_t *data, size_t len)
{
	while (len) {
		ssize_t n = wire_recv(w, data, len);

		if (n <= 0)
			return false;
		data += n;
		len -= (size_t)n;
	}
	return true;
}

static void wire_shutdown(struct wire *w)
{
	if (w->socket)
		rackwire_dcpim_shutdown(w->socket, SHUT_WR);
	else
		shutdown(w->fd, SHUT_WR);
}

static void wire_close(struct wire *w)
{
	if (w->socket)
		rackwire_dcpim_close(w->socket);
	else
		close(w->fd);
}

static const int kinds[] = { -1, RACKWIRE_DCPIM_STREAM, RACKWIRE_DCPIM_MESSAGE };

static bool say_hello(struct wire *w, uint8_t service, uint16_t flags, uint64_t seed, uint32_t length)
{
	struct service_hello hello = { service, flags, seed, length };
	struct service_welcome welcome;
	uint8_t bytes[SERVICE_HELLO_LEN];

	service_hello_put(bytes, &hello);
	return wire_send(w, bytes, sizeof(bytes)) && wire_recv_all(w, bytes, SERVICE_WELCOME_LEN) &&
	       !service_welcome_get(bytes, sizeof(bytes), &welcome) && welcome.status == SERVICE_OK;
}

static bool take_report(struct wire *w, struct service_report *report)
{
	uint8_t bytes[SERVICE_REPORT_LEN];

	wire_shutdown(w);
	return wire_recv_all(w, bytes, sizeof(bytes)) && !service_report_get(bytes, sizeof(bytes), report) &&
	       wire_recv(w, bytes, 1) == 0;
}

/* After whatever was done to it the server serves, and nothing of it is left. */
static bool unharmed(struct bench *s, uint16_t port)
{
	struct bench c;
	bool good;
	int i;

	bench_init(&c, RACKWIRE_DCPIM_WORK_PING, DCPIM | TCP | UDP);
	c.config.count = 20;
	good = !bench_run(&c, port) && COUNT(&c, DCPIM, COMPLETED) == 20;
	bench_close(&c);
	for (i = 0; i < 20000 && (COUNT(s, DCPIM, OPEN) || COUNT(s, TCP, OPEN)); i++)
		usleep(1000);
	good = good && !COUNT(s, DCPIM, OPEN) && !COUNT(s, TCP, OPEN);
	return !bench_server_end(s) && good;
}

/* ---- clients that lie ---- */

/* What the server says to these first bytes: a status, or -1 when it says nothing before it ends. */
static int answer_to(uint16_t port, int kind, const uint8_t *bytes, size_t len)
{
	struct service_welcome welcome = { 0 };
	uint8_t answer[SERVICE_WELCOME_LEN];
	struct wire w;
	int result = -2;

	if (!wire_open(&w, kind, port))
		return result;
	wire_send(&w, bytes, len);
	wire_shutdown(&w);
	result = -1;
	if (wire_recv_all(&w, answer, sizeof(answer)))
		result = service_welcome_get(answer, sizeof(answer), &welcome) ? -3 : welcome.status;
	wire_close(&w);
	return result;
}

static void server__refuses_a_hello_that_makes_no_sense(void)
{
	static const uint8_t http[32] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
	uint8_t good[SERVICE_HELLO_LEN], bytes[SERVICE_HELLO_LEN];
	struct bench s;
	uint16_t port = bench_server(&s, 0);
	uint32_t i, wrong = 0;

	service_hello_put(good, &(struct service_hello){ SINK, CHECKED, 1, 64 });
	for (i = 0; i < 3; i++) {
		wrong += answer_to(port, kinds[i], good, sizeof(good)) != SERVICE_OK;
		wrong += answer_to(port, kinds[i], http, sizeof(http)) != SERVICE_BAD;
		memcpy(bytes, good, sizeof(good));
		bytes[4] = 2; /* a later version */
		wrong += answer_to(port, kinds[i], bytes, sizeof(bytes)) != SERVICE_BAD;
		memcpy(bytes, good, sizeof(good));
		bytes[5] = 9;
		wrong += answer_to(port, kinds[i], bytes, sizeof(bytes)) != SERVICE_BAD;
		memcpy(bytes, good, sizeof(good));
		memset(bytes + 16, 0xff, 4); /* 4 GiB to a write */
		wrong += answer_to(port, kinds[i], bytes, sizeof(bytes)) != SERVICE_BAD;
		memset(bytes + 16, 0, 4); /* a request of no bytes: what is it divided by? */
		wrong += answer_to(port, kinds[i], bytes, sizeof(bytes)) != SERVICE_BAD;
	}
	/* Messages have no source. */
	service_hello_put(good, &(struct service_hello){ SOURCE, 0, 1, 64 });
	wrong += answer_to(port, RACKWIRE_DCPIM_MESSAGE, good, sizeof(good)) != SERVICE_BAD;
	TAP_CHECK(unharmed(&s, port) && !wrong);
}

static void server__outlives_half_a_hello_and_noise(void)
{
	uint8_t noise[5000], good[SERVICE_HELLO_LEN];
	struct bench s;
	uint16_t port = bench_server(&s, 0);
	uint32_t i, n, wrong = 0;

	service_hello_put(good, &(struct service_hello){ ECHO, 0, 1, 64 });
	work_pattern_fill(99, 0, noise, sizeof(noise));
	for (i = 0; i < 3; i++) {
		for (n = 1; n < SERVICE_HELLO_LEN; n += 10)
			wrong += answer_to(port, kinds[i], good, n) == SERVICE_OK;
		for (n = 0; n < 20; n++)
			wrong += answer_to(port, kinds[i], noise + n, sizeof(noise) - n) == SERVICE_OK;
	}
	TAP_CHECK(unharmed(&s, port) && !wrong);
}

enum lie { TRUTH, OTHER_SEED, ONE_BIT, A_BLOCK_TWICE, SHIFTED };

/* Contents that are not what they are said to be. Return: what the server found wrong. */
static int64_t lies(uint16_t port, int kind, enum lie lie, struct service_report *report)
{
	const uint32_t len = 100000;
	uint8_t *data = malloc(len);
	uint64_t from = kind == RACKWIRE_DCPIM_MESSAGE ? work_message_pos(5, len, 0) : 0;
	int64_t result = -1;
	struct wire w;

	work_pattern_fill(lie == OTHER_SEED ? 8 : 7, from + (lie == SHIFTED ? 8 : 0), data, len);
	if (lie == ONE_BIT)
		data[77777] ^= 0x10;
	if (lie == A_BLOCK_TWICE)
		memcpy(data + 3000, data + 2000, 1000);
	if (kind == RACKWIRE_DCPIM_MESSAGE)
		memcpy(data, "\0\0\0\0\0\0\0\5", 8);
	if (wire_open(&w, kind, port) && say_hello(&w, SINK, CHECKED, 7, len) && wire_send(&w, data, len) &&
	    take_report(&w, report))
		result = report->bytes == len && report->verified + report->corrupt <= len ? (int64_t)report->corrupt : -2;
	wire_close(&w);
	free(data);
	return result;
}

static void server__finds_contents_that_are_wrong(void)
{
	struct service_report report;
	struct bench s;
	uint16_t port = bench_server(&s, 0);
	uint32_t i, wrong = 0;

	for (i = 0; i < 3; i++) {
		wrong += lies(port, kinds[i], TRUTH, &report) != 0 || report.verified != 100000;
		wrong += lies(port, kinds[i], OTHER_SEED, &report) < 99000;
		wrong += lies(port, kinds[i], ONE_BIT, &report) != 1;
		wrong += report.corrupt_at != (kinds[i] == RACKWIRE_DCPIM_MESSAGE ? 5 : 77777);
		wrong += lies(port, kinds[i], A_BLOCK_TWICE, &report) < 900;
		wrong += lies(port, kinds[i], SHIFTED, &report) < 99000;
	}
	wrong += !COUNT(&s, DCPIM, CORRUPT_BYTES) || !COUNT(&s, TCP, CORRUPT_BYTES);
	TAP_CHECK(unharmed(&s, port) && !wrong);
}

static void server__looks_at_nothing_where_no_one_asked(void)
{
	static const uint8_t zeros[1000];
	struct service_report report = { 0 };
	struct bench s;
	uint16_t port = bench_server(&s, 0);
	struct wire w;
	bool good;

	good = wire_open(&w, RACKWIRE_DCPIM_STREAM, port) && say_hello(&w, SINK, 0, 7, 64) &&
	       wire_send(&w, zeros, sizeof(zeros)) && take_report(&w, &report);
	wire_close(&w);
	TAP_CHECK(unharmed(&s, port) && good && report.bytes == 1000 && !report.verified && !report.corrupt);
}

static void server__gives_as_much_as_it_was_allowed_and_no_more(void)
{
	struct service_report report = { 0 };
	uint8_t credit[8], *data = malloc(70000);
	struct bench s;
	uint16_t port = bench_server(&s, 0);
	size_t first;
	bool good = true;
	int i;

	for (i = 0; i < 2; i++) {
		struct wire w;

		dcpim_put64(credit, 1000);
		good = wire_open(&w, kinds[i], port) && say_hello(&w, SOURCE, SERVICE_PATTERN, 7, 100) &&
		       wire_send(&w, credit, 8) && good;
		dcpim_put64(credit, 70000);
		/* A credit may come in pieces. */
		good = good && wire_send(&w, credit, 3) && wire_send(&w, credit + 3, 5) &&
		       wire_recv_all(&w, data, 70000) && !work_pattern_check(7, 0, data, 70000, &first) &&
		       take_report(&w, &report) && report.bytes == 70000;
		wire_close(&w);
	}
	free(data);
	TAP_CHECK(unharmed(&s, port) && good);
}

static void server__refuses_credits_that_shrink_or_overflow(void)
{
	static const uint64_t bad[][2] = { { 1000, 999 }, { 5, ~0ull }, { 5, 1ull << 62 } };
	struct bench s;
	uint16_t port = bench_server(&s, 0);
	uint8_t credit[8], data[4096];
	bool good = true;
	uint32_t i, j;

	for (i = 0; i < 2; i++) {
		for (j = 0; j < 3; j++) {
			struct wire w;
			uint64_t got = 0;
			ssize_t n;

			good = wire_open(&w, kinds[i], port) && say_hello(&w, SOURCE, SERVICE_PATTERN, 7, 100) && good;
			dcpim_put64(credit, bad[j][0]);
			wire_send(&w, credit, 8);
			dcpim_put64(credit, bad[j][1]);
			wire_send(&w, credit, 8);
			while ((n = wire_recv(&w, data, sizeof(data))) > 0)
				got += (uint64_t)n;
			good = good && got <= bad[j][0];
			wire_close(&w);
		}
	}
	TAP_CHECK(unharmed(&s, port) && good);
}

/* ---- datagrams ---- */

static ssize_t exchange(int fd, const void *data, size_t len, void *answer, size_t size, int wait_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	if (send(fd, data, len, 0) != (ssize_t)len || poll(&p, 1, wait_ms) <= 0)
		return -1;
	return recv(fd, answer, size, 0);
}

static void udp_server__answers_requests_only(void)
{
	struct service_datagram d = { SERVICE_ASK, 0, 1, 0 };
	uint8_t out[1500] = { 0 }, in[1500];
	struct bench s;
	uint16_t port = bench_server(&s, 0);
	struct sockaddr_in to = loopback((uint16_t)(port + 1));
	int fd = socket(AF_INET, SOCK_DGRAM, 0), type;
	bool good = !connect(fd, (struct sockaddr *)&to, sizeof(to));

	/* No more comes back than was sent, and nothing to what is an answer itself. */
	service_datagram_put(out, &d);
	good = good && exchange(fd, out, SERVICE_ASK_LEN, in, sizeof(in), 10000) == SERVICE_ASK_LEN;
	good = good && exchange(fd, out, SERVICE_ASK_LEN - 1, in, sizeof(in), 50) < 0;
	for (type = SERVICE_PONG; type <= SERVICE_REPORT; type += SERVICE_REPORT - SERVICE_PONG) {
		out[5] = (uint8_t)type;
		good = good && exchange(fd, out, 200, in, sizeof(in), 50) < 0;
	}
	good = good && exchange(fd, "", 0, in, sizeof(in), 50) < 0;
	good = good && exchange(fd, "noise that is longer than a header of theirs", 40, in, sizeof(in), 50) < 0;
	out[5] = SERVICE_PING;
	good = good && exchange(fd, out, 100, in, sizeof(in), 10000) == 100 && in[5] == SERVICE_PONG &&
	       !memcmp(in + 8, out + 8, 92);
	close(fd);
	TAP_CHECK(unharmed(&s, port) && good);
}

static void udp_server__finds_contents_that_are_wrong(void)
{
	struct service_datagram d = { SERVICE_DATA, SERVICE_CHECK, 3, 9 };
	struct service_report report = { 0 };
	uint8_t out[500] = { 0 }, in[500];
	struct bench s;
	uint16_t port = bench_server(&s, 0);
	struct sockaddr_in to = loopback((uint16_t)(port + 1));
	int fd = socket(AF_INET, SOCK_DGRAM, 0), i;
	bool good = !connect(fd, (struct sockaddr *)&to, sizeof(to));

	service_datagram_put(out, &d);
	work_pattern_fill(3, work_message_pos(9, 500, 24), out + 24, 476);
	good = good && send(fd, out, 500, 0) == 500;
	out[300] ^= 1;
	good = good && send(fd, out, 500, 0) == 500;
	d.type = SERVICE_ASK;
	service_datagram_put(out, &d);
	for (i = 0; i < 1000 && report.requests < 2; i++)
		if (exchange(fd, out, SERVICE_ASK_LEN, in, sizeof(in), 1000) == SERVICE_ASK_LEN)
			service_report_get(in + 24, 72, &report);
	close(fd);
	TAP_CHECK(unharmed(&s, port) && good && report.requests == 2 && report.bytes == 1000 && report.corrupt == 1 &&
		  report.verified == 500 + 475 && report.corrupt_at == 9);
}

/* 65 clients more than there are places for sessions. */
static void udp_server__remembers_a_bounded_number_of_sessions(void)
{
	struct service_datagram d = { SERVICE_PING, 0, 0, 0 };
	uint8_t out[64] = { 0 }, in[64];
	struct bench s;
	uint16_t port = bench_server(&s, 0);
	struct sockaddr_in to = loopback((uint16_t)(port + 1));
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	bool good = !connect(fd, (struct sockaddr *)&to, sizeof(to));

	for (d.session = 1; d.session <= 129 && good; d.session++) {
		service_datagram_put(out, &d);
		good = exchange(fd, out, sizeof(out), in, sizeof(in), 10000) == sizeof(out);
	}
	good = good && COUNT(&s, UDP, OPEN) == 64 && COUNT(&s, UDP, OPENED) == 129;
	close(fd);
	TAP_CHECK(unharmed(&s, port) && good);
}

/* ---- a server that lies ---- */

struct liar {
	int fd;
	uint16_t port;
	pthread_t thread;
	void (*talk)(struct wire *w);
	struct rackwire_dcpim_socket *listener;
};

static void *liar_thread(void *arg)
{
	struct liar *l = arg;
	struct wire w = { NULL, -1 };

	if (l->listener) {
		if (rackwire_dcpim_accept(l->listener, &w.socket, NULL, NULL, 0))
			return NULL;
	} else {
		w.fd = accept(l->fd, NULL, NULL);
	}
	l->talk(&w);
	wire_close(&w);
	return NULL;
}

static bool liar_open(struct liar *l, int kind, void (*talk)(struct wire *w))
{
	struct sockaddr_in at = loopback(0);
	socklen_t length = sizeof(at);
	bool good;

	l->talk = talk;
	l->listener = NULL;
	l->fd = -1;
	if (kind < 0) {
		l->fd = socket(AF_INET, SOCK_STREAM, 0);
		good = !bind(l->fd, (struct sockaddr *)&at, length) && !listen(l->fd, 5) &&
		       !getsockname(l->fd, (struct sockaddr *)&at, &length);
	} else {
		good = !rackwire_dcpim_socket(engine, (uint32_t)kind, &l->listener) &&
		       !rackwire_dcpim_bind(l->listener, (struct sockaddr *)&at, length) &&
		       !rackwire_dcpim_listen(l->listener, 5) &&
		       !rackwire_dcpim_getsockname(l->listener, (struct sockaddr *)&at, &length);
	}
	l->port = ntohs(at.sin_port);
	return good && !pthread_create(&l->thread, NULL, liar_thread, l);
}

static void liar_close(struct liar *l)
{
	pthread_join(l->thread, NULL);
	if (l->listener)
		rackwire_dcpim_close(l->listener);
	else
		close(l->fd);
}

/* What a client of a kind says of such a server. */
static int meets(uint32_t work, int kind, uint32_t flags, void (*talk)(struct wire *w), struct bench *c)
{
	struct liar l;
	int result;

	if (!liar_open(&l, kind, talk))
		return 1;
	bench_init(c, work, kind < 0 ? TCP : DCPIM);
	c->config.flags = flags | (kind == RACKWIRE_DCPIM_MESSAGE ? RACKWIRE_DCPIM_WORK_SHORT : 0);
	c->config.count = 100;
	c->config.length = 100;
	c->config.timeout_ns = 50000000;
	c->engine.connect_timeout_ns = 100000000;
	result = bench_run(c, l.port);
	printf("# %d %s\n", result, c->error);
	bench_close(c);
	liar_close(&l);
	return result;
}

/* Long enough for the client to end first; it ends when the client does. */
static void until_gone(struct wire *w)
{
	uint8_t data[4096];

	while (wire_recv(w, data, sizeof(data)) > 0)
		;
}

static void says_http(struct wire *w)
{
	wire_send(w, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", 48);
	until_gone(w);
}

static void says_nothing(struct wire *w)
{
	until_gone(w);
}

static void leaves(struct wire *w)
{
	(void)w;
}

static void greet(struct wire *w, uint8_t status)
{
	struct service_welcome welcome = { status, 0 };
	uint8_t bytes[SERVICE_WELCOME_LEN];

	if (!wire_recv_all(w, bytes, SERVICE_HELLO_LEN))
		return;
	service_welcome_put(bytes, &welcome);
	wire_send(w, bytes, sizeof(bytes));
}

static void is_full(struct wire *w)
{
	greet(w, SERVICE_FULL);
	until_gone(w);
}

static void greets_and_is_silent(struct wire *w)
{
	greet(w, SERVICE_OK);
	until_gone(w);
}

static volatile bool let_go;

static void greets_and_hangs(struct wire *w)
{
	greet(w, SERVICE_OK);
	while (!let_go)
		usleep(1000);
}

static void greets_and_leaves(struct wire *w)
{
	greet(w, SERVICE_OK);
}

static void echoes(struct wire *w, bool wrong)
{
	uint8_t bytes[100];
	struct service_report report = { 0 };

	greet(w, SERVICE_OK);
	while (wire_recv_all(w, bytes, sizeof(bytes))) {
		bytes[50] ^= wrong;
		wire_send(w, bytes, sizeof(bytes));
	}
	service_report_put(bytes, &report);
	wire_send(w, bytes, SERVICE_REPORT_LEN);
	wire_shutdown(w);
}

static void echoes_wrongly(struct wire *w)
{
	echoes(w, true);
}

static void echoes_rightly(struct wire *w)
{
	echoes(w, false);
}

static void sends_too_much(struct wire *w)
{
	static const uint8_t zeros[1000];

	greet(w, SERVICE_OK);
	wire_send(w, zeros, sizeof(zeros));
	until_gone(w);
}

static void client__believes_a_server_written_from_the_document(void)
{
	struct bench c;
	uint32_t i;

	for (i = 0; i < 3; i++)
		TAP_CHECK(!meets(RACKWIRE_DCPIM_WORK_PING, kinds[i], 0, echoes_rightly, &c));
}

static void client__finds_answers_that_are_wrong(void)
{
	struct bench c;
	uint32_t i;

	for (i = 0; i < 3; i++)
		TAP_CHECK(meets(RACKWIRE_DCPIM_WORK_PING, kinds[i], 0, echoes_wrongly, &c) == -EBADMSG);
	TAP_CHECK(!meets(RACKWIRE_DCPIM_WORK_PING, -1, RACKWIRE_DCPIM_WORK_NO_VALIDATE, echoes_wrongly, &c));
}

static void client__says_what_is_no_rackwire_server(void)
{
	struct bench c;
	uint32_t i;

	for (i = 0; i < 3; i++)
		TAP_CHECK(meets(RACKWIRE_DCPIM_WORK_PING, kinds[i], 0, says_http, &c) == -EPROTO &&
			  strstr(c.error, "no rackwire server"));
	for (i = 0; i < 2; i++)
		TAP_CHECK(meets(RACKWIRE_DCPIM_WORK_STREAM, kinds[i], 0, sends_too_much, &c) == -EPROTO);
}

static void client__says_that_the_server_is_full(void)
{
	struct bench c;

	TAP_CHECK(meets(RACKWIRE_DCPIM_WORK_PING, -1, 0, is_full, &c) == -EPROTO && strstr(c.error, "no more connections"));
}

static void client__does_not_wait_forever(void)
{
	struct bench c;
	uint32_t i;

	for (i = 0; i < 3; i++)
		TAP_CHECK(meets(RACKWIRE_DCPIM_WORK_PING, kinds[i], 0, greets_and_is_silent, &c) == -ETIMEDOUT);
	TAP_CHECK(meets(RACKWIRE_DCPIM_WORK_PING, -1, 0, says_nothing, &c) == -ETIMEDOUT);
	TAP_CHECK(meets(RACKWIRE_DCPIM_WORK_STREAM, RACKWIRE_DCPIM_STREAM, 0, says_nothing, &c) == -ETIMEDOUT);
}

static void client__notices_that_the_server_leaves(void)
{
	struct bench c;
	uint32_t i;

	for (i = 0; i < 3; i++) {
		TAP_CHECK(meets(RACKWIRE_DCPIM_WORK_PING, kinds[i], 0, leaves, &c) == -ECONNRESET);
		TAP_CHECK(meets(RACKWIRE_DCPIM_WORK_PING, kinds[i], 0, greets_and_leaves, &c) == -ECONNRESET);
	}
}

/* Stopped while the server neither reads nor answers. */
static void client__can_be_stopped_when_the_server_hangs(void)
{
	struct bench c;
	struct liar l;
	uint32_t i;
	int result;

	for (i = 0; i < 2; i++) {
		TAP_CHECK(liar_open(&l, kinds[i], greets_and_hangs));
		bench_init(&c, RACKWIRE_DCPIM_WORK_STREAM, kinds[i] < 0 ? TCP : DCPIM);
		c.config.port = l.port;
		TAP_CHECK(!bench_open(&c));
		bench_start(&c);
		while (!bench_count(&c, kinds[i] < 0, RACKWIRE_DCPIM_WORK_TX_BYTES))
			usleep(1000);
		rackwire_dcpim_work_stop(c.work);
		result = bench_join(&c);
		TAP_CHECK(!result && !bench_count(&c, kinds[i] < 0, RACKWIRE_DCPIM_WORK_PEER_REPORTS));
		bench_close(&c);
		let_go = true;
		liar_close(&l);
		let_go = false;
	}
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(server__refuses_a_hello_that_makes_no_sense),
		TAP_TEST(server__outlives_half_a_hello_and_noise),
		TAP_TEST(server__finds_contents_that_are_wrong),
		TAP_TEST(server__looks_at_nothing_where_no_one_asked),
		TAP_TEST(server__gives_as_much_as_it_was_allowed_and_no_more),
		TAP_TEST(server__refuses_credits_that_shrink_or_overflow),
		TAP_TEST(udp_server__answers_requests_only),
		TAP_TEST(udp_server__finds_contents_that_are_wrong),
		TAP_TEST(udp_server__remembers_a_bounded_number_of_sessions),
		TAP_TEST(client__believes_a_server_written_from_the_document),
		TAP_TEST(client__finds_answers_that_are_wrong),
		TAP_TEST(client__says_what_is_no_rackwire_server),
		TAP_TEST(client__says_that_the_server_is_full),
		TAP_TEST(client__does_not_wait_forever),
		TAP_TEST(client__can_be_stopped_when_the_server_hangs),
		TAP_TEST(client__notices_that_the_server_leaves),
	};
	struct rackwire_dcpim_config config = { .size = sizeof(config), .flags = RACKWIRE_DCPIM_NO_CONTROL };
	int result;

	work_pattern_init();
	if (rackwire_dcpim_engine_open(&config, &engine, NULL, 0))
		return 1;
	result = TAP_RUN(tests, argc, argv);
	rackwire_dcpim_engine_close(engine, 0);
	return result;
}
