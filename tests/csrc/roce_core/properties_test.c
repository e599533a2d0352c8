/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random schedules: networks, parameters, applications and accidents drawn from
 * one seed each; what must hold is checked at every step (vdone.c, vspace.c,
 * vcheck.c).
 *
 *	RACKWIRE_SEED=0x...      replay one schedule (RACKWIRE_TRACE=1 shows its packets)
 *	RACKWIRE_BASE=0x...      first seed of a run
 *	RACKWIRE_SCHEDULES=N     how many
 *	RACKWIRE_TEST_LONG=1     500,000 from a fresh base
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "tap.h"
#include "vapp.h"

#define SCHEDULES 12000
#define LONG_SCHEDULES 500000
#define PACKETS 300 /* of payload, at most, in one schedule */
#define SHOWN_FAILURES 4
#define STUCK_SECONDS 60
#define TWICE_EVERY 32 /* so often a schedule runs again and has to be the same */
#define QUEUE_BYTES (64u << 10) /* of buffers of one queue, all connections together */

void __sanitizer_set_death_callback(void (*callback)(void));

enum category {
	CLEAN,
	LOSSY,
	CORRUPTING,
	OUTAGE,
	DYING,
	INCAST,
	CUT_SHORT,
	STARVED,
	REFUSED,
	BAD_REQUESTS,
	LATE_RECEIVES,
	LARGE,
	CATEGORIES
};

static const char *const names[CATEGORIES] = {
	"schedules__clean_network",	       "schedules__loss_duplication_reordering",
	"schedules__corruption",	       "schedules__outages",
	"schedules__devices_die_and_restart",  "schedules__incast_into_small_queues",
	"schedules__cut_short_at_any_moment",  "schedules__allocations_fail",
	"schedules__connections_refused",      "schedules__requests_that_must_fail",
	"schedules__receives_posted_late",     "schedules__large_messages",
};

struct totals {
	u64 schedules, failures, packets, lost, damaged, bytes, completions, flushes, conns, reads, atomics, errors;
	char why[sizeof(((struct vnet *)0)->why)];
};

static struct totals totals[CATEGORIES];
static u64 current_seed;
static enum category current;
static struct vnet net;
static struct vapp app;

struct world {
	struct vrng rng; /* of the plan; the network has its own */
	enum category category;
	u32 hosts;
	u64 rate, delay, rtt;
	u64 budget; /* payload bytes left to plan */
	u64 last_start, heal_at;
};

static void on_death(void)
{
	printf("\n# RACKWIRE_SEED=0x%llx (%s) ended the program\n", (unsigned long long)current_seed, names[current]);
	fflush(stdout);
}

/* UBSan's runtime is another one than ASan's. */
void __ubsan_on_report(void);
void __ubsan_on_report(void)
{
	on_death();
}

static void on_alarm(int sig)
{
	(void)sig;
	on_death();
	_exit(1);
}

static bool on_sent(struct vhost *h, const struct vpkt *pkt, const struct roce_txpkt *tx)
{
	vcheck_packet(h, pkt, tx);
	return true;
}

static u32 draw_mtu(struct world *w)
{
	static const u32 mtus[] = { 256, 512, 1024, 1024, 2048, 4096 };

	return mtus[w->category == LARGE ? vrange(&w->rng, 2, 5) : vrange(&w->rng, 0, 5)];
}

