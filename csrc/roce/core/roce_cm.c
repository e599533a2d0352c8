/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The connection manager [IBTA 12]: what the application and the device ask of
 * it, its changes of state, and its timers.
 */
#include "roce_cm_priv.h"

u8 cm_mtu_limit(const struct roce_cm_dev *cm, const struct roce_path *path)
{
	u32 mtu = cm->cfg->mtu;

	return roce_mtu_code(path->mtu && path->mtu < mtu ? path->mtu : mtu);
}

/* ---- changes of state ---- */

static void flush_qp(struct roce_cm_id *id, u64 now)
{
	if (id->qp && roce_qp_state(id->qp) != RACKWIRE_ROCE_QP_ERR)
		roce_qp_error(id->qp, now);
}

static void untie_qp(struct roce_cm_id *id)
{
	if (id->qp)
		roce_qp_set_cm(id->qp, NULL);
	id->qp = NULL;
}

void cm_established(struct roce_cm_id *id)
{
	cm_peer_leave(id);
	cm_stop_timer(id);
	id->state = CM_ESTABLISHED;
	id->up = true;
	if (id->passive)
		id->cm->stats->connections_accepted++;
	else
		id->cm->stats->connections_opened++;
	cm_post(id, CM_EV_ESTABLISHED);
}

void cm_end(struct roce_cm_id *id, u64 now, u32 event, int error, u32 status)
{
	if (id->state >= CM_REP_SENT && id->state <= CM_DREQ_SENT)
		flush_qp(id, now);
	else if (id->state == CM_REQ_SENT)
		untie_qp(id);
	if (id->up) {
		id->up = false;
		if (error)
			id->cm->stats->connections_lost++;
		else
			id->cm->stats->connections_closed++;
	}
	if (id->ev_done & CM_EV_END)
		return;
	id->end_event = event;
	id->end_error = error;
	id->end_status = status;
	cm_post(id, CM_EV_END);
}

void cm_close(struct roce_cm_id *id)
{
	if (!id->owned) {
		cm_id_free(id);
		return;
	}
	cm_peer_leave(id);
	cm_unhash(id);
	cm_stop_timer(id);
	if (id->state == CM_TIMEWAIT)
		id->cm->timewait--;
	id->state = CM_CLOSED;
}

void cm_timewait(struct roce_cm_id *id, u64 now)
{
	cm_peer_leave(id);
	cm_qpn_remove(id);
	id->state = CM_TIMEWAIT;
	id->cm->timewait++;
	cm_set_timer(id, roce_after(now, id->connected ? id->cm->cfg->timewait_ns : id->linger));
}

void cm_request_over(struct roce_cm_id *id, u64 now, u32 event, int error, u32 status)
{
	bool told = id->told;

	if (told)
		cm_end(id, now, event, error, status);
	cm_timewait(id, now);
	if (!told)
		cm_id_orphan(id);
}

void cm_start_dreq(struct roce_cm_id *id, u64 now)
{
	cm_peer_leave(id);
	flush_qp(id, now);
	cm_send_dreq(id);
	id->state = CM_DREQ_SENT;
	id->in_doubt = false;
	id->attempts = 0;
	cm_retry_timer(id, now);
}

/*
 * A peer that has forgotten a connection uses its QP or its communication id for another
 * [IBTA 12.9.8.3.1], or somebody wants us to think so. A peer that is alive answers a repeated
 * REP with RTU, so a connection it opened is asked for. Of one that we opened there is nothing to ask.
 */
void cm_suspect(struct roce_cm_id *id, u64 now)
{
	if (id->state != CM_ESTABLISHED || id->in_doubt)
		return;
	if (!id->passive) {
		cm_end(id, now, RACKWIRE_ROCE_CM_DISCONNECTED, -ECONNRESET, 0);
		cm_start_dreq(id, now);
		return;
	}
	id->in_doubt = true;
	id->attempts = 0;
	cm_queue(id);
	cm_retry_timer(id, now);
}

/* ---- the application's calls ---- */

static bool param_ok(const struct rackwire_roce_conn_param *p, u32 room)
{
	return p && p->private_data_len <= room && (p->private_data || !p->private_data_len) &&
	       p->responder_resources <= RACKWIRE_ROCE_MAX_RD_ATOMIC &&
	       p->initiator_depth <= RACKWIRE_ROCE_MAX_RD_ATOMIC && p->retry_count <= 7 && p->rnr_retry_count <= 7 &&
	       p->min_rnr_timer <= 31 && p->ack_timeout <= 31;
}

