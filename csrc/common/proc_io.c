// SPDX-License-Identifier: BSD-2-Clause
#include "proc_io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

ssize_t rackwire_proc_read(const char *path, void *buffer, size_t length)
{
	size_t done = 0;
	ssize_t n;
	char over;
	int fd, err;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	for (;;) {
		/* A full buffer is right only if nothing follows it. */
		if (done < length)
			n = read(fd, (char *)buffer + done, length - done);
		else
			n = read(fd, &over, 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		if (done == length) {
			close(fd);
			return -EFBIG;
		}
		done += (size_t)n;
	}
	err = n < 0 ? errno : 0;
	close(fd);
	return err ? -err : (ssize_t)done;
}

ssize_t rackwire_proc_list(const char *path, char *buffer, size_t length)
{
	struct dirent *entry;
	size_t done = 0, n;
	int err;
	DIR *dir;

	dir = opendir(path);
	if (!dir)
		return -errno;
	for (;;) {
		errno = 0;
		entry = readdir(dir);
		if (!entry) {
			err = errno;
			break;
		}
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		n = strlen(entry->d_name);
		if (n + 1 > length - done) {
			err = EFBIG;
			break;
		}
		memcpy(buffer + done, entry->d_name, n);
		buffer[done + n] = '\n';
		done += n + 1;
	}
	closedir(dir);
	return err ? -err : (ssize_t)done;
}

int rackwire_proc_write(const char *path, const void *data, size_t length)
{
	ssize_t n;
	int fd, err;

	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	do {
		n = write(fd, data, length);
	} while (n < 0 && errno == EINTR);
	err = n < 0 ? -errno : (size_t)n == length ? 0 : -EIO;
	close(fd);
	return err;
}
