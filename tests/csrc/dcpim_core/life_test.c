/* SPDX-License-Identifier: BSD-2-Clause */
/* Connections from opening to the last byte of their memory; peers that fall silent, die and come back. */
#include "scene.h"

static void connect__to_nobody_is_refused(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct vconn *c;

	scene_start(1, 2, &cfg);
	for (u32 kind = 0; kind < 2; kind++) {
		c = vapp_add(&net, kind ? DCPIM_MESSAGE : DCPIM_STREAM, 0, 1, 99, net.now);
		scene_run(MSEC);
		SCENE_OK();
		TAP_CHECK(c->side[0].error == -ECONNREFUSED);
		TAP_CHECK(c->side[0].error_at - c->start_at < 20 * USEC);
	}
	SCENE_END();
}

static void connect__to_the_wrong_kind_is_refused(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct dcpim_listener *l;
	struct vconn *c;

	scene_start(2, 2, &cfg);
	TAP_CHECK(dcpim_listen(net.hosts[1].core, 90, 1u << DCPIM_STREAM, 8, ~0u, &l, &l) == 0);
	TAP_CHECK(dcpim_listener_user(l) == &l);
	c = vapp_add(&net, DCPIM_MESSAGE, 0, 1, 90, 0);
	scene_run(MSEC);
	SCENE_OK();
	TAP_CHECK(c->side[0].error == -ECONNREFUSED);
	SCENE_END();
}

static void connect__to_a_dead_host_times_out(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct vconn *c;

	scene_start(3, 2, &cfg);
	vnet_kill(&net.hosts[1]);
	c = vapp_add(&net, DCPIM_STREAM, 0, 1, 80, 0);
	scene_run(2 * cfg.dcpim.connect_timeout_ns);
	SCENE_OK();
	TAP_CHECK(c->side[0].error == -ETIMEDOUT);
	TAP_CHECK(c->side[0].error_at >= cfg.dcpim.connect_timeout_ns);
	TAP_CHECK(c->side[0].error_at <= cfg.dcpim.connect_timeout_ns + 2 * cfg.dcpim.rto_max_ns);
	/* Backing off: not a flood. */
	TAP_CHECK(net.hosts[0].tx_packets < 60);
	SCENE_END();
}

static void connect__unreachable_fails_at_once(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct dcpim_path to = vnet_path(1);
	struct vconn *opening, *open;

	scene_start(4, 2, &cfg);
	open = scene_stream(0, 1, 1000, 0);
	scene_run(MSEC);
	net.links[0][1].down = true;
	opening = scene_stream(0, 1, 1000, net.now);
	scene_run(100 * USEC);
	dcpim_unreachable(net.hosts[0].core, vhost_clock(&net.hosts[0]), &to, -EHOSTUNREACH);
	vhost_touch(&net.hosts[0]);
	scene_run(USEC);
	SCENE_OK();
	TAP_CHECK(opening->side[0].error == -EHOSTUNREACH);
	TAP_CHECK(open->side[0].error == 0 && open->side[0].flow);
	SCENE_END();
}

static void connect__caps_and_ports(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct dcpim_path to = vnet_path(1);
	struct dcpim_flow *f;
	struct dcpim_listener *l;
	struct dcpim_host *core;
	u64 now;

	cfg.dcpim.max_flows = 10;
	scene_start(5, 2, &cfg);
	core = net.hosts[0].core;
	now = vhost_clock(&net.hosts[0]);
	TAP_CHECK(dcpim_listen(core, 80, 1, 1, ~0u, NULL, &l) == -EADDRINUSE);
	TAP_CHECK(dcpim_listen(core, 0, 1, 1, ~0u, NULL, &l) == -EINVAL);
	TAP_CHECK(dcpim_connect(core, now, DCPIM_STREAM, &to, 5, 0, NULL, &f) == -EINVAL);
	TAP_CHECK(dcpim_connect(core, now, DCPIM_STREAM, &to, 5, 99, NULL, &f) == 0);
	TAP_CHECK(dcpim_connect(core, now, DCPIM_STREAM, &to, 5, 99, NULL, &f) == -EADDRINUSE);
	for (u32 i = 1; i < 10; i++)
		TAP_CHECK(dcpim_connect(core, now, DCPIM_STREAM, &to, 0, 99, NULL, &f) == 0);
	TAP_CHECK(dcpim_connect(core, now, DCPIM_STREAM, &to, 0, 99, NULL, &f) == -ENFILE);
	while ((f = dcpim_flow_next(core, NULL)))
		dcpim_close(f, now, true);
	vhost_touch(&net.hosts[0]);
	scene_run(4 * cfg.dcpim.connect_timeout_ns);
	vcheck_nothing_left(&net.hosts[0], true);
	SCENE_END();
}

