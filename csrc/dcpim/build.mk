# SPDX-License-Identifier: BSD-2-Clause
DCPIM_CORE_SOURCES := $(sort $(wildcard csrc/dcpim/core/*.c))
DCPIM_USER_SOURCES := $(sort $(wildcard csrc/dcpim/user/*.c)) csrc/common/proc_io.c csrc/common/control_socket.c
DCPIM_WORK_SOURCES := $(sort $(wildcard csrc/dcpim/workload/*.c)) csrc/common/address.c csrc/common/shared_stats.c
$(eval $(call c_library,dcpim,$(DCPIM_CORE_SOURCES) $(DCPIM_USER_SOURCES) $(DCPIM_WORK_SOURCES),csrc/dcpim/user/user.map))
