//! What one turn may cost.
//!
//! A worker serves many rings in turns, so the longest turn decides how long a neighbour waits. What a frame costs
//! is the guest's choice. It may lie in a thousand descriptors, be cut into two thousand segments, or be for every
//! port of the LAN. A turn therefore has four accounts, and it ends when one of them is empty. Frames and bytes are
//! as vhost-net has them. Descriptors are counted as they are read, those of chains that cannot be used included.
//! Segments are counted before a frame is cut, by us or by the kernel. A frame for many counts once for each port
//! of the LAN.
//!
//! A receive ring is filled in other guests' turns, so its descriptors have an account of their own (`Excess`).
//! Each frame brings along what it can reasonably need. What a ring takes beyond that is taken from one account
//! that all receivers of a turn share. When it is empty, a ring whose next chain is too costly counts as empty.
//!
//! What can go wrong: a turn ends after what empties an account, not before: it is longer by at most one frame and
//! one chain. So every single step has a bound of its own: a chain has at most as many descriptors as its ring
//! (`virtqueue/split/table.rs`), a frame at most [`MAX_SEGMENTS`](crate::net::vnet_hdr::MAX_SEGMENTS) segments, and a frame for many the number of `flood.rs`.

/// Most frames of one turn: what vhost-net allows itself (`VHOST_NET_PKT_WEIGHT`).
pub(crate) const TURN_FRAMES: usize = 256;
/// Most bytes of one turn: likewise (`VHOST_NET_WEIGHT`).
pub(crate) const TURN_BYTES: usize = 512 * 1024;
/// Most descriptors that are read in one turn, and one chain's: of 256 frames, 16 for each.
pub(crate) const TURN_DESCRIPTORS: u32 = 4096;
/// Frames between two publications of the used index within a turn: the guest may go on while we do.
pub(crate) const BATCH: usize = 64;

/// Most segments of one turn: those of 512 KiB at 512 bytes each.
const TURN_SEGMENTS: usize = 1024;

/// Descriptors that a frame for a receive ring brings along, whatever its length: half of a chain of 19, of which
/// Linux makes its receive buffers where it cannot merge them.
const FRAME_DESCRIPTORS: u32 = 8;
/// Bytes of a frame for which it brings along one descriptor more.
const DESCRIPTOR_BYTES: usize = 128;

/// What is left of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkLimit {
    /// Frames, counted once for each receiver.
    pub frames: usize,
    /// Bytes, likewise.
    pub bytes: usize,
    /// Descriptors to read.
    pub descriptors: u32,
    /// Segments to make.
    pub segments: usize,
}

impl WorkLimit {
    /// That of a whole turn.
    pub const TURN: WorkLimit = WorkLimit {
        frames: TURN_FRAMES,
        bytes: TURN_BYTES,
        descriptors: TURN_DESCRIPTORS,
        segments: TURN_SEGMENTS,
    };

    /// True when the turn ends.
    pub fn is_spent(&self) -> bool {
        self.descriptors == 0 || self.frames_are_spent()
    }

    /// True when none of the frames that were read may go any more.
    pub fn frames_are_spent(&self) -> bool {
        self.frames == 0 || self.bytes == 0 || self.segments == 0
    }

    /// Takes the cost of something from every account, as far as that has so much.
    pub fn charge(&mut self, frames: usize, bytes: usize, segments: usize) {
        self.frames = self.frames.saturating_sub(frames);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.segments = self.segments.saturating_sub(segments);
    }
}

/// Descriptors of receive rings that a turn may read beyond what its frames bring along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excess(u32);

impl Default for Excess {
    fn default() -> Excess {
        Excess(TURN_DESCRIPTORS)
    }
}

impl Excess {
    /// True when nothing was taken in this turn.
    pub fn is_whole(self) -> bool {
        self.0 == TURN_DESCRIPTORS
    }

    /// How many descriptors may be read for a frame of `len` bytes.
    pub fn allowed(self, len: usize) -> u32 {
        self.0 + own(len)
    }

    /// So many descriptors were read for a frame of `len` bytes.
    pub fn charge(&mut self, len: usize, read: u32) {
        self.0 = self.0.saturating_sub(read.saturating_sub(own(len)));
    }
}

/// What a frame brings along.
fn own(len: usize) -> u32 {
    // A frame is shorter than 2^32.
    FRAME_DESCRIPTORS + (len / DESCRIPTOR_BYTES) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_account_ends_a_turn() {
        assert!(!WorkLimit::TURN.is_spent());
        for (frames, bytes, segments) in
            [(TURN_FRAMES, 0, 0), (0, TURN_BYTES + 1, 0), (0, 0, usize::MAX)]
        {
            let mut budget = WorkLimit::TURN;
            budget.charge(frames, bytes, segments);
            assert!(budget.is_spent());
        }
        assert!(WorkLimit { descriptors: 0, ..WorkLimit::TURN }.is_spent());
    }

    #[test]
    fn an_ordinary_receiver_never_touches_the_excess() {
        let mut excess = Excess::default();
        // One buffer for a small frame; 64 KiB in Linux's mergeable buffers; the same in 256 bytes each.
        for (len, read) in [(60, 1), (65_549, 43), (65_549, 257)] {
            excess.charge(len, read);
        }
        assert!(excess.is_whole());
        excess.charge(60, 1024);
        assert!(!excess.is_whole() && excess.allowed(60) >= 19, "an ordinary one is still served");
        excess.charge(60, u32::MAX);
        assert_eq!(excess.allowed(60), own(60));
    }
}
