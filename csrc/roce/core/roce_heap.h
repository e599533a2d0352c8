/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Binary heap of timers, earliest first. Its array is sized once for as many
 * timers as there can be, so setting one never fails.
 */
#ifndef ROCE_HEAP_H
#define ROCE_HEAP_H

#include "roce_types.h"

struct roce_timer {
	u64 when;
	u32 slot; /* in the heap, from 1; 0: not set */
};

struct roce_heap {
	struct roce_timer **slots; /* room for the number of timers plus one; the first is not used */
	u32 n;
};

static inline bool roce_timer_on(const struct roce_timer *t)
{
	return t->slot;
}

static inline u64 roce_heap_first(const struct roce_heap *h)
{
	return h->n ? h->slots[1]->when : ROCE_NEVER;
}

void roce_timer_set(struct roce_heap *h, struct roce_timer *t, u64 when);
void roce_timer_stop(struct roce_heap *h, struct roce_timer *t);

#endif
