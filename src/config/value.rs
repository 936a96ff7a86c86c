//! The parsers of single values: what an MTU may be, what a device may be called.
//!
//! Rules about several values are in `port_draft.rs` and `siblings.rs`. Each refusal gives the reason
//! and the remedy; the caller puts the place before it.

use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

use crate::config::invalid::Invalid;
use crate::config::log_level::{LOG_LEVELS, level_of};
use crate::config::port_config::{
    Guard, Kind, MAX_QUEUE_PAIRS, MacChanges, MacChoice, ReservedGroups,
};
use crate::config::process::Workers;
use crate::config::size;
use crate::net::mac::Mac;
use crate::net::mode::Mode;
use crate::suggest::{did_you_mean, plain};

/// A Unix socket address holds 108 bytes, the last of which is the terminating zero.
const MAX_SOCKET_PATH: usize = 107;
/// IFNAMSIZ without the terminating zero.
const MAX_DEVICE_NAME: usize = 15;
/// ALTIFNAMSIZ without the terminating zero.
const MAX_ALTERNATIVE_NAME: usize = 127;
/// Least guest memory that can be a limit, in bytes.
const LEAST_MEMORY: u64 = 1 << 20;
/// The longest busy poll, in microseconds. A longer one would be a process that polls all the time, and
/// no pause between frames.
const LONGEST_POLL: u64 = 1000;

/// What a parser returns.
type Parsed<T> = Result<T, Invalid>;

fn invalid<T>(reason: impl std::fmt::Display, remedy: impl std::fmt::Display) -> Parsed<T> {
    Err(Invalid::new(reason, remedy))
}

pub(super) fn socket(text: &str) -> Parsed<PathBuf> {
    if text.is_empty() {
        return invalid("empty", "give the path of the vhost-user socket");
    }
    if text.contains('\0') {
        return invalid("holds a zero byte, which no path can", "remove it");
    }
    if text.len() > MAX_SOCKET_PATH {
        let reason = format!("{} bytes, a Unix socket's path holds {MAX_SOCKET_PATH}", text.len());
        return invalid(reason, "use a shorter one");
    }
    Ok(PathBuf::from(text))
}

pub(super) fn fd(text: &str) -> Parsed<RawFd> {
    let remedy = "use 3 or above";
    match text.parse() {
        Ok(fd @ 3..) => Ok(fd),
        Ok(0..=2) => invalid("0 to 2 are stdin, stdout and stderr", remedy),
        _ => invalid("not a file descriptor's number", remedy),
    }
}

/// The kernel's dev_valid_name().
fn device_name(text: &str) -> Result<(), String> {
    let wrong = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if text.is_empty() {
        Err("empty".to_owned())
    } else if text.len() > MAX_DEVICE_NAME {
        Err(format!("{} bytes, a device name has at most {MAX_DEVICE_NAME}", text.len()))
    } else if let Some(c) = text.chars().find(|c| wrong(*c)) {
        Err(format!("{c:?} cannot be in a device name"))
    } else if text == "." || text == ".." {
        Err("not a device name".to_owned())
    } else {
        Ok(())
    }
}

/// A device that exists is named by its name or by an alternative one. The latter may be longer, and the
/// kernel is less strict about its characters; these are the rules of `ip link property add`.
pub(super) fn parent(text: &str) -> Parsed<String> {
    let wrong = |c: char| c == '/' || c.is_whitespace() || c.is_control();
    // As `ip` prints it, with the lower device behind it: "mac0@eth0".
    let name = match text.rsplit_once('@') {
        Some((name, lower)) if lower.len() <= MAX_DEVICE_NAME => name,
        _ => text,
    };
    let reason = if text.is_empty() {
        "empty".to_owned()
    } else if name.len() > MAX_ALTERNATIVE_NAME {
        format!("{} bytes, a device's names have at most {MAX_ALTERNATIVE_NAME}", name.len())
    } else if let Some(c) = text.chars().find(|c| wrong(*c)) {
        format!("{c:?} cannot be in a device name")
    } else if text == "." || text == ".." {
        "not a device name".to_owned()
    } else {
        return Ok(text.to_owned());
    };
    invalid(reason, "`ip link` lists the devices")
}

