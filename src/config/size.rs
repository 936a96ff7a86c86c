//! Sizes as a user types them and reads them back: `64G`, `512M`, plain bytes.
//!
//! The letters are QEMU's, in either case, each 1024 times the one before it.

const UNITS: [(char, u64); 4] = [('T', 1 << 40), ('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];

/// The bytes that `text` means; `None` when it is no size that a computer can have.
pub fn parse(text: &str) -> Option<u64> {
    let last = text.chars().next_back()?.to_ascii_uppercase();
    let unit = UNITS.iter().find(|(letter, _)| *letter == last);
    let (digits, factor) = match unit {
        Some((_, factor)) => (&text[..text.len() - 1], *factor),
        None => (text, 1),
    };
    // `parse` would take a sign.
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse::<u64>().ok().filter(|_| plain)?.checked_mul(factor)
}

/// The shortest exact way to write so many bytes.
pub fn text(bytes: u64) -> String {
    match UNITS.iter().find(|(_, unit)| bytes != 0 && bytes.is_multiple_of(*unit)) {
        Some((letter, unit)) => format!("{}{letter}", bytes / unit),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_as_qemu_reads_them() {
        for (typed, bytes) in [("1", 1), ("4096", 4096), ("1k", 1024), ("64G", 64 << 30)] {
            assert_eq!(parse(typed), Some(bytes), "{typed}");
        }
        for wrong in ["", "G", "-1", "+1", "1.5G", "1GB", "1 G", "0x10", "99999999999999T", "1é"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(bytes in any::<u64>(), shift in 0u32..64) {
            let bytes = bytes >> shift;
            let written = text(bytes);
            prop_assert_eq!(parse(written.trim_end_matches(" bytes")), Some(bytes));
        }

        #[test]
        fn any_text_is_answered(text in "\\PC{0,12}") {
            let _ = parse(&text);
        }
    }
}
