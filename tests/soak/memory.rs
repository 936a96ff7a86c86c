//! Deeds of a VMM with the guest's memory and with descriptors.

use std::fs::File;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::party::Party;
use testkit::frames;
use testkit::memory::{Backing, make_file};
use testkit::rig::{LAN_MAC, fresh_tag};
use testkit::vmm::{NEED_REPLY, Vmm, req, vring_addr};

fn region(gpa: u64, size: u64, user: u64, offset: u64) -> Vec<u8> {
    [0, gpa, size, user, offset].map(u64::to_le_bytes).concat()
}

/// Adds a region; whether the back-end has taken it.
fn add(vmm: &mut Vmm, payload: &[u8], fd: RawFd) -> bool {
    vmm.send(req::ADD_MEM_REG, NEED_REPLY, payload, &[fd]);
    vmm.try_reply().unwrap().u64() == 0
}

/// The kernel installs as many as fit, and reports that there were more.
pub fn too_many_descriptors(party: &mut Party) {
    let null = File::open("/dev/null").unwrap();
    for count in [33, 64, 253] {
        let mut vmm = party.bare();
        let fds = vec![null.as_raw_fd(); count];
        let _ = vmm.try_send(req::GET_FEATURES, 0, &[], &fds);
        vmm.is_closed(Duration::from_millis(50));
    }
}

pub fn endless_regions(party: &mut Party) {
    let file = make_file(&Backing::Memfd, 64 << 20);
    let (vmm, _) = party.guest();
    for n in 0..2000u64 {
        let at = (1 << 40) + n * 8192;
        if !add(vmm, &region(at, 4096, at, n % 8192 * 4096), file.as_raw_fd()) {
            break;
        }
    }
    file.set_len(0).unwrap();
    party.leave();
}

/// Without a huge page in the pool: the mapping works, the first touch does not.
pub fn parts_of_huge_pages(party: &mut Party) {
    let size = party.rng.pick(&[4096, 128 << 10, 2 << 20]);
    // SAFETY: a plain system call on a constant string; the result is checked before it is owned.
    let fd = unsafe { libc::memfd_create(c"huge".as_ptr(), libc::MFD_HUGETLB | libc::MFD_CLOEXEC) };
    assert!(fd >= 0, "no huge pages in this kernel");
    // SAFETY: a fresh descriptor that nothing else owns.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(2 << 20).unwrap();
    let (vmm, _) = party.guest();
    let at = 1 << 41;
    add(vmm, &region(at, size, at, 0), file.as_raw_fd());
    vmm.send(req::SET_VRING_ADDR, NEED_REPLY, &vring_addr(0, at, at + 2048, at + 1024), &[]);
    let _ = vmm.try_reply();
    party.leave();
}

pub fn sparse_giants(party: &mut Party) {
    let file = make_file(&Backing::Memfd, 1 << 43);
    let (vmm, _) = party.guest();
    for n in 1..64u64 {
        let at = n << 43;
        if !add(vmm, &region(at, 1 << 43, at, 0), file.as_raw_fd()) {
            break;
        }
    }
    party.leave();
}

/// Its counter is full, and it blocks even if the back-end has set it not to.
pub fn blocking_call(party: &mut Party) {
    let mac = party.mac;
    // SAFETY: a plain system call; the result is checked before it is owned.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    assert!(fd >= 0);
    // SAFETY: a fresh descriptor that nothing else owns.
    let mut call = unsafe { File::from_raw_fd(fd) };
    call.write_all(&(u64::MAX - 1).to_ne_bytes()).unwrap();
    let (vmm, driver) = party.guest();
    for ring in [0u64, 1] {
        vmm.send(req::SET_VRING_CALL, 0, &ring.to_le_bytes(), &[fd]);
    }
    vmm.sync();
    // SAFETY: our own descriptor, a flag of its open file.
    unsafe { libc::fcntl(fd, libc::F_SETFL, 0) };
    for _ in 0..20 {
        driver.send(0, &[frames::tagged(LAN_MAC, mac, fresh_tag(), 60)]);
        driver.pairs[0].tx.calls_on(0);
        driver.pairs[0].rx.calls_on(0);
        std::thread::sleep(Duration::from_millis(10));
        driver.reclaim(0);
    }
    party.leave();
}

/// A socket with unsent data that lingers, a pipe, a directory, a device, an epoll; as memory,
/// kick, call and error.
pub fn descriptors_of_every_kind(party: &mut Party) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let lingers = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let linger = libc::linger { l_onoff: 1, l_linger: 60 };
    // SAFETY: the option's own structure and its size.
    unsafe {
        libc::setsockopt(
            lingers.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as u32,
        )
    };
    lingers.set_nonblocking(true).unwrap();
    while (&lingers).write(&[0; 65536]).is_ok() {}
    let (pipe, _writer) = io::pipe().unwrap();
    let (socket, _other) = UnixStream::pair().unwrap();
    let directory = File::open("/").unwrap();
    let zero = File::options().read(true).write(true).open("/dev/zero").unwrap();
    // SAFETY: a plain system call.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    let fds = [&lingers as &dyn AsRawFd, &pipe, &socket, &directory, &zero].map(AsRawFd::as_raw_fd);
    for fd in fds.into_iter().chain([epoll]) {
        for request in
            [req::SET_VRING_CALL, req::SET_VRING_ERR, req::SET_VRING_KICK, req::ADD_MEM_REG]
        {
            let (vmm, _) = party.guest();
            let payload = match request {
                req::ADD_MEM_REG => region(1 << 40, 4096, 1 << 40, 0),
                _ => 0u64.to_le_bytes().to_vec(),
            };
            if vmm.try_send(request, NEED_REPLY, &payload, &[fd]).is_err()
                || vmm.try_reply().is_err()
            {
                party.leave();
            }
        }
    }
    // SAFETY: made above.
    unsafe { libc::close(epoll) };
    // Unsent data must not hold up this process either.
    drop(listener);
    party.leave();
}

/// The file is shortened, and the connection closed in the same moment, with requests under way.
pub fn truncated_at_the_end(party: &mut Party) {
    let (vmm, driver) = party.guest();
    let file = vmm.memory.regions()[0].file.try_clone().unwrap();
    let payload = vring_addr(
        0,
        vmm.memory.user_addr(driver.pairs[0].rx.desc),
        vmm.memory.user_addr(driver.pairs[0].rx.used),
        vmm.memory.user_addr(driver.pairs[0].rx.avail),
    );
    for _ in 0..20 {
        let _ = vmm.try_send(req::SET_VRING_ADDR, 0, &payload, &[]);
    }
    file.set_len(0).unwrap();
    party.abandon();
}

pub fn unaligned(party: &mut Party) {
    let file = make_file(&Backing::Memfd, 1 << 20);
    let odd = 1 + party.rng.below(4095);
    let (vmm, _) = party.guest();
    let at = (1 << 40) + odd;
    for payload in [
        region(at, 65536, at, 0),
        region(1 << 40, 65536 + odd, at, 0),
        region(1 << 40, 65536, at, odd),
    ] {
        add(vmm, &payload, file.as_raw_fd());
    }
    party.leave();
}

pub fn truncated_in_use(party: &mut Party) {
    let (vmm, driver) = party.guest();
    let file = vmm.memory.regions()[0].file.try_clone().unwrap();
    file.set_len(0).unwrap();
    // Not a byte of it may be touched here any more: the kick alone makes the back-end look.
    driver.pairs[0].tx.kick();
    driver.pairs[0].rx.kick();
    std::thread::sleep(Duration::from_millis(50));
    party.abandon();
}
