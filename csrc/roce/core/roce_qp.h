/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The transport's structures: device, regions, completion queues, queue pairs.
 * Nothing outside the transport's own files looks into them.
 */
#ifndef ROCE_QP_H
#define ROCE_QP_H

#include "roce_heap.h"
#include "roce_priv.h"

#define ROCE_US 1000ull
#define ROCE_MS 1000000ull
#define ROCE_SEC 1000000000ull

#define ROCE_WORDS 64 /* acknowledges that outlive their queue pair; a power of two */
#define ROCE_RESP_QUEUE 32 /* READ and atomic responses waiting; a power of two, twice the most that may be new */
#define ROCE_RD_RING 64 /* READ requests as they are split up; a power of two */
#define ROCE_ATOMICS_KEPT RACKWIRE_ROCE_MAX_RD_ATOMIC

struct roce_key {
	u32 key;
	struct roce_mr *mr;
	struct roce_key *next;
};

struct roce_mr {
	struct roce_list node; /* on the device's */
	struct roce_pd *pd;
	u64 va, len;
	u32 access;
	u32 refs;     /* REG_MR requests that name it */
	bool valid;   /* cur may be used */
	bool dead;    /* deregistered, waits for refs to go */
	bool reserved; /* spare is in the table */
	struct roce_key cur, spare;
	void *user;
};

struct roce_pd {
	struct roce_list node;
	struct roce_dev *d;
	u32 refs; /* regions and queue pairs */
};

struct roce_cq {
	struct roce_list node;
	struct roce_list event; /* on dev->cq_events */
	struct roce_dev *d;
	struct rackwire_roce_wc *ring;
	u32 entries, mask;
	u32 head, tail;
	u32 refs;
	u8 armed; /* enum roce_cq_armed */
	bool overflow;
	void *user;
};

enum roce_cq_armed { ROCE_CQ_IDLE, ROCE_CQ_SOLICITED, ROCE_CQ_ANY };

/* A send request, posted. */
struct roce_wqe {
	u64 wr_id;
	u64 remote_addr;
	u64 compare_add, swap;
	union {
		u32 imm;
		u32 rkey;
		struct {
			struct roce_mr *mr;
			u32 key, access;
		} reg;
	} ex;
	u32 rkey;
	u32 length;
	u32 first;  /* PSN, once started */
	u32 npkts;  /* PSNs it takes; 0: none, it is local */
	u64 epoch;  /* of the regions when the sges were last checked */
	u8 opcode, flags, num_sge;
	u8 status;  /* not 0: fails with it as soon as all before it are complete */
	bool started;
};

struct roce_rwqe {
	u64 wr_id;
	u64 epoch;
	u32 length;
	u32 num_sge;
};

/* A READ or atomic response to be sent, in the order of PSNs. */
struct roce_resp {
	u32 start, cur, end; /* PSNs: of the request, next to send, one beyond */
	u32 msn;
	u32 rkey;
	u32 len;
	u64 va;
	u64 epoch;
	u64 orig; /* atomics */
	bool atomic, again; /* again: answers a duplicate */
};

/* What became of an atomic, to be told again to who asks again [IBTA 9.4.5, 9.5]. */
struct roce_atomic_done {
	u32 psn;
	bool valid;
	u64 orig;
};

enum roce_in_message { ROCE_IN_NONE, ROCE_IN_SEND, ROCE_IN_WRITE };

struct roce_rate {
	bool cut;	/* below the link's rate; nothing else matters while it is not */
	u64 cur, target; /* bit/s */
	u64 ns_per_byte_16; /* of cur, times 2^16 */
	u32 alpha;	/* times 2^16 */
	u32 stages_time, stages_bytes; /* increases since the last cut, by either count */
	u64 bytes;	/* since the last stage by bytes */
	u64 cnp_at, alpha_at, increase_at;
	u64 next_tx;
};

struct roce_requester {
	/* PSNs: una is not acknowledged, nxt is sent next (before max: again), max was never sent. */
	u32 una, nxt, max;
	u32 head, cur, tail; /* free running: oldest, the one of nxt, next to post */
	u32 mask, limit;
	struct roce_wqe *wqe;
	struct rackwire_roce_sge *sge;
	u8 *inl; /* limit * RACKWIRE_ROCE_MAX_INLINE bytes from the first inline request on */