static bool qp_unconnected(struct roce_qp *qp)
{
	return qp && !roce_qp_cm(qp) && roce_qp_state(qp) < RACKWIRE_ROCE_QP_RTR;
}

int roce_cm_listen(struct roce_dev *d, const u8 local[16], u16 port, u32 backlog, void *user, struct roce_cm_id **out)
{
	struct roce_cm_dev *cm = roce_dev_cm(d);
	struct roce_cm_id *id;
	int err;

	if (!port)
		return -EINVAL;
	if (cm_listener_conflict(cm, local, port))
		return -EADDRINUSE;
	id = cm_id_new(cm, &err);
	if (!id)
		return err;
	memcpy(id->path.local, local, 16);
	id->local_port = port;
	id->backlog = backlog ? backlog : cm->cfg->max_half_open;
	id->user = user;
	id->told = true;
	id->state = CM_LISTEN;
	cm->listeners++;
	cm_listener_insert(id);
	*out = id;
	return 0;
}

int roce_cm_connect(struct roce_dev *d, u64 now, const struct roce_path *path, u16 sport, u16 port, struct roce_qp *qp,
		    const struct rackwire_roce_conn_param *param, void *user, struct roce_cm_id **out)
{
	struct roce_cm_dev *cm = roce_dev_cm(d);
	struct roce_cm_id *id;
	u8 mtu = cm_mtu_limit(cm, path);
	int err;

	if (!param_ok(param, ROCE_CMA_PRIV) || !port || !mtu || !qp_unconnected(qp) || roce_qp_dev(qp) != d ||
	    cm_addr_any(path->peer) || cm_addr_any(path->local))
		return -EINVAL;
	id = cm_id_new(cm, &err);
	if (!id)
		return err;
	id->path = *path;
	id->path.tos = (param->tos ? param->tos : path->tos) & 0xfc;
	err = cm_peer_join(id, false);
	if (!err)
		err = cm_id_name(id);
	if (err) {
		cm_id_free(id);
		return err;
	}
	roce_list_add_tail(&id->peer->connecting, &id->wait);
	id->state = CM_REQ_SENT;
	id->told = true;
	id->user = user;
	id->local_port = sport;
	id->peer_port = port;
	id->mtu = mtu;
	id->psn = roce_random(d) & 0xffffff;
	id->tid = (roce_random(d) & ~0xffffffffull) | id->local_id;
	id->param = *param;
	id->param.private_data = NULL;
	if (!id->param.ack_timeout)
		id->param.ack_timeout = CM_ACK_TIMEOUT;
	id->qp = qp;
	roce_qp_set_cm(qp, id);
	cm_send_req(id, param->private_data, param->private_data_len);
	cm_retry_timer(id, now);
	*out = id;
	return 0;
}

/* What a request asks of us, and what the application grants. */
static void grant(struct roce_cm_id *id, const struct rackwire_roce_conn_param *param)
{
	struct rackwire_roce_conn_param *p = &id->param;
	u8 timeout = p->ack_timeout;

	/* The peer says how often we try; we say how often it tries when we are not ready. */
	p->responder_resources = (u8)roce_min(param->responder_resources, id->peer_initiator);
	p->initiator_depth = (u8)roce_min(param->initiator_depth, id->peer_responder);
	p->min_rnr_timer = param->min_rnr_timer;
	if (param->ack_timeout)
		p->ack_timeout = param->ack_timeout;
	else if (!timeout)
		p->ack_timeout = CM_ACK_TIMEOUT;
	else
		p->ack_timeout = (u8)roce_max(CM_ACK_TIMEOUT_MIN, roce_min(timeout, CM_ACK_TIMEOUT_MAX));
	if (param->tos)
		id->path.tos = param->tos & 0xfc;
}

