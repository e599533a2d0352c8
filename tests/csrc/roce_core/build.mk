# SPDX-License-Identifier: BSD-2-Clause
ROCE_CORE_SOURCES := $(sort $(wildcard csrc/roce/core/*.c))
ROCE_VNET_SOURCES := $(addprefix tests/csrc/roce_core/,vnet.c vhost.c vspace.c vapp.c vevent.c vpost.c vdone.c vcheck.c) \
	$(ROCE_CORE_SOURCES) $(ROCE_CRC32_SOURCES)
$(eval $(call c_test,roce_core_properties,tests/csrc/roce_core/properties_test.c $(ROCE_VNET_SOURCES)))
$(foreach area,rdma recovery keys hostile speed,\
	$(eval $(call c_test,roce_core_$(area),$(addprefix tests/csrc/roce_core/,$(area)_test.c scene.c vnet.c vhost.c) $(ROCE_CORE_SOURCES) $(ROCE_CRC32_SOURCES))))

# Two devices and single packets, without the network above.
$(foreach area,transport transport_refusal,\
	$(eval $(call c_test,roce_core_$(area),$(addprefix tests/csrc/roce_core/,$(area)_test.c transport_pair.c) $(ROCE_CORE_SOURCES))))

$(eval $(call c_fuzz,roce_script,tests/fuzz/roce_script.c $(ROCE_VNET_SOURCES)))
$(eval $(call c_fuzz,roce_rx,tests/fuzz/roce_rx.c $(addprefix tests/csrc/roce_core/,scene.c vnet.c vhost.c) $(ROCE_CORE_SOURCES) $(ROCE_CRC32_SOURCES)))
