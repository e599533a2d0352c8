// SPDX-License-Identifier: BSD-2-Clause
/* How connections begin and end, and what the names of things are. */
#include <arpa/inet.h>
#include <sys/wait.h>

#include "pair.h"

static void connect__refused_when_nobody_listens(void)
{
	struct rackwire_dcpim_socket *s;
	struct sockaddr_storage addr = pair.addr;
	int64_t error;

	((struct sockaddr_in *)&addr)->sin_port = htons(9);
	TAP_CHECK(!rackwire_dcpim_socket(pair.client, RACKWIRE_DCPIM_STREAM, &s));
	TAP_CHECK(rackwire_dcpim_connect(s, (struct sockaddr *)&addr, pair.length) == -ECONNREFUSED);
	TAP_CHECK(!rackwire_dcpim_getopt(s, RACKWIRE_DCPIM_ERROR, &error) && error == 0);
	/* The same socket may try again, elsewhere. */
	TAP_CHECK(!rackwire_dcpim_connect(s, (struct sockaddr *)&pair.addr, pair.length));
	TAP_CHECK(rackwire_dcpim_connect(s, (struct sockaddr *)&pair.addr, pair.length) == -EISCONN);
	rackwire_dcpim_close(s);
}
EACH_ENGINE(connect__refused_when_nobody_listens)

static void connect__port_zero_is_refused(void)
{
	struct rackwire_dcpim_socket *s;
	struct sockaddr_storage addr = pair.addr;

	((struct sockaddr_in *)&addr)->sin_port = 0;
	TAP_CHECK(!rackwire_dcpim_socket(pair.client, RACKWIRE_DCPIM_STREAM, &s));
	TAP_CHECK(rackwire_dcpim_connect(s, (struct sockaddr *)&addr, pair.length) == -EADDRNOTAVAIL);
	TAP_CHECK(rackwire_dcpim_connect(s, (struct sockaddr *)&addr, 3) == -EINVAL);
	TAP_CHECK(rackwire_dcpim_send(s, "x", 1, 0) == -ENOTCONN);
	TAP_CHECK(rackwire_dcpim_recv(s, &addr, 1, 0) == -ENOTCONN);
	rackwire_dcpim_close(s);
}
EACH_ENGINE(connect__port_zero_is_refused)

static void bind__second_server_is_refused(void)
{
	struct rackwire_dcpim_socket *s;
	pid_t child;
	int status;

	TAP_CHECK(!rackwire_dcpim_socket(pair.client, RACKWIRE_DCPIM_STREAM, &s));
	TAP_CHECK(rackwire_dcpim_bind(s, (struct sockaddr *)&pair.addr, pair.length) == -EADDRINUSE);
	rackwire_dcpim_close(s);
	TAP_CHECK(!rackwire_dcpim_socket(pair.server, RACKWIRE_DCPIM_STREAM, &s));
	TAP_CHECK(rackwire_dcpim_bind(s, (struct sockaddr *)&pair.addr, pair.length) == -EADDRINUSE);
	rackwire_dcpim_close(s);
	fflush(stdout);
	child = fork();
	if (!child) {
		struct rackwire_dcpim_engine *e;

		if (rackwire_dcpim_engine_open(&pair.config, &e, NULL, 0) ||
		    rackwire_dcpim_socket(e, RACKWIRE_DCPIM_STREAM, &s))
			_exit(1);
		_exit(rackwire_dcpim_bind(s, (struct sockaddr *)&pair.addr, pair.length) == -EADDRINUSE ? 42 : 2);
	}
	TAP_CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 42);
	/* Closing gives the port back at once. */
	rackwire_dcpim_close(pair.listener);
	TAP_CHECK(!rackwire_dcpim_socket(pair.server, RACKWIRE_DCPIM_STREAM, &pair.listener));
	TAP_CHECK(!rackwire_dcpim_bind(pair.listener, (struct sockaddr *)&pair.addr, pair.length));
	TAP_CHECK(!rackwire_dcpim_listen(pair.listener, 5));
}
EACH_ENGINE(bind__second_server_is_refused)

static void bind__second_server_is_refused_with_threads(void)
{
	pair_config(RACKWIRE_DCPIM_UDP, AF_INET);
	pair.config.threads = 2;
	TAP_CHECK(!pair_open());
	bind__second_server_is_refused();
	if (!tap_failed)
		pair_close();
}

