/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two connection managers and many connections between them, in virtual time, over a network
 * that loses, repeats and reorders messages; applications that accept, think, refuse, disconnect,
 * destroy and fail when they like. Whatever happens, each side hears a sensible story, both stories
 * agree in the end, and nothing is left. A schedule follows from its seed alone:
 *	RACKWIRE_SEED=n	one schedule; RACKWIRE_TRACE=1 prints its messages
 *	RACKWIRE_SCHEDULES=n	so many
 */
#include <stdlib.h>
#include <time.h>

#include "bench.h"
#include "tap.h"

#define SCHEDULES 20000
#define MAX_CALLS 10
#define MAX_FLIGHT 4096
#define PORT 7174

struct flight {
	u64 at;
	struct roce_path path; /* as the receiver sees it */
	u8 mad[ROCE_MAD_LEN];
	struct side *active; /* not a message: the first packet on its queue pair */
};

enum fate { STAY, DISCONNECT, DESTROY, FREE_QP, FAIL_QP, FATES };
enum answer { ACCEPT, ACCEPT_LATER, MRA_THEN_ACCEPT, REJECT, REJECT_LATER, DROP, ANSWERS };

/* One end of a connection, as its application sees it. */
struct side {
	struct roce_dev *d;
	struct roce_cm_id *id;
	struct roce_qp *qp;
	u64 act_at; /* when it does its next deed */
	bool accepted, established, refused, unreachable, ended, exited;
	bool acted;   /* did what its fate says */
	u32 status;
	int error;
	enum fate fate;
	u64 life; /* from established to its fate */
};

struct call {
	struct side client, server;
	u32 requests; /* CONNECT_REQUESTs */
	enum answer answer;
	u64 think;
	u64 asked_at;
	u64 call_at, give_up_at;
};

static struct roce_dev devs[2];
static struct roce_cm_id *listeners[2];
static struct call calls[MAX_CALLS];
static u32 ncalls;
static struct flight *flights;
static u32 nflights;
static u64 now, rng;
static u32 loss, dup, reorder; /* percent */
static u64 reorder_ns;
static const char *wrong;
static bool tracing;
static bool tight; /* few requests at a time */
static u64 schedules_run, established_total, refused_total, sent_total;

static u32 below(u32 n)
{
	return (u32)(bench_rand(&rng) % n);
}

static bool chance(u32 percent)
{
	return below(100) < percent;
}

#define MUST(condition)						\
	do {							\
		if (!(condition) && !wrong)			\
			wrong = #condition;			\
	} while (0)

/* ---- the network ---- */

static void launch(const u8 *mad, const struct roce_path *path, struct side *active)
{
	struct flight *f;

	if (nflights == MAX_FLIGHT) {
		wrong = "messages without end";
		return;
	}
	f = &flights[nflights++];
	f->at = now + 20000 + below(100000);
	if (chance(reorder))
		f->at += bench_rand(&rng) % reorder_ns;
	f->active = active;
	if (!mad)
		return;
	memcpy(f->mad, mad, ROCE_MAD_LEN);
	path_to(&f->path, path->peer, path->local);
}

/* One line per message, when asked for. */
static void trace(const struct roce_dev *d, const u8 *mad, const char *what)
{
	struct roce_cm m;

	if (!tracing || roce_cm_decode(&m, mad, ROCE_MAD_LEN))
		return;
	printf("# %12llu us  %u %s %s %08x %08x", (unsigned long long)(now / 1000), (u32)(d - devs), what,
	       roce_cm_name(m.type), m.u.rtu.local_comm_id, m.type == ROCE_CM_REQ ? 0 : m.u.rtu.remote_comm_id);
	if (m.type == ROCE_CM_REJ)
		printf(" (%s)", roce_cm_reason_name(m.u.rej.reason));
	printf("\n");
}

static void pull(struct roce_dev *d)
{
	const struct roce_path *path;
	const u8 *mad;

	while (roce_cm_poll_tx(d->cm, now, &mad, &path)) {
		sent_total++;
		trace(d, mad, "->");
		for (u32 copies = 1 + chance(dup); copies; copies--)
			if (!chance(loss))
				launch(mad, path, NULL);
	}
}

