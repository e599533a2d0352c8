/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rackwire_dcpim.h: dcPIM in user space, as a socket-like interface.
 *
 * dcPIM is the transport of "dcPIM: Near-Optimal Proactive Datacenter Transport"
 * (SIGCOMM 2022). An engine runs it in this process, either inside UDP (no
 * privilege needed) or directly on IP protocol 254 (CAP_NET_RAW). Sockets belong
 * to an engine and carry either a byte stream or whole messages.
 *
 * Results: 0 or a count on success, a negative errno on failure. Nothing here
 * prints, exits or raises signals; writing to a closed connection gives -EPIPE
 * and no SIGPIPE.
 *
 * Threads: every function may be called from any thread. Two threads may use
 * one socket at once; as with TCP, the bytes of two concurrent stream sends or
 * receives may interleave in pieces. rackwire_dcpim_close() ends calls that
 * other threads are blocked in (they return -EBADF), but no call may begin on a
 * socket after it was closed, and none on an engine after it was closed.
 * A child made by fork() must not use the parent's engines.
 *
 * Progress: the engine's own threads move packets. A thread that is blocked in
 * a call here moves them itself, so that an answer wakes one thread and not two.
 *
 * Durations are nanoseconds, sizes are bytes, rates are bits per second.
 */
#ifndef RACKWIRE_DCPIM_H
#define RACKWIRE_DCPIM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RACKWIRE_DCPIM_ABI_VERSION 1

struct rackwire_dcpim_engine;
struct rackwire_dcpim_socket;

/* RACKWIRE_DCPIM_ABI_VERSION of the library. */
uint32_t rackwire_dcpim_abi_version(void);

/* ---- engine ---- */

enum rackwire_dcpim_engine_kind {
	RACKWIRE_DCPIM_UDP = 1, /* dcPIM port P is UDP port P */
	RACKWIRE_DCPIM_RAW = 2, /* IP protocol 254 (RFC 3692); packets carry a CRC32C */
};

enum rackwire_dcpim_wakeup {
	RACKWIRE_DCPIM_BLOCK = 0,     /* sleep in the kernel until a packet or a timer */
	RACKWIRE_DCPIM_BUSY_POLL = 1, /* look for packets without sleeping, see spin_ns */
};

enum rackwire_dcpim_first_part {
	RACKWIRE_DCPIM_FIRST_OFF = 0,
	RACKWIRE_DCPIM_FIRST_UNSCHEDULED = 1,
	RACKWIRE_DCPIM_FIRST_SPARE = 2,
};

/* Without GSO or GRO even where the kernel has them. */
#define RACKWIRE_DCPIM_NO_OFFLOAD 0x1
/* UDP packets also carry a CRC32C (the raw engine's always do). Both ends must agree. */
#define RACKWIRE_DCPIM_CRC 0x2
/* No control socket for `rackwire dcpim stat`. */
#define RACKWIRE_DCPIM_NO_CONTROL 0x4

#define RACKWIRE_DCPIM_MAX_THREADS 64
#define RACKWIRE_DCPIM_ERROR_LEN 160

/*
 * Everything that is 0 takes the default named beside it. Zero the structure,
 * set `size`, then what is wanted.
 */
struct rackwire_dcpim_config {
	uint32_t size;	 /* sizeof(struct rackwire_dcpim_config) */
	uint32_t kind;	 /* enum rackwire_dcpim_engine_kind; RACKWIRE_DCPIM_UDP */
	uint32_t threads; /* 1; each is a protocol instance of its own with its share of rate_bps */
	uint32_t wakeup; /* enum rackwire_dcpim_wakeup */
	uint64_t spin_ns; /* BUSY_POLL: go to sleep after so long without work; 0: never */
	uint32_t flags;	 /* RACKWIRE_DCPIM_NO_OFFLOAD | ... */
	uint32_t cpu_count; /* entries of cpus; 0: threads are not pinned */
	uint16_t cpus[RACKWIRE_DCPIM_MAX_THREADS]; /* thread i runs on cpus[i % cpu_count] */

