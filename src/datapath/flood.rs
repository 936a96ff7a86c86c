//! A frame for many receivers, made easy to copy once and repaired once.
//!
//! A broadcast is copied for every port of the LAN, but work on the frame itself is done once. A
//! frame in many pieces is first made one piece. A frame that has to be completed or cut for
//! receivers without offloads is repaired once for each kind of receiver
//! (`Accepts::distinguished`). There are at most `KINDS` of them for a frame, and all receivers of
//! one kind get copies of the same result.
//!
//! The kernel cuts a TCP super-frame for a group like any other one, and such frames exist: a
//! Microsoft NLB cluster has a multicast MAC address. So they are not refused, but bounded. A frame
//! for a group becomes at most `MOST_SEGMENTS` segments, as many as the kernel allows a UDP
//! super-frame (`UDP_MAX_SEGMENTS`), and all receivers together get at most `MOST_COPIES`.
//!
//! What can go wrong: on a LAN with very many ports that take no offloads, a super-frame for all of
//! them exceeds the bound. It counts as `cannot be repaired` there, and TCP sends it again in
//! single segments.

use std::ops::Range;

use crate::datapath::frame::Frame;
use crate::net::vnet_hdr::{HEADER, MAX_FRAME};
use crate::offload;
use crate::offload::{Accepts, HEAD};
use crate::virtqueue::fetch::get;

/// Kinds of receivers of one frame that take it differently.
const KINDS: usize = 4;
/// Most segments of a frame for a group.
const MOST_SEGMENTS: usize = 128;
/// Most copies of such segments, for all receivers together.
const MOST_COPIES: usize = 8192;
/// A frame in more pieces is made one piece.
const MOST_PIECES: usize = 8;

/// What takes each part of a frame: header, head and payload.
pub type FloodEmit<'a> = offload::Emit<'a>;

/// A frame of a repaired one.
struct Segment {
    header: [u8; HEADER],
    head: [u8; HEAD],
    head_len: usize,
    /// In `ReceiverKind::whole`.
    payload: Range<usize>,
}

/// A frame as one kind of receiver gets it.
struct ReceiverKind {
    accepts: Accepts,
    whole: Vec<u8>,
    segments: Vec<Segment>,
    failed: bool,
}

/// Working memory of a frame for many. What no frame needs is not touched.
pub struct Flood {
    flat: Vec<u8>,
    kinds: Vec<ReceiverKind>,
    known: usize,
    most: usize,
}

impl Default for Flood {
    fn default() -> Flood {
        let kind = || ReceiverKind {
            accepts: Accepts::NONE,
            whole: vec![0; MAX_FRAME],
            segments: Vec::with_capacity(MOST_SEGMENTS),
            failed: false,
        };
        let kinds = std::iter::repeat_with(kind).take(KINDS).collect();
        Flood { flat: vec![0; MAX_FRAME], kinds, known: 0, most: 0 }
    }
}

impl Flood {
    /// A frame for `receivers` ports begins.
    pub fn begin(&mut self, receivers: usize) {
        self.known = 0;
        self.most = (MOST_COPIES / receivers.max(1)).clamp(1, MOST_SEGMENTS);
    }

    /// Memory with the frame's body in one piece, if it is better copied so, and the body's length.
    pub fn flat(&mut self, frame: &Frame<'_>) -> Option<(Vec<u8>, usize)> {
        let len = frame.len.saturating_sub(frame.head.len());
        let body = self.flat.get_mut(..len).filter(|_| frame.body.len() > MOST_PIECES)?;
        get(frame.body, body);
        Some((std::mem::take(&mut self.flat), len))
    }

    /// Gives that memory back.
    pub fn give_back(&mut self, flat: Vec<u8>) {
        self.flat = flat;
    }

    /// What a receiver that takes `accepts` gets of the frame: each part as header, head and
    /// payload. False: the frame cannot be repaired for it.
    pub fn each(&mut self, frame: &Frame<'_>, accepts: Accepts, emit: &mut FloodEmit<'_>) -> bool {
        let accepts = accepts.distinguished(frame.header);
        let known = self.kinds.iter().take(self.known).position(|kind| kind.accepts == accepts);
        // There are never more than KINDS; if there were, the last one would be made anew each
        // time.
        let at = known.unwrap_or(self.known.min(KINDS - 1));
        let Some(kind) = self.kinds.get_mut(at) else { return false };
        if known.is_none() {
            kind.repair(frame, accepts, self.most);
            self.known = at + 1;
        }
        for segment in &kind.segments {
            let head = segment.head.get(..segment.head_len).unwrap_or_default();
            let payload = kind.whole.get(segment.payload.clone()).unwrap_or_default();
            emit(&segment.header, head, payload);
        }
        !kind.failed
    }
}

