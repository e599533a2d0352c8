/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Packets that no honest peer sends: garbage, forgeries without the tag, and
 * forgeries by somebody who knows it. The tests of the list of hazards known
 * from the prototype are named hazard__*.
 */
#include "scene.h"

/* The last packet of each type from host 0 to host 1: ports and tag of its connection. */
static struct dcpim_pkt from0[256];
static bool has[256];
static u64 replies, reply_bytes;
static bool counting;

static bool sniff(struct vhost *h, const struct vpkt *pkt, const struct dcpim_pkt *p)
{
	if (h->index == 0 && pkt->dst == 1) {
		from0[p->type] = *p;
		has[p->type] = true;
	}
	if (counting && h->index == 1) {
		replies++;
		reply_bytes += pkt->len;
	}
	return true;
}

static void start(u64 seed, const struct vhost_cfg *cfg)
{
	scene_start(seed, 3, cfg);
	memset(has, 0, sizeof(has));
	counting = false;
	replies = reply_bytes = 0;
	scene_watch = sniff;
}

static const u8 all_types[] = {
	DCPIM_DATA,  DCPIM_TOKEN,    DCPIM_TOKEN_MSG,	    DCPIM_NOTIFICATION_LONG, DCPIM_NOTIFICATION_SHORT, DCPIM_ACK,
	DCPIM_RTS,   DCPIM_GRANT,    DCPIM_ACCEPT,	    DCPIM_FIN,		     DCPIM_SYN_ACK,	       DCPIM_FIN_ACK,
	DCPIM_RESET, DCPIM_DATA_MSG, DCPIM_NOTIFICATION_MSG, DCPIM_FIN_MSG,	     DCPIM_REVOKE,	       DCPIM_KEEPALIVE,
	DCPIM_DEMAND, DCPIM_KEEPALIVE_ACK,
};

