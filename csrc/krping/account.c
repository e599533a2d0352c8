// SPDX-License-Identifier: BSD-2-Clause
/* What is counted, the rows that show single connections, the lines of --verbose. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "address.h"
#include "work.h"

#define LINES_ROOM (256u << 10)
#define LINE_BYTES 64 /* of a ping's contents, as the original prints */

const char *account_status(uint32_t status)
{
	static const char *const names[] = {
		[RACKWIRE_ROCE_WC_LOC_LEN_ERR] = "local length error",
		[RACKWIRE_ROCE_WC_LOC_QP_OP_ERR] = "local queue pair operation error",
		[RACKWIRE_ROCE_WC_LOC_PROT_ERR] = "local protection error",
		[RACKWIRE_ROCE_WC_WR_FLUSH_ERR] = "flushed",
		[RACKWIRE_ROCE_WC_MW_BIND_ERR] = "memory window bind error",
		[RACKWIRE_ROCE_WC_BAD_RESP_ERR] = "bad response",
		[RACKWIRE_ROCE_WC_LOC_ACCESS_ERR] = "local access error",
		[RACKWIRE_ROCE_WC_REM_INV_REQ_ERR] = "remote invalid request error",
		[RACKWIRE_ROCE_WC_REM_ACCESS_ERR] = "remote access error",
		[RACKWIRE_ROCE_WC_REM_OP_ERR] = "remote operation error",
		[RACKWIRE_ROCE_WC_RETRY_EXC_ERR] = "retries exceeded",
		[RACKWIRE_ROCE_WC_RNR_RETRY_EXC_ERR] = "the receiver is never ready",
		[RACKWIRE_ROCE_WC_REM_ABORT_ERR] = "aborted by the peer",
		[RACKWIRE_ROCE_WC_FATAL_ERR] = "fatal device error",
		[RACKWIRE_ROCE_WC_GENERAL_ERR] = "general error",
	};

	return status < sizeof(names) / sizeof(names[0]) && names[status] ? names[status] : "unknown error";
}

/* ---- rows ---- */

/* A free row, or that of the connection that ended first. */
static struct work_row *row_take(struct rackwire_krping_work *w)
{
	struct work_row *oldest = NULL;
	uint32_t i;

	for (i = 0; i < RACKWIRE_KRPING_ROWS; i++) {
		struct work_row *r = &w->rows[i];

		if (!r->row.id)
			return r;
		if (r->ended_at && (!oldest || r->ended_at < oldest->ended_at))
			oldest = r;
	}
	return oldest;
}

static void row_fill(struct krping_conn *c)
{
	struct rackwire_krping_connection *row = &c->row->row;

	row->kind = c->kind;
	row->length = c->length;
	row->pings = c->pings;
	row->verified_bytes = c->verified;
	row->corrupt_bytes = c->corrupt;
	memcpy(row->counters, c->counters, sizeof(row->counters));
}

void account_open(struct krping_conn *c)
{
	struct rackwire_krping_work *w = c->work;

	c->opened_at = rackwire_now_ns();
	w->open++;
	work_count(w, RACKWIRE_KRPING_OPENED, 1);
	rackwire_stats_set(&w->stats, RACKWIRE_KRPING_OPEN, w->open);
	pthread_mutex_lock(&w->lock);
	c->row = row_take(w);
	w->next_id++;
	if (c->row) {
		memset(c->row, 0, sizeof(*c->row));
		c->row->opened_at = c->opened_at;
		c->row->row.id = w->next_id;
		c->row->row.state = 1;
		c->row->row.classic = c->classic;
		c->row->row.qp_num = w->ops->qp_num(c->qp);
		rackwire_address_text(&c->peer,
				      c->row->row.peer, sizeof(c->row->row.peer));
		row_fill(c);
	}
	pthread_mutex_unlock(&w->lock);
}

