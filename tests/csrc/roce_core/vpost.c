/* SPDX-License-Identifier: BSD-2-Clause */
/* What applications post. */
#include <stdlib.h>

#include "vapp.h"

static void *need(void *ptr)
{
	if (!ptr)
		abort();
	return ptr;
}

u64 vwr_new(struct vapp *app, void *p, bool recv)
{
	if (app->nwrs == app->wrs_cap) {
		app->wrs_cap = app->wrs_cap ? 2 * app->wrs_cap : 256;
		app->wrs = need(realloc(app->wrs, app->wrs_cap * sizeof(*app->wrs)));
	}
	app->wrs[app->nwrs].p = p;
	app->wrs[app->nwrs].recv = recv;
	app->wrs[app->nwrs].done = false;
	return 0xabc000000000ull + app->nwrs++;
}

/* ---- local memory ---- */

static u32 local_key(struct vside *s)
{
	if (vchance(&s->host->net->rng, s->plan.any_lkey_ppm))
		return RACKWIRE_ROCE_LOCAL_DMA_LKEY;
	return vapp_host(s->host)->local_key;
}

/* @len bytes in up to @most pieces of the side's memory; 0: there is no room. */
static u32 scatter(struct vside *s, u32 len, u32 most, struct vext **ext, struct rackwire_roce_sge *sge)
{
	struct vrng *r = &s->host->net->rng;
	u32 n = 0, done = 0, key = local_key(s);

	while (n < most && (done < len || (n && vchance(r, 100000)))) {
		u32 piece = n + 1 == most ? len - done : (u32)vrange(r, vchance(r, 50000) ? 0 : 1, len - done);

		if (done == len)
			piece = 0;
		else if (n + 1 < most && vchance(r, 300000))
			piece = len - done;
		ext[n] = vspace_get(&vapp_host(s->host)->space, r, piece, 1);
		if (!ext[n]) {
			while (n)
				vspace_put(ext[--n]);
			return ~0u;
		}
		sge[n] = (struct rackwire_roce_sge){ (uintptr_t)vext_ptr(ext[n]), piece, key };
		done += piece;
		n++;
	}
	return n;
}

static bool source(struct vop *op, struct rackwire_roce_sge *sge)
{
	u64 at = 0;

	op->nsge = scatter(op->side, op->len, op->side->plan.max_sge, op->ext, sge);
	if (op->nsge == ~0u)
		return false;
	for (u32 i = 0; i < op->nsge; i++) {
		vext_fill(op->ext[i], op->seed, at);
		at += op->ext[i]->len;
	}
	return true;
}

static bool sink(struct vop *op, struct rackwire_roce_sge *sge)
{
	op->nsge = scatter(op->side, op->len, op->side->plan.max_sge, op->ext, sge);
	if (op->nsge == ~0u)
		return false;
	for (u32 i = 0; i < op->nsge; i++)
		op->ext[i]->open = true;
	return true;
}

static bool result_word(struct vop *op, struct rackwire_roce_sge *sge)
{
	op->len = 8;
	op->ext[0] = vspace_get(&vapp_host(op->side->host)->space, &op->side->host->net->rng, 8, 8);
	if (!op->ext[0])
		return false;
	op->nsge = 1;
	op->ext[0]->open = true;
	sge[0] = (struct rackwire_roce_sge){ (uintptr_t)vext_ptr(op->ext[0]), 8, local_key(op->side) };
	return true;
}

void vop_release(struct vop *op, bool scribble)
{
	struct vnet *net = op->side->host->net;

	for (u32 i = 0; i < op->nsge; i++) {
		if (!op->ext[i])
			continue;
		if (scribble)
			vext_fill(op->ext[i], vrand(&net->rng), 0);
		vspace_put(op->ext[i]);
		op->ext[i] = NULL;
	}
	op->nsge = 0;
}

void vrecv_release(struct vrecv *r)
{
	for (u32 i = 0; i < r->nsge; i++)
		vspace_put(r->ext[i]);
	r->nsge = 0;
}

