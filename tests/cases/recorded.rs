//! Messages of real front-ends, recorded at the socket.
//!
//! A message that stands for QEMU must equal QEMU's own. These were recorded between QEMU 7.2.22
//! (Debian 12, TCG, `vectors=0`) and a port of `type=macvlan` by a relay that passed each message
//! on: request, payload, number of descriptors. QEMU asks for an acknowledgement (REPLY_ACK) only
//! with ADD_MEM_REG.

use std::os::fd::AsRawFd;

use vmm_sys_util::eventfd::EventFd;

use testkit::vmm::{Vmm, req::*};

/// Request, payload in hexadecimal digits, descriptors beside it.
pub type Recorded = (u32, &'static str, usize);

/// The start of every connection of a device with one queue pair.
pub const CONNECT: &[Recorded] = &[
    (GET_FEATURES, "", 0),
    (GET_PROTOCOL_FEATURES, "", 0),
    (SET_PROTOCOL_FEATURES, "1d80010000000000", 0),
    (GET_QUEUE_NUM, "", 0),
    (GET_MAX_MEM_SLOTS, "", 0),
    (SET_OWNER, "", 0),
    (GET_FEATURES, "", 0),
    (SET_VRING_CALL, "0000000000000000", 1),
    (SET_VRING_ERR, "0000000000000000", 1),
    (SET_VRING_CALL, "0100000000000000", 1),
    (SET_VRING_ERR, "0100000000000000", 1),
];

/// `-m 192M` and no shared memory back-end: after [`CONNECT`], when the guest's driver starts. No
/// memory region is sent at all.
pub const PRIVATE_MEMORY: &[Recorded] = &[
    (SET_VRING_ENABLE, "0000000001000000", 0),
    (SET_VRING_ENABLE, "0100000001000000", 0),
    (SET_FEATURES, "83ff207001000000", 0),
    (GET_STATUS, "", 0),
    (SET_STATUS, "0800000000000000", 0),
    (SET_VRING_NUM, "0000000000010000", 0),
    (SET_VRING_BASE, "0000000000000000", 0),
    (
        SET_VRING_ADDR,
        "000000000000000000c035e56d7f000040d235e56d7f000000d035e56d7f000040d2550500000000",
        0,
    ),
    (SET_VRING_KICK, "0000000000000000", 1),
    (SET_VRING_CALL, "0000000000000000", 1),
    (SET_VRING_NUM, "0100000000010000", 0),
    (SET_VRING_BASE, "0100000000000000", 0),
    (
        SET_VRING_ADDR,
        "010000000000000000e035e56d7f000040f235e56d7f000000f035e56d7f000040f2550500000000",
        0,
    ),
    (SET_VRING_KICK, "0100000000000000", 1),
    (SET_VRING_CALL, "0100000000000000", 1),
];

/// Of two memory back-ends, one shared and the other not: only the shared one is sent, and the
/// rings lie in the other.
pub const HALF_PRIVATE_REGION: Recorded = (
    ADD_MEM_REG,
    "00000000000000000000000400000000000000080000000000f0df2b227f00000000000000000000",
    1,
);
pub const HALF_PRIVATE_RING: Recorded = (
    SET_VRING_ADDR,
    "00000000000000000040c235227f00004052c235227f00000050c235227f00004052e20100000000",
    0,
);

/// Sends it all, as far as the back-end takes it, and reads the answers to questions. `needs_reply`
/// is QEMU's flag.
pub fn replay(vmm: &mut Vmm, messages: &[Recorded]) {
    let event = EventFd::new(0).unwrap();
    for &(request, payload, fds) in messages {
        let fds = vec![event.as_raw_fd(); fds];
        if vmm.try_send(request, 0, &bytes(payload), &fds).is_err() {
            return;
        }
        let asks =
            [GET_FEATURES, GET_PROTOCOL_FEATURES, GET_QUEUE_NUM, GET_MAX_MEM_SLOTS, GET_STATUS];
        if asks.contains(&request) && vmm.try_reply().is_err() {
            return;
        }
    }
}

pub fn bytes(hex: &str) -> Vec<u8> {
    let digit = |c: u8| char::from(c).to_digit(16).unwrap() as u8;
    hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}
