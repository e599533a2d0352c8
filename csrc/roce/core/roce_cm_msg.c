/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The connection manager's messages to peers [IBTA 12.6]. */
#include "roce_cm_priv.h"

static struct cm_reply *reply_slot(struct roce_cm_dev *cm, const struct roce_path *to)
{
	struct cm_reply *r;

	if (cm->reply_count == CM_REPLIES) {
		cm->stats->rx_dropped++;
		return NULL;
	}
	r = &cm->replies[(cm->reply_head + cm->reply_count++) % CM_REPLIES];
	r->path = *to;
	return r;
}

void cm_queue(struct roce_cm_id *id)
{
	if (roce_list_empty(&id->tx))
		roce_list_add_tail(&id->cm->tx, &id->tx);
}

/* Puts a message into id->mad and sends it; one that still waits there goes before it. */
static void send(struct roce_cm_id *id, const struct roce_cm *m)
{
	struct cm_reply *r;

	if (!roce_list_empty(&id->tx) && id->mad_type != ROCE_CM_MRA) {
		r = reply_slot(id->cm, &id->path);
		if (r)
			memcpy(r->mad, id->mad, ROCE_MAD_LEN);
	}
	id->mad_type = m->type;
	roce_cm_encode(id->mad, m);
	cm_queue(id);
}

static void reply(struct roce_cm_dev *cm, const struct roce_path *to, const struct roce_cm *m)
{
	struct cm_reply *r = reply_slot(cm, to);

	if (r)
		roce_cm_encode(r->mad, m);
}

/* The code whose time is at least @ns. */
static u8 timeout_code(u64 ns)
{
	u8 code = 0;

	while (code < 31 && roce_timeout_ns(code) < ns)
		code++;
	return code;
}

/* What we tell peers of our own pace: they may count on an answer within twice our repetition. */
static u8 response_timeout(const struct roce_cm_dev *cm)
{
	return timeout_code(2 * roce_min(cm->cfg->cm_timeout_ns, CM_BACKOFF_MAX));
}

static bool is_v4(const u8 addr[16])
{
	static const u8 mapped[12] = { [10] = 0xff, [11] = 0xff };

	return !memcmp(addr, mapped, sizeof(mapped));
}

void cm_send_req(struct roce_cm_id *id, const void *priv, u32 len)
{
	const struct rackwire_roce_conn_param *p = &id->param;
	struct roce_cma cma = { .ip_version = 6, .port = id->local_port };
	u8 data[ROCE_CM_REQ_PRIV] = { 0 };
	struct roce_cm m = {
		.type = ROCE_CM_REQ,
		.tid = id->tid,
		.priv = data,
		.priv_len = ROCE_CMA_LEN + len,
		.u.req = {
			.local_comm_id = id->local_id,
			.service_id = roce_service_id(ROCE_PS_TCP, id->peer_port),
			.local_ca_guid = id->cm->guid,
			.local_qpn = roce_qp_num(id->qp),
			.responder_resources = p->responder_resources,
			.initiator_depth = p->initiator_depth,
			.remote_response_timeout = response_timeout(id->cm),
			.transport_type = ROCE_CM_RC,
			.starting_psn = id->psn,
			.local_response_timeout = response_timeout(id->cm),
			.retry_count = p->retry_count,
			.pkey = 0xffff,
			.mtu = id->mtu,
			.rnr_retry = p->rnr_retry_count,
			.max_cm_retries = (u8)roce_min(id->cm->cfg->cm_retries, 15),
			.primary = {
				.local_lid = 0xffff,
				.remote_lid = 0xffff,
				/* Linux spreads its flows over UDP source ports by it. */
				.flow_label = (u32)(roce_random(id->cm->dev) & 0xfffff),
				.traffic_class = id->path.tos,
				.hop_limit = CM_HOP_LIMIT,
				.ack_timeout = p->ack_timeout,
			},
		},
	};

	memcpy(m.u.req.primary.local_gid, id->path.local, 16);
	memcpy(m.u.req.primary.remote_gid, id->path.peer, 16);
	memcpy(cma.src, id->path.local, 16);
	memcpy(cma.dst, id->path.peer, 16);
	if (is_v4(id->path.peer))
		cma.ip_version = 4;
	roce_cma_encode(data, &cma);
	if (len)
		memcpy(data + ROCE_CMA_LEN, priv, len);
	send(id, &m);
}

int cm_resend_req_as_new(struct roce_cm_id *id)
{
	u8 data[ROCE_CM_REQ_PRIV];
	struct roce_cm m;
	int err;

	roce_cm_decode(&m, id->mad, ROCE_MAD_LEN);
	memcpy(data, m.priv, sizeof(data));
	m.priv = data;
	cm_unhash(id);
	err = cm_id_name(id);
	if (err)
		return err;
	m.tid = id->tid = (id->tid & ~0xffffffffull) | id->local_id;
	m.u.req.local_comm_id = id->local_id;
	m.u.req.mtu = id->mtu;
	send(id, &m);
	return 0;
}

