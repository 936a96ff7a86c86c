//! A port's name and MAC address where the user gives none.
//!
//! Both must be the same at every start and in every version, or guests would see a new network card
//! after an upgrade. So the hash is SipHash 2-4 with the keys below. The standard library's hash may
//! change. The name carries 16 hash bits: two ports of one process
//! may clash (once in 65536), which `siblings.rs` reports. The address has 46 random bits, locally
//! administered and unicast (IEEE 802-2014, section 8.2), so that a LAN of a thousand ports has a
//! clash with probability 10^-8.

use std::hash::Hasher;
use std::path::Path;
use std::sync::OnceLock;

use siphasher::sip::SipHasher24;

use crate::config::port_config::FrontendSocket;
use crate::net::mac::Mac;

/// "vhost-user" and "macvtap", nothing secret: they keep our values apart from other programs'.
const KEYS: (u64, u64) = (0x7668_6f73_742d_7573, 0x6572_6d61_6376_7470);

fn hash(parts: &[&[u8]]) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(KEYS.0, KEYS.1);
    for part in parts {
        hasher.write(part);
        // No part holds a zero byte, so ("ab", "c") and ("a", "bc") differ.
        hasher.write(&[0]);
    }
    hasher.finish()
}

/// The name of a port that was given none: stable, readable, at most 15 bytes.
pub fn derived_name(socket: &FrontendSocket, parent: &str) -> String {
    let (stem, hash) = match socket {
        FrontendSocket::Listen(path) | FrontendSocket::Connect(path) => {
            // Lexical: nothing is asked of the file system but the current directory.
            let whole = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            (stem(path), hash(&[whole.as_os_str().as_encoded_bytes()]))
        }
        FrontendSocket::Fd(fd) => {
            (format!("fd{fd}"), hash(&[format!("fd:{fd}:{parent}").as_bytes()]))
        }
    };
    format!("{stem}-{:04x}", hash & 0xffff)
}

/// The first ten bytes of the file's name, with only what a device name holds without trouble (a
/// dot would split the device's sysctl path).
fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let clean: String = stem.chars().map(plain).collect();
    let clean: String = clean.trim_matches('-').chars().take(10).collect();
    if clean.is_empty() { "port".to_owned() } else { clean }
}

/// The MAC address of a port that was given none: stable, locally administered, unicast.
pub fn auto_mac(machine_id: &str, port_name: &str) -> Mac {
    let [a, b, c, d, e, f, ..] = hash(&[machine_id.as_bytes(), port_name.as_bytes()]).to_be_bytes();
    Mac([a & 0xfc | 0x02, b, c, d, e, f])
}

/// The machine's id, where it has one (systemd's or D-Bus's file). It is read once: every port without an
/// address asks for it.
pub fn machine_id() -> Option<String> {
    static FOUND: OnceLock<String> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Some(found.clone());
    }
    let found = ["/etc/machine-id", "/var/lib/dbus/machine-id"]
        .into_iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .find_map(|text| valid_id(&text))?;
    Some(FOUND.get_or_init(|| found).clone())
}

/// The file may be empty or say "uninitialized" early at boot: addresses from that would change at
/// the next start and be the same on every such machine.
fn valid_id(text: &str) -> Option<String> {
    let id = text.trim();
    let valid = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
    valid.then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(path: &str) -> String {
        derived_name(&FrontendSocket::Listen(path.into()), "eth0")
    }

    #[test]
    fn names_are_readable_and_never_change() {
        // These are promises: guests' addresses depend on them.
        assert_eq!(name("/run/vm1.sock"), "vm1-e590");
        assert_eq!(name("/run/a very long name.sock"), "a-very-lon-d52d");
        assert_eq!(name("/run/.sock"), "sock-5741");
        assert_eq!(name("/run/\u{e9}.sock"), "port-dcfb");
        assert_eq!(derived_name(&FrontendSocket::Fd(5), "eth0"), "fd5-5fc4");
    }

    #[test]
    fn the_same_file_name_elsewhere_is_another_port() {
        assert_ne!(name("/run/a/net.sock"), name("/run/b/net.sock"));
        let listen = FrontendSocket::Listen("/run/a.sock".into());
        let connect = FrontendSocket::Connect("/run/a.sock".into());
        assert_eq!(derived_name(&listen, "eth0"), derived_name(&connect, "eth1"));
        assert_ne!(
            derived_name(&FrontendSocket::Fd(5), "eth0"),
            derived_name(&FrontendSocket::Fd(5), "eth1")
        );
    }

    #[test]
    fn a_relative_path_is_taken_from_the_current_directory() {
        let whole = std::env::current_dir().unwrap().join("x.sock");
        assert_eq!(name("x.sock"), name(whole.to_str().unwrap()));
    }

    #[test]
    fn addresses_never_change() {
        let mac = auto_mac("0123456789abcdef0123456789abcdef", "vm1");
        assert_eq!(mac.to_string(), "66:66:19:19:18:d6");
        assert_ne!(mac, auto_mac("0123456789abcdef0123456789abcdef", "vm2"));
        assert_ne!(mac, auto_mac("0123456789abcdef0123456789abcdee", "vm1"));
    }

    #[test]
    fn only_a_real_machine_id_counts() {
        let id = "0123456789abcdef0123456789abcdef";
        assert_eq!(valid_id(&format!("{id}\n")).as_deref(), Some(id));
        assert_eq!(valid_id("uninitialized\n"), None);
        assert_eq!(valid_id(""), None);
    }

    proptest! {
        #[test]
        fn every_path_gives_a_valid_name(path in ".{0,60}") {
            let name = name(&format!("/run/{path}"));
            prop_assert!((1..=15).contains(&name.len()));
            prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
        }

        #[test]
        fn every_address_is_a_local_station(id in "[0-9a-f]{32}", name in "[a-z0-9-]{1,15}") {
            let mac = auto_mac(&id, &name);
            prop_assert!(mac.is_station());
            prop_assert_eq!(mac.0[0] & 3, 2);
        }
    }
}
