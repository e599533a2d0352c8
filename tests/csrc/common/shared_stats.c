// SPDX-License-Identifier: BSD-2-Clause
#include "shared_stats.h"

#include <errno.h>
#include <stdlib.h>

#include "tap.h"

static void histogram_index__small_values_have_their_own(void)
{
	uint64_t value;

	for (value = 0; value < 128; value++) {
		TAP_CHECK(rackwire_histogram_index(value) == value);
		TAP_CHECK(rackwire_histogram_lower((uint32_t)value) == value);
	}
}

static void histogram_index__buckets_follow_each_other(void)
{
	uint32_t i;

	for (i = 0; i + 1 < RACKWIRE_HISTOGRAM_BUCKETS; i++) {
		uint64_t lower = rackwire_histogram_lower(i);
		uint64_t next = rackwire_histogram_lower(i + 1);

		TAP_CHECK(next > lower);
		TAP_CHECK(rackwire_histogram_index(lower) == i);
		TAP_CHECK(rackwire_histogram_index(next - 1) == i);
		/* At most 1/64 of the value. */
		TAP_CHECK(i < 128 || (next - lower) <= lower / 64);
	}
	TAP_CHECK(rackwire_histogram_index(UINT64_MAX) ==
		  RACKWIRE_HISTOGRAM_BUCKETS - 1);
}

static void init__aligns_blocks_apart(void)
{
	size_t length = rackwire_stats_length(3, 5, 1), skew;
	char *memory = malloc(length + 64);

	TAP_CHECK(memory);
	for (skew = 0; skew < 64; skew += 8) {
		struct rackwire_stats stats[3];
		uint32_t i;

		for (i = 0; i < 3; i++) {
			TAP_CHECK(!rackwire_stats_init(&stats[i], memory + skew,
						       length, i, 5, 1));
			TAP_CHECK((uintptr_t)stats[i].header % 64 == 0);
			TAP_CHECK((uintptr_t)stats[i].histograms % 64 == 0);
			rackwire_stats_add(&stats[i], 4, i + 1);
			rackwire_histogram_record(stats[i].histograms, 1000 * i);
		}
		for (i = 0; i < 3; i++) {
			TAP_CHECK(stats[i].counters[4] == i + 1);
			TAP_CHECK(stats[i].counters[0] == 0);
			TAP_CHECK(stats[i].histograms->min == 1000 * i);
			TAP_CHECK(stats[i].histograms->max == 1000 * i);
		}
	}
	free(memory);
}

static void init__refuses_what_does_not_fit(void)
{
	size_t length = rackwire_stats_length(1, 5, 1);
	struct rackwire_stats stats;
	void *memory = aligned_alloc(64, length);

	TAP_CHECK(memory);
	TAP_CHECK(rackwire_stats_init(&stats, NULL, length, 0, 5, 1) == -EINVAL);
	TAP_CHECK(rackwire_stats_init(&stats, memory, length, 1, 5, 1) == -ENOSPC);
	TAP_CHECK(rackwire_stats_init(&stats, memory, length, UINT32_MAX, 5, 1) ==
		  -ENOSPC);
	TAP_CHECK(rackwire_stats_init(&stats, memory, 64, 0, 5, 1) == -ENOSPC);
	TAP_CHECK(rackwire_stats_init(&stats, memory, 0, 0, 0, 0) == -ENOSPC);
	TAP_CHECK(!rackwire_stats_init(&stats, memory, length, 0, 5, 1));
	free(memory);
}

static void sequence__is_odd_while_updating(void)
{
	size_t length = rackwire_stats_length(1, 2, 0);
	struct rackwire_stats stats;
	void *memory = malloc(length);

	TAP_CHECK(memory);
	TAP_CHECK(!rackwire_stats_init(&stats, memory, length, 0, 2, 0));
	TAP_CHECK(stats.header->sequence == 0);
	rackwire_stats_begin(&stats);
	TAP_CHECK(stats.header->sequence == 1);
	rackwire_stats_set(&stats, 1, 7);
	rackwire_stats_end(&stats);
	TAP_CHECK(stats.header->sequence == 2);
	TAP_CHECK(stats.counters[1] == 7);
	free(memory);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(histogram_index__small_values_have_their_own),
		TAP_TEST(histogram_index__buckets_follow_each_other),
		TAP_TEST(init__aligns_blocks_apart),
		TAP_TEST(init__refuses_what_does_not_fit),
		TAP_TEST(sequence__is_odd_while_updating),
	};

	return TAP_RUN(tests, argc, argv);
}
