//! Every request of a front-end passes the request filter before the crate sees it.
//!
//! Why it exists: the vhost crates end the connection at the first message that they do not know or
//! do not accept, and QEMU's network front-end sends several of those in normal operation. The
//! filter corrects this without a change to the crates:
//!
//! * SET_VRING_ENABLE before SET_FEATURES (QEMU, at every device reset) is kept, and given to the
//!   crate when the features are acknowledged.
//! * ADD_MEM_REG for a region that the connection has already (QEMU up to 7.2, once per queue pair)
//!   is acknowledged and dropped.
//! * NET_SET_MTU, SEND_RARP, SET_STATUS and GET_STATUS are answered here. The protocol features
//!   that announce them are added to the crate's answer, and removed from what the crate is given.
//!   Each is served only if its feature was negotiated. GET_MAX_MEM_SLOTS is answered here, too,
//!   with the limit that the filter enforces.
//! * CONFIG is offered only to a front-end that sends SET_OWNER before it asks for protocol
//!   features. This is the specification's order, and that of cloud-hypervisor, crosvm, Firecracker
//!   and DPDK. QEMU asks first, does not use CONFIG for network devices, and prints a warning at
//!   every start if it is offered.
//! * A wrong request is refused with a message that says what is wrong and why: by a negative
//!   acknowledgement where the front-end asked for one, else by ending the connection. An unknown
//!   request that wants no answer is ignored.
//!
//! | file | idea |
//! | --- | --- |
//! | [`action`] | the result of a check, and the session's action on it |
//! | [`memory`] | requests about guest memory |
//! | [`negotiation`] | the negotiated features of the connection |
//! | [`region`] | a memory region as the front-end describes it |
//! | [`region_file`] | the file behind a region |
//! | [`rings`] | requests about rings |
//! | [`sharing`] | whether the guest's memory is shared with us at all |
//!
//! The filter does no I/O on the connection: [`RequestFilter::request`] turns one message into
//! [`Action`]s, which `session.rs` carries out. Its memory of a front-end is bounded: one early
//! SET_VRING_ENABLE for each ring of the port, and at most 32 memory regions. Specification: QEMU's
//! `docs/interop/vhost-user.rst`.

pub mod action;
pub(crate) mod memory;
pub(crate) mod negotiation;
pub(crate) mod region;
pub(crate) mod region_file;
pub(crate) mod rings;
pub(crate) mod sharing;

use crate::net::mac::Mac;
use crate::vhost_user::message::{Message, request};
use crate::vhost_user::request_filter::action::Action;
use crate::vhost_user::request_filter::memory::{GuestRegions, MAX_REGIONS};
use crate::vhost_user::request_filter::negotiation::{Negotiation, protocol};
use crate::vhost_user::request_filter::rings::RingRequests;

/// Smallest MTU of an IPv4 host (RFC 791), in bytes.
const MIN_MTU: u64 = 68;

/// The bounds of the device behind the filter.
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
    /// The front-end's process, whose mappings are checked; 0 when it is not known.
    pub pid: i32,
}

/// The filter's state of a connection.
#[derive(Debug)]
pub struct RequestFilter {
    limits: Limits,
    negotiated: Negotiation,
    /// The front-end has asked how many queue pairs there are, and has used none yet.
    counting: bool,
    rings: RingRequests,
    memory: GuestRegions,
    status: u64,
}

