/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libFuzzer target: the input is a script of messages, calls, failures and time for one
 * connection manager (tests/csrc/roce_cm/bench.h). Messages are raw, or made of the
 * communication ids, queue pairs and addresses that are about, so that they reach every
 * state. Bounds must hold at every step, each connection's events must come in their order,
 * and at the end nothing may be left.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../csrc/roce_cm/bench.h"

#define MAX_STEPS 3000
#define MAX_IDS 24
#define KEPT 16

enum op {
	OP_LISTEN,     /* port, backlog, any */
	OP_CONNECT,    /* peer, port, params */
	OP_ACCEPT,     /* id, params */
	OP_REJECT,     /* id, reason, length */
	OP_MRA,	       /* id */
	OP_DISCONNECT, /* id */
	OP_DESTROY,    /* id */
	OP_QP_ACTIVE,  /* id */
	OP_QP_FAIL,    /* id */
	OP_QP_FREE,    /* id */
	OP_QP_REFUSE,  /* id */
	OP_RAW,	       /* peer, length, bytes */
	OP_REQ,	       /* peer, port, comm id, qpn, change */
	OP_ANSWER,     /* type, id, peer's id, change */
	OP_REPLAY,     /* one of ours, back to us: both ends are here */
	OP_TIME,       /* log2 of ns */
	OP_UNREACHABLE,
	OP_NOMEM,
	OP_EVENTS,
	OP_TX,
	OPS
};

struct known {
	struct roce_cm_id *id;
	struct roce_qp *qp;
	u32 last;  /* event kind heard last */
	u32 local; /* its communication id, once a message showed it */
};

struct input {
	const u8 *at, *end;
};

static struct roce_dev dev;
static struct known ids[MAX_IDS];
static u32 nids;
static u8 kept[KEPT][ROCE_MAD_LEN];
static u32 nkept;

static u8 byte(struct input *in)
{
	return in->at < in->end ? *in->at++ : 0;
}

static u32 word(struct input *in)
{
	u32 v = 0;

	for (u32 i = 0; i < 4; i++)
		v = v << 8 | byte(in);
	return v;
}

static void fail(const char *what)
{
	printf("%s\n", what);
	abort();
}

static struct known *pick(struct input *in)
{
	u8 n = byte(in);

	return nids ? &ids[n % nids] : NULL;
}

static struct known *add(struct roce_cm_id *id, struct roce_qp *qp)
{
	ids[nids] = (struct known){ .id = id, .qp = qp };
	return &ids[nids++];
}

static void forget(struct known *k)
{
	if (k->qp && !k->qp->cm)
		qp_free(k->qp);
	else if (k->qp)
		fail("a queue pair still belongs to an id that is gone");
	*k = ids[--nids];
}

static void param(struct input *in, struct rackwire_roce_conn_param *p, const u8 **at)
{
	static const u8 data[200];
	u8 bits = byte(in);

	*p = plain;
	*at = data;
	p->private_data = data;
	p->private_data_len = byte(in);
	if (bits & 1)
		p->responder_resources = byte(in);
	if (bits & 2)
		p->initiator_depth = byte(in);
	if (bits & 4)
		p->ack_timeout = byte(in);
	if (bits & 8)
		p->tos = byte(in);
}

static u32 rank(u32 kind)
{
	switch (kind) {
	case 0:
		return 0;
	case RACKWIRE_ROCE_CM_CONNECT_REQUEST:
		return 1;
	case RACKWIRE_ROCE_CM_ESTABLISHED:
		return 2;
	case RACKWIRE_ROCE_CM_TIMEWAIT_EXIT:
		return 4;
	default:
		return 3;
	}
}

static void events(void)
{
	struct roce_event *ev;

	while ((ev = event(&dev))) {
		struct known *k = NULL;

		for (u32 i = 0; i < nids; i++)
			if (ids[i].id == ev->id)
				k = &ids[i];
		if (ev->private_data_len > ROCE_CM_RTU_PRIV)
			fail("private data without end");
		if (ev->cm == RACKWIRE_ROCE_CM_CONNECT_REQUEST) {
			if (k)
				fail("a request for a known id");
			if (nids == MAX_IDS) {
				roce_cm_reject(ev->id, dev.now, ROCE_REJ_NO_RESOURCES, NULL, 0);
				continue;
			}
			k = add(ev->id, NULL);
		}
		if (!k)
			fail("an event of an id that nobody knows");
		if (rank(ev->cm) <= rank(k->last))
			fail("events out of order");
		k->last = ev->cm;
	}
}

