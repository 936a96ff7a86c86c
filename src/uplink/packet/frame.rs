//! One frame in a block of the ring: found, checked, and put into the shape that a guest gets.
//!
//! ```text
//!   at ──► tpacket3_hdr (48) ... ┌ virtio_net_hdr (10) ┐ Ethernet (14) │ body
//!                                              at + tp_mac ─┘
//! ```
//!
//! Three things have to be put right:
//!
//! **The VLAN tag.** The kernel takes the outermost tag out of the frame, whatever the NIC can do, and
//! tells it beside. A guest wants it back, priority tags (VID 0) too. The frame is then 4 bytes longer
//! in front, so `csum_start` and `hdr_len` of the virtio-net header, which count from the frame's
//! start, move along.
//!
//! **The header** is the legacy one in the host's byte order; a guest gets 12 bytes in little endian.
//! `num_buffers` is the receiver's to fill in.
//!
//! **Entries that are no frames.** When the kernel cannot express a frame as a virtio-net header (LRO,
//! SCTP and old-style UDP segmentation), it has already reserved its place and counted it. What stands there is left from
//! the block's former use: an old frame, perhaps another guest's. It is recognised by
//! TP_STATUS_USER, which only completed entries have. (`tpacket_rcv`: the error leaves between
//! `packet_current_rx_frame`, which writes the status anew, and the `|= status` at the end.)
//!
//! **Checksums.** TP_STATUS_CSUMNOTREADY (ip_summed == CHECKSUM_PARTIAL) and F_NEEDS_CSUM are two
//! views of one fact, so a frame never has the first without the second: but for a frame so large that
//! the kernel gave up its header, which is truncated to nothing and skipped. Should it happen, the
//! frame is not passed on, because its checksum is wrong and nothing says where. SCTP's checksum is
//! not the one that F_NEEDS_CSUM stands for: `sctp.rs`.
//!
//! The kernel is trusted, but this file parses its bytes as if it were not: every offset is checked
//! against the block, and what does not fit is [`Entry::Unusable`].

use std::mem::{offset_of, size_of};
use std::ops::Deref;

use libc::{tpacket_hdr_variant1, tpacket3_hdr};

use super::sctp;

const F_NEEDS_CSUM: u8 = 1;
const ETHERNET: usize = 14;
const ADDRESSES: usize = 12;
const TAG: usize = 4;
/// The virtio-net header in the ring: without `num_buffers`.
const SHORT_HEADER: usize = 10;

const NEXT: usize = offset_of!(tpacket3_hdr, tp_next_offset);
const SNAPPED: usize = offset_of!(tpacket3_hdr, tp_snaplen);
const LENGTH: usize = offset_of!(tpacket3_hdr, tp_len);
const STATUS: usize = offset_of!(tpacket3_hdr, tp_status);
const MAC: usize = offset_of!(tpacket3_hdr, tp_mac);
const VARIANT: usize = offset_of!(tpacket3_hdr, hv1);
const HASH: usize = VARIANT + offset_of!(tpacket_hdr_variant1, tp_rxhash);
const TCI: usize = VARIANT + offset_of!(tpacket_hdr_variant1, tp_vlan_tci);
const TPID: usize = VARIANT + offset_of!(tpacket_hdr_variant1, tp_vlan_tpid);

/// A frame from the wire, as a guest should see it: `header`, then `head`, then `body`.
#[derive(Debug)]
pub struct Received<'a> {
    /// `virtio_net_hdr` of virtio 1, little endian; `num_buffers` is 0, to be filled in.
    pub header: [u8; 12],
    /// The Ethernet header, with the outermost VLAN tag if there was one.
    pub head: Head,
    /// What follows, still in the ring.
    pub body: &'a [u8],
    /// The flow hash; 0 when the kernel has none.
    pub hash: u32,
}

impl Received<'_> {
    /// The frame's length without the virtio-net header, in bytes.
    pub fn len(&self) -> usize {
        self.head.len().saturating_add(self.body.len())
    }

    /// Never: there is always an Ethernet header.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// An Ethernet header of 14 bytes, or 18 with a VLAN tag.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    bytes: [u8; ETHERNET + TAG],
    tagged: bool,
}

impl Head {
    fn new(ethernet: &[u8; ETHERNET], tag: Option<[u8; TAG]>) -> Head {
        let mut bytes = [0; ETHERNET + TAG];
        let (addresses, kind) = ethernet.split_at(ADDRESSES);
        let tag_bytes = tag.as_ref().map_or(&[][..], |tag| tag);
        for (to, from) in bytes.iter_mut().zip(addresses.iter().chain(tag_bytes).chain(kind)) {
            *to = *from;
        }
        Head { bytes, tagged: tag.is_some() }
    }
}

