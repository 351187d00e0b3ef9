#!/usr/bin/env bash
# Builds the launcher image of this checkout and says its name.
#
#   examples/image.sh [NAME:TAG]      berth:VERSION unless said otherwise
#
# By the docker that runs, on Debian's and Rust's public images, or on others, by name or digest:
#
#   BASE=debian@sha256:... RUST_BASE=rust@sha256:...
#
# Without a registry:
#
#   BASES=local       on bases made here, once: a minimal Debian by mmdebstrap, and the same with a compiler and this
#                     machine's own Rust toolchain and certificates
#   CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1
#                     a larger berth that is built sooner: for tests
#   DOCKER_DATA=DIR   by a docker daemon that is started for this and ended, its images in DIR; its builds use this
#                     machine's own network, and no bridge or rule is made. `dockerd --data-root DIR` has them later.
set -euo pipefail

# The answer is the one line on stdout; whatever the tools say goes to stderr.
exec 3>&1 1>&2
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
name=${1:-berth:$version}
suite=bookworm

say() { printf 'image: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}

work=$(mktemp -d)
daemon=
end() {
    if [ -n "$daemon" ]; then
        kill "$daemon" 2>/dev/null || true
        wait "$daemon" 2>/dev/null || true
        umount "$work/exec/netns/default" 2>/dev/null || true
    fi
    rm -rf -- "$work"
}
trap end EXIT
trap 'exit 130' INT TERM

start_daemon() {
    command -v dockerd >/dev/null || die "no dockerd; run examples/install.sh image"
    mkdir -p "$DOCKER_DATA"
    exec 9>"$DOCKER_DATA.lock"
    flock 9
    export DOCKER_HOST="unix://$work/docker.sock"
    dockerd --data-root "$DOCKER_DATA" --exec-root "$work/exec" --pidfile "$work/pid" --host "$DOCKER_HOST" \
        --bridge none --iptables=false --ip-forward=false --ip-masq=false >"$work/log" 2>&1 9>&- &
    daemon=$!
    for _ in $(seq 100); do
        docker info >/dev/null 2>&1 && return
        kill -0 "$daemon" 2>/dev/null || break
        sleep 0.2
    done
    tail -5 "$work/log" >&2
    die "dockerd did not start"
}

has() { docker image inspect "$1" >/dev/null 2>&1; }

# $1: the name; the rest: packages beside the essential ones. What Debian's slim images leave out is left out here too.
debian() {
    local name=$1
    shift
    say "making $name by mmdebstrap"
    mmdebstrap --quiet --mode=root --variant=minbase --aptopt='Apt::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
        --include="$(
            IFS=,
            # Merging /usr by hand needs no Perl, the package that does it does.
            printf '%s' "usr-is-merged${*:+,$*}"
        )" "$suite" "$work/root"
}

make_base() {
    debian "$1"
    tar -C "$work/root" -c . | docker import - "$1" >/dev/null
    rm -rf "$work/root"
}

make_rust_base() {
    local rust=$work/root/usr/local from
    debian "$1" gcc libc6-dev ca-certificates
    from=$(rustc --print sysroot)
    mkdir -p "$rust/bin" "$rust/lib/rustlib"
    cp "$from"/bin/{rustc,cargo} "$rust/bin"
    cp -a "$from"/lib/lib* "$rust/lib"
    cp -a "$from/lib/rustlib/$(uname -m)-unknown-linux-gnu" "$rust/lib/rustlib"
    cp /etc/ssl/certs/ca-certificates.crt "$work/root/etc/ssl/certs"
    tar -C "$work/root" -c . | docker import - "$1" >/dev/null
    rm -rf "$work/root"
}

export DOCKER_BUILDKIT=0
command -v docker >/dev/null || die "no docker; run examples/install.sh image"
[ -z "${DOCKER_DATA-}" ] || start_daemon
docker info >/dev/null 2>&1 || die "no docker daemon answers: start it (systemctl start docker, or dockerd &)," \
    "or set DOCKER_DATA=DIR: one is started for the build, and its images stay in DIR"
words=()
for base in BASE RUST_BASE; do
    [ -z "${!base-}" ] || words+=(--build-arg "$base=${!base}")
done
if [ "${BASES-}" = local ]; then
    [ ${#words[@]} -eq 0 ] || die "BASES=local makes the bases: say that, or BASE and RUST_BASE"
    command -v mmdebstrap >/dev/null || die "no mmdebstrap; run examples/install.sh image"
    base=berth-base:$suite-slim rust_base=berth-base:rust-$(rustc --version | cut -d' ' -f2)
    has "$base" || make_base "$base"
    has "$rust_base" || make_rust_base "$rust_base"
    words=(--build-arg "BASE=$base" --build-arg "RUST_BASE=$rust_base")
fi
for setting in CARGO_PROFILE_RELEASE_{LTO,CODEGEN_UNITS,OPT_LEVEL}; do
    [ -z "${!setting-}" ] || words+=(--build-arg "$setting=${!setting}")
done
say "building $name: some minutes, most of them the release build"
docker build --network host "${words[@]}" --build-arg "VERSION=$version" -t "$name" . 2>&1 9>&- |
    tee "$work/build" | sed -un 's/^Step /image: step /p; /^ *Compiling berth /s/^ */image: /p' || {
    tail -40 "$work/build"
    die "the build failed"
}
say "$name has $(($(docker image inspect -f '{{.Size}}' "$name") / 1000000)) MB"
if [ -n "$daemon" ]; then
    say "it is in $DOCKER_DATA, whose daemon ends now; to run it: dockerd --data-root $(realpath "$DOCKER_DATA") &"
fi
printf '%s\n' "$name" >&3
