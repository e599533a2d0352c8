// SPDX-License-Identifier: BSD-2-Clause
/* Figures: one structure, or one JSON document. */
#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "clock.h"
#include "socket.h"

#define PROTOCOL_COUNTERS(X)                                                                                   \
	X(rx_packets) X(rx_bytes) X(tx_packets) X(tx_bytes) X(rx_bad) X(rx_bad_tag) X(rx_duplicate)            \
	X(rx_dropped) X(data_bytes_tx) X(data_bytes_rx) X(rtx_bytes) X(rtx_packets) X(unsched_bytes) X(epochs) \
	X(rts_tx) X(rts_rx) X(grant_tx) X(grant_rx) X(accept_tx) X(accept_rx) X(revoke_tx) X(revoke_rx)        \
	X(channels_matched_rx) X(channels_matched_tx) X(prompt_matched) X(token_tx) X(token_rx)                \
	X(token_bytes_tx) X(ack_tx) X(ack_rx) X(demand_tx) X(demand_rx) X(probe_timeouts) X(msgs_tx)           \
	X(msgs_rx) X(msgs_acked) X(flows_opened) X(flows_accepted) X(flows_refused) X(flows_reset)             \
	X(flows_dead) X(flows_closed) X(keepalive_tx) X(reset_tx) X(phase_jumps)

#define ENGINE_COUNTERS(X)                                                                                  \
	X(rx_calls) X(tx_calls) X(rx_datagrams) X(tx_datagrams) X(rx_truncated) X(rx_foreign) X(tx_errors) \
	X(tx_blocked) X(icmp_errors) X(hold_ref_bytes) X(hold_copy_bytes) X(sleeps) X(wakeups)

#define GAUGES(X)                                                                                          \
	X(epoch) X(sockets) X(flows) X(listeners) X(peers) X(msgs) X(segs) X(rx_matched) X(tx_matched)     \
	X(tokens_outstanding) X(window) X(memory_core) X(memory_sockets) X(memory_buffers) X(memory_pools)

static void add_shard(struct dcpim_shard *s, struct rackwire_dcpim_stats *out)
{
	struct dcpim_stats core;
	struct dcpim_info info;

	dcpim_stats_get(s->host, &core);
	dcpim_info_get(s->host, s->now, &info);
#define ADD(name) out->name += core.name;
	PROTOCOL_COUNTERS(ADD)
#undef ADD
#define ADD(name) out->name += s->counters.name;
	ENGINE_COUNTERS(ADD)
#undef ADD
	out->rx_socket_drops += dcpim_ports_drops(s);
	out->epoch = dcpim_max(out->epoch, info.epoch);
	out->sockets += s->nsockets;
	out->flows += info.flows;
	out->listeners += info.listeners;
	out->peers += info.peers;
	out->msgs += info.msgs;
	out->segs += info.segs;
	out->rx_matched += info.rx_matched_cur;
	out->tx_matched += info.tx_matched_cur;
	out->tokens_outstanding += info.tokens_outstanding;
	out->window = info.window;
	out->memory_core += s->pool.core;
	out->memory_sockets += s->nsockets * sizeof(struct rackwire_dcpim_socket);
	out->memory_buffers += s->pool.in_use;
	out->memory_pools += s->pool.kept;
}

int rackwire_dcpim_engine_stats(struct rackwire_dcpim_engine *e, struct rackwire_dcpim_stats *stats)
{
	u32 i;

	if (!stats || stats->size != sizeof(*stats))
		return -EINVAL;
	*stats = (struct rackwire_dcpim_stats){ .size = sizeof(*stats), .threads = e->nshards };
	for (i = 0; i < e->nshards; i++) {
		dcpim_shard_lock(e->shards[i]);
		e->shards[i]->now = rackwire_now_ns();
		add_shard(e->shards[i], stats);
		dcpim_shard_unlock(e->shards[i]);
	}
	return 0;
}

/* ---- JSON ---- */

struct text {
	char *at;
	size_t length, size;
	bool failed;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *t, const char *format, ...)
{
	va_list args;
	size_t room;
	char *more;
	int n;

	for (;;) {
		room = t->size - t->length;
		va_start(args, format);
		n = vsnprintf(t->at ? t->at + t->length : NULL, room, format, args);
		va_end(args);
		if (n < 0 || t->failed)
			return;
		if ((size_t)n < room)
			break;
		more = realloc(t->at, t->size * 2 + (size_t)n + 4096);
		if (!more) {
			t->failed = true;
			return;
		}
		t->at = more;
		t->size = t->size * 2 + (size_t)n + 4096;
	}
	t->length += (size_t)n;
}

