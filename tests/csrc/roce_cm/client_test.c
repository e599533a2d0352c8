/* SPDX-License-Identifier: BSD-2-Clause */
/* Connecting: what goes out, what comes of each answer, and of none. The peer is played by hand. */
#include "bench.h"
#include "tap.h"

#define PEER 2
#define PEER_ID 0x5eed0001u
#define PEER_QPN 0x77u

static struct roce_dev dev;
static struct roce_qp *qp;
static struct roce_cm_id *id;
static struct roce_cm_req req; /* as sent by start() */
static u64 req_tid;

static int connect_with(const struct rackwire_roce_conn_param *param, u16 mtu)
{
	struct roce_path path;
	u8 peer[16];

	addr4(peer, PEER);
	path_to(&path, dev.addr, peer);
	path.mtu = mtu;
	return roce_cm_connect(&dev, dev.now, &path, 33333, 7174, qp, param, &dev, &id);
}

static bool sent_req(void)
{
	struct roce_cm *m = take(&dev);

	if (!m || m->type != ROCE_CM_REQ || take(&dev))
		return false;
	req = m->u.req;
	req_tid = m->tid;
	return true;
}

static bool start(void)
{
	dev_open(&dev, 1, 7);
	qp = qp_new(&dev);
	return !connect_with(&plain, 0) && sent_req();
}

/* Nothing of it may be left, whatever became of it. */
static bool over(void)
{
	roce_cm_destroy(id, dev.now);
	qp_free(qp);
	run_to(&dev, dev.now + 300 * SEC);
	if (dev.cm) {
		struct roce_info info;

		roce_cm_info(dev.cm, &info);
		if (info.cm_ids || info.half_open || info.timewait || info.listeners || event(&dev))
			return false;
	}
	return dev_close(&dev);
}

static void make_rep(struct roce_cm *m)
{
	memset(m, 0, sizeof(*m));
	m->type = ROCE_CM_REP;
	m->tid = req_tid;
	m->u.rep.local_comm_id = PEER_ID;
	m->u.rep.remote_comm_id = req.local_comm_id;
	m->u.rep.local_qpn = PEER_QPN;
	m->u.rep.starting_psn = 0xabcdef;
	m->u.rep.responder_resources = 1;
	m->u.rep.initiator_depth = 3;
	m->u.rep.target_ack_delay = 15;
	m->u.rep.rnr_retry = 4;
	m->u.rep.local_ca_guid = 0x505400fffe000002;
	m->priv = (const u8 *)"welcome";
	m->priv_len = 7;
}

static bool establish(void)
{
	struct roce_cm rep, *m;
	struct roce_event *ev;

	if (!start())
		return false;
	make_rep(&rep);
	give(&dev, PEER, &rep);
	ev = event(&dev);
	if (!ev || ev->cm != RACKWIRE_ROCE_CM_ESTABLISHED)
		return false;
	m = take(&dev);
	return m && m->type == ROCE_CM_RTU && !take(&dev);
}

static void make_answer(struct roce_cm *m, u16 type)
{
	memset(m, 0, sizeof(*m));
	m->type = type;
	m->tid = req_tid;
	m->u.rej.local_comm_id = PEER_ID;
	m->u.rej.remote_comm_id = req.local_comm_id;
}

