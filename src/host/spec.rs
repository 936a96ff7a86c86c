//! The specification of a port for the host: its device, and its demands on the parent.
//!
//! The types of this file are plain data. The configuration fills them in, and the rest of the room
//! reads them.

use crate::net::mac::Mac;
use crate::net::mode::Mode;

/// A new macvtap device.
#[derive(Clone, Debug)]
pub struct NewMacvtap<'a> {
    /// Device name, 1 to 15 bytes.
    pub name: &'a str,
    /// Index of the parent.
    pub parent: u32,
    /// How the parent is shared.
    pub mode: Mode,
    /// Hardware address; a random one when absent. Ignored by the kernel in passthru mode.
    pub mac: Option<Mac>,
    /// MTU in bytes; the parent's when absent.
    pub mtu: Option<u32>,
    /// Accepted source addresses; must be empty except in source mode.
    pub sources: &'a [Mac],
}

/// A port's device, as it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MacvtapSpec {
    /// Device name, 1 to 15 bytes.
    pub name: String,
    /// The parent's name.
    pub parent: String,
    /// How the parent is shared.
    pub mode: Mode,
    /// MAC address. Absent: in passthru mode the parent's, for an adopted device the one it has,
    /// otherwise a random one.
    pub mac: Option<Mac>,
    /// MTU in bytes. Absent: the parent's, or the one that an adopted device has.
    pub mtu: Option<u32>,
    /// Queues to open, 1 to 256.
    pub queues: usize,
    /// Source addresses accepted in source mode; empty in every other mode, and for an adopted
    /// device that keeps its list.
    pub sources: Vec<Mac>,
}

/// A new port's demands on its parent; the same rules hold for a kernel device and one in
/// userspace.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The port in the words of a message: "macvtap vm1", "port vm1".
    pub object: &'a str,
    /// How it shares the parent.
    pub mode: Mode,
    /// Its MAC address, if chosen.
    pub mac: Option<Mac>,
    /// Its MTU in bytes, if chosen.
    pub mtu: Option<u32>,
}

impl<'a> Wanted<'a> {
    /// The part of a macvtap's specification that concerns the parent; `object` names the port.
    pub fn of(spec: &MacvtapSpec, object: &'a str) -> Wanted<'a> {
        Wanted { object, mode: spec.mode, mac: spec.mac, mtu: spec.mtu }
    }
}
