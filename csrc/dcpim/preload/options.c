// SPDX-License-Identifier: BSD-2-Clause
/* getsockopt, setsockopt, fcntl, ioctl. */
#include <fcntl.h>
#include <limits.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>

#include "dcpim/preload/preload.h"

#define NS_PER_S 1000000000u
#define MIN_BUFFER 4096

/* ---- setsockopt ---- */

static int set_timeout(uint64_t *timeout, const void *value, socklen_t length)
{
	struct timeval tv;
	uint64_t ns;

	if (length < sizeof(tv))
		return -EINVAL;
	memcpy(&tv, value, sizeof(tv));
	if (tv.tv_usec < 0 || tv.tv_usec >= 1000000)
		return -EDOM;
	/* As in Linux: a negative time is none at all to wait, and 0 is no limit. */
	if (tv.tv_sec < 0)
		ns = 1;
	else if ((uint64_t)tv.tv_sec >= UINT64_MAX / NS_PER_S / 2)
		ns = 0;
	else
		ns = (uint64_t)tv.tv_sec * NS_PER_S + (uint64_t)tv.tv_usec * 1000;
	__atomic_store_n(timeout, ns, __ATOMIC_RELAXED);
	return 0;
}

static int set_linger(struct dsock *d, const void *value, socklen_t length)
{
	struct linger l;

	if (length < sizeof(l))
		return -EINVAL;
	memcpy(&l, value, sizeof(l));
	return rackwire_dcpim_setopt(d->sock, RACKWIRE_DCPIM_LINGER,
				     l.l_onoff ? (int64_t)(unsigned int)l.l_linger * NS_PER_S : -1);
}

/* A stream socket stays one; a datagram socket is of messages with this priority. */
static int set_priority(struct dsock *d, int value)
{
	int err = 0;

	if (value < 0 || value > DCPIM_MESSAGE_PRIORITY)
		return -EPERM;
	if (d->type == SOCK_DGRAM)
		err = rackwire_dcpim_setopt(d->sock, RACKWIRE_DCPIM_PRIORITY, value);
	if (err && err != -EISCONN)
		return err;
	__atomic_store_n(&d->priority, value, __ATOMIC_RELAXED);
	return 0;
}

static int set_socket_option(struct dsock *d, int name, int value)
{
	switch (name) {
	case SO_REUSEADDR:
		return rackwire_dcpim_setopt(d->sock, RACKWIRE_DCPIM_REUSEADDR, value != 0);
	case SO_KEEPALIVE:
		__atomic_store_n(&d->keepalive, value != 0, __ATOMIC_RELAXED);
		return 0;
	case SO_NO_CHECK:
		__atomic_store_n(&d->no_check, value != 0, __ATOMIC_RELAXED);
		return 0;
	case SO_PRIORITY:
		return set_priority(d, value);
	case SO_SNDBUF:
	case SO_RCVBUF:
		return rackwire_dcpim_setopt(d->sock, name == SO_SNDBUF ? RACKWIRE_DCPIM_SNDBUF : RACKWIRE_DCPIM_RCVBUF,
					     value < MIN_BUFFER ? MIN_BUFFER : value);
	default:
		return -ENOPROTOOPT;
	}
}

static int set_option(struct dsock *d, int level, int name, const void *value, socklen_t length)
{
	int number;

	if (level == SOL_SOCKET && !value)
		return -EFAULT;
	if (level == SOL_SOCKET && name == SO_RCVTIMEO)
		return set_timeout(&d->rcvtimeo, value, length);
	if (level == SOL_SOCKET && name == SO_SNDTIMEO)
		return set_timeout(&d->sndtimeo, value, length);
	if (level == SOL_SOCKET && name == SO_LINGER)
		return set_linger(d, value, length);
	if (length < sizeof(number))
		return -EINVAL;
	if (!value)
		return -EFAULT;
	memcpy(&number, value, sizeof(number));
	if (level == SOL_SOCKET)
		return set_socket_option(d, name, number);
	/* A listener on :: takes IPv4 as well, so only that can be confirmed. */
	if (level == IPPROTO_IPV6 && name == IPV6_V6ONLY && d->domain == AF_INET6 && !number)
		return 0;
	return -ENOPROTOOPT;
}

