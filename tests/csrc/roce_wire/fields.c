// SPDX-License-Identifier: BSD-2-Clause
#include "fields.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define LIST(array) ((struct fields){ array, COUNT(array) })
#define SIZE(type, member) sizeof(((type *)0)->member)

#define PKT(member, width, op) { #member, offsetof(struct roce_pkt, member), SIZE(struct roce_pkt, member), width, op }

static const struct field of_packet[] = {
	PKT(se, 1, 0),
	PKT(migreq, 1, 0),
	PKT(pad, 2, 0),
	PKT(pkey, 16, 0),
	PKT(fecn, 1, 0),
	PKT(becn, 1, 0),
	PKT(dest_qpn, 24, 0),
	PKT(ackreq, 1, 0),
	PKT(psn, 24, 0),
	PKT(qkey, 32, ROCE_OP_DETH),
	PKT(src_qpn, 24, ROCE_OP_DETH),
	PKT(va, 64, ROCE_OP_RETH | ROCE_OP_ATOMICETH),
	PKT(rkey, 32, ROCE_OP_RETH | ROCE_OP_ATOMICETH),
	PKT(dma_len, 32, ROCE_OP_RETH),
	PKT(swap_add, 64, ROCE_OP_ATOMICETH),
	PKT(compare, 64, ROCE_OP_ATOMICETH),
	PKT(syndrome, 8, ROCE_OP_AETH),
	PKT(msn, 24, ROCE_OP_AETH),
	PKT(orig, 64, ROCE_OP_ATOMICACKETH),
	PKT(imm, 32, ROCE_OP_IMM),
	PKT(inv_rkey, 32, ROCE_OP_IETH),
};

struct fields packet_fields(void)
{
	return LIST(of_packet);
}

#define OF(type, member, width) { #member, offsetof(type, member), (u8)SIZE(type, member), width, 0 }
#define REQ(member, width) OF(struct roce_cm_req, member, width)
#define PATH(path)                                                                          \
	REQ(path.local_lid, 16), REQ(path.remote_lid, 16), REQ(path.local_gid, 128),        \
		REQ(path.remote_gid, 128), REQ(path.flow_label, 20), REQ(path.rate, 6),     \
		REQ(path.traffic_class, 8), REQ(path.hop_limit, 8),                         \
		REQ(path.sl, 4), REQ(path.subnet_local, 1), REQ(path.ack_timeout, 5)

static const struct field of_req[] = {
	REQ(local_comm_id, 32),
	REQ(service_id, 64),
	REQ(local_ca_guid, 64),
	REQ(local_qkey, 32),
	REQ(local_qpn, 24),
	REQ(responder_resources, 8),
	REQ(local_eecn, 24),
	REQ(initiator_depth, 8),
	REQ(remote_eecn, 24),
	REQ(remote_response_timeout, 5),
	REQ(transport_type, 2),
	REQ(flow_control, 1),
	REQ(starting_psn, 24),
	REQ(local_response_timeout, 5),
	REQ(retry_count, 3),
	REQ(pkey, 16),
	REQ(mtu, 4),
	REQ(rdc_exists, 1),
	REQ(rnr_retry, 3),
	REQ(max_cm_retries, 4),
	REQ(srq, 1),
	REQ(extended_transport, 3),
	PATH(primary),
	PATH(alternate),
	REQ(sap_supported, 1),
};

static const struct field of_mra[] = {
	OF(struct roce_cm_mra, local_comm_id, 32),
	OF(struct roce_cm_mra, remote_comm_id, 32),
	OF(struct roce_cm_mra, message, 2),
	OF(struct roce_cm_mra, service_timeout, 5),
};

/* The additional information is compared apart. */
static const struct field of_rej[] = {
	OF(struct roce_cm_rej, local_comm_id, 32),
	OF(struct roce_cm_rej, remote_comm_id, 32),
	OF(struct roce_cm_rej, message, 2),
	OF(struct roce_cm_rej, reason, 16),
	OF(struct roce_cm_rej, ari_len, 7),
};

#define REP(member, width) OF(struct roce_cm_rep, member, width)
static const struct field of_rep[] = {
	REP(local_comm_id, 32),
	REP(remote_comm_id, 32),
	REP(local_qkey, 32),
	REP(local_qpn, 24),
	REP(local_eecn, 24),
	REP(starting_psn, 24),
	REP(responder_resources, 8),
	REP(initiator_depth, 8),
	REP(target_ack_delay, 5),
	REP(failover, 2),
	REP(flow_control, 1),
	REP(rnr_retry, 3),
	REP(srq, 1),
	REP(local_ca_guid, 64),
};

static const struct field of_dreq[] = {
	OF(struct roce_cm_dreq, local_comm_id, 32),
	OF(struct roce_cm_dreq, remote_comm_id, 32),
	OF(struct roce_cm_dreq, remote_qpn, 24),
};

static const struct field of_ids[] = {
	OF(struct roce_cm_ids, local_comm_id, 32),
	OF(struct roce_cm_ids, remote_comm_id, 32),
};

