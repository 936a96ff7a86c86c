//! From a tap to the guest: the guest's receive ring, where the kernel forwards.
//!
//! A turn reads frames from the tap straight into the guest's buffers, one `readv` each. The length
//! of a frame is known only after it was read, so buffers are taken from the ring ahead of need
//! ([`RxPrefetch`]). Behind them the read has our own buffer as its last piece: the part that does
//! not fit into the guest's buffers lands there and is not lost. Most frames are small, so one
//! guest buffer is offered, and 64 KiB only while super-frames arrive; a wrong guess costs one
//! copy.
//!
//! With mergeable buffers a frame may take several chains. All of them are marked used before any
//! is published, and their number stands in the header (virtio 1.2, 5.1.6.4).
//!
//! What can go wrong: the guest has no buffers, or not enough for this frame. Then the frame waits
//! here, the tap is not watched (its queue holds the frames behind it, and drops those beyond), and
//! the ring's next kick continues. A guest that offers a few buffers, never as many as the frame
//! needs, and waits, would freeze its port so (Firecracker's CVE-2020-16843 was of this kind). So a
//! turn follows a short while later with `expired`, and drops the frame.

use std::io;

use crate::datapath::rx_prefetch::{AHEAD_PIECES, RxPrefetch};
use crate::datapath::turn_end::TurnEnd;
use crate::datapath::work_limit::{BATCH, TURN_BYTES, TURN_DESCRIPTORS, TURN_FRAMES};
use crate::net::counters::DropReason;
use crate::net::feature;
use crate::net::feature::has;
use crate::net::vnet_hdr;
use crate::net::vnet_hdr::{LEGACY_HEADER, MAX_FRAME};
use crate::uplink::tap::TapQueue;
use crate::virtqueue::copy::put;
use crate::virtqueue::fetch::get;
use crate::virtqueue::guest_slice::{GuestSliceMut, Writable};
use crate::virtqueue::reuse::Reused;
use crate::virtqueue::ring::Ring;
use crate::virtqueue::ring_fault::Fault;
use crate::virtqueue::vring::{RingLog, Vring};

/// Guest buffer offered to an ordinary frame, in bytes.
const SMALL: usize = 2048;
/// How many small frames in a row end the expectation of super-frames.
const CALM: u32 = 64;

/// State of the receive direction between turns.
pub struct Receive {
    ahead: RxPrefetch,
    /// A frame with its header that waits for buffers: its length in `buffer`.
    pending: Option<usize>,
    buffer: Vec<u8>,
    /// Frames left until super-frames are no longer expected.
    calm: u32,
    /// Descriptors that the turn may still read, or offer to a read.
    left: u32,
    reads: Reused<Writable>,
}

impl Default for Receive {
    fn default() -> Receive {
        Receive {
            ahead: RxPrefetch::default(),
            pending: None,
            buffer: vec![0; MAX_FRAME],
            calm: 0,
            left: 0,
            reads: Reused::with_capacity(AHEAD_PIECES + 64),
        }
    }
}

/// What one step of a turn did.
enum Step {
    /// A frame was delivered (its bytes with header), or dropped (0).
    Moved(usize),
    /// The turn ends.
    End(TurnEnd),
}

impl Receive {
    /// Forgets the chains taken ahead: the ring was stopped or moved. A waiting frame stays.
    pub fn forget_chains(&mut self) {
        self.ahead.clear();
    }

    /// Runs one turn of the guest's receive ring. `expired` says that the frame that waits for
    /// buffers has waited long enough.
    pub fn turn(
        &mut self,
        vring: &mut Vring,
        tap: Option<&TapQueue>,
        mut expired: bool,
        name: &dyn RingLog,
    ) -> TurnEnd {
        if !vring.active() {
            // The tap's frames are not for this ring: they must not wake its worker.
            return TurnEnd::Starved { waiting: false };
        }
        let (mut frames, mut bytes) = (0, 0);
        self.left = TURN_DESCRIPTORS;
        if let Some(ring) = &mut vring.ring {
            ring.disable_notification();
        }
        let end = loop {
            if frames >= TURN_FRAMES || bytes >= TURN_BYTES || self.left == 0 {
                break TurnEnd::More;
            }
            match self.step(vring, tap, std::mem::take(&mut expired)) {
                Ok(Step::Moved(len)) => {
                    frames += 1;
                    bytes += len;
                    if frames % BATCH == 0 {
                        vring.publish();
                    }
                }
                Ok(Step::End(turn)) => break turn,
                Err(fault) => {
                    vring.publish();
                    self.ahead.clear();
                    vring.break_ring(fault, name);
                    return TurnEnd::Starved { waiting: false };
                }
            }
        };
        vring.publish();
        end
    }

