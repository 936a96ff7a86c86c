//! What is behind a ring: nothing, a tap queue, or a place in our own switch.

use std::sync::Arc;

use crate::datapath::attachment::Attachment;
use crate::uplink::tap::TapQueue;

/// What is behind a ring.
#[derive(Clone, Default)]
pub enum Backing {
    /// Nothing: the device or the parent is gone, or not there yet.
    #[default]
    Nothing,
    /// A queue of a macvtap device: the kernel forwards.
    Tap(Arc<TapQueue>),
    /// A place in our own switch.
    Switch(Attachment),
}

impl Backing {
    /// The tap queue, if there is one.
    pub fn tap(&self) -> Option<&Arc<TapQueue>> {
        match self {
            Backing::Tap(tap) => Some(tap),
            _ => None,
        }
    }

    /// The place in a switch, if there is one.
    pub fn attachment(&self) -> Option<&Attachment> {
        match self {
            Backing::Switch(attachment) => Some(attachment),
            _ => None,
        }
    }
}