	u32 since_ackreq;
	/* Packets: congestion window and where slow start ends. */
	u32 cwnd, ssthresh, cwnd_max, grow;
	/* What a timeout changed, to be taken back if it was for nothing. */
	bool undo;
	u32 undo_cur, undo_cwnd, undo_ssthresh;
	u32 cut_end; /* loss of anything sent before this PSN is not a new reason to slow down */
	bool cut;

	/* READs and atomics asked for, oldest first: PSNs [start, end) of each. The first rd_out of rd_n are under way. */
	u32 rd_start[ROCE_RD_RING], rd_end[ROCE_RD_RING];
	u32 rd_head, rd_n, rd_out;
	u32 rd_wqes; /* started, not complete: what a fence waits for */

	bool backed; /* went back at backed_at; evidence about the same PSN is not new */
	u32 backed_at;
	u8 retries, rnr_tries, backoff;
	bool rnr_wait;
	u64 rnr_at, rto_at, stall_from;
	u64 srtt, rttvar;
	bool sampling;
	u32 sample_psn;
	u64 sample_at;
	bool probe; /* keep-alive is due */
	u8 probes;
	u64 probe_at;
};

struct roce_responder {
	u32 epsn, msn;
	u32 head, tail, mask, limit;
	struct roce_rwqe *wqe;
	struct rackwire_roce_sge *sge;

	u8 in;	     /* enum roce_in_message */
	bool nak_sent; /* for epsn; more of the like stay silent */
	bool recv_taken; /* the receive at head belongs to the message under way */
	u32 off;     /* bytes of the message so far */
	u64 va;	     /* WRITE: where it goes on */
	u32 rkey, left, len;
	u64 epoch;   /* WRITE: regions when the rest was last checked */

	bool ack_due, cnp_due;
	u8 ack_syndrome;
	u32 ack_psn;
	u8 fatal; /* NAK that ended it; said again to who asks again */
	u32 fatal_psn;
	u32 last_rd; /* last PSN of the last READ or atomic */
	bool any_rd;

	struct roce_resp q[ROCE_RESP_QUEUE];
	u32 q_head, q_n, q_new; /* q_new: of q_n, no answers to duplicates */
	struct roce_atomic_done done[ROCE_ATOMICS_KEPT];
	u32 done_next;
	u64 cnp_at;
};

struct roce_qp {
	struct roce_list node;
	struct roce_list resp_node, req_node; /* on the device's lists of those who have something to send */
	struct roce_list event;
	struct roce_qp *hash_next;
	struct roce_dev *d;
	struct roce_pd *pd;
	struct roce_cq *scq, *rcq;
	struct roce_cm_id *cm;
	void *user;
	u32 num, state;
	u32 access, max_sge;
	bool signal_all;
	bool cm_told;	 /* that a packet has come */
	bool cq_overrun; /* a completion was lost */
	bool connected;	 /* once, so its number must rest */
	int error;
	u8 mtu_shift;
	u32 mtu;
	u64 ack_timeout, last_rx, connected_at;
	struct roce_qp_link link;
	struct roce_timer timer;
	struct roce_requester req;
	struct roce_responder resp;
	struct roce_rate rate;
	struct rackwire_roce_qp_stats stats;
};

/* An acknowledge on its own. */
struct roce_word {
	struct roce_path path;
	u32 len;
	u8 hdr[ROCE_BTH_LEN + ROCE_AETH_LEN];
};

/* A number of a queue pair that is gone, not to be used yet. */
struct roce_resting {
	u32 qpn;
	u32 hash_next; /* index plus 1 */
	u64 until;
};

