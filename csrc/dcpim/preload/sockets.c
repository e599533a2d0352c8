// SPDX-License-Identifier: BSD-2-Clause
/* socket, bind, listen, connect, accept, shutdown and names. */
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>

#include "dcpim/preload/preload.h"

static int open_socket(int domain, int type, int flags)
{
	struct rackwire_dcpim_engine *engine;
	struct rackwire_dcpim_socket *sock;
	int fd, err;

	if (flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC))
		return -EINVAL;
	err = engine_get(&engine);
	if (err)
		return err;
	fd = dsock_number(flags);
	if (fd < 0)
		return fd;
	err = rackwire_dcpim_socket(engine, RACKWIRE_DCPIM_STREAM, &sock);
	if (err)
		REAL(close)(fd);
	else
		err = dsock_install(fd, sock, domain, type, flags, NULL);
	return err ? err : fd;
}

/* SOCK_RAW with this protocol number is not ours: the raw engine itself uses it. */
EXPORT int socket(int domain, int type, int protocol)
{
	int plain = type & 0xf;

	if (likely(protocol != DCPIM_PROTOCOL) || (domain != AF_INET && domain != AF_INET6) ||
	    (plain != SOCK_DGRAM && plain != SOCK_STREAM))
		return REAL(socket)(domain, type, protocol);
	return (int)result(open_socket(domain, plain, type & ~0xf));
}

/* ---- addresses ---- */

/* The engine takes both families; a socket takes its own. */
static int check_address(const struct dsock *d, const struct sockaddr *addr, socklen_t length)
{
	socklen_t least = d->domain == AF_INET ? sizeof(struct sockaddr_in) :
						 offsetof(struct sockaddr_in6, sin6_scope_id);

	if (length < least)
		return -EINVAL;
	if (!addr)
		return -EFAULT;
	return addr->sa_family == d->domain ? 0 : -EAFNOSUPPORT;
}

/* Copy an address out as the kernel does: cut to *length, which becomes the whole length. */
static int give_address(const struct dsock *d, struct sockaddr_storage *from, struct sockaddr *to, socklen_t *length)
{
	struct sockaddr_in in;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)from;
	socklen_t size = d->domain == AF_INET ? sizeof(in) : sizeof(*in6), room;

	if (!to)
		return 0;
	if (!length)
		return -EFAULT;
	if ((int)*length < 0)
		return -EINVAL;
	if (d->domain == AF_INET6 && from->ss_family == AF_INET) {
		memcpy(&in, from, sizeof(in));
		memset(in6, 0, sizeof(*in6));
		in6->sin6_port = in.sin_port;
		if (in.sin_addr.s_addr != INADDR_ANY) {
			in6->sin6_addr.s6_addr[10] = in6->sin6_addr.s6_addr[11] = 0xff;
			memcpy(&in6->sin6_addr.s6_addr[12], &in.sin_addr, 4);
		}
	}
	from->ss_family = (sa_family_t)d->domain;
	room = *length < size ? *length : size;
	memcpy(to, from, room);
	*length = size;
	return 0;
}

int dsock_peer(const struct dsock *d, struct sockaddr *addr, socklen_t *length)
{
	struct sockaddr_storage from = { 0 };
	socklen_t size = sizeof(from);
	int err = rackwire_dcpim_getpeername(d->sock, (struct sockaddr *)&from, &size);

	return err ? err : give_address(d, &from, addr, length);
}

EXPORT int getpeername(int fd, struct sockaddr *addr, socklen_t *length)
{
	struct dsock *d;
	int err;

	if (likely(!table_peek(fd)) || !(d = dsock_get(fd)))
		return REAL(getpeername)(fd, addr, length);
	err = addr ? dsock_peer(d, addr, length) : -EFAULT;
	dsock_put(d);
	return (int)result(err);
}

EXPORT int getsockname(int fd, struct sockaddr *addr, socklen_t *length)
{
	struct sockaddr_storage from = { 0 };
	socklen_t size = sizeof(from);
	struct dsock *d;
	int err;

	if (likely(!table_peek(fd)) || !(d = dsock_get(fd)))
		return REAL(getsockname)(fd, addr, length);
	err = addr ? rackwire_dcpim_getsockname(d->sock, (struct sockaddr *)&from, &size) : -EFAULT;
	if (!err)
		err = give_address(d, &from, addr, length);
	dsock_put(d);
	return (int)result(err);
}

/* ---- bind, listen ---- */

EXPORT int bind(int fd, const struct sockaddr *addr, socklen_t length)
{
	struct dsock *d;
	int err;

	if (likely(!table_peek(fd)) || !(d = dsock_get(fd)))
		return REAL(bind)(fd, addr, length);
	err = check_address(d, addr, length);
	if (!err)
		err = rackwire_dcpim_bind(d->sock, addr, length);
	dsock_put(d);
	return (int)result(err);
}

static int64_t get_option(const struct dsock *d, int option)
{
	int64_t value = 0;

	rackwire_dcpim_getopt(d->sock, option, &value);
	return value;
}

static int start_listening(struct dsock *d, int backlog)
{
	struct sockaddr_in any = { .sin_family = AF_INET };
	int64_t kinds = 1 << RACKWIRE_DCPIM_STREAM;

	if (get_option(d, RACKWIRE_DCPIM_ACCEPTING))
		return rackwire_dcpim_listen(d->sock, backlog);
	/* As with the kernel module, the client says which kind a datagram connection is. */
	if (d->type == SOCK_DGRAM)
		kinds |= 1 << RACKWIRE_DCPIM_MESSAGE;
	rackwire_dcpim_setopt(d->sock, RACKWIRE_DCPIM_ACCEPT_KINDS, kinds);
	/* Unbound, the engine would listen with IPv6 as well. Fails when it is bound already. */
	if (d->domain == AF_INET)
		rackwire_dcpim_bind(d->sock, (struct sockaddr *)&any, sizeof(any));
	return rackwire_dcpim_listen(d->sock, backlog);
}

