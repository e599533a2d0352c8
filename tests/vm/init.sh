#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The first process of a guest, run by busybox from the initramfs that guest.ts makes.
#
# Puts a memory-backed overlay over the host's root, which it reads by 9p, and then is the agent: each line
# "start DIRECTORY" on the virtio-serial port runs DIRECTORY/command inside that root, prints to DIRECTORY/out
# and DIRECTORY/err, and is answered by "ended DIRECTORY STATUS". The directories are shared with the host,
# under the same path on both sides. "stop", or the end of the host's side, powers off.
PATH=/bin
. /config # release, modules, exchange

fail() {
	echo "init: $1" >/dev/console
	poweroff -f
}

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
echo 8 >/proc/sys/kernel/printk
while read -r module; do
	insmod "/modules/$module" || fail "cannot load $module"
done </modules/order

port=
for name in /sys/class/virtio-ports/*/name; do
	[ "$(cat "$name")" = rackwire.agent ] && port=$(basename "$(dirname "$name")")
done
[ -n "$port" ] || fail "there is no agent's port"
exec 3<>"/dev/$port"

p9=trans=virtio,version=9p2000.L,msize=262144
mount -t 9p -o "$p9,ro,cache=loose" root /lower || fail "cannot mount the host's root"
mount -t tmpfs tmpfs /upper
mkdir /upper/data /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work overlay /root ||
	fail "cannot mount the overlay"
mount -t proc proc /root/proc
mount -t sysfs sys /root/sys
mount -t devtmpfs dev /root/dev
mkdir -p /root/dev/pts /root/dev/shm
mount -t devpts devpts /root/dev/pts
mount -t tmpfs tmpfs /root/dev/shm
mount -t tmpfs tmpfs /root/run
mkdir -p "/root$exchange" "/root/lib/modules/$release"
mount -t 9p -o "$p9,cache=none" exchange "/root$exchange" || fail "cannot mount the exchange"
mount --bind "/root$modules" "/root/lib/modules/$release" || fail "cannot reach the modules"
echo guest >/proc/sys/kernel/hostname
ip link set lo up

job() {
	(exec setsid chroot /root /bin/sh "$1/command" </dev/null >"/root$1/out" 2>"/root$1/err" 3>&-)
	echo "ended $1 $?" >&3
}

echo ready >&3
while read -r verb directory <&3; do
	case $verb in
	start) job "$directory" & ;;
	stop) break ;;
	esac
done
poweroff -f