static void draw_cfg(struct world *w, struct vhost_cfg *c, u32 mtu)
{
	struct vrng *r = &w->rng;
	struct roce_cfg *d = &c->roce;

	vnet_default_cfg(c, w->rate, mtu);
	d->window = (u32)vrange_log(r, 2 * mtu, 65536);
	d->ack_every = (u32)vrange(r, 1, roce_max(1, roce_min(64, d->window / mtu)));
	d->max_burst = (u32)vrange_log(r, 1, 64);
	d->cm_timeout_ns = roce_max(4 * w->rtt, vrange_log(r, MSEC, 100 * MSEC));
	/* Longer than a duplicate may be on the way, where there are any. */
	d->timewait_ns = (w->category == CLEAN ? 0 : 8 * w->rtt) + vrange_log(r, USEC, SEC);
	if (vchance(r, 300000) || w->category == INCAST)
		d->rate_bps = w->rate;
	if (w->category == DYING && vchance(r, 500000))
		d->keepalive_ns = vrange_log(r, 10 * MSEC, SEC);
	else if (vchance(r, 100000))
		d->keepalive_ns = vrange_log(r, MSEC + 8 * w->rtt, 10 * SEC);
	c->nic_queue = (u32)vrange(r, 1, 8) * (mtu + 100);
	c->timer_slop_ns = vchance(r, 500000) ? 0 : vrange(r, 0, w->rtt);
	c->clock_offset_ns = (s64)vrange(r, 0, 1ull << 48) - (1ll << 47);
	c->clock_ppm = (s32)vrange(r, 0, 400) - 200;
	if (w->category == INCAST) {
		c->port_queue = (u32)vrange_log(r, 1, 32) * (mtu + 100);
		if (vchance(r, 700000)) {
			c->ecn_low = c->port_queue / 8;
			c->ecn_high = c->port_queue / 2;
		}
	}
}

static void draw_weights(struct world *w, struct vplan *p)
{
	struct vrng *r = &w->rng;

	for (u32 i = 0; i < RACKWIRE_ROCE_WR_OPCODES; i++)
		p->weight[i] = vchance(r, 600000) ? (u32)vrange_log(r, 1, 64) : 0;
	/* Keys change now and then, not all the time. */
	p->weight[RACKWIRE_ROCE_WR_LOCAL_INV] = p->weight[RACKWIRE_ROCE_WR_LOCAL_INV] / 8;
	p->weight[RACKWIRE_ROCE_WR_SEND]++;
}

static void draw_side(struct world *w, struct vside *s, u32 share)
{
	struct vrng *r = &w->rng;
	struct vplan *p = &s->plan;
	u32 chunk = s->conn->chunk;

	p->max_len = (u32)vrange_log(r, 1, w->category == LARGE ? 1u << 20 : vchance(r, 300000) ? 16 * chunk : 4 * chunk);
	p->max_len = (u32)roce_min(p->max_len, share);
	p->max_region = (u32)roce_min(p->max_len, w->category == LARGE ? 1u << 20 : 6 * chunk);
	p->ops = vchance(r, 150000) ? 0 : (u32)vrange_log(r, 1, w->category == LARGE ? 8 : 60);
	while (p->ops > 1 && (u64)p->ops * p->max_len / 3 > w->budget)
		p->ops--;
	w->budget -= roce_min(w->budget, (u64)p->ops * p->max_len / 3);
	p->send_depth = (u32)vrange_log(r, 1, 24);
	p->recv_depth = (u32)vrange_log(r, 1, w->category == LARGE ? 2 : 12);
	/* What is posted has to fit into the memory there is. */
	while (p->send_depth > 1 && (u64)p->send_depth * p->max_len > share)
		p->send_depth--;
	p->max_sge = (u32)vrange(r, 1, RACKWIRE_ROCE_MAX_SGE);
	draw_weights(w, p);
	p->signal_ppm = vchance(r, 300000) ? 1000000 : (u32)vrange(r, 0, 1000000);
	p->signal_all = vchance(r, 100000);
	p->fence_ppm = vchance(r, 500000) ? 0 : (u32)vrange(r, 0, 500000);
	p->inline_ppm = vchance(r, 500000) ? 0 : (u32)vrange(r, 0, 1000000);
	p->any_lkey_ppm = vchance(r, 700000) ? 0 : 500000;
	p->batch = (u32)vrange(r, 1, 4);
	/* What is sent before the peer knows of the connection is refused patiently, but not for ever. */
	p->early = w->category != LOSSY && w->category != CORRUPTING && w->category != LATE_RECEIVES && w->category != LARGE &&
		   vchance(r, 500000);
	if (vchance(r, 300000))
		p->post_gap_ns = vrange(r, 1, 2 * w->rtt);
	if (vchance(r, 200000))
		p->start_ns = vrange(r, 0, 8 * w->rtt);
	if (w->category == LATE_RECEIVES || vchance(r, 100000))
		p->recv_gap_ns = vrange_log(r, USEC, 500 * USEC);
}

static void fit_receives(struct vside *s, u32 share)
{
	u32 len = vside_peer(s)->plan.max_len;

	while (s->plan.recv_depth > 1 && (u64)s->plan.recv_depth * len > share)
		s->plan.recv_depth--;
}