int roce_cm_accept(struct roce_cm_id *id, u64 now, struct roce_qp *qp, const struct rackwire_roce_conn_param *param,
		   void *user)
{
	struct rackwire_roce_conn_param asked = id->param;
	struct roce_qp_link link = { 0 };
	int err;

	if (!id->passive || !param_ok(param, ROCE_CM_REP_PRIV) || !qp_unconnected(qp) || roce_qp_dev(qp) != id->cm->dev)
		return -EINVAL;
	if (id->state != CM_REQ_RCVD)
		return -ENOTCONN;
	grant(id, param);
	link.path = id->path;
	link.dest_qpn = id->remote_qpn;
	link.sq_psn = id->remote_psn;
	link.rq_psn = id->psn;
	link.mtu = roce_mtu_bytes(id->mtu);
	link.max_rd_atomic = id->param.initiator_depth;
	link.max_dest_rd_atomic = id->param.responder_resources;
	link.retry_count = id->param.retry_count;
	link.rnr_retry_count = id->param.rnr_retry_count;
	link.min_rnr_timer = id->param.min_rnr_timer;
	link.ack_timeout = id->param.ack_timeout;
	err = roce_qp_connect(qp, now, &link);
	if (err) {
		id->param = asked;
		return err;
	}
	id->qp = qp;
	id->connected = true;
	id->user = user;
	roce_qp_set_cm(qp, id);
	id->param.rnr_retry_count = param->rnr_retry_count;
	if (id->listener) {
		id->listener->pending--;
		id->listener = NULL;
		roce_list_del(&id->family);
	}
	roce_list_add_tail(&id->peer->connecting, &id->wait);
	cm_send_rep(id, param->private_data, param->private_data_len);
	id->state = CM_REP_SENT;
	cm_retry_timer(id, now);
	return 0;
}

/* Says no and stays behind to say it again. */
static void refuse(struct roce_cm_id *id, u64 now, u16 reason, const void *priv, u32 len)
{
	cm_send_rej(id, reason, priv, len, true);
	cm_timewait(id, now);
	cm_id_orphan(id);
}

int roce_cm_reject(struct roce_cm_id *id, u64 now, u32 reason, const void *private_data, u32 len)
{
	if (!id->passive || !reason || reason > 0xffff || len > ROCE_CM_REJ_PRIV || (len && !private_data) ||
	    id->connected)
		return -EINVAL;
	if (id->state == CM_REQ_RCVD)
		refuse(id, now, (u16)reason, private_data, len);
	else
		roce_cm_destroy(id, now);
	return 0;
}

int roce_cm_mra(struct roce_cm_id *id, u64 now)
{
	if (id->state != CM_REQ_RCVD)
		return id->passive ? -ENOTCONN : -EINVAL;
	if (id->mad_type != ROCE_CM_MRA)
		id->linger += roce_timeout_ns(CM_MRA_TIMEOUT);
	cm_send_mra(id);
	cm_set_timer(id, roce_after(now, roce_timeout_ns(CM_MRA_TIMEOUT) + id->patience));
	return 0;
}

int roce_cm_disconnect(struct roce_cm_id *id, u64 now)
{
	switch (id->state) {
	case CM_REP_SENT:
	case CM_ESTABLISHED:
		cm_start_dreq(id, now);
		return 0;
	case CM_DREQ_SENT:
		return 0;
	case CM_TIMEWAIT:
	case CM_CLOSED:
		return id->ev_done & CM_EV_END ? 0 : -ENOTCONN;
	default:
		return -ENOTCONN;
	}
}

static void destroy_listener(struct roce_cm_id *id, u64 now)
{
	while (!roce_list_empty(&id->family)) {
		struct roce_cm_id *request = roce_container(id->family.next, struct roce_cm_id, family);

		roce_list_del(&request->family);
		request->listener = NULL;
		if (!request->told)
			refuse(request, now, ROCE_REJ_INVALID_SERVICE_ID, NULL, 0);
	}
	id->cm->listeners--;
	cm_id_free(id);
}

void roce_cm_destroy(struct roce_cm_id *id, u64 now)
{
	switch (id->state) {
	case CM_LISTEN:
		destroy_listener(id, now);
		return;
	case CM_REQ_SENT:
		/* A REQ that never left needs no taking back. */
		if (roce_list_empty(&id->tx) || id->attempts)
			cm_send_rej(id, ROCE_REJ_TIMEOUT, NULL, 0, false);
		cm_id_free(id);
		return;
	case CM_REQ_RCVD:
		refuse(id, now, ROCE_REJ_CONSUMER, NULL, 0);
		return;
	case CM_REP_SENT:
	case CM_ESTABLISHED:
		cm_start_dreq(id, now);
		cm_id_orphan(id);
		return;
	case CM_DREQ_SENT:
	case CM_TIMEWAIT:
		cm_id_orphan(id);
		return;
	default:
		cm_id_free(id);
	}
}

