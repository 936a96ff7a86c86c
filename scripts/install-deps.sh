#!/usr/bin/env bash
# Installs the packages that the tests and the demo use, on Debian and its derivatives. It returns
# at once if all of them are installed.
#
# Everything comes from the distribution; there is no image and no binary of our own. The list below
# names each file and its package, so the error message also helps on another distribution. Rust is
# not in the list, because people install it in different ways; the script only checks for it.
#
# What can go wrong: no root, no apt, no network. The script then changes nothing, names the missing
# packages, and exits with 1.
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
# A dynamically linked busybox comes from another package, and does not work in the guest.
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
    # INITRD=No: only guests boot this kernel, with our own initramfs. Making Debian's initramfs
    # would take longer than all other steps together.
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
