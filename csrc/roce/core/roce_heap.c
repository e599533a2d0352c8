/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#include "roce_heap.h"

static struct roce_heap_node *meld(struct roce_heap_node *a, struct roce_heap_node *b)
{
	struct roce_heap_node *t;

	if (!a)
		return b;
	if (!b)
		return a;
	if (b->key < a->key) {
		t = a;
		a = b;
		b = t;
	}
	b->prev = a;
	b->next = a->child;
	if (a->child)
		a->child->prev = b;
	a->child = b;
	return a;
}

/* The usual two passes: meld siblings in pairs left to right, then all of them right to left. */
static struct roce_heap_node *meld_siblings(struct roce_heap_node *n)
{
	struct roce_heap_node *pairs = NULL, *root = NULL, *a, *b, *next;

	while (n) {
		a = n;
		b = a->next;
		next = b ? b->next : NULL;
		a->next = NULL;
		if (b)
			b->next = NULL;
		a = meld(a, b);
		a->next = pairs;
		pairs = a;
		n = next;
	}
	while (pairs) {
		next = pairs->next;
		pairs->next = NULL;
		root = meld(root, pairs);
		pairs = next;
	}
	return root;
}

void roce_heap_insert(struct roce_heap *h, struct roce_heap_node *n, u64 key)
{
	n->key = key;
	n->child = n->next = NULL;
	h->root = meld(h->root, n);
	h->root->prev = NULL;
}

void roce_heap_remove(struct roce_heap *h, struct roce_heap_node *n)
{
	struct roce_heap_node *sub;

	if (!roce_heap_queued(n))
		return;
	sub = meld_siblings(n->child);
	if (n == h->root) {
		h->root = sub;
	} else {
		if (n->prev->child == n)
			n->prev->child = n->next;
		else
			n->prev->next = n->next;
		if (n->next)
			n->next->prev = n->prev;
		h->root = meld(h->root, sub);
	}
	if (h->root)
		h->root->prev = NULL;
	roce_heap_node_init(n);
}
