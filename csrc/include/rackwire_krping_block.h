/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rackwire_krping_block.h: a block device over RDMA. The exporter has files or
 * memory; the NBD server beside the user turns each NBD request into one message to
 * the exporter, which READs the data of writes out of the server's memory and
 * WRITEs the data of reads into it, and answers when it has done the request. An
 * NBD client gets its reply only then. docs/krping-wire.md has the messages.
 *
 *	rackwire_krping_export_open(&config, exports, stats, length, &exporter, error, sizeof(error));
 *	rackwire_krping_export_run(exporter, error, sizeof(error));	until stopped
 *	rackwire_krping_export_close(exporter);
 * and likewise rackwire_krping_nbd_*().
 *
 * Statistics: one block with the counters below and, for the NBD server, histograms
 * of nanoseconds from an NBD request to its reply: READ, WRITE, other.
 */
#ifndef RACKWIRE_KRPING_BLOCK_H
#define RACKWIRE_KRPING_BLOCK_H

#include "rackwire_krping.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RACKWIRE_KRPING_EXPORTS 16
#define RACKWIRE_KRPING_EXPORT_NAME 32 /* with its NUL */

#define RACKWIRE_KRPING_EXPORT_READ_ONLY 0x1
#define RACKWIRE_KRPING_EXPORT_DIRECT 0x2 /* O_DIRECT: past the page cache */

struct rackwire_krping_export {
	char name[RACKWIRE_KRPING_EXPORT_NAME]; /* empty: the default export of NBD */
	char file[256];	 /* regular file or block device; empty: memory */
	uint64_t length; /* bytes; 0 with a file: its length. A file is never resized */
	uint32_t flags;	 /* RACKWIRE_KRPING_EXPORT_* */
	uint32_t reserved;
};

struct rackwire_krping_export_config {
	uint32_t size;	 /* sizeof(this) */
	uint32_t engine; /* enum rackwire_krping_engine */
	char address[64];
	uint16_t port;
	uint16_t exports_count; /* 1..RACKWIRE_KRPING_EXPORTS */
	uint32_t threads; /* doing the I/O; 0: 4 */
	uint32_t depth;	  /* most requests of one connection under way; 0: 64 */
	uint32_t flags;	  /* RACKWIRE_KRPING_ECN | _POLL | _NO_OFFLOAD */
	uint64_t memory;  /* bytes for the data under way, all connections; 0: 256 MiB. Receive buffers are besides: 1 MiB for each */
	uint32_t mtu;
	uint32_t reserved;
};

/*
 * What becomes of requests under way when the link to the exporter is lost. Later ones wait for the next link, but
 * fail once the exporter has been away for reconnect_ns, until it is back. In both modes an export fails for good
 * when it comes back without what was acknowledged: as other data, as memory, or on a machine that was restarted
 * before all of it was flushed.
 */
enum rackwire_krping_on_loss {
	RACKWIRE_KRPING_LOSS_FAIL = 0,	 /* they fail with EIO */
	RACKWIRE_KRPING_LOSS_REPLAY = 1, /* they are sent again on the next link */
};

struct rackwire_krping_nbd_config {
	uint32_t size;
	uint32_t engine;
	char peer[64];	  /* exporter: numeric address */
	char local[64];
	uint16_t port;	  /* exporter's */
	uint16_t tcp_port; /* of NBD; with tcp_address set 0: one is chosen */
	uint32_t on_loss; /* enum rackwire_krping_on_loss */
	char unix_path[108]; /* of NBD, mode 0600, must not exist; empty: none */
	char tcp_address[64]; /* of NBD; empty: none. At least one of the two is given */
	uint32_t depth;	  /* requests under way to the exporter; 0: 64 */
	uint32_t flags;	  /* RACKWIRE_KRPING_ECN | _POLL | _NO_OFFLOAD; RACKWIRE_KRPING_NBD_READ_ONLY */
	uint64_t timeout_ns; /* of connecting; 0: 5 s */
	uint64_t reconnect_ns; /* how long to try to get the exporter back; 0: 30 s */
	uint32_t max_clients; /* NBD connections; 0: 64 */
	uint32_t mtu;
	uint64_t memory;  /* bytes for the data under way, 128 KiB or more for each client; 0: 64 MiB, 256 KiB for each */
};
#define RACKWIRE_KRPING_NBD_READ_ONLY 0x10000

