//! Regression tests of what an audit, other people's troubles and a first-time user found; one test for each input.
//!
//! | file | kind |
//! | --- | --- |
//! | `qemu_args` | what is printed for the QEMU at hand |
//! | `requests` | what a front-end asks for that it was not given, or must not have |
//! | `logs` | every source of log lines, in a loop; lines that nothing reads |
//! | `loops` | front-ends that come and go in a loop |
//! | `recorded`, `toll` | what real front-ends send; what a loop costs the others |
//! | `memory` | guest memory that is too much, too many, or not what it seems |
//! | `truncation` | guest memory that goes away at any moment of a connection |
//! | `printers` | what is printed for a VMM is what the running port has |
//! | `sockets` | the socket's owner, group and mode, as the VMM's user meets them |
//! | `starting` | a start that fails makes nothing, and says everything |
//! | `typing` | what a new user types: other programs' words, wrong letters, wrong tables |
//! | `descriptors` | descriptors of every kind beside every kind of message |
//! | `hangs` | threads that hang or cannot be started, floods: SIGTERM is obeyed |
//! | `silent_files` | files whose server falls silent |
//! | `signals` | signals that are sent by habit or by mistake |
//! | `unit` | the systemd unit, run by the rules that stand in it; exit codes |
//! | `long_turns` | what one guest's frame or ring costs its neighbours |
//! | `turns` | bounded work in every turn of a worker, and no waiting for a guest or front-end |
//! | `pair` | (the bench of the frames) two guests, and a cable that ends at the test |
//! | `segments` | segmentation headers whose frame lies about its lengths |
//! | `groups` | multicast groups of `--compat` ports |
//! | `tags` | VLAN tags on top of a full MTU |
//! | `cable` | what belongs to the cable: PAUSE, spanning tree, LLDP |
//! | `devices` | what another program does to a port's device is told and put right |
//! | `addresses` | which address a port takes from its guest, and which it must not |
//! | `names` | a parent is what the kernel says it is, by whatever name |
//! | `parents` | what other programs put on a parent, or over it; a user namespace |
//!
//! A test is named `bug_` and the number of its input: `b` frames and host, `u` users, `s` harm by tenants, `f` a
//! finding of the audit. Each fails on the program as it was before the input was mended, and its comment says
//! what was seen then.
//!
//! What can go wrong with the tests: see `tests/hostile.rs`. A claim of a time holds for a busy machine of two processors.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod addresses;
mod cable;
mod descriptors;
mod devices;
mod groups;
mod hangs;
mod logs;
mod long_turns;
mod loops;
mod memory;
mod names;
mod pair;
mod parents;
mod printers;
mod qemu_args;
mod recorded;
mod requests;
mod segments;
mod signals;
mod silent_files;
mod sockets;
mod starting;
mod tags;
mod toll;
mod truncation;
mod turns;
mod typing;
mod unit;
