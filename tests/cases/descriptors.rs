//! Descriptors of every kind beside every kind of message.
//!
//! A front-end may send any descriptor with any message. The program must close all of them,
//! however many they are and however they come. Nothing may wait for the front-end meanwhile. Where
//! an eventfd is due, nothing else is accepted. Descriptors whose server falls silent are in
//! `silent_files.rs`.
//!
//! What can go wrong with the tests: the program closes in its own time, so the count of its
//! descriptors is waited for.

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::EventFd;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg, setsockopt, sockopt};

use testkit::freeze::Frozen;
use testkit::neighbour::{ends, meanwhile};
use testkit::netns::wait_until;
use testkit::rig::{Macvtap, Rig, SECOND};
use testkit::vmm::{NEED_REPLY, QemuOptions, VERSION, message, pair_of, proto, req};

/// One message by hand, with its descriptors in these control messages.
fn send(socket: &UnixStream, bytes: &[u8], controls: &[&[RawFd]]) {
    let controls: Vec<_> = controls.iter().map(|fds| ControlMessage::ScmRights(fds)).collect();
    let flags = MsgFlags::MSG_NOSIGNAL;
    // The other side may have ended the connection by now.
    let _ = sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], &controls, flags, None);
}

/// Sends nothing more and waits for the end of the connection.
fn finish(mut socket: UnixStream) {
    let _ = socket.shutdown(Shutdown::Write);
    socket.set_read_timeout(Some(SECOND)).unwrap();
    while socket.read(&mut [0; 256]).is_ok_and(|length| length > 0) {}
}

/// Messages that take no descriptor, one, some, and that do not exist.
fn messages() -> Vec<Vec<u8>> {
    let memory = [pair_of(1, 0), vec![0; 32]].concat();
    [
        (req::GET_FEATURES, vec![]),
        (req::SET_OWNER, vec![]),
        (req::SET_VRING_NUM, pair_of(0, 256)),
        (req::SET_VRING_KICK, pair_of(0, 0)),
        (req::SET_VRING_CALL, pair_of(0, 0)),
        (req::SET_VRING_ERR, pair_of(0, 0)),
        (req::SET_MEM_TABLE, memory),
        (req::ADD_MEM_REG, vec![0; 40]),
        (req::GET_VRING_BASE, pair_of(0, 0)),
        (req::SET_LOG_BASE, vec![0; 16]),
        (77, vec![]),
    ]
    .into_iter()
    .map(|(request, payload)| message(request, VERSION | NEED_REPLY, &payload))
    .collect()
}

/// Waits until the program has as many descriptors as before.
fn closes_all(rig: &Rig, before: usize) {
    let closed = wait_until(10 * SECOND, || rig.backend.fds().len() <= before);
    assert!(closed, "descriptors grew from {before} to {}", rig.backend.fds().len());
}

/// More than 32 descriptors: those that the kernel had installed were never closed, 32 for each
/// message. After 20,000 no front-end could connect any more.
#[test]
fn bug_s2_any_number_of_descriptors_beside_any_message_is_closed() {
    let mut rig = Rig::new(Macvtap);
    rig.bystander();
    let null = File::open("/dev/null").unwrap();
    let fds = [null.as_raw_fd(); 253];
    let before = rig.backend.fds().len();
    // Each message with some numbers and some ways; more connections than these would be made to
    // wait.
    let cases = messages().into_iter().chain(messages()).enumerate();
    meanwhile(&mut rig, |socket| {
        for (number, bytes) in cases {
            let fds = &fds[..[1, 33, 253][number % 3]];
            let (head, tail) = bytes.split_at(5);
            let (some, more) = fds.split_at(fds.len() / 2);
            let to = UnixStream::connect(socket).unwrap();
            match number % 5 {
                0 => send(&to, &bytes, &[fds]),
                // In two control messages.
                1 => send(&to, &bytes, &[some, more]),
                // Beside a part of the header, beside the rest of it, beside each byte.
                2 => send(&to, head, &[fds]),
                3 => {
                    send(&to, head, &[]);
                    send(&to, tail, &[fds]);
                }
                _ => bytes.chunks(1).take(20).for_each(|byte| send(&to, byte, &[fds])),
            }
            finish(to);
        }
    });
    closes_all(&rig, before);
    rig.guest(&QemuOptions::default());
    ends(&mut rig);
}

/// The reason is logged.
#[test]
fn bug_s2_too_many_descriptors_end_the_connection() {
    let mut rig = Rig::new(Macvtap);
    let null = File::open("/dev/null").unwrap();
    let mut vmm = rig.connect(0);
    vmm.send(req::GET_FEATURES, 0, &[], &[null.as_raw_fd(); 40]);
    vmm.expect_closed();
    rig.backend.wait_for_log("disconnected: 40 descriptors came with one message", SECOND);
    ends(&mut rig);
}

