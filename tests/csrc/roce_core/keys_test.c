/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory regions: what a key opens, for how long, and that nothing else opens anything. */
#include "roce/core/roce_qp.h"
#include "scene.h"

static struct sqp a, b;

static void start_with(u32 qp_access)
{
	struct rackwire_roce_qp_attr attr = { .max_send_wr = 64, .max_recv_wr = 64, .max_sge = 2, .access = qp_access };
	struct vhost_cfg cfg = scene_cfg();

	scene_start(1, 2, &cfg);
	scene_connect(&a, 0, &b, 1, &attr, NULL);
}

static void start(void)
{
	start_with(SCENE_ALL);
}

/* Each refusal ends the connection: makes a new one. */
static u32 once(struct sop op)
{
	struct rackwire_roce_wc wc;
	u32 status;

	scene_connect(&a, 0, &b, 1, NULL, NULL);
	status = scene_do(&a, op);
	roce_qp_destroy(a.qp, vhost_clock(devs[0].h));
	roce_qp_destroy(b.qp, vhost_clock(devs[1].h));
	scene_run(USEC);
	while (!net.failed && scene_wait(&devs[1], 0, &wc) != ~0u)
		;
	return status;
}

static struct sop at(u32 opcode, u64 addr, u32 len, u32 key)
{
	return (struct sop){ .opcode = opcode, .local = 100000, .len = len, .remote = addr, .rkey = key };
}

static struct roce_mr *region(u32 from, u32 len, u32 access)
{
	struct roce_mr *mr = NULL;

	if (roce_mr_register(devs[1].pd, devs[1].mem + from, len, access, NULL, &mr))
		vnet_fail(&net, "a region cannot be made");
	return mr;
}

#define WRITE RACKWIRE_ROCE_WR_RDMA_WRITE
#define READ RACKWIRE_ROCE_WR_RDMA_READ
#define REFUSED RACKWIRE_ROCE_WC_REM_ACCESS_ERR

static void bounds__are_exact(void)
{
	static u8 before[SCENE_MEM];
	struct roce_mr *mr;
	u64 base;
	u32 key;

	start();
	mr = region(5000, 3000, SCENE_ALL);
	base = scene_addr(&devs[1], 5000);
	key = roce_mr_key(mr);
	TAP_CHECK(once(at(WRITE, base, 3000, key)) == 0);
	TAP_CHECK(once(at(WRITE, base + 2999, 1, key)) == 0);
	TAP_CHECK(once(at(READ, base, 3000, key)) == 0);
	memcpy(before, devs[1].mem, SCENE_MEM);
	for (u32 opcode = WRITE; opcode <= READ; opcode += READ - WRITE) {
		TAP_CHECK(once(at(opcode, base, 3001, key)) == REFUSED);
		TAP_CHECK(once(at(opcode, base - 1, 3000, key)) == REFUSED);
		TAP_CHECK(once(at(opcode, base + 3000, 1, key)) == REFUSED);
		TAP_CHECK(once(at(opcode, base - 1, 1, key)) == REFUSED);
		TAP_CHECK(once(at(opcode, ~0ull, 1, key)) == REFUSED);
		TAP_CHECK(once(at(opcode, ~0ull - 99, 200, key)) == REFUSED);
		TAP_CHECK(once(at(opcode, base + (1ull << 32), 8, key)) == REFUSED);
		TAP_CHECK(once(at(opcode, 1, 8, key)) == REFUSED);
	}
	TAP_CHECK(!memcmp(before, devs[1].mem, SCENE_MEM));
	SCENE_END();
}

