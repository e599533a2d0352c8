// SPDX-License-Identifier: BSD-2-Clause
/*
 * CRC-32 by carry-less multiplication, after V. Gopal et al., "Fast CRC
 * Computation for Generic Polynomials Using PCLMULQDQ Instruction" (Intel, 2009):
 * a remainder is carried over n bits to where it can be added to later data by
 * multiplying its halves by x^(n+32) and x^(n-32) modulo the polynomial. The last
 * 16 bytes that everything was folded into go through the tables.
 */
#include "crc32.h"

#if defined(__x86_64__)
#include <immintrin.h>

/*
 * The multipliers for n bits, first that of the earlier eight bytes. Bits are
 * reflected, and shifted by one because a product of two reflected 64-bit words
 * comes out one bit short of 128.
 */
#define FOLD_128 0x1751997d0, 0x0ccaa009e
#define FOLD_256 0x0f1da05aa, 0x15a546366
#define FOLD_384 0x03db1ecdc, 0x174359406
#define FOLD_512 0x154442bd4, 0x1c6e41596
#define FOLD_2048 0x11542778a, 0x1322d1430

#define SSE __attribute__((target("sse4.1,pclmul")))
#define AVX512 __attribute__((target("sse4.1,pclmul,avx512f,vpclmulqdq")))

static inline SSE __m128i multipliers(u64 earlier, u64 later)
{
	return _mm_set_epi64x((s64)later, (s64)earlier);
}

static inline SSE __m128i fold(__m128i sum, __m128i by, __m128i onto)
{
	__m128i earlier = _mm_clmulepi64_si128(sum, by, 0x00);
	__m128i later = _mm_clmulepi64_si128(sum, by, 0x11);

	return _mm_xor_si128(_mm_xor_si128(earlier, later), onto);
}

static inline SSE __m128i load(const u8 *p, size_t at)
{
	return _mm_loadu_si128((const __m128i *)(p + 16 * at));
}

/* Go on from 16 folded bytes over the rest. */
static inline SSE u32 finish(__m128i sum, const u8 *p, size_t len)
{
	const __m128i by = multipliers(FOLD_128);
	u8 last[16];

	for (; len >= 16; len -= 16, p += 16)
		sum = fold(sum, by, load(p, 0));
	_mm_storeu_si128((__m128i *)last, sum);
	/* From and to the register itself: roce_crc32() inverts it on both ends. */
	return roce_crc32(roce_crc32(~0u, last, sizeof(last)), p, len);
}

SSE u32 roce_crc32_pclmul(u32 crc, const void *data, size_t len)
{
	const u8 *p = data;
	__m128i a, b, c, d;

	if (len < 32)
		return roce_crc32(crc, data, len);
	a = _mm_xor_si128(load(p, 0), _mm_cvtsi32_si128((int)~crc));
	if (len >= 64) {
		const __m128i by = multipliers(FOLD_512);
		const __m128i by_one = multipliers(FOLD_128);

		b = load(p, 1);
		c = load(p, 2);
		d = load(p, 3);
		for (p += 64, len -= 64; len >= 64; p += 64, len -= 64) {
			a = fold(a, by, load(p, 0));
			b = fold(b, by, load(p, 1));
			c = fold(c, by, load(p, 2));
			d = fold(d, by, load(p, 3));
		}
		a = fold(a, by_one, b);
		a = fold(a, by_one, c);
		a = fold(a, by_one, d);
		return finish(a, p, len);
	}
	return finish(a, p + 16, len - 16);
}

static inline AVX512 __m512i fold4(__m512i sum, __m512i by, __m512i onto)
{
	__m512i earlier = _mm512_clmulepi64_epi128(sum, by, 0x00);
	__m512i later = _mm512_clmulepi64_epi128(sum, by, 0x11);

	return _mm512_ternarylogic_epi64(earlier, later, onto, 0x96);
}

static inline AVX512 __m512i load4(const u8 *p, size_t at)
{
	return _mm512_loadu_si512(p + 64 * at);
}

AVX512 u32 roce_crc32_vpclmul(u32 crc, const void *data, size_t len)
{
	const u8 *p = data;
	const __m512i by_2048 = _mm512_broadcast_i32x4(multipliers(FOLD_2048));
	const __m512i by_512 = _mm512_broadcast_i32x4(multipliers(FOLD_512));
	__m512i a, b, c, d;
	__m128i sum;

	if (len < 256)
		return roce_crc32_pclmul(crc, data, len);
	a = _mm512_xor_si512(load4(p, 0), _mm512_zextsi128_si512(_mm_cvtsi32_si128((int)~crc)));
	b = load4(p, 1);
	c = load4(p, 2);
	d = load4(p, 3);
	for (p += 256, len -= 256; len >= 256; p += 256, len -= 256) {
		a = fold4(a, by_2048, load4(p, 0));
		b = fold4(b, by_2048, load4(p, 1));
		c = fold4(c, by_2048, load4(p, 2));
		d = fold4(d, by_2048, load4(p, 3));
	}
	a = fold4(a, by_512, b);
	a = fold4(a, by_512, c);
	a = fold4(a, by_512, d);
	for (; len >= 64; p += 64, len -= 64)
		a = fold4(a, by_512, load4(p, 0));
	sum = _mm512_extracti32x4_epi32(a, 3);
	sum = fold(_mm512_extracti32x4_epi32(a, 2), multipliers(FOLD_128), sum);
	sum = fold(_mm512_extracti32x4_epi32(a, 1), multipliers(FOLD_256), sum);
	sum = fold(_mm512_castsi512_si128(a), multipliers(FOLD_384), sum);
	return finish(sum, p, len);
}

bool roce_has_pclmul(void)
{
	return __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("pclmul");
}

bool roce_has_vpclmul(void)
{
	return roce_has_pclmul() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("vpclmulqdq");
}

#endif
