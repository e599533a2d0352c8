// SPDX-License-Identifier: BSD-2-Clause
/* Configuration, options, figures and the control socket. */
#include <signal.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "pair.h"

static int try_config(struct rackwire_dcpim_config *config, char *error)
{
	struct rackwire_dcpim_engine *e;
	int err = rackwire_dcpim_engine_open(config, &e, error, RACKWIRE_DCPIM_ERROR_LEN);

	if (!err)
		rackwire_dcpim_engine_close(e, 0);
	return err;
}

static void config__names_the_field_that_is_wrong(void)
{
	struct rackwire_dcpim_config good = { .size = sizeof(good) }, bad;
	char error[RACKWIRE_DCPIM_ERROR_LEN];

	TAP_CHECK(rackwire_dcpim_abi_version() == RACKWIRE_DCPIM_ABI_VERSION);
	TAP_CHECK(!try_config(&good, error) && !error[0]);
#define BAD(field, value, name)                                                    \
	bad = good;                                                                \
	bad.field = (value);                                                       \
	TAP_CHECK(try_config(&bad, error) == -EINVAL && strstr(error, name))
	BAD(size, 3, "size");
	BAD(kind, 9, "kind");
	BAD(threads, 1000, "threads");
	BAD(wakeup, 2, "wakeup");
	BAD(flags, 0x80, "flags");
	BAD(mtu, 100, "mtu");
	BAD(rounds, 99, "rounds");
	BAD(channels, 17, "channels");
	BAD(alpha_milli, 1, "alpha");
	BAD(beta_milli, 1000000, "beta");
	BAD(rate_bps, 1, "rate");
	BAD(ctrl_rtt_ns, 1, "ctrl_rtt");
	BAD(local.ss_family, AF_UNIX, "local");
	bad = good;
	bad.cpu_count = 1;
	bad.cpus[0] = 60000;
	TAP_CHECK(try_config(&bad, error) == -EINVAL && strstr(error, "CPU 60000"));
	bad = good;
	bad.local.ss_family = AF_INET;
	((struct sockaddr_in *)&bad.local)->sin_addr.s_addr = htonl(0xc0000201); /* 192.0.2.1, RFC 5737 */
	TAP_CHECK(try_config(&bad, error) == -EADDRNOTAVAIL && strstr(error, "local"));
}

static void config__raw_without_privilege_says_so(void)
{
	struct rackwire_dcpim_config config = { .size = sizeof(config), .kind = RACKWIRE_DCPIM_RAW };
	char error[RACKWIRE_DCPIM_ERROR_LEN];
	bool root = !geteuid();
	int err;

	if (root && seteuid(65534))
		TAP_SKIP("cannot give up root");
	err = try_config(&config, error);
	if (root && seteuid(0))
		abort();
	TAP_CHECK(err == -EPERM && strstr(error, "CAP_NET_RAW"));
}

static void options__are_checked(void)
{
	struct rackwire_dcpim_socket *s;
	int64_t value;

	TAP_CHECK(!rackwire_dcpim_socket(pair.client, RACKWIRE_DCPIM_STREAM, &s));
	TAP_CHECK(rackwire_dcpim_setopt(s, 99, 1) == -ENOPROTOOPT);
	TAP_CHECK(rackwire_dcpim_getopt(s, 99, &value) == -ENOPROTOOPT);
	TAP_CHECK(rackwire_dcpim_setopt(s, RACKWIRE_DCPIM_ERROR, 1) == -ENOPROTOOPT);
	TAP_CHECK(rackwire_dcpim_setopt(s, RACKWIRE_DCPIM_PRIORITY, 8) == -EINVAL);
	TAP_CHECK(!rackwire_dcpim_setopt(s, RACKWIRE_DCPIM_PRIORITY, 7));
	TAP_CHECK(!rackwire_dcpim_getopt(s, RACKWIRE_DCPIM_KIND, &value) && value == RACKWIRE_DCPIM_MESSAGE);
	TAP_CHECK(!rackwire_dcpim_setopt(s, RACKWIRE_DCPIM_PRIORITY, 3));
	TAP_CHECK(!rackwire_dcpim_getopt(s, RACKWIRE_DCPIM_KIND, &value) && value == RACKWIRE_DCPIM_STREAM);
	TAP_CHECK(rackwire_dcpim_setopt(s, RACKWIRE_DCPIM_SNDBUF, 1) == -EINVAL);
	TAP_CHECK(!rackwire_dcpim_setopt(s, RACKWIRE_DCPIM_SNDBUF, 65536));
	TAP_CHECK(!rackwire_dcpim_getopt(s, RACKWIRE_DCPIM_SNDBUF, &value) && value == 65536);
	TAP_CHECK(!rackwire_dcpim_getopt(pair.listener, RACKWIRE_DCPIM_ACCEPTING, &value) && value == 1);
	TAP_CHECK(!rackwire_dcpim_connect(s, (struct sockaddr *)&pair.addr, pair.length));
	TAP_CHECK(rackwire_dcpim_setopt(s, RACKWIRE_DCPIM_PRIORITY, 7) == -EISCONN);
	TAP_CHECK(rackwire_dcpim_send(s, "x", 1, MSG_OOB) == -EOPNOTSUPP);
	TAP_CHECK(rackwire_dcpim_recv(s, &value, 1, MSG_OOB) == -EOPNOTSUPP);
	rackwire_dcpim_close(s);
}
EACH_ENGINE(options__are_checked)

