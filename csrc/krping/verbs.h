/* SPDX-License-Identifier: BSD-2-Clause */
/* verbs.h: the inside of the verbs engine. */
#ifndef RACKWIRE_KRPING_VERBS_H
#define RACKWIRE_KRPING_VERBS_H

#include <stdbool.h>

#include "provider.h"
#include "verbs_lib.h"

#define VERBS_STAGE 16
#define VERBS_HASH 1024

struct rdma_dev {
	const struct verbs_lib *lib;
	struct ibv_context *verbs;
	struct ibv_pd *pd;
	struct ibv_comp_channel *comp;
	struct rdma_event_channel *events;
	struct rdma_cm_id *holder; /* keeps the device open where an address chose it */
	struct ibv_context **devices; /* else this does */
	struct ibv_device_attr attr;
	struct sockaddr_storage local;
	uint32_t features;
	uint8_t port;
	int wake_fd;
	uint64_t spin_ns;
	struct rdma_qp *qps[VERBS_HASH]; /* by number */
};

struct rdma_mr {
	struct rdma_dev *dev;
	struct ibv_mr *mr;
	struct ibv_mw *mw; /* NULL until a new key is wanted */
	void *addr;
	size_t length;
};

struct rdma_cq {
	struct rdma_dev *dev;
	struct ibv_cq *cq;
	struct ibv_wc staged[VERBS_STAGE]; /* polled by wait() */
	uint32_t first, count;
	unsigned int unacked;
};

struct rdma_qp {
	struct rdma_dev *dev;
	struct rdma_qp *next;
	struct rdma_cm_id *id;
	struct ibv_qp *qp;
	void *context;
	uint32_t max_inline;
};

struct rdma_id {
	struct rdma_dev *dev;
	struct rdma_cm_id *cm;
	void *context;
	bool listener;
};

/* verbs_cm.c */
int verbs_cm_next(struct rdma_dev *dev, struct rdma_event *event);
int verbs_listen(struct rdma_dev *dev, const struct sockaddr *local, uint32_t backlog, void *context,
		 struct rdma_id **out, uint16_t *port);
int verbs_prepare(struct rdma_dev *dev, const struct sockaddr *target, uint64_t timeout_ns, uint8_t tos,
		  uint8_t ack_timeout, void *context, struct rdma_id **out);
int verbs_connect(struct rdma_id *id, struct rdma_qp *qp, const struct rackwire_roce_conn_param *param);
int verbs_accept(struct rdma_id *id, struct rdma_qp *qp, const struct rackwire_roce_conn_param *param, void *context);
int verbs_reject(struct rdma_id *id, const void *private_data, uint32_t length);
int verbs_disconnect(struct rdma_id *id);
void verbs_id_destroy(struct rdma_id *id);

/* verbs_queue.c */
int verbs_cq_create(struct rdma_dev *dev, uint32_t entries, struct rdma_cq **out);
void verbs_cq_destroy(struct rdma_cq *cq);
int verbs_poll_cq(struct rdma_cq *cq, struct rackwire_roce_wc *wc, uint32_t max);
int verbs_qp_create(struct rdma_dev *dev, struct rdma_id *id, struct rdma_cq *send_cq, struct rdma_cq *recv_cq,
		    const struct rackwire_roce_qp_attr *attr, void *context, struct rdma_qp **out);
uint32_t verbs_qp_num(struct rdma_qp *qp);
void verbs_qp_destroy(struct rdma_qp *qp);
int verbs_post_send(struct rdma_qp *qp, const struct rackwire_roce_send_wr *wr, uint32_t n, uint32_t *done);
int verbs_post_recv(struct rdma_qp *qp, const struct rackwire_roce_recv_wr *wr, uint32_t n, uint32_t *done);
void verbs_counters(struct rdma_qp *qp, struct rdma_counters *counters);
int verbs_wait(struct rdma_dev *dev, struct rdma_cq *cq, uint64_t timeout_ns);
int verbs_wait_fd(struct rdma_dev *dev, struct rdma_cq *cq, int fd, uint64_t timeout_ns);

int verbs_access(uint32_t access);

#endif
