//! The receive ring: memory shared with the kernel, handed to and fro in blocks.
//!
//! TPACKET_V3 packs frames one behind the other into a block, and gives the block to us when it is
//! full or its time is up. One word in front of each block says whose it is. The kernel fills blocks in
//! turn and never skips one that is still ours: it drops frames instead. So blocks are ours in order
//! too, and one number says where we are.
//!
//! Memory model: the kernel writes a block, then its status (`smp_wmb` in `prb_flush_block`); we load
//! the status with Acquire before we look at the block, and store it with Release when we have done. In
//! between the kernel leaves the block alone, whence slices of it are sound; the status word is only
//! touched while no slice is alive.
//!
//! What can go wrong: a consumer that sleeps or holds blocks back (a budget that is too small for the load) lets
//! the ring run full. What the block says about itself is checked (`frame.rs`): a block that
//! contradicts itself is given back, and its remaining frames count as unusable.

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU32, Ordering};

use libc::{tpacket_block_desc, tpacket_hdr_v1};

use super::frame::{self, Entry, Received, u32_at};
use super::socket::Socket;

/// Bytes in one block. Holds a frame of 64 KiB with room to spare: one that does not fit the rest of a
/// block closes it.
pub(super) const BLOCK: usize = 128 << 10;

/// Blocks: 8 MiB in all. What counts is less the memory than the number: a trickle of frames uses up a
/// block with every tick, however few are in it, so a consumer that sleeps for more than 64 ms (a
/// busy host, a suspended VM around us) loses frames. Sixteen blocks of 256 KiB lost them after 16 ms.
pub(super) const BLOCKS: usize = 64;

const HEADER: usize = offset_of!(tpacket_block_desc, hdr);
const STATUS: usize = HEADER + offset_of!(tpacket_hdr_v1, block_status);
const FRAMES: usize = HEADER + offset_of!(tpacket_hdr_v1, num_pkts);
const FIRST: usize = HEADER + offset_of!(tpacket_hdr_v1, offset_to_first_pkt);

/// What came of one call to [`super::PacketQueue::receive`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Frames handed over.
    pub frames: usize,
    /// True when the budget ended first: more frames wait, and the queue is still readable.
    pub more: bool,
}

/// The mapped ring and our place in it.
#[derive(Debug)]
pub(super) struct Ring {
    start: NonNull<u8>,
    /// The block that is next, or under way.
    block: usize,
    /// The next frame in it, and how many are left. Absent: not begun.
    place: Option<(usize, u32)>,
    /// Blocks right before `block` that are done with, but not given back yet.
    owed: usize,
    /// Frames that came in part.
    pub(super) truncated: u64,
    /// Frames that could not be handed over.
    pub(super) unusable: u64,
}

// SAFETY: the mapping belongs to this value alone and is not bound to a thread.
unsafe impl Send for Ring {}

impl Ring {
    /// Maps the ring of the socket.
    pub(super) fn new(socket: &Socket) -> io::Result<Ring> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let fd = socket.as_fd().as_raw_fd();
        // SAFETY: a new mapping at an address of the kernel's choice disturbs nobody's memory.
        let start = unsafe {
            libc::mmap(ptr::null_mut(), BLOCK * BLOCKS, protection, libc::MAP_SHARED, fd, 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Ring { start, block: 0, place: None, owed: 0, truncated: 0, unusable: 0 })
    }

    /// See [`super::PacketQueue::receive`]. The budget counts frames looked at, also bad ones.
    pub(super) fn walk(&mut self, budget: usize, each: &mut dyn FnMut(Received<'_>)) -> Progress {
        let (mut looked, mut frames) = (0, 0);
        self.release();
        // All blocks but one may be owed: the one after them must not be taken for a new one.
        while self.owed < BLOCKS - 1 && self.is_ours() {
            let Some((mut at, mut left)) = self.place.take().or_else(|| self.enter()) else {
                self.finish();
                continue;
            };
            while left > 0 {
                if looked == budget {
                    self.place = Some((at, left));
                    return Progress { frames, more: true };
                }
                looked += 1;
                left -= 1;
                let (entry, step) = frame::entry(self.bytes(), at);
                match entry {
                    Entry::Frame(received) => {
                        each(received);
                        frames += 1;
                    }
                    Entry::Void => {}
                    Entry::Truncated => self.truncated = self.truncated.wrapping_add(1),
                    Entry::Unusable => self.unusable = self.unusable.wrapping_add(1),
                }
                match step.and_then(|step| at.checked_add(step)) {
                    Some(next) => at = next,
                    // The last one leads nowhere; any other that does takes the rest with it.
                    None => {
                        self.unusable = self.unusable.wrapping_add(left.into());
                        left = 0;
                    }
                }
            }
            self.finish();
        }
        Progress { frames, more: self.owed == BLOCKS - 1 }
    }

    fn status(&self, block: usize) -> &AtomicU32 {
        // `block` is kept below BLOCKS by `finish`.
        let at = block * BLOCK + STATUS;
        // SAFETY: inside the mapping and a multiple of four from its page-aligned start; no slice of
        // the block is alive, since those borrow `self` mutably.
        unsafe { AtomicU32::from_ptr(self.start.add(at).as_ptr().cast()) }
    }

    fn is_ours(&self) -> bool {
        self.status(self.block).load(Ordering::Acquire) & libc::TP_STATUS_USER != 0
    }

    /// The block is done with. It is given back by the next [`Ring::release`].
    fn finish(&mut self) {
        self.block = (self.block + 1) % BLOCKS;
        self.place = None;
        self.owed += 1;
    }

    /// Gives back the blocks that are done with.
    pub(super) fn release(&mut self) {
        for back in 1..=std::mem::take(&mut self.owed) {
            let block = (self.block + BLOCKS - back) % BLOCKS;
            self.status(block).store(libc::TP_STATUS_KERNEL, Ordering::Release);
        }
    }

    /// The block, which is ours: to be called after [`Ring::is_ours`] has said so.
    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: inside the mapping (see `status`), initialised (the kernel maps zeroed pages), and
        // ours until `give_back`, which cannot run while the slice borrows `self`.
        unsafe { slice::from_raw_parts_mut(self.start.add(self.block * BLOCK).as_ptr(), BLOCK) }
    }

    /// Where the first frame of the block is, and how many there are.
    fn enter(&mut self) -> Option<(usize, u32)> {
        let block = self.bytes();
        Some((u32_at(block, FIRST)? as usize, u32_at(block, FRAMES)?))
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no reference into it is left.
        unsafe { libc::munmap(self.start.as_ptr().cast(), BLOCK * BLOCKS) };
    }
}
