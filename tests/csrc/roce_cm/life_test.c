/* SPDX-License-Identifier: BSD-2-Clause */
/* How connections end: by either side, by failure, by destruction in every state; and what remains until then. */
#include <stdlib.h>

#include "bench.h"
#include "tap.h"

#define PORT 7174
#define PEER 2
#define PEER_ID 0x5eed0001u
#define PEER_QPN 0x77u

static struct roce_dev dev;
static struct roce_cm_id *listener, *id;
static struct roce_qp *qp;
static u32 our_id;

enum stage { LISTENING, CALLED, ASKED, ANSWERED, SERVING, CALLING, STAGES };

/* Brings @id to a stage, as server or client. */
static bool reach(enum stage stage)
{
	static const u8 any[16];
	struct roce_path path;
	struct roce_cm m;

	dev_open(&dev, 1, 13);
	qp = qp_new(&dev);
	if (roce_cm_listen(&dev, any, PORT, 0, NULL, &listener))
		return false;
	id = NULL;
	if (stage == LISTENING)
		return true;
	if (stage == CALLED || stage == CALLING) {
		path_to(&path, dev.addr, dev.addr);
		addr4(path.peer, PEER);
		if (roce_cm_connect(&dev, dev.now, &path, 1, PORT, qp, &plain, NULL, &id) || !take(&dev))
			return false;
		our_id = roce_get32(taken + ROCE_MAD_HDR_LEN);
		if (stage == CALLED)
			return true;
		memset(&m, 0, sizeof(m));
		m.type = ROCE_CM_REP;
		m.u.rep.local_comm_id = PEER_ID;
		m.u.rep.remote_comm_id = our_id;
		m.u.rep.local_qpn = PEER_QPN;
		give(&dev, PEER, &m);
		return take(&dev) && event(&dev);
	}
	make_req(&m, &dev, PEER, PORT, PEER_ID, PEER_QPN);
	give(&dev, PEER, &m);
	id = event(&dev)->id;
	if (stage == ASKED)
		return true;
	if (roce_cm_accept(id, dev.now, qp, &plain, NULL) || !take(&dev))
		return false;
	our_id = roce_get32(taken + ROCE_MAD_HDR_LEN);
	if (stage == ANSWERED)
		return true;
	roce_cm_qp_active(id, dev.now);
	return event(&dev);
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
	id = listener = NULL;
	qp = NULL;
	run_to(&dev, dev.now + 300 * SEC);
	roce_cm_info(dev.cm, &info);
	if (info.cm_ids || info.half_open || info.timewait || info.listeners || event(&dev))
		return false;
	return dev_close(&dev);
}

static void make_answer(struct roce_cm *m, u16 type)
{
	memset(m, 0, sizeof(*m));
	m->type = type;
	m->tid = 4711;
	m->u.dreq.local_comm_id = PEER_ID;
	m->u.dreq.remote_comm_id = our_id;
	if (type == ROCE_CM_DREQ)
		m->u.dreq.remote_qpn = qp->num;
}

static bool ends(int error)
{
	struct roce_event *ev = event(&dev);

	return ev && ev->id == id && ev->cm == RACKWIRE_ROCE_CM_DISCONNECTED && ev->error == error;
}

static void disconnect__asks_flushes_and_waits_for_the_answer(void)
{
	struct roce_info info;
	struct roce_event *ev;
	struct roce_cm drep, *m;

	for (u32 stage = SERVING; stage <= CALLING; stage++) {
		TAP_CHECK(reach(stage));
		TAP_CHECK(!roce_cm_disconnect(id, dev.now) && qp->errors == 1);
		m = take(&dev);
		TAP_CHECK(m && m->type == ROCE_CM_DREQ && m->u.dreq.local_comm_id == our_id);
		TAP_CHECK(m->u.dreq.remote_comm_id == PEER_ID && m->u.dreq.remote_qpn == PEER_QPN);
		TAP_CHECK(!roce_cm_disconnect(id, dev.now) && !take(&dev) && !event(&dev));
		make_answer(&drep, ROCE_CM_DREP);
		give(&dev, 3, &drep);
		TAP_CHECK(dev.stats.mads_bad == 1);
		give(&dev, PEER, &drep);
		TAP_CHECK(ends(0) && dev.stats.connections_closed == 1 && !dev.stats.connections_lost);
		roce_cm_info(dev.cm, &info);
		TAP_CHECK(info.timewait == 1 && roce_cm_qp(id) == qp && !roce_cm_disconnect(id, dev.now));
		give(&dev, PEER, &drep);
		TAP_CHECK(dev.stats.mads_duplicate == 1);
		run_to(&dev, dev.now + 2 * SEC);
		ev = event(&dev);
		TAP_CHECK(ev && ev->cm == RACKWIRE_ROCE_CM_TIMEWAIT_EXIT && ev->id == id && ev->qp == qp);
		roce_cm_info(dev.cm, &info);
		TAP_CHECK(!info.timewait && qp->errors == 1);
		TAP_CHECK(over());
	}
}

