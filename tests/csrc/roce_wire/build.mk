# SPDX-License-Identifier: BSD-2-Clause
ROCE_WIRE_TEST := tests/csrc/roce_wire
$(eval $(call c_test,roce_wire_packet,$(addprefix $(ROCE_WIRE_TEST)/,packet_test.c fields.c) $(ROCE_WIRE_SOURCES)))
$(eval $(call c_test,roce_wire_mad,$(addprefix $(ROCE_WIRE_TEST)/,mad_test.c fields.c) $(ROCE_WIRE_SOURCES)))
$(eval $(call c_test,roce_wire_icrc,$(ROCE_WIRE_TEST)/icrc_test.c $(ROCE_WIRE_SOURCES) $(ROCE_CRC32_SOURCES)))
$(eval $(call c_test,roce_wire_captures,$(addprefix $(ROCE_WIRE_TEST)/,captures_test.c captures.c) $(ROCE_WIRE_SOURCES) $(ROCE_CRC32_SOURCES)))
$(eval $(call c_fuzz,roce_decode,tests/fuzz/roce_decode.c $(ROCE_WIRE_SOURCES)))
$(eval $(call c_fuzz,roce_mad,tests/fuzz/roce_mad.c $(ROCE_WIRE_SOURCES)))

# Packets of every kind with their fields, for other programs to read.
TEST_FIXTURES += build/tests/fixtures/roce_wire_samples
build/tests/fixtures/roce_wire_samples: $(call objects,build/asan/obj,$(addprefix $(ROCE_WIRE_TEST)/,samples.c fields.c) $(ROCE_WIRE_SOURCES))
	@mkdir -p $(@D)
	$(CC) -pthread $(SANITIZE) -o $@ $^
