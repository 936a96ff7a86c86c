//! The simplest way through a macvtap: `write` or `read`, in a loop.
//!
//! A back-end moves a frame between a ring in shared memory and the device. This loop does only the
//! part that every back-end needs, the system call. Frames have the 12-byte virtio-net header, as a
//! back-end's frames have.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use super::sendmmsg::copies;

/// Frames between two readings of the clock.
const BATCH: usize = 64;
/// Bytes of the virtio-net header.
pub const HEADER: usize = 12;
/// TUN_F_CSUM, TSO4, TSO6, TSO_ECN: super-frames stay whole.
pub const OFFLOADS: i32 = 1 | 2 | 4 | 8;

nix::ioctl_write_int_bad!(set_offload, nix::request_code_write!(b'T', 208, 4));
nix::ioctl_write_ptr_bad!(set_header, nix::request_code_write!(b'T', 216, 4), libc::c_int);

/// Opens a macvtap's character device without blocking, with header and offloads.
pub fn open(path: &str) -> io::Result<File> {
    let tap =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    prepare(&tap)?;
    Ok(tap)
}

/// Header of 12 bytes, checksums and segmentation left to the reader: for any tap.
pub fn prepare(tap: &File) -> io::Result<()> {
    let fd = tap.as_raw_fd();
    // SAFETY: TUNSETVNETHDRSZ reads the number behind the pointer, which outlives the call.
    unsafe { set_header(fd, &(HEADER as libc::c_int)) }?;
    // SAFETY: TUNSETOFFLOAD takes its argument as a number.
    unsafe { set_offload(fd, OFFLOADS) }?;
    Ok(())
}

/// A step that writes a batch of the same message, from different copies of it.
pub fn write(tap: File, message: &[u8]) -> impl FnMut() -> usize + use<> {
    let (frames, distance) = copies(message);
    let (size, mut at) = (message.len(), 0);
    move || {
        let mut done = 0;
        for _ in 0..BATCH {
            // A tap takes or gives a whole frame, so the length is not needed.
            match nix::unistd::write(&tap, &frames[at..at + size]) {
                Ok(_) => done += 1,
                Err(_) => wait_for(tap.as_raw_fd(), libc::POLLOUT),
            }
            at = (at + distance) % frames.len();
        }
        done
    }
}

/// A step that reads a batch.
pub fn read(tap: File) -> impl FnMut() -> usize {
    let mut buffer = vec![0; 1 << 17];
    move || {
        let mut done = 0;
        for _ in 0..BATCH {
            match nix::unistd::read(&tap, &mut buffer) {
                Ok(_) => done += 1,
                Err(_) => {
                    wait_for(tap.as_raw_fd(), libc::POLLIN);
                    break;
                }
            }
        }
        done
    }
}

/// Waits for a tenth of a second at most.
pub fn wait_for(fd: RawFd, events: i16) {
    let mut poll = libc::pollfd { fd, events, revents: 0 };
    // SAFETY: one live pollfd.
    unsafe { libc::poll(&mut poll, 1, 100) };
}
