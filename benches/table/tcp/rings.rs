//! A far side of virtio rings: the tap is read straight into the guest's memory, and written
//! straight from it.
//!
//! Slots of the transmit ring are used last in, first out, as a kernel reuses pages that are still
//! in its caches. Receive buffers are a page each. A frame of several buffers (MRG_RXBUF) is
//! written to the tap with one `writev`.
//!
//! What can go wrong: a frame whose last buffers are missing waits for them. That does not happen
//! with our back-end, which publishes a frame as a whole.

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;

use super::carrier::{BATCH, FarSide};
use crate::generator::ring::Ring;
use testkit::driver::{Desc, Driver, F_CTRL_VQ};
use testkit::memory::{Backing, Memory};
use testkit::vmm::{Guest as Wishes, QemuOptions, Vmm};

/// Bytes of a slot of the transmit ring: a super-frame and its header.
const SLOT: usize = 68 << 10;
/// Slots: the number of super-frames in flight.
const SLOTS: u16 = 64;
/// Bytes of a receive buffer.
const BUFFER: usize = 4096;
/// Entries of each ring, as in the printed QEMU arguments. 1024 pages hold sixty super-frames.
const RING: u16 = 1024;
/// Where num_buffers stands in the header.
const NUM_BUFFERS: usize = 10;
/// Most buffers of a frame: 64 KiB and a header.
const PIECES: usize = 18;

/// The rings of a guest.
pub struct Rings {
    rx: Ring,
    tx: Ring,
    /// Where slots and buffers begin in this process.
    slots: *mut u8,
    buffers: *mut u8,
    /// Where slots begin for the guest.
    slots_at: u64,
    free: Vec<u16>,
    // What the rings point into and are kicked by.
    _driver: Driver,
    _vmm: Vmm,
    _memory: Memory,
}

impl Rings {
    /// Connects to a back-end as QEMU does. Panics like the tests' VMM if the back-end does not
    /// answer.
    pub fn connect(socket: &Path) -> Rings {
        let memory = Memory::single(&Backing::Memfd, 16 << 20);
        let mut vmm = Vmm::connect(socket).with_memory(&memory);
        let wishes =
            Wishes { rx_ring: RING, tx_ring: RING, ..Wishes::default().without(F_CTRL_VQ) };
        let options = QemuOptions { guest: wishes, ..QemuOptions::default() };
        let driver = vmm.start_like_qemu72(&options);
        let pair = &driver.pairs[0];
        let mut rx = Ring::new(&memory, &pair.rx, driver.features);
        let tx = Ring::new(&memory, &pair.tx, driver.features);
        let slots = memory.alloc(SLOT as u64 * u64::from(SLOTS));
        let buffers = memory.alloc(BUFFER as u64 * u64::from(RING));
        for number in 0..RING {
            let addr = buffers + u64::from(number) * BUFFER as u64;
            rx.write_desc(number, &Desc::write(addr, BUFFER as u32));
            rx.offer(number);
        }
        rx.publish();
        tx.calls_off();
        Rings {
            rx,
            tx,
            slots: memory.user_addr(slots) as *mut u8,
            slots_at: slots,
            buffers: memory.user_addr(buffers) as *mut u8,
            free: (0..SLOTS).collect(),
            _driver: driver,
            _vmm: vmm,
            _memory: memory,
        }
    }

    /// Takes back what the back-end has sent.
    fn reap(&mut self) {
        for _ in 0..self.tx.ready() {
            let (head, _) = self.tx.take();
            self.free.push(head % SLOTS);
        }
    }
}

impl FarSide for Rings {
    fn out(&mut self, tap: &File) -> usize {
        self.reap();
        let mut moved = 0;
        while moved < BATCH {
            let Some(&slot) = self.free.last() else { break };
            let offset = usize::from(slot) * SLOT;
            // SAFETY: the slot is inside the guest's memory, and not the back-end's until it is
            // offered.
            let size = unsafe { libc::read(tap.as_raw_fd(), self.slots.add(offset).cast(), SLOT) };
            let Ok(len) = u32::try_from(size) else { break };
            self.free.pop();
            let addr = self.slots_at + offset as u64;
            self.tx.write_desc(slot, &Desc::read(addr, len));
            self.tx.offer(slot);
            moved += 1;
        }
        self.tx.publish();
        moved
    }

    fn inward(&mut self, tap: &File) -> usize {
        let mut moved = 0;
        let mut ready = usize::from(self.rx.ready());
        let mut pieces = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; PIECES];
        let mut heads = [0; PIECES];
        while ready > 0 && moved < BATCH {
            let (mut count, mut used) = (1, 0);
            while used < count && used < ready {
                let (head, len) = self.rx.take();
                let offset = usize::from(head % RING) * BUFFER;
                // SAFETY: a buffer is inside the guest's memory, and ours again since it was used.
                let at = unsafe { self.buffers.add(offset) };
                if used == 0 {
                    // SAFETY: as above; a buffer is longer than a header.
                    let number = unsafe { at.add(NUM_BUFFERS).cast::<u16>().read_volatile() };
                    count = usize::from(number).clamp(1, PIECES);
                }
                pieces[used] =
                    libc::iovec { iov_base: at.cast(), iov_len: (len as usize).min(BUFFER) };
                heads[used] = head;
                used += 1;
            }
            // SAFETY: `used` pieces, each inside the guest's memory.
            unsafe { libc::writev(tap.as_raw_fd(), pieces.as_ptr(), used as libc::c_int) };
            for &head in &heads[..used] {
                self.rx.offer(head);
            }
            ready -= used;
            moved += 1;
        }
        self.rx.publish();
        moved
    }

    fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    fn rest(&mut self) -> bool {
        self.rx.calls_on(0);
        if self.free.is_empty() {
            // Like Linux: when three quarters are back.
            self.tx.calls_on(SLOTS * 3 / 4);
        }
        self.rx.ready() == 0 && (self.has_room() || self.tx.ready() == 0)
    }

    fn rise(&mut self) {
        self.rx.calls();
        self.tx.calls();
        self.rx.calls_off();
        self.tx.calls_off();
    }

    fn alarms(&self) -> Vec<RawFd> {
        vec![self.rx.call_fd(), self.tx.call_fd()]
    }
}
