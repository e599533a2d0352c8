/* SPDX-License-Identifier: BSD-2-Clause */
/* Listening: requests good, bad, repeated, stale and too many. The peers are played by hand. */
#include "bench.h"
#include "tap.h"

#define PORT 7174
#define PEER 2
#define PEER_ID 0x5eed0001u
#define PEER_QPN 0x77u

static struct roce_dev dev;
static struct roce_cm_id *listener, *id;
static struct roce_qp *qp;

static bool open_listening(u32 backlog)
{
	static const u8 any[16];

	dev_open(&dev, 1, 11);
	qp = NULL;
	id = NULL;
	return !roce_cm_listen(&dev, any, PORT, backlog, NULL, &listener);
}

static bool request(u32 peer, u32 comm_id, u32 qpn)
{
	struct roce_event *ev;
	struct roce_cm req;

	make_req(&req, &dev, peer, PORT, comm_id, qpn);
	give(&dev, peer, &req);
	ev = event(&dev);
	if (!ev || ev->cm != RACKWIRE_ROCE_CM_CONNECT_REQUEST)
		return false;
	id = ev->id;
	return true;
}

static bool accept_it(void)
{
	qp = qp_new(&dev);
	return !roce_cm_accept(id, dev.now, qp, &plain, &dev);
}

static void make_answer(struct roce_cm *m, u16 type)
{
	memset(m, 0, sizeof(*m));
	m->type = type;
	m->u.rtu.local_comm_id = PEER_ID;
	m->u.rtu.remote_comm_id = roce_get32(taken + ROCE_MAD_HDR_LEN);
}

static bool establish(void)
{
	struct roce_event *ev;
	struct roce_cm rtu, *m;

	if (!open_listening(0) || !request(PEER, PEER_ID, PEER_QPN) || !accept_it())
		return false;
	m = take(&dev);
	if (!m || m->type != ROCE_CM_REP)
		return false;
	make_answer(&rtu, ROCE_CM_RTU);
	give(&dev, PEER, &rtu);
	ev = event(&dev);
	return ev && ev->cm == RACKWIRE_ROCE_CM_ESTABLISHED && !take(&dev);
}

static bool over(void)
{
	struct roce_info info;

	if (id)
		roce_cm_destroy(id, dev.now);
	if (qp)
		qp_free(qp);
	if (listener)
		roce_cm_destroy(listener, dev.now);
	run_to(&dev, dev.now + 300 * SEC);
	roce_cm_info(dev.cm, &info);
	if (info.cm_ids || info.half_open || info.timewait || info.listeners || event(&dev))
		return false;
	return dev_close(&dev);
}

/* The next message is a REJ of @comm_id's REQ for @reason. */
static bool rejected(u32 comm_id, u16 reason)
{
	struct roce_cm *m = take(&dev);

	return m && m->type == ROCE_CM_REJ && m->u.rej.message == ROCE_CM_OF_REQ && m->u.rej.reason == reason &&
	       m->u.rej.remote_comm_id == comm_id && !take(&dev) && !event(&dev);
}

