// SPDX-License-Identifier: BSD-2-Clause
/*
 * The verbs engine: RDMA devices of the kernel by libibverbs and librdmacm.
 * User space has no fast registration; a memory window of type 2, where the
 * device has them, gives a region a new rkey by a work request.
 */
#include "verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "address.h"

#define RESOLVE_MS 2000

/* What is missing: a device, or only the connection manager? */
static int look(const struct verbs_lib *lib, char *error, size_t length)
{
	struct ibv_device **list;
	int n = 0;

	list = lib->get_device_list(&n);
	if (list)
		lib->free_device_list(list);
	if (!n)
		return config_refuse(error, length, -ENODEV,
			      "this machine has no RDMA device (an Ethernet device becomes one with: "
			      "modprobe rdma_rxe; rdma link add rxe0 type rxe netdev DEVICE)");
	if (access("/dev/infiniband/rdma_cm", F_OK) < 0)
		return config_refuse(error, length, -ENODEV,
			      "the kernel's RDMA connection manager is not loaded (modprobe rdma_ucm)");
	return 0;
}

static int verbs_probe(char *error, size_t length)
{
	const struct verbs_lib *lib = verbs_lib_open(error, length);

	return lib ? look(lib, error, length) : -ENODEV;
}

/* ---- the device ---- */

static int by_address(struct rdma_dev *dev, const struct rdma_open *open, char *error, size_t length)
{
	struct sockaddr_storage at = open->local.ss_family ? open->local : open->towards;
	char text[128];
	int err;

	if (dev->lib->create_id(NULL, &dev->holder, NULL, RDMA_PS_TCP)) {
		dev->holder = NULL;
		return config_refuse(error, length, -errno, "librdmacm: %s", strerror(errno));
	}
	rackwire_address_set_port(&at, 0);
	if (open->local.ss_family)
		err = dev->lib->bind_addr(dev->holder, (struct sockaddr *)&at);
	else
		err = dev->lib->resolve_addr(dev->holder, NULL, (struct sockaddr *)&at, RESOLVE_MS);
	if (err) {
		err = -errno;
		rackwire_address_text(&at, text, sizeof(text));
		text[strcspn(text, at.ss_family == AF_INET ? ":" : "]")] = 0;
		return config_refuse(error, length, err == -ENODEV ? -EADDRNOTAVAIL : err,
			      open->local.ss_family ? "no RDMA device has the address %s: %s" :
						      "no RDMA device leads to %s: %s",
			      text + (at.ss_family == AF_INET6), strerror(-err));
	}
	dev->verbs = dev->holder->verbs;
	dev->port = dev->holder->port_num;
	return 0;
}

static int choose_device(struct rdma_dev *dev, const struct rdma_open *open, char *error, size_t length)
{
	int n = 0, err;

	if (open->local.ss_family || open->towards.ss_family) {
		err = by_address(dev, open, error, length);
		if (err)
			return err;
	}
	if (dev->verbs)
		return 0;
	/* Any address, or the loopback's: it is no device's own. */
	dev->devices = dev->lib->get_devices(&n);
	if (!dev->devices || !n)
		return config_refuse(error, length, -ENODEV, "this machine has no RDMA device");
	dev->verbs = dev->devices[0];
	dev->port = 1;
	return 0;
}

static int nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

static int open_device(struct rdma_dev *dev, char *error, size_t length)
{
	const struct verbs_lib *lib = dev->lib;
	unsigned int caps;
	int err;

	dev->pd = lib->alloc_pd(dev->verbs);
	if (dev->pd)
		dev->comp = lib->create_comp_channel(dev->verbs);
	if (dev->comp)
		dev->events = lib->create_event_channel();
	dev->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!dev->events || dev->wake_fd < 0)
		return config_refuse(error, length, -errno, "%s: %s", dev->verbs->device->name, strerror(errno));
	err = nonblocking(dev->comp->fd);
	if (!err)
		err = nonblocking(dev->events->fd);
	if (!err)
		err = -lib->query_device(dev->verbs, &dev->attr);
	if (err)
		return config_refuse(error, length, err, "%s: %s", dev->verbs->device->name, strerror(-err));
	caps = dev->attr.device_cap_flags;
	if (caps & IBV_DEVICE_MEM_MGT_EXTENSIONS) {
		dev->features |= RDMA_CAN_SEND_INV | RDMA_CAN_LOCAL_INV;
		if (caps & (IBV_DEVICE_MEM_WINDOW_TYPE_2A | IBV_DEVICE_MEM_WINDOW_TYPE_2B))
			dev->features |= RDMA_CAN_REG_MR;
	}
	if (dev->attr.atomic_cap != IBV_ATOMIC_NONE)
		dev->features |= RDMA_CAN_ATOMICS;
	return 0;
}

static void verbs_close(struct rdma_dev *dev)
{
	const struct verbs_lib *lib = dev->lib;

	if (dev->events)
		lib->destroy_event_channel(dev->events);
	if (dev->comp)
		lib->destroy_comp_channel(dev->comp);
	if (dev->pd)
		lib->dealloc_pd(dev->pd);
	if (dev->holder)
		lib->destroy_id(dev->holder);
	if (dev->devices)
		lib->free_devices(dev->devices);
	if (dev->wake_fd >= 0)
		close(dev->wake_fd);
	free(dev);
}

