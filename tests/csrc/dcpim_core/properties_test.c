/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random schedules: networks, parameters, applications and accidents drawn from
 * one seed each; what must hold is checked at every step (vapp.c, vcheck.c).
 *
 *	RACKWIRE_SEED=0x...      replay one schedule (RACKWIRE_TRACE=1 shows its packets)
 *	RACKWIRE_BASE=0x...      first seed of a run
 *	RACKWIRE_SCHEDULES=N     how many
 *	RACKWIRE_TEST_LONG=1     500,000 from a fresh base
 */
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "tap.h"
#include "vapp.h"
#include "vsniff.h"

#define SCHEDULES 30000
#define PACKETS 600 /* of payload, at most, in one schedule */
#define LONG_SCHEDULES 500000
#define SHOWN_FAILURES 8
#define STUCK_SECONDS 120

void __sanitizer_set_death_callback(void (*callback)(void));

enum category {
	CLEAN,
	LOSSY,
	CORRUPTING,
	PARTITIONED,
	DYING,
	INCAST,
	CUT_SHORT,
	STARVED,
	REFUSED,
	MTU_CHANGE,
	CATEGORIES
};

static const char *const names[CATEGORIES] = {
	"schedules__clean_network",  "schedules__loss_duplication_reordering", "schedules__corruption",
	"schedules__partition_heals", "schedules__hosts_die_and_restart",	"schedules__incast_into_small_queues",
	"schedules__closed_and_aborted_in_the_middle", "schedules__allocations_fail", "schedules__connect_to_nobody",
	"schedules__path_mtu_shrinks",
};

struct totals {
	u64 schedules, failures, packets, lost, damaged, bytes, msgs, conns, strays, errors;
	char why[sizeof(((struct vnet *)0)->why)];
};

static struct totals totals[CATEGORIES];
static u64 current_seed;
static enum category current;
static struct vnet net;
static struct vapp app;
static struct vsniff sniff;

struct world {
	struct vrng rng; /* of the plan; the network has its own */
	enum category category;
	u32 hosts;
	u64 rate, delay, rtt;
	u32 max_packet;
	u64 budget; /* payload bytes left to plan */
	u64 last_start, pauses;
	u64 heal_at;
};

static void on_death(void)
{
	printf("\n# RACKWIRE_SEED=0x%llx (%s) ended the program\n", (unsigned long long)current_seed, names[current]);
	fflush(stdout);
}

static void on_alarm(int sig)
{
	(void)sig;
	on_death();
	_exit(1);
}

static bool on_sent(struct vhost *h, const struct vpkt *pkt, const struct dcpim_pkt *p)
{
	vsniff_sent(&sniff, h, pkt, p);
	return true;
}

static bool on_delivering(struct vhost *h, const struct vpkt *pkt, const struct dcpim_pkt *p, int decoded)
{
	if (!decoded)
		vsniff_delivered(&sniff, h, pkt, p);
	return true;
}