static void draw_param(struct world *w, struct rackwire_roce_conn_param *p)
{
	struct vrng *r = &w->rng;
	/* Two round trips, and all that may be waiting at one port before it. */
	u64 patience = 2 * w->rtt + 8 * 2 * 65536ull * 8 * SEC / w->rate;
	u8 code = 0;

	while (roce_timeout_ns(code) < patience)
		code++;
	p->responder_resources = (u8)vrange_log(r, 1, RACKWIRE_ROCE_MAX_RD_ATOMIC);
	p->initiator_depth = (u8)vrange_log(r, 1, RACKWIRE_ROCE_MAX_RD_ATOMIC);
	p->retry_count = 7;
	p->rnr_retry_count = 7;
	p->min_rnr_timer = (u8)vrange(r, 1, 14);
	p->ack_timeout = (u8)roce_max(1, code + vrange(r, 0, 3));
	p->tos = vchance(r, 200000) ? (u8)(vrand(r) & 0xfc) : 0;
}

/* Statuses that a connection may end with when the network or the peer let it down. */
static const u64 broken = 1ull << RACKWIRE_ROCE_WC_RETRY_EXC_ERR | 1ull << RACKWIRE_ROCE_WC_WR_FLUSH_ERR;

static void draw_conns(struct world *w)
{
	struct vrng *r = &w->rng;
	u32 n = (u32)vrange_log(r, 1, w->category == LARGE ? 2 : 6), sink = (u32)vrange(r, 0, w->hosts - 1), share;

	if (w->category == INCAST)
		n = (u32)vrange(r, w->hosts - 1, 2 * w->hosts);
	share = w->category == LARGE ? 1u << 20 : QUEUE_BYTES / n;
	for (u32 i = 0; i < n; i++) {
		u32 from = (u32)vrange(r, 0, w->hosts - 1), to = (from + 1 + (u32)vrange(r, 0, w->hosts - 2)) % w->hosts;
		u64 at = vchance(r, 500000) ? 0 : vrange(r, 0, 20 * w->rtt);
		struct vconn *c;

		if (w->category == INCAST) {
			to = sink;
			from = (sink + 1 + i % (w->hosts - 1)) % w->hosts;
			at = vrange(r, 0, w->rtt);
		}
		c = vapp_add(&net, from, to, at);
		draw_side(w, &c->side[0], share);
		draw_side(w, &c->side[1], share);
		fit_receives(&c->side[0], share);
		fit_receives(&c->side[1], share);
		draw_param(w, &c->param[0]);
		draw_param(w, &c->param[1]);
		c->closer = (u32)vrange(r, 0, 1);
		c->close_delay = vchance(r, 500000) ? 0 : vrange(r, 0, 4 * w->rtt);
		c->reap_delay = vchance(r, 500000) ? 1 : vrange_log(r, 1, 20 * MSEC);
		c->answer_delay = vchance(r, 500000) ? 0 : vrange_log(r, 1, 20 * MSEC);
		c->mra = vchance(r, 100000);
		if (w->category != REFUSED && vchance(r, 350000)) {
			c->direct = true;
			for (u32 k = 0; k < 2; k++)
				c->psn[k] = vchance(r, 300000) ? (u32)vrand(r) & 0xffffff :
								 (0x1000000 - (u32)vrange_log(r, 1, 200)) & 0xffffff;
		}
		switch (w->category) {
		case REFUSED:
			c->answer = (enum vanswer)vrange(r, VANSWER_ACCEPT, VANSWER_NOBODY);
			c->reason = vchance(r, 500000) ? RACKWIRE_ROCE_REJ_CONSUMER : RACKWIRE_ROCE_REJ_NO_QP;
			break;
		case BAD_REQUESTS:
			/* A NAK that waits for the wire is gone when its queue pair is destroyed. */
			c->reap_delay = 20 * MSEC;
			for (u32 k = 0; k < 2; k++)
				if (k == i % 2 && c->side[k].plan.ops) {
					c->side[k].plan.bad_at = (u32)vrange(r, 0, c->side[k].plan.ops - 1);
					c->side[k].plan.bad_kind = (u32)vrange(r, 0, VBADS - 1);
				}
			break;
		case OUTAGE:
		case DYING:
			c->may = broken | 1ull << RACKWIRE_ROCE_WC_RNR_RETRY_EXC_ERR;
			c->may_not_connect = true;
			c->param[0].retry_count = (u8)vrange(r, 0, 7);
			c->param[1].retry_count = (u8)vrange(r, 0, 7);
			break;
		case INCAST:
		case CUT_SHORT:
		case STARVED:
			c->may = broken;
			c->may_not_connect = w->category != INCAST;
			break;
		case LATE_RECEIVES:
			if (vchance(r, 200000)) {
				c->param[0].rnr_retry_count = c->param[1].rnr_retry_count = (u8)vrange(r, 0, 6);
				c->may = broken | 1ull << RACKWIRE_ROCE_WC_RNR_RETRY_EXC_ERR;
			}
			break;
		default:
			break;
		}
		w->last_start = roce_max(w->last_start, at);
	}
}

