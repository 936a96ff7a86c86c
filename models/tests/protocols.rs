//! The models: each runs a protocol in every order of its steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use loom::model::Builder;
use loom::sync::{Condvar, Mutex};
use loom::thread;

/// Runs a model, and says how many orders there were. At most three preemptions in each, unless
/// `LOOM_UNBOUNDED` is set.
fn explore(name: &str, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    let unbounded = std::env::var_os("LOOM_UNBOUNDED").is_some();
    builder.preemption_bound = builder.preemption_bound.or(if unbounded { None } else { Some(3) });
    builder.max_branches = 10_000;
    let orders = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&orders);
    builder.check(move || {
        counted.fetch_add(1, Relaxed);
        model();
    });
    println!("loom {name}: {} orders", orders.load(Relaxed));
}

mod priority_mutex {
    use super::*;
    use models::priority_mutex::PriorityMutex;

    /// What the lock protects: 1 once the control side has had it.
    type Lock = PriorityMutex<u32>;

    fn control(lock: &Lock) {
        let mut state = lock.control();
        *state = 1;
    }

    /// A worker that delivers, and has seen the announcement, comes after the control side.
    #[test]
    fn a_delivery_goes_behind_the_announcement() {
        explore("priority mutex, delivery", || {
            let lock = loom::sync::Arc::new(Lock::default());
            let other = loom::sync::Arc::clone(&lock);
            let control = thread::spawn(move || control(&other));
            for _ in 0..2 {
                let announced = lock.is_announced();
                let state = lock.deliver();
                assert!(!announced || *state == 1, "it came before the control side");
            }
            control.join().unwrap();
        });
    }

    /// The pair's own worker does not wait for the control side, and does not overtake it.
    #[test]
    fn a_turn_waits_for_another_time() {
        explore("priority mutex, turn", || {
            let lock = loom::sync::Arc::new(Lock::default());
            let other = loom::sync::Arc::clone(&lock);
            let control = thread::spawn(move || control(&other));
            let announced = lock.is_announced();
            if let Some(state) = lock.work() {
                assert!(!announced || *state == 1, "it came before the control side");
            }
            control.join().unwrap();
            assert_eq!(lock.work().map(|state| *state), Some(1), "nothing is announced any more");
        });
    }

    /// Two control threads and a worker: all come through, one at a time.
    #[test]
    fn two_control_threads_and_a_delivery_all_come_through() {
        explore("priority mutex, three", || {
            let lock = loom::sync::Arc::new(Lock::default());
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let lock = loom::sync::Arc::clone(&lock);
                    thread::spawn(move || *lock.control() += 1)
                })
                .collect();
            *lock.deliver() += 1;
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(*lock.deliver(), 3);
        });
    }
}

/// The eventfd of a worker, of which epoll reports every write (EPOLLET) once.
#[derive(Default)]
struct Wake {
    written: Mutex<bool>,
    changed: Condvar,
}

impl Wake {
    fn write(&self) {
        *self.written.lock().unwrap() = true;
        self.changed.notify_one();
    }

    fn wait(&self) {
        let mut written = self.written.lock().unwrap();
        while !*written {
            written = self.changed.wait(written).unwrap();
        }
        *written = false;
    }
}

mod wake_up {
    use super::*;
    use models::inbox::Inbox;
    use models::snapshot::Snapshot;

    #[derive(Default)]
    struct Worker {
        inbox: Inbox<usize>,
        wake: Wake,
        tasks: Snapshot<Vec<bool>>,
    }

    /// Three requests of two threads: the worker gets all of them, and does not sleep on one.
    #[test]
    fn no_request_is_lost() {
        explore("wake-up", || {
            let worker = loom::sync::Arc::new(Worker::default());
            let other = loom::sync::Arc::clone(&worker);
            let caller = thread::spawn(move || {
                for turn in [1, 2] {
                    other.inbox.put(turn, || other.wake.write());
                }
            });
            let other = loom::sync::Arc::clone(&worker);
            let neighbour = thread::spawn(move || other.inbox.put(3, || other.wake.write()));
            let mut found = Vec::new();
            while found.len() < 3 {
                worker.wake.wait();
                worker.inbox.take(|turn| found.push(turn));
            }
            found.sort_unstable();
            assert_eq!(found, [1, 2, 3]);
            caller.join().unwrap();
            neighbour.join().unwrap();
        });
    }

