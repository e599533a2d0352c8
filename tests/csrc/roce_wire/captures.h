/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The captured packets under data/, from two Linux guests with rdma_rxe and a
 * bridge between them:
 *   rping-2vm.pcap       rping in one guest against rping in the other
 *   host-userspace.pcap  a user-space peer outside against rping, krping and
 *                        others in a guest, with lost and refused requests
 */
#ifndef ROCE_WIRE_CAPTURES_H
#define ROCE_WIRE_CAPTURES_H

#include "roce/core/roce_icrc.h"

#define CAPTURE_HOST "host-userspace.pcap"
#define CAPTURE_RPING "rping-2vm.pcap"

struct captured {
	u32 number; /* in its capture, from 1 */
	u8 saddr[16], daddr[16];
	u16 sport, dport;
	u16 ip_id, ip_frag;
	const u8 *p; /* the UDP payload, ICRC included */
	u32 len;
};

/**
 * captures_read() - all packets of a capture, allocated once for the process.
 * Ends the process with a message when the file is missing or holds anything
 * but RoCEv2 packets in IPv4 on Ethernet.
 */
const struct captured *captures_read(const char *name, u32 *count);

#endif