/* Fields a decoder accepts, otherwise arbitrary. */
static void random_fields(struct vrng *r, struct dcpim_pkt *p)
{
	static const u64 offsets[] = { 0, 1, 1000, 1432, 100000, 1ull << 31, 1ull << 32, (1ull << 62) - 1 };
	u64 far = offsets[vrange(r, 0, 7)], near = offsets[vrange(r, 0, 7)];

	p->flags = (u8)vrange(r, 0, 31) & (u8)~(DCPIM_F_CRC | DCPIM_F_REFLECTED);
	if (p->type == DCPIM_RESET)
		p->flags |= vrand(r) & DCPIM_F_REFLECTED;
	switch (p->type) {
	case DCPIM_DATA:
		p->u.data.offset = dcpim_min(far, (1ull << 62) - 70000);
		p->u.data.ahead = (u32)dcpim_max(near, 2000);
		p->u.data.ack = (u32)vrand(r);
		break;
	case DCPIM_DATA_MSG:
		p->u.data_msg.msg_id = dcpim_max(far, 1);
		p->u.data_msg.size = (u32)dcpim_max(dcpim_min(near, ~0u), 2000);
		p->u.data_msg.offset = vchance(r, 500000) ? 0 : p->u.data_msg.size - 2000;
		p->u.data_msg.ack = (u32)vrand(r);
		break;
	case DCPIM_TOKEN:
	case DCPIM_ACK:
		p->u.token.rcv_nxt = dcpim_min(far, (1ull << 62) - 1);
		p->u.token.token_nxt = dcpim_min(p->u.token.rcv_nxt + near, (1ull << 62) - 1);
		p->u.token.wnd_edge = dcpim_min(p->u.token.token_nxt + offsets[vrange(r, 0, 7)], (1ull << 62) - 1);
		p->u.token.rtx_end = vchance(r, 500000) ? 0 : (u32)vrand(r);
		break;
	case DCPIM_TOKEN_MSG:
		p->u.token_msg.msg_id = dcpim_max(far, 1);
		p->u.token_msg.rcv_nxt = (u32)dcpim_min(near, 1u << 30);
		p->u.token_msg.token_nxt = p->u.token_msg.rcv_nxt + (u32)vrange(r, 0, 1u << 30);
		p->u.token_msg.rtx_end = vchance(r, 500000) ? 0 : (u32)vrange(r, 0, 1u << 30);
		break;
	case DCPIM_NOTIFICATION_LONG:
	case DCPIM_NOTIFICATION_SHORT:
	case DCPIM_SYN_ACK:
		p->u.syn.flow_tag = (u32)vrand(r) | 1;
		p->u.syn.host_tag = (u32)vrand(r) | 1;
		p->u.syn.host_port = (u16)vrand(r);
		p->u.syn.max_packet = (u16)vrange(r, 256, 65507);
		p->u.syn.wnd = (u32)vrand(r);
		p->u.syn.unsched = (u32)vrand(r);
		p->u.syn.max_msg = (u32)vrand(r);
		break;
	case DCPIM_RTS:
	case DCPIM_GRANT:
	case DCPIM_ACCEPT:
	case DCPIM_REVOKE:
		p->u.match.epoch = vchance(r, 500000) ? vrand(r) >> 2 : far;
		p->u.match.round = (u8)vrange(r, 0, 15);
		p->u.match.channels = (u8)vrange(r, 1, 16);
		p->u.match.remaining = (u32)vrand(r);
		p->u.match.epoch_len = (u32)vrange_log(r, 1000, 4000000000u);
		p->u.match.start_in = (u32)vrange(r, 0, p->u.match.epoch_len);
		p->u.match.phase = (u32)vrange(r, 0, p->u.match.epoch_len);
		break;
	case DCPIM_FIN:
		p->u.fin.final_offset = far;
		break;
	case DCPIM_DEMAND:
		p->u.demand.end = far;
		p->u.demand.sent = dcpim_min(far, near);
		break;
	case DCPIM_NOTIFICATION_MSG:
		p->u.note_msg.msg_id = dcpim_max(far, 1);
		p->u.note_msg.size = (u32)dcpim_min(near, ~0u);
		p->u.note_msg.sent = (u32)vrange(r, 0, p->u.note_msg.size);
		break;
	case DCPIM_FIN_MSG:
		p->u.fin_msg.cum = dcpim_max(far, 1);
		p->u.fin_msg.credit = near;
		break;
	}
	if (p->type == DCPIM_TOKEN || p->type == DCPIM_ACK || p->type == DCPIM_TOKEN_MSG || p->type == DCPIM_FIN_MSG) {
		u32 at = 0;

		p->nblocks = (u8)vrange(r, 0, vchance(r, 500000) ? DCPIM_MAX_BLOCKS : 3);
		for (u32 i = 0; i < p->nblocks; i++) {
			u32 most = vchance(r, 300000) ? 1u << 24 : 3000;

			p->blocks[i].start = at + (u32)vrange(r, 1, most);
			p->blocks[i].end = at = p->blocks[i].start + (u32)vrange(r, 1, most);
		}
	}
}

/* Gives the packet its header sum, whatever it says now (docs/dcpim-wire.md). */
static void fix_sum(u8 *pkt, u32 len)
{
	u32 sum = 0;

	for (u32 i = 0; i + 1 < len; i += 2)
		if (i != 16 && i != 20 && i != 22)
			sum += dcpim_get16(pkt + i);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	dcpim_put16(pkt + 16, (u16)~sum);
}

static u8 payload[2000];

static void inject(const struct dcpim_pkt *p)
{
	bool data = p->type == DCPIM_DATA || (p->type == DCPIM_DATA_MSG && p->u.data_msg.size);

	vnet_inject_pkt(&net, 0, 1, p, payload, data ? (u32)vrange(&net.rng, 1, 2000) : 0);
}

