// SPDX-License-Identifier: BSD-2-Clause
/*
 * The soft engine: our user-space RoCEv2. Regions, completion queues and queue
 * pairs are the library's own; ids are wrapped, because a connection exists
 * here before the library knows of it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "provider.h"
#include "rackwire_roce.h"

struct rdma_dev {
	struct rackwire_roce_dev *dev;
	struct rackwire_roce_pd *pd;
	struct rdma_id *ids;
};

struct rdma_id {
	struct rdma_id *next, **link;
	struct rdma_dev *dev;
	struct rackwire_roce_cm_id *cm; /* NULL until connect() */
	void *context;
	struct sockaddr_storage target;
	uint8_t tos, ack_timeout;
};

static inline struct rackwire_roce_mr *mr_of(struct rdma_mr *mr) { return (struct rackwire_roce_mr *)mr; }
static inline struct rackwire_roce_cq *cq_of(struct rdma_cq *cq) { return (struct rackwire_roce_cq *)cq; }
static inline struct rackwire_roce_qp *qp_of(struct rdma_qp *qp) { return (struct rackwire_roce_qp *)qp; }

static int soft_probe(char *error, size_t length)
{
	if (error && length)
		error[0] = 0;
	return 0; /* wherever there are UDP sockets */
}

static int address_text(const struct sockaddr_storage *addr, char *text, size_t length)
{
	const struct sockaddr_in6 *six = (const void *)addr;
	const struct sockaddr_in *four = (const void *)addr;
	char zone[IF_NAMESIZE];
	size_t n;

	text[0] = 0;
	switch (addr->ss_family) {
	case AF_UNSPEC:
		return 0;
	case AF_INET:
		return inet_ntop(AF_INET, &four->sin_addr, text, (socklen_t)length) ? 0 : -errno;
	case AF_INET6:
		if (!inet_ntop(AF_INET6, &six->sin6_addr, text, (socklen_t)length))
			return -errno;
		n = strlen(text);
		if (six->sin6_scope_id && if_indextoname(six->sin6_scope_id, zone))
			snprintf(text + n, length - n, "%%%s", zone);
		return 0;
	default:
		return -EAFNOSUPPORT;
	}
}

static int soft_open(const struct rdma_open *open, struct rdma_dev **out, char *error, size_t length)
{
	struct rackwire_roce_config config = {
		.size = sizeof(config),
		.mtu = open->mtu,
		.spin_ns = open->spin_ns,
		.seed = open->seed,
		.cpu = open->cpu + 1,
		.flags = (open->flags & RDMA_OPEN_ECN ? RACKWIRE_ROCE_ECN : 0) |
			 (open->flags & RDMA_OPEN_NO_OFFLOAD ? RACKWIRE_ROCE_NO_GSO : 0),
	};
	struct rdma_dev *dev;
	int err;

	if (open->spin_ns == UINT64_MAX)
		config.flags |= RACKWIRE_ROCE_BUSY_POLL;
	err = address_text(&open->local, config.local, sizeof(config.local));
	if (!err)
		err = address_text(&open->towards, config.towards, sizeof(config.towards));
	if (err)
		return err;
	dev = calloc(1, sizeof(*dev));
	if (!dev)
		return -ENOMEM;
	err = rackwire_roce_open(&config, &dev->dev, error, length);
	if (!err)
		err = rackwire_roce_pd_create(dev->dev, &dev->pd);
	if (err) {
		if (dev->dev)
			rackwire_roce_close(dev->dev);
		free(dev);
		return err;
	}
	*out = dev;
	return 0;
}

static void soft_close(struct rdma_dev *dev)
{
	struct rdma_id *id;

	rackwire_roce_close(dev->dev);
	while ((id = dev->ids)) {
		dev->ids = id->next;
		free(id);
	}
	free(dev);
}

static void soft_info(struct rdma_dev *dev, struct rdma_dev_info *info)
{
	struct rackwire_roce_dev_info d = { .size = sizeof(d) };

	memset(info, 0, sizeof(*info));
	rackwire_roce_dev_info(dev->dev, &d);
	snprintf(info->name, sizeof(info->name), "soft");
	info->mtu = d.mtu;
	info->features = RDMA_CAN_SEND_INV | RDMA_CAN_READ_INV | RDMA_CAN_REG_MR | RDMA_REG_MR_LKEY |
			 RDMA_CAN_LOCAL_INV | RDMA_CAN_LOCAL_DMA_LKEY | RDMA_CAN_ATOMICS;
	info->max_send_wr = 16384;
	info->max_cqe = 1u << 20;
	info->max_rd_atomic = RACKWIRE_ROCE_MAX_RD_ATOMIC;
	info->max_message = RACKWIRE_ROCE_MAX_MESSAGE;
	info->max_mr = UINT64_MAX;
}

