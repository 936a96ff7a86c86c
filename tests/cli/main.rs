//! The command line as scripts see it: the real program, its output, its exit codes.
//!
//! `--check` touches nothing, so none of this needs a network device or privileges. Every refusal
//! here is one that a user has to be able to act on: the message is part of the interface.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod refusals;

use std::process::{Command, Output, Stdio};

use testkit::backend::program;

fn run(line: &str) -> Output {
    Command::new(program()).args(line.split_whitespace()).stdin(Stdio::null()).output().unwrap()
}

/// Stdout of a run that succeeds; stderr may hold notes.
fn stdout(line: &str) -> String {
    let output = run(line);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{line}:\n{stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// The lines on stderr of a run that is refused as bad usage, with nothing on stdout.
fn refused(line: &str) -> Vec<String> {
    let output = run(line);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{line}:\n{stderr}");
    assert!(output.stdout.is_empty(), "{line}");
    stderr.lines().map(str::to_owned).collect()
}

#[test]
fn blanks_in_device_names_are_refused() {
    let output = Command::new(program())
        .args(["--check", "--parent", "eth 0", "--socket-path", "/s", "--name", "a\tb"])
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("--parent eth 0: ' ' cannot be in a device name"), "{stderr}");
    assert!(stderr.contains("'\\t' cannot be in a device name"), "{stderr}");
}

#[test]
fn every_error_of_a_command_line_is_reported_at_once() {
    let lines = refused(
        "--check --mode brigde --workers 0 --queue-pairs 99 --port socket=/a,parent=eth0,mtu=1,x=y \
         --port socket=/a,mac=1:2",
    );
    assert_eq!(lines.len(), 8, "{lines:#?}");
    for (line, start) in lines.iter().zip([
        "--mode brigde: ",
        "--queue-pairs 99: ",
        "--port 1 (socket=/a): 'x' is not a key",
        "--port 1 (socket=/a): mtu=1: ",
        "--port 2 (socket=/a): mac=1:2: ",
        "--port 2 (socket=/a): parent: missing",
        "--port 1 (socket=/a) and --port 2 (socket=/a): both",
        "--workers 0: ",
    ]) {
        assert!(line.starts_with(start), "{start:?} does not start {line:?}");
    }
}

#[test]
fn a_file_is_checked_with_line_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ports.toml");
    let name = file.display();
    std::fs::write(&file, "[defaults]\nparent = 'eth0'\n[[port]]\nsocket = '/a'\nmtu = 12\n")
        .unwrap();
    let lines = refused(&format!("--check --config {name}"));
    assert_eq!(
        lines,
        [format!(
            "{name}:5: [[port]] 1 (socket=/a): mtu=12: below 68; leave it out to use the parent's"
        )]
    );
    std::fs::write(&file, "[[port]]\nsocket = '/a'\n").unwrap();
    let lines = refused(&format!("--check --config {name}"));
    assert!(lines[0].starts_with(&format!("{name}:1: [[port]] 1 (socket=/a): parent: missing")));
    assert_eq!(stdout(&format!("--check --config {name} --parent eth0")), "");
}

#[test]
fn a_good_command_line_is_checked_in_silence() {
    let output = run("--check --parent eth0 --socket-path /nonexistent/dir/vm1.sock");
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.is_empty() && output.stderr.is_empty());
}

#[test]
fn capabilities_are_printed_whatever_else_is_typed() {
    for line in ["--print-capabilities", "--mtu 1 --nonsense x --print-capabilities --check"] {
        let output = run(line);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(output.stdout, b"{\"type\": \"net\"}\n");
        assert!(output.stderr.is_empty());
    }
}

#[test]
fn unknown_flags_and_missing_values_exit_2() {
    for line in ["--nonsense", "--parent", "nonsense", "--mtu 1 --mtu 2"] {
        assert_eq!(run(line).status.code(), Some(2), "{line}");
    }
}

