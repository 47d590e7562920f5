//! Sealing records, each with the hash of the one before.

use ring::hmac;

use super::line::Line;
use super::verify::{Why, take_apart};
use super::{Record, rfc3339};
use crate::secret::Secret;

/// What stands before the hash at the end of a line.
pub(super) const HASH_FIELD: &str = ",\"hash\":\"";
/// What stands before the previous hash.
pub(super) const PREV_FIELD: &str = ",\"prev\":\"";
/// A hash in hexadecimal.
pub(super) const HASH_TEXT_BYTES: usize = 64;

/// Where a chain is: the next sequence number and the hash before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The sequence number of the next record; the first one of a file is 1.
    pub seq: u64,
    /// The hash of the last record, or what stands for it before the first.
    pub prev: String,
}

/// Seals records into lines.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "it holds the audit key")]
pub struct Chain {
    key: hmac::Key,
    position: Position,
}

/// Why a chain cannot go on from a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the last line of the audit log {0}")]
pub struct ResumeError(pub Why);

impl Chain {
    /// A chain that begins with record 1.
    pub fn new(key: &Secret<[u8; 32]>) -> Self {
        let key = audit_key(key);
        let position = genesis(&key);
        Self { key, position }
    }

    /// A chain that goes on after a line, which ends with its newline.
    ///
    /// # Errors
    ///
    /// The line was not sealed under this key, or was changed since.
    pub fn resume(key: &Secret<[u8; 32]>, last_line: &[u8]) -> Result<Self, ResumeError> {
        let key = audit_key(key);
        let parts = take_apart(&key, last_line).map_err(ResumeError)?;
        let seq = parts
            .seq
            .checked_add(1)
            .ok_or(ResumeError(Why::NotARecord))?;
        let position = Position {
            seq,
            prev: parts.hash.to_owned(),
        };
        Ok(Self { key, position })
    }

    /// Seals one record that happened at `at_ms` (Unix time in milliseconds) into a line, its
    /// newline included.
    ///
    /// A line that does not reach the file must be taken back by [`Chain::rewind`], or the next
    /// one does not follow from what is there.
    pub fn seal(&mut self, at_ms: u64, session: &str, record: &Record) -> String {
        let mut line = Line::begin(self.position.seq);
        line.text("at", &rfc3339(at_ms));
        line.text("session", session);
        line.record(record);
        line.text("prev", &self.position.prev);
        let mut sealed = line.into_text();
        let hash = hash(&self.key, sealed.as_bytes());
        sealed.push_str(HASH_FIELD);
        sealed.push_str(&hash);
        sealed.push_str("\"}\n");
        // A process that writes a record a nanosecond needs 584 years to the end of the numbers.
        self.position = Position {
            seq: self.position.seq.saturating_add(1),
            prev: hash,
        };
        sealed
    }

    /// Where the chain is.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Takes back what was sealed since `position`.
    pub fn rewind(&mut self, position: Position) {
        self.position = position;
    }
}

pub(super) fn audit_key(key: &Secret<[u8; 32]>) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key.expose())
}

/// Before the first record. The hash depends on the key, so that a wrong key can be told from an
/// edited first line.
pub(super) fn genesis(key: &hmac::Key) -> Position {
    Position {
        seq: 1,
        prev: hash(key, b"postern audit log, version 1"),
    }
}

pub(super) fn hash(key: &hmac::Key, bytes: &[u8]) -> String {
    let digits = b"0123456789abcdef";
    let digit = |value: u8| char::from(digits.get(usize::from(value)).copied().unwrap_or(b'?'));
    let tag = hmac::sign(key, bytes);
    tag.as_ref()
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}
