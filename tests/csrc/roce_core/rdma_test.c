/* SPDX-License-Identifier: BSD-2-Clause */
/* What the verbs do, one at a time, and what posting refuses. */
#include "scene.h"

static struct sqp a, b;

static void start(void)
{
	struct vhost_cfg cfg = scene_cfg();

	scene_start(1, 2, &cfg);
	scene_connect(&a, 0, &b, 1, NULL, NULL);
}

static void write__places_every_length(void)
{
	static const u32 lens[] = { 0, 1, 3, 4, 5, 255, 1023, 1024, 1025, 2047, 2048, 2049, 5000, 65537 };

	start();
	for (u32 i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		u8 before = devs[1].mem[100000 + lens[i]], under = devs[1].mem[99999];

		TAP_CHECK(!scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_RDMA_WRITE, .local = 10 + i, .len = lens[i],
						      .remote = scene_addr(&devs[1], 100000) }));
		TAP_CHECK(!memcmp(devs[1].mem + 100000, devs[0].mem + 10 + i, lens[i]));
		TAP_CHECK(devs[1].mem[100000 + lens[i]] == before && devs[1].mem[99999] == under);
	}
	SCENE_END();
}

static void read__fetches_every_length(void)
{
	static const u32 lens[] = { 0, 1, 4, 255, 1023, 1024, 1025, 2048, 5001, 100001 };

	start();
	for (u32 i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		u8 before = devs[0].mem[100000 + lens[i]];

		TAP_CHECK(!scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_RDMA_READ, .local = 100000, .len = lens[i],
						      .remote = scene_addr(&devs[1], 7 + i) }));
		TAP_CHECK(!memcmp(devs[0].mem + 100000, devs[1].mem + 7 + i, lens[i]));
		TAP_CHECK(devs[0].mem[100000 + lens[i]] == before);
	}
	SCENE_END();
}

static void send__fills_receives_in_order(void)
{
	struct rackwire_roce_wc wc;

	start();
	for (u32 i = 0; i < 4; i++)
		TAP_CHECK(!scene_recv(&b, 50 + i, 10000 * i, 3000));
	for (u32 i = 0; i < 4; i++)
		TAP_CHECK(!scene_post(&a, i, (struct sop){ .opcode = RACKWIRE_ROCE_WR_SEND, .local = 100 * i, .len = 1000 * i }));
	for (u32 i = 0; i < 4; i++) {
		TAP_CHECK(scene_wait(&devs[0], SEC, &wc) == 0 && wc.wr_id == i && wc.opcode == RACKWIRE_ROCE_WC_SEND);
		TAP_CHECK(scene_wait(&devs[1], SEC, &wc) == 0 && wc.wr_id == 50 + i && wc.opcode == RACKWIRE_ROCE_WC_RECV);
		TAP_CHECK(wc.byte_len == 1000 * i && wc.flags == 0 && wc.qp_num == b.num && wc.qp_context == &b);
		TAP_CHECK(!memcmp(devs[1].mem + 10000 * i, devs[0].mem + 100 * i, 1000 * i));
	}
	SCENE_END();
}

static void send__carries_an_immediate(void)
{
	struct rackwire_roce_wc wc;

	start();
	for (u32 len = 0; len <= 2000; len += 2000) {
		TAP_CHECK(!scene_recv(&b, 1, 0, 4096));
		TAP_CHECK(!scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_SEND_WITH_IMM, .len = len, .ex = 0x01020304 }));
		TAP_CHECK(scene_wait(&devs[1], SEC, &wc) == 0 && wc.flags == RACKWIRE_ROCE_WC_WITH_IMM && wc.ex == 0x01020304);
		TAP_CHECK(wc.byte_len == len && wc.opcode == RACKWIRE_ROCE_WC_RECV);
	}
	SCENE_END();
}

static void write__with_immediate_takes_a_receive_and_leaves_its_buffer(void)
{
	struct rackwire_roce_wc wc;
	u8 before[100];

	start();
	memcpy(before, devs[1].mem + 200000, 100);
	for (u32 len = 0; len <= 3000; len += 3000) {
		TAP_CHECK(!scene_recv(&b, 1, 200000, 100));
		TAP_CHECK(!scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_RDMA_WRITE_WITH_IMM, .len = len, .ex = 77 }));
		TAP_CHECK(scene_wait(&devs[1], SEC, &wc) == 0 && wc.flags == RACKWIRE_ROCE_WC_WITH_IMM && wc.ex == 77);
		TAP_CHECK(wc.byte_len == len && wc.opcode == RACKWIRE_ROCE_WC_RECV_RDMA_WITH_IMM);
		TAP_CHECK(!memcmp(devs[1].mem, devs[0].mem, len));
		TAP_CHECK(!memcmp(before, devs[1].mem + 200000, 100));
	}
	SCENE_END();
}

