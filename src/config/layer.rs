//! One place's words, parsed: a layer that can be put over another one.
//!
//! All rules about a single value are here (what a MTU may be, what a device may be called); rules
//! about several are in `check.rs`. Each refusal gives the reason and the remedy; the place is put
//! before it by the caller.

use std::path::PathBuf;

use crate::config::access::Account;
use crate::config::port_config::{
    Guard, Kind, MAX_QUEUE_PAIRS, MacChanges, MacChoice, ReservedGroups,
};
use crate::config::raw_options::RawOptions;
use crate::config::setting::Setting;
use crate::config::{access, size};
use crate::net::mac::Mac;
use crate::net::mode::Mode;
use crate::suggest::{FOREIGN_VALUES, plain, question};

/// A Unix socket address holds 108 bytes, the last of which is the terminating zero.
const MAX_SOCKET_PATH: usize = 107;
/// IFNAMSIZ without the terminating zero.
const MAX_DEVICE_NAME: usize = 15;
/// ALTIFNAMSIZ without the terminating zero.
const MAX_ALTERNATIVE_NAME: usize = 127;

/// Least guest memory that can be a limit, in bytes.
const LEAST_MEMORY: u64 = 1 << 20;

/// What one place says about a port, parsed; or several, one over the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    pub socket: Setting<PathBuf>,
    pub parent: Setting<String>,
    pub kind: Setting<Kind>,
    pub mode: Setting<Mode>,
    pub mac: Setting<MacChoice>,
    pub mtu: Setting<u32>,
    pub queue_pairs: Setting<u16>,
    pub memory_limit: Setting<u64>,
    pub sources: Setting<Vec<Mac>>,
    pub name: Setting<String>,
    pub mac_changes: Setting<MacChanges>,
    pub compat: Setting<bool>,
    pub nodst: Setting<bool>,
    pub reserved_groups: Setting<ReservedGroups>,
    pub guard: Setting<Guard>,
    pub client: Setting<bool>,
    pub socket_owner: Setting<Account>,
    pub socket_group: Setting<Account>,
    pub socket_mode: Setting<u32>,
}

impl Layer {
    /// Parses every word of a place and reports every faulty one.
    pub fn parse(words: &RawOptions, faults: &mut Vec<String>) -> Layer {
        let mut read = Reader { words, faults };
        Layer {
            socket: read.key("socket", socket),
            parent: read.key("parent", parent),
            kind: read.key("type", kind),
            mode: read.key("mode", mode),
            mac: read.key("mac", mac),
            mtu: read.key("mtu", mtu),
            queue_pairs: read.key("queue-pairs", queue_pairs),
            memory_limit: read.key("memory-limit", memory_limit),
            sources: read.key("source", sources),
            name: read.key("name", name),
            mac_changes: read.key("mac-changes", mac_changes),
            compat: read.key("compat", on_off),
            nodst: read.key("nodst", on_off),
            reserved_groups: read.key("reserved-groups", reserved_groups),
            guard: read.key("guard", guard),
            client: read.key("client", on_off),
            socket_owner: read.key("socket-owner", access::owner),
            socket_group: read.key("socket-group", access::group),
            socket_mode: read.key("socket-mode", access::mode),
        }
    }

    /// This layer's values, and the lower one's where this one gives none. Sockets are never
    /// inherited: a socket belongs to one port.
    pub fn over(self, lower: &Layer) -> Layer {
        let lower = lower.clone();
        Layer {
            socket: self.socket,
            parent: self.parent.or(lower.parent),
            kind: self.kind.or(lower.kind),
            mode: self.mode.or(lower.mode),
            mac: self.mac.or(lower.mac),
            mtu: self.mtu.or(lower.mtu),
            queue_pairs: self.queue_pairs.or(lower.queue_pairs),
            memory_limit: self.memory_limit.or(lower.memory_limit),
            sources: self.sources.or(lower.sources),
            name: self.name.or(lower.name),
            mac_changes: self.mac_changes.or(lower.mac_changes),
            compat: self.compat.or(lower.compat),
            nodst: self.nodst.or(lower.nodst),
            reserved_groups: self.reserved_groups.or(lower.reserved_groups),
            guard: self.guard.or(lower.guard),
            client: self.client.or(lower.client),
            socket_owner: self.socket_owner.or(lower.socket_owner),
            socket_group: self.socket_group.or(lower.socket_group),
            socket_mode: self.socket_mode.or(lower.socket_mode),
        }
    }
}

struct Reader<'a> {
    words: &'a RawOptions,
    faults: &'a mut Vec<String>,
}

impl Reader<'_> {
    fn key<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Setting<T> {
        let Some(text) = self.words.text(key) else {
            return if self.words.is_spoilt(key) { Setting::Bad } else { Setting::Absent };
        };
        match parse(text) {
            Ok(value) => Setting::Is(value),
            Err(reason) => {
                self.faults.push(format!("{}: {reason}", self.words.spot(key, text)));
                Setting::Bad
            }
        }
    }
}

fn socket(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("empty; give the path of the vhost-user socket".to_owned());
    }
    if text.contains('\0') {
        return Err("holds a zero byte, which no path can; remove it".to_owned());
    }
    if text.len() > MAX_SOCKET_PATH {
        let length = text.len();
        return Err(format!(
            "{length} bytes, a Unix socket's path holds {MAX_SOCKET_PATH}; use a shorter one"
        ));
    }
    Ok(PathBuf::from(text))
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
fn parent(text: &str) -> Result<String, String> {
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
    Err(format!("{reason}; `ip link` lists the devices"))
}

