// SPDX-License-Identifier: BSD-2-Clause
#include "fake_rdma.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rackwire_krping.h"

#define ROOM 16384
#define MRS 64

struct rdma_mr {
	uint8_t *addr;
	size_t length;
	uint32_t key, access;
	struct rdma_mr *next;
};

struct rdma_id {
	bool used;
	void *context;
};

struct fake_rdma fake;
static struct rdma_mr *mrs;
static uint32_t next_key;
static struct rackwire_roce_wc wcs[ROOM];
static uint32_t wc_first, wc_count;
static struct rackwire_roce_recv_wr recvs[ROOM];
static struct rackwire_roce_sge recv_sges[ROOM];
static uint32_t recv_first;
static struct rdma_event events[16];
static uint32_t event_first, event_count;
static struct rdma_id *current;
static void *listener_context;
static bool woken;
static char dev, cq, qp;

#define REQUIRE(condition)		\
	do {				\
		if (!(condition))	\
			abort();	\
	} while (0)

void fake_reset(void)
{
	REQUIRE(!mrs && !current);
	memset(&fake, 0, sizeof(fake));
	wc_first = wc_count = recv_first = event_first = event_count = 0;
	woken = false;
	listener_context = NULL;
}

static void complete(const struct rackwire_roce_wc *wc)
{
	REQUIRE(wc_count < ROOM);
	wcs[(wc_first + wc_count++) % ROOM] = *wc;
}

/* ---- memory ---- */

static struct rdma_mr *find(uint32_t key)
{
	struct rdma_mr *mr = mrs;

	while (mr && mr->key != key)
		mr = mr->next;
	return mr;
}

uint8_t *fake_reach(uint64_t addr, uint32_t rkey, uint32_t length, uint32_t access)
{
	struct rdma_mr *mr = find(rkey);

	if (!mr || (mr->access & access) != access || addr < (uintptr_t)mr->addr ||
	    addr - (uintptr_t)mr->addr > mr->length || length > mr->length - (addr - (uintptr_t)mr->addr))
		return NULL;
	return mr->addr + (addr - (uintptr_t)mr->addr);
}

static void check_local(const struct rackwire_roce_sge *sge, uint32_t access)
{
	if (!sge->lkey && fake.local_dma)
		return; /* AddressSanitizer knows */
	REQUIRE(fake_reach(sge->addr, sge->lkey, sge->length, access));
}

static int mr_register(struct rdma_dev *d, void *addr, size_t length, uint32_t access, struct rdma_mr **out)
{
	struct rdma_mr *mr = calloc(1, sizeof(*mr));

	(void)d;
	*mr = (struct rdma_mr){ addr, length, ++next_key | 0x1000, access, mrs };
	*out = mrs = mr;
	return 0;
}

static void mr_deregister(struct rdma_mr *mr)
{
	struct rdma_mr **at = &mrs;

	while (*at != mr)
		at = &(*at)->next;
	*at = mr->next;
	free(mr);
}

static uint32_t key_of(struct rdma_mr *mr)
{
	return mr->key;
}

/* ---- queues ---- */

static int cq_create(struct rdma_dev *d, uint32_t entries, struct rdma_cq **out)
{
	(void)d;
	(void)entries;
	*out = (void *)&cq;
	return 0;
}

static void cq_destroy(struct rdma_cq *c)
{
	(void)c;
}

static int poll_cq(struct rdma_cq *c, struct rackwire_roce_wc *wc, uint32_t max)
{
	uint32_t n = 0;

	(void)c;
	for (; n < max && wc_count; wc_count--) {
		wc[n++] = wcs[wc_first];
		wc_first = (wc_first + 1) % ROOM;
	}
	return (int)n;
}

static int qp_create(struct rdma_dev *d, struct rdma_id *id, struct rdma_cq *s, struct rdma_cq *r,
		     const struct rackwire_roce_qp_attr *attr, void *context, struct rdma_qp **out)
{
	(void)d, (void)id, (void)s, (void)r, (void)attr, (void)context;
	fake.receives = recv_first = 0;
	*out = (void *)&qp;
	return 0;
}

static void qp_destroy(struct rdma_qp *q)
{
	(void)q;
	fake.receives = 0;
	fake.connected = false;
}

static int post_recv(struct rdma_qp *q, const struct rackwire_roce_recv_wr *wr, uint32_t n, uint32_t *done)
{
	uint32_t i, at;

	(void)q, (void)done;
	for (i = 0; i < n; i++) {
		REQUIRE(fake.receives < ROOM && wr[i].num_sge == 1);
		at = (recv_first + fake.receives++) % ROOM;
		check_local(wr[i].sg_list, RACKWIRE_ROCE_LOCAL_WRITE);
		recvs[at] = wr[i];
		recv_sges[at] = wr[i].sg_list[0];
	}
	return 0;
}