/* A forgery of every kind against connections that go on undisturbed. */
static void forged__wrong_tags_change_nothing(void)
{
	struct vhost_cfg cfg = scene_cfg();

	start(1, &cfg);
	scene_stream(0, 1, 3000000, 0)->side[1].plan.total = 1000000;
	scene_msgs(0, 1, 50, 30000, 0);
	scene_run(100 * USEC);
	for (u32 i = 0; i < 6000 && !net.failed; i++) {
		struct dcpim_pkt p = { .type = all_types[vrange(&net.rng, 0, sizeof(all_types) - 1)] };
		struct vconn *c = app.conns[vrange(&net.rng, 0, 1)];

		/* What opens a connection has no tag to check; its own test is below. */
		if (p.type == DCPIM_NOTIFICATION_LONG || p.type == DCPIM_NOTIFICATION_SHORT)
			continue;
		random_fields(&net.rng, &p);
		p.sport = vchance(&net.rng, 900000) ? c->sport : (u16)vrand(&net.rng);
		p.dport = 80;
		p.tag = (u32)vrand(&net.rng) | 1;
		inject(&p);
		scene_run(vrange(&net.rng, 0, 500));
	}
	SCENE_OK();
	TAP_CHECK(scene_stats(1).rx_bad_tag > 3000);
	scene_run_until_delivered(SEC);
	SCENE_OK();
	for (u32 i = 0; i < 4; i++)
		TAP_CHECK(!app.conns[i / 2]->side[i & 1].error);
	SCENE_END();
}

static void forged__replies_are_few_and_small(void)
{
	for (u32 t = 0; t < sizeof(all_types); t++) {
		struct vhost_cfg cfg = scene_cfg();
		u64 sent = 0, bytes = 0;

		start(10 + t, &cfg);
		scene_stream(0, 1, 1000, 0);
		scene_run(50 * MSEC);
		counting = true;
		for (u32 i = 0; i < 2000; i++) {
			struct dcpim_pkt p = { .type = all_types[t], .sport = (u16)vrand(&net.rng), .dport = 81 };

			random_fields(&net.rng, &p);
			p.tag = (u32)vrand(&net.rng) | 1;
			if (p.type == DCPIM_NOTIFICATION_LONG || p.type == DCPIM_NOTIFICATION_SHORT)
				p.tag = 0;
			inject(&p);
			sent++;
			bytes += dcpim_header_len(p.type, p.nblocks);
			scene_run(USEC);
			TAP_CHECK(replies <= sent && reply_bytes <= bytes);
		}
		SCENE_OK();
		/* Within 2 ms: a burst, then a rate. */
		TAP_CHECK(replies <= 100);
		TAP_CHECK(all_types[t] != DCPIM_RESET || replies == 0);
		TAP_CHECK(scene_info(1).flows == 1);
		SCENE_END();
	}
}

static void forged__garbage_is_dropped(void)
{
	struct vhost_cfg cfg = scene_cfg();
	u64 before;
	u8 bytes[1500];

	start(40, &cfg);
	scene_stream(0, 1, 1000, 0);
	scene_run(50 * MSEC);
	counting = true;
	before = scene_stats(1).rx_bad;
	for (u32 i = 0; i < 20000; i++) {
		u32 len = (u32)vrange(&net.rng, 0, vchance(&net.rng, 500000) ? 80 : sizeof(bytes));

		for (u32 j = 0; j < len; j++)
			bytes[j] = (u8)vrand(&net.rng);
		if (len >= 28 && vchance(&net.rng, 700000)) {
			bytes[14] = all_types[vrange(&net.rng, 0, sizeof(all_types) - 1)];
			bytes[15] = DCPIM_VERSION;
		}
		vnet_inject(&net, 0, 1, bytes, len);
		if (i % 64 == 0)
			scene_run(USEC);
	}
	scene_run(USEC);
	SCENE_OK();
	TAP_CHECK(scene_stats(1).rx_bad - before == 20000);
	TAP_CHECK(replies == 0);
	SCENE_END();
}

