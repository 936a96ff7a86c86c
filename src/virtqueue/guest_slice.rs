//! `GuestSlice`: a piece of memory that a frame lies in, the data path's currency.
//!
//! A frame lies in pieces: a few in guest memory, at addresses that the guest chose, and a few in
//! our own buffers. The kernel takes such pieces as `iovec`s, and any code can make up an `iovec`.
//! A [`GuestSlice`] is an `iovec` to the kernel (`repr(transparent)`), but only two parties can
//! make one. A guest map makes it of an address that it has found in a mapping (`guest_map.rs`),
//! and safe code makes it of a Rust slice. So a function that takes one may dereference it, and
//! needs no `unsafe` in its signature.
//!
//! Two kinds, as with `IoSlice` and `IoSliceMut`. [`GuestSlice`] may be read: a transmit ring's
//! buffers, and any `&[u8]`. [`GuestSliceMut`] may be written too: a receive ring's buffers, and
//! any `&mut [u8]`. The second becomes the first, never the other way round.
//!
//! The lifetime of a piece limits its use. The pieces of a popped chain borrow the ring
//! ([`Ring::queue`](crate::virtqueue::ring::Ring::queue)), which keeps its guest map, which
//! keeps the memory mapped. While one piece is alive the compiler lets no code stop the ring, drop
//! it or unlock it.
//!
//! The hot path allocates no memory, so its lists must outlive the borrow, which ends with every
//! batch. There are two stored forms, and each gives back only pieces whose memory is mapped. A
//! [`Reused`](crate::virtqueue::reuse) list keeps its memory only: it is empty at the beginning of
//! every borrow. [`KeptSlices`](crate::virtqueue::kept_slices) keeps its pieces from turn to turn
//! (receive buffers taken ahead). It notes the ring that filled it, and shows them only under a
//! borrow of the same ring, by an id that no other ring ever has.
//!
//! What can go wrong: the guest reads and writes its memory while we do, and may offer one buffer
//! twice. So the bytes are never behind a Rust reference. They are moved through raw pointers, in
//! files of this room only, and judged where they were moved to (`fetch.rs`).

use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

use crate::virtqueue::reuse::Family;

/// A piece of memory that may be read, by us or by the kernel.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct GuestSlice<'a> {
    raw: libc::iovec,
    memory: PhantomData<&'a [u8]>,
}

/// A piece of memory that may be read and written, by us or by the kernel.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct GuestSliceMut<'a> {
    raw: libc::iovec,
    memory: PhantomData<&'a [u8]>,
}

impl<'a> GuestSlice<'a> {
    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.raw.iov_len
    }

    /// True when it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.raw.iov_len == 0
    }

    /// Where it begins. Readable for `len` bytes during `'a`.
    #[inline]
    pub(in crate::virtqueue) fn start(&self) -> *const u8 {
        self.raw.iov_base.cast()
    }

    /// Makes it shorter by its first `count` bytes, of which it has at least as many, or by all
    /// that it has.
    #[inline]
    pub fn advance(&mut self, count: usize) {
        let count = count.min(self.raw.iov_len);
        self.raw.iov_base = self.raw.iov_base.wrapping_byte_add(count);
        self.raw.iov_len -= count;
    }

    /// The kernel's view of these pieces.
    #[inline]
    pub fn as_iovecs<'s>(slices: &'s [GuestSlice<'a>]) -> &'s [libc::iovec] {
        // SAFETY: a GuestSlice is an iovec (`repr(transparent)`), and the same number of them is
        // borrowed for as long.
        unsafe { &*(std::ptr::from_ref(slices) as *const [libc::iovec]) }
    }
}

