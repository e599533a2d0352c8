// SPDX-License-Identifier: BSD-2-Clause
/* Several processes of one user on one address and port. */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "pair.h"

#define ECHO_BYTES 20000

/* A process beside us, with a pipe each way. */
struct child {
	pid_t pid;
	int to, from;
};

static struct child start(int (*body)(int in, int out))
{
	struct child c;
	int in[2], out[2];

	test_udp_port(); /* the parent's */
	if (pipe(in) || pipe(out))
		abort();
	fflush(stdout);
	c.pid = fork();
	if (!c.pid) {
		close(in[1]);
		close(out[0]);
		alarm(60);
		_exit(body(in[0], out[1]));
	}
	close(in[0]);
	close(out[1]);
	c.to = in[1];
	c.from = out[0];
	return c;
}

static int hear(int fd)
{
	int word = -1;

	return read(fd, &word, sizeof(word)) == sizeof(word) ? word : -1;
}

static void say(int fd, int word)
{
	if (write(fd, &word, sizeof(word)) != sizeof(word))
		abort();
}

/* Return: exit status, or 128 + signal. */
static int finish(struct child *c)
{
	int status;

	close(c->to);
	close(c->from);
	if (waitpid(c->pid, &status, 0) != c->pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static bool echo_client(struct end *e, int turns)
{
	struct rackwire_roce_wc wc;
	int i, k;

	for (i = 0; i < turns; i++) {
		if (end_post_recv(e, 65536, ECHO_BYTES, 1))
			return false;
		fill(e->memory, ECHO_BYTES, (uint32_t)i + 100);
		if (end_post(e, RACKWIRE_ROCE_WR_SEND, 0, ECHO_BYTES, 0, 0, 2))
			return false;
		for (k = 0; k < 2; k++)
			if (end_complete(e, &wc))
				return false;
		if (!filled(e->memory + 65536, ECHO_BYTES, (uint32_t)i + 100))
			return false;
	}
	return true;
}

/* Until the client disconnects. */
static bool echo_server(struct end *e)
{
	struct rackwire_roce_wc wc;
	int status;

	for (;;) {
		do {
			status = end_complete(e, &wc);
			if (status)
				return status == RACKWIRE_ROCE_WC_WR_FLUSH_ERR;
		} while (wc.opcode != RACKWIRE_ROCE_WC_RECV);
		if (end_post_recv(e, 0, ECHO_BYTES, 1) ||
		    end_post(e, RACKWIRE_ROCE_WR_SEND, 0, ECHO_BYTES, 0, 0, 2))
			return true; /* disconnected in between */
	}
}

/* Serve one client; say the port. */
static int child_server(int in, int out)
{
	struct rackwire_roce_cm_id *listener;
	struct end e;
	bool ok;

	(void)in;
	if (end_open(&e, "127.0.0.1", 0) || end_listen(&e, 0, &listener))
		return 2;
	say(out, rackwire_roce_cm_port(listener));
	end_post_recv(&e, 0, ECHO_BYTES, 1);
	if (end_accept(&e))
		return 3;
	ok = echo_server(&e);
	end_close(&e);
	return ok ? 0 : 4;
}

/* Told a port, be a client there. */
static int child_client(int in, int out)
{
	struct end e;
	int port = hear(in);

	if (end_open(&e, "127.0.0.1", 0) || end_connect(&e, "127.0.0.1", (uint16_t)port) || end_established(&e))
		return 2;
	if (!echo_client(&e, 50))
		return 3;
	(void)out;
	end_close(&e);
	return 0;
}

/* Be there, and leave when told. */
static int child_guest(int in, int out)
{
	struct rackwire_roce_dev *dev;

	if (dev_open("127.0.0.1", 0, &dev))
		return 2;
	say(out, 1);
	hear(in);
	rackwire_roce_close(dev);
	return 0;
}

static void share__client_here_server_there(void)
{
	struct child server = start(child_server);
	struct rackwire_roce_dev_info info = { .size = sizeof(info) };
	struct end e;
	int port = hear(server.from);

	TAP_CHECK(port > 0);
	TAP_CHECK(!end_open(&e, "127.0.0.1", 0));
	TAP_CHECK(!rackwire_roce_dev_info(e.dev, &info) && info.processes == 2);
	TAP_CHECK(!end_connect(&e, "127.0.0.1", (uint16_t)port) && !end_established(&e));
	TAP_CHECK(echo_client(&e, 100));
	end_close(&e);
	TAP_CHECK(finish(&server) == 0);
}

static void share__server_here_client_there(void)
{
	struct child client = start(child_client);
	struct rackwire_roce_cm_id *listener;
	struct end e;

	TAP_CHECK(!end_open(&e, "127.0.0.1", 0));
	TAP_CHECK(!end_listen(&e, 0, &listener));
	TAP_CHECK(!end_post_recv(&e, 0, ECHO_BYTES, 1));
	say(client.to, rackwire_roce_cm_port(listener));
	TAP_CHECK(!end_accept(&e));
	TAP_CHECK(echo_server(&e));
	TAP_CHECK(finish(&client) == 0);
	end_close(&e);
}

static uint64_t forwarded(struct end *e)
{
	struct rackwire_roce_dev_stats stats;

	rackwire_roce_dev_stats(e->dev, &stats);
	return stats.forwarded;
}

/* A member of the group goes; the kernel moves another into its place. */
static void member_leaves(int number)
{
	struct child server, guest;
	struct end e;
	uint64_t before;
	int port, i;

	/* In this order the guest leaves a gap before us. */
	server = start(child_server);
	port = hear(server.from);
	TAP_CHECK(port > 0);
	guest = start(child_guest);
	TAP_CHECK(hear(guest.from) == 1);
	TAP_CHECK(!end_open(&e, "127.0.0.1", 0));
	TAP_CHECK(!end_connect(&e, "127.0.0.1", (uint16_t)port) && !end_established(&e));
	TAP_CHECK(echo_client(&e, 20));
	if (number)
		kill(guest.pid, number);
	TAP_CHECK(finish(&guest) == (number ? 128 + number : 0));
	TAP_CHECK(echo_client(&e, 20));
	/* The steering is right again within moments: nothing is handed on any more. */
	for (i = 0; i < 20; i++) {
		before = forwarded(&e);
		TAP_CHECK(echo_client(&e, 20));
		if (forwarded(&e) == before && i)
			break;
		usleep(30000);
	}
	TAP_CHECK(i < 20);
	end_close(&e);
	TAP_CHECK(finish(&server) == 0);
}

static void share__member_closes(void)
{
	member_leaves(0);
}

static void share__member_is_killed(void)
{
	member_leaves(SIGKILL);
}

/* It has the first place in the group, where the kernel puts what nobody claims. */
static void share__frozen_member_is_in_nobodys_way(void)
{
	struct child guest, server;
	struct end e;
	int port;

	guest = start(child_guest);
	TAP_CHECK(hear(guest.from) == 1);
	kill(guest.pid, SIGSTOP);
	server = start(child_server);
	port = hear(server.from);
	TAP_CHECK(port > 0);
	TAP_CHECK(!end_open(&e, "127.0.0.1", 0));
	TAP_CHECK(!end_connect(&e, "127.0.0.1", (uint16_t)port) && !end_established(&e));
	TAP_CHECK(echo_client(&e, 20));
	end_close(&e);
	TAP_CHECK(finish(&server) == 0);
	kill(guest.pid, SIGCONT);
	TAP_CHECK(finish(&guest) == 0);
}

/* The server is killed; who comes next has its slot, its place and its port. */
static void share__server_is_killed_and_comes_back(void)
{
	struct child server = start(child_server);
	struct end e;
	int port = hear(server.from);

	TAP_CHECK(port > 0);
	TAP_CHECK(!end_open(&e, "127.0.0.1", 0));
	TAP_CHECK(!end_connect(&e, "127.0.0.1", (uint16_t)port) && !end_established(&e));
	TAP_CHECK(echo_client(&e, 5));
	kill(server.pid, SIGKILL);
	TAP_CHECK(finish(&server) == 128 + SIGKILL);
	end_clear(&e);
	server = start(child_server);
	port = hear(server.from);
	TAP_CHECK(port > 0);
	TAP_CHECK(!end_init(&e, e.dev));
	e.own_dev = true;
	TAP_CHECK(!end_connect(&e, "127.0.0.1", (uint16_t)port) && !end_established(&e));
	TAP_CHECK(echo_client(&e, 20));
	end_close(&e);
	TAP_CHECK(finish(&server) == 0);
}

/* A dozen at a time, each with traffic of its own. */
static void share__many_processes(void)
{
	enum { N = 6 };
	struct child servers[N];
	struct end ends[N];
	int i, port;

	for (i = 0; i < N; i++) {
		servers[i] = start(child_server);
		port = hear(servers[i].from);
		TAP_CHECK(port > 0);
		TAP_CHECK(!end_open(&ends[i], "127.0.0.1", 0));
		TAP_CHECK(!end_connect(&ends[i], "127.0.0.1", (uint16_t)port) && !end_established(&ends[i]));
	}
	for (i = 0; i < N; i++)
		TAP_CHECK(echo_client(&ends[i], 20));
	for (i = 0; i < N; i++) {
		end_close(&ends[i]);
		TAP_CHECK(finish(&servers[i]) == 0);
		if (i + 1 < N)
			TAP_CHECK(echo_client(&ends[i + 1], 5));
	}
}

static int child_other_user(int in, int out)
{
	struct rackwire_roce_config config = { .size = sizeof(config), .udp_port = test_udp_port(), .local = "127.0.0.1" };
	struct rackwire_roce_dev *dev;
	char error[RACKWIRE_ROCE_ERROR_LEN] = "";

	(void)in;
	unsetenv("XDG_RUNTIME_DIR");
	if (setgid(65534) || setuid(65534))
		return 2;
	say(out, rackwire_roce_open(&config, &dev, error, sizeof(error)));
	return strstr(error, "taken by another user") && !strchr(error, '\n') ? 0 : 3;
}

static void share__another_user_is_refused(void)
{
	struct rackwire_roce_dev *dev;
	struct child other;

	if (geteuid())
		TAP_SKIP("only root can be another user");
	TAP_CHECK(!dev_open("127.0.0.1", 0, &dev));
	other = start(child_other_user);
	TAP_CHECK(hear(other.from) == -EADDRINUSE);
	TAP_CHECK(finish(&other) == 0);
	rackwire_roce_close(dev);
}

static int child_stranger(int in, int out)
{
	char directory[] = "/tmp/roce-test-XXXXXX";
	struct rackwire_roce_dev *dev;

	(void)in;
	if (!mkdtemp(directory))
		return 2;
	setenv("RACKWIRE_RUNTIME_DIR", directory, 1);
	say(out, dev_open("127.0.0.1", 0, &dev));
	return rmdir(directory) ? 3 : 0;
}

/* Who does not know the books must not be in the group: the kernel would give it our packets. */
static void share__other_books_are_refused(void)
{
	struct rackwire_roce_dev *dev;
	struct child other;

	TAP_CHECK(!dev_open("127.0.0.1", 0, &dev));
	other = start(child_stranger);
	TAP_CHECK(hear(other.from) == -EADDRINUSE);
	TAP_CHECK(finish(&other) == 0);
	rackwire_roce_close(dev);
}

static void share__a_port_has_one_listener(void)
{
	struct rackwire_roce_dev *a, *b, *c;
	struct rackwire_roce_cm_id *first, *second;

	TAP_CHECK(!dev_open("127.0.0.1", 0, &a) && !dev_open("127.0.0.1", 0, &b) && !dev_open("127.0.0.2", 0, &c));
	TAP_CHECK(!rackwire_roce_listen(a, CM_PORT, 0, NULL, &first));
	TAP_CHECK(rackwire_roce_cm_port(first) == CM_PORT);
	TAP_CHECK(rackwire_roce_listen(b, CM_PORT, 0, NULL, &second) == -EADDRINUSE);
	TAP_CHECK(!rackwire_roce_listen(c, CM_PORT, 0, NULL, &second));
	rackwire_roce_cm_destroy(first);
	TAP_CHECK(!rackwire_roce_listen(b, CM_PORT, 0, NULL, &first));
	rackwire_roce_close(a);
	rackwire_roce_close(b);
	rackwire_roce_close(c);
}

/* Nobody listens there: a connection request is refused at once, whichever process got it. */
static void share__nobody_listens(void)
{
	struct child guest = start(child_guest);
	struct rackwire_roce_cm_event event;
	struct end e;

	TAP_CHECK(hear(guest.from) == 1);
	TAP_CHECK(!end_open(&e, "127.0.0.1", 0));
	TAP_CHECK(!end_connect(&e, "127.0.0.1", CM_PORT));
	TAP_CHECK(rackwire_roce_cm_wait(e.dev, &event, 10 * SECOND) == 1);
	TAP_CHECK(event.kind == RACKWIRE_ROCE_CM_REJECTED && event.status == RACKWIRE_ROCE_REJ_INVALID_SERVICE_ID);
	end_close(&e);
	TAP_CHECK(finish(&guest) == 0);
}

static void share__nothing_is_left(void)
{
	char directory[] = "/tmp/roce-test-XXXXXX";
	struct rackwire_roce_dev *a, *b;

	TAP_CHECK(mkdtemp(directory));
	setenv("RACKWIRE_RUNTIME_DIR", directory, 1);
	TAP_CHECK(!dev_open("127.0.0.1", 0, &a) && !dev_open("", 0, &b));
	rackwire_roce_close(a);
	rackwire_roce_close(b);
	unsetenv("RACKWIRE_RUNTIME_DIR");
	TAP_CHECK(!rmdir(directory));
}

/* Without a directory of its own a device works, alone. */
static void share__no_directory(void)
{
	struct rackwire_roce_dev *dev, *second;
	struct rackwire_roce_dev_info info = { .size = sizeof(info) };
	struct end a, b;

	setenv("RACKWIRE_RUNTIME_DIR", "/proc/nothing", 1);
	TAP_CHECK(!dev_open("127.0.0.1", 0, &dev));
	TAP_CHECK(dev_open("127.0.0.1", 0, &second) == -EADDRINUSE);
	unsetenv("RACKWIRE_RUNTIME_DIR");
	TAP_CHECK(!rackwire_roce_dev_info(dev, &info) && info.processes == 1);
	TAP_CHECK(!end_init(&a, dev) && !end_init(&b, dev));
	TAP_CHECK(!pair_connect(&a, &b, "127.0.0.1"));
	end_clear(&a);
	end_clear(&b);
	rackwire_roce_close(dev);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(share__client_here_server_there),
		TAP_TEST(share__server_here_client_there),
		TAP_TEST(share__member_closes),
		TAP_TEST(share__member_is_killed),
		TAP_TEST(share__frozen_member_is_in_nobodys_way),
		TAP_TEST(share__server_is_killed_and_comes_back),
		TAP_TEST(share__many_processes),
		TAP_TEST(share__another_user_is_refused),
		TAP_TEST(share__other_books_are_refused),
		TAP_TEST(share__a_port_has_one_listener),
		TAP_TEST(share__nobody_listens),
		TAP_TEST(share__nothing_is_left),
		TAP_TEST(share__no_directory),
	};

	return TAP_RUN(tests, argc, argv);
}
