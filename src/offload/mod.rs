//! Offloads repaired: a frame made fit for a receiver that does not take it as it is.
//!
//! A frame comes with a `virtio_net_hdr` that may leave work to whoever is next: complete this
//! checksum, cut this into pieces (virtio 1.2, section 5.1.6). Between a guest and the kernel it is the
//! kernel that does what the other side cannot; between two guests, or from a packet socket to a guest,
//! it is this module. What the receiver accepted stays undone, for it costs nothing; only the rest is
//! done here, and done as the kernel does it, byte for byte (tests/offload.rs holds it against the
//! kernel).
//!
//! | file | idea |
//! | --- | --- |
//! | `mod` | what a receiver takes, what a frame needs, and who does it |
//! | `packet` | where the headers of a frame stand, every length checked |
//! | `head` | the headers of a new frame, on the stack |
//! | `segment` | TCP and UDP segmentation (TSO, USO) |
//! | `fragment` | IP fragmentation of one UDP datagram (UFO) |
//! | `sum` | the Internet checksum |
//!
//! For every frame, [`need`] looks at the header alone. What needs nothing goes on with [`pass`]; the
//! rest, in a copy of our own, through [`repair`]. Nothing here allocates or has a state.
//!
//! What can go wrong: header and frame may contradict each other, and either may be a trap. A frame
//! that needs nothing is not looked into: its receiver asked for offloads and has to judge them, as it
//! has with any device. A frame that is to be cut is checked whole before the first piece leaves. One
//! with a tiny size would become very many: [`MOST`] pieces are the end.

mod fragment;
mod head;
mod packet;
mod segment;
mod sum;

pub use head::HEAD;
use packet::{Packet, TCP, UDP, Version};
use segment::Cut;

use crate::queue::vnet::{
    ETHERNET, F_DATA_VALID, F_NEEDS_CSUM, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP,
    GSO_UDP_L4, HEADER, bit, has,
};

/// Most frames that one is cut into. 64 KiB in pieces of 32 bytes, below any sender's least segment
/// (Linux: 48 bytes, `net.ipv4.tcp_min_snd_mss`). The kernel's own bound for USO is 128.
pub const MOST: usize = 2048;

/// What [`repair`] calls for each frame: the header that the receiver sees, then the frame in two
/// parts, of which the first has at most [`HEAD`] bytes.
pub type Emit<'a> = dyn FnMut(&[u8; HEADER], &[u8], &[u8]) + 'a;

/// What a receiver takes undone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepts(u8);

impl Accepts {
    /// Finished frames only.
    pub const NONE: Accepts = Accepts(0);
    /// Everything that virtio 1.2 knows.
    pub const ALL: Accepts = Accepts(0x7f);

    const CSUM: Accepts = Accepts(1);
    const TSO4: Accepts = Accepts(2);
    const TSO6: Accepts = Accepts(4);
    const ECN: Accepts = Accepts(8);
    const UFO: Accepts = Accepts(16);
    const USO4: Accepts = Accepts(32);
    const USO6: Accepts = Accepts(64);

    /// What a guest takes by the features that it acknowledged. None of the others holds without
    /// GUEST_CSUM (virtio 1.2, section 5.1.3.1): a guest that breaks this rule gets finished frames.
    pub fn of_guest(features: u64) -> Accepts {
        if !has(features, bit::GUEST_CSUM) {
            return Accepts::NONE;
        }
        [
            (bit::GUEST_TSO4, Accepts::TSO4),
            (bit::GUEST_TSO6, Accepts::TSO6),
            (bit::GUEST_ECN, Accepts::ECN),
            (bit::GUEST_UFO, Accepts::UFO),
            (bit::GUEST_USO4, Accepts::USO4),
            (bit::GUEST_USO6, Accepts::USO6),
        ]
        .into_iter()
        .filter(|(number, _)| has(features, *number))
        .fold(Accepts::CSUM, |all, (_, one)| all.and(one))
    }

    const fn and(self, other: Accepts) -> Accepts {
        Accepts(self.0 | other.0)
    }

    /// Whether all of `other` is taken.
    const fn all_of(self, other: Accepts) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What must be done to a frame before its receiver may have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: [`pass`] says what its header becomes.
    Nothing,
    /// Its checksum is missing.
    Checksum,
    /// It is to be cut, or to be refused because its header makes no sense.
    Segments,
}

