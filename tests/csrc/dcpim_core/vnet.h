/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A network in virtual time for tests of the dcPIM core: hosts around one
 * switch, with finite queues, loss, duplication, reordering, corruption,
 * partitions, clocks that differ, and hosts that die and come back. Everything
 * follows from one seed.
 */
#ifndef VNET_H
#define VNET_H

#include "dcpim/core/dcpim.h"

#define VNET_MAX_HOSTS 16
/* The hosts' port in the layer below; 0 as directly on IP. Change it before hosts are added. */
extern u16 vnet_port;
#define USEC 1000ull
#define MSEC 1000000ull
#define SEC 1000000000ull

struct vrng {
	u64 state;
};

u64 vrand(struct vrng *r);
/* Uniform in lo..hi, both included. */
u64 vrange(struct vrng *r, u64 lo, u64 hi);
/* Log-uniform in lo..hi; lo > 0. */
u64 vrange_log(struct vrng *r, u64 lo, u64 hi);
bool vchance(struct vrng *r, u32 ppm);

struct vnet;

/* One direction between two hosts. */
struct vlink {
	u64 delay_ns; /* from wire to wire, without serialisation */
	u32 loss_ppm, dup_ppm, reorder_ppm, corrupt_ppm;
	u64 reorder_ns;	 /* most extra delay of a reordered packet or a duplicate */
	u32 mtu;	 /* larger dcPIM packets are dropped and the sender is told; 0: no limit */
	bool down;
};

struct vhost_cfg {
	struct dcpim_cfg dcpim;
	u64 rate_bps;	   /* of the wire to the switch and back */
	u32 nic_queue;	   /* bytes the driver hands to the wire in advance */
	u32 port_queue;	   /* bytes waiting at the switch for this host; the rest is dropped */
	s64 clock_offset_ns;
	s32 clock_ppm;
	u64 timer_slop_ns; /* ticks come up to this much late */
	bool copy_on_hold; /* ops->hold copies instead of taking a reference */
	bool split_rx;	   /* header and payload are handed over in separate memory */
};

/* What one host has allocated. */
struct vmem {
	u64 count[DCPIM_SLABS], bytes[DCPIM_SLABS];
	u64 freed[DCPIM_SLABS]; /* ever */
	size_t size[DCPIM_SLABS];
	u64 allocs;	   /* ever */
	u64 holds;	   /* references on payload now, received ones and those to send */
	u64 held_rx_bytes; /* of which received */
	u64 fail_from, fail_count; /* allocations number fail_from .. + fail_count fail */
	struct vrng fail_rng;
	u32 fail_ppm;
};

struct vhost {
	struct vnet *net;
	u32 index;
	u32 life; /* counts restarts */
	struct vhost_cfg cfg;
	struct dcpim_host *core; /* NULL: dead */
	struct vmem mem;
	u64 wake; /* virtual time of the next tick */
	u64 nic_free, port_free, nic_wake;
	bool dirty;
	u64 tick_at;
	u32 ticks_at; /* ticks at one instant, to notice a core that spins */
	u64 tx_packets, tx_bytes;
	u64 port_drops, link_drops, corrupted;
	u64 port_peak; /* most bytes that ever waited at the switch for this host */
	u64 last_tx;   /* virtual time of the last packet other than keep-alive */
	void *user;
};

struct vpkt {
	u32 refs;
	u32 src, dst; /* host indices */
	struct dcpim_path from;
	bool corrupt;
	u32 len;
	u8 data[];
};

/* Payload memory that a core holds. */
struct vhold {
	struct vhost *host;
	struct vpkt *pkt; /* NULL: bytes follow */
	bool rx;
	const u8 *ptr;
	u32 len;
	u8 bytes[];
};

struct vnet_ops {
	void (*event)(struct vhost *h, const struct dcpim_event *ev);
	/* Sees each packet a host sends; false: drop it. */
	bool (*sent)(struct vhost *h, const struct vpkt *pkt, const struct dcpim_pkt *p);
	/* Sees each packet just before a core gets it; false: drop it. */
	bool (*delivering)(struct vhost *h, const struct vpkt *pkt, const struct dcpim_pkt *p, int decoded);
	/* After each batch of calls on one host. */
	void (*served)(struct vhost *h);
	/* The core of @h is about to be destroyed by vnet_kill(). */
	void (*dying)(struct vhost *h);
	void (*trace)(struct vhost *h, u32 what, const struct dcpim_path *peer, u64 a, u64 b);
};

struct vnet {
	u64 seed;
	struct vrng rng;
	u64 now;
	u32 nhosts;
	struct vhost hosts[VNET_MAX_HOSTS];
	struct vlink links[VNET_MAX_HOSTS][VNET_MAX_HOSTS]; /* [from][to] */
	struct vnet_ops ops;
	void *user;
	struct ventry *heap;
	u32 heap_len, heap_cap;
	u64 order;
	u64 packets; /* all hosts, sent */
	u64 steps;
	bool verbose;
	bool failed;
	char why[400];
};

/* Parameters that make sense on a network of this rate and one-way delay. */
void vnet_default_cfg(struct vhost_cfg *cfg, u64 rate_bps, u64 one_way_ns, u32 max_packet);

void vnet_init(struct vnet *net, u64 seed);
/* Adds a host with links of @delay_ns to and from all others; returns its index. */
struct vhost *vnet_add(struct vnet *net, const struct vhost_cfg *cfg, u64 delay_ns);
/* Destroys all cores and checks that nothing of theirs is left. */
void vnet_fini(struct vnet *net);

/* The first failure is kept; running stops there. */
void vnet_fail(struct vnet *net, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Runs one instant; false when nothing is left to do up to @until. */
bool vnet_step(struct vnet *net, u64 until);
/* Runs until @until; false after a failure. */
bool vnet_run(struct vnet *net, u64 until);
/* Runs until @done says so; false after a failure or when @until has passed first. */
bool vnet_run_until(struct vnet *net, u64 until, bool (*done)(struct vnet *net));
/* Calls @fn at a time. */
void vnet_at(struct vnet *net, u64 at, void (*fn)(struct vnet *net, void *arg, u64 tag), void *arg, u64 tag);

void vnet_kill(struct vhost *h);
bool vnet_boot(struct vhost *h); /* false: out of memory by injection */
void vnet_each_link(struct vnet *net, void (*fn)(struct vlink *l, void *arg), void *arg);

/* The time on a host's own clock, which is what its core is told. */
u64 vhost_clock(const struct vhost *h);
struct dcpim_path vnet_path(u32 index);
u32 vnet_index(const struct dcpim_path *path); /* ~0: no such host */
/* To be called after calls into a core from outside of event(): its events and packets are taken. */
void vhost_touch(struct vhost *h);

/* Sends a packet of our own making as if it came from @from. */
void vnet_inject(struct vnet *net, u32 from, u32 to, const void *data, u32 len);
void vnet_inject_pkt(struct vnet *net, u32 from, u32 to, const struct dcpim_pkt *p, const void *payload,
		     u32 payload_len);

/* A buffer to send with room for @len bytes; given to the core by dcpim_send(). */
struct vhold *vhold_new(struct vhost *h, u32 len);
void vhold_drop(struct vhold *hold);
struct dcpim_buf vhold_buf(struct vhold *hold);

/* Byte @offset of the content named @seed. */
void vpattern_fill(u64 seed, u64 offset, u8 *out, u32 len);
bool vpattern_check(u64 seed, u64 offset, const u8 *data, u32 len);

/* RACKWIRE_SEED, or @fallback. */
u64 vnet_env_seed(u64 fallback, bool *given);

#endif
