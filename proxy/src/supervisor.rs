//! What the service manager is told: sd_notify(3),
//! <https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html>.
//!
//! A datagram with a line for each thing, to the socket that `$NOTIFY_SOCKET` names; nothing where
//! there is none.
//! Only the process that serves speaks: of several with one socket, another one's last word would
//! be taken for the service's.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
#[cfg(test)]
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use tokio::time::sleep;

use crate::limits::{STOP_POLL, TELL_TIMEOUT};

/// The service manager, if there is one.
#[derive(Debug)]
pub(crate) struct Supervisor {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
    /// This process is the service's main one.
    is_main: AtomicBool,
}

/// What it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tell<'a> {
    /// The start, or a reload, is done.
    Ready,
    /// A reload has begun; it ends with [`Tell::Ready`].
    Reloading,
    /// The process is ending.
    Stopping,
    /// Every worker has answered.
    Alive,
    /// Another process is the service's main one from now on.
    MainPid(u32),
    /// One line for people.
    Status(&'a str),
}

impl Supervisor {
    /// The one that the environment names. It is told nothing before [`Supervisor::take_over`].
    pub(crate) fn from_env() -> Self {
        let named = std::env::var_os("NOTIFY_SOCKET");
        let opened = named.as_deref().map(open).transpose();
        let socket = opened.unwrap_or_else(|error| {
            tracing::warn!(%error, "the service manager cannot be told anything");
            None
        });
        let variable = |name| std::env::var(name).ok();
        let is_ours =
            variable("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let limit_us = variable("WATCHDOG_USEC").and_then(|it| watchdog_us(&it));
        Self {
            socket,
            watchdog: limit_us.filter(|_| is_ours).map(Duration::from_micros),
            is_main: AtomicBool::new(false),
        }
    }

    /// The one at this path. It is told nothing before [`Supervisor::take_over`].
    #[cfg(test)]
    pub(crate) fn at(path: &Path, watchdog: Option<Duration>) -> io::Result<Self> {
        Ok(Self {
            socket: Some(open(path.as_os_str())?),
            watchdog,
            is_main: AtomicBool::new(false),
        })
    }

    /// How long it waits for a sign of life before it ends the process, if it does.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// This process serves, and speaks from now on.
    pub(crate) fn take_over(&self) {
        self.is_main.store(true, Ordering::Release);
    }

    /// Another process serves, and speaks from now on; this one's end is not the service's.
    pub(crate) async fn hand_over(&self, pid: u32) {
        self.is_main.store(false, Ordering::Release);
        self.tell_surely(&[Tell::MainPid(pid)]).await;
    }

    /// Tells it these things together, if this process is the one that speaks. It may have gone;
    /// that is no reason to stop serving.
    pub(crate) fn tell(&self, things: &[Tell<'_>]) {
        if !self.is_main.load(Ordering::Acquire) {
            return;
        }
        if let Err(error) = self.send(things) {
            tracing::debug!(%error, "the service manager was not told");
        }
    }

    /// Tells what must not be lost: a manager that has many datagrams waiting is tried again for a
    /// while.
    async fn tell_surely(&self, things: &[Tell<'_>]) {
        let deadline = Instant::now() + TELL_TIMEOUT;
        while let Err(error) = self.send(things) {
            if Instant::now() >= deadline {
                tracing::error!(%error, ?things, "the service manager was not told");
                return;
            }
            sleep(STOP_POLL).await;
        }
    }

    fn send(&self, things: &[Tell<'_>]) -> io::Result<()> {
        let Some(socket) = &self.socket else {
            return Ok(());
        };
        let mut text = String::new();
        for thing in things {
            text.push_str(&line(*thing));
            text.push('\n');
        }
        socket.send(text.as_bytes()).map(drop)
    }
}

/// A limit of 0 is none, as for sd_watchdog_enabled(3).
fn watchdog_us(text: &str) -> Option<u64> {
    text.parse().ok().filter(|it| *it > 0)
}

/// A name that starts with `@` is in the abstract namespace, unix(7).
fn open(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // A manager that does not read must not hold the control thread up.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn line(thing: Tell<'_>) -> String {
    match thing {
        Tell::Ready => "READY=1".to_owned(),
        Tell::Reloading => {
            // The manager tells by it which READY=1 ends this reload. The clock is always there.
            let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Into::into);
            format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros())
        }
        Tell::Stopping => "STOPPING=1".to_owned(),
        Tell::Alive => "WATCHDOG=1".to_owned(),
        Tell::MainPid(pid) => format!("MAINPID={pid}"),
        Tell::Status(text) => format!("STATUS={}", text.replace('\n', " ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(receiver: &UnixDatagram) -> io::Result<String> {
        let mut buffer = [0; 512];
        let length = receiver.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned())
    }

    #[test]
    fn sockets_are_found_by_path_and_by_abstract_name() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path)?;
        let name = format!("postern-test-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name)?;
        let by_name = UnixDatagram::bind_addr(&abstract_address)?;
        let name = format!("@{name}");
        for (name, receiver) in [(path.as_os_str(), by_path), (OsStr::new(&name), by_name)] {
            let supervisor = Supervisor::at(Path::new(name), None)?;
            supervisor.take_over();
            supervisor.tell(&[Tell::Ready, Tell::Status("two\nlines"), Tell::MainPid(7)]);
            assert_eq!(told(&receiver)?, "READY=1\nSTATUS=two lines\nMAINPID=7\n");
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_process_speaks_from_when_it_serves_until_it_has_handed_over() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("notify");
        let receiver = UnixDatagram::bind(&path)?;
        receiver.set_nonblocking(true)?;
        let supervisor = Supervisor::at(&path, None)?;
        supervisor.tell(&[Tell::Stopping]);
        supervisor.take_over();
        supervisor.tell(&[Tell::Ready]);
        assert_eq!(told(&receiver)?, "READY=1\n");
        supervisor.hand_over(7).await;
        assert_eq!(told(&receiver)?, "MAINPID=7\n");
        supervisor.tell(&[Tell::Stopping]);
        assert!(told(&receiver).is_err(), "it speaks for another one");
        Ok(())
    }

    #[test]
    fn a_watchdog_of_no_time_is_none() {
        for (text, limit_us) in [("30000000", Some(30_000_000)), ("0", None), ("soon", None)] {
            assert_eq!(watchdog_us(text), limit_us, "{text}");
        }
    }

    #[test]
    fn a_reload_carries_the_time_of_its_begin() {
        let text = line(Tell::Reloading);
        let time = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        let time = time.and_then(|it| it.parse::<u64>().ok());
        assert!(time.is_some_and(|it| it > 0), "{text}");
    }
}
