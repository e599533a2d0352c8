/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Structures and calls shared by the files of the core and by nobody else. */
#ifndef DCPIM_PRIV_H
#define DCPIM_PRIV_H

#include "dcpim.h"
#include "dcpim_heap.h"
#include "dcpim_rand.h"

/*
 * A message counts its size plus this against buffers and credit, so that a
 * flood of tiny messages is bounded by the memory it really takes.
 */
#define DCPIM_MSG_OVERHEAD 256
/* Messages of one flow in flight, by id: bounds the receiver's set of completed ids. */
#define DCPIM_MSG_WINDOW 4096
#define DCPIM_MAX_SPANS 128 /* out-of-order intervals of one transfer */
#define DCPIM_STATELESS 32  /* replies to strangers waiting to be sent */
#define DCPIM_OFFSET_MAX ((u64)1 << 62)
#define DCPIM_UNKNOWN (~(u64)0)

enum dcpim_timer_kind {
	TIMER_FLOW,
	TIMER_SEND,
	TIMER_PEER, /* keep-alive */
	TIMER_LAST_LENIENT = TIMER_PEER,
	TIMER_RECV,
	TIMER_ACK,
	TIMER_TOKEN, /* of a peer */
	TIMER_MATCH_RECV,
	TIMER_MATCH_SEND,
};

struct dcpim_timer {
	struct dcpim_heap_node node;
	u8 kind;
};

/* Control packets waiting to be sent: one bit per packet, one queue per host. */
enum dcpim_ctl_owner { CTL_FLOW, CTL_PEER, CTL_TXMSG, CTL_RXMSG };

struct dcpim_ctl {
	struct dcpim_list node;
	u16 bits;
	u8 owner;
};

#define CTL_SYN 0x001
#define CTL_SYN_ACK 0x002
#define CTL_ACK 0x004 /* stream: ACK; messages: FIN_MSG */
#define CTL_FIN 0x008
#define CTL_FIN_ACK 0x010
#define CTL_CREDIT 0x020 /* FIN_MSG that asks for one */
#define CTL_DEMAND 0x040 /* DEMAND; of a message: NOTIFICATION_MSG */
#define CTL_TOKEN 0x080	 /* TOKEN; of a message: TOKEN_MSG */
#define CTL_RTS 0x001	  /* peer, here and below */
#define CTL_RTS_PROMPT 0x002
#define CTL_GRANT 0x004
#define CTL_GRANT_PROMPT 0x008
#define CTL_ACCEPT 0x010
#define CTL_ACCEPT_PROMPT 0x020
#define CTL_REVOKE 0x040
#define CTL_KEEPALIVE 0x080
#define CTL_KEEPALIVE_ACK 0x100

/* Payload kept by reference: to be sent, to be read, or out of order. */
struct dcpim_seg {
	struct dcpim_list node;
	u64 off;
	struct dcpim_buf buf;
};

/* An interval [start, end); out-of-order ones carry their segments. */
struct dcpim_span {
	struct dcpim_list node;
	u64 start, end;
	struct dcpim_list segs;
};

struct dcpim_flow;

/* What sends one transfer: a stream's outgoing half, or one message. */
struct dcpim_send {
	struct dcpim_flow *flow;
	u64 msg_id;		  /* 0: stream */
	u64 una, nxt, end;	  /* acknowledged, sent, written */
	u64 token;		  /* scheduled edge */
	u64 told;		  /* how far the receiver knows we want to go */
	u64 wnd;		  /* flow control edge */
	u64 first_edge;		  /* where the burst began; once long, end of its unscheduled first part */
	struct dcpim_list segs;
	struct dcpim_seg *cursor; /* segment that holds nxt, if known */
	struct dcpim_list lost;	  /* spans to send again */
	u32 nlost;
	struct dcpim_list ready;  /* on one of the host's transmit queues */
	struct dcpim_timer timer;
	u64 progress_at;
	u64 probe_since;	  /* first unanswered probe; 0: none */
	u64 sample_off, sample_at; /* RTT sample under way; sample_at 0: none */
	u8 backoff;
	bool is_long;
	bool zero;    /* a message without bytes that was not sent yet */
	bool done;    /* a message that is acknowledged */
	bool wants;   /* counted in peer->tx_wants */
	bool rtx_since; /* something was sent again since the sample began (Karn) */
};

