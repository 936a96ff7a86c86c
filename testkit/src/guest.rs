//! Real guests: Linux in QEMU, driven through a control port.
//!
//! [`Guest::start`] boots the kernel and initramfs that `qemu/build-guest.sh` makes, and
//! [`Guest::run`] runs a command in it and returns its output and exit status. `qemu/init`
//! describes the protocol. The control port is a Unix socket, and the *test* listens at it, so the
//! guest's early output is never lost. QEMU's own control socket is there too ([`Guest::qmp`]).
//!
//! Without KVM (`-accel tcg`: test machines rarely nest) a guest takes about three seconds to boot.
//! `VUM_ACCEL=kvm` uses KVM where it works, `VUM_QEMU=PATH` another QEMU than the one in PATH. QEMU
//! 7.2, Debian 12's, crashes under TCG when a vhost-user device starts with MSI-X: hence
//! `vectors=0`, unless a test asks for the default. The memory is a shared memfd, or the back-end
//! could not map it.
//!
//! **The control port** is a virtio-serial port. It was the second serial port (a UART) once: now and then
//! a request went unanswered, with no network device in the guest, once in some hundred to two thousand
//! requests and the sooner the busier the machine. The guest sat idle, its UART was empty, and the next
//! request was answered. The cause is not known: it looks as if QEMU's UART or the guest's driver loses bytes.
//! A virtio-serial port moves whole buffers through a ring; some five thousand requests lost none.
//!
//! What can go wrong: a guest under TCG is slow and its clock runs unevenly, so measure nothing in
//! it and be generous with timeouts. When a test fails, dropping the guest prints the end of its
//! console and QEMU's messages.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::netns::{Netns, Output, die_with_us, require};

/// How long a guest may take from start to prompt. It takes three seconds; a busy machine, longer.
const BOOT: Duration = Duration::from_secs(90);

/// How long a command in the guest may take unless the test says otherwise.
const COMMAND: Duration = Duration::from_secs(30);

/// What the guest's network device is connected to.
#[derive(Clone, Debug)]
pub enum Netdev {
    /// A vhost-user back-end's socket.
    VhostUser {
        /// The socket's path.
        socket: PathBuf,
        /// Seconds between attempts to connect again after the back-end is gone; `None`: never.
        reconnect: Option<u32>,
        /// QEMU listens and the back-end connects (`--client`).
        server: bool,
    },
    /// A tap device that exists in a namespace: QEMU runs there. For comparisons, and to try this
    /// file.
    Tap {
        /// The device's name.
        ifname: String,
    },
}

/// One network device of a guest: `eth0` in it, then `eth1`, ...
#[derive(Clone, Debug)]
pub struct Nic {
    /// What it is connected to.
    pub netdev: Netdev,
    /// Its MAC address, which must be the port's.
    pub mac: String,
    /// Queue pairs. The guest gets as many processors.
    pub queue_pairs: u16,
    /// The MTU that QEMU passes to guest and back-end (`host_mtu=`).
    pub host_mtu: Option<u32>,
    /// More device properties: `csum=off,rx_queue_size=1024`.
    pub options: String,
}

impl Nic {
    /// A device at a vhost-user socket, one queue pair, connecting again every second.
    pub fn vhost_user(socket: impl AsRef<Path>, mac: &str) -> Nic {
        let socket = socket.as_ref().to_path_buf();
        Nic {
            netdev: Netdev::VhostUser { socket, reconnect: Some(1), server: false },
            mac: mac.to_string(),
            queue_pairs: 1,
            host_mtu: None,
            options: String::new(),
        }
    }

    /// A device at a tap device.
    pub fn tap(ifname: &str, mac: &str) -> Nic {
        let netdev = Netdev::Tap { ifname: ifname.to_string() };
        Nic { netdev, ..Nic::vhost_user("", mac) }
    }
}

/// What a guest looks like.
#[derive(Clone, Debug)]
pub struct GuestConfig {
    /// For messages.
    pub label: String,
    /// Its network devices.
    pub nics: Vec<Nic>,
    /// MiB of memory, one region of guest memory (and one file) for each entry. None: the memory is
    /// among the extra words.
    pub memory: Vec<u32>,
    /// Slots for memory plugged in later ([`Guest::plug_memory`]).
    pub memory_slots: u32,
    /// Processors; at least as many as the largest number of queue pairs are given.
    pub cpus: u16,
    /// More words on QEMU's command line, such as `-incoming`.
    pub extra: Vec<String>,
    /// The QEMU that runs it; `None`: the one that [`qemu`] names.
    pub qemu: Option<PathBuf>,
    /// Interrupt vectors of the network devices: QEMU's default (MSI-X), not none (INTx).
    pub msix: bool,
}

