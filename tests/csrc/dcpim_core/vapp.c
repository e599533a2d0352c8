/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdlib.h>

#include "vapp.h"

#define PIECES 8

static void side_run(struct vside *s);

static struct vside *peer_of(const struct vside *s)
{
	return &s->conn->side[!s->who];
}

static u64 stream_seed(const struct vside *sender)
{
	return sender->conn->seed ^ (sender->who ? 0x5bd1e995aa55ull : 0);
}

static u64 msg_seed(const struct vside *sender, u32 index)
{
	return stream_seed(sender) + (u64)(index + 1) * 0x2545f4914f6cdd1dull;
}

/* ---- timers of the applications ---- */

static void side_call(struct vnet *net, void *arg, u64 tag)
{
	struct vside *s = arg;

	(void)net;
	if (s->timer != tag)
		return;
	s->timer = DCPIM_NEVER;
	if (s->flow) {
		side_run(s);
		vhost_touch(s->host);
	}
}

static void side_arm(struct vside *s, u64 at)
{
	if (at >= s->timer)
		return;
	s->timer = at;
	vnet_at(s->host->net, at, side_call, s, at);
}

/* ---- writing ---- */

void vside_close(struct vside *s, bool abort)
{
	struct dcpim_flow *flow = s->flow;

	if (!flow)
		return;
	s->flow = NULL;
	s->closed = true;
	dcpim_close(flow, vhost_clock(s->host), abort);
	vhost_touch(s->host);
}

/* Whether a refusal of send() is in order; arranges for the next try. */
static bool refused(struct vside *s, int err)
{
	struct vnet *net = s->host->net;

	if (err == -EAGAIN) {
		s->writable_due = true;
		return true;
	}
	if (err == -ENOMEM && vapp_of(net)->allow_nomem) {
		s->next_write = net->now + 10 * USEC;
		side_arm(s, s->next_write);
		return true;
	}
	/* A forged opening may name any limit. */
	if (err == -EMSGSIZE && vapp_of(net)->forged)
		return true;
	/* The flow has failed and its event waits to be polled. */
	return err == -ECONNRESET || err == -ECONNREFUSED || err == -ETIMEDOUT || err == -EHOSTUNREACH;
}

static bool write_stream(struct vside *s)
{
	struct vnet *net = s->host->net;
	u32 n = (u32)dcpim_min(vrange(&net->rng, s->plan.chunk_min, s->plan.chunk_max), s->plan.total - s->tx_done);
	struct vhold *hold = vhold_new(s->host, n);
	struct dcpim_buf buf = vhold_buf(hold);
	int r;

	vpattern_fill(stream_seed(s), s->tx_done, hold->bytes, n);
	r = dcpim_send(s->flow, vhost_clock(s->host), &buf);
	if (r == (int)n) {
		s->tx_done += n;
		return true;
	}
	vhold_drop(hold);
	if (r >= 0 || !refused(s, r))
		vnet_fail(net, "connection %u: dcpim_send of %u bytes gives %d", s->conn->index, n, r);
	return false;
}

static bool write_msg(struct vside *s)
{
	struct vnet *net = s->host->net;
	struct vmsg *m = &s->msgs[s->msgs_sent];
	struct vhold *holds[4];
	struct dcpim_buf bufs[4];
	u32 n = 0, done = 0;
	int r;

	if (m->size == ~0u)
		m->size = (u32)vrange(&net->rng, s->plan.msg_min, s->plan.msg_max);
	while (done < m->size) {
		u32 len = m->size - done;

		if (n < 3 && vchance(&net->rng, 300000))
			len = (u32)vrange(&net->rng, 1, len);
		holds[n] = vhold_new(s->host, len);
		vpattern_fill(msg_seed(s, s->msgs_sent), done, holds[n]->bytes, len);
		bufs[n] = vhold_buf(holds[n]);
		done += len;
		n++;
	}
	m->id = ~0ull;
	r = dcpim_send_msg(s->flow, vhost_clock(s->host), bufs, n, s->plan.quiet_msgs ? DCPIM_MSG_QUIET : 0, m, &m->id);
	if (r == 0) {
		for (u32 i = 0; i < s->msgs_sent; i++)
			if (s->msgs[i].id == m->id)
				vnet_fail(net, "connection %u: two messages with one id", s->conn->index);
		m->sent = true;
		s->msgs_sent++;
		s->tx_done += m->size;
		return true;
	}
	for (u32 i = 0; i < n; i++)
		vhold_drop(holds[i]);
	if (r > 0 || !refused(s, r))
		vnet_fail(net, "connection %u: dcpim_send_msg of %u bytes gives %d", s->conn->index, m->size, r);
	return false;
}