static void names__are_those_of_both_ends(void)
{
	struct rackwire_dcpim_socket *near, *far;
	struct sockaddr_storage a, b;
	socklen_t la = sizeof(a), lb = sizeof(b);

	TAP_CHECK(!pair_connect(RACKWIRE_DCPIM_STREAM, &near, &far));
	TAP_CHECK(!rackwire_dcpim_getsockname(near, (struct sockaddr *)&a, &la));
	TAP_CHECK(!rackwire_dcpim_getpeername(far, (struct sockaddr *)&b, &lb));
	TAP_CHECK(la == lb && la == pair.length && !memcmp(&a, &b, la));
	la = sizeof(a);
	TAP_CHECK(!rackwire_dcpim_getpeername(near, (struct sockaddr *)&a, &la));
	TAP_CHECK(la == pair.length && !memcmp(&a, &pair.addr, la));
	lb = sizeof(b);
	TAP_CHECK(!rackwire_dcpim_getsockname(far, (struct sockaddr *)&b, &lb));
	TAP_CHECK(lb == pair.length && !memcmp(&b, &pair.addr, lb));
	lb = sizeof(b);
	TAP_CHECK(rackwire_dcpim_getpeername(pair.listener, (struct sockaddr *)&b, &lb) == -ENOTCONN);
	rackwire_dcpim_close(near);
	rackwire_dcpim_close(far);
}
EACH_ENGINE(names__are_those_of_both_ends)

static void bind__client_keeps_its_port(void)
{
	struct rackwire_dcpim_socket *near, *far;
	struct sockaddr_storage addr = pair.addr, peer;
	socklen_t length = sizeof(addr), peer_length = sizeof(peer);

	((struct sockaddr_in *)&addr)->sin_port = 0;
	TAP_CHECK(!rackwire_dcpim_socket(pair.client, RACKWIRE_DCPIM_STREAM, &near));
	TAP_CHECK(!rackwire_dcpim_bind(near, (struct sockaddr *)&addr, pair.length));
	TAP_CHECK(!rackwire_dcpim_getsockname(near, (struct sockaddr *)&addr, &length));
	TAP_CHECK(!rackwire_dcpim_connect(near, (struct sockaddr *)&pair.addr, pair.length));
	TAP_CHECK(!rackwire_dcpim_accept(pair.listener, &far, (struct sockaddr *)&peer, &peer_length, 0));
	TAP_CHECK(peer_length == length && !memcmp(&peer, &addr, length));
	rackwire_dcpim_close(near);
	rackwire_dcpim_close(far);
}
EACH_ENGINE(bind__client_keeps_its_port)

/* A wildcard listener answers from the address that was asked, or the client would not know it. */
static void listen__wildcard_answers_from_the_address_asked(void)
{
	struct rackwire_dcpim_socket *listener, *near, *far;
	struct sockaddr_in any = { .sin_family = AF_INET }, to, name;
	socklen_t length = sizeof(any);
	char data[4];

	if (pair.family != AF_INET)
		return;
	TAP_CHECK(!rackwire_dcpim_socket(pair.server, RACKWIRE_DCPIM_STREAM, &listener));
	TAP_CHECK(!rackwire_dcpim_bind(listener, (struct sockaddr *)&any, sizeof(any)));
	TAP_CHECK(!rackwire_dcpim_listen(listener, 5));
	TAP_CHECK(!rackwire_dcpim_getsockname(listener, (struct sockaddr *)&any, &length));
	to = any;
	inet_pton(AF_INET, "127.3.2.1", &to.sin_addr);
	TAP_CHECK(!rackwire_dcpim_socket(pair.client, RACKWIRE_DCPIM_STREAM, &near));
	TAP_CHECK(!rackwire_dcpim_connect(near, (struct sockaddr *)&to, sizeof(to)));
	TAP_CHECK(!rackwire_dcpim_accept(listener, &far, NULL, NULL, 0));
	length = sizeof(name);
	TAP_CHECK(!rackwire_dcpim_getsockname(far, (struct sockaddr *)&name, &length));
	TAP_CHECK(!memcmp(&name, &to, sizeof(to)));
	TAP_CHECK(rackwire_dcpim_send(far, "abcd", 4, 0) == 4);
	TAP_CHECK(rackwire_dcpim_recv(near, data, 4, MSG_WAITALL) == 4);
	rackwire_dcpim_close(near);
	rackwire_dcpim_close(far);
	rackwire_dcpim_close(listener);
}
EACH_ENGINE(listen__wildcard_answers_from_the_address_asked)

