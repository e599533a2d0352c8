/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The connection manager's ids: making, finding, counting and freeing them. */
#include "roce_cm_priv.h"

#define MIN_BUCKETS 16
#define MAX_BUCKETS 65536

/* ---- hash tables ---- */

static u64 rotl(u64 x, int b)
{
	return x << b | x >> (64 - b);
}

/* SipHash-1-3 of four words (Aumasson and Bernstein, 2012): peers choose what we hash. */
static u64 hash(const struct roce_cm_dev *cm, const u64 word[4])
{
	u64 v0 = cm->hash_key[0] ^ 0x736f6d6570736575, v1 = cm->hash_key[1] ^ 0x646f72616e646f6d;
	u64 v2 = cm->hash_key[0] ^ 0x6c7967656e657261, v3 = cm->hash_key[1] ^ 0x7465646279746573;
	u64 last = (u64)32 << 56;

	for (u32 i = 0; i < 8; i++) {
		u64 m = i < 4 ? word[i] : i == 4 ? last : 0;

		if (i == 5)
			v2 ^= 0xff;
		v3 ^= m;
		v0 += v1;
		v2 += v3;
		v1 = rotl(v1, 13) ^ v0;
		v3 = rotl(v3, 16) ^ v2;
		v0 = rotl(v0, 32);
		v2 += v1;
		v0 += v3;
		v1 = rotl(v1, 17) ^ v2;
		v3 = rotl(v3, 21) ^ v0;
		v2 = rotl(v2, 32);
		v0 ^= m;
	}
	return v0 ^ v1 ^ v2 ^ v3;
}

static struct cm_hnode **bucket(const struct roce_cm_dev *cm, enum cm_table t, const u8 *addr, u64 a, u64 b)
{
	u64 word[4] = { addr ? roce_get64(addr) : 0, addr ? roce_get64(addr + 8) : 0, a, b };

	return &cm->table[t][hash(cm, word) & cm->mask];
}

static void hash_insert(struct cm_hnode **head, struct cm_hnode *n)
{
	n->next = *head;
	n->at = head;
	if (*head)
		(*head)->at = &n->next;
	*head = n;
}

static void hash_remove(struct cm_hnode *n)
{
	if (!n->at)
		return;
	*n->at = n->next;
	if (n->next)
		n->next->at = n->at;
	n->at = NULL;
}

static size_t timers_size(const struct roce_cm_dev *cm)
{
	return ((size_t)cm->cfg->max_cm_ids + 1) * sizeof(*cm->timers.slots);
}

int cm_tables_init(struct roce_cm_dev *cm)
{
	u32 buckets = MIN_BUCKETS;

	cm->timers.slots = roce_alloc(cm->dev, ROCE_SLAB_TABLE, timers_size(cm));
	if (!cm->timers.slots)
		return -ENOMEM;
	while (buckets < cm->cfg->max_cm_ids && buckets < MAX_BUCKETS)
		buckets *= 2;
	cm->mask = buckets - 1;
	for (u32 t = 0; t < CM_TABLES; t++) {
		cm->table[t] = roce_alloc(cm->dev, ROCE_SLAB_TABLE, buckets * sizeof(*cm->table[t]));
		if (!cm->table[t])
			return -ENOMEM;
	}
	return 0;
}

void cm_tables_exit(struct roce_cm_dev *cm)
{
	if (cm->timers.slots)
		roce_free(cm->dev, ROCE_SLAB_TABLE, cm->timers.slots, timers_size(cm));
	for (u32 t = 0; t < CM_TABLES; t++)
		if (cm->table[t])
			roce_free(cm->dev, ROCE_SLAB_TABLE, cm->table[t], (cm->mask + 1) * sizeof(*cm->table[t]));
}

/* ---- finding ids ---- */

bool cm_path_equal(const struct roce_path *a, const struct roce_path *b)
{
	return cm_addr_equal(a->peer, b->peer) && cm_addr_equal(a->local, b->local) &&
	       (a->scope == b->scope || !a->scope || !b->scope);
}

struct roce_cm_id *cm_find_local(const struct roce_cm_dev *cm, u32 local_id)
{
	struct cm_hnode *n;

	for (n = *bucket(cm, CM_BY_LOCAL, NULL, local_id, 0); n; n = n->next) {
		struct roce_cm_id *id = roce_container(n, struct roce_cm_id, by_local);

		if (id->local_id == local_id)
			return id;
	}
	return NULL;
}

struct roce_cm_id *cm_find_remote(const struct roce_cm_dev *cm, const u8 peer[16], u32 remote_id)
{
	struct cm_hnode *n;

