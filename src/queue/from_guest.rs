//! From the guest to a tap: the guest's transmit ring, where the kernel forwards.
//!
//! A turn takes up to a budget of chains and writes each to the tap in one `writev`, straight from
//! guest memory. Only the first 26 bytes (virtio_net_hdr and Ethernet header) are copied: they are
//! what we judge (`vnet.rs`, the source address), and the kernel must get what was judged, not what
//! the guest may have put there since. A small frame is copied whole: the kernel takes one piece of our
//! memory faster than two of which one is the guest's.
//!
//! The tap pushes back when its socket buffer is full: then the chain goes back into the ring and
//! the turn ends; writability of the tap starts the next one. Nothing is ever dropped for that reason.
//! A ring that runs but is disabled must be consumed and its frames discarded (vhost-user
//! specification, "Ring states").

use std::fmt::Display;
use std::io;

use super::batch::Batch;
use super::copy::{gather, get, split_off};
use super::from_uplink::Arrivals;
use super::line::{Far, Line};
use super::ring::{Access, Chain, Popped, Ring};
use super::spread::Spread;
use super::to_wire::SMALL;
use super::vnet::{self, ETHERNET, HEADER, MAX_FRAME, Verdict};
use super::{BATCH, TURN_BYTES, TURN_FRAMES, Turn};
use crate::mac::Mac;
use crate::port::{MacJudgement, PortData};
use crate::stats::Drop;
use crate::uplink::TapQueue;

/// Most pieces the kernel takes in one call (`UIO_MAXIOV`).
const IOV_MAX: usize = 1024;

/// Working memory of a worker, so that a turn allocates nothing.
pub struct Scratch {
    pieces: Vec<libc::iovec>,
    out: Vec<libc::iovec>,
    bytes: Vec<u8>,
    /// What a switch's turns work with.
    pub(super) batch: Batch,
    pub(super) arrivals: Arrivals,
    pub(super) spread: Spread,
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch {
            // The longest legal chain, each buffer split once by a region border.
            pieces: Vec::with_capacity(2 * IOV_MAX),
            out: Vec::with_capacity(2 * IOV_MAX + 1),
            bytes: vec![0; MAX_FRAME],
            batch: Batch::default(),
            arrivals: Arrivals::default(),
            spread: Spread::default(),
        }
    }
}

/// What became of one frame.
enum Sent {
    /// The tap has it.
    Frame(usize),
    /// Dropped, for this reason.
    Dropped(Drop),
    /// The tap is full.
    Full,
}

/// Runs one turn of the guest's transmit ring.
pub fn turn(line: &mut Line, port: &PortData, scratch: &mut Scratch, name: &dyn Display) -> Turn {
    let (mut frames, mut bytes) = (0, 0);
    let end = loop {
        let Some(ring) = &mut line.ring else { return Turn::Idle };
        if frames >= TURN_FRAMES || bytes >= TURN_BYTES {
            break Turn::More;
        }
        if frames == 0 {
            ring.no_kicks();
        }
        frames += 1;
        scratch.pieces.clear();
        match ring.pop(Access::Readable, &mut scratch.pieces) {
            Popped::Empty => {
                line.publish();
                match line.ring.as_mut().map_or(Ok(false), Ring::ask_for_kicks) {
                    Ok(true) => continue,
                    Ok(false) => return Turn::Idle,
                    Err(fault) => {
                        line.break_ring(fault, name);
                        return Turn::Idle;
                    }
                }
            }
            Popped::Broken(fault) => {
                line.publish();
                line.break_ring(fault, name);
                return Turn::Idle;
            }
            Popped::Bad { head } => {
                ring.give_back(head, 0);
                line.counters.drop(Drop::BadChain);
            }
            Popped::Chain(chain) => {
                bytes += chain.bytes;
                let sent = match (&line.far, line.enabled) {
                    (_, false) => Sent::Dropped(Drop::Disabled),
                    (Far::Tap(tap), true) => send(tap, &chain, line.features, port, scratch),
                    // A switch has a turn of its own (`to_switch.rs`).
                    (Far::Nothing | Far::Switch(_), true) => Sent::Dropped(Drop::NoDevice),
                };
                match sent {
                    Sent::Full => {
                        ring.unpop(1);
                        break Turn::Full;
                    }
                    Sent::Frame(len) => line.counters.frame(len),
                    Sent::Dropped(reason) => line.counters.drop(reason),
                }
                ring.give_back(chain.head, 0);
            }
        }
        if frames % BATCH == 0 {
            line.publish();
        }
    };
    line.publish();
    end
}

