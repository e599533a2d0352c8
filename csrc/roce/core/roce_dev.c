// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The device: memory, randomness, queue pair numbers, dispatch of what
 * arrives, and the two pulls (packets and events) that a driver lives on.
 */
#include "roce_qp.h"

void *roce_alloc(struct roce_dev *d, enum roce_slab slab, size_t size)
{
	return d->ops.alloc(d->ctx, slab, size);
}

void roce_free(struct roce_dev *d, enum roce_slab slab, void *ptr, size_t size)
{
	if (ptr)
		d->ops.free(d->ctx, slab, ptr, size);
}

const struct roce_cfg *roce_cfg_of(const struct roce_dev *d)
{
	return &d->cfg;
}

struct roce_cm_dev *roce_dev_cm(const struct roce_dev *d)
{
	return d->cm;
}

struct rackwire_roce_dev_stats *roce_stats_of(struct roce_dev *d)
{
	return &d->stats;
}

/* ---- randomness: a counter under SipHash-2-4 (Aumasson and Bernstein 2012), so that keys seen foretell none ---- */

static u64 rotl(u64 x, u32 k)
{
	return (x << k) | (x >> (64 - k));
}

static void sip_rounds(u64 v[4], u32 n)
{
	while (n--) {
		v[0] += v[1];
		v[2] += v[3];
		v[1] = rotl(v[1], 13) ^ v[0];
		v[3] = rotl(v[3], 16) ^ v[2];
		v[0] = rotl(v[0], 32);
		v[2] += v[1];
		v[0] += v[3];
		v[1] = rotl(v[1], 17) ^ v[2];
		v[3] = rotl(v[3], 21) ^ v[0];
		v[2] = rotl(v[2], 32);
	}
}

