/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Intrusive pairing heap, smallest key first: timers, and transfers by what
 * remains of them. Insert is O(1), removal O(log n) amortised; no allocation.
 */
#ifndef DCPIM_HEAP_H
#define DCPIM_HEAP_H

#include "dcpim_types.h"

struct dcpim_heap_node {
	struct dcpim_heap_node *child, *next;
	struct dcpim_heap_node *prev; /* parent if first child, else left sibling; self when out of any heap */
	u64 key;
};

struct dcpim_heap {
	struct dcpim_heap_node *root;
};

static inline void dcpim_heap_node_init(struct dcpim_heap_node *n)
{
	n->child = n->next = NULL;
	n->prev = n;
	n->key = DCPIM_NEVER;
}

static inline bool dcpim_heap_queued(const struct dcpim_heap_node *n)
{
	return n->prev != n;
}

void dcpim_heap_insert(struct dcpim_heap *h, struct dcpim_heap_node *n, u64 key);
void dcpim_heap_remove(struct dcpim_heap *h, struct dcpim_heap_node *n);

#endif