impl Default for GuestConfig {
    fn default() -> GuestConfig {
        GuestConfig {
            label: "guest".to_string(),
            nics: Vec::new(),
            memory: vec![192],
            memory_slots: 0,
            cpus: 1,
            extra: Vec::new(),
            qemu: None,
            msix: false,
        }
    }
}

impl GuestConfig {
    /// A guest with one device at a vhost-user socket.
    pub fn vhost_user(label: &str, socket: impl AsRef<Path>, mac: &str) -> GuestConfig {
        GuestConfig {
            label: label.to_string(),
            nics: vec![Nic::vhost_user(socket, mac)],
            ..GuestConfig::default()
        }
    }
}

/// A running guest.
#[derive(Debug)]
pub struct Guest {
    label: String,
    child: Child,
    dir: TempDir,
    control: UnixStream,
    /// What has come over the control port and has not been looked at.
    pending: Vec<u8>,
    requests: u32,
    dimms: u32,
}

/// The newest QEMU's path. It is fetched if it is not there.
pub fn newest_qemu() -> PathBuf {
    if let Some(path) = std::env::var_os("VUM_QEMU_NEWEST") {
        return path.into();
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/newest-qemu.sh");
    let output = Command::new(script).stdin(Stdio::null()).output().expect(script);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "no newest QEMU: {errors}");
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

impl Guest {
    /// Starts QEMU and returns at once: several guests boot side by side. [`Guest::wait_boot`]
    /// next.
    pub fn start(config: &GuestConfig) -> Guest {
        Guest::start_in(None, config)
    }

    /// Starts QEMU and waits until the guest takes commands.
    pub fn boot(config: &GuestConfig) -> Guest {
        let mut guest = Guest::start(config);
        guest.wait_boot();
        guest
    }

    /// Starts QEMU in a namespace, where its tap device is.
    pub fn start_in(netns: Option<&Netns>, config: &GuestConfig) -> Guest {
        require(&[("ip", "iproute2")]);
        let qemu = config.qemu.clone().unwrap_or_else(qemu);
        let image = guest_image();
        let dir = tempfile::Builder::new()
            .prefix("vum-guest-")
            .tempdir()
            .expect("a temporary directory for the guest's sockets");
        let listener = UnixListener::bind(dir.path().join("control")).expect("the control socket");
        let mut command = match netns {
            Some(netns) => netns.command(&qemu),
            None => Command::new(&qemu),
        };
        let log = File::create(dir.path().join("qemu.log")).expect("QEMU's log");
        command
            .args(arguments(config, &qemu, image, dir.path()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("QEMU's log, again"))
            .stderr(log);
        let mut child = die_with_us(&mut command).spawn().expect("QEMU starts");
        let control = accept(&listener, &mut child, dir.path());
        let label = config.label.clone();
        Guest { label, child, dir, control, pending: Vec::new(), requests: 0, dimms: 0 }
    }

    /// Takes over a guest that another program, such as libvirt, starts. All of it ends with the
    /// process `child`; in `dir` are `console`, `qemu.log`, and the socket `control`, at which
    /// `listener` listens and to which the guest's virtio-serial port connects. There is no `qmp`,
    /// so memory cannot be plugged in.
    pub fn adopt(label: &str, mut child: Child, dir: TempDir, listener: &UnixListener) -> Guest {
        let control = accept(listener, &mut child, dir.path());
        let label = label.to_string();
        Guest { label, child, dir, control, pending: Vec::new(), requests: 0, dimms: 0 }
    }

    /// Waits until the guest has booted (again) and takes commands.
    pub fn wait_boot(&mut self) {
        let end = Instant::now() + BOOT;
        while !self.read_line(end, "to boot").ends_with("@ready 1") {}
    }

    /// Runs a shell command line in the guest, for half a minute at most.
    pub fn run(&mut self, script: &str) -> Output {
        self.run_for(script, COMMAND)
    }

    /// Runs a shell command line in the guest that must succeed, and returns what it printed.
    pub fn sh(&mut self, script: &str) -> String {
        let output = self.run(script);
        assert!(output.ok(), "{}: {script}: status {}\n{}", self.label, output.status, output.text);
        output.text
    }

    /// Runs a shell command line in the guest; it is killed (status 137) after `timeout`.
    pub fn run_for(&mut self, script: &str, timeout: Duration) -> Output {
        let nonce = self.send(script, timeout);
        // The guest keeps the time; the grace is for a guest that is busy or starved.
        let end = Instant::now() + timeout + Duration::from_secs(15);
        loop {
            let line = self.read_line(end, script);
            assert!(!line.ends_with("@ready 1"), "{}: rebooted during: {script}", self.label);
            let Some((_, answer)) = line.rsplit_once('@') else { continue };
            let mut words = answer.split(' ');
            let id = words.next();
            let status = words.next().and_then(|word| word.parse().ok());
            let size = words.next().and_then(|word| word.parse().ok());
            let (Some(id), Some(status), Some(size)) = (id, status, size) else { continue };
            let bytes = self.read_exact(size, end, script);
            if id == nonce {
                return Output { text: String::from_utf8_lossy(&bytes).into_owned(), status };
            }
        }
    }

    /// Gives `eth<n>` its addresses and sets it up; without duplicate address detection, so usable
    /// at once. The prefixes are the test world's: /24 and /64.
    pub fn configure(&mut self, link: &str, v4: &str, v6: &str) {
        self.sh(&format!(
            "echo 0 >/proc/sys/net/ipv6/conf/{link}/accept_dad && ip link set {link} up && \
             ip addr add {v4}/24 dev {link} && ip addr add {v6}/64 dev {link}"
        ));
    }

    /// Whether an address answers; tries for about five seconds, since neighbours need to be found.
    pub fn pings(&mut self, address: &str) -> bool {
        self.run(&format!(
            "for i in 1 2 3 4 5; do ping -c 1 -W 1 {address} && exit 0; done; exit 1"
        ))
        .ok()
    }

    /// Whether an address stays silent: for tests of what must *not* get through.
    pub fn silent(&mut self, address: &str) -> bool {
        !self.run(&format!("ping -c 2 -W 1 {address}")).ok()
    }

    /// Reboots from inside. QEMU stays; the control port comes up again.
    pub fn reboot(&mut self) {
        self.send("reboot -f", COMMAND);
        self.wait_boot();
    }

    /// Resets the machine from outside, as its button would.
    pub fn reset(&mut self) {
        self.qmp("system_reset").expect("system_reset");
        self.wait_boot();
    }

    /// QEMU's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: QEMU is gone, as after a crash.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether QEMU still runs.
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The kernel's log so far.
    pub fn console(&self) -> String {
        read_text(&self.dir.path().join("console"))
    }

    /// QEMU's own messages so far.
    pub fn qemu_log(&self) -> String {
        read_text(&self.dir.path().join("qemu.log"))
    }

    /// A command of QEMU's control protocol, without arguments.
    pub fn qmp(&self, command: &str) -> Result<Value, String> {
        self.qmp_with(command, json!({}))
    }

    /// A command of QEMU's control protocol: what it returns, or the error's text.
    fn qmp_with(&self, command: &str, arguments: Value) -> Result<Value, String> {
        let text = |error: std::io::Error| error.to_string();
        let mut stream = UnixStream::connect(self.dir.path().join("qmp")).map_err(text)?;
        stream.set_read_timeout(Some(COMMAND)).map_err(text)?;
        let reader = std::io::BufReader::new(stream.try_clone().map_err(text)?);
        let mut answers = serde_json::Deserializer::from_reader(reader).into_iter::<Value>();
        // The greeting comes first; capabilities must be accepted before anything else.
        for request in [
            json!({"execute": "qmp_capabilities"}),
            json!({"execute": command, "arguments": arguments}),
        ] {
            stream.write_all(request.to_string().as_bytes()).map_err(text)?;
            loop {
                let answer = answers.next().ok_or("QEMU closed its control socket")?;
                let answer = answer.map_err(|error| error.to_string())?;
                if let Some(error) = answer.get("error") {
                    return Err(error.to_string());
                }
                if let Some(value) = answer.get("return") {
                    if request.get("arguments").is_some() {
                        return Ok(value.clone());
                    }
                    break;
                }
            }
        }
        Err("no answer".to_string())
    }

    /// Plugs in memory (a multiple of 128 MiB) while the guest runs, and lets the guest use it: the
    /// back-end's memory map grows by a region. Needs `memory_slots`.
    pub fn plug_memory(&mut self, mib: u32) {
        let before = self.memory_kib();
        let n = self.dimms;
        self.dimms += 1;
        let size = u64::from(mib) << 20;
        let memory = json!({"qom-type": "memory-backend-memfd", "id": format!("plug{n}"),
                            "size": size, "share": true});
        self.qmp_with("object-add", memory).expect("object-add");
        let dimm = json!({"driver": "pc-dimm", "id": format!("dimm{n}"),
                          "memdev": format!("plug{n}")});
        self.qmp_with("device_add", dimm).expect("device_add");
        // The kernel takes it into use by itself (memhp_default_state=online), soon.
        let end = Instant::now() + COMMAND;
        while self.memory_kib() < before + u64::from(mib) * 1000 {
            assert!(Instant::now() < end, "{}: the memory plugged in is not used", self.label);
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The memory that the guest's kernel manages, in KiB.
    pub fn memory_kib(&mut self) -> u64 {
        let text = self.sh("awk '/^MemTotal/ {print $2}' /proc/meminfo");
        text.trim().parse().unwrap_or_else(|_| panic!("{}: MemTotal is '{text}'", self.label))
    }

    fn send(&mut self, script: &str, timeout: Duration) -> String {
        self.requests += 1;
        let nonce = format!("r{}-{}", std::process::id(), self.requests);
        let line = format!("{nonce} {} {}\n", timeout.as_secs().max(1), base64(script.as_bytes()));
        let sent = self.control.write_all(line.as_bytes());
        sent.unwrap_or_else(|error| panic!("{}: {error}", self.label));
        nonce
    }

    /// The next line from the control port, without its end.
    fn read_line(&mut self, end: Instant, what: &str) -> String {
        loop {
            if let Some(length) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=length).collect();
                return String::from_utf8_lossy(&line).trim_end().to_string();
            }
            self.read_more(end, what);
        }
    }

    fn read_exact(&mut self, size: usize, end: Instant, what: &str) -> Vec<u8> {
        while self.pending.len() < size {
            self.read_more(end, what);
        }
        self.pending.drain(..size).collect()
    }

    fn read_more(&mut self, end: Instant, what: &str) {
        let mut bytes = [0; 4096];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                panic!("{}: no time left for: {what}\n{}", self.label, self.whereabouts());
            }
            self.control.set_read_timeout(Some(left)).expect("a time limit on the control port");
            match self.control.read(&mut bytes) {
                Ok(0) => panic!("{}: QEMU ended during: {what}", self.label),
                Ok(count) => return self.pending.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{}: {error}: {what}", self.label),
            }
        }
    }

    /// The state of a guest that does not answer: its processor, asleep (HLT=1) or at which
    /// instruction, three times.
    fn whereabouts(&self) -> String {
        let mut text = String::new();
        for _ in 0..3 {
            let command = json!({"command-line": "info registers -a"});
            let registers = match self.qmp_with("human-monitor-command", command) {
                Ok(value) => value.as_str().unwrap_or_default().to_string(),
                Err(error) => error,
            };
            let short =
                registers.lines().filter(|line| line.contains("RIP") || !line.contains('='));
            text.extend(short.map(|line| format!("{}\n", line.trim())));
            std::thread::sleep(Duration::from_millis(300));
        }
        text
    }

    fn last_words(&self) -> String {
        let console = self.console();
        let lines: Vec<&str> = console.lines().collect();
        let tail = lines[lines.len().saturating_sub(30)..].join("\n");
        format!("---- QEMU ----\n{}---- the guest's console ----\n{tail}\n----", self.qemu_log())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.label, self.last_words());
        }
    }
}

