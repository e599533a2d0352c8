/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two devices with one connected queue pair each, for tests of the transport
 * that look at or change single packets. Time moves only when a test says so.
 */
#ifndef TRANSPORT_PAIR_H
#define TRANSPORT_PAIR_H

#include "roce/core/roce.h"
#include "roce/core/roce_wire.h"

#define BUFFER (1u << 20)
#define WC_MAX 256 /* all a test may collect */

#define CHECK(cond)                                                                             \
	do {                                                                                    \
		if (!(cond))                                                                    \
			pair_fail(__FILE__, __LINE__, #cond);                                   \
	} while (0)

void pair_fail(const char *file, int line, const char *what);

struct side {
	struct roce_dev *dev;
	struct roce_pd *pd;
	struct roce_cq *scq, *rcq;
	struct roce_qp *qp;
	struct roce_mr *mr;
	u8 *buf; /* BUFFER bytes, all of them in mr */
	struct rackwire_roce_wc send[WC_MAX], recv[WC_MAX]; /* completions so far */
	u32 nsend, nrecv;
	u32 qp_errors, cq_events;
	int error;
};

/* One packet on its way. */
struct wire_pkt {
	u8 data[ROCE_PACKET_MAX];
	u32 len;
	u8 ecn;
	u32 from;
	struct roce_pkt h; /* decoded */
};

enum verdict { PASS, DROP, TWICE };

struct pair {
	u64 now;
	struct side side[2];
	struct roce_cfg cfg;
	struct roce_qp_link link[2]; /* before connecting: what to use */
	struct rackwire_roce_qp_attr attr;
	u32 cq_entries;
	enum verdict (*filter)(struct pair *p, struct wire_pkt *pkt);
	u64 count; /* for the filter's use */
	u32 batch;   /* packets before this one since the other side had its turn */
	u64 packets; /* carried */
	u64 allocated;
};

void pair_defaults(struct pair *p);
void pair_open(struct pair *p);
void pair_close(struct pair *p);

/* Carries packets and collects completions and events until all is still at this time. */
void pair_settle(struct pair *p);
/* The same, time moving on to each deadline, for @ns. */
void pair_run(struct pair *p, u64 ns);
/* A packet by hand to @to, as if from the other side. */
void pair_inject(struct pair *p, u32 to, struct roce_pkt *h, const u8 *payload, u32 len);

/* Posts one request over @len bytes at offset @off of the side's buffer. */
void pair_recv(struct pair *p, u32 side, u64 id, u32 off, u32 len);
struct rackwire_roce_send_wr pair_wr(u32 opcode, u64 id);
/* @remote: offset in the other side's buffer. Return: of roce_post_send(). */
int pair_send(struct pair *p, u32 side, struct rackwire_roce_send_wr wr, u32 off, u32 len, u32 remote);
void pair_fill(struct pair *p, u32 side, u32 off, u32 len, u64 seed);
bool pair_same(struct pair *p, u32 off0, u32 off1, u32 len);

#define OK(wc, id) ((wc).status == RACKWIRE_ROCE_WC_SUCCESS && (wc).wr_id == (id))

/* 31 bits that follow from p->count. */
u64 pair_dice(struct pair *p);

struct test {
	const char *name;
	void (*run)(void);
};
int run_tests(const struct test *tests, u32 n);

#endif
