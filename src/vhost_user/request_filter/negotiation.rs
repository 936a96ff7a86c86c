//! The negotiated features of a connection, which decide how its messages are answered.
//!
//! A front-end gets an acknowledgement only if it has asked for one and has negotiated REPLY_ACK; a
//! question gets its value. Each answer has to come exactly once, from the crate or from here, or
//! the two sides of the connection lose step.

use crate::net::feature;
use crate::vhost_user::message::Message;
use crate::vhost_user::request_filter::action::{Action, RequestVerdict};

/// Protocol feature bits, by number.
pub(crate) mod protocol {
    pub const MQ: u32 = 0;
    pub const RARP: u32 = 2;
    pub const REPLY_ACK: u32 = 3;
    pub const MTU: u32 = 4;
    pub const CONFIG: u32 = 9;
    pub const CONFIGURE_MEM_SLOTS: u32 = 15;
    pub const STATUS: u32 = 16;
}

/// Protocol features that the filter serves by itself.
pub(crate) const OURS: u64 = 1 << protocol::RARP | 1 << protocol::MTU | 1 << protocol::STATUS;

/// The features negotiated so far.
#[derive(Debug, Default)]
pub(crate) struct Negotiation {
    /// SET_OWNER was sent.
    owned: bool,
    /// GET_FEATURES was sent.
    asked_features: bool,
    /// Whether CONFIG is offered; not decided before the first question for protocol features.
    config: Option<bool>,
    protocol: u64,
    acked: u64,
}

impl Negotiation {
    /// SET_OWNER. True for the first one.
    pub(crate) fn own(&mut self) -> bool {
        !std::mem::replace(&mut self.owned, true)
    }

    /// GET_FEATURES.
    pub(crate) fn ask_features(&mut self) {
        self.asked_features = true;
    }

    /// GET_PROTOCOL_FEATURES. Whether CONFIG is offered is decided at the first one: QEMU asks once
    /// for every queue pair, and sends SET_OWNER after the first question.
    pub(crate) fn ask_protocol_features(&mut self) {
        self.config.get_or_insert(self.owned);
    }

    /// SET_PROTOCOL_FEATURES. Returns those that the crate needs.
    pub(crate) fn take_protocol_features(&mut self, features: u64) -> u64 {
        self.protocol = features;
        features & !OURS
    }

    /// SET_FEATURES.
    pub(crate) fn acknowledge(&mut self, features: u64) {
        self.acked = features;
    }

    /// The protocol features to offer, if the crate offers these.
    pub(crate) fn offer(&self, crates: u64) -> u64 {
        let config = if self.config == Some(true) { 0 } else { 1 << protocol::CONFIG };
        crates & !config | OURS
    }

    /// Whether this protocol feature was negotiated.
    pub(crate) fn has(&self, number: u32) -> bool {
        self.protocol & (1 << number) != 0
    }

    /// Whether the crate accepts SET_VRING_ENABLE by now.
    pub(crate) fn may_enable(&self) -> bool {
        self.acked & (1 << feature::VHOST_USER_F_PROTOCOL_FEATURES) != 0
    }

    /// Whether the front-end waits for an acknowledgement of this message. The same test as the
    /// crate's: otherwise one of the two would answer and the other would not.
    pub(crate) fn wants_ack(&self, message: &Message) -> bool {
        message.needs_reply() && self.asked_features && self.has(protocol::REPLY_ACK)
    }
}

/// The answer to a message.
impl Negotiation {
    /// Passes a message on whose only answer is the acknowledgement, if that is wanted.
    pub(crate) fn pass(&self, message: Message) -> Vec<Action> {
        let ack = self.wants_ack(&message);
        let mut actions = vec![Action::ToBackend(message)];
        if ack {
            actions.push(Action::AwaitReply);
        }
        actions
    }

    /// Passes a message on that is a question.
    pub(crate) fn ask(message: Message) -> Vec<Action> {
        vec![Action::ToBackend(message), Action::AwaitReply]
    }

    /// Answers a message that the crate never sees.
    pub(crate) fn done(&self, message: &Message) -> Vec<Action> {
        if self.wants_ack(message) {
            vec![Action::ToFrontEnd(Message::reply(message.request, 0))]
        } else {
            Vec::new()
        }
    }

    /// Refuses a message. Where the answer has no room for a refusal, as with a question, the
    /// connection ends.
    pub(crate) fn refuse(&self, message: &Message, reason: impl Into<String>) -> Vec<Action> {
        let reason = format!("{}: {}", message.name(), reason.into());
        if self.wants_ack(message) && !message.is_question() {
            let reply = Action::ToFrontEnd(Message::reply(message.request, 1));
            vec![Action::Refused(reason), reply]
        } else {
            vec![Action::End(reason)]
        }
    }

    /// The meaning of a check's verdict for a front-end that negotiated this.
    pub(crate) fn follow(&self, verdict: RequestVerdict) -> Vec<Action> {
        match verdict {
            RequestVerdict::Pass(message) => self.pass(message),
            RequestVerdict::Ask(message) => Self::ask(message),
            RequestVerdict::Done(message) => self.done(&message),
            RequestVerdict::Refuse(message, reason) => self.refuse(&message, reason),
            RequestVerdict::Misshapen(message) => self.misshapen(&message),
        }
    }

    /// Refuses a message whose refusal the front-end need not get: the connection goes on.
    pub(crate) fn ignore(&self, message: &Message, reason: impl Into<String>) -> Vec<Action> {
        if self.wants_ack(message) || message.is_question() {
            return self.refuse(message, reason);
        }
        vec![Action::Refused(format!("{}: {}; ignored", message.name(), reason.into()))]
    }

    /// Refuses a message whose payload has another length than it must have.
    pub(crate) fn misshapen(&self, message: &Message) -> Vec<Action> {
        self.refuse(message, format!("{} bytes are not its payload", message.payload.len()))
    }
}
