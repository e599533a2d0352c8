// SPDX-License-Identifier: BSD-2-Clause
/*
 * The link to the exporter: connecting, asking what there is, sending pieces and
 * taking answers; what becomes of them when the link is lost.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "address.h"
#include "block_nbd.h"

#define HEADER_STRIDE 64
#define ANSWER_STRIDE 128
#define SIGNAL_EVERY 8
#define FEW 3 /* requests under way */
#define RNR_TIMER 8 /* 0.16 ms [IBTA 9.7.5.2.8] */
#define ACK_TIMEOUT 16 /* 0.27 s, so that a peer kept from its CPU for a second or two is not given up */
#define RETRY_NS (100 * 1000000ull)
#define RETRY_MAX_NS (2 * RACKWIRE_NS_PER_S)
#define PREPARE_NS RACKWIRE_NS_PER_S
#define PROBE_NS (2 * RACKWIRE_NS_PER_S)

enum { KIND_RECV, KIND_SEND };

static uint64_t wr_id(const struct nbd_link *l, uint32_t kind, uint32_t index)
{
	return (uint64_t)l->gen << 32 | kind << 16 | index;
}

/* ---- lists of pieces ---- */

static void append(struct nbd_piece **first, struct nbd_piece **last, struct nbd_piece *p)
{
	p->next = NULL;
	p->prev = *last;
	if (*last)
		(*last)->next = p;
	else
		*first = p;
	*last = p;
}

static void take_out(struct nbd_piece **first, struct nbd_piece **last, struct nbd_piece *p)
{
	if (p->prev)
		p->prev->next = p->next;
	else
		*first = p->next;
	if (p->next)
		p->next->prev = p->prev;
	else
		*last = p->prev;
}

/* ---- failure ---- */

static void fail_later(struct nbd_link *l, struct nbd_piece *p)
{
	p->next = l->failed;
	l->failed = p;
}

static void tell_failed(struct nbd_link *l)
{
	struct nbd_piece *p;

	while ((p = l->failed)) {
		l->failed = p->next;
		nbd_piece_done(p, BLOCK_EIO);
	}
}

static void fail_all(struct rackwire_krping_nbd *n, struct nbd_piece **first, struct nbd_piece **last)
{
	struct nbd_piece *p;

	while ((p = *first)) {
		take_out(first, last, p);
		nbd_count(n, RACKWIRE_KRPING_BLOCK_FAILED_BY_LOSS, 1);
		fail_later(&n->link, p);
	}
}

static void drop_connection(struct rackwire_krping_nbd *n)
{
	struct nbd_link *l = &n->link;

	if (l->qp) {
		n->ops->disconnect(l->id);
		n->ops->qp_destroy(l->qp);
	}
	if (l->id)
		n->ops->id_destroy(l->id);
	l->qp = NULL;
	l->id = NULL;
	l->gen++;
}

static void link_down(struct rackwire_krping_nbd *n, int error, const char *why)
{
	struct nbd_link *l = &n->link;
	uint64_t now = rackwire_now_ns();
	struct nbd_piece *p;

	if (l->state == NBD_LINK_READY) {
		nbd_count(n, RACKWIRE_KRPING_BLOCK_LINK_LOSSES, 1);
		rackwire_stats_set(&n->stats, RACKWIRE_KRPING_BLOCK_LINKS, 0);
		l->lost_at = now;
		/* At once, but not again and again. */
		if (now > l->ready_at + RETRY_MAX_NS)
			l->backoff = 0;
	}
	drop_connection(n);
	l->state = NBD_LINK_DOWN;
	l->error = error;
	config_refuse(l->error_text, sizeof(l->error_text), error, "%s", why);
	l->next_try = now + l->backoff;
	l->backoff = l->backoff ? 2 * l->backoff : RETRY_NS;
	if (l->backoff > RETRY_MAX_NS)
		l->backoff = RETRY_MAX_NS;
	/* The exporter may or may not have done what it was sent. */
	if (n->config.on_loss != RACKWIRE_KRPING_LOSS_REPLAY) {
		fail_all(n, &l->sent, &l->sent_last);
		return;
	}
	while ((p = l->sent_last)) {
		take_out(&l->sent, &l->sent_last, p);
		nbd_count(n, RACKWIRE_KRPING_BLOCK_REPLAYED, 1);
		p->prev = NULL;
		p->next = l->queue;
		if (l->queue)
			l->queue->prev = p;
		else
			l->queue_last = p;
		l->queue = p;
	}
}