static void connect__says_in_its_REQ_what_was_asked(void)
{
	struct rackwire_roce_conn_param p = plain;
	struct roce_cma cma;
	struct roce_cm *m;

	dev_open(&dev, 1, 7);
	qp = qp_new(&dev);
	p.private_data = "0123456789";
	p.private_data_len = 10;
	p.tos = 0x2f;
	TAP_CHECK(!connect_with(&p, 0));
	m = take(&dev);
	TAP_CHECK(m && m->type == ROCE_CM_REQ);
	TAP_CHECK(m->u.req.local_comm_id >= 0xa0000000 && m->u.req.local_comm_id < 0xb0000000);
	TAP_CHECK(m->u.req.service_id == 0x0000000001061c06);
	TAP_CHECK(m->u.req.local_qpn == qp->num && m->u.req.transport_type == 0);
	TAP_CHECK(m->u.req.responder_resources == 4 && m->u.req.initiator_depth == 2);
	TAP_CHECK(m->u.req.retry_count == 7 && m->u.req.rnr_retry == 6 && m->u.req.max_cm_retries == 7);
	/* At least twice 250 ms: 4.096 us << 17 is 537 ms. */
	TAP_CHECK(m->u.req.remote_response_timeout == 17 && m->u.req.local_response_timeout == 17);
	TAP_CHECK(m->u.req.pkey == 0xffff && m->u.req.mtu == 3 && !m->u.req.flow_control && !m->u.req.srq);
	TAP_CHECK(m->u.req.primary.local_lid == 0xffff && m->u.req.primary.remote_lid == 0xffff);
	TAP_CHECK(!memcmp(m->u.req.primary.local_gid, dev.addr, 16) && m->u.req.primary.remote_gid[15] == PEER);
	TAP_CHECK(m->u.req.primary.traffic_class == 0x2c && taken_path.tos == 0x2c);
	TAP_CHECK(m->u.req.primary.hop_limit == 64 && m->u.req.primary.ack_timeout == 14 && !m->u.req.alternate.local_lid);
	TAP_CHECK(!roce_cma_decode(&cma, m->priv, m->priv_len));
	TAP_CHECK(cma.ip_version == 4 && cma.port == 33333 && !memcmp(cma.src, dev.addr, 16) && cma.dst[15] == PEER);
	TAP_CHECK(!memcmp(m->priv + ROCE_CMA_LEN, "0123456789\0\0", 12));
	TAP_CHECK(over());
}

static void connect__refuses_what_cannot_be(void)
{
	struct rackwire_roce_conn_param p = plain;

	dev_open(&dev, 1, 7);
	qp = qp_new(&dev);
	p.private_data = "x";
	p.private_data_len = 57;
	TAP_CHECK(connect_with(&p, 0) == -EINVAL);
	p = plain;
	p.private_data_len = 1;
	TAP_CHECK(connect_with(&p, 0) == -EINVAL);
	p = plain;
	p.initiator_depth = 17;
	TAP_CHECK(connect_with(&p, 0) == -EINVAL);
	p = plain;
	p.retry_count = 8;
	TAP_CHECK(connect_with(&p, 0) == -EINVAL);
	TAP_CHECK(connect_with(NULL, 0) == -EINVAL);
	TAP_CHECK(connect_with(&plain, 255) == -EINVAL);
	qp->state = RACKWIRE_ROCE_QP_ERR;
	TAP_CHECK(connect_with(&plain, 0) == -EINVAL);
	qp->state = RACKWIRE_ROCE_QP_INIT;
	TAP_CHECK(!connect_with(&plain, 0));
	TAP_CHECK(connect_with(&plain, 0) == -EINVAL); /* it is on its way already */
	TAP_CHECK(over());
}

static void connect__survives_every_want_of_memory(void)
{
	u64 before;

	dev_open(&dev, 1, 7);
	qp = qp_new(&dev);
	before = dev.allocs;
	for (u32 i = 1; i <= 2; i++) {
		dev.fail_in = i;
		TAP_CHECK(connect_with(&plain, 0) == -ENOMEM);
		TAP_CHECK(dev.allocs == before && !qp->cm);
	}
	TAP_CHECK(!connect_with(&plain, 0));
	TAP_CHECK(over());
}

