// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "event_pipe.h"
#include "proc_io.h"
#include "tap.h"

static void proc_read__reads_a_kernel_file(void)
{
	struct utsname names;
	char buffer[128];
	ssize_t n;

	TAP_CHECK(!uname(&names));
	n = rackwire_proc_read("/proc/sys/kernel/osrelease", buffer,
			       sizeof(buffer));
	TAP_CHECK(n == (ssize_t)strlen(names.release) + 1);
	TAP_CHECK(!memcmp(buffer, names.release, strlen(names.release)));
	TAP_CHECK(buffer[n - 1] == '\n');
}

static void proc_read__tells_full_from_too_small(void)
{
	char path[] = "/tmp/rackwire-io-XXXXXX", buffer[8];
	int fd = mkstemp(path);

	TAP_CHECK(fd >= 0);
	TAP_CHECK(write(fd, "12345678", 8) == 8);
	TAP_CHECK(rackwire_proc_read(path, buffer, 8) == 8);
	TAP_CHECK(rackwire_proc_read(path, buffer, 7) == -EFBIG);
	TAP_CHECK(rackwire_proc_read(path, buffer, 0) == -EFBIG);
	close(fd);
	unlink(path);
	TAP_CHECK(rackwire_proc_read(path, buffer, 8) == -ENOENT);
	TAP_CHECK(rackwire_proc_read("/proc", buffer, 8) == -EISDIR);
}

static void proc_list__lists_names(void)
{
	char buffer[4096];
	ssize_t n = rackwire_proc_list("/proc/self", buffer, sizeof(buffer) - 1);

	TAP_CHECK(n > 0);
	buffer[n] = 0;
	TAP_CHECK(strstr(buffer, "\nstatus\n"));
	TAP_CHECK(strncmp(buffer, ".\n", 2) && !strstr(buffer, "\n..\n"));
	TAP_CHECK(rackwire_proc_list("/proc/self", buffer, 3) == -EFBIG);
	TAP_CHECK(rackwire_proc_list("/proc/none", buffer, 3) == -ENOENT);
}

static void proc_write__writes_and_reports(void)
{
	char path[] = "/tmp/rackwire-io-XXXXXX", buffer[8];
	int fd = mkstemp(path);

	TAP_CHECK(fd >= 0);
	close(fd);
	TAP_CHECK(!rackwire_proc_write(path, "on", 2));
	TAP_CHECK(rackwire_proc_read(path, buffer, 8) == 2);
	unlink(path);
	TAP_CHECK(rackwire_proc_write("/proc/version", "x", 1) < 0);
}

static void event_pipe__carries_events_in_order(void)
{
	struct rackwire_event_pipe pipe;
	struct rackwire_event event;
	uint32_t i;

	TAP_CHECK(!rackwire_event_pipe_open(&pipe));
	for (i = 0; i < 3; i++)
		TAP_CHECK(!rackwire_event_pipe_send(&pipe, i, i + 1, 1ULL << 40));
	for (i = 0; i < 3; i++) {
		TAP_CHECK(read(pipe.read_fd, &event, sizeof(event)) ==
			  sizeof(event));
		TAP_CHECK(event.kind == i && event.detail == i + 1);
		TAP_CHECK(event.value == 1ULL << 40);
	}
	rackwire_event_pipe_close(&pipe);
	rackwire_event_pipe_close(&pipe);
}

static void event_pipe__never_waits_for_its_reader(void)
{
	struct rackwire_event_pipe pipe;
	int sent = 0, err;

	TAP_CHECK(!rackwire_event_pipe_open(&pipe));
	while (!(err = rackwire_event_pipe_send(&pipe, 1, 2, 3)))
		sent++;
	TAP_CHECK(err == -EAGAIN);
	TAP_CHECK(sent == 4096);
	rackwire_event_pipe_close(&pipe);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(proc_read__reads_a_kernel_file),
		TAP_TEST(proc_read__tells_full_from_too_small),
		TAP_TEST(proc_list__lists_names),
		TAP_TEST(proc_write__writes_and_reports),
		TAP_TEST(event_pipe__carries_events_in_order),
		TAP_TEST(event_pipe__never_waits_for_its_reader),
	};

	return TAP_RUN(tests, argc, argv);
}