	struct sockaddr_storage local;	/* address sockets without one of their own use; family 0: any */
	struct sockaddr_storage towards; /* a peer to come: its route gives rate_bps; family 0: use local */
	uint16_t encap_port; /* one UDP port here and at peers under all dcPIM ports; 0: the dcPIM port itself */
	uint16_t reserved;
	uint32_t mtu;	/* largest IP packet; 0: the route's */

	/* Protocol, as in the paper. Checked; out of range is -EINVAL with the field's name. */
	uint64_t rate_bps;    /* speed of a physical interface, else 100 Gb/s; all threads together */
	uint64_t ctrl_rtt_ns; /* 100 us: a control packet's way there and back through two user-space threads */
	uint64_t data_rtt_ns; /* 200 us */
	uint32_t alpha_milli; /* 1000: data phase over matching phase */
	uint32_t beta_milli;  /* 1300: round over control round trip */
	uint32_t rounds;      /* 4 */
	uint32_t channels;    /* 4 */
	uint32_t short_threshold; /* bytes sent without matching; one BDP */
	uint32_t window;      /* bytes of tokens outstanding per peer; one BDP */
	uint32_t token_batch; /* bytes per token packet; from window and packet size */
	uint32_t first_part;  /* enum rackwire_dcpim_first_part; OFF */
	uint32_t first_part_bytes;
	uint32_t unsched_refill_milli; /* of the rate; core's default */
	uint32_t unsched_accept; /* unscheduled bytes asked of a peer at a time; from the socket buffer */
	uint64_t rx_budget;   /* bytes of tokens outstanding in all; from the socket buffer */

	uint32_t rcvbuf;      /* 4 MiB per connection */
	uint32_t sndbuf;      /* 4 MiB per connection */
	uint32_t max_msg;     /* 2 MiB; a message must also fit the receiver's rcvbuf */
	uint32_t socket_rcvbuf; /* kernel buffer of each UDP or raw socket; as large as allowed, to 32 MiB */
	uint32_t socket_sndbuf;
	uint32_t max_flows;   /* 65536 per thread; likewise below */
	uint32_t max_peers;   /* 16384 */
	uint32_t max_msgs;    /* 65536 */
	uint32_t max_segs;    /* 1048576 */

	uint64_t rto_min_ns;  /* 5 ms */
	uint64_t rto_max_ns;  /* 500 ms */
	uint64_t ack_delay_ns; /* 500 us */
	uint64_t connect_timeout_ns; /* 5 s */
	uint64_t dead_after_ns; /* 15 s */
	uint64_t keepalive_ns; /* 30 s; UINT64_MAX: never */
	uint64_t timewait_ns; /* core's default */
	uint64_t timer_gran_ns; /* 20 us */
};

/*
 * rackwire_dcpim_engine_open() - start an engine and its threads.
 * @config: copied
 * @out:    the engine, on success
 * @error:  on failure, one line that says what was refused and why; may be NULL
 * @error_length: its size; RACKWIRE_DCPIM_ERROR_LEN is enough
 *
 * Return: 0; -EINVAL (a field is out of range, or another size of config);
 * -EPERM (raw engine without CAP_NET_RAW); -EADDRNOTAVAIL (local is not of this
 * machine); -ENOMEM; the errno of a failing system call.
 */
int rackwire_dcpim_engine_open(const struct rackwire_dcpim_config *config,
			       struct rackwire_dcpim_engine **out, char *error, size_t error_length);

/*
 * rackwire_dcpim_engine_close() - stop the engine.
 * @linger_ns: wait so long for what was sent on closed sockets to be
 *             acknowledged; 0: drop it
 *
 * Sockets still open are reset and their handles become invalid. No other
 * thread may be using the engine. Return: 0, or -ETIMEDOUT when something was
 * still undelivered; the engine is gone in both cases.
 */
