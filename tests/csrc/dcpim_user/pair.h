/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pair.h: two engines on loopback, as two processes would have them, and a body
 * of test that runs for both engine kinds and both address families.
 */
#ifndef PAIR_H
#define PAIR_H

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "rackwire_dcpim.h"
#include "tap.h"

#define MS 1000000LL

struct pair {
	int family;
	struct rackwire_dcpim_config config;
	struct rackwire_dcpim_engine *server, *client;
	struct rackwire_dcpim_socket *listener;
	struct sockaddr_storage addr; /* of the listener */
	socklen_t length;
};

extern struct pair pair;

/*
 * Fill in pair.config, then pair_open() makes both engines and a listener that
 * takes both kinds. Return: 0, or -EPERM when the raw engine is not allowed.
 */
void pair_config(uint32_t kind, int family);
int pair_open(void);
void pair_close(void);
/* A connection, both ends. */
int pair_connect(uint32_t kind, struct rackwire_dcpim_socket **near, struct rackwire_dcpim_socket **far);

void fill_pattern(uint8_t *to, size_t length, uint64_t offset);
bool is_pattern(const uint8_t *from, size_t length, uint64_t offset);

/* Until @condition, for at most ten seconds. */
#define EVENTUALLY(condition)                                      \
	do {                                                       \
		int tries_ = 0;                                    \
		while (!(condition) && tries_++ < 10000)           \
			usleep(1000);                              \
		TAP_CHECK(condition);                              \
	} while (0)

#define RUN_BODY(body, kind, family)                               \
	do {                                                       \
		int err_;                                          \
		pair_config(kind, family);                         \
		err_ = pair_open();                                \
		if (err_ == -EPERM)                                \
			TAP_SKIP("raw sockets need CAP_NET_RAW");  \
		if (err_ == -EADDRNOTAVAIL && family == AF_INET6)  \
			TAP_SKIP("this machine has no IPv6");      \
		TAP_CHECK(!err_);                                  \
		body();                                            \
		if (tap_failed)                                    \
			return;                                    \
		pair_close();                                      \
	} while (0)

/* Four tests out of one body. */
#define EACH_ENGINE(body)                                                                             \
	static void body##_udp4(void) { RUN_BODY(body, RACKWIRE_DCPIM_UDP, AF_INET); }                \
	static void body##_udp6(void) { RUN_BODY(body, RACKWIRE_DCPIM_UDP, AF_INET6); }               \
	static void body##_raw4(void) { RUN_BODY(body, RACKWIRE_DCPIM_RAW, AF_INET); }                \
	static void body##_raw6(void) { RUN_BODY(body, RACKWIRE_DCPIM_RAW, AF_INET6); }

#define EACH_TEST(body) TAP_TEST(body##_udp4), TAP_TEST(body##_udp6), TAP_TEST(body##_raw4), TAP_TEST(body##_raw6)

#endif
