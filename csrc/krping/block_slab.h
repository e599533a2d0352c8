/* SPDX-License-Identifier: BSD-2-Clause */
/* block_slab.h: registered memory for data under way, in chunks of one size. One thread. */
#ifndef RACKWIRE_KRPING_BLOCK_SLAB_H
#define RACKWIRE_KRPING_BLOCK_SLAB_H

#include "provider.h"

struct block_slab {
	const struct rdma_provider *ops;
	uint8_t *memory;
	uint64_t bytes;
	struct rdma_mr *mr;
	uint32_t lkey, rkey;
	uint32_t chunk, count, nfree; /* bytes of one; how many; how many are free */
	uint32_t *free;
};

/* @access: of the peer, enum rackwire_roce_access. Return: 0 or -errno; close in either case. */
int block_slab_open(struct block_slab *slab, const struct rdma_provider *ops, struct rdma_dev *dev, uint32_t chunk,
		    uint32_t count, uint32_t access);
void block_slab_close(struct block_slab *slab);

/* The chunk used last, while caches remember it; NULL: none is left. */
static inline uint8_t *block_slab_get(struct block_slab *slab)
{
	return slab->nfree ? slab->memory + (uint64_t)slab->free[--slab->nfree] * slab->chunk : NULL;
}

static inline void block_slab_put(struct block_slab *slab, uint8_t *chunk)
{
	slab->free[slab->nfree++] = (uint32_t)((uint64_t)(chunk - slab->memory) / slab->chunk);
}

#endif
