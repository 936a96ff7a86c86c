//! Frames that `sendmsg` refuses though the parent takes them: VLAN tags on top of a full MTU.
//!
//! A packet socket checks the length of its frames: the MTU and an Ethernet header, and 4 bytes
//! more behind a tag of type 0x8100, but not behind one of 0x88a8 or two of any kind (`packet_snd`,
//! `packet_extra_vlan_len_allowed`). A kernel macvtap does not check it, nor do most drivers. The
//! same socket's transmit ring with a virtio-net header does not either (`tpacket_snd`). So frames
//! that came back with EMSGSIZE go through a small ring on a socket of its own. All other frames do
//! not: the ring was measured slower than `sendmmsg`.
//!
//! The kernel would send the ring's pages themselves. If the parent is a veth, it reports too early
//! that it has finished with them (`skb_orphan`): a frame that waits at the other end would change
//! when its slot is used again. It copies as much as the header calls headers (`hdr_len`), so every
//! frame is called a header from end to end.
//!
//! The slots are used in turn. A slot that the kernel does not take is marked as no frame before
//! [`LongFrames::send`] returns: the caller keeps the frame and tries again. The send buffer is
//! smaller than the ring, so the buffer fills up first, and EPOLLOUT reports when there is room; an
//! unused slot that was not marked so would report it at once.
//!
//! To make a ring takes the kernel some 15 ms (it waits for its RCU), and to close one as long. So
//! there is one for a parent, not one for each queue, and it is made when the first guest is there.
//!
//! What can go wrong: a frame of more than 65535 bytes cannot be called a header, and is refused;
//! it takes a parent of nearly that MTU. The MTU may have grown since the ring was made: a frame
//! that does not fit into a slot is refused until there is another ring.
//!
//! Reference: Documentation/networking/packet_mmap.rst; net/packet/af_packet.c.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;

use crate::net::ethernet::ETHERNET;
use crate::net::vlan::{MAX_TAGS, TAG};
use crate::net::vnet_hdr::LEGACY_HEADER;
use crate::sys::mapped::Mapped;
use crate::uplink::packet::socket::Socket;
use crate::uplink::send_frame::SendFrame;
use crate::virtqueue::fetch::get;
use crate::virtqueue::guest_slice::GuestSlice;

/// Bytes of a slot before the frame: `tpacket2_hdr`, aligned.
const SLOT_HEADER: usize = 32;
/// Where `tp_status` and `tp_len` stand in it.
const STATUS: usize = 0;
const LENGTH: usize = 4;
/// Alignment of slots, in bytes (`TPACKET_ALIGNMENT`).
const ALIGNMENT: usize = 16;
/// A ring is made of pages, in bytes.
const PAGE: usize = 64 << 10;
/// As much memory a ring takes at most, in bytes, unless two frames need more.
const MEMORY: usize = 256 << 10;
/// Most slots.
const SLOTS: usize = 64;
/// A frame's length has 16 bits where the headers' length is.
const LONGEST: usize = u16::MAX as usize;
/// Where `hdr_len` stands in the virtio-net header.
const HDR_LEN: usize = 2;

/// A socket with a transmit ring, which all queues of a parent share.
#[derive(Debug)]
pub struct LongFrames {
    socket: Socket,
    ring: Mutex<TransmitRing>,
    /// The parent's MTU that it is for, in bytes.
    mtu: usize,
}

/// The memory that the kernel and we share.
#[derive(Debug)]
struct TransmitRing {
    memory: Mapped,
    /// From one slot to the next, and their number.
    stride: usize,
    slots: usize,
    /// The slot that the kernel looks at next.
    next: usize,
}

impl LongFrames {
    /// A ring on the device with that index, for frames as long as this MTU allows. `socket` is not
    /// bound yet.
    ///
    /// Errors: those of a packet socket; ENOMEM.
    pub fn open(ifindex: u32, mtu: u32, socket: OwnedFd) -> io::Result<LongFrames> {
        let mtu = mtu as usize;
        let stride = SLOT_HEADER + LEGACY_HEADER + ETHERNET + TAG * MAX_TAGS + mtu;
        let stride = stride.next_multiple_of(ALIGNMENT);
        let memory = (SLOTS * stride).min(MEMORY).max(2 * stride).next_multiple_of(PAGE);
        let slots = memory / stride;
        let socket = Socket::sending(socket, ifindex)?;
        // A frame counts for more than its bytes, so fewer than `slots` are under way.
        socket.set_send_buffer((slots - 1) * mtu)?;
        let memory = socket.make_ring(memory, stride, slots)?;
        let ring = TransmitRing { memory, stride, slots, next: 0 };
        Ok(LongFrames { socket, ring: Mutex::new(ring), mtu })
    }