static void rep__connects_the_queue_pair_and_is_confirmed(void)
{
	struct roce_cm rep, *m;
	struct roce_event *ev;
	u16 local, peer;

	TAP_CHECK(start());
	make_rep(&rep);
	give(&dev, PEER, &rep);
	TAP_CHECK(qp->connects == 1 && qp->link.dest_qpn == PEER_QPN);
	/* Each side's Starting PSN is what the peer must use first. */
	TAP_CHECK(qp->link.sq_psn == 0xabcdef && qp->link.rq_psn == req.starting_psn);
	TAP_CHECK(qp->link.mtu == 1024);
	/* Ours in flight: at most what the peer answers; and the other way round. */
	TAP_CHECK(qp->link.max_rd_atomic == 1 && qp->link.max_dest_rd_atomic == 3);
	TAP_CHECK(qp->link.retry_count == 7 && qp->link.rnr_retry_count == 4);
	TAP_CHECK(qp->link.min_rnr_timer == 12 && qp->link.ack_timeout == 14);
	m = take(&dev);
	TAP_CHECK(m && m->type == ROCE_CM_RTU && m->tid == req_tid);
	TAP_CHECK(m->u.rtu.local_comm_id == req.local_comm_id && m->u.rtu.remote_comm_id == PEER_ID);
	ev = event(&dev);
	TAP_CHECK(ev && ev->kind == ROCE_EV_CM && ev->cm == RACKWIRE_ROCE_CM_ESTABLISHED && ev->id == id && ev->qp == qp);
	TAP_CHECK(ev->private_data_len == ROCE_CM_REP_PRIV && !memcmp(ev->private_data, "welcome\0", 8));
	TAP_CHECK(ev->responder_resources == 3 && ev->initiator_depth == 1);
	roce_cm_ports(id, &local, &peer);
	TAP_CHECK(local == 33333 && peer == 7174 && roce_cm_user(id) == &dev);
	TAP_CHECK(dev.stats.connections_opened == 1);
	/* Nothing more is sent by itself. */
	TAP_CHECK(roce_cm_deadline(dev.cm) == ROCE_NEVER);
	TAP_CHECK(over());
}

static void rep__again_means_the_RTU_was_lost(void)
{
	struct roce_cm rep, *m;
	u8 first[ROCE_MAD_LEN];

	TAP_CHECK(establish());
	memcpy(first, taken, sizeof(first));
	make_rep(&rep);
	give(&dev, PEER, &rep);
	m = take(&dev);
	TAP_CHECK(m && !memcmp(first, taken, sizeof(first)) && !take(&dev));
	TAP_CHECK(!event(&dev) && qp->connects == 1);
	TAP_CHECK(dev.stats.mads_duplicate == 1 && dev.stats.mads_rtx == 1 && !dev.stats.mads_bad);
	TAP_CHECK(over());
}

static void rep__forged_changes_nothing(void)
{
	struct roce_cm rep;
	struct roce_path path;
	u8 mad[ROCE_MAD_LEN];

	TAP_CHECK(start());
	make_rep(&rep);
	give(&dev, 3, &rep); /* from another address */
	rep.u.rep.local_qpn = 1;
	give(&dev, PEER, &rep);
	rep.u.rep.local_qpn = PEER_QPN;
	rep.u.rep.local_comm_id = 0;
	give(&dev, PEER, &rep);
	make_rep(&rep);
	path_to(&path, dev.addr, dev.addr);
	addr4(path.peer, PEER);
	roce_cm_encode(mad, &rep);
	roce_cm_rx(dev.cm, dev.now, mad, &path, 2); /* not from QP 1 */
	mad[1] = 3;				    /* not of the CM's class */
	roce_cm_rx(dev.cm, dev.now, mad, &path, 1);
	TAP_CHECK(dev.stats.mads_bad == 5 && dev.stats.mads_rx == 5);
	TAP_CHECK(!event(&dev) && !take(&dev) && !qp->connects);
	give(&dev, PEER, &rep);
	TAP_CHECK(qp->connects == 1);
	TAP_CHECK(over());
}

