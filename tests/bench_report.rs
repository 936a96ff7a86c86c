//! The table of `make bench` reports the measured figures: its arithmetic and its pages.
//!
//! The files are the bench's own, taken in by path; only the pure parts are here. The last test
//! runs a case with the program that cargo has built. It shows that the generator, the peers'
//! machinery and the report work together, before a user waits for the whole table.
//!
//! What can go wrong: the last test needs root, as the table does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// Parts that only the bench's own program uses are dead here. The bench is compiled without this
// line.
#![allow(dead_code)]

// The bench's files, at the root as there.
#[path = "../benches/table/cable.rs"]
mod cable;
#[path = "../benches/table/cases/mod.rs"]
mod cases;
#[path = "../benches/table/crowd.rs"]
mod crowd;
#[path = "../benches/table/figures.rs"]
mod figures;
#[path = "../benches/table/generator/mod.rs"]
mod generator;
#[path = "../benches/table/host.rs"]
mod host;
#[path = "../benches/table/limits/mod.rs"]
mod limits;
#[path = "../benches/table/measure.rs"]
mod measure;
#[path = "../benches/table/peers/mod.rs"]
mod peers;
#[path = "../benches/table/report/mod.rs"]
mod report;
#[path = "../benches/table/spinning.rs"]
mod spinning;
#[path = "../benches/table/tcp/mod.rs"]
mod tcp;
#[path = "../benches/table/twins.rs"]
mod twins;

use std::time::Duration;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

use figures::{MedianRange, jain, percentile, ratio_of_rounds};
use measure::{Better, Case, Contender, Goal, Role, Sample};

fn spread(median: f64, least: f64, most: f64) -> Option<MedianRange> {
    Some(MedianRange { median, least, most })
}

#[test]
fn the_median_is_the_middle_and_no_number_is_left_out() {
    assert_eq!(MedianRange::of([3.0, 1.0, 2.0]), spread(2.0, 1.0, 3.0));
    assert_eq!(MedianRange::of([4.0, 1.0, 2.0, 3.0]), spread(2.5, 1.0, 4.0));
    assert_eq!(MedianRange::of([f64::NAN, 5.0, f64::INFINITY]), spread(5.0, 5.0, 5.0));
    assert_eq!(MedianRange::of([]), None);
}

#[test]
fn a_twin_runs_the_other_program_in_the_same_round() {
    let ours = peers::ours::program();
    let told = || -> Result<Sample> {
        let value = if peers::ours::program() == "/before" { 20.0 } else { 10.0 };
        Ok(Sample { value, ..Sample::default() })
    };
    let case = Case {
        id: "P0",
        title: String::new(),
        unit: "Mpps",
        better: Better::Higher,
        goal: Goal::none(),
        contenders: vec![
            Contender::new("this program", Role::Ours, told),
            Contender::new("a peer", Role::Peer, || panic!("a peer does not run beside a twin")),
        ],
        conditions: String::new(),
    };
    let outcome = measure::run(twins::with_twins(case, "/before"), 3, |_| {});
    assert_eq!(outcome.rows.len(), 2);
    assert_eq!(
        twins::ratios(&outcome),
        "P0         this program: 0.500 of before (0.500 to 0.500)\n"
    );
    assert_eq!(peers::ours::program(), ours, "the twin's program is used for the twin only");
}

#[test]
fn a_ratio_is_taken_within_a_round() {
    // The machine was twice as fast in the second round: the ratio of medians would say something
    // else.
    let ours = [Some(10.0), Some(20.0), None, Some(9.0)];
    let theirs = [Some(5.0), Some(10.0), Some(1.0), Some(3.0)];
    assert_eq!(ratio_of_rounds(&ours, &theirs), spread(2.0, 2.0, 3.0));
    assert_eq!(ratio_of_rounds(&[None], &[Some(1.0)]), None);
    assert_eq!(ratio_of_rounds(&[Some(1.0)], &[Some(0.0)]), None, "nothing is divided by nothing");
}

#[test]
fn percentiles_and_fairness() {
    let mut times: Vec<u32> = (1..=100).rev().collect();
    assert_eq!(percentile(&mut times, 0.5), Some(51));
    assert_eq!(percentile(&mut times, 0.99), Some(100));
    assert_eq!(percentile(&mut [], 0.5), None);
    assert_eq!(jain(&[5, 5, 5, 5]), Some(1.0));
    assert_eq!(jain(&[8, 0, 0, 0]), Some(0.25));
    assert_eq!(jain(&[0, 0]), None);
}

