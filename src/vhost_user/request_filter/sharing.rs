//! Whether the guest's memory is shared with us at all.
//!
//! The commonest mistake of a first-time user is a VMM whose guest memory is its own. It shows in
//! three ways, two of them recorded from QEMU 7.2:
//!
//! * `-m` alone, or `memory-backend-ram`: QEMU has no file to give. It sends no memory region and
//!   goes on with SET_VRING_ADDR. If one of several memory back-ends is private, its part is left
//!   out.
//! * `memory-backend-memfd` or `-file` with `share=off`: QEMU sends the file, but its own mapping
//!   is private. Everything is accepted, and our mapping holds zeros from then on. Only the
//!   kernel's list of the VMM's mappings ([`is_private`]) shows that.
//! * A message that counts regions which bring no descriptor, or no region (other front-ends).
//!
//! What can go wrong: the list cannot be read if the front-end belongs to another user or lives in
//! another PID namespace. The check is then left out. It refuses only a private mapping of the very
//! file at the very address that the front-end named, so a wrong process id cannot refuse a right
//! front-end.
//!
//! Specification: vhost-user, "Memory region description"; proc(5), `/proc/pid/maps`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};

/// The options to type so that memory is shared.
pub(crate) const HOW: &str = "the guest's memory must be shared: QEMU: -object \
    memory-backend-memfd,id=mem,size=SIZE,share=on -machine memory-backend=mem; libvirt: \
    <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>; cloud-hypervisor: \
    --memory size=SIZE,shared=on";

/// Most bytes of a list of mappings that are read: a VMM has some hundred lines of 100 bytes.
const MOST: u64 = 1 << 20;

/// Whether the process `pid` maps the file with the number `inode` at `address` for itself only.
/// False if that is not known.
///
/// The kernel answers from the process's own data; it waits while that process changes its
/// mappings. So call this only on the connection's own thread, which may be lost without harm to
/// another port.
pub(crate) fn is_private(pid: i32, address: u64, inode: u64) -> bool {
    let Ok(maps) = File::open(format!("/proc/{pid}/maps")) else { return false };
    let lines = BufReader::new(maps.take(MOST)).lines();
    lines.map_while(Result::ok).find_map(|line| judge(&line, address, inode)).unwrap_or(false)
}

/// Whether the mapping is private, if this line of the list is about this file at this address.
fn judge(line: &str, address: u64, inode: u64) -> Option<bool> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    let access = words.next()?;
    let found = words.nth(2)?.parse::<u64>().ok()?;
    let there = (number(start)?..number(end)?).contains(&address) && found == inode;
    there.then(|| access.ends_with('p'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_private_mapping_of_the_file_is_found_and_nothing_else() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        let inode = file.metadata().unwrap().ino();
        for (flag, private) in [(libc::MAP_PRIVATE, true), (libc::MAP_SHARED, false)] {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY: a new mapping at an address of the kernel's choice, which no other code
            // knows.
            let at = unsafe {
                libc::mmap(std::ptr::null_mut(), 8192, access, flag, file.as_raw_fd(), 0)
            };
            assert_ne!(at, libc::MAP_FAILED);
            let pid = i32::try_from(std::process::id()).unwrap();
            assert_eq!(is_private(pid, at as u64 + 4096, inode), private);
            assert!(!is_private(pid, at as u64, inode + 1), "another file");
            assert!(!is_private(pid, 0x1000, inode), "another address");
            assert!(!is_private(0, at as u64, inode), "a process that is not known");
            // SAFETY: exactly the mapping made above.
            unsafe { libc::munmap(at, 8192) };
        }
    }

    #[test]
    fn reads_the_kernels_line() {
        let line =
            "7f0a2c000000-7f0a38000000 rw-p 00000000 00:01 1234   /memfd:memory-backend (deleted)";
        assert_eq!(judge(line, 0x7f0a_2c00_0000, 1234), Some(true));
        assert_eq!(judge(&line.replace("rw-p", "rw-s"), 0x7f0a_37ff_ffff, 1234), Some(false));
        assert_eq!(judge(line, 0x7f0a_3800_0000, 1234), None, "behind its end");
        assert_eq!(judge(line, 0x7f0a_2c00_0000, 99), None);
        assert_eq!(judge("", 0, 0), None);
        assert_eq!(judge("x-y z", 0, 0), None);
    }
}
