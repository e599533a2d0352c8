// SPDX-License-Identifier: BSD-2-Clause
/* Queue pairs, completion queues, waiting. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "verbs.h"

#define BATCH 16
#define ACK_EVERY 64 /* completion events; acknowledging takes a lock */

/* ---- completions ---- */

int verbs_cq_create(struct rdma_dev *dev, uint32_t entries, struct rdma_cq **out)
{
	struct rdma_cq *cq = calloc(1, sizeof(*cq));
	int err;

	if (!cq)
		return -ENOMEM;
	cq->dev = dev;
	cq->cq = dev->lib->create_cq(dev->verbs, (int)entries, cq, dev->comp, 0);
	if (!cq->cq) {
		err = -errno;
		free(cq);
		return err;
	}
	*out = cq;
	return 0;
}

void verbs_cq_destroy(struct rdma_cq *cq)
{
	if (cq->unacked)
		cq->dev->lib->ack_cq_events(cq->cq, cq->unacked);
	cq->dev->lib->destroy_cq(cq->cq);
	free(cq);
}

static struct rdma_qp *qp_find(const struct rdma_dev *dev, uint32_t num)
{
	struct rdma_qp *qp = dev->qps[num % VERBS_HASH];

	while (qp && qp->qp->qp_num != num)
		qp = qp->next;
	return qp;
}

static uint32_t opcode_from(enum ibv_wc_opcode opcode)
{
	switch (opcode) {
	case IBV_WC_RDMA_WRITE:
		return RACKWIRE_ROCE_WC_RDMA_WRITE;
	case IBV_WC_RDMA_READ:
		return RACKWIRE_ROCE_WC_RDMA_READ;
	case IBV_WC_COMP_SWAP:
		return RACKWIRE_ROCE_WC_COMP_SWAP;
	case IBV_WC_FETCH_ADD:
		return RACKWIRE_ROCE_WC_FETCH_ADD;
	case IBV_WC_BIND_MW:
		return RACKWIRE_ROCE_WC_REG_MR;
	case IBV_WC_LOCAL_INV:
		return RACKWIRE_ROCE_WC_LOCAL_INV;
	case IBV_WC_RECV:
		return RACKWIRE_ROCE_WC_RECV;
	case IBV_WC_RECV_RDMA_WITH_IMM:
		return RACKWIRE_ROCE_WC_RECV_RDMA_WITH_IMM;
	default:
		return RACKWIRE_ROCE_WC_SEND;
	}
}

static void wc_from(const struct rdma_dev *dev, const struct ibv_wc *in, struct rackwire_roce_wc *out)
{
	const struct rdma_qp *qp = qp_find(dev, in->qp_num);

	out->wr_id = in->wr_id;
	out->status = in->status; /* the same numbers */
	out->opcode = opcode_from(in->opcode);
	out->byte_len = in->byte_len;
	out->flags = 0;
	out->ex = 0;
	out->qp_num = in->qp_num;
	out->qp_context = qp ? qp->context : NULL;
	if (in->status)
		return;
	/* rxe says "with invalidate" by the kernel's bit for it, which is IBV_WC_IP_CSUM_OK in user space. */
	if (in->wc_flags & IBV_WC_WITH_INV ||
	    (in->opcode == IBV_WC_RECV && (in->wc_flags & (IBV_WC_IP_CSUM_OK | IBV_WC_WITH_IMM)) == IBV_WC_IP_CSUM_OK)) {
		out->flags = RACKWIRE_ROCE_WC_WITH_INV;
		out->ex = in->invalidated_rkey;
	} else if (in->wc_flags & IBV_WC_WITH_IMM) {
		out->flags = RACKWIRE_ROCE_WC_WITH_IMM;
		out->ex = ntohl(in->imm_data);
	}
}

int verbs_poll_cq(struct rdma_cq *cq, struct rackwire_roce_wc *wc, uint32_t max)
{
	uint32_t done = 0, i;
	int n;

	while (done < max) {
		if (!cq->count) {
			cq->first = 0;
			n = ibv_poll_cq(cq->cq, VERBS_STAGE, cq->staged);
			if (n < 0)
				return -EIO;
			cq->count = (uint32_t)n;
			if (!n)
				break;
		}
		for (i = 0; cq->count && done < max; i++, cq->count--)
			wc_from(cq->dev, &cq->staged[cq->first++], &wc[done++]);
	}
	return (int)done;
}

/* Something to poll? Looks without taking it from poll_cq(). */
static int cq_ready(struct rdma_cq *cq)
{
	int n;

	if (!cq || cq->count)
		return cq != NULL;
	cq->first = 0;
	n = ibv_poll_cq(cq->cq, VERBS_STAGE, cq->staged);
	if (n < 0)
		return -EIO;
	cq->count = (uint32_t)n;
	return n > 0;
}

