/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * dcPIM protocol core: the whole protocol without sockets, threads, clock,
 * malloc or floating point. A driver feeds packets, time and application calls
 * in, and pulls packets and events out.
 *
 *   in:  dcpim_rx(), dcpim_tick(), dcpim_connect(), dcpim_send(), ...
 *   out: dcpim_poll_tx(), dcpim_poll_event(), dcpim_next_deadline()
 *
 * Times are nanoseconds of any monotonic clock; hosts need not agree on it.
 * A struct dcpim_host and all that hangs on it belong to one thread at a time.
 * The protocol is that of "dcPIM: Near-Optimal Proactive Datacenter Transport"
 * (SIGCOMM 2022, section 3); rules taken from it are marked [paper].
 *
 * After every batch of calls a driver polls events until none is left, then
 * packets until none is left, then sleeps until a packet arrives or
 * dcpim_next_deadline() passes and calls dcpim_tick().
 */
#ifndef DCPIM_H
#define DCPIM_H

#include "dcpim_types.h"
#include "dcpim_wire.h"

struct dcpim_host;
struct dcpim_flow; /* one connection: a stream each way, or messages each way */
struct dcpim_listener;

#define DCPIM_MAX_CHANNELS 16
#define DCPIM_MAX_ROUNDS 16

enum dcpim_first_part {
	DCPIM_FIRST_OFF,	 /* long transfers wait for matching [paper] */
	DCPIM_FIRST_UNSCHEDULED, /* their first part is sent at once */
	DCPIM_FIRST_SPARE,	 /* receiver grants the first part at once out of idle channels */
};

struct dcpim_cfg {
	u64 rate_bps;	  /* of this host's link; 1 Mb/s .. 1 Tb/s */
	u64 ctrl_rtt_ns;  /* round trip of a control packet, unloaded; >= 1 us, <= 10 s */
	u64 data_rtt_ns;  /* round trip that sizes the BDP */
	u32 alpha_milli;  /* data phase over matching phase, 1/1000; 1000..10000 */
	u32 beta_milli;	  /* round over control RTT, 1/1000; 1000..20000 */
	u32 rounds;	  /* r, 1..DCPIM_MAX_ROUNDS */
	u32 channels;	  /* k, 1..DCPIM_MAX_CHANNELS */
	u32 max_packet;	  /* dcPIM header + payload, DCPIM_MIN_PACKET..DCPIM_MAX_PACKET */
	u32 short_threshold;  /* bytes sent without matching; 0: one BDP */
	u32 window;	  /* bytes of tokens outstanding per peer at k channels; 0: one BDP */
	u32 token_batch;  /* bytes per TOKEN; 0: chosen from window and packet size */
	u32 first_part_mode;  /* enum dcpim_first_part */
	u32 first_part_bytes; /* <= 2 BDP */
	u32 unsched_refill_milli; /* a stream's unscheduled allowance refills at this share of the rate, 1/1000 */
	u32 unsched_accept; /* most unscheduled bytes at a time asked of a peer; 0: no limit of ours */
	u64 rx_budget;	  /* bytes of tokens outstanding to all peers together; 0: no limit */
	u32 rcvbuf;	  /* per connection, bytes */
	u32 sndbuf;	  /* per connection, bytes */
	u32 max_msg;	  /* largest message sent or accepted, bytes */
	u64 rto_min_ns;
	u64 rto_max_ns;
	u64 ack_delay_ns;
	u64 connect_timeout_ns;
	u64 dead_after_ns;  /* silence of a peer while something is due from it */
	u64 keepalive_ns;   /* idle time of a peer before it is probed; 0: never */
	u64 timewait_ns;
	u64 timer_gran_ns;  /* token timers are not set finer than this */
	u32 max_flows, max_peers, max_msgs, max_segs; /* hard caps; msgs and segs over all flows */
	u32 flags;	  /* DCPIM_CFG_* */
	u16 host_port; /* with IP protocol 254: the port that stands for this host among those of its address; 0 with UDP */
};

#define DCPIM_CFG_CRC 0x1 /* packets carry a CRC32C, those without one are dropped */

/** dcpim_cfg_default() - 100 Gb/s, 20 us and 60 us round trips, alpha 1, beta 1.3, r = k = 4. */
void dcpim_cfg_default(struct dcpim_cfg *cfg);

/**
 * dcpim_cfg_check() - validate; fills in no defaults.
 * @field: on error set to the name of the offending field
 * Return: 0 or -EINVAL.
 */
