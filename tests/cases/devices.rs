//! Changes that another program makes to a port's device are reported, and put right (B6).
//!
//! The other program is `ip`, as a network manager would: each change alone, then one after the
//! other until the back-end gives up.

use std::time::{Duration, Instant};

use testkit::backend::Backend;
use testkit::driver::Driver;
use testkit::frames;
use testkit::netns::{World, wait_until};
use testkit::rig::{ARRIVAL, LAN_MAC, MACS, Macvtap, Rig, SECOND, SILENCE, fresh_tag};
use testkit::vmm::QemuOptions;

fn said(rig: &Rig, text: &str) -> usize {
    rig.backend.log().matches(text).count()
}

fn shown(rig: &Rig) -> String {
    rig.world.host.ip("-d link show t0")
}

/// Whether a multicast frame of the LAN reaches the guest.
fn hears_group(rig: &Rig, driver: &mut Driver) -> bool {
    let tag = fresh_tag();
    rig.wire.send(&frames::tagged([1, 0, 0x5e, 7, 7, 7], LAN_MAC, tag, 60));
    driver.recv_where(0, SILENCE, |f| frames::tag_of(f) == Some(tag)).is_some()
}

/// The arguments of `ip link`, the log's name for the change, and the device once it is right
/// again.
type Change = (&'static str, &'static str, fn(&str) -> bool);

/// Was: traffic stopped until an operator repaired it (down, allmulticast, queue), or the change
/// was taken over silently against `--mac` and `--mtu`. Only the last two had a line in the log.
#[test]
fn bug_b6_what_another_program_changes_is_told_and_put_right() {
    let changes: [Change; 9] = [
        ("set t0 down", "set down", |s| s.contains(",UP,LOWER_UP>")),
        ("set t0 allmulticast off", "allmulticast off", |s| s.contains("ALLMULTI")),
        ("set t0 mtu 1280", "MTU 1280", |s| s.contains("mtu 1500")),
        ("set t0 address 02:00:00:00:77:77", "MAC 02:00:00:00:77:77", |s| {
            s.contains("ether 52:54:00:aa:00:01")
        }),
        ("set t0 arp on", "arp on", |s| s.contains("NOARP")),
        ("set t0 txqueuelen 0", "txqueuelen 0", |s| s.contains("qlen 500")),
        ("set t0 type macvtap mode private", "mode private", |s| s.contains("mode bridge")),
        ("set t0 alias mine", "another alias", |s| s.contains("alias vhost-user-macvtap port")),
        ("set t0 name stolen", "renamed to stolen", |s| s.contains("t0@eth0")),
    ];
    // Five a minute: a fresh port for each half of them.
    for half in changes.chunks(5) {
        let mut rig = Rig::new(Macvtap);
        let (_vmm, mut driver) = rig.guest(&QemuOptions::default());
        for (change, words, right) in half {
            let start = Instant::now();
            rig.world.host.ip(&format!("link {change}"));
            let line = format!(
                "port t0: another program has changed its device t0 ({words}); it was corrected"
            );
            assert!(wait_until(SECOND, || said(&rig, &line) == 1), "no line '{line}'");
            let works = wait_until(SECOND, || rig.world.host.has_link("t0") && right(&shown(&rig)));
            assert!(works, "{change}: {}", shown(&rig));
            println!("{change}: put right after {:?}", start.elapsed());
            rig.link_up(&mut driver, 0);
            rig.both_ways(&mut driver, 0);
            assert!(wait_until(SECOND, || hears_group(&rig, &mut driver)), "{change}: a group");
        }
        let log = rig.backend.log();
        assert!(
            log.contains("unmanaged-devices=interface-name:t0") && log.contains("Unmanaged=yes")
        );
        assert_eq!(said(&rig, "another program"), half.len(), "one line each");
        rig.unharmed();
    }
}

/// A network manager gives the device an address of the host's: the host would answer there under
/// the guest's MAC address.
#[test]
fn bug_b6_the_hosts_addresses_are_taken_off_the_device() {
    let rig = Rig::new(Macvtap);
    let host = &rig.world.host;
    host.ip("addr add 198.51.100.7/24 dev t0");
    rig.backend.wait_for_log("the host's address 198.51.100.7; it was removed", SECOND);
    host.sh("echo 0 >/proc/sys/net/ipv6/conf/t0/disable_ipv6; ip addr add 2001:db8:7::7/64 dev t0");
    rig.backend.wait_for_log("the host's address 2001:db8:7::7; it was removed", SECOND);
    assert_eq!(host.ip("-o addr show dev t0"), "");
    // The addresses of the parent and of other devices are not ours to change.
    assert!(host.ip("-o addr show dev eth0").contains(World::HOST_V4));
}

