#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Fetches the stock kernel of a Debian suite for the guests: tests/vm/kernel.sh bookworm
#
# It ends up in build/vm/kernels/SUITE: `image`, lib/modules/RELEASE with modules.dep, and `release`, which is
# written last. With that in place this does nothing and needs no network. Nothing is installed on this
# machine: apt gets package lists of its own. When it fails, the last line on stderr says why.
set -eu
cd "$(dirname "$0")/../.."

suite=${1:?usage: tests/vm/kernel.sh SUITE}
case $suite in *[!a-z0-9-]*) echo "not the name of a suite: $suite" >&2; exit 2 ;; esac
kernels=build/vm/kernels
there=$kernels/$suite
[ ! -s "$there/release" ] || exit 0

for tool in apt-get dpkg-deb depmod flock; do
	command -v $tool >/dev/null || { echo "no kernel of $suite: $tool is not installed" >&2; exit 1; }
done
keys=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e $keys ] || { echo "no kernel of $suite: there is no $keys" >&2; exit 1; }

mkdir -p $kernels
exec 9>$kernels/lock
flock 9
[ ! -s "$there/release" ] || exit 0

work=$PWD/$kernels/$suite.part
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
rm -rf "$work" "$there"
mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/unpacked"

# The mirrors this machine uses, where it is a Debian.
mirror_of() {
	apt-get indextargets --format '$(SITE) $(RELEASE)' 'Created-By: Packages' 2>/dev/null |
		awk -v kind="$1" '$2 ~ kind && $1 ~ /\/debian(-security)?\/?$/ { print $1; exit }'
}
main=$(mirror_of '^(bookworm|oldstable|stable)$')
security=$(mirror_of '-security$')
{
	echo "deb [signed-by=$keys] ${main:-http://deb.debian.org/debian} $suite main"
	case $suite in
	*-backports | sid) ;;
	*) echo "deb [signed-by=$keys] ${security:-http://deb.debian.org/debian-security} $suite-security main" ;;
	esac
} >"$work/sources.list"

apt() {
	program=$1
	shift
	"$program" -q -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
		-o Dir::State::Lists="$work/lists" -o Dir::State::Status=/dev/null \
		-o Dir::Cache="$work" -o Dir::Cache::Archives="$work/archives" \
		-o APT::Architecture=amd64 -o APT::Architectures=amd64 -o APT::Sandbox::User=root \
		-o Acquire::Languages=none -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false \
		-o Acquire::Retries=3 "$@"
}
fail() {
	sed 's/^/    /' "$work/log" >&2
	echo "no kernel of $suite: $1" >&2
	exit 1
}

echo "fetching the kernel of $suite for the guests (about 100 MB)" >&2
apt apt-get update --error-on=any >"$work/log" 2>&1 || fail "its package list cannot be had"
package=$(apt apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[^ ]*-amd64\)$/\1/p' | tail -1)
[ -n "$package" ] || fail "linux-image-amd64 names none"
(cd "$work" && apt apt-get download "$package") >>"$work/log" 2>&1 || fail "$package cannot be had"
dpkg-deb -x "$work"/linux-image-*.deb "$work/unpacked" >>"$work/log" 2>&1 || fail "$package cannot be unpacked"

cd "$work/unpacked"
release=$(basename boot/vmlinuz-*)
release=${release#vmlinuz-}
mkdir -p ../kernel/lib
# Emulated, a compressed image takes longer to unpack than the kernel to boot; QEMU takes it unpacked, too.
# Where the payload is: Linux's Documentation/x86/boot.rst.
number() { od -An -j "$1" -N "$2" -t "u$2" "boot/vmlinuz-$release" | tr -d ' '; }
skip=$((($(number 497 1) + 1) * 512 + $(number 584 4)))
size=$(($(number 588 4) - 4))
case $(number "$skip" 2) in
14333) unpack=xz ;;
46376) unpack=zstd ;;
*) unpack=false ;;
esac
if ! tail -c "+$((skip + 1))" "boot/vmlinuz-$release" | head -c "$size" | $unpack -dc >../kernel/image; then
	mv "boot/vmlinuz-$release" ../kernel/image
fi 2>>"$work/log"
if [ -d lib/modules ]; then mv lib/modules ../kernel/lib/; else mv usr/lib/modules ../kernel/lib/; fi
cd ../../../../..
depmod -b "$work/kernel" "$release" >>"$work/log" 2>&1 || fail "depmod refuses its modules"
echo "$release" >"$work/kernel/release"
mv "$work/kernel" "$there"
