//! Messages on and off a Unix socket, without ever waiting.
//!
//! The control loop serves all sockets of the process, so a front-end that sends half a message or
//! reads no answers must not hold it up. An [`MessageInbox`] collects a message over as many reads
//! as it takes; an [`Outbox`] keeps the bytes that the socket did not take yet.
//!
//! Descriptors are owned and closed, whatever the fate of their message (CVE-2019-14818 was a leak
//! of those). The kernel installs as many as fit the control buffer, and only then reports that it
//! was too small (MSG_CTRUNC). Therefore the buffer has room for the most that one message can
//! carry, and installed descriptors are owned ([`ReceivedFd`]) before any other part of the message
//! is read.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::iter;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use libc::cmsghdr;
use nix::sys::socket::{ControlMessage, MsgFlags, recvmsg, sendmsg};

use crate::vhost_user::message::{HEADER, MAX_FDS, Message};
use crate::vhost_user::received_fd::ReceivedFd;

/// Most descriptors that the kernel passes with one message (SCM_MAX_FD).
const KERNEL_MAX_FDS: usize = 253;
/// Room for them and for a control message besides, in bytes.
const CONTROL: usize = (KERNEL_MAX_FDS / 2 + 16) * 8;
/// A control message and its data begin at a multiple of this, in bytes.
const CONTROL_ALIGNMENT: usize = size_of::<usize>();
/// What stands before the data, in bytes.
const CONTROL_HEADER: usize = size_of::<cmsghdr>().next_multiple_of(CONTROL_ALIGNMENT);
/// A control message with one descriptor, of the sending process; not in the libc crate.
const SCM_PIDFD: libc::c_int = 4;

/// The result of a read.
#[derive(Debug)]
pub enum ReceivedMessage {
    /// A whole message.
    Message(Message),
    /// Not enough yet.
    Nothing,
    /// The other side has closed.
    Closed,
}

/// A message in the making.
#[derive(Debug, Default)]
pub struct MessageInbox {
    bytes: Vec<u8>,
    fds: Vec<ReceivedFd>,
}