#[test]
fn help_names_every_flag() {
    let help = stdout("--help");
    for flag in
        "parent socket-path type mode mac mtu queue-pairs memory-limit source nodst reserved-groups guard name mac-changes compat \
                 client fd workers port config print-capabilities check version help log-level \
                 one-off"
            .split_whitespace()
    {
        assert!(help.contains(&format!("--{flag}")), "--{flag} is not in the help");
    }
    for printer in ["qemu-args", "libvirt-xml", "cloud-hypervisor-args"] {
        assert!(help.contains(printer));
        assert!(stdout(&format!("{printer} --help")).contains("--socket-path"));
    }
    assert!(
        stdout("--version").starts_with(concat!("vhost-user-macvtap ", env!("CARGO_PKG_VERSION")))
    );
}

#[test]
fn printers_print_what_can_be_pasted() {
    let port = "--parent eth0 --socket-path /run/vm1.sock --mac 52:54:00:12:34:56 --mtu 1400";
    // No QEMU is asked here: tests/cases/qemu_args.rs has what depends on it.
    let qemu = stdout(&format!("qemu-args --qemu /nonexistent {port}"));
    assert!(qemu.lines().rev().skip(1).all(|line| line.ends_with(" \\")), "{qemu}");
    assert!(qemu.contains("-chardev socket,id=vhu0,path=/run/vm1.sock,reconnect=1 \\\n"));
    assert!(qemu.ends_with(
        "-device virtio-net-pci,netdev=vhu0,mac=52:54:00:12:34:56,rx_queue_size=1024,\
         tx_queue_size=1024,host_mtu=1400\n"
    ));
    assert_eq!(
        stdout(&format!("{port} cloud-hypervisor-args")),
        "--memory size=1G,shared=on \\\n--net vhost_user=true,socket=/run/vm1.sock,\
         vhost_mode=client,num_queues=2,queue_size=1024,mac=52:54:00:12:34:56,mtu=1400\n"
    );
    assert!(refused("qemu-args --parent eth0 --fd 3 --mac 2:0:0:0:0:1")[0].starts_with("--fd 3: "));
}

#[test]
fn the_generated_mac_is_the_same_for_every_vmm() {
    // A machine without an id derives the address from the parent's: lo is everywhere.
    let port = "--parent lo --socket-path /run/vm1.sock --mac auto --name vm1 --mac-changes deny";
    let qemu = stdout(&format!("qemu-args {port}"));
    let mac = qemu.split("mac=").nth(1).unwrap().get(..17).unwrap();
    assert!(stdout(&format!("libvirt-xml {port}")).contains(&format!("<mac address='{mac}'/>")));
    assert!(stdout(&format!("cloud-hypervisor-args {port}")).contains(&format!("mac={mac}")));
}

#[test]
fn libvirt_elements_are_well_formed() {
    let xml = stdout(
        "libvirt-xml --parent eth0 --queue-pairs 2 --mtu 1400 \
         --port socket=/run/<a>&'b.sock,mac=2:0:0:0:0:1 \
         --port socket=/run/c.sock,mac=2:0:0:0:0:2,client=on",
    );
    let check = "import sys, xml.etree.ElementTree as e\n\
                 d = e.fromstring('<domain>' + sys.argv[1] + '</domain>')\n\
                 print([s.get('path') + ' ' + s.get('mode') for s in d.iter('source') if s.get('path')])";
    let output = Command::new("python3")
        .args(["-c", check, &xml])
        .output()
        .expect("python3, whose XML parser judges here: apt-get install python3");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.trim(), "[\"/run/<a>&'b.sock client\", '/run/c.sock server']");
}

#[test]
fn the_qemu_descriptor_is_what_the_program_says() {
    let text = include_str!("../../qemu/50-vhost-user-macvtap.json");
    let descriptor: serde_json::Value = serde_json::from_str(text).unwrap();
    let capabilities: serde_json::Value =
        serde_json::from_str(&stdout("--print-capabilities")).unwrap();
    assert_eq!(descriptor["type"], capabilities["type"]);
    assert_eq!(descriptor["binary"], "/usr/bin/vhost-user-macvtap");
    assert!(descriptor["description"].is_string());
}
