/* SPDX-License-Identifier: BSD-2-Clause */
/* A small stage for tests of single behaviours: devices, their memory, queue pairs between them, and the wire. */
#ifndef SCENE_H
#define SCENE_H

#include "tap.h"
#include "vnet.h"

#define SCENE_MEM (256u << 10)
#define SCENE_ALL (RACKWIRE_ROCE_LOCAL_WRITE | RACKWIRE_ROCE_REMOTE_WRITE | RACKWIRE_ROCE_REMOTE_READ | RACKWIRE_ROCE_REMOTE_ATOMIC)
#define SCENE_QPS 64

struct sqp;

/* One device: all of its memory is one region with every right. */
struct sdev {
	struct vhost *h;
	struct roce_pd *pd;
	struct roce_cq *cq;
	struct roce_mr *mr;
	u32 key; /* of it, also when the device is dead */
	u8 mem[SCENE_MEM] __attribute__((aligned(64)));
	u32 cq_events;
	struct roce_cm_id *requests[256]; /* nobody has answered */
	u32 nrequests, cm_events[8];
	struct roce_event last_cm;
	u32 qp_errors;
	int qp_error;
};

/* A queue pair and where its peer is. */
struct sqp {
	struct sdev *dev;
	struct roce_qp *qp;
	u32 num, peer_num, peer;
};

extern struct vnet net;
extern struct sdev devs[VNET_MAX_HOSTS];

/* Packets from a device whose opcode is counted here are dropped that many more times. */
extern u32 scene_drop[VNET_MAX_HOSTS][256];
/* Looks at each packet before it is sent; false: drop it. NULL: none. */
extern bool (*scene_watch)(struct vhost *h, const struct vpkt *pkt);
/* The last packet of each opcode that a device has sent, and how many. */
extern struct roce_pkt scene_last[VNET_MAX_HOSTS][256];
extern u32 scene_count[VNET_MAX_HOSTS][256];
extern bool scene_cm; /* answer connection requests by hand: they stay in requests[] */

/* 10 Gb/s, 5 us each way, path MTU 1024. */
struct vhost_cfg scene_cfg(void);
void scene_start(u64 seed, u32 hosts, const struct vhost_cfg *cfg);
/* Destroys everything; what failed is left in net.why. */
void scene_end(void);

/* The defaults for connect(): retries 7 and 7, timeout code 8 (1 ms), RNR timer code 1, depths 4. */
struct roce_qp_link scene_link(void);
/* Two queue pairs of @attr (NULL: 64 requests each way, everything allowed) between two devices. */
void scene_connect(struct sqp *a, u32 from, struct sqp *b, u32 to, const struct rackwire_roce_qp_attr *attr,
		   const struct roce_qp_link *link);

struct sop {
	u32 opcode, flags; /* flags beside SIGNALED, which is always set unless quiet is */
	u32 local, len;	   /* offset into the device's memory */
	u32 lkey;	   /* 0: the device's region */
	u64 remote;	   /* address; 0: the same offset at the peer */
	u32 rkey;	   /* 0: the peer's region */
	u64 compare_add, swap;
	u32 ex;
	bool quiet;
};

int scene_post(struct sqp *q, u64 wr_id, struct sop op);
int scene_recv(struct sqp *q, u64 wr_id, u32 local, u32 len);
/* Runs until the device has a completion, at most @ns; its status, or ~0 when none came. */
u32 scene_wait(struct sdev *d, u64 ns, struct rackwire_roce_wc *wc);
/* Posts and waits a second for the completion; its status, or ~0. */
u32 scene_do(struct sqp *q, struct sop op);
void scene_run(u64 ns);
static inline u64 scene_addr(const struct sdev *d, u32 at)
{
	return (uintptr_t)d->mem + at;
}
static inline u32 scene_key(const struct sdev *d)
{
	return d->key;
}
struct rackwire_roce_qp_stats scene_qp_stats(const struct sqp *q);
struct rackwire_roce_dev_stats scene_stats(u32 host);
struct roce_info scene_info(u32 host);

/* A packet with its fields, as if @from had sent it to @to; it is delivered at once. */
void scene_inject(u32 from, u32 to, const struct roce_pkt *p, const void *payload, u32 len);

/* Ends the test with the network's own reason when something went wrong there. */
#define SCENE_OK()                                    \
	do {                                          \
		if (net.failed) {                     \
			tap_failed = net.why;         \
			tap_failed_line = __LINE__;   \
			return;                       \
		}                                     \
	} while (0)

#define SCENE_END()           \
	do {                  \
		scene_end();  \
		SCENE_OK();   \
	} while (0)

#endif
