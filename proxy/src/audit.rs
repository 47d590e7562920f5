//! The audit file: records go to one thread, which seals and writes them in order.
//!
//! A record is written before its effect: [`AuditLog::write`] returns when the line has been taken
//! by `write(2)`, and the caller goes on only then.
//! The lines of everybody who waits at one moment go out in one `write(2)`.
//!
//! What lasts: a line that was acknowledged survives the death of the process at once, and the
//! loss of power after the next `fdatasync(2)`, which follows within
//! [`AUDIT_SYNC_INTERVAL_MS`](postern_core::limits::AUDIT_SYNC_INTERVAL_MS) and at
//! [`AuditLog::close`].
//! Waiting for the disk in every login would bound logins by its latency, and what a loss of power
//! takes from the log are sessions that it ended.
//!
//! A file may be closed at any time, and the next one goes on with its chain ([`rotate`]).
//!
//! When the file cannot be written, every write says so, and the caller refuses the login. Records
//! of sessions that already ended wait in memory and are written when it works again, and a
//! `recovered` record counts what could not be.

mod file;
mod queue;
mod room;
mod rotate;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use postern_core::audit::{Broken, Position, Record, ResumeError};
use postern_core::limits::AUDIT_QUEUE_RECORDS_MAX;
use postern_core::secret::Secret;
use tokio::sync::oneshot;

use crate::clock::now_ms;
pub(crate) use file::{Verified, verify_files};
pub(crate) use queue::Rotated;
use queue::{Entry, Next, Queue, Request, Rotation};
pub(crate) use room::Room;
use writer::Writer;

/// What stands for the session in records of the process itself.
pub(crate) const OF_THE_PROCESS: &str = "-";

/// The audit log of this process. Shared by all its threads.
pub(crate) struct AuditLog {
    queue: Arc<Queue>,
    writer: Mutex<Option<JoinHandle<()>>>,
    path: PathBuf,
    key: Secret<[u8; 32]>,
    resumed: Position,
}

/// Why a record is not in the audit file, or the file cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum AuditError {
    /// The file cannot be opened.
    #[error("cannot open the audit file {path}: {why}")]
    Open { path: PathBuf, why: String },
    /// Another process writes it.
    #[error("another process is writing the audit file {path}")]
    Locked { path: PathBuf },
    /// The last line is not one that this key sealed, so that no chain can go on from it.
    #[error("cannot go on with the audit file {path}: {why}; verify it, then move it away")]
    Resume { path: PathBuf, why: ResumeError },
    /// What the file holds was not written by this program.
    #[error("{path} is not an audit file; nothing was changed in it")]
    NotAnAuditFile { path: PathBuf },
    /// The file cannot be read.
    #[error("cannot read the audit file {path}: {why}")]
    Read { path: PathBuf, why: String },
    /// A line of the file is not as it was written.
    #[error("the audit file {path} is broken: {why}")]
    Broken { path: PathBuf, why: Broken },
    /// The record was not written.
    #[error("cannot write the audit file {path}: {why}")]
    Write { path: PathBuf, why: String },
    /// The file was not closed, and goes on.
    #[error("the audit file {path} was not rotated: {why}")]
    Rotate { path: PathBuf, why: String },
    /// Too many records wait for the file.
    #[error("more than {AUDIT_QUEUE_RECORDS_MAX} records wait for the audit file")]
    QueueFull,
    /// The log was closed.
    #[error("the audit log is closed")]
    Closed,
}