impl MessageInbox {
    /// Reads on until a message is whole or the socket has no more.
    ///
    /// # Errors
    /// `InvalidData` for bytes that cannot be a message, else the socket's error.
    pub fn receive(&mut self, socket: &UnixStream) -> io::Result<ReceivedMessage> {
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
                return Ok(ReceivedMessage::Message(Message { request, flags, payload, fds }));
            }
            match self.read(socket, missing) {
                Ok(0) => return Ok(ReceivedMessage::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(ReceivedMessage::Nothing);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Ok(ReceivedMessage::Closed);
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
        let start = self.bytes.len();
        self.bytes.resize(start + most, 0);
        let outcome = receive(socket, &mut self.bytes[start..], &mut self.fds);
        self.bytes.truncate(start + *outcome.as_ref().unwrap_or(&0));
        let count = self.fds.len();
        if count > MAX_FDS {
            // Now, and not when the connection has ended.
            self.fds.clear();
            let text =
                format!("{count} descriptors came with one message, which carries {MAX_FDS}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        outcome
    }
}

/// Room for control messages, aligned as a `cmsghdr` has to be.
#[repr(align(8))]
struct ControlBuffer([u8; CONTROL]);

/// Reads once. Received descriptors are added to `fds`, also if the call then fails.
fn receive(socket: &UnixStream, bytes: &mut [u8], fds: &mut Vec<ReceivedFd>) -> io::Result<usize> {
    let mut control = ControlBuffer([0; CONTROL]);
    let mut pieces = [IoSliceMut::new(bytes)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut pieces, Some(&mut control.0), flags)?;
    let (read, flags) = (message.bytes, message.flags);
    for fd in descriptors(&control.0) {
        // SAFETY: the kernel has just opened it for this process and wrote it into the buffer, which
        // held zeros before. Each is taken once, and the buffer ends here.
        fds.push(unsafe { OwnedFd::from_raw_fd(fd) }.into());
    }
    if flags.contains(MsgFlags::MSG_CTRUNC) {
        let text = "more descriptors came with a message than this process may open";
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(read)
}

/// Every descriptor in the control messages that the kernel has written into a buffer of zeros.
///
/// nix gives none of them when the buffer was too small, and none but those of SCM_RIGHTS.
fn descriptors(mut control: &[u8]) -> impl Iterator<Item = RawFd> {
    iter::from_fn(move || {
        let (header, _) = control.split_at_checked(size_of::<cmsghdr>())?;
        // The kernel writes a size_t, whatever the C library calls it. Behind the last message
        // stands a zero.
        let length = usize::from_ne_bytes(*header.first_chunk()?);
        let data = control.get(CONTROL_HEADER..length)?;
        let word = |at: usize| Some(i32::from_ne_bytes(*header.get(at..)?.first_chunk()?));
        let level = word(offset_of!(cmsghdr, cmsg_level))?;
        let kind = word(offset_of!(cmsghdr, cmsg_type))?;
        control = control.get(length.next_multiple_of(CONTROL_ALIGNMENT)..).unwrap_or_default();
        let has_descriptors =
            level == libc::SOL_SOCKET && matches!(kind, libc::SCM_RIGHTS | SCM_PIDFD);
        Some(if has_descriptors { data } else { &[] })
    })
    .flat_map(|data| data.as_chunks().0)
    .map(|bytes| RawFd::from_ne_bytes(*bytes))
    // A pidfd that could not be made is a negative number.
    .filter(|fd| *fd >= 0)
}

/// Messages that the socket has not taken yet.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: VecDeque<(Vec<u8>, Vec<ReceivedFd>)>,
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

    /// Sends as much as the socket takes.
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
    use super::*;
    use crate::vhost_user::message::request;
    use std::io::Write;

    #[test]
    fn a_message_in_single_bytes_arrives_whole() {
        let (mut a, b) = UnixStream::pair().unwrap();
        b.set_nonblocking(true).unwrap();
        let bytes = Message::request(request::SET_VRING_NUM, &[7; 8]).to_bytes();
        let mut inbox = MessageInbox::default();
        for (index, byte) in bytes.iter().enumerate() {
            assert!(matches!(inbox.receive(&b).unwrap(), ReceivedMessage::Nothing), "at {index}");
            a.write_all(&[*byte]).unwrap();
        }
        match inbox.receive(&b).unwrap() {
            ReceivedMessage::Message(message) => assert_eq!(message.payload, [7; 8]),
            other => panic!("{other:?}"),
        }
        drop(a);
        assert!(matches!(inbox.receive(&b).unwrap(), ReceivedMessage::Closed));
    }

    #[test]
    fn descriptors_travel_with_their_message() {
        let (a, b) = UnixStream::pair().unwrap();
        let mut out = Outbox::default();
        for count in [0, 2, 1] {
            let mut message = Message::request(request::SET_MEM_TABLE, &[count; 16]);
            for _ in 0..count {
                message.fds.push(OwnedFd::from(a.try_clone().unwrap()).into());
            }
            out.push(message);
        }
        out.send(&a).unwrap();
        assert!(out.is_empty());
        let mut inbox = MessageInbox::default();
        for count in [0usize, 2, 1] {
            match inbox.receive(&b).unwrap() {
                ReceivedMessage::Message(message) => assert_eq!(message.fds.len(), count),
                other => panic!("{other:?}"),
            }
        }
    }

    /// The kernel had installed 32 of them, and no code ever closed these.
    #[test]
    fn bug_s2_more_descriptors_than_a_message_carries_are_closed() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let (a, b) = UnixStream::pair().unwrap();
        let raw = [writer.as_raw_fd(); KERNEL_MAX_FDS];
        let bytes = Message::request(request::SET_MEM_TABLE, &[0; 16]).to_bytes();
        for count in [MAX_FDS + 1, 64, KERNEL_MAX_FDS] {
            let rights = [ControlMessage::ScmRights(&raw[..count])];
            let pieces = [IoSlice::new(&bytes)];
            sendmsg::<()>(a.as_raw_fd(), &pieces, &rights, MsgFlags::empty(), None).unwrap();
            let mut inbox = MessageInbox::default();
            let error = inbox.receive(&b).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.to_string().starts_with(&format!("{count} descriptors")), "{error}");
            assert!(inbox.fds.is_empty());
            while inbox.receive(&b).is_err() {}
        }
        drop(writer);
        let mut byte = [0];
        assert_eq!(io::Read::read(&mut reader, &mut byte).unwrap(), 0, "a writer is left");
    }

    #[test]
    fn garbage_is_an_error() {
        let (mut a, b) = UnixStream::pair().unwrap();
        a.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let error = MessageInbox::default().receive(&b).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
