/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rackwire_roce.h: RDMA over Converged Ethernet version 2 in user space, on one
 * ordinary UDP socket, without root, kernel modules or RDMA hardware. The terms
 * are those of the verbs and of rdma_cm, and so are the peers: Linux' rdma_rxe,
 * RoCEv2 adapters, other processes with this library.
 *
 *	rackwire_roce_open(&config, &dev, error, sizeof(error));
 *	rackwire_roce_pd_create(dev, &pd);
 *	rackwire_roce_mr_register(pd, buffer, length, access, &mr);
 *	rackwire_roce_cq_create(dev, 64, NULL, &cq);
 *	rackwire_roce_qp_create(pd, cq, cq, &attr, NULL, &qp);
 *	rackwire_roce_connect(dev, qp, target, &param, NULL, &id);	then ESTABLISHED comes
 *	rackwire_roce_post_send(qp, &wr, 1, NULL);
 *	while (!(n = rackwire_roce_poll_cq(cq, &wc, 1)))
 *		;
 *
 * Progress: whoever polls a CQ or waits drives the device: receives, answers
 * and sends. A thread of the device's own takes over whenever nobody has done so
 * for RACKWIRE_ROCE_IDLE_NS, so that peers' READs and WRITEs are served while
 * the application is elsewhere. RACKWIRE_ROCE_NO_THREAD leaves it out.
 *
 * Threads: any function from any thread, unless it says otherwise. An object
 * must not be destroyed while another thread uses it. After fork() devices are
 * the parent's alone; the child must not touch them. Results are 0 or a
 * positive count, or a negative errno. Nothing here prints or raises signals.
 */
#ifndef RACKWIRE_ROCE_H
#define RACKWIRE_ROCE_H

#include <stddef.h>
#include <sys/socket.h>

#include "rackwire_roce_types.h"