/* Somebody who knows tag and ports sends anything at all: the host stays sound and within its bounds. */
static void insider(u64 seed, bool messages)
{
	struct vhost_cfg cfg = scene_cfg();
	u64 sent = 0;

	cfg.dcpim.rcvbuf = 100000;
	cfg.dcpim.max_msg = 50000;
	cfg.dcpim.max_msgs = 200;
	cfg.dcpim.max_segs = 2000;
	start(seed, &cfg);
	for (u32 i = 0; i < 2; i++) {
		struct vconn *c = messages ? scene_msgs(0, 1, 1, 1000, 0) : scene_stream(0, 1, 1000, 0);

		c->side[1].plan.total = messages ? 0 : 1000000;
		c->side[1].plan.msgs = messages ? 30 : 0;
		c->side[1].plan.msg_min = c->side[1].plan.msg_max = 30000;
		c->expect_broken = true;
	}
	scene_run(30 * USEC);
	/* The honest end says no more: its address is the attacker's now. */
	app.forged = true;
	net.links[0][1].down = true;
	for (u32 i = 0; i < 1500 && !net.failed; i++) {
		u8 known = messages ? DCPIM_DATA_MSG : DCPIM_DATA;
		struct dcpim_pkt p = { .type = all_types[vrange(&net.rng, 0, sizeof(all_types) - 1)] };

		if (!has[known])
			break;
		if (p.type == DCPIM_RESET || p.type == DCPIM_NOTIFICATION_LONG || p.type == DCPIM_NOTIFICATION_SHORT)
			continue;
		random_fields(&net.rng, &p);
		p.sport = from0[known].sport;
		p.dport = from0[known].dport;
		p.tag = from0[known].tag;
		if (p.type >= DCPIM_RTS && p.type <= DCPIM_ACCEPT && has[DCPIM_RTS])
			p.tag = from0[DCPIM_RTS].tag;
		inject(&p);
		sent++;
		scene_run(vrange(&net.rng, 0, 3000));
	}
	SCENE_OK();
	TAP_CHECK(sent > 500);
	TAP_CHECK(net.hosts[1].mem.held_rx_bytes <= 2 * 100000);
	vapp_close_all(&net, true);
	scene_run(4 * cfg.dcpim.dead_after_ns);
	vcheck_nothing_left(&net.hosts[1], true);
	SCENE_END();
}

static void forged__insider_on_a_stream(void)
{
	for (u32 i = 0; i < 30; i++) {
		insider(100 + i, false);
		SCENE_OK();
		if (tap_failed)
			return;
	}
}

static void forged__insider_on_messages(void)
{
	for (u32 i = 0; i < 30; i++) {
		insider(200 + i, true);
		SCENE_OK();
		if (tap_failed)
			return;
	}
}

/* Prepares a stream from 0 to 1 with known tags, quiet, host 0 reading nothing more of it. */
static struct vconn *quiet_stream(u64 seed, struct vhost_cfg *cfg, struct dcpim_pkt *p)
{
	struct vconn *c;

	start(seed, cfg);
	c = scene_stream(0, 1, 5000, 0);
	c->side[1].plan.total = 5000;
	scene_run(50 * MSEC);
	memset(p, 0, sizeof(*p));
	p->sport = from0[DCPIM_DATA].sport;
	p->dport = from0[DCPIM_DATA].dport;
	p->tag = from0[DCPIM_DATA].tag;
	return c;
}

static void forged__token_beyond_written_data(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct dcpim_pkt p;
	struct vconn *c = quiet_stream(300, &cfg, &p);

	p.type = DCPIM_TOKEN;
	p.u.token.rcv_nxt = 5000;
	p.u.token.token_nxt = p.u.token.wnd_edge = 1ull << 40;
	p.u.token.rtx_end = ~0u;
	inject(&p);
	scene_run(10 * MSEC);
	SCENE_OK();
	TAP_CHECK(!c->side[1].error);
	/* An acknowledgement of what was never sent must not count as one. */
	p.u.token.rcv_nxt = 1ull << 39;
	inject(&p);
	scene_run(10 * MSEC);
	SCENE_OK();
	TAP_CHECK(c->side[1].error || scene_flow(&c->side[1]).bytes_tx <= 5000);
	SCENE_END();
}

static void forged__fin_below_received_data(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct dcpim_pkt p;
	struct vconn *c = quiet_stream(301, &cfg, &p);

	p.type = DCPIM_FIN;
	p.u.fin.final_offset = 4000;
	inject(&p);
	scene_run(MSEC);
	SCENE_OK();
	/* at_eof() in vapp.c would have failed on an end of stream nobody wrote. */
	TAP_CHECK(!c->side[1].eof);
	SCENE_END();
}