static void atomics__swap_and_add(void)
{
	u64 value = 1000, got;

	start();
	memcpy(devs[1].mem + 4096, &value, 8);
	TAP_CHECK(!scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_ATOMIC_FETCH_AND_ADD, .local = 64, .len = 8,
					      .remote = scene_addr(&devs[1], 4096), .compare_add = 5 }));
	memcpy(&got, devs[0].mem + 64, 8);
	memcpy(&value, devs[1].mem + 4096, 8);
	TAP_CHECK(got == 1000 && value == 1005);
	TAP_CHECK(!scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_ATOMIC_CMP_AND_SWP, .local = 64, .len = 8,
					      .remote = scene_addr(&devs[1], 4096), .compare_add = 1, .swap = 2 }));
	memcpy(&got, devs[0].mem + 64, 8);
	memcpy(&value, devs[1].mem + 4096, 8);
	TAP_CHECK(got == 1005 && value == 1005);
	TAP_CHECK(!scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_ATOMIC_CMP_AND_SWP, .local = 64, .len = 8,
					      .remote = scene_addr(&devs[1], 4096), .compare_add = 1005, .swap = 2 }));
	memcpy(&got, devs[0].mem + 64, 8);
	memcpy(&value, devs[1].mem + 4096, 8);
	TAP_CHECK(got == 1005 && value == 2);
	/* Adding wraps around. */
	TAP_CHECK(!scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_ATOMIC_FETCH_AND_ADD, .local = 64, .len = 8,
					      .remote = scene_addr(&devs[1], 4096), .compare_add = ~0ull }));
	memcpy(&value, devs[1].mem + 4096, 8);
	TAP_CHECK(value == 1);
	SCENE_END();
}

static u32 answered; /* packets of a READ's response that had been sent when the WRITE was */

static bool note_write(struct vhost *h, const struct vpkt *pkt)
{
	if (h->index == 0 && pkt->data[0] == ROCE_WRITE_ONLY)
		answered = scene_count[1][ROCE_READ_RESP_LAST];
	return true;
}

static void fence__waits_for_reads(void)
{
	struct rackwire_roce_wc wc;

	start();
	answered = ~0u;
	scene_watch = note_write;
	TAP_CHECK(!scene_post(&a, 1, (struct sop){ .opcode = RACKWIRE_ROCE_WR_RDMA_READ, .local = 0, .len = 20000,
						   .remote = scene_addr(&devs[1], 50000) }));
	TAP_CHECK(!scene_post(&a, 2, (struct sop){ .opcode = RACKWIRE_ROCE_WR_RDMA_WRITE, .flags = RACKWIRE_ROCE_SEND_FENCE,
						   .local = 30000, .len = 100, .remote = scene_addr(&devs[1], 50000) }));
	TAP_CHECK(scene_wait(&devs[0], SEC, &wc) == 0 && wc.wr_id == 1);
	TAP_CHECK(scene_wait(&devs[0], SEC, &wc) == 0 && wc.wr_id == 2);
	TAP_CHECK(answered == 1 && scene_count[0][ROCE_WRITE_ONLY] == 1);
	SCENE_END();
}

static void reads__are_no_more_at_once_than_agreed(void)
{
	struct roce_qp_link link = scene_link();
	struct vhost_cfg cfg = scene_cfg();
	u32 most = 0, done = 0;

	link.max_rd_atomic = link.max_dest_rd_atomic = 2;
	scene_start(2, 2, &cfg);
	scene_connect(&a, 0, &b, 1, NULL, &link);
	for (u32 i = 0; i < 20; i++)
		TAP_CHECK(!scene_post(&a, i, (struct sop){ .opcode = RACKWIRE_ROCE_WR_RDMA_READ, .local = 2000 * i, .len = 2000 }));
	while (done < 20 && vnet_step(&net, SEC)) {
		u32 open = scene_count[0][ROCE_READ_REQUEST] - scene_count[1][ROCE_READ_RESP_LAST];

		/* A response that has been sent is still on the wire. */
		most = open > most ? open : most;
		while (!scene_wait(&devs[0], 0, NULL))
			done++;
	}
	TAP_CHECK(done == 20 && most <= 2);
	SCENE_END();
}

