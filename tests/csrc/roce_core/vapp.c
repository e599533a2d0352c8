/* SPDX-License-Identifier: BSD-2-Clause */
/* Connections and what belongs to them, from beginning to end. */
#include <stdlib.h>

#include "vapp.h"

#define MAX_ADDS 8192

static const u32 everything = RACKWIRE_ROCE_LOCAL_WRITE | RACKWIRE_ROCE_REMOTE_WRITE | RACKWIRE_ROCE_REMOTE_READ |
			      RACKWIRE_ROCE_REMOTE_ATOMIC;

static void *need(void *ptr)
{
	if (!ptr)
		abort();
	return ptr;
}

/* ---- timers of the applications ---- */

static void side_call(struct vnet *net, void *arg, u64 tag)
{
	struct vside *s = arg;

	(void)net;
	if (s->timer != tag)
		return;
	s->timer = ROCE_NEVER;
	vside_run(s);
	vhost_touch(s->host);
}

void vside_arm(struct vside *s, u64 at)
{
	if (at >= s->timer)
		return;
	s->timer = at;
	vnet_at(s->host->net, at, side_call, s, at);
}

/* ---- devices ---- */

static bool setup(struct vhost *h)
{
	struct vhostapp *a = vapp_host(h);
	struct vnet *net = h->net;
	static const u8 any[16];
	u64 old;

	if (roce_pd_create(h->core, &a->pd) || roce_pd_create(h->core, &a->other_pd))
		return false;
	for (u32 i = 0; i < 2; i++) {
		if (roce_cq_create(h->core, vapp_of(net)->cq_entries, h, &a->cq[i]))
			return false;
		if (roce_cq_user(a->cq[i]) != h)
			vnet_fail(net, "device %u: a completion queue forgets its user", h->index);
		roce_cq_arm(a->cq[i], false);
	}
	if (roce_mr_register(a->pd, a->space.mem, a->space.size, RACKWIRE_ROCE_LOCAL_WRITE, h, &a->local) ||
	    roce_mr_register(a->pd, a->space.mem, a->space.size, 0, h, &a->readonly))
		return false;
	a->counter_ext = vspace_get(&a->space, NULL, 8, 8);
	if (!a->counter_ext)
		abort();
	if (roce_mr_register(a->pd, vext_ptr(a->counter_ext), 8, everything, h, &a->counter_mr)) {
		vspace_put(a->counter_ext);
		a->counter_ext = NULL;
		return false;
	}
	a->counter_ext->open = true;
	a->local_key = roce_mr_key(a->local);
	a->readonly_key = roce_mr_key(a->readonly);
	a->counter_key = roce_mr_key(a->counter_mr);
	a->counter_addr = (uintptr_t)vext_ptr(a->counter_ext);
	memcpy(&old, vext_ptr(a->counter_ext), 8);
	a->counter_base = old;
	memset(a->olds, 0, MAX_ADDS / 8);
	a->adds_posted = a->adds_done = 0;
	return !roce_cm_listen(h->core, any, VPORT, 16, h, &a->listener);
}

bool vapp_setup(struct vhost *h, u32 arena)
{
	struct vapp *app = vapp_of(h->net);
	struct vhostapp *a = vapp_host(h);

	if (!a->space.mem)
		vspace_init(&a->space, h->net, h->index, arena, &h->net->rng);
	if (!a->olds)
		a->olds = need(calloc(1, MAX_ADDS / 8));
	vhost_touch(h);
	if (!setup(h)) {
		if (!app->allow_nomem)
			vnet_fail(h->net, "device %u: the application's objects cannot be made", h->index);
		vapp_teardown(h);
		return false;
	}
	a->ready = true;
	return true;
}

