// SPDX-License-Identifier: BSD-2-Clause
#include "shared_stats.h"

#include <errno.h>
#include <string.h>

_Static_assert(sizeof(struct rackwire_stats_header) == RACKWIRE_STATS_ALIGN,
	       "the header fills a cache line");
_Static_assert(sizeof(struct rackwire_histogram) % RACKWIRE_STATS_ALIGN == 0,
	       "histograms stay aligned");

static size_t align_up(size_t n)
{
	return (n + RACKWIRE_STATS_ALIGN - 1) & ~(size_t)(RACKWIRE_STATS_ALIGN - 1);
}

static size_t block_length(uint32_t counters, uint32_t histograms)
{
	return sizeof(struct rackwire_stats_header) +
	       align_up((size_t)counters * sizeof(uint64_t)) +
	       (size_t)histograms * sizeof(struct rackwire_histogram);
}

size_t rackwire_stats_length(uint32_t blocks, uint32_t counters,
			     uint32_t histograms)
{
	return (size_t)blocks * block_length(counters, histograms) +
	       RACKWIRE_STATS_ALIGN;
}

void rackwire_histogram_reset(struct rackwire_histogram *histogram)
{
	memset(histogram, 0, sizeof(*histogram));
	histogram->min = UINT64_MAX;
}

int rackwire_stats_init(struct rackwire_stats *stats, void *memory,
			size_t length, uint32_t block, uint32_t counters,
			uint32_t histograms)
{
	uintptr_t start = (uintptr_t)memory;
	size_t one = block_length(counters, histograms);
	size_t skip, offset;
	uint32_t i;
	char *base;

	if (!memory)
		return -EINVAL;
	skip = align_up(start) - start;
	if (skip > length || one > length - skip ||
	    block > (length - skip - one) / one)
		return -ENOSPC;
	offset = skip + (size_t)block * one;

	base = (char *)memory + offset;
	memset(base, 0, one);
	stats->header = (struct rackwire_stats_header *)base;
	base += sizeof(*stats->header);
	stats->counters = (uint64_t *)base;
	base += align_up((size_t)counters * sizeof(uint64_t));
	stats->histograms = (struct rackwire_histogram *)base;
	for (i = 0; i < histograms; i++)
		stats->histograms[i].min = UINT64_MAX;

	stats->header->counters = counters;
	stats->header->histograms = histograms;
	stats->header->buckets = RACKWIRE_HISTOGRAM_BUCKETS;
	__atomic_store_n(&stats->header->magic, RACKWIRE_STATS_MAGIC,
			 __ATOMIC_RELEASE);
	return 0;
}
