/* SPDX-License-Identifier: BSD-2-Clause */
/* In virtual time: how much of a link is used, alone, shared, and by hosts whose epochs begin at different times. */
#include "scene.h"

static u64 delivered(void)
{
	return app.rx_bytes;
}

/* Payload per second over a stretch of time, in thousandths of @rate. */
static u64 share(u64 ns, u64 rate)
{
	u64 before = delivered();

	scene_run(ns);
	return (u64)((unsigned __int128)(delivered() - before) * 8 * SEC * 1000 / ns / rate);
}

static void speed__long_transfer_fills_the_link(void)
{
	struct vhost_cfg cfg = scene_cfg();
	u64 permille;

	scene_start(1, 2, &cfg);
	scene_stream(0, 1, 1ull << 40, 0);
	scene_run(2 * MSEC);
	permille = share(10 * MSEC, 10 * GBIT);
	SCENE_OK();
	printf("# one stream: %llu.%llu %% of the link as payload\n", (unsigned long long)permille / 10,
	       (unsigned long long)permille % 10);
	TAP_CHECK(permille >= 900);
	TAP_CHECK(net.hosts[1].port_peak < 2 * dcpim_cfg_bdp(&cfg.dcpim));
	SCENE_END();
}

static void speed__long_transfer_at_default_parameters(void)
{
	struct vhost_cfg cfg = scene_cfg();
	u32 max_packet = cfg.dcpim.max_packet;
	u64 permille;

	/* The paper's 100 Gb/s fabric; the network itself is faster than its parameters allow for. */
	dcpim_cfg_default(&cfg.dcpim);
	cfg.dcpim.max_packet = max_packet;
	cfg.dcpim.keepalive_ns = 0;
	cfg.dcpim.max_flows = cfg.dcpim.max_peers = 64;
	cfg.rate_bps = 100 * GBIT;
	scene_start(2, 2, &cfg);
	scene_stream(0, 1, 1ull << 40, 0);
	scene_run(2 * MSEC);
	permille = share(3 * MSEC, 100 * GBIT);
	SCENE_OK();
	printf("# one stream, default parameters: %llu.%llu %% of the link as payload\n", (unsigned long long)permille / 10,
	       (unsigned long long)permille % 10);
	TAP_CHECK(permille >= 900);
	SCENE_END();
}

static void speed__both_directions_at_once(void)
{
	struct vhost_cfg cfg = scene_cfg();
	u64 permille;

	scene_start(3, 2, &cfg);
	scene_stream(0, 1, 1ull << 40, 0)->side[1].plan.total = 1ull << 40;
	scene_run(2 * MSEC);
	permille = share(10 * MSEC, 20 * GBIT);
	SCENE_OK();
	TAP_CHECK(permille >= 850);
	SCENE_END();
}

static void speed__incast_of_bulk(void)
{
	struct vhost_cfg cfg = scene_cfg();
	u64 permille, drops;

	cfg.port_queue = 2 * (u32)dcpim_cfg_bdp(&cfg.dcpim);
	scene_start(4, 5, &cfg);
	for (u32 i = 1; i < 5; i++)
		scene_stream(i, 0, 1ull << 40, 0);
	scene_run(2 * MSEC);
	drops = net.hosts[0].port_drops;
	permille = share(10 * MSEC, 10 * GBIT);
	SCENE_OK();
	printf("# 4 to 1: %llu.%llu %% of the link, %llu packets dropped, queue at most %llu of %u bytes\n",
	       (unsigned long long)permille / 10, (unsigned long long)permille % 10,
	       (unsigned long long)net.hosts[0].port_drops, (unsigned long long)net.hosts[0].port_peak, cfg.port_queue);
	TAP_CHECK(permille >= 850);
	TAP_CHECK(net.hosts[0].port_drops == drops);
	SCENE_END();
}

static void speed__incast_into_a_tiny_queue(void)
{
	struct vhost_cfg cfg = scene_cfg();
	u64 permille;

	cfg.port_queue = 6 * 1472;
	scene_start(5, 5, &cfg);
	for (u32 i = 1; i < 5; i++)
		scene_stream(i, 0, 1ull << 40, 0);
	scene_run(2 * MSEC);
	permille = share(10 * MSEC, 10 * GBIT);
	SCENE_OK();
	printf("# 4 to 1, queue of 6 packets: %llu.%llu %% of the link, %llu packets dropped\n",
	       (unsigned long long)permille / 10, (unsigned long long)permille % 10,
	       (unsigned long long)net.hosts[0].port_drops);
	TAP_CHECK(permille >= 500);
	SCENE_END();
}

static u64 all_to_all(u64 seed, bool aligned, s32 ppm)
{
	struct vhost_cfg cfg = scene_cfg();
	u64 permille;

	scene_start(seed, 0, &cfg);
	for (u32 i = 0; i < 6; i++) {
		struct vhost_cfg mine = cfg;

		/* Epochs begin with the host, on its own clock. */
		if (!aligned) {
			scene_run(vrange(&net.rng, 0, dcpim_cfg_epoch_ns(&cfg.dcpim)));
			mine.clock_offset_ns = (s64)vrange(&net.rng, 0, SEC);
			mine.clock_ppm = i & 1 ? ppm : -ppm;
		}
		vapp_listen(vnet_add(&net, &mine, 5 * USEC), 80);
	}
	for (u32 i = 0; i < 3; i++)
		for (u32 j = 3; j < 6; j++)
			scene_stream(i, j, 1ull << 40, net.now + (aligned ? 0 : vrange(&net.rng, 0, 200 * USEC)));
	scene_run(4 * MSEC);
	permille = share(10 * MSEC, 30 * GBIT);
	scene_end();
	return permille;
}

