// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Parameters of a device: defaults and limits. */
#include "roce_qp.h"

void roce_cfg_default(struct roce_cfg *cfg)
{
	memset(cfg, 0, sizeof(*cfg));
	cfg->mtu = 4096;
	cfg->max_qps = 4096;
	cfg->max_mrs = 16384;
	cfg->max_pds = 1024;
	cfg->max_cqs = 8192;
	cfg->max_cm_ids = 8192;
	cfg->max_half_open = 1024;
	cfg->window = 1u << 20;
	cfg->ack_every = 32;
	cfg->max_burst = 16;
	cfg->cm_timeout_ns = 500 * ROCE_MS;
	cfg->cm_retries = 8;
	cfg->timewait_ns = 5 * ROCE_SEC;
	cfg->keepalive_ns = 30 * ROCE_SEC;
	cfg->qpn_base = 0x100;
	cfg->qpn_count = 0xfffe00;
	cfg->comm_id_base = 1;
	cfg->comm_id_count = 0xfffffffe;
}

static bool outside(u64 v, u64 lo, u64 hi)
{
	return v < lo || v > hi;
}

int roce_cfg_check(const struct roce_cfg *c, const char **field)
{
	const char *bad = NULL;

	if (outside(c->mtu, ROCE_MTU_MIN, ROCE_MTU_MAX) || c->mtu & (c->mtu - 1))
		bad = "mtu";
	else if (outside(c->max_qps, 1, 1u << 20))
		bad = "max_qps";
	else if (outside(c->max_mrs, 1, 1u << 24))
		bad = "max_mrs";
	else if (outside(c->max_pds, 1, 1u << 20))
		bad = "max_pds";
	else if (outside(c->max_cqs, 1, 1u << 20))
		bad = "max_cqs";
	else if (outside(c->max_cm_ids, 1, 1u << 22))
		bad = "max_cm_ids";
	else if (outside(c->max_half_open, 1, 1u << 20))
		bad = "max_half_open";
	else if (outside(c->window, ROCE_MTU_MIN, 1u << 30))
		bad = "window";
	else if (outside(c->ack_every, 1, c->window))
		bad = "ack_every";
	else if (outside(c->max_burst, 1, 1u << 16))
		bad = "max_burst";
	else if (c->rate_bps && outside(c->rate_bps, 1000000ull, 1000000000000ull))
		bad = "rate";
	else if (outside(c->cm_timeout_ns, ROCE_MS, 60 * ROCE_SEC))
		bad = "cm_timeout";
	else if (c->cm_retries > 15)
		bad = "cm_retries";
	else if (c->timewait_ns > 600 * ROCE_SEC)
		bad = "timewait";
	else if (c->keepalive_ns && outside(c->keepalive_ns, ROCE_MS, 86400 * ROCE_SEC))
		bad = "keepalive";
	else if (outside(c->qpn_base, 2, 0xfffffe))
		bad = "qpn_base";
	else if (outside(c->qpn_count, 1, 0xffffff - c->qpn_base)) /* 0xffffff: multicast */
		bad = "qpn_count";
	else if (!c->comm_id_count || c->comm_id_count - 1 > 0xffffffffu - c->comm_id_base)
		bad = "comm_id_count";
	if (field)
		*field = bad;
	return bad ? -EINVAL : 0;
}
