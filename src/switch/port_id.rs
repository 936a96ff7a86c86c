//! A port's number in a snapshot of the forwarding table.
//!
//! It is the port's place in the list that the table was made of. Another snapshot may give the
//! number to another port, so a number must not outlive its snapshot.

/// A port's place in its [`Table`](crate::switch::Table).
pub type PortId = u16;

/// Stands for "no port" where an option would need more room. A table holds no port of this number.
pub(crate) const NO_PORT: PortId = PortId::MAX;
