/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The application memory of a device, and what each byte of it must be. All of
 * it has a shadow; pieces that work requests use are extents. A closed extent,
 * and whatever is in none, equals its shadow at any time. A cell is memory that
 * one connection's peer may write: each of its packets' worth has gone through
 * the first so many of the WRITEs posted to it, whole ones, in order.
 */
#ifndef VSPACE_H
#define VSPACE_H

#include "vnet.h"

#define VSPACE_MAX (64u << 20)

struct vspace;

struct vext {
	struct vspace *space;
	u32 at, len;
	bool open; /* somebody may be writing there */
};

struct vspace {
	struct vnet *net;
	u32 owner;
	u8 *mem, *shadow;
	u32 size;
	struct vext **exts; /* by address */
	u32 nexts, cap;
};

void vspace_init(struct vspace *sp, struct vnet *net, u32 owner, u32 size, struct vrng *r);
void vspace_fini(struct vspace *sp);
/* Memory somewhere (@r NULL: as low as possible), with at least one byte of nobody's around it; NULL: none free. Closed at first. */
struct vext *vspace_get(struct vspace *sp, struct vrng *r, u32 len, u32 align);
/* Whatever is there now stays. */
void vspace_put(struct vext *e);
/* Nobody writes there any more: what is there now is what shall be. */
void vext_close(struct vext *e);
/* The application writes. */
void vext_fill(struct vext *e, u64 seed, u64 offset);
/* Whether it is as it was when last closed or filled. */
bool vext_untouched(const struct vext *e, u32 from);
static inline u8 *vext_ptr(const struct vext *e)
{
	return e->space->mem + e->at;
}
/* Everything that is not open is as it shall be. */
void vspace_check(struct vspace *sp);

struct vcellop {
	u32 len;
	u64 seed;
};

struct vcell {
	struct vext *ext; /* always open; checked here */
	u32 chunk;	  /* payload of a full packet */
	u8 *base;	  /* before all of ops */
	struct vcellop *ops;
	u32 nops, cap;
	u32 *seen; /* per chunk: it has gone through the ops below this, as the shadow has */
	u32 need;  /* ops below this were acknowledged: all have been seen */
	bool frozen;
};

struct vcell *vcell_new(struct vspace *sp, u32 len, u32 chunk);
void vcell_free(struct vcell *c); /* the extent remains, closed */
/* A WRITE of @len bytes of pattern @seed to the cell's beginning; returns its number. */
u32 vcell_post(struct vcell *c, u32 len, u64 seed);
/* The WRITEs below @need have been executed; checks the whole cell. */
void vcell_check(struct vcell *c, u32 need);
/* Nobody can write there any more. */
void vcell_freeze(struct vcell *c);
/* Whether @data is what a READ may have found that was executed after the WRITEs below @low and before those from @high. */
bool vcell_readable(const struct vcell *c, const u8 *data, u32 len, u32 low, u32 high);

#endif
