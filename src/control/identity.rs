//! Ports whose parents have different names and are one device, judged before anything is made.
//!
//! `config/siblings.rs` compares the ports by their given names without the host: two ports of
//! `parent=lan0` may not both be in passthru mode or have one address. The same holds when one of
//! them gives the parent's alternative name, which only the kernel knows. So we ask the kernel once
//! for each name, by `--check` and at the start alike, and both give the same answer on the same
//! host.
//!
//! What can go wrong: a parent does not exist (yet), or the host cannot be asked, as in a build
//! root. Such a name stands for itself; a missing parent is reported when its port is opened.

use std::collections::HashMap;

use crate::config::{Config, PortConfig};
use crate::control::claims::{Claims, Clash, PortClaim};
use crate::error::{Error, Problem, Result};
use crate::host::local::LocalHost;
use crate::host::verbs::Host;

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

/// The clashes among ports whose parents have different names and the same index, each port judged
/// beside those before it. All other clashes were reported with the places of the input that cause
/// them. Pure.
fn clashes(ports: &[PortConfig], index: impl Fn(&str) -> Option<u32>) -> Vec<Problem> {
    let (mut problems, mut claims) = (Vec::new(), Claims::default());
    for port in ports {
        let wanted = PortClaim::of(port, index(&port.parent));
        let found = claims.judge(&wanted);
        problems.extend(found.iter().filter(|clash| clash.is_by_alias()).map(Clash::problem));
        claims.hold(wanted);
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MacChoice;
    use crate::net::mode::Mode;

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