/* An unbound listener takes IPv4 and IPv6. */
static void listen__unbound_takes_both_families(void)
{
	struct rackwire_dcpim_socket *listener, *near, *far;
	struct sockaddr_in6 name;
	struct sockaddr_storage to = pair.addr;
	socklen_t length = sizeof(name);

	TAP_CHECK(!rackwire_dcpim_socket(pair.server, RACKWIRE_DCPIM_STREAM, &listener));
	TAP_CHECK(!rackwire_dcpim_listen(listener, 5));
	TAP_CHECK(!rackwire_dcpim_getsockname(listener, (struct sockaddr *)&name, &length));
	((struct sockaddr_in *)&to)->sin_port = name.sin6_port;
	TAP_CHECK(!rackwire_dcpim_socket(pair.client, RACKWIRE_DCPIM_STREAM, &near));
	TAP_CHECK(!rackwire_dcpim_connect(near, (struct sockaddr *)&to, pair.length));
	TAP_CHECK(!rackwire_dcpim_accept(listener, &far, NULL, NULL, 0));
	TAP_CHECK(rackwire_dcpim_send(far, "x", 1, 0) == 1);
	TAP_CHECK(rackwire_dcpim_recv(near, &to, 1, 0) == 1);
	rackwire_dcpim_close(near);
	rackwire_dcpim_close(far);
	rackwire_dcpim_close(listener);
}
EACH_ENGINE(listen__unbound_takes_both_families)

static void close__peer_reads_what_was_sent_and_then_the_end(void)
{
	struct rackwire_dcpim_socket *near, *far;
	char data[8];

	TAP_CHECK(!pair_connect(RACKWIRE_DCPIM_STREAM, &near, &far));
	TAP_CHECK(rackwire_dcpim_send(near, "bye", 3, 0) == 3);
	TAP_CHECK(!rackwire_dcpim_close(near));
	TAP_CHECK(rackwire_dcpim_recv(far, data, sizeof(data), 0) == 3);
	TAP_CHECK(rackwire_dcpim_recv(far, data, sizeof(data), 0) == 0);
	TAP_CHECK(rackwire_dcpim_recv(far, data, sizeof(data), 0) == 0);
	rackwire_dcpim_close(far);
}
EACH_ENGINE(close__peer_reads_what_was_sent_and_then_the_end)

static void close__message_unread_when_peer_closes_is_still_there(void)
{
	struct rackwire_dcpim_socket *near, *far;
	char data[8];

	TAP_CHECK(!pair_connect(RACKWIRE_DCPIM_MESSAGE, &near, &far));
	TAP_CHECK(rackwire_dcpim_send(near, "last", 4, 0) == 4);
	TAP_CHECK(!rackwire_dcpim_close(near));
	usleep(20000);
	TAP_CHECK(rackwire_dcpim_recv(far, data, sizeof(data), 0) == 4);
	TAP_CHECK(rackwire_dcpim_recv(far, data, sizeof(data), 0) == 0);
	rackwire_dcpim_close(far);
}
EACH_ENGINE(close__message_unread_when_peer_closes_is_still_there)

static void close__with_unread_data_resets(void)
{
	struct rackwire_dcpim_socket *near, *far;
	char data[8];

	TAP_CHECK(!pair_connect(RACKWIRE_DCPIM_STREAM, &near, &far));
	TAP_CHECK(rackwire_dcpim_send(near, "unread", 6, 0) == 6);
	TAP_CHECK(rackwire_dcpim_recv(far, data, 1, 0) == 1);
	TAP_CHECK(!rackwire_dcpim_close(far));
	TAP_CHECK(rackwire_dcpim_recv(near, data, sizeof(data), 0) == -ECONNRESET);
	TAP_CHECK(rackwire_dcpim_recv(near, data, sizeof(data), 0) == 0);
	TAP_CHECK(rackwire_dcpim_send(near, data, 1, 0) == -EPIPE);
	rackwire_dcpim_close(near);
}
EACH_ENGINE(close__with_unread_data_resets)

static void close__linger_zero_resets_and_positive_waits(void)
{
	struct rackwire_dcpim_socket *near, *far;
	char data[8];

	TAP_CHECK(!pair_connect(RACKWIRE_DCPIM_STREAM, &near, &far));
	TAP_CHECK(!rackwire_dcpim_setopt(near, RACKWIRE_DCPIM_LINGER, 0));
	TAP_CHECK(!rackwire_dcpim_close(near));
	TAP_CHECK(rackwire_dcpim_recv(far, data, sizeof(data), 0) == -ECONNRESET);
	rackwire_dcpim_close(far);
	TAP_CHECK(!pair_connect(RACKWIRE_DCPIM_STREAM, &near, &far));
	TAP_CHECK(!rackwire_dcpim_setopt(near, RACKWIRE_DCPIM_LINGER, 5000 * MS));
	TAP_CHECK(rackwire_dcpim_send(near, "all", 3, 0) == 3);
	TAP_CHECK(!rackwire_dcpim_close(near));
	TAP_CHECK(rackwire_dcpim_recv(far, data, sizeof(data), MSG_DONTWAIT) == 3);
	rackwire_dcpim_close(far);
}
EACH_ENGINE(close__linger_zero_resets_and_positive_waits)

