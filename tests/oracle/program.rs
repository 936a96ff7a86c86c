//! Our topology: the program with ports of type macvlan, each with a guest of the tests' own VMM.
//!
//! A port without a front-end is down. Groups are joined as a guest does it: by an IGMP and an MLD
//! report.

use std::time::Duration;

use tempfile::TempDir;
use vhost_user_macvtap::net::mode::Mode;

use crate::topology::{Origin, TestLan, To, Topology};
use crate::world::{Port, World};
use testkit::backend::Backend;
use testkit::driver::Driver;
use testkit::frames;
use testkit::rig::ARRIVAL;
use testkit::vmm::{self, QemuOptions, Vmm};

/// The longest rest between two tables, and room (`control/news.rs`).
const TABLES_REST: Duration = Duration::from_millis(500);

/// A connected guest.
struct Guest {
    driver: Driver,
    /// Its reports when it joins its groups.
    reports: Vec<Vec<u8>>,
    _vmm: Vmm,
}

pub struct Program {
    guests: Vec<Option<Guest>>,
    backend: Backend,
    _sockets: TempDir,
    lan: TestLan,
}

impl Program {
    pub fn new(world: &World) -> Program {
        let lan = TestLan::new();
        let sockets = TempDir::new().unwrap();
        let socket = |id: usize| sockets.path().join(format!("{id}.sock"));
        let ports = world.ports.iter().enumerate();
        let ports = ports
            .map(|(id, port)| format!("socket={},{}", socket(id).display(), keys(world, port)));
        let args: Vec<String> = ports.flat_map(|port| ["--port".to_owned(), port]).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let backend = Backend::start(&lan.netns, &args);
        let guest = |(id, port): (usize, &Port)| {
            let mut vmm = port.up.then(|| Vmm::connect(&socket(id)))?;
            // A busy machine may let the answers to many stimuli gather.
            let guest = vmm::Guest { rx_ring: 1024, ..vmm::Guest::default() };
            let options = QemuOptions { guest, ..QemuOptions::default() };
            let mut driver = vmm.start_like_qemu72(&options);
            driver.post_rx(0, 1000, 2048);
            let reports = if port.joined { reports(port).to_vec() } else { Vec::new() };
            Some(Guest { driver, reports, _vmm: vmm })
        };
        let guests = world.ports.iter().enumerate().map(guest).collect();
        Program { guests, backend, _sockets: sockets, lan }
    }
}

fn keys(world: &World, port: &Port) -> String {
    let mut keys = format!("parent=p0,type=macvlan,mode={}", port.mode);
    keys += &format!(",mtu={}", port.mtu);
    if world.compat {
        keys += ",compat=on";
    } else {
        keys += ",mac-changes=deny";
    }
    if port.mode != Mode::Passthru {
        keys += &format!(",mac={}", port.mac);
    }
    if !port.sources.is_empty() {
        let sources: Vec<String> = port.sources.iter().map(ToString::to_string).collect();
        keys += &format!(",source={}", sources.join("+"));
    }
    if port.nodst {
        keys += ",nodst=on";
    }
    keys
}

/// The reports by which a guest joins [`JOINED`](crate::world::JOINED).
fn reports(port: &Port) -> [Vec<u8>; 2] {
    let group = [239, 1, 2, 3];
    let igmp = [&[0x16, 0, 0xf9, 0xfa][..], &group].concat();
    let packet = frames::ipv4([192, 0, 2, 7], group, 2, &igmp);
    let to = [0x01, 0x00, 0x5e, 1, 2, 3];
    let v4 = frames::ethernet(to, port.mac.0, frames::ETH_IPV4, &packet);

    let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0x12, 0x34, 0x56];
    let report = [&[143, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0][..], &group].concat();
    let router_alert = [58, 0, 5, 2, 0, 0, 1, 0];
    let all_routers = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x16];
    let body = [&router_alert[..], &report].concat();
    let source = frames::link_local(port.mac.0);
    let packet = frames::ipv6(source, all_routers, 0, 1, &body);
    let to = [0x33, 0x33, 0, 0, 0, 0x16];
    [v4, frames::ethernet(to, port.mac.0, frames::ETH_IPV6, &packet)]
}

impl Topology for Program {
    fn send(&mut self, from: Origin, frame: &[u8]) {
        match from {
            Origin::Wire => self.lan.send(frame),
            Origin::Port(id) => {
                let guest = self.guests[id].as_mut().expect("a port that is up");
                guest.driver.send(0, &[frame]);
            }
        }
    }

    fn received(&mut self) -> Vec<(To, Vec<u8>)> {
        let mut all = self.lan.received();
        for (id, guest) in self.guests.iter_mut().enumerate() {
            let Some(guest) = guest else { continue };
            while let Some(frame) = guest.driver.recv(0, Duration::ZERO) {
                all.push((To::Port(id), frame.bytes));
            }
        }
        all
    }

    fn join(&mut self) {
        // A guest may send before the table has its port up, and before the host filters out its
        // echoes.
        self.backend.wait_caught_up();
        // Tables rest after they were made, longer where filters changed too: a guest may wait for
        // its place in one.
        std::thread::sleep(TABLES_REST);
        for guest in self.guests.iter_mut().flatten() {
            guest.driver.send(0, &guest.reports);
        }
        for guest in self.guests.iter_mut().flatten() {
            assert!(guest.driver.drain_tx(0, ARRIVAL), "the reports are taken");
        }
    }

    fn lan(&self) -> &TestLan {
        &self.lan
    }

    /// The program does not report it; the kernel's news is under way as soon as the state has
    /// changed.
    fn knows_the_cable(&self) -> bool {
        self.lan.netns.attribute("p0", "operstate") == "lowerlayerdown"
    }
}
