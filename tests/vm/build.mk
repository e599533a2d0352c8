# SPDX-License-Identifier: BSD-2-Clause
# The kernels of guests are fetched with the packages, so that tests need no network afterwards.
.PHONY: vm-kernels
vm-kernels: | deps-test
	@tests/vm/kernel.sh bookworm || echo "tests that need guests will be skipped" >&2

deps test test-all: vm-kernels
