/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A connection manager on a bench: the device and the transport it needs are
 * stand-ins that record what they are told. A test plays the peer by hand with
 * give() and take(), or connects several devices through schedule_test.c's network.
 */
#ifndef ROCE_CM_BENCH_H
#define ROCE_CM_BENCH_H

#include "roce/core/roce_priv.h"
#include "roce/core/roce_wire.h"

#define MSEC 1000000ull
#define SEC 1000000000ull

struct roce_dev {
	struct roce_cfg cfg;
	struct rackwire_roce_dev_stats stats;
	struct roce_cm_dev *cm;
	u8 addr[16];
	u64 rng;
	u64 allocs, bytes, fail_in; /* fail_in: the so many-th allocation from now fails; 0: none */
	u32 next_qpn;
	u64 now;
};

struct roce_qp {
	struct roce_dev *d;
	struct roce_cm_id *cm;
	u32 num, state;
	u32 connects, errors;
	int refuse; /* what roce_qp_connect() returns */
	struct roce_qp_link link;
};

u64 bench_rand(u64 *rng);

/* A device with CM at 10.0.0.@n (or fd00::@n). */
void dev_open(struct roce_dev *d, u32 n, u64 seed);
void dev_open_with(struct roce_dev *d, u32 n, u64 seed, const struct roce_cfg *cfg);
void dev_cfg(struct roce_cfg *cfg);
/* Return: whether all memory was given back. */
bool dev_close(struct roce_dev *d);
void addr4(u8 addr[16], u32 n);
void addr6(u8 addr[16], u32 n);

struct roce_qp *qp_new(struct roce_dev *d);
void qp_free(struct roce_qp *qp);

void path_to(struct roce_path *path, const u8 local[16], const u8 peer[16]);

/* The next message that the CM sends, decoded (into static memory); NULL: none. */
struct roce_cm *take(struct roce_dev *d);
extern u8 taken[ROCE_MAD_LEN];
extern struct roce_path taken_path;
/* @m arrives from 10.0.0.@from, or by a path of the test's. */
void give(struct roce_dev *d, u32 from, const struct roce_cm *m);
void give_path(struct roce_dev *d, const struct roce_path *path, const struct roce_cm *m);

/* The next event; NULL: none. Its private data stays valid until the next call. */
struct roce_event *event(struct roce_dev *d);
/* Time goes on to @now, tick by tick as the deadlines say. */
void run_to(struct roce_dev *d, u64 now);

/* A REQ of a peer at 10.0.0.@from for @d, as rdma_cm makes it, with private data "hello". */
void make_req(struct roce_cm *m, const struct roce_dev *d, u32 from, u16 port, u32 comm_id, u32 qpn);
void make_req_path(struct roce_cm *m, const struct roce_path *path, u16 port, u32 comm_id, u32 qpn);

extern const struct rackwire_roce_conn_param plain; /* depths 4 and 2, retries 7 and 6 */

#endif
