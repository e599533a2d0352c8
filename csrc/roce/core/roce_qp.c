// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Queue pairs: life, posting, completion, the error state [IBTA 10.2.4, 10.3.1]. */
#include "roce_qp.h"

#define MAX_WR 16384u
#define DEFAULT_WR 64u
#define DEFAULT_ACK_TIMEOUT 18
#define CM_PAUSE_MAX_NS (4 * ROCE_SEC)
#define SEND_FLAGS                                                                                \
	(RACKWIRE_ROCE_SEND_FENCE | RACKWIRE_ROCE_SEND_SIGNALED | RACKWIRE_ROCE_SEND_SOLICITED |  \
	 RACKWIRE_ROCE_SEND_INLINE)

/* ---- life ---- */

static u32 ring_size(u32 limit)
{
	u32 size = 1;

	while (size < limit)
		size *= 2;
	return size;
}

static void free_rings(struct roce_qp *qp)
{
	struct roce_dev *d = qp->d;
	size_t sq = qp->req.mask + 1, rq = qp->resp.mask + 1;

	roce_free(d, ROCE_SLAB_RING, qp->req.wqe, sq * sizeof(*qp->req.wqe));
	roce_free(d, ROCE_SLAB_RING, qp->req.sge, sq * qp->max_sge * sizeof(*qp->req.sge));
	roce_free(d, ROCE_SLAB_RING, qp->req.inl, sq * RACKWIRE_ROCE_MAX_INLINE);
	roce_free(d, ROCE_SLAB_RING, qp->resp.wqe, rq * sizeof(*qp->resp.wqe));
	roce_free(d, ROCE_SLAB_RING, qp->resp.sge, rq * qp->max_sge * sizeof(*qp->resp.sge));
}

static int alloc_rings(struct roce_qp *qp)
{
	struct roce_dev *d = qp->d;
	size_t sq = qp->req.mask + 1, rq = qp->resp.mask + 1;

	qp->req.wqe = roce_alloc(d, ROCE_SLAB_RING, sq * sizeof(*qp->req.wqe));
	qp->req.sge = roce_alloc(d, ROCE_SLAB_RING, sq * qp->max_sge * sizeof(*qp->req.sge));
	qp->resp.wqe = roce_alloc(d, ROCE_SLAB_RING, rq * sizeof(*qp->resp.wqe));
	qp->resp.sge = roce_alloc(d, ROCE_SLAB_RING, rq * qp->max_sge * sizeof(*qp->resp.sge));
	return qp->req.wqe && qp->req.sge && qp->resp.wqe && qp->resp.sge ? 0 : -ENOMEM;
}

static void set_sizes(struct roce_qp *qp, const struct rackwire_roce_qp_attr *attr)
{
	qp->access = attr->access;
	qp->signal_all = attr->signal_all;
	qp->max_sge = attr->max_sge ? attr->max_sge : 1;
	qp->req.limit = attr->max_send_wr ? attr->max_send_wr : DEFAULT_WR;
	qp->resp.limit = attr->max_recv_wr ? attr->max_recv_wr : DEFAULT_WR;
	qp->req.mask = ring_size(qp->req.limit) - 1;
	qp->resp.mask = ring_size(qp->resp.limit) - 1;
}

int roce_qp_create(struct roce_pd *pd, struct roce_cq *send_cq, struct roce_cq *recv_cq,
		   const struct rackwire_roce_qp_attr *attr, void *user, struct roce_qp **out)
{
	const u32 remote = RACKWIRE_ROCE_REMOTE_WRITE | RACKWIRE_ROCE_REMOTE_READ | RACKWIRE_ROCE_REMOTE_ATOMIC |
			   RACKWIRE_ROCE_LOCAL_WRITE;
	struct roce_dev *d = pd->d;
	struct roce_qp *qp;
	int err;

	if (attr->max_send_wr > MAX_WR || attr->max_recv_wr > MAX_WR || attr->max_sge > RACKWIRE_ROCE_MAX_SGE ||
	    attr->access & ~remote || send_cq->d != d || recv_cq->d != d)
		return -EINVAL;
	if (d->nqps >= d->cfg.max_qps)
		return -ENFILE;
	qp = roce_alloc(d, ROCE_SLAB_QP, sizeof(*qp));
	if (!qp)
		return -ENOMEM;
	qp->d = d;
	set_sizes(qp, attr);
	err = alloc_rings(qp);
	if (!err)
		err = roce_qpn_take(d, qp);
	if (err) {
		free_rings(qp);
		roce_free(d, ROCE_SLAB_QP, qp, sizeof(*qp));
		return err;
	}
	qp->pd = pd;
	qp->scq = send_cq;
	qp->rcq = recv_cq;
	qp->user = user;
	qp->state = RACKWIRE_ROCE_QP_INIT;
	pd->refs++;
	send_cq->refs++;
	recv_cq->refs++;
	roce_list_init(&qp->resp_node);
	roce_list_init(&qp->req_node);
	roce_list_init(&qp->event);
	roce_list_add_tail(&d->qps, &qp->node);
	d->nqps++;
	*out = qp;
	return 0;
}

