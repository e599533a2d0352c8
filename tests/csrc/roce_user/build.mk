# SPDX-License-Identifier: BSD-2-Clause
$(foreach area,transfer share life hostile,\
	$(eval $(call c_test,roce_user_$(area),tests/csrc/roce_user/$(area)_test.c tests/csrc/roce_user/pair.c $(ROCE_SOURCES))))