    /// Sends the first of these messages and those behind it that are as long; as
    /// [`crate::uplink::wire::Uplink::send`].
    pub(crate) fn send(&self, messages: &[SendFrame<'_>]) -> io::Result<usize> {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let mut asked = 0;
        for message in messages.iter().take(ring.slots) {
            let pieces = message.pieces();
            let length = pieces.iter().map(GuestSlice::len).sum::<usize>();
            if asked > 0 && length <= self.mtu + ETHERNET + LEGACY_HEADER {
                break;
            }
            match ring.ask(asked, pieces, length) {
                Ok(true) => asked += 1,
                Ok(false) => break,
                Err(error) if asked == 0 => return Err(error),
                Err(_) => break,
            }
        }
        if asked == 0 {
            // Every slot is under way.
            return Err(Errno::EAGAIN.into());
        }
        let outcome = self.socket.send_ring();
        match (ring.settle(asked), outcome) {
            (0, Err(error)) => Err(error),
            (0, Ok(())) => Err(Errno::EAGAIN.into()),
            (taken, _) => Ok(taken),
        }
    }
}

impl AsFd for LongFrames {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl TransmitRing {
    /// The slot `ahead` slots from the next one.
    fn slot(&self, ahead: usize) -> *mut u8 {
        let index = (self.next + ahead) % self.slots;
        // The memory has `slots` slots of `stride` bytes.
        self.memory.start().wrapping_add(index * self.stride)
    }

    fn word(&self, ahead: usize, at: usize) -> &AtomicU32 {
        // SAFETY: inside the slot's header, aligned, and mapped for as long as `self` lives.
        unsafe { AtomicU32::from_ptr(self.slot(ahead).add(at).cast()) }
    }

    /// Copies a message into the slot `ahead` slots from the next one, and asks for it to be sent.
    /// False when the kernel still has the slot.
    fn ask(&mut self, ahead: usize, pieces: &[GuestSlice<'_>], length: usize) -> io::Result<bool> {
        let frame = length.checked_sub(LEGACY_HEADER).ok_or(Errno::EINVAL)?;
        if length > self.stride - SLOT_HEADER || frame > LONGEST {
            return Err(Errno::EMSGSIZE.into());
        }
        let status = self.word(ahead, STATUS);
        if status.load(Ordering::Acquire) & (libc::TP_STATUS_SENDING | libc::TP_STATUS_SEND_REQUEST)
            != 0
        {
            return Ok(false);
        }
        let data = self.slot(ahead).wrapping_add(SLOT_HEADER);
        // SAFETY: inside the slot, behind its header, and mapped for as long as `self` lives. The
        // kernel does not have the slot, and nothing else refers to it.
        let data = unsafe { std::slice::from_raw_parts_mut(data, length) };
        // A guest may write to the pieces meanwhile: the kernel judges the copy.
        let mut copy = get(pieces, data);
        if let Some(hdr_len) = copy.get_mut(HDR_LEN..HDR_LEN + 2) {
            hdr_len.copy_from_slice(&(frame as u16).to_ne_bytes());
        }
        self.word(ahead, LENGTH).store(length as u32, Ordering::Relaxed);
        status.store(libc::TP_STATUS_SEND_REQUEST, Ordering::Release);
        Ok(true)
    }

    /// After the call: counts the requested slots that the kernel has taken. The others hold no
    /// frame any more.
    fn settle(&mut self, asked: usize) -> usize {
        let refused = libc::TP_STATUS_SEND_REQUEST | libc::TP_STATUS_WRONG_FORMAT;
        let is_taken =
            |ahead: &usize| self.word(*ahead, STATUS).load(Ordering::Acquire) & refused == 0;
        let taken = (0..asked).take_while(is_taken).count();
        for ahead in taken..asked {
            self.word(ahead, STATUS).store(libc::TP_STATUS_WRONG_FORMAT, Ordering::Release);
        }
        self.next = (self.next + taken) % self.slots;
        taken
    }
}
