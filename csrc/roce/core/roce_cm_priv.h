/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the files of the connection manager know of each other: roce_cm.c (calls
 * of the application and the device), roce_cm_rx.c (messages of peers),
 * roce_cm_msg.c (messages to them) and roce_cm_table.c (finding and keeping ids).
 */
#ifndef ROCE_CM_PRIV_H
#define ROCE_CM_PRIV_H

#include "roce_heap.h"
#include "roce_priv.h"

#define CM_BACKOFF_MAX 4000000000ull /* ns between repetitions, unless cfg.cm_timeout_ns is more */
#define CM_PATIENCE_MAX 120000000000ull /* ns that a request may take us, whatever it says */
#define CM_REPLIES 64		     /* messages waiting that belong to no id */
#define CM_MRA_TIMEOUT 21	     /* code: 8.6 s, what our MRA asks for */
#define CM_MRA_MAX 25		     /* code: 137 s, as much as a peer's MRA gets */
#define CM_MRA_COUNT 8		     /* and so often */
#define CM_PROBES 3		     /* REPs without RTU after which a connection in doubt is gone */
#define CM_TARGET_ACK_DELAY 12	     /* code: 17 ms, a process that has to be scheduled first */
#define CM_ACK_TIMEOUT 18	     /* code: 1.07 s, for who names none */
#define CM_ACK_TIMEOUT_MIN 8	     /* codes: what we take from a peer's REQ, */
#define CM_ACK_TIMEOUT_MAX 22	     /*  1 ms to 17 s */
#define CM_HOP_LIMIT 64

enum cm_state {
	CM_LISTEN,
	CM_REQ_SENT,
	CM_REQ_RCVD, /* the application has not answered */
	CM_REP_SENT,
	CM_ESTABLISHED,
	CM_DREQ_SENT,
	CM_TIMEWAIT, /* answers latecomers */
	CM_CLOSED,   /* unknown to the peer and the tables; there for its owner only */
};

/* Events of an id come in this order, each at most once. */
#define CM_EV_REQUEST 0x1
#define CM_EV_ESTABLISHED 0x2
#define CM_EV_END 0x4 /* REJECTED, UNREACHABLE or DISCONNECTED */
#define CM_EV_TIMEWAIT_EXIT 0x8

/* An entry of a hash table; at is NULL out of it. */
struct cm_hnode {
	struct cm_hnode *next, **at;
};

enum cm_table {
	CM_BY_LOCAL,  /* ids by our communication id */
	CM_BY_REMOTE, /* ids by peer and its communication id */
	CM_BY_QPN,    /* ids by peer, its GUID and QP: at most one connection each [IBTA 12.9.8.3] */
	CM_LISTENERS, /* by port */
	CM_PEERS,
	CM_TABLES
};

/* An address with connections on the way. */
struct cm_peer {
	struct cm_hnode node;
	u8 addr[16];
	u32 refs;
	u32 half_open;
	struct roce_list connecting; /* ids that have sent REQ or REP and wait */
};

struct roce_cm_id {
	struct roce_cm_dev *cm;
	void *user;
	struct roce_list all;
	struct roce_list event;	 /* on cm->events */
	struct roce_list tx;	 /* on cm->tx */
	struct roce_list family; /* a listener's: its requests; a request's: its siblings */
	struct roce_list wait;	 /* on peer->connecting, or on cm->orphans */
	struct roce_timer timer;
	struct cm_hnode by_local, by_remote, by_qpn; /* a listener's by_local: by port */
	u8 state;
	bool owned;   /* by the application, or a request it will hear of */
	bool told;    /* the application knows this id */
	bool passive;
	bool counted; /* as half-open */
	bool connected; /* its queue pair was */
	bool up;	/* counted as opened or accepted, not yet as ended */
	bool in_doubt; /* established, but the peer may have forgotten; REPs ask it */
	u8 ev_pending, ev_done;
	u8 attempts, mras;
	struct roce_cm_id *listener; /* of a request that is not accepted yet */
	u32 pending, backlog;	     /* of a listener: such requests */
	struct roce_qp *qp;
	struct cm_peer *peer;	     /* while being established */
	struct roce_path path;
	u16 local_port, peer_port;
	u32 local_id, remote_id;     /* communication ids; remote 0: unknown */
	u32 remote_qpn;
	u64 remote_guid;
	u64 tid;
	u32 psn, remote_psn;	     /* Starting PSN of our message and of the peer's */
	u8 mtu;			     /* code */
	struct rackwire_roce_conn_param param; /* without private data; of a request: what its REQ says */
	u64 patience;		     /* ns after which the peer has given up without our answer */
	u64 linger;		     /* ns for which a refusal must be known, so that the last REQ finds it */
	bool alternate;		     /* its REQ has an alternate path */
	u32 end_event, end_status;
	int end_error;
	u8 peer_responder, peer_initiator; /* what the peer's message offers and asks */
	u8 priv_for;			   /* which CM_EV_ the private data came with */
	u32 priv_len;
	u8 priv[ROCE_CM_RTU_PRIV];
	u8 mad_type;		     /* enum roce_cm_type of mad; 0: none */
	u8 mad[ROCE_MAD_LEN];	     /* the last message, for repetitions */
};

struct cm_reply {
	struct roce_path path;
	u8 mad[ROCE_MAD_LEN];
};

