//! Another guest: DPDK's testpmd with two virtio-user ports, forward mode `mac`.
//!
//! It sends out of one port what it receives on the other, so frames circulate both ways and none
//! need be lost. The rate is the sum of what both ports receive, by testpmd's own counters. It
//! polls on the generator's processor, and takes no event index. It is an independent check of our
//! own generator.
//!
//! What can go wrong: virtio-user sends no frames above 1514 bytes. The file tells two answers to
//! `show port stats` apart by counting the lines.

use std::io::Write;
use std::time::{Duration, Instant};

use super::process::Process;
use super::{Backend, dpdk};
use crate::generator::frame::mac;
use crate::measure::Sample;
use crate::{Result, host};
use testkit::frames::mac_text;

/// Bursts that circulate from the start.
const BURSTS: usize = 6;

/// The rate between two sockets of `backend`, frames of `size` bytes.
///
/// # Errors
/// testpmd does not start or does not answer.
pub fn exchange(backend: &dyn Backend, size: usize, time: Duration) -> Result<Sample> {
    let [a, b] = [mac(0), mac(1)].map(mac_text);
    let mut words: Vec<String> = vec!["-oL".into(), "dpdk-testpmd".into()];
    words.extend(dpdk::eal("guest", 192, &format!("0@{0},1@{0}", host::GENERATOR)));
    for (port, (socket, mac)) in backend.sockets().iter().zip([&a, &b]).enumerate() {
        let at = socket.display();
        words.push("--vdev".into());
        words.push(format!("net_virtio_user{port},path={at},mac={mac},queues=1,queue_size=256"));
    }
    let peers = [format!("--eth-peer=0,{b}"), format!("--eth-peer=1,{a}")];
    words.extend(["--".to_owned(), "-i".to_owned()].into_iter().chain(peers));
    let rest = ["--total-num-mbufs=8192", "--nb-cores=1", "--txd=256", "--rxd=256"];
    words.extend(rest.iter().map(|word| (*word).to_owned()));
    let processor = host::GENERATOR.to_string();
    let mut testpmd = Process::start("stdbuf", &words, &processor, None)?;
    let path = testpmd.log_path();
    let prompt = || std::fs::read_to_string(&path).is_ok_and(|log| log.contains("testpmd> "));
    testpmd.wait_until(prompt, "no prompt")?;
    tell(&mut testpmd, &format!("set fwd mac\nset txpkts {size}\nstart tx_first {BURSTS}\n"))?;
    std::thread::sleep(time / 5);
    let pid = backend.pid();
    let first = (received(&mut testpmd)?, Instant::now(), host::used(pid));
    std::thread::sleep(time);
    let last = (received(&mut testpmd)?, Instant::now(), host::used(pid));
    let (frames, seconds) = (last.0.saturating_sub(first.0), (last.1 - first.1).as_secs_f64());
    if frames == 0 {
        return Err("no frame has arrived".into());
    }
    let cpu = last.2.saturating_sub(first.2) as f64;
    Ok(Sample {
        value: frames as f64 / seconds / 1e6,
        cpu_each: Some(cpu / frames as f64),
        cpu_share: Some(cpu / 1e9 / seconds),
        lost: None,
        extras: Vec::new(),
    })
}

fn tell(testpmd: &mut Process, words: &str) -> Result<()> {
    let stdin = testpmd.stdin().ok_or("testpmd has no standard input")?;
    Ok(stdin.write_all(words.as_bytes())?)
}

/// Frames that both ports have received so far.
fn received(testpmd: &mut Process) -> Result<u64> {
    let path = testpmd.log_path();
    let lines = || -> Vec<u64> {
        let log = std::fs::read_to_string(&path).unwrap_or_default();
        let numbers = log.lines().filter_map(|line| line.split_once("RX-packets:"));
        numbers.filter_map(|(_, n)| n.split_whitespace().next()?.parse().ok()).collect()
    };
    let before = lines().len();
    tell(testpmd, "show port stats all\n")?;
    testpmd.wait_until(|| lines().len() >= before + 2, "no port statistics")?;
    Ok(lines().iter().skip(before).take(2).sum())
}
