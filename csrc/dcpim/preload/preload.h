/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * preload.h: the inside of the library that lets unmodified programs use dcPIM
 * sockets. Each dcPIM descriptor is a real one, of an unconnected unix socket
 * that nothing ever reaches; a table says which struct dsock is behind it.
 * Descriptors without an entry go to the C library after one load.
 */
#ifndef RACKWIRE_DCPIM_PRELOAD_H
#define RACKWIRE_DCPIM_PRELOAD_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "dcpim/preload/real.h"
#include "rackwire_dcpim.h"

#define DCPIM_PROTOCOL 254 /* IPPROTO of dcPIM: "use for experimentation and testing", RFC 3692 */
#define DCPIM_MESSAGE_PRIORITY 7

#define EXPORT __attribute__((visibility("default")))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* ---- table.c: what is behind a descriptor ---- */

enum handle_type { HANDLE_DSOCK = 1, HANDLE_EPOLL };

/*
 * Counted: one reference for each descriptor and one for each call under way.
 * The memory of handles is used again but never returned, so that a thread may
 * look at one that has just gone.
 */
#define HANDLE_SIZE 256 /* of any type */

struct handle {
	uint32_t refs; /* atomic; how many, and a bit that table.c keeps until all is closed */
	enum handle_type type;
	struct handle *next_free;
};

struct epoll_item;

/* A dcPIM socket. The engine's socket never blocks; waiting is done here. */
struct dsock {
	struct handle handle;
	struct rackwire_dcpim_socket *sock;
	int domain, type;
	/* atomic, all below */
	uint32_t fds; /* descriptors */
	uint8_t nonblock;
	uint8_t connecting;	/* connect() gave EINPROGRESS and was not asked again */
	uint8_t keepalive, no_check;
	int priority;
	uint64_t rcvtimeo, sndtimeo; /* ns, 0: none */
	uint32_t send_refused;	/* how often a send found no room: an edge for epoll follows */
	uint32_t recv_refused;
	struct epoll_item *items; /* under the lock of epoll.c */
};

#define TABLE_SIZE (1 << 20)
extern struct handle *table[TABLE_SIZE];
extern uint32_t table_dsocks; /* atomic: descriptors of dcPIM sockets */

static inline struct handle *table_peek(int fd)
{
	return (unsigned int)fd < TABLE_SIZE ? __atomic_load_n(&table[fd], __ATOMIC_RELAXED) : NULL;
}

static inline bool table_used(void)
{
	return __atomic_load_n(&table_dsocks, __ATOMIC_RELAXED) != 0;
}

/* The handle of a descriptor with a reference for the caller, or NULL. */
struct handle *table_get(int fd);
struct dsock *dsock_get(int fd);
bool handle_ref(struct handle *h);
void handle_put(struct handle *h);
static inline void dsock_put(struct dsock *d)
{
	handle_put(&d->handle);
}

/* A new handle with one reference, zeroed. NULL: no memory. */
struct handle *handle_new(enum handle_type type);
/* Put a handle behind a descriptor, which takes over the caller's reference. */
void table_set(int fd, struct handle *h);
/* A descriptor for a dcPIM socket. @flags: SOCK_NONBLOCK | SOCK_CLOEXEC. Return: it, or -errno. */
int dsock_number(int flags);
/*
 * Put a socket of the engine behind such a descriptor. @listener: what accepted
 * it, or NULL. Return: 0, or -ENOMEM with both closed.
 */
int dsock_install(int fd, struct rackwire_dcpim_socket *sock, int domain, int type, int flags,
		  const struct dsock *listener);
/* getpeername(), in the family of the socket. Return: 0 or -errno. */
int dsock_peer(const struct dsock *d, struct sockaddr *addr, socklen_t *length);
/* fcntl(F_DUPFD...) */
int table_dupfd(int fd, int command, int least);
/* Close every dcPIM descriptor, at exit. Return: whether no other thread is in a call any more. */
bool table_close_all(void);

/* ---- engine.c ---- */

/* The engine, started at the first call. Return: 0 or a negative errno, said on stderr once. */
int engine_get(struct rackwire_dcpim_engine **out);
/* The process is going: a thread that comes back from a wait, or begins a call, stays here. */
void engine_check_exit(void);
/* In the child of a fork: there is no engine. */
void engine_forget(void);

/* ---- wait.c ---- */

#define FOREVER UINT64_MAX
uint64_t deadline_after(uint64_t timeout_ns); /* 0: FOREVER */
int64_t time_left(uint64_t deadline);	      /* as poll_many's timeout */
/* Wait until the socket is ready for @events. Return: 0, -EAGAIN at the deadline, -EINTR, ... */
int dsock_wait(struct dsock *d, int events, uint64_t deadline, bool restart);

/* ---- epoll.c ---- */

/* rackwire_dcpim_poll(), and let epoll sets know, whose descriptor it cleared. */
int dsock_poll(struct dsock *d, int events);
/* The last descriptor is closed: leave all sets. */
void epoll_forget_dsock(struct dsock *d);
void epoll_release(struct handle *h);
/* Someone waits on an epoll descriptor itself. */
void epoll_watched(int fd);
void epoll_atfork(int phase); /* 0: before, 1: in the parent, 2: in the child */

/* Sets errno. */
static inline long result(long r)
{
	if (r >= 0)
		return r;
	errno = (int)-r;
	return -1;
}

#endif
