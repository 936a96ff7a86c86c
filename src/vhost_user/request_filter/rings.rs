//! The front door: rings.
//!
//! Ring numbers, sizes, addresses and descriptors are checked here, so that the reason for a refusal can
//! be told; the crate would only end the connection. The oddity is SET_VRING_ENABLE: QEMU sends it before
//! SET_FEATURES at every device reset and never again, the crate takes it only after. It is remembered
//! and given to the crate when it is due.

use crate::net::vnet_hdr::bit;
use crate::vhost_user::fd_kind::FdKind;
use crate::vhost_user::message::{Message, numbers, request};
use crate::vhost_user::request_filter::sharing::HOW;
use crate::vhost_user::request_filter::{Action, RequestFilter};
use crate::virtqueue::split_ring::MAX_RING_SIZE;

/// Bit of SET_VRING_KICK, _CALL and _ERR: no descriptor comes with it.
const NO_DESCRIPTOR: u64 = 1 << 8;

impl RequestFilter {
    /// Whether the crate takes SET_VRING_ENABLE by now.
    pub(crate) fn may_enable(&self) -> bool {
        self.acked & (1 << bit::PROTOCOL_FEATURES) != 0
    }

    fn ring_exists(&self, index: u32) -> Result<(), String> {
        if index < self.limits.rings {
            return Ok(());
        }
        Err(format!(
            "there is no ring {index}: the port has {} queue pairs; give the port more (queue-pairs=) \
             or the VMM fewer",
            self.limits.rings / 2
        ))
    }

    pub(crate) fn vring_state(&mut self, message: Message) -> Vec<Action> {
        let Some((index, value)) = message.vring_state() else { return self.misshapen(&message) };
        if let Err(reason) = self.ring_exists(index) {
            return self.refuse(&message, reason);
        }
        match message.request {
            request::GET_VRING_BASE => return Self::ask(message),
            request::SET_VRING_NUM
                if (value > u32::from(MAX_RING_SIZE) || !value.is_power_of_two()) =>
            {
                let reason = format!(
                    "ring {index}: size {value} is not a power of two from 1 to {MAX_RING_SIZE}; \
                     choose the VMM's so (rx_queue_size=, tx_queue_size=)"
                );
                return self.refuse(&message, reason);
            }
            request::SET_VRING_ENABLE => {
                if value > 1 {
                    return self.refuse(&message, format!("ring {index}: {value} is not 0 or 1"));
                }
                if !self.may_enable() {
                    self.early.retain(|&(other, _)| other != index);
                    self.early.push((index, value));
                    return self.done(&message);
                }
            }
            _ => {}
        }
        self.pass(message)
    }

    pub(crate) fn vring_addr(&self, message: Message) -> Vec<Action> {
        // Index and flags, then descriptor table, used ring, available ring and log, eight bytes each.
        let Some([first, desc, used, avail, _log]) = numbers::<8, 5>(&message.payload) else {
            return self.misshapen(&message);
        };
        let index = u32::from_ne_bytes([first[0], first[1], first[2], first[3]]);
        if let Err(reason) = self.ring_exists(index) {
            return self.refuse(&message, reason);
        }
        if self.regions.is_empty() {
            let reason = format!("ring {index}: the front-end has given no memory; {HOW}");
            return self.refuse(&message, reason);
        }
        let parts =
            [("descriptor table", desc, 16), ("used ring", used, 4), ("available ring", avail, 2)];
        for (part, bytes, align) in parts {
            let address = u64::from_ne_bytes(bytes);
            if !self.regions.iter().any(|region| region.holds_user(address)) {
                let reason = format!(
                    "ring {index}: its {part} at {address:#x} is in no memory region; if a part of \
                     the guest's memory is private: {HOW}"
                );
                return self.refuse(&message, reason);
            }
            if address % align != 0 {
                let reason = format!("ring {index}: its {part} at {address:#x} is misaligned");
                return self.refuse(&message, reason);
            }
        }
        self.pass(message)
    }

    pub(crate) fn vring_descriptor(&self, message: Message) -> Vec<Action> {
        let Some(number) = message.number() else { return self.misshapen(&message) };
        let index = (number & 0xff) as u32;
        if let Err(reason) = self.ring_exists(index) {
            return self.refuse(&message, reason);
        }
        let none = number & NO_DESCRIPTOR != 0;
        if message.fds.len() != usize::from(!none) {
            let reason = format!("ring {index}: came with {} descriptors", message.fds.len());
            return self.refuse(&message, reason);
        }
        if none && message.request == request::SET_VRING_KICK {
            let reason = format!("ring {index}: a ring without kicks (polled) is not supported");
            return self.refuse(&message, reason);
        }
        // Every VMM sends eventfds. Polling, writing or closing anything else may wait for its owner.
        if let Some(fd) = message.fds.iter().find(|fd| *fd.kind() != FdKind::EventFd) {
            let reason = format!("ring {index}: it must be an eventfd and is {}", fd.kind());
            return self.refuse(&message, reason);
        }
        self.pass(message)
    }
}

/// The request that was held back.
pub(crate) fn enable_request(index: u32, value: u32) -> Message {
    let payload = [index.to_ne_bytes(), value.to_ne_bytes()].concat();
    Message::request(request::SET_VRING_ENABLE, &payload)
}