static void take_cq_events(struct rdma_dev *dev)
{
	struct ibv_cq *ibv;
	void *context;

	while (!dev->lib->get_cq_event(dev->comp, &ibv, &context)) {
		struct rdma_cq *cq = context;

		if (++cq->unacked < ACK_EVERY)
			continue;
		dev->lib->ack_cq_events(ibv, cq->unacked);
		cq->unacked = 0;
	}
}

/* Readable descriptors as RDMA_WAIT_CM | RDMA_WAIT_FD, or -ECANCELED; @timeout_ns as in wait(). */
static int sleep_for(struct rdma_dev *dev, int fd, uint64_t timeout_ns)
{
	struct pollfd fds[4] = {
		{ .fd = dev->wake_fd, .events = POLLIN },
		{ .fd = dev->events->fd, .events = POLLIN },
		{ .fd = dev->comp->fd, .events = POLLIN },
		{ .fd = fd, .events = POLLIN }, /* negative: left out */
	};
	struct timespec ts = { (time_t)(timeout_ns / RACKWIRE_NS_PER_S), (long)(timeout_ns % RACKWIRE_NS_PER_S) };
	uint64_t count;

	if (ppoll(fds, 4, timeout_ns == UINT64_MAX ? NULL : &ts, NULL) < 0)
		return errno == EINTR ? 0 : -errno;
	if (fds[0].revents && read(dev->wake_fd, &count, sizeof(count)) == sizeof(count))
		return -ECANCELED;
	if (fds[2].revents)
		take_cq_events(dev);
	return (fds[1].revents ? RDMA_WAIT_CM : 0) | (fds[3].revents ? RDMA_WAIT_FD : 0);
}

int verbs_wait_fd(struct rdma_dev *dev, struct rdma_cq *cq, int fd, uint64_t timeout_ns)
{
	uint64_t begin = rackwire_now_ns(), now = begin, until, spin;
	uint32_t round = 0;
	int found, ready;

	until = timeout_ns > UINT64_MAX - begin ? UINT64_MAX : begin + timeout_ns;
	spin = dev->spin_ns > UINT64_MAX - begin ? UINT64_MAX : begin + dev->spin_ns;
	for (;;) {
		/* Spinning, the descriptors are looked at now and then. */
		found = now < spin && round++ % 64 ? 0 : sleep_for(dev, fd, 0);
		if (found < 0)
			return found;
		ready = cq_ready(cq);
		if (ready < 0)
			return ready;
		found |= ready ? RDMA_WAIT_CQ : 0;
		if (found || now >= until)
			return found;
		if (now >= spin) {
			/* What came before arming tells nobody. */
			if (cq && ibv_req_notify_cq(cq->cq, 0))
				return -EIO;
			ready = cq_ready(cq);
			if (ready)
				return ready < 0 ? ready : RDMA_WAIT_CQ;
			found = sleep_for(dev, fd, until == UINT64_MAX ? UINT64_MAX : until - now);
			if (found)
				return found;
		}
		now = rackwire_now_ns();
	}
}

int verbs_wait(struct rdma_dev *dev, struct rdma_cq *cq, uint64_t timeout_ns)
{
	return verbs_wait_fd(dev, cq, -1, timeout_ns);
}

/* ---- queue pairs ---- */

int verbs_qp_create(struct rdma_dev *dev, struct rdma_id *id, struct rdma_cq *send_cq, struct rdma_cq *recv_cq,
		    const struct rackwire_roce_qp_attr *attr, void *context, struct rdma_qp **out)
{
	struct ibv_qp_init_attr init = {
		.send_cq = send_cq->cq,
		.recv_cq = recv_cq->cq,
		.qp_type = IBV_QPT_RC,
		.sq_sig_all = attr->signal_all ? 1 : 0,
		.cap = {
			.max_send_wr = attr->max_send_wr ? attr->max_send_wr : 64,
			.max_recv_wr = attr->max_recv_wr ? attr->max_recv_wr : 64,
			.max_send_sge = attr->max_sge ? attr->max_sge : 1,
			.max_recv_sge = attr->max_sge ? attr->max_sge : 1,
			.max_inline_data = RACKWIRE_ROCE_MAX_INLINE,
		},
	};
	struct rdma_qp *qp = calloc(1, sizeof(*qp));
	int err;

	if (!qp)
		return -ENOMEM;
	err = dev->lib->create_qp(id->cm, dev->pd, &init);
	if (err && errno == EINVAL) {
		init.cap.max_inline_data = 0;
		err = dev->lib->create_qp(id->cm, dev->pd, &init);
	}
	if (err) {
		err = -errno;
		free(qp);
		return err;
	}
	qp->dev = dev;
	qp->id = id->cm;
	qp->qp = id->cm->qp;
	qp->context = context;
	qp->max_inline = init.cap.max_inline_data;
	qp->next = dev->qps[qp->qp->qp_num % VERBS_HASH];
	dev->qps[qp->qp->qp_num % VERBS_HASH] = qp;
	*out = qp;
	return 0;
}

