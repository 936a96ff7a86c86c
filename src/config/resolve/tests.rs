//! Layers and checks, through the whole of `resolve`. The command line is what the user would type;
//! every refusal is read as the user reads it.

use std::time::Duration;

use clap::Parser;
use proptest::prelude::*;

use super::*;
use crate::cli::Args;
use crate::config::{
    FrontendSocket, Kind, MAX_QUEUE_PAIRS, MacChanges, MacChoice, Workers, derived_name, option,
};

fn keys() -> String {
    let keys = option::keys(PORT_OPTIONS).map(|spec| spec.key);
    keys.collect::<Vec<&str>>().join(", ")
}

fn args(line: &str) -> Args {
    let words = std::iter::once("vhost-user-macvtap").chain(line.split_whitespace());
    Args::try_parse_from(words).unwrap()
}

fn good(line: &str) -> Config {
    resolve(&args(line).input()).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn messages(line: &str) -> Vec<String> {
    match resolve(&args(line).input()) {
        Err(error) => error.problems().iter().map(ToString::to_string).collect(),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn one_port_gets_every_default() {
    let config = good("--parent eth0 --socket-path /run/vm1.sock");
    assert_eq!(config.workers, Workers::Auto);
    assert!(!config.one_off);
    let port = &config.ports[0];
    assert_eq!(port.name, derived_name(&port.socket, "eth0"));
    assert_eq!(port.socket, FrontendSocket::Listen("/run/vm1.sock".into()));
    assert_eq!((port.kind, port.mode), (Kind::Macvtap, Mode::Bridge));
    assert_eq!((port.mac, port.mtu, port.queue_pairs), (MacChoice::Auto, None, 1));
    assert_eq!((port.mac_changes, port.compat), (MacChanges::Deny, false));
    assert!(port.sources.is_empty());
}

#[test]
fn every_flag_arrives() {
    let config = good(
        "--parent eth0 --socket-path /s --type macvtap --mode source --mac 52:54:0:0:0:1 \
         --mtu 1400 --queue-pairs 32 --memory-limit 3G --source 02:0:0:0:0:1 --source 02:0:0:0:0:2 --name vm1 \
         --mac-changes allow --client --workers 3 --busy-poll 50 --one-off --log-level trace",
    );
    assert_eq!((config.workers, config.one_off), (Workers::Count(3), true));
    assert_eq!(config.busy_poll, Duration::from_micros(50));
    let port = &config.ports[0];
    assert_eq!(port.socket, FrontendSocket::Connect("/s".into()));
    assert_eq!(port.mac.to_owned(), MacChoice::Given("52:54:00:00:00:01".parse().unwrap()));
    assert_eq!((port.mtu, port.queue_pairs), (Some(1400), MAX_QUEUE_PAIRS));
    assert_eq!(port.memory_limit, Some(3 << 30));
    assert_eq!(port.sources.len(), 2);
    assert_eq!(port.name, "vm1");
    assert_eq!(port.mac_changes, MacChanges::Allow);
}

#[test]
fn passthru_follows_the_guest_and_may_have_a_mac() {
    let config = good("--parent eth0 --socket-path /s --mode passthru --mac 02:0:0:0:0:1");
    assert_eq!(config.ports[0].mac_changes, MacChanges::Allow);
    let config = good("--parent eth0 --socket-path /s --mode passthru --mac-changes deny");
    assert_eq!(config.ports[0].mac_changes, MacChanges::Deny);
}

#[test]
fn an_inherited_socket_ends_with_its_front_end() {
    let config = good("--parent eth0 --fd 3 --workers per-queue");
    assert_eq!(config.ports[0].socket, FrontendSocket::Fd(3));
    assert_eq!((config.workers, config.one_off), (Workers::PerQueue, true));
}

#[test]
fn flags_are_the_defaults_of_ports_and_lie_over_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ports.toml");
    std::fs::write(
        &file,
        "[defaults]\nparent = 'eth9'\nmtu = 1300\nmode = 'vepa'\nclient = true\n\
         [[port]]\nsocket = '/a'\n[[port]]\nsocket = '/b'\nmtu = 1200\nclient = false\n",
    )
    .unwrap();
    let line = format!("--config {} --mtu 1400 --port socket=/c,mode=private", file.display());
    let ports = good(&line).ports;
    let brief: Vec<_> =
        ports.iter().map(|p| (p.socket.clone(), p.parent.as_str(), p.mode, p.mtu)).collect();
    assert_eq!(
        brief,
        [
            (FrontendSocket::Connect("/c".into()), "eth9", Mode::Private, Some(1400)),
            (FrontendSocket::Connect("/a".into()), "eth9", Mode::Vepa, Some(1400)),
            (FrontendSocket::Listen("/b".into()), "eth9", Mode::Vepa, Some(1200)),
        ]
    );
}

#[test]
fn a_default_source_list_is_for_those_in_source_mode() {
    let line = "--parent eth0 --source 02:0:0:0:0:1 --port socket=/a --port socket=/b,mode=source";
    let ports = good(line).ports;
    assert!(ports[0].sources.is_empty());
    assert_eq!(ports[1].sources.len(), 1);
    assert_eq!(
        messages("--parent eth0 --source 02:0:0:0:0:1 --port socket=/a --port socket=/b"),
        ["--source 02:0:0:0:0:1: no port has mode=source; set it or leave the list out"]
    );
}

#[test]
fn a_plain_port_stands_beside_others() {
    let ports = good("--parent eth0 --socket-path /a --port socket=/b --port socket=/c").ports;
    assert_eq!(ports.len(), 3);
}

#[test]
fn one_mistake_is_one_message() {
    for line in [
        "--parent eth0 --socket-path /s --mode brigde --source 02:0:0:0:0:1",
        "--parent eth0 --mtu 12 --port socket=/a --port socket=/b",
        "--parent eth/0 --port socket=/a --port socket=/b",
        "--parent eth0 --port socket=/a --port socket=/a",
        "--socket-path /s --parent eth0 --type macvlan --compat --mac-changes allow",
        "--socket-path /s --parent eth0 --type macvlan --nodst",
        "--socket-path /s --parent eth0 --mode source --source 02:0:0:0:0:1 --nodst",
        "--parent eth0 --fd x",
        "--config /nonexistent/ports.toml",
    ] {
        let lines = messages(line);
        assert_eq!(lines.len(), 1, "{line}: {lines:?}");
    }
}

#[test]
fn all_errors_are_reported_at_once() {
    let keys = keys();
    let unknown =
        format!("--port 2 (socket=/run/a.sock): 'foo' is not a key of a port; the keys are {keys}");
    assert_eq!(
        messages(
            "--mode brigde --workers 0 --busy-poll 1001 --log-level loud --port socket=/run/a.sock,mtu=12 \
             --port socket=/run/a.sock,parent=eth0,queue-pairs=33,foo=1"
        ),
        [
            "--mode brigde: 'brigde' is not a mode: bridge, vepa, private, passthru or source; \
             did you mean bridge?",
            "--port 1 (socket=/run/a.sock): mtu=12: below 68; leave it out to use the parent's",
            unknown.as_str(),
            "--port 2 (socket=/run/a.sock): queue-pairs=33: queue pairs are a number from 1 to 32",
            "--port 1 (socket=/run/a.sock): parent: missing; name the network device to join, as \
             eth0",
            "--port 1 (socket=/run/a.sock) and --port 2 (socket=/run/a.sock): both have the socket \
             path /run/a.sock; give each its own",
            "--workers 0: no thread would move frames; use 1 or more",
            "--busy-poll 1001: not a number of microseconds from 0 to 1000",
            "--log-level loud: not a level; the levels are error, warn, info, debug, trace",
        ]
    );
}

/// Each refusal: the command line, and what its message must say.
#[test]
fn every_refusal_names_the_place_the_reason_and_the_remedy() {
    let long = format!("--parent eth0 --socket-path /{}", "x".repeat(107));
    for (line, message) in [
        ("--parent eth0", "--socket-path: missing, so there is no port to serve; give"),
        ("--parent eth0 --port mtu=1400", "--port 1: socket: missing; give the path"),
        (long.as_str(), ": 108 bytes, a Unix socket's path holds 107; use a shorter one"),
        ("--parent eth0 --socket-path=", "--socket-path : empty; give the path"),
        ("--parent .. --socket-path /s", "--parent ..: not a device name; `ip link` lists"),
        ("--parent e/0 --socket-path /s", "--parent e/0: '/' cannot be in a device name"),
        ("--parent eth0 --socket-path /s --mac 0:0:0:0:0:0", "the zero address is not a station's"),
        ("--parent eth0 --socket-path /s --mac 1:0:0:0:0:1", "a multicast address"),
        ("--parent eth0 --socket-path /s --mac-changes maybe", "neither allow nor deny"),
        ("--parent eth0 --port socket=/s,client=perhaps", "client=perhaps: 'perhaps' is neither"),
        ("--parent eth0 --socket-path /s --mtu -5", "--mtu -5: below 68; leave it out"),
        ("--parent eth0 --socket-path /s --mtu 65536", "--mtu 65536: above 65535; leave it out"),
        ("--parent eth0 --socket-path /s --mtu 1k", "not a number of bytes (68 to 65535)"),
        ("--parent eth0 --socket-path /s --name eth0", "--name eth0: is the parent's own name"),
        ("--parent eth0 --socket-path /s --name a%d", "--name a%d: '%' cannot be in a device name"),
        ("--parent eth0 --socket-path /s --name ..", "--name ..: not a device name; give 1 to 15"),
        (
            "--parent eth0 --mode source --socket-path /s --source 02:0:0:0:0:1+1:0:0:0:0:1",
            "1:0:0:0:0:1: a multicast address",
        ),
        (
            "--mode passthru --port socket=/a,parent=eth0 --port socket=/b,parent=eth0,mode=vepa",
            "--port 1 (socket=/a) and --port 2 (socket=/b): share parent eth0, but mode=passthru",
        ),
    ] {
        let lines = messages(line);
        assert!(lines.len() == 1 && lines[0].contains(message), "{line}:\n{lines:#?}");
    }
}

#[test]
fn an_error_that_quotes_a_line_break_is_still_one_line() {
    let mut args = args("--parent eth0 --socket-path /s");
    args.flags.0.add("mode", "a\nb\u{1b}[2J".to_owned(), None);
    let error = resolve(&args.input()).unwrap_err().to_string();
    assert!(error.starts_with("--mode a\\nb\\u{1b}[2J: "), "{error}");
}

proptest! {
    /// Any text is answered: the answer is a configuration or errors, each one line.
    #[test]
    fn nothing_that_can_be_typed_breaks_the_parser(
        port in "((socket|parent|mtu|mac|source|mode|name|x)?=?[ -~\\PC]{0,12},?){0,6}",
        file in "(\\[\\[port\\]\\]\n|\\[defaults\\]\n|(mtu|socket|source|port) = [ -~]{0,9}\n){0,6}",
    ) {
        let args = Args { port: vec![port], ..Args::default() };
        if let Err(error) = resolve(&args.input()) {
            prop_assert_eq!(error.exit_code(), 2);
        }
        let mut problems = Vec::new();
        file::parse(PORT_OPTIONS, "f", &file, &mut problems);
        for problem in problems.iter().map(Problem::to_string) {
            prop_assert!(problem.starts_with("f:") && !problem.contains('\n'), "{problem}");
        }
    }
}
