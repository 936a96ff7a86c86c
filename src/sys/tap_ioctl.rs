//! The ioctls of a tap's character device, each with the argument that the kernel expects for it.
//!
//! A request's number and its argument's type stand together in one constant ([`Request`]), so that
//! no caller can pair them wrongly. An interface request is [`InterfaceRequest`]: as many bytes as
//! an `ifreq`, without its union, so that reading an answer needs no trust in which variant the
//! kernel filled.
//!
//! What can go wrong: a descriptor that is not a tap's. The kernel answers ENOTTY or EINVAL, and
//! touches nothing.
//!
//! Reference: linux/if_tun.h, linux/if.h, drivers/net/tap.c.

use std::marker::PhantomData;
use std::mem::{align_of, size_of};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use libc::{IFNAMSIZ, c_int, c_short};
use nix::errno::Errno;
use nix::sys::ioctl::ioctl_num_type;

const INT: usize = size_of::<c_int>();
/// A `sockaddr` begins with its family, of two bytes; the address follows.
const ADDRESS: usize = size_of::<libc::sa_family_t>();

/// An ioctl by which the kernel reads a `T`, writes one, or both.
struct Request<T> {
    number: ioctl_num_type,
    argument: PhantomData<T>,
}

const SET_IFF: Request<InterfaceRequest> = request(nix::request_code_write!(b'T', 202, INT));
const GET_IFF: Request<InterfaceRequest> = request(nix::request_code_read!(b'T', 210, INT));
const SET_QUEUE: Request<InterfaceRequest> = request(nix::request_code_write!(b'T', 217, INT));
const GET_HARDWARE_ADDRESS: Request<InterfaceRequest> = request(libc::SIOCGIFHWADDR as _);
const SET_SEND_BUFFER: Request<c_int> = request(nix::request_code_write!(b'T', 212, INT));
const SET_HEADER: Request<c_int> = request(nix::request_code_write!(b'T', 216, INT));
#[cfg(target_endian = "big")]
const SET_LITTLE_ENDIAN: Request<c_int> = request(nix::request_code_write!(b'T', 220, INT));
/// Its argument is a number in the place of a pointer.
const SET_OFFLOAD: ioctl_num_type = nix::request_code_write!(b'T', 208, INT);

const fn request<T>(number: ioctl_num_type) -> Request<T> {
    Request { number, argument: PhantomData }
}

/// The bytes of an `ifreq`: a device's name, and a value whose meaning depends on the request.
#[repr(C, align(8))]
struct InterfaceRequest {
    name: [u8; IFNAMSIZ],
    value: [u8; size_of::<libc::ifreq>() - IFNAMSIZ],
}

const _: () = assert!(size_of::<InterfaceRequest>() == size_of::<libc::ifreq>());
const _: () = assert!(align_of::<InterfaceRequest>() >= align_of::<libc::ifreq>());

impl InterfaceRequest {
    /// One without a name. Its value begins with these flags.
    fn with_flags(flags: c_int) -> InterfaceRequest {
        let mut request = InterfaceRequest { name: [0; _], value: [0; _] };
        if let Some(place) = request.value.first_chunk_mut() {
            *place = (flags as c_short).to_ne_bytes();
        }
        request
    }
}

fn call<T>(tap: impl AsFd, request: &Request<T>, argument: &mut T) -> nix::Result<()> {
    let fd = tap.as_fd().as_raw_fd();
    // SAFETY: the kernel reads and writes one T for this request, by the constants above. The
    // argument is a whole one, which nothing else refers to, and any bytes are a valid T. The
    // descriptor is open while it is borrowed.
    Errno::result(unsafe { libc::ioctl(fd, request.number, ptr::from_mut(argument)) })?;
    Ok(())
}

/// Sets the device's flags (TUNSETIFF).
pub(crate) fn set_flags(tap: impl AsFd, flags: c_int) -> nix::Result<()> {
    call(tap, &SET_IFF, &mut InterfaceRequest::with_flags(flags))
}

/// The device's name, ended by a zero byte (TUNGETIFF).
pub(crate) fn name(tap: impl AsFd) -> nix::Result<[u8; IFNAMSIZ]> {
    let mut request = InterfaceRequest::with_flags(0);
    call(tap, &GET_IFF, &mut request)?;
    Ok(request.name)
}

/// The device's hardware address (SIOCGIFHWADDR).
pub(crate) fn hardware_address(tap: impl AsFd) -> nix::Result<[u8; 6]> {
    let mut request = InterfaceRequest::with_flags(0);
    call(tap, &GET_HARDWARE_ADDRESS, &mut request)?;
    let address = request.value.get(ADDRESS..).and_then(|address| address.first_chunk());
    address.copied().ok_or(Errno::EINVAL)
}

/// Attaches or detaches the queue (TUNSETQUEUE).
pub(crate) fn set_queue(tap: impl AsFd, flag: c_int) -> nix::Result<()> {
    call(tap, &SET_QUEUE, &mut InterfaceRequest::with_flags(flag))
}

/// Sets how many bytes may wait to be sent (TUNSETSNDBUF).
pub(crate) fn set_send_buffer(tap: impl AsFd, mut bytes: c_int) -> nix::Result<()> {
    call(tap, &SET_SEND_BUFFER, &mut bytes)
}

/// Sets the length of the virtio-net header, in bytes (TUNSETVNETHDRSZ).
pub(crate) fn set_header_len(tap: impl AsFd, mut bytes: c_int) -> nix::Result<()> {
    call(tap, &SET_HEADER, &mut bytes)
}

/// Makes the virtio-net header little endian (TUNSETVNETLE).
#[cfg(target_endian = "big")]
pub(crate) fn set_little_endian(tap: impl AsFd) -> nix::Result<()> {
    call(tap, &SET_LITTLE_ENDIAN, &mut 1)
}

/// Sets the offloads of the device (TUNSETOFFLOAD).
pub(crate) fn set_offload(tap: impl AsFd, features: u32) -> nix::Result<()> {
    let fd = tap.as_fd().as_raw_fd();
    // SAFETY: the argument is a number, so no memory is involved. The descriptor is open while it
    // is borrowed.
    Errno::result(unsafe { libc::ioctl(fd, SET_OFFLOAD, libc::c_ulong::from(features)) })?;
    Ok(())
}
