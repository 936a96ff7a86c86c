//! The frame that shows switches the new place of a guest.
//!
//! After a migration the front-end of a guest that cannot announce itself asks the back-end to
//! (SEND_RARP). As QEMU does for its own devices, that is a reverse ARP request (RFC 903) from the
//! guest's address to every station: no station answers it, but every switch on the way learns the
//! port.
//!
//! QEMU asks five times within a second (its `announce-rounds`) and then no more. A front-end that
//! asks in a loop must not flood the LAN: [`Announcements`] permits [`BURST`] at once and one more
//! every [`PAUSE`].

use std::time::{Duration, Instant};

use crate::net::ethertype;
use crate::net::mac::Mac;

/// Announcements that may leave at once.
pub const BURST: u32 = 5;
/// Time after which one more may leave.
pub const PAUSE: Duration = Duration::from_millis(500);

/// How many announcements a connection may still cause. Pure: the caller brings the time.
#[derive(Debug)]
pub struct Announcements {
    left: u32,
    since: Option<Instant>,
}

impl Default for Announcements {
    fn default() -> Announcements {
        Announcements { left: BURST, since: None }
    }
}

impl Announcements {
    /// Whether one may leave at `now`.
    pub fn permit(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let passed = now.saturating_duration_since(since);
        let more = (passed.as_millis() / PAUSE.as_millis()).min(u128::from(BURST)) as u32;
        if more > 0 {
            self.left = (self.left + more).min(BURST);
            self.since = Some(now);
        }
        self.left.checked_sub(1).map(|left| self.left = left).is_some()
    }
}

/// Shortest Ethernet frame without its checksum, in bytes.
const MIN_FRAME: usize = 60;

/// The announcement of `mac`, padded to Ethernet's shortest frame.
pub fn frame(mac: Mac) -> Vec<u8> {
    let mut frame = Vec::with_capacity(MIN_FRAME);
    frame.extend_from_slice(&Mac::BROADCAST.0);
    frame.extend_from_slice(&mac.0);
    frame.extend_from_slice(&ethertype::RARP.to_be_bytes());
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
    fn a_loop_announces_a_few_times_a_second() {
        let start = Instant::now();
        let mut announcements = Announcements::default();
        let permitted = (0..10_000)
            .filter(|&ms| announcements.permit(start + Duration::from_millis(ms)))
            .count();
        assert_eq!(permitted, 5 + 19, "five at once, then two a second for ten seconds");
    }

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