/* ---- requests that are in order ---- */

static u32 draw_len(struct vside *s, u32 most)
{
	struct vrng *r = &s->host->net->rng;
	u32 chunk = s->conn->chunk, k;

	most = (u32)roce_min(most, s->plan.max_len);
	if (s->empty)
		return 0;
	switch (vrange(r, 0, 5)) {
	case 0:
		return (u32)vrange(r, 0, roce_min(most, 8));
	case 1: /* about a multiple of the path MTU */
		k = (u32)vrange(r, 1, 1 + most / chunk);
		return (u32)roce_min(most, vrange(r, k * chunk - 1, k * chunk + 1));
	case 2:
		return (u32)vrange(r, 0, most);
	default:
		return most ? (u32)vrange_log(r, 1, most) : 0;
	}
}

static void remote(struct vop *op, struct rackwire_roce_send_wr *wr, struct vregion *region)
{
	op->target = region;
	region->users++;
	wr->remote_addr = (uintptr_t)vext_ptr(region->ext);
	wr->rkey = region->key;
}

static struct vregion *pick_target(struct vside *s)
{
	struct vside *peer = vside_peer(s);
	u32 i = (u32)vrange(&s->host->net->rng, 0, VTARGETS - 1);

	return peer->target[i].state == VKEY_LIVE ? &peer->target[i] : &peer->target[0];
}

static void message(struct vop *op)
{
	op->msg = op->side->nmsgs;
}

static bool build_send(struct vop *op, struct rackwire_roce_send_wr *wr, struct rackwire_roce_sge *sge)
{
	struct vside *s = op->side, *peer = vside_peer(s);

	op->len = draw_len(s, s->plan.max_len);
	if (op->opcode == RACKWIRE_ROCE_WR_SEND_WITH_INV) {
		struct vregion *dyn = &peer->target[VDYN];

		if (dyn->state != VKEY_LIVE)
			return false;
		if (!source(op, sge))
			return false;
		op->target = dyn;
		dyn->users++;
		dyn->state = VKEY_CHANGING;
		op->inv_key = wr->ex.rkey = dyn->key;
		wr->flags |= RACKWIRE_ROCE_SEND_FENCE; /* READs of it are over */
	} else if (!source(op, sge)) {
		return false;
	}
	if (op->opcode == RACKWIRE_ROCE_WR_SEND_WITH_IMM)
		op->imm = wr->ex.imm = (u32)vrand(&s->host->net->rng);
	message(op);
	return true;
}

static bool build_write(struct vop *op, struct rackwire_roce_send_wr *wr, struct rackwire_roce_sge *sge)
{
	struct vregion *region = pick_target(op->side);

	op->len = draw_len(op->side, region->ext->len);
	if (!source(op, sge))
		return false;
	remote(op, wr, region);
	op->number = vcell_post(region->cell, op->len, op->seed);
	if (op->opcode == RACKWIRE_ROCE_WR_RDMA_WRITE_WITH_IMM) {
		op->imm = wr->ex.imm = (u32)vrand(&op->side->host->net->rng);
		message(op);
	}
	return true;
}

static bool build_read(struct vop *op, struct rackwire_roce_send_wr *wr, struct rackwire_roce_sge *sge)
{
	struct vregion *region = pick_target(op->side), *local = &op->side->sink;

	op->len = draw_len(op->side, region->ext->len);
	if (op->opcode == RACKWIRE_ROCE_WR_RDMA_READ_WITH_INV) {
		if (local->state != VKEY_LIVE)
			return false;
		op->len = (u32)roce_min(op->len, local->ext->len);
		sge[0] = (struct rackwire_roce_sge){ (uintptr_t)vext_ptr(local->ext), op->len, local->key };
		local->ext->open = true;
		local->state = VKEY_CHANGING;
		op->inv_key = wr->ex.rkey = local->key;
		wr->num_sge = 1;
		wr->flags |= RACKWIRE_ROCE_SEND_SIGNALED;
	} else if (!sink(op, sge)) {
		return false;
	}
	remote(op, wr, region);
	op->number = region->cell->nops;
	return true;
}

