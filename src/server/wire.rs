//! Messages on and off a Unix socket, without ever waiting.
//!
//! The control loop serves all sockets of the process, so a front-end that sends half a message or
//! reads no answers must not hold it up. An [`Inbox`] collects a message over as many reads as it
//! takes; an [`Outbox`] keeps what the socket did not take yet.
//!
//! Descriptors are closed whatever happens to the message they came with (CVE-2019-14818 was the leak
//! of those): they are `OwnedFd` from the moment the kernel installs them, and close-on-exec.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

use super::message::{HEADER, MAX_FDS, Message};

/// What a read brought.
#[derive(Debug)]
pub enum Received {
    /// A whole message.
    Message(Message),
    /// Not enough yet.
    Nothing,
    /// The other side has closed.
    Closed,
}

/// A message in the making.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Inbox {
    /// Reads on until a message is whole or the socket has no more.
    ///
    /// # Errors
    /// `InvalidData` for what cannot be a message, else what the socket says.
    pub fn receive(&mut self, socket: &UnixStream) -> io::Result<Received> {
        loop {
            let header = self.header()?;
            let whole = HEADER + header.map_or(0, |(_, _, size)| size);
            let missing = match header {
                Some(_) => whole - self.bytes.len(),
                None => HEADER - self.bytes.len(),
            };
            if let (Some((request, flags, _)), 0) = (header, missing) {
                let mut bytes = std::mem::take(&mut self.bytes);
                let payload = bytes.split_off(HEADER);
                let fds = std::mem::take(&mut self.fds);
                return Ok(Received::Message(Message { request, flags, payload, fds }));
            }
            match self.read(socket, missing) {
                Ok(0) => return Ok(Received::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Received::Nothing);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Ok(Received::Closed);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn header(&self) -> io::Result<Option<(u32, u32, usize)>> {
        let Some(header) = self.bytes.first_chunk::<HEADER>() else { return Ok(None) };
        let wrong =
            || io::Error::new(io::ErrorKind::InvalidData, "this is not a vhost-user message");
        Message::parse_header(header).map(Some).ok_or_else(wrong)
    }

    fn read(&mut self, socket: &UnixStream, most: usize) -> io::Result<usize> {
        let mut space = nix::cmsg_space!([RawFd; MAX_FDS]);
        let start = self.bytes.len();
        self.bytes.resize(start + most, 0);
        let mut pieces = [IoSliceMut::new(&mut self.bytes[start..])];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let outcome = recvmsg::<()>(socket.as_raw_fd(), &mut pieces, Some(&mut space), flags)
            .map_err(io::Error::from)
            .and_then(|message| {
                if let Ok(control) = message.cmsgs() {
                    for part in control {
                        if let ControlMessageOwned::ScmRights(raw) = part {
                            // SAFETY: the kernel has just installed these for us.
                            let owned = raw.iter().map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) });
                            self.fds.extend(owned);
                        }
                    }
                }
                if message.flags.contains(MsgFlags::MSG_CTRUNC) || self.fds.len() > MAX_FDS {
                    let text = "more descriptors than a vhost-user message may carry";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
                Ok(message.bytes)
            });
        let read = *outcome.as_ref().unwrap_or(&0);
        self.bytes.truncate(start + read);
        outcome
    }
}

/// Messages that the socket has not taken yet.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
}

impl Outbox {
    /// True when everything was sent.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Puts a message at the end.
    pub fn push(&mut self, message: Message) {
        let bytes = message.to_bytes();
        self.waiting.push_back((bytes, message.fds));
    }

    /// Sends what the socket takes.
    pub fn send(&mut self, socket: &UnixStream) -> io::Result<()> {
        while let Some((bytes, fds)) = self.waiting.front_mut() {
            let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
            let rights = [ControlMessage::ScmRights(&raw)];
            let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            let pieces = [IoSlice::new(bytes)];
            match sendmsg::<()>(socket.as_raw_fd(), &pieces, control, flags, None) {
                Ok(sent) => {
                    // The descriptors went with the first byte.
                    fds.clear();
                    bytes.drain(..sent);
                    if bytes.is_empty() {
                        self.waiting.pop_front();
                    }
                }
                Err(nix::errno::Errno::EAGAIN) => return Ok(()),
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::request;
    use super::*;
    use std::io::Write;

    #[test]
    fn a_message_in_single_bytes_arrives_whole() {
        let (mut a, b) = UnixStream::pair().unwrap();
        b.set_nonblocking(true).unwrap();
        let bytes = Message::request(request::SET_VRING_NUM, &[7; 8]).to_bytes();
        let mut inbox = Inbox::default();
        for (index, byte) in bytes.iter().enumerate() {
            assert!(matches!(inbox.receive(&b).unwrap(), Received::Nothing), "at {index}");
            a.write_all(&[*byte]).unwrap();
        }
        match inbox.receive(&b).unwrap() {
            Received::Message(message) => assert_eq!(message.payload, [7; 8]),
            other => panic!("{other:?}"),
        }
        drop(a);
        assert!(matches!(inbox.receive(&b).unwrap(), Received::Closed));
    }

    #[test]
    fn descriptors_travel_with_their_message() {
        let (a, b) = UnixStream::pair().unwrap();
        let mut out = Outbox::default();
        for count in [0, 2, 1] {
            let mut message = Message::request(request::SET_MEM_TABLE, &[count; 16]);
            for _ in 0..count {
                message.fds.push(a.try_clone().unwrap().into());
            }
            out.push(message);
        }
        out.send(&a).unwrap();
        assert!(out.is_empty());
        let mut inbox = Inbox::default();
        for count in [0usize, 2, 1] {
            match inbox.receive(&b).unwrap() {
                Received::Message(message) => assert_eq!(message.fds.len(), count),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn garbage_is_an_error() {
        let (mut a, b) = UnixStream::pair().unwrap();
        a.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let error = Inbox::default().receive(&b).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