/// Why a frame cannot be repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unrepairable {
    /// The header contradicts itself: an unknown kind of segmentation, a size that is none.
    Header,
    /// The frame is not what the header says, or its own lengths do not fit one another.
    Packet,
    /// Its headers have more than [`HEAD`] bytes.
    Chain,
    /// It would become more than [`MOST`] frames.
    Pieces,
}

/// The header's fields.
#[derive(Clone, Copy)]
struct Fields {
    flags: u8,
    gso: u8,
    size: u16,
    start: u16,
    offset: u16,
}

impl Fields {
    fn of(header: &[u8; HEADER]) -> Fields {
        let [flags, gso, _, _, s0, s1, c0, c1, o0, o1, _, _] = *header;
        Fields {
            flags,
            gso,
            size: u16::from_le_bytes([s0, s1]),
            start: u16::from_le_bytes([c0, c1]),
            offset: u16::from_le_bytes([o0, o1]),
        }
    }

    /// A header that asks for a checksum and nothing else.
    fn checksum(start: u16, offset: u16) -> [u8; HEADER] {
        let ([a, b], [c, d]) = (start.to_le_bytes(), offset.to_le_bytes());
        [F_NEEDS_CSUM, 0, 0, 0, 0, 0, a, b, c, d, 0, 0]
    }

    fn partial(&self) -> bool {
        self.flags & F_NEEDS_CSUM != 0
    }

    /// What a receiver must take to get the frame uncut; None when the header makes no sense
    /// (include/linux/virtio_net.h, `__virtio_net_hdr_to_skb`). `version`: unknown on the hot path,
    /// where the header does not tell IPv4 from IPv6 for UDP.
    fn wanted(&self, version: Option<Version>) -> Option<Accepts> {
        // 0xffff means something else inside the kernel (GSO_BY_FRAGS), which therefore refuses it.
        if self.size == 0 || self.size == u16::MAX {
            return None;
        }
        let ecn = if self.gso & GSO_ECN != 0 { Accepts::ECN } else { Accepts::NONE };
        let kind = match self.gso & !GSO_ECN {
            GSO_TCPV4 => Accepts::TSO4,
            GSO_TCPV6 => Accepts::TSO6,
            GSO_UDP if ecn == Accepts::NONE => Accepts::UFO,
            GSO_UDP_L4 if ecn == Accepts::NONE && self.partial() => match version {
                None => Accepts::USO4.and(Accepts::USO6),
                Some(Version::V4) => Accepts::USO4,
                Some(Version::V6) => Accepts::USO6,
            },
            _ => return None,
        };
        Some(Accepts::CSUM.and(kind).and(ecn))
    }
}

/// What must be done to a frame with this header for a receiver that takes `accepts`. Looks at the
/// header only: `Segments` may still turn out to be a single frame, or none.
#[inline]
pub fn need(header: &[u8; HEADER], accepts: Accepts) -> Need {
    let fields = Fields::of(header);
    if fields.gso == GSO_NONE {
        return if fields.partial() && !accepts.all_of(Accepts::CSUM) {
            Need::Checksum
        } else {
            Need::Nothing
        };
    }
    match fields.wanted(None) {
        Some(wanted) if accepts.all_of(wanted) => Need::Nothing,
        _ => Need::Segments,
    }
}

/// The header as the receiver may see it when [`need`] says `Nothing`. A checksum to complete and a
/// segmentation stay as they are, "data valid" goes to those who know checksums and have none to
/// complete; everything else becomes 0, also `num_buffers`, which whoever fills the buffers sets.
#[inline]
pub fn pass(header: &[u8; HEADER], accepts: Accepts) -> [u8; HEADER] {
    if !accepts.all_of(Accepts::CSUM) {
        return [0; HEADER];
    }
    let mut passed = *header;
    let [flags, gso, hdr_len0, hdr_len1, size0, size1, checksum @ ..] = &mut passed;
    if *flags & F_NEEDS_CSUM != 0 {
        *flags = F_NEEDS_CSUM;
        let [_, _, _, _, buffers @ ..] = checksum;
        *buffers = [0; 2];
    } else {
        *flags &= F_DATA_VALID;
        *checksum = [0; 6];
    }
    if *gso == GSO_NONE {
        [*hdr_len0, *hdr_len1, *size0, *size1] = [0; 4];
    }
    passed
}

