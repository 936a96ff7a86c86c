//! The view of /sys that belongs to our network namespace, and the facts read there.
//!
//! A mounted sysfs shows the network devices of the namespace in which it was *mounted*, not of the
//! reading thread's. In a container both are the same; after `ip netns exec` too, which mounts it
//! anew. After a bare `nsenter --net` or `setns` they are not, and /sys/class/net/vm0 may be
//! another namespace's device of the same name and index. So no fact is used before index, address
//! and alias equal netlink's; the alias of a device that we made carries a number that no other
//! device has.
//!
//! If /sys is the wrong one, a short-lived thread gets a mount namespace of its own, mounts a fresh
//! sysfs over /sys there, reads, and ends; the namespace and the mount end with it. No other thread
//! sees any of it. This needs CAP_SYS_ADMIN, which a process in a foreign network namespace usually
//! has; if not, the error names the right way to start the program.

use std::fs;
use std::io;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::makedev;

use crate::error::{Error, Result};
use crate::host::link::LinkInfo;
use crate::host::rootless;
use crate::process::threads;

/// Stack of the thread that reads a private sysfs, in bytes.
const STACK: usize = 256 << 10;

/// The device number of the tap that belongs to the macvtap `link`.
pub(crate) fn tap_device_number(link: &LinkInfo) -> Result<libc::dev_t> {
    if is_same_device(link) {
        return read_device_number(link).map_err(|error| {
            Error::system(
                format!("macvtap {}", link.name),
                format!("its tap is not in /sys/class/net/{}: {error}", link.name),
                "retry; if it persists, the kernel's macvtap driver is broken or absent",
            )
        });
    }
    log::debug!("/sys shows another network namespace; mounting it privately for {}", link.name);
    let wanted = link.clone();
    let reader = threads::start("sysfs".into(), STACK, move || {
        fresh_sysfs()?;
        if is_same_device(&wanted) {
            read_device_number(&wanted)
        } else {
            Err(io::Error::from_raw_os_error(libc::ENODEV))
        }
    });
    let answer = reader.and_then(|thread| {
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the reading thread has died")))
    });
    answer.map_err(|error| {
        Error::system(
            format!("macvtap {}", link.name),
            format!("/sys shows another network namespace, and a private one is refused: {error}"),
            match rootless::is_rootless() {
                true => rootless::REMEDY,
                false => {
                    "start the program with 'ip netns exec', which mounts the right /sys, or grant \
                     CAP_SYS_ADMIN"
                }
            },
        )
    })
}

/// Gives the calling thread a mount namespace with a sysfs of its own network namespace.
fn fresh_sysfs() -> io::Result<()> {
    const NOTHING: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS)?;
    // Private first, or the mount would propagate back to the original namespace.
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
    Ok(mount(Some("sysfs"), "/sys", Some("sysfs"), flags, NOTHING)?)
}

/// True when /sys describes this very device.
fn is_same_device(link: &LinkInfo) -> bool {
    let says = |file: &str| {
        fs::read_to_string(format!("/sys/class/net/{}/{file}", link.name))
            .map(|text| text.trim_end_matches('\n').to_string())
    };
    let same = |file: &str, wanted: &str| says(file).is_ok_and(|found| found == wanted);
    same("ifindex", &link.index.to_string())
        && same("address", &link.mac.to_string())
        && same("ifalias", link.alias.as_deref().unwrap_or_default())
}

fn read_device_number(link: &LinkInfo) -> io::Result<libc::dev_t> {
    let (name, index) = (&link.name, link.index);
    // The first is a link to the second; kernels before 4.2 had only the second.
    let text = fs::read_to_string(format!("/sys/class/net/{name}/tap{index}/dev"))
        .or_else(|_| fs::read_to_string(format!("/sys/class/net/{name}/macvtap/tap{index}/dev")))?;
    parse_device_number(&text).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// "246:3" as a device number.
fn parse_device_number(text: &str) -> Option<libc::dev_t> {
    let (major, minor) = text.trim().split_once(':')?;
    Some(makedev(major.parse().ok()?, minor.parse().ok()?))
}

/// True when the device is known to be wireless; false also when /sys does not say.
pub(crate) fn is_wireless(name: &str, index: u32) -> bool {
    let base = Path::new("/sys/class/net").join(name);
    let ours =
        fs::read_to_string(base.join("ifindex")).is_ok_and(|t| t.trim() == index.to_string());
    ours && (base.join("wireless").exists() || base.join("phy80211").exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_device_numbers() {
        assert_eq!(parse_device_number("246:3\n"), Some(makedev(246, 3)));
        for text in ["", "246", "246:", "a:b", "1:2:3"] {
            assert_eq!(parse_device_number(text), None, "{text:?}");
        }
    }
}