void *roce_cm_user(const struct roce_cm_id *id)
{
	return id->user;
}

struct roce_qp *roce_cm_qp(const struct roce_cm_id *id)
{
	return id->qp;
}

const struct roce_path *roce_cm_path(const struct roce_cm_id *id)
{
	return &id->path;
}

void roce_cm_ports(const struct roce_cm_id *id, u16 *local, u16 *peer)
{
	*local = id->local_port;
	*peer = id->peer_port;
}

/* ---- what the device and the transport tell ---- */

struct roce_cm_dev *roce_cm_init(struct roce_dev *d)
{
	struct roce_cm_dev *cm = roce_alloc(d, ROCE_SLAB_TABLE, sizeof(*cm));

	if (!cm)
		return NULL;
	cm->dev = d;
	cm->cfg = roce_cfg_of(d);
	cm->stats = roce_stats_of(d);
	cm->guid = roce_random(d) | 1;
	cm->hash_key[0] = roce_random(d);
	cm->hash_key[1] = roce_random(d);
	roce_list_init(&cm->all);
	roce_list_init(&cm->events);
	roce_list_init(&cm->tx);
	roce_list_init(&cm->orphans);
	if (cm_tables_init(cm)) {
		roce_cm_exit(cm);
		return NULL;
	}
	return cm;
}

void roce_cm_exit(struct roce_cm_dev *cm)
{
	while (!roce_list_empty(&cm->all)) {
		struct roce_cm_id *id = roce_container(cm->all.next, struct roce_cm_id, all);

		/* Its queue pair and its listener may be gone already. */
		id->qp = NULL;
		id->listener = NULL;
		cm_id_free(id);
	}
	cm_tables_exit(cm);
	roce_free(cm->dev, ROCE_SLAB_TABLE, cm, sizeof(*cm));
}

void roce_cm_qp_active(struct roce_cm_id *id, u64 now)
{
	(void)now;
	if (id->state == CM_REP_SENT)
		cm_established(id);
}

void roce_cm_qp_failed(struct roce_cm_id *id, u64 now, int error)
{
	if (id->state != CM_REP_SENT && id->state != CM_ESTABLISHED)
		return;
	cm_end(id, now, RACKWIRE_ROCE_CM_DISCONNECTED, error ? error : -EIO, 0);
	cm_start_dreq(id, now);
}

void roce_cm_qp_gone(struct roce_cm_id *id, u64 now)
{
	id->qp = NULL;
	switch (id->state) {
	case CM_REQ_SENT:
		cm_send_rej(id, ROCE_REJ_TIMEOUT, NULL, 0, false);
		cm_end(id, now, RACKWIRE_ROCE_CM_UNREACHABLE, -ECANCELED, 0);
		cm_close(id);
		break;
	case CM_REP_SENT:
	case CM_ESTABLISHED:
		cm_start_dreq(id, now);
		break;
	default:
		break;
	}
}

void roce_cm_unreachable(struct roce_cm_dev *cm, u64 now, const struct roce_path *path, int error)
{
	struct cm_peer *p = cm_find_peer(cm, path->peer);
	struct roce_list *at, *next;
	bool last;

	if (!p)
		return;
	error = error < 0 ? error : error > 0 ? -error : -EHOSTUNREACH;
	for (at = p->connecting.next, last = at == &p->connecting; !last; at = next) {
		struct roce_cm_id *id = roce_container(at, struct roce_cm_id, wait);

		/* The last id to leave takes the peer's entry with it. */
		next = at->next;
		last = next == &p->connecting;
		if (!cm_path_equal(&id->path, path))
			continue;
		cm_end(id, now, RACKWIRE_ROCE_CM_UNREACHABLE, error, 0);
		if (id->state == CM_REP_SENT)
			cm_timewait(id, now);
		else
			cm_close(id);
	}
}

