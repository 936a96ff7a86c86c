//! The documents are true: this test compares what they say with the program.
//!
//! A manual that was right once is worse than none. So this test checks:
//!
//! - every flag that a document names exists, and every flag that exists is in the manual;
//! - commands in the documents pass `--check`, and configuration files are valid;
//! - a block of the form `$ vhost-user-macvtap ...` shows exactly what the program prints;
//! - drop reasons and quoted messages are those of the source;
//! - links lead to a file and a heading, and every file that a comment or a document names exists
//!   (`docs/named_files.rs`);
//! - the privileges that the manual and the systemd unit name suffice, and so do the host's ways to
//!   reach its guests.
//!
//! Four conventions make this possible. In running text, a flag of ours is alone in its backticks
//! (`--mac`), and a flag of another program comes after that program's name. `sh` blocks hold what
//! a user types, `console` blocks what the program prints, `toml` blocks configuration, and `text`
//! blocks anything else.
//!
//! What can go wrong: the test checks only what follows the conventions. The last tests make
//! network namespaces, and one boots a guest, so they need root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod named_files;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use testkit::backend::{Backend, program};
use testkit::guest::{Guest, GuestConfig};
use testkit::netns::{World, assert_nothing_left, die_with_us, require, wait_until};
use testkit::vmm::{QemuOptions, Vmm};
use vhost_user_macvtap::config::option::{OptionSpec, manual_keys};
use vhost_user_macvtap::config::{PORT_OPTIONS, PROCESS_OPTIONS};
use vhost_user_macvtap::error::ErrorCode;
use vhost_user_macvtap::net::counters::DropReason;
use vhost_user_macvtap::net::mode::Mode;

const NAME: &str = "vhost-user-macvtap";

/// A block between fences.
struct Block {
    language: String,
    text: String,
}

