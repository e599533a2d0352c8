# SPDX-License-Identifier: BSD-2-Clause
DCPIM_WORK_TEST_SOURCES := tests/csrc/dcpim_work/bench.c $(DCPIM_CORE_SOURCES) $(DCPIM_USER_SOURCES) $(DCPIM_WORK_SOURCES)

$(eval $(call c_test,dcpim_work_parts,tests/csrc/dcpim_work/parts_test.c csrc/dcpim/work/pattern.c csrc/dcpim/work/service.c))
$(foreach area,run trouble hostile,\
	$(eval $(call c_test,dcpim_work_$(area),tests/csrc/dcpim_work/$(area)_test.c $(DCPIM_WORK_TEST_SOURCES))))
