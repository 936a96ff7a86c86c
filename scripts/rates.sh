#!/usr/bin/env bash
# Packet rates of the release build, beside those of a plain loop on a macvtap in the same run.
#
# A rate alone says more about the machine than about the program. So each measurement of the back-end is
# followed at once by one of `examples/tap_loop.rs`, which does nothing but the system call that nobody can
# do without: `write` or `read` on a macvtap of the same parent. What counts is the ratio of the two; the
# spread says how much to believe it.
#
#   guest to uplink   DPDK's testpmd sends on virtio-user; what arrives at the far end of the parent's veth
#                     is counted by its own counter, for the back-end and for the plain `write` loop.
#   uplink to guest   sendmmsg floods the veth; testpmd counts what its rings bring, the plain loop what
#                     `read` brings.
#
# The generators (testpmd, the flood) have processor 0, the back-end or the plain loop has processor 1.
# Where there are three processors testpmd has number 2 to itself. With two, testpmd shares number 0 with
# the flood in the direction to the guest, and takes half of its time by polling: then a loop that only
# spins takes its place beside the plain `read`, so that both are flooded alike.
#
# The rate of the direction to the guest is bounded by the guest there: a ring of 256 is full long before
# testpmd has its turn on the shared processor again, while a loop on a processor of its own misses nothing.
# What the back-end itself takes shows in the processor time for each frame, its own and the plain loop's.
#
# Usage: scripts/rates.sh [PAIRS [SECONDS]]    5 pairs of 1.2 seconds by default: one to two minutes
#
# Somebody else on processor 1 spoils a measurement: a pair in which the back-end or the plain loop waited for
# the processor for more than a tenth of the time is thrown away and measured again, up to three times as
# many in all. How many that were is in the last column.
#
# What can go wrong: not root, no testpmd (scripts/install-deps.sh), a loaded machine: look at the spread, at
# the load that is printed and at the last column. The namespaces and processes are its own, and are gone when it ends,
# however it ends.
set -euo pipefail
cd "$(dirname "$0")/.."

pairs=${1:-5}
seconds=${2:-1.2}
[ "$(id -u)" -eq 0 ] || { echo "rates: makes network namespaces: run it as root" >&2; exit 1; }
for tool in ip taskset dpdk-testpmd; do
    command -v "$tool" >/dev/null || { echo "rates: $tool is missing: make install-deps" >&2; exit 1; }
done
cargo build --release --locked --quiet --bin vhost-user-macvtap --example tap_loop
target=${CARGO_TARGET_DIR:-target}/release
loop=$(realpath "$target/examples/tap_loop")
program=$(realpath "$target/vhost-user-macvtap")

# The names end like those of the tests, so that their sweep finds what a killed run has left.
host=vum-$$-0-rates wire=vum-$$-1-rates
dir=$(mktemp -d)
prefix=vum-rates-$$
started=()

clean() {
    trap - EXIT
    exec 8>&- || true
    for pid in "${started[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    ip netns del "$host" 2>/dev/null || true
    ip netns del "$wire" 2>/dev/null || true
    rm -rf "$dir" "/run/dpdk/$prefix"
}
trap clean EXIT
trap 'exit 130' INT TERM

# Starts a program in the background, with the standard input of this shell, which it would not have by
# itself; its pid is in $pid then.
start() {
    "$@" <&0 &
    pid=$!
    started+=("$pid")
}

