/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdlib.h>
#include <sys/mman.h>

#include "vspace.h"

static void *need(void *ptr)
{
	if (!ptr)
		abort();
	return ptr;
}

/* The same addresses in every run, since packets carry them; pages that nobody may touch around them. */
static u8 *fixed(u32 which)
{
	static u8 *maps[2 * VNET_MAX_HOSTS];
	u64 at = 0x210000000000ull + which * (u64)(2 * VSPACE_MAX);

	if (!maps[which]) {
		maps[which] = mmap((void *)(uintptr_t)at, VSPACE_MAX, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
		if (maps[which] != (void *)(uintptr_t)at)
			abort();
	}
	return maps[which];
}

void vspace_init(struct vspace *sp, struct vnet *net, u32 owner, u32 size, struct vrng *r)
{
	if (size > VSPACE_MAX)
		abort();
	*sp = (struct vspace){ .net = net, .owner = owner, .size = size };
	sp->mem = fixed(2 * owner) + VSPACE_MAX - size; /* it ends where its pages end */
	sp->shadow = fixed(2 * owner + 1);
	vpattern_fill(vrand(r), 0, sp->mem, size);
	memcpy(sp->shadow, sp->mem, size);
}

void vspace_fini(struct vspace *sp)
{
	for (u32 i = 0; i < sp->nexts; i++)
		free(sp->exts[i]);
	free(sp->exts);
	memset(sp, 0, sizeof(*sp));
}

/* The first extent that ends behind @at. */
static u32 find(const struct vspace *sp, u32 at)
{
	u32 lo = 0, hi = sp->nexts;

	while (lo < hi) {
		u32 mid = (lo + hi) / 2;

		if (sp->exts[mid]->at + sp->exts[mid]->len <= at)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct vext *vspace_get(struct vspace *sp, struct vrng *r, u32 len, u32 align)
{
	u32 at, i, tries = 0;
	struct vext *e;

	if ((u64)len + align + 2 > sp->size)
		return NULL;
	/* Mostly where it fits first, or large pieces would soon find no room. */
	at = r && vchance(r, 300000) ? (u32)vrange(r, 1, sp->size - len - align - 1) : 1;
	for (;;) {
		at = (at + align - 1) / align * align;
		if (at + len + 1 > sp->size) {
			if (tries++)
				return NULL;
			at = align;
			continue;
		}
		/* One byte of nobody's before and after it. */
		i = find(sp, at - 1);
		if (i == sp->nexts || sp->exts[i]->at > at + len)
			break;
		at = sp->exts[i]->at + sp->exts[i]->len + 1;
	}
	if (sp->nexts == sp->cap) {
		sp->cap = sp->cap ? 2 * sp->cap : 64;
		sp->exts = need(realloc(sp->exts, sp->cap * sizeof(*sp->exts)));
	}
	e = need(calloc(1, sizeof(*e)));
	*e = (struct vext){ .space = sp, .at = at, .len = len };
	memmove(sp->exts + i + 1, sp->exts + i, (sp->nexts - i) * sizeof(*sp->exts));
	sp->exts[i] = e;
	sp->nexts++;
	return e;
}

void vspace_put(struct vext *e)
{
	struct vspace *sp = e->space;
	u32 i = 0;

	while (sp->exts[i] != e)
		i++;
	if (e->open)
		vext_close(e);
	memmove(sp->exts + i, sp->exts + i + 1, (sp->nexts - i - 1) * sizeof(*sp->exts));
	sp->nexts--;
	free(e);
}

void vext_close(struct vext *e)
{
	memcpy(e->space->shadow + e->at, e->space->mem + e->at, e->len);
	e->open = false;
}

void vext_fill(struct vext *e, u64 seed, u64 offset)
{
	vpattern_fill(seed, offset, e->space->mem + e->at, e->len);
	memcpy(e->space->shadow + e->at, e->space->mem + e->at, e->len);
}

bool vext_untouched(const struct vext *e, u32 from)
{
	return from >= e->len || !memcmp(e->space->mem + e->at + from, e->space->shadow + e->at + from, e->len - from);
}

static void check_span(struct vspace *sp, u32 from, u32 to)
{
	if (from >= to || !memcmp(sp->mem + from, sp->shadow + from, to - from))
		return;
	while (sp->mem[from] == sp->shadow[from])
		from++;
	vnet_fail(sp->net, "device %u: a byte was changed that nobody may write, at %u of its memory", sp->owner, from);
}

void vspace_check(struct vspace *sp)
{
	u32 at = 0;

	if (sp->net->forged)
		return;
	for (u32 i = 0; i < sp->nexts; i++) {
		if (!sp->exts[i]->open)
			continue;
		check_span(sp, at, sp->exts[i]->at);
		at = sp->exts[i]->at + sp->exts[i]->len;
	}
	check_span(sp, at, sp->size);
}

/* ---- cells ---- */

static u32 chunks(const struct vcell *c)
{
	return (c->ext->len + c->chunk - 1) / c->chunk;
}

struct vcell *vcell_new(struct vspace *sp, u32 len, u32 chunk)
{
	struct vcell *c = need(calloc(1, sizeof(*c)));

	c->ext = vspace_get(sp, NULL, len, 1);
	if (!c->ext) {
		free(c);
		return NULL;
	}
	c->ext->open = true;
	c->chunk = chunk;
	c->base = need(malloc(len));
	memcpy(c->base, vext_ptr(c->ext), len);
	c->seen = need(calloc(chunks(c), sizeof(*c->seen)));
	return c;
}

void vcell_free(struct vcell *c)
{
	free(c->base);
	free(c->ops);
	free(c->seen);
	free(c);
}

u32 vcell_post(struct vcell *c, u32 len, u64 seed)
{
	if (c->nops == c->cap) {
		c->cap = c->cap ? 2 * c->cap : 16;
		c->ops = need(realloc(c->ops, c->cap * sizeof(*c->ops)));
	}
	c->ops[c->nops] = (struct vcellop){ .len = len, .seed = seed };
	return c->nops++;
}

/* What op @i does to @bytes, which are those of the chunk that begins at @at. */
static bool apply(const struct vcell *c, u32 i, u8 *bytes, u32 at, u32 len)
{
	u32 n = c->ops[i].len;

	if (n <= at)
		return false;
	vpattern_fill(c->ops[i].seed, at, bytes, (u32)roce_min(n - at, len));
	return true;
}

void vcell_check(struct vcell *c, u32 need)
{
	struct vspace *sp = c->ext->space;

	if (c->frozen || sp->net->failed || sp->net->forged)
		return;
	c->need = (u32)roce_max(c->need, need);
	for (u32 k = 0; k < chunks(c); k++) {
		u32 at = k * c->chunk, len = (u32)roce_min(c->chunk, c->ext->len - at);
		u8 *real = vext_ptr(c->ext) + at, *shadow = sp->shadow + c->ext->at + at;

		while (c->seen[k] < c->need)
			apply(c, c->seen[k]++, shadow, at, len);
		while (memcmp(real, shadow, len)) {
			while (c->seen[k] < c->nops && !apply(c, c->seen[k], shadow, at, len))
				c->seen[k]++;
			if (c->seen[k]++ >= c->nops) {
				vnet_fail(sp->net,
					  "device %u: bytes %u..%u of memory its peer writes to are what no prefix of %u WRITEs, %u of them done, makes them",
					  sp->owner, at, at + len, c->nops, c->need);
				return;
			}
		}
	}
}

void vcell_freeze(struct vcell *c)
{
	if (c->frozen)
		return;
	vcell_check(c, 0);
	c->frozen = true;
	vext_close(c->ext);
}

bool vcell_readable(const struct vcell *c, const u8 *data, u32 len, u32 low, u32 high)
{
	u8 *bytes = need(malloc(c->chunk));
	bool ok = true;

	for (u32 at = 0; at < len && ok; at += c->chunk) {
		u32 n = (u32)roce_min(c->chunk, len - at), i = 0;

		memcpy(bytes, c->base + at, n);
		while (i < low)
			apply(c, i++, bytes, at, n);
		while (memcmp(bytes, data + at, n)) {
			if (i >= high) {
				ok = false;
				break;
			}
			apply(c, i++, bytes, at, n);
		}
	}
	free(bytes);
	return ok;
}
