//! The claims of this process's ports, and the check whether a wanted port can have its part beside
//! them.
//!
//! A name, a socket path, and on one parent an address belong to one port; a passthru port has its
//! parent to itself. [`Claims::judge`] compares one wanted port with those that hold something
//! already, and returns every clash; [`Claims::hold`] adds a port. A start does both for each port
//! in turn; a port that is added to a running process is judged by the same rules. Pure: no call
//! goes to the host.
//!
//! What can go wrong: two names may stand for one device, which only the kernel knows. The caller
//! gives the parent's interface index with the claim. Without one a parent is known by its name.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::config::{FrontendSocket, MacChoice, PortConfig};
use crate::error::{ErrorCode, Problem};
use crate::net::mac::Mac;
use crate::net::mode::Mode;

/// The claim of one port, held or wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortClaim {
    name: String,
    /// The absolute path of its socket, where it has one.
    socket: Option<PathBuf>,
    parent: String,
    device: ParentDevice,
    mode: Mode,
    /// The address that the user chose.
    mac: Option<Mac>,
}

/// A parent: by its index, or by its name while that stands for no device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum ParentDevice {
    Index(u32),
    Name(String),
}

impl PortClaim {
    /// The claim of this port; `index` is its parent's interface index, if the parent exists.
    pub fn of(port: &PortConfig, index: Option<u32>) -> PortClaim {
        let socket = match &port.socket {
            FrontendSocket::Listen(path) | FrontendSocket::Connect(path) => {
                Some(std::path::absolute(path).unwrap_or_else(|_| path.clone()))
            }
            FrontendSocket::Fd(_) => None,
        };
        PortClaim {
            name: port.name.clone(),
            socket,
            parent: port.parent.clone(),
            device: index
                .map_or_else(|| ParentDevice::Name(port.parent.clone()), ParentDevice::Index),
            mode: port.mode,
            mac: match port.mac {
                MacChoice::Given(mac) => Some(mac),
                MacChoice::Auto => None,
            },
        }
    }
}

/// A thing that two ports cannot both have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contested {
    Name,
    Socket,
    /// The parent, which the first port needs alone.
    Parent,
    Mac(Mac),
}

/// Two ports that cannot be beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clash<'a> {
    contested: Contested,
    first: &'a PortClaim,
    second: &'a PortClaim,
}

impl Clash<'_> {
    /// True where the clash shows only because two names stand for one parent.
    pub fn is_by_alias(&self) -> bool {
        let shared = matches!(self.contested, Contested::Parent | Contested::Mac(_));
        shared && self.first.parent != self.second.parent
    }

    /// The clash in words.
    pub fn problem(&self) -> Problem {
        let Clash { contested, first, second } = self;
        let ports = format!("ports {} and {}", first.name, second.name);
        let refuse = |object: String, reason: String, remedy: &str| {
            Problem::new(ErrorCode::Duplicate, object, reason, remedy)
        };
        let one = format!("parents {} and {} are one device", first.parent, second.parent);
        match contested {
            Contested::Name => refuse(
                format!("port {}", second.name),
                "another port has this name".to_owned(),
                "give each its own (name=NAME)",
            ),
            Contested::Socket => {
                let path = first.socket.as_deref().unwrap_or_else(|| "".as_ref());
                let reason = format!("both have the socket path {}", path.display());
                refuse(ports, reason, "give each its own")
            }
            Contested::Parent => {
                let shared = match self.is_by_alias() {
                    true => one,
                    false => format!("share parent {}", first.parent),
                };
                let reason = format!("{shared}, but mode=passthru of the first needs it alone");
                refuse(ports, reason, "use another parent or mode=bridge")
            }
            Contested::Mac(mac) => {
                let reason = match self.is_by_alias() {
                    true => format!("{one}, and both have mac={mac}"),
                    false => format!("both have mac={mac} on parent {}", first.parent),
                };
                refuse(ports, reason, "give each its own")
            }
        }
    }
}

/// The ports' claims. If two hold the same, which only a caller that ignores clashes brings about,
/// the first one counts.
#[derive(Debug, Default)]
pub struct Claims {
    held: Vec<PortClaim>,
    names: HashMap<String, usize>,
    sockets: HashMap<PathBuf, usize>,
    parents: HashMap<ParentDevice, Vec<usize>>,
    /// Passthru ports, by parent.
    owners: HashMap<ParentDevice, usize>,
    macs: HashMap<(ParentDevice, Mac), usize>,
}

impl Claims {
    /// All reasons why this port cannot be beside the others.
    pub fn judge<'a>(&'a self, wanted: &'a PortClaim) -> Vec<Clash<'a>> {
        let held = |index: &usize| &self.held[*index];
        let second = wanted;
        let with = |contested| move |first| Clash { contested, first, second };
        let mut clashes = Vec::new();
        clashes.extend(self.names.get(&wanted.name).map(held).map(with(Contested::Name)));
        let socket = wanted.socket.as_ref().and_then(|path| self.sockets.get(path));
        clashes.extend(socket.map(held).map(with(Contested::Socket)));
        match self.owners.get(&wanted.device) {
            Some(owner) => clashes.push(with(Contested::Parent)(held(owner))),
            None if wanted.mode == Mode::Passthru => {
                let others = self.parents.get(&wanted.device).into_iter().flatten();
                clashes.extend(others.map(held).map(|other| Clash {
                    contested: Contested::Parent,
                    first: wanted,
                    second: other,
                }));
            }
            None => {}
        }
        if let Some(mac) = wanted.mac {
            let first = self.macs.get(&(wanted.device.clone(), mac)).map(held);
            clashes.extend(first.map(with(Contested::Mac(mac))));
        }
        clashes
    }

