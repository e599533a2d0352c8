/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

const struct rackwire_roce_conn_param plain = {
	.responder_resources = 4,
	.initiator_depth = 2,
	.retry_count = 7,
	.rnr_retry_count = 6,
	.min_rnr_timer = 12,
	.ack_timeout = 14,
};

u64 bench_rand(u64 *rng)
{
	u64 z = *rng += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

void addr4(u8 addr[16], u32 n)
{
	memset(addr, 0, 16);
	addr[10] = addr[11] = 0xff;
	addr[12] = 10;
	roce_put16(addr + 14, (u16)n);
}

void addr6(u8 addr[16], u32 n)
{
	memset(addr, 0, 16);
	addr[0] = 0xfd;
	roce_put32(addr + 12, n);
}

void dev_cfg(struct roce_cfg *cfg)
{
	memset(cfg, 0, sizeof(*cfg));
	cfg->mtu = 1024;
	cfg->max_qps = 64;
	cfg->max_cm_ids = 64;
	cfg->max_half_open = 16;
	cfg->cm_timeout_ns = 250 * MSEC;
	cfg->cm_retries = 7;
	cfg->timewait_ns = 2 * SEC;
	cfg->comm_id_base = 0xa0000000;
	cfg->comm_id_count = 0x10000000;
}

void dev_open_with(struct roce_dev *d, u32 n, u64 seed, const struct roce_cfg *cfg)
{
	memset(d, 0, sizeof(*d));
	d->cfg = *cfg;
	d->rng = seed + n;
	d->next_qpn = 0x100 * n;
	addr4(d->addr, n);
	d->cm = roce_cm_init(d);
}

void dev_open(struct roce_dev *d, u32 n, u64 seed)
{
	struct roce_cfg cfg;

	dev_cfg(&cfg);
	dev_open_with(d, n, seed, &cfg);
}

bool dev_close(struct roce_dev *d)
{
	roce_cm_exit(d->cm);
	d->cm = NULL;
	return !d->allocs && !d->bytes;
}

void path_to(struct roce_path *path, const u8 local[16], const u8 peer[16])
{
	memset(path, 0, sizeof(*path));
	memcpy(path->local, local, 16);
	memcpy(path->peer, peer, 16);
}

/* ---- what the connection manager calls ---- */

const struct roce_cfg *roce_cfg_of(const struct roce_dev *d)
{
	return &d->cfg;
}

struct roce_cm_dev *roce_dev_cm(const struct roce_dev *d)
{
	return d->cm;
}

void *roce_alloc(struct roce_dev *d, enum roce_slab slab, size_t size)
{
	void *p;

	(void)slab;
	if (d->fail_in && !--d->fail_in)
		return NULL;
	p = calloc(1, size);
	if (!p)
		abort();
	d->allocs++;
	d->bytes += size;
	return p;
}

void roce_free(struct roce_dev *d, enum roce_slab slab, void *ptr, size_t size)
{
	(void)slab;
	d->allocs--;
	d->bytes -= size;
	free(ptr);
}

u64 roce_random(struct roce_dev *d)
{
	return bench_rand(&d->rng);
}

struct rackwire_roce_dev_stats *roce_stats_of(struct roce_dev *d)
{
	return &d->stats;
}

struct roce_dev *roce_qp_dev(const struct roce_qp *qp)
{
	return qp->d;
}

void roce_qp_set_cm(struct roce_qp *qp, struct roce_cm_id *id)
{
	qp->cm = id;
}

struct roce_cm_id *roce_qp_cm(const struct roce_qp *qp)
{
	return qp->cm;
}

u32 roce_qp_num(const struct roce_qp *qp)
{
	return qp->num;
}

u32 roce_qp_state(const struct roce_qp *qp)
{
	return qp->state;
}

int roce_qp_connect(struct roce_qp *qp, u64 now, const struct roce_qp_link *link)
{
	(void)now;
	if (qp->refuse)
		return qp->refuse;
	if (qp->state != RACKWIRE_ROCE_QP_INIT)
		return -EINVAL;
	qp->state = RACKWIRE_ROCE_QP_RTS;
	qp->link = *link;
	qp->connects++;
	return 0;
}

void roce_qp_error(struct roce_qp *qp, u64 now)
{
	(void)now;
	qp->state = RACKWIRE_ROCE_QP_ERR;
	qp->errors++;
}

/* ---- what a test uses ---- */

struct roce_qp *qp_new(struct roce_dev *d)
{
	struct roce_qp *qp = calloc(1, sizeof(*qp));

	if (!qp)
		abort();
	qp->d = d;
	qp->num = d->next_qpn++;
	qp->state = RACKWIRE_ROCE_QP_INIT;
	return qp;
}

void qp_free(struct roce_qp *qp)
{
	if (qp->cm)
		roce_cm_qp_gone(qp->cm, qp->d->now);
	free(qp);
}

u8 taken[ROCE_MAD_LEN];
struct roce_path taken_path;

struct roce_cm *take(struct roce_dev *d)
{
	static struct roce_cm m;
	const struct roce_path *path;
	const u8 *mad;

	if (!roce_cm_poll_tx(d->cm, d->now, &mad, &path))
		return NULL;
	memcpy(taken, mad, sizeof(taken));
	taken_path = *path;
	if (roce_cm_decode(&m, taken, sizeof(taken))) {
		printf("# the CM sent what does not decode\n");
		abort();
	}
	return &m;
}

void give_path(struct roce_dev *d, const struct roce_path *path, const struct roce_cm *m)
{
	u8 mad[ROCE_MAD_LEN];

	if (roce_cm_encode(mad, m))
		abort();
	roce_cm_rx(d->cm, d->now, mad, path, 1);
}

void give(struct roce_dev *d, u32 from, const struct roce_cm *m)
{
	struct roce_path path;
	u8 peer[16];

	addr4(peer, from);
	path_to(&path, d->addr, peer);
	give_path(d, &path, m);
}

struct roce_event *event(struct roce_dev *d)
{
	static struct roce_event ev;

	return roce_cm_poll_event(d->cm, &ev) ? &ev : NULL;
}

void run_to(struct roce_dev *d, u64 now)
{
	while (roce_cm_deadline(d->cm) <= now) {
		if (roce_cm_deadline(d->cm) > d->now)
			d->now = roce_cm_deadline(d->cm);
		roce_cm_tick(d->cm, d->now);
	}
	d->now = now;
}

void make_req_path(struct roce_cm *m, const struct roce_path *path, u16 port, u32 comm_id, u32 qpn)
{
	static u8 priv[ROCE_CM_REQ_PRIV];
	struct roce_cma cma = { .ip_version = path->peer[0] ? 6 : 4, .port = 40000 };
	struct roce_cm_req *r = &m->u.req;

	memset(m, 0, sizeof(*m));
	memset(priv, 0, sizeof(priv));
	m->type = ROCE_CM_REQ;
	m->tid = 0x200000000ull | comm_id;
	r->local_comm_id = comm_id;
	r->service_id = roce_service_id(ROCE_PS_TCP, port);
	r->local_ca_guid = 0x505400fffe000000ull + path->peer[15];
	r->local_qpn = qpn;
	r->responder_resources = 3;
	r->initiator_depth = 5;
	r->remote_response_timeout = r->local_response_timeout = 20;
	r->starting_psn = 0x123456;
	r->retry_count = 6;
	r->pkey = 0xffff;
	r->mtu = 3;
	r->rnr_retry = 5;
	r->max_cm_retries = 15;
	r->primary.local_lid = r->primary.remote_lid = 0xffff;
	memcpy(r->primary.local_gid, path->peer, 16);
	memcpy(r->primary.remote_gid, path->local, 16);
	r->primary.hop_limit = 64;
	r->primary.ack_timeout = 19;
	memcpy(cma.src, path->peer, 16);
	memcpy(cma.dst, path->local, 16);
	roce_cma_encode(priv, &cma);
	memcpy(priv + ROCE_CMA_LEN, "hello", 5);
	m->priv = priv;
	m->priv_len = sizeof(priv);
}

void make_req(struct roce_cm *m, const struct roce_dev *d, u32 from, u16 port, u32 comm_id, u32 qpn)
{
	struct roce_path path;
	u8 peer[16];

	addr4(peer, from);
	path_to(&path, d->addr, peer);
	make_req_path(m, &path, port, comm_id, qpn);
}
