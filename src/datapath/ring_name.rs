//! A ring's name in the log: "port vm1: ring 3".

use std::fmt;

use crate::datapath::port::PortData;
use crate::datapath::side::Side;
use crate::virtqueue::vring::RingLog;

/// One ring of one queue pair of a port.
pub(crate) struct RingName<'a> {
    port: &'a PortData,
    vring: u16,
}

impl<'a> RingName<'a> {
    /// The ring of this side of the port's queue pair `pair`.
    pub(crate) fn new(port: &'a PortData, pair: u16, side: Side) -> RingName<'a> {
        RingName { port, vring: side.vring(pair) }
    }
}

impl fmt::Display for RingName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {}: ring {}", self.port.name, self.vring)
    }
}

impl RingLog for RingName<'_> {
    #[cold]
    fn warn(&self, text: fmt::Arguments<'_>) {
        self.port.log.warn(format_args!("ring {}: {text}", self.vring));
    }
}
