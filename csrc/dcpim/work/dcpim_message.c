// SPDX-License-Identifier: BSD-2-Clause
/* A received message, in the pieces it came in. */
#include "work.h"

#define PIECES 64

void work_message_take(struct work_conn *c, const struct dcpim_rxmsg *msg, u8 head[SERVICE_REPORT_LEN])
{
	u32 number_len = msg->size < 8 ? msg->size : 8, off = 0, first = 0, i;
	bool header = c->state == WORK_HELLO || (c->state == WORK_LEAVING && msg->size == SERVICE_REPORT_LEN);
	struct dcpim_buf bufs[PIECES];
	struct dcpim_rxmsg same;
	u64 corrupt = c->corrupt;
	int n;

	while (first < msg->nbufs) {
		n = dcpim_msg_peek(c->flow, &same, bufs, first, PIECES);
		if (n <= 0)
			break;
		for (i = 0; i < (u32)n; off += bufs[i++].len) {
			u32 skip = off < number_len ? (u32)dcpim_min(number_len - off, bufs[i].len) : 0;

			if (off < SERVICE_REPORT_LEN)
				memcpy(head + off, bufs[i].ptr, dcpim_min(bufs[i].len, SERVICE_REPORT_LEN - off));
			if (header || bufs[i].len == skip)
				continue;
			work_check(c,
				   work_message_pos(work_message_number(head, number_len), msg->size, off + skip),
				   bufs[i].ptr + skip, bufs[i].len - skip, work_message_number(head, number_len));
		}
		first += (u32)n;
	}
	if (!header && msg->size > number_len)
		work_check_number(c, corrupt, number_len);
}
