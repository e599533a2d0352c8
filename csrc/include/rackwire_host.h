/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rackwire_host.h: what this machine is and allows. Nothing here changes the
 * machine; every function may be called from any thread.
 */
#ifndef RACKWIRE_HOST_H
#define RACKWIRE_HOST_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define RACKWIRE_HOST_ABI_VERSION 2

/* IP protocol number of dcPIM, RFC 3692 "for experimentation" (254). */
#define RACKWIRE_HOST_DCPIM_PROTOCOL 254

/* 1024 CPUs, as cpu_set_t has them. */
#define RACKWIRE_HOST_CPU_BYTES 128

/*
 * The probes hold 0 where the thing works and otherwise the errno of the first
 * call that refused it.
 */
struct rackwire_host_facts {
	char kernel_release[65];
	char kernel_version[65];
	char machine[65];
	char hostname[65];
	uint32_t cpus_online;
	uint32_t euid;
	uint8_t cpus_allowed[RACKWIRE_HOST_CPU_BYTES];	/* bit n: CPU n */
	uint64_t capabilities;		/* effective set, bit n: capability n */
	uint64_t memory_bytes;
	uint64_t page_bytes;
	uint64_t memlock_bytes;		/* RLIMIT_MEMLOCK, UINT64_MAX: unlimited */
	uint64_t files_limit;		/* RLIMIT_NOFILE */
	int32_t raw_ipv4_errno;		/* socket(AF_INET, SOCK_RAW, 254) */
	int32_t raw_ipv6_errno;		/* socket(AF_INET6, SOCK_RAW, 254) */
	int32_t packet_errno;		/* socket(AF_PACKET, SOCK_RAW, 0) */
	int32_t ipv6_errno;		/* a UDP socket bound to ::1 */
	int32_t udp_gso_errno;		/* UDP_SEGMENT, Linux 4.18 */
	int32_t udp_gro_errno;		/* UDP_GRO, Linux 5.0 */
	int32_t busy_poll_errno;	/* raising SO_BUSY_POLL */
	int32_t rcvbuf_force_errno;	/* SO_RCVBUFFORCE, CAP_NET_ADMIN */
};

/* RACKWIRE_HOST_ABI_VERSION of the library. */
uint32_t rackwire_host_abi_version(void);

/*
 * Fills in the facts. `size` is the caller's sizeof; no more is written.
 * Returns 0, -EINVAL without facts or with another size, or -errno.
 */
int rackwire_host_facts(struct rackwire_host_facts *facts, size_t size);

/*
 * Reads a file under /proc or /sys. `path` ends with a zero. Returns the number
 * of bytes, -EFBIG when the buffer is too small, -EACCES for a path elsewhere,
 * or -errno.
 */
ssize_t rackwire_host_read(const char *path, void *buffer, size_t length);

/*
 * Lists a directory under /proc or /sys, one name to a line. Returns as
 * rackwire_host_read().
 */
ssize_t rackwire_host_list(const char *path, char *buffer, size_t length);

/*
 * A descriptor that one thread waits on and others make readable, so that a
 * call blocked in a wait of many things can be ended. rackwire_host_wake_open()
 * returns it or -errno; rackwire_host_wake() makes it readable, any thread;
 * rackwire_host_wake_clear() makes it unreadable again. The caller closes it
 * with rackwire_host_wake_close() when nobody waits any more. They return 0 or
 * -errno.
 */
int rackwire_host_wake_open(void);
int rackwire_host_wake(int fd);
int rackwire_host_wake_clear(int fd);
int rackwire_host_wake_close(int fd);

#endif
