/* SPDX-License-Identifier: BSD-2-Clause */
/* Single losses, each repaired by what is missing and nothing more. */
#include "scene.h"

/* Drops the DATA or DATA_MSG packets whose running number is in a set. */
static u64 drop_set; /* bit n: the nth */
static u32 data_seen;
static u64 lost_bytes;

static bool drop_data(struct vhost *h, const struct vpkt *pkt, const struct dcpim_pkt *p)
{
	u32 number;

	(void)h;
	if (p->type != DCPIM_DATA && p->type != DCPIM_DATA_MSG)
		return true;
	number = data_seen++;
	if (number < 64 && (drop_set >> number & 1)) {
		lost_bytes += pkt->len - p->hdr_len;
		return false;
	}
	return true;
}

static void start(u64 seed, const struct vhost_cfg *cfg, u64 set)
{
	scene_start(seed, 2, cfg);
	drop_set = set;
	data_seen = 0;
	lost_bytes = 0;
	scene_watch = drop_data;
}

static void recovery__single_loss_costs_one_packet(void)
{
	struct vhost_cfg cfg = scene_cfg();
	u64 took;

	start(1, &cfg, 1ull << 20);
	scene_stream(0, 1, 20 * dcpim_cfg_bdp(&cfg.dcpim), 0);
	took = scene_run_until_delivered(SEC);
	SCENE_OK();
	TAP_CHECK(lost_bytes > 0);
	TAP_CHECK(scene_stats(0).rtx_bytes == lost_bytes);
	TAP_CHECK(scene_stats(1).rx_duplicate == 0);
	/* The receiver asked of its own accord. */
	TAP_CHECK(scene_stats(0).probe_timeouts == 0);
	TAP_CHECK(took < 20 * dcpim_cfg_bdp(&cfg.dcpim) * 8 / 10 + 3 * cfg.dcpim.rto_max_ns);
	SCENE_END();
}

static void recovery__holes_are_filled_not_the_rest(void)
{
	struct vhost_cfg cfg = scene_cfg();

	start(2, &cfg, 0x5555555500ull);
	scene_stream(0, 1, 20 * dcpim_cfg_bdp(&cfg.dcpim), 0);
	scene_run_until_delivered(SEC);
	SCENE_OK();
	TAP_CHECK(lost_bytes > 10000);
	TAP_CHECK(scene_stats(0).rtx_bytes >= lost_bytes);
	TAP_CHECK(scene_stats(0).rtx_bytes <= lost_bytes + 2 * 1432);
	SCENE_END();
}

static void recovery__lost_tail(void)
{
	static const u32 sizes[] = { 1, 1432, 1433, 5000, 14320 };

	for (u32 i = 0; i < 5; i++) {
		struct vhost_cfg cfg = scene_cfg();
		u32 packets = (sizes[i] + 1431) / 1432;

		start(10 + i, &cfg, 1ull << (packets - 1));
		scene_stream(0, 1, sizes[i], 0);
		scene_run_until_delivered(20 * cfg.dcpim.rto_max_ns);
		SCENE_OK();
		TAP_CHECK(lost_bytes > 0);
		TAP_CHECK(scene_stats(0).rtx_bytes == lost_bytes);
		SCENE_END();
	}
}

static void recovery__everything_in_flight_lost(void)
{
	struct vhost_cfg cfg = scene_cfg();

	start(20, &cfg, 0x3ff);
	scene_stream(0, 1, 10 * 1432, 0);
	scene_run_until_delivered(20 * cfg.dcpim.rto_max_ns);
	SCENE_OK();
	TAP_CHECK(scene_stats(0).rtx_bytes == lost_bytes && lost_bytes == 14320);
	SCENE_END();
}

static void recovery__retransmission_lost_again(void)
{
	struct vhost_cfg cfg = scene_cfg();

	start(21, &cfg, 0x3f << 3);
	scene_stream(0, 1, 4 * 1432, 0);
	scene_run_until_delivered(40 * cfg.dcpim.rto_max_ns);
	SCENE_OK();
	TAP_CHECK(lost_bytes > 0);
	SCENE_END();
}

