// SPDX-License-Identifier: BSD-2-Clause
/* Stores: memory and files, and how one is told from another. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "krping/block_store.h"
#include "tap.h"

#define MIB (1u << 20)

static char path[] = "/tmp/rw-store-XXXXXX";

static void make_file(uint32_t length)
{
	int fd;

	strcpy(path + sizeof(path) - 7, "XXXXXX");
	fd = mkstemp(path);
	if (fd < 0 || ftruncate(fd, length))
		abort();
	close(fd);
}

static struct block_store *open_store(const char *file, uint64_t length, uint32_t flags, int *result)
{
	struct rackwire_krping_export wanted = { .length = length, .flags = flags };
	struct block_store *store = NULL;
	char error[256] = "";

	strcpy(wanted.file, file);
	*result = block_store_open(&wanted, &store, error, sizeof(error));
	return store;
}

static uint32_t resident(const struct block_store *s)
{
	unsigned char pages[4 * MIB / 4096];
	uint32_t n = 0, i;

	if (mincore(s->memory, s->about.length, pages))
		abort();
	for (i = 0; i < s->about.length / 4096; i++)
		n += pages[i] & 1;
	return n;
}

static void memory__trim_gives_it_back(void)
{
	static uint8_t data[4 * MIB], back[4 * MIB];
	struct block_store *s;
	int err;

	s = open_store("", sizeof(data), 0, &err);
	TAP_CHECK(!err);
	TAP_CHECK(resident(s) == 0);
	memset(data, 7, sizeof(data));
	TAP_CHECK(block_store_try(s, BLOCK_WRITE, 0, 0, sizeof(data), data) == BLOCK_OK);
	TAP_CHECK(resident(s) == 1024);
	/* Whole pages go, the edges are cleared. */
	TAP_CHECK(block_store_do(s, BLOCK_TRIM, 0, 100, 2 * MIB, NULL) == BLOCK_OK);
	TAP_CHECK(resident(s) < 1024 - 500);
	TAP_CHECK(block_store_do(s, BLOCK_ZERO, BLOCK_NO_HOLE, 3 * MIB, 5000, NULL) == BLOCK_OK);
	memset(data + 100, 0, 2 * MIB);
	memset(data + 3 * MIB, 0, 5000);
	TAP_CHECK(block_store_try(s, BLOCK_READ, 0, 0, sizeof(back), back) == BLOCK_OK);
	TAP_CHECK(!memcmp(data, back, sizeof(data)));
	/* Much to clear is not for the loop. */
	TAP_CHECK(block_store_try(s, BLOCK_ZERO, 0, 0, 2 * MIB, NULL) == -EAGAIN);
	block_store_close(s);
}

static void file__holds_what_was_written(void)
{
	static const uint32_t offsets[] = { 0, 1, 511, 512, 4096, 5000, 65536 };
	static uint8_t model[MIB], data[MIB] __attribute__((aligned(4096))), back[MIB] __attribute__((aligned(4096)));
	struct block_store *s;
	uint32_t direct, i, k;
	int err, fd;

	for (direct = 0; direct < 2; direct++) {
		make_file(MIB);
		s = open_store(path, 0, direct ? RACKWIRE_KRPING_EXPORT_DIRECT : 0, &err);
		TAP_CHECK(!err && s->about.length == MIB && s->about.flags == BLOCK_ABOUT_PERSISTENT);
		memset(model, 0, sizeof(model));
		for (i = 0; i < 7; i++) {
			uint32_t length = offsets[6 - i] + 1 + i * 512;

			for (k = 0; k < length; k++)
				data[k] = (uint8_t)(k * 3 + i);
			/* From an odd place in memory, too. */
			TAP_CHECK(block_store_do(s, BLOCK_WRITE, i & 1 ? BLOCK_FUA : 0, offsets[i], length - 1, data + 1) ==
				  BLOCK_OK);
			memcpy(model + offsets[i], data + 1, length - 1);
		}
		TAP_CHECK(block_store_do(s, BLOCK_ZERO, 0, 3000, 9000, NULL) == BLOCK_OK);
		memset(model + 3000, 0, 9000);
		TAP_CHECK(block_store_do(s, BLOCK_ZERO, BLOCK_NO_HOLE | BLOCK_FUA, 20000, 5000, NULL) == BLOCK_OK);
		memset(model + 20000, 0, 5000);
		TAP_CHECK(block_store_do(s, BLOCK_FLUSH, 0, 0, 0, NULL) == BLOCK_OK);
		TAP_CHECK(block_store_do(s, BLOCK_READ, 0, 0, MIB, back) == BLOCK_OK && !memcmp(back, model, MIB));
		TAP_CHECK(block_store_do(s, BLOCK_READ, 0, 77, 999, back) == BLOCK_OK && !memcmp(back, model + 77, 999));
		fd = open(path, O_RDONLY);
		TAP_CHECK(read(fd, back, MIB) == MIB && !memcmp(back, model, MIB));
		close(fd);
		/* Cut short by somebody else: an error, not zeroes. */
		TAP_CHECK(!truncate(path, 4096));
		TAP_CHECK(block_store_do(s, BLOCK_READ, 0, 0, 8192, back) == BLOCK_EIO);
		block_store_close(s);
		unlink(path);
	}
}

