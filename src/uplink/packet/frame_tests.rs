//! Entries as the kernel makes them, and as it never should.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// Where the frame stands in the entries made here.
const AT: usize = 96;
const USER: u32 = libc::TP_STATUS_USER;
const VLAN: u32 = USER | libc::TP_STATUS_VLAN_VALID | libc::TP_STATUS_VLAN_TPID_VALID;

fn put(block: &mut [u8], at: usize, bytes: &[u8]) {
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

/// A block with one entry at its start.
fn block(status: u32, header: [u8; 10], frame: &[u8]) -> Vec<u8> {
    let mut block = vec![0xee; 4096];
    let length = (frame.len() as u32).to_ne_bytes();
    put(&mut block, NEXT, &0u32.to_ne_bytes());
    put(&mut block, SNAPPED, &length);
    put(&mut block, LENGTH, &length);
    put(&mut block, STATUS, &status.to_ne_bytes());
    put(&mut block, MAC, &(AT as u16).to_ne_bytes());
    put(&mut block, HASH, &77u32.to_ne_bytes());
    put(&mut block, TCI, &0x6005u32.to_ne_bytes());
    put(&mut block, TPID, &0x88a8u16.to_ne_bytes());
    put(&mut block, AT - 10, &header);
    put(&mut block, AT, frame);
    block
}

fn header(flags: u8, hdr_len: u16, csum_start: u16, csum_offset: u16) -> [u8; 10] {
    let mut header = [flags, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[2..4].copy_from_slice(&hdr_len.to_ne_bytes());
    header[6..8].copy_from_slice(&csum_start.to_ne_bytes());
    header[8..10].copy_from_slice(&csum_offset.to_ne_bytes());
    header
}

fn frame() -> Vec<u8> {
    (0..100).collect()
}

fn received(block: &mut [u8]) -> Received<'_> {
    match entry(block, 0).0 {
        Entry::Frame(received) => received,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_plain_frame_is_passed_as_it_is() {
    let mut block = block(USER, [0; 10], &frame());
    let found = received(&mut block);
    assert_eq!((&*found.head, found.body), frame().split_at(14));
    assert_eq!((found.header, found.hash, found.len()), ([0; 12], 77, 100));
}

#[test]
fn the_tag_returns_and_what_counts_from_the_start_moves() {
    let mut tagged = block(VLAN, header(1, 54, 34, 16), &frame());
    let found = received(&mut tagged);
    assert_eq!(*found.head, [&frame()[..12], &[0x88, 0xa8, 0x60, 5], &[12, 13]].concat());
    assert_eq!(found.header, [1, 0, 58, 0, 0, 0, 38, 0, 16, 0, 0, 0]);
    assert_eq!(found.len(), 104);
    // An unknown header length stays unknown, and nothing to complete stays nothing.
    let mut plain = block(VLAN, [0; 10], &frame());
    assert_eq!(received(&mut plain).header, [0; 12]);
    // A kernel that does not tell the kind.
    let old = VLAN & !libc::TP_STATUS_VLAN_TPID_VALID;
    assert_eq!(received(&mut block(old, [0; 10], &frame())).head[12..14], [0x81, 0]);
}

#[test]
fn what_is_no_whole_frame_is_not_passed() {
    // Reserved, but never completed: the rest is an old frame.
    let mut stale = block(0, [0; 10], &frame());
    assert!(matches!(entry(&mut stale, 0).0, Entry::Void));
    let mut snapped = block(USER, [0; 10], &frame());
    put(&mut snapped, LENGTH, &5000u32.to_ne_bytes());
    assert!(matches!(entry(&mut snapped, 0).0, Entry::Truncated));
    let mut runt = block(USER, [0; 10], &frame()[..13]);
    assert!(matches!(entry(&mut runt, 0).0, Entry::Unusable));
    let unready = USER | libc::TP_STATUS_CSUMNOTREADY;
    assert!(matches!(entry(&mut block(unready, [0; 10], &frame()), 0).0, Entry::Unusable));
    let beyond = header(1, 0, 90, 9);
    assert!(matches!(entry(&mut block(unready, beyond, &frame()), 0).0, Entry::Unusable));
    received(&mut block(unready, header(1, 0, 90, 7), &frame()));
}

#[test]
fn sctp_is_completed_here() {
    let mut block = block(USER, header(1, 0, 34, 8), &frame());
    let found = received(&mut block);
    assert_eq!(found.header, [0; 12]);
    let mut packet = frame()[34..].to_vec();
    sctp::complete(&mut packet).unwrap();
    assert_eq!(found.body[20..], packet);
}

#[test]
fn entries_lead_on_only_to_what_can_be_one() {
    let mut block = block(USER, [0; 10], &frame());
    for (next, step) in [(0, None), (47, None), (48, Some(48)), (4095, Some(4095)), (4096, None)] {
        put(&mut block, NEXT, &u32::to_ne_bytes(next));
        assert_eq!(entry(&mut block, 0).1, step);
    }
    assert!(matches!(entry(&mut block, 4096 + 1), (Entry::Unusable, None)));
}

proptest! {
    #[test]
    fn nothing_in_a_block_breaks_it(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..512),
        at in 0..600usize,
        status in any::<u32>(),
        mac in 0..300u16,
        length in 0..300u32,
        plausible in any::<bool>(),
    ) {
        if plausible && bytes.len() >= at + 48 {
            put(&mut bytes, at + STATUS, &(status | USER).to_ne_bytes());
            put(&mut bytes, at + MAC, &mac.to_ne_bytes());
            put(&mut bytes, at + SNAPPED, &length.to_ne_bytes());
            put(&mut bytes, at + LENGTH, &length.to_ne_bytes());
        }
        let (size, base) = (bytes.len(), at);
        let (found, step) = entry(&mut bytes, at);
        if let Entry::Frame(found) = found {
            prop_assert!(found.len() <= size - base + 4);
            let start = u16::from_le_bytes([found.header[6], found.header[7]]);
            let offset = u16::from_le_bytes([found.header[8], found.header[9]]);
            if found.header[0] & 1 != 0 {
                prop_assert!(usize::from(start) + usize::from(offset) + 2 <= found.len());
            }
        }
        prop_assert!(step.is_none_or(|step| step >= 48 && at + step < size));
    }
}
