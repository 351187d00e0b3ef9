#!/usr/bin/env bash
# Programs of Debian 13 that Debian 12 lacks: podman's unit generator, and Compose v2. Builds a directory that holds these two
# and nothing else (half a minute, once), or finds it in the cache; prints its path.
set -euo pipefail
# The answer is the one line on stdout; whatever the tools say goes to stderr.
exec 3>&1 1>&2

cache=${BERTH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/berth}
suite=trixie
key=$(sha256sum "$0" | cut -c1-16)
programs=$cache/compose-quadlet-$suite-$key

die() {
    printf 'compose and quadlet of %s: %s\n' "$suite" "$*" >&2
    exit 1
}

mkdir -p "$cache"
# One builder at a time; the others wait and find its work.
exec 9>"$cache/compose-quadlet-$suite.lock"
flock 9
if [ ! -d "$programs" ]; then
    [ "$(id -u)" -eq 0 ] || die "needs root to build; run it once as root or with sudo"
    command -v mmdebstrap >/dev/null || die "no mmdebstrap; run examples/install.sh full"
    work=$(mktemp -d "$cache/compose-work.XXXXXX")
    trap 'rm -rf -- "$work"' EXIT
    trap 'exit 130' INT TERM
    # Unpacked, not configured: both need the C library alone, and this system's will do.
    mmdebstrap --quiet --mode=root --variant=extract --aptopt='Apt::Install-Recommends "false"' \
        --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr --include=podman,docker-compose "$suite" "$work/root" 9>&-
    mkdir "$work/bin"
    cp "$work/root/usr/libexec/podman/quadlet" "$work/root/usr/libexec/docker/cli-plugins/docker-compose" "$work/bin"
    "$work/bin/quadlet" -version || die "its quadlet does not run here"
    "$work/bin/docker-compose" version || die "its docker-compose does not run here"
    mv "$work/bin" "$programs"
fi
printf '%s\n' "$programs" >&3
