//! A port's states: the front-end that it serves, and the reaction to each event.
//!
//! [`PortState::after`] is the whole table: each event in each state has one next state and one
//! [`Reaction`]. It is pure; `port.rs` finds out which event it is, takes the next state from here,
//! and does what the reaction says. docs/architecture.md draws the table in "A port's states", and
//! a test compares the two.
//!
//! The carrier of the port's frames changes independently of this: a guest keeps its rings while
//! the port's device is lost (`kernel_port/device_state.rs`).

/// The front-end that a port serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PortState {
    /// The device is made and the socket reserved; no front-end can reach the port yet.
    Opening,
    /// No front-end is connected.
    Ready,
    /// A front-end is connected.
    Connected,
    /// The connection is about to end, and another front-end waits for that.
    Handover,
    /// The port takes no front-end any more: too many descriptors of its front-ends cannot be
    /// closed.
    Condemned,
    /// The port ends. A last connection may not have ended yet.
    Closing,
}

/// An event of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortEvent {
    /// The port's endpoint is open: front-ends can reach it.
    Opened,
    /// A front-end has connected.
    Arrived,
    /// A front-end has connected while the present connection hangs up, and no living one waits
    /// already.
    Overlapped,
    /// The front-end that was to be served cannot be: there is no thread for it.
    Unserved,
    /// The connection has ended.
    Ended,
    /// The connection has ended and left too many descriptors that cannot be closed.
    Spoiled,
    /// The waiting front-end has waited too long.
    Expired,
    /// The port is to end.
    Stopped,
}

/// The reaction to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Nothing.
    Nothing,
    /// Serve the front-end that has connected.
    Serve,
    /// Let it wait, instead of one that waits already.
    KeepWaiting,
    /// Close its connection.
    Refuse,
    /// Serve the front-end that has waited.
    ServeWaiting,
    /// Close the connection of the front-end that has waited.
    RefuseWaiting,
    /// Close the endpoint and the waiting connection, and end the present one.
    Close,
}

impl PortState {
    /// Every state.
    #[cfg(test)]
    pub const ALL: [PortState; 6] = [
        PortState::Opening,
        PortState::Ready,
        PortState::Connected,
        PortState::Handover,
        PortState::Condemned,
        PortState::Closing,
    ];

    /// The next state, and the reaction.
    pub fn after(self, event: PortEvent) -> (PortState, Reaction) {
        use PortEvent as E;
        use PortState as S;
        use Reaction as R;
        match (self, event) {
            // The end is final, and nothing is left to close at a second one.
            (S::Closing, E::Arrived | E::Overlapped) => (S::Closing, R::Refuse),
            (S::Closing, _) => (S::Closing, R::Nothing),
            (_, E::Stopped) => (S::Closing, R::Close),

            (S::Opening, E::Opened) => (S::Ready, R::Nothing),
            (S::Opening, E::Arrived | E::Overlapped) => (S::Opening, R::Refuse),

            (S::Ready, E::Arrived | E::Overlapped) => (S::Connected, R::Serve),

            (S::Connected, E::Arrived) => (S::Connected, R::Refuse),
            (S::Connected, E::Overlapped) => (S::Handover, R::KeepWaiting),
            (S::Connected, E::Ended | E::Unserved) => (S::Ready, R::Nothing),
            (S::Connected, E::Spoiled) => (S::Condemned, R::Nothing),

            (S::Handover, E::Arrived) => (S::Handover, R::Refuse),
            (S::Handover, E::Overlapped) => (S::Handover, R::KeepWaiting),
            (S::Handover, E::Ended) => (S::Connected, R::ServeWaiting),
            (S::Handover, E::Spoiled) => (S::Condemned, R::RefuseWaiting),
            (S::Handover, E::Expired) => (S::Connected, R::RefuseWaiting),

            (S::Condemned, E::Arrived | E::Overlapped) => (S::Condemned, R::Refuse),

            // The other events cannot happen there: a connection cannot end where there is none,
            // and an endpoint is not opened twice.
            (state, _) => (state, R::Nothing),
        }
    }

    /// Whether a front-end that listens is to be connected to.
    pub fn dials(self) -> bool {
        matches!(self, PortState::Ready | PortState::Condemned)
    }
}

#[cfg(test)]
mod tests;