static bool all_written(const struct vside *s)
{
	return s->conn->kind == DCPIM_STREAM ? s->tx_done == s->plan.total : s->msgs_sent == s->plan.msgs;
}

static void side_write(struct vside *s)
{
	struct vnet *net = s->host->net;
	bool stream = s->conn->kind == DCPIM_STREAM;

	while (s->flow && !s->shut && !s->error && !s->writable_due && !net->failed) {
		if (net->now < s->next_write) {
			side_arm(s, s->next_write);
			return;
		}
		if (s->plan.end == VEND_ABORT_SENT && (stream ? s->tx_done : s->msgs_sent) >= s->plan.end_at) {
			vside_close(s, true);
			return;
		}
		if (all_written(s))
			break;
		if (stream ? !write_stream(s) : !write_msg(s))
			return;
		if (s->plan.write_gap_ns)
			s->next_write = net->now + vrange(&net->rng, 0, 2 * s->plan.write_gap_ns);
	}
	if (!s->flow || s->shut || s->error || !all_written(s))
		return;
	/* Closed before it is open and with nothing queued, a connection is given up: there is nothing to see then. */
	if (s->plan.end == VEND_CLOSE && !s->opened && !s->tx_done)
		return;
	if (s->plan.end == VEND_SHUTDOWN || s->plan.end == VEND_CLOSE_READ) {
		int r = dcpim_shutdown(s->flow, vhost_clock(s->host));

		s->shut = true;
		if (r && !refused(s, r))
			vnet_fail(net, "connection %u: dcpim_shutdown gives %d", s->conn->index, r);
	} else if (s->plan.end == VEND_CLOSE) {
		s->shut = true;
		vside_close(s, false);
	}
}

/* ---- reading ---- */

static bool take_bytes(struct vside *s, const struct dcpim_buf *buf, u32 n)
{
	struct vnet *net = s->host->net;
	struct vside *peer = peer_of(s);

	if (vapp_of(net)->forged)
		return true;
	if (s->rx_done + n > peer->tx_done) {
		vnet_fail(net, "connection %u: %llu bytes read, only %llu were written", s->conn->index,
			  (unsigned long long)(s->rx_done + n), (unsigned long long)peer->tx_done);
		return false;
	}
	if (!vpattern_check(stream_seed(peer), s->rx_done, buf->ptr, n)) {
		vnet_fail(net, "connection %u: wrong bytes between %llu and %llu", s->conn->index,
			  (unsigned long long)s->rx_done, (unsigned long long)(s->rx_done + n));
		return false;
	}
	s->rx_done += n;
	vapp_of(net)->rx_bytes += n;
	return true;
}

/* Returns whether nothing is left to read. */
static bool read_stream(struct vside *s)
{
	struct vnet *net = s->host->net;
	u64 left = s->plan.read_max ? s->plan.read_max : ~0ull;
	struct dcpim_buf bufs[PIECES];

	for (;;) {
		u32 n = dcpim_recv_peek(s->flow, bufs, PIECES);
		u64 taken = 0;

		if (!n)
			return true;
		if (!left)
			return false;
		for (u32 i = 0; i < n && left; i++) {
			u32 len = (u32)dcpim_min(left, bufs[i].len);

			if (!len) {
				vnet_fail(net, "connection %u: an empty piece to read", s->conn->index);
				return true;
			}
			if (!take_bytes(s, &bufs[i], len))
				return true;
			taken += len;
			left -= len;
		}
		dcpim_consume(s->flow, vhost_clock(s->host), taken);
	}
}

