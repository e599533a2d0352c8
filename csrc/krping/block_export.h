/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * block_export.h: the inside of an exporter. One loop on one thread takes requests of
 * all links (connections of NBD servers), does at once what can be done at once, and
 * hands the rest to the pool. A request is a receive buffer and what becomes of the
 * message in it: it takes the next message when its answer has arrived.
 */
#ifndef RACKWIRE_KRPING_BLOCK_EXPORT_H
#define RACKWIRE_KRPING_BLOCK_EXPORT_H

#include "block_slab.h"
#include "block_store.h"
#include "clock.h"
#include "shared_stats.h"

#define EXPORT_LINKS 64
#define EXPORT_CHUNK (128u << 10)
#define EXPORT_LINK_BYTES (1u << 20) /* about: of receive buffers */
#define EXPORT_BATCH 32
#define EXPORT_CQ 65536
#define EXPORT_TICK_NS 100000000ull
#define EXPORT_SILENCE_NS (15 * RACKWIRE_NS_PER_S) /* of a link with nothing under way, then it is given up */
#define EXPORT_ACCEPT_NS (10 * RACKWIRE_NS_PER_S)

struct export_link;

struct export_request {
	struct block_job job;
	struct export_link *link;
	uint32_t index;
	struct block_request r;
	uint8_t *message; /* receive buffer */
	uint8_t *answer;  /* what is sent, BLOCK_ABOUT_LEN */
	uint8_t *data;	  /* where the data is */
	uint32_t lkey;	  /* of it */
	uint8_t *chunk;	  /* of the slab, NULL: none */
	struct export_request *next; /* that waits for a chunk */
};

enum link_state {
	LINK_HELD, /* its client's former link has to end first */
	LINK_ACCEPTED,
	LINK_READY,
	LINK_OVER, /* only the pool knows of it still */
};

struct export_link {
	struct rackwire_krping_exporter *exporter;
	struct rdma_id *id;
	struct rdma_qp *qp;
	uint32_t index, gen;
	uint8_t state;
	uint32_t depth, eager, slots; /* slots: 2 * depth requests */
	uint32_t jobs, under_way;
	uint64_t heard_at, deadline;
	uint8_t client[BLOCK_ID];
	uint8_t responder_resources, initiator_depth;
	uint32_t message_bytes;
	uint8_t *memory;
	uint64_t memory_bytes;
	struct rdma_mr *mr;
	struct export_request *requests;
	/* To be posted together. */
	struct rackwire_roce_send_wr wr[EXPORT_BATCH];
	struct rackwire_roce_sge sge[EXPORT_BATCH];
	uint32_t nwr;
};

struct rackwire_krping_exporter {
	struct rackwire_krping_export_config config;
	const struct rdma_provider *ops;
	struct rdma_dev *dev;
	struct rdma_dev_info info;
	struct rdma_cq *cq;
	uint32_t cq_used, cq_size;
	struct rdma_id *listener;
	uint16_t port;
	struct block_slab slab;
	struct block_pool *pool;
	struct block_store *stores[RACKWIRE_KRPING_EXPORTS];
	uint32_t nstores;
	struct rackwire_stats stats;
	int stop; /* atomic */
	bool ran, dead, held; /* some link is LINK_OVER, LINK_HELD */
	struct export_link *links[EXPORT_LINKS];
	uint32_t gen, nlinks;
	struct export_request *hungry, **hungry_last; /* for a chunk */
	uint64_t next_tick;
};

static inline void export_count(struct rackwire_krping_exporter *x, uint32_t counter, uint64_t amount)
{
	rackwire_stats_add(&x->stats, counter, amount);
}

/* ---- block_export_link.c ---- */

void link_request(struct rackwire_krping_exporter *x, const struct rdma_event *event);
void link_event(struct rackwire_krping_exporter *x, const struct rdma_event *event);
/* Ends it: nothing of its peer's is executed any more, but for what the pool has begun. */
void link_kill(struct export_link *l);
/* Takes down what is over and lets in who waited for that. */
void link_bury(struct rackwire_krping_exporter *x);
void link_tick(struct export_link *l, uint64_t now);
struct export_link *link_of(struct rackwire_krping_exporter *x, uint64_t wr_id);

enum link_tag { LINK_TAG_RECV, LINK_TAG_READ, LINK_TAG_ANSWER };
static inline uint64_t link_wr_id(const struct export_link *l, enum link_tag tag, uint32_t index)
{
	return (uint64_t)l->gen << 32 | l->index << 24 | (uint32_t)tag << 16 | index;
}
/* Room for one more work request, sent with the next link_post(). */
struct rackwire_roce_send_wr *link_wr(struct export_link *l, enum link_tag tag, uint32_t index, const void *data,
				      uint32_t length, uint32_t lkey);
void link_post(struct export_link *l);
int link_receive(struct export_link *l, uint32_t first, uint32_t count);

/* ---- block_export_request.c ---- */

void request_complete(struct export_link *l, const struct rackwire_roce_wc *wc);
void request_finished(struct export_request *q); /* by the pool */
void request_release(struct export_request *q);
void request_feed(struct rackwire_krping_exporter *x); /* chunks to who waits for them */

#endif
