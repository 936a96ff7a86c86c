//! Bulk data between any two of guests and the LAN, with the same checksum at both ends.
//!
//! `exchange.rs` moves data between one guest and the LAN over several connections; this file moves
//! it between *any* two machines over one, IPv4 or IPv6. The payload is random bytes that the test
//! makes once. Guests sum what they got with `crc32`, which is the one checksum of busybox that a
//! guest without KVM is fast at (md5sum takes five times longer, seven seconds for 100 MiB), and
//! which random data cannot fool by accident. What comes to the LAN is compared byte by byte.
//!
//! A guest can only send what it has received from the LAN before: it keeps that in `/payload`.
//! Guest to guest, the receiver listens with busybox's `nc`, which hands the connection to `dd` (by
//! itself it would move a kilobyte at a time).
//!
//! What can go wrong: a guest's files may fill half of its memory, so two payloads of 100 MiB want
//! 512. A transfer that stalls ends with a time-out. Times are of the transfer alone, without the
//! sums.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::exchange::{accept, in_netns, noise};
use crate::guest::Guest;
use crate::netns::Netns;

/// The TCP port that the receiver listens at, and its form in /proc/net/tcp.
const PORT: u16 = 5000;
const PORT_HEX: &str = "1388";

/// How long one transfer may take. It takes a few seconds; a busy machine, longer.
const PATIENCE: Duration = Duration::from_secs(90);

/// The bytes to move.
pub struct Payload {
    bytes: Arc<Vec<u8>>,
    sum: String,
}

impl Payload {
    /// So many random bytes.
    pub fn new(len: usize) -> Payload {
        let bytes = noise(len, 4711);
        let sum = format!("{:08x}", crc32(&bytes));
        Payload { bytes: Arc::new(bytes), sum }
    }

    /// How many bytes one transfer moves.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// From the LAN to a guest, which connects to `address` and keeps the payload. Returns the
    /// time.
    pub fn lan_to_guest(&self, lan: &Netns, guest: &mut Guest, address: &str) -> Duration {
        let door = listen(lan);
        let bytes = Arc::clone(&self.bytes);
        let sender = thread::spawn(move || {
            let mut stream = accept(&door, 0);
            stream.write_all(&bytes).unwrap_or_else(|error| panic!("to the guest: {error}"));
        });
        let begin = Instant::now();
        must(guest, &format!("bash -c 'dd bs=64k </dev/tcp/{address}/{PORT} >/payload'"));
        let took = begin.elapsed();
        sender.join().expect("the sender on the LAN");
        self.sum_is_right(guest, "/payload");
        took
    }

    /// From a guest, which has the payload and connects to `address`, to the LAN. Returns the time.
    pub fn guest_to_lan(&self, guest: &mut Guest, lan: &Netns, address: &str) -> Duration {
        let door = listen(lan);
        let bytes = Arc::clone(&self.bytes);
        let receiver = thread::spawn(move || {
            let mut stream = accept(&door, 0);
            let mut seen = Vec::with_capacity(bytes.len());
            stream.read_to_end(&mut seen).unwrap_or_else(|error| panic!("from a guest: {error}"));
            let first = seen.iter().zip(bytes.iter()).position(|(a, b)| a != b);
            assert_eq!(first, None, "differs from this byte on");
            assert_eq!(seen.len(), bytes.len(), "length");
        });
        let begin = Instant::now();
        must(guest, &format!("bash -c 'cat /payload >/dev/tcp/{address}/{PORT}'"));
        receiver.join().expect("the receiver on the LAN");
        begin.elapsed()
    }

    /// From a guest, which has the payload, to another, whose address is `address`. Returns the
    /// time.
    pub fn guest_to_guest(&self, from: &mut Guest, to: &mut Guest, address: &str) -> Duration {
        // In the background; the command ends when the port is open (state 0A in /proc/net).
        must(
            to,
            &format!(
                "rm -f /done; (nc -l -p {PORT} -e dd of=/in bs=64k; touch /done) & \
                 until grep -qE ':{PORT_HEX} [0-9A-F]+:0000 0A' /proc/net/tcp /proc/net/tcp6; \
                 do sleep 0.05; done"
            ),
        );
        let begin = Instant::now();
        must(from, &format!("bash -c 'cat /payload >/dev/tcp/{address}/{PORT}'"));
        must(to, "until [ -e /done ]; do sleep 0.05; done");
        let took = begin.elapsed();
        self.sum_is_right(to, "/in");
        must(to, "rm /in");
        took
    }

    fn sum_is_right(&self, guest: &mut Guest, file: &str) {
        let seen = must(guest, &format!("crc32 {file}"));
        assert!(seen.starts_with(&self.sum), "the guest has {seen}, sent was {}", self.sum);
    }
}

/// Runs a command that may take its time, and must succeed.
fn must(guest: &mut Guest, script: &str) -> String {
    let output = guest.run_for(script, PATIENCE);
    assert!(output.ok(), "{script}: status {}\n{}", output.status, output.text);
    output.text
}

/// Listens on the LAN, for both IP versions.
fn listen(lan: &Netns) -> TcpListener {
    let door = in_netns(lan, || TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)));
    let door = door.expect("a TCP socket on the LAN");
    door.set_nonblocking(true).expect("a listener that does not block");
    door
}

/// The CRC of IEEE 802.3, which busybox's `crc32` prints (polynomial 0x04c11db7, reflected).
fn crc32(bytes: &[u8]) -> u32 {
    let mut table = [0u32; 256];
    for (n, entry) in table.iter_mut().enumerate() {
        *entry = (0..8).fold(n as u32, |c, _| (c >> 1) ^ (0xedb8_8320 * (c & 1)));
    }
    !bytes.iter().fold(!0, |c: u32, &byte| (c >> 8) ^ table[((c ^ u32::from(byte)) & 255) as usize])
}
