//! The command line as scripts see it: the real program, its output, its exit codes.
//!
//! `--check` touches nothing, so none of this needs a network device or privileges. Every refusal
//! here is one that a user has to be able to act on: the message is part of the interface.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::process::{Command, Output, Stdio};

fn run(line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vhost-user-macvtap"))
        .args(line.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .unwrap()
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

/// One test for each refusal: the message is one line, and holds these words.
macro_rules! refusals {
    ($($name:ident: $line:expr => $words:expr;)*) => {$(
        #[test]
        fn $name() {
            let lines = refused(&format!("--check {}", $line));
            assert_eq!(lines.len(), 1, "{lines:#?}");
            for words in $words {
                assert!(lines[0].contains(words), "{words:?} is not in {:?}", lines[0]);
            }
        }
    )*};
}

const TWO: &str = "--parent eth0 --port socket=/run/a.sock";

refusals! {
    nothing_at_all: "" => ["--socket-path: missing", "--port", "--config"];
    parent_missing: "--socket-path /s" => ["--parent: missing; name the network device"];
    parent_missing_in_a_port: "--port socket=/s" => ["--port 1 (socket=/s): parent: missing;"];
    parent_too_long: "--parent sixteen-bytes-xx --socket-path /s" =>
        ["--parent sixteen-bytes-xx: 16 bytes, a device name has at most 15; `ip link`"];
    parent_with_slash: "--parent a/b --socket-path /s" => ["--parent a/b: '/' cannot be in"];
    socket_missing: "--parent eth0 --port mode=vepa" => ["--port 1: socket: missing; give"];
    fd_with_socket_path: "--parent eth0 --fd 3 --socket-path /s" => ["--fd with --socket-path:"];
    fd_with_more_ports: "--parent eth0 --fd 3 --port socket=/s" =>
        ["--fd 3: serves one port, but 2 are given; use socket paths"];
    fd_not_a_number: "--parent eth0 --fd x" => ["--fd x: not a file descriptor's number; use 3"];
    fd_negative: "--parent eth0 --fd -1" => ["--fd -1: not a file descriptor's number; use 3"];
    fd_of_stderr: "--parent eth0 --fd 2" => ["--fd 2: 0 to 2 are stdin, stdout and stderr; use"];
    fd_with_client: "--parent eth0 --fd 3 --client" => ["--client: --fd is a connected socket"];
    socket_path_too_long: format!("--parent eth0 --socket-path /{}", "x".repeat(107)) =>
        ["--socket-path /xxx", ": 108 bytes, a Unix socket's path holds 107; use a shorter one"];
    one_socket_for_two: format!("{TWO} --port socket=/run/./a.sock,mtu=1400") =>
        ["--port 1 (socket=/run/a.sock) and --port 2 (socket=/run/./a.sock): both have the socket"];
    one_name_for_two: format!("{TWO},name=x --port socket=/b,name=x") =>
        ["--port 1 (socket=/run/a.sock) and --port 2 (socket=/b): both have the name x; give"];
    one_default_name_for_two: format!("{TWO} --port socket=/b --name x") => ["the name x;"];
    mode_unknown: "--parent eth0 --socket-path /s --mode brigde" =>
        ["--mode brigde: 'brigde' is not a mode: bridge, vepa, private, passthru or source"];
    type_unknown: format!("{TWO},type=tap") =>
        ["--port 1 (socket=/run/a.sock): type=tap: 'tap' is not a type: macvtap or macvlan"];
    type_macvlan: "--parent eth0 --socket-path /s --type macvlan" =>
        ["--type macvlan: userspace macvlan ports are not in this version; use type=macvtap"];
    mac_multicast: "--parent eth0 --socket-path /s --mac 01:00:5e:00:00:01" =>
        ["--mac 01:00:5e:00:00:01: a multicast address"];
    mac_zero: "--parent eth0 --socket-path /s --mac 00:00:00:00:00:00" => ["the zero address"];
    mac_malformed: "--parent eth0 --socket-path /s --mac 52:54" => ["write six hex bytes, as"];
    one_mac_for_two: format!("{TWO} --port socket=/b --mac 02:00:00:00:00:01") =>
        ["both have mac=02:00:00:00:00:01 on parent eth0; give each its own"];
    mtu_below: format!("{TWO} --port socket=/run/b.sock,mtu=12") =>
        ["--port 2 (socket=/run/b.sock): mtu=12: below 68; leave it out to use the parent's"];
    mtu_above: "--parent eth0 --socket-path /s --mtu 65536" => ["--mtu 65536: above 65535; leave"];
    queue_pairs_none: "--parent eth0 --socket-path /s --queue-pairs 0" =>
        ["--queue-pairs 0: queue pairs are a number from 1 to 32"];
    queue_pairs_many: "--parent eth0 --socket-path /s --queue-pairs 33" => ["from 1 to 32"];
    queue_pairs_word: "--parent eth0 --socket-path /s --queue-pairs two" => ["from 1 to 32"];
    source_without_mode: "--parent eth0 --socket-path /s --source 02:00:00:00:00:01" =>
        ["--source 02:00:00:00:00:01: needs mode=source, this port's mode is bridge"];
    mode_without_source: format!("{TWO},mode=source") =>
        ["(socket=/run/a.sock): mode=source: no source address is accepted; give source=MAC+MAC"];
    source_multicast: format!("{TWO},mode=source,source=01:00:00:00:00:01") =>
        ["source=01:00:00:00:00:01: a multicast address"];
    passthru_beside_another: format!("{TWO},mode=passthru --port socket=/b") =>
        ["--port 1 (socket=/run/a.sock) and --port 2 (socket=/b): share parent eth0", "passthru"];
    name_too_long: "--parent eth0 --socket-path /s --name sixteen-bytes-xx" =>
        ["--name sixteen-bytes-xx: 16 bytes, a device name has at most 15; give 1 to 15 bytes"];
    name_with_percent: "--parent eth0 --socket-path /s --name vm%d" => ["'%' cannot be in"];
    name_with_colon: "--parent eth0 --socket-path /s --name vm:1" => ["':' cannot be in"];
    name_dot: "--parent eth0 --socket-path /s --name ." => ["--name .: not a device name; give"];
    compat_without_macvlan: "--parent eth0 --socket-path /s --compat" =>
        ["--compat: needs type=macvlan"];
    workers_none: "--parent eth0 --socket-path /s --workers 0" => ["--workers 0: nobody would"];
    workers_word: "--parent eth0 --socket-path /s --workers all" => ["neither a number", "per-queue"];
    log_level_unknown: "--parent eth0 --socket-path /s --log-level loud" => ["--log-level loud:"];
    neither_on_nor_off: format!("{TWO},client=1") => ["client=1: '1' is neither on nor off"];
    key_unknown: format!("{TWO},queues=2") => ["'queues' is not a key", "queue-pairs", "client"];
    key_without_value: format!("{TWO},mtu") => ["'mtu' has no value; write mtu=VALUE"];
    key_twice: format!("{TWO},mtu=1400,mtu=1500") => ["mtu=1500: mtu is given twice; keep one"];
    value_empty: format!("{TWO},mtu=") => ["mtu=: empty; give a value or leave the key out"];
    config_missing: "--config /nonexistent/ports.toml" =>
        ["--config /nonexistent/ports.toml: No such file or directory", "name a readable TOML"];
}

#[test]
fn blanks_in_device_names_are_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_vhost-user-macvtap"))
        .args(["--check", "--parent", "eth 0", "--socket-path", "/s", "--name", "a\tb"])
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("--parent eth 0: ' ' cannot be in a device name"), "{stderr}");
    assert!(stderr.contains("'\\t' cannot be in a device name"), "{stderr}");
}

