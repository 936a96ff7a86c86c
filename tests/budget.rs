//! The instruction budget: how many instructions each packet may take, by path and by size.
//!
//! A rate depends on the machine, on its neighbours and on the weather; a count of instructions
//! depends on the program. So a change that makes the data path a little slower, which no rate on a
//! shared machine would show, fails here. It is no measure of speed: an instruction that waits for
//! another processor's cache line counts as much as one that does not. For that see the rates
//! (`make bench`).
//!
//! `examples/turns.rs`, built as a release is, runs the turns of one path after the other under
//! callgrind. The test splits callgrind's counts into our own instructions and those of the C
//! library, which are copies of frames. `tests/budget.toml` has the counts from the last time that
//! a maintainer took them:
//!
//! ```sh
//! sudo make budget        # take new figures, on purpose: the commit says why
//! ```
//!
//! What can go wrong: another compiler makes other instructions of the same source. The figures say
//! which one they are from; with another one only a large difference counts, and a warning asks for
//! new figures. Another C library or another processor copies differently: its share only counts
//! with the same library, and valgrind shows every program the same processor, as long as the real
//! one has AVX2.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::netns::{Netns, die_with_us, require};

/// Where the figures are.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/budget.toml");
/// By how much a figure may be exceeded: with the compiler that it is from, with another one.
const TOLERANCE: (f64, f64) = (1.03, 1.15);

/// Instructions per packet.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cost {
    /// Our own.
    own: f64,
    /// With the C library's.
    all: f64,
}

/// The origin of a set of figures.
#[derive(Clone, Debug, PartialEq)]
struct Origin {
    rustc: String,
    libc: String,
}

type Costs = BTreeMap<String, Cost>;

/// The error in a cost, if there is one.
fn judge(name: &str, now: Cost, then: Cost, same_compiler: bool, same_libc: bool) -> Vec<String> {
    let most = if same_compiler { TOLERANCE.0 } else { TOLERANCE.1 };
    let mut faults = Vec::new();
    let mut compare = |what: &str, now: f64, then: f64| {
        if now > then * most {
            faults.push(format!(
                "{name}: {now:.1} instructions per packet{what}, {then:.1} before: {:+.1} %",
                (now / then - 1.0) * 100.0
            ));
        }
    };
    compare("", now.own, then.own);
    if same_libc {
        compare(" with the C library's", now.all, then.all);
    }
    faults
}

/// All errors, and the remarks.
fn compare(now: (&Origin, &Costs), then: (&Origin, &Costs)) -> (Vec<String>, Vec<String>) {
    let (same_compiler, same_libc) = (now.0.rustc == then.0.rustc, now.0.libc == then.0.libc);
    let (mut faults, mut remarks) = (Vec::new(), Vec::new());
    if !same_compiler {
        remarks.push(format!(
            "the figures are from rustc {}, this is {}: up to 15 % more is let pass; make budget",
            then.0.rustc, now.0.rustc
        ));
    }
    for (name, &cost) in now.1 {
        let Some(&before) = then.1.get(name) else {
            faults.push(format!("{name}: no figure; make budget"));
            continue;
        };
        faults.extend(judge(name, cost, before, same_compiler, same_libc));
        if same_compiler && cost.own * TOLERANCE.0 < before.own {
            remarks.push(format!(
                "{name}: {:.1} instructions per packet, {:.1} before; make budget keeps the gain",
                cost.own, before.own
            ));
        }
    }
    let gone = then.1.keys().filter(|name| !now.1.contains_key(*name));
    faults.extend(gone.map(|name| format!("{name}: has a figure, but is not counted any more")));
    (faults, remarks)
}

/// The figures in a file's text.
fn read(text: &str) -> (Origin, Costs) {
    let table: toml::Table = text.parse().expect("tests/budget.toml");
    let word = |key: &str| table[key].as_str().expect("a text").to_owned();
    let origin = Origin { rustc: word("rustc"), libc: word("libc") };
    let number = |cost: &toml::Value, key: &str| cost[key].as_float().expect("a number");
    let costs = table["instructions"].as_table().expect("a table").iter();
    let cost = |cost| Cost { own: number(cost, "own"), all: number(cost, "all") };
    (origin, costs.map(|(name, value)| (name.clone(), cost(value))).collect())
}

