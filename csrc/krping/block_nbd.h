/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * block_nbd.h: the inside of the NBD server. One loop on one thread takes NBD requests
 * from its clients' sockets, cuts them into pieces that the exporter takes, sends
 * those over the link, and replies when all pieces of a request are done. The data of
 * a piece is in a chunk of registered memory: the socket is read into it and written
 * from it. NBD is that of doc/proto.md of the nbd project, cited as [NBD].
 *
 * Memory is bounded: a piece with data needs a chunk, and a client that gets none is
 * not read from. Every client has a number of chunks to itself, so that none can take
 * them all.
 */
#ifndef RACKWIRE_KRPING_BLOCK_NBD_H
#define RACKWIRE_KRPING_BLOCK_NBD_H

#include "block_slab.h"
#include "block_wire.h"
#include "clock.h"
#include "rackwire_krping_block.h"
#include "shared_stats.h"

#define NBD_CHUNK (128u << 10)
#define NBD_MIN_CHUNK (64u << 10)
#define NBD_MAX_REQUEST (32u << 20)
#define NBD_CLIENT_REQUESTS 256 /* unanswered ones of a client, then it is not read from */
#define NBD_REQUEST_LEN 28
#define NBD_RX 8192
#define NBD_TX 4096 /* of the handshake */
#define NBD_OPTIONS 1024 /* a client may send, then it is dropped */
#define NBD_HANDSHAKE_NS (30 * RACKWIRE_NS_PER_S)
#define NBD_BATCH 32
#define NBD_TICK_NS 100000000ull

struct nbd_client;
struct nbd_request;

/* Something to be sent to a client: a header, and data out of a chunk. Part of a piece or a request. */
struct nbd_out {
	struct nbd_out *next;
	struct nbd_request *request;
	struct nbd_piece *piece; /* whose data; or NULL */
	uint32_t head_length, length;
	uint8_t head[40];
	uint8_t *data;
};

struct nbd_piece {
	struct nbd_piece *next, *prev; /* of the link's list */
	struct nbd_piece *sibling; /* the next one of the request; of a read only */
	struct nbd_request *request;
	uint8_t op, flags; /* enum block_op, BLOCK_* */
	bool done;
	uint16_t export;
	uint32_t length;
	uint64_t offset;
	uint8_t *chunk; /* NULL: without data */
	uint32_t status; /* once done */
	uint32_t tag;	 /* while with the exporter */
	uint64_t mark;	 /* of a flush: the changes it covers */
	struct nbd_out out;
};

/* How the data of a read goes back. */
enum nbd_manner {
	NBD_WHOLE,    /* in one go, when all of it is there */
	NBD_FRAGMENT, /* in structured chunks, as they come */
	NBD_STREAM,   /* behind a simple header, in order */
};

struct nbd_request {
	struct nbd_request *next_read; /* of those that want memory */
	struct nbd_request *next, **link; /* of the client's */
	struct nbd_client *client;
	struct nbd_piece *first, **last, *cursor; /* of a read: in the order of the data; the first not sent yet */
	uint8_t op, flags, manner;
	bool structured; /* its reply is, where the client has asked for such */
	bool open;    /* more pieces are to come */
	bool flush;   /* once they are done */
	bool replied; /* nothing more is to be sent, but for what is in the client's list: outs */
	uint32_t pieces, outs; /* with the link; to be sent */
	uint32_t length, begun, status;
	uint64_t cookie, offset, started;
	struct nbd_out out;
};

enum nbd_phase { NBD_FLAGS, NBD_OPTION, NBD_OPTION_DATA, NBD_REQUEST, NBD_PAYLOAD, NBD_SKIP };

struct nbd_client {
	struct nbd_client *next, **link; /* of all */
	struct nbd_client *next_ready;
	struct rackwire_krping_nbd *nbd;
	int fd; /* -1: closed, but requests are under way */
	uint8_t phase, after_skip;
	bool readable, writable, ready; /* ready: in the list */
	bool no_zeroes, fixed, structured;
	bool ending; /* to be closed when all is replied */
	bool hungry; /* for a chunk */
	uint16_t export;
	uint32_t option, option_length, options;
	uint64_t skip, deadline;
	uint32_t requests, held; /* unanswered; chunks */
	struct nbd_request *all;
	struct nbd_request *reads, **reads_last; /* that want chunks */
	struct nbd_request *write; /* whose data is coming, or is skipped */
	struct nbd_piece *filling;
	uint32_t filled;
	struct nbd_out *outs, **outs_last;
	uint32_t out_sent; /* of the first */
	struct nbd_request *streaming; /* nothing may come between its header and the last of its data */
	struct nbd_out *later, **later_last; /* what would */
	uint32_t rx_at, rx_have, tx_at, tx_have;
	uint8_t rx[NBD_RX], tx[NBD_TX];
};

struct nbd_export {
	struct block_about about;
	bool gone; /* what was acknowledged is not there any more */
	uint16_t remote; /* its number at the exporter */
	uint64_t written, flushed; /* acknowledged changes; how many of them are on stable storage */
};

enum nbd_link_state { NBD_LINK_DOWN, NBD_LINK_CONNECTING, NBD_LINK_ASKING, NBD_LINK_READY };

