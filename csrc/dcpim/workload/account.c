// SPDX-License-Identifier: BSD-2-Clause
/* What is counted, and the rows that show single connections. */
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "work.h"

const u8 work_blank[WORK_CHUNK];

void work_count(struct work_lane *l, u32 counter, u64 amount)
{
	if (!amount)
		return;
	if (l->lock)
		pthread_mutex_lock(l->lock);
	rackwire_stats_add(l->stats, l->transport * RACKWIRE_DCPIM_WORK_COUNTERS + counter, amount);
	if (l->lock)
		pthread_mutex_unlock(l->lock);
}

void work_latency(struct work_lane *l, u64 ns)
{
	rackwire_histogram_record(&l->stats->histograms[l->transport], ns);
}

void work_count_cpu(struct work_lane *l)
{
	u64 cpu = rackwire_thread_cpu_ns();

	work_count(l, RACKWIRE_DCPIM_WORK_CPU_NS, cpu - l->cpu_seen);
	l->cpu_seen = cpu;
}

static void peer_text(const struct sockaddr_storage *peer, char *out, size_t length)
{
	const struct sockaddr_in6 *six = (const void *)peer;
	const struct sockaddr_in *four = (const void *)peer;
	char text[INET6_ADDRSTRLEN] = "", zone[IF_NAMESIZE] = "";
	bool mapped = peer->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&six->sin6_addr);

	if (peer->ss_family == AF_INET || mapped) {
		inet_ntop(AF_INET, mapped ? (const void *)&six->sin6_addr.s6_addr[12] : &four->sin_addr, text,
			  sizeof(text));
		snprintf(out, length, "%s:%u", text, ntohs(four->sin_port));
		return;
	}
	inet_ntop(AF_INET6, &six->sin6_addr, text, sizeof(text));
	if (six->sin6_scope_id && if_indextoname(six->sin6_scope_id, zone))
		snprintf(out, length, "[%s%%%s]:%u", text, zone, ntohs(six->sin6_port));
	else
		snprintf(out, length, "[%s]:%u", text, ntohs(six->sin6_port));
}

/* A free row, or that of the connection that ended first. */
static struct work_row *row_take(struct rackwire_dcpim_work *w)
{
	struct work_row *oldest = NULL;
	u32 i;

	for (i = 0; i < RACKWIRE_DCPIM_WORK_ROWS; i++) {
		struct work_row *r = &w->rows[i];

		if (!r->row.id)
			return r;
		if (r->ended_at && (!oldest || r->ended_at < oldest->ended_at))
			oldest = r;
	}
	return oldest;
}

static void row_fill(struct work_conn *c, u64 rtx, u32 srtt_us)
{
	struct rackwire_dcpim_work_connection *row = &c->row->row;
	unsigned int cpu = 0;

	getcpu(&cpu, NULL);
	row->cpu = cpu;
	row->service = c->service;
	row->srtt_us = srtt_us;
	row->tx_bytes = c->tx_pos;
	row->rx_bytes = c->rx_pos;
	row->requests = c->requests;
	row->verified_bytes = c->verified;
	row->corrupt_bytes = c->corrupt;
	row->corrupt_at = c->corrupt_at;
	row->rtx_bytes = rtx;
}

void work_conn_opened(struct work_conn *c, const struct sockaddr_storage *peer)
{
	struct work_lane *l = c->lane;
	struct rackwire_dcpim_work *w = l->work;

	c->opened_at = rackwire_now_ns();
	c->cpu_from = rackwire_thread_cpu_ns();
	work_count(l, RACKWIRE_DCPIM_WORK_OPENED, 1);
	work_count(l, RACKWIRE_DCPIM_WORK_OPEN, 1);
	pthread_mutex_lock(&w->lock);
	c->row = row_take(w);
	w->next_id++;
	if (c->row) {
		memset(c->row, 0, sizeof(*c->row));
		c->row->opened_at = c->opened_at;
		c->row->row.id = w->next_id;
		c->row->row.transport = l->transport;
		c->row->row.message = c->message && l->transport == RACKWIRE_DCPIM_WORK_DCPIM;
		c->row->row.state = RACKWIRE_DCPIM_WORK_ESTABLISHED;
		c->row->row.thread = l->shard ? dcpim_shard_index(l->shard) : 0;
		peer_text(peer, c->row->row.peer, sizeof(c->row->row.peer));
		row_fill(c, 0, 0);
	}
	pthread_mutex_unlock(&w->lock);
}

void work_conn_refresh(struct work_conn *c, u64 rtx, u32 srtt_us)
{
	struct rackwire_dcpim_work *w = c->lane->work;

	work_count(c->lane, RACKWIRE_DCPIM_WORK_RTX_BYTES, rtx - c->rtx_seen);
	c->rtx_seen = rtx;
	if (!c->row)
		return;
	pthread_mutex_lock(&w->lock);
	row_fill(c, rtx, srtt_us);
	pthread_mutex_unlock(&w->lock);
}