static void draw_cfg(struct world *w, struct vhost_cfg *c)
{
	struct vrng *r = &w->rng;
	struct dcpim_cfg *d = &c->dcpim;
	u64 bdp, rto_scale;

	vnet_default_cfg(c, w->rate, w->delay, w->max_packet);
	d->ctrl_rtt_ns = dcpim_max(d->ctrl_rtt_ns * vrange(r, 50, 200) / 100, USEC);
	d->data_rtt_ns = dcpim_max(d->data_rtt_ns * vrange(r, 50, 300) / 100, USEC);
	d->alpha_milli = (u32)vrange(r, 1000, 2500);
	d->beta_milli = (u32)vrange(r, 1000, 3000);
	d->rounds = (u32)vrange(r, 1, 5);
	d->channels = (u32)vrange(r, 1, 6);
	bdp = dcpim_cfg_bdp(d);
	while (bdp < 1) {
		d->data_rtt_ns *= 2;
		bdp = dcpim_cfg_bdp(d);
	}
	d->rto_min_ns = dcpim_max(w->rtt * vrange(r, 2, 6), 2 * USEC);
	rto_scale = vrange(r, 4, 32);
	d->rto_max_ns = d->rto_min_ns * rto_scale;
	d->ack_delay_ns = dcpim_min(vrange(r, 0, w->rtt), 100 * MSEC);
	d->timewait_ns = dcpim_min(vrange(r, 0, 2 * d->rto_max_ns), 60 * SEC);
	d->timer_gran_ns = vrange(r, 1, 1 + w->rtt / 8);
	if (vchance(r, 300000))
		d->short_threshold = (u32)vrange_log(r, 1, 4 * bdp);
	if (vchance(r, 300000))
		d->window = (u32)dcpim_max(vrange_log(r, 1, 4 * bdp), 1024);
	if (vchance(r, 300000))
		d->token_batch = (u32)vrange_log(r, 1, 2 * bdp);
	d->first_part_mode = (u32)vrange(r, 0, 2);
	d->first_part_bytes = (u32)vrange(r, 0, 2 * bdp);
	d->unsched_refill_milli = (u32)vrange(r, 0, 1000);
	if (vchance(r, 300000))
		d->unsched_accept = (u32)vrange_log(r, 1, 2 * bdp);
	if (vchance(r, 300000))
		d->rx_budget = vrange_log(r, 2 * w->max_packet, 8 * bdp + 4 * w->max_packet);
	d->rcvbuf = (u32)dcpim_max(vrange_log(r, 4096, 1 << 20), 2 * w->max_packet);
	d->sndbuf = (u32)vrange_log(r, 4096, 1 << 20);
	d->max_msg = (u32)vrange_log(r, 64, d->rcvbuf - 512);
	if (w->category == CORRUPTING)
		d->flags |= DCPIM_CFG_CRC;
	if (w->category == DYING || w->category == CUT_SHORT || vchance(r, 100000))
		d->keepalive_ns = SEC; /* set for all hosts in build() */
	c->nic_queue = (u32)vrange(r, 1, 8) * w->max_packet;
	c->timer_slop_ns = vchance(r, 500000) ? 0 : vrange(r, 0, w->rtt);
	c->copy_on_hold = vchance(r, 300000);
	c->split_rx = vchance(r, 300000);
}

static void draw_side(struct world *w, struct vside *s, struct vside *peer, enum dcpim_kind kind)
{
	struct vrng *r = &w->rng;
	struct vplan *p = &s->plan;
	u64 share = w->budget / 4 + 1, want, writes;

	p->chunk_max = (u32)vrange_log(r, 1, 65536);
	p->chunk_min = (u32)vrange(r, 1, p->chunk_max);
	p->quiet_msgs = vchance(r, 100000);
	if (kind == DCPIM_STREAM) {
		want = vchance(r, 200000) ? 0 : vrange_log(r, 1, share);
		/* Single bytes are fine, but not by the ten thousand. */
		if (p->chunk_max < want / 200)
			p->chunk_max = (u32)(want / 200);
		p->total = want;
		writes = 1 + want / ((p->chunk_min + p->chunk_max) / 2);
		w->budget -= want;
	} else {
		p->msg_max = (u32)vrange_log(r, 1, dcpim_min(s->host->cfg.dcpim.max_msg, peer->host->cfg.dcpim.max_msg));
		p->msg_min = vchance(r, 200000) ? 0 : (u32)vrange(r, 1, p->msg_max);
		p->msgs = vchance(r, 200000) ? 0 : (u32)vrange_log(r, 1, 40);
		while (p->msgs && (u64)p->msgs * p->msg_max > share)
			p->msgs--;
		writes = p->msgs;
		w->budget -= (u64)p->msgs * p->msg_max;
	}
	if (vchance(r, 200000)) {
		p->write_gap_ns = vrange(r, 1, w->rtt);
		w->pauses += writes * 2 * p->write_gap_ns;
	}
	if (vchance(r, 200000))
		p->start_ns = vrange(r, 0, 8 * w->rtt);
	if (vchance(r, 200000))
		p->stall_ns = vrange(r, 0, 100 * w->rtt);
	w->pauses += p->start_ns + p->stall_ns;
	if (vchance(r, 300000)) {
		p->read_max = (u32)vrange_log(r, 1, 65536);
		if (vchance(r, 500000)) {
			p->read_gap_ns = vrange(r, 1, w->rtt);
			if (kind == DCPIM_STREAM && p->read_max < w->budget / 200)
				p->read_max = (u32)(w->budget / 200) + 1;
			w->pauses += 400 * p->read_gap_ns;
		}
	}
	p->end = vchance(r, 150000) ? VEND_KEEP : VEND_SHUTDOWN;
	if (w->category == CUT_SHORT && vchance(r, 500000)) {
		p->end = (enum vend)vrange(r, VEND_CLOSE, VEND_CLOSE_READ);
		p->end_at = vrange(r, 0, kind == DCPIM_STREAM ? p->total + 1 : p->msgs + 1);
	} else if (vchance(r, 100000)) {
		p->end = VEND_CLOSE;
	}
}