void roce_qp_destroy(struct roce_qp *qp, u64 now)
{
	struct roce_dev *d = qp->d;

	d->now = now;
	if (qp->cm)
		roce_cm_qp_gone(qp->cm, now);
	roce_resp_last_word(qp);
	roce_req_flush(qp, false);
	roce_timer_stop(&d->timers, &qp->timer);
	roce_list_del(&qp->resp_node);
	roce_list_del(&qp->req_node);
	roce_list_del(&qp->event);
	roce_list_del(&qp->node);
	roce_qpn_release(d, qp, qp->connected);
	qp->pd->refs--;
	qp->scq->refs--;
	qp->rcq->refs--;
	d->nqps--;
	free_rings(qp);
	roce_free(d, ROCE_SLAB_QP, qp, sizeof(*qp));
}

int roce_qp_connect(struct roce_qp *qp, u64 now, const struct roce_qp_link *link)
{
	u32 mtu = link->mtu;

	if (qp->state != RACKWIRE_ROCE_QP_INIT || mtu < ROCE_MTU_MIN || mtu > qp->d->cfg.mtu || mtu & (mtu - 1) ||
	    (link->dest_qpn | link->sq_psn | link->rq_psn) & ~ROCE_PSN_MASK || link->dest_qpn < 2 ||
	    link->max_rd_atomic > RACKWIRE_ROCE_MAX_RD_ATOMIC ||
	    link->max_dest_rd_atomic > RACKWIRE_ROCE_MAX_RD_ATOMIC || link->retry_count > 7 ||
	    link->rnr_retry_count > 7 || link->min_rnr_timer > 31 || link->ack_timeout > 31)
		return -EINVAL;
	qp->d->now = now;
	qp->link = *link;
	qp->mtu = mtu;
	qp->mtu_shift = 0;
	while (1u << qp->mtu_shift < mtu)
		qp->mtu_shift++;
	qp->ack_timeout = roce_timeout_ns(link->ack_timeout ? link->ack_timeout : DEFAULT_ACK_TIMEOUT);
	qp->last_rx = qp->connected_at = now;
	qp->connected = true;
	qp->state = RACKWIRE_ROCE_QP_RTS;
	roce_req_connect(qp);
	roce_resp_connect(qp);
	roce_rate_init(qp);
	if (qp->d->cfg.keepalive_ns)
		roce_qp_wake_at(qp, roce_after(now, qp->d->cfg.keepalive_ns));
	return 0;
}

u32 roce_qp_num(const struct roce_qp *qp)
{
	return qp->num;
}

u32 roce_qp_state(const struct roce_qp *qp)
{
	return qp->state;
}

void *roce_qp_user(const struct roce_qp *qp)
{
	return qp->user;
}

void roce_qp_stats(const struct roce_qp *qp, struct rackwire_roce_qp_stats *stats)
{
	*stats = qp->stats;
}

struct roce_dev *roce_qp_dev(const struct roce_qp *qp)
{
	return qp->d;
}

void roce_qp_set_cm(struct roce_qp *qp, struct roce_cm_id *id)
{
	qp->cm = id;
}

struct roce_cm_id *roce_qp_cm(const struct roce_qp *qp)
{
	return qp->cm;
}

/* ---- completion and errors ---- */

