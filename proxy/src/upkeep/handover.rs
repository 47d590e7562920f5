//! Another program in the place of the running one, without refusing anybody.
//!
//! The running process starts the program that is installed now and passes its listening sockets
//! on, as systemd would. The two talk over a pair of sockets, a word a line:
//!
//! ```text
//! successor                                predecessor
//! everything but the audit file is ready
//!                            prepared ▸
//!                                          goes on in an audit file of its own
//!                            ◂ go
//! goes on in the audit file, accepts
//!                            serving ▸
//!                                          accepts no more, ends with its last session
//! ```
//!
//! Until `serving` the predecessor accepts, and whatever fails leaves it in its place.
//! After that the successor passes cancel requests on that are none of its own sessions, and has
//! the predecessor read the configuration again whenever it has done so itself: the sessions of
//! both are under the same rules.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use command_fds::{CommandFdExt as _, FdMapping};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

use super::candidate::Candidate;
use super::{Parts, Upkeep, put_on_record};
use crate::cancel::cancel_here;
use crate::gate::Gate;
use crate::limits::{
    CANCEL_LINE_BYTES_MAX, HANDOVER_LINE_BYTES_MAX, HANDOVER_TIMEOUT, SUCCESSOR_RETRY,
    SUCCESSOR_STARTS_MAX,
};
use crate::listener::inherited::{CLIENT, CLUSTER, CONTROL, HANDOVER, METRICS};
use crate::operators::Operator;
use crate::session::CancelKey;

const PREPARED: &str = "prepared";
const GO: &str = "go";
const SERVING: &str = "serving";
const CANCEL: &str = "cancel";
const RELOAD: &str = "reload";

/// The first descriptor that is passed on (`SD_LISTEN_FDS_START`).
const FIRST_DESCRIPTOR: i32 = 3;

/// The process that this one takes over from.
#[derive(Debug)]
pub(crate) struct Predecessor(BufReader<UnixStream>);

