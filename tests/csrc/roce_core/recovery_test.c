/* SPDX-License-Identifier: BSD-2-Clause */
/* Loss of this packet or that one, peers that are gone, receivers that are not ready. */
#include "scene.h"

static struct sqp a, b;

static void start_at(u32 psn)
{
	struct roce_qp_link link = scene_link();
	struct vhost_cfg cfg = scene_cfg();

	link.sq_psn = psn;
	link.rq_psn = (psn + 17) & 0xffffff;
	scene_start(1, 2, &cfg);
	scene_connect(&a, 0, &b, 1, NULL, &link);
}

static void start(void)
{
	start_at(100);
}

/* One request of each kind goes through although the packets of one opcode get lost. */
static bool survives(u32 host, u8 opcode, u32 times)
{
	struct rackwire_roce_wc wc;
	u64 value = 40;

	start();
	scene_drop[host][opcode] = times;
	memcpy(devs[1].mem + 8192, &value, 8);
	for (u32 i = 0; i < 2; i++)
		if (scene_recv(&b, i, 100000 + 5000 * i, 5000))
			return false;
	if (scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_SEND, .local = 500, .len = 4000 }) ||
	    scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_SEND, .local = 500, .len = 100 }) ||
	    scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_RDMA_WRITE, .local = 20000, .len = 4000 }) ||
	    scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_RDMA_WRITE, .local = 30000, .len = 40 }) ||
	    scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_RDMA_READ, .local = 40000, .len = 4000 }) ||
	    scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_RDMA_READ, .local = 50000, .len = 40 }) ||
	    scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_ATOMIC_FETCH_AND_ADD, .local = 60000, .len = 8,
				       .remote = scene_addr(&devs[1], 8192), .compare_add = 2 }))
		return false;
	memcpy(&value, devs[0].mem + 60000, 8);
	if (value != 40)
		return false;
	memcpy(&value, devs[1].mem + 8192, 8);
	return value == 42 && !scene_wait(&devs[1], SEC, &wc) && wc.byte_len == 4000 && !scene_wait(&devs[1], SEC, &wc) &&
	       wc.byte_len == 100 && scene_wait(&devs[1], SEC, &wc) == ~0u &&
	       !memcmp(devs[1].mem + 100000, devs[0].mem + 500, 4000) && !memcmp(devs[1].mem + 105000, devs[0].mem + 500, 100) &&
	       !memcmp(devs[1].mem + 20000, devs[0].mem + 20000, 4000) && !memcmp(devs[1].mem + 40000, devs[0].mem + 40000, 4000) &&
	       scene_drop[host][opcode] < times && !net.failed;
}

static void loss__of_any_packet_is_repaired(void)
{
	static const u8 requests[] = { ROCE_SEND_FIRST, ROCE_SEND_MIDDLE, ROCE_SEND_LAST, ROCE_SEND_ONLY, ROCE_WRITE_FIRST,
				       ROCE_WRITE_MIDDLE, ROCE_WRITE_LAST, ROCE_WRITE_ONLY, ROCE_READ_REQUEST, ROCE_FETCH_ADD };
	static const u8 answers[] = { ROCE_READ_RESP_FIRST, ROCE_READ_RESP_MIDDLE, ROCE_READ_RESP_LAST, ROCE_READ_RESP_ONLY,
				      ROCE_ACK, ROCE_ATOMIC_ACK };

	for (u32 times = 1; times <= 5; times += 2) {
		for (u32 i = 0; i < sizeof(requests); i++)
			TAP_CHECK(survives(0, requests[i], times));
		for (u32 i = 0; i < sizeof(answers); i++)
			TAP_CHECK(survives(1, answers[i], times));
	}
	SCENE_END();
}

static void psn__wraps_around_under_loss(void)
{
	for (u32 back = 0; back < 12; back++) {
		start_at((0x1000000 - back) & 0xffffff);
		net.links[0][1].loss_ppm = net.links[1][0].loss_ppm = 50000;
		for (u32 i = 0; i < 8; i++) {
			TAP_CHECK(!scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_RDMA_WRITE, .local = 5000 * i, .len = 3000 }));
			TAP_CHECK(!scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_RDMA_READ, .local = 100000, .len = 3000,
							      .remote = scene_addr(&devs[1], 5000 * i) }));
			TAP_CHECK(!memcmp(devs[0].mem + 100000, devs[0].mem + 5000 * i, 3000));
		}
		SCENE_END();
	}
}