EXPORT int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
	struct dsock *d;
	int err;

	if (likely(!table_peek(fd)) || !(d = dsock_get(fd)))
		return REAL(setsockopt)(fd, level, name, value, length);
	err = set_option(d, level, name, value, length);
	dsock_put(d);
	return (int)result(err);
}

/* ---- getsockopt ---- */

static int copy_out(const void *from, socklen_t size, void *to, socklen_t *length)
{
	if (*length < size)
		size = *length;
	memcpy(to, from, size);
	*length = size;
	return 0;
}

static int get_timeout(uint64_t ns, void *value, socklen_t *length)
{
	struct timeval tv = { (time_t)(ns / NS_PER_S), (suseconds_t)(ns % NS_PER_S / 1000) };

	return copy_out(&tv, sizeof(tv), value, length);
}

static int get_linger(struct dsock *d, void *value, socklen_t *length)
{
	struct linger l = { 0 };
	int64_t ns;
	int err = rackwire_dcpim_getopt(d->sock, RACKWIRE_DCPIM_LINGER, &ns);

	if (err)
		return err;
	l.l_onoff = ns >= 0;
	l.l_linger = ns > 0 ? (int)(ns / NS_PER_S) : 0;
	return copy_out(&l, sizeof(l), value, length);
}

static int engine_option(struct dsock *d, int option, int64_t *out)
{
	return rackwire_dcpim_getopt(d->sock, option, out);
}

static int get_number(struct dsock *d, int level, int name, int64_t *out)
{
	if (level == IPPROTO_IPV6 && name == IPV6_V6ONLY && d->domain == AF_INET6) {
		*out = 0;
		return 0;
	}
	if (level != SOL_SOCKET)
		return -ENOPROTOOPT;
	switch (name) {
	case SO_TYPE:
		*out = d->type;
		return 0;
	case SO_PROTOCOL:
		*out = DCPIM_PROTOCOL;
		return 0;
	case SO_DOMAIN:
		*out = d->domain;
		return 0;
	case SO_ERROR:
		return engine_option(d, RACKWIRE_DCPIM_ERROR, out);
	case SO_ACCEPTCONN:
		return engine_option(d, RACKWIRE_DCPIM_ACCEPTING, out);
	case SO_REUSEADDR:
		return engine_option(d, RACKWIRE_DCPIM_REUSEADDR, out);
	case SO_SNDBUF:
		return engine_option(d, RACKWIRE_DCPIM_SNDBUF, out);
	case SO_RCVBUF:
		return engine_option(d, RACKWIRE_DCPIM_RCVBUF, out);
	case SO_PRIORITY:
		*out = __atomic_load_n(&d->priority, __ATOMIC_RELAXED);
		return 0;
	case SO_KEEPALIVE:
		*out = __atomic_load_n(&d->keepalive, __ATOMIC_RELAXED);
		return 0;
	case SO_NO_CHECK:
		*out = __atomic_load_n(&d->no_check, __ATOMIC_RELAXED);
		return 0;
	case SO_RCVLOWAT:
		*out = 1;
		return 0;
	default:
		return -ENOPROTOOPT;
	}
}

