//! A second process to be killed: this test program once more, which holds something and waits.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use testkit::backend::program;
use vhost_user_macvtap::host::host_filter::{HostFilter, HostFilterRule};
use vhost_user_macvtap::host::mac_guard::MacGuard;
use vhost_user_macvtap::host::netlink::Netlink;
use vhost_user_macvtap::net::mac::Mac;

use crate::packet::index;
use crate::world::{MAC, World};

const VARIABLE: &str = "VUM_TEST_HOLD";

/// Starts a process in the world that holds `what`, and waits until it does. To be killed.
pub fn hold(world: &World, what: &str) -> Child {
    let mut child = Command::new("ip")
        .args(["netns", "exec", &world.name])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "holders::holder", "--ignored", "--nocapture"])
        .env(VARIABLE, what)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("holding")), "it ended");
    child
}

/// `kill -9`, and the end of it.
pub fn kill(mut child: Child) {
    let pid = Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
    child.wait().unwrap();
}

#[test]
#[ignore = "the second process of other tests"]
fn holder() {
    let Ok(what) = std::env::var(VARIABLE) else { return };
    let p0 = index("p0");
    match what.as_str() {
        "unicast" => {
            let _filter = HostFilter::attach(p0, HostFilterRule::Unicast).unwrap();
            wait();
        }
        "address" => {
            let mut netlink = Netlink::open().unwrap();
            let before = netlink.link_by_index(p0).unwrap().unwrap().mac;
            let mut guard = MacGuard::start_as(&program(), p0, before).unwrap();
            for mac in [Mac([2, 9, 9, 9, 9, 9]), MAC] {
                guard.announce(mac).unwrap();
                netlink.set_mac(p0, mac).unwrap();
            }
            wait();
        }
        other => panic!("{other}"),
    }
}

fn wait() {
    println!("holding");
    // If the test has not killed this process by now, it has failed long ago.
    std::thread::sleep(Duration::from_secs(60));
}