static void req__becomes_an_event_and_the_answer_a_REP(void)
{
	struct rackwire_roce_conn_param p = plain;
	struct roce_event *ev;
	struct roce_cm req, rtu, *m;
	struct roce_info info;
	u16 local, peer;

	TAP_CHECK(open_listening(0));
	make_req(&req, &dev, PEER, PORT, PEER_ID, PEER_QPN);
	req.u.req.primary.traffic_class = 0x2f;
	give(&dev, PEER, &req);
	TAP_CHECK(!take(&dev));
	roce_cm_info(dev.cm, &info);
	TAP_CHECK(info.half_open == 1 && info.cm_ids == 2 && info.listeners == 1);
	ev = event(&dev);
	TAP_CHECK(ev && ev->cm == RACKWIRE_ROCE_CM_CONNECT_REQUEST && ev->listener == listener && ev->id != listener);
	/* What the peer starts is what we have to answer, and the other way round. */
	TAP_CHECK(ev->responder_resources == 5 && ev->initiator_depth == 3);
	TAP_CHECK(ev->private_data_len == 56 && !memcmp(ev->private_data, "hello\0", 6));
	id = ev->id;
	roce_cm_ports(id, &local, &peer);
	TAP_CHECK(local == PORT && peer == 40000);
	TAP_CHECK(roce_cm_path(id)->peer[15] == PEER && !memcmp(roce_cm_path(id)->local, dev.addr, 16));

	qp = qp_new(&dev);
	p.private_data = "welcome";
	p.private_data_len = 7;
	TAP_CHECK(!roce_cm_accept(id, dev.now, qp, &p, &dev) && roce_cm_user(id) == &dev && roce_cm_qp(id) == qp);
	TAP_CHECK(qp->connects == 1 && qp->link.dest_qpn == PEER_QPN && qp->link.sq_psn == 0x123456);
	TAP_CHECK(qp->link.mtu == 1024 && qp->link.max_rd_atomic == 2 && qp->link.max_dest_rd_atomic == 4);
	TAP_CHECK(qp->link.retry_count == 6 && qp->link.rnr_retry_count == 5 && qp->link.min_rnr_timer == 12);
	TAP_CHECK(qp->link.ack_timeout == 14 && qp->link.path.tos == 0x2c);
	m = take(&dev);
	TAP_CHECK(m && m->type == ROCE_CM_REP && m->tid == (0x200000000ull | PEER_ID));
	TAP_CHECK(m->u.rep.remote_comm_id == PEER_ID && m->u.rep.local_qpn == qp->num);
	TAP_CHECK(m->u.rep.starting_psn == qp->link.rq_psn && m->u.rep.rnr_retry == 6);
	TAP_CHECK(m->u.rep.responder_resources == 4 && m->u.rep.initiator_depth == 2 && !m->u.rep.failover);
	TAP_CHECK(!memcmp(m->priv, "welcome\0", 8) && taken_path.tos == 0x2c);
	TAP_CHECK(!event(&dev));
	make_answer(&rtu, ROCE_CM_RTU);
	give(&dev, PEER, &rtu);
	ev = event(&dev);
	TAP_CHECK(ev && ev->cm == RACKWIRE_ROCE_CM_ESTABLISHED && ev->id == id && !ev->private_data_len);
	TAP_CHECK(dev.stats.connections_accepted == 1 && roce_cm_deadline(dev.cm) == ROCE_NEVER);
	roce_cm_info(dev.cm, &info);
	TAP_CHECK(!info.half_open);
	TAP_CHECK(over());
}

static void accept__takes_what_the_peer_says_where_it_says_nothing(void)
{
	static const struct { u8 req, param, link; } timeouts[] = {
		{ 19, 0, 19 }, { 19, 14, 14 }, { 0, 0, 18 }, { 1, 0, 8 }, { 31, 0, 22 }, { 31, 30, 30 },
	};
	struct rackwire_roce_conn_param p;
	struct roce_cm req, *m;

	for (u32 i = 0; i < sizeof(timeouts) / sizeof(timeouts[0]); i++) {
		TAP_CHECK(open_listening(0));
		make_req(&req, &dev, PEER, PORT, PEER_ID, PEER_QPN);
		req.u.req.primary.ack_timeout = timeouts[i].req;
		req.u.req.mtu = i % 3 + 1;
		req.u.req.alternate.local_lid = i & 1;
		give(&dev, PEER, &req);
		id = event(&dev)->id;
		qp = qp_new(&dev);
		p = plain;
		p.ack_timeout = timeouts[i].param;
		p.responder_resources = p.initiator_depth = 16;
		TAP_CHECK(!roce_cm_accept(id, 0, qp, &p, NULL));
		TAP_CHECK(qp->link.ack_timeout == timeouts[i].link && qp->link.mtu == 256u << i % 3);
		TAP_CHECK(qp->link.max_rd_atomic == 3 && qp->link.max_dest_rd_atomic == 5);
		m = take(&dev);
		TAP_CHECK(m->u.rep.failover == (i & 1)); /* alternate paths are declined */
		TAP_CHECK(over());
	}
}

static void accept__refuses_what_cannot_be(void)
{
	struct rackwire_roce_conn_param p = plain;
	struct roce_cm rej;

	TAP_CHECK(open_listening(0) && request(PEER, PEER_ID, PEER_QPN));
	qp = qp_new(&dev);
	TAP_CHECK(roce_cm_accept(listener, 0, qp, &plain, NULL) == -EINVAL);
	TAP_CHECK(roce_cm_accept(id, 0, NULL, &plain, NULL) == -EINVAL);
	TAP_CHECK(roce_cm_accept(id, 0, qp, NULL, NULL) == -EINVAL);
	p.private_data = taken;
	p.private_data_len = 197;
	TAP_CHECK(roce_cm_accept(id, 0, qp, &p, NULL) == -EINVAL);
	qp->refuse = -ENOMEM;
	TAP_CHECK(roce_cm_accept(id, 0, qp, &plain, NULL) == -ENOMEM);
	qp->refuse = 0;
	TAP_CHECK(roce_cm_disconnect(id, 0) == -ENOTCONN);
	/* The peer gives up, without knowing our id. */
	memset(&rej, 0, sizeof(rej));
	rej.type = ROCE_CM_REJ;
	rej.u.rej.local_comm_id = PEER_ID;
	rej.u.rej.reason = ROCE_REJ_TIMEOUT;
	rej.u.rej.ari = (const u8 *)"\x50\x54\0\xff\xfe\0\0\3";
	rej.u.rej.ari_len = 8;
	give(&dev, PEER, &rej); /* not its GUID */
	TAP_CHECK(dev.stats.mads_bad == 1 && !event(&dev));
	rej.u.rej.ari = (const u8 *)"\x50\x54\0\xff\xfe\0\0\2";
	give(&dev, PEER, &rej);
	TAP_CHECK(event(&dev)->cm == RACKWIRE_ROCE_CM_REJECTED);
	TAP_CHECK(roce_cm_accept(id, 0, qp, &plain, NULL) == -ENOTCONN);
	TAP_CHECK(roce_cm_mra(id, 0) == -ENOTCONN && !take(&dev));
	TAP_CHECK(!roce_cm_reject(id, 0, 28, NULL, 0)); /* gone all the same */
	id = NULL;
	TAP_CHECK(!take(&dev));
	TAP_CHECK(over());
}

