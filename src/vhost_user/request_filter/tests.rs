//! The request filter, message by message, without a socket.

use super::negotiation::OURS;
use super::region::RegionRequest;
use super::*;
use std::os::fd::OwnedFd;

const OWN: Mac = Mac([0x52, 0x54, 0, 1, 2, 3]);

fn filter() -> RequestFilter {
    let (rings, features, mtu, memory) = (4, u64::MAX, 1500, 1 << 40);
    RequestFilter::new(Limits { rings, features, mtu, memory, mac: OWN, pid: 0 })
}

/// A filter after the handshake, with REPLY_ACK and memory slots.
fn open_filter() -> RequestFilter {
    let mut filter = filter();
    filter.request(Message::request(request::GET_FEATURES, &[]));
    let protocol = 1 << protocol::REPLY_ACK | 1 << protocol::CONFIGURE_MEM_SLOTS;
    filter.request(number(request::SET_PROTOCOL_FEATURES, protocol | OURS));
    filter
}

fn number(request: u32, value: u64) -> Message {
    Message::request(request, &value.to_ne_bytes())
}

fn state(request: u32, index: u32, value: u32) -> Message {
    Message::request(request, &[index.to_ne_bytes(), value.to_ne_bytes()].concat())
}

fn acked(mut message: Message) -> Message {
    message.flags |= 8;
    message
}

fn memfd(size: u64) -> OwnedFd {
    let file = tempfile::tempfile().unwrap();
    file.set_len(size).unwrap();
    file.into()
}

fn region(guest: u64, size: u64) -> Vec<u8> {
    [0, guest, size, 0x5000_0000 + guest, 0].iter().flat_map(|n| n.to_ne_bytes()).collect()
}

fn add(guest: u64, size: u64) -> Message {
    let mut message = acked(Message::request(request::ADD_MEM_REG, &region(guest, size)));
    message.fds.push(memfd(size).into());
    message
}

/// The actions in short: each with its receiver.
fn summary(actions: &[Action]) -> Vec<String> {
    actions
        .iter()
        .map(|action| match action {
            Action::ToBackend(message) => format!("> {} {:?}", message.name(), message.payload),
            Action::AwaitReply => "await".into(),
            Action::ToFrontEnd(message) => {
                format!("< {} {}", message.name(), message.number().unwrap_or(u64::MAX))
            }
            other => format!("{other:?}"),
        })
        .collect()
}

