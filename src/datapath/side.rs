//! The two directions of a queue pair, named from the guest.

use crate::worker::task::Part;

/// One of the two directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The guest's transmit ring.
    FromGuest,
    /// The guest's receive ring.
    ToGuest,
}

impl Side {
    /// The side of vring `index`: receive rings are even, transmit rings odd (virtio 1.2, 5.1.2).
    pub fn of_vring(index: usize) -> Side {
        if index.is_multiple_of(2) { Side::ToGuest } else { Side::FromGuest }
    }

    /// The number of this ring of queue pair `pair`.
    pub fn vring(self, pair: u16) -> u16 {
        2 * pair + u16::from(self == Side::FromGuest)
    }

    /// The turn that serves this side.
    pub fn part(self) -> Part {
        match self {
            Side::FromGuest => Part::First,
            Side::ToGuest => Part::Second,
        }
    }

    /// The side that a turn serves.
    pub fn of_part(part: Part) -> Side {
        match part {
            Part::First => Side::FromGuest,
            Part::Second => Side::ToGuest,
        }
    }
}
