// SPDX-License-Identifier: BSD-2-Clause
/* The memory or the file of an export. */
#include "block_store.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#include "provider.h"

#define PAGE 4096u
#define SECTOR 512u
#define QUICK_ZERO (1u << 20) /* memory cleared at once; more is for a thread */

static const uint8_t zeroes[64 << 10] __attribute__((aligned(PAGE)));

/* ---- opening ---- */

static uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 0x9e3779b97f4a7c15ull;
	return (h ^ h >> 29) * 0xbf58476d1ce4e5b9ull ^ h >> 32;
}

/*
 * A file is known by its place and, since inode numbers are used again, by its birth;
 * not by its time of change, which writing moves.
 */
static void name_file(struct block_store *s, const struct statx *st)
{
	uint64_t id[2];
	unsigned int i;

	for (i = 0; i < 2; i++) {
		id[i] = mix(i + 1, s->about.length);
		id[i] = mix(id[i], st->stx_mode & S_IFMT);
		id[i] = mix(id[i], makedev(st->stx_dev_major, st->stx_dev_minor));
		id[i] = mix(id[i], st->stx_ino);
		id[i] = mix(id[i], makedev(st->stx_rdev_major, st->stx_rdev_minor));
		if (st->stx_mask & STATX_BTIME && S_ISREG(st->stx_mode)) {
			id[i] = mix(id[i], (uint64_t)st->stx_btime.tv_sec);
			id[i] = mix(id[i], st->stx_btime.tv_nsec);
		}
	}
	memcpy(s->about.backing, id, BLOCK_ID);
}

static void name_boot(struct block_store *s)
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	char text[37] = "";
	uint32_t n = 0, i;

	if (fd >= 0) {
		if (read(fd, text, sizeof(text) - 1) != sizeof(text) - 1)
			text[0] = 0;
		close(fd);
	}
	for (i = 0; text[i] && n < 2 * BLOCK_ID; i++) {
		unsigned int digit = text[i] >= 'a' ? (unsigned int)(text[i] - 'a' + 10) : (unsigned int)(text[i] - '0');

		if (text[i] == '-')
			continue;
		s->about.boot[n / 2] = (uint8_t)(s->about.boot[n / 2] << 4 | (digit & 15));
		n++;
	}
	/* Unknown: never the same as another. */
	if (n < 2 * BLOCK_ID && getrandom(s->about.boot, BLOCK_ID, GRND_NONBLOCK) != BLOCK_ID)
		memset(s->about.boot, 0, BLOCK_ID);
}

static int file_length(int fd, const struct statx *st, uint64_t *length)
{
	if (S_ISREG(st->stx_mode)) {
		*length = st->stx_size;
		return 0;
	}
	if (!S_ISBLK(st->stx_mode))
		return -EINVAL;
	return ioctl(fd, BLKGETSIZE64, length) ? -errno : 0;
}

static int open_file(struct block_store *s, const struct rackwire_krping_export *e, char *error, size_t size)
{
	bool read_only = e->flags & RACKWIRE_KRPING_EXPORT_READ_ONLY;
	int mode = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC;
	uint64_t length = 0;
	struct statx st;
	int err;

	/* O_NONBLOCK: a pipe must not keep us. */
	s->fd = open(e->file, mode | O_NONBLOCK);
	if (s->fd < 0 || statx(s->fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &st)) {
		err = -errno;
		return config_refuse(error, size, err, "%s: %s", e->file, strerror(-err));
	}
	err = file_length(s->fd, &st, &length);
	if (err)
		return config_refuse(error, size, err, "%s is neither a regular file nor a block device", e->file);
	if (flock(s->fd, (read_only ? LOCK_SH : LOCK_EX) | LOCK_NB))
		return config_refuse(error, size, -EBUSY, "%s is in use by another exporter", e->file);
	if (!length)
		return config_refuse(error, size, -EINVAL, "%s is empty; give it its size first: truncate -s 1G %s",
				     e->file, e->file);
	if (e->length > length)
		return config_refuse(error, size, -EINVAL, "%s has %llu bytes, not %llu, and is not resized", e->file,
				     (unsigned long long)length, (unsigned long long)e->length);
	if (e->flags & RACKWIRE_KRPING_EXPORT_DIRECT) {
		s->direct_fd = open(e->file, mode | O_DIRECT);
		if (s->direct_fd < 0)
			return config_refuse(error, size, -errno, "%s cannot be opened past the page cache: %s",
					     e->file, strerror(errno));
	}
	s->about.length = e->length ? e->length : length;
	s->about.flags |= BLOCK_ABOUT_PERSISTENT;
	s->about.block = PAGE;
	s->read_nowait = s->write_nowait = s->direct_fd < 0;
	name_file(s, &st);
	name_boot(s);
	return 0;
}

