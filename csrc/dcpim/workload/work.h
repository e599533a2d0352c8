/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * work.h: the inside of a workload. A lane is one thread's part of it: a shard
 * of the dcPIM engine, or a thread with kernel sockets. Connections belong to
 * one lane and are used on its thread only.
 *
 * A client goes through phases: it connects, then runs turns ("slices") of one
 * transport at a time, then says goodbye. Each phase of a transport starts its
 * threads and ends when every lane has finished, so that no thread of one
 * transport runs, or spins, during another's turn. Connections stay open.
 */
#ifndef RACKWIRE_DCPIM_WORK_INTERNAL_H
#define RACKWIRE_DCPIM_WORK_INTERNAL_H

#include <pthread.h>

#include "clock.h"
#include "dcpim/user/engine.h"
#include "pattern.h"
#include "rackwire_dcpim_work.h"
#include "service.h"
#include "shared_stats.h"

#define WORK_CHUNK 65536u	   /* most bytes in one buffer or system call */
#define WORK_TICK_NS 100000000ull  /* how often rows and gauges are brought up to date */
#define WORK_SPIN_NS 2000000ull	   /* BUSY_POLL with several transports: sleep after so long without work */
#define WORK_HELLO_NS 10000000000ull /* a server's patience with a silent connection */
#define WORK_BYE_NS 2000000000ull  /* a client's with the server's account */
#define WORK_STOP_BYE_NS 500000000ull /* the same after a stop */
#define WORK_STOP_DRAIN_NS 80000000ull
#define WORK_STALL_TIMEOUTS 5	   /* so many timeouts without any answer: the peer is gone */
#define WORK_DRAIN_POLL_NS 100000ull
#define WORK_CREDIT (8ull << 20)   /* bytes a client lets a source send ahead */
#define WORK_MAX_SERVED 16384	   /* connections a server takes, over all threads */

#define WORK_NCOUNTERS ((u32)RACKWIRE_DCPIM_WORK_TRANSPORTS * RACKWIRE_DCPIM_WORK_COUNTERS)

extern const u8 work_blank[WORK_CHUNK]; /* contents without validation */

enum work_phase { WORK_CONNECT, WORK_SLICE, WORK_BYE };

enum work_conn_state {
	WORK_NEW,	 /* nothing done yet */
	WORK_CONNECTING,
	WORK_HELLO,	 /* server: waits for the hello; client: for the welcome */
	WORK_READY,
	WORK_LEAVING,	 /* client: has ended, waits for the account */
	WORK_OVER,
};

struct work_request {
	struct dcpim_list node; /* conn->busy, oldest first, unless lost */
	u64 sent_at, number;
	bool busy, lost;
};

struct work_row {
	struct rackwire_dcpim_work_connection row;
	u64 opened_at, ended_at;
};

struct work_conn {
	struct dcpim_list node; /* lane->conns */
	struct work_lane *lane;
	struct dcpim_flow *flow; /* dcPIM */
	int fd;			 /* baselines */
	u32 index;		 /* of a client's transport */
	u8 state, service;
	bool message; /* whole messages or datagrams, not a stream */
	bool pattern, check;
	bool blocked; /* until the transport can take more */
	bool eof;
	u64 seed;
	u32 length;
	u8 head[SERVICE_REPORT_LEN]; /* hello, welcome or account coming in */
	u32 head_len;

	/* A stream's contents, without what this service adds to them. */
	u64 tx_pos, tx_end;	 /* handed over; to be handed over */
	u64 rx_pos, rx_expected; /* received; client: to be expected */

	u64 requests, verified, corrupt, corrupt_at;
	u64 rtx_seen;
	u64 opened_at, cpu_from;
	struct work_row *row;

	/* client */
	u64 left;     /* requests or bytes that this turn may still start */
	u64 to_count; /* the same for the turns that count; DCPIM_NEVER: no limit */
	u64 next_at;  /* interval */
	struct work_request *slots;
	u32 *free_slots;
	u32 nslots, nfree;
	u64 next_number, oldest; /* streams: answers come in order */
	struct dcpim_list busy;
	u32 nbusy, nlost;
	u32 lost_in_row;
	u64 waiting_since;
	u64 slice_from; /* tx_pos or rx_pos when the turn began */
	bool reported;  /* the server's account is in */

	/* UDP: asking for the server's account, again until it comes */
	bool asking;
	u32 asked;
	u64 ask_at;
	u64 peer_bytes, peer_requests; /* what it said last */
	u64 slice_requests;
};

struct work_lane {
	struct rackwire_dcpim_work *work;
	u32 transport;
	struct rackwire_stats *stats;
	pthread_mutex_t *lock; /* of stats where threads share it, else NULL */
	struct dcpim_shard *shard;
	const struct work_ops *ops; /* client */
	struct dcpim_list conns;
	u32 nconns;
	u64 tick_at, cpu_seen;
	u64 deadline; /* when lane_timer is wanted */

