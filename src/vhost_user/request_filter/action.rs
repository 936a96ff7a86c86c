//! The result of a check of a request, and the session's action on it.
//!
//! A check returns a [`RequestVerdict`]. [`RequestFilter`](super::RequestFilter) turns it into
//! [`Action`]s, because only the filter knows what the front-end negotiated: whether it waits for
//! an acknowledgement, say.

use crate::net::mac::Mac;
use crate::vhost_user::message::Message;

/// The session's action on a message.
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
    /// The guest was given this MTU, in bytes.
    GuestMtu(u16),
    /// A request was refused, for this reason; the connection goes on.
    Refused(String),
    /// End the connection, for this reason.
    End(String),
}

/// The result of a check of a request.
#[derive(Debug)]
pub(crate) enum RequestVerdict {
    /// The crate gets it. Its only answer is the acknowledgement, if the front-end wants one.
    Pass(Message),
    /// The crate gets it, and answers with a value.
    Ask(Message),
    /// It is done; the crate never sees it.
    Done(Message),
    /// It is refused, for this reason.
    Refuse(Message, String),
    /// Its payload does not have the length of such a request.
    Misshapen(Message),
}