/// The text of a file.
fn written(origin: &Origin, costs: &Costs) -> String {
    let mut text = format!(
        "# Instructions per packet: our own, and with the C library's. Taken by `make budget`; tests/budget.rs\n\
         # fails when they are exceeded by more than 3 %.\n\
         rustc = \"{}\"\nlibc = \"{}\"\n\n[instructions]\n",
        origin.rustc, origin.libc
    );
    for (name, Cost { own, all }) in costs {
        writeln!(text, "{name} = {{ own = {own:.1}, all = {all:.1} }}").unwrap();
    }
    text
}

/// Our own instructions and all of them, in one of callgrind's files (callgrind's format, "File
/// Format" in valgrind's manual): lines of costs, of which one that follows `calls=` repeats what
/// stands with the callee. Their sum is said at the top.
fn counted(profile: &str, program: &str) -> (u64, u64) {
    let (mut own, mut all, mut sum) = (0, 0, None);
    let (mut ours, mut callee) = (false, false);
    for line in profile.lines() {
        if let Some(object) = line.strip_prefix("ob=") {
            ours = object.ends_with(program);
        } else if let Some(number) = line.strip_prefix("summary: ") {
            sum = number.trim().parse().ok();
        } else if line.starts_with("calls=") {
            callee = true;
        } else if line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c))
            && !std::mem::take(&mut callee)
        {
            let cost: u64 = line.split(' ').nth(1).map_or(0, |cost| cost.parse().expect("a cost"));
            all += cost;
            own += if ours { cost } else { 0 };
        }
    }
    assert_eq!(Some(all), sum, "callgrind's file is not what it was taken for");
    (own, all)
}

/// The directory that cargo builds into: this test is in TARGET/PROFILE/deps.
fn target() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(3).expect("a target directory").to_owned()
}

/// Builds the program that runs the turns, as a release is built. Returns its path.
fn build() -> PathBuf {
    let target = target();
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "--quiet", "--example", "turns", "--target-dir"])
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo");
    assert!(built.success(), "examples/turns.rs cannot be built");
    target.join("release/examples/turns")
}

/// Runs it under callgrind, in a network of its own, and counts.
fn count(program: &Path) -> Costs {
    require(&[("valgrind", "valgrind"), ("ip", "iproute2")]);
    let netns = Netns::new("budget");
    for link in ["all", "default"] {
        netns.set_ipv6(link, false);
    }
    netns.ip("link add eth0 type veth peer name w0");
    netns.ip("link set eth0 up");
    netns.ip("link set w0 up");
    let dir = tempfile::tempdir().unwrap();
    let mut command = netns.command("valgrind");
    command
        .args(["--tool=callgrind", "--compress-strings=no", "--compress-pos=no", "--quiet"])
        .args(["--toggle-collect=*::measured_turn", "--dump-before=*::case_is_over"])
        .arg(format!("--callgrind-out-file={}/out", dir.path().display()))
        .arg(program)
        .args(["eth0", "w0"]);
    let output = die_with_us(&mut command).output().expect("valgrind");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}\n{errors}", output.status);
    let mut costs = Costs::new();
    for (line, part) in said.lines().zip(1..) {
        let (name, packets) = line.split_once(' ').expect("a name and a number");
        let packets: f64 = packets.parse().expect("a number of packets");
        let profile = fs::read_to_string(dir.path().join(format!("out.{part}")))
            .unwrap_or_else(|error| panic!("{name}: callgrind's part {part}: {error}\n{errors}"));
        let (own, all) = counted(&profile, "/turns");
        assert!(own > 0, "{name}: nothing was counted\n{errors}");
        let cost = Cost { own: own as f64 / packets, all: all as f64 / packets };
        costs.insert(name.to_owned(), cost);
    }
    costs
}

/// The smaller cost of each path.
fn least(mut costs: Costs, others: &Costs) -> Costs {
    for (name, cost) in &mut costs {
        if let Some(other) = others.get(name).filter(|other| other.all < cost.all) {
            *cost = *other;
        }
    }
    costs
}

/// The origin of this run's figures.
fn origin() -> Origin {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().expect("rustc").stdout;
    let version = String::from_utf8(version).expect("a version");
    // SAFETY: returns a string that is never freed.
    let libc = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
    Origin {
        rustc: version.split_whitespace().nth(1).expect("a version").to_owned(),
        libc: libc.to_string_lossy().into_owned(),
    }
}

