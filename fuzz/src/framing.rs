//! A socket's bytes, in any portions.
//!
//! Input: portions of a length byte and as many bytes.

use std::io::Write;
use std::os::unix::net::UnixStream;

use vhost_user_macvtap::vhost_user::message::{Message, request};
use vhost_user_macvtap::vhost_user::wire::{MessageInbox, ReceivedMessage};

use crate::input::Input;

/// The messages, put together again, are the bytes that were sent, up to the first that cannot be
/// one.
pub fn target(data: &[u8]) {
    let Ok((mut sender, receiver)) = UnixStream::pair() else { return };
    let mut inbox = MessageInbox::default();
    let (mut sent, mut found) = (Vec::new(), Vec::new());
    let mut input = Input::new(data);
    loop {
        let count = input.u8();
        let portion = input.bytes(count.into());
        let last = portion.is_empty() && input.is_empty();
        if !last && sender.write_all(portion).is_err() {
            return;
        }
        sent.extend_from_slice(portion);
        if last && sender.shutdown(std::net::Shutdown::Write).is_err() {
            return;
        }
        loop {
            match inbox.receive(&receiver) {
                Ok(ReceivedMessage::Message(message)) => found.extend(message.to_bytes()),
                Ok(ReceivedMessage::Nothing) if !last => break,
                Ok(ReceivedMessage::Nothing) => panic!("a closed socket has nothing, and no end"),
                Ok(ReceivedMessage::Closed) => {
                    assert!(sent.starts_with(&found));
                    assert!(sent.len() - found.len() < 12 + 4096, "a whole message was kept");
                    return;
                }
                Err(_) => {
                    assert!(sent.starts_with(&found));
                    return;
                }
            }
        }
    }
}

/// A handshake, in one portion and byte by byte.
pub fn seeds() -> Vec<Vec<u8>> {
    let messages = [
        Message::request(request::GET_FEATURES, &[]),
        Message::request(request::SET_OWNER, &[]),
        Message::request(request::SET_VRING_NUM, &[0, 0, 0, 0, 0, 1, 0, 0]),
        Message::request(request::SET_VRING_ADDR, &[0; 40]),
    ];
    let bytes: Vec<u8> = messages.iter().flat_map(Message::to_bytes).collect();
    let portions = |size: usize| {
        bytes.chunks(size).flat_map(|part| [&[part.len() as u8][..], part].concat()).collect()
    };
    [1, 7, 12, 20, 200].map(portions).to_vec()
}
