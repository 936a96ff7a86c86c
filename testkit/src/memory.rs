//! The guest's memory: shared files that the VMM maps and hands to the back-end.
//!
//! A vhost-user front-end owns the guest's RAM as shared mappings and describes each one to the
//! back-end by four numbers (guest physical address, size, the VMM's own address, offset in the
//! file) plus a file descriptor. All other data passes through this memory, so the tests must be
//! able to build every shape that VMMs build: one memfd cut into two regions around the VGA hole as
//! QEMU does (the second one with a file offset that is not zero), a plain file, 2 MiB huge pages,
//! regions that touch each other in guest addresses but live in different files (a buffer may then
//! cross the border), regions plugged in later.
//!
//! The VMM's address ("user address") is the true address of our mapping. That is deliberate: ring
//! addresses are given in it, and a back-end that mixes up the two address spaces fails at once.
//!
//! All raw pointer work of the harness is in this file. Ring indices are read with Acquire and
//! written with Release, as a guest's virtio driver does; everything else is plain bytes. What can
//! go wrong: the peer is another process and may write at any time, so bytes are copied in and out
//! and no reference into the mapping escapes.
//!
//! Specification: vhost-user, "Memory region description", "Multiple memory regions description".

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use crate::ring::RingMemory;

const PAGE: u64 = 4096;
pub const HUGE: u64 = 2 << 20;

/// What lies under a region.
pub enum Backing {
    /// An anonymous memfd, the usual case.
    Memfd,
    /// A file that is made, unlinked at once and kept by its descriptor, in this directory.
    File(PathBuf),
    /// A memfd on 2 MiB huge pages; reserve them first with [`HugePages`].
    Huge,
}

/// One mapped piece of guest memory. It stays mapped while a reference to it exists, even when the
/// guest "unplugs" it.
pub struct Region {
    pub gpa: u64,
    pub size: u64,
    pub offset: u64,
    pub file: Arc<File>,
    base: *mut u8,
    next: Mutex<u64>,
}

// SAFETY: the mapping lives as long as the Region and is only touched by copies and atomics.
unsafe impl Send for Region {}
// SAFETY: as above; concurrent writers are expected, it is memory shared with another process
// anyway.
unsafe impl Sync for Region {}

impl Region {
    fn map(file: Arc<File>, gpa: u64, size: u64, offset: u64) -> Region {
        // SAFETY: a fresh shared mapping of a file that we own; no address is asked for.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                offset as i64,
            )
        };
        assert_ne!(base, libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
        Region { gpa, size, offset, file, base: base.cast(), next: Mutex::new(PAGE) }
    }

    /// The VMM's own address of this region: what goes into `userspace_addr`.
    pub fn user_addr(&self) -> u64 {
        self.base as u64
    }

    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    pub fn end(&self) -> u64 {
        self.gpa + self.size
    }

    /// The four numbers of the specification, in wire order.
    pub fn describe(&self) -> Vec<u8> {
        [self.gpa, self.size, self.user_addr(), self.offset]
            .iter()
            .flat_map(|n| n.to_le_bytes())
            .collect()
    }

    fn take(&self, size: u64, align: u64) -> Option<u64> {
        let mut next = self.next.lock().unwrap();
        let at = (self.gpa + *next).next_multiple_of(align);
        (at + size <= self.end()).then(|| {
            *next = at + size - self.gpa;
            at
        })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `map`; no pointer into it exists any more.
        unsafe { libc::munmap(self.base.cast(), self.size as usize) };
    }
}

/// A guest's memory: regions, an allocator that only ever grows, and byte access by guest physical
/// address.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Vec<Arc<Region>>>>);

impl Memory {
    /// An empty machine; add regions to it.
    pub fn empty() -> Memory {
        Memory::default()
    }

    /// What QEMU's pc machine shows to a back-end: one memfd, two regions around the VGA hole.
    pub fn like_qemu(size: u64) -> Memory {
        let file = Arc::new(make_file(&Backing::Memfd, size));
        let memory = Memory::empty();
        memory.push(Region::map(file.clone(), 0, 0xa_0000, 0));
        memory.push(Region::map(file, 0x10_0000, size - 0x10_0000, 0x10_0000));
        memory
    }

