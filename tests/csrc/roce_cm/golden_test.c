/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The conversations that Linux's ib_cm and rdma_cm had in the captures
 * (tests/csrc/roce_wire/data), replayed: ours takes the place of one side, hears
 * what the other side said, and must say what that side said, field by field,
 * but for the values each side is free to choose.
 */
#include "../roce_wire/captures.h"
#include "bench.h"
#include "tap.h"

#define MAX_TALK 8

/* All messages of one connection, in order. */
struct talk {
	const struct captured *of[MAX_TALK];
	struct roce_cm m[MAX_TALK];
	u32 n;
};

static struct talk talks[32];
static u32 ntalks;
static struct roce_dev dev;
static struct roce_qp *qp;
static struct roce_cm_id *id, *listener;

/* The guests' kernels; the other host of host-userspace.pcap is none. */
static bool kernel(const u8 addr[16])
{
	return addr[15] == 2 || addr[15] == 3;
}

static void read_talks(const char *name)
{
	const struct captured *c;
	struct roce_cm m;
	u32 n;

	c = captures_read(name, &n);
	for (u32 i = 0; i < n; i++) {
		struct talk *t = NULL;
		struct roce_pkt p;

		if (roce_decode(&p, c[i].p, c[i].len - ROCE_ICRC_LEN) || p.opcode != ROCE_UD_SEND_ONLY ||
		    roce_cm_decode(&m, c[i].p + p.hdr_len, p.payload_len))
			continue;
		for (u32 k = 0; k < ntalks && !t; k++) {
			const struct roce_cm *req = &talks[k].m[0];
			u32 req_id = req->u.req.local_comm_id;

			/* The first two words of every message are ids; a REQ has one. */
			if (m.type == ROCE_CM_REQ ? m.u.req.local_comm_id == req_id :
						    m.u.rtu.local_comm_id == req_id || m.u.rtu.remote_comm_id == req_id)
				t = &talks[k];
		}
		if (!t)
			t = &talks[ntalks++];
		t->of[t->n] = &c[i];
		t->m[t->n++] = m;
	}
}

static const struct captured *find(const struct talk *t, u16 type, struct roce_cm *m)
{
	for (u32 i = 0; i < t->n; i++) {
		if (t->m[i].type == type) {
			*m = t->m[i];
			return t->of[i];
		}
	}
	return NULL;
}

/* What each side chooses for itself comes from the captured message. */
static void adopt(struct roce_cm *ours, const struct roce_cm *theirs)
{
	ours->tid = theirs->tid;
	switch (ours->type) {
	case ROCE_CM_REQ: {
		struct roce_cm_req *a = &ours->u.req;
		const struct roce_cm_req *b = &theirs->u.req;

		a->local_comm_id = b->local_comm_id;
		a->local_ca_guid = b->local_ca_guid;
		a->local_qpn = b->local_qpn;
		a->starting_psn = b->starting_psn;
		a->remote_response_timeout = b->remote_response_timeout;
		a->local_response_timeout = b->local_response_timeout;
		a->primary.flow_label = b->primary.flow_label;
		break;
	}
	case ROCE_CM_REP: {
		struct roce_cm_rep *a = &ours->u.rep;
		const struct roce_cm_rep *b = &theirs->u.rep;

		a->local_comm_id = b->local_comm_id;
		a->local_ca_guid = b->local_ca_guid;
		a->local_qpn = b->local_qpn;
		a->starting_psn = b->starting_psn;
		a->target_ack_delay = b->target_ack_delay;
		break;
	}
	case ROCE_CM_DREQ:
		ours->u.dreq.local_comm_id = theirs->u.dreq.local_comm_id;
		break;
	default:
		ours->u.rtu.local_comm_id = theirs->u.rtu.local_comm_id;
	}
}

static bool same(struct roce_cm *ours, const struct roce_cm *theirs)
{
	u8 a[ROCE_MAD_LEN], b[ROCE_MAD_LEN];

	if (!ours || ours->type != theirs->type)
		return false;
	adopt(ours, theirs);
	roce_cm_encode(a, ours);
	roce_cm_encode(b, theirs);
	for (u32 i = 0; i < ROCE_MAD_LEN; i++) {
		if (a[i] != b[i]) {
			printf("# %s differs at byte %u of its body: %02x, captured %02x\n", roce_cm_name(ours->type),
			       i - ROCE_MAD_HDR_LEN, a[i], b[i]);
			return false;
		}
	}
	return true;
}

static void open_at(const u8 addr[16])
{
	struct roce_cfg cfg;

	dev_cfg(&cfg);
	cfg.cm_retries = 15;
	dev_open_with(&dev, 1, 17, &cfg);
	memcpy(dev.addr, addr, 16);
	qp = qp_new(&dev);
}

