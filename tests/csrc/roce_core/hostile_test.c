/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Packets that no honest peer sends. Whoever can send from the peer's address
 * and knows the current PSNs can end a connection; what is less than that must
 * not, and nothing at all may cost more than its share of memory or packets.
 */
#include "scene.h"

static struct sqp a, b;
static u64 memory; /* of the second device, before the attack */

static void start(u32 hosts)
{
	struct vhost_cfg cfg = scene_cfg();

	scene_start(1, hosts, &cfg);
	scene_connect(&a, 0, &b, 1, NULL, NULL);
	memory = devs[1].h->mem.total;
}

/* The connection works in both directions. */
static bool alive(void)
{
	struct rackwire_roce_wc wc;

	if (scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_RDMA_WRITE, .local = 3000, .len = 5000 }) ||
	    scene_do(&b, (struct sop){ .opcode = RACKWIRE_ROCE_WR_RDMA_READ, .local = 20000, .len = 5000,
				       .remote = scene_addr(&devs[0], 3000) }) ||
	    memcmp(devs[1].mem + 3000, devs[1].mem + 20000, 5000))
		return false;
	if (scene_recv(&b, 5, 30000, 2000) || scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_SEND, .local = 100, .len = 2000 }))
		return false;
	return !scene_wait(&devs[1], SEC, &wc) && wc.byte_len == 2000 && !memcmp(devs[1].mem + 30000, devs[0].mem + 100, 2000) &&
	       devs[1].h->mem.total == memory && !net.failed;
}

static u32 packets_of(u32 host)
{
	return (u32)net.hosts[host].tx_packets;
}

static const u8 requests[] = { ROCE_SEND_FIRST, ROCE_SEND_MIDDLE, ROCE_SEND_LAST, ROCE_SEND_ONLY, ROCE_SEND_ONLY_IMM,
			       ROCE_WRITE_FIRST, ROCE_WRITE_MIDDLE, ROCE_WRITE_LAST, ROCE_WRITE_ONLY, ROCE_WRITE_ONLY_IMM,
			       ROCE_READ_REQUEST, ROCE_COMPARE_SWAP, ROCE_FETCH_ADD, ROCE_SEND_ONLY_INV };

/* Everything right but @psn. */
static struct roce_pkt forged(u8 opcode, u32 psn)
{
	return (struct roce_pkt){ .opcode = opcode, .dest_qpn = b.num, .psn = psn & 0xffffff, .ackreq = true, .dma_len = 64,
				  .va = scene_addr(&devs[1], 0), .rkey = scene_key(&devs[1]), .inv_rkey = scene_key(&devs[1]) };
}

static u32 payload_of(u8 opcode)
{
	if (!(roce_op(opcode) & ROCE_OP_PAYLOAD))
		return 0;
	return roce_is_first(opcode) || roce_is_middle(opcode) ? 1024 : 64;
}

static void address__of_somebody_else_opens_nothing(void)
{
	static u8 evil[1024], before[SCENE_MEM];
	struct rackwire_roce_dev_stats stats;

	start(3);
	TAP_CHECK(!scene_recv(&b, 1, 0, 1024));
	memset(evil, 0xbd, sizeof(evil));
	memcpy(before, devs[1].mem, SCENE_MEM);
	for (u32 i = 0; i < sizeof(requests); i++) {
		struct roce_pkt p = forged(requests[i], 100); /* the very next PSN */

		scene_inject(2, 1, &p, evil, payload_of(requests[i]));
	}
	scene_run(MSEC);
	stats = scene_stats(1);
	TAP_CHECK(stats.rx_unknown_qp == sizeof(requests) && packets_of(1) == 0);
	TAP_CHECK(!memcmp(before, devs[1].mem, SCENE_MEM) && scene_wait(&devs[1], 0, NULL) == ~0u);
	SCENE_END();
}