static void rep__for_a_connection_given_up_is_rejected(void)
{
	struct roce_cm rep, *m;

	TAP_CHECK(start());
	make_rep(&rep);
	roce_cm_destroy(id, dev.now);
	m = take(&dev);
	TAP_CHECK(m && m->type == ROCE_CM_REJ && m->u.rej.reason == ROCE_REJ_TIMEOUT && m->u.rej.ari_len == 8);
	TAP_CHECK(roce_get64(m->u.rej.ari) == req.local_ca_guid && m->u.rej.local_comm_id == req.local_comm_id);
	give(&dev, PEER, &rep);
	m = take(&dev);
	TAP_CHECK(m && m->type == ROCE_CM_REJ && m->u.rej.remote_comm_id == PEER_ID);
	TAP_CHECK(m->u.rej.message == ROCE_CM_OF_REP && m->u.rej.reason == ROCE_REJ_INVALID_COMM_ID);
	/* One of another process on this address is none of our business. */
	rep.u.rep.remote_comm_id = 0xb0000000;
	give(&dev, PEER, &rep);
	TAP_CHECK(!take(&dev) && !event(&dev));
	TAP_CHECK(!qp->cm);
	qp_free(qp);
	TAP_CHECK(dev_close(&dev));
}

static void rep__that_the_queue_pair_cannot_follow_is_rejected(void)
{
	struct roce_cm rep, *m;
	struct roce_event *ev;

	TAP_CHECK(start());
	qp->refuse = -EINVAL;
	make_rep(&rep);
	give(&dev, PEER, &rep);
	m = take(&dev);
	TAP_CHECK(m && m->type == ROCE_CM_REJ && m->u.rej.message == ROCE_CM_OF_REP && m->u.rej.reason == ROCE_REJ_NO_QP);
	TAP_CHECK(m->u.rej.remote_comm_id == PEER_ID);
	ev = event(&dev);
	TAP_CHECK(ev && ev->cm == RACKWIRE_ROCE_CM_UNREACHABLE && ev->error == -EINVAL && !qp->cm);
	TAP_CHECK(over());
}

static void silence__is_asked_into_with_growing_pauses(void)
{
	u64 expect[] = { 250, 750, 1750, 3750, 7750, 11750, 15750 };
	u8 first[ROCE_MAD_LEN];
	struct roce_event *ev;
	struct roce_cm *m;

	TAP_CHECK(start());
	memcpy(first, taken, sizeof(first));
	for (u32 i = 0; i < 7; i++) {
		run_to(&dev, expect[i] * MSEC - 1);
		TAP_CHECK(!take(&dev));
		run_to(&dev, expect[i] * MSEC);
		TAP_CHECK(take(&dev) && !memcmp(first, taken, sizeof(first)) && !take(&dev));
	}
	TAP_CHECK(dev.stats.mads_rtx == 7);
	run_to(&dev, 19750 * MSEC);
	ev = event(&dev);
	TAP_CHECK(ev && ev->cm == RACKWIRE_ROCE_CM_UNREACHABLE && ev->error == -ETIMEDOUT);
	m = take(&dev);
	TAP_CHECK(m && m->type == ROCE_CM_REJ && m->u.rej.reason == ROCE_REJ_TIMEOUT && !m->u.rej.remote_comm_id);
	TAP_CHECK(roce_cm_deadline(dev.cm) == ROCE_NEVER && !qp->cm && !roce_cm_qp(id));
	TAP_CHECK(over());
}

static void mra__gives_the_peer_more_time(void)
{
	struct roce_cm mra;

	TAP_CHECK(start());
	make_answer(&mra, ROCE_CM_MRA);
	mra.u.mra.message = ROCE_CM_OF_REQ;
	mra.u.mra.service_timeout = 20; /* 4.3 s */
	give(&dev, PEER, &mra);
	TAP_CHECK(roce_cm_deadline(dev.cm) == (4096ull << 20) + 250 * MSEC);
	run_to(&dev, roce_cm_deadline(dev.cm));
	TAP_CHECK(take(&dev)); /* silent all the same: it goes on */
	TAP_CHECK(roce_cm_deadline(dev.cm) == dev.now + 500 * MSEC);
	/* Not for hours, and not for ever. */
	mra.u.mra.service_timeout = 31;
	give(&dev, PEER, &mra);
	TAP_CHECK(roce_cm_deadline(dev.cm) == dev.now + (4096ull << 25) + 250 * MSEC);
	for (u32 i = 0; i < 30; i++)
		give(&dev, PEER, &mra);
	run_to(&dev, 3600 * SEC);
	TAP_CHECK(event(&dev)->cm == RACKWIRE_ROCE_CM_UNREACHABLE);
	TAP_CHECK(dev.stats.mads_duplicate == 24);
	while (take(&dev))
		;
	give(&dev, PEER, &mra);
	TAP_CHECK(dev.stats.mads_bad == 1);
	TAP_CHECK(over());
}

