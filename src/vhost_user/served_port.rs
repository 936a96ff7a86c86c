//! The parts of a port that a connection works on.
//!
//! The control thread owns the port (`control/port.rs`) and outlives every connection. The front-end thread
//! gets these references and nothing else: it can neither reach the device nor the socket's path.

use std::sync::Arc;

use crate::config::PortConfig;
use crate::datapath::port::PortData;
use crate::datapath::port_backend::PortBackend;
use crate::datapath::queue_pair::QueuePair;

/// What a connection needs of its port.
pub struct ServedPort {
    /// The port's configuration.
    pub config: PortConfig,
    /// What the workers know of it.
    pub data: Arc<PortData>,
    /// Its queue pairs.
    pub pairs: Vec<Arc<QueuePair>>,
    /// What is behind the queue pairs.
    pub attachment: Arc<PortBackend>,
}
