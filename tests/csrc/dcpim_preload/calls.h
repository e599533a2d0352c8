/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * calls.h: tests of single calls on dcPIM sockets, each against what Linux says
 * of sockets. Both ends of every connection are in one process, which runs under
 * LD_PRELOAD and knows nothing but the C library.
 */
#ifndef RACKWIRE_TESTS_PRELOAD_CALLS_H
#define RACKWIRE_TESTS_PRELOAD_CALLS_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tap.h"

#define DCPIM 254

/* The call fails in this way. */
#define FAILS(call, expected) (errno = 0, (call) == -1 && errno == (expected))

/* A listener on a free port of 127.0.0.1. */
int listening(int type, struct sockaddr_in *at);
/* A connected pair, fds[0] the client's. @priority: SO_PRIORITY of the client, or 0. Return: 0 or -1. */
int make_pair(int type, int priority, int fds[2]);
void close_pair(int fds[2]);
/* Wait until poll() says one of @events, for at most 10 s. Return: what it said. */
int ready(int fd, int events);
void set_nonblocking(int fd, int on);
/* Is this still an open descriptor? */
int is_open(int fd);
/* Count signals: install a handler, with or without SA_RESTART. */
extern volatile sig_atomic_t signals;
void count_signal(int sig, int flags);

#endif