/* The end of a connection cannot be told to a peer whose engine is closed, and nobody waits for that. */
static void close__engine_does_not_wait_for_a_peer_that_is_gone(void)
{
	struct rackwire_dcpim_socket *near, *far;
	int err, i;

	for (i = 0; i < 2; i++) {
		pair_config(RACKWIRE_DCPIM_UDP, i ? AF_INET6 : AF_INET);
		err = pair_open();
		if (err == -EADDRNOTAVAIL && i)
			return;
		TAP_CHECK(!err);
		TAP_CHECK(!pair_connect(RACKWIRE_DCPIM_STREAM, &near, &far));
		rackwire_dcpim_close(near);
		TAP_CHECK(!rackwire_dcpim_engine_close(pair.client, 5000 * MS));
		rackwire_dcpim_close(far);
		rackwire_dcpim_close(pair.listener);
		TAP_CHECK(!rackwire_dcpim_engine_close(pair.server, 5000 * MS));
	}
}

static void close__listener_resets_those_not_accepted(void)
{
	struct rackwire_dcpim_socket *near;
	char data;

	TAP_CHECK(!rackwire_dcpim_socket(pair.client, RACKWIRE_DCPIM_STREAM, &near));
	TAP_CHECK(!rackwire_dcpim_connect(near, (struct sockaddr *)&pair.addr, pair.length));
	usleep(20000);
	rackwire_dcpim_close(pair.listener);
	TAP_CHECK(rackwire_dcpim_recv(near, &data, 1, 0) == -ECONNRESET);
	rackwire_dcpim_close(near);
	TAP_CHECK(!rackwire_dcpim_socket(pair.server, RACKWIRE_DCPIM_STREAM, &pair.listener));
}
EACH_ENGINE(close__listener_resets_those_not_accepted)

static void *blocked_recv(void *arg)
{
	char data;

	return (void *)rackwire_dcpim_recv(arg, &data, 1, 0);
}

static void *blocked_accept(void *arg)
{
	struct rackwire_dcpim_socket *out;

	return (void *)(ssize_t)rackwire_dcpim_accept(arg, &out, NULL, NULL, 0);
}

static void close__ends_calls_that_wait(void)
{
	struct rackwire_dcpim_socket *near, *far, *listener;
	pthread_t threads[3];
	void *result;
	int i;

	TAP_CHECK(!pair_connect(RACKWIRE_DCPIM_STREAM, &near, &far));
	TAP_CHECK(!rackwire_dcpim_socket(pair.client, RACKWIRE_DCPIM_STREAM, &listener));
	TAP_CHECK(!rackwire_dcpim_listen(listener, 5));
	TAP_CHECK(!pthread_create(&threads[0], NULL, blocked_recv, near));
	TAP_CHECK(!pthread_create(&threads[1], NULL, blocked_recv, near));
	TAP_CHECK(!pthread_create(&threads[2], NULL, blocked_accept, listener));
	usleep(50000);
	rackwire_dcpim_close(near);
	rackwire_dcpim_close(listener);
	for (i = 0; i < 3; i++) {
		pthread_join(threads[i], &result);
		TAP_CHECK((ssize_t)result == -EBADF);
	}
	rackwire_dcpim_close(far);
}
EACH_ENGINE(close__ends_calls_that_wait)

static void close__ends_accept_of_many_threads(void)
{
	pair_config(RACKWIRE_DCPIM_UDP, AF_INET);
	pair.config.threads = 2;
	TAP_CHECK(!pair_open());
	close__ends_calls_that_wait();
	if (!tap_failed)
		pair_close();
}

static void timeouts__bound_recv_and_accept(void)
{
	struct rackwire_dcpim_socket *near, *far, *out;
	char data;

	TAP_CHECK(!pair_connect(RACKWIRE_DCPIM_STREAM, &near, &far));
	TAP_CHECK(!rackwire_dcpim_setopt(near, RACKWIRE_DCPIM_RCVTIMEO, 20 * MS));
	TAP_CHECK(rackwire_dcpim_recv(near, &data, 1, 0) == -EAGAIN);
	TAP_CHECK(!rackwire_dcpim_setopt(pair.listener, RACKWIRE_DCPIM_RCVTIMEO, 20 * MS));
	TAP_CHECK(rackwire_dcpim_accept(pair.listener, &out, NULL, NULL, 0) == -EAGAIN);
	rackwire_dcpim_close(near);
	rackwire_dcpim_close(far);
}
EACH_ENGINE(timeouts__bound_recv_and_accept)

