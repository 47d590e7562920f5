//! What a service manager gives to the process and hears from it.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;

use anyhow::{Result, bail, ensure};
use command_fds::{CommandFdExt as _, FdMapping};
use nix::unistd::Pid;
use postern_tests::cast::{HR_DATABASE, HR_GROUP};
use postern_tests::raw::PROTOCOL_3_0;
use postern_tests::world::CHANGE_LIMIT;
use postern_tests::{RawClient, Successor, World, wait_until};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::reload::reload;
use crate::upgrade::replaced;

/// The unit that is shipped.
const UNIT: &str = include_str!("../../../appliance/root/usr/lib/systemd/system/postern.service");

/// The watchdog's time: a busy machine stalls for seconds.
const WATCHDOG_US: u64 = 20_000_000;

/// Starts the Postern that allows plaintext with a socket that is open already.
pub(crate) fn start_with_socket(world: &World, socket: &TcpListener, name: &str) -> Result<()> {
    start_with_sockets(world, vec![(name, socket.try_clone()?.into())])
}

fn start_with_sockets(world: &World, sockets: Vec<(&str, OwnedFd)>) -> Result<()> {
    let names: Vec<&str> = sockets.iter().map(|(name, _)| *name).collect();
    world.plain.start_with(|command| {
        command
            .env("LISTEN_FDS", names.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"));
        let mappings = (3..).zip(sockets);
        let mappings = mappings.map(|(child_fd, (_, parent_fd))| FdMapping {
            parent_fd,
            child_fd,
        });
        command.fd_mappings(mappings.collect())?;
        Ok(())
    })
}

pub(crate) fn sockets_that_cannot_be_meant_are_refused_by_name(world: &World) -> Result<()> {
    let socket = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map(OwnedFd::from);
    // A connection, as Accept=yes would pass it on.
    let (connection, _other_end) = UnixStream::pair()?;
    world.plain.stop()?;
    for (sockets, why) in [
        (
            vec![("metrics", socket()?), ("metrics", socket()?)],
            "two sockets were passed on as \"metrics\"",
        ),
        (
            vec![("control", connection.into())],
            "the socket unit needs Accept=no",
        ),
    ] {
        let started = start_with_sockets(world, sockets);
        let log = world.plain.log()?;
        if started.is_ok() {
            world.plain.stop()?;
        }
        ensure!(started.is_err() && log.contains(why), "{why}: {log}");
    }
    world.plain.start_again()
}

pub(crate) fn who_connects_while_no_process_runs_is_served_by_the_next(
    world: &World,
) -> Result<()> {
    let person = world.person("patient", &[HR_GROUP])?;
    world.plain.stop()?;
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, world.plain.port()))?;
    for _ in 0..3 {
        start_with_socket(world, &socket, "client")?;
        drop(world.raw(&person)?);
        world.plain.stop()?;
        let mut waiting = RawClient::connect(world.plain.port())?;
        let parameters = [("user", person.login.as_str()), ("database", HR_DATABASE)];
        waiting.startup(PROTOCOL_3_0, &parameters)?;
        start_with_socket(world, &socket, "client")?;
        ensure!(waiting.read()?.tag == b'R', "nobody asks for the password");
        waiting.password(person.password.as_bytes())?;
        waiting.read_until_ready()?;
        ensure!(waiting.query("select 1")? == "1");
        world.plain.stop()?;
    }
    drop(socket);
    world.plain.start_again()
}

pub(crate) fn a_socket_that_nobody_can_place_is_refused_by_name(world: &World) -> Result<()> {
    world.plain.stop()?;
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let started = start_with_socket(world, &socket, "postern.socket");
    let log = world.plain.log()?;
    world.plain.start_again()?;
    ensure!(started.is_err(), "it started");
    ensure!(log.contains("FileDescriptorName="), "{log}");
    Ok(())
}

/// A service manager that hears whom systemd would hear by the unit that is shipped.
struct Manager {
    socket: UnixDatagram,
    /// `NotifyAccess=all`; else only the main process is heard.
    hears_all: bool,
    main: Option<Pid>,
    /// Who said what, a word a line, since it was last forgotten.
    heard: Vec<(Pid, String)>,
}

impl Manager {
    fn new(path: &Path) -> Result<Self> {
        let socket = UnixDatagram::bind(path)?;
        socket.set_nonblocking(true)?;
        // So that the kernel says who speaks.
        set_socket_passcred(&socket, true)?;
        Ok(Self {
            socket,
            hears_all: UNIT.lines().any(|it| it == "NotifyAccess=all"),
            main: None,
            heard: Vec::new(),
        })
    }

