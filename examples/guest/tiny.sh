#!/usr/bin/env bash
# The tiny guest: a real Debian kernel, busybox, and services to talk to, in a 50 MiB disk that
# boots in a few seconds under plain emulation.
#
#   examples/guest/tiny.sh     builds it, or finds it in the cache; prints the path of the qcow2
#
# The disk has an MBR and two partitions: FAT with syslinux, the kernel and an initramfs, and a
# small ext4 labelled "data" that the guest mounts at /data. No root, no loop device, no mount is
# needed. amd64 only: the boot loader and the kernel package are.
#
# On its serial console the guest prints lines `guest: UPTIME WHAT`, and gives a shell:
#   modules | link INTERFACE MAC | lease ADDRESS/PREFIX | lease6 ADDRESS | seed DEVICE FILE... | user_data SHA256
#   boots N | ready | down HOW
# Services: TCP 7 and UDP 7 and UDP 5353 echo; TCP 8080 says who it is and who asked, in one line;
# TCP 5900 says "guest-5900"; TCP 2323 is a shell. /run/lease keeps what DHCP gave. Where a router advertises itself,
# KAME's client (Debian's wide-dhcpv6-client) asks for an IPv6 address.
# The power button unmounts /data and powers off, unless user_data contains "ignore-acpi".
set -euo pipefail
# The answer is the one line on stdout; whatever the tools say goes to stderr.
exec 3>&1 1>&2

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
cache=${BERTH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/berth}
modules=(
    virtio_pci virtio_blk virtio_net virtio_rng virtio_scsi virtio_console button evdev pvpanic-pci
    sr_mod ata_piix ahci isofs vfat nls_cp437 nls_ascii nls_utf8
)
boot_mib=32 # with the kernel (14 MB) and the initramfs (5 MB)
data_mib=16