struct nbd_link {
	uint8_t state;
	uint8_t client[BLOCK_ID];
	struct sockaddr_storage peer;
	struct rdma_id *id;
	struct rdma_qp *qp;
	struct rdma_cq *cq;
	uint32_t gen;
	bool known; /* what is exported was told once */
	bool given_up; /* requests fail until it is back */
	int error; /* of the last attempt */
	char error_text[RACKWIRE_KRPING_ERROR_LEN];
	uint64_t lost_at, ready_at, next_try, backoff, deadline, heard_at;
	bool probing;
	uint32_t probe_tag;
	uint32_t depth, eager, max_length; /* granted */
	uint16_t remote_exports, asked;
	uint32_t unsignaled;
	uint8_t *control; /* request headers, then receive buffers */
	uint64_t control_bytes;
	struct rdma_mr *control_mr;
	struct nbd_piece **tags; /* with the exporter */
	uint32_t *free_tags, nfree;
	struct nbd_piece *sent, *sent_last; /* in the order of sending */
	struct nbd_piece *queue, *queue_last;
	struct nbd_piece *failed; /* nbd_piece_done() is due */
};

struct rackwire_krping_nbd {
	struct rackwire_krping_nbd_config config;
	const struct rdma_provider *ops;
	struct rdma_dev *dev;
	struct rdma_dev_info info;
	struct rackwire_stats stats;
	struct block_slab slab;
	uint32_t share, spare, spare_used; /* chunks of each client; for any; of these in use */
	struct nbd_link link;
	struct nbd_export exports[RACKWIRE_KRPING_EXPORTS];
	uint32_t nexports;
	int stop; /* atomic */
	bool ran;
	int epoll, unix_fd, tcp_fd;
	uint64_t unix_dev, unix_ino, listen_at;
	uint16_t tcp_port;
	struct nbd_client *clients;
	uint32_t nclients, under_way;
	struct nbd_client *ready, **ready_last;
	uint32_t hungry; /* clients */
	bool fed;	 /* a chunk has become free for them */
	bool dead;	 /* some client has gone */
	uint64_t next_tick;
};

static inline void nbd_count(struct rackwire_krping_nbd *n, uint32_t counter, uint64_t amount)
{
	rackwire_stats_add(&n->stats, counter, amount);
}

/* ---- block_nbd_link.c ---- */

int nbd_link_open(struct rackwire_krping_nbd *n, char *error, size_t length);
void nbd_link_close(struct rackwire_krping_nbd *n);
/* All pieces come back with an error. */
void nbd_link_abandon(struct rackwire_krping_nbd *n);
/* Starts to connect. */
void nbd_link_try(struct rackwire_krping_nbd *n, uint64_t now);
void nbd_link_event(struct rackwire_krping_nbd *n, const struct rdma_event *event);
void nbd_link_tick(struct rackwire_krping_nbd *n, uint64_t now);
/* Return: completions taken, or -errno. */
int nbd_link_poll(struct rackwire_krping_nbd *n);
/* nbd_piece_done() follows, not from within. */
void nbd_link_submit(struct rackwire_krping_nbd *n, struct nbd_piece *piece);
/* Sends what has been submitted. */
void nbd_link_pump(struct rackwire_krping_nbd *n);

/* ---- block_nbd_client.c ---- */

/* Takes over @fd. Return: 0 or -errno. */
int nbd_client_open(struct rackwire_krping_nbd *n, int fd);
void nbd_client_close(struct nbd_client *c);
void nbd_client_ready(struct nbd_client *c); /* something may be done for it */
void nbd_client_writable(struct nbd_client *c, bool writable); /* or its socket is full */
/* Read, begin, send: a fair share of what there is to do. */
void nbd_client_run(struct nbd_client *c);
void nbd_client_tick(struct nbd_client *c, uint64_t now);
/* @length bytes of @c->rx are used. */
static inline void nbd_client_take(struct nbd_client *c, uint32_t length)
{
	c->rx_at += length;
	c->rx_have -= length;
	if (!c->rx_have)
		c->rx_at = 0;
}
/* A chunk for the client, or NULL and it is run again when there is one. */
uint8_t *nbd_chunk_get(struct nbd_client *c);
void nbd_chunk_put(struct nbd_client *c, uint8_t *chunk);

/* ---- block_nbd_hello.c ---- */

/* What the server says first. */
void nbd_hello_start(struct nbd_client *c);
/* One step of the handshake out of @c->rx. Return: false when more has to come, or there is no room to answer. */
bool nbd_hello(struct nbd_client *c);
uint64_t nbd_get(const uint8_t *p, uint32_t bytes);
void nbd_put(uint8_t *p, uint64_t value, uint32_t bytes);

/* ---- block_nbd_request.c ---- */

/* The NBD_REQUEST_LEN bytes of a request. */
void nbd_request_begin(struct nbd_client *c, const uint8_t *header);
/* Goes on with reads that wait for memory. */
void nbd_request_advance(struct nbd_client *c);
/* Memory for the data of a write that is coming: c->filling. Return: false, and c is hungry. */
bool nbd_write_prepare(struct nbd_client *c);
/* c->filling is full. */
void nbd_write_filled(struct nbd_client *c);
/* The data of a write that is refused is skipped. */
void nbd_write_skipped(struct nbd_client *c);
void nbd_piece_done(struct nbd_piece *piece, uint32_t status);
void nbd_out_sent(struct nbd_out *out);
/* The client has gone: its requests end when the exporter is done with them. */
void nbd_request_forget(struct nbd_client *c);

#endif
