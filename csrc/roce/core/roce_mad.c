// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Management datagrams of the communication manager: encoding and checked
 * decoding. Numbers here are offsets behind the common header, as the tables of
 * docs/krping-wire.md have them.
 */
#include "roce_mad.h"

/* A field of @width bits of the byte @at, @low bits above its lowest. */
static inline u8 bits(u8 byte, u32 low, u32 width)
{
	return (u8)(byte >> low & ((1u << width) - 1));
}

static inline u8 in_bits(u8 value, u32 low, u32 width)
{
	return (u8)((value & ((1u << width) - 1)) << low);
}

static const struct {
	u16 at, room;
} priv_of[ROCE_CM_DREP - ROCE_CM_REQ + 1] = {
	[ROCE_CM_REQ - ROCE_CM_REQ] = { 140, ROCE_CM_REQ_PRIV },
	[ROCE_CM_MRA - ROCE_CM_REQ] = { 10, ROCE_CM_MRA_PRIV },
	[ROCE_CM_REJ - ROCE_CM_REQ] = { 84, ROCE_CM_REJ_PRIV },
	[ROCE_CM_REP - ROCE_CM_REQ] = { 36, ROCE_CM_REP_PRIV },
	[ROCE_CM_RTU - ROCE_CM_REQ] = { 8, ROCE_CM_RTU_PRIV },
	[ROCE_CM_DREQ - ROCE_CM_REQ] = { 12, ROCE_CM_DREQ_PRIV },
	[ROCE_CM_DREP - ROCE_CM_REQ] = { 8, ROCE_CM_DREP_PRIV },
};

static bool is_known(u16 type)
{
	return type >= ROCE_CM_REQ && type <= ROCE_CM_DREP;
}

u32 roce_cm_priv_max(u16 type)
{
	return is_known(type) ? priv_of[type - ROCE_CM_REQ].room : 0;
}

static void get_path(struct roce_cm_path *out, const u8 *p)
{
	out->local_lid = roce_get16(p);
	out->remote_lid = roce_get16(p + 2);
	memcpy(out->local_gid, p + 4, 16);
	memcpy(out->remote_gid, p + 20, 16);
	out->flow_label = roce_get24(p + 36) >> 4;
	out->rate = bits(p[39], 0, 6);
	out->traffic_class = p[40];
	out->hop_limit = p[41];
	out->sl = bits(p[42], 4, 4);
	out->subnet_local = bits(p[42], 3, 1);
	out->ack_timeout = bits(p[43], 3, 5);
}

static void put_path(u8 *p, const struct roce_cm_path *path)
{
	roce_put16(p, path->local_lid);
	roce_put16(p + 2, path->remote_lid);
	memcpy(p + 4, path->local_gid, 16);
	memcpy(p + 20, path->remote_gid, 16);
	roce_put24(p + 36, path->flow_label << 4);
	p[39] = in_bits(path->rate, 0, 6);
	p[40] = path->traffic_class;
	p[41] = path->hop_limit;
	p[42] = in_bits(path->sl, 4, 4) | in_bits(path->subnet_local, 3, 1);
	p[43] = in_bits(path->ack_timeout, 3, 5);
}

static void get_req(struct roce_cm_req *out, const u8 *p)
{
	out->local_comm_id = roce_get32(p);
	out->service_id = roce_get64(p + 8);
	out->local_ca_guid = roce_get64(p + 16);
	out->local_qkey = roce_get32(p + 28);
	out->local_qpn = roce_get24(p + 32);
	out->responder_resources = p[35];
	out->local_eecn = roce_get24(p + 36);
	out->initiator_depth = p[39];
	out->remote_eecn = roce_get24(p + 40);
	out->remote_response_timeout = bits(p[43], 3, 5);
	out->transport_type = bits(p[43], 1, 2);
	out->flow_control = bits(p[43], 0, 1);
	out->starting_psn = roce_get24(p + 44);
	out->local_response_timeout = bits(p[47], 3, 5);
	out->retry_count = bits(p[47], 0, 3);
	out->pkey = roce_get16(p + 48);
	out->mtu = bits(p[50], 4, 4);
	out->rdc_exists = bits(p[50], 3, 1);
	out->rnr_retry = bits(p[50], 0, 3);
	out->max_cm_retries = bits(p[51], 4, 4);
	out->srq = bits(p[51], 3, 1);
	out->extended_transport = bits(p[51], 0, 3);
	get_path(&out->primary, p + 52);
	get_path(&out->alternate, p + 96);
	out->sap_supported = bits(p[139], 2, 1);
}

