# SPDX-License-Identifier: BSD-2-Clause
KRPING_TEST_SOURCES := tests/csrc/krping/bench.c tests/csrc/krping/raw.c $(filter-out csrc/krping/block_%,$(KRPING_SOURCES)) $(ROCE_SOURCES)

$(eval $(call c_test,krping_parts,tests/csrc/krping/parts_test.c csrc/krping/wire.c csrc/krping/ping_data.c))
$(foreach area,run trouble hostile,\
	$(eval $(call c_test,krping_$(area),tests/csrc/krping/$(area)_test.c $(KRPING_TEST_SOURCES),-ldl)))

# What tests run in guests and namespaces.
TEST_FIXTURES += build/tests/fixtures/krping_try
build/tests/fixtures/krping_try: build/obj/tests/csrc/krping/try.o build/lib/librackwire_krping.so
	@mkdir -p $(@D)
	$(CC) -pthread -o $@ $< -Lbuild/lib -lrackwire_krping -Wl,-rpath,'$$ORIGIN/../../lib'
