//! A port's kernel device: there and up, there and down, or lost.
//!
//! Like `port_state.rs`, this is a pure table, and independent of it: it does not depend on a
//! connected front-end. While the device does not carry frames its tap queues are taken away from
//! the queue pairs, so that a frame for it counts as `no device` and not as sent.

/// Whether the device carries the port's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceState {
    /// The device is up, and its queues are behind the pairs.
    Carrying,
    /// The device is set down.
    Down,
    /// The device has vanished; it is made again when its parent is there.
    Lost,
}

/// An event of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceEvent {
    /// The kernel shows it up.
    Up,
    /// The kernel shows it down.
    Down,
    /// It has vanished.
    Vanished,
    /// It was made again.
    Remade,
}

/// The reaction for the queue pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taps {
    /// Leave them as they are.
    Keep,
    /// Put the device's queues behind them.
    Give,
    /// Take the queues away.
    Take,
}

impl DeviceState {
    /// Every state.
    #[cfg(test)]
    pub(crate) const ALL: [DeviceState; 3] =
        [DeviceState::Carrying, DeviceState::Down, DeviceState::Lost];

    /// The next state, and the reaction.
    pub fn after(self, event: DeviceEvent) -> (DeviceState, Taps) {
        match (self, event) {
            // Also if another device has taken the place: its queues are not those of the last one.
            (_, DeviceEvent::Remade) => (DeviceState::Carrying, Taps::Give),
            (_, DeviceEvent::Vanished) => (DeviceState::Lost, Taps::Take),
            (DeviceState::Carrying, DeviceEvent::Down) => (DeviceState::Down, Taps::Take),
            (DeviceState::Down, DeviceEvent::Up) => (DeviceState::Carrying, Taps::Give),
            // A lost device has no news, and the others are no change.
            (state, DeviceEvent::Up | DeviceEvent::Down) => (state, Taps::Keep),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queues_are_behind_the_pairs_in_one_state_only() {
        for state in DeviceState::ALL {
            for event in
                [DeviceEvent::Up, DeviceEvent::Down, DeviceEvent::Vanished, DeviceEvent::Remade]
            {
                let (next, taps) = state.after(event);
                let carries = next == DeviceState::Carrying;
                match taps {
                    Taps::Give => assert!(carries, "{state:?} {event:?}"),
                    Taps::Take => assert!(!carries, "{state:?} {event:?}"),
                    Taps::Keep => assert_eq!(next, state, "{event:?}"),
                }
            }
        }
    }

    #[test]
    fn a_lost_device_comes_back_only_when_it_is_made() {
        let (lost, _) = DeviceState::Carrying.after(DeviceEvent::Vanished);
        assert_eq!(lost.after(DeviceEvent::Up), (DeviceState::Lost, Taps::Keep));
        assert_eq!(lost.after(DeviceEvent::Remade), (DeviceState::Carrying, Taps::Give));
    }
}
