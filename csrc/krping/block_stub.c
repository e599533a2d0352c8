/* SPDX-License-Identifier: BSD-2-Clause */
/* Only until the block device is there; not committed. */
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include <errno.h>
#include "rackwire_krping_block.h"
__attribute__((weak)) size_t rackwire_krping_block_stats_length(void) { return 0; }
__attribute__((weak)) int rackwire_krping_export_open(const struct rackwire_krping_export_config *c, const struct rackwire_krping_export *e, void *s, size_t l, struct rackwire_krping_exporter **o, char *er, size_t el) { return -ENOSYS; }
__attribute__((weak)) int rackwire_krping_export_run(struct rackwire_krping_exporter *e, char *er, size_t l) { return -ENOSYS; }
__attribute__((weak)) void rackwire_krping_export_stop(struct rackwire_krping_exporter *e) {}
__attribute__((weak)) void rackwire_krping_export_close(struct rackwire_krping_exporter *e) {}
__attribute__((weak)) uint16_t rackwire_krping_export_port(const struct rackwire_krping_exporter *e) { return 0; }
__attribute__((weak)) uint64_t rackwire_krping_export_length(const struct rackwire_krping_exporter *e, uint32_t i) { return 0; }
__attribute__((weak)) int rackwire_krping_nbd_open(const struct rackwire_krping_nbd_config *c, void *s, size_t l, struct rackwire_krping_nbd **o, char *er, size_t el) { return -ENOSYS; }
__attribute__((weak)) int rackwire_krping_nbd_run(struct rackwire_krping_nbd *n, char *er, size_t l) { return -ENOSYS; }
__attribute__((weak)) void rackwire_krping_nbd_stop(struct rackwire_krping_nbd *n) {}
__attribute__((weak)) void rackwire_krping_nbd_close(struct rackwire_krping_nbd *n) {}
__attribute__((weak)) uint16_t rackwire_krping_nbd_port(const struct rackwire_krping_nbd *n) { return 0; }
__attribute__((weak)) uint32_t rackwire_krping_nbd_exports(struct rackwire_krping_nbd *n, struct rackwire_krping_export_info *r, uint32_t m) { return 0; }
__attribute__((weak)) uint32_t rackwire_krping_abi_version(void); __attribute__((weak)) uint32_t rackwire_krping_abi_version(void) { return 1; }