/* What receives one transfer. */
struct dcpim_recv {
	struct dcpim_flow *flow;
	u64 msg_id;
	u64 nxt;   /* all below was received */
	u64 known; /* the sender has data up to here */
	u64 token; /* tokens granted up to here */
	u64 sched_from; /* where the tokens outstanding begin; below it data came unscheduled */
	u64 edge;  /* end of what was received at the highest offset */
	u64 final; /* end of the stream or message; DCPIM_UNKNOWN */
	u64 read;  /* taken by the application */
	u64 wnd_told;
	struct dcpim_list segs;	 /* in order, unread */
	struct dcpim_list spans; /* out of order */
	u32 nspans;
	u64 out;   /* this transfer's part of peer->tok_out */
	u64 want;  /* this transfer's part of peer->want */
	struct dcpim_heap_node heap; /* on peer->wanting, smallest remainder first */
	struct dcpim_timer timer;
	u64 timer_nxt;	 /* nxt when the timer was set */
	u64 probe_since;
	u64 rtx_end;	 /* ask again for holes below this; 0: nothing asked */
	u64 rtx_asked_at;
	u64 sample_off, sample_at;
	u8 backoff;
	bool spare_used;
	bool more;	 /* the sender's application has more than is known */
	bool more_counted; /* in peer->more */
};

struct dcpim_txmsg {
	struct dcpim_send send;
	struct dcpim_ctl ctl;
	struct dcpim_list node; /* flow->tx_msgs by id, then flow->acked */
	struct dcpim_txmsg *hash_next;
	void *user;
	u32 size;
	bool quiet;
};

struct dcpim_rxmsg_state {
	struct dcpim_recv recv;
	struct dcpim_ctl ctl;
	struct dcpim_list node; /* flow->rx_msgs while incomplete, then flow->rx_done */
	struct dcpim_rxmsg_state *hash_next;
	u32 size;
	u32 npieces;
};

struct dcpim_stream {
	struct dcpim_send send;
	struct dcpim_recv recv;
	u64 bucket_at; /* the unscheduled allowance was last filled */
	u64 bucket;
	u64 blocked_at; /* the application last had more than sndbuf holds */
};

struct dcpim_msgs {
	struct dcpim_list tx, acked; /* struct dcpim_txmsg */
	struct dcpim_list rx, done;  /* struct dcpim_rxmsg_state */
	u64 next_id;
	u64 tx_cum;	   /* all below are acknowledged */
	u64 tx_charged, tx_credit; /* begun so far, and how much may be */
	u64 rx_cum;	   /* all below completed here */
	struct dcpim_list rx_ids; /* spans of completed ids above rx_cum */
	u32 rx_nids;
	u64 rx_charged, rx_credit, rx_credit_told;
	u64 rx_final;	   /* ids end here: peer's FIN */
	u32 hash_base;
	u64 bytes_tx, bytes_rx;
};

#define FLOW_APP_CLOSED 0x0001
#define FLOW_FIN_QUEUED 0x0002 /* shutdown() was called */
#define FLOW_FIN_SENT 0x0004
#define FLOW_FIN_ACKED 0x0008
#define FLOW_PEER_FIN 0x0010   /* final offset known */
#define FLOW_EOF_RAISED 0x0020
#define FLOW_WANT_WRITE 0x0040
#define FLOW_CONFIRMED 0x0080  /* peer proved it receives at its address */
#define FLOW_BACKLOG 0x0100    /* counts against listener->pending */
#define FLOW_ANNOUNCED 0x0200  /* the application knows of it */
#define FLOW_FIN_ACK_SENT 0x0400
#define FLOW_DRAINED 0x0800
#define FLOW_WANT_CREDIT 0x1000 /* a message waits for the peer's credit */
#define FLOW_INCREDIBLE 0x2000 /* the last acknowledgement was of what was never sent */

struct dcpim_flow {
	struct dcpim_flow *hash_next;
	struct dcpim_host *host;
	struct dcpim_peer *peer;
	struct dcpim_listener *listener;
	struct dcpim_list peer_node;
	struct dcpim_list all_node; /* host->flows, or host->timewait */
	struct dcpim_list ev_node;
	void *user;
	struct dcpim_path path;
	u16 sport, dport;
	u32 ltag, rtag;
	u32 host_tag; /* the peer's host tag this flow was opened with */
	u16 flags;
	u8 state, kind;
	u8 backoff;
	u8 rto_shift; /* timeouts since the last RTT sample (Karn) */
	int error;
	u32 ev_mask;
	u16 peer_max_packet;
	u16 peer_host_port;
	u32 peer_unsched, peer_max_msg;
	u32 sndbuf, rcvbuf;
	u32 srtt, rttvar; /* ns; 0: not measured yet */
	u64 due_since; /* when it was opened; later FIN, credit: first unanswered try; 0: none */
	u32 unacked;   /* bytes received, messages completed since the last acknowledgement */
	u64 doubt_until; /* no further doubling of the timeout before */
	u64 tx_queued, rtx_bytes;
	struct dcpim_timer timer, ack_timer;
	struct dcpim_ctl ctl;
	union {
		struct dcpim_stream s;
		struct dcpim_msgs m;
	} u;
};