static void req__refused_says_why(void)
{
	struct roce_cm req, *m;
	u8 priv[ROCE_CM_REQ_PRIV];

	TAP_CHECK(open_listening(0));
	make_req(&req, &dev, PEER, PORT + 1, PEER_ID, PEER_QPN);
	give(&dev, PEER, &req);
	TAP_CHECK(rejected(PEER_ID, ROCE_REJ_INVALID_SERVICE_ID));
	make_req(&req, &dev, PEER, PORT, PEER_ID, PEER_QPN);
	req.u.req.service_id += 0x10000; /* RDMA_PS_UDP .. */
	give(&dev, PEER, &req);
	TAP_CHECK(rejected(PEER_ID, ROCE_REJ_INVALID_SERVICE_ID));
	make_req(&req, &dev, PEER, PORT, PEER_ID, PEER_QPN);
	req.u.req.transport_type = 1;
	give(&dev, PEER, &req);
	TAP_CHECK(rejected(PEER_ID, ROCE_REJ_INVALID_TRANSPORT));
	/* The header names another source, or another destination; so do the GIDs. */
	for (u32 i = 0; i < 4; i++) {
		make_req(&req, &dev, PEER, PORT, PEER_ID, PEER_QPN);
		memcpy(priv, req.priv, sizeof(priv));
		priv[i == 0 ? 19 : 35] ^= i < 2;
		req.priv = priv;
		req.u.req.primary.local_gid[15] ^= i == 2;
		req.u.req.primary.remote_gid[15] ^= i == 3;
		give(&dev, PEER, &req);
		TAP_CHECK(rejected(PEER_ID, ROCE_REJ_INVALID_GID));
	}
	make_req(&req, &dev, PEER, PORT, PEER_ID, PEER_QPN);
	memcpy(priv, req.priv, sizeof(priv));
	priv[0] = 0x10; /* major version 1 */
	req.priv = priv;
	give(&dev, PEER, &req);
	TAP_CHECK(rejected(PEER_ID, ROCE_REJ_UNSUPPORTED));
	/* A path MTU above ours (1024): with the one that would do. */
	make_req(&req, &dev, PEER, PORT, PEER_ID, PEER_QPN);
	for (u8 mtu = 4; mtu < 16; mtu++) {
		req.u.req.mtu = mtu;
		give(&dev, PEER, &req);
		m = take(&dev);
		TAP_CHECK(m && m->u.rej.reason == ROCE_REJ_INVALID_MTU && m->u.rej.ari_len == 1 && m->u.rej.ari[0] == 3);
	}
	req.u.req.mtu = 0;
	give(&dev, PEER, &req);
	TAP_CHECK(rejected(PEER_ID, ROCE_REJ_INVALID_MTU));
	TAP_CHECK(dev.stats.cm_refused == 21 && !dev.stats.mads_bad);
	/* What no peer sends is not answered. */
	make_req(&req, &dev, PEER, PORT, 0, PEER_QPN);
	give(&dev, PEER, &req);
	make_req(&req, &dev, PEER, PORT, PEER_ID, 1);
	give(&dev, PEER, &req);
	TAP_CHECK(dev.stats.mads_bad == 2 && !take(&dev) && !event(&dev));
	TAP_CHECK(over());
}

static void req__for_a_narrow_path_is_refused_with_its_mtu(void)
{
	struct roce_path path;
	struct roce_cm req, *m;

	TAP_CHECK(open_listening(0));
	path_to(&path, dev.addr, dev.addr);
	addr4(path.peer, PEER);
	path.mtu = 600;
	make_req_path(&req, &path, PORT, PEER_ID, PEER_QPN);
	give_path(&dev, &path, &req);
	m = take(&dev);
	TAP_CHECK(m && m->u.rej.reason == ROCE_REJ_INVALID_MTU && m->u.rej.ari[0] == 2);
	TAP_CHECK(over());
}

