//! QEMU's arguments.
//!
//! Two things are easily forgotten: guest memory must be shared (a memfd back-end), and `queues=`
//! counts pairs. A device of several pairs needs `mq=on` and two interrupt vectors for each pair
//! plus two. QEMU allows a `tx_queue_size` above 256 with vhost-user only; it is worth it. A comma
//! in a value is doubled.
//!
//! The size of memory stands in one place: from QEMU 5.0 on, `-machine memory-backend=` makes the
//! memory back-end the guest's memory, with its size. Several `-machine` options add up, so the
//! user's `-machine q35` stays. QEMU refuses a `-m` of another size.
//!
//! One option has two names, and no spelling fits all versions: QEMU knows `reconnect=` (seconds) up to
//! 10.1, and `reconnect-ms=` from 9.2 on. [`probe`] asks the QEMU at hand. For a QEMU that cannot be
//! asked the older form is printed, and a note says so: most releases in use take it, and a newer QEMU
//! refuses it by name at once.
//!
//! `vectors=0` is not printed: it costs a guest on KVM much of its speed (INTx instead of MSI-X).
//! Without KVM, QEMU 7.2 needs it, because it crashes when a vhost-user network device starts with
//! MSI-X. For a QEMU that old a note says so.

mod bounded_run;
mod probe;

use std::path::{Path, PathBuf};

use crate::print::qemu::probe::Reconnect;

use crate::error::{Error, Result};
use crate::print::shell::{lines, quoted};
use crate::print::shown_port::{RING_SIZE, ShownPort};

/// Guest memory unless the user gives a size: an example, which a note says.
const MEMORY: &str = "1G";

/// The first QEMU that is known not to crash without KVM when a vhost-user network device starts
/// with MSI-X. QEMU 7.2 crashes. The versions between were not tried.
const MSIX_WITHOUT_KVM: (u32, u32) = (10, 0);

/// The known facts of the QEMU that the arguments are for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Known {
    /// Its first line of `--version`, and the version in it.
    Version(String, (u32, u32)),
    /// It has not answered, for this reason.
    Nothing(String),
}

impl Default for Known {
    fn default() -> Known {
        Known::Nothing("not asked".to_owned())
    }
}

/// The QEMU to print for: how much memory its guest has, and which options it takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Qemu {
    binary: Option<PathBuf>,
    memory: Option<String>,
    reconnect: Reconnect,
    known: Known,
}

impl Qemu {
    /// A QEMU of this path, or of this name in `PATH`, or else of one of the usual names. `memory`
    /// is the size of its guest's memory as the user typed it. QEMU is not asked yet.
    ///
    /// # Errors
    /// `memory` is not a size.
    pub fn new(binary: Option<&Path>, memory: Option<&str>) -> Result<Qemu> {
        let memory = memory.map(memory_size).transpose()?;
        Ok(Qemu { binary: binary.map(Path::to_owned), memory, ..Qemu::default() })
    }

    /// Asks QEMU which options it takes. It is no error if QEMU is missing or does not answer
    /// within five seconds: then the arguments fit most versions, and the note gives the reason.
    pub fn ask(&mut self) {
        self.known = match crate::print::qemu::probe::ask(self.binary.as_deref()) {
            Ok(answer) => {
                self.reconnect = answer.reconnect;
                Known::Version(answer.name, answer.version)
            }
            Err(reason) => Known::Nothing(reason),
        };
    }

    /// The arguments, one a line.
    pub(super) fn text(&self, ports: &[ShownPort]) -> String {
        let memory = self.memory.as_deref().unwrap_or(MEMORY);
        let mut arguments = vec![
            format!("-object memory-backend-memfd,id=vhu-mem,size={memory},share=on"),
            "-machine memory-backend=vhu-mem".to_owned(),
        ];
        for (index, shown) in ports.iter().enumerate() {
            arguments.extend(self.port(index, shown));
        }
        lines(&arguments)
    }

