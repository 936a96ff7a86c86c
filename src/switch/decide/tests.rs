//! The truth tables of the module's text, row by row, against the switch and against its model.
//!
//! The rows for compat ports are those that were measured on a kernel. An answer is a string: `a`,
//! `b`, `c` are ports, `w` is the wire, `H` the host's own stack (of which only the model speaks).

use std::sync::Arc;

use proptest::prelude::*;
use testkit::switch_model as model;

use super::*;
use crate::net::mac::Mac;
use crate::switch::{Groups, ParentFacts};

const A: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
const B: Mac = Mac([2, 0, 0, 0, 0, 0xb]);
const C: Mac = Mac([2, 0, 0, 0, 0, 0xc]);
const PARENT: Mac = Mac([2, 0, 0, 0, 0, 0xf0]);
const EXT: Mac = Mac([2, 0, 0, 0, 0, 0xee]);
const UNKNOWN: Mac = Mac([2, 0, 0, 0, 0, 0xdd]);
/// Joined by every port of the tables that can.
const JOINED: Mac = Mac([1, 0, 0x5e, 1, 1, 1]);
const UNJOINED: Mac = Mac([1, 0, 0x5e, 2, 2, 2]);
const PAUSE: Mac = Mac([1, 0x80, 0xc2, 0, 0, 1]);
const STP: Mac = Mac([1, 0x80, 0xc2, 0, 0, 0]);

fn mac(name: &str) -> Mac {
    match name {
        "a" => A,
        "b" => B,
        "c" => C,
        "parent" => PARENT,
        "ext" => EXT,
        "unknown" => UNKNOWN,
        "bc" => Mac::BROADCAST,
        "joined" => JOINED,
        "unjoined" => UNJOINED,
        "pause" => PAUSE,
        "stp" => STP,
        _ => panic!("no address {name}"),
    }
}

/// Ports as words: `bridge`, `-bridge` (down), `+bridge` (not compat), `~bridge` (refuses reserved
/// groups), `source:ext`, `source:ext!` (nodst).
fn world(ports: &str) -> Vec<Rules> {
    let port = |(word, own): (&str, Mac)| {
        let down = word.starts_with('-');
        let improved = word.contains('+');
        let (flags, word) = word.split_at(word.find(|c: char| c.is_alphabetic()).unwrap());
        let (mode, sources) = word.split_once(':').unwrap_or((word, ""));
        let mode: Mode = mode.parse().unwrap();
        let nodst = sources.ends_with('!');
        let names = sources.trim_end_matches('!').split(',').filter(|name| !name.is_empty());
        let groups = Groups::only();
        groups.join(JOINED);
        Rules {
            mode,
            mac: if mode == Mode::Passthru { PARENT } else { own },
            up: !down,
            compat: !improved,
            sources: names.map(mac).collect(),
            nodst,
            reserved: !flags.contains('~'),
            mtu: 1500,
            groups: Arc::new(groups),
        }
    };
    ports.split_whitespace().zip([A, B, C]).map(port).collect()
}

fn model_of(rules: &Rules, joined: &[Mac]) -> model::Port {
    model::Port {
        mode: rules.mode.name(),
        mac: rules.mac.0,
        up: rules.up,
        compat: rules.compat,
        sources: rules.sources.iter().map(|mac| mac.0).collect(),
        nodst: rules.nodst,
        reserved: rules.reserved,
        mtu: rules.mtu as usize,
        joined: joined.iter().filter(|&&g| rules.groups.wants(g)).map(|mac| mac.0).collect(),
    }
}

fn frame(head: &EthernetHeader, len: usize, gso: bool) -> model::Frame {
    model::Frame { dst: head.dst.0, src: head.src.0, ethertype: head.ethertype, len, gso }
}

fn head(dst: Mac, src: Mac) -> EthernetHeader {
    EthernetHeader { dst, src, ethertype: if dst == PAUSE { 0x8808 } else { 0x88b5 } }
}