static u32 wc_opcode(u32 wr_opcode)
{
	switch (wr_opcode) {
	case RACKWIRE_ROCE_WR_RDMA_WRITE:
	case RACKWIRE_ROCE_WR_RDMA_WRITE_WITH_IMM:
		return RACKWIRE_ROCE_WC_RDMA_WRITE;
	case RACKWIRE_ROCE_WR_RDMA_READ:
	case RACKWIRE_ROCE_WR_RDMA_READ_WITH_INV:
		return RACKWIRE_ROCE_WC_RDMA_READ;
	case RACKWIRE_ROCE_WR_ATOMIC_CMP_AND_SWP:
		return RACKWIRE_ROCE_WC_COMP_SWAP;
	case RACKWIRE_ROCE_WR_ATOMIC_FETCH_AND_ADD:
		return RACKWIRE_ROCE_WC_FETCH_ADD;
	case RACKWIRE_ROCE_WR_LOCAL_INV:
		return RACKWIRE_ROCE_WC_LOCAL_INV;
	case RACKWIRE_ROCE_WR_REG_MR:
		return RACKWIRE_ROCE_WC_REG_MR;
	}
	return RACKWIRE_ROCE_WC_SEND;
}

void roce_complete_send(struct roce_qp *qp, const struct roce_wqe *wqe, u32 status)
{
	struct rackwire_roce_wc wc = {
		.wr_id = wqe->wr_id,
		.status = status,
		.opcode = wc_opcode(wqe->opcode),
		.qp_num = qp->num,
		.qp_context = qp->user,
	};

	if (status == RACKWIRE_ROCE_WC_SUCCESS && !qp->signal_all && !(wqe->flags & RACKWIRE_ROCE_SEND_SIGNALED))
		return;
	if (wc.opcode == RACKWIRE_ROCE_WC_RDMA_READ && status == RACKWIRE_ROCE_WC_SUCCESS)
		wc.byte_len = wqe->length;
	if (!roce_cq_push(qp->scq, &wc, false))
		qp->cq_overrun = true;
}

void roce_complete_recv(struct roce_qp *qp, const struct rackwire_roce_wc *wc, bool solicited)
{
	if (!roce_cq_push(qp->rcq, wc, solicited))
		qp->cq_overrun = true;
}

/*
 * Completes everything posted in order; what lost its CQ is lost. Acknowledges
 * still go out, and when the peer was refused, the responses before the NAK.
 */
static void enter_error(struct roce_qp *qp)
{
	qp->state = RACKWIRE_ROCE_QP_ERR;
	qp->rate.cut = false;
	if (!qp->resp.fatal)
		qp->resp.q_n = qp->resp.q_new = 0;
	roce_req_flush(qp, true);
	roce_resp_flush(qp);
	roce_list_del(&qp->req_node);
	roce_timer_stop(&qp->d->timers, &qp->timer);
}

void roce_qp_error(struct roce_qp *qp, u64 now)
{
	qp->d->now = now;
	if (qp->state != RACKWIRE_ROCE_QP_ERR)
		enter_error(qp);
}

void roce_qp_fail(struct roce_qp *qp, u64 now, int error)
{
	if (qp->state == RACKWIRE_ROCE_QP_ERR)
		return;
	enter_error(qp);
	qp->error = error;
	roce_list_add_tail(&qp->d->qp_events, &qp->event);
	if (qp->cm)
		roce_cm_qp_failed(qp->cm, now, error);
}

/* The peer of a queue pair just accepted may not know of it until the REP has been repeated often enough. */
static bool peer_may_be_unready(const struct roce_qp *qp, u64 now)
{
	const struct roce_cfg *c = &qp->d->cfg;

	return qp->last_rx == qp->connected_at &&
	       now - qp->connected_at < (c->cm_retries + 1) * roce_max(c->cm_timeout_ns, CM_PAUSE_MAX_NS);
}

