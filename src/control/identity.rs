//! Ports whose parents have different names and are one device, judged before anything is made.
//!
//! `config/siblings.rs` compares the ports as they were typed and asks nothing of the host: two ports of
//! `parent=lan0` may not both be in passthru mode or have one address. The same holds when one of them calls
//! the parent by an alternative name, which only the kernel can tell. So the kernel is asked once for each
//! name, by `--check` and at the start alike, and the two give the same answer on the same host.
//!
//! What can go wrong: a parent is not there (yet), or there is no host, as in a build root. Such a name
//! stands for itself; a missing parent is reported when its port is opened.

use std::collections::HashMap;

use crate::config::{Config, MacChoice, PortConfig};
use crate::error::{Error, ErrorCode, Problem, Result};
use crate::host::local::LocalHost;
use crate::host::verbs::Host;
use crate::net::mode::Mode;

/// Refuses ports that cannot share the device which both call their parent by different names.
///
/// # Errors
/// One line for each pair of ports.
pub fn check(config: &Config) -> Result<()> {
    if config.ports.iter().all(|port| port.parent == config.ports[0].parent) {
        return Ok(());
    }
    let Ok(mut host) = LocalHost::open() else { return Ok(()) };
    let mut indices: HashMap<&str, Option<u32>> = HashMap::new();
    for port in &config.ports {
        indices
            .entry(&port.parent)
            .or_insert_with_key(|name| host.parent_device(name).ok().map(|link| link.index));
    }
    Error::of_problems(clashes(&config.ports, |name| indices.get(name).copied().flatten()))
}

/// The clashes among ports whose parents have different names and the same index. Pure.
fn clashes(ports: &[PortConfig], index: impl Fn(&str) -> Option<u32>) -> Vec<Problem> {
    let mut problems = Vec::new();
    // The first port of each parent that is in passthru mode, and the first with each address.
    let mut owners: HashMap<u32, &PortConfig> = HashMap::new();
    let mut addresses: HashMap<_, &PortConfig> = HashMap::new();
    for port in ports.iter().filter(|port| port.mode == Mode::Passthru) {
        if let Some(parent) = index(&port.parent) {
            owners.entry(parent).or_insert(port);
        }
    }
    for port in ports {
        let Some(parent) = index(&port.parent) else { continue };
        let mut refuse = |other: &PortConfig, why: &str, remedy: &str| {
            let ports = format!("ports {} and {}", other.name, port.name);
            let reason = format!("parents {} and {} {why}", other.parent, port.parent);
            problems.push(Problem::new(ErrorCode::Duplicate, ports, reason, remedy));
        };
        if let Some(owner) = owners.get(&parent).filter(|owner| owner.parent != port.parent) {
            let why = "are one device, but mode=passthru of the first needs it alone";
            refuse(owner, why, "use another parent or mode=bridge");
        }
        if let MacChoice::Given(mac) = port.mac {
            let first = addresses.entry((parent, mac)).or_insert(port);
            if first.parent != port.parent {
                let why = format!("are one device, and both have mac={mac}");
                refuse(first, &why, "give each its own");
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, parent: &str, mode: Mode, mac: MacChoice) -> PortConfig {
        let (name, parent) = (name.to_owned(), parent.to_owned());
        PortConfig { name, parent, mode, mac, ..PortConfig::sample() }
    }

    #[test]
    fn only_one_device_under_two_names_is_a_clash() {
        let mac = MacChoice::Given("02:0:0:0:0:1".parse().unwrap());
        let index = |name: &str| match name {
            "lan0" | "wired" => Some(3),
            "eth1" => Some(4),
            _ => None,
        };
        let problems = |ports: [PortConfig; 2]| {
            let problems = clashes(&ports, index);
            problems.iter().map(Problem::to_string).collect::<Vec<String>>()
        };
        for other in ["lan0", "eth1", "absent"] {
            let ports =
                [port("a", "lan0", Mode::Passthru, mac), port("b", other, Mode::Bridge, mac)];
            assert_eq!(problems(ports), [""; 0], "{other}");
        }
        let alone = MacChoice::Auto;
        let ports =
            [port("a", "lan0", Mode::Bridge, alone), port("b", "wired", Mode::Passthru, alone)];
        assert_eq!(
            problems(ports),
            [
                "ports b and a: parents wired and lan0 are one device, but mode=passthru of the first \
              needs it alone; use another parent or mode=bridge"
            ]
        );
        let ports = [port("a", "lan0", Mode::Bridge, mac), port("b", "wired", Mode::Vepa, mac)];
        assert_eq!(
            problems(ports),
            ["ports a and b: parents lan0 and wired are one device, and both have \
              mac=02:00:00:00:00:01; give each its own"]
        );
    }
}
