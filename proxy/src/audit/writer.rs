//! The thread that owns the audit file.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::Flock;
use postern_core::audit::{Chain, Record};
use postern_core::limits::{AUDIT_BATCH_BYTES_MAX, AUDIT_SYNC_INTERVAL_MS};

use super::queue::{EndGuard, Entry, Next, Queue, Rotated, Rotation, Work};
use super::rotate::{Names, sync_names};
use super::{AuditError, OF_THE_PROCESS};
use crate::clock::now_ms;

const SYNC_INTERVAL: Duration = Duration::from_millis(AUDIT_SYNC_INTERVAL_MS);

/// The thread's own state.
pub(super) struct Writer {
    file: Flock<File>,
    path: PathBuf,
    chain: Chain,
    queue: Arc<Queue>,
    /// When the oldest bytes were written that may not be on the disk yet.
    unsynced_since: Option<Instant>,
    /// The length that the file had before a write that failed half way.
    repair_to_bytes: Option<u64>,
}

impl Writer {
    pub(super) fn new(file: Flock<File>, path: PathBuf, chain: Chain, queue: Arc<Queue>) -> Self {
        Self {
            file,
            path,
            chain,
            queue,
            unsynced_since: None,
            repair_to_bytes: None,
        }
    }

    pub(super) fn run(mut self) {
        // Whatever ends this thread, nobody may wait for it any more.
        let _end = EndGuard(Arc::clone(&self.queue));
        loop {
            let mut work = self.wait();
            let (stopping, next) = (work.stopping, work.next.take());
            let rotation = work.rotation.take();
            let written = self.write_all(work);
            let outcome = written.and(self.sync_if_due(stopping || next.is_some()));
            if let Some(next) = next {
                self.change_to(next, &outcome);
            }
            if let Some(rotation) = rotation {
                self.rotate_for(rotation, &outcome);
            }
            if stopping {
                let mut state = self.queue.lock();
                let left = state.detached.len();
                state.failed = outcome.err().map(|error| match left {
                    0 => error.to_string(),
                    left => format!("{error}; {left} records are lost"),
                });
                return;
            }
        }
    }

    /// Only a file to which all has been written is left behind, and only if that is still asked
    /// for.
    fn change_to(&mut self, next: Next, outcome: &io::Result<()>) {
        let Next { path, opened, done } = next;
        let answer = match outcome {
            Ok(()) => {
                let queue = Arc::clone(&self.queue);
                // Who gives up asks under the same lock which file it is.
                let mut state = queue.lock();
                if done.is_closed() {
                    return;
                }
                self.file = opened.file;
                self.chain = opened.chain;
                self.path.clone_from(&path);
                state.changed_to = Some(path);
                state.dropped_bytes += opened.dropped_bytes;
                Ok(())
            }
            Err(error) => Err(AuditError::Write {
                path: self.path.clone(),
                why: error.to_string(),
            }),
        };
        // Whoever asked may have given up just now, and sees that it was done.
        let _ = done.send(answer);
    }

    /// Closes the file, if everything is in it that was to be, and if that is still asked for.
    fn rotate_for(&mut self, rotation: Rotation, outcome: &io::Result<()>) {
        let Rotation { path, done } = rotation;
        if done.is_closed() {
            return;
        }
        let why = match outcome {
            _ if self.path != path => Some("another process writes it now".to_owned()),
            Err(error) => Some(error.to_string()),
            Ok(()) => None,
        };
        let rotated = match why {
            Some(why) => Err(why),
            None => self.rotate().map_err(|error| error.to_string()),
        };
        // Whoever asked may have given up just now, and finds it on record.
        let _ = done.send(rotated.map_err(|why| AuditError::Rotate { path, why }));
    }

    /// See [`rotate`](super::rotate) for the steps.
    fn rotate(&mut self) -> io::Result<Rotated> {
        // Where the file is, if its path is a link.
        let path = fs::canonicalize(&self.path)?;
        let names = Names::of(&path, self.chain.position().seq);
        names.are_free(&self.file)?;
        self.write_lines(std::iter::once(&of_the_process(Record::FileEnded {
            file: names.closed_name(),
        })))?;
        self.file.sync_data()?;
        self.unsynced_since = None;
        let last = self.chain.position().clone();
        let mut chain = self.chain.clone();
        let first = of_the_process(Record::FileBegun {
            after: names.closed_name(),
        });
        let line = chain.seal(first.at_ms, &first.session, &first.record);
        let next = names.make_next(&self.file, &line)?;
        names.change(&path)?;
        // From here on it is done.
        self.file = next;
        self.chain = chain;
        if let Err(error) = sync_names(&path) {
            let path = path.display();
            tracing::error!(%error, %path, "the names of audit files may be lost with the power");
        }
        let (file, seq, hash) = (names.closed, last.seq.saturating_sub(1), last.prev);
        tracing::info!(file = %file.display(), seq, hash, "an audit file was closed");
        Ok(Rotated {
            file,
            last: (seq, hash),
        })
    }

    /// Writes what is queued now, without waiting.
    #[cfg(test)]
    pub(super) fn step(&mut self) -> io::Result<()> {
        let work = self.queue.lock().take();
        self.write_all(work)
    }

    /// Puts another file in place of this one, as a disk with room is in place of a full one.
    #[cfg(test)]
    pub(super) fn replace_file(&mut self, file: Flock<File>) {
        self.file = file;
    }

