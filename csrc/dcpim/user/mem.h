/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mem.h: reference-counted packet memory and the core's slabs. A pool belongs to
 * one shard and is used under its lock.
 */
#ifndef RACKWIRE_DCPIM_MEM_H
#define RACKWIRE_DCPIM_MEM_H

#include "dcpim/core/dcpim.h"

enum {
	DCPIM_MEM_128,
	DCPIM_MEM_512,
	DCPIM_MEM_2K,
	DCPIM_MEM_16K,
	DCPIM_MEM_64K,
	DCPIM_MEM_CLASSES,
	DCPIM_MEM_LARGE = DCPIM_MEM_CLASSES, /* straight from malloc */
};

#define DCPIM_MEM_MAX_POOLED 65536

struct dcpim_mem {
	struct dcpim_mem *next; /* in a free list */
	/* Whoever still appends to this memory and holds one of its references. */
	struct dcpim_mem **owner;
	u32 refs;
	u32 size; /* of data */
	u32 used; /* for the owner */
	u32 cls;
	u8 data[];
};

struct dcpim_slab_node {
	struct dcpim_slab_node *next;
};

struct dcpim_pool {
	struct dcpim_mem *free[DCPIM_MEM_CLASSES];
	u32 nfree[DCPIM_MEM_CLASSES];
	struct dcpim_slab_node *slab[DCPIM_SLABS];
	u32 nslab[DCPIM_SLABS];
	u32 slab_size[DCPIM_SLABS];
	u64 in_use;	/* bytes of struct dcpim_mem with a reference */
	u64 kept;	/* bytes in free lists, slabs included */
	u64 core;	/* bytes the core has allocated */
	u64 core_objects;
};

/* Memory of at least @size bytes with one reference, or NULL. */
struct dcpim_mem *dcpim_mem_alloc(struct dcpim_pool *pool, u32 size);

/* The same outside any lock and pool; dcpim_mem_adopt() under the lock before it is used. */
struct dcpim_mem *dcpim_mem_alloc_large(u32 size);
void dcpim_mem_adopt(struct dcpim_pool *pool, struct dcpim_mem *mem);

void dcpim_mem_put(struct dcpim_pool *pool, struct dcpim_mem *mem);

static inline void dcpim_mem_ref(struct dcpim_mem *mem)
{
	mem->refs++;
}

void *dcpim_slab_alloc(struct dcpim_pool *pool, enum dcpim_slab slab, size_t size);
void dcpim_slab_free(struct dcpim_pool *pool, enum dcpim_slab slab, void *ptr, size_t size);

/* Return what is kept for use to malloc. */
void dcpim_pool_trim(struct dcpim_pool *pool);

#endif