    /// Remarks for the user beside the arguments.
    pub(super) fn note(&self, listens: bool) -> String {
        let mut note = String::new();
        if self.memory.is_none() {
            note.push_str(&format!(
                "note: {MEMORY} of memory is an example: give --memory SIZE, and no -m of your own\n"
            ));
        }
        match &self.known {
            Known::Version(name, version) => {
                note.push_str(&format!("note: these arguments are for {name}\n"));
                if *version < MSIX_WITHOUT_KVM {
                    note.push_str(
                        "note: without KVM (-accel tcg) QEMU 7.2 crashes when the guest's driver \
                         starts: add vectors=0 to each virtio-net-pci device then\n",
                    );
                }
            }
            Known::Nothing(reason) if listens => note.push_str(&format!(
                "note: no QEMU has reported its options ({reason}): QEMU 10.2 and later need \
                 reconnect-ms=1000 instead of reconnect=1; --qemu BINARY asks yours\n"
            )),
            Known::Nothing(_) => {}
        }
        note
    }

    fn port(&self, index: usize, shown: &ShownPort) -> [String; 3] {
        let (path, qemu_listens) = shown.socket();
        let path = path.to_string_lossy().replace(',', ",,");
        let meet = match (qemu_listens, self.reconnect) {
            (true, _) => "server=on,wait=off",
            (false, Reconnect::Seconds) => "reconnect=1",
            (false, Reconnect::Milliseconds) => "reconnect-ms=1000",
        };
        let pairs = shown.port.queue_pairs;
        let mut device = format!("virtio-net-pci,netdev=vhu{index},mac={}", shown.mac);
        if pairs > 1 {
            device.push_str(&format!(",mq=on,vectors={}", 2 * pairs + 2));
        }
        device.push_str(&format!(",rx_queue_size={RING_SIZE},tx_queue_size={RING_SIZE}"));
        if let Some(mtu) = shown.port.mtu {
            device.push_str(&format!(",host_mtu={mtu}"));
        }
        [
            format!("-chardev {}", quoted(&format!("socket,id=vhu{index},path={path},{meet}"))),
            format!("-netdev vhost-user,id=vhu{index},chardev=vhu{index},queues={pairs}"),
            format!("-device {device}"),
        ]
    }
}

/// The size of the guest's memory in QEMU's spelling. A number alone counts MiB, as with QEMU's
/// `-m`; in the memory back-end's `size=` it would count bytes.
fn memory_size(typed: &str) -> Result<String> {
    let wrong = || {
        let reason = "expected a size: a number of MiB, or 512M, 4G, 1T";
        Error::invalid_value(format!("--memory {typed}"), reason, "")
    };
    let text = typed.trim_end_matches("iB").trim_end_matches(['b', 'B']);
    let (digits, unit) = match text.chars().last() {
        Some(unit) if unit.is_ascii_alphabetic() => {
            (&text[..text.len() - 1], unit.to_ascii_uppercase())
        }
        _ if text.len() < typed.len() => return Err(wrong()),
        _ => (text, 'M'),
    };
    let shift = match unit {
        'M' => 20,
        'G' => 30,
        'T' => 40,
        _ => return Err(wrong()),
    };
    if !digits.chars().all(|c| c.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    // No machine has as much; QEMU's own limit is one of 63 bits.
    match number.checked_mul(1 << shift) {
        Some(bytes) if bytes > 0 && i64::try_from(bytes).is_ok() => Ok(format!("{number}{unit}")),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_counted_as_qemu_counts_it() {
        let sizes = [("1G", "1G"), ("512", "512M"), ("2g", "2G"), ("768MiB", "768M"), ("1T", "1T")];
        for (typed, printed) in sizes {
            assert_eq!(memory_size(typed).unwrap(), printed, "{typed}");
        }
        for typed in ["", "G", "0", "-1G", "+1G", "1K", "1.5G", "1 G", "1GG", "512B", "9999999T"] {
            let error = memory_size(typed).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--memory {typed}: ")), "{error}");
        }
    }
}
