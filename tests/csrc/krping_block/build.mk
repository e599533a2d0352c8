# SPDX-License-Identifier: BSD-2-Clause
BLOCK_SOURCES := $(sort $(wildcard csrc/krping/block_*.c)) $(addprefix csrc/common/,address.c shared_stats.c)
BLOCK_FAKED := $(filter-out csrc/krping/block_stub.c,$(BLOCK_SOURCES)) tests/csrc/krping_block/fake_rdma.c
$(eval $(call c_fuzz,krping_block_export,tests/fuzz/krping_block_export.c $(BLOCK_FAKED)))
$(eval $(call c_fuzz,krping_block_nbd,tests/fuzz/krping_block_nbd.c $(BLOCK_FAKED)))
$(eval $(call c_test,krping_block_store,tests/csrc/krping_block/store_test.c csrc/krping/block_store.c tests/csrc/krping_block/fake_rdma.c))
$(eval $(call c_test,krping_block_wire,tests/csrc/krping_block/wire_test.c csrc/krping/block_wire.c))
$(eval $(call c_test,krping_block_loss,tests/csrc/krping_block/loss_test.c $(BLOCK_FAKED)))