fn refusal(actions: &[Action]) -> String {
    match actions {
        [Action::Refused(reason), Action::ToFrontEnd(reply)] => {
            assert_eq!(reply.number(), Some(1));
            reason.clone()
        }
        [Action::End(reason)] => reason.clone(),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn qemu_enables_rings_before_it_acknowledges_features() {
    let mut filter = open_filter();
    for _ in 0..4 {
        assert!(filter.request(state(request::SET_VRING_ENABLE, 0, 1)).is_empty());
        assert!(filter.request(state(request::SET_VRING_ENABLE, 3, 0)).is_empty());
    }
    let actions = filter.request(acked(state(request::SET_VRING_ENABLE, 1, 1)));
    assert_eq!(summary(&actions), ["< SET_VRING_ENABLE 0"]);
    let actions = filter.request(number(request::SET_FEATURES, 1 << 30 | 1 << 32));
    assert_eq!(
        summary(&actions),
        [
            "> SET_FEATURES [0, 0, 0, 64, 1, 0, 0, 0]",
            "> SET_VRING_ENABLE [0, 0, 0, 0, 1, 0, 0, 0]",
            "> SET_VRING_ENABLE [3, 0, 0, 0, 0, 0, 0, 0]",
            "> SET_VRING_ENABLE [1, 0, 0, 0, 1, 0, 0, 0]",
        ]
    );
    // From now on they pass, and the second SET_FEATURES (one per queue pair) repeats nothing.
    let actions = filter.request(acked(state(request::SET_VRING_ENABLE, 2, 1)));
    assert_eq!(summary(&actions), ["> SET_VRING_ENABLE [2, 0, 0, 0, 1, 0, 0, 0]", "await"]);
    assert_eq!(filter.request(number(request::SET_FEATURES, 1 << 30)).len(), 1);
}

#[test]
fn qemu_7_2_adds_every_region_once_per_queue_pair() {
    let mut filter = open_filter();
    assert!(matches!(
        filter.request(add(0, 0x1000))[..],
        [Action::ToBackend(_), Action::AwaitReply]
    ));
    assert_eq!(summary(&filter.request(add(0, 0x1000))), ["< ADD_MEM_REG 0"]);
    assert!(refusal(&filter.request(add(0x800, 0x1000))).contains("overlaps"));
    let remove = acked(Message::request(request::REM_MEM_REG, &region(0, 0x1000)));
    assert!(matches!(filter.request(remove)[..], [Action::ToBackend(_), Action::AwaitReply]));
    assert!(matches!(
        filter.request(add(0, 0x1000))[..],
        [Action::ToBackend(_), Action::AwaitReply]
    ));
}

#[test]
fn our_protocol_features_are_added_and_kept_from_the_crate() {
    let mut filter = filter();
    let mut reply = Message::reply(request::GET_PROTOCOL_FEATURES, 1 | 1 << 3);
    reply = filter.reply(reply);
    assert_eq!(reply.number(), Some(1 | 1 << 3 | OURS));
    let actions = filter.request(number(request::SET_PROTOCOL_FEATURES, 1 | OURS));
    assert_eq!(summary(&actions), ["> SET_PROTOCOL_FEATURES [1, 0, 0, 0, 0, 0, 0, 0]"]);
}

#[test]
fn acknowledgements_need_the_feature() {
    let mut filter = filter();
    let actions = filter.request(acked(state(request::SET_VRING_NUM, 0, 256)));
    assert_eq!(actions.len(), 1, "nobody acknowledges before REPLY_ACK is negotiated");
    assert!(matches!(
        filter.request(acked(state(request::SET_VRING_NUM, 0, 3)))[..],
        [Action::End(_)]
    ));
}

#[test]
fn ring_sizes_and_numbers() {
    let mut filter = open_filter();
    for size in [0, 3, 1023, 2048, 65536, u32::MAX] {
        let reason = refusal(&filter.request(acked(state(request::SET_VRING_NUM, 0, size))));
        assert!(
            reason.contains(&format!("size {size} is not a power of two from 1 to 1024")),
            "{reason}"
        );
    }
    for size in [1, 2, 256, 1024] {
        assert_eq!(filter.request(acked(state(request::SET_VRING_NUM, 3, size))).len(), 2);
    }
    for request in [
        request::SET_VRING_NUM,
        request::SET_VRING_BASE,
        request::GET_VRING_BASE,
        request::SET_VRING_ENABLE,
    ] {
        for index in [4, 255, 0x1_0000, u32::MAX] {
            let reason = refusal(&filter.request(acked(state(request, index, 1))));
            assert!(reason.contains(&format!("there is no ring {index}")), "{reason}");
            assert!(reason.contains("2 queue pairs"), "{reason}");
        }
    }
}

#[test]
fn mtu_up_to_the_ports() {
    let mut filter = open_filter();
    for (mtu, fits) in [(67, false), (68, true), (1500, true), (1501, false), (u64::MAX, false)] {
        let actions = filter.request(acked(number(request::NET_SET_MTU, mtu)));
        assert_eq!(
            matches!(actions[..], [Action::ToFrontEnd(_), Action::GuestMtu(_)]),
            fits,
            "{mtu}"
        );
    }
    let reason = refusal(&filter.request(acked(number(request::NET_SET_MTU, 9000))));
    assert!(reason.contains("9000") && reason.contains("1500"), "{reason}");
}

#[test]
fn status_is_kept() {
    let mut filter = open_filter();
    assert_eq!(summary(&filter.request(acked(number(request::SET_STATUS, 7)))), ["< SET_STATUS 0"]);
    assert_eq!(
        summary(&filter.request(Message::request(request::GET_STATUS, &[]))),
        ["< GET_STATUS 7"]
    );
}

/// Any station's address was announced: 249,511 frames with a foreign source in 3 s.
#[test]
fn bug_s9_rarp_announced_any_address() {
    let mut filter = open_filter();
    let rarp = |mac: Mac| {
        let [a, b, c, d, e, f] = mac.0;
        number(request::SEND_RARP, u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]))
    };
    assert!(matches!(filter.request(rarp(OWN))[..], [Action::SendRarp(OWN)]));
    let other = Mac([0x52, 0x54, 0, 9, 9, 9]);
    for foreign in [other, Mac::BROADCAST, Mac::default()] {
        let reason = refusal(&filter.request(acked(rarp(foreign))));
        assert!(reason.contains(&foreign.to_string()) && reason.contains("mac=52:54:00:01:02:03"));
        // Without an acknowledgement the connection goes on.
        assert!(matches!(filter.request(rarp(foreign))[..], [Action::Refused(_)]));
    }
    filter.set_mac(other);
    assert!(matches!(filter.request(rarp(other))[..], [Action::SendRarp(_)]));
    assert!(matches!(filter.request(rarp(OWN))[..], [Action::Refused(_)]), "not any more");
}

