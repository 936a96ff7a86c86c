//! The stimuli: every kind of frame that the truth tables name, for one world.
//!
//! A frame is Ethernet header, at times VLAN tags, type, and then a 64-bit tag that no other frame
//! of this process has, followed by a pattern. At each receiver, the tag tells copies of one frame
//! from copies of another.

use vhost_user_macvtap::net::mac::Mac;

use crate::topology::Origin;
use crate::world::{EXT, EXT2, JOINED, PARENT, UNKNOWN, World};
use testkit::{frames, rig};

/// The type of most frames: for local experiments, no stack answers it.
pub const TYPE: u16 = 0x88b5;
pub const PAUSE_TYPE: u16 = 0x8808;

const UNJOINED: Mac = Mac([0x01, 0x00, 0x5e, 0x0a, 0x0b, 0x0c]);
const ALL_HOSTS: Mac = Mac([0x01, 0x00, 0x5e, 0, 0, 1]);
const STP: Mac = Mac([0x01, 0x80, 0xc2, 0, 0, 0]);
const PAUSE: Mac = Mac([0x01, 0x80, 0xc2, 0, 0, 1]);
const LLDP: Mac = Mac([0x01, 0x80, 0xc2, 0, 0, 0x0e]);

/// Every kind of tag, and as many as the kernel parses.
const TAGS: [&[u16]; 11] = [
    &[0x8100],
    &[0x88a8],
    &[0x9100],
    &[0x9200],
    &[0x9300],
    &[0x8100, 0x8100],
    &[0x88a8, 0x8100],
    &[0x9100, 0x8100],
    &[0x88a8, 0x88a8, 0x8100],
    &[0x8100; 8],
    &[0x8100; 12],
];

const GROUPS: [Mac; 7] = [Mac::BROADCAST, JOINED[0], JOINED[1], UNJOINED, ALL_HOSTS, STP, LLDP];

/// One frame to be sent.
#[derive(Clone, Debug)]
pub struct Stimulus {
    pub from: Origin,
    pub bytes: Vec<u8>,
}

impl Stimulus {
    pub fn tag(&self) -> u64 {
        tag_of(&self.bytes).expect("its own tag")
    }

    pub fn dst(&self) -> Mac {
        Mac(frames::dst(&self.bytes))
    }

    pub fn src(&self) -> Mac {
        Mac(frames::src(&self.bytes))
    }

    /// The outermost type.
    pub fn ethertype(&self) -> u16 {
        frames::ethertype(&self.bytes)
    }

    /// The VLAN it is tagged with.
    pub fn vlan(&self) -> Option<u16> {
        is_tag(self.ethertype())
            .then(|| u16::from_be_bytes([self.bytes[14], self.bytes[15]]) & 0xfff)
    }
}

/// The tag of one of our frames, with a VLAN tag or without.
pub fn tag_of(frame: &[u8]) -> Option<u64> {
    let mut at = 14;
    let mut ethertype = frames::ethertype(frame);
    while is_tag(ethertype) {
        ethertype = u16::from_be_bytes(frame.get(at + 2..at + 4)?.try_into().ok()?);
        at += 4;
    }
    let tag = frame.get(at..at + 8)?.try_into().ok()?;
    [TYPE, PAUSE_TYPE].contains(&ethertype).then(|| u64::from_be_bytes(tag))
}

fn is_tag(ethertype: u16) -> bool {
    TAGS.iter().flat_map(|tags| tags.iter()).any(|&kind| kind == ethertype)
}

/// A frame that every port can send and that only the wire gets.
pub fn hello(world: &World, port: usize) -> Vec<u8> {
    frames::tagged(UNKNOWN.0, world.ports[port].mac.0, rig::fresh_tag(), 64)
}

/// All stimuli of a world. Without a cable nothing comes from the wire, and all else is as with it.
pub fn of(world: &World) -> Vec<Stimulus> {
    let mut all = Vec::new();
    if world.cable {
        from_wire(world, &mut all);
    }
    for port in world.up() {
        from_port(world, port, &mut all);
    }
    all
}