uint32_t verbs_qp_num(struct rdma_qp *qp)
{
	return qp->qp->qp_num;
}

void verbs_qp_destroy(struct rdma_qp *qp)
{
	struct rdma_qp **link = &qp->dev->qps[qp->qp->qp_num % VERBS_HASH];

	while (*link != qp)
		link = &(*link)->next;
	*link = qp->next;
	qp->dev->lib->destroy_qp(qp->id);
	free(qp);
}

void verbs_counters(struct rdma_qp *qp, struct rdma_counters *counters)
{
	(void)qp;
	memset(counters, 0, sizeof(*counters)); /* devices keep none for a queue pair */
}

static int opcode_to(uint32_t opcode, enum ibv_wr_opcode *out)
{
	static const int opcodes[RACKWIRE_ROCE_WR_OPCODES] = {
		[RACKWIRE_ROCE_WR_SEND] = IBV_WR_SEND,
		[RACKWIRE_ROCE_WR_SEND_WITH_IMM] = IBV_WR_SEND_WITH_IMM,
		[RACKWIRE_ROCE_WR_SEND_WITH_INV] = IBV_WR_SEND_WITH_INV,
		[RACKWIRE_ROCE_WR_RDMA_WRITE] = IBV_WR_RDMA_WRITE,
		[RACKWIRE_ROCE_WR_RDMA_WRITE_WITH_IMM] = IBV_WR_RDMA_WRITE_WITH_IMM,
		[RACKWIRE_ROCE_WR_RDMA_READ] = IBV_WR_RDMA_READ,
		[RACKWIRE_ROCE_WR_RDMA_READ_WITH_INV] = -1,
		[RACKWIRE_ROCE_WR_ATOMIC_CMP_AND_SWP] = IBV_WR_ATOMIC_CMP_AND_SWP,
		[RACKWIRE_ROCE_WR_ATOMIC_FETCH_AND_ADD] = IBV_WR_ATOMIC_FETCH_AND_ADD,
		[RACKWIRE_ROCE_WR_LOCAL_INV] = IBV_WR_LOCAL_INV,
		[RACKWIRE_ROCE_WR_REG_MR] = IBV_WR_BIND_MW,
	};

	if (opcode >= RACKWIRE_ROCE_WR_OPCODES)
		return -EINVAL;
	if (opcodes[opcode] < 0)
		return -EOPNOTSUPP;
	*out = (enum ibv_wr_opcode)opcodes[opcode];
	return 0;
}

static uint32_t sges_to(struct ibv_sge *out, const struct rackwire_roce_sge *in, uint32_t n)
{
	uint32_t i, bytes = 0;

	for (i = 0; i < n; i++) {
		out[i] = (struct ibv_sge){ .addr = in[i].addr, .length = in[i].length, .lkey = in[i].lkey };
		bytes += in[i].length;
	}
	return bytes;
}

static void bind_to(struct ibv_send_wr *out, const struct rackwire_roce_send_wr *in)
{
	struct rdma_mr *mr = in->ex.reg.mr;

	out->bind_mw.mw = mr->mw;
	out->bind_mw.rkey = in->ex.reg.key;
	out->bind_mw.bind_info.mr = mr->mr;
	out->bind_mw.bind_info.addr = (uintptr_t)mr->addr;
	out->bind_mw.bind_info.length = mr->length;
	/* A window gives the peer access, nobody else. */
	out->bind_mw.bind_info.mw_access_flags =
		(unsigned int)verbs_access(in->ex.reg.access & ~(uint32_t)RACKWIRE_ROCE_LOCAL_WRITE);
}

static int send_to(const struct rdma_qp *qp, const struct rackwire_roce_send_wr *in, struct ibv_send_wr *out,
		   struct ibv_sge *sge)
{
	uint32_t bytes;
	int err;