/* Two hosts connect to each other from and to the same pair of ports at the same instant. */
static void connect__same_ports_both_ways_at_once(void)
{
	struct vhost_cfg cfg = scene_cfg();

	scene_start(6, 2, &cfg);
	for (u32 i = 0; i < 2; i++) {
		struct vconn *c = scene_stream(i, !i, 10000, 0);

		c->sport = 80;
		c->expect_broken = true;
	}
	scene_run(2 * cfg.dcpim.connect_timeout_ns);
	SCENE_OK();
	vapp_close_all(&net, true);
	scene_run(4 * cfg.dcpim.dead_after_ns);
	vcheck_nothing_left(&net.hosts[0], true);
	vcheck_nothing_left(&net.hosts[1], true);
	SCENE_END();
}

static void connect__many_at_once(void)
{
	struct vhost_cfg cfg = scene_cfg();

	cfg.dcpim.max_flows = 2048;
	scene_start(7, 2, &cfg);
	for (u32 i = 0; i < 500; i++) {
		struct vconn *c = i & 1 ? scene_stream(0, 1, 100, 0) : scene_msgs(1, 0, 1, 100, 0);

		c->side[0].plan.end = c->side[1].plan.end = VEND_SHUTDOWN;
	}
	vnet_run_until(&net, SEC, vapp_done);
	vapp_check_ends(&net);
	scene_run(20 * cfg.dcpim.rto_max_ns);
	vcheck_nothing_left(&net.hosts[0], true);
	vcheck_nothing_left(&net.hosts[1], true);
	SCENE_END();
}

static void listen__backlog_bounds_half_open(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct dcpim_listener *l;
	struct dcpim_pkt p = { .type = DCPIM_NOTIFICATION_LONG, .dport = 90 };

	cfg.dcpim.max_flows = 1000;
	scene_start(8, 2, &cfg);
	TAP_CHECK(dcpim_listen(net.hosts[1].core, 90, 3, 4, ~0u, NULL, &l) == 0);
	for (u32 i = 0; i < 500; i++) {
		p.sport = (u16)(1000 + i);
		p.u.syn.flow_tag = p.u.syn.host_tag = 77 + i;
		p.u.syn.max_packet = 1472;
		p.u.syn.wnd = p.u.syn.max_msg = 100000;
		vnet_inject_pkt(&net, 0, 1, &p, NULL, 0);
		scene_run(100);
	}
	SCENE_OK();
	TAP_CHECK(scene_info(1).flows <= 4);
	TAP_CHECK(net.hosts[1].tx_bytes <= 500 * DCPIM_SYN_LEN);
	scene_run(4 * cfg.dcpim.connect_timeout_ns);
	vcheck_nothing_left(&net.hosts[1], true);
	SCENE_END();
}

static void listen__gone_resets_the_untaken(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct dcpim_listener *l;
	struct vconn *c;

	scene_start(9, 2, &cfg);
	TAP_CHECK(dcpim_listen(net.hosts[1].core, 90, 3, 4, ~0u, NULL, &l) == 0);
	dcpim_unlisten(net.hosts[1].core, l, vhost_clock(&net.hosts[1]));
	c = vapp_add(&net, DCPIM_STREAM, 0, 1, 90, 0);
	scene_run(MSEC);
	SCENE_OK();
	TAP_CHECK(c->side[0].error == -ECONNREFUSED);
	SCENE_END();
}

