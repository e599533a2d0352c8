/* SPDX-License-Identifier: BSD-2-Clause */
/* Matching: who asks whom, in how many rounds, and what becomes of channels nobody takes. */
#include "scene.h"

struct seen {
	u64 at;
	u32 from;
	u8 type, round, channels;
	bool prompt;
	u64 epoch;
};

static struct seen seen[4096];
static u32 nseen;
static u64 first_data[VNET_MAX_HOSTS]; /* by receiver */
static u64 data_bytes[VNET_MAX_HOSTS];

static bool note(struct vhost *h, const struct vpkt *pkt, const struct dcpim_pkt *p)
{
	if (p->type == DCPIM_DATA) {
		if (!first_data[pkt->dst])
			first_data[pkt->dst] = net.now;
		data_bytes[pkt->dst] += pkt->len - p->hdr_len;
	}
	if (p->type != DCPIM_RTS && p->type != DCPIM_GRANT && p->type != DCPIM_ACCEPT && p->type != DCPIM_REVOKE)
		return true;
	if (nseen < sizeof(seen) / sizeof(seen[0]))
		seen[nseen++] = (struct seen){ net.now, h->index, p->type, p->u.match.round, p->u.match.channels,
					       p->flags & DCPIM_F_PROMPT, p->u.match.epoch };
	return true;
}

static void watch(void)
{
	nseen = 0;
	memset(first_data, 0, sizeof(first_data));
	memset(data_bytes, 0, sizeof(data_bytes));
	scene_watch = note;
}

static u32 count(u8 type)
{
	u32 n = 0;

	for (u32 i = 0; i < nseen; i++)
		n += seen[i].type == type;
	return n;
}

static const struct seen *first(u8 type, bool prompt)
{
	for (u32 i = 0; i < nseen; i++)
		if (seen[i].type == type && seen[i].prompt == prompt)
			return &seen[i];
	return NULL;
}

static void match__receiver_asks_sender_grants_receiver_accepts(void)
{
	struct vhost_cfg cfg = scene_cfg();

	scene_start(1, 2, &cfg);
	watch();
	scene_stream(0, 1, 40 * dcpim_cfg_bdp(&cfg.dcpim), 0);
	scene_run_until_delivered(100 * MSEC);
	SCENE_OK();
	for (u32 prompt = 0; prompt < 2; prompt++) {
		const struct seen *rts = first(DCPIM_RTS, prompt), *grant = first(DCPIM_GRANT, prompt),
				  *accept = first(DCPIM_ACCEPT, prompt);

		TAP_CHECK(rts && grant && accept);
		TAP_CHECK(rts->at < grant->at && grant->at < accept->at);
		TAP_CHECK(rts->epoch == grant->epoch && grant->epoch == accept->epoch);
	}
	for (u32 i = 0; i < nseen; i++) {
		TAP_CHECK(seen[i].from == (seen[i].type == DCPIM_RTS || seen[i].type == DCPIM_ACCEPT ? 1 : 0));
		TAP_CHECK(seen[i].channels >= 1 && seen[i].channels <= cfg.dcpim.channels);
		TAP_CHECK(seen[i].round < cfg.dcpim.rounds);
	}
	TAP_CHECK(scene_stats(1).channels_matched_rx > 0);
	TAP_CHECK(scene_stats(0).channels_matched_tx > 0);
	SCENE_END();
}