static bool take_receive(struct rackwire_roce_wc *wc, struct rackwire_roce_sge *sge)
{
	if (!fake.connected || !fake.receives)
		return false;
	*wc = (struct rackwire_roce_wc){ .wr_id = recvs[recv_first].wr_id, .opcode = RACKWIRE_ROCE_WC_RECV };
	*sge = recv_sges[recv_first];
	recv_first = (recv_first + 1) % ROOM;
	fake.receives--;
	return true;
}

bool fake_deliver(const void *message, uint32_t length)
{
	struct rackwire_roce_sge sge;
	struct rackwire_roce_wc wc;

	if (!take_receive(&wc, &sge))
		return false;
	wc.byte_len = length;
	if (length > sge.length)
		wc.status = RACKWIRE_ROCE_WC_LOC_LEN_ERR;
	else
		memcpy((void *)(uintptr_t)sge.addr, message, length);
	complete(&wc);
	return true;
}

bool fake_deliver_imm(uint32_t imm, uint32_t length)
{
	struct rackwire_roce_sge sge;
	struct rackwire_roce_wc wc;

	if (!take_receive(&wc, &sge))
		return false;
	wc.opcode = RACKWIRE_ROCE_WC_RECV_RDMA_WITH_IMM;
	wc.flags = RACKWIRE_ROCE_WC_WITH_IMM;
	wc.ex = imm;
	wc.byte_len = length;
	complete(&wc);
	return true;
}

void fake_failure(uint32_t status)
{
	struct rackwire_roce_sge sge;
	struct rackwire_roce_wc wc;

	if (!take_receive(&wc, &sge))
		return;
	wc.status = status;
	complete(&wc);
}

static void perform(const struct rackwire_roce_send_wr *wr)
{
	struct rackwire_roce_wc wc = { .wr_id = wr->wr_id };
	static uint8_t message[1 << 17];
	uint32_t length = 0, i;

	for (i = 0; i < wr->num_sge; i++) {
		const struct rackwire_roce_sge *sge = &wr->sg_list[i];

		check_local(sge, wr->opcode == RACKWIRE_ROCE_WR_RDMA_READ ? RACKWIRE_ROCE_LOCAL_WRITE : 0);
		REQUIRE(length + sge->length <= sizeof(message));
		if (wr->opcode != RACKWIRE_ROCE_WR_RDMA_READ)
			memcpy(message + length, (void *)(uintptr_t)sge->addr, sge->length);
		length += sge->length;
	}
	switch (wr->opcode) {
	case RACKWIRE_ROCE_WR_SEND:
		fake.send(message, length);
		break;
	case RACKWIRE_ROCE_WR_RDMA_READ:
		fake.read(wr->remote_addr, wr->rkey, (void *)(uintptr_t)wr->sg_list[0].addr, length);
		break;
	case RACKWIRE_ROCE_WR_RDMA_WRITE:
	case RACKWIRE_ROCE_WR_RDMA_WRITE_WITH_IMM:
		fake.write(wr->remote_addr, wr->rkey, message, length,
			   wr->opcode == RACKWIRE_ROCE_WR_RDMA_WRITE_WITH_IMM, wr->ex.imm);
		break;
	default:
		abort();
	}
	if (wr->flags & RACKWIRE_ROCE_SEND_SIGNALED)
		complete(&wc);
}

static int post_send(struct rdma_qp *q, const struct rackwire_roce_send_wr *wr, uint32_t n, uint32_t *done)
{
	uint32_t i;

	(void)q;
	REQUIRE(fake.connected);
	for (i = 0; i < n; i++)
		perform(&wr[i]);
	if (done)
		*done = n;
	return 0;
}

/* ---- connections and waiting ---- */

static int cm_next(struct rdma_dev *d, struct rdma_event *event)
{
	(void)d;
	if (!event_count)
		return 0;
	*event = events[event_first];
	event_first = (event_first + 1) % 16;
	event_count--;
	return 1;
}

static void push(uint32_t kind, int error, struct rdma_id *id, const void *data, uint32_t length)
{
	struct rdma_event *e;

	if (event_count == 16)
		return;
	e = &events[(event_first + event_count++) % 16];
	*e = (struct rdma_event){ .kind = kind, .error = error, .id = id, .context = id->context,
				  .responder_resources = 16, .initiator_depth = 16 };
	e->private_data_len = length < sizeof(e->private_data) ? length : sizeof(e->private_data);
	if (length)
		memcpy(e->private_data, data, e->private_data_len);
}

static struct rdma_id *id_new(void *context)
{
	struct rdma_id *id = calloc(1, sizeof(*id));

	id->context = context;
	return id;
}

void fake_request(const void *data, uint32_t length)
{
	struct rdma_id *id;

	if (event_count == 16)
		return;
	id = id_new(listener_context);
	push(RACKWIRE_ROCE_CM_CONNECT_REQUEST, 0, id, data, length);
}

