/* SPDX-License-Identifier: BSD-2-Clause */
/* What the core tells of connections and queue pairs, and what applications do then. */
#include "vapp.h"

/* ---- the connection manager's events ---- */

static void answer_call(struct vnet *net, void *arg, u64 tag)
{
	struct vside *s = arg;
	struct vconn *c = s->conn;
	int r;

	if (s->died || s->life != (u32)tag || s->state != V_IDLE || !s->id)
		return;
	vhost_touch(s->host);
	switch (c->answer) {
	case VANSWER_REJECT:
		r = roce_cm_reject(s->id, vhost_clock(s->host), c->reason, c->private_data[2], c->private_len[2]);
		if (r)
			vnet_fail(net, "connection %u: roce_cm_reject gives %d", c->index, r);
		s->id = NULL;
		s->state = V_GONE;
		return;
	case VANSWER_DESTROY:
		roce_cm_destroy(s->id, vhost_clock(s->host));
		s->id = NULL;
		s->state = V_GONE;
		return;
	default:
		break;
	}
	if (!vside_make(s)) {
		if (!vapp_of(net)->allow_nomem)
			vnet_fail(net, "connection %u: the accepting end cannot be made", c->index);
		vside_destroy(s);
		return;
	}
	c->param[1].private_data = c->private_data[1];
	c->param[1].private_data_len = c->private_len[1];
	s->state = V_CONNECTING;
	vpost_recvs(s);
	r = roce_cm_accept(s->id, vhost_clock(s->host), s->qp, &c->param[1], s);
	if (r && !(r == -ENOMEM && vapp_of(net)->allow_nomem))
		vnet_fail(net, "connection %u: roce_cm_accept gives %d", c->index, r);
	if (r) {
		vside_destroy(s);
		return;
	}
	if (roce_cm_user(s->id) != s || roce_cm_qp(s->id) != s->qp)
		vnet_fail(net, "connection %u: the accepted id forgets its user or its queue pair", c->index);
	vside_run(s);
}

static bool private_right(const struct vconn *c, u32 which, const struct roce_event *ev)
{
	if (ev->private_data_len < c->private_len[which] ||
	    memcmp(ev->private_data, c->private_data[which], c->private_len[which]))
		return false;
	for (u32 i = c->private_len[which]; i < ev->private_data_len; i++)
		if (ev->private_data[i])
			return false;
	return true;
}

static void connect_request(struct vhost *h, const struct roce_event *ev)
{
	struct vnet *net = h->net;
	struct vapp *app = vapp_of(net);
	struct vhostapp *a = vapp_host(h);
	u32 index = ev->private_data_len >= 8 ? roce_get32(ev->private_data + 4) : ~0u;
	struct vconn *c = index < app->nconns ? app->conns[index] : NULL;
	struct vside *s = c ? &c->side[1] : NULL;
	u16 local, peer;

	if (!c || roce_get32(ev->private_data) != VMAGIC || s->host != h || ev->listener != a->listener || !c->started ||
	    !private_right(c, 0, ev)) {
		if (!net->forged)
			vnet_fail(net, "device %u: a connection request that nobody made", h->index);
		roce_cm_destroy(ev->id, vhost_clock(h));
		return;
	}
	if (s->state != V_IDLE || s->id) {
		if (!c->may_not_connect && !net->forged)
			vnet_fail(net, "connection %u is requested twice", c->index);
		app->strays++;
		roce_cm_reject(ev->id, vhost_clock(h), RACKWIRE_ROCE_REJ_CONSUMER, NULL, 0);
		return;
	}
	roce_cm_ports(ev->id, &local, &peer);
	if (!net->forged &&
	    (local != VPORT || peer != 20000 + c->index || vnet_index(net, roce_cm_path(ev->id)->local) != h->index ||
	     vnet_index(net, roce_cm_path(ev->id)->peer) != c->side[0].host->index))
		vnet_fail(net, "connection %u: requested from port %u to %u, or other addresses", c->index, peer, local);
	if (!net->forged && (ev->responder_resources != c->param[0].initiator_depth ||
			     ev->initiator_depth != c->param[0].responder_resources))
		vnet_fail(net, "connection %u: the request offers depths %u and %u, not %u and %u", c->index,
			  ev->responder_resources, ev->initiator_depth, c->param[0].initiator_depth,
			  c->param[0].responder_resources);
	s->id = ev->id;
	s->life = h->life;
	if (c->mra)
		roce_cm_mra(s->id, vhost_clock(h));
	if (c->answer_delay)
		vnet_at(net, net->now + c->answer_delay, answer_call, s, h->life);
	else
		answer_call(net, s, h->life);
}

static struct vside *side_of(struct vhost *h, const struct roce_cm_id *id)
{
	struct vapp *app = vapp_of(h->net);

	for (u32 i = 0; i < 2 * app->nconns; i++) {
		struct vside *s = &app->conns[i / 2]->side[i & 1];

		if (s->id == id && s->host == h && !s->died)
			return s;
	}
	return NULL;
}