static void disconnect__without_answer_is_repeated_then_done(void)
{
	u8 first[ROCE_MAD_LEN];

	TAP_CHECK(reach(CALLING));
	TAP_CHECK(!roce_cm_disconnect(id, dev.now) && take(&dev));
	memcpy(first, taken, sizeof(first));
	for (u32 i = 0; i < 7; i++) {
		run_to(&dev, roce_cm_deadline(dev.cm));
		TAP_CHECK(take(&dev) && !memcmp(first, taken, sizeof(first)) && !event(&dev));
	}
	run_to(&dev, roce_cm_deadline(dev.cm));
	TAP_CHECK(ends(-ETIMEDOUT) && dev.stats.connections_lost == 1);
	TAP_CHECK(over());
}

static void dreq__of_the_peer_ends_it_and_is_answered(void)
{
	struct roce_event *ev;
	struct roce_cm dreq, *m;

	for (u32 stage = ANSWERED; stage <= CALLING; stage++) {
		TAP_CHECK(reach(stage));
		make_answer(&dreq, ROCE_CM_DREQ);
		dreq.priv = (const u8 *)"bye";
		dreq.priv_len = 3;
		give(&dev, PEER, &dreq);
		m = take(&dev);
		TAP_CHECK(m && m->type == ROCE_CM_DREP && m->tid == 4711);
		TAP_CHECK(m->u.drep.local_comm_id == our_id && m->u.drep.remote_comm_id == PEER_ID && !take(&dev));
		ev = event(&dev);
		TAP_CHECK(ev && ev->cm == RACKWIRE_ROCE_CM_DISCONNECTED && !ev->error && qp->errors == 1);
		TAP_CHECK(ev->private_data_len == ROCE_CM_DREQ_PRIV && !memcmp(ev->private_data, "bye\0", 4));
		/* The DREP was lost: in timewait, after it, and after the id. */
		for (u32 i = 0; i < 3; i++) {
			give(&dev, PEER, &dreq);
			m = take(&dev);
			TAP_CHECK(m && m->type == ROCE_CM_DREP && m->u.drep.remote_comm_id == PEER_ID);
			TAP_CHECK(m->u.drep.local_comm_id == our_id);
			if (i == 0) {
				run_to(&dev, 3 * SEC);
				TAP_CHECK(event(&dev)->cm == RACKWIRE_ROCE_CM_TIMEWAIT_EXIT);
			} else if (i == 1) {
				roce_cm_destroy(id, dev.now);
				id = NULL;
			}
		}
		TAP_CHECK(!event(&dev) && dev.stats.mads_duplicate == 3 && !dev.stats.mads_bad);
		TAP_CHECK(over());
	}
}