struct roce_cm_dev {
	struct roce_dev *dev;
	const struct roce_cfg *cfg;
	struct rackwire_roce_dev_stats *stats;
	u64 guid;
	u64 hash_key[2]; /* so that peers cannot aim at one chain */
	struct roce_list all, events, tx;
	struct roce_list orphans; /* without owner, oldest first: the first to go when ids run out */
	struct roce_heap timers;
	u32 count; /* ids, orphans too */
	u32 owned, half_open, timewait, listeners;
	u32 reply_head, reply_count;
	struct cm_reply replies[CM_REPLIES];
	u32 mask; /* buckets of each table - 1 */
	struct cm_hnode **table[CM_TABLES];
};

/* ---- roce_cm_table.c ---- */

static inline bool cm_addr_equal(const u8 a[16], const u8 b[16])
{
	return !memcmp(a, b, 16);
}

static inline bool cm_addr_any(const u8 a[16])
{
	static const u8 any[16];

	return cm_addr_equal(a, any);
}

bool cm_path_equal(const struct roce_path *a, const struct roce_path *b);

int cm_tables_init(struct roce_cm_dev *cm);
void cm_tables_exit(struct roce_cm_dev *cm);

/* A new id, in state CM_CLOSED, owned. NULL: a cap or no memory, *error says which. */
struct roce_cm_id *cm_id_new(struct roce_cm_dev *cm, int *error);
void cm_id_free(struct roce_cm_id *id);
/* Nobody owns it any more; it lives until its timer ends it or its room is needed. */
void cm_id_orphan(struct roce_cm_id *id);
/* Gives an id that is in no table a communication id of its own. */
int cm_id_name(struct roce_cm_id *id);

void cm_remote_insert(struct roce_cm_id *id);
void cm_remote_remove(struct roce_cm_id *id);
void cm_qpn_remove(struct roce_cm_id *id);
void cm_unhash(struct roce_cm_id *id);
struct roce_cm_id *cm_find_local(const struct roce_cm_dev *cm, u32 local_id);
struct roce_cm_id *cm_find_remote(const struct roce_cm_dev *cm, const u8 peer[16], u32 remote_id);
struct roce_cm_id *cm_find_qpn(const struct roce_cm_dev *cm, const u8 peer[16], u64 guid, u32 qpn);

void cm_listener_insert(struct roce_cm_id *id);
/* Who gets a request for @local; one that listens there goes before one that listens everywhere. */
struct roce_cm_id *cm_find_listener(const struct roce_cm_dev *cm, const u8 local[16], u16 port);
bool cm_listener_conflict(const struct roce_cm_dev *cm, const u8 local[16], u16 port);

struct cm_peer *cm_find_peer(const struct roce_cm_dev *cm, const u8 addr[16]);
/* Enters @id among those on the way, @half_open: counted as such. Return: 0 or -ENOMEM. */
int cm_peer_join(struct roce_cm_id *id, bool half_open);
/* It got through or will not: out of all counts of those on the way. Idempotent. */
void cm_peer_leave(struct roce_cm_id *id);
/* May @addr have one more half-open request? */
bool cm_half_open_room(const struct roce_cm_dev *cm, const u8 addr[16]);

void cm_set_timer(struct roce_cm_id *id, u64 at);
void cm_stop_timer(struct roce_cm_id *id);
/* Until the next repetition, after id->attempts of them. */
void cm_retry_timer(struct roce_cm_id *id, u64 now);

void cm_post(struct roce_cm_id *id, u8 event);

/* ---- roce_cm_msg.c ---- */

/* id->mad goes (again) as soon as packets are pulled. */
void cm_queue(struct roce_cm_id *id);
void cm_send_req(struct roce_cm_id *id, const void *priv, u32 len);
/* The REQ once more, with another communication id and id->mtu. */
int cm_resend_req_as_new(struct roce_cm_id *id);
void cm_send_mra(struct roce_cm_id *id);
void cm_send_rep(struct roce_cm_id *id, const void *priv, u32 len);
void cm_send_rtu(struct roce_cm_id *id);
void cm_send_dreq(struct roce_cm_id *id);
/* REJ out of an id: kept with it for duplicates (@kept), or out of the way of what comes next. */
void cm_send_rej(struct roce_cm_id *id, u16 reason, const void *priv, u32 len, bool kept);
/* Answers that belong to no id. */
void cm_reply_rej(struct roce_cm_dev *cm, const struct roce_path *to, const struct roce_cm *m, u32 remote_id,
		  u16 reason, const u8 *ari, u8 ari_len);
void cm_reply_drep(struct roce_cm_dev *cm, const struct roce_path *to, const struct roce_cm *dreq);

/* ---- roce_cm.c: changes of state, by messages and by time ---- */

u8 cm_mtu_limit(const struct roce_cm_dev *cm, const struct roce_path *path); /* code */
void cm_established(struct roce_cm_id *id);
/* Over: @event is DISCONNECTED, REJECTED or UNREACHABLE. Flushes the queue pair of a connection. */
void cm_end(struct roce_cm_id *id, u64 now, u32 event, int error, u32 status);
/* Out of all tables and timers; a passing id is freed. */
void cm_close(struct roce_cm_id *id);
/* The QP's rest, or a refusal's. */
void cm_timewait(struct roce_cm_id *id, u64 now);
/* A request that is over before the application answered. */
void cm_request_over(struct roce_cm_id *id, u64 now, u32 event, int error, u32 status);
void cm_start_dreq(struct roce_cm_id *id, u64 now);
/* [IBTA 12.9.8.3.1] The peer seems to have forgotten this connection. */
void cm_suspect(struct roce_cm_id *id, u64 now);

#endif
