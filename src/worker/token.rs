//! What woke a worker, as the number that epoll keeps with each descriptor.

use crate::worker::task::{Part, TurnId};

/// What woke a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventToken {
    /// Another thread asks for turns.
    Wake,
    /// A turn is due: the guest kicked a ring.
    Turn(TurnId),
    /// A descriptor is ready, and the task in this slot knows what that means.
    Ready(usize),
}

impl EventToken {
    pub(super) fn number(self) -> u64 {
        let (slot, kind) = match self {
            EventToken::Wake => (0, 0),
            EventToken::Turn(TurnId { slot, part: Part::First }) => (slot, 1),
            EventToken::Turn(TurnId { slot, part: Part::Second }) => (slot, 2),
            EventToken::Ready(slot) => (slot, 3),
        };
        (slot as u64) << 2 | kind
    }

    pub(super) fn of(number: u64) -> EventToken {
        let slot = (number >> 2) as usize;
        match number & 3 {
            0 => EventToken::Wake,
            1 => EventToken::Turn(TurnId { slot, part: Part::First }),
            2 => EventToken::Turn(TurnId { slot, part: Part::Second }),
            _ => EventToken::Ready(slot),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stands_for_its_token() {
        let turn = |slot, part| EventToken::Turn(TurnId { slot, part });
        let ready = EventToken::Ready(7);
        for token in [EventToken::Wake, turn(0, Part::First), turn(1000, Part::Second), ready] {
            assert_eq!(EventToken::of(token.number()), token);
        }
    }
}
