//! A parent that comes and goes.
//!
//! A parent may be set down, deleted, made again, renamed, or moved to another namespace. The
//! kernel reports that by netlink; after lost news it is asked. While the parent is lost, the
//! control thread looks for a device of one of its names once a second.

use std::time::{Duration, Instant};

use crate::control::parents::lease::ParentLease;
use crate::error::Error;
use crate::host::link::LinkInfo;
use crate::host::verbs::Host;
use crate::host::watch::LinkEvent;
use crate::process::port_log::PortLog;

/// Pause between two attempts to open a lost parent again.
const RETRY: Duration = Duration::from_secs(1);

/// The meaning of an event for a parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParentNews {
    /// It has vanished.
    Vanished,
    /// It has this description.
    Shown(Box<LinkInfo>),
}

/// A parent by its names, and, while it exists, the right to it.
pub struct Presence {
    /// All names that are given for it; the first one is used in messages.
    names: Vec<String>,
    /// The parent, while it is there.
    pub lease: Option<ParentLease>,
    /// When a lost parent is to be looked for.
    retry: Option<Instant>,
    /// The last reported reason why a parent that is back could not be taken.
    complaint: Option<String>,
}

impl Presence {
    /// A parent that is given by this name. It is not taken yet.
    pub fn new(name: &str) -> Presence {
        Presence { names: vec![name.to_owned()], lease: None, retry: None, complaint: None }
    }

    /// The name that was given first.
    pub fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// The parent is given by this name, too.
    pub fn add_name(&mut self, name: &str) {
        self.names.push(name.to_owned());
    }

    /// The parent, while it is there.
    pub fn link(&self) -> Option<&LinkInfo> {
        self.lease.as_ref().map(|lease| &lease.link)
    }

    /// The first of the configured names that a device has now.
    pub fn findable(&self, host: &mut dyn Host) -> Option<String> {
        self.names.iter().find(|name| matches!(host.link_given_as(name), Ok(Some(_)))).cloned()
    }

    /// The parent was taken.
    pub fn found(&mut self, lease: ParentLease) {
        *self = Presence {
            names: std::mem::take(&mut self.names),
            lease: Some(lease),
            retry: None,
            complaint: None,
        };
    }

    /// The parent has vanished: it is looked for from now on.
    pub fn lost(&mut self) {
        self.lease = None;
        self.retry = Some(Instant::now());
    }

    /// The meaning of an event among the kernel's devices for the parent.
    pub fn news(
        &mut self,
        event: &LinkEvent,
        host: &mut dyn Host,
        log: &PortLog,
    ) -> Option<ParentNews> {
        let shown = |link: &LinkInfo| Some(ParentNews::Shown(Box::new(link.clone())));
        let known = self.link().map(|link| (link.index, link.mac));
        match (event, known) {
            (LinkEvent::Gone { index, .. }, Some((parent, _))) if *index == parent => {
                Some(ParentNews::Vanished)
            }
            (LinkEvent::Changed(link), Some((parent, mac))) if link.index == parent => {
                // News may be older than our own last change. Another program has set an address
                // only if the device still has it.
                match (mac != link.mac).then(|| host.link_by_index(link.index)) {
                    Some(Ok(Some(now))) => shown(&now),
                    _ => shown(link),
                }
            }
            (LinkEvent::Changed(link), None)
                if self.names.iter().any(|name| link.is_called(name)) =>
            {
                self.retry = Some(Instant::now());
                None
            }
            (LinkEvent::Overrun, Some((parent, _))) => match host.link_by_index(parent) {
                Ok(Some(link)) => shown(&link),
                Ok(None) => Some(ParentNews::Vanished),
                Err(error) => {
                    log.warn(format_args!("cannot be looked up: {error}"));
                    None
                }
            },
            _ => None,
        }
    }

    /// Whether a lost parent is to be taken now: the attempt is due, and a device has one of its
    /// names.
    pub fn is_due(&mut self, host: &mut dyn Host, now: Instant) -> bool {
        if self.retry.is_none_or(|due| due > now) {
            return false;
        }
        self.retry = Some(now + RETRY);
        self.findable(host).is_some()
    }

    /// When a lost parent is to be looked for.
    pub fn due(&self) -> Option<Instant> {
        self.retry
    }

    /// A parent that is back could not be taken. Tried once a second for as long as that lasts, so
    /// the same reason is logged once.
    pub fn refused(&mut self, error: &Error, log: &PortLog) {
        let complaint = Some(error.to_string());
        if self.complaint != complaint {
            log.warn(format_args!("is back, but cannot be used: {error}"));
            self.complaint = complaint;
        }
    }
}
