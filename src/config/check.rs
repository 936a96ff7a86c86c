//! Ports checked: each one alone, then against its siblings in this process.
//!
//! What the kernel or a file system would refuse only later, with an errno and after half of the
//! ports were set up, is refused here, before anything was touched, and with both owners named. What
//! other processes do is not looked at: `--check` must give the same answer everywhere.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::config::access::SocketAccess;
use crate::config::derived::derived_name;
use crate::config::layer::Layer;
use crate::config::port_config::{
    Guard, Kind, MacChanges, MacChoice, PortConfig, ReservedGroups, Socket,
};
use crate::config::raw_options::RawOptions;
use crate::config::setting::Setting;
use crate::net::mode::Mode;

/// A port on its way to a [`PortConfig`]: where it was named, and what all layers say.
pub struct PortDraft {
    /// The place that names the port.
    pub words: RawOptions,
    /// The inherited descriptor, which excludes a socket path.
    pub fd: Setting<i32>,
    /// Its own layer over the defaults.
    pub layer: Layer,
}

/// Checks a port alone. `None` if something that everything else hangs on is missing or bad.
pub fn alone(port: &PortDraft, faults: &mut Vec<String>) -> Option<PortConfig> {
    let words = &port.words;
    let layer = &port.layer;
    if layer.socket.is_absent() && port.fd.is_absent() {
        let spot = words.missing("socket");
        faults.push(format!("{spot}: missing; give the path of the vhost-user socket"));
    }
    if layer.parent.is_absent() {
        let spot = words.missing("parent");
        faults.push(format!("{spot}: missing; name the network device to join, as eth0"));
    }
    if !port.fd.is_absent() && layer.client.get() == Some(&true) {
        let spot = words.spot("client", "on");
        faults.push(format!("{spot}: --fd is a connected socket already; leave one of them out"));
    }
    let kind = layer.kind.get().copied().unwrap_or_default();
    if layer.compat.get() == Some(&true) && kind != Kind::Macvlan && layer.kind != Setting::Bad {
        let spot = words.spot("compat", "on");
        faults.push(format!("{spot}: needs type=macvlan, a kernel device has no other behaviour"));
    }
    if layer.nodst.get() == Some(&true) && words.text("nodst").is_some() {
        let spot = words.spot("nodst", "on");
        match mode(layer) {
            Some(Mode::Source) | None => {}
            Some(other) => {
                faults.push(format!("{spot}: needs mode=source, this port's mode is {other}"));
            }
        }
        if kind != Kind::Macvlan && layer.kind != Setting::Bad {
            faults.push(format!("{spot}: needs type=macvlan; give that, or leave nodst out"));
        }
    }
    if layer.reserved_groups.get() == Some(&ReservedGroups::Drop)
        && words.text("reserved-groups").is_some()
        && kind != Kind::Macvlan
        && layer.kind != Setting::Bad
    {
        let spot = words.spot("reserved-groups", "drop");
        faults.push(format!("{spot}: needs type=macvlan; a kernel device delivers them"));
    }
    if let (Some(true), Some(text)) = (layer.compat.get(), words.text("mac-changes")) {
        let spot = words.spot("mac-changes", text);
        faults.push(format!(
            "{spot}: with compat=on no source address is checked, as in the kernel; leave one out"
        ));
    }
    sources(port, faults);
    access(port, faults);
    if let (Some(name), Some(parent)) = (layer.name.get(), layer.parent.get())
        && name == parent
    {
        let spot = words.spot("name", name);
        faults.push(format!("{spot}: is the parent's own name; give the port another one"));
    }

    let parent = layer.parent.get()?.clone();
    let socket = match (&port.fd, &layer.socket) {
        (Setting::Is(fd), _) => Socket::Fd(*fd),
        (_, Setting::Is(path)) if layer.client.get() == Some(&true) => {
            Socket::Connect(path.clone())
        }
        (_, Setting::Is(path)) => Socket::Listen(path.clone()),
        _ => return None,
    };
    let name = match &layer.name {
        Setting::Is(name) => name.clone(),
        Setting::Absent => derived_name(&socket, &parent),
        Setting::Bad => return None,
    };
    let mode = mode(layer)?;
    let changes = if mode == Mode::Passthru { MacChanges::Allow } else { MacChanges::Deny };
    let compat = layer.compat.get().copied().unwrap_or_default();
    // One guest that has the cable to itself, and the kernel's own rules, are not guarded.
    let guard = if compat || mode == Mode::Passthru { Guard::Off } else { Guard::Stp };
    Some(PortConfig {
        name,
        access: match socket {
            Socket::Listen(_) => access_of(layer),
            _ => SocketAccess::default(),
        },
        socket,
        parent,
        kind,
        mode,
        mac: layer.mac.get().copied().unwrap_or_default(),
        mtu: layer.mtu.get().copied(),
        queue_pairs: layer.queue_pairs.get().copied().unwrap_or(1),
        memory_limit: layer.memory_limit.get().copied(),
        sources: layer.sources.get().filter(|_| mode == Mode::Source).cloned().unwrap_or_default(),
        nodst: mode == Mode::Source && layer.nodst.get() == Some(&true),
        reserved_groups: layer.reserved_groups.get().copied().unwrap_or_default(),
        guard: layer.guard.get().copied().unwrap_or(guard),
        mac_changes: layer.mac_changes.get().copied().unwrap_or(changes),
        compat,
    })
}