static struct roce_dev *dev_at(const u8 addr[16])
{
	return &devs[addr[15] - 1];
}

static void land(u32 i)
{
	struct flight f = flights[i];

	flights[i] = flights[--nflights];
	if (f.active) {
		/* The transport tells of packets on a queue pair that belongs to an id. */
		if (f.active->qp && f.active->qp->cm && f.active->qp->state == RACKWIRE_ROCE_QP_RTS)
			roce_cm_qp_active(f.active->qp->cm, now);
		return;
	}
	trace(dev_at(f.path.local), f.mad, "<-");
	roce_cm_rx(dev_at(f.path.local)->cm, now, f.mad, &f.path, 1);
}

/* ---- the applications ---- */

static void param_for(struct rackwire_roce_conn_param *p, const u32 *serial)
{
	*p = plain;
	p->responder_resources = (u8)below(17);
	p->initiator_depth = (u8)below(17);
	p->private_data = serial;
	p->private_data_len = sizeof(*serial);
}

static void accept_call(struct call *c)
{
	struct side *s = &c->server;
	struct rackwire_roce_conn_param p;
	u32 serial = (u32)(c - calls) + 1;
	int err;

	param_for(&p, &serial);
	s->qp = qp_new(s->d);
	err = roce_cm_accept(s->id, now, s->qp, &p, s);
	MUST(err == 0 || (err == -ENOTCONN && (s->refused || s->unreachable || s->id)));
	s->accepted = !err;
}

static void release(struct side *s)
{
	if (s->id)
		roce_cm_destroy(s->id, now);
	s->id = NULL;
}

/* The server's application comes to a decision. */
static void answer(struct call *c)
{
	struct side *s = &c->server;
	u32 serial = (u32)(c - calls) + 1;

	if (!s->id)
		return;
	switch (c->answer) {
	case REJECT:
	case REJECT_LATER:
		MUST(!roce_cm_reject(s->id, now, ROCE_REJ_CONSUMER, &serial, sizeof(serial)));
		s->id = NULL;
		break;
	case DROP:
		release(s);
		break;
	default:
		accept_call(c);
	}
}

static void meet_fate(struct side *s)
{
	s->acted = true;
	switch (s->fate) {
	case DISCONNECT:
		if (s->id)
			MUST(!roce_cm_disconnect(s->id, now));
		break;
	case DESTROY:
		release(s);
		break;
	case FREE_QP:
		if (s->qp)
			qp_free(s->qp);
		s->qp = NULL;
		break;
	case FAIL_QP:
		if (s->qp && s->qp->state == RACKWIRE_ROCE_QP_RTS) {
			s->qp->state = RACKWIRE_ROCE_QP_ERR;
			if (s->qp->cm)
				roce_cm_qp_failed(s->qp->cm, now, -EIO);
		}
		break;
	default:
		s->acted = false;
	}
}

static void call_out(struct call *c)
{
	struct side *s = &c->client;
	struct rackwire_roce_conn_param p;
	struct roce_path path;
	u32 serial = (u32)(c - calls) + 1;

	param_for(&p, &serial);
	path_to(&path, s->d->addr, c->server.d->addr);
	s->qp = qp_new(s->d);
	MUST(!roce_cm_connect(s->d, now, &path, (u16)serial, PORT, s->qp, &p, s, &s->id));
}

static void check_link(const struct call *c)
{
	const struct roce_qp_link *a = &c->client.qp->link, *b = &c->server.qp->link;

	MUST(a->dest_qpn == c->server.qp->num && b->dest_qpn == c->client.qp->num);
	MUST(a->sq_psn == b->rq_psn && a->rq_psn == b->sq_psn);
	MUST(a->mtu == b->mtu && a->max_rd_atomic == b->max_dest_rd_atomic && b->max_rd_atomic == a->max_dest_rd_atomic);
	MUST(a->rnr_retry_count == 6 && b->retry_count == 7);
}

