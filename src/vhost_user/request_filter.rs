//! The front door: every request of a front-end passes here before the crate sees it.
//!
//! Why it exists: the vhost crates end the connection at the first message that they do not know or do
//! not like, and QEMU's network front-end sends several of those in the ordinary course of things. The
//! door puts that right without a change to the crates:
//!
//! * SET_VRING_ENABLE before SET_FEATURES (QEMU, at every device reset) is remembered and passed on
//!   once the features are acknowledged.
//! * ADD_MEM_REG for a region that is there already (QEMU up to 7.2, once per queue pair) is
//!   acknowledged and dropped.
//! * NET_SET_MTU, SEND_RARP, SET_STATUS and GET_STATUS are answered here; the protocol features that
//!   announce them are added to the crate's answer and kept from its ears. Each is served only if its
//!   feature was negotiated. GET_MAX_MEM_SLOTS is answered here, too, with what the door keeps to.
//! * CONFIG is offered only to a front-end that sends SET_OWNER before it asks for protocol features, as the
//!   specification's order has it and cloud-hypervisor, crosvm, Firecracker and DPDK do. QEMU asks first, has
//!   no use for CONFIG with network devices, and prints a warning at every start if it is offered.
//! * What is wrong is refused with a message that says what and why: with a negative acknowledgement
//!   where the front-end asked for one, else by ending the connection; a request that we do not know
//!   and that wants no answer is ignored.
//!
//! `rings.rs`, `memory.rs` and `sharing.rs` hold the longer checks. The door itself does no I/O on the
//! connection: [`RequestFilter::request`] turns one message into [`Action`]s, which `session.rs` carries out.
//! What it remembers of a front-end is bounded: one early SET_VRING_ENABLE for each ring of the port, and
//! the memory regions that `memory.rs` has accepted. Specification: QEMU's `docs/interop/vhost-user.rst`.

pub mod memory;
pub mod region;
pub mod rings;
pub mod sharing;

use crate::net::mac::Mac;
use crate::vhost_user::message::{Message, request};
use crate::vhost_user::request_filter::region::RegionRequest;
use crate::vhost_user::request_filter::rings::enable_request;

/// Protocol feature bits, by number.
mod protocol {
    pub const MQ: u32 = 0;
    pub const RARP: u32 = 2;
    pub const REPLY_ACK: u32 = 3;
    pub const MTU: u32 = 4;
    pub const CONFIG: u32 = 9;
    pub const CONFIGURE_MEM_SLOTS: u32 = 15;
    pub const STATUS: u32 = 16;
}

/// Protocol features that the door serves by itself.
const OURS: u64 = 1 << protocol::RARP | 1 << protocol::MTU | 1 << protocol::STATUS;
/// Smallest MTU of an IPv4 host (RFC 791), in bytes.
const MIN_MTU: u64 = 68;

/// What is to be done about a message.
#[derive(Debug)]
pub enum Action {
    /// Give this to the crate.
    ToBackend(Message),
    /// The crate will answer: take no further request before that.
    AwaitReply,
    /// Give this to the front-end.
    ToFrontEnd(Message),
    /// Announce the port's address on the wire.
    SendRarp(Mac),
    /// The guest was told this MTU, in bytes.
    GuestMtu(u16),
    /// Something was refused, for this reason; the connection goes on.
    Refused(String),
    /// End the connection, for this reason.
    End(String),
}

/// The bounds of the device behind the door.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Number of rings: two per queue pair.
    pub rings: u32,
    /// Offered virtio features.
    pub features: u64,
    /// The port's MTU, in bytes.
    pub mtu: u32,
    /// Most guest memory, in bytes.
    pub memory: u64,
    /// The port's address.
    pub mac: Mac,
    /// The front-end's process, whose mappings are looked at; 0 when it is not known.
    pub pid: i32,
}

/// What the door remembers of a connection.
#[derive(Debug)]
pub struct RequestFilter {
    limits: Limits,
    owned: bool,
    asked_features: bool,
    /// The front-end has asked how many queue pairs there are, and has used none yet.
    counting: bool,
    /// Whether CONFIG is offered; not decided before the first question for protocol features.
    config: Option<bool>,
    protocol: u64,
    acked: u64,
    early: Vec<(u32, u32)>,
    regions: Vec<RegionRequest>,
    status: u64,
}

impl RequestFilter {
    /// The door of a new connection.
    pub fn new(limits: Limits) -> RequestFilter {
        RequestFilter {
            limits,
            owned: false,
            asked_features: false,
            counting: false,
            config: None,
            protocol: 0,
            acked: 0,
            early: Vec::new(),
            regions: Vec::new(),
            status: 0,
        }
    }

    /// The port's MTU has become this, in bytes.
    pub fn set_mtu(&mut self, mtu: u32) {
        self.limits.mtu = mtu;
    }