int rackwire_dcpim_engine_close(struct rackwire_dcpim_engine *engine, uint64_t linger_ns);

/* ---- sockets ---- */

enum rackwire_dcpim_kind {
	RACKWIRE_DCPIM_STREAM = 0,
	RACKWIRE_DCPIM_MESSAGE = 1,
};

/*
 * rackwire_dcpim_socket() - a new socket, neither bound nor connected.
 * @kind: enum rackwire_dcpim_kind
 * Return: 0, -EINVAL, -ENOMEM.
 */
int rackwire_dcpim_socket(struct rackwire_dcpim_engine *engine, uint32_t kind,
			  struct rackwire_dcpim_socket **out);

/*
 * rackwire_dcpim_bind() - take a local address and port (0: one is chosen).
 * An IPv6 wildcard address also takes IPv4.
 * Return: 0, -EADDRINUSE, -EADDRNOTAVAIL, -EACCES, -EAFNOSUPPORT, -EINVAL
 * (already bound or connected).
 */
int rackwire_dcpim_bind(struct rackwire_dcpim_socket *socket, const struct sockaddr *addr, socklen_t length);

/*
 * rackwire_dcpim_listen() - accept connections. An unbound socket gets a port.
 * @backlog: connections not yet taken by accept; 1..65535, others are clamped
 * The socket's kind is what it accepts, unless RACKWIRE_DCPIM_ACCEPT_KINDS says
 * otherwise. Return: 0, -EADDRINUSE, -EINVAL, -ENOMEM.
 */
int rackwire_dcpim_listen(struct rackwire_dcpim_socket *socket, int backlog);

/*
 * rackwire_dcpim_connect() - connect to a listener.
 *
 * Return: 0; -EINPROGRESS (nonblocking: rackwire_dcpim_poll() shows POLLOUT when
 * it is done, RACKWIRE_DCPIM_ERROR how); -EALREADY; -EISCONN; -ECONNREFUSED;
 * -ETIMEDOUT; -EHOSTUNREACH; -ENETUNREACH; -EADDRNOTAVAIL; -EAFNOSUPPORT;
 * -EAGAIN (blocking, RACKWIRE_DCPIM_SNDTIMEO passed; goes on in the background).
 * After a failure the socket may connect again.
 */
int rackwire_dcpim_connect(struct rackwire_dcpim_socket *socket, const struct sockaddr *addr, socklen_t length);

/*
 * rackwire_dcpim_accept() - take a connection, waiting for one unless nonblocking.
 * @addr, @length: the peer's address, as accept(2); may be NULL
 * @flags: MSG_DONTWAIT or 0
 * The new socket is blocking; it inherits timeouts and buffer sizes.
 * Return: 0, -EAGAIN, -EINVAL (not listening), -ENOMEM, -EBADF.
 */
int rackwire_dcpim_accept(struct rackwire_dcpim_socket *socket, struct rackwire_dcpim_socket **out,
			  struct sockaddr *addr, socklen_t *length, int flags);

/*
 * rackwire_dcpim_send() - send stream bytes, or one whole message.
 * @flags: MSG_DONTWAIT; MSG_NOSIGNAL (no effect); MSG_MORE (stream: more will
 *         follow at once, hold back an incomplete packet)
 *
 * The data is copied before the call returns. A blocking stream send returns
 * when all of it is queued. Return: bytes taken (nonblocking streams: perhaps
 * fewer); -EAGAIN; -EPIPE; -ENOTCONN; -EMSGSIZE (message over
 * RACKWIRE_DCPIM_MAX_MSG); -EOPNOTSUPP (unknown flag); -ECONNRESET, -ETIMEDOUT,
 * -EHOSTUNREACH (once; then -EPIPE); -EBADF.
 */