/// All receivers, sorted, each of them once.
fn receivers(table: &Table, verdict: Verdict, head: &EthernetHeader) -> Vec<usize> {
    let mut ids: Vec<usize> = match verdict.to {
        Receivers::None => vec![],
        Receivers::One(id) => vec![usize::from(id)],
        Receivers::Many(selection) => selection.receivers(table, head).map(usize::from).collect(),
    };
    ids.sort_unstable();
    assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "twice to one port: {ids:?}");
    assert!(verdict.why.is_none() || (ids.is_empty() && !verdict.wire));
    ids
}

fn word(ports: &[usize], wire: bool, host: bool) -> String {
    let mut word: String = ports.iter().map(|&id| char::from(b'a' + id as u8)).collect();
    word.extend(wire.then_some('w'));
    word.extend(host.then_some('H'));
    word
}

/// One frame in one world. `from` is a port's number, or none for the wire.
#[track_caller]
fn check(
    ports: &str,
    parent_up: bool,
    from: Option<PortId>,
    head: &EthernetHeader,
    len: usize,
    want: &str,
) {
    let rules = world(ports);
    let models: Vec<_> = rules.iter().map(|rules| model_of(rules, &[JOINED])).collect();
    let table = Table::new(rules, ParentFacts { mac: PARENT, up: parent_up, mtu: 1500 });
    let verdict = match from {
        Some(port) => from_guest(&table, port, head, len, false),
        None => from_wire(&table, head),
    };
    let modelled = match from {
        Some(port) => {
            let port = usize::from(port);
            model::from_guest(&models, (parent_up, 1500), port, &frame(head, len, false))
        }
        None => model::from_wire(&models, &frame(head, len, false)),
    };
    let got = word(&receivers(&table, verdict, head), verdict.wire, false);
    let host = modelled.host && want.contains('H');
    let modelled = word(&modelled.ports, modelled.wire, host);
    assert_eq!(modelled, want, "the model: {ports}, from {from:?}, {head:?}");
    assert_eq!(got, want.replace('H', ""), "the switch: {ports}, from {from:?}, {head:?}");
}

#[track_caller]
fn wire(ports: &str, src: &str, dst: &str, want: &str) {
    check(ports, true, None, &head(mac(dst), mac(src)), 60, want);
}

#[track_caller]
fn guest(ports: &str, dst: &str, want: &str) {
    check(ports, true, Some(0), &head(mac(dst), A), 60, want);
}

/// Columns: private, vepa, bridge, passthru, source (a lists ext), source (a has nodst) and bridge.
const WORLDS: [&str; 6] = [
    "private private",
    "vepa vepa",
    "bridge bridge",
    "passthru",
    "source:ext source",
    "source:ext! bridge",
];

#[test]
fn from_the_wire_as_the_kernel_does() {
    #[rustfmt::skip]
    let rows: &[(&str, &str, [&str; 6])] = &[
        ("ext", "a",           ["a",   "a",   "a",   "a",  "aH", "a"]),
        ("ext", "parent",      ["H",   "H",   "H",   "a",  "aH", "a"]),
        ("ext", "unknown",     ["H",   "H",   "H",   "a",  "aH", "a"]),
        ("ext", "bc",          ["abH", "abH", "abH", "aH", "aH", "a"]),
        ("ext", "joined",      ["abH", "abH", "abH", "aH", "aH", "a"]),
        ("ext", "unjoined",    ["H",   "H",   "H",   "H",  "aH", "a"]),
        ("a", "bc",            ["a",   "bH",  "H",   "aH", "a",  "a"]),
        ("a", "joined",        ["a",   "bH",  "H",   "aH", "a",  "a"]),
        ("a", "unjoined",      ["a",   "H",   "H",   "H",  "a",  "a"]),
        ("a", "b",             ["b",   "b",   "b",   "a",  "H",  "b"]),
        ("a", "parent",        ["H",   "H",   "H",   "a",  "H",  "H"]),
        ("a", "a",             ["a",   "a",   "a",   "a",  "H",  "H"]),
        ("parent", "bc",       ["abH", "abH", "abH", "a",  "H",  "bH"]),
        ("parent", "a",        ["a",   "a",   "a",   "a",  "H",  "H"]),
        ("ext", "pause",       ["H",   "H",   "H",   "H",  "aH", "a"]),
        ("ext", "stp",         ["H",   "H",   "H",   "H",  "aH", "a"]),
    ];
    for (src, dst, wants) in rows {
        for (world, want) in WORLDS.iter().zip(wants) {
            wire(world, src, dst, want);
        }
    }
}

