//! Frames from the wire that wait for a guest's buffers.
//!
//! The kernel hands over what has arrived from the wire in blocks, about eighty frames at memory
//! speed. A guest that was busy for a moment has not given back enough buffers by then, if its ring
//! is short (256 is QEMU's default) and a frame takes several of them; a millisecond later it would
//! have. A tap has a queue of 500 frames for this. The backlog is ours: in order, bounded in bytes,
//! one for each queue pair that runs.
//!
//! Frames of siblings never wait. Their sender's worker could go on producing them indefinitely,
//! and a sender that is faster than its receiver must learn it by loss.
//!
//! The memory is taken when a pair's first ring starts, and kept. The kernel provides pages only as
//! they are used, so a pair that was never short of buffers costs nothing. (Memory that is freed
//! and taken again would come from the heap and be filled with zeros, which uses it.)

use std::collections::VecDeque;

use crate::datapath::frame::Frame;
use crate::net::vnet_hdr::HEADER;
use crate::virtqueue::fetch::Fetched;

/// Most bytes that wait: as many as a worker moves in one turn.
const ROOM: usize = crate::datapath::work_limit::TURN_BYTES;
/// Most frames that wait: a tap's queue.
const FRAMES: usize = 500;

/// A frame that waits: its header, and where it lies.
struct Waiting {
    header: [u8; HEADER],
    at: usize,
    len: usize,
}

/// A queue of frames.
pub struct RxBacklog {
    frames: VecDeque<Waiting>,
    bytes: Vec<u8>,
    /// Where the next frame goes.
    end: usize,
}

impl Default for RxBacklog {
    fn default() -> RxBacklog {
        RxBacklog { frames: VecDeque::with_capacity(FRAMES), bytes: vec![0; ROOM], end: 0 }
    }
}

impl RxBacklog {
    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Copies a frame to the end of the queue, or says that there is no room.
    pub fn push(&mut self, frame: &Frame<'_>) -> bool {
        if self.frames.len() >= FRAMES || !self.make_room(frame.len) {
            return false;
        }
        let place = self.bytes.get_mut(self.end..self.end + frame.len);
        if place.and_then(|place| Fetched::with_head(frame.head, frame.body, place)).is_none() {
            return false;
        }
        self.frames.push_back(Waiting { header: *frame.header, at: self.end, len: frame.len });
        self.end += frame.len;
        true
    }

    /// Makes room for `len` bytes at the end, by moving everything to the front if need be.
    fn make_room(&mut self, len: usize) -> bool {
        if len <= self.bytes.len() - self.end {
            return true;
        }
        let start = self.frames.front().map_or(self.end, |frame| frame.at);
        if len > self.bytes.len() - (self.end - start) {
            return false;
        }
        self.bytes.copy_within(start..self.end, 0);
        self.frames.iter_mut().for_each(|frame| frame.at -= start);
        self.end -= start;
        true
    }

    /// The frame that has waited longest.
    pub fn first(&self) -> Option<Frame<'_>> {
        let Waiting { header, at, len } = self.frames.front()?;
        Some(Frame { header, head: self.bytes.get(*at..at + len)?, body: &[], len: *len })
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.end = 0;
    }

    /// Removes that frame.
    pub fn pop(&mut self) {
        self.frames.pop_front();
        if self.frames.is_empty() {
            self.end = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtqueue::guest_slice::GuestSlice;
    use proptest::prelude::*;

    fn push(backlog: &mut RxBacklog, bytes: &[u8]) -> bool {
        let (head, rest) = bytes.split_at(bytes.len().min(14));
        let body = [GuestSlice::from(rest)];
        let header = [bytes.len() as u8; HEADER];
        backlog.push(&Frame { header: &header, head, body: &body, len: bytes.len() })
    }

    proptest! {
        #[test]
        fn what_went_in_comes_out_in_order(
            steps in prop::collection::vec((1usize..70_000, 0usize..4), 1..200)
        ) {
            let mut backlog = RxBacklog::default();
            let mut model: VecDeque<Vec<u8>> = VecDeque::new();
            for (len, taken) in steps {
                let bytes: Vec<u8> = (0..len).map(|at| (at + len) as u8).collect();
                let room = model.iter().map(Vec::len).sum::<usize>() + len <= ROOM;
                prop_assert_eq!(push(&mut backlog, &bytes), room && model.len() < FRAMES);
                if room {
                    model.push_back(bytes);
                }
                for _ in 0..taken {
                    let expected = model.pop_front();
                    let first = backlog.first().map(|frame| frame.head.to_vec());
                    prop_assert_eq!(first, expected);
                    backlog.pop();
                }
                prop_assert_eq!(backlog.is_empty(), model.is_empty());
            }
        }
    }

    #[test]
    fn holds_as_many_small_frames_as_a_tap() {
        let mut backlog = RxBacklog::default();
        let held = (0..1000).take_while(|_| push(&mut backlog, &[1; 60])).count();
        assert_eq!(held, FRAMES);
    }
}
