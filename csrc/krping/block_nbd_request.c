// SPDX-License-Identifier: BSD-2-Clause
/* Requests of NBD clients: cut into pieces, put together again as replies [NBD "Transmission"]. */
#include <stdlib.h>
#include <string.h>

#include "block_nbd.h"

#define REQUEST_MAGIC 0x25609513u
#define SIMPLE_MAGIC 0x67446698u
#define CHUNK_MAGIC 0x668e33efu
#define CHUNK_DONE 0x1
#define CHUNK_NONE 0
#define CHUNK_DATA 1
#define CHUNK_ERROR 32769

enum { CMD_READ = 0, CMD_WRITE = 1, CMD_DISC = 2, CMD_FLUSH = 3, CMD_TRIM = 4, CMD_WRITE_ZEROES = 6 };
enum { CMD_FUA = 0x1, CMD_NO_HOLE = 0x2, CMD_DF = 0x4, CMD_FAST_ZERO = 0x10 };

static uint32_t min32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static uint32_t piece_limit(const struct nbd_client *c)
{
	return min32(c->nbd->slab.chunk, c->nbd->link.max_length);
}

static struct nbd_export *export_of(const struct nbd_client *c)
{
	return &c->nbd->exports[c->export];
}

/* ---- sending ---- */

static void send_out(struct nbd_client *c, struct nbd_out *out)
{
	bool wait = c->streaming && c->streaming != out->request;
	struct nbd_out ***last = wait ? &c->later_last : &c->outs_last;

	out->next = NULL;
	out->request->outs++;
	**last = out;
	*last = &out->next;
	nbd_client_ready(c);
}

static void put_simple(struct nbd_out *out, uint32_t error, uint64_t cookie)
{
	nbd_put(out->head, SIMPLE_MAGIC, 4);
	nbd_put(out->head + 4, error, 4);
	nbd_put(out->head + 8, cookie, 8);
	out->head_length = 16;
}

static void put_chunk(struct nbd_out *out, uint32_t flags, uint32_t type, uint64_t cookie, uint32_t length)
{
	nbd_put(out->head, CHUNK_MAGIC, 4);
	nbd_put(out->head + 4, flags, 2);
	nbd_put(out->head + 6, type, 2);
	nbd_put(out->head + 8, cookie, 8);
	nbd_put(out->head + 16, length, 4);
	out->head_length = 20;
}

static void put_data(struct nbd_out *out, const struct nbd_request *r, uint64_t offset, uint32_t length, bool done)
{
	put_chunk(out, done ? CHUNK_DONE : 0, CHUNK_DATA, r->cookie, 8 + length);
	nbd_put(out->head + 20, offset, 8);
	out->head_length = 28;
}

static void record(struct nbd_request *r)
{
	static const uint8_t counters[] = {
		[BLOCK_READ] = RACKWIRE_KRPING_BLOCK_READS, [BLOCK_WRITE] = RACKWIRE_KRPING_BLOCK_WRITES,
		[BLOCK_FLUSH] = RACKWIRE_KRPING_BLOCK_FLUSHES, [BLOCK_TRIM] = RACKWIRE_KRPING_BLOCK_TRIMS,
		[BLOCK_ZERO] = RACKWIRE_KRPING_BLOCK_ZEROES,
	};
	uint32_t histogram = r->op == BLOCK_READ ? 0 : r->op == BLOCK_WRITE ? 1 : 2;
	struct rackwire_krping_nbd *n = r->client->nbd;

	r->replied = true;
	if (r->status)
		nbd_count(n, RACKWIRE_KRPING_BLOCK_ERRORS, 1);
	if (!r->op)
		return;
	nbd_count(n, counters[r->op], 1);
	if (!r->status && r->op == BLOCK_READ)
		nbd_count(n, RACKWIRE_KRPING_BLOCK_READ_BYTES, r->length);
	else if (!r->status && r->op == BLOCK_WRITE)
		nbd_count(n, RACKWIRE_KRPING_BLOCK_WRITE_BYTES, r->length);
	rackwire_histogram_record(&n->stats.histograms[histogram], rackwire_now_ns() - r->started);
}

/* The last of a request, without data. */
static void reply(struct nbd_request *r, uint32_t status)
{
	struct nbd_out *out = &r->out;

	r->status = status;
	record(r);
	out->request = r;
	if (!r->structured || !r->client->structured) {
		put_simple(out, status, r->cookie);
	} else if (status) {
		put_chunk(out, CHUNK_DONE, CHUNK_ERROR, r->cookie, 6);
		nbd_put(out->head + 20, status, 4);
		nbd_put(out->head + 24, 0, 2);
		out->head_length = 26;
	} else {
		put_chunk(out, CHUNK_DONE, CHUNK_NONE, r->cookie, 0);
	}
	send_out(r->client, out);
}

