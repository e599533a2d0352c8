/* SPDX-License-Identifier: BSD-2-Clause */
/* How much of a link connections use, in virtual time, alone and together. */
#include <stdlib.h>

#include "scene.h"

#define MESSAGE 65536u
#define DEPTH 8

struct flow {
	struct sqp near, far;
	u64 done;
};

static struct flow flows[SCENE_QPS];

static void feed(struct flow *f, u32 opcode)
{
	struct rackwire_roce_wc wc[16];
	int n;

	while ((n = roce_poll_cq(f->near.dev->cq, wc, 16)) > 0)
		for (int i = 0; i < n; i++) {
			struct flow *of = &flows[wc[i].wr_id];

			if (wc[i].status)
				vnet_fail(&net, "flow %llu fails with %u", (unsigned long long)wc[i].wr_id, wc[i].status);
			of->done += MESSAGE;
			if (scene_post(&of->near, wc[i].wr_id, (struct sop){ .opcode = opcode, .len = MESSAGE }))
				vnet_fail(&net, "a request cannot be posted");
		}
}

static void run(u32 nflows, u32 opcode, u64 ns)
{
	u64 until = net.now + ns;

	while (vnet_step(&net, until))
		for (u32 i = 0; i < nflows; i++)
			feed(&flows[i], opcode);
	if (!net.failed)
		net.now = until;
}

static void begin(u32 nflows, u32 opcode)
{
	for (u32 i = 0; i < nflows; i++)
		for (u32 k = 0; k < DEPTH; k++)
			scene_post(&flows[i].near, i, (struct sop){ .opcode = opcode, .len = MESSAGE });
}

/* Percent of the wire's bits that carried payload. */
static u64 share(u64 bytes, u64 ns)
{
	return bytes * 8 * 100 / (ns * 10);
}

static void one_flow(const char *name, u32 opcode, u32 mtu, u32 loss_ppm, u64 least)
{
	struct roce_qp_link link = scene_link();
	struct vhost_cfg cfg = scene_cfg();

	cfg.roce.mtu = mtu;
	cfg.nic_queue = 2 * mtu;
	link.mtu = mtu;
	memset(flows, 0, sizeof(flows));
	scene_start(1, 2, &cfg);
	scene_connect(&flows[0].near, 0, &flows[0].far, 1, NULL, &link);
	net.links[0][1].loss_ppm = net.links[1][0].loss_ppm = loss_ppm;
	begin(1, opcode);
	run(1, opcode, 20 * MSEC);
	printf("# %s, path MTU %u, %u lost of a million: %llu %% of 10 Gb/s\n", name, mtu, loss_ppm,
	       (unsigned long long)share(flows[0].done, net.now));
	TAP_CHECK(share(flows[0].done, net.now) >= least);
	SCENE_END();
}

static void alone__writes_fill_the_link(void)
{
	one_flow("WRITE", RACKWIRE_ROCE_WR_RDMA_WRITE, 1024, 0, 85);
	if (!tap_failed)
		one_flow("WRITE", RACKWIRE_ROCE_WR_RDMA_WRITE, 4096, 0, 90);
}

static void alone__reads_fill_the_link(void)
{
	one_flow("READ", RACKWIRE_ROCE_WR_RDMA_READ, 1024, 0, 80);
	if (!tap_failed)
		one_flow("READ", RACKWIRE_ROCE_WR_RDMA_READ, 4096, 0, 85);
}

static void alone__loss_costs_what_it_must(void)
{
	one_flow("WRITE", RACKWIRE_ROCE_WR_RDMA_WRITE, 1024, 1000, 20);
	if (!tap_failed)
		one_flow("READ", RACKWIRE_ROCE_WR_RDMA_READ, 1024, 1000, 5);
}

