//! The rules that need no kernel: who takes what, headers as they pass, refusals, and no lie panics.
//! That the bytes are right is shown by tests/offload/main.rs.

use super::*;
use crate::net::feature;
use crate::net::ip::protocol::{TCP, UDP};
use crate::net::vnet_hdr::{
    HEADER, MAX_SEGMENTS, VIRTIO_NET_HDR_GSO_ECN, VIRTIO_NET_HDR_GSO_TCPV4,
    VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_HDR_GSO_UDP, VIRTIO_NET_HDR_GSO_UDP_L4, VnetHeader,
};
use crate::offload::packet::Packet;
use proptest::prelude::*;

fn bits(numbers: &[u32]) -> u64 {
    numbers.iter().fold(0, |all, number| all | 1 << number)
}

fn guest(numbers: &[u32]) -> Accepts {
    Accepts::of_guest(bits(numbers) | 1 << feature::VIRTIO_NET_F_GUEST_CSUM)
}

fn header(flags: u8, gso: u8, size: u16, start: u16, offset: u16) -> [u8; HEADER] {
    let mut bytes = VnetHeader::checksum(start, offset).to_le();
    [bytes[0], bytes[1]] = [flags, gso];
    bytes[4..6].copy_from_slice(&size.to_le_bytes());
    bytes
}

/// A UDP datagram (`v6` or not) of `data` bytes in a frame, the pseudo-header's sum in its field.
fn udp(v6: bool, data: usize) -> Vec<u8> {
    let length = ((8 + data) as u16).to_be_bytes();
    let mut frame = vec![2; 12];
    if v6 {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, length[0], length[1], UDP, 64]);
        frame.extend([1; 32]);
    } else {
        let total = ((28 + data) as u16).to_be_bytes();
        frame.extend([8, 0, 0x45, 0, total[0], total[1], 0xff, 0xff, 0x40, 0, 64, UDP, 0, 0]);
        frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    }
    frame.extend([0, 7, 0, 9, length[0], length[1], 0, 0]);
    frame.extend((0..data).map(|at| at as u8));
    let packet = Packet::parse(&frame).unwrap();
    let pseudo = packet.pseudo(&frame);
    frame[packet.l4 + 6..packet.l4 + 8].copy_from_slice(&pseudo.to_be_bytes());
    frame
}

type Emitted = Vec<([u8; HEADER], Vec<u8>, Vec<u8>)>;

fn repaired(
    header: &[u8; HEADER],
    frame: &[u8],
    accepts: Accepts,
) -> Result<Emitted, Unrepairable> {
    let mut out = Emitted::new();
    let result =
        repair(header, &mut frame.to_vec(), accepts, MAX_SEGMENTS, &mut |header, head, payload| {
            out.push((*header, head.to_vec(), payload.to_vec()));
        });
    match result {
        Ok(count) => assert_eq!(count, out.len()),
        Err(_) => assert!(out.is_empty(), "emitted before it was refused"),
    }
    result.map(|_| out)
}

#[test]
fn nothing_is_taken_without_checksums() {
    assert_eq!(Accepts::of_guest(!(1 << feature::VIRTIO_NET_F_GUEST_CSUM)), Accepts::NONE);
    assert_eq!(Accepts::of_guest(u64::MAX), Accepts::ALL);
    assert_eq!(guest(&[]), Accepts::CSUM);
}