/* ---- connecting ---- */

static uint8_t *header_of(const struct nbd_link *l, uint32_t tag)
{
	return l->control + (uint64_t)tag * HEADER_STRIDE;
}

static uint8_t *answer_of(const struct rackwire_krping_nbd *n, uint32_t index)
{
	return n->link.control + (uint64_t)n->config.depth * HEADER_STRIDE + (uint64_t)index * ANSWER_STRIDE;
}

static int receive(struct rackwire_krping_nbd *n, const uint32_t *index, uint32_t count)
{
	struct rackwire_roce_recv_wr wr[NBD_BATCH];
	struct rackwire_roce_sge sge[NBD_BATCH];
	uint32_t lkey = n->ops->lkey(n->link.control_mr), i;

	for (i = 0; i < count; i++) {
		sge[i] = (struct rackwire_roce_sge){ (uintptr_t)answer_of(n, index[i]), BLOCK_ABOUT_LEN, lkey };
		wr[i] = (struct rackwire_roce_recv_wr){ .wr_id = wr_id(&n->link, KIND_RECV, index[i]),
							.sg_list = &sge[i], .num_sge = 1 };
	}
	return count ? n->ops->post_recv(n->link.qp, wr, count, NULL) : 0;
}

static int start(struct rackwire_krping_nbd *n)
{
	struct nbd_link *l = &n->link;
	struct block_hello hello = { .version = BLOCK_VERSION, .depth = (uint16_t)n->config.depth,
				     .eager = BLOCK_MAX_EAGER };
	uint8_t bytes[BLOCK_HELLO_LEN];
	struct rackwire_roce_qp_attr attr = { .max_send_wr = 2 * n->config.depth + 64, .max_recv_wr = n->config.depth,
					      .max_sge = 2,
					      .access = RACKWIRE_ROCE_REMOTE_READ | RACKWIRE_ROCE_REMOTE_WRITE };
	struct rackwire_roce_conn_param param = {
		.private_data = bytes, .private_data_len = sizeof(bytes),
		.responder_resources = (uint8_t)(n->info.max_rd_atomic < RACKWIRE_ROCE_MAX_RD_ATOMIC ?
							 n->info.max_rd_atomic : RACKWIRE_ROCE_MAX_RD_ATOMIC),
		.initiator_depth = 1,
		.retry_count = 7, .rnr_retry_count = 7, .min_rnr_timer = RNR_TIMER,
	};
	uint64_t timeout = l->known && n->config.timeout_ns > PREPARE_NS ? PREPARE_NS : n->config.timeout_ns;
	uint32_t i;
	int err;

	err = n->ops->prepare(n->dev, (struct sockaddr *)&l->peer, timeout, 0, ACK_TIMEOUT, n, &l->id);
	if (!err)
		err = n->ops->qp_create(n->dev, l->id, l->cq, l->cq, &attr, n, &l->qp);
	for (i = 0; i < n->config.depth && !err; i++)
		err = receive(n, &i, 1);
	if (err)
		return err;
	memcpy(hello.client, l->client, BLOCK_ID);
	block_hello_encode(bytes, &hello);
	return n->ops->connect(l->id, l->qp, &param);
}

void nbd_link_try(struct rackwire_krping_nbd *n, uint64_t now)
{
	struct nbd_link *l = &n->link;
	int err;

	l->state = NBD_LINK_CONNECTING;
	l->deadline = now + n->config.timeout_ns;
	l->unsignaled = 0;
	l->probing = false;
	err = start(n);
	if (err)
		link_down(n, err, strerror(-err));
}

