//! Every refusal through the real program: one test each, which reads the message.
//!
//! A user's script sees exit code 2 and one line that names the flag or key (and the port), the
//! reason and the remedy. These words are relied upon: change them with care.

use super::refused;

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
    parent_too_long: format!("--parent {} --socket-path /s", "x".repeat(128)) =>
        [": 128 bytes, a device's names have at most 127; `ip link`"];
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
    compat_with_mac_changes:
        "--parent eth0 --socket-path /s --type macvlan --compat --mac-changes deny" =>
        ["--mac-changes deny: with compat=on no source address is checked, as in the kernel; \
          leave one out"];
    nodst_without_source: "--parent eth0 --socket-path /s --type macvlan --nodst" =>
        ["--nodst: needs mode=source, this port's mode is bridge"];
    reserved_groups_of_a_kernel_device: "--parent eth0 --socket-path /s --reserved-groups drop" =>
        ["--reserved-groups drop: needs type=macvlan; a kernel device delivers them"];
    reserved_groups_of_no_kind:
        "--port socket=/s,parent=eth0,type=macvlan,reserved-groups=some" =>
        ["--port 1 (socket=/s): reserved-groups=some: 'some' is neither deliver nor drop"];
    guard_that_is_not_built: "--parent eth0 --socket-path /s --guard dhcp+stp" =>
        ["--guard dhcp+stp: 'dhcp' is not built yet; give stp or off"];
    guard_of_no_kind: "--parent eth0 --socket-path /s --guard arp" =>
        ["--guard arp: 'arp' is not a guard: stp or off"];
    guard_off_and_on: "--parent eth0 --socket-path /s --guard stp+off" =>
        ["--guard stp+off: off stands alone; give stp or off"];
    nodst_without_macvlan:
        "--parent eth0 --socket-path /s --mode source --source 02:0:0:0:0:1 --nodst" =>
        ["--nodst: needs type=macvlan; give that, or leave nodst out"];
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
    memory_limit_small: "--parent eth0 --socket-path /s --memory-limit 1023K" =>
        ["--memory-limit 1023K: below 1M, the least that a guest can use"];
    memory_limit_word: format!("{TWO},memory-limit=64GB") =>
        ["memory-limit=64GB: not a size; write bytes, or a number with K, M, G or T, as 64G"];
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
    workers_none: "--parent eth0 --socket-path /s --workers 0" => ["--workers 0: no thread would"];
    poll_long: "--parent eth0 --socket-path /s --busy-poll 1001" => ["--busy-poll 1001: not a number of microseconds from 0 to 1000"];
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
