//! Bulk data between a guest and the LAN, compared byte by byte.
//!
//! The LAN's side is threads of the test with sockets in the LAN's namespace (a socket stays where
//! it was made, so the test itself never moves). The guest's side is bash, which opens sockets by
//! itself (`/dev/tcp`, `/dev/udp`): no program has to be made for the guest. The guest always
//! connects.
//!
//! The payload comes from the LAN. The guest keeps it in memory, prints its MD5 sum, and then sends
//! it back. The random bytes are made once, here: a guest without KVM would take longer to make
//! them than to transfer them. The returned bytes are compared with the sent ones, not just summed.
//! Several connections carry a slice each, so that a device with several queues has flows to
//! spread.
//!
//! What can go wrong: the guest's memory must hold the payload (100 MiB of it want 384). A transfer
//! that stalls ends with a time-out that names the connection, since every socket has one.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::guest::Guest;
use crate::netns::{Netns, World};

/// The first TCP port on the LAN; connection `n` takes the `n`th.
const PORT: u16 = 5000;

/// How long one transfer may take. It takes a few seconds; a busy machine, longer.
const PATIENCE: Duration = Duration::from_secs(90);

/// The longest UDP payload that IPv4 knows.
const LONGEST_DATAGRAM: usize = 65_535 - 20 - 8;

/// Runs `work` with the thread's network namespace being `netns`.
pub fn in_netns<T: Send + 'static>(netns: &Netns, work: impl FnOnce() -> T + Send + 'static) -> T {
    let path = format!("/run/netns/{}", netns.name());
    let inside = move || {
        let file = File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET).expect("setns");
        work()
    };
    thread::spawn(inside).join().expect("the thread inside the namespace")
}