static void draw_conns(struct world *w)
{
	struct vrng *r = &w->rng;
	u32 n = (u32)vrange_log(r, 1, 8), sink = (u32)vrange(r, 0, w->hosts - 1);

	if (w->category == INCAST)
		n = (u32)vrange(r, w->hosts - 1, 2 * w->hosts);
	for (u32 i = 0; i < n; i++) {
		enum dcpim_kind kind = vchance(r, 400000) ? DCPIM_MESSAGE : DCPIM_STREAM;
		u32 from = (u32)vrange(r, 0, w->hosts - 1), to = (from + 1 + (u32)vrange(r, 0, w->hosts - 2)) % w->hosts;
		u64 at = vchance(r, 500000) ? 0 : vrange(r, 0, 20 * w->rtt);
		bool nobody = w->category == REFUSED && vchance(r, 500000);
		struct vconn *c;

		if (w->category == INCAST) {
			to = sink;
			from = (sink + 1 + i % (w->hosts - 1)) % w->hosts;
			at = vrange(r, 0, w->rtt);
		}
		c = vapp_add(&net, kind, from, to, nobody ? 81 : 80, at);
		draw_side(w, &c->side[0], &c->side[1], kind);
		draw_side(w, &c->side[1], &c->side[0], kind);
		/* Once closed, a host waits only so long for the peer to close as well. */
		for (u32 s = 0; s < 2; s++)
			if (c->side[s].plan.end == VEND_KEEP && c->side[!s].plan.end == VEND_CLOSE)
				c->side[s].plan.end = VEND_SHUTDOWN;
		c->expect_refused = nobody;
		w->last_start = dcpim_max(w->last_start, at);
	}
}

static void set_down(struct vnet *n, void *arg, u64 tag)
{
	struct vlink *l = arg;

	(void)n;
	l->down = tag;
}

static void set_mtu(struct vnet *n, void *arg, u64 tag)
{
	struct vlink *l = arg;

	(void)n;
	l->mtu = (u32)tag;
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
		vapp_listen(arg, 80);
}

static void stop_failing(struct vnet *n, void *arg, u64 tag)
{
	(void)n;
	(void)tag;
	((struct vhost *)arg)->mem.fail_ppm = 0;
}

static u64 longest(u64 (*of)(const struct vhost *h))
{
	u64 most = 0;

	for (u32 i = 0; i < net.nhosts; i++)
		most = dcpim_max(most, of(&net.hosts[i]));
	return most;
}

static u64 rto_max(const struct vhost *h)
{
	return h->cfg.dcpim.rto_max_ns;
}

static u64 dead_after(const struct vhost *h)
{
	return dcpim_max(h->cfg.dcpim.dead_after_ns, h->cfg.dcpim.connect_timeout_ns);
}

static u64 keepalive(const struct vhost *h)
{
	return h->cfg.dcpim.keepalive_ns;
}