void vapp_teardown(struct vhost *h)
{
	struct vhostapp *a = vapp_host(h);

	a->ready = false;
	if (a->counter_ext) {
		u64 value;

		memcpy(&value, vext_ptr(a->counter_ext), 8);
		value -= a->counter_base;
		if (!h->net->forged && (value < a->adds_done || value > a->adds_posted))
			vnet_fail(h->net, "device %u: a counter says %llu after %u fetch-and-adds, of which %u are known to have been done",
				  h->index, (unsigned long long)value, a->adds_posted, a->adds_done);
		if (h->core)
			roce_mr_deregister(a->counter_mr);
		vspace_put(a->counter_ext);
		a->counter_ext = NULL;
	}
	if (h->core) {
		if (a->listener)
			roce_cm_destroy(a->listener, vhost_clock(h));
		if (a->local)
			roce_mr_deregister(a->local);
		if (a->readonly)
			roce_mr_deregister(a->readonly);
		for (u32 i = 0; i < 2; i++)
			if (a->cq[i] && roce_cq_destroy(a->cq[i]))
				vnet_fail(h->net, "device %u: a completion queue is still in use", h->index);
		if ((a->pd && roce_pd_destroy(a->pd)) || (a->other_pd && roce_pd_destroy(a->other_pd)))
			vnet_fail(h->net, "device %u: a protection domain is still in use", h->index);
		vhost_touch(h);
	}
	a->listener = NULL;
	a->local = a->readonly = a->counter_mr = NULL;
	a->cq[0] = a->cq[1] = NULL;
	a->pd = a->other_pd = NULL;
}

/* ---- one end ---- */

static bool make_region(struct vside *s, struct vregion *region, struct roce_pd *pd, u32 access, bool cell)
{
	struct vrng *r = &s->host->net->rng;
	struct vspace *sp = &vapp_host(s->host)->space;
	u32 len = (u32)vrange(r, 16, 16 + s->plan.max_region);

	if (cell) {
		region->cell = vcell_new(sp, len, s->conn->chunk);
		region->ext = region->cell ? region->cell->ext : NULL;
	} else {
		region->ext = vspace_get(sp, NULL, len, 1);
	}
	if (!region->ext && !vapp_of(s->host->net)->allow_nomem)
		vnet_fail(s->host->net, "the memory of device %u is too small for its connections", s->host->index);
	if (!region->ext || roce_mr_register(pd, vext_ptr(region->ext), len, access, s, &region->mr))
		return false;
	region->key = roce_mr_key(region->mr);
	region->state = VKEY_LIVE;
	return true;
}

bool vside_make(struct vside *s)
{
	struct vhostapp *a = vapp_host(s->host);
	struct vrng *r = &s->host->net->rng;
	struct rackwire_roce_qp_attr attr = {
		.max_send_wr = s->plan.send_depth,
		.max_recv_wr = s->plan.recv_depth,
		.max_sge = s->plan.max_sge,
		.signal_all = s->plan.signal_all,
		.access = everything,
	};
	const u32 rw = RACKWIRE_ROCE_LOCAL_WRITE | RACKWIRE_ROCE_REMOTE_READ | RACKWIRE_ROCE_REMOTE_WRITE;

	s->life = s->host->life;
	if (!a->ready)
		return false;
	for (u32 i = 0; i < VTARGETS; i++)
		if (!make_region(s, &s->target[i], a->pd, rw, true))
			return false;
	if (!make_region(s, &s->no_write, a->pd, RACKWIRE_ROCE_LOCAL_WRITE | RACKWIRE_ROCE_REMOTE_READ, false) ||
	    !make_region(s, &s->no_read, a->pd, RACKWIRE_ROCE_LOCAL_WRITE | RACKWIRE_ROCE_REMOTE_WRITE, false) ||
	    !make_region(s, &s->other_pd, a->other_pd, everything, false) ||
	    !make_region(s, &s->sink, a->pd, RACKWIRE_ROCE_LOCAL_WRITE, false))
		return false;
	s->cas_ext = vspace_get(&a->space, NULL, 8, 8);
	if (!s->cas_ext || roce_mr_register(a->pd, vext_ptr(s->cas_ext), 8, everything, s, &s->cas_mr))
		return false;
	s->cas_ext->open = true;
	s->cas_key = roce_mr_key(s->cas_mr);
	memcpy(&s->cas_value, vext_ptr(s->cas_ext), 8);
	return !roce_qp_create(a->pd, a->cq[vrange(r, 0, 1)], a->cq[vrange(r, 0, 1)], &attr, s, &s->qp);
}

