//! The cases in which we differ from the kernel, or in which both refuse.
//!
//! Each test pins down the kernel's behaviour (6.18), so that a difference is known and not
//! guessed; if a later kernel behaves otherwise, the test fails. The kernel refuses with EINVAL
//! when it reads the header, and with ENOMEM when cutting fails (net/core/dev.c,
//! `__dev_queue_xmit`: the error of a frame that produced no frames).

use vhost_user_macvtap::net::feature;
use vhost_user_macvtap::offload::Unrepairable;

use super::judge::{Emitted, finished, legal, masked, ours, transport};
use super::kernel::Kernel;
use testkit::offload_frames::{
    DESTINATION, ECN, HOP_BY_HOP, ROUTING, Shape, Stimulus, TSO4, TSO6, UFO, USO, sum,
};

const EINVAL: i32 = libc::EINVAL;
const ENOMEM: i32 = libc::ENOMEM;

fn frames(emitted: Result<Emitted, Unrepairable>) -> Vec<Vec<u8>> {
    emitted.unwrap().into_iter().map(|(_, frame)| masked(frame)).collect()
}

/// The same frame with one byte of the header or of the frame changed.
fn spoilt(
    (mut header, mut frame): Stimulus,
    header_at: Option<usize>,
    at: usize,
    to: u8,
) -> Stimulus {
    match header_at {
        Some(at) => header[at] = to,
        None => frame[at] = to,
    }
    (header, frame)
}

#[test]
fn both_refuse_what_makes_no_sense() {
    let mut kernel = Kernel::new();
    let tcp4 = || Shape::new(false, true, 2500);
    let udp4 = || Shape::new(false, false, 2500);
    let tso4 = || tcp4().cut(TSO4, 1000).build();
    for ((header, frame), theirs, mine) in [
        (tcp4().cut(TSO4, 0).build(), EINVAL, Unrepairable::Header),
        (tcp4().cut(TSO4, 0xffff).build(), EINVAL, Unrepairable::Header),
        (tcp4().cut(2, 1000).build(), EINVAL, Unrepairable::Header),
        (udp4().cut(USO | ECN, 1000).build(), EINVAL, Unrepairable::Header),
        // USO needs the checksum left undone, unlike TCP and UFO.
        (Shape { partial: false, ..udp4() }.cut(USO, 1000).build(), EINVAL, Unrepairable::Header),
        (tcp4().cut(TSO6, 1000).build(), EINVAL, Unrepairable::Packet),
        (tcp4().cut(USO, 1000).build(), EINVAL, Unrepairable::Packet),
        (udp4().cut(TSO4, 1000).build(), EINVAL, Unrepairable::Packet),
        (spoilt(tso4(), Some(8), 0, 6), EINVAL, Unrepairable::Packet),
        (Shape::new(true, true, 2500).cut(TSO4, 1000).build(), ENOMEM, Unrepairable::Packet),
        (tcp4().cut(UFO, 1000).build(), ENOMEM, Unrepairable::Packet),
        (spoilt(tso4(), Some(6), 0, 38), ENOMEM, Unrepairable::Packet),
    ] {
        let frame_start = &frame[..40];
        assert_eq!(kernel.ask(&header, &frame), Err(theirs), "{header:?} {frame_start:?}");
        assert_eq!(ours(&header, &frame, 0).unwrap_err(), mine, "{header:?} {frame_start:?}");
    }
}