    /// Moves one frame.
    fn step(
        &mut self,
        vring: &mut Vring,
        tap: Option<&TapQueue>,
        expired: bool,
    ) -> Result<Step, Fault> {
        let Vring { ring: Some(ring), counters, features, .. } = vring else {
            return Ok(Step::End(TurnEnd::Idle));
        };
        let header = vnet_hdr::header_len(*features);
        let mergeable = has(*features, feature::VIRTIO_NET_F_MRG_RXBUF);
        let most = if mergeable { usize::MAX } else { 1 };
        let want = match self.pending {
            Some(len) => len,
            None if self.calm > 0 => MAX_FRAME,
            None => SMALL,
        };

        let queue = &mut ring.queue();
        loop {
            let before = queue.read_since(0);
            self.ahead.fill(queue, want, most, header, self.left)?;
            self.left = self.left.saturating_sub(queue.read_since(before));
            if !self.ahead.skip_unusable(queue) {
                break;
            }
            counters.drop(DropReason::BadChain);
            // The guest can offer such chains as fast as they are given back.
            if self.left == 0 {
                return Ok(Step::Moved(0));
            }
        }

        if let Some(len) = self.pending {
            let (pieces, room) = self.ahead.room(queue, len, most);
            if room >= len {
                put(pieces, 0, self.buffer.get(..len).unwrap_or_default());
                self.ahead.commit(queue, len, header);
                self.pending = None;
                counters.frame(len - header);
                return Ok(Step::Moved(len));
            }
            // More cannot come when the guest's whole ring is here, or when one chain is all we may
            // use.
            let hopeless = queue.all_popped()
                || self.ahead.is_full()
                || (!mergeable && !self.ahead.is_empty());
            if hopeless || (expired && !self.ahead.is_empty()) {
                self.pending = None;
                counters.drop(DropReason::NoRoom);
                return Ok(Step::Moved(0));
            }
            return self.starve(vring);
        }
        if self.ahead.is_empty() {
            return self.starve(vring);
        }

        let Some(tap) = tap else { return Ok(Step::End(TurnEnd::Idle)) };
        let (pieces, room) = self.ahead.room(queue, want, most);
        let reads = self.reads.lend();
        reads.extend_from_slice(pieces);
        if let Some(rest) = self.buffer.get_mut(room.min(MAX_FRAME)..).filter(|r| !r.is_empty()) {
            reads.push(GuestSliceMut::from(rest));
        }
        self.left = self.left.saturating_sub(reads.len() as u32);
        let len = match tap.read_vectored(reads) {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(Step::End(TurnEnd::Idle));
            }
            Err(_) => return Ok(Step::End(TurnEnd::Starved { waiting: false })),
        };
        if len <= header {
            return Ok(Step::Moved(0));
        }
        if len > SMALL {
            self.calm = CALM;
        } else {
            self.calm = self.calm.saturating_sub(1);
        }
        if len > room {
            // The front part is in the guest's buffers, the rest in ours: bring them together.
            get(
                GuestSliceMut::as_readable(pieces),
                self.buffer.get_mut(..room).unwrap_or_default(),
            );
            self.pending = Some(len);
            return Ok(Step::Moved(0));
        }
        self.ahead.commit(queue, len, header);
        counters.frame(len - header);
        Ok(Step::Moved(len))
    }

    /// The guest has too few buffers: ask it to kick, unless some came in meanwhile.
    fn starve(&mut self, vring: &mut Vring) -> Result<Step, Fault> {
        vring.publish();
        let more = vring.ring.as_mut().map_or(Ok(false), Ring::enable_notification)?;
        if more {
            return Ok(Step::Moved(0));
        }
        Ok(Step::End(TurnEnd::Starved { waiting: self.pending.is_some() }))
    }

    /// Reads and discards what has queued up in the tap while the port had no front-end.
    pub fn discard_stale(&mut self, vring: &mut Vring, tap: &TapQueue) {
        self.pending = None;
        // The tap's queue holds 500 frames; the bound is for a flood that refills it.
        for _ in 0..1000 {
            match tap.read(&mut self.buffer) {
                Ok(len) if len > LEGACY_HEADER => vring.counters.drop(DropReason::Stale),
                _ => break,
            }
        }
    }
}

#[cfg(test)]
mod tests;
