// SPDX-License-Identifier: BSD-2-Clause
/* What the tests of single calls share. */
#include "calls.h"

volatile sig_atomic_t signals;

static void on_signal(int sig)
{
	(void)sig;
	signals++;
}

void count_signal(int sig, int flags)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = flags };

	signals = 0;
	sigaction(sig, &action, NULL);
}

int listening(int type, struct sockaddr_in *at)
{
	socklen_t length = sizeof(*at);
	int fd = socket(PF_INET, type, DCPIM);

	*at = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	if (fd < 0 || bind(fd, (struct sockaddr *)at, sizeof(*at)) || listen(fd, 16) ||
	    getsockname(fd, (struct sockaddr *)at, &length))
		return -1;
	return fd;
}

int make_pair(int type, int priority, int fds[2])
{
	struct sockaddr_in at;
	int fd = listening(type, &at);

	if (fd < 0)
		return -1;
	fds[0] = socket(PF_INET, type, DCPIM);
	if (priority && setsockopt(fds[0], SOL_SOCKET, SO_PRIORITY, &priority, sizeof(priority)))
		return -1;
	if (connect(fds[0], (struct sockaddr *)&at, sizeof(at)))
		return -1;
	fds[1] = accept(fd, NULL, NULL);
	close(fd);
	return fds[1] < 0 ? -1 : 0;
}

void close_pair(int fds[2])
{
	close(fds[0]);
	close(fds[1]);
}

int ready(int fd, int events)
{
	struct pollfd p = { .fd = fd, .events = (short)events };

	return poll(&p, 1, 10000) == 1 ? p.revents : 0;
}

void set_nonblocking(int fd, int on)
{
	int flags = fcntl(fd, F_GETFL);

	fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}

int is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}
