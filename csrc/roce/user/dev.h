/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dev.h: the inside of a device: one UDP socket around the protocol core. All of
 * it is used under the device's lock, but for what is marked atomic.
 *
 * Whoever waits for something moves the packets: an application thread that
 * polls or waits, or else the device's own thread. A driver sleeps without the
 * lock; everyone else calls into the core and sends at once.
 */
#ifndef ROCE_USER_DEV_H
#define ROCE_USER_DEV_H

#include <netinet/in.h>
#include <pthread.h>
#include <sys/uio.h>

#include "rackwire_roce.h"
#include "roce/core/roce.h"
#include "roce/core/roce_icrc.h"

#define ROCE_GSO_SEGMENTS 64 /* UDP_MAX_SEGMENTS of every kernel */
#define ROCE_GSO_BYTES 65000
#define ROCE_CMSG_SPACE 128

/* ---- receiving: rx.c ---- */

#define ROCE_RX_BATCH 8
#define ROCE_RX_BUFFER 65536
#define ROCE_RX_PEERS 256

/* What is known of a sender of packets; found again by a hash of its address, forgotten when another takes its place. */
struct roce_rx_peer {
	u8 peer[16], local[16];
	u32 scope;
	u16 sport;
	u16 mtu;     /* payload that fits the way to it; 0: not looked for yet */
	bool used;
	struct roce_flow flow;
};

/* How the IPv4 identifications from one address to another go: Linux has one counter for all ports between them. */
struct roce_rx_ids {
	u8 peer[4], local[4];
	u64 at;	     /* when the last packet came, */
	u16 last_id; /*  and its identification */
	u8 style;    /* enum roce_id_style */
	u8 sure;     /* packets in a row that kept to it */
	u8 strange;  /* packets in a row that did not, though their ICRC can be right */
};

struct roce_rx {
	struct mmsghdr msgs[ROCE_RX_BATCH];
	struct iovec iov[ROCE_RX_BATCH];
	struct sockaddr_in6 from[ROCE_RX_BATCH];
	u8 control[ROCE_RX_BATCH][ROCE_CMSG_SPACE] __attribute__((aligned(8)));
	u8 *memory; /* ROCE_RX_BATCH buffers */
	bool burst; /* datagrams come close together: take several with one call */
	u64 at;	    /* time of the last ones */
	struct roce_solve_cache solve;
	struct roce_rx_peer peers[ROCE_RX_PEERS];
	struct roce_rx_ids ids[ROCE_RX_PEERS];
};

/* ---- sending: tx.c ---- */

#define ROCE_TX_GROUPS 8
#define ROCE_TX_PACKETS 256
#define ROCE_TX_IOVS 1024
#define ROCE_TX_SENT 256
#define ROCE_COPY_SMALL 256 /* payload that goes into the header's memory */

/* Consecutive packets of equal length to one peer: one datagram for the kernel to cut up. */
struct roce_tx_group {
	struct roce_path path;
	u8 ecn, slot;
	bool closed;  /* a shorter packet ended it */
	bool lone_ack; /* it is one ACK, so that a longer packet may go before it */
	u32 first_iov, niov, packets, segment, bytes;
	struct roce_flow flow;
	struct sockaddr_in6 to;
	socklen_t to_len;
	u32 control_len; /* without the GSO part */
	u8 control[ROCE_CMSG_SPACE] __attribute__((aligned(8)));
};

struct roce_tx {
	struct mmsghdr msgs[ROCE_TX_GROUPS];
	struct roce_tx_group groups[ROCE_TX_GROUPS];
	struct iovec iov[ROCE_TX_IOVS];
	u8 staging[ROCE_TX_PACKETS * (ROCE_HDR_MAX + 8) + (64 << 10)]; /* headers, small payload, pad and ICRC */
	u32 ngroups, npackets, niov, nstaged;
	/* What the kernel had no room for, copied out: the application's memory may be gone by then. */
	struct roce_tx_group held[ROCE_TX_GROUPS];
	u8 *held_memory;
	u32 nheld, next_held;
	u64 sent[ROCE_TX_SENT]; /* marks of the last packets, to tell real ICMP errors from forged ones */
	u32 next_sent;
};

/* ---- several processes on one address: share.c ---- */

struct roce_share_file;