static void keep_alive(struct roce_qp *qp, u64 now)
{
	struct roce_requester *r = &qp->req;
	u64 idle = qp->d->cfg.keepalive_ns, due;

	if (!idle)
		return;
	if (r->probes && qp->last_rx >= r->probe_at)
		r->probes = 0;
	due = roce_after(r->probes ? r->probe_at : qp->last_rx, r->probes ? qp->ack_timeout : idle);
	if (now >= due && r->una == r->max) {
		if (r->probes > qp->link.retry_count && !peer_may_be_unready(qp, now)) {
			roce_qp_fail(qp, now, -ETIMEDOUT);
			return;
		}
		if (r->probes <= qp->link.retry_count)
			r->probes++;
		r->probe = true;
		r->probe_at = now;
		roce_kick_req(qp);
		due = roce_after(now, qp->ack_timeout);
	}
	roce_qp_wake_at(qp, due > now ? due : roce_after(now, idle));
}

void roce_qp_timer(struct roce_qp *qp, u64 now)
{
	u64 when;

	roce_rate_timer(qp, now);
	roce_req_timer(qp, now);
	if (qp->state == RACKWIRE_ROCE_QP_RTS)
		keep_alive(qp, now);
	if (qp->state != RACKWIRE_ROCE_QP_RTS)
		return;
	when = roce_min(roce_req_deadline(qp), roce_rate_deadline(qp));
	if (when != ROCE_NEVER)
		roce_qp_wake_at(qp, when);
}

/* ---- posting ---- */

static bool sums_up(const struct rackwire_roce_sge *sge, u32 n, u32 *length)
{
	u64 sum = 0;
	u32 i;

	for (i = 0; i < n; i++) {
		if (sge[i].addr + sge[i].length < sge[i].addr)
			return false;
		sum += sge[i].length;
	}
	*length = (u32)sum;
	return sum <= RACKWIRE_ROCE_MAX_MESSAGE;
}

/* Empty elements are left out, so that none of them becomes an empty frag. */
static u32 copy_sges(struct rackwire_roce_sge *to, const struct rackwire_roce_sge *from, u32 n)
{
	u32 i, kept = 0;

	for (i = 0; i < n; i++)
		if (from[i].length)
			to[kept++] = from[i];
	return kept;
}

void roce_scatter(const struct rackwire_roce_sge *sge, u32 n, u32 off, const u8 *data, u32 len)
{
	u32 i, part;

	for (i = 0; i < n && len; i++) {
		if (off >= sge[i].length) {
			off -= sge[i].length;
			continue;
		}
		part = sge[i].length - off;
		if (part > len)
			part = len;
		memcpy((u8 *)(uintptr_t)sge[i].addr + off, data, part);
		data += part;
		len -= part;
		off = 0;
	}
}

static bool is_atomic(u32 opcode)
{
	return opcode == RACKWIRE_ROCE_WR_ATOMIC_CMP_AND_SWP || opcode == RACKWIRE_ROCE_WR_ATOMIC_FETCH_AND_ADD;
}

static bool may_inline(u32 opcode)
{
	return opcode <= RACKWIRE_ROCE_WR_RDMA_WRITE_WITH_IMM;
}

static int check_send(const struct roce_qp *qp, const struct rackwire_roce_send_wr *wr, u32 *length)
{
	*length = 0;
	if (wr->opcode >= RACKWIRE_ROCE_WR_OPCODES || wr->flags & ~(u32)SEND_FLAGS)
		return -EINVAL;
	if (wr->opcode == RACKWIRE_ROCE_WR_LOCAL_INV)
		return 0;
	if (wr->opcode == RACKWIRE_ROCE_WR_REG_MR)
		return wr->ex.reg.mr && roce_access_valid(wr->ex.reg.access) ? 0 : -EINVAL;
	if (wr->num_sge > qp->max_sge || !sums_up(wr->sg_list, wr->num_sge, length))
		return -EINVAL;
	if (is_atomic(wr->opcode) && (*length != 8 || wr->remote_addr & 7))
		return -EINVAL;
	if (wr->flags & RACKWIRE_ROCE_SEND_INLINE) {
		if (!may_inline(wr->opcode))
			return -EINVAL;
		if (*length > RACKWIRE_ROCE_MAX_INLINE)
			return -EMSGSIZE;
	}
	return 0;
}

