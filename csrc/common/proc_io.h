/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * proc_io.h: small files and directories of /proc and /sys. Deno refuses those
 * to a program with narrow permissions, so TypeScript asks here.
 */
#ifndef RACKWIRE_COMMON_PROC_IO_H
#define RACKWIRE_COMMON_PROC_IO_H

#include <stddef.h>
#include <sys/types.h>

/*
 * Reads a whole file into the caller's buffer; no terminating zero is added.
 * Returns the number of bytes, -EFBIG when the buffer is too small, or -errno.
 */
ssize_t rackwire_proc_read(const char *path, void *buffer, size_t length);

/*
 * Writes the names in a directory, each followed by a newline, without "." and
 * "..". Returns the number of bytes, -EFBIG when they do not fit, or -errno.
 */
ssize_t rackwire_proc_list(const char *path, char *buffer, size_t length);

/* Writes a setting in one write(2), as sysfs wants it. Returns 0 or -errno. */
int rackwire_proc_write(const char *path, const void *data, size_t length);

#endif
