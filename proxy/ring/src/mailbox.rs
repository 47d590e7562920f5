//! The way into a worker: a bounded queue and something that wakes it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::leg::Leg;
use crate::limits::HANDOVERS_MAX;
use crate::{Closed, Traffic};

/// What is called once when a session is closed.
pub(crate) type OnClose = Box<dyn FnOnce(Closed) + Send>;

/// What is called once with the traffic of all sessions of a worker.
pub(crate) type OnTraffic = Box<dyn FnOnce(Vec<Traffic>) + Send>;

/// What is called once when everything that was ordered before has been done.
pub(crate) type OnObeyed = Box<dyn FnOnce() + Send>;

/// A session on its way into a worker.
pub(crate) struct Handover<S> {
    pub(crate) id: u64,
    pub(crate) client: Leg<S>,
    pub(crate) backend: Leg<S>,
    pub(crate) to_client: Vec<u8>,
    pub(crate) to_backend: Vec<u8>,
    pub(crate) on_close: OnClose,
}

/// What waits for a worker.
pub(crate) struct Orders<S> {
    pub(crate) handovers: Vec<Handover<S>>,
    /// At most one a session: the registry gives out each end once.
    pub(crate) ends: Vec<(u64, Vec<u8>)>,
    pub(crate) traffic: Vec<OnTraffic>,
    pub(crate) obeyed: Vec<OnObeyed>,
    pub(crate) stop: bool,
}

impl<S> Default for Orders<S> {
    fn default() -> Self {
        Self {
            handovers: Vec::new(),
            ends: Vec::new(),
            traffic: Vec::new(),
            obeyed: Vec::new(),
            stop: false,
        }
    }
}

/// The queue of one worker. Whoever puts something in wakes the worker after it.
pub(crate) struct Mailbox<S>(Mutex<Orders<S>>);

impl<S> Default for Mailbox<S> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<S> Mailbox<S> {
    /// Whether one more session may be handed over.
    pub(crate) fn has_room(&self) -> bool {
        self.lock().handovers.len() < HANDOVERS_MAX
    }

    /// Hands a session over; the caller has asked for room and is the only one who hands over.
    pub(crate) fn hand_over(&self, handover: Handover<S>) {
        self.lock().handovers.push(handover);
    }

    /// Orders the end of a session.
    pub(crate) fn end(&self, id: u64, goodbye: Vec<u8>) {
        self.lock().ends.push((id, goodbye));
    }

    /// Asks what has flowed through the worker's sessions.
    pub(crate) fn ask_traffic(&self, tell: OnTraffic) {
        self.lock().traffic.push(tell);
    }

    /// Asks to be told when everything that was ordered before has been done.
    pub(crate) fn ask_obeyed(&self, tell: OnObeyed) {
        self.lock().obeyed.push(tell);
    }

    /// Orders the end of all sessions and of the worker.
    pub(crate) fn stop(&self) {
        self.lock().stop = true;
    }

    /// Everything that has been ordered since the last time.
    pub(crate) fn take(&self) -> Orders<S> {
        let mut orders = self.lock();
        let stop = orders.stop;
        let taken = std::mem::take(&mut *orders);
        orders.stop = stop;
        taken
    }

    fn lock(&self) -> MutexGuard<'_, Orders<S>> {
        // Each change under the lock is one push: a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