/* The queue pair is gone: nobody writes to its memory any more. */
static void freeze(struct vside *s)
{
	for (u32 i = 0; i < VTARGETS; i++)
		if (s->target[i].cell)
			vcell_freeze(s->target[i].cell);
	if (s->cas_ext && s->cas_ext->open) {
		u64 value;

		memcpy(&value, vext_ptr(s->cas_ext), 8);
		if (!s->cas_open && value != s->cas_value && !s->host->net->forged)
			vnet_fail(s->host->net, "connection %u end %u: compared and swapped to %llx, not %llx", s->conn->index,
				  s->who, (unsigned long long)value, (unsigned long long)s->cas_value);
		vext_close(s->cas_ext);
	}
}

static void drop_region(struct vside *s, struct vregion *region)
{
	if (region->mr && !s->died)
		roce_mr_deregister(region->mr);
	region->mr = NULL;
	region->state = VKEY_DEAD;
}

/* Completions that must still come: successful requests that nobody wants to hear of are not missed. */
static bool vside_owed(const struct vside *s)
{
	for (u32 i = s->head; i < s->nops; i++)
		if (s->status || s->plan.signal_all || s->ops[i]->flags & RACKWIRE_ROCE_SEND_SIGNALED)
			return true;
	return false;
}

void vside_kill_qp(struct vside *s)
{
	struct vhostapp *a = vapp_host(s->host);
	struct roce_qp *qp = s->qp;

	if (!qp)
		return;
	for (u32 i = 0; i < 2 && !s->died; i++)
		a->again |= vdone_poll(s->host, a->cq[i]);
	if (!s->died && s->disconnected && s->state == V_CLOSING && (vside_owed(s) || s->recv_head < s->nrecvs))
		vnet_fail(s->host->net, "connection %u end %u: disconnected, and %u requests and %u receives never completed",
			  s->conn->index, s->who, s->nops - s->head, s->nrecvs - s->recv_head);
	for (u32 i = 0; i < VTARGETS; i++)
		if (s->target[i].cell)
			vcell_check(s->target[i].cell, 0);
	s->qp = NULL;
	s->destroyed_qp = true;
	if (!s->died) {
		roce_qp_destroy(qp, vhost_clock(s->host));
		vhost_touch(s->host);
	}
	vdone_vanish(s);
	freeze(s);
}

void vside_destroy(struct vside *s)
{
	struct vrng *r = &s->host->net->rng;
	bool id_first = vchance(r, 500000), keys_first = vchance(r, 300000);

	if (s->state == V_GONE)
		return;
	if (s->state == V_UP)
		s->conn->closing = true;
	if (keys_first && s->state != V_UP)
		for (u32 i = 0; i < VTARGETS; i++)
			drop_region(s, &s->target[i]);
	if (!id_first)
		vside_kill_qp(s);
	if (s->id && !s->died) {
		roce_cm_destroy(s->id, vhost_clock(s->host));
		vhost_touch(s->host);
	}
	s->id = NULL;
	vside_kill_qp(s);
	freeze(s);
	for (u32 i = 0; i < VTARGETS; i++)
		drop_region(s, &s->target[i]);
	drop_region(s, &s->no_write);
	drop_region(s, &s->no_read);
	drop_region(s, &s->other_pd);
	drop_region(s, &s->sink);
	if (s->cas_mr && !s->died)
		roce_mr_deregister(s->cas_mr);
	s->cas_mr = NULL;
	s->state = V_GONE;
}

static void destroy_later(struct vnet *net, void *arg, u64 tag)
{
	struct vside *s = arg;

	(void)net;
	if (s->life == (u32)tag && !s->died)
		vside_destroy(s);
}

void vside_closing(struct vside *s)
{
	if (s->state >= V_CLOSING)
		return;
	s->state = V_CLOSING;
	s->conn->closing = true;
	vnet_at(s->host->net, s->host->net->now + s->conn->reap_delay, destroy_later, s, s->life);
}

/* ---- connections ---- */

static void close_call(struct vnet *net, void *arg, u64 tag)
{
	(void)net;
	vconn_close(arg, (u32)tag);
}