pub(super) fn name(text: &str) -> Parsed<String> {
    let remedy = "give 1 to 15 bytes without '/', ':', '%' or blanks, or leave it out";
    device_name(text).map_err(|reason| Invalid::new(reason, remedy))?;
    if text.contains('%') {
        // The kernel would take the name as a pattern and number the devices itself.
        return invalid("'%' cannot be in a device name", remedy);
    }
    Ok(text.to_owned())
}

pub(super) fn kind(text: &str) -> Parsed<Kind> {
    const FOREIGN: &[(&str, &str)] = &[
        ("tap", "macvtap"),
        ("kernel", "macvtap"),
        ("userspace", "macvlan"),
        ("user", "macvlan"),
        ("af-packet", "macvlan"),
        ("packet", "macvlan"),
    ];
    match plain(text).as_str() {
        "macvtap" => Ok(Kind::Macvtap),
        // What it is: a switch of our own.
        "macvlan" | "switch" => Ok(Kind::Macvlan),
        _ => invalid(
            format!("'{text}' is not a type: macvtap or macvlan (also: switch)"),
            did_you_mean(text, &["macvtap", "macvlan", "switch"], FOREIGN),
        ),
    }
}

pub(super) fn mode(text: &str) -> Parsed<Mode> {
    const FOREIGN: &[(&str, &str)] =
        &[("passthrough", "passthru"), ("pass", "passthru"), ("isolated", "private")];
    // QEMU's, VFIO's and libvirt's spelling.
    let word = match plain(text) {
        word if word == "passthrough" => Mode::Passthru.name().to_owned(),
        word => word,
    };
    word.parse().map_err(|_| {
        Invalid::new(
            format!("'{text}' is not a mode: bridge, vepa, private, passthru or source"),
            did_you_mean(text, &Mode::ALL.map(Mode::name), FOREIGN),
        )
    })
}

fn station(text: &str) -> Parsed<Mac> {
    let mac: Mac = text.parse().map_err(|reason: String| Invalid::new(reason, ""))?;
    if mac.is_zero() {
        return invalid("the zero address is not a station's", "give another one");
    }
    if mac.is_group() {
        return invalid("a multicast address", "clear bit 0 of the first byte");
    }
    Ok(mac)
}

pub(super) fn mac(text: &str) -> Parsed<MacChoice> {
    match plain(text).as_str() {
        "auto" => Ok(MacChoice::Auto),
        _ => station(text)
            .map(MacChoice::Given)
            .map_err(|wrong| wrong.or(&did_you_mean(text, &["auto"], &[]))),
    }
}

pub(super) fn sources(text: &str) -> Parsed<Vec<Mac>> {
    let mut sources = Vec::new();
    for part in text.split('+') {
        let mac = station(part).map_err(|wrong| match part == text {
            true => wrong,
            false => Invalid { reason: format!("{part}: {}", wrong.reason), ..wrong },
        })?;
        // Naming one twice is harmless.
        if !sources.contains(&mac) {
            sources.push(mac);
        }
    }
    Ok(sources)
}

pub(super) fn mtu(text: &str) -> Parsed<u32> {
    let remedy = "leave it out to use the parent's";
    match text.parse::<i64>() {
        Ok(68..=65535) => text.parse().map_err(|error| Invalid::new(error, remedy)),
        Ok(..68) => invalid("below 68", remedy),
        Ok(_) => invalid("above 65535", remedy),
        Err(_) => invalid("not a number of bytes (68 to 65535)", remedy),
    }
}

pub(super) fn queue_pairs(text: &str) -> Parsed<u16> {
    match text.parse() {
        Ok(pairs) if (1..=MAX_QUEUE_PAIRS).contains(&pairs) => Ok(pairs),
        _ => invalid(format!("queue pairs are a number from 1 to {MAX_QUEUE_PAIRS}"), ""),
    }
}