	/* client */
	bool begun, done, over; /* over: the turn starts nothing new */
	u64 began_at, slice_end, give_up_at;
	u64 cpu_began;
	u8 *scratch;
};

/* What differs between transports for a client. UDP has no stream, so neither push nor send_head. */
struct work_ops {
	int (*connect)(struct work_conn *c, u64 now);
	/* Hand over contents from tx_pos towards tx_end, or set blocked. */
	void (*push)(struct work_conn *c, u64 now);
	/* Some bytes, or one message, that is not contents. Return: 0 or -errno. */
	int (*send_head)(struct work_conn *c, u64 now, const u8 *data, u32 len);
	/* One message or datagram with this number. Return: 0, -EAGAIN, -errno. */
	int (*send_request)(struct work_conn *c, u64 now, struct work_request *request);
	void (*shutdown)(struct work_conn *c, u64 now);
	/* Bytes handed over and not acknowledged. */
	u64 (*unacked)(struct work_conn *c);
	void (*close)(struct work_conn *c, u64 now, bool abort);
	/* Retransmitted bytes and smoothed round trip. */
	void (*path)(struct work_conn *c, u64 *rtx, u32 *srtt_us);
};

#define WORK_CPU_THREADS 64

/* CPU time that the server's threads report, each counted once. */
struct work_peer_cpu {
	u64 thread, from, to;
};

struct rackwire_dcpim_work {
	struct rackwire_dcpim_work_config config;
	struct rackwire_dcpim_config engine_config;
	struct rackwire_dcpim_engine *engine;
	struct sockaddr_storage address, local;
	u32 nshards;
	struct work_lane *lanes; /* one per shard, then TCP, then UDP */
	struct rackwire_stats *blocks; /* one per shard, then the baselines' */
	pthread_mutex_t baseline_lock;
	int stop;     /* atomic: asked to end */
	int run_stop; /* of dcpim_engine_run() */
	int wake_fd;  /* readable once stopped; baselines wait for it */
	u32 lanes_done; /* atomic */
	bool ran;
	u16 ports[RACKWIRE_DCPIM_WORK_TRANSPORTS];

	pthread_mutex_t lock; /* of what follows */
	int error;
	char error_text[RACKWIRE_DCPIM_WORK_ERROR_LEN];
	bool corrupt;
	struct work_row rows[RACKWIRE_DCPIM_WORK_ROWS];
	u64 next_id;
	u32 served;
	struct work_peer_cpu peer_cpu[RACKWIRE_DCPIM_WORK_TRANSPORTS][WORK_CPU_THREADS];

	/* client; set between phases, when no thread runs */
	enum work_phase phase;
	bool record;
	u64 slice_ns;
	u64 measured_ns[RACKWIRE_DCPIM_WORK_TRANSPORTS];

	struct work_tcp_server *tcp_server;
	struct work_udp_server *udp_server;
};

/* ---- work.c ---- */

static inline bool work_serves(const struct rackwire_dcpim_work *w, u32 transport)
{
	return w->config.transports & 1u << transport;
}

static inline bool work_stopping(const struct rackwire_dcpim_work *w)
{
	return __atomic_load_n(&w->stop, __ATOMIC_RELAXED);
}

static inline bool work_busy_poll(const struct rackwire_dcpim_work *w)
{
	return w->engine_config.wakeup == RACKWIRE_DCPIM_BUSY_POLL;
}