static void retries__are_as_many_as_agreed(void)
{
	for (u32 retries = 0; retries <= 7; retries += 7) {
		struct roce_qp_link link = scene_link();
		struct vhost_cfg cfg = scene_cfg();
		struct rackwire_roce_wc wc;
		u64 timeout;

		link.retry_count = (u8)retries;
		link.ack_timeout = 10; /* 4.2 ms */
		timeout = roce_timeout_ns(10);
		scene_start(2, 2, &cfg);
		scene_connect(&a, 0, &b, 1, NULL, &link);
		net.links[0][1].down = true;
		TAP_CHECK(!scene_post(&a, 1, (struct sop){ .opcode = RACKWIRE_ROCE_WR_RDMA_WRITE, .len = 10 }));
		TAP_CHECK(!scene_post(&a, 2, (struct sop){ .opcode = RACKWIRE_ROCE_WR_RDMA_READ, .len = 10 }));
		/* The timer may run for up to four times its nominal value [IBTA 9.7.6.1.3], and back off. */
		TAP_CHECK(scene_wait(&devs[0], (retries + 1) * 4 * timeout + 64 * timeout, &wc) == RACKWIRE_ROCE_WC_RETRY_EXC_ERR);
		TAP_CHECK(wc.wr_id == 1 && net.now >= (retries + 1) * timeout);
		TAP_CHECK(scene_count[0][ROCE_WRITE_ONLY] == retries + 1);
		TAP_CHECK(scene_wait(&devs[0], 0, &wc) == RACKWIRE_ROCE_WC_WR_FLUSH_ERR && wc.wr_id == 2);
		TAP_CHECK(roce_qp_state(a.qp) == RACKWIRE_ROCE_QP_ERR && devs[0].qp_errors == 1);
		SCENE_END();
	}
}

static void retries__begin_anew_after_progress(void)
{
	struct roce_qp_link link = scene_link();
	struct vhost_cfg cfg = scene_cfg();

	link.retry_count = 2;
	scene_start(3, 2, &cfg);
	scene_connect(&a, 0, &b, 1, NULL, &link);
	for (u32 i = 0; i < 20; i++) {
		scene_drop[0][ROCE_WRITE_ONLY] = 2;
		TAP_CHECK(!scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_RDMA_WRITE, .local = 100 * i, .len = 100 }));
	}
	SCENE_END();
}

static void rnr__waits_and_goes_on(void)
{
	struct rackwire_roce_wc wc;
	u64 since;

	start();
	TAP_CHECK(!scene_post(&a, 1, (struct sop){ .opcode = RACKWIRE_ROCE_WR_SEND, .local = 100, .len = 5000 }));
	scene_run(5 * MSEC);
	TAP_CHECK(scene_wait(&devs[0], 0, NULL) == ~0u);
	since = net.now;
	TAP_CHECK(!scene_recv(&b, 7, 100000, 5000));
	TAP_CHECK(scene_wait(&devs[1], SEC, &wc) == 0 && wc.byte_len == 5000);
	TAP_CHECK(scene_wait(&devs[0], SEC, &wc) == 0);
	TAP_CHECK(!memcmp(devs[1].mem + 100000, devs[0].mem + 100, 5000));
	TAP_CHECK(net.now - since < MSEC); /* the timer asked for is 10 us */
	TAP_CHECK(scene_qp_stats(&a).rnr_nak_rx > 10 && scene_qp_stats(&b).rnr_nak_tx >= scene_qp_stats(&a).rnr_nak_rx);
	SCENE_END();
}

static void rnr__gives_up_after_its_retries(void)
{
	for (u32 retries = 0; retries <= 6; retries += 3) {
		struct roce_qp_link link = scene_link();
		struct vhost_cfg cfg = scene_cfg();
		struct rackwire_roce_wc wc;

		link.rnr_retry_count = (u8)retries;
		scene_start(4, 2, &cfg);
		scene_connect(&a, 0, &b, 1, NULL, &link);
		TAP_CHECK(!scene_post(&a, 1, (struct sop){ .opcode = RACKWIRE_ROCE_WR_SEND, .len = 10 }));
		TAP_CHECK(scene_wait(&devs[0], SEC, &wc) == RACKWIRE_ROCE_WC_RNR_RETRY_EXC_ERR && wc.wr_id == 1);
		TAP_CHECK(scene_count[0][ROCE_SEND_ONLY] == retries + 1);
		SCENE_END();
	}
}

static void rnr__waits_as_long_as_the_receiver_asks(void)
{
	struct roce_qp_link link = scene_link();
	struct vhost_cfg cfg = scene_cfg();
	u64 asked;

	link.min_rnr_timer = 20;
	asked = roce_rnr_ns(20);
	scene_start(5, 2, &cfg);
	scene_connect(&a, 0, &b, 1, NULL, &link);
	TAP_CHECK(!scene_post(&a, 1, (struct sop){ .opcode = RACKWIRE_ROCE_WR_SEND, .len = 10 }));
	scene_run(asked);
	TAP_CHECK(scene_count[0][ROCE_SEND_ONLY] == 1);
	TAP_CHECK(!scene_recv(&b, 1, 0, 100));
	scene_run(asked + MSEC);
	TAP_CHECK(scene_count[0][ROCE_SEND_ONLY] == 2 && scene_wait(&devs[0], 0, NULL) == 0);
	SCENE_END();
}

