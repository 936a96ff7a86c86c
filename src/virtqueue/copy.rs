//! Copies into and out of guest memory that lies in pieces.
//!
//! All pieces here were translated by a ring (`split_ring.rs`), whose map keeps them mapped for as long as the
//! ring's line is locked. The guest may read and write them at the same time: what is copied out may be
//! anything and is judged afterwards, what is copied in may be overwritten by its owner. The bytes are
//! therefore only ever touched through raw pointers.

use std::sync::atomic::{Ordering, compiler_fence};

/// Bytes that come into a cache together.
const LINE: usize = 64;

/// Copies `len` bytes, whatever the two places are to each other. Small frames are most of the traffic
/// where speed counts, and to call the library for one costs as much as to move its bytes; so these are
/// moved here, in a few overlapping words that are all read before one is written.
///
/// # Safety
/// `from` is readable and `to` writable for `len` bytes, in a guest's memory or our own.
#[inline(always)]
pub unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    type Word = [u8; 16];
    // SAFETY: every word lies within `len` bytes from where it is taken and put, by the caller's promise.
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

/// Asks the processor for the front of a piece that will be read or written soon: header and small frame, two
/// lines. Of few guests they are a neighbour's and come as late as without; of a thousand they are in nobody's
/// cache, nor are their pages in the table of pages, and come side by side.
#[inline(always)]
pub fn fetch(piece: &libc::iovec) {
    let front = piece.iov_base.cast::<i8>();
    // SAFETY: a hint reads nothing and faults on no address, also none behind the piece's end.
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

/// Writes `bytes` at offset `at` of what `pieces` make up.
pub fn put(pieces: &[libc::iovec], mut at: usize, mut bytes: &[u8]) {
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

/// A place in what `pieces` make up, which moves on as it is written.
pub struct Cursor<'a> {
    pieces: &'a [libc::iovec],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The beginning of `pieces`.
    pub fn new(pieces: &'a [libc::iovec]) -> Cursor<'a> {
        Cursor { pieces, at: 0 }
    }

    /// Writes `bytes`, as far as there is room.
    pub fn put(&mut self, bytes: &[u8]) {
        self.copy(bytes.as_ptr(), bytes.len());
    }

    /// Writes what `from` refers to, as far as there is room. It may be another guest's memory, or the
    /// same: whatever both guests do meanwhile, bytes are moved and nothing is made of them.
    pub fn put_piece(&mut self, from: &libc::iovec) {
        self.copy(from.iov_base.cast(), from.iov_len);
    }

    fn copy(&mut self, mut from: *const u8, mut len: usize) {
        while let Some((piece, later)) = self.pieces.split_first() {
            let here = len.min(piece.iov_len - self.at);
            // SAFETY: both pieces were translated by a ring whose line the caller has locked, or are
            // our own memory: mapped for `here` bytes from where they stand. `copy`, not
            // `copy_nonoverlapping`: a guest may send what it has offered as a receive buffer.
            unsafe { from.copy_to(piece.iov_base.cast::<u8>().add(self.at), here) };
            self.at += here;
            len -= here;
            if len == 0 {
                return;
            }
            // SAFETY: `here` is less than what was left of `from`.
            from = unsafe { from.add(here) };
            (self.pieces, self.at) = (later, 0);
        }
    }
}

/// Reads the first `into.len()` bytes of what `pieces` make up.
pub fn get(pieces: &[libc::iovec], into: &mut [u8]) {
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

/// Reads what stands at offset `at` of what `pieces` make up, as far as there is any.
pub fn get_at(pieces: &[libc::iovec], mut at: usize, into: &mut [u8]) {
    let mut done = 0;
    for piece in pieces {
        if done == into.len() {
            break;
        }
        if at >= piece.iov_len {
            at -= piece.iov_len;
            continue;
        }
        let here = (piece.iov_len - at).min(into.len() - done);
        // SAFETY: as in `put`; at + here <= the piece's length, and `into` has room for `here` more bytes.
        unsafe {
            let from = piece.iov_base.cast::<u8>().add(at);
            from.copy_to_nonoverlapping(into.as_mut_ptr().add(done), here);
        }
        (done, at) = (done + here, 0);
    }
}

/// Copies the first `head.len()` bytes of `pieces` to `head` and shortens the pieces by as much.
/// `pieces` must hold at least that many bytes.
pub fn split_off_front(pieces: &mut [libc::iovec], head: &mut [u8]) {
    let mut done = 0;
    for piece in pieces {
        if done == head.len() {
            break;
        }
        let here = piece.iov_len.min(head.len() - done);
        let from = piece.iov_base.cast::<u8>();
        // SAFETY: the ring translated the piece and keeps it mapped; `head` has room for `here` more bytes. The
        // guest may write meanwhile: any bytes will do, they are judged after.
        unsafe { from.copy_to_nonoverlapping(head.as_mut_ptr().add(done), here) };
        *piece =
            libc::iovec { iov_base: from.wrapping_add(here).cast(), iov_len: piece.iov_len - here };
        done += here;
    }
}

/// As [`split_off_front`], twice, for fronts of known lengths: where both lie in one piece, as they usually do,
/// that takes a few instructions.
#[inline]
pub fn take_both<const A: usize, const B: usize>(
    pieces: &mut [libc::iovec],
    first: &mut [u8; A],
    second: &mut [u8; B],
) {
    match pieces.first_mut() {
        Some(piece) if piece.iov_len >= A + B => {
            let from = piece.iov_base.cast::<u8>();
            // SAFETY: as in `split_off_front`; the piece has at least so many bytes.
            unsafe {
                from.copy_to_nonoverlapping(first.as_mut_ptr(), A);
                from.add(A).copy_to_nonoverlapping(second.as_mut_ptr(), B);
            }
            piece.iov_base = from.wrapping_add(A + B).cast();
            piece.iov_len -= A + B;
        }
        _ => {
            split_off_front(pieces, first);
            split_off_front(pieces, second);
        }
    }
    // From here on the copies count, and the compiler may not look at the originals instead.
    compiler_fence(Ordering::SeqCst);
}