int dcpim_cfg_check(const struct dcpim_cfg *cfg, const char **field);

u64 dcpim_cfg_bdp(const struct dcpim_cfg *cfg);	     /* bytes: rate x data RTT */
u64 dcpim_cfg_round_ns(const struct dcpim_cfg *cfg); /* beta x control RTT [paper] */
u64 dcpim_cfg_epoch_ns(const struct dcpim_cfg *cfg); /* r rounds x alpha [paper] */

/*
 * Where a peer is. `addr` and `port` are opaque to the core except for
 * comparison and hashing: IPv4 as v4-mapped IPv6. With UDP below, port is the
 * peer's UDP port; with IP protocol 254 it is 0. `local` is the driver's own
 * index of the socket or interface to send through; it is kept, not compared.
 */
struct dcpim_path {
	u8 addr[16];
	u16 port;
	u16 max_packet; /* what fits through this path; 0: cfg.max_packet */
	u32 local;
	u32 scope; /* IPv6 zone of a link-local address, else 0; compared */
};

/* Payload by reference. The core never reads it; it may be NULL in a simulator. */
struct dcpim_buf {
	const u8 *ptr;
	u32 len;
	void *cookie; /* the owner's handle of the memory */
};

enum dcpim_slab {
	DCPIM_SLAB_HOST,
	DCPIM_SLAB_TABLE,
	DCPIM_SLAB_LISTENER,
	DCPIM_SLAB_PEER,
	DCPIM_SLAB_FLOW,
	DCPIM_SLAB_MSG,
	DCPIM_SLAB_SEG,
	DCPIM_SLAB_SPAN,
	DCPIM_SLABS
};

struct dcpim_ops {
	/* Zeroed memory, or NULL. Size is constant per slab except for DCPIM_SLAB_TABLE. */
	void *(*alloc)(void *ctx, enum dcpim_slab slab, size_t size);
	void (*free)(void *ctx, enum dcpim_slab slab, void *ptr, size_t size);
	/*
	 * Keep received payload beyond dcpim_rx(). @in is the packet's payload or
	 * part of it with the packet's cookie; @out is what the core keeps: the
	 * same memory with a reference taken, or a copy. Return 0 or -ENOMEM.
	 */
	int (*hold)(void *ctx, const struct dcpim_buf *in, struct dcpim_buf *out);
	/* One kept buffer (from hold, or handed over by dcpim_send) is no longer needed. */
	void (*put)(void *ctx, const struct dcpim_buf *buf);
	/* Optional: CRC32C of payload, chained; NULL: dcpim_crc32c(). */
	u32 (*crc32c)(u32 crc, const void *data, size_t len);
	/* Optional trace point; see enum dcpim_trace. */
	void (*trace)(void *ctx, u64 now, u32 what, const struct dcpim_path *peer, u64 a, u64 b);
};

enum dcpim_trace {
	DCPIM_TRACE_EPOCH,  /* a: epoch */
	DCPIM_TRACE_RTS,    /* a: epoch, b: channels << 8 | round; likewise below */
	DCPIM_TRACE_GRANT,
	DCPIM_TRACE_ACCEPT,
	DCPIM_TRACE_REVOKE,
	DCPIM_TRACE_TOKEN,  /* a: bytes granted, b: bytes outstanding at the peer */
	DCPIM_TRACE_RTX,    /* a: bytes asked again */
};

/* Counters; never decrease. */
struct dcpim_stats {
	u64 rx_packets, rx_bytes, tx_packets, tx_bytes; /* bytes: dcPIM header + payload */
	u64 rx_bad;	    /* malformed, wrong checksum, wrong version */
	u64 rx_bad_tag;	    /* no such connection, or a wrong tag */
	u64 rx_duplicate;   /* payload bytes received again */
	u64 rx_dropped;	    /* valid, but a cap or a buffer was full */
	u64 data_bytes_tx, data_bytes_rx; /* payload, first transmissions / newly received */
	u64 rtx_bytes;	    /* payload sent again */
	u64 rtx_packets;
	u64 unsched_bytes;  /* payload sent without a token */
	u64 epochs;	    /* epochs in which this host matched or was matched */
	u64 rts_tx, rts_rx, grant_tx, grant_rx, accept_tx, accept_rx, revoke_tx, revoke_rx;
	u64 channels_matched_rx, channels_matched_tx; /* channel-epochs */
	u64 prompt_matched; /* of the former two, started in the epoch under way */
	u64 token_tx, token_rx, token_bytes_tx;
	u64 ack_tx, ack_rx, demand_tx, demand_rx, probe_timeouts;
	u64 msgs_tx, msgs_rx, msgs_acked;
	u64 flows_opened, flows_accepted, flows_refused, flows_reset, flows_dead, flows_closed;
	u64 keepalive_tx, reset_tx;
	u64 phase_jumps;    /* times this host moved its epochs towards a peer's */
};

