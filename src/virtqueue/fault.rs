//! The SIGBUS handler: guest memory whose file shrinks while we use it.
//!
//! Guest memory is a file of the front-end's. A front-end that shrinks it after we mapped it makes
//! our next touch of a page beyond its end a SIGBUS, and so does a huge page that the pool cannot
//! give. The signal would end the process and every neighbour's port with it. (System calls that
//! touch such a page merely fail with EFAULT; the ring and the copies are the problem.) No check in
//! advance can prevent this, so the signal is caught. If the address lies in a watched mapping, the
//! handler covers the whole mapping with fresh zero pages and marks it as lost, and the interrupted
//! access goes on and reads zeros. The ring's worker sees the mark at the end of its turn and stops
//! the ring. Any other SIGBUS is as fatal as before.
//!
//! A signal handler may interrupt anything, so it takes no lock and allocates nothing. The watched
//! mappings are in a list of blocks of atomics. A block is added when all slots are taken, and is
//! never freed, so the handler may walk the list at any time. `address_space.rs` bounds the number
//! of mappings, and thereby the list.
//!
//! Why the handler covers the right pages and no others:
//!
//! 1. A [`Watch`] begins after its mapping was made and before anything can touch it, and ends before
//!    the mapping is removed (`mapping.rs`). So at any time the watched ranges do not overlap, and each
//!    of them is mapped.
//! 2. A slot is a sequence lock. Its version is odd while the slot is free or being written. The handler
//!    reads the version, the range and the version again, and ignores the slot unless it saw the same
//!    even version twice. So it never puts the start of one mapping together with the end of another.
//! 3. The thread that was interrupted touched the mapping, so it holds it: the mapping's slot does not
//!    change before that thread goes on. It is found, and no other slot can hold the address (1).
//! 4. Other pages do not repair an alignment fault. The signal's code shows it, and such a fault is
//!    fatal instead of endless. None can come from a ring: `split/parts.rs` checks the host address
//!    of each part.
//!
//! Specification: sigaction(2), `siginfo_t` of SIGBUS; mmap(2), "SIGBUS" and "Huge page mappings".

use std::io;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, fence};

/// Slots in a block of the list.
const BLOCK: usize = 64;

/// Codes of a SIGBUS, as `siginfo.h` has them: no such page, an error of the object behind it, and
/// memory that has failed. `BUS_ADRALN` (1) and the codes of a signal that a process sent are not
/// here.
const MISSING: [libc::c_int; 4] = [2, 3, 4, 5];

struct WatchSlot {
    taken: AtomicBool,
    /// Even while the slot holds a mapping, odd while it is free or being written.
    version: AtomicUsize,
    start: AtomicUsize,
    end: AtomicUsize,
    /// Size of the mapping's pages in bytes: only whole ones can be covered.
    page: AtomicUsize,
    lost: AtomicBool,
}

impl WatchSlot {
    const fn free() -> WatchSlot {
        WatchSlot {
            taken: AtomicBool::new(false),
            version: AtomicUsize::new(1),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            page: AtomicUsize::new(0),
            lost: AtomicBool::new(false),
        }
    }

    /// Fills a slot that the caller has taken.
    fn set(&self, range: Range) {
        // Nothing of the new range may be seen with the old version, which was odd; see `get`.
        fence(Ordering::Release);
        self.start.store(range.start, Ordering::Relaxed);
        self.end.store(range.end, Ordering::Relaxed);
        self.page.store(range.page, Ordering::Relaxed);
        self.lost.store(false, Ordering::Relaxed);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Empties the slot and lets another take it.
    fn clear(&self) {
        self.version.fetch_add(1, Ordering::Relaxed);
        self.taken.store(false, Ordering::Release);
    }

    /// The range that the slot holds, if it holds one. Lock-free: fit for a signal handler.
    fn get(&self) -> Option<Range> {
        let before = self.version.load(Ordering::Acquire);
        if !before.is_multiple_of(2) {
            return None;
        }
        let range = Range {
            start: self.start.load(Ordering::Relaxed),
            end: self.end.load(Ordering::Relaxed),
            page: self.page.load(Ordering::Relaxed),
        };
        // If one of the loads saw a later range, this pairs with the fence in `set`, and the
        // version is seen to have passed on.
        fence(Ordering::Acquire);
        (self.version.load(Ordering::Relaxed) == before).then_some(range)
    }
}

struct Block {
    slots: [WatchSlot; BLOCK],
    next: AtomicPtr<Block>,
}

impl Block {
    const fn empty() -> Block {
        let next = AtomicPtr::new(std::ptr::null_mut());
        Block { slots: [const { WatchSlot::free() }; BLOCK], next }
    }

