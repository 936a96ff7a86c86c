//! What the kernel and the workers tell the control side, within bounds.
//!
//! The kernel's news about devices come as fast as other programs change them; the workers' notifier is rung
//! as fast as guests come, go and change their addresses. Both rest when they take too much time (`share.rs`).
//! Meanwhile their descriptors are not watched, and what comes waits in them: news in the socket, until it
//! is full and the kernel says that some were lost; the notifier in its counter. What costs most of what a notifier
//! asks for, new tables and filters, has a longer rest of its own: the end of a connection, which is told by
//! the same notifier, must not wait for it.
//!
//! Of several news about one device only the last counts: the state that it describes is the present one.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use log::{debug, warn};

use crate::control::context::ControlContext;
use crate::control::deadline::sooner;
use crate::control::server::{Next, Server};
use crate::control::share::{Share, used};
use crate::control::wake::{Token, borrowed};
use crate::host::watch::LinkEvent;
use crate::worker::poller::Interest;

/// The longest rests: news about devices and tables within half a second, so that a change is answered
/// within one; the notifier within a moment that no front-end notices.
const LINKS: Duration = Duration::from_millis(400);
const TABLES: Duration = Duration::from_millis(400);
const BELL: Duration = Duration::from_millis(5);

/// Who may rest.
pub(crate) struct Shares {
    links: Share,
    notifier: Share,
    tables: Share,
    /// The notifier was rung for tables while those rested.
    behind: bool,
}

impl Default for Shares {
    fn default() -> Shares {
        let (links, notifier, tables) = (Share::new(LINKS), Share::new(BELL), Share::new(TABLES));
        Shares { links, notifier, tables, behind: false }
    }
}

/// News in the order in which they are to be told, the last of each device only.
#[derive(Default)]
struct News {
    events: Vec<LinkEvent>,
    /// Where the last state of a device is, unless it has gone since.
    places: HashMap<u32, usize>,
}

impl News {
    fn add(&mut self, event: LinkEvent) {
        match &event {
            LinkEvent::Changed(link) => {
                if let Some(place) = self.places.get(&link.index)
                    && let Some(old) = self.events.get_mut(*place)
                {
                    *old = event;
                    return;
                }
                self.places.insert(link.index, self.events.len());
            }
            LinkEvent::Gone { index, .. } => {
                self.places.remove(index);
            }
            LinkEvent::Overrun if self.events.contains(&LinkEvent::Overrun) => return,
            LinkEvent::Addressed(_) | LinkEvent::Overrun => {}
        }
        self.events.push(event);
    }
}

impl Server {
    /// The kernel has news about devices.
    pub(crate) fn links(&mut self) {
        let before = used();
        let mut news = News::default();
        if let Err(error) = self.watch.drain(|event| news.add(event)) {
            warn!("netlink: {error}");
            news.add(LinkEvent::Overrun);
        }
        for event in &news.events {
            debug!("netlink: {event:?}");
            self.ground.parents.note(event, self.ground.host.as_mut());
            for port in &mut self.ports {
                port.note(event, &mut self.ground);
            }
        }
        self.shares.links.rest(used().saturating_sub(before), Instant::now());
        if self.shares.links.rests() {
            self.attend(Token::Links, false);
        }
    }

    /// A worker has something for the control side. The ports are asked for addresses by the timers, which
    /// run next.
    pub(crate) fn notifier(&mut self) -> Next {
        let before = used();
        let _ = self.ground.notifier.read();
        let next = self.endings();
        self.shares.behind = true;
        if !self.shares.tables.rests() {
            self.refresh_tables();
        }
        self.shares.notifier.rest(used().saturating_sub(before), Instant::now());
        if self.shares.notifier.rests() {
            self.attend(Token::Bell, false);
        }
        next
    }

    /// Makes tables and filters follow the ports.
    fn refresh_tables(&mut self) {
        // Once for a parent, and no work that a guest could cause again.
        let ControlContext { parents, host, .. } = &mut self.ground;
        parents.prepare(host.as_mut());
        let before = used();
        self.shares.behind = false;
        if let Err(error) = parents.refresh(host.as_mut()) {
            warn!("{error}");
        }
        self.shares.tables.rest(used().saturating_sub(before), Instant::now());
    }

    /// Watches what has rested. Returns when the next one has.
    pub(crate) fn end_rests(&mut self, now: Instant) -> Option<Instant> {
        if self.shares.links.wake(now) {
            self.attend(Token::Links, true);
        }
        if self.shares.notifier.wake(now) {
            self.attend(Token::Bell, true);
        }
        if self.shares.tables.wake(now) && self.shares.behind {
            self.refresh_tables();
        }
        let Shares { links, notifier, tables, behind } = &self.shares;
        let tables = tables.due().filter(|_| *behind);
        sooner(sooner(links.due(), notifier.due()), tables)
    }

    /// Watches one of the two sources, or no longer.
    fn attend(&self, token: Token, on: bool) {
        let interest = if on { Interest::EPOLLIN } else { Interest::empty() };
        let fd =
            if token == Token::Bell { self.ground.notifier.as_fd() } else { self.watch.as_fd() };
        if let Err(error) = self.poller.modify(&borrowed(fd), interest, token.number()) {
            warn!("epoll: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::link::LinkInfo;

    fn changed(index: u32, mtu: u32) -> LinkEvent {
        LinkEvent::Changed(LinkInfo { index, mtu, ..LinkInfo::default() })
    }

    #[test]
    fn only_the_last_state_of_a_device_is_told_and_none_from_before_its_end() {
        let gone = LinkEvent::Gone { index: 1, name: "a".into() };
        let mut news = News::default();
        for event in [
            changed(1, 1),
            changed(2, 1),
            changed(1, 2),
            LinkEvent::Overrun,
            LinkEvent::Overrun,
            gone.clone(),
            changed(1, 3),
            changed(1, 4),
        ] {
            news.add(event);
        }
        let expected = [changed(1, 2), changed(2, 1), LinkEvent::Overrun, gone, changed(1, 4)];
        assert_eq!(news.events, expected);
    }
}
