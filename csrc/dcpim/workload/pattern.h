/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pattern.h: contents that tell where they belong. Word i (8 bytes, little
 * endian) of the pattern of a seed is
 *
 *	table[i % 4096] + splitmix64(seed + 0x9e3779b97f4a7c15 * (i / 4096))
 *
 * where table[j] is splitmix64(j). A byte that is shifted, repeated or from
 * another connection differs, and both making and checking run at the speed of
 * memory, because within 32 KiB nothing but an addition depends on the seed.
 */
#ifndef RACKWIRE_DCPIM_WORK_PATTERN_H
#define RACKWIRE_DCPIM_WORK_PATTERN_H

#include "dcpim/core/dcpim_types.h"

/* Make the table; before anything else, any number of times, any thread. */
void work_pattern_init(void);

/* Bytes @pos to @pos + @len of the pattern. */
void work_pattern_fill(u64 seed, u64 pos, u8 *out, size_t len);

/* Bytes of @in that differ from the pattern at @pos; *first: the first such one's index. */
size_t work_pattern_check(u64 seed, u64 pos, const u8 *in, size_t len, size_t *first);

/*
 * A message or datagram of @len bytes: its number in the first @head bytes (the
 * caller's), then the pattern from number * (len rounded up to 8) + head on.
 */
static inline u64 work_message_pos(u64 number, u32 len, u32 head)
{
	return number * (((u64)len + 7) & ~7ull) + head;
}

#endif