/* Gauges, for `stat` and for tests of the protocol's bounds. */
struct dcpim_info {
	u64 epoch;
	u32 round;
	u32 rx_matched_cur, rx_matched_next; /* channels in use as receiver, <= k */
	u32 tx_matched_cur, tx_matched_next; /* as sender, granted or matched, <= k */
	u64 tokens_outstanding; /* bytes, all peers */
	u64 tokens_outstanding_max_peer;
	u64 window; /* most bytes one peer may have outstanding */
	u32 peers, flows, listeners, msgs, segs, spans, timewait;
};

/**
 * dcpim_host_create() - one protocol instance: what the paper calls a host.
 * @cfg:  copied; must pass dcpim_cfg_check()
 * @ops:  must outlive the host
 * @ctx:  handed to every op
 * @seed: 128 bits of randomness, unpredictable where the network is hostile
 * Return: the host, or NULL when ops->alloc or the check failed.
 */
struct dcpim_host *dcpim_host_create(const struct dcpim_cfg *cfg, const struct dcpim_ops *ops, void *ctx,
				     const u64 seed[2], u64 now);

/** dcpim_host_destroy() - free everything at once, silently; flows and listeners become invalid. */
void dcpim_host_destroy(struct dcpim_host *h);

/* A received packet. */
struct dcpim_rxpkt {
	const u8 *hdr;	   /* the packet's first bytes, contiguous */
	u32 hdr_avail;	   /* how many */
	u32 total;	   /* whole packet as the layer below says */
	const u8 *payload; /* NULL: contiguous after the header */
	void *cookie;	   /* for ops->hold */
	struct dcpim_path path; /* whom from, and on which local socket */
};

/** dcpim_rx() - take in one packet. Whatever is wrong with it is counted and it is dropped. */
void dcpim_rx(struct dcpim_host *h, u64 now, const struct dcpim_rxpkt *pkt);

/** dcpim_tick() - run what is due at @now. Cheap when nothing is. */
void dcpim_tick(struct dcpim_host *h, u64 now);

/** dcpim_next_deadline() - when dcpim_tick() has something to do; DCPIM_NEVER while idle. */
u64 dcpim_next_deadline(const struct dcpim_host *h);
/**
 * dcpim_next_precise() - the same without the timers that only matter when something went
 * wrong (retransmission, keep-alive): those may run some milliseconds late.
 */
u64 dcpim_next_precise(const struct dcpim_host *h);

#define DCPIM_TX_FRAGS 8

/* A packet to send. */
struct dcpim_txpkt {
	u8 *hdr; /* in: DCPIM_HDR_MAX bytes of the caller's */
	u32 hdr_len;
	u32 payload_len;
	u32 nfrags;
	struct dcpim_buf frags[DCPIM_TX_FRAGS]; /* valid until the next call other than dcpim_poll_tx() */
	const struct dcpim_path *path;		/* likewise */
	u8 type;
	u8 priority; /* 0 control, 1 unscheduled, 2..7 scheduled, smaller transfers first [paper] */
};

/**
 * dcpim_poll_tx() - the next packet to send, if any. It counts as sent. A driver
 * whose socket is full keeps that packet and stops polling.
 * Packets of one transfer come in a row, of equal length but for the last, as
 * segmentation offload wants them.
 * Return: 1 with *pkt filled in, 0 when there is none.
 */
int dcpim_poll_tx(struct dcpim_host *h, u64 now, struct dcpim_txpkt *pkt);

enum dcpim_kind { DCPIM_STREAM, DCPIM_MESSAGE };

#define DCPIM_EV_ACCEPT 0x001	  /* new flow at a listener; ev.listener is set */
#define DCPIM_EV_CONNECTED 0x002
#define DCPIM_EV_READABLE 0x004	  /* stream bytes, or a complete message */
#define DCPIM_EV_WRITABLE 0x008	  /* after a short or refused send: at least half of sndbuf is free */
#define DCPIM_EV_EOF 0x010	  /* peer will send no more; what came before may be unread */
#define DCPIM_EV_MSG_ACKED 0x020  /* dcpim_msg_acked() has completions */
#define DCPIM_EV_DRAINED 0x040	  /* everything sent, FIN included, has been acknowledged */
#define DCPIM_EV_ERROR 0x080	  /* ev.error; only dcpim_close() is left to do */

