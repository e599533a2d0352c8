// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Protection domains, memory regions and their keys [IBTA 10.6]. */
#include "roce_qp.h"

#define ACCESS_ALL                                                                                   \
	(RACKWIRE_ROCE_LOCAL_WRITE | RACKWIRE_ROCE_REMOTE_WRITE | RACKWIRE_ROCE_REMOTE_READ |        \
	 RACKWIRE_ROCE_REMOTE_ATOMIC)
#define ACCESS_REMOTE (ACCESS_ALL & ~RACKWIRE_ROCE_LOCAL_WRITE)

int roce_pd_create(struct roce_dev *d, struct roce_pd **out)
{
	struct roce_pd *pd;

	if (d->npds >= d->cfg.max_pds)
		return -ENFILE;
	pd = roce_alloc(d, ROCE_SLAB_PD, sizeof(*pd));
	if (!pd)
		return -ENOMEM;
	pd->d = d;
	roce_list_add_tail(&d->pds, &pd->node);
	d->npds++;
	*out = pd;
	return 0;
}

int roce_pd_destroy(struct roce_pd *pd)
{
	struct roce_dev *d = pd->d;

	if (pd->refs)
		return -EBUSY;
	roce_list_del(&pd->node);
	d->npds--;
	roce_free(d, ROCE_SLAB_PD, pd, sizeof(*pd));
	return 0;
}

static struct roce_key **key_slot(struct roce_dev *d, u32 key)
{
	struct roce_key **slot = &d->key_table[roce_hash(d, key, d->key_bits)];

	while (*slot && (*slot)->key != key)
		slot = &(*slot)->next;
	return slot;
}

static void key_insert(struct roce_dev *d, struct roce_key *k, u32 key)
{
	struct roce_key **bucket = &d->key_table[roce_hash(d, key, d->key_bits)];

	k->key = key;
	k->next = *bucket;
	*bucket = k;
}

static void key_remove(struct roce_dev *d, struct roce_key *k)
{
	struct roce_key **slot = key_slot(d, k->key);

	*slot = k->next;
}

/* A free table is far larger than what max_mrs can fill, so few draws suffice. */
static u32 key_draw(struct roce_dev *d)
{
	u32 key;

	do {
		key = (u32)(roce_random(d) >> 32);
	} while (key == RACKWIRE_ROCE_LOCAL_DMA_LKEY || *key_slot(d, key));
	return key;
}

bool roce_access_valid(u32 access)
{
	if (access & ~(u32)ACCESS_ALL)
		return false;
	return access & RACKWIRE_ROCE_LOCAL_WRITE ||
	       !(access & (RACKWIRE_ROCE_REMOTE_WRITE | RACKWIRE_ROCE_REMOTE_ATOMIC));
}

int roce_mr_register(struct roce_pd *pd, void *addr, u64 length, u32 access, void *user, struct roce_mr **out)
{
	struct roce_dev *d = pd->d;
	u64 va = (u64)(uintptr_t)addr;
	struct roce_mr *mr;

	if (!length || va + length < va || !roce_access_valid(access))
		return -EINVAL;
	if (d->nmrs >= d->cfg.max_mrs)
		return -ENFILE;
	mr = roce_alloc(d, ROCE_SLAB_MR, sizeof(*mr));
	if (!mr)
		return -ENOMEM;
	mr->pd = pd;
	mr->va = va;
	mr->len = length;
	mr->access = access;
	mr->valid = true;
	mr->user = user;
	mr->cur.mr = mr->spare.mr = mr;
	key_insert(d, &mr->cur, key_draw(d));
	roce_list_add_tail(&d->mrs, &mr->node);
	pd->refs++;
	d->nmrs++;
	*out = mr;
	return 0;
}

void roce_mr_get(struct roce_mr *mr)
{
	mr->refs++;
}

static void mr_free(struct roce_mr *mr)
{
	struct roce_dev *d = mr->pd->d;

	roce_list_del(&mr->node);
	mr->pd->refs--;
	d->nmrs--;
	roce_free(d, ROCE_SLAB_MR, mr, sizeof(*mr));
}

void roce_mr_put(struct roce_mr *mr)
{
	if (!--mr->refs && mr->dead)
		mr_free(mr);
}

static void unreserve(struct roce_mr *mr)
{
	if (mr->reserved)
		key_remove(mr->pd->d, &mr->spare);
	mr->reserved = false;
}

void roce_mr_deregister(struct roce_mr *mr)
{
	struct roce_dev *d = mr->pd->d;

	key_remove(d, &mr->cur);
	unreserve(mr);
	mr->valid = false;
	mr->dead = true;
	d->mr_epoch++;
	if (!mr->refs)
		mr_free(mr);
}

u32 roce_mr_key(const struct roce_mr *mr)
{
	return mr->cur.key;
}

bool roce_mr_valid(const struct roce_mr *mr)
{
	return mr->valid;
}

void *roce_mr_user(const struct roce_mr *mr)
{
	return mr->user;
}

static void rekey(struct roce_mr *mr, u32 key, u32 access)
{
	struct roce_dev *d = mr->pd->d;

	key_remove(d, &mr->cur);
	key_insert(d, &mr->cur, key);
	mr->access = access;
	mr->valid = true;
	d->mr_epoch++;
}

int roce_mr_reregister(struct roce_mr *mr, u32 access, u32 *key)
{
	if (!roce_access_valid(access))
		return -EINVAL;
	*key = key_draw(mr->pd->d);
	rekey(mr, *key, access);
	return 0;
}

int roce_mr_next_key(struct roce_mr *mr, u32 *key)
{
	struct roce_dev *d = mr->pd->d;

	if (!mr->reserved) {
		key_insert(d, &mr->spare, key_draw(d));
		mr->reserved = true;
	}
	*key = mr->spare.key;
	return 0;
}

/* REG_MR: the key must be the one reserved for this region, or nobody's. */
int roce_mr_bind(struct roce_mr *mr, struct roce_pd *pd, u32 key, u32 access)
{
	struct roce_key *owner;

	if (mr->dead || mr->pd != pd || key == RACKWIRE_ROCE_LOCAL_DMA_LKEY)
		return -EINVAL;
	owner = *key_slot(pd->d, key);
	if (owner && owner != &mr->spare)
		return -EEXIST;
	if (owner)
		unreserve(mr);
	rekey(mr, key, access);
	return 0;
}

/*
 * LOCAL_INV, and what SEND_WITH_INV brings: a peer may only end what it may
 * use, so a region without remote rights is not for it to invalidate.
 */
int roce_mr_invalidate(struct roce_pd *pd, u32 key, bool remote)
{
	struct roce_mr *mr = roce_mr_find(pd->d, key);

	if (!mr || mr->pd != pd || (remote && !(mr->access & ACCESS_REMOTE)))
		return -EACCES;
	mr->valid = false;
	pd->d->mr_epoch++;
	return 0;
}

bool roce_sges_allowed(const struct roce_pd *pd, const struct rackwire_roce_sge *sge, u32 n, u32 access)
{
	u32 i;

	for (i = 0; i < n; i++)
		if (sge[i].lkey != RACKWIRE_ROCE_LOCAL_DMA_LKEY &&
		    !roce_mr_allows(pd, sge[i].lkey, sge[i].addr, sge[i].length, access))
			return false;
	return true;
}