static void close__half_closed_side_still_receives(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct vconn *c;

	scene_start(10, 2, &cfg);
	c = scene_stream(0, 1, 1000, 0);
	c->side[0].plan.end = VEND_SHUTDOWN;
	c->side[1].plan.total = 300000;
	c->side[1].plan.start_ns = 10 * MSEC;
	c->side[1].plan.end = VEND_SHUTDOWN;
	scene_run(5 * MSEC);
	SCENE_OK();
	TAP_CHECK(c->side[1].eof && c->side[0].drained && !c->side[0].closed);
	vnet_run_until(&net, 100 * MSEC, vapp_done);
	vapp_check_ends(&net);
	SCENE_END();
}

/* A message unread, bytes unread, when the peer closes: they stay readable. */
static void hazard__unread_data_survives_the_peers_close(void)
{
	for (u32 kind = 0; kind < 2; kind++) {
		struct vhost_cfg cfg = scene_cfg();
		struct vconn *c;

		scene_start(11 + kind, 2, &cfg);
		c = kind ? scene_msgs(0, 1, 3, 20000, 0) : scene_stream(0, 1, 60000, 0);
		c->side[0].plan.end = VEND_CLOSE;
		c->side[1].plan.end = VEND_SHUTDOWN;
		c->side[1].plan.stall_ns = 200 * MSEC;
		scene_run(100 * MSEC);
		SCENE_OK();
		TAP_CHECK(c->side[0].closed && c->side[1].eof && !c->side[1].error);
		TAP_CHECK(c->side[1].rx_done == 0);
		scene_run(200 * MSEC);
		SCENE_OK();
		TAP_CHECK(c->side[1].rx_done == 60000 && !c->side[1].error);
		SCENE_END();
	}
}

static void close__asked_for_before_it_is_open(void)
{
	for (u32 kind = 0; kind < 2; kind++) {
		struct vhost_cfg cfg = scene_cfg();
		struct vconn *c;

		scene_start(60 + kind, 2, &cfg);
		c = kind ? scene_msgs(0, 1, 0, 0, 0) : scene_stream(0, 1, 0, 0);
		c->side[0].plan.end = c->side[1].plan.end = VEND_SHUTDOWN;
		scene_run(MSEC);
		SCENE_OK();
		TAP_CHECK(c->side[0].closed && c->side[1].closed && !c->side[0].error && !c->side[1].error);
		SCENE_END();
	}
}

/* The same, for so long that the peer has forgotten the connection when keep-alive would ask for it. */
static void hazard__unread_data_survives_the_peers_oblivion(void)
{
	for (u32 kind = 0; kind < 2; kind++) {
		struct vhost_cfg cfg = scene_cfg();
		struct vconn *c;

		cfg.dcpim.keepalive_ns = 20 * MSEC;
		cfg.dcpim.timewait_ns = MSEC;
		scene_start(66 + kind, 2, &cfg);
		c = kind ? scene_msgs(0, 1, 3, 20000, 0) : scene_stream(0, 1, 60000, 0);
		c->side[0].plan.end = c->side[1].plan.end = VEND_SHUTDOWN;
		c->side[1].plan.stall_ns = 10 * cfg.dcpim.dead_after_ns;
		scene_run(c->side[1].plan.stall_ns / 2);
		SCENE_OK();
		vcheck_nothing_left(&net.hosts[0], true);
		scene_run(c->side[1].plan.stall_ns);
		SCENE_OK();
		TAP_CHECK(c->side[1].rx_done == 60000 && !c->side[1].error && c->side[1].closed);
		SCENE_END();
	}
}

static bool after_fin_ack;
static u32 acks_after;

