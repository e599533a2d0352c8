/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rackwire_dcpim_work.h: the loops behind `rackwire dcpim server|ping|stream|message`.
 *
 * A work is one run: a server until it is stopped, or a client with its
 * connections. It owns a dcPIM engine and runs on that engine's threads; over
 * the baselines (kernel TCP and UDP, for comparison) on threads of its own with
 * the same pinning and the same way of waiting. docs/dcpim-service.md describes
 * what client and server say to each other.
 *
 *	rackwire_dcpim_work_open(&engine, &config, stats, length, &work, error, sizeof(error));
 *	rackwire_dcpim_work_run(work, error, sizeof(error));	until done or stopped
 *	rackwire_dcpim_work_close(work);
 *
 * Figures go into shared memory (csrc/common/shared_stats.h) while it runs.
 * Results are 0 or a negative errno. Nothing here prints or raises signals.
 * Durations are nanoseconds of CLOCK_MONOTONIC, sizes are bytes of payload.
 */
#ifndef RACKWIRE_DCPIM_WORK_H
#define RACKWIRE_DCPIM_WORK_H

#include "rackwire_dcpim.h"

#ifdef __cplusplus
extern "C" {
#endif

struct rackwire_dcpim_work;

enum rackwire_dcpim_work_kind {
	RACKWIRE_DCPIM_WORK_SERVER = 1,
	RACKWIRE_DCPIM_WORK_PING = 2,	 /* requests that come back: round-trip times */
	RACKWIRE_DCPIM_WORK_STREAM = 3,	 /* bytes one way: goodput */
	RACKWIRE_DCPIM_WORK_MESSAGE = 4, /* whole messages one way: rate, time to acknowledgement */
};

enum rackwire_dcpim_work_transport {
	RACKWIRE_DCPIM_WORK_DCPIM = 0,
	RACKWIRE_DCPIM_WORK_TCP = 1, /* kernel TCP at the server's port number */
	RACKWIRE_DCPIM_WORK_UDP = 2, /* kernel UDP; one port higher where the engine is RACKWIRE_DCPIM_UDP */
	RACKWIRE_DCPIM_WORK_TRANSPORTS
};

/* Client: do not check contents, send one constant buffer. */
#define RACKWIRE_DCPIM_WORK_NO_VALIDATE 0x1
/* Server: check the contents of every connection, also where the client did not ask. */
#define RACKWIRE_DCPIM_WORK_VALIDATE 0x2
/* Ping: over message connections ("short"); else over streams ("long"). */
#define RACKWIRE_DCPIM_WORK_SHORT 0x4
/* Stream: from the server to the client. Not over UDP. */
#define RACKWIRE_DCPIM_WORK_REVERSE 0x8
/* Server: accept only message connections over dcPIM, or only streams; neither: both. */
#define RACKWIRE_DCPIM_WORK_MESSAGES_ONLY 0x10
#define RACKWIRE_DCPIM_WORK_STREAMS_ONLY 0x20

#define RACKWIRE_DCPIM_WORK_MAX_CONNECTIONS 1024
#define RACKWIRE_DCPIM_WORK_MAX_IODEPTH 4096
#define RACKWIRE_DCPIM_WORK_MAX_LENGTH (64u << 20)
#define RACKWIRE_DCPIM_WORK_MAX_DATAGRAM 65507
#define RACKWIRE_DCPIM_WORK_ROWS 64
#define RACKWIRE_DCPIM_WORK_ERROR_LEN 256

/* 0 takes the default named beside a field. */
struct rackwire_dcpim_work_config {
	uint32_t size;	      /* sizeof(struct rackwire_dcpim_work_config) */
	uint32_t kind;	      /* enum rackwire_dcpim_work_kind */
	uint32_t transports;  /* 1 << enum rackwire_dcpim_work_transport | ...; dcPIM alone */
	uint32_t flags;	      /* RACKWIRE_DCPIM_WORK_NO_VALIDATE | ... */
	char address[64];     /* server: where to listen, empty: everywhere; client: the peer. Numeric, "fe80::1%eth0" */
	char local[64];	      /* client: source address; empty: by the route */
	uint16_t port;	      /* server: 0: one is chosen; client: the server's, not 0 */
	uint16_t sport;	      /* client: local port of the first connection, the next one's is one higher; 0: any */
	uint32_t connections; /* client: in parallel, for each transport; 1 */
	uint32_t iodepth;     /* ping, message: requests outstanding on each connection; 1 */
	uint32_t length;      /* bytes of a request or message, 64; stream: bytes of a write, 65536 */
	uint64_t count;	      /* ping, message: requests of each connection after the warm-up; stream: bytes; 0: no limit */
	uint64_t duration_ns; /* measured time of each transport; 0: no limit */
	uint64_t warmup_ns;   /* time before it that is not recorded, for each transport */
	uint64_t warmup_count; /* requests of each connection before it that are not recorded */
	uint64_t interval_ns; /* ping, message: between the starts of two requests of a connection; 0: at once */
	uint64_t timeout_ns;  /* ping, message: unanswered for so long counts as lost; 1 s */
	uint64_t slice_ns;    /* with several transports, each runs so long in turn; 200 ms */
	uint64_t seed;	      /* of the contents; 0: a random one */
};

/*
 * Statistics: one block for each engine thread and one for the baselines, in
 * each RACKWIRE_DCPIM_WORK_TRANSPORTS * RACKWIRE_DCPIM_WORK_COUNTERS counters,
 * transport by transport, and one histogram of nanoseconds for each transport:
 * round-trip times (ping) or times to acknowledgement (message).
 *
 * A request here is a ping or a message. "This side" is the process that
 * writes; what the other side reported stands in the PEER_ counters of a
 * client, once each connection has ended in good order.
 */
enum rackwire_dcpim_work_counter {
	RACKWIRE_DCPIM_WORK_OPENED,	    /* connections established */
	RACKWIRE_DCPIM_WORK_OPEN,	    /* gauge: of these, open now */
	RACKWIRE_DCPIM_WORK_FAILED,	    /* connections that ended with an error */
	RACKWIRE_DCPIM_WORK_REQUESTS,	    /* sent (client) or received (server), with the warm-up */
	RACKWIRE_DCPIM_WORK_COMPLETED,	    /* client: answered after the warm-up; as many are in the histogram */
	RACKWIRE_DCPIM_WORK_WARMUP,	    /* client: answered during the warm-up */
	RACKWIRE_DCPIM_WORK_LOST,	    /* not answered in time; UDP stream or message: sent and not received */
	RACKWIRE_DCPIM_WORK_LATE,	    /* of these, answered afterwards */
	RACKWIRE_DCPIM_WORK_TX_BYTES,	    /* payload sent; counted when handed to the transport */
	RACKWIRE_DCPIM_WORK_RX_BYTES,	    /* payload received */
	RACKWIRE_DCPIM_WORK_VERIFIED_BYTES, /* received payload that was checked and right */
	RACKWIRE_DCPIM_WORK_CORRUPT_BYTES,  /* received payload that was checked and wrong */
	RACKWIRE_DCPIM_WORK_MEASURED_BYTES, /* client: payload delivered in the measured time */
	RACKWIRE_DCPIM_WORK_MEASURED_REQUESTS, /* client: requests completed in it */
	RACKWIRE_DCPIM_WORK_MEASURED_NS,    /* client: measured time, up to the end of the latest turn; in one block only */
	RACKWIRE_DCPIM_WORK_CPU_NS,	    /* CPU time of this side's threads; client: in the measured time */
	RACKWIRE_DCPIM_WORK_RTX_BYTES,	    /* payload sent again, closed connections included */
	RACKWIRE_DCPIM_WORK_PEER_REPORTS,   /* connections of which the server gave its account */
	RACKWIRE_DCPIM_WORK_PEER_BYTES,	    /* payload the server received (reverse: sent) */
	RACKWIRE_DCPIM_WORK_PEER_REQUESTS,  /* messages or datagrams it received */
	RACKWIRE_DCPIM_WORK_PEER_VERIFIED_BYTES,
	RACKWIRE_DCPIM_WORK_PEER_CORRUPT_BYTES,
	RACKWIRE_DCPIM_WORK_PEER_CPU_NS,    /* CPU time of its threads from the first connection's start to the end */
	RACKWIRE_DCPIM_WORK_COUNTERS
};

enum rackwire_dcpim_work_service {
	RACKWIRE_DCPIM_WORK_SERVICE_NONE = 0, /* not said yet */
	RACKWIRE_DCPIM_WORK_SERVICE_ECHO = 1,
	RACKWIRE_DCPIM_WORK_SERVICE_SINK = 2,
	RACKWIRE_DCPIM_WORK_SERVICE_SOURCE = 3,
};

enum rackwire_dcpim_work_state {
	RACKWIRE_DCPIM_WORK_CONNECTING = 0,
	RACKWIRE_DCPIM_WORK_ESTABLISHED = 1,
	RACKWIRE_DCPIM_WORK_ENDED = 2,
	RACKWIRE_DCPIM_WORK_BROKEN = 3,
};

/* One connection. Of a UDP baseline: one client session. */
struct rackwire_dcpim_work_connection {
	uint64_t id;	    /* counts up from 1 within a work */
	uint32_t transport; /* enum rackwire_dcpim_work_transport */
	uint32_t message;   /* 1: dcPIM message connection */
	uint32_t service;   /* enum rackwire_dcpim_work_service */
	uint32_t state;	    /* enum rackwire_dcpim_work_state */
	int32_t error;	    /* negative errno when broken */
	uint32_t thread;    /* engine thread */
	uint32_t cpu;	    /* CPU it was last served on */
	uint32_t srtt_us;   /* the transport's own estimate, 0: none yet */
	char peer[80];	    /* "192.0.2.1:4000", "[2001:db8::1]:4000" */
	uint64_t age_ns;    /* since it was opened, up to its end */
	uint64_t tx_bytes, rx_bytes;
	uint64_t requests;  /* sent or received */
	uint64_t verified_bytes, corrupt_bytes;
	uint64_t corrupt_at; /* offset in the stream, or number of the message, of the first wrong byte */
	uint64_t rtx_bytes;
};

/*
 * rackwire_dcpim_work_open() - check everything, start an engine that does not
 * run yet and, as server, listen with every transport asked for.
 * @engine: the engine's configuration; local and towards are filled in from @config
 *          where their family is 0. Only cpus, wakeup and spin_ns matter to the
 *          baselines. With RACKWIRE_DCPIM_BUSY_POLL, several transports and
 *          spin_ns 0, spin_ns becomes 2 ms, so that none starves the others.
 * @config: copied
 * @stats:  memory for the statistics, at least rackwire_dcpim_work_stats_length();
 *          the caller's, used until rackwire_dcpim_work_close()
 * @out:    the work, on success
 * @error:  on failure one line that says what was refused and why; may be NULL
 *
 * Return: 0; -EINVAL (a field is out of range, or another size of config);
 * -EADDRINUSE; -EADDRNOTAVAIL; -EPERM (raw engine without CAP_NET_RAW, port below
 * 1024); -EMSGSIZE (length over the transport's limit); -EOPNOTSUPP (the
 * transport cannot do this kind); -ENOSPC (stats too small); -ENOMEM; ...
 */
int rackwire_dcpim_work_open(const struct rackwire_dcpim_config *engine,
			     const struct rackwire_dcpim_work_config *config, void *stats, size_t stats_length,
			     struct rackwire_dcpim_work **out, char *error, size_t error_length);

/* Bytes of statistics for an engine of @threads threads. */
size_t rackwire_dcpim_work_stats_length(uint32_t threads);

/*
 * rackwire_dcpim_work_run() - connect and run, once, until count or duration is
 * reached, rackwire_dcpim_work_stop() is called or something fails. Blocks its
 * caller. A client then says goodbye and takes in the server's account, for at
 * most 2 s.
 * @error: on failure one line that says what happened; may be NULL
 *
 * Return: 0, also when stopped; -ECONNREFUSED (no listener); -ECONNRESET,
 * -ETIMEDOUT, -EHOSTUNREACH (the peer is gone); -EPROTO (the peer is no rackwire
 * server, or refused the service); -EBADMSG (contents came back wrong, at
 * either side; counted, the run goes on to its end); -EALREADY (ran before).
 */
int rackwire_dcpim_work_run(struct rackwire_dcpim_work *work, char *error, size_t error_length);

/*
 * rackwire_dcpim_work_stop() - end the run: a client starts nothing new, waits at
 * most 0.1 s for what is under way and 0.5 s for the server's account. Any
 * thread, any number of times, before or during the run.
 */
void rackwire_dcpim_work_stop(struct rackwire_dcpim_work *work);

/* Close every connection and free all. Not during the run. */
void rackwire_dcpim_work_close(struct rackwire_dcpim_work *work);

/* The server's port for a transport, 0 where it has none. */
uint16_t rackwire_dcpim_work_port(const struct rackwire_dcpim_work *work, uint32_t transport);

/*
 * rackwire_dcpim_work_connections() - the open connections and the latest ended
 * ones, oldest first. Any thread, also during the run.
 * Return: how many were written, at most @max and RACKWIRE_DCPIM_WORK_ROWS.
 */
uint32_t rackwire_dcpim_work_connections(struct rackwire_dcpim_work *work,
					 struct rackwire_dcpim_work_connection *rows, uint32_t max);

/*
 * rackwire_dcpim_work_engine() - the engine, for rackwire_dcpim_engine_stats(),
 * rackwire_dcpim_engine_json() and rackwire_dcpim_control_path(), also during
 * the run. It stays the work's.
 */
struct rackwire_dcpim_engine *rackwire_dcpim_work_engine(struct rackwire_dcpim_work *work);

#ifdef __cplusplus
}
#endif

#endif