say() { printf 'guest tiny: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}

kernel_package() {
    apt-cache depends linux-image-cloud-amd64 2>/dev/null |
        awk '/Depends: linux-image/ { print $2; exit }'
}

# A package, kept in the cache beside the guest, as $deb.
fetch() { # PACKAGE
    deb=$(find "$cache" -name "$1_*.deb" -print -quit)
    if [ -z "$deb" ]; then
        say "downloading $1"
        (cd "$work" && apt-get download -qq -o APT::Sandbox::User=root "$1")
        mv "$work/$1"_*.deb "$cache"
        deb=$(find "$cache" -name "$1_*.deb" -print -quit)
    fi
}

# The wanted modules and what they depend on, out of the kernel's package.
copy_modules() { # VERSION
    local from=$work/kernel to=$work/root/lib/modules/$1 module file
    mkdir -p "$to"
    /sbin/depmod -b "$from" "$1"
    for module in "${modules[@]}"; do
        # One that is built in, or that this kernel lacks, is simply not listed.
        /sbin/modprobe -d "$from" -S "$1" --show-depends "$module" 2>/dev/null || true
    done | awk '$1 == "insmod" { print $2 }' | sort -u |
        while read -r file; do cp "$file" "$to/"; done
    cp "$from/lib/modules/$1"/modules.{order,builtin,builtin.modinfo} "$to/"
    /sbin/depmod -b "$work/root" "$1"
}

# The client of DHCPv6, and the libraries it is linked to: busybox has none here.
copy_dhcp6c() {
    local library
    for package in wide-dhcpv6-client libfl2; do
        fetch "$package"
        dpkg-deb -x "$deb" "$work/dhcp6c"
    done
    cp "$work/dhcp6c/usr/sbin/dhcp6c" "$work/root/sbin/"
    mkdir -p "$work/root/lib64" "$work/root/var/lib/dhcpv6"
    LD_LIBRARY_PATH=$work/dhcp6c/usr/lib/x86_64-linux-gnu ldd "$work/root/sbin/dhcp6c" |
        grep -o '/[^ ]*' | while read -r library; do cp -L "$library" "$work/root/lib/"; done
    mv "$work/root/lib"/ld-* "$work/root/lib64/"
}

write_init() {
    cat >"$work/root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts && mount -t devpts devpts /dev/pts
for module in $(cat /etc/modules); do modprobe -q "$module"; done
say modules

serve tcp 7 cat &
serve udp 7 &
serve udp 5353 &
serve tcp 8080 hello &
serve tcp 5900 echo guest-5900 &
serve tcp 2323 sh &

hostname tiny
ip link set lo up
for link in $(ls /sys/class/net); do
    [ -e "/sys/class/net/$link/device" ] || continue
    ip link set "$link" up
    say "link $link $(cat "/sys/class/net/$link/address")"
    udhcpc -f -i "$link" -t 5 -T 1 -A 2 -s /etc/udhcpc.sh \
        -O 121 -O search -O mtu -x hostname:tiny >/var/log/udhcpc 2>&1 &
    (
        until ip -6 route show default | grep -q via; do usleep 200000; done
        sed -i "s/LINK/$link/" /etc/dhcp6c.conf
        exec dhcp6c -f -c /etc/dhcp6c.conf "$link" >/var/log/dhcp6c 2>&1
    ) &
    break
done

# The config drive, by what is on it: some virtual CD-ROMs and disks are not ours.
for device in /dev/vd[b-z] /dev/sr* /dev/sd*; do
    [ -b "$device" ] || continue
    for type in iso9660 vfat; do
        mount -t "$type" -o ro "$device" /seed 2>/dev/null && break
    done || continue
    if [ -d /seed/openstack ] || [ -e /seed/meta-data ]; then
        say "seed $device $(cd /seed && find . -type f | sed 's,^\./,,' | sort | xargs)"
        break
    fi
    umount /seed
done
for file in /seed/openstack/latest/user_data /seed/user-data; do
    [ -e "$file" ] || continue
    say "user_data $(sha256sum <"$file" | cut -d' ' -f1)"
    ! grep -q ignore-acpi "$file" || touch /run/ignore-acpi
    break
done
[ -e /run/ignore-acpi ] || acpid -f >/var/log/acpid 2>&1 &

if mount -t ext4 /dev/vda2 /data; then
    boots=$(($(cat /data/boots 2>/dev/null || echo 0) + 1))
    echo "$boots" | dd of=/data/boots.new conv=fsync 2>/dev/null
    mv /data/boots.new /data/boots
    sync
    say "boots $boots"
else
    say "boots unknown: no /data"
fi

tries=0
until [ -e /run/lease ] || [ "$tries" -ge 300 ]; do
    usleep 100000
    tries=$((tries + 1))
done
say ready
while :; do
    [ -e /run/down ] || setsid cttyhack sh
    sleep 1
done
INIT

    cat >"$work/root/sbin/say" <<'SAY'
#!/bin/sh
echo "guest: $(cut -d' ' -f1 /proc/uptime) $*" >/dev/console
SAY

    cat >"$work/root/sbin/hello" <<'HELLO'
#!/bin/sh
echo "hello from $(hostname) at ${TCPLOCALADDR%:*}, you are $TCPREMOTEADDR"
HELLO

    # Orderly end: what a distribution does on the power button, or on reboot.
    cat >"$work/root/sbin/down" <<'DOWN'
#!/bin/sh
# down poweroff|reboot
how=${1:-poweroff}
touch /run/down
say "down $how"
cd /
kill -TERM -1
usleep 50000
kill -KILL -1
# Who was killed while it waits for the disk has its files open until the disk has answered.
tries=0
while grep -q ' /data ' /proc/mounts && ! umount /data && [ "$tries" -lt 100 ]; do
    tries=$((tries + 1))
    usleep 50000
done
sync
"$how" -f
DOWN

    cat >"$work/root/etc/acpi/PWRF/00000080" <<'BUTTON'
#!/bin/sh
exec /sbin/down poweroff
BUTTON

    # udhcpc's variables: mask is a prefix length, staticroutes is option 121 (RFC 3442), which
    # replaces router when it is there.
    cat >"$work/root/etc/udhcpc.sh" <<'UDHCPC'
#!/bin/sh
case $1 in
bound | renew) ;;
*) exit 0 ;;
esac
route() { # DESTINATION GATEWAY
    if [ "$2" = 0.0.0.0 ]; then
        ip route replace "$1" dev "$interface"
    else
        ip route get "$2" | grep -q "dev $interface" || ip route replace "$2" dev "$interface"
        ip route replace "$1" via "$2" dev "$interface"
    fi
}
if [ "$1" = bound ] || ! ip -4 addr show "$interface" | grep -qF "inet $ip/"; then
    ip -4 addr flush dev "$interface"
    ip addr add "$ip/${mask:-32}" dev "$interface"
