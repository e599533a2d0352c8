/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * dcPIM wire format, version 1. Every field is big-endian and packed; the
 * layout is described field by field in docs/dcpim-wire.md.
 *
 * The first 20 bytes lie over TCP's header (ports, sequence number where DATA
 * keeps the low half of its offset, data offset), as the dcPIM kernel prototype
 * arranged it, so that NIC hashing and segmentation built for TCP can be used.
 */
#ifndef DCPIM_WIRE_H
#define DCPIM_WIRE_H

#include "dcpim_types.h"

#define DCPIM_VERSION 1
#define DCPIM_IPPROTO 254 /* RFC 3692: for experimentation */

/* Values below 0x32 are those of the kernel prototype where the meaning is the same. */
enum dcpim_type {
	DCPIM_DATA = 0x20,
	DCPIM_TOKEN = 0x21,
	DCPIM_TOKEN_MSG = 0x22,
	DCPIM_NOTIFICATION_LONG = 0x23,	 /* open a stream connection */
	DCPIM_NOTIFICATION_SHORT = 0x24, /* open a message connection */
	DCPIM_ACK = 0x25,
	DCPIM_RTS = 0x26,    /* receiver -> sender */
	DCPIM_GRANT = 0x27,  /* sender -> receiver */
	DCPIM_ACCEPT = 0x28, /* receiver -> sender */
	DCPIM_FIN = 0x29,
	DCPIM_SYN_ACK = 0x2a,
	DCPIM_FIN_ACK = 0x2b,
	DCPIM_NOTIFICATION_MSG = 0x2c, /* a message exists: its size and how much of it was sent */
	DCPIM_DATA_MSG = 0x2d,
	DCPIM_FIN_MSG = 0x2e, /* messages completed, and credit for more */
	DCPIM_RESET = 0x32,
	DCPIM_REVOKE = 0x33, /* sender -> receiver: an ACCEPT that came too late */
	DCPIM_KEEPALIVE = 0x34,
	DCPIM_KEEPALIVE_ACK = 0x35,
	DCPIM_DEMAND = 0x36, /* a stream has bytes to send: how far they reach */
};

/* Flag bits of the common header. */
#define DCPIM_F_REFLECTED 0x01 /* RESET only: the tag is the one received, not the addressee's own */
#define DCPIM_F_PROMPT 0x02    /* RTS, GRANT, ACCEPT: for the data phase under way */
#define DCPIM_F_CRC 0x04       /* crc holds CRC32C of the whole packet */
#define DCPIM_F_HOST 0x08      /* RESET, matching, keep-alive: between hosts, not of one connection */
#define DCPIM_F_PROBE 0x10     /* FIN_MSG: one is wanted back at once */
#define DCPIM_F_MORE 0x20      /* DATA, DEMAND: the application has more than the sender's buffer holds */
#define DCPIM_F_KNOWN 0x3f     /* any other bit is refused */

#define DCPIM_COMMON_LEN 28
#define DCPIM_DATA_LEN 40
#define DCPIM_DATA_MSG_LEN 44
#define DCPIM_TOKEN_LEN 56     /* TOKEN, ACK; then SACK blocks of 8 bytes */
#define DCPIM_TOKEN_MSG_LEN 48 /* then SACK blocks */
#define DCPIM_SYN_LEN 52       /* NOTIFICATION_LONG, NOTIFICATION_SHORT, SYN_ACK */
#define DCPIM_MATCH_LEN 56     /* RTS, GRANT, ACCEPT, REVOKE */
#define DCPIM_FIN_LEN 36       /* FIN */
#define DCPIM_DEMAND_LEN 44
#define DCPIM_NOTIFICATION_MSG_LEN 44
#define DCPIM_FIN_MSG_LEN 44 /* then ranges of 8 bytes */
#define DCPIM_BARE_LEN 28    /* FIN_ACK, RESET, KEEPALIVE, KEEPALIVE_ACK */

#define DCPIM_MAX_BLOCKS 56 /* SACK blocks or ranges in one packet */
#define DCPIM_HDR_MAX (DCPIM_TOKEN_LEN + 8 * DCPIM_MAX_BLOCKS)
/* The smallest packet size a path may be cut down to (an IPv4 MTU of 576 less headers). */
#define DCPIM_MIN_PACKET 256
#define DCPIM_MAX_PACKET 65507
/*
 * Every stream offset, message id (they count from 1) and credit is below this:
 * sums with 32-bit distances cannot wrap.
 */
#define DCPIM_OFFSET_LIMIT ((u64)1 << 62)
#define DCPIM_WIRE_CHANNELS 16	      /* most channels in one RTS, GRANT, ACCEPT, REVOKE */
#define DCPIM_EPOCH_MIN_NS 1000u      /* epoch_len; start_in and phase are at most twice it */
#define DCPIM_EPOCH_MAX_NS 4000000000u

/* A half-open range relative to the base its packet names. */
struct dcpim_block {
	u32 start, end;
};