impl Predecessor {
    /// At the other end of this socket.
    ///
    /// # Errors
    ///
    /// The socket cannot be set up.
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(HANDOVER_TIMEOUT))?;
        stream.set_write_timeout(Some(HANDOVER_TIMEOUT))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Everything but the audit file is ready: asks for that, and returns when it is free.
    ///
    /// # Errors
    ///
    /// The predecessor has given up.
    pub(crate) fn ask_for_audit_file(&mut self) -> io::Result<()> {
        self.say(PREPARED)?;
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        match line.trim_end() {
            GO => Ok(()),
            _ => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    /// This process accepts.
    ///
    /// # Errors
    ///
    /// The socket cannot be set up.
    pub(crate) fn take_its_place(mut self) -> io::Result<ProcessBefore> {
        if let Err(error) = self.say(SERVING) {
            // Whoever gives up on its successor ends it, so it has ended itself.
            tracing::warn!(%error, "the process before has ended, with its sessions");
        }
        let stream = self.0.into_inner();
        stream.set_nonblocking(true)?;
        Ok(ProcessBefore::new(stream))
    }

    fn say(&mut self, word: &str) -> io::Result<()> {
        self.0.get_mut().write_all(format!("{word}\n").as_bytes())
    }
}

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
    fn new(stream: UnixStream) -> Self {
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
async fn follow(gate: Arc<Gate>, stream: tokio::io::BufReader<tokio::net::UnixStream>) {
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

/// A process that is to take over.
pub(super) struct Handover {
    child: Candidate,
    stream: tokio::io::BufReader<tokio::net::UnixStream>,
    /// This process writes its own audit file already, or may.
    has_own_file: bool,
}

/// This process after another has taken over.
pub(crate) struct Drained {
    /// The process that took over, until its end was seen.
    child: Option<Child>,
    /// When the sessions that are left are ended.
    pub(crate) until: Instant,
    /// How many processes may be started in the place of those that die.
    starts_left: u32,
}

/// What has become of the process that took over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Successor {
    /// It runs, as far as is known.
    Runs,
    /// It has ended in order: it was told to, or another one has taken over from it.
    Ended,
    /// It has died, and nobody accepts; another one is to be started.
    Died,
}

impl Drained {
    /// Looks whether the other process is still there; says its end, and tells it, once.
    pub(crate) fn look_after_successor(&mut self) -> Successor {
        let status = self
            .child
            .as_mut()
            .and_then(|it| it.try_wait().ok())
            .flatten();
        let Some(status) = status else {
            return Successor::Runs;
        };
        self.child = None;
        if status.success() {
            tracing::warn!("the process that took over has ended in order");
            return Successor::Ended;
        }
        tracing::error!(%status, "the process that took over has died, and nobody accepts");
        Successor::Died
    }

    /// Starts another process in the place of one that died, with the sockets that this one has
    /// kept; returns whether one serves.
    pub(crate) async fn start_another(&mut self, parts: &Parts) -> bool {
        let by = Operator::of_process("the process before the one that died", "hand-over");
        while self.starts_left > 0 {
            self.starts_left -= 1;
            match Handover::begin(parts, &by).await {
                Ok((_, another)) => {
                    self.child = another.child;
                    return true;
                }
                Err(why) => tracing::error!(why, "another process did not take over either"),
            }
            sleep(SUCCESSOR_RETRY).await;
        }
        tracing::error!(
            "no process accepts any more, and none is started again: restart the service"
        );
        false
    }
}

impl Handover {
    /// Starts the program that is installed now, and hands over to it.
    ///
    /// # Errors
    ///
    /// Why it did not take over; this process goes on as before.
    pub(super) async fn begin(
        parts: &Parts,
        by: &Operator,
    ) -> Result<(Vec<String>, Drained), String> {
        let gate = parts.control.gate();
        let program = parts.program.display().to_string();
        put_on_record(&gate, ("upgrade", by), &format!("to {program}")).await?;
        let started = Self::start(parts).await;
        let mut handover = started.map_err(|error| format!("{program}: {error}"))?;
        let taken = timeout(HANDOVER_TIMEOUT, handover.converse(&gate)).await;
        let taken = taken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if let Err(error) = taken {
            handover.take_back(&gate).await;
            return Err(format!(
                "{program} did not take over, and this process goes on: {error}; its own messages \
                 are in the log"
            ));
        }
        let pid = handover.child.pid;
        parts.supervisor.hand_over(pid).await;
        gate.has_say.store(false, Ordering::Release);
        gate.handed_over.send_replace(true);
        let (own, left) = (std::process::id(), gate.sessions.count());
        let patience = gate.config.limits.drain_timeout;
        tracing::info!(
            pid,
            sessions = left,
            "another process serves now; this one drains"
        );
        let line = format!(
            "process {pid} serves now; process {own} keeps {left} sessions for at most {} s",
            patience.as_secs()
        );
        drop(tokio::spawn(follow(gate.clone(), handover.stream)));
        let drained = Drained {
            child: handover.child.into_child(),
            until: Instant::now() + patience,
            starts_left: SUCCESSOR_STARTS_MAX,
        };
        Ok((vec![line], drained))
    }

    async fn start(parts: &Parts) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut passed: Vec<(&str, OwnedFd)> = Vec::new();
        for socket in &parts.listeners {
            passed.push((CLIENT, socket.again()?.into_descriptor()));
        }
        if let Some(socket) = &parts.metrics {
            passed.push((METRICS, socket.try_clone()?.into()));
        }
        if let Some(socket) = &parts.cluster {
            passed.push((CLUSTER, socket.try_clone()?.into()));
        }
        if let Some(socket) = &parts.socket {
            passed.push((CONTROL, socket.try_clone()?.into()));
        }
        passed.push((HANDOVER, theirs.into()));
        let names: Vec<&str> = passed.iter().map(|(name, _)| *name).collect();
        let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
        let mut command = Command::new(&parts.program);
        command
            .args(arguments)
            .env("LISTEN_FDS", passed.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            // They are about this process.
            .env_remove("LISTEN_PID")
            .env_remove("WATCHDOG_PID");
        let mappings = (FIRST_DESCRIPTOR..).zip(passed);
        let mappings = mappings.map(|(child_fd, (_, parent_fd))| FdMapping {
            parent_fd,
            child_fd,
        });
        let mapped = command.fd_mappings(mappings.collect());
        mapped.map_err(|error| io::Error::other(error.to_string()))?;
        let child = Candidate::start(command).await?;
        ours.set_nonblocking(true)?;
        let stream = tokio::net::UnixStream::from_std(ours)?;
        Ok(Self {
            child,
            stream: tokio::io::BufReader::new(stream),
            has_own_file: false,
        })
    }

    /// The predecessor's half of the conversation.
    async fn converse(&mut self, gate: &Gate) -> io::Result<()> {
        self.hear(PREPARED).await?;
        // It may be given up in between.
        self.has_own_file = true;
        let moved = gate.audit.go_on_in(&own_file(gate)).await;
        moved.map_err(|error| io::Error::other(error.to_string()))?;
        let go = format!("{GO}\n");
        self.stream.get_mut().write_all(go.as_bytes()).await?;
        self.hear(SERVING).await
    }

    async fn hear(&mut self, word: &str) -> io::Result<()> {
        let mut line = String::new();
        let mut limited = (&mut self.stream).take(HANDOVER_LINE_BYTES_MAX);
        limited.read_line(&mut line).await?;
        match line.trim_end() {
            heard if heard == word => Ok(()),
            "" => Err(io::Error::other("it has ended")),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// The other process must be gone before its audit file is taken back.
    async fn take_back(&mut self, gate: &Gate) {
        if !self.child.end().await {
            tracing::error!("the other process does not end, and may have the audit file");
            return;
        }
        if !self.has_own_file || gate.has_handed_over() {
            // Where one has died that had taken over, the next one may take the file at once.
            return;
        }
        if let Err(error) = gate.audit.go_on_in(gate.audit.path()).await {
            // Its own file is as good a record.
            tracing::error!(%error, "the audit file could not be taken back");
        }
    }
}

/// Where a process that drains puts its last records: one file has one writer, because each line
/// is sealed with the one before.
fn own_file(gate: &Gate) -> PathBuf {
    let mut name = gate.audit.path().as_os_str().to_owned();
    name.push(format!(".draining-{}", std::process::id()));
    PathBuf::from(name)
}

/// Whether nothing is left that a process that drains waits for.
pub(crate) fn is_drained(gate: &Gate, threads_ended: bool, until: Instant) -> bool {
    // Whoever has just lost their sessions may be losing their role still.
    let is_idle = threads_ended && gate.sessions.count() == 0 && gate.orders.unsettled() == 0;
    is_idle || Instant::now() >= until
}

#[cfg(test)]
mod tests {
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