static void send__with_invalidate_kills_the_key(void)
{
	struct rackwire_roce_wc wc;
	struct roce_mr *mr;
	u32 key;

	start();
	TAP_CHECK(!roce_mr_register(devs[1].pd, devs[1].mem + 1000, 1000, SCENE_ALL, NULL, &mr));
	key = roce_mr_key(mr);
	TAP_CHECK(!scene_recv(&b, 9, 5000, 100));
	TAP_CHECK(!scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_SEND_WITH_INV, .len = 16, .ex = key }));
	TAP_CHECK(scene_wait(&devs[1], SEC, &wc) == 0 && wc.flags == RACKWIRE_ROCE_WC_WITH_INV && wc.ex == key);
	TAP_CHECK(!roce_mr_valid(mr));
	TAP_CHECK(scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_RDMA_WRITE, .len = 16,
					     .remote = scene_addr(&devs[1], 1000), .rkey = key }) == RACKWIRE_ROCE_WC_REM_ACCESS_ERR);
	roce_mr_deregister(mr);
	SCENE_END();
}

static void events__solicited_only_wakes_for_solicited_and_failed(void)
{
	start();
	for (u32 i = 0; i < 8; i++)
		TAP_CHECK(!scene_recv(&b, i, 0, 100));
	TAP_CHECK(roce_cq_arm(devs[1].cq, true) == 0);
	TAP_CHECK(!scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_SEND, .len = 8 }));
	scene_run(MSEC);
	TAP_CHECK(devs[1].cq_events == 0);
	TAP_CHECK(!scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_SEND, .len = 8, .flags = RACKWIRE_ROCE_SEND_SOLICITED }));
	scene_run(MSEC);
	TAP_CHECK(devs[1].cq_events == 1);
	/* Disarmed: one event for one arming. */
	TAP_CHECK(!scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_SEND, .len = 8, .flags = RACKWIRE_ROCE_SEND_SOLICITED }));
	scene_run(MSEC);
	TAP_CHECK(devs[1].cq_events == 1);
	while (!scene_wait(&devs[1], 0, NULL))
		;
	TAP_CHECK(roce_cq_arm(devs[1].cq, true) == 0);
	roce_qp_error(b.qp, vhost_clock(devs[1].h));
	vhost_touch(devs[1].h);
	scene_run(MSEC);
	TAP_CHECK(devs[1].cq_events == 2);
	SCENE_END();
}

static void events__arming_a_queue_that_is_not_empty_says_so(void)
{
	start();
	TAP_CHECK(!scene_post(&a, 1, (struct sop){ .opcode = RACKWIRE_ROCE_WR_RDMA_WRITE, .len = 8 }));
	scene_run(MSEC);
	TAP_CHECK(roce_cq_arm(devs[0].cq, false) == 1);
	TAP_CHECK(scene_wait(&devs[0], 0, NULL) == 0);
	SCENE_END();
}

static void cq__overflow_is_told_and_harms_nobody_else(void)
{
	struct rackwire_roce_qp_attr attr = { .max_send_wr = 64, .max_recv_wr = 1, .access = SCENE_ALL };
	struct vhost_cfg cfg = scene_cfg();
	struct rackwire_roce_wc wc[8];
	struct roce_cq *small, *usual;
	struct sqp c, d;

	scene_start(3, 2, &cfg);
	TAP_CHECK(!roce_cq_create(devs[0].h->core, 4, NULL, &small));
	usual = devs[0].cq;
	devs[0].cq = small;
	scene_connect(&a, 0, &b, 1, &attr, NULL);
	devs[0].cq = usual;
	scene_connect(&c, 0, &d, 1, &attr, NULL);
	for (u32 i = 0; i < 64; i++)
		TAP_CHECK(!scene_post(&a, i, (struct sop){ .opcode = RACKWIRE_ROCE_WR_RDMA_WRITE, .local = 8 * i, .len = 8 }));
	scene_run(10 * MSEC);
	/* What came before is still told. */
	TAP_CHECK(roce_poll_cq(small, wc, 8) == 4 && roce_poll_cq(small, wc, 8) == -EOVERFLOW);
	TAP_CHECK(!scene_do(&c, (struct sop){ .opcode = RACKWIRE_ROCE_WR_RDMA_WRITE, .len = 8 }));
	SCENE_END();
}

