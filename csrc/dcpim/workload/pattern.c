// SPDX-License-Identifier: BSD-2-Clause
#include "pattern.h"

#include <endian.h>
#include <pthread.h>

#define WORDS 4096
#define GOLDEN 0x9e3779b97f4a7c15ull

/* Two words at a time; any 64-bit machine has such registers. */
typedef u64 pair __attribute__((vector_size(16), aligned(8), may_alias));

static u64 table[WORDS] __attribute__((aligned(64)));

static u64 splitmix64(u64 x)
{
	x += GOLDEN;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static void make_table(void)
{
	u32 i;

	for (i = 0; i < WORDS; i++)
		table[i] = splitmix64(i);
}

void work_pattern_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, make_table);
}

static u64 block_key(u64 seed, u64 word)
{
	return splitmix64(seed + GOLDEN * (word / WORDS));
}

static u64 word_at(u64 seed, u64 word)
{
	return htole64(table[word % WORDS] + block_key(seed, word));
}

/* Part of one word, for the ends of a range. */
static void word_bytes(u64 seed, u64 pos, u8 *out, size_t len)
{
	u64 word = word_at(seed, pos / 8);

	memcpy(out, (u8 *)&word + pos % 8, len);
}

/* How much of a range is in the word that it starts in the middle of. */
static size_t head_of(u64 pos, size_t len)
{
	return pos % 8 ? dcpim_min(8 - pos % 8, len) : 0;
}

void work_pattern_fill(u64 seed, u64 pos, u8 *out, size_t len)
{
	size_t n = head_of(pos, len);

	if (n)
		word_bytes(seed, pos, out, n);
	for (pos += n, out += n, len -= n; len >= 8; pos += n, out += n, len -= n) {
		u64 word = pos / 8, key = block_key(seed, word);
		const u64 *t = &table[word % WORDS];
		size_t count = dcpim_min(len / 8, WORDS - word % WORDS), i;

		n = count * 8;
#if __BYTE_ORDER == __LITTLE_ENDIAN
		for (i = 0; i + 8 <= count; i += 8) {
			pair k = { key, key }, w;
			u32 j;

			for (j = 0; j < 8; j += 2) {
				w = *(const pair *)(t + i + j) + k;
				memcpy(out + (i + j) * 8, &w, sizeof(w));
			}
		}
#else
		i = 0;
#endif
		for (; i < count; i++) {
			u64 w = htole64(t[i] + key);

			memcpy(out + i * 8, &w, 8);
		}
	}
	if (len)
		word_bytes(seed, pos, out, len);
}

/* Whether @count words from @t plus @key are at @in. */
static bool words_equal(const u64 *t, u64 key, const u8 *in, size_t count)
{
	u64 differ = 0;
	size_t i = 0;

#if __BYTE_ORDER == __LITTLE_ENDIAN
	pair k = { key, key }, d = { 0, 0 }, w;

	for (; i + 8 <= count; i += 8) {
		u32 j;

		for (j = 0; j < 8; j += 2) {
			memcpy(&w, in + (i + j) * 8, sizeof(w));
			d |= w ^ (*(const pair *)(t + i + j) + k);
		}
	}
	differ = d[0] | d[1];
#endif
	for (; i < count; i++) {
		u64 w;

		memcpy(&w, in + i * 8, 8);
		differ |= le64toh(w) ^ (t[i] + key);
	}
	return !differ;
}

struct difference {
	size_t wrong, first;
};

/* The slow way, which counts. */
static void compare(u64 seed, u64 pos, const u8 *in, size_t len, size_t index, struct difference *d)
{
	size_t i;

	for (i = 0; i < len; i++) {
		u64 word = word_at(seed, (pos + i) / 8);

		if (((u8 *)&word)[(pos + i) % 8] == in[i])
			continue;
		if (!d->wrong++)
			d->first = index + i;
	}
}

size_t work_pattern_check(u64 seed, u64 pos, const u8 *in, size_t len, size_t *first)
{
	struct difference d = { 0, 0 };
	size_t n = head_of(pos, len), at = n;

	compare(seed, pos, in, n, 0, &d);
	for (; len - at >= 8; at += n) {
		u64 word = (pos + at) / 8;
		size_t count = dcpim_min((len - at) / 8, WORDS - word % WORDS);

		n = count * 8;
		if (!words_equal(&table[word % WORDS], block_key(seed, word), in + at, count))
			compare(seed, pos + at, in + at, n, at, &d);
	}
	compare(seed, pos + at, in + at, len - at, at, &d);
	if (d.wrong)
		*first = d.first;
	return d.wrong;
}
