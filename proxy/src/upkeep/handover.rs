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
//! What they say after that is in `following`: the sessions of both are under the same rules.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::Ordering;
use std::time::Instant;

use command_fds::{CommandFdExt as _, FdMapping};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

use super::candidate::Candidate;
use super::following::{ProcessBefore, follow};
use super::{Parts, put_end_on_record, put_on_record};
use crate::gate::Gate;
use crate::limits::{
    HANDOVER_LINE_BYTES_MAX, HANDOVER_TIMEOUT, SUCCESSOR_RETRY, SUCCESSOR_STARTS_MAX,
};
use crate::listener::inherited::{CLIENT, CLUSTER, CONTROL, HANDOVER, METRICS};
use crate::operators::Operator;

const PREPARED: &str = "prepared";
const GO: &str = "go";
const SERVING: &str = "serving";

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
            let begun = Handover::begin(parts, &by).await;
            let (answer, another) = match begun {
                Ok((lines, another)) => (Ok(lines), Some(another)),
                Err(why) => {
                    tracing::error!(why, "another process did not take over either");
                    (Err(why), None)
                }
            };
            put_end_on_record(&parts.control.gate(), ("upgrade", &by), &answer).await;
            if let Some(another) = another {
                self.child = another.child;
                return true;
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
        gate.has_say.store(false, Ordering::Release);
        gate.handed_over.send_replace(true);
        parts.supervisor.hand_over(pid).await;
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
