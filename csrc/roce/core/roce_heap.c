// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "roce_heap.h"

static void put(struct roce_heap *h, u32 slot, struct roce_timer *t)
{
	h->slots[slot] = t;
	t->slot = slot;
}

static void up(struct roce_heap *h, struct roce_timer *t)
{
	u32 slot = t->slot;

	while (slot > 1 && h->slots[slot / 2]->when > t->when) {
		put(h, slot, h->slots[slot / 2]);
		slot /= 2;
	}
	put(h, slot, t);
}

static void down(struct roce_heap *h, struct roce_timer *t)
{
	u32 slot = t->slot, child;

	while ((child = 2 * slot) <= h->n) {
		if (child < h->n && h->slots[child + 1]->when < h->slots[child]->when)
			child++;
		if (h->slots[child]->when >= t->when)
			break;
		put(h, slot, h->slots[child]);
		slot = child;
	}
	put(h, slot, t);
}

void roce_timer_set(struct roce_heap *h, struct roce_timer *t, u64 when)
{
	if (!roce_timer_on(t)) {
		t->when = when;
		t->slot = ++h->n;
		up(h, t);
	} else if (when < t->when) {
		t->when = when;
		up(h, t);
	} else {
		t->when = when;
		down(h, t);
	}
}

void roce_timer_stop(struct roce_heap *h, struct roce_timer *t)
{
	struct roce_timer *last;
	u32 slot = t->slot;

	if (!slot)
		return;
	t->slot = 0;
	last = h->slots[h->n--];
	if (last == t)
		return;
	put(h, slot, last);
	up(h, last);
	down(h, last);
}