/* Told of an end that never comes, an end cannot acknowledge the real one; the other must not ask for ever. */
static void forged__fin_far_ahead_ends_in_a_timeout(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct dcpim_pkt p;
	struct vconn *c = quiet_stream(304, &cfg, &p);

	p.type = DCPIM_FIN;
	p.u.fin.final_offset = 1ull << 60;
	inject(&p);
	scene_run(MSEC);
	app.forged = true;
	c->side[0].plan.end = VEND_SHUTDOWN;
	vapp_poke(&c->side[0]);
	scene_run(2 * cfg.dcpim.dead_after_ns);
	SCENE_OK();
	TAP_CHECK(c->side[0].error == -ETIMEDOUT || c->side[0].error == -ECONNRESET);
	vapp_close_all(&net, false);
	scene_run(2 * cfg.dcpim.dead_after_ns);
	vcheck_nothing_left(&net.hosts[0], true);
	vcheck_nothing_left(&net.hosts[1], true);
	SCENE_END();
}

/*
 * Data forged past what was sent makes its receiver acknowledge what never was: not an answer that the sender waits
 * for. It may want to send on (0), to have messages acknowledged (1), or credit for one more (2).
 */
static void forged__data_never_sent_ends_in_a_timeout(void)
{
	for (u32 i = 0; i < 3; i++) {
		struct vhost_cfg cfg = scene_cfg();
		struct dcpim_pkt p = { .type = i ? DCPIM_DATA_MSG : DCPIM_DATA };
		struct vconn *c;

		if (i == 2)
			cfg.dcpim.rcvbuf = 4096;
		start(305 + i, &cfg);
		c = i ? scene_msgs(0, 1, 2, 3000, 0) : scene_stream(0, 1, 5000, 0);
		c->side[0].plan.write_gap_ns = i == 1 ? 12 * MSEC : 0;
		c->side[1].plan.stall_ns = i == 2 ? 12 * MSEC : 0;
		scene_run(10 * MSEC);
		TAP_CHECK(i ? c->side[0].msgs_sent == 1 : c->side[0].tx_done == 5000);
		app.forged = true;
		p.sport = from0[p.type].sport;
		p.dport = from0[p.type].dport;
		p.tag = from0[p.type].tag;
		if (i) {
			p.u.data_msg.size = 100;
			for (p.u.data_msg.msg_id = 2; p.u.data_msg.msg_id < 5; p.u.data_msg.msg_id++)
				vnet_inject_pkt(&net, 0, 1, &p, payload, 100);
		} else {
			p.u.data.offset = 5000;
			p.u.data.ahead = 1000;
			vnet_inject_pkt(&net, 0, 1, &p, payload, 1000);
			c->side[0].plan.total += 100;
			vapp_poke(&c->side[0]);
		}
		scene_run(5 * MSEC);
		SCENE_OK();
		TAP_CHECK(!c->side[0].error && (i == 2 || c->side[0].tx_done == 5100 || c->side[0].msgs_sent == 2));
		scene_run(2 * cfg.dcpim.dead_after_ns);
		SCENE_OK();
		TAP_CHECK(c->side[0].error == -ETIMEDOUT);
		vapp_close_all(&net, false);
		scene_run(2 * cfg.dcpim.dead_after_ns);
		vcheck_nothing_left(&net.hosts[0], true);
		vcheck_nothing_left(&net.hosts[1], true);
		SCENE_END();
	}
}

static void forged__giant_demand(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct dcpim_pkt p;
	struct vconn *c = quiet_stream(302, &cfg, &p);
	u64 before = net.hosts[1].tx_packets;

	net.links[0][1].down = true; /* and then the liar says nothing */
	p.type = DCPIM_DEMAND;
	p.u.demand.end = (1ull << 62) - 1;
	inject(&p);
	scene_run(cfg.dcpim.dead_after_ns * 2);
	SCENE_OK();
	TAP_CHECK(c->side[1].error == -ETIMEDOUT || !c->side[1].error);
	TAP_CHECK(scene_info(1).tokens_outstanding <= scene_info(1).window);
	/* Asking backs off: not a stream of requests. */
	TAP_CHECK(net.hosts[1].tx_packets - before < 1000);
	SCENE_END();
}