static int get_option(struct dsock *d, int level, int name, void *value, socklen_t *length)
{
	int64_t wide;
	int number, err;

	if (!value || !length)
		return -EFAULT;
	if ((int)*length < 0)
		return -EINVAL;
	if (level == SOL_SOCKET && name == SO_RCVTIMEO)
		return get_timeout(__atomic_load_n(&d->rcvtimeo, __ATOMIC_RELAXED), value, length);
	if (level == SOL_SOCKET && name == SO_SNDTIMEO)
		return get_timeout(__atomic_load_n(&d->sndtimeo, __ATOMIC_RELAXED), value, length);
	if (level == SOL_SOCKET && name == SO_LINGER)
		return get_linger(d, value, length);
	err = get_number(d, level, name, &wide);
	if (err)
		return err;
	number = wide > INT_MAX ? INT_MAX : (int)wide;
	return copy_out(&number, sizeof(number), value, length);
}

EXPORT int getsockopt(int fd, int level, int name, void *value, socklen_t *length)
{
	struct dsock *d;
	int err;

	if (likely(!table_peek(fd)) || !(d = dsock_get(fd)))
		return REAL(getsockopt)(fd, level, name, value, length);
	err = get_option(d, level, name, value, length);
	dsock_put(d);
	return (int)result(err);
}

/* ---- fcntl, ioctl ---- */

/* The flag lives in the descriptor's open file, which copies share; this mirrors it. */
static void mirror_nonblock(int fd)
{
	struct dsock *d = dsock_get(fd);

	if (!d)
		return;
	__atomic_store_n(&d->nonblock, REAL(fcntl)(fd, F_GETFL) & O_NONBLOCK ? 1 : 0, __ATOMIC_RELAXED);
	dsock_put(d);
}

static int any_fcntl(int fd, int command, void *arg)
{
	int r;

	if (likely(!table_peek(fd)))
		return REAL(fcntl)(fd, command, arg);
	if (command == F_DUPFD || command == F_DUPFD_CLOEXEC)
		return table_dupfd(fd, command, (int)(intptr_t)arg);
	r = REAL(fcntl)(fd, command, arg);
	if (command == F_SETFL && !r)
		mirror_nonblock(fd);
	return r;
}

#define TAKE_ARGUMENT(after)			\
	({					\
		va_list list;			\
		void *taken;			\
						\
		va_start(list, after);		\
		taken = va_arg(list, void *);	\
		va_end(list);			\
		taken;				\
	})

EXPORT int fcntl(int fd, int command, ...)
{
	return any_fcntl(fd, command, TAKE_ARGUMENT(command));
}

EXPORT int fcntl64(int fd, int command, ...)
{
	return any_fcntl(fd, command, TAKE_ARGUMENT(command));
}

EXPORT int __fcntl(int fd, int command, ...)
{
	return any_fcntl(fd, command, TAKE_ARGUMENT(command));
}

static int bytes_waiting(struct dsock *d, int option, int *out)
{
	int64_t value = 0, accepting = 0;
	int err = rackwire_dcpim_getopt(d->sock, RACKWIRE_DCPIM_ACCEPTING, &accepting);

	if (!err && accepting)
		err = -EINVAL;
	if (!err && !out)
		err = -EFAULT;
	if (!err)
		err = rackwire_dcpim_getopt(d->sock, option, &value);
	if (!err)
		*out = value > INT_MAX ? INT_MAX : (int)value;
	return err;
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
	void *arg = TAKE_ARGUMENT(request);
	struct dsock *d;
	int r;

	if (likely(!table_peek(fd)) || !(d = dsock_get(fd)))
		return REAL(ioctl)(fd, request, arg);
	switch (request) {
	case FIONREAD:
		r = (int)result(bytes_waiting(d, RACKWIRE_DCPIM_READABLE_BYTES, arg));
		break;
	case SIOCOUTQ:
		r = (int)result(bytes_waiting(d, RACKWIRE_DCPIM_UNACKED_BYTES, arg));
		break;
	default:
		/* Questions about interfaces are answered by any socket. */
		r = REAL(ioctl)(fd, request, arg);
		if (request == FIONBIO && !r)
			mirror_nonblock(fd);
	}
	dsock_put(d);
	return r;
}
