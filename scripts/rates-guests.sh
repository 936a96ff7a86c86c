#!/usr/bin/env bash
# Rates between two guests: our own switch, DPDK's net_vhost and two kernel macvtap devices, in one run.
#
# Up to 1514 bytes the guest is DPDK's testpmd with two virtio-user ports, in forward mode `mac`: what it receives
# on one it sends out of the other, so frames circulate in both directions and none has to be lost. A rate is the
# sum of both. Above, where virtio-user cannot send, the guests are those of `examples/guest_pair.rs`, which send
# each other TCP super-frames; the peer is the same net_vhost with TSO. Between two macvtap devices a plain loop
# writes and reads (`examples/tap_loop.rs pair`): what the kernel alone takes, without any ring of a guest.
#
# The guest has processor 0, the back-end processor 1, the plain loop processor 1. Each measurement of ours is
# followed by one of each peer, PAIRS times. "CPU ns" is the processor time that our process took for each frame;
# net_vhost polls, and takes the whole processor always.
#
# Usage: scripts/rates-guests.sh [PAIRS [SECONDS]]      5 rounds of 2 seconds by default: about five minutes
#
# What can go wrong: not root, no testpmd (scripts/install-deps.sh), somebody else on the processors: look at the
# spread and at the load. Namespaces and processes are its own, and are gone when it ends, however it ends.
set -euo pipefail
cd "$(dirname "$0")/.."

pairs=${1:-5}
seconds=${2:-2}
[ "$(id -u)" -eq 0 ] || { echo "rates: makes network namespaces: run it as root" >&2; exit 1; }
for tool in ip taskset dpdk-testpmd; do
    command -v "$tool" >/dev/null || { echo "rates: $tool is missing: make install-deps" >&2; exit 1; }
done
cargo build --release --locked --quiet --bin vhost-user-macvtap --example tap_loop --example guest_pair
target=${CARGO_TARGET_DIR:-target}/release
loop=$(realpath "$target/examples/tap_loop")
guests=$(realpath "$target/examples/guest_pair")
program=$(realpath "$target/vhost-user-macvtap")

host=vum-$$-0-rates wire=vum-$$-1-rates
dir=$(mktemp -d)
prefix=vum-rates-$$
started=()

clean() {
    trap - EXIT
    for pid in "${started[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    ip netns del "$host" 2>/dev/null || true
    ip netns del "$wire" 2>/dev/null || true
    rm -rf "$dir" "/run/dpdk/$prefix"*
}
trap clean EXIT
trap 'exit 130' INT TERM

start() {
    "$@" <&0 &
    pid=$!
    started+=("$pid")
}

