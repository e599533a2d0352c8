/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The few types and helpers the protocol core needs, the same in user space,
 * in the kernel module and in the simulator. No libc beyond the mem* functions
 * that every freestanding environment supplies.
 */
#ifndef DCPIM_TYPES_H
#define DCPIM_TYPES_H

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

#define DCPIM_NEVER (~(u64)0)

#define dcpim_container(ptr, type, member) \
	((type *)((char *)(ptr) - offsetof(type, member)))

static inline u64 dcpim_min(u64 a, u64 b)
{
	return a < b ? a : b;
}

static inline u64 dcpim_max(u64 a, u64 b)
{
	return a > b ? a : b;
}

/* now + delta that stays at DCPIM_NEVER instead of wrapping. */
static inline u64 dcpim_after(u64 now, u64 delta)
{
	return now + delta < now ? DCPIM_NEVER : now + delta;
}

static inline u32 dcpim_sat32(u64 v)
{
	return v > 0xffffffffu ? 0xffffffffu : (u32)v;
}

static inline void dcpim_put16(u8 *p, u16 v)
{
	p[0] = (u8)(v >> 8);
	p[1] = (u8)v;
}

static inline void dcpim_put32(u8 *p, u32 v)
{
	dcpim_put16(p, (u16)(v >> 16));
	dcpim_put16(p + 2, (u16)v);
}

static inline void dcpim_put64(u8 *p, u64 v)
{
	dcpim_put32(p, (u32)(v >> 32));
	dcpim_put32(p + 4, (u32)v);
}

static inline u16 dcpim_get16(const u8 *p)
{
	return (u16)((p[0] << 8) | p[1]);
}

static inline u32 dcpim_get32(const u8 *p)
{
	return ((u32)dcpim_get16(p) << 16) | dcpim_get16(p + 2);
}

static inline u64 dcpim_get64(const u8 *p)
{
	return ((u64)dcpim_get32(p) << 32) | dcpim_get32(p + 4);
}

/* Circular doubly linked list; an empty head points at itself. */
struct dcpim_list {
	struct dcpim_list *next, *prev;
};

static inline void dcpim_list_init(struct dcpim_list *l)
{
	l->next = l->prev = l;
}

static inline bool dcpim_list_empty(const struct dcpim_list *l)
{
	return l->next == l;
}

static inline void dcpim_list_add_tail(struct dcpim_list *head, struct dcpim_list *e)
{
	e->prev = head->prev;
	e->next = head;
	head->prev->next = e;
	head->prev = e;
}

static inline void dcpim_list_add_head(struct dcpim_list *head, struct dcpim_list *e)
{
	dcpim_list_add_tail(head->next, e);
}

/* Safe on an element that is not on any list (self-linked). */
static inline void dcpim_list_del(struct dcpim_list *e)
{
	e->prev->next = e->next;
	e->next->prev = e->prev;
	dcpim_list_init(e);
}

#endif
