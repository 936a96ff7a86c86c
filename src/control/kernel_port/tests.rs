//! A kernel port on a host that records its verbs.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use nix::sys::eventfd::EventFd;

use super::*;
use crate::config::MacChoice;
use crate::datapath::port::PortData;
use crate::datapath::port::mac_policy::MacPolicy;
use crate::host::address::HostAddress;
use crate::host::fake::FakeHost;
use crate::worker::pool::Pool;

const MAC: Mac = Mac([2, 0, 0, 0, 0, 5]);

fn host() -> FakeHost {
    let link = LinkInfo {
        index: 7,
        name: "eth0".into(),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        up: true,
        running: true,
        ..LinkInfo::default()
    };
    FakeHost { links: vec![link], ..FakeHost::default() }
}

fn port(host: &mut FakeHost) -> (PortCore, KernelPort) {
    let config = PortConfig { mac: MacChoice::Given(MAC), ..PortConfig::sample() };
    let mut pool = Pool::start(1, Duration::ZERO).unwrap();
    let notifier = Arc::new(EventFd::new().unwrap());
    let data = PortData::new(&config.name, MacPolicy::Deny, notifier);
    let slots = (0..config.queue_pairs).map(|_| pool.slot()).collect();
    let core = PortCore::new(&config, data, slots);
    let device = open(&config, host).unwrap();
    let port = KernelPort::start(&core, device);
    (core, port)
}

#[test]
fn a_lost_device_is_made_again_on_the_parent_under_its_present_name() {
    let mut host = host();
    let (core, mut port) = port(&mut host);
    let index = host.links[1].index;
    host.links[0].name = "lan0".into();
    port.note(&core, &LinkEvent::Gone { index, name: "vm1".into() }, &mut host);
    assert_eq!(port.parent(), None);
    port.restore(&core, &mut host, Instant::now());
    assert_eq!(port.parent().unwrap().name, "lan0");
    let expected = ["open port vm1 on eth0", "close port vm1", "open port vm1 on lan0"];
    assert_eq!(host.asked, expected);
    give_back(port.end(&core), &mut host);
    assert_eq!(host.asked.last().unwrap(), "close port vm1");
}

#[test]
fn what_another_program_has_changed_is_put_right_once_it_is_seen() {
    let mut host = host();
    let (core, mut port) = port(&mut host);
    host.links[1].up = false;
    let news = host.links[1].clone();
    port.note(&core, &LinkEvent::Changed(news), &mut host);
    assert_eq!(host.asked[1..], ["repair port vm1 (set down)"]);
    assert!(host.links[1].up);
    give_back(port.end(&core), &mut host);
}

#[test]
fn an_address_of_the_hosts_is_taken_away() {
    let mut host = host();
    let (core, mut port) = port(&mut host);
    let index = host.links[1].index;
    for ip in ["192.0.2.7", "2001:db8::7"] {
        let address = HostAddress { index, ip: ip.parse().unwrap(), prefix: 24 };
        port.note(&core, &LinkEvent::Addressed(address), &mut host);
    }
    let deleted = format!("delete address 192.0.2.7 of {index}");
    assert_eq!(host.asked[1..], [deleted.as_str(), "forbid IPv6 on port vm1"]);
    give_back(port.end(&core), &mut host);
}