EXPORT int listen(int fd, int backlog)
{
	struct dsock *d;
	int err;

	if (likely(!table_peek(fd)) || !(d = dsock_get(fd)))
		return REAL(listen)(fd, backlog);
	err = start_listening(d, backlog);
	dsock_put(d);
	return (int)result(err);
}

/* ---- connect ---- */

/* connect(2) where Linux waits on: also when it was begun by an earlier call. */
static int finish_connecting(struct dsock *d)
{
	uint64_t timeout = __atomic_load_n(&d->sndtimeo, __ATOMIC_RELAXED);
	int err = dsock_wait(d, POLLOUT, deadline_after(timeout), !timeout);

	/* The time is up, but the attempt goes on. */
	if (err == -EAGAIN)
		return -EINPROGRESS;
	return err ? err : -(int)get_option(d, RACKWIRE_DCPIM_ERROR);
}

static int start_connecting(struct dsock *d, const struct sockaddr *addr, socklen_t length)
{
	int err = rackwire_dcpim_connect(d->sock, addr, length);
	bool begun = __atomic_load_n(&d->connecting, __ATOMIC_RELAXED);

	if (err == -EISCONN && begun && !get_option(d, RACKWIRE_DCPIM_ACCEPTING))
		err = 0; /* the first call after it has connected says so */
	if ((err == -EINPROGRESS || err == -EALREADY) && !__atomic_load_n(&d->nonblock, __ATOMIC_RELAXED)) {
		__atomic_store_n(&d->connecting, 1, __ATOMIC_RELAXED);
		err = finish_connecting(d);
	}
	__atomic_store_n(&d->connecting, err == -EINPROGRESS || err == -EALREADY || err == -EINTR, __ATOMIC_RELAXED);
	return err;
}

EXPORT int connect(int fd, const struct sockaddr *addr, socklen_t length)
{
	struct dsock *d;
	int err;

	if (likely(!table_peek(fd)) || !(d = dsock_get(fd)))
		return REAL(connect)(fd, addr, length);
	err = check_address(d, addr, length);
	if (!err)
		err = start_connecting(d, addr, length);
	dsock_put(d);
	engine_check_exit();
	return (int)result(err);
}

/* ---- accept ---- */

static int wait_for_connection(struct dsock *d)
{
	struct rackwire_dcpim_pollfd p = { .socket = d->sock, .events = POLLIN };
	uint64_t timeout = __atomic_load_n(&d->rcvtimeo, __ATOMIC_RELAXED);

	if (rackwire_dcpim_poll_many(&p, 1, 0) > 0)
		return 0;
	__atomic_add_fetch(&d->recv_refused, 1, __ATOMIC_RELAXED);
	if (__atomic_load_n(&d->nonblock, __ATOMIC_RELAXED))
		return -EAGAIN;
	return dsock_wait(d, POLLIN, deadline_after(timeout), !timeout);
}

static void give_connected(int fd, struct sockaddr *addr, socklen_t *length)
{
	struct dsock *d = addr ? dsock_get(fd) : NULL;

	if (!d)
		return;
	dsock_peer(d, addr, length);
	dsock_put(d);
}

static int take_connection(struct dsock *d, struct sockaddr *addr, socklen_t *length, int flags)
{
	struct rackwire_dcpim_socket *sock;
	int fd, err;

	if (!get_option(d, RACKWIRE_DCPIM_ACCEPTING))
		return -EINVAL;
	if (addr && !length)
		return -EFAULT;
	do {
		err = wait_for_connection(d);
		if (err)
			return err;
		/* Without a descriptor the connection stays in the queue. */
		fd = dsock_number(flags);
		if (fd < 0)
			return fd;
		err = rackwire_dcpim_accept(d->sock, &sock, NULL, NULL, MSG_DONTWAIT);
		if (err)
			REAL(close)(fd);
		/* Another thread may have been quicker. */
	} while (err == -EAGAIN && !__atomic_load_n(&d->nonblock, __ATOMIC_RELAXED));
	if (!err)
		err = dsock_install(fd, sock, d->domain, d->type, flags, d);
	if (!err)
		give_connected(fd, addr, length);
	return err ? err : fd;
}

EXPORT int accept4(int fd, struct sockaddr *addr, socklen_t *length, int flags)
{
	struct dsock *d;
	int r;

	if (likely(!table_peek(fd)) || !(d = dsock_get(fd)))
		return REAL(accept4)(fd, addr, length, flags);
	if (flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC))
		r = -EINVAL;
	else
		r = take_connection(d, addr, length, flags);
	dsock_put(d);
	engine_check_exit();
	return (int)result(r);
}

EXPORT int accept(int fd, struct sockaddr *addr, socklen_t *length)
{
	if (likely(!table_peek(fd)))
		return REAL(accept)(fd, addr, length);
	return accept4(fd, addr, length, 0);
}

EXPORT int shutdown(int fd, int how)
{
	struct dsock *d;
	int err;

	if (likely(!table_peek(fd)) || !(d = dsock_get(fd)))
		return REAL(shutdown)(fd, how);
	err = rackwire_dcpim_shutdown(d->sock, how);
	dsock_put(d);
	return (int)result(err);
}

EXPORT int __connect(int fd, const struct sockaddr *addr, socklen_t length)
{
	return connect(fd, addr, length);
}
