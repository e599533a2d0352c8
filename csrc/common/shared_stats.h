/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * shared_stats.h: counters and latency histograms in memory that TypeScript
 * allocates (a SharedArrayBuffer) and reads while C writes, without any call.
 *
 * The memory holds one block per writing thread. A block is:
 *
 *   struct rackwire_stats_header        64 bytes
 *   uint64_t counters[n]                padded to 64 bytes
 *   struct rackwire_histogram [m]       each a multiple of 64 bytes
 *
 * A SharedArrayBuffer is not aligned to a cache line, so C starts the first
 * block at the first 64-byte boundary and the reader finds it by its magic
 * number; rackwire_stats_length() leaves room for that. lib/ffi/shared_stats.ts
 * reads the same layout.
 *
 * Threads: each block has exactly one writer. Every word is stored whole, so a
 * reader never sees half a counter. Where several counters must agree, the
 * writer puts the updates between rackwire_stats_begin() and
 * rackwire_stats_end(), and the reader retries until it has seen a quiet block.
 * Histograms are outside that rule: their buckets only grow and the reader
 * takes their sum as the count.
 */
#ifndef RACKWIRE_COMMON_SHARED_STATS_H
#define RACKWIRE_COMMON_SHARED_STATS_H

#include <stddef.h>
#include <stdint.h>

#define RACKWIRE_STATS_MAGIC 0x3153544154535752ULL /* "RWSTATS1" */
#define RACKWIRE_STATS_ALIGN 64

/*
 * Bucket rule, log-linear: a value below 2^(SUB_BITS + 1) has a bucket of its
 * own; above, each power of two is cut into 2^SUB_BITS equal buckets. With 6
 * bits a bucket is at most 1.6 % as wide as its values, and every 64-bit value
 * has a bucket, so nothing is ever clamped.
 *
 *   value < 128: index = value
 *   otherwise:   shift = floor(log2(value)) - 6
 *                index = 64 * shift + (value >> shift)
 */
#define RACKWIRE_HISTOGRAM_SUB_BITS 6
#define RACKWIRE_HISTOGRAM_BUCKETS 3776

struct rackwire_stats_header {
	uint64_t magic;		/* stored last, when the block is ready */
	uint64_t sequence;	/* odd while counters are being updated */
	uint32_t counters;
	uint32_t histograms;
	uint32_t buckets;	/* RACKWIRE_HISTOGRAM_BUCKETS */
	uint32_t reserved[9];
};

struct rackwire_histogram {
	uint64_t sum;
	uint64_t min;		/* UINT64_MAX while empty */
	uint64_t max;
	uint64_t reserved[5];
	uint64_t buckets[RACKWIRE_HISTOGRAM_BUCKETS];
};

/* One block, as its writer sees it. */
struct rackwire_stats {
	struct rackwire_stats_header *header;
	uint64_t *counters;
	struct rackwire_histogram *histograms;
};

/* Bytes of memory for so many blocks of this shape, alignment included. */
size_t rackwire_stats_length(uint32_t blocks, uint32_t counters,
			     uint32_t histograms);

/*
 * Sets up block number `block` (from 0) in memory of `length` bytes, which the
 * caller owns and keeps until the writer has stopped. All counters become 0.
 * Returns 0, -EINVAL without memory, or -ENOSPC where the block does not fit.
 */
int rackwire_stats_init(struct rackwire_stats *stats, void *memory,
			size_t length, uint32_t block, uint32_t counters,
			uint32_t histograms);

static inline void rackwire_stats_begin(struct rackwire_stats *stats)
{
	uint64_t *sequence = &stats->header->sequence;

	__atomic_store_n(sequence, *sequence + 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
}

static inline void rackwire_stats_end(struct rackwire_stats *stats)
{
	uint64_t *sequence = &stats->header->sequence;

	__atomic_store_n(sequence, *sequence + 1, __ATOMIC_RELEASE);
}

/* Adds to a counter; `counter` is below the number given at init. */
static inline void rackwire_stats_add(struct rackwire_stats *stats,
				      uint32_t counter, uint64_t amount)
{
	uint64_t *word = &stats->counters[counter];

	__atomic_store_n(word, *word + amount, __ATOMIC_RELAXED);
}

/* Stores a counter: for gauges, and for totals kept elsewhere. */
static inline void rackwire_stats_set(struct rackwire_stats *stats,
				      uint32_t counter, uint64_t value)
{
	__atomic_store_n(&stats->counters[counter], value, __ATOMIC_RELAXED);
}

static inline uint32_t rackwire_histogram_index(uint64_t value)
{
	uint32_t shift;

	if (value < 2ULL << RACKWIRE_HISTOGRAM_SUB_BITS)
		return (uint32_t)value;
	shift = 63 - (uint32_t)__builtin_clzll(value) -
		RACKWIRE_HISTOGRAM_SUB_BITS;
	return (shift << RACKWIRE_HISTOGRAM_SUB_BITS) +
	       (uint32_t)(value >> shift);
}

/* Smallest value of a bucket. */
static inline uint64_t rackwire_histogram_lower(uint32_t index)
{
	uint32_t shift;

	if (index < 2U << RACKWIRE_HISTOGRAM_SUB_BITS)
		return index;
	shift = (index >> RACKWIRE_HISTOGRAM_SUB_BITS) - 1;
	return (uint64_t)(index - (shift << RACKWIRE_HISTOGRAM_SUB_BITS))
	       << shift;
}

/* Empties a histogram. Its memory is the caller's. */
void rackwire_histogram_reset(struct rackwire_histogram *histogram);

/* Counts one value, usually nanoseconds, in constant time. */
static inline void rackwire_histogram_record(struct rackwire_histogram *histogram,
					     uint64_t value)
{
	uint64_t *bucket = &histogram->buckets[rackwire_histogram_index(value)];

	if (value < histogram->min)
		__atomic_store_n(&histogram->min, value, __ATOMIC_RELAXED);
	if (value > histogram->max)
		__atomic_store_n(&histogram->max, value, __ATOMIC_RELAXED);
	__atomic_store_n(&histogram->sum, histogram->sum + value,
			 __ATOMIC_RELAXED);
	__atomic_store_n(bucket, *bucket + 1, __ATOMIC_RELAXED);
}

#endif
