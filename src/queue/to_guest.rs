//! From the wire to the guest: the guest's receive ring.
//!
//! A turn reads frames from the tap straight into the guest's buffers, one `readv` each. How long a
//! frame is shows only after it was read, so buffers are taken from the ring ahead of need
//! ([`Ahead`]), and behind them the read has our own buffer as a last piece: what does not fit into the
//! guest's lands there and is not lost. Most frames are small, so one guest buffer is offered and
//! 64 KiB only while super-frames are coming; a wrong guess costs one copy.
//!
//! With mergeable buffers a frame may take several chains. All of them are given back before any is
//! published, and their number stands in the header (virtio 1.2, 5.1.6.4).
//!
//! What can go wrong: the guest has no buffers, or not enough for this frame. Then the frame waits
//! here, the tap is not watched (its queue holds what comes, and drops beyond), and the ring's next
//! kick goes on. A guest that offers a few buffers, never as many as the frame needs, and waits, would
//! freeze its port so (Firecracker's CVE-2020-16843 was of this kind): the worker calls again after a
//! short while with `expired`, and the frame is dropped.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io;

use super::line::Line;
use super::ring::{Access, Chain, Fault, Popped, Ring};
use super::vnet::{self, HEADER, LEGACY_HEADER, MAX_FRAME, NUM_BUFFERS, bit, has};
use super::{BATCH, TURN_BYTES, TURN_FRAMES, Turn};
use crate::stats::Drop;

/// Guest buffer offered to an ordinary frame, in bytes.
const SMALL: usize = 2048;
/// How many small frames in a row end the expectation of super-frames.
const CALM: u32 = 64;
/// Most chains taken ahead: 64 KiB in Linux's 1526-byte buffers is 43 of them.
const AHEAD_CHAINS: usize = 256;
/// Most pieces of all chains taken ahead; the kernel takes 1024 in one call.
const AHEAD_PIECES: usize = 1000;

/// A chain taken ahead. One that cannot be used (malformed, or too short for the header) has no bytes;
/// it waits for its turn to be given back, and no frame reaches across it.
#[derive(Clone, Copy)]
struct Taken {
    head: u16,
    pieces: usize,
    bytes: usize,
}

/// Chains popped and not yet given back, with their pieces.
struct Ahead {
    chains: VecDeque<Taken>,
    pieces: Vec<libc::iovec>,
    /// Pieces in front that belong to chains already given back.
    spent: usize,
    bytes: usize,
    /// The last chain taken cannot be used: none is taken behind it.
    blocked: bool,
}

// SAFETY: the pieces point into the guest's memory, which the ring of the same line keeps mapped;
// they are used by the one thread that has the line locked.
unsafe impl Send for Ahead {}

impl Ahead {
    fn new() -> Ahead {
        Ahead {
            chains: VecDeque::with_capacity(AHEAD_CHAINS),
            pieces: Vec::with_capacity(2 * AHEAD_PIECES),
            spent: 0,
            bytes: 0,
            blocked: false,
        }
    }

    fn clear(&mut self) {
        self.chains.clear();
        self.pieces.clear();
        (self.spent, self.bytes, self.blocked) = (0, 0, false);
    }

    /// True when no more chains may be taken.
    fn is_full(&self) -> bool {
        self.blocked
            || self.chains.len() >= AHEAD_CHAINS
            || self.pieces.len() - self.spent >= AHEAD_PIECES
    }

    /// Takes chains until they hold `want` bytes, or `most` chains, or there are no more. One that is
    /// shorter than `header` cannot be used.
    fn fill(
        &mut self,
        ring: &mut Ring,
        want: usize,
        most: usize,
        header: usize,
    ) -> Result<(), Fault> {
        if self.spent >= AHEAD_PIECES {
            self.pieces.drain(..self.spent);
            self.spent = 0;
        }
        while self.bytes < want && self.chains.len() < most && !self.is_full() {
            match ring.pop(Access::Writable, &mut self.pieces) {
                Popped::Empty => break,
                Popped::Broken(fault) => return Err(fault),
                Popped::Bad { head } => {
                    self.chains.push_back(Taken { head, pieces: 0, bytes: 0 });
                    self.blocked = true;
                }
                Popped::Chain(Chain { head, pieces, bytes }) => {
                    let bytes = if bytes < header { 0 } else { bytes };
                    self.chains.push_back(Taken { head, pieces, bytes });
                    self.bytes += bytes;
                    self.blocked = bytes == 0;
                }
            }
        }
        Ok(())
    }

