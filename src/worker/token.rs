//! What woke a worker, as the number that epoll keeps with each descriptor.

use crate::worker::task::{Part, TurnId};

/// What woke a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// Another thread asks for turns.
    Wake,
    /// A turn is due: the guest kicked a ring.
    Turn(TurnId),
    /// A descriptor is ready, and the task in this slot knows what that means.
    Ready(usize),
}

impl Token {
    pub(super) fn number(self) -> u64 {
        let (slot, kind) = match self {
            Token::Wake => (0, 0),
            Token::Turn(TurnId { slot, part: Part::First }) => (slot, 1),
            Token::Turn(TurnId { slot, part: Part::Second }) => (slot, 2),
            Token::Ready(slot) => (slot, 3),
        };
        (slot as u64) << 2 | kind
    }

    pub(super) fn of(number: u64) -> Token {
        let slot = (number >> 2) as usize;
        match number & 3 {
            0 => Token::Wake,
            1 => Token::Turn(TurnId { slot, part: Part::First }),
            2 => Token::Turn(TurnId { slot, part: Part::Second }),
            _ => Token::Ready(slot),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stands_for_its_token() {
        let turn = |slot, part| Token::Turn(TurnId { slot, part });
        let ready = Token::Ready(7);
        for token in [Token::Wake, turn(0, Part::First), turn(1000, Part::Second), ready] {
            assert_eq!(Token::of(token.number()), token);
        }
    }
}