static void req__again_gets_the_same_answer(void)
{
	u8 first[ROCE_MAD_LEN];
	struct roce_cm req, rtu, *m;
	struct roce_event *ev;

	TAP_CHECK(open_listening(0) && request(PEER, PEER_ID, PEER_QPN));
	make_req(&req, &dev, PEER, PORT, PEER_ID, PEER_QPN);
	/* The application is thinking. */
	give(&dev, PEER, &req);
	m = take(&dev);
	TAP_CHECK(m && m->type == ROCE_CM_MRA && m->u.mra.message == ROCE_CM_OF_REQ && m->u.mra.remote_comm_id == PEER_ID);
	TAP_CHECK(!event(&dev));
	TAP_CHECK(accept_it() && take(&dev)->type == ROCE_CM_REP);
	memcpy(first, taken, sizeof(first));
	give(&dev, PEER, &req);
	TAP_CHECK(take(&dev) && !memcmp(first, taken, sizeof(first)));
	make_answer(&rtu, ROCE_CM_RTU);
	give(&dev, PEER, &rtu);
	TAP_CHECK(event(&dev)->cm == RACKWIRE_ROCE_CM_ESTABLISHED);
	give(&dev, PEER, &req); /* a latecomer */
	TAP_CHECK(take(&dev) && !memcmp(first, taken, sizeof(first)) && qp->connects == 1 && !event(&dev));
	TAP_CHECK(dev.stats.mads_duplicate == 3 && dev.stats.mads_rtx == 2 && !dev.stats.mads_bad);
	/* When all is over, it begins nothing new. */
	TAP_CHECK(!roce_cm_disconnect(id, dev.now) && take(&dev)->type == ROCE_CM_DREQ);
	give(&dev, PEER, &req);
	TAP_CHECK(!take(&dev));
	make_answer(&rtu, ROCE_CM_DREP);
	give(&dev, PEER, &rtu);
	TAP_CHECK(event(&dev)->cm == RACKWIRE_ROCE_CM_DISCONNECTED);
	give(&dev, PEER, &req);
	TAP_CHECK(rejected(PEER_ID, ROCE_REJ_STALE_CONN));
	/* After timewait it is a request like any other; so is one of a peer that has started anew, at once. */
	req.u.req.starting_psn++;
	give(&dev, PEER, &req);
	ev = event(&dev);
	TAP_CHECK(ev && ev->cm == RACKWIRE_ROCE_CM_CONNECT_REQUEST);
	TAP_CHECK(!roce_cm_reject(ev->id, dev.now, ROCE_REJ_CONSUMER, NULL, 0));
	TAP_CHECK(over());
}

static void reject__is_said_again_to_who_asks_again(void)
{
	u8 first[ROCE_MAD_LEN];
	struct roce_cm req, *m;

	TAP_CHECK(open_listening(0) && request(PEER, PEER_ID, PEER_QPN));
	TAP_CHECK(roce_cm_reject(id, 0, 0, NULL, 0) == -EINVAL);
	TAP_CHECK(roce_cm_reject(id, 0, 28, first, 149) == -EINVAL);
	TAP_CHECK(roce_cm_reject(listener, 0, 28, NULL, 0) == -EINVAL);
	TAP_CHECK(!roce_cm_reject(id, 0, 28, "no room", 7));
	id = NULL;
	m = take(&dev);
	TAP_CHECK(m && m->type == ROCE_CM_REJ && m->u.rej.reason == ROCE_REJ_CONSUMER);
	TAP_CHECK(m->u.rej.message == ROCE_CM_OF_REQ && m->u.rej.remote_comm_id == PEER_ID);
	TAP_CHECK(m->tid == (0x200000000ull | PEER_ID) && !memcmp(m->priv, "no room\0", 8));
	memcpy(first, taken, sizeof(first));
	make_req(&req, &dev, PEER, PORT, PEER_ID, PEER_QPN);
	give(&dev, PEER, &req);
	TAP_CHECK(take(&dev) && !memcmp(first, taken, sizeof(first)) && !event(&dev));
	/* As long as it takes until the last REQ of a slow peer: Linux pauses for 6.4 s. */
	run_to(&dev, 7 * SEC);
	give(&dev, PEER, &req);
	TAP_CHECK(take(&dev) && !memcmp(first, taken, sizeof(first)) && !event(&dev));
	run_to(&dev, 15 * SEC);
	give(&dev, PEER, &req);
	TAP_CHECK(event(&dev)->cm == RACKWIRE_ROCE_CM_CONNECT_REQUEST); /* it was long ago */
	TAP_CHECK(dev.stats.mads_duplicate == 2);
	roce_cm_destroy(listener, dev.now);
	listener = NULL;
	TAP_CHECK(dev_close(&dev));
}