fn access_of(layer: &Layer) -> SocketAccess {
    SocketAccess {
        owner: layer.socket_owner.get().cloned(),
        group: layer.socket_group.get().cloned(),
        mode: layer.socket_mode.get().copied(),
    }
}

/// Only what the port says itself: a default is for those of its siblings that listen.
fn access(port: &PortDraft, faults: &mut Vec<String>) {
    let (words, layer) = (&port.words, &port.layer);
    let connects = !port.fd.is_absent() || layer.client.get() == Some(&true);
    for key in ["socket-owner", "socket-group", "socket-mode"] {
        if let Some(text) = words.text(key)
            && connects
        {
            let spot = words.spot(key, text);
            faults
                .push(format!("{spot}: this port makes no socket, it is the VMM's; leave it out"));
        }
    }
    let own = ["socket-owner", "socket-group", "socket-mode"].iter().any(|key| words.has(key));
    if own && !words.is_flags() {
        contradiction(words, layer, faults);
    }
}

/// A mode that keeps out the user or group named beside it. Called for each place that names them, so
/// that a default is told once and not for every port.
pub fn contradiction(words: &RawOptions, layer: &Layer, faults: &mut Vec<String>) {
    if let Some(reason) = access_of(layer).contradiction() {
        let text = layer.socket_mode.get().map(|bits| format!("{bits:04o}")).unwrap_or_default();
        let spot = words.spot("socket-mode", words.text("socket-mode").unwrap_or(&text));
        faults.push(format!("{spot}: {reason}"));
    }
}

/// The mode, unless the given one is bad.
pub fn mode(layer: &Layer) -> Option<Mode> {
    match &layer.mode {
        Setting::Is(mode) => Some(*mode),
        Setting::Absent => Some(Mode::default()),
        Setting::Bad => None,
    }
}

fn sources(port: &PortDraft, faults: &mut Vec<String>) {
    let words = &port.words;
    match mode(&port.layer) {
        Some(Mode::Source) if port.layer.sources.is_absent() => {
            let spot = words.spot("mode", "source");
            faults.push(format!("{spot}: no source address is accepted; give source=MAC+MAC"));
        }
        // Only what the port says itself: a default list is for those of its siblings that want it.
        Some(other) if other != Mode::Source => {
            if let Some(text) = words.text("source") {
                let spot = words.spot("source", text);
                faults.push(format!("{spot}: needs mode=source, this port's mode is {other}"));
            }
        }
        _ => {}
    }
}

/// Checks the ports against each other, as far as each is known: a port without a parent may still
/// have its sibling's socket.
pub fn together(ports: &[PortDraft], faults: &mut Vec<String>) {
    let mut sockets: HashMap<PathBuf, &RawOptions> = HashMap::new();
    let mut names: HashMap<String, &RawOptions> = HashMap::new();
    let mut macs = HashMap::new();
    for PortDraft { words, layer, .. } in ports {
        if let Some(path) = layer.socket.get() {
            let whole = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            if let Some(first) = sockets.get(&whole) {
                let what = format!("have the socket path {}; give each its own", path.display());
                faults.push(both(first, words, &what));
                // Their derived names are then the same too: one mistake, one message.
                continue;
            }
            sockets.insert(whole, words);
        }
        if let Some(name) = name(layer)
            && let Some(first) = names.insert(name.clone(), words)
        {
            let what = format!("have the name {name}; give each its own (name=NAME)");
            faults.push(both(first, words, &what));
        }
        if let (Some(MacChoice::Given(mac)), Some(parent)) = (layer.mac.get(), layer.parent.get())
            && let Some(first) = macs.insert((mac, parent), words)
        {
            let what = format!("have mac={mac} on parent {parent}; give each its own");
            faults.push(both(first, words, &what));
        }
    }
    passthru(ports, faults);
}

/// The name that a port with a socket path will have.
fn name(layer: &Layer) -> Option<String> {
    match (&layer.name, &layer.socket) {
        (Setting::Is(name), _) => Some(name.clone()),
        (Setting::Absent, Setting::Is(path)) => {
            Some(derived_name(&Socket::Listen(path.clone()), layer.parent.get()?))
        }
        _ => None,
    }
}

/// A passthru port takes its parent for itself.
fn passthru(ports: &[PortDraft], faults: &mut Vec<String>) {
    let mut owners: HashMap<&str, &RawOptions> = HashMap::new();
    fn parent(port: &PortDraft) -> Option<&str> {
        port.layer.parent.get().map(String::as_str)
    }
    for port in ports.iter().filter(|port| mode(&port.layer) == Some(Mode::Passthru)) {
        if let Some(parent) = parent(port) {
            owners.entry(parent).or_insert(&port.words);
        }
    }
    for (port, parent) in ports.iter().filter_map(|port| Some((port, parent(port)?))) {
        if let Some(owner) = owners.get(parent)
            && **owner != port.words
        {
            faults.push(format!(
                "{} and {}: share parent {parent}, but mode=passthru of the first needs it alone; \
                 use another parent or mode=bridge",
                owner.label(),
                port.words.label()
            ));
        }
    }
}

fn both(first: &RawOptions, second: &RawOptions, what: &str) -> String {
    format!("{} and {}: both {what}", first.label(), second.label())
}
