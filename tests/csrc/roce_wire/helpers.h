/* SPDX-License-Identifier: BSD-2-Clause */
/* Random numbers and exact copies for the tests of RoCEv2's wire formats. */
#ifndef ROCE_WIRE_HELPERS_H
#define ROCE_WIRE_HELPERS_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "roce/core/roce_types.h"

struct random {
	u64 state;
};

/* SplitMix64 */
static inline u64 rnd(struct random *r)
{
	u64 z = r->state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static inline u32 below(struct random *r, u32 n)
{
	return (u32)(rnd(r) % n);
}

static inline void fill(struct random *r, void *bytes, size_t len)
{
	u8 *p = bytes;

	while (len--)
		*p++ = (u8)rnd(r);
}

/* The seed in the environment, or a new one; says which, so that a failure can be run again. */
static inline u64 seed_of_run(void)
{
	const char *wanted = getenv("RACKWIRE_SEED");
	u64 seed = wanted ? strtoull(wanted, NULL, 0) : (u64)time(NULL) * 1000003;

	printf("# RACKWIRE_SEED=%llu\n", (unsigned long long)seed);
	return seed;
}

/*
 * An exact copy that ends where the heap block ends, so that reading one byte
 * beyond it is seen. free_copy() takes what copy_of() gave.
 */
static inline u8 *copy_of(const u8 *bytes, u32 len)
{
	u8 *block = malloc(len + 1);

	if (!block)
		abort();
	if (len)
		memcpy(block + 1, bytes, len);
	return block + 1;
}

static inline void free_copy(u8 *copy)
{
	free(copy - 1);
}

#endif
