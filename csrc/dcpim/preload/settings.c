// SPDX-License-Identifier: BSD-2-Clause
#include "dcpim/preload/settings.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_S 1000000000ull
#define DEFAULT_LINGER_NS (5 * NS_PER_S)

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit durations[] = {
	{ "ns", 1 }, { "us", 1000 }, { "ms", 1000000 }, { "s", NS_PER_S }, { NULL, 0 },
};
static const struct unit rates[] = {
	{ "mbit", 1000000 }, { "gbit", NS_PER_S }, { NULL, 0 },
};
static const struct unit none[] = { { "", 1 }, { NULL, 0 } };

/* A whole number and one of the units; 0 needs none. */
static bool parse_number(const char *text, const struct unit *units, uint64_t most, uint64_t *out)
{
	uint64_t value;
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno)
		return false;
	if (!value && !*end) {
		*out = 0;
		return true;
	}
	for (; units->name; units++)
		if (!strcmp(end, units->name)) {
			*out = value * units->factor;
			return value <= most / units->factor;
		}
	return false;
}

static bool parse_flag(const char *text, uint32_t *flags, uint32_t flag, bool wanted)
{
	if (strcmp(text, "0") && strcmp(text, "1"))
		return false;
	if ((*text == '1') == wanted)
		*flags |= flag;
	return true;
}

static bool set_engine(struct settings *s, const char *text)
{
	s->config.kind = strcmp(text, "raw") ? RACKWIRE_DCPIM_UDP : RACKWIRE_DCPIM_RAW;
	return !strcmp(text, "udp") || !strcmp(text, "raw");
}

static bool set_busy_poll(struct settings *s, const char *text)
{
	s->config.wakeup = strcmp(text, "0") ? RACKWIRE_DCPIM_BUSY_POLL : RACKWIRE_DCPIM_BLOCK;
	if (!strcmp(text, "0") || !strcmp(text, "1"))
		return true;
	return parse_number(text, durations, UINT64_MAX, &s->config.spin_ns);
}

static bool set_threads(struct settings *s, const char *text)
{
	uint64_t n;

	if (!parse_number(text, none, RACKWIRE_DCPIM_MAX_THREADS, &n) || !n)
		return false;
	s->config.threads = (uint32_t)n;
	return true;
}

/* "0,2-3" */
static bool set_pin(struct settings *s, const char *text)
{
	struct rackwire_dcpim_config *c = &s->config;
	unsigned long first, last;
	char *end;

	c->cpu_count = 0;
	do {
		if (*text < '0' || *text > '9')
			return false;
		first = last = strtoul(text, &end, 10);
		if (*end == '-') {
			text = end + 1;
			if (*text < '0' || *text > '9')
				return false;
			last = strtoul(text, &end, 10);
		}
		if (last < first || last >= CPU_SETSIZE || (*end && *end != ','))
			return false;
		for (; first <= last; first++) {
			if (c->cpu_count == RACKWIRE_DCPIM_MAX_THREADS)
				return false;
			c->cpus[c->cpu_count++] = (uint16_t)first;
		}
		text = end + 1;
	} while (*end);
	return true;
}

static bool set_local(struct settings *s, const char *text)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&s->config.local;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&s->config.local;

	if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		return true;
	}
	in6->sin6_family = AF_INET6;
	return inet_pton(AF_INET6, text, &in6->sin6_addr) == 1;
}

static bool set_encap_port(struct settings *s, const char *text)
{
	uint64_t port;

	if (!parse_number(text, none, 65535, &port) || !port)
		return false;
	s->config.encap_port = (uint16_t)port;
	return true;
}

static bool set_mtu(struct settings *s, const char *text)
{
	uint64_t mtu;

	if (!parse_number(text, none, 65535, &mtu) || !mtu)
		return false;
	s->config.mtu = (uint32_t)mtu;
	return true;
}

static bool set_rate(struct settings *s, const char *text)
{
	return parse_number(text, rates, UINT64_MAX, &s->config.rate_bps) && s->config.rate_bps;
}

static bool set_crc(struct settings *s, const char *text)
{
	return parse_flag(text, &s->config.flags, RACKWIRE_DCPIM_CRC, true);
}

static bool set_offload(struct settings *s, const char *text)
{
	return parse_flag(text, &s->config.flags, RACKWIRE_DCPIM_NO_OFFLOAD, false);
}

static bool set_control(struct settings *s, const char *text)
{
	return parse_flag(text, &s->config.flags, RACKWIRE_DCPIM_NO_CONTROL, false);
}

static bool set_linger(struct settings *s, const char *text)
{
	return parse_number(text, durations, UINT64_MAX, &s->linger_ns);
}

static const struct {
	const char *name;
	bool (*set)(struct settings *s, const char *text);
	const char *form;
} variables[] = {
	{ "RACKWIRE_DCPIM_ENGINE", set_engine, "udp or raw" },
	{ "RACKWIRE_DCPIM_BUSY_POLL", set_busy_poll, "0, 1 or how long to spin, such as 50us" },
	{ "RACKWIRE_DCPIM_THREADS", set_threads, "a number from 1 to 64" },
	{ "RACKWIRE_DCPIM_PIN", set_pin, "CPUs, such as 0,2-3" },
	{ "RACKWIRE_DCPIM_LOCAL", set_local, "an IPv4 or IPv6 address" },
	{ "RACKWIRE_DCPIM_ENCAP_PORT", set_encap_port, "a port from 1 to 65535" },
	{ "RACKWIRE_DCPIM_MTU", set_mtu, "bytes" },
	{ "RACKWIRE_DCPIM_RATE", set_rate, "a rate such as 10gbit" },
	{ "RACKWIRE_DCPIM_CRC", set_crc, "0 or 1" },
	{ "RACKWIRE_DCPIM_OFFLOAD", set_offload, "0 or 1" },
	{ "RACKWIRE_DCPIM_CONTROL", set_control, "0 or 1" },
	{ "RACKWIRE_DCPIM_LINGER", set_linger, "a duration such as 500ms" },
};

int settings_parse(struct settings *s, char error[SETTINGS_ERROR_LEN])
{
	size_t i;

	memset(s, 0, sizeof(*s));
	s->config.size = sizeof(s->config);
	s->linger_ns = DEFAULT_LINGER_NS;
	for (i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
		const char *text = getenv(variables[i].name);

		if (!text || variables[i].set(s, text))
			continue;
		snprintf(error, SETTINGS_ERROR_LEN, "%s=%.100s: must be %s", variables[i].name, text,
			 variables[i].form);
		return -EINVAL;
	}
	return 0;
}