static void requested(struct roce_event *ev)
{
	u32 serial;
	struct call *c;

	MUST(ev->private_data_len == ROCE_CMA_PRIV);
	memcpy(&serial, ev->private_data, sizeof(serial));
	MUST(serial >= 1 && serial <= ncalls);
	if (wrong)
		return;
	c = &calls[serial - 1];
	/* Once; again only when it was refused and the refusals were lost for longer than one is remembered. */
	MUST(!c->requests++ || (!c->server.id && !c->server.accepted && now - c->asked_at > 6 * SEC));
	c->asked_at = now;
	MUST(ev->listener == listeners[c->server.d - devs]);
	c->server.id = ev->id;
	if (c->answer == MRA_THEN_ACCEPT)
		MUST(!roce_cm_mra(ev->id, now));
	if (c->answer == ACCEPT || c->answer == REJECT || c->answer == DROP)
		answer(c);
	else
		c->server.act_at = now + c->think;
}

static struct call *call_of(struct roce_cm_id *id, struct side **side)
{
	for (u32 i = 0; i < ncalls; i++) {
		if (calls[i].client.id == id) {
			*side = &calls[i].client;
			return &calls[i];
		}
		if (calls[i].server.id == id) {
			*side = &calls[i].server;
			return &calls[i];
		}
	}
	return NULL;
}

static void heard(struct roce_event *ev)
{
	struct side *s = NULL;
	struct call *c;
	bool client;
	u32 serial;

	if (ev->cm == RACKWIRE_ROCE_CM_CONNECT_REQUEST) {
		requested(ev);
		return;
	}
	c = call_of(ev->id, &s);
	MUST(c);
	if (wrong)
		return;
	client = s == &c->client;
	serial = (u32)(c - calls) + 1;
	switch (ev->cm) {
	case RACKWIRE_ROCE_CM_ESTABLISHED:
		MUST(!s->established && !s->refused && !s->unreachable && !s->ended);
		MUST(client || s->accepted);
		s->established = true;
		established_total++;
		s->act_at = now + s->life;
		if (!client)
			break;
		MUST(c->server.accepted);
		MUST(ev->private_data_len == ROCE_CM_REP_PRIV && !memcmp(ev->private_data, &serial, sizeof(serial)));
		if (s->qp && c->server.qp)
			check_link(c);
		if (chance(50))
			launch(NULL, NULL, &c->server);
		break;
	case RACKWIRE_ROCE_CM_REJECTED:
		MUST(!s->established && !s->refused && !s->unreachable && !s->ended);
		s->refused = true;
		refused_total++;
		s->status = ev->status;
		if (client && ev->status == ROCE_REJ_CONSUMER && c->answer != DROP)
			MUST(!memcmp(ev->private_data, &serial, sizeof(serial)));
		break;
	case RACKWIRE_ROCE_CM_UNREACHABLE:
		MUST(!s->established && !s->refused && !s->unreachable && !s->ended && ev->error < 0);
		s->unreachable = true;
		s->error = ev->error;
		break;
	case RACKWIRE_ROCE_CM_DISCONNECTED:
		MUST((s->established || s->accepted) && !s->ended && !s->refused && !s->unreachable);
		s->ended = true;
		s->error = ev->error;
		break;
	case RACKWIRE_ROCE_CM_TIMEWAIT_EXIT:
		MUST((s->ended || s->refused || s->unreachable) && !s->exited);
		s->exited = true;
		break;
	default:
		wrong = "an event of no kind";
	}
}

static void deeds(struct call *c)
{
	if (now >= c->call_at) {
		c->call_at = ROCE_NEVER;
		call_out(c);
	}
	if (now >= c->give_up_at) {
		c->give_up_at = ROCE_NEVER;
		c->client.acted |= c->client.id != NULL;
		release(&c->client);
	}
	if (now >= c->client.act_at) {
		c->client.act_at = ROCE_NEVER;
		meet_fate(&c->client);
	}
	if (now >= c->server.act_at) {
		c->server.act_at = ROCE_NEVER;
		if (c->server.accepted)
			meet_fate(&c->server);
		else
			answer(c);
	}
}

