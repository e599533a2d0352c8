/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * rackwire_roce_types.h: work requests, completions and attributes in the terms
 * of the InfiniBand verbs, shared by the RoCEv2 core and its users. Plain data.
 * Rules cited as [IBTA] are of the InfiniBand Architecture Specification,
 * volume 1, release 1.4.
 */
#ifndef RACKWIRE_ROCE_TYPES_H
#define RACKWIRE_ROCE_TYPES_H

#include <stdint.h>

#define RACKWIRE_ROCE_MAX_SGE 8
#define RACKWIRE_ROCE_MAX_INLINE 256	      /* bytes */
#define RACKWIRE_ROCE_MAX_MESSAGE (1u << 31)  /* bytes [IBTA 9.7.1] */
#define RACKWIRE_ROCE_MAX_RD_ATOMIC 16	      /* READs and atomics under way, each way */
/* In a local sge: any memory of the process, without a region. Never valid from the wire. */
#define RACKWIRE_ROCE_LOCAL_DMA_LKEY 0u

enum rackwire_roce_access { /* of a memory region and of a queue pair */
	RACKWIRE_ROCE_LOCAL_WRITE = 0x1,
	RACKWIRE_ROCE_REMOTE_WRITE = 0x2,
	RACKWIRE_ROCE_REMOTE_READ = 0x4,
	RACKWIRE_ROCE_REMOTE_ATOMIC = 0x8,
};

struct rackwire_roce_sge {
	uint64_t addr;
	uint32_t length;
	uint32_t lkey;
};

enum rackwire_roce_wr_opcode {
	RACKWIRE_ROCE_WR_SEND,
	RACKWIRE_ROCE_WR_SEND_WITH_IMM,
	RACKWIRE_ROCE_WR_SEND_WITH_INV,	/* ex.rkey: the peer's key that it invalidates */
	RACKWIRE_ROCE_WR_RDMA_WRITE,
	RACKWIRE_ROCE_WR_RDMA_WRITE_WITH_IMM,
	RACKWIRE_ROCE_WR_RDMA_READ,
	RACKWIRE_ROCE_WR_RDMA_READ_WITH_INV, /* ex.rkey: this side's key, invalid when the READ has completed */
	RACKWIRE_ROCE_WR_ATOMIC_CMP_AND_SWP,
	RACKWIRE_ROCE_WR_ATOMIC_FETCH_AND_ADD,
	RACKWIRE_ROCE_WR_LOCAL_INV, /* ex.rkey: this side's key */
	RACKWIRE_ROCE_WR_REG_MR,    /* re-registers the region ex.reg.mr under a new key */
	RACKWIRE_ROCE_WR_OPCODES
};

enum rackwire_roce_send_flags {
	RACKWIRE_ROCE_SEND_FENCE = 0x1,	    /* starts after the READs and atomics before it have completed */
	RACKWIRE_ROCE_SEND_SIGNALED = 0x2,  /* completes to the CQ; errors always do */
	RACKWIRE_ROCE_SEND_SOLICITED = 0x4, /* wakes a peer that armed its CQ for solicited completions */
	RACKWIRE_ROCE_SEND_INLINE = 0x8,    /* payload is copied at once; <= RACKWIRE_ROCE_MAX_INLINE */
};

struct rackwire_roce_send_wr {
	uint64_t wr_id;
	const struct rackwire_roce_sge *sg_list; /* read during the call only */
	uint32_t num_sge;
	uint32_t opcode; /* enum rackwire_roce_wr_opcode */
	uint32_t flags;	 /* enum rackwire_roce_send_flags */
	union rackwire_roce_wr_ex {
		uint32_t imm; /* host byte order */
		uint32_t rkey;
		struct {
			void *mr;	 /* as the provider handed it out */
			uint32_t key;	 /* out of rackwire_roce_mr_next_key(), or a free one */
			uint32_t access; /* enum rackwire_roce_access */
		} reg;
	} ex;
	uint64_t remote_addr; /* RDMA and atomics; atomics: 8-byte aligned */
	uint32_t rkey;
	uint64_t compare_add;
	uint64_t swap;
};

