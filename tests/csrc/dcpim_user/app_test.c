// SPDX-License-Identifier: BSD-2-Clause
/* The app interface: hot loops on the shards' own threads, without copies. */
#include "dcpim/user/engine.h"
#include "pair.h"

#define ROUNDS 200
#define PING 64

struct app {
	struct rackwire_dcpim_engine *engine;
	struct dcpim_engine_listener *listener;
	struct sockaddr_storage to;
	enum dcpim_kind kind;
	bool server, done;
	u32 timers, rounds, connected;
	u64 echoed;
	int stop, result, error;
	pthread_t thread;
};

static void send_ping(struct app *app, struct dcpim_shard *s, struct dcpim_flow *f, u64 now)
{
	struct dcpim_buf buf;

	if (dcpim_shard_buf(s, PING, &buf)) {
		app->error = -ENOMEM;
		return;
	}
	fill_pattern((u8 *)buf.ptr, PING, app->rounds);
	if (app->kind == DCPIM_MESSAGE)
		app->error = dcpim_send_msg(f, now, &buf, 1, DCPIM_MSG_QUIET, NULL, NULL);
	else
		app->error = dcpim_send(f, now, &buf) == PING ? 0 : -EIO;
	if (app->error)
		dcpim_shard_buf_put(s, &buf);
}

/* The received memory itself goes back, with a reference of its own. */
static void echo_stream(struct app *app, struct dcpim_shard *s, struct dcpim_flow *f, u64 now)
{
	struct dcpim_buf buf;

	while (dcpim_recv_peek(f, &buf, 1)) {
		u32 length = buf.len;

		dcpim_shard_buf_ref(s, &buf);
		if (dcpim_send(f, now, &buf) < 0) {
			dcpim_shard_buf_put(s, &buf);
			return;
		}
		app->echoed += length;
		dcpim_consume(f, now, length);
	}
}

static void echo_message(struct app *app, struct dcpim_shard *s, struct dcpim_flow *f, u64 now)
{
	struct dcpim_rxmsg msg;
	struct dcpim_buf buf[4];
	int n, i;

	while ((n = dcpim_msg_peek(f, &msg, buf, 0, 4)) > 0) {
		for (i = 0; i < n; i++)
			dcpim_shard_buf_ref(s, &buf[i]);
		if (dcpim_send_msg(f, now, buf, (u32)n, DCPIM_MSG_QUIET, NULL, NULL)) {
			for (i = 0; i < n; i++)
				dcpim_shard_buf_put(s, &buf[i]);
			return;
		}
		app->echoed += msg.size;
		dcpim_msg_consume(f, now);
	}
}

static bool take_pong(struct app *app, struct dcpim_flow *f, u64 now)
{
	struct dcpim_rxmsg msg;
	struct dcpim_buf buf;
	bool good;

	if (app->kind == DCPIM_MESSAGE) {
		if (dcpim_msg_peek(f, &msg, &buf, 0, 1) < 1)
			return false;
		good = msg.size == PING && is_pattern(buf.ptr, buf.len, app->rounds);
		dcpim_msg_consume(f, now);
	} else {
		if (!dcpim_recv_peek(f, &buf, 1))
			return false;
		good = buf.len == PING && is_pattern(buf.ptr, buf.len, app->rounds);
		dcpim_consume(f, now, buf.len);
	}
	if (!good)
		app->error = -EBADMSG;
	app->rounds++;
	return true;
}

