//! A virtual machine monitor that speaks vhost-user by hand: raw bytes on the socket.
//!
//! The front-end in the `vhost` crate sends a tidy order and refuses to send nonsense. Real VMMs do
//! neither. QEMU enables rings before it has negotiated anything, sends the memory table twice, and
//! repeats half of the handshake for every queue pair; Cloud Hypervisor wants an answer to every
//! single message and passes a ring base that is not what it seems. So this one writes the 12-byte
//! header, the payload and the descriptors itself and can put down any bytes in any order. Three
//! layers:
//! - `send`/`reply`: one message, nothing assumed; for hostile tests;
//! - `ask`/`tell`/`order`: a request with a reply of its own, one without, one that wants an
//!   acknowledgement (if REPLY_ACK is negotiated; else the acknowledgement is a GET_FEATURES round
//!   trip, as QEMU does it), and typed helpers on top;
//! - the recorded orders: `start_like_qemu72`, `stop_`, `reboot_`, `reconnect_like_qemu72`, and
//!   `start_like_cloud_hypervisor` with `ch_pause`, `ch_resume`, `ch_reset`. They were taken from a
//!   trace of QEMU 7.2.22 with two queue pairs and from Cloud Hypervisor's source
//!   (`vu_common_ctrl.rs`); change them only with a trace at hand.
//!
//! What can go wrong: a message without a reply has not been *handled* when `send` returns. Call
//! `sync` before you check its effect.
//!
//! Specification: vhost-user (QEMU docs/interop/vhost-user.rst), "Message specification" and
//! "Communication".

use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use crate::driver::*;
use crate::memory::{Memory, Region};

/// Request numbers of the front-end.
pub mod req {
    pub const GET_FEATURES: u32 = 1;
    pub const SET_FEATURES: u32 = 2;
    pub const SET_OWNER: u32 = 3;
    pub const RESET_OWNER: u32 = 4;
    pub const SET_MEM_TABLE: u32 = 5;
    pub const SET_LOG_BASE: u32 = 6;
    pub const SET_LOG_FD: u32 = 7;
    pub const SET_VRING_NUM: u32 = 8;
    pub const SET_VRING_ADDR: u32 = 9;
    pub const SET_VRING_BASE: u32 = 10;
    pub const GET_VRING_BASE: u32 = 11;
    pub const SET_VRING_KICK: u32 = 12;
    pub const SET_VRING_CALL: u32 = 13;
    pub const SET_VRING_ERR: u32 = 14;
    pub const GET_PROTOCOL_FEATURES: u32 = 15;
    pub const SET_PROTOCOL_FEATURES: u32 = 16;
    pub const GET_QUEUE_NUM: u32 = 17;
    pub const SET_VRING_ENABLE: u32 = 18;
    pub const SEND_RARP: u32 = 19;
    pub const NET_SET_MTU: u32 = 20;
    pub const GET_CONFIG: u32 = 24;
    pub const GET_MAX_MEM_SLOTS: u32 = 36;
    pub const ADD_MEM_REG: u32 = 37;
    pub const REM_MEM_REG: u32 = 38;
    pub const SET_STATUS: u32 = 39;
    pub const GET_STATUS: u32 = 40;
}

/// Protocol feature bits.
pub mod proto {
    pub const MQ: u64 = 1 << 0;
    pub const RARP: u64 = 1 << 2;
    pub const REPLY_ACK: u64 = 1 << 3;
    pub const MTU: u64 = 1 << 4;
    pub const CONFIG: u64 = 1 << 9;
    pub const CONFIGURE_MEM_SLOTS: u64 = 1 << 15;
    pub const STATUS: u64 = 1 << 16;
}

pub const VERSION: u32 = 1;
pub const REPLY: u32 = 1 << 2;
pub const NEED_REPLY: u32 = 1 << 3;

const PATIENCE: Duration = Duration::from_secs(10);

/// What the guest's driver asks for; the same for every VMM.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Wanted virtio features; acknowledged are those that the back-end offers too.
    pub features: u64,
    pub rx_ring: u16,
    pub tx_ring: u16,
}

