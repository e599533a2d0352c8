/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * RoCEv2 core: reliable connections, their connection manager and memory
 * regions, without sockets, threads, clock, malloc or floating point. A driver
 * feeds packets, time and verbs in, and pulls packets, completions and events out.
 *
 *   in:  roce_rx(), roce_tick(), roce_post_send(), roce_cm_connect(), ...
 *   out: roce_poll_tx(), roce_poll_event(), roce_poll_cq(), roce_next_deadline()
 *
 * Times are nanoseconds of any monotonic clock. A struct roce_dev and all that
 * hangs on it belong to one thread at a time. The driver adds and checks IP, UDP
 * and the ICRC (roce_icrc.h); the core sees packets from the BTH to the pad.
 *
 * After every batch of calls a driver polls events until none is left, then
 * packets until none is left, then sleeps until a packet arrives or
 * roce_next_deadline() passes and calls roce_tick().
 */
#ifndef ROCE_H
#define ROCE_H

#include "rackwire_roce_types.h"
#include "roce_types.h"

struct roce_dev;
struct roce_pd;
struct roce_mr;
struct roce_cq;
struct roce_qp;
struct roce_cm_id;

/* Hard caps and constants of a device. */
struct roce_cfg {
	u32 mtu;	 /* most payload of a packet: 256, 512, 1024, 2048 or 4096 */
	u32 max_qps;	 /* beside QP1 */
	u32 max_mrs, max_pds, max_cqs;
	u32 max_cm_ids;
	u32 max_half_open; /* requests neither refused nor confirmed by RTU or a packet; one source gets what is still free */
	u32 window;	 /* bytes of a queue pair under way without acknowledgement; also at least 2 packets */
	u32 ack_every;	 /* AckReq at least every so many packets of a long message; 1..window */
	u32 max_burst;	 /* packets of one queue pair in a row before another has its turn */
	u64 rate_bps;	 /* of the link: where DCQCN starts from and returns to; 0: no rate limit at all */
	u64 cm_timeout_ns; /* between repetitions of a MAD; doubles each time up to 4 s */
	u32 cm_retries;	 /* 0..15, as the REQ says */
	u64 timewait_ns;
	u64 keepalive_ns; /* an idle connection is probed (zero-length WRITE semantics are not used: a repeated PSN); 0: never */
	u32 qpn_base, qpn_count; /* QP numbers (24 bits, without 0 and 1) this device may hand out; several processes share an address by it */
	u32 comm_id_base, comm_id_count; /* likewise communication ids of the CM */
};

void roce_cfg_default(struct roce_cfg *cfg);
/* Return: 0 or -EINVAL with *field naming the offender. */
int roce_cfg_check(const struct roce_cfg *cfg, const char **field);

/* IPv4 as v4-mapped IPv6: also its GID [RoCEv2 annex A17.4.1]. */
struct roce_path {
	u8 local[16], peer[16];
	u32 scope;	/* IPv6 zone of a link-local address, else 0 */
	u16 mtu;	/* most payload that fits this path; 0: cfg.mtu */
	u8 tos;		/* without the ECN bits */
	u8 pad;
};

enum roce_slab {
	ROCE_SLAB_DEV, ROCE_SLAB_TABLE, ROCE_SLAB_PD, ROCE_SLAB_MR, ROCE_SLAB_CQ, ROCE_SLAB_QP,
	ROCE_SLAB_RING, ROCE_SLAB_CM, ROCE_SLABS
};

struct roce_ops {
	/* Zeroed memory, or NULL. TABLE and RING vary in size. */
	void *(*alloc)(void *ctx, enum roce_slab slab, size_t size);
	void (*free)(void *ctx, enum roce_slab slab, void *ptr, size_t size);
};

struct roce_dev *roce_dev_create(const struct roce_cfg *cfg, const struct roce_ops *ops, void *ctx,
				 const u64 seed[2], u64 now);
/* Frees everything at once, silently. */
void roce_dev_destroy(struct roce_dev *d);

/* One received packet: BTH .. pad, ICRC checked and cut off. */
struct roce_rxpkt {
	const u8 *data;
	u32 len;
	u8 ecn;		/* the two ECN bits of the IP header */
	struct roce_path path; /* local: its destination, peer: its source */
};
/* Whatever is wrong with a packet is counted, answered as [IBTA 9.7, 9.9] say, and dropped. */
void roce_rx(struct roce_dev *d, u64 now, const struct roce_rxpkt *pkt);

/* A packet could not be delivered (ICMP, the driver checked that it quotes one of ours). */
void roce_unreachable(struct roce_dev *d, u64 now, const struct roce_path *path, int error);

void roce_tick(struct roce_dev *d, u64 now);
/* At once while events wait: requests that need no packet complete while packets are pulled. */
u64 roce_next_deadline(const struct roce_dev *d);

#define ROCE_TX_FRAGS RACKWIRE_ROCE_MAX_SGE

struct roce_frag {
	const u8 *ptr;
	u32 len;
};

