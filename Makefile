# SPDX-License-Identifier: BSD-2-Clause
# rackwire: one command line for the data-centre host network.
# Each directory under csrc/ and tests/ describes its own libraries, programs and
# tests in a build.mk, using the macros below.

DENO_VERSION := 2.9.6

ARCH := $(shell uname -m)
DENO_PLATFORM := $(if $(filter aarch64,$(ARCH)),linux-arm64-glibc,linux-x64-glibc)
DENO ?= $(CURDIR)/.deno/node_modules/@deno/$(DENO_PLATFORM)/deno
# npm imports are cached inside the checkout, so that `sudo make deps` serves every user.
export DENO_DIR := $(CURDIR)/.deno/cache
export DENO_NO_UPDATE_CHECK := 1

CC := gcc
CLANG ?= clang
CPPFLAGS := -D_GNU_SOURCE -Icsrc/include -Icsrc/common -Icsrc -Itests/helpers
CFLAGS := -std=gnu11 -g -O2 -Wall -Wextra -Werror -fPIC -pthread
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
FUZZ_SANITIZE := -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: help deps deps-build deps-test deno build build-test demo test-fast test test-all bench lint fmt clean FORCE

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

deps: deps-test deno ## install what building and testing need (apt, Deno, npm imports)

deps-build:
	@tools/deps.sh build

deps-test:
	@tools/deps.sh test

deno: .deno/imports-$(DENO_VERSION).stamp

# The npm package holds the plain binary; its install script is not needed.
.deno/deno-$(DENO_VERSION).stamp: | deps-build
	@mkdir -p .deno
	$(if $(filter $(CURDIR)/.deno/%,$(DENO)),npm install --no-save --ignore-scripts --no-audit --no-fund --loglevel=error --prefix .deno deno@$(DENO_VERSION))
	@touch $@

.deno/imports-$(DENO_VERSION).stamp: .deno/deno-$(DENO_VERSION).stamp deno.json deno.lock
	$(DENO) install --frozen --quiet
	@if [ -n "$$SUDO_UID" ]; then chown -R "$$SUDO_UID:$$SUDO_GID" .deno; fi
	@touch $@

# ---- C ----------------------------------------------------------------------

LIBRARIES :=
ASAN_LIBRARIES :=
PROGRAMS :=
C_TESTS :=
FUZZERS :=
# What else tests need built; a build.mk adds to it and gives the rule.
TEST_FIXTURES :=

objects = $(patsubst %.c,$(1)/%.o,$(2))

# A comma inside an argument of these macros must be written $(comma).
comma := ,

# $(eval $(call c_library,NAME,SOURCES,MAPFILE,LDLIBS))
#   build/lib/librackwire_NAME.so and build/asan/lib/librackwire_NAME.so
define c_library
LIBRARIES += build/lib/librackwire_$(1).so
ASAN_LIBRARIES += build/asan/lib/librackwire_$(1).so
build/lib/librackwire_$(1).so: $(call objects,build/obj,$(2)) $(3)
	@mkdir -p $$(@D)
	$$(CC) -shared -pthread -Wl,-z,defs -Wl,--version-script=$(3) -o $$@ $(call objects,build/obj,$(2)) $(4)
build/asan/lib/librackwire_$(1).so: $(call objects,build/asan/obj,$(2)) $(3)
	@mkdir -p $$(@D)
	$$(CC) -shared -pthread $(SANITIZE) -Wl,--version-script=$(3) -o $$@ $(call objects,build/asan/obj,$(2)) $(4)
endef

# $(eval $(call c_program,NAME,SOURCES,LDLIBS))   build/bin/NAME
define c_program
PROGRAMS += build/bin/$(1)
build/bin/$(1): $(call objects,build/obj,$(2))
	@mkdir -p $$(@D)
	$$(CC) -pthread -o $$@ $(call objects,build/obj,$(2)) $(3)
endef

# $(eval $(call c_test,NAME,SOURCES,LDLIBS))   build/tests/NAME, sanitized, prints TAP
define c_test
C_TESTS += build/tests/$(1)
build/tests/$(1): $(call objects,build/asan/obj,$(2))
	@mkdir -p $$(@D)
	$$(CC) -pthread $(SANITIZE) -o $$@ $(call objects,build/asan/obj,$(2)) $(3)
endef

# $(eval $(call c_fuzz,NAME,SOURCES))   build/fuzz/NAME, a libFuzzer program
define c_fuzz
FUZZERS += build/fuzz/$(1)
build/fuzz/$(1): $(call objects,build/fuzz/obj,$(2))
	@mkdir -p $$(@D)
	$$(CLANG) -pthread $(FUZZ_SANITIZE) -o $$@ $(call objects,build/fuzz/obj,$(2))
endef

include $(sort $(wildcard csrc/*/build.mk csrc/*/*/build.mk tests/*/build.mk tests/*/*/build.mk))

# Objects are rebuilt when the flags change, not whenever this file does.
build/flags: FORCE
	@mkdir -p build
	@printf '%s\n' '$(CC) $(CLANG) $(CPPFLAGS) $(CFLAGS) $(SANITIZE) $(FUZZ_SANITIZE)' > $@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

build/obj/%.o: %.c build/flags | deps-build
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

build/asan/obj/%.o: %.c build/flags | deps-build
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(SANITIZE) -MMD -MP -c -o $@ $<

build/fuzz/obj/%.o: %.c build/flags | deps-test
	@mkdir -p $(@D)
	$(CLANG) $(CPPFLAGS) $(CFLAGS) $(FUZZ_SANITIZE) -MMD -MP -c -o $@ $<

-include $(shell find build -name '*.d' 2>/dev/null)

# ---- what a person runs -----------------------------------------------------

build/bin/rackwire: tools/launch.sh.in Makefile
	@mkdir -p $(@D)
	@sed -e 's|@DENO@|$(DENO)|' $< > $@.new && chmod 755 $@.new && mv $@.new $@

build: deps-build deno $(LIBRARIES) $(PROGRAMS) build/bin/rackwire ## build the libraries, helper programs and build/bin/rackwire

build-test: deps-test build $(ASAN_LIBRARIES) $(C_TESTS) $(TEST_FIXTURES)

demo: build ## ping over dcPIM and by RDMA on loopback
	@tools/demo.sh

# make test-fast ONLY="a b" runs the suites whose names contain a or b.
ONLY ?=
RUN_TESTS = RACKWIRE_C_TESTS="$(C_TESTS)" $(DENO) run -A --cached-only --frozen tests/run.ts

test-fast: build-test ## unit, property, ABI and command-line tests (minutes)
	@$(RUN_TESTS) fast $(ONLY)

test: build-test $(FUZZERS) ## every test that fits a gate: also namespaces, peers, short fuzzing
	@$(RUN_TESTS) full $(ONLY)

test-all: build-test $(FUZZERS) ## everything, with long soaks and fuzzing (hours)
	@$(RUN_TESTS) all $(ONLY)

bench: deps-test build ## measure, print the ratios and write them as JSON; ARGS=--quick
	@$(DENO) run -A --cached-only --frozen tests/bench/main.ts $(ARGS)

lint: build ## check types, style, formatting, licences and file sizes
	$(DENO) check --cached-only --frozen --quiet cli lib tests tools
	$(DENO) lint --quiet
	$(DENO) fmt --check --quiet
	@$(DENO) run --cached-only --frozen --allow-read --allow-run=git tools/check_files.ts

fmt: deno ## format the TypeScript
	$(DENO) fmt --quiet

clean: ## remove what was built (keeps the dependencies in .deno)
	rm -rf build
