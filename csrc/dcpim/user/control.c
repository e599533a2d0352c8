// SPDX-License-Identifier: BSD-2-Clause
/*
 * The control socket, a private unix socket that answers "stat" with a JSON
 * document. It has a thread of its own, so that a slow or hostile client delays
 * nothing but other clients, and those only for CLIENT_TIMEOUT.
 */
#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"
#include "shard.h"

#define CLIENT_TIMEOUT_NS 1000000000ULL
#define STACK (256 << 10)

/* Only the owner may be able to look into or write to the directory. */
static int private_directory(const char *path)
{
	struct stat st;

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return -errno;
	if (lstat(path, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || st.st_mode & 077)
		return -EPERM;
	return 0;
}

static int control_directory(char *path, size_t size)
{
	const char *given = getenv("RACKWIRE_RUNTIME_DIR");
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	struct stat st;

	if (given && given[0])
		return snprintf(path, size, "%s", given) < (int)size ? private_directory(path) : -ENAMETOOLONG;
	if (!geteuid()) {
		snprintf(path, size, "/run/rackwire");
		return private_directory(path);
	}
	if (runtime && runtime[0] == '/' && !stat(runtime, &st) && st.st_uid == geteuid() &&
	    snprintf(path, size, "%s/rackwire", runtime) < (int)size && !private_directory(path))
		return 0;
	/* Anybody may make directories in /tmp: the owner check counts. */
	snprintf(path, size, "/tmp/rackwire-%u", (unsigned int)geteuid());
	return private_directory(path);
}

/* What killed processes left behind would pile up. */
static void sweep(const char *directory)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct dirent *entry;
	DIR *dir = opendir(directory);
	struct stat st;
	int fd, pid;

	while (dir && (entry = readdir(dir))) {
		if (sscanf(entry->d_name, "dcpim-%d", &pid) != 1 || pid <= 0 || !kill(pid, 0) || errno != ESRCH ||
		    snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/%s", directory, entry->d_name) >=
			    (int)sizeof(sun.sun_path) ||
		    lstat(sun.sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
			continue;
		/* The process may live in another PID namespace. */
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (fd < 0)
			break;
		if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0 && errno == ECONNREFUSED)
			unlink(sun.sun_path);
		close(fd);
	}
	if (dir)
		closedir(dir);
}

/* Several engines of a process get a number behind the process id. */
static int control_bind(struct rackwire_dcpim_engine *e, const char *directory)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd, i;

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	fchmod(fd, 0600); /* of the file that bind() makes */
	for (i = 0; i < 64; i++) {
		char suffix[16] = "";

		if (i)
			snprintf(suffix, sizeof(suffix), "-%d", i);
		if (snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/dcpim-%d%s.sock", directory, (int)getpid(),
			     suffix) >= (int)sizeof(sun.sun_path))
			break;
		if (!bind(fd, (struct sockaddr *)&sun, sizeof(sun)) && !listen(fd, 8)) {
			snprintf(e->control_path, sizeof(e->control_path), "%s", sun.sun_path);
			return fd;
		}
		if (errno != EADDRINUSE)
			break;
	}
	close(fd);
	return -EADDRINUSE;
}

/* Wait for the client, but not for ever and not when the engine is closing. */
static bool client_ready(const struct rackwire_dcpim_engine *e, int fd, short events, u64 until)
{
	struct pollfd fds[2] = { { .fd = fd, .events = events }, { .fd = e->control_stop_fd, .events = POLLIN } };
	u64 now = rackwire_now_ns();

	if (now >= until || poll(fds, 2, (int)((until - now) / 1000000) + 1) <= 0)
		return false;
	return !fds[1].revents && fds[0].revents;
}

static void answer(const struct rackwire_dcpim_engine *e, int fd, const char *text, size_t length, u64 until)
{
	ssize_t n;

	while (length && client_ready(e, fd, POLLOUT, until)) {
		n = send(fd, text, length, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return;
		if (n > 0) {
			text += n;
			length -= (size_t)n;
		}
	}
}

static void serve(struct rackwire_dcpim_engine *e, int fd)
{
	static const char unknown[] = "{\"error\": \"unknown request; ask for stat\"}\n";
	u64 until = rackwire_now_ns() + CLIENT_TIMEOUT_NS;
	socklen_t len = sizeof(struct ucred);
	struct ucred peer;
	char line[64], *json;
	size_t got = 0;
	ssize_t n;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || (peer.uid && peer.uid != geteuid()))
		return;
	while (got < sizeof(line) && !memchr(line, '\n', got)) {
		if (!client_ready(e, fd, POLLIN, until))
			return;
		n = recv(fd, line + got, sizeof(line) - got, MSG_DONTWAIT);
		if (n <= 0)
			return;
		got += (size_t)n;
	}
	if (got < 5 || memcmp(line, "stat\n", 5)) {
		answer(e, fd, unknown, sizeof(unknown) - 1, until);
		return;
	}
	n = dcpim_engine_json(e, &json);
	if (n < 0)
		return;
	answer(e, fd, json, (size_t)n, until);
	free(json);
}

static void *control_main(void *arg)
{
	struct rackwire_dcpim_engine *e = arg;
	struct pollfd fds[2] = { { .fd = e->control_fd, .events = POLLIN },
				 { .fd = e->control_stop_fd, .events = POLLIN } };

	pthread_setname_np(pthread_self(), "dcpim-control");
	for (;;) {
		int fd;

		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			break;
		if (fds[1].revents)
			break;
		fd = accept4(e->control_fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			continue;
		serve(e, fd);
		close(fd);
	}
	return NULL;
}

int dcpim_control_start(struct rackwire_dcpim_engine *e)
{
	char directory[96];
	int err;

	e->control_fd = e->control_stop_fd = -1;
	if (e->config.flags & RACKWIRE_DCPIM_NO_CONTROL)
		return 0;
	err = control_directory(directory, sizeof(directory));
	if (err)
		return err;
	sweep(directory);
	e->control_fd = control_bind(e, directory);
	if (e->control_fd < 0)
		return e->control_fd;
	e->control_stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (e->control_stop_fd < 0)
		err = -errno;
	else
		err = dcpim_thread_create(&e->control_thread, control_main, e, STACK);
	e->control_running = !err;
	if (err)
		dcpim_control_stop(e);
	return err;
}

void dcpim_control_stop(struct rackwire_dcpim_engine *e)
{
	u64 one = 1;

	if (e->control_running) {
		while (write(e->control_stop_fd, &one, sizeof(one)) < 0 && errno == EINTR)
			;
		pthread_join(e->control_thread, NULL);
		e->control_running = false;
	}
	if (e->control_path[0])
		unlink(e->control_path);
	e->control_path[0] = 0;
	if (e->control_fd >= 0)
		close(e->control_fd);
	if (e->control_stop_fd >= 0)
		close(e->control_stop_fd);
	e->control_fd = e->control_stop_fd = -1;
}

ssize_t rackwire_dcpim_control_path(struct rackwire_dcpim_engine *e, char *path, size_t length)
{
	if (path && length)
		snprintf(path, length, "%s", e->control_path);
	return (ssize_t)strlen(e->control_path);
}