/// They were served without regard to the negotiation.
#[test]
fn bug_f24_requests_without_their_protocol_feature_were_served() {
    let mac = u64::from_ne_bytes([0x52, 0x54, 0, 1, 2, 3, 0, 0]);
    for (feature, what) in [
        (protocol::RARP, number(request::SEND_RARP, mac)),
        (protocol::MTU, number(request::NET_SET_MTU, 1400)),
        (protocol::STATUS, number(request::SET_STATUS, 1)),
        (protocol::STATUS, Message::request(request::GET_STATUS, &[])),
        (protocol::CONFIG, Message::request(request::GET_CONFIG, &[0; 24])),
        (protocol::CONFIGURE_MEM_SLOTS, add(0, 4096)),
    ] {
        let mut filter = filter();
        filter.request(Message::request(request::GET_FEATURES, &[]));
        let all = OURS | 1 << protocol::CONFIG | 1 << protocol::CONFIGURE_MEM_SLOTS;
        filter.request(number(request::SET_PROTOCOL_FEATURES, all & !(1 << feature)));
        let actions = filter.request(what);
        assert!(matches!(actions[..], [Action::Refused(_) | Action::End(_)]), "{actions:?}");
    }
}

/// QEMU warned at every start that it has no use for CONFIG.
#[test]
fn bug_f24_config_was_offered_to_qemu() {
    let crates = || Message::reply(request::GET_PROTOCOL_FEATURES, 1 << protocol::CONFIG | 1);
    let ask = || Message::request(request::GET_PROTOCOL_FEATURES, &[]);
    let own = || Message::request(request::SET_OWNER, &[]);
    let mut qemu = filter();
    qemu.request(ask());
    assert_eq!(qemu.reply(crates()).number(), Some(1 | OURS));
    qemu.request(own());
    qemu.request(ask());
    assert_eq!(qemu.reply(crates()).number(), Some(1 | OURS), "nor for its second queue pair");
    let mut other = filter();
    other.request(own());
    other.request(ask());
    assert_eq!(other.reply(crates()).number(), Some(1 | OURS | 1 << protocol::CONFIG));
}

/// 107,000 connections in 54 s, and no line named the cause.
#[test]
fn bug_u2_a_front_end_that_wanted_more_queues_left_without_a_word() {
    let mut filter = open_filter();
    assert_eq!(filter.why_left(), None);
    filter.request(Message::request(request::GET_QUEUE_NUM, &[]));
    let reason = filter.why_left().unwrap();
    assert!(reason.contains("queue pairs, 2,") && reason.contains("queue-pairs=4"), "{reason}");
    filter.request(state(request::SET_VRING_ENABLE, 0, 1));
    assert_eq!(filter.why_left(), None, "a VMM that ends before its guest has started");
}

#[test]
fn unknown_requests_do_not_end_the_connection() {
    let mut filter = open_filter();
    for unknown in [0, 6, 7, 22, 23, 35, 45, 99, u32::MAX] {
        let actions = filter.request(acked(Message::request(unknown, &[1, 2, 3])));
        assert!(matches!(actions[..], [Action::Refused(_), Action::ToFrontEnd(_)]), "{actions:?}");
        let actions = filter.request(Message::request(unknown, &[]));
        assert!(matches!(actions[..], [Action::Refused(_)]), "{actions:?}");
    }
}

#[test]
fn memory_must_be_shared_whole_and_inside_its_file() {
    let mut filter = open_filter();
    let table = |sizes: &[u64]| {
        let mut payload = (sizes.len() as u64).to_ne_bytes().to_vec();
        for (number, &size) in sizes.iter().enumerate() {
            payload.extend_from_slice(&region(number as u64 * 0x10_0000, size)[8..]);
        }
        acked(Message::request(request::SET_MEM_TABLE, &payload))
    };
    for private in [table(&[0x1000]), table(&[])] {
        let reason = refusal(&filter.request(private));
        assert!(reason.contains("the guest's memory must be shared: QEMU: -object"), "{reason}");
    }
    let mut short = table(&[0x1000, 0x2000]);
    short.fds.extend([memfd(0x1000), memfd(0x1000)].map(Into::into));
    let reason = refusal(&filter.request(short));
    assert!(reason.contains("memory region 1") && reason.contains("truncated"), "{reason}");
    let mut good = table(&[0x1000, 0x2000]);
    good.fds.extend([memfd(0x1000), memfd(0x2000)].map(Into::into));
    assert!(matches!(filter.request(good)[..], [Action::ToBackend(_), Action::AwaitReply]));
}