struct rackwire_roce_recv_wr {
	uint64_t wr_id;
	const struct rackwire_roce_sge *sg_list; /* read during the call only */
	uint32_t num_sge;
};

/* The numbers are those of ibv_wc_status, which people know by heart. */
enum rackwire_roce_wc_status {
	RACKWIRE_ROCE_WC_SUCCESS = 0,
	RACKWIRE_ROCE_WC_LOC_LEN_ERR = 1,
	RACKWIRE_ROCE_WC_LOC_QP_OP_ERR = 2,
	RACKWIRE_ROCE_WC_LOC_PROT_ERR = 4,
	RACKWIRE_ROCE_WC_WR_FLUSH_ERR = 5,
	RACKWIRE_ROCE_WC_MW_BIND_ERR = 6,
	RACKWIRE_ROCE_WC_BAD_RESP_ERR = 7,
	RACKWIRE_ROCE_WC_LOC_ACCESS_ERR = 8,
	RACKWIRE_ROCE_WC_REM_INV_REQ_ERR = 9,
	RACKWIRE_ROCE_WC_REM_ACCESS_ERR = 10,
	RACKWIRE_ROCE_WC_REM_OP_ERR = 11,
	RACKWIRE_ROCE_WC_RETRY_EXC_ERR = 12,
	RACKWIRE_ROCE_WC_RNR_RETRY_EXC_ERR = 13,
	RACKWIRE_ROCE_WC_REM_ABORT_ERR = 16,
	RACKWIRE_ROCE_WC_FATAL_ERR = 19,
	RACKWIRE_ROCE_WC_GENERAL_ERR = 21,
};

enum rackwire_roce_wc_opcode {
	RACKWIRE_ROCE_WC_SEND,
	RACKWIRE_ROCE_WC_RDMA_WRITE,
	RACKWIRE_ROCE_WC_RDMA_READ,
	RACKWIRE_ROCE_WC_COMP_SWAP,
	RACKWIRE_ROCE_WC_FETCH_ADD,
	RACKWIRE_ROCE_WC_LOCAL_INV,
	RACKWIRE_ROCE_WC_REG_MR,
	RACKWIRE_ROCE_WC_RECV = 128,
	RACKWIRE_ROCE_WC_RECV_RDMA_WITH_IMM = 129,
};

enum rackwire_roce_wc_flags {
	RACKWIRE_ROCE_WC_WITH_IMM = 0x1,
	RACKWIRE_ROCE_WC_WITH_INV = 0x2, /* ex is the key that is invalid now */
};

struct rackwire_roce_wc {
	uint64_t wr_id;
	uint32_t status;   /* enum rackwire_roce_wc_status */
	uint32_t opcode;   /* enum rackwire_roce_wc_opcode; of a failed one undefined */
	uint32_t byte_len; /* received, or READ */
	uint32_t flags;	   /* enum rackwire_roce_wc_flags */
	uint32_t ex;	   /* immediate (host byte order) or key */
	uint32_t qp_num;
	void *qp_context;
};

/* 0 takes the default named beside a field. */
struct rackwire_roce_qp_attr {
	uint32_t max_send_wr; /* 1..16384; 64 */
	uint32_t max_recv_wr; /* 1..16384; 64 */
	uint32_t max_sge;     /* of both; 1..RACKWIRE_ROCE_MAX_SGE; 1 */
	uint32_t signal_all;  /* every send request completes to the CQ */
	uint32_t access;      /* enum rackwire_roce_access: what the peer may do at all */
};

