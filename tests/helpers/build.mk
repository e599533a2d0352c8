# SPDX-License-Identifier: BSD-2-Clause
# A wire that delays, reorders, duplicates, drops and corrupts, for tests in namespaces.
TEST_FIXTURES += build/tests/helpers/impair
build/tests/helpers/impair: build/obj/tests/helpers/impair.o
	@mkdir -p $(@D)
	$(CC) -o $@ $^
