/* SPDX-License-Identifier: BSD-2-Clause */
/* Tokens: how much a receiver lets be under way, seen from the wire and from the gauges. */
#include "scene.h"

/* One stream per pair of hosts in these tests, so that a pair names its stream. */
static u64 edge[VNET_MAX_HOSTS][VNET_MAX_HOSTS];    /* [sender][receiver], highest token delivered */
static u64 granted[VNET_MAX_HOSTS][VNET_MAX_HOSTS]; /* highest token sent */
static u64 arrived[VNET_MAX_HOSTS][VNET_MAX_HOSTS]; /* end of what was delivered */
static u64 top[VNET_MAX_HOSTS][VNET_MAX_HOSTS];     /* end of data sent */
static u64 beyond;	/* most bytes sent above the edge */
static u64 most_out;	/* most bytes granted and not received, one pair */
static u64 most_out_all[VNET_MAX_HOSTS]; /* by receiver, over all its senders */
static u32 largest_grant, tokens;

static bool watch_sent(struct vhost *h, const struct vpkt *pkt, const struct dcpim_pkt *p)
{
	u32 s = pkt->dst, r = h->index;
	u64 sum = 0;

	if (p->type == DCPIM_DATA) {
		u64 end = p->u.data.offset + (pkt->len - p->hdr_len);

		if (end > edge[h->index][pkt->dst])
			beyond = dcpim_max(beyond, end - edge[h->index][pkt->dst]);
		top[h->index][pkt->dst] = dcpim_max(top[h->index][pkt->dst], end);
	}
	if (p->type != DCPIM_TOKEN && p->type != DCPIM_ACK)
		return true;
	if (p->u.token.token_nxt > granted[s][r]) {
		if (granted[s][r])
			largest_grant = (u32)dcpim_max(largest_grant, p->u.token.token_nxt - granted[s][r]);
		granted[s][r] = p->u.token.token_nxt;
	}
	tokens += p->type == DCPIM_TOKEN;
	if (granted[s][r] > arrived[s][r])
		most_out = dcpim_max(most_out, granted[s][r] - arrived[s][r]);
	for (u32 i = 0; i < net.nhosts; i++)
		sum += granted[i][r] > arrived[i][r] ? granted[i][r] - arrived[i][r] : 0;
	most_out_all[r] = dcpim_max(most_out_all[r], sum);
	return true;
}

static bool watch_delivered(struct vhost *h, const struct vpkt *pkt, const struct dcpim_pkt *p, int decoded)
{
	if (!decoded && p->type == DCPIM_DATA)
		arrived[pkt->src][h->index] = dcpim_max(arrived[pkt->src][h->index], p->u.data.offset + (pkt->len - p->hdr_len));
	if (!decoded && (p->type == DCPIM_TOKEN || p->type == DCPIM_ACK))
		edge[h->index][pkt->src] = dcpim_max(edge[h->index][pkt->src], p->u.token.token_nxt);
	return true;
}

static void start(u64 seed, u32 hosts, const struct vhost_cfg *cfg)
{
	scene_start(seed, hosts, cfg);
	memset(edge, 0, sizeof(edge));
	memset(granted, 0, sizeof(granted));
	memset(arrived, 0, sizeof(arrived));
	memset(top, 0, sizeof(top));
	memset(most_out_all, 0, sizeof(most_out_all));
	beyond = most_out = 0;
	largest_grant = tokens = 0;
	scene_watch = watch_sent;
	net.ops.delivering = watch_delivered;
}

static void token__nothing_is_sent_beyond_the_edge(void)
{
	struct vhost_cfg cfg = scene_cfg();

	cfg.dcpim.short_threshold = 1; /* every stream waits for tokens */
	start(1, 2, &cfg);
	scene_stream(0, 1, 30 * dcpim_cfg_bdp(&cfg.dcpim), 0);
	scene_run_until_delivered(100 * MSEC);
	SCENE_OK();
	TAP_CHECK(tokens > 0);
	TAP_CHECK(beyond <= 1); /* the one byte that counts as short */
	TAP_CHECK(scene_stats(0).unsched_bytes <= 1);
	SCENE_END();
}

