/* SPDX-License-Identifier: BSD-2-Clause */
/* Short messages: at once below the threshold, matched above it, bounded by what the peer will hold. */
#include "scene.h"

static u64 first_at[256]; /* first packet of each type after watch() */
static u64 wire_bytes[2]; /* payload sent, by host */

static bool note(struct vhost *h, const struct vpkt *pkt, const struct dcpim_pkt *p)
{
	if (!first_at[p->type])
		first_at[p->type] = net.now;
	wire_bytes[h->index & 1] += pkt->len - p->hdr_len;
	return true;
}

static void watch(void)
{
	memset(first_at, 0, sizeof(first_at));
	memset(wire_bytes, 0, sizeof(wire_bytes));
	scene_watch = note;
}

static u64 one_way(u32 packet)
{
	/* Once over the sender's wire, once over the receiver's. */
	return 5 * USEC + 2 * (u64)packet * 8 / 10;
}

static void message__costs_one_one_way_delay_each_way(void)
{
	for (u32 kind = 0; kind < 2; kind++) {
		struct vhost_cfg cfg = scene_cfg();
		struct vconn *c;
		u64 took, expected = one_way(64 + (kind ? DCPIM_DATA_MSG_LEN : DCPIM_DATA_LEN));

		scene_start(1 + kind, 2, &cfg);
		c = kind ? scene_msgs(0, 1, 1, 64, 0) : scene_stream(0, 1, 64, 0);
		c->side[0].plan.start_ns = MSEC;
		c->side[1].plan.total = kind ? 0 : 64;
		c->side[1].plan.msgs = kind;
		c->side[1].plan.msg_min = c->side[1].plan.msg_max = 64;
		c->side[1].plan.start_ns = 2 * MSEC;
		scene_run_until_delivered(10 * MSEC);
		SCENE_OK();
		took = c->side[1].last_read_at - MSEC;
		TAP_CHECK(took >= expected && took <= expected + 3);
		took = c->side[0].last_read_at - (c->side[1].opened_at + 2 * MSEC);
		TAP_CHECK(took >= expected && took <= expected + 3);
		SCENE_END();
	}
}

static void message__below_the_threshold_goes_at_once(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct vconn *c;
	u32 size = (u32)dcpim_cfg_bdp(&cfg.dcpim);
	u64 took, least;

	cfg.nic_queue = 1u << 20;
	scene_start(10, 2, &cfg);
	c = scene_msgs(0, 1, 1, size, 0);
	c->side[0].plan.start_ns = MSEC;
	scene_run_until_delivered(10 * MSEC);
	SCENE_OK();
	took = c->side[1].last_read_at - MSEC;
	least = one_way(1472) + (u64)size * 8 / 10;
	TAP_CHECK(took <= least + least / 10);
	TAP_CHECK(scene_stats(0).unsched_bytes == size);
	TAP_CHECK(scene_stats(1).rts_tx == 0);
	SCENE_END();
}

static void message__above_the_threshold_waits_for_a_match(void)
{
	struct vhost_cfg cfg = scene_cfg();

	scene_start(11, 2, &cfg);
	scene_msgs(0, 1, 1, (u32)(4 * dcpim_cfg_bdp(&cfg.dcpim)), 0);
	watch();
	scene_run_until_delivered(10 * MSEC);
	SCENE_OK();
	TAP_CHECK(first_at[DCPIM_NOTIFICATION_MSG] && first_at[DCPIM_RTS] && first_at[DCPIM_TOKEN_MSG]);
	TAP_CHECK(first_at[DCPIM_RTS] < first_at[DCPIM_DATA_MSG]);
	TAP_CHECK(first_at[DCPIM_ACCEPT] < first_at[DCPIM_DATA_MSG]);
	TAP_CHECK(scene_stats(0).unsched_bytes == 0);
	SCENE_END();
}

