//! A worker with tasks that move nothing: when it runs them, with what, and that it knows nothing
//! else of them.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::worker::poller::Interest;
use crate::worker::pool::Pool;
use crate::worker::slot::WorkerSlot;
use crate::worker::task::{Budget, Outcome, Part, Readiness, Task, TurnId};

/// The working memory of these workers: how many turns they have run.
type Turns = u64;

/// A task that counts its turns, and answers each as the test does.
struct CountingTask {
    answer: Mutex<Box<dyn FnMut(Budget) -> Outcome + Send>>,
    ran: mpsc::Sender<(Part, Instant, bool, Turns)>,
    slot: WorkerSlot<Turns>,
}

impl Task<Turns> for CountingTask {
    fn turn(&self, part: Part, budget: Budget, scratch: &mut Turns) -> Outcome {
        *scratch += 1;
        self.ran.send((part, Instant::now(), budget.busy_poll, *scratch)).unwrap();
        self.answer.lock().unwrap()(budget)
    }

    fn ready(&self, readiness: Readiness, due: &mut dyn FnMut(TurnId)) {
        assert!(readiness.readable && !readiness.failed);
        due(self.slot.turn(Part::Second));
    }
}

type Ran = mpsc::Receiver<(Part, Instant, bool, Turns)>;

/// A worker with such a task.
fn counting(
    busy_poll: Duration,
    answer: impl FnMut(Budget) -> Outcome + Send + 'static,
) -> (Pool<Turns>, Arc<CountingTask>, Ran) {
    let mut pool = Pool::start(1, busy_poll).unwrap();
    let (ran, runs) = mpsc::channel();
    let answer = Mutex::new(Box::new(answer) as Box<_>);
    let task = Arc::new(CountingTask { answer, ran, slot: pool.slot() });
    task.slot.take(task.clone());
    (pool, task, runs)
}

fn next(ran: &Ran) -> (Part, Instant, bool, Turns) {
    ran.recv_timeout(Duration::from_secs(10)).expect("a turn")
}

fn no_more(ran: &Ran) {
    assert!(ran.recv_timeout(Duration::from_millis(60)).is_err(), "a turn that was not asked for");
}

#[test]
fn a_task_that_asks_until_is_run_at_that_time_and_not_before() {
    const STEP: Duration = Duration::from_millis(15);
    let mut left = 3;
    let answer = move |budget: Budget| match left {
        0 => Outcome::Idle,
        _ => {
            left -= 1;
            Outcome::Until(budget.now + STEP)
        }
    };
    let (_pool, task, ran) = counting(Duration::ZERO, answer);
    task.slot.call(Part::First);
    let (_, mut before, ..) = next(&ran);
    for count in 2..=4 {
        let (part, at, _, turns) = next(&ran);
        assert_eq!((part, turns), (Part::First, count));
        // The time was counted from the beginning of the round, which was before the turn.
        assert!(at - before > STEP - Duration::from_millis(5), "{:?}", at - before);
        before = at;
    }
    no_more(&ran);
}

#[test]
fn a_task_that_is_run_before_its_deadline_has_none_any_more() {
    let mut first = true;
    let answer = move |budget: Budget| match std::mem::take(&mut first) {
        true => Outcome::Until(budget.now + Duration::from_millis(40)),
        false => Outcome::Idle,
    };
    let (_pool, task, ran) = counting(Duration::ZERO, answer);
    task.slot.call(Part::First);
    next(&ran);
    task.slot.call(Part::First);
    next(&ran);
    no_more(&ran);
}

#[test]
fn a_polled_task_is_run_again_until_its_time_is_over_and_told_so_once() {
    let mut moved = true;
    let answer = move |budget: Budget| match budget.busy_poll {
        true => Outcome::Polling { moved: std::mem::take(&mut moved) },
        false => Outcome::Idle,
    };
    let (_pool, task, ran) = counting(Duration::from_millis(2), answer);
    task.slot.call(Part::First);
    let (_, start, ..) = next(&ran);
    let polls = std::iter::from_fn(|| Some(next(&ran))).take_while(|run| run.2).count();
    assert!(polls > 0);
    assert!(start.elapsed() >= Duration::from_millis(2), "{polls}");
    no_more(&ran);
}

#[test]
fn a_ready_descriptor_runs_the_turn_that_the_task_names() {
    let (_pool, task, ran) = counting(Duration::ZERO, |_| Outcome::Idle);
    let ready = EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap();
    let turn = EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap();
    let edge = Interest::EPOLLIN | Interest::EPOLLET;
    let poller = task.slot.poller();
    poller.add(&ready.as_fd(), edge, task.slot.ready_token()).unwrap();
    poller.add(&turn.as_fd(), edge, task.slot.turn_token(Part::First)).unwrap();
    ready.write(1).unwrap();
    assert_eq!(next(&ran).0, Part::Second);
    turn.write(1).unwrap();
    assert_eq!(next(&ran).0, Part::First);
    task.slot.leave();
    turn.write(1).unwrap();
    ready.write(1).unwrap();
    no_more(&ran);
}