impl<'a> GuestSliceMut<'a> {
    /// `len` bytes at `start`.
    ///
    /// # Safety
    /// They are mapped, readable and writable during `'a`, and no Rust reference to any of them is used meanwhile.
    #[inline]
    pub(in crate::virtqueue) unsafe fn new(start: *mut u8, len: usize) -> GuestSliceMut<'a> {
        let raw = libc::iovec { iov_base: start.cast(), iov_len: len };
        GuestSliceMut { raw, memory: PhantomData }
    }

    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.raw.iov_len
    }

    /// True when it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.raw.iov_len == 0
    }

    /// Where it begins. Readable and writable for `len` bytes during `'a`.
    #[inline]
    pub(in crate::virtqueue) fn start(&self) -> *mut u8 {
        self.raw.iov_base.cast()
    }

    /// These pieces, to be read only.
    #[inline]
    pub fn as_readable<'s>(slices: &'s [GuestSliceMut<'a>]) -> &'s [GuestSlice<'a>] {
        // SAFETY: both are an iovec (`repr(transparent)`), and what may be written during 'a may be
        // read.
        unsafe { &*(std::ptr::from_ref(slices) as *const [GuestSlice<'a>]) }
    }

    /// The kernel's view of these pieces.
    #[inline]
    pub fn as_iovecs<'s>(slices: &'s [GuestSliceMut<'a>]) -> &'s [libc::iovec] {
        GuestSlice::as_iovecs(GuestSliceMut::as_readable(slices))
    }
}

impl<'a> From<&'a [u8]> for GuestSlice<'a> {
    #[inline]
    fn from(bytes: &'a [u8]) -> GuestSlice<'a> {
        let iov_base = bytes.as_ptr().cast_mut().cast();
        GuestSlice { raw: libc::iovec { iov_base, iov_len: bytes.len() }, memory: PhantomData }
    }
}

impl<'a> From<&'a mut [u8]> for GuestSliceMut<'a> {
    #[inline]
    fn from(bytes: &'a mut [u8]) -> GuestSliceMut<'a> {
        let iov_base = bytes.as_mut_ptr().cast();
        GuestSliceMut { raw: libc::iovec { iov_base, iov_len: bytes.len() }, memory: PhantomData }
    }
}

impl<'a> From<GuestSliceMut<'a>> for GuestSlice<'a> {
    #[inline]
    fn from(slice: GuestSliceMut<'a>) -> GuestSlice<'a> {
        GuestSlice { raw: slice.raw, memory: PhantomData }
    }
}

impl fmt::Debug for GuestSlice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuestSlice({} bytes)", self.len())
    }
}

impl fmt::Debug for GuestSliceMut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuestSliceMut({} bytes)", self.len())
    }
}

/// Memory in which pieces are put together: a front of our own and a body of the guest's, one
/// behind the other.
#[derive(Debug)]
pub struct SliceArena<'m> {
    rest: &'m mut [MaybeUninit<GuestSlice<'m>>],
}

impl<'m> SliceArena<'m> {
    /// All memory of a list, whose items are forgotten.
    #[inline]
    pub fn new(list: &'m mut Vec<GuestSlice<'m>>) -> SliceArena<'m> {
        list.clear();
        SliceArena { rest: list.spare_capacity_mut() }
    }

    /// `front` and `body` one behind the other, if there is room for them.
    #[inline]
    pub fn join(
        &mut self,
        front: GuestSlice<'m>,
        body: &[GuestSlice<'m>],
    ) -> Option<&'m [GuestSlice<'m>]> {
        let (here, rest) = std::mem::take(&mut self.rest).split_at_mut_checked(1 + body.len())?;
        self.rest = rest;
        let (first, places) = here.split_first_mut()?;
        first.write(front);
        match (&mut *places, body) {
            // Nearly always one.
            ([place], [piece]) => _ = place.write(*piece),
            _ => places.iter_mut().zip(body).for_each(|(place, piece)| _ = place.write(*piece)),
        }
        // SAFETY: the first place and as many as `body` has were just written, and these are all. A
        // MaybeUninit has the layout of its item.
        Some(unsafe { &*(std::ptr::from_ref(here) as *const [GuestSlice<'m>]) })
    }
}

/// The pieces that a chain's buffers become. The kind of the list gives the direction of the chain.
pub trait ChainSlice<'m>: From<GuestSliceMut<'m>> {
    /// Whether we write into the buffers (the guest's receive ring) or read them (its transmit
    /// ring).
    const WRITABLE: bool;
}

impl<'m> ChainSlice<'m> for GuestSlice<'m> {
    const WRITABLE: bool = false;
}

impl<'m> ChainSlice<'m> for GuestSliceMut<'m> {
    const WRITABLE: bool = true;
}

/// Lists of [`GuestSlice`] that keep their memory.
#[derive(Debug)]
pub struct Readable;

impl Family for Readable {
    type Item<'a> = GuestSlice<'a>;
}

/// Lists of [`GuestSliceMut`] that keep their memory.
#[derive(Debug)]
pub struct Writable;

impl Family for Writable {
    type Item<'a> = GuestSliceMut<'a>;
}
