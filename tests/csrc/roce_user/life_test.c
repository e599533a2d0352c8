// SPDX-License-Identifier: BSD-2-Clause
/* Waiting, waking, notification, many threads, and endings in the middle of things. */
#include <dirent.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>

#include "pair.h"

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static int open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (dir && readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static bool pair_open(struct end *a, struct end *b)
{
	return !end_open(a, "127.0.0.1", 0) && !end_open(b, "127.0.0.2", 0) && !pair_connect(a, b, "127.0.0.2");
}

static void life__nothing_stays_open(void)
{
	struct rackwire_roce_dev *dev;
	struct end a, b;
	int before, i;

	before = open_fds();
	for (i = 0; i < 3; i++) {
		TAP_CHECK(pair_open(&a, &b));
		TAP_CHECK(rackwire_roce_cq_fd(a.cq) >= 0 && rackwire_roce_cm_fd(a.dev) >= 0);
		end_close(&a);
		/* Without giving anything up first. */
		rackwire_roce_close(b.dev);
		free(b.memory);
		TAP_CHECK(open_fds() == before);
	}
	TAP_CHECK(dev_open("203.0.113.7", 0, &dev) == -EADDRNOTAVAIL);
	TAP_CHECK(open_fds() == before);
}

static void life__waiting_times_out(void)
{
	struct end a, b;
	uint64_t begin;

	TAP_CHECK(pair_open(&a, &b));
	begin = now_ns();
	TAP_CHECK(rackwire_roce_cq_wait(a.cq, 30 * MS) == 0);
	TAP_CHECK(now_ns() - begin >= 30 * MS);
	TAP_CHECK(rackwire_roce_cq_wait(a.cq, 0) == 0);
	end_close(&a);
	end_close(&b);
}

static void *wait_for_ever(void *arg)
{
	struct end *e = arg;

	return (void *)(intptr_t)rackwire_roce_cq_wait(e->cq, UINT64_MAX);
}

static void life__waking(void)
{
	pthread_t thread;
	struct end a, b;
	void *result;

	TAP_CHECK(pair_open(&a, &b));
	/* Before the wait: it is remembered, once. */
	rackwire_roce_wake(a.dev);
	TAP_CHECK(rackwire_roce_cq_wait(a.cq, UINT64_MAX) == -ECANCELED);
	TAP_CHECK(rackwire_roce_cq_wait(a.cq, MS) == 0);
	TAP_CHECK(!pthread_create(&thread, NULL, wait_for_ever, &a));
	usleep(20000);
	rackwire_roce_wake(a.dev);
	pthread_join(thread, &result);
	TAP_CHECK((intptr_t)result == -ECANCELED);
	end_close(&a);
	end_close(&b);
}

/* Peers' requests are served though the application is elsewhere, and never comes back. */
static void life__absent_application(void)
{
	struct rackwire_roce_wc wc;
	struct end a, b;
	int i;

	TAP_CHECK(pair_open(&a, &b));
	for (i = 0; i < 20; i++) {
		fill(b.memory, 1000, (uint32_t)i);
		TAP_CHECK(!end_post(&a, RACKWIRE_ROCE_WR_RDMA_READ, 0, 1000, addr_of(&b, 0), rackwire_roce_mr_key(b.mr), 1));
		TAP_CHECK(!end_complete(&a, &wc) && filled(a.memory, 1000, (uint32_t)i));
		usleep(i % 4 * 1000);
	}
	end_close(&a);
	end_close(&b);
}

static bool readable(int fd, int ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	return poll(&pfd, 1, ms) == 1;
}

static void life__descriptor_of_a_queue(void)
{
	struct rackwire_roce_wc wc;
	struct end a, b;
	int fd, i;

	TAP_CHECK(pair_open(&a, &b));
	fd = rackwire_roce_cq_fd(b.cq);
	TAP_CHECK(fd >= 0 && !readable(fd, 0));
	for (i = 0; i < 50; i++) {
		TAP_CHECK(!end_post_recv(&b, 0, 100, (uint64_t)i));
		TAP_CHECK(rackwire_roce_cq_arm(b.cq, 0) == 0);
		TAP_CHECK(!end_post(&a, RACKWIRE_ROCE_WR_SEND, 0, 100, 0, 0, 1));
		TAP_CHECK(readable(fd, 5000));
		rackwire_roce_cq_clear(b.cq);
		TAP_CHECK(!readable(fd, 0));
		TAP_CHECK(rackwire_roce_poll_cq(b.cq, &wc, 1) == 1 && !wc.status && wc.wr_id == (uint64_t)i);
		TAP_CHECK(!end_complete(&a, &wc));
	}
	/* Not armed: nothing is told. Armed too late: it says so. */
	TAP_CHECK(!end_post_recv(&b, 0, 100, 1));
	TAP_CHECK(!end_post(&a, RACKWIRE_ROCE_WR_SEND, 0, 100, 0, 0, 1));
	TAP_CHECK(!end_complete(&a, &wc));
	TAP_CHECK(!readable(fd, 20));
	TAP_CHECK(rackwire_roce_cq_arm(b.cq, 0) == 1);
	end_close(&a);
	end_close(&b);
}

static void life__descriptor_of_events(void)
{
	struct rackwire_roce_cm_id *listener;
	struct rackwire_roce_cm_event event;
	struct end a, b;
	int fd;

	TAP_CHECK(!end_open(&a, "127.0.0.1", 0) && !end_open(&b, "127.0.0.2", 0));
	fd = rackwire_roce_cm_fd(b.dev);
	TAP_CHECK(!end_listen(&b, CM_PORT, &listener));
	TAP_CHECK(!readable(fd, 0));
	TAP_CHECK(!end_connect(&a, "127.0.0.2", CM_PORT));
	TAP_CHECK(readable(fd, 5000));
	TAP_CHECK(rackwire_roce_cm_next(b.dev, &event) == 1 && event.kind == RACKWIRE_ROCE_CM_CONNECT_REQUEST);
	TAP_CHECK(event.listener == listener && !readable(fd, 0));
	TAP_CHECK(!rackwire_roce_reject(event.id, RACKWIRE_ROCE_REJ_CONSUMER, "no", 2));
	TAP_CHECK(rackwire_roce_cm_wait(a.dev, &event, 5 * SECOND) == 1 && event.kind == RACKWIRE_ROCE_CM_REJECTED);
	TAP_CHECK(event.status == RACKWIRE_ROCE_REJ_CONSUMER && !memcmp(event.private_data, "no", 3));
	end_close(&a);
	end_close(&b);
}

/* One end closes while much is under way: the other one's requests complete, as lost. */
static void life__closed_in_the_middle(void)
{
	struct rackwire_roce_wc wc;
	struct end a, b;
	int round, i, status;

	for (round = 0; round < 4; round++) {
		TAP_CHECK(pair_open(&a, &b));
		for (i = 0; i < 64; i++)
			TAP_CHECK(!end_post(&a, i % 2 ? RACKWIRE_ROCE_WR_RDMA_READ : RACKWIRE_ROCE_WR_RDMA_WRITE, 0, MEMORY / 2,
					    addr_of(&b, 0), rackwire_roce_mr_key(b.mr), (uint64_t)i));
		usleep(round * 3000);
		if (round % 2) {
			end_close(&a);
			end_close(&b);
			continue;
		}
		end_close(&b);
		for (i = 0; i < 64; i++) {
			status = end_complete(&a, &wc);
			TAP_CHECK(status >= 0 && wc.wr_id == (uint64_t)i);
		}
		TAP_CHECK(status != RACKWIRE_ROCE_WC_SUCCESS);
		TAP_CHECK(rackwire_roce_qp_state(a.qp) == RACKWIRE_ROCE_QP_ERR);
		end_close(&a);
	}
}

/* A region that goes while packets of it are under way is not read or written any more. */
static void life__region_goes_in_the_middle(void)
{
	struct rackwire_roce_wc wc;
	struct end a, b;
	int i, status = 0;

	TAP_CHECK(pair_open(&a, &b));
	for (i = 0; i < 32; i++)
		TAP_CHECK(!end_post(&a, RACKWIRE_ROCE_WR_RDMA_WRITE, 0, MEMORY, addr_of(&b, 0), rackwire_roce_mr_key(b.mr), 1));
	rackwire_roce_mr_deregister(b.mr);
	b.mr = NULL;
	free(b.memory);
	b.memory = NULL;
	for (i = 0; i < 32 && !status; i++)
		status = end_complete(&a, &wc);
	TAP_CHECK(status == RACKWIRE_ROCE_WC_REM_ACCESS_ERR);
	end_close(&a);
	end_close(&b);
}

/* ---- many threads ---- */

#define THREADS 4
#define TURNS 300

static struct rackwire_roce_dev *shared_a, *shared_b;

struct worker {
	pthread_t thread;
	struct end a, b;
	bool ok;
};

/* Each thread has a queue pair of its own at both ends; all share two devices. */
static bool work(struct worker *w)
{
	struct rackwire_roce_wc wc;
	uint32_t key = rackwire_roce_mr_key(w->b.mr), i, n;

	for (i = 0; i < TURNS; i++) {
		n = 1 + i * 37 % 9000;
		fill(w->a.memory, n, i);
		if (end_post_recv(&w->b, 65536, n, i) ||
		    end_post(&w->a, RACKWIRE_ROCE_WR_RDMA_WRITE, 0, n, addr_of(&w->b, 0), key, i) ||
		    end_post(&w->a, RACKWIRE_ROCE_WR_SEND, 0, n, 0, 0, i))
			return false;
		if (end_complete(&w->b, &wc) || wc.byte_len != n || !filled(w->b.memory, n, i) ||
		    !filled(w->b.memory + 65536, n, i))
			return false;
		if (end_complete(&w->a, &wc) || end_complete(&w->a, &wc))
			return false;
	}
	return true;
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	w->ok = work(w);
	return NULL;
}

static void *stat_main(void *arg)
{
	struct rackwire_roce_dev_info info = { .size = sizeof(info) };
	struct rackwire_roce_dev_stats stats;

	while (!__atomic_load_n((int *)arg, __ATOMIC_RELAXED)) {
		rackwire_roce_dev_info(shared_a, &info);
		rackwire_roce_dev_stats(shared_b, &stats);
		usleep(100);
	}
	return NULL;
}

static void hammer(uint32_t flags)
{
	static struct worker workers[THREADS];
	pthread_t stat;
	int i, stop = 0;

	TAP_CHECK(!dev_open("127.0.0.1", flags, &shared_a) && !dev_open("127.0.0.2", flags, &shared_b));
	for (i = 0; i < THREADS; i++) {
		TAP_CHECK(!end_init(&workers[i].a, shared_a) && !end_init(&workers[i].b, shared_b));
		TAP_CHECK(!pair_connect(&workers[i].a, &workers[i].b, "127.0.0.2"));
	}
	TAP_CHECK(!pthread_create(&stat, NULL, stat_main, &stop));
	for (i = 0; i < THREADS; i++)
		TAP_CHECK(!pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]));
	for (i = 0; i < THREADS; i++)
		pthread_join(workers[i].thread, NULL);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(stat, NULL);
	for (i = 0; i < THREADS; i++) {
		TAP_CHECK(workers[i].ok);
		end_clear(&workers[i].a);
		end_clear(&workers[i].b);
	}
	rackwire_roce_close(shared_a);
	rackwire_roce_close(shared_b);
}

