//! `Parent::check` over made-up parents: every refusal names its reason and the obstacle.

#![allow(clippy::unwrap_used)]

use super::*;

fn device(name: &str, index: u32) -> LinkInfo {
    let mac = Mac([2, 0, 0, 0, 0, index as u8]);
    LinkInfo { index, name: name.into(), mac, mtu: 1500, hardware: ETHERNET, ..LinkInfo::default() }
}

fn port(name: &str, index: u32, mode: Mode) -> LinkInfo {
    let kind = Some("macvtap".to_string());
    LinkInfo { kind, mode: Some(mode), parent: Some(1), ..device(name, index) }
}

fn parent(siblings: Vec<LinkInfo>) -> Parent {
    Parent { link: device("eth9", 1), master: None, siblings }
}

fn wanted(mode: Mode) -> Wanted<'static> {
    Wanted { object: "macvtap vm0", mode, mac: None, mtu: None }
}

fn refusal(parent: &Parent, wanted: Wanted<'_>) -> String {
    parent.check(&wanted).unwrap_err().to_string()
}

#[test]
fn an_ordinary_parent_takes_every_mode() {
    for mode in Mode::ALL {
        parent(vec![]).check(&wanted(mode)).unwrap();
    }
}

#[test]
fn only_ethernet_carries_ports() {
    let mut lo = parent(vec![]);
    lo.link.hardware = 772;
    assert!(refusal(&lo, wanted(Mode::Bridge)).contains("loopback"));
    lo.link.hardware = 0xfffe;
    assert!(refusal(&lo, wanted(Mode::Bridge)).contains("not an Ethernet device"));
}

#[test]
fn a_bridge_port_is_taken_but_a_vrf_port_is_not() {
    let mut taken = parent(vec![]);
    taken.master = Some(LinkInfo { kind: Some("bridge".into()), ..device("br0", 9) });
    assert!(refusal(&taken, wanted(Mode::Vepa)).contains("the bridge br0"));
    taken.master = Some(LinkInfo { kind: Some("bond".into()), ..device("bond0", 9) });
    assert!(refusal(&taken, wanted(Mode::Vepa)).contains("the bond bond0"));
    taken.master = Some(LinkInfo { kind: Some("vrf".into()), ..device("red", 9) });
    taken.check(&wanted(Mode::Vepa)).unwrap();
}

#[test]
fn passthru_is_alone_in_both_directions() {
    let crowded = parent(vec![port("vm1", 2, Mode::Private)]);
    let message = refusal(&crowded, wanted(Mode::Passthru));
    assert!(message.contains("vm1 (a macvtap in private mode)"), "{message}");
    let owned = parent(vec![port("vm1", 2, Mode::Passthru)]);
    assert!(refusal(&owned, wanted(Mode::Bridge)).contains("vm1 uses it alone"));
}

#[test]
fn an_address_has_one_owner() {
    let beside = parent(vec![port("vm1", 2, Mode::Bridge)]);
    let asks = |last| Wanted { mac: Some(Mac([2, 0, 0, 0, 0, last])), ..wanted(Mode::Bridge) };
    assert!(refusal(&beside, asks(1)).contains("its parent eth9"));
    assert!(refusal(&beside, asks(2)).contains("belongs to vm1"));
    beside.check(&asks(3)).unwrap();
    let group = Wanted { mac: Some(Mac::BROADCAST), ..wanted(Mode::Bridge) };
    assert!(refusal(&beside, group).contains("group address"));
    // A passthru port has the parent's own address.
    parent(vec![]).check(&Wanted { mode: Mode::Passthru, ..asks(1) }).unwrap();
}

#[test]
fn the_mtu_message_has_both_figures() {
    let large = Wanted { mtu: Some(9000), ..wanted(Mode::Bridge) };
    let message = refusal(&parent(vec![]), large);
    assert!(message.contains("9000") && message.contains("1500"), "{message}");
}

#[test]
fn ports_of_a_foreign_parent_are_recognised_by_its_index_and_namespace() {
    let inner =
        LinkInfo { parent: Some(7), parent_netns: Some(0), ..port("eth0", 3, Mode::Bridge) };
    let sibling = LinkInfo { name: "vm1".into(), index: 4, ..inner.clone() };
    let nested = Parent { link: inner, master: None, siblings: vec![] };
    assert!(nested.carries(&sibling));
    assert!(!nested.carries(&LinkInfo { parent_netns: None, ..sibling }));
}

#[test]
fn the_message_names_the_port_as_its_owner_does() {
    let beside = parent(vec![port("mv0", 2, Mode::Bridge)]);
    let clash =
        Wanted { object: "port vm7", mac: Some(Mac([2, 0, 0, 0, 0, 2])), ..wanted(Mode::Vepa) };
    assert!(refusal(&beside, clash).starts_with("port vm7: MAC address 02:00:00:00:00:02"));
    let large = Wanted { object: "port vm7", mtu: Some(9000), ..wanted(Mode::Vepa) };
    assert!(refusal(&beside, large).starts_with("port vm7: MTU 9000"));
}
