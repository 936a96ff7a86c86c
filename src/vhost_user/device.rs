//! The virtio-net device that one front-end negotiates with.
//!
//! A [`Device`] lives as long as one connection. It belongs to the control plane:
//! vhost-user-backend calls it on the connection's thread, and it passes the negotiated state on to
//! the queue pairs, which belong to the port and outlive the connection. All methods take `&self`;
//! there is no lock around the whole.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use log::debug;
use vhost::vhost_user::message::VhostUserProtocolFeatures;
use vhost_user_backend::VhostUserBackend;
use vmm_sys_util::epoll::EventSet;

use crate::config::PortConfig;
use crate::datapath::port_backend::PortBackend;
use crate::vhost_user::features;
use crate::vhost_user::net_config::NetConfig;
use crate::vhost_user::vring_handle::{ConnectionRings, VringHandle};
use crate::virtqueue::guest_map::SharedMemory;
use crate::virtqueue::ring_setup::MAX_RING_SIZE;

/// One connection's virtio-net device.
pub struct Device {
    port: String,
    queues: usize,
    offered: u64,
    protocol: VhostUserProtocolFeatures,
    config: NetConfig,
    rings: Arc<ConnectionRings>,
    attachment: Arc<PortBackend>,
    vrings: Mutex<Vec<VringHandle>>,
}

impl Device {
    /// A device for a front-end of the port with this configuration.
    pub fn new(
        config: &PortConfig,
        rings: Arc<ConnectionRings>,
        attachment: Arc<PortBackend>,
    ) -> Device {
        Device {
            port: config.name.clone(),
            queues: 2 * usize::from(config.queue_pairs),
            offered: features::offered(config),
            protocol: features::protocol(config),
            config: NetConfig::new(config),
            rings,
            attachment,
            vrings: Mutex::new(Vec::new()),
        }
    }

    /// Hands over the rings that the crate made for this device.
    pub fn set_vrings(&self, vrings: Vec<VringHandle>) {
        *self.vrings.lock().unwrap_or_else(PoisonError::into_inner) = vrings;
    }

    fn sync_all(&self) {
        let vrings = self.vrings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for vring in vrings {
            vring.sync();
        }
    }

    /// Stops every ring, because the front-end has disconnected. The crate's thread may still start
    /// one.
    pub fn stop_rings(&self) {
        for pair in self.rings.pairs() {
            pair.reset();
        }
    }

    /// The crate's thread has ended, too: stops the rings that it has started, releases the guest's
    /// memory, and forgets the front-end's negotiation.
    pub fn end(&self) {
        self.stop_rings();
        let _ = self.rings.set_memory(None);
        self.rings.set_features(0);
        self.attachment.negotiate(0, &self.port);
    }
}

impl VhostUserBackend for Device {
    type Bitmap = ();
    type Vring = VringHandle;

    fn num_queues(&self) -> usize {
        self.queues
    }

    fn max_queue_size(&self) -> usize {
        usize::from(MAX_RING_SIZE)
    }

    fn features(&self) -> u64 {
        self.offered
    }

    fn acked_features(&self, features: u64) {
        debug!("port {}: guest took features {features:#x}", self.port);
        // Before the rings start with them: the tap's header must have the length they expect.
        self.attachment.negotiate(features, &self.port);
        self.rings.set_features(features);
        self.sync_all();
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        self.protocol
    }

    fn set_event_idx(&self, _enabled: bool) {
        // Part of the acknowledged features, which come next.
    }

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        self.config.read(offset, size)
    }

    fn set_config(&self, _offset: u32, _bytes: &[u8]) -> io::Result<()> {
        // Since VERSION_1 the configuration space of a network device is read-only.
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn update_memory(&self, memory: SharedMemory) -> io::Result<()> {
        let before = self.rings.set_memory(Some(&memory))?;
        self.sync_all();
        drop(before);
        Ok(())
    }

    fn queues_per_thread(&self) -> Vec<u64> {
        Vec::new()
    }

    fn handle_event(
        &self,
        _event: u16,
        _events: EventSet,
        _vrings: &[VringHandle],
        _thread: usize,
    ) -> io::Result<()> {
        Ok(())
    }
}