void fake_event(uint32_t kind, int error, const void *data, uint32_t length)
{
	if (current)
		push(kind, error, current, data, length);
}

static int listen_at(struct rdma_dev *d, const struct sockaddr *local, uint32_t backlog, void *context,
		     struct rdma_id **out, uint16_t *port)
{
	(void)d, (void)local, (void)backlog;
	listener_context = context;
	*out = id_new(context);
	*port = 1;
	return 0;
}

static int prepare(struct rdma_dev *d, const struct sockaddr *target, uint64_t timeout, uint8_t tos, uint8_t ack,
		   void *context, struct rdma_id **out)
{
	(void)d, (void)target, (void)timeout, (void)tos, (void)ack;
	*out = id_new(context);
	return 0;
}

static int connect_to(struct rdma_id *id, struct rdma_qp *q, const struct rackwire_roce_conn_param *param)
{
	(void)q;
	current = id;
	fake.connected = true;
	fake.connect(param);
	return 0;
}

static void keep(const void *data, uint32_t length)
{
	fake.welcome_length = length;
	if (length)
		memcpy(fake.welcome, data, length);
}

static int accept_id(struct rdma_id *id, struct rdma_qp *q, const struct rackwire_roce_conn_param *param, void *context)
{
	(void)q;
	id->context = context;
	current = id;
	fake.connected = true;
	fake.accepted++;
	keep(param->private_data, param->private_data_len);
	return 0;
}

static int reject(struct rdma_id *id, const void *data, uint32_t length)
{
	(void)id;
	fake.rejected++;
	keep(data, length);
	return 0;
}

static int disconnect(struct rdma_id *id)
{
	(void)id;
	return 0;
}

static void id_destroy(struct rdma_id *id)
{
	uint32_t i;

	for (i = 0; i < event_count; i++) {
		struct rdma_event *e = &events[(event_first + i) % 16];

		if (e->id == id)
			e->kind = 0, e->id = NULL, e->context = NULL;
	}
	if (current == id)
		current = NULL;
	free(id);
}

static int wait_fd(struct rdma_dev *d, struct rdma_cq *c, int fd, uint64_t timeout)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int found = 0;

	(void)d, (void)c, (void)timeout;
	if (!wc_count && !event_count && !woken && (fd < 0 || poll(&p, 1, 0) <= 0))
		fake.idle();
	found |= wc_count ? RDMA_WAIT_CQ : 0;
	found |= event_count ? RDMA_WAIT_CM : 0;
	found |= fd >= 0 && poll(&p, 1, 0) > 0 ? RDMA_WAIT_FD : 0;
	if (!found && woken) {
		woken = false;
		return -ECANCELED;
	}
	return found;
}

static int wait_for(struct rdma_dev *d, struct rdma_cq *c, uint64_t timeout)
{
	return wait_fd(d, c, -1, timeout);
}

static void wake(struct rdma_dev *d)
{
	(void)d;
	woken = true;
}

static int open_dev(const struct rdma_open *open, struct rdma_dev **out, char *error, size_t length)
{
	(void)open, (void)error, (void)length;
	*out = (void *)&dev;
	return 0;
}

static void close_dev(struct rdma_dev *d)
{
	struct rdma_event e;

	while (cm_next(d, &e))
		if (e.kind == RACKWIRE_ROCE_CM_CONNECT_REQUEST)
			free(e.id);
}

static void info(struct rdma_dev *d, struct rdma_dev_info *i)
{
	(void)d;
	*i = (struct rdma_dev_info){ .name = "fake", .features = fake.local_dma ? RDMA_CAN_LOCAL_DMA_LKEY : 0,
				     .max_send_wr = ROOM, .max_rd_atomic = 16, .max_cqe = ROOM };
}

static const struct rdma_provider provider = {
	.name = "fake", .open = open_dev, .close = close_dev, .info = info,
	.mr_register = mr_register, .mr_deregister = mr_deregister, .lkey = key_of, .rkey = key_of,
	.cq_create = cq_create, .cq_destroy = cq_destroy, .poll_cq = poll_cq,
	.qp_create = qp_create, .qp_destroy = qp_destroy, .post_send = post_send, .post_recv = post_recv,
	.wait = wait_for, .wait_fd = wait_fd, .wake = wake, .cm_next = cm_next, .listen = listen_at,
	.prepare = prepare, .connect = connect_to, .accept = accept_id, .reject = reject,
	.disconnect = disconnect, .id_destroy = id_destroy,
};

int config_refuse(char *error, size_t length, int result, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error, length, format, args);
	va_end(args);
	return result;
}

const struct rdma_provider *rdma_provider_of(uint32_t engine)
{
	return engine == RACKWIRE_KRPING_SOFT ? &provider : NULL;
}
