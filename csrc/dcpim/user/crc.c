// SPDX-License-Identifier: BSD-2-Clause
/* CRC32C by the processor's own instruction where it has one. */
#include "shard.h"

#if defined(__x86_64__)
#include <immintrin.h>

__attribute__((target("sse4.2"))) static u32 crc_sse42(u32 crc, const u8 *p, size_t len)
{
	u64 c = ~crc;

	while (len && (uintptr_t)p & 7) {
		c = _mm_crc32_u8((u32)c, *p++);
		len--;
	}
	for (; len >= 8; len -= 8, p += 8)
		c = _mm_crc32_u64(c, *(const u64 *)p);
	while (len--)
		c = _mm_crc32_u8((u32)c, *p++);
	return ~(u32)c;
}

u32 dcpim_crc32c_fast(u32 crc, const void *data, size_t len)
{
	/* glibc and gcc cache what cpuid says; the test is one load. */
	if (__builtin_cpu_supports("sse4.2"))
		return crc_sse42(crc, data, len);
	return dcpim_crc32c(crc, data, len);
}

#elif defined(__aarch64__)
#include <arm_acle.h>
#include <sys/auxv.h>

#define HWCAP_CRC32_BIT (1UL << 7)

__attribute__((target("+crc"))) static u32 crc_arm(u32 crc, const u8 *p, size_t len)
{
	u64 word;

	crc = ~crc;
	for (; len >= 8; len -= 8, p += 8) {
		memcpy(&word, p, 8);
		crc = __crc32cd(crc, word);
	}
	while (len--)
		crc = __crc32cb(crc, *p++);
	return ~crc;
}

u32 dcpim_crc32c_fast(u32 crc, const void *data, size_t len)
{
	if (getauxval(AT_HWCAP) & HWCAP_CRC32_BIT)
		return crc_arm(crc, data, len);
	return dcpim_crc32c(crc, data, len);
}

#else

u32 dcpim_crc32c_fast(u32 crc, const void *data, size_t len)
{
	return dcpim_crc32c(crc, data, len);
}

#endif