static bool build_atomic(struct vop *op, struct rackwire_roce_send_wr *wr, struct rackwire_roce_sge *sge)
{
	struct vside *peer = vside_peer(op->side);
	struct vhostapp *far = vapp_host(peer->host);
	struct vrng *r = &op->side->host->net->rng;

	if (!result_word(op, sge))
		return false;
	if (op->opcode == RACKWIRE_ROCE_WR_ATOMIC_FETCH_AND_ADD) {
		op->counter = true;
		far->adds_posted++;
		wr->compare_add = 1;
		wr->remote_addr = far->counter_addr;
		wr->rkey = far->counter_key;
		return true;
	}
	op->expect_old = peer->cas_value;
	wr->compare_add = vchance(r, 700000) ? peer->cas_value : vrand(r);
	op->swap = wr->swap = vrand(r);
	if (wr->compare_add == peer->cas_value)
		peer->cas_value = op->swap;
	wr->remote_addr = (uintptr_t)vext_ptr(peer->cas_ext);
	wr->rkey = peer->cas_key;
	peer->cas_open++;
	return true;
}

static bool build_reg(struct vop *op, struct rackwire_roce_send_wr *wr)
{
	struct vside *s = op->side;
	struct vregion *dyn = &s->target[VDYN], *region = dyn;
	u32 key;

	if (region->state != VKEY_DEAD || vchance(&s->host->net->rng, 500000))
		region = &s->sink;
	if (region->state != VKEY_DEAD || roce_mr_next_key(region->mr, &key))
		return false;
	op->target = region;
	op->new_key = key;
	region->state = VKEY_CHANGING;
	wr->ex.reg.mr = region->mr;
	wr->ex.reg.key = key;
	wr->ex.reg.access = RACKWIRE_ROCE_LOCAL_WRITE;
	if (region == dyn)
		wr->ex.reg.access |= RACKWIRE_ROCE_REMOTE_READ | RACKWIRE_ROCE_REMOTE_WRITE;
	wr->flags |= RACKWIRE_ROCE_SEND_SIGNALED;
	return true;
}

static bool build_inv(struct vop *op, struct rackwire_roce_send_wr *wr)
{
	struct vside *s = op->side;
	struct vregion *region = &s->target[VDYN];

	if (region->state != VKEY_LIVE || region->users)
		region = &s->sink;
	if (region->state != VKEY_LIVE)
		return false;
	op->target = region;
	op->inv_key = wr->ex.rkey = region->key;
	region->state = VKEY_CHANGING;
	/* READs into it are over. */
	wr->flags |= RACKWIRE_ROCE_SEND_SIGNALED | RACKWIRE_ROCE_SEND_FENCE;
	return true;
}

/* ---- requests that must fail ---- */