void roce_cm_info(const struct roce_cm_dev *cm, struct roce_info *info)
{
	info->cm_ids = cm->owned;
	info->half_open = cm->half_open;
	info->timewait = cm->timewait;
	info->listeners = cm->listeners;
}

/* ---- time ---- */

static void timed_out(struct roce_cm_id *id, u64 now)
{
	u32 limit = id->state == CM_ESTABLISHED ? CM_PROBES : id->cm->cfg->cm_retries;

	switch (id->state) {
	case CM_REQ_RCVD:
		cm_send_rej(id, ROCE_REJ_TIMEOUT, NULL, 0, true);
		cm_request_over(id, now, RACKWIRE_ROCE_CM_UNREACHABLE, -ETIMEDOUT, 0);
		return;
	case CM_TIMEWAIT:
		if (id->connected)
			cm_post(id, CM_EV_TIMEWAIT_EXIT);
		cm_close(id);
		return;
	default:
		break;
	}
	if (id->attempts < limit) {
		id->attempts++;
		id->cm->stats->mads_rtx++;
		cm_queue(id);
		cm_retry_timer(id, now);
		return;
	}
	switch (id->state) {
	case CM_REQ_SENT:
		cm_send_rej(id, ROCE_REJ_TIMEOUT, NULL, 0, false);
		cm_end(id, now, RACKWIRE_ROCE_CM_UNREACHABLE, -ETIMEDOUT, 0);
		cm_close(id);
		break;
	case CM_REP_SENT:
		cm_send_rej(id, ROCE_REJ_TIMEOUT, NULL, 0, false);
		cm_end(id, now, RACKWIRE_ROCE_CM_UNREACHABLE, -ETIMEDOUT, 0);
		cm_timewait(id, now);
		break;
	case CM_ESTABLISHED:
		id->in_doubt = false;
		cm_end(id, now, RACKWIRE_ROCE_CM_DISCONNECTED, -ECONNRESET, 0);
		cm_timewait(id, now);
		break;
	default: /* CM_DREQ_SENT */
		cm_end(id, now, RACKWIRE_ROCE_CM_DISCONNECTED, -ETIMEDOUT, 0);
		cm_timewait(id, now);
	}
}

void roce_cm_tick(struct roce_cm_dev *cm, u64 now)
{
	while (roce_heap_first(&cm->timers) <= now) {
		struct roce_cm_id *id = roce_container(cm->timers.slots[1], struct roce_cm_id, timer);

		cm_stop_timer(id);
		timed_out(id, now);
	}
}

u64 roce_cm_deadline(const struct roce_cm_dev *cm)
{
	return roce_heap_first(&cm->timers);
}

/* ---- events ---- */

int roce_cm_poll_event(struct roce_cm_dev *cm, struct roce_event *ev)
{
	struct roce_cm_id *id;
	u8 bit;

	if (roce_list_empty(&cm->events))
		return 0;
	id = roce_container(cm->events.next, struct roce_cm_id, event);
	bit = id->ev_pending & -id->ev_pending;
	id->ev_pending &= (u8)~bit;
	roce_list_del(&id->event);
	if (id->ev_pending)
		roce_list_add_tail(&cm->events, &id->event);
	memset(ev, 0, sizeof(*ev));
	ev->kind = ROCE_EV_CM;
	ev->id = id;
	ev->qp = id->qp;
	if (id->priv_for == bit) {
		ev->private_data = id->priv;
		ev->private_data_len = id->priv_len;
	}
	switch (bit) {
	case CM_EV_REQUEST:
		id->told = true;
		ev->cm = RACKWIRE_ROCE_CM_CONNECT_REQUEST;
		ev->listener = id->listener;
		ev->responder_resources = id->peer_initiator;
		ev->initiator_depth = id->peer_responder;
		break;
	case CM_EV_ESTABLISHED:
		ev->cm = RACKWIRE_ROCE_CM_ESTABLISHED;
		ev->responder_resources = id->param.responder_resources;
		ev->initiator_depth = id->param.initiator_depth;
		break;
	case CM_EV_END:
		ev->cm = id->end_event;
		ev->error = id->end_error;
		ev->status = id->end_status;
		break;
	default:
		ev->cm = RACKWIRE_ROCE_CM_TIMEWAIT_EXIT;
	}
	return 1;
}
