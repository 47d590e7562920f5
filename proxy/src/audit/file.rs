//! Opening an audit file so that its chain goes on, and checking a whole one.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use postern_core::audit::{Chain, Summary, Verifier};
use postern_core::limits::AUDIT_LINE_BYTES_MAX;
use postern_core::secret::Secret;

use super::AuditError;
use super::rotate::{clear, is_at};

/// What every line begins with.
const LINE_BEGIN: &[u8] = b"{\"seq\":";

/// A file that is ready to be appended to.
pub(super) struct Opened {
    pub(super) file: Flock<File>,
    pub(super) chain: Chain,
    /// The bytes of an unfinished last line that were cut off.
    pub(super) dropped_bytes: u64,
}

/// A file of a log, without a broken line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verified {
    /// The records, the numbers of the first and last one, the last hash, what was before.
    pub(crate) summary: Summary,
    /// Bytes at the end that a running process has not finished yet. Zero for a file that nobody
    /// is writing: there an unfinished line is an error.
    pub(crate) unfinished_bytes: u64,
}

/// Opens, locks and resumes the file.
pub(super) fn open(path: &Path, key: &Secret<[u8; 32]>) -> Result<Opened, AuditError> {
    let failed = |error: io::Error| AuditError::Open {
        path: path.to_owned(),
        why: error.to_string(),
    };
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    let file = options.open(path).map_err(failed)?;
    // The lock keeps two processes from sealing two lines with one number.
    let locked = Flock::lock(file, FlockArg::LockExclusiveNonblock);
    let file = locked.map_err(|(_, errno)| {
        if errno == Errno::EWOULDBLOCK {
            return AuditError::Locked {
                path: path.to_owned(),
            };
        }
        failed(errno.into())
    })?;
    // It may have been closed between the two, and another one begun.
    if !is_at(&file, path) {
        return Err(AuditError::Locked {
            path: path.to_owned(),
        });
    }
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        // A device has no last line to go on from.
        return Ok(Opened {
            file,
            chain: Chain::new(key),
            dropped_bytes: 0,
        });
    }
    let end = Tail::read(&file, metadata.len()).map_err(failed)?;
    let chain = match &end.last_line {
        Some(line) => Chain::resume(key, line).map_err(|why| AuditError::Resume {
            path: path.to_owned(),
            why,
        })?,
        // A file that never had a whole line is one of ours only if it begins like one; nothing
        // is cut off another program's file.
        None if !begins_like_a_line(&end.unfinished) => {
            return Err(AuditError::NotAnAuditFile {
                path: path.to_owned(),
            });
        }
        None => Chain::new(key),
    };
    let dropped_bytes = end.unfinished.len() as u64;
    if dropped_bytes > 0 {
        file.set_len(metadata.len().saturating_sub(dropped_bytes))
            .map_err(failed)?;
        file.sync_data().map_err(failed)?;
    }
    clear(&file, path, chain.position().seq.saturating_sub(1));
    Ok(Opened {
        file,
        chain,
        dropped_bytes,
    })
}

/// Checks every line of a log that is in these files, in their order.
///
/// A file that a running process is writing may end in the middle of a line.
///
/// # Errors
///
/// A file cannot be read, or the first line that is not as it was written; with what was found of
/// the files before.
pub(crate) fn verify_files(
    paths: &[PathBuf],
    key: &Secret<[u8; 32]>,
) -> (Vec<Verified>, Result<(), AuditError>) {
    let mut verifier = Verifier::new(key);
    let mut whole = Vec::new();
    for path in paths {
        match verify_file(path, &mut verifier) {
            Ok(verified) => whole.push(verified),
            Err(error) => return (whole, Err(error)),
        }
    }
    (whole, Ok(()))
}

fn verify_file(path: &Path, verifier: &mut Verifier) -> Result<Verified, AuditError> {
    let failed = |error: io::Error| AuditError::Read {
        path: path.to_owned(),
        why: error.to_string(),
    };
    let file = File::open(path).map_err(failed)?;
    let mut reader = BufReader::new(&file);
    let mut line = Vec::new();
    let mut unfinished_bytes = 0;
    while read_line(&mut reader, &mut line).map_err(failed)? {
        if !line.ends_with(b"\n") && line.len() < AUDIT_LINE_BYTES_MAX && is_locked(&file) {
            unfinished_bytes = line.len() as u64;
            break;
        }
        verifier.line(&line).map_err(|why| AuditError::Broken {
            path: path.to_owned(),
            why,
        })?;
    }
    Ok(Verified {
        summary: verifier.end_file(),
        unfinished_bytes,
    })
}

/// Reads one line with its newline, or what there is of it up to the limit; false at the end.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let mut limited = io::Read::take(reader, AUDIT_LINE_BYTES_MAX as u64);
    Ok(limited.read_until(b'\n', line)? > 0)
}

/// True while a process holds the file open for writing.
fn is_locked(file: &File) -> bool {
    let Ok(file) = file.try_clone() else {
        return false;
    };
    // The lock, if it is given, is released at once by dropping it.
    matches!(
        Flock::lock(file, FlockArg::LockSharedNonblock),
        Err((_, Errno::EWOULDBLOCK))
    )
}

/// The end of a file.
struct Tail {
    /// The last line that has a newline, with it.
    last_line: Option<Vec<u8>>,
    /// What follows it.
    unfinished: Vec<u8>,
}

impl Tail {
    /// Reads as much of the end as two lines may take.
    fn read(file: &File, len: u64) -> io::Result<Self> {
        let want = 2 * AUDIT_LINE_BYTES_MAX as u64;
        let from = len.saturating_sub(want);
        let mut bytes = vec![0; usize::try_from(len - from).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, from)?;
        let after = |newline: usize| newline + 1;
        let end = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, after);
        let unfinished = bytes.split_off(end);
        let lines = bytes.len().saturating_sub(1);
        let newline = bytes.iter().take(lines).rposition(|byte| *byte == b'\n');
        let last_line = bytes.split_off(newline.map_or(0, after));
        Ok(Self {
            last_line: Some(last_line).filter(|line| !line.is_empty()),
            unfinished,
        })
    }
}

/// True for the start of a first line, cut off anywhere, and for the zeros that some file systems
/// leave in place of bytes that were not on the disk when the power went.
fn begins_like_a_line(bytes: &[u8]) -> bool {
    let compared = bytes.len().min(LINE_BEGIN.len());
    bytes.len() <= AUDIT_LINE_BYTES_MAX
        && (bytes.get(..compared) == LINE_BEGIN.get(..compared) || bytes.iter().all(|b| *b == 0))
}