static void psn__flood_draws_few_answers_and_changes_nothing(void)
{
	static u8 evil[1024], before[SCENE_MEM];
	struct vrng r = { 5 };

	start(2);
	memset(evil, 0xbd, sizeof(evil));
	TAP_CHECK(alive());
	memcpy(before, devs[1].mem, SCENE_MEM);
	{
		u32 sent = packets_of(1), next = scene_last[0][ROCE_SEND_LAST].psn + 1;

		for (u32 i = 0; i < 20000; i++) {
			u8 opcode = requests[vrange(&r, 0, sizeof(requests) - 1)];
			/* Behind the next one, by anything up to half of the circle. */
			struct roce_pkt p = forged(opcode, next + (u32)vrange_log(&r, 1, 0x7ffff0));

			scene_inject(0, 1, &p, evil, payload_of(opcode));
			if (i % 16 == 0)
				scene_run(USEC);
		}
		scene_run(MSEC);
		/* One sequence NAK for a gap, however much comes after it [IBTA 9.7.5.1.3]. */
		TAP_CHECK(packets_of(1) - sent <= 2);
	}
	TAP_CHECK(!memcmp(before, devs[1].mem, SCENE_MEM));
	TAP_CHECK(alive());
	SCENE_END();
}

static void duplicates__are_answered_one_for_one_at_most(void)
{
	static u8 evil[1024], before[SCENE_MEM];
	struct vrng r = { 6 };
	u32 sent;

	start(2);
	memset(evil, 0xbd, sizeof(evil));
	for (u32 i = 0; i < 20; i++)
		TAP_CHECK(alive());
	memcpy(before, devs[1].mem, SCENE_MEM);
	sent = packets_of(1);
	for (u32 i = 0; i < 20000; i++) {
		u8 opcode = requests[vrange(&r, 0, sizeof(requests) - 1)];
		struct roce_pkt p = forged(opcode, scene_last[0][ROCE_SEND_LAST].psn - (u32)vrange_log(&r, 1, 0x7ffff0) + 1);

		scene_inject(0, 1, &p, evil, payload_of(opcode));
		if (i % 16 == 0)
			scene_run(5 * USEC);
	}
	scene_run(10 * MSEC);
	TAP_CHECK(packets_of(1) - sent <= 20000);
	TAP_CHECK(!memcmp(before, devs[1].mem, SCENE_MEM));
	TAP_CHECK(alive());
	SCENE_END();
}

static void duplicates__of_a_large_read_do_not_pile_up(void)
{
	struct roce_pkt p;
	u32 sent;

	start(2);
	TAP_CHECK(!scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_RDMA_READ, .len = 100000 }));
	p = scene_last[0][ROCE_READ_REQUEST];
	sent = packets_of(1);
	for (u32 i = 0; i < 10000; i++)
		scene_inject(0, 1, &p, NULL, 0);
	scene_run(200 * MSEC);
	/* No more of them wait at once than READs may be under way. */
	TAP_CHECK(packets_of(1) - sent <= 8 * 98);
	TAP_CHECK(alive());
	SCENE_END();
}

static void reads__beyond_what_was_agreed_are_refused(void)
{
	struct roce_pkt p;

	start(2);
	for (u32 i = 0; i < 5000; i++) {
		p = forged(ROCE_READ_REQUEST, 100 + i);
		p.dma_len = 1000;
		scene_inject(0, 1, &p, NULL, 0);
		TAP_CHECK(devs[1].h->mem.total == memory);
	}
	scene_run(10 * MSEC);
	TAP_CHECK(packets_of(1) <= 5001 && devs[1].h->mem.total == memory);
	SCENE_END();
}

/* While a WRITE of the first device is under way and nothing comes back. */
static void forge_answers(u8 opcode, u8 syndrome, s32 from, s32 to)
{
	static u8 evil[1024];
	struct roce_pkt p = { .opcode = opcode, .dest_qpn = a.num, .syndrome = syndrome, .msn = 1 };
	u32 len = roce_op(opcode) & ROCE_OP_PAYLOAD ? 1024 : 0;

	memset(evil, 0xbd, sizeof(evil));
	for (s32 i = from; i <= to; i++) {
		p.psn = (scene_last[0][ROCE_WRITE_LAST].psn + (u32)i) & 0xffffff;
		p.msn = (u32)(i + 5) & 0xffffff;
		scene_inject(1, 0, &p, evil, len);
	}
}

