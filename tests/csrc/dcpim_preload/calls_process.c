// SPDX-License-Identifier: BSD-2-Clause
/* Threads that fight over descriptor numbers, children, programs run from here. */
#include <sys/wait.h>

#include "calls.h"

#define THREADS 4
#define ROUNDS 400

struct fighter {
	pthread_t thread;
	unsigned int seed;
	int failed; /* line */
	struct sockaddr_in at;
};

#define MUST(condition)					\
	do {						\
		if (!(condition)) {			\
			f->failed = __LINE__;		\
			return;				\
		}					\
	} while (0)

/* Every number is open()ed, socket()ed and dup()ed by all threads in turn; none may see another's. */
static void fight_once(struct fighter *f)
{
	int file = open("/dev/zero", O_RDONLY), fd, copy, pipes[2];
	char byte = 1;

	MUST(file >= 0 && !pipe(pipes));
	fd = socket(PF_INET, SOCK_DGRAM | SOCK_NONBLOCK, DCPIM);
	MUST(fd >= 0);
	MUST(read(file, &byte, 1) == 1 && byte == 0);
	copy = dup(fd);
	MUST(copy >= 0 && FAILS((int)read(copy, &byte, 1), ENOTCONN));
	MUST(dup2(file, copy) == copy && read(copy, &byte, 1) == 1 && byte == 0);
	MUST(FAILS((int)read(fd, &byte, 1), ENOTCONN));
	MUST(write(pipes[1], "p", 1) == 1 && read(pipes[0], &byte, 1) == 1 && byte == 'p');
	if (rand_r(&f->seed) % 4 == 0) {
		int flags = fcntl(fd, F_GETFL);

		fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
		MUST(!connect(fd, (struct sockaddr *)&f->at, sizeof(f->at)));
		MUST(write(fd, "h", 1) == 1);
		MUST(read(fd, &byte, 1) == 1 && byte == 'h');
	}
	MUST(!close(fd) && !close(file) && !close(copy) && !close(pipes[0]) && !close(pipes[1]));
}

static void *fight(void *arg)
{
	struct fighter *f = arg;
	int i;

	for (i = 0; i < ROUNDS && !f->failed; i++)
		fight_once(f);
	return NULL;
}

struct echo {
	int listener;
};

static void *echo(void *arg)
{
	struct echo *e = arg;
	char byte;
	int fd;

	while ((fd = accept(e->listener, NULL, NULL)) >= 0) {
		int last = recv(fd, &byte, 1, 0) == 1 && byte == 'q';

		if (write(fd, &byte, 1) < 0)
			last = 0;
		close(fd);
		if (last)
			break;
	}
	return NULL;
}

static void threads__fight_over_descriptor_numbers(void)
{
	struct fighter fighters[THREADS] = { 0 };
	struct sockaddr_in at;
	struct echo e = { .listener = listening(SOCK_DGRAM, &at) };
	pthread_t server;
	int i, fd;

	pthread_create(&server, NULL, echo, &e);
	for (i = 0; i < THREADS; i++) {
		fighters[i].seed = (unsigned int)i;
		fighters[i].at = at;
		pthread_create(&fighters[i].thread, NULL, fight, &fighters[i]);
	}
	for (i = 0; i < THREADS; i++)
		pthread_join(fighters[i].thread, NULL);
	fd = socket(PF_INET, SOCK_DGRAM, DCPIM);
	TAP_CHECK(!connect(fd, (struct sockaddr *)&at, sizeof(at)) && write(fd, "q", 1) == 1);
	pthread_join(server, NULL);
	close(fd);
	close(e.listener);
	for (i = 0; i < THREADS; i++) {
		if (fighters[i].failed)
			printf("# thread %d: line %d\n", i, fighters[i].failed);
		TAP_CHECK(!fighters[i].failed);
	}
}

static void *read_byte(void *arg)
{
	char byte;

	return (void *)(intptr_t)read(*(int *)arg, &byte, 1);
}

/* As in the kernel, the call under way keeps the connection. */
static void close__while_another_thread_reads(void)
{
	struct timespec pause = { .tv_nsec = 50000000 };
	pthread_t thread;
	void *result;
	int fds[2], closed;

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	closed = fds[0];
	pthread_create(&thread, NULL, read_byte, &closed);
	nanosleep(&pause, NULL);
	TAP_CHECK(!close(fds[0]));
	TAP_CHECK(write(fds[1], "a", 1) == 1);
	pthread_join(thread, &result);
	TAP_CHECK((intptr_t)result == 1);
	close(fds[1]);
}

static void fork__child_has_no_connection(void)
{
	int fds[2], status;
	char byte;
	pid_t child;

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	child = fork();
	if (!child) {
		ssize_t n = read(fds[0], &byte, 1);
		int good = n == -1 && (errno == ENOTCONN || errno == EBADF);

		n = send(fds[0], "x", 1, MSG_NOSIGNAL);
		good = good && n == -1 && (errno == ENOTCONN || errno == EBADF);
		good = good && !close(fds[0]) && !close(fds[1]);
		exit(good ? 0 : 1);
	}
	TAP_CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	TAP_CHECK(write(fds[1], "a", 1) == 1 && read(fds[0], &byte, 1) == 1);
	close_pair(fds);
}

static void fork__child_may_start_anew(void)
{
	int fds[2], status;
	pid_t child;

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	child = fork();
	if (!child) {
		int own[2];
		char byte;

		if (make_pair(SOCK_DGRAM, 0, own) || write(own[0], "c", 1) != 1 || read(own[1], &byte, 1) != 1)
			_exit(1);
		exit(byte == 'c' ? 0 : 2);
	}
	TAP_CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	close_pair(fds);
}

/* A child of vfork() has descriptors of its own but this memory. */
static void vfork__child_that_closes_leaves_ours_alone(void)
{
	int fds[2], status;
	char byte;
	pid_t child;

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	child = vfork();
	if (!child) {
		close(fds[0]);
		dup2(0, fds[1]);
		execlp("true", "true", NULL);
		_exit(127);
	}
	TAP_CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	TAP_CHECK(write(fds[1], "a", 1) == 1 && read(fds[0], &byte, 1) == 1 && byte == 'a');
	close_pair(fds);
}

static void system__runs_programs_beside_open_sockets(void)
{
	int fds[2];
	FILE *out;
	char line[16] = "";
	char byte;

	TAP_CHECK(!make_pair(SOCK_DGRAM, 0, fds));
	TAP_CHECK(system("exit 3") == 3 << 8);
	out = popen("echo word", "r");
	TAP_CHECK(out && fgets(line, sizeof(line), out) && !strcmp(line, "word\n") && !pclose(out));
	TAP_CHECK(write(fds[1], "a", 1) == 1 && read(fds[0], &byte, 1) == 1);
	close_pair(fds);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(threads__fight_over_descriptor_numbers),
		TAP_TEST(close__while_another_thread_reads),
		TAP_TEST(fork__child_has_no_connection),
		TAP_TEST(fork__child_may_start_anew),
		TAP_TEST(vfork__child_that_closes_leaves_ours_alone),
		TAP_TEST(system__runs_programs_beside_open_sockets),
	};
	return TAP_RUN(tests, argc, argv);
}
