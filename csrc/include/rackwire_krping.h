/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rackwire_krping.h: the loops behind `rackwire krping server|client`: ping-pong by
 * RDMA READ and WRITE as krping and rping do it, and benchmarks.
 *
 *	rackwire_krping_open(&config, stats, length, &work, error, sizeof(error));
 *	rackwire_krping_run(work, error, sizeof(error));	until done or stopped
 *	rackwire_krping_close(work);
 *
 * A work runs on its caller's thread (and those of its engine). Between two of
 * ours the private data of the connection request says what the client wants;
 * without it the peer is an rping or the original krping. docs/krping-wire.md
 * describes both. Figures go into shared memory (csrc/common/shared_stats.h).
 * Results are 0 or a negative errno. Nothing here prints or raises signals.
 * Durations are nanoseconds of CLOCK_MONOTONIC, sizes are bytes.
 */
#ifndef RACKWIRE_KRPING_H
#define RACKWIRE_KRPING_H

#include <stddef.h>
#include <stdint.h>

#include "rackwire_roce_types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RACKWIRE_KRPING_ABI_VERSION 1

struct rackwire_krping_work;

enum rackwire_krping_engine {
	RACKWIRE_KRPING_KERNEL = 1,
	RACKWIRE_KRPING_VERBS = 2,
	RACKWIRE_KRPING_SOFT = 3,
};

enum rackwire_krping_kind {
	RACKWIRE_KRPING_SERVER = 1,
	RACKWIRE_KRPING_PING = 2,  /* client SENDs a key, server READs, client SENDs another, server WRITEs */
	RACKWIRE_KRPING_WLAT = 3,  /* WRITE ping-pong, both ends watching memory */
	RACKWIRE_KRPING_RLAT = 4,  /* one READ at a time */
	RACKWIRE_KRPING_SLAT = 5,  /* SEND ping-pong */
	RACKWIRE_KRPING_ALAT = 6,  /* one atomic at a time */
	RACKWIRE_KRPING_BW = 7,	   /* txdepth requests under way */
};

enum rackwire_krping_op { /* of a bandwidth run; ALAT: one of the last two */
	RACKWIRE_KRPING_OP_WRITE = 0,
	RACKWIRE_KRPING_OP_READ = 1,
	RACKWIRE_KRPING_OP_SEND = 2,
	RACKWIRE_KRPING_OP_FADD = 3,
	RACKWIRE_KRPING_OP_CSWAP = 4,
};

#define RACKWIRE_KRPING_VALIDATE 0x1	    /* PING: compare what comes back, byte for byte; ALAT: the values */
#define RACKWIRE_KRPING_VERBOSE 0x2	    /* keep a line for each ping: rackwire_krping_lines() */
#define RACKWIRE_KRPING_SERVER_INV 0x4	    /* the server's go-ahead invalidates the client's key */
#define RACKWIRE_KRPING_READ_INV 0x8	    /* the server's READ invalidates its own key */
#define RACKWIRE_KRPING_LOCAL_DMA_LKEY 0x10 /* the server WRITEs from memory without a region */
#define RACKWIRE_KRPING_REG 0x20	    /* mem_mode reg: a new key for every advertisement; else one registration */
#define RACKWIRE_KRPING_POLL 0x40	    /* spin on the CQ instead of sleeping */
#define RACKWIRE_KRPING_DUPLEX 0x80	    /* BW: the server does the same at the same time */
#define RACKWIRE_KRPING_CLASSIC 0x100	    /* client: no private data, as rping; nothing but PING needs none */
#define RACKWIRE_KRPING_ECN 0x200
#define RACKWIRE_KRPING_NO_OFFLOAD 0x400
#define RACKWIRE_KRPING_ONCE 0x800	    /* server: end after the first client has gone */

#define RACKWIRE_KRPING_MIN_SIZE 1
#define RACKWIRE_KRPING_MAX_SIZE (1u << 30)
#define RACKWIRE_KRPING_MAX_TXDEPTH 8192
#define RACKWIRE_KRPING_MAX_CLIENTS 4096 /* of one server at a time */
#define RACKWIRE_KRPING_ROWS 64
#define RACKWIRE_KRPING_ERROR_LEN 256

