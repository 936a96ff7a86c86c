//! Software offloads, held against the kernel's.
//!
//! A frame that leaves work undone has one right outcome: the frames that the kernel makes of it.
//! So each stimulus (`testkit/src/offload_frames.rs`) is put to the kernel (offload/kernel.rs) as
//! it is, and to `offload::repair` for every set of offloads that a receiver may accept; what we
//! leave undone, because that receiver accepts it, is put to the kernel in turn. Both ways must
//! give the same bytes (offload/judge.rs).
//!
//! A test of its own describes each deliberate difference from the kernel (offload/apart.rs). What
//! can go wrong: this needs root, and a kernel with veth.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod apart;
mod judge;
mod kernel;
mod lies;

use judge::{finished, legal, masked, ours};
use kernel::Kernel;
use testkit::offload_frames::{self, ECN, Shape, TSO4, TSO6, UFO, USO};
use vhost_user_macvtap::net::feature;

/// All sets of {checksum, TSO4, TSO6, ECN, UFO, USO}, as features.
fn sets() -> impl Iterator<Item = u64> {
    let bits = [
        1 << feature::VIRTIO_NET_F_GUEST_CSUM,
        1 << feature::VIRTIO_NET_F_GUEST_TSO4,
        1 << feature::VIRTIO_NET_F_GUEST_TSO6,
        1 << feature::VIRTIO_NET_F_GUEST_ECN,
        1 << feature::VIRTIO_NET_F_GUEST_UFO,
        1 << feature::VIRTIO_NET_F_GUEST_USO4 | 1 << feature::VIRTIO_NET_F_GUEST_USO6,
    ];
    (0..64).map(move |set| {
        (0..6).filter(|at| set >> at & 1 == 1).fold(0, |features, at| features | bits[at])
    })
}

/// The kernel's fragments of a chain of extension headers are wrong: offload/apart.rs.
fn kernel_is_wrong(shape: &Shape) -> bool {
    shape.gso == UFO && !shape.chain.is_empty() && shape.data + 8 > usize::from(shape.size)
}

/// Compares both ways; the number of frames in the end.
fn compare(kernel: &mut Kernel, shape: &Shape, features: u64) -> usize {
    let (header, frame) = shape.build();
    let expected = kernel.ask(&header, &frame).unwrap_or_else(|e| panic!("{e}: {shape:?}"));
    assert!(!expected.is_empty(), "the kernel dropped it: {shape:?}");
    let expected: Vec<_> = expected.into_iter().map(masked).collect();
    let emitted = ours(&header, &frame, features)
        .unwrap_or_else(|error| panic!("{error:?}: {features:#x} {shape:?}"));
    for (header, _) in &emitted {
        assert!(legal(header, features), "{header:?} for {features:#x}: {shape:?}");
    }
    let frames: Vec<_> = finished(kernel, emitted).into_iter().map(masked).collect();
    let lengths = |frames: &[Vec<u8>]| frames.iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(lengths(&frames), lengths(&expected), "{features:#x} {shape:?}");
    for (number, (frame, expected)) in frames.iter().zip(&expected).enumerate() {
        let at = frame.iter().zip(expected).position(|(a, b)| a != b);
        assert_eq!(at, None, "byte of frame {number}: {features:#x} {shape:?}");
    }
    frames.len()
}

#[test]
fn every_set_of_offloads_ends_in_what_the_kernel_makes() {
    let mut kernel = Kernel::new();
    let (mut compared, mut cut) = (0, 0);
    for shape in offload_frames::all().into_iter().filter(|shape| !kernel_is_wrong(shape)) {
        for features in sets() {
            cut += usize::from(compare(&mut kernel, &shape, features) > 1);
            compared += 1;
        }
    }
    // The comparison is not empty.
    assert!(compared > 64 * 300 && cut > 64 * 150, "{compared} comparisons, {cut} of them cut");
}

#[test]
fn so_do_frames_of_any_size() {
    let mut kernel = Kernel::new();
    let mut state = 20_261_122u64;
    let mut below = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % limit
    };
    let tags: [&[u16]; 3] = [&[], &[0x8100], &[0x88a8, 0x8100]];
    for _ in 0..1500 {
        let (v6, tcp) = (below(2) == 1, below(2) == 1);
        let most = [50, 3000, 20_000, 65_000][below(4)];
        let data = below(most) + 1;
        let kind = match (tcp, v6) {
            (true, false) => [TSO4, TSO4 | ECN][below(2)],
            (true, true) => [TSO6, TSO6 | ECN][below(2)],
            (false, _) => [UFO, USO][below(2)],
        };
        // The kernel's bound: 128 datagrams. Linux sends UFO sizes that are multiples of 8 only.
        let spread = [100, 1500, 9000][below(3)];
        let size = data / 127 + 40 + below(spread);
        let size = if kind == UFO { size & !7 } else { size };
        let (tags, flags) = (tags[below(3)], below(256) as u8);
        let shape = Shape { tags, flags, ..Shape::new(v6, tcp, data) }.cut(kind, size as u16);
        for features in [0, 1 << feature::VIRTIO_NET_F_GUEST_CSUM] {
            compare(&mut kernel, &shape, features);
        }
    }
}

/// A word of the data is chosen so that the checksum of the first frame becomes 0. The bytes must
/// be the kernel's without any masking.
#[test]
fn a_checksum_of_zero_is_written_as_the_kernel_writes_it() {
    let mut kernel = Kernel::new();
    for (v6, tcp, kind, written) in [
        (false, true, 0, 0xffff),
        (true, true, 0, 0xffff),
        (false, false, 0, 0xffff),
        (true, false, 0, 0xffff),
        (false, true, TSO4, 0),
        (true, true, TSO6, 0),
        (false, false, USO, 0xffff),
        (true, false, USO, 0xffff),
        (false, false, UFO, 0xffff),
    ] {
        let size = if kind == 0 { 0 } else { 1000 };
        let shape = Shape::new(v6, tcp, 2500).cut(kind, size);
        let (header, mut frame) = shape.build();
        let (field, data) =
            if tcp { (shape.l4() + 16, shape.l4() + 20) } else { (shape.l4() + 6, shape.l4() + 8) };
        let checksum = kernel.ask(&header, &frame).unwrap()[0][field..field + 2].to_vec();
        let word = offload_frames::sum(&[&checksum, &frame[data..data + 2]].concat());
        frame[data..data + 2].copy_from_slice(&word.to_be_bytes());
        let theirs = kernel.ask(&header, &frame).unwrap();
        let ours: Vec<_> =
            ours(&header, &frame, 0).unwrap().into_iter().map(|(_, frame)| frame).collect();
        assert!(ours == theirs, "{shape:?}");
        let found = u16::from_be_bytes([ours[0][field], ours[0][field + 1]]);
        assert_eq!(found, written, "{shape:?}");
    }
}
