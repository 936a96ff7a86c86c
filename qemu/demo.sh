#!/usr/bin/env bash
# The demonstration shows two real guests on one parent NIC, and a machine on the LAN.
#
#     make demo
#
#     vm1 --\                                        one back-end process serves both guests;
#            vhost-user-macvtap -- eth0 == switch == LAN host
#     vm2 --/                                        eth0 is the parent of two macvtap devices
#
# Everything happens in separate namespaces: no frame reaches the real network, and the script
# touches no device of this machine. It starts the guests with the arguments that
# `vhost-user-macvtap qemu-args` prints. It changes two of them, and its output says which. Each
# check prints PASS or FAIL, and the exit status is 0 only if all passed. The script always removes
# its processes, namespaces and files at the end.
#
# VUM_BINARY=PATH demonstrates that binary instead of building one. VUM_ACCEL=kvm uses KVM.
#
# What can go wrong: the script needs root (namespaces, macvtap), and a kernel with veth, bridge and
# macvtap. Guests run without KVM by default, because test machines rarely have it. A boot then
# takes a few seconds.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
start=$SECONDS

say() { printf '\n== %s\n' "$*"; }
show() { sed 's/^/   | /'; }
fail() {
    echo "demo: $*" >&2
    exit 1
}

[ "$(id -u)" -eq 0 ] || fail "namespaces and macvtap devices need root: sudo make demo"

# ---- Installing and building ---------------------------------------------------------------------
say "Looking for what the demo needs (and installing it where missing)"
"$top/scripts/install-deps.sh"
image=$("$top/qemu/build-guest.sh")

if [ -n "${VUM_BINARY:-}" ]; then
    binary=$VUM_BINARY
else
    say "Building the release binary (a few minutes the first time)"
    (cd "$top" && cargo build --release --locked --quiet)
    binary=${CARGO_TARGET_DIR:-$top/target}/release/vhost-user-macvtap
fi
built=$SECONDS

# ---- Clean-up on every exit ----------------------------------------------------------------------
dir=$(mktemp -d /tmp/vum-demo.XXXXXX)
host=vum-$$-demo-host
lan=vum-$$-demo-lan
switch=vum-$$-demo-switch
pids=()
backend=

# The group has no stderr, because bash would report every killed job with its whole command line.
stop() {
    {
        for pid in "$@"; do kill -KILL "$pid" || true; done
        for pid in "$@"; do wait "$pid" || true; done
    } 2>/dev/null
}