static void put_address(struct text *t, const u8 addr[16], u16 port)
{
	bool v4 = dcpim_addr_is_v4(addr);
	char text[INET6_ADDRSTRLEN] = "";

	inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? addr + 12 : addr, text, sizeof(text));
	put(t, v4 ? "\"%s:%u\"" : "\"[%s]:%u\"", text, port);
}

#define PEERS 1024
#define LISTED 1000

struct peer_sum {
	u8 addr[16];
	u16 port;
	u32 connections, srtt_us;
	u64 tx_queued, bytes_tx, bytes_rx, rtx_bytes;
};

struct peer_table {
	struct peer_sum at[PEERS];
	u32 n;
};

static void sum_peer(struct peer_table *table, const struct dcpim_flow_info *info)
{
	struct peer_sum *p;
	u32 i;

	/* The last one first: the connections of one peer tend to lie together. */
	for (i = table->n; i-- > 0;)
		if (table->at[i].port == info->path.port && !memcmp(table->at[i].addr, info->path.addr, 16))
			break;
	if (i == ~0u) {
		if (table->n == PEERS)
			return;
		i = table->n++;
		memcpy(table->at[i].addr, info->path.addr, 16);
		table->at[i].port = info->path.port;
	}
	p = &table->at[i];
	p->connections++;
	if (info->srtt_us && (!p->srtt_us || info->srtt_us < p->srtt_us))
		p->srtt_us = info->srtt_us;
	p->tx_queued += info->tx_queued;
	p->bytes_tx += info->bytes_tx;
	p->bytes_rx += info->bytes_rx;
	p->rtx_bytes += info->rtx_bytes;
}

static const char *const state_names[] = {
	[DCPIM_CONNECTING] = "connecting", [DCPIM_HALF_OPEN] = "half open", [DCPIM_OPEN] = "open",
	[DCPIM_CLOSING] = "closing",	   [DCPIM_TIMEWAIT] = "time wait",  [DCPIM_FAILED] = "failed",
};

static void put_flow(struct text *t, const struct dcpim_flow_info *info, u32 shard, bool first)
{
	put(t, "%s\n    {\"thread\": %u, \"kind\": \"%s\", \"state\": \"%s\", \"local_port\": %u, \"peer\": ",
	    first ? "" : ",", shard, info->kind == DCPIM_STREAM ? "stream" : "message",
	    info->state < sizeof(state_names) / sizeof(state_names[0]) ? state_names[info->state] : "?", info->sport);
	put_address(t, info->path.addr, info->dport);
	put(t,
	    ", \"error\": %d, \"srtt_us\": %u, \"tx_queued\": %llu, \"rx_queued\": %llu, \"bytes_tx\": %llu,"
	    " \"bytes_rx\": %llu, \"rtx_bytes\": %llu}",
	    -info->error, info->srtt_us, (unsigned long long)info->tx_queued, (unsigned long long)info->rx_queued,
	    (unsigned long long)info->bytes_tx, (unsigned long long)info->bytes_rx,
	    (unsigned long long)info->rtx_bytes);
}

static void put_flows(struct text *t, struct rackwire_dcpim_engine *e, struct peer_table *peers)
{
	struct dcpim_flow_info info;
	u32 i, n = 0;

	put(t, "  \"connections\": [");
	for (i = 0; i < e->nshards; i++) {
		struct dcpim_shard *s = e->shards[i];
		struct dcpim_flow *f = NULL;

		dcpim_shard_lock(s);
		while ((f = dcpim_flow_next(s->host, f))) {
			dcpim_flow_info(f, &info);
			sum_peer(peers, &info);
			if (n < LISTED)
				put_flow(t, &info, i, !n);
			n++;
		}
		dcpim_shard_unlock(s);
	}
	put(t, "%s],\n  \"connections_omitted\": %u,\n", n ? "\n  " : "", n > LISTED ? n - LISTED : 0);
}

static void put_peers(struct text *t, const struct peer_table *peers)
{
	u32 i;

	put(t, "  \"peers\": [");
	for (i = 0; i < peers->n; i++) {
		const struct peer_sum *p = &peers->at[i];

		put(t, "%s\n    {\"address\": ", i ? "," : "");
		put_address(t, p->addr, p->port);
		put(t,
		    ", \"connections\": %u, \"srtt_us\": %u, \"tx_queued\": %llu, \"bytes_tx\": %llu,"
		    " \"bytes_rx\": %llu, \"rtx_bytes\": %llu}",
		    p->connections, p->srtt_us, (unsigned long long)p->tx_queued, (unsigned long long)p->bytes_tx,
		    (unsigned long long)p->bytes_rx, (unsigned long long)p->rtx_bytes);
	}
	put(t, "%s],\n", peers->n ? "\n  " : "");
}