    /// The port holds its claim from now on.
    pub fn hold(&mut self, claim: PortClaim) {
        let index = self.held.len();
        self.names.entry(claim.name.clone()).or_insert(index);
        if let Some(path) = &claim.socket {
            self.sockets.entry(path.clone()).or_insert(index);
        }
        self.parents.entry(claim.device.clone()).or_default().push(index);
        if claim.mode == Mode::Passthru {
            self.owners.entry(claim.device.clone()).or_insert(index);
        }
        if let Some(mac) = claim.mac {
            self.macs.entry((claim.device.clone(), mac)).or_insert(index);
        }
        self.held.push(claim);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    /// A port with a socket of its own.
    fn port(name: &str, parent: &str, mode: Mode) -> PortConfig {
        let socket = FrontendSocket::Listen(format!("/run/{name}.sock").into());
        let (name, parent) = (name.to_owned(), parent.to_owned());
        PortConfig { name, socket, parent, mode, ..PortConfig::sample() }
    }

    fn index(port: &PortConfig) -> Option<u32> {
        match port.parent.as_str() {
            "lan0" | "wired" => Some(3),
            "eth1" => Some(4),
            _ => None,
        }
    }

    /// The clashes of the last port with the others.
    fn judged(ports: &[PortConfig]) -> Vec<String> {
        let mut claims = Claims::default();
        let (wanted, others) = ports.split_last().unwrap();
        for port in others {
            claims.hold(PortClaim::of(port, index(port)));
        }
        let wanted = PortClaim::of(wanted, index(wanted));
        claims.judge(&wanted).iter().map(|clash| clash.problem().to_string()).collect()
    }

    #[test]
    fn ports_that_share_nothing_may_be_beside_each_other() {
        let ports = [
            port("a", "lan0", Mode::Bridge),
            port("b", "eth1", Mode::Passthru),
            port("c", "absent", Mode::Passthru),
            port("d", "wired", Mode::Vepa),
        ];
        assert_eq!(judged(&ports), [""; 0]);
    }

    #[test]
    fn a_name_and_a_socket_belong_to_one_port() {
        let first = port("a", "lan0", Mode::Bridge);
        let named =
            PortConfig { socket: FrontendSocket::Fd(7), parent: "eth1".into(), ..first.clone() };
        let name = "port a: another port has this name; give each its own (name=NAME)";
        assert_eq!(judged(&[first.clone(), named]), [name]);
        let second = PortConfig { name: "b".into(), ..first.clone() };
        let socket = "ports a and b: both have the socket path /run/a.sock; give each its own";
        assert_eq!(judged(&[first, second]), [socket]);
    }

    #[test]
    fn a_passthru_port_has_its_parent_to_itself() {
        let bridge = |name| port(name, "lan0", Mode::Bridge);
        let passthru = |name, parent| port(name, parent, Mode::Passthru);
        let alone = "needs it alone; use another parent or mode=bridge";
        let own =
            format!("ports p and b: share parent lan0, but mode=passthru of the first {alone}");
        assert_eq!(judged(&[passthru("p", "lan0"), bridge("b")]), std::slice::from_ref(&own));
        // A wanted passthru port is refused for the sake of each port that is there.
        let other = own.replace("p and b", "p and c");
        assert_eq!(judged(&[bridge("b"), bridge("c"), passthru("p", "lan0")]), [own, other]);
        let alias = format!(
            "ports p and b: parents wired and lan0 are one device, but mode=passthru of the first {alone}"
        );
        assert_eq!(judged(&[bridge("b"), passthru("p", "wired")]), [alias]);
        // Without the device a name stands for itself.
        assert_eq!(judged(&[passthru("p", "absent"), passthru("q", "other")]), [""; 0]);
        assert_eq!(judged(&[passthru("p", "absent"), passthru("q", "absent")]).len(), 1);
    }

    #[test]
    fn an_address_belongs_to_one_port_of_a_parent() {
        let with = |name, parent| PortConfig {
            mac: MacChoice::Given(MAC),
            ..port(name, parent, Mode::Bridge)
        };
        let same =
            "ports a and b: both have mac=02:00:00:00:00:01 on parent lan0; give each its own";
        assert_eq!(judged(&[with("a", "lan0"), with("b", "lan0")]), [same]);
        let alias = "ports a and b: parents lan0 and wired are one device, and both have \
                     mac=02:00:00:00:00:01; give each its own";
        assert_eq!(judged(&[with("a", "lan0"), with("b", "wired")]), [alias]);
        assert_eq!(judged(&[with("a", "lan0"), with("b", "eth1")]), [""; 0]);
    }
}