cleanup() {
    status=$?
    trap - EXIT
    stop "${pids[@]}"
    for netns in "$host" "$lan" "$switch"; do
        ip netns list | grep -q "^$netns\b" || continue
        # Links go first: the deletion of a namespace destroys them only later.
        for link in $(ip -n "$netns" -o link | sed -n 's/^[0-9]*: \([^:@]*\).*/\1/p'); do
            [ "$link" = lo ] || ip -n "$netns" link del "$link" 2>/dev/null || true
        done
        ip netns del "$netns"
    done
    rm -rf "$dir"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# ---- The network ---------------------------------------------------------------------------------
say "Making a LAN: a host with the NIC eth0, a switch (a Linux bridge), and a LAN host behind it"
for netns in "$host" "$lan" "$switch"; do
    ip netns add "$netns"
    ip -n "$netns" link set lo up
done
ip -n "$switch" link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0
ip -n "$switch" link set br0 up
plug() {
    ip -n "$1" link add eth0 type veth peer name "$2" netns "$switch"
    ip -n "$switch" link set "$2" master br0 up
    ip -n "$1" link set eth0 up
}
plug "$host" p-host
plug "$lan" p-lan
ip -n "$host" addr add 192.0.2.1/24 dev eth0
ip -n "$lan" addr add 192.0.2.100/24 dev eth0
ip -n "$lan" addr add 2001:db8::100/64 dev eth0 nodad
echo "   LAN host: 192.0.2.100 and 2001:db8::100"

# ---- The back-end --------------------------------------------------------------------------------
mac=('' 52:54:00:12:34:01 52:54:00:12:34:02)
ports=()
for n in 1 2; do
    ports+=(--port "socket=$dir/vm$n.sock,parent=eth0,mode=bridge,name=vm$n,mac=${mac[n]}")
done
say "Starting one back-end with two ports on the one parent"
echo "   \$ vhost-user-macvtap ${ports[*]}"
setpriv --pdeathsig KILL ip netns exec "$host" "$binary" "${ports[@]}" \
    </dev/null >"$dir/backend.log" 2>&1 &
backend=$!
pids+=("$backend")
for _ in $(seq 100); do
    if [ -S "$dir/vm1.sock" ] && [ -S "$dir/vm2.sock" ]; then break; fi
    kill -0 "$backend" 2>/dev/null || break
    sleep 0.05
done
if ! [ -S "$dir/vm1.sock" ] || ! [ -S "$dir/vm2.sock" ]; then
    show <"$dir/backend.log" >&2
    fail "the back-end did not open its sockets, see its log above"
fi
echo "   Its macvtap devices on eth0:"
ip -n "$host" -br link show type macvtap | show

# ---- The guests ----------------------------------------------------------------------------------
qemu_binary=${VUM_QEMU:-qemu-system-x86_64}
kernel="console=ttyS0 quiet panic=-1 mitigations=off cryptomgr.notests tsc=reliable no_timer_check
    rcupdate.rcu_expedited=1 random.trust_cpu=on
    initcall_blacklist=init_kprobe_trace,load_system_certificate_list,crypto_kdf108_init"
control_in=()
control_out=()

# The program prints the QEMU arguments of a port; the demo changes only those that depend on the
# demo.
start_guest() {
    local n=$1 fd word printed arguments=()
    printed=$(ip netns exec "$host" "$binary" "${ports[@]:2*(n-1):2}" \
        qemu-args --qemu "$qemu_binary" --memory 192M 2>"$dir/note")
    if [ "$n" = 1 ]; then
        echo "   \$ vhost-user-macvtap --port ... qemu-args --memory 192M"
        show <<<"$printed"
        echo "   Changed: vectors=0, because QEMU 7.2 without KVM crashes when a vhost-user device starts"
        echo "   with MSI-X; romfile=, because the guest has no boot ROM to run."
    fi
    # The printed arguments are quoted for a shell, so a shell must remove the quotes.
    eval "local words=( $printed )"
    # shellcheck disable=SC2154 # words is assigned by the eval above
    for word in "${words[@]}"; do
        case $word in
        virtio-net-pci,*) word="${word/,vectors=*([0-9])/},vectors=0,romfile=" ;;
        esac
        arguments+=("$word")
    done
    mkfifo "$dir/vm$n.in" "$dir/vm$n.out"
    exec {fd}<>"$dir/vm$n.in"
    control_in[n]=$fd
    exec {fd}<>"$dir/vm$n.out"
    control_out[n]=$fd
    setpriv --pdeathsig KILL "$qemu_binary" -name "vm$n" \
        -nodefaults -no-user-config -display none \
        -machine pc,hpet=off -accel "${VUM_ACCEL:-tcg}" -smp 1 \
        -kernel "$image/vmlinux" -initrd "$image/initramfs.cpio" -append "${kernel//$'\n'/ }" \
        -serial "file:$dir/vm$n.console" \
        -chardev "pipe,id=control,path=$dir/vm$n" -device virtio-serial-pci \
        -device virtserialport,chardev=control,name=control \
        "${arguments[@]}" </dev/null >"$dir/vm$n.log" 2>&1 &
    qemu[n]=$!
    pids+=("$!")
}

# Prints the logs of a guest that does not answer.
post_mortem() {
    {
        echo "QEMU of vm$1 said:" && show <"$dir/vm$1.log"
        echo "the console of vm$1 ends:" && tail -n 20 "$dir/vm$1.console" | show
        echo "the back-end said:" && show <"$dir/backend.log"
    } >&2
    fail "vm$1 does not answer"
}

wait_guest() {
    local line end=$((SECONDS + 60))
    while ((SECONDS < end)); do
        if IFS= read -r -t 1 line <&"${control_out[$1]}"; then
            case $line in *'@ready 1') return ;; esac
        fi
        kill -0 "${qemu[$1]}" 2>/dev/null || break
    done
    post_mortem "$1"
}

