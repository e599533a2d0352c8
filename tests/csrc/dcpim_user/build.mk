# SPDX-License-Identifier: BSD-2-Clause
DCPIM_USER_TEST_SOURCES := tests/csrc/dcpim_user/pair.c $(DCPIM_CORE_SOURCES) $(DCPIM_USER_SOURCES)

$(foreach area,transfer life poll engine app,\
	$(eval $(call c_test,dcpim_user_$(area),tests/csrc/dcpim_user/$(area)_test.c $(DCPIM_USER_TEST_SOURCES))))