/* ---- regions, queues ---- */

static int soft_mr_register(struct rdma_dev *dev, void *addr, size_t length, uint32_t access, struct rdma_mr **out)
{
	return rackwire_roce_mr_register(dev->pd, addr, length, access, (struct rackwire_roce_mr **)out);
}

static void soft_mr_deregister(struct rdma_mr *mr)
{
	rackwire_roce_mr_deregister(mr_of(mr));
}

static uint32_t soft_key(struct rdma_mr *mr)
{
	return rackwire_roce_mr_key(mr_of(mr));
}

static int soft_mr_next_key(struct rdma_mr *mr, uint32_t *key)
{
	return rackwire_roce_mr_next_key(mr_of(mr), key);
}

static void *soft_mr_handle(struct rdma_mr *mr)
{
	return mr;
}

static int soft_cq_create(struct rdma_dev *dev, uint32_t entries, struct rdma_cq **out)
{
	return rackwire_roce_cq_create(dev->dev, entries, NULL, (struct rackwire_roce_cq **)out);
}

static void soft_cq_destroy(struct rdma_cq *cq)
{
	rackwire_roce_cq_destroy(cq_of(cq));
}

static int soft_poll_cq(struct rdma_cq *cq, struct rackwire_roce_wc *wc, uint32_t max)
{
	return rackwire_roce_poll_cq(cq_of(cq), wc, max);
}

static int soft_qp_create(struct rdma_dev *dev, struct rdma_id *id, struct rdma_cq *send_cq, struct rdma_cq *recv_cq,
			  const struct rackwire_roce_qp_attr *attr, void *context, struct rdma_qp **out)
{
	(void)id;
	return rackwire_roce_qp_create(dev->pd, cq_of(send_cq), cq_of(recv_cq), attr, context,
				       (struct rackwire_roce_qp **)out);
}

static uint32_t soft_qp_num(struct rdma_qp *qp)
{
	return rackwire_roce_qp_num(qp_of(qp));
}

static void soft_qp_destroy(struct rdma_qp *qp)
{
	rackwire_roce_qp_destroy(qp_of(qp));
}

static int soft_post_send(struct rdma_qp *qp, const struct rackwire_roce_send_wr *wr, uint32_t n, uint32_t *done)
{
	return rackwire_roce_post_send(qp_of(qp), wr, n, done);
}

static int soft_post_recv(struct rdma_qp *qp, const struct rackwire_roce_recv_wr *wr, uint32_t n, uint32_t *done)
{
	return rackwire_roce_post_recv(qp_of(qp), wr, n, done);
}

static void soft_counters(struct rdma_qp *qp, struct rdma_counters *counters)
{
	rackwire_roce_qp_stats(qp_of(qp), &counters->qp);
}

_Static_assert(RDMA_WAIT_CQ == RACKWIRE_ROCE_WAIT_CQ && RDMA_WAIT_CM == RACKWIRE_ROCE_WAIT_CM &&
	       RDMA_WAIT_FD == RACKWIRE_ROCE_WAIT_FD, "handed through");

static int soft_wait(struct rdma_dev *dev, struct rdma_cq *cq, uint64_t timeout_ns)
{
	return rackwire_roce_wait(dev->dev, cq_of(cq), timeout_ns);
}

static int soft_wait_fd(struct rdma_dev *dev, struct rdma_cq *cq, int fd, uint64_t timeout_ns)
{
	return rackwire_roce_wait_fd(dev->dev, cq_of(cq), fd, timeout_ns);
}

static void soft_wake(struct rdma_dev *dev)
{
	rackwire_roce_wake(dev->dev);
}

/* ---- connections ---- */

static struct rdma_id *id_new(struct rdma_dev *dev, void *context)
{
	struct rdma_id *id = calloc(1, sizeof(*id));

	if (!id)
		return NULL;
	id->dev = dev;
	id->context = context;
	id->next = dev->ids;
	id->link = &dev->ids;
	if (id->next)
		id->next->link = &id->next;
	dev->ids = id;
	return id;
}

static void id_free(struct rdma_id *id)
{
	*id->link = id->next;
	if (id->next)
		id->next->link = id->link;
	free(id);
}

static struct rdma_id *id_find(struct rdma_dev *dev, const struct rackwire_roce_cm_id *cm)
{
	struct rdma_id *id = dev->ids;

	while (id && id->cm != cm)
		id = id->next;
	return id;
}

