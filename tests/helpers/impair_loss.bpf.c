// SPDX-License-Identifier: BSD-2-Clause
/*
 * Loses packets at random: a tc clsact program. LOSS_PPM, of a million packets,
 * is given when it is compiled. A packet that segmentation offload has not cut
 * up yet counts as one. The qdisc counts what was lost.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

SEC("tc")
int lose(struct __sk_buff *skb)
{
	return bpf_get_prandom_u32() % 1000000 < LOSS_PPM ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
