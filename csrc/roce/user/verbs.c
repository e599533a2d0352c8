// SPDX-License-Identifier: BSD-2-Clause
/* Protection domains, memory regions, completion queues and queue pairs: the core's, under the device's lock. */
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"
#include "dev.h"

#define DEFER_POSTS 64

/* ---- protection domains and memory regions ---- */

int rackwire_roce_pd_create(struct rackwire_roce_dev *dev, struct rackwire_roce_pd **out)
{
	struct rackwire_roce_pd *pd = calloc(1, sizeof(*pd));
	int err;

	if (!pd)
		return -ENOMEM;
	pd->dev = dev;
	roce_lock(dev);
	err = roce_pd_create(dev->core, &pd->core);
	if (!err)
		roce_list_add_tail(&dev->pds, &pd->node);
	roce_unlock(dev);
	if (err)
		free(pd);
	else
		*out = pd;
	return err;
}

int rackwire_roce_pd_destroy(struct rackwire_roce_pd *pd)
{
	int err;

	roce_lock(pd->dev);
	err = roce_pd_destroy(pd->core);
	if (!err)
		roce_list_del(&pd->node);
	roce_unlock(pd->dev);
	if (!err)
		free(pd);
	return err;
}

int rackwire_roce_mr_register(struct rackwire_roce_pd *pd, void *addr, size_t length, uint32_t access,
			      struct rackwire_roce_mr **out)
{
	struct rackwire_roce_mr *mr = calloc(1, sizeof(*mr));
	int err;

	if (!mr)
		return -ENOMEM;
	mr->dev = pd->dev;
	roce_lock(mr->dev);
	err = roce_mr_register(pd->core, addr, length, access, mr, &mr->core);
	if (!err)
		roce_list_add_tail(&mr->dev->mrs, &mr->node);
	roce_unlock(mr->dev);
	if (err)
		free(mr);
	else
		*out = mr;
	return err;
}

void rackwire_roce_mr_deregister(struct rackwire_roce_mr *mr)
{
	struct rackwire_roce_dev *dev = mr->dev;

	roce_lock(dev);
	roce_mr_deregister(mr->core);
	roce_list_del(&mr->node);
	dev->tx_pending = true;
	roce_settle(dev);
	roce_unlock(dev);
	free(mr);
}

uint32_t rackwire_roce_mr_key(struct rackwire_roce_mr *mr)
{
	u32 key;

	roce_lock(mr->dev);
	key = roce_mr_key(mr->core);
	roce_unlock(mr->dev);
	return key;
}

int rackwire_roce_mr_next_key(struct rackwire_roce_mr *mr, uint32_t *key)
{
	int err;

	roce_lock(mr->dev);
	err = roce_mr_next_key(mr->core, key);
	roce_unlock(mr->dev);
	return err;
}

/* ---- completion queues ---- */

int rackwire_roce_cq_create(struct rackwire_roce_dev *dev, uint32_t entries, void *context, struct rackwire_roce_cq **out)
{
	struct rackwire_roce_cq *cq = calloc(1, sizeof(*cq));
	int err;

	if (!cq)
		return -ENOMEM;
	cq->dev = dev;
	cq->context = context;
	cq->fd = -1;
	roce_lock(dev);
	err = roce_cq_create(dev->core, entries, cq, &cq->core);
	if (!err)
		roce_list_add_tail(&dev->cqs, &cq->node);
	roce_unlock(dev);
	if (err)
		free(cq);
	else
		*out = cq;
	return err;
}

int rackwire_roce_cq_destroy(struct rackwire_roce_cq *cq)
{
	int err;

	roce_lock(cq->dev);
	err = roce_cq_destroy(cq->core);
	if (!err)
		roce_list_del(&cq->node);
	roce_unlock(cq->dev);
	if (err)
		return err;
	if (cq->fd >= 0)
		close(cq->fd);
	free(cq);
	return 0;
}

/*
 * What was taken here is likely to be followed by posts, and those that come in
 * a row can share one datagram: as many as completions were handed out may wait
 * for each other, for as long as nobody looks for more. The thread sends them
 * should nobody come again.
 */
static void expect_posts(struct rackwire_roce_dev *dev, int n, u32 max)
{
	dev->defer = 0;
	if (n > 1 && dev->thread_running)
		dev->defer = (u32)n == max ? (u32)n + 1 : (u32)n;
}

int rackwire_roce_poll_cq(struct rackwire_roce_cq *cq, struct rackwire_roce_wc *wc, uint32_t max)
{
	struct rackwire_roce_dev *dev = cq->dev;
	int n;

	roce_lock(dev);
	n = roce_poll_cq(cq->core, wc, max);
	if (!n) {
		u32 got = roce_drive(dev);

		dev->app_at = dev->now;
		if (got)
			n = roce_poll_cq(cq->core, wc, max);
		roce_leave_pending(dev);
	}
	expect_posts(dev, n, max);
	roce_unlock(dev);
	return n;
}

int rackwire_roce_cq_arm(struct rackwire_roce_cq *cq, uint32_t solicited_only)
{
	struct rackwire_roce_dev *dev = cq->dev;
	int there;

	roce_lock(dev);
	there = roce_cq_arm(cq->core, solicited_only && !cq->waited);
	if (!there) {
		cq->armed = solicited_only ? 1 : 2;
		dev->armed_at = rackwire_now_ns();
		if (dev->tx_pending)
			roce_settle(dev);
		if (!dev->app_sleeps)
			roce_thread_call(dev);
	}
	roce_unlock(dev);
	return there;
}