static void rights__of_a_region_are_kept(void)
{
	const u32 l = RACKWIRE_ROCE_LOCAL_WRITE, w = RACKWIRE_ROCE_REMOTE_WRITE, r = RACKWIRE_ROCE_REMOTE_READ,
		  c = RACKWIRE_ROCE_REMOTE_ATOMIC;
	const u32 rights[] = { 0, l, r, l | w, l | r, l | c, l | w | r, l | w | r | c };

	start();
	for (u32 i = 0; i < sizeof(rights) / sizeof(rights[0]); i++) {
		struct roce_mr *mr = region(8192, 64, rights[i]);
		u64 base = scene_addr(&devs[1], 8192);
		u32 key = roce_mr_key(mr);

		TAP_CHECK(once(at(WRITE, base, 8, key)) == (rights[i] & w ? 0 : REFUSED));
		TAP_CHECK(once(at(READ, base, 8, key)) == (rights[i] & r ? 0 : REFUSED));
		TAP_CHECK(once(at(RACKWIRE_ROCE_WR_ATOMIC_FETCH_AND_ADD, base, 8, key)) == (rights[i] & c ? 0 : REFUSED));
		roce_mr_deregister(mr);
	}
	SCENE_END();
}

static void rights__of_a_queue_pair_are_kept(void)
{
	start_with(RACKWIRE_ROCE_REMOTE_READ);
	TAP_CHECK(scene_do(&a, (struct sop){ .opcode = READ, .len = 8 }) == 0);
	TAP_CHECK(scene_do(&a, (struct sop){ .opcode = WRITE, .len = 8 }) != 0);
	start_with(RACKWIRE_ROCE_REMOTE_WRITE);
	TAP_CHECK(scene_do(&a, (struct sop){ .opcode = WRITE, .len = 8 }) == 0);
	TAP_CHECK(scene_do(&a, (struct sop){ .opcode = READ, .len = 8 }) != 0);
	start_with(0);
	TAP_CHECK(scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_ATOMIC_FETCH_AND_ADD, .len = 8 }) != 0);
	SCENE_END();
}

static void register__refuses_what_cannot_be(void)
{
	struct roce_mr *mr;

	start();
	TAP_CHECK(roce_mr_register(devs[1].pd, devs[1].mem, 0, 0, NULL, &mr) == -EINVAL);
	TAP_CHECK(roce_mr_register(devs[1].pd, devs[1].mem, ~0ull, 0, NULL, &mr) == -EINVAL);
	TAP_CHECK(roce_mr_register(devs[1].pd, devs[1].mem, 8, RACKWIRE_ROCE_REMOTE_WRITE, NULL, &mr) == -EINVAL);
	TAP_CHECK(roce_mr_register(devs[1].pd, devs[1].mem, 8, RACKWIRE_ROCE_REMOTE_ATOMIC, NULL, &mr) == -EINVAL);
	SCENE_END();
}

static void domains__are_apart(void)
{
	struct roce_pd *other;
	struct roce_mr *mr;

	start();
	TAP_CHECK(!roce_pd_create(devs[1].h->core, &other));
	TAP_CHECK(!roce_mr_register(other, devs[1].mem, 64, SCENE_ALL, NULL, &mr));
	TAP_CHECK(once(at(WRITE, scene_addr(&devs[1], 0), 8, roce_mr_key(mr))) == REFUSED);
	TAP_CHECK(once(at(READ, scene_addr(&devs[1], 0), 8, roce_mr_key(mr))) == REFUSED);
	/* Nor as a local key. */
	TAP_CHECK(!roce_pd_create(devs[0].h->core, &other));
	TAP_CHECK(!roce_mr_register(other, devs[0].mem, SCENE_MEM, SCENE_ALL, NULL, &mr));
	TAP_CHECK(once((struct sop){ .opcode = WRITE, .len = 8, .lkey = roce_mr_key(mr) }) == RACKWIRE_ROCE_WC_LOC_PROT_ERR);
	SCENE_END();
}