static void epoch__unsynchronised_hosts_do_not_collapse(void)
{
	u64 aligned = 0, loose = 0, worst = 1000;

	for (u32 i = 0; i < 4; i++) {
		u64 one;

		aligned += all_to_all(10 + i, true, 0);
		SCENE_OK();
		one = all_to_all(10 + i, false, 200);
		SCENE_OK();
		loose += one;
		worst = dcpim_min(worst, one);
	}
	printf("# 3 to 3 all to all: %llu.%llu %% aligned, %llu.%llu %% not, at worst %llu.%llu %%\n",
	       (unsigned long long)aligned / 40, (unsigned long long)aligned / 4 % 10, (unsigned long long)loose / 40,
	       (unsigned long long)loose / 4 % 10, (unsigned long long)worst / 10, (unsigned long long)worst % 10);
	TAP_CHECK(aligned > 0 && loose * 10 >= aligned * 8);
	TAP_CHECK(worst * 4 >= aligned * 7 / 10);
}

static void epoch__clock_skew_does_not_matter(void)
{
	static const s32 ppm[] = { -200, 0, 200 };
	u64 took[3];

	for (u32 i = 0; i < 3; i++) {
		struct vhost_cfg cfg = scene_cfg(), other = cfg;

		other.clock_ppm = ppm[i];
		other.clock_offset_ns = ppm[i] * (s64)SEC;
		scene_start(20, 1, &cfg);
		vapp_listen(vnet_add(&net, &other, 5 * USEC), 80);
		scene_stream(0, 1, 10000000, 0)->side[1].plan.total = 1000000;
		took[i] = scene_run_until_delivered(SEC);
		SCENE_END();
	}
	TAP_CHECK(took[0] < took[1] * 12 / 10 && took[2] < took[1] * 12 / 10);
}

static void epoch__hosts_with_other_parameters_work_together(void)
{
	struct vhost_cfg cfg = scene_cfg(), other = cfg;

	other.dcpim.channels = 1;
	other.dcpim.rounds = 2;
	other.dcpim.beta_milli = 4000;
	other.dcpim.ctrl_rtt_ns *= 3;
	scene_start(21, 1, &cfg);
	vapp_listen(vnet_add(&net, &other, 5 * USEC), 80);
	scene_stream(0, 1, 5000000, 0);
	scene_stream(1, 0, 5000000, 0);
	scene_run_until_delivered(100 * MSEC);
	SCENE_END();
}

/* A long transfer under way must not hold up small ones by more than a queue. */
static void speed__small_messages_beside_bulk(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct vconn *c;
	u64 worst = 0;

	scene_start(30, 3, &cfg);
	scene_stream(0, 1, 1ull << 40, 0);
	c = scene_msgs(2, 1, 50, 64, MSEC);
	c->side[0].plan.write_gap_ns = 50 * USEC;
	while (!net.failed && c->side[1].msgs_read < 50 && net.now < 100 * MSEC) {
		u64 sent = c->side[0].msgs_sent;

		scene_run(5 * USEC);
		worst = dcpim_max(worst, sent - c->side[1].msgs_read);
	}
	SCENE_OK();
	TAP_CHECK(c->side[1].msgs_read == 50);
	TAP_CHECK(worst <= 8);
	SCENE_END();
}

/* A switch port of a hundredth of the rate that the hosts believe in, with a queue that suits it. */
static void speed__link_far_slower_than_configured(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct dcpim_stats stats;
	u64 permille;

	scene_start(9, 2, &cfg);
	net.hosts[1].cfg.rate_bps = GBIT / 10;
	net.hosts[1].cfg.port_queue = 20 * 1472;
	scene_stream(0, 1, 1ull << 40, 0);
	scene_run(100 * MSEC);
	permille = share(400 * MSEC, GBIT / 10);
	SCENE_OK();
	stats = scene_stats(0);
	printf("# link 100 times slower than configured: %llu.%llu %% of it, %llu bytes of %llu sent again\n",
	       (unsigned long long)permille / 10, (unsigned long long)permille % 10, (unsigned long long)stats.rtx_bytes,
	       (unsigned long long)(stats.data_bytes_tx + stats.rtx_bytes));
	TAP_CHECK(permille >= 600);
	TAP_CHECK(stats.rtx_bytes < stats.data_bytes_tx);
	SCENE_END();
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(speed__long_transfer_fills_the_link),
		TAP_TEST(speed__long_transfer_at_default_parameters),
		TAP_TEST(speed__both_directions_at_once),
		TAP_TEST(speed__incast_of_bulk),
		TAP_TEST(speed__incast_into_a_tiny_queue),
		TAP_TEST(epoch__unsynchronised_hosts_do_not_collapse),
		TAP_TEST(epoch__clock_skew_does_not_matter),
		TAP_TEST(epoch__hosts_with_other_parameters_work_together),
		TAP_TEST(speed__small_messages_beside_bulk),
		TAP_TEST(speed__link_far_slower_than_configured),
	};

	return TAP_RUN(tests, argc, argv);
}