    /// The port has this address now.
    pub fn set_mac(&mut self, mac: Mac) {
        self.limits.mac = mac;
    }

    fn negotiated(&self, number: u32) -> bool {
        self.protocol & (1 << number) != 0
    }

    /// Whether the front-end waits for an acknowledgement of this message. The same test as the
    /// crate's, or the two would lose step.
    fn wants_ack(&self, message: &Message) -> bool {
        message.needs_reply() && self.asked_features && self.negotiated(protocol::REPLY_ACK)
    }

    /// Passes a message on whose only answer is the acknowledgement, if that is wanted.
    fn pass(&self, message: Message) -> Vec<Action> {
        let ack = self.wants_ack(&message);
        let mut actions = vec![Action::ToBackend(message)];
        if ack {
            actions.push(Action::AwaitReply);
        }
        actions
    }

    /// Passes a message on that is a question.
    fn ask(message: Message) -> Vec<Action> {
        vec![Action::ToBackend(message), Action::AwaitReply]
    }

    /// Answers a message that the crate never sees.
    fn done(&self, message: &Message) -> Vec<Action> {
        if self.wants_ack(message) {
            vec![Action::ToFrontEnd(Message::reply(message.request, 0))]
        } else {
            Vec::new()
        }
    }

    /// Refuses a message. Where the front-end cannot be told, the connection ends: a question has no
    /// room for a no in its answer.
    fn refuse(&self, message: &Message, reason: impl Into<String>) -> Vec<Action> {
        let reason = format!("{}: {}", message.name(), reason.into());
        if self.wants_ack(message) && !is_question(message.request) {
            let reply = Action::ToFrontEnd(Message::reply(message.request, 1));
            vec![Action::Refused(reason), reply]
        } else {
            vec![Action::End(reason)]
        }
    }

    /// Why a front-end that leaves now has probably left. QEMU and cloud-hypervisor that want more queues than
    /// the port has leave right after they have asked for the number, and tell only their own log.
    pub fn why_left(&self) -> Option<String> {
        let pairs = self.limits.rings / 2;
        self.counting.then(|| {
            format!(
                "it asked for the number of queue pairs, {pairs}, and used none; if the VMM wants \
                 more, give the port as many (queue-pairs=4 for the VMM's queues=4) or the VMM fewer"
            )
        })
    }

    /// Refuses a message whose refusal the front-end need not know: the connection goes on.
    fn ignore(&self, message: &Message, reason: impl Into<String>) -> Vec<Action> {
        if self.wants_ack(message) || is_question(message.request) {
            return self.refuse(message, reason);
        }
        vec![Action::Refused(format!("{}: {}; ignored", message.name(), reason.into()))]
    }

    /// Judges a request.
    pub fn request(&mut self, mut message: Message) -> Vec<Action> {
        if message.is_reply() {
            return vec![Action::End(format!("{}: a reply nobody asked for", message.name()))];
        }
        if !takes_descriptors(message.request) {
            message.fds.clear();
        }
        match message.request {
            request::GET_FEATURES => {
                self.asked_features = true;
                Self::ask(message)
            }
            request::GET_PROTOCOL_FEATURES => {
                // Decided once: QEMU asks for every queue pair, and has sent SET_OWNER after the first.
                self.config.get_or_insert(self.owned);
                Self::ask(message)
            }
            request::SET_PROTOCOL_FEATURES => self.set_protocol_features(message),
            request::SET_FEATURES => self.set_features(message),
            request::SET_OWNER if self.owned => self.done(&message),
            request::SET_OWNER => {
                self.owned = true;
                self.pass(message)
            }
            // "No longer used", says the specification; the crate would forget half of its state.
            request::RESET_OWNER => self.done(&message),
            request::GET_QUEUE_NUM if self.negotiated(protocol::MQ) => {
                self.counting = true;
                Self::ask(message)
            }
            request::GET_QUEUE_NUM => {
                self.counting = true;
                let rings = u64::from(self.limits.rings);
                vec![Action::ToFrontEnd(Message::reply(message.request, rings))]
            }
            request::GET_MAX_MEM_SLOTS if self.negotiated(protocol::CONFIGURE_MEM_SLOTS) => {
                // The crate would promise 509.
                let slots = crate::vhost_user::request_filter::memory::MAX_REGIONS as u64;
                vec![Action::ToFrontEnd(Message::reply(message.request, slots))]
            }
            request::SET_MEM_TABLE => self.set_mem_table(message),
            request::ADD_MEM_REG if self.negotiated(protocol::CONFIGURE_MEM_SLOTS) => {
                self.add_region(message)
            }
            request::REM_MEM_REG if self.negotiated(protocol::CONFIGURE_MEM_SLOTS) => {
                self.remove_region(message)
            }
            request::SET_VRING_NUM
            | request::SET_VRING_BASE
            | request::GET_VRING_BASE
            | request::SET_VRING_ENABLE => {
                self.counting = false;
                self.vring_state(message)
            }
            request::SET_VRING_ADDR => self.vring_addr(message),
            request::SET_VRING_KICK | request::SET_VRING_CALL | request::SET_VRING_ERR => {
                self.vring_descriptor(message)
            }
            request::GET_CONFIG if self.negotiated(protocol::CONFIG) => Self::ask(message),
            request::SET_CONFIG if self.negotiated(protocol::CONFIG) => {
                self.refuse(&message, "the configuration space of a network device is read-only")
            }
            request::NET_SET_MTU if self.negotiated(protocol::MTU) => self.net_set_mtu(message),
            request::SEND_RARP if self.negotiated(protocol::RARP) => self.send_rarp(message),
            request::SET_STATUS if self.negotiated(protocol::STATUS) => {
                let Some(status) = message.number() else { return self.misshapen(&message) };
                self.status = status;
                self.done(&message)
            }
            request::GET_STATUS if self.negotiated(protocol::STATUS) => {
                vec![Action::ToFrontEnd(Message::reply(message.request, self.status))]
            }
            _ => self.ignore(&message, "not supported by this back-end, or not negotiated"),
        }
    }