/* One sender with k = 1 and two receivers: whoever loses a round asks again in the next, at most r times an epoch. */
static void match__at_most_one_request_per_round(void)
{
	struct vhost_cfg cfg = scene_cfg();
	u32 most = 0;

	cfg.dcpim.channels = 1;
	scene_start(2, 3, &cfg);
	watch();
	scene_stream(0, 1, 20 * dcpim_cfg_bdp(&cfg.dcpim), 0);
	scene_stream(0, 2, 20 * dcpim_cfg_bdp(&cfg.dcpim), 0);
	scene_run_until_delivered(100 * MSEC);
	SCENE_OK();
	for (u32 i = 0; i < nseen; i++) {
		u32 same = 0;

		if (seen[i].type != DCPIM_RTS || seen[i].prompt)
			continue;
		for (u32 j = 0; j < nseen; j++)
			same += seen[j].type == DCPIM_RTS && !seen[j].prompt && seen[j].from == seen[i].from &&
				seen[j].epoch == seen[i].epoch;
		most = same > most ? same : most;
	}
	TAP_CHECK(most >= 1);
	TAP_CHECK(most <= cfg.dcpim.rounds);
	SCENE_END();
}

static void match__prompt_start_uses_the_epoch_under_way(void)
{
	struct vhost_cfg cfg = scene_cfg();
	u64 began;

	cfg.dcpim.beta_milli = 20000; /* an epoch of 80 control round trips */
	scene_start(3, 2, &cfg);
	watch();
	scene_stream(0, 1, 0, 0);
	scene_run(MSEC);
	began = net.now;
	scene_stream(0, 1, 8 * dcpim_cfg_bdp(&cfg.dcpim), began);
	scene_run_until_delivered(100 * MSEC);
	SCENE_OK();
	TAP_CHECK(first(DCPIM_RTS, true));
	TAP_CHECK(first_data[1] && first_data[1] - began < dcpim_cfg_epoch_ns(&cfg.dcpim) / 4);
	TAP_CHECK(scene_stats(1).prompt_matched > 0);
	SCENE_END();
}

static void match__granted_channels_are_released_without_accept(void)
{
	struct vhost_cfg cfg = scene_cfg();
	u32 stuck = 0;

	scene_start(4, 3, &cfg);
	watch();
	net.links[1][0].down = false;
	scene_stream(0, 1, 8 * dcpim_cfg_bdp(&cfg.dcpim), 0);
	scene_run(20 * USEC);
	/* From now on the receiver's ACCEPTs are lost; another receiver must not find the sender taken forever. */
	scene_drop[DCPIM_ACCEPT] = ~0u;
	scene_run(6 * dcpim_cfg_epoch_ns(&cfg.dcpim));
	for (u32 i = 0; i < 40; i++) {
		scene_run(dcpim_cfg_round_ns(&cfg.dcpim) / 4);
		stuck += scene_info(0).tx_matched_cur == cfg.dcpim.channels;
	}
	TAP_CHECK(stuck < 40);
	scene_drop[DCPIM_ACCEPT] = 0;
	scene_stream(0, 2, 8 * dcpim_cfg_bdp(&cfg.dcpim), net.now);
	scene_run_until_delivered(100 * MSEC);
	SCENE_OK();
	scene_run(4 * dcpim_cfg_epoch_ns(&cfg.dcpim));
	TAP_CHECK(scene_info(0).tx_matched_cur == 0 && scene_info(0).tx_matched_next == 0);
	TAP_CHECK(scene_info(1).rx_matched_cur == 0 && scene_info(1).rx_matched_next == 0);
	SCENE_END();
}

static u32 kept_len, kept_from;
static u8 kept_bytes[DCPIM_HDR_MAX];

static bool keep_first_accept(struct vhost *h, const struct vpkt *pkt, const struct dcpim_pkt *p)
{
	note(h, pkt, p);
	if (p->type != DCPIM_ACCEPT || kept_len || (p->flags & DCPIM_F_PROMPT))
		return true;
	memcpy(kept_bytes, pkt->data, pkt->len);
	kept_len = pkt->len;
	kept_from = h->index;
	return false;
}