/* The first error decides; everything then ends. Any thread. */
void work_fail(struct rackwire_dcpim_work *w, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* "127.0.0.1 port 4000" of the peer, for messages. */
const char *work_peer(const struct rackwire_dcpim_work *w, u32 transport, char *text, size_t length);
u16 work_transport_port(const struct rackwire_dcpim_work *w, u32 transport);
void work_sockaddr(const struct sockaddr_storage *addr, u16 port, struct sockaddr_storage *out, socklen_t *length);
/* The calling thread gets the CPU of engine thread @index. */
void work_pin(const struct rackwire_dcpim_work *w, u32 index);
/* A thread with all signals masked. Return: 0 or -errno. */
int work_thread(pthread_t *thread, void *(*main)(void *), void *arg);

/* ---- account.c: counters, rows, checking ---- */

void work_count(struct work_lane *l, u32 counter, u64 amount);
void work_latency(struct work_lane *l, u64 ns);
/* A connection is there: a row for it, if there is room. */
void work_conn_opened(struct work_conn *c, const struct sockaddr_storage *peer);
/* It has gone; @error 0: in good order. Retransmissions are @rtx in all. */
void work_conn_ended(struct work_conn *c, int error, u64 rtx, u32 srtt_us);
void work_conn_refresh(struct work_conn *c, u64 rtx, u32 srtt_us);
void work_count_cpu(struct work_lane *l);
/* Received contents that start at @pos of the pattern; @where: for corrupt_at. */
void work_check(struct work_conn *c, u64 pos, const u8 *data, u32 len, u64 where);
/* The number in front of contents that were right where it says they belong was right too. */
void work_check_number(struct work_conn *c, u64 corrupt_before, u32 len);
void work_report_fill(const struct work_conn *c, struct service_report *report);
/* The server's account of a connection of ours. */
void work_report_take(struct work_conn *c, const struct service_report *report);

/* ---- client.c ---- */

int work_client_open(struct rackwire_dcpim_work *w);
int work_client_run(struct rackwire_dcpim_work *w);
void work_client_close(struct rackwire_dcpim_work *w);

/* The lane's thread calls these. */
void work_lane_timer(struct work_lane *l, u64 now); /* at l->deadline, and first */
void work_client_connected(struct work_conn *c, u64 now, const struct sockaddr_storage *peer);
void work_client_bytes(struct work_conn *c, u64 now, const u8 *data, u32 len);
void work_client_head(struct work_conn *c, u64 now, const u8 *data, u32 len); /* a message that is not contents */
void work_client_pump(struct work_conn *c, u64 now);
void work_client_eof(struct work_conn *c, u64 now);
void work_client_broken(struct work_conn *c, u64 now, int error);
void work_lane_check(struct work_lane *l, u64 now);

/* ---- requests.c ---- */

int work_requests_init(struct work_conn *c, u32 depth);
void work_requests_fini(struct work_conn *c);
struct work_request *work_request_start(struct work_conn *c);
void work_request_cancel(struct work_conn *c, struct work_request *r);
void work_request_done(struct work_conn *c, struct work_request *r);
/* The one with this number, of @bytes significant bytes; NULL: there is none. */
struct work_request *work_request_find(struct work_conn *c, u64 number, u32 bytes);
/* A stream has received up to rx_pos. */
void work_requests_received(struct work_conn *c);
/* Count what is overdue. Return: when to look again. */
u64 work_requests_expire(struct work_conn *c, u64 now);
/* Bytes @off to @off + @len of the message with this number. */
void work_message_fill(const struct work_conn *c, u64 number, u32 off, u8 *out, u32 len);
u64 work_message_number(const u8 *data, u32 len);

/* ---- transports ---- */

extern const struct work_ops work_dcpim_ops, work_tcp_ops, work_udp_ops;
extern const struct dcpim_app_ops work_dcpim_client_app, work_dcpim_server_app;

/* dcpim_flow.c: what client and server do alike with a flow. */
int work_flow_send_head(struct work_conn *c, u64 now, const u8 *data, u32 len);
/* Hand over contents from tx_pos to tx_end. Return: 0, -EAGAIN, -errno. */
int work_flow_push(struct work_conn *c, u64 now);
void work_flow_path(struct work_conn *c, u64 *rtx, u32 *srtt_us);
/*
 * A stream that is sent as fast as it goes queues no more than it needs: what is
 * written should still be in the cache when it is sent.
 */

/*
 * dcpim_flow.c: copy what could be a header of the oldest message to @head,
 * and check the contents of one that can be none.
 */
void work_message_take(struct work_conn *c, const struct dcpim_rxmsg *msg, u8 head[SERVICE_REPORT_LEN]);

/* socket_client.c: a lane with kernel sockets. */
void *work_socket_client_thread(void *lane);
int work_socket_open(struct work_conn *c, int type);
void work_socket_close(struct work_conn *c, u64 now, bool abort);
void work_tcp_readable(struct work_conn *c, u64 now, int flags);
void work_udp_readable(struct work_conn *c, u64 now, int flags);
void work_udp_ask(struct work_conn *c, u64 now);
/* One-way datagrams: send a batch. */
void work_udp_flood(struct work_conn *c, u64 now);
static inline bool work_udp_one_way(const struct work_conn *c)
{
	return c->lane->transport == RACKWIRE_DCPIM_WORK_UDP && c->service != RACKWIRE_DCPIM_WORK_SERVICE_ECHO;
}

int work_tcp_server_open(struct rackwire_dcpim_work *w, u16 port);
int work_tcp_server_start(struct rackwire_dcpim_work *w);
void work_tcp_server_stop(struct rackwire_dcpim_work *w);
void work_tcp_server_close(struct rackwire_dcpim_work *w);
int work_udp_server_open(struct rackwire_dcpim_work *w, u16 port);
int work_udp_server_start(struct rackwire_dcpim_work *w);
void work_udp_server_stop(struct rackwire_dcpim_work *w);
void work_udp_server_close(struct rackwire_dcpim_work *w);

#endif
