//! The frames that are sent: a virtio_net_hdr and an Ethernet frame.
//!
//! Frames of up to 1514 bytes (9014 with a larger MTU) are UDP between addresses of RFC 2544
//! (198.18.0.0/15). A larger frame is a TCP super-frame whose segments of 1448 bytes and checksum
//! are still to be made, as a Linux guest with TSO hands over. The first 8 bytes of the payload are
//! the sender's, for a number or a time.
//!
//! What can go wrong: sizes are those of the frame without checksum (FCS), as DPDK and the kernel
//! count them.

use testkit::driver::VnetHdr;
use testkit::frames::{self, End, Mac};

/// The largest frame that is sent as it is.
pub const LARGEST_WHOLE: usize = 9014;
/// Payload of a segment (MSS): an MTU of 1500 without the headers and the timestamp.
const SEGMENT: u16 = 1448;

/// A frame to send.
#[derive(Clone)]
pub struct Frame {
    /// The header in front of it in the ring.
    pub header: VnetHdr,
    /// From the target address to the end of the payload.
    pub bytes: Vec<u8>,
    /// Where the payload begins.
    pub payload: usize,
    from: End,
    to: End,
}

/// The address of guest `n`.
pub fn mac(n: usize) -> Mac {
    [0x52, 0x54, 0, 0xbe, (n >> 8) as u8, n as u8]
}

fn end(mac: Mac) -> End {
    End { mac, ip: [198, 18, mac[4], mac[5]], port: 9 }
}

impl Frame {
    /// `size` bytes from one address to another.
    pub fn sized(from: Mac, to: Mac, size: usize) -> Frame {
        Frame::between(end(from), end(to), size)
    }

    /// The same frame of another flow: each queue pair sends its own, and receivers recognize it by
    /// its port.
    pub fn flow(&self, number: u16) -> Frame {
        let from = End { port: self.from.port + number, ..self.from };
        Frame::between(from, self.to, self.bytes.len())
    }

    fn between(from: End, to: End, size: usize) -> Frame {
        let whole = size <= LARGEST_WHOLE;
        let payload = if whole { 14 + 20 + 8 } else { 14 + 20 + 20 };
        let data = vec![7; size - payload];
        let (header, bytes) = if whole {
            (VnetHdr::default(), frames::udp4(from, to, &data))
        } else {
            frames::tcp4_gso(from, to, 1, SEGMENT, &data)
        };
        Frame { header, bytes, payload, from, to }
    }
}
