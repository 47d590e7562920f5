//! What waits for the thread that owns the audit file.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use postern_core::audit::Record;
use postern_core::limits::AUDIT_QUEUE_RECORDS_MAX;
use tokio::sync::oneshot;

use super::file::Opened;
use super::{AuditError, OF_THE_PROCESS};
use crate::clock::now_ms;

/// A record, when it happened, and in which session.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) at_ms: u64,
    pub(super) session: String,
    pub(super) record: Record,
}

/// A record that somebody waits for.
pub(super) struct Request {
    pub(super) entry: Entry,
    pub(super) answer: oneshot::Sender<Result<(), AuditError>>,
}

/// The file that the writer is to go on in.
pub(super) struct Next {
    pub(super) path: PathBuf,
    pub(super) opened: Opened,
    pub(super) done: oneshot::Sender<Result<(), AuditError>>,
}

/// The file is to be closed, and the next one to be begun.
pub(super) struct Rotation {
    /// The file: the writer may have gone on in another one.
    pub(super) path: PathBuf,
    pub(super) done: oneshot::Sender<Result<Rotated, AuditError>>,
}

/// A file that was closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rotated {
    /// Where it is now.
    pub(crate) file: PathBuf,
    /// The number and the hash of its last record.
    pub(crate) last: (u64, String),
}

/// What waits for the writer.
pub(super) struct Queue {
    state: Mutex<State>,
    /// Told when the writer has something to do.
    pub(super) work: Condvar,
    detached_max: usize,
}

/// What the queue holds, under its lock.
pub(super) struct State {
    pub(super) requests: VecDeque<Request>,
    pub(super) detached: VecDeque<Entry>,
    pub(super) next: Option<Next>,
    pub(super) rotation: Option<Rotation>,
    /// The file that the writer has gone on in, if it has in another one than the first.
    pub(super) changed_to: Option<PathBuf>,
    /// What the next `recovered` record has to say.
    pub(super) dropped_bytes: u64,
    pub(super) lost_records: u64,
    pub(super) broken: bool,
    /// How often a sign of life was asked for, and up to which one the writer has answered.
    pub(super) asked: u64,
    pub(super) answered: u64,
    /// Since when the writer is about what it has taken; it may be waiting for the disk.
    pub(super) writing_since: Option<Instant>,
    /// No more records are taken.
    pub(super) stopping: bool,
    /// Why the end was not in order.
    pub(super) failed: Option<String>,
}

impl Queue {
    pub(super) fn new(detached_max: usize, dropped_bytes: u64) -> Self {
        let state = State {
            requests: VecDeque::new(),
            detached: VecDeque::new(),
            next: None,
            rotation: None,
            changed_to: None,
            dropped_bytes,
            lost_records: 0,
            broken: false,
            asked: 0,
            answered: 0,
            writing_since: None,
            stopping: false,
            failed: None,
        };
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            detached_max,
        }
    }

    pub(super) fn push(&self, request: Request) -> Result<(), AuditError> {
        self.put(|state| {
            if state.requests.len() >= AUDIT_QUEUE_RECORDS_MAX {
                return Err(AuditError::QueueFull);
            }
            state.requests.push_back(request);
            Ok(())
        })
    }

    pub(super) fn push_detached(&self, entry: Entry) -> Result<(), AuditError> {
        self.put(|state| {
            if state.detached.len() >= self.detached_max {
                state.lost_records += 1;
                return Err(AuditError::QueueFull);
            }
            state.detached.push_back(entry);
            Ok(())
        })
    }

    pub(super) fn go_on_in(&self, next: Next) -> Result<(), AuditError> {
        self.put(|state| {
            state.next = Some(next);
            Ok(())
        })
    }

    /// Whoever asked for another rotation that has not begun is told that it is not done.
    pub(super) fn rotate(&self, rotation: Rotation) -> Result<(), AuditError> {
        self.put(|state| {
            state.rotation = Some(rotation);
            Ok(())
        })
    }

    /// Gives the writer something to do, unless it has been told to stop.
    fn put(
        &self,
        what: impl FnOnce(&mut State) -> Result<(), AuditError>,
    ) -> Result<(), AuditError> {
        let mut state = self.lock();
        if state.stopping {
            return Err(AuditError::Closed);
        }
        what(&mut state)?;
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    /// See `State::changed_to`.
    pub(super) fn changed_to(&self) -> Option<PathBuf> {
        self.lock().changed_to.clone()
    }

    pub(super) fn ask_alive(&self) -> u64 {
        let mut state = self.lock();
        state.asked += 1;
        let asked = state.asked;
        drop(state);
        self.work.notify_one();
        asked
    }

    pub(super) fn is_alive(&self, asked: u64) -> bool {
        let state = self.lock();
        state.answered >= asked || state.writing_since.is_some()
    }

    pub(super) fn is_broken(&self) -> bool {
        self.lock().broken
    }

    pub(super) fn has_hung_for(&self, limit: Duration) -> bool {
        let since = self.lock().writing_since;
        since.is_some_and(|since| since.elapsed() >= limit)
    }

    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.work.notify_one();
    }

    pub(super) fn outcome(&self) -> Result<(), String> {
        self.lock().failed.clone().map_or(Ok(()), Err)
    }

    /// A panic elsewhere leaves the queue whole: nothing is done under the lock but moving.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the writer took from the queue.
pub(super) struct Work {
    pub(super) requests: VecDeque<Request>,
    pub(super) detached: VecDeque<Entry>,
    pub(super) recovered: Option<Entry>,
    pub(super) next: Option<Next>,
    pub(super) rotation: Option<Rotation>,
    pub(super) stopping: bool,
}

impl State {
    /// Takes everything that is to be done.
    pub(super) fn take(&mut self) -> Work {
        let lost = self.dropped_bytes > 0 || self.lost_records > 0;
        let recovered = lost.then(|| Entry {
            at_ms: now_ms(),
            session: OF_THE_PROCESS.to_owned(),
            record: Record::Recovered {
                dropped_bytes: std::mem::take(&mut self.dropped_bytes),
                lost_records: std::mem::take(&mut self.lost_records),
            },
        });
        Work {
            requests: std::mem::take(&mut self.requests),
            detached: std::mem::take(&mut self.detached),
            recovered,
            next: self.next.take(),
            rotation: self.rotation.take(),
            stopping: self.stopping,
        }
    }
}

/// Ends the queue together with the thread that empties it.
pub(super) struct EndGuard(pub(super) Arc<Queue>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.stopping = true;
        state.broken = true;
        state.writing_since = None;
        // Dropping the requests tells those who wait for them.
        state.requests.clear();
        state.next = None;
        state.rotation = None;
    }
}
