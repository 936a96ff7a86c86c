//! An uplink for unit tests, which takes frames or refuses them by a script, and receives none.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use nix::sys::eventfd::EventFd;

use crate::uplink::received::{Losses, ReceivedBatch};
use crate::uplink::send_frame::{SEND_HEADER, SendFrame};
use crate::uplink::wire::{Uplink, WantedFilters};
use crate::virtqueue::fetch;

/// The frames that were taken, without their headers.
pub(crate) type Taken = Arc<Mutex<Vec<Vec<u8>>>>;

/// Each call to send takes the next entry of the script: the most frames that it takes, or an
/// error. With no entry left it takes all.
pub(crate) struct FaultyUplink {
    script: VecDeque<Result<usize, Errno>>,
    taken: Taken,
    fd: EventFd,
}

impl FaultyUplink {
    pub(crate) fn new(script: impl IntoIterator<Item = Result<usize, Errno>>) -> FaultyUplink {
        let script = script.into_iter().collect();
        FaultyUplink { script, taken: Taken::default(), fd: EventFd::new().unwrap() }
    }

    pub(crate) fn taken(&self) -> Taken {
        Arc::clone(&self.taken)
    }
}

impl Uplink for FaultyUplink {
    fn receive(&mut self, _: usize) -> ReceivedBatch<'_> {
        ReceivedBatch { frames: &[], more: false }
    }

    fn send(&mut self, frames: &mut [SendFrame<'_>]) -> io::Result<usize> {
        let count = self.script.pop_front().unwrap_or(Ok(usize::MAX))?.min(frames.len());
        for frame in frames.iter().take(count) {
            let len = frame.pieces().iter().map(|piece| piece.len()).sum();
            let mut whole = vec![0; len];
            fetch::get(frame.pieces(), &mut whole);
            self.taken.lock().unwrap().push(whole.split_off(SEND_HEADER));
        }
        Ok(count)
    }

    fn inlet(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn outlet(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn outlets(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [Some(self.fd.as_fd()), None]
    }

    fn take_error(&mut self) -> Option<Errno> {
        None
    }

    fn set_filters(&mut self, _: &WantedFilters<'_>) -> io::Result<()> {
        Ok(())
    }

    fn set_host_unicast(&mut self, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn losses(&mut self) -> io::Result<Losses> {
        Ok(Losses::default())
    }
}
