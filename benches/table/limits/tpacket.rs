//! The simplest ways in: readers of a packet socket's ring, TPACKET_V3 (blocks) and TPACKET_V2
//! (slots).
//!
//! The loop reads the destination of each frame and does nothing else: it makes no copy and serves
//! no guest. The kernel's work for a frame runs in the sender's softirq. So these loops show how
//! much of it the ring takes, and the reader's own processor time. The rings have 8 MiB and the
//! virtio-net header, as a switch would have them.
//!
//! Kernel: net/packet/af_packet.c; Documentation/networking/packet_mmap.rst.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use libc::{tpacket_block_desc, tpacket_hdr_v1, tpacket2_hdr, tpacket3_hdr};

use super::sendmmsg::{bind, set, unbound};
use super::tap::wait_for;

const RING: usize = 8 << 20;
const BLOCK: usize = 128 << 10;
const SLOT: usize = 2048;

/// The version of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Slots of one frame.
    V2,
    /// Blocks of many frames.
    V3,
}

/// The mapped ring.
struct Ring {
    start: NonNull<u8>,
    socket: OwnedFd,
    at: usize,
}

/// A step that takes all frames of the ring, and waits if there are none. Super-frames need
/// [`Version::V3`].
pub fn read(link: &str, version: Version) -> io::Result<impl FnMut() -> usize> {
    let mut ring = Ring::new(link, version)?;
    Ok(move || {
        let taken = match version {
            Version::V2 => ring.slots(),
            Version::V3 => ring.block(),
        };
        if taken == 0 {
            wait_for(ring.socket.as_raw_fd(), libc::POLLIN);
        }
        taken
    })
}

impl Ring {
    fn new(link: &str, version: Version) -> io::Result<Ring> {
        let socket = unbound()?;
        let number = match version {
            Version::V2 => libc::tpacket_versions::TPACKET_V2,
            Version::V3 => libc::tpacket_versions::TPACKET_V3,
        };
        set(&socket, libc::SOL_PACKET, libc::PACKET_VERSION, &(number as i32))?;
        set(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1i32)?;
        set(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1i32)?;
        let (block, slots) = (BLOCK as u32, (RING / SLOT) as u32);
        match version {
            Version::V2 => {
                let request = libc::tpacket_req {
                    tp_block_size: block,
                    tp_block_nr: (RING / BLOCK) as u32,
                    tp_frame_size: SLOT as u32,
                    tp_frame_nr: slots,
                };
                set(&socket, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
            }
            Version::V3 => {
                let request = libc::tpacket_req3 {
                    tp_block_size: block,
                    tp_block_nr: (RING / BLOCK) as u32,
                    tp_frame_size: SLOT as u32,
                    tp_frame_nr: slots,
                    tp_retire_blk_tov: 1,
                    tp_sizeof_priv: 0,
                    tp_feature_req_word: 0,
                };
                set(&socket, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
            }
        }
        let (fd, protection) = (socket.as_raw_fd(), libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: the kernel chooses the address, so the new mapping replaces no other.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), RING, protection, libc::MAP_SHARED, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(io::Error::last_os_error)?;
        bind(&socket, link, libc::ETH_P_ALL as u16)?;
        Ok(Ring { start, socket, at: 0 })
    }

    /// The status word at an offset.
    fn status(&self, at: usize) -> &AtomicU32 {
        // SAFETY: callers name a word inside the mapping, a multiple of four; only ever used
        // atomically.
        unsafe { AtomicU32::from_ptr(self.start.add(at).as_ptr().cast()) }
    }

    /// Takes slots until one is the kernel's.
    fn slots(&mut self) -> usize {
        let mut taken = 0;
        while taken < 64 {
            let at = self.at;
            if self.status(at).load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
                break;
            }
            // SAFETY: the slot is ours until the store below; it begins with a tpacket2_hdr.
            let header = unsafe { self.start.add(at).cast::<tpacket2_hdr>().as_ref() };
            self.look(at + usize::from(header.tp_mac));
            self.status(at).store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.at = (at + SLOT) % RING;
            taken += 1;
        }
        taken
    }

    /// Takes one block, if it is ours.
    fn block(&mut self) -> usize {
        const HEADER: usize = std::mem::offset_of!(tpacket_block_desc, hdr);
        const STATUS: usize = HEADER + std::mem::offset_of!(tpacket_hdr_v1, block_status);
        let at = self.at;
        if self.status(at + STATUS).load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return 0;
        }
        // SAFETY: the block is ours until the store below, and has this header at this place.
        let header = unsafe { self.start.add(at + HEADER).cast::<tpacket_hdr_v1>().as_ref() };
        let frames = header.num_pkts as usize;
        let mut place = at + header.offset_to_first_pkt as usize;
        for _ in 0..frames {
            // SAFETY: the kernel has put so many frames one behind the other into the block.
            let frame = unsafe { self.start.add(place).cast::<tpacket3_hdr>().as_ref() };
            self.look(place + usize::from(frame.tp_mac));
            place += frame.tp_next_offset as usize;
        }
        self.status(at + STATUS).store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.at = (at + BLOCK) % RING;
        frames
    }

    /// Reads the destination of a frame.
    fn look(&self, at: usize) {
        // SAFETY: inside a slot or block that is ours; any bytes are a number.
        let word = unsafe { self.start.add(at).cast::<u64>().read_unaligned() };
        std::hint::black_box(word);
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no reference into it is left.
        unsafe { libc::munmap(self.start.as_ptr().cast(), RING) };
    }
}
