// SPDX-License-Identifier: BSD-2-Clause
#include "control_socket.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"

#define CLIENT_TIMEOUT_NS 1000000000ULL
#define STACK (256 << 10)

struct rackwire_control {
	int fd, stop_fd;
	pthread_t thread;
	bool running;
	rackwire_control_answer answer;
	void *context;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

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

static int control_directory(const char *directory, char *path, size_t size)
{
	const char *given = directory && directory[0] ? directory : getenv("RACKWIRE_RUNTIME_DIR");
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
static void sweep(const char *directory, const char *prefix)
{
	size_t skip = strlen(prefix);
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct dirent *entry;
	DIR *dir = opendir(directory);
	struct stat st;
	int fd, pid;

	while (dir && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, prefix, skip) ||
		    sscanf(entry->d_name + skip, "-%d", &pid) != 1 || pid <= 0 || !kill(pid, 0) || errno != ESRCH ||
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

/* Several of a process get a number behind the process id. */
static int control_bind(struct rackwire_control *control, const char *directory, const char *prefix)
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
		if (snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/%s-%d%s.sock", directory, prefix,
			     (int)getpid(), suffix) >= (int)sizeof(sun.sun_path))
			break;
		if (!bind(fd, (struct sockaddr *)&sun, sizeof(sun)) && !listen(fd, 8)) {
			snprintf(control->path, sizeof(control->path), "%s", sun.sun_path);
			return fd;
		}
		if (errno != EADDRINUSE)
			break;
	}
	close(fd);
	return -EADDRINUSE;
}

/* Wait for the client, but not for ever and not when closing. */
static bool client_ready(const struct rackwire_control *control, int fd, short events, uint64_t until)
{
	struct pollfd fds[2] = { { .fd = fd, .events = events }, { .fd = control->stop_fd, .events = POLLIN } };
	uint64_t now = rackwire_now_ns();

	if (now >= until || poll(fds, 2, (int)((until - now) / 1000000) + 1) <= 0)
		return false;
	return !fds[1].revents && fds[0].revents;
}

static void answer(const struct rackwire_control *control, int fd, const char *text, size_t length, uint64_t until)
{
	ssize_t n;

	while (length && client_ready(control, fd, POLLOUT, until)) {
		n = send(fd, text, length, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return;
		if (n > 0) {
			text += n;
			length -= (size_t)n;
		}
	}
}

static void serve(struct rackwire_control *control, int fd)
{
	static const char unknown[] = "{\"error\": \"unknown request; ask for stat\"}\n";
	uint64_t until = rackwire_now_ns() + CLIENT_TIMEOUT_NS;
	socklen_t len = sizeof(struct ucred);
	struct ucred peer;
	char line[64], *json;
	size_t got = 0;
	ssize_t n;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || (peer.uid && peer.uid != geteuid()))
		return;
	while (got < sizeof(line) && !memchr(line, '\n', got)) {
		if (!client_ready(control, fd, POLLIN, until))
			return;
		n = recv(fd, line + got, sizeof(line) - got, MSG_DONTWAIT);
		if (n <= 0)
			return;
		got += (size_t)n;
	}
	if (got < 5 || memcmp(line, "stat\n", 5)) {
		answer(control, fd, unknown, sizeof(unknown) - 1, until);
		return;
	}
	n = control->answer(control->context, &json);
	if (n < 0)
		return;
	answer(control, fd, json, (size_t)n, until);
	free(json);
}

static void *control_main(void *arg)
{
	struct rackwire_control *control = arg;
	struct pollfd fds[2] = { { .fd = control->fd, .events = POLLIN },
				 { .fd = control->stop_fd, .events = POLLIN } };

	pthread_setname_np(pthread_self(), "rw-control");
	for (;;) {
		int fd;

		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			break;
		if (fds[1].revents)
			break;
		fd = accept4(control->fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			continue;
		serve(control, fd);
		close(fd);
	}
	return NULL;
}

/* Signals are for the application's threads. */
static int start(struct rackwire_control *control)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int err;

	sigfillset(&all);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&control->thread, &attr, control_main, control);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	control->running = !err;
	return -err;
}

int rackwire_control_open(const char *prefix, const char *directory, rackwire_control_answer answer, void *context,
			  struct rackwire_control **out)
{
	struct rackwire_control *control;
	char path[96];
	int err;

	err = control_directory(directory, path, sizeof(path));
	if (err)
		return err;
	sweep(path, prefix);
	control = calloc(1, sizeof(*control));
	if (!control)
		return -ENOMEM;
	control->answer = answer;
	control->context = context;
	control->stop_fd = -1;
	control->fd = control_bind(control, path, prefix);
	err = control->fd < 0 ? control->fd : 0;
	if (!err) {
		control->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		err = control->stop_fd < 0 ? -errno : start(control);
	}
	if (err) {
		rackwire_control_close(control);
		return err;
	}
	*out = control;
	return 0;
}

const char *rackwire_control_path(const struct rackwire_control *control)
{
	return control->path;
}

void rackwire_control_close(struct rackwire_control *control)
{
	uint64_t one = 1;

	if (!control)
		return;
	if (control->running) {
		while (write(control->stop_fd, &one, sizeof(one)) < 0 && errno == EINTR)
			;
		pthread_join(control->thread, NULL);
	}
	if (control->path[0])
		unlink(control->path);
	if (control->fd >= 0)
		close(control->fd);
	if (control->stop_fd >= 0)
		close(control->stop_fd);
	free(control);
}
