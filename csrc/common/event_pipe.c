// SPDX-License-Identifier: BSD-2-Clause
#include "event_pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int rackwire_event_pipe_open(struct rackwire_event_pipe *pipe)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	pipe->read_fd = fds[0];
	pipe->write_fd = fds[1];
	return 0;
}

int rackwire_event_pipe_send(struct rackwire_event_pipe *pipe, uint32_t kind,
			     uint32_t detail, uint64_t value)
{
	struct rackwire_event event = {
		.kind = kind, .detail = detail, .value = value,
	};
	ssize_t n;

	/* Writes of up to PIPE_BUF bytes are atomic, pipe(7). */
	do {
		n = write(pipe->write_fd, &event, sizeof(event));
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

void rackwire_event_pipe_close(struct rackwire_event_pipe *pipe)
{
	if (pipe->write_fd >= 0)
		close(pipe->write_fd);
	if (pipe->read_fd >= 0)
		close(pipe->read_fd);
	pipe->write_fd = -1;
	pipe->read_fd = -1;
}
