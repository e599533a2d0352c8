// SPDX-License-Identifier: BSD-2-Clause
/* fdopen: the C library's streams do not come through read() and write(), so a dcPIM socket gets one that does. */
#include <unistd.h>

#include "dcpim/preload/preload.h"

static ssize_t stream_read(void *cookie, char *data, size_t length)
{
	return read((int)(intptr_t)cookie, data, length);
}

/* stdio takes 0 for an error here, with errno set. */
static ssize_t stream_write(void *cookie, const char *data, size_t length)
{
	ssize_t r = write((int)(intptr_t)cookie, data, length);

	return r < 0 ? 0 : r;
}

static int stream_close(void *cookie)
{
	return close((int)(intptr_t)cookie);
}

EXPORT FILE *fdopen(int fd, const char *mode)
{
	static const cookie_io_functions_t functions = {
		.read = stream_read, .write = stream_write, .close = stream_close,
	};
	FILE *stream;

	if (likely(!table_peek(fd)))
		return REAL(fdopen)(fd, mode);
	stream = fopencookie((void *)(intptr_t)fd, mode, functions);
	if (stream)
		stream->_fileno = fd; /* for fileno() */
	return stream;
}
