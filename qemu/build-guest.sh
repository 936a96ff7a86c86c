#!/usr/bin/env bash
# Makes the guest that the tests and the demo boot: a kernel and an initramfs.
#
#     qemu/build-guest.sh [DIRECTORY]        default: qemu/build; prints the directory
#
# The guest consists of Debian's packages: the newest cloud kernel (virtio and IPv6 without a
# hundred drivers), the few modules that virtio needs, busybox, ethtool and bash with their
# libraries, and the `init` beside this script. The script downloads no image, and the repository
# contains none. bash is there because it opens TCP and UDP sockets (/dev/tcp, /dev/udp); busybox
# has no UDP.
#
# The script unpacks the kernel from its bzImage once, so QEMU enters it directly (PVH). Without KVM
# a decompression inside the guest would cost seconds at every boot.
#
# The same inputs give the same bytes, and a second call with unchanged inputs returns at once. Many
# test processes call this script. A lock lets one build while the others wait. The results appear
# by rename, so a guest that boots at the same time never sees half a file.
set -euo pipefail
export LC_ALL=C
umask 022

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-$here/build}
mkdir -p "$out"
out=$(cd "$out" && pwd)

fail() {
    echo "build-guest: $*" >&2
    exit 1
}

need() {
    command -v "$1" >/dev/null || fail "$1 is missing: apt-get install $2 (or: make install-deps)"
}
need busybox busybox-static
need ethtool ethtool
need cpio cpio
need modprobe kmod
need flock util-linux
need lz4 lz4
need grep grep

# A dynamically linked busybox would need its libraries at PID 1's first step.
busybox=$(command -v busybox)
if ldd "$busybox" >/dev/null 2>&1; then
    fail "$busybox is not static: apt-get install busybox-static (or: make install-deps)"
fi
ethtool=$(command -v ethtool)
bash=$(command -v bash)

shopt -s nullglob
kernels=(/boot/vmlinuz-*-cloud-amd64)
shopt -u nullglob
[ ${#kernels[@]} -gt 0 ] ||
    fail "no /boot/vmlinuz-*-cloud-amd64: apt-get install linux-image-cloud-amd64 (or: make install-deps)"
kernel=$(printf '%s\n' "${kernels[@]}" | sort -V | tail -n 1)
release=${kernel#/boot/vmlinuz-}
[ -d "/lib/modules/$release" ] || fail "/lib/modules/$release is missing"

# The key covers all inputs of the result. Size and time stand for the contents of big files.
key=$(
    {
        sha256sum "$here/build-guest.sh" "$here/init"
        stat -Lc '%n %s %Y' "$kernel" "$busybox" "$ethtool" "$bash"
    } | sha256sum
)

exec 9>"$out/.lock"
flock 9
if [ "$(cat "$out/key" 2>/dev/null)" = "$key" ] && [ -s "$out/vmlinux" ] && [ -s "$out/initramfs.cpio" ]; then
    echo "$out"
    exit 0
fi

work=$(mktemp -d "$out/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,sbin,usr,modules,etc,dev,proc,sys,run,tmp}

install -m 755 "$here/init" "$root/init"
install -m 755 "$busybox" "$root/bin/busybox"
# Every applet gets a link, so scripts in the guest can call it by name.
for applet in $("$busybox" --list); do
    [ -e "$root/bin/$applet" ] || ln -s busybox "$root/bin/$applet"
done

# Installs a program and the libraries that its dynamic linker will load, at the same paths.
add_program() {
    install -D -m 755 "$1" "$root/bin/$(basename "$1")"
    ldd "$1" | grep -o '/[^ ]*' | while read -r library; do
        install -D -m 755 "$library" "$root$library"
    done
}
rm -f "$root/bin/ethtool"
add_program "$ethtool"
add_program "$bash"

# The guest loads virtio_pci, virtio_console and virtio_net at boot. Tests that need 8021q or
# macvlan load them (`for m in $(cat /modules/order.8021q); do insmod /modules/$m; done`).
order() {
    modprobe -S "$release" --ignore-install --show-depends "$1" | sed -n 's/^insmod \([^ ]*\).*/\1/p'
}
for module in virtio_pci virtio_console virtio_net; do order "$module"; done | awk '!seen[$0]++' >"$work/boot"
for module in 8021q macvlan; do
    order "$module" >"$work/$module"
    sed 's,.*/,,' "$work/$module" >"$root/modules/order.$module"
done
sed 's,.*/,,' "$work/boot" >"$root/modules/order"
sort -u "$work/boot" "$work/8021q" "$work/macvlan" | while read -r module; do
    install -m 644 "$module" "$root/modules/"
done

# The archive is deterministic: names are sorted, all files have one date and belong to root.
find "$root" -exec touch -h -d @0 {} +
(cd "$root" && find . -mindepth 1 | sort | cpio --quiet --reproducible -o -H newc -R 0:0) >"$work/initramfs.cpio"

# The payload of a bzImage starts at its compressor's magic number; Debian's cloud kernel has LZ4
# (legacy frames). lz4 complains about the bytes behind the payload; the ELF magic shows success.
magic=$(printf '\x02\x21\x4c\x18')
grep -abo --fixed-strings "$magic" "$kernel" | cut -d: -f1 | while read -r offset; do
    tail -c +$((offset + 1)) "$kernel" | lz4 -dc >"$work/vmlinux" 2>/dev/null || true
    if [ "$(head -c 4 "$work/vmlinux" | od -An -tx1 | tr -d ' \n')" = 7f454c46 ]; then break; fi
    rm -f "$work/vmlinux"
done
if [ ! -s "$work/vmlinux" ]; then
    # With another compressor the guest boots the bzImage itself. QEMU recognizes both formats.
    echo "build-guest: $kernel is not LZ4, guests will boot more slowly" >&2
    cp "$kernel" "$work/vmlinux"
fi

mv "$work/initramfs.cpio" "$out/initramfs.cpio"
mv "$work/vmlinux" "$out/vmlinux"
printf '%s\n' "$key" >"$out/key"
echo "$out"
