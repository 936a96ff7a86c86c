//! Working memory of a worker.
//!
//! A turn allocates nothing: what it needs beyond the guest's memory is here, made once for each worker and big
//! enough for the longest chain and the fullest batch. Memory that no frame has needed yet is not touched, so a
//! worker that serves no parent of a kind pays nothing for it.

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
