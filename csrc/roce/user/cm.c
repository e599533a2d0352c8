// SPDX-License-Identifier: BSD-2-Clause
/* Connections: handles of the application around those of the core, and the queue of events. */
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "clock.h"
#include "dev.h"
#include "roce/core/roce_mad.h"

#define EPHEMERAL_FIRST 32768u
#define EPHEMERAL_PORTS 28232u
#define PORT_TRIES 64

struct queued_event {
	struct roce_list node;
	struct rackwire_roce_cm_event event;
};

static u16 ephemeral_port(void)
{
	u32 random = 0;

	if (getrandom(&random, sizeof(random), 0) < 0)
		random = (u32)rackwire_now_ns();
	return (u16)(EPHEMERAL_FIRST + random % EPHEMERAL_PORTS);
}

static void path_sockaddr(const u8 addr[16], u32 scope, u16 port, struct sockaddr_storage *out)
{
	memset(out, 0, sizeof(*out));
	roce_addr_to(addr, port, scope, roce_addr_is_v4(addr) ? AF_INET : AF_INET6, out);
}

static struct rackwire_roce_cm_id *id_new(struct rackwire_roce_dev *dev, void *context)
{
	struct rackwire_roce_cm_id *id = calloc(1, sizeof(*id));

	if (id) {
		id->dev = dev;
		id->context = context;
		roce_list_add_tail(&dev->ids, &id->node);
	}
	return id;
}

static void id_free(struct rackwire_roce_cm_id *id)
{
	roce_list_del(&id->node);
	free(id);
}

/* ---- events ---- */

/* The descriptor is readable while there are events. */
static void announce(struct rackwire_roce_dev *dev)
{
	struct roce_list *l;

	if (dev->cm_fd >= 0)
		roce_poke(dev->cm_fd);
	for (l = dev->waiters.next; l != &dev->waiters; l = l->next)
		if (roce_container(l, struct roce_waiter, node)->cm)
			pthread_cond_signal(&roce_container(l, struct roce_waiter, node)->cond);
	if (dev->app_sleeps)
		roce_poke(dev->app_fd);
}

static void fill_event(struct rackwire_roce_cm_event *e, const struct roce_event *ev, struct rackwire_roce_cm_id *id)
{
	u16 local, peer;

	e->kind = ev->cm;
	e->error = ev->error;
	e->status = ev->status;
	e->id = id;
	e->listener = ev->listener ? roce_cm_user(ev->listener) : NULL;
	e->context = id->context;
	e->responder_resources = ev->responder_resources;
	e->initiator_depth = ev->initiator_depth;
	e->private_data_len = (u32)roce_min(ev->private_data_len, sizeof(e->private_data));
	if (e->private_data_len)
		memcpy(e->private_data, ev->private_data, e->private_data_len);
	roce_cm_ports(ev->id, &local, &peer);
	path_sockaddr(roce_cm_path(ev->id)->peer, roce_cm_path(ev->id)->scope, peer, &e->peer);
}

/* The core knows the handle of a request only once it is accepted. */
static struct rackwire_roce_cm_id *id_of(struct rackwire_roce_dev *dev, const struct roce_cm_id *core)
{
	struct rackwire_roce_cm_id *id = roce_cm_user(core);
	struct roce_list *l;

	for (l = dev->ids.next; !id && l != &dev->ids; l = l->next)
		if (roce_container(l, struct rackwire_roce_cm_id, node)->core == core)
			id = roce_container(l, struct rackwire_roce_cm_id, node);
	return id;
}

void roce_cm_event(struct rackwire_roce_dev *dev, const struct roce_event *ev)
{
	struct queued_event *q = calloc(1, sizeof(*q));
	struct rackwire_roce_cm_id *id;

	if (ev->cm == RACKWIRE_ROCE_CM_CONNECT_REQUEST) {
		struct rackwire_roce_cm_id *listener = roce_cm_user(ev->listener);

		id = q ? id_new(dev, listener->context) : NULL;
		if (!id) {
			free(q);
			roce_cm_reject(ev->id, dev->now, ROCE_REJ_NO_RESOURCES, NULL, 0);
			dev->tx_pending = true;
			return;
		}
		id->core = ev->id;
		id->listener = listener;
	} else {
		id = id_of(dev, ev->id);
	}
	if (!q || !id) {
		free(q);
		return; /* of a handle that was given up */
	}
	fill_event(&q->event, ev, id);
	roce_list_add_tail(&dev->events, &q->node);
	if (!dev->nevents++)
		announce(dev);
}

static void drop_event(struct rackwire_roce_dev *dev, struct queued_event *q)
{
	u64 value;

	roce_list_del(&q->node);
	if (!--dev->nevents && dev->cm_fd >= 0 && read(dev->cm_fd, &value, sizeof(value)) < 0)
		value = 0;
	free(q);
}

