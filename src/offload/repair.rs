//! A frame made fit for its receiver: completed, cut, or refused.
//!
//! All checks stand here, before the first frame leaves: the header against itself, the frame against
//! itself (`packet.rs`), one against the other, and the number of pieces. The kernel is less strict
//! where it cuts and more so where it reads; tests/offload/apart.rs lists the differences.
//!
//! What can go wrong: a checksum that is completed without cutting is the sender's responsibility. Like
//! the kernel, this file does not look at what it covers: `csum_start` may lie anywhere in the frame.

use crate::net::bytes::be16;
use crate::net::checksum;
use crate::net::ethernet::ETHERNET;
use crate::net::ip::Version;
use crate::net::ip::protocol::{TCP, UDP};
use crate::net::vnet_hdr::{
    HEADER, MAX_SEGMENTS, VIRTIO_NET_HDR_GSO_ECN, VIRTIO_NET_HDR_GSO_TCPV4,
    VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_HDR_GSO_UDP, VnetHeader,
};
use crate::offload::cut::{Cut, Emit};
use crate::offload::need::{Accepts, Need, need, pass, wanted};
use crate::offload::packet::Packet;
use crate::offload::{fragment, segment};

/// Why a frame cannot be repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unrepairable {
    /// The header contradicts itself: an unknown kind of segmentation, a size that is none.
    Header,
    /// The frame is not what the header says, or its own lengths do not fit one another.
    Packet,
    /// Its headers have more than [`HEAD`](crate::offload::HEAD) bytes.
    Chain,
    /// It would become more frames than may be.
    Pieces,
}

