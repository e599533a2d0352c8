// SPDX-License-Identifier: BSD-2-Clause
/* Reading and writing. The engine's sockets never block; calls that should wait do so in dsock_wait(). */
#include <limits.h>
#include <signal.h>
#include <time.h>

#include "dcpim/preload/preload.h"

#define WINDOW 64 /* pieces of memory given to the engine at a time after a partial transfer */

/* What is left of the caller's memory. */
struct walk {
	const struct iovec *iov;
	int count;
	size_t offset;
};

static int walk_window(const struct walk *w, struct iovec *out)
{
	int i, n = w->count < WINDOW ? w->count : WINDOW;

	for (i = 0; i < n; i++)
		out[i] = w->iov[i];
	if (n) {
		out[0].iov_base = (char *)out[0].iov_base + w->offset;
		out[0].iov_len -= w->offset;
	}
	return n;
}

static void walk_advance(struct walk *w, size_t bytes)
{
	bytes += w->offset;
	while (w->count && bytes >= w->iov->iov_len) {
		bytes -= w->iov->iov_len;
		w->iov++;
		w->count--;
	}
	w->offset = bytes;
}

/* The kernel would say so; the engine would crash. */
static bool memory_missing(const struct iovec *iov, int count)
{
	int i;

	if (count && !iov)
		return true;
	for (i = 0; i < count; i++)
		if (!iov[i].iov_base && iov[i].iov_len)
			return true;
	return false;
}

static bool may_wait(const struct dsock *d, int flags)
{
	return !(flags & MSG_DONTWAIT) && !__atomic_load_n(&d->nonblock, __ATOMIC_RELAXED);
}

/* ---- sending ---- */

/* After a first transfer of @done bytes (0: none) that was not all. */
static __attribute__((noinline)) ssize_t send_rest(struct dsock *d, const struct iovec *iov, int count, int flags,
						   size_t done)
{
	uint64_t timeout = __atomic_load_n(&d->sndtimeo, __ATOMIC_RELAXED), deadline = deadline_after(timeout);
	struct walk w = { iov, count, 0 };
	struct iovec window[WINDOW];
	ssize_t r;

	walk_advance(&w, done);
	for (;;) {
		r = dsock_wait(d, POLLOUT, deadline, !timeout);
		if (r < 0)
			break;
		/* A message is never taken in part, so it starts with all its pieces. */
		if (done)
			r = rackwire_dcpim_sendv(d->sock, window, walk_window(&w, window), flags);
		else
			r = rackwire_dcpim_sendv(d->sock, iov, count, flags);
		if (r < 0 && r != -EAGAIN)
			break;
		if (r > 0) {
			done += (size_t)r;
			walk_advance(&w, (size_t)r);
		}
		if (r >= 0 && !w.count)
			break;
	}
	return done ? (ssize_t)done : r;
}

static size_t total_length(const struct iovec *iov, int count)
{
	size_t total = 0;

	while (count-- > 0)
		total += iov++->iov_len;
	return total;
}

static ssize_t dsock_send(struct dsock *d, const struct iovec *iov, int count, int flags)
{
	int pass = (flags & ~MSG_EOR) | MSG_DONTWAIT | MSG_NOSIGNAL;
	ssize_t r;

	if (count < 0 || count > IOV_MAX)
		return -EINVAL;
	if (memory_missing(iov, count))
		return -EFAULT;
	r = rackwire_dcpim_sendv(d->sock, iov, count, pass);
	if (r == -EAGAIN || (r >= 0 && (size_t)r < total_length(iov, count))) {
		if (may_wait(d, flags))
			r = send_rest(d, iov, count, pass, r > 0 ? (size_t)r : 0);
		else
			__atomic_add_fetch(&d->send_refused, 1, __ATOMIC_RELAXED);
	}
	return r;
}

/* Ends a call: the reference, exit, the signal, errno. */
static ssize_t sent(struct dsock *d, ssize_t r, int flags)
{
	dsock_put(d);
	engine_check_exit();
	if (r == -EPIPE && !(flags & MSG_NOSIGNAL))
		raise(SIGPIPE);
	return result(r);
}

EXPORT ssize_t write(int fd, const void *data, size_t length)
{
	struct iovec iov = { (void *)data, length };
	struct dsock *d;

	if (likely(!table_peek(fd)) || !(d = dsock_get(fd)))
		return REAL(write)(fd, data, length);
	return sent(d, dsock_send(d, &iov, 1, 0), 0);
}

EXPORT ssize_t writev(int fd, const struct iovec *iov, int count)
{
	struct dsock *d;

	if (likely(!table_peek(fd)) || !(d = dsock_get(fd)))
		return REAL(writev)(fd, iov, count);
	return sent(d, dsock_send(d, iov, count, 0), 0);
}

