// SPDX-License-Identifier: BSD-2-Clause
/* The client's run: connect, start together, measure, leave. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "address.h"
#include "work.h"

static uint64_t process_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * RACKWIRE_NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* ---- connecting ---- */

static int request(struct krping_conn *c)
{
	struct rackwire_krping_work *w = c->work;
	const struct rackwire_krping_config *config = &w->config;
	uint32_t depth = w->info.max_rd_atomic < RACKWIRE_ROCE_MAX_RD_ATOMIC ? w->info.max_rd_atomic :
										RACKWIRE_ROCE_MAX_RD_ATOMIC;
	struct rackwire_roce_conn_param param = {
		.responder_resources = (uint8_t)(c->classic ? 1 : depth),
		.initiator_depth = (uint8_t)(c->classic ? 1 : depth),
		.retry_count = (uint8_t)(config->retry_count - 1),
		.rnr_retry_count = (uint8_t)(config->rnr_retry_count - 1),
		.min_rnr_timer = WORK_RNR_TIMER,
		.ack_timeout = (uint8_t)config->ack_timeout,
		.tos = config->tos,
	};
	struct wire_wish wish = {
		.version = WIRE_VERSION,
		.kind = c->kind,
		.op = c->op,
		.flags = wire_flags(c->flags) | (c->kind == RACKWIRE_KRPING_PING ? WIRE_EXPLICIT : 0),
		.size = c->length,
		.txdepth = c->txdepth,
	};
	uint8_t bytes[WIRE_WISH_LEN];

	if (!c->classic) {
		wire_wish_encode(bytes, &wish);
		param.private_data = bytes;
		param.private_data_len = sizeof(bytes);
	}
	return w->ops->connect(c->id, c->qp, &param);
}

static int connect_failed(struct rackwire_krping_work *w, int err)
{
	char text[128];

	if (w->error)
		return w->error;
	if (err == -ECANCELED && work_stopping(w))
		return err;
	return work_fail(w, err, "%s cannot be reached: %s", work_target(w, text, sizeof(text)), strerror(-err));
}

static int connect_one(struct rackwire_krping_work *w)
{
	const struct rackwire_krping_config *config = &w->config;
	struct krping_conn *c = conn_new(w, config->kind);
	int err;

	if (!c)
		return work_fail(w, -ENOMEM, "no memory for another connection");
	c->op = config->op;
	c->flags = config->flags;
	c->length = config->length;
	c->txdepth = config->txdepth;
	c->classic = config->flags & RACKWIRE_KRPING_CLASSIC;
	c->peer = w->address;
	rackwire_address_set_port(&c->peer, config->port);
	c->warm_left = config->warmup_count;
	c->to_start = config->count ? config->count + config->warmup_count : UINT64_MAX;
	c->deadline = rackwire_now_ns() + config->timeout_ns;
	err = w->ops->prepare(w->dev, (struct sockaddr *)&c->peer, config->timeout_ns, config->tos,
			      (uint8_t)config->ack_timeout, c, &c->id);
	if (err)
		return connect_failed(w, err);
	err = conn_queue_pair(c);
	if (err)
		return work_fail(w, err, "no resources for a connection: %s", strerror(-err));
	err = request(c);
	return err ? connect_failed(w, err) : 0;
}

int client_start(struct rackwire_krping_work *w)
{
	uint32_t i;
	int err = 0;

	for (i = 0; i < w->config.connections && !err && !work_stopping(w); i++)
		err = connect_one(w);
	return w->error ? w->error : 0;
}

int client_established(struct krping_conn *c, const struct rdma_event *event)
{
	struct wire_grant grant;
	char text[128];

	if (wire_grant_decode(event->private_data, event->private_data_len, &grant))
		return 0;
	/* A krping or rping took no notice of what we said about ourselves. */
	c->classic = true;
	if (c->kind == RACKWIRE_KRPING_PING)
		return 0;
	return conn_fail(c, -EPROTO, "%s is no rackwire server; with an rping or krping only pings are possible",
			 conn_peer(c, text, sizeof(text)));
}