struct dcpim_listener {
	struct dcpim_list node;
	struct dcpim_host *host;
	void *user;
	u32 kinds, backlog, pending, local;
	u16 port;
};

/* Channels reserved in one epoch; two live at a time. */
struct dcpim_slot {
	u64 epoch;
	u32 used;
};

/* What this host, as sender, promised one receiver for one of its own epochs. */
struct dcpim_promise {
	u64 mine, theirs;
	u32 granted, matched;
	u64 granted_at;
};

struct dcpim_peer {
	struct dcpim_peer *hash_next;
	struct dcpim_list node;
	struct dcpim_path path;
	u16 key_port;  /* what this host connects to; 0: the peer connected */
	u16 host_port; /* on matching packets; only raw IP looks at it */
	u32 ltag, rtag;
	u32 max_packet; /* learned from the path; 0: none */
	u32 nflows;
	struct dcpim_list flows;
	struct dcpim_ctl ctl;
	u64 heard;
	u64 probe_since;
	u64 refused_since; /* first ICMP error since it was heard; 0: none */
	struct dcpim_timer timer; /* keep-alive */

	/* as receiver */
	struct dcpim_slot match[2]; /* channels matched with this peer */
	struct dcpim_heap wanting;  /* struct dcpim_recv that could use tokens */
	u64 want;		    /* bytes they could use */
	u32 more;		    /* of them with no end in sight */
	struct dcpim_list want_node;
	u64 tok_out, tok_credit, tok_at;
	/* Heavy loss: what arrived and was asked again, by round trips; the window it leaves, 0: all. */
	u64 trip_at, trip_bytes, last_trip_bytes, trip_asked, loss_window;
	struct dcpim_timer tok_timer;
	u64 rts_next;	 /* backing off from a silent sender */
	u32 rts_silent;
	u64 prompt_next;
	u64 rts_epoch, prompt_epoch;
	u8 rts_channels, prompt_channels, rts_round;
	u64 grant_epoch; /* received, to be looked at on the next round */
	u32 grant_channels, grant_remaining;
	struct dcpim_list grant_node;
	u64 accept_epoch[2]; /* to send: [0] regular, [1] prompt */

	/* as sender */
	u32 tx_wants; /* transfers to this peer that could use tokens */
	struct dcpim_promise promise[2];
	struct dcpim_list rts_node;
	u64 req_mine, req_theirs;
	u32 req_channels, req_remaining;
	u8 req_round;
	u64 grant_tx_epoch[2]; /* to send: [0] regular, [1] prompt; the receiver's epoch */
	u8 grant_tx_round[2];
	struct dcpim_list promise_node; /* grants not answered yet */
	u64 revoke_epoch;
};

struct dcpim_stateless {
	struct dcpim_path path;
	u16 sport, dport;
	u32 tag;
	u8 type, flags;
};

struct dcpim_host {
	struct dcpim_cfg cfg;
	const struct dcpim_ops *ops;
	void *ctx;
	struct dcpim_rand rand;
	u64 hash_key[2];
	struct dcpim_stats stats;
	u64 count[DCPIM_SLABS];

	u64 bdp, round_ns, epoch_ns, window, chan_bytes;
	u64 rate_q20; /* bytes per 2^20 ns */
	u64 chan_rate, chan_window; /* one channel's share of rate_q20 and window */
	u32 batch, payload_max;
	u64 short_threshold;

	struct dcpim_flow *last_flow; /* found last: packets come in runs */
	struct dcpim_flow **flow_hash;
	struct dcpim_peer **peer_hash;
	void **msg_hash; /* struct dcpim_txmsg * at even, rxmsg_state * at odd places */
	u32 flow_mask, peer_mask, msg_mask;
	struct dcpim_list flows, timewait, peers, listeners;
	u32 ntimewait;

