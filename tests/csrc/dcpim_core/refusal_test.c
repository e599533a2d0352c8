/* SPDX-License-Identifier: BSD-2-Clause */
/* What ICMP refusals do to the connections of a host. */
#include "scene.h"

/* What a host hears when it sends to where nobody is any more. */
static void refuse(u32 host, u32 peer)
{
	struct dcpim_path to = vnet_path(peer);

	dcpim_unreachable(net.hosts[host].core, vhost_clock(&net.hosts[host]), &to, -ECONNREFUSED);
	vhost_touch(&net.hosts[host]);
	scene_run(USEC);
}

static void refusal__of_all_for_a_while_gives_the_peer_up(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct vconn *c;
	u64 began;

	cfg.dcpim.dead_after_ns = 10 * SEC;
	scene_start(31, 2, &cfg);
	c = scene_stream(0, 1, 1ull << 40, 0);
	c->expect_broken = true;
	scene_run(MSEC);
	/* One refusal while the peer talks is nothing. */
	refuse(0, 1);
	scene_run(MSEC);
	TAP_CHECK(!c->side[0].error);
	vnet_kill(&net.hosts[1]);
	began = net.now;
	while (net.now < began + 3 * SEC && !c->side[0].error) {
		scene_run(50 * MSEC);
		refuse(0, 1);
	}
	TAP_CHECK(c->side[0].error == -ECONNRESET);
	TAP_CHECK(net.now - began >= SEC && net.now - began < 2 * SEC);
	scene_end();
}

static void refuse_for(u32 host, u32 peer, u64 ns)
{
	u64 began = net.now;

	while (net.now < began + ns) {
		scene_run(50 * MSEC);
		refuse(host, peer);
	}
}

/* One refusal is enough where only the end was left to be told, and nothing to all others. */
static void refusal__ends_what_is_closed_and_acknowledged(void)
{
	for (u32 i = 0; i < 4; i++) {
		struct vhost_cfg cfg = scene_cfg();
		struct vconn *done, *open, *unsent;

		cfg.dcpim.dead_after_ns = 10 * SEC;
		scene_start(32 + i, 2, &cfg);
		done = i & 1 ? scene_msgs(0, 1, 3, 10000, 0) : scene_stream(0, 1, 30000, 0);
		if (i & 2)
			done->side[1].plan.end = VEND_SHUTDOWN;
		open = scene_stream(0, 1, 1000, 0);
		unsent = scene_stream(0, 1, 3000000, 10 * MSEC);
		done->expect_broken = open->expect_broken = unsent->expect_broken = true;
		scene_run(10 * MSEC + 100 * USEC);
		TAP_CHECK(done->side[1].rx_done == 30000 && done->side[0].eof == !!(i & 2));
		vnet_kill(&net.hosts[1]);
		vside_close(&done->side[0], false);
		scene_run(MSEC);
		TAP_CHECK(scene_info(0).flows == 3 && dcpim_undelivered(net.hosts[0].core));
		refuse(0, 1);
		SCENE_OK();
		TAP_CHECK(scene_info(0).flows == 2 && !dcpim_undelivered(net.hosts[0].core));
		TAP_CHECK(open->side[0].flow && !open->side[0].error && !unsent->side[0].error);
		vside_close(&unsent->side[0], false);
		refuse(0, 1);
		TAP_CHECK(scene_info(0).flows == 2 && dcpim_undelivered(net.hosts[0].core));
		refuse_for(0, 1, 2 * SEC);
		SCENE_OK();
		TAP_CHECK(open->side[0].error == -ECONNRESET);
		vcheck_nothing_left(&net.hosts[0], true);
		SCENE_END();
	}
}

static void refusal__leaves_what_the_peer_had_finished_to_be_read(void)
{
	for (u32 kind = 0; kind < 2; kind++) {
		struct vhost_cfg cfg = scene_cfg();
		struct vconn *finished, *open;

		cfg.dcpim.dead_after_ns = 10 * SEC;
		scene_start(36 + kind, 2, &cfg);
		finished = kind ? scene_msgs(0, 1, 3, 20000, 0) : scene_stream(0, 1, 60000, 0);
		finished->side[0].plan.end = VEND_CLOSE;
		finished->side[1].plan.stall_ns = 4 * SEC;
		open = scene_stream(0, 1, 60000, 0);
		open->side[1].plan.stall_ns = 4 * SEC;
		finished->expect_broken = open->expect_broken = true;
		scene_run(10 * MSEC);
		TAP_CHECK(finished->side[1].eof);
		vnet_kill(&net.hosts[0]);
		refuse_for(1, 0, 2 * SEC);
		SCENE_OK();
		TAP_CHECK(open->side[1].error == -ECONNRESET);
		TAP_CHECK(!finished->side[1].error && finished->side[1].flow && !finished->side[1].rx_done);
		scene_run(3 * SEC);
		SCENE_OK();
		TAP_CHECK(finished->side[1].rx_done == 60000 && !finished->side[1].error);
		vside_close(&finished->side[1], false);
		scene_run(MSEC);
		refuse(1, 0);
		vcheck_nothing_left(&net.hosts[1], true);
		SCENE_END();
	}
}

static u8 seen[DCPIM_HDR_MAX];
static u8 seen_type;

static bool keep_header(struct vhost *h, const struct vpkt *pkt, const struct dcpim_pkt *p)
{
	if (h->index == 0) {
		memcpy(seen, pkt->data, dcpim_min(pkt->len, sizeof(seen)));
		seen_type = p->type;
	}
	return true;
}

/* Whoever has not seen a connection's packets cannot quote one in an ICMP error. */
static void refusal__counts_only_if_it_quotes_the_tag(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct dcpim_path to = vnet_path(1), other = vnet_path(0);
	struct dcpim_host *core;
	struct vconn *c;

	scene_start(38, 2, &cfg);
	core = net.hosts[0].core;
	c = scene_stream(0, 1, 20000, 0);
	scene_watch = keep_header;
	while (!seen_type)
		scene_run(USEC);
	TAP_CHECK(seen_type == DCPIM_NOTIFICATION_LONG && dcpim_sent(core, &to, seen, 12));
	scene_run_until_delivered(10 * MSEC);
	SCENE_OK();
	TAP_CHECK(seen_type != DCPIM_NOTIFICATION_LONG);
	for (u32 closed = 0; closed < 2; closed++) {
		TAP_CHECK(dcpim_sent(core, &to, seen, 12) && !dcpim_sent(core, &to, seen, 11));
		TAP_CHECK(!dcpim_sent(core, &other, seen, 12));
		for (u32 bit = 0; bit < 96; bit++) {
			seen[bit / 8] ^= (u8)(1 << bit % 8);
			/* The sequence number proves nothing. */
			TAP_CHECK(dcpim_sent(core, &to, seen, 12) == (bit / 32 == 1));
			seen[bit / 8] ^= (u8)(1 << bit % 8);
		}
		scene_watch = NULL;
		vside_close(&c->side[0], false);
	}
	SCENE_END();
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(refusal__of_all_for_a_while_gives_the_peer_up),
		TAP_TEST(refusal__ends_what_is_closed_and_acknowledged),
		TAP_TEST(refusal__leaves_what_the_peer_had_finished_to_be_read),
		TAP_TEST(refusal__counts_only_if_it_quotes_the_tag),
	};

	return TAP_RUN(tests, argc, argv);
}
