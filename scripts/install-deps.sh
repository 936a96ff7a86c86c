#!/usr/bin/env bash
# Installs what the tests and the demo use, on Debian and its children; returns at once when all of it
# is there.
#
# Everything comes from the distribution: no image, no binary of our own. The list below names what
# is looked for and the package that has it, so that on another distribution the message says what
# to look for. Not in the list: Rust, which people get in their own way; it is only checked for.
#
# What can go wrong: not root, no apt, no network. Then nothing is changed, what is missing is named,
# and the exit status is 1.
set -euo pipefail

wanted="
ip iproute2
busybox busybox-static
ethtool ethtool
tcpdump tcpdump
cpio cpio
lz4 lz4
modprobe kmod
flock util-linux
sysctl procps
setpriv util-linux
unshare util-linux
taskset util-linux
tc iproute2
dpdk-testpmd dpdk-dev
make make
python3 python3
cc build-essential
qemu-system-x86_64 qemu-system-x86
libvirtd libvirt-daemon
/usr/lib/*/libvirt/connection-driver/libvirt_driver_qemu.so libvirt-daemon-driver-qemu
virsh libvirt-clients
xmllint libxml2-utils
systemd-analyze systemd
valgrind valgrind
/boot/vmlinuz-*-cloud-amd64 linux-image-cloud-amd64
/usr/lib/*/dpdk/pmds-*/librte_net_virtio.so* librte-net-virtio23
/usr/lib/*/dpdk/pmds-*/librte_net_vhost.so* librte-net-vhost23
/usr/lib/*/dpdk/pmds-*/librte_net_af_packet.so* librte-net-af-packet23
/usr/lib/*/dpdk/pmds-*/librte_net_af_xdp.so* librte-net-af-xdp23
/usr/lib/*/dpdk/pmds-*/librte_net_tap.so* librte-net-tap23
"

PATH=$PATH:/usr/sbin:/sbin
missing=()
while read -r what package; do
    case $what in
    '') ;;
    /*) compgen -G "$what" >/dev/null || missing+=("$package") ;;
    *) command -v "$what" >/dev/null || missing+=("$package") ;;
    esac
done <<<"$wanted"
# A busybox that is not static is another package's, and of no use in the guest.
if command -v busybox >/dev/null && ldd "$(command -v busybox)" >/dev/null 2>&1; then
    missing+=(busybox-static)
fi

if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "install-deps: missing: ${missing[*]}" >&2
        echo "install-deps: as root, with apt: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    echo "install-deps: installing ${missing[*]}"
    # INITRD=No: the kernel is only booted in guests, with an initramfs of ours; making Debian's takes
    # longer than everything else here.
    export DEBIAN_FRONTEND=noninteractive INITRD=No
    log=$(mktemp)
    if ! { apt-get update -q && apt-get install -q -y --no-install-recommends "${missing[@]}"; } \
        </dev/null >"$log" 2>&1; then
        tail -n 30 "$log" >&2
        echo "install-deps: apt-get failed, see above; wanted: ${missing[*]}" >&2
        rm -f "$log"
        exit 1
    fi
    rm -f "$log"
fi

if ! command -v cargo >/dev/null; then
    echo "install-deps: cargo is missing: install Rust 1.89 or newer (https://rustup.rs)" >&2
    exit 1
fi
