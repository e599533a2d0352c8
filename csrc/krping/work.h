/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * work.h: the inside of a run. One loop on one thread polls one completion queue,
 * takes connection events and looks at the time; everything else happens in the
 * callbacks of a connection's kind (struct conn_ops). A connection that fails is
 * only marked; the loop takes it down between two rounds, so that no callback
 * works on what is gone.
 */
#ifndef RACKWIRE_KRPING_WORK_INTERNAL_H
#define RACKWIRE_KRPING_WORK_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>

#include "clock.h"
#include "provider.h"
#include "rackwire_krping.h"
#include "shared_stats.h"
#include "wire.h"

#define WORK_NEVER UINT64_MAX
#define WORK_MS 1000000ull
#define WORK_TICK_NS (100 * WORK_MS) /* how often rows, gauges and patience are looked at */
#define WORK_SPIN_NS (2 * WORK_TICK_NS) /* a server spins so long after the last sign of a client that wants it; READs show at ticks */
#define WORK_LOOK_NS WORK_MS	     /* and then looks at memory so often */
#define WORK_LEAVE_NS (500 * WORK_MS)
#define WORK_PATIENCE_NS (10 * RACKWIRE_NS_PER_S) /* with a silent peer, and 1 us for each byte of an operation */
#define WORK_PROBE_CLIENT_NS RACKWIRE_NS_PER_S /* a peer that is silent for so long is asked for a sign of life */
#define WORK_PROBE_SERVER_NS (5 * RACKWIRE_NS_PER_S)
#define WORK_FLUSH_NS RACKWIRE_NS_PER_S /* from the first flushed request to the event that says why */
#define WORK_RNR_TIMER 8 /* 0.16 ms [IBTA 9.7.5.2.8] */
#define WORK_BATCH 32
#define WORK_SERVER_CQ 131072 /* entries, for all clients together */
#define WORK_LINE 160

#define CTL_SLOTS 4 /* 16-byte messages each way, of one connection */
#define CTL_BYTES (2 * CTL_SLOTS * WIRE_ADV_LEN)

enum conn_state {
	CONN_CONNECTING,
	CONN_READY,   /* established */
	CONN_LEAVING, /* disconnect sent */
	CONN_OVER,    /* to be taken down */
};

/* What a completion is of: in wr_id. */
enum conn_tag {
	TAG_RECV,
	TAG_SEND,  /* a message of 16 bytes */
	TAG_DATA,  /* what a benchmark measures */
	TAG_READ,
	TAG_WRITE,
	TAG_KEY,   /* of a region; completes only when it failed */
	TAG_PROBE,
};

struct conn_buffer {
	uint8_t *data;
	uint64_t capacity;
	struct rdma_mr *mr;
	uint32_t key;	 /* for the peer, and with RDMA_REG_MR_LKEY ours */
	uint32_t access; /* the peer's */
	bool fresh;	 /* with a new key for each use, by work requests or registration */
	bool bound;	 /* its key was given by a work request and is valid */
};

struct krping_conn;

/* The callbacks return 0 or, having called conn_fail(), whatever it returned. */
struct conn_ops {
	/* Work requests that may be under way; buffers that are needed from the start. */
	void (*depth)(const struct krping_conn *c, uint32_t *sends, uint32_t *recvs);
	int (*prepare)(struct krping_conn *c);
	void (*established)(struct krping_conn *c);
	void (*start)(struct krping_conn *c, uint64_t now); /* client: all connections are there */
	void (*complete)(struct krping_conn *c, const struct rackwire_roce_wc *wc); /* a successful one */
	void (*pump)(struct krping_conn *c, uint64_t now); /* after a batch of completions, if c->pump_due */
	bool (*spin)(struct krping_conn *c); /* look at memory; true: something was there */
	void (*due)(struct krping_conn *c, uint64_t now); /* client: c->next_at has come */
	void (*finish)(struct krping_conn *c, uint64_t now); /* client: start nothing new, then conn_leave() */
};

struct work_row {
	struct rackwire_krping_connection row;
	uint64_t opened_at, ended_at;
};

