//! What every part of a port's control side works on.

use std::sync::Arc;

use nix::sys::eventfd::EventFd;

use super::lan::Lans;
use crate::config::PortConfig;
use crate::device::attachment::Attachment;
use crate::port::PortData;
use crate::queue::pair::QueuePair;
use crate::queue::pool::{Pool, Seat, Sitter};
use crate::uplink::{Neighbours, Netlink};

/// What all ports of the process share on the control side.
pub struct Ground {
    /// The kernel's ear for devices.
    pub netlink: Netlink,
    /// The workers.
    pub pool: Pool,
    /// Rung by workers when a port has something for the control side.
    pub bell: Arc<EventFd>,
    /// The parents with ports in userspace.
    pub lans: Lans,
    /// What the host knows of the LAN's machines.
    pub neighbours: Neighbours,
}

/// The parts of a port that outlive devices and front-ends.
pub struct Core {
    /// What it is to be.
    pub config: PortConfig,
    /// What the workers know of it.
    pub data: Arc<PortData>,
    /// Its queue pairs.
    pub pairs: Vec<Arc<QueuePair>>,
    /// What is behind them.
    pub attachment: Arc<Attachment>,
    seats: Vec<Seat>,
}

impl Core {
    /// Makes the queue pairs and seats them.
    pub fn new(config: &PortConfig, data: PortData, seats: Vec<Seat>) -> Core {
        let data = Arc::new(data);
        let mut pairs = Vec::new();
        for (index, seat) in (0..).zip(&seats) {
            let pair = Arc::new(QueuePair::new(index, Arc::clone(&data), seat.clone()));
            seat.take(Sitter::Pair(Arc::clone(&pair)));
            pairs.push(pair);
        }
        Core { config: config.clone(), data, pairs, attachment: Arc::default(), seats }
    }

    /// The port's name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The pairs are carried no longer.
    pub fn leave(&self) {
        self.seats.iter().for_each(Seat::leave);
    }
}