static bool build_bad(struct vop *op, struct rackwire_roce_send_wr *wr, struct rackwire_roce_sge *sge)
{
	struct vside *s = op->side, *peer = vside_peer(s);
	struct vhostapp *near = vapp_host(s->host), *far = vapp_host(peer->host);
	struct vregion *plain = &peer->target[0], *dyn = &peer->target[VDYN];
	struct vrng *r = &s->host->net->rng;
	bool write = vchance(r, 500000);
	u64 addr = (uintptr_t)vext_ptr(plain->ext);
	u32 len = (u32)vrange(r, 1, roce_min(plain->ext->len, s->plan.max_len + 1)), key = plain->key;

	op->bad = true;
	s->conn->on_purpose = true;
	op->expect = RACKWIRE_ROCE_WC_REM_ACCESS_ERR;
	op->opcode = write ? RACKWIRE_ROCE_WR_RDMA_WRITE : RACKWIRE_ROCE_WR_RDMA_READ;
	switch (s->plan.bad_kind) {
	case VBAD_KEY:
		key ^= 1u << vrange(r, 0, 31);
		break;
	case VBAD_OLD_KEY:
		addr = (uintptr_t)vext_ptr(dyn->ext);
		len = (u32)roce_min(len, dyn->ext->len);
		key = dyn->ndead ? dyn->dead[vrange(r, 0, dyn->ndead - 1)] : (u32)vrand(r);
		break;
	case VBAD_BEHIND:
		addr += plain->ext->len - len + 1;
		break;
	case VBAD_BEFORE:
		addr--;
		break;
	case VBAD_FAR:
		addr = ~0ull - vrange(r, 0, len - 1);
		break;
	case VBAD_NO_WRITE:
	case VBAD_NO_READ:
	case VBAD_OTHER_PD: {
		struct vregion *region = s->plan.bad_kind == VBAD_NO_WRITE ? &peer->no_write :
					 s->plan.bad_kind == VBAD_NO_READ  ? &peer->no_read :
									     &peer->other_pd;

		if (s->plan.bad_kind != VBAD_OTHER_PD)
			write = s->plan.bad_kind == VBAD_NO_WRITE;
		op->opcode = write ? RACKWIRE_ROCE_WR_RDMA_WRITE : RACKWIRE_ROCE_WR_RDMA_READ;
		addr = (uintptr_t)vext_ptr(region->ext);
		len = (u32)roce_min(len, region->ext->len);
		key = region->key;
		break;
	}
	case VBAD_NO_ATOMIC:
		op->opcode = RACKWIRE_ROCE_WR_ATOMIC_FETCH_AND_ADD;
		wr->compare_add = 1;
		wr->remote_addr = (addr + 7) & ~7ull;
		wr->rkey = key;
		return result_word(op, sge);
	case VBAD_LOCAL_ONLY:
		key = far->local_key;
		break;
	case VBAD_TOO_LONG:
		op->opcode = RACKWIRE_ROCE_WR_SEND;
		op->expect = RACKWIRE_ROCE_WC_REM_INV_REQ_ERR;
		op->len = s->plan.max_len + 1 + (u32)vrange(r, 0, 3);
		if (!source(op, sge))
			return false;
		message(op);
		return true;
	case VBAD_LKEY:
	case VBAD_LOCAL_BEHIND:
		op->opcode = write ? RACKWIRE_ROCE_WR_RDMA_WRITE : RACKWIRE_ROCE_WR_SEND;
		op->expect = RACKWIRE_ROCE_WC_LOC_PROT_ERR;
		op->len = 8;
		wr->remote_addr = addr;
		wr->rkey = key;
		wr->num_sge = 1;
		sge[0] = (struct rackwire_roce_sge){ (uintptr_t)near->space.mem + near->space.size - 7, 8,
						     near->local_key };
		if (s->plan.bad_kind == VBAD_LKEY) {
			sge[0].addr -= 8;
			sge[0].lkey ^= 1u << vrange(r, 0, 31);
		}
		return true;
	case VBAD_LOCAL_RIGHTS:
		op->opcode = RACKWIRE_ROCE_WR_RDMA_READ;
		op->expect = RACKWIRE_ROCE_WC_LOC_PROT_ERR;
		op->len = len;
		wr->remote_addr = addr;
		wr->rkey = key;
		wr->num_sge = 1;
		sge[0] = (struct rackwire_roce_sge){ (uintptr_t)near->space.mem, len, near->readonly_key };
		return len <= near->space.size;
	}
	op->len = len;
	wr->remote_addr = addr;
	wr->rkey = key;
	return write ? source(op, sge) : sink(op, sge);
}

/* ---- posting ---- */

static struct vop *build(struct vside *s, u32 opcode, bool bad, struct rackwire_roce_send_wr *wr,
			 struct rackwire_roce_sge *sge)
{
	struct vrng *r = &s->host->net->rng;
	struct vop *op = need(calloc(1, sizeof(*op)));
	bool ok = false;

