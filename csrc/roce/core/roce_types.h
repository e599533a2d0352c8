/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The few types and helpers the protocol core needs, the same in user space,
 * in the kernel module and in tests in virtual time. No libc beyond the mem*
 * functions that every freestanding environment supplies.
 */
#ifndef ROCE_TYPES_H
#define ROCE_TYPES_H

#ifdef __KERNEL__
#include <linux/errno.h>
#include <linux/string.h>
#include <linux/types.h>
#else
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;
typedef int64_t s64;
#endif

#define ROCE_NEVER (~(u64)0)

#define roce_container(ptr, type, member) \
	((type *)((char *)(ptr) - offsetof(type, member)))

static inline u64 roce_min(u64 a, u64 b)
{
	return a < b ? a : b;
}

static inline u64 roce_max(u64 a, u64 b)
{
	return a > b ? a : b;
}

/* now + delta that stays at ROCE_NEVER instead of wrapping. */
static inline u64 roce_after(u64 now, u64 delta)
{
	return now + delta < now ? ROCE_NEVER : now + delta;
}

static inline void roce_put16(u8 *p, u16 v)
{
	p[0] = (u8)(v >> 8);
	p[1] = (u8)v;
}

static inline void roce_put24(u8 *p, u32 v)
{
	p[0] = (u8)(v >> 16);
	roce_put16(p + 1, (u16)v);
}

static inline void roce_put32(u8 *p, u32 v)
{
	roce_put16(p, (u16)(v >> 16));
	roce_put16(p + 2, (u16)v);
}

static inline void roce_put64(u8 *p, u64 v)
{
	roce_put32(p, (u32)(v >> 32));
	roce_put32(p + 4, (u32)v);
}

static inline u16 roce_get16(const u8 *p)
{
	return (u16)((p[0] << 8) | p[1]);
}

static inline u32 roce_get24(const u8 *p)
{
	return ((u32)p[0] << 16) | roce_get16(p + 1);
}

static inline u32 roce_get32(const u8 *p)
{
	return ((u32)roce_get16(p) << 16) | roce_get16(p + 2);
}

static inline u64 roce_get64(const u8 *p)
{
	return ((u64)roce_get32(p) << 32) | roce_get32(p + 4);
}

/* Circular doubly linked list; an empty head points at itself. */
struct roce_list {
	struct roce_list *next, *prev;
};

static inline void roce_list_init(struct roce_list *l)
{
	l->next = l->prev = l;
}

static inline bool roce_list_empty(const struct roce_list *l)
{
	return l->next == l;
}

static inline void roce_list_add_tail(struct roce_list *head, struct roce_list *e)
{
	e->prev = head->prev;
	e->next = head;
	head->prev->next = e;
	head->prev = e;
}

static inline void roce_list_add_head(struct roce_list *head, struct roce_list *e)
{
	roce_list_add_tail(head->next, e);
}

/* Safe on an element that is not on any list (self-linked). */
static inline void roce_list_del(struct roce_list *e)
{
	e->prev->next = e->next;
	e->next->prev = e->prev;
	roce_list_init(e);
}

#endif
