/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * shard.h: the inside of the engine. Everything of a shard is used under its
 * lock, but for what is marked atomic.
 *
 * Whoever moves a shard's packets is its driver: the shard's own thread, or an
 * application thread blocked in the socket interface. The driver sleeps without
 * the lock; everyone else calls into the core and sends inline.
 */
#ifndef RACKWIRE_DCPIM_SHARD_H
#define RACKWIRE_DCPIM_SHARD_H

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>

#include "dcpim/user/engine.h"
#include "dcpim/user/mem.h"

/* How long a shard's thread stays away after an application thread drove. */
#define DCPIM_HANDBACK_NS 1000000

/* ---- kernel sockets ---- */

struct dcpim_port {
	struct dcpim_list node;
	int fd;
	int lock_fd;	/* its name between processes, see lock.c; -1: none */
	int family;	/* of the socket; an AF_INET6 one may carry IPv4 as well */
	u16 udp_port;	/* 0 with raw */
	bool wildcard;
	bool pktinfo;	/* ask for and set the local address of each packet */
	bool gso, gro;
	bool shared;	/* the shard's own, for sockets without a port */
	bool rx_burst;	/* receive in batches */
	u64 rx_at;	/* time of the last datagram */
	u32 refs;	/* sockets and listeners */
	u64 idle_since;	/* when refs became 0; connections may still be draining */
	u32 slot;	/* index of its first entry in shard->locals */
	u32 nlocals;
	struct sockaddr_storage addr;
};

/* What a dcpim_path's `local` refers to: a kernel socket and an address of ours. */
struct dcpim_local {
	struct dcpim_port *port; /* NULL: free */
	u32 next;	/* further local address of the same port, or 0 */
	u16 generation;
	bool any;	/* let the kernel choose the address */
	u8 addr[16];
};

#define DCPIM_LOCAL_SLOT(local) ((local) & 0xffff)
#define DCPIM_MAX_LOCALS 65000

/* ---- receiving and sending ---- */

#define DCPIM_RX_BATCH 8
#define DCPIM_CMSG_SPACE 128

struct dcpim_rx {
	struct mmsghdr msgs[DCPIM_RX_BATCH];
	struct iovec iov[DCPIM_RX_BATCH];
	struct sockaddr_in6 from[DCPIM_RX_BATCH];
	struct dcpim_mem *mem[DCPIM_RX_BATCH];
	u8 control[DCPIM_RX_BATCH][DCPIM_CMSG_SPACE] __attribute__((aligned(8)));
	u32 datagram; /* bytes of the one being taken apart, for hold() */
};

#define DCPIM_TX_GROUPS 16
#define DCPIM_TX_PACKETS 256
#define DCPIM_TX_IOVS 1024
#define DCPIM_GSO_SEGMENTS 64
#define DCPIM_GSO_BYTES 65507

/* Consecutive packets of equal size to one peer: one system call entry. */
struct dcpim_tx_group {
	struct dcpim_port *port;
	struct dcpim_path path;
	u32 first, count; /* packets */
	u32 segment, bytes;
	bool closed; /* a shorter packet ended it */
	struct sockaddr_in6 to;
	socklen_t to_len;
	u32 control_len; /* without the GSO part */
	u8 control[DCPIM_CMSG_SPACE] __attribute__((aligned(8)));
};

struct dcpim_tx {
	struct mmsghdr msgs[DCPIM_GSO_SEGMENTS];
	struct dcpim_tx_group groups[DCPIM_TX_GROUPS];
	struct iovec iov[DCPIM_TX_IOVS];
	u32 packet_iov[DCPIM_TX_PACKETS + 1]; /* first iov of each packet */
	u8 headers[DCPIM_TX_PACKETS * 64 + 1024]; /* and small payload */
	u32 ngroups, npackets, niov, nheader;
};

/* A packet, or a group, that the kernel had no room for, copied out. */
struct dcpim_tx_held {
	struct dcpim_list node;
	struct dcpim_mem *mem;
	struct dcpim_tx_group group;
};

struct dcpim_engine_counters {
	u64 rx_calls, tx_calls, rx_datagrams, tx_datagrams;
	u64 rx_truncated, rx_foreign, rx_socket_drops;
	u64 tx_errors, tx_blocked, icmp_errors;
	u64 hold_ref_bytes, hold_copy_bytes;
	u64 sleeps, wakeups;
};

/* ---- shard ---- */

enum dcpim_driver { DCPIM_DRIVER_NONE, DCPIM_DRIVER_THREAD, DCPIM_DRIVER_APP };