static void message__all_sizes_around_packets_and_threshold(void)
{
	struct vhost_cfg cfg = scene_cfg();
	u32 payload = cfg.dcpim.max_packet - DCPIM_DATA_MSG_LEN, bdp = (u32)dcpim_cfg_bdp(&cfg.dcpim);
	u32 sizes[] = { 0, 1, payload - 1, payload, payload + 1, 2 * payload, bdp - 1, bdp, bdp + 1, 3 * bdp, 1u << 20 };

	scene_start(12, 2, &cfg);
	for (u32 i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		scene_msgs(i & 1, !(i & 1), 3, sizes[i], 0);
	scene_run_until_delivered(100 * MSEC);
	SCENE_OK();
	scene_run(10 * MSEC);
	for (u32 i = 0; i < app.nconns; i++)
		TAP_CHECK(app.conns[i]->side[0].msgs_acked == 3);
	SCENE_END();
}

static void message__unread_ones_push_back(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct vconn *c;
	u64 unread;

	cfg.dcpim.rcvbuf = 200000;
	cfg.dcpim.max_msg = 20000;
	scene_start(13, 2, &cfg);
	watch();
	c = scene_msgs(0, 1, 100, 10000, 0);
	c->side[1].plan.stall_ns = 50 * MSEC;
	c->side[1].plan.read_max = 1;
	c->side[1].plan.read_gap_ns = 100 * USEC;
	scene_run(49 * MSEC);
	SCENE_OK();
	unread = scene_flow(&c->side[1]).rx_queued;
	TAP_CHECK(unread > 100000 && unread <= 200000);
	TAP_CHECK(net.hosts[1].mem.held_rx_bytes <= 200000);
	TAP_CHECK(wire_bytes[0] <= 220000);
	TAP_CHECK(c->side[0].msgs_sent < 100);
	TAP_CHECK(c->side[0].writable_due);
	scene_run_until_delivered(SEC);
	SCENE_OK();
	TAP_CHECK(scene_stats(0).rtx_bytes == 0);
	SCENE_END();
}

static void hazard__unread_messages_are_charged(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct vconn *c;

	cfg.dcpim.rcvbuf = 100000;
	cfg.dcpim.max_msg = 20000;
	scene_start(14, 2, &cfg);
	c = scene_msgs(0, 1, 2000, 1, 0);
	c->side[1].plan.stall_ns = 50 * MSEC;
	scene_run(49 * MSEC);
	SCENE_OK();
	/* Unread one-byte messages take more memory than a byte each, and count so. */
	TAP_CHECK(net.hosts[1].mem.bytes[DCPIM_SLAB_MSG] + net.hosts[1].mem.bytes[DCPIM_SLAB_SEG] < 3 * 100000);
	scene_run_until_delivered(2 * SEC);
	SCENE_END();
}

static int try_send(struct vside *s, u32 size, u64 *id)
{
	struct vhold *hold = vhold_new(s->host, size);
	struct dcpim_buf buf = vhold_buf(hold);
	int r = dcpim_send_msg(s->flow, vhost_clock(s->host), &buf, 1, 0, NULL, id);

	if (r)
		vhold_drop(hold);
	vhost_touch(s->host);
	return r;
}

static void message__too_large_is_refused(void)
{
	struct vhost_cfg cfg = scene_cfg(), small = cfg;
	struct vconn *c;
	u64 id;

	cfg.dcpim.max_msg = 50000;
	small.dcpim.max_msg = 30000;
	scene_start(15, 1, &cfg);
	vapp_listen(vnet_add(&net, &small, 5 * USEC), 80);
	c = scene_msgs(0, 1, 0, 0, 0);
	scene_run(MSEC);
	SCENE_OK();
	TAP_CHECK(c->side[0].opened && c->side[1].opened);
	TAP_CHECK(scene_flow(&c->side[0]).max_msg == 30000);
	TAP_CHECK(try_send(&c->side[0], 50001, &id) == -EMSGSIZE);
	TAP_CHECK(try_send(&c->side[0], 30001, &id) == -EMSGSIZE);
	TAP_CHECK(try_send(&c->side[1], 30001, &id) == -EMSGSIZE);
	SCENE_END();
}

static bool lose_first_msg(struct vhost *h, const struct vpkt *pkt, const struct dcpim_pkt *p)
{
	(void)pkt;
	/* Every early packet of the first message is lost; those after it are not. */
	return h->index || p->type != DCPIM_DATA_MSG || net.now > 1100 * USEC || p->u.data_msg.msg_id > 1;
}

static void message__handed_over_as_they_complete(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct vconn *c;

	scene_start(16, 2, &cfg);
	c = scene_msgs(0, 1, 2, 5000, 0);
	c->side[0].plan.start_ns = MSEC;
	scene_watch = lose_first_msg;
	scene_run(1090 * USEC);
	SCENE_OK();
	TAP_CHECK(c->side[0].msgs_sent == 2);
	TAP_CHECK(!c->side[0].msgs[0].received && c->side[0].msgs[1].received);
	scene_run_until_delivered(100 * MSEC);
	SCENE_END();
}

static void message__completion_is_told_once(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct vconn *loud, *quiet;

	scene_start(17, 2, &cfg);
	net.links[1][0].loss_ppm = 200000;
	net.links[1][0].dup_ppm = 200000;
	loud = scene_msgs(0, 1, 200, 100, 0);
	quiet = scene_msgs(0, 1, 200, 100, 0);
	quiet->side[0].plan.quiet_msgs = true;
	scene_run_until_delivered(SEC);
	scene_run(SEC);
	SCENE_OK();
	TAP_CHECK(loud->side[0].msgs_acked == 200);
	TAP_CHECK(scene_flow(&quiet->side[0]).tx_queued == 0);
	SCENE_END();
}

/* A transfer of 1 to 2 BDP, the paper's weak spot: how long after the send its first byte leaves, and its last arrives. */
static u64 first_part(u32 mode, bool msg, u64 *first)
{
	struct vhost_cfg cfg = scene_cfg();
	u64 size, took;
	struct vconn *c;

	cfg.dcpim.first_part_mode = mode;
	cfg.dcpim.first_part_bytes = (u32)dcpim_cfg_bdp(&cfg.dcpim);
	size = dcpim_cfg_bdp(&cfg.dcpim) * 3 / 2;
	scene_start(20, 2, &cfg);
	c = msg ? scene_msgs(0, 1, 1, (u32)size, 0) : scene_stream(0, 1, size, 0);
	c->side[0].plan.start_ns = MSEC;
	c->side[0].plan.chunk_min = c->side[0].plan.chunk_max = (u32)size;
	watch();
	took = scene_run_until_delivered(100 * MSEC) - MSEC;
	*first = first_at[msg ? DCPIM_DATA_MSG : DCPIM_DATA] - MSEC;
	scene_end();
	return took;
}

static void message__first_part_starts_earlier(void)
{
	for (u32 msg = 0; msg < 2; msg++) {
		u64 first[3], took[3];

		for (u32 mode = 0; mode < 3; mode++) {
			took[mode] = first_part(mode, msg, &first[mode]);
			SCENE_OK();
		}
		printf("# %s of 1.5 BDP: off %llu us, unscheduled %llu us, spare %llu us; first byte %llu, %llu, %llu ns\n",
		       msg ? "message" : "stream", (unsigned long long)(took[0] / USEC), (unsigned long long)(took[1] / USEC),
		       (unsigned long long)(took[2] / USEC), (unsigned long long)first[0], (unsigned long long)first[1],
		       (unsigned long long)first[2]);
		TAP_CHECK(first[DCPIM_FIRST_UNSCHEDULED] < first[DCPIM_FIRST_OFF]);
		TAP_CHECK(first[DCPIM_FIRST_SPARE] < first[DCPIM_FIRST_OFF]);
		TAP_CHECK(took[DCPIM_FIRST_UNSCHEDULED] < took[DCPIM_FIRST_OFF]);
		TAP_CHECK(took[DCPIM_FIRST_SPARE] < took[DCPIM_FIRST_OFF]);
	}
}

static u32 pure_acks;

static bool count_acks(struct vhost *h, const struct vpkt *pkt, const struct dcpim_pkt *p)
{
	(void)h;
	(void)pkt;
	pure_acks += p->type == DCPIM_FIN_MSG;
	return true;
}

/* Answers carry the acknowledgement of what they answer. */
static void message__back_and_forth_needs_no_acknowledgements(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct vconn *c;
	u32 i;

	cfg.dcpim.ack_delay_ns = MSEC;
	scene_start(23, 2, &cfg);
	c = scene_msgs(0, 1, 0, 64, 0);
	c->side[0].plan.stall_ns = c->side[1].plan.stall_ns = 100 * SEC; /* read here instead */
	scene_run(MSEC);
	pure_acks = 0;
	scene_watch = count_acks;
	for (i = 0; i < 100; i++) {
		struct vside *s = &c->side[i & 1];
		struct vhold *hold = vhold_new(&net.hosts[i & 1], 64);
		struct dcpim_buf buf = vhold_buf(hold);

		TAP_CHECK(!dcpim_send_msg(s->flow, vhost_clock(&net.hosts[i & 1]), &buf, 1, DCPIM_MSG_QUIET, NULL, NULL));
		vhost_touch(&net.hosts[i & 1]);
		scene_run(20 * USEC);
		s = &c->side[!(i & 1)];
		dcpim_msg_consume(s->flow, vhost_clock(&net.hosts[!(i & 1)]));
	}
	TAP_CHECK(pure_acks <= 2);
	TAP_CHECK(scene_stats(0).msgs_acked >= 49);
	scene_end();
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(message__costs_one_one_way_delay_each_way),
		TAP_TEST(message__below_the_threshold_goes_at_once),
		TAP_TEST(message__above_the_threshold_waits_for_a_match),
		TAP_TEST(message__all_sizes_around_packets_and_threshold),
		TAP_TEST(message__unread_ones_push_back),
		TAP_TEST(hazard__unread_messages_are_charged),
		TAP_TEST(message__too_large_is_refused),
		TAP_TEST(message__handed_over_as_they_complete),
		TAP_TEST(message__completion_is_told_once),
		TAP_TEST(message__first_part_starts_earlier),
		TAP_TEST(message__back_and_forth_needs_no_acknowledgements),
	};

	return TAP_RUN(tests, argc, argv);
}