end() {
    kill -9 "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

ip netns add "$host"
ip netns add "$wire"
ip -n "$host" link add eth0 type veth peer name w0 netns "$wire"
for ns in "$host" "$wire"; do
    ip netns exec "$ns" sh -c 'echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6'
done
ip -n "$wire" link set w0 up
ip -n "$host" link set eth0 up
a=52:54:00:aa:00:01 b=52:54:00:aa:00:02 c=52:54:00:aa:00:03 d=52:54:00:aa:00:04
# Indices of their own: /dev knows no namespaces.
ip -n "$host" link add link eth0 name one index $((500000 + $$)) address $c type macvtap mode bridge
ip -n "$host" link add link eth0 name two index $((600000 + $$)) address $d type macvtap mode bridge
for tap in one two; do ip -n "$host" link set $tap arp off up; done

ready() { # SOCKET...
    for _ in $(seq 200); do
        local all=1
        for socket in "$@"; do [ -S "$socket" ] || all=0; done
        [ $all = 1 ] && return
        sleep 0.05
    done
    echo "rates: the back-end does not start" >&2
    exit 1
}

start_ours() {
    start ip netns exec "$host" taskset -c 1 "$program" --log-level warn --workers 1 --parent eth0 --type macvlan \
        --port "socket=$dir/ours0,name=one,mac=$a" --port "socket=$dir/ours1,name=two,mac=$b"
    ready "$dir/ours0" "$dir/ours1"
}

start_dpdk() {
    rm -f "$dir/dpdk0" "$dir/dpdk1"
    start dpdk-testpmd --lcores '0@0,1@1' --no-huge -m 512 --no-pci --file-prefix="$prefix-back" \
        --vdev "net_vhost0,iface=$dir/dpdk0,tso=1,legacy-ol-flags=1" \
        --vdev "net_vhost1,iface=$dir/dpdk1,tso=1,legacy-ol-flags=1" -- \
        --forward-mode=io --nb-cores=1 --auto-start --stats-period 3600 \
        --total-num-mbufs=16384 >"$dir/back.log" 2>&1
    ready "$dir/dpdk0" "$dir/dpdk1"
}

# Frames per second of testpmd between two sockets: NAME SIZE
small() {
    local stats first last
    mkfifo "$dir/commands"
    exec 8<>"$dir/commands"
    start stdbuf -oL taskset -c 0 dpdk-testpmd --lcores '0@0,1@0' --no-huge -m 192 --no-pci --file-prefix="$prefix" \
        --vdev "net_virtio_user0,path=$dir/${1}0,mac=$a,queues=1,queue_size=256" \
        --vdev "net_virtio_user1,path=$dir/${1}1,mac=$b,queues=1,queue_size=256" -- -i \
        --eth-peer=0,$b --eth-peer=1,$a --total-num-mbufs=8192 --nb-cores=1 --txd=256 --rxd=256 \
        <"$dir/commands" >"$dir/testpmd" 2>&1
    local testpmd=$pid
    for _ in $(seq 200); do grep -q 'testpmd> ' "$dir/testpmd" && break; sleep 0.05; done
    printf '%s\n' 'set fwd mac' "set txpkts $2" 'start tx_first 6' >&8
    sleep 0.5
    received() {
        local before
        before=$(grep -c 'RX-packets:' "$dir/testpmd" || true)
        echo 'show port stats all' >&8
        for _ in $(seq 300); do
            [ "$(grep -c 'RX-packets:' "$dir/testpmd" || true)" -ge $((before + 2)) ] && break
            sleep 0.01
        done
        stats=$(grep 'RX-packets:' "$dir/testpmd" | tail -n 2 |
            sed 's/.*RX-packets: *\([0-9]*\).*/\1/' | awk '{ s += $1 } END { printf "%.0f", s }')
        echo "$stats $(date +%s%N) $(used)"
    }
    first=$(received)
    sleep "$seconds"
    last=$(received)
    exec 8>&-
    end "$testpmd"
    rm "$dir/commands"
    awk -v first="$first" -v last="$last" 'BEGIN {
        split(first, x); split(last, y)
        printf "%.0f %.1f\n", (y[1] - x[1]) / (y[2] - x[2]) * 1e9, (y[3] - x[3]) / (y[1] - x[1] + 1) }'
}

# Processor time that the back-end has used, in nanoseconds.
used() { cat "/proc/$backend"/task/*/schedstat 2>/dev/null | awk '{ sum += $1 } END { printf "%.0f", sum }'; }

large() { # NAME SIZE
    local before
    before=$(used)
    rate=$(taskset -c 0 "$guests" "$dir/${1}0" "$dir/${1}1" "$seconds" "$2" $a $b)
    awk "BEGIN { printf \"%.0f %.1f\\n\", $rate, ($(used) - $before) / ($rate * $seconds + 1) }"
}

measure() { # ours|dpdk SIZE
    "start_$1"
    backend=$pid
    if [ "$2" -le 1514 ]; then small "$1" "$2"; else large "$1" "$2"; fi
    end "$backend"
}

kernel() { # SIZE
    ip netns exec "$host" taskset -c 1 "$loop" pair one "$seconds" "$1" $d two 2>/dev/null
}

echo "load before: $(cut -d ' ' -f 1-3 /proc/loadavg); $(nproc) processors; $pairs rounds of $seconds s"
echo "frames per second in thousands, both directions: median (smallest to largest); ratio: median of the rounds"
printf '%6s  %-22s %-22s %-22s %8s %8s  %s\n' \
    bytes 'our switch' 'DPDK net_vhost' 'macvtap pair' '/ DPDK' '/ kernel' 'our CPU ns'
for size in 64 1514 65000; do
    : >"$dir/rounds"
    for _ in $(seq "$pairs"); do
        measure ours "$size" >"$dir/a"
        measure dpdk "$size" >"$dir/b"
        kernel "$size" >"$dir/c"
        echo "$(cat "$dir/a") $(cut -d ' ' -f 1 "$dir/b") $(cat "$dir/c")" >>"$dir/rounds"
    done
    column() { awk "{ print $1 }" "$dir/rounds" | sort -g; }
    middle() { awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }
    told() {
        column "\$$1" | awk '{ v[NR] = $1 / 1000 } END {
            m = (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2
            printf "%.4g (%.4g to %.4g)", m, v[1], v[NR] }'
    }
    printf '%6s  %-22s %-22s %-22s %8.2f %8.2f  %s\n' "$size" "$(told 1)" "$(told 3)" "$(told 4)" \
        "$(column '$1 / $3' | middle)" "$(column '$1 / $4' | middle)" "$(column '$2' | middle)"
done
echo "load after: $(cut -d ' ' -f 1-3 /proc/loadavg)"