static void stats__count_what_was_carried(void)
{
	struct rackwire_dcpim_socket_info info = { .size = sizeof(info) };
	struct rackwire_dcpim_stats near_stats = { .size = sizeof(near_stats) }, far_stats = near_stats;
	struct rackwire_dcpim_socket *near, *far;
	uint8_t data[50000];

	fill_pattern(data, sizeof(data), 0);
	TAP_CHECK(!pair_connect(RACKWIRE_DCPIM_STREAM, &near, &far));
	TAP_CHECK(rackwire_dcpim_send(near, data, sizeof(data), 0) == sizeof(data));
	TAP_CHECK(rackwire_dcpim_recv(far, data, sizeof(data), MSG_WAITALL) == sizeof(data));
	EVENTUALLY((rackwire_dcpim_socket_info(near, &info), info.bytes_tx == sizeof(data)));
	TAP_CHECK(info.state == RACKWIRE_DCPIM_STATE_CONNECTED && !info.tx_queued && info.max_packet > 1000);
	TAP_CHECK(!rackwire_dcpim_engine_stats(pair.client, &near_stats));
	TAP_CHECK(!rackwire_dcpim_engine_stats(pair.server, &far_stats));
	TAP_CHECK(near_stats.data_bytes_tx >= sizeof(data) && far_stats.data_bytes_rx == sizeof(data));
	TAP_CHECK(near_stats.flows_opened == 1 && far_stats.flows_accepted == 1 && near_stats.peers == 1);
	TAP_CHECK(!far_stats.rx_bad && !far_stats.rx_truncated && near_stats.tx_datagrams >= 2);
	near_stats.size = 1;
	TAP_CHECK(rackwire_dcpim_engine_stats(pair.client, &near_stats) == -EINVAL);
	rackwire_dcpim_close(near);
	rackwire_dcpim_close(far);
}
EACH_ENGINE(stats__count_what_was_carried)

static ssize_t ask(const char *path, const char *request, char *answer, size_t size)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	size_t got = 0;
	ssize_t n;
	int fd;

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)))
		return -errno;
	if (write(fd, request, strlen(request)) < 0)
		return -errno;
	while ((n = read(fd, answer + got, size - 1 - got)) > 0)
		got += (size_t)n;
	answer[got] = 0;
	close(fd);
	return (ssize_t)got;
}

/* Braces and brackets outside strings close in order, and nothing follows. */
static bool well_formed(const char *json)
{
	char stack[64];
	int depth = 0;
	bool text = false;

	for (; *json; json++) {
		if (text) {
			text = *json != '"';
		} else if (*json == '"') {
			text = true;
		} else if (*json == '{' || *json == '[') {
			stack[depth++] = *json == '{' ? '}' : ']';
		} else if (*json == '}' || *json == ']') {
			if (!depth || stack[--depth] != *json)
				return false;
			if (!depth)
				return !strcmp(json + 1, "\n");
		}
	}
	return false;
}