/// The kernel looks at few things in a frame that it cuts, and so do we: a fragment, a total length
/// beyond the frame, a UDP length that is too small, UFO with a checksum begun in the middle of
/// nowhere or with ECN, three tags.
#[test]
fn both_cut_blindly() {
    let mut kernel = Kernel::new();
    let tso4 = || Shape::new(false, true, 2500).cut(TSO4, 1000).build();
    let udp = |kind| Shape::new(false, false, 2500).cut(kind, 1000).build();
    let tags = &[0x88a8, 0x8100, 0x8100];
    for (header, frame) in [
        spoilt(tso4(), None, 20, 0x20),
        spoilt(tso4(), None, 16, 0x7f),
        spoilt(udp(USO), None, 38, 1),
        spoilt(udp(UFO), Some(8), 0, 16),
        spoilt(udp(UFO), Some(1), 0, UFO | ECN),
        Shape { tags, ..Shape::new(false, true, 2500) }.cut(TSO4, 1000).build(),
    ] {
        let theirs = kernel.ask(&header, &frame).unwrap();
        assert!(theirs.len() >= 3);
        assert!(theirs.into_iter().map(masked).eq(frames(ours(&header, &frame, 0))), "{header:?}");
    }
}

/// 3000 segments of one frame would cost the other tenants too much.
#[test]
fn we_refuse_very_many_segments() {
    let mut kernel = Kernel::new();
    let (header, frame) = Shape::new(false, true, 60_000).cut(TSO4, 20).build();
    assert!(kernel.ask(&header, &frame).unwrap().len() > 900);
    assert_eq!(ours(&header, &frame, 0).unwrap_err(), Unrepairable::Pieces);
}

/// `virtio_net_hdr_to_skb` drops the segmentation of a frame that has no more than one segment, but
/// counts the TCP header as 20 bytes. With options there is a gap, where `tcp_gso_segment` then
/// finds nothing to cut and fails. For us it is one frame.
#[test]
fn tcp_options_do_not_make_a_frame_longer_than_it_is() {
    let mut kernel = Kernel::new();
    let tcp_options = &[1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8];
    for (data, theirs) in [(988, true), (989, false), (1000, false), (1001, true)] {
        let shape = Shape { tcp_options, ..Shape::new(false, true, data) };
        let (header, frame) = shape.clone().cut(TSO4, 1000).build();
        let ours = frames(ours(&header, &frame, 0));
        assert_eq!(ours.len(), if data > 1000 { 2 } else { 1 });
        match kernel.ask(&header, &frame) {
            Ok(frames) => assert!(theirs && frames.into_iter().map(masked).eq(ours)),
            Err(error) => {
                assert!(!theirs && error == ENOMEM);
                let (header, frame) = shape.build();
                let plain = kernel.ask(&header, &frame).unwrap();
                assert!(plain.into_iter().map(masked).eq(ours));
            }
        }
    }
}

/// Without NEEDS_CSUM the kernel sets the sum of TCP and UFO itself, and so do we. In a tagged
/// frame it does not find TCP or UDP (`virtio_net_hdr_to_skb` has to search for it then) and
/// refuses: there we do as in an untagged one. A receiver that takes the whole gets a checksum to
/// complete with it.
#[test]
fn a_checksum_is_made_where_none_was_begun() {
    let mut kernel = Kernel::new();
    for (v6, tcp, kind) in
        [(false, true, TSO4), (true, true, TSO6), (false, false, UFO), (true, false, UFO)]
    {
        for data in [500, 2500] {
            let shape = |tags| Shape { partial: false, tags, ..Shape::new(v6, tcp, data) };
            let (header, frame) = shape(&[]).cut(kind, 1000).build();
            let plain = frames(ours(&header, &frame, 0));
            let theirs = kernel.ask(&header, &frame).unwrap();
            assert!(theirs.into_iter().map(masked).eq(plain.clone()));
            for features in [1 << feature::VIRTIO_NET_F_GUEST_CSUM, u64::MAX] {
                let mine = ours(&header, &frame, features).unwrap();
                let whole = |header: &[u8; 12]| header[1] == 0 || header[0] == 1;
                assert!(mine.iter().all(|(h, _)| legal(h, features) && whole(h)));
                assert!(finished(&mut kernel, mine).into_iter().map(masked).eq(plain.clone()));
            }
            let (header, frame) = shape(&[0x8100]).cut(kind, 1000).build();
            assert_eq!(kernel.ask(&header, &frame), Err(EINVAL));
            let mut tagged = frames(ours(&header, &frame, 0));
            for frame in &mut tagged {
                assert_eq!(frame.drain(12..16).as_slice(), [0x81, 0, 0x20, 5]);
            }
            assert_eq!(tagged, plain);
        }
    }
}

