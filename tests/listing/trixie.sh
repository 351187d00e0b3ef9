#!/usr/bin/env bash
# nft of Debian 13, to be compared with beside the system's own: builds a root that holds nothing but nftables and its
# libraries (some seconds, once), or finds it in the cache; prints its path, for chroot.
set -euo pipefail
# The answer is the one line on stdout; whatever the tools say goes to stderr.
exec 3>&1 1>&2

cache=${BERTH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/berth}
suite=trixie
key=$(sha256sum "$0" | cut -c1-16)
root=$cache/nft-$suite-$key

die() {
    printf 'nft %s: %s\n' "$suite" "$*" >&2
    exit 1
}

mkdir -p "$cache"
# One builder at a time; the others wait and find its work.
exec 9>"$cache/nft-$suite.lock"
flock 9
if [ ! -d "$root" ]; then
    [ "$(id -u)" -eq 0 ] || die "needs root to build; run it once as root or with sudo"
    command -v mmdebstrap >/dev/null || die "no mmdebstrap; run examples/install.sh test"
    work=$(mktemp -d "$cache/nft-work.XXXXXX")
    trap 'rm -rf -- "$work"' EXIT
    trap 'exit 130' INT TERM
    # Unpacked, not configured: nft needs no more. netbase has the names of protocols.
    mmdebstrap --quiet --mode=root --variant=extract --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
        --include=nftables,netbase "$suite" "$work/root" 9>&-
    # As iproute2 has them; nft reads them for the words of realms and groups.
    mkdir -p "$work/root/etc/iproute2"
    printf '0\tcosmos\n' >"$work/root/etc/iproute2/rt_realms"
    printf '0\tdefault\n' >"$work/root/etc/iproute2/group"
    chroot "$work/root" /usr/sbin/nft --version >/dev/null || die "what was unpacked does not run"
    mv "$work/root" "$root"
fi
printf '%s\n' "$root" >&3
