//! Requests about rings.
//!
//! Ring numbers, sizes, addresses and descriptors are checked here, so that the log can give the
//! reason for a refusal; the crate would only end the connection. One oddity is SET_VRING_ENABLE:
//! QEMU sends it before SET_FEATURES at every device reset and never again, but the crate accepts
//! it only after SET_FEATURES. The filter therefore keeps it, and gives it to the crate when the
//! features are acknowledged.

use crate::vhost_user::fd_kind::FdKind;
use crate::vhost_user::message::{Message, numbers, request};
use crate::vhost_user::request_filter::action::RequestVerdict;
use crate::vhost_user::request_filter::memory::GuestRegions;
use crate::vhost_user::request_filter::sharing::HOW;
use crate::virtqueue::ring_setup::MAX_RING_SIZE;

/// Bit of SET_VRING_KICK, _CALL and _ERR: no descriptor comes with it.
const NO_DESCRIPTOR: u64 = 1 << 8;

/// The filter's state of a connection's rings.
#[derive(Debug)]
pub(crate) struct RingRequests {
    /// Number of rings: two per queue pair.
    rings: u32,
    /// Rings that were enabled (1) or disabled (0) too early for the crate.
    early: Vec<(u32, u32)>,
}

impl RingRequests {
    /// For a port with this number of rings.
    pub(crate) fn new(rings: u32) -> RingRequests {
        RingRequests { rings, early: Vec::new() }
    }

    /// The number of queue pairs.
    pub(crate) fn pairs(&self) -> u32 {
        self.rings / 2
    }

    /// The requests that were kept until the crate accepts them. Afterwards none is kept.
    pub(crate) fn take_early(&mut self) -> impl Iterator<Item = Message> + use<> {
        std::mem::take(&mut self.early).into_iter().map(|(index, value)| {
            let payload = [index.to_ne_bytes(), value.to_ne_bytes()].concat();
            Message::request(request::SET_VRING_ENABLE, &payload)
        })
    }

    fn ring_exists(&self, index: u32) -> Result<(), String> {
        if index < self.rings {
            return Ok(());
        }
        Err(format!(
            "there is no ring {index}: the port has {} queue pairs; give the port more (queue-pairs=) \
             or the VMM fewer",
            self.pairs()
        ))
    }

    /// SET_VRING_NUM, SET_VRING_BASE, GET_VRING_BASE, SET_VRING_ENABLE. `may_enable`: the crate
    /// accepts the last one by now.
    pub(crate) fn state(&mut self, message: Message, may_enable: bool) -> RequestVerdict {
        let Some((index, value)) = message.vring_state() else {
            return RequestVerdict::Misshapen(message);
        };
        if let Err(reason) = self.ring_exists(index) {
            return RequestVerdict::Refuse(message, reason);
        }
        match message.request {
            request::GET_VRING_BASE => return RequestVerdict::Ask(message),
            request::SET_VRING_NUM
                if (value > u32::from(MAX_RING_SIZE) || !value.is_power_of_two()) =>
            {
                let reason = format!(
                    "ring {index}: size {value} is not a power of two from 1 to {MAX_RING_SIZE}; \
                     choose the VMM's so (rx_queue_size=, tx_queue_size=)"
                );
                return RequestVerdict::Refuse(message, reason);
            }
            request::SET_VRING_ENABLE => {
                if value > 1 {
                    let reason = format!("ring {index}: {value} is not 0 or 1");
                    return RequestVerdict::Refuse(message, reason);
                }
                if !may_enable {
                    self.early.retain(|&(other, _)| other != index);
                    self.early.push((index, value));
                    return RequestVerdict::Done(message);
                }
            }
            _ => {}
        }
        RequestVerdict::Pass(message)
    }

    /// SET_VRING_ADDR.
    pub(crate) fn address(&self, message: Message, memory: &GuestRegions) -> RequestVerdict {
        // Index and flags, then descriptor table, used ring, available ring and log, eight bytes
        // each.
        let Some([first, desc, used, avail, _log]) = numbers::<8, 5>(&message.payload) else {
            return RequestVerdict::Misshapen(message);
        };
        let index = u32::from_ne_bytes([first[0], first[1], first[2], first[3]]);
        if let Err(reason) = self.ring_exists(index) {
            return RequestVerdict::Refuse(message, reason);
        }
        if memory.is_empty() {
            let reason = format!("ring {index}: the front-end has given no memory; {HOW}");
            return RequestVerdict::Refuse(message, reason);
        }
        let parts =
            [("descriptor table", desc, 16), ("used ring", used, 4), ("available ring", avail, 2)];
        for (part, bytes, align) in parts {
            let address = u64::from_ne_bytes(bytes);
            if !memory.holds_user(address) {
                let reason = format!(
                    "ring {index}: its {part} at {address:#x} is in no memory region; if a part of \
                     the guest's memory is private: {HOW}"
                );
                return RequestVerdict::Refuse(message, reason);
            }
            if address % align != 0 {
                let reason = format!("ring {index}: its {part} at {address:#x} is misaligned");
                return RequestVerdict::Refuse(message, reason);
            }
        }
        RequestVerdict::Pass(message)
    }

    /// SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR.
    pub(crate) fn descriptor(&self, message: Message) -> RequestVerdict {
        let Some(number) = message.number() else { return RequestVerdict::Misshapen(message) };
        let index = (number & 0xff) as u32;
        if let Err(reason) = self.ring_exists(index) {
            return RequestVerdict::Refuse(message, reason);
        }
        let none = number & NO_DESCRIPTOR != 0;
        if message.fds.len() != usize::from(!none) {
            let reason = format!("ring {index}: came with {} descriptors", message.fds.len());
            return RequestVerdict::Refuse(message, reason);
        }
        if none && message.request == request::SET_VRING_KICK {
            let reason = format!("ring {index}: a ring without kicks (polled) is not supported");
            return RequestVerdict::Refuse(message, reason);
        }
        // Every VMM sends eventfds. Polling, writing or closing another kind may wait for its
        // owner.
        if let Some(fd) = message.fds.iter().find(|fd| *fd.kind() != FdKind::EventFd) {
            let reason = format!("ring {index}: it must be an eventfd and is {}", fd.kind());
            return RequestVerdict::Refuse(message, reason);
        }
        RequestVerdict::Pass(message)
    }
}