#define CONNECTIONS 1000

static uint64_t memory(struct rackwire_dcpim_engine *e, struct rackwire_dcpim_stats *s)
{
	s->size = sizeof(*s);
	rackwire_dcpim_engine_stats(e, s);
	return s->memory_core + s->memory_sockets + s->memory_buffers;
}

static void connections__a_thousand_take_a_kilobyte_each_and_give_it_back(void)
{
	static struct rackwire_dcpim_socket *near[CONNECTIONS], *far[CONNECTIONS];
	struct rackwire_dcpim_stats stats;
	uint64_t before[2], idle[2];
	uint32_t i, n;

	before[0] = memory(pair.client, &stats);
	before[1] = memory(pair.server, &stats);
	for (i = 0; i < CONNECTIONS; i++) {
		TAP_CHECK(!pair_connect(RACKWIRE_DCPIM_STREAM, &near[i], &far[i]));
		TAP_CHECK(rackwire_dcpim_send(near[i], &i, sizeof(i), 0) == sizeof(i));
	}
	for (i = 0; i < CONNECTIONS; i++) {
		TAP_CHECK(rackwire_dcpim_recv(far[i], &n, sizeof(n), MSG_WAITALL) == sizeof(n) && n == i);
		TAP_CHECK(rackwire_dcpim_send(far[i], &i, sizeof(i), 0) == sizeof(i));
	}
	for (i = 0; i < CONNECTIONS; i++)
		TAP_CHECK(rackwire_dcpim_recv(near[i], &n, sizeof(n), MSG_WAITALL) == sizeof(n) && n == i);
	EVENTUALLY((memory(pair.server, &stats), !stats.segs));
	EVENTUALLY((memory(pair.client, &stats), !stats.segs));
	idle[0] = (memory(pair.client, &stats) - before[0]) / CONNECTIONS;
	idle[1] = (memory(pair.server, &stats) - before[1]) / CONNECTIONS;
	printf("# bytes per idle connection: %lu connecting, %lu listening\n", (unsigned long)idle[0],
	       (unsigned long)idle[1]);
	TAP_CHECK(idle[0] < 1024 && idle[1] < 1024);
	for (i = 0; i < CONNECTIONS; i++) {
		rackwire_dcpim_close(near[i]);
		rackwire_dcpim_close(far[i]);
	}
	EVENTUALLY((memory(pair.client, &stats), !stats.flows));
	EVENTUALLY((memory(pair.server, &stats), !stats.flows));
	/* What may stay is the peer, which is kept for the next connection, and the socket that listens. */
	TAP_CHECK(memory(pair.client, &stats) <= before[0] + 2048);
	TAP_CHECK(memory(pair.server, &stats) <= before[1] + 2048);
	TAP_CHECK(!stats.segs && !stats.msgs && stats.sockets == 1);
}
EACH_ENGINE(connections__a_thousand_take_a_kilobyte_each_and_give_it_back)

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		EACH_TEST(connect__refused_when_nobody_listens),
		EACH_TEST(connect__port_zero_is_refused),
		EACH_TEST(bind__second_server_is_refused),
		TAP_TEST(bind__second_server_is_refused_with_threads),
		EACH_TEST(names__are_those_of_both_ends),
		EACH_TEST(bind__client_keeps_its_port),
		EACH_TEST(listen__wildcard_answers_from_the_address_asked),
		EACH_TEST(listen__unbound_takes_both_families),
		EACH_TEST(close__peer_reads_what_was_sent_and_then_the_end),
		EACH_TEST(close__message_unread_when_peer_closes_is_still_there),
		EACH_TEST(close__with_unread_data_resets),
		EACH_TEST(close__linger_zero_resets_and_positive_waits),
		TAP_TEST(close__engine_does_not_wait_for_a_peer_that_is_gone),
		EACH_TEST(close__listener_resets_those_not_accepted),
		EACH_TEST(close__ends_calls_that_wait),
		TAP_TEST(close__ends_accept_of_many_threads),
		EACH_TEST(timeouts__bound_recv_and_accept),
		EACH_TEST(connections__a_thousand_take_a_kilobyte_each_and_give_it_back),
	};

	return TAP_RUN(tests, argc, argv);
}
