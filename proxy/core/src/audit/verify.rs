//! Finding the first line of a log that is not as it was written.

use ring::hmac;

use super::FILE_BEGUN;
use super::chain::{HASH_FIELD, HASH_TEXT_BYTES, PREV_FIELD, Position, audit_key, genesis, hash};
use crate::secret::Secret;

/// Checks the lines of one log, from its first to its last, in one file or in several.
#[expect(missing_debug_implementations, reason = "it holds the audit key")]
pub struct Verifier {
    key: hmac::Key,
    expected: Position,
    /// The lines of this file, and the number of its first record.
    lines: u64,
    first: Option<u64>,
    /// The file before the first one, where the log does not begin with record 1.
    after: Option<String>,
    has_begun: bool,
}

/// The first line that is not as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line} {why}")]
pub struct Broken {
    /// The line, counted from 1.
    pub line: u64,
    /// What is wrong with it.
    pub why: Why,
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// It has no newline: it was not finished, or its end was cut off.
    #[error("is not finished: it does not end with a newline")]
    Unfinished,
    /// It is not JSON.
    #[error("is not JSON")]
    NotJson,
    /// It is JSON, and not one of the records.
    #[error("is not an audit record")]
    NotARecord,
    /// Its hash is not that of its bytes.
    #[error("was changed: its hash does not match")]
    Edited,
    /// The first line of a log was sealed under another key.
    #[error("was sealed under another key")]
    WrongKey,
    /// The first line of a log that goes on from another file, where one cannot be told from the
    /// other.
    #[error("was changed, or was sealed under another key")]
    EditedOrWrongKey,
    /// The lines before it are gone.
    #[error("is record {found}: lines are missing, record {expected} should be here")]
    Missing {
        /// The sequence number that should be here.
        expected: u64,
        /// The one that is.
        found: u64,
    },
    /// It stands after later lines, or twice.
    #[error("is record {found}: it was moved or repeated, record {expected} should be here")]
    Reordered {
        /// The sequence number that should be here.
        expected: u64,
        /// The one that is.
        found: u64,
    },
    /// Its number follows, but it was sealed after another line than the one before it.
    #[error("does not follow from the line before it")]
    Unchained,
}

/// A file of a log, without a broken line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// How many records there are.
    pub records: u64,
    /// The first and the last sequence number; none for an empty file.
    pub seq: Option<(u64, u64)>,
    /// The hash of the last record. Noted elsewhere, it shows that nothing was cut off the end.
    pub last_hash: Option<String>,
    /// The file that this one goes on from and that was not checked before it; none where nothing
    /// is before it, or where that was checked.
    pub unchecked_before: Option<String>,
}

impl Verifier {
    /// A verifier for a log from the first line of its first file on.
    ///
    /// A log may begin later than with record 1 only with the first record of a file that goes on
    /// from another; the summary names that.
    pub fn new(key: &Secret<[u8; 32]>) -> Self {
        let key = audit_key(key);
        let expected = genesis(&key);
        Self {
            key,
            expected,
            lines: 0,
            first: None,
            after: None,
            has_begun: false,
        }
    }

    /// Checks the next line, which is given with its newline.
    /// After an error the verifier is of no more use.
    ///
    /// # Errors
    ///
    /// The line is not as it was written.
    pub fn line(&mut self, line: &[u8]) -> Result<(), Broken> {
        self.lines += 1;
        let number = self.lines;
        self.follow(line)
            .map_err(|why| Broken { line: number, why })
    }

    /// Ends a file, and sums it up. The next line is the first of the file that goes on from it.
    pub fn end_file(&mut self) -> Summary {
        let first = self.first.take();
        Summary {
            records: std::mem::take(&mut self.lines),
            seq: first.map(|first| (first, self.expected.seq.saturating_sub(1))),
            last_hash: first.map(|_| self.expected.prev.clone()),
            unchecked_before: self.after.take(),
        }
    }

