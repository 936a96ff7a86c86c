//! A fuzzer without coverage, for stable Rust: seeds, their mutations, and random bytes.
//!
//! It is deterministic. The seed number decides every input, so a failure is repeated by giving the
//! seed number once more (`FUZZ_SEED`). The bytes that failed are written to a file as well, ready
//! for the corpus. What can go wrong: a crash that ends the process (a signal) leaves no file. The
//! seed number, printed at the beginning, repeats it too.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest input that is made, in bytes.
const LONGEST: usize = 4096;
/// Values at which parsers go wrong.
const EDGES: [u8; 8] = [0, 1, 0x3f, 0x40, 0x7f, 0x80, 0xfe, 0xff];

/// What a run did.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Inputs of the seeds and of the corpus.
    pub replayed: u64,
    /// Inputs that were made.
    pub made: u64,
    /// The time of the latter.
    pub took: Duration,
}

/// The files of `fuzz/corpus/NAME`, in the order of their names.
pub fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths.iter().filter_map(|path| std::fs::read(path).ok()).collect()
}

/// Runs a target on its seeds and its corpus, then on made inputs until the time is over.
///
/// # Panics
/// The target panicked; its input is in the file that is named on standard error.
pub fn run(
    name: &str,
    target: fn(&[u8]),
    seeds: Vec<Vec<u8>>,
    seed: u64,
    time: Duration,
) -> Report {
    let mut pool = seeds;
    pool.extend(corpus(name));
    eprintln!("fuzz {name}: {} seeds, FUZZ_SEED={seed}", pool.len());
    for input in &pool {
        once(name, target, input);
    }
    let replayed = pool.len() as u64;
    let mut random = Random(seed | 1);
    let (start, mut made) = (Instant::now(), 0);
    while start.elapsed() < time {
        // The clock is read only now and then: targets take microseconds.
        for _ in 0..16 {
            once(name, target, &make(&pool, &mut random));
            made += 1;
        }
    }
    let took = start.elapsed();
    eprintln!("fuzz {name}: {replayed} replayed, {made} made in {:.1} s", took.as_secs_f64());
    Report { replayed, made, took }
}

fn once(name: &str, target: fn(&[u8]), input: &[u8]) {
    let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) else { return };
    let path = std::env::temp_dir().join(format!("fuzz-{name}-{}", std::process::id()));
    match std::fs::write(&path, input) {
        Ok(()) => eprintln!("fuzz {name}: the input is in {}", path.display()),
        Err(error) => eprintln!("fuzz {name}: {error}; the input: {input:02x?}"),
    }
    resume_unwind(panic)
}

/// A seed with some changes, or random bytes.
fn make(pool: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = match random.pick(pool) {
        Some(seed) if random.below(16) > 0 => seed.clone(),
        _ => (0..random.below(256)).map(|_| random.byte()).collect(),
    };
    for _ in 0..=random.below(8) {
        change(&mut input, pool, random);
    }
    input.truncate(LONGEST);
    input
}

fn change(input: &mut Vec<u8>, pool: &[Vec<u8>], random: &mut Random) {
    let at = random.below(input.len());
    let span = at..(at + 1 + random.below(16)).min(input.len()).max(at);
    match random.below(10) {
        0 => input.truncate(at),
        1 => {
            input.drain(span);
        }
        2 => {
            let part = input[span].to_vec();
            input.splice(at..at, part);
        }
        3 => {
            let part: Vec<u8> = (0..random.below(8)).map(|_| random.byte()).collect();
            input.splice(at..at, part);
        }
        4 => {
            // The end of another one.
            let other = random.pick(pool).map_or(&[][..], Vec::as_slice);
            let from = random.below(other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        kind => {
            let Some(byte) = input.get_mut(at) else { return };
            *byte = match kind {
                5 => *byte ^ 1 << random.below(8),
                6 => byte.wrapping_add(random.below(9) as u8).wrapping_sub(4),
                7 => EDGES[random.below(EDGES.len())],
                _ => random.byte(),
            };
        }
    }
}

/// xorshift64* (Vigna, 2016).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`; 0 for a bound of 0.
    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    fn byte(&mut self) -> u8 {
        (self.next() >> 56) as u8
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        all.get(self.below(all.len()))
    }
}
