//! Frames as the kernel hands them over, and as it never should.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::net::vnet_hdr::LEGACY_HEADER;

const KIND: u16 = 0x88a8;
const TCI: u16 = 0x6005;

/// A place with a header and a frame in it.
fn place(header: [u8; LEGACY_HEADER], frame: &[u8]) -> Vec<u8> {
    [&header[..], frame].concat()
}

fn header(flags: u8, hdr_len: u16, csum_start: u16, csum_offset: u16) -> [u8; LEGACY_HEADER] {
    let mut header = [flags, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[2..4].copy_from_slice(&hdr_len.to_ne_bytes());
    header[6..8].copy_from_slice(&csum_start.to_ne_bytes());
    header[8..10].copy_from_slice(&csum_offset.to_ne_bytes());
    header
}

fn bytes() -> Vec<u8> {
    (0..100).collect()
}

fn received(place: &mut [u8], tag: Option<Tag>) -> Received<'_> {
    match read(place, true, tag) {
        FrameRead::Frame(received) => received,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_plain_frame_is_passed_as_it_is() {
    let mut place = place([0; LEGACY_HEADER], &bytes());
    let found = received(&mut place, None);
    assert_eq!((&*found.head, found.body), bytes().split_at(14));
    assert_eq!((found.header, found.len()), ([0; 12], 100));
}

#[test]
fn the_tag_returns_and_what_counts_from_the_start_moves() {
    let mut tagged = place(header(1, 54, 34, 16), &bytes());
    let found = received(&mut tagged, Some(Tag::new(KIND, TCI)));
    assert_eq!(*found.head, [&bytes()[..12], &[0x88, 0xa8, 0x60, 5], &[12, 13]].concat());
    assert_eq!(found.header, [1, 0, 58, 0, 0, 0, 38, 0, 16, 0, 0, 0]);
    assert_eq!(found.len(), 104);
    // An unknown header length stays unknown, and nothing to complete stays nothing.
    let mut plain = place([0; LEGACY_HEADER], &bytes());
    assert_eq!(received(&mut plain, Some(Tag::new(0x8100, 7))).header, [0; 12]);
}

#[test]
fn what_is_no_whole_frame_is_not_passed() {
    let mut cut = place([0; LEGACY_HEADER], &bytes());
    assert!(matches!(read(&mut cut, false, None), FrameRead::Truncated));
    let mut runt = place([0; LEGACY_HEADER], &bytes()[..13]);
    assert!(matches!(read(&mut runt, true, None), FrameRead::Unusable));
    let mut beyond = place(header(1, 0, 90, 9), &bytes());
    assert!(matches!(read(&mut beyond, true, None), FrameRead::Unusable));
    received(&mut place(header(1, 0, 90, 7), &bytes()), None);
}

#[test]
fn sctp_is_completed_here() {
    let mut place = place(header(1, 0, 34, 8), &bytes());
    let found = received(&mut place, None);
    assert_eq!(found.header, [0; 12]);
    let mut packet = bytes()[34..].to_vec();
    sctp::complete(&mut packet).unwrap();
    assert_eq!(found.body[20..], packet);
}

proptest! {
    #[test]
    fn nothing_in_a_place_breaks_it(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..512),
        low in any::<bool>(),
        tagged in any::<bool>(),
    ) {
        if low && bytes.len() > 9 {
            // A checksum that may be inside.
            (bytes[7], bytes[9]) = (0, 0);
        }
        let size = bytes.len();
        if let FrameRead::Frame(found) = read(&mut bytes, true, tagged.then(|| Tag::new(KIND, TCI))) {
            prop_assert_eq!(found.len(), size - LEGACY_HEADER + if tagged { TAG } else { 0 });
            let start = u16::from_le_bytes([found.header[6], found.header[7]]);
            let offset = u16::from_le_bytes([found.header[8], found.header[9]]);
            if found.header[0] & 1 != 0 {
                prop_assert!(usize::from(start) + usize::from(offset) + 2 <= found.len());
            }
        }
    }
}
