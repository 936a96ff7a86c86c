//! The checksum of SCTP, completed here because virtio cannot ask the guest to.
//!
//! A sender on this host (a container behind a veth) may leave the checksum of an SCTP packet to
//! the device, as it does for TCP. The kernel then passes the same request to us: "to be completed
//! from here, store it there". But SCTP's is a CRC32c (RFC 9260, appendix A), while
//! VIRTIO_NET_HDR_F_NEEDS_CSUM means the Internet checksum (virtio 1.2, section 5.1.6.4.1): a guest
//! that trusts the header would store the wrong one and drop the packet. Macvtap has that fault
//! (`virtio_net_hdr_from_skb` does not check `csum_not_inet`). Only SCTP has its checksum at byte
//! 8, which tells the two apart.
//!
//! Such packets are rare, and never come from a real wire, so a table of 1 KiB and one byte at a
//! time are good enough. The field is zero before, as in the kernel's `skb_crc32c_csum_help`.

/// Where the checksum stands in an SCTP header, in bytes.
pub(crate) const CHECKSUM: u16 = 8;

/// Completes the checksum of a packet that starts at its SCTP header. Nothing if it is too short.
pub(crate) fn complete(packet: &mut [u8]) -> Option<()> {
    let at = usize::from(CHECKSUM);
    packet.get_mut(at..)?.first_chunk_mut::<4>()?.fill(0);
    let sum = crc32c(packet).to_le_bytes();
    *packet.get_mut(at..)?.first_chunk_mut()? = sum;
    Some(())
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        let index = (crc as u8 ^ byte) as usize;
        // A byte is always inside a table of 256.
        TABLE.get(index).copied().unwrap_or_default() ^ (crc >> 8)
    })
}

/// The CRC of each byte, for the polynomial 0x1edc6f41, bits reversed.
static TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 0 { crc >> 1 } else { (crc >> 1) ^ 0x82f6_3b78 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crc_is_castagnolis() {
        // RFC 3720, appendix B.4, and the check value of the CRC catalogues.
        assert_eq!(crc32c(&[0; 32]).to_le_bytes(), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn the_field_is_replaced_and_short_packets_are_left_alone() {
        let mut packet = *b"\x01\x02\x03\x04\x05\x06\x07\x08\xff\xff\xff\xffdata";
        complete(&mut packet).unwrap();
        let mut zeroed = packet;
        zeroed[8..12].fill(0);
        assert_eq!(packet[8..12], crc32c(&zeroed).to_le_bytes());
        assert_eq!(complete(&mut [0; 11]), None);
    }
}