int rackwire_roce_cq_fd(struct rackwire_roce_cq *cq)
{
	int fd;

	roce_lock(cq->dev);
	if (cq->fd < 0)
		cq->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fd = cq->fd < 0 ? -errno : cq->fd;
	roce_unlock(cq->dev);
	return fd;
}

void rackwire_roce_cq_clear(struct rackwire_roce_cq *cq)
{
	u64 value;

	if (cq->fd >= 0 && read(cq->fd, &value, sizeof(value)) < 0)
		return; /* there was none */
}

int rackwire_roce_cq_wait(struct rackwire_roce_cq *cq, uint64_t timeout_ns)
{
	int found = roce_wait(cq->dev, cq, false, -1, timeout_ns);

	return found > 0 ? 1 : found;
}

/* ---- queue pairs ---- */

int rackwire_roce_qp_create(struct rackwire_roce_pd *pd, struct rackwire_roce_cq *send_cq, struct rackwire_roce_cq *recv_cq,
			    const struct rackwire_roce_qp_attr *attr, void *context, struct rackwire_roce_qp **out)
{
	struct rackwire_roce_qp *qp;
	int err;

	if (!pd || !send_cq || !recv_cq || send_cq->dev != pd->dev || recv_cq->dev != pd->dev)
		return -EINVAL;
	qp = calloc(1, sizeof(*qp));
	if (!qp)
		return -ENOMEM;
	qp->dev = pd->dev;
	roce_lock(qp->dev);
	err = roce_qp_create(pd->core, send_cq->core, recv_cq->core, attr, context, &qp->core);
	if (!err)
		roce_list_add_tail(&qp->dev->qps, &qp->node);
	roce_unlock(qp->dev);
	if (err)
		free(qp);
	else
		*out = qp;
	return err;
}

void rackwire_roce_qp_destroy(struct rackwire_roce_qp *qp)
{
	struct rackwire_roce_dev *dev = qp->dev;

	roce_lock(dev);
	dev->now = rackwire_now_ns();
	roce_qp_destroy(qp->core, dev->now);
	roce_list_del(&qp->node);
	dev->tx_pending = true;
	roce_settle(dev);
	roce_unlock(dev);
	free(qp);
}

uint32_t rackwire_roce_qp_num(struct rackwire_roce_qp *qp)
{
	return roce_qp_num(qp->core); /* never changes */
}

uint32_t rackwire_roce_qp_state(struct rackwire_roce_qp *qp)
{
	u32 state;

	roce_lock(qp->dev);
	state = roce_qp_state(qp->core);
	roce_unlock(qp->dev);
	return state;
}

void rackwire_roce_qp_error(struct rackwire_roce_qp *qp)
{
	struct rackwire_roce_dev *dev = qp->dev;

	roce_lock(dev);
	dev->now = rackwire_now_ns();
	roce_qp_error(qp->core, dev->now);
	dev->tx_pending = true;
	roce_settle(dev);
	roce_unlock(dev);
}

void rackwire_roce_qp_stats(struct rackwire_roce_qp *qp, struct rackwire_roce_qp_stats *stats)
{
	roce_lock(qp->dev);
	roce_qp_stats(qp->core, stats);
	roce_unlock(qp->dev);
}

/* The core knows its own regions only. */
static int post_reg_mr(struct rackwire_roce_qp *qp, const struct rackwire_roce_send_wr *wr, u32 *done)
{
	struct rackwire_roce_send_wr copy = *wr;
	struct rackwire_roce_mr *mr = wr->ex.reg.mr;

	if (!mr || mr->dev != qp->dev)
		return -EINVAL;
	copy.ex.reg.mr = mr->core;
	return roce_post_send(qp->core, qp->dev->now, &copy, 1, done);
}

static int post(struct rackwire_roce_qp *qp, const struct rackwire_roce_send_wr *wr, u32 n, u32 *done)
{
	u32 i, part;
	int err = 0;

	*done = 0;
	while (*done < n && !err) {
		part = 0;
		for (i = *done; i < n && wr[i].opcode != RACKWIRE_ROCE_WR_REG_MR; i++)
			;
		if (i > *done)
			err = roce_post_send(qp->core, qp->dev->now, wr + *done, i - *done, &part);
		else
			err = post_reg_mr(qp, wr + i, &part);
		*done += part;
		if (!part && !err)
			err = -EIO;
	}
	return err;
}

int rackwire_roce_post_send(struct rackwire_roce_qp *qp, const struct rackwire_roce_send_wr *wr, uint32_t n, uint32_t *done)
{
	struct rackwire_roce_dev *dev = qp->dev;
	u32 taken;
	int err;

	roce_lock(dev);
	dev->now = rackwire_now_ns();
	err = post(qp, wr, n, &taken);
	if (taken)
		dev->tx_pending = true;
	if (!err && dev->defer > 1 && dev->deferred < DEFER_POSTS) {
		dev->defer--;
		dev->deferred++;
		roce_leave_pending(dev);
	} else {
		roce_settle(dev);
	}
	roce_unlock(dev);
	if (done)
		*done = taken;
	return err;
}

int rackwire_roce_post_recv(struct rackwire_roce_qp *qp, const struct rackwire_roce_recv_wr *wr, uint32_t n, uint32_t *done)
{
	u32 taken = 0;
	int err;

	roce_lock(qp->dev);
	err = roce_post_recv(qp->core, wr, n, &taken);
	roce_unlock(qp->dev);
	if (done)
		*done = taken;
	return err;
}