/// Two programs that fight: ours gives in after five times and logs that once; frames lost after
/// that count as lost.
#[test]
fn bug_b6_after_five_times_in_a_minute_the_device_is_left_alone() {
    let mut rig = Rig::new(Macvtap);
    let (_vmm, mut driver) = rig.guest(&QemuOptions::default());
    for round in 1..=5 {
        rig.world.host.ip("link set t0 down");
        let back = wait_until(SECOND, || shown(&rig).contains(",UP,LOWER_UP>"));
        assert!(back, "round {round}: {}", rig.backend.log());
    }
    rig.world.host.ip("link set t0 down");
    rig.backend.wait_for_log("for the sixth time in a minute; it is left alone", SECOND);
    rig.backend.wait_caught_up();
    let before = rig.dropped_for(0, "no device");
    let tags: Vec<Vec<u8>> =
        (0..20).map(|_| frames::tagged(LAN_MAC, MACS[0], fresh_tag(), 60)).collect();
    driver.send(0, &tags);
    assert!(driver.drain_tx(0, ARRIVAL), "the guest hangs");
    assert_eq!(rig.dropped_for(0, "no device") - before, 20, "counted as sent");
    assert!(!shown(&rig).contains(",UP"), "{}", shown(&rig));
    // A loop costs nothing, either: neither lines nor processor time.
    let lines = rig.backend.log().lines().count();
    let script =
        "while :; do ip link set t0 mtu 1400; ip link set t0 up; ip link set t0 down; done";
    let mut fight = rig.world.host.command("sh").args(["-c", script]).spawn().unwrap();
    let used = rig.backend.busy(2 * SECOND);
    fight.kill().unwrap();
    fight.wait().unwrap();
    println!("{used:?} of processor time in 2 s of fight");
    assert!(used < Duration::from_millis(200), "{used:?}");
    assert!(rig.backend.log().lines().count() - lines <= 10, "{}", rig.backend.log());
    // The shell's last command may outlive it.
    std::thread::sleep(SECOND / 2);
    // An operator's repair is not undone.
    rig.world.host.ip("link set t0 mtu 1500");
    rig.world.host.ip("link set t0 up");
    rig.link_up(&mut driver, 0);
    rig.both_ways(&mut driver, 0);
    rig.unharmed();
}

/// An adopted device is the user's: settings that the configuration leaves open are taken over, the
/// rest is put right.
#[test]
fn bug_b6_of_an_adopted_device_only_what_was_asked_for_is_put_right() {
    for (asked, kept) in [(false, "1400"), (true, "1450")] {
        let world = World::new();
        let own = "02:00:00:00:66:66";
        world
            .host
            .ip(&format!("link add link eth0 name vm7 address {own} type macvtap mode bridge"));
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s.sock").display().to_string();
        let mut args = vec!["--parent", "eth0", "--name", "vm7", "--socket-path", &socket];
        if asked {
            args.extend(["--mac", own, "--mtu", "1450"]);
        }
        let mut backend = Backend::start(&world.host, &args);
        let host = &world.host;
        host.ip("link set vm7 mtu 1400");
        host.ip("link set vm7 address 02:00:00:00:66:67");
        host.ip("link set vm7 down");
        let mac = if asked { own } else { "02:00:00:00:66:67" };
        let settled =
            || (host.attribute("vm7", "mtu"), host.mac("vm7"), host.attribute("vm7", "operstate"));
        let wanted = (kept.to_owned(), mac.to_owned(), "up".to_owned());
        assert!(wait_until(SECOND, || settled() == wanted), "{:?}: {}", settled(), backend.log());
        let said = backend.log().matches("which its configuration leaves open").count();
        assert_eq!(said, 0, "{}", backend.log());
        if !asked {
            assert!(
                backend.log().contains(&format!("now has MAC {mac}, MTU 1400")),
                "{}",
                backend.log()
            );
        }
        assert!(backend.stop(SECOND).success());
        assert_eq!(host.mac("vm7"), own, "not restored to its state before");
    }
}