    fn next(&self) -> Option<&'static Block> {
        // SAFETY: null, or a block that `Block::grow` leaked: valid from then on.
        unsafe { self.next.load(Ordering::Acquire).as_ref() }
    }

    /// The next block, which is made if there is none.
    fn grow(&self) -> &'static Block {
        if let Some(next) = self.next() {
            return next;
        }
        let new = Box::into_raw(Box::new(Block::empty()));
        let null = std::ptr::null_mut();
        match self.next.compare_exchange(null, new, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: leaked just now, and never freed.
            Ok(_) => unsafe { &*new },
            Err(other) => {
                // SAFETY: `new` came from a Box, and no other thread has it.
                drop(unsafe { Box::from_raw(new) });
                // SAFETY: another thread leaked it, and it is never freed.
                unsafe { &*other }
            }
        }
    }
}

static FIRST: Block = Block::empty();

/// Every slot there is.
fn slots() -> impl Iterator<Item = &'static WatchSlot> {
    std::iter::successors(Some(&FIRST), |block| block.next()).flat_map(|block| &block.slots)
}

/// A mapping's addresses, and the size of its pages in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    start: usize,
    end: usize,
    page: usize,
}

/// A watched mapping; dropping it ends the watch.
#[derive(Debug)]
pub struct Watch(&'static WatchSlot);

impl std::fmt::Debug for WatchSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}, lost: {:?}", self.get(), self.lost)
    }
}

impl Watch {
    /// Watches `len` bytes of guest memory mapped at `host` in pages of `page` bytes.
    ///
    /// # Safety
    /// The range is a whole mapping of the caller's, made of whole pages. It stays mapped until the
    /// watch is dropped, no access follows that, and every reader accepts any bytes: its pages may
    /// be replaced at any time.
    pub unsafe fn new(host: *const u8, len: usize, page: usize) -> Watch {
        let range = Range { start: host as usize, end: host as usize + len, page };
        let take = |slot: &&WatchSlot| !slot.taken.swap(true, Ordering::Acquire);
        let mut block = &FIRST;
        let slot = loop {
            match block.slots.iter().find(take) {
                Some(slot) => break slot,
                None => block = block.grow(),
            }
        };
        slot.set(range);
        Watch(slot)
    }

    /// True when pages were missing and the mapping has been replaced by zeros.
    pub fn lost(&self) -> bool {
        self.0.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.clear();
    }
}

/// Catches SIGBUS for the whole process from now on.
///
/// # Errors
/// The kernel refuses the handler.
pub fn install() -> io::Result<()> {
    // SAFETY: an all-zero sigaction is a valid one; it is filled in below.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_sigbus;
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the handler has the signature that SA_SIGINFO asks for and is async-signal-safe.
    if unsafe { libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo; the address is only used for the codes that have
    // one.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    // SAFETY: this thread's own errno. The interrupted code may be about to read it.
    let errno = unsafe { *libc::__errno_location() };
    let mended = MISSING.contains(&code) && mend(address);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
    if mended {
        return;
    }
    // Not ours: the default action, as soon as the handler returns and the signal is unblocked.
    // SAFETY: both calls are async-signal-safe.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

/// Puts zeros in the place of the watched mapping that holds `address`, if there is one.
fn mend(address: usize) -> bool {
    for slot in slots() {
        let Some(range) = slot.get() else { continue };
        if range.start <= address && address < range.end {
            slot.lost.store(true, Ordering::Relaxed);
            return range.attempts(address).any(|(start, end)| cover(start, end));
        }
    }
    false
}

impl Range {
    /// The ranges to cover, best first: everything, else ever smaller pieces around the address,
    /// down to the page that holds it. A kernel that counts every promised byte
    /// (`vm.overcommit_memory=2`) may refuse the large ones.
    fn attempts(self, address: usize) -> impl Iterator<Item = (usize, usize)> {
        let Range { start, end, page } = self;
        let page = page.max(1);
        let mut size = page;
        while size < end - start {
            size *= 2;
        }
        let halves =
            std::iter::successors(Some(size), move |size| (*size > page).then_some(size / 2));
        halves.map(move |size| {
            let from = start + (address - start) / size * size;
            (from, end.min(from + size))
        })
    }
}

/// Puts zero pages at `start..end`. `mmap` is a plain system call: safe in a handler.
fn cover(start: usize, end: usize) -> bool {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_FIXED | libc::MAP_ANONYMOUS | libc::MAP_PRIVATE | libc::MAP_NORESERVE;
    // SAFETY: whole pages of a watched mapping, which [`Watch::new`]'s caller allows to be
    // replaced.
    let address =
        unsafe { libc::mmap(start as *mut libc::c_void, end - start, protection, flags, -1, 0) };
    address != libc::MAP_FAILED
}

#[cfg(test)]
mod tests;
