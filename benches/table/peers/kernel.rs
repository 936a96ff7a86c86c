//! The kernel alone: a loop writes frames to one device and reads them from another.
//!
//! The devices are two macvtaps in bridge mode on one parent, or two taps on a Linux bridge. The
//! figures do not contain the cost of a guest's rings. They show the least that two guests on such
//! devices cost the kernel, with one thread for both ways.
//!
//! | device | how |
//! | --- | --- |
//! | macvtap | `/dev/tapN` of a device with an index of its own: /dev does not know namespaces |
//! | tap | `/dev/net/tun`, opened inside the namespace; the bridge has no spanning tree and no snooping |
//!
//! What can go wrong: a queue of a device holds a few hundred frames, so the loop writes fewer
//! before it reads.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::ours::Wire;
use crate::generator::Frame;
use crate::generator::frame::{LARGEST_WHOLE, mac};
use crate::limits::tap;
use crate::measure::Sample;
use crate::{Result, host};
use testkit::frames::mac_text;

nix::ioctl_write_ptr_bad!(set_interface, nix::request_code_write!(b'T', 202, 4), libc::ifreq);

/// Frames written before the loop reads.
const BATCH: usize = 64;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Two devices between which the kernel forwards, with the addresses `frame::mac(0)` and `mac(1)`.
pub struct Pair {
    /// Both ends, not blocking.
    pub ends: [File; 2],
    /// Removed at the drop: a namespace and links.
    links: Vec<(String, String)>,
}

impl Pair {
    /// Two macvtap devices on the wire's parent.
    ///
    /// # Errors
    /// The kernel has no macvtap, or its nodes cannot be opened.
    pub fn macvtap(wire: &Wire) -> Result<Pair> {
        let mut links = Vec::new();
        let mut end = |number: usize| -> Result<File> {
            let own = COUNT.fetch_add(1, Ordering::Relaxed) % 16;
            let index = 1_000_000 + std::process::id() * 16 + own;
            let (name, mac) = (format!("mvt{number}"), mac_text(mac(number)));
            wire.host.ip(&format!(
                "link add link eth0 name {name} index {index} address {mac} type macvtap mode bridge"
            ));
            links.push((wire.host.name().to_owned(), name.clone()));
            wire.host.ip(&format!("link set {name} arp off up"));
            let path = format!("/dev/tap{index}");
            Ok(tap::open(&path).map_err(|error| format!("{path}: {error}"))?)
        };
        let ends = [end(0)?, end(1)?];
        Ok(Pair { ends, links })
    }

    /// Two tap devices on a Linux bridge.
    ///
    /// # Errors
    /// The kernel has no tap or no bridge.
    pub fn bridged(wire: &Wire, mtu: u32) -> Result<Pair> {
        let (netns, name) = (&wire.host, wire.host.name().to_owned());
        netns.ip(&format!(
            "link add lan mtu {mtu} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
        ));
        netns.ip("link set lan up");
        let mut links = vec![(name.clone(), "lan".to_owned())];
        let mut end = |number: usize| -> Result<File> {
            let device = format!("tap{number}");
            let file = open_tap(&name, &device)?;
            tap::prepare(&file)?;
            links.push((name.clone(), device.clone()));
            netns.ip(&format!("link set {device} mtu {mtu} master lan up"));
            // The address of the guest behind it: the bridge need not flood.
            let mac = mac_text(mac(number));
            netns.sh(&format!("bridge fdb replace {mac} dev {device} master static"));
            Ok(file)
        };
        let ends = [end(0)?, end(1)?];
        Ok(Pair { ends, links })
    }

    /// Frames of this size, one way and then the other, on the back-end's processor.
    ///
    /// # Errors
    /// Nothing arrived.
    pub fn exchange(&self, size: usize, time: Duration) -> Result<Count> {
        std::thread::scope(|scope| {
            let work = scope.spawn(|| {
                host::pin(host::BACKEND)?;
                self.exchange_here(size, time)
            });
            work.join().unwrap_or_else(|_| Err("the loop panicked".into()))
        })
    }

