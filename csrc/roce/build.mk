# SPDX-License-Identifier: BSD-2-Clause
# The wire formats alone, for programs that need nothing else of RoCE.
ROCE_WIRE_SOURCES := $(addprefix csrc/roce/core/,roce_wire.c roce_mad.c roce_icrc.c)
ROCE_CRC32_SOURCES := $(addprefix csrc/roce/user/,crc32_fast.c crc32_pclmul.c)