/* ---- a schedule ---- */

static u64 next_time(u64 until)
{
	u64 t = until;

	for (u32 i = 0; i < 2; i++)
		t = roce_min(t, roce_cm_deadline(devs[i].cm));
	for (u32 i = 0; i < nflights; i++)
		t = roce_min(t, flights[i].at);
	for (u32 i = 0; i < ncalls; i++)
		t = roce_min(roce_min(t, roce_min(calls[i].call_at, calls[i].give_up_at)),
			     roce_min(calls[i].client.act_at, calls[i].server.act_at));
	return roce_max(t, now);
}

static void settle(void)
{
	struct roce_event ev;

	for (u32 i = 0; i < 2; i++) {
		while (!wrong && roce_cm_poll_event(devs[i].cm, &ev))
			heard(&ev);
		pull(&devs[i]);
	}
}

static void go_on(u64 until)
{
	u32 spins = 0;
	u64 last = now;

	while (!wrong) {
		now = next_time(until);
		if (now >= until)
			break;
		spins = now == last ? spins + 1 : 0;
		last = now;
		MUST(spins < 10000);
		for (u32 i = 0; i < 2; i++) {
			devs[i].now = now;
			roce_cm_tick(devs[i].cm, now);
		}
		for (u32 i = 0; i < nflights;) {
			if (flights[i].at <= now)
				land(i);
			else
				i++;
		}
		settle();
		for (u32 i = 0; i < ncalls; i++)
			deeds(&calls[i]);
		settle();
	}
	now = until;
	devs[0].now = devs[1].now = now;
}

static void plan(u64 seed)
{
	static const u32 losses[] = { 0, 0, 5, 15, 30 };
	static const u32 dups[] = { 0, 5, 30 };
	static const u64 lates[] = { 1 * MSEC, 100 * MSEC, 600 * MSEC, 1500 * MSEC };
	static const u8 any[16];
	struct roce_cfg cfg;

	rng = seed;
	now = 1000 + below(1000000);
	loss = losses[below(5)];
	dup = dups[below(3)];
	reorder = dups[below(3)];
	reorder_ns = lates[below(4)];
	nflights = 0;
	wrong = NULL;
	memset(calls, 0, sizeof(calls));
	dev_cfg(&cfg);
	cfg.cm_retries = 15;
	cfg.timewait_ns = 6 * SEC;
	tight = chance(30);
	cfg.max_half_open = tight ? 1 + below(4) : 64;
	for (u32 i = 0; i < 2; i++) {
		cfg.mtu = 256u << below(5);
		dev_open_with(&devs[i], i + 1, seed, &cfg);
		MUST(!roce_cm_listen(&devs[i], any, PORT, tight ? 1 + below(3) : 0, NULL, &listeners[i]));
	}
	ncalls = 1 + below(MAX_CALLS);
	for (u32 i = 0; i < ncalls; i++) {
		struct call *c = &calls[i];

		c->client.d = &devs[below(2)];
		c->server.d = &devs[chance(10) ? c->client.d - devs : 1 - (c->client.d - devs)];
		c->client.fate = below(FATES);
		c->server.fate = below(FATES);
		c->client.life = below(3) ? bench_rand(&rng) % (2 * SEC) : 0;
		c->server.life = below(3) ? bench_rand(&rng) % (2 * SEC) : 0;
		c->answer = below(ANSWERS);
		c->think = bench_rand(&rng) % (chance(20) ? 20 * SEC : SEC);
		c->call_at = now + bench_rand(&rng) % SEC;
		c->give_up_at = chance(20) ? c->call_at + bench_rand(&rng) % SEC : ROCE_NEVER;
		c->client.act_at = c->server.act_at = ROCE_NEVER;
	}
}

static bool alive(const struct side *s)
{
	return s->id && s->qp && s->qp->state == RACKWIRE_ROCE_QP_RTS && !s->ended && !s->refused && !s->unreachable;
}

