// SPDX-License-Identifier: BSD-2-Clause
/* Connections by librdmacm. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "address.h"
#include "clock.h"
#include "verbs.h"

static int id_new(struct rdma_dev *dev, struct rdma_cm_id *cm, void *context, struct rdma_id **out)
{
	struct rdma_id *id = calloc(1, sizeof(*id));

	if (!id)
		return -ENOMEM;
	id->dev = dev;
	id->cm = cm;
	id->context = context;
	if (cm)
		cm->context = id;
	*out = id;
	return 0;
}

void verbs_id_destroy(struct rdma_id *id)
{
	if (id->cm)
		id->dev->lib->destroy_id(id->cm);
	free(id);
}

/* ---- events ---- */

static uint32_t kind_of(enum rdma_cm_event_type type)
{
	switch (type) {
	case RDMA_CM_EVENT_CONNECT_REQUEST:
		return RACKWIRE_ROCE_CM_CONNECT_REQUEST;
	case RDMA_CM_EVENT_ESTABLISHED:
		return RACKWIRE_ROCE_CM_ESTABLISHED;
	case RDMA_CM_EVENT_REJECTED:
		return RACKWIRE_ROCE_CM_REJECTED;
	case RDMA_CM_EVENT_UNREACHABLE:
	case RDMA_CM_EVENT_CONNECT_ERROR:
		return RACKWIRE_ROCE_CM_UNREACHABLE;
	case RDMA_CM_EVENT_DISCONNECTED:
	case RDMA_CM_EVENT_DEVICE_REMOVAL:
		return RACKWIRE_ROCE_CM_DISCONNECTED;
	case RDMA_CM_EVENT_TIMEWAIT_EXIT:
		return RACKWIRE_ROCE_CM_TIMEWAIT_EXIT;
	default:
		return 0;
	}
}

static void fill(struct rdma_event *event, const struct rdma_cm_event *ev)
{
	uint32_t length = ev->param.conn.private_data ? ev->param.conn.private_data_len : 0;

	memset(event, 0, sizeof(*event));
	event->kind = kind_of(ev->event);
	if (event->kind == RACKWIRE_ROCE_CM_REJECTED)
		event->status = (uint32_t)ev->status;
	else if (event->kind == RACKWIRE_ROCE_CM_UNREACHABLE)
		event->error = ev->status < 0 ? ev->status : -ETIMEDOUT;
	else if (ev->event == RDMA_CM_EVENT_DEVICE_REMOVAL)
		event->error = -ENODEV;
	event->responder_resources = ev->param.conn.responder_resources;
	event->initiator_depth = ev->param.conn.initiator_depth;
	event->peer = ev->id->route.addr.dst_storage;
	event->private_data_len = length < sizeof(event->private_data) ? length : sizeof(event->private_data);
	if (event->private_data_len)
		memcpy(event->private_data, ev->param.conn.private_data, event->private_data_len);
}

/* An id for a connection request, if this device can serve it. */
static int adopt(struct rdma_dev *dev, struct rdma_cm_id *cm, struct rdma_event *event)
{
	int err = cm->verbs == dev->verbs ? id_new(dev, cm, NULL, &event->id) : -ENODEV;

	if (!err)
		return 0;
	dev->lib->reject(cm, NULL, 0);
	dev->lib->destroy_id(cm);
	return err;
}

int verbs_cm_next(struct rdma_dev *dev, struct rdma_event *event)
{
	struct rdma_cm_id *cm, *listener;
	struct rdma_cm_event *ev;
	bool request;

	while (!dev->lib->get_cm_event(dev->events, &ev)) {
		fill(event, ev);
		request = ev->event == RDMA_CM_EVENT_CONNECT_REQUEST;
		cm = ev->id;
		listener = ev->listen_id;
		/* An id cannot be destroyed before its events are acknowledged. */
		dev->lib->ack_cm_event(ev);
		if (!event->kind)
			continue;
		if (request) {
			event->listener = listener->context;
			event->context = event->listener->context;
			if (adopt(dev, cm, event))
				continue;
			return 1;
		}
		event->id = cm->context;
		if (event->id->listener)
			continue;
		event->context = event->id->context;
		return 1;
	}
	return 0;
}

/* ---- connecting ---- */

int verbs_listen(struct rdma_dev *dev, const struct sockaddr *local, uint32_t backlog, void *context,
		 struct rdma_id **out, uint16_t *port)
{
	const struct verbs_lib *lib = dev->lib;
	struct rdma_id *id;
	int err;

	err = id_new(dev, NULL, context, &id);
	if (err)
		return err;
	id->listener = true;
	if (lib->create_id(dev->events, &id->cm, id, RDMA_PS_TCP)) {
		err = -errno;
		free(id);
		return err;
	}
	if (lib->bind_addr(id->cm, (struct sockaddr *)local) || lib->listen(id->cm, (int)backlog)) {
		err = -errno;
		verbs_id_destroy(id);
		return err;
	}
	*port = ntohs(lib->get_src_port(id->cm));
	*out = id;
	return 0;
}