/* What is there? Asked when there are no pieces yet, and to see whether the exporter is alive. */
static int ask(struct rackwire_krping_nbd *n, uint16_t export, uint32_t tag)
{
	struct nbd_link *l = &n->link;
	struct block_request r = { .op = BLOCK_ABOUT, .export = export, .tag = tag };
	struct rackwire_roce_sge sge = { (uintptr_t)header_of(l, tag), BLOCK_REQUEST_LEN, n->ops->lkey(l->control_mr) };
	struct rackwire_roce_send_wr wr = { .wr_id = wr_id(l, KIND_SEND, tag), .sg_list = &sge, .num_sge = 1,
					    .opcode = RACKWIRE_ROCE_WR_SEND, .flags = RACKWIRE_ROCE_SEND_SIGNALED };

	block_request_encode(header_of(l, tag), &r);
	return n->ops->post_send(l->qp, &wr, 1, NULL);
}

static void established(struct rackwire_krping_nbd *n, const struct rdma_event *event)
{
	struct nbd_link *l = &n->link;
	struct block_welcome w;
	int err;

	if (!block_welcome_decode(event->private_data, event->private_data_len, &w) || w.version != BLOCK_VERSION ||
	    w.status || !w.depth || !w.exports || w.exports > RACKWIRE_KRPING_EXPORTS ||
	    w.max_length < BLOCK_MIN_LENGTH || (l->known && w.max_length < l->max_length)) {
		link_down(n, -EPROTO, "it is no exporter of block devices, or one of another version");
		return;
	}
	l->depth = w.depth < n->config.depth ? w.depth : n->config.depth;
	l->eager = w.eager < BLOCK_MAX_EAGER ? w.eager : BLOCK_MAX_EAGER;
	l->max_length = w.max_length;
	l->remote_exports = w.exports;
	l->asked = 0;
	l->state = NBD_LINK_ASKING;
	err = ask(n, 0, 0);
	if (err)
		link_down(n, err, strerror(-err));
}

static void refused(struct rackwire_krping_nbd *n, const struct rdma_event *event)
{
	struct block_welcome w;

	if (block_welcome_decode(event->private_data, event->private_data_len, &w)) {
		if (w.status == BLOCK_FULL)
			link_down(n, -EBUSY, "the exporter has no room for another connection");
		else
			link_down(n, -EPROTO, "the exporter is of another version");
	} else if (event->status == RACKWIRE_ROCE_REJ_INVALID_SERVICE_ID) {
		link_down(n, -ECONNREFUSED, "nothing listens there");
	} else {
		link_down(n, -ECONNREFUSED, "it refused the connection");
	}
}

void nbd_link_event(struct rackwire_krping_nbd *n, const struct rdma_event *event)
{
	struct nbd_link *l = &n->link;

	if (event->id != l->id || !l->id)
		return;
	switch (event->kind) {
	case RACKWIRE_ROCE_CM_ESTABLISHED:
		if (l->state == NBD_LINK_CONNECTING)
			established(n, event);
		break;
	case RACKWIRE_ROCE_CM_REJECTED:
		refused(n, event);
		break;
	case RACKWIRE_ROCE_CM_UNREACHABLE:
		link_down(n, event->error ? event->error : -ETIMEDOUT,
			  strerror(event->error ? -event->error : ETIMEDOUT));
		break;
	case RACKWIRE_ROCE_CM_DISCONNECTED:
		link_down(n, -ECONNRESET, "the exporter closed the connection");
		break;
	}
	tell_failed(l);
}

/* ---- what the exporter has ---- */

static void first_told(struct rackwire_krping_nbd *n, const struct block_about *about)
{
	struct nbd_export *e = &n->exports[n->nexports++];

	e->about = *about;
	e->remote = n->link.asked;
	if (!e->about.block || e->about.block & (e->about.block - 1) || e->about.block < 512 ||
	    e->about.block > (1u << 20))
		e->about.block = 4096;
}