static bool check_msg(struct vside *s, const struct dcpim_rxmsg *m)
{
	struct vnet *net = s->host->net;
	struct vside *peer = peer_of(s);
	struct dcpim_buf bufs[PIECES];
	struct vmsg *known = NULL;
	u32 index, piece = 0, done = 0;

	for (index = 0; index < peer->msgs_sent; index++) {
		if (peer->msgs[index].id == m->id) {
			known = &peer->msgs[index];
			break;
		}
	}
	if (!known || known->size != m->size || known->received) {
		vnet_fail(net, "connection %u: message %llu of %u bytes %s", s->conn->index, (unsigned long long)m->id,
			  m->size, !known ? "was never sent" : known->received ? "came twice" : "has another size");
		return false;
	}
	known->received = true;
	while (piece < m->nbufs) {
		struct dcpim_rxmsg again;
		int n = dcpim_msg_peek(s->flow, &again, bufs, piece, PIECES);

		if (n <= 0) {
			vnet_fail(net, "connection %u: message of %u pieces has only %u", s->conn->index, m->nbufs, piece);
			return false;
		}
		for (int i = 0; i < n; i++) {
			if (bufs[i].len > m->size - done ||
			    !vpattern_check(msg_seed(peer, index), done, bufs[i].ptr, bufs[i].len)) {
				vnet_fail(net, "connection %u: wrong bytes in message %llu near %u", s->conn->index,
					  (unsigned long long)m->id, done);
				return false;
			}
			done += bufs[i].len;
		}
		piece += (u32)n;
	}
	if (done != m->size) {
		vnet_fail(net, "connection %u: message %llu has %u of %u bytes", s->conn->index,
			  (unsigned long long)m->id, done, m->size);
		return false;
	}
	return true;
}

static bool read_msgs(struct vside *s)
{
	struct vapp *app = vapp_of(s->host->net);
	u32 left = s->plan.read_max ? s->plan.read_max : ~0u;

	for (;;) {
		struct dcpim_rxmsg m = { 0 };
		int n = dcpim_msg_peek(s->flow, &m, NULL, 0, 0);

		if (n == -EAGAIN)
			return true;
		if (!left)
			return false;
		if (n < 0 || (!app->forged && !check_msg(s, &m))) {
			vnet_fail(s->host->net, "connection %u: dcpim_msg_peek gives %d", s->conn->index, n);
			return true;
		}
		dcpim_msg_consume(s->flow, vhost_clock(s->host));
		s->msgs_read++;
		s->rx_done += m.size;
		app->rx_bytes += m.size;
		app->rx_msgs++;
		left--;
	}
}

static bool read_all_of_peer(const struct vside *s)
{
	const struct vside *peer = peer_of(s);

	return s->conn->kind == DCPIM_STREAM ? s->rx_done == peer->tx_done : s->msgs_read == peer->msgs_sent;
}

static void side_read(struct vside *s)
{
	struct vnet *net = s->host->net;
	bool stream = s->conn->kind == DCPIM_STREAM, empty = false;
	u64 before;
	u32 msgs;

	while (s->flow && !empty && !net->failed) {
		u64 from = dcpim_max(s->next_read, s->read_from);

		if (net->now < from) {
			side_arm(s, from);
			return;
		}
		before = s->rx_done;
		msgs = s->msgs_read;
		empty = stream ? read_stream(s) : read_msgs(s);
		if (s->rx_done != before || s->msgs_read != msgs)
			s->last_read_at = net->now;
		if (s->plan.read_gap_ns && (s->rx_done != before || s->msgs_read != msgs))
			s->next_read = net->now + vrange(&net->rng, 0, 2 * s->plan.read_gap_ns);
		if (s->plan.end == VEND_CLOSE_READ && (stream ? s->rx_done : s->msgs_read) >= s->plan.end_at) {
			vside_close(s, false);
			return;
		}
	}
	if (!s->flow || !s->eof || net->failed)
		return;
	if (!read_all_of_peer(s) && !vapp_of(net)->forged) {
		vnet_fail(net, "connection %u: end of stream after %llu bytes of %llu", s->conn->index,
			  (unsigned long long)s->rx_done, (unsigned long long)peer_of(s)->tx_done);
		return;
	}
	if (s->shut && (s->drained || s->conn->seed & 0x100))
		vside_close(s, false);
}

static void side_run(struct vside *s)
{
	if (s->flow && (s->opened || s->who == 0))
		side_write(s);
	if (s->flow && s->opened)
		side_read(s);
}

void vapp_poke(struct vside *s)
{
	side_run(s);
	vhost_touch(s->host);
}

/* ---- events ---- */

static void side_opened(struct vside *s)
{
	struct vnet *net = s->host->net;

	s->opened = true;
	s->opened_at = net->now;
	s->read_from = net->now + s->plan.stall_ns;
	if (s->who == 1)
		s->next_write = net->now + s->plan.start_ns;
}