static void control__answers_stat_and_nothing_else(void)
{
	static char answer[1 << 18], direct[1 << 18];
	struct rackwire_dcpim_socket *near, *far;
	char path[128], *slash;
	struct stat st;

	TAP_CHECK(!pair_connect(RACKWIRE_DCPIM_STREAM, &near, &far));
	TAP_CHECK(rackwire_dcpim_control_path(pair.server, path, sizeof(path)) > 0);
	TAP_CHECK(!stat(path, &st) && S_ISSOCK(st.st_mode) && !(st.st_mode & 077));
	TAP_CHECK(ask(path, "stat\n", answer, sizeof(answer)) > 0);
	TAP_CHECK(well_formed(answer));
	TAP_CHECK(strstr(answer, "\"schema\": \"rackwire.dcpim.stat/1\"") && strstr(answer, "\"state\": \"open\""));
	TAP_CHECK(strstr(answer, "\"token_tx\"") && strstr(answer, "\"peers\": [\n"));
	TAP_CHECK(rackwire_dcpim_engine_json(pair.server, direct, sizeof(direct)) > 0 && well_formed(direct));
	TAP_CHECK(rackwire_dcpim_engine_json(pair.server, direct, 10) > 10 && strlen(direct) == 9);
	TAP_CHECK(ask(path, "shutdown\n", answer, sizeof(answer)) > 0 && strstr(answer, "unknown request"));
	TAP_CHECK(ask(path, "stat\nstat\n", answer, sizeof(answer)) > 0 && well_formed(answer));
	TAP_CHECK(ask(path, "stat", answer, sizeof(answer)) == 0); /* unfinished: given up after a second */
	rackwire_dcpim_close(near);
	rackwire_dcpim_close(far);
	pair_close();
	TAP_CHECK(stat(path, &st) && errno == ENOENT);
	slash = strrchr(path, '/');
	*slash = 0;
	TAP_CHECK(!stat(path, &st) && S_ISDIR(st.st_mode) && (st.st_mode & 0777) == 0700);
	TAP_CHECK(!pair_open());
}
EACH_ENGINE(control__answers_stat_and_nothing_else)

static void control__can_be_left_out(void)
{
	struct rackwire_dcpim_config config = { .size = sizeof(config), .flags = RACKWIRE_DCPIM_NO_CONTROL };
	struct rackwire_dcpim_engine *e;
	char path[128] = "x";

	TAP_CHECK(!rackwire_dcpim_engine_open(&config, &e, NULL, 0));
	TAP_CHECK(rackwire_dcpim_control_path(e, path, sizeof(path)) == 0 && !path[0]);
	rackwire_dcpim_engine_close(e, 0);
}

/* Junk from anywhere is counted and changes nothing. */
static void hostile__junk_datagrams_are_dropped(void)
{
	struct rackwire_dcpim_stats stats = { .size = sizeof(stats) };
	struct rackwire_dcpim_socket *near, *far;
	uint8_t junk[600];
	char data;
	int fd, i;

	if (pair.config.kind != RACKWIRE_DCPIM_UDP)
		fd = socket(pair.family, SOCK_RAW, 254);
	else
		fd = socket(pair.family, SOCK_DGRAM, 0);
	TAP_CHECK(fd >= 0);
	TAP_CHECK(!pair_connect(RACKWIRE_DCPIM_STREAM, &near, &far));
	for (i = 0; i < 600; i++) {
		struct sockaddr_storage to = pair.addr;
		int j;

		for (j = 0; j < i; j++)
			junk[j] = (uint8_t)(i * 7 + j * j);
		if (pair.config.kind == RACKWIRE_DCPIM_RAW) {
			/* Addressed to the listener's port, so that it is not another process's. */
			memcpy(junk + 2, &((struct sockaddr_in *)&to)->sin_port, 2);
			((struct sockaddr_in *)&to)->sin_port = 0;
		}
		sendto(fd, junk, (size_t)i, 0, (struct sockaddr *)&to, pair.length);
	}
	close(fd);
	EVENTUALLY((rackwire_dcpim_engine_stats(pair.server, &stats), stats.rx_bad > 500));
	TAP_CHECK(stats.flows == 1);
	TAP_CHECK(rackwire_dcpim_send(near, "x", 1, 0) == 1 && rackwire_dcpim_recv(far, &data, 1, 0) == 1);
	rackwire_dcpim_close(near);
	rackwire_dcpim_close(far);
}
EACH_ENGINE(hostile__junk_datagrams_are_dropped)

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(config__names_the_field_that_is_wrong),
		TAP_TEST(config__raw_without_privilege_says_so),
		EACH_TEST(options__are_checked),
		EACH_TEST(stats__count_what_was_carried),
		EACH_TEST(control__answers_stat_and_nothing_else),
		TAP_TEST(control__can_be_left_out),
		EACH_TEST(hostile__junk_datagrams_are_dropped),
	};

	return TAP_RUN(tests, argc, argv);
}
