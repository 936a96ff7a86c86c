//! The headers of the frames that one frame is cut into: a copy on the stack, changed for each of them.
//!
//! Only headers are copied; the payload stays where it is. The room is fixed, 512 bytes. With two VLAN
//! tags, the longest IPv4 and TCP headers take 142, and IPv6 leaves about 380 for extension headers,
//! where real ones need a few dozen. A longer chain is not worth a larger stack.
//!
//! The offsets that are written come from a [`Packet`], so they lie inside. A write outside would be
//! an error of this program; it is left out rather than made a panic.

use crate::net::bytes::{be16, be32};
use crate::net::checksum;
use crate::net::ip::{IPV6_HEADER, Version};
use crate::offload::packet::{HEAD, Packet};

/// The headers of one frame.
pub(crate) struct HeaderBuf {
    room: [u8; HEAD],
    length: usize,
}

impl HeaderBuf {
    /// Room with `bytes` in it; None when they are too many.
    pub fn copy(bytes: &[u8]) -> Option<HeaderBuf> {
        let mut head = HeaderBuf { room: [0; HEAD], length: bytes.len() };
        head.room.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(head)
    }

    /// Appends `bytes`; None when they are too many.
    pub fn push(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.length.checked_add(bytes.len())?;
        self.room.get_mut(self.length..end)?.copy_from_slice(bytes);
        self.length = end;
        Some(())
    }

    /// The headers.
    pub fn bytes(&self) -> &[u8] {
        self.from(0)
    }

    /// The headers from `at` on.
    pub fn from(&self, at: usize) -> &[u8] {
        self.room.get(at..self.length).unwrap_or_default()
    }

    /// The byte at `at`, to be changed.
    pub fn byte(&mut self, at: usize, change: impl FnOnce(u8) -> u8) {
        if let Some(byte) = self.room.get_mut(at) {
            *byte = change(*byte);
        }
    }

    /// Writes `bytes` at `at`.
    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(to) = self.room.get_mut(at..).and_then(|room| room.get_mut(..bytes.len())) {
            to.copy_from_slice(bytes);
        }
    }

    /// Writes a big-endian word.
    pub fn put16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_be_bytes());
    }

    /// Makes the IP header right for `payload` bytes behind these headers: its length, and in IPv4 its
    /// checksum (net/ipv4/af_inet.c, `inet_gso_segment`; net/ipv6/ip6_offload.c, `ipv6_gso_segment`).
    pub fn fit(&mut self, packet: &Packet, payload: usize) {
        let total = self.length.saturating_sub(packet.ip).saturating_add(payload);
        // As the kernel's, which has no room for more than 64 KiB either.
        let word = |length: usize| length as u16;
        match packet.version {
            Version::V6 => self.put16(packet.ip + 4, word(total.saturating_sub(IPV6_HEADER))),
            Version::V4 => {
                self.put16(packet.ip + 2, word(total));
                self.put16(packet.ip + 10, 0);
                let header = self.room.get(packet.ip..packet.l4).unwrap_or_default();
                self.put16(packet.ip + 10, !checksum::sum(header));
            }
        }
    }

    /// IPv4's identification.
    pub fn id(&self, packet: &Packet) -> u16 {
        be16(&self.room, packet.ip + 4).unwrap_or_default()
    }

    /// TCP's sequence number; UDP has its length and checksum there.
    pub fn sequence(&self, packet: &Packet) -> Option<u32> {
        be32(self.bytes(), packet.l4 + 4)
    }
}