struct dcpim_route {
	u8 addr[16];
	u32 scope;
	u8 source[16];
	u32 mtu; /* of IP packets */
	u64 until;
};

#define DCPIM_ROUTES 8
#define DCPIM_DIRECT_FDS 4 /* polled one by one; more go through epoll */

struct dcpim_shard {
	struct rackwire_dcpim_engine *engine;
	u32 index;
	struct dcpim_host *host;
	u64 now;

	pthread_mutex_t lock;
	u32 lock_waiters; /* atomic: threads that want the lock of a spinning driver */
	enum dcpim_driver driver;
	bool sleeping;
	u32 sleepers, naps; /* threads asleep, times one woke */
	u64 sleep_until;
	struct dcpim_port *sleep_port; /* it sleeps in recvmsg() on this; NULL: it polls */
	bool brisk;	/* a packet ended the last sleep, soon */
	u64 last_app;	/* when an application thread last drove */
	bool thread_parked;
	u32 armed;	/* sockets whose descriptor an application waits on */
	struct dcpim_list waiters; /* application threads waiting behind a driver */
	pthread_cond_t thread_cond;
	pthread_t thread;
	bool thread_running;
	int thread_fd, app_fd; /* eventfds that end the driver's sleep */
	u32 woken;	/* atomic: dcpim_engine_wake() */

	void *user;
	u64 app_deadline;

	struct dcpim_list ports;
	u32 nports;
	u32 nidle; /* ports without references */
	struct dcpim_port *shared; /* UDP: for sockets without a port; raw: IPv4 */
	struct dcpim_port *shared6; /* raw, or UDP where IPv6 sockets carry no IPv4 */
	int epoll_fd;
	struct dcpim_local *locals;
	u32 nlocals, locals_size;
	u32 free_local;
	struct dcpim_route routes[DCPIM_ROUTES];
	u32 next_route;
	u64 reap_at;

	struct dcpim_list held;
	u32 nheld;

	struct dcpim_list sockets; /* of the socket interface */
	u32 nsockets;

	struct dcpim_pool pool;
	struct dcpim_engine_counters counters;
	struct dcpim_rx rx;
	struct dcpim_tx tx;
};

struct rackwire_dcpim_engine {
	struct rackwire_dcpim_config config; /* with defaults filled in */
	struct dcpim_cfg cfg;		     /* of each shard */
	const struct dcpim_app_ops *ops;
	void *app;
	bool is_app;	/* no socket interface */
	bool raw;
	u32 nshards;
	struct dcpim_shard **shards;
	u32 next_shard; /* atomic */
	const int *stop; /* of dcpim_engine_run() */
	bool stopping;	 /* atomic */
	u64 rcvbuf;	 /* what a kernel socket really got */
	struct dcpim_list listeners; /* of dcpim_engine_listen() */
	struct dcpim_raw_ports *raw_ports;
	u64 opened_at;

	struct rackwire_control *control; /* NULL: none */
};

/* ---- shard.c: the loop ---- */

int dcpim_shard_create(struct rackwire_dcpim_engine *engine, u32 index, struct dcpim_shard **out);
void dcpim_shard_destroy(struct dcpim_shard *s);
/* Start and end the shard's own thread. */
int dcpim_shard_start(struct dcpim_shard *s);
void dcpim_shard_stop(struct dcpim_shard *s);

void dcpim_shard_lock(struct dcpim_shard *s);
void dcpim_shard_unlock(struct dcpim_shard *s);

/*
 * End of a call that touched the core: take in its events, send what it made
 * and see that the driver does not oversleep. With the lock held.
 */
void dcpim_shard_flush(struct dcpim_shard *s);
/* End the driver's sleep. */
void dcpim_shard_kick(struct dcpim_shard *s);
/* The same, and wait until it has: the kernel keeps what is polled alive. Lets go of the lock meanwhile. */
void dcpim_shard_awaken(struct dcpim_shard *s);
/* Have on_timer called. Any thread, without the lock. */
void dcpim_shard_call(struct dcpim_shard *s);

/* A thread with all signals masked; @stack 0: the usual size. Return: 0 or -errno. */
int dcpim_thread_create(pthread_t *thread, void *(*main)(void *), void *arg, size_t stack);

/* Sleepers of one socket. */
struct dcpim_waiter {
	struct dcpim_list queue_node, shard_node;
	pthread_cond_t cond;
	bool called;
};

void dcpim_wake_queue(struct dcpim_list *queue);

