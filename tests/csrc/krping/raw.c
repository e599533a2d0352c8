// SPDX-License-Identifier: BSD-2-Clause
#include "raw.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "krping/wire.h"

#define PATIENCE_NS 10000000000ull
#define RECVS 4
#define SLOT 2048
#define SEND_ID 100

static uint8_t *slot(struct raw *r, uint32_t index)
{
	static _Thread_local uint8_t slots[RECVS + 1][SLOT];

	(void)r;
	return slots[index];
}

static int post_recv(struct raw *r, uint32_t index)
{
	struct rackwire_roce_sge sge = { .addr = (uintptr_t)slot(r, index), .length = SLOT,
					 .lkey = RACKWIRE_ROCE_LOCAL_DMA_LKEY };
	struct rackwire_roce_recv_wr wr = { .wr_id = index, .sg_list = &sge, .num_sge = 1 };

	return rackwire_roce_post_recv(r->qp, &wr, 1, NULL);
}

int raw_open(struct raw *r)
{
	struct rackwire_roce_config config = { .size = sizeof(config) };
	char error[RACKWIRE_ROCE_ERROR_LEN];
	int err;

	memset(r, 0, sizeof(*r));
	strcpy(config.local, "127.0.0.1");
	err = rackwire_roce_open(&config, &r->dev, error, sizeof(error));
	if (err) {
		printf("# %s\n", error);
		return err;
	}
	err = rackwire_roce_pd_create(r->dev, &r->pd);
	if (!err)
		err = rackwire_roce_cq_create(r->dev, 64, NULL, &r->cq);
	if (!err)
		err = rackwire_roce_mr_register(r->pd, r->memory, sizeof(r->memory), 0xf, &r->mr);
	return err;
}

void raw_close(struct raw *r)
{
	if (r->dev)
		rackwire_roce_close(r->dev);
	r->dev = NULL;
}

static int queue_pair(struct raw *r)
{
	struct rackwire_roce_qp_attr attr = { .access = 0xf };
	uint32_t i;
	int err;

	err = rackwire_roce_qp_create(r->pd, r->cq, r->cq, &attr, NULL, &r->qp);
	for (i = 0; !err && i < RECVS; i++)
		err = post_recv(r, i);
	return err;
}

static const struct rackwire_roce_conn_param base = {
	.responder_resources = 4, .initiator_depth = 4, .retry_count = 7, .rnr_retry_count = 7, .ack_timeout = 17,
};

static int next_event(struct raw *r, uint32_t kind)
{
	int n;

	do {
		n = rackwire_roce_cm_wait(r->dev, &r->event, PATIENCE_NS);
	} while (n == 1 && r->event.kind == RACKWIRE_ROCE_CM_TIMEWAIT_EXIT);
	return n == 1 && r->event.kind == kind ? 0 : n == 1 ? -ECONNREFUSED : -ETIMEDOUT;
}

int raw_connect(struct raw *r, uint16_t port, const void *private_data, uint32_t length)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct rackwire_roce_conn_param param = base;
	int err;

	param.private_data = private_data;
	param.private_data_len = length;
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	err = queue_pair(r);
	if (!err)
		err = rackwire_roce_connect(r->dev, r->qp, (struct sockaddr *)&sin, &param, NULL, &r->id);
	return err ? err : next_event(r, RACKWIRE_ROCE_CM_ESTABLISHED);
}

int raw_listen(struct raw *r)
{
	int err = rackwire_roce_listen(r->dev, 0, 8, NULL, &r->listener);

	r->port = err ? 0 : rackwire_roce_cm_port(r->listener);
	return err;
}

int raw_accept(struct raw *r, const void *private_data, uint32_t length)
{
	struct rackwire_roce_conn_param param = base;
	int err;

	param.private_data = private_data;
	param.private_data_len = length;
	err = next_event(r, RACKWIRE_ROCE_CM_CONNECT_REQUEST);
	if (!err)
		err = queue_pair(r);
	if (err)
		return err;
	r->id = r->event.id;
	err = rackwire_roce_accept(r->id, r->qp, &param, NULL);
	return err ? err : next_event(r, RACKWIRE_ROCE_CM_ESTABLISHED);
}

/* The next completion of sends or of receives. */
static int completion(struct raw *r, bool send, struct rackwire_roce_wc *wc)
{
	static _Thread_local struct rackwire_roce_wc kept[64];
	static _Thread_local uint32_t nkept;
	uint32_t i;

	for (;;) {
		for (i = 0; i < nkept; i++) {
			if ((kept[i].wr_id == SEND_ID) != send || kept[i].qp_num != rackwire_roce_qp_num(r->qp))
				continue;
			*wc = kept[i];
			memmove(&kept[i], &kept[i + 1], (--nkept - i) * sizeof(kept[0]));
			return 0;
		}
		if (nkept == 64)
			nkept = 0; /* of connections long gone */
		if (rackwire_roce_cq_wait(r->cq, PATIENCE_NS) != 1)
			return -ETIMEDOUT;
		nkept += (uint32_t)rackwire_roce_poll_cq(r->cq, kept + nkept, 1);
	}
}

int raw_send(struct raw *r, const void *data, uint32_t length)
{
	struct rackwire_roce_sge sge = { .addr = (uintptr_t)slot(r, RECVS), .length = length,
					 .lkey = RACKWIRE_ROCE_LOCAL_DMA_LKEY };
	struct rackwire_roce_send_wr wr = { .wr_id = SEND_ID, .sg_list = &sge, .num_sge = 1,
					    .opcode = RACKWIRE_ROCE_WR_SEND, .flags = RACKWIRE_ROCE_SEND_SIGNALED };
	struct rackwire_roce_wc wc;
	int err;

	memcpy(slot(r, RECVS), data, length);
	err = rackwire_roce_post_send(r->qp, &wr, 1, NULL);
	if (!err)
		err = completion(r, true, &wc);
	return err ? err : (int)wc.status;
}

int raw_advertise(struct raw *r, uint64_t addr, uint32_t rkey, uint32_t size)
{
	struct wire_adv adv = { .addr = addr, .rkey = rkey, .size = size };
	uint8_t bytes[WIRE_ADV_LEN];

	wire_adv_encode(bytes, &adv);
	return raw_send(r, bytes, sizeof(bytes));
}

int raw_recv(struct raw *r, void *data, uint32_t room)
{
	struct rackwire_roce_wc wc;
	int err = completion(r, false, &wc);

	if (err)
		return err;
	if (wc.status)
		return -EPIPE;
	memcpy(data, slot(r, (uint32_t)wc.wr_id), wc.byte_len < room ? wc.byte_len : room);
	post_recv(r, (uint32_t)wc.wr_id);
	return (int)wc.byte_len;
}

bool raw_disconnected(struct raw *r)
{
	return !next_event(r, RACKWIRE_ROCE_CM_DISCONNECTED);
}
