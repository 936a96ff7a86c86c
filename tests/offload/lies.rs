//! Frames with wrong lengths: our result is the kernel's, for each of them.

use vhost_user_macvtap::net::feature;

use super::judge::{finished, masked, ours};
use super::kernel::Kernel;
use testkit::offload_frames::{ECN, Shape, Stimulus, TSO4, TSO6, UFO, USO, sum};

/// A wrong length: changes a frame whose IP header and TCP or UDP header begin here.
type Lie = fn(&mut Stimulus, ip: usize, l4: usize);

fn put((_, frame): &mut Stimulus, at: usize, value: u16) {
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// The UDP length, with a begun sum that holds the same.
fn udp_length(stimulus: &mut Stimulus, l4: usize, told: u16) {
    let word = |at: usize| [stimulus.1[at], stimulus.1[at + 1]];
    let not = (!u16::from_be_bytes(word(l4 + 4))).to_be_bytes();
    let begun = sum(&[word(l4 + 6), not, told.to_be_bytes()].concat());
    put(stimulus, l4 + 4, told);
    put(stimulus, l4 + 6, begun);
}

const OF_IPV4: &[Lie] = &[
    |s, ip, _| put(s, ip + 2, 0),
    |s, ip, _| put(s, ip + 2, 1440),
    |s, ip, _| put(s, ip + 2, 20),
    |s, ip, _| put(s, ip + 2, 0xffff),
    |s, ip, _| put(s, ip + 6, 0x2000),
    |s, ip, _| put(s, ip + 6, 0x00b9),
];
const OF_IPV6: &[Lie] = &[
    |s, ip, _| put(s, ip + 4, 0),
    |s, ip, _| put(s, ip + 4, 1420),
    |s, ip, _| put(s, ip + 4, 0xffff),
];
const OF_UDP: &[Lie] = &[
    |s, _, l4| udp_length(s, l4, 0),
    |s, _, l4| udp_length(s, l4, 1408),
    |s, _, l4| udp_length(s, l4, 7),
    |s, _, l4| udp_length(s, l4, 0xffff),
    |s, _, l4| put(s, l4 + 4, 0),
    |s, _, l4| put(s, l4 + 6, 0x1234),
];
const OF_BOTH: &[Lie] = &[
    |s, _, _| s.0[2..4].fill(0),
    |s, _, _| s.0[2] = 1,
    |s, _, _| s.1.extend([0xee; 6]),
    |s, _, _| s.1.truncate(s.1.len() - 1000),
];

#[test]
fn bug_b2_every_lie_about_a_length_ends_in_what_the_kernel_makes() {
    let mut kernel = Kernel::new();
    let csum = 1 << feature::VIRTIO_NET_F_GUEST_CSUM;
    let sets = [
        0,
        csum,
        csum | 1 << feature::VIRTIO_NET_F_GUEST_TSO4 | 1 << feature::VIRTIO_NET_F_GUEST_TSO6,
        u64::MAX,
    ];
    let (mut compared, mut refused) = (0, 0);
    for (v6, tcp, gso) in [
        (false, true, TSO4),
        (false, true, TSO4 | ECN),
        (true, true, TSO6),
        (true, true, TSO6 | ECN),
        (false, false, USO),
        (true, false, USO),
        (false, false, UFO),
        (true, false, UFO),
        (false, false, UFO | ECN),
    ] {
        for tags in [&[][..], &[0x8100], &[0x88a8, 0x8100], &[0x8100; 3], &[0x8100; 7]] {
            let shape = Shape { tags, ..Shape::new(v6, tcp, 5000) }.cut(gso, 1400);
            let ip = if v6 { OF_IPV6 } else { OF_IPV4 };
            let lies = [ip, if tcp { &[] } else { OF_UDP }, OF_BOTH].concat();
            for (number, lie) in lies.into_iter().enumerate() {
                let mut stimulus = shape.build();
                lie(&mut stimulus, 14 + 4 * tags.len(), shape.l4());
                let (header, frame) = stimulus;
                let what = format!("lie {number} of {shape:?}");
                let Ok(expected) = kernel.ask(&header, &frame) else {
                    refused += 1;
                    continue;
                };
                let expected: Vec<_> = expected.into_iter().map(masked).collect();
                for features in sets {
                    let ours = ours(&header, &frame, features).expect(&what);
                    let ours = finished(&mut kernel, ours).into_iter().map(masked);
                    assert!(ours.eq(expected.iter().cloned()), "{features:#x}: {what}");
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 1500, "{compared} compared, {refused} refused by the kernel");
}