/* The nth packet of one control type is lost; a short exchange with an end in both directions must not notice. */
static const char *control_lost(u8 type, u32 times)
{
	static char why[128];

	for (u32 kind = 0; kind < 2; kind++) {
		struct vhost_cfg cfg = scene_cfg();
		struct vconn *c;

		scene_start(100 * type + 10 * times + kind, 2, &cfg);
		c = kind ? scene_msgs(0, 1, 5, 30000, 0) : scene_stream(0, 1, 50000, 0);
		c->side[1].plan.total = kind ? 0 : 3000;
		c->side[1].plan.chunk_max = 3000;
		c->side[1].plan.msgs = kind ? 2 : 0;
		c->side[1].plan.msg_min = c->side[1].plan.msg_max = 700;
		c->side[0].plan.end = c->side[1].plan.end = VEND_SHUTDOWN;
		scene_drop[type] = times;
		vnet_run_until(&net, (20 + 10 * times) * cfg.dcpim.rto_max_ns, vapp_done);
		if (!net.failed)
			vapp_check_ends(&net);
		if (!net.failed) {
			scene_run(40 * cfg.dcpim.rto_max_ns);
			vcheck_nothing_left(&net.hosts[0], true);
			vcheck_nothing_left(&net.hosts[1], true);
		}
		scene_end();
		if (net.failed) {
			snprintf(why, sizeof(why), "%s, %u lost, %s: %.60s", dcpim_type_name(type), times,
				 kind ? "messages" : "stream", strstr(net.why, "ns: ") ? strstr(net.why, "ns: ") : net.why);
			return why;
		}
	}
	return NULL;
}

static void lost_times(u8 type)
{
	for (u32 times = 1; times <= 3; times++) {
		const char *why = control_lost(type, times);

		if (why) {
			tap_failed = why;
			tap_failed_line = __LINE__;
			return;
		}
	}
}

#define LOST(name, type)                   \
	static void recovery__lost_##name(void) \
	{                                  \
		lost_times(type);          \
	}

LOST(notification_long, DCPIM_NOTIFICATION_LONG)
LOST(notification_short, DCPIM_NOTIFICATION_SHORT)
LOST(syn_ack, DCPIM_SYN_ACK)
LOST(token, DCPIM_TOKEN)
LOST(token_msg, DCPIM_TOKEN_MSG)
LOST(ack, DCPIM_ACK)
LOST(fin, DCPIM_FIN)
LOST(fin_ack, DCPIM_FIN_ACK)
LOST(fin_msg, DCPIM_FIN_MSG)
LOST(demand, DCPIM_DEMAND)
LOST(notification_msg, DCPIM_NOTIFICATION_MSG)
LOST(rts, DCPIM_RTS)
LOST(grant, DCPIM_GRANT)
LOST(accept, DCPIM_ACCEPT)
LOST(data, DCPIM_DATA)
LOST(data_msg, DCPIM_DATA_MSG)

static void recovery__lost_window_update(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct vconn *c;

	cfg.dcpim.rcvbuf = 20000;
	scene_start(30, 2, &cfg);
	c = scene_stream(0, 1, 100000, 0);
	c->side[1].plan.stall_ns = 50 * MSEC;
	scene_run(49 * MSEC);
	/* The reader starts; what would tell the sender is lost. */
	scene_drop[DCPIM_TOKEN] = scene_drop[DCPIM_ACK] = 3;
	scene_run_until_delivered(20 * cfg.dcpim.rto_max_ns + 50 * MSEC);
	SCENE_END();
}

static void recovery__message_resends_what_is_missing(void)
{
	struct vhost_cfg cfg = scene_cfg();

	start(40, &cfg, 1 << 3 | 1 << 5);
	scene_msgs(0, 1, 1, 10 * 1428, 0);
	scene_run_until_delivered(20 * cfg.dcpim.rto_max_ns);
	SCENE_OK();
	TAP_CHECK(lost_bytes > 0);
	TAP_CHECK(scene_stats(0).rtx_bytes == lost_bytes);
	TAP_CHECK(scene_stats(1).rx_duplicate == 0);
	SCENE_END();
}

static void recovery__every_message_packet_lost(void)
{
	struct vhost_cfg cfg = scene_cfg();

	start(41, &cfg, 0x3f);
	scene_msgs(0, 1, 2, 3 * 1428, 0);
	scene_run_until_delivered(20 * cfg.dcpim.rto_max_ns);
	SCENE_OK();
	TAP_CHECK(lost_bytes == 6 * 1428);
	SCENE_END();
}

static u32 every_other;

static bool drop_every_other(struct vhost *h, const struct vpkt *pkt, const struct dcpim_pkt *p)
{
	(void)h;
	(void)pkt;
	return p->type != DCPIM_DATA || every_other >= 800 || every_other++ % 2 == 0;
}

