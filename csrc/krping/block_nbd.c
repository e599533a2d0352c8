// SPDX-License-Identifier: BSD-2-Clause
/* The NBD server: opening, running, closing. */
#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "address.h"
#include "block_nbd.h"

#define DEFAULT_DEPTH 64
#define DEFAULT_CLIENTS 64
#define DEFAULT_MEMORY (64ull << 20)
#define MAX_MEMORY (16ull << 30)
#define MAX_CLIENTS 1024
#define DEFAULT_TIMEOUT (5 * RACKWIRE_NS_PER_S)
#define DEFAULT_RECONNECT (30 * RACKWIRE_NS_PER_S)
#define BACKLOG 128
#define EVENTS 64
#define LISTEN_PAUSE_NS 100000000ull /* after having found no descriptor free */
#define KNOWN_FLAGS (RACKWIRE_KRPING_ECN | RACKWIRE_KRPING_POLL | RACKWIRE_KRPING_NO_OFFLOAD | \
		     RACKWIRE_KRPING_NBD_READ_ONLY)

/* ---- NBD connections ---- */

static int watch_listener(struct rackwire_krping_nbd *n, int *fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = fd };

	return epoll_ctl(n->epoll, EPOLL_CTL_ADD, *fd, &event) ? -errno : 0;
}

static void pause_listeners(struct rackwire_krping_nbd *n, bool pause)
{
	int *fds[] = { &n->unix_fd, &n->tcp_fd };
	unsigned int i;

	n->listen_at = pause ? rackwire_now_ns() + LISTEN_PAUSE_NS : 0;
	for (i = 0; i < 2; i++) {
		struct epoll_event event = { .events = pause ? 0 : EPOLLIN, .data.ptr = fds[i] };

		if (*fds[i] >= 0)
			epoll_ctl(n->epoll, EPOLL_CTL_MOD, *fds[i], &event);
	}
}

static void accept_some(struct rackwire_krping_nbd *n, int listener)
{
	int turns = 16, fd;

	while (turns--) {
		fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0) {
			/* The pending one keeps the listener readable. */
			if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
				pause_listeners(n, true);
			return;
		}
		if (n->nclients >= n->config.max_clients || nbd_client_open(n, fd)) {
			nbd_count(n, RACKWIRE_KRPING_BLOCK_REFUSED, 1);
			close(fd);
		}
	}
}

