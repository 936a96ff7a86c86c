//! The switch once more, written to be read: the oracle of its tests.
//!
//! The first half is the kernel's `macvlan_handle_frame` and `macvlan_queue_xmit`
//! (drivers/net/macvlan.c, Linux 6.18) line by line, with vectors for hash tables and loops for
//! everything. It works on ports that are all `compat`. The second half adds what our other ports
//! do differently, as rules that are laid over the kernel's answer. Nothing of the switch's own
//! code or types is used, not even its header: the unit tests of the switch use it, and
//! `tests/oracle/main.rs` holds it against a kernel.
//!
//! Known differences from the kernel: a receiver is named once; groups are compared exactly;
//! fragments are not put together.

/// A port. The mode by its name.
#[derive(Clone, Debug)]
pub struct Port {
    pub mode: &'static str,
    pub mac: [u8; 6],
    pub up: bool,
    pub compat: bool,
    pub sources: Vec<[u8; 6]>,
    pub nodst: bool,
    pub reserved: bool,
    pub mtu: usize,
    pub joined: Vec<[u8; 6]>,
}

/// A frame, as far as forwarding goes. `len` counts from the Ethernet header on.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub dst: [u8; 6],
    pub src: [u8; 6],
    pub ethertype: u16,
    pub len: usize,
    pub gso: bool,
}

/// The receivers. `host` means that the parent's own stack is shown the frame, for any address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub ports: Vec<usize>,
    pub wire: bool,
    pub host: bool,
}

const PAUSE: u16 = 0x8808;

fn is_group(mac: [u8; 6]) -> bool {
    mac[0] % 2 == 1
}

fn is_reserved(mac: [u8; 6]) -> bool {
    mac[..5] == [0x01, 0x80, 0xc2, 0, 0] && mac[5] < 0x10
}

/// `macvlan_hash_lookup`: only ports that are up are in the table.
fn lookup(ports: &[Port], mac: [u8; 6]) -> Option<usize> {
    ports.iter().position(|port| port.up && port.mac == mac)
}

/// The port's `mc_filter`. A port that is not compat is as one with allmulti.
fn filter_has(port: &Port, dst: [u8; 6]) -> bool {
    if !port.compat {
        return true;
    }
    dst == [0xff; 6]
        || dst == [0x01, 0x00, 0x5e, 0, 0, 1]
        || dst == [0x33, 0x33, 0, 0, 0, 1]
        || port.joined.contains(&dst)
}

/// `macvlan_forward_source`: true when one of the ports has NODST.
fn forward_source(ports: &[Port], frame: &Frame, to: &mut Vec<usize>) -> bool {
    let mut consume = false;
    for (id, port) in ports.iter().enumerate() {
        if port.mode == "source" && port.sources.contains(&frame.src) {
            if port.nodst {
                consume = true;
            }
            if port.up {
                to.push(id);
            }
        }
    }
    consume
}

/// `macvlan_broadcast`.
fn broadcast(
    ports: &[Port],
    frame: &Frame,
    except: Option<usize>,
    modes: &[&str],
    to: &mut Vec<usize>,
) {
    if frame.ethertype == PAUSE {
        return;
    }
    for (id, port) in ports.iter().enumerate() {
        if !port.up || Some(id) == except || !modes.contains(&port.mode) {
            continue;
        }
        if filter_has(port, frame.dst) {
            to.push(id);
        }
    }
}

/// `macvlan_handle_frame`.
fn handle(ports: &[Port], frame: &Frame) -> Outcome {
    let mut to = Vec::new();
    if forward_source(ports, frame, &mut to) {
        return Outcome { ports: to, wire: false, host: false };
    }
    if is_group(frame.dst) {
        let src = lookup(ports, frame.src);
        match src.map(|id| ports[id].mode) {
            Some("private" | "passthru" | "source") => {
                to.extend(src);
                return Outcome { ports: to, wire: false, host: false };
            }
            None => {
                broadcast(ports, frame, src, &["private", "vepa", "passthru", "bridge"], &mut to);
            }
            Some("vepa") => broadcast(ports, frame, src, &["vepa", "bridge"], &mut to),
            Some(_) => broadcast(ports, frame, src, &["vepa"], &mut to),
        }
        return Outcome { ports: to, wire: false, host: true };
    }
    let passthru = ports.iter().position(|port| port.mode == "passthru");
    match passthru.or(lookup(ports, frame.dst)) {
        None => Outcome { ports: to, wire: false, host: true },
        Some(id) if ports[id].mode == "source" => Outcome { ports: to, wire: false, host: true },
        Some(id) if !ports[id].up => Outcome { ports: to, wire: false, host: false },
        Some(id) => {
            to.push(id);
            Outcome { ports: to, wire: false, host: false }
        }
    }
}

/// `macvlan_queue_xmit`, with a parent that is up and has this MTU.
fn queue_xmit(ports: &[Port], mtu: usize, from: usize, frame: &Frame) -> Outcome {
    let mut to = Vec::new();
    if ports[from].mode == "bridge" {
        if is_group(frame.dst) {
            broadcast(ports, frame, Some(from), &["bridge"], &mut to);
            // __dev_forward_skb
            to.retain(|&id| {
                let ours = !ports[from].compat || !ports[id].compat;
                ours || frame.gso || frame.len <= ports[id].mtu + 14 + 4
            });
        } else if let Some(to) = lookup(ports, frame.dst).filter(|&id| ports[id].mode == "bridge") {
            // dev_forward_skb(parent): the frame arrives there, if it is not too long.
            let ours = !ports[from].compat || !ports[to].compat;
            if ours || frame.gso || frame.len <= mtu + 14 + 4 {
                return handle(ports, frame);
            }
            return Outcome::default();
        }
    }
    Outcome { ports: to, wire: true, host: false }
}

/// What a port sends. Ours besides the kernel: siblings without a carrier, reserved groups, and a
/// port that is not known to be up.
pub fn from_guest(
    ports: &[Port],
    (parent_up, parent_mtu): (bool, usize),
    from: usize,
    frame: &Frame,
) -> Outcome {
    let sender = &ports[from];
    if sender.compat && !parent_up {
        return Outcome::default();
    }
    let mut outcome = queue_xmit(ports, parent_mtu, from, frame);
    outcome.wire &= parent_up;
    outcome.ports.retain(|&id| {
        let both_compat = sender.compat && ports[id].compat;
        (both_compat && ports[id].reserved) || !is_reserved(frame.dst)
    });
    once(outcome)
}

/// What the parent receives. Ours besides the kernel: own frames, strictly private ports, refused
/// groups.
pub fn from_wire(ports: &[Port], frame: &Frame) -> Outcome {
    let mut outcome = handle(ports, frame);
    outcome.ports.retain(|&id| ports[id].reserved || !is_reserved(frame.dst));
    if let Some(from) = lookup(ports, frame.src) {
        outcome.ports.retain(|&id| {
            let both_compat = ports[from].compat && ports[id].compat;
            if both_compat {
                return true;
            }
            if id == from {
                return !is_group(frame.dst);
            }
            ports[from].mode != "private" && ports[id].mode != "private"
        });
    }
    once(outcome)
}

fn once(mut outcome: Outcome) -> Outcome {
    outcome.ports.sort_unstable();
    outcome.ports.dedup();
    outcome
}