static int soft_cm_next(struct rdma_dev *dev, struct rdma_event *event)
{
	struct rackwire_roce_cm_event ev;
	struct rdma_id *id;

	while (rackwire_roce_cm_next(dev->dev, &ev) == 1) {
		memset(event, 0, sizeof(*event));
		if (ev.kind == RACKWIRE_ROCE_CM_CONNECT_REQUEST) {
			event->listener = id_find(dev, ev.listener);
			id = event->listener ? id_new(dev, NULL) : NULL;
			if (!id) {
				rackwire_roce_reject(ev.id, RACKWIRE_ROCE_REJ_CONSUMER, NULL, 0);
				continue;
			}
			id->cm = ev.id;
			event->context = event->listener->context;
		} else {
			/* Until accepted, a new id has no context of ours. */
			id = ev.context;
			if (!id || id->cm != ev.id)
				id = id_find(dev, ev.id);
			if (!id)
				continue;
			event->context = id->context;
		}
		event->id = id;
		event->kind = ev.kind;
		event->error = ev.error;
		event->status = ev.status;
		event->responder_resources = ev.responder_resources;
		event->initiator_depth = ev.initiator_depth;
		event->peer = ev.peer;
		event->private_data_len = ev.private_data_len < sizeof(event->private_data) ?
						  ev.private_data_len : sizeof(event->private_data);
		memcpy(event->private_data, ev.private_data, event->private_data_len);
		return 1;
	}
	return 0;
}

static int soft_listen(struct rdma_dev *dev, const struct sockaddr *local, uint32_t backlog, void *context,
		       struct rdma_id **out, uint16_t *port)
{
	uint16_t wanted = ntohs(((const struct sockaddr_in *)(const void *)local)->sin_port);
	struct rdma_id *id = id_new(dev, context);
	int err;

	if (!id)
		return -ENOMEM;
	err = rackwire_roce_listen(dev->dev, wanted, backlog, id, &id->cm);
	if (err) {
		id_free(id);
		return err;
	}
	*port = rackwire_roce_cm_port(id->cm);
	*out = id;
	return 0;
}

static int soft_prepare(struct rdma_dev *dev, const struct sockaddr *target, uint64_t timeout_ns, uint8_t tos,
			uint8_t ack_timeout, void *context, struct rdma_id **out)
{
	struct rdma_id *id = id_new(dev, context);

	(void)timeout_ns; /* nothing to wait for: the kernel routes */
	if (!id)
		return -ENOMEM;
	memcpy(&id->target, target,
	       target->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
	id->tos = tos;
	id->ack_timeout = ack_timeout;
	*out = id;
	return 0;
}

static int soft_connect(struct rdma_id *id, struct rdma_qp *qp, const struct rackwire_roce_conn_param *param)
{
	struct rackwire_roce_conn_param p = *param;

	p.tos = id->tos;
	p.ack_timeout = id->ack_timeout;
	return rackwire_roce_connect(id->dev->dev, qp_of(qp), (const struct sockaddr *)&id->target, &p, id, &id->cm);
}

static int soft_accept(struct rdma_id *id, struct rdma_qp *qp, const struct rackwire_roce_conn_param *param,
		       void *context)
{
	id->context = context;
	return rackwire_roce_accept(id->cm, qp_of(qp), param, id);
}

/* The id is the caller's still. */
static int soft_reject(struct rdma_id *id, const void *private_data, uint32_t length)
{
	struct rackwire_roce_cm_id *cm = id->cm;

	id->cm = NULL;
	return cm ? rackwire_roce_reject(cm, RACKWIRE_ROCE_REJ_CONSUMER, private_data, length) : -EINVAL;
}

static int soft_disconnect(struct rdma_id *id)
{
	return id->cm ? rackwire_roce_disconnect(id->cm) : -EINVAL;
}

static void soft_id_destroy(struct rdma_id *id)
{
	if (id->cm)
		rackwire_roce_cm_destroy(id->cm);
	id_free(id);
}

const struct rdma_provider rdma_soft = {
	.name = "soft",
	.probe = soft_probe,
	.open = soft_open,
	.close = soft_close,
	.info = soft_info,
	.mr_register = soft_mr_register,
	.mr_deregister = soft_mr_deregister,
	.lkey = soft_key,
	.rkey = soft_key,
	.mr_next_key = soft_mr_next_key,
	.mr_handle = soft_mr_handle,
	.cq_create = soft_cq_create,
	.cq_destroy = soft_cq_destroy,
	.poll_cq = soft_poll_cq,
	.qp_create = soft_qp_create,
	.qp_num = soft_qp_num,
	.qp_destroy = soft_qp_destroy,
	.post_send = soft_post_send,
	.post_recv = soft_post_recv,
	.counters = soft_counters,
	.wait = soft_wait,
	.wait_fd = soft_wait_fd,
	.wake = soft_wake,
	.cm_next = soft_cm_next,
	.listen = soft_listen,
	.prepare = soft_prepare,
	.connect = soft_connect,
	.accept = soft_accept,
	.reject = soft_reject,
	.disconnect = soft_disconnect,
	.id_destroy = soft_id_destroy,
};
