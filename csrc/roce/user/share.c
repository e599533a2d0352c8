// SPDX-License-Identifier: BSD-2-Clause
/*
 * Several devices, also of several processes of one user, on one UDP port.
 *
 * Each has a slot, which is the top byte of its QP numbers and communication ids,
 * so a packet names its owner. Sockets on one address form a group, of which the
 * kernel chooses one for each packet: a classic BPF program attached to the group
 * looks at the top byte of the destination QP, or of the communication id in a
 * management datagram, or at the port that a connection is asked for, and returns
 * the place in the group.
 *
 * The kernel's places change when a member leaves (the last one moves into the
 * gap), and a member that is killed tells nobody. A socket on one address takes
 * packets away from one on all addresses. So whoever gets another's packet hands
 * it on, once, by a unix socket; and by a packet that the program sent to the
 * wrong place the books are corrected.
 */
#include <fcntl.h>
#include <linux/filter.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/un.h>
#include <unistd.h>

#include "books.h"
#include "clock.h"
#include "roce/core/roce_mad.h"

#define MAGIC 0x524f4346u /* of messages; changes with their layout */
#define OPEN_TRIES 16
#define REPAIR_NS 20000000ULL
#define BROADCAST_NS 10000000ULL
#define RX_MAX 16 /* messages in a row before the socket has its turn */

enum message_kind { MESSAGE_PACKETS = 1, MESSAGE_UNREACHABLE };

struct message {
	u32 magic;
	u16 kind; /* enum message_kind */
	u8 ecn, reserved;
	u32 segment;
	s32 error;
	u64 mark;
	struct roce_path path;
};

static bool bit_get(const u8 *bits, u32 n)
{
	return __atomic_load_n(&bits[n / 8], __ATOMIC_RELAXED) >> n % 8 & 1;
}

static void bit_set(u8 *bits, u32 n, bool on)
{
	if (on)
		__atomic_or_fetch(&bits[n / 8], (u8)(1 << n % 8), __ATOMIC_RELAXED);
	else
		__atomic_and_fetch(&bits[n / 8], (u8)~(1 << n % 8), __ATOMIC_RELAXED);
}

/* ---- the program ---- */

/* Where it looks; offset 0 is the UDP payload. */
#define AT_SLOT 5 /* top of the destination QP */
#define AT_MAD (ROCE_BTH_LEN + ROCE_DETH_LEN)
#define AT_TYPE (AT_MAD + 16)
#define AT_REMOTE_SLOT (AT_MAD + ROCE_MAD_HDR_LEN + 4) /* top of the remote communication id */
#define AT_PORT (AT_MAD + ROCE_MAD_HDR_LEN + 8 + 6)    /* end of a request's service id */
#define PORTS_MAX 1024 /* more listeners are found by whoever gets their requests */

struct program {
	u16 n;
	struct sock_filter code[2 * (PORTS_MAX + ROCE_SLOTS) + 16];
};

static void put(struct program *p, u16 op, u32 k, u8 yes, u8 no)
{
	p->code[p->n++] = (struct sock_filter)BPF_JUMP(op, k, yes, no);
}

