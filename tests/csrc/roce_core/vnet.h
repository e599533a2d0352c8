/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A network in virtual time for tests of the RoCEv2 core: devices around one
 * switch, with finite queues that mark and drop, loss, duplication, reordering,
 * corruption, outages, clocks that differ, and devices that die and come back.
 * Packets carry their ICRC, and the receiving driver checks it. Everything
 * follows from one seed.
 */
#ifndef VNET_H
#define VNET_H

#include "roce/core/roce.h"
#include "roce/core/roce_icrc.h"

#define VNET_MAX_HOSTS 8
#define USEC 1000ull
#define MSEC 1000000ull
#define SEC 1000000000ull
#define GBIT 1000000000ull

struct vrng {
	u64 state;
};

u64 vrand(struct vrng *r);
/* Uniform in lo..hi, both included. */
u64 vrange(struct vrng *r, u64 lo, u64 hi);
/* Log-uniform in lo..hi; lo > 0. */
u64 vrange_log(struct vrng *r, u64 lo, u64 hi);
bool vchance(struct vrng *r, u32 ppm);

/* Byte @offset of the content named @seed. */
void vpattern_fill(u64 seed, u64 offset, u8 *out, u32 len);

struct vnet;

/* One direction between two devices. */
struct vlink {
	u64 delay_ns; /* from wire to wire, without serialisation */
	u32 loss_ppm, dup_ppm, reorder_ppm, corrupt_ppm;
	u64 reorder_ns; /* most extra delay of a reordered packet or a duplicate */
	bool down;
};

struct vhost_cfg {
	struct roce_cfg roce;
	u64 rate_bps;	/* of the wire to the switch and back */
	u32 nic_queue;	/* bytes the driver hands to the wire in advance */
	u32 port_queue; /* bytes waiting at the switch for this device; the rest is dropped */
	u32 ecn_low, ecn_high; /* bytes waiting there: none is marked below, all are above; 0: no marking */
	s64 clock_offset_ns;
	s32 clock_ppm;
	u64 timer_slop_ns; /* ticks come up to this much late */
};

/* What one device has allocated. */
struct vmem {
	u64 count[ROCE_SLABS], bytes[ROCE_SLABS];
	size_t size[ROCE_SLABS];
	u64 allocs;		   /* ever */
	u64 total, peak;	   /* bytes */
	u64 fail_from, fail_count; /* allocations number fail_from .. + fail_count fail */
	struct vrng fail_rng;
	u32 fail_ppm;
};

struct vhost {
	struct vnet *net;
	u32 index;
	u32 life; /* counts restarts */
	struct vhost_cfg cfg;
	struct roce_dev *core; /* NULL: dead */
	struct vmem mem;
	u64 wake; /* virtual time of the next tick */
	u64 nic_free, port_free, nic_wake;
	bool dirty;
	u64 tick_at;
	u32 ticks_at; /* ticks at one instant, to notice a core that spins */
	u64 tx_packets, tx_bytes, rx_packets; /* of this life */
	u64 bad_icrc, port_drops, port_marks, link_drops, corrupted;
	u64 last_tx;
	void *user;
};

struct vpkt {
	u32 refs;
	u32 src, dst; /* indices; src is what the addresses say */
	bool corrupt, forged;
	u8 ecn;
	u16 ip_id;
	u32 len; /* BTH .. ICRC */
	u8 data[];
};

struct vnet_ops {
	void (*event)(struct vhost *h, const struct roce_event *ev);
	/* Sees each packet a device sends; false: drop it. */
	bool (*sent)(struct vhost *h, const struct vpkt *pkt, const struct roce_txpkt *tx);
	/* Sees each packet with a right ICRC just before a core gets it; false: drop it. */
	bool (*delivering)(struct vhost *h, const struct vpkt *pkt);
	/* Events were taken; what is called here may lead to more. True: something was. */
	bool (*served)(struct vhost *h);
	/* The core of @h is about to be destroyed by vnet_kill(). */
	void (*dying)(struct vhost *h);
};

struct vnet {
	u64 seed;
	struct vrng rng;
	u64 now;
	bool v6;
	u32 nhosts;
	struct vhost hosts[VNET_MAX_HOSTS];
	struct vlink links[VNET_MAX_HOSTS][VNET_MAX_HOSTS]; /* [from][to] */
	struct roce_flow flows[VNET_MAX_HOSTS][VNET_MAX_HOSTS];
	struct vnet_ops ops;
	void *user;
	struct ventry *heap;
	u32 heap_len, heap_cap;
	u64 order;
	u64 packets; /* all devices, sent */
	u64 launched, delivered, vanished; /* packets and copies of them: came to be, reached a driver, did not */
	u64 steps;
	u64 hash; /* of all that was sent and when */
	bool forged; /* somebody who knows everything sends, too: content proves nothing */
	bool verbose;
	bool failed;
	char why[400];
};

/* Parameters that make sense on a network of this rate and one-way delay. */
void vnet_default_cfg(struct vhost_cfg *cfg, u64 rate_bps, u32 mtu);

void vnet_init(struct vnet *net, u64 seed);
/* Adds a device with links of @delay_ns to and from all others. */
struct vhost *vnet_add(struct vnet *net, const struct vhost_cfg *cfg, u64 delay_ns);
/* Destroys all cores, checks that nothing of theirs is left and that no packet came from nowhere. */
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

/* The time on a device's own clock, which is what its core is told. */
u64 vhost_clock(const struct vhost *h);
void vnet_addr(const struct vnet *net, u32 index, u8 addr[16]);
u32 vnet_index(const struct vnet *net, const u8 addr[16]); /* ~0: no such device */
struct roce_path vnet_path(const struct vnet *net, u32 local, u32 peer);
/* To be called after calls into a core from outside of event(): its events and packets are taken. */
void vhost_touch(struct vhost *h);

/* Sends bytes of our own making, BTH to pad, with a right ICRC, as if they came from @from. */
void vnet_inject(struct vnet *net, u32 from, u32 to, const void *data, u32 len);
/* The same, handed to the driver of @to at once. */
void vnet_inject_now(struct vnet *net, u32 from, u32 to, const void *data, u32 len);

/* RACKWIRE_SEED, or @fallback. */
u64 vnet_env_seed(u64 fallback, bool *given);
/* A number out of the environment, or @fallback. */
u64 vnet_env(const char *name, u64 fallback);

#endif
