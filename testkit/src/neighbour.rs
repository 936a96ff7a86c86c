//! A neighbour that exchanges frames while a test treats another port badly.
//!
//! A test that checks the neighbour only afterwards would miss how long the neighbour stood still.
//! So the deed runs on a thread of its own, and the neighbour exchanges frames with the LAN
//! meanwhile. Each frame must arrive, and soon. At the end the process must still obey SIGTERM.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::rig::Rig;

/// The longest that four frames may take. A machine that is busy with other tests stands still for
/// a second.
const STANDSTILL: Duration = Duration::from_secs(3);
/// The end after SIGTERM: 500 ms are promised, the rest is for a busy machine. A process that hangs
/// does so indefinitely.
pub const END: Duration = Duration::from_secs(3);

/// Does something to port 0, by its socket, while the guest of port 1 talks.
pub fn meanwhile<T: Send>(rig: &mut Rig, deed: impl FnOnce(&Path) -> T + Send) -> T {
    rig.unharmed();
    let socket = rig.socket(0);
    std::thread::scope(|scope| {
        let deed = scope.spawn(move || deed(&socket));
        loop {
            let (start, last) = (Instant::now(), deed.is_finished());
            rig.unharmed();
            let time = start.elapsed();
            assert!(time < STANDSTILL, "the neighbour stood still for {time:?}");
            if last {
                return deed.join().expect("the deed is done");
            }
        }
    })
}

/// The process ends in time at SIGTERM, in order.
pub fn ends(rig: &mut Rig) {
    let status = rig.backend.stop(END);
    assert!(status.success(), "{status}");
}
