//! What was moved and what was dropped, and why.
//!
//! The data path has no errors and no log lines: it counts here. Each direction of a queue pair has
//! one [`Counters`], written only by the worker that holds that direction's lock, so plain integers
//! do. A snapshot of a port is the sum over its pairs.

use std::fmt;
use std::ops::AddAssign;

macro_rules! drops {
    ($($(#[doc = $doc:literal])* $name:ident => $text:literal,)*) => {
        /// Why a frame was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum DropReason { $($(#[doc = $doc])* $name,)* }

        impl DropReason {
            /// Every reason, in the order in which they are reported.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$name,)*];

            /// The reason in the words of logs and metrics.
            pub fn name(self) -> &'static str {
                match self { $(DropReason::$name => $text,)* }
            }
        }
    };
}

drops! {
    /// The descriptor chain was malformed: a loop, an address outside, wrong access, too long.
    BadChain => "bad chain",
    /// The virtio_net_hdr contradicts the frame or the negotiated features.
    BadHeader => "bad header",
    /// Shorter than an Ethernet header.
    Short => "short frame",
    /// Longer than the port's MTU allows, without segmentation offload.
    Long => "long frame",
    /// Another source MAC address than the port's.
    ForeignMac => "foreign MAC",
    /// Concerns the cable, not the guest: spanning tree or PAUSE.
    LinkControl => "link control",
    /// The ring was disabled: the specification wants its frames discarded.
    Disabled => "ring disabled",
    /// The kernel refused the frame (its header does not match its contents).
    Refused => "refused by the kernel",
    /// The tap device is gone or down.
    NoDevice => "no device",
    /// The frame does not fit into all the buffers that the guest's ring can hold.
    NoRoom => "no room",
    /// The guest's receive ring had no buffers left for the frame.
    NoBuffers => "no buffers",
    /// The port that the frame was for has no guest that receives.
    NoGuest => "no guest",
    /// Needs a checksum or segmentation that its receiver does not do, and cannot be repaired.
    Unrepairable => "cannot be repaired",
    /// The switch has no receiver for it.
    NotForwarded => "not forwarded",
    /// Arrived before the front-end had started.
    Stale => "stale",
}

/// Counters of one direction of one queue pair, or a sum of such.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames delivered.
    pub frames: u64,
    /// Bytes of those frames, without the virtio_net_hdr.
    pub bytes: u64,
    /// Eventfd writes to the front-end.
    pub calls: u64,
    drops: [u64; DropReason::ALL.len()],
}

impl Counters {
    /// Counts one delivered frame of `bytes` bytes.
    pub fn frame(&mut self, bytes: usize) {
        self.frames += 1;
        self.bytes += bytes as u64;
    }

    /// Counts one dropped frame.
    pub fn drop(&mut self, reason: DropReason) {
        if let Some(count) = self.drops.get_mut(reason as usize) {
            *count += 1;
        }
    }

    /// How many frames were dropped for `reason`.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(reason as usize).copied().unwrap_or(0)
    }
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Counters) {
        self.frames += other.frames;
        self.bytes += other.bytes;
        self.calls += other.calls;
        for (mine, theirs) in self.drops.iter_mut().zip(other.drops) {
            *mine += theirs;
        }
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} frames ({} bytes)", self.frames, self.bytes)?;
        let mut lead = ", dropped: ";
        for &reason in DropReason::ALL.iter().filter(|&&reason| self.dropped(reason) > 0) {
            write!(f, "{lead}{} {}", self.dropped(reason), reason.name())?;
            lead = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_only_reasons_that_occurred() {
        let mut counters = Counters::default();
        counters.frame(60);
        assert_eq!(counters.to_string(), "1 frames (60 bytes)");
        counters.drop(DropReason::ForeignMac);
        counters.drop(DropReason::Short);
        counters.drop(DropReason::ForeignMac);
        assert_eq!(
            counters.to_string(),
            "1 frames (60 bytes), dropped: 1 short frame, 2 foreign MAC"
        );
        let mut sum = counters;
        sum += counters;
        assert_eq!(sum.dropped(DropReason::ForeignMac), 4);
        assert_eq!(sum.bytes, 120);
    }
}
