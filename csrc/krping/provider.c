// SPDX-License-Identifier: BSD-2-Clause
#include "provider.h"

#include <stdarg.h>
#include <stdio.h>

#include "rackwire_krping.h"

const struct rdma_provider *rdma_provider_of(uint32_t engine)
{
	switch (engine) {
	case RACKWIRE_KRPING_SOFT:
		return &rdma_soft;
	case RACKWIRE_KRPING_VERBS:
		return &rdma_verbs;
	default:
		return NULL;
	}
}

int config_refuse(char *error, size_t length, int result, const char *format, ...)
{
	va_list args;

	if (error && length) {
		va_start(args, format);
		vsnprintf(error, length, format, args);
		va_end(args);
	}
	return result;
}
