# SPDX-License-Identifier: BSD-2-Clause
# The connection manager alone: device and transport are stand-ins (bench.c).
ROCE_CM_TEST_SOURCES := tests/csrc/roce_cm/bench.c $(wildcard csrc/roce/core/roce_cm*.c) \
	$(addprefix csrc/roce/core/,roce_mad.c roce_wire.c roce_heap.c)

$(foreach area,client server life schedule,\
	$(eval $(call c_test,roce_cm_$(area),tests/csrc/roce_cm/$(area)_test.c $(ROCE_CM_TEST_SOURCES))))
$(eval $(call c_test,roce_cm_golden,tests/csrc/roce_cm/golden_test.c tests/csrc/roce_wire/captures.c $(ROCE_CM_TEST_SOURCES)))
$(eval $(call c_fuzz,roce_cm,tests/fuzz/roce_cm.c $(ROCE_CM_TEST_SOURCES)))