#[test]
fn mixed_modes_as_the_kernel_does() {
    wire("vepa bridge private", "a", "bc", "bH");
    wire("bridge vepa private", "a", "bc", "bH");
    wire("private bridge vepa", "a", "bc", "a");
    wire("private bridge vepa", "ext", "bc", "abcH");
    // By destination the receiver's mode does not matter, even here.
    wire("private bridge vepa", "b", "a", "a");
    // A port that lists a sender receives everything from it, beside the port that a frame is for.
    wire("bridge source:ext bridge", "ext", "a", "abH".trim_end_matches('H'));
    wire("bridge source:ext bridge", "ext", "bc", "abcH");
    wire("bridge source:ext! bridge", "ext", "bc", "b");
    // Lists its own address.
    wire("source:a bridge", "a", "bc", "a");
}

#[test]
fn down_ports_as_the_kernel_does() {
    wire("-bridge bridge", "ext", "a", "H");
    wire("-bridge bridge", "ext", "bc", "bH");
    wire("-bridge bridge", "a", "bc", "bH");
    wire("-passthru", "ext", "a", "");
    wire("-passthru", "ext", "bc", "H");
    wire("-source:ext bridge", "ext", "b", "b");
    wire("-source:ext! bridge", "ext", "b", "");
    guest("bridge -bridge", "b", "w");
    guest("bridge -bridge", "bc", "w");
}

/// A frame that a guest sent as soon as its rings ran used to be dropped: the table did not know
/// yet that the port was up.
#[test]
fn a_sender_need_not_be_known_to_be_up() {
    guest("-bridge bridge", "b", "b");
    guest("-bridge bridge", "bc", "bw");
    guest("-bridge", "bc", "w");
    guest("-vepa", "ext", "w");
}

#[test]
fn from_a_guest_as_the_kernel_does() {
    let worlds = [
        "private private",
        "vepa vepa",
        "bridge bridge",
        "bridge vepa",
        "bridge private",
        "passthru",
        "source:ext source",
    ];
    #[rustfmt::skip]
    let rows: &[(&str, [&str; 7])] = &[
        ("b",        ["w", "w", "b",  "w", "w", "w", "w"]),
        ("parent",   ["w", "w", "w",  "w", "w", "w", "w"]),
        ("a",        ["w", "w", "a",  "a", "a", "w", "w"]),
        ("unknown",  ["w", "w", "w",  "w", "w", "w", "w"]),
        ("bc",       ["w", "w", "bw", "w", "w", "w", "w"]),
        ("joined",   ["w", "w", "bw", "w", "w", "w", "w"]),
        ("unjoined", ["w", "w", "w",  "w", "w", "w", "w"]),
        ("pause",    ["w", "w", "w",  "w", "w", "w", "w"]),
        ("stp",      ["w", "w", "w",  "w", "w", "w", "w"]),
    ];
    for (dst, wants) in rows {
        for (world, want) in worlds.iter().zip(wants) {
            guest(world, dst, want);
        }
    }
    // A spoofed source and a tag make no difference.
    for head in [head(B, EXT), EthernetHeader { ethertype: 0x8100, ..head(B, A) }] {
        check("bridge bridge", true, Some(0), &head, 60, "b");
        check("private private", true, Some(0), &head, 60, "w");
    }
    // A frame between siblings passes the parent's receive path, where source ports listen; a
    // broadcast does not.
    guest("bridge bridge source:a", "b", "bc");
    guest("bridge bridge source:a!", "b", "c");
    guest("bridge bridge source:a", "bc", "bw");
    guest("bridge bridge -source:a!", "b", "");
}