/* The place for inline payload comes with the first request that needs it. */
static int copy_inline(struct roce_qp *qp, u32 index, const struct rackwire_roce_send_wr *wr, u32 length)
{
	struct roce_requester *r = &qp->req;
	struct rackwire_roce_sge *sge = roce_wqe_sge(qp, index);
	u8 *to;
	u32 i;

	if (!r->inl)
		r->inl = roce_alloc(qp->d, ROCE_SLAB_RING, (size_t)(r->mask + 1) * RACKWIRE_ROCE_MAX_INLINE);
	if (!r->inl)
		return -ENOMEM;
	to = r->inl + (size_t)(index & r->mask) * RACKWIRE_ROCE_MAX_INLINE;
	sge->addr = (u64)(uintptr_t)to;
	sge->length = length;
	sge->lkey = RACKWIRE_ROCE_LOCAL_DMA_LKEY;
	for (i = 0; i < wr->num_sge; i++) {
		memcpy(to, (const void *)(uintptr_t)wr->sg_list[i].addr, wr->sg_list[i].length);
		to += wr->sg_list[i].length;
	}
	return 0;
}

static int post_one(struct roce_qp *qp, const struct rackwire_roce_send_wr *wr)
{
	struct roce_requester *r = &qp->req;
	struct roce_wqe *wqe = &r->wqe[r->tail & r->mask];
	u32 length;
	int err = check_send(qp, wr, &length);

	if (err)
		return err;
	if (r->tail - r->head >= r->limit)
		return -ENOMEM;
	memset(wqe, 0, sizeof(*wqe));
	wqe->wr_id = wr->wr_id;
	wqe->opcode = (u8)wr->opcode;
	wqe->flags = (u8)wr->flags;
	wqe->length = length;
	wqe->remote_addr = wr->remote_addr;
	wqe->rkey = wr->rkey;
	wqe->compare_add = wr->compare_add;
	wqe->swap = wr->swap;
	if (wr->opcode == RACKWIRE_ROCE_WR_REG_MR) {
		wqe->ex.reg.mr = wr->ex.reg.mr;
		wqe->ex.reg.key = wr->ex.reg.key;
		wqe->ex.reg.access = wr->ex.reg.access;
		roce_mr_get(wqe->ex.reg.mr);
	} else {
		wqe->ex.imm = wr->ex.imm; /* and ex.rkey */
	}
	if (wr->flags & RACKWIRE_ROCE_SEND_INLINE && length) {
		err = copy_inline(qp, r->tail, wr, length);
		if (err)
			return err;
		wqe->num_sge = 1;
	} else if (length) {
		wqe->num_sge = (u8)copy_sges(roce_wqe_sge(qp, r->tail), wr->sg_list, wr->num_sge);
	}
	r->tail++;
	return 0;
}

int roce_post_send(struct roce_qp *qp, u64 now, const struct rackwire_roce_send_wr *wr, u32 n, u32 *done)
{
	int err = 0;
	u32 i = 0;

	qp->d->now = now;
	if (qp->state != RACKWIRE_ROCE_QP_RTS && qp->state != RACKWIRE_ROCE_QP_ERR)
		err = -EINVAL;
	for (; !err && i < n; i++) {
		err = post_one(qp, &wr[i]);
		if (err)
			break;
	}
	if (done)
		*done = i;
	if (qp->state == RACKWIRE_ROCE_QP_ERR)
		roce_req_flush(qp, true);
	else if (i)
		roce_kick_req(qp);
	return err;
}

int roce_post_recv(struct roce_qp *qp, const struct rackwire_roce_recv_wr *wr, u32 n, u32 *done)
{
	struct roce_responder *r = &qp->resp;
	int err = 0;
	u32 i;

	for (i = 0; i < n; i++) {
		struct roce_rwqe *wqe = &r->wqe[r->tail & r->mask];

		u32 length;

		if (wr[i].num_sge > qp->max_sge || !sums_up(wr[i].sg_list, wr[i].num_sge, &length))
			err = -EINVAL;
		else if (r->tail - r->head >= r->limit)
			err = -ENOMEM;
		if (err)
			break;
		wqe->length = length;
		wqe->wr_id = wr[i].wr_id;
		wqe->epoch = 0;
		wqe->num_sge = copy_sges(r->sge + (size_t)(r->tail & r->mask) * qp->max_sge, wr[i].sg_list,
					 wr[i].num_sge);
		r->tail++;
	}
	if (done)
		*done = i;
	if (qp->state == RACKWIRE_ROCE_QP_ERR)
		roce_resp_flush(qp);
	return err;
}
