//! The Internet checksum: the ones' complement sum of 16-bit words (RFC 1071).
//!
//! The sum does not depend on how the words are grouped, nor on the byte order in which they are added,
//! if the result is swapped once at the end (RFC 1071, section 2, B and C). So eight bytes are added at
//! a time, in the processor's order, and the carry is added at the bottom. With four accumulators, no
//! addition waits for the one before.
//!
//! What can go wrong: a part of odd length moves every later part by one byte. [`sum`] pads as if the
//! part were the last one, so sums may be [`add`]ed only when all parts but the last are of even
//! length. All headers here are.

/// The ones' complement sum of `bytes` as big-endian words, not inverted. An odd last byte counts as
/// the upper half of a word. 0 only when every byte is 0.
pub fn sum(bytes: &[u8]) -> u16 {
    let (blocks, rest) = bytes.as_chunks::<32>();
    let [mut a, mut b, mut c, mut d] = [0u64; 4];
    for block in blocks {
        // A block is four words, always: the pattern is there for the compiler.
        if let ([w, x, y, z], _) = block.as_chunks::<8>() {
            a = carried(a, u64::from_ne_bytes(*w));
            b = carried(b, u64::from_ne_bytes(*x));
            c = carried(c, u64::from_ne_bytes(*y));
            d = carried(d, u64::from_ne_bytes(*z));
        }
    }
    let (words, rest) = rest.as_chunks::<8>();
    for word in words {
        a = carried(a, u64::from_ne_bytes(*word));
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    d = carried(d, u64::from_ne_bytes(last));
    u16::from_be(fold(carried(carried(a, b), carried(c, d))))
}

/// The sum of two sums.
pub fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    // After a carry the sum is at most 0xfffe.
    sum.wrapping_add(u16::from(carry))
}

/// `sum` with the word `old`, which is part of it, replaced by `new` (RFC 1624, equation 3).
pub fn replaced(sum: u16, old: u16, new: u16) -> u16 {
    add(add(sum, !old), new)
}

#[inline]
fn carried(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    sum.wrapping_add(u64::from(carry))
}

fn fold(wide: u64) -> u16 {
    let [a, b, c, d, e, f, g, h] = wide.to_ne_bytes();
    let halves = [[a, b], [c, d], [e, f], [g, h]];
    halves.into_iter().fold(0, |sum, half| add(sum, u16::from_ne_bytes(half)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(bytes: &[u8]) -> u16 {
        let mut total = 0u64;
        for word in bytes.chunks(2) {
            total += u64::from(word[0]) << 8 | u64::from(*word.get(1).unwrap_or(&0));
        }
        while total > 0xffff {
            total = (total & 0xffff) + (total >> 16);
        }
        total as u16
    }

    #[test]
    fn the_example_of_rfc_1071() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
        assert_eq!(sum(&[]), 0);
        assert_eq!(sum(&[0xab]), 0xab00);
    }

    #[test]
    fn every_carry_comes_back() {
        for length in 0..300 {
            let bytes = vec![0xff; length];
            assert_eq!(sum(&bytes), naive(&bytes), "{length}");
        }
        assert_eq!(sum(&[0xff; 65535]), naive(&[0xff; 65535]));
    }

    proptest! {
        #[test]
        fn is_the_naive_sum(bytes in prop::collection::vec(any::<u8>(), 0..700), skip in 0usize..9) {
            let part = bytes.get(skip..).unwrap_or_default();
            prop_assert_eq!(sum(part), naive(part));
        }

        #[test]
        fn parts_add_up(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..150) {
            let (a, b) = bytes.split_at((2 * at).min(bytes.len() & !1));
            prop_assert_eq!(add(sum(a), sum(b)), naive(&bytes));
        }

        #[test]
        fn a_word_is_replaced(mut bytes in prop::collection::vec(any::<u8>(), 2..60), new: u16) {
            // The kernel's own kind of zero: 0 and 0xffff are one number, but for all zeros.
            let before = sum(&bytes);
            let old = u16::from_be_bytes([bytes[0], bytes[1]]);
            bytes[..2].copy_from_slice(&new.to_be_bytes());
            let after = replaced(before, old, new);
            prop_assert_eq!(u32::from(after) % 0xffff, u32::from(naive(&bytes)) % 0xffff);
        }
    }
}