static struct vside *accepted(struct vhost *h, const struct dcpim_event *ev)
{
	struct vapp *app = vapp_of(h->net);
	struct dcpim_flow_info info;

	dcpim_flow_info(ev->flow, &info);
	dcpim_accepted(ev->flow);
	for (u32 i = app->nconns; i-- > 0;) {
		struct vconn *c = app->conns[i];
		struct vside *s = &c->side[1];

		if (s->host != h || s->opened || !c->started || c->kind != info.kind || c->dport != info.sport ||
		    c->sport != info.dport || c->side[0].host->index != vnet_index(&info.path) ||
		    c->side[0].life != c->side[0].host->life)
			continue;
		s->flow = ev->flow;
		s->life = h->life;
		dcpim_flow_set_user(ev->flow, s);
		side_opened(s);
		return s;
	}
	app->strays++;
	dcpim_flow_set_user(ev->flow, NULL);
	dcpim_close(ev->flow, vhost_clock(h), true);
	return NULL;
}

static void acked(struct vside *s)
{
	struct vnet *net = s->host->net;
	void *user;
	u64 id;

	while (dcpim_msg_acked(s->flow, &user, &id)) {
		struct vmsg *m = user;

		if (m < s->msgs || m >= s->msgs + s->msgs_sent || m->id != id || m->acked || s->plan.quiet_msgs) {
			vnet_fail(net, "connection %u: a completion that is not due", s->conn->index);
			return;
		}
		m->acked = true;
		s->msgs_acked++;
	}
}

static void at_eof(struct vside *s)
{
	struct vside *peer = peer_of(s);
	struct dcpim_flow_info info;

	s->eof = true;
	if (vapp_of(s->host->net)->forged)
		return;
	dcpim_flow_info(s->flow, &info);
	if (!peer->shut && !peer->closed)
		vnet_fail(s->host->net, "connection %u: end of stream, but the peer has not closed", s->conn->index);
	else if (s->conn->kind == DCPIM_STREAM && s->rx_done + info.rx_queued != peer->tx_done)
		vnet_fail(s->host->net, "connection %u: end of stream with %llu + %llu of %llu bytes", s->conn->index,
			  (unsigned long long)s->rx_done, (unsigned long long)info.rx_queued,
			  (unsigned long long)peer->tx_done);
}

static void at_drained(struct vside *s)
{
	struct vside *peer = peer_of(s);
	struct dcpim_flow_info info;

	s->drained = true;
	if (!s->shut)
		vnet_fail(s->host->net, "connection %u: drained without a shutdown", s->conn->index);
	if (!peer->flow || s->conn->kind != DCPIM_STREAM || vapp_of(s->host->net)->forged)
		return;
	dcpim_flow_info(peer->flow, &info);
	if (peer->rx_done + info.rx_queued != s->tx_done)
		vnet_fail(s->host->net, "connection %u: drained, but the peer has %llu of %llu bytes", s->conn->index,
			  (unsigned long long)(peer->rx_done + info.rx_queued), (unsigned long long)s->tx_done);
}

static void on_event(struct vhost *h, const struct dcpim_event *ev)
{
	struct vside *s;

	if (ev->mask & DCPIM_EV_ACCEPT)
		s = accepted(h, ev);
	else
		s = dcpim_flow_user(ev->flow);
	if (!s)
		return;
	if (s->flow != ev->flow || s->host != h) {
		vnet_fail(h->net, "an event 0x%x of a flow that was closed", ev->mask);
		return;
	}
	if (ev->mask & DCPIM_EV_CONNECTED) {
		if (s->who || s->opened)
			vnet_fail(h->net, "connection %u: connected twice", s->conn->index);
		side_opened(s);
	}
	if (ev->mask & DCPIM_EV_WRITABLE)
		s->writable_due = false;
	if (ev->mask & DCPIM_EV_MSG_ACKED)
		acked(s);
	if (ev->mask & DCPIM_EV_EOF)
		at_eof(s);
	if (ev->mask & DCPIM_EV_DRAINED)
		at_drained(s);
	if (ev->mask & DCPIM_EV_ERROR) {
		if (s->error || !ev->error)
			vnet_fail(h->net, "connection %u: error %d after %d", s->conn->index, ev->error, s->error);
		s->error = ev->error ? ev->error : -EIO;
		s->error_at = h->net->now;
		vside_close(s, true);
		return;
	}
	side_run(s);
}