#[test]
fn an_unsorted_memory_table_is_sorted_for_the_crate() {
    let mut filter = open_filter();
    let mut payload = 2u64.to_ne_bytes().to_vec();
    payload.extend_from_slice(&region(0x10_0000, 0x2000)[8..]);
    payload.extend_from_slice(&region(0, 0x1000)[8..]);
    let mut message = acked(Message::request(request::SET_MEM_TABLE, &payload));
    message.fds.extend([memfd(0x2000), memfd(0x1000)].map(Into::into));
    match &filter.request(message)[..] {
        [Action::ToBackend(message), Action::AwaitReply] => {
            let regions = RegionRequest::parse_table(&message.payload).unwrap();
            for (region, fd) in regions.iter().zip(&message.fds) {
                let stat = nix::sys::stat::fstat(fd).unwrap();
                assert_eq!(stat.st_size as u64, region.size, "each kept its descriptor");
            }
            assert_eq!(regions[0].guest, 0);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn ring_parts_must_be_in_memory_and_aligned() {
    let mut filter = open_filter();
    filter.request(add(0, 0x10000));
    let addr = |desc: u64, used: u64, avail: u64| {
        let words = [1, desc, used, avail, 0];
        let payload: Vec<u8> = words.iter().flat_map(|n| n.to_ne_bytes()).collect();
        acked(Message::request(request::SET_VRING_ADDR, &payload))
    };
    let base = 0x5000_0000;
    let reason = refusal(&open_filter().request(addr(base, base + 0x2000, base + 0x1000)));
    assert!(reason.contains("the guest's memory must be shared: QEMU: -object"), "{reason}");
    assert_eq!(filter.request(addr(base, base + 0x2000, base + 0x1000)).len(), 2);
    let reason = refusal(&filter.request(addr(base, 0x9999_0000, base)));
    assert!(reason.contains("used ring at 0x99990000 is in no memory region"), "{reason}");
    let reason = refusal(&filter.request(addr(base + 8, base, base)));
    assert!(reason.contains("descriptor table") && reason.contains("misaligned"), "{reason}");
}

#[test]
fn stray_descriptors_are_closed() {
    let mut filter = open_filter();
    let mut message = state(request::SET_VRING_NUM, 0, 256);
    message.fds.push(memfd(1).into());
    match &filter.request(message)[..] {
        [Action::ToBackend(message)] => assert!(message.fds.is_empty()),
        other => panic!("{other:?}"),
    }
}

mod any_messages {
    use super::*;
    use proptest::prelude::*;

    /// Mostly requests that exist, with payloads that are mostly of a plausible length.
    fn message() -> impl Strategy<Value = (u32, bool, Vec<u8>, usize)> {
        let payload = prop_oneof![
            Just(Vec::new()),
            proptest::collection::vec(0u8..4, 8),
            proptest::collection::vec(any::<u8>(), 8),
            proptest::collection::vec(0u8..2, 40),
            proptest::collection::vec(any::<u8>(), 0..100),
        ];
        (prop_oneof![0u32..46, any::<u32>()], any::<bool>(), payload, 0usize..3)
    }

    proptest! {
        /// A party that waits for an answer gets exactly one, or the connection ends; no other
        /// party gets one. A lost or doubled answer would leave both sides out of step permanently.
        #[test]
        fn every_question_has_one_answer(messages in proptest::collection::vec(message(), 1..40)) {
            let mut filter = open_filter();
            for (number, ack, payload, fds) in messages {
                if number == request::SET_PROTOCOL_FEATURES {
                    // Would change which party waits for which answer.
                    continue;
                }
                let mut message = Message::request(number, &payload);
                message.fds.extend((0..fds).map(|_| memfd(4096).into()));
                if ack {
                    message = acked(message);
                }
                let waits = ack || message.is_question();
                let actions = filter.request(message);
                let answers = actions.iter().filter(|action| {
                    matches!(action, Action::AwaitReply | Action::ToFrontEnd(_) | Action::End(_))
                });
                let ended = actions.iter().any(|action| matches!(action, Action::End(_)));
                let ignored = !waits && matches!(actions[..], [Action::Refused(_)]);
                let count = answers.count();
                prop_assert!(count == usize::from(waits || ended) || ignored, "{number}: {actions:?}");
                prop_assert!(!ended || actions.len() == 1, "{number}: {actions:?}");
            }
        }
    }
}