    /// Completes an answer of the crate.
    pub fn reply(&self, mut message: Message) -> Message {
        if message.request == request::GET_PROTOCOL_FEATURES
            && let Some(features) = message.number()
        {
            let config = if self.config == Some(true) { 0 } else { 1 << protocol::CONFIG };
            message.payload = (features & !config | OURS).to_ne_bytes().to_vec();
        }
        message
    }

    fn misshapen(&self, message: &Message) -> Vec<Action> {
        self.refuse(message, format!("{} bytes are not its payload", message.payload.len()))
    }

    fn set_protocol_features(&mut self, mut message: Message) -> Vec<Action> {
        let Some(features) = message.number() else { return self.misshapen(&message) };
        self.protocol = features;
        message.payload = (features & !OURS).to_ne_bytes().to_vec();
        self.pass(message)
    }

    fn set_features(&mut self, message: Message) -> Vec<Action> {
        let Some(features) = message.number() else { return self.misshapen(&message) };
        let foreign = features & !self.limits.features;
        if foreign != 0 {
            return self.refuse(&message, format!("features {foreign:#x} were never offered"));
        }
        self.acked = features;
        self.counting = false;
        let mut actions = self.pass(message);
        if self.may_enable() {
            for (index, value) in std::mem::take(&mut self.early) {
                actions.push(Action::ToBackend(enable_request(index, value)));
            }
        }
        actions
    }

    fn net_set_mtu(&self, message: Message) -> Vec<Action> {
        match message.number() {
            Some(mtu) if (MIN_MTU..=u64::from(self.limits.mtu)).contains(&mtu) => {
                let mut actions = self.done(&message);
                actions.push(Action::GuestMtu(mtu.min(u64::from(u16::MAX)) as u16));
                actions
            }
            Some(mtu) => {
                let reason = format!(
                    "the front-end wants MTU {mtu}, the port has {}; give the VMM at most that \
                     (host_mtu=), or raise the parent's",
                    self.limits.mtu
                );
                self.refuse(&message, reason)
            }
            None => self.misshapen(&message),
        }
    }

    fn send_rarp(&self, message: Message) -> Vec<Action> {
        let Some(number) = message.number() else { return self.misshapen(&message) };
        let [a, b, c, d, e, f, _, _] = number.to_ne_bytes();
        let mac = Mac([a, b, c, d, e, f]);
        if mac != self.limits.mac {
            // Not a reason to cut a guest off: after a migration QEMU announces what it was given.
            let reason = format!(
                "{mac} is not the port's address, {own}, and only that is announced; give the VMM \
                 mac={own}, or the port the guest's (mac=)",
                own = self.limits.mac
            );
            return self.ignore(&message, reason);
        }
        let mut actions = self.done(&message);
        actions.push(Action::SendRarp(mac));
        actions
    }
}

/// Requests whose answer is a value, not an acknowledgement.
fn is_question(number: u32) -> bool {
    matches!(
        number,
        request::GET_FEATURES
            | request::GET_VRING_BASE
            | request::GET_PROTOCOL_FEATURES
            | request::GET_QUEUE_NUM
            | request::GET_CONFIG
            | request::GET_MAX_MEM_SLOTS
            | request::GET_STATUS
    )
}

/// Requests that may carry descriptors. Those of any other request are closed.
fn takes_descriptors(number: u32) -> bool {
    matches!(
        number,
        request::SET_MEM_TABLE
            | request::ADD_MEM_REG
            | request::REM_MEM_REG
            | request::SET_VRING_KICK
            | request::SET_VRING_CALL
            | request::SET_VRING_ERR
    )
}

#[cfg(test)]
mod tests;