/* Of a connection, in what it says to the peer and how it retries. */
struct rackwire_roce_conn_param {
	const void *private_data; /* read during the call only */
	uint32_t private_data_len; /* connect: <= 56, accept: <= 196, reject: <= 148 */
	uint8_t responder_resources; /* READs and atomics the peer may have under way here; <= RACKWIRE_ROCE_MAX_RD_ATOMIC */
	uint8_t initiator_depth;     /* ours under way at the peer; likewise */
	uint8_t retry_count;	     /* 0..7 retries after silence or a sequence NAK; on both sides, so accept has no say */
	uint8_t rnr_retry_count;     /* how often the peer may try when we have no receive: 0..6, 7: without end */
	uint8_t min_rnr_timer;	     /* code of [IBTA 9.7.5.2.8 table 45], 0..31, that we ask of the peer */
	uint8_t ack_timeout;	     /* code t: 4.096 us * 2^t; connect: 0: 18, about a second; accept: 0: the peer's */
	uint8_t tos;		     /* traffic class of its packets; the ECN bits are ours to set; accept: 0: the peer's */
};

enum rackwire_roce_cm_event_kind {
	RACKWIRE_ROCE_CM_CONNECT_REQUEST = 1, /* id is new, listener the one it came to */
	RACKWIRE_ROCE_CM_ESTABLISHED,
	RACKWIRE_ROCE_CM_REJECTED,    /* status: the reason in the REJ [IBTA 12.6.7.2] */
	RACKWIRE_ROCE_CM_UNREACHABLE, /* error: -ETIMEDOUT, -ECONNREFUSED (ICMP), ... */
	RACKWIRE_ROCE_CM_DISCONNECTED, /* by the peer, or the peer is gone: error is then set */
	RACKWIRE_ROCE_CM_TIMEWAIT_EXIT, /* the QP's number may be used again */
};

#define RACKWIRE_ROCE_REJ_NO_QP 1
#define RACKWIRE_ROCE_REJ_TIMEOUT 4
#define RACKWIRE_ROCE_REJ_INVALID_SERVICE_ID 8 /* nobody listens there */
#define RACKWIRE_ROCE_REJ_STALE_CONN 10
#define RACKWIRE_ROCE_REJ_CONSUMER 28 /* the application refused */

enum rackwire_roce_qp_state {
	RACKWIRE_ROCE_QP_RESET,
	RACKWIRE_ROCE_QP_INIT,
	RACKWIRE_ROCE_QP_RTR,
	RACKWIRE_ROCE_QP_RTS,
	RACKWIRE_ROCE_QP_SQE,
	RACKWIRE_ROCE_QP_ERR,
};

/* Counters of a queue pair; never decrease. */
struct rackwire_roce_qp_stats {
	uint64_t tx_packets, tx_bytes; /* bytes of payload, first transmissions and others */
	uint64_t rx_packets, rx_bytes;
	uint64_t rtx_packets;	       /* of tx_packets, sent again */
	uint64_t timeouts, seq_nak_tx, seq_nak_rx, rnr_nak_tx, rnr_nak_rx, error_nak_tx, error_nak_rx;
	uint64_t duplicates_rx;	       /* requests that had been executed */
	uint64_t acks_tx, acks_rx;
	uint64_t cnp_tx, cnp_rx, ecn_rx;
};

/* Counters of a device; never decrease. */
struct rackwire_roce_dev_stats {
	uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes; /* bytes: BTH .. ICRC */
	uint64_t rx_bad_icrc;	/* dropped in silence [IBTA 9.2] */
	uint64_t rx_malformed;
	uint64_t rx_unknown_qp;	/* no such QP, not in a state to receive, wrong P_Key, or not from its peer */
	uint64_t rx_refused;	/* access outside a region, wrong key, operation not allowed */
	uint64_t rx_dropped;	/* valid, but a cap was reached */
	uint64_t mads_rx, mads_tx, mads_bad, mads_rtx, mads_duplicate;
	uint64_t cm_refused;	/* connection requests refused for a cap or want of a listener */
	uint64_t connections_opened, connections_accepted, connections_closed, connections_lost;
	uint64_t tx_blocked;	/* times the socket was full */
	uint64_t forwarded;	/* packets for another process on this address, handed on */
};

#endif
