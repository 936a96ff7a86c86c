//! A network device, as the kernel describes it.
//!
//! The same description comes in two ways: as the answer to a question (`netlink.rs`) and as news
//! (`watch.rs`). Both go through [`LinkInfo::parse`], so that both mean the same.
//!
//! Two traps: IFLA_LINK is the parent of a macvlan or VLAN device, but the *peer* of a veth; and if
//! IFLA_LINK_NETNSID accompanies it, the index is one of another network namespace and must not be
//! looked up in ours. The flags hold the requested state (IFF_UP) and the actual one (IFF_LOWER_UP,
//! the carrier) in the same word.

use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoMacVlan, InfoMacVtap, LinkAttribute, LinkFlags, LinkInfo as Info,
    LinkMessage, MacVlanMode, Prop,
};

use crate::net::mac::Mac;
use crate::net::mode::Mode;

/// ARPHRD_ETHER: the hardware type of Ethernet.
pub(crate) const ETHERNET: u16 = 1;

/// One network device of the namespace that was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkInfo {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// Alternative names (IFLA_ALT_IFNAME), up to 127 bytes each.
    pub alt_names: Vec<String>,
    /// Hardware address; zero for a device that has none of six bytes.
    pub mac: Mac,
    /// MTU in bytes.
    pub mtu: u32,
    /// Length of the transmit queue, in frames. A macvtap's is that of its receive ring.
    pub queue_len: u32,
    /// Administratively up.
    pub up: bool,
    /// Up and with carrier.
    pub running: bool,
    /// IFF_* flags.
    pub flags: LinkFlags,
    /// ARPHRD_* hardware type: 1 is Ethernet, 772 loopback.
    pub hardware: u16,
    /// IFLA_LINK: the parent's index (for a veth, the peer's).
    pub parent: Option<u32>,
    /// IFLA_LINK_NETNSID: present when `parent` is an index of another network namespace.
    pub parent_netns: Option<i32>,
    /// Index of the bridge, bond or the like that this device is a port of.
    pub master: Option<u32>,
    /// Kind of virtual device, as `ip link add type` names it; absent for hardware.
    pub kind: Option<String>,
    /// Mode, for a macvlan or macvtap.
    pub mode: Option<Mode>,
    /// Source addresses, for a macvlan or macvtap in source mode.
    pub sources: Vec<Mac>,
    /// IFLA_GROUP: 0 unless a user grouped it.
    pub group: u32,
    /// Alias (IFLA_IFALIAS): free text.
    pub alias: Option<String>,
}

impl LinkInfo {
    /// The description in a netlink message. Attributes that are absent leave their default.
    pub(crate) fn parse(message: &LinkMessage) -> LinkInfo {
        let flags = message.header.flags;
        let mut link = LinkInfo {
            index: message.header.index,
            up: flags.contains(LinkFlags::Up),
            running: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
            flags,
            hardware: message.header.link_layer_type.into(),
            ..LinkInfo::default()
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(bytes) => {
                    link.mac = bytes.as_slice().try_into().map(Mac).unwrap_or_default();
                }
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::TxQueueLen(frames) => link.queue_len = *frames,
                LinkAttribute::PropList(list) => {
                    link.alt_names.extend(list.iter().filter_map(|property| match property {
                        Prop::AltIfName(name) => Some(name.clone()),
                        _ => None,
                    }));
                }
                LinkAttribute::Link(index) => link.parent = Some(*index),
                LinkAttribute::LinkNetNsId(id) => link.parent_netns = Some(*id),
                LinkAttribute::Controller(index) => link.master = Some(*index),
                LinkAttribute::Group(group) => link.group = *group,
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
                LinkAttribute::LinkInfo(infos) => link.parse_infos(infos),
                _ => {}
            }
        }
        link
    }

    fn parse_infos(&mut self, infos: &[Info]) {
        for info in infos {
            match info {
                Info::Kind(kind) => self.kind = Some(kind.to_string()),
                Info::Data(InfoData::MacVlan(data)) => {
                    for item in data {
                        match item {
                            InfoMacVlan::Mode(mode) => self.mode = to_mode(*mode),
                            InfoMacVlan::MacAddrData(list) => {
                                self.sources = list
                                    .iter()
                                    .filter_map(|entry| match entry {
                                        InfoMacVlan::MacAddr(mac) => Some(Mac(*mac)),
                                        _ => None,
                                    })
                                    .collect();
                            }
                            _ => {}
                        }
                    }
                }
                Info::Data(InfoData::MacVtap(data)) => {
                    for item in data {
                        match item {
                            InfoMacVtap::Mode(mode) => self.mode = to_mode(*mode),
                            InfoMacVtap::MacAddrData(list) => {
                                self.sources = list
                                    .iter()
                                    .filter_map(|entry| match entry {
                                        InfoMacVtap::MacAddr(mac) => Some(Mac(*mac)),
                                        _ => None,
                                    })
                                    .collect();
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether this is one of the device's names.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.alt_names.iter().any(|other| other == name)
    }

    /// The device in the words of a message: the kernel's name for it, and the name that the user
    /// gave.
    pub fn known_as(&self, given: &str) -> String {
        if self.name == given {
            return self.name.clone();
        }
        format!("{} (given as {given})", self.name)
    }

    /// True for a macvlan or a macvtap: a port of some parent.
    pub fn is_port(&self) -> bool {
        matches!(self.kind.as_deref(), Some("macvlan" | "macvtap"))
    }

    /// True for a macvtap.
    pub fn is_macvtap(&self) -> bool {
        self.kind.as_deref() == Some("macvtap")
    }

    /// The device's kind, in words for a message: "a macvtap in bridge mode", "a veth device".
    pub fn describe(&self) -> String {
        match (&self.kind, self.mode) {
            (Some(kind), Some(mode)) => format!("a {kind} in {mode} mode"),
            (Some(kind), None) => format!("a {kind} device"),
            (None, _) => "a hardware device".to_string(),
        }
    }
}

/// The crate's mode, or none for one that a later kernel may add.
fn to_mode(mode: MacVlanMode) -> Option<Mode> {
    Some(match mode {
        MacVlanMode::Bridge => Mode::Bridge,
        MacVlanMode::Vepa => Mode::Vepa,
        MacVlanMode::Private => Mode::Private,
        MacVlanMode::Passthrough => Mode::Passthru,
        MacVlanMode::Source => Mode::Source,
        _ => return None,
    })
}

/// The netlink name of a mode.
pub(crate) fn from_mode(mode: Mode) -> MacVlanMode {
    match mode {
        Mode::Bridge => MacVlanMode::Bridge,
        Mode::Vepa => MacVlanMode::Vepa,
        Mode::Private => MacVlanMode::Private,
        Mode::Passthru => MacVlanMode::Passthrough,
        Mode::Source => MacVlanMode::Source,
    }
}

/// The two kinds whose devices are ports of a parent.
pub(crate) const PORT_KINDS: [InfoKind; 2] = [InfoKind::MacVlan, InfoKind::MacVtap];