    fn follow(&mut self, line: &[u8]) -> Result<(), Why> {
        let parts = match take_apart(&self.key, line) {
            Ok(parts) => parts,
            Err(Why::Edited) if !self.has_begun => return Err(self.first_line_edited(line)),
            Err(why) => return Err(why),
        };
        if !self.has_begun
            && let Some(after) = parts.begins_after()
        {
            self.after = Some(after.to_owned());
            self.expected = Position {
                seq: parts.seq,
                prev: parts.prev.to_owned(),
            };
        }
        let (expected, found) = (self.expected.seq, parts.seq);
        if found > expected {
            return Err(Why::Missing { expected, found });
        }
        if found < expected {
            return Err(Why::Reordered { expected, found });
        }
        if parts.prev != self.expected.prev {
            return Err(Why::Unchained);
        }
        let seq = expected.saturating_add(1);
        self.expected = Position {
            seq,
            prev: parts.hash.to_owned(),
        };
        self.first.get_or_insert(found);
        self.has_begun = true;
        Ok(())
    }

    /// The first line names the key in `prev`; if that is another's, nothing was edited. Where the
    /// log goes on from another file, `prev` tells nothing.
    fn first_line_edited(&self, line: &[u8]) -> Why {
        match form(line) {
            Ok(parts) if parts.begins_after().is_some() => Why::EditedOrWrongKey,
            Ok(parts) if parts.prev == self.expected.prev => Why::Edited,
            Ok(_) | Err(_) => Why::WrongKey,
        }
    }
}

/// The parts of a line that bind it to its neighbours.
pub(super) struct Parts<'a> {
    pub(super) seq: u64,
    pub(super) prev: &'a str,
    pub(super) hash: &'a str,
    /// The bytes that the hash is of.
    body: &'a str,
}

impl<'a> Parts<'a> {
    /// The file that the line's file goes on from, if it is the first line of such a one.
    fn begins_after(&self) -> Option<&'a str> {
        // A quote inside a text is escaped, so that no text looks like a field.
        let (_, record) = self.body.split_once(",\"event\":\"")?;
        let fields = record.strip_prefix(FILE_BEGUN)?;
        let after = fields.strip_prefix("\",\"after\":\"")?;
        after.split_once("\",\"prev\":").map(|(after, _)| after)
    }
}

/// Takes a line apart whose hash is right.
pub(super) fn take_apart<'a>(key: &hmac::Key, line: &'a [u8]) -> Result<Parts<'a>, Why> {
    let parts = form(line)?;
    if hash(key, parts.body.as_bytes()) != parts.hash {
        return Err(Why::Edited);
    }
    Ok(parts)
}

/// Takes a line apart by its form alone. It is strict: a sealed line has exactly one spelling.
fn form(line: &[u8]) -> Result<Parts<'_>, Why> {
    let json = line.strip_suffix(b"\n").ok_or(Why::Unfinished)?;
    let not_a_record = || {
        let json: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(json);
        if json.is_ok() {
            Why::NotARecord
        } else {
            Why::NotJson
        }
    };
    parts(json).ok_or_else(not_a_record)
}

fn parts(json: &[u8]) -> Option<Parts<'_>> {
    let text = std::str::from_utf8(json).ok()?;
    let (body, hash) = hash_at_end(text.strip_suffix("\"}")?, HASH_FIELD)?;
    let (_, prev) = hash_at_end(body.strip_suffix('"')?, PREV_FIELD)?;
    let (digits, _) = body.strip_prefix("{\"seq\":")?.split_once(',')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || digits.starts_with('0') {
        return None;
    }
    Some(Parts {
        seq: digits.parse().ok()?,
        prev,
        hash,
        body,
    })
}

/// Splits a text that ends with a field of a hash, whose closing quote is already gone.
fn hash_at_end<'a>(text: &'a str, field: &str) -> Option<(&'a str, &'a str)> {
    let (before, hash) = text.split_at_checked(text.len().checked_sub(HASH_TEXT_BYTES)?)?;
    let is_hash = hash
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    Some((before.strip_suffix(field)?, hash)).filter(|_| is_hash)
}
