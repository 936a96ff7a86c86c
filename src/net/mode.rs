//! The five ways in which a port shares its parent with its siblings.
//!
//! The names and meanings are the kernel's (`ip link add ... type macvtap mode NAME`). The modes differ
//! in which ports receive which frames. `docs/modes.md` has the tables.

use std::fmt;
use std::str::FromStr;

/// How a port shares its parent with its siblings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Siblings exchange frames directly, without the wire.
    #[default]
    Bridge,
    /// Every frame goes to the wire; a hairpin switch sends back those for a sibling.
    Vepa,
    /// Siblings never receive each other's broadcasts, not even through a hairpin switch.
    Private,
    /// The only port of its parent, with the parent's MAC address.
    Passthru,
    /// The port receives the frames of the senders that it lists.
    Source,
}

impl Mode {
    /// All modes, in the order in which help texts name them.
    pub const ALL: [Mode; 5] =
        [Mode::Bridge, Mode::Vepa, Mode::Private, Mode::Passthru, Mode::Source];

    /// The name that iproute2 uses.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Bridge => "bridge",
            Mode::Vepa => "vepa",
            Mode::Private => "private",
            Mode::Passthru => "passthru",
            Mode::Source => "source",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(name: &str) -> Result<Mode, String> {
        let named = Mode::ALL.into_iter().find(|mode| mode.name() == name);
        named.ok_or_else(|| {
            format!("'{name}' is not a mode: bridge, vepa, private, passthru or source")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_back() {
        for mode in Mode::ALL {
            assert_eq!(mode.name().parse::<Mode>().unwrap(), mode);
        }
        let error = "brigde".parse::<Mode>().unwrap_err();
        assert!(error.ends_with("passthru or source"), "{error}");
    }
}
