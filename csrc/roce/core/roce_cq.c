// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Completion queues [IBTA 10.8]. */
#include "roce_qp.h"

#define MAX_ENTRIES (1u << 20)

int roce_cq_create(struct roce_dev *d, u32 entries, void *user, struct roce_cq **out)
{
	struct roce_cq *cq;
	u32 size = 1;

	if (!entries || entries > MAX_ENTRIES)
		return -EINVAL;
	if (d->ncqs >= d->cfg.max_cqs)
		return -ENFILE;
	while (size < entries)
		size *= 2;
	cq = roce_alloc(d, ROCE_SLAB_CQ, sizeof(*cq));
	if (!cq)
		return -ENOMEM;
	cq->ring = roce_alloc(d, ROCE_SLAB_RING, size * sizeof(*cq->ring));
	if (!cq->ring) {
		roce_free(d, ROCE_SLAB_CQ, cq, sizeof(*cq));
		return -ENOMEM;
	}
	cq->d = d;
	cq->entries = entries;
	cq->mask = size - 1;
	cq->user = user;
	roce_list_init(&cq->event);
	roce_list_add_tail(&d->cqs, &cq->node);
	d->ncqs++;
	*out = cq;
	return 0;
}

int roce_cq_destroy(struct roce_cq *cq)
{
	struct roce_dev *d = cq->d;

	if (cq->refs)
		return -EBUSY;
	roce_list_del(&cq->event);
	roce_list_del(&cq->node);
	d->ncqs--;
	roce_free(d, ROCE_SLAB_RING, cq->ring, (cq->mask + 1) * sizeof(*cq->ring));
	roce_free(d, ROCE_SLAB_CQ, cq, sizeof(*cq));
	return 0;
}

static void notify(struct roce_cq *cq, bool solicited)
{
	if (cq->armed != ROCE_CQ_ANY && !(cq->armed == ROCE_CQ_SOLICITED && solicited))
		return;
	cq->armed = ROCE_CQ_IDLE;
	if (roce_list_empty(&cq->event))
		roce_list_add_tail(&cq->d->cq_events, &cq->event);
}

/* Return: false when the completion is lost for want of room. */
bool roce_cq_push(struct roce_cq *cq, const struct rackwire_roce_wc *wc, bool solicited)
{
	bool room = cq->tail - cq->head < cq->entries && !cq->overflow;

	if (room)
		cq->ring[cq->tail++ & cq->mask] = *wc;
	else
		cq->overflow = true;
	notify(cq, solicited || !room || wc->status != RACKWIRE_ROCE_WC_SUCCESS);
	return room;
}

/* What came before an overflow is still told, then the overflow for ever. */
int roce_poll_cq(struct roce_cq *cq, struct rackwire_roce_wc *wc, u32 max)
{
	u32 n = 0;

	while (n < max && cq->head != cq->tail)
		wc[n++] = cq->ring[cq->head++ & cq->mask];
	return n || !cq->overflow ? (int)n : -EOVERFLOW;
}

int roce_cq_arm(struct roce_cq *cq, bool solicited)
{
	if (cq->armed != ROCE_CQ_ANY)
		cq->armed = solicited ? ROCE_CQ_SOLICITED : ROCE_CQ_ANY;
	return cq->head != cq->tail || cq->overflow;
}

void *roce_cq_user(const struct roce_cq *cq)
{
	return cq->user;
}