	for (n = *bucket(cm, CM_BY_REMOTE, peer, remote_id, 0); n; n = n->next) {
		struct roce_cm_id *id = roce_container(n, struct roce_cm_id, by_remote);

		if (id->remote_id == remote_id && cm_addr_equal(id->path.peer, peer))
			return id;
	}
	return NULL;
}

struct roce_cm_id *cm_find_qpn(const struct roce_cm_dev *cm, const u8 peer[16], u64 guid, u32 qpn)
{
	struct cm_hnode *n;

	for (n = *bucket(cm, CM_BY_QPN, peer, guid, qpn); n; n = n->next) {
		struct roce_cm_id *id = roce_container(n, struct roce_cm_id, by_qpn);

		if (id->remote_qpn == qpn && id->remote_guid == guid && cm_addr_equal(id->path.peer, peer))
			return id;
	}
	return NULL;
}

void cm_remote_insert(struct roce_cm_id *id)
{
	struct roce_cm_dev *cm = id->cm;

	hash_insert(bucket(cm, CM_BY_REMOTE, id->path.peer, id->remote_id, 0), &id->by_remote);
	hash_insert(bucket(cm, CM_BY_QPN, id->path.peer, id->remote_guid, id->remote_qpn), &id->by_qpn);
}

void cm_remote_remove(struct roce_cm_id *id)
{
	hash_remove(&id->by_remote);
}

void cm_qpn_remove(struct roce_cm_id *id)
{
	hash_remove(&id->by_qpn);
}

void cm_unhash(struct roce_cm_id *id)
{
	hash_remove(&id->by_local);
	hash_remove(&id->by_remote);
	hash_remove(&id->by_qpn);
}

int cm_id_name(struct roce_cm_id *id)
{
	const struct roce_cfg *cfg = id->cm->cfg;
	u32 name = 0;

	/* There are fewer ids than names; after some bad luck the next free one will do. */
	for (u32 tries = 0; tries < 64 + id->cm->cfg->max_cm_ids; tries++) {
		if (tries < 64)
			name = cfg->comm_id_base + (u32)roce_random(id->cm->dev) % cfg->comm_id_count;
		else
			name = cfg->comm_id_base + (name - cfg->comm_id_base + 1) % cfg->comm_id_count;
		if (name && !cm_find_local(id->cm, name)) {
			id->local_id = name;
			hash_insert(bucket(id->cm, CM_BY_LOCAL, NULL, name, 0), &id->by_local);
			return 0;
		}
	}
	return -ENFILE;
}

/* ---- listeners ---- */

void cm_listener_insert(struct roce_cm_id *id)
{
	hash_insert(bucket(id->cm, CM_LISTENERS, NULL, id->local_port, 0), &id->by_local);
}

struct roce_cm_id *cm_find_listener(const struct roce_cm_dev *cm, const u8 local[16], u16 port)
{
	struct roce_cm_id *any = NULL;
	struct cm_hnode *n;

	for (n = *bucket(cm, CM_LISTENERS, NULL, port, 0); n; n = n->next) {
		struct roce_cm_id *id = roce_container(n, struct roce_cm_id, by_local);

		if (id->local_port != port)
			continue;
		if (cm_addr_equal(id->path.local, local))
			return id;
		if (cm_addr_any(id->path.local))
			any = id;
	}
	return any;
}

bool cm_listener_conflict(const struct roce_cm_dev *cm, const u8 local[16], u16 port)
{
	struct cm_hnode *n;

	for (n = *bucket(cm, CM_LISTENERS, NULL, port, 0); n; n = n->next) {
		struct roce_cm_id *id = roce_container(n, struct roce_cm_id, by_local);

		if (id->local_port == port && (cm_addr_any(local) || cm_addr_any(id->path.local) ||
					       cm_addr_equal(id->path.local, local)))
			return true;
	}
	return false;
}

/* ---- peers with connections on the way ---- */

struct cm_peer *cm_find_peer(const struct roce_cm_dev *cm, const u8 addr[16])
{
	struct cm_hnode *n;

	for (n = *bucket(cm, CM_PEERS, addr, 0, 0); n; n = n->next) {
		struct cm_peer *p = roce_container(n, struct cm_peer, node);

		if (cm_addr_equal(p->addr, addr))
			return p;
	}
	return NULL;
}