static void mra__is_sent_on_request(void)
{
	struct roce_cm *m;

	TAP_CHECK(open_listening(0) && request(PEER, PEER_ID, PEER_QPN));
	TAP_CHECK(!roce_cm_mra(id, 0) && roce_cm_mra(listener, 0) == -EINVAL);
	m = take(&dev);
	TAP_CHECK(m && m->type == ROCE_CM_MRA && m->u.mra.service_timeout == 21);
	TAP_CHECK(over());
}

static void request__left_alone_ends_when_the_peer_has_given_up(void)
{
	struct roce_event *ev;
	struct roce_cm req, *m;

	TAP_CHECK(open_listening(0) && request(PEER, PEER_ID, PEER_QPN));
	/* 16 times 4.096 us << 20 */
	TAP_CHECK(roce_cm_deadline(dev.cm) == 16 * (4096ull << 20));
	run_to(&dev, 69 * SEC);
	ev = event(&dev);
	TAP_CHECK(ev && ev->id == id && ev->cm == RACKWIRE_ROCE_CM_UNREACHABLE && ev->error == -ETIMEDOUT);
	m = take(&dev);
	TAP_CHECK(m && m->type == ROCE_CM_REJ && m->u.rej.reason == ROCE_REJ_TIMEOUT);
	TAP_CHECK(over());
	/* One the application never heard of goes without a word. */
	TAP_CHECK(open_listening(0));
	make_req(&req, &dev, PEER, PORT, PEER_ID, PEER_QPN);
	give(&dev, PEER, &req);
	run_to(&dev, 69 * SEC);
	TAP_CHECK(!event(&dev) && take(&dev)->type == ROCE_CM_REJ);
	TAP_CHECK(over());
}

static void rtu__lost_is_made_up_for_by_the_first_packet(void)
{
	struct roce_cm rtu;

	TAP_CHECK(open_listening(0) && request(PEER, PEER_ID, PEER_QPN) && accept_it());
	TAP_CHECK(take(&dev)->type == ROCE_CM_REP);
	roce_cm_qp_active(id, dev.now);
	TAP_CHECK(event(&dev)->cm == RACKWIRE_ROCE_CM_ESTABLISHED);
	roce_cm_qp_active(id, dev.now);
	make_answer(&rtu, ROCE_CM_RTU);
	give(&dev, PEER, &rtu);
	TAP_CHECK(!event(&dev) && dev.stats.mads_duplicate == 1 && dev.stats.connections_accepted == 1);
	TAP_CHECK(over());
}

static void rtu__forged_changes_nothing(void)
{
	struct roce_cm rtu;

	TAP_CHECK(open_listening(0) && request(PEER, PEER_ID, PEER_QPN));
	TAP_CHECK(!roce_cm_mra(id, 0) && take(&dev));
	make_answer(&rtu, ROCE_CM_RTU);
	give(&dev, PEER, &rtu); /* not accepted yet */
	TAP_CHECK(accept_it() && take(&dev)->type == ROCE_CM_REP);
	make_answer(&rtu, ROCE_CM_RTU);
	give(&dev, 3, &rtu);
	rtu.u.rtu.local_comm_id++;
	give(&dev, PEER, &rtu);
	TAP_CHECK(dev.stats.mads_bad == 3 && !event(&dev));
	TAP_CHECK(over());
}

static void rep__without_answer_is_repeated_then_given_up(void)
{
	struct roce_event *ev;
	struct roce_cm mra, *m;
	u8 first[ROCE_MAD_LEN];

	TAP_CHECK(open_listening(0) && request(PEER, PEER_ID, PEER_QPN) && accept_it());
	TAP_CHECK(take(&dev)->type == ROCE_CM_REP);
	memcpy(first, taken, sizeof(first));
	for (u32 i = 0; i < 7; i++) {
		TAP_CHECK(roce_cm_deadline(dev.cm) == dev.now + (i < 4 ? 250 * MSEC << i : 4 * SEC));
		run_to(&dev, roce_cm_deadline(dev.cm));
		TAP_CHECK(take(&dev) && !memcmp(first, taken, sizeof(first)));
	}
	make_answer(&mra, ROCE_CM_MRA);
	mra.u.mra.message = ROCE_CM_OF_REP;
	mra.u.mra.service_timeout = 22;
	give(&dev, PEER, &mra);
	TAP_CHECK(roce_cm_deadline(dev.cm) == dev.now + (4096ull << 22) + 250 * MSEC);
	run_to(&dev, roce_cm_deadline(dev.cm));
	ev = event(&dev);
	TAP_CHECK(ev && ev->cm == RACKWIRE_ROCE_CM_UNREACHABLE && ev->error == -ETIMEDOUT && qp->errors == 1);
	m = take(&dev);
	TAP_CHECK(m && m->type == ROCE_CM_REJ && m->u.rej.reason == ROCE_REJ_TIMEOUT);
	TAP_CHECK(over());
}