/// Makes of `frame` (from the Ethernet header on; our own copy, which may be changed) the frames that
/// a receiver takes, at most `most`, hands them to `emit` in order and returns their number, at least 1.
///
/// Their second parts together are no longer than the frame; each has a first part of its own, of at
/// most [`HEAD`](crate::offload::HEAD) bytes.
///
/// # Errors
/// The frame is beyond repair. Nothing was emitted then; the frame may have been changed.
pub fn repair(
    header: &[u8; HEADER],
    frame: &mut [u8],
    accepts: Accepts,
    most: usize,
    emit: &mut Emit<'_>,
) -> Result<usize, Unrepairable> {
    match need(header, accepts) {
        Need::Nothing => Ok(whole(&pass(header, accepts), frame, emit)),
        Need::Checksum => plain(VnetHeader::from_le(header), frame, accepts, emit),
        Need::Segments => pieces(header, frame, accepts, most.min(MAX_SEGMENTS), emit),
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
    fields: VnetHeader,
    frame: &mut [u8],
    accepts: Accepts,
    emit: &mut Emit<'_>,
) -> Result<usize, Unrepairable> {
    let VnetHeader { flags, csum_start, csum_offset, .. } = fields;
    if !fields.needs_csum() || accepts.all_of(Accepts::CSUM) {
        let header = match fields.needs_csum() {
            true => VnetHeader::checksum(csum_start, csum_offset).to_le(),
            false => pass(&VnetHeader { flags, ..VnetHeader::default() }.to_le(), accepts),
        };
        return Ok(whole(&header, frame, emit));
    }
    if usize::from(csum_start) < ETHERNET {
        return Err(Unrepairable::Header);
    }
    let covered = frame.get_mut(usize::from(csum_start)..).ok_or(Unrepairable::Packet)?;
    let checksum = match !checksum::sum(covered) {
        0 => 0xffff,
        checksum => checksum,
    };
    let field = covered.get_mut(usize::from(csum_offset)..).and_then(|c| c.first_chunk_mut());
    *field.ok_or(Unrepairable::Packet)? = checksum.to_be_bytes();
    Ok(whole(&[0; HEADER], frame, emit))
}

/// Cuts a frame, or finds that it need not be cut.
fn pieces(
    header: &[u8; HEADER],
    frame: &mut [u8],
    accepts: Accepts,
    most: usize,
    emit: &mut Emit<'_>,
) -> Result<usize, Unrepairable> {
    let mut fields = VnetHeader::from_le(header);
    if fields.gso_type == VIRTIO_NET_HDR_GSO_UDP | VIRTIO_NET_HDR_GSO_ECN {
        // Without meaning, and the kernel does not mind.
        fields.gso_type = VIRTIO_NET_HDR_GSO_UDP;
    }
    wanted(&fields, None).ok_or(Unrepairable::Header)?;
    let packet = Packet::parse(frame).ok_or(Unrepairable::Packet)?;
    let kind = fields.gso_type & !VIRTIO_NET_HDR_GSO_ECN;
    let right = match kind {
        VIRTIO_NET_HDR_GSO_TCPV4 => packet.protocol == TCP && packet.version == Version::V4,
        VIRTIO_NET_HDR_GSO_TCPV6 => packet.protocol == TCP && packet.version == Version::V6,
        _ => packet.protocol == UDP,
    };
    let placed = usize::from(fields.csum_start) == packet.l4
        && usize::from(fields.csum_offset) == packet.checksum();
    let ufo = kind == VIRTIO_NET_HDR_GSO_UDP;
    // For UFO the kernel sums up anew and does not look where the sender has begun.
    if !right || fields.needs_csum() && !placed && !ufo {
        return Err(Unrepairable::Packet);
    }
    let wanted = wanted(&fields, Some(packet.version)).ok_or(Unrepairable::Header)?;
    let taken = accepts.all_of(wanted);
    if taken && fields.needs_csum() {
        return Ok(whole(&pass(&fields.to_le(), accepts), frame, emit));
    }
    let size = usize::from(fields.gso_size);
    let begins = match ufo {
        true if fields.needs_csum() => usize::from(fields.csum_start),
        true => packet.l4,
        false => packet.data,
    };
    if packet.end.saturating_sub(begins) <= size {
        return plain(fields, frame, accepts, emit);
    }
    if ufo && packet.end - packet.l4 <= size {
        return Err(Unrepairable::Packet);
    }
    let field = be16(frame, packet.l4 + packet.checksum()).ok_or(Unrepairable::Packet)?;
    let pseudo = if fields.needs_csum() && !ufo { field } else { packet.pseudo(frame) };
    if taken {
        // The sender began no checksum: begun for it, the frame is one like any other.
        return begun(fields, &packet, pseudo, frame, accepts, emit);
    }
    let (from, size) =
        if ufo { (packet.fragment, fragment::piece(size)) } else { (packet.data, size) };
    if size == 0 || (packet.end - from).div_ceil(size) > most {
        return Err(Unrepairable::Pieces);
    }
    if ufo {
        fragment::complete(frame, &packet, pseudo).ok_or(Unrepairable::Packet)?;
    }
    // What length the begun sum holds: of UDP what the frame says of it, right or wrong.
    let length = match packet.protocol {
        UDP => be16(frame, packet.l4 + 4).ok_or(Unrepairable::Packet)?,
        _ => packet.length(),
    };
    let partial = accepts.all_of(Accepts::CSUM);
    let cut = Cut { frame, packet, pseudo, length, size, partial };
    let cut = if ufo { fragment::cut(&cut, emit) } else { segment::cut(&cut, emit) };
    cut.ok_or(Unrepairable::Chain)
}

/// Emits a frame uncut, with the pseudo-header's sum in its checksum field and a header that says so.
fn begun(
    fields: VnetHeader,
    packet: &Packet,
    pseudo: u16,
    frame: &mut [u8],
    accepts: Accepts,
    emit: &mut Emit<'_>,
) -> Result<usize, Unrepairable> {
    let word = |at| u16::try_from(at).map_err(|_| Unrepairable::Packet);
    let checksum = VnetHeader::checksum(word(packet.l4)?, word(packet.checksum())?);
    let field = frame.get_mut(packet.l4 + packet.checksum()..).and_then(|l4| l4.first_chunk_mut());
    *field.ok_or(Unrepairable::Packet)? = pseudo.to_be_bytes();
    let VnetHeader { gso_type, hdr_len, gso_size, .. } = fields;
    let header = VnetHeader { gso_type, hdr_len, gso_size, ..checksum };
    Ok(whole(&pass(&header.to_le(), accepts), frame, emit))
}
