/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Randomness from a seed passed in (xoshiro256**, Blackman and Vigna 2018) and
 * keyed hashing of what peers choose (SipHash-2-4, Aumasson and Bernstein 2012).
 */
#ifndef DCPIM_RAND_H
#define DCPIM_RAND_H

#include "dcpim_types.h"

struct dcpim_rand {
	u64 s[4];
};

static inline u64 dcpim_rotl(u64 x, unsigned int k)
{
	return (x << k) | (x >> (64 - k));
}

static inline u64 dcpim_splitmix(u64 *x)
{
	u64 z = (*x += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static inline void dcpim_rand_init(struct dcpim_rand *r, const u64 seed[2])
{
	u64 a = seed[0], b = seed[1];

	r->s[0] = dcpim_splitmix(&a);
	r->s[1] = dcpim_splitmix(&b);
	r->s[2] = dcpim_splitmix(&a);
	r->s[3] = dcpim_splitmix(&b) | 1;
}

static inline u64 dcpim_rand64(struct dcpim_rand *r)
{
	u64 out = dcpim_rotl(r->s[1] * 5, 7) * 9, t = r->s[1] << 17;

	r->s[2] ^= r->s[0];
	r->s[3] ^= r->s[1];
	r->s[1] ^= r->s[2];
	r->s[0] ^= r->s[3];
	r->s[2] ^= t;
	r->s[3] = dcpim_rotl(r->s[3], 45);
	return out;
}

/* Uniform enough below n, n > 0 and small. */
static inline u32 dcpim_rand_below(struct dcpim_rand *r, u32 n)
{
	return (u32)(((dcpim_rand64(r) >> 32) * n) >> 32);
}

/* SipHash-2-4 of whole 64-bit words. */
u64 dcpim_siphash(const u64 key[2], const u64 *words, u32 n);

#endif
