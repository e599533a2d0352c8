// SPDX-License-Identifier: BSD-2-Clause
#include "real.h"

#include <dlfcn.h>

struct real_functions real_functions;

/*
 * Several threads may do this at once; they find the same. What this C library
 * does not have stays NULL, and no program linked with it can ask for it.
 */
void real_resolve(void)
{
#define X(type, name, args) \
	__atomic_store_n(&real_functions.name, (real_##name##_fn *)dlsym(RTLD_NEXT, #name), __ATOMIC_RELEASE);
	REAL_FUNCTIONS(X)
#undef X
}