/* One packet, decoded. Only the part of the union that `type` names is meaningful. */
struct dcpim_pkt {
	u16 sport, dport;
	u32 tag;
	u8 type;
	u8 flags;
	u16 len;      /* whole packet */
	u16 hdr_len;  /* payload starts here */
	u8 nblocks;
	union {
		struct {
			u64 offset; /* of the first payload byte in the stream */
			u32 ahead;  /* bytes the sender has from `offset` on, saturated */
			u32 ack;    /* low half of the sender's own rcv_nxt */
		} data;
		struct {
			u64 msg_id;
			u32 offset;
			u32 size; /* of the whole message */
			u32 ack;  /* low half of the sender's cumulative completed id */
		} data_msg;
		struct {
			u64 rcv_nxt;   /* everything below was received */
			u64 token_nxt; /* the sender may send up to here */
			u64 wnd_edge;  /* flow control: nothing at or above this */
			u32 rtx_end;   /* resend the holes below rcv_nxt + rtx_end; 0: none */
		} token;
		struct {
			u64 msg_id;
			u32 rcv_nxt;
			u32 token_nxt;
			u32 rtx_end;
		} token_msg;
		struct {
			u32 flow_tag;  /* this connection, at the packet's sender */
			u32 host_tag;  /* the sending host, for matching and keep-alive */
			u16 host_port; /* where matching packets reach the sending host */
			u16 max_packet;
			u32 wnd;     /* bytes of receive buffer */
			u32 unsched; /* most unscheduled bytes the receiver wants at a time */
			u32 max_msg; /* largest message accepted */
		} syn;
		struct {
			u64 epoch; /* of the receiver; GRANT and REVOKE echo it */
			u8 round;
			u8 channels;
			u32 remaining; /* bytes of the smallest pending transfer, saturated */
			u32 start_in;  /* ns from sending until the data phase begins */
			u32 phase;     /* ns since the packet's sender began its epoch */
			u32 epoch_len; /* ns */
		} match;
		struct {
			u64 final_offset;
		} fin;
		struct {
			u64 end;  /* bytes the application has written */
			u64 sent; /* bytes sent at least once */
		} demand;
		struct {
			u64 msg_id;
			u32 size;
			u32 sent;
		} note_msg;
		struct {
			u64 cum;    /* every message with a lower id has completed */
			u64 credit; /* total message bytes the peer may have begun */
		} fin_msg;
	} u;
	struct dcpim_block blocks[DCPIM_MAX_BLOCKS];
};

/**
 * dcpim_encode() - write the header of a packet.
 * @p:           fields; blocks[0..nblocks) where the type carries them
 * @payload_len: bytes of payload that will follow the header (DATA, DATA_MSG)
 * @buf:         at least DCPIM_HDR_MAX bytes
 *
 * Sets the version, the length and the header checksum; the CRC is left zero
 * and DCPIM_F_CRC clear (see dcpim_seal()). Return: header length in bytes; 0 for
 * an unknown type, nblocks over DCPIM_MAX_BLOCKS or a packet over DCPIM_MAX_PACKET.
 * Values that dcpim_decode() would refuse are the caller's to avoid.
 */
u32 dcpim_encode(const struct dcpim_pkt *p, u32 payload_len, u8 *buf);

/**
 * dcpim_decode() - check a header and take it apart. Total: any input gives a
 * result or an error and never reads beyond @avail. The CRC is not part of it:
 * with DCPIM_F_CRC the caller compares dcpim_crc_of() with dcpim_crc_header()
 * continued over the payload.
 * @buf:   start of the packet
 * @avail: contiguous readable bytes at @buf
 * @total: bytes of the packet including what is not contiguous
 * @p:     filled in on success
 *
 * Return: 0; -EBADMSG when lengths, type, checksum or ranges do not fit;
 * -EPROTONOSUPPORT for another version; -EMSGSIZE when @avail does not hold
 * the header.
 */
int dcpim_decode(const u8 *buf, u32 avail, u32 total, struct dcpim_pkt *p);

/**
 * dcpim_header_len() - bytes of a header of this type with @nblocks blocks,
 * 0 for an unknown type or blocks it cannot have.
 */
u32 dcpim_header_len(u8 type, u32 nblocks);

/** dcpim_type_name() - the type's name in the documentation, or "?". */
const char *dcpim_type_name(u8 type);

/** dcpim_crc32c() - CRC32C (RFC 3720 appendix B.4), portable; start with 0, chainable. */
u32 dcpim_crc32c(u32 crc, const void *data, size_t len);

/**
 * dcpim_seal() - store a CRC32C in an encoded header.
 * @hdr: header from dcpim_encode(); @hdr_len its length
 * @crc: dcpim_crc32c() continued over the payload from the value
 *       dcpim_seal_start() gave
 */
void dcpim_seal(u8 *hdr, u32 hdr_len, u32 crc);

/** dcpim_seal_start() - set DCPIM_F_CRC and return the CRC of the header with its crc field zero. */
u32 dcpim_seal_start(u8 *hdr, u32 hdr_len);

/** dcpim_crc_of() - the CRC that a received header carries; its field counts as zero in the sum. */
u32 dcpim_crc_of(const u8 *hdr);

/** dcpim_crc_header() - CRC of a received header with the crc field taken as zero. */
u32 dcpim_crc_header(const u8 *hdr, u32 hdr_len);

#endif