fn name(text: &str) -> Result<String, String> {
    let remedy = "give 1 to 15 bytes without '/', ':', '%' or blanks, or leave it out";
    device_name(text).map_err(|reason| format!("{reason}; {remedy}"))?;
    if text.contains('%') {
        // The kernel would take the name as a pattern and number the devices itself.
        return Err(format!("'%' cannot be in a device name; {remedy}"));
    }
    Ok(text.to_owned())
}

fn kind(text: &str) -> Result<Kind, String> {
    match plain(text).as_str() {
        "macvtap" => Ok(Kind::Macvtap),
        // What it is: a switch of our own.
        "macvlan" | "switch" => Ok(Kind::Macvlan),
        _ => {
            let question = question(text, &["macvtap", "macvlan", "switch"], FOREIGN_VALUES);
            Err(format!("'{text}' is not a type: macvtap or macvlan (also: switch){question}"))
        }
    }
}

fn mode(text: &str) -> Result<Mode, String> {
    // QEMU's, VFIO's and libvirt's spelling.
    let word = match plain(text) {
        word if word == "passthrough" => Mode::Passthru.name().to_owned(),
        word => word,
    };
    word.parse().map_err(|_| {
        let question = question(text, &Mode::ALL.map(Mode::name), FOREIGN_VALUES);
        format!("'{text}' is not a mode: bridge, vepa, private, passthru or source{question}")
    })
}

fn station(text: &str) -> Result<Mac, String> {
    let mac: Mac = text.parse()?;
    if mac.is_zero() {
        return Err("the zero address is not a station's; give another one".to_owned());
    }
    if mac.is_group() {
        return Err("a multicast address; clear bit 0 of the first byte".to_owned());
    }
    Ok(mac)
}

fn mac(text: &str) -> Result<MacChoice, String> {
    match plain(text).as_str() {
        "auto" => Ok(MacChoice::Auto),
        _ => station(text)
            .map(MacChoice::Given)
            .map_err(|reason| format!("{reason}{}", question(text, &["auto"], &[]))),
    }
}

fn sources(text: &str) -> Result<Vec<Mac>, String> {
    let mut sources = Vec::new();
    for part in text.split('+') {
        let mac = station(part).map_err(|reason| match part == text {
            true => reason,
            false => format!("{part}: {reason}"),
        })?;
        // Naming one twice is harmless.
        if !sources.contains(&mac) {
            sources.push(mac);
        }
    }
    Ok(sources)
}

fn mtu(text: &str) -> Result<u32, String> {
    let remedy = "leave it out to use the parent's";
    match text.parse::<i64>() {
        Ok(68..=65535) => text.parse().map_err(|_| remedy.to_owned()),
        Ok(..68) => Err(format!("below 68; {remedy}")),
        Ok(_) => Err(format!("above 65535; {remedy}")),
        Err(_) => Err(format!("not a number of bytes (68 to 65535); {remedy}")),
    }
}

fn queue_pairs(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(pairs) if (1..=MAX_QUEUE_PAIRS).contains(&pairs) => Ok(pairs),
        _ => Err(format!("queue pairs are a number from 1 to {MAX_QUEUE_PAIRS}")),
    }
}

fn memory_limit(text: &str) -> Result<u64, String> {
    match size::parse(text) {
        Some(bytes @ LEAST_MEMORY..) => Ok(bytes),
        Some(_) => {
            Err(format!("below {}, the least that a guest can use", size::text(LEAST_MEMORY)))
        }
        None => Err("not a size; write bytes, or a number with K, M, G or T, as 64G".to_owned()),
    }
}

fn mac_changes(text: &str) -> Result<MacChanges, String> {
    match plain(text).as_str() {
        "allow" => Ok(MacChanges::Allow),
        "deny" => Ok(MacChanges::Deny),
        _ => {
            let question = question(text, &["allow", "deny"], FOREIGN_VALUES);
            Err(format!("'{text}' is neither allow nor deny{question}"))
        }
    }
}

fn reserved_groups(text: &str) -> Result<ReservedGroups, String> {
    match plain(text).as_str() {
        "deliver" => Ok(ReservedGroups::Deliver),
        "drop" => Ok(ReservedGroups::Drop),
        _ => {
            let question = question(text, &["deliver", "drop"], &[]);
            Err(format!("'{text}' is neither deliver nor drop{question}"))
        }
    }
}

fn guard(text: &str) -> Result<Guard, String> {
    if text == "off" {
        return Ok(Guard::Off);
    }
    match text.split('+').find(|part| *part != "stp") {
        None => Ok(Guard::Stp),
        Some(part @ ("dhcp" | "ra")) => Err(format!("'{part}' is not built yet; give stp or off")),
        Some("off") => Err("off stands alone; give stp or off".to_owned()),
        Some(part) => Err(format!("'{part}' is not a guard: stp or off")),
    }
}

fn on_off(text: &str) -> Result<bool, String> {
    match plain(text).as_str() {
        "on" | "true" | "yes" => Ok(true),
        "off" | "false" | "no" => Ok(false),
        _ => Err(format!("'{text}' is neither on nor off")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_may_be_spelled_in_several_ways() {
        assert_eq!(mode("Bridge").unwrap(), Mode::Bridge);
        assert_eq!(mode("PassThrough").unwrap(), Mode::Passthru);
        let fault = mode("brigde").unwrap_err();
        assert!(fault.ends_with("passthru or source; did you mean bridge?"), "{fault}");
    }
}
