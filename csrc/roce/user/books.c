// SPDX-License-Identifier: BSD-2-Clause
/* The books of the devices that share a UDP port; see books.h and share.c. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "books.h"

#define MAGIC 0x524f4345u
#define VERSION 1 /* of the layout */
#define LOCK_TRIES 200
#define LOCK_NAP_NS 10000000

static int private_directory(const char *path)
{
	struct stat st;

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return -errno;
	if (lstat(path, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & 077) ? 0 : -EPERM;
}

/* Where the user's other sockets of this project live, too. */
static int user_directory(char *path, size_t size)
{
	const char *given = getenv("RACKWIRE_RUNTIME_DIR"), *session = getenv("XDG_RUNTIME_DIR");
	struct stat st;

	if (given && given[0])
		return snprintf(path, size, "%s", given) < (int)size ? private_directory(path) : -ENAMETOOLONG;
	if (!geteuid()) {
		snprintf(path, size, "/run/rackwire");
		return private_directory(path);
	}
	if (session && session[0] == '/' && !stat(session, &st) && st.st_uid == geteuid() &&
	    snprintf(path, size, "%s/rackwire", session) < (int)size && !private_directory(path))
		return 0;
	/* Anybody may make directories in /tmp: the owner check counts. */
	snprintf(path, size, "/tmp/rackwire-%u", (unsigned int)geteuid());
	return private_directory(path);
}

/* One for each UDP port and network namespace. */
static int share_directory(struct rackwire_roce_dev *dev)
{
	char user[64], *path = dev->share.directory;
	struct stat st;
	int err;

	err = user_directory(user, sizeof(user));
	if (err)
		return err;
	if (stat("/proc/thread-self/ns/net", &st) < 0)
		return -errno;
	if (snprintf(path, sizeof(dev->share.directory), "%s/roce-%u-%lu", user, dev->config.udp_port,
		     (unsigned long)st.st_ino) >= (int)sizeof(dev->share.directory))
		return -ENAMETOOLONG;
	return private_directory(path);
}

int roce_books_byte_lock(int fd, u32 byte, short type)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

	return fcntl(fd, F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

/* Does another open file hold it? */
bool roce_books_byte_locked(int fd, u32 byte)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

	return fcntl(fd, F_OFD_GETLK, &lock) < 0 || lock.l_type != F_UNLCK;
}

int roce_books_lock(const struct roce_share *sh, bool wait)
{
	struct timespec nap = { .tv_nsec = LOCK_NAP_NS };
	int i, err;

	for (i = 0; (err = roce_books_byte_lock(sh->file_fd, 0, F_WRLCK)) && wait && i < LOCK_TRIES; i++)
		nanosleep(&nap, NULL);
	return err;
}

void roce_books_unlock(const struct roce_share *sh)
{
	roce_books_byte_lock(sh->file_fd, 0, F_UNLCK);
}

/* The last one to leave removes the books; who waited for their lock then holds what nobody finds any more. */
static bool books_current(const char *path, int fd)
{
	struct stat held, found;

	return !fstat(fd, &held) && !stat(path, &found) && held.st_ino == found.st_ino && held.st_dev == found.st_dev;
}

/* Open and lock. Return: 0, or -ESTALE: try again. */
int roce_books_open(struct rackwire_roce_dev *dev)
{
	struct roce_share *sh = &dev->share;
	struct roce_share_file *file;
	char path[112];
	int err = share_directory(dev);

	if (err)
		return err;
	snprintf(path, sizeof(path), "%s/books", sh->directory);
	sh->file_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (sh->file_fd < 0)
		return errno == ENOENT ? -ESTALE : -errno;
	err = roce_books_lock(sh, true);
	if (err)
		return err;
	if (!books_current(path, sh->file_fd))
		return -ESTALE;
	if (ftruncate(sh->file_fd, sizeof(*file)) < 0)
		return -errno;
	file = mmap(NULL, sizeof(*file), PROT_READ | PROT_WRITE, MAP_SHARED, sh->file_fd, 0);
	if (file == MAP_FAILED)
		return -errno;
	sh->file = file;
	/* A mapping keeps the open file, and so its locks, alive: also one in a child. */
	madvise(file, sizeof(*file), MADV_DONTFORK);
	if (!file->magic) {
		file->version = VERSION;
		file->magic = MAGIC;
	}
	return file->magic == MAGIC && file->version == VERSION ? 0 : -EPROTO;
}

void roce_books_remove(const struct roce_share *sh)
{
	char path[112];

	snprintf(path, sizeof(path), "%s/books", sh->directory);
	unlink(path);
	rmdir(sh->directory);
}

static void remove_all(int directory)
{
	DIR *dir = fdopendir(directory);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			unlinkat(directory, entry->d_name, 0);
	if (dir)
		closedir(dir);
	else
		close(directory);
}

static void sweep_one(int parent, const char *name)
{
	int directory = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), fd;
	bool alive;
	u32 i;

	if (directory < 0)
		return;
	fd = openat(directory, "books", O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	alive = fd < 0 || roce_books_byte_lock(fd, 0, F_WRLCK);
	for (i = 1; !alive && i <= ROCE_SLOTS; i++)
		alive = roce_books_byte_locked(fd, i);
	if (alive)
		close(directory);
	else
		remove_all(directory);
	if (!alive)
		unlinkat(parent, name, AT_REMOVEDIR);
	if (fd >= 0)
		close(fd);
}

void roce_books_sweep(const struct roce_share *sh)
{
	const char *own = strrchr(sh->directory, '/') + 1;
	char parent[sizeof(sh->directory)];
	struct dirent *entry;
	DIR *dir;

	snprintf(parent, sizeof(parent), "%.*s", (int)(own - 1 - sh->directory), sh->directory);
	dir = opendir(parent);
	while (dir && (entry = readdir(dir)))
		if (!strncmp(entry->d_name, "roce-", 5) && strcmp(entry->d_name, own))
			sweep_one(dirfd(dir), entry->d_name);
	if (dir)
		closedir(dir);
}

/* ---- the group ---- */

bool roce_books_used(const struct roce_share_file *file, u32 slot)
{
	return __atomic_load_n(&file->used[slot], __ATOMIC_ACQUIRE);
}

bool roce_books_same_group(const struct share_slot *a, const struct share_slot *b)
{
	return a->family == b->family && a->scope == b->scope && !memcmp(a->addr, b->addr, 16);
}

bool roce_books_overlap(const struct share_slot *a, const struct share_slot *b)
{
	if (a->wildcard || b->wildcard)
		return a->family == b->family || a->family == AF_INET6 || b->family == AF_INET6;
	return roce_books_same_group(a, b);
}

u32 roce_books_group_size(const struct roce_share_file *file, const struct share_slot *of)
{
	u32 i, n = 0;

	for (i = 1; i <= ROCE_SLOTS; i++)
		n += roce_books_used(file, i) && roce_books_same_group(&file->slots[i], of);
	return n;
}

/* As the kernel does it: the last member of the group takes the place of the one that goes. */
void roce_books_group_remove(struct roce_share_file *file, u32 slot)
{
	struct share_slot *gone = &file->slots[slot];
	u32 last = roce_books_group_size(file, gone) - 1, i;

	for (i = 1; i <= ROCE_SLOTS; i++)
		if (roce_books_used(file, i) && roce_books_same_group(&file->slots[i], gone) && file->slots[i].index == last)
			file->slots[i].index = gone->index;
	__atomic_store_n(&file->used[slot], 0, __ATOMIC_RELEASE);
}

u32 roce_books_purge(struct roce_share *sh)
{
	u32 i, n = 0;

	for (i = 1; i <= ROCE_SLOTS; i++)
		if (i != sh->slot && roce_books_used(sh->file, i) && !roce_books_byte_locked(sh->file_fd, i)) {
			roce_books_group_remove(sh->file, i);
			n++;
		}
	return n;
}

u32 roce_books_others(const struct roce_share *sh)
{
	u32 i, n = 0;

	for (i = 1; i <= ROCE_SLOTS; i++)
		n += i != sh->slot && roce_books_used(sh->file, i);
	return n;
}

