/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the files of the core know of each other: the device (roce_dev.c), the
 * transport (roce_mr.c, roce_cq.c, roce_qp.c; roce_requester.c and
 * roce_completer.c; roce_responder.c and roce_response.c; roce_rate.c) and the
 * connection manager (roce_cm.c).
 */
#ifndef ROCE_PRIV_H
#define ROCE_PRIV_H

#include "roce.h"
#include "roce_mad.h"
#include "roce_wire.h"

/* ---- seam between transport and connection manager ---- */

/* Offered by the connection manager to the device. */
struct roce_cm_dev; /* all state of the CM of one device */
struct roce_cm_dev *roce_cm_init(struct roce_dev *d);
void roce_cm_exit(struct roce_cm_dev *cm);
/* A UD SEND-only packet to QP1 with Q_Key and P_Key checked; @mad has ROCE_MAD_LEN bytes. */
void roce_cm_rx(struct roce_cm_dev *cm, u64 now, const u8 *mad, const struct roce_path *from, u32 src_qpn);
void roce_cm_tick(struct roce_cm_dev *cm, u64 now);
u64 roce_cm_deadline(const struct roce_cm_dev *cm);
/* The next event, before the transport's. Return: 1 or 0. */
int roce_cm_poll_event(struct roce_cm_dev *cm, struct roce_event *ev);
/*
 * The next MAD to send, complete; it goes as UD SEND-only from QP1 to QP1 of @path->peer.
 * Return: 1 with *mad and *path valid until the next call into the CM, or 0.
 */
int roce_cm_poll_tx(struct roce_cm_dev *cm, u64 now, const u8 **mad, const struct roce_path **path);
/* First valid packet on a queue pair whose RTU has not come: communication established [IBTA 12.9.7.2]. */
void roce_cm_qp_active(struct roce_cm_id *id, u64 now);
/* The queue pair failed (retries exhausted, fatal NAK): DREQ, then DISCONNECTED with @error. */
void roce_cm_qp_failed(struct roce_cm_id *id, u64 now, int error);
/* The queue pair is being destroyed; the id lets go of it. */
void roce_cm_qp_gone(struct roce_cm_id *id, u64 now);
void roce_cm_unreachable(struct roce_cm_dev *cm, u64 now, const struct roce_path *path, int error);
void roce_cm_info(const struct roce_cm_dev *cm, struct roce_info *info); /* cm_ids, half_open, timewait, listeners */

/* Offered by the device and the transport to the connection manager. */
const struct roce_cfg *roce_cfg_of(const struct roce_dev *d);
struct roce_cm_dev *roce_dev_cm(const struct roce_dev *d);
void *roce_alloc(struct roce_dev *d, enum roce_slab slab, size_t size);
void roce_free(struct roce_dev *d, enum roce_slab slab, void *ptr, size_t size);
u64 roce_random(struct roce_dev *d);
struct rackwire_roce_dev_stats *roce_stats_of(struct roce_dev *d);
struct roce_dev *roce_qp_dev(const struct roce_qp *qp);
/* Ties an id to its queue pair (NULL: unties); events above then carry it. */
void roce_qp_set_cm(struct roce_qp *qp, struct roce_cm_id *id);
struct roce_cm_id *roce_qp_cm(const struct roce_qp *qp);

#endif
