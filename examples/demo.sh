#!/usr/bin/env bash
# Shows a guest being a pod. `make run` calls it, after it has built berth.
#
#   examples/demo.sh           until Ctrl-C
#   ONCE=1 examples/demo.sh    checks what it shows, stops, prints "demo: passed"
#
# Three network namespaces, nothing in the root one; needs root. The pod is wired as Calico wires
# one: a /32 address and a link-local gateway that exists only for ARP.
#
#   berth-demo-peer  10.244.7.3 ---- berth-demo-node ---- 10.244.7.2  berth-demo-pod: berth, guest
#
# BERTH is the binary; other BERTH_* and IMG_* variables go through to it.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../target}
berth=${BERTH:-$target/$(uname -m)-unknown-linux-gnu/release/berth}
node="berth-demo-node"
pod="berth-demo-pod"
peer="berth-demo-peer"
pod_ip=10.244.7.2
peer_ip=10.244.7.3
gateway=169.254.1.1
mtu=1450
start_s=120
stop_s=30

berth_pid=
berth_status=
temp=

say() { printf 'demo: %s\n' "$*"; }
die() {
    say "failed: $*" >&2
    exit 1
}
in_peer() { ip netns exec "$peer" "$@"; }

# What runs in the pod: berth and all it starts.
processes() {
    [ ! -e "/run/netns/$pod" ] || ip netns pids "$pod"
}

# What of an earlier or of this demo is still there, a line each.
leftovers() {
    local name dir pid
    for pid in $(processes); do
        printf 'process %s: %s\n' "$pid" "$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)"
    done
    for name in "$pod" "$peer" "$node"; do
        [ ! -e "/run/netns/$name" ] || printf 'namespace %s\n' "$name"
    done
    for dir in "${TMPDIR:-/tmp}"/berth-demo.*; do
        [ ! -e "$dir" ] || printf 'directory %s\n' "$dir"
    done
}

# Ends them, politely first.
end_processes() {
    local signal pid tries
    for signal in TERM KILL; do
        for pid in $(processes); do kill "-$signal" "$pid" 2>/dev/null || true; done
        for ((tries = 0; tries < 50; tries++)); do
            [ -n "$(processes)" ] || return 0
            sleep 0.1
        done
    done
}

sweep() {
    local name
    end_processes
    for name in "$pod" "$peer" "$node"; do
        [ ! -e "/run/netns/$name" ] || ip netns del "$name" || true
    done
    rm -rf -- "${TMPDIR:-/tmp}"/berth-demo.*
}

# The one SIGTERM, and what berth says to it.
stop_berth() {
    local pid=$berth_pid deadline=$((SECONDS + stop_s))
    berth_pid=
    [ -n "$pid" ] || return 0
    kill -TERM "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null && [ "$SECONDS" -lt "$deadline" ]; do
        sleep 0.1
    done
    if kill -0 "$pid" 2>/dev/null; then
        say "berth still runs $stop_s s after SIGTERM: killing it" >&2
        kill -KILL "$pid" 2>/dev/null || true
    fi
    berth_status=0
    # Without bash's own remark about a killed job.
    wait "$pid" 2>/dev/null || berth_status=$?
}

clean_up() {
    trap '' INT TERM HUP
    stop_berth
    sweep
}

# berth's end by itself; the trap for Ctrl-C does not come back here.
wait_for_berth() {
    local pid=$berth_pid
    berth_status=0
    wait "$pid" || berth_status=$?
    berth_pid=
}

interrupted() {
    trap '' INT TERM HUP
    printf '\n'
    say "stopping: SIGTERM to berth, which presses the guest's power button"
    stop_berth
    [ "${berth_status:-0}" -eq 0 ] || die "berth ended with $berth_status"
    exit 0
}

# The gateway's address on the node's side does what proxy ARP does for Calico.
wire() { # NAMESPACE ADDRESS LINK
    ip link add "$3" mtu $mtu netns "$node" type veth peer name eth0 mtu $mtu netns "$1"
    ip -n "$node" addr add "$gateway/32" dev "$3"
    ip -n "$node" link set "$3" up
    ip -n "$node" route add "$2/32" dev "$3"
    ip -n "$1" addr add "$2/32" dev eth0
    ip -n "$1" link set eth0 up
    ip -n "$1" route add "$gateway" dev eth0 scope link
    ip -n "$1" route add default via "$gateway" dev eth0
}

make_network() {
    local name
    for name in "$node" "$pod" "$peer"; do
        ip netns add "$name"
        ip -n "$name" link set lo up
    done
    ip netns exec "$node" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
    wire "$pod" "$pod_ip" pod0
    wire "$peer" "$peer_ip" peer0
    in_peer ping -c 1 -W 2 -q "$pod_ip" >/dev/null || die "the namespaces do not reach each other"
}