static void put_req(u8 *p, const struct roce_cm_req *req)
{
	roce_put32(p, req->local_comm_id);
	roce_put64(p + 8, req->service_id);
	roce_put64(p + 16, req->local_ca_guid);
	roce_put32(p + 28, req->local_qkey);
	roce_put24(p + 32, req->local_qpn);
	p[35] = req->responder_resources;
	roce_put24(p + 36, req->local_eecn);
	p[39] = req->initiator_depth;
	roce_put24(p + 40, req->remote_eecn);
	p[43] = in_bits(req->remote_response_timeout, 3, 5) | in_bits(req->transport_type, 1, 2) |
		in_bits(req->flow_control, 0, 1);
	roce_put24(p + 44, req->starting_psn);
	p[47] = in_bits(req->local_response_timeout, 3, 5) | in_bits(req->retry_count, 0, 3);
	roce_put16(p + 48, req->pkey);
	p[50] = in_bits(req->mtu, 4, 4) | in_bits(req->rdc_exists, 3, 1) | in_bits(req->rnr_retry, 0, 3);
	p[51] = in_bits(req->max_cm_retries, 4, 4) | in_bits(req->srq, 3, 1) |
		in_bits(req->extended_transport, 0, 3);
	put_path(p + 52, &req->primary);
	put_path(p + 96, &req->alternate);
	p[139] |= in_bits(req->sap_supported, 2, 1);
}

static int get_rej(struct roce_cm_rej *out, const u8 *p)
{
	out->message = bits(p[8], 6, 2);
	out->ari_len = bits(p[9], 1, 7);
	out->reason = roce_get16(p + 10);
	out->ari = p + 12;
	return out->ari_len > ROCE_CM_REJ_ARI ? -EBADMSG : 0;
}

static int put_rej(u8 *p, const struct roce_cm_rej *rej)
{
	if (rej->ari_len > ROCE_CM_REJ_ARI)
		return -EINVAL;
	p[8] = in_bits(rej->message, 6, 2);
	p[9] = in_bits(rej->ari_len, 1, 7);
	roce_put16(p + 10, rej->reason);
	if (rej->ari_len)
		memcpy(p + 12, rej->ari, rej->ari_len);
	return 0;
}

static void get_rep(struct roce_cm_rep *out, const u8 *p)
{
	out->local_qkey = roce_get32(p + 8);
	out->local_qpn = roce_get24(p + 12);
	out->local_eecn = roce_get24(p + 16);
	out->starting_psn = roce_get24(p + 20);
	out->responder_resources = p[24];
	out->initiator_depth = p[25];
	out->target_ack_delay = bits(p[26], 3, 5);
	out->failover = bits(p[26], 1, 2);
	out->flow_control = bits(p[26], 0, 1);
	out->rnr_retry = bits(p[27], 5, 3);
	out->srq = bits(p[27], 4, 1);
	out->local_ca_guid = roce_get64(p + 28);
}

static void put_rep(u8 *p, const struct roce_cm_rep *rep)
{
	roce_put32(p + 8, rep->local_qkey);
	roce_put24(p + 12, rep->local_qpn);
	roce_put24(p + 16, rep->local_eecn);
	roce_put24(p + 20, rep->starting_psn);
	p[24] = rep->responder_resources;
	p[25] = rep->initiator_depth;
	p[26] = in_bits(rep->target_ack_delay, 3, 5) | in_bits(rep->failover, 1, 2) |
		in_bits(rep->flow_control, 0, 1);
	p[27] = in_bits(rep->rnr_retry, 5, 3) | in_bits(rep->srq, 4, 1);
	roce_put64(p + 28, rep->local_ca_guid);
}

int roce_cm_decode(struct roce_cm *out, const u8 *mad, u32 len)
{
	const u8 *p = mad + ROCE_MAD_HDR_LEN;

	if (len != ROCE_MAD_LEN)
		return -EMSGSIZE;
	if (mad[0] != ROCE_MAD_BASE_VERSION || mad[1] != ROCE_MAD_CLASS_CM || mad[2] != ROCE_MAD_CM_VERSION ||
	    mad[3] != ROCE_MAD_METHOD_SEND || !is_known(roce_get16(mad + 16)))
		return -EPROTONOSUPPORT;

	memset(out, 0, sizeof(*out));
	out->status = roce_get16(mad + 4);
	out->tid = roce_get64(mad + 8);
	out->type = roce_get16(mad + 16);
	out->priv = p + priv_of[out->type - ROCE_CM_REQ].at;
	out->priv_len = priv_of[out->type - ROCE_CM_REQ].room;
	if (out->type == ROCE_CM_REQ) {
		get_req(&out->u.req, p);
		return 0;
	}

	out->u.ids.local_comm_id = roce_get32(p);
	out->u.ids.remote_comm_id = roce_get32(p + 4);
	switch (out->type) {
	case ROCE_CM_MRA:
		out->u.mra.message = bits(p[8], 6, 2);
		out->u.mra.service_timeout = bits(p[9], 3, 5);
		break;
	case ROCE_CM_REJ:
		return get_rej(&out->u.rej, p);
	case ROCE_CM_REP:
		get_rep(&out->u.rep, p);
		break;
	case ROCE_CM_DREQ:
		out->u.dreq.remote_qpn = roce_get24(p + 8);
		break;
	}
	return 0;
}