/* ---- ends ---- */

static void piece_free(struct nbd_piece *p)
{
	if (p->chunk)
		nbd_chunk_put(p->request->client, p->chunk);
	free(p);
}

/* Frees a request of which nothing is left. */
static void settle(struct nbd_request *r)
{
	struct nbd_client *c = r->client;
	struct nbd_piece *p;

	if (r->open || r->pieces || r->outs || !r->replied)
		return;
	while ((p = r->first)) {
		r->first = p->sibling;
		piece_free(p);
	}
	*r->link = r->next;
	if (r->next)
		r->next->link = r->link;
	c->requests--;
	c->nbd->under_way--;
	free(r);
	nbd_client_ready(c);
}

void nbd_out_sent(struct nbd_out *out)
{
	struct nbd_request *r = out->request;
	struct nbd_piece **at = &r->first;

	r->outs--;
	while (out->piece && *at) {
		struct nbd_piece *p = *at;

		if (p != out->piece) {
			at = &p->sibling;
			continue;
		}
		*at = p->sibling;
		if (r->last == &p->sibling)
			r->last = at;
		piece_free(p);
		break;
	}
	settle(r);
}

void nbd_request_forget(struct nbd_client *c)
{
	struct nbd_request *r, *next;

	if (c->filling)
		piece_free(c->filling);
	c->filling = NULL;
	c->write = NULL;
	c->reads = NULL;
	c->reads_last = &c->reads;
	c->outs = NULL;
	c->outs_last = &c->outs;
	c->later = NULL;
	c->later_last = &c->later;
	c->streaming = NULL;
	for (r = c->all; r; r = next) {
		next = r->next;
		r->open = false;
		r->flush = false;
		r->replied = true;
		r->outs = 0;
		settle(r);
	}
}

/* ---- pieces ---- */

static struct nbd_piece *piece_new(struct nbd_request *r, uint8_t op, uint32_t length, uint8_t *chunk)
{
	struct nbd_piece *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->request = r;
	p->op = op;
	p->flags = r->flags;
	p->export = r->client->export;
	p->offset = r->offset + r->begun;
	p->length = length;
	p->chunk = chunk;
	p->out.request = r;
	p->out.piece = p;
	p->out.data = chunk;
	p->out.length = length;
	return p;
}

static void submit(struct nbd_piece *p)
{
	p->request->pieces++;
	nbd_link_submit(p->request->client->nbd, p);
}

static void finish(struct nbd_request *r);

/* The next piece of a request without data: one at a time, since each may be much work. */
static void next_piece(struct nbd_request *r)
{
	uint8_t op = r->begun < r->length ? r->op : BLOCK_FLUSH;
	uint32_t length = op == BLOCK_FLUSH ? 0 : min32(r->length - r->begun, BLOCK_MAX_ZERO);
	struct nbd_piece *p = piece_new(r, op, length, NULL);

	if (!p) {
		r->status = BLOCK_ENOMEM;
		finish(r);
		return;
	}
	r->begun += length;
	if (op == BLOCK_FLUSH) {
		p->flags = 0;
		p->mark = export_of(r->client)->written;
		r->flush = false;
	}
	r->open = r->begun < r->length;
	submit(p);
}

void nbd_request_advance(struct nbd_client *c)
{
	struct nbd_request *r;
	struct nbd_piece *p;
	uint8_t *chunk;

	while ((r = c->reads)) {
		while (r->begun < r->length) {
			chunk = nbd_chunk_get(c);
			p = chunk ? piece_new(r, BLOCK_READ, min32(piece_limit(c), r->length - r->begun), chunk) : NULL;
			if (!p) {
				if (chunk)
					nbd_chunk_put(c, chunk);
				return;
			}
			r->begun += p->length;
			*r->last = p;
			r->last = &p->sibling;
			if (!r->cursor)
				r->cursor = p;
			submit(p);
		}
		r->open = false;
		c->reads = r->next_read;
		if (!c->reads)
			c->reads_last = &c->reads;
	}
}

bool nbd_write_prepare(struct nbd_client *c)
{
	struct nbd_request *r = c->write;
	uint8_t *chunk;

	if (c->filling)
		return true;
	chunk = nbd_chunk_get(c);
	if (!chunk)
		return false;
	c->filling = piece_new(r, BLOCK_WRITE, min32(piece_limit(c), r->length - r->begun), chunk);
	c->filled = 0;
	if (!c->filling)
		nbd_chunk_put(c, chunk);
	return c->filling;
}

