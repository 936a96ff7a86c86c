//! The party that means harm: a VMM and its guest in one.
//!
//! It does deeds in rounds: each round is all of them in a random order. A deed's random numbers
//! come from a generator that depends on the seed and the deed's number alone, so the same seed
//! brings the same deeds. A deed may fail at any place (the back-end hangs up): then the party
//! connects again for the next one.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::deeds::DEEDS;
use testkit::driver::Driver;
use testkit::frames::Mac;
use testkit::vmm::{QemuOptions, Vmm};

/// How long the party waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Random numbers: xorshift64* (Marsaglia, Vigna).
pub struct Rng(u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

pub struct Party {
    socket: PathBuf,
    pub mac: Mac,
    /// For the present deed.
    pub rng: Rng,
    order: Rng,
    round: Vec<usize>,
    rounds: usize,
    seed: u64,
    count: u64,
    guest: Option<(Vmm, Driver)>,
    /// For each deed: how often it was done to its end, how often it was cut off, and the longest
    /// time.
    done: BTreeMap<&'static str, (u32, u32, Duration)>,
}

impl Party {
    pub fn new(socket: PathBuf, mac: Mac, seed: u64) -> Party {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // The party's own failures are deeds cut off; the other threads' are failures of the
            // test.
            if !info.location().is_some_and(|_| HOSTILE.with(|hostile| hostile.get())) {
                usual(info);
            }
        }));
        Party {
            socket,
            mac,
            rng: Rng(seed | 1),
            order: Rng(seed.rotate_left(17) | 1),
            round: Vec::new(),
            rounds: 0,
            seed,
            count: 0,
            guest: None,
            done: BTreeMap::new(),
        }
    }

    /// A new connection, and no other one.
    pub fn bare(&mut self) -> Vmm {
        self.guest = None;
        let mut vmm = Vmm::connect(&self.socket);
        vmm.set_patience(PATIENCE);
        vmm
    }

    /// The working guest; it starts if there is none.
    pub fn guest(&mut self) -> (&mut Vmm, &mut Driver) {
        if self.guest.is_none() {
            let mut vmm = self.bare();
            let mut driver = vmm.start_like_qemu72(&QemuOptions { pairs: 2, ..Default::default() });
            driver.post_rx(0, 64, 2048);
            driver.allow_empty = true;
            self.guest = Some((vmm, driver));
        }
        let (vmm, driver) = self.guest.as_mut().expect("just started");
        (vmm, driver)
    }

    /// Random numbers, for a deed that borrows the guest.
    pub fn fork(&mut self) -> Rng {
        Rng(self.rng.next() | 1)
    }

    pub fn greet(&mut self) {
        self.guest();
    }

    pub fn leave(&mut self) {
        self.guest = None;
    }

    /// Disconnects, and does not touch the guest's memory any more: the caller has taken it away.
    pub fn abandon(&mut self) {
        if let Some((vmm, driver)) = self.guest.take() {
            drop(vmm);
            std::mem::forget(driver);
        }
    }

    pub fn socket(&self) -> &std::path::Path {
        &self.socket
    }

    /// Does the next deed.
    pub fn deed(&mut self) {
        let Some(number) = self.round.pop() else {
            self.round = (0..DEEDS.len()).collect();
            for at in (1..DEEDS.len()).rev() {
                self.round.swap(at, self.order.below(at as u64 + 1) as usize);
            }
            self.rounds += 1;
            return;
        };
        self.count += 1;
        self.rng = Rng(self.seed.wrapping_add(self.count.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1);
        let (name, act) = DEEDS[number];
        let start = Instant::now();
        HOSTILE.with(|hostile| hostile.set(true));
        let outcome = catch_unwind(AssertUnwindSafe(|| act(self)));
        if outcome.is_err() || self.rng.below(4) == 0 {
            // Dropping it may fail as well: its memory may be gone.
            let guest = self.guest.take();
            let _ = catch_unwind(AssertUnwindSafe(|| drop(guest)));
        }
        HOSTILE.with(|hostile| hostile.set(false));
        let (whole, cut, longest) = self.done.entry(name).or_default();
        *(if outcome.is_ok() { whole } else { cut }) += 1;
        *longest = start.elapsed().max(*longest);
    }

    /// Rounds that were done to their end.
    pub fn rounds(&self) -> usize {
        self.rounds.saturating_sub(1)
    }
}

thread_local! {
    /// Whether this thread does a deed at the moment.
    static HOSTILE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} deeds, {} whole rounds", self.count, self.rounds())?;
        for (name, (whole, cut, longest)) in &self.done {
            writeln!(f, "{whole:6} done, {cut:6} cut off, longest {longest:9.3?}: {name}")?;
        }
        Ok(())
    }
}
