//! Ports checked against their siblings in this process.
//!
//! Two ports cannot have one socket, one name, or one address on one parent, and a passthru port wants
//! its parent alone. Each problem names both ports. Other processes are not looked at: `--check` must
//! give the same answer everywhere.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::config::port_config::MacChoice;
use crate::config::port_draft::PortDraft;
use crate::config::raw_options::RawOptions;
use crate::error::{ErrorCode, Problem};
use crate::net::mode::Mode;

/// Checks the ports against each other, as far as each is known: a port without a parent may still
/// have its sibling's socket.
pub fn check(ports: &[PortDraft], problems: &mut Vec<Problem>) {
    let mut sockets: HashMap<PathBuf, &RawOptions> = HashMap::new();
    let mut names: HashMap<String, &RawOptions> = HashMap::new();
    let mut macs = HashMap::new();
    for port in ports {
        let PortDraft { raw, settings } = port;
        if let Some(path) = settings.socket.get() {
            let whole = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            if let Some(first) = sockets.get(&whole) {
                let reason = format!("both have the socket path {}", path.display());
                problems.push(both("socket", first, raw, &reason, "give each its own"));
                // Their derived names are then the same too: one mistake, one message.
                continue;
            }
            sockets.insert(whole, raw);
        }
        if let Some(name) = port.name()
            && let Some(first) = names.insert(name.clone(), raw)
        {
            let reason = format!("both have the name {name}");
            problems.push(both("name", first, raw, &reason, "give each its own (name=NAME)"));
        }
        if let (Some(MacChoice::Given(mac)), Some(parent)) =
            (settings.mac.get(), settings.parent.get())
            && let Some(first) = macs.insert((mac, parent), raw)
        {
            let reason = format!("both have mac={mac} on parent {parent}");
            problems.push(both("mac", first, raw, &reason, "give each its own"));
        }
    }
    check_passthru(ports, problems);
}

/// A passthru port takes its parent for itself.
fn check_passthru(ports: &[PortDraft], problems: &mut Vec<Problem>) {
    fn parent(port: &PortDraft) -> Option<&str> {
        port.settings.parent.get().map(String::as_str)
    }
    let mut owners: HashMap<&str, &RawOptions> = HashMap::new();
    for port in ports.iter().filter(|port| port.mode() == Some(Mode::Passthru)) {
        if let Some(parent) = parent(port) {
            owners.entry(parent).or_insert(&port.raw);
        }
    }
    for (port, parent) in ports.iter().filter_map(|port| Some((port, parent(port)?))) {
        if let Some(owner) = owners.get(parent)
            && !std::ptr::eq(*owner, &port.raw)
        {
            let reason =
                format!("share parent {parent}, but mode=passthru of the first needs it alone");
            let remedy = "use another parent or mode=bridge";
            problems.push(both("parent", owner, &port.raw, &reason, remedy));
        }
    }
}

fn both(
    key: &'static str,
    first: &RawOptions,
    second: &RawOptions,
    reason: &str,
    remedy: &str,
) -> Problem {
    let object = format!("{} and {}", first.label(), second.label());
    Problem { option: Some(key), ..Problem::new(ErrorCode::Duplicate, object, reason, remedy) }
}