static void forged__restart_needs_proof(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct dcpim_pkt p;
	struct vconn *c = quiet_stream(303, &cfg, &p);

	/* A SYN with another host tag would mean that the peer restarted. From a stranger it proves nothing. */
	p.type = DCPIM_NOTIFICATION_LONG;
	p.tag = 0;
	random_fields(&net.rng, &p);
	p.flags = 0;
	for (u32 i = 0; i < 50; i++) {
		p.sport = (u16)(2000 + i);
		p.u.syn.flow_tag = p.u.syn.host_tag = (u32)vrand(&net.rng) | 1;
		inject(&p);
		scene_run(USEC);
	}
	/* On the ports of the open connection, too. */
	p.sport = c->sport;
	inject(&p);
	scene_run(10 * MSEC);
	SCENE_OK();
	TAP_CHECK(!c->side[1].error && !c->side[0].error);
	SCENE_END();
}

static void hazard__sack_count_255(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct dcpim_pkt p;
	struct vconn *c = quiet_stream(310, &cfg, &p);
	u8 bytes[DCPIM_TOKEN_LEN + 8 * 255];
	u64 bad = scene_stats(1).rx_bad;

	p.type = DCPIM_TOKEN;
	p.u.token.rcv_nxt = 5000;
	p.u.token.token_nxt = p.u.token.wnd_edge = 6000;
	memset(bytes, 0x41, sizeof(bytes));
	dcpim_encode(&p, 0, bytes);
	for (u32 blocks = 57; blocks <= 255; blocks += 33) {
		u32 len = DCPIM_TOKEN_LEN + 8 * blocks;

		bytes[25] = (u8)blocks;
		dcpim_put16(bytes + 18, (u16)len);
		for (u32 i = 0; i < 2 * blocks; i++)
			dcpim_put32(bytes + DCPIM_TOKEN_LEN + 4 * i, 10 * (i + 1));
		fix_sum(bytes, len);
		vnet_inject(&net, 0, 1, bytes, len);
		/* Announced, but not there. */
		vnet_inject(&net, 0, 1, bytes, DCPIM_TOKEN_LEN + 16);
		scene_run(USEC);
		bad += 2;
	}
	SCENE_OK();
	TAP_CHECK(scene_stats(1).rx_bad == bad);
	TAP_CHECK(!c->side[1].error);
	SCENE_END();
}

static void hazard__length_and_header_length_lie(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct dcpim_pkt p;
	u8 bytes[200];
	u64 bad;

	quiet_stream(311, &cfg, &p);
	bad = scene_stats(1).rx_bad;
	p.type = DCPIM_DATA;
	p.u.data.offset = 5000;
	p.u.data.ahead = 2000;
	memset(bytes, 0, sizeof(bytes));
	dcpim_encode(&p, 100, bytes);
	for (u32 i = 0; i < 4; i++) {
		static const u16 lens[] = { 0, 39, 65535, 141 };

		dcpim_put16(bytes + 18, lens[i]);
		fix_sum(bytes, DCPIM_DATA_LEN);
		vnet_inject(&net, 0, 1, bytes, 140);
		scene_run(USEC);
	}
	dcpim_put16(bytes + 18, 140);
	bytes[12] = 0xf0;
	fix_sum(bytes, DCPIM_DATA_LEN);
	vnet_inject(&net, 0, 1, bytes, 140);
	scene_run(USEC);
	SCENE_OK();
	TAP_CHECK(scene_stats(1).rx_bad == bad + 5);
	SCENE_END();
}