fn constant(value: f64) -> impl FnMut() -> Result<Sample> {
    move || Ok(Sample { value, ..Sample::default() })
}

fn case(better: Better, contenders: Vec<Contender>) -> Case {
    Case {
        id: "P0",
        title: "a | case".to_owned(),
        unit: "Mpps",
        better,
        goal: Goal::new("twice <the> peer", |o| Some(o.ratio("ours", "slow")?.median >= 2.0)),
        contenders,
        conditions: "none".to_owned(),
    }
}

#[test]
fn rounds_take_turns_and_a_failure_is_told_not_the_end() {
    use std::cell::RefCell;
    use std::rc::Rc;
    let turns = Rc::new(RefCell::new(String::new()));
    let mut contenders = Vec::new();
    for name in ["a", "b"] {
        let turns = turns.clone();
        contenders.push(Contender::new(name, Role::Ours, move || {
            turns.borrow_mut().push_str(name);
            if name == "b" {
                panic!("no such device")
            }
            Ok(Sample { value: 1.0, ..Sample::default() })
        }));
    }
    let outcome = measure::run(case(Better::Higher, contenders), 4, |_| ());
    assert_eq!(*turns.borrow(), "ababaa", "what has failed twice is not tried again");
    assert_eq!(outcome.row("b").unwrap().error.as_deref(), Some("no such device"));
    assert_eq!(outcome.row("b").unwrap().samples.len(), 4);
    assert_eq!(outcome.met, None, "nobody to compare with");
}

#[test]
fn the_best_is_the_least_where_less_is_better() {
    let contenders = |better| {
        let make = |name, value| Contender::new(name, Role::Peer, constant(value));
        measure::run(case(better, vec![make("slow", 9.0), make("quick", 3.0)]), 1, |_| ())
    };
    assert_eq!(contenders(Better::Lower).best(Role::Peer).unwrap().name, "quick");
    assert_eq!(contenders(Better::Higher).best(Role::Peer).unwrap().name, "slow");
}

fn outcome() -> measure::Outcome {
    let contenders = vec![
        Contender::new("ours", Role::Ours, constant(6.0)),
        Contender::new("slow", Role::Peer, constant(2.0)),
        Contender::absent("a_<b>", Role::Peer, "needs `x` | y"),
        Contender::new("loop", Role::Limit, constant(12.0)),
    ];
    measure::run(case(Better::Higher, contenders), 3, |_| ())
}

#[test]
fn the_page_tells_figures_goal_and_who_is_absent() {
    let run = report::Run {
        machine: vec![("kernel", "6_18".to_owned())],
        rounds: 3,
        seconds: 1.5,
        busy: Some("who*".to_owned()),
    };
    let page = report::markdown::page(&run, &[outcome()], "chart.svg");
    for wanted in [
        "| [P0](#p0-a--case) | a \\| case | 6.00 Mpps | 2.00 Mpps | 12.0 Mpps | 3.00 | 0.50 | met |",
        "Goal: twice \\<the> peer: **met**.",
        "| **ours** | 6.00 (6.00 to 6.00) |",
        "| slow | 2.00 (2.00 to 2.00) | 3.00 (3.00 to 3.00) |",
        "| a\\_\\<b> | - | | | | | not measured: needs \\`x\\` \\| y |",
        "**The machine was not quiet:** who\\*",
        "| kernel | 6\\_18 |",
        "sudo make bench CASES=P0",
    ] {
        assert!(page.contains(wanted), "{wanted}\nis not in\n{page}");
    }
}

#[test]
fn the_chart_scales_to_the_limit_and_escapes() {
    let mut outcome = outcome();
    outcome.title = "a < b & \"c\"".to_owned();
    let chart = report::chart::draw(&[outcome]);
    assert!(chart.contains("a &lt; b &amp; &quot;c&quot;"), "{chart}");
    assert!(chart.contains("width=\"270.0\""), "ours is half of the limit: {chart}");
    assert!(chart.contains("width=\"90.0\""), "the peer a sixth: {chart}");
    assert!(chart.contains("x1=\"564.0\""), "the limit is the end: {chart}");
    assert!(!chart.contains("a_<b>"), "who has no figure has no bar");
}