static void token__outstanding_stays_within_the_window(void)
{
	static const u32 divisors[] = { 1, 2, 3 };

	for (u32 i = 0; i < 3; i++) {
		struct vhost_cfg cfg = scene_cfg();

		cfg.dcpim.short_threshold = 1;
		cfg.dcpim.window = (u32)(dcpim_cfg_bdp(&cfg.dcpim) / divisors[i]);
		start(10 + i, 2, &cfg);
		scene_stream(0, 1, 30 * dcpim_cfg_bdp(&cfg.dcpim), 0);
		scene_run_until_delivered(100 * MSEC);
		SCENE_OK();
		TAP_CHECK(most_out > 0);
		TAP_CHECK(most_out <= scene_info(1).window);
		SCENE_END();
	}
}

static void token__window_holds_under_loss(void)
{
	struct vhost_cfg cfg = scene_cfg();

	cfg.dcpim.short_threshold = 1;
	start(20, 2, &cfg);
	net.links[0][1].loss_ppm = net.links[1][0].loss_ppm = 50000;
	scene_stream(0, 1, 60 * dcpim_cfg_bdp(&cfg.dcpim), 0);
	scene_run_until_delivered(2 * SEC); /* vcheck_bounds watches the gauge at every step */
	SCENE_OK();
	scene_run(200 * MSEC);
	TAP_CHECK(scene_info(1).tokens_outstanding == 0);
	SCENE_END();
}

static void token__batches_are_as_configured(void)
{
	struct vhost_cfg cfg = scene_cfg();

	cfg.dcpim.short_threshold = 1;
	cfg.dcpim.token_batch = 4 * (cfg.dcpim.max_packet - DCPIM_DATA_LEN);
	start(30, 2, &cfg);
	scene_stream(0, 1, 30 * dcpim_cfg_bdp(&cfg.dcpim), 0);
	scene_run_until_delivered(100 * MSEC);
	SCENE_OK();
	TAP_CHECK(largest_grant > 0 && largest_grant <= 2 * cfg.dcpim.token_batch);
	SCENE_END();
}

static void token__batch_larger_than_the_window_does_not_block(void)
{
	struct vhost_cfg cfg = scene_cfg();

	cfg.dcpim.short_threshold = 1;
	cfg.dcpim.window = 2 * cfg.dcpim.max_packet;
	cfg.dcpim.token_batch = 30 * cfg.dcpim.max_packet;
	start(35, 2, &cfg);
	scene_stream(0, 1, 10 * dcpim_cfg_bdp(&cfg.dcpim), 0);
	scene_run_until_delivered(10 * MSEC);
	SCENE_END();
}

static void token__all_peers_share_the_budget(void)
{
	struct vhost_cfg cfg = scene_cfg();

	cfg.dcpim.short_threshold = 1;
	cfg.dcpim.rx_budget = dcpim_cfg_bdp(&cfg.dcpim);
	start(40, 5, &cfg);
	for (u32 i = 1; i < 5; i++)
		scene_stream(i, 0, 20 * dcpim_cfg_bdp(&cfg.dcpim), 0);
	scene_run_until_delivered(100 * MSEC);
	SCENE_OK();
	TAP_CHECK(most_out_all[0] > cfg.dcpim.rx_budget / 4);
	TAP_CHECK(most_out_all[0] <= cfg.dcpim.rx_budget);
	SCENE_END();
}

static void token__stop_when_nobody_reads(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct vconn *c;
	u64 packets;

	cfg.dcpim.rcvbuf = 100000;
	start(50, 2, &cfg);
	c = scene_stream(0, 1, 1000000, 0);
	c->side[1].plan.stall_ns = SEC;
	scene_run(500 * MSEC);
	SCENE_OK();
	TAP_CHECK(scene_flow(&c->side[1]).rx_queued > 50000);
	TAP_CHECK(scene_flow(&c->side[1]).rx_queued <= 100000);
	TAP_CHECK(top[0][1] <= 100000);
	TAP_CHECK(scene_info(1).tokens_outstanding == 0);
	TAP_CHECK(scene_info(1).rx_matched_cur == 0);
	packets = net.packets;
	scene_run(400 * MSEC);
	/* The sender may ask now and then whether the window has opened, backing off. */
	TAP_CHECK(net.packets - packets < 1 + 2 * 400 * MSEC / cfg.dcpim.rto_max_ns * 2);
	scene_run_until_delivered(SEC);
	SCENE_END();
}

/* All the demand is known and nothing is under way when the reader makes room: that alone has to get it going. */
static void token__room_made_by_reading_is_used_at_once(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct vconn *c;

	cfg.dcpim.rcvbuf = 20000;
	start(55, 2, &cfg);
	c = scene_stream(0, 1, 60000, 0);
	c->side[1].plan.stall_ns = 100 * MSEC;
	scene_run(101 * MSEC);
	SCENE_OK();
	TAP_CHECK(c->side[1].rx_done == 60000);
	SCENE_END();
}