static bool watch_fin_ack(struct vhost *h, const struct vpkt *pkt, const struct dcpim_pkt *p)
{
	(void)pkt;
	if (h->index == 1) {
		acks_after += after_fin_ack && (p->type == DCPIM_ACK || p->type == DCPIM_FIN_MSG || p->type == DCPIM_TOKEN);
		after_fin_ack |= p->type == DCPIM_FIN_ACK;
	}
	return true;
}

/* It acknowledges everything, and the peer may be gone: late ACKs and window updates would draw a reset. */
static void close__nothing_is_acknowledged_after_fin_ack(void)
{
	for (u32 kind = 0; kind < 2; kind++) {
		struct vhost_cfg cfg = scene_cfg();
		struct vconn *c;

		cfg.dcpim.timewait_ns = 0;
		cfg.dcpim.rcvbuf = 50000;
		cfg.dcpim.max_msg = 20000;
		scene_start(62 + kind, 2, &cfg);
		c = kind ? scene_msgs(0, 1, 3, 10000, 0) : scene_stream(0, 1, 30000, 0);
		c->side[0].plan.end = c->side[1].plan.end = VEND_SHUTDOWN;
		c->side[1].plan.stall_ns = 50 * MSEC;
		after_fin_ack = false;
		acks_after = 0;
		scene_watch = watch_fin_ack;
		scene_run(100 * MSEC);
		SCENE_OK();
		TAP_CHECK(after_fin_ack && !acks_after);
		TAP_CHECK(c->side[1].rx_done == 30000 && !c->side[1].error);
		SCENE_END();
	}
}

static void close__with_unread_bytes_resets(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct vconn *c;

	scene_start(13, 2, &cfg);
	c = scene_stream(0, 1, 1000000, 0);
	c->side[1].plan.end = VEND_CLOSE_READ;
	c->side[1].plan.end_at = 1000;
	c->side[1].plan.read_max = 1000;
	c->side[1].plan.read_gap_ns = USEC;
	scene_run(10 * MSEC);
	SCENE_OK();
	TAP_CHECK(c->side[1].closed && c->side[0].error == -ECONNRESET);
	scene_run(4 * cfg.dcpim.dead_after_ns);
	vcheck_nothing_left(&net.hosts[0], true);
	vcheck_nothing_left(&net.hosts[1], true);
	SCENE_END();
}

static void close__abort_tells_the_peer(void)
{
	for (u32 kind = 0; kind < 2; kind++) {
		struct vhost_cfg cfg = scene_cfg();
		struct vconn *c;

		scene_start(14 + kind, 2, &cfg);
		c = kind ? scene_msgs(0, 1, 10, 20000, 0) : scene_stream(0, 1, 1000000, 0);
		scene_run(60 * USEC);
		vside_close(&c->side[0], true);
		scene_run(20 * USEC);
		SCENE_OK();
		TAP_CHECK(c->side[1].error == -ECONNRESET);
		vcheck_nothing_left(&net.hosts[0], false);
		SCENE_END();
	}
}

static void close__frees_everything_after_time_wait(void)
{
	struct vhost_cfg cfg = scene_cfg();
	u64 idle_peers;

	scene_start(16, 3, &cfg);
	idle_peers = net.hosts[0].mem.bytes[DCPIM_SLAB_PEER];
	for (u32 i = 0; i < 20; i++) {
		struct vconn *c = i & 1 ? scene_stream(i % 3, (i + 1) % 3, 100000, 0) : scene_msgs(i % 3, (i + 1) % 3, 5, 9000, 0);

		c->side[0].plan.end = c->side[1].plan.end = VEND_SHUTDOWN;
	}
	vnet_run_until(&net, SEC, vapp_done);
	vapp_check_ends(&net);
	SCENE_OK();
	scene_run(cfg.dcpim.timewait_ns + 8 * cfg.dcpim.rto_max_ns);
	for (u32 i = 0; i < 3; i++)
		vcheck_nothing_left(&net.hosts[i], true);
	TAP_CHECK(net.hosts[0].mem.bytes[DCPIM_SLAB_PEER] == idle_peers);
	vcheck_silent(&net, 100 * SEC);
	SCENE_END();
}

