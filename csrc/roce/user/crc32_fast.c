// SPDX-License-Identifier: BSD-2-Clause
/* Chooses the fastest CRC-32 of the processor. */
#include "crc32.h"

#if defined(__x86_64__)

roce_crc32_fn roce_crc32_fast(void)
{
	if (roce_has_vpclmul())
		return roce_crc32_vpclmul;
	return roce_has_pclmul() ? roce_crc32_pclmul : roce_crc32;
}

#elif defined(__aarch64__)
#include <arm_acle.h>
#include <sys/auxv.h>

#define HWCAP_CRC32_BIT (1UL << 7)

__attribute__((target("+crc"))) static u32 crc32_arm(u32 crc, const void *data, size_t len)
{
	const u8 *p = data;
	u64 word;

	crc = ~crc;
	for (; len >= 8; len -= 8, p += 8) {
		memcpy(&word, p, 8);
		crc = __crc32d(crc, word);
	}
	while (len--)
		crc = __crc32b(crc, *p++);
	return ~crc;
}

roce_crc32_fn roce_crc32_fast(void)
{
	return getauxval(AT_HWCAP) & HWCAP_CRC32_BIT ? crc32_arm : roce_crc32;
}

#else

roce_crc32_fn roce_crc32_fast(void)
{
	return roce_crc32;
}

#endif