static void take_sockets(struct rackwire_krping_nbd *n)
{
	struct epoll_event events[EVENTS];
	int count = epoll_wait(n->epoll, events, EVENTS, 0), i;

	for (i = 0; i < count; i++) {
		struct nbd_client *c = events[i].data.ptr;

		if (events[i].data.ptr == &n->unix_fd || events[i].data.ptr == &n->tcp_fd) {
			accept_some(n, *(int *)events[i].data.ptr);
			continue;
		}
		if (events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
			c->readable = true;
		if (events[i].events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
			nbd_client_writable(c, true);
		nbd_client_ready(c);
	}
}

/* ---- the loop ---- */

static void run_ready(struct rackwire_krping_nbd *n)
{
	struct nbd_client *c = n->ready, *next;

	if (n->fed) {
		n->fed = false;
		for (c = n->clients; c; c = c->next)
			if (c->hungry)
				nbd_client_ready(c);
		c = n->ready;
	}
	/* Who becomes ready meanwhile has its turn in the next round. */
	n->ready = NULL;
	n->ready_last = &n->ready;
	for (; c; c = next) {
		next = c->next_ready;
		c->ready = false;
		nbd_client_run(c);
	}
}

static void bury(struct rackwire_krping_nbd *n)
{
	struct nbd_client *c, *next;

	n->dead = false;
	for (c = n->clients; c; c = next) {
		next = c->next;
		if (c->fd >= 0)
			continue;
		if (c->requests || c->ready) {
			n->dead = true;
			continue;
		}
		*c->link = c->next;
		if (c->next)
			c->next->link = c->link;
		n->nclients--;
		free(c);
	}
}

static void take_events(struct rackwire_krping_nbd *n)
{
	struct rdma_event event;

	while (n->ops->cm_next(n->dev, &event) == 1)
		if (event.kind != RACKWIRE_ROCE_CM_CONNECT_REQUEST)
			nbd_link_event(n, &event);
}

static void tick(struct rackwire_krping_nbd *n, uint64_t now)
{
	struct nbd_client *c, *next;
	struct timespec cpu;

	n->next_tick = now + NBD_TICK_NS;
	nbd_link_tick(n, now);
	for (c = n->clients; c; c = next) {
		next = c->next;
		nbd_client_tick(c, now);
	}
	if (n->listen_at && now >= n->listen_at)
		pause_listeners(n, false);
	rackwire_stats_set(&n->stats, RACKWIRE_KRPING_BLOCK_CLIENTS, n->nclients);
	rackwire_stats_set(&n->stats, RACKWIRE_KRPING_BLOCK_UNDER_WAY, n->under_way);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	rackwire_stats_set(&n->stats, RACKWIRE_KRPING_BLOCK_CPU_NS,
			   (uint64_t)cpu.tv_sec * RACKWIRE_NS_PER_S + (uint64_t)cpu.tv_nsec);
}

static bool stopping(const struct rackwire_krping_nbd *n)
{
	return __atomic_load_n(&n->stop, __ATOMIC_RELAXED);
}

static int loop(struct rackwire_krping_nbd *n, char *error, size_t length)
{
	bool spin = n->config.flags & RACKWIRE_KRPING_POLL;
	uint64_t now = rackwire_now_ns();
	uint32_t round = 0;
	int found = RDMA_WAIT_FD | RDMA_WAIT_CM, taken;

	while (!stopping(n)) {
		taken = found == RDMA_WAIT_FD ? 0 : nbd_link_poll(n);
		if (taken < 0)
			return config_refuse(error, length, taken, "the completion queue broke: %s", strerror(-taken));
		if (found & RDMA_WAIT_FD || spin || !(++round & 3))
			take_sockets(n);
		if (n->ready || n->fed)
			run_ready(n);
		nbd_link_pump(n);
		if (found & RDMA_WAIT_CM || (spin && !(++round & 63))) {
			take_events(n);
			if (spin && !taken)
				sched_yield(); /* the exporter may want this CPU */
		}
		if (n->dead)
			bury(n);
		now = rackwire_now_ns();
		if (now >= n->next_tick)
			tick(n, now);
		found = 0;
		if (spin || taken == NBD_BATCH || n->ready || n->fed || stopping(n))
			continue;
		found = n->ops->wait_fd(n->dev, n->link.cq, n->epoll, n->next_tick - now);
		if (found == -ECANCELED)
			found = 0;
		if (found < 0)
			return config_refuse(error, length, found, "waiting for the network: %s", strerror(-found));
	}
	return 0;
}

/* ---- opening ---- */

static int check(struct rackwire_krping_nbd *n, struct sockaddr_storage *local, struct sockaddr_storage *tcp, char *error,
		 size_t length)
{
	struct rackwire_krping_nbd_config *c = &n->config;
	struct sockaddr_storage *peer = &n->link.peer;

	if (rackwire_address_parse(c->peer, sizeof(c->peer), peer) || !peer->ss_family)
		return config_refuse(error, length, -EINVAL, "%.63s is not an address of an exporter", c->peer);
	if (rackwire_address_parse(c->local, sizeof(c->local), local) ||
	    (local->ss_family && local->ss_family != peer->ss_family))
		return config_refuse(error, length, -EINVAL, "%.63s is not an address to reach %.63s from", c->local,
				     c->peer);
	if (rackwire_address_parse(c->tcp_address, sizeof(c->tcp_address), tcp))
		return config_refuse(error, length, -EINVAL, "%.63s is not an address of this machine's networks",
				     c->tcp_address);
	if (!memchr(c->unix_path, 0, sizeof(c->unix_path)))
		return config_refuse(error, length, -EINVAL, "the socket's path is too long");
	if (!c->unix_path[0] && !tcp->ss_family)
		return config_refuse(error, length, -EINVAL, "NBD clients need a Unix socket or a TCP address");
	if (!c->port)
		return config_refuse(error, length, -EINVAL, "port 0 cannot be connected to");
	if (c->flags & ~(uint32_t)KNOWN_FLAGS || c->on_loss > RACKWIRE_KRPING_LOSS_REPLAY)
		return config_refuse(error, length, -EINVAL, "flags 0x%x or on_loss %u make no sense", c->flags,
				     c->on_loss);
	if (!c->depth)
		c->depth = DEFAULT_DEPTH;
	if (!c->max_clients)
		c->max_clients = DEFAULT_CLIENTS;
	if (!c->timeout_ns)
		c->timeout_ns = DEFAULT_TIMEOUT;
	if (!c->reconnect_ns)
		c->reconnect_ns = DEFAULT_RECONNECT;
	if (c->depth > BLOCK_MAX_DEPTH || c->max_clients > MAX_CLIENTS)
		return config_refuse(error, length, -EINVAL, "depth is 1 to %d, clients are 1 to %d", BLOCK_MAX_DEPTH,
				     MAX_CLIENTS);
	if (!c->memory)
		c->memory = c->max_clients * 2ull * NBD_CHUNK > DEFAULT_MEMORY ? c->max_clients * 2ull * NBD_CHUNK :
										 DEFAULT_MEMORY;
	if (c->memory < c->max_clients * 2ull * NBD_MIN_CHUNK || c->memory > MAX_MEMORY)
		return config_refuse(error, length, -EINVAL, "%u clients need %llu bytes of memory or more, up to 16 GiB",
				     c->max_clients, c->max_clients * 2ull * NBD_MIN_CHUNK);
	rackwire_address_set_port(peer, c->port);
	return 0;
}

static int open_engine(struct rackwire_krping_nbd *n, const struct sockaddr_storage *local, char *error, size_t length)
{
	const struct rackwire_krping_nbd_config *c = &n->config;
	struct rdma_open open = {
		.local = *local,
		.towards = n->link.peer,
		.mtu = c->mtu,
		.cpu = -1,
		.flags = (c->flags & RACKWIRE_KRPING_ECN ? RDMA_OPEN_ECN : 0) |
			 (c->flags & RACKWIRE_KRPING_NO_OFFLOAD ? RDMA_OPEN_NO_OFFLOAD : 0),
	};
	uint32_t chunk = c->memory < c->max_clients * 2ull * NBD_CHUNK ? NBD_MIN_CHUNK : NBD_CHUNK, count;
	int err;

	err = n->ops->open(&open, &n->dev, error, length);
	if (err)
		return error && length && error[0] ? err : config_refuse(error, length, err, "%s", strerror(-err));
	n->ops->info(n->dev, &n->info);
	count = (uint32_t)(c->memory / chunk);
	n->share = count / 2 / c->max_clients;
	n->spare = count - n->share * c->max_clients;
	err = block_slab_open(&n->slab, n->ops, n->dev, chunk, count,
			      RACKWIRE_ROCE_REMOTE_READ | RACKWIRE_ROCE_REMOTE_WRITE);
	if (!err)
		err = nbd_link_open(n, error, length);
	return err && length && !error[0] ?
		       config_refuse(error, length, err, "no resources of %s: %s", n->info.name, strerror(-err)) : err;
}

/* Until it is known what there is. */
static int first_link(struct rackwire_krping_nbd *n, char *error, size_t length)
{
	uint64_t now = rackwire_now_ns(), until = now + n->config.timeout_ns;
	struct nbd_link *l = &n->link;
	int found;

	nbd_link_try(n, now);
	while (l->state != NBD_LINK_DOWN && l->state != NBD_LINK_READY) {
		now = rackwire_now_ns();
		if (stopping(n))
			return config_refuse(error, length, -ECANCELED, "stopped");
		if (now >= until)
			return config_refuse(error, length, -ETIMEDOUT, "%s port %u: it did not answer in time",
					     n->config.peer, n->config.port);
		found = n->ops->wait(n->dev, l->cq, until - now);
		if (found < 0 && found != -ECANCELED)
			return config_refuse(error, length, found, "waiting for the network: %s", strerror(-found));
		take_events(n);
		found = nbd_link_poll(n);
		if (found < 0)
			return config_refuse(error, length, found, "the completion queue broke: %s", strerror(-found));
	}
	return l->state == NBD_LINK_READY ? 0 :
	       config_refuse(error, length, l->error, "%s port %u: %s", n->config.peer, n->config.port, l->error_text);
}

static int listen_unix(struct rackwire_krping_nbd *n, char *error, size_t length)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	struct stat st;
	int err;

	n->unix_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (n->unix_fd < 0)
		return config_refuse(error, length, -errno, "a socket: %s", strerror(errno));
	memcpy(at.sun_path, n->config.unix_path, strlen(n->config.unix_path));
	/* The mode before the name, so that nobody else is ever let in. */
	if (fchmod(n->unix_fd, 0600) || bind(n->unix_fd, (struct sockaddr *)&at, sizeof(at))) {
		err = errno == EADDRINUSE ? -EEXIST : -errno;
		return config_refuse(error, length, err, "%s: %s", n->config.unix_path, strerror(-err));
	}
	if (!lstat(n->config.unix_path, &st)) {
		n->unix_dev = st.st_dev;
		n->unix_ino = st.st_ino;
	}
	if (chmod(n->config.unix_path, 0600) || listen(n->unix_fd, BACKLOG))
		return config_refuse(error, length, -errno, "%s: %s", n->config.unix_path, strerror(errno));
	return watch_listener(n, &n->unix_fd);
}

static int listen_tcp(struct rackwire_krping_nbd *n, struct sockaddr_storage *at, char *error, size_t length)
{
	socklen_t size = at->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
	struct sockaddr_storage got = { 0 };
	int one = 1;

	n->tcp_fd = socket(at->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (n->tcp_fd < 0)
		return config_refuse(error, length, -errno, "a socket: %s", strerror(errno));
	rackwire_address_set_port(at, n->config.tcp_port);
	setsockopt(n->tcp_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(n->tcp_fd, (struct sockaddr *)at, size) || listen(n->tcp_fd, BACKLOG))
		return config_refuse(error, length, -errno, "%s port %u: %s", n->config.tcp_address,
				     n->config.tcp_port, strerror(errno));
	size = sizeof(got);
	getsockname(n->tcp_fd, (struct sockaddr *)&got, &size);
	n->tcp_port = ntohs(((struct sockaddr_in *)(void *)&got)->sin_port);
	return watch_listener(n, &n->tcp_fd);
}

int rackwire_krping_nbd_open(const struct rackwire_krping_nbd_config *config, void *stats, size_t stats_length,
			     struct rackwire_krping_nbd **out, char *error, size_t length)
{
	struct sockaddr_storage local = { 0 }, tcp = { 0 };
	struct rackwire_krping_nbd *n;
	int err;

	if (error && length)
		error[0] = 0;
	if (!config || config->size != sizeof(*config) || !out)
		return config_refuse(error, length, -EINVAL, "the configuration is of another version");
	n = calloc(1, sizeof(*n));
	if (!n)
		return -ENOMEM;
	n->config = *config;
	n->epoll = n->unix_fd = n->tcp_fd = -1;
	n->ready_last = &n->ready;
	n->ops = rdma_provider_of(config->engine);
	if (!n->ops || !n->ops->wait_fd)
		err = config_refuse(error, length, -EINVAL, "engine %u serves no NBD", config->engine);
	else
		err = check(n, &local, &tcp, error, length);
	if (!err) {
		err = rackwire_stats_init(&n->stats, stats, stats_length, 0, RACKWIRE_KRPING_BLOCK_COUNTERS,
					  RACKWIRE_KRPING_BLOCK_HISTOGRAMS);
		if (err)
			config_refuse(error, length, err, "the statistics need %zu bytes",
				      rackwire_krping_block_stats_length());
	}
	if (!err) {
		n->epoll = epoll_create1(EPOLL_CLOEXEC);
		err = n->epoll < 0 ? -errno : open_engine(n, &local, error, length);
	}
	if (!err)
		err = first_link(n, error, length);
	if (!err && n->config.unix_path[0])
		err = listen_unix(n, error, length);
	if (!err && tcp.ss_family)
		err = listen_tcp(n, &tcp, error, length);
	if (err) {
		if (error && length && !error[0])
			config_refuse(error, length, err, "%s", strerror(-err));
		rackwire_krping_nbd_close(n);
		return err;
	}
	*out = n;
	return 0;
}

int rackwire_krping_nbd_run(struct rackwire_krping_nbd *n, char *error, size_t length)
{
	int err;

	if (error && length)
		error[0] = 0;
	if (n->ran)
		return config_refuse(error, length, -EALREADY, "a run happens once");
	n->ran = true;
	n->next_tick = rackwire_now_ns();
	err = loop(n, error, length);
	tick(n, rackwire_now_ns());
	return err;
}

void rackwire_krping_nbd_stop(struct rackwire_krping_nbd *n)
{
	__atomic_store_n(&n->stop, 1, __ATOMIC_SEQ_CST);
	n->ops->wake(n->dev);
}

static void close_clients(struct rackwire_krping_nbd *n)
{
	struct nbd_client *c;

	for (c = n->clients; c; c = c->next)
		nbd_client_close(c);
	/* Nobody waits for the exporter any more. */
	nbd_link_abandon(n);
	while ((c = n->clients)) {
		n->clients = c->next;
		free(c);
	}
}

void rackwire_krping_nbd_close(struct rackwire_krping_nbd *n)
{
	struct stat st;

	if (!n)
		return;
	/* The name goes only if it is still ours. */
	if (n->unix_ino && !lstat(n->config.unix_path, &st) && st.st_dev == n->unix_dev && st.st_ino == n->unix_ino)
		unlink(n->config.unix_path);
	if (n->unix_fd >= 0)
		close(n->unix_fd);
	if (n->tcp_fd >= 0)
		close(n->tcp_fd);
	close_clients(n);
	nbd_link_close(n);
	block_slab_close(&n->slab);
	if (n->dev)
		n->ops->close(n->dev);
	if (n->epoll >= 0)
		close(n->epoll);
	free(n);
}

uint16_t rackwire_krping_nbd_port(const struct rackwire_krping_nbd *n)
{
	return n->tcp_port;
}

uint32_t rackwire_krping_nbd_exports(struct rackwire_krping_nbd *n, struct rackwire_krping_export_info *rows, uint32_t max)
{
	uint32_t i;

	for (i = 0; i < n->nexports && i < max; i++) {
		const struct block_about *a = &n->exports[i].about;

		rows[i] = (struct rackwire_krping_export_info){
			.length = a->length,
			.read_only = a->flags & BLOCK_ABOUT_READ_ONLY ||
				     n->config.flags & RACKWIRE_KRPING_NBD_READ_ONLY,
			.persistent = a->flags & BLOCK_ABOUT_PERSISTENT ? 1 : 0,
		};
		memcpy(rows[i].name, a->name, sizeof(rows[i].name));
	}
	return i;
}
