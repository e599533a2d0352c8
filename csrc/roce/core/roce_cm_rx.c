/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Messages of peers [IBTA 12.6, 12.9]. All of them are hostile until they name
 * an id by communication ids that its peer alone knows, and come from its address.
 */
#include "roce_cm_priv.h"

enum verdict { CM_TAKEN, CM_DUPLICATE, CM_BAD };

/* Room for private data of an event; what is waiting to be read stays. */
static void keep_private(struct roce_cm_id *id, u8 event, const u8 *data, u32 len)
{
	if (id->ev_pending & id->priv_for)
		return;
	id->priv_for = event;
	id->priv_len = len;
	memcpy(id->priv, data, len);
}

static bool in_range(const struct roce_cm_dev *cm, u32 comm_id)
{
	return comm_id - cm->cfg->comm_id_base < cm->cfg->comm_id_count;
}

/* The id a message is for, when it comes from that id's peer. */
static struct roce_cm_id *addressee(const struct roce_cm_dev *cm, const struct roce_path *from, u32 local_id)
{
	struct roce_cm_id *id = cm_find_local(cm, local_id);

	return id && cm_path_equal(&id->path, from) ? id : NULL;
}

/* As addressee(), and the peer names itself by the communication id that we know. */
static struct roce_cm_id *acquaintance(const struct roce_cm_dev *cm, const struct roce_path *from,
				       const struct roce_cm_ids *ids)
{
	struct roce_cm_id *id = addressee(cm, from, ids->remote_comm_id);

	return id && id->remote_id && id->remote_id == ids->local_comm_id ? id : NULL;
}

/* ---- REQ ---- */

static enum verdict refuse_req(struct roce_cm_dev *cm, const struct roce_path *from, const struct roce_cm *m, u16 reason)
{
	cm->stats->cm_refused++;
	cm_reply_rej(cm, from, m, m->u.req.local_comm_id, reason, NULL, 0);
	return CM_TAKEN;
}

/* [IBTA 12.9.8.4] the answer to the first goes again. */
static enum verdict duplicate_req(struct roce_cm_id *id, u64 now, const struct roce_cm *m, const struct roce_path *from)
{
	switch (id->state) {
	case CM_REQ_RCVD:
		/* It asks because the application takes its time; Linux's does the same with ours. */
		roce_cm_mra(id, now);
		break;
	case CM_REP_SENT:
	case CM_ESTABLISHED:
		id->cm->stats->mads_rtx++;
		cm_queue(id);
		break;
	case CM_TIMEWAIT:
		if (id->mad_type == ROCE_CM_REJ) {
			id->cm->stats->mads_rtx++;
			cm_queue(id);
			cm_set_timer(id, roce_after(now, id->linger));
		} else {
			cm_reply_rej(id->cm, from, m, id->remote_id, ROCE_REJ_STALE_CONN, NULL, 0);
		}
		break;
	default:
		break;
	}
	return CM_DUPLICATE;
}

/* Another connection of the peer's has this communication id or QP. Return: whether it lives on. */
static bool stale(struct roce_cm_id *id, u64 now)
{
	if (!id)
		return false;
	if (id->state == CM_TIMEWAIT) {
		cm_remote_remove(id);
		return false;
	}
	cm_suspect(id, now);
	return true;
}

static bool addresses_match(const struct roce_cma *cma, const struct roce_cm_req *r, const struct roce_path *from)
{
	return cm_addr_equal(cma->src, from->peer) && cm_addr_equal(cma->dst, from->local) &&
	       cm_addr_equal(r->primary.local_gid, from->peer) && cm_addr_equal(r->primary.remote_gid, from->local);
}

/* What is wrong with a request, as the reason of a REJ; 0: nothing. */
static u16 check_req(const struct roce_cm *m, const struct roce_cma *cma, int cma_error, const struct roce_path *from)
{
	const struct roce_cm_req *r = &m->u.req;

	if (r->transport_type != ROCE_CM_RC || r->extended_transport)
		return ROCE_REJ_INVALID_TRANSPORT;
	if (cma_error)
		return ROCE_REJ_UNSUPPORTED;
	if (!addresses_match(cma, r, from))
		return ROCE_REJ_INVALID_GID;
	return 0;
}