static void rep__undeliverable_ends_at_once(void)
{
	struct roce_event *ev;

	TAP_CHECK(open_listening(0) && request(PEER, PEER_ID, PEER_QPN) && accept_it());
	TAP_CHECK(take(&dev)->type == ROCE_CM_REP);
	roce_cm_unreachable(dev.cm, dev.now, &taken_path, -ECONNREFUSED);
	ev = event(&dev);
	TAP_CHECK(ev && ev->cm == RACKWIRE_ROCE_CM_UNREACHABLE && ev->error == -ECONNREFUSED && qp->errors == 1);
	TAP_CHECK(over());
}

static void rej__of_our_REP_ends_the_connection(void)
{
	struct roce_event *ev;
	struct roce_cm rej;

	TAP_CHECK(open_listening(0) && request(PEER, PEER_ID, PEER_QPN) && accept_it());
	TAP_CHECK(take(&dev)->type == ROCE_CM_REP);
	make_answer(&rej, ROCE_CM_REJ);
	rej.u.rej.message = ROCE_CM_OF_REP;
	rej.u.rej.reason = ROCE_REJ_CONSUMER;
	rej.priv = (const u8 *)"changed my mind";
	rej.priv_len = 15;
	give(&dev, PEER, &rej);
	ev = event(&dev);
	TAP_CHECK(ev && ev->cm == RACKWIRE_ROCE_CM_REJECTED && ev->status == 28 && qp->errors == 1);
	TAP_CHECK(!memcmp(ev->private_data, "changed my mind", 16));
	TAP_CHECK(over());
}

static void stale__a_live_peer_keeps_its_connection(void)
{
	struct roce_cm req, rtu;

	TAP_CHECK(establish());
	make_answer(&rtu, ROCE_CM_RTU);
	for (u32 i = 0; i < 2; i++) {
		/* Another REQ with the same QP; then one with the same communication id. */
		make_req(&req, &dev, PEER, PORT, i ? PEER_ID : 77, i ? 78 : PEER_QPN);
		give(&dev, PEER, &req);
		TAP_CHECK(take(&dev)->u.rej.reason == ROCE_REJ_STALE_CONN);
		TAP_CHECK(take(&dev)->type == ROCE_CM_REP && !take(&dev));
		run_to(&dev, dev.now + 250 * MSEC);
		TAP_CHECK(take(&dev)->type == ROCE_CM_REP && !event(&dev));
		give(&dev, PEER, &rtu);
		TAP_CHECK(roce_cm_deadline(dev.cm) == ROCE_NEVER && qp->state == RACKWIRE_ROCE_QP_RTS);
	}
	TAP_CHECK(over());
}

static void stale__a_peer_that_forgot_loses_its_connection(void)
{
	struct roce_event *ev;
	struct roce_cm req;

	TAP_CHECK(establish());
	make_req(&req, &dev, PEER, PORT, 77, PEER_QPN);
	give(&dev, PEER, &req);
	TAP_CHECK(take(&dev)->u.rej.reason == ROCE_REJ_STALE_CONN);
	for (u32 i = 0; i < 4; i++) {
		TAP_CHECK(take(&dev)->type == ROCE_CM_REP && !take(&dev));
		run_to(&dev, roce_cm_deadline(dev.cm));
	}
	ev = event(&dev);
	TAP_CHECK(ev && ev->id == id && ev->cm == RACKWIRE_ROCE_CM_DISCONNECTED && ev->error == -ECONNRESET);
	TAP_CHECK(qp->state == RACKWIRE_ROCE_QP_ERR && dev.stats.connections_lost == 1);
	/* Now its place is free. */
	give(&dev, PEER, &req);
	ev = event(&dev);
	TAP_CHECK(ev && ev->cm == RACKWIRE_ROCE_CM_CONNECT_REQUEST);
	TAP_CHECK(!roce_cm_reject(ev->id, dev.now, 28, NULL, 0));
	TAP_CHECK(over());
}

