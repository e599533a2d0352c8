/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * real.h: the C library's own functions behind the ones this library puts in
 * front of them. Looked up once; programs may call before any constructor ran.
 */
#ifndef RACKWIRE_DCPIM_PRELOAD_REAL_H
#define RACKWIRE_DCPIM_PRELOAD_REAL_H

#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#define REAL_FUNCTIONS(X)								\
	X(int, socket, (int, int, int))							\
	X(int, bind, (int, const struct sockaddr *, socklen_t))				\
	X(int, listen, (int, int))							\
	X(int, connect, (int, const struct sockaddr *, socklen_t))			\
	X(int, accept, (int, struct sockaddr *, socklen_t *))				\
	X(int, accept4, (int, struct sockaddr *, socklen_t *, int))			\
	X(int, shutdown, (int, int))							\
	X(int, getsockname, (int, struct sockaddr *, socklen_t *))			\
	X(int, getpeername, (int, struct sockaddr *, socklen_t *))			\
	X(int, getsockopt, (int, int, int, void *, socklen_t *))			\
	X(int, setsockopt, (int, int, int, const void *, socklen_t))			\
	X(int, fcntl, (int, int, ...))							\
	X(int, ioctl, (int, unsigned long, ...))					\
	X(int, close, (int))								\
	X(int, close_range, (unsigned int, unsigned int, int))				\
	X(void, closefrom, (int))							\
	X(int, dup, (int))								\
	X(int, dup2, (int, int))							\
	X(int, dup3, (int, int, int))							\
	X(ssize_t, read, (int, void *, size_t))						\
	X(ssize_t, write, (int, const void *, size_t))					\
	X(ssize_t, readv, (int, const struct iovec *, int))				\
	X(ssize_t, writev, (int, const struct iovec *, int))				\
	X(ssize_t, send, (int, const void *, size_t, int))				\
	X(ssize_t, sendto, (int, const void *, size_t, int, const struct sockaddr *, socklen_t)) \
	X(ssize_t, sendmsg, (int, const struct msghdr *, int))				\
	X(int, sendmmsg, (int, struct mmsghdr *, unsigned int, int))			\
	X(ssize_t, recv, (int, void *, size_t, int))					\
	X(ssize_t, recvfrom, (int, void *, size_t, int, struct sockaddr *, socklen_t *)) \
	X(ssize_t, recvmsg, (int, struct msghdr *, int))				\
	X(int, recvmmsg, (int, struct mmsghdr *, unsigned int, int, struct timespec *))	\
	X(ssize_t, sendfile, (int, int, off_t *, size_t))				\
	X(int, poll, (struct pollfd *, nfds_t, int))					\
	X(int, ppoll, (struct pollfd *, nfds_t, const struct timespec *, const sigset_t *)) \
	X(int, select, (int, fd_set *, fd_set *, fd_set *, struct timeval *))		\
	X(int, pselect, (int, fd_set *, fd_set *, fd_set *, const struct timespec *, const sigset_t *)) \
	X(int, epoll_ctl, (int, int, int, struct epoll_event *))			\
	X(int, epoll_wait, (int, struct epoll_event *, int, int))			\
	X(int, epoll_pwait, (int, struct epoll_event *, int, int, const sigset_t *))	\
	X(int, epoll_pwait2, (int, struct epoll_event *, int, const struct timespec *, const sigset_t *)) \
	X(FILE *, fdopen, (int, const char *))

#define X(type, name, args) typedef type real_##name##_fn args;
REAL_FUNCTIONS(X)
#undef X

struct real_functions {
#define X(type, name, args) real_##name##_fn *name;
	REAL_FUNCTIONS(X)
#undef X
};

extern struct real_functions real_functions;
void real_resolve(void);

/* REAL(read)(fd, data, length) */
#define REAL(name)							\
	(*({								\
		if (__builtin_expect(!__atomic_load_n(&real_functions.name, __ATOMIC_RELAXED), 0)) \
			real_resolve();					\
		real_functions.name;					\
	}))

#endif
