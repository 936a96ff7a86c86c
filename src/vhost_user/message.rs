//! One vhost-user message: a header of three words, a payload, and descriptors beside it.
//!
//! Layout and numbers are those of QEMU's `docs/interop/vhost-user.rst`, sections "Header" and
//! "Front-end message types"; all words are in the machine's own byte order. The crate parses these
//! messages too, but only the crate sees them before it has accepted or refused them; the request
//! filter needs them first.

use crate::vhost_user::received_fd::ReceivedFd;

/// Length of a message's header, in bytes.
pub const HEADER: usize = 12;
/// Longest payload of any message, in bytes: the crate takes no more either.
pub const MAX_PAYLOAD: usize = 4096;
/// Most descriptors beside a message.
pub const MAX_FDS: usize = 32;

const VERSION: u32 = 1;
const VERSION_MASK: u32 = 3;
const REPLY: u32 = 4;
const NEED_REPLY: u32 = 8;

macro_rules! requests {
    ($($name:ident = $number:literal,)*) => {
        /// Request numbers.
        pub mod request {
            $(#[allow(missing_docs)] pub const $name: u32 = $number;)*
        }

        /// The specification's name of a request, for messages to users.
        pub fn request_name(number: u32) -> String {
            match number {
                $($number => stringify!($name).to_owned(),)*
                _ => format!("request {number}"),
            }
        }
    };
}

requests! {
    GET_FEATURES = 1,
    SET_FEATURES = 2,
    SET_OWNER = 3,
    RESET_OWNER = 4,
    SET_MEM_TABLE = 5,
    SET_LOG_BASE = 6,
    SET_LOG_FD = 7,
    SET_VRING_NUM = 8,
    SET_VRING_ADDR = 9,
    SET_VRING_BASE = 10,
    GET_VRING_BASE = 11,
    SET_VRING_KICK = 12,
    SET_VRING_CALL = 13,
    SET_VRING_ERR = 14,
    GET_PROTOCOL_FEATURES = 15,
    SET_PROTOCOL_FEATURES = 16,
    GET_QUEUE_NUM = 17,
    SET_VRING_ENABLE = 18,
    SEND_RARP = 19,
    NET_SET_MTU = 20,
    GET_CONFIG = 24,
    SET_CONFIG = 25,
    GET_MAX_MEM_SLOTS = 36,
    ADD_MEM_REG = 37,
    REM_MEM_REG = 38,
    SET_STATUS = 39,
    GET_STATUS = 40,
}

/// One message.
#[derive(Debug)]
pub struct Message {
    /// The request's number, see [`request`].
    pub request: u32,
    /// Version, reply and need-reply bits.
    pub flags: u32,
    /// The payload.
    pub payload: Vec<u8>,
    /// The descriptors that came with it.
    pub fds: Vec<ReceivedFd>,
}

impl Message {
    /// A request without descriptors that asks for no reply.
    pub fn request(request: u32, payload: &[u8]) -> Message {
        Message { request, flags: VERSION, payload: payload.to_vec(), fds: Vec::new() }
    }

    /// A reply with one number.
    pub fn reply(request: u32, value: u64) -> Message {
        let payload = value.to_ne_bytes().to_vec();
        Message { request, flags: VERSION | REPLY, payload, fds: Vec::new() }
    }

    /// Reads a header: request, flags and the length of the payload. `None` when it cannot be one.
    pub fn parse_header(bytes: &[u8; HEADER]) -> Option<(u32, u32, usize)> {
        let word = |at: usize| {
            u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let (request, flags, size) = (word(0), word(4), word(8) as usize);
        (flags & VERSION_MASK == VERSION && size <= MAX_PAYLOAD).then_some((request, flags, size))
    }

    /// The bytes on the socket.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.payload.len());
        for word in [self.request, self.flags, self.payload.len() as u32] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// True when the sender waits for an acknowledgement, where that was negotiated.
    pub fn needs_reply(&self) -> bool {
        self.flags & NEED_REPLY != 0
    }

    /// True for a reply.
    pub fn is_reply(&self) -> bool {
        self.flags & REPLY != 0
    }

    /// True for a request whose answer is a value, not an acknowledgement.
    pub fn is_question(&self) -> bool {
        matches!(
            self.request,
            request::GET_FEATURES
                | request::GET_VRING_BASE
                | request::GET_PROTOCOL_FEATURES
                | request::GET_QUEUE_NUM
                | request::GET_CONFIG
                | request::GET_MAX_MEM_SLOTS
                | request::GET_STATUS
        )
    }

    /// True for a request that may carry descriptors.
    pub fn takes_descriptors(&self) -> bool {
        matches!(
            self.request,
            request::SET_MEM_TABLE
                | request::ADD_MEM_REG
                | request::REM_MEM_REG
                | request::SET_VRING_KICK
                | request::SET_VRING_CALL
                | request::SET_VRING_ERR
        )
    }

    /// The payload as one number, when it is one.
    pub fn number(&self) -> Option<u64> {
        Some(u64::from_ne_bytes(self.payload.as_slice().try_into().ok()?))
    }

    /// The payload as a vring state: index and number, when it is one.
    pub fn vring_state(&self) -> Option<(u32, u32)> {
        let words = numbers::<4, 2>(&self.payload)?;
        Some((u32::from_ne_bytes(words[0]), u32::from_ne_bytes(words[1])))
    }

    /// The name of the request.
    pub fn name(&self) -> String {
        request_name(self.request)
    }
}

/// Exactly `COUNT` groups of `WIDTH` bytes.
pub fn numbers<const WIDTH: usize, const COUNT: usize>(
    bytes: &[u8],
) -> Option<[[u8; WIDTH]; COUNT]> {
    let (groups, rest) = bytes.as_chunks::<WIDTH>();
    if rest.is_empty() { groups.try_into().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trip_and_limits() {
        let message = Message::request(request::SET_VRING_NUM, &[1, 0, 0, 0, 0, 1, 0, 0]);
        let bytes = message.to_bytes();
        let header: [u8; HEADER] = bytes[..HEADER].try_into().unwrap();
        assert_eq!(Message::parse_header(&header), Some((8, 1, 8)));
        assert_eq!(message.vring_state(), Some((1, 256)));
        let mut wrong = header;
        wrong[4] = 2;
        assert_eq!(Message::parse_header(&wrong), None, "version 2");
        let mut long = header;
        long[8..12].copy_from_slice(&4097u32.to_ne_bytes());
        assert_eq!(Message::parse_header(&long), None, "too long");
    }

    #[test]
    fn names_what_it_knows() {
        assert_eq!(request_name(19), "SEND_RARP");
        assert_eq!(request_name(99), "request 99");
    }
}