static void tx(void)
{
	struct roce_cm *m;
	u32 n = 0;

	while ((m = take(&dev))) {
		if (++n > MAX_IDS * 3 + 200)
			fail("messages without end");
		memcpy(kept[nkept++ % KEPT], taken, ROCE_MAD_LEN);
		for (u32 i = 0; i < nids && m->u.rtu.local_comm_id; i++)
			if (!memcmp(roce_cm_path(ids[i].id), &taken_path, sizeof(taken_path)) && !ids[i].local)
				ids[i].local = m->u.rtu.local_comm_id;
	}
}

static void bounds(void)
{
	struct roce_info info;

	roce_cm_info(dev.cm, &info);
	if (info.half_open > dev.cfg.max_half_open || info.cm_ids > dev.cfg.max_cm_ids ||
	    info.cm_ids + info.timewait > 2 * dev.cfg.max_cm_ids || info.listeners > info.cm_ids)
		fail("a bound is broken");
	if (dev.allocs > 2 * dev.cfg.max_cm_ids + 8)
		fail("memory beyond all bounds");
}

static void change(struct input *in, u8 *mad)
{
	for (u32 n = byte(in) % 4; n; n--) {
		u8 at = byte(in);

		mad[at] = byte(in);
	}
}

static void give_mad(u32 peer, const u8 *mad)
{
	struct roce_path path;
	u8 addr[16];

	addr4(addr, peer);
	path_to(&path, dev.addr, addr);
	roce_cm_rx(dev.cm, dev.now, mad, &path, 1);
}

static void op_connect(struct input *in)
{
	struct rackwire_roce_conn_param p;
	struct roce_path path;
	struct roce_cm_id *id;
	struct roce_qp *qp;
	const u8 *data;
	u8 peer[16];

	addr4(peer, 1 + byte(in) % 4);
	path_to(&path, dev.addr, peer);
	param(in, &p, &data);
	if (nids == MAX_IDS)
		return;
	qp = qp_new(&dev);
	if (roce_cm_connect(&dev, dev.now, &path, 1, 1 + byte(in) % 4, qp, &p, NULL, &id))
		qp_free(qp);
	else
		add(id, qp);
}

static void op_accept(struct input *in)
{
	struct rackwire_roce_conn_param p;
	struct known *k = pick(in);
	struct roce_qp *qp;
	const u8 *data;

	param(in, &p, &data);
	if (!k || k->qp)
		return;
	qp = qp_new(&dev);
	if (byte(in) & 1)
		qp->refuse = -ENOMEM;
	if (roce_cm_accept(k->id, dev.now, qp, &p, NULL))
		qp_free(qp);
	else
		k->qp = qp;
}

static void op_req(struct input *in)
{
	u32 peer = 1 + byte(in) % 4, port = byte(in) % 5, comm_id = byte(in), qpn = byte(in);
	u8 mad[ROCE_MAD_LEN];
	struct roce_cm m;

	make_req(&m, &dev, peer, (u16)port, comm_id, qpn);
	roce_cm_encode(mad, &m);
	change(in, mad);
	give_mad(peer, mad);
}

static void op_answer(struct input *in)
{
	static const u16 types[] = { ROCE_CM_MRA, ROCE_CM_REJ, ROCE_CM_REP, ROCE_CM_RTU, ROCE_CM_DREQ, ROCE_CM_DREP };
	struct roce_cm m = { .type = types[byte(in) % 6] };
	struct known *k = pick(in);
	u32 peer = k ? roce_cm_path(k->id)->peer[15] : 2;
	u8 mad[ROCE_MAD_LEN];

	m.u.rtu.local_comm_id = byte(in);
	m.u.rtu.remote_comm_id = k ? k->local : word(in);
	switch (m.type) {
	case ROCE_CM_MRA:
		m.u.mra.message = byte(in) & 3;
		m.u.mra.service_timeout = byte(in) & 31;
		break;
	case ROCE_CM_REJ:
		m.u.rej.reason = byte(in);
		break;
	case ROCE_CM_REP:
		m.u.rep.local_qpn = byte(in);
		m.u.rep.local_ca_guid = 0x505400fffe000000ull + peer;
		break;
	case ROCE_CM_DREQ:
		m.u.dreq.remote_qpn = k && k->qp ? k->qp->num : 5;
		break;
	}
	roce_cm_encode(mad, &m);
	change(in, mad);
	give_mad(peer, mad);
}

