// SPDX-License-Identifier: BSD-2-Clause
#include "block_slab.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

int block_slab_open(struct block_slab *slab, const struct rdma_provider *ops, struct rdma_dev *dev, uint32_t chunk,
		    uint32_t count, uint32_t access)
{
	void *memory;
	int err;

	slab->ops = ops;
	slab->chunk = chunk;
	slab->bytes = (uint64_t)chunk * count;
	memory = mmap(NULL, slab->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return -ENOMEM;
	slab->memory = memory;
	slab->free = calloc(count, sizeof(*slab->free));
	if (!slab->free)
		return -ENOMEM;
	while (slab->count < count)
		slab->free[slab->nfree++] = count - ++slab->count;
	err = ops->mr_register(dev, memory, slab->bytes, RACKWIRE_ROCE_LOCAL_WRITE | access, &slab->mr);
	if (err)
		return err;
	slab->lkey = ops->lkey(slab->mr);
	slab->rkey = ops->rkey(slab->mr);
	return 0;
}

void block_slab_close(struct block_slab *slab)
{
	if (slab->mr)
		slab->ops->mr_deregister(slab->mr);
	if (slab->memory)
		munmap(slab->memory, slab->bytes);
	free(slab->free);
}
