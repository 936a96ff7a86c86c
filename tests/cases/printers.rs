//! The arguments printed for a VMM fit the running port.
//!
//! The printers do not run the ports, so they can only be right if they come to the same address in
//! the same way. The table below goes through everything that decides it: the type, the mode, a
//! given address, an adopted device, a machine without an id, the place where the port was
//! described. For each row the three printers print first, then the program runs and says in its
//! log which address the port has.
//!
//! What can go wrong with the tests: the machine's id is a file of the whole machine; a row without
//! one runs the program in a mount namespace where empty files lie over it.

use std::time::Duration;

use testkit::backend::program;
use testkit::netns::{Netns, die_with_us, wait_until};

const TIME: Duration = Duration::from_secs(10);
const GIVEN: &str = "52:54:00:aa:00:07";

/// A row of the table.
struct Row {
    port: &'static str,
    /// What `ip` makes before, and removes after.
    device: &'static str,
    machine_id: bool,
}

fn rows() -> Vec<Row> {
    let row = |port, device| Row { port, device, machine_id: true };
    let mut rows = vec![
        row("mode=bridge", ""),
        row("mode=bridge,mac=GIVEN", ""),
        row("mode=vepa,mac=auto", ""),
        row("mode=private", ""),
        row("mode=source,source=02:00:00:00:00:01", ""),
        row("mode=passthru", ""),
        row("mode=passthru,mac=GIVEN", ""),
        row("mode=passthru,mac=GIVEN,mac-changes=deny", ""),
        row(
            "mode=bridge",
            "link add link eth0 name vm1 address 02:aa:00:00:00:01 type macvtap mode bridge",
        ),
        row("mode=bridge,mac=GIVEN", "link add link eth0 name vm1 type macvtap mode bridge"),
        row("mode=passthru", "link add link eth0 name vm1 type macvtap mode passthru"),
        row("mode=passthru,mac=GIVEN", "link add link eth0 name vm1 type macvtap mode passthru"),
        row(
            "mode=vepa",
            "link add link eth0 name vm1 address 02:aa:00:00:00:02 type macvtap mode vepa",
        ),
        row("type=macvlan,mode=bridge", ""),
        row("type=macvlan,mode=bridge,mac=GIVEN", ""),
        row("type=macvlan,mode=private", ""),
        row("type=macvlan,mode=source,source=02:00:00:00:00:01", ""),
        row("type=macvlan,mode=passthru", ""),
        row("type=macvlan,mode=passthru,mac=GIVEN", ""),
        row("type=macvlan,mode=bridge,compat=on", ""),
        // A device of the port's name means nothing to a port in userspace.
        row("type=macvlan", "link add vm1 address 02:aa:00:00:00:03 type bridge"),
    ];
    for port in ["mode=bridge", "mode=passthru", "type=macvlan", "type=macvlan,mode=passthru"] {
        rows.push(Row { port, device: "", machine_id: false });
    }
    rows
}

/// The program's command line in the host, without the machine's id if so wanted.
fn shell(row: &Row, line: &str) -> String {
    let run = format!("{} {line}", program().display());
    if row.machine_id {
        return format!("exec {run}");
    }
    let hide = "for f in /etc/machine-id /var/lib/dbus/machine-id; do [ -e $f ] && mount --bind /dev/null $f; done";
    format!("exec unshare --mount sh -c '{hide}; exec {run}'")
}

/// With `--mac auto` and an adopted device with an address of its own the printers printed the
/// derived one, and every frame was lost as `foreign MAC`. A userspace passthru port did not take
/// the address that it was given.
#[test]
fn bug_u3_printed_is_what_the_port_has() {
    let host = Netns::new("host");
    host.ip("link add eth0 type veth peer name w0");
    let parents = host.mac("eth0");
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("vm1.sock");
    for row in rows() {
        let what = format!("{} beside '{}', id: {}", row.port, row.device, row.machine_id);
        if !row.device.is_empty() {
            host.ip(row.device);
        }
        let keys = row.port.replace("GIVEN", GIVEN);
        let port = format!("--port socket={},parent=eth0,name=vm1,{keys}", socket.display());
        let print = |printer: &str| host.sh(&shell(&row, &format!("{printer} {port}")));
        let printed = mac_after(&print("qemu-args"), ",mac=");
        assert_eq!(mac_after(&print("libvirt-xml"), "mac address='"), printed, "{what}");
        assert_eq!(mac_after(&print("cloud-hypervisor-args"), ",mac="), printed, "{what}");

        let log = dir.path().join("log");
        let mut command = host.command("sh");
        command.args(["-c", &shell(&row, &port)]).stderr(std::fs::File::create(&log).unwrap());
        let mut child = die_with_us(&mut command).spawn().unwrap();
        let text = || std::fs::read_to_string(&log).unwrap();
        assert!(wait_until(TIME, || text().contains("listens at")), "{what}: {}", text());
        let running = mac_after(&text(), ", MAC ");
        assert_eq!(printed, running, "{what}");
        // While it runs the printers print the same: that is when most users ask them.
        assert_eq!(mac_after(&print("qemu-args"), ",mac="), printed, "{what}: while it runs");
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        child.wait().unwrap();
        if !row.device.is_empty() {
            host.ip("link del vm1");
        }
        assert_eq!(host.mac("eth0"), parents, "{what}: the parent's own address");
    }
}

/// All ports of a file are printed, each with its own address; of ports that cannot be known each
/// is named.
#[test]
fn bug_u3_every_port_of_a_file() {
    let host = Netns::new("host");
    host.ip("link add eth0 type veth peer name w0");
    host.ip("link add link eth0 name vm2 address 02:aa:00:00:00:02 type macvtap mode bridge");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ports.toml");
    std::fs::write(
        &file,
        "[defaults]\nparent = 'eth0'\n[[port]]\nsocket = '/run/a'\nname = 'vm1'\n\
         [[port]]\nsocket = '/run/b'\nname = 'vm2'\n[[port]]\nsocket = '/run/c'\nmac = '52:54:00:aa:00:07'\n",
    )
    .unwrap();
    let line = format!("{} qemu-args --config {}", program().display(), file.display());
    let text = host.sh(&line);
    let macs: Vec<&str> = text.split(",mac=").skip(1).map(|rest| &rest[..17]).collect();
    assert_eq!(macs.len(), 3, "{text}");
    assert_eq!(macs[1..], ["02:aa:00:00:00:02", GIVEN]);
    std::fs::write(
        &file,
        "[[port]]\nsocket = '/run/a'\nparent = 'eth7'\nmode = 'passthru'\n\
         [[port]]\nsocket = '/run/b'\nparent = 'eth8'\nmode = 'passthru'\n",
    )
    .unwrap();
    let output = host.run(&line);
    assert_eq!(output.status, 4, "{}", output.text);
    assert!(output.text.contains("parent eth7") && output.text.contains("parent eth8"));
}

fn mac_after(text: &str, mark: &str) -> String {
    let (_, rest) = text.split_once(mark).unwrap_or_else(|| panic!("no {mark} in {text}"));
    rest.get(..17).unwrap().to_owned()
}