ssize_t rackwire_dcpim_send(struct rackwire_dcpim_socket *socket, const void *data, size_t length, int flags);
ssize_t rackwire_dcpim_sendv(struct rackwire_dcpim_socket *socket, const struct iovec *iov, int count, int flags);

/*
 * rackwire_dcpim_recv() - receive stream bytes, or one message.
 * @flags: MSG_DONTWAIT; MSG_PEEK (leave it there); MSG_WAITALL (streams);
 *         MSG_TRUNC (messages: return the real size, whatever fitted)
 *
 * A message larger than the buffer is cut and the rest is lost, as with
 * datagrams. Return: bytes; 0 at the end of the stream (after the peer's
 * shutdown, for messages too: an empty message is told apart by
 * rackwire_dcpim_recvv()); -EAGAIN; -ENOTCONN; -ECONNRESET, -ETIMEDOUT,
 * -EHOSTUNREACH (once; then 0); -EOPNOTSUPP; -EBADF.
 */
ssize_t rackwire_dcpim_recv(struct rackwire_dcpim_socket *socket, void *data, size_t length, int flags);
/*
 * @out_flags: may be NULL; MSG_EOR: a whole message ended here, MSG_TRUNC: it was cut.
 */
ssize_t rackwire_dcpim_recvv(struct rackwire_dcpim_socket *socket, const struct iovec *iov, int count, int flags,
			     int *out_flags);

/*
 * rackwire_dcpim_shutdown() - SHUT_WR: send the end of the stream after what was
 * sent; SHUT_RD: later receives give 0, what arrives is dropped; SHUT_RDWR: both.
 * Return: 0, -ENOTCONN, -EINVAL.
 */
int rackwire_dcpim_shutdown(struct rackwire_dcpim_socket *socket, int how);

/*
 * rackwire_dcpim_close() - give the socket up; the handle is invalid at once.
 * What was sent is still delivered in the background, unless
 * RACKWIRE_DCPIM_LINGER says to wait (> 0) or to reset (0). Closing with unread
 * data resets the connection (RFC 9293, section 3.6.1, has the same rule).
 * Return: 0; -EAGAIN: the linger time passed (the socket is closed all the same).
 */
int rackwire_dcpim_close(struct rackwire_dcpim_socket *socket);

/*
 * rackwire_dcpim_getsockname(), rackwire_dcpim_getpeername() - addresses, as
 * getsockname(2); the port is the dcPIM port. An unbound address is all zeroes.
 * Return: 0, -ENOTCONN, -EINVAL.
 */
int rackwire_dcpim_getsockname(struct rackwire_dcpim_socket *socket, struct sockaddr *addr, socklen_t *length);
int rackwire_dcpim_getpeername(struct rackwire_dcpim_socket *socket, struct sockaddr *addr, socklen_t *length);

enum rackwire_dcpim_option {
	/*
	 * 0..7. 7 makes an unconnected socket a message socket, anything else a
	 * stream socket, as the kernel prototype has it; fixed once connected.
	 */
	RACKWIRE_DCPIM_PRIORITY = 1,
	RACKWIRE_DCPIM_SNDBUF = 2, /* bytes, >= 4096 */
	RACKWIRE_DCPIM_RCVBUF = 3, /* bytes, >= 4096; never shrinks once connected */
	RACKWIRE_DCPIM_SNDTIMEO = 4, /* ns, 0: none; also bounds connect */
	RACKWIRE_DCPIM_RCVTIMEO = 5, /* ns, 0: none; also bounds accept */
	RACKWIRE_DCPIM_NONBLOCK = 6, /* 0 or 1 */
	RACKWIRE_DCPIM_REUSEADDR = 7, /* 0 or 1; kept, no effect: a closed listener's port is free at once */
	RACKWIRE_DCPIM_LINGER = 8, /* ns that close waits; 0: reset; -1: background (default) */
	RACKWIRE_DCPIM_ENCAP_PORT = 9, /* peer's UDP port for connect; 0: the engine's rule; UDP engine only */
	RACKWIRE_DCPIM_ACCEPT_KINDS = 10, /* listeners: 1 << RACKWIRE_DCPIM_STREAM | 1 << ..MESSAGE */
	RACKWIRE_DCPIM_ERROR = 11, /* get: positive errno of the connection, then cleared */
	RACKWIRE_DCPIM_KIND = 12, /* get: enum rackwire_dcpim_kind */
	RACKWIRE_DCPIM_ACCEPTING = 13, /* get: 1 if listening */
	RACKWIRE_DCPIM_MAX_MSG = 14, /* get: most bytes in one message to this peer */
	RACKWIRE_DCPIM_READABLE_BYTES = 15, /* get: as FIONREAD: stream bytes, or size of the next message */
	RACKWIRE_DCPIM_UNACKED_BYTES = 16, /* get: as SIOCOUTQ */
};