/* A packet to send: hdr, frags, pad zero bytes, then the driver's ICRC. */
struct roce_txpkt {
	u8 *hdr; /* in: ROCE_HDR_MAX bytes of the caller's */
	u32 hdr_len;
	u32 payload_len; /* without pad */
	u32 pad;	 /* 0..3 */
	u32 nfrags;
	struct roce_frag frags[ROCE_TX_FRAGS]; /* application memory or the core's; valid until the next call but roce_poll_tx() */
	const struct roce_path *path;	       /* likewise */
	u8 ecn;		 /* ECN bits for the IP header: 2 (ECT(0)), or 0 */
};

/*
 * The next packet to send, if any. It counts as sent; what the driver drops is
 * repaired like any loss. Packets of one message come in a row, of equal length
 * but for the first and the last, as segmentation offload wants them.
 * Return: 1 or 0.
 */
int roce_poll_tx(struct roce_dev *d, u64 now, struct roce_txpkt *pkt);

enum roce_event_kind {
	ROCE_EV_CQ = 1, /* a CQ that was armed has completions; it is disarmed */
	ROCE_EV_QP,	/* a queue pair went into the error state by itself, not by roce_qp_error(); error says why */
	ROCE_EV_CM,
};

struct roce_event {
	u32 kind;
	struct roce_cq *cq;
	struct roce_qp *qp;
	/* ROCE_EV_CM: */
	u32 cm;			    /* enum rackwire_roce_cm_event_kind */
	struct roce_cm_id *id, *listener;
	int error;
	u32 status;
	const u8 *private_data;	    /* valid until the next call */
	u32 private_data_len;
	u8 responder_resources, initiator_depth; /* what the peer offers, seen from here: already crossed over */
};
/* Return: 1 or 0. Events of an object that is destroyed vanish with it. */
int roce_poll_event(struct roce_dev *d, struct roce_event *ev);

int roce_pd_create(struct roce_dev *d, struct roce_pd **out); /* -ENOMEM, -ENFILE (cap) */
int roce_pd_destroy(struct roce_pd *pd); /* -EBUSY while regions or queue pairs are in it */

/*
 * roce_mr_register() - a region of application memory. Its key is random (32 bits out of the
 * device's generator) and serves as lkey and rkey.
 * Return: 0; -EINVAL (no bytes, wraps around, REMOTE_WRITE or REMOTE_ATOMIC without LOCAL_WRITE); -ENOMEM; -ENFILE.
 */
int roce_mr_register(struct roce_pd *pd, void *addr, u64 length, u32 access, void *user, struct roce_mr **out);
/* Requests that use it fail from now on; responses under way stop with a NAK. */
void roce_mr_deregister(struct roce_mr *mr);
u32 roce_mr_key(const struct roce_mr *mr);   /* the current one */
void *roce_mr_user(const struct roce_mr *mr);
bool roce_mr_valid(const struct roce_mr *mr); /* false after invalidation, until REG_MR or reregister */
/* A fresh key at once, without a work request; the old one is dead. */
int roce_mr_reregister(struct roce_mr *mr, u32 access, u32 *key);
/* A key for a REG_MR request: random, unused, reserved for this region until used. */
int roce_mr_next_key(struct roce_mr *mr, u32 *key);

int roce_cq_create(struct roce_dev *d, u32 entries, void *user, struct roce_cq **out); /* 1..1<<20 */
int roce_cq_destroy(struct roce_cq *cq); /* -EBUSY while a queue pair uses it */
/* Return: completions written, at most @max; a negative errno when the CQ overflowed (-EOVERFLOW). */
int roce_poll_cq(struct roce_cq *cq, struct rackwire_roce_wc *wc, u32 max);
/* Arm: one ROCE_EV_CQ for the next completion (@solicited: next solicited or failed one). Return: 1 when
 * completions are already there (poll again), else 0. */
int roce_cq_arm(struct roce_cq *cq, bool solicited);
void *roce_cq_user(const struct roce_cq *cq);

/* Return: 0, -EINVAL, -ENOMEM, -ENFILE. @user comes back in rackwire_roce_wc.qp_context. */
int roce_qp_create(struct roce_pd *pd, struct roce_cq *send_cq, struct roce_cq *recv_cq,
		   const struct rackwire_roce_qp_attr *attr, void *user, struct roce_qp **out);
/* Outstanding requests vanish without completion. Its number rests for cfg.timewait_ns if it was connected. */
void roce_qp_destroy(struct roce_qp *qp, u64 now);
u32 roce_qp_num(const struct roce_qp *qp);
u32 roce_qp_state(const struct roce_qp *qp); /* enum rackwire_roce_qp_state */
void *roce_qp_user(const struct roce_qp *qp);
void roce_qp_stats(const struct roce_qp *qp, struct rackwire_roce_qp_stats *stats);
/* Into the error state: everything posted completes with WR_FLUSH_ERR, a disconnect is not sent. */
void roce_qp_error(struct roce_qp *qp, u64 now);

