# SPDX-License-Identifier: BSD-2-Clause
KRPING_TEST_SOURCES := tests/csrc/krping/bench.c $(KRPING_SOURCES) $(ROCE_SOURCES)

$(eval $(call c_test,krping_parts,tests/csrc/krping/parts_test.c csrc/krping/wire.c csrc/krping/ping_data.c))
$(foreach area,run,\
	$(eval $(call c_test,krping_$(area),tests/csrc/krping/$(area)_test.c $(KRPING_TEST_SOURCES),-ldl)))
