# SPDX-License-Identifier: BSD-2-Clause
# What the benchmark compares dcPIM with, and what holds many connections open.
BENCH_PROGRAMS := build/bench/pingpong build/bench/messages build/bench/idle
bench: $(BENCH_PROGRAMS) build/tests/fixtures/krping_try vm-kernels
# Tests look at the packets of idle connections, too.
TEST_FIXTURES += build/bench/idle
build/bench/pingpong build/bench/messages: build/bench/%: build/obj/tests/bench/%.o
	@mkdir -p $(@D)
	$(CC) -o $@ $^
build/bench/idle: build/obj/tests/bench/idle.o build/lib/librackwire_dcpim.so
	@mkdir -p $(@D)
	$(CC) -o $@ $^ -Wl,-rpath,'$$ORIGIN/../lib'
# The RoCEv2 library alone.
BENCH_PROGRAMS += build/bench/roce_perf
bench: build/bench/roce_perf
build/bench/roce_perf: build/obj/tests/bench/roce_perf.o build/lib/librackwire_roce.so
	@mkdir -p $(@D)
	$(CC) -o $@ $^ -Wl,-rpath,'$$ORIGIN/../lib'