struct dcpim_event {
	u32 mask;
	int error; /* -ECONNREFUSED, -ECONNRESET, -ETIMEDOUT, -EHOSTUNREACH */
	struct dcpim_flow *flow;
	struct dcpim_listener *listener;
};

/** dcpim_poll_event() - next event; the bits of one flow are merged. Return: 1 or 0. */
int dcpim_poll_event(struct dcpim_host *h, struct dcpim_event *ev);

/**
 * dcpim_listen() - accept connections to a port.
 * @port:    local port, not 0
 * @kinds:   1 << DCPIM_STREAM | 1 << DCPIM_MESSAGE
 * @backlog: most connections half open or not yet taken by dcpim_accepted(); 1..65535
 * @local:   only packets received on this local socket; ~0: on any
 * Return: 0, -EADDRINUSE, -EINVAL, -ENOMEM.
 */
int dcpim_listen(struct dcpim_host *h, u16 port, u32 kinds, u32 backlog, u32 local, void *user,
		 struct dcpim_listener **out);
void *dcpim_listener_user(const struct dcpim_listener *l);
/** dcpim_unlisten() - connections already accepted stay; half-open and untaken ones are reset. */
void dcpim_unlisten(struct dcpim_host *h, struct dcpim_listener *l, u64 now);
/** dcpim_accepted() - the driver has taken a flow that DCPIM_EV_ACCEPT announced; frees its backlog place. */
void dcpim_accepted(struct dcpim_flow *f);

/**
 * dcpim_connect() - open a connection; DCPIM_EV_CONNECTED or DCPIM_EV_ERROR follows.
 * @sport: local port, 0: the core picks one
 * Return: 0, -EADDRINUSE (the same four-tuple exists), -EADDRNOTAVAIL, -EINVAL,
 * -ENOMEM, -ENFILE (cap reached).
 */
int dcpim_connect(struct dcpim_host *h, u64 now, enum dcpim_kind kind, const struct dcpim_path *to,
		  u16 sport, u16 dport, void *user, struct dcpim_flow **out);

/**
 * dcpim_send() - append to the stream; takes @buf over (ops->put when acknowledged)
 * if the return value is > 0.
 * Return: bytes taken: all of @buf or nothing (-EAGAIN; DCPIM_EV_WRITABLE follows);
 * -EPIPE after shutdown; before DCPIM_EV_CONNECTED bytes queue; -ENOMEM;
 * the flow's error; -EINVAL on a message flow or for no bytes. A buffer is refused only while
 * unacknowledged bytes have reached sndbuf, so one larger than sndbuf is taken whole.
 * A buffer that continues the previous one in memory, with the same cookie, is joined
 * to it: ops->put is called for it at once, and for the whole when all is acknowledged.
 */
int dcpim_send(struct dcpim_flow *f, u64 now, const struct dcpim_buf *buf);

/**
 * dcpim_send_msg() - send one message; takes @bufs over on success.
 * @user: given back by dcpim_msg_acked(); with DCPIM_MSG_QUIET nothing is reported
 * Return: 0; -EMSGSIZE (over this host's or the peer's limit), -EAGAIN (sndbuf, cap
 * or the peer's credit is used up; DCPIM_EV_WRITABLE follows), -EPIPE, -EINVAL,
 * -ENOMEM, the flow's error.
 */
int dcpim_send_msg(struct dcpim_flow *f, u64 now, const struct dcpim_buf *bufs, u32 nbufs, u32 flags,
		   void *user, u64 *msg_id);
#define DCPIM_MSG_QUIET 0x1

/** dcpim_msg_acked() - one message the peer holds whole. Return: 1 with *user and *msg_id, or 0. */
int dcpim_msg_acked(struct dcpim_flow *f, void **user, u64 *msg_id);

/**
 * dcpim_recv_peek() - bytes of the stream ready to read, in order, as references
 * that stay valid until dcpim_consume().
 * Return: number of entries written to @out (at most @max).
 */
u32 dcpim_recv_peek(struct dcpim_flow *f, struct dcpim_buf *out, u32 max);
/** dcpim_consume() - the application has read @bytes (<= what is readable): opens the window. */
void dcpim_consume(struct dcpim_flow *f, u64 now, u64 bytes);

struct dcpim_rxmsg {
	u64 id;
	u32 size;
	u32 nbufs; /* pieces, in order */
};

