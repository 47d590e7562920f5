//! What a worker has done so far, readable from other threads.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one worker writes and anybody reads.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds without a locked instruction: the worker is the only writer.
    pub(crate) fn add(&self, amount: u64) {
        let value = self.0.load(Ordering::Relaxed).wrapping_add(amount);
        self.0.store(value, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one worker.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) opened: Counter,
    pub(crate) closed: Counter,
    pub(crate) receives: Counter,
    pub(crate) sends: Counter,
    pub(crate) batches: Counter,
    pub(crate) bytes_to_client: Counter,
    pub(crate) bytes_to_backend: Counter,
    pub(crate) pauses: Counter,
    pub(crate) buffers_missed: Counter,
    pub(crate) tls_cut: Counter,
}

/// What all workers have done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Sessions taken over.
    pub opened: u64,
    /// Sessions closed.
    pub closed: u64,
    /// Receives that completed.
    pub receives: u64,
    /// Sends that completed.
    pub sends: u64,
    /// Times that a worker entered the kernel.
    pub batches: u64,
    /// Application bytes from backends to clients.
    pub bytes_to_client: u64,
    /// Application bytes from clients to backends.
    pub bytes_to_backend: u64,
    /// Times that a direction reached its high mark and receiving stopped.
    pub pauses: u64,
    /// Receives that found the buffer pool empty and were repeated.
    pub buffers_missed: u64,
    /// TLS streams that ended without a `close_notify` (RFC 8446, section 6.1).
    pub tls_cut: u64,
}

impl Stats {
    pub(crate) fn add(&mut self, counters: &Counters) {
        self.opened += counters.opened.value();
        self.closed += counters.closed.value();
        self.receives += counters.receives.value();
        self.sends += counters.sends.value();
        self.batches += counters.batches.value();
        self.bytes_to_client += counters.bytes_to_client.value();
        self.bytes_to_backend += counters.bytes_to_backend.value();
        self.pauses += counters.pauses.value();
        self.buffers_missed += counters.buffers_missed.value();
        self.tls_cut += counters.tls_cut.value();
    }
}
