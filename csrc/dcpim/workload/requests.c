// SPDX-License-Identifier: BSD-2-Clause
/*
 * Requests under way on one connection of a client. Over a stream answers come
 * in the order of the requests, so number modulo the number of slots is the
 * slot. Messages and datagrams come back in any order: a slot is taken from
 * those that are free, and the number is slot + slots * times used, so that an
 * answer that comes too late is not taken for another's.
 */
#include <stdlib.h>

#include "work.h"

int work_requests_init(struct work_conn *c, u32 depth)
{
	u32 i, n = 1;

	while (n < depth)
		n *= 2;
	c->slots = calloc(n, sizeof(*c->slots));
	c->free_slots = calloc(n, sizeof(*c->free_slots));
	if (!c->slots || !c->free_slots)
		return -ENOMEM;
	c->nslots = c->nfree = n;
	for (i = 0; i < n; i++) {
		dcpim_list_init(&c->slots[i].node);
		c->slots[i].number = i;
		c->free_slots[i] = n - 1 - i;
	}
	dcpim_list_init(&c->busy);
	return 0;
}

void work_requests_fini(struct work_conn *c)
{
	free(c->slots);
	free(c->free_slots);
}

struct work_request *work_request_start(struct work_conn *c)
{
	struct work_request *r;

	if (c->message) {
		r = &c->slots[c->free_slots[--c->nfree]];
		r->number += c->nslots;
	} else {
		r = &c->slots[c->next_number & (c->nslots - 1)];
		r->number = c->next_number++;
	}
	r->sent_at = rackwire_now_ns();
	r->busy = true;
	r->lost = false;
	if (!c->nbusy++)
		c->waiting_since = r->sent_at;
	dcpim_list_add_tail(&c->busy, &r->node);
	return r;
}

static void release(struct work_conn *c, struct work_request *r)
{
	dcpim_list_del(&r->node);
	r->busy = false;
	c->nbusy--;
	c->nlost -= r->lost;
	if (c->message)
		c->free_slots[c->nfree++] = (u32)(r - c->slots);
}

void work_request_cancel(struct work_conn *c, struct work_request *r)
{
	release(c, r);
}

void work_request_done(struct work_conn *c, struct work_request *r)
{
	struct work_lane *l = c->lane;
	u64 now = rackwire_now_ns();

	if (r->lost) {
		work_count(l, RACKWIRE_DCPIM_WORK_LATE, 1);
	} else if (l->work->record) {
		work_latency(l, now - r->sent_at);
		work_count(l, RACKWIRE_DCPIM_WORK_COMPLETED, 1);
		work_count(l, RACKWIRE_DCPIM_WORK_MEASURED_REQUESTS, 1);
		work_count(l, RACKWIRE_DCPIM_WORK_MEASURED_BYTES, c->length);
	} else {
		work_count(l, RACKWIRE_DCPIM_WORK_WARMUP, 1);
	}
	c->waiting_since = now;
	c->lost_in_row = 0;
	release(c, r);
}

struct work_request *work_request_find(struct work_conn *c, u64 number, u32 bytes)
{
	u64 mask = bytes < 8 ? (1ull << (8 * bytes)) - 1 : ~0ull;
	struct work_request *r = &c->slots[number & (c->nslots - 1)];

	return r->busy && (r->number & mask) == (number & mask) ? r : NULL;
}

void work_requests_received(struct work_conn *c)
{
	while (c->oldest < c->next_number && c->rx_pos >= (c->oldest + 1) * c->length) {
		work_request_done(c, &c->slots[c->oldest & (c->nslots - 1)]);
		c->oldest++;
	}
}

u64 work_requests_expire(struct work_conn *c, u64 now)
{
	struct work_lane *l = c->lane;
	u64 timeout = l->work->config.timeout_ns;
	char peer[128];

	while (!dcpim_list_empty(&c->busy)) {
		struct work_request *r = dcpim_container(c->busy.next, struct work_request, node);

		if (now < r->sent_at + timeout)
			break;
		work_count(l, RACKWIRE_DCPIM_WORK_LOST, 1);
		c->lost_in_row++;
		r->lost = true;
		c->nlost++;
		dcpim_list_del(&r->node);
		/* A datagram that is lost stays so; the others are still on their way. */
		if (l->transport == RACKWIRE_DCPIM_WORK_UDP)
			release(c, r);
	}
	if (c->lost_in_row >= WORK_STALL_TIMEOUTS ||
	    (c->nlost && now > c->waiting_since + WORK_STALL_TIMEOUTS * timeout))
		work_fail(l->work, -ETIMEDOUT, "%s has stopped answering",
			  work_peer(l->work, l->transport, peer, sizeof(peer)));
	if (dcpim_list_empty(&c->busy))
		return c->nlost ? now + timeout : DCPIM_NEVER;
	return dcpim_container(c->busy.next, struct work_request, node)->sent_at + timeout;
}

/* The number stands in the first 8 bytes; of a shorter message its low bytes do. */
void work_message_fill(const struct work_conn *c, u64 number, u32 off, u8 *out, u32 len)
{
	u32 head = off ? 0 : c->length < 8 ? c->length : 8;
	u8 bytes[8];

	dcpim_put64(bytes, number);
	memcpy(out, bytes + 8 - head, head);
	if (c->pattern)
		work_pattern_fill(c->seed, work_message_pos(number, c->length, off + head), out + head, len - head);
	else
		memset(out + head, 0, len - head);
}

u64 work_message_number(const u8 *data, u32 len)
{
	u64 number = 0;
	u32 i;

	for (i = 0; i < len && i < 8; i++)
		number = number << 8 | data[i];
	return number;
}