static void post__refuses_what_cannot_be(void)
{
	struct rackwire_roce_qp_attr attr = { .max_send_wr = 4, .max_recv_wr = 4, .max_sge = 2, .access = SCENE_ALL };
	struct rackwire_roce_sge sge[3] = { { scene_addr(&devs[0], 0), 8, 0 }, { 0, 0, 0 }, { 0, 0, 0 } };
	struct rackwire_roce_send_wr wr = { .sg_list = sge, .num_sge = 1, .opcode = RACKWIRE_ROCE_WR_SEND };
	struct rackwire_roce_recv_wr recv = { .sg_list = sge, .num_sge = 3 };
	struct vhost_cfg cfg = scene_cfg();
	struct roce_qp *idle;
	u32 done;
	u64 now;

	scene_start(4, 2, &cfg);
	scene_connect(&a, 0, &b, 1, &attr, NULL);
	now = vhost_clock(devs[0].h);
	TAP_CHECK(!roce_qp_create(devs[0].pd, devs[0].cq, devs[0].cq, &attr, NULL, &idle));
	TAP_CHECK(roce_post_send(idle, now, &wr, 1, &done) == -EINVAL && done == 0);
	wr.opcode = RACKWIRE_ROCE_WR_OPCODES;
	TAP_CHECK(roce_post_send(a.qp, now, &wr, 1, &done) == -EINVAL && done == 0);
	wr.opcode = RACKWIRE_ROCE_WR_SEND;
	wr.num_sge = 3;
	TAP_CHECK(roce_post_send(a.qp, now, &wr, 1, &done) == -EINVAL && done == 0);
	TAP_CHECK(roce_post_recv(a.qp, &recv, 1, &done) == -EINVAL && done == 0);
	wr.num_sge = 1;
	sge[0].length = RACKWIRE_ROCE_MAX_INLINE + 1;
	wr.flags = RACKWIRE_ROCE_SEND_INLINE;
	TAP_CHECK(roce_post_send(a.qp, now, &wr, 1, &done) == -EMSGSIZE && done == 0);
	wr.flags = 0;
	sge[0].length = ~0u;
	TAP_CHECK(roce_post_send(a.qp, now, &wr, 1, &done) == -EINVAL && done == 0);
	wr.num_sge = 2;
	sge[0].length = sge[1].length = 0xc0000000u; /* together they wrap around */
	TAP_CHECK(roce_post_send(a.qp, now, &wr, 1, &done) == -EINVAL && done == 0);
	wr.num_sge = 1;
	sge[0].length = 8;
	wr.opcode = RACKWIRE_ROCE_WR_ATOMIC_FETCH_AND_ADD;
	wr.remote_addr = scene_addr(&devs[1], 0) + 4;
	TAP_CHECK(roce_post_send(a.qp, now, &wr, 1, &done) == -EINVAL && done == 0);
	/* The queue holds four. */
	wr.opcode = RACKWIRE_ROCE_WR_RDMA_WRITE;
	wr.remote_addr = scene_addr(&devs[1], 0);
	wr.rkey = scene_key(&devs[1]);
	for (u32 i = 0; i < 4; i++)
		TAP_CHECK(!roce_post_send(a.qp, now, &wr, 1, &done) && done == 1);
	TAP_CHECK(roce_post_send(a.qp, now, &wr, 1, &done) == -ENOMEM && done == 0);
	SCENE_END();
}

static void post__takes_the_first_ones_of_a_list_with_a_bad_one(void)
{
	struct rackwire_roce_send_wr wr[3] = { { .opcode = RACKWIRE_ROCE_WR_RDMA_WRITE, .flags = RACKWIRE_ROCE_SEND_SIGNALED, .wr_id = 5 } };
	struct rackwire_roce_wc wc;
	u32 done;

	start();
	wr[1] = wr[2] = wr[0];
	wr[1].wr_id = 6;
	wr[2].opcode = 99;
	TAP_CHECK(roce_post_send(a.qp, vhost_clock(devs[0].h), wr, 3, &done) == -EINVAL && done == 2);
	vhost_touch(devs[0].h);
	TAP_CHECK(scene_wait(&devs[0], SEC, &wc) == 0 && wc.wr_id == 5);
	TAP_CHECK(scene_wait(&devs[0], SEC, &wc) == 0 && wc.wr_id == 6);
	TAP_CHECK(scene_wait(&devs[0], MSEC, &wc) == ~0u);
	SCENE_END();
}