/// An idle process that took no time at all had no bar, and only its peer was seen.
#[test]
fn who_needs_nothing_where_less_is_better_has_the_longest_bar() {
    let contenders = vec![
        Contender::new("ours", Role::Ours, constant(0.0)),
        Contender::new("slow", Role::Peer, constant(99.0)),
    ];
    let chart = report::chart::draw(&[measure::run(case(Better::Lower, contenders), 3, |_| ())]);
    let bars: Vec<&str> = chart.lines().filter(|line| line.contains("</text>")).collect();
    let bar =
        |name: &str| bars.iter().find(|line| line.contains(&format!(">{name}</tspan>"))).copied();
    assert!(bar("ours").unwrap().contains("width=\"540.0\""), "{chart}");
    assert!(bar("slow").unwrap().contains("width=\"2.0\""), "{chart}");
}

#[test]
fn figures_are_short_and_what_is_not_zero_does_not_look_like_it() {
    use report::markdown::{percent, short};
    assert_eq!(
        [short(0.0), short(123.4), short(12.34), short(1.234)],
        ["0", "123", "12.3", "1.23"]
    );
    assert_eq!([short(0.2796), short(0.0123), short(0.000_012)], ["0.280", "0.0123", "1.2e-5"]);
    assert_eq!([percent(0.0), percent(0.5), percent(0.000_01)], ["0 %", "50.0 %", "0.0010 %"]);
}

/// Not how fast: whether frames go from guest to guest, are counted, and none is lost.
#[test]
fn one_case_runs_from_the_start_of_the_program_to_the_page() {
    let terms = cases::CaseTerms { time: Duration::from_millis(200), peer: None };
    let mut case = cases::all(&terms).into_iter().find(|case| case.id == "P2").unwrap();
    case.contenders.retain(|contender| matches!(contender.role, Role::Ours | Role::Limit));
    let outcome = measure::run(case, 1, |_| ());
    for row in &outcome.rows {
        let sample = row.samples[0].as_ref().unwrap_or_else(|| panic!("{:?}", row.error));
        assert!(sample.value > 0.01, "{}: {} Mpps", row.name, sample.value);
        assert_eq!(sample.lost, Some(0.0), "{}", row.name);
        assert!(sample.cpu_each.unwrap() > 0.0, "{}", row.name);
    }
    let run = report::Run { machine: host::description(), rounds: 1, seconds: 0.2, busy: None };
    let page = report::markdown::page(&run, &[outcome], "chart.svg");
    assert!(page.contains("| **this program** |"), "{page}");
}

/// Through the parent, both ways, with either type of port: all frames that leave arrive, and the
/// plain loops run.
#[test]
fn one_case_runs_each_way_through_the_parent() {
    let terms = cases::CaseTerms { time: Duration::from_millis(400), peer: None };
    let through = ["P4", "P5", "P6", "P6-macvtap"];
    for mut case in cases::all(&terms).into_iter().filter(|case| through.contains(&case.id)) {
        case.contenders.retain(|contender| matches!(contender.role, Role::Ours | Role::Limit));
        let outcome = measure::run(case, 1, |_| ());
        for row in &outcome.rows {
            let (id, name) = (outcome.id, &row.name);
            let sample = row.samples[0].as_ref().unwrap_or_else(|| panic!("{id}: {:?}", row.error));
            assert!(sample.value > 0.001, "{id}, {name}: {} Mpps", sample.value);
            assert!(sample.lost.unwrap() < 0.5, "{id}, {name}: {:?} lost", sample.lost);
            assert!(sample.cpu_each.unwrap() > 0.0, "{id}, {name}");
        }
    }
}

#[test]
fn a_socket_that_is_bound_does_not_listen_yet() {
    let row =
        |flags: &str, path: &str| format!("0000: 00000002 00000000 {flags} 0001 01 99 {path}\n");
    let table = "Num RefCount Protocol Flags Type St Inode Path\n".to_owned()
        + &row("00010000", "/dev/shm/here/0")
        + &row("00000000", "/dev/shm/here/1")
        + &row("00010000", "/dev/shm/elsewhere/0");
    assert_eq!(cases::start::listening(&table, "/dev/shm/here"), 1);
}