static void rej__reaches_the_application_with_its_reason_and_words(void)
{
	static const u16 reasons[] = { ROCE_REJ_INVALID_SERVICE_ID, ROCE_REJ_CONSUMER, ROCE_REJ_STALE_CONN,
				       ROCE_REJ_NO_RESOURCES, ROCE_REJ_INVALID_MTU, ROCE_REJ_TIMEOUT, 999 };
	struct roce_event *ev;
	struct roce_cm rej;

	for (u32 i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
		TAP_CHECK(start());
		make_answer(&rej, ROCE_CM_REJ);
		rej.u.rej.local_comm_id = i & 1 ? PEER_ID : 0; /* as Linux says it without having an id */
		rej.u.rej.reason = reasons[i];
		rej.priv = (const u8 *)"no, thanks";
		rej.priv_len = 10;
		give(&dev, PEER, &rej);
		ev = event(&dev);
		TAP_CHECK(ev && ev->cm == RACKWIRE_ROCE_CM_REJECTED && ev->status == reasons[i] && !ev->error);
		TAP_CHECK(ev->private_data_len == ROCE_CM_REJ_PRIV && !memcmp(ev->private_data, "no, thanks\0", 11));
		TAP_CHECK(!take(&dev) && !qp->cm && qp->state == RACKWIRE_ROCE_QP_INIT);
		TAP_CHECK(roce_cm_disconnect(id, dev.now) == 0);
		/* The queue pair is free for another attempt. */
		roce_cm_destroy(id, dev.now);
		TAP_CHECK(!connect_with(&plain, 0) && sent_req());
		TAP_CHECK(over());
	}
}

static void rej__for_the_path_mtu_is_followed(void)
{
	struct roce_cm rej, rep;
	u32 first;

	TAP_CHECK(start());
	first = req.local_comm_id;
	make_answer(&rej, ROCE_CM_REJ);
	rej.u.rej.reason = ROCE_REJ_INVALID_MTU;
	rej.u.rej.ari = (const u8 *)"\2";
	rej.u.rej.ari_len = 1;
	give(&dev, PEER, &rej);
	TAP_CHECK(sent_req() && req.mtu == 2 && req.local_comm_id != first && req.local_qpn == qp->num);
	TAP_CHECK(!event(&dev));
	/* The same suggestion to the old name is of yesterday. */
	give(&dev, PEER, &rej);
	TAP_CHECK(dev.stats.mads_bad == 1 && !take(&dev));
	make_rep(&rep);
	give(&dev, PEER, &rep);
	TAP_CHECK(qp->link.mtu == 512 && event(&dev)->cm == RACKWIRE_ROCE_CM_ESTABLISHED);
	TAP_CHECK(over());

	/* No suggestion that helps: rejected. */
	TAP_CHECK(start());
	make_answer(&rej, ROCE_CM_REJ);
	rej.u.rej.reason = ROCE_REJ_INVALID_MTU;
	rej.u.rej.ari = (const u8 *)"\3";
	rej.u.rej.ari_len = 1;
	give(&dev, PEER, &rej);
	TAP_CHECK(event(&dev)->cm == RACKWIRE_ROCE_CM_REJECTED);
	TAP_CHECK(over());
}

