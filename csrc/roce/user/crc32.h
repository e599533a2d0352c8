/* SPDX-License-Identifier: BSD-2-Clause */
/* The ways of computing roce_crc32() that a processor may have; roce_crc32_fast() chooses. */
#ifndef ROCE_USER_CRC32_H
#define ROCE_USER_CRC32_H

#include "roce/core/roce_icrc.h"

#if defined(__x86_64__)
/* Need SSE4.1 and PCLMULQDQ; the second VPCLMULQDQ and AVX-512 as well. */
u32 roce_crc32_pclmul(u32 crc, const void *data, size_t len);
u32 roce_crc32_vpclmul(u32 crc, const void *data, size_t len);
bool roce_has_pclmul(void);
bool roce_has_vpclmul(void);
#endif

#endif