static void hazard__idle_connections_are_silent(void)
{
	struct vhost_cfg cfg = scene_cfg();

	cfg.dcpim.max_flows = 256;
	scene_start(20, 2, &cfg);
	for (u32 i = 0; i < 100; i++)
		(void)(i & 1 ? scene_stream(0, 1, 5000, 0) : scene_msgs(0, 1, 2, 3000, 0));
	scene_run_until_delivered(SEC);
	scene_run(20 * cfg.dcpim.rto_max_ns);
	SCENE_OK();
	vcheck_silent(&net, 1000 * SEC);
	SCENE_END();
}

static void idle__keepalive_is_all_that_is_sent(void)
{
	struct vhost_cfg cfg = scene_cfg();
	u64 before, sent;

	cfg.dcpim.keepalive_ns = SEC;
	scene_start(21, 2, &cfg);
	for (u32 i = 0; i < 20; i++)
		scene_stream(0, 1, 5000, 0);
	scene_run_until_delivered(SEC);
	scene_run(20 * cfg.dcpim.rto_max_ns);
	before = net.packets;
	vcheck_silent(&net, 100 * SEC);
	SCENE_OK();
	sent = net.packets - before;
	/* One exchange per idle time and pair of hosts, however many connections: at most two packets each way. */
	TAP_CHECK(sent >= 100 && sent <= 4 * 101);
	SCENE_END();
}

static void peer__dead_while_idle_is_noticed_by_keepalive(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct vconn *c;
	u64 died;

	cfg.dcpim.keepalive_ns = SEC;
	scene_start(22, 2, &cfg);
	c = scene_stream(0, 1, 5000, 0);
	scene_run(10 * MSEC);
	died = net.now;
	vnet_kill(&net.hosts[1]);
	scene_run(10 * SEC + 2 * cfg.dcpim.dead_after_ns);
	SCENE_OK();
	TAP_CHECK(c->side[0].error == -ETIMEDOUT);
	TAP_CHECK(c->side[0].error_at - died <= 2 * SEC + 2 * cfg.dcpim.dead_after_ns);
	SCENE_END();
}

static void peer__dead_while_sending_times_out(void)
{
	for (u32 kind = 0; kind < 2; kind++) {
		struct vhost_cfg cfg = scene_cfg();
		struct vconn *c;
		u64 died;

		scene_start(23 + kind, 2, &cfg);
		c = kind ? scene_msgs(0, 1, 1000, 20000, 0) : scene_stream(0, 1, 1ull << 40, 0);
		scene_run(2 * MSEC);
		died = net.now;
		vnet_kill(&net.hosts[1]);
		scene_run(3 * cfg.dcpim.dead_after_ns);
		SCENE_OK();
		TAP_CHECK(c->side[0].error == -ETIMEDOUT);
		TAP_CHECK(c->side[0].error_at - died >= cfg.dcpim.dead_after_ns / 2);
		TAP_CHECK(c->side[0].error_at - died <= cfg.dcpim.dead_after_ns + 4 * cfg.dcpim.rto_max_ns);
		vcheck_nothing_left(&net.hosts[0], true);
		SCENE_END();
	}
}

static void peer__dead_while_receiving_times_out(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct vconn *c;
	u64 died;

	scene_start(25, 2, &cfg);
	c = scene_stream(0, 1, 1ull << 40, 0);
	scene_run(2 * MSEC);
	died = net.now;
	vnet_kill(&net.hosts[0]);
	scene_run(3 * cfg.dcpim.dead_after_ns);
	SCENE_OK();
	TAP_CHECK(c->side[1].error == -ETIMEDOUT);
	TAP_CHECK(c->side[1].error_at - died <= cfg.dcpim.dead_after_ns + 4 * cfg.dcpim.rto_max_ns);
	SCENE_END();
}

