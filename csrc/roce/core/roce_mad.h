/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Management datagrams of the communication manager: 256 bytes as the payload
 * of a UD SEND to QP 1. Sources: IBTA chapter 13.4 (common header), chapter 12.6
 * (tables 106 to 113, the messages), annex A11 (what rdma_cm puts at the front of
 * a REQ's private data). Field by field in docs/krping-wire.md.
 */
#ifndef ROCE_MAD_H
#define ROCE_MAD_H

#include "roce_types.h"

#define ROCE_MAD_LEN 256
#define ROCE_MAD_HDR_LEN 24

#define ROCE_MAD_BASE_VERSION 1
#define ROCE_MAD_CLASS_CM 7
#define ROCE_MAD_CM_VERSION 2
#define ROCE_MAD_METHOD_SEND 3

/* Attribute ids of the messages. */
enum roce_cm_type {
	ROCE_CM_REQ = 0x10,
	ROCE_CM_MRA = 0x11,
	ROCE_CM_REJ = 0x12,
	ROCE_CM_REP = 0x13,
	ROCE_CM_RTU = 0x14,
	ROCE_CM_DREQ = 0x15,
	ROCE_CM_DREP = 0x16,
};

/* Bytes of private data each message has room for. */
#define ROCE_CM_REQ_PRIV 92
#define ROCE_CM_MRA_PRIV 222
#define ROCE_CM_REJ_PRIV 148
#define ROCE_CM_REP_PRIV 196
#define ROCE_CM_RTU_PRIV 224
#define ROCE_CM_DREQ_PRIV 220
#define ROCE_CM_DREP_PRIV 224
#define ROCE_CM_REJ_ARI 72 /* additional rejection information */

/* struct roce_cm_req.transport_type */
#define ROCE_CM_RC 0

/* Which message an MRA or a REJ answers. */
#define ROCE_CM_OF_REQ 0
#define ROCE_CM_OF_REP 1
#define ROCE_CM_OF_OTHER 2 /* MRA: a LAP; REJ: no message */

/* Reasons of a REJ, table 109; those a RoCEv2 peer can mean. */
enum roce_cm_reason {
	ROCE_REJ_NO_QP = 1,
	ROCE_REJ_NO_RESOURCES = 3,
	ROCE_REJ_TIMEOUT = 4,
	ROCE_REJ_UNSUPPORTED = 5,
	ROCE_REJ_INVALID_COMM_ID = 6,
	ROCE_REJ_INVALID_COMM_INSTANCE = 7,
	ROCE_REJ_INVALID_SERVICE_ID = 8, /* nobody listens there */
	ROCE_REJ_INVALID_TRANSPORT = 9,
	ROCE_REJ_STALE_CONN = 10,
	ROCE_REJ_INVALID_GID = 12,
	ROCE_REJ_INVALID_HOP_LIMIT = 16,
	ROCE_REJ_INVALID_RATE = 17,
	ROCE_REJ_PORT_REDIRECT = 25,
	ROCE_REJ_INVALID_MTU = 26,
	ROCE_REJ_INSUFFICIENT_RESPONDER = 27,
	ROCE_REJ_CONSUMER = 28, /* the application's own no: see private data */
	ROCE_REJ_RNR_RETRY_COUNT = 29,
	ROCE_REJ_DUPLICATE_COMM_ID = 30,
	ROCE_REJ_CLASS_VERSION = 31,
	ROCE_REJ_INVALID_FLOW_LABEL = 32,
	ROCE_REJ_VENDOR_OPTION = 35,
};

/* One path of a REQ. RoCE has no LIDs: 0xffff in a primary path, zero in an unused alternate. */
struct roce_cm_path {
	u16 local_lid;
	u16 remote_lid;
	u8 local_gid[16]; /* IPv4: ::ffff:a.b.c.d */
	u8 remote_gid[16];
	u32 flow_label; /* 20 bits */
	u8 rate;	/* 6 bits, IBTA table of static rates */
	u8 traffic_class;
	u8 hop_limit;
	u8 sl; /* 4 bits */
	bool subnet_local;
	u8 ack_timeout; /* 5 bits: 4.096 us << it, the requester's timer; 0: none */
};

struct roce_cm_req {
	u32 local_comm_id;
	u64 service_id; /* roce_service_id() */
	u64 local_ca_guid;
	u32 local_qkey;
	u32 local_qpn; /* 24 bits */
	u8 responder_resources; /* reads and atomics the sender answers at a time */
	u32 local_eecn; /* 24 bits, unused by RC */
	u8 initiator_depth;	/* reads and atomics the sender has in flight */
	u32 remote_eecn; /* 24 bits, unused by RC */
	u8 remote_response_timeout; /* 5 bits: 4.096 us << it, how soon the peer must answer */
	u8 transport_type; /* 2 bits, ROCE_CM_RC */
	bool flow_control;
	u32 starting_psn; /* 24 bits: the first PSN that the receiver of this message must use */
	u8 local_response_timeout; /* 5 bits: how soon the sender will answer */
	u8 retry_count; /* 3 bits */
	u16 pkey;
	u8 mtu; /* 4 bits, roce_mtu_bytes() */
	bool rdc_exists;
	u8 rnr_retry; /* 3 bits, 7: for ever */
	u8 max_cm_retries; /* 4 bits */
	bool srq;
	u8 extended_transport; /* 3 bits */
	struct roce_cm_path primary, alternate;
	bool sap_supported;
};

struct roce_cm_mra {
	u32 local_comm_id, remote_comm_id;
	u8 message; /* 2 bits, ROCE_CM_OF_REQ .. */
	u8 service_timeout; /* 5 bits: 4.096 us << it more before the answer */
};

struct roce_cm_rej {
	u32 local_comm_id, remote_comm_id;
	u8 message; /* 2 bits, ROCE_CM_OF_REQ .. */
	u16 reason; /* enum roce_cm_reason or another */
	u8 ari_len; /* bytes of additional information, at most ROCE_CM_REJ_ARI */
	const u8 *ari;
};

struct roce_cm_rep {
	u32 local_comm_id, remote_comm_id;
	u32 local_qkey;
	u32 local_qpn; /* 24 bits */
	u32 local_eecn; /* 24 bits */
	u32 starting_psn; /* 24 bits */
	u8 responder_resources;
	u8 initiator_depth;
	u8 target_ack_delay; /* 5 bits: 4.096 us << it */
	u8 failover; /* 2 bits: 1, alternate path not supported; 2, rejected */
	bool flow_control;
	u8 rnr_retry; /* 3 bits */
	bool srq;
	u64 local_ca_guid;
};

struct roce_cm_ids {
	u32 local_comm_id, remote_comm_id;
};

struct roce_cm_dreq {
	u32 local_comm_id, remote_comm_id;
	u32 remote_qpn; /* 24 bits */
};

/**
 * struct roce_cm - one message. Only the part of the union that @type names is
 * meaningful; all but req begin like struct roce_cm_ids.
 */
struct roce_cm {
	u16 type; /* enum roce_cm_type */
	u16 status;
	u64 tid; /* chosen by the sender of a REQ; its answers repeat it */
	union {
		struct roce_cm_req req;
		struct roce_cm_ids ids; /* of any message but a REQ */
		struct roce_cm_mra mra;
		struct roce_cm_rej rej;
		struct roce_cm_rep rep;
		struct roce_cm_ids rtu;
		struct roce_cm_dreq dreq;
		struct roce_cm_ids drep;
	} u;
	/*
	 * The wire does not tell how much of the private data was meant: decoding
	 * gives all the room there is, encoding fills up with zeros.
	 */
	const u8 *priv;
	u32 priv_len;
};

/**
 * roce_cm_decode() - take apart a management datagram of the communication manager. Total.
 * @out: filled in on success; priv and ari point into @mad
 * @mad: payload of a packet to QP 1
 * @len: its bytes
 *
 * Return: 0; -EMSGSIZE unless @len is ROCE_MAD_LEN; -EPROTONOSUPPORT for another
 * base version, class, class version or method, or an attribute that is no enum
 * roce_cm_type; -EBADMSG for a REJ whose information exceeds its room.
 */
int roce_cm_decode(struct roce_cm *out, const u8 *mad, u32 len);

/**
 * roce_cm_encode() - write all ROCE_MAD_LEN bytes of a message.
 * @mad: ROCE_MAD_LEN bytes
 * @cm:  fields; bits beyond a field's width are dropped
 *
 * Return: 0; -EINVAL for an unknown type, or private data or rejection
 * information longer than its room.
 */
int roce_cm_encode(u8 *mad, const struct roce_cm *cm);

/** roce_cm_priv_max() - bytes of private data a message of @type has room for, 0 for an unknown type. */
u32 roce_cm_priv_max(u16 type);

/** roce_cm_name() - "REQ", "MRA", .. or "?". */
const char *roce_cm_name(u16 type);

/** roce_cm_reason_name() - a REJ's reason in a few words, for messages to people; never NULL. */
const char *roce_cm_reason_name(u16 reason);

/* ---- rdma_cm's use of it: IBTA annex A11 ---- */

#define ROCE_PS_TCP 0x0106 /* RDMA_PS_TCP */
#define ROCE_CMA_LEN 36
#define ROCE_CMA_PRIV (ROCE_CM_REQ_PRIV - ROCE_CMA_LEN) /* left to the application in a REQ */

/** roce_service_id() - the service id of a port in a port space. */
static inline u64 roce_service_id(u16 port_space, u16 port)
{
	return (u64)port_space << 16 | port;
}

/** roce_service_port() - the port of a service id in ROCE_PS_TCP, -EPROTONOSUPPORT for another id. */
static inline int roce_service_port(u64 service_id)
{
	u16 port = (u16)service_id;

	return service_id == roce_service_id(ROCE_PS_TCP, port) ? port : -EPROTONOSUPPORT;
}

/* The header in front of a REQ's private data. */
struct roce_cma {
	u8 minor;	     /* 4 bits; the major version is 0 */
	u8 ip_version;	     /* 4 or 6 */
	u16 port;	     /* the sender's */
	u8 src[16], dst[16]; /* IPv4: ::ffff:a.b.c.d here, twelve zero bytes before it on the wire */
};

/**
 * roce_cma_decode() - take apart the header. Total.
 * Return: 0; -EMSGSIZE when @len is below ROCE_CMA_LEN; -EPROTONOSUPPORT for
 * another major version; -EBADMSG for an IP version that is neither 4 nor 6.
 */
int roce_cma_decode(struct roce_cma *out, const u8 *priv, u32 len);

/** roce_cma_encode() - write ROCE_CMA_LEN bytes at @priv. */
void roce_cma_encode(u8 *priv, const struct roce_cma *cma);

#endif
