/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Applications on the virtual network, and what must be true of them: every
 * request completes once and in order, what is sent arrives once, in order and
 * intact in the right buffer, remote memory goes through what was written to it
 * and nothing else, atomics happen once, and every connection comes to the end
 * that its plan implies. vapp.c has the connections, vpost.c what they post,
 * vdone.c what comes of it, vcheck.c the rest.
 */
#ifndef VAPP_H
#define VAPP_H

#include "vspace.h"

#define VTARGETS 3 /* the last one is re-registered under new keys */
#define VDYN (VTARGETS - 1)
#define VPORT 4000
#define VMAGIC 0x76726f63u /* private data of requests begins with it and the connection's number */

enum vkey {
	VKEY_DEAD,
	VKEY_LIVE,
	VKEY_CHANGING,
};

/* A region and its key, which may change. */
struct vregion {
	struct vext *ext;
	struct vcell *cell; /* NULL: no peer writes there */
	struct roce_mr *mr;
	u32 key;
	enum vkey state;
	u32 users; /* requests of the peer under way */
	u32 dead[4], ndead; /* keys of the past */
};

/* What one end will do. */
struct vplan {
	u32 ops;	 /* requests to post */
	u32 max_len;	 /* of a message */
	u32 max_region;	 /* of what the peer reads and writes here */
	u32 send_depth, recv_depth, max_sge;
	u32 weight[RACKWIRE_ROCE_WR_OPCODES];
	u32 signal_ppm, fence_ppm, inline_ppm, any_lkey_ppm;
	u32 batch;	 /* most requests in one call */
	u64 post_gap_ns; /* mean time between posts; 0: as fast as the queue takes them */
	u64 recv_gap_ns; /* receives come one by one, so far apart; 0: the queue is kept full */
	u64 start_ns;	 /* first post after the connection is there */
	bool early;	 /* the accepting side posts before the connection is established */
	bool signal_all;
	u32 bad_at;	 /* instead of this request, one that must fail; ~0: none */
	u32 bad_kind;	 /* enum vbad */
};

enum vbad {
	VBAD_KEY,	   /* a key that was never given out */
	VBAD_OLD_KEY,	   /* one that is dead */
	VBAD_BEHIND,	   /* one byte behind the region */
	VBAD_BEFORE,	   /* one byte before it */
	VBAD_FAR,	   /* an address that wraps around */
	VBAD_NO_WRITE,	   /* WRITE where only READ is allowed */
	VBAD_NO_READ,
	VBAD_NO_ATOMIC,
	VBAD_LOCAL_ONLY,   /* the key of a region without remote rights */
	VBAD_OTHER_PD,
	VBAD_TOO_LONG,	   /* SEND of more than the receive has room for */
	VBAD_LKEY,	   /* a local key that was never given out */
	VBAD_LOCAL_BEHIND, /* one byte behind the local region */
	VBAD_LOCAL_RIGHTS, /* READ into a region without LOCAL_WRITE */
	VBADS
};

struct vside;

struct vop {
	struct vside *side;
	u64 wr_id;
	u32 index, opcode, flags;
	u32 len, imm, inv_key;
	u64 seed;
	struct vext *ext[RACKWIRE_ROCE_MAX_SGE];
	u32 nsge;
	struct vregion *target; /* remote memory; or REG_MR, LOCAL_INV, READ_WITH_INV: the region */
	u32 number;		/* WRITE: of the cell's; READ: those below it are done before */
	u32 msg;		/* which message to the peer's receives it is, ~0: none */
	u32 marks[VTARGETS];	/* WRITEs to each target posted before */
	u64 swap, expect_old;
	bool counter, bad, retired;
	u32 expect; /* status */
	u32 far_life;
	u32 new_key;
};

struct vrecv {
	struct vside *side;
	u64 wr_id;
	struct vext *ext[RACKWIRE_ROCE_MAX_SGE];
	u32 nsge;
};

enum vstate {
	V_IDLE,
	V_CONNECTING, /* or accepted, and not yet established */
	V_UP,
	V_CLOSING,
	V_GONE, /* nothing of it exists in the core */
};

struct vconn;

struct vside {
	struct vconn *conn;
	u32 who; /* 0: connects, 1: accepts */
	struct vhost *host;
	u32 life; /* of the host when it was made */
	struct vplan plan;
	enum vstate state;
	struct roce_qp *qp;
	struct roce_cm_id *id;
	struct vop **ops;
	u32 nops, ops_cap, head; /* posted; the first not retired */
	u32 planned;		 /* of the plan's requests posted or dropped */
	struct vrecv **recvs;
	u32 nrecvs, recvs_cap, recv_head;
	struct vop **msgs; /* of ops, those that use a receive */
	u32 nmsgs, msgs_cap;
	u32 acked_msgs; /* of its messages, completed */
	u32 next_msg;	/* of the peer's messages, received */
	u32 sent_psn;	/* the last PSN that its requests have taken on the wire */
	bool sent_any;
	struct vregion target[VTARGETS]; /* the peer reads and writes here */
	struct vregion no_write, no_read, other_pd;
	struct vext *cas_ext; /* the peer compares and swaps here */
	struct roce_mr *cas_mr;
	u32 cas_key;
	u64 cas_value;	/* after all of the peer's posted requests */
	u32 cas_open;	/* of those, not completed */
	u64 last_count; /* the newest value that a fetch-and-add of this side returned, and one */
	bool empty;	/* the next message is to be empty */
	struct vregion sink; /* for READ_WITH_INV */
	u64 timer, next_post, next_recv;
	u32 status, recv_status; /* first ones that were no success, of requests and of receives */
	u32 established, disconnected, refused, unreachable, qp_errors;
	bool died, destroyed_qp;
};

