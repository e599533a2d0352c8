/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * engine.h: the dcPIM engine as C code inside this library sees it. An engine
 * has shards; a shard is one struct dcpim_host with its kernel sockets, buffers
 * and one lock. The socket interface (rackwire_dcpim.h) is one user of it; hot
 * loops that want no lock, no copy and no second thread are another:
 *
 *	static void on_event(void *app, struct dcpim_shard *s, const struct dcpim_event *ev, u64 now);
 *	static void on_timer(void *app, struct dcpim_shard *s, u64 now);
 *	static const struct dcpim_app_ops ops = { on_event, on_timer };
 *
 *	dcpim_engine_open(&config, &ops, app, &engine, error, sizeof(error));
 *	dcpim_engine_listen(engine, &addr, 1 << DCPIM_STREAM, 128, user, &listener);
 *	dcpim_engine_run(engine, &stop);	returns when stop is set, then dcpim_engine_wake()
 *	rackwire_dcpim_engine_close(engine, linger_ns);
 *
 * The callbacks run on the shard's thread with its lock held and may call every
 * core function on flows of that shard. What they produce is sent when they
 * return; they never wait.
 */
#ifndef RACKWIRE_DCPIM_ENGINE_H
#define RACKWIRE_DCPIM_ENGINE_H

#include "dcpim/core/dcpim.h"
#include "rackwire_dcpim.h"

struct dcpim_shard;

struct dcpim_app_ops {
	/* One core event. On DCPIM_EV_ACCEPT the app calls dcpim_accepted(). */
	void (*on_event)(void *app, struct dcpim_shard *shard, const struct dcpim_event *ev, u64 now);
	/*
	 * Called once on each shard when dcpim_engine_run() begins, after each
	 * dcpim_engine_wake(), and when the time of dcpim_shard_set_deadline() has
	 * come (which is then forgotten). May be NULL.
	 */
	void (*on_timer)(void *app, struct dcpim_shard *shard, u64 now);
};

/*
 * dcpim_engine_open() - as rackwire_dcpim_engine_open(), for an app. No socket
 * calls are possible on such an engine, and nothing moves before
 * dcpim_engine_run(). @ops and @app stay the caller's and outlive the engine.
 */
int dcpim_engine_open(const struct rackwire_dcpim_config *config, const struct dcpim_app_ops *ops, void *app,
		      struct rackwire_dcpim_engine **out, char *error, size_t error_length);

/*
 * dcpim_engine_run() - run every shard on a thread of its own (pinned as
 * configured, signals masked) until *stop is not 0. Blocks the caller. Whoever
 * sets *stop then calls dcpim_engine_wake(). May be called again later.
 * Return: 0 or -errno (threads could not be made).
 */
int dcpim_engine_run(struct rackwire_dcpim_engine *engine, const int *stop);

/* dcpim_engine_wake() - make each shard call on_timer soon. Any thread, async-signal-safe. */
void dcpim_engine_wake(struct rackwire_dcpim_engine *engine);

u32 dcpim_engine_shards(const struct rackwire_dcpim_engine *engine);
struct dcpim_shard *dcpim_engine_shard(struct rackwire_dcpim_engine *engine, u32 index);

/* The shard to connect to @to from: with raw the one that serves this peer, with UDP each in turn. */
struct dcpim_shard *dcpim_engine_shard_for(struct rackwire_dcpim_engine *engine, const struct sockaddr_storage *to);

u32 dcpim_shard_index(const struct dcpim_shard *shard);
struct dcpim_host *dcpim_shard_host(struct dcpim_shard *shard);
/* The time the present batch is run at, CLOCK_MONOTONIC ns; costs nothing. */
u64 dcpim_shard_now(const struct dcpim_shard *shard);
/* The clock itself, for latency measurements. */
u64 dcpim_shard_clock(void);
/* on_timer at @when (DCPIM_NEVER: not); one per shard, the last call counts. From callbacks only. */
void dcpim_shard_set_deadline(struct dcpim_shard *shard, u64 when);
void dcpim_shard_set_user(struct dcpim_shard *shard, void *user);
void *dcpim_shard_user(const struct dcpim_shard *shard);
/* CPU time the shard's thread has used so far, ns; from callbacks only. */
u64 dcpim_shard_cpu_ns(void);

/*
 * dcpim_engine_listen() - listen with every shard; before dcpim_engine_run().
 * @addr:  where; port not 0 unless dcpim_engine_listen_port() is asked afterwards
 * @kinds: 1 << DCPIM_STREAM | 1 << DCPIM_MESSAGE
 * @user:  dcpim_listener_user() of the listeners
 * Return: 0, -EADDRINUSE, -EADDRNOTAVAIL, -EACCES, ...
 */
struct dcpim_engine_listener;
int dcpim_engine_listen(struct rackwire_dcpim_engine *engine, const struct sockaddr_storage *addr, u32 kinds,
			u32 backlog, void *user, struct dcpim_engine_listener **out);
u16 dcpim_engine_listen_port(const struct dcpim_engine_listener *listener);
/* Stop listening; not while dcpim_engine_run() is under way. rackwire_dcpim_engine_close() does it too. */
void dcpim_engine_unlisten(struct dcpim_engine_listener *listener);

/*
 * dcpim_shard_connect() - connect from this shard; from callbacks, or before
 * dcpim_engine_run().
 * @from: local address and port (NULL, or port 0: chosen); the port stays taken
 *        for the life of the engine
 * @to:   the peer, already resolved
 * Return: as dcpim_connect() and bind(2); -ENETUNREACH without a route; -EXDEV
 * (raw: another shard serves this peer, see dcpim_engine_shard_for()).
 */
int dcpim_shard_connect(struct dcpim_shard *shard, enum dcpim_kind kind, const struct sockaddr_storage *from,
			const struct sockaddr_storage *to, void *user, struct dcpim_flow **out);

/* dcpim_path_sockaddr() - a path as a socket address with this port; returns its length. */
socklen_t dcpim_path_sockaddr(const struct dcpim_path *path, u16 port, struct sockaddr_storage *out);

/*
 * Send memory. A struct dcpim_buf given to dcpim_send*() either comes from
 * dcpim_shard_buf(), and returns to the pool when the peer has acknowledged it,
 * or has cookie NULL: then the memory is the app's and must stay valid and
 * unchanged for as long as the flow exists.
 */

/*
 * dcpim_shard_buf() - a buffer of at least @size bytes with one reference.
 * @out->len is set to @size; the app fills @out->ptr (cast away const) and may
 * lower len. Sizes up to DCPIM_BUF_POOLED come from a pool, larger ones from
 * malloc. From callbacks only. Return: 0 or -ENOMEM.
 */
#define DCPIM_BUF_POOLED 65536
int dcpim_shard_buf(struct dcpim_shard *shard, u32 size, struct dcpim_buf *out);
/* One more reference, to send the same memory once more. */
void dcpim_shard_buf_ref(struct dcpim_shard *shard, const struct dcpim_buf *buf);
/* Give a reference back that was not handed to the core. */
void dcpim_shard_buf_put(struct dcpim_shard *shard, const struct dcpim_buf *buf);

#endif
