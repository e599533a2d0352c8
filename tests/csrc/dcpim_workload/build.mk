# SPDX-License-Identifier: BSD-2-Clause
DCPIM_WORK_TEST_SOURCES := tests/csrc/dcpim_workload/bench.c $(DCPIM_CORE_SOURCES) $(DCPIM_USER_SOURCES) $(DCPIM_WORK_SOURCES)

$(eval $(call c_test,dcpim_work_parts,tests/csrc/dcpim_workload/parts_test.c csrc/dcpim/workload/pattern.c csrc/dcpim/workload/service.c))
$(foreach area,run trouble hostile,\
	$(eval $(call c_test,dcpim_work_$(area),tests/csrc/dcpim_workload/$(area)_test.c $(DCPIM_WORK_TEST_SOURCES))))