void work_conn_ended(struct work_conn *c, int error, u64 rtx, u32 srtt_us)
{
	struct rackwire_dcpim_work *w = c->lane->work;

	if (!c->opened_at)
		return;
	work_conn_refresh(c, rtx, srtt_us);
	work_count(c->lane, RACKWIRE_DCPIM_WORK_OPEN, (u64)-1);
	work_count(c->lane, RACKWIRE_DCPIM_WORK_FAILED, error ? 1 : 0);
	c->opened_at = 0;
	if (!c->row)
		return;
	pthread_mutex_lock(&w->lock);
	c->row->row.state = error ? RACKWIRE_DCPIM_WORK_BROKEN : RACKWIRE_DCPIM_WORK_ENDED;
	c->row->row.error = error;
	c->row->ended_at = rackwire_now_ns();
	pthread_mutex_unlock(&w->lock);
	c->row = NULL;
}

void work_check(struct work_conn *c, u64 pos, const u8 *data, u32 len, u64 where)
{
	struct rackwire_dcpim_work *w = c->lane->work;
	size_t first = 0, wrong;

	if (!c->check)
		return;
	wrong = work_pattern_check(c->seed, pos, data, len, &first);
	c->verified += len - wrong;
	work_count(c->lane, RACKWIRE_DCPIM_WORK_VERIFIED_BYTES, len - wrong);
	if (!wrong)
		return;
	if (!c->corrupt)
		c->corrupt_at = c->message ? where : where + first;
	c->corrupt += wrong;
	work_count(c->lane, RACKWIRE_DCPIM_WORK_CORRUPT_BYTES, wrong);
	__atomic_store_n(&w->corrupt, true, __ATOMIC_RELAXED);
}

void work_check_number(struct work_conn *c, u64 corrupt_before, u32 len)
{
	if (!c->check || c->corrupt != corrupt_before)
		return;
	c->verified += len;
	work_count(c->lane, RACKWIRE_DCPIM_WORK_VERIFIED_BYTES, len);
}

void work_report_fill(const struct work_conn *c, struct service_report *report)
{
	*report = (struct service_report){
		.bytes = c->service == RACKWIRE_DCPIM_WORK_SERVICE_SOURCE ? c->tx_pos : c->rx_pos,
		.requests = c->requests,
		.verified = c->verified,
		.corrupt = c->corrupt,
		.corrupt_at = c->corrupt_at,
		.thread = (u64)syscall(SYS_gettid),
		.cpu_from = c->cpu_from,
		.cpu_to = rackwire_thread_cpu_ns(),
	};
}

/* CPU time of threads that the server's accounts add to what is known. */
static u64 peer_cpu(struct rackwire_dcpim_work *w, u32 transport, const struct service_report *r)
{
	struct work_peer_cpu *p = w->peer_cpu[transport];
	u64 before;
	u32 i;

	for (i = 0; i < WORK_CPU_THREADS; i++, p++) {
		if (p->to && p->thread != r->thread)
			continue;
		if (!p->to) {
			*p = (struct work_peer_cpu){ r->thread, r->cpu_from, r->cpu_to };
			return r->cpu_to - r->cpu_from;
		}
		before = p->to - p->from;
		p->from = dcpim_min(p->from, r->cpu_from);
		p->to = dcpim_max(p->to, r->cpu_to);
		return p->to - p->from - before;
	}
	return 0;
}

void work_report_take(struct work_conn *c, const struct service_report *r)
{
	struct work_lane *l = c->lane;
	struct rackwire_dcpim_work *w = l->work;
	u64 cpu;

	pthread_mutex_lock(&w->lock);
	cpu = peer_cpu(w, l->transport, r);
	pthread_mutex_unlock(&w->lock);
	if (r->corrupt)
		__atomic_store_n(&w->corrupt, true, __ATOMIC_RELAXED);
	work_count(l, RACKWIRE_DCPIM_WORK_PEER_REPORTS, 1);
	work_count(l, RACKWIRE_DCPIM_WORK_PEER_BYTES, r->bytes);
	work_count(l, RACKWIRE_DCPIM_WORK_PEER_REQUESTS, r->requests);
	work_count(l, RACKWIRE_DCPIM_WORK_PEER_VERIFIED_BYTES, r->verified);
	work_count(l, RACKWIRE_DCPIM_WORK_PEER_CORRUPT_BYTES, r->corrupt);
	work_count(l, RACKWIRE_DCPIM_WORK_PEER_CPU_NS, cpu);
}
