//! Files whose server falls silent, in the place of everything that a front-end may send.
//!
//! Any user can mount FUSE in a namespace of its own. fstat and close of such a file held the
//! control thread indefinitely: no port was served any more, SIGTERM had no effect, and SIGKILL had
//! none either once the server had read the request.

use std::path::Path;

use testkit::neighbour::{ends, meanwhile};
use testkit::rig::{Macvtap, Rig, SECOND};
use testkit::silent_file::{Manner, SIZE, SilentFile};
use testkit::vmm::{NEED_REPLY, QemuOptions, Vmm, pair_of, proto, req};

/// A connection that has negotiated acknowledgements and memory slots.
fn negotiated(socket: &Path) -> Vmm {
    let mut vmm = Vmm::connect(socket);
    let features = vmm.get_features();
    vmm.set_protocol_features(proto::REPLY_ACK | proto::CONFIGURE_MEM_SLOTS);
    vmm.set_features(features);
    vmm
}

fn region() -> Vec<u8> {
    [0, 1 << 40, SIZE, 0x7000_0000_0000, 0].iter().flat_map(|n: &u64| n.to_le_bytes()).collect()
}

fn everywhere(manner: Manner) {
    let mut rig = Rig::new(Macvtap);
    rig.bystander();
    let file = SilentFile::open(manner);
    let table = [pair_of(1, 0), region()[8..].to_vec()].concat();
    let requests = [
        (req::ADD_MEM_REG, region()),
        (req::SET_MEM_TABLE, table),
        (req::SET_VRING_KICK, pair_of(0, 0)),
        (req::SET_VRING_CALL, pair_of(0, 0)),
        (req::SET_VRING_ERR, pair_of(0, 0)),
    ];
    meanwhile(&mut rig, |socket| {
        let mut vmm = negotiated(socket);
        for (request, payload) in &requests {
            assert_ne!(
                vmm.order(*request, payload, &[file.fd()]),
                0,
                "request {request}: accepted"
            );
        }
        // Beside messages that take none, beside half a message, and in a connection that is
        // refused.
        vmm.send(req::GET_FEATURES, 0, &[], &[file.fd()]);
        vmm.reply(req::GET_FEATURES);
        vmm.send_raw(&[1, 0, 0], &[file.fd()]).unwrap();
        let mut second = Vmm::connect(socket);
        let _ = second.try_send(req::GET_FEATURES, NEED_REPLY, &[], &[file.fd()]);
        second.expect_closed();
    });
    // Its mount is in another namespace.
    let what = "the file /memory on an unknown file system";
    rig.backend.wait_for_log(&format!("it must be an eventfd and is {what}"), SECOND);
    rig.backend.wait_for_log(&format!("{what} cannot be closed without waiting"), SECOND);
    // The port goes on.
    rig.guest(&QemuOptions::default());
    ends(&mut rig);
}

#[test]
fn bug_s7_a_silent_server_that_reads_holds_nothing() {
    everywhere(Manner::Reads);
}

#[test]
fn bug_s7_a_silent_server_that_does_not_read_holds_nothing() {
    everywhere(Manner::Ignores);
}

/// Descriptors that cannot be closed are kept, up to a limit: then the port that received them
/// takes no front-end any more.
#[test]
fn bug_s7_what_cannot_be_closed_is_bounded() {
    let mut rig = Rig::new(Macvtap);
    rig.bystander();
    let file = SilentFile::open(Manner::Reads);
    let before = rig.backend.fds().len();
    meanwhile(&mut rig, |socket| {
        for _ in 0..12 {
            let mut vmm = Vmm::connect(socket);
            let _ = vmm.try_send(req::GET_FEATURES, 0, &[], &[file.fd(); 10]);
            let _ = vmm.try_reply();
        }
    });
    rig.backend
        .wait_for_log("port t0: accepts no front-end any more: its front-ends have left ", SECOND);
    let after = rig.backend.fds().len();
    assert!(after < before + 100, "descriptors grew from {before} to {after}");
    rig.connect(0).expect_closed();
    ends(&mut rig);
}
