//! The kernel's news about devices, put together.
//!
//! News come as fast as other programs change devices. Of several news about one device only the
//! last counts: the state that it describes is the present one. So all waiting news are collected
//! first, and only then processed.

use std::collections::HashMap;

use crate::host::watch::LinkEvent;

/// News in the order of their processing, the last of each device only.
#[derive(Default)]
pub(crate) struct News {
    events: Vec<LinkEvent>,
    /// The place of a device's last state, unless the device was deleted since.
    places: HashMap<u32, usize>,
}

impl News {
    /// Adds an event; one that it makes superfluous is dropped.
    pub(crate) fn add(&mut self, event: LinkEvent) {
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

    /// The events.
    pub(crate) fn events(&self) -> &[LinkEvent] {
        &self.events
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
    fn only_the_last_state_of_a_device_counts_and_none_from_before_its_end() {
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
