/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Peers: the hosts at the other end. Matching, tokens and keep-alive are
 * between hosts; connections hang on them.
 *
 * A host that can be reached at several ports or addresses is a peer for each:
 * neither end can tell that they are one. So that both ends cut their
 * connections into peers in the same way, the connecting end decides, and names
 * its peer by the tag that the opening packet carries; the listening end keeps a
 * peer for each such tag.
 */
#include "dcpim_priv.h"

#define REFUSED_NS 1000000000ull

static struct dcpim_peer **bucket(struct dcpim_host *h, const struct dcpim_path *path)
{
	u64 w[3];

	memcpy(w, path->addr, 16);
	w[2] = (u64)path->scope << 16 | path->port;
	return &h->peer_hash[dcpim_siphash(h->hash_key, w, 3) & h->peer_mask];
}

static bool is_at(const struct dcpim_peer *p, const struct dcpim_path *path)
{
	return p->path.port == path->port && p->path.scope == path->scope &&
	       !memcmp(p->path.addr, path->addr, sizeof(path->addr));
}

/* The peer whose packets carry @tag, or with @reflected bring it back. */
static struct dcpim_peer *find_tag(struct dcpim_host *h, const struct dcpim_path *path, u32 tag, bool reflected)
{
	struct dcpim_peer *p;

	for (p = *bucket(h, path); p; p = p->hash_next)
		if (is_at(p, path) && tag == (reflected ? p->rtag : p->ltag))
			return p;
	return NULL;
}

static struct dcpim_peer *peer_new(struct dcpim_host *h, u64 now, const struct dcpim_path *path, u16 key_port)
{
	struct dcpim_peer *p, **b;

	p = dcpim_alloc(h, DCPIM_SLAB_PEER, sizeof(*p));
	if (!p)
		return NULL;
	p->path = *path;
	p->key_port = key_port;
	p->heard = now;
	p->ltag = (u32)dcpim_rand64(&h->rand) | 1;
	dcpim_list_init(&p->flows);
	dcpim_ctl_init(&p->ctl, CTL_PEER);
	dcpim_timer_init(&p->timer, TIMER_PEER);
	dcpim_timer_init(&p->tok_timer, TIMER_TOKEN);
	dcpim_list_init(&p->want_node);
	dcpim_list_init(&p->grant_node);
	dcpim_list_init(&p->rts_node);
	dcpim_list_init(&p->promise_node);
	p->match[0].epoch = p->match[1].epoch = DCPIM_NEVER;
	p->promise[0].mine = p->promise[1].mine = DCPIM_NEVER;
	p->grant_epoch = DCPIM_NEVER;
	dcpim_list_add_tail(&h->peers, &p->node);
	b = bucket(h, path);
	p->hash_next = *b;
	*b = p;
	if (h->cfg.keepalive_ns)
		dcpim_timer_set(h, &p->timer, dcpim_after(now, h->cfg.keepalive_ns));
	return p;
}

struct dcpim_peer *dcpim_peer_to(struct dcpim_host *h, u64 now, const struct dcpim_path *path, u16 dport)
{
	u16 key_port = path->port ? path->port : dport;
	struct dcpim_peer *p;

	for (p = *bucket(h, path); p; p = p->hash_next)
		if (is_at(p, path) && p->path.local == path->local && p->key_port == key_port)
			return p;
	return peer_new(h, now, path, key_port);
}

struct dcpim_peer *dcpim_peer_from(struct dcpim_host *h, u64 now, const struct dcpim_path *path, u32 rtag,
				   u16 host_port)
{
	struct dcpim_peer *p = find_tag(h, path, rtag, true);

	if (p)
		return p;
	p = peer_new(h, now, path, 0);
	if (p) {
		p->rtag = rtag;
		p->host_port = host_port;
	}
	return p;
}

static void peer_free(struct dcpim_host *h, struct dcpim_peer *p)
{
	struct dcpim_peer **b = bucket(h, &p->path);

	while (*b != p)
		b = &(*b)->hash_next;
	*b = p->hash_next;
	dcpim_match_forget(h, p);
	dcpim_timer_stop(h, &p->timer);
	dcpim_timer_stop(h, &p->tok_timer);
	dcpim_list_del(&p->ctl.node);
	dcpim_list_del(&p->node);
	dcpim_free(h, DCPIM_SLAB_PEER, p, sizeof(*p));
}