    /// One region at guest address 0.
    pub fn single(backing: &Backing, size: u64) -> Memory {
        let memory = Memory::empty();
        memory.add(backing, 0, size);
        memory
    }

    /// Adds a region on a file of its own; the caller sends it to the back-end.
    pub fn add(&self, backing: &Backing, gpa: u64, size: u64) -> Arc<Region> {
        self.push(Region::map(Arc::new(make_file(backing, size)), gpa, size, 0))
    }

    fn push(&self, region: Region) -> Arc<Region> {
        let region = Arc::new(region);
        self.0.lock().unwrap().push(region.clone());
        region
    }

    pub fn remove(&self, gpa: u64) {
        self.0.lock().unwrap().retain(|r| r.gpa != gpa);
    }

    pub fn regions(&self) -> Vec<Arc<Region>> {
        self.0.lock().unwrap().clone()
    }

    /// Takes guest memory, page-aligned if large, from the first region with room. Never given
    /// back.
    pub fn alloc(&self, size: u64) -> u64 {
        let align = if size >= PAGE { PAGE } else { 64 };
        self.regions()
            .iter()
            .find_map(|r| r.take(size, align))
            .expect("the test guest's memory is too small for what the test allocates")
    }

    fn region(&self, gpa: u64) -> Arc<Region> {
        self.0
            .lock()
            .unwrap()
            .iter()
            .find(|r| gpa >= r.gpa && gpa < r.end())
            .unwrap_or_else(|| panic!("no guest memory at {gpa:#x}"))
            .clone()
    }

    /// The VMM's address of a guest address (rings are described by it).
    pub fn user_addr(&self, gpa: u64) -> u64 {
        let r = self.region(gpa);
        r.user_addr() + (gpa - r.gpa)
    }

    /// Copies into the guest; may cross from one region into the next.
    pub fn write(&self, mut gpa: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let r = self.region(gpa);
            let n = bytes.len().min((r.end() - gpa) as usize);
            // SAFETY: gpa..gpa+n lies in this region, whose mapping is alive; source is our own
            // memory.
            unsafe {
                let to = r.base.add((gpa - r.gpa) as usize);
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, n);
            }
            gpa += n as u64;
            bytes = &bytes[n..];
        }
    }

    /// Copies out of the guest; may cross from one region into the next.
    pub fn read(&self, gpa: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0u8; len];
        self.read_into(gpa, &mut out);
        out
    }

    fn read_into(&self, mut gpa: u64, out: &mut [u8]) {
        let mut done = 0;
        while done < out.len() {
            let r = self.region(gpa);
            let n = (out.len() - done).min((r.end() - gpa) as usize);
            // SAFETY: gpa..gpa+n lies in this region, whose mapping is alive; destination is our
            // own memory.
            unsafe {
                let from = r.base.add((gpa - r.gpa) as usize);
                std::ptr::copy_nonoverlapping(from, out.as_mut_ptr().add(done), n);
            }
            gpa += n as u64;
            done += n;
        }
    }

    /// Reads a ring index or flag so that everything written before it is visible too.
    pub fn load16(&self, gpa: u64) -> u16 {
        let r = self.region(gpa);
        u16::from_le(r.atomic(gpa).load(Ordering::Acquire))
    }

    /// Writes a ring index or flag after everything that was written before it.
    pub fn store16(&self, gpa: u64, value: u16) {
        let r = self.region(gpa);
        r.atomic(gpa).store(value.to_le(), Ordering::Release);
    }
}

impl RingMemory for Memory {
    fn write(&self, at: u64, bytes: &[u8]) {
        Memory::write(self, at, bytes);
    }

    fn read(&self, at: u64, bytes: &mut [u8]) {
        self.read_into(at, bytes);
    }

    fn load16(&self, at: u64) -> u16 {
        Memory::load16(self, at)
    }