static void hazard__message_size_and_count_are_capped(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct dcpim_pkt p = { .type = DCPIM_NOTIFICATION_MSG };
	struct vconn *c;
	u64 msgs;

	cfg.dcpim.rcvbuf = 100000;
	cfg.dcpim.max_msg = 50000;
	start(312, &cfg);
	c = scene_msgs(0, 1, 1, 1000, 0);
	scene_run(10 * MSEC);
	p.sport = from0[DCPIM_DATA_MSG].sport;
	p.dport = from0[DCPIM_DATA_MSG].dport;
	p.tag = from0[DCPIM_DATA_MSG].tag;
	net.links[0][1].down = true;
	for (u32 i = 0; i < 3000; i++) {
		p.u.note_msg.msg_id = 2 + i;
		p.u.note_msg.size = 1;
		inject(&p);
		scene_run(100);
	}
	p.u.note_msg.msg_id = 2;
	p.u.note_msg.size = ~0u;
	inject(&p);
	scene_run(USEC);
	SCENE_OK();
	msgs = net.hosts[1].mem.count[DCPIM_SLAB_MSG];
	/* Each counts for more than its byte against the receive buffer, so the buffer bounds their number. */
	TAP_CHECK(msgs <= 100000 / 256 + 1);
	TAP_CHECK(net.hosts[1].mem.bytes[DCPIM_SLAB_MSG] < 4 * 100000);
	c->expect_broken = true;
	scene_run(3 * cfg.dcpim.dead_after_ns);
	vapp_close_all(&net, true);
	scene_run(cfg.dcpim.dead_after_ns);
	vcheck_nothing_left(&net.hosts[1], true);
	SCENE_END();
}

/* Overlapping pieces in every order, kept out of order, then joined: content intact, nothing freed twice (ASan). */
static void hazard__overlapping_pieces(void)
{
	for (u32 i = 0; i < 50; i++) {
		struct vhost_cfg cfg = scene_cfg();
		struct dcpim_pkt p;
		struct vconn *c;
		u8 bytes[9000];

		start(320 + i, &cfg);
		c = scene_stream(0, 1, 5000, 0);
		scene_run(50 * MSEC);
		SCENE_OK();
		memset(&p, 0, sizeof(p));
		p.type = DCPIM_DATA;
		p.sport = from0[DCPIM_DATA].sport;
		p.dport = from0[DCPIM_DATA].dport;
		p.tag = from0[DCPIM_DATA].tag;
		/* As if the application had written 9000 more. */
		c->side[0].tx_done += sizeof(bytes);
		vpattern_fill(c->seed, 5000, bytes, sizeof(bytes));
		for (u32 n = 0; n < 400 && c->side[1].rx_done < 14000 && !net.failed; n++) {
			u32 at = (u32)vrange(&net.rng, 0, sizeof(bytes) - 1);
			u32 len = (u32)vrange(&net.rng, 1, dcpim_min(sizeof(bytes) - at, 1400));

			if (n > 200) {
				at = n * 1400 % 9000;
				len = (u32)dcpim_min(1400, 9000 - at);
			}
			p.u.data.offset = 5000 + at;
			p.u.data.ahead = (u32)sizeof(bytes) - at;
			vnet_inject_pkt(&net, 0, 1, &p, bytes + at, len);
			if (vchance(&net.rng, 500000))
				scene_run(100);
		}
		scene_run(USEC);
		SCENE_OK();
		TAP_CHECK(c->side[1].rx_done == 14000);
		SCENE_END();
	}
}

static void hazard__fin_flood_to_unknown_ports(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct dcpim_pkt p = { .type = DCPIM_FIN };
	u64 memory = 0, after = 0;

	start(330, &cfg);
	scene_run(MSEC);
	for (u32 i = 0; i < DCPIM_SLABS; i++)
		memory += net.hosts[1].mem.bytes[i];
	counting = true;
	for (u32 i = 0; i < 10000; i++) {
		p.sport = (u16)vrand(&net.rng);
		p.dport = (u16)vrand(&net.rng);
		p.tag = (u32)vrand(&net.rng) | 1;
		inject(&p);
		scene_run(100);
	}
	for (u32 i = 0; i < DCPIM_SLABS; i++)
		after += net.hosts[1].mem.bytes[i];
	SCENE_OK();
	TAP_CHECK(after == memory);
	TAP_CHECK(replies <= 100);
	SCENE_END();
}