/* 0 takes the default named beside a field. */
struct rackwire_krping_config {
	uint32_t size;	  /* sizeof(struct rackwire_krping_config) */
	uint32_t engine;  /* enum rackwire_krping_engine */
	uint32_t kind;	  /* enum rackwire_krping_kind */
	uint32_t flags;	  /* RACKWIRE_KRPING_VALIDATE | ... */
	char address[64]; /* server: where to listen, empty: everywhere; client: the peer. Numeric, "fe80::1%eth0" */
	char local[64];	  /* client: source address; empty: by the route */
	uint16_t port;	  /* server: 0: one is chosen; client: the server's, not 0 */
	uint8_t tos;
	uint8_t op;	  /* enum rackwire_krping_op */
	uint32_t length;  /* bytes of a ping or operation, 64; atomics: 8. Server: most that a client may ask for, RACKWIRE_KRPING_MAX_SIZE */
	uint64_t count;	  /* pings or operations of each connection after the warm-up; 0: no limit */
	uint64_t warmup_count; /* of each connection before them, not recorded */
	uint64_t duration_ns;  /* 0: no limit */
	uint64_t interval_ns;  /* PING: between the starts of two; 0: at once */
	uint64_t timeout_ns;   /* of connecting; 5 s */
	uint32_t txdepth;      /* BW; 64 */
	uint32_t connections;  /* client: in parallel; 1 */
	uint32_t mtu;	       /* payload of a packet; 0: the engine's choice */
	int32_t cpu;	       /* 0: any, else CPU number plus 1, of the run's thread */
	uint64_t memory;       /* server: most bytes registered for all clients together; 4 GiB */
	uint64_t seed;	       /* of contents and keys; 0: a random one */
	uint64_t spin_ns;      /* spin so long before sleeping; UINT64_MAX: always. WLAT always spins: nothing tells of a WRITE */
	uint32_t retry_count, rnr_retry_count; /* plus 1, so 1..8; 0: 7 and 7 */
	uint32_t ack_timeout;  /* code t: 4.096 us * 2^t; 14: 67 ms */
	uint32_t reserved;
};

/* Statistics: one block, these counters, then one histogram of nanoseconds: of
 * a whole ping (PING), half a round trip (WLAT, SLAT), one operation (RLAT,
 * ALAT, BW). The first eight are krping's own, in its order. */
enum rackwire_krping_counter {
	RACKWIRE_KRPING_SEND_BYTES,
	RACKWIRE_KRPING_SEND_MSGS,
	RACKWIRE_KRPING_RECV_BYTES,
	RACKWIRE_KRPING_RECV_MSGS,
	RACKWIRE_KRPING_WRITE_BYTES,
	RACKWIRE_KRPING_WRITE_MSGS,
	RACKWIRE_KRPING_READ_BYTES,
	RACKWIRE_KRPING_READ_MSGS,
	RACKWIRE_KRPING_ATOMIC_MSGS,
	RACKWIRE_KRPING_OPENED,	    /* connections established */
	RACKWIRE_KRPING_OPEN,	    /* gauge */
	RACKWIRE_KRPING_FAILED,	    /* connections that ended with an error */
	RACKWIRE_KRPING_REFUSED,    /* clients turned away: a cap, or a wish this server does not grant */
	RACKWIRE_KRPING_COMPLETED,  /* client: pings or operations after the warm-up */
	RACKWIRE_KRPING_WARMUP,
	RACKWIRE_KRPING_VERIFIED_BYTES,
	RACKWIRE_KRPING_CORRUPT_BYTES,
	RACKWIRE_KRPING_MEASURED_BYTES, /* client: moved in the measured time */
	RACKWIRE_KRPING_MEASURED_NS,
	RACKWIRE_KRPING_CPU_NS,	    /* of the process in it */
	RACKWIRE_KRPING_PEER_BYTES, /* DUPLEX: what the server moved, from our start to the end of its last request */
	RACKWIRE_KRPING_RTX_PACKETS, RACKWIRE_KRPING_TIMEOUTS, RACKWIRE_KRPING_SEQ_NAKS, RACKWIRE_KRPING_RNR_NAKS, /* soft engine */
	RACKWIRE_KRPING_COUNTERS
};

/* RACKWIRE_KRPING_ABI_VERSION of the library that is loaded. */
uint32_t rackwire_krping_abi_version(void);

