//! The parts of a port that a connection works on.
//!
//! The control thread owns the port (`control/port.rs`) and outlives every connection. The
//! front-end thread gets only these references: it can reach neither the device nor the socket's
//! path.

use std::sync::Arc;

use crate::config::PortConfig;
use crate::datapath::port::PortData;
use crate::datapath::port_backend::PortBackend;
use crate::datapath::queue_pair::QueuePair;

/// The parts that a connection needs of its port.
pub struct ServedPort {
    /// The port's configuration.
    pub config: PortConfig,
    /// The workers' view of the port.
    pub data: Arc<PortData>,
    /// Its queue pairs.
    pub pairs: Vec<Arc<QueuePair>>,
    /// The other end of the queue pairs.
    pub attachment: Arc<PortBackend>,
}