/*
 * Is it what we knew? A file whose machine has been restarted keeps what was flushed;
 * the page cache with the rest is gone.
 */
static void told_again(struct rackwire_krping_nbd *n, const struct block_about *about)
{
	uint32_t i;

	for (i = 0; i < n->nexports; i++) {
		struct nbd_export *e = &n->exports[i];
		bool same = e->about.length == about->length && !memcmp(e->about.backing, about->backing, BLOCK_ID);
		bool rebooted = memcmp(e->about.boot, about->boot, BLOCK_ID);

		if (strcmp(e->about.name, about->name))
			continue;
		e->remote = n->link.asked;
		if (!same || (rebooted && e->written > e->flushed))
			e->gone = true;
		if ((about->flags ^ e->about.flags) & BLOCK_ABOUT_READ_ONLY)
			e->gone = true;
		memcpy(e->about.boot, about->boot, BLOCK_ID);
		return;
	}
}

static void make_ready(struct rackwire_krping_nbd *n)
{
	struct nbd_link *l = &n->link;
	struct nbd_piece *p, *next;
	uint32_t i;

	for (i = 0; i < n->nexports; i++)
		if (n->exports[i].remote == UINT16_MAX)
			n->exports[i].gone = true;
	for (p = l->queue; p; p = next) {
		next = p->next;
		if (!n->exports[p->export].gone)
			continue;
		take_out(&l->queue, &l->queue_last, p);
		nbd_count(n, RACKWIRE_KRPING_BLOCK_FAILED_BY_LOSS, 1);
		fail_later(l, p);
	}
	memset(l->tags, 0, n->config.depth * sizeof(*l->tags));
	for (l->nfree = 0; l->nfree < l->depth; l->nfree++)
		l->free_tags[l->nfree] = l->depth - 1 - l->nfree;
	l->state = NBD_LINK_READY;
	l->known = true;
	l->given_up = false;
	l->ready_at = l->heard_at = rackwire_now_ns();
	rackwire_stats_set(&n->stats, RACKWIRE_KRPING_BLOCK_LINKS, 1);
}

static int told(struct rackwire_krping_nbd *n, const uint8_t *message, uint32_t length)
{
	struct nbd_link *l = &n->link;
	struct block_about about;
	uint32_t i;

	if (!block_about_decode(message, length, &about))
		return -EPROTO;
	for (i = 0; i < n->nexports && !l->asked && l->known; i++)
		n->exports[i].remote = UINT16_MAX;
	if (l->known)
		told_again(n, &about);
	else
		first_told(n, &about);
	if (++l->asked < l->remote_exports)
		return ask(n, l->asked, 0);
	make_ready(n);
	return 0;
}

/* ---- pieces ---- */

void nbd_link_submit(struct rackwire_krping_nbd *n, struct nbd_piece *p)
{
	struct nbd_link *l = &n->link;

	if (n->exports[p->export].gone || (l->given_up && l->state != NBD_LINK_READY)) {
		nbd_count(n, RACKWIRE_KRPING_BLOCK_FAILED_BY_LOSS, 1);
		fail_later(l, p);
	} else {
		append(&l->queue, &l->queue_last, p);
	}
}

/*
 * Data behind a request saves a round trip. Where many are under way that matters less
 * than that all packets have one length, as the exporter's READs do, so that they travel
 * in bursts.
 */
static bool eager_pays(const struct rackwire_krping_nbd *n, uint32_t length)
{
	return BLOCK_REQUEST_LEN + length <= n->info.mtu || n->link.depth - n->link.nfree <= FEW;
}

static void fill(struct rackwire_krping_nbd *n, struct nbd_piece *p, struct rackwire_roce_send_wr *wr,
		 struct rackwire_roce_sge *sge)
{
	struct nbd_link *l = &n->link;
	bool eager = p->op == BLOCK_WRITE && p->length <= l->eager && eager_pays(n, p->length);
	struct block_request r = {
		.op = p->op, .flags = (uint8_t)(p->flags | (eager ? BLOCK_EAGER : 0)), .tag = p->tag,
		.export = n->exports[p->export].remote, .offset = p->offset, .length = p->length,
	};