/* Hundreds of gaps at a time, more than a receiver keeps account of and than fit one packet's blocks. */
static void hazard__more_gaps_than_places(void)
{
	struct vhost_cfg cfg = scene_cfg();

	cfg.dcpim.window = 1u << 20;
	cfg.dcpim.short_threshold = 1u << 20;
	scene_start(55, 2, &cfg);
	every_other = 0;
	scene_watch = drop_every_other;
	scene_stream(0, 1, 1000000, 0)->side[0].plan.chunk_min = 65536;
	scene_run_until_delivered(SEC);
	SCENE_OK();
	TAP_CHECK(every_other == 800);
	TAP_CHECK(scene_info(1).spans == 0);
	SCENE_END();
}

static void recovery__reordering_alone_resends_little(void)
{
	struct vhost_cfg cfg = scene_cfg();

	scene_start(50, 2, &cfg);
	net.links[0][1].reorder_ppm = 100000;
	net.links[0][1].reorder_ns = 5 * USEC;
	scene_stream(0, 1, 40 * dcpim_cfg_bdp(&cfg.dcpim), 0);
	scene_run_until_delivered(100 * MSEC);
	SCENE_OK();
	TAP_CHECK(scene_stats(0).rtx_bytes < scene_stats(0).data_bytes_tx / 50);
	SCENE_END();
}

static void recovery__duplicates_are_dropped_quietly(void)
{
	struct vhost_cfg cfg = scene_cfg();

	scene_start(51, 2, &cfg);
	for (u32 i = 0; i < 2; i++) {
		net.links[i][!i].dup_ppm = 1000000;
		net.links[i][!i].reorder_ns = 20 * USEC;
	}
	scene_stream(0, 1, 20 * dcpim_cfg_bdp(&cfg.dcpim), 0);
	scene_msgs(1, 0, 10, 20000, 0);
	scene_run_until_delivered(100 * MSEC);
	SCENE_OK();
	TAP_CHECK(scene_stats(1).rx_duplicate > 0);
	SCENE_END();
}

static void recovery__loss_costs_time_in_proportion(void)
{
	struct vhost_cfg cfg = scene_cfg();
	u64 bytes = 400 * dcpim_cfg_bdp(&cfg.dcpim), clean, lossy;

	scene_start(60, 2, &cfg);
	scene_stream(0, 1, bytes, 0);
	clean = scene_run_until_delivered(SEC);
	SCENE_END();
	scene_start(60, 2, &cfg);
	net.links[0][1].loss_ppm = net.links[1][0].loss_ppm = 10000;
	scene_stream(0, 1, bytes, 0);
	lossy = scene_run_until_delivered(SEC);
	SCENE_OK();
	printf("# 1 %% loss: %llu us against %llu us, %llu of %llu bytes sent again\n", (unsigned long long)(lossy / USEC),
	       (unsigned long long)(clean / USEC), (unsigned long long)scene_stats(0).rtx_bytes, (unsigned long long)bytes);
	TAP_CHECK(lossy < 3 * clean);
	TAP_CHECK(scene_stats(0).rtx_bytes < bytes / 25);
	SCENE_END();
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(recovery__single_loss_costs_one_packet),
		TAP_TEST(recovery__holes_are_filled_not_the_rest),
		TAP_TEST(recovery__lost_tail),
		TAP_TEST(recovery__everything_in_flight_lost),
		TAP_TEST(recovery__retransmission_lost_again),
		TAP_TEST(recovery__lost_notification_long),
		TAP_TEST(recovery__lost_notification_short),
		TAP_TEST(recovery__lost_syn_ack),
		TAP_TEST(recovery__lost_token),
		TAP_TEST(recovery__lost_token_msg),
		TAP_TEST(recovery__lost_ack),
		TAP_TEST(recovery__lost_fin),
		TAP_TEST(recovery__lost_fin_ack),
		TAP_TEST(recovery__lost_fin_msg),
		TAP_TEST(recovery__lost_demand),
		TAP_TEST(recovery__lost_notification_msg),
		TAP_TEST(recovery__lost_rts),
		TAP_TEST(recovery__lost_grant),
		TAP_TEST(recovery__lost_accept),
		TAP_TEST(recovery__lost_data),
		TAP_TEST(recovery__lost_data_msg),
		TAP_TEST(recovery__lost_window_update),
		TAP_TEST(recovery__message_resends_what_is_missing),
		TAP_TEST(recovery__every_message_packet_lost),
		TAP_TEST(hazard__more_gaps_than_places),
		TAP_TEST(recovery__reordering_alone_resends_little),
		TAP_TEST(recovery__duplicates_are_dropped_quietly),
		TAP_TEST(recovery__loss_costs_time_in_proportion),
	};

	return TAP_RUN(tests, argc, argv);
}
