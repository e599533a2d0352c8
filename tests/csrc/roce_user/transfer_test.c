// SPDX-License-Identifier: BSD-2-Clause
/* Every kind of request over every kind of socket: contents arrive whole, with and without the kernel's offloads. */
#include "pair.h"

static const uint32_t sizes[] = { 1, 3, 8, 255, 256, 257, 1024, 4095, 4096, 4097, 8192, 65536, 100001, 524288 };
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

/* SEND, WRITE, WRITE with immediate and READ of each size, both ways. */
static void transfer(struct end *a, struct end *b)
{
	struct rackwire_roce_wc wc;
	uint64_t there = addr_of(b, 0);
	uint32_t key = rackwire_roce_mr_key(b->mr), i, seed = 1;

	for (i = 0; i < SIZES; i++) {
		uint32_t n = sizes[i];

		TAP_CHECK(!end_post_recv(b, 0, n, 100 + i));
		fill(a->memory, n, ++seed);
		TAP_CHECK(!end_post(a, RACKWIRE_ROCE_WR_SEND, 0, n, 0, 0, i));
		TAP_CHECK(end_complete(b, &wc) == 0 && wc.wr_id == 100 + i && wc.byte_len == n);
		TAP_CHECK(wc.qp_context == b && wc.qp_num == rackwire_roce_qp_num(b->qp));
		TAP_CHECK(end_complete(a, &wc) == 0 && wc.wr_id == i && wc.opcode == RACKWIRE_ROCE_WC_SEND);
		TAP_CHECK(filled(b->memory, n, seed));

		fill(a->memory, n, ++seed);
		TAP_CHECK(!end_post(a, RACKWIRE_ROCE_WR_RDMA_WRITE, 0, n, there, key, i));
		TAP_CHECK(end_complete(a, &wc) == 0 && wc.opcode == RACKWIRE_ROCE_WC_RDMA_WRITE);
		TAP_CHECK(filled(b->memory, n, seed));

		fill(a->memory, n, ++seed);
		TAP_CHECK(!end_post_recv(b, 0, 0, 200 + i));
		TAP_CHECK(!end_post(a, RACKWIRE_ROCE_WR_RDMA_WRITE_WITH_IMM, 0, n, there + 1, key, i));
		TAP_CHECK(end_complete(b, &wc) == 0 && wc.wr_id == 200 + i && wc.ex == 77);
		TAP_CHECK(wc.opcode == RACKWIRE_ROCE_WC_RECV_RDMA_WITH_IMM);
		TAP_CHECK(end_complete(a, &wc) == 0);
		TAP_CHECK(filled(b->memory + 1, n, seed));

		fill(b->memory, n, ++seed);
		memset(a->memory, 0, n);
		TAP_CHECK(!end_post(a, RACKWIRE_ROCE_WR_RDMA_READ, 0, n, there, key, i));
		TAP_CHECK(end_complete(a, &wc) == 0 && wc.opcode == RACKWIRE_ROCE_WC_RDMA_READ);
		TAP_CHECK(filled(a->memory, n, seed));
	}
	memset(b->memory, 0, 8);
	b->memory[0] = 5;
	TAP_CHECK(!end_post(a, RACKWIRE_ROCE_WR_ATOMIC_CMP_AND_SWP, 0, 8, there, key, 1));
	TAP_CHECK(end_complete(a, &wc) == 0 && a->memory[0] == 5 && b->memory[0] == 9);
	TAP_CHECK(!end_post(a, RACKWIRE_ROCE_WR_ATOMIC_FETCH_AND_ADD, 0, 8, there, key, 1));
	TAP_CHECK(end_complete(a, &wc) == 0 && a->memory[0] == 9 && b->memory[0] == 14);
}

static void over(const char *local_a, uint32_t flags_a, const char *local_b, uint32_t flags_b, const char *address)
{
	struct rackwire_roce_dev_stats stats;
	struct end a, b;
	int err;

	err = end_open(&a, local_a, flags_a);
	if (err == -EADDRNOTAVAIL && strchr(local_a, ':'))
		TAP_SKIP("this machine has no IPv6");
	TAP_CHECK(!err);
	TAP_CHECK(!end_open(&b, local_b, flags_b));
	TAP_CHECK(!pair_connect(&a, &b, address));
	transfer(&a, &b);
	if (tap_failed)
		return;
	transfer(&b, &a);
	if (tap_failed)
		return;
	TAP_CHECK(!rackwire_roce_dev_stats(a.dev, &stats) && !stats.rx_bad_icrc && !stats.rx_malformed);
	TAP_CHECK(!rackwire_roce_dev_stats(b.dev, &stats) && !stats.rx_bad_icrc && !stats.rx_malformed);
	end_close(&a);
	end_close(&b);
}

static void transfer__two_addresses(void)
{
	over("127.0.0.1", 0, "127.0.0.2", 0, "127.0.0.2");
}

static void transfer__one_ipv6_address(void)
{
	over("::1", 0, "::1", 0, "::1");
}