enum vanswer {
	VANSWER_ACCEPT,
	VANSWER_REJECT,
	VANSWER_DESTROY, /* the id, without a word */
	VANSWER_NOBODY,	 /* nobody listens there */
};

struct vconn {
	u32 index;
	u64 start_at;
	bool started;
	enum vanswer answer;
	u64 answer_delay;
	bool mra;
	u32 reason; /* of a rejection */
	struct rackwire_roce_conn_param param[2];
	struct vside side[2];
	u32 chunk; /* path MTU */
	u32 closer;
	u64 close_delay, reap_delay;
	bool closing;	/* somebody began to close it: flushes are in order */
	bool on_purpose; /* a bad request has failed as it should */
	u64 may;	/* statuses that are in order, as bits */
	bool may_not_connect;
	bool keep_open;
	bool direct; /* without the connection manager, from these PSNs */
	u32 psn[2];
	u64 give_up_at; /* when patience ends with a connection that may fail; 0: never */
	u8 private_data[3][56]; /* REQ, REP, REJ */
	u32 private_len[3];
};

/* The application's part of a device. */
struct vhostapp {
	struct roce_pd *pd, *other_pd;
	struct roce_cq *cq[2];
	struct roce_mr *local; /* all of its memory, no remote rights */
	struct roce_mr *readonly; /* likewise, without LOCAL_WRITE */
	struct vext *counter_ext;
	struct roce_mr *counter_mr;
	u32 local_key, readonly_key, counter_key;
	u64 counter_base, counter_addr;
	u8 *olds; /* bit per value that a fetch-and-add returned */
	u32 adds_posted, adds_done;
	struct roce_cm_id *listener;
	struct vspace space;
	bool armed;  /* polls on events alone */
	bool signal; /* there was one */
	bool again;  /* completions were taken behind the back of the loop */
	u64 linger;  /* polls so late after an event */
	u64 poll_at;
	bool ready;
};

struct vapp {
	struct vnet *net;
	struct vconn **conns;
	u32 nconns, cap;
	struct vhostapp hosts[VNET_MAX_HOSTS];
	u32 cq_entries;
	struct { void *p; bool recv; bool done; } *wrs;
	u32 nwrs, wrs_cap;
	u64 completions, flushes, bytes, reads, atomics, strays;
	u32 serves;
	bool allow_nomem;
};

/* Installs itself as the network's event handler; @net->user points to the app. */
void vapp_init(struct vapp *app, struct vnet *net, u32 cq_entries);
void vapp_fini(struct vapp *app);
/* Memory and objects of a device, and a listener; again after it has been restarted. False: out of memory. */
bool vapp_setup(struct vhost *h, u32 arena);
struct vconn *vapp_add(struct vnet *net, u32 from, u32 to, u64 start_at);

static inline struct vapp *vapp_of(struct vnet *net)
{
	return net->user;
}

static inline struct vhostapp *vapp_host(struct vhost *h)
{
	return &vapp_of(h->net)->hosts[h->index];
}

static inline struct vside *vside_peer(struct vside *s)
{
	return &s->conn->side[!s->who];
}

/* Both ends are gone, and every connection has come to its end. */
bool vapp_done(struct vnet *net);
bool vside_idle(const struct vside *s);
void vconn_close(struct vconn *c, u32 who);
/* Takes down what is left of one end, now. */
void vside_destroy(struct vside *s);
void vside_kill_qp(struct vside *s);
/* Posts what can be posted. */
void vside_run(struct vside *s);
void vside_arm(struct vside *s, u64 at);
bool vside_make(struct vside *s); /* its regions and its queue pair; false: out of memory */
/* It is over; to be destroyed soon. */
void vside_closing(struct vside *s);
void vapp_event(struct vhost *h, const struct roce_event *ev);
/* Dereg, destroy, and nothing may refuse. */
void vapp_teardown(struct vhost *h);

/* ---- vpost.c ---- */
void vpost_sends(struct vside *s);
void vpost_recvs(struct vside *s);
void vop_release(struct vop *op, bool scribble);
void vrecv_release(struct vrecv *r);
u64 vwr_new(struct vapp *app, void *p, bool recv);

/* ---- vdone.c ---- */
/* Takes the completions of a CQ; true: there were some. */
bool vdone_poll(struct vhost *h, struct roce_cq *cq);
/* Everything outstanding at one end has vanished with its queue pair. */
void vdone_vanish(struct vside *s);

/* ---- vcheck.c ---- */
void vcheck_memory(struct vnet *net);
/* What must hold once a connection's both ends are gone. */
void vcheck_ends(struct vnet *net);
/* After the teardown: no object but those of a fresh device. */
void vcheck_nothing_left(struct vhost *h);
/* Runs @ns more and fails when a device sends anything or wants to wake up. */
void vcheck_silent(struct vnet *net, u64 ns);
/* A packet's payload comes from memory that its sender may read for it, and its PSN is one that may come now. */
void vcheck_packet(struct vhost *h, const struct vpkt *pkt, const struct roce_txpkt *tx);

#endif