impl Default for Guest {
    /// A Linux 6.1 guest.
    fn default() -> Guest {
        let offloads = F_CSUM | F_GUEST_CSUM | F_GUEST_TSO4 | F_GUEST_TSO6;
        let host = F_HOST_TSO4 | F_HOST_TSO6;
        let rings = F_VERSION_1 | F_EVENT_IDX | F_INDIRECT | F_MRG_RXBUF;
        Guest { features: offloads | host | rings | F_MTU | F_MQ, rx_ring: 256, tx_ring: 256 }
    }
}

impl Guest {
    /// The same guest without some features.
    pub fn without(mut self, features: u64) -> Guest {
        self.features &= !features;
        self
    }

    pub fn with(mut self, features: u64) -> Guest {
        self.features |= features;
        self
    }
}

#[derive(Clone, Debug)]
pub struct QemuOptions {
    pub pairs: usize,
    pub mem_slots: bool,
    pub reply_ack: bool,
    pub status: bool,
    pub mtu: Option<u16>,
    /// How often realize and reset repeat the early SET_VRING_ENABLE (seen: 4 to 5).
    pub early_enables: usize,
    /// Whether the rings are enabled once more at the end. With one pair QEMU was also seen not to.
    pub late_enable: bool,
    pub guest: Guest,
}

impl Default for QemuOptions {
    fn default() -> QemuOptions {
        let guest = Guest::default();
        QemuOptions {
            pairs: 1,
            mem_slots: true,
            reply_ack: true,
            status: true,
            mtu: None,
            early_enables: 4,
            late_enable: true,
            guest,
        }
    }
}

#[derive(Clone, Debug)]
pub struct ChOptions {
    pub pairs: usize,
    pub reply_ack: bool,
    pub mem_slots: bool,
    pub config: bool,
    pub guest: Guest,
}

impl Default for ChOptions {
    fn default() -> ChOptions {
        let guest = Guest::default().with(F_MAC | F_CTRL_VQ | F_GUEST_ANNOUNCE);
        ChOptions { pairs: 1, reply_ack: true, mem_slots: true, config: false, guest }
    }
}

/// One message as it came in.
#[derive(Clone, Debug)]
pub struct Message {
    pub request: u32,
    pub flags: u32,
    pub payload: Vec<u8>,
}

impl Message {
    pub fn u64(&self) -> u64 {
        u64_of(&self.payload)
    }
}

fn u64_of(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("a reply of 8 bytes"))
}

pub struct Vmm {
    sock: UnixStream,
    pub memory: Memory,
    /// Features that the back-end offered.
    pub offered: u64,
    pub proto_offered: u64,
    pub proto: u64,
    /// Cloud Hypervisor's habit: every message carries NEED_REPLY.
    always_need_reply: bool,
}

