//! A port on its way to a [`PortConfig`]: the checks of one port alone.
//!
//! What the kernel or a file system would refuse only later, with an errno and after half of the ports
//! were set up, is refused here, before anything is touched. `siblings.rs` compares the ports with each
//! other.

use crate::config::access::SocketAccess;
use crate::config::derived::derived_name;
use crate::config::port_config::{
    FrontendSocket, Guard, Kind, MacChanges, PortConfig, ReservedGroups,
};
use crate::config::port_options::PortSettings;
use crate::config::raw_options::RawOptions;
use crate::config::setting::Setting;
use crate::error::ErrorCode::{Conflict, MissingValue};
use crate::error::{ErrorCode, Problem};
use crate::net::mode::Mode;

/// The options that a socket made by another program cannot have.
const ACCESS: [&str; 3] = ["socket-owner", "socket-group", "socket-mode"];

/// A port before its checks.
pub struct PortDraft {
    /// The source that names the port.
    pub raw: RawOptions,
    /// Its own settings, over the defaults.
    pub settings: PortSettings,
}

impl PortDraft {
    /// How the port shares its parent, unless the given mode is bad.
    pub fn mode(&self) -> Option<Mode> {
        self.settings.mode.get().copied()
    }

    /// The name that the port will have, as far as it is known.
    pub fn name(&self) -> Option<String> {
        match (&self.settings.name, &self.settings.socket) {
            (Setting::Is(name), _) => Some(name.clone()),
            (Setting::Absent, Setting::Is(path)) => {
                let parent = self.settings.parent.get()?;
                Some(derived_name(&FrontendSocket::Listen(path.clone()), parent))
            }
            _ => None,
        }
    }

    /// Checks the port alone. `None` if something that everything else hangs on is missing or bad.
    pub fn check(&self, problems: &mut Vec<Problem>) -> Option<PortConfig> {
        let settings = &self.settings;
        if settings.socket.is_absent() && settings.fd.is_absent() {
            problems.push(self.raw.missing("socket", "give the path of the vhost-user socket"));
        }
        if settings.parent.is_absent() {
            problems.push(self.raw.missing("parent", "name the network device to join, as eth0"));
        }
        self.check_type(problems);
        self.check_sources(problems);
        self.check_access(problems);
        if let (Some(name), Some(parent)) = (settings.name.get(), settings.parent.get())
            && name == parent
        {
            let reason = "is the parent's own name";
            problems.push(self.conflict("name", name, reason, "give the port another one"));
        }
        self.resolved()
    }

    fn conflict(&self, key: &'static str, value: &str, reason: &str, remedy: &str) -> Problem {
        self.raw.problem(Conflict, key, value, reason, remedy)
    }

    /// Options that only one type of port, or only one kind of socket, has.
    fn check_type(&self, problems: &mut Vec<Problem>) {
        let PortDraft { raw, settings } = self;
        let is_on = |setting: &Setting<bool>| setting.get() == Some(&true);
        let is_kernels = settings.kind.get() == Some(&Kind::Macvtap);
        if !settings.fd.is_absent() && is_on(&settings.client) {
            let reason = "--fd is a connected socket already";
            problems.push(self.conflict("client", "on", reason, "leave one of them out"));
        }
        if is_on(&settings.compat) && is_kernels {
            let reason = "needs type=macvlan, a kernel device has no other behaviour";
            problems.push(self.conflict("compat", "on", reason, ""));
        }
        if is_on(&settings.nodst) && raw.has("nodst") {
            if let Some(mode) = self.mode().filter(|mode| *mode != Mode::Source) {
                let reason = format!("needs mode=source, this port's mode is {mode}");
                problems.push(self.conflict("nodst", "on", &reason, ""));
            }
            if is_kernels {
                let remedy = "give that, or leave nodst out";
                problems.push(self.conflict("nodst", "on", "needs type=macvlan", remedy));
            }
        }
        let drops = settings.reserved_groups.get() == Some(&ReservedGroups::Drop);
        if drops && raw.has("reserved-groups") && is_kernels {
            let reason = "needs type=macvlan; a kernel device delivers them";
            problems.push(self.conflict("reserved-groups", "drop", reason, ""));
        }
        if let (Some(true), Some(text)) = (settings.compat.get(), raw.text("mac-changes")) {
            let reason = "with compat=on no source address is checked, as in the kernel";
            problems.push(self.conflict("mac-changes", text, reason, "leave one out"));
        }
    }