impl RequestFilter {
    /// The filter of a new connection.
    pub fn new(limits: Limits) -> RequestFilter {
        RequestFilter {
            limits,
            negotiated: Negotiation::default(),
            counting: false,
            rings: RingRequests::new(limits.rings),
            memory: GuestRegions::new(limits.memory, limits.pid),
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

    /// The likely reason of a front-end that disconnects now. QEMU and cloud-hypervisor that want
    /// more queues than the port has disconnect right after they have asked for the number, and
    /// report it only in their own log.
    pub fn why_left(&self) -> Option<String> {
        let pairs = self.rings.pairs();
        self.counting.then(|| {
            format!(
                "it asked for the number of queue pairs, {pairs}, and used none; if the VMM wants \
                 more, give the port as many (queue-pairs=4 for the VMM's queues=4) or the VMM fewer"
            )
        })
    }

    /// Judges a request.
    pub fn request(&mut self, mut message: Message) -> Vec<Action> {
        if message.is_reply() {
            return vec![Action::End(format!("{}: a reply to no request", message.name()))];
        }
        if !message.takes_descriptors() {
            message.fds.clear();
        }
        match message.request {
            request::GET_FEATURES => {
                self.negotiated.ask_features();
                Negotiation::ask(message)
            }
            request::GET_PROTOCOL_FEATURES => {
                self.negotiated.ask_protocol_features();
                Negotiation::ask(message)
            }
            request::SET_PROTOCOL_FEATURES => self.set_protocol_features(message),
            request::SET_FEATURES => self.set_features(message),
            request::SET_OWNER if self.negotiated.own() => self.negotiated.pass(message),
            request::SET_OWNER => self.negotiated.done(&message),
            // "No longer used", says the specification; the crate would forget half of its state.
            request::RESET_OWNER => self.negotiated.done(&message),
            request::GET_QUEUE_NUM if self.negotiated.has(protocol::MQ) => {
                self.counting = true;
                Negotiation::ask(message)
            }
            request::GET_QUEUE_NUM => {
                self.counting = true;
                let rings = u64::from(self.limits.rings);
                vec![Action::ToFrontEnd(Message::reply(message.request, rings))]
            }
            request::GET_MAX_MEM_SLOTS if self.negotiated.has(protocol::CONFIGURE_MEM_SLOTS) => {
                // The crate would promise 509.
                vec![Action::ToFrontEnd(Message::reply(message.request, MAX_REGIONS as u64))]
            }
            request::SET_MEM_TABLE => {
                let verdict = self.memory.set_table(message);
                self.negotiated.follow(verdict)
            }
            request::ADD_MEM_REG if self.negotiated.has(protocol::CONFIGURE_MEM_SLOTS) => {
                let verdict = self.memory.add(message);
                self.negotiated.follow(verdict)
            }
            request::REM_MEM_REG if self.negotiated.has(protocol::CONFIGURE_MEM_SLOTS) => {
                let verdict = self.memory.remove(message);
                self.negotiated.follow(verdict)
            }
            request::SET_VRING_NUM
            | request::SET_VRING_BASE
            | request::GET_VRING_BASE
            | request::SET_VRING_ENABLE => {
                self.counting = false;
                let verdict = self.rings.state(message, self.negotiated.may_enable());
                self.negotiated.follow(verdict)
            }
            request::SET_VRING_ADDR => {
                self.negotiated.follow(self.rings.address(message, &self.memory))
            }
            request::SET_VRING_KICK | request::SET_VRING_CALL | request::SET_VRING_ERR => {
                self.negotiated.follow(self.rings.descriptor(message))
            }
            request::GET_CONFIG if self.negotiated.has(protocol::CONFIG) => {
                Negotiation::ask(message)
            }
            request::SET_CONFIG if self.negotiated.has(protocol::CONFIG) => self
                .negotiated
                .refuse(&message, "the configuration space of a network device is read-only"),
            request::NET_SET_MTU if self.negotiated.has(protocol::MTU) => self.net_set_mtu(message),
            request::SEND_RARP if self.negotiated.has(protocol::RARP) => self.send_rarp(message),
            request::SET_STATUS if self.negotiated.has(protocol::STATUS) => {
                let Some(status) = message.number() else {
                    return self.negotiated.misshapen(&message);
                };
                self.status = status;
                self.negotiated.done(&message)
            }
            request::GET_STATUS if self.negotiated.has(protocol::STATUS) => {
                vec![Action::ToFrontEnd(Message::reply(message.request, self.status))]
            }
            _ => self
                .negotiated
                .ignore(&message, "not supported by this back-end, or not negotiated"),
        }
    }

    /// Completes an answer of the crate.
    pub fn reply(&self, mut message: Message) -> Message {
        if message.request == request::GET_PROTOCOL_FEATURES
            && let Some(features) = message.number()
        {
            message.payload = self.negotiated.offer(features).to_ne_bytes().to_vec();
        }
        message
    }

    fn set_protocol_features(&mut self, mut message: Message) -> Vec<Action> {
        let Some(features) = message.number() else { return self.negotiated.misshapen(&message) };
        let passed = self.negotiated.take_protocol_features(features);
        message.payload = passed.to_ne_bytes().to_vec();
        self.negotiated.pass(message)
    }

    fn set_features(&mut self, message: Message) -> Vec<Action> {
        let Some(features) = message.number() else { return self.negotiated.misshapen(&message) };
        let foreign = features & !self.limits.features;
        if foreign != 0 {
            return self
                .negotiated
                .refuse(&message, format!("features {foreign:#x} were never offered"));
        }
        self.negotiated.acknowledge(features);
        self.counting = false;
        let mut actions = self.negotiated.pass(message);
        if self.negotiated.may_enable() {
            actions.extend(self.rings.take_early().map(Action::ToBackend));
        }
        actions
    }

    fn net_set_mtu(&self, message: Message) -> Vec<Action> {
        match message.number() {
            Some(mtu) if (MIN_MTU..=u64::from(self.limits.mtu)).contains(&mtu) => {
                let mut actions = self.negotiated.done(&message);
                actions.push(Action::GuestMtu(mtu.min(u64::from(u16::MAX)) as u16));
                actions
            }
            Some(mtu) => {
                let reason = format!(
                    "the front-end wants MTU {mtu}, the port has {}; give the VMM at most that \
                     (host_mtu=), or raise the parent's",
                    self.limits.mtu
                );
                self.negotiated.refuse(&message, reason)
            }
            None => self.negotiated.misshapen(&message),
        }
    }

    fn send_rarp(&self, message: Message) -> Vec<Action> {
        let Some(number) = message.number() else { return self.negotiated.misshapen(&message) };
        let [a, b, c, d, e, f, _, _] = number.to_ne_bytes();
        let mac = Mac([a, b, c, d, e, f]);
        if mac != self.limits.mac {
            // Not a reason to cut a guest off: after a migration QEMU announces the guest's former
            // MTU.
            let reason = format!(
                "{mac} is not the port's address, {own}, and the port announces only its own; \
                 give the VMM mac={own}, or give the port the guest's address (mac=)",
                own = self.limits.mac
            );
            return self.negotiated.ignore(&message, reason);
        }
        let mut actions = self.negotiated.done(&message);
        actions.push(Action::SendRarp(mac));
        actions
    }
}

#[cfg(test)]
mod tests;