static void answers__to_what_was_never_sent_are_ignored(void)
{
	static const u8 syndromes[] = { 0x1f, 0x00, 0x60, 0x61, 0x62, 0x63, 0x64, 0x7f, 0x20, 0x3f, 0x40, 0x80, 0xff };
	static u8 before[SCENE_MEM];

	start(2);
	TAP_CHECK(alive());
	memcpy(before, devs[0].mem, SCENE_MEM);
	net.links[0][1].down = true;
	TAP_CHECK(!scene_post(&a, 1, (struct sop){ .opcode = RACKWIRE_ROCE_WR_RDMA_WRITE, .len = 3000 }));
	scene_run(20 * USEC);
	for (u32 i = 0; i < sizeof(syndromes); i++) {
		forge_answers(ROCE_ACK, syndromes[i], 1, 200);
		forge_answers(ROCE_ACK, syndromes[i], 0x700000, 0x700050);
		forge_answers(ROCE_ATOMIC_ACK, syndromes[i], 1, 50);
		forge_answers(ROCE_READ_RESP_ONLY, syndromes[i], 1, 50);
		forge_answers(ROCE_READ_RESP_FIRST, syndromes[i], 1, 50);
	}
	forge_answers(ROCE_READ_RESP_MIDDLE, 0, 1, 50);
	scene_run(20 * USEC);
	TAP_CHECK(scene_wait(&devs[0], 0, NULL) == ~0u && roce_qp_state(a.qp) == RACKWIRE_ROCE_QP_RTS);
	TAP_CHECK(!memcmp(before, devs[0].mem, SCENE_MEM));
	net.links[0][1].down = false;
	TAP_CHECK(scene_wait(&devs[0], SEC, NULL) == 0);
	TAP_CHECK(alive());
	SCENE_END();
}

static void answers__that_are_old_change_nothing(void)
{
	static const u8 syndromes[] = { 0x1f, 0x60, 0x61, 0x62, 0x63, 0x20 };
	static u8 before[SCENE_MEM];

	start(2);
	for (u32 i = 0; i < 3; i++)
		TAP_CHECK(alive());
	memcpy(before, devs[0].mem, SCENE_MEM);
	for (u32 i = 0; i < sizeof(syndromes); i++) {
		forge_answers(ROCE_ACK, syndromes[i], -30, -8);
		forge_answers(ROCE_READ_RESP_ONLY, syndromes[i], -30, -8);
	}
	scene_run(MSEC);
	TAP_CHECK(!memcmp(before, devs[0].mem, SCENE_MEM) && roce_qp_state(a.qp) == RACKWIRE_ROCE_QP_RTS);
	TAP_CHECK(alive());
	SCENE_END();
}

static void read_responses__nobody_asked_for_write_nothing(void)
{
	static u8 before[SCENE_MEM];

	start(2);
	memcpy(before, devs[0].mem, SCENE_MEM);
	for (s32 i = 0; i < 20; i++) {
		forge_answers(ROCE_READ_RESP_FIRST, 0x1f, -100, 100);
		forge_answers(ROCE_READ_RESP_MIDDLE, 0x1f, -100, 100);
		forge_answers(ROCE_READ_RESP_LAST, 0x1f, -100, 100);
		forge_answers(ROCE_READ_RESP_ONLY, 0x1f, -100, 100);
	}
	scene_run(MSEC);
	TAP_CHECK(!memcmp(before, devs[0].mem, SCENE_MEM) && alive());
	SCENE_END();
}

static void read_response__longer_than_asked_ends_the_read_and_stays_inside(void)
{
	static u8 evil[1024], before[SCENE_MEM];
	static const u8 opcodes[] = { ROCE_READ_RESP_FIRST, ROCE_READ_RESP_ONLY, ROCE_READ_RESP_LAST };

	memset(evil, 0xbd, sizeof(evil));
	for (u32 i = 0; i < sizeof(opcodes); i++) {
		struct roce_pkt p = { .opcode = opcodes[i], .syndrome = 0x1f, .msn = 1 };

		start(2);
		net.links[0][1].down = true;
		TAP_CHECK(!scene_post(&a, 1, (struct sop){ .opcode = RACKWIRE_ROCE_WR_RDMA_READ, .local = 5000, .len = 10 }));
		memcpy(before, devs[0].mem, SCENE_MEM);
		scene_run(20 * USEC);
		p.dest_qpn = a.num;
		p.psn = scene_last[0][ROCE_READ_REQUEST].psn;
		scene_inject(1, 0, &p, evil, 1024);
		scene_run(20 * USEC);
		TAP_CHECK(!memcmp(before, devs[0].mem, 5000) && !memcmp(before + 5010, devs[0].mem + 5010, SCENE_MEM - 5010));
		SCENE_END();
	}
}

