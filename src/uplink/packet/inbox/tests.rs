//! The data beside a frame, as the kernel writes it and as it never should.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// The control message of a frame whose tag was taken out.
fn beside(level: i32, kind: i32, status: u32) -> Vec<u8> {
    let mut bytes = vec![0; BESIDE];
    let data = size_of::<libc::cmsghdr>();
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, &(data + size_of::<tpacket_auxdata>()).to_ne_bytes());
    put(offset_of!(libc::cmsghdr, cmsg_level), &level.to_ne_bytes());
    put(offset_of!(libc::cmsghdr, cmsg_type), &kind.to_ne_bytes());
    put(data + offset_of!(tpacket_auxdata, tp_status), &status.to_ne_bytes());
    put(data + offset_of!(tpacket_auxdata, tp_vlan_tci), &0x6005u16.to_ne_bytes());
    put(data + offset_of!(tpacket_auxdata, tp_vlan_tpid), &0x88a8u16.to_ne_bytes());
    bytes
}

#[test]
fn the_tag_stands_beside_the_frame() {
    let (level, kind) = (libc::SOL_PACKET, libc::PACKET_AUXDATA);
    let (valid, reported) = (libc::TP_STATUS_VLAN_VALID, libc::TP_STATUS_VLAN_TPID_VALID);
    assert_eq!(tag(&beside(level, kind, valid | reported)), Some(Tag::new(0x88a8, 0x6005)));
    // A kernel that does not report the kind.
    assert_eq!(tag(&beside(level, kind, valid)), Some(Tag::new(0x8100, 0x6005)));
    assert_eq!(tag(&beside(level, kind, reported)), None);
    assert_eq!(tag(&beside(libc::SOL_SOCKET, kind, valid)), None);
    assert_eq!(tag(&beside(level, 1, valid)), None);
    assert_eq!(tag(&[]), None);
}

proptest! {
    #[test]
    fn half_a_message_holds_no_tag(len in 0..BESIDE, status in any::<u32>()) {
        let whole = beside(libc::SOL_PACKET, libc::PACKET_AUXDATA, status);
        let end = size_of::<libc::cmsghdr>() + size_of::<tpacket_auxdata>();
        let found = tag(&whole[..len]);
        prop_assert_eq!(found.is_some(), len >= end && status & libc::TP_STATUS_VLAN_VALID != 0);
    }
}
