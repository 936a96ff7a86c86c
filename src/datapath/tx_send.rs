//! What of a batch is for the wire. A tap takes one frame per call, an uplink all of them in one call.
//!
//! What is sent is the judged front of the frame, from our own memory, and the rest from the guest's: the
//! kernel copies once. A small frame is copied here first, and is one piece in our memory: the kernel
//! takes one piece faster than two, and the reads of all small frames, whose lines the guest's processor
//! has, wait for each other no longer. What pushes back is not lost: the batch is cut there, and goes on
//! later.

use std::io;

use crate::datapath::tx_batch::TxBatch;
use crate::datapath::tx_frame::{SMALL, Small};
use crate::datapath::uplink_queue::UplinkQueue;
use crate::net::counters::DropReason;
use crate::net::ethernet::ETHERNET;
use crate::net::vnet_hdr::{HEADER, LEGACY_HEADER};
use crate::uplink::send_frame::{SEND_HEADER, SendFrame, SendFrames};
use crate::uplink::tap::TapQueue;
use crate::virtqueue::guest_slice::{GuestSlice, Readable};
use crate::virtqueue::reuse::Reused;

/// A frame that is for the wire: which of the batch it is, and how many pieces it has.
type Outgoing = (usize, usize);

/// Working memory of sending.
pub struct SendScratch {
    outgoing: Vec<Outgoing>,
    /// Which of the batch the wire did not take, and why.
    lost: Vec<(usize, DropReason)>,
    pieces: Reused<Readable>,
    frames: Reused<SendFrames>,
    pub(crate) small: Vec<Small>,
}

impl SendScratch {
    /// Memory for a batch of so many frames, which have so many pieces together.
    pub(crate) fn new(frames: usize, pieces: usize) -> SendScratch {
        SendScratch {
            outgoing: Vec::with_capacity(frames),
            lost: Vec::with_capacity(frames),
            pieces: Reused::with_capacity(frames + pieces),
            frames: Reused::with_capacity(frames),
            small: vec![[0; SMALL]; frames],
        }
    }
}

impl TxBatch<'_> {
    /// Writes what is for the wire to a tap, a frame a call, each with a header of `header` bytes. Returns how many
    /// entries of the batch are done: all, unless the tap pushes back.
    pub fn write(&mut self, header: usize, tap: &TapQueue) -> usize {
        // Of fixed length, which makes a few moves of the copies.
        match header {
            HEADER => self.write_each::<{ HEADER + ETHERNET }>(tap),
            _ => self.write_each::<{ LEGACY_HEADER + ETHERNET }>(tap),
        }
    }

    fn write_each<const FRONT: usize>(&mut self, tap: &TapQueue) -> usize {
        let SendScratch { pieces: list, small, .. } = &mut *self.send;
        let Some(small) = small.first_mut() else { return 0 };
        for (index, entry) in self.entries.iter_mut().enumerate() {
            if !entry.is_for_the_wire() {
                continue;
            }
            let Some((front, body)) = entry.parts::<FRONT>(self.pieces, small) else { continue };
            let written = match body {
                [] => tap.write(front),
                body => {
                    let list = list.lend();
                    list.push(GuestSlice::from(front));
                    list.extend_from_slice(body);
                    tap.write_vectored(list)
                }
            };
            match written {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return index,
                Err(error) => entry.lost = Some(reason(&error)),
            }
        }
        self.entries.len()
    }

    /// Sends what is for the wire over an uplink, as few calls as it takes. Returns how many entries of the batch are
    /// done: all, unless the uplink has no room; the turn that has the rest then waits ([`UplinkQueue::wait`]).
    pub fn send(&mut self, uplink: &UplinkQueue) -> usize {
        let all = self.entries.len();
        let SendScratch { outgoing, lost, pieces: list, frames, small } = &mut *self.send;
        let (list, frames) = (list.lend(), frames.lend());
        outgoing.clear();
        lost.clear();
        for ((index, entry), small) in self.entries.iter_mut().enumerate().zip(small) {
            if !entry.is_for_the_wire() {
                continue;
            }
            // Of fixed length, which makes a few moves of the copies.
            let parts = entry.parts::<{ SEND_HEADER + ETHERNET }>(self.pieces, small);
            let Some((front, body)) = parts else { continue };
            list.push(GuestSlice::from(front));
            match body {
                [one] => list.push(*one),
                more => list.extend_from_slice(more),
            }
            outgoing.push((index, 1 + body.len()));
        }
        if outgoing.is_empty() {
            return all;
        }
        let mut rest = list.as_slice();
        for (_, pieces) in outgoing.iter() {
            let Some((pieces, later)) = rest.split_at_checked(*pieces) else { break };
            frames.push(SendFrame::new(pieces));
            rest = later;
        }
        let mut uplink = uplink.lock();
        let (mut at, mut cut) = (0, all);
        while let Some(rest) = frames.get_mut(at..).filter(|rest| !rest.is_empty()) {
            let reason = match uplink.send(rest) {
                Some(Ok(count)) => {
                    at += count.max(1);
                    continue;
                }
                Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    cut = outgoing.get(at).map_or(all, |&(index, _)| index);
                    break;
                }
                Some(Err(error)) => reason(&error),
                None => DropReason::NoDevice,
            };
            lost.extend(outgoing.get(at).map(|&(index, _)| (index, reason)));
            at += 1;
        }
        for (index, reason) in lost.iter() {
            if let Some(entry) = self.entries.get_mut(*index) {
                entry.lost = Some(*reason);
            }
        }
        cut
    }
}

/// Why the kernel did not take a frame.
fn reason(error: &io::Error) -> DropReason {
    match error.raw_os_error() {
        Some(libc::EINVAL | libc::EMSGSIZE | libc::EFAULT | libc::ENOBUFS) => DropReason::Refused,
        _ => DropReason::NoDevice,
    }
}
