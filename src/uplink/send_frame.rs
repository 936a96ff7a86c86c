//! A frame for the wire, as an uplink takes it: its pieces, in guest memory or in ours.
//!
//! The first [`SEND_HEADER`] bytes are the virtio-net header, a `virtio_net_hdr` without
//! `num_buffers`. The frame follows, in any pieces.
//!
//! A [`SendFrame`] is laid out as the kernel's `mmsghdr`. A packet socket takes a whole batch so,
//! in one call and without another list; any other uplink asks for the [`SendFrame::pieces`].

use std::fmt;
use std::marker::PhantomData;

use crate::virtqueue::guest_slice::GuestSlice;

/// Size of the virtio-net header before a frame that is sent, in bytes: without `num_buffers`.
pub const SEND_HEADER: usize = 10;

/// A frame to be sent. It borrows its pieces.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct SendFrame<'a> {
    raw: libc::mmsghdr,
    pieces: PhantomData<&'a [GuestSlice<'a>]>,
}

impl<'a> SendFrame<'a> {
    /// A frame of these pieces, header first.
    #[inline]
    pub fn new(pieces: &'a [GuestSlice<'a>]) -> SendFrame<'a> {
        // SAFETY: an mmsghdr is numbers and pointers: all zero is a valid one.
        let mut raw: libc::mmsghdr = unsafe { std::mem::zeroed() };
        // The kernel only reads them.
        raw.msg_hdr.msg_iov = GuestSlice::as_iovecs(pieces).as_ptr().cast_mut();
        raw.msg_hdr.msg_iovlen = pieces.len() as _;
        SendFrame { raw, pieces: PhantomData }
    }

    /// Its pieces.
    pub fn pieces(&self) -> &'a [GuestSlice<'a>] {
        let header = &self.raw.msg_hdr;
        // SAFETY: `new` took start and number from this slice, and they never change.
        unsafe { std::slice::from_raw_parts(header.msg_iov.cast_const().cast(), header.msg_iovlen) }
    }
}

impl fmt::Debug for SendFrame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SendFrame").field(&self.pieces()).finish()
    }
}

/// Memory of a list of frames, made once.
pub struct SendScratch(Vec<SendFrame<'static>>);

// SAFETY: the pointers of the last list's frames are not used: a list begins empty.
unsafe impl Send for SendScratch {}

impl SendScratch {
    /// Memory for a list of `count` frames.
    pub fn new(count: usize) -> SendScratch {
        SendScratch(vec![SendFrame::new(&[]); count])
    }

    /// An empty list.
    #[inline]
    pub fn lend<'a>(&'a mut self) -> SendList<'a> {
        SendList { room: &mut self.0, len: 0, frames: PhantomData }
    }
}

/// A list of frames to be sent.
pub struct SendList<'a> {
    /// Those from `len` on are of an earlier list.
    room: &'a mut [SendFrame<'static>],
    len: usize,
    frames: PhantomData<&'a mut [SendFrame<'a>]>,
}

impl<'a> SendList<'a> {
    /// Appends a frame of these pieces, header first, if there is room.
    #[inline]
    pub fn push(&mut self, pieces: &'a [GuestSlice<'a>]) {
        let Some(frame) = self.room.get_mut(self.len) else { return };
        // All else is zero, and the kernel leaves it so: it writes how many bytes it took.
        frame.raw.msg_hdr.msg_iov = GuestSlice::as_iovecs(pieces).as_ptr().cast_mut();
        frame.raw.msg_hdr.msg_iovlen = pieces.len() as _;
        self.len += 1;
    }

    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The frames from the one with this number on.
    pub fn from(&mut self, first: usize) -> &mut [SendFrame<'a>] {
        let list = self.room.get_mut(first..self.len).unwrap_or_default();
        // SAFETY: types that differ in a lifetime only have the same layout. `push` made each of
        // these frames, of pieces that are borrowed during 'a, and the list cannot be seen as
        // anything else: `room` is private, and after this borrow of it every list begins empty.
        unsafe { std::slice::from_raw_parts_mut(list.as_mut_ptr().cast(), list.len()) }
    }
}