/* Enough memory for all that a device's connections may have there at once. */
static u32 arena(u32 host)
{
	u64 bytes = 16384;

	for (u32 i = 0; i < 2 * app.nconns; i++) {
		const struct vside *s = &app.conns[i / 2]->side[i & 1];

		if (s->host->index == host)
			bytes += 16 * (s->plan.max_region + 64) + 3 * (s->plan.send_depth * (s->plan.max_len + 64) +
								      s->plan.recv_depth *
									      (s->conn->side[!s->who].plan.max_len + 64));
	}
	return (u32)roce_min((bytes + 4095) / 4096 * 4096, VSPACE_MAX);
}

static void set_down(struct vnet *n, void *arg, u64 tag)
{
	(void)n;
	((struct vlink *)arg)->down = tag;
}

static void kill_host(struct vnet *n, void *arg, u64 tag)
{
	(void)n;
	(void)tag;
	vnet_kill(arg);
}

static void boot_host(struct vnet *n, void *arg, u64 tag)
{
	(void)n;
	(void)tag;
	if (vnet_boot(arg))
		vapp_setup(arg, 0);
}

static void stop_failing(struct vnet *n, void *arg, u64 tag)
{
	(void)n;
	(void)tag;
	((struct vhost *)arg)->mem.fail_ppm = 0;
}

/* Something that an application may do at any time. */
static void cut(struct vnet *n, void *arg, u64 tag)
{
	struct vside *s = arg;
	u32 which;

	if (s->died || s->state == V_GONE || (!s->id && !s->qp))
		return;
	s->conn->closing = true;
	switch (tag) {
	case 0:
		if (s->qp)
			roce_qp_error(s->qp, vhost_clock(s->host));
		break;
	case 1:
		if (s->id && s->state != V_IDLE)
			roce_cm_disconnect(s->id, vhost_clock(s->host));
		break;
	case 2:
		vside_destroy(s);
		break;
	case 3:
		vside_kill_qp(s);
		break;
	case 4: /* a region that the peer uses goes away */
		which = (u32)vrange(&n->rng, 0, VDYN - 1);
		if (s->target[which].mr) {
			s->conn->may |= 1ull << RACKWIRE_ROCE_WC_REM_ACCESS_ERR;
			roce_mr_deregister(s->target[which].mr);
			s->target[which].mr = NULL;
			vcell_freeze(s->target[which].cell);
		}
		break;
	}
	vhost_touch(s->host);
}