struct roce_dev {
	struct roce_cfg cfg;
	struct roce_ops ops;
	void *ctx;
	u64 now;
	u64 rand_key[2], rand_count;
	u64 hash_seed;
	struct roce_cm_dev *cm;
	u64 mr_epoch; /* changes whenever a key dies */
	struct roce_word words[ROCE_WORDS];
	u32 words_head, words_tail;
	struct roce_list resp, req;
	u32 resp_burst, req_burst;
	bool req_turn;
	struct roce_heap timers;
	struct roce_qp **qp_table;
	struct roce_key **key_table;
	u32 qp_bits, key_bits;
	struct roce_resting *resting; /* ring */
	u32 *resting_table;
	u32 resting_bits, resting_head, resting_n;
	u32 gsi_psn;
	struct roce_list pds, mrs, cqs, qps;
	struct roce_list cq_events, qp_events;
	u32 npds, nmrs, ncqs, nqps;
	struct rackwire_roce_dev_stats stats;
};

static inline u32 roce_hash(const struct roce_dev *d, u32 v, u32 bits)
{
	return (u32)(((v ^ d->hash_seed) * 0x9e3779b97f4a7c15ull) >> (64 - bits));
}

/* ---- roce_dev.c ---- */
u64 roce_siphash(const u64 key[2], u64 word);
struct roce_qp *roce_qp_find(const struct roce_dev *d, u32 qpn);
int roce_qpn_take(struct roce_dev *d, struct roce_qp *qp);
void roce_qpn_release(struct roce_dev *d, struct roce_qp *qp, bool rest);
/* At the latest then roce_qp_timer() is called. */
static inline void roce_qp_wake_at(struct roce_qp *qp, u64 when)
{
	if (!roce_timer_on(&qp->timer) || when < qp->timer.when)
		roce_timer_set(&qp->d->timers, &qp->timer, when);
}

/* ---- roce_mr.c ---- */
static inline struct roce_mr *roce_mr_find(const struct roce_dev *d, u32 key)
{
	struct roce_key *k = d->key_table[roce_hash(d, key, d->key_bits)];

	while (k && k->key != key)
		k = k->next;
	return k && k == &k->mr->cur && k->mr->valid ? k->mr : NULL;
}

/* May @len > 0 bytes at @va be accessed by @key within @pd? */
static inline bool roce_mr_allows(const struct roce_pd *pd, u32 key, u64 va, u64 len, u32 access)
{
	const struct roce_mr *mr = roce_mr_find(pd->d, key);

	return mr && mr->pd == pd && (mr->access & access) == access && va >= mr->va && len <= mr->len &&
	       va - mr->va <= mr->len - len;
}

/* The same of a list of local elements; RACKWIRE_ROCE_LOCAL_DMA_LKEY stands for all memory. */
bool roce_sges_allowed(const struct roce_pd *pd, const struct rackwire_roce_sge *sge, u32 n, u32 access);
int roce_mr_invalidate(struct roce_pd *pd, u32 key, bool remote);
int roce_mr_bind(struct roce_mr *mr, struct roce_pd *pd, u32 key, u32 access);
void roce_mr_get(struct roce_mr *mr);
void roce_mr_put(struct roce_mr *mr);
bool roce_access_valid(u32 access);

/* ---- roce_cq.c ---- */
bool roce_cq_push(struct roce_cq *cq, const struct rackwire_roce_wc *wc, bool solicited);

/* ---- roce_qp.c ---- */
void roce_complete_send(struct roce_qp *qp, const struct roce_wqe *wqe, u32 status);
void roce_complete_recv(struct roce_qp *qp, const struct rackwire_roce_wc *wc, bool solicited);
/* Into the error state because of something that happened on it: flush, event, connection manager. */
void roce_qp_fail(struct roce_qp *qp, u64 now, int error);
void roce_qp_timer(struct roce_qp *qp, u64 now);
/* Scatters payload over a list from byte @off on; the list was checked to have the room. */
void roce_scatter(const struct rackwire_roce_sge *sge, u32 n, u32 off, const u8 *data, u32 len);

static inline void roce_kick_req(struct roce_qp *qp)
{
	if (roce_list_empty(&qp->req_node))
		roce_list_add_tail(&qp->d->req, &qp->req_node);
}