# in_guest N COMMAND: runs it there, prints its output, returns its status. See qemu/init.
in_guest() {
    local n=$1 nonce=d$SRANDOM line status size
    printf '%s 30 %s\n' "$nonce" "$(printf %s "$2" | base64 -w 0)" >&"${control_in[n]}"
    while IFS= read -r -t 45 line <&"${control_out[n]}"; do
        case $line in
        *"@$nonce "*)
            read -r _ status size <<<"${line##*@}"
            head -c "$size" <&"${control_out[n]}"
            return "$status"
            ;;
        esac
    done
    post_mortem "$n"
}

shopt -s extglob
qemu=()
say "Starting two QEMU guests with what the program prints for QEMU"
start_guest 1
start_guest 2
wait_guest 1
wait_guest 2
for n in 1 2; do
    in_guest $n "echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad && ip link set eth0 up &&
        ip addr add 192.0.2.1$n/24 dev eth0 && ip addr add 2001:db8::1$n/64 dev eth0" ||
        post_mortem $n
    echo "   vm$n is up: 192.0.2.1$n and 2001:db8::1$n, $(in_guest $n 'cat /sys/class/net/eth0/address')"
done

# ---- The checks ----------------------------------------------------------------------------------
failures=0
check() {
    local what=$1 output
    shift
    if output=$("$@" 2>&1); then
        printf 'PASS  %-58s %s\n' "$what" "$(sed -n 's,^round-trip .* = \([0-9./]*\) ms,\1 ms,p' <<<"$output")"
    else
        printf 'FAIL  %s\n' "$what"
        show <<<"$output"
        failures=$((failures + 1))
    fi
}
# A check needs three answers of three, while ping itself accepts one. The first ping only resolves
# the neighbour.
pings="ping -c 1 -W 2 ADDRESS >/dev/null; out=\$(ping -c 3 -i 0.2 -W 2 ADDRESS); echo \"\$out\"
    case \$out in *' 3 packets received'*) exit 0 ;; esac; exit 1"
guest_ping() { in_guest "$1" "${pings//ADDRESS/$2}"; }
lan_ping() { ip netns exec "$lan" sh -c "ping() { busybox ping \"\$@\"; }; ${pings//ADDRESS/$1}"; }

say "Who reaches whom (round trip: min/avg/max)"
check "vm1 -> vm2       IPv4" guest_ping 1 192.0.2.12
check "vm1 -> vm2       IPv6" guest_ping 1 2001:db8::12
check "vm2 -> vm1       IPv4" guest_ping 2 192.0.2.11
check "vm2 -> vm1       IPv6" guest_ping 2 2001:db8::11
for n in 1 2; do
    check "vm$n -> LAN host  IPv4" guest_ping $n 192.0.2.100
    check "vm$n -> LAN host  IPv6" guest_ping $n 2001:db8::100
    check "LAN host -> vm$n  IPv4" lan_ping 192.0.2.1$n
    check "LAN host -> vm$n  IPv6" lan_ping 2001:db8::1$n
done
say "The LAN host sees both guests with MAC addresses of their own, as if they were plugged into the switch"
{ ip -n "$lan" neigh | grep -F 52:54:00 || echo "none of them"; } | sort | show
seen() { ip -n "$lan" neigh | grep -F "192.0.2.1$1 " | grep -qF "${mac[$1]}"; }
check "vm1 has its own MAC on the LAN" seen 1
check "vm2 has its own MAC on the LAN" seen 2

# ---- The end -------------------------------------------------------------------------------------
say "Stopping the back-end with SIGTERM: it must remove everything that it made"
stop "${qemu[@]}"
kill -TERM "$backend"
code=0
for _ in $(seq 100); do
    kill -0 "$backend" 2>/dev/null || break
    sleep 0.05
done
if kill -0 "$backend" 2>/dev/null; then
    stop "$backend"
    code=137
else
    wait "$backend" || code=$?
fi
pids=()
no_macvtap() { [ -z "$(ip -n "$host" -br link show type macvtap)" ]; }
no_socket() { ! [ -e "$dir/vm1.sock" ] && ! [ -e "$dir/vm2.sock" ]; }
check "the back-end ended with status 0 (it was $code)" [ "$code" -eq 0 ]
check "no macvtap device is left on the parent" no_macvtap
check "no socket is left" no_socket

if [ "$failures" -gt 0 ]; then
    say "What the back-end logged"
    show <"$dir/backend.log"
    say "$failures checks FAILED"
    exit 1
fi
say "All checks passed, $((SECONDS - built)) s after the build ($((SECONDS - start)) s in all)"