static void rnr__storm_ends_when_it_ends(void)
{
	struct roce_pkt p = { .opcode = ROCE_ACK, .syndrome = 0x21, .msn = 0 };

	start(2);
	TAP_CHECK(!scene_recv(&b, 1, 0, 100));
	net.links[0][1].down = true;
	TAP_CHECK(!scene_post(&a, 1, (struct sop){ .opcode = RACKWIRE_ROCE_WR_SEND, .len = 100 }));
	scene_run(20 * USEC);
	p.dest_qpn = a.num;
	p.psn = scene_last[0][ROCE_SEND_ONLY].psn;
	for (u32 i = 0; i < 10000; i++) {
		scene_inject(1, 0, &p, NULL, 0);
		if (i % 10 == 0)
			scene_run(USEC);
	}
	/* At most one try per timer that was asked for, 10 us. */
	TAP_CHECK(scene_count[0][ROCE_SEND_ONLY] < 150);
	net.links[0][1].down = false;
	TAP_CHECK(scene_wait(&devs[0], SEC, NULL) == 0 && scene_wait(&devs[1], SEC, NULL) == 0);
	TAP_CHECK(alive());
	SCENE_END();
}

static void cnp__flood_slows_but_does_not_stop(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct roce_pkt p = { .opcode = ROCE_CNP, .becn = true };

	cfg.roce.rate_bps = cfg.rate_bps;
	scene_start(1, 2, &cfg);
	scene_connect(&a, 0, &b, 1, NULL, NULL);
	memory = devs[1].h->mem.total;
	p.dest_qpn = a.num;
	for (u32 i = 0; i < 10000; i++) {
		scene_inject(1, 0, &p, NULL, 0);
		if (i % 10 == 0)
			scene_run(10 * USEC);
	}
	TAP_CHECK(alive());
	SCENE_END();
}

static void marks__draw_few_notifications(void)
{
	struct vhost_cfg cfg = scene_cfg();

	cfg.roce.rate_bps = cfg.rate_bps;
	cfg.ecn_high = 1; /* everything that waits at all is marked */
	scene_start(1, 2, &cfg);
	scene_connect(&a, 0, &b, 1, NULL, NULL);
	for (u32 i = 0; i < 10; i++)
		TAP_CHECK(!scene_post(&a, i, (struct sop){ .opcode = RACKWIRE_ROCE_WR_RDMA_WRITE, .len = 200000 }));
	for (u32 i = 0; i < 10; i++)
		TAP_CHECK(scene_wait(&devs[0], 100 * SEC, NULL) == 0);
	/* Not one for every mark: at most one per 50 us [DCQCN, SIGCOMM 2015]. */
	TAP_CHECK(scene_count[1][ROCE_CNP] <= net.now / (50 * USEC) + 1);
	SCENE_END();
}

static void garbage__of_every_kind_is_counted(void)
{
	struct rackwire_roce_dev_stats stats;
	struct vrng r = { 9 };

	start(2);
	for (u32 i = 0; i < 50000; i++) {
		u8 bytes[300];
		u32 len = (u32)vrange(&r, 0, sizeof(bytes));

		vpattern_fill(vrand(&r), 0, bytes, len);
		/* Half of it names queue pairs that exist, but no PSN that is due. */
		if (len > 12 && i % 2) {
			roce_put16(bytes + 2, 0xffff);
			bytes[1] &= 0xf0;
			roce_put24(bytes + 5, i % 4 == 1 ? b.num : ROCE_QP_CM);
			roce_put24(bytes + 9, 100 + 0x400000 + (u32)vrange(&r, 0, 0x100000));
		}
		vnet_inject_now(&net, i % 8 ? 0 : 1, 1, bytes, len);
		if (i % 64 == 0)
			scene_run(USEC);
	}
	stats = scene_stats(1);
	TAP_CHECK(stats.rx_packets == 50000 && stats.rx_malformed > 10000 && stats.rx_unknown_qp > 100);
	TAP_CHECK(alive());
	SCENE_END();
}