static int next_event(struct rackwire_roce_dev *dev, struct rackwire_roce_cm_event *event)
{
	struct queued_event *q;

	if (roce_list_empty(&dev->events))
		return 0;
	q = roce_container(dev->events.next, struct queued_event, node);
	*event = q->event;
	drop_event(dev, q);
	return 1;
}

int rackwire_roce_cm_next(struct rackwire_roce_dev *dev, struct rackwire_roce_cm_event *event)
{
	int n;

	roce_lock(dev);
	if (!dev->nevents && !dev->app_sleeps) {
		roce_drive(dev);
		dev->app_at = dev->now;
	}
	roce_settle(dev);
	n = next_event(dev, event);
	roce_unlock(dev);
	return n;
}

int rackwire_roce_cm_fd(struct rackwire_roce_dev *dev)
{
	int fd;

	roce_lock(dev);
	if (dev->cm_fd < 0) {
		dev->cm_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (dev->cm_fd >= 0 && dev->nevents)
			roce_poke(dev->cm_fd);
	}
	fd = dev->cm_fd < 0 ? -errno : dev->cm_fd;
	roce_unlock(dev);
	return fd;
}

int rackwire_roce_cm_wait(struct rackwire_roce_dev *dev, struct rackwire_roce_cm_event *event, uint64_t timeout_ns)
{
	u64 until = roce_after(rackwire_now_ns(), timeout_ns), now;
	int r, n;

	for (;;) {
		now = rackwire_now_ns();
		r = roce_wait(dev, NULL, true, -1, until > now ? until - now : 0);
		if (r <= 0)
			return r;
		roce_lock(dev);
		n = next_event(dev, event); /* another thread may have been faster */
		roce_unlock(dev);
		if (n)
			return n;
	}
}

static void forget_events(struct rackwire_roce_dev *dev, const struct rackwire_roce_cm_id *id)
{
	struct roce_list *l, *next;

	for (l = dev->events.next; l != &dev->events; l = next) {
		struct queued_event *q = roce_container(l, struct queued_event, node);

		next = l->next;
		if (q->event.listener == id)
			q->event.listener = NULL;
		if (!id || q->event.id == id)
			drop_event(dev, q);
	}
}

/* ---- listening ---- */

static int listen_on(struct rackwire_roce_cm_id *id, u16 port, u32 backlog)
{
	struct rackwire_roce_dev *dev = id->dev;
	static const u8 any[16];
	int err;

	err = roce_cm_listen(dev->core, any, port, backlog, id, &id->core);
	if (err)
		return err;
	err = roce_share_listen(dev, port);
	if (err) {
		roce_cm_destroy(id->core, dev->now);
		id->core = NULL;
		return err;
	}
	id->listens = port;
	return 0;
}

int rackwire_roce_listen(struct rackwire_roce_dev *dev, uint16_t port, uint32_t backlog, void *context,
			 struct rackwire_roce_cm_id **out)
{
	struct rackwire_roce_cm_id *id;
	int err, i;

	roce_lock(dev);
	dev->now = rackwire_now_ns();
	id = id_new(dev, context);
	err = id ? -EADDRINUSE : -ENOMEM;
	for (i = 0; id && err == -EADDRINUSE && i < (port ? 1 : PORT_TRIES); i++)
		err = listen_on(id, port ? port : ephemeral_port(), backlog);
	if (err && id)
		id_free(id);
	if (!err)
		*out = id;
	roce_unlock(dev);
	return err;
}

/* ---- connections ---- */

static int find_path(struct rackwire_roce_dev *dev, const struct sockaddr *target, struct roce_path *path, u16 *port)
{
	u32 mtu, payload;
	int err;

	if (!target || (target->sa_family != AF_INET && target->sa_family != AF_INET6))
		return -EAFNOSUPPORT;
	roce_addr_from(target, path->peer, port, &path->scope);
	if (!*port || roce_addr_is_any(path->peer))
		return -EINVAL;
	if (!dev->wildcard && roce_addr_is_v4(dev->local) != roce_addr_is_v4(path->peer))
		return -EAFNOSUPPORT;
	if (dev->family == AF_INET && !roce_addr_is_v4(path->peer))
		return -EAFNOSUPPORT;
	if (!path->scope && roce_addr_is_link_local(path->peer))
		path->scope = dev->scope;
	err = roce_route(dev->wildcard ? NULL : dev->local, path->peer, path->scope, path->local, &mtu);
	if (err)
		return err;
	payload = roce_payload_for(path->peer, mtu);
	path->mtu = (u16)payload;
	return payload ? 0 : -EMSGSIZE;
}