static void draw_accidents(struct world *w)
{
	struct vrng *r = &w->rng;
	u64 span = 60 * w->rtt + (u64)((unsigned __int128)256 * 1024 * 8 * SEC / w->rate) / 8;

	switch (w->category) {
	case PARTITIONED:
		for (u32 i = (u32)vrange(r, 1, 3); i; i--) {
			u32 a = (u32)vrange(r, 0, w->hosts - 1), b = (a + 1) % w->hosts;
			u64 from = vrange(r, 0, span), until = from + vrange(r, 0, 8) * longest(rto_max);

			vnet_at(&net, from, set_down, &net.links[a][b], 1);
			vnet_at(&net, until, set_down, &net.links[a][b], 0);
			if (vchance(r, 500000)) {
				vnet_at(&net, from, set_down, &net.links[b][a], 1);
				vnet_at(&net, until, set_down, &net.links[b][a], 0);
			}
			w->heal_at = dcpim_max(w->heal_at, until);
		}
		break;
	case DYING: {
		struct vhost *h = &net.hosts[vrange(r, 0, w->hosts - 1)];
		u64 at = vrange(r, 0, span);

		vnet_at(&net, at, kill_host, h, 0);
		if (vchance(r, 600000))
			vnet_at(&net, at + vrange_log(r, 1, 100 * w->rtt), boot_host, h, 0);
		break;
	}
	case STARVED:
		for (u32 i = 0; i < w->hosts; i++) {
			net.hosts[i].mem.fail_rng.state = vrand(r);
			net.hosts[i].mem.fail_ppm = (u32)vrange_log(r, 1, 100000);
			w->heal_at = span / 4;
			vnet_at(&net, w->heal_at, stop_failing, &net.hosts[i], 0);
		}
		break;
	case MTU_CHANGE:
		for (u32 i = 0; i < w->hosts; i++)
			for (u32 j = 0; j < w->hosts; j++)
				if (i != j && vchance(r, 600000))
					vnet_at(&net, vrange(r, 0, span), set_mtu, &net.links[i][j],
						vrange(r, DCPIM_MIN_PACKET, w->max_packet));
		break;
	default:
		break;
	}
	for (u32 i = 0; i < app.nconns; i++) {
		struct vconn *c = app.conns[i];

		if (w->category == DYING || w->category == STARVED)
			c->expect_broken = true;
	}
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
	l->reorder_ns = vrange(r, 0, 4 * w->rtt);
	switch (w->category) {
	case LOSSY:
	case CUT_SHORT:
	case DYING:
		l->loss_ppm = vchance(r, 300000) ? 0 : rate(r, 200000);
		l->dup_ppm = vchance(r, 500000) ? 0 : rate(r, 200000);
		l->reorder_ppm = vchance(r, 500000) ? 0 : rate(r, 500000);
		break;
	case CORRUPTING:
		l->corrupt_ppm = rate(r, 150000);
		l->loss_ppm = vchance(r, 500000) ? 0 : rate(r, 50000);
		l->dup_ppm = vchance(r, 500000) ? 0 : rate(r, 200000);
		l->reorder_ppm = vchance(r, 500000) ? 0 : rate(r, 200000);
		break;
	case PARTITIONED:
	case MTU_CHANGE:
		l->loss_ppm = vchance(r, 700000) ? 0 : rate(r, 50000);
		break;
	default:
		break;
	}
}

static void build(struct world *w, u64 seed)
{
	static const u32 packets[] = { 256, 576, 1472, 1472, 4096, 9000 };
	struct vrng *r = &w->rng;
	struct vhost_cfg cfg[VNET_MAX_HOSTS];
	u64 slowest = 0;
	bool alike;

	memset(w, 0, sizeof(*w));
	w->rng.state = seed ^ 0x7261636b77697265ull;
	w->category = (enum category)vrange(r, 0, CATEGORIES - 1);
	w->hosts = w->category == INCAST ? (u32)vrange(r, 3, 6) : (u32)vrange(r, 2, vchance(r, 300000) ? 5 : 2);
	w->rate = vrange_log(r, 100000000ull, 100000000000ull);
	w->delay = vrange_log(r, 500, 500 * USEC);
	w->max_packet = packets[vrange(r, 0, 5)];
	w->rtt = 2 * w->delay + 4 * (u64)w->max_packet * 8 * SEC / w->rate;
	w->budget = vrange_log(r, 1, PACKETS) * w->max_packet;
	vnet_init(&net, seed);
	vapp_init(&app, &net);
	vsniff_init(&sniff);
	net.ops.sent = on_sent;
	net.ops.delivering = on_delivering;
	vnet_port = vchance(r, 200000) ? 0 : 4790;
	alike = vchance(r, 700000);
	for (u32 i = 0; i < w->hosts; i++) {
		if (i && alike)
			cfg[i] = cfg[0];
		else
			draw_cfg(w, &cfg[i]);
		if (w->category == INCAST)
			cfg[i].port_queue = (u32)vrange(r, 1, 8) * w->max_packet;
		/* Directly on IP the host's port is told, so that several hosts can share an address. */
		cfg[i].dcpim.host_port = vnet_port ? 0 : (u16)(5000 + i);
		cfg[i].clock_offset_ns = (s64)vrange(r, 0, 1ull << 48) - (1ll << 47);
		cfg[i].clock_ppm = (s32)vrange(r, 0, 400) - 200;
		slowest = dcpim_max(slowest, cfg[i].dcpim.rto_max_ns);
	}
	for (u32 i = 0; i < w->hosts && !net.failed; i++) {
		/* Patience has to be that of the slowest host. */
		cfg[i].dcpim.dead_after_ns = dcpim_max(80 * slowest, MSEC);
		cfg[i].dcpim.connect_timeout_ns = dcpim_max(80 * slowest, MSEC);
		if (w->category != CLEAN)
			cfg[i].dcpim.timewait_ns = dcpim_min(20 * slowest, 60 * SEC);
		if (cfg[i].dcpim.keepalive_ns)
			cfg[i].dcpim.keepalive_ns = dcpim_max(vrange(r, 4, 20) * slowest, MSEC);
		vnet_add(&net, &cfg[i], w->delay);
	}
	for (u32 i = 0; i < net.nhosts && !net.failed; i++)
		vapp_listen(&net.hosts[i], 80);
	app.allow_nomem = w->category == STARVED;
	draw_conns(w);
	draw_accidents(w);
	vnet_each_link(&net, impair, w);
}

