//! The choice of the guest's addresses that a port adopts.
//!
//! A worker reports an address that the guest uses and that is not the port's (`port.rs`). This
//! file decides about it, at the control side's pace:
//!
//! - It is another machine's: the parent's, a sibling's, one that the host knows
//!   (`host/neighbours.rs`). Then it is refused, and checked again after [`DENIED`]: a machine may
//!   have been switched off, or moved here.
//! - The port may take it (`mac-changes=allow`, or it has no given address): it does.
//! - In passthru mode the port receives frames to every address, so it need not adopt one to
//!   receive. A guest that uses two in turn (VRRP) would have its parent's address changed with
//!   every packet. So the parent keeps the address for as long as the guest uses it, and adopts
//!   another when the guest has left it: the old one silent for [`QUIET`], or for [`LONG_QUIET`] if
//!   the guest only goes back to one that it had before.
//!
//! The old address is watched without cost: the control thread resets the port's note of its last
//! use (`SourceMacs::watch_own`), and asks later whether the guest has used it since.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::control::deadline::sooner;
use crate::control::share::Share;
use crate::datapath::port::PortData;
use crate::error::Result;
use crate::net::mac::Mac;

/// Least time between two changes of a port's MAC address: a guest must not keep netlink busy.
const MAC_PAUSE: Duration = Duration::from_millis(100);
/// Longest time between two: a change may be slow, and a guest waits for it.
const LONGEST_PAUSE: Duration = Duration::from_millis(300);
/// How long an address stays refused before it is checked again.
const DENIED: Duration = Duration::from_secs(10);
/// How long the old address must have been silent for a new one.
const QUIET: Duration = Duration::from_millis(500);
/// The same for one that the guest had before.
const LONG_QUIET: Duration = Duration::from_secs(30);
/// Most addresses of a guest that are kept in mind.
const LEFT: usize = 8;

/// The decision about an address of a passthru port's guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    /// Take it.
    Follow,
    /// Ask again at this time. True: the old address is to be watched from now on.
    Wait(Instant, bool),
    /// It is one beside the port's own.
    AuxData,
}

/// The next step of the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowStep {
    /// No step before this time.
    Wait(Option<Instant>),
    /// Take this address, and report it to [`Follow::taken`].
    Take(Mac),
}

/// The port's notes on its guest's addresses.
#[derive(Debug, Default)]
pub struct Follow {
    not_before: Option<Instant>,
    /// The time of the next check of the refused address.
    denied_until: Option<Instant>,
    /// The last reported text, not to be reported again.
    said: String,
    /// The guest has used the port's own address, or the port has adopted another one.
    settled: bool,
    /// The new address for which the old one is watched, and the start of the watch.
    watched: Option<(Mac, Instant)>,
    /// Addresses that the port had of this guest, and left.
    left: VecDeque<Mac>,
}

impl Follow {
    /// The next guest starts anew.
    pub fn forget_guest(&mut self) {
        let not_before = self.not_before;
        *self = Follow { not_before, ..Follow::default() };
    }

    /// Judges an address that a passthru port's guest uses. `own_used`: the guest has used the
    /// port's own address since it is watched (or at all). Pure.
    fn judge(&mut self, wanted: Mac, own_used: bool, now: Instant) -> Decision {
        if !self.settled && !own_used {
            return Decision::Follow;
        }
        self.settled = true;
        let quiet = if self.left.contains(&wanted) { LONG_QUIET } else { QUIET };
        match self.watched {
            Some((mac, since)) if mac == wanted => match since + quiet {
                _ if own_used => {
                    self.watched = None;
                    Decision::AuxData
                }
                until if until <= now => Decision::Follow,
                until => Decision::Wait(until.min(now + QUIET), false),
            },
            // Observations from before this address came do not count.
            _ => {
                self.watched = Some((wanted, now));
                Decision::Wait(now + QUIET, true)
            }
        }
    }

    /// The port has left `old`.
    fn followed(&mut self, old: Mac) {
        (self.settled, self.watched) = (true, None);
        self.left.retain(|mac| *mac != old);
        if self.left.len() >= LEFT {
            self.left.pop_front();
        }
        self.left.push_back(old);
    }