static int verbs_open(const struct rdma_open *open, struct rdma_dev **out, char *error, size_t length)
{
	const struct verbs_lib *lib = verbs_lib_open(error, length);
	struct rdma_dev *dev;
	int err;

	if (!lib)
		return -ENODEV;
	err = look(lib, error, length);
	if (err)
		return err;
	if (open->mtu)
		return config_refuse(error, length, -EOPNOTSUPP, "with verbs the MTU is that of the RDMA device");
	if (open->flags)
		return config_refuse(error, length, -EOPNOTSUPP, "with verbs ECN and offloads are settings of the RDMA device");
	dev = calloc(1, sizeof(*dev));
	if (!dev)
		return -ENOMEM;
	dev->lib = lib;
	dev->local = open->local;
	dev->spin_ns = open->spin_ns;
	dev->wake_fd = -1;
	err = choose_device(dev, open, error, length);
	if (!err)
		err = open_device(dev, error, length);
	if (err) {
		verbs_close(dev);
		return err;
	}
	*out = dev;
	return 0;
}

static void verbs_info(struct rdma_dev *dev, struct rdma_dev_info *info)
{
	struct ibv_port_attr port = { 0 };
	int depth = dev->attr.max_qp_rd_atom;

	memset(info, 0, sizeof(*info));
	snprintf(info->name, sizeof(info->name), "%s", dev->verbs->device->name);
	if (!dev->lib->query_port(dev->verbs, dev->port ? dev->port : 1, &port))
		info->mtu = 128u << port.active_mtu;
	info->features = dev->features;
	info->max_send_wr = (uint32_t)dev->attr.max_qp_wr;
	info->max_cqe = (uint32_t)dev->attr.max_cqe;
	if (depth > dev->attr.max_qp_init_rd_atom)
		depth = dev->attr.max_qp_init_rd_atom;
	info->max_rd_atomic = depth > RACKWIRE_ROCE_MAX_RD_ATOMIC ? RACKWIRE_ROCE_MAX_RD_ATOMIC : (uint32_t)depth;
	info->max_message = RACKWIRE_ROCE_MAX_MESSAGE;
	info->max_mr = dev->attr.max_mr_size;
}

static void verbs_wake(struct rdma_dev *dev)
{
	uint64_t one = 1;

	while (write(dev->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/* ---- memory ---- */

int verbs_access(uint32_t access)
{
	return (access & RACKWIRE_ROCE_LOCAL_WRITE ? IBV_ACCESS_LOCAL_WRITE : 0) |
	       (access & RACKWIRE_ROCE_REMOTE_WRITE ? IBV_ACCESS_REMOTE_WRITE : 0) |
	       (access & RACKWIRE_ROCE_REMOTE_READ ? IBV_ACCESS_REMOTE_READ : 0) |
	       (access & RACKWIRE_ROCE_REMOTE_ATOMIC ? IBV_ACCESS_REMOTE_ATOMIC : 0);
}

static int verbs_mr_register(struct rdma_dev *dev, void *addr, size_t length, uint32_t access, struct rdma_mr **out)
{
	int flags = verbs_access(access) | (dev->features & RDMA_CAN_REG_MR ? IBV_ACCESS_MW_BIND : 0);
	struct rdma_mr *mr = calloc(1, sizeof(*mr));
	int err;

	if (!mr)
		return -ENOMEM;
	mr->dev = dev;
	mr->addr = addr;
	mr->length = length;
	mr->mr = dev->lib->reg_mr(dev->pd, addr, length, flags);
	if (!mr->mr) {
		err = -errno;
		free(mr);
		return err;
	}
	*out = mr;
	return 0;
}

static void verbs_mr_deregister(struct rdma_mr *mr)
{
	if (mr->mw)
		ibv_dealloc_mw(mr->mw);
	mr->dev->lib->dereg_mr(mr->mr);
	free(mr);
}

static uint32_t verbs_lkey(struct rdma_mr *mr)
{
	return mr->mr->lkey;
}

static uint32_t verbs_rkey(struct rdma_mr *mr)
{
	return mr->mr->rkey;
}

static int verbs_mr_next_key(struct rdma_mr *mr, uint32_t *key)
{
	if (!(mr->dev->features & RDMA_CAN_REG_MR))
		return -EOPNOTSUPP;
	if (!mr->mw)
		mr->mw = ibv_alloc_mw(mr->dev->pd, IBV_MW_TYPE_2);
	if (!mr->mw)
		return -errno;
	*key = ibv_inc_rkey(mr->mw->rkey);
	return 0;
}

static void *verbs_mr_handle(struct rdma_mr *mr)
{
	return mr;
}

const struct rdma_provider rdma_verbs = {
	.name = "verbs",
	.probe = verbs_probe,
	.open = verbs_open,
	.close = verbs_close,
	.info = verbs_info,
	.mr_register = verbs_mr_register,
	.mr_deregister = verbs_mr_deregister,
	.lkey = verbs_lkey,
	.rkey = verbs_rkey,
	.mr_next_key = verbs_mr_next_key,
	.mr_handle = verbs_mr_handle,
	.cq_create = verbs_cq_create,
	.cq_destroy = verbs_cq_destroy,
	.poll_cq = verbs_poll_cq,
	.qp_create = verbs_qp_create,
	.qp_num = verbs_qp_num,
	.qp_destroy = verbs_qp_destroy,
	.post_send = verbs_post_send,
	.post_recv = verbs_post_recv,
	.counters = verbs_counters,
	.wait = verbs_wait,
	.wait_fd = verbs_wait_fd,
	.wake = verbs_wake,
	.cm_next = verbs_cm_next,
	.listen = verbs_listen,
	.prepare = verbs_prepare,
	.connect = verbs_connect,
	.accept = verbs_accept,
	.reject = verbs_reject,
	.disconnect = verbs_disconnect,
	.id_destroy = verbs_id_destroy,
};