struct krping_conn {
	struct rackwire_krping_work *work;
	const struct conn_ops *ops;
	struct rdma_id *id;
	struct rdma_qp *qp;
	uint32_t index, gen;
	uint8_t state, kind, op, step;
	bool server, classic, connected;
	bool exact;	/* server's ping: WRITE as many bytes as were asked for */
	bool flushed;	/* requests came back flushed; what happened is not known yet */
	bool finishing; /* client: starts nothing new */
	bool pump_due, probing;
	bool watched; /* a server spins for it */
	bool memory_watched;
	int error;
	uint32_t flags; /* RACKWIRE_KRPING_* in force */
	uint32_t length, txdepth;
	uint32_t sends, recvs;
	struct sockaddr_storage peer;
	struct conn_buffer a, b;
	uint8_t *ctl; /* CTL_SLOTS to receive into, then CTL_SLOTS to send from */
	uint32_t ctl_next;
	struct wire_adv remote;
	uint64_t memory; /* charged to the server's budget */

	uint64_t counters[8], pings, verified, corrupt;
	struct rackwire_roce_qp_stats seen;
	struct work_row *row;
	uint64_t opened_at;
	uint64_t heard_at;   /* a completion, last */
	uint64_t waiting_since; /* client: for an answer; 0: not waiting */
	uint64_t deadline;   /* of connecting, flushing or leaving; WORK_NEVER: none */
	uint64_t next_at;    /* client: interval */

	/* client: operations */
	uint64_t to_start, warm_left, number, began;
	bool armed; /* ready to start */

	/* server's ping */
	uint32_t read_len, write_len;

	/* benchmarks */
	uint64_t *times; /* BW: when the requests under way were posted, a ring */
	uint32_t head, under_way, recv_due;
	uint64_t moved_bytes, moved_ops; /* BW: of our own accord */
	uint64_t turn;	 /* WLAT: WRITEs seen; ALAT: the value expected */
	bool going;	 /* DUPLEX: the server moves too */
	bool bye, owed;	 /* owed: an answer that found the send queue full */
	bool reporting;
	struct krping_conn *next_pump;
};

struct rackwire_krping_work {
	struct rackwire_krping_config config;
	const struct rdma_provider *ops;
	struct rdma_dev *dev;
	struct rdma_dev_info info;
	struct rdma_cq *cq;
	uint32_t cq_size, cq_used;
	struct sockaddr_storage address, local;
	uint16_t port;
	struct rdma_id *listener;
	uint8_t *ctl;
	struct rdma_mr *ctl_mr;
	struct rackwire_stats stats;
	int stop; /* atomic */
	bool ran, done, server;

	struct krping_conn **conns; /* max of them, NULL where free */
	uint32_t max, open, top; /* top: no slot above is in use */
	uint32_t *free_slots, nfree;
	uint32_t gen;
	struct krping_conn *pumps;
	bool dead; /* some connection is CONN_OVER */
	uint64_t memory;
	uint32_t watched;  /* connections that a server spins for */
	uint32_t memories; /* connections in whose memory something may appear */
	uint64_t opened_at, spin_until, next_tick, next_due;

	/* client */
	uint32_t armed;
	bool started;
	uint64_t measured_from, measured_to, end_at, leave_by, cpu_from, cpu_seen_at;
	bool corrupt;

	int error;
	char error_text[RACKWIRE_KRPING_ERROR_LEN];

	pthread_mutex_t lock; /* of rows, lines and the control socket */
	struct work_row rows[RACKWIRE_KRPING_ROWS];
	uint64_t next_id;
	char *lines;
	uint32_t lines_len;
	uint64_t lines_lost;
	struct rackwire_control *control; /* NULL: none */
};

/* ---- work.c ---- */

