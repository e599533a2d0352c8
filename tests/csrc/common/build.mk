# SPDX-License-Identifier: BSD-2-Clause
$(eval $(call c_test,common_shared_stats,tests/csrc/common/shared_stats.c csrc/common/shared_stats.c))
$(eval $(call c_test,common_io,tests/csrc/common/io.c csrc/common/proc_io.c csrc/common/event_pipe.c))