	struct dcpim_heap timers, lenient; /* see dcpim_next_precise() */
	struct dcpim_list events, ctl;
	struct dcpim_list tx_unsched, tx_sched; /* struct dcpim_send */
	u32 tx_quantum;

	u64 phase_off, epoch, epoch_start; /* in virtual time: now + phase_off */
	u64 phase_jump_epoch;
	u64 least_ahead; /* of the last packets of peers, all ahead */
	u32 times_ahead;
	struct dcpim_slot rx_slot[2], tx_slot[2];
	struct dcpim_list want_peers, grant_peers, rts_peers, promise_peers;
	struct dcpim_timer recv_timer, send_timer;
	u64 tok_out;
	u64 spare_epoch, spare_used;
	u32 served; /* turns of transfers with equal remainders */
	u64 counted_epoch;

	struct dcpim_stateless stateless[DCPIM_STATELESS];
	u32 nstateless, stateless_head;
	u64 reply_at;
	u32 reply_tokens;
};

/* dcpim_host.c */
void *dcpim_alloc(struct dcpim_host *h, enum dcpim_slab slab, size_t size);
void dcpim_free(struct dcpim_host *h, enum dcpim_slab slab, void *p, size_t size);
void dcpim_timer_set(struct dcpim_host *h, struct dcpim_timer *t, u64 when);
void dcpim_timer_stop(struct dcpim_host *h, struct dcpim_timer *t);
static inline bool dcpim_timer_on(const struct dcpim_timer *t)
{
	return dcpim_heap_queued(&t->node);
}
static inline void dcpim_timer_init(struct dcpim_timer *t, u8 kind)
{
	dcpim_heap_node_init(&t->node);
	t->kind = kind;
}
void dcpim_ctl_init(struct dcpim_ctl *c, u8 owner);
void dcpim_ctl_set(struct dcpim_host *h, struct dcpim_ctl *c, u16 bits);
void dcpim_ctl_clear(struct dcpim_ctl *c, u16 bits);
void dcpim_event(struct dcpim_flow *f, u32 mask);
void dcpim_reply_reset(struct dcpim_host *h, u64 now, const struct dcpim_rxpkt *rx, const struct dcpim_pkt *p);
void dcpim_flow_reset(struct dcpim_flow *f); /* queue a RESET; the flow may go at once */
void dcpim_trace(struct dcpim_host *h, u64 now, u32 what, const struct dcpim_peer *peer, u64 a, u64 b);
struct dcpim_span *dcpim_span_new(struct dcpim_host *h, u64 start, u64 end);
void dcpim_span_free(struct dcpim_host *h, struct dcpim_span *s);
void dcpim_seg_free(struct dcpim_host *h, struct dcpim_seg *s);
struct dcpim_seg *dcpim_seg_new(struct dcpim_host *h, u64 off, const struct dcpim_buf *buf);
/*
 * Whether sending may take more of a slab. The last quarter is for receiving:
 * hosts full of what they want to send would wait for each other for ever.
 */
static inline bool dcpim_tx_room(const struct dcpim_host *h, enum dcpim_slab slab, u32 cap)
{
	return h->count[slab] < cap - cap / 4;
}

/* dcpim_peer.c */
/* The peer to connect to, or one that has just connected with this host tag; NULL without memory. */
struct dcpim_peer *dcpim_peer_to(struct dcpim_host *h, u64 now, const struct dcpim_path *path, u16 dport);
struct dcpim_peer *dcpim_peer_from(struct dcpim_host *h, u64 now, const struct dcpim_path *path, u32 rtag,
				   u16 host_port);
void dcpim_peer_attach(struct dcpim_peer *p, struct dcpim_flow *f);
void dcpim_peer_detach(struct dcpim_flow *f);
void dcpim_peer_adopt(struct dcpim_host *h, u64 now, struct dcpim_flow *f);
void dcpim_peer_timer(struct dcpim_host *h, u64 now, struct dcpim_peer *p);
void dcpim_peer_fail(struct dcpim_host *h, u64 now, struct dcpim_peer *p, int error);
void dcpim_rx_host(struct dcpim_host *h, u64 now, const struct dcpim_rxpkt *rx, const struct dcpim_pkt *p);
/* Largest packet that fits on the way to the flow's peer. */
u32 dcpim_flow_packet(const struct dcpim_flow *f);