/// The kernel and initramfs, made once per test process if they are not there already.
pub fn guest_image() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../qemu/build-guest.sh");
        let output = Command::new(script).stdin(Stdio::null()).output().expect(script);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "qemu/build-guest.sh: {errors}");
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
    })
}

/// QEMU's command line.
fn arguments(config: &GuestConfig, qemu: &Path, image: &Path, dir: &Path) -> Vec<String> {
    let mut words = Vec::new();
    let mut add = |text: &str| words.extend(text.split(' ').map(str::to_string));
    let accel = std::env::var("VUM_ACCEL").unwrap_or_else(|_| "tcg".to_string());
    let (image, dir) = (image.display(), dir.display());
    add("-nodefaults -no-user-config -display none");
    add(&format!("-name {} -machine pc,hpet=off -accel {accel}", config.label));
    add(&format!("-kernel {image}/vmlinux -initrd {image}/initramfs.cpio"));
    words.push("-append".to_string());
    words.push(KERNEL.to_string());

    let mut add = |text: &str| words.extend(text.split(' ').map(str::to_string));
    let pairs = config.nics.iter().map(|nic| nic.queue_pairs).max().unwrap_or(1);
    add(&format!("-smp {}", config.cpus.max(pairs)));
    let total: u32 = config.memory.iter().sum();
    match config.memory_slots {
        // It is among the extra words.
        _ if config.memory.is_empty() => {}
        0 => add(&format!("-m {total}M")),
        slots => add(&format!("-m {total}M,slots={slots},maxmem=4G")),
    }
    for (n, mib) in config.memory.iter().enumerate() {
        add(&format!("-object memory-backend-memfd,id=mem{n},size={mib}M,share=on"));
        add(&format!("-numa node,memdev=mem{n}"));
    }

    add(&format!("-serial file:{dir}/console"));
    add(&format!("-qmp unix:{dir}/qmp,server=on,wait=off"));
    for (n, nic) in config.nics.iter().enumerate() {
        let pairs = nic.queue_pairs;
        match &nic.netdev {
            Netdev::VhostUser { socket, reconnect, server } => {
                let mut chardev = format!("socket,id=char{n},path={}", socket.display());
                if *server {
                    chardev.push_str(",server=on,wait=on");
                } else if let Some(seconds) = reconnect {
                    chardev.push_str(&reconnect_option(qemu, *seconds));
                }
                add(&format!("-chardev {chardev}"));
                add(&format!("-netdev vhost-user,id=net{n},chardev=char{n},queues={pairs}"));
            }
            Netdev::Tap { ifname } => {
                let net = format!("tap,id=net{n},ifname={ifname},script=no,downscript=no");
                add(&format!("-netdev {net}"));
            }
        }
        let mut device =
            format!("virtio-net-pci,id=nic{n},netdev=net{n},mac={},vectors=0", nic.mac);
        if pairs > 1 {
            device.push_str(",mq=on");
        }
        if let Some(mtu) = nic.host_mtu {
            device.push_str(&format!(",host_mtu={mtu}"));
        }
        if !nic.options.is_empty() {
            device.push_str(&format!(",{}", nic.options));
        }
        // No boot ROM: the guest boots from the command line, and the ROM costs time.
        add(&format!("-device {device},romfile="));
    }
    // After the network devices: these have the places on the bus that tests know.
    add(&format!("-chardev socket,id=control,path={dir}/control"));
    add("-device virtio-serial-pci -device virtserialport,chardev=control,name=control");
    words.extend(config.extra.iter().cloned());
    words
}

