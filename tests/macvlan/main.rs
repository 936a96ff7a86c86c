//! The life of userspace ports (`type=macvlan`): many guests, a parent that comes and goes, an end
//! by force.
//!
//! `tests/oracle/main.rs` checks the receivers of a frame, `tests/offload/main.rs` its content,
//! both with everything at rest. Here things happen: a hundred ports at once, a process that is
//! killed, a cable that is pulled, a guest that changes its address. Every test runs the real
//! program in namespaces, with guests of the tests' own VMM, and asks as an operator would: do
//! frames flow, is the host as it was, does the log report it, does the process sleep meanwhile?
//!
//! | file | what happens |
//! | --- | --- |
//! | `testkit/src/userspace.rs` | the bench: one process on one parent, its guests, the LAN |
//! | `macvlan/stream.rs` | traffic between two siblings, counted; the host's own |
//! | `macvlan/hundred.rs` | a hundred ports; guests that leave, guests that take nothing |
//! | `macvlan/idle.rs` | the cost of a thousand guests that do nothing |
//! | `macvlan/ending.rs` | SIGKILL and SIGTERM, and the host's state afterwards |
//! | `macvlan/parent.rs` | the parent goes down, away, by another name, and comes back |
//! | `macvlan/exclusive.rs` | one parent, one process; addresses that are taken |
//! | `macvlan/address.rs` | learned, adopted and refused addresses of guests |
//! | `macvlan/hearing.rs` | the host's reception beside passthru and source ports |
//! | `macvlan/offloads.rs` | large and unfinished frames between guests and the LAN |
//! | `macvlan/queues.rs` | several queue pairs: flows stay together, nothing comes twice |
//!
//! What can go wrong with the tests: times are those that users are promised and hold for a busy
//! machine of two processors. A stream that loses nothing is one that waits for what it has sent:
//! it shows loss, not throughput.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod address;
mod ending;
mod exclusive;
mod hearing;
mod hundred;
mod idle;
mod offloads;
mod parent;
mod queues;
mod stream;
