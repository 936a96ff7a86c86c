//! The kernel's refusals, put into words.
//!
//! An errno says little and means something else in every call: EBUSY at the creation of a port is
//! another driver on the parent, at the opening of a queue it is the 257th queue. This file has the
//! words for each call, so that every message names the object, the reason and the remedy.
//! `parent.rs` refuses most cases before; the remaining ones are races, missing privileges and
//! drivers' own rules.

use std::fmt;
use std::io;

use crate::error::Error;
use crate::host::parent::Parent;
use crate::host::spec::Wanted;
use crate::net::mac::Mac;

/// Creating the port `wanted` on `parent` failed.
pub(crate) fn of_creation(parent: &Parent, wanted: &Wanted<'_>, error: &io::Error) -> Error {
    let port = wanted.object;
    let carrier = format!("parent {}", parent.link.name);
    match error.raw_os_error() {
        Some(libc::EPERM) => no_permission(port, "creating a network device"),
        Some(libc::EBUSY) => Error::parent_in_use(
            carrier,
            "another driver takes its frames already (bridge, bond, team, Open vSwitch, ipvlan)",
            "use that device as the parent, or release this one",
        ),
        Some(libc::EEXIST) => Error::name_taken(
            port,
            "a device of that name has appeared meanwhile",
            "choose another name",
        ),
        Some(libc::EOPNOTSUPP) => Error::unsupported(
            port,
            "this kernel has no macvtap driver",
            "load it: modprobe macvtap (CONFIG_MACVTAP)",
        ),
        Some(libc::ENODEV) => {
            Error::parent_missing(carrier, "it has just vanished", "create it again and retry")
        }
        _ => Error::system(
            port,
            format!("the kernel refuses it on {}: {error}", parent.link.name),
            "see the kernel log (dmesg)",
        ),
    }
}

/// Creating the device `object` is not permitted, or cannot be tried.
pub(crate) fn creating(object: &str, error: &io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::EPERM) => no_permission(object, "creating a network device"),
        _ => Error::system(
            object,
            format!("creating a network device failed: {error}"),
            "see the kernel log (dmesg)",
        ),
    }
}

/// `what` was done to the device `name` and failed.
pub(crate) fn of(name: &str, what: &str, error: &io::Error) -> Error {
    let object = format!("macvtap {name}");
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => no_permission(object, what),
        _ => Error::system(object, format!("{what} failed: {error}"), "see the kernel log (dmesg)"),
    }
}

/// The device `name` is to have the address `mac`, but `holder` has it. Without a known holder it
/// is a port in another network namespace, or in one that the kernel is still taking down.
pub(crate) fn of_address(name: &str, mac: Mac, holder: Option<String>) -> Error {
    let holder = holder.unwrap_or_else(|| {
        "a port of the same parent in another network namespace, perhaps one just deleted".into()
    });
    Error::mac_taken(
        format!("macvtap {name}"),
        format!("MAC address {mac} belongs to {holder}"),
        "choose another address; every port of a parent needs its own",
    )
}

/// The device `name` no longer exists.
pub(crate) fn gone(name: &str, parent: &str) -> Error {
    Error::device_missing(
        format!("macvtap {name}"),
        "the device has vanished",
        format!("it can be made again once {parent} is there"),
    )
}

fn no_permission(object: impl fmt::Display, what: &str) -> Error {
    Error::permission(
        object,
        format!("{what} is not permitted"),
        "it needs CAP_NET_ADMIN in this network namespace: run as root or grant the capability",
    )
}