static void cut_off__at_every_length(void)
{
	start(2);
	for (u32 i = 0; i < sizeof(requests); i++) {
		struct roce_pkt p = forged(requests[i], 0x400000);
		u8 bytes[ROCE_HDR_MAX + 1100] = { 0 };
		u32 len = roce_encode(bytes, &p) + payload_of(requests[i]);

		for (u32 n = 0; n <= len; n++)
			vnet_inject_now(&net, 0, 1, bytes, n);
		scene_run(USEC);
	}
	TAP_CHECK(alive());
	SCENE_END();
}

/* ---- the connection manager ---- */

static u8 request[ROCE_PACKET_MAX]; /* the last REQ that the first device sent */
static u32 request_len;

static bool keep_mad(struct vhost *h, const struct vpkt *pkt)
{
	if (h->index == 0 && pkt->data[0] == ROCE_UD_SEND_ONLY && roce_get16(pkt->data + 20 + 16) == 0x10) {
		request_len = pkt->len - ROCE_ICRC_LEN;
		memcpy(request, pkt->data, request_len);
	}
	return true;
}

#define MAD_AT 20 /* BTH and DETH before it */
#define COMM_ID_AT (MAD_AT + 24)

static void half_open__flood_is_capped(void)
{
	static const u8 any[16];
	static const struct rackwire_roce_conn_param param = { .retry_count = 7, .rnr_retry_count = 7, .ack_timeout = 10,
								.responder_resources = 1, .initiator_depth = 1 };
	struct rackwire_roce_qp_attr attr = { .max_send_wr = 4, .max_recv_wr = 4, .access = SCENE_ALL };
	struct roce_path path;
	struct roce_cm_id *listener, *id;
	struct roce_qp *qp, *theirs;
	u64 with_caps;

	start(3);
	scene_cm = true;
	scene_watch = keep_mad;
	path = vnet_path(&net, 0, 1);
	TAP_CHECK(!roce_cm_listen(devs[1].h->core, any, 4000, 1024, NULL, &listener));
	TAP_CHECK(!roce_qp_create(devs[0].pd, devs[0].cq, devs[0].cq, &attr, NULL, &qp));
	TAP_CHECK(!roce_cm_connect(devs[0].h->core, vhost_clock(devs[0].h), &path, 1, 4000, qp, &param, NULL, &id));
	vhost_touch(devs[0].h);
	scene_run(MSEC);
	TAP_CHECK(devs[1].nrequests == 1 && request_len);
	/* Many more of its like, from another address. */
	for (u32 i = 0; i < 5000; i++) {
		roce_put32(request + COMM_ID_AT, 0x1000 + i);
		roce_put64(request + MAD_AT + 8, 0x123456789000ull + i);
		vnet_inject_now(&net, 2, 1, request, request_len);
		if (i % 16 == 0)
			scene_run(10 * USEC);
	}
	with_caps = devs[1].h->mem.total;
	TAP_CHECK(devs[1].nrequests <= devs[1].h->cfg.roce.max_half_open && scene_info(1).half_open <= devs[1].h->cfg.roce.max_half_open);
	TAP_CHECK(scene_stats(1).cm_refused >= 5000 - devs[1].h->cfg.roce.max_half_open - 1);
	for (u32 i = 0; i < 5000; i++) {
		roce_put32(request + COMM_ID_AT, 0x9000 + i);
		roce_put64(request + MAD_AT + 8, 0x223456789000ull + i);
		vnet_inject_now(&net, 2, 1, request, request_len);
		if (i % 16 == 0)
			scene_run(10 * USEC);
	}
	TAP_CHECK(devs[1].h->mem.total <= with_caps);
	/* The connection that was there first is made, and the old one works. */
	TAP_CHECK(!roce_qp_create(devs[1].pd, devs[1].cq, devs[1].cq, &attr, NULL, &theirs));
	TAP_CHECK(!roce_cm_accept(devs[1].requests[0], vhost_clock(devs[1].h), theirs, &param, NULL));
	vhost_touch(devs[1].h);
	scene_run(100 * MSEC);
	TAP_CHECK(devs[0].cm_events[RACKWIRE_ROCE_CM_ESTABLISHED] == 1 && roce_qp_state(qp) == RACKWIRE_ROCE_QP_RTS);
	for (u32 i = 1; i < devs[1].nrequests; i++)
		TAP_CHECK(!roce_cm_reject(devs[1].requests[i], vhost_clock(devs[1].h), RACKWIRE_ROCE_REJ_CONSUMER, NULL, 0));
	vhost_touch(devs[1].h);
	scene_run(10 * MSEC);
	TAP_CHECK(scene_info(1).half_open == 0);
	memory = devs[1].h->mem.total;
	TAP_CHECK(alive());
	SCENE_END();
}