end() {
    kill -9 "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

guest_cpu=0
[ "$(nproc)" -gt 2 ] && guest_cpu=2

ip netns add "$host"
ip netns add "$wire"
ip -n "$host" link add eth0 type veth peer name w0 netns "$wire"
for ns in "$host" "$wire"; do
    ip netns exec "$ns" sh -c 'echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6'
done
ip -n "$wire" link set w0 up
ip -n "$host" link set eth0 up
guest=52:54:00:aa:00:01 plain=52:54:00:aa:00:02 nobody=02:00:00:00:00:00
# An index of its own: /dev knows no namespaces.
ip -n "$host" link add link eth0 name plain index $((500000 + $$)) address $plain type macvtap mode bridge
ip -n "$host" link set plain arp off up

start ip netns exec "$host" taskset -c 1 "$program" --log-level warn --workers 1 --parent eth0 \
    --name rates --mac $guest --socket-path "$dir/sock"
for _ in $(seq 100); do [ -S "$dir/sock" ] && break; sleep 0.05; done
[ -S "$dir/sock" ] || { echo "rates: the back-end does not start" >&2; exit 1; }

backend=$pid

mkfifo "$dir/commands"
# For reading too: opening a pipe for one side waits for the other.
exec 8<>"$dir/commands"
# Line by line: what it says is read while it runs.
start stdbuf -oL dpdk-testpmd --lcores "0@$guest_cpu,1@$guest_cpu" --no-huge -m 192 --no-pci --file-prefix="$prefix" \
    --vdev "net_virtio_user0,path=$dir/sock,mac=$guest,queues=1,queue_size=256" -- -i \
    --total-num-mbufs=8192 --nb-cores=1 --txd=256 --rxd=256 <"$dir/commands" >"$dir/testpmd" 2>&1
testpmd=$pid
for _ in $(seq 200); do grep -q 'testpmd> ' "$dir/testpmd" && break; sleep 0.05; done
grep -q 'testpmd> ' "$dir/testpmd" || { cat "$dir/testpmd" >&2; exit 1; }

tell() { printf '%s\n' "$@" >&8; }

# What testpmd has received so far, and when that was.
received() {
    local before now
    before=$(grep -c 'RX-packets:' "$dir/testpmd" || true)
    tell 'show port stats 0'
    for _ in $(seq 100); do
        now=$(grep -c 'RX-packets:' "$dir/testpmd" || true)
        [ "$now" -gt "$before" ] && break
        kill -0 "$testpmd" || { tail -n 20 "$dir/testpmd" >&2; echo "rates: testpmd has died" >&2; exit 1; }
        sleep 0.01
    done
    echo "$(grep 'RX-packets:' "$dir/testpmd" | tail -n 1 | sed 's/.*RX-packets: *\([0-9]*\).*/\1/') $(date +%s%N)"
}

# A tenth of a measurement in nanoseconds; how long the back-end has waited for its processor so far.
tenth=$(awk "BEGIN { printf \"%.0f\", $seconds * 1e8 }")
waited() { cat "/proc/$backend"/task/*/schedstat | awk '{ sum += $2 } END { printf "%.0f\n", sum }'; }
used() { cat "/proc/$backend"/task/*/schedstat | awk '{ sum += $1 } END { printf "%.0f\n", sum }'; }

# Nanoseconds of processor time for each frame: NANOSECONDS FRAMES-PER-SECOND SECONDS
each() { awk "BEGIN { printf \"%.0f\\n\", $1 / ($2 * $3 + 1) }"; }

longer=$(awk "BEGIN { print $seconds + 6 }")

out_backend() { # SIZE
    tell 'set fwd txonly' "set txpkts $1" start
    local start rate
    sleep 0.1
    start=$(used)
    rate=$(ip netns exec "$wire" "$loop" count w0 "$seconds" 2>/dev/null)
    each $(($(used) - start)) "$rate" "$seconds" >"$dir/backend-cost"
    echo "$rate"
    tell stop
    sleep 0.2
}

out_plain() { # SIZE
    start ip netns exec "$host" taskset -c 1 "$loop" write plain "$longer" "$1" $nobody >/dev/null 2>&1
    local writer=$pid before rate after
    sleep 0.1
    read -r -a before <"/proc/$writer/schedstat"
    rate=$(ip netns exec "$wire" "$loop" count w0 "$seconds" 2>/dev/null)
    read -r -a after <"/proc/$writer/schedstat"
    each $((after[0] - before[0])) "$rate" "$seconds" >"$dir/plain-cost"
    echo $((after[1] - before[1])) >"$dir/waited"
    echo "$rate"
    end "$writer"
}

in_backend() { # SIZE
    tell 'set fwd rxonly' start
    start ip netns exec "$wire" taskset -c 0 "$loop" flood w0 "$longer" "$1" $guest >/dev/null 2>&1
    local flood=$pid first last start nanoseconds rate
    sleep 0.3
    first=$(received)
    start=$(used)
    sleep "$seconds"
    nanoseconds=$(($(used) - start))
    last=$(received)
    end "$flood"
    # RX-packets of `show port stats` count since the start of the program.
    rate=$(awk -v first="$first" -v last="$last" 'BEGIN {
        split(first, a); split(last, b); printf "%.0f\n", (b[1] - a[1]) / (b[2] - a[2]) * 1e9 }')
    each "$nanoseconds" "$rate" "$seconds" >"$dir/backend-cost"
    echo "$rate"
    tell stop
    sleep 0.2
}

in_plain() { # SIZE
    local spin='' flood
    if [ "$guest_cpu" = 0 ]; then
        start taskset -c 0 sh -c 'while :; do :; done'
        spin=$pid
    fi
    start ip netns exec "$wire" taskset -c 0 "$loop" flood w0 "$longer" "$1" $plain >/dev/null 2>&1
    flood=$pid
    sleep 0.3
    local rate ran waited
    rate=$(ip netns exec "$host" taskset -c 1 "$loop" read plain "$seconds" 2>"$dir/schedstat")
    read -r ran waited _ <"$dir/schedstat"
    each "$ran" "$rate" "$seconds" >"$dir/plain-cost"
    echo "$waited" >"$dir/waited"
    echo "$rate"
    end "$flood"
    if [ -n "$spin" ]; then end "$spin"; fi
}

echo "load before: $(cut -d ' ' -f 1-3 /proc/loadavg); $(nproc) processors; $pairs pairs of $seconds s"
echo "frames per second in thousands, median (smallest to largest); ratio: median of the pairs"
printf '%-16s %5s  %-20s %-20s %5s  %-13s %s\n' \
    direction bytes back-end 'plain loop' ratio 'CPU ns each' 'good, spoilt'
for direction in out in; do
    for size in 64 1514; do
        good=0 spoilt=0
        : >"$dir/pairs"
        while [ "$good" -lt "$pairs" ] && [ "$spoilt" -lt $((2 * pairs)) ]; do
            # Not in subshells: what is started must be known to `clean`.
            before=$(waited)
            "${direction}_backend" "$size" >"$dir/backend"
            ours=$(($(waited) - before))
            "${direction}_plain" "$size" >"$dir/plain"
            if [ "$ours" -gt "$tenth" ] || [ "$(cat "$dir/waited")" -gt "$tenth" ]; then
                spoilt=$((spoilt + 1))
                continue
            fi
            good=$((good + 1))
            paste -d ' ' "$dir/backend" "$dir/plain" "$dir/backend-cost" "$dir/plain-cost" >>"$dir/pairs"
        done
        [ "$good" -gt 0 ] || { echo "rates: the machine is too busy to measure anything" >&2; exit 1; }
        case $direction in out) name='guest to uplink' ;; in) name='uplink to guest' ;; esac
        column() { awk "{ print $1 }" "$dir/pairs" | sort -g; }
        middle() { awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }
        told() {
            column "\$$1" | awk '{ v[NR] = $1 / 1000 } END {
                m = (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2
                printf "%.0f (%.0f to %.0f)", m, v[1], v[NR] }'
        }
        ratio=$(column '$1 / $2' | middle)
        cost="$(column '$3' | middle) / $(column '$4' | middle)"
        printf '%-16s %5s  %-20s %-20s %5.2f  %-13s %s\n' \
            "$name" "$size" "$(told 1)" "$(told 2)" "$ratio" "$cost" "$good, $spoilt"
    done
done
echo "load after: $(cut -d ' ' -f 1-3 /proc/loadavg)"
