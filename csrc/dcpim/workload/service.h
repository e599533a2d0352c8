/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * service.h: what client and server of the workloads say to each other, see
 * docs/dcpim-service.md. All numbers are big-endian. Decoding is total: it
 * refuses, it never reads beyond the length given.
 */
#ifndef RACKWIRE_DCPIM_WORK_SERVICE_H
#define RACKWIRE_DCPIM_WORK_SERVICE_H

#include "dcpim/core/dcpim_types.h"
#include "rackwire_dcpim_work.h"

#define SERVICE_HELLO_LEN 32
#define SERVICE_WELCOME_LEN 32
#define SERVICE_REPORT_LEN 72
#define SERVICE_CREDIT_LEN 8
#define SERVICE_DATAGRAM_LEN 24
#define SERVICE_ASK_LEN (SERVICE_DATAGRAM_LEN + SERVICE_REPORT_LEN)

#define SERVICE_PATTERN 0x1 /* hello: the client's contents follow the pattern */
#define SERVICE_CHECK 0x2   /* hello: check them, please; welcome: the server will, so follow the pattern */

/* A client's first bytes on a connection. */
struct service_hello {
	u8 service; /* enum rackwire_dcpim_work_service */
	u16 flags;
	u64 seed;
	u32 length; /* bytes of a request or write */
};

enum service_status {
	SERVICE_OK = 0,
	SERVICE_BAD = 1,	/* the hello makes no sense on this connection */
	SERVICE_FULL = 2,	/* no room for another connection */
};

/* The server's answer. */
struct service_welcome {
	u8 status; /* enum service_status */
	u16 flags;
};

/* The server's account, after the client has ended. */
struct service_report {
	u64 bytes, requests;
	u64 verified, corrupt, corrupt_at;
	u64 thread; /* CPU time is of this thread, which may serve several connections */
	u64 cpu_from, cpu_to;
};

enum service_datagram_type {
	SERVICE_PING = 1,
	SERVICE_PONG = 2,
	SERVICE_DATA = 3,
	SERVICE_ASK = 4, /* for a report; as long as that, so nobody is flooded by answers to forged ones */
	SERVICE_REPORT = 5,
};

struct service_datagram {
	u8 type;
	u16 flags; /* SERVICE_CHECK */
	u64 session; /* also the seed of the contents */
	u64 number;
};

void service_hello_put(u8 *out, const struct service_hello *hello);
/* Return: 0 or -EPROTO. */
int service_hello_get(const u8 *in, size_t len, struct service_hello *hello);
void service_welcome_put(u8 *out, const struct service_welcome *welcome);
int service_welcome_get(const u8 *in, size_t len, struct service_welcome *welcome);
void service_report_put(u8 *out, const struct service_report *report);
int service_report_get(const u8 *in, size_t len, struct service_report *report);
void service_datagram_put(u8 *out, const struct service_datagram *datagram);
int service_datagram_get(const u8 *in, size_t len, struct service_datagram *datagram);

#endif
