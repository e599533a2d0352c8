// SPDX-License-Identifier: BSD-2-Clause
#include "pair.h"

uint16_t test_udp_port(void)
{
	static uint16_t port;

	if (!port)
		port = (uint16_t)(20000 + getpid() % 10000);
	return port;
}

int dev_open(const char *local, uint32_t flags, struct rackwire_roce_dev **out)
{
	struct rackwire_roce_config config = { .size = sizeof(config), .flags = flags, .udp_port = test_udp_port() };
	char error[RACKWIRE_ROCE_ERROR_LEN];
	int err;

	snprintf(config.local, sizeof(config.local), "%s", local);
	err = rackwire_roce_open(&config, out, error, sizeof(error));
	if (err)
		printf("# %s: %s\n", local, error);
	return err;
}

int end_init(struct end *e, struct rackwire_roce_dev *dev)
{
	const uint32_t access = RACKWIRE_ROCE_LOCAL_WRITE | RACKWIRE_ROCE_REMOTE_WRITE | RACKWIRE_ROCE_REMOTE_READ |
				RACKWIRE_ROCE_REMOTE_ATOMIC;
	const struct rackwire_roce_qp_attr attr = {
		.max_send_wr = 256, .max_recv_wr = 256, .signal_all = 1, .access = access,
	};
	int err;

	memset(e, 0, sizeof(*e));
	e->dev = dev;
	e->memory = calloc(1, MEMORY);
	err = rackwire_roce_pd_create(dev, &e->pd);
	if (!err)
		err = rackwire_roce_cq_create(dev, 1024, e, &e->cq);
	if (!err)
		err = rackwire_roce_mr_register(e->pd, e->memory, MEMORY, access, &e->mr);
	if (!err)
		err = rackwire_roce_qp_create(e->pd, e->cq, e->cq, &attr, e, &e->qp);
	return err;
}

int end_open(struct end *e, const char *local, uint32_t flags)
{
	struct rackwire_roce_dev *dev;
	int err = dev_open(local, flags, &dev);

	memset(e, 0, sizeof(*e));
	if (err)
		return err;
	err = end_init(e, dev);
	e->own_dev = true;
	return err;
}

void end_clear(struct end *e)
{
	if (e->id)
		rackwire_roce_cm_destroy(e->id);
	if (e->qp)
		rackwire_roce_qp_destroy(e->qp);
	if (e->mr)
		rackwire_roce_mr_deregister(e->mr);
	if (e->cq)
		rackwire_roce_cq_destroy(e->cq);
	if (e->pd)
		rackwire_roce_pd_destroy(e->pd);
	free(e->memory);
	e->id = NULL;
	e->qp = NULL;
	e->mr = NULL;
	e->cq = NULL;
	e->pd = NULL;
	e->memory = NULL;
}

void end_close(struct end *e)
{
	end_clear(e);
	if (e->own_dev && e->dev)
		rackwire_roce_close(e->dev);
	e->dev = NULL;
}

int end_listen(struct end *e, uint16_t port, struct rackwire_roce_cm_id **listener)
{
	return rackwire_roce_listen(e->dev, port, 0, NULL, listener);
}

static const struct rackwire_roce_conn_param param = {
	.retry_count = 7, .rnr_retry_count = 7, .responder_resources = 16, .initiator_depth = 16, .ack_timeout = 16,
};

int end_connect(struct end *e, const char *address, uint16_t port)
{
	struct sockaddr_storage target = { 0 };
	struct sockaddr_in *in = (struct sockaddr_in *)&target;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&target;

	if (inet_pton(AF_INET, address, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
	} else {
		inet_pton(AF_INET6, address, &in6->sin6_addr);
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
	}
	return rackwire_roce_connect(e->dev, e->qp, (struct sockaddr *)&target, &param, e, &e->id);
}

static int event_of(struct end *e, uint32_t kind, struct rackwire_roce_cm_event *event)
{
	int n;

	for (;;) {
		n = rackwire_roce_cm_wait(e->dev, event, 20 * SECOND);
		if (n <= 0)
			return n ? n : -ETIMEDOUT;
		if (event->kind == kind)
			return 0;
		if (event->id == e->id && event->kind != RACKWIRE_ROCE_CM_ESTABLISHED)
			return event->kind == RACKWIRE_ROCE_CM_REJECTED ? -ECONNREFUSED : -ECONNRESET;
	}
}

int end_accept(struct end *e)
{
	struct rackwire_roce_cm_event event;
	int err = event_of(e, RACKWIRE_ROCE_CM_CONNECT_REQUEST, &event);

	if (err)
		return err;
	e->id = event.id;
	return rackwire_roce_accept(e->id, e->qp, &param, e);
}

int end_established(struct end *e)
{
	struct rackwire_roce_cm_event event;

	return event_of(e, RACKWIRE_ROCE_CM_ESTABLISHED, &event);
}

int pair_connect(struct end *client, struct end *server, const char *address)
{
	struct rackwire_roce_cm_id *listener;
	uint16_t port;
	int err;

	err = end_listen(server, 0, &listener);
	if (err)
		return err;
	port = rackwire_roce_cm_port(listener);
	err = end_connect(client, address, port);
	if (!err)
		err = end_accept(server);
	if (!err)
		err = end_established(client);
	rackwire_roce_cm_destroy(listener);
	return err;
}

int end_post(struct end *e, uint32_t opcode, uint32_t offset, uint32_t length, uint64_t peer_addr, uint32_t peer_key,
	     uint64_t wr_id)
{
	const struct rackwire_roce_sge sge = { addr_of(e, offset), length, rackwire_roce_mr_key(e->mr) };
	const struct rackwire_roce_send_wr wr = {
		.wr_id = wr_id, .sg_list = &sge, .num_sge = 1, .opcode = opcode, .ex.imm = 77,
		.remote_addr = peer_addr, .rkey = peer_key, .compare_add = 5, .swap = 9,
	};

	return rackwire_roce_post_send(e->qp, &wr, 1, NULL);
}

int end_post_recv(struct end *e, uint32_t offset, uint32_t length, uint64_t wr_id)
{
	const struct rackwire_roce_sge sge = { addr_of(e, offset), length, rackwire_roce_mr_key(e->mr) };
	const struct rackwire_roce_recv_wr wr = { wr_id, &sge, 1 };

	return rackwire_roce_post_recv(e->qp, &wr, 1, NULL);
}

int end_complete(struct end *e, struct rackwire_roce_wc *wc)
{
	int n;

	n = rackwire_roce_cq_wait(e->cq, 10 * SECOND);
	if (n == 1)
		n = rackwire_roce_poll_cq(e->cq, wc, 1);
	if (n < 0)
		return n;
	return n ? (int)wc->status : -ETIMEDOUT;
}

void fill(unsigned char *to, size_t length, uint32_t seed)
{
	size_t i;

	for (i = 0; i < length; i++) {
		seed = seed * 1664525 + 1013904223;
		to[i] = (unsigned char)(seed >> 24);
	}
}

bool filled(const unsigned char *from, size_t length, uint32_t seed)
{
	size_t i;

	for (i = 0; i < length; i++) {
		seed = seed * 1664525 + 1013904223;
		if (from[i] != (unsigned char)(seed >> 24))
			return false;
	}
	return true;
}
