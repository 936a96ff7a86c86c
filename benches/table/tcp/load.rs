//! The programs on the machines: bulk connections, and a ping-pong of one byte.
//!
//! They are small on purpose and replace iperf and netperf: standard sockets, a thread for each end
//! of each connection, blocks of 64 KiB. Bytes count when the receiving program has read them.
//!
//! What can go wrong: if a back-end loses frames, a hundred connections stop one by one and go on
//! after the kernel's timeouts. The sum then falls, but nothing hangs: sockets have time limits,
//! and are shut down at the end.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::cable::inside;
use crate::spinning::anywhere;
use testkit::netns::Netns;

/// Bytes of one write.
const BLOCK: usize = 64 << 10;
/// The time limit of every operation.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a program runs.
#[derive(Clone, Copy)]
pub struct Placement<'a> {
    /// Its namespace.
    pub netns: &'a Netns,
    /// The IPv4 address there.
    pub address: &'a str,
}

/// Connects a number of times; the ends at the first and at the second machine.
fn connect(
    from: Placement<'_>,
    to: Placement<'_>,
    count: usize,
) -> io::Result<Vec<(TcpStream, TcpStream)>> {
    let door = inside(to.netns, || TcpListener::bind((to.address, 0)))??;
    let address: SocketAddr = door.local_addr()?;
    (0..count)
        .map(|_| {
            let here = inside(from.netns, || TcpStream::connect_timeout(&address, PATIENCE))??;
            let (there, _) = door.accept()?;
            for end in [&here, &there] {
                end.set_read_timeout(Some(PATIENCE))?;
                end.set_write_timeout(Some(PATIENCE))?;
                end.set_nodelay(true)?;
            }
            Ok((here, there))
        })
        .collect()
}

/// Bytes per second that the second machine has read, over all connections, after a fifth of the
/// time.
pub fn stream(
    from: Placement<'_>,
    to: Placement<'_>,
    count: usize,
    time: Duration,
) -> io::Result<f64> {
    let ends = connect(from, to, count)?;
    let sum = Arc::new(AtomicU64::new(0));
    let mut threads = Vec::new();
    for (here, there) in &ends {
        let (mut here, mut there) = (here.try_clone()?, there.try_clone()?);
        threads.push(thread::spawn(move || {
            let _ = anywhere();
            let block = vec![7; BLOCK];
            while here.write_all(&block).is_ok() {}
        }));
        let sum = sum.clone();
        threads.push(thread::spawn(move || {
            let _ = anywhere();
            let mut block = vec![0; 2 * BLOCK];
            while let Ok(size @ 1..) = there.read(&mut block) {
                sum.fetch_add(size as u64, Ordering::Relaxed);
            }
        }));
    }
    thread::sleep(time / 5);
    let (start, before) = (Instant::now(), sum.load(Ordering::Relaxed));
    thread::sleep(time * 4 / 5);
    let rate = (sum.load(Ordering::Relaxed) - before) as f64 / start.elapsed().as_secs_f64();
    for (here, there) in &ends {
        // The socket may be closed already.
        let _ = here.shutdown(Shutdown::Both);
        let _ = there.shutdown(Shutdown::Both);
    }
    for thread in threads {
        let _ = thread.join();
    }
    Ok(rate)
}

/// Round trips of one byte, one after the other, for so long, in nanoseconds; the first tenth is
/// left out.
pub fn pingpong(from: Placement<'_>, to: Placement<'_>, time: Duration) -> io::Result<Vec<u32>> {
    let (mut here, mut there) =
        connect(from, to, 1)?.pop().ok_or_else(|| io::Error::other("no connection"))?;
    let echo = thread::spawn(move || {
        let _ = anywhere();
        let mut byte = [0];
        while there.read_exact(&mut byte).and_then(|()| there.write_all(&byte)).is_ok() {}
    });
    let asker = thread::spawn(move || -> io::Result<Vec<u32>> {
        anywhere()?;
        let mut trips = Vec::with_capacity(1 << 16);
        let start = Instant::now();
        let mut byte = [0];
        while start.elapsed() < time {
            let then = Instant::now();
            here.write_all(&byte)?;
            here.read_exact(&mut byte)?;
            trips.push(u32::try_from(then.elapsed().as_nanos()).unwrap_or(u32::MAX));
        }
        here.shutdown(Shutdown::Both)?;
        Ok(trips)
    });
    let asked = asker.join().map_err(|_| io::Error::other("the asking thread has died"));
    let _ = echo.join();
    let mut trips = asked??;
    trips.drain(..trips.len() / 10);
    Ok(trips)
}
