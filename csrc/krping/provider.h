/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * provider.h: the operations krping needs of RDMA, as a table. Everything above
 * it (krping's protocol, the benchmarks, the block device) is written once;
 * soft.c provides it by our user-space RoCEv2, verbs.c by libibverbs and
 * librdmacm, opened at run time.
 *
 * Work requests, completions and connection parameters are those of
 * rackwire_roce_types.h. Handles are the provider's. A provider's device belongs
 * to one thread, but wake() may be called from any.
 */
#ifndef RACKWIRE_KRPING_PROVIDER_H
#define RACKWIRE_KRPING_PROVIDER_H

#include <stddef.h>
#include <sys/socket.h>

#include "rackwire_roce_types.h"

struct rdma_dev; /* a device with its protection domain and its CM event channel */
struct rdma_mr;
struct rdma_cq;
struct rdma_qp;
struct rdma_id;

struct rdma_open {
	struct sockaddr_storage local;	 /* family 0: any */
	struct sockaddr_storage towards; /* family 0: unknown; else the peer-to-be */
	uint32_t mtu;			 /* 0: the provider's choice */
	uint64_t spin_ns;		 /* wait() spins for so long first; UINT64_MAX: always */
	uint64_t seed;
	int cpu;			 /* of the provider's own thread, -1: any */
	uint32_t flags;			 /* RDMA_OPEN_* */
};
#define RDMA_OPEN_ECN 0x1
#define RDMA_OPEN_NO_OFFLOAD 0x2

/* What a device can do, for checking options and for output. */
struct rdma_dev_info {
	char name[64];	 /* "soft", "rxe0" */
	uint32_t mtu;	 /* payload of a packet */
	uint32_t features; /* RDMA_CAN_* */
	uint32_t max_send_wr, max_rd_atomic, max_cqe;
	uint64_t max_message, max_mr;
};
#define RDMA_CAN_SEND_INV 0x1
#define RDMA_CAN_READ_INV 0x2
#define RDMA_CAN_REG_MR 0x4	    /* a new rkey by work request: fast registration, or a memory window bound */
#define RDMA_REG_MR_LKEY 0x40	    /* the same becomes its lkey: fast registration */
#define RDMA_CAN_LOCAL_INV 0x8
#define RDMA_CAN_LOCAL_DMA_LKEY 0x10
#define RDMA_CAN_ATOMICS 0x20

struct rdma_event { /* of a connection */
	uint32_t kind; /* enum rackwire_roce_cm_event_kind */
	int error;
	uint32_t status;
	struct rdma_id *id, *listener;
	void *context; /* the id's; the listener's for CONNECT_REQUEST */
	uint8_t responder_resources, initiator_depth;
	uint32_t private_data_len;
	uint8_t private_data[224];
	struct sockaddr_storage peer;
};

struct rdma_counters { /* of one queue pair; zero where the provider cannot know */
	struct rackwire_roce_qp_stats qp;
};

struct rdma_provider {
	const char *name; /* of the engine: "soft", "verbs" */

	/* Could open() work here? Return: 0, or -ENODEV and a line saying what is missing. */
	int (*probe)(char *error, size_t error_length);
	/* -ENODEV and a line saying what is missing where this machine cannot. */
	int (*open)(const struct rdma_open *open, struct rdma_dev **out, char *error, size_t error_length);
	void (*close)(struct rdma_dev *dev);
	void (*info)(struct rdma_dev *dev, struct rdma_dev_info *info);

	int (*mr_register)(struct rdma_dev *dev, void *addr, size_t length, uint32_t access, struct rdma_mr **out);
	void (*mr_deregister)(struct rdma_mr *mr);
	uint32_t (*lkey)(struct rdma_mr *mr);
	uint32_t (*rkey)(struct rdma_mr *mr);
	int (*mr_next_key)(struct rdma_mr *mr, uint32_t *key); /* for WR_REG_MR with ex.reg.mr being the rdma_mr; -EOPNOTSUPP */
	void *(*mr_handle)(struct rdma_mr *mr); /* what ex.reg.mr of post_send wants */

	int (*cq_create)(struct rdma_dev *dev, uint32_t entries, struct rdma_cq **out);
	void (*cq_destroy)(struct rdma_cq *cq);
	int (*poll_cq)(struct rdma_cq *cq, struct rackwire_roce_wc *wc, uint32_t max);

	/*
	 * For a connection of @id, out of prepare() or a CONNECT_REQUEST, which verbs needs to know. Receives may
	 * be posted at once. Destroyed before its id, and after regions that had new keys by its work requests.
	 */
	int (*qp_create)(struct rdma_dev *dev, struct rdma_id *id, struct rdma_cq *send_cq, struct rdma_cq *recv_cq,
			 const struct rackwire_roce_qp_attr *attr, void *context, struct rdma_qp **out);
	uint32_t (*qp_num)(struct rdma_qp *qp);
	/* Completions of it that nobody has polled yet may still come. */
	void (*qp_destroy)(struct rdma_qp *qp);
	/*
	 * RACKWIRE_ROCE_SEND_INLINE is a wish: its memory must have a valid lkey and stay as it is until
	 * completion, as without it.
	 */
	int (*post_send)(struct rdma_qp *qp, const struct rackwire_roce_send_wr *wr, uint32_t n, uint32_t *done);
	int (*post_recv)(struct rdma_qp *qp, const struct rackwire_roce_recv_wr *wr, uint32_t n, uint32_t *done);
	void (*counters)(struct rdma_qp *qp, struct rdma_counters *counters);

	/*
	 * Until @cq (may be NULL) has completions, there is a connection event, or wake(), or
	 * @timeout_ns (UINT64_MAX: never) has passed. Return: RDMA_WAIT_* as found, 0, or -ECANCELED.
	 */
	int (*wait)(struct rdma_dev *dev, struct rdma_cq *cq, uint64_t timeout_ns);
	/* The same, and until @fd of the caller's is readable, which is looked at only when it comes to sleeping. */
	int (*wait_fd)(struct rdma_dev *dev, struct rdma_cq *cq, int fd, uint64_t timeout_ns);
	void (*wake)(struct rdma_dev *dev);

	int (*cm_next)(struct rdma_dev *dev, struct rdma_event *event); /* 1 or 0 */
	int (*listen)(struct rdma_dev *dev, const struct sockaddr *local, uint32_t backlog, void *context,
		      struct rdma_id **out, uint16_t *port);
	/*
	 * Resolves address and route where the provider must, creates nothing else. timeout_ns bounds each step;
	 * wake() ends it with -ECANCELED. ack_timeout as in rackwire_roce_conn_param.
	 */
	int (*prepare)(struct rdma_dev *dev, const struct sockaddr *target, uint64_t timeout_ns, uint8_t tos,
		       uint8_t ack_timeout, void *context, struct rdma_id **out);
	int (*connect)(struct rdma_id *id, struct rdma_qp *qp, const struct rackwire_roce_conn_param *param);
	int (*accept)(struct rdma_id *id, struct rdma_qp *qp, const struct rackwire_roce_conn_param *param, void *context);
	int (*reject)(struct rdma_id *id, const void *private_data, uint32_t length); /* id_destroy() is still due */
	int (*disconnect)(struct rdma_id *id);
	void (*id_destroy)(struct rdma_id *id);
};
#define RDMA_WAIT_CQ 0x1
#define RDMA_WAIT_CM 0x2
#define RDMA_WAIT_FD 0x4

extern const struct rdma_provider rdma_soft;
extern const struct rdma_provider rdma_verbs;

/* The provider of enum rackwire_krping_engine, or NULL. */
const struct rdma_provider *rdma_provider_of(uint32_t engine);

/* One line for @error (may be NULL). Return: @result. */
int config_refuse(char *error, size_t length, int result, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

#endif