static void opening__refuses_what_it_cannot_keep(void)
{
	struct block_store *s, *other;
	int err;

	open_store("/nonexistent/file", 0, 0, &err);
	TAP_CHECK(err == -ENOENT);
	open_store("/tmp", 0, RACKWIRE_KRPING_EXPORT_READ_ONLY, &err);
	TAP_CHECK(err == -EINVAL);
	open_store("/dev/null", 0, 0, &err);
	TAP_CHECK(err == -EINVAL);
	open_store("", 0, 0, &err);
	TAP_CHECK(err == -EINVAL);
	make_file(0);
	open_store(path, 0, 0, &err);
	TAP_CHECK(err == -EINVAL);
	TAP_CHECK(!truncate(path, 10000));
	open_store(path, 10001, 0, &err);
	TAP_CHECK(err == -EINVAL);
	s = open_store(path, 9999, 0, &err);
	TAP_CHECK(!err && s->about.length == 9999);
	open_store(path, 0, RACKWIRE_KRPING_EXPORT_READ_ONLY, &err);
	TAP_CHECK(err == -EBUSY);
	block_store_close(s);
	s = open_store(path, 0, RACKWIRE_KRPING_EXPORT_READ_ONLY, &err);
	TAP_CHECK(!err);
	other = open_store(path, 0, RACKWIRE_KRPING_EXPORT_READ_ONLY, &err);
	TAP_CHECK(!err);
	block_store_close(s);
	block_store_close(other);
	unlink(path);
}

static void identity__is_of_the_data(void)
{
	struct block_about first;
	struct block_store *s;
	char kept[sizeof(path)];
	int err;

	make_file(MIB);
	strcpy(kept, path);
	s = open_store(path, 0, 0, &err);
	TAP_CHECK(!err);
	first = s->about;
	TAP_CHECK(block_store_do(s, BLOCK_WRITE, 0, 0, 4, "data") == BLOCK_OK);
	block_store_close(s);
	s = open_store(path, 0, 0, &err);
	TAP_CHECK(!err && !memcmp(&s->about, &first, sizeof(first)));
	block_store_close(s);
	/* Another length, another file, also at the same place. */
	s = open_store(path, MIB - 1, 0, &err);
	TAP_CHECK(!err && memcmp(s->about.backing, first.backing, BLOCK_ID));
	block_store_close(s);
	unlink(kept);
	close(open(kept, O_CREAT | O_WRONLY, 0600));
	TAP_CHECK(!truncate(kept, MIB));
	s = open_store(kept, 0, 0, &err);
	TAP_CHECK(!err && memcmp(s->about.backing, first.backing, BLOCK_ID));
	TAP_CHECK(!memcmp(s->about.boot, first.boot, BLOCK_ID));
	block_store_close(s);
	unlink(kept);

	s = open_store("", MIB, 0, &err);
	TAP_CHECK(!err);
	first = s->about;
	block_store_close(s);
	s = open_store("", MIB, 0, &err);
	TAP_CHECK(!err && memcmp(s->about.backing, first.backing, BLOCK_ID));
	block_store_close(s);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(memory__trim_gives_it_back),
		TAP_TEST(file__holds_what_was_written),
		TAP_TEST(opening__refuses_what_it_cannot_keep),
		TAP_TEST(identity__is_of_the_data),
	};
	return TAP_RUN(tests, argc, argv);
}