int rackwire_roce_connect(struct rackwire_roce_dev *dev, struct rackwire_roce_qp *qp, const struct sockaddr *target,
			  const struct rackwire_roce_conn_param *param, void *context, struct rackwire_roce_cm_id **out)
{
	struct rackwire_roce_cm_id *id;
	struct roce_path path = { 0 };
	u16 port;
	int err;

	if (!qp || qp->dev != dev || !param)
		return -EINVAL;
	err = find_path(dev, target, &path, &port);
	if (err)
		return err;
	path.tos = param->tos & 0xfc;
	roce_lock(dev);
	dev->now = rackwire_now_ns();
	id = id_new(dev, context);
	err = id ? roce_cm_connect(dev->core, dev->now, &path, ephemeral_port(), port, qp->core, param, id, &id->core) :
		   -ENOMEM;
	if (err && id)
		id_free(id);
	if (!err) {
		*out = id;
		dev->tx_pending = true;
	}
	roce_settle(dev);
	roce_unlock(dev);
	return err;
}

int rackwire_roce_accept(struct rackwire_roce_cm_id *id, struct rackwire_roce_qp *qp,
			 const struct rackwire_roce_conn_param *param, void *context)
{
	struct rackwire_roce_dev *dev = id->dev;
	int err = -EINVAL;

	roce_lock(dev);
	dev->now = rackwire_now_ns();
	if (id->core && qp && qp->dev == dev && param)
		err = roce_cm_accept(id->core, dev->now, qp->core, param, id);
	if (!err)
		id->context = context;
	dev->tx_pending = true;
	roce_settle(dev);
	roce_unlock(dev);
	return err;
}

int rackwire_roce_reject(struct rackwire_roce_cm_id *id, uint32_t reason, const void *private_data, uint32_t length)
{
	struct rackwire_roce_dev *dev = id->dev;
	int err = -EINVAL;

	roce_lock(dev);
	dev->now = rackwire_now_ns();
	if (id->core)
		err = roce_cm_reject(id->core, dev->now, reason, private_data, length);
	if (!err) {
		forget_events(dev, id);
		id_free(id);
	}
	dev->tx_pending = true;
	roce_settle(dev);
	roce_unlock(dev);
	return err;
}

int rackwire_roce_disconnect(struct rackwire_roce_cm_id *id)
{
	struct rackwire_roce_dev *dev = id->dev;
	int err = -EINVAL;

	roce_lock(dev);
	dev->now = rackwire_now_ns();
	if (id->core)
		err = roce_cm_disconnect(id->core, dev->now);
	dev->tx_pending = true;
	roce_settle(dev);
	roce_unlock(dev);
	return err;
}

static void id_destroy(struct rackwire_roce_cm_id *id)
{
	struct rackwire_roce_dev *dev = id->dev;
	struct roce_list *l;

	if (id->core)
		roce_cm_destroy(id->core, dev->now);
	if (id->listens)
		roce_share_unlisten(dev, id->listens);
	forget_events(dev, id);
	for (l = dev->ids.next; l != &dev->ids; l = l->next)
		if (roce_container(l, struct rackwire_roce_cm_id, node)->listener == id)
			roce_container(l, struct rackwire_roce_cm_id, node)->listener = NULL;
	id_free(id);
}

void rackwire_roce_cm_destroy(struct rackwire_roce_cm_id *id)
{
	struct rackwire_roce_dev *dev = id->dev;

	roce_lock(dev);
	dev->now = rackwire_now_ns();
	id_destroy(id);
	dev->tx_pending = true;
	roce_settle(dev);
	roce_unlock(dev);
}

void roce_cm_forget_all(struct rackwire_roce_dev *dev)
{
	while (!roce_list_empty(&dev->ids))
		id_destroy(roce_container(dev->ids.next, struct rackwire_roce_cm_id, node));
	forget_events(dev, NULL);
}

uint16_t rackwire_roce_cm_port(struct rackwire_roce_cm_id *id)
{
	u16 local = 0, peer;

	roce_lock(id->dev);
	if (id->core)
		roce_cm_ports(id->core, &local, &peer);
	roce_unlock(id->dev);
	return id->listens ? id->listens : local;
}

int rackwire_roce_cm_addresses(struct rackwire_roce_cm_id *id, struct sockaddr_storage *local, struct sockaddr_storage *peer)
{
	const struct roce_path *path;
	u16 here, there;
	int err = -ENOTCONN;

	roce_lock(id->dev);
	if (id->core && !id->listens) {
		path = roce_cm_path(id->core);
		roce_cm_ports(id->core, &here, &there);
		path_sockaddr(path->local, path->scope, here, local);
		path_sockaddr(path->peer, path->scope, there, peer);
		err = 0;
	}
	roce_unlock(id->dev);
	return err;
}
