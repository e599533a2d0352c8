// SPDX-License-Identifier: BSD-2-Clause
/*
 * Prints packets of every opcode and CM messages of every type, in IPv4 and in
 * IPv6, one JSON object a line: what they were made from and what they became.
 * They travel between the addresses that tests/interop/pcap.ts uses, the IPv4
 * ones with identification 1 and DF. Always the same ones.
 */
#include "fields.h"
#include "roce/core/roce_icrc.h"

#define SPORT 49152
#define IP_ID 1

static struct random seed;

static void print_hex(const u8 *bytes, u32 len)
{
	printf("\"");
	while (len--)
		printf("%02x", *bytes++);
	printf("\"");
}

static void print_fields(const char *what, struct fields fields, const void *base, u8 opcode)
{
	const char *comma = "";

	printf("\"%s\":{", what);
	for (const struct field *f = fields.list; f < fields.list + fields.count; f++) {
		if (f->op && !field_is_of(f, opcode))
			continue;
		printf("%s\"%s\":", comma, f->name);
		if (f->size > 8)
			print_hex((const u8 *)base + f->offset, f->size);
		else
			printf("\"%llu\"", (unsigned long long)field_get(f, base));
		comma = ",";
	}
	printf("},");
}

static void print_packet(int ip, const struct roce_pkt *pkt, u8 *bytes, u32 len)
{
	static const u8 v4[2][16] = {
		{ [10] = 0xff, 0xff, 192, 0, 2, 1 },
		{ [10] = 0xff, 0xff, 192, 0, 2, 2 },
	};
	static const u8 v6[2][16] = {
		{ 0x20, 0x01, 0x0d, 0xb8, [15] = 1 },
		{ 0x20, 0x01, 0x0d, 0xb8, [15] = 2 },
	};
	const u8(*addr)[16] = ip == 4 ? v4 : v6;
	struct roce_flow f;

	roce_flow_init(&f, addr[0], addr[1], SPORT, ROCE_UDP_PORT, ROCE_IP_DF);
	roce_icrc_put(bytes + len, roce_icrc(&f, roce_crc32, IP_ID, bytes, len));
	printf("\"ip\":%d,\"opcode\":%u,\"opcode_name\":\"%s\",\"payload_len\":%u,", ip, pkt->opcode,
	       roce_opcode_name(pkt->opcode), pkt->payload_len);
	print_fields("packet", packet_fields(), pkt, pkt->opcode);
	printf("\"bytes\":");
	print_hex(bytes, len + ROCE_ICRC_LEN);
	printf("}\n");
}

static void sample_packet(int ip, u8 opcode)
{
	static u8 bytes[ROCE_PACKET_MAX];
	struct roce_pkt pkt;
	u32 len;

	do
		len = some_packet(&seed, opcode, &pkt, bytes);
	while (len > 600 || pkt.dest_qpn <= ROCE_QP_CM || pkt.src_qpn == ROCE_QP_CM);
	/* Random bytes are now and then taken for another protocol by those who look inside. */
	memset(bytes + pkt.hdr_len, 0x55, pkt.payload_len);
	memset(bytes + pkt.hdr_len + pkt.payload_len, 0, pkt.pad);
	printf("{");
	print_packet(ip, &pkt, bytes, len);
}

static void sample_message(int ip, u16 type, bool rdma_cm)
{
	struct roce_pkt pkt = { .opcode = ROCE_UD_SEND_ONLY, .pkey = ROCE_PKEY_DEFAULT, .dest_qpn = ROCE_QP_CM,
				.qkey = ROCE_QKEY_CM, .src_qpn = ROCE_QP_CM, .payload_len = ROCE_MAD_LEN };
	u8 bytes[ROCE_HDR_MAX + ROCE_MAD_LEN + ROCE_ICRC_LEN], priv[ROCE_MAD_LEN];
	struct roce_cma cma = { .ip_version = (u8)ip };
	struct roce_cm cm;
	u32 len;

	some_message(&seed, type, &cm, priv);
	printf("{\"message\":\"%s\",\"type\":%u,", roce_cm_name(type), type);
	if (rdma_cm) {
		fields_fill(&seed, cma_fields(), &cma, 0);
		cma.minor = 0;
		if (ip == 4) {
			memset(cma.src, 0, 10);
			memset(cma.dst, 0, 10);
			memset(cma.src + 10, 0xff, 2);
			memset(cma.dst + 10, 0xff, 2);
		}
		roce_cma_encode(priv, &cma);
		memcpy(cm.u.req.primary.local_gid, cma.src, sizeof(cma.src));
		memcpy(cm.u.req.primary.remote_gid, cma.dst, sizeof(cma.dst));
		cm.u.req.service_id = roce_service_id(ROCE_PS_TCP, (u16)rnd(&seed));
		printf("\"ip_version\":%d,", ip);
		print_fields("cma", cma_fields(), &cma, 0);
	}
	printf("\"status\":%u,\"tid\":\"%llu\",", cm.status, (unsigned long long)cm.tid);
	print_fields("fields", cm_fields(type), &cm.u, 0);
	if (type == ROCE_CM_REJ) {
		printf("\"ari\":");
		print_hex(cm.u.rej.ari, cm.u.rej.ari_len);
		printf(",");
	}
	printf("\"priv\":");
	print_hex(cm.priv, cm.priv_len);
	printf(",");

	len = roce_encode(bytes, &pkt);
	if (roce_cm_encode(bytes + len, &cm))
		abort();
	print_packet(ip, &pkt, bytes, len + ROCE_MAD_LEN);
}

int main(void)
{
	for (int ip = 4; ip <= 6; ip += 2) {
		for (u32 opcode = 0; opcode < 256; opcode++)
			for (u32 round = 0; round < 4 && roce_op((u8)opcode); round++)
				sample_packet(ip, (u8)opcode);
		for (u16 type = ROCE_CM_REQ; type <= ROCE_CM_DREP; type++)
			for (u32 round = 0; round < 4; round++)
				sample_message(ip, type, false);
		sample_message(ip, ROCE_CM_REQ, true);
	}
	return 0;
}