/* Four senders into one receiver whose port marks. */
static void four__flows_share_a_marking_port(void)
{
	struct vhost_cfg cfg = scene_cfg();
	u64 before[4], least = ~0ull, most = 0, sum = 0, lost = 0, again = 0, packets = 0;
	const u64 half = 150 * MSEC;

	cfg.roce.rate_bps = cfg.rate_bps;
	cfg.port_queue = 512 << 10;
	cfg.ecn_low = 20 << 10;
	cfg.ecn_high = 200 << 10;
	memset(flows, 0, sizeof(flows));
	scene_start(7, 5, &cfg);
	for (u32 i = 0; i < 4; i++)
		scene_connect(&flows[i].near, i, &flows[i].far, 4, NULL, NULL);
	begin(4, RACKWIRE_ROCE_WR_RDMA_WRITE);
	run(4, RACKWIRE_ROCE_WR_RDMA_WRITE, half);
	for (u32 i = 0; i < 4; i++)
		before[i] = flows[i].done;
	run(4, RACKWIRE_ROCE_WR_RDMA_WRITE, half);
	SCENE_OK();
	for (u32 i = 0; i < 4; i++) {
		struct rackwire_roce_qp_stats stats = scene_qp_stats(&flows[i].near);
		u64 bytes = flows[i].done - before[i];

		least = bytes < least ? bytes : least;
		most = bytes > most ? bytes : most;
		sum += bytes;
		again += stats.rtx_packets;
		packets += stats.tx_packets;
		printf("# flow %u: %llu %% of the link, %llu notifications\n", i, (unsigned long long)share(bytes, half),
		       (unsigned long long)stats.cnp_rx);
	}
	for (u32 i = 0; i < 5; i++)
		lost += net.hosts[i].port_drops;
	printf("# together %llu %%, %llu dropped at the port, %llu of %llu packets sent again\n",
	       (unsigned long long)share(sum, half), (unsigned long long)lost, (unsigned long long)again,
	       (unsigned long long)packets);
	TAP_CHECK(most <= 2 * least);
	TAP_CHECK(share(sum, half) >= 60);
	TAP_CHECK(again * 50 <= packets);
	SCENE_END();
}

/* The same without marks: what is dropped is repaired, and everybody gets on. */
static void four__flows_share_a_dropping_port(void)
{
	struct vhost_cfg cfg = scene_cfg();
	u64 sum = 0;

	cfg.port_queue = 64 << 10;
	memset(flows, 0, sizeof(flows));
	scene_start(8, 5, &cfg);
	for (u32 i = 0; i < 4; i++)
		scene_connect(&flows[i].near, i, &flows[i].far, 4, NULL, NULL);
	begin(4, RACKWIRE_ROCE_WR_RDMA_WRITE);
	run(4, RACKWIRE_ROCE_WR_RDMA_WRITE, 100 * MSEC);
	SCENE_OK();
	for (u32 i = 0; i < 4; i++) {
		sum += flows[i].done;
		TAP_CHECK(flows[i].done > 0);
	}
	printf("# together %llu %%, %llu dropped at the port\n", (unsigned long long)share(sum, 100 * MSEC),
	       (unsigned long long)net.hosts[4].port_drops);
	SCENE_END();
}

static void many__connections_have_their_turn(void)
{
	struct rackwire_roce_qp_attr attr = { .max_send_wr = 16, .max_recv_wr = 1, .access = SCENE_ALL };
	struct vhost_cfg cfg = scene_cfg();
	u64 least = ~0ull, most = 0;

	cfg.roce.max_qps = SCENE_QPS;
	memset(flows, 0, sizeof(flows));
	scene_start(9, 2, &cfg);
	for (u32 i = 0; i < SCENE_QPS; i++)
		scene_connect(&flows[i].near, 0, &flows[i].far, 1, &attr, NULL);
	begin(SCENE_QPS, RACKWIRE_ROCE_WR_RDMA_WRITE);
	while (vnet_step(&net, 200 * MSEC))
		feed(&flows[0], RACKWIRE_ROCE_WR_RDMA_WRITE); /* one CQ for all */
	SCENE_OK();
	for (u32 i = 0; i < SCENE_QPS; i++) {
		least = flows[i].done < least ? flows[i].done : least;
		most = flows[i].done > most ? flows[i].done : most;
	}
	printf("# %u connections: %llu to %llu bytes each\n", SCENE_QPS, (unsigned long long)least, (unsigned long long)most);
	TAP_CHECK(least && most <= 2 * least);
	SCENE_END();
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(alone__writes_fill_the_link),
		TAP_TEST(alone__reads_fill_the_link),
		TAP_TEST(alone__loss_costs_what_it_must),
		TAP_TEST(four__flows_share_a_marking_port),
		TAP_TEST(four__flows_share_a_dropping_port),
		TAP_TEST(many__connections_have_their_turn),
	};

	return TAP_RUN(tests, argc, argv);
}