impl ReceiverKind {
    fn repair(&mut self, frame: &Frame<'_>, accepts: Accepts, most: usize) {
        self.accepts = accepts;
        self.segments.clear();
        let segments = &mut self.segments;
        let start = self.whole.as_ptr() as usize;
        self.failed = frame.collect(&mut self.whole).is_none_or(|mut whole| {
            offload::repair(
                frame.header,
                &mut whole,
                accepts,
                most,
                &mut |header, front, payload| {
                    let mut head = [0; HEAD];
                    // Both have at most HEAD bytes, and there are at most MOST_SEGMENTS of them: no
                    // allocation.
                    if let Some(place) = head.get_mut(..front.len())
                        && segments.len() < segments.capacity()
                    {
                        place.copy_from_slice(front);
                        // A payload is a part of what is repaired.
                        let at = (payload.as_ptr() as usize).wrapping_sub(start);
                        let payload = at..at.wrapping_add(payload.len());
                        let (header, head_len) = (*header, front.len());
                        segments.push(Segment { header, head, head_len, payload });
                    }
                },
            )
            .is_err()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::feature;
    use crate::virtqueue::guest_slice::GuestSlice;

    /// A TCP super-frame of `len` bytes to be cut to `size`.
    fn tcp(len: usize, size: u16) -> ([u8; HEADER], Vec<u8>) {
        let mut frame = vec![0x5a; len];
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14..34].fill(0);
        frame[14] = 0x45;
        frame[16..18].copy_from_slice(&((len - 14) as u16).to_be_bytes());
        frame[23] = 6;
        frame[46] = 0x50;
        let [a, b] = size.to_le_bytes();
        ([1, 1, 54, 0, a, b, 34, 0, 16, 0, 0, 0], frame)
    }

    fn guest(bits: &[u32]) -> Accepts {
        Accepts::of_guest(bits.iter().fold(0, |all, number| all | 1 << number))
    }

    fn segments(flood: &mut Flood, frame: &Frame<'_>, accepts: Accepts) -> Option<Vec<Vec<u8>>> {
        let mut all = Vec::new();
        let done = flood.each(frame, accepts, &mut |header, head, payload| {
            all.push([&header[..], head, payload].concat());
        });
        done.then_some(all)
    }

    fn directly(header: &[u8; HEADER], frame: &[u8], accepts: Accepts) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        let mut copy = frame.to_vec();
        crate::offload::repair(
            header,
            &mut copy,
            accepts,
            MOST_SEGMENTS,
            &mut |header, head, payload| {
                all.push([&header[..], head, payload].concat());
            },
        )
        .unwrap();
        all
    }

    /// It was cut anew for every receiver: 4.5 ms for one frame at 59 receivers.
    #[test]
    fn bug_f15_a_frame_is_repaired_once_for_each_kind_of_receiver() {
        let (header, bytes) = tcp(30_000, 1000);
        let body = [GuestSlice::from(&bytes[14..])];
        let frame = Frame { header: &header, head: &bytes[..14], body: &body, len: bytes.len() };
        let mut flood = Flood::default();
        flood.begin(60);
        let kinds = [
            guest(&[]),
            Accepts::NONE,
            guest(&[feature::VIRTIO_NET_F_GUEST_CSUM]),
            guest(&[
                feature::VIRTIO_NET_F_GUEST_CSUM,
                feature::VIRTIO_NET_F_GUEST_TSO6,
                feature::VIRTIO_NET_F_GUEST_UFO,
            ]),
            guest(&[feature::VIRTIO_NET_F_GUEST_CSUM, feature::VIRTIO_NET_F_GUEST_USO4]),
        ];
        for round in 0..3 {
            for accepts in kinds {
                let expected = directly(&header, &bytes, accepts);
                assert_eq!(expected.len(), 30);
                assert_eq!(segments(&mut flood, &frame, accepts), Some(expected), "{round}");
            }
            assert_eq!(flood.known, 2, "with checksums and without");
        }
    }

    #[test]
    fn bug_f15_a_frame_for_many_becomes_a_bounded_number_of_segments() {
        for (size, receivers, fits) in
            [(1, 2, false), (32, 59, false), (600, 59, true), (600, 1000, false)]
        {
            let (header, bytes) = tcp(60_000, size);
            let body = [GuestSlice::from(&bytes[14..])];
            let frame =
                Frame { header: &header, head: &bytes[..14], body: &body, len: bytes.len() };
            let mut flood = Flood::default();
            flood.begin(receivers);
            let count = segments(&mut flood, &frame, Accepts::NONE).map(|all| all.len());
            assert_eq!(count.is_some(), fits, "{size} {receivers}: {count:?}");
        }
    }

    #[test]
    fn a_frame_in_many_pieces_becomes_one() {
        let bytes: Vec<u8> = (0..100).collect();
        let pieces: Vec<_> = bytes[14..].chunks(1).map(GuestSlice::from).collect();
        let header = [0; HEADER];
        let frame = Frame { header: &header, head: &bytes[..14], body: &pieces, len: 100 };
        let mut flood = Flood::default();
        let (flat, len) = flood.flat(&frame).unwrap();
        assert_eq!((&flat[..86], len), (&bytes[14..], 86));
        flood.give_back(flat);
        let few = Frame { body: &pieces[..2], len: 16, ..frame };
        assert!(flood.flat(&few).is_none());
    }
}
