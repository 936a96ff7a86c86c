//! An Ethernet hardware address.
//!
//! Six bytes, printed and parsed as iproute2 does (`52:54:00:12:34:56`). The type answers the two
//! questions that the program asks of an address: whether a port may have it, and whether it is a group
//! address. Bit 0 of the first byte is the group bit, bit 1 "locally administered" (IEEE 802-2014,
//! section 8.2).

use std::fmt;
use std::str::FromStr;

/// An Ethernet hardware address, in wire order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The broadcast address.
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    /// True for a multicast or broadcast address.
    pub fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// True for 00:00:00:00:00:00.
    pub fn is_zero(self) -> bool {
        self.0 == [0; 6]
    }

    /// True for an address that one station may own: neither a group address nor zero.
    pub fn is_station(self) -> bool {
        !self.is_group() && !self.is_zero()
    }

    /// The address in the low 48 bits of a number, for an atomic cell.
    #[inline]
    pub fn to_u64(self) -> u64 {
        // In two words, which a compiler loads as such.
        let [a, b, c, d, e, f] = self.0;
        let (high, low) = (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]));
        u64::from(high) << 32 | u64::from(low)
    }

    /// The inverse of [`Mac::to_u64`]; the upper 16 bits are ignored.
    pub fn from_u64(value: u64) -> Mac {
        let [_, _, a, b, c, d, e, f] = value.to_be_bytes();
        Mac([a, b, c, d, e, f])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Mac, String> {
        let wrong =
            || format!("'{text}' is not a MAC address: write six hex bytes, as 52:54:00:12:34:56");
        let mut bytes = [0u8; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            // from_str_radix alone would take a sign.
            let hex = |p: &&str| p.len() <= 2 && p.bytes().all(|b| b.is_ascii_hexdigit());
            let part = parts.next().filter(hex).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        match parts.next() {
            None => Ok(Mac(bytes)),
            Some(_) => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints_as_iproute2_does() {
        let mac: Mac = "52:54:0:aB:cd:0f".parse().unwrap();
        assert_eq!(mac, Mac([0x52, 0x54, 0, 0xab, 0xcd, 0x0f]));
        assert_eq!(mac.to_string(), "52:54:00:ab:cd:0f");
        assert_eq!(Mac::from_u64(mac.to_u64()), mac);
    }

    #[test]
    fn refuses_what_is_not_six_hex_bytes() {
        for text in [
            "",
            "52:54:00:12:34",
            "52:54:00:12:34:56:78",
            "5254.0012.3456",
            "52:54:00:12:34:5g",
            "52:54:00:12:34:+5",
            "::::::",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn knows_group_and_zero() {
        assert!(Mac::BROADCAST.is_group());
        assert!(!Mac([1, 0, 0x5e, 0, 0, 1]).is_station());
        assert!(!Mac::default().is_station());
        assert!(Mac([2, 0, 0, 0, 0, 1]).is_station());
    }
}