#[test]
fn needs_are_read_from_the_header() {
    let tso = header(1, VIRTIO_NET_HDR_GSO_TCPV4, 1448, 34, 16);
    assert_eq!(need(&tso, guest(&[feature::VIRTIO_NET_F_GUEST_TSO4])), Need::Nothing);
    assert_eq!(need(&tso, guest(&[feature::VIRTIO_NET_F_GUEST_TSO6])), Need::Segments);
    let ecn = header(1, VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN, 1448, 34, 16);
    assert_eq!(need(&ecn, guest(&[feature::VIRTIO_NET_F_GUEST_TSO4])), Need::Segments);
    assert_eq!(
        need(&ecn, guest(&[feature::VIRTIO_NET_F_GUEST_TSO4, feature::VIRTIO_NET_F_GUEST_ECN])),
        Need::Nothing
    );
    let uso = header(1, VIRTIO_NET_HDR_GSO_UDP_L4, 1448, 34, 6);
    assert_eq!(need(&uso, guest(&[feature::VIRTIO_NET_F_GUEST_USO4])), Need::Segments);
    assert_eq!(
        need(&uso, guest(&[feature::VIRTIO_NET_F_GUEST_USO4, feature::VIRTIO_NET_F_GUEST_USO6])),
        Need::Nothing
    );
    assert_eq!(need(&uso, guest(&[feature::VIRTIO_NET_F_GUEST_UFO])), Need::Segments);
    assert_eq!(need(&header(1, 0, 0, 34, 6), Accepts::NONE), Need::Checksum);
    assert_eq!(need(&header(1, 0, 0, 34, 6), Accepts::CSUM), Need::Nothing);
    assert_eq!(need(&header(2, 0, 0, 0, 0), Accepts::NONE), Need::Nothing);
    for nonsense in [
        header(1, VIRTIO_NET_HDR_GSO_TCPV4, 0, 34, 16),
        header(1, VIRTIO_NET_HDR_GSO_TCPV4, 0xffff, 34, 16),
        header(1, 2, 1448, 34, 16),
        header(0, VIRTIO_NET_HDR_GSO_UDP_L4, 1448, 34, 6),
        header(1, VIRTIO_NET_HDR_GSO_ECN, 1448, 34, 16),
    ] {
        assert_eq!(need(&nonsense, Accepts::ALL), Need::Segments);
        let refused = repaired(&nonsense, &udp(false, 4000), Accepts::ALL);
        assert_eq!(refused.unwrap_err(), Unrepairable::Header);
    }
}

#[test]
fn a_header_passes_without_what_has_no_meaning() {
    let dirty = [0xff, 0, 9, 9, 9, 9, 34, 0, 6, 0, 1, 1];
    assert_eq!(pass(&dirty, Accepts::CSUM), [1, 0, 0, 0, 0, 0, 34, 0, 6, 0, 0, 0]);
    assert_eq!(pass(&[0xfe, 0, 9, 9, 9, 9, 34, 0, 6, 0, 1, 1], Accepts::ALL)[..2], [2, 0]);
    assert_eq!(pass(&[6, 0, 9, 9, 9, 9, 34, 0, 6, 0, 1, 1], Accepts::NONE), [0; HEADER]);
    let tso = [1, 1, 54, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0];
    assert_eq!(pass(&tso, Accepts::ALL), tso);
}

#[test]
fn uso_for_one_version_is_decided_by_the_frame() {
    let only4 = guest(&[feature::VIRTIO_NET_F_GUEST_USO4]);
    let (head4, head6) = (
        header(1, VIRTIO_NET_HDR_GSO_UDP_L4, 1000, 34, 6),
        header(1, VIRTIO_NET_HDR_GSO_UDP_L4, 1000, 54, 6),
    );
    let frames = repaired(&head4, &udp(false, 3500), only4).unwrap();
    assert_eq!((frames.len(), frames[0].0), (1, head4));
    assert_eq!(repaired(&head6, &udp(true, 3500), only4).unwrap().len(), 4);
}

#[test]
fn segmentation_without_a_checksum_gets_one() {
    let frame = udp(false, 3500);
    let ufo = header(0, VIRTIO_NET_HDR_GSO_UDP, 1000, 0, 0);
    assert_eq!(need(&ufo, Accepts::ALL), Need::Segments);
    let mut summed = frame.clone();
    summed[40..42].fill(0x55);
    let frames = repaired(&ufo, &summed, Accepts::ALL).unwrap();
    assert_eq!((frames.len(), frames[0].0), (1, header(1, VIRTIO_NET_HDR_GSO_UDP, 1000, 34, 6)));
    assert_eq!([&frames[0].1[..], &frames[0].2].concat(), frame);
}