/* dcpim_match.c */
void dcpim_match_sync(struct dcpim_host *h, u64 now);
void dcpim_match_rx(struct dcpim_host *h, u64 now, struct dcpim_peer *p, const struct dcpim_pkt *pkt);
void dcpim_match_recv_tick(struct dcpim_host *h, u64 now);
void dcpim_match_send_tick(struct dcpim_host *h, u64 now);
/* Something changed in what a peer could send us: get channels for it. */
void dcpim_match_want(struct dcpim_host *h, u64 now, struct dcpim_peer *p);
void dcpim_match_forget(struct dcpim_host *h, struct dcpim_peer *p);
u32 dcpim_match_channels(struct dcpim_host *h, struct dcpim_peer *p);
u32 dcpim_match_idle(struct dcpim_host *h);
void dcpim_match_used(struct dcpim_host *h, struct dcpim_info *info);
/* Fill in a matching packet. Return false when it is pointless by now. */
bool dcpim_match_fill(struct dcpim_host *h, u64 now, struct dcpim_peer *p, u16 bit, struct dcpim_pkt *pkt);

/* dcpim_token.c */
void dcpim_tokens_issue(struct dcpim_host *h, u64 now, struct dcpim_peer *p);
void dcpim_tokens_spare(struct dcpim_host *h, u64 now, struct dcpim_recv *r);
void dcpim_tokens_starved(struct dcpim_host *h, u64 now, struct dcpim_recv *r);
/* Heavy loss: @bytes have arrived, or are asked for again. */
void dcpim_loss_arrived(struct dcpim_host *h, u64 now, struct dcpim_flow *f, u64 bytes);
void dcpim_loss_asked(struct dcpim_host *h, u64 now, struct dcpim_flow *f, u64 bytes);
void dcpim_recv_account(struct dcpim_recv *r);

/* dcpim_send.c */
void dcpim_send_init(struct dcpim_send *s, struct dcpim_flow *f, u64 msg_id);
void dcpim_send_stop(struct dcpim_send *s);
void dcpim_send_fini(struct dcpim_send *s);
/* The transfer is more than goes unscheduled. */
void dcpim_send_is_long(struct dcpim_send *s);
/* The application has added bytes up to s->end. */
void dcpim_send_grown(struct dcpim_send *s, u64 now, u64 before);
/* Put on, move between or take off the transmit queues after any change. */
void dcpim_send_update(struct dcpim_send *s, u64 now);
void dcpim_send_ack(struct dcpim_send *s, u64 now, u64 rcv_nxt);
void dcpim_send_token(struct dcpim_send *s, u64 now, u64 rcv_nxt, u64 token_nxt, u64 rtx_end,
		      const struct dcpim_block *blocks, u32 nblocks);
void dcpim_send_timer(struct dcpim_send *s, u64 now);
/* Next DATA packet; false when there is none. */
bool dcpim_send_emit(struct dcpim_send *s, u64 now, struct dcpim_txpkt *tx, struct dcpim_pkt *p);
struct dcpim_ctl *dcpim_send_ctl(struct dcpim_send *s);
bool dcpim_send_fill(struct dcpim_send *s, struct dcpim_pkt *p); /* DEMAND or NOTIFICATION_MSG */
bool dcpim_send_append(struct dcpim_send *s, const struct dcpim_buf *buf);
u64 dcpim_flow_rto(const struct dcpim_flow *f);
/* A timer ran out on something that may have been on its way. */
void dcpim_flow_timed_out(struct dcpim_flow *f, u64 now);
void dcpim_flow_rtt(struct dcpim_flow *f, u64 rtt);
/* Most bytes this flow sends without tokens: own threshold, within the peer's wish. */
u64 dcpim_flow_unsched(const struct dcpim_flow *f);

/* dcpim_recv.c */
void dcpim_recv_init(struct dcpim_recv *r, struct dcpim_flow *f, u64 msg_id);
/* Leave the peer's sums and stop timers; what is readable stays. */
void dcpim_recv_stop(struct dcpim_recv *r);
void dcpim_recv_fini(struct dcpim_recv *r);
/* Returns new in-order bytes; negative errno when the packet was refused. */
int dcpim_recv_data(struct dcpim_recv *r, u64 now, u64 off, const struct dcpim_buf *payload);
void dcpim_recv_demand(struct dcpim_recv *r, u64 now, u64 known, bool more);
void dcpim_recv_probe(struct dcpim_recv *r, u64 now, u64 sent);
struct dcpim_ctl *dcpim_recv_ctl(struct dcpim_recv *r);
bool dcpim_recv_fill(struct dcpim_recv *r, u64 now, struct dcpim_pkt *p); /* TOKEN or TOKEN_MSG */
void dcpim_recv_timer(struct dcpim_recv *r, u64 now);
void dcpim_recv_arm(struct dcpim_recv *r, u64 now);
u64 dcpim_recv_limit(const struct dcpim_recv *r);

