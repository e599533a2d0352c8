# SPDX-License-Identifier: BSD-2-Clause
DCPIM_CORE_SOURCES := $(wildcard csrc/dcpim/core/*.c)
DCPIM_VNET_SOURCES := $(addprefix tests/csrc/dcpim_core/,vnet.c vhost.c vapp.c vcheck.c) $(DCPIM_CORE_SOURCES)

$(foreach area,match token recovery message life refusal speed hostile,\
	$(eval $(call c_test,dcpim_core_$(area),tests/csrc/dcpim_core/$(area)_test.c tests/csrc/dcpim_core/scene.c $(DCPIM_VNET_SOURCES))))
$(eval $(call c_test,dcpim_core_properties,tests/csrc/dcpim_core/properties_test.c tests/csrc/dcpim_core/vsniff.c $(DCPIM_VNET_SOURCES)))
$(eval $(call c_fuzz,dcpim_script,tests/fuzz/dcpim_script.c $(DCPIM_VNET_SOURCES)))
