#!/usr/bin/env bash
# Fetches the distribution's newest QEMU beside the installed one, and prints its path.
#
#     scripts/newest-qemu.sh              default: ~/.cache/vhost-user-macvtap/qemu-newest
#     scripts/newest-qemu.sh DIRECTORY
#     SUITES=stable scripts/newest-qemu.sh DIRECTORY       the QEMU of another release of the distribution
#
# Users run newer QEMUs than the test machine: QEMU 10.2 removed an option that 7.2 needs. A newer
# QEMU cannot be installed beside Debian's, because it needs a newer libc and a hundred newer
# libraries. But the script can unpack it with all of them into a directory, and run it by the
# dynamic linker from the same directory. The printed path is a small script that does this; it
# takes QEMU's arguments.
#
# The script installs nothing and changes nothing on the machine. apt gets a directory of its own,
# with its lists, its archives, an empty list of installed packages, and one source. That source is
# the machine's own mirror with another suite, signed by the keys that the machine has already.
# apt's other settings, such as a proxy, are the machine's. The script does not need root.
#
# The result is used for a week; then the script looks for a newer one. If that fails, the old one
# stays and a line says so. If several callers run at once, one fetches and the others wait.
#
# What can go wrong: no apt, no mirror, no network (each attempt has a time limit), or a processor
# that is not x86-64. The script then prints the reason, leaves no partial result, and exits with 1.
set -euo pipefail
export LC_ALL=C
umask 022

# The script takes the first suite that the mirror has. These names stay valid: the newest packages,
# the newest for the stable release, the stable release.
suites=${SUITES:-sid stable-backports stable}
max_age_days=7
# Seconds for each call of apt; all calls together fetch about 100 MB.
limit=300

out=${1:-${XDG_CACHE_HOME:-${HOME:?no home directory: give a directory}/.cache}/vhost-user-macvtap/qemu-newest}
mkdir -p "$out"
out=$(cd "$out" && pwd)
program=$out/qemu-system-x86_64

fail() {
    if [ -x "$program" ]; then
        echo "newest-qemu: $*; what was fetched earlier stays: $("$program" --version | head -n 1)" >&2
        echo "$program"
        exit 0
    fi
    echo "newest-qemu: $*" >&2
    exit 1
}

fresh() { [ -x "$program" ] && [ -n "$(find "$program" -mtime "-$max_age_days")" ]; }

exec 9>"$out/.lock"
flock 9
if fresh; then
    echo "$program"
    exit 0
fi

[ "$(uname -m)" = x86_64 ] || fail "this machine is not x86-64: $(uname -m)"
for tool in apt-get dpkg-deb; do
    command -v "$tool" >/dev/null || fail "$tool is missing: this works on Debian and its derivatives"
done

# The machine's mirror is the source of its own release, not a source of updates for it.
release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
# An address that apt accepts cannot break the line of a source.
read -r mirror component keys < <(
    apt-get indextargets --format '$(REPO_URI) $(COMPONENT) $(RELEASE) $(SIGNED_BY)' 'Created-By: Packages' |
        awk -v release="$release" '$3 == release && !seen++ { print $1, $2, ($4 ~ /^\// ? $4 : "") }'
) || fail "no source of packages for $release is configured here"

work=$(mktemp -d "$out/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$work"/{lists/partial,archives/partial,log} "$root"/usr/{bin,sbin,lib,lib64}
# Packages from before the merge of / and /usr need these links.
for name in bin sbin lib lib64; do ln -s "usr/$name" "$root/$name"; done
: >"$work/status"

apt() { # apt SUITE ARGUMENTS...
    local suite=$1
    shift
    echo "deb ${keys:+[signed-by=$keys] }$mirror $suite $component" >"$work/sources.list"
    # apt reads the machine's own settings first, then these; the last value wins.
    timeout "$limit" apt-get \
        -o Dir::State="$work" -o Dir::State::Lists="$work/lists" -o Dir::State::status="$work/status" \
        -o Dir::Cache="$work" -o Dir::Cache::Archives="$work/archives" -o Dir::Log="$work/log" \
        -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=- \
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
        -o APT::Install-Recommends=false -o APT::Sandbox::User="$(id -un)" \
        -o Acquire::Languages=none -o Acquire::Retries=2 -o Acquire::http::Timeout=20 \
        -o DPkg::Post-Invoke="" -o APT::Update::Post-Invoke="" -o APT::Update::Post-Invoke-Success="" \
        -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false \
        -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
        -q -y "$@" </dev/null >"$work/log/apt" 2>&1
}

found=
for suite in $suites; do
    echo "newest-qemu: fetching QEMU of $suite" >&2
    if apt "$suite" update -o APT::Update::Error-Mode=any &&
        apt "$suite" --download-only install qemu-system-x86; then
        found=$suite
        break
    fi
    grep -E '^(E|W|Err)' "$work/log/apt" | head -n 3 >&2 || true
done
[ -n "$found" ] || fail "no package qemu-system-x86 could be fetched from the machine's mirror"

for package in "$work"/archives/*.deb; do
    # Documentation is a third of all files and is left out. Only names, modes and contents matter.
    dpkg-deb --fsys-tarfile "$package" |
        tar -x -C "$root" --no-same-owner --keep-directory-symlink \
            --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*' ||
        fail "$(basename "$package") cannot be unpacked"
done

# The library path lists the directories that hold libraries. Plug-ins find their own directories.
cat >"$work/qemu-system-x86_64" <<'RUN'
#!/bin/sh
# Runs the newest QEMU with its libraries from the directory beside it (scripts/newest-qemu.sh).
root=$(dirname "$(readlink -f "$0")")/root
lib=$root/usr/lib/x86_64-linux-gnu
export QEMU_MODULE_DIR="$lib/qemu"
exec "$root/usr/lib64/ld-linux-x86-64.so.2" --inhibit-cache --argv0 qemu-system-x86_64 \
    --library-path "$lib:$lib/pulseaudio:$root/usr/lib" "$root/usr/bin/qemu-system-x86_64" \
    -L "$root/usr/share/qemu" -L "$root/usr/share/seabios" -L "$root/usr/lib/ipxe/qemu" "$@"
RUN
chmod 755 "$work/qemu-system-x86_64"
version=$("$work/qemu-system-x86_64" --version 2>&1 | head -n 1) || true
case $version in
"QEMU emulator version "*) ;;
*) fail "what was fetched from $found does not run: $version" ;;
esac

# The program's name appears last. A QEMU that still runs from the old directory keeps its open
# files.
rm -rf "$program" "$out/root"
mv "$root" "$out/root"
mv "$work/qemu-system-x86_64" "$program"
echo "newest-qemu: $version" >&2
echo "$program"
