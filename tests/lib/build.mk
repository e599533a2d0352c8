# SPDX-License-Identifier: BSD-2-Clause
# A library that does to lib/ffi what an engine does.
TEST_FIXTURES += build/tests/lib/librackwire_fixture.so
build/tests/lib/librackwire_fixture.so: $(call objects,build/obj,tests/lib/fixture.c csrc/common/shared_stats.c csrc/common/event_pipe.c)
	@mkdir -p $(@D)
	$(CC) -shared -pthread -o $@ $^
