//! Numbers read from bytes that may end too early.
//!
//! Every reader of the wire's formats takes its numbers from here, so that a read outside is `None` and
//! never a panic.

/// The big-endian number of two bytes at `at`.
#[inline]
pub fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

/// The big-endian number of four bytes at `at`.
#[inline]
pub fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_inside_or_none() {
        let bytes = [1, 2, 3, 4, 5];
        assert_eq!((be16(&bytes, 3), be16(&bytes, 4)), (Some(0x0405), None));
        assert_eq!((be32(&bytes, 1), be32(&bytes, 2)), (Some(0x0203_0405), None));
        assert_eq!((be16(&bytes, usize::MAX), be32(&bytes, usize::MAX)), (None, None));
    }
}
