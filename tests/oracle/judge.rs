//! The expected receivers, and the actual ones: reports all differences of all worlds together.

use std::collections::BTreeSet;

use vhost_user_macvtap::net::ethernet::EthernetHeader;
use vhost_user_macvtap::net::mac::Mac;
use vhost_user_macvtap::net::mode::Mode;
use vhost_user_macvtap::switch::{Receivers, from_guest, from_wire};

use crate::stimuli::{PAUSE_TYPE, Stimulus};
use crate::topology::{Copies, Origin, To};
use crate::world::{PARENT, World};
use testkit::frames;
use testkit::switch_model::{self as model, Outcome};

type Set = BTreeSet<To>;

#[derive(Default)]
pub struct Judge {
    differences: Vec<String>,
    frames: usize,
    by_hash: usize,
}

impl Judge {
    /// A kernel's answers against the model's.
    pub fn kernel(&mut self, world: &World, stimuli: &[Stimulus], got: &Copies) {
        for stimulus in stimuli {
            let must = self.expected(world, stimulus);
            let may = may_by_hash(world, stimulus);
            let got = self.receivers(world, stimulus, got);
            if got.is_subset(&may) && got.is_superset(&must) {
                self.by_hash += got.difference(&must).count();
            } else {
                self.differ(world, stimulus, "the kernel", &got, &must);
            }
        }
    }

    /// The program's answers against the model's, and against a kernel's where its ports are
    /// compat.
    pub fn program(
        &mut self,
        world: &World,
        stimuli: &[Stimulus],
        got: &Copies,
        by_kernel: Option<&Copies>,
    ) {
        for stimulus in stimuli {
            // A compat port does not check its guest's source addresses, as the kernel does not.
            let kept = match stimulus.from {
                Origin::Port(id) if !world.compat => {
                    let port = &world.ports[id];
                    let guarded = port.mode != Mode::Passthru && is_link_control(stimulus);
                    guarded || stimulus.src() != port.mac
                }
                _ => false,
            };
            let must = if kept { Set::new() } else { self.expected(world, stimulus) };
            let got = self.receivers(world, stimulus, got);
            if got != must {
                self.differ(world, stimulus, "the program", &got, &must);
            }
            let Some(by_kernel) = by_kernel.filter(|_| !kept) else { continue };
            let kernel = self.receivers(world, stimulus, by_kernel);
            let may = may_by_hash(world, stimulus);
            if !kernel.is_superset(&got) || !kernel.is_subset(&may) {
                self.differ(world, stimulus, "the program beside the kernel", &got, &kernel);
            }
        }
    }

    /// Ends the test if anything was different.
    pub fn verdict(self) {
        println!("{} frames, {} passed the kernel's hash unjoined", self.frames, self.by_hash);
        let count = self.differences.len();
        assert!(count == 0, "{count} differences:\n{}", self.differences.join("\n"));
        assert!(self.frames > 1000, "the stimuli are missing");
    }

    /// The switch's answer, which must be the model's too.
    fn expected(&mut self, world: &World, stimulus: &Stimulus) -> Set {
        self.frames += 1;
        let modelled = modelled(world, stimulus, None);
        let table = world.table();
        let head = EthernetHeader {
            dst: stimulus.dst(),
            src: stimulus.src(),
            ethertype: stimulus.ethertype(),
        };
        let verdict = match stimulus.from {
            Origin::Wire => from_wire(&table, &head),
            Origin::Port(id) => from_guest(&table, id as u16, &head, stimulus.bytes.len(), false),
        };
        let mut ports: Vec<usize> = match verdict.to {
            Receivers::None => vec![],
            Receivers::One(id) => vec![id.into()],
            Receivers::Many(selection) => {
                selection.receivers(&table, &head).map(Into::into).collect()
            }
        };
        ports.sort_unstable();
        let said = (verdict.wire, ports);
        assert_eq!(said, (modelled.wire, modelled.ports.clone()), "{}: {stimulus:?}", world.name);
        as_set(&modelled, stimulus)
    }

    /// The receivers. A copy too many, or one with other bytes, is a difference at once.
    fn receivers(&mut self, world: &World, stimulus: &Stimulus, copies: &Copies) -> Set {
        let mut set = Set::new();
        for (to, bytes) in copies.get(&stimulus.tag()).into_iter().flatten() {
            let mut sent = stimulus.bytes.clone();
            if *to == To::Host && stimulus.vlan() == Some(0) {
                // A tag without a VLAN is thrown away on the way to the host's stack.
                sent.drain(12..16);
            }
            if *bytes != sent {
                self.differences.push(format!("{}: other bytes: {}", world.name, tell(stimulus)));
            }
            if !set.insert(*to) {
                self.differences.push(format!("{}: twice: {}", world.name, tell(stimulus)));
            }
        }
        set
    }

    fn differ(&mut self, world: &World, stimulus: &Stimulus, who: &str, got: &Set, want: &Set) {
        let cable = if world.cable { "" } else { " (no cable)" };
        let cable = if world.compat { cable.to_owned() } else { format!("{cable} (improved)") };
        let what = tell(stimulus);
        let name = world.name;
        self.differences.push(format!("{name}{cable}: {what}: {who} {got:?}, not {want:?}"));
    }
}

fn modelled(world: &World, stimulus: &Stimulus, also_joined: Option<Mac>) -> Outcome {
    let ports = world.model(also_joined);
    let frame = model::Frame {
        dst: stimulus.dst().0,
        src: stimulus.src().0,
        ethertype: stimulus.ethertype(),
        len: stimulus.bytes.len(),
        gso: false,
    };
    match stimulus.from {
        Origin::Wire => model::from_wire(&ports, &frame),
        Origin::Port(id) => model::from_guest(&ports, (world.cable, 1500), id, &frame),
    }
}

/// PAUSE, and frames to the bridges, which a guest may not send. No stimulus is LLC or LLDP.
fn is_link_control(stimulus: &Stimulus) -> bool {
    let reserved = matches!(stimulus.dst().0, [0x01, 0x80, 0xc2, 0, 0, 0 | 1 | 8]);
    reserved || stimulus.ethertype() == PAUSE_TYPE
}

/// All receivers if every filter takes the frame's group by accident.
fn may_by_hash(world: &World, stimulus: &Stimulus) -> Set {
    as_set(&modelled(world, stimulus, Some(stimulus.dst())), stimulus)
}

/// Whether the parent's own stack takes a frame that it is shown for its own.
fn for_host(stimulus: &Stimulus) -> bool {
    let to_it = stimulus.dst().is_group() || stimulus.dst() == PARENT;
    // A VLAN that the host has no device for is not the host's.
    to_it && stimulus.vlan().unwrap_or(0) == 0
}

fn as_set(outcome: &Outcome, stimulus: &Stimulus) -> Set {
    let mut set: Set = outcome.ports.iter().map(|&id| To::Port(id)).collect();
    set.extend(outcome.wire.then_some(To::Wire));
    set.extend((outcome.host && for_host(stimulus)).then_some(To::Host));
    set
}

fn tell(stimulus: &Stimulus) -> String {
    let (src, dst) = (stimulus.src(), stimulus.dst());
    let kind = stimulus.ethertype();
    let vlan = stimulus.vlan().map(|vid| format!(" vlan {vid}")).unwrap_or_default();
    let len = stimulus.bytes.len();
    assert!(len >= 64 && frames::ethertype(&stimulus.bytes) == kind);
    format!("{:?}, {src} to {dst}, type {kind:04x}{vlan}, {len} bytes", stimulus.from)
}