int roce_cm_encode(u8 *mad, const struct roce_cm *cm)
{
	u8 *p = mad + ROCE_MAD_HDR_LEN;
	int err = 0;

	if (!is_known(cm->type) || cm->priv_len > roce_cm_priv_max(cm->type))
		return -EINVAL;
	memset(mad, 0, ROCE_MAD_LEN);
	mad[0] = ROCE_MAD_BASE_VERSION;
	mad[1] = ROCE_MAD_CLASS_CM;
	mad[2] = ROCE_MAD_CM_VERSION;
	mad[3] = ROCE_MAD_METHOD_SEND;
	roce_put16(mad + 4, cm->status);
	roce_put64(mad + 8, cm->tid);
	roce_put16(mad + 16, cm->type);
	if (cm->type != ROCE_CM_REQ) {
		roce_put32(p, cm->u.ids.local_comm_id);
		roce_put32(p + 4, cm->u.ids.remote_comm_id);
	}
	switch (cm->type) {
	case ROCE_CM_REQ:
		put_req(p, &cm->u.req);
		break;
	case ROCE_CM_MRA:
		p[8] = in_bits(cm->u.mra.message, 6, 2);
		p[9] = in_bits(cm->u.mra.service_timeout, 3, 5);
		break;
	case ROCE_CM_REJ:
		err = put_rej(p, &cm->u.rej);
		break;
	case ROCE_CM_REP:
		put_rep(p, &cm->u.rep);
		break;
	case ROCE_CM_DREQ:
		roce_put24(p + 8, cm->u.dreq.remote_qpn);
		break;
	}
	if (cm->priv_len)
		memcpy(p + priv_of[cm->type - ROCE_CM_REQ].at, cm->priv, cm->priv_len);
	return err;
}

const char *roce_cm_name(u16 type)
{
	switch (type) {
	case ROCE_CM_REQ: return "REQ";
	case ROCE_CM_MRA: return "MRA";
	case ROCE_CM_REJ: return "REJ";
	case ROCE_CM_REP: return "REP";
	case ROCE_CM_RTU: return "RTU";
	case ROCE_CM_DREQ: return "DREQ";
	case ROCE_CM_DREP: return "DREP";
	}
	return "?";
}

const char *roce_cm_reason_name(u16 reason)
{
	switch (reason) {
	case ROCE_REJ_NO_QP: return "no queue pair left";
	case ROCE_REJ_NO_RESOURCES: return "no resources left";
	case ROCE_REJ_TIMEOUT: return "timed out";
	case ROCE_REJ_UNSUPPORTED: return "request not supported";
	case ROCE_REJ_INVALID_COMM_ID: return "unknown communication id";
	case ROCE_REJ_INVALID_COMM_INSTANCE: return "unknown communication instance";
	case ROCE_REJ_INVALID_SERVICE_ID: return "nobody listens on that port";
	case ROCE_REJ_INVALID_TRANSPORT: return "transport type not supported";
	case ROCE_REJ_STALE_CONN: return "stale connection";
	case ROCE_REJ_INVALID_GID: return "address not its own";
	case ROCE_REJ_INVALID_HOP_LIMIT: return "hop limit not accepted";
	case ROCE_REJ_INVALID_RATE: return "packet rate not accepted";
	case ROCE_REJ_PORT_REDIRECT: return "redirected to another port";
	case ROCE_REJ_INVALID_MTU: return "path MTU not accepted";
	case ROCE_REJ_INSUFFICIENT_RESPONDER: return "not enough responder resources";
	case ROCE_REJ_CONSUMER: return "refused by the application";
	case ROCE_REJ_RNR_RETRY_COUNT: return "RNR retry count not accepted";
	case ROCE_REJ_DUPLICATE_COMM_ID: return "communication id in use";
	case ROCE_REJ_CLASS_VERSION: return "class version not supported";
	case ROCE_REJ_INVALID_FLOW_LABEL: return "flow label not accepted";
	case ROCE_REJ_VENDOR_OPTION: return "vendor option not supported";
	}
	return "another reason";
}

static void cma_get_addr(u8 *addr, const u8 *p, u8 ip_version)
{
	memcpy(addr, p, 16);
	if (ip_version == 4) {
		memset(addr, 0, 10);
		addr[10] = addr[11] = 0xff;
	}
}

int roce_cma_decode(struct roce_cma *out, const u8 *priv, u32 len)
{
	if (len < ROCE_CMA_LEN)
		return -EMSGSIZE;
	if (bits(priv[0], 4, 4))
		return -EPROTONOSUPPORT;
	if (priv[1] >> 4 != 4 && priv[1] >> 4 != 6)
		return -EBADMSG;
	out->minor = bits(priv[0], 0, 4);
	out->ip_version = bits(priv[1], 4, 4);
	out->port = roce_get16(priv + 2);
	cma_get_addr(out->src, priv + 4, out->ip_version);
	cma_get_addr(out->dst, priv + 20, out->ip_version);
	return 0;
}

void roce_cma_encode(u8 *priv, const struct roce_cma *cma)
{
	priv[0] = in_bits(cma->minor, 0, 4);
	priv[1] = in_bits(cma->ip_version, 4, 4);
	roce_put16(priv + 2, cma->port);
	memcpy(priv + 4, cma->src, 16);
	memcpy(priv + 20, cma->dst, 16);
	if (cma->ip_version == 4) {
		memset(priv + 4, 0, 12);
		memset(priv + 20, 0, 12);
	}
}
