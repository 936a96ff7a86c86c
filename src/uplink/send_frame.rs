//! A frame for the wire, as an uplink takes it: its pieces, in guest memory or in ours.
//!
//! The first [`SEND_HEADER`] bytes are the virtio-net header, a `virtio_net_hdr` without `num_buffers`. The frame
//! follows, in any pieces.
//!
//! A [`SendFrame`] is laid out as the kernel's `mmsghdr`. A packet socket takes a whole batch so, in one call and
//! without another list; any other uplink asks for the [`SendFrame::pieces`].

use std::fmt;
use std::marker::PhantomData;

use crate::virtqueue::guest_slice::GuestSlice;
use crate::virtqueue::reuse::Family;

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
        // SAFETY: `new` took start and number from this slice, and nothing changes them.
        unsafe { std::slice::from_raw_parts(header.msg_iov.cast_const().cast(), header.msg_iovlen) }
    }
}

impl fmt::Debug for SendFrame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SendFrame").field(&self.pieces()).finish()
    }
}

/// Lists of [`SendFrame`] that keep their memory.
#[derive(Debug)]
pub struct SendFrames;

impl Family for SendFrames {
    type Item<'a> = SendFrame<'a>;
}