fn from_wire(world: &World, all: &mut Vec<Stimulus>) {
    let macs: Vec<Mac> = world.ports.iter().map(|port| port.mac).collect();
    let mut stations = [&macs[..], &[PARENT, UNKNOWN]].concat();
    stations.dedup();
    // Strangers, addresses that no station may have, reflected frames of every port (also of one
    // that is down), and the host's own.
    for &src in [EXT, EXT2, Mac::default(), JOINED[0]].iter().chain(&stations) {
        for &dst in stations.iter().chain(&GROUPS).chain(&[Mac::default()]) {
            all.push(frame(Origin::Wire, dst, src, TYPE, 64));
        }
        all.push(frame(Origin::Wire, PAUSE, src, PAUSE_TYPE, 64));
        for (dst, vid) in [(macs[0], 5), (macs[0], 0), (Mac::BROADCAST, 5), (Mac::BROADCAST, 0)] {
            all.push(vlan(frame(Origin::Wire, dst, src, TYPE, 64), vid));
        }
    }
    all.push(frame(Origin::Wire, macs[0], EXT, PAUSE_TYPE, 64));
    for last in 0..=0x0f {
        all.push(frame(Origin::Wire, Mac([0x01, 0x80, 0xc2, 0, 0, last]), EXT, TYPE, 64));
    }
    for tags in TAGS {
        for dst in [macs[0], Mac::BROADCAST] {
            // As long as the parent's own driver takes.
            all.push(tagged(frame(Origin::Wire, dst, EXT, TYPE, 1518 - 4 * tags.len()), tags));
        }
    }
    // On the way in, neither is checked for its length.
    all.push(frame(Origin::Wire, macs[0], EXT, TYPE, 1514));
    all.push(frame(Origin::Wire, Mac::BROADCAST, EXT, TYPE, 1514));
}

fn from_port(world: &World, port: usize, all: &mut Vec<Stimulus>) {
    let macs: Vec<Mac> = world.ports.iter().map(|port| port.mac).collect();
    let from = Origin::Port(port);
    let own = macs[port];
    // Itself, its siblings, the host, the LAN; then under a stranger's, a sibling's and a listed
    // name.
    let stations = [&macs[..], &[PARENT, EXT, UNKNOWN]].concat();
    let sibling = macs[(port + 1) % macs.len()];
    for src in [own, EXT, EXT2, sibling, PARENT] {
        for &dst in stations.iter().chain(&GROUPS) {
            all.push(frame(from, dst, src, TYPE, 64));
        }
    }
    all.push(frame(from, PAUSE, own, PAUSE_TYPE, 64));
    all.push(frame(from, sibling, own, PAUSE_TYPE, 64));
    for (dst, vid) in [(sibling, 5), (sibling, 0), (Mac::BROADCAST, 5), (Mac::BROADCAST, 0)] {
        all.push(vlan(frame(from, dst, own, TYPE, 64), vid));
    }
    for last in 0..=0x0f {
        all.push(frame(from, Mac([0x01, 0x80, 0xc2, 0, 0, last]), own, TYPE, 64));
    }
    for tags in TAGS {
        for dst in [sibling, EXT, Mac::BROADCAST, JOINED[0]] {
            let full = world.ports[port].mtu as usize + 14;
            all.push(tagged(frame(from, dst, own, TYPE, full), tags));
            all.push(tagged(frame(from, dst, own, TYPE, 64), tags));
        }
    }
    // Around the MTU of a sibling that has a smaller one; the sender's own MTU limits nothing.
    let longest = world.ports[port].mtu as usize + 14;
    for len in [1418, 1419, 1514].into_iter().filter(|&len| len <= longest) {
        for dst in [sibling, Mac::BROADCAST, JOINED[0]] {
            all.push(frame(from, dst, own, TYPE, len));
        }
    }
}

fn frame(from: Origin, dst: Mac, src: Mac, ethertype: u16, len: usize) -> Stimulus {
    let mut bytes = frames::tagged(dst.0, src.0, rig::fresh_tag(), len);
    bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
    Stimulus { from, bytes }
}

fn tagged(stimulus: Stimulus, tags: &[u16]) -> Stimulus {
    let (addresses, rest) = stimulus.bytes.split_at(12);
    let tags = (5u16..).zip(tags).flat_map(|(vid, kind)| [*kind, vid]).flat_map(u16::to_be_bytes);
    let bytes = addresses.iter().copied().chain(tags).chain(rest.iter().copied()).collect();
    Stimulus { bytes, ..stimulus }
}

fn vlan(stimulus: Stimulus, vid: u16) -> Stimulus {
    Stimulus { bytes: frames::vlan(&stimulus.bytes, vid), ..stimulus }
}