/* dcpim_flow.c */
struct dcpim_flow *dcpim_flow_find(struct dcpim_host *h, const struct dcpim_path *path, u16 sport, u16 dport);
void dcpim_flow_fail(struct dcpim_flow *f, u64 now, int error);
void dcpim_flow_free(struct dcpim_flow *f);
void dcpim_flow_timer(struct dcpim_flow *f, u64 now);
bool dcpim_flow_all_acked(const struct dcpim_flow *f);
/* The application has closed it and the peer has all that was sent: nothing but the end itself is to be told. */
bool dcpim_flow_delivered(const struct dcpim_flow *f);
/* Ended both ways: nothing is due from the peer, which may have forgotten it; what is left is to read and close. */
static inline bool dcpim_flow_over(const struct dcpim_flow *f)
{
	return (f->flags & FLOW_DRAINED) && (f->flags & FLOW_EOF_RAISED);
}
/* The peer has acknowledged something; not credible: what was never sent. Somebody forged data, or it lies. */
static inline void dcpim_flow_believe(struct dcpim_flow *f, bool credible)
{
	f->flags = (u16)(credible ? f->flags & ~FLOW_INCREDIBLE : f->flags | FLOW_INCREDIBLE);
}
/*
 * Whether the peer has answered since. Of ends that disagree about what was sent
 * neither makes progress any more, however well both answer.
 */
static inline bool dcpim_flow_answered(const struct dcpim_flow *f, u64 since)
{
	return f->peer->heard >= since && !(f->flags & FLOW_INCREDIBLE);
}
void dcpim_flow_ack_timer(struct dcpim_flow *f, u64 now);
void dcpim_flow_ack_later(struct dcpim_flow *f, u64 now);
void dcpim_flow_ack_now(struct dcpim_flow *f);
void dcpim_flow_acked(struct dcpim_flow *f); /* an acknowledgement is on its way */
/* Send FIN once everything before it has been sent. */
void dcpim_flow_try_fin(struct dcpim_flow *f, u64 now);
/* Whatever may follow from progress: FIN, FIN_ACK, EOF, end of the flow. */
void dcpim_flow_progress(struct dcpim_flow *f, u64 now);
void dcpim_flow_writable(struct dcpim_flow *f);
/* What the opening packets say. */
void dcpim_flow_take_syn(struct dcpim_flow *f, const struct dcpim_pkt *p);
void dcpim_flow_opened(struct dcpim_flow *f, u64 now, u32 event);
bool dcpim_flow_all_received(const struct dcpim_flow *f);
void dcpim_rx_open(struct dcpim_host *h, u64 now, const struct dcpim_rxpkt *rx, const struct dcpim_pkt *p);
void dcpim_flow_abort(struct dcpim_flow *f); /* reset and free */

/* dcpim_conn.c */
void dcpim_rx_flow(struct dcpim_host *h, u64 now, const struct dcpim_rxpkt *rx, const struct dcpim_pkt *p,
		   const u8 *payload);
bool dcpim_flow_fill(struct dcpim_flow *f, u64 now, u16 bit, struct dcpim_pkt *p);

/* dcpim_stream.c */
void dcpim_rx_data(struct dcpim_flow *f, u64 now, const struct dcpim_rxpkt *rx, const struct dcpim_pkt *p,
		   const u8 *payload);

/* dcpim_msg.c */
void dcpim_msgs_init(struct dcpim_flow *f);
void dcpim_msgs_fini(struct dcpim_flow *f);
void dcpim_msgs_stop(struct dcpim_flow *f);
void dcpim_rx_msg(struct dcpim_flow *f, u64 now, const struct dcpim_rxpkt *rx, const struct dcpim_pkt *p,
		  const u8 *payload);
void dcpim_msg_recv_done(struct dcpim_recv *r, u64 now);
void dcpim_msg_send_done(struct dcpim_send *s, u64 now);
u32 dcpim_msg_blocks(const struct dcpim_flow *f, struct dcpim_block *b, u32 max);
void dcpim_msg_ack(struct dcpim_flow *f, u64 now, u64 cum);

#endif