static void life__many_threads(void)
{
	hammer(0);
}

static void life__many_threads_without_ours(void)
{
	hammer(RACKWIRE_ROCE_NO_THREAD);
}

/* A child of fork() holds nothing of ours: neither the address nor the slot. */
static void life__fork(void)
{
	struct rackwire_roce_dev_info info = { .size = sizeof(info) };
	struct end a, b;
	int gate[2];
	pid_t child;
	char byte;

	TAP_CHECK(pair_open(&a, &b));
	TAP_CHECK(!pipe(gate));
	child = fork();
	if (!child) {
		close(gate[1]);
		_exit(read(gate[0], &byte, 1) != 0);
	}
	close(gate[0]);
	end_close(&a);
	end_close(&b);
	TAP_CHECK(pair_open(&a, &b));
	TAP_CHECK(!rackwire_roce_dev_info(a.dev, &info) && info.processes == 1);
	end_close(&a);
	end_close(&b);
	close(gate[1]);
	TAP_CHECK(waitpid(child, NULL, 0) == child);
}

static void life__facts(void)
{
	static const char *const locals[] = { "127.0.0.1", "", "::1" };
	struct rackwire_roce_dev_info info = { .size = sizeof(info) };
	struct rackwire_roce_dev *dev;
	uint32_t i;

	for (i = 0; i < 3; i++) {
		if (dev_open(locals[i], i ? 0 : RACKWIRE_ROCE_NO_GSO, &dev))
			TAP_SKIP("this machine has no IPv6");
		TAP_CHECK(!rackwire_roce_dev_info(dev, &info));
		TAP_CHECK(!strcmp(info.local, locals[i]) && info.mtu == 4096 && info.rcvbuf > 100000);
		TAP_CHECK(info.gso == (i > 0) && info.gro == (i > 0) && info.thread == 1);
		/* Root sees what the kernel puts into IPv4 headers. */
		TAP_CHECK(info.id_probe == (i < 2 && !geteuid()));
		info.size = 1;
		TAP_CHECK(rackwire_roce_dev_info(dev, &info) == -EINVAL);
		info.size = sizeof(info);
		rackwire_roce_close(dev);
	}
}