static void peer__closing_towards_the_dead_is_bounded(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct vconn *c;

	scene_start(26, 2, &cfg);
	c = scene_stream(0, 1, 3000000, 0);
	c->side[0].plan.end = VEND_CLOSE;
	scene_run(MSEC);
	vnet_kill(&net.hosts[1]);
	TAP_CHECK(c->side[0].closed);
	scene_run(2 * cfg.dcpim.dead_after_ns);
	vcheck_nothing_left(&net.hosts[0], true);
	SCENE_END();
}

static void peer__restarted_is_recognised(void)
{
	for (u32 busy = 0; busy < 2; busy++) {
		struct vhost_cfg cfg = scene_cfg();
		struct vconn *c, *again;

		scene_start(27 + busy, 2, &cfg);
		c = scene_stream(0, 1, busy ? 1ull << 40 : 1000, 0);
		scene_run(2 * MSEC);
		vnet_kill(&net.hosts[1]);
		vnet_boot(&net.hosts[1]);
		vapp_listen(&net.hosts[1], 80);
		again = scene_stream(0, 1, 50000, net.now);
		scene_run(2 * cfg.dcpim.rto_max_ns);
		SCENE_OK();
		TAP_CHECK(c->side[0].error == -ECONNRESET);
		TAP_CHECK(again->side[1].rx_done == 50000);
		SCENE_END();
	}
}

static void peer__partition_shorter_than_dead_after_is_survived(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct vconn *c;

	scene_start(29, 2, &cfg);
	c = scene_stream(0, 1, 20000000, 0);
	c->side[1].plan.total = 5000000;
	scene_msgs(0, 1, 300, 20000, 0);
	scene_run(MSEC);
	net.links[0][1].down = net.links[1][0].down = true;
	scene_run(cfg.dcpim.dead_after_ns / 2);
	net.links[0][1].down = net.links[1][0].down = false;
	scene_run_until_delivered(200 * MSEC);
	SCENE_OK();
	for (u32 i = 0; i < 4; i++)
		TAP_CHECK(!app.conns[i / 2]->side[i & 1].error);
	SCENE_END();
}

static void path__shrinking_mtu_is_obeyed(void)
{
	for (u32 kind = 0; kind < 2; kind++) {
		struct vhost_cfg cfg = scene_cfg();

		scene_start(30 + kind, 2, &cfg);
		(void)(kind ? scene_msgs(0, 1, 50, 100000, 0) : scene_stream(0, 1, 5000000, 0));
		scene_run(200 * USEC);
		net.links[0][1].mtu = 548;
		scene_run_until_delivered(200 * MSEC);
		SCENE_END();
	}
}

static void memory__idle_flow_takes_less_than_1_kib(void)
{
	static const u32 flows = 10000;

	for (u32 kind = 0; kind < 2; kind++) {
		struct vhost_cfg cfg = scene_cfg();
		u64 table, bytes = 0;

		cfg.dcpim.max_flows = 16384;
		scene_start(40 + kind, 2, &cfg);
		net.ops.served = NULL; /* its bounds walk all flows */
		table = net.hosts[0].mem.bytes[DCPIM_SLAB_TABLE] + net.hosts[0].mem.bytes[DCPIM_SLAB_HOST];
		for (u32 i = 0; i < flows; i++)
			(void)(kind ? scene_msgs(0, 1, 1, 100, i * USEC) : scene_stream(0, 1, 100, i * USEC));
		scene_run(flows * USEC + 100 * MSEC);
		scene_run_until_delivered(SEC);
		scene_run(20 * cfg.dcpim.rto_max_ns);
		SCENE_OK();
		for (u32 h = 0; h < 2; h++) {
			bytes = 0;
			for (u32 i = 0; i < DCPIM_SLABS; i++)
				bytes += net.hosts[h].mem.bytes[i];
			TAP_CHECK(net.hosts[h].mem.count[DCPIM_SLAB_FLOW] == flows);
			TAP_CHECK((bytes - table) / flows < 1024);
		}
		printf("# idle %s connection: %llu bytes\n", kind ? "message" : "stream",
		       (unsigned long long)(bytes - table) / flows);
		SCENE_END();
	}
}