static void token__slow_reader_paces_the_sender(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct vconn *c;

	cfg.dcpim.rcvbuf = 64000;
	start(60, 2, &cfg);
	c = scene_stream(0, 1, 600000, 0);
	c->side[1].plan.read_max = 5000;
	c->side[1].plan.read_gap_ns = 40 * USEC;
	scene_run_until_delivered(SEC);
	SCENE_OK();
	TAP_CHECK(net.hosts[1].port_drops == 0);
	TAP_CHECK(scene_stats(0).rtx_bytes == 0);
	SCENE_END();
}

static void token__lost_token_is_made_up_for(void)
{
	for (u32 n = 1; n <= 8; n *= 2) {
		struct vhost_cfg cfg = scene_cfg();
		u64 took;

		cfg.dcpim.short_threshold = 1;
		start(70 + n, 2, &cfg);
		scene_stream(0, 1, 10 * dcpim_cfg_bdp(&cfg.dcpim), 0);
		scene_run(30 * USEC);
		scene_drop[DCPIM_TOKEN] = n;
		took = scene_run_until_delivered(SEC);
		SCENE_OK();
		TAP_CHECK(scene_drop[DCPIM_TOKEN] == 0);
		TAP_CHECK(scene_stats(0).rtx_bytes == 0);
		TAP_CHECK(took < 20 * cfg.dcpim.rto_max_ns);
		SCENE_END();
	}
}

static bool data_is_lost(struct vhost *h, const struct vpkt *pkt, const struct dcpim_pkt *p)
{
	(void)h;
	(void)pkt;
	return p->type != DCPIM_DATA;
}

static void token__of_a_dead_sender_are_taken_back(void)
{
	struct vhost_cfg cfg = scene_cfg();

	cfg.dcpim.short_threshold = 1;
	start(80, 3, &cfg);
	scene_stream(1, 0, 100 * dcpim_cfg_bdp(&cfg.dcpim), 0);
	scene_run(100 * USEC);
	scene_watch = data_is_lost;
	scene_run(50 * USEC);
	vnet_kill(&net.hosts[1]);
	scene_watch = NULL;
	scene_stream(2, 0, 50 * dcpim_cfg_bdp(&cfg.dcpim), net.now);
	/* The other sender is served all the same, and in the end nothing is outstanding. */
	app.conns[0]->expect_broken = true;
	scene_run(20 * MSEC);
	SCENE_OK();
	TAP_CHECK(app.conns[1]->side[1].rx_done == app.conns[1]->side[0].plan.total);
	scene_run(2 * cfg.dcpim.dead_after_ns);
	SCENE_OK();
	TAP_CHECK(app.conns[0]->side[1].error == -ETIMEDOUT);
	TAP_CHECK(scene_info(0).tokens_outstanding == 0);
	SCENE_END();
}

/* The window is shared out by channels whatever their number; vcheck_bounds watches it at every step. */
static void hazard__any_number_of_channels(void)
{
	for (u32 k = 1; k <= DCPIM_MAX_CHANNELS; k++) {
		struct vhost_cfg cfg = scene_cfg();

		cfg.dcpim.channels = k;
		start(100 + k, 4, &cfg);
		for (u32 i = 1; i < 4; i++) {
			scene_stream(i, 0, 5 * dcpim_cfg_bdp(&cfg.dcpim), 0);
			scene_stream(0, i, 5 * dcpim_cfg_bdp(&cfg.dcpim), 0);
		}
		scene_run_until_delivered(100 * MSEC);
		SCENE_END();
	}
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(token__nothing_is_sent_beyond_the_edge),
		TAP_TEST(token__outstanding_stays_within_the_window),
		TAP_TEST(token__window_holds_under_loss),
		TAP_TEST(token__batches_are_as_configured),
		TAP_TEST(token__batch_larger_than_the_window_does_not_block),
		TAP_TEST(token__all_peers_share_the_budget),
		TAP_TEST(token__stop_when_nobody_reads),
		TAP_TEST(token__room_made_by_reading_is_used_at_once),
		TAP_TEST(token__slow_reader_paces_the_sender),
		TAP_TEST(token__lost_token_is_made_up_for),
		TAP_TEST(hazard__any_number_of_channels),
		TAP_TEST(token__of_a_dead_sender_are_taken_back),
	};

	return TAP_RUN(tests, argc, argv);
}