static void op_raw(struct input *in)
{
	u8 mad[ROCE_MAD_LEN] = { 0 };
	u32 peer = 1 + byte(in) % 4;

	for (u32 i = 0, n = byte(in); i < n; i++)
		mad[i] = byte(in);
	give_mad(peer, mad);
}

static void op_listen(struct input *in)
{
	static const u8 any[16];
	u16 port = byte(in) % 5;
	u32 backlog = byte(in) % 4;
	struct roce_cm_id *id;

	if (nids < MAX_IDS && !roce_cm_listen(&dev, byte(in) & 1 ? any : dev.addr, port, backlog, NULL, &id))
		add(id, NULL);
}

static void free_qp(struct known *k)
{
	struct roce_qp *qp = k->qp;

	k->qp = NULL;
	qp_free(qp);
}

static void on_id(enum op op, struct input *in)
{
	struct known *k = pick(in);

	if (!k)
		return;
	switch (op) {
	case OP_REJECT:
		if (!roce_cm_reject(k->id, dev.now, byte(in), ids, byte(in)))
			forget(k);
		break;
	case OP_MRA:
		roce_cm_mra(k->id, dev.now);
		break;
	case OP_DISCONNECT:
		roce_cm_disconnect(k->id, dev.now);
		break;
	case OP_DESTROY:
		roce_cm_destroy(k->id, dev.now);
		forget(k);
		break;
	case OP_QP_ACTIVE:
		if (k->qp && k->qp->cm)
			roce_cm_qp_active(k->id, dev.now);
		break;
	case OP_QP_FAIL:
		if (k->qp && k->qp->cm && k->qp->state == RACKWIRE_ROCE_QP_RTS) {
			k->qp->state = RACKWIRE_ROCE_QP_ERR;
			roce_cm_qp_failed(k->id, dev.now, -EIO);
		}
		break;
	case OP_QP_FREE:
		if (k->qp)
			free_qp(k);
		break;
	default: /* OP_QP_REFUSE */
		if (k->qp)
			k->qp->refuse = -EINVAL;
	}
}

static void step(struct input *in)
{
	enum op op = byte(in) % OPS;
	struct roce_path path;
	u8 peer[16];

	switch (op) {
	case OP_LISTEN:
		op_listen(in);
		break;
	case OP_CONNECT:
		op_connect(in);
		break;
	case OP_ACCEPT:
		op_accept(in);
		break;
	case OP_RAW:
		op_raw(in);
		break;
	case OP_REQ:
		op_req(in);
		break;
	case OP_ANSWER:
		op_answer(in);
		break;
	case OP_REPLAY:
		give_mad(1 + byte(in) % 4, kept[byte(in) % KEPT]);
		break;
	case OP_TIME:
		run_to(&dev, dev.now + (1ull << byte(in) % 38));
		break;
	case OP_UNREACHABLE:
		addr4(peer, 1 + byte(in) % 4);
		path_to(&path, dev.addr, peer);
		roce_cm_unreachable(dev.cm, dev.now, &path, -ECONNREFUSED);
		break;
	case OP_NOMEM:
		dev.fail_in = byte(in) % 4;
		break;
	case OP_EVENTS:
		events();
		break;
	case OP_TX:
		tx();
		break;
	default:
		on_id(op, in);
	}
	bounds();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, data + size };
	struct roce_info info;
	struct roce_cfg cfg;

	nids = nkept = 0;
	memset(kept, 0, sizeof(kept));
	dev_cfg(&cfg);
	cfg.max_cm_ids = 4 + byte(&in) % 32;
	cfg.max_half_open = 1 + byte(&in) % 8;
	/* So few that the script's small numbers meet them, and a peer that is ourselves among others. */
	cfg.comm_id_base = 1;
	cfg.comm_id_count = 48;
	dev_open_with(&dev, 1, 3, &cfg);
	for (u32 i = 0; i < MAX_STEPS && in.at < in.end; i++)
		step(&in);
	dev.fail_in = 0;
	events();
	while (nids) {
		roce_cm_destroy(ids[nids - 1].id, dev.now);
		forget(&ids[nids - 1]);
	}
	tx();
	run_to(&dev, dev.now + 1000 * SEC);
	roce_cm_info(dev.cm, &info);
	if (info.cm_ids || info.half_open || info.timewait || info.listeners || event(&dev))
		fail("something is left");
	if (!dev_close(&dev))
		fail("memory is left");
	return 0;
}
