// SPDX-License-Identifier: BSD-2-Clause
#include "rackwire_host.h"

#include <errno.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "proc_io.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

uint32_t rackwire_host_abi_version(void)
{
	return RACKWIRE_HOST_ABI_VERSION;
}

static int probe_socket(int family, int type, int protocol)
{
	int fd = socket(family, type | SOCK_CLOEXEC, protocol);

	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

static int probe_ipv6(void)
{
	struct sockaddr_in6 any = {
		.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT,
	};
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int err = 0;

	if (fd < 0)
		return errno;
	if (bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0)
		err = errno;
	close(fd);
	return err;
}

static int probe_option(int level, int option, int value)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int err = 0;

	if (fd < 0)
		return errno;
	if (setsockopt(fd, level, option, &value, sizeof(value)) < 0)
		err = errno;
	close(fd);
	return err;
}

static uint64_t effective_capabilities(void)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2] = { 0 };

	if (syscall(SYS_capget, &header, data) < 0)
		return 0;
	return (uint64_t)data[1].effective << 32 | data[0].effective;
}

static uint64_t resource_limit(int resource)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit) < 0)
		return 0;
	return limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
}

static uint64_t configured(int name)
{
	long value = sysconf(name);

	return value < 0 ? 0 : (uint64_t)value;
}

int rackwire_host_facts(struct rackwire_host_facts *facts, size_t size)
{
	struct utsname names;
	cpu_set_t allowed;
	unsigned int cpu;

	if (!facts || size != sizeof(*facts))
		return -EINVAL;
	memset(facts, 0, sizeof(*facts));
	if (uname(&names) < 0)
		return -errno;
	snprintf(facts->kernel_release, sizeof(facts->kernel_release), "%s",
		 names.release);
	snprintf(facts->kernel_version, sizeof(facts->kernel_version), "%s",
		 names.version);
	snprintf(facts->machine, sizeof(facts->machine), "%s", names.machine);
	snprintf(facts->hostname, sizeof(facts->hostname), "%s",
		 names.nodename);

	CPU_ZERO(&allowed);
	if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0)
		return -errno;
	for (cpu = 0; cpu < 8 * sizeof(facts->cpus_allowed); cpu++)
		if (CPU_ISSET(cpu, &allowed))
			facts->cpus_allowed[cpu / 8] |= (uint8_t)(1U << cpu % 8);
	facts->cpus_online = (uint32_t)configured(_SC_NPROCESSORS_ONLN);
	facts->euid = geteuid();
	facts->capabilities = effective_capabilities();
	facts->page_bytes = configured(_SC_PAGESIZE);
	facts->memory_bytes = configured(_SC_PHYS_PAGES) * facts->page_bytes;
	facts->memlock_bytes = resource_limit(RLIMIT_MEMLOCK);
	facts->files_limit = resource_limit(RLIMIT_NOFILE);

	facts->raw_ipv4_errno = probe_socket(AF_INET, SOCK_RAW,
					     RACKWIRE_HOST_DCPIM_PROTOCOL);
	facts->raw_ipv6_errno = probe_socket(AF_INET6, SOCK_RAW,
					     RACKWIRE_HOST_DCPIM_PROTOCOL);
	facts->packet_errno = probe_socket(AF_PACKET, SOCK_RAW, 0);
	facts->ipv6_errno = probe_ipv6();
	facts->udp_gso_errno = probe_option(IPPROTO_UDP, UDP_SEGMENT, 1400);
	facts->udp_gro_errno = probe_option(IPPROTO_UDP, UDP_GRO, 1);
	facts->busy_poll_errno = probe_option(SOL_SOCKET, SO_BUSY_POLL, 50);
	facts->rcvbuf_force_errno = probe_option(SOL_SOCKET, SO_RCVBUFFORCE,
						 1 << 20);
	return 0;
}

/* The reader is for facts alone: nothing outside /proc and /sys. */
static int is_fact(const char *path)
{
	return path && (!strncmp(path, "/proc/", 6) || !strncmp(path, "/sys/", 5)) &&
	       !strstr(path, "/../");
}

ssize_t rackwire_host_read(const char *path, void *buffer, size_t length)
{
	return is_fact(path) ? rackwire_proc_read(path, buffer, length) : -EACCES;
}

ssize_t rackwire_host_list(const char *path, char *buffer, size_t length)
{
	return is_fact(path) ? rackwire_proc_list(path, buffer, length) : -EACCES;
}

int rackwire_host_wake_open(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	return fd < 0 ? -errno : fd;
}

int rackwire_host_wake(int fd)
{
	/* A full counter is readable already. */
	return eventfd_write(fd, 1) < 0 && errno != EAGAIN ? -errno : 0;
}

int rackwire_host_wake_clear(int fd)
{
	eventfd_t count;

	return eventfd_read(fd, &count) < 0 && errno != EAGAIN ? -errno : 0;
}

int rackwire_host_wake_close(int fd)
{
	return close(fd) < 0 ? -errno : 0;
}