void dcpim_peer_attach(struct dcpim_peer *p, struct dcpim_flow *f)
{
	f->peer = p;
	p->nflows++;
	dcpim_list_add_tail(&p->flows, &f->peer_node);
}

static void peer_put(struct dcpim_host *h, struct dcpim_peer *p)
{
	if (!--p->nflows)
		peer_free(h, p);
}

void dcpim_peer_detach(struct dcpim_flow *f)
{
	struct dcpim_peer *p = f->peer;

	if (!p)
		return;
	dcpim_list_del(&f->peer_node);
	f->peer = NULL;
	peer_put(f->host, p);
}

/* Fail the connections to an incarnation of the peer other than the one that chose @tag. */
static void fail_old(struct dcpim_peer *p, u64 now, u32 tag)
{
	struct dcpim_list *l, *next;

	for (l = p->flows.next; l != &p->flows; l = next) {
		struct dcpim_flow *old = dcpim_container(l, struct dcpim_flow, peer_node);

		next = l->next;
		if (old->host_tag && old->host_tag != tag && (old->flags & FLOW_CONFIRMED) && !dcpim_flow_over(old))
			dcpim_flow_fail(old, now, -ECONNRESET);
	}
}

/*
 * The flow's peer has proved that it is where it says: believe its host tag. A
 * connecting flow that learns of a new tag knows that the peer restarted, and
 * that its older connections died with it.
 */
void dcpim_peer_adopt(struct dcpim_host *h, u64 now, struct dcpim_flow *f)
{
	struct dcpim_peer *p = f->peer, *other;

	p->heard = now;
	p->host_port = f->peer_host_port;
	if (p->rtag != f->host_tag) {
		p->nflows++;
		if (p->rtag)
			fail_old(p, now, f->host_tag);
		p->rtag = f->host_tag;
		peer_put(h, p);
	}
	/* Another tag at the same place may be an incarnation that is no more: see whether it answers. */
	for (other = *bucket(h, &p->path); other; other = other->hash_next)
		if (other != p && is_at(other, &p->path) && other->host_port == p->host_port && other->rtag)
			dcpim_ctl_set(h, &other->ctl, CTL_KEEPALIVE);
}

void dcpim_peer_fail(struct dcpim_host *h, u64 now, struct dcpim_peer *p, int error)
{
	struct dcpim_list *l, *next;

	p->nflows++;
	for (l = p->flows.next; l != &p->flows; l = next) {
		struct dcpim_flow *f = dcpim_container(l, struct dcpim_flow, peer_node);

		next = l->next;
		if (!dcpim_flow_over(f))
			dcpim_flow_fail(f, now, error);
	}
	peer_put(h, p);
}

static bool wanted_alive(const struct dcpim_peer *p)
{
	const struct dcpim_list *l;

	for (l = p->flows.next; l != &p->flows; l = l->next)
		if (!dcpim_flow_over(dcpim_container(l, struct dcpim_flow, peer_node)))
			return true;
	return false;
}

void dcpim_peer_timer(struct dcpim_host *h, u64 now, struct dcpim_peer *p)
{
	u64 idle_end = dcpim_after(p->heard, h->cfg.keepalive_ns);

	if (!wanted_alive(p))
		idle_end = dcpim_after(now, h->cfg.keepalive_ns);
	if (idle_end > now || !p->rtag) {
		p->probe_since = 0;
		dcpim_timer_set(h, &p->timer, dcpim_max(idle_end, dcpim_after(now, h->cfg.rto_max_ns)));
		return;
	}
	if (!p->probe_since)
		p->probe_since = now;
	if (now - p->probe_since >= h->cfg.dead_after_ns) {
		dcpim_peer_fail(h, now, p, -ETIMEDOUT);
		return;
	}
	h->stats.keepalive_tx++;
	dcpim_ctl_set(h, &p->ctl, CTL_KEEPALIVE);
	dcpim_timer_set(h, &p->timer, dcpim_after(now, dcpim_max(h->cfg.rto_max_ns, h->cfg.dead_after_ns / 8)));
}