static void dreq__forged_changes_nothing(void)
{
	struct roce_cm dreq;

	TAP_CHECK(reach(SERVING));
	make_answer(&dreq, ROCE_CM_DREQ);
	dreq.u.dreq.remote_qpn++;
	give(&dev, PEER, &dreq);
	TAP_CHECK(!take(&dev) && dev.stats.mads_bad == 1);
	make_answer(&dreq, ROCE_CM_DREQ);
	dreq.u.dreq.local_comm_id++;
	give(&dev, PEER, &dreq); /* answered like that of any connection unknown, which it is */
	TAP_CHECK(take(&dev)->type == ROCE_CM_DREP);
	make_answer(&dreq, ROCE_CM_DREQ);
	give(&dev, 3, &dreq);
	TAP_CHECK(take(&dev)->type == ROCE_CM_DREP && taken_path.peer[15] == 3);
	/* Of another process on this address. */
	dreq.u.dreq.remote_comm_id = 0xb0000000;
	give(&dev, PEER, &dreq);
	TAP_CHECK(!take(&dev) && dev.stats.mads_bad == 2);
	TAP_CHECK(!event(&dev) && qp->state == RACKWIRE_ROCE_QP_RTS);
	TAP_CHECK(over());
	/* A request that is not accepted has nothing to disconnect. */
	TAP_CHECK(reach(ASKED));
	TAP_CHECK(!roce_cm_mra(id, 0) && take(&dev));
	our_id = roce_get32(taken + ROCE_MAD_HDR_LEN);
	make_answer(&dreq, ROCE_CM_DREQ);
	give(&dev, PEER, &dreq);
	TAP_CHECK(dev.stats.mads_bad == 1 && !event(&dev) && !take(&dev));
	TAP_CHECK(over());
}

static void dreq__from_both_sides_at_once_ends_it_once(void)
{
	struct roce_cm m;

	TAP_CHECK(reach(SERVING));
	TAP_CHECK(!roce_cm_disconnect(id, 0) && take(&dev)->type == ROCE_CM_DREQ);
	make_answer(&m, ROCE_CM_DREQ);
	give(&dev, PEER, &m);
	TAP_CHECK(take(&dev)->type == ROCE_CM_DREP && ends(0));
	make_answer(&m, ROCE_CM_DREP);
	give(&dev, PEER, &m);
	TAP_CHECK(!event(&dev) && dev.stats.connections_closed == 1);
	TAP_CHECK(over());
}

static void failure__of_the_queue_pair_ends_the_connection_for_both(void)
{
	struct roce_cm drep;

	for (u32 stage = ANSWERED; stage <= CALLING; stage++) {
		TAP_CHECK(reach(stage));
		qp->state = RACKWIRE_ROCE_QP_ERR;
		roce_cm_qp_failed(id, dev.now, -ETIMEDOUT);
		TAP_CHECK(ends(-ETIMEDOUT) && take(&dev)->type == ROCE_CM_DREQ && !qp->errors);
		roce_cm_qp_failed(id, dev.now, -EIO);
		make_answer(&drep, ROCE_CM_DREP);
		give(&dev, PEER, &drep);
		TAP_CHECK(!event(&dev) && !dev.stats.connections_closed);
		TAP_CHECK(dev.stats.connections_lost == (stage > ANSWERED));
		run_to(&dev, 5 * SEC);
		TAP_CHECK(event(&dev)->cm == RACKWIRE_ROCE_CM_TIMEWAIT_EXIT);
		TAP_CHECK(over());
	}
}

static void qp__destroyed_takes_its_connection_down(void)
{
	struct roce_event *ev;
	struct roce_cm drep;

	for (u32 stage = ANSWERED; stage <= CALLING; stage++) {
		TAP_CHECK(reach(stage));
		make_answer(&drep, ROCE_CM_DREP);
		qp_free(qp);
		qp = NULL;
		TAP_CHECK(!roce_cm_qp(id) && take(&dev)->type == ROCE_CM_DREQ);
		give(&dev, PEER, &drep);
		TAP_CHECK(ends(0));
		TAP_CHECK(over());
	}
	TAP_CHECK(reach(CALLED));
	qp_free(qp);
	qp = NULL;
	TAP_CHECK(take(&dev)->u.rej.reason == ROCE_REJ_TIMEOUT);
	ev = event(&dev);
	TAP_CHECK(ev && ev->cm == RACKWIRE_ROCE_CM_UNREACHABLE && ev->error == -ECANCELED);
	TAP_CHECK(over());
}