#[test]
fn what_does_not_fit_is_refused() {
    let uso = header(1, VIRTIO_NET_HDR_GSO_UDP_L4, 1000, 34, 6);
    let good = udp(false, 3500);
    assert_eq!(repaired(&uso, &good, Accepts::NONE).unwrap().len(), 4);
    // A byte of the frame made wrong: header length, protocol.
    for (at, value) in [(14, 0x44), (14, 0x4f), (23, 6), (23, 1)] {
        let mut bad = good.clone();
        bad[at] = value;
        let refused = repaired(&uso, &bad, Accepts::NONE);
        assert_eq!(refused.unwrap_err(), Unrepairable::Packet, "{at} = {value}");
    }
    for len in 0..42 {
        assert!(repaired(&uso, &good[..len], Accepts::NONE).is_err());
    }
    for (start, offset) in [(33, 6), (35, 6), (34, 16), (0, 6), (65535, 6), (34, 65535)] {
        let refused = repaired(
            &header(1, VIRTIO_NET_HDR_GSO_UDP_L4, 1000, start, offset),
            &good,
            Accepts::NONE,
        );
        assert_eq!(refused.unwrap_err(), Unrepairable::Packet);
    }
    for kind in [VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6] {
        assert!(repaired(&header(1, kind, 1000, 34, 6), &good, Accepts::NONE).is_err());
    }
    // One byte beyond the frame.
    let last = good.len() as u16;
    assert!(repaired(&header(1, 0, 0, last - 2, 0), &good, Accepts::NONE).is_ok());
    assert!(repaired(&header(1, 0, 0, last - 2, 1), &good, Accepts::NONE).is_err());
    assert!(repaired(&header(1, 0, 0, last, 0), &good, Accepts::NONE).is_err());
    assert!(repaired(&header(1, 0, 0, 13, 0), &good, Accepts::NONE).is_err());
}

/// Windows writes no UDP length, and no length into the sum; others write a piece's. Such a frame could not be
/// repaired, and was given as it was to a receiver that takes USO.
#[test]
fn bug_b2_a_wrong_udp_length_is_put_right_for_every_receiver() {
    let good = udp(false, 3500);
    let uso = header(1, VIRTIO_NET_HDR_GSO_UDP_L4, 1000, 34, 6);
    let right = repaired(&uso, &good, Accepts::NONE).unwrap();
    for told in [0u16, 1008, 8, 3, 0xffff] {
        let mut frame = good.clone();
        frame[38..40].copy_from_slice(&told.to_be_bytes());
        let pseudo = u16::from_be_bytes([good[40], good[41]]);
        let pseudo = crate::net::checksum::replaced(pseudo, 3508, told);
        frame[40..42].copy_from_slice(&pseudo.to_be_bytes());
        assert_eq!(repaired(&uso, &frame, Accepts::NONE).unwrap(), right, "{told}");
        let mut marked = uso;
        mark_length(&mut marked, frame.len(), |at| [frame[at], frame[at + 1]]);
        assert_eq!(need(&marked, Accepts::ALL), Need::Segments, "{told}");
        assert_eq!(repaired(&marked, &frame, Accepts::ALL).unwrap().len(), 4, "{told}");
        assert_eq!(pass(&marked, Accepts::ALL), uso);
    }
    let mut marked = uso;
    mark_length(&mut marked, good.len(), |at| [good[at], good[at + 1]]);
    assert_eq!(marked, uso, "an honest frame is not marked");
}

#[test]
fn tiny_pieces_are_refused() {
    let frame = udp(false, 65_000);
    for kind in [VIRTIO_NET_HDR_GSO_UDP, VIRTIO_NET_HDR_GSO_UDP_L4] {
        let refused = repaired(&header(1, kind, 31, 34, 6), &frame, Accepts::NONE);
        assert_eq!(refused.unwrap_err(), Unrepairable::Pieces);
        assert!(repaired(&header(1, kind, 32, 34, 6), &frame, Accepts::NONE).is_ok());
    }
    let refused =
        repaired(&header(1, VIRTIO_NET_HDR_GSO_UDP, 7, 34, 6), &udp(false, 100), Accepts::NONE);
    assert_eq!(refused.unwrap_err(), Unrepairable::Pieces);
}