void account_refresh(struct krping_conn *c)
{
	struct rackwire_krping_work *w = c->work;
	struct rdma_counters now = { 0 };

	if (c->qp) {
		w->ops->counters(c->qp, &now);
		work_count(w, RACKWIRE_KRPING_RTX_PACKETS, now.qp.rtx_packets - c->seen.rtx_packets);
		work_count(w, RACKWIRE_KRPING_TIMEOUTS, now.qp.timeouts - c->seen.timeouts);
		work_count(w, RACKWIRE_KRPING_SEQ_NAKS, now.qp.seq_nak_rx - c->seen.seq_nak_rx);
		work_count(w, RACKWIRE_KRPING_RNR_NAKS, now.qp.rnr_nak_rx - c->seen.rnr_nak_rx);
		/* A peer's READs and WRITEs are signs of life that no completion tells of. */
		if (now.qp.rx_packets != c->seen.rx_packets) {
			c->heard_at = rackwire_now_ns();
			if (c->watched)
				w->spin_until = c->heard_at + WORK_SPIN_NS;
		}
		c->seen = now.qp;
	}
	if (!c->row)
		return;
	pthread_mutex_lock(&w->lock);
	row_fill(c);
	pthread_mutex_unlock(&w->lock);
}

void account_close(struct krping_conn *c)
{
	struct rackwire_krping_work *w = c->work;

	work_count(w, RACKWIRE_KRPING_FAILED, c->error ? 1 : 0);
	if (!c->opened_at)
		return;
	account_refresh(c);
	w->open--;
	rackwire_stats_set(&w->stats, RACKWIRE_KRPING_OPEN, w->open);
	if (!c->row)
		return;
	pthread_mutex_lock(&w->lock);
	c->row->row.state = c->error ? 3 : 2;
	c->row->row.error = c->error;
	c->row->ended_at = rackwire_now_ns();
	pthread_mutex_unlock(&w->lock);
	c->row = NULL;
}

static int by_id(const void *a, const void *b)
{
	const struct work_row *const *x = a, *const *y = b;

	return (*x)->row.id < (*y)->row.id ? -1 : (*x)->row.id > (*y)->row.id;
}

uint32_t rackwire_krping_connections(struct rackwire_krping_work *w, struct rackwire_krping_connection *rows, uint32_t max)
{
	const struct work_row *order[RACKWIRE_KRPING_ROWS];
	uint64_t now = rackwire_now_ns();
	uint32_t i, n = 0;

	pthread_mutex_lock(&w->lock);
	for (i = 0; i < RACKWIRE_KRPING_ROWS; i++)
		if (w->rows[i].row.id)
			order[n++] = &w->rows[i];
	qsort(order, n, sizeof(order[0]), by_id);
	if (n > max)
		n = max;
	for (i = 0; i < n; i++) {
		rows[i] = order[i]->row;
		rows[i].age_ns = (order[i]->ended_at ? order[i]->ended_at : now) - order[i]->opened_at;
	}
	pthread_mutex_unlock(&w->lock);
	return n;
}

/* ---- lines ---- */

void account_line(struct rackwire_krping_work *w, const char *what, const uint8_t *data, uint32_t length)
{
	char line[WORK_LINE];
	uint32_t i, n;

	n = (uint32_t)snprintf(line, sizeof(line), "%s: ", what);
	for (i = 0; i < length && i < LINE_BYTES && data[i]; i++)
		line[n++] = data[i] >= 32 && data[i] < 127 ? (char)data[i] : '.';
	line[n++] = '\n';
	pthread_mutex_lock(&w->lock);
	if (!w->lines)
		w->lines = malloc(LINES_ROOM);
	if (!w->lines || n > LINES_ROOM - w->lines_len) {
		w->lines_lost++;
	} else {
		memcpy(w->lines + w->lines_len, line, n);
		w->lines_len += n;
	}
	pthread_mutex_unlock(&w->lock);
}

