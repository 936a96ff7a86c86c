//! The sources of events that rest when they take too much of the control thread's time.
//!
//! The kernel's news about devices come as fast as other programs change them; the notifier is
//! written as fast as guests come, go and change their addresses. Both rest when they take too much
//! time (`share.rs`). Meanwhile their descriptors are not watched, and events wait in them: news in
//! the socket, until it is full and the kernel reports that some were lost; the notifier in its
//! counter. New tables and filters are most of the notifier's work, so they have a longer rest of
//! their own: the end of a connection, which comes by the same notifier, must not wait for it.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use log::warn;

use crate::control::context::ControlContext;
use crate::control::deadline::sooner;
use crate::control::share::{Share, used};
use crate::control::wake::{WakeToken, borrowed};
use crate::host::watch::LinkWatch;
use crate::worker::poller::{Interest, Poller};

/// The longest rests: news about devices and tables within half a second, so that a change is
/// answered within one; the notifier within a moment that no front-end notices.
const LINKS: Duration = Duration::from_millis(400);
const TABLES: Duration = Duration::from_millis(400);
const NOTIFIER: Duration = Duration::from_millis(5);

/// The sources that may rest.
pub(crate) struct Sources {
    links: Share,
    notifier: Share,
    tables: Share,
    /// The notifier was written for tables while those rested.
    behind: bool,
}

impl Default for Sources {
    fn default() -> Sources {
        let (links, tables) = (Share::new(LINKS), Share::new(TABLES));
        Sources { links, notifier: Share::new(NOTIFIER), tables, behind: false }
    }
}

impl Sources {
    /// News about devices were processed, from this processor time on.
    pub(crate) fn links_done(&mut self, before: Duration, watch: &LinkWatch, poller: &Poller) {
        self.links.rest(used().saturating_sub(before), Instant::now());
        if self.links.rests() {
            attend(watch, WakeToken::Links, false, poller);
        }
    }

    /// The notifier's work was done, from this processor time on.
    pub(crate) fn notifier_done(
        &mut self,
        before: Duration,
        context: &ControlContext,
        poller: &Poller,
    ) {
        self.notifier.rest(used().saturating_sub(before), Instant::now());
        if self.notifier.rests() {
            attend(&*context.notifier, WakeToken::Notifier, false, poller);
        }
    }

    /// Tables and filters may be behind the ports: makes them now, or when their rest is over.
    pub(crate) fn tables_behind(&mut self, context: &mut ControlContext) {
        self.behind = true;
        if !self.tables.rests() {
            self.refresh_tables(context);
        }
    }

    /// Brings tables and filters up to date with the ports.
    fn refresh_tables(&mut self, context: &mut ControlContext) {
        // Once for a parent; a guest cannot cause this work again.
        let ControlContext { parents, host, .. } = context;
        parents.prepare(host.as_mut());
        let before = used();
        self.behind = false;
        if let Err(error) = parents.refresh(host.as_mut()) {
            warn!("{error}");
        }
        self.tables.rest(used().saturating_sub(before), Instant::now());
    }

    /// Watches the sources that have rested. Returns when the next one has.
    pub(crate) fn end_rests(
        &mut self,
        now: Instant,
        watch: &LinkWatch,
        context: &mut ControlContext,
        poller: &Poller,
    ) -> Option<Instant> {
        if self.links.wake(now) {
            attend(watch, WakeToken::Links, true, poller);
        }
        if self.notifier.wake(now) {
            attend(&*context.notifier, WakeToken::Notifier, true, poller);
        }
        if self.tables.wake(now) && self.behind {
            self.refresh_tables(context);
        }
        let tables = self.tables.due().filter(|_| self.behind);
        sooner(sooner(self.links.due(), self.notifier.due()), tables)
    }
}

/// Watches a source, or no longer.
fn attend(source: &impl AsFd, token: WakeToken, on: bool, poller: &Poller) {
    let interest = if on { Interest::EPOLLIN } else { Interest::empty() };
    if let Err(error) = poller.modify(&borrowed(source.as_fd()), interest, token.number()) {
        warn!("epoll: {error}");
    }
}
