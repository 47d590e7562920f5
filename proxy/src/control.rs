//! The control socket: questions of an operator on the same machine to the running process.
//!
//! A unix socket, one JSON object a line each way.
//! Only root and the process's own user are answered (SO_PEERCRED, unix(7)).

mod sessions;

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener as Listener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use postern_core::console::Shown;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::admin;
use crate::durations::Summary;
use crate::gate::{CurrentPlane, Gate};
use crate::limits::{AUDIT_WAIT, COMMAND_TIMEOUT, CONTROL_ASKERS_MAX, CONTROL_LINE_BYTES_MAX};
use crate::operators::Operator;
use crate::revocation::Command;
use crate::upkeep::{Upkeep, change_levels};
pub(crate) use sessions::{SessionAnswer, byte_count, live as live_sessions, table};

/// How long a question may take to be asked, and its answer to be read.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(5);

/// A question.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Question {
    /// What the credential cache holds for a login.
    Cache {
        /// The login name as it is typed.
        login: String,
    },
    /// What has happened since the start.
    Counts,
    /// Whether the process and what it rests on are well.
    Health,
    /// The live sessions.
    Sessions,
    /// Another configuration or program for the running process.
    Upkeep {
        /// Which.
        what: Upkeep,
    },
    /// Change what the log has.
    LogLevels {
        /// `TARGET=LEVEL`; none for those of the start.
        directives: Vec<String>,
    },
    /// A table of the admin console.
    Show {
        /// Which.
        what: Shown,
    },
    /// An operator's command.
    Command {
        /// Which.
        command: Command,
    },
}

/// The answer to [`Question::Cache`]; absent when nothing is remembered.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CacheAnswer {
    /// Seconds since the bind that accepted the password.
    pub(crate) bound_s: u64,
    /// Seconds since the directory was last asked.
    pub(crate) checked_s: u64,
    /// True when the next login is answered without the directory.
    pub(crate) fresh: bool,
}

/// The answer to [`Question::Counts`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CountsAnswer {
    /// Connections accepted.
    pub(crate) connections: u64,
    /// Sessions opened.
    pub(crate) opened: u64,
    /// Sessions live now.
    pub(crate) live: usize,
    /// Logins refused.
    pub(crate) refused: u64,
    /// Conversations with the directory.
    pub(crate) directory_calls: u64,
    /// Calls of the role store.
    pub(crate) role_store_calls: u64,
    /// True when the audit file can be written.
    pub(crate) audit_is_written: bool,
    /// People whose password is remembered.
    pub(crate) remembered: usize,
    /// How long it took until lost access had gone.
    pub(crate) revocations: Summary,
}

/// The socket file of this process. It is removed when this is dropped, unless another process has
/// put its own there.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

/// Opens the socket. A socket file that nobody answers on is left over from a killed process and
/// is replaced; any other file was put into the configuration by mistake and is left alone.
///
/// # Errors
///
/// Another process answers on it, the path is of another kind of file, or it cannot be created.
pub(crate) fn listen(path: &Path) -> io::Result<(Listener, SocketFile)> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => remove_left_over(path)?,
        Ok(_) => {
            let why = "there is a file that is not a socket, and it is left alone";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = Listener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let bound = std::fs::symlink_metadata(path)?;
    let file = SocketFile {
        path: path.to_owned(),
        identity: (bound.dev(), bound.ino()),
    };
    Ok((listener, file))
}

fn remove_left_over(path: &Path) -> io::Result<()> {
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process answers on it",
        )),
        // Nobody listens on it any more.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Err(error) => Err(error),
    }
}