/// The QEMU that guests run in unless their test says otherwise: the one of `VUM_QEMU`, or in PATH.
pub fn qemu() -> PathBuf {
    match std::env::var_os("VUM_QEMU") {
        Some(path) => path.into(),
        None => {
            require(&[("qemu-system-x86_64", "qemu-system-x86")]);
            "qemu-system-x86_64".into()
        }
    }
}

/// `reconnect=` (seconds) is gone since QEMU 10.2, `reconnect-ms=` exists since 9.2.
fn reconnect_option(qemu: &Path, seconds: u32) -> String {
    let version = crate::netns::run(&qemu.to_string_lossy(), &["--version"]).text;
    let number = version.split("version ").nth(1).unwrap_or_default();
    let mut parts = number.split('.').map(|part| part.parse::<u32>().unwrap_or_default());
    let version = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if version >= (9, 2) {
        format!(",reconnect-ms={}", seconds * 1000)
    } else {
        format!(",reconnect={seconds}")
    }
}

/// The kernel's command line. The words after `mitigations` only save boot time under TCG: they
/// turn off self-tests of ciphers, the calibration of a clock that QEMU gets right, and three
/// initialisations that the tests do not need.
pub const KERNEL: &str = "console=ttyS0 quiet panic=-1 memhp_default_state=online mitigations=off \
     cryptomgr.notests tsc=reliable \
     no_timer_check rcupdate.rcu_expedited=1 random.trust_cpu=on \
     initcall_blacklist=init_kprobe_trace,load_system_certificate_list,crypto_kdf108_init";

/// Waits for QEMU to connect to the control socket. It may also end at once, with a reason.
fn accept(listener: &UnixListener, child: &mut Child, dir: &Path) -> UnixStream {
    listener.set_nonblocking(true).expect("a control socket that does not block");
    let end = Instant::now() + BOOT;
    loop {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).expect("a control connection that blocks");
            return stream;
        }
        if let Ok(Some(status)) = child.try_wait() {
            panic!("QEMU ended at once ({status}): {}", read_text(&dir.join("qemu.log")));
        }
        assert!(Instant::now() < end, "QEMU does not start: {}", read_text(&dir.join("qemu.log")));
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn read_text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// Base64, since a command may hold anything and a request is one line.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0u8; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(group);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 63;
            let padding = digit > chunk.len();
            text.push(if padding { '=' } else { char::from(DIGITS[index as usize]) });
        }
    }
    text
}
