/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Intrusive pairing heap, smallest key first: the timers of
 * connections and queue pairs. Insert is O(1), removal O(log n) amortised; no allocation.
 */
#ifndef ROCE_HEAP_H
#define ROCE_HEAP_H

#include "roce_types.h"

struct roce_heap_node {
	struct roce_heap_node *child, *next;
	struct roce_heap_node *prev; /* parent if first child, else left sibling; self when out of any heap */
	u64 key;
};

struct roce_heap {
	struct roce_heap_node *root;
};

static inline void roce_heap_node_init(struct roce_heap_node *n)
{
	n->child = n->next = NULL;
	n->prev = n;
	n->key = ROCE_NEVER;
}

static inline bool roce_heap_queued(const struct roce_heap_node *n)
{
	return n->prev != n;
}

void roce_heap_insert(struct roce_heap *h, struct roce_heap_node *n, u64 key);
void roce_heap_remove(struct roce_heap *h, struct roce_heap_node *n);

#endif
