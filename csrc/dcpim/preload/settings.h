/* SPDX-License-Identifier: BSD-2-Clause */
/* settings.h: the engine's options, from the environment. */
#ifndef RACKWIRE_DCPIM_PRELOAD_SETTINGS_H
#define RACKWIRE_DCPIM_PRELOAD_SETTINGS_H

#include "rackwire_dcpim.h"

#define SETTINGS_ERROR_LEN 256

struct settings {
	struct rackwire_dcpim_config config;
	uint64_t linger_ns; /* how long exit waits for data to be delivered */
};

/*
 * settings_parse() - read RACKWIRE_DCPIM_*; docs/dcpim-preload.md lists them.
 * Return: 0, or -EINVAL with one line in @error.
 */
int settings_parse(struct settings *settings, char error[SETTINGS_ERROR_LEN]);

#endif