/* One step of resolving, on a channel that has no other events. */
static int step(struct rdma_dev *dev, struct rdma_event_channel *channel, enum rdma_cm_event_type wanted,
		uint64_t timeout_ns)
{
	struct pollfd fds[2] = { { .fd = dev->wake_fd, .events = POLLIN }, { .fd = channel->fd, .events = POLLIN } };
	uint64_t until = rackwire_now_ns() + timeout_ns, now;
	struct rdma_cm_event *ev;
	int err;

	for (;;) {
		now = rackwire_now_ns();
		if (now >= until)
			return -ETIMEDOUT;
		if (poll(fds, 2, (int)((until - now) / 1000000) + 1) < 0 && errno != EINTR)
			return -errno;
		if (fds[0].revents) /* wait() takes it back */
			return -ECANCELED;
		if (!fds[1].revents || dev->lib->get_cm_event(channel, &ev))
			continue;
		err = ev->event == wanted ? 0 : ev->status < 0 ? ev->status : -EHOSTUNREACH;
		dev->lib->ack_cm_event(ev);
		return err;
	}
}

static int resolve(struct rdma_dev *dev, struct rdma_event_channel *channel, struct rdma_cm_id *cm,
		   const struct sockaddr *target, uint64_t timeout_ns, uint8_t tos, uint8_t ack_timeout)
{
	const struct verbs_lib *lib = dev->lib;
	struct sockaddr_storage to = { 0 };
	int ms = (int)(timeout_ns / 1000000) + 1, err;

	memcpy(&to, target,
	       target->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
	if (tos && lib->set_option(cm, RDMA_OPTION_ID, RDMA_OPTION_ID_TOS, &tos, sizeof(tos)))
		return -errno;
	if (lib->resolve_addr(cm, dev->local.ss_family ? (struct sockaddr *)&dev->local : NULL,
			      (struct sockaddr *)&to, ms))
		return -errno;
	err = step(dev, channel, RDMA_CM_EVENT_ADDR_RESOLVED, timeout_ns);
	if (err)
		return err;
	if (cm->verbs != dev->verbs)
		return -ENODEV; /* the way there leads over another device */
	/* Kernels before 5.1 do not know it and take their own. */
	lib->set_option(cm, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &ack_timeout, sizeof(ack_timeout));
	if (lib->resolve_route(cm, ms))
		return -errno;
	return step(dev, channel, RDMA_CM_EVENT_ROUTE_RESOLVED, timeout_ns);
}

int verbs_prepare(struct rdma_dev *dev, const struct sockaddr *target, uint64_t timeout_ns, uint8_t tos,
		  uint8_t ack_timeout, void *context, struct rdma_id **out)
{
	const struct verbs_lib *lib = dev->lib;
	struct rdma_event_channel *channel;
	struct rdma_cm_id *cm;
	int err;

	channel = lib->create_event_channel();
	if (!channel)
		return -errno;
	if (lib->create_id(channel, &cm, NULL, RDMA_PS_TCP)) {
		err = -errno;
		lib->destroy_event_channel(channel);
		return err;
	}
	err = resolve(dev, channel, cm, target, timeout_ns, tos, ack_timeout);
	if (!err && lib->migrate_id(cm, dev->events))
		err = -errno;
	if (!err)
		err = id_new(dev, cm, context, out);
	if (err)
		lib->destroy_id(cm);
	lib->destroy_event_channel(channel);
	return err;
}

static struct rdma_conn_param param_of(const struct rackwire_roce_conn_param *p)
{
	return (struct rdma_conn_param){
		.private_data = p->private_data,
		.private_data_len = (uint8_t)p->private_data_len,
		.responder_resources = p->responder_resources,
		.initiator_depth = p->initiator_depth,
		.retry_count = p->retry_count,
		.rnr_retry_count = p->rnr_retry_count,
	};
}

int verbs_connect(struct rdma_id *id, struct rdma_qp *qp, const struct rackwire_roce_conn_param *param)
{
	struct rdma_conn_param p = param_of(param);

	(void)qp; /* made for this id */
	return id->dev->lib->connect(id->cm, &p) ? -errno : 0;
}

int verbs_accept(struct rdma_id *id, struct rdma_qp *qp, const struct rackwire_roce_conn_param *param, void *context)
{
	struct rdma_conn_param p = param_of(param);

	(void)qp;
	id->context = context;
	return id->dev->lib->accept(id->cm, &p) ? -errno : 0;
}

int verbs_reject(struct rdma_id *id, const void *private_data, uint32_t length)
{
	return id->dev->lib->reject(id->cm, private_data, (uint8_t)length) ? -errno : 0;
}

int verbs_disconnect(struct rdma_id *id)
{
	return id->dev->lib->disconnect(id->cm) ? -errno : 0;
}