/// A document: its path, its running text without blocks, its blocks.
struct Document {
    path: PathBuf,
    text: String,
    blocks: Vec<Block>,
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> Document {
    let (mut text, mut blocks) = (String::new(), Vec::new());
    let mut open: Option<Block> = None;
    for line in fs::read_to_string(path).unwrap().lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => {
                open = Some(Block { language: language.to_string(), text: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.text.extend([line, "\n"]),
            (None, None) => text.extend([line, "\n"]),
        }
    }
    assert!(open.is_none(), "{}: a block does not end", path.display());
    Document { path: path.to_path_buf(), text, blocks }
}

fn documents() -> Vec<Document> {
    let files = |dir: &str| {
        fs::read_dir(top().join(dir)).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let mut paths: Vec<PathBuf> = files(".");
    paths.extend::<Vec<PathBuf>>(files("docs"));
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.sort();
    assert!(paths.len() >= 5, "{paths:?}");
    paths.iter().map(|path| read(path)).collect()
}

fn document(name: &str) -> Document {
    read(&top().join(name))
}

impl Document {
    fn name(&self) -> String {
        self.path.strip_prefix(top()).unwrap().display().to_string()
    }

    fn blocks<'a>(&'a self, language: &'a str) -> impl Iterator<Item = &'a str> {
        self.blocks.iter().filter(move |b| b.language == language).map(|b| b.text.as_str())
    }

    /// The text inside backticks.
    fn spans(&self) -> Vec<&str> {
        spans(&self.text)
    }

    /// The arguments of every command in `sh` blocks that runs the program.
    fn commands(&self) -> Vec<Vec<String>> {
        let joined: Vec<String> =
            // The shell's work: the user who types it. Here that is root.
            self.blocks("sh").map(|b| b.replace("\\\n", " ").replace("$USER", "root")).collect();
        joined.iter().flat_map(|block| block.lines()).filter_map(arguments).collect()
    }
}

fn spans(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The arguments after the program's name, if the line runs it.
fn arguments(line: &str) -> Option<Vec<String>> {
    let mut words = line.split_whitespace().skip_while(|word| *word != NAME);
    words.next()?;
    let words = words.take_while(|word| *word != "#");
    Some(words.map(|word| word.trim_end_matches(')').to_string()).collect())
}

fn run(args: &[String]) -> Output {
    Command::new(program()).args(args).stdin(Stdio::null()).output().unwrap()
}

/// Every flag in the help, and in that of the one printer that has flags of its own.
fn flags() -> BTreeSet<String> {
    let help = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| word.to_string()).collect();
        String::from_utf8(run(&words).stdout).unwrap()
    };
    let help = help(&["--help"]) + &help(&["qemu-args", "--help"]);
    let words = help.lines().filter(|line| line.trim_start().starts_with('-'));
    let words = words.flat_map(|line| line.split_whitespace());
    let flags: BTreeSet<String> = words.filter_map(flag).map(str::to_string).collect();
    assert!(flags.len() > 20, "{flags:?}");
    flags
}

/// The flag at the start of a word.
fn flag(word: &str) -> Option<&str> {
    let end = word.find(|c: char| c != '-' && !c.is_ascii_alphanumeric()).unwrap_or(word.len());
    word.get(..end).filter(|flag| flag.starts_with("--") && flag.len() > 2)
}

#[test]
fn the_manual_has_every_flag() {
    let manual = document("docs/operations.md");
    let named: BTreeSet<&str> = manual.spans().into_iter().filter_map(flag).collect();
    for known in flags() {
        assert!(named.contains(known.as_str()), "{known} is not in docs/operations.md");
    }
}

#[test]
fn every_flag_that_is_named_exists() {
    let known = flags();
    for document in documents() {
        let mut named: Vec<String> =
            document.spans().into_iter().filter_map(flag).map(str::to_string).collect();
        named.extend(
            document.commands().iter().flatten().filter_map(|w| flag(w)).map(str::to_string),
        );
        for flag in named {
            assert!(known.contains(&flag), "{}: there is no {flag}", document.name());
        }
    }
    let unit = fs::read_to_string(top().join("contrib/vhost-user-macvtap@.service")).unwrap();
    let commands = unit.lines().filter(|line| line.starts_with("Exec"));
    for flag in commands.flat_map(str::split_whitespace).filter_map(flag) {
        assert!(known.contains(flag), "the systemd unit: there is no {flag}");
    }
}

#[test]
fn every_drop_reason_is_in_the_manual() {
    let manual = document("docs/operations.md");
    for reason in DropReason::ALL {
        let row = format!("\n| `{}` | ", reason.name());
        assert!(manual.text.contains(&row), "no row for '{}'", reason.name());
    }
}

/// The manual's rows of options, and the keys of `--port`, are those of the program's tables.
#[test]
fn the_manual_has_the_rows_of_every_option() {
    let manual = document("docs/operations.md");
    let rows = |title: &str| -> Vec<String> {
        let (_, section) = manual.text.split_once(&format!("\n### {title}\n")).unwrap();
        let section = section.split("\n#").next().unwrap();
        section.lines().filter(|line| line.starts_with("| `--")).map(str::to_string).collect()
    };
    let wanted = |table: &[OptionSpec]| -> Vec<String> {
        table.iter().map(OptionSpec::manual_row).collect()
    };
    assert_eq!(rows("One port"), wanted(PORT_OPTIONS));
    let process = rows("Process");
    for row in wanted(PROCESS_OPTIONS) {
        assert!(process.contains(&row), "not in the manual: {row}");
    }
    let keys = format!("Keys: {}. ", manual_keys(PORT_OPTIONS));
    assert!(rows("Many ports")[0].contains(&keys), "not in the manual: {keys}");
}

/// The manual's table of error codes is the program's list, in its order.
#[test]
fn every_error_code_is_in_the_manual() {
    let manual = document("docs/operations.md");
    let (_, section) = manual.text.split_once("\n### Error codes\n").unwrap();
    let section = section.split("\n#").next().unwrap();
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| `")).collect();
    let row = |code: &ErrorCode| {
        format!("| `{}` | {} | {} |", code.name(), code.exit_code(), code.meaning())
    };
    assert_eq!(rows, ErrorCode::ALL.iter().map(row).collect::<Vec<String>>());
}

/// The quotes in the tables of errors and warnings are the source's texts.
#[test]
fn quoted_messages_are_the_programs() {
    fn sources(dir: &Path, all: &mut String) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, all);
            } else {
                for line in fs::read_to_string(&path).unwrap().lines() {
                    // A string that continues in the next line, without its indent.
                    let line = line.trim_start();
                    all.push_str(line.strip_suffix('\\').unwrap_or(line));
                }
            }
        }
    }
    let mut all = String::new();
    sources(&top().join("src"), &mut all);
    let manual = document("docs/operations.md");
    let mut rows = 0;
    for title in ["### Errors at the start", "### Warnings while it runs"] {
        let (_, section) = manual.text.split_once(title).expect(title);
        let section = section.split("\n#").next().unwrap();
        for row in section.lines().filter(|line| line.starts_with("| `")) {
            rows += 1;
            for quoted in spans(row.split(" | ").next().unwrap()) {
                assert!(all.contains(quoted), "no message of the program says '{quoted}'");
            }
        }
    }
    assert!(rows > 25, "{rows} rows");
}