#[test]
fn no_path_takes_more_instructions_than_it_did() {
    let (origin, program) = (origin(), build());
    let mut costs = count(&program);
    let take = std::env::var_os("VUM_BUDGET").is_some_and(|value| value == "take");
    for _ in 0..if take { 2 } else { 0 } {
        costs = least(costs, &count(&program));
    }
    let text = if take { written(&origin, &costs) } else { fs::read_to_string(FILE).unwrap() };
    let (old_origin, old) = read(&text);
    for _ in 0..2 {
        if compare((&origin, &costs), (&old_origin, &old)).0.is_empty() {
            break;
        }
        // The kernel's timer splits arriving frames differently in each run, which adds a percent
        // at times. So do two addresses that meet in the switch's table, which is another one in
        // each run. The least count is the cost of a path.
        costs = least(costs, &count(&program));
    }
    println!(
        "{:32} {:>9} {:>9} {:>9} {:>9}",
        "instructions per packet", "own", "before", "all", "before"
    );
    for (name, cost) in &costs {
        let before = old.get(name).copied().unwrap_or(Cost { own: 0.0, all: 0.0 });
        println!(
            "{name:32} {:9.1} {:9.1} {:9.1} {:9.1}",
            cost.own, before.own, cost.all, before.all
        );
    }
    if take {
        fs::write(FILE, text).unwrap();
    }
    let (faults, remarks) = compare((&origin, &costs), (&old_origin, &old));
    remarks.iter().for_each(|remark| println!("{remark}"));
    assert!(
        faults.is_empty(),
        "{}\nIf that is worth it: sudo make budget, and say why in the commit.",
        faults.join("\n")
    );
}

#[test]
fn a_slower_path_is_found_and_a_faster_one_remarked() {
    let origin = |rustc: &str, libc: &str| Origin { rustc: rustc.into(), libc: libc.into() };
    let costs = |own, all| Costs::from([("path-64".to_owned(), Cost { own, all })]);
    let (here, old) = (origin("1.95.0", "2.36"), costs(200.0, 300.0));
    let faults = |now: &Costs, from: &Origin| compare((&here, now), (from, &old)).0;
    assert_eq!(faults(&old, &here), [""; 0]);
    assert_eq!(faults(&costs(205.9, 308.9), &here), [""; 0]);
    assert_eq!(
        faults(&costs(206.1, 308.0), &here),
        ["path-64: 206.1 instructions per packet, 200.0 before: +3.0 %"]
    );
    // One more copy of the frame is the C library's work.
    assert_eq!(faults(&costs(200.0, 310.0), &here).len(), 1);
    assert_eq!(faults(&costs(200.0, 310.0), &origin("1.95.0", "2.41")), [""; 0]);
    // Another compiler: only a large increase counts.
    let elsewhere = origin("1.90.0", "2.36");
    assert_eq!(faults(&costs(229.0, 344.0), &elsewhere), [""; 0]);
    assert_eq!(faults(&costs(231.0, 344.0), &elsewhere).len(), 1);
    let remarks = |now: &Costs, from| compare((&here, now), (from, &old)).1.len();
    assert_eq!(remarks(&old, &elsewhere), 1);
    assert_eq!(remarks(&old, &here), 0);
    assert_eq!(remarks(&costs(190.0, 290.0), &here), 1);
    // A path that is not counted any more, and one that has no figure.
    let other = Costs::from([("path-1514".to_owned(), Cost { own: 1.0, all: 1.0 })]);
    assert_eq!(faults(&other, &here).len(), 2);
}

#[test]
fn figures_are_read_as_they_were_written() {
    let origin = Origin { rustc: "1.95.0".into(), libc: "2.36".into() };
    let costs = Costs::from([("a-path-64".to_owned(), Cost { own: 123.4, all: 567.0 })]);
    assert_eq!(read(&written(&origin, &costs)), (origin, costs));
}

#[test]
fn a_callee_s_instructions_count_once() {
    let profile = "version: 1\nevents: Ir\nsummary: 160\n\nob=/tmp/examples/turns\nfl=x.rs\nfn=a\n10 100\n\
                   cob=/lib/libc.so.6\ncfn=memcpy\ncalls=2 5\n11 50\n12 10\n\nob=/lib/libc.so.6\nfn=memcpy\n5 50\n\
                   \ntotals: 160\n";
    assert_eq!(counted(profile, "/turns"), (110, 160));
}
