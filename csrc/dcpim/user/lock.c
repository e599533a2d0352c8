// SPDX-License-Identifier: BSD-2-Clause
/*
 * Ports between processes. The kernel keeps UDP ports apart, but not the ports
 * of a protocol it does not know, nor those opened with SO_REUSEPORT. An
 * abstract unix socket is a name that one process of a network namespace can
 * hold and that vanishes with it.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/un.h>
#include <unistd.h>

#include "shard.h"

/* Ports from here on are taken in blocks, so that 10,000 connections need few names. */
#define BLOCK_FIRST 32768
#define BLOCK_PORTS 256
#define BLOCKS ((65536 - BLOCK_FIRST) / BLOCK_PORTS)

#define ASKED 256
#define ASKED_TTL_NS 100000000ULL

struct dcpim_raw_ports {
	pthread_mutex_t lock;
	u8 taken[65536 / 8];
	u8 ours[65536 / 8]; /* read without the lock: taken, or of a block of ours */
	int block[BLOCKS];  /* descriptor of the name, -1: not ours */
	int *single;	    /* descriptors of ports below BLOCK_FIRST */
	u16 host_port;
	u32 next;
	int default_fd; /* this process answers for ports nobody owns */
	u64 default_asked;
	struct {
		u16 port;
		bool owned;
		u64 until;
	} asked[ASKED];
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

int dcpim_name_lock(const char *name, u32 number)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	socklen_t len;
	int fd, err;

	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
			  (size_t)snprintf(sun.sun_path + 1, sizeof(sun.sun_path) - 1, "rackwire-dcpim-%s/%u",
					   name, number));
	if (bind(fd, (struct sockaddr *)&sun, len) < 0) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

static int block_take(struct dcpim_raw_ports *r, u32 block)
{
	u32 i;
	int fd;

	if (r->block[block] >= 0)
		return 0;
	fd = dcpim_name_lock("254-block", block);
	if (fd < 0)
		return fd;
	r->block[block] = fd;
	for (i = 0; i < BLOCK_PORTS; i++)
		bit_set(r->ours, BLOCK_FIRST + block * BLOCK_PORTS + i, true);
	return 0;
}

static int take_any(struct dcpim_raw_ports *r, u16 *port)
{
	u32 i, n;

	for (i = 0; i < BLOCKS * BLOCK_PORTS; i++) {
		n = (r->next + i) % (BLOCKS * BLOCK_PORTS);
		if (r->block[n / BLOCK_PORTS] < 0 && block_take(r, n / BLOCK_PORTS) < 0) {
			i += BLOCK_PORTS - 1 - n % BLOCK_PORTS;
			continue;
		}
		if (bit_get(r->taken, BLOCK_FIRST + n))
			continue;
		r->next = n + 1;
		*port = (u16)(BLOCK_FIRST + n);
		bit_set(r->taken, *port, true);
		return 0;
	}
	return -EADDRNOTAVAIL;
}

static int take(struct dcpim_raw_ports *r, u16 *port)
{
	int err;

	if (!*port)
		return take_any(r, port);
	if (bit_get(r->taken, *port))
		return -EADDRINUSE;
	if (*port >= BLOCK_FIRST) {
		err = block_take(r, (*port - BLOCK_FIRST) / BLOCK_PORTS);
		if (err)
			return err;
	} else {
		r->single[*port] = dcpim_name_lock("254", *port);
		if (r->single[*port] < 0) {
			err = r->single[*port];
			r->single[*port] = -1;
			return err;
		}
		bit_set(r->ours, *port, true);
	}
	bit_set(r->taken, *port, true);
	return 0;
}

int dcpim_raw_port_take(struct rackwire_dcpim_engine *e, u16 *port)
{
	int err;

	pthread_mutex_lock(&e->raw_ports->lock);
	err = take(e->raw_ports, port);
	pthread_mutex_unlock(&e->raw_ports->lock);
	return err;
}

void dcpim_raw_port_give(struct rackwire_dcpim_engine *e, u16 port)
{
	struct dcpim_raw_ports *r = e->raw_ports;

	pthread_mutex_lock(&r->lock);
	bit_set(r->taken, port, false);
	if (port < BLOCK_FIRST && r->single[port] >= 0) {
		close(r->single[port]);
		r->single[port] = -1;
		bit_set(r->ours, port, false);
	}
	pthread_mutex_unlock(&r->lock);
}

u16 dcpim_raw_host_port(const struct rackwire_dcpim_engine *e)
{
	return e->raw_ports->host_port;
}

/* Does any process hold the name of this port? Cached, since each stray packet asks. */
static bool owned_elsewhere(struct dcpim_raw_ports *r, u16 port, u64 now)
{
	u32 i = port % ASKED;
	int fd;

	if (r->asked[i].port == port && r->asked[i].until > now)
		return r->asked[i].owned;
	if (port >= BLOCK_FIRST)
		fd = dcpim_name_lock("254-block", (port - BLOCK_FIRST) / BLOCK_PORTS);
	else
		fd = dcpim_name_lock("254", port);
	r->asked[i].port = port;
	r->asked[i].owned = fd < 0;
	r->asked[i].until = now + ASKED_TTL_NS;
	if (fd >= 0)
		close(fd);
	return fd < 0;
}

bool dcpim_raw_port_wanted(struct rackwire_dcpim_engine *e, u16 port, u64 now)
{
	struct dcpim_raw_ports *r = e->raw_ports;
	bool wanted;

	if (bit_get(r->ours, port))
		return true;
	pthread_mutex_lock(&r->lock);
	if (r->default_fd < 0 && now >= r->default_asked + ASKED_TTL_NS) {
		r->default_asked = now;
		r->default_fd = dcpim_name_lock("254-default", 0);
	}
	wanted = r->default_fd >= 0 && !owned_elsewhere(r, port, now);
	pthread_mutex_unlock(&r->lock);
	return wanted;
}

int dcpim_raw_ports_open(struct rackwire_dcpim_engine *e)
{
	struct dcpim_raw_ports *r = calloc(1, sizeof(*r));
	u16 random = 0;
	u32 i;
	int err;

	if (!r)
		return -ENOMEM;
	r->single = malloc(BLOCK_FIRST * sizeof(*r->single));
	if (!r->single) {
		free(r);
		return -ENOMEM;
	}
	pthread_mutex_init(&r->lock, NULL);
	for (i = 0; i < BLOCK_FIRST; i++)
		r->single[i] = -1;
	for (i = 0; i < BLOCKS; i++)
		r->block[i] = -1;
	r->default_fd = -1;
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = (u16)getpid();
	r->next = random % BLOCKS * BLOCK_PORTS;
	e->raw_ports = r;
	err = take_any(r, &r->host_port);
	if (err)
		dcpim_raw_ports_close(e);
	return err;
}

void dcpim_raw_ports_close(struct rackwire_dcpim_engine *e)
{
	struct dcpim_raw_ports *r = e->raw_ports;
	u32 i;

	if (!r)
		return;
	for (i = 0; i < BLOCK_FIRST; i++)
		if (r->single[i] >= 0)
			close(r->single[i]);
	for (i = 0; i < BLOCKS; i++)
		if (r->block[i] >= 0)
			close(r->block[i]);
	if (r->default_fd >= 0)
		close(r->default_fd);
	pthread_mutex_destroy(&r->lock);
	free(r->single);
	free(r);
	e->raw_ports = NULL;
}