#[test]
fn links_lead_somewhere() {
    let mut count = 0;
    for document in documents() {
        for target in document.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            count += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = match file {
                "" => document.path.clone(),
                file => document.path.parent().unwrap().join(file),
            };
            assert!(path.exists(), "{}: no {target}", document.name());
            if !anchor.is_empty() {
                let text = read(&path).text;
                let found =
                    text.lines().filter(|line| line.starts_with('#')).any(|l| slug(l) == anchor);
                assert!(found, "{}: no heading for {target}", document.name());
            }
        }
    }
    assert!(count > 15, "{count} links");
}

/// A heading's anchor, as GitHub makes it.
fn slug(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The source's references to the documents.
#[test]
fn the_source_refers_to_documents_that_exist() {
    let names: Vec<String> = documents().iter().map(Document::name).collect();
    for name in ["docs/architecture.md", "docs/modes.md", "docs/operations.md", "README.md"] {
        assert!(names.iter().any(|other| other == name), "{name}");
    }
    assert!(document("docs/architecture.md").text.contains("\n## What is trusted\n"));
}

/// Every file that a comment or a document names.
#[test]
fn named_files_exist() {
    let tree = named_files::Tree::read(top());
    let (mut files, mut gone) = (0, Vec::new());
    for name in tree.files() {
        let Ok(text) = fs::read_to_string(top().join(name)) else { continue };
        files += 1;
        let prose = named_files::prose(name, &text);
        let missing = named_files::missing(&tree, name, &prose);
        gone.extend(missing.iter().map(|word| format!("{name}: there is no {word}")));
    }
    assert!(files > 300, "{files} files");
    assert!(gone.is_empty(), "\n{}", gone.join("\n"));
}

#[test]
fn configuration_files_and_commands_pass_the_check() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ports.toml");
    let (mut tables, mut commands) = (0, 0);
    for document in documents() {
        for text in document.blocks("toml") {
            tables += 1;
            fs::write(&file, text).unwrap();
            checked(&["--config".to_string(), file.display().to_string()], &document);
        }
        for mut words in document.commands() {
            commands += 1;
            // The path is an example; the document's own file stands for it.
            if let Some(at) = words.iter().position(|word| word == "--config") {
                fs::write(&file, document.blocks("toml").next().unwrap()).unwrap();
                words[at + 1] = file.display().to_string();
            }
            checked(&words, &document);
        }
    }
    assert!(tables >= 2 && commands >= 10, "{tables} tables, {commands} commands");
}

fn checked(words: &[String], document: &Document) {
    let words = [words, &["--check".to_string()]].concat();
    let output = run(&words);
    let faults = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {words:?}: {faults}", document.name());
}

#[test]
fn printed_blocks_are_what_the_program_prints() {
    let mut count = 0;
    for document in documents() {
        for block in document.blocks("console") {
            let (command, expected) = block.split_once('\n').unwrap();
            let words = arguments(command.strip_prefix("$ ").expect("a prompt")).expect(command);
            let output = run(&words);
            assert!(output.status.success(), "{}: {command}", document.name());
            // The documents show what QEMU 7.2 takes; this machine may have a newer one.
            let printed = String::from_utf8(output.stdout).unwrap();
            let printed = printed.replace("reconnect-ms=1000", "reconnect=1");
            assert_eq!(printed, expected, "{}: {command}", document.name());
            count += 1;
        }
    }
    assert!(count >= 4, "{count} blocks");
}

