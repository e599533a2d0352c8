/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * block_store.h: what an export keeps its data in, and the threads that wait for
 * files. A store may be used by several threads at a time; its operations check
 * nothing, so the range must be inside it.
 */
#ifndef RACKWIRE_KRPING_BLOCK_STORE_H
#define RACKWIRE_KRPING_BLOCK_STORE_H

#include <stddef.h>

#include "block_wire.h"
#include "rackwire_krping_block.h"

struct block_store {
	struct block_about about;
	uint8_t *memory; /* NULL: a file */
	int fd, direct_fd; /* direct_fd -1: all goes through the page cache */
	bool read_nowait, write_nowait; /* worth trying */
};

/* Return: 0; -ENOENT, -EACCES, -EBUSY (another exporter has it), -EINVAL, ... with a line in @error. */
int block_store_open(const struct rackwire_krping_export *wanted, struct block_store **out, char *error, size_t length);
void block_store_close(struct block_store *store);

/* One operation (enum block_op, BLOCK_FUA | ...) may sleep. Return: enum block_status. */
uint32_t block_store_do(struct block_store *store, uint8_t op, uint8_t flags, uint64_t offset, uint32_t length,
			void *data);
/* The same if it can be done at once. Return: -EAGAIN if it cannot; else enum block_status. */
int block_store_try(struct block_store *store, uint8_t op, uint8_t flags, uint64_t offset, uint32_t length,
		    void *data);

/* ---- threads ---- */

struct block_job {
	struct block_job *next;
	struct block_store *store;
	void *owner;
	uint8_t op, flags;
	uint32_t length;
	uint64_t offset;
	void *data;
	uint32_t status; /* once it is done */
};

struct block_pool;

/* @done is called by a pool thread when there is something to collect and was not before. */
int block_pool_open(uint32_t threads, void (*done)(void *context), void *context, struct block_pool **out);
/* Waits for what has begun; jobs not begun are dropped. */
void block_pool_close(struct block_pool *pool);
void block_pool_submit(struct block_pool *pool, struct block_job *job);
/* Finished jobs, as a list. */
struct block_job *block_pool_collect(struct block_pool *pool);

#endif
