//! All deeds of the hostile party, in one list.
//!
//! Add each new way to do harm here, from any test: a function of the party, and a row with the
//! number of its input (S1 to S10, U2, findings F1 to F24) or in words. `guest.rs` has the deeds
//! that a guest alone can do with its rings, `memory.rs` those of a VMM with memory and
//! descriptors, `connection.rs` those with messages and connections.

use super::party::Party;
use super::{connection, guest, memory};

pub type Deed = (&'static str, fn(&mut Party));

pub const DEEDS: &[Deed] = &[
    ("S1 receive buffers that cannot be used", guest::useless_receive_buffers),
    ("S10 frames that belong to the cable", guest::frames_of_the_cable),
    ("F12 U4 S8 foreign source addresses", guest::foreign_sources),
    ("F14 chains as long as they can be", guest::longest_chains),
    ("F15 super-frames for everybody", guest::super_frames_for_all),
    ("broken transmit chains", guest::broken_chains),
    ("broken indirect tables", guest::broken_tables),
    ("indices out of their mind", guest::wild_indices),
    ("headers at random", guest::random_headers),
    ("rings full of random bytes", guest::random_rings),
    ("S2 F10 more descriptors than a message may have", memory::too_many_descriptors),
    ("S3 F6 regions without end", memory::endless_regions),
    ("S4 F4 parts of huge pages", memory::parts_of_huge_pages),
    ("S5 F7 sparse files of many TiB", memory::sparse_giants),
    ("S6 F3 a call descriptor that blocks", memory::blocking_call),
    ("S7 F8 F9 F21 descriptors of every kind", memory::descriptors_of_every_kind),
    ("F2 memory truncated while the connection ends", memory::truncated_at_the_end),
    ("F20 addresses that are not aligned", memory::unaligned),
    ("memory truncated in use", memory::truncated_in_use),
    ("S9 F11 announcements without end", connection::announcements),
    ("F16 refusals without end", connection::refusals),
    ("F16 kicks at /dev/null", connection::kicks_at_null),
    ("F19 a ring switched on and off", connection::toggled_rings),
    ("U2 connections that come and go", connection::comes_and_goes),
    ("U2 a second front-end", connection::second_front_end),
    ("F24 requests that were not negotiated", connection::not_negotiated),
    ("messages out of shape", connection::out_of_shape),
    ("rings that do not exist", connection::rings_that_do_not_exist),
    ("requests at random", connection::random_requests),
    ("a handshake in any order", connection::shuffled_handshake),
];
