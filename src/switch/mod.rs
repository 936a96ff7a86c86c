//! The switch of userspace macvlan ports: which ports get a frame. Pure: headers in, verdicts out.
//!
//! The kernel's macvlan (drivers/net/macvlan.c, Linux 6.18) is the specification, and tests compare the
//! two, frame by frame (`tests/oracle/main.rs`). With `compat=on` a port behaves exactly like a macvtap,
//! except for two things named below. Without it, a port behaves better in the places listed under
//! *Improvements*.
//!
//! | file | idea |
//! | --- | --- |
//! | [`decide`] | The two decisions: the verdict on a frame from a guest, and on one from the wire |
//! | [`selection`] | The receivers of a flooded frame: a description, and the walk over it |
//! | [`verdict`] | The verdict on a frame: its receivers, or the reason that there are none |
//! | [`table`] | An immutable snapshot of a parent's ports, laid out for deciding |
//! | [`port_id`] | A port's number in a snapshot |
//! | [`lookup`] | From a MAC address to a port |
//! | [`link_control`] | Frames between the two ends of one cable, which a guest may not send |
//! | [`groups`] | The multicast groups that a port's guest has joined |
//! | [`snoop`] | The source of these groups: the guest's IGMP and MLD reports |
//! | [`stations`] | The machines that were seen on the wire, whose addresses no guest may take |
//!
//! # From a guest
//!
//! What port `a` sends, in the five modes; `b` is a sibling in the same one.
//!
//! | frame | private | vepa | bridge | passthru | source |
//! | --- | --- | --- | --- | --- | --- |
//! | to b | wire | wire | b, not the wire | (no sibling) | wire |
//! | to b, in another mode or down | wire | wire | wire | | wire |
//! | to a itself | wire | wire | a, not the wire | wire | wire |
//! | to the host or any other station | wire | wire | wire | wire | wire |
//! | broadcast, multicast | wire | wire | wire and those of the siblings in bridge mode that want it | wire | wire |
//! | PAUSE (type 0x8808) to a group | wire | wire | wire | wire | wire |
//!
//! No mode reads the source address, with one exception: a bridge port's frame to a sibling also
//! reaches the source ports that list its sender.
//!
//! # From the wire
//!
//! *Reflected* is a frame whose source is the address of port `a`: a hairpin switch has sent it back.
//! "Source" stands for the source ports that list the sender. They get the frame first of all, whatever
//! the destination; when one of them has `nodst`, no other port does.
//!
//! | frame | private | vepa | bridge | passthru | source |
//! | --- | --- | --- | --- | --- | --- |
//! | to b | b | b | b | the port | source |
//! | to b, reflected | b | b | b | the port | source |
//! | to no port, also to one that is down | | | | the port | source |
//! | broadcast, multicast | all that want it | all that want it | all that want it | the port, if it wants it | source |
//! | the same, reflected | back to a only | siblings in modes vepa and bridge | siblings in mode vepa | back to a | back to a, and source |
//! | PAUSE to a group | | | | | source |
//!
//! # Improvements
//!
//! In force for a port unless it is `compat`, and between two ports unless both are.
//!
//! 1. A port's own broadcast or multicast that is reflected is not given back to it. (The kernel does
//!    that in modes private, passthru and source; a guest then takes its own neighbour solicitation
//!    for a duplicate of its address, RFC 4862, section 5.4.3.)
//! 2. Private is private: a reflected frame does not pass between two ports when one of them is
//!    private, not even unicast.
//! 3. Siblings in mode bridge reach each other while the parent is down or has no carrier. Here the
//!    sender alone decides.
//! 4. A port wants every group; a guest knows best what it has joined. The reserved groups
//!    01:80:c2:00:00:00 to 0f concern the two ends of a cable: they are not flooded between siblings, and
//!    a port may refuse them (`reserved`).
//! 5. No fragment is reassembled on the way, broadcasts stay in order with all other frames, and the
//!    length of a frame to a sibling is not measured.
//!
//! A compat port differs from a macvtap in two things. It receives exactly the groups that its
//! guest has joined, not those besides that share a hash value; and the first half of 5 holds for
//! it too. And no port ever gets a frame twice, which the kernel does to a source port that lists
//! its own address.

pub(crate) mod decide;
pub(crate) mod groups;
pub(crate) mod link_control;
pub(crate) mod lookup;
pub(crate) mod port_id;
pub(crate) mod selection;
pub(crate) mod snoop;
pub(crate) mod stations;
pub(crate) mod table;
pub(crate) mod verdict;

pub use decide::from_guest;
pub use decide::from_wire;
pub use groups::Groups;
pub use link_control::LOOK;
pub use link_control::is_link_control;
pub use link_control::may_be_link_control;
pub use port_id::PortId;
pub use selection::Selection;
pub use snoop::Membership;
pub use snoop::memberships;
pub use snoop::worth_a_look;
pub use stations::Stations;
pub use table::ParentFacts;
pub use table::Rules;
pub use table::Table;
pub use verdict::{Receivers, Verdict};