/*
 * dcpim_shard_wait() - wait, with the lock held, until @ready says so; the
 * caller drives if nobody in the same position does.
 * @queue:    where dcpim_wake_queue() looks for this thread; NULL: the call gives
 *            -EBUSY when another application thread drives
 * @deadline: DCPIM_NEVER: none
 * @extra, @nextra: further descriptors, with @queue NULL; revents are filled in
 * Return: 0: ready, or something in @extra; -EAGAIN: the deadline passed;
 * -EBUSY, -EINTR: only with @queue NULL.
 */
int dcpim_shard_wait(struct dcpim_shard *s, struct dcpim_list *queue, bool (*ready)(void *), void *arg,
		     u64 deadline, struct pollfd *extra, u32 nextra);

/* Take in what has come, if that does not disturb another application thread. */
void dcpim_shard_try(struct dcpim_shard *s);

/* An application armed a descriptor: the thread must not stay away. */
void dcpim_shard_summon_thread(struct dcpim_shard *s);

/* ---- port.c ---- */

/*
 * dcpim_port_open() - the kernel socket for a local address and dcPIM port.
 * @addr: AF_INET or AF_INET6; port 0: any
 * @pktinfo: answers must leave from the address asked
 * @reuseport: other shards will bind the same
 * Return: 0 with a reference in *out and the local index in *local.
 */
int dcpim_port_open(struct dcpim_shard *s, const struct sockaddr_storage *addr, bool pktinfo, bool reuseport,
		    struct dcpim_port **out, u32 *local);
/* Receive buffer a kernel socket of this engine really gets, or -errno. */
int dcpim_port_rcvbuf(const struct rackwire_dcpim_engine *e);
void dcpim_port_put(struct dcpim_shard *s, struct dcpim_port *port);
/* The kernel socket to connect through without a port of one's own. */
int dcpim_port_shared(struct dcpim_shard *s, const u8 addr[16], struct dcpim_port **out);
/* Index of (port, our address); makes an entry where there is none yet. */
u32 dcpim_local_find(struct dcpim_shard *s, struct dcpim_port *port, const u8 addr[16]);
struct dcpim_local *dcpim_local_get(struct dcpim_shard *s, u32 local);
static inline u32 dcpim_local_index(const struct dcpim_shard *s, u32 slot)
{
	return slot | (u32)s->locals[slot].generation << 16;
}
/* Close kernel sockets nobody refers to any more; @now: even those that may still be draining. */
void dcpim_ports_reap(struct dcpim_shard *s, bool now);
void dcpim_ports_close(struct dcpim_shard *s);
u64 dcpim_ports_drops(struct dcpim_shard *s);
/* Raw: the two sockets of a shard. */
int dcpim_raw_open(struct dcpim_shard *s);
/* Raw: the shard that serves a peer. */
u32 dcpim_raw_shard(const struct rackwire_dcpim_engine *e, const u8 addr[16]);

/* ---- route.c ---- */

/* Source address and MTU of the route to an address. Return: 0, -ENETUNREACH, ... */
int dcpim_route_find(struct dcpim_shard *s, const u8 addr[16], u32 scope, const struct dcpim_route **out);
void dcpim_route_forget(struct dcpim_shard *s, const u8 addr[16]);
/* dcPIM bytes that fit an IP packet of @mtu bytes to @addr. */
u32 dcpim_packet_for_mtu(const struct rackwire_dcpim_engine *e, const u8 addr[16], u32 mtu);
/* Speed of the physical interface a route to (or an address of) @addr uses; 0: none. */
u64 dcpim_route_speed(const struct sockaddr_storage *local, const struct sockaddr_storage *towards);

/* @sa: an AF_INET or AF_INET6 address. */
void dcpim_addr_from(const void *sa, u8 addr[16], u16 *port, u32 *scope);
socklen_t dcpim_addr_to(const u8 addr[16], u16 port, u32 scope, int family, struct sockaddr_in6 *out);
bool dcpim_addr_is_v4(const u8 addr[16]);
bool dcpim_addr_is_any(const u8 addr[16]);
/* A caller's address, checked. Return: 0, -EINVAL, -EAFNOSUPPORT. */
int dcpim_addr_check(const struct sockaddr *addr, socklen_t length, struct sockaddr_storage *out);

/* ---- rx.c, tx.c ---- */