    fn check_sources(&self, problems: &mut Vec<Problem>) {
        match self.mode() {
            Some(Mode::Source) if self.settings.sources.is_absent() => {
                let reason = "no source address is accepted";
                let remedy = "give source=MAC+MAC";
                problems.push(self.raw.problem(MissingValue, "mode", "source", reason, remedy));
            }
            // Only what the port says itself: a default list is for those of its siblings that want it.
            Some(other) if other != Mode::Source => {
                if let Some(text) = self.raw.text("source") {
                    let reason = format!("needs mode=source, this port's mode is {other}");
                    problems.push(self.conflict("source", text, &reason, ""));
                }
            }
            _ => {}
        }
    }

    /// Only what the port says itself: a default is for those of its siblings that listen.
    fn check_access(&self, problems: &mut Vec<Problem>) {
        let connects = !self.settings.fd.is_absent() || self.settings.client.get() == Some(&true);
        for key in ACCESS.into_iter().filter(|_| connects) {
            if let Some(text) = self.raw.text(key) {
                let reason = "this port makes no socket, it is the VMM's";
                problems.push(self.conflict(key, text, reason, "leave it out"));
            }
        }
        if ACCESS.iter().any(|key| self.raw.has(key)) && !self.raw.is_flags() {
            check_socket_mode(&self.raw, &self.settings, problems);
        }
    }

    fn resolved(&self) -> Option<PortConfig> {
        let settings = &self.settings;
        let parent = settings.parent.get()?.clone();
        let socket = match (&settings.fd, &settings.socket) {
            (Setting::Is(fd), _) => FrontendSocket::Fd(*fd),
            (_, Setting::Is(path)) if settings.client.get() == Some(&true) => {
                FrontendSocket::Connect(path.clone())
            }
            (_, Setting::Is(path)) => FrontendSocket::Listen(path.clone()),
            _ => return None,
        };
        let name = match &settings.name {
            Setting::Is(name) => name.clone(),
            Setting::Absent => derived_name(&socket, &parent),
            Setting::Bad => return None,
        };
        let mode = self.mode()?;
        let compat = *settings.compat.get()?;
        let changes = if mode == Mode::Passthru { MacChanges::Allow } else { MacChanges::Deny };
        // One guest that has the cable to itself, and the kernel's own rules, are not guarded.
        let guard = if compat || mode == Mode::Passthru { Guard::Off } else { Guard::Stp };
        let sources = settings.sources.get().filter(|_| mode == Mode::Source);
        Some(PortConfig {
            name,
            access: match socket {
                FrontendSocket::Listen(_) => access(settings),
                _ => SocketAccess::default(),
            },
            socket,
            parent,
            kind: *settings.kind.get()?,
            mode,
            mac: *settings.mac.get()?,
            mtu: settings.mtu.get().copied(),
            queue_pairs: *settings.queue_pairs.get()?,
            memory_limit: settings.memory_limit.get().copied(),
            sources: sources.cloned().unwrap_or_default(),
            nodst: mode == Mode::Source && *settings.nodst.get()?,
            reserved_groups: *settings.reserved_groups.get()?,
            guard: settings.guard.get().copied().unwrap_or(guard),
            mac_changes: settings.mac_changes.get().copied().unwrap_or(changes),
            compat,
        })
    }
}

fn access(settings: &PortSettings) -> SocketAccess {
    SocketAccess {
        owner: settings.socket_owner.get().cloned(),
        group: settings.socket_group.get().cloned(),
        mode: settings.socket_mode.get().copied(),
    }
}

/// A mode that keeps out the user or group named beside it. Called for each source that names them, so
/// that a default is reported once and not for every port.
pub fn check_socket_mode(raw: &RawOptions, settings: &PortSettings, problems: &mut Vec<Problem>) {
    if let Some((reason, remedy)) = access(settings).contradiction() {
        let bits = settings.socket_mode.get();
        let text = bits.map(|bits| format!("{bits:04o}")).unwrap_or_default();
        let text = raw.text("socket-mode").unwrap_or(&text);
        problems.push(raw.problem(ErrorCode::Conflict, "socket-mode", text, reason, remedy));
    }
}
