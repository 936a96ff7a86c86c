//! Segmentation headers whose frame lies about its lengths: the kernel cuts them, and so do we.
//!
//! The same frames go from guest to guest through kernel macvtaps and through our own switch; the
//! receiver takes finished frames only. The output must be the same, byte by byte.
//! `tests/offload/main.rs` checks the same of the arithmetic alone, for every set of offloads.

use testkit::driver::*;
use testkit::frames::{self};
use testkit::rig::{ARRIVAL, fresh_tag};
use testkit::vmm::{Guest, QemuOptions};

use super::pair::{MACS, Pair, SILENCE, TYPES};
use testkit::offload_frames::{ECN, Shape, TSO4, TSO6, UFO, USO, sum};

/// Guests that leave all work undone when they send; the test decides what they accept.
fn guests(takes: u64) -> QemuOptions {
    let host = 1 << 0 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 56;
    let guest = Guest { features: F_VERSION_1 | F_MRG_RXBUF | host | takes, ..Guest::default() };
    QemuOptions { guest, ..QemuOptions::default() }
}

/// A frame of a shape from the first guest to the second.
fn build(shape: &Shape) -> (VnetHdr, Vec<u8>) {
    let (header, mut frame) = shape.build();
    frame[..6].copy_from_slice(&MACS[1]);
    frame[6..12].copy_from_slice(&MACS[0]);
    (VnetHdr::parse(&header), frame)
}

/// USO frames that write `told` as their UDP length, with a begun sum that holds the same.
fn lying(v6: bool, tags: &'static [u16], told: u16) -> (VnetHdr, Vec<u8>) {
    let shape = Shape { tags, ..Shape::new(v6, false, 5000) }.cut(USO, 1400);
    let (header, mut frame) = build(&shape);
    let udp = shape.l4();
    let begun = u16::from_be_bytes([frame[udp + 6], frame[udp + 7]]);
    let length = u16::from_be_bytes([frame[udp + 4], frame[udp + 5]]);
    let words = [begun.to_be_bytes(), (!length).to_be_bytes(), told.to_be_bytes()].concat();
    frame[udp + 4..udp + 6].copy_from_slice(&told.to_be_bytes());
    frame[udp + 6..udp + 8].copy_from_slice(&sum(&words).to_be_bytes());
    (header, frame)
}

/// The frames that the second guest receives.
fn received(pair: &mut Pair, header: &VnetHdr, frame: &[u8]) -> Vec<Vec<u8>> {
    pair.send_with(0, header, frame);
    let last = frames::tagged(MACS[1], MACS[0], fresh_tag(), 60);
    pair.send(0, &last);
    let mut all = Vec::new();
    while let Some(frame) = pair.guests[1].driver.recv(0, ARRIVAL) {
        if frame.bytes == last {
            break;
        }
        assert_eq!((frame.hdr.flags & 1, frame.hdr.gso_type), (0, 0), "unfinished");
        all.push(frame.bytes);
    }
    all
}

const TAGS: [&[u16]; 4] = [&[], &[0x8100], &[0x88a8, 0x8100], &[0x8100; 7]];

/// From one guest to another, 0 of 4 segments: the UDP length was 0 (Windows' NetKVM), or a
/// segment's.
#[test]
fn bug_b2_uso_without_its_udp_length_arrives_as_the_kernel_makes_it() {
    let mut answers = Vec::new();
    for kind in TYPES {
        let keys = format!("type={kind}");
        let mut pair = Pair::with(&[&keys, &keys], 1500, &guests(0));
        let mut all = Vec::new();
        for (v6, tags) in [false, true].into_iter().flat_map(|v6| TAGS.map(|tags| (v6, tags))) {
            for told in [0, 1408, 5008, 8, 7, 0xffff] {
                let (header, frame) = lying(v6, tags, told);
                let got = received(&mut pair, &header, &frame);
                assert_eq!(got.len(), 4, "{kind}: v6 {v6}, {tags:x?}, length {told}");
                if tags.is_empty() {
                    assert!(got.iter().all(|f| frames::segment(f).is_some_and(|s| s.sums_right)));
                }
                all.push(got);
            }
        }
        answers.push(all);
    }
    assert!(answers[0] == answers[1], "other segments than the kernel's");
}

