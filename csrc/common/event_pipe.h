/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * event_pipe.h: fixed-size events from any C thread to one reader, usually
 * TypeScript reading /dev/fd/N (lib/ffi/events.ts). The reader sees end of file
 * when the pipe is closed.
 */
#ifndef RACKWIRE_COMMON_EVENT_PIPE_H
#define RACKWIRE_COMMON_EVENT_PIPE_H

#include <stdint.h>

struct rackwire_event {
	uint32_t kind;
	uint32_t detail;
	uint64_t value;
};

struct rackwire_event_pipe {
	int read_fd;
	int write_fd;
};

/* Opens the pipe, close-on-exec and nonblocking. Returns 0 or -errno. */
int rackwire_event_pipe_open(struct rackwire_event_pipe *pipe);

/*
 * Sends one event without ever waiting. Any thread; a whole event or nothing.
 * Returns 0, -EAGAIN when the reader is 4096 events behind, or -errno.
 */
int rackwire_event_pipe_send(struct rackwire_event_pipe *pipe, uint32_t kind,
			     uint32_t detail, uint64_t value);

/* Closes both ends; no thread may send afterwards. Closing twice is harmless. */
void rackwire_event_pipe_close(struct rackwire_event_pipe *pipe);

#endif
