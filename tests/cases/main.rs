//! Regression tests of the findings of an audit, of other projects and of a first-time user; one
//! test for each input.
//!
//! | file | kind |
//! | --- | --- |
//! | `qemu_args` | the arguments printed for the QEMU at hand |
//! | `requests` | requests of a front-end that was not set up for them, or must not make them |
//! | `logs` | every source of log lines, in a loop; lines that nothing reads |
//! | `loops` | front-ends that come and go in a loop |
//! | `recorded`, `toll` | messages of real front-ends; the cost of a loop for the others |
//! | `memory` | guest memory that is too large, in too many regions, or of the wrong kind |
//! | `truncation` | guest memory that goes away at any moment of a connection |
//! | `printers` | the arguments printed for a VMM fit the running port |
//! | `sockets` | the socket's owner, group and mode, as the VMM's user meets them |
//! | `starting` | a start that fails makes nothing, and names every error |
//! | `typing` | mistakes of a new user: other programs' words, wrong letters, wrong tables |
//! | `descriptors` | descriptors of every kind beside every kind of message |
//! | `hangs` | threads that hang or cannot be started, floods: SIGTERM is obeyed |
//! | `silent_files` | files whose server falls silent |
//! | `signals` | signals that are sent by habit or by mistake |
//! | `unit` | the systemd unit, run by its own rules; exit codes |
//! | `long_turns` | the cost of one guest's frame or ring for its neighbours |
//! | `turns` | bounded work in every turn of a worker, and no waiting for a guest or front-end |
//! | `pair` | (the bench of the frames) two guests, and a cable that ends at the test |
//! | `segments` | segmentation headers whose frame lies about its lengths |
//! | `groups` | multicast groups of `--compat` ports |
//! | `tags` | VLAN tags on top of a full MTU |
//! | `cable` | frames of the link itself: PAUSE, spanning tree, LLDP |
//! | `devices` | changes by another program to a port's device are reported and put right |
//! | `addresses` | the addresses that a port takes from its guest, and those that it must refuse |
//! | `names` | a parent by any name that the kernel knows |
//! | `parents` | devices that other programs put on a parent, or over it; a user namespace |
//! A test is named `bug_` and the number of its input: `b` frames and host, `u` users, `s` harm by
//! tenants, `f` a finding of the audit. Each fails on the program before the repair, and its
//! comment describes that failure.
//! what was seen then.
//!
//! What can go wrong with the tests: see `tests/hostile.rs`. A claim of a time holds for a busy
//! machine of two processors.

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