#[test]
fn every_fault_of_a_command_line_is_told_at_once() {
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
    for flag in "parent socket-path type mode mac mtu queue-pairs source name mac-changes compat \
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
    let qemu = stdout(&format!("qemu-args {port}"));
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
    let port = "--parent eth0 --socket-path /run/vm1.sock --mac auto --name vm1 --mac-changes deny";
    if run(&format!("qemu-args {port}")).status.code() != Some(0) {
        eprintln!("skipped: neither a machine id nor eth0 to derive an address from");
        return;
    }
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
    match Command::new("python3").args(["-c", check, &xml]).output() {
        Ok(output) => {
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(text.trim(), "[\"/run/<a>&'b.sock client\", '/run/c.sock server']");
        }
        Err(error) => eprintln!("skipped: python3, whose XML parser judges here: {error}"),
    }
}

#[test]
fn the_qemu_descriptor_is_what_the_program_says() {
    let text = include_str!("../qemu/50-vhost-user-macvtap.json");
    let descriptor: serde_json::Value = serde_json::from_str(text).unwrap();
    let capabilities: serde_json::Value =
        serde_json::from_str(&stdout("--print-capabilities")).unwrap();
    assert_eq!(descriptor["type"], capabilities["type"]);
    assert_eq!(descriptor["binary"], "/usr/bin/vhost-user-macvtap");
    assert!(descriptor["description"].is_string());
}
