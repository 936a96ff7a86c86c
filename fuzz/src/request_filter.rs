//! Whole sequences of vhost-user messages, and the crate's answers between them.
//!
//! Input: one byte of limits, then messages: request, flags, number of descriptors and length of
//! the payload, one byte each, and the payload.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::LazyLock;

use nix::sys::memfd::{MFdFlags, memfd_create};
use vhost_user_macvtap::net::mac::Mac;
use vhost_user_macvtap::vhost_user::message::{MAX_FDS, Message, request};
use vhost_user_macvtap::vhost_user::request_filter::action::Action;
use vhost_user_macvtap::vhost_user::request_filter::{Limits, RequestFilter};

use crate::input::Input;

const RINGS: u32 = 4;
const MAC: Mac = Mac([0x52, 0x54, 0, 1, 2, 3]);
const ACK: u8 = 8;

/// What every descriptor is a copy of: 1 MiB of memory.
static MEMORY: LazyLock<Option<OwnedFd>> = LazyLock::new(|| {
    let memory = memfd_create(c"fuzz", MFdFlags::MFD_CLOEXEC).ok()?;
    File::from(memory.try_clone().ok()?).set_len(1 << 20).ok()?;
    Some(memory)
});

/// The filter ends a connection at most once, answers no request twice, and gives the crate only
/// what it would not choke on.
pub fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let memory = 1 << (input.u8() % 24);
    let mut filter = RequestFilter::new(Limits {
        rings: RINGS,
        features: u64::MAX,
        mtu: 1500,
        memory,
        mac: MAC,
        pid: 0,
    });
    while !input.is_empty() {
        let mut message = message(&mut input);
        let request = message.request;
        add_descriptors(&mut message, input.u8());
        let actions = filter.request(message);
        let answers =
            actions.iter().filter(|a| matches!(a, Action::ToFrontEnd(_) | Action::AwaitReply));
        assert!(answers.count() <= 1, "{request}: answered twice: {actions:?}");
        let forwarded = actions.iter().any(|action| matches!(action, Action::ToBackend(_)));
        for action in &actions {
            match action {
                Action::ToBackend(message) => well_formed(message),
                Action::AwaitReply => assert!(forwarded, "no one answers {request}"),
                Action::ToFrontEnd(reply) => {
                    assert!(reply.is_reply() && reply.request == request, "{request}: {reply:?}");
                }
                Action::GuestMtu(mtu) => assert!((68..=1500).contains(mtu)),
                Action::SendRarp(mac) => assert!(mac.is_station(), "{mac}"),
                Action::Refused(reason) => assert!(!reason.is_empty()),
                Action::End(reason) => {
                    assert!(!reason.is_empty() && !forwarded);
                    return;
                }
            }
        }
        if actions.iter().any(|action| matches!(action, Action::AwaitReply)) {
            let reply = filter.reply(Message::reply(request, input.u64()));
            assert!(reply.is_reply() && reply.request == request);
        }
        let _ = filter.why_left();
    }
}

fn message(input: &mut Input<'_>) -> Message {
    let (request, flags, length) = (input.u8(), input.u8(), input.u8());
    let payload = input.bytes(length.into());
    let mut message = Message::request(request.into(), payload);
    message.flags |= u32::from(flags & (ACK | 4));
    message
}

fn add_descriptors(message: &mut Message, count: u8) {
    for _ in 0..usize::from(count).min(MAX_FDS) {
        let copy = MEMORY.as_ref().and_then(|memory| memory.as_fd().try_clone_to_owned().ok());
        message.fds.extend(copy.map(Into::into));
    }
}