static void draw_accidents(struct world *w)
{
	struct vrng *r = &w->rng;
	u64 span = 30 * w->rtt + 100000ull * 8 * SEC / w->rate;

	switch (w->category) {
	case OUTAGE:
		for (u32 i = (u32)vrange(r, 1, 3); i; i--) {
			u32 a = (u32)vrange(r, 0, w->hosts - 1), b = (a + 1) % w->hosts;
			u64 from = vrange(r, 0, span), until = from + vrange_log(r, 1, 200 * MSEC);

			vnet_at(&net, from, set_down, &net.links[a][b], 1);
			vnet_at(&net, until, set_down, &net.links[a][b], 0);
			if (vchance(r, 500000)) {
				vnet_at(&net, from, set_down, &net.links[b][a], 1);
				vnet_at(&net, until, set_down, &net.links[b][a], 0);
			}
			w->heal_at = roce_max(w->heal_at, until);
		}
		break;
	case DYING: {
		struct vhost *h = &net.hosts[vrange(r, 0, w->hosts - 1)];
		u64 at = vrange(r, 0, span);

		vnet_at(&net, at, kill_host, h, 0);
		if (vchance(r, 600000)) {
			w->heal_at = at + vrange_log(r, 1, 100 * w->rtt);
			vnet_at(&net, w->heal_at, boot_host, h, 0);
		}
		break;
	}
	case STARVED:
		for (u32 i = 0; i < w->hosts; i++) {
			net.hosts[i].mem.fail_rng.state = vrand(r);
			net.hosts[i].mem.fail_ppm = (u32)vrange_log(r, 1000, 300000);
			w->heal_at = span;
			vnet_at(&net, w->heal_at, stop_failing, &net.hosts[i], 0);
		}
		break;
	case CUT_SHORT:
		for (u32 i = 0; i < app.nconns; i++)
			vnet_at(&net, app.conns[i]->start_at + vrange(r, 0, span), cut, &app.conns[i]->side[vrange(r, 0, 1)],
				vrange(r, 0, 4));
		break;
	default:
		break;
	}
	for (u32 i = 0; i < app.nconns; i++)
		if (app.conns[i]->may || app.conns[i]->may_not_connect)
			app.conns[i]->give_up_at = w->heal_at + span + 300 * SEC;
}

/* Half of the time up to the most there may be, else anything from rare to that. */
static u32 rate(struct vrng *r, u32 most)
{
	return vchance(r, 500000) ? (u32)vrange(r, 0, most) : (u32)vrange_log(r, 100, most);
}

static void impair(struct vlink *l, void *arg)
{
	struct world *w = arg;
	struct vrng *r = &w->rng;

	l->delay_ns = vrange(r, w->delay / 2, w->delay * 3 / 2);
	l->reorder_ns = vrange(r, 0, 2 * w->rtt);
	switch (w->category) {
	case LOSSY:
		l->loss_ppm = vchance(r, 300000) ? 0 : rate(r, 20000);
		l->dup_ppm = vchance(r, 500000) ? 0 : rate(r, 200000);
		l->reorder_ppm = vchance(r, 500000) ? 0 : rate(r, 20000);
		break;
	case CUT_SHORT:
	case DYING:
		if (vchance(r, 300000))
			break;
		l->loss_ppm = vchance(r, 300000) ? 0 : rate(r, 200000);
		l->dup_ppm = vchance(r, 500000) ? 0 : rate(r, 200000);
		l->reorder_ppm = vchance(r, 500000) ? 0 : rate(r, 500000);
		break;
	case CORRUPTING:
		l->corrupt_ppm = rate(r, 20000);
		l->dup_ppm = vchance(r, 500000) ? 0 : rate(r, 200000);
		break;
	case OUTAGE:
	case LATE_RECEIVES:
	case LARGE:
		l->loss_ppm = vchance(r, 700000) ? 0 : rate(r, 10000);
		l->dup_ppm = vchance(r, 700000) ? 0 : rate(r, 20000);
		break;
	default:
		break;
	}
}

static void build(struct world *w, u64 seed)
{
	struct vrng *r = &w->rng;
	u32 mtu;
	bool alike;

	memset(w, 0, sizeof(*w));
	w->rng.state = seed ^ 0x7261636b77697265ull;
	w->category = (enum category)vrange(r, 0, CATEGORIES - 1);
	if (w->category == LARGE && vchance(r, 700000)) /* they take long */
		w->category = LOSSY;
	w->hosts = w->category == INCAST ? (u32)vrange(r, 3, 6) : (u32)vrange(r, 2, vchance(r, 300000) ? 5 : 2);
	w->rate = vrange_log(r, GBIT, 100 * GBIT);
	w->delay = vrange_log(r, 500, 500 * USEC);
	mtu = draw_mtu(w);
	w->rtt = 2 * w->delay + 4 * (u64)mtu * 8 * SEC / w->rate;
	w->budget = w->category == LARGE ? 2u << 20 : vrange_log(r, 1, PACKETS) * mtu;
	vnet_init(&net, seed);
	net.v6 = vchance(r, 300000);
	vapp_init(&app, &net, 1024);
	net.ops.sent = on_sent;
	app.allow_nomem = w->category == STARVED;
	alike = vchance(r, 700000);
	for (u32 i = 0; i < w->hosts && !net.failed; i++) {
		struct vhost_cfg cfg;

		draw_cfg(w, &cfg, mtu);
		if (!alike)
			mtu = draw_mtu(w);
		vnet_add(&net, &cfg, w->delay);
		app.hosts[i].armed = vchance(r, 500000);
		app.hosts[i].linger = vchance(r, 500000) ? 0 : vrange(r, 0, 2 * w->rtt);
	}
	if (net.failed)
		return;
	draw_conns(w);
	for (u32 i = 0; i < w->hosts; i++)
		vapp_setup(&net.hosts[i], arena(i));
	draw_accidents(w);
	vnet_each_link(&net, impair, w);
}