/* Take in what a kernel socket has, up to a limit. Return: datagrams. */
u32 dcpim_port_receive(struct dcpim_shard *s, struct dcpim_port *port);
/* Sleeping in recvmsg(): before, the message to pass; after, what it gave (or -errno); and to end it. */
#define DCPIM_BLOCK_NS 4000000ULL
bool dcpim_port_block(struct dcpim_shard *s, struct dcpim_port *port, struct msghdr *msg);
u32 dcpim_port_blocked(struct dcpim_shard *s, struct dcpim_port *port, const struct msghdr *msg, ssize_t n);
void dcpim_port_unblock(const struct dcpim_port *port);
void dcpim_port_errors(struct dcpim_shard *s, struct dcpim_port *port);
int dcpim_rx_init(struct dcpim_shard *s);
void dcpim_rx_fini(struct dcpim_shard *s);
/* Send what the core has ready. Return: true when something is left to do. */
bool dcpim_shard_transmit(struct dcpim_shard *s);
/* Drop what is held back for a kernel socket that is going; NULL: for all. */
void dcpim_tx_forget(struct dcpim_shard *s, const struct dcpim_port *port);

extern const struct dcpim_ops dcpim_user_ops;
u32 dcpim_crc32c_fast(u32 crc, const void *data, size_t len);

/* ---- lock.c: ports between processes ---- */

/*
 * Take a name in the network namespace: an abstract unix socket. It goes away
 * with the descriptor. Return: the descriptor, -EADDRINUSE, -errno.
 */
int dcpim_name_lock(const char *name, u32 number);

int dcpim_raw_ports_open(struct rackwire_dcpim_engine *e);
void dcpim_raw_ports_close(struct rackwire_dcpim_engine *e);
/* Take dcPIM port *@port (0: one of ours, then set). Return: 0, -EADDRINUSE. */
int dcpim_raw_port_take(struct rackwire_dcpim_engine *e, u16 *port);
void dcpim_raw_port_give(struct rackwire_dcpim_engine *e, u16 port);
u16 dcpim_raw_host_port(const struct rackwire_dcpim_engine *e);
/* Is a packet to this port ours to answer? */
bool dcpim_raw_port_wanted(struct rackwire_dcpim_engine *e, u16 port, u64 now);

/* ---- socket.c ---- */

extern const struct dcpim_app_ops dcpim_socket_ops;
void dcpim_sockets_close_all(struct dcpim_shard *s);

/* ---- connect.c ---- */

enum dcpim_reuse {
	DCPIM_REUSE_NO,
	DCPIM_REUSE_FIRST, /* other shards will bind the same; no other process */
	DCPIM_REUSE_MORE,  /* another shard has */
};

/* One address listened to by every shard. */
struct dcpim_engine_listener {
	struct dcpim_list node; /* engine->listeners, those of an app */
	struct rackwire_dcpim_engine *engine;
	u16 port;
	bool raw_taken;
	struct {
		struct dcpim_listener *listener;
		struct dcpim_port *port;
	} at[];
};

/*
 * Listen with every shard. @bound: the port that is already open on shard
 * @bound_shard, whose reference passes to the listener; NULL: none yet.
 */
int dcpim_listen_all(struct rackwire_dcpim_engine *e, const struct sockaddr_storage *addr, u32 kinds, u32 backlog,
		     void *user, u32 bound_shard, struct dcpim_port *bound, struct dcpim_engine_listener **out);

/* Open a port on one shard; address's port 0: any, then filled in. Takes the dcPIM port with raw. */
int dcpim_bind(struct dcpim_shard *s, struct sockaddr_storage *addr, struct dcpim_port **out, u32 *local);

/*
 * Connect. @port NULL: the shard's own kernel socket and any dcPIM port.
 * @outer: the peer's UDP port, 0: by the engine's rule
 * @source: our address, filled in
 */
struct dcpim_connect_from {
	struct dcpim_port *port;
	u32 local;
	u16 sport; /* with raw and 0: one is taken and filled in */
};
int dcpim_connect_to(struct dcpim_shard *s, enum dcpim_kind kind, struct dcpim_connect_from *from,
		     const struct sockaddr_storage *to, u16 outer, void *user, u8 source[16],
		     struct dcpim_flow **out);

/* ---- stats.c, control.c ---- */

/* The document of rackwire_dcpim_engine_json(), for the caller to free. Return: its length or -ENOMEM. */
ssize_t dcpim_engine_json(struct rackwire_dcpim_engine *e, char **out);

int dcpim_control_start(struct rackwire_dcpim_engine *e);
void dcpim_control_stop(struct rackwire_dcpim_engine *e);

#endif