/* Return: 0; -ENOPROTOOPT (unknown or read-only); -EINVAL (value); -EISCONN (too late). */
int rackwire_dcpim_setopt(struct rackwire_dcpim_socket *socket, int option, int64_t value);
int rackwire_dcpim_getopt(struct rackwire_dcpim_socket *socket, int option, int64_t *value);

/* ---- readiness ---- */

/*
 * rackwire_dcpim_poll() - what poll(2) would say about a socket now, without
 * waiting: POLLIN (data, a message, end of stream, or a connection to accept),
 * POLLOUT (a send would take something, or connect has ended), POLLRDHUP (the
 * peer has shut down), POLLHUP (both directions have ended), POLLERR (an error
 * waits). POLLHUP and POLLERR are reported whether asked for or not.
 * @events: what is of interest
 *
 * It also re-arms the descriptor of rackwire_dcpim_fd().
 * Return: the bits, or a negative errno.
 */
int rackwire_dcpim_poll(struct rackwire_dcpim_socket *socket, int events);

/*
 * rackwire_dcpim_fd() - a descriptor for poll, select, epoll or an event loop.
 * It becomes readable (POLLIN) when the readiness of the socket may have
 * changed, and stays so until rackwire_dcpim_poll() is called, which says what
 * is ready; so call that first, and wait only when it says nothing of interest.
 * With edge-triggered use, call rackwire_dcpim_poll() after each edge.
 * It belongs to the socket and is closed with it; do not read, write or close
 * it. Made at the first call. Return: the descriptor, -EMFILE, -ENFILE.
 */
int rackwire_dcpim_fd(struct rackwire_dcpim_socket *socket);

struct rackwire_dcpim_pollfd {
	struct rackwire_dcpim_socket *socket; /* NULL: fd is an ordinary descriptor, or -1 to skip */
	int32_t fd;
	int16_t events, revents; /* as poll(2), POLLNVAL included */
};

/*
 * rackwire_dcpim_poll_many() - poll(2) over dcPIM sockets and descriptors; while
 * it waits the calling thread moves packets itself.
 * @timeout_ns: 0: do not wait; negative: no limit
 * Return: entries with revents, 0 on time-out, -EINTR (a signal handler ran),
 * -EINVAL, -ENOMEM.
 */
int rackwire_dcpim_poll_many(struct rackwire_dcpim_pollfd *fds, uint32_t count, int64_t timeout_ns);

/* ---- figures ---- */

enum rackwire_dcpim_state {
	RACKWIRE_DCPIM_STATE_NEW = 0,
	RACKWIRE_DCPIM_STATE_BOUND = 1,
	RACKWIRE_DCPIM_STATE_LISTENING = 2,
	RACKWIRE_DCPIM_STATE_CONNECTING = 3,
	RACKWIRE_DCPIM_STATE_CONNECTED = 4,
	RACKWIRE_DCPIM_STATE_FAILED = 5,
};