    /// A task comes and asks for a turn while the worker wakes for another one. The worker that finds the
    /// request sees the task, because it empties the inbox before it takes the tasks.
    #[test]
    fn a_request_comes_after_its_task() {
        explore("wake-up, new task", || {
            let worker = loom::sync::Arc::new(Worker::default());
            worker.tasks.set(vec![true]);
            worker.inbox.put(0, || worker.wake.write());
            let other = loom::sync::Arc::clone(&worker);
            let control = thread::spawn(move || {
                other.tasks.set(vec![true, true]);
                other.inbox.put(1, || other.wake.write());
            });
            let mut turns = 0;
            while turns < 2 {
                worker.wake.wait();
                let mut found = Vec::new();
                worker.inbox.take(|turn| found.push(turn));
                let tasks = worker.tasks.get();
                assert!(found.iter().all(|turn| tasks.get(*turn) == Some(&true)), "no such task");
                turns += found.len();
            }
            control.join().unwrap();
        });
    }
}

mod snapshot {
    use super::*;
    use models::snapshot::Snapshot;

    /// A view of two halves, which asks for the present view when it is dropped, as a queue pair may.
    #[derive(Default)]
    struct TestView {
        halves: [u32; 2],
        place: Option<loom::sync::Arc<Snapshot<TestView>>>,
    }

    impl Drop for TestView {
        fn drop(&mut self) {
            if let Some(place) = self.place.take() {
                // Would wait for itself under the lock.
                assert_eq!(place.get().halves[0], place.get().halves[1]);
            }
        }
    }

    /// A worker sees a whole view, never an older one than before, and the new one once it was shown.
    #[test]
    fn a_view_is_whole_and_views_go_forward() {
        explore("forwarding view", || {
            let place = loom::sync::Arc::new(Snapshot::<TestView>::default());
            let shown = loom::sync::Arc::new(loom::sync::atomic::AtomicU32::new(0));
            let control = {
                let (place, shown) =
                    (loom::sync::Arc::clone(&place), loom::sync::Arc::clone(&shown));
                thread::spawn(move || {
                    for number in [1, 2] {
                        let own = (number == 1).then(|| loom::sync::Arc::clone(&place));
                        place.set(TestView { halves: [number; 2], place: own });
                        shown.store(number, loom::sync::atomic::Ordering::Release);
                    }
                })
            };
            let mut last = 0;
            for _ in 0..2 {
                let known = shown.load(loom::sync::atomic::Ordering::Acquire);
                let view = place.get();
                assert_eq!(view.halves[0], view.halves[1]);
                assert!(view.halves[0] >= last.max(known), "an older view");
                last = view.halves[0];
            }
            control.join().unwrap();
        });
    }
}

mod notification {
    use super::*;
    use loom::sync::atomic::{AtomicU16, Ordering};
    use models::notification::{passed, store_then_look};

    /// The two words of one direction: what the producer has made, and where the consumer wants to be
    /// called. The other side is a driver by the specification (virtio 1.2, 2.7.10.1): it writes its
    /// event index, a full barrier, and looks at the index again.
    #[derive(Default)]
    struct RingWords {
        /// What the index makes visible: the number of each element, plus one.
        elements: [AtomicU16; 2],
        index: AtomicU16,
        event: AtomicU16,
        call: Wake,
    }

    impl RingWords {
        /// Produces one element after the other; each time it calls, if the other side asked for it.
        fn produce(&self, count: u16) {
            for index in 0..count {
                self.elements[usize::from(index)].store(index + 1, Ordering::Relaxed);
                let event = store_then_look(&self.index, index + 1, Ordering::Release, &self.event);
                if passed(event, index, index + 1) {
                    self.call.write();
                }
            }
        }

        /// Consumes so many, and sleeps only after it has asked to be called and found nothing new.
        fn consume(&self, count: u16) {
            let mut next = 0;
            while next < count {
                let seen = store_then_look(&self.event, next, Ordering::Relaxed, &self.index);
                if seen == next {
                    self.call.wait();
                } else {
                    for index in next..seen {
                        let element = self.elements[usize::from(index)].load(Ordering::Relaxed);
                        assert_eq!(element, index + 1, "seen before it was written");
                    }
                    next = seen;
                }
            }
        }
    }

    /// publish against the driver's event index, and the driver's kick against enable_notification: one
    /// protocol, from both sides.
    #[test]
    fn neither_side_sleeps_while_there_is_something() {
        explore("notification", || {
            let words = loom::sync::Arc::new(RingWords::default());
            let other = loom::sync::Arc::clone(&words);
            let producer = thread::spawn(move || other.produce(2));
            words.consume(2);
            producer.join().unwrap();
        });
    }
}
