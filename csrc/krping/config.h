/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RACKWIRE_KRPING_CONFIG_H
#define RACKWIRE_KRPING_CONFIG_H

#include "work.h"

/* Checks w->config and fills in defaults and addresses. Return: 0 or -errno with one line in @error. */
int config_check(struct rackwire_krping_work *w, char *error, size_t length);

#endif
