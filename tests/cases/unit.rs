//! The systemd unit, run by its own rules.
//!
//! No service manager runs where these tests run, so the test plays a small one. It reads
//! ExecStart=, Restart=, RestartSec=, RestartPreventExitStatus= and StartLimitIntervalSec= from the
//! unit itself. It runs the command, and restarts it in the cases of systemd.service(5).
//! `systemd-analyze verify` checks that systemd reads the file without complaint.
//!
//! What can go wrong with the tests: a setting that the small manager does not know would be
//! overlooked. Therefore it refuses commands before and after ExecStart=, whose failures have rules
//! of their own.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use testkit::backend::{Backend, program};
use testkit::netns::{Netns, require, run, wait_until};

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/vhost-user-macvtap@.service");

/// The unit's settings: the last value of each key counts, but for those that may be given several
/// times.
struct Unit(String);

impl Unit {
    fn read() -> Unit {
        Unit(fs::read_to_string(UNIT).unwrap())
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).next_back()
    }

    /// The section that a key stands in.
    fn section_of(&self, key: &str) -> Option<&str> {
        let at = self.0.lines().position(|line| line.starts_with(&format!("{key}=")))?;
        self.0.lines().take(at).filter(|line| line.starts_with('[')).last()
    }

    /// The arguments of ExecStart= with the file that the test brings.
    fn arguments(&self, config: &Path) -> Vec<String> {
        let line = self.get("ExecStart").unwrap();
        let words = line.split(' ').skip(1);
        let file = config.display().to_string();
        words
            .map(|word| if word.ends_with("%i.toml") { file.clone() } else { word.into() })
            .collect()
    }

    /// Whether the manager starts the program again after this exit code, in the count-th try.
    fn restarts(&self, code: i32) -> bool {
        let prevented = self.get("RestartPreventExitStatus").unwrap_or_default();
        self.get("Restart") == Some("on-failure")
            && code != 0
            && !prevented.split(' ').any(|text| text == code.to_string())
    }

    /// The manager never gives up: systemd's default is five starts in ten seconds.
    fn is_never_given_up(&self) -> bool {
        self.get("StartLimitIntervalSec") == Some("0")
            && self.section_of("StartLimitIntervalSec") == Some("[Unit]")
    }
}

/// A configuration with a socket in a directory of its own.
fn configured(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lan.toml");
    let socket = dir.path().join("vm1.sock").display().to_string();
    fs::write(&file, text.replace("SOCKET", &socket)).unwrap();
    (dir, file)
}

/// Bad usage was retried indefinitely: `--check` stood in ExecStartPre=, for which
/// RestartPreventExitStatus= does not hold.
#[test]
fn bug_u7_bad_usage_is_not_tried_again() {
    let unit = Unit::read();
    for key in ["ExecStartPre", "ExecStartPost", "ExecCondition"] {
        assert_eq!(unit.get(key), None, "its failures have rules of their own");
    }
    let host = Netns::new("host");
    for text in [
        "[[port]]\nsocket = 'SOCKET'\nparent = 'eth0'\nmode = 'brigde'\n",
        "[[port]]\nsocket = 'SOCKET'\n",
        "[[port]\n",
        "",
    ] {
        let (_dir, file) = configured(text);
        let arguments = unit.arguments(&file);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let ended = Backend::run(&host, &arguments, Duration::from_secs(10));
        assert_eq!(ended.code, Some(2), "{text}: {}", ended.stderr);
        assert!(!unit.restarts(2));
    }
}

/// The unit was given up after five starts in ten seconds: a parent that came later got no
/// back-end.
#[test]
fn bug_u7_a_parent_that_comes_late_is_waited_for() {
    let unit = Unit::read();
    assert!(unit.is_never_given_up());
    let pause = Duration::from_secs(unit.get("RestartSec").unwrap().parse().unwrap());
    assert!(pause <= Duration::from_secs(5), "{pause:?}");
    let host = Netns::new("host");
    for kind in ["macvtap", "macvlan"] {
        let (dir, file) = configured(&format!(
            "[[port]]\nsocket = 'SOCKET'\nparent = 'late0'\nname = 'vm1'\ntype = '{kind}'\n"
        ));
        let arguments = unit.arguments(&file);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        // Twice without the parent; how often does not matter, because no start counts.
        for _ in 0..2 {
            let ended = Backend::run(&host, &arguments, Duration::from_secs(10));
            assert_eq!(ended.code, Some(4), "a missing parent: {}", ended.stderr);
            assert!(ended.stderr.contains("parent late0: "), "{}", ended.stderr);
            assert!(unit.restarts(4));
        }
        host.ip("link add late0 type veth peer name w0");
        let mut backend = Backend::spawn(&host, &arguments);
        let socket = dir.path().join("vm1.sock");
        assert!(wait_until(Duration::from_secs(10), || socket.exists()), "{kind}");
        assert!(backend.stop(Duration::from_secs(5)).success());
        host.ip("link del late0");
    }
}

/// `systemd-analyze verify` prints nothing. It looks for the program, which is the one under test
/// here.
#[test]
fn bug_u7_systemd_reads_the_unit_without_complaint() {
    require(&[("systemd-analyze", "systemd")]);
    let dir = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(UNIT).unwrap();
    let text = text.replace("/usr/bin/vhost-user-macvtap", &program().display().to_string());
    let file = dir.path().join("vhost-user-macvtap@lan.service");
    fs::write(&file, &text).unwrap();
    let verified = run("systemd-analyze", &["verify", file.to_str().unwrap()]);
    assert!(verified.ok() && verified.text.is_empty(), "{}", verified.text);
    // Proof that the tool checks at all: it complains of an unknown setting.
    fs::write(&file, text.replace("RestartSec=", "RestartSeconds=")).unwrap();
    let verified = run("systemd-analyze", &["verify", file.to_str().unwrap()]);
    assert!(verified.text.contains("RestartSeconds"), "{}", verified.text);
}

/// A missing permission had the code of every other failure, so that a manager could not tell them
/// apart.
#[test]
fn bug_u7_exit_codes_tell_what_is_missing() {
    require(&[("setpriv", "util-linux")]);
    let unit = Unit::read();
    let host = Netns::new("host");
    host.ip("link add eth0 type veth peer name w0");
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("vm1.sock").display().to_string();
    let code = |drop: &str, line: &str| {
        let script = format!(
            "exec setpriv --bounding-set={drop} {} --socket-path {socket} {line}",
            program().display()
        );
        let began = Instant::now();
        let output = host.run(&format!("exec timeout 10 sh -c '{script}'"));
        assert!(began.elapsed() < Duration::from_secs(9), "{line}: {}", output.text);
        output.status
    };
    assert_eq!(code("-net_admin", "--parent eth0 --name vm1"), 3);
    assert_eq!(code("-net_raw", "--parent eth0 --type macvlan"), 3);
    assert_eq!(code("-bpf,-sys_admin", "--parent eth0 --type macvlan --mode passthru"), 3);
    assert_eq!(code("-sys_module", "--parent eth7"), 4);
    assert_eq!(code("-sys_module", "--parent eth7 --type macvlan"), 4);
    assert_eq!(code("-sys_module", "--parent lo"), 1);
    assert_eq!(code("-sys_module", "--parent eth0 --mtu 12"), 2);
    assert!(unit.restarts(1) && unit.restarts(4) && !unit.restarts(3) && !unit.restarts(2));
}
