//! VLAN tags in front of a frame's type, of every kind and any number.
//!
//! A tag is four bytes in the place of the type: its own kind, and 16 bits of tag control information
//! (TCI), of which 12 are the VLAN. The type, or another tag, follows. Two kinds are standard, 802.1Q
//! and 802.1ad. Switches used three more for the outer one of two tags before 802.1ad. The kernel
//! forwards all of them alike, and so does this program.
//!
//! What can go wrong: a frame may be nothing but tags. At most [`MAX_TAGS`] are looked at, twice as many
//! as the kernel looks at (`VLAN_MAX_DEPTH`); the type behind them is then not known.

use crate::net::bytes::be16;
use crate::net::ethertype;

/// Length of a tag, in bytes.
pub const TAG: usize = 4;
/// Most tags that are looked at.
pub const MAX_TAGS: usize = 16;
/// The bits of a TCI that are the VLAN.
const VID: u16 = 0xfff;

/// A tag as it stands in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(pub [u8; TAG]);

impl Tag {
    /// A tag of this kind with this TCI.
    pub fn new(kind: u16, tci: u16) -> Tag {
        let ([a, b], [c, d]) = (kind.to_be_bytes(), tci.to_be_bytes());
        Tag([a, b, c, d])
    }
}

/// Whether this type says that a tag follows.
#[inline]
pub fn is_tag(kind: u16) -> bool {
    use ethertype::{C_TAG, QINQ1, QINQ2, QINQ3, S_TAG};
    matches!(kind, C_TAG | S_TAG | QINQ1 | QINQ2 | QINQ3)
}

/// The VLAN of the outermost tag, whose TCI `behind` begins with. 0 is no VLAN: such a tag has only a
/// priority.
pub fn vid(behind: &[u8]) -> Option<u16> {
    be16(behind, 0).map(|tci| tci & VID)
}

/// What stands behind the tags: the type there, and what follows it. `ethertype` is the outermost type and
/// `behind` what follows that. Where the bytes end early, the type is the last one found.
pub fn inner(ethertype: u16, behind: &[u8]) -> (u16, &[u8]) {
    let (mut ethertype, mut rest) = (ethertype, behind);
    for _ in 0..MAX_TAGS {
        let Some((&[_, _, high, low], later)) = rest.split_first_chunk::<TAG>() else { break };
        if !is_tag(ethertype) {
            break;
        }
        (ethertype, rest) = (u16::from_be_bytes([high, low]), later);
    }
    (ethertype, rest)
}

/// How many tags there are, as far as they are looked at.
pub fn depth(ethertype: u16, behind: &[u8]) -> usize {
    let (_, rest) = inner(ethertype, behind);
    (behind.len() - rest.len()) / TAG
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(kinds: &[u16], then: u16) -> (u16, Vec<u8>) {
        let mut types = kinds.iter().copied().chain([then]);
        let first = types.next().unwrap();
        let behind = types.flat_map(|kind| [&[0x60, 5][..], &kind.to_be_bytes()].concat());
        (first, behind.chain([1, 2, 3, 4, 5]).collect())
    }

    #[test]
    fn every_kind_in_every_order_is_a_tag() {
        let kinds = [0x8100, 0x88a8, 0x9100, 0x9200, 0x9300];
        for outer in kinds {
            for next in kinds {
                let (ethertype, behind) = tags(&[outer, next], 0x0800);
                assert_eq!(inner(ethertype, &behind), (0x0800, &[1, 2, 3, 4, 5][..]));
                assert_eq!(depth(ethertype, &behind), 2);
            }
        }
        assert_eq!(depth(0x0800, &[0x81, 0, 0x81, 0, 0x81, 0]), 0);
    }

    #[test]
    fn ends_with_the_bytes_and_with_the_bound() {
        for count in 0..40 {
            let (ethertype, behind) = tags(&vec![0x8100; count], 0x88b5);
            assert_eq!(depth(ethertype, &behind), count.min(MAX_TAGS));
            for end in 0..behind.len() {
                assert!(depth(ethertype, &behind[..end]) <= count.min(end / TAG));
            }
        }
    }
}
