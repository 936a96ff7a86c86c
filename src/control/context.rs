//! What every part of a port's control side works on.

use std::sync::Arc;

use nix::sys::eventfd::EventFd;

use crate::config::PortConfig;
use crate::control::parents::Parents;
use crate::datapath::port::PortData;
use crate::datapath::port_backend::PortBackend;
use crate::datapath::queue_pair::QueuePair;
use crate::host::neighbours::Neighbours;
use crate::host::netlink::Netlink;
use crate::worker::pool::{Pool, Task, WorkerSlot};

/// What all ports of the process share on the control side.
pub struct ControlContext {
    /// The kernel's ear for devices.
    pub netlink: Netlink,
    /// The workers.
    pub pool: Pool,
    /// Rung by workers when a port has something for the control side.
    pub notifier: Arc<EventFd>,
    /// The parents with ports in userspace.
    pub parents: Parents,
    /// What the host knows of the LAN's machines.
    pub neighbours: Neighbours,
}

/// The parts of a port that outlive devices and front-ends.
pub struct PortCore {
    /// What it is to be.
    pub config: PortConfig,
    /// What the workers know of it.
    pub data: Arc<PortData>,
    /// Its queue pairs.
    pub pairs: Vec<Arc<QueuePair>>,
    /// What is behind them.
    pub attachment: Arc<PortBackend>,
    slots: Vec<WorkerSlot>,
}

impl PortCore {
    /// Makes the queue pairs and worker slots them.
    pub fn new(config: &PortConfig, data: PortData, slots: Vec<WorkerSlot>) -> PortCore {
        let data = Arc::new(data);
        let mut pairs = Vec::new();
        for (index, slot) in (0..).zip(&slots) {
            let pair = Arc::new(QueuePair::new(index, Arc::clone(&data), slot.clone()));
            slot.take(Task::Pair(Arc::clone(&pair)));
            pairs.push(pair);
        }
        PortCore { config: config.clone(), data, pairs, attachment: Arc::default(), slots }
    }

    /// The port's name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The pairs are carried no longer.
    pub fn leave(&self) {
        self.slots.iter().for_each(WorkerSlot::leave);
    }
}
