# SPDX-License-Identifier: BSD-2-Clause
# As csrc/roce/build.mk has it, which is read after this.
ROCE_SOURCES ?= $(sort $(wildcard csrc/roce/core/*.c csrc/roce/user/*.c))
KRPING_COMMON_SOURCES := $(addprefix csrc/common/,address.c control_socket.c shared_stats.c)
KRPING_SOURCES := $(sort $(wildcard csrc/krping/*.c)) $(KRPING_COMMON_SOURCES)
# librdmacm and libibverbs are opened at run time, where the verbs engine is asked for.
$(eval $(call c_library,krping,$(KRPING_SOURCES) $(ROCE_SOURCES),csrc/krping/krping.map,-ldl))