/// README's whole QEMU command asks the printer, with the words of the block before it.
#[test]
fn the_whole_qemu_command_takes_what_is_printed() {
    let document = document("README.md");
    let printed = document.blocks("console").find(|block| block.contains("qemu-args")).unwrap();
    let printer = printed.lines().next().unwrap().trim_start_matches("$ ");
    let whole = document.blocks("sh").find(|block| block.contains("qemu-system")).unwrap();
    assert!(whole.trim_end().ends_with(&format!("\"$({printer})\"")), "{whole}");
}

/// Every mode has a chapter, a drawing, a table, and a command for each type of port that has it.
#[test]
fn every_mode_is_drawn_tabled_and_shown() {
    let modes = document("docs/modes.md");
    let drawings = modes.blocks("text").count();
    assert!(drawings >= Mode::ALL.len(), "{drawings} drawings");
    for mode in Mode::ALL.map(Mode::name) {
        let (_, chapter) = modes.text.split_once(&format!("\n## {mode}\n")).expect(mode);
        let chapter = chapter.split("\n## ").next().unwrap();
        assert!(chapter.lines().filter(|line| line.starts_with("| ")).count() > 4, "{mode}");
        for kind in ["macvtap", "macvlan"] {
            let shown = modes.commands().iter().any(|words| {
                let has = |flag: &str, value: &str| words.windows(2).any(|w| w == [flag, value]);
                has("--mode", mode) && has("--type", kind)
            });
            assert!(shown, "no command for mode {mode} and type {kind}");
        }
    }
}

/// The systemd unit's capabilities, and no others, let root serve a port of either type.
#[test]
fn the_units_capabilities_suffice() {
    require(&[("setpriv", "util-linux")]);
    let unit = fs::read_to_string(top().join("contrib/vhost-user-macvtap@.service")).unwrap();
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let kept: Vec<String> = line
        .split(' ')
        .map(|name| format!("+{}", name.strip_prefix("CAP_").unwrap().to_lowercase()))
        .collect();
    let set = format!("-all,{}", kept.join(","));
    serve_as(&["--bounding-set", &set], &[], |_, _| {});
    serve_as(&["--bounding-set", &set], &["--type=macvlan", "--mode=passthru"], |_, _| {});
}

/// A userspace port needs one capability, unless it affects the host or the parent's address.
#[test]
fn a_userspace_port_needs_raw_sockets_only() {
    require(&[("setpriv", "util-linux")]);
    serve_as(&["--bounding-set", "-all,+net_raw"], &["--type=macvlan"], |_, _| {});
}

/// A device prepared as the manual says is served by a user without any capability.
#[test]
fn a_prepared_device_needs_no_capability() {
    require(&[("setpriv", "util-linux"), ("sysctl", "procps")]);
    let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    serve_as(&nobody, &[], |world, dir| {
        let manual = document("docs/operations.md");
        let recipe = manual.blocks("sh").find(|block| block.contains("type macvtap")).unwrap();
        // /dev does not know namespaces, so here the index has to be unique on the machine.
        let index = format!("ip link add index {} link", 1_000_000 + std::process::id());
        let recipe = recipe.replace("ip link add link", &index);
        world.host.sh(&recipe.replace("chown alice", "chown 65534"));
        chown(dir, Some(65534), None).unwrap();
    });
}

/// Serves a port named vm1 with the privileges that `setpriv` leaves root, after some preparation.
fn serve_as(setpriv: &[&str], flags: &[&str], prepare: impl FnOnce(&World, &Path)) {
    let world = World::new();
    let dir = tempfile::Builder::new().prefix("vum-docs-").tempdir_in("/tmp").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    prepare(&world, dir.path());
    // The program itself may lie where only root can look.
    let copy = dir.path().join("program");
    fs::copy(program(), &copy).unwrap();
    let socket = dir.path().join("vm1.sock");
    let log = fs::File::create(dir.path().join("log")).unwrap();
    let mut command = world.host.command("setpriv");
    command.args(setpriv).args(["--pdeathsig", "KILL"]).arg(copy);
    command.args(["--parent", World::PARENT, "--name", "vm1", "--socket-path"]).arg(&socket);
    command.args(flags);
    let mut child = die_with_us(command.stdin(Stdio::null()).stderr(log)).spawn().unwrap();
    let serves = wait_until(Duration::from_secs(5), || socket.exists());
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(serves, "{setpriv:?}: {log}");
    drop(world);
    assert_nothing_left();
}