    /// Round trips in nanoseconds: a thread on each processor, which sleeps until its device can be
    /// read.
    ///
    /// # Errors
    /// A frame did not arrive within a second.
    pub fn trips(&self, time: Duration) -> Result<Vec<u32>> {
        let stop = AtomicBool::new(false);
        let message = |from: usize| {
            let frame = Frame::sized(mac(from), mac(1 - from), 64);
            [&frame.header.bytes()[..], &frame.bytes].concat()
        };
        std::thread::scope(|scope| {
            let echo = scope.spawn(|| -> Result<()> {
                host::pin(host::BACKEND)?;
                let (mut buffer, answer) = ([0; 2048], message(1));
                while !stop.load(Ordering::Relaxed) {
                    if wait(&self.ends[1], 100)
                        && nix::unistd::read(&self.ends[1], &mut buffer).is_ok()
                    {
                        nix::unistd::write(&self.ends[1], &answer)?;
                    }
                }
                Ok(())
            });
            let (mut buffer, question) = ([0; 2048], message(0));
            let mut times = Vec::with_capacity(1 << 20);
            let start = Instant::now();
            let mut lost = false;
            while !lost && start.elapsed() < time {
                let sent = Instant::now();
                nix::unistd::write(&self.ends[0], &question)?;
                lost = !wait(&self.ends[0], 1000);
                nix::unistd::read(&self.ends[0], &mut buffer).ok();
                times.push(sent.elapsed().as_nanos().min(u128::from(u32::MAX)) as u32);
            }
            stop.store(true, Ordering::Relaxed);
            echo.join().map_err(|_| "the other thread panicked")??;
            if lost { Err("a frame did not arrive within a second".into()) } else { Ok(times) }
        })
    }

    fn exchange_here(&self, size: usize, time: Duration) -> Result<Count> {
        let message = |from: usize| {
            let frame = Frame::sized(mac(from), mac(1 - from), size);
            [&frame.header.bytes()[..], &frame.bytes].concat()
        };
        let messages = [message(0), message(1)];
        let batch = if size > LARGEST_WHOLE { 8 } else { BATCH };
        let mut buffer = vec![0; 1 << 17];
        let mut count = Count::default();
        let (mut start, mut cpu, mut warm) = (Instant::now(), host::used_here(), false);
        loop {
            for (from, message) in messages.iter().enumerate() {
                for _ in 0..batch {
                    if nix::unistd::write(&self.ends[from], message).is_ok() {
                        count.sent += 1;
                    }
                }
                while nix::unistd::read(&self.ends[1 - from], &mut buffer)
                    .is_ok_and(|len| len == message.len())
                {
                    count.received += 1;
                }
            }
            let passed = start.elapsed();
            if !warm && passed >= time / 10 {
                (start, cpu, warm) = (Instant::now(), host::used_here(), true);
                count = Count::default();
            } else if warm && passed >= time * 9 / 10 {
                count.seconds = passed.as_secs_f64();
                count.cpu = host::used_here().saturating_sub(cpu);
                return if count.received == 0 {
                    Err("no frame has arrived".into())
                } else {
                    Ok(count)
                };
            }
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for (netns, link) in self.links.iter().rev() {
            testkit::netns::run("ip", &["-n", netns, "link", "del", link]);
        }
    }
}

/// The counts of the loop.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    /// Frames read.
    pub received: u64,
    /// Frames written.
    pub sent: u64,
    /// Seconds.
    pub seconds: f64,
    /// Nanoseconds of the loop's processor time, including system calls.
    pub cpu: u64,
}

impl Count {
    /// With this value: a rate in any unit.
    pub fn sample(&self, value: f64) -> Sample {
        Sample {
            value,
            cpu_each: Some(self.cpu as f64 / self.received as f64),
            cpu_share: Some(self.cpu as f64 / 1e9 / self.seconds),
            lost: Some(1.0 - self.received as f64 / self.sent as f64),
            extras: Vec::new(),
        }
    }
}

/// Whether the device becomes readable within so many milliseconds.
fn wait(end: &File, milliseconds: i32) -> bool {
    let mut fd = libc::pollfd { fd: end.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one live pollfd.
    unsafe { libc::poll(&mut fd, 1, milliseconds) == 1 }
}

fn open_tap(netns: &str, name: &str) -> Result<File> {
    let (path, name) = (format!("/run/netns/{netns}"), name.to_owned());
    let open = move || -> std::result::Result<File, String> {
        let inside = File::open(&path).map_err(|error| format!("{path}: {error}"))?;
        nix::sched::setns(&inside, nix::sched::CloneFlags::CLONE_NEWNET)
            .map_err(|error| format!("{path}: {error}"))?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
        let tap = options.open("/dev/net/tun").map_err(|e| format!("/dev/net/tun: {e}"))?;
        // SAFETY: plain bytes; zero is a valid value of each field.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as i16;
        // SAFETY: TUNSETIFF reads (and writes the name of) the request, which outlives the call.
        unsafe { set_interface(tap.as_raw_fd(), &request) }
            .map_err(|e| format!("TUNSETIFF: {e}"))?;
        Ok(tap)
    };
    // A thread of its own: the namespace is the thread's.
    let opened =
        std::thread::spawn(open).join().map_err(|_| "the thread in the namespace panicked")?;
    Ok(opened?)
}