static void on_event(void *arg, struct dcpim_shard *s, const struct dcpim_event *ev, u64 now)
{
	struct app *app = arg;

	if (ev->mask & DCPIM_EV_ACCEPT)
		dcpim_accepted(ev->flow);
	if (ev->mask & DCPIM_EV_ERROR) {
		app->error = ev->error;
		dcpim_close(ev->flow, now, true);
		__atomic_store_n(&app->done, true, __ATOMIC_RELEASE);
		return;
	}
	if (ev->mask & DCPIM_EV_CONNECTED) {
		app->connected++;
		send_ping(app, s, ev->flow, now);
	}
	if (ev->mask & DCPIM_EV_READABLE && app->server && app->kind == DCPIM_MESSAGE)
		echo_message(app, s, ev->flow, now);
	else if (ev->mask & DCPIM_EV_READABLE && app->server)
		echo_stream(app, s, ev->flow, now);
	else if (ev->mask & DCPIM_EV_READABLE && take_pong(app, ev->flow, now) && app->rounds < ROUNDS)
		send_ping(app, s, ev->flow, now);
	if (!app->server && (app->rounds == ROUNDS || app->error)) {
		dcpim_close(ev->flow, now, false);
		__atomic_store_n(&app->done, true, __ATOMIC_RELEASE);
		return;
	}
	if (ev->mask & DCPIM_EV_EOF)
		dcpim_close(ev->flow, now, false);
}

static void on_timer(void *arg, struct dcpim_shard *s, u64 now)
{
	struct app *app = arg;
	struct dcpim_flow *f;
	int err;

	__atomic_fetch_add(&app->timers, 1, __ATOMIC_RELAXED);
	if (app->timers < 3)
		dcpim_shard_set_deadline(s, now + 1000000);
	if (app->server || app->timers != 3)
		return;
	err = dcpim_shard_connect(s, app->kind, NULL, &app->to, NULL, &f);
	if (err) {
		app->error = err;
		__atomic_store_n(&app->done, true, __ATOMIC_RELEASE);
	}
}

static const struct dcpim_app_ops app_ops = { on_event, on_timer };

static void *run(void *arg)
{
	struct app *app = arg;

	app->result = dcpim_engine_run(app->engine, &app->stop);
	return NULL;
}

static void finish(struct app *app)
{
	__atomic_store_n(&app->stop, 1, __ATOMIC_RELEASE);
	dcpim_engine_wake(app->engine);
	pthread_join(app->thread, NULL);
}

static void ping(enum dcpim_kind kind)
{
	struct app server = { .server = true, .kind = kind }, client = { .kind = kind };

	TAP_CHECK(!dcpim_engine_open(&pair.config, &app_ops, &server, &server.engine, NULL, 0));
	TAP_CHECK(!dcpim_engine_open(&pair.config, &app_ops, &client, &client.engine, NULL, 0));
	client.to = pair.addr;
	((struct sockaddr_in *)&client.to)->sin_port = 0;
	TAP_CHECK(!dcpim_engine_listen(server.engine, &client.to, 3, 16, NULL, &server.listener));
	((struct sockaddr_in *)&client.to)->sin_port = htons(dcpim_engine_listen_port(server.listener));
	TAP_CHECK(!pthread_create(&server.thread, NULL, run, &server));
	TAP_CHECK(!pthread_create(&client.thread, NULL, run, &client));
	EVENTUALLY(__atomic_load_n(&client.done, __ATOMIC_ACQUIRE));
	finish(&client);
	finish(&server);
	TAP_CHECK(!client.error && client.rounds == ROUNDS && client.connected == 1);
	TAP_CHECK(!server.error && server.echoed == ROUNDS * PING);
	TAP_CHECK(!client.result && !server.result && client.timers >= 3);
	rackwire_dcpim_engine_close(client.engine, 100 * MS);
	rackwire_dcpim_engine_close(server.engine, 0);
}

static void app__stream_ping(void)
{
	ping(DCPIM_STREAM);
}
EACH_ENGINE(app__stream_ping)

static void app__message_ping(void)
{
	ping(DCPIM_MESSAGE);
}
EACH_ENGINE(app__message_ping)

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		EACH_TEST(app__stream_ping),
		EACH_TEST(app__message_ping),
	};

	return TAP_RUN(tests, argc, argv);
}