/// Judges one frame and writes it to the tap.
fn send(
    tap: &TapQueue,
    chain: &Chain,
    features: u64,
    port: &PortData,
    scratch: &mut Scratch,
) -> Sent {
    let header = vnet::header_len(features);
    let judged = header + ETHERNET;
    let Some(frame) = chain.bytes.checked_sub(header).filter(|&len| len >= ETHERNET) else {
        return Sent::Dropped(Drop::Short);
    };
    if chain.bytes > MAX_FRAME {
        return Sent::Dropped(Drop::Long);
    }
    let mut head = [0u8; HEADER + ETHERNET];
    let Some(head) = head.get_mut(..judged) else { return Sent::Dropped(Drop::Short) };
    split_off(&scratch.pieces, head, &mut scratch.out);

    let mut vnet_hdr = [0u8; HEADER];
    let (vnet_part, ethernet) = head.split_at_mut(header);
    vnet_hdr[..header].copy_from_slice(vnet_part);
    match vnet::check(&mut vnet_hdr, frame, features) {
        Verdict::Bad => return Sent::Dropped(Drop::BadHeader),
        Verdict::Plain if frame > port.longest_frame() => return Sent::Dropped(Drop::Long),
        Verdict::Plain | Verdict::Segmented => {}
    }
    vnet_part.copy_from_slice(&vnet_hdr[..header]);

    let mut source = [0u8; 6];
    source.copy_from_slice(&ethernet[6..12]);
    if port.judge_source(Mac(source)) == MacJudgement::Foreign {
        return Sent::Dropped(Drop::ForeignMac);
    }

    if chain.bytes <= SMALL
        && let Some(whole) = scratch.bytes.get_mut(..chain.bytes)
        && let Some((front, rest)) = whole.split_at_mut_checked(judged)
    {
        front.copy_from_slice(head);
        get(scratch.out.get(1..).unwrap_or_default(), rest);
        return sent(tap.write(whole), frame);
    }
    if let Some(first) = scratch.out.first_mut() {
        *first = libc::iovec { iov_base: head.as_mut_ptr().cast(), iov_len: head.len() };
    }
    if scratch.out.len() > IOV_MAX {
        gather(&mut scratch.out, head.len(), &mut scratch.bytes);
    }
    // SAFETY: the first piece is `head`, which outlives the call; the others were translated by the
    // ring, whose map keeps them mapped while the line is locked, and the kernel only reads them.
    sent(unsafe { tap.write_vectored(&scratch.out) }, frame)
}

/// What the kernel's answer to a frame of `len` bytes means.
fn sent(answer: io::Result<usize>, len: usize) -> Sent {
    match answer {
        Ok(_) => Sent::Frame(len),
        Err(error) => match (error.kind(), error.raw_os_error()) {
            (io::ErrorKind::WouldBlock, _) => Sent::Full,
            (_, Some(libc::EINVAL | libc::EMSGSIZE | libc::EFAULT | libc::ENOBUFS)) => {
                Sent::Dropped(Drop::Refused)
            }
            _ => Sent::Dropped(Drop::NoDevice),
        },
    }
}

#[cfg(test)]
#[path = "from_guest_tests.rs"]
mod tests;