static void fill_request(struct roce_cm_id *id, const struct roce_cm *m, const struct roce_path *from, u16 peer_port)
{
	const struct roce_cm_req *r = &m->u.req;
	static const u8 none[16];
	u64 pause;

	id->path = *from;
	id->path.tos = r->primary.traffic_class & 0xfc;
	id->passive = true;
	id->local_port = (u16)r->service_id;
	id->peer_port = peer_port;
	id->remote_id = r->local_comm_id;
	id->remote_qpn = r->local_qpn;
	id->remote_guid = r->local_ca_guid;
	id->remote_psn = r->starting_psn;
	id->psn = roce_random(id->cm->dev) & 0xffffff;
	id->tid = m->tid;
	id->mtu = r->mtu;
	id->peer_responder = r->responder_resources;
	id->peer_initiator = r->initiator_depth;
	id->param.retry_count = r->retry_count;
	id->param.rnr_retry_count = r->rnr_retry;
	id->param.ack_timeout = r->primary.ack_timeout;
	id->alternate = r->alternate.local_lid || !cm_addr_equal(r->alternate.local_gid, none);
	pause = roce_timeout_ns(r->remote_response_timeout);
	/* Linux adds twice its packet lifetime to its pauses, ours double. */
	id->patience = roce_min(roce_max(pause, CM_BACKOFF_MAX) * (r->max_cm_retries + 1), CM_PATIENCE_MAX);
	id->linger = roce_max(id->cm->cfg->timewait_ns, roce_min(2 * pause, 2 * CM_BACKOFF_MAX));
}

static enum verdict rx_req(struct roce_cm_dev *cm, u64 now, const struct roce_cm *m, const struct roce_path *from)
{
	const struct roce_cm_req *r = &m->u.req;
	int port = roce_service_port(r->service_id), cma_error, err;
	struct roce_cm_id *id, *listener;
	struct roce_cma cma = { 0 };
	u16 reason;
	u8 mtu;

	if (!r->local_comm_id || r->local_qpn < 2)
		return CM_BAD;
	id = cm_find_remote(cm, from->peer, r->local_comm_id);
	if (id && id->passive && id->remote_guid == r->local_ca_guid && id->remote_qpn == r->local_qpn &&
	    id->remote_psn == r->starting_psn && cm_path_equal(&id->path, from))
		return duplicate_req(id, now, m, from);

	listener = port > 0 ? cm_find_listener(cm, from->local, (u16)port) : NULL;
	if (!listener)
		return refuse_req(cm, from, m, ROCE_REJ_INVALID_SERVICE_ID);
	cma_error = roce_cma_decode(&cma, m->priv, m->priv_len);
	reason = check_req(m, &cma, cma_error, from);
	if (reason)
		return refuse_req(cm, from, m, reason);
	mtu = cm_mtu_limit(cm, from);
	if (!roce_mtu_bytes(r->mtu) || r->mtu > mtu) {
		/* A REP cannot lower the path MTU; the information tells a peer of ours what to come back with. */
		cm->stats->cm_refused++;
		cm_reply_rej(cm, from, m, r->local_comm_id, ROCE_REJ_INVALID_MTU, &mtu, 1);
		return CM_TAKEN;
	}
	if (stale(id, now) || stale(cm_find_qpn(cm, from->peer, r->local_ca_guid, r->local_qpn), now))
		return refuse_req(cm, from, m, ROCE_REJ_STALE_CONN);

