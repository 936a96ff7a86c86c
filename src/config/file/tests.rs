//! A file's text, read: what becomes of its values, and what is said of its errors.

use super::*;
use crate::config::port_options::PORT_OPTIONS;

fn texts(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(Problem::to_string).collect()
}

#[test]
fn values_become_the_text_of_a_port_argument() {
    let text = "[defaults]\nparent = 'eth0'\n[[port]]\nsocket = '/a'\nmtu = 0x578\n\
                compat = false\nsource = ['02:0:0:0:0:1', '02:0:0:0:0:2']\n[[port]]\n";
    let mut problems = Vec::new();
    let document = parse(PORT_OPTIONS, "f", text, &mut problems);
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(document.defaults.unwrap().text("parent"), Some("eth0"));
    assert_eq!(document.ports.len(), 2);
    let port = &document.ports[0];
    assert_eq!(port.text("mtu"), Some("1400"));
    assert_eq!(port.text("compat"), Some("off"));
    assert_eq!(port.text("source"), Some("02:0:0:0:0:1+02:0:0:0:0:2"));
}

#[test]
fn every_error_has_its_line() {
    let text = "workers = 3\n[defaults]\nsocket = '/x'\nqueues = 2\n[[port]]\nmtu = 1.5\n\
                mode = ''\nsource = [1]\nsocket = '/a'\n";
    let mut problems = Vec::new();
    parse(PORT_OPTIONS, "f", text, &mut problems);
    let text = texts(&problems).join("\n");
    for start in [
        "f:1: 'workers' is not known; a file holds [defaults] and [[port]] tables",
        "f:3: [defaults]: socket: a socket belongs to one port;",
        "f:4: [defaults]: 'queues' is not a key of a port; did you mean queue-pairs? The keys",
        "f:6: [[port]] 1 (socket=/a): mtu: expected a string, number or boolean, not a float",
        "f:7: [[port]] 1 (socket=/a): mode: empty;",
        "f:8: [[port]] 1 (socket=/a): source: expected a list of strings",
    ] {
        assert!(text.contains(start), "{start}\nnot in\n{text}");
    }
    assert_eq!(problems.len(), 6, "{text}");
}

#[test]
fn broken_toml_is_told_with_its_line_and_nothing_else() {
    let mut problems = Vec::new();
    let document = parse(PORT_OPTIONS, "f", "[[port]]\nmtu = \nx = [\n", &mut problems);
    assert!(document.ports.is_empty());
    let lines = texts(&problems);
    assert!(lines[0].starts_with("f:2: not TOML: "), "{lines:?}");
    let mut problems = Vec::new();
    parse(PORT_OPTIONS, "f", "[port]\nmtu = 1\n", &mut problems);
    assert_eq!(texts(&problems), ["f:1: write [[port]], with two brackets, for each port"]);
}
