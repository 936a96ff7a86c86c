//! The worlds: sets of ports on one parent.
//!
//! Written as the unit tests of the switch write them: `bridge`, `-bridge` (down), `source:ext`,
//! `source:ext+sib!` (nodst), `bridge@1400` (an MTU of its own). Every mode alone and every mixture
//! that the kernel's code treats in a way of its own.

use std::sync::Arc;

use testkit::switch_model as model;
use vhost_user_macvtap::net::mac::Mac;
use vhost_user_macvtap::net::mode::Mode;
use vhost_user_macvtap::switch::{Groups, ParentFacts, Rules, Table};

pub const PORTS: [Mac; 3] = [port(0xa), port(0xb), port(0xc)];
pub const PARENT: Mac = port(0xf0);
/// The machine on the LAN that source ports list, and one that they do not.
pub const EXT: Mac = port(0xe1);
pub const EXT2: Mac = port(0xe2);
/// A sender that never sends: a source port has to list at least one.
const NOBODY: Mac = port(0xe3);
/// No station has this address.
pub const UNKNOWN: Mac = port(0xdd);
/// 239.1.2.3, and the solicited-node group of an address that ends in 12:3456: joined.
pub const JOINED: [Mac; 2] =
    [Mac([0x01, 0x00, 0x5e, 0x01, 0x02, 0x03]), Mac([0x33, 0x33, 0xff, 0x12, 0x34, 0x56])];

const fn port(last: u8) -> Mac {
    Mac([0x52, 0x54, 0, 0x77, 0, last])
}

/// One port.
#[derive(Clone, Debug)]
pub struct Port {
    pub mode: Mode,
    pub mac: Mac,
    pub up: bool,
    pub sources: Vec<Mac>,
    pub nodst: bool,
    pub mtu: u32,
    /// Whether it has joined [`JOINED`].
    pub joined: bool,
}

/// A parent and its ports.
#[derive(Clone, Debug)]
pub struct World {
    pub name: &'static str,
    pub ports: Vec<Port>,
    /// Whether the cable is plugged when the stimuli come.
    pub cable: bool,
    /// Whether the ports behave as the kernel's, or better.
    pub compat: bool,
}

impl World {
    pub fn all() -> Vec<World> {
        let plugged = [
            "private private",
            "vepa vepa",
            "bridge bridge",
            "passthru",
            "source:ext source:nobody",
            "source:ext! bridge",
            "bridge bridge bridge",
            "vepa bridge private",
            "bridge vepa private",
            "private vepa bridge",
            "vepa vepa bridge",
            "bridge bridge source:ext",
            "bridge bridge source:a",
            "bridge bridge source:a!",
            "private source:a+ext source:a",
            "vepa source:a! bridge",
            "source:ext source:ext! vepa",
            "bridge -bridge bridge",
            "private -private",
            "-vepa vepa",
            "-passthru",
            "-source:ext! bridge",
            "-source:ext bridge",
            "bridge bridge@1400 vepa@1400",
        ];
        let unplugged = ["bridge bridge", "vepa private", "passthru", "source:ext"];
        let plugged = plugged.into_iter().map(|name| World::of(name, true));
        plugged.chain(unplugged.into_iter().map(|name| World::of(name, false))).collect()
    }

    fn of(name: &'static str, cable: bool) -> World {
        let ports = name.split(' ').enumerate().map(|(id, word)| Port::of(id, word)).collect();
        World { name, ports, cable, compat: true }
    }

    /// The same with ports that are not compat.
    pub fn improved(self) -> World {
        World { compat: false, ..self }
    }

    /// The numbers of the ports that are up.
    pub fn up(&self) -> impl Iterator<Item = usize> + use<'_> {
        (0..self.ports.len()).filter(|&id| self.ports[id].up)
    }

    /// The switch's table.
    pub fn table(&self) -> Table {
        let rules = self.ports.iter().map(|port| {
            let groups = Groups::only();
            JOINED.iter().filter(|_| port.joined).for_each(|&group| groups.join(group));
            Rules {
                mode: port.mode,
                mac: port.mac,
                up: port.up,
                compat: self.compat,
                sources: port.sources.clone(),
                nodst: port.nodst,
                reserved: true,
                mtu: port.mtu,
                groups: Arc::new(groups),
            }
        });
        Table::new(rules.collect(), ParentFacts { mac: PARENT, up: self.cable, mtu: 1500 })
    }

    /// The model's ports; every one of them has joined `also`.
    pub fn model(&self, also: Option<Mac>) -> Vec<model::Port> {
        let joined = |port: &Port| {
            let own = JOINED.into_iter().filter(|_| port.joined);
            own.chain(also).map(|mac| mac.0).collect()
        };
        let port = |port: &Port| model::Port {
            mode: port.mode.name(),
            mac: port.mac.0,
            up: port.up,
            compat: self.compat,
            sources: port.sources.iter().map(|mac| mac.0).collect(),
            nodst: port.nodst,
            reserved: true,
            mtu: port.mtu as usize,
            joined: joined(port),
        };
        self.ports.iter().map(port).collect()
    }
}

impl Port {
    fn of(id: usize, word: &str) -> Port {
        let (up, word) = match word.strip_prefix('-') {
            Some(word) => (false, word),
            None => (true, word),
        };
        let (word, mtu) = word.split_once('@').unwrap_or((word, "1500"));
        let (mode, sources) = word.split_once(':').unwrap_or((word, ""));
        let (sources, nodst) = match sources.strip_suffix('!') {
            Some(sources) => (sources, true),
            None => (sources, false),
        };
        let source = |name: &str| match name {
            "ext" => EXT,
            "a" => PORTS[0],
            "nobody" => NOBODY,
            _ => panic!("no sender {name}"),
        };
        let mode: Mode = mode.parse().unwrap();
        Port {
            mode,
            mac: if mode == Mode::Passthru { PARENT } else { PORTS[id] },
            up,
            sources: sources.split('+').filter(|name| !name.is_empty()).map(source).collect(),
            nodst,
            mtu: mtu.parse().unwrap(),
            joined: id != 1,
        }
    }
}