void nbd_write_filled(struct nbd_client *c)
{
	struct nbd_request *r = c->write;
	struct nbd_piece *p = c->filling;

	r->begun += p->length;
	c->filling = NULL;
	if (r->begun == r->length) {
		r->open = false;
		c->write = NULL;
		c->phase = NBD_REQUEST;
	}
	submit(p);
}

void nbd_write_skipped(struct nbd_client *c)
{
	struct nbd_request *r = c->write;

	c->write = NULL;
	r->open = false;
	reply(r, r->status);
}

/* ---- results ---- */

static void send_whole(struct nbd_request *r)
{
	struct nbd_piece *p = r->first;

	if (r->client->structured)
		put_data(&p->out, r, r->offset, r->length, true);
	else
		put_simple(&p->out, 0, r->cookie);
	record(r);
	for (; p; p = p->sibling)
		send_out(r->client, &p->out);
}

static void send_fragment(struct nbd_request *r, struct nbd_piece *p)
{
	bool last = !r->open && !r->pieces;

	if (!p->status) {
		put_data(&p->out, r, p->offset, p->length, last && !r->status);
		if (last && !r->status)
			record(r);
		send_out(r->client, &p->out);
	}
	if (last && r->status)
		reply(r, r->status);
}

static void send_stream(struct nbd_request *r)
{
	struct nbd_client *c = r->client;

	if (r->status) {
		/* No error can be told behind the header of success. */
		nbd_client_close(c);
		return;
	}
	if (c->streaming && c->streaming != r)
		return;
	while (r->cursor && r->cursor->done) {
		struct nbd_piece *p = r->cursor;

		if (p->offset == r->offset)
			put_simple(&p->out, 0, r->cookie);
		c->streaming = r;
		r->cursor = p->sibling;
		if (!r->cursor && !r->open)
			record(r);
		send_out(c, &p->out);
	}
	if (!r->replied)
		return;
	/* What had to wait for the end of it. */
	c->streaming = NULL;
	*c->outs_last = c->later;
	if (c->later)
		c->outs_last = c->later_last;
	c->later = NULL;
	c->later_last = &c->later;
	for (r = c->all; r && !c->streaming; r = r->next)
		if (r->op == BLOCK_READ && r->manner == NBD_STREAM && !r->replied && r->cursor && r->cursor->done)
			break;
	if (r)
		send_stream(r);
}

static void read_done(struct nbd_piece *p)
{
	struct nbd_request *r = p->request;

	switch (r->manner) {
	case NBD_WHOLE:
		if (r->open || r->pieces)
			return;
		if (r->status)
			reply(r, r->status);
		else
			send_whole(r);
		return;
	case NBD_FRAGMENT:
		send_fragment(r, p);
		return;
	case NBD_STREAM:
		send_stream(r);
	}
}

/* A request but for reads: its pieces so far are done. */
static void finish(struct nbd_request *r)
{
	if (!r->status && (r->begun < r->length || r->flush)) {
		next_piece(r);
		return;
	}
	r->open = false;
	reply(r, r->status);
}

/* What the exporter has to keep: it is asked whether it does when it comes back. */
static void account(struct nbd_piece *p)
{
	struct nbd_export *e = &p->request->client->nbd->exports[p->export];

	if (p->op == BLOCK_FLUSH) {
		if (p->mark > e->flushed)
			e->flushed = p->mark;
	} else if (p->op != BLOCK_READ && !(p->flags & BLOCK_FUA)) {
		e->written++;
	}
}

void nbd_piece_done(struct nbd_piece *p, uint32_t status)
{
	struct nbd_request *r = p->request;
	bool gone = r->client->fd < 0;

	p->done = true;
	p->status = status;
	r->pieces--;
	if (!status)
		account(p);
	else if (!r->status)
		r->status = status;
	if (r->op == BLOCK_READ) {
		if (!gone)
			read_done(p);
		else
			settle(r);
		return;
	}
	piece_free(p);
	if (gone)
		settle(r);
	else if (!r->pieces && (!r->open || r->op != BLOCK_WRITE))
		finish(r);
}

/* ---- beginnings ---- */