/// The second port on a veth pair, by which the host reaches a guest of either type.
#[test]
fn the_host_answers_on_the_veth_pair() {
    let modes = document("docs/modes.md");
    let recipe = modes.blocks("sh").find(|block| block.contains("type veth")).unwrap();
    let setup: String =
        recipe.lines().filter(|line| !line.contains(NAME)).map(|l| format!("{l}\n")).collect();
    for kind in ["macvlan", "macvtap"] {
        let world = World::new();
        world.host.sh(&setup.replace("sudo ", ""));
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("vm1.sock");
        let path = socket.to_str().unwrap();
        let mac = [0x52, 0x54, 0, 0xcc, 0, 1];
        let flags = ["--parent", "guests0", "--socket-path", path, "--mac", "52:54:00:cc:00:01"];
        let backend = Backend::start(&world.host, &[&flags[..], &["--type", kind]].concat());
        let mut vmm = Vmm::connect(&socket);
        let mut driver = vmm.start_like_qemu72(&QemuOptions::default());
        driver.post_rx(0, 64, 2048);
        // Who has 192.0.2.129? Tell 192.0.2.130.
        let mut question = [&[0xff; 6][..], &mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &mac].concat();
        question.extend([192, 0, 2, 130, 0, 0, 0, 0, 0, 0, 192, 0, 2, 129]);
        question.resize(60, 0);
        let answer = |f: &[u8]| f.get(12..14) == Some(&[8, 6]) && f.get(20..22) == Some(&[0, 2]);
        let answered = (0..20).any(|_| {
            driver.send(0, &[&question]);
            driver.recv_where(0, Duration::from_millis(250), answer).is_some()
        });
        assert!(answered, "{kind}: the host does not answer");
        drop((driver, vmm, backend, world));
        assert_nothing_left();
    }
}

/// README's way for the host to reach its own guests works, and without it there is none.
#[test]
fn qemu_the_host_reaches_its_guest_as_the_readme_says() {
    let readme = document("README.md");
    let recipe = readme.blocks("sh").find(|block| block.contains("type macvlan mode")).unwrap();
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("vm1.sock");
    let (path, mac) = (socket.to_str().unwrap(), "52:54:00:12:34:56");
    let backend = Backend::start(
        &world.host,
        &["--parent", World::PARENT, "--socket-path", path, "--mac", mac],
    );
    let mut guest = Guest::boot(&GuestConfig::vhost_user("vm1", &socket, mac));
    guest.configure("eth0", "192.0.2.11", "2001:db8::11");
    assert!(guest.pings(World::LAN_V4));
    assert!(guest.silent(World::HOST_V4));
    world.host.sh(&recipe.replace("sudo ", ""));
    assert!(world.host.pings("192.0.2.11"));
    assert!(guest.pings("192.0.2.2"));
    assert!(guest.pings(World::LAN_V4));
    drop((guest, backend, world));
    assert_nothing_left();
}

/// The counters' line that the manual shows has the form of the real one.
#[test]
fn the_counters_are_logged_as_shown() {
    let manual = document("docs/operations.md");
    let shown = manual.blocks("text").find(|block| block.contains("from the guest:")).unwrap();
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("vm1.sock");
    let socket = socket.to_str().unwrap();
    let backend = Backend::start(
        &world.host,
        &["--parent", World::PARENT, "--socket-path", socket, "--name", "vm1"],
    );
    backend.signal(nix::sys::signal::Signal::SIGUSR1);
    backend
        .wait_for_log("from the guest: 0 frames (0 bytes); to the guest", Duration::from_secs(5));
    assert!(shown.starts_with("port vm1: from the guest: "), "{shown}");
    drop((backend, world));
    assert_nothing_left();
}