struct fields cm_fields(u16 type)
{
	switch (type) {
	case ROCE_CM_REQ: return LIST(of_req);
	case ROCE_CM_MRA: return LIST(of_mra);
	case ROCE_CM_REJ: return LIST(of_rej);
	case ROCE_CM_REP: return LIST(of_rep);
	case ROCE_CM_DREQ: return LIST(of_dreq);
	}
	return LIST(of_ids);
}

static const struct field of_cma[] = {
	OF(struct roce_cma, minor, 4),
	OF(struct roce_cma, port, 16),
	OF(struct roce_cma, src, 128),
	OF(struct roce_cma, dst, 128),
};

struct fields cma_fields(void)
{
	return LIST(of_cma);
}

bool field_is_of(const struct field *f, u8 opcode)
{
	return !f->op || f->op & roce_op(opcode);
}

u64 field_get(const struct field *f, const void *base)
{
	const u8 *p = (const u8 *)base + f->offset;
	u16 v16;
	u32 v32;
	u64 v64;

	switch (f->size) {
	case 1:
		return *p;
	case 2:
		memcpy(&v16, p, 2);
		return v16;
	case 4:
		memcpy(&v32, p, 4);
		return v32;
	case 8:
		memcpy(&v64, p, 8);
		return v64;
	}
	abort();
}

void field_set(const struct field *f, void *base, u64 value)
{
	u8 *p = (u8 *)base + f->offset;
	u16 v16 = (u16)value;
	u32 v32 = (u32)value;

	switch (f->size) {
	case 1:
		*p = (u8)value;
		return;
	case 2:
		memcpy(p, &v16, 2);
		return;
	case 4:
		memcpy(p, &v32, 4);
		return;
	case 8:
		memcpy(p, &value, 8);
		return;
	}
	abort();
}

static u64 some_value(struct random *r, u32 width)
{
	u64 most = ~(u64)0 >> (64 - width);

	switch (below(r, 8)) {
	case 0: return 0;
	case 1: return most;
	case 2: return (u64)1 << below(r, width);
	}
	return rnd(r) & most;
}

void fields_fill(struct random *r, struct fields fields, void *base, u8 opcode)
{
	for (const struct field *f = fields.list; f < fields.list + fields.count; f++) {
		if (f->op && !field_is_of(f, opcode))
			continue;
		if (f->size > 8)
			fill(r, (u8 *)base + f->offset, f->size);
		else
			field_set(f, base, some_value(r, f->width));
	}
}

const char *fields_difference(struct fields fields, const void *a, const void *b)
{
	for (const struct field *f = fields.list; f < fields.list + fields.count; f++)
		if (memcmp((const u8 *)a + f->offset, (const u8 *)b + f->offset, f->size))
			return f->name;
	return NULL;
}

u8 some_opcode(struct random *r)
{
	u8 opcode;

	do
		opcode = (u8)rnd(r);
	while (!roce_op(opcode));
	return opcode;
}

u32 some_packet(struct random *r, u8 opcode, struct roce_pkt *pkt, u8 *bytes)
{
	u32 payload = below(r, 4) ? below(r, 64) : 1u << below(r, 13);

	memset(pkt, 0, sizeof(*pkt));
	pkt->opcode = opcode;
	fields_fill(r, packet_fields(), pkt, opcode);
	if (!(roce_op(opcode) & ROCE_OP_PAYLOAD))
		payload = 0;
	pkt->pad = roce_pad(payload);
	pkt->payload_len = payload;
	pkt->hdr_len = roce_encode(bytes, pkt);
	fill(r, bytes + pkt->hdr_len, payload + pkt->pad);
	return pkt->hdr_len + payload + pkt->pad;
}

void some_message(struct random *r, u16 type, struct roce_cm *cm, u8 *priv)
{
	memset(cm, 0, sizeof(*cm));
	fill(r, priv, ROCE_MAD_LEN);
	cm->type = type;
	cm->status = (u16)rnd(r);
	cm->tid = rnd(r);
	fields_fill(r, cm_fields(type), &cm->u, 0);
	cm->priv = priv;
	cm->priv_len = roce_cm_priv_max(type);
	if (type == ROCE_CM_REJ) {
		cm->u.rej.ari = priv + 1;
		cm->u.rej.ari_len = (u8)below(r, ROCE_CM_REJ_ARI + 1);
	}
}

const char *message_difference(const struct roce_cm *a, const struct roce_cm *b)
{
	if (a->type != b->type)
		return "type";
	if (a->status != b->status)
		return "status";
	if (a->tid != b->tid)
		return "tid";
	if (a->priv_len != b->priv_len || memcmp(a->priv, b->priv, a->priv_len))
		return "private data";
	if (a->type == ROCE_CM_REJ && memcmp(a->u.rej.ari, b->u.rej.ari, a->u.rej.ari_len))
		return "ari";
	return fields_difference(cm_fields(a->type), &a->u, &b->u);
}