EXPORT ssize_t send(int fd, const void *data, size_t length, int flags)
{
	struct iovec iov = { (void *)data, length };
	struct dsock *d;

	if (likely(!table_peek(fd)) || !(d = dsock_get(fd)))
		return REAL(send)(fd, data, length, flags);
	return sent(d, dsock_send(d, &iov, 1, flags), flags);
}

/* As with TCP, a connected socket pays no heed to an address. */
EXPORT ssize_t sendto(int fd, const void *data, size_t length, int flags, const struct sockaddr *to, socklen_t size)
{
	if (likely(!table_peek(fd)))
		return REAL(sendto)(fd, data, length, flags, to, size);
	return send(fd, data, length, flags);
}

static ssize_t send_header(struct dsock *d, const struct msghdr *m, int flags)
{
	if (m->msg_controllen)
		return -EINVAL;
	return m->msg_iovlen > IOV_MAX ? -EMSGSIZE : dsock_send(d, m->msg_iov, (int)m->msg_iovlen, flags);
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
	struct dsock *d;

	if (likely(!table_peek(fd)) || !(d = dsock_get(fd)))
		return REAL(sendmsg)(fd, m, flags);
	return sent(d, send_header(d, m, flags), flags);
}

EXPORT int sendmmsg(int fd, struct mmsghdr *m, unsigned int count, int flags)
{
	struct dsock *d;
	unsigned int i;
	ssize_t r = 0;

	if (likely(!table_peek(fd)) || !(d = dsock_get(fd)))
		return REAL(sendmmsg)(fd, m, count, flags);
	for (i = 0; i < count && i < IOV_MAX; i++) {
		r = send_header(d, &m[i].msg_hdr, flags);
		if (r < 0)
			break;
		m[i].msg_len = (unsigned int)r;
	}
	return (int)sent(d, i ? (ssize_t)i : r, flags);
}

/* Programs then copy by themselves. */
EXPORT ssize_t sendfile(int to, int from, off_t *offset, size_t count)
{
	if (likely(!table_peek(to) && !table_peek(from)))
		return REAL(sendfile)(to, from, offset, count);
	return result(-EINVAL);
}

/* ---- receiving ---- */

/* MSG_WAITALL: the rest, after @done bytes. */
static __attribute__((noinline)) ssize_t recv_rest(struct dsock *d, const struct iovec *iov, int count, int flags,
						   size_t done, uint64_t timeout, uint64_t deadline)
{
	struct walk w = { iov, count, 0 };
	struct iovec window[WINDOW];
	ssize_t r;

	walk_advance(&w, done);
	while (w.count) {
		r = rackwire_dcpim_recvv(d->sock, window, walk_window(&w, window), flags, NULL);
		if (r == -EAGAIN && !dsock_wait(d, POLLIN, deadline, !timeout))
			continue;
		if (r <= 0)
			break;
		done += (size_t)r;
		walk_advance(&w, (size_t)r);
	}
	return (ssize_t)done;
}

static ssize_t dsock_recv(struct dsock *d, const struct iovec *iov, int count, int flags, int *out_flags)
{
	int pass = (flags & ~(MSG_WAITALL | MSG_CMSG_CLOEXEC)) | MSG_DONTWAIT;
	uint64_t timeout = 0, deadline = 0;
	bool wait = may_wait(d, flags);
	ssize_t r;

	if (count < 0 || count > IOV_MAX)
		return -EINVAL;
	if (memory_missing(iov, count))
		return -EFAULT;
	for (;;) {
		int err;

		r = rackwire_dcpim_recvv(d->sock, iov, count, pass, out_flags);
		if (r != -EAGAIN)
			break;
		if (!wait) {
			__atomic_add_fetch(&d->recv_refused, 1, __ATOMIC_RELAXED);
			break;
		}
		if (!deadline) {
			timeout = __atomic_load_n(&d->rcvtimeo, __ATOMIC_RELAXED);
			deadline = deadline_after(timeout);
		}
		err = dsock_wait(d, POLLIN, deadline, !timeout);
		if (err)
			return err;
	}
	if (r > 0 && wait && (flags & (MSG_WAITALL | MSG_PEEK)) == MSG_WAITALL && !*out_flags)
		r = recv_rest(d, iov, count, pass, (size_t)r, timeout, deadline ? deadline : deadline_after(timeout));
	return r;
}

static ssize_t received(struct dsock *d, ssize_t r)
{
	dsock_put(d);
	engine_check_exit();
	return result(r);
}

static ssize_t recv_plain(struct dsock *d, void *data, size_t length, int flags)
{
	struct iovec iov = { data, length };
	int out_flags;

	return received(d, dsock_recv(d, &iov, 1, flags, &out_flags));
}

/* A read of nothing takes nothing, as with every file; recv() of nothing takes a message. */
EXPORT ssize_t read(int fd, void *data, size_t length)
{
	struct dsock *d;

	if (likely(!table_peek(fd)) || !(d = dsock_get(fd)))
		return REAL(read)(fd, data, length);
	return length ? recv_plain(d, data, length, 0) : received(d, 0);
}