void vconn_close(struct vconn *c, u32 who)
{
	struct vside *s = &c->side[who];
	int r;

	if (c->direct) {
		c->closing = true;
		for (u32 i = 0; i < 2; i++)
			if (c->side[i].state == V_UP && !c->side[i].died) {
				if (c->side[i].qp)
					roce_qp_error(c->side[i].qp, vhost_clock(c->side[i].host));
				vhost_touch(c->side[i].host);
				c->side[i].disconnected++;
				vside_closing(&c->side[i]);
			}
		return;
	}
	if (!s->id || s->died || s->state != V_UP)
		return;
	c->closing = true;
	r = roce_cm_disconnect(s->id, vhost_clock(s->host));
	if (r)
		vnet_fail(s->host->net, "connection %u end %u: roce_cm_disconnect gives %d", c->index, who, r);
	if (vchance(&s->host->net->rng, 200000) && roce_cm_disconnect(s->id, vhost_clock(s->host)))
		vnet_fail(s->host->net, "connection %u end %u: disconnecting twice is an error", c->index, who);
	vhost_touch(s->host);
}

bool vside_idle(const struct vside *s)
{
	const struct vside *peer = &s->conn->side[!s->who];

	return s->state == V_UP && s->established && s->planned >= s->plan.ops && s->head == s->nops && s->next_msg >= peer->nmsgs;
}

static void close_if_idle(struct vconn *c)
{
	if (c->keep_open || c->closing || !vside_idle(&c->side[0]) || !vside_idle(&c->side[1]))
		return;
	c->closing = true;
	vnet_at(c->side[0].host->net, c->side[0].host->net->now + c->close_delay, close_call, c, c->closer);
	if (vchance(&c->side[0].host->net->rng, 200000))
		vnet_at(c->side[0].host->net, c->side[0].host->net->now + c->close_delay, close_call, c, !c->closer);
}

void vside_run(struct vside *s)
{
	struct vnet *net = s->host->net;

	if (s->died || !s->qp || net->failed || s->state == V_GONE)
		return;
	vpost_recvs(s);
	if (s->state == V_CONNECTING && s->who == 1 && s->plan.early && roce_qp_state(s->qp) == RACKWIRE_ROCE_QP_RTS) {
		s->state = V_UP; /* accepted, and does not wait for the peer */
		s->next_post = net->now + s->plan.start_ns;
	}
	vpost_sends(s);
	if ((s->status || s->recv_status) && s->state == V_UP && !s->conn->closing) {
		bool victim = s->conn->on_purpose && !(s->plan.bad_at < s->nops && s->ops[s->plan.bad_at]->bad);

		/* The one that sent the bad request shall first hear what was wrong with it. */
		s->conn->closing = true;
		vnet_at(net, net->now + s->conn->close_delay + (victim ? 20 * MSEC : 0), close_call, s->conn, s->who);
	}
	close_if_idle(s->conn);
}

static void give_up(struct vnet *net, void *arg, u64 tag)
{
	struct vconn *c = arg;

	(void)net;
	(void)tag;
	for (u32 i = 0; i < 2; i++)
		if (c->started && !c->side[i].died)
			vside_destroy(&c->side[i]);
}

static void start_direct(struct vconn *c)
{
	struct vnet *net = c->side[0].host->net;
	u32 depth[2];

	for (u32 i = 0; i < 2; i++) {
		struct vside *s = &c->side[i];

		depth[i] = (u32)roce_min(c->param[i].initiator_depth, c->param[!i].responder_resources);
		if (!s->host->core || !vside_make(s)) {
			if (s->host->core && !vapp_of(net)->allow_nomem)
				vnet_fail(net, "connection %u: an end cannot be made", c->index);
			for (u32 k = 0; k < 2; k++) {
				if (!c->side[k].host->core)
					c->side[k].died = true;
				vside_destroy(&c->side[k]);
			}
			return;
		}
	}
	for (u32 i = 0; i < 2; i++) {
		struct vside *s = &c->side[i];
		struct roce_qp_link link = {
			.path = vnet_path(net, s->host->index, c->side[!i].host->index),
			.dest_qpn = roce_qp_num(c->side[!i].qp),
			.sq_psn = c->psn[i],
			.rq_psn = c->psn[!i],
			.mtu = c->chunk,
			.max_rd_atomic = (u8)depth[i],
			.max_dest_rd_atomic = (u8)depth[!i],
			.retry_count = c->param[i].retry_count,
			.rnr_retry_count = c->param[i].rnr_retry_count,
			.min_rnr_timer = c->param[i].min_rnr_timer,
			.ack_timeout = c->param[i].ack_timeout,
		};
		int r = roce_qp_connect(s->qp, vhost_clock(s->host), &link);

		if (r)
			vnet_fail(net, "connection %u: roce_qp_connect gives %d", c->index, r);
		s->established++;
		s->state = V_UP;
		s->next_post = net->now + s->plan.start_ns;
	}
	for (u32 i = 0; i < 2; i++) {
		vside_run(&c->side[i]);
		vhost_touch(c->side[i].host);
	}
}

