/* SPDX-License-Identifier: BSD-2-Clause */
/* socket.h: what is behind a struct rackwire_dcpim_socket. */
#ifndef RACKWIRE_DCPIM_SOCKET_H
#define RACKWIRE_DCPIM_SOCKET_H

#include "shard.h"

/* Connections a listener has not handed out; every shard adds, under a lock of its own. */
struct dcpim_accepts {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	struct dcpim_list queue; /* of sockets, by their node */
	struct dcpim_engine_listener *listener;
};

/* Kept small: 10,000 idle ones must not matter. Used under the shard's lock. */
struct rackwire_dcpim_socket {
	struct dcpim_list node;
	struct dcpim_shard *shard; /* changes only while unbound and unconnected */
	struct dcpim_flow *flow;   /* NULL before connect and after a failure */
	struct dcpim_list waiters;
	struct dcpim_mem *chunk; /* being filled by small writes */
	u32 corked;		 /* bytes at its end the core does not have yet */
	u32 refs;		 /* threads waiting inside a call */
	struct dcpim_port *port;
	u32 local;
	struct dcpim_accepts *accepts; /* listeners */
	u64 sndtimeo, rcvtimeo; /* ns, 0: none */
	s64 linger;
	int error;	/* of the connection, not yet told; negative */
	int event_fd;	/* -1: not asked for */
	u32 sndbuf, rcvbuf; /* 0: the engine's */
	u32 scope;
	u8 laddr[16], paddr[16];
	u16 lport, pport, encap_port;
	u16 family;
	u8 state, kind, priority, accept_kinds;
	u8 armed, counted; /* atomic: event_fd waits for an event; it counts in shard->armed */
	bool nonblock : 1, reuseaddr : 1, rd_shut : 1, wr_shut : 1, eof : 1, wr_blocked : 1, drained : 1,
		closed : 1, raw_taken : 1;
};

/* Lock the socket's shard and take the time. */
struct dcpim_shard *dcpim_socket_lock(struct rackwire_dcpim_socket *sock);

/*
 * Wait with the lock held. Return: 0, -EAGAIN at the deadline, -EBADF when the
 * socket was closed meanwhile (it is gone then).
 */
int dcpim_socket_wait(struct rackwire_dcpim_socket *sock, bool (*ready)(void *), u64 deadline);
void dcpim_socket_unref(struct rackwire_dcpim_socket *sock);

/* Tell whoever waits or polls that something changed. */
void dcpim_socket_notify(struct rackwire_dcpim_socket *sock);

/* POLLIN... as of now, with the lock held. */
int dcpim_socket_readiness(struct rackwire_dcpim_socket *sock);

/* Give the core what MSG_MORE held back. Return: 0 or the core's error. */
int dcpim_socket_uncork(struct rackwire_dcpim_socket *sock);

static inline u64 dcpim_deadline(u64 now, u64 timeout)
{
	return timeout ? dcpim_after(now, timeout) : DCPIM_NEVER;
}

#endif