/* The stories of both sides, when all is said. */
static void agree(const struct call *c)
{
	const struct side *a = &c->client, *b = &c->server;

	MUST(a->established || a->refused || a->unreachable || a->acted || !a->id);
	MUST(alive(a) == alive(b));
	if (alive(a)) {
		MUST(a->established && b->established);
		check_link(c);
	}
	if (a->refused)
		MUST(!b->established || b->ended || b->acted);
	/* A willing server with room is reached, whatever the network does. */
	if (a->unreachable)
		MUST(a->acted || b->acted || (a->error == -ETIMEDOUT && (tight || loss > 20 || c->think > 4 * SEC)));
	if (a->refused && a->status == ROCE_REJ_CONSUMER)
		MUST(c->answer == REJECT || c->answer == REJECT_LATER || c->answer == DROP);
	if (a->established && !alive(a) && a->id && a->qp)
		MUST(a->ended && a->exited);
	if (b->established && !alive(b) && b->id && b->qp)
		MUST(b->ended && b->exited);
}

static void clean_up(void)
{
	struct roce_info info;

	for (u32 i = 0; i < ncalls; i++) {
		release(&calls[i].client);
		release(&calls[i].server);
	}
	for (u32 i = 0; i < 2; i++)
		roce_cm_destroy(listeners[i], now);
	for (u32 i = 0; i < ncalls; i++) {
		if (calls[i].client.qp)
			qp_free(calls[i].client.qp);
		if (calls[i].server.qp)
			qp_free(calls[i].server.qp);
		calls[i].client.qp = calls[i].server.qp = NULL;
	}
	go_on(now + 400 * SEC);
	for (u32 i = 0; i < 2; i++) {
		roce_cm_info(devs[i].cm, &info);
		MUST(!info.cm_ids && !info.half_open && !info.timewait && !info.listeners);
		MUST(roce_cm_deadline(devs[i].cm) == ROCE_NEVER);
		MUST(dev_close(&devs[i]));
	}
}

static bool schedule(u64 seed)
{
	plan(seed);
	go_on(now + 400 * SEC);
	for (u32 i = 0; i < ncalls && !wrong; i++)
		agree(&calls[i]);
	if (!wrong)
		clean_up();
	schedules_run++;
	if (wrong)
		printf("# seed %llu (loss %u%%, dup %u%%, reorder %u%%): %s\n", (unsigned long long)seed, loss, dup, reorder, wrong);
	return !wrong;
}

static void schedules__end_with_both_sides_agreeing_and_nothing_left(void)
{
	const char *one = getenv("RACKWIRE_SEED"), *many = getenv("RACKWIRE_SCHEDULES");
	const char *tier = getenv("RACKWIRE_TEST_LONG");
	u64 seed = one ? strtoull(one, NULL, 0) : (u64)time(NULL) * 1000003;
	u64 n = one ? 1 : many ? strtoull(many, NULL, 0) : tier && *tier == '1' ? 50 * SCHEDULES : SCHEDULES;

	tracing = getenv("RACKWIRE_TRACE");
	flights = calloc(MAX_FLIGHT, sizeof(*flights));
	printf("# seeds from %llu\n", (unsigned long long)seed);
	for (u64 i = 0; i < n; i++) {
		if (!schedule(seed + i)) {
			printf("# to see it again: RACKWIRE_SEED=%llu build/tests/roce_cm_schedule\n",
			       (unsigned long long)(seed + i));
			break;
		}
	}
	free(flights);
	printf("# %llu schedules, %llu messages, %llu times established, %llu refused\n",
	       (unsigned long long)schedules_run, (unsigned long long)sent_total,
	       (unsigned long long)established_total, (unsigned long long)refused_total);
	TAP_CHECK(!wrong);
	TAP_CHECK(one || (established_total > n && refused_total > n / 4));
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(schedules__end_with_both_sides_agreeing_and_nothing_left),
	};
	return TAP_RUN(tests, argc, argv);
}