static void put_sockets(struct text *t, struct rackwire_dcpim_engine *e)
{
	struct dcpim_list *l;
	bool first = true;
	u32 i;

	put(t, "  \"kernel_sockets\": [");
	for (i = 0; i < e->nshards; i++) {
		struct dcpim_shard *s = e->shards[i];

		dcpim_shard_lock(s);
		for (l = s->ports.next; l != &s->ports; l = l->next) {
			struct dcpim_port *port = dcpim_container(l, struct dcpim_port, node);
			u8 addr[16];
			u32 scope;
			u16 number;

			dcpim_addr_from(&port->addr, addr, &number, &scope);
			put(t, "%s\n    {\"thread\": %u, \"address\": ", first ? "" : ",", i);
			put_address(t, addr, number);
			put(t, ", \"gso\": %s, \"gro\": %s, \"users\": %u}", port->gso ? "true" : "false",
			    port->gro ? "true" : "false", port->refs);
			first = false;
		}
		dcpim_shard_unlock(s);
	}
	put(t, "%s],\n", first ? "" : "\n  ");
}

static void put_parameters(struct text *t, const struct rackwire_dcpim_engine *e)
{
	const struct dcpim_cfg *c = &e->cfg;

	put(t,
	    "  \"parameters\": {\"rate_bps\": %llu, \"ctrl_rtt_ns\": %llu, \"data_rtt_ns\": %llu, \"alpha_milli\": %u,"
	    " \"beta_milli\": %u, \"rounds\": %u, \"channels\": %u, \"epoch_ns\": %llu, \"bdp_bytes\": %llu,"
	    " \"max_packet\": %u, \"rx_budget\": %llu, \"unsched_accept\": %u, \"socket_rcvbuf\": %llu},\n",
	    (unsigned long long)e->config.rate_bps, (unsigned long long)c->ctrl_rtt_ns,
	    (unsigned long long)c->data_rtt_ns, c->alpha_milli, c->beta_milli, c->rounds, c->channels,
	    (unsigned long long)dcpim_cfg_epoch_ns(c), (unsigned long long)dcpim_cfg_bdp(c), c->max_packet,
	    (unsigned long long)c->rx_budget, c->unsched_accept, (unsigned long long)e->rcvbuf);
}

static void put_counters(struct text *t, const struct rackwire_dcpim_stats *stats)
{
	put(t, "  \"counters\": {");
#define PUT(name) put(t, "\"" #name "\": %llu, ", (unsigned long long)stats->name);
	PROTOCOL_COUNTERS(PUT)
	ENGINE_COUNTERS(PUT)
	put(t, "\"rx_socket_drops\": %llu},\n", (unsigned long long)stats->rx_socket_drops);
	put(t, "  \"gauges\": {");
	GAUGES(PUT)
#undef PUT
	put(t, "\"threads\": %u}\n", stats->threads);
}

ssize_t dcpim_engine_json(struct rackwire_dcpim_engine *e, char **out)
{
	struct rackwire_dcpim_stats stats = { .size = sizeof(stats) };
	struct peer_table *peers = calloc(1, sizeof(*peers));
	struct text t = { 0 };

	if (!peers)
		return -ENOMEM;
	rackwire_dcpim_engine_stats(e, &stats);
	put(&t, "{\n  \"schema\": \"rackwire.dcpim.stat/1\",\n  \"pid\": %d,\n  \"engine\": \"%s\",\n"
		"  \"threads\": %u,\n  \"uptime_s\": %.3f,\n",
	    (int)getpid(), e->raw ? "raw" : "udp", e->nshards, (double)(rackwire_now_ns() - e->opened_at) / 1e9);
	put_parameters(&t, e);
	put_sockets(&t, e);
	put_flows(&t, e, peers);
	put_peers(&t, peers);
	put_counters(&t, &stats);
	put(&t, "}\n");
	free(peers);
	if (t.failed) {
		free(t.at);
		return -ENOMEM;
	}
	*out = t.at;
	return (ssize_t)t.length;
}

ssize_t rackwire_dcpim_engine_json(struct rackwire_dcpim_engine *e, char *text, size_t length)
{
	char *json;
	ssize_t n = dcpim_engine_json(e, &json);

	if (n < 0)
		return n;
	if (text && length) {
		size_t copy = dcpim_min((u64)n, length - 1);

		memcpy(text, json, copy);
		text[copy] = 0;
	}
	free(json);
	return n;
}