	*op = (struct vop){ .side = s, .opcode = opcode, .seed = vrand(r), .msg = ~0u, .far_life = vside_peer(s)->host->life };
	*wr = (struct rackwire_roce_send_wr){ .sg_list = sge };
	for (u32 i = 0; i < VTARGETS; i++)
		op->marks[i] = vside_peer(s)->target[i].cell->nops;
	if (vchance(r, s->plan.signal_ppm))
		wr->flags |= RACKWIRE_ROCE_SEND_SIGNALED;
	if (vchance(r, s->plan.fence_ppm))
		wr->flags |= RACKWIRE_ROCE_SEND_FENCE;
	if (vchance(r, 100000))
		wr->flags |= RACKWIRE_ROCE_SEND_SOLICITED;
	if (bad) {
		ok = build_bad(op, wr, sge);
	} else {
		switch (opcode) {
		case RACKWIRE_ROCE_WR_SEND:
		case RACKWIRE_ROCE_WR_SEND_WITH_IMM:
		case RACKWIRE_ROCE_WR_SEND_WITH_INV:
			ok = build_send(op, wr, sge);
			break;
		case RACKWIRE_ROCE_WR_RDMA_WRITE:
		case RACKWIRE_ROCE_WR_RDMA_WRITE_WITH_IMM:
			ok = build_write(op, wr, sge);
			break;
		case RACKWIRE_ROCE_WR_RDMA_READ:
		case RACKWIRE_ROCE_WR_RDMA_READ_WITH_INV:
			ok = build_read(op, wr, sge);
			break;
		case RACKWIRE_ROCE_WR_ATOMIC_CMP_AND_SWP:
		case RACKWIRE_ROCE_WR_ATOMIC_FETCH_AND_ADD:
			ok = build_atomic(op, wr, sge);
			break;
		case RACKWIRE_ROCE_WR_LOCAL_INV:
			ok = build_inv(op, wr);
			break;
		case RACKWIRE_ROCE_WR_REG_MR:
			ok = build_reg(op, wr);
			break;
		}
	}
	if (!ok) {
		free(op);
		return NULL;
	}
	if (op->nsge)
		wr->num_sge = op->nsge;
	if (!bad && op->len <= RACKWIRE_ROCE_MAX_INLINE && op->opcode <= RACKWIRE_ROCE_WR_RDMA_WRITE_WITH_IMM &&
	    vchance(r, s->plan.inline_ppm)) {
		wr->flags |= RACKWIRE_ROCE_SEND_INLINE;
		for (u32 i = 0; i < op->nsge; i++)
			sge[i].lkey = (u32)vrand(r); /* not looked at */
	}
	wr->opcode = op->opcode;
	op->flags = wr->flags;
	op->wr_id = wr->wr_id = vwr_new(vapp_of(s->host->net), op, false);
	if (s->nops == s->ops_cap) {
		s->ops_cap = s->ops_cap ? 2 * s->ops_cap : 32;
		s->ops = need(realloc(s->ops, s->ops_cap * sizeof(*s->ops)));
	}
	op->index = s->nops;
	s->ops[s->nops++] = op;
	if (op->msg != ~0u) {
		if (s->nmsgs == s->msgs_cap) {
			s->msgs_cap = s->msgs_cap ? 2 * s->msgs_cap : 32;
			s->msgs = need(realloc(s->msgs, s->msgs_cap * sizeof(*s->msgs)));
		}
		s->msgs[s->nmsgs++] = op;
	}
	return op;
}