enum rackwire_krping_block_counter { /* of both */
	RACKWIRE_KRPING_BLOCK_READS, RACKWIRE_KRPING_BLOCK_READ_BYTES,
	RACKWIRE_KRPING_BLOCK_WRITES, RACKWIRE_KRPING_BLOCK_WRITE_BYTES,
	RACKWIRE_KRPING_BLOCK_FLUSHES, RACKWIRE_KRPING_BLOCK_TRIMS, RACKWIRE_KRPING_BLOCK_ZEROES,
	RACKWIRE_KRPING_BLOCK_ERRORS,	/* requests answered with an error */
	RACKWIRE_KRPING_BLOCK_UNDER_WAY, /* gauge */
	RACKWIRE_KRPING_BLOCK_CLIENTS,	/* gauge: NBD connections, or connections of NBD servers */
	RACKWIRE_KRPING_BLOCK_LINKS,	/* gauge: links to the exporter that work */
	RACKWIRE_KRPING_BLOCK_LINK_LOSSES, RACKWIRE_KRPING_BLOCK_REPLAYED, RACKWIRE_KRPING_BLOCK_FAILED_BY_LOSS,
	RACKWIRE_KRPING_BLOCK_REFUSED,	/* malformed or hostile requests */
	RACKWIRE_KRPING_BLOCK_CPU_NS,
	RACKWIRE_KRPING_BLOCK_COUNTERS
};
#define RACKWIRE_KRPING_BLOCK_HISTOGRAMS 3

struct rackwire_krping_exporter;
struct rackwire_krping_nbd;

size_t rackwire_krping_block_stats_length(void);

/* @exports: config->exports_count of them, read during the call only. Names differ. */
int rackwire_krping_export_open(const struct rackwire_krping_export_config *config,
				const struct rackwire_krping_export *exports, void *stats, size_t stats_length,
				struct rackwire_krping_exporter **out, char *error, size_t error_length);
int rackwire_krping_export_run(struct rackwire_krping_exporter *exporter, char *error, size_t error_length);
void rackwire_krping_export_stop(struct rackwire_krping_exporter *exporter);
void rackwire_krping_export_close(struct rackwire_krping_exporter *exporter);
uint16_t rackwire_krping_export_port(const struct rackwire_krping_exporter *exporter);
uint64_t rackwire_krping_export_length(const struct rackwire_krping_exporter *exporter, uint32_t index);

/*
 * rackwire_krping_nbd_open() - connects to the exporter, so that what it offers is known, then listens for NBD.
 * Return: 0; -ECONNREFUSED, -ETIMEDOUT, -EHOSTUNREACH (exporter); -EPROTO (no exporter there); -EADDRINUSE, -EEXIST (unix_path); ...
 */
int rackwire_krping_nbd_open(const struct rackwire_krping_nbd_config *config, void *stats, size_t stats_length,
			     struct rackwire_krping_nbd **out, char *error, size_t error_length);
int rackwire_krping_nbd_run(struct rackwire_krping_nbd *nbd, char *error, size_t error_length); /* until stopped */
void rackwire_krping_nbd_stop(struct rackwire_krping_nbd *nbd);
void rackwire_krping_nbd_close(struct rackwire_krping_nbd *nbd);
uint16_t rackwire_krping_nbd_port(const struct rackwire_krping_nbd *nbd); /* of NBD over TCP */

struct rackwire_krping_export_info {
	char name[RACKWIRE_KRPING_EXPORT_NAME];
	uint64_t length;
	uint32_t read_only;
	uint32_t persistent; /* a file, not memory */
};
/* What the exporter offers. Return: how many, at most @max. */
uint32_t rackwire_krping_nbd_exports(struct rackwire_krping_nbd *nbd, struct rackwire_krping_export_info *rows, uint32_t max);

#ifdef __cplusplus
}
#endif

#endif