static void local__keys_are_checked(void)
{
	struct roce_mr *mr;
	u32 key;

	start();
	TAP_CHECK(!roce_mr_register(devs[0].pd, devs[0].mem, 1000, 0, NULL, &mr));
	key = roce_mr_key(mr);
	TAP_CHECK(once((struct sop){ .opcode = WRITE, .len = 1000, .lkey = key }) == 0);
	TAP_CHECK(once((struct sop){ .opcode = WRITE, .len = 1001, .lkey = key }) == RACKWIRE_ROCE_WC_LOC_PROT_ERR);
	TAP_CHECK(once((struct sop){ .opcode = WRITE, .local = 999, .len = 2, .lkey = key }) == RACKWIRE_ROCE_WC_LOC_PROT_ERR);
	TAP_CHECK(once((struct sop){ .opcode = READ, .len = 8, .lkey = key }) == RACKWIRE_ROCE_WC_LOC_PROT_ERR);
	TAP_CHECK(once((struct sop){ .opcode = WRITE, .len = 8, .lkey = key ^ 1 }) == RACKWIRE_ROCE_WC_LOC_PROT_ERR);
	SCENE_END();
}

static void receive__with_a_bad_key_fails_alone(void)
{
	struct rackwire_roce_sge sge;
	struct rackwire_roce_recv_wr wr = { .wr_id = 3, .sg_list = &sge, .num_sge = 1 };
	struct rackwire_roce_wc wc;
	u8 before[16];
	u32 done;

	start();
	memcpy(before, devs[1].mem, 16);
	sge = (struct rackwire_roce_sge){ scene_addr(&devs[1], 0), 16, scene_key(&devs[1]) ^ 0x100 };
	TAP_CHECK(!roce_post_recv(b.qp, &wr, 1, &done));
	TAP_CHECK(scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_SEND, .local = 500, .len = 16 }) != 0);
	TAP_CHECK(scene_wait(&devs[1], SEC, &wc) == RACKWIRE_ROCE_WC_LOC_PROT_ERR && wc.wr_id == 3);
	TAP_CHECK(!memcmp(before, devs[1].mem, 16));
	SCENE_END();
}

static void dma_lkey__is_nothing_from_the_wire(void)
{
	struct roce_pkt p = { .opcode = ROCE_WRITE_ONLY, .psn = 100, .rkey = RACKWIRE_ROCE_LOCAL_DMA_LKEY, .dma_len = 8 };
	u8 before[8];

	start();
	memcpy(before, devs[1].mem, 8);
	p.dest_qpn = b.num;
	p.va = scene_addr(&devs[1], 0);
	scene_inject(0, 1, &p, "12345678", 8);
	scene_run(MSEC);
	TAP_CHECK(!memcmp(before, devs[1].mem, 8));
	SCENE_END();
}

static void deregister__ends_a_key_for_good(void)
{
	struct roce_mr *mr;
	u64 base;
	u32 key;

	start();
	mr = region(1000, 1000, SCENE_ALL);
	base = scene_addr(&devs[1], 1000);
	key = roce_mr_key(mr);
	TAP_CHECK(once(at(WRITE, base, 8, key)) == 0);
	roce_mr_deregister(mr);
	for (u32 i = 0; i < 100; i++) { /* whoever gets its place */
		mr = region(1000, 1000, SCENE_ALL);
		TAP_CHECK(roce_mr_key(mr) != key);
		if (i % 10 == 0)
			TAP_CHECK(once(at(i % 20 ? WRITE : READ, base, 8, key)) == REFUSED);
		roce_mr_deregister(mr);
	}
	SCENE_END();
}