    /// Gives the first chain back if it cannot be used; says whether it did.
    fn skip_unusable(&mut self, ring: &mut Ring) -> bool {
        let Some(chain) = self.chains.front().copied().filter(|chain| chain.bytes == 0) else {
            return false;
        };
        ring.give_back(chain.head, 0);
        self.chains.pop_front();
        self.spent += chain.pieces;
        // It was the last one, too.
        self.blocked = false;
        true
    }

    /// The pieces of the first chains that together hold at least `want` bytes (or of all), and what
    /// they hold. `most` bounds the chains.
    fn room(&self, want: usize, most: usize) -> (&[libc::iovec], usize) {
        let (mut pieces, mut bytes) = (0, 0);
        for chain in self.chains.iter().take(most) {
            if bytes >= want {
                break;
            }
            pieces += chain.pieces;
            bytes += chain.bytes;
        }
        (self.pieces.get(self.spent..self.spent + pieces).unwrap_or_default(), bytes)
    }

    /// Gives back the chains that a frame of `len` bytes (with its header) fills, and writes their
    /// number into its header where that has the field.
    fn commit(&mut self, ring: &mut Ring, len: usize, header: usize) {
        let (mut count, mut bytes) = (0u16, 0);
        for chain in &self.chains {
            if bytes >= len {
                break;
            }
            bytes += chain.bytes;
            count += 1;
        }
        if header == HEADER {
            let (pieces, _) = self.room(HEADER, usize::MAX);
            put(pieces, NUM_BUFFERS, &count.to_le_bytes());
        }
        let mut rest = len;
        for _ in 0..count {
            let Some(chain) = self.chains.pop_front() else { break };
            let filled = rest.min(chain.bytes);
            ring.give_back(chain.head, filled as u32);
            rest -= filled;
            self.spent += chain.pieces;
            self.bytes -= chain.bytes;
        }
        if self.chains.is_empty() {
            self.clear();
        }
    }
}

/// Writes `bytes` at offset `at` of what `pieces` make up.
fn put(pieces: &[libc::iovec], mut at: usize, mut bytes: &[u8]) {
    for piece in pieces {
        if bytes.is_empty() {
            break;
        }
        if at >= piece.iov_len {
            at -= piece.iov_len;
            continue;
        }
        let here = bytes.len().min(piece.iov_len - at);
        let (now, later) = bytes.split_at(here);
        // SAFETY: the piece was translated by the ring and is mapped; at + here <= its length.
        unsafe { now.as_ptr().copy_to_nonoverlapping(piece.iov_base.cast::<u8>().add(at), here) };
        (bytes, at) = (later, 0);
    }
}

/// Reads the first `into.len()` bytes of what `pieces` make up.
fn get(pieces: &[libc::iovec], into: &mut [u8]) {
    let mut done = 0;
    for piece in pieces {
        let here = piece.iov_len.min(into.len() - done);
        // SAFETY: as in `put`; `into` has room for `here` more bytes.
        unsafe {
            piece.iov_base.cast::<u8>().copy_to_nonoverlapping(into.as_mut_ptr().add(done), here);
        }
        done += here;
    }
}

/// State of the receive direction between turns.
pub struct Receive {
    ahead: Ahead,
    /// A frame with its header that waits for buffers: its length in `buffer`.
    pending: Option<usize>,
    buffer: Vec<u8>,
    /// Frames left until super-frames are no longer expected.
    calm: u32,
    reads: Vec<libc::iovec>,
}

// SAFETY: `reads` is empty between turns; `Ahead` as above.
unsafe impl Send for Receive {}

impl Default for Receive {
    fn default() -> Receive {
        Receive {
            ahead: Ahead::new(),
            pending: None,
            buffer: vec![0; MAX_FRAME],
            calm: 0,
            reads: Vec::with_capacity(AHEAD_PIECES + 64),
        }
    }
}

/// What one step of a turn did.
enum Step {
    /// A frame was delivered (its bytes with header), or dropped (0).
    Moved(usize),
    /// The turn ends.
    End(Turn),
}

impl Receive {
    /// Forgets the chains taken ahead: the ring was stopped or moved. A waiting frame stays.
    pub fn forget_chains(&mut self) {
        self.ahead.clear();
    }