struct roce_share {
	struct roce_share_file *file; /* NULL: alone */
	int file_fd;
	int fd; /* datagrams from the other processes */
	u32 slot; /* 1..ROCE_SLOTS: top bits of our QP numbers and communication ids; 0: alone */
	u32 doorbell; /* as far as we have looked */
	bool look;    /* whatever the doorbell says */
	bool retired; /* we hold the books' lock and are in them no more */
	u64 repaired_at, broadcast_at;
	char directory[96];
};

#define ROCE_SLOTS 254

/* ---- the device ---- */

struct roce_waiter {
	struct roce_list node;
	pthread_cond_t cond;
	struct rackwire_roce_cq *cq; /* may be NULL */
	bool cm; /* waits for events of the connection manager, too */
};

struct rackwire_roce_dev {
	struct roce_list node; /* of all devices, for fork() */
	struct rackwire_roce_config config; /* with defaults filled in */
	struct roce_cfg cfg;
	struct roce_dev *core;
	u64 now;

	pthread_mutex_t lock;
	u32 lock_waiters; /* atomic */

	int fd, family;
	bool wildcard, gso, gro;
	u8 local[16];
	u32 scope;
	u8 tos; /* that the socket gives packets without being told */
	u32 rcvbuf;
	u32 id_probe;
	roce_crc32_fn crc32;

	/* Progress. */
	bool tx_pending; /* the core may have packets to send */
	bool tx_full;	 /* the socket has no room */
	bool icmp;	 /* errors wait on the socket */
	u32 defer;	 /* posts that may still wait for company */
	u32 deferred;	 /* posts that have */
	u64 app_at;	 /* when an application thread last drove */
	u64 armed_at;	 /* when a CQ was last armed */
	bool app_sleeps, thread_sleeps, thread_parked;
	u64 app_until, thread_until; /* how long they sleep at most */
	u32 wake;	 /* atomic: rackwire_roce_wake() */
	struct roce_list waiters;
	pthread_cond_t thread_cond;
	pthread_t thread;
	bool thread_running, stopping;
	int app_fd, thread_fd; /* eventfds that end their sleep */

	struct roce_list pds, mrs, cqs, qps, ids, events;
	u32 nevents;
	int cm_fd; /* -1 until asked for */

	struct roce_share share;
	struct rackwire_roce_dev_stats stats; /* what the core does not count */
	struct roce_rx rx;
	struct roce_tx tx;
};

struct rackwire_roce_pd {
	struct roce_list node;
	struct rackwire_roce_dev *dev;
	struct roce_pd *core;
};

struct rackwire_roce_mr {
	struct roce_list node;
	struct rackwire_roce_dev *dev;
	struct roce_mr *core;
};

struct rackwire_roce_cq {
	struct roce_list node;
	struct rackwire_roce_dev *dev;
	struct roce_cq *core;
	void *context;
	int fd;	    /* -1 until asked for */
	u32 armed;  /* by the application: 0, 1: solicited, 2: any */
	u32 waited; /* threads in rackwire_roce_cq_wait() */
};

struct rackwire_roce_qp {
	struct roce_list node;
	struct rackwire_roce_dev *dev;
	struct roce_qp *core;
};

struct rackwire_roce_cm_id {
	struct roce_list node;
	struct rackwire_roce_dev *dev;
	struct roce_cm_id *core;
	struct rackwire_roce_cm_id *listener;
	void *context;
	u16 listens; /* port */
};

/* dev.c, progress.c */
void roce_lock(struct rackwire_roce_dev *dev);
void roce_unlock(struct rackwire_roce_dev *dev);
/* Send what a call made the core want to send, tell events, and see to it that sleepers know of a new deadline. */
void roce_settle(struct rackwire_roce_dev *dev);
/* The same for what may wait a little for company: the thread sends it unless somebody else does. */
void roce_leave_pending(struct rackwire_roce_dev *dev);
/* One look at time and socket. Return: packets and messages taken. */
u32 roce_drive(struct rackwire_roce_dev *dev);
void roce_events(struct rackwire_roce_dev *dev);
/* For completions (@cq may be NULL), for events (@cm) and for @fd (-1: none). Return: as rackwire_roce_wait_fd(). */
int roce_wait(struct rackwire_roce_dev *dev, struct rackwire_roce_cq *cq, bool cm, int fd, u64 timeout_ns);
int roce_thread_start(struct rackwire_roce_dev *dev);
void roce_thread_stop(struct rackwire_roce_dev *dev);
void roce_thread_call(struct rackwire_roce_dev *dev); /* it is to drive now */
void roce_poke(int fd);