/* The ACCEPT of one receiver comes when its channel has gone to another one. */
static void match__late_accept_is_revoked(void)
{
	struct vhost_cfg cfg = scene_cfg();
	u32 revoked = 0;

	cfg.dcpim.channels = 1;
	for (u32 i = 0; i < 10; i++) {
		kept_len = 0;
		scene_start(500 + i, 3, &cfg);
		watch();
		scene_stream(0, 1, 100 * dcpim_cfg_bdp(&cfg.dcpim), 0);
		scene_stream(0, 2, 100 * dcpim_cfg_bdp(&cfg.dcpim), 0);
		scene_run(4 * dcpim_cfg_epoch_ns(&cfg.dcpim));
		scene_watch = keep_first_accept;
		while (!kept_len && net.now < 10 * MSEC)
			scene_run(USEC);
		TAP_CHECK(kept_len);
		scene_run(dcpim_cfg_epoch_ns(&cfg.dcpim));
		vnet_inject(&net, kept_from, 0, kept_bytes, kept_len);
		scene_run(20 * USEC);
		SCENE_OK();
		revoked += count(DCPIM_REVOKE) > 0;
		TAP_CHECK(scene_stats(1).revoke_rx + scene_stats(2).revoke_rx == count(DCPIM_REVOKE));
		scene_run_until_delivered(100 * MSEC);
		SCENE_END();
	}
	TAP_CHECK(revoked > 0);
}

static void match__two_receivers_share_one_sender(void)
{
	struct vhost_cfg cfg = scene_cfg();
	u64 total = 200 * dcpim_cfg_bdp(&cfg.dcpim), sum;

	scene_start(6, 3, &cfg);
	watch();
	scene_stream(0, 1, total, 0);
	scene_stream(0, 2, total, 0);
	scene_run(100 * dcpim_cfg_bdp(&cfg.dcpim) * 8 * SEC / (10 * GBIT));
	SCENE_OK();
	sum = data_bytes[1] + data_bytes[2];
	TAP_CHECK(data_bytes[1] > sum / 5 && data_bytes[2] > sum / 5);
	TAP_CHECK(scene_stats(0).channels_matched_tx <= (scene_stats(0).epochs + 2) * cfg.dcpim.channels);
	scene_run_until_delivered(100 * MSEC);
	SCENE_END();
}

static void match__two_senders_share_one_receiver(void)
{
	struct vhost_cfg cfg = scene_cfg();
	u64 total = 200 * dcpim_cfg_bdp(&cfg.dcpim);
	struct vconn *a, *b;

	scene_start(7, 3, &cfg);
	a = scene_stream(1, 0, total, 0);
	b = scene_stream(2, 0, total, 0);
	scene_run(100 * dcpim_cfg_bdp(&cfg.dcpim) * 8 * SEC / (10 * GBIT));
	SCENE_OK();
	TAP_CHECK(a->side[1].rx_done > b->side[1].rx_done / 4 && b->side[1].rx_done > a->side[1].rx_done / 4);
	scene_run_until_delivered(100 * MSEC);
	SCENE_OK();
	TAP_CHECK(net.hosts[0].port_drops == 0);
	SCENE_END();
}

/* With one channel, the message with least left wins the first round at the sender. */
static void match__smallest_first_in_round_one(void)
{
	u32 small_first = 0, runs = 20;

	for (u32 i = 0; i < runs; i++) {
		struct vhost_cfg cfg = scene_cfg();
		u32 bdp = (u32)dcpim_cfg_bdp(&cfg.dcpim);
		struct vconn *large, *small;

		cfg.dcpim.channels = 1;
		cfg.dcpim.rounds = 1;
		scene_start(100 + i, 0, &cfg);
		for (u32 j = 0; j < 3; j++) /* epochs aligned, so that both requests are there to choose from */
			vapp_listen(vnet_add(&net, &cfg, 5 * USEC), 80);
		/* Opened in the order that would favour the large one. */
		large = scene_msgs(0, 1, 1, 40 * bdp, 0);
		small = scene_msgs(0, 2, 1, 4 * bdp, USEC);
		while (!small->side[1].msgs_read && net.now < 100 * MSEC && !net.failed)
			scene_run(10 * USEC);
		SCENE_OK();
		small_first += scene_stats(1).data_bytes_rx < 15 * bdp;
		scene_run_until_delivered(100 * MSEC);
		SCENE_OK();
		TAP_CHECK(large->side[1].msgs_read == 1);
		SCENE_END();
	}
	TAP_CHECK(small_first >= runs * 3 / 4);
}

