//! The work on a frame in both ways, and the differences that are allowed.
//!
//! Two differences are allowed. The identification of an IPv6 fragment may be anything. A TCP
//! checksum of 0 is the same number as 0xffff: the kernel writes 0 when it cuts and 0xffff when it
//! only completes, so the value depends on who cuts.

use vhost_user_macvtap::net::feature;
use vhost_user_macvtap::net::vnet_hdr::MAX_SEGMENTS;
use vhost_user_macvtap::offload::{Accepts, HEAD, Need, Unrepairable, need, repair};

use super::kernel::Kernel;
use testkit::offload_frames::{ECN, TSO4, TSO6, UFO, USO};

/// Headers and frames as they came out.
pub type Emitted = Vec<([u8; 12], Vec<u8>)>;

/// The frames that `repair` makes for a receiver that acknowledged `features`.
pub fn ours(header: &[u8; 12], frame: &[u8], features: u64) -> Result<Emitted, Unrepairable> {
    let mut out = Emitted::new();
    let accepts = Accepts::of_guest(features);
    let count = repair(
        header,
        &mut frame.to_vec(),
        accepts,
        MAX_SEGMENTS,
        &mut |header, head, payload| {
            assert!(head.len() <= HEAD);
            out.push((*header, [head, payload].concat()));
        },
    )?;
    assert_eq!(count, out.len());
    assert!(count <= MAX_SEGMENTS);
    if need(header, accepts) == Need::Nothing {
        assert_eq!(out[0].1, frame);
    }
    Ok(out)
}

/// Whether a receiver that acknowledged `features` may see this header; written from virtio 1.2,
/// section 5.1.6.4, and independent of the code under test.
pub fn legal(header: &[u8; 12], features: u64) -> bool {
    let has = |number: u32| features >> number & 1 == 1;
    let checksum = has(feature::VIRTIO_NET_F_GUEST_CSUM);
    let flags = matches!(header[0], 0) || matches!(header[0], 1 | 2) && checksum;
    let kind = checksum
        && match header[1] & 0x7f {
            TSO4 => has(feature::VIRTIO_NET_F_GUEST_TSO4),
            TSO6 => has(feature::VIRTIO_NET_F_GUEST_TSO6),
            UFO => has(feature::VIRTIO_NET_F_GUEST_UFO),
            USO => has(feature::VIRTIO_NET_F_GUEST_USO4) && has(feature::VIRTIO_NET_F_GUEST_USO6),
            _ => false,
        };
    let ecn = header[1] & ECN == 0 || has(feature::VIRTIO_NET_F_GUEST_ECN);
    flags && (header[1] == 0 || kind && ecn) && header[10..] == [0, 0]
}

/// Our frames, after the kernel has done the work that the receiver accepted undone.
pub fn finished(kernel: &mut Kernel, emitted: Emitted) -> Vec<Vec<u8>> {
    let finish = |(header, frame): ([u8; 12], Vec<u8>)| match header {
        [0 | 2, 0, ..] => vec![frame],
        _ => kernel.ask(&header, &frame).expect("the kernel takes what we emit"),
    };
    emitted.into_iter().flat_map(finish).collect()
}

/// Where TCP or UDP begins, and the protocol; or where a fragment header begins.
pub fn transport(frame: &[u8]) -> (usize, u8) {
    let mut at = 12;
    while matches!(frame[at..at + 2], [0x81, 0] | [0x88, 0xa8]) {
        at += 4;
    }
    let ip = at + 2;
    if frame[ip] >> 4 == 4 {
        return (ip + usize::from(frame[ip] & 15) * 4, frame[ip + 9]);
    }
    let (mut at, mut next) = (ip + 40, frame[ip + 6]);
    while matches!(next, 0 | 43 | 60) {
        next = frame[at];
        at += (usize::from(frame[at + 1]) + 1) * 8;
    }
    (at, next)
}

/// A frame with equal values in the fields that may differ.
pub fn masked(mut frame: Vec<u8>) -> Vec<u8> {
    let (at, protocol) = transport(&frame);
    if protocol == 44 {
        frame[at + 4..at + 8].fill(0);
    }
    if protocol == 6 && frame[at + 16..at + 18] == [0xff; 2] {
        frame[at + 16..at + 18].fill(0);
    }
    frame
}
