// SPDX-License-Identifier: BSD-2-Clause
/* The engine's control socket. */
#include <stdio.h>

#include "control_socket.h"
#include "shard.h"

static ssize_t control_answer(void *engine, char **out)
{
	return dcpim_engine_json(engine, out);
}

int dcpim_control_start(struct rackwire_dcpim_engine *e)
{
	if (e->config.flags & RACKWIRE_DCPIM_NO_CONTROL)
		return 0;
	return rackwire_control_open("dcpim", NULL, control_answer, e, &e->control);
}

void dcpim_control_stop(struct rackwire_dcpim_engine *e)
{
	rackwire_control_close(e->control);
	e->control = NULL;
}

ssize_t rackwire_dcpim_control_path(struct rackwire_dcpim_engine *e, char *path, size_t length)
{
	const char *at = e->control ? rackwire_control_path(e->control) : "";

	if (path && length)
		snprintf(path, length, "%s", at);
	return (ssize_t)strlen(at);
}