	/* Without an answer the peer comes again, when there may be room. */
	if (listener->pending >= listener->backlog || !cm_half_open_room(cm, from->peer)) {
		cm->stats->cm_refused++;
		return CM_TAKEN;
	}
	id = cm_id_new(cm, &err);
	if (!id)
		return refuse_req(cm, from, m, ROCE_REJ_NO_RESOURCES);
	fill_request(id, m, from, cma.port);
	if (cm_peer_join(id, true) || cm_id_name(id)) {
		cm_id_free(id);
		return refuse_req(cm, from, m, ROCE_REJ_NO_RESOURCES);
	}
	id->state = CM_REQ_RCVD;
	id->listener = listener;
	listener->pending++;
	roce_list_add_tail(&listener->family, &id->family);
	cm_remote_insert(id);
	keep_private(id, CM_EV_REQUEST, m->priv + ROCE_CMA_LEN, ROCE_CMA_PRIV);
	cm_post(id, CM_EV_REQUEST);
	cm_set_timer(id, roce_after(now, id->patience));
	return CM_TAKEN;
}

/* ---- answers to a REQ ---- */

static enum verdict connect_to(struct roce_cm_id *id, u64 now, const struct roce_cm *m)
{
	const struct roce_cm_rep *r = &m->u.rep;
	struct roce_cm_id *other = cm_find_remote(id->cm, id->path.peer, r->local_comm_id);
	struct rackwire_roce_conn_param *p = &id->param;
	struct roce_qp_link link = { 0 };
	int err;

	id->remote_id = r->local_comm_id;
	if (stale(other, now)) {
		cm_send_rej(id, ROCE_REJ_STALE_CONN, NULL, 0, false);
		cm_end(id, now, RACKWIRE_ROCE_CM_REJECTED, 0, ROCE_REJ_STALE_CONN);
		cm_close(id);
		return CM_TAKEN;
	}
	stale(cm_find_qpn(id->cm, id->path.peer, r->local_ca_guid, r->local_qpn), now);
	p->responder_resources = (u8)roce_min(p->responder_resources, r->initiator_depth);
	p->initiator_depth = (u8)roce_min(p->initiator_depth, r->responder_resources);
	link.path = id->path;
	link.dest_qpn = r->local_qpn;
	link.sq_psn = r->starting_psn;
	link.rq_psn = id->psn;
	link.mtu = roce_mtu_bytes(id->mtu);
	link.max_rd_atomic = p->initiator_depth;
	link.max_dest_rd_atomic = p->responder_resources;
	link.retry_count = p->retry_count;
	link.rnr_retry_count = r->rnr_retry;
	link.min_rnr_timer = p->min_rnr_timer;
	link.ack_timeout = p->ack_timeout;
	err = roce_qp_connect(id->qp, now, &link);
	if (err) {
		cm_send_rej(id, ROCE_REJ_NO_QP, NULL, 0, false);
		cm_end(id, now, RACKWIRE_ROCE_CM_UNREACHABLE, err, 0);
		cm_close(id);
		return CM_TAKEN;
	}
	id->connected = true;
	id->remote_qpn = r->local_qpn;
	id->remote_guid = r->local_ca_guid;
	id->remote_psn = r->starting_psn;
	cm_remote_insert(id);
	keep_private(id, CM_EV_ESTABLISHED, m->priv, m->priv_len);
	cm_send_rtu(id);
	cm_established(id);
	return CM_TAKEN;
}

static enum verdict rx_rep(struct roce_cm_dev *cm, u64 now, const struct roce_cm *m, const struct roce_path *from)
{
	const struct roce_cm_rep *r = &m->u.rep;
	struct roce_cm_id *id = addressee(cm, from, r->remote_comm_id);

	if (!r->local_comm_id || r->local_qpn < 2)
		return CM_BAD;
	if (!id) {
		/* The answer to a REQ that was given up: who sent it need not wait for RTU. */
		if (in_range(cm, r->remote_comm_id) && !cm_find_local(cm, r->remote_comm_id))
			cm_reply_rej(cm, from, m, r->local_comm_id, ROCE_REJ_INVALID_COMM_ID, NULL, 0);
		return CM_BAD;
	}
	if (id->passive)
		return CM_BAD;
	if (id->state == CM_REQ_SENT)
		return connect_to(id, now, m);
	if (id->remote_id != r->local_comm_id)
		return CM_BAD;
	if (id->state == CM_ESTABLISHED) { /* the RTU was lost */
		cm->stats->mads_rtx++;
		cm_queue(id);
	}
	return CM_DUPLICATE;
}

