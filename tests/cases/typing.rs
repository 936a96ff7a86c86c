//! Mistakes of a new user: other programs' words, wrong letters, a file with the wrong tables.
//!
//! A refusal helps only if it contains the right word, and only once. Every case goes through the
//! real program with `--check`, which needs no device.
//!
//! What can go wrong with the tests: a suggestion may be right and the line still be two; the
//! number of lines is compared everywhere.

use std::fs;
use std::process::{Command, Stdio};

use testkit::backend::program;

/// The exit code, and stderr by lines.
fn check(args: &[&str]) -> (Option<i32>, Vec<String>) {
    let output =
        Command::new(program()).arg("--check").args(args).stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), stderr.lines().map(str::to_owned).collect())
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// These were refused, though their meaning is clear.
#[test]
fn bug_u8_plain_words_are_taken() {
    for line in [
        "--mode passthrough",
        "--mode Passthrough",
        "--mode PASSTHRU",
        "--mode Bridge",
        "--mode VEPA",
        "--type MacVTap",
        "--type MACVLAN",
        "--type switch",
        "--log-level warning",
        "--log-level WARN",
        "--log-level Info",
        "--mac AUTO",
        "--mac-changes Allow",
        "--workers Per-Queue",
    ] {
        let line = format!("--parent eth0 --socket-path /s {line}");
        assert_eq!(check(&words(&line)), (Some(0), Vec::new()), "{line}");
    }
    let port = "--port socket=/s,parent=eth0,type=Switch,mode=Private,compat=ON,mac=Auto";
    assert_eq!(check(&words(port)), (Some(0), Vec::new()));
}

/// These were refused with the whole list and no hint, or with a second error that came from the
/// first.
#[test]
fn bug_u8_a_wrong_word_is_answered_with_the_right_one() {
    let port = "--parent eth0 --port socket=/run/a.sock";
    for (line, meant) in [
        ("--parent eth0 --socket-path /s --mode brigde".to_owned(), "did you mean bridge?"),
        ("--parent eth0 --socket-path /s --mode privat".to_owned(), "did you mean private?"),
        ("--parent eth0 --socket-path /s --mode passthur".to_owned(), "did you mean passthru?"),
        ("--parent eth0 --socket-path /s --type macvatp".to_owned(), "did you mean macvtap?"),
        ("--parent eth0 --socket-path /s --type tap".to_owned(), "did you mean macvtap?"),
        ("--parent eth0 --socket-path /s --log-level debgu".to_owned(), "did you mean debug?"),
        ("--parent eth0 --socket-path /s --mac auot".to_owned(), "did you mean auto?"),
        ("--parent eth0 --socket-path /s --mac-changes alow".to_owned(), "did you mean allow?"),
        (format!("{port},queues=2"), "did you mean queue-pairs?"),
        (format!("{port},queue_pairs=2"), "did you mean queue-pairs?"),
        (format!("{port},num_queues=2"), "did you mean queue-pairs?"),
        (format!("{port},macc=52:54:00:12:34:56"), "did you mean mac?"),
        (format!("{port},hwaddr=52:54:00:12:34:56"), "did you mean mac?"),
        (format!("{port},mdoe=vepa"), "did you mean mode?"),
        ("--port sock=/run/a.sock,parent=eth0".to_owned(), "did you mean socket?"),
        ("--port path=/run/a.sock,iface=eth0".to_owned(), "did you mean socket?"),
        ("--port socket=/run/a.sock,dev=eth0".to_owned(), "did you mean parent?"),
        ("--port socket=/run/a.sock,nic=eth0".to_owned(), "did you mean parent?"),
        (
            "--port socket=/run/a.sock,parent".to_owned(),
            "'parent' has no value; write parent=VALUE",
        ),
        ("--parent eth0 --socket /s".to_owned(), "did you mean --socket-path?"),
        ("--iface eth0 --socket-path /s".to_owned(), "did you mean --parent?"),
        ("--parent eth0 --socket-path /s --num-queues 2".to_owned(), "did you mean --queue-pairs?"),
        ("--parent eth0 --socket-path /s --mac_changes allow".to_owned(), "--mac-changes?"),
        ("qemu --parent eth0 --socket-path /s".to_owned(), "did you mean qemu-args?"),
        ("libvirt --parent eth0 --socket-path /s".to_owned(), "did you mean libvirt-xml?"),
    ] {
        let (code, lines) = check(&words(&line));
        let expected = if line.contains("path=/run") { 2 } else { 1 };
        assert_eq!((code, lines.len()), (Some(2), expected), "{line}: {lines:#?}");
        assert!(lines[0].contains(meant), "{line}: {lines:#?}");
    }
}