static void mads__of_random_bytes_do_nothing(void)
{
	static const u8 any[16];
	struct roce_cm_id *listener;
	struct vrng r = { 11 };
	u32 sent;

	half_open__flood_is_capped(); /* leaves a REQ to play with */
	if (tap_failed)
		return;
	start(2);
	scene_cm = true;
	TAP_CHECK(!roce_cm_listen(devs[1].h->core, any, 4000, 16, NULL, &listener));
	sent = packets_of(1);
	for (u32 i = 0; i < 50000; i++) {
		u8 bytes[ROCE_PACKET_MAX];

		memcpy(bytes, request, request_len);
		for (u32 n = (u32)vrange(&r, 1, 8); n; n--)
			bytes[vrange(&r, MAD_AT, request_len - 1)] = (u8)vrand(&r);
		if (vchance(&r, 700000))
			roce_put16(bytes + MAD_AT + 16, (u16)vrange(&r, 0x10, 0x1a));
		vnet_inject_now(&net, 0, 1, bytes, request_len);
		if (i % 16 == 0) {
			scene_run(10 * USEC);
			TAP_CHECK(scene_info(1).half_open <= devs[1].h->cfg.roce.max_half_open);
		}
	}
	scene_run(SEC);
	TAP_CHECK(packets_of(1) - sent <= 50000);
	scene_run(100 * SEC);
	/* Some were withdrawn again; their ids wait for the application to let go. */
	TAP_CHECK(devs[1].nrequests > 0 && devs[1].nrequests <= devs[1].h->cfg.roce.max_cm_ids);
	roce_cm_destroy(listener, vhost_clock(devs[1].h)); /* refuses what it had waiting, if the application has not taken it */
	for (u32 i = 0; i < devs[1].nrequests; i++)
		roce_cm_destroy(devs[1].requests[i], vhost_clock(devs[1].h));
	vhost_touch(devs[1].h);
	scene_run(100 * SEC);
	TAP_CHECK(scene_info(1).half_open == 0 && scene_info(1).cm_ids == 0);
	memory = devs[1].h->mem.total;
	TAP_CHECK(alive());
	SCENE_END();
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(address__of_somebody_else_opens_nothing),
		TAP_TEST(psn__flood_draws_few_answers_and_changes_nothing),
		TAP_TEST(duplicates__are_answered_one_for_one_at_most),
		TAP_TEST(duplicates__of_a_large_read_do_not_pile_up),
		TAP_TEST(reads__beyond_what_was_agreed_are_refused),
		TAP_TEST(answers__to_what_was_never_sent_are_ignored),
		TAP_TEST(answers__that_are_old_change_nothing),
		TAP_TEST(read_responses__nobody_asked_for_write_nothing),
		TAP_TEST(read_response__longer_than_asked_ends_the_read_and_stays_inside),
		TAP_TEST(rnr__storm_ends_when_it_ends),
		TAP_TEST(cnp__flood_slows_but_does_not_stop),
		TAP_TEST(marks__draw_few_notifications),
		TAP_TEST(garbage__of_every_kind_is_counted),
		TAP_TEST(cut_off__at_every_length),
		TAP_TEST(half_open__flood_is_capped),
		TAP_TEST(mads__of_random_bytes_do_nothing),
	};

	return TAP_RUN(tests, argc, argv);
}
