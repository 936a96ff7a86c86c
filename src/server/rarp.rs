//! The frame that tells switches where a guest lives now.
//!
//! After a migration the front-end of a guest that cannot announce itself asks the back-end to
//! (SEND_RARP). As QEMU does for its own devices, that is a reverse ARP request (RFC 903) from the
//! guest's address to everybody: nobody answers it, but every switch on the way learns the port.

use crate::mac::Mac;

const ETHERTYPE_RARP: u16 = 0x8035;
/// Shortest Ethernet frame without its checksum, in bytes.
const MIN_FRAME: usize = 60;

/// The announcement of `mac`, padded to Ethernet's shortest frame.
pub fn frame(mac: Mac) -> Vec<u8> {
    let mut frame = Vec::with_capacity(MIN_FRAME);
    frame.extend_from_slice(&Mac::BROADCAST.0);
    frame.extend_from_slice(&mac.0);
    frame.extend_from_slice(&ETHERTYPE_RARP.to_be_bytes());
    // Ethernet and IPv4, 6 and 4 bytes of address, operation 3: request reverse.
    frame.extend_from_slice(&[0, 1, 8, 0, 6, 4, 0, 3]);
    for _sender_then_target in 0..2 {
        frame.extend_from_slice(&mac.0);
        frame.extend_from_slice(&[0; 4]);
    }
    frame.resize(MIN_FRAME, 0);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_what_qemu_sends() {
        let frame = frame(Mac([0x52, 0x54, 0, 1, 2, 3]));
        assert_eq!(frame.len(), 60);
        assert_eq!(frame[..14], [255, 255, 255, 255, 255, 255, 0x52, 0x54, 0, 1, 2, 3, 0x80, 0x35]);
        assert_eq!(frame[14..22], [0, 1, 8, 0, 6, 4, 0, 3]);
        assert_eq!(frame[22..28], frame[32..38]);
        assert_eq!(frame[28..32], [0; 4]);
    }
}
