#!/bin/busybox sh
# shellcheck shell=dash
# The guest's first process: mounts, modules, the script, its exit code, off. The console is the kernel's; what the script
# prints goes to the second serial line.
/bin/busybox --install -s /bin
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
stty -F /dev/ttyS1 raw -echo 2>/dev/null
exec </dev/null >/dev/ttyS1 2>&1
while read -r module; do
    insmod "/modules/$module.ko" || echo "module $module could not be loaded"
done </modules/order
hostname guest
ip link set lo up
/usr/bin/sh /script
echo "exit $?"
sync
poweroff -f