pub(super) fn memory_limit(text: &str) -> Parsed<u64> {
    match size::parse(text) {
        Some(bytes @ LEAST_MEMORY..) => Ok(bytes),
        Some(_) => {
            let least = size::text(LEAST_MEMORY);
            invalid(format!("below {least}, the least that a guest can use"), "")
        }
        None => invalid("not a size", "write bytes, or a number with K, M, G or T, as 64G"),
    }
}

pub(super) fn mac_changes(text: &str) -> Parsed<MacChanges> {
    const FOREIGN: &[(&str, &str)] = &[
        ("yes", "allow"),
        ("on", "allow"),
        ("true", "allow"),
        ("follow", "allow"),
        ("no", "deny"),
        ("off", "deny"),
        ("false", "deny"),
        ("drop", "deny"),
    ];
    match plain(text).as_str() {
        "allow" => Ok(MacChanges::Allow),
        "deny" => Ok(MacChanges::Deny),
        _ => invalid(
            format!("'{text}' is neither allow nor deny"),
            did_you_mean(text, &["allow", "deny"], FOREIGN),
        ),
    }
}

pub(super) fn reserved_groups(text: &str) -> Parsed<ReservedGroups> {
    match plain(text).as_str() {
        "deliver" => Ok(ReservedGroups::Deliver),
        "drop" => Ok(ReservedGroups::Drop),
        _ => invalid(
            format!("'{text}' is neither deliver nor drop"),
            did_you_mean(text, &["deliver", "drop"], &[]),
        ),
    }
}

pub(super) fn guard(text: &str) -> Parsed<Guard> {
    if text == "off" {
        return Ok(Guard::Off);
    }
    match text.split('+').find(|part| *part != "stp") {
        None => Ok(Guard::Stp),
        Some(part @ ("dhcp" | "ra")) => {
            invalid(format!("'{part}' is not built yet"), "give stp or off")
        }
        Some("off") => invalid("off stands alone", "give stp or off"),
        Some(part) => invalid(format!("'{part}' is not a guard: stp or off"), ""),
    }
}

pub(super) fn on_off(text: &str) -> Parsed<bool> {
    match plain(text).as_str() {
        "on" | "true" | "yes" => Ok(true),
        "off" | "false" | "no" => Ok(false),
        _ => invalid(format!("'{text}' is neither on nor off"), ""),
    }
}

pub(super) fn workers(text: &str) -> Parsed<Workers> {
    if plain(text) == "per-queue" {
        return Ok(Workers::PerQueue);
    }
    match text.parse() {
        Ok(count @ 1..) => Ok(Workers::Count(count)),
        Ok(_) => invalid("no thread would move frames", "use 1 or more"),
        Err(_) => invalid(
            "neither a number from 1 nor per-queue",
            did_you_mean(text, &["per-queue"], &[]),
        ),
    }
}

pub(super) fn busy_poll(text: &str) -> Parsed<Duration> {
    match text.parse() {
        Ok(micros @ 0..=LONGEST_POLL) => Ok(Duration::from_micros(micros)),
        _ => invalid(format!("not a number of microseconds from 0 to {LONGEST_POLL}"), ""),
    }
}

pub(super) fn log_level(text: &str) -> Parsed<LevelFilter> {
    const FOREIGN: &[(&str, &str)] =
        &[("verbose", "debug"), ("critical", "error"), ("notice", "info")];
    level_of(text).ok_or_else(|| {
        let names = LOG_LEVELS.map(|(name, _)| name);
        let levels = format!("the levels are {}", names.join(", "));
        Invalid::new("not a level", levels).or(&did_you_mean(text, &names, FOREIGN))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_may_be_spelled_in_several_ways() {
        assert_eq!(mode("Bridge"), Ok(Mode::Bridge));
        assert_eq!(mode("PassThrough"), Ok(Mode::Passthru));
        let wrong = mode("brigde").unwrap_err();
        assert!(wrong.reason.ends_with("passthru or source"), "{wrong:?}");
        assert_eq!(wrong.remedy, "did you mean bridge?");
    }
}