static void run(struct world *w)
{
	/* A request may still be on the way when the one that made it has died. */
	u64 settled = w->last_start + w->heal_at + 20 * w->rtt;

	/* Virtual time costs nothing; waiting for the connection manager's last retry takes a minute of it. */
	if ((!vnet_run(&net, settled) || !vnet_run_until(&net, w->last_start + w->heal_at + 2000 * SEC, vapp_done)) && !net.failed) {
		for (u32 i = 0; i < 2 * app.nconns; i++) {
			const struct vside *s = &app.conns[i / 2]->side[i & 1];

			if (s->state != V_GONE)
				vnet_fail(&net, "connection %u end %u never ends: state %u, %u of %u requests posted, %u done, the next of opcode %d, %u messages received",
					  i / 2, i & 1, s->state, s->planned, s->plan.ops, s->head,
					  s->head < s->nops ? (int)s->ops[s->head]->opcode : -1, s->next_msg);
		}
		vnet_fail(&net, "it never ends");
	}
	if (!net.failed)
		vcheck_ends(&net);
	if (net.failed)
		return;
	for (u32 i = 0; i < net.nhosts; i++)
		if (net.hosts[i].core)
			vapp_teardown(&net.hosts[i]);
	vnet_run(&net, net.now + 300 * SEC);
	for (u32 i = 0; i < net.nhosts; i++)
		vcheck_nothing_left(&net.hosts[i]);
	if (!net.failed)
		vcheck_silent(&net, 10 * SEC);
	if (!net.failed)
		vcheck_memory(&net);
}

static void describe(void)
{
	for (u32 i = 0; i < net.nhosts; i++) {
		const struct vhost_cfg *c = &net.hosts[i].cfg;
		const struct roce_cfg *d = &c->roce;

		printf("# device %u: rate %llu mtu %u window %u ack_every %u burst %u dcqcn %llu cm %llu timewait %llu keepalive %llu "
		       "slop %llu%s\n",
		       i, (unsigned long long)c->rate_bps, d->mtu, d->window, d->ack_every, d->max_burst,
		       (unsigned long long)d->rate_bps, (unsigned long long)d->cm_timeout_ns,
		       (unsigned long long)d->timewait_ns, (unsigned long long)d->keepalive_ns,
		       (unsigned long long)c->timer_slop_ns, app.hosts[i].armed ? ", armed" : "");
	}
	for (u32 i = 0; i < app.nconns; i++) {
		const struct vconn *c = app.conns[i];

		printf("# connection %u at %llu: answer %u after %llu%s, psn %06x %06x\n", i, (unsigned long long)c->start_at,
		       c->answer, (unsigned long long)c->answer_delay, c->direct ? ", direct" : "", c->psn[0], c->psn[1]);
		for (u32 who = 0; who < 2; who++) {
			const struct vplan *p = &c->side[who].plan;

			printf("#  end %u: device %u, %u requests of up to %u, depths %u %u, sges %u, gaps %llu %llu, bad %u at %d, "
			       "timeout code %u, retries %u %u, rnr timer %u\n",
			       who, c->side[who].host->index, p->ops, p->max_len, p->send_depth, p->recv_depth, p->max_sge,
			       (unsigned long long)p->post_gap_ns, (unsigned long long)p->recv_gap_ns, p->bad_kind,
			       (int)p->bad_at, c->param[who].ack_timeout, c->param[who].retry_count,
			       c->param[who].rnr_retry_count, c->param[who].min_rnr_timer);
		}
	}
}