EXPORT ssize_t readv(int fd, const struct iovec *iov, int count)
{
	struct dsock *d;
	int out_flags;

	if (likely(!table_peek(fd)) || !(d = dsock_get(fd)))
		return REAL(readv)(fd, iov, count);
	if (count >= 0 && count <= IOV_MAX && !total_length(iov, count))
		return received(d, 0);
	return received(d, dsock_recv(d, iov, count, 0, &out_flags));
}

EXPORT ssize_t recv(int fd, void *data, size_t length, int flags)
{
	struct dsock *d;

	if (likely(!table_peek(fd)) || !(d = dsock_get(fd)))
		return REAL(recv)(fd, data, length, flags);
	return recv_plain(d, data, length, flags);
}

/* Datagram programs ask who sent it: the one peer there is. TCP says nothing, and so does SOCK_STREAM here. */
static void give_sender(const struct dsock *d, struct sockaddr *addr, socklen_t *length)
{
	if (!addr || !length)
		return;
	if (d->type != SOCK_DGRAM || dsock_peer(d, addr, length))
		*length = 0;
}

EXPORT ssize_t recvfrom(int fd, void *data, size_t length, int flags, struct sockaddr *from, socklen_t *size)
{
	struct iovec iov = { data, length };
	struct dsock *d;
	int out_flags;
	ssize_t r;

	if (likely(!table_peek(fd)) || !(d = dsock_get(fd)))
		return REAL(recvfrom)(fd, data, length, flags, from, size);
	r = dsock_recv(d, &iov, 1, flags, &out_flags);
	if (r >= 0)
		give_sender(d, from, size);
	return received(d, r);
}

static ssize_t recv_header(struct dsock *d, struct msghdr *m, int flags)
{
	int out_flags = 0;
	ssize_t r;

	if (m->msg_iovlen > IOV_MAX)
		return -EMSGSIZE;
	r = dsock_recv(d, m->msg_iov, (int)m->msg_iovlen, flags, &out_flags);
	if (r < 0)
		return r;
	give_sender(d, m->msg_name, &m->msg_namelen);
	m->msg_controllen = 0;
	m->msg_flags = out_flags;
	return r;
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *m, int flags)
{
	struct dsock *d;

	if (likely(!table_peek(fd)) || !(d = dsock_get(fd)))
		return REAL(recvmsg)(fd, m, flags);
	return received(d, recv_header(d, m, flags));
}

EXPORT int recvmmsg(int fd, struct mmsghdr *m, unsigned int count, int flags, struct timespec *timeout)
{
	uint64_t deadline = FOREVER;
	struct dsock *d;
	unsigned int i;
	ssize_t r = 0;

	if (likely(!table_peek(fd)) || !(d = dsock_get(fd)))
		return REAL(recvmmsg)(fd, m, count, flags, timeout);
	if (timeout)
		deadline = deadline_after((uint64_t)timeout->tv_sec * 1000000000u + (uint64_t)timeout->tv_nsec + 1);
	for (i = 0; i < count && i < IOV_MAX; i++) {
		r = recv_header(d, &m[i].msg_hdr, flags & ~MSG_WAITFORONE);
		/* The end of the stream is told once. */
		if (r < 0 || (r == 0 && i && !m[i].msg_hdr.msg_flags))
			break;
		m[i].msg_len = (unsigned int)r;
		if (flags & MSG_WAITFORONE)
			flags |= MSG_DONTWAIT;
		/* As in Linux, the time is looked at between messages only. */
		if (!time_left(deadline)) {
			i++;
			break;
		}
	}
	return (int)received(d, i ? (ssize_t)i : r);
}

/* ---- the C library's other names ---- */

EXPORT ssize_t __read(int fd, void *data, size_t length)
{
	return read(fd, data, length);
}

EXPORT ssize_t __write(int fd, const void *data, size_t length)
{
	return write(fd, data, length);
}

EXPORT ssize_t __send(int fd, const void *data, size_t length, int flags)
{
	return send(fd, data, length, flags);
}

EXPORT ssize_t sendfile64(int to, int from, off_t *offset, size_t count)
{
	return sendfile(to, from, offset, count);
}

/* What _FORTIFY_SOURCE makes of read, recv and recvfrom: @size is the room there is. */
void __chk_fail(void) __attribute__((noreturn));

EXPORT ssize_t __read_chk(int fd, void *data, size_t length, size_t size)
{
	if (length > size)
		__chk_fail();
	return read(fd, data, length);
}

EXPORT ssize_t __recv_chk(int fd, void *data, size_t length, size_t size, int flags)
{
	if (length > size)
		__chk_fail();
	return recv(fd, data, length, flags);
}

EXPORT ssize_t __recvfrom_chk(int fd, void *data, size_t length, size_t size, int flags, struct sockaddr *from,
			      socklen_t *from_size)
{
	if (length > size)
		__chk_fail();
	return recvfrom(fd, data, length, flags, from, from_size);
}
