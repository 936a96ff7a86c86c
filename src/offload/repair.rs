//! A frame made fit for its receiver: completed, cut, or refused.
//!
//! All checks stand here, before the first frame leaves: the header against itself, the frame against
//! itself (`packet.rs`), one against the other, and the number of pieces. The kernel is less strict
//! where it cuts and more so where it reads; tests/offload/apart.rs lists the differences.
//!
//! What can go wrong: the checksum that is completed without cutting is not looked into at all, as
//! the kernel does not: `csum_start` may lie anywhere in the frame, and the result is the sender's.

use crate::net::checksum;
use crate::net::vnet_hdr::{
    ETHERNET, F_NEEDS_CSUM, GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP, HEADER,
};
use crate::offload::need::{Accepts, Fields, Need, need, pass};
use crate::offload::packet::{Packet, TCP, UDP, Version, be16};
use crate::offload::segment::Cut;
use crate::offload::{fragment, segment};

/// Most frames that one is cut into. 64 KiB in pieces of 32 bytes, below any sender's least segment
/// (Linux: 48 bytes, `net.ipv4.tcp_min_snd_mss`). The kernel's own bound for USO is 128.
pub const MOST: usize = 2048;

/// What [`repair`] calls for each frame: the header that the receiver sees, then the frame in two
/// parts, of which the first has at most [`HEAD`](crate::offload::HEAD) bytes.
pub type Emit<'a> = dyn FnMut(&[u8; HEADER], &[u8], &[u8]) + 'a;

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
        Need::Checksum => plain(Fields::of(header), frame, accepts, emit),
        Need::Segments => pieces(header, frame, accepts, most.min(MOST), emit),
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
    let checksum = match !checksum::sum(covered) {
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
    most: usize,
    emit: &mut Emit<'_>,
) -> Result<usize, Unrepairable> {
    let mut header = *header;
    if header[1] == GSO_UDP | GSO_ECN {
        // Without meaning, and the kernel does not mind.
        header[1] = GSO_UDP;
    }
    let fields = Fields::of(&header);
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
    let ufo = kind == GSO_UDP;
    // For UFO the kernel sums up anew and does not look where the sender has begun.
    if !right || fields.partial() && !placed && !ufo {
        return Err(Unrepairable::Packet);
    }
    let wanted = fields.wanted(Some(packet.version)).ok_or(Unrepairable::Header)?;
    let taken = accepts.all_of(wanted);
    if taken && fields.partial() {
        return Ok(whole(&pass(&header, accepts), frame, emit));
    }
    let size = usize::from(fields.size);
    let begins = match ufo {
        true if fields.partial() => usize::from(fields.start),
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
    let pseudo = if fields.partial() && !ufo { field } else { packet.pseudo(frame) };
    if taken {
        // The sender began no checksum: begun for it, the frame is one like any other.
        return begun(&header, &packet, pseudo, frame, accepts, emit);
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
    header: &[u8; HEADER],
    packet: &Packet,
    pseudo: u16,
    frame: &mut [u8],
    accepts: Accepts,
    emit: &mut Emit<'_>,
) -> Result<usize, Unrepairable> {
    let word = |at| u16::try_from(at).map(u16::to_le_bytes).map_err(|_| Unrepairable::Packet);
    let ([a, b], [c, d]) = (word(packet.l4)?, word(packet.checksum())?);
    let field = frame.get_mut(packet.l4 + packet.checksum()..).and_then(|l4| l4.first_chunk_mut());
    *field.ok_or(Unrepairable::Packet)? = pseudo.to_be_bytes();
    let [_, gso, e, f, g, h, ..] = *header;
    let header = [F_NEEDS_CSUM, gso, e, f, g, h, a, b, c, d, 0, 0];
    Ok(whole(&pass(&header, accepts), frame, emit))
}
