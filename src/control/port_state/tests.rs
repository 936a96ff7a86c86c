//! The table of states: complete, reachable, and as it is drawn.

use std::collections::BTreeSet;

use super::*;
use crate::control::kernel_port::device_state::DeviceState;

const EVENTS: [PortEvent; 8] = [
    PortEvent::Opened,
    PortEvent::Arrived,
    PortEvent::Overlapped,
    PortEvent::Unserved,
    PortEvent::Ended,
    PortEvent::Spoiled,
    PortEvent::Expired,
    PortEvent::Stopped,
];

fn path(events: &[PortEvent]) -> (PortState, Reaction) {
    events
        .iter()
        .fold((PortState::Opening, Reaction::Nothing), |(state, _), event| state.after(*event))
}

#[test]
fn every_state_can_be_reached_and_can_end() {
    let mut reached = BTreeSet::from([format!("{:?}", PortState::Opening)]);
    let mut found = vec![PortState::Opening];
    while let Some(state) = found.pop() {
        for event in EVENTS {
            let (next, _) = state.after(event);
            if reached.insert(format!("{next:?}")) {
                found.push(next);
            }
        }
    }
    for state in PortState::ALL {
        assert!(reached.contains(&format!("{state:?}")), "{state:?}");
        assert_eq!(state.after(PortEvent::Stopped).0, PortState::Closing);
    }
}

/// The reaction fits the state: exactly one front-end is served, at most one waits.
#[test]
fn reactions_keep_count_of_the_front_ends() {
    for state in PortState::ALL {
        for event in EVENTS {
            let (next, reaction) = state.after(event);
            let waits = |state| state == PortState::Handover;
            let served = |state| matches!(state, PortState::Connected | PortState::Handover);
            match reaction {
                Reaction::Serve => assert!(!served(state) && served(next)),
                Reaction::KeepWaiting => assert!(served(state) && waits(next)),
                Reaction::ServeWaiting => assert!(waits(state) && served(next) && !waits(next)),
                Reaction::RefuseWaiting => assert!(waits(state) && !waits(next)),
                Reaction::Refuse => assert_eq!(state, next),
                Reaction::Close => assert_eq!(event, PortEvent::Stopped),
                Reaction::Nothing => assert!(!waits(state) || next == state, "{state:?} {event:?}"),
            }
        }
    }
}

#[test]
fn a_front_end_that_reconnects_too_early_waits_for_its_last_connection() {
    use PortEvent::{Arrived, Ended, Expired, Opened, Overlapped, Spoiled, Stopped};
    let served = [Opened, Arrived];
    let wait = [&served[..], &[Overlapped]].concat();
    let with = |event| [&wait[..], &[event]].concat();
    assert_eq!(path(&with(Ended)), (PortState::Connected, Reaction::ServeWaiting));
    assert_eq!(path(&with(Expired)), (PortState::Connected, Reaction::RefuseWaiting));
    assert_eq!(path(&with(Spoiled)), (PortState::Condemned, Reaction::RefuseWaiting));
    assert_eq!(path(&with(Arrived)), (PortState::Handover, Reaction::Refuse));
    assert_eq!(path(&with(Stopped)), (PortState::Closing, Reaction::Close));
}

#[test]
fn nothing_is_served_before_the_endpoint_and_after_the_end() {
    for state in [PortState::Opening, PortState::Closing, PortState::Condemned] {
        for event in [PortEvent::Arrived, PortEvent::Overlapped] {
            assert_eq!(state.after(event), (state, Reaction::Refuse));
        }
    }
}

/// The figures of docs/architecture.md name every state in brackets and every event that leads from
/// one state to another, and no others.
#[test]
fn the_figure_shows_this_table() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/architecture.md");
    let text = std::fs::read_to_string(file).unwrap();
    let section = text.split("\n## A port's states\n").nth(1).expect("the section");
    let section = section.split("\n## ").next().unwrap();
    let figures: Vec<&str> = section.split("```").skip(1).step_by(2).collect();
    let [front_end, device] = figures[..] else { panic!("two figures: {figures:?}") };

    let states = |figure: &str| -> BTreeSet<String> {
        let boxes = figure.split('[').skip(1).map(|rest| rest.split(']').next().unwrap());
        boxes.map(str::to_owned).collect()
    };
    let all = PortState::ALL.map(|state| format!("{state:?}"));
    assert_eq!(states(front_end), BTreeSet::from(all));
    let all = DeviceState::ALL.map(|state| format!("{state:?}"));
    assert_eq!(states(device), BTreeSet::from(all));

    let words: BTreeSet<&str> = front_end.split(|c: char| !c.is_alphabetic()).collect();
    for event in EVENTS {
        let changes = PortState::ALL.iter().any(|state| state.after(event).0 != *state);
        let word = format!("{event:?}");
        assert_eq!(words.contains(word.as_str()), changes, "{word}");
    }
}