fi
[ -z "$mtu" ] || ip link set "$interface" mtu "$mtu"
if [ -n "$staticroutes" ]; then
    set -- $staticroutes
    while [ $# -ge 2 ]; do
        route "$1" "$2"
        shift 2
    done
else
    for gateway in $router; do route default "$gateway"; done
fi
{
    [ -z "${search:-$domain}" ] || echo "search ${search:-$domain}"
    for server in $dns; do echo "nameserver $server"; done
} >/etc/resolv.conf
[ -z "$hostname" ] || hostname "$hostname"
[ -e /run/lease ] || say "lease $ip/${mask:-32}"
env >/run/lease.new
mv /run/lease.new /run/lease
UDHCPC
    # The script is run when an answer came, a moment before the address is usable.
    cat >"$work/root/etc/dhcp6c.conf" <<'CONF'
interface LINK {
    send ia-na 0;
    send rapid-commit;
    request domain-name-servers;
    request domain-name;
    script "/etc/dhcp6c.sh";
};
id-assoc na 0 {
};
CONF
    cat >"$work/root/etc/dhcp6c.sh" <<'DHCP6C'
#!/bin/sh
env >/run/lease6
(
    address() { ip -6 addr show scope global | grep -v tentative | sed -n 's,.*inet6 \(.*\)/.*scope.*,\1,p'; }
    until [ -n "$(address)" ]; do usleep 100000; done
    [ -e /run/told6 ] || say "lease6 $(address | xargs)"
    touch /run/told6
) &
DHCP6C
    chmod +x "$work/root"/{init,sbin/{say,hello,down},etc/acpi/PWRF/00000080,etc/udhcpc.sh,etc/dhcp6c.sh}
}

build_initramfs() { # VERSION
    local root=$work/root
    mkdir -p "$root"/{bin,sbin,etc/acpi/PWRF,proc,sys,dev,run,tmp,root,seed,data,var/log}
    cp /bin/busybox "$root/bin/busybox"
    gcc -O2 -Wall -static -s -o "$root/sbin/serve" "$here/serve.c"
    echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
    printf '%s\n' "${modules[@]}" >"$root/etc/modules"
    copy_modules "$1"
    copy_dhcp6c
    write_init
    (cd "$root" && find . | cpio --quiet -o -H newc -R 0:0) | gzip -1 >"$work/initrd"
}

build_disk() { # VERSION
    local disk=$work/disk.raw boot=$work/boot.fat data=$work/data.ext4
    cat >"$work/syslinux.cfg" <<'CFG'
SERIAL 0 115200
DEFAULT tiny
PROMPT 0
LABEL tiny
 KERNEL vmlinuz
 INITRD initrd
 APPEND console=ttyS0 quiet loglevel=3 panic=-1 tsc=reliable
CFG
    # -h: sectors before the partition, which the boot sector has to know.
    /sbin/mkfs.vfat -C -h 2048 -n TINY "$boot" $((boot_mib * 1024))
    mcopy -i "$boot" "$work/initrd" "$work/syslinux.cfg" ::
    mcopy -i "$boot" "$work/kernel/boot/vmlinuz-$1" ::vmlinuz
    syslinux --install "$boot"
    /sbin/mke2fs -q -t ext4 -L data -J size=4 -E lazy_itable_init=0 "$data" ${data_mib}M

    truncate -s $((1 + boot_mib + data_mib + 1))M "$disk"
    /sbin/sfdisk -q "$disk" <<TABLE
start=1MiB, size=${boot_mib}MiB, type=e, bootable
start=$((1 + boot_mib))MiB, size=${data_mib}MiB, type=83
TABLE
    dd if=/usr/lib/syslinux/mbr/mbr.bin of="$disk" bs=440 count=1 conv=notrunc status=none
    dd if="$boot" of="$disk" bs=1M seek=1 conv=notrunc,sparse status=none
    dd if="$data" of="$disk" bs=1M seek=$((1 + boot_mib)) conv=notrunc,sparse status=none
    qemu-img convert -O qcow2 "$disk" "$work/disk.qcow2"
}

[ "$(uname -m)" = x86_64 ] || die "is for x86_64 only"
mkdir -p "$cache"
package=$(kernel_package)
if [ -z "$package" ] && [ "$(id -u)" -eq 0 ]; then
    apt-get update -qq
    package=$(kernel_package)
fi
[ -n "$package" ] || die "apt knows no linux-image-cloud-amd64; run apt-get update"
key=$({ cat "$here/tiny.sh" "$here/serve.c" && printf '%s' "$package"; } | sha256sum | cut -c1-16)
image=$cache/tiny-$key.qcow2

# One builder at a time; the others wait and find its work.
exec 9>"$cache/tiny.lock"
flock 9
if [ ! -e "$image" ]; then
    work=$(mktemp -d "$cache/tiny-work.XXXXXX")
    trap 'rm -rf -- "$work"' EXIT
    trap 'exit 130' INT TERM
    say "building (about 5 s, once)"
    fetch "$package"
    dpkg-deb -x "$deb" "$work/kernel"
    version=$(ls "$work/kernel/lib/modules")
    build_initramfs "$version"
    build_disk "$version"
    mv "$work/disk.qcow2" "$image"
    say "built $image"
fi
printf '%s\n' "$image" >&3