/// Makes of `frame` (from the Ethernet header on; our own copy, which may be changed) the frames that
/// a receiver takes, hands them to `emit` in order and returns their number, at least 1.
///
/// The sum of their payloads is that of the frame; each has its own headers of at most [`HEAD`] bytes.
///
/// # Errors
/// The frame is beyond repair. Nothing was emitted then; the frame may have been changed.
pub fn repair(
    header: &[u8; HEADER],
    frame: &mut [u8],
    accepts: Accepts,
    emit: &mut Emit<'_>,
) -> Result<usize, Unrepairable> {
    match need(header, accepts) {
        Need::Nothing => Ok(whole(&pass(header, accepts), frame, emit)),
        Need::Checksum => plain(Fields::of(header), frame, accepts, emit),
        Need::Segments => pieces(header, frame, accepts, emit),
    }
}

/// Emits a frame in one.
fn whole(header: &[u8; HEADER], frame: &[u8], emit: &mut Emit<'_>) -> usize {
    let (head, payload) = frame.split_at_checked(ETHERNET).unwrap_or((frame, &[]));
    emit(header, head, payload);
    1
}

/// Emits a frame that is not to be cut, its checksum completed if the receiver does not do that
/// (net/core/dev.c, `skb_checksum_help`). As there, the sum goes to the end of the frame, whatever is
/// in it: a checksum needs no protocol.
fn plain(
    fields: Fields,
    frame: &mut [u8],
    accepts: Accepts,
    emit: &mut Emit<'_>,
) -> Result<usize, Unrepairable> {
    let asked = Fields::checksum(fields.start, fields.offset);
    if !fields.partial() || accepts.all_of(Accepts::CSUM) {
        let flags = [fields.flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let header = if fields.partial() { asked } else { pass(&flags, accepts) };
        return Ok(whole(&header, frame, emit));
    }
    if usize::from(fields.start) < ETHERNET {
        return Err(Unrepairable::Header);
    }
    let covered = frame.get_mut(usize::from(fields.start)..).ok_or(Unrepairable::Packet)?;
    let checksum = match !sum::sum(covered) {
        0 => 0xffff,
        checksum => checksum,
    };
    let field = covered.get_mut(usize::from(fields.offset)..).and_then(|c| c.first_chunk_mut());
    *field.ok_or(Unrepairable::Packet)? = checksum.to_be_bytes();
    Ok(whole(&[0; HEADER], frame, emit))
}

/// Cuts a frame, or finds that it need not be cut.
fn pieces(
    header: &[u8; HEADER],
    frame: &mut [u8],
    accepts: Accepts,
    emit: &mut Emit<'_>,
) -> Result<usize, Unrepairable> {
    let fields = Fields::of(header);
    fields.wanted(None).ok_or(Unrepairable::Header)?;
    let packet = Packet::parse(frame).ok_or(Unrepairable::Packet)?;
    let kind = fields.gso & !GSO_ECN;
    let right = match kind {
        GSO_TCPV4 => packet.protocol == TCP && packet.version == Version::V4,
        GSO_TCPV6 => packet.protocol == TCP && packet.version == Version::V6,
        _ => packet.protocol == UDP,
    };
    let placed =
        usize::from(fields.start) == packet.l4 && usize::from(fields.offset) == packet.checksum();
    if !right || fields.partial() && !placed {
        return Err(Unrepairable::Packet);
    }
    if fields.wanted(Some(packet.version)).is_some_and(|wanted| accepts.all_of(wanted)) {
        return Ok(whole(&pass(header, accepts), frame, emit));
    }
    // Ethernet padding would be summed up, and is no payload.
    let frame = frame.get_mut(..packet.end).ok_or(Unrepairable::Packet)?;
    let (size, ufo) = (usize::from(fields.size), kind == GSO_UDP);
    if packet.end - if ufo { packet.l4 } else { packet.data } <= size {
        return plain(fields, frame, accepts, emit);
    }
    let (from, size) =
        if ufo { (packet.fragment, fragment::piece(size)) } else { (packet.data, size) };
    if size == 0 || (packet.end - from).div_ceil(size) > MOST {
        return Err(Unrepairable::Pieces);
    }
    let field = packet::be16(frame, packet.l4 + packet.checksum()).ok_or(Unrepairable::Packet)?;
    let pseudo = if fields.partial() { field } else { packet.pseudo(frame) };
    if ufo {
        fragment::complete(frame, &packet, pseudo).ok_or(Unrepairable::Packet)?;
    }
    let cut = Cut { frame, packet, pseudo, size, partial: accepts.all_of(Accepts::CSUM) };
    let cut = if ufo { fragment::cut(&cut, emit) } else { segment::cut(&cut, emit) };
    cut.ok_or(Unrepairable::Chain)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