static void match__no_requests_without_demand(void)
{
	struct vhost_cfg cfg = scene_cfg();
	u32 before;

	scene_start(8, 4, &cfg);
	for (u32 i = 0; i < 4; i++)
		for (u32 j = 0; j < 4; j++)
			if (i != j)
				scene_stream(i, j, 40000, 0);
	scene_run_until_delivered(100 * MSEC);
	SCENE_OK();
	scene_run(20 * MSEC);
	watch();
	before = (u32)net.packets;
	scene_run(10 * SEC);
	SCENE_OK();
	TAP_CHECK(nseen == 0);
	TAP_CHECK(net.packets == before);
	SCENE_END();
}

static u8 old_bytes[64][DCPIM_HDR_MAX];
static u32 old_len[64], old_from[64], nold;

static bool keep_old(struct vhost *h, const struct vpkt *pkt, const struct dcpim_pkt *p)
{
	if (nold < 64 && p->type >= DCPIM_RTS && p->type <= DCPIM_ACCEPT) {
		memcpy(old_bytes[nold], pkt->data, pkt->len);
		old_len[nold] = pkt->len;
		old_from[nold++] = h->index;
	}
	return true;
}

static void match__packets_of_old_epochs_change_nothing(void)
{
	struct vhost_cfg cfg = scene_cfg();

	nold = 0;
	scene_start(9, 2, &cfg);
	scene_watch = keep_old;
	scene_stream(0, 1, 40 * dcpim_cfg_bdp(&cfg.dcpim), 0);
	scene_run_until_delivered(100 * MSEC);
	scene_run(10 * MSEC);
	SCENE_OK();
	TAP_CHECK(nold > 4);
	for (u32 i = 0; i < nold; i++) {
		vnet_inject(&net, old_from[i], !old_from[i], old_bytes[i], old_len[i]);
		scene_run(USEC);
		TAP_CHECK(scene_info(0).tx_matched_cur == 0 && scene_info(0).tx_matched_next == 0);
		TAP_CHECK(scene_info(1).rx_matched_cur == 0 && scene_info(1).rx_matched_next == 0);
	}
	scene_run(10 * MSEC);
	vcheck_silent(&net, SEC);
	SCENE_END();
}

/* With epochs shorter than a round trip every answer comes too late to match. */
static void match__answers_slower_than_epochs_starve_nobody(void)
{
	struct vhost_cfg cfg = scene_cfg();

	cfg.dcpim.ctrl_rtt_ns = USEC;
	cfg.dcpim.rounds = 1;
	scene_start(10, 2, &cfg);
	scene_stream(0, 1, 10 * dcpim_cfg_bdp(&cfg.dcpim), 0);
	scene_msgs(0, 1, 2, 200000, 0);
	scene_run_until_delivered(SEC);
	SCENE_END();
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(match__receiver_asks_sender_grants_receiver_accepts),
		TAP_TEST(match__at_most_one_request_per_round),
		TAP_TEST(match__prompt_start_uses_the_epoch_under_way),
		TAP_TEST(match__granted_channels_are_released_without_accept),
		TAP_TEST(match__late_accept_is_revoked),
		TAP_TEST(match__two_receivers_share_one_sender),
		TAP_TEST(match__two_senders_share_one_receiver),
		TAP_TEST(match__smallest_first_in_round_one),
		TAP_TEST(match__no_requests_without_demand),
		TAP_TEST(match__packets_of_old_epochs_change_nothing),
		TAP_TEST(match__answers_slower_than_epochs_starve_nobody),
	};

	return TAP_RUN(tests, argc, argv);
}
