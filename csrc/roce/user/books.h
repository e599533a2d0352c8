/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * books.h: which devices of a user share a UDP port of a network namespace, kept
 * in a file that all of them map. The directory is one that only the user can
 * enter. Locks on the file's bytes (of open file descriptions, so they end with
 * the process) say who is alive: byte 0 guards the books, byte n is slot n's.
 */
#ifndef ROCE_USER_BOOKS_H
#define ROCE_USER_BOOKS_H

#include "dev.h"

#define ROCE_PORT_BYTES (65536 / 8)

struct share_slot {
	u32 index;    /* place in the kernel's group */
	u32 doorbell; /* atomic: messages put into its unix socket */
	u8 addr[16];
	u32 scope;
	u16 family;
	u16 wildcard;
	u8 listens[ROCE_PORT_BYTES];  /* rdma_cm ports */
	u8 listened[ROCE_PORT_BYTES]; /* ports it gave up: late repetitions of connection requests are its */
};

struct roce_share_file {
	u32 magic, version;
	u32 next; /* slot to try next: a number just given up is not taken at once */
	u32 reserved;
	u64 changed_at;
	u8 used[256]; /* atomic */
	struct share_slot slots[ROCE_SLOTS + 1]; /* [0]: nobody's */
};

/* Find or make the books, open, lock and map them. Return: 0; -ESTALE: they were just removed, try again. */
int roce_books_open(struct rackwire_roce_dev *dev);
/* Nobody is in them: remove them. */
void roce_books_remove(const struct roce_share *sh);
/* Books of other ports and namespaces that killed processes left behind would pile up. */
void roce_books_sweep(const struct roce_share *sh);
/* @wait: for two seconds. */
int roce_books_lock(const struct roce_share *sh, bool wait);
void roce_books_unlock(const struct roce_share *sh);
int roce_books_byte_lock(int fd, u32 byte, short type);
bool roce_books_byte_locked(int fd, u32 byte); /* by another open file */

bool roce_books_used(const struct roce_share_file *file, u32 slot);
/* One address: the kernel chooses between them. */
bool roce_books_same_group(const struct share_slot *a, const struct share_slot *b);
/* Would both get a packet to some address? */
bool roce_books_overlap(const struct share_slot *a, const struct share_slot *b);
u32 roce_books_group_size(const struct roce_share_file *file, const struct share_slot *of);
void roce_books_group_remove(struct roce_share_file *file, u32 slot);
/* Strike out the dead. Return: how many, of whatever group. */
u32 roce_books_purge(struct roce_share *sh);
u32 roce_books_others(const struct roce_share *sh);

#endif