/// A TCP socket that waits for 20 seconds when it is closed: its data is never read.
fn lingering(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    while socket.write(&[0; 65536]).is_ok() {}
    socket.set_nonblocking(false).unwrap();
    let linger = libc::linger { l_onoff: 1, l_linger: 20 };
    setsockopt(&socket, sockopt::Linger, &linger).unwrap();
    (socket, peer)
}

/// As call descriptor, replaced: close() under the ring's lock froze the data plane of all
/// neighbours for its time. Beside any other message it froze the control thread.
#[test]
fn bug_f8_f9_a_socket_that_lingers_holds_nothing() {
    let mut rig = Rig::new(Macvtap);
    rig.bystander();
    let before = rig.backend.fds().len();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peers = Vec::new();
    meanwhile(&mut rig, |socket| {
        for bytes in messages() {
            let (lingering, peer) = lingering(&listener);
            peers.push(peer);
            let stream = UnixStream::connect(socket).unwrap();
            send(&stream, &bytes, &[&[lingering.as_raw_fd()]]);
            // If ours is the last close, it waits instead of the program's.
            std::thread::spawn(move || drop(lingering));
            finish(stream);
        }
    });
    closes_all(&rig, before);
    ends(&mut rig);
}

/// Descriptors in the queue of a connection that is refused unread: the control thread closes it.
#[test]
fn bug_f9_a_refused_connection_holds_nothing() {
    let mut rig = Rig::new(Macvtap);
    rig.bystander();
    let (_vmm, _driver) = rig.guest(&QemuOptions::default());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peers = Vec::new();
    // The control thread stands still until all of it is in the listener's queue, and no other
    // process has it open.
    let frozen = Frozen::control(&rig.backend);
    let streams: Vec<UnixStream> = (0..5)
        .map(|_| {
            let (lingering, peer) = lingering(&listener);
            peers.push(peer);
            let stream = UnixStream::connect(rig.socket(0)).unwrap();
            // In a socket that travels in the socket, too.
            let (near, far) = UnixStream::pair().unwrap();
            send(&far, b"x", &[&[lingering.as_raw_fd()]]);
            send(&stream, b"x", &[&[near.as_raw_fd()]]);
            stream
        })
        .collect();
    drop(frozen);
    meanwhile(&mut rig, |_| streams.into_iter().for_each(finish));
    ends(&mut rig);
}

/// A ring's descriptor must be an eventfd: polling, writing or closing another kind may wait for
/// its owner. Before, any pollable descriptor was taken as kick, and any descriptor at all as call.
#[test]
fn bug_f21_only_an_eventfd_is_an_eventfd() {
    let mut rig = Rig::new(Macvtap);
    rig.bystander();
    let (pipe, _writer) = std::io::pipe().unwrap();
    let (socket, _peer) = UnixStream::pair().unwrap();
    let event = EventFd::new().unwrap();
    let nested = Epoll::new(EpollCreateFlags::empty()).unwrap();
    nested.add(&event, EpollEvent::new(EpollFlags::EPOLLIN, 0)).unwrap();
    let memfd = nix::sys::memfd::memfd_create(c"m", nix::sys::memfd::MFdFlags::empty()).unwrap();
    let cases: [(OwnedFd, &str); 6] = [
        (pipe.into(), "a pipe"),
        (socket.into(), "a socket"),
        (nested.0, "the object [eventpoll]"),
        (memfd, "shared memory"),
        (File::open("/dev/null").unwrap().into(), "the device /dev/null"),
        (tempfile::tempfile_in("/dev/shm").unwrap().into(), "shared memory"),
    ];
    let mut vmm = rig.connect(0);
    let features = vmm.get_features();
    vmm.set_protocol_features(proto::REPLY_ACK);
    vmm.set_features(features);
    for request in [req::SET_VRING_KICK, req::SET_VRING_CALL, req::SET_VRING_ERR] {
        for (fd, _) in &cases {
            assert_ne!(vmm.order(request, &pair_of(0, 0), &[fd.as_raw_fd()]), 0, "accepted");
        }
        assert_eq!(vmm.order(request, &pair_of(0, 0), &[event.as_raw_fd()]), 0, "an eventfd");
    }
    for (_, what) in &cases {
        let text = format!("SET_VRING_KICK: ring 0: it must be an eventfd and is {what}");
        rig.backend.wait_for_log(&text, SECOND);
    }
    rig.unharmed();
    ends(&mut rig);
}