static void life__bad_configurations(void)
{
	const struct rackwire_roce_config good = { .size = sizeof(good), .udp_port = test_udp_port(), .local = "127.0.0.1" };
	struct rackwire_roce_config c;
	struct rackwire_roce_dev *dev;
	char error[RACKWIRE_ROCE_ERROR_LEN];

#define REFUSED(change, err)                                                                      \
	do {                                                                                      \
		c = good;                                                                         \
		change;                                                                           \
		error[0] = 0;                                                                     \
		TAP_CHECK(rackwire_roce_open(&c, &dev, error, sizeof(error)) == (err) && error[0]); \
		TAP_CHECK(!strchr(error, '\n'));                                                   \
	} while (0)

	REFUSED(c.size = 4, -EINVAL);
	REFUSED(c.flags = 0x8000, -EINVAL);
	REFUSED(c.mtu = 1500, -EINVAL);
	REFUSED(c.window = 100, -EINVAL);
	REFUSED(c.rcvbuf = 1, -EINVAL);
	REFUSED(c.cpu = -1, -EINVAL);
	REFUSED(c.cpu = 100000, -EINVAL);
	REFUSED(c.max_qps = 1u << 31, -EINVAL);
	REFUSED(strcpy(c.local, "nowhere"), -EINVAL);
	REFUSED(strcpy(c.local, "fe80::1%nowhere0"), -EINVAL);
	REFUSED(memset(c.local, 'x', sizeof(c.local)), -EINVAL);
	REFUSED(strcpy(c.local, "203.0.113.7"), -EADDRNOTAVAIL);
	TAP_CHECK(rackwire_roce_open(&good, NULL, error, sizeof(error)) == -EINVAL);
	TAP_CHECK(rackwire_roce_open(NULL, &dev, NULL, 0) == -EINVAL);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(life__nothing_stays_open),
		TAP_TEST(life__waiting_times_out),
		TAP_TEST(life__waking),
		TAP_TEST(life__absent_application),
		TAP_TEST(life__descriptor_of_a_queue),
		TAP_TEST(life__descriptor_of_events),
		TAP_TEST(life__closed_in_the_middle),
		TAP_TEST(life__region_goes_in_the_middle),
		TAP_TEST(life__many_threads),
		TAP_TEST(life__many_threads_without_ours),
		TAP_TEST(life__fork),
		TAP_TEST(life__facts),
		TAP_TEST(life__bad_configurations),
	};

	return TAP_RUN(tests, argc, argv);
}