/* The first error decides; a client's run ends by it. Return: @error. */
int work_fail(struct rackwire_krping_work *w, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static inline bool work_stopping(const struct rackwire_krping_work *w)
{
	return __atomic_load_n(&w->stop, __ATOMIC_RELAXED);
}
static inline void work_count(struct rackwire_krping_work *w, uint32_t counter, uint64_t amount)
{
	rackwire_stats_add(&w->stats, counter, amount);
}
/* "127.0.0.1 port 4000" of a client's server, for messages. */
const char *work_target(const struct rackwire_krping_work *w, char *text, size_t length);

/* ---- conn.c ---- */

struct krping_conn *conn_new(struct rackwire_krping_work *w, uint32_t kind);
/* Queue pair, receives posted. Return: 0 or -errno. */
int conn_queue_pair(struct krping_conn *c);
void conn_established(struct krping_conn *c);
/* It is over; @error 0: in good order. Return: @error. */
int conn_fail(struct krping_conn *c, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Say goodbye and wait for the event, for a while. */
void conn_leave(struct krping_conn *c, uint64_t now);
void conn_over(struct krping_conn *c);
void conn_free(struct krping_conn *c);
void conn_complete(struct krping_conn *c, const struct rackwire_roce_wc *wc);
void conn_event(struct krping_conn *c, const struct rdma_event *event);
/* Time has passed: patience, probes, figures. */
void conn_tick(struct krping_conn *c, uint64_t now);
static inline uint64_t conn_wr_id(const struct krping_conn *c, enum conn_tag tag, uint32_t slot)
{
	return (uint64_t)c->gen << 32 | c->index << 16 | (uint32_t)tag << 8 | slot;
}
int conn_post(struct krping_conn *c, const struct rackwire_roce_send_wr *wr, uint32_t n);
int conn_post_recvs(struct krping_conn *c, uint32_t first, uint32_t n);
static inline uint8_t *conn_recv_slot(const struct krping_conn *c, uint32_t slot)
{
	return c->ctl + slot * WIRE_ADV_LEN;
}
/* A 16-byte message out of the next slot. @imm 0: none; @inv_rkey 0: none. */
void conn_message(struct krping_conn *c, struct rackwire_roce_send_wr *wr, struct rackwire_roce_sge *sge,
		  const uint8_t bytes[WIRE_ADV_LEN], uint32_t imm, uint32_t inv_rkey);
void conn_pump_later(struct krping_conn *c);
static inline void conn_count(struct krping_conn *c, uint32_t counter, uint64_t amount)
{
	c->counters[counter] += amount;
	work_count(c->work, counter, amount);
}

/* Memory of its own for a buffer, @access for the peer; what it had is freed. Return: 0, -ENOMEM, ... */
int conn_buffer(struct krping_conn *c, struct conn_buffer *b, uint64_t length, uint32_t access, bool fresh);
void conn_buffer_free(struct krping_conn *c, struct conn_buffer *b);
/*
 * The work requests that give a buffer a new key, if it is to have one, in front of its next use.
 * Return: how many of @wr (room for 2) were written, or -errno.
 */
int conn_buffer_renew(struct krping_conn *c, struct conn_buffer *b, struct rackwire_roce_send_wr *wr);
uint32_t conn_lkey(struct krping_conn *c, const struct conn_buffer *b);
const char *conn_peer(const struct krping_conn *c, char *text, size_t length);

/* ---- account.c ---- */

void account_open(struct krping_conn *c);
void account_close(struct krping_conn *c);
void account_refresh(struct krping_conn *c);
void account_line(struct rackwire_krping_work *w, const char *what, const uint8_t *data, uint32_t length);
const char *account_status(uint32_t status);
/* The JSON document of the control socket, from malloc. Return: length or -errno. */
ssize_t account_json(struct rackwire_krping_work *w, char **out);

/* ---- server.c, client.c ---- */

int server_open(struct rackwire_krping_work *w, char *error, size_t length);
void server_event(struct rackwire_krping_work *w, const struct rdma_event *event);
/* Flags that the engine cannot do. */
uint32_t server_unsupported(const struct rackwire_krping_work *w, uint32_t flags);
int client_start(struct rackwire_krping_work *w);
/* The peer's answer: is it one of ours, and what does it grant? Return: 0 or failed. */
int client_established(struct krping_conn *c, const struct rdma_event *event);
void client_refused(struct krping_conn *c, const struct rdma_event *event);
/* A connection has what it needs; the last one starts them all. */
void client_armed(struct krping_conn *c, uint64_t now);
/* One operation is over; @share: what part of its time counts, 2: a half. */
void client_operation(struct krping_conn *c, uint64_t began, uint64_t now, uint64_t bytes, uint32_t share);
bool client_may_start(struct krping_conn *c, uint64_t now);
void client_tick(struct rackwire_krping_work *w, uint64_t now);
void client_end(struct rackwire_krping_work *w);

extern const struct conn_ops ping_client_ops, ping_server_ops, bench_lat_ops, bench_bw_ops;
const struct conn_ops *conn_ops_of(uint32_t kind, bool server);
uint32_t bench_access(const struct krping_conn *c);
/* Buffers and receives of a benchmark. */
int bench_prepare(struct krping_conn *c);
void bench_established(struct krping_conn *c);
/* A 16-byte message of the peer; true: it was for setting up, c->armed may now be set. */
bool bench_set_up(struct krping_conn *c, const struct rackwire_roce_wc *wc);
uint8_t *bench_recv_data(struct krping_conn *c, const struct rackwire_roce_wc *wc);
static inline bool bench_receives_data(const struct krping_conn *c)
{
	return c->kind == RACKWIRE_KRPING_SLAT ||
	       (c->kind == RACKWIRE_KRPING_BW && c->op == RACKWIRE_KRPING_OP_SEND);
}

#endif