/// A file with the tables' names of another program: each name once, and nothing that only follows
/// from it.
#[test]
fn bug_u8_tables_and_top_level_keys() {
    for (text, starts) in [
        (
            "[default]\nparent = 'eth0'\n[[port]]\nsocket = '/a'\n",
            &[":1: 'default' is not known; did you mean [defaults]?"][..],
        ),
        (
            "[Defaults]\nparent = 'eth0'\n[[ports]]\nsocket = '/a'\n",
            &[
                ":1: 'Defaults' is not known; did you mean [defaults]?",
                ":3: 'ports' is not known; did you mean [[port]]?",
            ],
        ),
        (
            "[global]\nparent = 'eth0'\n[[vm]]\nsocket = '/a'\nmtu = 12\n",
            &[":1: 'global'", ":3: 'vm'", ":5: [[port]] 1 (socket=/a): mtu=12: below 68"],
        ),
        ("[port]\nsocket = '/a'\nparent = 'eth0'\n", &[":1: write [[port]], with two brackets"]),
        (
            "[[defaults]]\nparent = 'eth0'\n[[port]]\nsocket = '/a'\n",
            &[":1: write [defaults], a table, with one bracket"],
        ),
        (
            "parent = 'eth0'\nworkers = 2\n[[port]]\nsocket = '/a'\n",
            &[":1: 'parent' is not known here", ":2: 'workers' is not known; a file holds"],
        ),
        (
            "[[port]]\nsock = '/a'\ndev = 'eth0'\nqueue_pairs = 2\n",
            &[":2: [[port]] 1: 'sock'", ":3: [[port]] 1: 'dev'", ":4: [[port]] 1: 'queue_pairs'"],
        ),
        (
            "[[port]]\nsocket = /a\nparent = 'eth0'\n",
            &[":2: not TOML: string values must be quoted"],
        ),
        ("[[port]\nsocket = '/a'\nparent = 'eth0'\n", &[":1: not TOML: unclosed array table"]),
        ("[[port]]\nsocket: '/a'\nparent = 'eth0'\n", &[":2: not TOML: "]),
    ] {
        let lines = in_file(text);
        assert_eq!(lines.len(), starts.len(), "{text}: {lines:#?}");
        for (line, start) in lines.iter().zip(starts.iter()) {
            assert!(line.starts_with(start), "{text}: {start:?} does not start {line:?}");
        }
    }
}

/// All names came first, then all values, then missing options: the reader jumped up and down in
/// the file.
#[test]
fn bug_u8_errors_come_in_the_order_of_the_lines() {
    let lines = in_file(
        "[defaults]\nmode = 'brigde'\ncolour = 'red'\n[[port]]\nsocket = '/a'\nmtu = 12\nmacc = '2:0:0:0:0:1'\n\
         [[port]]\nsocket = '/a'\nname = 'a/b'\nparent = 'eth0'\n[[port]]\nparent = 'eth0'\nqueue-pairs = 99\n",
    );
    let numbers: Vec<usize> =
        lines.iter().map(|line| line.split(':').nth(1).unwrap().parse().unwrap()).collect();
    assert!(numbers.is_sorted(), "{lines:#?}");
    assert_eq!(numbers.len(), 9, "{lines:#?}");
}

/// The lines for a file with this text, without its name.
fn in_file(text: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ports.toml");
    fs::write(&file, text).unwrap();
    let name = file.display().to_string();
    let (code, lines) = check(&["--config", &name]);
    assert_eq!(code, Some(2), "{text}");
    lines.iter().map(|line| line.strip_prefix(name.as_str()).unwrap_or(line).to_owned()).collect()
}
