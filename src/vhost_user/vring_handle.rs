//! The crate's view of a ring, with ours behind it.
//!
//! vhost-user-backend talks to its rings through the `VringT` trait and lets us implement it. Our
//! type keeps the crate's state (the crate reads kick and readiness back from there). After every
//! change it derives the whole configuration of the ring and gives it to the queue pair
//! ([`VringHandle::sync`]), which starts, stops or restarts the ring under its lock. No event loop
//! of the crate ever runs: `queues_per_thread()` is empty.
//!
//! What can go wrong: `VringT::new` does not get the port and the number of the ring that it makes.
//! A [`VringFactory`] on the thread that builds the daemon has them, and collects the rings for the
//! device.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use vhost_user_backend::{VringMutex, VringStateGuard, VringStateMutGuard, VringT};
use virtio_queue::{Error as VirtQueError, QueueT};

use crate::datapath::queue_pair::QueuePair;
use crate::datapath::side::Side;
use crate::virtqueue::address_space::MappedAccount;
use crate::virtqueue::guest_map::{GuestMap, SharedMemory};
use crate::virtqueue::ring_setup::RingSetup;
use crate::virtqueue::vring::VringConfig;

/// The state that all rings of one connection share.
#[derive(Debug)]
pub struct ConnectionRings {
    pairs: Vec<Arc<QueuePair>>,
    map: Mutex<Option<Arc<GuestMap>>>,
    account: Arc<MappedAccount>,
    features: AtomicU64,
}

impl ConnectionRings {
    /// Rings of these queue pairs.
    pub fn new(pairs: Vec<Arc<QueuePair>>) -> Arc<ConnectionRings> {
        let account = Arc::default();
        Arc::new(ConnectionRings {
            pairs,
            map: Mutex::new(None),
            account,
            features: AtomicU64::new(0),
        })
    }

    /// Sets the negotiated features. The rings follow at their next sync.
    pub fn set_features(&self, features: u64) {
        self.features.store(features, Ordering::Relaxed);
    }

    /// Sets the guest's memory, or takes it away. The rings follow at their next sync. Returns the
    /// former memory: drop it only after the sync. A ring that drops the last reference keeps its
    /// worker waiting for as long as the kernel unmaps, which for a large guest is seconds.
    ///
    /// # Errors
    /// It cannot be mapped; the rings keep the former memory.
    pub fn set_memory(&self, memory: Option<&SharedMemory>) -> io::Result<Option<Arc<GuestMap>>> {
        let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        let new = match memory {
            Some(memory) => Some(GuestMap::follow(memory, map.as_deref(), &self.account)?),
            None => None,
        };
        Ok(std::mem::replace(&mut *map, new.filter(|map| !map.is_empty())))
    }

    /// The queue pairs.
    pub fn pairs(&self) -> &[Arc<QueuePair>] {
        &self.pairs
    }
}

thread_local! {
    static FACTORY: RefCell<Option<VringFactory>> = const { RefCell::new(None) };
}

/// Tells `VringT::new` on this thread which ring it makes.
struct VringFactory {
    shared: Arc<ConnectionRings>,
    made: Vec<VringHandle>,
}

/// Runs `build`, during which the crate makes its rings; returns them in order with the outcome.
pub fn with_factory<T>(
    shared: &Arc<ConnectionRings>,
    build: impl FnOnce() -> T,
) -> (T, Vec<VringHandle>) {
    FACTORY.with(|factory| {
        let new = VringFactory { shared: Arc::clone(shared), made: Vec::new() };
        *factory.borrow_mut() = Some(new);
    });
    let outcome = build();
    let made = FACTORY.with(|factory| factory.borrow_mut().take());
    (outcome, made.map(|factory| factory.made).unwrap_or_default())
}

struct Inner {
    state: VringMutex<SharedMemory>,
    shared: Arc<ConnectionRings>,
    pair: Arc<QueuePair>,
    side: Side,
}

/// One ring.
#[derive(Clone)]
pub struct VringHandle(Arc<Inner>);

impl VringHandle {
    /// Gives the queue pair the ring's present configuration. Returns the ring's position, or its
    /// position at the moment when this stopped it.
    pub fn sync(&self) -> Option<u16> {
        let Inner { state, shared, pair, side } = &*self.0;
        let map = shared.map.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let config = {
            let state = state.get_ref();
            let queue = state.get_queue();
            VringConfig {
                ready: queue.ready(),
                enabled: state.is_enabled(),
                setup: map.map(|map| RingSetup {
                    size: queue.size(),
                    desc: queue.desc_table(),
                    avail: queue.avail_ring(),
                    used: queue.used_ring(),
                    features: shared.features.load(Ordering::Relaxed),
                    map,
                }),
            }
        };
        pair.apply(*side, &config)
    }