	if (in->num_sge > RACKWIRE_ROCE_MAX_SGE)
		return -EINVAL;
	memset(out, 0, sizeof(*out));
	err = opcode_to(in->opcode, &out->opcode);
	if (err)
		return err;
	out->wr_id = in->wr_id;
	out->sg_list = sge;
	out->num_sge = (int)in->num_sge;
	bytes = sges_to(sge, in->sg_list, in->num_sge);
	out->send_flags = (in->flags & RACKWIRE_ROCE_SEND_FENCE ? IBV_SEND_FENCE : 0) |
			  (in->flags & RACKWIRE_ROCE_SEND_SIGNALED ? IBV_SEND_SIGNALED : 0) |
			  (in->flags & RACKWIRE_ROCE_SEND_SOLICITED ? IBV_SEND_SOLICITED : 0);
	if (in->flags & RACKWIRE_ROCE_SEND_INLINE && bytes <= qp->max_inline)
		out->send_flags |= IBV_SEND_INLINE;
	switch (in->opcode) {
	case RACKWIRE_ROCE_WR_SEND_WITH_IMM:
	case RACKWIRE_ROCE_WR_RDMA_WRITE_WITH_IMM:
		out->imm_data = htonl(in->ex.imm);
		break;
	case RACKWIRE_ROCE_WR_SEND_WITH_INV:
	case RACKWIRE_ROCE_WR_LOCAL_INV:
		out->invalidate_rkey = in->ex.rkey;
		break;
	case RACKWIRE_ROCE_WR_REG_MR:
		bind_to(out, in);
		break;
	}
	switch (in->opcode) {
	case RACKWIRE_ROCE_WR_ATOMIC_CMP_AND_SWP:
	case RACKWIRE_ROCE_WR_ATOMIC_FETCH_AND_ADD:
		out->wr.atomic.remote_addr = in->remote_addr;
		out->wr.atomic.rkey = in->rkey;
		out->wr.atomic.compare_add = in->compare_add;
		out->wr.atomic.swap = in->swap;
		break;
	case RACKWIRE_ROCE_WR_RDMA_WRITE:
	case RACKWIRE_ROCE_WR_RDMA_WRITE_WITH_IMM:
	case RACKWIRE_ROCE_WR_RDMA_READ:
		out->wr.rdma.remote_addr = in->remote_addr;
		out->wr.rdma.rkey = in->rkey;
		break;
	}
	return 0;
}

/* The window now has the key it was bound under; the next one is made from it. */
static void bound(const struct rackwire_roce_send_wr *wr, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		if (wr[i].opcode == RACKWIRE_ROCE_WR_REG_MR)
			((struct rdma_mr *)wr[i].ex.reg.mr)->mw->rkey = wr[i].ex.reg.key;
}

int verbs_post_send(struct rdma_qp *qp, const struct rackwire_roce_send_wr *wr, uint32_t n, uint32_t *done)
{
	struct ibv_sge sge[BATCH][RACKWIRE_ROCE_MAX_SGE];
	struct ibv_send_wr list[BATCH], *bad;
	uint32_t i, take, taken = 0;
	int err = 0;

	for (; taken < n && !err; taken += take) {
		for (take = 0; take < BATCH && taken + take < n && !err; take++) {
			err = send_to(qp, &wr[taken + take], &list[take], sge[take]);
			list[take].next = NULL;
			if (take)
				list[take - 1].next = &list[take];
		}
		if (err)
			break;
		err = -ibv_post_send(qp->qp, list, &bad);
		if (err)
			for (i = 0; i < take; i++)
				if (&list[i] == bad)
					take = i;
		bound(wr + taken, take);
	}
	if (done)
		*done = taken;
	return err;
}

int verbs_post_recv(struct rdma_qp *qp, const struct rackwire_roce_recv_wr *wr, uint32_t n, uint32_t *done)
{
	struct ibv_sge sge[BATCH][RACKWIRE_ROCE_MAX_SGE];
	struct ibv_recv_wr list[BATCH], *bad;
	uint32_t i, take, taken = 0;
	int err = 0;

	for (; taken < n && !err; taken += take) {
		take = n - taken < BATCH ? n - taken : BATCH;
		for (i = 0; i < take; i++) {
			const struct rackwire_roce_recv_wr *in = &wr[taken + i];

			if (in->num_sge > RACKWIRE_ROCE_MAX_SGE) {
				err = -EINVAL;
				take = 0;
				break;
			}
			sges_to(sge[i], in->sg_list, in->num_sge);
			list[i] = (struct ibv_recv_wr){
				.wr_id = in->wr_id,
				.sg_list = sge[i],
				.num_sge = (int)in->num_sge,
				.next = i + 1 < take ? &list[i + 1] : NULL,
			};
		}
		if (err)
			break;
		err = -ibv_post_recv(qp->qp, list, &bad);
		if (err)
			for (i = 0; i < take; i++)
				if (&list[i] == bad)
					take = i;
	}
	if (done)
		*done = taken;
	return err;
}
