# SPDX-License-Identifier: BSD-2-Clause
$(eval $(call c_library,host,csrc/host/host.c csrc/common/proc_io.c,csrc/host/host.map))
