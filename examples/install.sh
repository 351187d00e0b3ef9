#!/usr/bin/env bash
# Installs the Debian packages a goal needs and that are missing; a second call does nothing.
#
#   examples/install.sh run     the demo: QEMU, namespaces, the tiny guest's build tools
#   examples/install.sh test    what the ordinary tests compare with: dnsmasq, nft, DHCP clients
#   examples/install.sh image   what builds the launcher image without a registry, and runs it
#   examples/install.sh deb     what makes the Debian package
#   examples/install.sh full    the distribution guest of the full tests, and what the image needs
#   examples/install.sh bench   what the benches compare with
#   examples/install.sh web     what builds the page in the browser: node with npm
#
# Every goal but `web` and `deb` includes `run`; full and bench include `test`. For Debian 12 and later. It does not
# install Rust: rustup reads rust-toolchain.toml.
set -euo pipefail

run=(
    qemu-system-x86 qemu-utils iproute2 iputils-ping netcat-openbsd
    busybox-static kmod cpio mtools syslinux syslinux-common extlinux
    fdisk dosfstools e2fsprogs gcc libc6-dev make
)
test=(
    nftables iptables dnsmasq-base genisoimage xorriso libarchive-tools isc-dhcp-client isc-dhcp-relay dhcpcd5 kea-admin kea-dhcp6-server dnsutils dnsperf
    dibbler-client wide-dhcpv6-client ndisc6 radvdump ovmf
    chromium
    mmdebstrap systemd network-manager dbus-daemon bridge-utils iperf3 strace ethtool tcpdump openssl python3 python3-venv python3-yaml jq util-linux shellcheck
    prometheus
)
image=(runc podman catatonit mmdebstrap containerd containernetworking-plugins jq)
# Whoever has another Docker keeps it.
command -v dockerd >/dev/null || image+=(docker.io)
deb=(gcc libc6-dev make binutils jq)
full=(binutils lintian systemd-container mmdebstrap docker-compose grub-pc-bin grub-common openssh-client)
bench=(kea-dhcp4-server isc-dhcp-server udhcpd unbound)
# Whoever has another node keeps it, and its npm: Debian's conflicts with it.
command -v node >/dev/null || test+=(nodejs)
web=()
command -v npm >/dev/null || web=(nodejs npm)

say() { printf 'install: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}

apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -y -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 "$@" >&2
}

# Daemons among the packages are there to be compared with, in namespaces: none is started on this machine, now or at its
# next boot. What was installed before is left as it is.
policy=/usr/sbin/policy-rc.d
units=(docker containerd podman NetworkManager dhcpcd kea-dhcp4-server kea-dhcp6-server isc-dhcp-server isc-dhcp-relay
    dibbler-client wide-dhcpv6-client udhcpd unbound prometheus)
declare -A present=()

keep_daemons_off() {
    local unit
    for unit in "${units[@]}"; do
        [ -e "/lib/systemd/system/$unit.service" ] && present[$unit]=1
    done
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
}

disable_new_daemons() {
    local unit
    command -v systemctl >/dev/null || return 0
    for unit in "${units[@]}"; do
        if [ -z "${present[$unit]-}" ] && [ -e "/lib/systemd/system/$unit.service" ]; then
            systemctl --quiet disable "$unit" 2>/dev/null || true
        fi
    done
}

# Lines "PACKAGE" for each argument that is not installed. A virtual package counts when
# something installed provides it: dnsutils, dhcpcd5 are such names in later releases.
missing() {
    local installed package
    # shellcheck disable=SC2016 # the ${...} are dpkg-query's
    installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}, ${Provides}\n' |
        sed -n 's/^installed //p' | tr ',' '\n' | sed 's/(.*//; s/[[:space:]]//g')
    for package; do
        grep -qxF "$package" <<<"$installed" || printf '%s\n' "$package"
    done
}

candidate() { LC_ALL=C apt-cache policy "$1" | awk '$1 == "Candidate:" { print $2 }'; }

case ${1-} in
run) wanted=("${run[@]}") ;;
test) wanted=("${run[@]}" "${test[@]}") ;;
image) wanted=("${run[@]}" "${image[@]}") ;;
deb) wanted=("${deb[@]}") ;;
full) wanted=("${run[@]}" "${test[@]}" "${image[@]}" "${full[@]}") ;;
bench) wanted=("${run[@]}" "${test[@]}" "${bench[@]}") ;;
web) wanted=("${web[@]}") ;;
*) die "usage: $0 run|test|image|deb|full|bench|web" ;;
esac

command -v apt-get >/dev/null || die "no apt-get here; install by hand: ${wanted[*]}"
mapfile -t lacking < <(missing "${wanted[@]}")
if [ ${#lacking[@]} -eq 0 ]; then
    exit 0
fi
[ "$(id -u)" -eq 0 ] || die "needs root to install: ${lacking[*]}"

say "installing ${lacking[*]}"
apt update
keep_daemons_off
# A qemu-utils from another suite (backports, say) conflicts with qemu-system-common: both have to
# be of one version, and that is the one QEMU has or would get.
others=()
for package in "${lacking[@]}"; do
    [ "$package" = qemu-utils ] || others+=("$package")
done
if [ ${#others[@]} -gt 0 ]; then
    apt install --no-install-recommends "${others[@]}"
fi
if [ -n "$(missing qemu-utils)" ]; then
    apt install --no-install-recommends --allow-downgrades \
        "qemu-utils=$(dpkg-query -W -f '${Version}' qemu-system-x86)" ||
        apt install --no-install-recommends --allow-downgrades \
            "qemu-system-x86=$(candidate qemu-system-x86)" "qemu-utils=$(candidate qemu-system-x86)"
fi
disable_new_daemons