static void destroy__in_every_state_tells_the_peer_and_leaves_nothing(void)
{
	static const u16 says[] = { 0, ROCE_CM_REJ, ROCE_CM_REJ, ROCE_CM_DREQ, ROCE_CM_DREQ, ROCE_CM_DREQ };
	struct roce_info info;
	struct roce_cm *m, drep;

	for (u32 answered = 0; answered < 2; answered++) {
		for (u32 stage = LISTENING; stage < STAGES; stage++) {
			TAP_CHECK(reach(stage));
			roce_cm_destroy(id ? id : listener, dev.now);
			if (!id)
				listener = NULL;
			id = NULL;
			TAP_CHECK(!qp->cm && (qp->state == RACKWIRE_ROCE_QP_ERR) == (stage >= ANSWERED));
			m = take(&dev);
			TAP_CHECK((m ? m->type : 0) == says[stage] && !take(&dev));
			roce_cm_info(dev.cm, &info);
			TAP_CHECK(info.cm_ids == (stage != LISTENING) && !info.half_open);
			if (stage >= ANSWERED && answered) {
				make_answer(&drep, ROCE_CM_DREP);
				give(&dev, PEER, &drep);
				TAP_CHECK(dev.stats.connections_closed == (stage > ANSWERED));
			}
			TAP_CHECK(!event(&dev));
			TAP_CHECK(over());
		}
	}
}

static void destroy__takes_its_events_along(void)
{
	struct roce_cm drep;

	TAP_CHECK(reach(SERVING));
	roce_cm_qp_failed(id, 0, -EIO);
	TAP_CHECK(take(&dev));
	make_answer(&drep, ROCE_CM_DREP);
	give(&dev, PEER, &drep);
	run_to(&dev, 10 * SEC); /* DISCONNECTED and TIMEWAIT_EXIT wait */
	roce_cm_destroy(id, dev.now);
	id = NULL;
	TAP_CHECK(!event(&dev));
	TAP_CHECK(over());
}

static void events__of_one_connection_come_in_order(void)
{
	static const u32 order[] = { RACKWIRE_ROCE_CM_ESTABLISHED, RACKWIRE_ROCE_CM_DISCONNECTED,
				     RACKWIRE_ROCE_CM_TIMEWAIT_EXIT };
	struct roce_cm m;

	TAP_CHECK(reach(CALLED));
	memset(&m, 0, sizeof(m));
	m.type = ROCE_CM_REP;
	m.priv = (const u8 *)"first";
	m.priv_len = 5;
	m.u.rep.local_comm_id = PEER_ID;
	m.u.rep.remote_comm_id = our_id;
	m.u.rep.local_qpn = PEER_QPN;
	give(&dev, PEER, &m);
	make_answer(&m, ROCE_CM_DREQ);
	m.priv = (const u8 *)"second";
	m.priv_len = 6;
	give(&dev, PEER, &m);
	run_to(&dev, 10 * SEC);
	for (u32 i = 0; i < 3; i++) {
		struct roce_event *ev = event(&dev);

		TAP_CHECK(ev && ev->cm == order[i]);
		/* The words of the REP waited to be read, so those of the DREQ found no room. */
		TAP_CHECK(i || !memcmp(ev->private_data, "first\0", 6));
		TAP_CHECK(!i || !ev->private_data_len);
	}
	TAP_CHECK(over());
}

static void confirmation__goes_before_a_hasty_farewell(void)
{
	struct roce_cm m;

	TAP_CHECK(reach(CALLED));
	memset(&m, 0, sizeof(m));
	m.type = ROCE_CM_REP;
	m.u.rep.local_comm_id = PEER_ID;
	m.u.rep.remote_comm_id = our_id;
	m.u.rep.local_qpn = PEER_QPN;
	give(&dev, PEER, &m);
	TAP_CHECK(event(&dev)->cm == RACKWIRE_ROCE_CM_ESTABLISHED);
	TAP_CHECK(!roce_cm_disconnect(id, 0));
	TAP_CHECK(take(&dev)->type == ROCE_CM_RTU && take(&dev)->type == ROCE_CM_DREQ && !take(&dev));
	TAP_CHECK(over());
}

static void answers__to_strangers_are_bounded(void)
{
	struct roce_cm dreq;
	u32 n = 0;

	TAP_CHECK(reach(LISTENING));
	for (u32 i = 0; i < 1000; i++) {
		make_answer(&dreq, ROCE_CM_DREQ);
		dreq.u.dreq.remote_comm_id = 0xa0000000 + i;
		give(&dev, PEER, &dreq);
	}
	for (; take(&dev); n++)
		TAP_CHECK(roce_get32(taken + ROCE_MAD_HDR_LEN) == 0xa0000000 + n);
	TAP_CHECK(n == 64 && dev.stats.rx_dropped == 1000 - 64);
	TAP_CHECK(over());
}

