// SPDX-License-Identifier: BSD-2-Clause
#include "ping_data.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define FIRST 65u
#define CIRCLE 58u /* 65..122 */
#define RUN (CIRCLE * 64u)

void ping_data_fill(uint8_t *out, uint32_t length, uint64_t number)
{
	uint8_t run[RUN];
	char head[40];
	uint32_t at, n, i;

	if (!length)
		return;
	at = (uint32_t)snprintf(head, sizeof(head), "rdma-ping-%" PRIu64 ": ", number);
	if (at > length)
		at = length;
	memcpy(out, head, at);
	for (i = 0; i < RUN && i < length - at; i++)
		run[i] = (uint8_t)(FIRST + (number + i) % CIRCLE);
	for (; at < length; at += n) {
		n = length - at < RUN ? length - at : RUN;
		memcpy(out + at, run, n);
	}
	out[length - 1] = 0;
}

uint32_t ping_data_string(const uint8_t *data, uint32_t length)
{
	const uint8_t *end = memchr(data, 0, length);

	return end ? (uint32_t)(end - data) + 1 : length;
}

uint64_t ping_data_differ(const uint8_t *a, const uint8_t *b, uint32_t length)
{
	uint64_t wrong = 0;
	uint32_t i;

	if (!memcmp(a, b, length))
		return 0;
	for (i = 0; i < length; i++)
		wrong += a[i] != b[i];
	return wrong;
}