static void not_connected(struct vside *s, const struct roce_event *ev)
{
	struct vconn *c = s->conn;
	struct vnet *net = s->host->net;
	bool rejected = ev->cm == RACKWIRE_ROCE_CM_REJECTED;

	if (s->established)
		vnet_fail(net, "connection %u end %u: event %u after it was established", c->index, s->who, ev->cm);
	if (c->answer == VANSWER_ACCEPT && !c->may_not_connect)
		vnet_fail(net, "connection %u end %u: event %u, status %u, error %d", c->index, s->who, ev->cm, ev->status,
			  ev->error);
	if (rejected && s->who == 0 && !c->may_not_connect) {
		u32 want = c->answer == VANSWER_REJECT ? c->reason :
			   c->answer == VANSWER_NOBODY ? RACKWIRE_ROCE_REJ_INVALID_SERVICE_ID :
							 RACKWIRE_ROCE_REJ_CONSUMER;

		if (ev->status != want)
			vnet_fail(net, "connection %u: rejected with reason %u, not %u", c->index, ev->status, want);
		if (c->answer == VANSWER_REJECT && !private_right(c, 2, ev))
			vnet_fail(net, "connection %u: what the rejection says is not what was said", c->index);
	}
	rejected ? s->refused++ : s->unreachable++;
	vside_closing(s);
}

static void established(struct vside *s, const struct roce_event *ev)
{
	struct vconn *c = s->conn;
	struct vnet *net = s->host->net;

	if (++s->established > 1 || s->refused || s->unreachable || s->disconnected)
		vnet_fail(net, "connection %u end %u: established, after all", c->index, s->who);
	if (c->answer != VANSWER_ACCEPT)
		vnet_fail(net, "connection %u end %u: established though nobody accepted", c->index, s->who);
	if (s->who == 0 && !private_right(c, 1, ev) && !net->forged)
		vnet_fail(net, "connection %u: what the reply says is not what was said", c->index);
	if (s->state == V_CONNECTING) {
		s->state = V_UP;
		s->next_post = net->now + s->plan.start_ns;
	}
	vside_run(s);
}

static void on_cm(struct vhost *h, const struct roce_event *ev)
{
	struct vnet *net = h->net;
	struct vside *s;

	if (ev->cm == RACKWIRE_ROCE_CM_CONNECT_REQUEST) {
		connect_request(h, ev);
		return;
	}
	s = side_of(h, ev->id);
	if (!s) {
		vnet_fail(net, "device %u: event %u of an id that does not exist", h->index, ev->cm);
		return;
	}
	switch (ev->cm) {
	case RACKWIRE_ROCE_CM_ESTABLISHED:
		established(s, ev);
		break;
	case RACKWIRE_ROCE_CM_REJECTED:
	case RACKWIRE_ROCE_CM_UNREACHABLE:
		not_connected(s, ev);
		break;
	case RACKWIRE_ROCE_CM_DISCONNECTED:
		if (++s->disconnected > 1)
			vnet_fail(net, "connection %u end %u: disconnected twice", s->conn->index, s->who);
		if (!s->conn->closing && !s->conn->on_purpose && !s->conn->may && !net->forged)
			vnet_fail(net, "connection %u end %u: disconnected (%d), and nobody wanted it", s->conn->index, s->who,
				  ev->error);
		vside_closing(s);
		break;
	case RACKWIRE_ROCE_CM_TIMEWAIT_EXIT:
		break;
	default:
		vnet_fail(net, "device %u: an unknown event %u", h->index, ev->cm);
	}
}

void vapp_event(struct vhost *h, const struct roce_event *ev)
{
	struct vhostapp *a = vapp_host(h);
	struct vnet *net = h->net;
	struct vside *s;

	switch (ev->kind) {
	case ROCE_EV_CQ:
		if (ev->cq != a->cq[0] && ev->cq != a->cq[1])
			vnet_fail(net, "device %u: an event of an unknown completion queue", h->index);
		a->signal = true;
		a->poll_at = net->now + (a->linger ? vrange(&net->rng, 0, a->linger) : 0);
		break;
	case ROCE_EV_QP:
		s = roce_qp_user(ev->qp);
		if (s->qp != ev->qp || s->host != h || ++s->qp_errors > 1)
			vnet_fail(net, "device %u: a queue pair's error is told twice, or of another one", h->index);
		if (roce_qp_state(ev->qp) != RACKWIRE_ROCE_QP_ERR)
			vnet_fail(net, "connection %u end %u: an error, but its state is %u", s->conn->index, s->who,
				  roce_qp_state(ev->qp));
		if (!s->conn->closing && !s->conn->on_purpose && !s->conn->may && !net->forged)
			vnet_fail(net, "connection %u end %u: its queue pair fails with %d", s->conn->index, s->who, ev->error);
		break;
	case ROCE_EV_CM:
		on_cm(h, ev);
		break;
	default:
		vnet_fail(net, "device %u: an unknown kind of event, %u", h->index, ev->kind);
	}
}

