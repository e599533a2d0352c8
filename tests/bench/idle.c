// SPDX-License-Identifier: BSD-2-Clause
/*
 * idle: opens many dcPIM connections in one process, moves a little data over
 * each, and then does nothing with them.
 *
 *   idle server ADDRESS PORT CONNECTIONS [--raw] [--keepalive-ms N]
 *   idle client ADDRESS PORT CONNECTIONS [--raw] [--keepalive-ms N]
 *
 * Prints one line of JSON with the engine's and the process's memory before the
 * first connection and another with all of them open and idle. Then waits for
 * the end of its standard input, prints a third line, and closes.
 */
#include "common.h"
#include "rackwire_dcpim.h"

#define BYTES 64

static void check(ssize_t result, const char *what)
{
	if (result >= 0)
		return;
	fprintf(stderr, "idle: %s: %s\n", what, strerror((int)-result));
	exit(1);
}

static unsigned long resident_bytes(void)
{
	unsigned long pages = 0;
	FILE *file = fopen("/proc/self/statm", "r");

	if (!file || fscanf(file, "%*u %lu", &pages) != 1)
		die("/proc/self/statm");
	fclose(file);
	return pages * (unsigned long)sysconf(_SC_PAGESIZE);
}

static unsigned open_files(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < 65536; fd++) {
		if (lseek(fd, 0, SEEK_CUR) >= 0 || errno != EBADF)
			count++;
	}
	return count;
}

static void print_figures(struct rackwire_dcpim_engine *engine)
{
	struct rackwire_dcpim_stats stats = { .size = sizeof(stats) };

	check(rackwire_dcpim_engine_stats(engine, &stats), "statistics");
#define FIGURE(name) printf("\"%s\":%llu,", #name, (unsigned long long)stats.name)
	printf("{");
	FIGURE(memory_core);
	FIGURE(memory_sockets);
	FIGURE(memory_buffers);
	FIGURE(memory_pools);
	FIGURE(sockets);
	FIGURE(flows);
	FIGURE(tx_packets);
	FIGURE(rx_packets);
#undef FIGURE
	printf("\"resident\":%lu,\"open_files\":%u}\n", resident_bytes(), open_files());
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct rackwire_dcpim_config config = { .size = sizeof(config), .kind = RACKWIRE_DCPIM_UDP };
	static const struct option options[] = {
		{ "raw", 0, NULL, 'r' }, { "keepalive-ms", 1, NULL, 'k' }, { 0 },
	};
	struct rackwire_dcpim_socket **sockets, *listener = NULL;
	struct rackwire_dcpim_engine *engine;
	char error[RACKWIRE_DCPIM_ERROR_LEN], data[BYTES] = "idle";
	struct sockaddr_storage address;
	uint64_t count, i;
	socklen_t length;
	int letter, result, server;

	while ((letter = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (letter == 'r')
			config.kind = RACKWIRE_DCPIM_RAW;
		else if (letter == 'k')
			config.keepalive_ns = number(optarg) * MILLISECOND;
		else
			return 2;
	}
	if (argc - optind != 4) {
		fprintf(stderr, "usage: idle server|client ADDRESS PORT CONNECTIONS [options]\n");
		return 2;
	}
	server = !strcmp(argv[optind], "server");
	length = parse_address(argv[optind + 1], argv[optind + 2], &address);
	count = number(argv[optind + 3]);
	sockets = calloc(count, sizeof(struct rackwire_dcpim_socket *));
	if (!sockets)
		die("memory");

	result = rackwire_dcpim_engine_open(&config, &engine, error, sizeof(error));
	if (result < 0) {
		fprintf(stderr, "idle: %s\n", error);
		return 1;
	}
	if (server) {
		check(rackwire_dcpim_socket(engine, RACKWIRE_DCPIM_STREAM, &listener), "socket");
		check(rackwire_dcpim_bind(listener, (struct sockaddr *)&address, length), "bind");
		check(rackwire_dcpim_listen(listener, 65535), "listen");
		puts("listening");
	}
	print_figures(engine);
	for (i = 0; i < count; i++) {
		if (server) {
			check(rackwire_dcpim_accept(listener, &sockets[i], NULL, NULL, 0), "accept");
		} else {
			check(rackwire_dcpim_socket(engine, RACKWIRE_DCPIM_STREAM, &sockets[i]), "socket");
			check(rackwire_dcpim_connect(sockets[i], (struct sockaddr *)&address, length), "connect");
			check(rackwire_dcpim_send(sockets[i], data, sizeof(data), 0), "send");
		}
	}
	for (i = 0; i < count; i++) {
		/* The answer shows that both directions have worked. */
		ssize_t n = rackwire_dcpim_recv(sockets[i], data, sizeof(data), MSG_WAITALL);

		check(n, "receive");
		if (n != sizeof(data)) {
			fprintf(stderr, "idle: connection %llu ended early\n", (unsigned long long)i);
			return 1;
		}
		if (server)
			check(rackwire_dcpim_send(sockets[i], data, sizeof(data), 0), "send");
	}
	/* The last acknowledgements are on their way. */
	sleep(1);
	print_figures(engine);
	while (getchar() != EOF)
		;
	print_figures(engine);
	for (i = 0; i < count; i++)
		rackwire_dcpim_close(sockets[i]);
	/* The peer learns of the end; nothing else is left to deliver. */
	rackwire_dcpim_engine_close(engine, SECOND / 2);
	return 0;
}