static enum verdict rx_mra(struct roce_cm_dev *cm, u64 now, const struct roce_cm *m, const struct roce_path *from)
{
	const struct roce_cm_mra *r = &m->u.mra;
	struct roce_cm_id *id = addressee(cm, from, r->remote_comm_id);
	u8 code = (u8)roce_min(r->service_timeout, CM_MRA_MAX);

	if (!id || !((id->state == CM_REQ_SENT && r->message == ROCE_CM_OF_REQ) ||
		     (id->state == CM_REP_SENT && r->message == ROCE_CM_OF_REP && id->remote_id == r->local_comm_id)))
		return CM_BAD;
	if (id->mras == CM_MRA_COUNT)
		return CM_DUPLICATE;
	id->mras++;
	cm_set_timer(id, roce_after(now, roce_timeout_ns(code) + cm->cfg->cm_timeout_ns));
	return CM_TAKEN;
}

static struct roce_cm_id *rejected(struct roce_cm_dev *cm, const struct roce_cm_rej *r, const struct roce_path *from)
{
	struct roce_cm_id *id;

	if (r->remote_comm_id) {
		id = addressee(cm, from, r->remote_comm_id);
		return id && (!r->local_comm_id || !id->remote_id || r->local_comm_id == id->remote_id) ? id : NULL;
	}
	/* A peer that gave up its REQ before it heard of us: its own id, and its GUID [IBTA table 109]. */
	id = cm_find_remote(cm, from->peer, r->local_comm_id);
	if (!id || !id->passive || !cm_path_equal(&id->path, from) ||
	    (r->ari_len >= 8 && roce_get64(r->ari) != id->remote_guid))
		return NULL;
	return id->state == CM_REQ_RCVD || id->state == CM_REP_SENT ? id : NULL;
}

/* Whether the REQ goes again with the path MTU that the peer suggests. */
static bool lower_mtu(struct roce_cm_id *id, u64 now, const struct roce_cm_rej *r)
{
	if (r->reason != ROCE_REJ_INVALID_MTU || !r->ari_len || !roce_mtu_bytes(r->ari[0]) || r->ari[0] >= id->mtu)
		return false;
	id->mtu = r->ari[0];
	if (cm_resend_req_as_new(id))
		return false;
	id->attempts = 0;
	cm_retry_timer(id, now);
	return true;
}

static enum verdict rx_rej(struct roce_cm_dev *cm, u64 now, const struct roce_cm *m, const struct roce_path *from)
{
	const struct roce_cm_rej *r = &m->u.rej;
	struct roce_cm_id *id = rejected(cm, r, from);

	if (!id)
		return CM_BAD;
	switch (id->state) {
	case CM_REQ_SENT:
		if (lower_mtu(id, now, r))
			return CM_TAKEN;
		keep_private(id, CM_EV_END, m->priv, m->priv_len);
		cm_end(id, now, RACKWIRE_ROCE_CM_REJECTED, 0, r->reason);
		cm_close(id);
		return CM_TAKEN;
	case CM_REQ_RCVD:
		cm_request_over(id, now, RACKWIRE_ROCE_CM_REJECTED, 0, r->reason);
		return CM_TAKEN;
	case CM_REP_SENT:
		keep_private(id, CM_EV_END, m->priv, m->priv_len);
		cm_end(id, now, RACKWIRE_ROCE_CM_REJECTED, 0, r->reason);
		cm_timewait(id, now);
		return CM_TAKEN;
	case CM_ESTABLISHED: /* it did not see our RTU, and has given up or forgotten the connection */
	case CM_DREQ_SENT:
		if (r->local_comm_id != id->remote_id)
			return CM_BAD;
		cm_end(id, now, RACKWIRE_ROCE_CM_DISCONNECTED, id->state == CM_ESTABLISHED ? -ECONNRESET : 0, 0);
		cm_timewait(id, now);
		return CM_TAKEN;
	default:
		return CM_DUPLICATE;
	}
}