static void listen__knows_its_addresses(void)
{
	static const u8 any[16];
	struct roce_cm_id *other, *six;
	struct roce_path path;
	struct roce_cm req;
	u8 elsewhere[16], local[16], peer[16];
	struct roce_event *ev;

	addr6(local, 1);
	addr6(peer, 2);
	path_to(&path, local, peer);
	path.scope = 4;
	dev_open(&dev, 1, 11);
	qp = NULL;
	addr4(elsewhere, 9);
	TAP_CHECK(roce_cm_listen(&dev, any, 0, 1, NULL, &listener) == -EINVAL);
	TAP_CHECK(!roce_cm_listen(&dev, elsewhere, PORT, 1, NULL, &other));
	TAP_CHECK(roce_cm_listen(&dev, elsewhere, PORT, 1, NULL, &listener) == -EADDRINUSE);
	TAP_CHECK(roce_cm_listen(&dev, any, PORT, 1, NULL, &listener) == -EADDRINUSE);
	make_req(&req, &dev, PEER, PORT, PEER_ID, PEER_QPN);
	give(&dev, PEER, &req);
	TAP_CHECK(rejected(PEER_ID, ROCE_REJ_INVALID_SERVICE_ID));
	TAP_CHECK(!roce_cm_listen(&dev, dev.addr, PORT, 1, NULL, &listener));
	TAP_CHECK(!roce_cm_listen(&dev, path.local, PORT, 1, NULL, &six));
	TAP_CHECK(request(PEER, PEER_ID, PEER_QPN));
	make_req_path(&req, &path, PORT, PEER_ID, PEER_QPN);
	give_path(&dev, &path, &req);
	ev = event(&dev);
	TAP_CHECK(ev && ev->cm == RACKWIRE_ROCE_CM_CONNECT_REQUEST && ev->listener == six);
	TAP_CHECK(roce_cm_path(ev->id)->scope == 4);
	roce_cm_destroy(six, 0); /* the request is known already and lives on */
	qp = qp_new(&dev);
	TAP_CHECK(!roce_cm_accept(ev->id, 0, qp, &plain, NULL));
	roce_cm_destroy(ev->id, 0);
	qp_free(qp);
	qp = NULL;
	roce_cm_destroy(other, 0);
	TAP_CHECK(!roce_cm_listen(&dev, elsewhere, PORT, 1, NULL, &other));
	roce_cm_destroy(other, 0);
	TAP_CHECK(over());
}

static void listener__gone_refuses_what_nobody_heard_of(void)
{
	struct roce_cm req;

	TAP_CHECK(open_listening(0));
	make_req(&req, &dev, PEER, PORT, PEER_ID, PEER_QPN);
	give(&dev, PEER, &req);
	roce_cm_destroy(listener, 0);
	listener = NULL;
	TAP_CHECK(rejected(PEER_ID, ROCE_REJ_INVALID_SERVICE_ID));
	TAP_CHECK(over());
}

/* How many of @n requests from @peer get in. */
static u32 flood(u32 peer, u32 n)
{
	struct roce_cm req;
	u32 in = 0;

	for (u32 i = 0; i < n; i++) {
		make_req(&req, &dev, peer, PORT, peer << 16 | (i + 1), 100 + i);
		give(&dev, peer, &req);
		for (struct roce_event *ev; (ev = event(&dev)); in++)
			if (!id)
				id = ev->id;
	}
	return in;
}

static void flood__of_one_source_leaves_room_for_others(void)
{
	struct roce_info info;

	TAP_CHECK(open_listening(0));
	TAP_CHECK(flood(2, 1000) == 8);
	TAP_CHECK(flood(3, 1000) == 4);
	TAP_CHECK(flood(4, 1000) == 2);
	TAP_CHECK(flood(5, 1000) == 1);
	TAP_CHECK(flood(6, 1000) == 1);
	TAP_CHECK(flood(7, 1000) == 0);
	roce_cm_info(dev.cm, &info);
	TAP_CHECK(info.half_open == 16 && info.cm_ids == 17 && !take(&dev));
	TAP_CHECK(dev.stats.cm_refused == 6000 - 16);
	/* Each that is answered makes room; nothing is left of them when the peers have given up. */
	TAP_CHECK(!roce_cm_reject(id, 0, 28, NULL, 0) && flood(7, 1) == 1);
	id = NULL;
	roce_cm_destroy(listener, 0);
	listener = NULL;
	run_to(&dev, 200 * SEC);
	roce_cm_info(dev.cm, &info);
	TAP_CHECK(!info.half_open);
	while (event(&dev))
		;
	TAP_CHECK(dev_close(&dev));
}

static void flood__accepted_but_unconfirmed_counts_too(void)
{
	struct roce_qp *qps[9];
	struct roce_cm_id *ids[9];
	struct roce_cm req;

	TAP_CHECK(open_listening(0));
	for (u32 i = 0; i < 8; i++) {
		TAP_CHECK(request(PEER, i + 1, i + 100));
		TAP_CHECK(accept_it());
		qps[i] = qp;
		ids[i] = id;
	}
	make_req(&req, &dev, PEER, PORT, 99, 99);
	give(&dev, PEER, &req);
	TAP_CHECK(!event(&dev));
	roce_cm_qp_active(ids[3], 0); /* one is confirmed: one more may come */
	while (event(&dev))
		;
	give(&dev, PEER, &req);
	TAP_CHECK(event(&dev)->cm == RACKWIRE_ROCE_CM_CONNECT_REQUEST);
	for (u32 i = 0; i < 8; i++) {
		roce_cm_destroy(ids[i], 0);
		qp_free(qps[i]);
	}
	qp = NULL;
	id = NULL;
	TAP_CHECK(dev_close(&dev));
}