static void rej__forged_changes_nothing(void)
{
	struct roce_cm rej;

	TAP_CHECK(start());
	make_answer(&rej, ROCE_CM_REJ);
	rej.u.rej.reason = ROCE_REJ_CONSUMER;
	give(&dev, 3, &rej);
	rej.u.rej.remote_comm_id ^= 1;
	give(&dev, PEER, &rej);
	rej.u.rej.remote_comm_id = 0;
	give(&dev, PEER, &rej);
	TAP_CHECK(dev.stats.mads_bad == 3 && !event(&dev));
	TAP_CHECK(over());

	TAP_CHECK(establish());
	make_answer(&rej, ROCE_CM_REJ);
	rej.u.rej.local_comm_id = 0;
	give(&dev, PEER, &rej); /* who knows one id alone cannot end a connection */
	rej.u.rej.local_comm_id = PEER_ID + 1;
	give(&dev, PEER, &rej);
	TAP_CHECK(dev.stats.mads_bad == 2 && !event(&dev));
	rej.u.rej.local_comm_id = PEER_ID;
	give(&dev, PEER, &rej);
	TAP_CHECK(event(&dev)->cm == RACKWIRE_ROCE_CM_DISCONNECTED && qp->state == RACKWIRE_ROCE_QP_ERR);
	TAP_CHECK(over());
}

static void unreachable__ends_what_is_being_established_only(void)
{
	struct roce_event *ev;
	struct roce_path path;

	TAP_CHECK(start());
	path = taken_path;
	addr4(path.peer, 9);
	roce_cm_unreachable(dev.cm, dev.now, &path, -ECONNREFUSED);
	path = taken_path;
	addr4(path.local, 9);
	roce_cm_unreachable(dev.cm, dev.now, &path, -ECONNREFUSED);
	TAP_CHECK(!event(&dev));
	roce_cm_unreachable(dev.cm, dev.now, &taken_path, -ECONNREFUSED);
	ev = event(&dev);
	TAP_CHECK(ev && ev->cm == RACKWIRE_ROCE_CM_UNREACHABLE && ev->error == -ECONNREFUSED && !take(&dev));
	TAP_CHECK(!qp->cm);
	TAP_CHECK(over());

	TAP_CHECK(establish());
	roce_cm_unreachable(dev.cm, dev.now, &taken_path, -ECONNREFUSED);
	TAP_CHECK(!event(&dev) && qp->state == RACKWIRE_ROCE_QP_RTS);
	TAP_CHECK(over());
}

static void unreachable__ends_all_to_that_address(void)
{
	struct roce_cm_id *ids[40];
	struct roce_qp *qps[40];
	struct roce_path path;
	u32 n = 0;

	dev_open(&dev, 1, 7);
	for (u32 i = 0; i < 40; i++) {
		path_to(&path, dev.addr, dev.addr);
		addr4(path.peer, i % 2 ? 2 : 3);
		qps[i] = qp_new(&dev);
		TAP_CHECK(!roce_cm_connect(&dev, 0, &path, 1, 1, qps[i], &plain, NULL, &ids[i]));
	}
	addr4(path.peer, 3);
	roce_cm_unreachable(dev.cm, 0, &path, EHOSTUNREACH);
	for (struct roce_event *ev; (ev = event(&dev)); n++)
		TAP_CHECK(ev->error == -EHOSTUNREACH && roce_cm_path(ev->id)->peer[15] == 3);
	TAP_CHECK(n == 20);
	for (u32 i = 0; i < 40; i++) {
		roce_cm_destroy(ids[i], 0);
		qp_free(qps[i]);
	}
	TAP_CHECK(dev_close(&dev));
}

static void rep__with_an_id_in_use_is_rejected_as_stale(void)
{
	struct roce_cm_id *first_id;
	struct roce_qp *first_qp;
	struct roce_cm rep, *m;
	struct roce_event *ev;

	TAP_CHECK(establish());
	first_id = id;
	first_qp = qp;
	qp = qp_new(&dev);
	TAP_CHECK(!connect_with(&plain, 0) && sent_req());
	make_rep(&rep); /* the same PEER_ID and QP again: the peer has begun anew */
	give(&dev, PEER, &rep);
	m = take(&dev);
	TAP_CHECK(m && m->type == ROCE_CM_REJ && m->u.rej.reason == ROCE_REJ_STALE_CONN);
	m = take(&dev);
	TAP_CHECK(m && m->type == ROCE_CM_DREQ && m->u.dreq.remote_qpn == PEER_QPN);
	ev = event(&dev);
	TAP_CHECK(ev && ev->id == first_id && ev->cm == RACKWIRE_ROCE_CM_DISCONNECTED && ev->error == -ECONNRESET);
	ev = event(&dev);
	TAP_CHECK(ev && ev->id == id && ev->cm == RACKWIRE_ROCE_CM_REJECTED && ev->status == ROCE_REJ_STALE_CONN);
	roce_cm_destroy(first_id, dev.now);
	qp_free(first_qp);
	TAP_CHECK(over());
}

