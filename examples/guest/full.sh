#!/usr/bin/env bash
# The full guest: Debian 12 with systemd, cloud-init and OpenSSH, as a cloud image has them.
#
#   examples/guest/full.sh     builds it (about a minute), or finds it in the cache; prints the path of the qcow2
#
# One ext4 partition labelled "root", with GRUB before it; no loop device and no mount. Root is needed, for the
# chroot and for the owners of files. amd64 only: the boot loader is.
#
# Nothing in it knows berth: address, host name, keys and what to run come by DHCP and the config drive.
# Log in with the keys of user_data; there is no password. The serial console shows boot and a login.
set -euo pipefail
# The answer is the one line on stdout; whatever the tools say goes to stderr.
exec 3>&1 1>&2

cache=${BERTH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/berth}
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
suite=bookworm
disk_mib=1024
first_sector=2048 # of the partition; GRUB's core lies before it

packages=(
    systemd systemd-sysv systemd-resolved udev dbus
    cloud-init netplan.io openssh-server sudo iproute2 iputils-ping netbase
    linux-image-cloud-amd64 initramfs-tools
)

say() { printf 'guest full: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}

build_tree() {
    mmdebstrap --quiet --mode=root --variant=minbase \
        --aptopt='Apt::Install-Recommends "false"' \
        --include="$(
            IFS=,
            printf '%s' "${packages[*]}"
        )" \
        --customize-hook="$work/customize" \
        "$suite" "$work/root"
}

# Runs while the chroot is complete, with the tree as $1.
write_customize() {
    cat >"$work/customize" <<'CUSTOMIZE'
#!/bin/sh
set -eu
root=$1
echo 'LABEL=root / ext4 errors=remount-ro 0 1' >"$root/etc/fstab"
echo localhost >"$root/etc/hostname"
# Each VM makes its own.
: >"$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id" "$root"/etc/ssh/ssh_host_*
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
# No locales package here: without the first line cloud-init ends in an error.
cat >"$root/etc/cloud/cloud.cfg.d/50_small.cfg" <<'CFG'
locale: false
ssh_genkeytypes: [ed25519]
apt_preserve_sources_list: true
CFG
# Emulated processors are slow: an initramfs of what the disk needs, no timers, no waiting for every link.
sed -i 's/^MODULES=.*/MODULES=list/' "$root/etc/initramfs-tools/initramfs.conf"
printf '%s\n' virtio_pci virtio_blk virtio_scsi sd_mod sr_mod ext4 >>"$root/etc/initramfs-tools/modules"
chroot "$root" update-initramfs -u
chroot "$root" systemctl -q enable systemd-networkd systemd-resolved ssh serial-getty@ttyS0
chroot "$root" systemctl -q mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer \
    systemd-networkd-wait-online.service
kernel=$(ls "$root/boot" | sed -n 's/^vmlinuz-//p')
mkdir -p "$root/boot/grub"
cat >"$root/boot/grub/grub.cfg" <<GRUB
set timeout=0
linux /boot/vmlinuz-$kernel root=LABEL=root ro console=tty0 console=ttyS0,115200 quiet net.ifnames=0
initrd /boot/initrd.img-$kernel
boot
GRUB
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*
CUSTOMIZE
    chmod +x "$work/customize"
}

build_disk() {
    local disk=$work/disk.raw
    truncate -s ${disk_mib}M "$disk"
    echo "start=$first_sector, type=83, bootable" | /sbin/sfdisk -q "$disk"
    /sbin/mke2fs -q -t ext4 -L root -d "$work/root" -E offset=$((first_sector * 512)) \
        "$disk" $(((disk_mib - 1) * 1024))k 2> >(grep -v 'Unknown extended option' || true)
    cat >"$work/early.cfg" <<'GRUB'
set root=(hd0,msdos1)
configfile /boot/grub/grub.cfg
GRUB
    grub-mkimage -O i386-pc -o "$work/core.img" -p '(hd0,msdos1)/boot/grub' -c "$work/early.cfg" \
        biosdisk part_msdos ext2 linux configfile normal boot serial
    [ "$(stat -c %s "$work/core.img")" -lt $(((first_sector - 1) * 512)) ] ||
        die "GRUB's core does not fit before the partition"
    dd if=/usr/lib/grub/i386-pc/boot.img of="$disk" bs=440 count=1 conv=notrunc status=none
    dd if="$work/core.img" of="$disk" bs=512 seek=1 conv=notrunc status=none
    # zlib: berth does not read qcow2's other compression, zstd.
    qemu-img convert -c -O qcow2 "$disk" "$work/disk.qcow2"
}

[ "$(uname -m)" = x86_64 ] || die "is for x86_64 only"
mkdir -p "$cache"
key=$(sha256sum "$here/full.sh" | cut -c1-16)
image=$cache/full-$key.qcow2

# One builder at a time; the others wait and find its work.
exec 9>"$cache/full.lock"
flock 9
if [ ! -e "$image" ]; then
    [ "$(id -u)" -eq 0 ] || die "needs root to build; run it once as root or with sudo"
    command -v mmdebstrap >/dev/null || die "no mmdebstrap; run examples/install.sh full"
    work=$(mktemp -d "$cache/full-work.XXXXXX")
    trap 'rm -rf -- "$work"' EXIT
    trap 'exit 130' INT TERM
    say "building (about a minute, once)"
    write_customize
    build_tree
    build_disk
    mv "$work/disk.qcow2" "$image"
    say "built $image"
fi
printf '%s\n' "$image" >&3