static int open_memory(struct block_store *s, const struct rackwire_krping_export *e, char *error, size_t size)
{
	void *memory;

	if (!e->length)
		return config_refuse(error, size, -EINVAL, "memory needs a size");
	if (e->length > INT64_MAX)
		return config_refuse(error, size, -EINVAL, "%llu bytes are more than a device can have",
				     (unsigned long long)e->length);
	if (e->flags & RACKWIRE_KRPING_EXPORT_DIRECT)
		return config_refuse(error, size, -EINVAL, "memory has no page cache to go past");
	memory = mmap(NULL, e->length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return config_refuse(error, size, -errno, "%llu bytes of memory: %s", (unsigned long long)e->length,
				     strerror(errno));
	s->memory = memory;
	s->about.length = e->length;
	s->about.block = PAGE;
	if (getrandom(s->about.backing, BLOCK_ID, 0) != BLOCK_ID)
		return config_refuse(error, size, -EIO, "there is no randomness");
	memcpy(s->about.boot, s->about.backing, BLOCK_ID);
	return 0;
}

int block_store_open(const struct rackwire_krping_export *wanted, struct block_store **out, char *error, size_t length)
{
	struct block_store *s;
	int err;

	if (!memchr(wanted->name, 0, sizeof(wanted->name)) || !memchr(wanted->file, 0, sizeof(wanted->file)) ||
	    wanted->flags & ~(uint32_t)(RACKWIRE_KRPING_EXPORT_READ_ONLY | RACKWIRE_KRPING_EXPORT_DIRECT))
		return config_refuse(error, length, -EINVAL, "an export makes no sense");
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->fd = s->direct_fd = -1;
	memcpy(s->about.name, wanted->name, BLOCK_NAME);
	if (wanted->flags & RACKWIRE_KRPING_EXPORT_READ_ONLY)
		s->about.flags |= BLOCK_ABOUT_READ_ONLY;
	err = wanted->file[0] ? open_file(s, wanted, error, length) : open_memory(s, wanted, error, length);
	if (err) {
		block_store_close(s);
		return err;
	}
	*out = s;
	return 0;
}

void block_store_close(struct block_store *s)
{
	if (!s)
		return;
	if (s->memory)
		munmap(s->memory, s->about.length);
	if (s->fd >= 0)
		close(s->fd);
	if (s->direct_fd >= 0)
		close(s->direct_fd);
	free(s);
}

/* ---- memory ---- */

static void memory_clear(struct block_store *s, uint64_t offset, uint32_t length, bool keep)
{
	uint8_t *from = s->memory + offset, *to = from + length;
	uint8_t *first = (uint8_t *)(((uintptr_t)from + PAGE - 1) & ~(uintptr_t)(PAGE - 1));
	uint8_t *last = (uint8_t *)((uintptr_t)to & ~(uintptr_t)(PAGE - 1));

	if (keep || first >= last || madvise(first, (size_t)(last - first), MADV_DONTNEED)) {
		memset(from, 0, length);
		return;
	}
	memset(from, 0, (size_t)(first - from));
	memset(last, 0, (size_t)(to - last));
}

static uint32_t memory_do(struct block_store *s, uint8_t op, uint8_t flags, uint64_t offset, uint32_t length, void *data)
{
	switch (op) {
	case BLOCK_READ:
		memcpy(data, s->memory + offset, length);
		break;
	case BLOCK_WRITE:
		memcpy(s->memory + offset, data, length);
		break;
	case BLOCK_TRIM:
	case BLOCK_ZERO:
		memory_clear(s, offset, length, flags & BLOCK_NO_HOLE);
		break;
	}
	return BLOCK_OK;
}

/* ---- files ---- */

static uint32_t status_of(int err)
{
	switch (err) {
	case 0:
		return BLOCK_OK;
	case EPERM:
	case EACCES:
	case EROFS:
		return BLOCK_EPERM;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return BLOCK_ENOSPC;
	case ENOMEM:
		return BLOCK_ENOMEM;
	default:
		return BLOCK_EIO;
	}
}

/* All of it. Return: 0 or an errno; a file that ends too early is EIO. */
static int transfer(int fd, bool write, uint8_t *data, uint32_t length, uint64_t offset, int flags)
{
	while (length) {
		struct iovec iov = { data, length };
		ssize_t n = write ? pwritev2(fd, &iov, 1, (off_t)offset, flags) :
				    preadv2(fd, &iov, 1, (off_t)offset, flags);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? errno : EIO;
		data += n;
		length -= (uint32_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

/*
 * Past the page cache as far as the kernel lets us: what is not aligned goes through
 * it. The kernel keeps the two coherent.
 */
static int file_transfer(struct block_store *s, bool write, uint8_t *data, uint32_t length, uint64_t offset, int flags)
{
	static __thread uint8_t bounce[BLOCK_MAX_EAGER] __attribute__((aligned(PAGE)));
	bool fits = s->direct_fd >= 0 && !((offset | length) % SECTOR);
	int err;

	if (fits && (uintptr_t)data % SECTOR) {
		fits = write && length <= sizeof(bounce);
		if (fits)
			data = memcpy(bounce, data, length);
	}
	if (!fits)
		return transfer(s->fd, write, data, length, offset, flags);
	err = transfer(s->direct_fd, write, data, length, offset, flags);
	return err == EINVAL ? transfer(s->fd, write, data, length, offset, flags) : err;
}

static int sync_file(struct block_store *s)
{
	return fdatasync(s->fd) ? errno : 0;
}

static int clear(struct block_store *s, int mode, uint64_t offset, uint32_t length)
{
	int err;

	do
		err = fallocate(s->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset, length) ? errno : 0;
	while (err == EINTR);
	return err;
}

static bool unable(int err)
{
	return err == EOPNOTSUPP || err == ENOSYS || err == ENODEV || err == EINVAL;
}

static uint32_t file_zero(struct block_store *s, uint8_t flags, uint64_t offset, uint32_t length)
{
	int err = EOPNOTSUPP;

	if (!(flags & BLOCK_NO_HOLE))
		err = clear(s, FALLOC_FL_PUNCH_HOLE, offset, length);
	if (unable(err))
		err = clear(s, FALLOC_FL_ZERO_RANGE, offset, length);
	if (unable(err)) {
		if (flags & BLOCK_FAST)
			return BLOCK_ENOTSUP;
		for (err = 0; length && !err;) {
			uint32_t n = length < sizeof(zeroes) ? length : (uint32_t)sizeof(zeroes);

			err = transfer(s->fd, true, (uint8_t *)(uintptr_t)zeroes, n, offset, 0);
			offset += n;
			length -= n;
		}
	}
	if (!err && flags & BLOCK_FUA)
		err = sync_file(s);
	return status_of(err);
}

static uint32_t file_do(struct block_store *s, uint8_t op, uint8_t flags, uint64_t offset, uint32_t length, void *data)
{
	int err = 0;

	switch (op) {
	case BLOCK_READ:
		err = file_transfer(s, false, data, length, offset, 0);
		break;
	case BLOCK_WRITE:
		err = file_transfer(s, true, data, length, offset, 0);
		if (!err && flags & BLOCK_FUA)
			err = sync_file(s);
		break;
	case BLOCK_FLUSH:
		err = sync_file(s);
		break;
	case BLOCK_TRIM:
		err = clear(s, FALLOC_FL_PUNCH_HOLE, offset, length);
		if (unable(err)) /* a hint */
			err = 0;
		if (!err && flags & BLOCK_FUA)
			err = sync_file(s);
		break;
	case BLOCK_ZERO:
		return file_zero(s, flags, offset, length);
	}
	return status_of(err);
}

uint32_t block_store_do(struct block_store *s, uint8_t op, uint8_t flags, uint64_t offset, uint32_t length, void *data)
{
	return s->memory ? memory_do(s, op, flags, offset, length, data) :
			   file_do(s, op, flags, offset, length, data);
}

int block_store_try(struct block_store *s, uint8_t op, uint8_t flags, uint64_t offset, uint32_t length, void *data)
{
	bool write = op == BLOCK_WRITE, *worth = write ? &s->write_nowait : &s->read_nowait;
	struct iovec iov = { data, length };
	ssize_t n;

	if (s->memory)
		return (op == BLOCK_TRIM || op == BLOCK_ZERO) && length > QUICK_ZERO ?
			       -EAGAIN : (int)memory_do(s, op, flags, offset, length, data);
	if (op > BLOCK_WRITE || flags & BLOCK_FUA || !*worth)
		return -EAGAIN;
	n = write ? pwritev2(s->fd, &iov, 1, (off_t)offset, RWF_NOWAIT) :
		    preadv2(s->fd, &iov, 1, (off_t)offset, RWF_NOWAIT);
	if (n == (ssize_t)length)
		return BLOCK_OK;
	if (n < 0 && unable(errno))
		*worth = false;
	return -EAGAIN;
}