impl Vmm {
    /// Connects, waiting a little for the socket to appear.
    pub fn connect(path: &Path) -> Vmm {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match UnixStream::connect(path) {
                Ok(sock) => return Vmm::from_stream(sock),
                Err(e) if Instant::now() > deadline => panic!("connect {}: {e}", path.display()),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Connects and has a first question answered. Where another connection has just ended, that
    /// takes until the back-end has seen its end.
    pub fn connect_served(path: &Path) -> Vmm {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut vmm = Vmm::connect(path);
            let asked = vmm.try_send(req::GET_FEATURES, 0, &[], &[]);
            if let Ok(offered) = asked.and_then(|()| vmm.try_reply()) {
                vmm.offered = offered.u64();
                return vmm;
            }
            assert!(Instant::now() < deadline, "no connection is served");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn from_stream(sock: UnixStream) -> Vmm {
        sock.set_read_timeout(Some(PATIENCE)).unwrap();
        sock.set_write_timeout(Some(PATIENCE)).unwrap();
        Vmm {
            sock,
            memory: Memory::like_qemu(64 << 20),
            offered: 0,
            proto_offered: 0,
            proto: 0,
            always_need_reply: false,
        }
    }

    /// How long to wait for the back-end, either way.
    pub fn set_patience(&mut self, patience: Duration) {
        self.sock.set_read_timeout(Some(patience)).unwrap();
        self.sock.set_write_timeout(Some(patience)).unwrap();
    }

    /// Another guest memory than the default; before the start.
    pub fn with_memory(mut self, memory: &Memory) -> Vmm {
        self.memory = memory.clone();
        self
    }

    // --- messages ---

    /// Writes bytes as they are, with these descriptors attached to the first of them.
    pub fn send_raw(&mut self, bytes: &[u8], fds: &[RawFd]) -> io::Result<()> {
        let mut rest = bytes;
        if !fds.is_empty() {
            let n = self.sock.send_with_fds(&[rest], fds).map_err(io::Error::from)?;
            rest = &rest[n..];
        }
        while !rest.is_empty() {
            // send() with MSG_NOSIGNAL, as a back-end that hung up must be an error here and not a
            // signal.
            let n = nix::sys::socket::send(
                self.sock.as_raw_fd(),
                rest,
                nix::sys::socket::MsgFlags::MSG_NOSIGNAL,
            )?;
            rest = &rest[n..];
        }
        Ok(())
    }

    pub fn try_send(
        &mut self,
        r: u32,
        flags: u32,
        payload: &[u8],
        fds: &[RawFd],
    ) -> io::Result<()> {
        self.send_raw(&message(r, flags | VERSION, payload), fds)
    }

    /// One message; the version bit is added.
    pub fn send(&mut self, r: u32, flags: u32, payload: &[u8], fds: &[RawFd]) {
        self.try_send(r, flags, payload, fds).unwrap_or_else(|e| panic!("send request {r}: {e}"));
    }

    pub fn try_reply(&mut self) -> io::Result<Message> {
        let mut header = [0u8; 12];
        self.sock.read_exact(&mut header)?;
        let word = |i: usize| u32::from_le_bytes(header[i..i + 4].try_into().unwrap());
        let mut payload = vec![0; word(8) as usize];
        self.sock.read_exact(&mut payload)?;
        Ok(Message { request: word(0), flags: word(4), payload })
    }

    /// The reply to this request, its flags checked.
    pub fn reply(&mut self, r: u32) -> Vec<u8> {
        let m = self.try_reply().unwrap_or_else(|e| panic!("reply to request {r}: {e}"));
        assert_eq!(m.request, r, "a reply to another request");
        assert_eq!(m.flags & 3, VERSION, "version in the reply's flags");
        assert_ne!(m.flags & REPLY, 0, "the reply lacks the reply flag");
        m.payload
    }

    /// A request that has a reply of its own.
    pub fn ask(&mut self, r: u32, payload: &[u8]) -> Vec<u8> {
        let flags = if self.always_need_reply { NEED_REPLY } else { 0 };
        self.send(r, flags, payload, &[]);
        self.reply(r)
    }

    /// A request that has no reply (unless this VMM wants an answer to everything; then it must be
    /// 0).
    pub fn tell(&mut self, r: u32, payload: &[u8], fds: &[RawFd]) {
        if self.always_need_reply {
            assert_eq!(self.order(r, payload, fds), 0, "request {r} was refused");
        } else {
            self.send(r, 0, payload, fds);
        }
    }

    /// A request that must have been handled when this returns; its result if REPLY_ACK is
    /// negotiated, else 0.
    pub fn order(&mut self, r: u32, payload: &[u8], fds: &[RawFd]) -> u64 {
        if self.proto & proto::REPLY_ACK != 0 {
            self.send(r, NEED_REPLY, payload, fds);
            u64_of(&self.reply(r))
        } else {
            self.send(r, 0, payload, fds);
            self.sync();
            0
        }
    }

    /// Returns when everything sent so far has been handled.
    pub fn sync(&mut self) {
        self.get_features();
    }

    /// Sends no more. The back-end sees the end of the connection, and its own end can be waited
    /// for.
    pub fn shut_down(&mut self) {
        let _ = self.sock.shutdown(std::net::Shutdown::Write);
    }

    /// The back-end must end this connection.
    pub fn expect_closed(&mut self) {
        assert!(self.is_closed(PATIENCE), "the back-end kept the connection");
    }

    /// Whether the back-end ends the connection in this time; replies that still come are thrown
    /// away.
    pub fn is_closed(&mut self, timeout: Duration) -> bool {
        self.sock.set_read_timeout(Some(timeout)).unwrap();
        let mut sink = [0u8; 4096];
        let closed = loop {
            match self.sock.read(&mut sink) {
                Ok(0) => break true,
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => break true,
                Err(_) => break false,
            }
        };
        self.sock.set_read_timeout(Some(PATIENCE)).unwrap();
        closed
    }

    // --- typed helpers ---

    pub fn get_features(&mut self) -> u64 {
        u64_of(&self.ask(req::GET_FEATURES, &[]))
    }

    pub fn set_features(&mut self, features: u64) {
        self.tell(req::SET_FEATURES, &features.to_le_bytes(), &[]);
    }

    pub fn get_protocol_features(&mut self) -> u64 {
        u64_of(&self.ask(req::GET_PROTOCOL_FEATURES, &[]))
    }

    pub fn set_protocol_features(&mut self, bits: u64) {
        self.proto = bits;
        self.tell(req::SET_PROTOCOL_FEATURES, &bits.to_le_bytes(), &[]);
    }

    pub fn get_queue_num(&mut self) -> u64 {
        u64_of(&self.ask(req::GET_QUEUE_NUM, &[]))
    }

    pub fn get_max_mem_slots(&mut self) -> u64 {
        u64_of(&self.ask(req::GET_MAX_MEM_SLOTS, &[]))
    }

    pub fn set_owner(&mut self) {
        self.tell(req::SET_OWNER, &[], &[]);
    }

    /// The whole memory table in one message.
    pub fn set_mem_table(&mut self) {
        let regions = self.memory.regions();
        let payload = mem_table(&regions);
        let fds: Vec<RawFd> = regions.iter().map(|r| r.fd()).collect();
        assert_eq!(self.order(req::SET_MEM_TABLE, &payload, &fds), 0, "SET_MEM_TABLE refused");
    }

    pub fn add_mem_reg(&mut self, region: &Region) -> u64 {
        self.order(req::ADD_MEM_REG, &single_region(region), &[region.fd()])
    }

    pub fn rem_mem_reg(&mut self, region: &Region) -> u64 {
        self.order(req::REM_MEM_REG, &single_region(region), &[])
    }

    pub fn set_vring_num(&mut self, index: u32, num: u32) {
        self.tell(req::SET_VRING_NUM, &pair_of(index, num), &[]);
    }

    pub fn set_vring_base(&mut self, index: u32, base: u32) {
        self.tell(req::SET_VRING_BASE, &pair_of(index, base), &[]);
    }

    /// Stops the ring and returns its base.
    pub fn get_vring_base(&mut self, index: u32) -> u32 {
        let b = self.ask(req::GET_VRING_BASE, &pair_of(index, 0));
        assert_eq!(b[..4], index.to_le_bytes(), "GET_VRING_BASE answered for another ring");
        u32::from_le_bytes(b[4..8].try_into().unwrap())
    }

    pub fn set_vring_addr(&mut self, q: &Queue) {
        let payload = vring_addr(
            q.index as u32,
            self.memory.user_addr(q.desc),
            self.memory.user_addr(q.used),
            self.memory.user_addr(q.avail),
        );
        self.tell(req::SET_VRING_ADDR, &payload, &[]);
    }

    pub fn set_vring_kick(&mut self, q: &Queue) {
        self.tell(req::SET_VRING_KICK, &(q.index as u64).to_le_bytes(), &[q.kick.as_raw_fd()]);
    }

    pub fn set_vring_call(&mut self, q: &Queue) {
        self.tell(req::SET_VRING_CALL, &(q.index as u64).to_le_bytes(), &[q.call.as_raw_fd()]);
    }

    pub fn set_vring_err(&mut self, index: u64, fd: RawFd) {
        self.tell(req::SET_VRING_ERR, &index.to_le_bytes(), &[fd]);
    }

    pub fn set_vring_enable(&mut self, index: u32, on: bool) {
        self.tell(req::SET_VRING_ENABLE, &pair_of(index, u32::from(on)), &[]);
    }

    /// 0, or why not.
    pub fn net_set_mtu(&mut self, mtu: u64) -> u64 {
        self.order(req::NET_SET_MTU, &mtu.to_le_bytes(), &[])
    }

    pub fn send_rarp(&mut self, mac: [u8; 6]) {
        let mut payload = [0u8; 8];
        payload[..6].copy_from_slice(&mac);
        self.tell(req::SEND_RARP, &payload, &[]);
    }

    pub fn set_status(&mut self, status: u8) {
        self.tell(req::SET_STATUS, &u64::from(status).to_le_bytes(), &[]);
    }

    pub fn get_status(&mut self) -> u64 {
        u64_of(&self.ask(req::GET_STATUS, &[]))
    }

    /// `len` bytes of the device's configuration space.
    pub fn get_config(&mut self, offset: u32, len: u32) -> Vec<u8> {
        let mut payload = [offset, len, 0].iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>();
        payload.resize(12 + len as usize, 0);
        let reply = self.ask(req::GET_CONFIG, &payload);
        assert_eq!(
            reply.len(),
            payload.len(),
            "GET_CONFIG must answer with as many bytes as asked"
        );
        reply[12..].to_vec()
    }

    // --- QEMU 7.2 ---

    /// Everything from the connection to DRIVER_OK, in QEMU's order. Receive buffers are the
    /// caller's to post. With several pairs only the first is enabled, until the guest asks:
    /// [`Vmm::guest_sets_pairs`].
    pub fn start_like_qemu72(&mut self, o: &QemuOptions) -> Driver {
        self.qemu_connect(o);
        self.qemu_realize(o);
        let features = o.guest.features | F_PROTOCOL;
        let acked = self.offered & features;
        let mut driver =
            Driver::new(&self.memory, acked, o.pairs, o.guest.rx_ring, o.guest.tx_ring);
        self.qemu_driver_ok(o, &mut driver, false, true);
        driver
    }

    /// A new connection for a guest that keeps running: its rings go on at their used index.
    pub fn reconnect_like_qemu72(&mut self, o: &QemuOptions, driver: &mut Driver) {
        self.qemu_connect(o);
        self.qemu_driver_ok(o, driver, true, true);
    }

    /// The guest shuts down or is paused: every ring is asked for its base, none is disabled first.
    pub fn stop_like_qemu72(&mut self, driver: &Driver) -> Vec<u32> {
        let bases = (0..2 * driver.pairs.len()).map(|i| self.get_vring_base(i as u32)).collect();
        if self.proto & proto::STATUS != 0 {
            self.set_status(0);
        }
        bases
    }

    /// `cont` after a stop: the same rings again, no memory table.
    pub fn cont_like_qemu72(&mut self, o: &QemuOptions, driver: &mut Driver) {
        self.qemu_driver_ok(o, driver, true, false);
    }

    /// Reboot: stop, the reset's ENABLEs, then a driver start on fresh rings; the memory stays as
    /// it is.
    pub fn reboot_like_qemu72(&mut self, o: &QemuOptions, driver: &mut Driver) {
        self.stop_like_qemu72(driver);
        self.qemu_realize(o);
        driver.reset(driver.features);
        self.qemu_driver_ok(o, driver, false, false);
    }

    /// The guest's VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, as the back-end sees it.
    pub fn guest_sets_pairs(&mut self, total: usize, active: usize) {
        for i in 0..2 * total {
            self.set_vring_enable(i as u32, i < 2 * active);
        }
        self.sync();
    }

    fn qemu_connect(&mut self, o: &QemuOptions) {
        let err = vmm_sys_util::eventfd::EventFd::new(0).expect("eventfd");
        for pair in 0..o.pairs {
            self.offered = self.get_features();
            assert_ne!(self.offered & F_PROTOCOL, 0, "the back-end offers no protocol features");
            self.proto_offered = self.get_protocol_features();
            let wanted = proto::MQ
                | proto::RARP
                | proto::MTU
                | if o.reply_ack { proto::REPLY_ACK } else { 0 }
                | if o.mem_slots { proto::CONFIGURE_MEM_SLOTS } else { 0 }
                | if o.status { proto::STATUS } else { 0 };
            self.set_protocol_features(self.proto_offered & wanted);
            if pair == 0 {
                if self.proto & proto::MQ != 0 {
                    let queues = self.get_queue_num();
                    assert!(queues >= o.pairs as u64, "GET_QUEUE_NUM {queues} < {}", o.pairs);
                }
                self.qemu_max_slots();
                self.set_owner();
            } else {
                self.qemu_max_slots();
            }
            self.get_features();
            // Calls that mean nothing yet: QEMU gives masked notifiers, replaced at DRIVER_OK.
            for i in [2 * pair as u64, 2 * pair as u64 + 1] {
                self.tell(req::SET_VRING_CALL, &i.to_le_bytes(), &[err.as_raw_fd()]);
                self.set_vring_err(i, err.as_raw_fd());
            }
        }
    }

    fn qemu_max_slots(&mut self) {
        if self.proto & proto::CONFIGURE_MEM_SLOTS != 0 {
            let slots = self.get_max_mem_slots();
            assert!(slots >= 2, "{slots} memory slots are not enough for any guest");
        }
    }

    fn qemu_realize(&mut self, o: &QemuOptions) {
        for _ in 0..o.early_enables {
            for i in 0..2 * o.pairs {
                self.set_vring_enable(i as u32, i < 2);
            }
        }
    }

    fn qemu_driver_ok(&mut self, o: &QemuOptions, d: &mut Driver, resumed: bool, memory: bool) {
        if let Some(mtu) = o.mtu.filter(|_| self.proto & proto::MTU != 0) {
            assert_eq!(self.net_set_mtu(u64::from(mtu)), 0, "MTU {mtu} refused");
        }
        if o.late_enable {
            self.set_vring_enable(0, true);
            self.set_vring_enable(1, true);
        }
        for pair in 0..o.pairs {
            self.set_features(d.features);
            if self.proto & proto::STATUS != 0 {
                let s = self.get_status() as u8;
                self.set_status(s | 8);
            }
            if memory {
                if self.proto & proto::CONFIGURE_MEM_SLOTS != 0 {
                    // For every pair again: QEMU before 8.0 does that.
                    for region in self.memory.regions() {
                        assert_eq!(self.add_mem_reg(&region), 0, "ADD_MEM_REG refused");
                    }
                } else if pair == 0 {
                    self.set_mem_table();
                }
            }
            for q in [&d.pairs[pair].rx, &d.pairs[pair].tx] {
                let base = if resumed { u32::from(q.used_idx()) } else { 0 };
                self.set_vring_num(q.index as u32, u32::from(q.size));
                self.set_vring_base(q.index as u32, base);
                self.set_vring_addr(q);
                self.set_vring_kick(q);
                self.set_vring_call(q);
            }
        }
        if self.proto & proto::STATUS != 0 {
            let s = self.get_status() as u8;
            self.set_status(s | 7);
        }
        if o.late_enable {
            for i in 0..2 * o.pairs {
                self.set_vring_enable(i as u32, i < 2);
            }
        }
        self.sync();
    }

    // --- Cloud Hypervisor ---

    /// Connection and activation in Cloud Hypervisor's order; all pairs are enabled at once.
    pub fn start_like_cloud_hypervisor(&mut self, o: &ChOptions) -> Driver {
        self.ch_negotiate(o);
        let acked = self.offered & (o.guest.features | F_PROTOCOL);
        let driver = Driver::new(&self.memory, acked, o.pairs, o.guest.rx_ring, o.guest.tx_ring);
        self.ch_activate(&driver);
        driver
    }

    /// After the back-end was lost: bases are the *available* index, which is not where the
    /// back-end stopped.
    pub fn reconnect_like_cloud_hypervisor(&mut self, o: &ChOptions, driver: &Driver) {
        self.ch_negotiate(o);
        self.ch_activate(driver);
    }

    fn ch_negotiate(&mut self, o: &ChOptions) {
        self.set_owner();
        self.offered = self.get_features();
        assert_ne!(self.offered & F_PROTOCOL, 0, "the back-end offers no protocol features");
        self.proto_offered = self.get_protocol_features();
        let wanted = proto::MQ
            | if o.reply_ack { proto::REPLY_ACK } else { 0 }
            | if o.mem_slots { proto::CONFIGURE_MEM_SLOTS } else { 0 }
            | if o.config { proto::CONFIG } else { 0 };
        self.set_protocol_features(self.proto_offered & wanted);
        self.always_need_reply = self.proto & proto::REPLY_ACK != 0;
        if self.proto & proto::MQ != 0 {
            let queues = self.get_queue_num();
            // Cloud Hypervisor counts rings, not pairs.
            assert!(queues >= 2 * o.pairs as u64, "GET_QUEUE_NUM {queues} < {}", 2 * o.pairs);
        }
        if self.proto & proto::CONFIG != 0 {
            self.get_config(0, 24);
        }
    }

    fn ch_activate(&mut self, driver: &Driver) {
        self.set_features(driver.features);
        self.set_mem_table();
        for q in driver.queues() {
            self.set_vring_num(q.index as u32, u32::from(q.size));
        }
        for q in driver.queues() {
            self.set_vring_addr(q);
            self.set_vring_base(q.index as u32, u32::from(q.avail_idx()));
            self.set_vring_call(q);
            self.set_vring_kick(q);
        }
        self.ch_resume(driver);
    }

    /// Pause only disables; the rings keep their place.
    pub fn ch_pause(&mut self, driver: &Driver) {
        self.ch_enable(driver, false);
    }

    pub fn ch_resume(&mut self, driver: &Driver) {
        self.ch_enable(driver, true);
    }

    fn ch_enable(&mut self, driver: &Driver, on: bool) {
        for i in 0..2 * driver.pairs.len() {
            self.set_vring_enable(i as u32, on);
        }
        self.sync();
    }

    /// Device reset: disable, then ask for the bases.
    pub fn ch_reset(&mut self, driver: &Driver) -> Vec<u32> {
        self.ch_enable(driver, false);
        (0..2 * driver.pairs.len()).map(|i| self.get_vring_base(i as u32)).collect()
    }
}

/// A whole message; flags as given, version included by the caller.
pub fn message(r: u32, flags: u32, payload: &[u8]) -> Vec<u8> {
    let mut m = Vec::with_capacity(12 + payload.len());
    for word in [r, flags, payload.len() as u32] {
        m.extend_from_slice(&word.to_le_bytes());
    }
    m.extend_from_slice(payload);
    m
}

/// The payload of SET_VRING_NUM, BASE, ENABLE and GET_VRING_BASE.
pub fn pair_of(index: u32, value: u32) -> Vec<u8> {
    [index.to_le_bytes(), value.to_le_bytes()].concat()
}

pub fn vring_addr(index: u32, desc: u64, used: u64, avail: u64) -> Vec<u8> {
    let mut p = pair_of(index, 0);
    for a in [desc, used, avail, 0] {
        p.extend_from_slice(&a.to_le_bytes());
    }
    p
}

/// The payload of ADD_MEM_REG and REM_MEM_REG.
fn single_region(region: &Region) -> Vec<u8> {
    let mut p = vec![0; 8];
    p.extend(region.describe());
    p
}

/// The payload of SET_MEM_TABLE.
fn mem_table<R: AsRef<Region>>(regions: &[R]) -> Vec<u8> {
    let mut p = pair_of(regions.len() as u32, 0);
    for r in regions {
        p.extend(r.as_ref().describe());
    }
    p
}
