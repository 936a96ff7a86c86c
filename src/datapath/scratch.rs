//! Working memory of a worker.
//!
//! A turn allocates nothing. The memory that it needs beside the guest's is here, made once for
//! each worker, and large enough for the longest chain and the fullest batch. Memory that no frame
//! has needed yet is not touched, so a worker pays nothing for a kind of parent that it does not
//! serve.

use crate::datapath::arrivals::ArrivalScratch;
use crate::datapath::fanout::Fanout;
use crate::datapath::tx_batch::TxScratch;

/// Working memory of a worker.
#[derive(Default)]
pub struct Scratch {
    /// Frames from a guest.
    pub(crate) batch: TxScratch,
    /// Frames from a parent.
    pub(crate) arrivals: ArrivalScratch,
    /// Frames on their way to guests.
    pub(crate) fanout: Fanout,
}