uint32_t rackwire_krping_lines(struct rackwire_krping_work *w, char *buffer, uint32_t length, uint64_t *lost)
{
	uint32_t n;

	pthread_mutex_lock(&w->lock);
	n = w->lines_len < length ? w->lines_len : length ? length - 1 : 0;
	while (n && w->lines[n - 1] != '\n')
		n--;
	if (n) {
		memcpy(buffer, w->lines, n);
		w->lines_len -= n;
		memmove(w->lines, w->lines + n, w->lines_len);
	}
	if (lost)
		*lost = w->lines_lost;
	w->lines_lost = 0;
	pthread_mutex_unlock(&w->lock);
	return n;
}

/* ---- the control socket's document ---- */

static const char *const counter_names[RACKWIRE_KRPING_COUNTERS] = {
	"send_bytes", "send_msgs", "recv_bytes", "recv_msgs", "write_bytes", "write_msgs", "read_bytes", "read_msgs",
	"atomic_msgs", "opened", "open", "failed", "refused", "completed", "warmup", "verified_bytes",
	"corrupt_bytes", "measured_bytes", "measured_ns", "cpu_ns", "peer_bytes", "rtx_packets", "timeouts",
	"seq_naks", "rnr_naks",
};

/* {"send_bytes": 1, ...} */
static void print_counters(FILE *f, const uint64_t *counters, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		fprintf(f, "%s\"%s\": %llu", i ? ", " : "{", counter_names[i],
			(unsigned long long)__atomic_load_n(&counters[i], __ATOMIC_RELAXED));
	fputc('}', f);
}

static void print_rows(FILE *f, const struct rackwire_krping_connection *rows, uint32_t n)
{
	static const char *const tests[] = { "", "", "ping", "wlat", "rlat", "slat", "alat", "bw" };
	static const char *const states[] = { "connecting", "established", "ended", "broken" };
	uint32_t i;

	for (i = 0; i < n; i++) {
		const struct rackwire_krping_connection *r = &rows[i];

		fprintf(f, "%s\n  {\"id\": %llu, \"test\": \"%s\", \"state\": \"%s\", \"error\": %d, \"classic\": %s, "
			   "\"peer\": \"%s\", \"qp_num\": %u, \"size\": %u, \"age_s\": %.3f, \"pings\": %llu, "
			   "\"verified_bytes\": %llu, \"corrupt_bytes\": %llu, \"counters\": ",
			i ? "," : "", (unsigned long long)r->id, tests[r->kind <= RACKWIRE_KRPING_BW ? r->kind : 0],
			states[r->state <= 3 ? r->state : 0], -r->error, r->classic ? "true" : "false", r->peer,
			r->qp_num, r->length, (double)r->age_ns / 1e9, (unsigned long long)r->pings,
			(unsigned long long)r->verified_bytes, (unsigned long long)r->corrupt_bytes);
		print_counters(f, r->counters, 8);
		fputc('}', f);
	}
}

ssize_t account_json(struct rackwire_krping_work *w, char **out)
{
	struct rackwire_krping_connection rows[RACKWIRE_KRPING_ROWS];
	uint32_t n = rackwire_krping_connections(w, rows, RACKWIRE_KRPING_ROWS);
	size_t length = 0;
	FILE *f;

	*out = NULL;
	f = open_memstream(out, &length);
	if (!f)
		return -ENOMEM;
	fprintf(f, "{\"schema\": \"rackwire.krping.stat/1\", \"pid\": %d, \"engine\": \"%s\", \"device\": \"%s\", "
		   "\"role\": \"%s\", \"port\": %u, \"uptime_s\": %.3f, \"counters\": ",
		(int)getpid(), w->ops->name, w->info.name, w->server ? "server" : "client", rackwire_krping_port(w),
		(double)(rackwire_now_ns() - w->opened_at) / 1e9);
	print_counters(f, w->stats.counters, RACKWIRE_KRPING_COUNTERS);
	fprintf(f, ",\n \"connections\": [");
	print_rows(f, rows, n);
	fprintf(f, "\n]}\n");
	if (fclose(f)) {
		free(*out);
		return -ENOMEM;
	}
	return (ssize_t)length;
}
