//! What of a batch is for the wire. A tap takes one frame per call, an uplink all of them in one call.
//!
//! What is sent is the judged front of the frame, from our own memory, and the rest from the guest's: the
//! kernel copies once. A small frame is copied here first, and is one piece in our memory: the kernel
//! takes one piece faster than two, and the reads of all small frames, whose lines the guest's processor
//! has, wait for each other no longer. What pushes back is not lost: the batch is cut there, and goes on
//! later.

use std::io;

use crate::datapath::shared_uplink::SharedUplink;
use crate::datapath::tx_batch::TxBatch;
use crate::datapath::wire_scratch::WireScratch;
use crate::net::counters::DropReason;
use crate::net::vnet_hdr::{HEADER, LEGACY_HEADER};
use crate::uplink::send_frame::SEND_HEADER;
use crate::uplink::tap::TapQueue;
use crate::virtqueue::guest_slice::{GuestSlice, SliceArena};

/// Writes what is for the wire to a tap, a frame a call, each with a header of `header` bytes. Returns how many
/// entries of the batch are done: all, unless the tap pushes back.
pub fn write(batch: &mut TxBatch<'_>, header: usize, tap: &TapQueue) -> usize {
    // Of fixed length, which makes a few moves of the copies.
    match header {
        HEADER => write_each::<HEADER>(batch, tap),
        _ => write_each::<LEGACY_HEADER>(batch, tap),
    }
}

fn write_each<const LEN: usize>(batch: &mut TxBatch<'_>, tap: &TapQueue) -> usize {
    let WireScratch { pieces: list, small, .. } = &mut *batch.send;
    let Some(small) = small.first_mut() else { return 0 };
    for (index, entry) in batch.entries.iter_mut().enumerate() {
        if !entry.is_for_the_wire() {
            continue;
        }
        let small = &mut std::iter::once(&mut *small);
        let Some((front, body)) = entry.parts::<LEN>(batch.pieces, small) else { continue };
        let written = match body {
            [] => tap.write(front),
            body => match SliceArena::new(list.lend()).join(GuestSlice::from(front), body) {
                Some(pieces) => tap.write_vectored(pieces),
                None => continue,
            },
        };
        match written {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return index,
            Err(error) => entry.lost = Some(reason(&error)),
        }
    }
    batch.entries.len()
}

/// Sends what is for the wire over an uplink, as few calls as it takes. Returns how many entries of the batch are
/// done: all, unless the uplink has no room; the turn that has the rest then waits (`uplink_queue.rs`).
pub fn send(batch: &mut TxBatch<'_>, uplink: &SharedUplink) -> usize {
    let WireScratch { lost, pieces: list, frames, small } = &mut *batch.send;
    let (mut arena, mut frames) = (SliceArena::new(list.lend()), frames.lend());
    lost.clear();
    let mut small = small.iter_mut();
    for entry in batch.entries.iter_mut().filter(|entry| entry.is_for_the_wire()) {
        // Of fixed length, which makes a few moves of the copies.
        let parts = entry.parts::<SEND_HEADER>(batch.pieces, &mut small);
        let pieces = parts.and_then(|(front, body)| arena.join(GuestSlice::from(front), body));
        frames.push(pieces.unwrap_or_default());
    }
    if frames.is_empty() {
        return batch.entries.len();
    }
    let mut uplink = uplink.lock();
    let (mut at, mut full) = (0, false);
    while at < frames.len() {
        let reason = match uplink.send(frames.from(at)) {
            Some(Ok(count)) => {
                at += count.max(1);
                continue;
            }
            Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                full = true;
                break;
            }
            Some(Err(error)) => reason(&error),
            None => DropReason::NoDevice,
        };
        lost.push((at, reason));
        at += 1;
    }
    drop(uplink);
    for (frame, reason) in lost.iter() {
        let mut entries = batch.entries.iter_mut().filter(|entry| entry.is_for_the_wire());
        if let Some(entry) = entries.nth(*frame) {
            entry.lost = Some(*reason);
        }
    }
    let mut outgoing =
        batch.entries.iter().enumerate().filter(|(_, entry)| entry.is_for_the_wire());
    let cut = if full { outgoing.nth(at) } else { None };
    cut.map_or(batch.entries.len(), |(index, _)| index)
}

/// Why the kernel did not take a frame.
fn reason(error: &io::Error) -> DropReason {
    match error.raw_os_error() {
        Some(libc::EINVAL | libc::EMSGSIZE | libc::EFAULT | libc::ENOBUFS) => DropReason::Refused,
        _ => DropReason::NoDevice,
    }
}
