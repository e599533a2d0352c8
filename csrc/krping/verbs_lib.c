// SPDX-License-Identifier: BSD-2-Clause
#include "verbs_lib.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define RDMACM 0
#define IBVERBS 1

static const struct {
	int library;
	const char *name;
	size_t offset;
} symbols[] = {
#define RDMA(member) { RDMACM, "rdma_" #member, offsetof(struct verbs_lib, member) }
#define IBV(member) { IBVERBS, "ibv_" #member, offsetof(struct verbs_lib, member) }
	RDMA(create_event_channel), RDMA(destroy_event_channel), RDMA(create_id), RDMA(destroy_id), RDMA(bind_addr),
	RDMA(resolve_addr), RDMA(resolve_route), RDMA(create_qp), RDMA(destroy_qp), RDMA(connect), RDMA(listen),
	RDMA(accept), RDMA(reject), RDMA(disconnect), RDMA(get_cm_event), RDMA(ack_cm_event), RDMA(set_option),
	RDMA(migrate_id), RDMA(get_src_port), RDMA(get_devices), RDMA(free_devices),
	IBV(get_device_list), IBV(free_device_list), IBV(query_device), IBV(query_port), IBV(alloc_pd),
	IBV(dealloc_pd), IBV(reg_mr), IBV(dereg_mr), IBV(create_comp_channel), IBV(destroy_comp_channel),
	IBV(create_cq), IBV(destroy_cq), IBV(get_cq_event), IBV(ack_cq_events),
};

static struct verbs_lib lib;
static bool loaded;
static char missing[160];

static void load(void)
{
	static const char *const files[] = { "librdmacm.so.1", "libibverbs.so.1" };
	static const char *const packages[] = { "librdmacm1", "libibverbs1" };
	void *handles[2];
	size_t i;

	for (i = 0; i < 2; i++) {
		handles[i] = dlopen(files[i], RTLD_NOW | RTLD_LOCAL);
		if (!handles[i]) {
			snprintf(missing, sizeof(missing), "%s is not installed (Debian package %s)", files[i],
				 packages[i]);
			return;
		}
	}
	for (i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		void *symbol = dlsym(handles[symbols[i].library], symbols[i].name);

		if (!symbol) {
			snprintf(missing, sizeof(missing), "%s has no %s", files[symbols[i].library], symbols[i].name);
			return;
		}
		memcpy((char *)&lib + symbols[i].offset, &symbol, sizeof(symbol));
	}
	loaded = true;
}

const struct verbs_lib *verbs_lib_open(char *error, size_t length)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, load);
	if (!loaded && error && length)
		snprintf(error, length, "%s", missing);
	return loaded ? &lib : NULL;
}
