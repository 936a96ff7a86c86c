//! The parts of a port that outlive devices, parents and front-ends.
//!
//! A front-end disconnects and another one connects; a device is lost and made again. The queue
//! pairs, the workers' view of the port, and the worker slots stay from the start of a port to its
//! end.

use std::sync::Arc;

use crate::config::PortConfig;
use crate::datapath::port::PortData;
use crate::datapath::port_backend::PortBackend;
use crate::datapath::queue_pair::QueuePair;
use crate::datapath::scratch::Scratch;
use crate::vhost_user::served_port::ServedPort;
use crate::worker::slot::WorkerSlot;

/// The parts that all of a port's control side works on.
pub struct PortCore {
    /// The port's configuration.
    pub config: PortConfig,
    /// The workers' view of the port.
    pub data: Arc<PortData>,
    /// Its queue pairs.
    pub pairs: Vec<Arc<QueuePair>>,
    /// The other end of the queue pairs.
    pub attachment: Arc<PortBackend>,
    slots: Vec<WorkerSlot<Scratch>>,
}

impl PortCore {
    /// Makes one queue pair for each slot and puts it into the slot.
    pub fn new(config: &PortConfig, data: PortData, slots: Vec<WorkerSlot<Scratch>>) -> PortCore {
        let data = Arc::new(data);
        let mut pairs = Vec::new();
        for (index, slot) in (0..).zip(&slots) {
            let pair = Arc::new(QueuePair::new(index, Arc::clone(&data), slot.clone()));
            slot.take(pair.clone());
            pairs.push(pair);
        }
        PortCore { config: config.clone(), data, pairs, attachment: Arc::default(), slots }
    }

    /// The port's name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The parts that a connection needs of the port.
    pub fn served(&self) -> ServedPort {
        ServedPort {
            config: self.config.clone(),
            data: Arc::clone(&self.data),
            pairs: self.pairs.clone(),
            attachment: Arc::clone(&self.attachment),
        }
    }

    /// Takes the queue pairs out of their worker slots.
    pub fn leave(&self) {
        self.slots.iter().for_each(WorkerSlot::leave);
    }
}
