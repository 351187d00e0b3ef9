#!/bin/bash
# What a launcher made of separate programs does before QEMU, in the order the seed does it. Local base image.
# usage: seed-order.sh BASE OVERLAY WORKDIR QEMU
set -e
base=$1 overlay=$2 work=$3 qemu=$4
qemu-img create -q -f qcow2 -F qcow2 -b "$base" "$overlay"
mkdir -p "$work/iso/openstack/2012-08-10"
cp "$work/metadata" "$work/iso/openstack/2012-08-10/meta_data.json"
cp "$work/userdata" "$work/iso/openstack/2012-08-10/user_data"
ln -s 2012-08-10 "$work/iso/openstack/latest"
mkisofs -quiet -R -V config-2 -o "$work/cloud-drive.iso" "$work/iso" 2>/dev/null
mac=$(ip link show eth0 | awk '/ether/{print $2}')
cidr=$(ip addr show dev eth0 | awk '/inet /{print $2; exit}')
gateway=$(ip route get 8.8.8.8 | awk '{print $3; exit}')
servers=$(awk '/^nameserver/{printf "%s%s", sep, $2; sep=","}' "$work/resolv.conf")
search=$(awk '/^search/{$1=""; gsub(/^ | $/, ""); gsub(/ /, ","); print}' "$work/resolv.conf")
[ -n "$mac" ] && [ -n "$cidr" ] && [ -n "$gateway" ] && [ -n "$servers" ] && [ -n "$search" ]
echo 1 > /proc/sys/net/ipv4/ip_forward
iptables -t nat -A PREROUTING -d "${cidr%/*}" -p tcp ! --dport 5900 -j DNAT --to-destination 192.168.254.2
iptables -t nat -A POSTROUTING -s 192.168.254.2 -j SNAT --to-source "${cidr%/*}"
cat > "$work/dnsmasq.conf" <<CONF
dhcp-range=192.168.254.2,192.168.254.2,infinite
dhcp-option=6,$servers
dhcp-option=119,$search
dhcp-option=3,192.168.254.1
dhcp-leasefile=$work/leases
CONF
dnsmasq -C "$work/dnsmasq.conf" -u root --pid-file="$work/dnsmasq.pid"
brctl addbr br0
ip link set br0 up
ip addr add 192.168.254.1/30 dev br0
exec "$qemu"