u64 roce_siphash(const u64 key[2], u64 word)
{
	u64 v[4] = { key[0] ^ 0x736f6d6570736575ull, key[1] ^ 0x646f72616e646f6dull,
		     key[0] ^ 0x6c7967656e657261ull, key[1] ^ 0x7465646279746573ull };
	const u64 words[2] = { word, (u64)sizeof(word) << 56 };
	u32 i;

	for (i = 0; i < 2; i++) {
		v[3] ^= words[i];
		sip_rounds(v, 2);
		v[0] ^= words[i];
	}
	v[2] ^= 0xff;
	sip_rounds(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

u64 roce_random(struct roce_dev *d)
{
	return roce_siphash(d->rand_key, d->rand_count++);
}

/* ---- queue pair numbers ---- */

struct roce_qp *roce_qp_find(const struct roce_dev *d, u32 qpn)
{
	struct roce_qp *qp = d->qp_table[roce_hash(d, qpn, d->qp_bits)];

	while (qp && qp->num != qpn)
		qp = qp->hash_next;
	return qp;
}

static u32 *resting_slot(struct roce_dev *d, u32 qpn)
{
	u32 *slot = &d->resting_table[roce_hash(d, qpn, d->resting_bits)];

	while (*slot && d->resting[*slot - 1].qpn != qpn)
		slot = &d->resting[*slot - 1].hash_next;
	return slot;
}

static void wake_oldest(struct roce_dev *d)
{
	struct roce_resting *r = &d->resting[d->resting_head & ((1u << d->resting_bits) - 1)];

	*resting_slot(d, r->qpn) = r->hash_next;
	d->resting_head++;
	d->resting_n--;
}

static void wake_rested(struct roce_dev *d)
{
	while (d->resting_n && d->resting[d->resting_head & ((1u << d->resting_bits) - 1)].until <= d->now)
		wake_oldest(d);
}

static void rest(struct roce_dev *d, u32 qpn)
{
	u32 *slot, i;

	if (d->resting_n == 1u << d->resting_bits)
		wake_oldest(d);
	i = (d->resting_head + d->resting_n++) & ((1u << d->resting_bits) - 1);
	slot = &d->resting_table[roce_hash(d, qpn, d->resting_bits)];
	d->resting[i].qpn = qpn;
	d->resting[i].until = roce_after(d->now, d->cfg.timewait_ns);
	d->resting[i].hash_next = *slot;
	*slot = i + 1;
}

int roce_qpn_take(struct roce_dev *d, struct roce_qp *qp)
{
	u32 offset, taken, bucket;

	wake_rested(d);
	if (d->nqps + d->resting_n >= d->cfg.qpn_count)
		return -ENFILE;
	offset = (u32)(((roce_random(d) >> 32) * d->cfg.qpn_count) >> 32);
	/* As many numbers are taken as can be, so one of the next is free. */
	for (taken = d->nqps + d->resting_n;; taken--) {
		qp->num = d->cfg.qpn_base + offset;
		if (!roce_qp_find(d, qp->num) && !*resting_slot(d, qp->num))
			break;
		if (!taken)
			return -ENFILE;
		offset = offset + 1 == d->cfg.qpn_count ? 0 : offset + 1;
	}
	bucket = roce_hash(d, qp->num, d->qp_bits);
	qp->hash_next = d->qp_table[bucket];
	d->qp_table[bucket] = qp;
	return 0;
}

void roce_qpn_release(struct roce_dev *d, struct roce_qp *qp, bool must_rest)
{
	struct roce_qp **slot = &d->qp_table[roce_hash(d, qp->num, d->qp_bits)];

	while (*slot != qp)
		slot = &(*slot)->hash_next;
	*slot = qp->hash_next;
	if (must_rest && d->cfg.timewait_ns)
		rest(d, qp->num);
}

/* ---- life ---- */

static u32 bits_for(u32 n)
{
	u32 bits = 4;

	while (1u << bits < n)
		bits++;
	return bits;
}

static size_t table_size(u32 bits, size_t each)
{
	return ((size_t)1 << bits) * each;
}

static void free_tables(struct roce_dev *d)
{
	roce_free(d, ROCE_SLAB_TABLE, d->timers.slots, (d->cfg.max_qps + 1) * sizeof(*d->timers.slots));
	roce_free(d, ROCE_SLAB_TABLE, d->qp_table, table_size(d->qp_bits, sizeof(*d->qp_table)));
	roce_free(d, ROCE_SLAB_TABLE, d->key_table, table_size(d->key_bits, sizeof(*d->key_table)));
	roce_free(d, ROCE_SLAB_TABLE, d->resting, table_size(d->resting_bits, sizeof(*d->resting)));
	roce_free(d, ROCE_SLAB_TABLE, d->resting_table, table_size(d->resting_bits, sizeof(*d->resting_table)));
	d->ops.free(d->ctx, ROCE_SLAB_DEV, d, sizeof(*d));
}

struct roce_dev *roce_dev_create(const struct roce_cfg *cfg, const struct roce_ops *ops, void *ctx, const u64 seed[2],
				 u64 now)
{
	struct roce_dev *d;

	if (roce_cfg_check(cfg, NULL))
		return NULL;
	d = ops->alloc(ctx, ROCE_SLAB_DEV, sizeof(*d));
	if (!d)
		return NULL;
	d->cfg = *cfg;
	d->ops = *ops;
	d->ctx = ctx;
	d->now = now;
	d->rand_key[0] = seed[0];
	d->rand_key[1] = seed[1];
	d->hash_seed = roce_random(d);
	d->mr_epoch = 1; /* 0: not checked yet */
	d->gsi_psn = (u32)(roce_random(d) >> 40);
	roce_list_init(&d->resp);
	roce_list_init(&d->req);
	roce_list_init(&d->pds);
	roce_list_init(&d->mrs);
	roce_list_init(&d->cqs);
	roce_list_init(&d->qps);
	roce_list_init(&d->cq_events);
	roce_list_init(&d->qp_events);
	d->qp_bits = bits_for(cfg->max_qps);
	d->key_bits = bits_for(2 * cfg->max_mrs); /* a region may have a key in reserve */
	d->resting_bits = bits_for(cfg->max_qps);
	d->timers.slots = roce_alloc(d, ROCE_SLAB_TABLE, (cfg->max_qps + 1) * sizeof(*d->timers.slots));
	d->qp_table = roce_alloc(d, ROCE_SLAB_TABLE, table_size(d->qp_bits, sizeof(*d->qp_table)));
	d->key_table = roce_alloc(d, ROCE_SLAB_TABLE, table_size(d->key_bits, sizeof(*d->key_table)));
	d->resting = roce_alloc(d, ROCE_SLAB_TABLE, table_size(d->resting_bits, sizeof(*d->resting)));
	d->resting_table = roce_alloc(d, ROCE_SLAB_TABLE, table_size(d->resting_bits, sizeof(*d->resting_table)));
	if (d->timers.slots && d->qp_table && d->key_table && d->resting && d->resting_table)
		d->cm = roce_cm_init(d);
	if (!d->cm) {
		free_tables(d);
		return NULL;
	}
	return d;
}

void roce_dev_destroy(struct roce_dev *d)
{
	while (!roce_list_empty(&d->qps)) {
		struct roce_qp *qp = roce_container(d->qps.next, struct roce_qp, node);

		roce_qp_set_cm(qp, NULL);
		roce_qp_destroy(qp, d->now);
	}
	roce_cm_exit(d->cm);
	while (!roce_list_empty(&d->cqs))
		roce_cq_destroy(roce_container(d->cqs.next, struct roce_cq, node));
	while (!roce_list_empty(&d->mrs))
		roce_mr_deregister(roce_container(d->mrs.next, struct roce_mr, node));
	while (!roce_list_empty(&d->pds))
		roce_pd_destroy(roce_container(d->pds.next, struct roce_pd, node));
	free_tables(d);
}

void roce_dev_stats(const struct roce_dev *d, struct rackwire_roce_dev_stats *stats)
{
	*stats = d->stats;
}

void roce_dev_info(const struct roce_dev *d, struct roce_info *info)
{
	memset(info, 0, sizeof(*info));
	info->qps = d->nqps;
	info->mrs = d->nmrs;
	info->pds = d->npds;
	info->cqs = d->ncqs;
	roce_cm_info(d->cm, info);
}

/* ---- what arrives ---- */

static void rx_mad(struct roce_dev *d, u64 now, const struct roce_rxpkt *pkt, const struct roce_pkt *h)
{
	if (h->dest_qpn != ROCE_QP_CM || h->qkey != ROCE_QKEY_CM)
		d->stats.rx_unknown_qp++;
	else if (h->opcode != ROCE_UD_SEND_ONLY || h->payload_len != ROCE_MAD_LEN)
		d->stats.rx_malformed++;
	else
		roce_cm_rx(d->cm, now, pkt->data + h->hdr_len, &pkt->path, h->src_qpn);
}

static bool from_its_peer(const struct roce_qp *qp, const struct roce_path *path)
{
	return !memcmp(path->peer, qp->link.path.peer, sizeof(path->peer)) &&
	       !memcmp(path->local, qp->link.path.local, sizeof(path->local));
}

void roce_rx(struct roce_dev *d, u64 now, const struct roce_rxpkt *pkt)
{
	struct roce_pkt h;
	struct roce_qp *qp;

	d->now = now;
	d->stats.rx_packets++;
	d->stats.rx_bytes += pkt->len + ROCE_ICRC_LEN;
	if (roce_decode(&h, pkt->data, pkt->len)) {
		d->stats.rx_malformed++;
		return;
	}
	/* Full and limited members of the default partition; a CNP's is of no account [IBTA A17.9.3]. */
	if ((h.pkey & 0x7fff) != (ROCE_PKEY_DEFAULT & 0x7fff)) {
		d->stats.rx_unknown_qp++;
		return;
	}
	if (roce_op(h.opcode) & ROCE_OP_UD) {
		rx_mad(d, now, pkt, &h);
		return;
	}
	qp = roce_qp_find(d, h.dest_qpn);
	if (!qp || qp->state < RACKWIRE_ROCE_QP_RTR || !from_its_peer(qp, &pkt->path)) {
		d->stats.rx_unknown_qp++;
		return;
	}
	if (qp->state == RACKWIRE_ROCE_QP_ERR) {
		d->stats.rx_unknown_qp++;
		if (roce_is_request(h.opcode))
			roce_resp_again(qp);
		return;
	}
	qp->last_rx = now;
	qp->stats.rx_packets++;
	qp->stats.rx_bytes += h.payload_len;
	if (!qp->cm_told && qp->cm) {
		qp->cm_told = true;
		roce_cm_qp_active(qp->cm, now);
	}
	if (h.opcode == ROCE_CNP) {
		qp->stats.cnp_rx++;
		roce_rate_cnp(qp, now);
		return;
	}
	if (pkt->ecn == 3)
		roce_resp_ce(qp, now);
	if (roce_is_request(h.opcode))
		roce_resp_rx(qp, now, &h, pkt->data + h.hdr_len);
	else
		roce_req_rx(qp, now, &h, pkt->data + h.hdr_len);
	if (qp->cq_overrun)
		roce_qp_fail(qp, now, -EOVERFLOW);
}

void roce_unreachable(struct roce_dev *d, u64 now, const struct roce_path *path, int error)
{
	struct roce_list *l, *next;

	d->now = now;
	roce_cm_unreachable(d->cm, now, path, error);
	/* Nothing listens on the peer's port, so its queue pairs are gone; anything else may pass. */
	if (error != -ECONNREFUSED)
		return;
	for (l = d->qps.next; l != &d->qps; l = next) {
		struct roce_qp *qp = roce_container(l, struct roce_qp, node);

		next = l->next;
		if (qp->state == RACKWIRE_ROCE_QP_RTS && from_its_peer(qp, path))
			roce_req_fail(qp, now, RACKWIRE_ROCE_WC_RETRY_EXC_ERR, error);
	}
}

/* ---- time ---- */

void roce_tick(struct roce_dev *d, u64 now)
{
	d->now = now;
	while (roce_heap_first(&d->timers) <= now) {
		struct roce_timer *t = d->timers.slots[1];
		struct roce_qp *qp = roce_container(t, struct roce_qp, timer);

		roce_timer_stop(&d->timers, t);
		roce_qp_timer(qp, now);
		if (qp->cq_overrun)
			roce_qp_fail(qp, now, -EOVERFLOW);
	}
	roce_cm_tick(d->cm, now);
}

u64 roce_next_deadline(const struct roce_dev *d)
{
	/* Requests that need no packet complete while packets are pulled: their events wait. */
	if (!roce_list_empty(&d->qp_events) || !roce_list_empty(&d->cq_events))
		return d->now;
	return roce_min(roce_heap_first(&d->timers), roce_cm_deadline(d->cm));
}

/* ---- the pulls ---- */

void roce_tx_finish(struct roce_qp *qp, struct roce_txpkt *pkt, struct roce_pkt *h, bool data)
{
	struct roce_dev *d = qp->d;

	h->pad = roce_pad(pkt->payload_len);
	pkt->pad = h->pad;
	pkt->hdr_len = roce_encode(pkt->hdr, h);
	pkt->path = &qp->link.path;
	pkt->ecn = data && d->cfg.rate_bps ? 2 : 0;
	qp->stats.tx_packets++;
	qp->stats.tx_bytes += pkt->payload_len;
}

static void count_tx(struct roce_dev *d, const struct roce_txpkt *pkt)
{
	d->stats.tx_packets++;
	d->stats.tx_bytes += pkt->hdr_len + pkt->payload_len + pkt->pad + ROCE_ICRC_LEN;
}

static int poll_mad(struct roce_dev *d, u64 now, struct roce_txpkt *pkt)
{
	struct roce_pkt h = {
		.opcode = ROCE_UD_SEND_ONLY,
		.pkey = ROCE_PKEY_DEFAULT,
		.dest_qpn = ROCE_QP_CM,
		.src_qpn = ROCE_QP_CM,
		.qkey = ROCE_QKEY_CM,
	};
	const u8 *mad;

	if (!roce_cm_poll_tx(d->cm, now, &mad, &pkt->path))
		return 0;
	h.psn = d->gsi_psn;
	d->gsi_psn = roce_psn_add(d->gsi_psn, 1);
	pkt->hdr_len = roce_encode(pkt->hdr, &h);
	pkt->payload_len = ROCE_MAD_LEN;
	pkt->pad = 0;
	pkt->nfrags = 1;
	pkt->frags[0].ptr = mad;
	pkt->frags[0].len = ROCE_MAD_LEN;
	pkt->ecn = 0;
	return 1;
}

static int poll_word(struct roce_dev *d, struct roce_txpkt *pkt)
{
	const struct roce_word *w = &d->words[d->words_head % ROCE_WORDS];

	if (d->words_head == d->words_tail)
		return 0;
	d->words_head++;
	memcpy(pkt->hdr, w->hdr, w->len);
	pkt->hdr_len = w->len;
	pkt->payload_len = pkt->pad = pkt->nfrags = 0;
	pkt->path = &w->path;
	pkt->ecn = 0;
	return 1;
}

static void to_tail(struct roce_list *list, struct roce_list *e)
{
	roce_list_del(e);
	roce_list_add_tail(list, e);
}

/* A stream of READ responses gives way to requests after each burst. */
static int poll_resp(struct roce_dev *d, u64 now, struct roce_txpkt *pkt)
{
	while (!roce_list_empty(&d->resp)) {
		struct roce_qp *qp = roce_container(d->resp.next, struct roce_qp, resp_node);
		bool stream = false;

		if (!roce_resp_build(qp, now, pkt, &stream)) {
			roce_list_del(&qp->resp_node);
			d->resp_burst = 0;
			continue;
		}
		if (stream && ++d->resp_burst >= d->cfg.max_burst) {
			d->resp_burst = 0;
			d->req_turn = true;
			to_tail(&d->resp, &qp->resp_node);
		}
		return 1;
	}
	return 0;
}

static int poll_req(struct roce_dev *d, u64 now, struct roce_txpkt *pkt)
{
	while (!roce_list_empty(&d->req)) {
		struct roce_qp *qp = roce_container(d->req.next, struct roce_qp, req_node);
		int built = roce_req_build(qp, now, pkt);

		if (qp->cq_overrun)
			roce_qp_fail(qp, now, -EOVERFLOW);
		if (!built) {
			roce_list_del(&qp->req_node);
			d->req_burst = 0;
			d->req_turn = false;
			continue;
		}
		if (++d->req_burst >= d->cfg.max_burst) {
			d->req_burst = 0;
			d->req_turn = false;
			to_tail(&d->req, &qp->req_node);
		}
		return 1;
	}
	d->req_turn = false;
	return 0;
}

int roce_poll_tx(struct roce_dev *d, u64 now, struct roce_txpkt *pkt)
{
	d->now = now;
	if (poll_word(d, pkt) || (!d->req_turn && poll_resp(d, now, pkt)) || poll_mad(d, now, pkt) || poll_req(d, now, pkt) ||
	    poll_resp(d, now, pkt)) {
		count_tx(d, pkt);
		return 1;
	}
	return 0;
}

int roce_poll_event(struct roce_dev *d, struct roce_event *ev)
{
	memset(ev, 0, sizeof(*ev));
	if (roce_cm_poll_event(d->cm, ev))
		return 1;
	if (!roce_list_empty(&d->qp_events)) {
		ev->kind = ROCE_EV_QP;
		ev->qp = roce_container(d->qp_events.next, struct roce_qp, event);
		ev->error = ev->qp->error;
		roce_list_del(&ev->qp->event);
		return 1;
	}
	if (!roce_list_empty(&d->cq_events)) {
		ev->kind = ROCE_EV_CQ;
		ev->cq = roce_container(d->cq_events.next, struct roce_cq, event);
		roce_list_del(&ev->cq->event);
		return 1;
	}
	return 0;
}