static void on_dying(struct vhost *h)
{
	struct vapp *app = vapp_of(h->net);

	for (u32 i = 0; i < 2 * app->nconns; i++) {
		struct vside *s = &app->conns[i / 2]->side[i & 1];

		if (s->host == h && s->flow) {
			s->flow = NULL;
			s->closed = s->died = true;
		}
	}
}

/* ---- making connections ---- */

static void start(struct vnet *net, void *arg, u64 tag)
{
	struct vconn *c = arg;
	struct vside *s = &c->side[0];
	struct dcpim_path to = vnet_path(c->side[1].host->index);
	struct dcpim_flow_info info;
	int r;

	(void)tag;
	c->started = true;
	for (u32 who = 0; who < 2; who++) {
		struct vside *each = &c->side[who];

		each->msgs = calloc(each->plan.msgs + 1, sizeof(*each->msgs));
		for (u32 i = 0; i < each->plan.msgs; i++)
			each->msgs[i].size = ~0u;
	}
	if (!s->host->core) {
		s->closed = s->died = true;
		return;
	}
	r = dcpim_connect(s->host->core, vhost_clock(s->host), c->kind, &to, c->sport, c->dport, s, &s->flow);
	if (r) {
		s->flow = NULL;
		s->closed = true;
		s->error = r;
		s->error_at = net->now;
		if (!((r == -ENOMEM || r == -ENFILE) && vapp_of(net)->allow_nomem))
			vnet_fail(net, "connection %u: dcpim_connect gives %d", c->index, r);
		return;
	}
	s->life = s->host->life;
	dcpim_flow_info(s->flow, &info);
	c->sport = info.sport;
	s->next_write = net->now + s->plan.start_ns;
	side_run(s);
	vhost_touch(s->host);
}

struct vconn *vapp_add(struct vnet *net, enum dcpim_kind kind, u32 from, u32 to, u16 dport, u64 start_at)
{
	struct vapp *app = vapp_of(net);
	struct vconn *c = calloc(1, sizeof(*c));

	if (app->nconns == app->cap) {
		app->cap = app->cap ? 2 * app->cap : 16;
		app->conns = realloc(app->conns, app->cap * sizeof(*app->conns));
	}
	if (!c || !app->conns)
		abort();
	c->index = app->nconns;
	app->conns[app->nconns++] = c;
	c->seed = vrand(&net->rng);
	c->kind = kind;
	c->dport = dport;
	c->start_at = start_at;
	for (u32 who = 0; who < 2; who++) {
		struct vside *s = &c->side[who];

		s->conn = c;
		s->who = who;
		s->host = &net->hosts[who ? to : from];
		s->timer = DCPIM_NEVER;
		s->plan.chunk_min = 1;
		s->plan.chunk_max = 65536;
	}
	vnet_at(net, start_at, start, c, 0);
	return c;
}

void vapp_listen(struct vhost *h, u16 port)
{
	struct dcpim_listener *l;
	int r = dcpim_listen(h->core, port, 1u << DCPIM_STREAM | 1u << DCPIM_MESSAGE, 65535, ~0u, NULL, &l);

	if (r && !(r == -ENOMEM && vapp_of(h->net)->allow_nomem))
		vnet_fail(h->net, "dcpim_listen gives %d", r);
}

void vapp_init(struct vapp *app, struct vnet *net)
{
	memset(app, 0, sizeof(*app));
	net->user = app;
	net->ops.event = on_event;
	net->ops.dying = on_dying;
	net->ops.served = vcheck_bounds;
}

void vapp_fini(struct vapp *app)
{
	for (u32 i = 0; i < app->nconns; i++) {
		free(app->conns[i]->side[0].msgs);
		free(app->conns[i]->side[1].msgs);
		free(app->conns[i]);
	}
	free(app->conns);
	app->conns = NULL;
	app->nconns = app->cap = 0;
}

/* ---- how it ended ---- */

static bool sends_something(const struct vside *s)
{
	return s->conn->kind == DCPIM_STREAM ? s->plan.total > 0 : s->plan.msgs > 0;
}