/* What connects two queue pairs; the CM fills it in, tests may. */
struct roce_qp_link {
	struct roce_path path;
	u32 dest_qpn;
	u32 sq_psn;	/* first PSN we send */
	u32 rq_psn;	/* first PSN we expect */
	u32 mtu;	/* payload of a full packet, both ways the same */
	u8 max_rd_atomic;      /* ours under way at the peer */
	u8 max_dest_rd_atomic; /* the peer's here */
	u8 retry_count, rnr_retry_count;
	u8 min_rnr_timer;
	u8 ack_timeout;
};
int roce_qp_connect(struct roce_qp *qp, u64 now, const struct roce_qp_link *link); /* -> RTS; -EINVAL */

/*
 * Post requests, in order. @done: how many were taken, also on error.
 * Return: 0; -ENOMEM (queue full); -EINVAL (state, opcode, sges, alignment, length over 2^31);
 * -EMSGSIZE (inline too long). Errors in lkeys come as completions [IBTA 10.10.3.2], after those of all
 * requests before; LOCAL_INV and REG_MR that cannot be done complete with MW_BIND_ERR.
 * LOCAL_INV, and REG_MR of a region that is valid, wait until all requests before are complete. REG_MR takes the
 * key in reserve for its region or one that nobody has; the region's key before is dead then.
 * In the error state everything is taken and completes with WR_FLUSH_ERR at once.
 */
int roce_post_send(struct roce_qp *qp, u64 now, const struct rackwire_roce_send_wr *wr, u32 n, u32 *done);
int roce_post_recv(struct roce_qp *qp, const struct rackwire_roce_recv_wr *wr, u32 n, u32 *done);

/*
 * Connection manager: rdma_cm's RDMA_PS_TCP over CM MADs on QP1 [IBTA 12, A11].
 * A listener and every connection is a roce_cm_id, owned by the application
 * until roce_cm_destroy().
 */
/*
 * @local: all zero: any address of the device. @backlog: requests the application has not answered; 0: cfg.max_half_open.
 * Over it, or over max_half_open, requests are dropped, and come again.
 * Return: 0, -EADDRINUSE, -EINVAL, -ENFILE, -ENOMEM.
 */
int roce_cm_listen(struct roce_dev *d, const u8 local[16], u16 port, u32 backlog, void *user, struct roce_cm_id **out);
/*
 * Sends REQ. @qp must be unconnected; it becomes the connection's, and goes to RTS when the
 * REP has come (RTU is sent by itself). Then ESTABLISHED, or REJECTED, or UNREACHABLE; after these two
 * @qp is not the id's any more and may connect again. A peer that wants a smaller path MTU gets it.
 * Return: 0, -EINVAL, -ENFILE, -ENOMEM.
 */
int roce_cm_connect(struct roce_dev *d, u64 now, const struct roce_path *path, u16 sport, u16 port, struct roce_qp *qp,
		    const struct rackwire_roce_conn_param *param, void *user, struct roce_cm_id **out);
/*
 * Answer a CONNECT_REQUEST. @qp goes to RTS at once. Then ESTABLISHED (RTU or first packet), or REJECTED or UNREACHABLE
 * (the peer gave up, or was not to be reached), or DISCONNECTED already.
 * Return: 0; -EINVAL; -ENOTCONN when the peer has given up meanwhile.
 */
int roce_cm_accept(struct roce_cm_id *id, u64 now, struct roce_qp *qp, const struct rackwire_roce_conn_param *param, void *user);
/* Refuse it; the id is gone with that, also when the peer had given up. Return: 0, or -EINVAL (@id stays). */
int roce_cm_reject(struct roce_cm_id *id, u64 now, u32 reason, const void *private_data, u32 len);
/* "Still thinking": MRA, so that the peer does not give up. */
int roce_cm_mra(struct roce_cm_id *id, u64 now);
/*
 * DREQ; the queue pair goes into the error state and flushes. Idempotent. DISCONNECTED follows with DREP or its timeout.
 * Return: 0, -ENOTCONN.
 */
int roce_cm_disconnect(struct roce_cm_id *id, u64 now);
/*
 * Whatever state it is in. A connection's queue pair goes into the error state; its DREQ is repeated without an id
 * while there is room for ids. A listener's requests that the application has not heard of are refused.
 */
void roce_cm_destroy(struct roce_cm_id *id, u64 now);
void *roce_cm_user(const struct roce_cm_id *id);
struct roce_qp *roce_cm_qp(const struct roce_cm_id *id);
const struct roce_path *roce_cm_path(const struct roce_cm_id *id);
void roce_cm_ports(const struct roce_cm_id *id, u16 *local, u16 *peer);

void roce_dev_stats(const struct roce_dev *d, struct rackwire_roce_dev_stats *stats);
struct roce_info { /* gauges */
	u32 qps, mrs, pds, cqs, cm_ids, half_open, timewait, listeners;
};
void roce_dev_info(const struct roce_dev *d, struct roce_info *info);

#endif