static void ipv6__goes_into_gids_and_header(void)
{
	struct roce_path path;
	struct roce_cma cma;
	struct roce_cm *m;

	dev_open(&dev, 1, 7);
	qp = qp_new(&dev);
	addr6(path.local, 1);
	addr6(path.peer, 2);
	path_to(&path, path.local, path.peer);
	addr6(path.local, 1);
	addr6(path.peer, 2);
	path.scope = 3;
	TAP_CHECK(!roce_cm_connect(&dev, 0, &path, 1, 7174, qp, &plain, NULL, &id));
	m = take(&dev);
	TAP_CHECK(m && !memcmp(m->u.req.primary.local_gid, path.local, 16));
	TAP_CHECK(!roce_cma_decode(&cma, m->priv, m->priv_len) && cma.ip_version == 6);
	TAP_CHECK(!memcmp(cma.src, path.local, 16) && !memcmp(cma.dst, path.peer, 16) && taken_path.scope == 3);
	TAP_CHECK(over());
}

static void names__stay_in_their_range_and_run_out_cleanly(void)
{
	struct roce_cm_id *ids[21];
	struct roce_qp *qps[21];
	struct roce_path path;
	struct roce_cfg cfg;
	struct roce_cm *m;
	u32 seen = 0;

	dev_cfg(&cfg);
	cfg.comm_id_base = 0xfffffff0;
	cfg.comm_id_count = 15;
	dev_open_with(&dev, 1, 7, &cfg);
	path_to(&path, dev.addr, dev.addr);
	addr4(path.peer, PEER);
	for (u32 i = 0; i < 16; i++) {
		qps[i] = qp_new(&dev);
		TAP_CHECK(roce_cm_connect(&dev, 0, &path, 1, 1, qps[i], &plain, NULL, &ids[i]) == (i < 15 ? 0 : -ENFILE));
	}
	while ((m = take(&dev)))
		seen |= 1u << (m->u.req.local_comm_id - 0xfffffff0);
	TAP_CHECK(seen == 0x7fff);
	for (u32 i = 0; i < 16; i++) {
		if (i < 15)
			roce_cm_destroy(ids[i], 0);
		qp_free(qps[i]);
	}
	TAP_CHECK(dev_close(&dev));
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(connect__says_in_its_REQ_what_was_asked),
		TAP_TEST(connect__refuses_what_cannot_be),
		TAP_TEST(connect__survives_every_want_of_memory),
		TAP_TEST(rep__connects_the_queue_pair_and_is_confirmed),
		TAP_TEST(rep__again_means_the_RTU_was_lost),
		TAP_TEST(rep__forged_changes_nothing),
		TAP_TEST(rep__for_a_connection_given_up_is_rejected),
		TAP_TEST(rep__that_the_queue_pair_cannot_follow_is_rejected),
		TAP_TEST(silence__is_asked_into_with_growing_pauses),
		TAP_TEST(mra__gives_the_peer_more_time),
		TAP_TEST(rej__reaches_the_application_with_its_reason_and_words),
		TAP_TEST(rej__for_the_path_mtu_is_followed),
		TAP_TEST(rej__forged_changes_nothing),
		TAP_TEST(unreachable__ends_what_is_being_established_only),
		TAP_TEST(unreachable__ends_all_to_that_address),
		TAP_TEST(rep__with_an_id_in_use_is_rejected_as_stale),
		TAP_TEST(ipv6__goes_into_gids_and_header),
		TAP_TEST(names__stay_in_their_range_and_run_out_cleanly),
	};
	return TAP_RUN(tests, argc, argv);
}
