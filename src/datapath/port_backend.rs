//! What a port is attached to, and in which form the guest takes its frames.
//!
//! With a macvtap device behind the port, two settings of its tap depend on what the guest
//! negotiated: the offloads that the kernel may leave to the guest (per device), and the length of
//! the header before each frame (per queue). The device may also be lost and made again while a
//! guest runs, and then needs the same settings again. Both come together here. Our own switch
//! reads the features of each guest by itself.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use log::warn;

use crate::datapath::attachment::Attachment;
use crate::datapath::backing::Backing;
use crate::datapath::queue_pair::QueuePair;
use crate::net::vnet_hdr;
use crate::uplink::tap::TapQueue;
use crate::uplink::tap_offload::tap_offload;

#[derive(Debug, Default)]
struct BackendState {
    /// The tap queues; none without a macvtap device.
    queues: Vec<Arc<TapQueue>>,
    /// The place in a switch; none with a macvtap device.
    attachment: Option<Attachment>,
    features: u64,
}

/// What is behind a port's queue pairs.
#[derive(Debug, Default)]
pub struct PortBackend(Mutex<BackendState>);

impl PortBackend {
    fn lock(&self) -> MutexGuard<'_, BackendState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The guest took these features; 0 when there is no guest.
    pub fn negotiate(&self, features: u64, port: &str) {
        let mut state = self.lock();
        state.features = features;
        state.adjust(port);
    }

    /// Puts tap queues behind the pairs; none when the device is lost.
    pub fn set_taps(&self, queues: &[Arc<TapQueue>], pairs: &[Arc<QueuePair>], port: &str) {
        let mut state = self.lock();
        state.queues = queues.to_vec();
        state.adjust(port);
        drop(state);
        for (index, pair) in pairs.iter().enumerate() {
            pair.set_backing(queues.get(index).cloned().map_or(Backing::Nothing, Backing::Tap));
        }
    }

    /// Attaches the pairs to a switch, each at its own worker's uplink queue; none when the port
    /// closes.
    pub fn set_attachments(&self, attachments: &[Attachment], pairs: &[Arc<QueuePair>]) {
        self.lock().attachment = attachments.first().cloned();
        for (index, pair) in pairs.iter().enumerate() {
            pair.set_backing(
                attachments.get(index).cloned().map_or(Backing::Nothing, Backing::Switch),
            );
        }
    }

    /// Sends one frame (without header) out of the port, from the control side.
    pub fn inject(&self, frame: &[u8]) -> io::Result<()> {
        let state = self.lock();
        if let Some(attachment) = &state.attachment {
            return attachment.inject(frame);
        }
        let first = state.queues.first().ok_or(io::ErrorKind::NotConnected)?;
        let mut message = vec![0; state.header()];
        message.extend_from_slice(frame);
        first.write(&message).map(|_| ())
    }
}

impl BackendState {
    /// Length of the header before every frame, in bytes: the tap's own until there is a guest.
    fn header(&self) -> usize {
        match self.features {
            0 => vnet_hdr::HEADER,
            features => vnet_hdr::header_len(features),
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
        if let Err(error) = first.set_offload(tap_offload(self.features)) {
            warn!("port {port}: cannot set the tap's offloads: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::feature;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    /// SEND_RARP may come before SET_FEATURES. The frame used to get a header of 10 bytes then,
    /// while the tap expected 12 and took two bytes of the address for the header's end.
    #[test]
    fn a_frame_injected_before_the_features_has_the_header_that_the_tap_expects() {
        let none = SockFlag::empty();
        let (wire, tap) = socketpair(AddressFamily::Unix, SockType::Datagram, None, none).unwrap();
        let taps = PortBackend::default();
        taps.set_taps(&[Arc::new(TapQueue::new(tap))], &[], "test");
        let injected = |features| {
            taps.negotiate(features, "test");
            taps.inject(&[7; 60]).unwrap();
            let mut message = [1; 100];
            let len = nix::unistd::read(&wire, &mut message).unwrap();
            (len, message[..len].iter().take_while(|&&byte| byte == 0).count())
        };
        assert_eq!(injected(0), (72, 12));
        assert_eq!(injected(1 << feature::VIRTIO_F_VERSION_1), (72, 12));
        assert_eq!(injected(1 << feature::VIRTIO_NET_F_CSUM), (70, 10));
    }
}
