//! Who may connect to a port's socket: `socket-owner`, `socket-group`, `socket-mode`.
//!
//! A back-end runs as root, most VMMs do not, and connecting to a Unix socket needs the right to write
//! to it. Users and groups are given by name or number and looked up here, in the host's databases. A
//! name that does not exist is an error of the input, reported before anything is made. Without a mode
//! the umask decides, as for every file. The usual umask would keep a group out, so a group without a
//! mode means 0660.
//!
//! What can go wrong: a mode that keeps out the user or group that was named. It is refused.

use nix::unistd::{Group, User};

use crate::config::invalid::Invalid;

/// A user or group: as it was typed, and its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// As the user wrote it.
    pub name: String,
    /// The user or group id.
    pub id: u32,
}

/// Owner, group and mode of a socket's file. What is absent comes from the process's user, group and
/// umask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketAccess {
    /// The user that owns it.
    pub owner: Option<Account>,
    /// Its group.
    pub group: Option<Account>,
    /// Its permission bits, 0 to 0o777.
    pub mode: Option<u32>,
}

impl SocketAccess {
    /// The permission bits, unless the umask decides.
    pub fn bits(&self) -> Option<u32> {
        self.mode.or(self.group.as_ref().map(|_| 0o660))
    }

    /// Why the user or group that this names could not connect, and the remedy. An owner who can
    /// connect is enough.
    pub fn contradiction(&self) -> Option<(&'static str, &'static str)> {
        let mode = self.mode?;
        if self.owner.is_some() && mode & 0o200 == 0 {
            let reason = "a front-end needs the right to write, which it denies the owner";
            return Some((reason, "add 0200"));
        }
        if self.owner.is_none() && self.group.is_some() && mode & 0o020 == 0 {
            let reason = "a front-end needs the right to write, which it denies the group";
            return Some((reason, "add 0020"));
        }
        None
    }
}

/// A user, by name or number.
pub(super) fn owner(text: &str) -> Result<Account, Invalid> {
    let found = User::from_name(text).map_err(|errno| unreadable("users", errno))?;
    let id = found.map(|user| user.uid.as_raw()).or_else(|| number(text));
    let remedy = "`getent passwd` lists them, or give the number";
    let id = id.ok_or_else(|| Invalid::new("there is no such user", remedy))?;
    Ok(Account { name: text.to_owned(), id })
}

/// A group, by name or number.
pub(super) fn group(text: &str) -> Result<Account, Invalid> {
    let found = Group::from_name(text).map_err(|errno| unreadable("groups", errno))?;
    let id = found.map(|group| group.gid.as_raw()).or_else(|| number(text));
    let remedy = "`getent group` lists them, or give the number";
    let id = id.ok_or_else(|| Invalid::new("there is no such group", remedy))?;
    Ok(Account { name: text.to_owned(), id })
}

fn unreadable(what: &str, errno: nix::errno::Errno) -> Invalid {
    let reason = format!("the {what} of this host cannot be looked up: {errno}");
    Invalid::new(reason, "give the number")
}

/// The number of a user or group; the last one means "none" to the kernel.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|&id| digits && id != u32::MAX)
}

/// Permission bits, in octal as chmod(1) takes them.
pub(super) fn mode(text: &str) -> Result<u32, Invalid> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let octal = !digits.is_empty() && digits.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let bits = u32::from_str_radix(digits, 8).ok().filter(|_| octal);
    let remedy = "write three octal digits, as 0660";
    match bits {
        Some(bits) if bits > 0o777 => Err(Invalid::new("above 0777", remedy)),
        Some(bits) if bits & 0o222 == 0 => {
            let reason = "no user may write to it, so no front-end could connect";
            Err(Invalid::new(reason, "write 0660, for example"))
        }
        Some(bits) => Ok(bits),
        None => Err(Invalid::new("not an octal number", remedy)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_taken() {
        assert_eq!(owner("root").unwrap().id, 0);
        assert_eq!(owner("4242").unwrap(), Account { name: "4242".into(), id: 4242 });
        assert_eq!(group("0").unwrap().id, 0);
        for wrong in ["no-such-user", "", "-1", "+1", "4294967295", "99999999999"] {
            assert!(owner(wrong).is_err() && group(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn modes_are_octal_and_let_a_user_in() {
        assert_eq!(mode("0660"), Ok(0o660));
        assert_eq!(mode("0o777"), Ok(0o777));
        assert_eq!(mode("2"), Ok(2));
        for wrong in
            ["", "0o", "668", "rw", "u+w", "0x1b0", "+660", "1660", "0444", "77777777777777"]
        {
            assert!(mode(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_group_alone_may_write() {
        let kvm = Some(Account { name: "kvm".into(), id: 1 });
        let access = SocketAccess { group: kvm.clone(), ..SocketAccess::default() };
        assert_eq!(access.bits(), Some(0o660));
        assert_eq!(SocketAccess { owner: kvm.clone(), ..SocketAccess::default() }.bits(), None);
        let shut = SocketAccess { mode: Some(0o600), ..access };
        assert!(shut.contradiction().unwrap().0.contains("the group"));
        let shut = SocketAccess { owner: kvm, mode: Some(0o060), group: None };
        assert!(shut.contradiction().unwrap().0.contains("the owner"));
        assert_eq!(SocketAccess::default().contradiction(), None);
    }
}