#[test]
fn a_long_broadcast_is_measured_between_compat_siblings_only() {
    let long = head(Mac::BROADCAST, A);
    for (ports, at_limit, beyond) in [
        ("bridge bridge", "bw", "w"),
        ("+bridge bridge", "bw", "bw"),
        ("bridge +bridge", "bw", "bw"),
    ] {
        check(ports, true, Some(0), &long, 1518, at_limit);
        check(ports, true, Some(0), &long, 1519, beyond);
    }
    let table =
        Table::new(world("bridge bridge"), ParentFacts { mac: PARENT, up: true, mtu: 1500 });
    let verdict = from_guest(&table, 0, &long, 64_000, true);
    assert_eq!(receivers(&table, verdict, &long), [1], "segmented later, so not measured");
}

#[test]
fn a_reflected_own_broadcast_is_not_given_back() {
    for (ports, compat) in
        [("private private", "a"), ("source:ext source", "a"), ("source:a source", "a")]
    {
        wire(ports, "a", "bc", compat);
        let improved = format!("+{}", ports);
        wire(&improved, "a", "bc", "");
        wire(&improved, "a", "joined", "");
    }
    wire("+passthru", "parent", "bc", "");
    // A frame to oneself is a different case.
    wire("+private private", "a", "a", "a");
    // The ports that list the sender receive it even so.
    wire("+source:ext source:a", "a", "bc", "b");
}

#[test]
fn private_is_private() {
    for (ports, want) in [
        ("private private", "b"),
        ("+private private", ""),
        ("private +private", ""),
        ("+private +bridge", ""),
        ("private bridge", "b"),
        ("+bridge private", ""),
        ("+bridge +vepa", "b"),
    ] {
        wire(ports, "a", "b", want);
    }
    wire("+private +private", "ext", "b", "b");
    wire("+private source:a", "a", "bc", "");
    wire("+private source:a", "a", "unknown", "");
    wire("private source:a", "a", "unknown", "bH");
}

#[test]
fn siblings_talk_without_a_carrier() {
    for (ports, dst, want) in [
        ("bridge bridge", B, ""),
        ("bridge +bridge", B, ""),
        ("+bridge bridge", B, "b"),
        ("+bridge +bridge", Mac::BROADCAST, "b"),
        ("+bridge +bridge", UNKNOWN, ""),
        ("+vepa +vepa", B, ""),
    ] {
        check(ports, false, Some(0), &head(dst, A), 60, want);
    }
    let table = Table::new(world("+vepa"), ParentFacts { mac: PARENT, up: false, mtu: 1500 });
    assert_eq!(from_guest(&table, 0, &head(B, A), 60, false).why, Some(Why::NoCarrier));
    assert_eq!(from_guest(&table, 1, &head(B, A), 60, false).why, Some(Why::NoPort));
}

/// LLDP, EAPOL and LACP from the wire used to reach passthru and source ports only.
#[test]
fn bug_b3_every_group_unless_reserved_ones_are_refused() {
    for (ports, dst, want) in [
        ("+bridge bridge", "unjoined", "aH"),
        ("+vepa +private", "unjoined", "abH"),
        ("+vepa +private", "stp", "abH"),
        ("+vepa +~private", "stp", "aH"),
        ("+~vepa +~private", "unjoined", "abH"),
        ("+bridge +~bridge", "stp", "aH"),
        ("+passthru", "unjoined", "aH"),
        ("+passthru", "stp", "aH"),
        ("+passthru", "pause", "H"),
        ("+~passthru", "stp", "H"),
        ("+~source:ext", "stp", "H"),
        ("+~source:ext", "unjoined", "aH"),
        ("~bridge", "stp", "H"),
        ("+source:ext", "stp", "aH"),
        ("+source:ext", "pause", "aH"),
    ] {
        wire(ports, "ext", dst, want);
    }
    guest("+bridge bridge +bridge", "unjoined", "cw");
    guest("+bridge +bridge", "stp", "w");
}

/// Reserved groups between siblings: a port that has joined one receives it from a compat port
/// only.
#[test]
fn a_reserved_group_that_was_joined() {
    let lldp = head(Mac([1, 0x80, 0xc2, 0, 0, 0xe]), A);
    for (sender_compat, want) in [(true, vec![1]), (false, vec![])] {
        let mut rules = world("bridge bridge");
        rules[1].groups.join(lldp.dst);
        rules[0].compat = sender_compat;
        let table = Table::new(rules, ParentFacts { mac: PARENT, up: true, mtu: 1500 });
        let verdict = from_guest(&table, 0, &lldp, 60, false);
        assert!(verdict.wire);
        assert_eq!(receivers(&table, verdict, &lldp), want);
    }
}

