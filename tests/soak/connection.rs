//! Deeds of a VMM with messages and connections.

use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::party::Party;
use testkit::driver::F_PROTOCOL;
use testkit::rig::{LAN_MAC, MACS};
use testkit::vmm::{NEED_REPLY, VERSION, Vmm, message, pair_of, req, vring_addr};

const LOOP: Duration = Duration::from_millis(300);

/// A message, as long as there is time left and the back-end takes it.
fn repeat(vmm: &mut Vmm, mut send: impl FnMut(&mut Vmm, u32) -> bool) {
    let (end, mut count) = (Instant::now() + LOOP, 0);
    while Instant::now() < end && send(vmm, count) {
        count += 1;
    }
}

pub fn announcements(party: &mut Party) {
    let own = party.mac;
    let (vmm, _) = party.guest();
    repeat(vmm, |vmm, count| {
        let mac = [own, MACS[1], LAN_MAC, [2, 0, 0, 0, (count >> 8) as u8, count as u8]]
            [count as usize % 4];
        vmm.try_send(req::SEND_RARP, 0, &[&mac[..], &[0; 2]].concat(), &[]).is_ok()
    });
}

pub fn refusals(party: &mut Party) {
    let request =
        party.rng.pick(&[req::NET_SET_MTU, req::SET_VRING_NUM, req::SET_LOG_FD, 99, u32::MAX]);
    let (vmm, _) = party.guest();
    repeat(vmm, |vmm, _| {
        vmm.try_send(request, NEED_REPLY, &u64::MAX.to_le_bytes(), &[]).is_ok()
            && vmm.try_reply().is_ok()
    });
}

pub fn kicks_at_null(party: &mut Party) {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
    let (vmm, _) = party.guest();
    repeat(vmm, |vmm, count| {
        let ring = u64::from(count % 4).to_le_bytes();
        vmm.try_send(req::SET_VRING_KICK, 0, &ring, &[null.as_raw_fd()]).is_ok()
    });
    party.leave();
}

pub fn toggled_rings(party: &mut Party) {
    let (vmm, _) = party.guest();
    repeat(vmm, |vmm, count| {
        vmm.try_send(req::SET_VRING_ENABLE, 0, &pair_of(count % 2, count / 2 % 2), &[]).is_ok()
    });
    party.leave();
}

pub fn comes_and_goes(party: &mut Party) {
    for count in 0..6 {
        let mut vmm = party.bare();
        match count % 3 {
            0 => drop(vmm.send_raw(&[1, 0, 0, 0, 1], &[])),
            1 => drop(vmm.try_send(req::GET_QUEUE_NUM, 0, &[], &[])),
            _ => {}
        }
    }
}

pub fn second_front_end(party: &mut Party) {
    party.guest();
    // The party's own guest stays connected meanwhile.
    let path = party.socket().to_owned();
    for _ in 0..6 {
        let mut vmm = Vmm::connect(&path);
        let _ = vmm.try_send(req::GET_FEATURES, 0, &[], &[]);
    }
}

pub fn not_negotiated(party: &mut Party) {
    let mut vmm = party.bare();
    let payload = party.rng.bytes(8);
    for request in
        [req::SEND_RARP, req::NET_SET_MTU, req::SET_STATUS, req::GET_CONFIG, req::ADD_MEM_REG]
    {
        let _ = vmm.try_send(request, 0, &payload, &[]);
    }
    let _ = vmm.try_send(req::GET_STATUS, 0, &[], &[]);
    vmm.is_closed(Duration::from_millis(100));
}

pub fn out_of_shape(party: &mut Party) {
    let mut rng = party.fork();
    for _ in 0..4 {
        let mut vmm = party.bare();
        let header = [rng.below(48) as u32, rng.next() as u32, rng.next() as u32 >> rng.below(32)];
        let header = if rng.below(2) == 0 { [header[0], VERSION, header[2]] } else { header };
        let bytes = [header.map(u32::to_le_bytes).concat(), rng.bytes(200)].concat();
        let _ = vmm.send_raw(&bytes, &[]);
        vmm.is_closed(Duration::from_millis(20));
    }
}

pub fn rings_that_do_not_exist(party: &mut Party) {
    let mut rng = party.fork();
    let (vmm, _) = party.guest();
    for _ in 0..50 {
        let index = rng.pick(&[4, 5, 255, 256, 0x1_0000, u32::MAX]);
        let request = rng.pick(&[req::SET_VRING_NUM, req::SET_VRING_BASE, req::SET_VRING_ENABLE]);
        vmm.send(request, NEED_REPLY, &pair_of(index, rng.next() as u32), &[]);
        vmm.try_reply().unwrap();
        vmm.send(req::SET_VRING_ADDR, NEED_REPLY, &vring_addr(index, 0, 0, 0), &[]);
        vmm.try_reply().unwrap();
    }
}

pub fn random_requests(party: &mut Party) {
    let mut rng = party.fork();
    let null = OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
    let (vmm, _) = party.guest();
    for _ in 0..100 {
        let size = rng.pick(&[0, 8, 12, 16, 40, 64, 300]);
        let payload: Vec<u8> = rng.bytes(size).iter().map(|byte| byte & 3).collect();
        let fds = vec![null.as_raw_fd(); rng.below(3) as usize];
        let bytes = message(rng.below(46) as u32, VERSION | NEED_REPLY, &payload);
        if vmm.send_raw(&bytes, &fds).is_err() || vmm.try_reply().is_err() {
            break;
        }
    }
    party.leave();
}

/// All messages of a handshake, in an order that no handshake has.
pub fn shuffled_handshake(party: &mut Party) {
    let mut rng = party.fork();
    let mut vmm = party.bare();
    let features = F_PROTOCOL.to_le_bytes().to_vec();
    let protocol = 0x1_801du64.to_le_bytes().to_vec();
    for _ in 0..30 {
        let (request, payload) = match rng.below(8) {
            0 => (req::SET_FEATURES, features.clone()),
            1 => (req::SET_PROTOCOL_FEATURES, protocol.clone()),
            2 => (req::SET_OWNER, vec![]),
            3 => (req::RESET_OWNER, vec![]),
            4 => (req::SET_VRING_ENABLE, pair_of(rng.below(4) as u32, 1)),
            5 => (req::SET_VRING_NUM, pair_of(rng.below(4) as u32, 256)),
            6 => (req::SET_VRING_BASE, pair_of(rng.below(4) as u32, rng.next() as u32)),
            _ => (req::SET_STATUS, rng.bytes(8)),
        };
        if vmm.try_send(request, 0, &payload, &[]).is_err() {
            return;
        }
    }
    vmm.is_closed(Duration::from_millis(50));
}