static void error__flushes_both_queues_in_order(void)
{
	struct rackwire_roce_wc wc;
	u32 sends = 0, recvs = 0;

	start();
	net.links[0][1].down = true;
	for (u32 i = 0; i < 5; i++) {
		TAP_CHECK(!scene_post(&a, i, (struct sop){ .opcode = RACKWIRE_ROCE_WR_SEND, .len = 100, .quiet = i & 1 }));
		TAP_CHECK(!scene_recv(&a, 100 + i, 0, 100));
	}
	scene_run(100 * USEC);
	roce_qp_error(a.qp, vhost_clock(devs[0].h));
	vhost_touch(devs[0].h);
	while (scene_wait(&devs[0], MSEC, &wc) != ~0u) {
		TAP_CHECK(wc.status == RACKWIRE_ROCE_WC_WR_FLUSH_ERR);
		if (wc.wr_id < 100)
			TAP_CHECK(wc.wr_id == sends++);
		else
			TAP_CHECK(wc.wr_id == 100 + recvs++);
	}
	TAP_CHECK(sends == 5 && recvs == 5 && roce_qp_state(a.qp) == RACKWIRE_ROCE_QP_ERR);
	SCENE_END();
}

static void caps__are_kept(void)
{
	struct vhost_cfg cfg = scene_cfg();
	struct rackwire_roce_qp_attr attr = { 0 };
	struct roce_qp *qps[3];
	struct roce_mr *mr;
	struct roce_pd *pd;
	struct roce_cq *cq;

	cfg.roce.max_qps = 2;
	cfg.roce.max_mrs = 2;
	cfg.roce.max_pds = 1;
	cfg.roce.max_cqs = 1;
	scene_start(5, 1, &cfg);
	TAP_CHECK(roce_pd_create(devs[0].h->core, &pd) == -ENFILE);
	TAP_CHECK(roce_cq_create(devs[0].h->core, 1, NULL, &cq) == -ENFILE);
	TAP_CHECK(!roce_mr_register(devs[0].pd, devs[0].mem, 1, 0, NULL, &mr));
	TAP_CHECK(roce_mr_register(devs[0].pd, devs[0].mem, 1, 0, NULL, &mr) == -ENFILE);
	for (u32 i = 0; i < 2; i++)
		TAP_CHECK(!roce_qp_create(devs[0].pd, devs[0].cq, devs[0].cq, &attr, NULL, &qps[i]));
	TAP_CHECK(roce_qp_create(devs[0].pd, devs[0].cq, devs[0].cq, &attr, NULL, &qps[2]) == -ENFILE);
	TAP_CHECK(roce_pd_destroy(devs[0].pd) == -EBUSY && roce_cq_destroy(devs[0].cq) == -EBUSY);
	roce_qp_destroy(qps[0], vhost_clock(devs[0].h));
	TAP_CHECK(!roce_qp_create(devs[0].pd, devs[0].cq, devs[0].cq, &attr, NULL, &qps[2]));
	SCENE_END();
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(write__places_every_length),
		TAP_TEST(read__fetches_every_length),
		TAP_TEST(send__fills_receives_in_order),
		TAP_TEST(send__carries_an_immediate),
		TAP_TEST(write__with_immediate_takes_a_receive_and_leaves_its_buffer),
		TAP_TEST(atomics__swap_and_add),
		TAP_TEST(fence__waits_for_reads),
		TAP_TEST(reads__are_no_more_at_once_than_agreed),
		TAP_TEST(send__with_invalidate_kills_the_key),
		TAP_TEST(events__solicited_only_wakes_for_solicited_and_failed),
		TAP_TEST(events__arming_a_queue_that_is_not_empty_says_so),
		TAP_TEST(cq__overflow_is_told_and_harms_nobody_else),
		TAP_TEST(post__refuses_what_cannot_be),
		TAP_TEST(post__takes_the_first_ones_of_a_list_with_a_bad_one),
		TAP_TEST(error__flushes_both_queues_in_order),
		TAP_TEST(caps__are_kept),
	};

	return TAP_RUN(tests, argc, argv);
}