static void deregister__stops_a_read_in_the_middle(void)
{
	static u8 before[SCENE_MEM];
	struct rackwire_roce_wc wc;
	struct roce_mr *mr;
	u32 sent;

	start();
	mr = region(0, 100000, SCENE_ALL);
	memcpy(before, devs[0].mem, SCENE_MEM);
	TAP_CHECK(!scene_post(&a, 1, at(READ, scene_addr(&devs[1], 0), 100000, roce_mr_key(mr))));
	scene_run(40 * USEC);
	sent = scene_count[1][ROCE_READ_RESP_MIDDLE];
	TAP_CHECK(sent > 0 && sent < 90);
	roce_mr_deregister(mr);
	memset(devs[1].mem, 0xee, 100000); /* it belongs to somebody else now */
	vhost_touch(devs[1].h);
	TAP_CHECK(scene_wait(&devs[0], SEC, &wc) == REFUSED && wc.wr_id == 1);
	scene_run(MSEC);
	/* Not a byte of the new owner's has left. */
	for (u32 i = 100000; i + 64 < 200000; i += 64)
		TAP_CHECK(memcmp(devs[0].mem + i, devs[1].mem, 64));
	SCENE_END();
}

static void deregister__in_the_middle_of_a_write_lets_no_more_in(void)
{
	struct rackwire_roce_wc wc;
	struct roce_mr *mr;

	start();
	mr = region(0, 100000, SCENE_ALL);
	TAP_CHECK(!scene_post(&a, 1, at(WRITE, scene_addr(&devs[1], 0), 100000, roce_mr_key(mr))));
	scene_run(40 * USEC);
	roce_mr_deregister(mr);
	memset(devs[1].mem, 0xee, 100000);
	vhost_touch(devs[1].h);
	TAP_CHECK(scene_wait(&devs[0], SEC, &wc) == REFUSED);
	scene_run(MSEC);
	for (u32 i = 0; i < 100000; i++)
		TAP_CHECK(devs[1].mem[i] == 0xee);
	SCENE_END();
}

static void reregister__gives_a_new_key_and_new_rights(void)
{
	struct roce_mr *mr;
	u32 old, key;
	u64 base;

	start();
	mr = region(1000, 1000, SCENE_ALL);
	base = scene_addr(&devs[1], 1000);
	old = roce_mr_key(mr);
	TAP_CHECK(!roce_mr_reregister(mr, RACKWIRE_ROCE_REMOTE_READ, &key));
	TAP_CHECK(key != old && roce_mr_key(mr) == key && roce_mr_valid(mr));
	TAP_CHECK(once(at(READ, base, 8, key)) == 0);
	TAP_CHECK(once(at(WRITE, base, 8, key)) == REFUSED);
	TAP_CHECK(once(at(READ, base, 8, old)) == REFUSED);
	SCENE_END();
}

/* On the second device: its own requests. */
static u32 local_request(u32 opcode, struct roce_mr *mr, u32 key, u32 access)
{
	struct rackwire_roce_send_wr wr = { .wr_id = 4, .opcode = opcode, .flags = RACKWIRE_ROCE_SEND_SIGNALED };
	struct rackwire_roce_wc wc;
	u32 done;

	if (opcode == RACKWIRE_ROCE_WR_REG_MR) {
		wr.ex.reg.mr = mr;
		wr.ex.reg.key = key;
		wr.ex.reg.access = access;
	} else {
		wr.ex.rkey = key;
	}
	if (roce_post_send(b.qp, vhost_clock(devs[1].h), &wr, 1, &done))
		return ~0u;
	vhost_touch(devs[1].h);
	return scene_wait(&devs[1], SEC, &wc);
}

