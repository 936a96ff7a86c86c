//! The cost of a party in a loop for the others: log lines, time of the control thread, the
//! neighbour's frames.
//!
//! The bounds are the same for every source of trouble: ten lines a minute of one port, 5 % of a
//! processor of the control thread, and no frame of a neighbour. The neighbour's frames are sent
//! once and compared; between two of them there is a quarter of a second.
//!
//! What can go wrong: a loop that is refused at its first step costs nothing and proves nothing.
//! Each caller therefore gives the least number of deeds.

use std::fs;
use std::time::{Duration, Instant};

use testkit::backend::Backend;
use testkit::rig::Rig;

/// Most lines that one port may have written within a minute.
pub const LINES: usize = 10;

/// Observations made while a loop ran.
#[derive(Debug)]
pub struct Toll {
    /// How often the deed was done.
    pub deeds: usize,
    /// Lines about the port.
    pub lines: Vec<String>,
    /// Share of a processor that the control thread took.
    pub control: f64,
    /// Share of a processor that the process took.
    pub process: f64,
}

/// Time on a processor of the thread that runs the control loop: the process's first.
pub fn control_time(backend: &Backend) -> Duration {
    let pid = backend.pid();
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/schedstat")).unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}

/// Lines of the log about this port.
pub fn lines(backend: &Backend, port: usize) -> Vec<String> {
    let name = format!("port t{port}: ");
    backend.log().lines().filter(|line| line.contains(&name)).map(str::to_owned).collect()
}

/// Repeats the deed at port 0 beside a neighbour. The first half second is not measured: loops are
/// slowed down once they are known to be loops.
pub fn take(rig: &mut Rig, time: Duration, mut deed: impl FnMut(&Rig)) -> Toll {
    rig.bystander();
    rig.unharmed();
    let before = lines(&rig.backend, 0).len();
    let warm = Instant::now() + Duration::from_millis(500);
    while Instant::now() < warm {
        deed(rig);
    }
    let (control, process) = (control_time(&rig.backend), rig.backend.processor());
    let (start, mut deeds) = (Instant::now(), 0);
    let mut next = start;
    while start.elapsed() < time {
        deed(rig);
        deeds += 1;
        if Instant::now() >= next {
            rig.unharmed();
            next = Instant::now() + Duration::from_millis(250);
        }
    }
    let share = |used: Duration| used.as_secs_f64() / start.elapsed().as_secs_f64();
    let toll = Toll {
        deeds,
        control: share(control_time(&rig.backend) - control),
        process: share(rig.backend.processor() - process),
        lines: lines(&rig.backend, 0).split_off(before),
    };
    rig.unharmed();
    println!("{toll:#?}");
    toll
}

impl Toll {
    /// The bounds that hold for every loop.
    pub fn is_bearable(&self, least_deeds: usize) {
        assert!(self.deeds >= least_deeds, "only {} deeds", self.deeds);
        assert!(self.lines.len() <= LINES, "{} lines: {:#?}", self.lines.len(), self.lines);
        assert!(self.control <= 0.05, "the control thread: {:.3} of a processor", self.control);
    }
}