void client_refused(struct krping_conn *c, const struct rdma_event *event)
{
	struct wire_grant grant;
	char text[128];

	conn_peer(c, text, sizeof(text));
	if (event->status == RACKWIRE_ROCE_REJ_INVALID_SERVICE_ID) {
		conn_fail(c, -ECONNREFUSED, "nothing listens at %s", text);
		return;
	}
	if (!wire_grant_decode(event->private_data, event->private_data_len, &grant)) {
		conn_fail(c, -ECONNREFUSED, "%s refused the connection (reason %u)", text, event->status);
		return;
	}
	switch (grant.status) {
	case WIRE_UNSUPPORTED:
		conn_fail(c, -EOPNOTSUPP, "%s cannot do %s with its engine", text,
			  grant.flags & WIRE_READ_INV ? "read_inv" :
			  grant.flags & WIRE_LOCAL_DMA_LKEY ? "local_dma_lkey" :
			  grant.flags & WIRE_SERVER_INV ? "server_inv" : "atomics");
		break;
	case WIRE_TOO_LONG:
		conn_fail(c, -EMSGSIZE, "%s serves at most %u bytes at a time", text, grant.size);
		break;
	case WIRE_NO_MEMORY:
		conn_fail(c, -ECONNREFUSED, "%s has no memory for this client", text);
		break;
	case WIRE_FULL:
		conn_fail(c, -ECONNREFUSED, "%s has too many clients", text);
		break;
	default:
		conn_fail(c, -ECONNREFUSED, "%s does not understand what is asked of it", text);
	}
}

/* ---- running ---- */

void client_armed(struct krping_conn *c, uint64_t now)
{
	struct rackwire_krping_work *w = c->work;
	uint32_t i;

	c->armed = true;
	c->waiting_since = 0;
	if (++w->armed < w->config.connections || w->started)
		return;
	w->started = true;
	for (i = 0; i < w->top && !w->error; i++)
		if (w->conns[i])
			w->conns[i]->ops->start(w->conns[i], now);
}

bool client_may_start(struct krping_conn *c, uint64_t now)
{
	struct rackwire_krping_work *w = c->work;

	return c->to_start && !c->finishing && !work_stopping(w) && (!w->end_at || now < w->end_at);
}

/* CPU time belongs to the measured time alone. */
static void count_cpu(struct rackwire_krping_work *w)
{
	if (w->measured_from && w->measured_to != w->cpu_seen_at) {
		rackwire_stats_set(&w->stats, RACKWIRE_KRPING_CPU_NS, process_cpu_ns() - w->cpu_from);
		w->cpu_seen_at = w->measured_to;
	}
}

void client_operation(struct krping_conn *c, uint64_t began, uint64_t now, uint64_t bytes, uint32_t share)
{
	struct rackwire_krping_work *w = c->work;

	if (c->warm_left) {
		c->warm_left--;
		work_count(w, RACKWIRE_KRPING_WARMUP, 1);
		return;
	}
	if (!w->measured_from) {
		w->measured_from = began;
		w->cpu_from = process_cpu_ns();
		if (w->config.duration_ns)
			w->end_at = began + w->config.duration_ns;
	}
	rackwire_histogram_record(&w->stats.histograms[0], (now - began) / share);
	work_count(w, RACKWIRE_KRPING_COMPLETED, 1);
	work_count(w, RACKWIRE_KRPING_MEASURED_BYTES, bytes);
	rackwire_stats_set(&w->stats, RACKWIRE_KRPING_MEASURED_NS, now - w->measured_from);
	w->measured_to = now;
	if (!client_may_start(c, now))
		count_cpu(w);
}

void client_tick(struct rackwire_krping_work *w, uint64_t now)
{
	uint32_t i;

	count_cpu(w);
	w->done |= !w->top; /* stopped before there was any connection */
	if (!work_stopping(w) && (!w->end_at || now < w->end_at))
		return;
	if (!w->leave_by)
		w->leave_by = now + WORK_LEAVE_NS + (work_stopping(w) ? 0 : WORK_PATIENCE_NS);
	for (i = 0; i < w->top; i++) {
		struct krping_conn *c = w->conns[i];

		if (!c)
			continue;
		if (now >= w->leave_by || !w->started) {
			conn_leave(c, now);
		} else if (!c->finishing) {
			c->finishing = true;
			c->ops->finish(c, now);
		}
	}
}

void client_end(struct rackwire_krping_work *w)
{
	count_cpu(w);
}