impl Deref for Head {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        if self.tagged { &self.bytes } else { self.bytes.get(..ETHERNET).unwrap_or_default() }
    }
}

/// What stands at a place of a block.
#[derive(Debug)]
pub(super) enum Entry<'a> {
    Frame(Received<'a>),
    /// A place that the kernel reserved and left: it has counted the frame as dropped.
    Void,
    /// Only the beginning of a frame.
    Truncated,
    /// No frame, or none that could be passed on.
    Unusable,
}

/// The entry at `at`, and how many bytes further the next one is. No way further means that there is
/// none, or that the block contradicts itself.
pub(super) fn entry(block: &mut [u8], at: usize) -> (Entry<'_>, Option<usize>) {
    let Some(entry) = block.get_mut(at..) else { return (Entry::Unusable, None) };
    let step = u32_at(entry, NEXT).map(|next| next as usize);
    let step = step.filter(|&next| next >= size_of::<tpacket3_hdr>() && next < entry.len());
    (read(entry).unwrap_or(Entry::Unusable), step)
}

/// Nothing: the entry is unusable.
fn read(entry: &mut [u8]) -> Option<Entry<'_>> {
    let status = u32_at(entry, STATUS)?;
    if status & libc::TP_STATUS_USER == 0 {
        return Some(Entry::Void);
    }
    let snapped = u32_at(entry, SNAPPED)?;
    if snapped < u32_at(entry, LENGTH)? {
        return Some(Entry::Truncated);
    }
    let hash = u32_at(entry, HASH)?;
    let tag = (status & libc::TP_STATUS_VLAN_VALID != 0).then(|| tag(entry, status)).flatten();
    let (front, rest) = entry.split_at_mut_checked(u16_at(entry, MAC)?.into())?;
    let (_, front) = front.split_at_checked(size_of::<tpacket3_hdr>())?;
    let short = front.last_chunk::<SHORT_HEADER>()?;
    let frame = rest.get_mut(..snapped as usize)?;

    let mut header = Header::read(short)?;
    if header.flags & F_NEEDS_CSUM != 0 {
        let end = usize::from(header.csum_start) + usize::from(header.csum_offset) + 2;
        if end > frame.len() {
            return None;
        }
        if header.csum_offset == sctp::CHECKSUM {
            sctp::complete(frame.get_mut(header.csum_start.into()..)?)?;
            header.flags &= !F_NEEDS_CSUM;
            (header.csum_start, header.csum_offset) = (0, 0);
        }
    } else if status & libc::TP_STATUS_CSUMNOTREADY != 0 {
        return None;
    }
    if tag.is_some() {
        header.shift(TAG as u16)?;
    }
    let (ethernet, body) = frame.split_first_chunk()?;
    let head = Head::new(ethernet, tag);
    Some(Entry::Frame(Received { header: header.write(), head, body, hash }))
}

/// The tag that was taken out, as it stood in the frame.
fn tag(entry: &[u8], status: u32) -> Option<[u8; TAG]> {
    // Linux before 3.14 does not tell which kind of tag it was.
    let told = status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
    let kind = if told { u16_at(entry, TPID)? } else { libc::ETH_P_8021Q as u16 };
    let [a, b] = kind.to_be_bytes();
    let [_, _, c, d] = u32_at(entry, TCI)?.to_be_bytes();
    Some([a, b, c, d])
}

/// A `virtio_net_hdr` in numbers.
#[derive(Debug)]
struct Header {
    flags: u8,
    gso_type: u8,
    hdr_len: u16,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
}

impl Header {
    fn read(bytes: &[u8; SHORT_HEADER]) -> Option<Header> {
        Some(Header {
            flags: bytes[0],
            gso_type: bytes[1],
            hdr_len: u16_at(bytes, 2)?,
            gso_size: u16_at(bytes, 4)?,
            csum_start: u16_at(bytes, 6)?,
            csum_offset: u16_at(bytes, 8)?,
        })
    }

    /// The frame has become longer in front by so many bytes.
    fn shift(&mut self, by: u16) -> Option<()> {
        if self.flags & F_NEEDS_CSUM != 0 {
            self.csum_start = self.csum_start.checked_add(by)?;
        }
        if self.hdr_len != 0 {
            // A hint (how much the kernel had in one piece): its largest value is as good.
            self.hdr_len = self.hdr_len.saturating_add(by);
        }
        Some(())
    }

    fn write(&self) -> [u8; 12] {
        let [a, b] = self.hdr_len.to_le_bytes();
        let [c, d] = self.gso_size.to_le_bytes();
        let [e, f] = self.csum_start.to_le_bytes();
        let [g, h] = self.csum_offset.to_le_bytes();
        [self.flags, self.gso_type, a, b, c, d, e, f, g, h, 0, 0]
    }
}

/// The number at `at`, in the host's byte order, if it is inside.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
