// SPDX-License-Identifier: BSD-2-Clause
/* What client and server do alike with a connection over dcPIM. */
#include "work.h"

#define PIECES 64

int work_flow_send_head(struct work_conn *c, u64 now, const u8 *data, u32 len)
{
	struct work_lane *l = c->lane;
	struct dcpim_buf buf;
	int err;

	if (dcpim_shard_buf(l->shard, len, &buf))
		return -ENOMEM;
	memcpy((u8 *)buf.ptr, data, len);
	if (c->message)
		err = dcpim_send_msg(c->flow, now, &buf, 1, DCPIM_MSG_QUIET, NULL, NULL);
	else
		err = dcpim_send(c->flow, now, &buf);
	if (c->message ? err : err <= 0)
		dcpim_shard_buf_put(l->shard, &buf);
	return err < 0 ? err : 0;
}

int work_flow_push(struct work_conn *c, u64 now)
{
	struct work_lane *l = c->lane;
	u32 chunk = (u32)dcpim_min(c->length, WORK_CHUNK);

	while (c->tx_pos < c->tx_end) {
		struct dcpim_buf buf = { work_blank, (u32)dcpim_min(c->tx_end - c->tx_pos, chunk), NULL };
		int n;

		if (c->pattern) {
			if (dcpim_shard_buf(l->shard, buf.len, &buf))
				return -ENOMEM;
			work_pattern_fill(c->seed, c->tx_pos, (u8 *)buf.ptr, buf.len);
		}
		n = dcpim_send(c->flow, now, &buf);
		if (n <= 0) {
			dcpim_shard_buf_put(l->shard, &buf);
			return n;
		}
		c->tx_pos += (u32)n;
		work_count(l, RACKWIRE_DCPIM_WORK_TX_BYTES, (u32)n);
	}
	return 0;
}

void work_flow_path(struct work_conn *c, u64 *rtx, u32 *srtt_us)
{
	struct dcpim_flow_info info;

	dcpim_flow_info(c->flow, &info);
	*rtx = info.rtx_bytes;
	*srtt_us = info.srtt_us;
}

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