/// What the crate does not check by itself: ring numbers, and as many descriptors as regions.
fn well_formed(message: &Message) {
    let state = message.vring_state();
    match message.request {
        request::SET_VRING_NUM | request::SET_VRING_BASE | request::SET_VRING_ENABLE => {
            assert!(state.is_some_and(|(ring, _)| ring < RINGS), "{message:?}");
        }
        request::ADD_MEM_REG => assert_eq!(message.fds.len(), 1, "{message:?}"),
        request::SET_MEM_TABLE => {
            let regions = message.payload.first_chunk().map(|count| u32::from_ne_bytes(*count));
            assert_eq!(regions, Some(message.fds.len() as u32), "{message:?}");
        }
        _ => {}
    }
}

/// The handshakes of QEMU and cloud-hypervisor, as far as the filter is concerned.
pub fn seeds() -> Vec<Vec<u8>> {
    let one = |request: u32, flags: u8, fds: u8, payload: &[u8], reply: &[u8]| {
        let head = [request as u8, flags, payload.len() as u8];
        [&head[..], payload, &[fds], reply].concat()
    };
    let number = |value: u64| value.to_ne_bytes();
    let state = |ring: u32, value: u32| [ring.to_ne_bytes(), value.to_ne_bytes()].concat();
    let region = |guest: u64, size: u64| {
        [0, guest, size, 0x5000_0000 + guest, 0].iter().flat_map(|n| n.to_ne_bytes()).collect()
    };
    let add: Vec<u8> = region(0, 0x10_0000);
    let two: Vec<u8> = [
        &2u32.to_ne_bytes()[..],
        &[0; 4],
        &add[8..],
        &Vec::<u8>::from_iter(region(0x20_0000, 0x8_0000))[8..],
    ]
    .concat();
    let address: Vec<u8> = [&state(0, 0)[..], &[0; 32]].concat();
    let zero = number(0);
    let start = [
        one(request::GET_FEATURES, 0, 0, &[], &number(u64::MAX)),
        one(request::GET_PROTOCOL_FEATURES, 0, 0, &[], &number(0xffff)),
        one(request::SET_PROTOCOL_FEATURES, 0, 0, &number(0x1_821d), &[]),
        one(request::GET_QUEUE_NUM, 0, 0, &[], &number(2)),
        one(request::SET_OWNER, 0, 0, &[], &[]),
        one(request::SET_FEATURES, ACK, 0, &number(1 << 30 | 1 << 32), &zero),
    ]
    .concat();
    let rings: Vec<u8> = (0..4u32)
        .flat_map(|ring| {
            [
                one(request::SET_VRING_NUM, 0, 0, &state(ring, 256), &[]),
                one(request::SET_VRING_BASE, 0, 0, &state(ring, 0), &[]),
                one(request::SET_VRING_ADDR, ACK, 0, &address, &zero),
                one(request::SET_VRING_CALL, 0, 1, &number(ring.into()), &[]),
                one(request::SET_VRING_KICK, 0, 1, &number(ring.into()), &[]),
                one(request::SET_VRING_ENABLE, ACK, 0, &state(ring, 1), &zero),
                one(request::GET_VRING_BASE, 0, 0, &state(ring, 0), &number(7)),
            ]
            .concat()
        })
        .collect();
    let own = [
        one(request::NET_SET_MTU, ACK, 0, &number(1500), &[]),
        one(request::SEND_RARP, ACK, 0, &[0x52, 0x54, 0, 1, 2, 3, 0, 0], &[]),
        one(request::SET_STATUS, ACK, 0, &number(15), &[]),
        one(request::GET_STATUS, 0, 0, &[], &[]),
        one(request::GET_MAX_MEM_SLOTS, 0, 0, &[], &[]),
        one(request::REM_MEM_REG, ACK, 0, &add, &zero),
    ]
    .concat();
    let table = one(request::SET_MEM_TABLE, ACK, 2, &two, &zero);
    let slot = one(request::ADD_MEM_REG, ACK, 1, &add, &zero);
    [[&start[..], &table, &rings], [&start, &slot, &own], [&start, &rings, &own]]
        .map(|parts| [&[23][..], &parts.concat()].concat())
        .to_vec()
}