impl AuditLog {
    /// Opens or creates the file (mode 0600), takes its lock, checks its last line, and starts the
    /// writer.
    ///
    /// `detached_max` is how many records of [`AuditLog::write_detached`] may wait while the file
    /// cannot be written: one a live session, and some for those that never opened.
    ///
    /// An unfinished last line, which only a crash leaves behind, is cut off and counted in a
    /// `recovered` record. Nobody was told that it had been written.
    ///
    /// # Errors
    ///
    /// The file cannot be opened, locked, or gone on with.
    pub(crate) fn open(
        path: &Path,
        key: &Secret<[u8; 32]>,
        detached_max: usize,
    ) -> Result<Self, AuditError> {
        let opened = file::open(path, key)?;
        let resumed = opened.chain.position().clone();
        let queue = Arc::new(Queue::new(detached_max, opened.dropped_bytes));
        let writer = Writer::new(
            opened.file,
            path.to_owned(),
            opened.chain,
            Arc::clone(&queue),
        );
        let writer = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| AuditError::Open {
                path: path.to_owned(),
                why: error.to_string(),
            })?;
        let (writer, path) = (Mutex::new(Some(writer)), path.to_owned());
        Ok(Self {
            queue,
            writer,
            path,
            key: key.clone(),
            resumed,
        })
    }

    /// Writes a record; when this returns, its line is in the file.
    ///
    /// May be called on any thread and any runtime. If the future is dropped, the record may be
    /// written nonetheless.
    ///
    /// # Errors
    ///
    /// The line is not in the file, and what it announces must not happen.
    pub(crate) async fn write(&self, session: &str, record: &Record) -> Result<(), AuditError> {
        // A writer that ended without an answer has not written.
        self.request(session, record)?
            .await
            .unwrap_or(Err(AuditError::Closed))
    }

    /// As [`AuditLog::write`], for threads without a runtime. It panics within one.
    ///
    /// # Errors
    ///
    /// As [`AuditLog::write`].
    pub(crate) fn write_blocking(&self, session: &str, record: &Record) -> Result<(), AuditError> {
        let answer = self.request(session, record)?;
        answer.blocking_recv().unwrap_or(Err(AuditError::Closed))
    }

    /// Hands over a record of something that has already happened, such as the end of a session.
    /// It does not wait for the file, so that a splice worker may call it.
    ///
    /// The record keeps the time of this call. While the file cannot be written it waits, in
    /// order, before all others.
    ///
    /// # Errors
    ///
    /// The log is closed, or `detached_max` records wait already; the record is then lost, and
    /// counted in the next `recovered` record.
    pub(crate) fn write_detached(&self, session: &str, record: Record) -> Result<(), AuditError> {
        self.queue.push_detached(Entry {
            at_ms: now_ms(),
            session: session.to_owned(),
            record,
        })
    }

    /// Goes on in another file: what was queued before is written to the file of before, which is
    /// made to last and unlocked. Returns when that is done, at once if it has been; if the future
    /// is dropped before, nothing changes.
    ///
    /// # Errors
    ///
    /// The other file cannot be gone on with, or this one not be ended; then nothing has changed.
    pub(crate) async fn go_on_in(&self, path: &Path) -> Result<(), AuditError> {
        let current = self.queue.changed_to();
        if current.as_deref().unwrap_or(&self.path) == path {
            return Ok(());
        }
        let (next, key) = (path.to_owned(), self.key.clone());
        // A disk that hangs must not hold up the thread that asks.
        let opened = tokio::task::spawn_blocking(move || file::open(&next, &key)).await;
        let opened = opened.map_err(|_| AuditError::Closed)??;
        let (done, is_done) = oneshot::channel();
        self.queue.go_on_in(Next {
            path: path.to_owned(),
            opened,
            done,
        })?;
        is_done.await.unwrap_or(Err(AuditError::Closed))
    }

    /// Closes the file, which gets another name beside, and goes on in a new one. Records that wait
    /// for their line meanwhile go into either, and none is lost with the process.
    ///
    /// If the future is dropped, it may be done nonetheless.
    ///
    /// # Errors
    ///
    /// It was not done, and this file goes on; so it is when another process writes the file of
    /// the configuration.
    pub(crate) async fn rotate(&self) -> Result<Rotated, AuditError> {
        let (done, is_done) = oneshot::channel();
        let path = self.path.clone();
        self.queue.rotate(Rotation { path, done })?;
        is_done.await.unwrap_or(Err(AuditError::Closed))
    }

    /// The file of the configuration.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Asks the writer for a sign of life, and returns what [`AuditLog::is_alive`] takes.
    pub(crate) fn ask_alive(&self) -> u64 {
        self.queue.ask_alive()
    }

    /// Whether the writer has answered since, or waits for the disk. A disk that hangs refuses
    /// logins and is told as that; ending the process for it would end the sessions as well.
    pub(crate) fn is_alive(&self, asked: u64) -> bool {
        self.queue.is_alive(asked)
    }

    /// True from a failed write until one succeeds.
    pub(crate) fn is_broken(&self) -> bool {
        self.queue.is_broken()
    }

    /// Whether the disk has kept the writer waiting for so long.
    pub(crate) fn has_hung_for(&self, limit: Duration) -> bool {
        self.queue.has_hung_for(limit)
    }

    /// Where the chain was when the file was opened: worth noting outside of it, because the file
    /// cannot show that its last lines are gone.
    pub(crate) fn resumed(&self) -> &Position {
        &self.resumed
    }

    /// Writes what waits, calls `fdatasync(2)` and ends the writer. Later writes are refused.
    ///
    /// # Errors
    ///
    /// What waited could not be written or made to last.
    pub(crate) fn close(&self) -> Result<(), AuditError> {
        self.queue.stop();
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(writer) = writer
            && writer.join().is_err()
        {
            let why = "the writer ended by a panic".to_owned();
            return Err(AuditError::Write {
                path: self.path.clone(),
                why,
            });
        }
        self.queue.outcome().map_err(|why| AuditError::Write {
            path: self.path.clone(),
            why,
        })
    }

    fn request(
        &self,
        session: &str,
        record: &Record,
    ) -> Result<oneshot::Receiver<Result<(), AuditError>>, AuditError> {
        let (answer, receiver) = oneshot::channel();
        let (session, record) = (session.to_owned(), record.clone());
        self.queue.push(Request {
            entry: Entry {
                at_ms: now_ms(),
                session,
                record,
            },
            answer,
        })?;
        Ok(receiver)
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "the audit log was not closed in order");
        }
    }
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLog")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