/// A guest that takes USO got the frame whole, and would have dropped it; the kernel cuts it for
/// every guest.
#[test]
fn bug_b2_a_receiver_of_uso_gets_right_lengths_too() {
    let takes = F_GUEST_CSUM | 1 << 54 | 1 << 55;
    let mut pair = Pair::with(&["type=macvlan", "type=macvlan"], 1500, &guests(takes));
    for (told, count) in [(0, 4), (1408, 4), (5008, 1)] {
        let (header, frame) = lying(false, &[], told);
        pair.send_with(0, &header, &frame);
        let mut lengths = Vec::new();
        while let Some(frame) = pair.guests[1].driver.recv(0, SILENCE) {
            if frame.bytes.len() > 1000 || lengths.len() == 3 {
                lengths.push((
                    frame.bytes.len(),
                    u16::from_be_bytes([frame.bytes[38], frame.bytes[39]]),
                ));
            }
        }
        assert_eq!(lengths.len(), count, "{told}: {lengths:?}");
        assert!(lengths.iter().all(|(len, told)| *len == 34 + usize::from(*told)), "{lengths:?}");
    }
}

/// Every other kind of wrong length that the kernel accepts.
#[test]
fn bug_b2_every_lie_that_the_kernel_takes_comes_out_alike() {
    let mut answers: Vec<Vec<Vec<Vec<u8>>>> = Vec::new();
    for kind in TYPES {
        let keys = format!("type={kind}");
        let mut pair = Pair::with(&[&keys, &keys], 1500, &guests(0));
        let mut all = Vec::new();
        for (v6, tcp, gso) in [
            (false, true, TSO4),
            (false, true, TSO4 | ECN),
            (true, true, TSO6),
            (true, true, TSO6 | ECN),
            (false, false, USO),
            (true, false, USO),
            (false, false, UFO),
        ] {
            for tags in [&[][..], &[0x8100], &[0x88a8, 0x8100]] {
                let shape = Shape { tags, ..Shape::new(v6, tcp, 5000) }.cut(gso, 1400);
                let ip = 14 + 4 * tags.len();
                // The total length: none, a piece's, too much; a fragment; the length of the
                // headers.
                let lies: &[(usize, u16)] = match v6 {
                    false => &[(2, 0), (2, 1440), (2, 0xffff), (6, 0x2000), (6, 0x00b9)],
                    true => &[(4, 0), (4, 1420), (4, 0xffff)],
                };
                for &(at, value) in lies {
                    let (header, mut frame) = build(&shape);
                    frame[ip + at..ip + at + 2].copy_from_slice(&value.to_be_bytes());
                    all.push(received(&mut pair, &header, &frame));
                    assert!(
                        all.last().unwrap().len() >= 4,
                        "{kind}: {shape:?}, {value:#x} at {at}"
                    );
                }
                for hdr_len in [0, 1, 14, 200, shape.l4() as u16] {
                    let (header, frame) = build(&shape);
                    let header = VnetHdr { hdr_len, ..header };
                    all.push(received(&mut pair, &header, &frame));
                    assert!(all.last().unwrap().len() >= 4, "{kind}: {shape:?}, hdr_len {hdr_len}");
                }
            }
        }
        answers.push(all);
    }
    for (kernel, ours) in answers[0].iter().zip(&answers[1]) {
        let starts: Vec<_> = kernel.iter().map(|frame| &frame[..frame.len().min(60)]).collect();
        assert!(
            kernel == ours,
            "{} frames, {} of the kernel: {starts:02x?}",
            ours.len(),
            kernel.len()
        );
    }
}