int cm_peer_join(struct roce_cm_id *id, bool half_open)
{
	struct roce_cm_dev *cm = id->cm;
	struct cm_peer *p = cm_find_peer(cm, id->path.peer);

	if (!p) {
		p = roce_alloc(cm->dev, ROCE_SLAB_TABLE, sizeof(*p));
		if (!p)
			return -ENOMEM;
		memcpy(p->addr, id->path.peer, sizeof(p->addr));
		roce_list_init(&p->connecting);
		hash_insert(bucket(cm, CM_PEERS, p->addr, 0, 0), &p->node);
	}
	p->refs++;
	id->peer = p;
	if (half_open) {
		id->counted = true;
		p->half_open++;
		cm->half_open++;
	}
	return 0;
}

void cm_peer_leave(struct roce_cm_id *id)
{
	struct cm_peer *p = id->peer;

	if (id->listener) {
		id->listener->pending--;
		id->listener = NULL;
		roce_list_del(&id->family);
	}
	if (!p)
		return;
	roce_list_del(&id->wait);
	if (id->counted) {
		id->counted = false;
		p->half_open--;
		id->cm->half_open--;
	}
	id->peer = NULL;
	if (!--p->refs) {
		hash_remove(&p->node);
		roce_free(id->cm->dev, ROCE_SLAB_TABLE, p, sizeof(*p));
	}
}

/*
 * A source may have as many as are still free: alone it gets half of them, the next one half
 * of the rest, and a source without any finds room until the last is taken.
 */
bool cm_half_open_room(const struct roce_cm_dev *cm, const u8 addr[16])
{
	const struct cm_peer *p = cm_find_peer(cm, addr);

	return cm->half_open < cm->cfg->max_half_open &&
	       (p ? p->half_open : 0) < cm->cfg->max_half_open - cm->half_open;
}

/* ---- life of an id ---- */

struct roce_cm_id *cm_id_new(struct roce_cm_dev *cm, int *error)
{
	struct roce_cm_id *id;

	if (cm->count >= cm->cfg->max_cm_ids) {
		*error = -ENFILE;
		if (roce_list_empty(&cm->orphans))
			return NULL;
		cm_id_free(roce_container(cm->orphans.next, struct roce_cm_id, wait));
	}
	*error = -ENOMEM;
	id = roce_alloc(cm->dev, ROCE_SLAB_CM, sizeof(*id));
	if (!id)
		return NULL;
	id->cm = cm;
	id->state = CM_CLOSED;
	id->owned = true;
	roce_list_init(&id->event);
	roce_list_init(&id->tx);
	roce_list_init(&id->family);
	roce_list_init(&id->wait);
	roce_list_add_tail(&cm->all, &id->all);
	cm->count++;
	cm->owned++;
	*error = 0;
	return id;
}

void cm_id_free(struct roce_cm_id *id)
{
	struct roce_cm_dev *cm = id->cm;

	cm_peer_leave(id);
	cm_unhash(id);
	cm_stop_timer(id);
	if (id->state == CM_TIMEWAIT)
		cm->timewait--;
	if (id->qp)
		roce_qp_set_cm(id->qp, NULL);
	roce_list_del(&id->event);
	roce_list_del(&id->tx);
	roce_list_del(&id->wait);
	roce_list_del(&id->all);
	cm->count--;
	if (id->owned)
		cm->owned--;
	roce_free(cm->dev, ROCE_SLAB_CM, id, sizeof(*id));
}

void cm_id_orphan(struct roce_cm_id *id)
{
	struct roce_cm_dev *cm = id->cm;

	if (id->qp) {
		roce_qp_set_cm(id->qp, NULL);
		id->qp = NULL;
	}
	id->ev_pending = 0;
	roce_list_del(&id->event);
	if (!id->owned)
		return;
	id->owned = false;
	cm->owned--;
	roce_list_del(&id->wait);
	roce_list_add_tail(&cm->orphans, &id->wait);
}

/* ---- timers and events ---- */

void cm_stop_timer(struct roce_cm_id *id)
{
	roce_timer_stop(&id->cm->timers, &id->timer);
}

void cm_set_timer(struct roce_cm_id *id, u64 at)
{
	roce_timer_set(&id->cm->timers, &id->timer, at);
}

void cm_retry_timer(struct roce_cm_id *id, u64 now)
{
	u64 base = id->cm->cfg->cm_timeout_ns, max = roce_max(base, CM_BACKOFF_MAX), wait = base;

	for (u32 i = 0; i < id->attempts && wait < max; i++)
		wait *= 2;
	cm_set_timer(id, roce_after(now, roce_min(wait, max)));
}

void cm_post(struct roce_cm_id *id, u8 event)
{
	if (!id->owned || id->ev_done & event)
		return;
	id->ev_done |= event;
	id->ev_pending |= event;
	if (roce_list_empty(&id->event))
		roce_list_add_tail(&id->cm->events, &id->event);
}
