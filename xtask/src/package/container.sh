#!/bin/bash
# Boots systemd as process 1 of a Debian root in namespaces of its own: `container.sh ROOT`. Ends with the caller.
# Nothing of the host is shared but the kernel: its own network, mounts (with an own bpffs), processes, cgroup and IPC.
set -euo pipefail
root=$1

if [ "${2:-}" != inside ]; then
    exec unshare --mount --pid --net --ipc --uts --cgroup --fork --kill-child --propagation private \
        bash "$0" "$root" inside
fi

hostname brattice-check
ip link set lo up
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
# What concerns the whole kernel is not this container's to set.
mount --bind "$root/proc/sys" "$root/proc/sys"
mount --bind "$root/proc/sys/net" "$root/proc/sys/net"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t bpf -o mode=700 bpf "$root/sys/fs/bpf"
mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$root/run"
mkdir -p "$root/mnt"
cd "$root"
pivot_root . mnt
umount -l /mnt
exec env -i container=brattice PATH=/usr/sbin:/usr/bin TERM=dumb \
    /lib/systemd/systemd --system --log-target=console --log-level=warning --show-status=false