impl SocketFile {
    /// Leaves the file to another process, which answers on it.
    pub(crate) fn leave(mut self) {
        self.identity = (0, 0);
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let Ok(found) = std::fs::symlink_metadata(&self.path) else {
            // It has gone already.
            return;
        };
        let own = (found.dev(), found.ino()) == self.identity;
        if own && found.file_type().is_socket() {
            // The next start replaces it anyway.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

/// Answers questions for as long as the process runs, [`CONTROL_ASKERS_MAX`] at a time.
pub(crate) async fn serve(current: Arc<CurrentPlane>, listener: UnixListener) {
    let places = Arc::new(Semaphore::new(CONTROL_ASKERS_MAX));
    loop {
        // It is never closed.
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(crate::limits::ACCEPT_PAUSE).await;
            continue;
        };
        let gate = current.gate();
        drop(tokio::spawn(async move {
            match timeout(COMMAND_TIMEOUT, answer(&gate, stream)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "a question on the control socket failed"),
                Err(_) => tracing::warn!("a question on the control socket took too long"),
            }
            drop(place);
        }));
    }
}

async fn answer(gate: &Gate, stream: UnixStream) -> io::Result<()> {
    let asker = stream.peer_cred()?.uid();
    let own = nix::unistd::geteuid().as_raw();
    if asker != 0 && asker != own {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("asked by uid {asker}"),
        ));
    }
    let mut line = String::new();
    let limit = CONTROL_LINE_BYTES_MAX as u64;
    let mut reader = BufReader::new(stream.take(limit));
    let asked = timeout(EXCHANGE_TIMEOUT, reader.read_line(&mut line)).await;
    asked.map_err(io::Error::from)??;
    let mut answer = match serde_json::from_str(&line)? {
        Question::Cache { login } => serde_json::to_string(&cache(gate, &login))?,
        Question::Counts => serde_json::to_string(&counts(gate))?,
        Question::Health => serde_json::to_string(&gate.health.seen())?,
        Question::Sessions => serde_json::to_string(&sessions::live(gate).await)?,
        Question::Upkeep { what } => {
            let answer = gate.upkeep.order(what, operator(asker)).await;
            serde_json::to_string(&answer)?
        }
        Question::LogLevels { directives } => {
            let answer = change_levels(gate, &directives, &operator(asker)).await;
            serde_json::to_string(&answer)?
        }
        Question::Show { what } => serde_json::to_string(&admin::shown(gate, what).await)?,
        Question::Command { command } => {
            let answer = gate.orders.command(command, operator(asker)).await;
            serde_json::to_string(&answer)?
        }
    };
    answer.push('\n');
    let mut stream = reader.into_inner().into_inner();
    let told = timeout(EXCHANGE_TIMEOUT, stream.write_all(answer.as_bytes())).await;
    told.map_err(io::Error::from)?
}

/// A user of this machine, as records have it. Whoever is answered may order everything.
fn operator(uid: u32) -> Operator {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid));
    let name = user.ok().flatten().map(|user| user.name);
    let name = name.unwrap_or_else(|| format!("uid {uid}"));
    Operator::of_process(name, "control socket")
}

fn cache(gate: &Gate, login: &str) -> Option<CacheAnswer> {
    let state = gate.authenticator.cache_state(login)?;
    Some(CacheAnswer {
        bound_s: state.bound_ago.as_secs(),
        checked_s: state.checked_ago.as_secs(),
        fresh: state.fresh,
    })
}

fn counts(gate: &Gate) -> CountsAnswer {
    let counts = &gate.counts;
    CountsAnswer {
        connections: counts.connections.load(Ordering::Relaxed),
        opened: counts.opened.load(Ordering::Relaxed),
        live: gate.sessions.count(),
        refused: counts.refused.total(),
        directory_calls: gate.authenticator.calls(),
        role_store_calls: gate.synchronizer.calls(),
        audit_is_written: !gate.audit.is_broken() && !gate.audit.has_hung_for(AUDIT_WAIT),
        remembered: gate.authenticator.remembered(),
        revocations: gate.lag.summary(),
    }
}

/// Asks the running process.
///
/// # Errors
///
/// No process answers on the socket, or its answer is not one.
pub(crate) fn ask<A: serde::de::DeserializeOwned>(
    path: &Path,
    question: &Question,
) -> io::Result<A> {
    use std::io::{BufRead as _, Write as _};
    let mut stream = std::os::unix::net::UnixStream::connect(path)?;
    let patience = match question {
        Question::Command { .. } | Question::Upkeep { .. } => COMMAND_TIMEOUT,
        Question::Cache { .. }
        | Question::Counts
        | Question::Health
        | Question::LogLevels { .. }
        | Question::Sessions
        | Question::Show { .. } => EXCHANGE_TIMEOUT,
    };
    stream.set_read_timeout(Some(patience))?;
    let mut line = serde_json::to_string(question)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    io::BufReader::new(stream).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_refused_and_left_alone() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("postern.toml");
        std::fs::write(&path, "precious")?;
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link)?;
        for path in [&path, &link] {
            let refused = listen(path).map(drop).map_err(|error| error.kind());
            assert_eq!(refused, Err(io::ErrorKind::AlreadyExists));
        }
        assert_eq!(std::fs::read_to_string(&link)?, "precious");
        Ok(())
    }

    #[tokio::test]
    async fn a_socket_that_nobody_answers_on_is_replaced_and_removed_at_the_end() -> io::Result<()>
    {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&path)?);
        let (listener, file) = listen(&path)?;
        let again = listen(&path).map(drop).map_err(|error| error.kind());
        assert_eq!(again, Err(io::ErrorKind::AddrInUse));
        drop(listener);
        drop(file);
        assert!(!path.try_exists()?);
        Ok(())
    }

    #[tokio::test]
    async fn the_socket_of_another_process_is_not_removed() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("control.sock");
        let (_listener, file) = listen(&path)?;
        // Moved and not removed, so that the other one cannot get the same inode.
        std::fs::rename(&path, folder.path().join("moved.sock"))?;
        let _other = std::os::unix::net::UnixListener::bind(&path)?;
        drop(file);
        assert!(path.try_exists()?);
        Ok(())
    }
}