#ifdef __cplusplus
extern "C" {
#endif

struct rackwire_roce_dev;
struct rackwire_roce_pd;
struct rackwire_roce_mr;
struct rackwire_roce_cq;
struct rackwire_roce_qp;
struct rackwire_roce_cm_id;

#define RACKWIRE_ROCE_ABI_VERSION 1
#define RACKWIRE_ROCE_UDP_PORT 4791
#define RACKWIRE_ROCE_IDLE_NS 1000000
#define RACKWIRE_ROCE_ERROR_LEN 256

#define RACKWIRE_ROCE_NO_THREAD 0x1
/*
 * Neither UDP_SEGMENT nor UDP_GRO. The kernel numbers the segments of a burst 0, 1, 2, ... in their IPv4
 * identification, which the ICRC covers; for an adapter that segments UDP itself and numbers otherwise.
 */
#define RACKWIRE_ROCE_NO_GSO 0x2
#define RACKWIRE_ROCE_ECN 0x4	      /* mark packets ECT(0) and slow down on CNPs, from rate_bps */
#define RACKWIRE_ROCE_STRICT_ID 0x8   /* accept only packets whose IPv4 identification is known for sure (0, or of a segmented burst) */
#define RACKWIRE_ROCE_BUSY_POLL 0x10  /* waits spin instead of sleeping */

/* RACKWIRE_ROCE_ABI_VERSION of the library that is loaded. */
uint32_t rackwire_roce_abi_version(void);

/* 0 takes the default named beside a field. */
struct rackwire_roce_config {
	uint32_t size;	    /* sizeof(struct rackwire_roce_config) */
	uint32_t flags;
	char local[64];	    /* numeric address, "fe80::1%eth0"; empty: every IPv4 and IPv6 address */
	char towards[64];   /* with local empty: the local address that the route to this peer has */
	uint16_t udp_port;  /* 4791; peers that are not rackwire know no other */
	uint16_t reserved;
	uint32_t mtu;	    /* payload of a packet: 256..4096; 0: the largest that fits the interface, 1024 at MTU 1500 */
	uint32_t window;    /* bytes of one queue pair under way; 512 KiB, less where the receive buffer is small */
	uint32_t rcvbuf;    /* socket receive buffer, bytes; 8 MiB, or what the system allows */
	uint64_t rate_bps;  /* with RACKWIRE_ROCE_ECN: the link's; 10 Gbit/s */
	uint64_t spin_ns;   /* rackwire_roce_wait() spins for so long before it sleeps; 0 */
	uint32_t max_qps;   /* 4096 */
	uint32_t max_mrs;   /* 16384 */
	uint64_t seed;	    /* of keys, PSNs and QP numbers; 0: from the system (anything else is for tests) */
	int32_t cpu;	    /* of the device's thread, plus 1; 0: any */
	uint32_t reserved2;
};

/*
 * rackwire_roce_open() - a device on a local address.
 * Several devices, also of several processes of one user, share an address and port.
 * Where IPv4 packets of ours would carry an identification the ICRC cannot foresee, this
 * is found out here (as far as privileges allow) and refused.
 * Return: 0; -EINVAL; -EADDRINUSE (the kernel's rdma_rxe or another user has the port);
 * -EADDRNOTAVAIL; -ENETUNREACH; -ENOMEM; -EMFILE; -EOPNOTSUPP (IPv4 identification). @error gets one line.
 */
int rackwire_roce_open(const struct rackwire_roce_config *config, struct rackwire_roce_dev **out, char *error,
		       size_t error_length);
/* Everything of the device goes with it; connections are told (DREQ once). Objects are invalid afterwards. */
void rackwire_roce_close(struct rackwire_roce_dev *dev);

struct rackwire_roce_dev_info {
	uint32_t size;
	uint32_t mtu;	    /* payload of a packet */
	char local[64];	    /* empty: every address */
	uint32_t gso, gro;  /* in use */
	uint32_t thread;    /* has one of its own */
	uint32_t processes; /* sharing the address and port, this one included */
	uint32_t rcvbuf;
	uint32_t crc;	    /* 1: PCLMULQDQ, 0: portable */
	uint32_t id_probe;  /* 1: IPv4 identification seen to be as foreseen; 0: could not be looked at */
	uint32_t qps, mrs, cm_ids, listeners, half_open, timewait;
};
int rackwire_roce_dev_info(struct rackwire_roce_dev *dev, struct rackwire_roce_dev_info *info);
int rackwire_roce_dev_stats(struct rackwire_roce_dev *dev, struct rackwire_roce_dev_stats *stats);

int rackwire_roce_pd_create(struct rackwire_roce_dev *dev, struct rackwire_roce_pd **out);
int rackwire_roce_pd_destroy(struct rackwire_roce_pd *pd); /* -EBUSY while it holds regions or queue pairs */

/* Memory stays the caller's; peers reach it until rackwire_roce_mr_deregister() has returned. */
int rackwire_roce_mr_register(struct rackwire_roce_pd *pd, void *addr, size_t length, uint32_t access,
			      struct rackwire_roce_mr **out);
void rackwire_roce_mr_deregister(struct rackwire_roce_mr *mr);
uint32_t rackwire_roce_mr_key(struct rackwire_roce_mr *mr);
int rackwire_roce_mr_next_key(struct rackwire_roce_mr *mr, uint32_t *key); /* for RACKWIRE_ROCE_WR_REG_MR, ex.reg.mr being the struct rackwire_roce_mr */

int rackwire_roce_cq_create(struct rackwire_roce_dev *dev, uint32_t entries, void *context, struct rackwire_roce_cq **out);
int rackwire_roce_cq_destroy(struct rackwire_roce_cq *cq);
/* Return: completions written; 0: none; -EOVERFLOW: completions were lost for want of room. */
int rackwire_roce_poll_cq(struct rackwire_roce_cq *cq, struct rackwire_roce_wc *wc, uint32_t max);
/*
 * One notification at the next completion: the CQ's descriptor becomes readable until
 * rackwire_roce_cq_clear(). Return: 1 when completions are there already, else 0.
 */
int rackwire_roce_cq_arm(struct rackwire_roce_cq *cq, uint32_t solicited_only);
int rackwire_roce_cq_fd(struct rackwire_roce_cq *cq); /* an eventfd, the CQ's */
void rackwire_roce_cq_clear(struct rackwire_roce_cq *cq);
/*
 * rackwire_roce_cq_wait() - drive the device until @cq has completions or @timeout_ns has passed (UINT64_MAX: never),
 * or rackwire_roce_wake(dev). Sleeps on the socket itself, so no other thread is on the way of a packet.
 * Return: 1, 0 (time), -ECANCELED (woken).
 */
int rackwire_roce_cq_wait(struct rackwire_roce_cq *cq, uint64_t timeout_ns);
/*
 * rackwire_roce_wait() - the same for a CQ and the device's CM events together; @cq may be NULL.
 * Return: RACKWIRE_ROCE_WAIT_CQ | RACKWIRE_ROCE_WAIT_CM as found, 0 (time), -ECANCELED.
 */
#define RACKWIRE_ROCE_WAIT_CQ 0x1
#define RACKWIRE_ROCE_WAIT_CM 0x2
#define RACKWIRE_ROCE_WAIT_FD 0x4
int rackwire_roce_wait(struct rackwire_roce_dev *dev, struct rackwire_roce_cq *cq, uint64_t timeout_ns);
/*
 * rackwire_roce_wait_fd() - the same, and until @fd of the caller's (an epoll descriptor, say) is readable, which is
 * looked at only when it comes to sleeping: look yourself first. One thread of a device at a time.
 * Return: also RACKWIRE_ROCE_WAIT_FD.
 */
int rackwire_roce_wait_fd(struct rackwire_roce_dev *dev, struct rackwire_roce_cq *cq, int fd, uint64_t timeout_ns);
void rackwire_roce_wake(struct rackwire_roce_dev *dev); /* one waiter of the device; sticky until one was woken */

int rackwire_roce_qp_create(struct rackwire_roce_pd *pd, struct rackwire_roce_cq *send_cq, struct rackwire_roce_cq *recv_cq,
			    const struct rackwire_roce_qp_attr *attr, void *context, struct rackwire_roce_qp **out);
void rackwire_roce_qp_destroy(struct rackwire_roce_qp *qp);
uint32_t rackwire_roce_qp_num(struct rackwire_roce_qp *qp);
uint32_t rackwire_roce_qp_state(struct rackwire_roce_qp *qp);
void rackwire_roce_qp_error(struct rackwire_roce_qp *qp);
void rackwire_roce_qp_stats(struct rackwire_roce_qp *qp, struct rackwire_roce_qp_stats *stats);
/* Return: 0 or -errno as roce_post_send() of the core; *done (may be NULL) says how many were taken. */
int rackwire_roce_post_send(struct rackwire_roce_qp *qp, const struct rackwire_roce_send_wr *wr, uint32_t n, uint32_t *done);
int rackwire_roce_post_recv(struct rackwire_roce_qp *qp, const struct rackwire_roce_recv_wr *wr, uint32_t n, uint32_t *done);

/* ---- connection manager ---- */

struct rackwire_roce_cm_event {
	uint32_t kind; /* enum rackwire_roce_cm_event_kind */
	int32_t error;
	uint32_t status;
	uint32_t private_data_len;
	struct rackwire_roce_cm_id *id, *listener;
	void *context; /* the id's, or the listener's for CONNECT_REQUEST */
	uint8_t responder_resources, initiator_depth;
	uint8_t reserved[6];
	uint8_t private_data[224];
	struct sockaddr_storage peer; /* address and rdma_cm port of the other end */
};

/* Events of the whole device, oldest first. Return: 1 or 0. The descriptor is readable while there are any. */
int rackwire_roce_cm_next(struct rackwire_roce_dev *dev, struct rackwire_roce_cm_event *event);
int rackwire_roce_cm_fd(struct rackwire_roce_dev *dev);
/* Drives the device until there is one. Return: 1, 0 (time), -ECANCELED. */
int rackwire_roce_cm_wait(struct rackwire_roce_dev *dev, struct rackwire_roce_cm_event *event, uint64_t timeout_ns);

int rackwire_roce_listen(struct rackwire_roce_dev *dev, uint16_t port, uint32_t backlog, void *context,
			 struct rackwire_roce_cm_id **out); /* port 0: one is chosen */
/*
 * rackwire_roce_connect() - start a connection; ESTABLISHED, REJECTED or UNREACHABLE follows.
 * @qp: fresh; the connection's from now on
 * @target: IPv4 or IPv6 address and rdma_cm port
 */
int rackwire_roce_connect(struct rackwire_roce_dev *dev, struct rackwire_roce_qp *qp, const struct sockaddr *target,
			  const struct rackwire_roce_conn_param *param, void *context, struct rackwire_roce_cm_id **out);
int rackwire_roce_accept(struct rackwire_roce_cm_id *id, struct rackwire_roce_qp *qp,
			 const struct rackwire_roce_conn_param *param, void *context);
/* Return: 0, and @id is gone with that; -EINVAL, and it is not. */
int rackwire_roce_reject(struct rackwire_roce_cm_id *id, uint32_t reason, const void *private_data, uint32_t length);
int rackwire_roce_disconnect(struct rackwire_roce_cm_id *id);
void rackwire_roce_cm_destroy(struct rackwire_roce_cm_id *id);
uint16_t rackwire_roce_cm_port(struct rackwire_roce_cm_id *id); /* local rdma_cm port */
int rackwire_roce_cm_addresses(struct rackwire_roce_cm_id *id, struct sockaddr_storage *local, struct sockaddr_storage *peer);

#ifdef __cplusplus
}
#endif

#endif
