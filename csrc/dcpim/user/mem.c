// SPDX-License-Identifier: BSD-2-Clause
#include "mem.h"

#include <stdlib.h>

static const u32 class_size[DCPIM_MEM_CLASSES] = { 128, 512, 2048, 16384, DCPIM_MEM_MAX_POOLED };
/* Kept at most, per class: about 4 MiB of large and 1 MiB of small memory. */
static const u32 class_keep[DCPIM_MEM_CLASSES] = { 1024, 512, 256, 64, 64 };

/* Slab objects kept at most; the large and rare ones go back to malloc at once. */
static const u32 slab_keep[DCPIM_SLABS] = {
	[DCPIM_SLAB_MSG] = 1024,
	[DCPIM_SLAB_SEG] = 4096,
	[DCPIM_SLAB_SPAN] = 1024,
};

static u32 class_of(u32 size)
{
	u32 cls = 0;

	while (cls < DCPIM_MEM_CLASSES && class_size[cls] < size)
		cls++;
	return cls;
}

struct dcpim_mem *dcpim_mem_alloc_large(u32 size)
{
	struct dcpim_mem *mem = malloc(sizeof(*mem) + size);

	if (mem)
		*mem = (struct dcpim_mem){ .refs = 1, .size = size, .cls = DCPIM_MEM_LARGE };
	return mem;
}

void dcpim_mem_adopt(struct dcpim_pool *pool, struct dcpim_mem *mem)
{
	pool->in_use += mem->size;
}

struct dcpim_mem *dcpim_mem_alloc(struct dcpim_pool *pool, u32 size)
{
	u32 cls = class_of(size);
	struct dcpim_mem *mem;

	if (cls == DCPIM_MEM_LARGE) {
		mem = dcpim_mem_alloc_large(size);
		if (!mem)
			return NULL;
	} else if (pool->free[cls]) {
		mem = pool->free[cls];
		pool->free[cls] = mem->next;
		pool->nfree[cls]--;
		pool->kept -= mem->size;
	} else {
		mem = malloc(sizeof(*mem) + class_size[cls]);
		if (!mem)
			return NULL;
		mem->size = class_size[cls];
		mem->cls = cls;
	}
	mem->refs = 1;
	mem->used = 0;
	mem->owner = NULL;
	pool->in_use += mem->size;
	return mem;
}

static void release(struct dcpim_pool *pool, struct dcpim_mem *mem)
{
	pool->in_use -= mem->size;
	if (mem->cls == DCPIM_MEM_LARGE || pool->nfree[mem->cls] >= class_keep[mem->cls]) {
		free(mem);
		return;
	}
	mem->next = pool->free[mem->cls];
	pool->free[mem->cls] = mem;
	pool->nfree[mem->cls]++;
	pool->kept += mem->size;
}

void dcpim_mem_put(struct dcpim_pool *pool, struct dcpim_mem *mem)
{
	mem->refs--;
	/* Only the one who appends is left: an idle connection keeps no buffer. */
	if (mem->refs == 1 && mem->owner) {
		*mem->owner = NULL;
		mem->owner = NULL;
		mem->refs = 0;
	}
	if (!mem->refs)
		release(pool, mem);
}

void *dcpim_slab_alloc(struct dcpim_pool *pool, enum dcpim_slab slab, size_t size)
{
	struct dcpim_slab_node *node = pool->slab[slab];
	void *ptr;

	if (node && pool->slab_size[slab] == size) {
		pool->slab[slab] = node->next;
		pool->nslab[slab]--;
		pool->kept -= size;
		ptr = memset(node, 0, size);
	} else {
		ptr = calloc(1, size);
		if (!ptr)
			return NULL;
	}
	pool->core += size;
	pool->core_objects++;
	return ptr;
}

void dcpim_slab_free(struct dcpim_pool *pool, enum dcpim_slab slab, void *ptr, size_t size)
{
	struct dcpim_slab_node *node = ptr;

	pool->core -= size;
	pool->core_objects--;
	if (pool->nslab[slab] >= slab_keep[slab] || size < sizeof(*node)) {
		free(ptr);
		return;
	}
	pool->slab_size[slab] = (u32)size;
	node->next = pool->slab[slab];
	pool->slab[slab] = node;
	pool->nslab[slab]++;
	pool->kept += size;
}

void dcpim_pool_trim(struct dcpim_pool *pool)
{
	u32 i;

	for (i = 0; i < DCPIM_MEM_CLASSES; i++) {
		struct dcpim_mem *mem;

		while ((mem = pool->free[i])) {
			pool->free[i] = mem->next;
			free(mem);
		}
		pool->nfree[i] = 0;
	}
	for (i = 0; i < DCPIM_SLABS; i++) {
		struct dcpim_slab_node *node;

		while ((node = pool->slab[i])) {
			pool->slab[i] = node->next;
			free(node);
		}
		pool->nslab[i] = 0;
	}
	pool->kept = 0;
}
