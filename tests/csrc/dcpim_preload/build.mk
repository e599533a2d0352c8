# SPDX-License-Identifier: BSD-2-Clause
# Programs that know nothing of rackwire: the C library alone, and none of its include paths.
DCPIM_PRELOAD_CC := $(CC) -std=gnu11 -g -Wall -Wextra -Werror -D_GNU_SOURCE -pthread
DCPIM_PRELOAD_CALLS := $(foreach what,socket data wait epoll process,build/fixtures/dcpim_preload_$(what))
DCPIM_PRELOAD_PEERS := build/fixtures/dcpim_preload_peer build/fixtures/dcpim_preload_peer_fortified

$(DCPIM_PRELOAD_CALLS): build/fixtures/dcpim_preload_%: tests/csrc/dcpim_preload/calls_%.c tests/csrc/dcpim_preload/calls.c \
		tests/csrc/dcpim_preload/calls.h tests/helpers/tap.h
	@mkdir -p $(@D)
	$(DCPIM_PRELOAD_CC) -O1 -Itests/helpers -o $@ $(filter %.c,$^)
build/fixtures/dcpim_preload_peer: tests/csrc/dcpim_preload/peer.c
	@mkdir -p $(@D)
	$(DCPIM_PRELOAD_CC) -O2 -o $@ $<
# Through the other names that these macros give read, recv, poll and fcntl.
build/fixtures/dcpim_preload_peer_fortified: tests/csrc/dcpim_preload/peer.c
	@mkdir -p $(@D)
	$(DCPIM_PRELOAD_CC) -O2 -D_FORTIFY_SOURCE=2 -D_FILE_OFFSET_BITS=64 -o $@ $<

TEST_FIXTURES += $(DCPIM_PRELOAD_CALLS) $(DCPIM_PRELOAD_PEERS)