static void duplicates__are_not_executed_again(void)
{
	struct roce_pkt add, write, send;
	u64 value = 0;
	u8 old[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };

	start();
	memcpy(devs[1].mem + 4096, &value, 8);
	for (u32 i = 0; i < 2; i++)
		TAP_CHECK(!scene_recv(&b, i, 0, 100));
	TAP_CHECK(!scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_ATOMIC_FETCH_AND_ADD, .local = 64, .len = 8,
					      .remote = scene_addr(&devs[1], 4096), .compare_add = 1 }));
	TAP_CHECK(!scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_RDMA_WRITE, .local = 9000, .len = 8 }));
	TAP_CHECK(!scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_SEND, .local = 0, .len = 8 }));
	add = scene_last[0][ROCE_FETCH_ADD];
	write = scene_last[0][ROCE_WRITE_ONLY];
	send = scene_last[0][ROCE_SEND_ONLY];
	memset(devs[1].mem + 9000, 0x55, 8);
	for (u32 i = 0; i < 3; i++) {
		u32 acks = scene_count[1][ROCE_ACK] + scene_count[1][ROCE_ATOMIC_ACK];

		scene_inject(0, 1, &add, NULL, 0);
		scene_run(100 * USEC);
		scene_inject(0, 1, &write, old, 8);
		scene_run(100 * USEC);
		scene_inject(0, 1, &send, old, 8);
		scene_run(100 * USEC);
		/* Each is answered again: the first answer may have been lost. */
		TAP_CHECK(scene_count[1][ROCE_ACK] + scene_count[1][ROCE_ATOMIC_ACK] == acks + 3);
		TAP_CHECK(scene_last[1][ROCE_ATOMIC_ACK].orig == 0);
	}
	memcpy(&value, devs[1].mem + 4096, 8);
	TAP_CHECK(value == 1 && devs[1].mem[9000] == 0x55 && devs[1].mem[9007] == 0x55);
	TAP_CHECK(scene_wait(&devs[1], 0, NULL) == 0 && scene_wait(&devs[1], MSEC, NULL) == ~0u);
	TAP_CHECK(scene_qp_stats(&b).duplicates_rx >= 9);
	SCENE_END();
}

static void gap__is_reported_once(void)
{
	start();
	scene_drop[0][ROCE_WRITE_FIRST] = 1;
	TAP_CHECK(!scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_RDMA_WRITE, .local = 0, .len = 30000 }));
	TAP_CHECK(scene_qp_stats(&b).seq_nak_tx == 1 && scene_qp_stats(&a).seq_nak_rx == 1 && scene_qp_stats(&a).timeouts == 0);
	TAP_CHECK(!memcmp(devs[1].mem, devs[0].mem, 30000));
	SCENE_END();
}

static void unreachable__is_told_early(void)
{
	struct rackwire_roce_wc wc;
	struct roce_path path;

	start();
	path = vnet_path(&net, 0, 1);
	vnet_kill(&net.hosts[1]);
	TAP_CHECK(!scene_post(&a, 1, (struct sop){ .opcode = RACKWIRE_ROCE_WR_RDMA_WRITE, .len = 10 }));
	for (u32 i = 0; i < 3; i++) {
		scene_run(100 * USEC);
		roce_unreachable(devs[0].h->core, vhost_clock(devs[0].h), &path, -ECONNREFUSED);
		vhost_touch(devs[0].h);
	}
	/* A hint alone ends nothing that could go on; but it must come to an end. */
	TAP_CHECK(scene_wait(&devs[0], 10 * SEC, &wc) == RACKWIRE_ROCE_WC_RETRY_EXC_ERR);
	SCENE_END();
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(loss__of_any_packet_is_repaired),
		TAP_TEST(psn__wraps_around_under_loss),
		TAP_TEST(retries__are_as_many_as_agreed),
		TAP_TEST(retries__begin_anew_after_progress),
		TAP_TEST(rnr__waits_and_goes_on),
		TAP_TEST(rnr__gives_up_after_its_retries),
		TAP_TEST(rnr__waits_as_long_as_the_receiver_asks),
		TAP_TEST(duplicates__are_not_executed_again),
		TAP_TEST(gap__is_reported_once),
		TAP_TEST(unreachable__is_told_early),
	};

	return TAP_RUN(tests, argc, argv);
}