static uint32_t judge(const struct nbd_client *c, const struct nbd_request *r, uint32_t type, uint32_t flags)
{
	const struct nbd_export *e = export_of(c);
	uint32_t known = CMD_FUA;
	bool writes = type == CMD_WRITE || type == CMD_TRIM || type == CMD_WRITE_ZEROES;

	if (type == CMD_READ && c->structured)
		known |= CMD_DF;
	if (type == CMD_WRITE_ZEROES)
		known |= CMD_NO_HOLE | CMD_FAST_ZERO;
	if (!r->op || flags & ~known)
		return BLOCK_EINVAL;
	if (r->op == BLOCK_FLUSH)
		return BLOCK_OK;
	if (writes && (e->about.flags & BLOCK_ABOUT_READ_ONLY || c->nbd->config.flags & RACKWIRE_KRPING_NBD_READ_ONLY))
		return BLOCK_EPERM;
	if (!r->length || (r->op <= BLOCK_WRITE && r->length > NBD_MAX_REQUEST))
		return BLOCK_EINVAL;
	if (r->offset > e->about.length || r->length > e->about.length - r->offset)
		return type == CMD_WRITE || type == CMD_WRITE_ZEROES ? BLOCK_ENOSPC : BLOCK_EINVAL;
	if (flags & CMD_DF && r->length > c->nbd->share * piece_limit(c))
		return BLOCK_EOVERFLOW;
	return BLOCK_OK;
}

static uint8_t op_of(uint32_t type)
{
	switch (type) {
	case CMD_READ:
		return BLOCK_READ;
	case CMD_WRITE:
		return BLOCK_WRITE;
	case CMD_FLUSH:
		return BLOCK_FLUSH;
	case CMD_TRIM:
		return BLOCK_TRIM;
	case CMD_WRITE_ZEROES:
		return BLOCK_ZERO;
	default:
		return 0;
	}
}

static void begin_read(struct nbd_request *r)
{
	struct nbd_client *c = r->client;

	r->last = &r->first;
	r->open = true;
	/* What fits a client's own memory can wait for all of it. */
	r->manner = r->length <= c->nbd->share * piece_limit(c) ? NBD_WHOLE :
		    c->structured ? NBD_FRAGMENT : NBD_STREAM;
	*c->reads_last = r;
	c->reads_last = &r->next_read;
	nbd_request_advance(c);
}

/* One piece with FUA, or several and then a flush. */
static void set_fua(struct nbd_request *r, uint32_t limit)
{
	if (r->length <= limit)
		r->flags |= BLOCK_FUA;
	else
		r->flush = true;
}

static void begin_write(struct nbd_request *r)
{
	struct nbd_client *c = r->client;

	r->open = true;
	c->write = r;
	c->phase = NBD_PAYLOAD;
}

static void refuse(struct nbd_request *r, uint32_t type, uint32_t status)
{
	struct nbd_client *c = r->client;

	nbd_count(c->nbd, RACKWIRE_KRPING_BLOCK_REFUSED, 1);
	r->op = 0;
	r->status = status;
	if (type != CMD_WRITE || !r->length) {
		reply(r, status);
		return;
	}
	r->open = true;
	c->write = r;
	c->skip = r->length;
	c->phase = NBD_SKIP;
	c->after_skip = NBD_REQUEST;
}

void nbd_request_begin(struct nbd_client *c, const uint8_t *header)
{
	uint32_t flags = (uint32_t)nbd_get(header + 4, 2), type = (uint32_t)nbd_get(header + 6, 2), status;
	struct nbd_request *r;

	if (nbd_get(header, 4) != REQUEST_MAGIC) {
		nbd_count(c->nbd, RACKWIRE_KRPING_BLOCK_REFUSED, 1);
		nbd_client_close(c);
		return;
	}
	if (type == CMD_DISC) {
		c->ending = true;
		return;
	}
	r = calloc(1, sizeof(*r));
	if (!r) {
		nbd_client_close(c);
		return;
	}
	r->client = c;
	r->next = c->all;
	r->link = &c->all;
	if (r->next)
		r->next->link = &r->next;
	c->all = r;
	c->requests++;
	c->nbd->under_way++;
	r->cookie = nbd_get(header + 8, 8);
	r->offset = nbd_get(header + 16, 8);
	r->length = (uint32_t)nbd_get(header + 24, 4);
	r->started = rackwire_now_ns();
	r->op = op_of(type);
	r->structured = type == CMD_READ;
	status = judge(c, r, type, flags);
	if (status) {
		refuse(r, type, status);
		return;
	}
	switch (r->op) {
	case BLOCK_READ:
		begin_read(r);
		return;
	case BLOCK_WRITE:
		if (flags & CMD_FUA)
			set_fua(r, piece_limit(c));
		begin_write(r);
		return;
	case BLOCK_FLUSH:
		r->length = 0;
		r->flush = true;
		break;
	default:
		r->flags = (uint8_t)((flags & CMD_NO_HOLE ? BLOCK_NO_HOLE : 0) |
				     (flags & CMD_FAST_ZERO ? BLOCK_FAST : 0));
		if (flags & CMD_FUA)
			set_fua(r, BLOCK_MAX_ZERO);
	}
	next_piece(r);
}