    /// Takes everything that has been said.
    fn listen(&mut self) -> Result<()> {
        let mut buffer = [0; 1_024];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        loop {
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut slices = [IoSliceMut::new(&mut buffer)];
            let flags = RecvFlags::empty();
            let received = match recvmsg(&self.socket, &mut slices, &mut control, flags) {
                Ok(received) => received.bytes,
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let Some(RecvAncillaryMessage::ScmCredentials(who)) = control.drain().next() else {
                bail!("the kernel does not say who speaks");
            };
            let who = Pid::from_raw(who.pid.as_raw_nonzero().get());
            let text = String::from_utf8_lossy(&buffer[..received]).into_owned();
            self.hear(who, &text);
        }
    }

    fn hear(&mut self, who: Pid, text: &str) {
        let main = *self.main.get_or_insert(who);
        if !self.hears_all && who != main {
            return;
        }
        for word in text.lines() {
            let main = word.strip_prefix("MAINPID=").and_then(|it| it.parse().ok());
            self.main = main.map(Pid::from_raw).or(self.main);
            self.heard.push((who, word.to_owned()));
        }
    }

    fn hears(&mut self, text: &str) -> Result<()> {
        wait_until(text, CHANGE_LIMIT, || {
            self.listen()?;
            let mut words = self.heard.iter();
            Ok(words.any(|(_, word)| word.starts_with(text)))
        })
    }

    /// As [`Manager::hears`], from this process.
    fn hears_from(&mut self, who: Pid, text: &str) -> Result<()> {
        wait_until(text, CHANGE_LIMIT, || {
            self.listen()?;
            Ok(self.of(who).any(|word| word.starts_with(text)))
        })
    }

    fn of(&self, who: Pid) -> impl Iterator<Item = &str> {
        let theirs = self.heard.iter().filter(move |(it, _)| *it == who);
        theirs.map(|(_, word)| word.as_str())
    }

    fn forget(&mut self) {
        self.heard.clear();
    }
}

/// Runs a claim with a Postern that has a service manager.
fn managed(world: &World, claim: impl FnOnce(&mut Manager) -> Result<()>) -> Result<()> {
    let path = world.scratch.path().join("notify.sock");
    // Left over from a claim before, if at all.
    drop(std::fs::remove_file(&path));
    let mut manager = Manager::new(&path)?;
    world.plain.stop()?;
    world.plain.start_with(|command| {
        command
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", WATCHDOG_US.to_string());
        Ok(())
    })?;
    let outcome = claim(&mut manager);
    // Unless the claim has ended it.
    if world.plain.pid().is_ok() {
        world.plain.stop()?;
    }
    world.plain.start_again()?;
    outcome
}

pub(crate) fn a_service_manager_hears_of_every_state(world: &World) -> Result<()> {
    managed(world, |manager| {
        manager.hears("READY=1")?;
        manager.hears("WATCHDOG=1")?;
        manager.forget();
        reload(&world.plain)?;
        manager.hears("RELOADING=1")?;
        manager.hears("MONOTONIC_USEC=")?;
        manager.hears("READY=1")?;
        manager.hears("STATUS=The configuration was reloaded")?;
        world.plain.stop()?;
        manager.hears("STOPPING=1")
    })
}

pub(crate) fn only_the_process_that_serves_speaks_to_a_service_manager(
    world: &World,
) -> Result<()> {
    let person = world.person("overheard", &[HR_GROUP])?;
    managed(world, |manager| {
        let first = Pid::from_raw(i32::try_from(world.plain.pid()?)?);
        let session = world.raw(&person)?;
        manager.hears_from(first, "READY=1")?;
        let dying = Successor::upgrade(&world.plain)?;
        manager.hears_from(first, &format!("MAINPID={}", dying.0))?;
        manager.forget();
        // Whatever becomes of the main process, the next one has to be heard.
        let next = replaced(&dying, world.plain.pid()?)?;
        let outcome = (|| {
            manager.hears_from(first, &format!("MAINPID={}", next.0))?;
            manager.hears_from(next.0, "READY=1")?;
            manager.hears_from(next.0, "WATCHDOG=1")?;
            reload(&world.plain)?;
            manager.hears_from(next.0, "RELOADING=1")?;
            drop(session);
            wait_until("the first process ends", CHANGE_LIMIT, || {
                Ok(!world.plain.is_running()?)
            })?;
            manager.listen()?;
            let said: Vec<&str> = manager.of(first).collect();
            ensure!(said == [format!("MAINPID={}", next.0)], "{said:?}");
            Ok(())
        })();
        next.end()?;
        outcome?;
        manager.hears_from(next.0, "STOPPING=1")
    })
}