    fn change(&self, change: impl FnOnce(&VringMutex<SharedMemory>)) {
        change(&self.0.state);
        self.sync();
    }
}

impl<'a> VringStateGuard<'a, SharedMemory> for VringHandle {
    type G = <VringMutex<SharedMemory> as VringStateGuard<'a, SharedMemory>>::G;
}

impl<'a> VringStateMutGuard<'a, SharedMemory> for VringHandle {
    type G = <VringMutex<SharedMemory> as VringStateMutGuard<'a, SharedMemory>>::G;
}

impl VringT<SharedMemory> for VringHandle {
    fn new(memory: SharedMemory, max_queue_size: u16) -> Result<VringHandle, VirtQueError> {
        let state = VringMutex::new(memory, max_queue_size)?;
        FACTORY.with(|factory| {
            let mut factory = factory.borrow_mut();
            let VringFactory { shared, made } =
                factory.as_mut().ok_or(VirtQueError::QueueNotReady)?;
            let index = made.len();
            let pair = shared.pairs.get(index / 2).ok_or(VirtQueError::QueueNotReady)?;
            let vring = VringHandle(Arc::new(Inner {
                state,
                shared: Arc::clone(shared),
                pair: Arc::clone(pair),
                side: Side::of_vring(index),
            }));
            made.push(vring.clone());
            Ok(vring)
        })
    }

    fn get_ref(&self) -> <Self as VringStateGuard<'_, SharedMemory>>::G {
        self.0.state.get_ref()
    }

    fn get_mut(&self) -> <Self as VringStateMutGuard<'_, SharedMemory>>::G {
        self.0.state.get_mut()
    }

    // The crate's workers would call these six; there are none.

    fn add_used(&self, _desc_index: u16, _len: u32) -> Result<(), VirtQueError> {
        Ok(())
    }

    fn signal_used_queue(&self) -> io::Result<()> {
        Ok(())
    }

    fn enable_notification(&self) -> Result<bool, VirtQueError> {
        Ok(false)
    }

    fn disable_notification(&self) -> Result<(), VirtQueError> {
        Ok(())
    }

    fn needs_notification(&self) -> Result<bool, VirtQueError> {
        Ok(false)
    }

    fn read_kick(&self) -> io::Result<bool> {
        Ok(false)
    }

    fn set_enabled(&self, enabled: bool) {
        self.change(|state| state.set_enabled(enabled));
    }

    fn set_queue_info(&self, desc: u64, avail: u64, used: u64) -> Result<(), VirtQueError> {
        self.0.state.set_queue_info(desc, avail, used)?;
        self.sync();
        Ok(())
    }

    fn queue_next_avail(&self) -> u16 {
        self.0.state.queue_next_avail()
    }

    fn set_queue_next_avail(&self, base: u16) {
        // Kept for GET_VRING_BASE only: a ring starts at its used index.
        self.0.state.set_queue_next_avail(base);
    }

    fn set_queue_next_used(&self, index: u16) {
        self.0.state.set_queue_next_used(index);
    }

    fn queue_used_idx(&self) -> Result<u16, VirtQueError> {
        // The crate's own answer would read the guest's memory by the crate's mapping, which is not
        // watched. The answer is not used: a ring starts at its used index.
        Ok(0)
    }

    fn set_queue_size(&self, size: u16) {
        // The request filter has refused sizes that are not a power of two.
        self.change(|state| state.set_queue_size(size));
    }

    fn set_queue_event_idx(&self, enabled: bool) {
        self.0.state.set_queue_event_idx(enabled);
    }

    fn set_queue_ready(&self, ready: bool) {
        self.0.state.set_queue_ready(ready);
        if let Some(position) = self.sync().filter(|_| !ready) {
            // GET_VRING_BASE will return this: everything before was completed, nothing after
            // begun.
            self.0.state.set_queue_next_avail(position);
            self.0.state.set_queue_next_used(position);
        }
    }

    fn set_kick(&self, file: Option<File>) {
        // The crate wants to keep the descriptor, so the worker watches a duplicate.
        let ours = file.as_ref().and_then(|file| file.try_clone().ok());
        self.0.pair.set_kick(self.0.side, ours);
        self.0.state.set_kick(file);
    }

    fn set_call(&self, file: Option<File>) {
        self.0.pair.set_call(self.0.side, file);
    }

    fn set_err(&self, file: Option<File>) {
        self.0.pair.set_error(self.0.side, file);
    }
}