static void put_place(struct program *p, u32 value, u32 index)
{
	put(p, BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
	put(p, BPF_RET | BPF_K, index, 0, 0);
}

static void put_listeners(struct program *p, const struct share_slot *s)
{
	u32 i, port;

	for (i = 0; i < ROCE_PORT_BYTES; i++)
		for (port = i * 8; s->listens[i] && port < i * 8 + 8; port++)
			if (bit_get(s->listens, port) && p->n < 2 * PORTS_MAX)
				put_place(p, port, s->index);
}

/* Tell the kernel who is where in our group. */
static int steer(struct rackwire_roce_dev *dev)
{
	const struct roce_share_file *file = dev->share.file;
	const struct share_slot *mine = &file->slots[dev->share.slot];
	struct program p = { 0 };
	struct sock_fprog prog = { .filter = p.code };
	u16 skip, other;
	u32 i;

	put(&p, BPF_LD | BPF_B | BPF_ABS, AT_SLOT, 0, 0);
	put(&p, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0);
	skip = p.n;
	put(&p, BPF_JMP | BPF_JA, 0, 0, 0); /* to the slots */
	put(&p, BPF_LD | BPF_H | BPF_ABS, AT_TYPE, 0, 0);
	put(&p, BPF_JMP | BPF_JEQ | BPF_K, ROCE_CM_REQ, 1, 0);
	other = p.n;
	put(&p, BPF_JMP | BPF_JA, 0, 0, 0); /* to the remote slot */
	put(&p, BPF_LD | BPF_H | BPF_ABS, AT_PORT, 0, 0);
	for (i = 1; i <= ROCE_SLOTS; i++)
		if (roce_books_used(file, i) && roce_books_same_group(&file->slots[i], mine))
			put_listeners(&p, &file->slots[i]);
	put(&p, BPF_RET | BPF_K, 0, 0, 0);
	p.code[other].k = p.n - other - 1u;
	put(&p, BPF_LD | BPF_B | BPF_ABS, AT_REMOTE_SLOT, 0, 0);
	p.code[skip].k = p.n - skip - 1u;
	for (i = 1; i <= ROCE_SLOTS; i++)
		if (roce_books_used(file, i) && roce_books_same_group(&file->slots[i], mine))
			put_place(&p, i, file->slots[i].index);
	put(&p, BPF_RET | BPF_K, 0, 0, 0);
	prog.len = p.n;
	dev->share.file->changed_at = dev->share.repaired_at = rackwire_now_ns();
	return setsockopt(dev->fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &prog, sizeof(prog)) < 0 ? -errno : 0;
}

/* ---- the unix socket ---- */

static int slot_address(const struct roce_share *sh, u32 slot, struct sockaddr_un *sun)
{
	sun->sun_family = AF_UNIX;
	return snprintf(sun->sun_path, sizeof(sun->sun_path), "%s/%u.sock", sh->directory, slot) <
			       (int)sizeof(sun->sun_path) ? 0 : -ENAMETOOLONG;
}

static int unix_open(struct roce_share *sh)
{
	int on = 1, size = 4 << 20;
	struct sockaddr_un sun;

	if (slot_address(sh, sh->slot, &sun))
		return -ENAMETOOLONG;
	sh->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (sh->fd < 0)
		return -errno;
	unlink(sun.sun_path); /* of somebody who was killed: the slot is ours */
	setsockopt(sh->fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
	setsockopt(sh->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	return bind(sh->fd, (struct sockaddr *)&sun, sizeof(sun)) < 0 ? -errno : 0;
}

/* ---- joining and leaving ---- */

static void share_close(struct roce_share *sh)
{
	if (sh->fd >= 0)
		close(sh->fd);
	if (sh->file)
		munmap(sh->file, sizeof(*sh->file));
	if (sh->file_fd >= 0)
		close(sh->file_fd); /* and with it the locks */
	sh->fd = sh->file_fd = -1;
	sh->file = NULL;
	sh->slot = 0;
}

static int take_slot(struct roce_share *sh)
{
	u32 i, slot;

	for (i = 0; i < ROCE_SLOTS; i++) {
		slot = (sh->file->next + i) % ROCE_SLOTS + 1;
		if (roce_books_used(sh->file, slot) || roce_books_byte_lock(sh->file_fd, slot, F_WRLCK))
			continue;
		sh->file->next = slot;
		sh->slot = slot;
		return 0;
	}
	return -EADDRINUSE;
}

/* Is the port held by somebody who is not in the books: another user, rdma_rxe, another directory? */
static int port_taken(struct rackwire_roce_dev *dev)
{
	struct sockaddr_in6 name;
	socklen_t len = roce_addr_to(dev->local, dev->config.udp_port, dev->scope, dev->family, &name);
	int fd = socket(dev->family, SOCK_DGRAM | SOCK_CLOEXEC, 0), off = 0, err = 0;

	if (fd < 0)
		return -errno;
	if (dev->family == AF_INET6 && dev->wildcard)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, (struct sockaddr *)&name, len) < 0)
		err = -errno;
	close(fd);
	return err;
}

int roce_share_join(struct rackwire_roce_dev *dev, char *error, size_t length)
{
	struct roce_share *sh = &dev->share;
	u32 i;
	int err = 0;

	sh->fd = sh->file_fd = -1;
	for (i = 0; i < OPEN_TRIES; i++) {
		err = roce_books_open(dev);
		if (err != -ESTALE)
			break;
		share_close(sh);
	}
	if (err) {
		share_close(sh);
		if (err == -EAGAIN || err == -EACCES)
			return roce_fail(error, length, -EADDRINUSE, "another device has been opening for seconds");
		return 0; /* nowhere to meet others: alone */
	}
	roce_books_purge(sh);
	if (!roce_books_others(sh)) {
		roce_books_sweep(sh);
		err = port_taken(dev);
	}
	if (err) {
		roce_books_remove(sh);
		share_close(sh);
		return err;
	}
	err = take_slot(sh);
	if (!err)
		err = unix_open(sh);
	if (err) {
		share_close(sh);
		return err == -EADDRINUSE ? roce_fail(error, length, err, "%d devices share UDP port %u already",
						      ROCE_SLOTS, dev->config.udp_port) : err;
	}
	return 0;
}

int roce_share_joined(struct rackwire_roce_dev *dev, bool ok)
{
	struct roce_share *sh = &dev->share;
	struct share_slot *mine;
	int err = 0;

	if (!sh->slot)
		return 0;
	if (ok) {
		mine = &sh->file->slots[sh->slot];
		memset(mine, 0, sizeof(*mine));
		memcpy(mine->addr, dev->local, 16);
		mine->scope = dev->scope;
		mine->family = (u16)dev->family;
		mine->wildcard = dev->wildcard;
		mine->index = roce_books_group_size(sh->file, mine);
		sh->doorbell = 0;
		__atomic_store_n(&sh->file->used[sh->slot], 1, __ATOMIC_RELEASE);
		if (mine->index)
			err = steer(dev);
	}
	roce_books_unlock(sh);
	return err;
}

void roce_share_retire(struct rackwire_roce_dev *dev)
{
	struct roce_share *sh = &dev->share;

	if (!sh->slot || !roce_books_used(sh->file, sh->slot) || roce_books_lock(sh, true))
		return;
	sh->retired = true;
	roce_books_purge(sh);
	roce_books_group_remove(sh->file, sh->slot);
	/* The program outlives the socket it was attached through. */
	if (roce_books_group_size(sh->file, &sh->file->slots[sh->slot]))
		steer(dev);
}

void roce_share_leave(struct rackwire_roce_dev *dev)
{
	struct roce_share *sh = &dev->share;
	struct sockaddr_un sun;

	if (sh->slot && !sh->retired)
		roce_share_retire(dev);
	if (dev->fd >= 0)
		close(dev->fd);
	dev->fd = -1;
	if (sh->slot) {
		if (!slot_address(sh, sh->slot, &sun))
			unlink(sun.sun_path);
		if (!roce_books_others(sh))
			roce_books_remove(sh);
	}
	share_close(sh); /* and with it the lock */
}

u32 roce_share_processes(struct rackwire_roce_dev *dev)
{
	struct roce_share *sh = &dev->share;
	u32 i, n = 1;

	for (i = 1; sh->slot && i <= ROCE_SLOTS; i++)
		n += i != sh->slot && roce_books_used(sh->file, i) &&
		     roce_books_overlap(&sh->file->slots[i], &sh->file->slots[sh->slot]) && roce_books_byte_locked(sh->file_fd, i);
	return n;
}

/* ---- whose packet is it? ---- */

/* Who listens there: better on this very address than on all, better now than once. */
static u32 listener(const struct roce_share *sh, u16 port, const u8 dst[16])
{
	u32 best = sh->slot, best_rank = 0, i, rank;

	for (i = 1; i <= ROCE_SLOTS; i++) {
		const struct share_slot *s = &sh->file->slots[i];

		if (!roce_books_used(sh->file, i) || !(s->wildcard || !memcmp(s->addr, dst, 16)))
			continue;
		if (bit_get(s->listens, port))
			rank = 5;
		else if (bit_get(s->listened, port))
			rank = 2;
		else
			continue;
		rank += !s->wildcard + (i == sh->slot && rank == 5);
		if (rank > best_rank) {
			best_rank = rank;
			best = i;
		}
	}
	return best;
}

u32 roce_share_target(struct rackwire_roce_dev *dev, const u8 *packet, u32 len, const u8 dst[16])
{
	const struct roce_share *sh = &dev->share;
	u32 slot = packet[5];
	struct roce_cm cm;
	int port;

	if (slot == sh->slot)
		return slot;
	if (!slot && roce_get24(packet + 5) == ROCE_QP_CM && packet[0] == ROCE_UD_SEND_ONLY &&
	    len == ROCE_BTH_LEN + ROCE_DETH_LEN + ROCE_MAD_LEN &&
	    !roce_cm_decode(&cm, packet + ROCE_BTH_LEN + ROCE_DETH_LEN, ROCE_MAD_LEN)) {
		if (cm.type == ROCE_CM_REQ) {
			port = roce_service_port(cm.u.req.service_id);
			return port < 0 ? sh->slot : listener(sh, (u16)port, dst);
		}
		slot = cm.u.ids.remote_comm_id >> 24;
	}
	return slot && slot <= ROCE_SLOTS && roce_books_used(sh->file, slot) ? slot : sh->slot;
}

/* ---- handing over ---- */

static int hand_over(struct rackwire_roce_dev *dev, u32 slot, const struct message *m, const u8 *data, u32 len)
{
	struct iovec iov[2] = { { (void *)m, sizeof(*m) }, { (void *)data, len } };
	struct sockaddr_un sun;
	struct msghdr msg = { .msg_name = &sun, .msg_namelen = sizeof(sun), .msg_iov = iov, .msg_iovlen = len ? 2 : 1 };

	if (slot_address(&dev->share, slot, &sun))
		return -ENAMETOOLONG;
	if (sendmsg(dev->share.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return -errno;
	__atomic_add_fetch(&dev->share.file->slots[slot].doorbell, 1, __ATOMIC_RELEASE);
	return 0;
}

/*
 * @slot is gone, or (@misled) alive and the kernel gave us what the program should
 * have given to it: its place in the group is in truth ours, unless the books are behind.
 */
static void repair(struct rackwire_roce_dev *dev, u32 slot, bool misled)
{
	struct roce_share *sh = &dev->share;
	struct share_slot *mine = &sh->file->slots[sh->slot], *other = &sh->file->slots[slot];
	u32 index;

	if (sh->retired || !roce_books_same_group(mine, other) || dev->now < sh->repaired_at + REPAIR_NS ||
	    dev->now < sh->file->changed_at + REPAIR_NS || roce_books_lock(sh, false))
		return;
	sh->repaired_at = dev->now;
	if (!roce_books_purge(sh) && misled && roce_books_used(sh->file, slot)) {
		index = other->index;
		other->index = mine->index;
		mine->index = index;
	}
	steer(dev);
	roce_books_unlock(sh);
}

void roce_share_forward(struct rackwire_roce_dev *dev, u32 slot, const struct roce_path *path, u8 ecn, u32 segment,
			const u8 *data, u32 len, bool hint)
{
	struct message m = { .magic = MAGIC, .kind = MESSAGE_PACKETS, .ecn = ecn, .segment = segment, .path = *path };
	int err = hand_over(dev, slot, &m, data, len);

	if (err)
		dev->stats.rx_dropped++;
	else
		dev->stats.forwarded += (len + segment - 1) / segment;
	if (err == -ECONNREFUSED || err == -ENOENT || (hint && data[5] == slot))
		repair(dev, slot, !err);
}

void roce_share_unreachable(struct rackwire_roce_dev *dev, const struct roce_path *path, int error, u64 mark)
{
	struct message m = { .magic = MAGIC, .kind = MESSAGE_UNREACHABLE, .error = error, .mark = mark, .path = *path };
	const struct roce_share *sh = &dev->share;
	u32 i;

	if (!sh->slot || dev->now < sh->broadcast_at + BROADCAST_NS)
		return;
	dev->share.broadcast_at = dev->now;
	for (i = 1; i <= ROCE_SLOTS; i++)
		if (i != sh->slot && roce_books_used(sh->file, i) && roce_books_overlap(&sh->file->slots[i], &sh->file->slots[sh->slot]))
			hand_over(dev, i, &m, NULL, 0);
}

bool roce_share_waiting(const struct rackwire_roce_dev *dev)
{
	const struct roce_share *sh = &dev->share;

	return sh->slot &&
	       (sh->look || __atomic_load_n(&sh->file->slots[sh->slot].doorbell, __ATOMIC_ACQUIRE) != sh->doorbell);
}

/* Only root and we ourselves can reach the socket; who sent is checked all the same. */
static bool from_us(struct msghdr *msg)
{
	struct cmsghdr *c;
	struct ucred cred;

	for (c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS) {
			memcpy(&cred, CMSG_DATA(c), sizeof(cred));
			return cred.uid == geteuid() || !cred.uid;
		}
	return false;
}

static void take_message(struct rackwire_roce_dev *dev, const struct message *m, const u8 *data, u32 len)
{
	struct roce_rxpkt pkt = { .ecn = m->ecn, .path = m->path };
	u32 offset, n;

	if (m->kind == MESSAGE_UNREACHABLE && m->error < 0 && roce_mark_is_ours(dev, m->mark))
		roce_unreachable(dev->core, dev->now, &m->path, m->error);
	if (m->kind != MESSAGE_PACKETS)
		return;
	for (offset = 0; offset < len; offset += n) {
		n = (u32)roce_min(m->segment, len - offset);
		if (n < ROCE_BTH_LEN + ROCE_ICRC_LEN)
			break;
		pkt.data = data + offset;
		pkt.len = n - ROCE_ICRC_LEN;
		roce_rx(dev->core, dev->now, &pkt);
	}
}

u32 roce_share_receive(struct rackwire_roce_dev *dev)
{
	u8 control[CMSG_SPACE(sizeof(struct ucred)) + 64] __attribute__((aligned(8)));
	struct roce_share *sh = &dev->share;
	struct message m;
	struct iovec iov[2] = { { &m, sizeof(m) }, { dev->rx.memory, ROCE_RX_BUFFER } };
	u32 i;

	for (i = 0; i < RX_MAX; i++) {
		struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2, .msg_control = control,
				      .msg_controllen = sizeof(control) };
		u32 rung = __atomic_load_n(&sh->file->slots[sh->slot].doorbell, __ATOMIC_ACQUIRE);
		ssize_t n = recvmsg(sh->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

		if (n < 0) {
			sh->doorbell = rung;
			sh->look = false;
			break;
		}
		if (n < (ssize_t)sizeof(m) || msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC) || !from_us(&msg) ||
		    m.magic != MAGIC || (m.kind == MESSAGE_PACKETS && !m.segment)) {
			dev->stats.rx_malformed++;
			continue;
		}
		take_message(dev, &m, dev->rx.memory, (u32)n - (u32)sizeof(m));
	}
	return i;
}

/* ---- listeners ---- */

int roce_share_listen(struct rackwire_roce_dev *dev, u16 port)
{
	struct roce_share *sh = &dev->share;
	struct share_slot *mine;
	int err;
	u32 i;

	if (!sh->slot)
		return 0;
	err = roce_books_lock(sh, true);
	if (err)
		return err;
	mine = &sh->file->slots[sh->slot];
	for (i = 1; i <= ROCE_SLOTS && !err; i++)
		if (i != sh->slot && roce_books_used(sh->file, i) && roce_books_overlap(&sh->file->slots[i], mine) &&
		    bit_get(sh->file->slots[i].listens, port) && roce_books_byte_locked(sh->file_fd, i))
			err = -EADDRINUSE;
	if (!err) {
		bit_set(mine->listens, port, true);
		if (roce_books_group_size(sh->file, mine) > 1)
			steer(dev);
	}
	roce_books_unlock(sh);
	return err;
}

void roce_share_unlisten(struct rackwire_roce_dev *dev, u16 port)
{
	struct roce_share *sh = &dev->share;

	if (!sh->slot)
		return;
	bit_set(sh->file->slots[sh->slot].listens, port, false);
	/* The program still sends requests here, where late ones belong; another listener corrects it. */
	bit_set(sh->file->slots[sh->slot].listened, port, true);
}
