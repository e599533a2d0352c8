# SPDX-License-Identifier: BSD-2-Clause
ROCE_CORE_SOURCES := $(sort $(wildcard csrc/roce/core/*.c))
ROCE_VNET_SOURCES := $(addprefix tests/csrc/roce_core/,vnet.c vhost.c vspace.c vapp.c vevent.c vpost.c vdone.c vcheck.c) \
	$(ROCE_CORE_SOURCES) $(ROCE_CRC32_SOURCES)
$(eval $(call c_test,roce_core_properties,tests/csrc/roce_core/properties_test.c $(ROCE_VNET_SOURCES)))