static bool close_it(void)
{
	roce_cm_destroy(id, dev.now);
	if (listener)
		roce_cm_destroy(listener, dev.now);
	qp_free(qp);
	while (take(&dev))
		;
	run_to(&dev, dev.now + 300 * SEC);
	return dev_close(&dev);
}

/* The first request that @to received on its queue pair @qpn, by its PSN; -1: none. */
static long first_psn(const char *name, const struct captured *after, const u8 to[16], u32 qpn)
{
	const struct captured *c;
	struct roce_pkt p;
	u32 n;

	c = captures_read(name, &n);
	for (u32 i = after->number; i < n; i++)
		if (!memcmp(c[i].daddr, to, 16) && !roce_decode(&p, c[i].p, c[i].len - ROCE_ICRC_LEN) &&
		    p.dest_qpn == qpn && roce_is_request(p.opcode))
			return (long)p.psn;
	return -1;
}

/* Ours is the server that a kernel's client talked to. */
static bool serve(const char *name, const struct talk *t)
{
	const struct captured *of = t->of[0];
	struct rackwire_roce_conn_param param = { 0 };
	struct roce_cm req = t->m[0], rep, m, dreq;
	struct roce_path path;
	struct roce_event *ev;
	bool real = kernel(of->daddr);
	u32 our_id;
	u16 port;

	open_at(of->daddr);
	path_to(&path, of->daddr, of->saddr);
	if (roce_cm_listen(&dev, of->daddr, (u16)req.u.req.service_id, 0, NULL, &listener))
		return false;
	give_path(&dev, &path, &req);
	ev = event(&dev);
	if (!ev || ev->cm != RACKWIRE_ROCE_CM_CONNECT_REQUEST || take(&dev))
		return false;
	if (ev->responder_resources != req.u.req.initiator_depth || ev->initiator_depth != req.u.req.responder_resources)
		return false;
	if (memcmp(ev->private_data, req.priv + ROCE_CMA_LEN, ROCE_CMA_PRIV))
		return false;
	id = ev->id;
	/* The kernel asked again when nobody had answered. */
	for (u32 i = 1; i < t->n && t->m[i].type == ROCE_CM_REQ; i++) {
		struct roce_cm *mra;

		give_path(&dev, &path, &t->m[i]);
		mra = take(&dev);
		if (!mra || mra->type != ROCE_CM_MRA || event(&dev))
			return false;
	}
	if (!find(t, ROCE_CM_REP, &rep))
		return false;
	param.responder_resources = rep.u.rep.responder_resources;
	param.initiator_depth = rep.u.rep.initiator_depth;
	param.rnr_retry_count = rep.u.rep.rnr_retry;
	param.private_data = rep.priv;
	param.private_data_len = ROCE_CM_REP_PRIV;
	if (roce_cm_accept(id, 0, qp, &param, NULL))
		return false;
	if (qp->link.dest_qpn != req.u.req.local_qpn || qp->link.retry_count != req.u.req.retry_count ||
	    qp->link.rnr_retry_count != req.u.req.rnr_retry || qp->link.mtu != roce_mtu_bytes(req.u.req.mtu))
		return false;
	/* What we would send first is what was sent to the kernel first. */
	if (first_psn(name, of, of->saddr, req.u.req.local_qpn) != (long)qp->link.sq_psn)
		return false;
	struct roce_cm *ours = take(&dev);

	if (!ours)
		return false;
	our_id = ours->u.rep.local_comm_id;
	if (ours->u.rep.starting_psn != qp->link.rq_psn || (real && !same(ours, &rep)))
		return false;
	if (!find(t, ROCE_CM_RTU, &m))
		return false;
	m.u.rtu.remote_comm_id = our_id;
	give_path(&dev, &path, &m);
	ev = event(&dev);
	if (!ev || ev->cm != RACKWIRE_ROCE_CM_ESTABLISHED)
		return false;
	roce_cm_ports(id, &port, &port);
	if (port != roce_get16(req.priv + 2))
		return false;
	if (find(t, ROCE_CM_DREQ, &dreq) && dreq.u.dreq.local_comm_id == req.u.req.local_comm_id) {
		dreq.u.dreq.remote_comm_id = our_id;
		dreq.u.dreq.remote_qpn = qp->num;
		give_path(&dev, &path, &dreq);
		ours = take(&dev);
		if (!ours || ours->type != ROCE_CM_DREP || !find(t, ROCE_CM_DREP, &m) || (real && !same(ours, &m)))
			return false;
		ev = event(&dev);
		if (!ev || ev->cm != RACKWIRE_ROCE_CM_DISCONNECTED)
			return false;
	}
	return !dev.stats.mads_bad && close_it();
}