static bool cuts_short(const struct vside *s)
{
	switch (s->plan.end) {
	case VEND_ABORT_SENT:
	case VEND_CLOSE_READ:
		return true;
	case VEND_CLOSE:
		return sends_something(peer_of(s));
	default:
		return false;
	}
}

bool vconn_clean(const struct vconn *c)
{
	return !cuts_short(&c->side[0]) && !cuts_short(&c->side[1]) && !c->expect_refused && !c->expect_broken;
}

static bool side_done(const struct vside *s)
{
	const struct vside *peer = peer_of(s);

	if (s->closed)
		return true;
	if (!s->opened || !all_written(s))
		return false;
	if (s->plan.end != VEND_KEEP && peer->plan.end != VEND_KEEP)
		return false; /* it will close */
	if (s->shut && !s->drained)
		return false;
	if (!s->plan.quiet_msgs && s->msgs_acked != s->msgs_sent)
		return false;
	return all_written(peer) && read_all_of_peer(s) && (peer->plan.end == VEND_KEEP || s->eof);
}

bool vconn_done(const struct vconn *c)
{
	if (!c->started)
		return false;
	if (c->side[0].closed && !c->side[1].opened)
		return c->side[0].error || c->side[0].died || c->side[0].plan.end != VEND_CLOSE || !vconn_clean(c);
	return side_done(&c->side[0]) && side_done(&c->side[1]);
}

bool vapp_done(struct vnet *net)
{
	struct vapp *app = vapp_of(net);

	for (u32 i = 0; i < app->nconns; i++)
		if (!vconn_done(app->conns[i]))
			return false;
	return true;
}

bool vapp_delivered(struct vnet *net)
{
	struct vapp *app = vapp_of(net);

	for (u32 i = 0; i < app->nconns; i++) {
		for (u32 who = 0; who < 2; who++) {
			const struct vside *s = &app->conns[i]->side[who];

			if (!app->conns[i]->started || !all_written(s) || !read_all_of_peer(peer_of(s)))
				return false;
		}
	}
	return true;
}

static void check_side(struct vside *s)
{
	struct vnet *net = s->host->net;
	struct vconn *c = s->conn;

	if (c->expect_refused) {
		if (s->who == 0 && s->plan.end != VEND_CLOSE && s->error != -ECONNREFUSED && s->error != -ETIMEDOUT && s->error != -EHOSTUNREACH)
			vnet_fail(net, "connection %u to nobody ends with %d", c->index, s->error);
		return;
	}
	if (vconn_clean(c)) {
		if (s->error)
			vnet_fail(net, "connection %u: end %u fails with %d", c->index, s->who, s->error);
		else if (!all_written(s) || !read_all_of_peer(peer_of(s)) || !side_done(s))
			vnet_fail(net,
				  "connection %u end %u: %llu of %llu bytes, %u of %u messages written; peer read "
				  "%llu, %u;%s%s%s%s%s%s",
				  c->index, s->who, (unsigned long long)s->tx_done, (unsigned long long)s->plan.total,
				  s->msgs_sent, s->plan.msgs, (unsigned long long)peer_of(s)->rx_done,
				  peer_of(s)->msgs_read, s->opened ? " opened" : "", s->shut ? " shut" : "",
				  s->eof ? " eof" : "", s->drained ? " drained" : "", s->closed ? " closed" : "",
				  s->writable_due ? " waits to write" : "");
		return;
	}
	if (s->error && s->error != -ECONNRESET && s->error != -ETIMEDOUT && s->error != -ECONNREFUSED &&
	    s->error != -EHOSTUNREACH && !(s->error == -ENOMEM && vapp_of(net)->allow_nomem))
		vnet_fail(net, "connection %u ends with %d", c->index, s->error);
	if (s->error == -ETIMEDOUT && !c->expect_broken && c->side[0].opened)
		vnet_fail(net, "connection %u: timed out though the peer lives", c->index);
}

void vapp_check_ends(struct vnet *net)
{
	struct vapp *app = vapp_of(net);

	for (u32 i = 0; i < 2 * app->nconns && !net->failed; i++)
		check_side(&app->conns[i / 2]->side[i & 1]);
}

void vapp_close_all(struct vnet *net, bool abort)
{
	struct vapp *app = vapp_of(net);

	for (u32 i = 0; i < 2 * app->nconns; i++)
		vside_close(&app->conns[i / 2]->side[i & 1], abort);
}