/* What was sent is acknowledged, and what the applications have closed is gone from the cores, too. */
static bool settled(struct vnet *n)
{
	u64 open[VNET_MAX_HOSTS] = { 0 };

	for (u32 i = 0; i < 2 * app.nconns; i++) {
		const struct vside *s = &app.conns[i / 2]->side[i & 1];
		struct dcpim_flow_info info;

		if (!s->flow)
			continue;
		open[s->host->index]++;
		dcpim_flow_info(s->flow, &info);
		if (info.tx_queued || (s->shut && !s->drained))
			return false;
	}
	for (u32 i = 0; i < n->nhosts; i++)
		if (n->hosts[i].core && n->hosts[i].mem.count[DCPIM_SLAB_FLOW] > open[i])
			return false;
	return true;
}

static bool all_clean(void)
{
	for (u32 i = 0; i < app.nconns; i++)
		if (!vconn_clean(app.conns[i]))
			return false;
	return true;
}

/* Keep-alive is on in these runs: in the end nobody is still connected to a host that died. */
static void check_the_dead_are_missed(void)
{
	vnet_run(&net, net.now + 2 * longest(dead_after) + 2 * longest(keepalive));
	for (u32 i = 0; i < 2 * app.nconns && !net.failed; i++) {
		const struct vside *s = &app.conns[i / 2]->side[i & 1], *peer = &app.conns[i / 2]->side[!(i & 1)];

		if (s->flow && (peer->died || (s->who == 0 && !s->opened)))
			vnet_fail(&net, "connection %u: end %u is open, its peer died long ago", i / 2, s->who);
	}
}

static void run(struct world *w)
{
	u64 bytes_ns = (u64)((unsigned __int128)PACKETS * w->max_packet * 8 * SEC / w->rate);
	u64 bound = w->last_start + w->heal_at + 40 * w->pauses + 100 * bytes_ns + 200 * longest(rto_max) +
		    2 * (longest(dead_after) + longest(keepalive));

	vnet_run_until(&net, bound, vapp_done);
	if (!net.failed)
		vapp_check_ends(&net);
	if (net.failed)
		return;
	if (w->category == DYING)
		check_the_dead_are_missed();
	if (all_clean() && vnet_run_until(&net, net.now + 2 * longest(dead_after), settled) &&
	    vnet_run(&net, net.now + 3 * longest(rto_max) + 8 * w->rtt))
		vcheck_silent(&net, longest(dead_after));
	vapp_close_all(&net, false);
	vnet_run(&net, net.now + 4 * longest(dead_after) + 4 * longest(keepalive) + 2 * 60 * SEC);
	for (u32 i = 0; i < net.nhosts; i++)
		vcheck_nothing_left(&net.hosts[i], true);
}