static void hazard__failing_allocation_at_every_place(void)
{
	/* The nth allocation fails, for each n until a run does not reach it. */
	for (u32 n = 0; n < 400; n++) {
		struct vhost_cfg cfg = scene_cfg();
		bool reached;

		scene_start(1, 0, &cfg);
		app.allow_nomem = true;
		for (u32 i = 0; i < 2; i++) {
			net.hosts[i].mem.fail_from = n;
			net.hosts[i].mem.fail_count = 1 + n % 3;
			vnet_add(&net, &cfg, 5 * USEC);
			if (net.hosts[i].core)
				vapp_listen(&net.hosts[i], 80);
		}
		for (u32 i = 0; i < 4; i++) {
			struct vconn *c = i & 1 ? scene_msgs(0, 1, 4, 9000, 0) : scene_stream(0, 1, 30000, 0);

			c->side[0].plan.end = c->side[1].plan.end = VEND_SHUTDOWN;
			c->expect_broken = true;
		}
		scene_run(40 * cfg.dcpim.rto_max_ns);
		SCENE_OK();
		vapp_close_all(&net, false);
		scene_run(4 * cfg.dcpim.dead_after_ns);
		for (u32 i = 0; i < 2; i++)
			vcheck_nothing_left(&net.hosts[i], true);
		reached = net.hosts[0].mem.allocs > n || net.hosts[1].mem.allocs > n;
		SCENE_END();
		if (!reached)
			break;
	}
}

/* Both hosts have more to send than fits their caps; neither may be left without room to receive. */
static void memory__full_of_data_to_send_still_receives(void)
{
	struct vhost_cfg cfg = scene_cfg();

	cfg.dcpim.max_segs = 64;
	scene_start(70, 2, &cfg);
	app.allow_nomem = true;
	for (u32 i = 0; i < 2; i++) {
		struct vconn *c = scene_stream(i, !i, 40000, 0);

		c->side[0].plan.chunk_min = c->side[0].plan.chunk_max = 200;
	}
	scene_run_until_delivered(SEC);
	SCENE_END();
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(connect__to_nobody_is_refused),
		TAP_TEST(connect__to_the_wrong_kind_is_refused),
		TAP_TEST(connect__to_a_dead_host_times_out),
		TAP_TEST(connect__unreachable_fails_at_once),
		TAP_TEST(connect__caps_and_ports),
		TAP_TEST(connect__same_ports_both_ways_at_once),
		TAP_TEST(connect__many_at_once),
		TAP_TEST(listen__backlog_bounds_half_open),
		TAP_TEST(listen__gone_resets_the_untaken),
		TAP_TEST(close__half_closed_side_still_receives),
		TAP_TEST(hazard__unread_data_survives_the_peers_close),
		TAP_TEST(close__asked_for_before_it_is_open),
		TAP_TEST(hazard__unread_data_survives_the_peers_oblivion),
		TAP_TEST(close__nothing_is_acknowledged_after_fin_ack),
		TAP_TEST(close__with_unread_bytes_resets),
		TAP_TEST(close__abort_tells_the_peer),
		TAP_TEST(close__frees_everything_after_time_wait),
		TAP_TEST(hazard__idle_connections_are_silent),
		TAP_TEST(idle__keepalive_is_all_that_is_sent),
		TAP_TEST(peer__dead_while_idle_is_noticed_by_keepalive),
		TAP_TEST(peer__dead_while_sending_times_out),
		TAP_TEST(peer__dead_while_receiving_times_out),
		TAP_TEST(peer__closing_towards_the_dead_is_bounded),
		TAP_TEST(peer__restarted_is_recognised),
		TAP_TEST(peer__partition_shorter_than_dead_after_is_survived),
		TAP_TEST(path__shrinking_mtu_is_obeyed),
		TAP_TEST(memory__idle_flow_takes_less_than_1_kib),
		TAP_TEST(hazard__failing_allocation_at_every_place),
		TAP_TEST(memory__full_of_data_to_send_still_receives),
	};

	return TAP_RUN(tests, argc, argv);
}