static void transfer__one_ipv4_address(void)
{
	over("127.0.0.1", 0, "127.0.0.1", 0, "127.0.0.1");
}

static void transfer__every_address(void)
{
	over("", 0, "127.0.0.2", 0, "127.0.0.2");
}

static void transfer__every_address_ipv6(void)
{
	over("", 0, "::1", 0, "::1");
}

/* The device on one address gets all packets to it, also those of the one on every address. */
static void transfer__handed_on_by_a_specific_address(void)
{
	struct rackwire_roce_dev_stats stats;
	struct end wide, specific, far;

	TAP_CHECK(!end_open(&wide, "", 0));
	TAP_CHECK(!end_open(&specific, "127.0.0.1", 0));
	TAP_CHECK(!end_open(&far, "127.0.0.2", 0));
	TAP_CHECK(!pair_connect(&far, &wide, "127.0.0.1"));
	transfer(&far, &wide);
	if (tap_failed)
		return;
	TAP_CHECK(!rackwire_roce_dev_stats(specific.dev, &stats) && stats.forwarded > 0);
	end_close(&far);
	end_close(&specific);
	end_close(&wide);
}

static void transfer__without_offloads(void)
{
	over("127.0.0.1", RACKWIRE_ROCE_NO_GSO, "127.0.0.2", RACKWIRE_ROCE_NO_GSO, "127.0.0.2");
}

static void transfer__offloads_at_one_end(void)
{
	over("127.0.0.1", 0, "127.0.0.2", RACKWIRE_ROCE_NO_GSO, "127.0.0.2");
}

static void transfer__strict_identification(void)
{
	over("127.0.0.1", RACKWIRE_ROCE_STRICT_ID, "127.0.0.2", RACKWIRE_ROCE_STRICT_ID | RACKWIRE_ROCE_NO_GSO, "127.0.0.2");
}

static void transfer__without_threads(void)
{
	/* A device without a thread moves only while somebody waits on it: here both are one. */
	struct rackwire_roce_dev *dev;
	struct end a, b;

	TAP_CHECK(!dev_open("127.0.0.1", RACKWIRE_ROCE_NO_THREAD, &dev));
	TAP_CHECK(!end_init(&a, dev) && !end_init(&b, dev));
	TAP_CHECK(!pair_connect(&a, &b, "127.0.0.1"));
	transfer(&a, &b);
	if (tap_failed)
		return;
	end_clear(&a);
	end_clear(&b);
	rackwire_roce_close(dev);
}

static void transfer__busy_polling(void)
{
	over("127.0.0.1", RACKWIRE_ROCE_BUSY_POLL, "127.0.0.2", 0, "127.0.0.2");
}

static void transfer__marked_packets(void)
{
	over("127.0.0.1", RACKWIRE_ROCE_ECN, "127.0.0.2", RACKWIRE_ROCE_ECN, "127.0.0.2");
}

/* Many requests under way at once, in order. */
static void transfer__many_at_once(void)
{
	struct rackwire_roce_wc wc[32];
	struct end a, b;
	uint32_t i, done = 0, posted = 0;
	int n, k;

	TAP_CHECK(!end_open(&a, "127.0.0.1", 0));
	TAP_CHECK(!end_open(&b, "127.0.0.2", 0));
	TAP_CHECK(!pair_connect(&a, &b, "127.0.0.2"));
	fill(a.memory, MEMORY, 5);
	while (done < 5000) {
		while (posted < 5000 && posted - done < 200) {
			uint32_t length = posted % 7 ? 16 : 20000;

			i = posted % 32 * 32768;
			TAP_CHECK(!end_post(&a, RACKWIRE_ROCE_WR_RDMA_WRITE, i, length, addr_of(&b, i),
					    rackwire_roce_mr_key(b.mr), posted));
			posted++;
		}
		TAP_CHECK(rackwire_roce_cq_wait(a.cq, 10 * SECOND) == 1);
		n = rackwire_roce_poll_cq(a.cq, wc, 32);
		TAP_CHECK(n >= 0);
		for (k = 0; k < n; k++)
			TAP_CHECK(!wc[k].status && wc[k].wr_id == done++);
	}
	for (i = 0; i < 32; i++)
		TAP_CHECK(!memcmp(a.memory + i * 32768, b.memory + i * 32768, 20000));
	end_close(&a);
	end_close(&b);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(transfer__two_addresses),
		TAP_TEST(transfer__one_ipv4_address),
		TAP_TEST(transfer__one_ipv6_address),
		TAP_TEST(transfer__every_address),
		TAP_TEST(transfer__every_address_ipv6),
		TAP_TEST(transfer__handed_on_by_a_specific_address),
		TAP_TEST(transfer__without_offloads),
		TAP_TEST(transfer__offloads_at_one_end),
		TAP_TEST(transfer__strict_identification),
		TAP_TEST(transfer__without_threads),
		TAP_TEST(transfer__busy_polling),
		TAP_TEST(transfer__marked_packets),
		TAP_TEST(transfer__many_at_once),
	};

	return TAP_RUN(tests, argc, argv);
}
