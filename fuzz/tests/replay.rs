//! Every fuzz target on its seeds, its corpus and as many made inputs as the time allows.
//!
//! `FUZZ_SECONDS` is the time for each target, 2 if it is not given; `make fuzz` gives more.
//! `FUZZ_SEED` decides the made inputs; each run makes others unless it is given.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) => panic!("{name}={text} is not a number"),
    }
}

fn run(name: &str, target: fn(&[u8]), seeds: Vec<Vec<u8>>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = number("FUZZ_SEED").unwrap_or(now.as_nanos() as u64);
    let time = Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(2));
    let report = fuzz::driver::run(name, target, seeds, seed, time);
    assert!(report.replayed > 0, "{name} has no seeds");
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                run(stringify!($name), fuzz::$name::target, fuzz::$name::seeds());
            }
        )*
    };
}

targets! { config frame framing offload request_filter ring snooping }