    fn store16(&self, at: u64, value: u16) {
        Memory::store16(self, at, value);
    }
}

/// A memory of one region, where no access looks for its region: for rings that are measured.
#[derive(Clone)]
pub struct Flat(Arc<Region>);

impl Flat {
    /// The only region of this memory.
    pub fn of(memory: &Memory) -> Flat {
        match &memory.regions()[..] {
            [one] => Flat(Arc::clone(one)),
            all => panic!("{} regions", all.len()),
        }
    }

    #[inline]
    fn at(&self, gpa: u64, len: usize) -> *mut u8 {
        let offset = gpa.wrapping_sub(self.0.gpa);
        assert!(
            offset < self.0.size && len as u64 <= self.0.size - offset,
            "no memory at {gpa:#x}"
        );
        // SAFETY: inside the mapping, which is alive as long as the region.
        unsafe { self.0.base.add(offset as usize) }
    }
}

impl RingMemory for Flat {
    #[inline]
    fn write(&self, at: u64, bytes: &[u8]) {
        let to = self.at(at, bytes.len());
        // SAFETY: as many bytes of the region; source is our own memory.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }

    #[inline]
    fn read(&self, at: u64, bytes: &mut [u8]) {
        let from = self.at(at, bytes.len());
        // SAFETY: as many bytes of the region; destination is our own memory.
        unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len()) };
    }

    #[inline]
    fn load16(&self, at: u64) -> u16 {
        u16::from_le(self.0.atomic(at).load(Ordering::Acquire))
    }

    #[inline]
    fn store16(&self, at: u64, value: u16) {
        self.0.atomic(at).store(value.to_le(), Ordering::Release);
    }
}

impl Region {
    #[inline]
    fn atomic(&self, gpa: u64) -> &AtomicU16 {
        assert!(gpa.is_multiple_of(2) && gpa >= self.gpa && gpa + 2 <= self.end());
        // SAFETY: in bounds and aligned (just checked; mappings are page-aligned), alive as long as
        // &self.
        unsafe { AtomicU16::from_ptr(self.base.add((gpa - self.gpa) as usize).cast()) }
    }
}

/// Makes the file under a region, of exactly this size.
pub fn make_file(backing: &Backing, size: u64) -> File {
    let file = match backing {
        Backing::Memfd => memfd(0),
        Backing::Huge => memfd(libc::MFD_HUGETLB | libc::MFD_HUGE_2MB),
        Backing::File(dir) => {
            let path = dir.join(format!("guest-ram-{}-{:p}", std::process::id(), &size));
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&path)
                .expect("create the guest memory file");
            std::fs::remove_file(&path).expect("unlink the guest memory file");
            file
        }
    };
    file.set_len(size).expect("size the guest memory file");
    file
}

fn memfd(flags: libc::c_uint) -> File {
    let name = CString::new("guest-ram").unwrap();
    // SAFETY: a plain system call on a valid C string; the result is checked before it is owned.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | flags) };
    assert!(fd >= 0, "memfd_create: {}", std::io::Error::last_os_error());
    // SAFETY: a fresh descriptor that has no other owner.
    unsafe { File::from_raw_fd(fd) }
}

/// 2 MiB pages taken from the system for one test and given back afterwards. Fails loudly if there
/// are none: a test of huge pages that quietly runs without them proves nothing.
pub struct HugePages {
    before: u64,
}

impl HugePages {
    const KNOB: &'static str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

    pub fn reserve(pages: u64) -> HugePages {
        let read = || -> u64 {
            std::fs::read_to_string(Path::new(Self::KNOB))
                .expect("this kernel has no 2 MiB huge pages")
                .trim()
                .parse()
                .unwrap()
        };
        let before = read();
        std::fs::write(Self::KNOB, (before + pages).to_string())
            .expect("reserving huge pages needs root");
        let now = read();
        let reserved = HugePages { before };
        assert!(now >= before + pages, "the kernel gave {now} huge pages of {}", before + pages);
        reserved
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        let _ = std::fs::write(Self::KNOB, self.before.to_string());
    }
}