static void invalidate__and_register_again(void)
{
	struct roce_mr *mr;
	u32 old, key, again;
	u64 base;

	start();
	mr = region(1000, 1000, SCENE_ALL);
	base = scene_addr(&devs[1], 1000);
	old = roce_mr_key(mr);
	TAP_CHECK(local_request(RACKWIRE_ROCE_WR_LOCAL_INV, NULL, old, 0) == 0 && !roce_mr_valid(mr));
	TAP_CHECK(!roce_mr_next_key(mr, &key) && key != old);
	TAP_CHECK(local_request(RACKWIRE_ROCE_WR_REG_MR, mr, key, SCENE_ALL) == 0 && roce_mr_valid(mr));
	TAP_CHECK(scene_do(&a, at(WRITE, base, 8, key)) == 0);
	/* Again without invalidating first, as krping does: the old one is dead all the same. */
	TAP_CHECK(!roce_mr_next_key(mr, &again) && again != key);
	TAP_CHECK(local_request(RACKWIRE_ROCE_WR_LOCAL_INV, NULL, key, 0) == 0);
	TAP_CHECK(local_request(RACKWIRE_ROCE_WR_REG_MR, mr, again, SCENE_ALL) == 0);
	TAP_CHECK(scene_do(&a, at(WRITE, base, 8, again)) == 0);
	TAP_CHECK(scene_do(&a, at(WRITE, base, 8, key)) == REFUSED);
	TAP_CHECK(once(at(WRITE, base, 8, old)) == REFUSED);
	SCENE_END();
}

static void invalidate__of_what_is_not_there_fails(void)
{
	start();
	TAP_CHECK(local_request(RACKWIRE_ROCE_WR_LOCAL_INV, NULL, 0x12345678, 0) != 0);
	TAP_CHECK(roce_qp_state(b.qp) == RACKWIRE_ROCE_QP_ERR);
	SCENE_END();
}

static void invalidate__from_the_peer_only_in_its_domain(void)
{
	struct roce_pd *other;
	struct roce_mr *mr;

	start();
	TAP_CHECK(!roce_pd_create(devs[1].h->core, &other));
	TAP_CHECK(!roce_mr_register(other, devs[1].mem, 64, SCENE_ALL, NULL, &mr));
	TAP_CHECK(!scene_recv(&b, 1, 0, 100));
	scene_do(&a, (struct sop){ .opcode = RACKWIRE_ROCE_WR_SEND_WITH_INV, .len = 8, .ex = roce_mr_key(mr) });
	scene_run(MSEC);
	TAP_CHECK(roce_mr_valid(mr));
	SCENE_END();
}

static void keys__are_not_guessed_from_one_another(void)
{
	u32 keys[64], ones = 0;

	start();
	for (u32 i = 0; i < 64; i++)
		keys[i] = roce_mr_key(region(0, 64, 0));
	for (u32 i = 1; i < 64; i++)
		ones += (u32)__builtin_popcount(keys[i] ^ keys[i - 1]);
	/* 63 differences of 32 bits each: 1008 expected, 22 deviation. */
	TAP_CHECK(ones > 800 && ones < 1216);
	SCENE_END();
}

/* The vector of eight bytes of SipHash's reference implementation. */
static void randomness__is_siphash(void)
{
	static const u64 key[2] = { 0x0706050403020100, 0x0f0e0d0c0b0a0908 };

	TAP_CHECK(roce_siphash(key, 0x0706050403020100) == 0x93f5f5799a932462);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(bounds__are_exact),
		TAP_TEST(rights__of_a_region_are_kept),
		TAP_TEST(rights__of_a_queue_pair_are_kept),
		TAP_TEST(register__refuses_what_cannot_be),
		TAP_TEST(domains__are_apart),
		TAP_TEST(local__keys_are_checked),
		TAP_TEST(receive__with_a_bad_key_fails_alone),
		TAP_TEST(dma_lkey__is_nothing_from_the_wire),
		TAP_TEST(deregister__ends_a_key_for_good),
		TAP_TEST(deregister__stops_a_read_in_the_middle),
		TAP_TEST(deregister__in_the_middle_of_a_write_lets_no_more_in),
		TAP_TEST(reregister__gives_a_new_key_and_new_rights),
		TAP_TEST(invalidate__and_register_again),
		TAP_TEST(invalidate__of_what_is_not_there_fails),
		TAP_TEST(invalidate__from_the_peer_only_in_its_domain),
		TAP_TEST(keys__are_not_guessed_from_one_another),
		TAP_TEST(randomness__is_siphash),
	};

	return TAP_RUN(tests, argc, argv);
}
