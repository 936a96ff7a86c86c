//! The five ways in which a port shares its parent with its siblings.
//!
//! The names and meanings are the kernel's (`ip link add ... type macvtap mode NAME`): what differs
//! is who hears whom. `docs/modes.md` has the tables.

use std::fmt;
use std::str::FromStr;

use crate::suggest;

/// How a port shares its parent with its siblings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Siblings talk directly, without the wire.
    #[default]
    Bridge,
    /// Everything goes to the wire; a hairpin switch brings back what is for a sibling.
    Vepa,
    /// Siblings never hear each other's broadcasts, even through a hairpin switch.
    Private,
    /// The only port of its parent, with the parent's MAC address.
    Passthru,
    /// Frames are taken by their source address, from a list.
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

    fn from_str(text: &str) -> Result<Mode, String> {
        // QEMU's, VFIO's and libvirt's spelling.
        let word = match suggest::plain(text) {
            word if word == "passthrough" => Mode::Passthru.name().to_owned(),
            word => word,
        };
        Mode::ALL.into_iter().find(|mode| mode.name() == word).ok_or_else(|| {
            let names = Mode::ALL.map(Mode::name);
            let question = suggest::question(text, &names, suggest::FOREIGN_VALUES);
            format!("'{text}' is not a mode: bridge, vepa, private, passthru or source{question}")
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
        assert_eq!("Bridge".parse::<Mode>().unwrap(), Mode::Bridge);
        assert_eq!("PassThrough".parse::<Mode>().unwrap(), Mode::Passthru);
        let fault = "brigde".parse::<Mode>().unwrap_err();
        assert!(fault.ends_with("passthru or source; did you mean bridge?"), "{fault}");
    }
}