struct rackwire_dcpim_socket_info {
	uint32_t size;	/* set by the caller */
	uint32_t state; /* enum rackwire_dcpim_state */
	uint32_t kind;
	int32_t error;	/* negative errno of the connection, or 0 */
	uint32_t srtt_us; /* 0: not measured yet */
	uint32_t max_packet; /* dcPIM header and payload */
	uint32_t thread; /* which engine thread serves it */
	uint32_t max_msg;
	uint64_t tx_queued, rx_queued;
	uint64_t bytes_tx, bytes_rx; /* payload acknowledged by the peer / received in order */
	uint64_t rtx_bytes;
};

int rackwire_dcpim_socket_info(struct rackwire_dcpim_socket *socket, struct rackwire_dcpim_socket_info *info);

/* Counters and gauges, summed over the engine's threads. Counters never decrease. */
struct rackwire_dcpim_stats {
	uint32_t size; /* set by the caller */
	uint32_t threads;
	/* protocol */
	uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes;
	uint64_t rx_bad, rx_bad_tag, rx_duplicate, rx_dropped;
	uint64_t data_bytes_tx, data_bytes_rx;
	uint64_t rtx_bytes, rtx_packets, unsched_bytes;
	uint64_t epochs;
	uint64_t rts_tx, rts_rx, grant_tx, grant_rx, accept_tx, accept_rx, revoke_tx, revoke_rx;
	uint64_t channels_matched_rx, channels_matched_tx, prompt_matched;
	uint64_t token_tx, token_rx, token_bytes_tx;
	uint64_t ack_tx, ack_rx, demand_tx, demand_rx, probe_timeouts;
	uint64_t msgs_tx, msgs_rx, msgs_acked;
	uint64_t flows_opened, flows_accepted, flows_refused, flows_reset, flows_dead, flows_closed;
	uint64_t keepalive_tx, reset_tx, phase_jumps;
	/* engine */
	uint64_t rx_calls, tx_calls;   /* recvmmsg, sendmmsg */
	uint64_t rx_datagrams, tx_datagrams; /* below GRO and GSO */
	uint64_t rx_truncated, rx_foreign; /* cut datagrams; raw packets of other processes */
	uint64_t rx_socket_drops;      /* the kernel dropped them: buffer full */
	uint64_t tx_errors, tx_blocked; /* refused; kept back because a socket was full */
	uint64_t icmp_errors;
	uint64_t hold_ref_bytes, hold_copy_bytes; /* received payload kept by reference / copied */
	uint64_t sleeps, wakeups;      /* of the thread that moves packets */
	/* gauges */
	uint64_t epoch;
	uint64_t sockets, flows, listeners, peers, msgs, segs;
	uint64_t rx_matched, tx_matched; /* channels in this epoch */
	uint64_t tokens_outstanding, window;
	uint64_t memory_core;	 /* bytes of flows, peers, tables ... */
	uint64_t memory_sockets; /* bytes of socket objects */
	uint64_t memory_buffers; /* bytes of packet buffers in use */
	uint64_t memory_pools;	 /* bytes of packet buffers kept for use */
};

int rackwire_dcpim_engine_stats(struct rackwire_dcpim_engine *engine, struct rackwire_dcpim_stats *stats);

/*
 * rackwire_dcpim_engine_json() - what `rackwire dcpim stat` shows: parameters,
 * counters, peers and sockets as one JSON document with a closing newline.
 * Return: its length (the document is cut to @length, the last byte is 0), or
 * -ENOMEM.
 */
ssize_t rackwire_dcpim_engine_json(struct rackwire_dcpim_engine *engine, char *text, size_t length);

/*
 * rackwire_dcpim_control_path() - path of the engine's control socket, a unix
 * stream socket that answers the line "stat" with that document. Only the same
 * user and root are answered. Return: length of the path; 0: there is none.
 */
ssize_t rackwire_dcpim_control_path(struct rackwire_dcpim_engine *engine, char *path, size_t length);

#ifdef __cplusplus
}
#endif

#endif
