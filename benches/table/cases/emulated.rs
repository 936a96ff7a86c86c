//! A real guest in QEMU with QEMU's own network devices, and with ours: bulk TCP to a machine on
//! the LAN.
//!
//! QEMU's `-netdev tap` moves frames in QEMU's own thread, with a system call for each, on a tap of
//! a Linux bridge or on a macvtap. With `-netdev vhost-user` QEMU hands over the rings, and this
//! program does the same work. Guest, kernel, virtio-net device and offloads are the same.
//!
//! What can go wrong: without KVM (`VUM_ACCEL=kvm` uses it) QEMU emulates the guest's processor,
//! which limits all contenders. Then this row only shows that the way out of QEMU's process loses
//! nothing; it cannot show the speed of that way. Booting takes seconds, so there are few rounds.

use std::fs::OpenOptions;
use std::io::Read;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::CaseTerms;
use super::guests::OURS;
use super::outward;
use crate::cable::{self, FAR, inside};
use crate::generator::frame::mac;
use crate::measure::{Better, Case, Contender, Goal, Role, Sample};
use crate::peers::Backend;
use crate::peers::ours::Wire;
use crate::spinning::anywhere;
use crate::{Result, host};
use testkit::frames::mac_text;
use testkit::guest::{Guest, GuestConfig, Nic};

/// The LAN machine, and the guest.
const LAN: &str = "198.18.7.100";
const GUEST: &str = "198.18.7.1/24";
/// Boots of each contender.
const ROUNDS: usize = 2;

/// The other end of QEMU's device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Via {
    Ours(&'static str),
    Macvtap,
    Bridge,
}

/// The cases of this file.
pub fn cases(terms: &CaseTerms) -> Vec<Case> {
    let time = terms.time;
    let list = [
        (OURS, Role::Ours, Via::Ours("macvlan")),
        ("this program, type=macvtap", Role::Ours, Via::Ours("macvtap")),
        ("QEMU's macvtap", Role::Peer, Via::Macvtap),
        ("QEMU's tap, Linux bridge", Role::Peer, Via::Bridge),
    ];
    let contender = |(name, role, via)| {
        let mut round = 0;
        Contender::new(name, role, move || {
            round += 1;
            if round > ROUNDS {
                return Err(format!("runs in the first {ROUNDS} rounds only").into());
            }
            measure(via, time)
        })
    };
    let kvm = std::env::var("VUM_ACCEL").is_ok_and(|accel| accel == "kvm");
    vec![Case {
        id: "QEMU",
        title: "a guest in QEMU to the LAN, TCP, one connection".to_owned(),
        unit: "Gbit/s",
        better: Better::Higher,
        goal: Goal::none(),
        contenders: list.into_iter().map(contender).collect(),
        conditions: format!(
            "Linux in QEMU, {}, one processor, TSO; QEMU and back-end run on all processors; bytes that the LAN \
             machine has read; {ROUNDS} rounds",
            if kvm { "with KVM" } else { "without KVM (TCG)" }
        ),
    }]
}

fn measure(via: Via, time: Duration) -> Result<Sample> {
    let wire = Wire::new(1500);
    wire.far.add_address(FAR, &format!("{LAN}/24"));
    let address = mac_text(mac(0));
    let mut config = GuestConfig { label: "bench".to_owned(), ..GuestConfig::default() };
    // These values live as long as the guest.
    let (mut ours, mut device): (_, Option<OwnedFd>) = (None, None);
    match via {
        Via::Ours(kind) => {
            let program = outward::start_anywhere(&wire, kind)?;
            config.nics = vec![Nic::vhost_user(&program.sockets()[0], &address)];
            ours = Some(program);
        }
        Via::Macvtap => {
            let path = cable::macvtap(&wire, "mv0", mac(0));
            let tap: OwnedFd = OpenOptions::new().read(true).write(true).open(path)?.into();
            // QEMU inherits it.
            fcntl(&tap, FcntlArg::F_SETFD(FdFlag::empty()))?;
            let net = format!("-netdev tap,id=net0,fd={}", tap.as_raw_fd());
            let nic =
                format!("-device virtio-net-pci,netdev=net0,mac={address},vectors=0,romfile=");
            config.extra = format!("{net} {nic}").split(' ').map(String::from).collect();
            device = Some(tap);
        }
        Via::Bridge => {
            cable::bridge(&wire);
            wire.host.ip("tuntap add t0 mode tap vnet_hdr");
            wire.host.ip("link set t0 master br0 up");
            config.nics = vec![Nic::tap("t0", &address)];
        }
    }
    anywhere()?;
    let mut guest = Guest::start_in(Some(&wire.host), &config);
    host::pin(host::GENERATOR)?;
    guest.wait_boot();
    guest.sh(&format!("ip link set eth0 up && ip addr add {GUEST} dev eth0"));
    if !guest.pings(LAN) {
        return Err("the guest does not reach the LAN".into());
    }
    let door = inside(&wire.far, || TcpListener::bind((LAN, 0)))??;
    let port = door.local_addr()?.port();
    let reader = thread::spawn(move || read(&door, time));
    let used = |pid: Option<u32>| pid.map(host::used);
    let pid = ours.as_ref().map(|ours: &crate::peers::ours::Ours| ours.pid());
    let (start, before, emulator) = (Instant::now(), used(pid), host::used(guest.pid()));
    // The command ends with an error when the reader closes the connection.
    guest.run_for(
        &format!("bash -c 'cat /dev/zero >/dev/tcp/{LAN}/{port}'"),
        time * 2 + Duration::from_secs(10),
    );
    let passed = start.elapsed().as_secs_f64();
    let rate = reader.join().map_err(|_| "the LAN machine's thread has died")??;
    let share = |after: u64, before: u64| (after - before) as f64 / 1e9 / passed;
    let sample = Sample {
        value: rate * 8e-9,
        cpu_share: used(pid).zip(before).map(|(after, before)| share(after, before)),
        extras: vec![("QEMU's % of a processor", share(host::used(guest.pid()), emulator) * 100.0)],
        ..Sample::default()
    };
    drop(guest);
    drop(device);
    Ok(sample)
}

/// Bytes per second of one connection, a fifth of the time left out; then it is closed.
fn read(door: &TcpListener, time: Duration) -> std::io::Result<f64> {
    anywhere()?;
    let (mut stream, _) = door.accept()?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut block = vec![0; 128 << 10];
    let start = Instant::now();
    while start.elapsed() < time / 5 {
        let _ = stream.read(&mut block)?;
    }
    let (start, mut sum) = (Instant::now(), 0);
    while start.elapsed() < time * 4 / 5 {
        sum += stream.read(&mut block)?;
    }
    Ok(sum as f64 / start.elapsed().as_secs_f64())
}