/// Few addresses, so that they meet.
fn any_mac() -> impl Strategy<Value = Mac> {
    prop_oneof![
        5 => (0u8..7).prop_map(|last| Mac([2, 0, 0, 0, 0, last])),
        1 => Just(Mac::BROADCAST),
        1 => Just(Mac([1, 0, 0x5e, 0, 0, 1])),
        2 => prop::sample::select(vec![JOINED, UNJOINED, PAUSE, STP]),
        1 => Just(Mac::default()),
    ]
}

/// A parent's ports: any number that share it, or one in mode passthru.
fn any_ports() -> impl Strategy<Value = Vec<Rules>> {
    let sharing = [Mode::Private, Mode::Vepa, Mode::Bridge, Mode::Source];
    prop_oneof![
        7 => prop::collection::vec(any_rules(&sharing), 1..7),
        1 => prop::collection::vec(any_rules(&[Mode::Passthru]), 1),
    ]
}

fn any_rules(modes: &[Mode]) -> impl Strategy<Value = Rules> + use<> {
    let mode = prop::sample::select(modes.to_vec());
    let station = (0u8..7).prop_map(|last| Mac([2, 0, 0, 0, 0, last]));
    let few = prop::collection::vec(any_mac(), 0..3);
    let joined = prop::collection::vec(prop::sample::select(vec![JOINED, UNJOINED, STP]), 0..3);
    let mtu = prop::sample::select(vec![68u32, 1500, u32::MAX]);
    let up = prop::bool::weighted(0.8);
    (mode, station, up, any::<[bool; 3]>(), few, mtu, joined).prop_map(
        |(mode, mac, up, [compat, nodst, reserved], sources, mtu, joined)| {
            let groups = Groups::only();
            joined.into_iter().for_each(|group| groups.join(group));
            let groups = Arc::new(groups);
            Rules { mode, mac, up, compat, sources, nodst, reserved, mtu, groups }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// Any ports, also with one address twice, and any frame, both ways.
    #[test]
    fn the_switch_is_its_model(
        rules in any_ports(),
        all_compat in any::<bool>(),
        parent_up in prop::bool::weighted(0.8),
        (dst, src) in (any_mac(), any_mac()),
        ethertype in prop::sample::select(vec![0x0800u16, 0x8100, 0x8808]),
        (len, gso) in (prop::sample::select(vec![60usize, 86, 87, 1518, 1519, 9000]), any::<bool>()),
    ) {
        let mut rules = rules;
        rules.iter_mut().for_each(|rules| rules.compat |= all_compat);
        let head = EthernetHeader { dst, src, ethertype };
        let groups = [JOINED, UNJOINED, STP];
        let models: Vec<_> = rules.iter().map(|rules| model_of(rules, &groups)).collect();
        let table = Table::new(rules, ParentFacts { mac: PARENT, up: parent_up, mtu: 1500 });
        let frame = frame(&head, len, gso);

        let verdict = from_wire(&table, &head);
        prop_assert!(!verdict.wire);
        prop_assert_eq!(receivers(&table, verdict, &head), model::from_wire(&models, &frame).ports);
        for from in 0..models.len() {
            let verdict = from_guest(&table, from as PortId, &head, len, gso);
            let want = model::from_guest(&models, (parent_up, 1500), from, &frame);
            prop_assert_eq!(verdict.wire, want.wire);
            prop_assert_eq!(receivers(&table, verdict, &head), want.ports);
        }
    }
}

/// Between compat ports; the kernel hands such a frame to the parent, which checks its length
/// (`dev_forward_skb`).
#[test]
fn a_unicast_longer_than_the_parents_mtu_allows() {
    for (ports, len, want) in [
        ("bridge bridge", 1518, "b"),
        ("bridge bridge", 1519, ""),
        ("+bridge bridge", 1522, "b"),
        ("bridge +bridge", 1522, "b"),
        ("bridge vepa", 1522, "w"),
    ] {
        check(ports, true, Some(0), &head(B, A), len, want);
    }
}
