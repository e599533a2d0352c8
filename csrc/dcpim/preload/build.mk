# SPDX-License-Identifier: BSD-2-Clause
# The engine is found beside the library, wherever build/ is.
$(eval $(call c_library,dcpim_preload,$(sort $(wildcard csrc/dcpim/preload/*.c)),csrc/dcpim/preload/preload.map,-Lbuild/lib -lrackwire_dcpim -Wl$(comma)-rpath$(comma)'$$$$ORIGIN'))

build/lib/librackwire_dcpim_preload.so: build/lib/librackwire_dcpim.so
build/asan/lib/librackwire_dcpim_preload.so: build/lib/librackwire_dcpim.so build/asan/lib/librackwire_dcpim.so