size_t rackwire_krping_stats_length(void);

/*
 * rackwire_krping_open() - check everything, open the engine, as server listen.
 * A server's flags SERVER_INV, READ_INV, LOCAL_DMA_LKEY and REG are for classic clients; others say what they want.
 * With verbs there is no READ_INV and no LOCAL_DMA_LKEY, and ECN, NO_OFFLOAD and mtu are the device's.
 * Return: 0; -EINVAL (a field out of range); -ENODEV (this machine lacks what the engine needs; @error says what);
 * -EOPNOTSUPP (the engine cannot do what was asked, such as READ_INV on verbs); -EADDRINUSE; -EADDRNOTAVAIL; -ENOMEM; ...
 */
int rackwire_krping_open(const struct rackwire_krping_config *config, void *stats, size_t stats_length,
			 struct rackwire_krping_work **out, char *error, size_t error_length);
/*
 * rackwire_krping_run() - until count or duration is reached, rackwire_krping_stop() or failure. Once.
 * Return: 0, also when stopped; -ECONNREFUSED (nobody listens, or refused); -ETIMEDOUT; -EHOSTUNREACH;
 * -ECONNRESET (the peer went away); -EREMOTEIO (a request failed at the peer; @error names the completion status);
 * -EPROTO (the peer does not speak krping); -EOPNOTSUPP, -EMSGSIZE (the server cannot, or not so much); -EBADMSG (contents wrong; counted, the run goes on to its end).
 */
int rackwire_krping_run(struct rackwire_krping_work *work, char *error, size_t error_length);
void rackwire_krping_stop(struct rackwire_krping_work *work); /* any thread, any number of times; not from a signal handler */
void rackwire_krping_close(struct rackwire_krping_work *work); /* not during the run */

uint16_t rackwire_krping_port(const struct rackwire_krping_work *work);
/* Name of the device in use, "soft" or "rxe0", cut to @length with its NUL. */
void rackwire_krping_device(const struct rackwire_krping_work *work, char *name, size_t length);
uint32_t rackwire_krping_mtu(const struct rackwire_krping_work *work);

struct rackwire_krping_connection { /* one line of the original's /proc/krping and more */
	uint64_t id; /* counts up from 1 */
	uint32_t kind; /* enum rackwire_krping_kind, 0: not known yet */
	uint32_t state; /* 0 connecting, 1 established, 2 ended, 3 broken */
	int32_t error;
	uint32_t classic; /* no private data: an rping or krping */
	char peer[80]; /* "192.0.2.1:34567" */
	uint64_t age_ns;
	uint64_t counters[8]; /* RACKWIRE_KRPING_SEND_BYTES .. READ_MSGS */
	uint64_t pings;
	uint64_t verified_bytes, corrupt_bytes;
	uint32_t length;
	uint32_t qp_num;
};
/* Open connections and the latest ended ones, oldest first; any thread. Return: how many, at most @max and RACKWIRE_KRPING_ROWS. */
uint32_t rackwire_krping_connections(struct rackwire_krping_work *work, struct rackwire_krping_connection *rows, uint32_t max);

/*
 * rackwire_krping_lines() - with VERBOSE: whole lines "server ping data: rdma-ping-0: ABC..." printed by krping, oldest
 * first, bytes of the peer made printable, separated by newlines; taken out. Any thread.
 * Return: bytes written (< @length, no NUL); lines that found no room before are gone and counted in *lost.
 */
uint32_t rackwire_krping_lines(struct rackwire_krping_work *work, char *buffer, uint32_t length, uint64_t *lost);

/*
 * rackwire_krping_control() - open the control socket through which `krping stat` reads this work; it goes with the work.
 * @directory: as rackwire_control_open() of csrc/common/control_socket.h; NULL or empty: that of the runtime
 * @path: of the socket; empty where there is none
 */
int rackwire_krping_control(struct rackwire_krping_work *work, const char *directory, char *path, size_t length);

/*
 * rackwire_krping_probe() - can this machine run an engine? Opens and closes nothing on the network.
 * Return: 0 or -errno with one line in @error.
 */
int rackwire_krping_probe(uint32_t engine, char *error, size_t error_length);

#ifdef __cplusplus
}
#endif

#endif
