//! What two processes say to each other after one has taken over from the other: a line each, on
//! the socket over which they have handed over.
//!
//! The successor passes cancel requests on that are none of its own sessions, and has the
//! predecessor read the configuration again whenever it has done so itself.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _};

use super::Upkeep;
use crate::cancel::cancel_here;
use crate::gate::Gate;
use crate::limits::CANCEL_LINE_BYTES_MAX;
use crate::operators::Operator;
use crate::session::CancelKey;

const CANCEL: &str = "cancel";
const RELOAD: &str = "reload";

/// The process that this one has taken over from, while it drains.
///
/// Nobody here waits for it. A line is shorter than what a socket takes at once, so that it takes
/// the whole of it or nothing.
#[derive(Debug)]
pub(crate) struct ProcessBefore {
    stream: UnixStream,
    /// There was no room to tell it of a reload.
    owes_reload: AtomicBool,
}

impl ProcessBefore {
    /// At the other end of this socket, which does not block.
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            owes_reload: AtomicBool::new(false),
        }
    }

    /// Passes a cancel request on. It is lost when the process has ended or does not read: nobody
    /// is told what becomes of one.
    pub(crate) fn pass_on(&self, asked: &CancelKey) {
        if self.owes_reload() {
            // Anybody can send many, and what room there is is for the reload.
            tracing::debug!("a cancel request was not passed on before a reload");
            return;
        }
        let key: String = asked.key.iter().map(|byte| format!("{byte:02x}")).collect();
        if let Err(error) = self.say(&format!("{CANCEL} {} {key}\n", asked.pid)) {
            tracing::debug!(%error, "a cancel request was not passed on to the process before");
        }
    }

    /// Has the process read the configuration again, which this one has just done: it would go on
    /// by the rules of before.
    pub(crate) fn have_reloaded(&self) {
        self.owes_reload.store(true, Ordering::Release);
        self.tell_what_is_owed();
    }

    /// Whether it has still to be told of a reload.
    pub(crate) fn owes_reload(&self) -> bool {
        self.owes_reload.load(Ordering::Acquire)
    }

    /// Tells it of a reload, if there is room now.
    pub(crate) fn tell_what_is_owed(&self) {
        if !self.owes_reload() {
            return;
        }
        match self.say(&format!("{RELOAD}\n")) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                tracing::error!(%error, "the process before goes on with the rules of before");
            }
            // It has ended, with its sessions.
            Err(_) | Ok(()) => {}
        }
        self.owes_reload.store(false, Ordering::Release);
    }

    fn say(&self, line: &str) -> io::Result<()> {
        (&self.stream).write_all(line.as_bytes())
    }
}

/// The predecessor's half of that, until the other process ends.
pub(super) async fn follow(gate: Arc<Gate>, stream: tokio::io::BufReader<tokio::net::UnixStream>) {
    if let Err(error) = take_words(&gate, stream).await {
        tracing::warn!(%error, "the process that took over is not followed any more");
    }
    // From now on nobody says which rules count.
    gate.has_say.store(false, Ordering::Release);
}

async fn take_words(
    gate: &Arc<Gate>,
    mut stream: tokio::io::BufReader<tokio::net::UnixStream>,
) -> io::Result<()> {
    loop {
        let mut line = String::new();
        let mut limited = (&mut stream).take(CANCEL_LINE_BYTES_MAX);
        if limited.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        if line.trim_end() == RELOAD {
            let upkeep = gate.upkeep.clone();
            let by = Operator::of_process("the process that took over", "hand-over");
            // What came of it is in the log.
            drop(tokio::spawn(async move {
                drop(upkeep.order(Upkeep::Follow, by).await);
            }));
        } else if let Some(asked) = cancel_key(&line) {
            let gate = gate.clone();
            // Nobody is told what becomes of it.
            drop(tokio::spawn(
                async move { cancel_here(&gate, &asked).await },
            ));
        }
    }
}

fn cancel_key(line: &str) -> Option<CancelKey> {
    let mut words = line.split_ascii_whitespace();
    let (word, pid, key) = (words.next()?, words.next()?, words.next()?);
    let bytes = key.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    });
    let key = bytes.collect::<Option<Vec<u8>>>()?;
    let pid = pid.parse().ok()?;
    (word == CANCEL).then_some(CancelKey { pid, key })
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};

    use super::*;

    #[test]
    fn a_cancel_request_arrives_as_it_was_passed_on() -> io::Result<()> {
        let (ours, theirs) = UnixStream::pair()?;
        let asked = CancelKey {
            pid: 42,
            key: (0..=255).collect(),
        };
        ProcessBefore::new(ours).pass_on(&asked);
        let mut line = String::new();
        BufReader::new(theirs).read_line(&mut line)?;
        assert!(line.len() as u64 <= CANCEL_LINE_BYTES_MAX);
        assert_eq!(cancel_key(&line), Some(asked));
        for wrong in [
            "",
            "cancel",
            "cancel 42",
            "cancel x 00",
            "cancel 42 0g",
            "end 42 00",
        ] {
            assert_eq!(cancel_key(wrong), None, "{wrong}");
        }
        Ok(())
    }

    #[test]
    fn a_reload_is_told_although_cancel_requests_have_left_no_room() -> io::Result<()> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let before = ProcessBefore::new(ours.try_clone()?);
        let asked = CancelKey {
            pid: 42,
            key: vec![7; 256],
        };
        let line = |it: &CancelKey| format!("{CANCEL} {} {}\n", it.pid, "07".repeat(256));
        while (&ours).write_all(line(&asked).as_bytes()).is_ok() {}
        before.have_reloaded();
        assert!(before.owes_reload());
        let mut lines = BufReader::new(theirs).lines();
        let mut read = || lines.next().unwrap_or_else(|| Ok(String::new()));
        // There is room again, and it is not for more of them.
        while (&ours).write_all(b"\n").is_err() {
            assert!(read()?.starts_with(CANCEL));
        }
        before.pass_on(&CancelKey { pid: 43, ..asked });
        before.tell_what_is_owed();
        assert!(!before.owes_reload());
        loop {
            let line = read()?;
            match line.as_str() {
                RELOAD => return Ok(()),
                line => assert!(line.is_empty() || line.starts_with("cancel 42 "), "{line}"),
            }
        }
    }
}
