//! Copies into pieces of memory: a frame into the buffers of a receive ring.
//!
//! The pieces are [`GuestSliceMut`]: mapped for as long as they are borrowed, so every function
//! here is safe to call. The guest may read and write them at the same time, and the owner of the
//! copied bytes may overwrite them. So the bytes are moved through raw pointers, and never read as
//! values. Bytes that are judged are read in `fetch.rs`.

use std::marker::PhantomData;

use crate::net::ethernet::ETHERNET;
use crate::net::vnet_hdr::HEADER;
use crate::virtqueue::guest_slice::{GuestSlice, GuestSliceMut};

/// Bytes that come into a cache together.
const LINE: usize = 64;

/// The bytes before the part of a frame that is in the sender's memory.
const FRONT: usize = HEADER + ETHERNET;

/// Copies `len` bytes; the two places may overlap. Small frames are most of the traffic where speed
/// counts, and to call the library for one costs as much as to move its bytes; so these are moved
/// here, in a few overlapping words that are all read before one is written.
///
/// # Safety
/// `from` is readable and `to` writable for `len` bytes. They may overlap: a guest may send a
/// buffer that it has offered as a receive buffer.
#[inline(always)]
unsafe fn move_bytes(from: *const u8, to: *mut u8, len: usize) {
    type Word = [u8; 16];
    // SAFETY: every word lies within `len` bytes from where it is taken and put, by the caller's
    // promise.
    unsafe {
        let half = |at: usize| from.add(at).cast::<u64>().read_unaligned();
        let get = |at: usize| from.add(at).cast::<Word>().read_unaligned();
        let put = |at: usize, word: Word| to.add(at).cast::<Word>().write_unaligned(word);
        match len {
            8..=15 => {
                let (a, b) = (half(0), half(len - 8));
                to.cast::<u64>().write_unaligned(a);
                to.add(len - 8).cast::<u64>().write_unaligned(b);
            }
            16..=32 => {
                let (a, b) = (get(0), get(len - 16));
                put(0, a);
                put(len - 16, b);
            }
            33..=64 => {
                let (a, b, c, d) = (get(0), get(16), get(len - 32), get(len - 16));
                put(0, a);
                put(16, b);
                put(len - 32, c);
                put(len - 16, d);
            }
            _ => from.copy_to(to, len),
        }
    }
}

/// Asks the processor for the front of a piece that will be read or written soon: header and small
/// frame, two lines. With few guests a neighbouring core's cache has them, and they come as late as
/// without. With a thousand guests no cache has them, nor the table of pages, and several come at
/// once.
#[inline(always)]
pub fn prefetch(piece: GuestSlice<'_>) {
    let front = piece.start().cast::<i8>();
    // SAFETY: a hint reads no memory and faults on no address, also none behind the piece's end.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(front);
        _mm_prefetch::<_MM_HINT_T0>(front.wrapping_add(LINE));
    }
    // Elsewhere there is no such hint in the language yet.
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (front, LINE);
}

/// A frame of the usual kind and the one buffer that it fits into: an Ethernet header that was
/// judged, and one piece of body behind it.
#[derive(Clone, Copy, Debug)]
pub struct Placement<'a> {
    ethernet: &'a [u8; ETHERNET],
    body: *const u8,
    body_len: usize,
    to: *mut u8,
    memory: PhantomData<GuestSliceMut<'a>>,
}

impl<'a> Placement<'a> {
    /// The frame in this buffer, when the buffer has room for it and its virtio-net header.
    #[inline]
    pub fn new(
        ethernet: &'a [u8; ETHERNET],
        body: GuestSlice<'a>,
        buffer: GuestSliceMut<'a>,
    ) -> Option<Placement<'a>> {
        let (body, body_len, to) = (body.start(), body.len(), buffer.start());
        let fits = FRONT + body_len <= buffer.len();
        fits.then_some(Placement { ethernet, body, body_len, to, memory: PhantomData })
    }

    /// Length of the frame without its virtio-net header, in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        ETHERNET + self.body_len
    }

    /// Copies all of it, behind a virtio-net header in two little-endian words.
    #[inline]
    pub fn write(&self, (first, second): (u64, u32)) {
        // SAFETY: body and buffer are mapped during 'a, and `new` found that the buffer holds
        // header, Ethernet header and body, of which this is all.
        unsafe {
            self.to.cast::<u64>().write_unaligned(first.to_le());
            self.to.add(8).cast::<u32>().write_unaligned(second.to_le());
            move_bytes(self.ethernet.as_ptr(), self.to.add(HEADER), ETHERNET);
            move_bytes(self.body, self.to.add(FRONT), self.body_len);
        }
    }
}

/// Writes `bytes` at offset `at` of what `pieces` make up, as far as there is room.
pub fn put(pieces: &[GuestSliceMut<'_>], mut at: usize, mut bytes: &[u8]) {
    for piece in pieces {
        if bytes.is_empty() {
            break;
        }
        if at >= piece.len() {
            at -= piece.len();
            continue;
        }
        let here = bytes.len().min(piece.len() - at);
        let (now, later) = bytes.split_at(here);
        // SAFETY: the piece is mapped while it is borrowed, and at + here is within it. `bytes` are
        // no part of it: a reference and a piece never share memory.
        unsafe { now.as_ptr().copy_to_nonoverlapping(piece.start().add(at), here) };
        (bytes, at) = (later, 0);
    }
}

/// A place in what `pieces` make up, which moves on as it is written.
pub struct Cursor<'a> {
    pieces: &'a [GuestSliceMut<'a>],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The beginning of `pieces`.
    pub fn new(pieces: &'a [GuestSliceMut<'a>]) -> Cursor<'a> {
        Cursor { pieces, at: 0 }
    }

    /// Writes `bytes`, as far as there is room.
    pub fn put(&mut self, bytes: &[u8]) {
        self.put_piece(&GuestSlice::from(bytes));
    }

    /// Writes the bytes of `from`, as far as there is room. They may be another guest's memory, or
    /// the same: both guests may write meanwhile, because bytes are moved and never read as values.
    pub fn put_piece(&mut self, from: &GuestSlice<'_>) {
        let (mut from, mut len) = (from.start(), from.len());
        while let Some((piece, later)) = self.pieces.split_first() {
            let here = len.min(piece.len() - self.at);
            // SAFETY: both pieces are mapped while they are borrowed, for `here` bytes from where
            // they stand. `copy`, not `copy_nonoverlapping`: a guest may send a buffer that it has
            // offered as a receive buffer.
            unsafe { from.copy_to(piece.start().add(self.at), here) };
            self.at += here;
            len -= here;
            if len == 0 {
                return;
            }
            // Less than the rest of `from`.
            from = from.wrapping_add(here);
            (self.pieces, self.at) = (later, 0);
        }
    }
}