    /// Runs one turn of the guest's receive ring. `expired` says that the frame that waits for
    /// buffers has waited long enough.
    pub fn turn(&mut self, line: &mut Line, mut expired: bool, name: &dyn Display) -> Turn {
        if !line.active() {
            return Turn::Idle;
        }
        let (mut frames, mut bytes) = (0, 0);
        if let Some(ring) = &mut line.ring {
            ring.no_kicks();
        }
        let end = loop {
            if frames >= TURN_FRAMES || bytes >= TURN_BYTES {
                break Turn::More;
            }
            match self.step(line, std::mem::take(&mut expired)) {
                Ok(Step::Moved(len)) => {
                    frames += 1;
                    bytes += len;
                    if frames % BATCH == 0 {
                        line.publish();
                    }
                }
                Ok(Step::End(turn)) => break turn,
                Err(fault) => {
                    line.publish();
                    self.ahead.clear();
                    line.break_ring(fault, name);
                    return Turn::Starved { waiting: false };
                }
            }
        };
        line.publish();
        end
    }

    /// Moves one frame.
    fn step(&mut self, line: &mut Line, expired: bool) -> Result<Step, Fault> {
        let Line { ring: Some(ring), counters, tap, features, .. } = line else {
            return Ok(Step::End(Turn::Idle));
        };
        let header = vnet::header_len(*features);
        let mergeable = has(*features, bit::MRG_RXBUF);
        let most = if mergeable { usize::MAX } else { 1 };
        let want = match self.pending {
            Some(len) => len,
            None if self.calm > 0 => MAX_FRAME,
            None => SMALL,
        };

        self.ahead.fill(ring, want, most, header)?;
        while self.ahead.skip_unusable(ring) {
            counters.drop(Drop::BadChain);
            self.ahead.fill(ring, want, most, header)?;
        }

        if let Some(len) = self.pending {
            let (pieces, room) = self.ahead.room(len, most);
            if room >= len {
                put(pieces, 0, self.buffer.get(..len).unwrap_or_default());
                self.ahead.commit(ring, len, header);
                self.pending = None;
                counters.frame(len - header);
                return Ok(Step::Moved(len));
            }
            // More cannot come when the guest's whole ring is here, or when one chain is all we may use.
            let hopeless = ring.all_popped()
                || self.ahead.is_full()
                || (!mergeable && !self.ahead.chains.is_empty());
            if hopeless || (expired && !self.ahead.chains.is_empty()) {
                self.pending = None;
                counters.drop(Drop::NoRoom);
                return Ok(Step::Moved(0));
            }
            return self.starve(line);
        }
        if self.ahead.chains.is_empty() {
            return self.starve(line);
        }

        let Some(tap) = tap else { return Ok(Step::End(Turn::Idle)) };
        let (pieces, room) = self.ahead.room(want, most);
        self.reads.clear();
        self.reads.extend_from_slice(pieces);
        if let Some(rest) = self.buffer.get_mut(room.min(MAX_FRAME)..).filter(|r| !r.is_empty()) {
            self.reads
                .push(libc::iovec { iov_base: rest.as_mut_ptr().cast(), iov_len: rest.len() });
        }
        // SAFETY: the guest's pieces were translated by the ring and are mapped while the line is
        // locked; the last piece is our buffer, which nobody else refers to during the call.
        let read = unsafe { tap.read_vectored(&self.reads) };
        let len = match read {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(Step::End(Turn::Idle));
            }
            Err(_) => return Ok(Step::End(Turn::Starved { waiting: false })),
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
            get(pieces, self.buffer.get_mut(..room).unwrap_or_default());
            self.pending = Some(len);
            return Ok(Step::Moved(0));
        }
        self.ahead.commit(ring, len, header);
        counters.frame(len - header);
        Ok(Step::Moved(len))
    }

    /// The guest has too few buffers: ask it to kick, unless some came in meanwhile.
    fn starve(&mut self, line: &mut Line) -> Result<Step, Fault> {
        line.publish();
        let more = line.ring.as_mut().map_or(Ok(false), Ring::ask_for_kicks)?;
        if more {
            return Ok(Step::Moved(0));
        }
        Ok(Step::End(Turn::Starved { waiting: self.pending.is_some() }))
    }

    /// Reads and discards what has queued up in the tap while nobody was there to receive it.
    pub fn discard_stale(&mut self, line: &mut Line) {
        self.pending = None;
        let Some(tap) = &line.tap else { return };
        // The tap's queue holds 500 frames; the bound is for a flood that refills it.
        for _ in 0..1000 {
            let all = libc::iovec {
                iov_base: self.buffer.as_mut_ptr().cast(),
                iov_len: self.buffer.len(),
            };
            // SAFETY: one piece, our own buffer.
            match unsafe { tap.read_vectored(&[all]) } {
                Ok(len) if len > LEGACY_HEADER => line.counters.drop(Drop::Stale),
                _ => break,
            }
        }
    }
}
