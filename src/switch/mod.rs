//! The switch of userspace macvlan ports: who gets a frame. Pure: headers in, verdicts out.
//!
//! The kernel's macvlan (drivers/net/macvlan.c, Linux 6.18) is the specification, and tests hold the
//! two side by side, frame by frame (`tests/oracle.rs`). With `compat=on` a port behaves exactly like a
//! macvtap, save two things named below; without it, it behaves better in the places listed under
//! *Improvements*.
//!
//! | file | idea |
//! | --- | --- |
//! | `head` | the fourteen bytes by which a frame is forwarded |
//! | `vlan` | VLAN tags in front of a frame's type |
//! | `guard` | what belongs to the cable, and does not leave a guest |
//! | `table` | an immutable snapshot of a parent's ports, laid out for deciding |
//! | `lookup` | from an address to a port |
//! | `decide` | the two decisions, and the walk over the receivers of a flood |
//! | `group` | a multicast group on a VLAN, as a number |
//! | `groups` | the multicast groups that a port's guest has joined |
//! | `snoop` | how we know: the guest's IGMP and MLD reports |
//! | `stations` | the machines that were heard on the wire, whose addresses no guest may take |
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
//! No mode reads the source address, with one exception: a bridge port's frame to a sibling is also
//! heard by source ports that list its sender.
//!
//! # From the wire
//!
//! *Reflected* is a frame whose source is the address of port `a`: a hairpin switch has sent it back.
//! "Source" lists the sender. First of all, and whatever the destination, source ports that list the
//! sender get the frame; when one of them has `nodst`, nobody else does.
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
//!    private, be it unicast.
//! 3. Siblings in mode bridge hear each other while the parent is down or has no carrier. Here the
//!    sender alone decides.
//! 4. A port wants every group; a guest knows best what it has joined. The reserved groups
//!    01:80:c2:00:00:00 to 0f concern the two ends of a cable: they are not flooded between siblings, and a port may
//!    refuse them (`reserved`).
//! 5. No fragment is put together on the way, broadcasts stay in order with everything else, and the
//!    length of what goes to a sibling is not measured.
//!
//! A compat port differs from a macvtap in these: it hears exactly the groups that its guest has
//! joined, not those besides that share a hash value, and the first half of 5 holds for it too. And
//! no port ever gets a frame twice, which the kernel does to a source port that lists its own address.

pub mod decide;
pub mod groups;
pub mod link_control;
pub mod lookup;
pub mod snoop;
pub mod stations;
pub mod table;
pub mod verdict;

pub use decide::Selection;
pub use decide::from_guest;
pub use decide::from_wire;
pub use groups::Groups;
pub use link_control::LOOK;
pub use link_control::is_link_control;
pub use link_control::may_be_link_control;
pub use snoop::Membership;
pub use snoop::memberships;
pub use snoop::worth_a_look;
pub use stations::Stations;
pub use table::ParentFacts;
pub use table::Rules;
pub use table::Table;
pub use verdict::{PortId, Receivers, Verdict, Why};