static void describe(void)
{
	for (u32 i = 0; i < net.nhosts; i++) {
		const struct vhost_cfg *c = &net.hosts[i].cfg;
		const struct dcpim_cfg *d = &c->dcpim;

		printf("# host %u: rate %llu crtt %llu drtt %llu r %u k %u alpha %u beta %u packet %u short %u window %u batch %u "
		       "first %u/%u refill %u accept %u budget %llu rcvbuf %u sndbuf %u msg %u rto %llu..%llu ack %llu dead %llu "
		       "keep %llu timewait %llu gran %llu slop %llu bdp %llu round %llu epoch %llu\n",
		       i, (unsigned long long)d->rate_bps, (unsigned long long)d->ctrl_rtt_ns,
		       (unsigned long long)d->data_rtt_ns, d->rounds, d->channels, d->alpha_milli, d->beta_milli,
		       d->max_packet, d->short_threshold, d->window, d->token_batch, d->first_part_mode,
		       d->first_part_bytes, d->unsched_refill_milli, d->unsched_accept,
		       (unsigned long long)d->rx_budget, d->rcvbuf, d->sndbuf, d->max_msg,
		       (unsigned long long)d->rto_min_ns, (unsigned long long)d->rto_max_ns,
		       (unsigned long long)d->ack_delay_ns, (unsigned long long)d->dead_after_ns,
		       (unsigned long long)d->keepalive_ns, (unsigned long long)d->timewait_ns,
		       (unsigned long long)d->timer_gran_ns, (unsigned long long)c->timer_slop_ns,
		       (unsigned long long)dcpim_cfg_bdp(d), (unsigned long long)dcpim_cfg_round_ns(d),
		       (unsigned long long)dcpim_cfg_epoch_ns(d));
	}
	for (u32 i = 0; i < app.nconns; i++) {
		const struct vconn *c = app.conns[i];

		for (u32 who = 0; who < 2; who++) {
			const struct vplan *p = &c->side[who].plan;

			printf("# connection %u end %u: host %u, %s, %llu bytes in %u..%u, %u messages of %u..%u, gap %llu, read %u "
			       "gap %llu stall %llu, end %u at %llu\n",
			       i, who, c->side[who].host->index, c->kind ? "messages" : "stream",
			       (unsigned long long)p->total, p->chunk_min, p->chunk_max, p->msgs, p->msg_min, p->msg_max,
			       (unsigned long long)p->write_gap_ns, p->read_max, (unsigned long long)p->read_gap_ns,
			       (unsigned long long)p->stall_ns, p->end, (unsigned long long)p->end_at);
		}
	}
}

static bool schedule(u64 seed, bool replay)
{
	struct world w;
	struct totals *t;
	bool ok;

	current_seed = seed;
	alarm(STUCK_SECONDS);
	build(&w, seed);
	current = w.category;
	if (replay)
		describe();
	if (!net.failed)
		run(&w);
	t = &totals[w.category];
	t->schedules++;
	t->packets += net.packets;
	t->bytes += app.rx_bytes;
	t->msgs += app.rx_msgs;
	t->conns += app.nconns;
	t->strays += app.strays;
	for (u32 i = 0; i < net.nhosts; i++) {
		t->lost += net.hosts[i].link_drops + net.hosts[i].port_drops;
		t->damaged += net.hosts[i].corrupted;
	}
	for (u32 i = 0; i < 2 * app.nconns; i++)
		t->errors += app.conns[i / 2]->side[i & 1].error != 0;
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

static u64 env_number(const char *name, u64 fallback)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 0) : fallback;
}

int main(void)
{
	bool replay, lengthy = getenv("RACKWIRE_TEST_LONG") != NULL;
	u64 seed = vnet_env_seed(0, &replay), failures = 0;
	u64 count = env_number("RACKWIRE_SCHEDULES", lengthy ? LONG_SCHEDULES : SCHEDULES);
	struct vrng seeds = { env_number("RACKWIRE_BASE", lengthy ? (u64)time(NULL) << 20 : 20260101) };
	int number = 0;

	signal(SIGALRM, on_alarm);
	__sanitizer_set_death_callback(on_death);
	if (replay) {
		schedule(seed, true);
	} else {
		printf("# base 0x%llx, %llu schedules\n", (unsigned long long)seeds.state, (unsigned long long)count);
		fflush(stdout);
		for (u64 i = 0; i < count; i++)
			schedule(vrand(&seeds), false);
	}
	for (u32 c = 0; c < CATEGORIES; c++) {
		const struct totals *t = &totals[c];

		if (!t->schedules)
			continue;
		printf("# %s: %llu schedules, %llu connections (%llu ends failed, %llu strays), %llu packets (%llu lost, "
		       "%llu damaged), %llu bytes, %llu messages\n",
		       names[c], (unsigned long long)t->schedules, (unsigned long long)t->conns,
		       (unsigned long long)t->errors, (unsigned long long)t->strays, (unsigned long long)t->packets,
		       (unsigned long long)t->lost, (unsigned long long)t->damaged, (unsigned long long)t->bytes,
		       (unsigned long long)t->msgs);
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
