/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * verbs_lib.h: librdmacm and libibverbs, opened when the verbs engine is asked
 * for, so that everything else works where they are not installed. What their
 * headers inline (ibv_post_send, ibv_poll_cq, ...) goes through the device's
 * own table and needs no symbol. A symbol that the headers hide behind a macro
 * of the same name has a member without the prefix here.
 */
#ifndef RACKWIRE_KRPING_VERBS_LIB_H
#define RACKWIRE_KRPING_VERBS_LIB_H

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

struct verbs_lib {
	struct rdma_event_channel *(*create_event_channel)(void);
	void (*destroy_event_channel)(struct rdma_event_channel *);
	int (*create_id)(struct rdma_event_channel *, struct rdma_cm_id **, void *, enum rdma_port_space);
	int (*destroy_id)(struct rdma_cm_id *);
	int (*bind_addr)(struct rdma_cm_id *, struct sockaddr *);
	int (*resolve_addr)(struct rdma_cm_id *, struct sockaddr *, struct sockaddr *, int);
	int (*resolve_route)(struct rdma_cm_id *, int);
	int (*create_qp)(struct rdma_cm_id *, struct ibv_pd *, struct ibv_qp_init_attr *);
	void (*destroy_qp)(struct rdma_cm_id *);
	int (*connect)(struct rdma_cm_id *, struct rdma_conn_param *);
	int (*listen)(struct rdma_cm_id *, int);
	int (*accept)(struct rdma_cm_id *, struct rdma_conn_param *);
	int (*reject)(struct rdma_cm_id *, const void *, uint8_t);
	int (*disconnect)(struct rdma_cm_id *);
	int (*get_cm_event)(struct rdma_event_channel *, struct rdma_cm_event **);
	int (*ack_cm_event)(struct rdma_cm_event *);
	int (*set_option)(struct rdma_cm_id *, int, int, void *, size_t);
	int (*migrate_id)(struct rdma_cm_id *, struct rdma_event_channel *);
	__be16 (*get_src_port)(struct rdma_cm_id *);
	struct ibv_context **(*get_devices)(int *);
	void (*free_devices)(struct ibv_context **);

	struct ibv_device **(*get_device_list)(int *);
	void (*free_device_list)(struct ibv_device **);
	int (*query_device)(struct ibv_context *, struct ibv_device_attr *);
	/* The symbol fills in the structure of its first version, a beginning of today's. */
	int (*query_port)(struct ibv_context *, uint8_t, struct ibv_port_attr *);
	struct ibv_pd *(*alloc_pd)(struct ibv_context *);
	int (*dealloc_pd)(struct ibv_pd *);
	struct ibv_mr *(*reg_mr)(struct ibv_pd *, void *, size_t, int);
	int (*dereg_mr)(struct ibv_mr *);
	struct ibv_comp_channel *(*create_comp_channel)(struct ibv_context *);
	int (*destroy_comp_channel)(struct ibv_comp_channel *);
	struct ibv_cq *(*create_cq)(struct ibv_context *, int, void *, struct ibv_comp_channel *, int);
	int (*destroy_cq)(struct ibv_cq *);
	int (*get_cq_event)(struct ibv_comp_channel *, struct ibv_cq **, void **);
	void (*ack_cq_events)(struct ibv_cq *, unsigned int);
};

/* The libraries, opened once and never closed. NULL with one line in @error where one is missing. */
const struct verbs_lib *verbs_lib_open(char *error, size_t length);

#endif