/**
 * dcpim_msg_peek() - the oldest complete unread message; messages are handed over in
 * the order in which they completed.
 * @out: up to @max pieces starting with piece @first
 * Return: pieces written, or -EAGAIN when no message is complete.
 */
int dcpim_msg_peek(struct dcpim_flow *f, struct dcpim_rxmsg *msg, struct dcpim_buf *out, u32 first, u32 max);
/** dcpim_msg_consume() - drop that message and give its credit back to the peer. */
void dcpim_msg_consume(struct dcpim_flow *f, u64 now);

/** dcpim_shutdown() - no more sends: FIN follows the last byte or message. Idempotent. */
int dcpim_shutdown(struct dcpim_flow *f, u64 now);

/**
 * dcpim_close() - the application is done with the flow; the handle is invalid after this.
 * What was sent is still delivered while the peer lives (dead_after bounds its
 * silence, not its not reading); unread or further incoming bytes make it a reset (RFC 9293 section 3.6.1 has the same rule).
 * @abort: reset at once and drop what is unsent
 */
void dcpim_close(struct dcpim_flow *f, u64 now, bool abort);

/** dcpim_path_mtu() - the path to @to carries at most @max_packet bytes (ICMP, EMSGSIZE); 0 < it < now is believed, with DCPIM_MIN_PACKET as floor. */
void dcpim_path_mtu(struct dcpim_host *h, const struct dcpim_path *to, u32 max_packet);

/**
 * dcpim_unreachable() - the layer below learned that packets to @to do not arrive
 * (ICMP that quotes a packet which dcpim_sent() knows). Connections being opened fail
 * with @error. Of a peer that had answered and now refuses (-ECONNREFUSED), those that were
 * closed and whose data is acknowledged end at once: only their end was left to be told.
 * When refusals go on for a second and nothing else comes, its other connections fail with
 * -ECONNRESET, but not those that have received all up to its FIN: they may be read to the end.
 */
void dcpim_unreachable(struct dcpim_host *h, u64 now, const struct dcpim_path *to, int error);

enum dcpim_flow_state {
	DCPIM_CONNECTING,
	DCPIM_HALF_OPEN,
	DCPIM_OPEN,
	DCPIM_CLOSING,	/* closed by the application, still delivering */
	DCPIM_TIMEWAIT,
	DCPIM_FAILED,
};

struct dcpim_flow_info {
	u8 state; /* enum dcpim_flow_state */
	u8 kind;  /* enum dcpim_kind */
	u16 sport, dport;
	struct dcpim_path path;
	int error;
	u32 srtt_us;	/* smoothed; 0: not measured yet */
	u32 max_msg;	/* most bytes in one message to this peer */
	u64 tx_queued;	/* bytes given to dcpim_send*() and not acknowledged */
	u64 rx_queued;	/* bytes readable */
	u64 bytes_tx, bytes_rx; /* payload acknowledged / delivered in order */
	u64 rtx_bytes;
};

void dcpim_flow_info(const struct dcpim_flow *f, struct dcpim_flow_info *info);
void *dcpim_flow_user(const struct dcpim_flow *f);
void dcpim_flow_set_user(struct dcpim_flow *f, void *user);
/** dcpim_flow_set_buffers() - change sndbuf/rcvbuf of one flow (0: leave); the receive window never shrinks. */
int dcpim_flow_set_buffers(struct dcpim_flow *f, u32 sndbuf, u32 rcvbuf);
/**
 * dcpim_sent() - whether a packet to @to, as an ICMP error quotes it, is of a connection of this host.
 * @length: bytes quoted, from the dcPIM header on. The tag must be among them: anyone can send
 * ICMP and guess ports, but not the tag (RFC 5927 section 4.1 checks TCP's sequence number).
 */
bool dcpim_sent(struct dcpim_host *h, const struct dcpim_path *to, const u8 *packet, u32 length);
/** dcpim_undelivered() - whether a flow that was closed still has bytes or its FIN unacknowledged. */
bool dcpim_undelivered(const struct dcpim_host *h);
/** dcpim_flow_next() - walk all flows of the application: NULL starts, NULL ends. */
struct dcpim_flow *dcpim_flow_next(struct dcpim_host *h, struct dcpim_flow *f);

void dcpim_stats_get(const struct dcpim_host *h, struct dcpim_stats *s);
void dcpim_info_get(struct dcpim_host *h, u64 now, struct dcpim_info *info);
const struct dcpim_cfg *dcpim_host_cfg(const struct dcpim_host *h);

#endif
