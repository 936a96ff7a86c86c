//! The words of a split ring in guest memory: virtio 1.2, sections 2.7.5 to 2.7.10.
//!
//! A split ring has three parts. The driver writes the descriptor table and the available ring, and
//! we write the used ring. The driver may write to all three while we read them. So each function
//! here reads a word once and returns a copy, and `split_ring.rs` checks the copies.
//!
//! | part | in front | entries | behind |
//! | --- | --- | --- | --- |
//! | descriptor table | | 16 bytes each (`table.rs`) | |
//! | available ring | flags, index | first descriptor of a chain | event index of calls |
//! | used ring | flags, index | first descriptor of a chain, length | event index of kicks |
//!
//! An event index is the index of the other ring at which its reader wants to be notified.

use std::sync::Arc;

use crate::net::feature;
use crate::net::feature::has;
use crate::sync::{AtomicU16, Ordering};
use crate::virtqueue::guest_map::GuestMap;
use crate::virtqueue::guest_slice::GuestSliceMut;
use crate::virtqueue::notification::{passed, store_then_look};
use crate::virtqueue::ring_fault::Fault;
use crate::virtqueue::ring_setup::{MAX_RING_SIZE, RingSetup};
use crate::virtqueue::split::table::DescriptorTable;

pub(in crate::virtqueue) const AVAIL_F_NO_INTERRUPT: u16 = 1;
const USED_F_NO_NOTIFY: u16 = 1;

/// Where the three parts of a split ring are. All pointers lead into the map, and have been checked
/// for their whole length.
#[derive(Debug)]
pub struct Parts {
    desc: DescriptorTable<'static>,
    avail: *const u16,
    used: *mut u16,
    size: u16,
    event_idx: bool,
    /// Keeps the parts mapped.
    _map: Arc<GuestMap>,
}

// SAFETY: the pointers refer to shared memory that the map keeps mapped. Access goes through
// volatile or atomic operations only, and one thread at a time has the ring (it is not Sync).
unsafe impl Send for Parts {}

impl Parts {
    /// Finds the parts in the guest's memory.
    pub fn find(setup: &RingSetup, hint: &mut usize) -> Result<Parts, Fault> {
        let size = setup.size;
        if !size.is_power_of_two() || size > MAX_RING_SIZE {
            return Err(Fault::Size(size));
        }
        let map = Arc::clone(&setup.map);
        let n = u64::from(size);
        let mut part = |addr: u64, len: u64, align: u64| {
            let found = map.translate(addr, len, hint).ok_or(Fault::Address)?;
            // SAFETY: `Parts` has the map for as long as it has the part, and shows the part to
            // none beyond.
            let host = unsafe { GuestSliceMut::<'static>::new(found.start(), found.len()) };
            // The driver's rule is on the guest's address, ours on the host's: an atomic access to
            // a misaligned word is undefined, and on some machines an endless signal.
            let aligned =
                addr.is_multiple_of(align) && (host.start() as usize as u64).is_multiple_of(align);
            if aligned { Ok(host) } else { Err(Fault::Address) }
        };
        // Each ring has two u16 in front and one behind (the event index), virtio 1.2, 2.7.6 and
        // 2.7.8.
        let desc = part(setup.desc, 16 * n, 16)?;
        let avail = part(setup.avail, 6 + 2 * n, 2)?;
        let used = part(setup.used, 6 + 8 * n, 4)?;
        Ok(Parts {
            desc: DescriptorTable::new(desc).ok_or(Fault::Address)?,
            avail: avail.start().cast_const().cast(),
            used: used.start().cast(),
            size,
            event_idx: has(setup.features, feature::VIRTIO_RING_F_EVENT_IDX),
            _map: map,
        })
    }

    /// Number of descriptors.
    #[inline]
    pub fn size(&self) -> u16 {
        self.size
    }

    /// The descriptor table.
    #[inline]
    pub fn desc(&self) -> DescriptorTable<'_> {
        self.desc
    }

    fn avail_word(&self, word: usize) -> &AtomicU16 {
        // SAFETY: `word` is at most size + 2, inside the part checked by `find`; the mapping lives
        // as long as `Parts` has the map, u16 alignment was checked, and AtomicU16 has u16's
        // layout.
        unsafe { AtomicU16::from_ptr(self.avail.cast_mut().add(word)) }
    }

    fn used_word(&self, word: usize) -> &AtomicU16 {
        // SAFETY: `word` is at most 4 * size + 2, inside the part checked by `find`; as above.
        unsafe { AtomicU16::from_ptr(self.used.add(word)) }
    }

    fn slot(&self, index: u16) -> usize {
        usize::from(index & (self.size - 1))
    }

    /// The number of the first descriptor of the chain at `index` in the available ring.
    #[inline]
    pub fn head(&self, index: u16) -> u16 {
        u16::from_le(self.avail_word(2 + self.slot(index)).load(Ordering::Relaxed))
    }

    /// The driver's index of the available ring. What is before it can be read.
    #[inline]
    pub fn avail_index(&self) -> u16 {
        u16::from_le(self.avail_word(1).load(Ordering::Acquire))
    }

    /// Our index of the used ring, as it stands in guest memory.
    pub fn used_index(&self) -> u16 {
        self.used_word(1).load(Ordering::Relaxed)
    }

    /// Writes the used element at `index`: `len` bytes of the chain at `head` were filled.
    #[inline]
    pub fn write_used(&self, index: u16, head: u16, len: u32) {
        let element = (u64::from(len) << 32 | u64::from(head)).to_le();
        let slot = self.slot(index);
        // SAFETY: slot < size, inside the part checked by `find`. The elements begin 4 bytes into
        // a 4-aligned part, hence two 4-byte stores.
        unsafe {
            let at = self.used.add(2 + 4 * slot).cast::<u32>();
            at.write_volatile(element as u32);
            at.add(1).write_volatile((element >> 32) as u32);
        }
    }

    /// Makes the used elements before `new` visible, and returns whether the driver wants to be
    /// called for it. `asked` is the published index when the driver was last asked about; `None`
    /// before the first time.
    #[inline]
    pub fn publish(&self, new: u16, asked: &mut Option<u16>) -> bool {
        // The driver asks for calls by its event index, or else by a flag.
        let word = if self.event_idx { 2 + usize::from(self.size) } else { 0 };
        let event =
            store_then_look(self.used_word(1), new, Ordering::Release, self.avail_word(word));
        if !self.event_idx {
            return event & AVAIL_F_NO_INTERRUPT == 0;
        }
        match asked.replace(new) {
            Some(old) => passed(event, old, new),
            None => true,
        }
    }

    /// Asks the driver to notify us of the chain at `index`, and returns its available index as it
    /// was afterwards.
    #[inline]
    pub fn ask_for_notification(&self, index: u16) -> u16 {
        // Without the event index there is a flag, which 0 clears.
        let (word, value) =
            if self.event_idx { (2 + 4 * usize::from(self.size), index) } else { (0, 0) };
        store_then_look(self.used_word(word), value, Ordering::Relaxed, self.avail_word(1))
    }

    /// Tells the driver that kicks are not needed for now. With the event index, not moving it
    /// means that.
    #[inline]
    pub fn disable_notification(&self) {
        if !self.event_idx {
            self.used_word(0).store(USED_F_NO_NOTIFY.to_le(), Ordering::Relaxed);
        }
    }
}