    /// The step that is due for the guest's addresses now.
    pub fn step(&mut self, data: &PortData, now: Instant) -> FollowStep {
        if self.denied_until.is_some_and(|until| until <= now) {
            data.macs.deny(None);
            self.denied_until = None;
        }
        let next = self.denied_until;
        if !data.macs.has_wanted() && !data.macs.has_heard() {
            return FollowStep::Wait(next);
        }
        if let Some(mac) = data.macs.take_heard() {
            self.say(
                data,
                &format!(
                    "does not adopt the guest's MAC {mac}: frames from this address arrive from the \
                     wire, so another machine on the LAN has it; the guest's frames from it count as \
                     foreign MAC; if the address is the guest's own, set mac={mac}"
                ),
            );
        }
        if data.macs.is_exclusive()
            && let Some(wanted) = data.macs.wanted()
        {
            match self.judge(wanted, data.macs.own_used(), now) {
                Decision::Follow => {}
                Decision::Wait(until, watch) => {
                    if watch {
                        data.macs.watch_own();
                    }
                    return FollowStep::Wait(sooner(next, Some(until)));
                }
                Decision::AuxData => {
                    data.macs.add_beside(wanted);
                    let own = data.mac();
                    self.say(
                        data,
                        &format!(
                            "its guest uses several addresses: the parent keeps {own}, and also \
                             accepts {wanted}"
                        ),
                    );
                    return FollowStep::Wait(next);
                }
            }
        }
        if let Some(later) = self.not_before.filter(|&time| time > now) {
            return FollowStep::Wait(sooner(next, Some(later)));
        }
        data.macs.take_wanted().map_or(FollowStep::Wait(next), FollowStep::Take)
    }

    /// The port has taken the address that [`Follow::step`] returned at `then`, or could not.
    /// Returns when to ask again.
    pub fn taken(
        &mut self,
        data: &PortData,
        wanted: Mac,
        taken: Result<Mac>,
        then: Instant,
    ) -> Option<Instant> {
        match taken {
            Ok(old) => {
                data.macs.followed(wanted);
                self.followed(old);
                data.log.info(format_args!("adopted the guest's MAC {wanted} in place of {old}"));
            }
            Err(error) => {
                data.macs.deny(Some(wanted));
                self.denied_until = Some(then + DENIED);
                self.say(data, &format!("cannot adopt the guest's MAC {wanted}: {error}"));
            }
        }
        let pause = Share::new(LONGEST_PAUSE).rest_after(then.elapsed()).max(MAC_PAUSE);
        self.not_before = Some(then + pause);
        self.denied_until
    }

    /// Reports it, unless it was the last report.
    fn say(&mut self, data: &PortData, text: &str) {
        if self.said != text {
            data.log.warn(format_args!("{text}"));
            text.clone_into(&mut self.said);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
    const B: Mac = Mac([0, 0, 0x5e, 0, 1, 0x33]);

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn the_first_address_is_followed_at_once_and_a_later_one_when_the_old_is_silent() {
        let start = Instant::now();
        let mut follow = Follow::default();
        assert_eq!(follow.judge(A, false, start), Decision::Follow);
        follow.followed(Mac([2, 0, 0, 0, 0, 1]));
        assert_eq!(follow.judge(B, true, start), Decision::Wait(at(start, 500), true));
        assert_eq!(follow.judge(B, false, at(start, 300)), Decision::Wait(at(start, 500), false));
        assert_eq!(follow.judge(B, false, at(start, 500)), Decision::Follow);
    }

    #[test]
    fn two_addresses_in_turn_change_nothing() {
        let start = Instant::now();
        let mut follow = Follow::default();
        // The guest has used the port's own address before.
        assert_eq!(follow.judge(B, true, start), Decision::Wait(at(start, 500), true));
        assert_eq!(follow.judge(B, true, at(start, 500)), Decision::AuxData);
        assert_eq!(follow.judge(B, true, at(start, 900)), Decision::Wait(at(start, 1400), true));
    }

    #[test]
    fn a_guest_that_goes_back_is_followed_only_after_a_long_silence() {
        let start = Instant::now();
        let mut follow = Follow::default();
        follow.followed(A);
        assert_eq!(follow.judge(A, true, start), Decision::Wait(at(start, 500), true));
        assert_eq!(follow.judge(A, false, at(start, 500)), Decision::Wait(at(start, 1000), false));
        assert_eq!(follow.judge(A, true, at(start, 700)), Decision::AuxData);
        assert_eq!(follow.judge(A, true, at(start, 800)), Decision::Wait(at(start, 1300), true));
        assert_eq!(follow.judge(A, false, at(start, 30_800)), Decision::Follow);
    }

    /// The old address was used before the guest left it, beside a third one: that does not count
    /// against the new.
    #[test]
    fn each_new_address_is_judged_by_what_comes_after_it() {
        let start = Instant::now();
        let mut follow = Follow::default();
        follow.followed(Mac([2, 0, 0, 0, 0, 1]));
        assert_eq!(follow.judge(B, true, start), Decision::Wait(at(start, 500), true));
        assert_eq!(follow.judge(A, true, at(start, 200)), Decision::Wait(at(start, 700), true));
        assert_eq!(follow.judge(A, false, at(start, 700)), Decision::Follow);
    }

    #[test]
    fn what_is_kept_in_mind_is_bounded() {
        let mut follow = Follow::default();
        for n in 0..100 {
            follow.followed(Mac([2, 0, 0, 0, 0, n]));
        }
        assert_eq!(follow.left.len(), LEFT);
    }
}
