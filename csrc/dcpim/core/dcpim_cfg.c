/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Parameters: defaults, limits and what follows from them. */
#include "dcpim.h"

#define US 1000ull
#define MS 1000000ull
#define SEC 1000000000ull

void dcpim_cfg_default(struct dcpim_cfg *cfg)
{
	memset(cfg, 0, sizeof(*cfg));
	cfg->rate_bps = 100000000000ull;
	cfg->ctrl_rtt_ns = 20 * US;
	cfg->data_rtt_ns = 60 * US;
	cfg->alpha_milli = 1000;
	cfg->beta_milli = 1300;
	cfg->rounds = 4;
	cfg->channels = 4;
	cfg->max_packet = 1472;
	cfg->unsched_refill_milli = 50;
	cfg->first_part_mode = DCPIM_FIRST_OFF;
	cfg->rcvbuf = 4u << 20;
	cfg->sndbuf = 4u << 20;
	cfg->max_msg = 1u << 20;
	cfg->rto_min_ns = 1 * MS;
	cfg->rto_max_ns = 500 * MS;
	cfg->ack_delay_ns = 200 * US;
	cfg->connect_timeout_ns = 5 * SEC;
	cfg->dead_after_ns = 15 * SEC;
	cfg->keepalive_ns = 30 * SEC;
	cfg->timewait_ns = 200 * MS;
	cfg->timer_gran_ns = 1 * US;
	cfg->max_flows = 65536;
	cfg->max_peers = 16384;
	cfg->max_msgs = 262144;
	cfg->max_segs = 1u << 20;
}

static bool outside(u64 v, u64 lo, u64 hi)
{
	return v < lo || v > hi;
}

int dcpim_cfg_check(const struct dcpim_cfg *c, const char **field)
{
	const char *bad = NULL;

	if (outside(c->rate_bps, 1000000ull, 1000000000000ull))
		bad = "rate";
	else if (outside(c->ctrl_rtt_ns, US, 10 * SEC))
		bad = "ctrl_rtt";
	else if (outside(c->data_rtt_ns, US, 10 * SEC))
		bad = "data_rtt";
	else if (outside(c->alpha_milli, 1000, 10000))
		bad = "alpha";
	else if (outside(c->beta_milli, 1000, 20000))
		bad = "beta";
	else if (outside(c->rounds, 1, DCPIM_MAX_ROUNDS))
		bad = "rounds";
	else if (outside(c->channels, 1, DCPIM_MAX_CHANNELS))
		bad = "channels";
	else if (outside(c->max_packet, DCPIM_MIN_PACKET, DCPIM_MAX_PACKET))
		bad = "max_packet";
	else if (outside(dcpim_cfg_epoch_ns(c), US, 4 * SEC))
		bad = "ctrl_rtt"; /* the wire carries epoch lengths up to 4 s */
	else if (outside(dcpim_cfg_bdp(c), 1, 1u << 30))
		bad = "data_rtt";
	else if (c->short_threshold > 1u << 30)
		bad = "short_threshold";
	else if (c->window && outside(c->window, DCPIM_MIN_PACKET, 1u << 30))
		bad = "window";
	else if (c->token_batch > 1u << 30)
		bad = "token_batch";
	else if (c->first_part_mode > DCPIM_FIRST_SPARE)
		bad = "first_part_mode";
	else if (c->first_part_bytes > 2 * dcpim_cfg_bdp(c))
		bad = "first_part_bytes";
	else if (c->unsched_refill_milli > 1000)
		bad = "unsched_refill";
	else if (outside(c->rcvbuf, 4096, 1u << 30))
		bad = "rcvbuf";
	else if (outside(c->sndbuf, 4096, 1u << 30))
		bad = "sndbuf";
	else if (outside(c->max_msg, 1, 1u << 30))
		bad = "max_msg";
	else if (outside(c->rto_min_ns, US, 10 * SEC))
		bad = "rto_min";
	else if (outside(c->rto_max_ns, c->rto_min_ns, 60 * SEC))
		bad = "rto_max";
	else if (c->ack_delay_ns > SEC)
		bad = "ack_delay";
	else if (outside(c->connect_timeout_ns, MS, 3600 * SEC))
		bad = "connect_timeout";
	else if (outside(c->dead_after_ns, MS, 86400 * SEC))
		bad = "dead_after";
	else if (c->keepalive_ns && outside(c->keepalive_ns, MS, 86400 * SEC))
		bad = "keepalive";
	else if (c->timewait_ns > 60 * SEC)
		bad = "timewait";
	else if (outside(c->timer_gran_ns, 1, SEC))
		bad = "timer_gran";
	else if (outside(c->max_flows, 1, 1u << 22))
		bad = "max_flows";
	else if (outside(c->max_peers, 1, 1u << 22))
		bad = "max_peers";
	else if (outside(c->max_msgs, 1, 1u << 24))
		bad = "max_msgs";
	else if (outside(c->max_segs, 1, 1u << 26))
		bad = "max_segs";
	if (field)
		*field = bad;
	return bad ? -EINVAL : 0;
}

u64 dcpim_cfg_bdp(const struct dcpim_cfg *cfg)
{
	/* rate <= 1 Tb/s and RTT <= 10 s: split to stay within 64 bits. */
	return (cfg->rate_bps / 8000) * (cfg->data_rtt_ns / US) / 1000 +
	       (cfg->rate_bps / 8000) * (cfg->data_rtt_ns % US) / 1000000;
}

u64 dcpim_cfg_round_ns(const struct dcpim_cfg *cfg)
{
	return cfg->ctrl_rtt_ns * cfg->beta_milli / 1000;
}

u64 dcpim_cfg_epoch_ns(const struct dcpim_cfg *cfg)
{
	return dcpim_cfg_round_ns(cfg) * cfg->rounds * cfg->alpha_milli / 1000;
}