static inline void roce_kick_resp(struct roce_qp *qp)
{
	if (roce_list_empty(&qp->resp_node))
		roce_list_add_tail(&qp->d->resp, &qp->resp_node);
}

/* Fields of every packet of a queue pair. */
static inline void roce_tx_begin(const struct roce_qp *qp, struct roce_pkt *h, u8 opcode, u32 psn)
{
	memset(h, 0, sizeof(*h));
	h->opcode = opcode;
	h->pkey = ROCE_PKEY_DEFAULT;
	h->dest_qpn = qp->link.dest_qpn;
	h->psn = psn;
}

/* Frags and payload_len of @pkt are set. */
void roce_tx_finish(struct roce_qp *qp, struct roce_txpkt *pkt, struct roce_pkt *h, bool data);

/* ---- roce_requester.c ---- */
void roce_req_connect(struct roce_qp *qp);
/* Return: 1 with a packet, 0 when there is nothing to be sent now. */
int roce_req_build(struct roce_qp *qp, u64 now, struct roce_txpkt *pkt);
bool roce_wqe_allowed(struct roce_qp *qp, struct roce_wqe *wqe, u32 index);

/* ---- roce_completer.c ---- */
void roce_req_arm(struct roce_qp *qp, u64 now);
void roce_req_advance(struct roce_qp *qp, u64 now, u32 psn);
void roce_req_rx(struct roce_qp *qp, u64 now, const struct roce_pkt *pkt, const u8 *payload);
void roce_req_timer(struct roce_qp *qp, u64 now);
u64 roce_req_deadline(const struct roce_qp *qp);
void roce_req_fail(struct roce_qp *qp, u64 now, u32 status, int error);
void roce_req_flush(struct roce_qp *qp, bool tell);

/* READs and atomics: answered with data, limited by max_rd_atomic. */
static inline bool roce_wqe_reads(const struct roce_wqe *wqe)
{
	return wqe->opcode >= RACKWIRE_ROCE_WR_RDMA_READ && wqe->opcode <= RACKWIRE_ROCE_WR_ATOMIC_FETCH_AND_ADD;
}

static inline struct rackwire_roce_sge *roce_wqe_sge(const struct roce_qp *qp, u32 index)
{
	return qp->req.sge + (size_t)(index & qp->req.mask) * qp->max_sge;
}

/* ---- roce_responder.c ---- */
void roce_resp_connect(struct roce_qp *qp);
void roce_resp_rx(struct roce_qp *qp, u64 now, const struct roce_pkt *pkt, const u8 *payload);
void roce_resp_flush(struct roce_qp *qp);
bool roce_read_allowed(const struct roce_qp *qp, u32 rkey, u64 va, u32 len);

/* PSNs that so many bytes of a message or of READ responses take. */
static inline u32 roce_npkts(const struct roce_qp *qp, u32 len)
{
	return len ? (len + qp->mtu - 1) >> qp->mtu_shift : 1;
}

/* ---- roce_response.c ---- */
void roce_resp_ack(struct roce_qp *qp, u8 syndrome, u32 psn);
/* A request came for a queue pair that failed: say again why. */
void roce_resp_again(struct roce_qp *qp);
/* What waits to be acknowledged goes out whatever becomes of the queue pair. */
void roce_resp_last_word(struct roce_qp *qp);
struct roce_resp *roce_resp_queue(struct roce_qp *qp, u32 psn);
void roce_resp_duplicate(struct roce_qp *qp, const struct roce_pkt *h);
void roce_resp_ce(struct roce_qp *qp, u64 now);
int roce_resp_build(struct roce_qp *qp, u64 now, struct roce_txpkt *pkt, bool *stream);

/* ---- roce_rate.c ---- */
void roce_rate_init(struct roce_qp *qp);
void roce_rate_cnp(struct roce_qp *qp, u64 now);
void roce_rate_sent(struct roce_qp *qp, u64 now, u32 bytes);
/* Return: true when data may go now; else the timer is set. */
bool roce_rate_ready(struct roce_qp *qp, u64 now);
void roce_rate_timer(struct roce_qp *qp, u64 now);
u64 roce_rate_deadline(const struct roce_qp *qp);

#endif
