# SPDX-License-Identifier: BSD-2-Clause
# The wire formats alone, for programs that need nothing else of RoCE.
ROCE_WIRE_SOURCES := $(addprefix csrc/roce/core/,roce_wire.c roce_mad.c roce_icrc.c)
ROCE_CRC32_SOURCES := $(addprefix csrc/roce/user/,crc32_fast.c crc32_pclmul.c)
# The library of its own, and what others compile in.
ROCE_SOURCES := $(sort $(wildcard csrc/roce/core/*.c csrc/roce/user/*.c))
$(eval $(call c_library,roce,$(ROCE_SOURCES),csrc/roce/user/roce.map))
