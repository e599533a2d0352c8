/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#include "dcpim_rand.h"

static inline __attribute__((always_inline)) void round_(u64 v[4])
{
	v[0] += v[1];
	v[1] = dcpim_rotl(v[1], 13) ^ v[0];
	v[0] = dcpim_rotl(v[0], 32);
	v[2] += v[3];
	v[3] = dcpim_rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = dcpim_rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = dcpim_rotl(v[1], 17) ^ v[2];
	v[2] = dcpim_rotl(v[2], 32);
}

u64 dcpim_siphash(const u64 key[2], const u64 *words, u32 n)
{
	u64 v[4] = { key[0] ^ 0x736f6d6570736575ull, key[1] ^ 0x646f72616e646f6dull,
		     key[0] ^ 0x6c7967656e657261ull, key[1] ^ 0x7465646279746573ull };
	u64 last = (u64)(n * 8 & 0xff) << 56;
	u32 i;

	for (i = 0; i <= n; i++) {
		u64 m = i < n ? words[i] : last;

		v[3] ^= m;
		round_(v);
		round_(v);
		v[0] ^= m;
	}
	v[2] ^= 0xff;
	for (i = 0; i < 4; i++)
		round_(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}