/// Bytes that no checksum and no repetition can hide an error in; the same for the same seed.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        // xorshift64* (Marsaglia, Vigna).
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The MD5 sum, by busybox, as the guest has it.
fn md5(bytes: &[u8]) -> String {
    let mut child = Command::new("busybox")
        .arg("md5sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("busybox md5sum");
    child.stdin.take().expect("its input").write_all(bytes).expect("its input");
    let output = child.wait_with_output().expect("busybox md5sum");
    String::from_utf8_lossy(&output.stdout).split_whitespace().next().unwrap_or_default().into()
}

/// A payload in slices, and the LAN's end of a connection for each.
pub struct Exchange {
    slices: Vec<Arc<Vec<u8>>>,
    sums: Vec<String>,
    doors: Vec<Arc<TcpListener>>,
}

impl Exchange {
    /// Listens on the LAN with `bytes` to send, over `connections` at once.
    pub fn new(lan: &Netns, bytes: usize, connections: usize) -> Exchange {
        let slices: Vec<_> = (0..connections)
            .map(|n| Arc::new(noise(bytes / connections, 1000 + n as u64)))
            .collect();
        let doors = (0..connections)
            .map(|n| {
                let address = (Ipv4Addr::UNSPECIFIED, port(n));
                let door = in_netns(lan, move || TcpListener::bind(address));
                let door = door.expect("a TCP socket on the LAN");
                door.set_nonblocking(true).expect("a listener that does not block");
                Arc::new(door)
            })
            .collect();
        let sums = slices.iter().map(|slice| md5(slice)).collect();
        Exchange { slices, sums, doors }
    }

    /// How many bytes one transfer moves.
    pub fn bytes(&self) -> usize {
        self.slices.iter().map(|slice| slice.len()).sum()
    }

    /// LAN to guest: the guest must hold the same bytes afterwards. Returns the time it took.
    pub fn to_guest(&self, guest: &mut Guest) -> Duration {
        let senders: Vec<_> = (0..self.doors.len())
            .map(|n| {
                let (door, slice) = (Arc::clone(&self.doors[n]), Arc::clone(&self.slices[n]));
                thread::spawn(move || {
                    let mut stream = accept(&door, n);
                    stream
                        .write_all(&slice)
                        .unwrap_or_else(|error| panic!("connection {n}, to the guest: {error}"));
                })
            })
            .collect();
        let begin = Instant::now();
        self.all_at_once(guest, |address, n| format!("dd bs=64k <{address} >/payload.{n}"));
        let took = begin.elapsed();
        for sender in senders {
            sender.join().expect("a sender on the LAN");
        }
        for (n, sum) in self.sums.iter().enumerate() {
            let seen = guest.run_for(&format!("md5sum </payload.{n}"), PATIENCE).text;
            assert!(seen.starts_with(sum), "connection {n}: the guest has {seen}, sent was {sum}");
        }
        took
    }

    /// Guest to LAN: the guest sends back its copy, which must equal the original. Returns the
    /// time.
    pub fn to_lan(&self, guest: &mut Guest) -> Duration {
        let receivers: Vec<_> = (0..self.doors.len())
            .map(|n| {
                let (door, slice) = (Arc::clone(&self.doors[n]), Arc::clone(&self.slices[n]));
                thread::spawn(move || {
                    let mut stream = accept(&door, n);
                    let mut bytes = Vec::with_capacity(slice.len());
                    stream
                        .read_to_end(&mut bytes)
                        .unwrap_or_else(|error| panic!("connection {n}, from the guest: {error}"));
                    let first = bytes.iter().zip(slice.iter()).position(|(a, b)| a != b);
                    assert_eq!(first, None, "connection {n}: differs from this byte on");
                    assert_eq!(bytes.len(), slice.len(), "connection {n}: length");
                })
            })
            .collect();
        let begin = Instant::now();
        self.all_at_once(guest, |address, n| format!("cat /payload.{n} >{address}"));
        for receiver in receivers {
            receiver.join().expect("a receiver on the LAN");
        }
        begin.elapsed()
    }

    /// Runs one command for each connection side by side; all must succeed.
    fn all_at_once(&self, guest: &mut Guest, command: impl Fn(String, usize) -> String) {
        let mut script = String::new();
        for n in 0..self.doors.len() {
            let command = command(format!("/dev/tcp/{}/{}", World::LAN_V4, port(n)), n);
            script.push_str(&format!("bash -c '{command}' & all=\"$all $!\"; "));
        }
        script.push_str("for one in $all; do wait $one || exit 1; done");
        let output = guest.run_for(&script, PATIENCE);
        assert!(output.ok(), "{script}: status {}\n{}", output.status, output.text);
    }
}

/// One datagram of the greatest length each way. Neither fits into a frame: IP cuts it up on one
/// side and puts it together on the other.
pub fn longest_datagram_both_ways(lan: &Netns, guest: &mut Guest) {
    let (there, back) = (noise(LONGEST_DATAGRAM, 7), noise(LONGEST_DATAGRAM, 8));
    let (there_sum, back_sum) = (md5(&there), md5(&back));
    let socket = in_netns(lan, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)));
    let socket = socket.expect("a UDP socket on the LAN");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let answerer = thread::spawn(move || {
        let mut bytes = vec![0; 70_000];
        // The guest asks for the payload with a short datagram, and sends it back with a long one.
        let (_, guest) = socket.recv_from(&mut bytes).expect("the guest's request");
        socket.send_to(&there, guest).expect("the long datagram to the guest");
        let (len, guest) = socket.recv_from(&mut bytes).expect("the guest's long datagram");
        assert!(bytes[..len] == there, "{len} bytes came back, and not those that were sent");
        socket.send_to(&back, guest).expect("the answer");
    });
    // One read or write is one datagram. If one is lost, dd waits until the time is up.
    let script = format!(
        "bash -c 'exec 3<>/dev/udp/{}/{PORT} && echo please >&3 && \
         dd bs=65535 count=1 <&3 >/there && md5sum </there && \
         dd bs=65535 count=1 </there >&3 && dd bs=65535 count=1 <&3 | md5sum'",
        World::LAN_V4
    );
    let output = guest.run_for(&script, Duration::from_secs(20));
    let text = &output.text;
    assert!(text.contains(&there_sum), "to the guest, want {there_sum}: {text}");
    answerer.join().expect("the LAN's side of the datagrams");
    assert!(text.contains(&back_sum), "the answer, want {back_sum}: {text}");
}

fn port(n: usize) -> u16 {
    PORT + n as u16
}

/// The next connection, with time-outs; a guest that never connects ends the test.
pub fn accept(door: &TcpListener, n: usize) -> TcpStream {
    let end = Instant::now() + PATIENCE;
    loop {
        match door.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).expect("a connection that blocks");
                stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
                stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
                return stream;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                assert!(Instant::now() < end, "connection {n}: the guest does not connect");
                thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("connection {n}: {error}"),
        }
    }
}