static void hazard__notification_flood(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct dcpim_pkt p = { .type = DCPIM_NOTIFICATION_LONG, .dport = 80 };
	u64 peers;

	cfg.dcpim.max_flows = 50;
	cfg.dcpim.max_peers = 10;
	start(331, &cfg);
	counting = true;
	for (u32 i = 0; i < 5000; i++) {
		random_fields(&net.rng, &p);
		p.type = i & 1 ? DCPIM_NOTIFICATION_LONG : DCPIM_NOTIFICATION_SHORT;
		p.sport = (u16)vrand(&net.rng);
		p.tag = 0;
		p.flags = 0;
		vnet_inject_pkt(&net, 2 + i % 14, 1, &p, NULL, 0);
		scene_run(100);
		TAP_CHECK(scene_info(1).flows <= 50 && scene_info(1).peers <= 10);
	}
	SCENE_OK();
	peers = net.hosts[1].mem.count[DCPIM_SLAB_PEER];
	TAP_CHECK(peers <= 10);
	TAP_CHECK(reply_bytes <= 5000 * DCPIM_SYN_LEN);
	/* Nobody answers: the half-open go, and an honest host gets through. */
	scene_run(2 * cfg.dcpim.connect_timeout_ns);
	TAP_CHECK(scene_info(1).flows == 0 && scene_info(1).peers == 0);
	scene_stream(0, 1, 1000, net.now);
	scene_run_until_delivered(SEC);
	SCENE_END();
}

/* The rest of an old connection between the same ports does not reach the new one. */
static u8 old_data[4][1500];
static u32 old_len[4], nold;

static bool keep_data(struct vhost *h, const struct vpkt *pkt, const struct dcpim_pkt *p)
{
	if (h->index == 0 && (p->type == DCPIM_DATA || p->type == DCPIM_FIN) && nold < 4) {
		memcpy(old_data[nold], pkt->data, pkt->len);
		old_len[nold++] = pkt->len;
	}
	return true;
}

static void hazard__packets_of_an_earlier_connection(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct vconn *c;

	nold = 0;
	start(332, &cfg);
	scene_watch = keep_data;
	c = scene_stream(0, 1, 3000, 0);
	c->sport = 1234;
	c->side[0].plan.end = c->side[1].plan.end = VEND_SHUTDOWN;
	scene_run(SEC);
	TAP_CHECK(c->side[0].closed && c->side[1].closed && nold == 4);
	c = scene_stream(0, 1, 100, net.now);
	c->sport = 1234;
	scene_run(MSEC);
	for (u32 i = 0; i < nold; i++)
		vnet_inject(&net, 0, 1, old_data[i], old_len[i]);
	scene_run(MSEC);
	SCENE_OK();
	TAP_CHECK(c->side[1].rx_done == 100 && !c->side[1].eof && !c->side[1].error && !c->side[0].error);
	SCENE_END();
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(forged__wrong_tags_change_nothing),
		TAP_TEST(forged__replies_are_few_and_small),
		TAP_TEST(forged__garbage_is_dropped),
		TAP_TEST(forged__insider_on_a_stream),
		TAP_TEST(forged__insider_on_messages),
		TAP_TEST(forged__token_beyond_written_data),
		TAP_TEST(forged__fin_below_received_data),
		TAP_TEST(forged__fin_far_ahead_ends_in_a_timeout),
		TAP_TEST(forged__data_never_sent_ends_in_a_timeout),
		TAP_TEST(forged__giant_demand),
		TAP_TEST(forged__restart_needs_proof),
		TAP_TEST(hazard__sack_count_255),
		TAP_TEST(hazard__length_and_header_length_lie),
		TAP_TEST(hazard__message_size_and_count_are_capped),
		TAP_TEST(hazard__overlapping_pieces),
		TAP_TEST(hazard__fin_flood_to_unknown_ports),
		TAP_TEST(hazard__notification_flood),
		TAP_TEST(hazard__packets_of_an_earlier_connection),
	};

	return TAP_RUN(tests, argc, argv);
}
