#!/usr/bin/env bash
# A small Debian with systemd, in which the package is installed: builds its tree (about a minute, once), or finds it in the
# cache; prints its path. Whoever boots it boots a copy.
set -euo pipefail
# The answer is the one line on stdout; whatever the tools say goes to stderr.
exec 3>&1 1>&2

cache=${BERTH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/berth}
suite=bookworm
key=$(sha256sum "$0" | cut -c1-16)
root=$cache/systemd-$suite-$key

die() {
    printf 'systemd %s: %s\n' "$suite" "$*" >&2
    exit 1
}

mkdir -p "$cache"
# One builder at a time; the others wait and find its work.
exec 9>"$cache/systemd-$suite.lock"
flock 9
if [ ! -d "$root" ]; then
    [ "$(id -u)" -eq 0 ] || die "needs root to build; run it once as root or with sudo"
    command -v mmdebstrap >/dev/null || die "no mmdebstrap; run examples/install.sh full"
    work=$(mktemp -d "$cache/systemd-work.XXXXXX")
    trap 'rm -rf -- "$work"' EXIT
    trap 'exit 130' INT TERM
    mmdebstrap --quiet --mode=root --variant=minbase --aptopt='Apt::Install-Recommends "false"' \
        --dpkgopt=force-unsafe-io --include=systemd,systemd-sysv,dbus "$suite" "$work/root" 9>&-
    # Each copy makes its own.
    : >"$work/root/etc/machine-id"
    rm -rf "$work"/root/var/lib/apt/lists/* "$work"/root/var/cache/apt/* "$work/root/var/lib/dbus/machine-id" \
        "$work/root/etc/dpkg/dpkg.cfg.d/99mmdebstrap"
    mv "$work/root" "$root"
fi
printf '%s\n' "$root" >&3