void dcpim_rx_host(struct dcpim_host *h, u64 now, const struct dcpim_rxpkt *rx, const struct dcpim_pkt *pkt)
{
	struct dcpim_peer *p = find_tag(h, &rx->path, pkt->tag, pkt->flags & DCPIM_F_REFLECTED);

	if (!p) {
		h->stats.rx_bad_tag++;
		dcpim_reply_reset(h, now, rx, pkt);
		return;
	}
	p->heard = now;
	switch (pkt->type) {
	case DCPIM_RESET:
		/* It restarted. What is being opened now is with its new incarnation. */
		p->nflows++;
		fail_old(p, now, 0);
		p->rtag = 0;
		peer_put(h, p);
		break;
	case DCPIM_KEEPALIVE:
		dcpim_ctl_set(h, &p->ctl, CTL_KEEPALIVE_ACK);
		break;
	case DCPIM_KEEPALIVE_ACK:
		p->probe_since = 0;
		break;
	default:
		dcpim_match_rx(h, now, p, pkt);
	}
}

u32 dcpim_flow_packet(const struct dcpim_flow *f)
{
	u32 n = f->host->cfg.max_packet;

	if (f->path.max_packet)
		n = (u32)dcpim_min(n, f->path.max_packet);
	if (f->peer_max_packet)
		n = (u32)dcpim_min(n, f->peer_max_packet);
	if (f->peer && f->peer->max_packet)
		n = (u32)dcpim_min(n, f->peer->max_packet);
	return (u32)dcpim_max(n, DCPIM_MIN_PACKET);
}

void dcpim_path_mtu(struct dcpim_host *h, const struct dcpim_path *to, u32 max_packet)
{
	struct dcpim_list *l;

	if (!max_packet)
		return;
	/* With raw IP several peers share an address, and its path. */
	for (l = h->peers.next; l != &h->peers; l = l->next) {
		struct dcpim_peer *p = dcpim_container(l, struct dcpim_peer, node);

		if (memcmp(p->path.addr, to->addr, sizeof(to->addr)) || p->path.port != to->port)
			continue;
		if (!p->max_packet || max_packet < p->max_packet)
			p->max_packet = (u32)dcpim_max(max_packet, DCPIM_MIN_PACKET);
	}
}

/* Of connections closed and delivered only the end was left to be told, and nobody is there to hear it. */
static void end_delivered(struct dcpim_peer *p)
{
	struct dcpim_list *l, *next;

	for (l = p->flows.next; l != &p->flows; l = next) {
		struct dcpim_flow *f = dcpim_container(l, struct dcpim_flow, peer_node);

		next = l->next;
		if (!dcpim_flow_over(f) && dcpim_flow_delivered(f))
			dcpim_flow_free(f);
	}
}

/*
 * Fail the connections, but for those whose application may have something to
 * read and misses nothing that the peer sent. What they send times out.
 */
static void give_up(struct dcpim_peer *p, u64 now)
{
	struct dcpim_list *l, *next;

	for (l = p->flows.next; l != &p->flows; l = next) {
		struct dcpim_flow *f = dcpim_container(l, struct dcpim_flow, peer_node);
		bool readable = dcpim_flow_all_received(f) && !(f->flags & FLOW_APP_CLOSED);

		next = l->next;
		if (!dcpim_flow_over(f) && !readable)
			dcpim_flow_fail(f, now, -ECONNRESET);
	}
}

/* A peer that answered before is believed to be gone when nothing but refusals came for a while. */
static void refused(struct dcpim_host *h, u64 now, const struct dcpim_path *to)
{
	struct dcpim_peer *p, *next;

	for (p = *bucket(h, to); p; p = next) {
		next = p->hash_next;
		if (!is_at(p, to) || !p->rtag)
			continue;
		p->nflows++;
		end_delivered(p);
		if (!p->refused_since || p->heard >= p->refused_since)
			p->refused_since = now;
		else if (now - p->refused_since >= dcpim_min(REFUSED_NS, h->cfg.dead_after_ns))
			give_up(p, now);
		peer_put(h, p);
	}
}

void dcpim_unreachable(struct dcpim_host *h, u64 now, const struct dcpim_path *to, int error)
{
	struct dcpim_list *l, *next;

	if (error == -ECONNREFUSED)
		refused(h, now, to);

	for (l = h->flows.next; l != &h->flows; l = next) {
		struct dcpim_flow *f = dcpim_container(l, struct dcpim_flow, all_node);

		next = l->next;
		if (f->state == DCPIM_CONNECTING && f->path.port == to->port && f->path.scope == to->scope &&
		    !memcmp(f->path.addr, to->addr, sizeof(to->addr)))
			dcpim_flow_fail(f, now, error);
	}
}