write_files() {
    temp=$(mktemp -d "${TMPDIR:-/tmp}/berth-demo.XXXXXX")
    # QEMU runs as a user of its own and has to get at the disk.
    chmod 755 "$temp"
    mkdir "$temp/image" "$temp/state"
    printf 'search demo.svc.cluster.local\nnameserver %s\n' "$peer_ip" >"$temp/resolv.conf"
    printf '{"uuid": "berth-demo", "hostname": "demo"}\n' >"$temp/metadata"
    printf '#cloud-config\n{}\n' >"$temp/userdata"
}

# In a session of its own, so that Ctrl-C at the terminal reaches only this script.
start_berth() {
    setsid ip netns exec "$pod" env \
        HOSTNAME=demo IMG_TARGET="$image" IMG_VCPU=1 IMG_RAM_MB=256 \
        BERTH_IMAGE_DIR="$temp/image" BERTH_STATE_DIR="$temp/state" \
        BERTH_RESOLV_CONF="$temp/resolv.conf" \
        BERTH_METADATA="$temp/metadata" BERTH_USERDATA="$temp/userdata" \
        "$berth" run </dev/null 9<&- &
    berth_pid=$!
}

hello() { in_peer nc -d -w 2 "$pod_ip" 8080 2>/dev/null || true; }

wait_for_guest() {
    local answer deadline=$((SECONDS + start_s))
    say "waiting for the guest, at most $start_s s"
    until answer=$(hello) && [[ $answer == hello* ]]; do
        if ! kill -0 "$berth_pid" 2>/dev/null; then
            wait_for_berth
            die "berth ended with $berth_status before the guest answered"
        fi
        [ "$SECONDS" -lt "$deadline" ] || die "no answer from $pod_ip:8080 in $start_s s"
        sleep 0.5
    done
    say "the guest answers the peer after $SECONDS s: $answer"
}

explain() {
    cat <<TEXT

The guest has the pod's address, $pod_ip. From the peer, as from any other pod:

  ip netns exec $peer nc -d $pod_ip 8080          what it says of itself, and of you
  ip netns exec $peer nc -N $pod_ip 2323          a shell in it; "exit" or Ctrl-D ends it
  ip netns exec $peer ping $pod_ip
  ip netns exec $peer nc $pod_ip 5900             its screen: VNC (RFB)

Its serial console is on this terminal. Ctrl-C stops it.

TEXT
}

check() { # WHAT WANTED GOT
    [[ $3 == "$2"* ]] || die "$1: wanted '$2', got '$3'"
    say "ok: $1: $3"
}

check_all() {
    local answer
    check "TCP" "hello from demo at " "$(hello)"
    check "UDP echo" "ping" "$(printf 'ping\n' | in_peer nc -u -w 1 "$pod_ip" 7 || true)"
    answer=$(in_peer ping -c 1 -W 2 "$pod_ip" | grep 'bytes from' || true)
    check "ICMP echo" "64 bytes from $pod_ip" "$answer"
    # Only the version line: what follows is for VNC viewers, and binary.
    answer=$(in_peer nc -d -w 2 "$pod_ip" 5900 2>/dev/null | head -c 11 || true)
    check "VNC" "RFB " "$answer"
}

[ "$(id -u)" -eq 0 ] || die "needs root, for the network namespaces"
[ -x "$berth" ] || die "no berth at $berth; run make build"
# One demo a machine: the namespaces' names are the machine's. A lock on a file that is there anyway leaves none
# behind.
exec 9<"$(command -v ip)"
flock -n 9 || die "another demo is running"

image=$("$here/guest/tiny.sh" 9<&-)
[ -f "$image" ] || die "the guest's image is not there: '$image'"
sweep
trap clean_up EXIT
trap interrupted INT TERM HUP
make_network
write_files
SECONDS=0
start_berth
wait_for_guest
if [ "${ONCE:-}" != 1 ]; then
    explain
    wait_for_berth
    [ "$berth_status" -eq 0 ] || die "berth ended with $berth_status"
    say "the guest powered off"
    exit 0
fi

check_all
say "stopping: SIGTERM to berth"
stop_berth
[ "$berth_status" -eq 0 ] || die "berth ended with $berth_status after SIGTERM, not 0"
say "ok: berth ended with 0"
survivors=$(processes)
[ -z "$survivors" ] || die "berth left processes behind: $(leftovers | grep "^process")"
clean_up
trap - EXIT
left=$(leftovers)
[ -z "$left" ] || die "left behind: $left"
say "passed"
