# SPDX-License-Identifier: BSD-2-Clause
$(eval $(call c_test,dcpim_wire,tests/csrc/dcpim_wire/wire.c tests/csrc/dcpim_wire/vectors.c csrc/dcpim/core/dcpim_wire.c))
$(eval $(call c_fuzz,dcpim_decode,tests/fuzz/dcpim_decode.c csrc/dcpim/core/dcpim_wire.c))