/* ---- confirmation and farewell ---- */

static enum verdict rx_rtu(struct roce_cm_dev *cm, const struct roce_cm *m, const struct roce_path *from)
{
	struct roce_cm_id *id = acquaintance(cm, from, &m->u.rtu);

	if (!id || !id->passive)
		return CM_BAD;
	if (id->state == CM_REP_SENT) {
		cm_established(id);
		return CM_TAKEN;
	}
	if (id->state == CM_ESTABLISHED && id->in_doubt) {
		id->in_doubt = false;
		cm_stop_timer(id);
		return CM_TAKEN;
	}
	return id->state == CM_REQ_RCVD ? CM_BAD : CM_DUPLICATE;
}

static enum verdict rx_dreq(struct roce_cm_dev *cm, u64 now, const struct roce_cm *m, const struct roce_path *from)
{
	const struct roce_cm_dreq *r = &m->u.dreq;
	const struct roce_cm_ids ids = { r->local_comm_id, r->remote_comm_id };
	struct roce_cm_id *id = acquaintance(cm, from, &ids);

	if (!id) {
		/* Who disconnects from a connection we have forgotten is disconnected. */
		if (!in_range(cm, r->remote_comm_id) || !r->local_comm_id)
			return CM_BAD;
		cm_reply_drep(cm, from, m);
		return CM_DUPLICATE;
	}
	switch (id->state) {
	case CM_REP_SENT:
	case CM_ESTABLISHED:
	case CM_DREQ_SENT:
		if (id->qp && r->remote_qpn != roce_qp_num(id->qp))
			return CM_BAD;
		cm_reply_drep(cm, from, m);
		keep_private(id, CM_EV_END, m->priv, m->priv_len);
		cm_end(id, now, RACKWIRE_ROCE_CM_DISCONNECTED, 0, 0);
		cm_timewait(id, now);
		return CM_TAKEN;
	case CM_TIMEWAIT:
		cm_reply_drep(cm, from, m);
		return CM_DUPLICATE;
	default:
		return CM_BAD;
	}
}

static enum verdict rx_drep(struct roce_cm_dev *cm, u64 now, const struct roce_cm *m, const struct roce_path *from)
{
	struct roce_cm_id *id = acquaintance(cm, from, &m->u.drep);

	if (!id || id->state < CM_DREQ_SENT)
		return CM_BAD;
	if (id->state != CM_DREQ_SENT)
		return CM_DUPLICATE;
	cm_end(id, now, RACKWIRE_ROCE_CM_DISCONNECTED, 0, 0);
	cm_timewait(id, now);
	return CM_TAKEN;
}

void roce_cm_rx(struct roce_cm_dev *cm, u64 now, const u8 *mad, const struct roce_path *from, u32 src_qpn)
{
	enum verdict verdict = CM_BAD;
	struct roce_cm m;

	cm->stats->mads_rx++;
	if (src_qpn == 1 && !roce_cm_decode(&m, mad, ROCE_MAD_LEN)) {
		switch (m.type) {
		case ROCE_CM_REQ:
			verdict = rx_req(cm, now, &m, from);
			break;
		case ROCE_CM_MRA:
			verdict = rx_mra(cm, now, &m, from);
			break;
		case ROCE_CM_REJ:
			verdict = rx_rej(cm, now, &m, from);
			break;
		case ROCE_CM_REP:
			verdict = rx_rep(cm, now, &m, from);
			break;
		case ROCE_CM_RTU:
			verdict = rx_rtu(cm, &m, from);
			break;
		case ROCE_CM_DREQ:
			verdict = rx_dreq(cm, now, &m, from);
			break;
		case ROCE_CM_DREP:
			verdict = rx_drep(cm, now, &m, from);
			break;
		}
	}
	if (verdict == CM_BAD)
		cm->stats->mads_bad++;
	else if (verdict == CM_DUPLICATE)
		cm->stats->mads_duplicate++;
}