static void timewait__is_bounded_by_the_number_of_ids(void)
{
	struct roce_info info;
	struct roce_cm m;

	TAP_CHECK(reach(LISTENING));
	for (u32 i = 0; i < 1000; i++) {
		struct roce_qp *q = qp_new(&dev);
		struct roce_cm_id *c;

		make_req(&m, &dev, PEER, PORT, i + 1, i + 2);
		give(&dev, PEER, &m);
		c = event(&dev)->id;
		TAP_CHECK(!roce_cm_accept(c, dev.now, q, &plain, NULL));
		roce_cm_qp_active(c, dev.now);
		roce_cm_destroy(c, dev.now);
		qp_free(q);
		while (take(&dev))
			if (taken[17] == ROCE_CM_DREQ) {
				our_id = roce_get32(taken + ROCE_MAD_HDR_LEN);
				make_answer(&m, ROCE_CM_DREP);
				m.u.drep.local_comm_id = i + 1;
				give(&dev, PEER, &m);
			}
		roce_cm_info(dev.cm, &info);
		TAP_CHECK(info.timewait == (i < 63 ? i + 1 : 63));
	}
	TAP_CHECK(over());
}

static void thousands__of_connections_keep_their_own_time(void)
{
	enum { N = 4000 };
	struct roce_cm_id **ids = calloc(N, sizeof(*ids));
	struct roce_qp **qps = calloc(N, sizeof(*qps));
	struct roce_path path;
	struct roce_cfg cfg;
	u64 rng = 5, last = 0;
	u32 n = 0;

	dev_cfg(&cfg);
	cfg.max_cm_ids = N;
	cfg.cm_retries = 0;
	dev_open_with(&dev, 1, 13, &cfg);
	path_to(&path, dev.addr, dev.addr);
	for (u32 i = 0; i < N; i++) {
		addr4(path.peer, 2 + i);
		qps[i] = qp_new(&dev);
		dev.now += bench_rand(&rng) % 20000;
		TAP_CHECK(!roce_cm_connect(&dev, dev.now, &path, 1, 1, qps[i], &plain, NULL, &ids[i]));
	}
	for (u32 i = 0; i < N; i += 3) {
		roce_cm_destroy(ids[i], dev.now);
		ids[i] = NULL;
	}
	/* Each runs out of patience at its own time, in the order they began. */
	while (roce_cm_deadline(dev.cm) != ROCE_NEVER) {
		u64 at = roce_cm_deadline(dev.cm);

		TAP_CHECK(at >= last && at >= 250 * MSEC);
		last = at;
		roce_cm_tick(dev.cm, at);
		for (struct roce_event *ev; (ev = event(&dev)); n++)
			TAP_CHECK(ev->error == -ETIMEDOUT);
	}
	TAP_CHECK(n == N - (N + 2) / 3);
	for (u32 i = 0; i < N; i++) {
		if (ids[i])
			roce_cm_destroy(ids[i], dev.now);
		qp_free(qps[i]);
	}
	free(ids);
	free(qps);
	TAP_CHECK(dev_close(&dev));
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(disconnect__asks_flushes_and_waits_for_the_answer),
		TAP_TEST(disconnect__without_answer_is_repeated_then_done),
		TAP_TEST(dreq__of_the_peer_ends_it_and_is_answered),
		TAP_TEST(dreq__forged_changes_nothing),
		TAP_TEST(dreq__from_both_sides_at_once_ends_it_once),
		TAP_TEST(failure__of_the_queue_pair_ends_the_connection_for_both),
		TAP_TEST(qp__destroyed_takes_its_connection_down),
		TAP_TEST(destroy__in_every_state_tells_the_peer_and_leaves_nothing),
		TAP_TEST(destroy__takes_its_events_along),
		TAP_TEST(events__of_one_connection_come_in_order),
		TAP_TEST(confirmation__goes_before_a_hasty_farewell),
		TAP_TEST(answers__to_strangers_are_bounded),
		TAP_TEST(timewait__is_bounded_by_the_number_of_ids),
		TAP_TEST(thousands__of_connections_keep_their_own_time),
	};
	return TAP_RUN(tests, argc, argv);
}
