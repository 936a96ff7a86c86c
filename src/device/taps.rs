//! A port's tap queues and how the guest wants its frames.
//!
//! Two settings of a tap depend on what the guest negotiated: which offloads the kernel may leave to
//! it (per device), and the length of the header in front of each frame (per queue). The device may
//! also be lost and made anew while a guest runs, and then needs the same settings again. Both come
//! together here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use log::warn;

use super::features;
use crate::queue::pair::QueuePair;
use crate::queue::vnet;
use crate::uplink::TapQueue;

#[derive(Debug, Default)]
struct State {
    queues: Vec<Arc<TapQueue>>,
    features: u64,
}

/// The tap queues behind a port's queue pairs.
#[derive(Debug, Default)]
pub struct Taps(Mutex<State>);

impl Taps {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The guest took these features; 0 when there is no guest.
    pub fn negotiate(&self, features: u64, port: &str) {
        let mut state = self.lock();
        state.features = features;
        state.adjust(port);
    }

    /// Puts other queues behind the pairs; none when the device has gone.
    pub fn replace(&self, queues: &[Arc<TapQueue>], pairs: &[Arc<QueuePair>], port: &str) {
        let mut state = self.lock();
        state.queues = queues.to_vec();
        state.adjust(port);
        drop(state);
        for (index, pair) in pairs.iter().enumerate() {
            pair.set_tap(queues.get(index).cloned());
        }
    }

    /// Writes one frame (without header) out of the port, from the control side.
    pub fn inject(&self, frame: &[u8]) -> std::io::Result<()> {
        let state = self.lock();
        let first = state.queues.first().ok_or(std::io::ErrorKind::NotConnected)?;
        let mut message = vec![0; state.header()];
        message.extend_from_slice(frame);
        first.write(&message).map(|_| ())
    }
}

impl State {
    /// Length of the header in front of every frame, in bytes: the tap's own until there is a guest.
    fn header(&self) -> usize {
        match self.features {
            0 => vnet::HEADER,
            features => vnet::header_len(features),
        }
    }

    fn adjust(&self, port: &str) {
        let header = self.header();
        for queue in &self.queues {
            if let Err(error) = queue.set_header_len(header) {
                warn!("port {port}: cannot set the tap's header length to {header}: {error}");
            }
        }
        let Some(first) = self.queues.first() else { return };
        if let Err(error) = first.set_offload(features::tap_offload(self.features)) {
            warn!("port {port}: cannot set the tap's offloads: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::vnet::bit;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    /// SEND_RARP may come before SET_FEATURES. The frame used to get a header of 10 bytes then, while
    /// the tap expected 12 and took two bytes of the address for the header's end.
    #[test]
    fn a_frame_injected_before_the_features_has_the_header_that_the_tap_expects() {
        let none = SockFlag::empty();
        let (wire, tap) = socketpair(AddressFamily::Unix, SockType::Datagram, None, none).unwrap();
        let taps = Taps::default();
        taps.replace(&[Arc::new(TapQueue::stand_in(tap))], &[], "test");
        let injected = |features| {
            taps.negotiate(features, "test");
            taps.inject(&[7; 60]).unwrap();
            let mut message = [1; 100];
            let len = nix::unistd::read(&wire, &mut message).unwrap();
            (len, message[..len].iter().take_while(|&&byte| byte == 0).count())
        };
        assert_eq!(injected(0), (72, 12));
        assert_eq!(injected(1 << bit::VERSION_1), (72, 12));
        assert_eq!(injected(1 << bit::CSUM), (70, 10));
    }
}
