//! VLAN tags in front of a frame's type, of every kind and any number.
//!
//! A tag is four bytes in the place of the type: its own kind, and 16 bits of which 12 are the VLAN. The type, or
//! another tag, follows. Two kinds are standard, 802.1Q and 802.1ad; 0x9100, 0x9200 and 0x9300 are what switches used
//! for the outer one of two before. The kernel forwards all of them alike, and so do we.
//!
//! What can go wrong: a frame may be nothing but tags. At most [`MAX_TAGS`] are looked at, twice as many as the
//! kernel looks at (`VLAN_MAX_DEPTH`); what stands behind is then not known.

/// Length of a tag, in bytes.
pub const TAG: usize = 4;
/// Most tags that are looked at.
pub const MAX_TAGS: usize = 16;

/// Whether this type says that a tag follows.
#[inline]
pub fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, 0x8100 | 0x88a8 | 0x9100 | 0x9200 | 0x9300)
}

/// What stands behind the tags: the type there, and what follows it. `ethertype` is the outermost type and `behind`
/// what follows that. Where the bytes end early, the type is the last one found.
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