/// More than UDP_MAX_SEGMENTS: a kernel's own bound, which a guest need not know.
#[test]
fn uso_may_be_long() {
    let mut kernel = Kernel::new();
    for (data, theirs) in [(128 * 100, true), (128 * 100 + 1, false)] {
        let (header, frame) = Shape::new(false, false, data).cut(USO, 100).build();
        assert_eq!(ours(&header, &frame, 0).unwrap().len(), data.div_ceil(100));
        assert_eq!(kernel.ask(&header, &frame).is_ok(), theirs);
    }
}

/// The kernel would put a remainder of 8 into the offsets, where it is lost.
#[test]
fn ufo_sizes_are_rounded_down() {
    let mut kernel = Kernel::new();
    let (header, frame) = Shape::new(false, false, 2500).cut(UFO, 1007).build();
    let (even, _) = Shape::new(false, false, 2500).cut(UFO, 1000).build();
    let theirs = kernel.ask(&even, &frame).unwrap();
    assert!(theirs.into_iter().map(masked).eq(frames(ours(&header, &frame, 0))));
}

/// `ipv6_gso_segment` takes the extension headers in front of the fragment header for payload: with
/// 8 bytes of them, every offset is 8 too large for each fragment before it. And it copies
/// destination options behind a routing header, which must be in the first fragment, into all.
#[test]
fn ipv6_fragments_have_the_right_offsets_behind_extension_headers() {
    let mut kernel = Kernel::new();
    let chains: [(&[_], usize); 5] = [
        (&[HOP_BY_HOP], 8),
        (&[DESTINATION], 8),
        (&[ROUTING], 16),
        (&[ROUTING, DESTINATION], 24),
        (&[HOP_BY_HOP, DESTINATION, ROUTING, DESTINATION], 40),
    ];
    for (chain, wrong) in chains {
        let shape = Shape { chain, tags: &[0x8100], ..Shape::new(true, false, 2500) };
        let (header, frame) = shape.clone().cut(UFO, 1000).build();
        let offsets = |frames: &[Vec<u8>]| -> Vec<usize> {
            let word = |frame: &Vec<u8>, at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
            frames.iter().map(|frame| (word(frame, transport(frame).0 + 2) & !7).into()).collect()
        };
        let theirs = kernel.ask(&header, &frame).unwrap();
        assert_eq!(offsets(&theirs), [0, 1000 + wrong, 2 * (1000 + wrong)]);
        let mine = frames(ours(&header, &frame, 0));
        assert_eq!(offsets(&mine), [0, 1000, 2000]);
        // Put together again, it equals the kernel's frame for the same datagram uncut.
        let (at, next) = (transport(&mine[0]).0, mine[0][transport(&mine[0]).0]);
        let together: Vec<u8> = mine.iter().flat_map(|f| f[at + 8..].iter().copied()).collect();
        let (header, frame) = shape.build();
        let whole = &kernel.ask(&header, &frame).unwrap()[0];
        assert_eq!(&whole[at..], together);
        // The headers before it differ in the length and in one next-header byte.
        assert_eq!(next, if matches!(chain, [.., ROUTING, DESTINATION]) { 60 } else { 17 });
        let differ = whole[..at].iter().zip(&mine[0][..at]).filter(|(a, b)| a != b).count();
        assert!((2..=3).contains(&differ), "{differ}");
        let l4 = &whole[Shape { chain, tags: &[0x8100], ..Shape::new(true, false, 0) }.l4()..];
        let length = (l4.len() as u16).to_be_bytes();
        let addresses = &whole[18 + 8..18 + 40];
        assert_eq!(sum(&[addresses, &length, &[0, 17], l4].concat()), 0xffff);
    }
}