#[test]
fn long_chains_are_refused() {
    // Destination options of 2048 bytes, the longest there are.
    let mut frame = udp(true, 3000);
    frame[20] = 60;
    let options = [&[UDP, 255][..], &[0; 2046]].concat();
    frame.splice(54..54, options);
    let length = (2048 + 3008u16).to_be_bytes();
    frame[18..20].copy_from_slice(&length);
    let refused =
        repaired(&header(1, VIRTIO_NET_HDR_GSO_UDP_L4, 1000, 2102, 6), &frame, Accepts::NONE);
    assert!(refused.is_err());
}

/// Something that looks like a frame, so that lies are found behind the first check too.
fn almost_a_frame() -> impl Strategy<Value = ([u8; HEADER], Vec<u8>)> {
    let lies = prop::collection::vec((0usize..90, any::<u8>()), 0..4);
    let kinds = prop::sample::select(vec![0, 1, 3, 4, 5, 0x81, 0x84]);
    let tags = prop::sample::select(vec![0usize, 4, 8, 12]);
    (any::<bool>(), kinds, 0u16..4000, 0usize..9000, tags, lies, any::<bool>()).prop_map(
        |(v6, gso, size, data, tags, lies, partial)| {
            let mut frame = udp(v6, data);
            let l4 = if v6 { 54 } else { 34 };
            let tcp = gso & 0x7f == 1 || gso & 0x7f == 4;
            if tcp {
                frame[if v6 { 20 } else { 23 }] = TCP;
                if let Some(offset) = frame.get_mut(l4 + 12) {
                    *offset = 0x80;
                }
            }
            let tag: Vec<u8> = [0x81, 0, 0, 5].into_iter().cycle().take(tags).collect();
            frame.splice(12..12, tag);
            for (at, value) in lies {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            let start = (l4 + tags) as u16;
            (header(partial.into(), gso, size, start, if tcp { 16 } else { 6 }), frame)
        },
    )
}

fn bounded(header: &[u8; HEADER], frame: &[u8], features: u64) -> Result<(), TestCaseError> {
    let accepts = Accepts::of_guest(features);
    let Ok(frames) = repaired(header, frame, accepts) else { return Ok(()) };
    let size = usize::from(u16::from_le_bytes([header[4], header[5]])).max(1);
    prop_assert!(!frames.is_empty() && frames.len() <= MAX_SEGMENTS);
    if frames.len() > 1 {
        prop_assert!(
            frames.len() <= frame.len().div_ceil((size & !7).max(1)).max(frame.len() / size + 1)
        );
        prop_assert!(frames.iter().all(|(_, _, payload)| payload.len() <= size));
    }
    let payload: usize = frames.iter().map(|(_, _, payload)| payload.len()).sum();
    prop_assert!(payload <= frame.len());
    for (header, head, _) in &frames {
        prop_assert!(head.len() <= HEAD);
        // The output needs no more repair. The header of a USO frame does not say whether it is
        // IPv4 or IPv6, so every such frame is inspected for a receiver of only one.
        let one_uso = (features >> 54 & 1) != (features >> 55 & 1);
        if header[1] != 5 || !one_uso {
            prop_assert_eq!(need(header, accepts), Need::Nothing);
        }
        prop_assert_eq!(pass(header, accepts), *header);
    }
    Ok(())
}

proptest! {
    #[test]
    fn random_bytes_do_no_harm(
        header: [u8; HEADER], frame in prop::collection::vec(any::<u8>(), 0..400), features: u64
    ) {
        bounded(&header, &frame, features)?;
    }

    #[test]
    fn small_lies_do_no_harm((header, frame) in almost_a_frame(), features: u64) {
        bounded(&header, &frame, features)?;
        bounded(&header, &frame, 0)?;
        bounded(&header, &frame, 1 << feature::VIRTIO_NET_F_GUEST_CSUM)?;
    }
}
