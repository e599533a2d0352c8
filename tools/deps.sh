#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Installs the Debian packages that are missing: tools/deps.sh build|test
# With everything in place it does nothing and needs no network.
set -eu

build="gcc libc6-dev libibverbs-dev librdmacm-dev make npm nodejs ca-certificates"
test="binutils bpftool busybox-static clang e2fsprogs ethtool fio fuse3 gcc-s390x-linux-gnu ibverbs-providers ibverbs-utils iperf3 iproute2 kmod libbpf-dev libc6-dev-s390x-cross libclang-rt-14-dev libfabric-bin libnbd-bin llvm nbdfuse nbdkit nftables perftest procps python3 qemu-system-x86 qemu-user qemu-utils rdmacm-utils tcpdump tshark ucx-utils util-linux xz-utils zstd"

case "${1:-}" in
build) want=$build ;;
test) want="$build $test" ;;
*) echo "usage: tools/deps.sh build|test" >&2; exit 2 ;;
esac

if ! command -v apt-get >/dev/null; then
	mkdir -p build
	if [ ! -e "build/no-apt-$1" ]; then
		echo "This machine has no apt. rackwire needs what Debian 12 calls: $want" >&2
		touch "build/no-apt-$1"
	fi
	exit 0
fi

installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' 2>/dev/null | sed -n 's/^installed //p')
missing=
for package in $want; do
	case $package in
	npm) command -v npm >/dev/null && continue ;;
	nodejs) command -v node >/dev/null && continue ;;
	esac
	printf '%s\n' "$installed" | grep -qxF "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
	echo "Packages are missing and installing them needs root. Run this, then make again:" >&2
	echo "  sudo apt-get update && sudo apt-get install -y --no-install-recommends$missing" >&2
	exit 1
fi

echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing >/dev/null
