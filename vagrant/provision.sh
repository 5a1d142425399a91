#!/bin/bash
# Installs the package and two workloads with equal addresses, and says what to try.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

apt-get update --quiet
apt-get install --yes --quiet /tmp/brattice.deb curl iproute2 python3

for name in blue1 green1; do
    ip netns pids "$name" >/dev/null 2>&1 && continue
    ip netns add "$name"
    ip link add "$name" type veth peer name eth0 netns "$name"
    ip -n "$name" link set lo up
    ip -n "$name" addr add 10.0.0.10/16 dev eth0
    ip -n "$name" link set eth0 up
    ip link set "$name" up
    ip -n "$name" route add default dev eth0
done
cp --recursive --no-clobber /usr/share/doc/brattice/policies/. /etc/brattice/policies/
systemctl is-active --quiet green1 || systemd-run --unit=green1 --property=NetworkNamespacePath=/run/netns/green1 \
    python3 -m http.server 8080

uname --kernel-release
if brattice preflight; then
    systemctl enable --now brattice
    brattice status
else
    echo "This host does not fit; the list above says why."
fi
