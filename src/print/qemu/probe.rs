//! The options that the QEMU at hand takes.
//!
//! `-chardev socket,help` lists the options of a socket chardev and ends. It answers for this very
//! build, including a distribution's patches. A QEMU that knows both names (9.2 to 10.1) gets the
//! newer one. `--version` is for the note, and for facts that no list of options has.
//!
//! Without a name the usual programs are looked for: `qemu-system-x86_64` (of the host's
//! architecture) and `kvm` in `PATH`, and the place where Red Hat's distributions keep theirs.
//!
//! What can go wrong: the program does not exist, is not QEMU, hangs, or floods. Each is a reason
//! in text, for the note beside the printed arguments.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::print::qemu::bounded_run::output;

/// Where a QEMU without a name in `PATH` lies on some distributions.
const BESIDE_PATH: &str = "/usr/libexec/qemu-kvm";

/// The option that makes QEMU connect again after the back-end was restarted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Reconnect {
    /// `reconnect=`, up to QEMU 10.1.
    #[default]
    Seconds,
    /// `reconnect-ms=`, from QEMU 9.2 on.
    Milliseconds,
}

/// A QEMU's answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Its name for itself: `QEMU 10.0.2 (/usr/bin/qemu-system-x86_64)`.
    pub name: String,
    /// Major and minor version.
    pub version: (u32, u32),
    /// The name of the option to connect again.
    pub reconnect: Reconnect,
}

/// Asks the QEMU of this path or name, or the usual one. Errors: the reason why none has answered.
pub(super) fn ask(binary: Option<&Path>) -> Result<Answer, String> {
    let program = match binary {
        Some(name) => find(name).ok_or_else(|| {
            let wher = if is_path(name) { "" } else { " in PATH" };
            format!("{}: no such program{wher}", name.display())
        })?,
        None => usual().ok_or_else(|| format!("no {} in PATH", names()[0]))?,
    };
    let run = |arguments: &[&str]| {
        output(&program, arguments).map_err(|reason| format!("{}: {reason}", program.display()))
    };
    // The version first: a program that is not QEMU should get no stranger question.
    let version = run(&["--version"])?;
    let (words, version) = parse_version(&version).ok_or_else(|| {
        format!("{}: it does not answer --version as QEMU does", program.display())
    })?;
    let reconnect = parse_options(&run(&["-chardev", "socket,help"])?)
        .ok_or_else(|| format!("{}: it lists no option to connect again", program.display()))?;
    Ok(Answer { name: format!("QEMU {words} ({})", program.display()), version, reconnect })
}

/// The version in the first line of `--version`, as text and as numbers.
fn parse_version(text: &str) -> Option<(String, (u32, u32))> {
    let line = text.lines().find(|line| line.starts_with("QEMU emulator version "))?;
    let words = line.strip_prefix("QEMU emulator version ")?.split(' ').next()?;
    let mut numbers = words.split('.').map(|number| number.parse().ok());
    let version = (numbers.next()??, numbers.next()??);
    // It is shown on a terminal.
    words.chars().all(|c| c.is_ascii_graphic()).then(|| (words.to_owned(), version))
}

/// The better one of the options to connect again that a help text lists.
fn parse_options(help: &str) -> Option<Reconnect> {
    let lists = |name: &str| help.lines().any(|line| line.trim_start().starts_with(name));
    if lists("reconnect-ms=") {
        return Some(Reconnect::Milliseconds);
    }
    lists("reconnect=").then_some(Reconnect::Seconds)
}

/// The names of a QEMU for guests of the host's kind, the likeliest first.
fn names() -> [String; 2] {
    let arch = match std::env::consts::ARCH {
        "x86" => "i386",
        "powerpc64" => "ppc64",
        arch => arch,
    };
    [format!("qemu-system-{arch}"), "kvm".to_owned()]
}

fn usual() -> Option<PathBuf> {
    let in_path = names().into_iter().find_map(|name| find(Path::new(&name)));
    in_path.or_else(|| find(Path::new(BESIDE_PATH)))
}

fn is_path(name: &Path) -> bool {
    name.components().count() > 1 || name.as_os_str().as_encoded_bytes().contains(&b'/')
}

/// The program of this path, or of this name in `PATH`.
fn find(name: &Path) -> Option<PathBuf> {
    if is_path(name) {
        return is_program(name).then(|| name.to_owned());
    }
    find_in(&std::env::var_os("PATH")?, name)
}

/// A relative directory in `PATH` is passed over: the user did not choose the programs in the
/// current directory.
fn find_in(path: &OsStr, name: &Path) -> Option<PathBuf> {
    let places = std::env::split_paths(path).filter(|place| place.is_absolute());
    places.map(|place| place.join(name)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_qemu_writes_them() {
        let debian = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright";
        assert_eq!(parse_version(debian), Some(("7.2.22".to_owned(), (7, 2))));
        let plain = "QEMU emulator version 10.2.0\n";
        assert_eq!(parse_version(plain), Some(("10.2.0".to_owned(), (10, 2))));
        let built = "warning: x\nQEMU emulator version 11.0.50 (v11.0.0-1-gabc-dirty)\n";
        assert_eq!(parse_version(built), Some(("11.0.50".to_owned(), (11, 0))));
        for other in ["", "QEMU", "QEMU emulator version x.y", "QEMU emulator version 1.2\x1b[m"] {
            assert_eq!(parse_version(other), None, "{other}");
        }
    }

    #[test]
    fn of_two_names_the_one_that_stays_is_taken() {
        let list =
            |lines: &[&str]| parse_options(&format!("socket options:\n{}", lines.join("\n")));
        assert_eq!(list(&["  path=<str>", "  reconnect=<num>"]), Some(Reconnect::Seconds));
        let both = ["  reconnect=<num>", "  reconnect-ms=<num>"];
        assert_eq!(list(&both), Some(Reconnect::Milliseconds));
        assert_eq!(list(&["  reconnect-ms=<num>"]), Some(Reconnect::Milliseconds));
        assert_eq!(list(&["  tls-reconnect=<num>", "  reconnected=<bool>"]), None);
    }

    #[test]
    fn only_programs_in_absolute_places_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("qemu");
        std::fs::write(&file, "").unwrap();
        let places = format!(":.:target:{}", dir.path().display());
        let found = || find_in(OsStr::new(&places), Path::new("qemu"));
        assert_eq!(found(), None, "it cannot be run");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(found(), Some(file));
        assert_eq!(find_in(OsStr::new(&places), Path::new("Cargo.toml")), None);
    }
}
