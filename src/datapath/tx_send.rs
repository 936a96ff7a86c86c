//! What of a batch is for the wire, as the kernel wants it: one message per frame. A packet socket takes all of
//! them in one system call, a tap one at a time.
//!
//! A message is the judged front of the frame, from our own memory, and the rest from the guest's: the
//! kernel copies once. A small frame is copied here first, and is one piece in our memory: the kernel
//! takes one piece faster than two, and the reads of all small frames, whose lines the guest's processor
//! has, wait for each other no longer. What pushes back is not lost: the batch is cut there, and goes on
//! later.

use std::io;

use crate::datapath::tx_batch::TxBatch;
use crate::datapath::tx_frame::TxFrame;
use crate::net::counters::DropReason;
use crate::net::ethernet::ETHERNET;
use crate::net::vnet_hdr::{HEADER, LEGACY_HEADER};
use crate::virtqueue::copy::get;

impl TxBatch {
    /// Sends what is for the wire, by `send`, which takes messages, each with a header of `header` bytes, and
    /// returns how many it took. Returns how many entries of the batch are done: all, unless the wire pushes back.
    pub fn send(
        &mut self,
        header: usize,
        mut send: impl FnMut(&mut [libc::mmsghdr]) -> io::Result<usize>,
    ) -> usize {
        // Of fixed length, which makes a few moves of the copies.
        match header {
            HEADER => self.address::<{ HEADER + ETHERNET }>(),
            _ => self.address::<{ LEGACY_HEADER + ETHERNET }>(),
        }
        let mut at = 0;
        while let Some(rest) = self.messages.get_mut(at..).filter(|rest| !rest.is_empty()) {
            let index = self.wire.get(at).copied().unwrap_or_default();
            match send(rest) {
                Ok(count) => at += count.max(1),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return index,
                Err(error) => {
                    if let Some(entry) = self.entries.get_mut(index) {
                        entry.lost = Some(reason(&error));
                    }
                    at += 1;
                }
            }
        }
        self.entries.len()
    }

    /// Whether anything is for the wire.
    pub fn has_wire(&self) -> bool {
        self.entries.iter().any(TxFrame::is_for_the_wire)
    }

    /// There is no wire: what is for it is lost.
    pub fn lose(&mut self, reason: DropReason) {
        for entry in self.entries.iter_mut().filter(|entry| entry.is_for_the_wire()) {
            entry.lost = Some(reason);
        }
    }

    /// Makes a message of every entry that is for the wire. `FRONT` is the length of header and Ethernet header.
    fn address<const FRONT: usize>(&mut self) {
        self.wire.clear();
        self.messages.clear();
        for ((index, entry), small) in self.entries.iter_mut().enumerate().zip(&mut self.small) {
            if !entry.is_for_the_wire() {
                continue;
            }
            let Some(pieces) = self.pieces.get_mut(entry.pieces.clone()) else { continue };
            let Some(front) = entry.front.last_chunk_mut::<FRONT>() else { continue };
            let header = entry.header.iter().take(FRONT - ETHERNET);
            front.iter_mut().zip(header).for_each(|(to, from)| *to = *from);
            let Some((place, body)) = pieces.split_first_mut() else { continue };
            let small = small.get_mut(..FRONT - ETHERNET + entry.len);
            let count = if small.is_some() { 1 } else { 1 + body.len() };
            *place = match small {
                Some(whole) => {
                    let (to, rest) = whole.split_at_mut(FRONT);
                    to.copy_from_slice(front);
                    get(body, rest);
                    piece(whole)
                }
                None => piece(front),
            };
            // SAFETY: a mmsghdr is plain numbers and pointers; all zero is an empty message.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            message.msg_hdr.msg_iov = pieces.as_mut_ptr();
            message.msg_hdr.msg_iovlen = count;
            self.wire.push(index);
            self.messages.push(message);
        }
    }
}

fn piece(bytes: &mut [u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() }
}

/// Why the kernel did not take a frame.
fn reason(error: &io::Error) -> DropReason {
    match error.raw_os_error() {
        Some(libc::EINVAL | libc::EMSGSIZE | libc::EFAULT | libc::ENOBUFS) => DropReason::Refused,
        _ => DropReason::NoDevice,
    }
}