/* Ours is the client of a kernel's server. */
static bool call(const char *name, const struct talk *t)
{
	const struct captured *of = t->of[0];
	struct rackwire_roce_conn_param param = { 0 };
	struct roce_cm req = t->m[0], rep, m, dreq, *ours;
	struct roce_path path;
	struct roce_event *ev;
	bool real = kernel(of->saddr);
	u32 our_id;

	open_at(of->saddr);
	listener = NULL;
	path_to(&path, of->saddr, of->daddr);
	param.responder_resources = req.u.req.responder_resources;
	param.initiator_depth = req.u.req.initiator_depth;
	param.retry_count = req.u.req.retry_count;
	param.rnr_retry_count = req.u.req.rnr_retry;
	param.ack_timeout = req.u.req.primary.ack_timeout;
	param.private_data = req.priv + ROCE_CMA_LEN;
	param.private_data_len = ROCE_CMA_PRIV;
	if (roce_cm_connect(&dev, 0, &path, roce_get16(req.priv + 2), (u16)req.u.req.service_id, qp, &param, NULL, &id))
		return false;
	ours = take(&dev);
	if (!ours || ours->u.req.local_qpn != qp->num)
		return false;
	our_id = ours->u.req.local_comm_id;
	if (real && !same(ours, &req))
		return false;
	if (!find(t, ROCE_CM_REP, &rep))
		return false;
	rep.u.rep.remote_comm_id = our_id;
	give_path(&dev, &path, &rep);
	if (qp->link.dest_qpn != rep.u.rep.local_qpn || qp->link.rnr_retry_count != rep.u.rep.rnr_retry ||
	    first_psn(name, of, of->daddr, rep.u.rep.local_qpn) != (long)qp->link.sq_psn)
		return false;
	ours = take(&dev);
	if (!ours || ours->type != ROCE_CM_RTU || !find(t, ROCE_CM_RTU, &m) || (real && !same(ours, &m)))
		return false;
	ev = event(&dev);
	if (!ev || ev->cm != RACKWIRE_ROCE_CM_ESTABLISHED || memcmp(ev->private_data, rep.priv, ROCE_CM_REP_PRIV))
		return false;
	if (find(t, ROCE_CM_DREQ, &dreq)) {
		if (dreq.u.dreq.local_comm_id == req.u.req.local_comm_id) {
			if (roce_cm_disconnect(id, 0))
				return false;
			ours = take(&dev);
			if (!ours || ours->type != ROCE_CM_DREQ || (real && !same(ours, &dreq)))
				return false;
			if (!find(t, ROCE_CM_DREP, &m))
				return false;
			m.u.drep.remote_comm_id = our_id;
			give_path(&dev, &path, &m);
		} else {
			dreq.u.dreq.remote_comm_id = our_id;
			dreq.u.dreq.remote_qpn = qp->num;
			give_path(&dev, &path, &dreq);
			ours = take(&dev);
			if (!ours || ours->type != ROCE_CM_DREP || ours->tid != dreq.tid)
				return false;
		}
		ev = event(&dev);
		if (!ev || ev->cm != RACKWIRE_ROCE_CM_DISCONNECTED || ev->error)
			return false;
	}
	return !dev.stats.mads_bad && close_it();
}

static void replay(const char *name, u32 *served, u32 *called)
{
	ntalks = 0;
	memset(talks, 0, sizeof(talks));
	read_talks(name);
	*served = *called = 0;
	for (u32 i = 0; i < ntalks; i++) {
		const struct captured *of = talks[i].of[0];

		if (kernel(of->saddr)) {
			if (!serve(name, &talks[i])) {
				printf("# as the server from packet %u on\n", of->number);
				return;
			}
			++*served;
		}
		if (kernel(of->daddr)) {
			if (!call(name, &talks[i])) {
				printf("# as the client from packet %u on\n", of->number);
				return;
			}
			++*called;
		}
	}
}

static void golden__rping_between_two_guests(void)
{
	u32 served, called;

	replay(CAPTURE_RPING, &served, &called);
	TAP_CHECK(served == 2 && called == 2);
}

static void golden__rping_and_krping_with_a_peer_outside(void)
{
	u32 served, called;

	replay(CAPTURE_HOST, &served, &called);
	TAP_CHECK(served == 3 && called == 3);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(golden__rping_between_two_guests),
		TAP_TEST(golden__rping_and_krping_with_a_peer_outside),
	};
	return TAP_RUN(tests, argc, argv);
}