	if (p->chunk && !eager) {
		r.addr = (uintptr_t)p->chunk;
		r.rkey = n->slab.rkey;
	}
	block_request_encode(header_of(l, p->tag), &r);
	sge[0] = (struct rackwire_roce_sge){ (uintptr_t)header_of(l, p->tag), BLOCK_REQUEST_LEN,
					     n->ops->lkey(l->control_mr) };
	sge[1] = (struct rackwire_roce_sge){ (uintptr_t)p->chunk, p->length, n->slab.lkey };
	*wr = (struct rackwire_roce_send_wr){ .wr_id = wr_id(l, KIND_SEND, p->tag), .sg_list = sge,
					      .num_sge = eager ? 2 : 1, .opcode = RACKWIRE_ROCE_WR_SEND };
	if (++l->unsignaled == SIGNAL_EVERY) {
		wr->flags = RACKWIRE_ROCE_SEND_SIGNALED;
		l->unsignaled = 0;
	}
}

void nbd_link_pump(struct rackwire_krping_nbd *n)
{
	struct rackwire_roce_send_wr wr[NBD_BATCH];
	struct rackwire_roce_sge sge[2 * NBD_BATCH];
	struct nbd_link *l = &n->link;
	struct nbd_piece *p;
	uint32_t count, done;
	int err;

	while (l->state == NBD_LINK_READY && l->queue && l->nfree) {
		for (count = 0; count < NBD_BATCH && (p = l->queue) && l->nfree; count++) {
			take_out(&l->queue, &l->queue_last, p);
			append(&l->sent, &l->sent_last, p);
			p->tag = l->free_tags[--l->nfree];
			l->tags[p->tag] = p;
			fill(n, p, &wr[count], &sge[2 * count]);
		}
		err = n->ops->post_send(l->qp, wr, count, &done);
		if (err)
			link_down(n, err, strerror(-err));
	}
	tell_failed(l);
}

static void finished(struct rackwire_krping_nbd *n, uint32_t tag, uint32_t status)
{
	struct nbd_link *l = &n->link;
	struct nbd_piece *p = l->tags[tag];

	l->tags[tag] = NULL;
	l->free_tags[l->nfree++] = tag;
	take_out(&l->sent, &l->sent_last, p);
	nbd_piece_done(p, status);
}

static int answered(struct rackwire_krping_nbd *n, const struct rackwire_roce_wc *wc)
{
	struct nbd_link *l = &n->link;
	const uint8_t *message = answer_of(n, wc->wr_id & 0xffff);
	struct block_reply reply = { .tag = wc->ex };
	bool data = wc->flags & RACKWIRE_ROCE_WC_WITH_IMM;

	if (l->state == NBD_LINK_ASKING)
		return data ? -EPROTO : told(n, message, wc->byte_len);
	if (!data && !block_reply_decode(message, wc->byte_len, &reply))
		return -EPROTO;
	if (l->probing && reply.tag == l->probe_tag && wc->byte_len == BLOCK_ABOUT_LEN) {
		l->probing = false;
		l->free_tags[l->nfree++] = reply.tag;
		return 0;
	}
	if (reply.tag >= l->depth || !l->tags[reply.tag])
		return -EPROTO;
	/* Data comes for reads that succeed, and only there. */
	if (data != (l->tags[reply.tag]->op == BLOCK_READ && !reply.status))
		return -EPROTO;
	if (data && wc->byte_len != l->tags[reply.tag]->length)
		return -EPROTO;
	finished(n, reply.tag, reply.status);
	return 0;
}

