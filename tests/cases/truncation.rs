//! Guest memory that goes away at any moment of a connection.
//!
//! The file behind guest memory stays the front-end's, which can shorten it at any time. The next
//! thread of the back-end that touches the memory gets a SIGBUS. The program caught that for
//! running rings. It did not watch memory that the connection's own thread read, nor memory of a
//! connection that was ending.
//!
//! What can go wrong with the tests: a truncation before the memory is mapped, or after the
//! connection has ended, proves nothing. So the moments are spread over the whole of a connection,
//! a round takes a millisecond or two, and each test counts the rounds in which a ring really lost
//! its memory.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use testkit::blind::*;
use testkit::memory::{Backing, HUGE, HugePages, Memory, make_file};
use testkit::netns::{World, wait_until};
use testkit::rig::*;
use testkit::vmm::*;

const MIB: u64 = 1 << 20;
/// Rounds in which a ring must lose its memory for the test to be valid.
const ENOUGH: u32 = 10;

/// A moment up to `most` from now, in steps that differ from round to round.
fn moment(round: u32, most: Duration) -> Duration {
    most * (round * 7919 % 1000) / 1000
}

/// Rounds of a connection that goes through all its phases while another thread truncates its
/// memory at some moment. They go on until a ring has lost it in enough of them. Returns the number
/// of those rounds.
fn truncated_at_every_moment(
    sockets: &[PathBuf],
    rounds: u32,
    make: &(dyn Fn() -> File + Sync),
) -> u32 {
    let mut lost = 0;
    // The duration of a round, measured in the rounds themselves.
    let mut usual = Duration::from_millis(2);
    for round in 0..4 * rounds {
        if round >= rounds && lost >= ENOUGH {
            break;
        }
        let file = make();
        let size = file.metadata().expect("its size").len();
        let other = file.try_clone().expect("a second descriptor");
        let mut front = Blind::connect(&sockets[round as usize % sockets.len()]);
        let (go, gone) = mpsc::channel::<Instant>();
        let wait = moment(round, usual);
        thread::scope(|scope| {
            scope.spawn(move || {
                let start = gone.recv().expect("the round has begun");
                while start.elapsed() < wait {
                    std::hint::spin_loop();
                }
                other.set_len(0).expect("truncate");
            });
            let start = Instant::now();
            go.send(start).expect("the other thread waits");
            for turn in 0..3 {
                front.give(&[Numbers(0, size, 0)], &file);
                front.start_rings(if turn == 1 { RINGS } else { 0 });
                front.kick();
                if turn % 2 == 1 {
                    front.stop_rings();
                }
            }
            // Half of the connections end while requests wait, the others go on for a while.
            if round % 2 == 0 {
                while start.elapsed() < usual {
                    front.kick();
                    thread::sleep(Duration::from_micros(100));
                }
                let _ = front.vmm.try_send(req::GET_FEATURES, 0, &[], &[]);
                while front.vmm.try_reply().is_ok_and(|reply| reply.request != req::GET_FEATURES) {}
            }
            lost += u32::from(front.broken() > 0);
            drop(front);
            usual = ((usual * 7 + start.elapsed()) / 8).min(Duration::from_millis(5));
        });
    }
    lost
}

/// More ports than one: a front-end that comes and goes in a loop waits for its port's listener,
/// and these tests want many connections in a short time.
struct Ports {
    rig: Rig,
    sockets: Vec<PathBuf>,
    _dir: TempDir,
}

fn ports(kind: PortType, flags: &[&str]) -> Ports {
    let dir = TempDir::new().expect("a directory for the sockets");
    let sockets: Vec<_> = (0..14).map(|port| dir.path().join(format!("{port}.sock"))).collect();
    let mut args: Vec<String> = flags.iter().map(|flag| flag.to_string()).collect();
    for (port, socket) in sockets.iter().enumerate() {
        let socket = socket.display();
        args.push(format!("--port=socket={socket},parent={},name=x{port}", World::PARENT));
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Ports { rig: Rig::with(kind, &args), sockets, _dir: dir }
}

fn beside_a_talking_neighbour<T: Send>(rig: &mut Rig, deed: impl FnOnce(&Path) -> T + Send) -> T {
    rig.bystander();
    let socket = rig.socket(0);
    let outcome = thread::scope(|scope| {
        let deed = scope.spawn(|| deed(&socket));
        while !deed.is_finished() {
            rig.unharmed();
        }
        deed.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    rig.unharmed();
    rig.guest(&QemuOptions::default());
    rig.unharmed();
    outcome
}

fn plain() -> File {
    let file = make_file(&Backing::Memfd, MIB);
    for at in [0, RINGS] {
        write_rings(|at, bytes| file.write_all_at(bytes, at).unwrap(), at, MACS[0]);
    }
    file
}

/// The process ended by SIGBUS at the first try: the crate's thread read the used index of memory
/// that was no longer watched.
#[test]
fn bug_f2_memory_is_watched_at_every_moment() {
    let Ports { mut rig, sockets, _dir } = ports(Macvtap, &[]);
    let deed = |_: &Path| truncated_at_every_moment(&sockets, 160, &plain);
    let lost = beside_a_talking_neighbour(&mut rig, deed);
    assert!(lost >= ENOUGH, "a ring lost its memory in {lost} rounds");
}

/// The same between our own ports, where a sibling's worker reads and writes the memory, too.
#[test]
fn bug_f2_memory_of_a_userspace_port_is_watched_at_every_moment() {
    let Ports { mut rig, sockets, _dir } = ports(Macvlan, &[]);
    let deed = |_: &Path| truncated_at_every_moment(&sockets, 160, &plain);
    let lost = beside_a_talking_neighbour(&mut rig, deed);
    assert!(lost >= ENOUGH, "a ring lost its memory in {lost} rounds");
}

/// Huge pages that are there and go away: whole ones are covered.
#[test]
fn bug_f4_huge_pages_that_go_away_stop_their_own_port() {
    let Ports { mut rig, sockets, _dir } = ports(Macvtap, &[]);
    let _pages = HugePages::reserve(8);
    let lost = beside_a_talking_neighbour(&mut rig, |_| {
        let make = || {
            // They cannot be written by system calls. The mapping is not touched any more.
            let memory = Memory::single(&Backing::Huge, 2 * HUGE);
            write_rings(|at, bytes| memory.write(at, bytes), 0, MACS[0]);
            write_rings(|at, bytes| memory.write(at, bytes), RINGS, MACS[0]);
            memory.regions()[0].file.try_clone().expect("a second descriptor")
        };
        truncated_at_every_moment(&sockets, 100, &make)
    });
    assert!(lost >= ENOUGH, "a ring lost its memory in {lost} rounds");
}

/// Two connections share a file and map it more than once: all mappings lose it at the same time.
#[test]
fn many_mappings_of_one_file_lose_it_together() {
    let mut rig = Rig::new(Macvtap);
    let lost = beside_a_talking_neighbour(&mut rig, |socket| {
        let mut lost = 0;
        for _ in 0..12 {
            let file = plain();
            let mut front = Blind::connect(socket);
            let regions: Vec<_> = (0..16).map(|index| Numbers(index << 20, MIB, 0)).collect();
            assert!(front.sets(&regions[..8], &file));
            for region in &regions[8..] {
                assert!(front.adds(*region, &file));
            }
            front.start_rings(15 * MIB);
            file.set_len(0).expect("truncate");
            front.kick();
            lost += u32::from(wait_until(ARRIVAL, || front.broken() > 0));
        }
        lost
    });
    assert_eq!(lost, 12);
}