    /// Waits for records, for the time to sync or to try again, or for the end.
    fn wait(&self) -> Work {
        let mut state = self.queue.lock();
        let begun = Instant::now();
        state.writing_since = None;
        loop {
            state.answered = state.asked;
            let idle = state.next.is_none()
                && state.rotation.is_none()
                && state.requests.is_empty()
                && (state.broken || (state.detached.is_empty() && state.dropped_bytes == 0));
            let due = match self.unsynced_since {
                Some(since) => Some(since + SYNC_INTERVAL),
                None => state.broken.then_some(begun + SYNC_INTERVAL),
            };
            let left = due.map(|due| due.saturating_duration_since(Instant::now()));
            if state.stopping || !idle || left == Some(Duration::ZERO) {
                state.writing_since = Some(Instant::now());
                return state.take();
            }
            state = match left {
                Some(left) => {
                    let waited = self.queue.work.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self
                    .queue
                    .work
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Writes what is lost, then what waited without anybody, then what somebody waits for.
    /// After a failure nothing else is tried, so that no record overtakes another.
    fn write_all(&mut self, mut work: Work) -> io::Result<()> {
        let mut outcome = Ok(());
        if let Some(entry) = &work.recovered {
            outcome = self.write_lines(std::iter::once(entry)).map(drop);
            if outcome.is_ok() {
                work.recovered = None;
            }
        }
        while outcome.is_ok() && !work.detached.is_empty() {
            outcome = self.write_lines(work.detached.iter()).map(|written| {
                work.detached.drain(..written);
            });
        }
        while outcome.is_ok() && !work.requests.is_empty() {
            outcome = self
                .write_lines(work.requests.iter().map(|it| &it.entry))
                .map(|written| {
                    for request in work.requests.drain(..written) {
                        // A login that gave up waiting has no use for the answer.
                        let _ = request.answer.send(Ok(()));
                    }
                });
        }
        self.put_back(work, &outcome);
        outcome
    }

    /// Keeps what could not be written, and tells those who wait.
    fn put_back(&mut self, work: Work, outcome: &io::Result<()>) {
        let mut state = self.queue.lock();
        if let Some(Entry {
            record:
                Record::Recovered {
                    dropped_bytes,
                    lost_records,
                },
            ..
        }) = work.recovered
        {
            state.dropped_bytes += dropped_bytes;
            state.lost_records += lost_records;
        }
        for entry in work.detached.into_iter().rev() {
            state.detached.push_front(entry);
        }
        state.lost_records += work.requests.len() as u64;
        let was_broken = state.broken;
        if let Err(error) = outcome {
            state.broken = true;
            drop(state);
            if !was_broken {
                let path = self.path.display();
                tracing::error!(%error, %path, "cannot write the audit file; logins are refused");
            }
            for request in work.requests {
                let (path, why) = (self.path.clone(), error.to_string());
                // As above.
                let _ = request.answer.send(Err(AuditError::Write { path, why }));
            }
        }
    }

    /// Seals and writes as many records as fit one `write(2)`; all of them or none.
    fn write_lines<'a>(&mut self, entries: impl Iterator<Item = &'a Entry>) -> io::Result<usize> {
        self.repair()?;
        let before = self.chain.position().clone();
        let mut lines = String::new();
        let mut count = 0;
        for entry in entries {
            lines.push_str(&self.chain.seal(entry.at_ms, &entry.session, &entry.record));
            count += 1;
            if lines.len() >= AUDIT_BATCH_BYTES_MAX {
                break;
            }
        }
        if let Err(error) = self.append(lines.as_bytes()) {
            self.chain.rewind(before);
            return Err(error);
        }
        self.unsynced_since.get_or_insert_with(Instant::now);
        let mut state = self.queue.lock();
        if std::mem::replace(&mut state.broken, false) {
            tracing::info!(path = %self.path.display(), "the audit file can be written again");
        }
        Ok(count)
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let len = self.file.metadata()?.len();
        let mut written = 0;
        while let Some(rest) = lines.get(written..).filter(|rest| !rest.is_empty()) {
            match self.file.write(rest) {
                Ok(0) => return Err(self.half_written(len, written, Errno::EIO.into())),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.half_written(len, written, error)),
            }
        }
        Ok(())
    }

    /// A part of a line in the file would break the chain: it is cut off before anything else is
    /// written, now or when that works.
    pub(super) fn half_written(&mut self, len: u64, written: usize, error: io::Error) -> io::Error {
        if written > 0 {
            self.repair_to_bytes = Some(len);
            // If it fails, the next write begins with it.
            let _ = self.repair();
        }
        error
    }

    fn repair(&mut self) -> io::Result<()> {
        if let Some(len) = self.repair_to_bytes {
            self.file.set_len(len)?;
            self.repair_to_bytes = None;
        }
        Ok(())
    }

    fn sync_if_due(&mut self, stopping: bool) -> io::Result<()> {
        let due = self
            .unsynced_since
            .is_some_and(|since| stopping || since.elapsed() >= SYNC_INTERVAL);
        if !due {
            return Ok(());
        }
        self.unsynced_since = None;
        match self.file.sync_data() {
            Ok(()) => Ok(()),
            // A device or a pipe has nothing to sync.
            Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => Ok(()),
            Err(error) => {
                // What the kernel still has of these lines is not known; new logins wait for a
                // write that works.
                tracing::error!(%error, path = %self.path.display(), "cannot sync the audit file");
                self.queue.lock().broken = true;
                Err(error)
            }
        }
    }
}

/// A record of the process itself, now.
fn of_the_process(record: Record) -> Entry {
    Entry {
        at_ms: now_ms(),
        session: OF_THE_PROCESS.to_owned(),
        record,
    }
}