int nbd_link_poll(struct rackwire_krping_nbd *n)
{
	struct rackwire_roce_wc wc[NBD_BATCH];
	struct nbd_link *l = &n->link;
	uint32_t again[NBD_BATCH], count = 0;
	int taken = n->ops->poll_cq(l->cq, wc, NBD_BATCH), i, err = 0;

	for (i = 0; i < taken && !err; i++) {
		if (!l->qp || (uint32_t)(wc[i].wr_id >> 32) != l->gen)
			continue;
		if (wc[i].status) {
			err = wc[i].status == RACKWIRE_ROCE_WC_RETRY_EXC_ERR ? -ETIMEDOUT : -ECONNRESET;
			break;
		}
		if ((wc[i].wr_id >> 16 & 0xffff) == KIND_RECV) {
			again[count++] = wc[i].wr_id & 0xffff;
			err = answered(n, &wc[i]);
		}
	}
	if (taken > 0 && !err && l->qp) {
		l->heard_at = rackwire_now_ns();
		err = receive(n, again, count);
	}
	if (err && l->qp)
		link_down(n, err, err == -EPROTO ? "the exporter's answer makes no sense" : strerror(-err));
	tell_failed(l);
	return taken;
}

/* ---- time ---- */

static void probe(struct rackwire_krping_nbd *n)
{
	struct nbd_link *l = &n->link;
	int err;

	l->probing = true;
	l->probe_tag = l->free_tags[--l->nfree];
	err = ask(n, 0, l->probe_tag);
	if (err)
		link_down(n, err, strerror(-err));
}

void nbd_link_tick(struct rackwire_krping_nbd *n, uint64_t now)
{
	struct nbd_link *l = &n->link;

	if ((l->state == NBD_LINK_CONNECTING || l->state == NBD_LINK_ASKING) && now >= l->deadline)
		link_down(n, -ETIMEDOUT, "it does not answer");
	if (l->known && l->state != NBD_LINK_READY && now >= l->lost_at + n->config.reconnect_ns) {
		l->given_up = true;
		fail_all(n, &l->queue, &l->queue_last);
	}
	if (l->known && l->state == NBD_LINK_DOWN && now >= l->next_try)
		nbd_link_try(n, now);
	if (l->state == NBD_LINK_READY && !l->probing && l->nfree && now >= l->heard_at + PROBE_NS)
		probe(n);
	tell_failed(l);
}

/* ---- opening and closing ---- */

int nbd_link_open(struct rackwire_krping_nbd *n, char *error, size_t length)
{
	struct nbd_link *l = &n->link;
	uint32_t depth = n->config.depth;
	void *memory;
	int err;

	l->tags = calloc(depth, sizeof(*l->tags));
	l->free_tags = calloc(depth, sizeof(*l->free_tags));
	l->control_bytes = (uint64_t)depth * (HEADER_STRIDE + ANSWER_STRIDE);
	memory = mmap(NULL, l->control_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory != MAP_FAILED)
		l->control = memory;
	if (!l->tags || !l->free_tags || !l->control)
		return -ENOMEM;
	if (getrandom(l->client, BLOCK_ID, 0) != BLOCK_ID)
		return config_refuse(error, length, -EIO, "there is no randomness");
	err = n->ops->cq_create(n->dev, 4 * depth + 128, &l->cq);
	if (!err)
		err = n->ops->mr_register(n->dev, l->control, l->control_bytes, RACKWIRE_ROCE_LOCAL_WRITE,
					  &l->control_mr);
	return err;
}

void nbd_link_abandon(struct rackwire_krping_nbd *n)
{
	struct nbd_link *l = &n->link;

	if (n->dev)
		drop_connection(n);
	l->state = NBD_LINK_DOWN;
	fail_all(n, &l->sent, &l->sent_last);
	fail_all(n, &l->queue, &l->queue_last);
	tell_failed(l);
}

void nbd_link_close(struct rackwire_krping_nbd *n)
{
	struct nbd_link *l = &n->link;

	if (n->dev)
		drop_connection(n);
	if (l->control_mr)
		n->ops->mr_deregister(l->control_mr);
	if (l->cq)
		n->ops->cq_destroy(l->cq);
	if (l->control)
		munmap(l->control, l->control_bytes);
	free(l->tags);
	free(l->free_tags);
}