void cm_send_mra(struct roce_cm_id *id)
{
	struct roce_cm m = {
		.type = ROCE_CM_MRA,
		.tid = id->tid,
		.u.mra = {
			.local_comm_id = id->local_id,
			.remote_comm_id = id->remote_id,
			.message = ROCE_CM_OF_REQ,
			.service_timeout = CM_MRA_TIMEOUT,
		},
	};

	send(id, &m);
}

void cm_send_rep(struct roce_cm_id *id, const void *priv, u32 len)
{
	struct roce_cm m = {
		.type = ROCE_CM_REP,
		.tid = id->tid,
		.priv = priv,
		.priv_len = len,
		.u.rep = {
			.local_comm_id = id->local_id,
			.remote_comm_id = id->remote_id,
			.local_qpn = roce_qp_num(id->qp),
			.starting_psn = id->psn,
			.responder_resources = id->param.responder_resources,
			.initiator_depth = id->param.initiator_depth,
			.target_ack_delay = CM_TARGET_ACK_DELAY,
			.failover = id->alternate ? 1 : 0,
			.rnr_retry = id->param.rnr_retry_count,
			.local_ca_guid = id->cm->guid,
		},
	};

	send(id, &m);
}

void cm_send_rtu(struct roce_cm_id *id)
{
	struct roce_cm m = { .type = ROCE_CM_RTU, .tid = id->tid };

	m.u.rtu.local_comm_id = id->local_id;
	m.u.rtu.remote_comm_id = id->remote_id;
	send(id, &m);
}

void cm_send_dreq(struct roce_cm_id *id)
{
	struct roce_cm m = { .type = ROCE_CM_DREQ };

	m.tid = (roce_random(id->cm->dev) & ~0xffffffffull) | id->local_id;
	m.u.dreq.local_comm_id = id->local_id;
	m.u.dreq.remote_comm_id = id->remote_id;
	m.u.dreq.remote_qpn = id->remote_qpn;
	send(id, &m);
}

void cm_send_rej(struct roce_cm_id *id, u16 reason, const void *priv, u32 len, bool kept)
{
	u8 guid[8];
	struct roce_cm m = { .type = ROCE_CM_REJ, .tid = id->tid, .priv = priv, .priv_len = len };
	struct roce_cm_rej *rej = &m.u.rej;

	rej->local_comm_id = id->local_id;
	rej->remote_comm_id = id->remote_id;
	/* Who gave up waiting names himself: the peer may know no id of ours [IBTA table 109]. */
	if (reason == ROCE_REJ_TIMEOUT) {
		roce_put64(guid, id->cm->guid);
		rej->ari = guid;
		rej->ari_len = sizeof(guid);
	}
	rej->message = id->state == CM_REQ_RCVD ? ROCE_CM_OF_REQ :
		       id->state == CM_REQ_SENT && id->remote_id ? ROCE_CM_OF_REP : ROCE_CM_OF_OTHER;
	rej->reason = reason;
	if (kept)
		send(id, &m);
	else
		reply(id->cm, &id->path, &m);
}

void cm_reply_rej(struct roce_cm_dev *cm, const struct roce_path *to, const struct roce_cm *m, u32 remote_id,
		  u16 reason, const u8 *ari, u8 ari_len)
{
	struct roce_cm rej = { .type = ROCE_CM_REJ, .tid = m->tid };

	if (m->type == ROCE_CM_REP) {
		rej.u.rej.message = ROCE_CM_OF_REP;
		rej.u.rej.local_comm_id = m->u.rep.remote_comm_id;
	}
	rej.u.rej.remote_comm_id = remote_id;
	rej.u.rej.reason = reason;
	rej.u.rej.ari = ari;
	rej.u.rej.ari_len = ari_len;
	reply(cm, to, &rej);
}

void cm_reply_drep(struct roce_cm_dev *cm, const struct roce_path *to, const struct roce_cm *dreq)
{
	struct roce_cm m = { .type = ROCE_CM_DREP, .tid = dreq->tid };

	m.u.drep.local_comm_id = dreq->u.dreq.remote_comm_id;
	m.u.drep.remote_comm_id = dreq->u.dreq.local_comm_id;
	reply(cm, to, &m);
}

int roce_cm_poll_tx(struct roce_cm_dev *cm, u64 now, const u8 **mad, const struct roce_path **path)
{
	struct roce_cm_id *id;
	struct cm_reply *r;

	(void)now;
	if (cm->reply_count) {
		r = &cm->replies[cm->reply_head];
		cm->reply_head = (cm->reply_head + 1) % CM_REPLIES;
		cm->reply_count--;
		*mad = r->mad;
		*path = &r->path;
	} else if (!roce_list_empty(&cm->tx)) {
		id = roce_container(cm->tx.next, struct roce_cm_id, tx);
		roce_list_del(&id->tx);
		*mad = id->mad;
		*path = &id->path;
	} else {
		return 0;
	}
	cm->stats->mads_tx++;
	return 1;
}
