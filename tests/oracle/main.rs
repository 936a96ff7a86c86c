//! The kernel is the oracle: the same frames through kernel macvtaps and through the switch.
//!
//! A *world* is a parent with one to three ports in some modes. For each world a list of *stimuli*
//! is made: frames of every kind that the truth tables of `src/switch/mod.rs` name, from the wire
//! and from every port. They all go, each with a tag of its own, through a *topology*. Then the
//! test collects the frames that the ports, the wire and the host have received. There are two
//! topologies of the same world:
//!
//! * `kernel.rs`: macvtap devices, whose taps the test reads and writes itself;
//! * `program.rs`: this program, serving the same ports as `type=macvlan,compat=on`, each driven by
//!   the tests' own VMM.
//!
//! The program is tested once more without `compat`. Then no kernel does the same, and the model
//! with its second half stands alone. The pure switch and its model make the expectation, and must
//! agree first. So the model is compared with a real kernel here and with the switch everywhere.
//! The comparison is frame by frame, byte by byte, by number of copies, with these tolerances and
//! no others:
//!
//! * **groups that the port has not joined**: the kernel's filter is a hash of 256 bits, salted by
//!   an address in memory: a port may get a group that it has not joined (but no frame that it
//!   would not get had it joined). Our filter is exact;
//! * **sources that are not the port's**: the kernel lets a guest send under any address, and so
//!   does the program with `compat`; without it, such frames are dropped (`mac-changes=deny`);
//! * **link control** (spanning tree, PAUSE): the same, but for passthru ports (`guard=stp`).
//!
//! No stimulus is a fragment: the kernel puts together those of broadcasts, the program does not.
//! None goes to 33:33:00:00:00:01, which a macvtap has joined only while the host's IPv6 is on it.
//! And no source port lists its own address: the kernel then delivers twice.
//!
//! *The host* is the set of frames that an unbound packet socket of one protocol on the parent is
//! shown as its own (HOST, BROADCAST, MULTICAST): a bound one would also match frames handed on to
//! ports.
//!
//! What can go wrong: macvlan floods from a work queue, so silence has to last a while before it
//! counts; and a device takes a moment until it sends, so every topology is warmed up first.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod judge;
mod kernel;
mod program;
mod socket;
mod stimuli;
mod topology;
mod world;

use judge::Judge;
use topology::ask;
use world::World;

#[test]
fn the_kernel_does_as_the_model_says() {
    let mut judge = Judge::default();
    for world in World::all() {
        let stimuli = stimuli::of(&world);
        let got = ask(&mut kernel::Kernel::new(&world), &world, &stimuli);
        judge.kernel(&world, &stimuli, &got);
    }
    judge.verdict();
}

#[test]
fn the_program_does_as_the_kernel_does() {
    let mut judge = Judge::default();
    for world in World::all() {
        let stimuli = stimuli::of(&world);
        let kernel = ask(&mut kernel::Kernel::new(&world), &world, &stimuli);
        let program = ask(&mut program::Program::new(&world), &world, &stimuli);
        judge.program(&world, &stimuli, &program, Some(&kernel));
    }
    judge.verdict();
}

#[test]
fn the_program_does_better_where_it_may() {
    let mut judge = Judge::default();
    for world in World::all().into_iter().map(World::improved) {
        let stimuli = stimuli::of(&world);
        let program = ask(&mut program::Program::new(&world), &world, &stimuli);
        judge.program(&world, &stimuli, &program, None);
    }
    judge.verdict();
}