static void backlog__bounds_what_is_not_answered(void)
{
	TAP_CHECK(open_listening(3));
	TAP_CHECK(flood(2, 10) == 3 && flood(3, 10) == 0);
	TAP_CHECK(accept_it() && flood(3, 10) == 1);
	TAP_CHECK(dev_close(&dev));
	qp->cm = NULL;
	qp_free(qp);
}

static void ids__run_out_in_favour_of_the_living(void)
{
	struct roce_cfg cfg;
	struct roce_info info;
	struct roce_cm req;
	static const u8 any[16];

	dev_cfg(&cfg);
	cfg.max_cm_ids = 4;
	dev_open_with(&dev, 1, 11, &cfg);
	qp = NULL;
	TAP_CHECK(!roce_cm_listen(&dev, any, PORT, 0, NULL, &listener));
	/* What lingers after a refusal makes room for a new request. */
	for (u32 i = 0; i < 20; i++) {
		TAP_CHECK(request(PEER, i + 1, i + 100));
		TAP_CHECK(!roce_cm_reject(id, 0, 28, NULL, 0));
	}
	roce_cm_info(dev.cm, &info);
	TAP_CHECK(info.timewait == 3 && info.cm_ids == 1);
	for (u32 i = 0; i < 3; i++)
		TAP_CHECK(request(PEER, i + 100, i + 200));
	make_req(&req, &dev, PEER, PORT, 500, 500);
	while (take(&dev))
		;
	give(&dev, PEER, &req);
	TAP_CHECK(rejected(500, ROCE_REJ_NO_RESOURCES));
	TAP_CHECK(dev_close(&dev));
}

static void req__survives_every_want_of_memory(void)
{
	struct roce_cm req;

	TAP_CHECK(open_listening(0));
	make_req(&req, &dev, PEER, PORT, PEER_ID, PEER_QPN);
	for (u32 i = 1; i <= 2; i++) {
		dev.fail_in = i;
		give(&dev, PEER, &req);
		TAP_CHECK(rejected(PEER_ID, ROCE_REJ_NO_RESOURCES));
	}
	TAP_CHECK(request(PEER, PEER_ID, PEER_QPN));
	TAP_CHECK(over());
	/* Of the manager itself, too. */
	for (u32 i = 1; i <= 7; i++) {
		struct roce_cfg cfg;

		dev_cfg(&cfg);
		memset(&dev, 0, sizeof(dev));
		dev.cfg = cfg;
		dev.fail_in = i;
		TAP_CHECK(!roce_cm_init(&dev) && !dev.allocs && !dev.bytes);
	}
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(req__becomes_an_event_and_the_answer_a_REP),
		TAP_TEST(accept__takes_what_the_peer_says_where_it_says_nothing),
		TAP_TEST(accept__refuses_what_cannot_be),
		TAP_TEST(req__refused_says_why),
		TAP_TEST(req__for_a_narrow_path_is_refused_with_its_mtu),
		TAP_TEST(req__again_gets_the_same_answer),
		TAP_TEST(reject__is_said_again_to_who_asks_again),
		TAP_TEST(mra__is_sent_on_request),
		TAP_TEST(request__left_alone_ends_when_the_peer_has_given_up),
		TAP_TEST(rtu__lost_is_made_up_for_by_the_first_packet),
		TAP_TEST(rtu__forged_changes_nothing),
		TAP_TEST(rep__without_answer_is_repeated_then_given_up),
		TAP_TEST(rep__undeliverable_ends_at_once),
		TAP_TEST(rej__of_our_REP_ends_the_connection),
		TAP_TEST(stale__a_live_peer_keeps_its_connection),
		TAP_TEST(stale__a_peer_that_forgot_loses_its_connection),
		TAP_TEST(listen__knows_its_addresses),
		TAP_TEST(listener__gone_refuses_what_nobody_heard_of),
		TAP_TEST(flood__of_one_source_leaves_room_for_others),
		TAP_TEST(flood__accepted_but_unconfirmed_counts_too),
		TAP_TEST(backlog__bounds_what_is_not_answered),
		TAP_TEST(ids__run_out_in_favour_of_the_living),
		TAP_TEST(req__survives_every_want_of_memory),
	};
	return TAP_RUN(tests, argc, argv);
}