static void start_call(struct vnet *net, void *arg, u64 tag)
{
	struct vconn *c = arg;
	struct vside *s = &c->side[0];
	u32 from = s->host->index, to = c->side[1].host->index;
	struct roce_path path = vnet_path(net, from, to);
	u16 port = c->answer == VANSWER_NOBODY ? VPORT + 1 : VPORT, sport = (u16)(20000 + c->index), a, b;
	int r = -ENOMEM;

	(void)tag;
	c->started = true;
	if (c->give_up_at)
		vnet_at(net, c->give_up_at, give_up, c, 0);
	if (c->direct) {
		start_direct(c);
		return;
	}
	if (!s->host->core) {
		s->state = V_GONE;
		return;
	}
	if (vside_make(s)) {
		c->param[0].private_data = c->private_data[0];
		c->param[0].private_data_len = c->private_len[0];
		vpost_recvs(s);
		s->state = V_CONNECTING;
		r = roce_cm_connect(s->host->core, vhost_clock(s->host), &path, sport, port, s->qp, &c->param[0], s, &s->id);
	}
	vhost_touch(s->host);
	if (r) {
		if (!vapp_of(net)->allow_nomem || r != -ENOMEM)
			vnet_fail(net, "connection %u cannot be begun: %d", c->index, r);
		s->id = NULL;
		vside_destroy(s);
		return;
	}
	roce_cm_ports(s->id, &a, &b);
	if (a != sport || b != port || roce_cm_user(s->id) != s || roce_cm_qp(s->id) != s->qp)
		vnet_fail(net, "connection %u: its id forgets its ports, its user or its queue pair", c->index);
}

struct vconn *vapp_add(struct vnet *net, u32 from, u32 to, u64 start_at)
{
	struct vapp *app = vapp_of(net);
	struct vconn *c = need(calloc(1, sizeof(*c)));

	if (app->nconns == app->cap) {
		app->cap = app->cap ? 2 * app->cap : 8;
		app->conns = need(realloc(app->conns, app->cap * sizeof(*app->conns)));
	}
	c->index = app->nconns;
	app->conns[app->nconns++] = c;
	c->start_at = start_at;
	c->chunk = (u32)roce_min(net->hosts[from].cfg.roce.mtu, net->hosts[to].cfg.roce.mtu);
	c->reason = RACKWIRE_ROCE_REJ_CONSUMER;
	c->reap_delay = USEC;
	for (u32 i = 0; i < 3; i++) {
		c->private_len[i] = i || vchance(&net->rng, 500000) ? (u32)vrange(&net->rng, 8, 56) : 56;
		vpattern_fill(vrand(&net->rng), 0, c->private_data[i], 56);
	}
	roce_put32(c->private_data[0], VMAGIC);
	roce_put32(c->private_data[0] + 4, c->index);
	for (u32 i = 0; i < 2; i++) {
		struct vside *s = &c->side[i];

		s->conn = c;
		s->who = i;
		s->host = &net->hosts[i ? to : from];
		s->timer = ROCE_NEVER;
		s->plan = (struct vplan){ .max_len = 1024, .max_region = 4096, .send_depth = 16, .recv_depth = 16, .max_sge = 2,
					  .signal_ppm = 500000, .batch = 1, .bad_at = ~0u };
		c->param[i] = (struct rackwire_roce_conn_param){ .responder_resources = 4, .initiator_depth = 4,
								 .retry_count = 7, .rnr_retry_count = 7,
								 .min_rnr_timer = 1, .ack_timeout = 8 };
	}
	vnet_at(net, start_at, start_call, c, 0);
	return c;
}