static bool schedule(u64 seed, bool replay, u64 *hash)
{
	struct world w;
	struct totals *t;
	bool ok;

	current_seed = seed;
	setitimer(ITIMER_PROF, &(struct itimerval){ .it_value = { .tv_sec = STUCK_SECONDS } }, NULL);
	build(&w, seed);
	current = w.category;
	if (replay)
		describe();
	if (!net.failed)
		run(&w);
	*hash = net.hash ^ app.completions ^ app.bytes << 20;
	t = &totals[w.category];
	t->schedules++;
	t->packets += net.packets;
	t->bytes += app.bytes;
	t->completions += app.completions;
	t->flushes += app.flushes;
	t->reads += app.reads;
	t->atomics += app.atomics;
	t->conns += app.nconns;
	for (u32 i = 0; i < net.nhosts; i++) {
		t->lost += net.hosts[i].link_drops + net.hosts[i].port_drops;
		t->damaged += net.hosts[i].corrupted;
	}
	for (u32 i = 0; i < 2 * app.nconns; i++)
		t->errors += app.conns[i / 2]->side[i & 1].status && app.conns[i / 2]->side[i & 1].status != RACKWIRE_ROCE_WC_WR_FLUSH_ERR;
	vnet_fini(&net);
	ok = !net.failed;
	if (!ok && ++t->failures <= SHOWN_FAILURES) {
		printf("# RACKWIRE_SEED=0x%llx %s: %s\n", (unsigned long long)seed, names[w.category], net.why);
		fflush(stdout);
		if (t->failures == 1)
			memcpy(t->why, net.why, sizeof(t->why));
	}
	vapp_fini(&app);
	return ok;
}

static void twice(u64 seed)
{
	u64 first, second;

	if (!schedule(seed, false, &first) || !schedule(seed, false, &second) || first == second)
		return;
	printf("# RACKWIRE_SEED=0x%llx %s: not the same when run again\n", (unsigned long long)seed, names[current]);
	totals[current].failures++;
	snprintf(totals[current].why, sizeof(totals[current].why), "seed 0x%llx is not the same when run again",
		 (unsigned long long)seed);
}

int main(void)
{
	bool replay, lengthy = getenv("RACKWIRE_TEST_LONG") != NULL;
	u64 seed = vnet_env_seed(0, &replay), failures = 0, hash;
	u64 count = vnet_env("RACKWIRE_SCHEDULES", lengthy ? LONG_SCHEDULES : SCHEDULES);
	struct vrng seeds = { vnet_env("RACKWIRE_BASE", lengthy ? (u64)time(NULL) << 20 : 20260101) };
	int number = 0;

	signal(SIGPROF, on_alarm);
	__sanitizer_set_death_callback(on_death);
	if (replay) {
		schedule(seed, true, &hash);
	} else {
		printf("# base 0x%llx, %llu schedules\n", (unsigned long long)seeds.state, (unsigned long long)count);
		fflush(stdout);
		for (u64 i = 0; i < count; i++) {
			if (i % TWICE_EVERY)
				schedule(vrand(&seeds), false, &hash);
			else
				twice(vrand(&seeds));
		}
	}
	for (u32 c = 0; c < CATEGORIES; c++) {
		const struct totals *t = &totals[c];

		if (!t->schedules)
			continue;
		printf("# %s: %llu schedules, %llu connections (%llu ends failed), %llu packets (%llu lost, %llu damaged), %llu "
		       "completions (%llu flushed), %llu bytes, %llu READs, %llu atomics\n",
		       names[c], (unsigned long long)t->schedules, (unsigned long long)t->conns,
		       (unsigned long long)t->errors, (unsigned long long)t->packets, (unsigned long long)t->lost,
		       (unsigned long long)t->damaged, (unsigned long long)t->completions,
		       (unsigned long long)t->flushes, (unsigned long long)t->bytes, (unsigned long long)t->reads,
		       (unsigned long long)t->atomics);
		number++;
		if (t->failures)
			printf("not ok %d - %s # %llu of %llu fail, first: %s\n", number, names[c],
			       (unsigned long long)t->failures, (unsigned long long)t->schedules, t->why);
		else
			printf("ok %d - %s\n", number, names[c]);
		failures += t->failures;
	}
	printf("1..%d\n", number);
	return failures != 0;
}
