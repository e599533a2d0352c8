// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Rate of a queue pair under congestion, after DCQCN (Zhu et al., SIGCOMM 2015,
 * section 3): cut by half of alpha at each CNP, then come back in stages counted
 * by time and by bytes, first towards the rate before the cut, then beyond it.
 */
#include "roce_qp.h"

#define ALPHA_ONE (1u << 16)
#define G_SHIFT 8			 /* g = 1/256 */
#define ALPHA_TIMER_NS (55 * ROCE_US)
#define INCREASE_TIMER_NS (55 * ROCE_US)
#define INCREASE_BYTES (10u << 20)
#define FAST_STAGES 5
#define ADDITIVE_BPS 40000000ull
#define HYPER_BPS 200000000ull
#define MIN_BPS 10000000ull
#define CUT_NS (50 * ROCE_US)		 /* CNPs closer together are one */
#define BURST_NS (20 * ROCE_US)		 /* of lateness may be made good */

static void set_rate(struct roce_qp *qp, u64 bps)
{
	u64 line = qp->d->cfg.rate_bps;

	if (bps < roce_min(MIN_BPS, line))
		bps = roce_min(MIN_BPS, line);
	if (bps >= line) {
		bps = line;
		qp->rate.cut = false;
	}
	qp->rate.cur = bps;
	qp->rate.ns_per_byte_16 = (8 * ROCE_SEC << 16) / bps;
}

void roce_rate_init(struct roce_qp *qp)
{
	qp->rate.alpha = ALPHA_ONE;
	qp->rate.cur = qp->rate.target = qp->d->cfg.rate_bps;
}

void roce_rate_cnp(struct roce_qp *qp, u64 now)
{
	struct roce_rate *r = &qp->rate;

	if (!qp->d->cfg.rate_bps || (r->cnp_at && now - r->cnp_at < CUT_NS))
		return;
	if (!r->cut)
		r->next_tx = now;
	r->cut = true;
	r->cnp_at = now;
	r->target = r->cur;
	set_rate(qp, r->cur - (((r->cur >> 8) * r->alpha) >> 9));
	r->alpha = r->alpha - (r->alpha >> G_SHIFT) + (ALPHA_ONE >> G_SHIFT);
	r->stages_time = r->stages_bytes = 0;
	r->bytes = 0;
	r->alpha_at = now + ALPHA_TIMER_NS;
	r->increase_at = now + INCREASE_TIMER_NS;
	roce_qp_wake_at(qp, r->alpha_at);
}

static void increase(struct roce_qp *qp)
{
	struct roce_rate *r = &qp->rate;
	u32 least = r->stages_time < r->stages_bytes ? r->stages_time : r->stages_bytes;
	u32 most = r->stages_time > r->stages_bytes ? r->stages_time : r->stages_bytes;

	if (least > FAST_STAGES)
		r->target += HYPER_BPS;
	else if (most > FAST_STAGES)
		r->target += ADDITIVE_BPS;
	if (r->target > qp->d->cfg.rate_bps)
		r->target = qp->d->cfg.rate_bps;
	/* Half way, but not short of the target for ever. */
	set_rate(qp, r->target - r->cur < ADDITIVE_BPS ? r->target : r->cur + (r->target - r->cur) / 2);
}

void roce_rate_sent(struct roce_qp *qp, u64 now, u32 bytes)
{
	struct roce_rate *r = &qp->rate;

	if (!r->cut)
		return;
	if (r->next_tx + BURST_NS < now)
		r->next_tx = now - BURST_NS;
	r->next_tx += (bytes * r->ns_per_byte_16) >> 16;
	r->bytes += bytes;
	if (r->bytes >= INCREASE_BYTES) {
		r->bytes -= INCREASE_BYTES;
		r->stages_bytes++;
		increase(qp);
	}
}

bool roce_rate_ready(struct roce_qp *qp, u64 now)
{
	if (!qp->rate.cut || qp->rate.next_tx <= now)
		return true;
	roce_qp_wake_at(qp, qp->rate.next_tx);
	return false;
}

void roce_rate_timer(struct roce_qp *qp, u64 now)
{
	struct roce_rate *r = &qp->rate;

	if (!r->cut)
		return;
	if (r->alpha_at <= now) {
		r->alpha -= r->alpha >> G_SHIFT;
		r->alpha_at = now + ALPHA_TIMER_NS;
	}
	if (r->increase_at <= now) {
		r->increase_at = now + INCREASE_TIMER_NS;
		r->stages_time++;
		increase(qp);
	}
	if (r->next_tx <= now || !r->cut) {
		roce_kick_req(qp);
		roce_kick_resp(qp);
	}
}

u64 roce_rate_deadline(const struct roce_qp *qp)
{
	const struct roce_rate *r = &qp->rate;
	u64 when;

	if (!r->cut)
		return ROCE_NEVER;
	when = roce_min(r->alpha_at, r->increase_at);
	/* A pace that has passed wakes nobody: whoever waited for it was told. */
	return r->next_tx > qp->d->now ? roce_min(when, r->next_tx) : when;
}
