//! Guest bytes that are judged: read once into private memory.
//!
//! A guest can write to a frame while we read it. A check that reads guest memory, and a use that
//! reads it again, may see two different frames (a double fetch). So bytes that decide something
//! are copied first, in this file, and both the check and the use take the copy. Three rules ensure
//! that:
//!
//! - Each function copies every byte with one read. It returns a [`Fetched`], a private copy that
//!   only these functions can make.
//! - The `take` functions shorten the pieces by the copied bytes, so judged bytes cannot be read
//!   again from there. Those are the virtio-net header and the Ethernet header of a frame that a
//!   guest sends, at the length of a modern header or of a legacy one.
//! - Every function ends with a fence for the compiler, which could otherwise read the original in
//!   place of the copy.
//!
//! The repair and the membership reports judge copies of whole frames, made here too. Descriptors
//! are not bytes of a frame: `split/table.rs` reads each with one volatile load.
//!
//! What can go wrong: an inspection of the body of a frame (VLAN tags, link control) judges a copy,
//! but the body leaves from the guest's memory. A guest that changes it meanwhile sends a tag more
//! than it may, on its own behalf.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{Ordering, compiler_fence};

use crate::virtqueue::guest_slice::GuestSlice;

/// A private copy of bytes that a guest may change, made by one read of each.
#[derive(Debug)]
pub struct Fetched<'b, T: ?Sized = [u8]>(&'b mut T);

impl<'b, T: ?Sized> Fetched<'b, T> {
    /// `copy`, which was just made: from here on only it is used, and the compiler may not read the
    /// original instead.
    #[inline(always)]
    fn seal(copy: &'b mut T) -> Fetched<'b, T> {
        compiler_fence(Ordering::SeqCst);
        Fetched(copy)
    }

    /// The copy, for as long as its memory is borrowed.
    pub fn into_inner(self) -> &'b mut T {
        self.0
    }
}

impl<'b> Fetched<'b> {
    /// A copy of `head`, which is private already, and of the bytes of `pieces` behind it. `None`
    /// when `head` alone is longer than `into`; of the rest, as much as there is room for.
    #[inline]
    pub fn with_head(
        head: &[u8],
        pieces: &[GuestSlice<'_>],
        into: &'b mut [u8],
    ) -> Option<Fetched<'b>> {
        let (front, rest) = into.split_at_mut_checked(head.len())?;
        front.copy_from_slice(head);
        get(pieces, rest);
        Some(Fetched::seal(into))
    }
}

impl<T: ?Sized> Deref for Fetched<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.0
    }
}

impl<T: ?Sized> DerefMut for Fetched<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.0
    }
}

/// Copies the bytes at offset `at` of a piece, as far as there are any and room for them. Returns
/// their number.
#[inline(always)]
fn read(piece: &GuestSlice<'_>, at: usize, into: &mut [u8]) -> usize {
    let count = piece.len().saturating_sub(at).min(into.len());
    // SAFETY: the piece is mapped while it is borrowed, and neither it nor `into` has less from
    // there on. `into` is no part of the piece: a reference and a piece never share memory.
    unsafe { piece.start().wrapping_add(at).copy_to_nonoverlapping(into.as_mut_ptr(), count) };
    count
}

/// Copies the first `into.len()` bytes of `pieces`, or all that there are.
pub fn get<'b>(pieces: &[GuestSlice<'_>], into: &'b mut [u8]) -> Fetched<'b> {
    let mut rest = &mut *into;
    for piece in pieces {
        let done = read(piece, 0, rest);
        rest = rest.split_at_mut(done).1;
    }
    Fetched::seal(into)
}

/// Copies the bytes at offset `at` of `pieces`, as far as there are any.
pub fn get_at<'b>(pieces: &[GuestSlice<'_>], mut at: usize, into: &'b mut [u8]) -> Fetched<'b> {
    let mut rest = &mut *into;
    for piece in pieces {
        let done = read(piece, at, rest);
        rest = rest.split_at_mut(done).1;
        at = at.saturating_sub(piece.len());
    }
    Fetched::seal(into)
}

/// Copies the first `front.len()` bytes of `pieces`, or all that there are, and shortens the pieces
/// by as much.
pub fn split_off_front<'b>(pieces: &mut [GuestSlice<'_>], front: &'b mut [u8]) -> Fetched<'b> {
    let mut rest = &mut *front;
    for piece in pieces {
        let done = read(piece, 0, rest);
        piece.advance(done);
        rest = rest.split_at_mut(done).1;
    }
    Fetched::seal(front)
}

/// As [`split_off_front`], twice, for fronts of known lengths: where both lie in one piece, as they
/// usually do, that takes a few instructions.
#[inline]
pub fn take_both<'b, const A: usize, const B: usize>(
    pieces: &mut [GuestSlice<'_>],
    first: &'b mut [u8; A],
    second: &'b mut [u8; B],
) -> (Fetched<'b, [u8; A]>, Fetched<'b, [u8; B]>) {
    match pieces.first_mut() {
        Some(piece) if piece.len() >= A + B => {
            read(piece, 0, first);
            read(piece, A, second);
            piece.advance(A + B);
        }
        _ => {
            split_off_front(pieces, first);
            split_off_front(pieces, second);
        }
    }
    (Fetched::seal(first), Fetched::seal(second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_cannot_be_read_again() {
        let bytes: Vec<u8> = (0..40).collect();
        for cut in [0, 1, 9, 10, 11, 23, 24, 25, 40] {
            let (one, two) = bytes.split_at(cut);
            let mut pieces = [GuestSlice::from(one), GuestSlice::from(two)];
            let (mut header, mut ethernet) = ([0; 10], [0; 14]);
            let (first, second) = take_both(&mut pieces, &mut header, &mut ethernet);
            assert_eq!((&first[..], &second[..]), (&bytes[..10], &bytes[10..24]), "{cut}");
            let mut rest = [0; 16];
            assert_eq!(*get(&pieces, &mut rest), bytes[24..], "{cut}");
            assert_eq!(pieces.iter().map(GuestSlice::len).sum::<usize>(), 16);
            assert_eq!(*get_at(&pieces, 3, &mut rest[..2]), bytes[27..29]);
        }
    }
}