/* The last request built was not taken: it never was. */
static void unbuild(struct vside *s)
{
	struct vop *op = s->ops[--s->nops];

	if (op->msg != ~0u)
		s->nmsgs--;
	vapp_of(s->host->net)->nwrs--;
	if (!op->bad)
		switch (op->opcode) {
		case RACKWIRE_ROCE_WR_SEND_WITH_INV:
			op->target->users--;
			op->target->state = VKEY_LIVE;
			break;
		case RACKWIRE_ROCE_WR_RDMA_WRITE:
		case RACKWIRE_ROCE_WR_RDMA_WRITE_WITH_IMM:
			op->target->cell->nops--;
			op->target->users--;
			break;
		case RACKWIRE_ROCE_WR_RDMA_READ_WITH_INV:
			s->sink.state = VKEY_LIVE;
			s->sink.ext->open = false;
			/* fall through */
		case RACKWIRE_ROCE_WR_RDMA_READ:
			op->target->users--;
			break;
		case RACKWIRE_ROCE_WR_ATOMIC_CMP_AND_SWP:
			vside_peer(s)->cas_value = op->expect_old;
			vside_peer(s)->cas_open--;
			break;
		case RACKWIRE_ROCE_WR_ATOMIC_FETCH_AND_ADD:
			if (op->far_life == vside_peer(s)->host->life)
				vapp_host(vside_peer(s)->host)->adds_posted--;
			break;
		case RACKWIRE_ROCE_WR_LOCAL_INV:
			op->target->state = VKEY_LIVE;
			break;
		case RACKWIRE_ROCE_WR_REG_MR:
			op->target->state = VKEY_DEAD;
			break;
		}
	vop_release(op, false);
	free(op);
}

static u32 draw_opcode(struct vside *s)
{
	u64 sum = 0, at;

	for (u32 i = 0; i < RACKWIRE_ROCE_WR_OPCODES; i++)
		sum += s->plan.weight[i];
	at = vrange(&s->host->net->rng, 1, sum);
	for (u32 i = 0;; i++) {
		if (at <= s->plan.weight[i])
			return i;
		at -= s->plan.weight[i];
	}
}

#define MAX_BATCH 8

/* Posts what was built since @first. */
static bool hand_over(struct vside *s, u32 first, const struct rackwire_roce_send_wr *wrs,
		      struct rackwire_roce_sge (*sges)[RACKWIRE_ROCE_MAX_SGE])
{
	struct vnet *net = s->host->net;
	u32 n = s->nops - first, done = ~0u;
	int r = roce_post_send(s->qp, vhost_clock(s->host), wrs, n, &done);

	vhost_touch(s->host);
	for (u32 i = first; i < s->nops; i++)
		if (s->ops[i]->flags & RACKWIRE_ROCE_SEND_INLINE && i - first < done)
			vop_release(s->ops[i], true);
	memset(sges, 0x5c, n * sizeof(sges[0])); /* read during the call only */
	if (r == 0 && done == n)
		return true;
	if (r == 0 || done >= n ||
	    !((r == -EINVAL && roce_qp_state(s->qp) == RACKWIRE_ROCE_QP_ERR) || (r == -ENOMEM && vapp_of(net)->allow_nomem)))
		vnet_fail(net, "connection %u end %u: roce_post_send of %u requests, the first opcode %u, gives %d, %u done, state %u",
			  s->conn->index, s->who, n, wrs[0].opcode, r, done, roce_qp_state(s->qp));
	while (s->nops > first + (done < n ? done : 0))
		unbuild(s);
	return false;
}

/* One that is under way will complete to the CQ. */
static bool told(const struct vside *s)
{
	for (u32 i = s->head; i < s->nops; i++)
		if (s->plan.signal_all || s->ops[i]->flags & RACKWIRE_ROCE_SEND_SIGNALED)
			return true;
	return false;
}