/* ---- completions ---- */

static void poll_call(struct vnet *net, void *arg, u64 tag)
{
	(void)net;
	(void)tag;
	vhost_touch(arg);
}

static bool poll_queues(struct vhost *h)
{
	struct vhostapp *a = vapp_host(h);
	bool any = false;

	for (u32 i = 0; i < 2; i++)
		if (vdone_poll(h, a->cq[i]))
			any = true;
	return any;
}

static bool on_served(struct vhost *h)
{
	struct vhostapp *a = vapp_host(h);
	struct vapp *app = vapp_of(h->net);
	bool any = a->again;

	a->again = false;
	if (!a->ready)
		return false;
	if (!a->armed) {
		any |= poll_queues(h);
	} else if (a->signal) {
		if (h->net->now < a->poll_at) {
			vnet_at(h->net, a->poll_at, poll_call, h, 0);
		} else {
			a->signal = false;
			/* Arm first, so that nothing slips through between the last look and arming. */
			do {
				any |= poll_queues(h);
			} while ((roce_cq_arm(a->cq[0], false) | roce_cq_arm(a->cq[1], false)) && !h->net->failed);
		}
	}
	if (++app->serves % 128 == 0)
		vcheck_memory(h->net);
	if (any)
		for (u32 i = 0; i < 2 * app->nconns; i++)
			if (app->conns[i / 2]->side[i & 1].host == h && app->conns[i / 2]->started)
				vside_run(&app->conns[i / 2]->side[i & 1]);
	return any;
}

static void on_dying(struct vhost *h)
{
	struct vapp *app = vapp_of(h->net);

	for (u32 i = 0; i < 2 * app->nconns; i++) {
		struct vside *s = &app->conns[i / 2]->side[i & 1];

		if (s->host != h || s->state == V_GONE || (s->state == V_IDLE && !s->id))
			continue;
		for (u32 t = 0; t < VTARGETS; t++)
			if (s->target[t].cell)
				vcell_check(s->target[t].cell, 0);
		s->died = true;
		s->conn->closing = true;
		vside_destroy(s);
	}
	{
		struct roce_dev *core = h->core;

		h->core = NULL; /* its objects go with it */
		vapp_teardown(h);
		h->core = core;
	}
}

/* ---- all of them ---- */

void vapp_init(struct vapp *app, struct vnet *net, u32 cq_entries)
{
	memset(app, 0, sizeof(*app));
	app->net = net;
	app->cq_entries = cq_entries;
	net->user = app;
	net->ops.event = vapp_event;
	net->ops.served = on_served;
	net->ops.dying = on_dying;
}

static void free_region(struct vregion *region)
{
	if (region->cell)
		vcell_free(region->cell);
}

void vapp_fini(struct vapp *app)
{
	for (u32 i = 0; i < app->nconns; i++) {
		struct vconn *c = app->conns[i];

		for (u32 who = 0; who < 2; who++) {
			struct vside *s = &c->side[who];

			for (u32 t = 0; t < VTARGETS; t++)
				free_region(&s->target[t]);
			for (u32 k = 0; k < s->nops; k++)
				free(s->ops[k]);
			for (u32 k = 0; k < s->nrecvs; k++)
				free(s->recvs[k]);
			free(s->ops);
			free(s->recvs);
			free(s->msgs);
		}
		free(c);
	}
	free(app->conns);
	free(app->wrs);
	for (u32 i = 0; i < VNET_MAX_HOSTS; i++) {
		if (app->hosts[i].space.mem)
			vspace_fini(&app->hosts[i].space);
		free(app->hosts[i].olds);
	}
	memset(app, 0, sizeof(*app));
}

static bool side_over(const struct vside *s)
{
	return s->state == V_GONE || (s->who == 1 && s->state == V_IDLE && !s->id && s->conn->side[0].state == V_GONE);
}

bool vapp_done(struct vnet *net)
{
	struct vapp *app = vapp_of(net);

	for (u32 i = 0; i < 2 * app->nconns; i++)
		if (!app->conns[i / 2]->started || !side_over(&app->conns[i / 2]->side[i & 1]))
			return false;
	return true;
}
