/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Applications on the virtual network, and what must be true of them: each
 * byte and each message arrives once, in order, intact, and every connection
 * comes to the end its plan implies.
 */
#ifndef VAPP_H
#define VAPP_H

#include "vnet.h"

enum vend {
	VEND_SHUTDOWN,	  /* shut down after the last byte; close when the peer's end has been read too */
	VEND_CLOSE,	  /* close right after the last byte */
	VEND_KEEP,	  /* stay open */
	VEND_ABORT_SENT,  /* abort after end_at bytes or messages were given to the core */
	VEND_CLOSE_READ,  /* close after end_at bytes or messages were read */
};

/* What one end of a connection will do. */
struct vplan {
	u64 total;	    /* stream bytes to send */
	u32 chunk_min, chunk_max;
	u32 msgs;	    /* messages to send */
	u32 msg_min, msg_max;
	u64 write_gap_ns;   /* between writes; 0: as fast as the core takes them */
	u64 start_ns;	    /* first write after connecting or accepting */
	u32 read_max;	    /* bytes (streams) or messages read at a time; 0: all there is */
	u64 read_gap_ns;    /* between reads; 0: whenever there is something */
	u64 stall_ns;	    /* no read before this long after opening */
	enum vend end;
	u64 end_at;
	bool quiet_msgs;    /* DCPIM_MSG_QUIET */
};

struct vmsg {
	u64 id;
	u32 size;
	bool sent, acked, received;
};

struct vconn;

struct vside {
	struct vconn *conn;
	u32 who; /* 0: connects, 1: accepts */
	struct vhost *host;
	u32 life; /* of the host when the flow was made */
	struct dcpim_flow *flow; /* NULL: none yet or no more */
	struct vplan plan;
	struct vmsg *msgs; /* plan.msgs of those this side sends */
	u32 msgs_sent, msgs_acked, msgs_read;
	u64 tx_done, rx_done;
	u64 opened_at, error_at, last_read_at;
	u64 timer; /* time of the one pending call, DCPIM_NEVER: none */
	u64 next_write, next_read, read_from;
	bool opened; /* connected or accepted */
	bool writable_due, shut, eof, drained, closed, died;
	int error;
};

struct vconn {
	u32 index;
	u64 seed;
	enum dcpim_kind kind;
	u16 sport, dport;
	struct vside side[2];
	u64 start_at;
	bool started;
	bool expect_refused; /* nobody listens: connecting has to fail */
	bool expect_broken;  /* hosts die or the network does not heal in time: errors are in order */
};

struct vapp {
	struct vconn **conns;
	u32 nconns, cap;
	u64 rx_bytes, rx_msgs; /* delivered and checked */
	u64 strays;	/* flows accepted that no connector knows any more */
	bool allow_nomem; /* allocations fail in this run */
	bool forged;	  /* somebody who knows the tags sends too: content proves nothing */
};

/* Installs itself as the network's event handler; @net->user points to the app. */
void vapp_init(struct vapp *app, struct vnet *net);
void vapp_fini(struct vapp *app);
/* Accept both kinds on @port of a host. */
void vapp_listen(struct vhost *h, u16 port);
/* Plans a connection; it opens at @start_at. Fill in the plans before that time comes. */
struct vconn *vapp_add(struct vnet *net, enum dcpim_kind kind, u32 from, u32 to, u16 dport, u64 start_at);

static inline struct vapp *vapp_of(struct vnet *net)
{
	return net->user;
}

/* Neither end plans to cut the connection short: all that is planned has to arrive. */
bool vconn_clean(const struct vconn *c);
/* Both ends have received everything and closed, as far as planned; or it has failed where it may. */
bool vconn_done(const struct vconn *c);
bool vapp_done(struct vnet *net);
/* Every byte and message of all connections was delivered (closing may still go on). */
bool vapp_delivered(struct vnet *net);
/* Fails the run when a connection did not come to the end its plan implies. */
void vapp_check_ends(struct vnet *net);
/* Closes whatever is still open. */
void vapp_close_all(struct vnet *net, bool abort);
void vside_close(struct vside *s, bool abort);
/* The plan of a side has changed: goes on with it now. */
void vapp_poke(struct vside *s);

/* The core's own bounds, for vnet_ops.served: channels, tokens, buffers, caps. */
void vcheck_bounds(struct vhost *h);
/* After everything was closed and time has passed: no memory beyond what a fresh host has. */
void vcheck_nothing_left(struct vhost *h, bool peers_too);
/* Runs @ns more and fails when a host sends anything but keep-alive. */
void vcheck_silent(struct vnet *net, u64 ns);

#endif
