// SPDX-License-Identifier: BSD-2-Clause
/* Opening and closing a device; what its configuration means. */
#include <net/if.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "clock.h"
#include "dev.h"

#define DRAIN_ROUNDS 1000
#define DEFAULT_WINDOW (512u << 10)
#define DEFAULT_RCVBUF (8u << 20)
#define DEFAULT_RATE 10000000000ULL
#define MAX_RATE 10000000000000ULL

/*
 * A fork()ed child would keep the socket in its group, where nobody reads it, and
 * the slot locked when the parent has long gone: it lets go of everything at once.
 */
static struct roce_list all_devs = { &all_devs, &all_devs };
static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void before_fork(void)
{
	pthread_mutex_lock(&all_lock);
}

static void after_fork(void)
{
	pthread_mutex_unlock(&all_lock);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void in_child(void)
{
	struct roce_list *l;

	for (l = all_devs.next; l != &all_devs; l = l->next) {
		struct rackwire_roce_dev *dev = roce_container(l, struct rackwire_roce_dev, node);

		close_fd(&dev->fd);
		close_fd(&dev->share.fd);
		close_fd(&dev->share.file_fd);
		close_fd(&dev->app_fd);
		close_fd(&dev->thread_fd);
		close_fd(&dev->cm_fd);
	}
	roce_list_init(&all_devs);
	pthread_mutex_unlock(&all_lock);
}

static void watch_forks(void)
{
	pthread_atfork(before_fork, after_fork, in_child);
}

static void *op_alloc(void *ctx, enum roce_slab slab, size_t size)
{
	(void)ctx;
	(void)slab;
	return calloc(1, size);
}

static void op_free(void *ctx, enum roce_slab slab, void *ptr, size_t size)
{
	(void)ctx;
	(void)slab;
	(void)size;
	free(ptr);
}

static const struct roce_ops ops = { .alloc = op_alloc, .free = op_free };

static bool terminated(const char *text, size_t size)
{
	return memchr(text, 0, size);
}

static int check_config(const struct rackwire_roce_config *c, char *error, size_t length)
{
	if (!c || c->size != sizeof(*c))
		return roce_fail(error, length, -EINVAL, "config.size is not that of this library");
	if (c->flags & ~(u32)(RACKWIRE_ROCE_NO_THREAD | RACKWIRE_ROCE_NO_GSO | RACKWIRE_ROCE_ECN |
			      RACKWIRE_ROCE_STRICT_ID | RACKWIRE_ROCE_BUSY_POLL))
		return roce_fail(error, length, -EINVAL, "flags has unknown bits");
	if (!terminated(c->local, sizeof(c->local)) || !terminated(c->towards, sizeof(c->towards)))
		return roce_fail(error, length, -EINVAL, "an address is not terminated");
	if (c->mtu && roce_mtu_bytes(roce_mtu_code(c->mtu)) != c->mtu)
		return roce_fail(error, length, -EINVAL, "mtu is not 256, 512, 1024, 2048 or 4096");
	if (c->window && (c->window < 4096 || c->window > 1u << 30))
		return roce_fail(error, length, -EINVAL, "window is not 4 KiB to 1 GiB");
	if (c->rcvbuf && (c->rcvbuf < 4096 || c->rcvbuf > 1u << 30))
		return roce_fail(error, length, -EINVAL, "rcvbuf is not 4 KiB to 1 GiB");
	if (c->rate_bps > MAX_RATE)
		return roce_fail(error, length, -EINVAL, "rate_bps is over 10 Tbit/s");
	if (c->cpu < 0 || c->cpu > CPU_SETSIZE || c->cpu > sysconf(_SC_NPROCESSORS_CONF))
		return roce_fail(error, length, -EINVAL, "there is no CPU %d", c->cpu - 1);
	return 0;
}

/* Where the device is: dev->local, scope, family. */
static int find_address(struct rackwire_roce_dev *dev, char *error, size_t length)
{
	const struct rackwire_roce_config *c = &dev->config;
	u8 peer[16];
	u32 scope, mtu;
	int fd, err;

	if (c->local[0]) {
		if (roce_addr_parse(c->local, dev->local, &dev->scope))
			return roce_fail(error, length, -EINVAL, "local: %s is no numeric address", c->local);
	} else if (c->towards[0]) {
		if (roce_addr_parse(c->towards, peer, &scope))
			return roce_fail(error, length, -EINVAL, "towards: %s is no numeric address", c->towards);
		err = roce_route(NULL, peer, scope, dev->local, &mtu);
		if (err)
			return roce_fail(error, length, err, "no route to %s: %s", c->towards, strerror(-err));
		dev->scope = scope;
	}
	dev->wildcard = roce_addr_is_any(dev->local);
	dev->family = roce_addr_is_v4(dev->local) ? AF_INET : AF_INET6;
	if (dev->wildcard && dev->family == AF_INET6) {
		/* One socket for both families, or for IPv4 where there is no IPv6. */
		fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (fd >= 0)
			close(fd);
		else
			dev->family = AF_INET;
	}
	if (dev->wildcard && dev->family == AF_INET)
		dev->local[10] = dev->local[11] = 0xff;
	return 0;
}

/* Largest payload that fits the interface of the address. */
static u32 find_mtu(const struct rackwire_roce_dev *dev)
{
	u32 mtu, payload;

	if (dev->config.mtu)
		return dev->config.mtu;
	/* On all addresses, each connection finds its own path's. */
	if (dev->wildcard)
		return ROCE_MTU_MAX;
	mtu = roce_interface_mtu(dev->local, dev->scope);
	payload = roce_payload_for(dev->local, mtu ? mtu : 1500);
	return payload ? payload : ROCE_MTU_MIN;
}

static int fill_cfg(struct rackwire_roce_dev *dev, char *error, size_t length)
{
	struct rackwire_roce_config *c = &dev->config;
	struct roce_cfg *cfg = &dev->cfg;
	const char *field = "";
	u32 slot = dev->share.slot;

	roce_cfg_default(cfg);
	cfg->mtu = find_mtu(dev);
	/*
	 * The peer's receive buffer is taken to be like ours. It is charged for the kernel's
	 * own structures too, which for small pages of a packet doubles what it takes.
	 */
	if (!c->window)
		c->window = (u32)roce_max(roce_min(DEFAULT_WINDOW, dev->rcvbuf / 4), 16384);
	cfg->window = c->window;
	cfg->max_qps = c->max_qps;
	cfg->max_mrs = c->max_mrs;
	cfg->rate_bps = c->flags & RACKWIRE_ROCE_ECN ? c->rate_bps : 0;
	if (slot) {
		cfg->qpn_base = slot << 16;
		cfg->qpn_count = 1 << 16;
		cfg->comm_id_base = slot << 24;
		cfg->comm_id_count = 1 << 24;
	}
	if (roce_cfg_check(cfg, &field))
		return roce_fail(error, length, -EINVAL, "%s is out of range", field);
	return 0;
}

#define DEFAULT(field, value)				\
	do {						\
		if (!dev->config.field)			\
			dev->config.field = (value);	\
	} while (0)

static int dev_build(struct rackwire_roce_dev *dev, char *error, size_t length)
{
	u64 seed[2];
	int err;

	DEFAULT(udp_port, RACKWIRE_ROCE_UDP_PORT);
	DEFAULT(rcvbuf, DEFAULT_RCVBUF);
	DEFAULT(rate_bps, DEFAULT_RATE);
	DEFAULT(max_qps, 4096);
	DEFAULT(max_mrs, 16384);
	seed[0] = seed[1] = dev->config.seed;
	if (!dev->config.seed && getrandom(seed, sizeof(seed), 0) != sizeof(seed))
		return -EIO;
	dev->tos = dev->config.flags & RACKWIRE_ROCE_ECN ? 2 : 0;
	dev->crc32 = roce_crc32_fast();
	err = find_address(dev, error, length);
	if (err)
		return err;
	err = roce_probe_id(dev);
	if (err < 0)
		return roce_fail(error, length, err,
				 "this kernel puts an IPv4 identification into packets that the ICRC cannot foresee");
	dev->id_probe = (u32)err;
	dev->app_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	dev->thread_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (dev->app_fd < 0 || dev->thread_fd < 0)
		return -errno;
	err = roce_rx_init(dev);
	if (!err)
		err = roce_tx_init(dev);
	if (err)
		return err;
	err = roce_share_join(dev, error, length);
	if (err == -EADDRINUSE && error && length && !error[0])
		roce_fail(error, length, err,
			  "UDP port %u is taken by another user's process, or by the kernel's rdma_rxe",
			  dev->config.udp_port);
	if (err)
		return err;
	err = roce_socket_open(dev, dev->share.slot, error, length);
	if (!err)
		err = fill_cfg(dev, error, length);
	if (!err) {
		dev->now = rackwire_now_ns();
		dev->core = roce_dev_create(&dev->cfg, &ops, dev, seed, dev->now);
		if (!dev->core)
			err = -ENOMEM;
	}
	if (err) {
		roce_share_joined(dev, false);
		return err;
	}
	return roce_share_joined(dev, true);
}

static void dev_free(struct rackwire_roce_dev *dev)
{
	roce_share_leave(dev);
	if (dev->core)
		roce_dev_destroy(dev->core);
	roce_tx_fini(dev);
	roce_rx_fini(dev);
	close_fd(&dev->app_fd);
	close_fd(&dev->thread_fd);
	close_fd(&dev->cm_fd);
	pthread_mutex_lock(&all_lock);
	roce_list_del(&dev->node);
	pthread_mutex_unlock(&all_lock);
	pthread_cond_destroy(&dev->thread_cond);
	pthread_mutex_destroy(&dev->lock);
	free(dev);
}

int rackwire_roce_open(const struct rackwire_roce_config *config, struct rackwire_roce_dev **out, char *error,
		       size_t error_length)
{
	struct rackwire_roce_dev *dev;
	pthread_condattr_t attr;
	int err;

	if (error && error_length)
		error[0] = 0;
	err = check_config(config, error, error_length);
	if (err || !out)
		return err ? err : -EINVAL;
	dev = calloc(1, sizeof(*dev));
	if (!dev)
		return roce_fail(error, error_length, -ENOMEM, "out of memory");
	dev->config = *config;
	dev->fd = dev->app_fd = dev->thread_fd = dev->cm_fd = dev->share.fd = dev->share.file_fd = -1;
	roce_list_init(&dev->waiters);
	roce_list_init(&dev->pds);
	roce_list_init(&dev->mrs);
	roce_list_init(&dev->cqs);
	roce_list_init(&dev->qps);
	roce_list_init(&dev->ids);
	roce_list_init(&dev->events);
	pthread_mutex_init(&dev->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&dev->thread_cond, &attr);
	pthread_condattr_destroy(&attr);
	pthread_once(&fork_once, watch_forks);
	pthread_mutex_lock(&all_lock);
	roce_list_add_tail(&all_devs, &dev->node);
	pthread_mutex_unlock(&all_lock);
	err = dev_build(dev, error, error_length);
	if (!err && !(dev->config.flags & RACKWIRE_ROCE_NO_THREAD))
		err = roce_thread_start(dev);
	if (err) {
		if (error && error_length && !error[0])
			roce_fail(error, error_length, err, "%s", strerror(-err));
		dev_free(dev);
		return err;
	}
	*out = dev;
	return 0;
}

static void free_list(struct roce_list *list)
{
	while (!roce_list_empty(list)) {
		struct roce_list *l = list->next;

		roce_list_del(l);
		free(l); /* the node is the first member of each */
	}
}

void rackwire_roce_close(struct rackwire_roce_dev *dev)
{
	struct roce_list *l;
	int i;

	if (!dev)
		return;
	roce_thread_stop(dev);
	roce_lock(dev);
	dev->now = rackwire_now_ns();
	roce_cm_forget_all(dev);
	for (l = dev->qps.next; l != &dev->qps; l = l->next)
		roce_qp_destroy(roce_container(l, struct rackwire_roce_qp, node)->core, dev->now);
	/* What the kernel gave us may be others', even our own good-byes. */
	roce_share_retire(dev);
	roce_socket_send(dev);
	for (i = 0; i < DRAIN_ROUNDS && roce_drive(dev); i++)
		;
	for (l = dev->cqs.next; l != &dev->cqs; l = l->next)
		close_fd(&roce_container(l, struct rackwire_roce_cq, node)->fd);
	roce_unlock(dev);
	free_list(&dev->qps);
	free_list(&dev->cqs);
	free_list(&dev->mrs);
	free_list(&dev->pds);
	dev_free(dev);
}

int rackwire_roce_dev_info(struct rackwire_roce_dev *dev, struct rackwire_roce_dev_info *info)
{
	struct roce_info core;

	if (!dev || !info || info->size != sizeof(*info))
		return -EINVAL;
	roce_lock(dev);
	roce_dev_info(dev->core, &core);
	*info = (struct rackwire_roce_dev_info){
		.size = sizeof(*info),
		.mtu = dev->cfg.mtu,
		.gso = dev->gso,
		.gro = dev->gro,
		.thread = dev->thread_running,
		.processes = roce_share_processes(dev),
		.rcvbuf = dev->rcvbuf,
		.crc = dev->crc32 != roce_crc32,
		.id_probe = dev->id_probe,
		.qps = core.qps,
		.mrs = core.mrs,
		.cm_ids = core.cm_ids,
		.listeners = core.listeners,
		.half_open = core.half_open,
		.timewait = core.timewait,
	};
	if (!dev->wildcard)
		roce_addr_text(dev->local, dev->scope, info->local, sizeof(info->local));
	roce_unlock(dev);
	return 0;
}

int rackwire_roce_dev_stats(struct rackwire_roce_dev *dev, struct rackwire_roce_dev_stats *stats)
{
	if (!dev || !stats)
		return -EINVAL;
	roce_lock(dev);
	roce_dev_stats(dev->core, stats);
	stats->rx_bad_icrc += dev->stats.rx_bad_icrc;
	stats->rx_malformed += dev->stats.rx_malformed;
	stats->rx_dropped += dev->stats.rx_dropped;
	stats->tx_blocked += dev->stats.tx_blocked;
	stats->forwarded += dev->stats.forwarded;
	roce_unlock(dev);
	return 0;
}

uint32_t rackwire_roce_abi_version(void)
{
	return RACKWIRE_ROCE_ABI_VERSION;
}