void vpost_sends(struct vside *s)
{
	struct vnet *net = s->host->net;
	struct rackwire_roce_sge sge[MAX_BATCH][RACKWIRE_ROCE_MAX_SGE];
	struct rackwire_roce_send_wr wr[MAX_BATCH];

	while (s->state == V_UP && !s->status && s->planned < s->plan.ops && !net->failed) {
		u32 first = s->nops, n = (u32)vrange(&net->rng, 1, s->plan.batch), built = 0;

		if (net->now < s->next_post) {
			vside_arm(s, s->next_post);
			return;
		}
		n = (u32)roce_min(n, roce_min(MAX_BATCH, s->plan.ops - s->planned));
		n = (u32)roce_min(n, s->plan.send_depth - (s->nops - s->head));
		if (!n)
			return;
		while (built < n) {
			bool bad = s->planned + built == s->plan.bad_at;
			u32 opcode = draw_opcode(s);

			if (!build(s, opcode, bad, &wr[built], sge[built]) &&
			    (bad || !build(s, RACKWIRE_ROCE_WR_SEND, false, &wr[built], sge[built])))
				break;
			built++;
		}
		if (!built) { /* no memory: once something completes that tells of it */
			if (s->nops != s->head && told(s))
				return;
			s->empty = true;
			if (!build(s, RACKWIRE_ROCE_WR_SEND, false, &wr[0], sge[0]))
				vnet_fail(net, "an empty message cannot be built");
			s->empty = false;
			built = 1;
			wr[0].flags |= RACKWIRE_ROCE_SEND_SIGNALED;
			s->ops[s->nops - 1]->flags |= RACKWIRE_ROCE_SEND_SIGNALED;
		}
		/* The last ones must not stay without a completion that tells of them. */
		if (s->planned + built == s->plan.ops || s->nops - s->head == s->plan.send_depth) {
			wr[built - 1].flags |= RACKWIRE_ROCE_SEND_SIGNALED;
			s->ops[s->nops - 1]->flags |= RACKWIRE_ROCE_SEND_SIGNALED;
		}
		s->planned += built;
		if (!hand_over(s, first, wr, sge))
			return;
		if (s->plan.post_gap_ns)
			s->next_post = net->now + vrange(&net->rng, 0, 2 * s->plan.post_gap_ns);
	}
}

static bool post_recv(struct vside *s)
{
	struct vnet *net = s->host->net;
	struct rackwire_roce_sge sge[RACKWIRE_ROCE_MAX_SGE];
	struct rackwire_roce_recv_wr wr = { .sg_list = sge };
	struct vrecv *recv = need(calloc(1, sizeof(*recv)));
	u32 done = ~0u;
	int r;

	recv->side = s;
	recv->nsge = scatter(s, vside_peer(s)->plan.max_len, s->plan.max_sge, recv->ext, sge);
	if (recv->nsge == ~0u) {
		free(recv);
		return false;
	}
	for (u32 i = 0; i < recv->nsge; i++)
		recv->ext[i]->open = true;
	wr.num_sge = recv->nsge;
	recv->wr_id = wr.wr_id = vwr_new(vapp_of(net), recv, true);
	if (s->nrecvs == s->recvs_cap) {
		s->recvs_cap = s->recvs_cap ? 2 * s->recvs_cap : 32;
		s->recvs = need(realloc(s->recvs, s->recvs_cap * sizeof(*s->recvs)));
	}
	r = roce_post_recv(s->qp, &wr, 1, &done);
	vhost_touch(s->host);
	if (r == 0 && done == 1) {
		s->recvs[s->nrecvs++] = recv;
		return true;
	}
	if (r == 0 || done || !(r == -EINVAL && roce_qp_state(s->qp) == RACKWIRE_ROCE_QP_ERR))
		vnet_fail(net, "connection %u end %u: roce_post_recv gives %d, %u done", s->conn->index, s->who, r, done);
	vapp_of(net)->nwrs--;
	vrecv_release(recv);
	free(recv);
	return false;
}

void vpost_recvs(struct vside *s)
{
	struct vnet *net = s->host->net;

	while (s->qp && s->state < V_CLOSING && !s->recv_status && s->nrecvs - s->recv_head < s->plan.recv_depth && !net->failed) {
		if (net->now < s->next_recv) {
			vside_arm(s, s->next_recv);
			return;
		}
		if (!post_recv(s)) {
			/* No memory just now. */
			if (s->nrecvs == s->recv_head)
				vside_arm(s, net->now + 50 * USEC);
			return;
		}
		if (s->plan.recv_gap_ns)
			s->next_recv = net->now + vrange(&net->rng, 0, 2 * s->plan.recv_gap_ns);
	}
}