/* cm.c */
void roce_cm_event(struct rackwire_roce_dev *dev, const struct roce_event *ev);
void roce_cm_forget_all(struct rackwire_roce_dev *dev);

/* socket.c */
int roce_socket_open(struct rackwire_roce_dev *dev, bool reuseport, char *error, size_t length);
void roce_socket_errors(struct rackwire_roce_dev *dev);
int roce_probe_id(struct rackwire_roce_dev *dev); /* 1, 0, or -EOPNOTSUPP */
int roce_fail(char *error, size_t length, int err, const char *format, ...) __attribute__((format(printf, 4, 5)));

/* rx.c */
int roce_rx_init(struct rackwire_roce_dev *dev);
void roce_rx_fini(struct rackwire_roce_dev *dev);
u32 roce_socket_receive(struct rackwire_roce_dev *dev);

/* tx.c */
int roce_tx_init(struct rackwire_roce_dev *dev);
void roce_tx_fini(struct rackwire_roce_dev *dev);
/* Sends until the core has nothing more, or the socket no room, or it is time to receive. */
void roce_socket_send(struct rackwire_roce_dev *dev);
u64 roce_packet_mark(const u8 *bth, u32 len);
bool roce_mark_is_ours(const struct rackwire_roce_dev *dev, u64 mark);

/* addr.c */
bool roce_addr_is_v4(const u8 addr[16]);
bool roce_addr_is_any(const u8 addr[16]);
bool roce_addr_is_link_local(const u8 addr[16]);
void roce_addr_from(const void *sockaddr, u8 addr[16], u16 *port, u32 *scope);
socklen_t roce_addr_to(const u8 addr[16], u16 port, u32 scope, int family, void *out);
/* "10.0.0.2", "fe80::1%eth0". Return: 0 or -EINVAL. */
int roce_addr_parse(const char *text, u8 addr[16], u32 *scope);
void roce_addr_text(const u8 addr[16], u32 scope, char *text, size_t size);
/* Source address and MTU of the route to @peer; @from (may be NULL): the source there has to be. */
int roce_route(const u8 from[16], const u8 peer[16], u32 scope, u8 source[16], u32 *mtu);
u32 roce_interface_mtu(const u8 addr[16], u32 scope); /* 0: not known */
/* Largest RoCE payload in IP packets of @mtu bytes: 256..4096, or 0. */
u32 roce_payload_for(const u8 addr[16], u32 mtu);

/* share.c */
/* Take a slot and keep the others out until roce_share_joined(). Without a place to share: 0, alone. */
int roce_share_join(struct rackwire_roce_dev *dev, char *error, size_t length);
/* The socket is bound: take part, or (@ok false) do not. */
int roce_share_joined(struct rackwire_roce_dev *dev, bool ok);
/*
 * Out of the books, but the socket may still be given packets, for others to have. Nobody joins or leaves until
 * roce_share_leave(), which closes the socket as well, so that the kernel and the books agree.
 */
void roce_share_retire(struct rackwire_roce_dev *dev);
void roce_share_leave(struct rackwire_roce_dev *dev);
u32 roce_share_processes(struct rackwire_roce_dev *dev);
/* Slot that a packet belongs to; our own if nobody's. */
u32 roce_share_target(struct rackwire_roce_dev *dev, const u8 *packet, u32 len, const u8 dst[16]);
/* Hand @len bytes of packets, each @segment long, to their owner. @hint: the kernel chose us by the first one. */
void roce_share_forward(struct rackwire_roce_dev *dev, u32 slot, const struct roce_path *path, u8 ecn, u32 segment,
			const u8 *data, u32 len, bool hint);
void roce_share_unreachable(struct rackwire_roce_dev *dev, const struct roce_path *path, int error, u64 mark);
bool roce_share_waiting(const struct rackwire_roce_dev *dev);
u32 roce_share_receive(struct rackwire_roce_dev *dev);
int roce_share_listen(struct rackwire_roce_dev *dev, u16 port);
void roce_share_unlisten(struct rackwire_roce_dev *dev, u16 port);

#endif
